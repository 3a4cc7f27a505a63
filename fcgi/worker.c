/*
 * Connections are kept, and cheap while idle. A readable one is looked at without reading; when a whole request is
 * there it gets a fiber, if fewer than MAX_IN_FLIGHT run; else it waits unread, and after a second is answered 503.
 *
 * The listening socket is shared by all workers. A worker that already holds clearly more connections than the average
 * lets the others go first for a moment, so that no worker ends up with all kept connections.
 *
 * A connection is never closed first while it may carry requests (FastCGI has no "connection: close", and a POST sent
 * at that moment would be lost): a draining worker waits for the web server to close.
 */
#include "fcgi/worker.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/fiber.h"
#include "common/flight.h"
#include "common/http.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/redis.h"
#include "common/resolve.h"
#include "common/text.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/gateway.h"
#include "fcgi/guess.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/router.h"
#include "fcgi/sandbox.h"
#include "fcgi/series.h"
#include "fcgi/signing_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ARENA_FIRST ((size_t)12 * 1024) /* a token needs some nine thousand bytes, a list half of that */
#define ARENA_MAX ((size_t)1024 * 1024)
#define REQUEST_MS 8000 /* for all provider calls and lease waits of one request */
#define WAIT_MS 1000    /* unread, before it is answered 503 */
#define WAIT_LOOK_MS 50
#define PARTIAL_MS 10000  /* for the rest of a request that began to come */
#define PARTIAL_LOOK_MS 5 /* at first; less and less often the longer it takes */
#define PARTIAL_LOOK_MOST_MS 250
#define DRAIN_MS 20000
#define SPREAD_SLACK 4 /* connections above the average that a worker may hold before it lets others accept */
#define SPREAD_PAUSE_MS 1
#define ACCEPTS_AT_ONCE 256 /* in one turn: who waits here is not counted as waiting, so nobody may for long */
#define MEMORY_LOOK_MS 5000
#define SPARE_JOBS 1024

enum connection_state {
	CONNECTION_IDLE,
	CONNECTION_PARTIAL, /* a part of a request has come; looked at by a timer */
	CONNECTION_WAITING, /* a whole request waits unread for its turn */
	CONNECTION_BUSY     /* its request runs */
};

struct connection {
	struct worker *worker;
	int fd;
	struct loop_io *io;
	struct gateway *gateway;
	enum connection_state state;
	bool gone;                          /* the peer closed while its request ran: the answer is dropped */
	int64_t since_ms;                   /* in this state */
	struct connection *next, *previous; /* in the list of its state: partial or waiting */
};

struct list {
	struct connection *first, *last;
	size_t count;
};

/* A request being worked on. */
struct job {
	struct worker *worker;
	struct connection *connection;
	struct arena *arena;
	struct request request;
	struct response response;
	size_t route;
	int64_t started_us;
	struct job *next; /* in the list of spare ones */
};

struct worker {
	const struct worker_settings *settings;
	struct app app;
	struct loop *loop;
	struct fibers *fibers;
	struct loop_io *listen_io;
	struct loop_timer *listen_timer, *partial_timer, *wait_timer, *drain_timer, *memory_timer;
	struct loop_signal *term_signal;
	struct loop_hook *log_hook;
	struct list partial, waiting;
	int64_t partial_look_ms; /* how often partial ones are looked at */
	struct arena *reserve;   /* had at the start, so that a refusal always finds room */
	struct job *spare_jobs;
	size_t spare_count;
	size_t connections;
	size_t in_flight;
	bool draining;
	uint64_t log_dropped;
	int status;
	int memory_fd; /* opened before the sandbox, which has no /proc */
};

/* ---- lists of connections ---- */

static void
list_add(struct list *list, struct connection *connection)
{
	connection->next = NULL;
	connection->previous = list->last;
	if (list->last != NULL)
		list->last->next = connection;
	else
		list->first = connection;
	list->last = connection;
	list->count++;
}

static void
list_remove(struct list *list, struct connection *connection)
{
	if (connection->previous != NULL)
		connection->previous->next = connection->next;
	else
		list->first = connection->next;
	if (connection->next != NULL)
		connection->next->previous = connection->previous;
	else
		list->last = connection->previous;
	list->count--;
}

