/*
 * Single flight inside one process: of all fibers that want the same thing at once, one does it and the others wait.
 *
 * Only the fact that it is over is shared, never a result: followers read the result from where the leader stored it,
 * under their own name. Keys hold the whole connection key (kind, organization, user, service).
 */
#ifndef COMMON_SINGLEFLIGHT_H
#define COMMON_SINGLEFLIGHT_H

#include "common/fiber.h"

#include <stdint.h>

struct error;
struct singleflights;

enum singleflight_role { SINGLEFLIGHT_LEADER, SINGLEFLIGHT_FOLLOWER, SINGLEFLIGHT_TIMEOUT };

/* A leader's place; lives on its stack from singleflight_join to singleflight_end. */
struct singleflight {
	struct singleflights *singleflights;
	const char *key;
	struct singleflight *next;
	struct fiber *followers;
	struct fiber_cleanup cleanup;
};

struct singleflights *singleflights_open(void);
void singleflights_close(struct singleflights *singleflights);

/*
 * SINGLEFLIGHT_LEADER: the caller does the work and calls singleflight_end. SINGLEFLIGHT_FOLLOWER: another caller did,
 * just now; *error is how it ended (NULL: success). SINGLEFLIGHT_TIMEOUT: `deadline_ms` (loop_now_ms) came first. `key`
 * must live until singleflight_end.
 */
enum singleflight_role singleflight_join(struct singleflights *singleflights, struct singleflight *flight,
					 const char *key, int64_t deadline_ms, const struct error **error);

/* Let the followers go on, with `error` as the end. */
void singleflight_end(struct singleflight *flight, const struct error *error);

#endif
