/*
 * Leases: one worker of all hosts at a time refreshes or validates a connection. The value is a random owner; only the
 * owner renews and releases, each in one script, so that an owner that was stopped for long never touches its
 * successor's lease. A lease is short and renews itself while its owner lives: a killed owner holds no other up for
 * long.
 *
 * It is not in a request's arena: the timer and its release need it when that arena may be exhausted.
 */
#include "fcgi/store_lease.h"

#include "common/arena.h"
#include "common/error.h"
#include "common/fiber.h"
#include "common/loop.h"
#include "common/random.h"
#include "fcgi/app.h"
#include "fcgi/store_internal.h"
#include "fcgi/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_SIZE 256 /* the longest kind, and ids of 64, 64 and 32 characters, are 193 */
#define ARENA_SIZE 4096
#define RENEW_AGAIN_MS 100

struct lease {
	struct app *app;
	struct arena *arena; /* for one command at a time */
	char key[KEY_SIZE];
	char owner[33];
	struct loop_timer *timer;
	struct fiber_cleanup cleanup;
};

static const struct redis_script renew_script = {
    .shape = "[0,1]",
#include "build/lua/lease_renew.lua.h"
};

static const struct redis_script release_script = {
    .shape = "[0,1]",
#include "build/lua/lease_release.lua.h"
};

static bool
send_script(struct lease *lease, const struct redis_script *script, const char *what)
{
	struct redis_batch batch;
	const char *const keys[] = {lease->key, NULL};
	const char *const arguments[] = {lease->owner, arena_format(lease->arena, "%d", STORE_LEASE_MS), NULL};
	bool sent;

	redis_batch_init(&batch, lease->arena);
	redis_add_script(&batch, script, keys, arguments);
	sent = redis_send(lease->app->redis, &batch, what);
	arena_reset(lease->arena);
	return sent;
}

/* One that got lost is made up for by the next: the lease lasts four times as long. One that could not be sent is sent
 * as soon as there is a connection again: an owner that waits for the provider asks Redis for nothing else. */
static void
renew(void *arg)
{
	struct lease *lease = arg;
	bool sent = send_script(lease, &renew_script, "lease renewal");

	loop_timer_set(lease->timer, sent ? STORE_LEASE_RENEW_MS : RENEW_AGAIN_MS);
}

static void
lease_close(struct lease *lease)
{
	if (lease->timer != NULL)
		loop_timer_close(lease->timer);
	arena_close(lease->arena);
	free(lease);
}

/* Allocates nothing of a request, so nothing can come between it and the end of the timer. */
static void
give_back(void *arg)
{
	struct lease *lease = arg;

	(void)send_script(lease, &release_script, "lease release");
	lease_close(lease);
}

static struct lease *
lease_open(struct app *app, const char *key, const char *owner)
{
	struct lease *lease = calloc(1, sizeof *lease);

	if (lease == NULL)
		return NULL;
	lease->app = app;
	snprintf(lease->key, sizeof lease->key, "%s", key);
	snprintf(lease->owner, sizeof lease->owner, "%s", owner);
	lease->arena = arena_open(ARENA_SIZE, ARENA_SIZE, NULL, NULL);
	lease->timer = loop_timer_open(app->loop, renew, lease);
	if (lease->arena == NULL || lease->timer == NULL) {
		lease_close(lease);
		return NULL;
	}
	return lease;
}

const struct error *
store_lease_take(struct task *task, enum lease_kind kind, struct lease **lease)
{
	const char *name = kind == LEASE_REFRESH ? "refresh_lease" : "integrations:validate_lease";
	const char *key = store_key_connection(task->arena, name, &task->connection_key);
	struct lease *mine = lease_open(task->app, key, random_id(task->arena));
	struct redis_batch batch;
	const struct error *error;

	*lease = NULL;
	if (mine == NULL)
		return &error_overloaded;
	fiber_on_abandon(&mine->cleanup, give_back, mine);
	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "SET", key, mine->owner, "NX", "PX", arena_format(task->arena, "%d", STORE_LEASE_MS), NULL);
	error = redis_run(task->app->redis, &batch, false);
	if (error != NULL || batch.reply[0]->type != REDIS_STRING) {
		fiber_forget(&mine->cleanup);
		lease_close(mine);
		return error;
	}
	loop_timer_set(mine->timer, STORE_LEASE_RENEW_MS);
	*lease = mine;
	return NULL;
}

void
store_lease_release(struct lease *lease)
{
	if (lease == NULL)
		return;
	fiber_forget(&lease->cleanup);
	give_back(lease);
}
