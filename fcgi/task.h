/*
 * What every step of a piece of work needs, whether a request or a command began it. Each request has one; a command
 * has one, too, and one more for each connection that it works on. Plain data; the arena owns its texts.
 */
#ifndef FCGI_TASK_H
#define FCGI_TASK_H

#include "fcgi/store.h"

#include <stdbool.h>
#include <stdint.h>

struct app;
struct arena;
struct provider;

/* A task's place among those that wait for a provider (waits.h). */
struct wait {
	bool held;
	const struct connection_key *connection; /* NULL: it counts for none */
	const char *waiter;
	struct wait *next;
};

struct task {
	struct app *app;
	struct arena *arena;
	struct connection_key connection_key; /* whose connection it is about; each member NULL until it is known */
	const struct provider *provider;      /* of the connection's service; NULL: none, or one no longer enabled */
	const char *actor; /* for the audit: "user:<id>", "caller:<name>", "agent:<name> for user:<id>", "operator" */
	const char *request_id; /* for log and audit */
	const char *waiter;     /* the caller, or the session, whose waits are counted; NULL: none */
	int64_t deadline_ms;    /* loop_now_ms by which all provider calls and lease waits end */
	struct wait wait;       /* held from waits_begin to waits_end */
};

#endif
