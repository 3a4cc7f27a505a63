/* A lease ends with the work that it was taken for, however that ends, and though a request has no memory left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/fiber.h"
#include "common/redis.h"
#include "fcgi/app.h"
#include "fcgi/store.h"
#include "fcgi/store_lease.h"
#include "fcgi/task.h"
#include "tests/unit/on_loop.h"

#include <string.h>

static struct app app;
static struct arena *arena;
static struct lease *lease;
static unsigned releases;

/* ---- in place of Redis: whoever asks for the lease gets it ---- */

const struct error *
redis_run(struct redis *redis, struct redis_batch *batch, bool reads)
{
	static struct redis_reply ok = {.type = REDIS_STRING, .text = "OK", .len = 2};

	(void)redis;
	(void)reads;
	batch->reply[0] = &ok;
	return NULL;
}

const struct error *
redis_run_shared(struct redis *redis, struct redis_batch *batch)
{
	return redis_run(redis, batch, true);
}

bool
redis_send(struct redis *redis, struct redis_batch *batch, const char *what)
{
	(void)redis;
	assert_int_equal(batch->count, 1);
	releases += strcmp(what, "lease release") == 0;
	return true;
}

/* ---- a request ---- */

static void
exhausted(void *arg)
{
	(void)arg;
	fiber_abandon();
}

static int
open_all(void **state)
{
	app = (struct app){0};
	releases = 0;
	lease = NULL;
	arena = arena_open(64, 4096, exhausted, NULL);
	if (on_loop_open(state) != 0)
		return -1;
	app.loop = test_loop;
	return arena == NULL;
}

static int
close_all(void **state)
{
	arena_close(arena);
	return on_loop_close(state);
}

static void
take(void)
{
	struct task task = {.app = &app, .arena = arena, .connection_key = {"acme", "ada", "google"}};

	assert_null(store_lease_take(&task, LEASE_REFRESH, &lease));
	assert_non_null(lease);
}

static void
use_up_memory(void)
{
	while (arena_try_alloc(arena, 1) != NULL)
		continue;
}

static void
ends_well(void *arg)
{
	(void)arg;
	take();
	store_lease_release(lease);
}

static void
ends_without_memory(void *arg)
{
	(void)arg;
	take();
	use_up_memory();
	store_lease_release(lease);
}

static void
is_abandoned(void *arg)
{
	(void)arg;
	take();
	use_up_memory();
	(void)arena_alloc(arena, 1);
}

static void
released_in_the_end(void **state)
{
	(void)state;
	on_loop_start(ends_well, NULL);
	on_loop_finish(1000);
	assert_int_equal(releases, 1);
	assert_int_equal(on_loop_abandoned, 0);
}

static void
released_without_memory(void **state)
{
	(void)state;
	on_loop_start(ends_without_memory, NULL);
	on_loop_finish(1000);
	assert_int_equal(releases, 1);
	assert_int_equal(on_loop_abandoned, 0);
}

static void
released_where_the_request_is_abandoned(void **state)
{
	(void)state;
	on_loop_start(is_abandoned, NULL);
	on_loop_finish(1000);
	assert_int_equal(releases, 1);
	assert_int_equal(on_loop_abandoned, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(released_in_the_end, open_all, close_all),
	    cmocka_unit_test_setup_teardown(released_without_memory, open_all, close_all),
	    cmocka_unit_test_setup_teardown(released_where_the_request_is_abandoned, open_all, close_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