static void
look_at_partial_in(struct worker *worker, int64_t ms)
{
	worker->partial_look_ms = ms;
	loop_timer_set(worker->partial_timer, ms);
}

static void
set_state(struct connection *connection, enum connection_state state)
{
	struct worker *worker = connection->worker;

	if (connection->state == state)
		return;
	if (connection->state == CONNECTION_PARTIAL)
		list_remove(&worker->partial, connection);
	if (connection->state == CONNECTION_WAITING)
		list_remove(&worker->waiting, connection);
	connection->state = state;
	connection->since_ms = loop_now_ms(worker->loop);
	if (state == CONNECTION_PARTIAL) {
		if (worker->partial.count == 0 || worker->partial_look_ms > PARTIAL_LOOK_MS)
			look_at_partial_in(worker, PARTIAL_LOOK_MS);
		list_add(&worker->partial, connection);
	}
	if (state == CONNECTION_WAITING) {
		if (worker->waiting.count == 0)
			loop_timer_set(worker->wait_timer, WAIT_LOOK_MS);
		list_add(&worker->waiting, connection);
	}
	/* Unread bytes would wake the loop again and again. */
	loop_io_set(connection->io, state == CONNECTION_PARTIAL || state == CONNECTION_WAITING ? 0 : LOOP_READ);
}

static void
update_gauges(struct worker *worker)
{
	const struct app_gauges *gauges = series_gauges(worker->settings->series);
	struct metrics *metrics = worker->settings->metrics;

	metrics_set(metrics, gauges->connections, (int64_t)worker->connections);
	metrics_set(metrics, gauges->in_flight, (int64_t)worker->in_flight);
	metrics_set(metrics, gauges->waiting, (int64_t)worker->waiting.count);
}

static void
close_connection(struct connection *connection)
{
	struct worker *worker = connection->worker;

	set_state(connection, CONNECTION_IDLE);
	loop_io_close(connection->io);
	gateway_close(connection->gateway);
	free(connection);
	worker->connections--;
	update_gauges(worker);
	if (worker->draining && worker->connections == 0)
		loop_stop(worker->loop);
}

/* ---- one request ---- */

static void
out_of_memory(void *arg)
{
	(void)arg;
	log_message(LOG_LEVEL_ERROR, "memory_exhausted", "a request needed more memory than it may have",
		    "if this repeats, look at what is asked for and at the memory of the host");
	fiber_abandon();
}

static struct job *
job_new(struct worker *worker)
{
	struct job *job = worker->spare_jobs;

	if (job != NULL) {
		worker->spare_jobs = job->next;
		worker->spare_count--;
		return job;
	}
	job = calloc(1, sizeof *job);
	if (job == NULL)
		return NULL;
	job->worker = worker;
	job->arena = arena_open(ARENA_FIRST, ARENA_MAX, out_of_memory, NULL);
	if (job->arena == NULL) {
		free(job);
		return NULL;
	}
	return job;
}

static void
job_free(struct job *job)
{
	struct worker *worker = job->worker;

	arena_reset(job->arena);
	if (worker->spare_count == SPARE_JOBS) {
		arena_close(job->arena);
		free(job);
		return;
	}
	job->next = worker->spare_jobs;
	worker->spare_jobs = job;
	worker->spare_count++;
}

static void
log_request(const struct job *job, int64_t microseconds)
{
	static const char *const methods[] = {"GET", "HEAD", "POST", "DELETE", "other"};
	const struct request *request = &job->request;
	struct log_line line;

	log_begin(&line, LOG_LEVEL_INFO, "request");
	log_text(&line, "request_id", request->request_id);
	log_text(&line, "method", methods[request->method]);
	log_text(&line, "route", router_name(job->route));
	log_number(&line, "status", job->response.status);
	log_text(&line, "code", request->error != NULL ? request->error->code : NULL);
	log_number(&line, "duration_us", microseconds);
	log_text(&line, "organization", request->principal.organization);
	log_text(&line, "user", request->principal.user);
	log_text(&line, "service", request->principal.service);
	log_end(&line);
}

