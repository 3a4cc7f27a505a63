#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/on_loop.h"

#include "common/fiber.h"
#include "common/loop.h"

#define FIBERS 64

struct loop *test_loop;
struct fibers *test_fibers;
size_t on_loop_abandoned;

static size_t running;
static bool too_late;

int
on_loop_open(void **state)
{
	(void)state;
	test_loop = loop_open();
	test_fibers = test_loop != NULL ? fibers_open(test_loop, FIBERS) : NULL;
	running = on_loop_abandoned = 0;
	return test_fibers == NULL;
}

int
on_loop_close(void **state)
{
	(void)state;
	fibers_close(test_fibers);
	loop_close(test_loop);
	test_fibers = NULL;
	test_loop = NULL;
	return running != 0;
}

static void
ended(void *arg, bool abandoned)
{
	(void)arg;
	on_loop_abandoned += abandoned;
	if (--running == 0)
		loop_stop(test_loop);
}

void
on_loop_start(void (*fn)(void *), void *arg)
{
	running++;
	assert_true(fiber_start(test_fibers, fn, ended, arg));
}

static void
stop(void *arg)
{
	(void)arg;
	too_late = true;
	loop_stop(test_loop);
}

void
on_loop_finish(int ms)
{
	struct loop_timer *timer = loop_timer_open(test_loop, stop, NULL);

	assert_non_null(timer);
	too_late = false;
	loop_timer_set(timer, ms);
	if (running > 0)
		loop_run(test_loop);
	loop_timer_close(timer);
	assert_false(too_late);
	assert_int_equal(running, 0);
}
