/*
 * The worker processes as their parent sees them: started, replaced with backoff when they die, replaced one by one on
 * a reload, drained and ended.
 */
#ifndef FCGI_SUPERVISOR_H
#define FCGI_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct app_metrics;
struct config;
struct metrics;

#define SUPERVISOR_SLOTS 128 /* workers at once, those that drain counted */

enum child_state { CHILD_NONE, CHILD_SERVING, CHILD_DRAINING };

struct child {
	pid_t pid;
	enum child_state state;
	unsigned place; /* which of the WORKERS it is */
	int64_t started_ms;
	bool killed; /* by us, after our patience */
};

/* One of the WORKERS places, whichever process holds it. */
struct place {
	int64_t start_at_ms; /* -1: a worker serves there */
	int64_t backoff_ms;
};

struct supervisor {
	const struct config *config; /* of workers to be started */
	struct metrics *metrics;     /* with SUPERVISOR_SLOTS slots */
	const struct app_metrics *app_metrics;
	int listen_fd;
	struct child children[SUPERVISOR_SLOTS]; /* index: slot of the metrics */
	struct place places[SUPERVISOR_SLOTS];
	unsigned place_count;
};

/* Start what is due; milliseconds until the next is, or -1. */
int supervisor_start_due(struct supervisor *supervisor);

/* After SIGCHLD: take note of those that ended. */
void supervisor_reap(struct supervisor *supervisor);

/* Put a worker with workers->config in every place; each old one drains when its successor serves. */
void supervisor_replace_all(struct supervisor *supervisor);

/* Worker processes that have not ended. */
size_t supervisor_count(const struct supervisor *supervisor);

/* Tell all to serve what they have and end; and without patience. */
void supervisor_drain_all(struct supervisor *supervisor);
void supervisor_kill_all(struct supervisor *supervisor);

#endif
