/* A request from its bytes to the bytes of its answer, on a fiber and in an arena of its own. */
#include "fcgi/worker_internal.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/fiber.h"
#include "common/log.h"
#include "common/loop.h"
#include "fcgi/app_metrics.h"
#include "fcgi/fastcgi.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/router.h"
#include "fcgi/waits.h"

#include <stdlib.h>

#define REQUEST_MS 8000 /* for all provider calls and lease waits of one request */
#define SPARE_JOBS 1024

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
	job->arena = arena_open(WORKER_ARENA_FIRST, WORKER_ARENA_MAX, out_of_memory, NULL);
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
log_request(const struct job *job, int status, int64_t microseconds)
{
	const struct request *request = &job->request;
	struct log_line line;

	log_begin(&line, LOG_LEVEL_INFO, "request");
	log_text(&line, "request_id", request->task.request_id);
	log_text(&line, "method", request_method_name(request->method));
	log_text(&line, "route", router_name(job->route));
	log_number(&line, "status", status);
	log_text(&line, "code", request->error != NULL ? request->error->code : NULL);
	log_number(&line, "duration_us", microseconds);
	log_text(&line, "organization", request->task.connection_key.organization);
	log_text(&line, "user", request->task.connection_key.user);
	log_text(&line, "service", request->task.connection_key.service);
	log_end(&line);
}

/* For the log and the metrics. nginx is told only 401 or 403 of a refusal at the gateway. */
static void
log_and_count(const struct job *job)
{
	int64_t microseconds = clock_monotonic_us() - job->started_us;
	int status = job->request.error != NULL ? job->request.error->status : job->response.status;

	log_request(job, status, microseconds);
	app_metrics_request(&job->worker->app, job->route, job->request.method, status, microseconds);
}

static void
send_answer(struct job *job)
{
	struct connection *connection = job->connection;

	if (!job->request.logged)
		log_and_count(job);
	if (connection->gone)
		fastcgi_drop(connection->fastcgi);
	if (connection->gone || !fastcgi_answer(connection->fastcgi, &job->response))
		worker_close_connection(connection);
	else
		worker_set_state(connection, CONNECTION_IDLE);
	job_free(job);
}

/* Without what the request has in its arena, which may be full; its texts stay readable until job_free. */
static void
answer_overloaded(struct job *job)
{
	struct worker *worker = job->worker;

	job->request.task.arena = worker->reserve;
	job->request.error = &error_overloaded;
	response_problem(&job->response, &job->request, &error_overloaded);
	send_answer(job);
	arena_reset(worker->reserve);
}

static void
run_job(void *arg)
{
	struct job *job = arg;

	job->route = router_run(&job->request, &job->response);
}

static void
ended(void *arg, bool abandoned)
{
	struct job *job = arg;
	struct worker *worker = job->worker;

	worker->in_flight--;
	waits_end(&job->request.task);
	if (abandoned)
		answer_overloaded(job);
	else
		send_answer(job);
	worker_update_gauges(worker);
	worker_start_waiting(worker);
}

/* Read the request that waits in the socket. NULL when the connection was closed instead. */
static struct job *
read_request(struct connection *connection)
{
	struct job *job = job_new(connection->worker);

	if (job == NULL) {
		worker_close_connection(connection);
		return NULL;
	}
	job->connection = connection;
	job->started_us = clock_monotonic_us();
	job->route = 0;
	if (!fastcgi_read(connection->fastcgi, job->arena, &job->request)) {
		fastcgi_drop(connection->fastcgi);
		job_free(job);
		worker_close_connection(connection);
		return NULL;
	}
	job->request.task.app = &connection->worker->app;
	job->request.task.deadline_ms = loop_now_ms(connection->worker->loop) + REQUEST_MS;
	response_init(&job->response, job->arena);
	worker_set_state(connection, CONNECTION_BUSY);
	return job;
}

void
worker_refuse_request(struct connection *connection)
{
	struct job *job = read_request(connection);

	if (job == NULL)
		return;
	app_metrics_overloaded(&connection->worker->app);
	answer_overloaded(job);
}

void
worker_start_request(struct connection *connection)
{
	struct worker *worker = connection->worker;
	struct job *job = read_request(connection);

	if (job == NULL)
		return;
	if (!fiber_start(worker->fibers, run_job, ended, job)) { /* no memory for a stack */
		answer_overloaded(job);
		return;
	}
	worker->in_flight++;
	worker_update_gauges(worker);
}

void
worker_free_spare_jobs(struct worker *worker)
{
	while (worker->spare_jobs != NULL) {
		struct job *job = worker->spare_jobs;

		worker->spare_jobs = job->next;
		arena_close(job->arena);
		free(job);
	}
}