static void
answer(struct job *job)
{
	struct worker *worker = job->worker;
	struct connection *connection = job->connection;
	int64_t microseconds = clock_monotonic_us() - job->started_us;

	log_request(job, microseconds);
	series_request(&worker->app, job->route, job->request.method, job->response.status, microseconds);
	if (connection->gone)
		gateway_drop(connection->gateway);
	if (connection->gone || !gateway_answer(connection->gateway, &job->response))
		close_connection(connection);
	else
		set_state(connection, CONNECTION_IDLE);
	job_free(job);
}

/* Without what the request has in its arena, which may be full; its texts stay readable until job_free. */
static void
answer_overloaded(struct job *job)
{
	struct worker *worker = job->worker;

	job->request.arena = worker->reserve;
	job->request.error = &error_overloaded;
	response_problem(&job->response, &job->request, &error_overloaded);
	answer(job);
	arena_reset(worker->reserve);
}

static void
run(void *arg)
{
	struct job *job = arg;

	job->route = router_run(&job->worker->app, &job->request, &job->response);
}

static void start_waiting(struct worker *worker);

static void
ended(void *arg, bool abandoned)
{
	struct job *job = arg;
	struct worker *worker = job->worker;

	worker->in_flight--;
	if (abandoned)
		answer_overloaded(job);
	else
		answer(job);
	update_gauges(worker);
	start_waiting(worker);
}

/* Read the request that waits in the socket. NULL when the connection was closed instead. */
static struct job *
read_request(struct connection *connection)
{
	struct job *job = job_new(connection->worker);

	if (job == NULL) {
		close_connection(connection);
		return NULL;
	}
	job->connection = connection;
	job->started_us = clock_monotonic_us();
	job->route = 0;
	if (!gateway_read(connection->gateway, job->arena, &job->request)) {
		gateway_drop(connection->gateway);
		job_free(job);
		close_connection(connection);
		return NULL;
	}
	job->request.deadline_ms = loop_now_ms(connection->worker->loop) + REQUEST_MS;
	response_init(&job->response, job->arena);
	set_state(connection, CONNECTION_BUSY);
	return job;
}

static void
refuse(struct connection *connection)
{
	struct job *job = read_request(connection);

	if (job == NULL)
		return;
	series_overloaded(&connection->worker->app);
	answer_overloaded(job);
}

static void
start(struct connection *connection)
{
	struct worker *worker = connection->worker;
	struct job *job = read_request(connection);

	if (job == NULL)
		return;
	if (!fiber_start(worker->fibers, run, ended, job)) { /* no memory for a stack */
		answer_overloaded(job);
		return;
	}
	worker->in_flight++;
	update_gauges(worker);
}

static bool
is_full(const struct worker *worker)
{
	return worker->in_flight >= worker->settings->config->max_in_flight;
}

/* The connection that waits longest; it no longer does. There must be one. */
static struct connection *
take_waiting(struct worker *worker)
{
	struct connection *connection = worker->waiting.first;

	worker->waiting.first = connection->next;
	if (connection->next != NULL)
		connection->next->previous = NULL;
	else
		worker->waiting.last = NULL;
	worker->waiting.count--;
	connection->state = CONNECTION_IDLE;
	loop_io_set(connection->io, LOOP_READ);
	return connection;
}

static void
start_waiting(struct worker *worker)
{
	while (worker->waiting.first != NULL && !is_full(worker))
		start(take_waiting(worker));
}

static void
look_at_waiting(void *arg)
{
	struct worker *worker = arg;
	int64_t now = loop_now_ms(worker->loop);

	start_waiting(worker);
	while (worker->waiting.first != NULL && now - worker->waiting.first->since_ms >= WAIT_MS)
		refuse(take_waiting(worker));
	update_gauges(worker);
	if (worker->waiting.first != NULL)
		loop_timer_set(worker->wait_timer, WAIT_LOOK_MS);
}

/* ---- connections ---- */

