/* The program's own metrics: registered once before fork, then counted through these functions (/metrics). */
#ifndef FCGI_APP_METRICS_H
#define FCGI_APP_METRICS_H

#include "fcgi/request.h"

#include <stddef.h>
#include <stdint.h>

struct app;
struct config;
struct metrics;
struct app_metrics;

/* Which bound a request that may not wait was beyond (waits.h). */
enum waits_bound { WAITS_CONNECTION, WAITS_CALLER, WAITS_ALL, WAITS_BOUND_COUNT };

enum provider_endpoint {
	ENDPOINT_EXCHANGE,
	ENDPOINT_REFRESH,
	ENDPOINT_REVOKE,
	ENDPOINT_USERINFO,
	ENDPOINT_KEYS,
	ENDPOINT_COUNT
};

enum provider_outcome {
	OUTCOME_OK,
	OUTCOME_REFUSED,     /* the provider answered, and the answer was no */
	OUTCOME_UNREACHABLE, /* no usable answer */
	OUTCOME_COUNT
};

/* What each worker says of itself, for /metrics; the first two also so that connections are spread evenly. */
struct app_gauges {
	size_t ready; /* 1 while it serves */
	size_t connections;
	size_t in_flight;
	size_t waiting;
	size_t memory;
};

/* The name of route `index`: its path pattern. */
typedef const char *app_metrics_route_name(size_t index);

/*
 * Register everything; before metrics_freeze. `config` names the MCPs, `name` the `routes`; in commands there are none
 * (NULL, 0, NULL). NULL without memory.
 */
struct app_metrics *app_metrics_open(struct metrics *metrics, const struct config *config, size_t routes,
				     app_metrics_route_name *name);
void app_metrics_close(struct app_metrics *app_metrics);

const struct app_gauges *app_metrics_gauges(const struct app_metrics *app_metrics);

/* The short name of a provider endpoint, for logs. */
const char *app_metrics_endpoint_name(enum provider_endpoint endpoint);

void app_metrics_request(struct app *app, size_t route, enum method method, int status, int64_t microseconds);
void app_metrics_provider_call(struct app *app, enum provider_endpoint endpoint, enum provider_outcome outcome,
			       int64_t microseconds);
void app_metrics_overloaded(struct app *app); /* a request that waited too long for its turn */
void app_metrics_wait_refused(struct app *app, enum waits_bound bound);
void app_metrics_event_lost(struct app *app); /* an audit entry that could not be sent */
/* nginx dropped an answer without a final status, of this MCP's upstream; NULL: of the API proxy's. */
void app_metrics_split_answer(struct app *app, const char *mcp);
void app_metrics_log_dropped(struct app *app, uint64_t lines);

#endif
