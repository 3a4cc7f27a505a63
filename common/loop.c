/*
 * libev with the few shapes that this program needs. libev was chosen over our own epoll because it costs well below a
 * microsecond a request here and is well kept; measured with `make bench`.
 */
#include "common/loop.h"

#include "common/clock.h"

#include <ev.h>
#include <stdlib.h>

#define AGAIN_SECONDS 0.01 /* after which a descriptor that could not be watched is tried again */

struct loop {
	struct ev_loop *ev;
	ev_prepare prepare;
	ev_check check;
	int64_t now_ms;
	struct loop_hook *hooks;
};

struct loop_hook {
	struct loop *loop;
	bool (*fn)(void *);
	void *arg;
	struct loop_hook *next;
};

struct loop_io {
	ev_io io;
	ev_timer again;
	struct loop *loop;
	void (*fn)(void *, int);
	void *arg;
	int events;
	int lost; /* what could not be watched, as the kernel had no memory for it */
};

struct loop_timer {
	ev_timer timer;
	struct loop *loop;
	void (*fn)(void *);
	void *arg;
};

struct loop_signal {
	ev_signal signal;
	struct loop *loop;
	void (*fn)(void *);
	void *arg;
};

static void
before_wait(struct ev_loop *ev, ev_prepare *prepare, int events)
{
	struct loop *loop = prepare->data;
	bool again = true;

	(void)ev;
	(void)events;
	while (again) {
		again = false;
		for (struct loop_hook *hook = loop->hooks; hook != NULL; hook = hook->next)
			again = hook->fn(hook->arg) || again;
	}
}

static void
after_wait(struct ev_loop *ev, ev_check *check, int events)
{
	struct loop *loop = check->data;

	(void)ev;
	(void)events;
	loop->now_ms = clock_monotonic_ms();
}

struct loop *
loop_open(void)
{
	struct loop *loop = calloc(1, sizeof *loop);

	if (loop == NULL)
		return NULL;
	loop->ev = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
	if (loop->ev == NULL) {
		free(loop);
		return NULL;
	}
	loop->now_ms = clock_monotonic_ms();
	ev_prepare_init(&loop->prepare, before_wait);
	loop->prepare.data = loop;
	ev_prepare_start(loop->ev, &loop->prepare);
	ev_check_init(&loop->check, after_wait);
	loop->check.data = loop;
	ev_set_priority(&loop->check, EV_MAXPRI); /* the time is right before any other callback runs */
	ev_check_start(loop->ev, &loop->check);
	return loop;
}

void
loop_close(struct loop *loop)
{
	if (loop == NULL)
		return;
	ev_prepare_stop(loop->ev, &loop->prepare);
	ev_check_stop(loop->ev, &loop->check);
	ev_loop_destroy(loop->ev);
	free(loop);
}

void
loop_run(struct loop *loop)
{
	ev_run(loop->ev, 0);
}

void
loop_stop(struct loop *loop)
{
	ev_break(loop->ev, EVBREAK_ALL);
}

int64_t
loop_now_ms(const struct loop *loop)
{
	return loop->now_ms;
}

static void
watch_again(struct ev_loop *ev, ev_timer *watcher, int events)
{
	struct loop_io *io = watcher->data;

	(void)ev;
	(void)events;
	loop_io_set(io, io->lost);
}

static void
io_ready(struct ev_loop *ev, ev_io *watcher, int events)
{
	struct loop_io *io = watcher->data;

	if (events & EV_ERROR) { /* epoll_ctl failed, and libev has stopped the watcher */
		io->lost = io->events;
		io->events = 0;
		ev_timer_set(&io->again, AGAIN_SECONDS, 0.);
		ev_timer_start(ev, &io->again);
		return;
	}
	io->fn(io->arg, ((events & EV_READ) ? LOOP_READ : 0) | ((events & EV_WRITE) ? LOOP_WRITE : 0));
}

