/*
 * The event loop: file descriptors, timers, signals, and a hook before each wait. A thin layer over libev, the only
 * file that includes it. One loop per process, single-threaded.
 */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#define LOOP_READ 1
#define LOOP_WRITE 2

struct loop;
struct loop_io;
struct loop_timer;
struct loop_signal;
struct loop_hook;

/* NULL when the system has no epoll. Create it after fork. */
struct loop *loop_open(void);
void loop_close(struct loop *loop);

/* Run until loop_stop. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* Monotonic milliseconds when this turn of the loop began: cheap, good enough for deadlines. */
int64_t loop_now_ms(const struct loop *loop);

/* Call fn(arg, LOOP_* events) while `fd` is ready. Opened with `events` 0 it waits for loop_io_set. */
struct loop_io *loop_io_open(struct loop *loop, int fd, int events, void (*fn)(void *, int), void *arg);
void loop_io_set(struct loop_io *io, int events);
void loop_io_close(struct loop_io *io); /* before the fd is closed; NULL is allowed */

/* Call fn(arg) once, `ms` from now, after each loop_timer_set. */
struct loop_timer *loop_timer_open(struct loop *loop, void (*fn)(void *), void *arg);
void loop_timer_set(struct loop_timer *timer, int64_t ms);
void loop_timer_clear(struct loop_timer *timer);
void loop_timer_close(struct loop_timer *timer);

/* Call fn(arg) in the loop after signal `number`. */
struct loop_signal *loop_signal_open(struct loop *loop, int number, void (*fn)(void *), void *arg);
void loop_signal_close(struct loop_signal *signal);

/*
 * Call fn(arg) each time before the loop waits for events: the place to run ready fibers and to write what this turn
 * has gathered. Hooks run in the order of their opening; fn returns true when it did something that may have given an
 * earlier hook work: then all run again.
 */
struct loop_hook *loop_hook_open(struct loop *loop, bool (*fn)(void *), void *arg);
void loop_hook_close(struct loop_hook *hook);

#endif
