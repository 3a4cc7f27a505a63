/* Fibers: order, waiting, time, ending early, and that a stack used again is as new. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/error.h"
#include "common/fiber.h"
#include "common/loop.h"
#include "tests/unit/on_loop.h"

#include <stdio.h>
#include <string.h>

static char trace[256];

static void
note(const char *text)
{
	strncat(trace, text, sizeof trace - strlen(trace) - 1);
}

static int
open_all(void **state)
{
	trace[0] = '\0';
	return on_loop_open(state);
}

static struct fiber *parked[64];

static void
park_once(void *arg)
{
	size_t number = (size_t)(uintptr_t)arg;
	char text[8];

	parked[number] = fiber_current();
	fiber_park();
	snprintf(text, sizeof text, "%zu", number);
	note(text);
}

static void
wake_in_order(void *arg)
{
	static const size_t order[] = {2, 0, 1};

	(void)arg;
	for (size_t i = 0; i < 3; i++)
		fiber_wake(parked[order[i]]);
	fiber_wake(parked[0]); /* twice is no more than once */
	note("w");
}

static void
runs_in_the_order_of_waking(void **state)
{
	(void)state;
	for (uintptr_t i = 0; i < 3; i++)
		on_loop_start(park_once, (void *)i);
	on_loop_start(wake_in_order, NULL);
	on_loop_finish(1000);
	assert_string_equal(trace, "w201");
	assert_null(fiber_current());
}

/* A wake before the park is no wake: who parks says so under a condition of its own. */
static void
sleeper(void *arg)
{
	int64_t begun = clock_monotonic_ms();

	fiber_wake(fiber_current());
	fiber_sleep(30);
	assert_in_range(clock_monotonic_ms() - begun, 28, 500);
	*(bool *)arg = true;
}

static void
sleeps(void **state)
{
	bool over = false;

	(void)state;
	on_loop_start(sleeper, &over);
	on_loop_finish(1000);
	assert_true(over);
}

static void
park_for_a_moment(void *arg)
{
	int64_t now = loop_now_ms(test_loop);

	parked[0] = fiber_current();
	*(int *)arg = 0;
	assert_false(fiber_park_until(now)); /* already past: no wait */
	assert_false(fiber_park_until(now + 20));
	*(int *)arg = 1;
	assert_true(fiber_park_until(now + 5000));
	*(int *)arg = 2;
	/* The timer of the park before must not end this one. */
	assert_false(fiber_park_until(loop_now_ms(test_loop) + 60));
	assert_true(loop_now_ms(test_loop) - now >= 60 + 20 - 2);
	*(int *)arg = 3;
}

static void
wake_after(void *arg)
{
	const int *step = arg;

	while (*step != 1)
		fiber_sleep(1);
	fiber_wake(parked[0]);
}

static void
parks_until_a_time(void **state)
{
	int step = -1;

	(void)state;
	on_loop_start(park_for_a_moment, &step);
	on_loop_start(wake_after, &step);
	on_loop_finish(2000);
	assert_int_equal(step, 3);
}

/* ---- lists of those that wait ---- */

struct wait {
	int64_t ms; /* 0: without an end */
	bool woken;
	const struct error *error;
};

static struct fiber *waiters;
static const struct error outcome = {.code = "outcome"};

static void
wait_in_the_list(void *arg)
{
	struct wait *wait = arg;

	parked[0] = fiber_current();
	wait->woken = fiber_wait(&waiters, wait->ms != 0 ? loop_now_ms(test_loop) + wait->ms : INT64_MAX, &wait->error);
}

static void
wake_the_list(void *arg)
{
	fiber_wake(parked[0]); /* is not what it waits for */
	fiber_sleep(20);
	fiber_wake_all(&waiters, arg != NULL ? &outcome : NULL);
	assert_null(waiters);
	fiber_wake_all(&waiters, NULL); /* none */
}

