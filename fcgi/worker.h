/* A worker process: the loop, its connections, a fiber per request, limits, drain. */
#ifndef FCGI_WORKER_H
#define FCGI_WORKER_H

#include <stddef.h>

struct app_metrics;
struct config;
struct metrics;

struct worker_settings {
	const struct config *config;
	struct metrics *metrics;
	const struct app_metrics *app_metrics;
	size_t slot; /* of the metrics, this worker's own */
	size_t slots;
	int listen_fd; /* in non-blocking mode, shared by all workers */
	int ready_fd;  /* one byte is written to it when the worker serves; -1: none */
};

/*
 * Serve until SIGTERM, then drain: take what already waits at the listening socket, serve the kept connections on until
 * the web server has closed them, at most 20 s. Returns the exit status.
 */
int worker_run(const struct worker_settings *settings);

#endif
