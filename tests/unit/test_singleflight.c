/* Single flight: one leads, the others wait for its end, whichever way it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/fiber.h"
#include "common/loop.h"
#include "common/singleflight.h"
#include "fcgi/api_error.h"
#include "tests/unit/on_loop.h"

static struct singleflights *singleflights;
static size_t leaders, followers, late;
static size_t at_once, most_at_once;

static int
open_all(void **state)
{
	leaders = followers = late = at_once = most_at_once = 0;
	singleflights = singleflights_open();
	return singleflights == NULL ? -1 : on_loop_open(state);
}

static int
close_all(void **state)
{
	int status = on_loop_close(state);

	singleflights_close(singleflights);
	return status;
}

struct passenger {
	const char *key;
	const struct error *outcome; /* as leader */
	const struct error *error;   /* as follower */
	int64_t ms;                  /* of its patience */
	bool abandons;
	enum singleflight_role role;
};

static void
board(void *arg)
{
	struct passenger *passenger = arg;
	struct singleflight flight;

	passenger->role = singleflight_join(singleflights, &flight, passenger->key,
					    loop_now_ms(test_loop) + passenger->ms, &passenger->error);
	if (passenger->role == SINGLEFLIGHT_FOLLOWER)
		followers++;
	if (passenger->role == SINGLEFLIGHT_TIMEOUT)
		late++;
	if (passenger->role != SINGLEFLIGHT_LEADER)
		return;
	leaders++;
	if (++at_once > most_at_once)
		most_at_once = at_once;
	fiber_sleep(20);
	at_once--;
	if (passenger->abandons)
		fiber_abandon();
	singleflight_end(&flight, passenger->outcome);
}

static void
one_leads(void **state)
{
	struct passenger all[30];

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < 30; i++) {
			all[i] =
			    (struct passenger){.key = "validate acme ada google", .ms = 1000, .error = &error_internal};
			on_loop_start(board, &all[i]);
		}
		on_loop_finish(2000);
		for (size_t i = 1; i < 30; i++) {
			assert_int_equal(all[i].role, SINGLEFLIGHT_FOLLOWER);
			assert_null(all[i].error);
		}
	}
	assert_int_equal(leaders, 3);
	assert_int_equal(most_at_once, 1);
}

static void
followers_learn_how_it_ended(void **state)
{
	struct passenger all[3];

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		all[i] = (struct passenger){.key = "key", .ms = 1000, .outcome = &error_store_unavailable};
		on_loop_start(board, &all[i]);
	}
	on_loop_finish(2000);
	assert_ptr_equal(all[1].error, &error_store_unavailable);
	assert_ptr_equal(all[2].error, &error_store_unavailable);
}

/* Keys that share a bucket, and keys of which one begins with the other, are not one. */
static void
different_keys_do_not_wait_for_each_other(void **state)
{
	static char keys[60][4];
	struct passenger all[60];

	(void)state;
	for (size_t i = 0; i < 60; i++) {
		keys[i][0] = (char)('a' + i % 20);
		if (i >= 20)
			keys[i][1] = 'x';
		if (i >= 40)
			keys[i][2] = 'y';
		all[i] = (struct passenger){.key = keys[i], .ms = 1000};
		on_loop_start(board, &all[i]);
	}
	on_loop_finish(2000);
	assert_int_equal(leaders, 60);
	assert_int_equal(most_at_once, 60);
}

static void
an_abandoned_leader_frees_its_followers(void **state)
{
	struct passenger all[4];
	struct passenger next = {.key = "key", .ms = 1000};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		all[i] = (struct passenger){.key = "key", .ms = 1000, .abandons = i == 0};
		on_loop_start(board, &all[i]);
	}
	on_loop_finish(2000);
	for (size_t i = 1; i < 4; i++) {
		assert_int_equal(all[i].role, SINGLEFLIGHT_FOLLOWER);
		assert_ptr_equal(all[i].error, &error_overloaded);
	}
	on_loop_start(board, &next);
	on_loop_finish(2000);
	assert_int_equal(next.role, SINGLEFLIGHT_LEADER);
}

/* Who runs out of time leaves, and the flight's end does not look for it any more. */
static void
patience_ends(void **state)
{
	struct passenger all[5];

	(void)state;
	for (size_t i = 0; i < 5; i++) {
		all[i] = (struct passenger){.key = "key", .ms = i % 2 ? 5 : 1000};
		on_loop_start(board, &all[i]);
	}
	on_loop_finish(2000);
	assert_int_equal(leaders, 1);
	assert_int_equal(late, 2);
	assert_int_equal(followers, 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(one_leads),
	    TEST(followers_learn_how_it_ended),
	    TEST(different_keys_do_not_wait_for_each_other),
	    TEST(an_abandoned_leader_frees_its_followers),
	    TEST(patience_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
