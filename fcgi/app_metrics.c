/* Labels are bounded: route patterns, methods, statuses that we answer, endpoints; never an id of a person. */
#include "fcgi/app_metrics.h"

#include "common/metrics.h"
#include "common/redis.h"
#include "common/text.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const endpoint_names[] = {"exchange", "refresh", "revoke", "userinfo", "keys"};
static const char *const outcome_names[] = {"ok", "refused", "unreachable"};
static const char *const bound_names[] = {"connection", "caller", "all"};

#define METHOD_COUNT (METHOD_OTHER + 1)
#define MCP_SIZE 33 /* text_is_name */

/* Of one MCP; the last one, "other", is the API proxy, and what came with a reload. */
struct split_answers {
	char mcp[MCP_SIZE];
	size_t counter;
};

struct app_metrics {
	size_t *requests;  /* [route][method][status] */
	size_t *durations; /* [route] */
	size_t provider[ENDPOINT_COUNT][OUTCOME_COUNT];
	size_t provider_duration[ENDPOINT_COUNT];
	size_t overloaded;
	size_t wait_refused[WAITS_BOUND_COUNT];
	size_t event_lost;
	size_t split_count;
	struct split_answers *split;
	size_t log_dropped;
	struct app_gauges gauges;
};

/* A pattern with two methods has two routes, one after the other, and its series once. */
static bool
has_series_of_previous(app_metrics_route_name *name, size_t route)
{
	return route > 0 && strcmp(name(route), name(route - 1)) == 0;
}

static void
register_requests(struct app_metrics *app_metrics, struct metrics *metrics, size_t routes, app_metrics_route_name *name)
{
	char labels[256];

	for (size_t route = 0; route < routes; route++) {
		size_t at = route * METHOD_COUNT * API_STATUS_COUNT;

		if (has_series_of_previous(name, route)) {
			memcpy(app_metrics->requests + at, app_metrics->requests + at - METHOD_COUNT * API_STATUS_COUNT,
			       METHOD_COUNT * API_STATUS_COUNT * sizeof *app_metrics->requests);
			continue;
		}
		for (size_t method = 0; method < METHOD_COUNT; method++) {
			for (size_t status = 0; status < API_STATUS_COUNT; status++) {
				snprintf(labels, sizeof labels, "route=\"%s\",method=\"%s\",status=\"%d\"", name(route),
					 request_method_name((enum method)method), api_statuses[status].status);
				app_metrics->requests[at++] =
				    metrics_counter(metrics, "integrations_http_requests_total",
						    "Requests by route, method and status.", labels);
			}
		}
	}
	for (size_t route = 0; route < routes; route++) {
		if (has_series_of_previous(name, route)) {
			app_metrics->durations[route] = app_metrics->durations[route - 1];
			continue;
		}
		snprintf(labels, sizeof labels, "route=\"%s\"", name(route));
		app_metrics->durations[route] =
		    metrics_histogram(metrics, "integrations_http_request_duration_seconds",
				      "Time from reading a request to its answer, by route.", labels);
	}
}

static void
register_provider(struct app_metrics *app_metrics, struct metrics *metrics)
{
	char labels[128];

	for (size_t endpoint = 0; endpoint < ENDPOINT_COUNT; endpoint++) {
		for (size_t outcome = 0; outcome < OUTCOME_COUNT; outcome++) {
			snprintf(labels, sizeof labels, "endpoint=\"%s\",outcome=\"%s\"", endpoint_names[endpoint],
				 outcome_names[outcome]);
			app_metrics->provider[endpoint][outcome] =
			    metrics_counter(metrics, "integrations_provider_requests_total",
					    "Calls to providers by endpoint and outcome.", labels);
		}
	}
	for (size_t endpoint = 0; endpoint < ENDPOINT_COUNT; endpoint++) {
		snprintf(labels, sizeof labels, "endpoint=\"%s\"", endpoint_names[endpoint]);
		app_metrics->provider_duration[endpoint] =
		    metrics_histogram(metrics, "integrations_provider_request_duration_seconds",
				      "Duration of calls to providers, by endpoint.", labels);
	}
	for (size_t bound = 0; bound < WAITS_BOUND_COUNT; bound++) {
		snprintf(labels, sizeof labels, "reason=\"%s\"", bound_names[bound]);
		app_metrics->wait_refused[bound] =
		    metrics_counter(metrics, "integrations_provider_waits_refused_total",
				    "Requests refused because too many wait for a provider.", labels);
	}
}