/* Who runs out of time leaves the list, wherever in it, and is not looked for again. */
static void
wakes_all_that_still_wait(void **state)
{
	(void)state;
	for (int late = 0; late < 1 << 3; late++) {
		struct wait all[3] = {0};

		for (int i = 0; i < 3; i++) {
			all[i].ms = (late & 1 << i) != 0 ? 5 : 0;
			on_loop_start(wait_in_the_list, &all[i]);
		}
		on_loop_start(wake_the_list, &all);
		on_loop_finish(1000);
		for (int i = 0; i < 3; i++) {
			assert_int_equal(all[i].woken, all[i].ms == 0);
			assert_ptr_equal(all[i].error, all[i].woken ? &outcome : NULL);
		}
	}
}

static void
wait_twice(void *arg)
{
	parked[0] = fiber_current();
	assert_false(fiber_wait(&waiters, loop_now_ms(test_loop), NULL)); /* already past: no wait */
	assert_null(waiters);
	assert_true(fiber_wait(&waiters, INT64_MAX, arg));
	assert_null(*(const struct error **)arg);
}

static void
a_wait_may_have_no_time_and_no_end(void **state)
{
	const struct error *error = &outcome;

	(void)state;
	on_loop_start(wait_twice, &error);
	on_loop_start(wake_the_list, NULL);
	on_loop_finish(1000);
}

/* ---- ending early ---- */

static void
clean(void *arg)
{
	note(arg);
}

static char one[] = "1", two[] = "2", three[] = "3", never[] = "never";

static void
abandoning(void *arg)
{
	struct fiber_cleanup first, second, third;

	(void)arg;
	fiber_on_abandon(&first, clean, one);
	fiber_on_abandon(&second, clean, two);
	fiber_on_abandon(&third, clean, three);
	fiber_forget(&second);
	fiber_sleep(1);
	fiber_abandon();
}

static void
returning(void *arg)
{
	struct fiber_cleanup cleanup;

	(void)arg;
	fiber_on_abandon(&cleanup, clean, never);
	fiber_sleep(1);
	fiber_forget(&cleanup);
	note("r");
}

static void
cleans_up_when_abandoned(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		on_loop_start(abandoning, NULL);
		on_loop_finish(1000);
		on_loop_start(returning, NULL); /* on the same stack */
		on_loop_finish(1000);
	}
	assert_string_equal(trace, "31r31r31r");
	assert_int_equal(on_loop_abandoned, 3);
}

/* ---- the pool ---- */

static void
count_ended(void *arg, bool abandoned)
{
	(void)abandoned;
	if (--*(size_t *)arg == 0)
		loop_stop(test_loop);
}

static void
use_much_stack(void *arg)
{
	volatile char large[32 * 1024];

	(void)arg;
	for (size_t i = 0; i < sizeof large; i += 512)
		large[i] = (char)i;
	fiber_sleep(1);
	for (size_t i = 0; i < sizeof large; i += 512)
		assert_int_equal(large[i], (char)i);
}

static void
has_a_maximum(void **state)
{
	size_t left = 64;

	(void)state;
	for (int round = 0; round < 20; round++) {
		left = 64;
		for (size_t i = 0; i < 64; i++)
			assert_true(fiber_start(test_fibers, use_much_stack, count_ended, &left));
		assert_false(fiber_start(test_fibers, use_much_stack, count_ended, &left));
		loop_run(test_loop);
		assert_int_equal(left, 0);
	}
}

static void
start_more(void *arg)
{
	size_t *left = arg;

	if (*left > 0) {
		--*left;
		fiber_sleep((int64_t)(*left % 2));
		on_loop_start(start_more, arg);
	}
}

static void
fibers_start_fibers(void **state)
{
	size_t left = 500;

	(void)state;
	on_loop_start(start_more, &left);
	on_loop_finish(5000);
	assert_int_equal(left, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, on_loop_close)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(runs_in_the_order_of_waking),
	    TEST(sleeps),
	    TEST(parks_until_a_time),
	    TEST(wakes_all_that_still_wait),
	    TEST(a_wait_may_have_no_time_and_no_end),
	    TEST(cleans_up_when_abandoned),
	    TEST(has_a_maximum),
	    TEST(fibers_start_fibers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
