/*
 * A command is a worker with a single job: the same app, one fiber, no socket. Everything is closed again at the end,
 * so that leak checkers see commands, too.
 */
#include "fcgi/cmd_run.h"

#include "common/arena.h"
#include "common/fiber.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/redis.h"
#include "common/seal.h"
#include "fcgi/app.h"
#include "fcgi/app_metrics.h"
#include "fcgi/cmd.h"
#include "fcgi/task.h"

#include <stdio.h>
#include <stdlib.h>

#define ARENA_FIRST ((size_t)64 * 1024)
#define ARENA_LIMIT ((size_t)1024 * 1024 * 1024)

struct run {
	struct app app;
	struct config *config;
	struct fibers *fibers;
	struct app_metrics *app_metrics;
	struct arena *arena;
	struct loop_hook *turn_hook;
	int (*fn)(struct task *, void *);
	void *arg;
	int status;
};

static void
no_memory(void *arg)
{
	(void)arg;
	fprintf(stderr, "integrations: not enough memory\n");
	exit(CMD_FAILED);
}

static void
work(void *arg)
{
	struct run *run = arg;

	struct task task = {.app = &run->app, .arena = run->arena};

	run->status = run->fn(&task, run->arg);
	redis_settle(run->app.redis, run->arena);
}

static void
ended(void *arg, bool abandoned)
{
	struct run *run = arg;

	if (abandoned)
		run->status = CMD_FAILED;
	loop_stop(run->app.loop);
}

static bool
open_metrics(struct run *run)
{
	run->app.metrics = metrics_open(1);
	run->app_metrics = run->app.metrics != NULL ? app_metrics_open(run->app.metrics, NULL, 0, NULL) : NULL;
	if (run->app_metrics == NULL || !metrics_freeze(run->app.metrics))
		return false;
	metrics_claim(run->app.metrics, 0);
	run->app.app_metrics = run->app_metrics;
	return true;
}

static bool
end_turn(void *arg)
{
	const struct run *run = arg;

	key_ring_forget_expanded(run->config->keys);
	return false;
}

/* Hooks run in the order of their opening: the fiber first, then what it asked of Redis and providers. */
static bool
open_run(struct run *run, enum config_need need)
{
	struct app *app = &run->app;

	app->config = run->config;
	app->loop = loop_open();
	if (app->loop == NULL || !open_metrics(run))
		return false;
	run->fibers = fibers_open(app->loop, 1);
	if (run->fibers == NULL ||
	    !app_open(app, need == CONFIG_ALL ? app->config->redis_url : app->config->redis_admin_url))
		return false;
	run->arena = arena_open(ARENA_FIRST, ARENA_LIMIT, no_memory, NULL);
	run->turn_hook = loop_hook_open(app->loop, end_turn, run);
	return run->arena != NULL && run->turn_hook != NULL;
}

static void
close_run(struct run *run)
{
	struct app *app = &run->app;

	arena_close(run->arena);
	loop_hook_close(run->turn_hook);
	app_close(app);
	fibers_close(run->fibers);
	loop_close(app->loop);
	app_metrics_close(run->app_metrics);
	metrics_close(app->metrics);
	config_close(run->config);
}

static void
print_mistakes(FILE *out, const struct config_mistakes *mistakes)
{
	for (size_t i = 0; i < mistakes->count; i++)
		fprintf(out, "FAIL: %s\n", mistakes->text[i]);
}

int
cmd_run(enum config_need need, int (*fn)(struct task *, void *), void *arg)
{
	struct run run = {.fn = fn, .arg = arg, .status = CMD_FAILED};
	struct config_mistakes mistakes;

	run.config = config_open(need, &mistakes);
	if (run.config == NULL) {
		/* For `check` they are findings, for other commands the reason why there is no result. */
		print_mistakes(need == CONFIG_ALL ? stdout : stderr, &mistakes);
		return CMD_SETTINGS;
	}
	log_configure(LOG_LEVEL_WARN, false);
	if (!open_run(&run, need) || !fiber_start(run.fibers, work, ended, &run))
		no_memory(NULL);
	loop_run(run.app.loop);
	close_run(&run);
	return run.status;
}
