/*
 * What was under a key of Redis when it was last seen: a hint that lets one round to Redis do the work of two. Never
 * authority: whoever acts on a guess finds out from Redis itself, in the same round, whether it was right.
 */
#ifndef FCGI_GUESS_H
#define FCGI_GUESS_H

#include <stdbool.h>

struct guesses;

/* A fixed number of them; memory is used as they come. NULL without memory. */
struct guesses *guesses_open(void);
void guesses_close(struct guesses *guesses);

/* What is perhaps under `key`; NULL: no idea. Valid until the next note. */
const char *guesses_find(const struct guesses *guesses, const char *key);

/* This is under `key`. Forgets something else where there is no room; a long text is not kept. */
void guesses_note(struct guesses *guesses, const char *key, const char *text);

/* The same without a text: `key` was seen, perhaps. Far more of these are kept. */
bool guesses_seen(const struct guesses *guesses, const char *key);
void guesses_note_seen(struct guesses *guesses, const char *key);

#endif
