/* Who may wait for a provider: each bound by itself, who shares it, and that every place is given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/error.h"
#include "fcgi/app.h"
#include "fcgi/request.h"
#include "fcgi/waits.h"

#include <stdio.h>

#define ROOM 10000 /* for tests of the other bounds */
#define REQUESTS 600

static struct app app;
static struct task requests[REQUESTS];
static char users[REQUESTS][16];
static char waiters[REQUESTS][16];

static void
open_room(size_t max_in_flight)
{
	app = (struct app){.waits = waits_open(max_in_flight)};
	assert_non_null(app.waits);
	for (size_t i = 0; i < REQUESTS; i++) {
		snprintf(users[i], sizeof users[i], "u%zu", i);
		snprintf(waiters[i], sizeof waiters[i], "sid:%zu", i);
		requests[i] =
		    (struct task){.app = &app, .connection_key = {"acme", users[i], "google"}, .waiter = waiters[i]};
	}
}

static int
close_room(void **state)
{
	(void)state;
	waits_close(app.waits);
	return 0;
}

/* How many of the requests get a place, one after the other until one does not. */
static size_t
admitted(void)
{
	size_t count = 0;

	while (count < REQUESTS && waits_begin(&requests[count]) == NULL)
		count++;
	return count;
}

static void
all_end(void)
{
	for (size_t i = 0; i < REQUESTS; i++)
		waits_end(&requests[i]);
}

static void
share_connection(void)
{
	for (size_t i = 0; i < REQUESTS; i++)
		requests[i].connection_key.user = "ada";
}

static void
test_connection(void **state)
{
	const struct connection_key others[] = {
	    {"globex", "ada", "google"}, {"acme", "bob", "google"}, {"acme", "ada", "plain"}};

	(void)state;
	open_room(ROOM);
	share_connection();
	assert_int_equal(admitted(), WAITS_PER_CONNECTION);
	assert_ptr_equal(waits_begin(&requests[REQUESTS - 1]), &error_overloaded);
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
		requests[100 + i].connection_key = others[i];
		assert_null(waits_begin(&requests[100 + i]));
	}
}

static void
test_caller_or_session(void **state)
{
	(void)state;
	open_room(ROOM);
	for (size_t i = 0; i < REQUESTS; i++)
		requests[i].waiter = "sid:one";
	assert_int_equal(admitted(), WAITS_PER_CALLER);
	requests[WAITS_PER_CALLER].waiter = "sid:another";
	assert_null(waits_begin(&requests[WAITS_PER_CALLER]));
}

static void
test_share_of_the_worker(void **state)
{
	static const size_t rooms[][2] = {{1, 1}, {2, 1}, {3, 2}, {4, 3}, {100, 75}, {768, 576}};

	(void)state;
	for (size_t i = 0; i < sizeof rooms / sizeof rooms[0]; i++) {
		open_room(rooms[i][0]);
		assert_int_equal(admitted(), rooms[i][1]);
		assert_ptr_equal(waits_begin_change(&requests[REQUESTS - 1]), &error_overloaded);
		waits_close(app.waits);
	}
	open_room(ROOM);
}

/* What a member changes themselves waits beside the programs, not behind them. */
static void
test_a_change(void **state)
{
	(void)state;
	open_room(ROOM);
	share_connection();
	assert_int_equal(admitted(), WAITS_PER_CONNECTION);
	assert_null(waits_begin_change(&requests[REQUESTS - 1]));
	all_end();
	for (size_t i = 0; i < REQUESTS; i++)
		requests[i].waiter = "sid:one";
	for (size_t i = 0; i < WAITS_PER_CALLER; i++)
		assert_null(waits_begin_change(&requests[i]));
	assert_ptr_equal(waits_begin_change(&requests[WAITS_PER_CALLER]), &error_overloaded);
}

/* A request has one place, however often it waits; a refused one has none; each is given back once. */
static void
test_places(void **state)
{
	(void)state;
	open_room(ROOM);
	share_connection();
	for (size_t round = 0; round < 3; round++) {
		assert_int_equal(admitted(), WAITS_PER_CONNECTION);
		assert_int_equal(admitted(), WAITS_PER_CONNECTION); /* those that have one do not count again */
		waits_end(&requests[REQUESTS - 1]);                 /* which had none */
		waits_end(&requests[round]);
		waits_end(&requests[round]);
		assert_null(waits_begin(&requests[200]));
		assert_ptr_equal(waits_begin(&requests[201]), &error_overloaded);
		all_end();
	}
}

static void
test_commands_have_no_bounds(void **state)
{
	(void)state;
	open_room(ROOM);
	waits_close(app.waits);
	app.waits = NULL;
	share_connection();
	assert_int_equal(admitted(), REQUESTS);
	all_end();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_teardown(test_connection, close_room),
	    cmocka_unit_test_teardown(test_caller_or_session, close_room),
	    cmocka_unit_test_teardown(test_share_of_the_worker, close_room),
	    cmocka_unit_test_teardown(test_a_change, close_room),
	    cmocka_unit_test_teardown(test_places, close_room),
	    cmocka_unit_test_teardown(test_commands_have_no_bounds, close_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
