/*
 * Whose session a token was when it was last seen: a hint that lets one round to Redis do the work of two. Never
 * authority: who asks uses what was read on a guess only after the session itself has named the same user.
 */
#ifndef FCGI_GUESS_H
#define FCGI_GUESS_H

struct guesses;

/* A fixed number of them; memory is used as they come. NULL without memory. */
struct guesses *guesses_open(void);
void guesses_close(struct guesses *guesses);

/* The user whose session has this hash (64 hex digits) perhaps; NULL: no idea. Valid until the next note. */
const char *guesses_find(const struct guesses *guesses, const char *hash);

/* The session with this hash is this user's. Forgets another one where there is no room; a long id is not kept. */
void guesses_note(struct guesses *guesses, const char *hash, const char *user);

#endif
