/* What a worker has: one of each, handed to every route. No other global state. */
#ifndef FCGI_APP_H
#define FCGI_APP_H

#include <stdbool.h>
#include <stdint.h>

struct config;
struct singleflights;
struct hints;
struct http;
struct loop;
struct metrics;
struct redis;
struct resolver;
struct signing_keys;
struct app_metrics;
struct waits;
struct uses;

/* A line of the log that comes once a while: how much it stands for. */
struct log_pace {
	int64_t next_ms;
	int64_t count; /* since the last line */
};

#define APP_CALLERS_KEPT 64

struct app_callers {
	struct log_pace without_mac;
	struct log_pace refused;
	char *kept[APP_CALLERS_KEPT]; /* rows with a good MAC (store_caller_mac.c) */
};

struct app {
	const struct config *config;
	struct loop *loop;
	struct resolver *resolver;
	struct redis *redis;    /* records */
	struct redis *sessions; /* the same one where sessions live in the same place */
	struct http *http;
	struct singleflights *singleflights;
	struct hints *hints;               /* NULL: none, in commands */
	struct waits *waits;               /* NULL: unbounded, in commands */
	struct uses *uses;                 /* counters of the audit; NULL: none, in commands */
	struct signing_keys *signing_keys; /* providers' public keys, by provider */
	struct metrics *metrics;
	const struct app_metrics *app_metrics;
	struct app_callers callers;
};

/*
 * Open what talks to Redis (records at `redis_url`) and to providers; config, loop and metrics are set already, fibers
 * opened. False without memory: then the process can only end.
 */
bool app_open(struct app *app, const char *redis_url);
void app_close(struct app *app);

#endif
