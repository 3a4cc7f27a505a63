/*
 * Flights under way hang in a small hash table; a flight lives on the stack of its leader, so nothing is allocated. A
 * leader that is abandoned ends its flight with error_overloaded, so that no follower hangs.
 */
#include "common/singleflight.h"

#include "common/error.h"
#include "common/text.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS 256

struct singleflights {
	struct singleflight *bucket[BUCKETS];
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

enum singleflight_role
singleflight_join(struct singleflights *singleflights, struct singleflight *flight, const char *key,
		  int64_t deadline_ms, const struct error **error)
{
	struct singleflight **bucket = bucket_of(singleflights, key);

	for (struct singleflight *other = *bucket; other != NULL; other = other->next) {
		if (strcmp(other->key, key) == 0)
			return fiber_wait(&other->followers, deadline_ms, error) ? SINGLEFLIGHT_FOLLOWER
										 : SINGLEFLIGHT_TIMEOUT;
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
	fiber_wake_all(&flight->followers, error);
}
