/* The loop: descriptors, timers, signals, hooks; and that nothing is called after it was closed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/loop.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;
static int ends[2];
static size_t calls;

static int
open_all(void **state)
{
	(void)state;
	loop = loop_open();
	calls = 0;
	return loop == NULL || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0;
}

static int
close_all(void **state)
{
	(void)state;
	loop_close(loop);
	close(ends[0]);
	close(ends[1]);
	return 0;
}

static void
stop(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

static void
run_for(int64_t ms)
{
	struct loop_timer *timer = loop_timer_open(loop, stop, NULL);

	loop_timer_set(timer, ms);
	loop_run(loop);
	loop_timer_close(timer);
}

/* ---- descriptors ---- */

static struct loop_io *io;
static int seen;

static void
look(void *arg, int events)
{
	(void)arg;
	calls++;
	seen |= events;
	if (calls == 3)
		loop_io_set(io, 0);
}

static void
tells_what_is_ready(void **state)
{
	(void)state;
	seen = 0;
	io = loop_io_open(loop, ends[0], LOOP_READ, look, NULL);
	run_for(5);
	assert_int_equal(calls, 0);
	assert_int_equal(write(ends[1], "x", 1), 1);
	run_for(20); /* level-triggered: again and again, until it is not wanted any more */
	assert_int_equal(calls, 3);
	assert_int_equal(seen, LOOP_READ);
	loop_io_set(io, LOOP_READ | LOOP_WRITE);
	calls = 2;
	run_for(20);
	assert_int_equal(calls, 3);
	assert_int_equal(seen, LOOP_READ | LOOP_WRITE);
	loop_io_close(io);
}

/* Two descriptors ready in one turn, and the first closes the second: its event must not come any more, not even to
 * whoever has the same number next. */
static struct loop_io *other;
static int pair[2];

static void
never(void *arg, int events)
{
	(void)arg;
	(void)events;
	fail_msg("called for a descriptor that was closed");
}

static void
close_the_other(void *arg, int events)
{
	int again[2];

	(void)arg;
	(void)events;
	calls++;
	loop_io_close(io);
	loop_io_close(other);
	close(pair[0]);
	close(pair[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, again), 0);
	assert_int_equal(again[0], pair[0]);
	other = loop_io_open(loop, again[0], LOOP_READ, never, NULL);
	pair[0] = again[0];
	pair[1] = again[1];
}

static void
closed_descriptors_are_forgotten(void **state)
{
	(void)state;
	for (int round = 0; round < 2; round++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
		/* Whichever comes first closes the other. */
		io = loop_io_open(loop, ends[0], LOOP_READ, round == 0 ? close_the_other : never, NULL);
		other = loop_io_open(loop, pair[0], LOOP_READ, round == 0 ? never : close_the_other, NULL);
		if (round == 0) {
			assert_int_equal(write(ends[1], "x", 1), 1);
			run_for(10);
		}
		if (round == 1) {
			loop_io_close(io);
			io = NULL;
			assert_int_equal(write(pair[1], "x", 1), 1);
			run_for(10);
		}
		loop_io_close(other);
		close(pair[0]);
		close(pair[1]);
	}
	assert_int_equal(calls, 2);
}

/* ---- timers ---- */

static int64_t fired_ms;
static struct loop_timer *timer;

static void
fire(void *arg)
{
	(void)arg;
	calls++;
	fired_ms = loop_now_ms(loop);
}

static void
timers_fire_once_and_not_early(void **state)
{
	int64_t begun = loop_now_ms(loop);

	(void)state;
	timer = loop_timer_open(loop, fire, NULL);
	loop_timer_set(timer, 500);
	loop_timer_set(timer, 20); /* the last one counts */
	run_for(60);
	assert_int_equal(calls, 1);
	assert_in_range(fired_ms - begun, 19, 55);
	loop_timer_set(timer, 10);
	loop_timer_clear(timer);
	run_for(30);
	assert_int_equal(calls, 1);
	loop_timer_set(timer, 0);
	run_for(10);
	assert_int_equal(calls, 2);
	loop_timer_close(timer);
	loop_timer_close(NULL);
}

static void
block(void *arg)
{
	(void)arg;
	usleep(50 * 1000);
	loop_timer_set(timer, 20);
}

/* Time is that of the turn's beginning for both, so that a deadline and its timer agree. */
static void
timers_count_from_the_turn(void **state)
{
	struct loop_timer *first = loop_timer_open(loop, block, NULL);

	(void)state;
	timer = loop_timer_open(loop, fire, NULL);
	loop_timer_set(first, 0);
	run_for(100);
	assert_int_equal(calls, 1);
	loop_timer_close(first);
	loop_timer_close(timer);
}

/* ---- signals ---- */

static void
catches_signals(void **state)
{
	struct loop_signal *usr1 = loop_signal_open(loop, SIGUSR1, fire, NULL);

	(void)state;
	kill(getpid(), SIGUSR1);
	run_for(20);
	assert_int_equal(calls, 1);
	loop_signal_close(usr1);
	loop_signal_close(NULL);
}

/* ---- hooks ---- */

static size_t order[16];
static size_t work;

static bool
first_hook(void *arg)
{
	(void)arg;
	if (calls < 16)
		order[calls++] = 1;
	return false;
}

static bool
second_hook(void *arg)
{
	(void)arg;
	if (calls < 16)
		order[calls++] = 2;
	return work > 0 && work-- > 0;
}

static void
hooks_run_in_order_until_none_did_anything(void **state)
{
	struct loop_hook *first = loop_hook_open(loop, first_hook, NULL);
	struct loop_hook *second = loop_hook_open(loop, second_hook, NULL);

	(void)state;
	work = 2;
	run_for(1);
	assert_true(calls >= 6);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(order[i], 1 + i % 2);
	assert_int_equal(work, 0);
	loop_hook_close(first);
	calls = 0;
	run_for(1);
	assert_int_equal(order[0], 2);
	loop_hook_close(second);
	loop_hook_close(NULL);
}

static size_t
epolls(void)
{
	char path[32];
	char target[64];
	size_t count = 0;

	for (int fd = 0; fd < 64; fd++) {
		ssize_t len;

		snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		len = readlink(path, target, sizeof target);
		count += len > 0 && strncmp(target, "anon_inode:[eventpoll]", (size_t)len) == 0;
	}
	return count;
}

/* LIBEV_FLAGS=1 asks for select. */
static void
takes_no_advice_from_the_environment(void **state)
{
	size_t before = epolls();
	struct loop *another;

	(void)state;
	setenv("LIBEV_FLAGS", "1", 1);
	another = loop_open();
	unsetenv("LIBEV_FLAGS");
	assert_non_null(another);
	assert_int_equal(epolls(), before + 1);
	loop_close(another);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(tells_what_is_ready),
	    TEST(closed_descriptors_are_forgotten),
	    TEST(timers_fire_once_and_not_early),
	    TEST(timers_count_from_the_turn),
	    TEST(catches_signals),
	    TEST(takes_no_advice_from_the_environment),
	    TEST(hooks_run_in_order_until_none_did_anything),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
