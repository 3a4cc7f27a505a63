/*
 * The environment: lines NAME=value. What config_open takes is within its bounds; what it refuses it explains, without
 * the secret. `~` in a value stands for the folder that holds the input's own provider file, google.json: what follows
 * a line "%%".
 */
#include "common/arena.h"
#include "common/text.h"
#include "fcgi/config.h"
#include "fcgi/config_internal.h"
#include "fcgi/provider.h"
#include "tests/fuzz/fuzz.h"

#include <sys/stat.h>
#include <unistd.h>

#define LINES_MAX 64

static char directory[80];

static void
path_of(char path[160], const char *name)
{
	snprintf(path, 160, "%s/%s", directory, name);
}

static void
remove_files(void)
{
	char path[160];

	path_of(path, "google.json");
	unlink(path);
	rmdir(directory);
}

static void
write_provider_file(const char *text)
{
	char path[160];
	FILE *file;

	if (directory[0] == '\0') {
		const char *place = getenv("TMPDIR");

		snprintf(directory, sizeof directory, "%s/integrations-fuzz.XXXXXX", place != NULL ? place : "/tmp");
		must(mkdtemp(directory) != NULL);
		atexit(remove_files);
	}
	path_of(path, "google.json");
	file = fopen(path, "w");
	must(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
	must(chmod(path, 0600) == 0);
}

/* The lines of the text as an environment, without setenv, which keeps what it was ever given. */
static char **
lines_of(struct arena *arena, char *text)
{
	char **lines = arena_alloc(arena, (LINES_MAX + 1) * sizeof *lines);
	size_t count = 0;

	for (char *line = strsep(&text, "\n"); line != NULL && count < LINES_MAX; line = strsep(&text, "\n")) {
		char *equals = strchr(line, '=');

		if (equals == NULL || equals == line)
			continue;
		if (equals[1] == '~')
			line = arena_format(arena, "%.*s%s%s", (int)(equals + 1 - line), line, directory, equals + 2);
		lines[count++] = line;
	}
	return lines;
}

static void
check(const struct config *config)
{
	must(config->workers >= 1 && config->workers <= 56);
	must(config->max_in_flight >= 1 && config->max_in_flight <= 65536);
	must(strlen(config->listen) <= 107 && strlen(config->environment) <= 32);
	must(config->limit_auth_link <= 1000000 && config->limit_validate <= 1000000);
	must(config->session_cookie != NULL && config->redis_url != NULL && config->session_redis_url != NULL);
	if (config->public_url.scheme != NULL)
		must(text_equal(config->public_url.scheme, "https") || url_is_loopback(&config->public_url));
	for (size_t i = 0; i < config->provider_count; i++) {
		must(text_is_name(config->providers[i]->service));
		must(config->providers[i]->client.id != NULL && config->providers[i]->client.secret != NULL);
		must(config_provider(config, config->providers[i]->service) == config->providers[i]);
	}
}

/* Only mistakes come with a sentence, and none holds a secret. */
static void
check_mistakes(const struct config_mistakes *mistakes)
{
	must(mistakes->count >= 1 && mistakes->count <= sizeof mistakes->text / sizeof mistakes->text[0]);
	for (size_t i = 0; i < mistakes->count; i++) {
		must(strchr(mistakes->text[i], ':') != NULL);
		must(strstr(mistakes->text[i], "secret-MARKER") == NULL);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum config_need needs[] = {CONFIG_ALL, CONFIG_STORE, CONFIG_RING, CONFIG_KEYS};
	static struct config_mistakes mistakes;
	char **environment = environ;
	char *text = fuzz_text(data, size);
	char *provider = strstr(text, "\n%%\n");

	write_provider_file(provider != NULL ? provider + 4 : "");
	if (provider != NULL)
		*provider = '\0';
	environ = lines_of(fuzz_arena(), text);
	for (size_t i = 0; i < sizeof needs / sizeof needs[0]; i++) {
		struct config *config = config_open(needs[i], &mistakes);

		if (config != NULL)
			check(config);
		else
			check_mistakes(&mistakes);
		config_close(config);
	}
	config_scrub_environment();
	must(getenv("TOKEN_KEYS") == NULL && getenv("GOOGLE_CLIENT_SECRET") == NULL && getenv("REDIS_URL") == NULL);
	environ = environment;
	free(text);
	return 0;
}
