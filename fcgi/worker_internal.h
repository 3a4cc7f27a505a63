/*
 * A worker as its own files see it, and only they: worker.c starts and ends it, worker_connections.c has its
 * connections, worker_requests.c what comes over them.
 */
#ifndef FCGI_WORKER_INTERNAL_H
#define FCGI_WORKER_INTERNAL_H

#include "fcgi/worker.h"

#include "fcgi/app.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fibers;
struct fastcgi;
struct loop_hook;
struct loop_io;
struct loop_signal;
struct loop_timer;

/* The first chunk of a request's arena: a token needs some eight thousand bytes, a list half of that. */
#define WORKER_ARENA_FIRST ((size_t)10 * 1024)
#define WORKER_ARENA_MAX ((size_t)1024 * 1024)

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
	struct fastcgi *fastcgi;
	enum connection_state state;
	bool gone;                          /* the peer closed while its request ran: the answer is dropped */
	int64_t since_ms;                   /* in this state */
	struct connection *next, *previous; /* in the list of its state: partial or waiting */
};

struct list {
	struct connection *first, *last;
	size_t count;
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
	struct job *spare_jobs;  /* for requests to come */
	size_t spare_count;
	size_t connections;
	size_t in_flight;
	bool draining;
	uint64_t log_dropped;
	int memory_fd; /* opened before the sandbox, which has no /proc */
};

/* ---- worker_connections.c ---- */

void worker_set_state(struct connection *connection, enum connection_state state);
void worker_close_connection(struct connection *connection);
void worker_update_gauges(struct worker *worker);

/* Start what waits, as far as MAX_IN_FLIGHT allows. */
void worker_start_waiting(struct worker *worker);

/* Take one connection from the listening socket. False when none waits, or it cannot be accepted. */
bool worker_accept_one(struct worker *worker);

/* For the loop; `worker` is one. */
void worker_listen_ready(void *worker, int events);
void worker_listen_again(void *worker);
void worker_look_at_partial(void *worker);
void worker_look_at_waiting(void *worker);

/* ---- worker_requests.c ---- */

/* Read the request that waits whole in the socket, and run it on a fiber of its own. */
void worker_start_request(struct connection *connection);

/* Read it and answer 503. */
void worker_refuse_request(struct connection *connection);

void worker_free_spare_jobs(struct worker *worker);

/* The last connection of a draining worker has ended: stop when Redis has what was sent to it without waiting. */
void worker_end(struct worker *worker);

#endif
