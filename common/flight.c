/*
 * Flights under way hang in a small hash table; a flight and its waiters live on the stacks of their fibers, so nothing
 * is allocated. A leader that is abandoned ends its flight with error_overloaded, so that no follower hangs.
 */
#include "common/flight.h"

#include "common/error.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 256

struct flights {
	struct flight *bucket[BUCKETS];
};

struct flight_waiter {
	struct fiber *fiber;
	const struct error *error;
	bool over;
	struct flight_waiter *next;
};

struct flights *
flights_open(void)
{
	return calloc(1, sizeof(struct flights));
}

void
flights_close(struct flights *flights)
{
	free(flights);
}

static struct flight **
bucket_of(struct flights *flights, const char *key)
{
	uint32_t hash = 2166136261u; /* FNV-1a */

	for (const char *c = key; *c != '\0'; c++)
		hash = (hash ^ (unsigned char)*c) * 16777619u;
	return &flights->bucket[hash % BUCKETS];
}

static void
leader_abandoned(void *arg)
{
	flight_end(arg, &error_overloaded);
}

static enum flight_role
follow(struct flight *flight, int64_t deadline_ms, const struct error **error)
{
	struct flight_waiter waiter = {.fiber = fiber_current(), .next = flight->waiters};

	flight->waiters = &waiter;
	while (!waiter.over && fiber_park_until(deadline_ms))
		continue;
	if (!waiter.over) {
		struct flight_waiter **at = &flight->waiters;

		while (*at != &waiter)
			at = &(*at)->next;
		*at = waiter.next;
		return FLIGHT_TIMEOUT;
	}
	*error = waiter.error;
	return FLIGHT_FOLLOWER;
}

enum flight_role
flight_join(struct flights *flights, struct flight *flight, const char *key, int64_t deadline_ms,
	    const struct error **error)
{
	struct flight **bucket = bucket_of(flights, key);

	for (struct flight *other = *bucket; other != NULL; other = other->next) {
		if (strcmp(other->key, key) == 0)
			return follow(other, deadline_ms, error);
	}
	memset(flight, 0, sizeof *flight);
	flight->flights = flights;
	flight->key = key;
	flight->next = *bucket;
	*bucket = flight;
	fiber_on_abandon(&flight->cleanup, leader_abandoned, flight);
	return FLIGHT_LEADER;
}

void
flight_end(struct flight *flight, const struct error *error)
{
	struct flight **at = bucket_of(flight->flights, flight->key);

	while (*at != flight)
		at = &(*at)->next;
	*at = flight->next;
	if (fiber_current() != NULL) /* NULL: called by the loop for an abandoned leader */
		fiber_forget(&flight->cleanup);
	for (struct flight_waiter *waiter = flight->waiters; waiter != NULL; waiter = waiter->next) {
		waiter->error = error;
		waiter->over = true;
		fiber_wake(waiter->fiber);
	}
}
