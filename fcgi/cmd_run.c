/*
 * A command is a worker with a single job: the same app, one fiber, no socket. Everything is closed again at the end,
 * so that leak checkers see commands, too.
 */
#include "fcgi/cmd_run.h"

#include "common/arena.h"
#include "common/fiber.h"
#include "common/http.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/redis.h"
#include "common/resolve.h"
#include "common/seal.h"
#include "common/singleflight.h"
#include "common/text.h"
#include "fcgi/app.h"
#include "fcgi/app_metrics.h"
#include "fcgi/cmd.h"
#include "fcgi/signing_keys.h"

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
	int (*fn)(struct app *, struct arena *, void *);
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

	run->status = run->fn(&run->app, run->arena, run->arg);
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

static struct redis *
open_redis(struct run *run, const char *name, const char *url)
{
	return redis_open(run->app.loop, run->app.resolver, run->app.metrics, name, url);
}

static bool
open_stores(struct run *run, enum config_need need)
{
	const struct config *config = run->config;
	struct app *app = &run->app;

	app->redis = open_redis(run, "records", need == CONFIG_ALL ? config->redis_url : config->redis_admin_url);
	if (text_equal(config->redis_url, config->session_redis_url))
		app->sessions = app->redis;
	else
		app->sessions = open_redis(run, "sessions", config->session_redis_url);
	return app->redis != NULL && app->sessions != NULL;
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
	const struct http_settings http = {.ca_file = run->config->provider_ca_file,
					   .allow_private = run->config->provider_allow_private,
					   .user_agent = "integrations"};

	app->config = run->config;
	app->loop = loop_open();
	if (app->loop == NULL || !open_metrics(run))
		return false;
	run->fibers = fibers_open(app->loop, 1);
	app->resolver = resolver_open(app->loop);
	app->singleflights = singleflights_open();
	app->signing_keys = signing_keys_open(run->config);
	if (run->fibers == NULL || app->resolver == NULL || app->singleflights == NULL || app->signing_keys == NULL)
		return false;
	app->http = http_open(app->loop, app->resolver, &http);
	run->arena = arena_open(ARENA_FIRST, ARENA_LIMIT, no_memory, NULL);
	run->turn_hook = loop_hook_open(app->loop, end_turn, run);
	return open_stores(run, need) && app->http != NULL && run->arena != NULL && run->turn_hook != NULL;
}

static void
close_run(struct run *run)
{
	struct app *app = &run->app;

	arena_close(run->arena);
	loop_hook_close(run->turn_hook);
	http_close(app->http);
	if (app->sessions != app->redis)
		redis_close(app->sessions);
	redis_close(app->redis);
	signing_keys_close(app->signing_keys);
	singleflights_close(app->singleflights);
	resolver_close(app->resolver);
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
cmd_run(enum config_need need, int (*fn)(struct app *, struct arena *, void *), void *arg)
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
