/*
 * Single flight inside one process: of all fibers that want the same thing at once, one does it and the others wait.
 *
 * Only the fact that it is over is shared, never a result: followers read the result from where the leader stored it,
 * under their own name. Keys hold the whole connection key (kind, organization, user, service).
 */
#ifndef COMMON_FLIGHT_H
#define COMMON_FLIGHT_H

#include "common/fiber.h"

#include <stdint.h>

struct error;
struct flights;

enum flight_role { FLIGHT_LEADER, FLIGHT_FOLLOWER, FLIGHT_TIMEOUT };

/* A leader's place; lives on its stack from flight_join to flight_end. */
struct flight {
	struct flights *flights;
	const char *key;
	const struct error *error;
	struct flight *next;
	struct flight_waiter *waiters;
	struct fiber_cleanup cleanup;
};

struct flights *flights_open(void);
void flights_close(struct flights *flights);

/*
 * FLIGHT_LEADER: the caller does the work and calls flight_end. FLIGHT_FOLLOWER: somebody else did, just now; *error is
 * how it ended (NULL: success). FLIGHT_TIMEOUT: `deadline_ms` (loop_now_ms) came first. `key` must live until
 * flight_end.
 */
enum flight_role flight_join(struct flights *flights, struct flight *flight, const char *key, int64_t deadline_ms,
			     const struct error **error);

/* Let the followers go on, with `error` as the end. */
void flight_end(struct flight *flight, const struct error *error);

#endif