static void
look(struct connection *connection)
{
	switch (gateway_look(connection->fd)) {
	case GATEWAY_EMPTY: break;
	case GATEWAY_PARTIAL:
		set_state(connection, CONNECTION_PARTIAL);
		if (loop_now_ms(connection->worker->loop) - connection->since_ms >= PARTIAL_MS)
			close_connection(connection);
		break;
	case GATEWAY_COMPLETE:
		if (is_full(connection->worker) || connection->worker->waiting.first != NULL) {
			set_state(connection, CONNECTION_WAITING);
			update_gauges(connection->worker);
		} else {
			start(connection);
		}
		break;
	case GATEWAY_INVALID:
		log_message(LOG_LEVEL_WARN, "fastcgi_invalid", "a peer on the FastCGI socket sent no valid request",
			    "see who may connect to the socket: only the web server should");
		close_connection(connection);
		break;
	case GATEWAY_CLOSED: close_connection(connection); break;
	}
}

static void
connection_readable(void *arg, int events)
{
	struct connection *connection = arg;

	(void)events;
	if (connection->state == CONNECTION_BUSY) {
		/* The peer closed, or speaks out of turn: its answer is dropped when it is there. */
		connection->gone = true;
		loop_io_set(connection->io, 0);
		return;
	}
	look(connection);
}

static void
look_at_partial(void *arg)
{
	struct worker *worker = arg;
	struct connection *connection = worker->partial.first;

	while (connection != NULL) {
		struct connection *next = connection->next;

		look(connection);
		connection = next;
	}
	if (worker->partial.last != NULL) {
		int64_t ms = (loop_now_ms(worker->loop) - worker->partial.last->since_ms) / 8;

		ms = ms < PARTIAL_LOOK_MS ? PARTIAL_LOOK_MS : ms < PARTIAL_LOOK_MOST_MS ? ms : PARTIAL_LOOK_MOST_MS;
		look_at_partial_in(worker, ms);
	}
}

static void
adopt(struct worker *worker, int fd)
{
	struct connection *connection = calloc(1, sizeof *connection);

	if (connection == NULL) {
		close(fd);
		return;
	}
	connection->worker = worker;
	connection->fd = fd;
	connection->gateway = gateway_open(fd);
	connection->io = loop_io_open(worker->loop, fd, LOOP_READ, connection_readable, connection);
	if (connection->gateway == NULL || connection->io == NULL) {
		loop_io_close(connection->io);
		if (connection->gateway != NULL)
			gateway_close(connection->gateway);
		else
			close(fd);
		free(connection);
		return;
	}
	worker->connections++;
	update_gauges(worker);
	look(connection); /* its first request is usually there already */
}

/* Clearly more connections here than on the average worker. */
static bool
has_more_than_its_share(struct worker *worker)
{
	const struct app_gauges *gauges = series_gauges(worker->settings->series);
	int64_t total = 0;
	int64_t workers = 0;

	for (size_t slot = 0; slot < worker->settings->slots; slot++) {
		if (metrics_read(worker->settings->metrics, gauges->ready, slot) == 0)
			continue;
		workers++;
		total += metrics_read(worker->settings->metrics, gauges->connections, slot);
	}
	return (int64_t)worker->connections * workers > total + SPREAD_SLACK * workers;
}

/* Take one connection. False when none waits, or it could not be had. */
static bool
accept_one(struct worker *worker)
{
	int fd = accept4(worker->settings->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
			log_message(LOG_LEVEL_ERROR, "accept_failed", "no file descriptor or memory for a connection",
				    "raise the limit of open files (LimitNOFILE)");
			loop_io_set(worker->listen_io, 0);
			loop_timer_set(worker->listen_timer, 100);
		}
		return false;
	}
	adopt(worker, fd);
	return true;
}

static void
listen_ready(void *arg, int events)
{
	struct worker *worker = arg;

	(void)events;
	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
		if (has_more_than_its_share(worker)) {
			loop_io_set(worker->listen_io, 0);
			loop_timer_set(worker->listen_timer, SPREAD_PAUSE_MS);
			return;
		}
		if (!accept_one(worker))
			return;
	}
}

static void
listen_again(void *arg)
{
	struct worker *worker = arg;

	if (worker->draining)
		return;
	loop_io_set(worker->listen_io, LOOP_READ);
	(void)accept_one(worker); /* nobody else did: better here than late */
}

