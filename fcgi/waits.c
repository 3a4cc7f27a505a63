/* The places hang in one list: it is walked only by those that are about to wait, and has at most some hundred. */
#include "fcgi/waits.h"

#include "common/error.h"
#include "common/text.h"
#include "fcgi/app.h"
#include "fcgi/app_metrics.h"
#include "fcgi/task.h"

#include <stdlib.h>

struct waits {
	size_t most;
	size_t count;
	struct wait *first;
};

struct waits *
waits_open(size_t max_in_flight)
{
	struct waits *waits = calloc(1, sizeof *waits);

	if (waits != NULL)
		waits->most = max_in_flight > 1 ? max_in_flight * WAITS_SHARE / 100 : 1;
	return waits;
}

void
waits_close(struct waits *waits)
{
	free(waits);
}

static bool
is_same_connection(const struct connection_key *one, const struct connection_key *other)
{
	return one != NULL && other != NULL && text_equal(one->user, other->user) &&
	       text_equal(one->organization, other->organization) && text_equal(one->service, other->service);
}

/* Whether a bound is reached for `wait`; then *bound is which. */
static bool
is_beyond(const struct waits *waits, const struct wait *wait, enum waits_bound *bound)
{
	size_t of_connection = 0;
	size_t of_caller = 0;

	*bound = WAITS_ALL;
	if (waits->count >= waits->most)
		return true;
	for (const struct wait *other = waits->first; other != NULL; other = other->next) {
		of_connection += is_same_connection(other->connection, wait->connection);
		of_caller += text_equal(other->waiter, wait->waiter);
	}
	*bound = of_connection >= WAITS_PER_CONNECTION ? WAITS_CONNECTION : WAITS_CALLER;
	return of_connection >= WAITS_PER_CONNECTION || of_caller >= WAITS_PER_CALLER;
}

static const struct error *
take_place(struct task *task, const struct connection_key *connection)
{
	struct waits *waits = task->app->waits;
	struct wait *wait = &task->wait;
	enum waits_bound bound;

	if (waits == NULL || wait->held)
		return NULL;
	*wait = (struct wait){.held = true, .connection = connection, .waiter = task->waiter, .next = waits->first};
	if (is_beyond(waits, wait, &bound)) {
		*wait = (struct wait){0};
		app_metrics_wait_refused(task->app, bound);
		return &error_overloaded;
	}
	waits->first = wait;
	waits->count++;
	return NULL;
}

const struct error *
waits_begin(struct task *task)
{
	return take_place(task, &task->connection_key);
}

const struct error *
waits_begin_change(struct task *task)
{
	return take_place(task, NULL);
}

void
waits_end(struct task *task)
{
	struct wait *wait = &task->wait;
	struct wait **at;

	if (!wait->held)
		return;
	for (at = &task->app->waits->first; *at != wait; at = &(*at)->next)
		continue;
	*at = wait->next;
	task->app->waits->count--;
	*wait = (struct wait){0};
}
