/*
 * A fiber's context stays alive between two uses: its entry function is a loop that runs one task, then switches back.
 * Only an abandoned fiber needs its context made anew, because it stopped in the middle.
 */
#include "common/fiber.h"

#include "common/loop.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#endif

#ifdef FIBER_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#define STACK_SIZE ((size_t)512 * 1024) /* red zones make frames much larger */
#else
#define STACK_SIZE ((size_t)64 * 1024)
#endif

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) 0
#define VALGRIND_STACK_DEREGISTER(id) ((void)(id))
#endif

enum state { FIBER_FREE, FIBER_READY, FIBER_RUNNING, FIBER_PARKED, FIBER_DONE, FIBER_ABANDONED };

struct fiber {
	ucontext_t context;
	char *stack; /* the lowest page is the guard */
	unsigned valgrind_id;
	void *fake_stack; /* AddressSanitizer's, while switched away */
	struct fibers *fibers;
	struct loop_timer *timer;
	enum state state;
	bool fresh; /* the context must be made before the next switch */
	bool timed_out;
	void (*fn)(void *);
	void (*ended)(void *, bool);
	void *arg;
	struct fiber_cleanup *cleanups;
	struct fiber *next; /* in the free list or the ready queue */
	bool waits;         /* in a list of fiber_wait */
	const struct error *error;
	struct fiber *next_waiter;
};

struct fibers {
	struct loop *loop;
	struct loop_hook *hook;
	size_t max;
	size_t count; /* made so far */
	struct fiber **all;
	struct fiber *free;
	struct fiber *ready, **ready_end;
	ucontext_t loop_context;
	void *loop_fake_stack;
	const void *loop_stack;
	size_t loop_stack_size;
};

/* The process has one thread; this is the fiber it is on. */
static struct fiber *current;

static size_t
page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static void
switch_to_loop(struct fiber *fiber, bool for_ever)
{
	struct fibers *fibers = fiber->fibers;

	(void)for_ever;
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(for_ever ? NULL : &fiber->fake_stack, fibers->loop_stack,
				       fibers->loop_stack_size);
#endif
	swapcontext(&fiber->context, &fibers->loop_context);
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(fiber->fake_stack, &fibers->loop_stack, &fibers->loop_stack_size);
#endif
}

static void
entry(void)
{
	struct fiber *fiber = current;

#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(NULL, &fiber->fibers->loop_stack, &fiber->fibers->loop_stack_size);
#endif
	for (;;) {
		fiber->fn(fiber->arg);
		fiber->state = FIBER_DONE;
		switch_to_loop(fiber, false);
	}
}

static void
make_context(struct fiber *fiber)
{
	getcontext(&fiber->context);
	fiber->context.uc_stack.ss_sp = fiber->stack + page_size();
	fiber->context.uc_stack.ss_size = STACK_SIZE;
	fiber->context.uc_link = NULL;
	makecontext(&fiber->context, entry, 0);
#ifdef FIBER_ASAN
	__asan_unpoison_memory_region(fiber->stack + page_size(), STACK_SIZE);
#endif
	fiber->fresh = false;
}

static void
finish_fiber(struct fiber *fiber)
{
	struct fibers *fibers = fiber->fibers;
	bool abandoned = fiber->state == FIBER_ABANDONED;

	while (fiber->cleanups != NULL) {
		struct fiber_cleanup *cleanup = fiber->cleanups;

		fiber->cleanups = cleanup->next;
		if (abandoned)
			cleanup->fn(cleanup->arg);
	}
	if (abandoned)
		fiber->fresh = true;
	fiber->state = FIBER_FREE;
	fiber->next = fibers->free;
	fibers->free = fiber;
	fiber->ended(fiber->arg, abandoned);
}

static void
run_fiber(struct fiber *fiber)
{
	struct fibers *fibers = fiber->fibers;

	if (fiber->fresh)
		make_context(fiber);
	fiber->state = FIBER_RUNNING;
	current = fiber;
#ifdef FIBER_ASAN
	__sanitizer_start_switch_fiber(&fibers->loop_fake_stack, fiber->stack + page_size(), STACK_SIZE);
#endif
	swapcontext(&fibers->loop_context, &fiber->context);
#ifdef FIBER_ASAN
	__sanitizer_finish_switch_fiber(fibers->loop_fake_stack, NULL, NULL);
#endif
	current = NULL;
	if (fiber->state == FIBER_DONE || fiber->state == FIBER_ABANDONED)
		finish_fiber(fiber);
}

static bool
run_ready(void *arg)
{
	struct fibers *fibers = arg;
	bool did = false;

	while (fibers->ready != NULL) {
		struct fiber *fiber = fibers->ready;

		fibers->ready = fiber->next;
		if (fibers->ready == NULL)
			fibers->ready_end = &fibers->ready;
		run_fiber(fiber);
		did = true;
	}
	return did;
}

static void
make_ready(struct fiber *fiber)
{
	struct fibers *fibers = fiber->fibers;

	fiber->state = FIBER_READY;
	fiber->next = NULL;
	*fibers->ready_end = fiber;
	fibers->ready_end = &fiber->next;
}

static void
timed_out(void *arg)
{
	struct fiber *fiber = arg;

	if (fiber->state != FIBER_PARKED)
		return;
	fiber->timed_out = true;
	make_ready(fiber);
}

