/* What several commands need: arguments, secrets from standard input, text for a terminal. */
#include "fcgi/cmd.h"

#include "common/arena.h"
#include "common/text.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DURATION_MAX (10LL * 366 * 24 * 60 * 60)

int
cmd_usage(const char *command, const char *format, ...)
{
	va_list list;

	fprintf(stderr, "integrations %s: ", command);
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fprintf(stderr, "\n`integrations --help` shows how each command is used.\n");
	return CMD_USAGE;
}

int
cmd_read_options(int argc, char **argv, const struct option *known, struct cmd_options *out)
{
	int option;

	*out = (struct cmd_options){0};
	opterr = 0;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'o': out->organization = optarg; break;
		case 'u': out->user = optarg; break;
		case 'j': out->json = true; break;
		case 'f': out->follow = true; break;
		default: return cmd_usage(argv[0], "\"%s\" is unknown or lacks its value", argv[optind - 1]);
		}
	}
	if (optind < argc)
		return cmd_usage(argv[0], "unexpected argument \"%s\"", argv[optind]);
	if (!text_is_id(out->organization))
		return cmd_usage(argv[0], "--org needs the id of an organization");
	if (out->user != NULL && !text_is_id(out->user))
		return cmd_usage(argv[0], "--user needs an id");
	return CMD_OK;
}

int
cmd_store_failed(void)
{
	fprintf(stderr, "integrations: Redis cannot be reached or refused the command; the line before says why\n");
	return CMD_FAILED;
}

bool
cmd_duration(const char *text, int64_t *seconds)
{
	static const struct {
		char letter;
		int64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 60 * 60}, {'d', 24 * 60 * 60}};
	size_t len = strlen(text);
	char digits[12] = {0};
	uint64_t number;

	if (len < 2 || len > sizeof digits)
		return false;
	memcpy(digits, text, len - 1);
	if (!text_to_number(digits, DURATION_MAX, &number) || number == 0)
		return false;
	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		if (text[len - 1] == units[i].letter) {
			*seconds = (int64_t)number * units[i].seconds;
			return *seconds <= DURATION_MAX;
		}
	}
	return false;
}

const char *
cmd_read_secret(struct arena *arena)
{
	char *text = arena_alloc(arena, CMD_SECRET_MAX + 2);
	size_t len = 0;
	ssize_t got;

	while (len <= CMD_SECRET_MAX && (got = read(STDIN_FILENO, text + len, CMD_SECRET_MAX + 1 - len)) > 0) {
		len += (size_t)got;
		if (memchr(text, '\n', len) != NULL)
			break;
	}
	text[strcspn(text, "\r\n")] = '\0';
	return len <= CMD_SECRET_MAX && text_is_visible(text) ? text : NULL;
}

const char *
cmd_shown(struct arena *arena, const char *text)
{
	char *shown;

	if (text == NULL || text[0] == '\0')
		return "-";
	shown = arena_text(arena, text);
	for (unsigned char *c = (unsigned char *)shown; *c != '\0'; c++) {
		if (*c < 0x20 || *c == 0x7f || (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0))
			*c = '?';
	}
	return text_is_utf8(shown, strlen(shown)) ? shown : "?";
}

bool
cmd_are_names(const struct words *words)
{
	for (size_t i = 0; i < words->count; i++) {
		if (!text_is_name(words->items[i]))
			return false;
	}
	return words->count > 0;
}