/* One series for each MCP that the settings have at the start, and one for all else. */
static bool
register_split_answers(struct app_metrics *app_metrics, struct metrics *metrics, const struct config *config)
{
	size_t count = 1;
	char labels[128];

	for (size_t i = 0; config != NULL && i < config->provider_count; i++)
		count += config->providers[i]->mcp_count;
	app_metrics->split = calloc(count, sizeof *app_metrics->split);
	if (app_metrics->split == NULL)
		return false;
	for (size_t i = 0; config != NULL && i < config->provider_count; i++) {
		for (size_t j = 0; j < config->providers[i]->mcp_count; j++) {
			snprintf(app_metrics->split[app_metrics->split_count++].mcp, MCP_SIZE, "%s",
				 config->providers[i]->mcps[j].mcp);
		}
	}
	snprintf(app_metrics->split[app_metrics->split_count++].mcp, MCP_SIZE, "other");
	for (size_t i = 0; i < app_metrics->split_count; i++) {
		snprintf(labels, sizeof labels, "mcp=\"%s\"", app_metrics->split[i].mcp);
		app_metrics->split[i].counter =
		    metrics_counter(metrics, "integrations_gateway_split_answers_total",
				    "Answers of upstreams without a final status, dropped.", labels);
	}
	return true;
}

struct app_metrics *
app_metrics_open(struct metrics *metrics, const struct config *config, size_t routes, app_metrics_route_name *name)
{
	struct app_metrics *app_metrics = calloc(1, sizeof *app_metrics);

	if (app_metrics == NULL)
		return NULL;
	app_metrics->requests = calloc((routes + 1) * METHOD_COUNT * API_STATUS_COUNT, sizeof(size_t));
	app_metrics->durations = calloc(routes + 1, sizeof(size_t));
	if (app_metrics->requests == NULL || app_metrics->durations == NULL ||
	    !register_split_answers(app_metrics, metrics, config)) {
		app_metrics_close(app_metrics);
		return NULL;
	}
	app_metrics->gauges.ready = metrics_gauge(metrics, "integrations_workers", "Worker processes that serve.", "");
	app_metrics->gauges.connections =
	    metrics_gauge(metrics, "integrations_connections", "FastCGI connections held by workers.", "");
	app_metrics->gauges.in_flight =
	    metrics_gauge(metrics, "integrations_http_requests_in_flight", "Requests being worked on.", "");
	app_metrics->gauges.waiting =
	    metrics_gauge(metrics, "integrations_http_requests_waiting", "Requests waiting unread for their turn.", "");
	app_metrics->gauges.memory = metrics_gauge(metrics, "integrations_worker_memory_bytes",
						   "Memory of the workers (proportional set size).", "");
	register_requests(app_metrics, metrics, routes, name);
	register_provider(app_metrics, metrics);
	redis_register_metrics(metrics);
	app_metrics->overloaded =
	    metrics_counter(metrics, "integrations_overloaded_total", "Requests answered 503 after waiting.", "");
	app_metrics->event_lost =
	    metrics_counter(metrics, "integrations_events_lost_total", "Audit entries that could not be written.", "");
	app_metrics->log_dropped =
	    metrics_counter(metrics, "integrations_log_lines_dropped_total", "Log lines that stderr did not take.", "");
	return app_metrics;
}

void
app_metrics_close(struct app_metrics *app_metrics)
{
	if (app_metrics == NULL)
		return;
	free(app_metrics->split);
	free(app_metrics->requests);
	free(app_metrics->durations);
	free(app_metrics);
}

const struct app_gauges *
app_metrics_gauges(const struct app_metrics *app_metrics)
{
	return &app_metrics->gauges;
}

const char *
app_metrics_endpoint_name(enum provider_endpoint endpoint)
{
	return endpoint_names[endpoint];
}

void
app_metrics_request(struct app *app, size_t route, enum method method, int status, int64_t microseconds)
{
	const struct app_metrics *app_metrics = app->app_metrics;

	metrics_add(app->metrics,
		    app_metrics->requests[(route * METHOD_COUNT + (size_t)method) * API_STATUS_COUNT +
					  api_status_index(status)],
		    1);
	metrics_observe_us(app->metrics, app_metrics->durations[route], microseconds);
}

void
app_metrics_provider_call(struct app *app, enum provider_endpoint endpoint, enum provider_outcome outcome,
			  int64_t microseconds)
{
	if (app->metrics == NULL)
		return;
	metrics_add(app->metrics, app->app_metrics->provider[endpoint][outcome], 1);
	metrics_observe_us(app->metrics, app->app_metrics->provider_duration[endpoint], microseconds);
}

void
app_metrics_overloaded(struct app *app)
{
	metrics_add(app->metrics, app->app_metrics->overloaded, 1);
}

void
app_metrics_wait_refused(struct app *app, enum waits_bound bound)
{
	if (app->metrics != NULL)
		metrics_add(app->metrics, app->app_metrics->wait_refused[bound], 1);
}

void
app_metrics_event_lost(struct app *app)
{
	if (app->metrics != NULL)
		metrics_add(app->metrics, app->app_metrics->event_lost, 1);
}

void
app_metrics_split_answer(struct app *app, const char *mcp)
{
	const struct app_metrics *app_metrics = app->app_metrics;
	size_t i = 0;

	while (i + 1 < app_metrics->split_count && !text_equal(app_metrics->split[i].mcp, mcp))
		i++;
	metrics_add(app->metrics, app_metrics->split[i].counter, 1);
}

void
app_metrics_log_dropped(struct app *app, uint64_t lines)
{
	metrics_add(app->metrics, app->app_metrics->log_dropped, lines);
}
