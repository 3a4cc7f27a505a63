/* The commands of the program: each gets its own arguments, argv[0] being its name, and returns the exit status. */
#ifndef FCGI_CMD_H
#define FCGI_CMD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct option;
struct words;

#define CMD_OK 0
#define CMD_FAILED 1
#define CMD_USAGE 64    /* what was typed cannot be understood */
#define CMD_SETTINGS 78 /* settings are missing or wrong */

#define CMD_SECRET_MAX 4096
#define CMD_VALUE_MAX 4096 /* bytes of one argument */

int cmd_serve(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_session(int argc, char **argv);
int cmd_caller(int argc, char **argv);
int cmd_keys(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_events(int argc, char **argv);
int cmd_remove(int argc, char **argv);
int cmd_restore(int argc, char **argv);

/* ---- cmd.c: what several commands need ---- */

/* Say on stderr what is wrong with the arguments of `command`; returns CMD_USAGE. */
int cmd_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The arguments of a command about one organization. */
struct cmd_options {
	const char *organization;
	const char *user; /* NULL: all members */
	bool json;
	bool follow;
};

/*
 * Read the arguments that `known` (getopt_long) lets in: o, u, j and f are the members of *out, and the organization is
 * needed. CMD_OK, or CMD_USAGE with what is wrong said on stderr.
 */
int cmd_read_options(int argc, char **argv, const struct option *known, struct cmd_options *out);

/* Say on stderr that Redis could not do it; returns CMD_FAILED. */
int cmd_store_failed(void);

/* "90s", "15m", "8h", "30d" as seconds, from 1 s to 10 years; false for anything else. */
bool cmd_duration(const char *text, int64_t *seconds);

/* One line from standard input without its end, in the arena; NULL when it is empty, too long or no visible ASCII. */
const char *cmd_read_secret(struct arena *arena);

/* `text` (NULL: "-") fit for a terminal: control characters, which could move the cursor, become '?'. */
const char *cmd_shown(struct arena *arena, const char *text);

/* All words are names of MCPs. */
bool cmd_are_names(const struct words *words);

#endif
