/*
 * Connections are kept, and cheap while idle. A readable one is looked at without reading; when a whole request is
 * there it gets a fiber, if fewer than MAX_IN_FLIGHT run; else it waits unread, and after a second is answered 503.
 *
 * The listening socket is shared by all workers. A worker that already holds clearly more connections than the average
 * lets the others go first for a moment, so that no worker ends up with all kept connections.
 */
#include "fcgi/worker_internal.h"

#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "fcgi/app_metrics.h"
#include "fcgi/config.h"
#include "fcgi/fastcgi.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define WAIT_MS 1000 /* unread, before it is answered 503 */
#define WAIT_LOOK_MS 50
#define PARTIAL_MS 10000  /* for the rest of a request that began to come */
#define PARTIAL_LOOK_MS 5 /* at first; less and less often the longer it takes */
#define PARTIAL_LOOK_MOST_MS 250
#define SPREAD_SLACK 4 /* connections above the average that a worker may hold before it lets others accept */
#define SPREAD_PAUSE_MS 1
#define ACCEPTS_AT_ONCE 256 /* in one turn: a peer here is not counted as waiting, so it may not wait for long */

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

void
worker_set_state(struct connection *connection, enum connection_state state)
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

void
worker_update_gauges(struct worker *worker)
{
	const struct app_gauges *gauges = app_metrics_gauges(worker->settings->app_metrics);
	struct metrics *metrics = worker->settings->metrics;

	metrics_set(metrics, gauges->connections, (int64_t)worker->connections);
	metrics_set(metrics, gauges->in_flight, (int64_t)worker->in_flight);
	metrics_set(metrics, gauges->waiting, (int64_t)worker->waiting.count);
}

void
worker_close_connection(struct connection *connection)
{
	struct worker *worker = connection->worker;

	worker_set_state(connection, CONNECTION_IDLE);
	loop_io_close(connection->io);
	fastcgi_close(connection->fastcgi);
	free(connection);
	worker->connections--;
	worker_update_gauges(worker);
	if (worker->draining && worker->connections == 0)
		worker_end(worker);
}

/* ---- those whose request waits ---- */

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

void
worker_start_waiting(struct worker *worker)
{
	while (worker->waiting.first != NULL && !is_full(worker))
		worker_start_request(take_waiting(worker));
}

void
worker_look_at_waiting(void *arg)
{
	struct worker *worker = arg;
	int64_t now = loop_now_ms(worker->loop);

	worker_start_waiting(worker);
	while (worker->waiting.first != NULL && now - worker->waiting.first->since_ms >= WAIT_MS)
		worker_refuse_request(take_waiting(worker));
	worker_update_gauges(worker);
	if (worker->waiting.first != NULL)
		loop_timer_set(worker->wait_timer, WAIT_LOOK_MS);
}

/* ---- all of them ---- */

static void
look_at_connection(struct connection *connection)
{
	switch (fastcgi_look(connection->fd)) {
	case FASTCGI_EMPTY: break;
	case FASTCGI_PARTIAL:
		worker_set_state(connection, CONNECTION_PARTIAL);
		if (loop_now_ms(connection->worker->loop) - connection->since_ms >= PARTIAL_MS)
			worker_close_connection(connection);
		break;
	case FASTCGI_COMPLETE:
		if (is_full(connection->worker) || connection->worker->waiting.first != NULL) {
			worker_set_state(connection, CONNECTION_WAITING);
			worker_update_gauges(connection->worker);
		} else {
			worker_start_request(connection);
		}
		break;
	case FASTCGI_INVALID:
		log_message(LOG_LEVEL_WARN, "fastcgi_invalid", "a peer on the FastCGI socket sent an invalid request",
			    "check the socket's permissions: only the web server may connect");
		worker_close_connection(connection);
		break;
	case FASTCGI_CLOSED: worker_close_connection(connection); break;
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
	look_at_connection(connection);
}

void
worker_look_at_partial(void *arg)
{
	struct worker *worker = arg;
	struct connection *connection = worker->partial.first;

	while (connection != NULL) {
		struct connection *next = connection->next;

		look_at_connection(connection);
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
	connection->fastcgi = fastcgi_open(fd);
	connection->io = loop_io_open(worker->loop, fd, LOOP_READ, connection_readable, connection);
	if (connection->fastcgi == NULL || connection->io == NULL) {
		loop_io_close(connection->io);
		if (connection->fastcgi != NULL)
			fastcgi_close(connection->fastcgi);
		else
			close(fd);
		free(connection);
		return;
	}
	worker->connections++;
	worker_update_gauges(worker);
	look_at_connection(connection); /* its first request is usually there already */
}

/* Clearly more connections here than on the average worker. */
static bool
has_more_than_its_share(struct worker *worker)
{
	const struct app_gauges *gauges = app_metrics_gauges(worker->settings->app_metrics);
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

/* Take one connection. False when none waits, or it cannot be accepted. */
bool
worker_accept_one(struct worker *worker)
{
	int fd = accept4(worker->settings->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
			log_message(LOG_LEVEL_ERROR, "accept_failed",
				    "the worker has no file descriptor or memory left for a connection",
				    "raise the limit of open files (LimitNOFILE)");
			loop_io_set(worker->listen_io, 0);
			loop_timer_set(worker->listen_timer, 100);
		}
		return false;
	}
	adopt(worker, fd);
	return true;
}

void
worker_listen_ready(void *arg, int events)
{
	struct worker *worker = arg;

	(void)events;
	for (int i = 0; i < ACCEPTS_AT_ONCE; i++) {
		if (has_more_than_its_share(worker)) {
			loop_io_set(worker->listen_io, 0);
			loop_timer_set(worker->listen_timer, SPREAD_PAUSE_MS);
			return;
		}
		if (!worker_accept_one(worker))
			return;
	}
}

void
worker_listen_again(void *arg)
{
	struct worker *worker = arg;

	if (worker->draining)
		return;
	loop_io_set(worker->listen_io, LOOP_READ);
	(void)worker_accept_one(worker); /* no other worker did: better here than late */
}
