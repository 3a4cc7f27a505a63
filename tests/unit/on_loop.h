/* For tests of what waits: a loop and fibers, run until the test's fibers have ended. */
#ifndef TESTS_UNIT_ON_LOOP_H
#define TESTS_UNIT_ON_LOOP_H

#include <stdbool.h>
#include <stddef.h>

struct fibers;
struct loop;

extern struct loop *test_loop;
extern struct fibers *test_fibers;

/* cmocka's setup and teardown. The teardown fails where a fiber still waits. */
int on_loop_open(void **state);
int on_loop_close(void **state);

/* Start fn(arg) on a fiber. */
void on_loop_start(void (*fn)(void *), void *arg);

/* Run the loop until every fiber that was started has ended; fails after `ms`. */
void on_loop_finish(int ms);

/* Fibers that ended with fiber_abandon. */
extern size_t on_loop_abandoned;

#endif
