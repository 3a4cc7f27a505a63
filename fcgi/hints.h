/*
 * What was under a key of Redis when it was last seen: a hint that lets one round to Redis do the work of two. Never
 * authority: code that acts on a hint finds out from Redis itself, in the same round, whether it was right.
 */
#ifndef FCGI_HINTS_H
#define FCGI_HINTS_H

#include <stdbool.h>

struct hints;

/* A fixed number of them; memory is used as they come. NULL without memory. */
struct hints *hints_open(void);
void hints_close(struct hints *hints);

/* What is perhaps under `key`; NULL: no idea. Valid until the next note. */
const char *hints_find(const struct hints *hints, const char *key);

/* Remember `text` under `key`. A full table forgets another entry; a long text is not kept. */
void hints_note(struct hints *hints, const char *key, const char *text);

/* The same without a text: `key` was seen, perhaps. Far more of these are kept. */
bool hints_seen(const struct hints *hints, const char *key);
void hints_note_seen(struct hints *hints, const char *key);

#endif