struct fibers *
fibers_open(struct loop *loop, size_t max)
{
	struct fibers *fibers = calloc(1, sizeof *fibers);

	if (fibers == NULL)
		return NULL;
	fibers->loop = loop;
	fibers->max = max;
	fibers->ready_end = &fibers->ready;
	fibers->all = calloc(max, sizeof(struct fiber *));
	fibers->hook = loop_hook_open(loop, run_ready, fibers);
	if (fibers->all == NULL || fibers->hook == NULL) {
		fibers_close(fibers);
		return NULL;
	}
	return fibers;
}

static void
fiber_free(struct fiber *fiber)
{
	if (fiber->stack != NULL) {
		VALGRIND_STACK_DEREGISTER(fiber->valgrind_id);
#ifdef FIBER_ASAN
		__lsan_unregister_root_region(fiber->stack + page_size(), STACK_SIZE);
		__asan_unpoison_memory_region(fiber->stack + page_size(), STACK_SIZE);
#endif
		munmap(fiber->stack, STACK_SIZE + page_size());
	}
	loop_timer_close(fiber->timer);
	free(fiber);
}

void
fibers_close(struct fibers *fibers)
{
	if (fibers == NULL)
		return;
	for (size_t i = 0; fibers->all != NULL && i < fibers->count; i++)
		fiber_free(fibers->all[i]);
	loop_hook_close(fibers->hook);
	free(fibers->all);
	free(fibers);
}

static struct fiber *
fiber_new(struct fibers *fibers)
{
	struct fiber *fiber = calloc(1, sizeof *fiber);
	void *stack;

	if (fiber == NULL)
		return NULL;
	fiber->fibers = fibers;
	fiber->fresh = true;
	fiber->timer = loop_timer_open(fibers->loop, timed_out, fiber);
	stack = mmap(NULL, STACK_SIZE + page_size(), PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED) {
		fiber_free(fiber);
		return NULL;
	}
	fiber->stack = stack;
	fiber->valgrind_id =
	    VALGRIND_STACK_REGISTER(fiber->stack + page_size(), fiber->stack + page_size() + STACK_SIZE);
#ifdef FIBER_ASAN
	__lsan_register_root_region(fiber->stack + page_size(), STACK_SIZE);
#endif
	if (fiber->timer == NULL || mprotect(stack, page_size(), PROT_NONE) != 0) {
		fiber_free(fiber);
		return NULL;
	}
	fibers->all[fibers->count++] = fiber;
	return fiber;
}

bool
fiber_start(struct fibers *fibers, void (*fn)(void *), void (*ended)(void *, bool), void *arg)
{
	struct fiber *fiber = fibers->free;

	if (fiber != NULL)
		fibers->free = fiber->next;
	else if (fibers->count < fibers->max)
		fiber = fiber_new(fibers);
	if (fiber == NULL)
		return false;
	fiber->fn = fn;
	fiber->ended = ended;
	fiber->arg = arg;
	fiber->cleanups = NULL;
	make_ready(fiber);
	return true;
}

struct fiber *
fiber_current(void)
{
	return current;
}

void
fiber_park(void)
{
	struct fiber *fiber = current;

	fiber->state = FIBER_PARKED;
	switch_to_loop(fiber, false);
}

bool
fiber_park_until(int64_t deadline_ms)
{
	struct fiber *fiber = current;
	int64_t ms = deadline_ms - loop_now_ms(fiber->fibers->loop);

	if (ms <= 0)
		return false;
	fiber->timed_out = false;
	loop_timer_set(fiber->timer, ms);
	fiber_park();
	loop_timer_clear(fiber->timer);
	return !fiber->timed_out;
}

bool
fiber_wait(struct fiber **waiters, int64_t deadline_ms, const struct error **error)
{
	struct fiber *fiber = current;

	fiber->waits = true;
	fiber->next_waiter = *waiters;
	*waiters = fiber;
	while (fiber->waits && fiber_park_until(deadline_ms))
		continue;
	if (fiber->waits) {
		while (*waiters != fiber)
			waiters = &(*waiters)->next_waiter;
		*waiters = fiber->next_waiter;
		return false;
	}
	if (error != NULL)
		*error = fiber->error;
	return true;
}

void
fiber_sleep(int64_t ms)
{
	int64_t until = loop_now_ms(current->fibers->loop) + ms;

	while (fiber_park_until(until))
		continue;
}

void
fiber_abandon(void)
{
	struct fiber *fiber = current;

	fiber->state = FIBER_ABANDONED;
	switch_to_loop(fiber, true);
	abort(); /* an abandoned fiber is never continued */
}

void
fiber_on_abandon(struct fiber_cleanup *cleanup, void (*fn)(void *), void *arg)
{
	cleanup->fn = fn;
	cleanup->arg = arg;
	cleanup->next = current->cleanups;
	current->cleanups = cleanup;
}

void
fiber_forget(struct fiber_cleanup *cleanup)
{
	struct fiber_cleanup **at = &current->cleanups;

	while (*at != NULL && *at != cleanup)
		at = &(*at)->next;
	if (*at != NULL)
		*at = (*at)->next;
}

void
fiber_wake(struct fiber *fiber)
{
	if (fiber->state == FIBER_PARKED)
		make_ready(fiber);
}

void
fiber_wake_all(struct fiber **waiters, const struct error *error)
{
	for (struct fiber *fiber = *waiters; fiber != NULL; fiber = fiber->next_waiter) {
		fiber->waits = false;
		fiber->error = error;
		fiber_wake(fiber);
	}
	*waiters = NULL;
}