/* ---- start and end ---- */

static void
drain(void *arg)
{
	struct worker *worker = arg;
	const struct app_gauges *gauges = series_gauges(worker->settings->series);

	if (worker->draining)
		return;
	worker->draining = true;
	metrics_set(worker->settings->metrics, gauges->ready, 0);
	loop_io_set(worker->listen_io, 0);
	while (accept_one(worker)) /* what already waits was promised an answer */
		continue;
	/* Were the parent killed, a socket that nobody accepts from would still take connections, and keep the next
	 * instance from starting. */
	loop_io_close(worker->listen_io);
	worker->listen_io = NULL;
	close(worker->settings->listen_fd);
	log_message(LOG_LEVEL_INFO, "worker_draining",
		    "the worker accepts no more and serves its connections to their end", NULL);
	if (worker->connections == 0)
		loop_stop(worker->loop);
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

	metrics_set(worker->settings->metrics, series_gauges(worker->settings->series)->memory,
		    memory_in_use(worker->memory_fd));
	series_log_dropped(&worker->app, dropped - worker->log_dropped);
	worker->log_dropped = dropped;
	loop_timer_set(worker->memory_timer, MEMORY_LOOK_MS);
}

static bool
flush_log(void *arg)
{
	(void)arg;
	log_flush();
	return false;
}

static bool
open_app(struct worker *worker)
{
	const struct config *config = worker->settings->config;
	struct http_settings http = {.ca_file = config->provider_ca_file,
				     .allow_loopback = config->provider_allow_loopback,
				     .user_agent = "integrations"};
	struct app *app = &worker->app;

	app->config = config;
	app->loop = worker->loop;
	app->metrics = worker->settings->metrics;
	app->series = worker->settings->series;
	app->resolver = resolver_open(worker->loop);
	app->flights = flights_open();
	app->guesses = guesses_open();
	app->signing_keys = signing_keys_open(config);
	if (app->resolver == NULL || app->flights == NULL || app->guesses == NULL || app->signing_keys == NULL)
		return false;
	app->redis = redis_open(worker->loop, app->resolver, app->metrics, "records", config->redis_url);
	app->sessions =
	    text_equal(config->redis_url, config->session_redis_url)
		? app->redis
		: redis_open(worker->loop, app->resolver, app->metrics, "sessions", config->session_redis_url);
	app->http = http_open(worker->loop, app->resolver, &http);
	return app->redis != NULL && app->sessions != NULL && app->http != NULL;
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
	worker->reserve = arena_open(ARENA_FIRST, ARENA_MAX, NULL, NULL);
	worker->log_hook = loop_hook_open(worker->loop, flush_log, NULL);
	worker->listen_timer = loop_timer_open(worker->loop, listen_again, worker);
	worker->partial_timer = loop_timer_open(worker->loop, look_at_partial, worker);
	worker->wait_timer = loop_timer_open(worker->loop, look_at_waiting, worker);
	worker->drain_timer = loop_timer_open(worker->loop, drained_too_long, worker);
	worker->memory_timer = loop_timer_open(worker->loop, look_at_memory, worker);
	worker->term_signal = loop_signal_open(worker->loop, SIGTERM, drain, worker);
	worker->listen_io = loop_io_open(worker->loop, worker->settings->listen_fd, LOOP_READ, listen_ready, worker);
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
	http_close(worker->app.http);
	if (worker->app.sessions != worker->app.redis)
		redis_close(worker->app.sessions);
	redis_close(worker->app.redis);
	signing_keys_close(worker->app.signing_keys);
	flights_close(worker->app.flights);
	guesses_close(worker->app.guesses);
	resolver_close(worker->app.resolver);
	fibers_close(worker->fibers);
	arena_close(worker->reserve);
	while (worker->spare_jobs != NULL) {
		struct job *job = worker->spare_jobs;

		worker->spare_jobs = job->next;
		arena_close(job->arena);
		free(job);
	}
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
	metrics_set(settings->metrics, series_gauges(settings->series)->ready, 1);
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
