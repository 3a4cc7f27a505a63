/*
 * Fibers: a function that runs on a stack of its own and can wait without holding up the loop (glibc's ucontext).
 *
 * A fiber runs until it parks; the code that knows that its wait is over calls fiber_wake, and the loop continues it in
 * the same turn. Stacks have a guard page and come from a pool. A fiber is never cancelled from outside; it may end
 * itself early with fiber_abandon. All of it is known to AddressSanitizer, LeakSanitizer and valgrind.
 */
#ifndef COMMON_FIBER_H
#define COMMON_FIBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct fiber;
struct fibers;
struct loop;

/* A pool of at most `max` fibers on `loop`. NULL without memory. */
struct fibers *fibers_open(struct loop *loop, size_t max);
void fibers_close(struct fibers *fibers); /* none may be parked */

/*
 * Start fn(arg) on a fiber, at the latest before the loop waits again. When it has returned, or was abandoned, the loop
 * calls ended(arg, abandoned) on its own stack. False when all fibers are in use or a stack cannot be allocated.
 */
bool fiber_start(struct fibers *fibers, void (*fn)(void *), void (*ended)(void *, bool abandoned), void *arg);

/* ---- on a fiber ---- */

/* The running fiber, or NULL on the loop's own stack. */
struct fiber *fiber_current(void);

/* Wait until woken. */
void fiber_park(void);

/* Wait until woken or until the loop's clock reaches `deadline_ms` (loop_now_ms): true when woken. */
bool fiber_park_until(int64_t deadline_ms);

/*
 * Wait in the list *waiters, which begins as NULL, until fiber_wake_all or until `deadline_ms` (INT64_MAX: no end):
 * true when woken, with the waker's error in *error, where `error` is not NULL. Either way the fiber is off the list.
 */
bool fiber_wait(struct fiber **waiters, int64_t deadline_ms, const struct error **error);

/* Wait `ms`. */
void fiber_sleep(int64_t ms);

/* End the running fiber here and now; nothing of it runs again. It must own nothing outside its arena but what
 * fiber_on_abandon covers. */
void fiber_abandon(void) __attribute__((noreturn));

/*
 * Have fn(arg) called when this fiber is abandoned, before `ended`; `cleanup` lives on the caller's stack until
 * fiber_forget. Last in, first out.
 */
struct fiber_cleanup {
	void (*fn)(void *);
	void *arg;
	struct fiber_cleanup *next;
};
void fiber_on_abandon(struct fiber_cleanup *cleanup, void (*fn)(void *), void *arg);
void fiber_forget(struct fiber_cleanup *cleanup);

/* ---- on the loop or on another fiber ---- */

/* Continue `fiber` in this turn of the loop. Waking one that is not parked, or twice, does nothing more. */
void fiber_wake(struct fiber *fiber);

/* Continue all fibers that wait in *waiters, which is empty then; `error` is for them. */
void fiber_wake_all(struct fiber **waiters, const struct error *error);

#endif
