/*
 * Flights under way hang in a small hash table; a flight and its waiters live on the stacks of their fibers, so nothing
 * is allocated. A leader that is abandoned ends its flight with error_overloaded, so that no follower hangs.
 */
#include "common/singleflight.h"

#include "common/error.h"
#include "common/text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 256

struct singleflights {
	struct singleflight *bucket[BUCKETS];
};

struct singleflight_waiter {
	struct fiber *fiber;
	const struct error *error;
	bool over;
	struct singleflight_waiter *next;
};

struct singleflights *
singleflights_open(void)
{
	return calloc(1, sizeof(struct singleflights));
}

void
singleflights_close(struct singleflights *singleflights)
{
	free(singleflights);
}

static struct singleflight **
bucket_of(struct singleflights *singleflights, const char *key)
{
	return &singleflights->bucket[text_hash(key) % BUCKETS];
}

static void
leader_abandoned(void *arg)
{
	singleflight_end(arg, &error_overloaded);
}

static enum singleflight_role
follow(struct singleflight *flight, int64_t deadline_ms, const struct error **error)
{
	struct singleflight_waiter waiter = {.fiber = fiber_current(), .next = flight->waiters};

	flight->waiters = &waiter;
	while (!waiter.over && fiber_park_until(deadline_ms))
		continue;
	if (!waiter.over) {
		struct singleflight_waiter **at = &flight->waiters;

		while (*at != &waiter)
			at = &(*at)->next;
		*at = waiter.next;
		return SINGLEFLIGHT_TIMEOUT;
	}
	*error = waiter.error;
	return SINGLEFLIGHT_FOLLOWER;
}

enum singleflight_role
singleflight_join(struct singleflights *singleflights, struct singleflight *flight, const char *key,
		  int64_t deadline_ms, const struct error **error)
{
	struct singleflight **bucket = bucket_of(singleflights, key);

	for (struct singleflight *other = *bucket; other != NULL; other = other->next) {
		if (strcmp(other->key, key) == 0)
			return follow(other, deadline_ms, error);
	}
	memset(flight, 0, sizeof *flight);
	flight->singleflights = singleflights;
	flight->key = key;
	flight->next = *bucket;
	*bucket = flight;
	fiber_on_abandon(&flight->cleanup, leader_abandoned, flight);
	return SINGLEFLIGHT_LEADER;
}

void
singleflight_end(struct singleflight *flight, const struct error *error)
{
	struct singleflight **at = bucket_of(flight->singleflights, flight->key);

	while (*at != flight)
		at = &(*at)->next;
	*at = flight->next;
	if (fiber_current() != NULL) /* NULL: called by the loop for an abandoned leader */
		fiber_forget(&flight->cleanup);
	for (struct singleflight_waiter *waiter = flight->waiters; waiter != NULL; waiter = waiter->next) {
		waiter->error = error;
		waiter->over = true;
		fiber_wake(waiter->fiber);
	}
}
