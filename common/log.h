/*
 * The log: one JSON object a line on stderr, each with time, level, event and process id.
 *
 * Lines are built field by field and kept in memory until log_flush, so that the event loop writes them together and
 * never waits for a slow reader: when stderr takes no more, lines are dropped and counted. Values are escaped, cut at
 * 256 bytes, and never hold a secret: what is secret has no business here.
 */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log_line {
	char text[2048]; /* a line stays below PIPE_BUF, so that a write of it is atomic */
	size_t len;
	bool wanted;
	bool cut; /* the field under way does not fit */
};

/* Choose what is written; the default is LOG_LEVEL_INFO, written at once (`buffered` false: commands, the parent). */
void log_configure(enum log_level level, bool buffered);

/* True and *level for "error", "warn", "info", "debug". */
bool log_level_parse(const char *text, enum log_level *level);

void log_begin(struct log_line *line, enum log_level level, const char *event);
void log_text(struct log_line *line, const char *key, const char *value); /* NULL: left out */
void log_number(struct log_line *line, const char *key, int64_t value);
void log_end(struct log_line *line);

/*
 * The common case: what happened in one sentence, and what an operator should do (NULL for info and debug).
 */
void log_message(enum log_level level, const char *event, const char *message, const char *action);

/* Write out what is kept, as far as stderr takes it without waiting. */
void log_flush(void);

/* Lines dropped since the start. */
uint64_t log_dropped(void);

#endif
