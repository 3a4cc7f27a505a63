/*
 * The only builder of text: a growing buffer in an arena with a maximum given at birth.
 *
 * A write that would pass the maximum sets a sticky failure and changes nothing; the caller checks once, at the end.
 * The text always ends in NUL (not counted in `len`).
 */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct arena;

struct buf {
	struct arena *arena;
	char *data;
	size_t len;
	size_t size; /* allocated */
	size_t max;  /* most bytes of text, without the NUL */
	bool failed;
};

/* Start empty; at most `max` bytes. */
void buf_init(struct buf *buf, struct arena *arena, size_t max);

void buf_add(struct buf *buf, const char *text);
void buf_add_bytes(struct buf *buf, const void *bytes, size_t len);
/* Room for `len` bytes at the end, which the caller fills; NULL, and failed, when that would pass the maximum. */
char *buf_extend(struct buf *buf, size_t len);

void buf_add_char(struct buf *buf, char c);
void buf_addf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The text, or NULL when a write did not fit. */
const char *buf_text(const struct buf *buf);

#endif
