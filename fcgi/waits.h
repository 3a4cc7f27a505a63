/*
 * Requests that wait for a provider, or for another request or worker that asks it. They are counted, so that a
 * provider that stalls never takes the room of requests that need none.
 *
 * The bounds hold per worker. A request beyond one is refused at once.
 */
#ifndef FCGI_WAITS_H
#define FCGI_WAITS_H

#include <stddef.h>

struct error;
struct task;
struct waits;

/* One answer serves all who wait for the same connection. More of them than a team's programs ask at once gain nothing
 * from their place. */
#define WAITS_PER_CONNECTION 32

/* A sixth of the default MAX_IN_FLIGHT: enough for a runtime that starts for a whole team, and three stalled ones leave
 * room for others that wait. */
#define WAITS_PER_CALLER 128

/* Per cent of MAX_IN_FLIGHT. Lists, and tokens that are stored, take less than a millisecond each: a quarter serves
 * them all. */
#define WAITS_SHARE 75

/* NULL without memory. */
struct waits *waits_open(size_t max_in_flight);
void waits_close(struct waits *waits);

/*
 * Before a request waits: take a place, which it keeps until waits_end; error_overloaded where a bound is reached. A
 * request that has one needs no second.
 */
const struct error *waits_begin(struct task *task);

/* The same for a member who connects or disconnects. Programs that wait for the connection cannot keep them from it:
 * the session's bound and the whole worker's count. */
const struct error *waits_begin_change(struct task *task);

/* At the end of every request, however it ended, while its texts are readable. */
void waits_end(struct task *task);

#endif
