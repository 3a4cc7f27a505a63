/*
 * The worker processes as their parent sees them: started, replaced with backoff when they die, replaced one by one on
 * a reload, drained and ended.
 */
#ifndef FCGI_WORKERS_H
#define FCGI_WORKERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct app_metrics;
struct config;
struct metrics;

#define WORKERS_SLOTS 128 /* workers at once, those that drain counted */

enum child_state { CHILD_NONE, CHILD_SERVING, CHILD_DRAINING };

struct child {
	pid_t pid;
	enum child_state state;
	unsigned place; /* which of the WORKERS it is */
	int64_t started_ms;
	bool killed; /* by us, after our patience */
};

/* One of the WORKERS places, whoever holds it. */
struct place {
	int64_t start_at_ms; /* -1: a worker serves there */
	int64_t backoff_ms;
};

struct workers {
	const struct config *config; /* of workers to be started */
	struct metrics *metrics;     /* with WORKERS_SLOTS slots */
	const struct app_metrics *series;
	int listen_fd;
	struct child children[WORKERS_SLOTS]; /* index: slot of the metrics */
	struct place places[WORKERS_SLOTS];
	unsigned place_count;
};

/* Start what is due; milliseconds until the next is, or -1. */
int workers_start_due(struct workers *workers);

/* After SIGCHLD: take note of those that ended. */
void workers_reap(struct workers *workers);

/* Put a worker with workers->config in every place; each old one drains when its successor serves. */
void workers_replace_all(struct workers *workers);

/* Worker processes that have not ended. */
size_t workers_count(const struct workers *workers);

/* Tell all to serve what they have and end; and without patience. */
void workers_drain_all(struct workers *workers);
void workers_kill_all(struct workers *workers);

#endif
