/*
 * One setting at a time: from the environment, or for a secret from the file that NAME_FILE names, which is the better
 * place (the environment of a process is inherited and shown by the system). An empty value counts as not set, because
 * that is how service managers unset one.
 */
#include "fcgi/config_internal.h"

#include "common/arena.h"
#include "common/crypto.h"
#include "common/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (64 * 1024)
#define SECRET_SUFFIX "_CLIENT_SECRET"

void
config_mistake(struct config_reader *reader, const char *name, const char *text)
{
	struct config_mistakes *mistakes = reader->mistakes;
	size_t most = sizeof mistakes->text / sizeof *mistakes->text;
	size_t room = sizeof mistakes->memory - mistakes->used;
	char *at = mistakes->memory + mistakes->used;
	int len;

	if (mistakes->count == most || room < 2)
		return;
	len = snprintf(at, room, "%s: %s", name, text);
	if (len < 0)
		return;
	mistakes->text[mistakes->count++] = at;
	mistakes->used += (size_t)len < room ? (size_t)len + 1 : room;
}

const char *
config_setting(struct config_reader *reader, const char *name)
{
	const char *value = getenv(name);

	if (value == NULL || value[0] == '\0')
		return NULL;
	if (!text_is_utf8(value, strlen(value))) {
		config_mistake(reader, name, "is not valid UTF-8 -> write it anew");
		return NULL;
	}
	return arena_text(reader->config->arena, value);
}

static const char *
read_open_file(struct arena *arena, int fd, size_t size, size_t *len, const char **mistake)
{
	char *text = arena_alloc(arena, size + 1);
	ssize_t got;

	*len = 0;
	while (*len < size && (got = read(fd, text + *len, size - *len)) != 0) {
		if (got < 0) {
			*mistake = arena_format(arena, "cannot be read: %s", strerror(errno));
			return NULL;
		}
		*len += (size_t)got;
	}
	if (memchr(text, '\0', *len) != NULL) {
		*mistake = "is not text: it holds a NUL byte";
		return NULL;
	}
	return text;
}

const char *
config_file(struct arena *arena, const char *path, bool secret, size_t *len, const char **mistake)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	const char *text = NULL;
	struct stat status;

	if (fd < 0) {
		*mistake = arena_format(arena, "cannot be opened: %s", strerror(errno));
		return NULL;
	}
	if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
		*mistake = "is not a file";
	else if (status.st_size > FILE_MAX)
		*mistake = "is over 64 KiB";
	else if (secret && (status.st_mode & 007) != 0)
		*mistake = "can be read by everyone -> chmod o= it";
	else
		text = read_open_file(arena, fd, (size_t)status.st_size, len, mistake);
	close(fd);
	return text;
}

static const char *
secret_from_file(struct config_reader *reader, const char *name, const char *path)
{
	struct arena *arena = reader->config->arena;
	const char *mistake = NULL;
	size_t len;
	const char *text = config_file(arena, path, true, &len, &mistake);

	if (text == NULL) {
		config_mistake(reader, name, arena_format(arena, "the file %s", mistake));
		return NULL;
	}
	if (len > 0 && text[len - 1] == '\n')
		len--;
	if (len > 0 && text[len - 1] == '\r')
		len--;
	if (len == 0) {
		config_mistake(reader, name, "the file is empty -> put the value into it");
		return NULL;
	}
	return arena_copy(arena, text, len);
}

const char *
config_secret(struct config_reader *reader, const char *name)
{
	const char *file_name = arena_format(reader->config->arena, "%s_FILE", name);
	const char *value = config_setting(reader, name);
	const char *path = config_setting(reader, file_name);

	if (value != NULL && path != NULL) {
		config_mistake(
		    reader, name,
		    arena_format(reader->config->arena, "is set, and %s too -> keep one of them", file_name));
		return NULL;
	}
	return path != NULL ? secret_from_file(reader, file_name, path) : value;
}

unsigned
config_number(struct config_reader *reader, const char *name, unsigned fallback, unsigned least, unsigned most)
{
	const char *text = config_setting(reader, name);
	uint64_t value;

	if (text == NULL)
		return fallback;
	if (text_to_number(text, most, &value) && value >= least)
		return (unsigned)value;
	config_mistake(
	    reader, name,
	    arena_format(reader->config->arena, "is not a valid number -> give one from %u to %u", least, most));
	return fallback;
}

/* ---- the environment ---- */

static bool
is_secret(const char *name, size_t len)
{
	static const char *const names[] = {"TOKEN_KEYS", "REDIS_URL", "SESSION_REDIS_URL", "REDIS_ADMIN_URL"};
	const size_t suffix = strlen(SECRET_SUFFIX);

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
			return true;
	}
	return len > suffix && memcmp(name + len - suffix, SECRET_SUFFIX, suffix) == 0;
}

void
config_scrub_environment(void)
{
	char **kept = environ;

	for (char **entry = environ; *entry != NULL; entry++) {
		char *equals = strchr(*entry, '=');

		if (equals != NULL && is_secret(*entry, (size_t)(equals - *entry)))
			crypto_wipe(equals + 1, strlen(equals + 1));
		else
			*kept++ = *entry;
	}
	*kept = NULL;
}
