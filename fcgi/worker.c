/*
 * A connection is never closed first while it may carry requests (FastCGI has no "connection: close", and a POST sent
 * at that moment would be lost): a draining worker waits for the web server to close.
 */
#include "fcgi/worker_internal.h"

#include "common/arena.h"
#include "common/fiber.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/redis.h"
#include "common/seal.h"
#include "fcgi/app_metrics.h"
#include "fcgi/config.h"
#include "fcgi/hints.h"
#include "fcgi/sandbox.h"
#include "fcgi/store_use.h"
#include "fcgi/waits.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DRAIN_MS 20000
#define MEMORY_LOOK_MS 5000

static void
settle(void *arg)
{
	struct worker *worker = arg;
	struct arena *arena = arena_open(1024, 16384, NULL, NULL);

	if (arena != NULL)
		redis_settle(worker->app.redis, arena);
	arena_close(arena);
}

static void
settled(void *arg, bool abandoned)
{
	struct worker *worker = arg;

	(void)abandoned;
	loop_stop(worker->loop);
}

void
worker_end(struct worker *worker)
{
	if (!fiber_start(worker->fibers, settle, settled, worker))
		loop_stop(worker->loop);
}

static void
drain(void *arg)
{
	struct worker *worker = arg;
	const struct app_gauges *gauges = app_metrics_gauges(worker->settings->app_metrics);

	if (worker->draining)
		return;
	worker->draining = true;
	metrics_set(worker->settings->metrics, gauges->ready, 0);
	loop_io_set(worker->listen_io, 0);
	while (worker_accept_one(worker)) /* what already waits was promised an answer */
		continue;
	/* Were the parent killed, a socket that no process accepts from would still take connections, and keep the next
	 * instance from starting. */
	loop_io_close(worker->listen_io);
	worker->listen_io = NULL;
	close(worker->settings->listen_fd);
	log_message(LOG_LEVEL_INFO, "worker_draining",
		    "the worker accepts no more and serves its connections to their end", NULL);
	store_uses_end(worker->app.uses);
	if (worker->connections == 0)
		worker_end(worker);
	else
		loop_timer_set(worker->drain_timer, DRAIN_MS);
}

static void
drained_too_long(void *arg)
{
	struct worker *worker = arg;

	log_message(LOG_LEVEL_WARN, "worker_drain_forced",
		    "connections were still open 20 s after the worker was told to end",
		    "set keepalive_timeout and keepalive_time in the web server's upstream as the shipped file does");
	loop_stop(worker->loop);
}

/* Proportional set size: shared pages counted by their share. */
static int64_t
memory_in_use(int fd)
{
	char text[1024];
	ssize_t len = pread(fd, text, sizeof text - 1, 0);
	const char *line;
	long long kilobytes = 0;

	if (len <= 0)
		return 0;
	text[len] = '\0';
	line = strstr(text, "\nPss:");
	if (line == NULL || sscanf(line, "\nPss: %lld kB", &kilobytes) != 1)
		return 0;
	return kilobytes * 1024;
}

static void
look_at_memory(void *arg)
{
	struct worker *worker = arg;
	uint64_t dropped = log_dropped();

	metrics_set(worker->settings->metrics, app_metrics_gauges(worker->settings->app_metrics)->memory,
		    memory_in_use(worker->memory_fd));
	app_metrics_log_dropped(&worker->app, dropped - worker->log_dropped);
	worker->log_dropped = dropped;
	loop_timer_set(worker->memory_timer, MEMORY_LOOK_MS);
}

static bool
end_turn(void *arg)
{
	const struct worker *worker = arg;

	log_flush();
	key_ring_forget_expanded(worker->settings->config->keys);
	return false;
}

static bool
open_app(struct worker *worker)
{
	const struct config *config = worker->settings->config;
	struct app *app = &worker->app;

	app->config = config;
	app->loop = worker->loop;
	app->metrics = worker->settings->metrics;
	app->app_metrics = worker->settings->app_metrics;
	app->hints = hints_open();
	app->waits = waits_open(config->max_in_flight);
	if (app->hints == NULL || app->waits == NULL || !app_open(app, config->redis_url))
		return false;
	app->uses = store_uses_open(app, STORE_USES_MINUTE_MS);
	return app->uses != NULL;
}

/* Hooks run in the order of their opening: fibers first, then what they asked of Redis and providers, then the log. */
static bool
open_worker(struct worker *worker)
{
	worker->loop = loop_open();
	if (worker->loop == NULL)
		return false;
	worker->fibers = fibers_open(worker->loop, worker->settings->config->max_in_flight);
	if (worker->fibers == NULL || !open_app(worker))
		return false;
	worker->reserve = arena_open(WORKER_ARENA_FIRST, WORKER_ARENA_MAX, NULL, NULL);
	worker->log_hook = loop_hook_open(worker->loop, end_turn, worker);
	worker->listen_timer = loop_timer_open(worker->loop, worker_listen_again, worker);
	worker->partial_timer = loop_timer_open(worker->loop, worker_look_at_partial, worker);
	worker->wait_timer = loop_timer_open(worker->loop, worker_look_at_waiting, worker);
	worker->drain_timer = loop_timer_open(worker->loop, drained_too_long, worker);
	worker->memory_timer = loop_timer_open(worker->loop, look_at_memory, worker);
	worker->term_signal = loop_signal_open(worker->loop, SIGTERM, drain, worker);
	worker->listen_io =
	    loop_io_open(worker->loop, worker->settings->listen_fd, LOOP_READ, worker_listen_ready, worker);
	return worker->reserve != NULL && worker->log_hook != NULL && worker->listen_timer != NULL &&
	       worker->partial_timer != NULL && worker->wait_timer != NULL && worker->drain_timer != NULL &&
	       worker->memory_timer != NULL && worker->term_signal != NULL && worker->listen_io != NULL;
}

static void
close_worker(struct worker *worker)
{
	loop_io_close(worker->listen_io);
	loop_signal_close(worker->term_signal);
	loop_timer_close(worker->listen_timer);
	loop_timer_close(worker->partial_timer);
	loop_timer_close(worker->wait_timer);
	loop_timer_close(worker->drain_timer);
	loop_timer_close(worker->memory_timer);
	loop_hook_close(worker->log_hook);
	store_uses_close(worker->app.uses);
	app_close(&worker->app);
	waits_close(worker->app.waits);
	hints_close(worker->app.hints);
	fibers_close(worker->fibers);
	arena_close(worker->reserve);
	worker_free_spare_jobs(worker);
	loop_close(worker->loop);
}

int
worker_run(const struct worker_settings *settings)
{
	struct worker worker = {.settings = settings};

	log_configure(settings->config->log_level, true);
	metrics_claim(settings->metrics, settings->slot);
	worker.memory_fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	sandbox_worker(settings->config);
	if (!open_worker(&worker)) {
		log_message(LOG_LEVEL_ERROR, "worker_failed", "the worker could not be set up",
			    "give the host more memory, or a higher limit of open files");
		log_flush();
		return 70;
	}
	metrics_set(settings->metrics, app_metrics_gauges(settings->app_metrics)->ready, 1);
	look_at_memory(&worker);
	log_message(LOG_LEVEL_INFO, "worker_serving", "the worker serves", NULL);
	if (settings->ready_fd >= 0 && write(settings->ready_fd, "", 1) == 1)
		close(settings->ready_fd);
	loop_run(worker.loop);
	if (worker.connections == 0)
		close_worker(&worker);
	log_flush();
	return 0;
}