struct loop_io *
loop_io_open(struct loop *loop, int fd, int events, void (*fn)(void *, int), void *arg)
{
	struct loop_io *io = calloc(1, sizeof *io);

	if (io == NULL)
		return NULL;
	io->loop = loop;
	io->fn = fn;
	io->arg = arg;
	ev_io_init(&io->io, io_ready, fd, EV_NONE);
	io->io.data = io;
	ev_timer_init(&io->again, watch_again, 0., 0.);
	io->again.data = io;
	loop_io_set(io, events);
	return io;
}

void
loop_io_set(struct loop_io *io, int events)
{
	int fd = io->io.fd;
	int wanted = ((events & LOOP_READ) ? EV_READ : 0) | ((events & LOOP_WRITE) ? EV_WRITE : 0);

	if (events == io->events && !ev_is_active(&io->again))
		return;
	ev_io_stop(io->loop->ev, &io->io);
	ev_timer_stop(io->loop->ev, &io->again);
	io->events = events;
	if (events == 0)
		return;
	ev_io_set(&io->io, fd, wanted);
	ev_io_start(io->loop->ev, &io->io);
}

void
loop_io_close(struct loop_io *io)
{
	if (io == NULL)
		return;
	ev_io_stop(io->loop->ev, &io->io);
	ev_timer_stop(io->loop->ev, &io->again);
	free(io);
}

static void
timer_fired(struct ev_loop *ev, ev_timer *watcher, int events)
{
	struct loop_timer *timer = watcher->data;

	(void)ev;
	(void)events;
	timer->fn(timer->arg);
}

struct loop_timer *
loop_timer_open(struct loop *loop, void (*fn)(void *), void *arg)
{
	struct loop_timer *timer = calloc(1, sizeof *timer);

	if (timer == NULL)
		return NULL;
	timer->loop = loop;
	timer->fn = fn;
	timer->arg = arg;
	ev_timer_init(&timer->timer, timer_fired, 0., 0.);
	timer->timer.data = timer;
	return timer;
}

void
loop_timer_set(struct loop_timer *timer, int64_t ms)
{
	struct ev_loop *ev = timer->loop->ev;

	ev_timer_stop(ev, &timer->timer);
	/* libev counts from the start of this turn of the loop, as loop_now_ms does. */
	ev_timer_set(&timer->timer, ms > 0 ? (double)ms / 1000. : 0., 0.);
	ev_timer_start(ev, &timer->timer);
}

void
loop_timer_clear(struct loop_timer *timer)
{
	ev_timer_stop(timer->loop->ev, &timer->timer);
}

void
loop_timer_close(struct loop_timer *timer)
{
	if (timer == NULL)
		return;
	ev_timer_stop(timer->loop->ev, &timer->timer);
	free(timer);
}

static void
signal_caught(struct ev_loop *ev, ev_signal *watcher, int events)
{
	struct loop_signal *signal = watcher->data;

	(void)ev;
	(void)events;
	signal->fn(signal->arg);
}

struct loop_signal *
loop_signal_open(struct loop *loop, int number, void (*fn)(void *), void *arg)
{
	struct loop_signal *signal = calloc(1, sizeof *signal);

	if (signal == NULL)
		return NULL;
	signal->loop = loop;
	signal->fn = fn;
	signal->arg = arg;
	ev_signal_init(&signal->signal, signal_caught, number);
	signal->signal.data = signal;
	ev_signal_start(loop->ev, &signal->signal);
	return signal;
}

void
loop_signal_close(struct loop_signal *signal)
{
	if (signal == NULL)
		return;
	ev_signal_stop(signal->loop->ev, &signal->signal);
	free(signal);
}

struct loop_hook *
loop_hook_open(struct loop *loop, bool (*fn)(void *), void *arg)
{
	struct loop_hook *hook = calloc(1, sizeof *hook);
	struct loop_hook **end = &loop->hooks;

	if (hook == NULL)
		return NULL;
	hook->loop = loop;
	hook->fn = fn;
	hook->arg = arg;
	while (*end != NULL)
		end = &(*end)->next;
	*end = hook;
	return hook;
}

void
loop_hook_close(struct loop_hook *hook)
{
	struct loop_hook **at;

	if (hook == NULL)
		return;
	at = &hook->loop->hooks;
	while (*at != hook)
		at = &(*at)->next;
	*at = hook->next;
	free(hook);
}
