/* Labels are bounded: route patterns, methods, statuses that we answer, endpoints; never an id of anybody. */
#include "fcgi/series.h"

#include "common/metrics.h"
#include "common/redis.h"
#include "common/text.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/provider.h"
#include "fcgi/router.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int statuses[] = {200, 400, 401, 403, 404, 405, 409, 413, 415, 421, 422, 429, 500, 502, 503};
static const char *const method_names[] = {"GET", "HEAD", "POST", "DELETE", "other"};
static const char *const endpoint_names[] = {"exchange", "refresh", "revoke", "userinfo", "keys"};
static const char *const outcome_names[] = {"ok", "refused", "unreachable"};
static const char *const bound_names[] = {"connection", "caller", "all"};

#define STATUS_COUNT (sizeof statuses / sizeof statuses[0])
#define METHOD_COUNT (METHOD_OTHER + 1)

struct app_metrics {
	size_t *requests;  /* [route][method][status] */
	size_t *durations; /* [route] */
	size_t provider[ENDPOINT_COUNT][OUTCOME_COUNT];
	size_t provider_duration[ENDPOINT_COUNT];
	size_t overloaded;
	size_t wait_refused[WAITS_BOUND_COUNT];
	size_t event_lost;
	size_t split_count;
	struct {
		char *mcp; /* NULL, the last: the API proxy, and what came with a reload */
		size_t series;
	} * split;
	size_t log_dropped;
	struct app_gauges gauges;
};

/* A pattern with two methods has two routes, one after the other, and its series once. */
static bool
has_series_of_previous(size_t route)
{
	return route > 0 && strcmp(router_name(route), router_name(route - 1)) == 0;
}

static void
register_requests(struct app_metrics *series, struct metrics *metrics)
{
	char labels[256];

	for (size_t route = 0; route < router_count(); route++) {
		size_t at = route * METHOD_COUNT * STATUS_COUNT;

		if (has_series_of_previous(route)) {
			memcpy(series->requests + at, series->requests + at - METHOD_COUNT * STATUS_COUNT,
			       METHOD_COUNT * STATUS_COUNT * sizeof *series->requests);
			continue;
		}
		for (size_t method = 0; method < METHOD_COUNT; method++) {
			for (size_t status = 0; status < STATUS_COUNT; status++) {
				snprintf(labels, sizeof labels, "route=\"%s\",method=\"%s\",status=\"%d\"",
					 router_name(route), method_names[method], statuses[status]);
				series->requests[at++] =
				    metrics_counter(metrics, "integrations_http_requests_total",
						    "Requests by route, method and status.", labels);
			}
		}
	}
	for (size_t route = 0; route < router_count(); route++) {
		if (has_series_of_previous(route)) {
			series->durations[route] = series->durations[route - 1];
			continue;
		}
		snprintf(labels, sizeof labels, "route=\"%s\"", router_name(route));
		series->durations[route] =
		    metrics_histogram(metrics, "integrations_http_request_duration_seconds",
				      "Time from reading a request to its answer, by route.", labels);
	}
}

static void
register_provider(struct app_metrics *series, struct metrics *metrics)
{
	char labels[128];

	for (size_t endpoint = 0; endpoint < ENDPOINT_COUNT; endpoint++) {
		for (size_t outcome = 0; outcome < OUTCOME_COUNT; outcome++) {
			snprintf(labels, sizeof labels, "endpoint=\"%s\",outcome=\"%s\"", endpoint_names[endpoint],
				 outcome_names[outcome]);
			series->provider[endpoint][outcome] =
			    metrics_counter(metrics, "integrations_provider_requests_total",
					    "Calls to providers by endpoint and outcome.", labels);
		}
	}
	for (size_t endpoint = 0; endpoint < ENDPOINT_COUNT; endpoint++) {
		snprintf(labels, sizeof labels, "endpoint=\"%s\"", endpoint_names[endpoint]);
		series->provider_duration[endpoint] =
		    metrics_histogram(metrics, "integrations_provider_request_duration_seconds",
				      "Duration of calls to providers, by endpoint.", labels);
	}
	for (size_t bound = 0; bound < WAITS_BOUND_COUNT; bound++) {
		snprintf(labels, sizeof labels, "reason=\"%s\"", bound_names[bound]);
		series->wait_refused[bound] =
		    metrics_counter(metrics, "integrations_provider_waits_refused_total",
				    "Requests refused because too many wait for a provider.", labels);
	}
}

/* One series for each MCP that the settings have at the start, and one for all else. */
static bool
register_split_answers(struct app_metrics *series, struct metrics *metrics, const struct config *config)
{
	size_t count = 1;
	char labels[128];

	for (size_t i = 0; config != NULL && i < config->provider_count; i++)
		count += config->providers[i]->mcp_count;
	series->split = calloc(count, sizeof *series->split);
	if (series->split == NULL)
		return false;
	for (size_t i = 0; config != NULL && i < config->provider_count; i++) {
		for (size_t j = 0; j < config->providers[i]->mcp_count; j++) {
			char *mcp = strdup(config->providers[i]->mcps[j].mcp);

			if (mcp == NULL)
				return false;
			series->split[series->split_count++].mcp = mcp;
		}
	}
	series->split_count++;
	for (size_t i = 0; i < series->split_count; i++) {
		const char *mcp = series->split[i].mcp;

		snprintf(labels, sizeof labels, "mcp=\"%s\"", mcp != NULL ? mcp : "other");
		series->split[i].series =
		    metrics_counter(metrics, "integrations_gateway_split_answers_total",
				    "Answers of upstreams without a final status, dropped.", labels);
	}
	return true;
}

struct app_metrics *
series_open(struct metrics *metrics, const struct config *config)
{
	struct app_metrics *series = calloc(1, sizeof *series);

	if (series == NULL)
		return NULL;
	series->requests = calloc(router_count() * METHOD_COUNT * STATUS_COUNT, sizeof(size_t));
	series->durations = calloc(router_count(), sizeof(size_t));
	if (series->requests == NULL || series->durations == NULL || !register_split_answers(series, metrics, config)) {
		series_close(series);
		return NULL;
	}
	series->gauges.ready = metrics_gauge(metrics, "integrations_workers", "Worker processes that serve.", "");
	series->gauges.connections =
	    metrics_gauge(metrics, "integrations_connections", "FastCGI connections held by workers.", "");
	series->gauges.in_flight =
	    metrics_gauge(metrics, "integrations_http_requests_in_flight", "Requests being worked on.", "");
	series->gauges.waiting =
	    metrics_gauge(metrics, "integrations_http_requests_waiting", "Requests waiting unread for their turn.", "");
	series->gauges.memory = metrics_gauge(metrics, "integrations_worker_memory_bytes",
					      "Memory of the workers (proportional set size).", "");
	register_requests(series, metrics);
	register_provider(series, metrics);
	redis_register_metrics(metrics);
	series->overloaded =
	    metrics_counter(metrics, "integrations_overloaded_total", "Requests answered 503 after waiting.", "");
	series->event_lost =
	    metrics_counter(metrics, "integrations_events_lost_total", "Audit entries that could not be written.", "");
	series->log_dropped =
	    metrics_counter(metrics, "integrations_log_lines_dropped_total", "Log lines that stderr did not take.", "");
	return series;
}

void
series_close(struct app_metrics *series)
{
	if (series == NULL)
		return;
	for (size_t i = 0; i < series->split_count; i++)
		free(series->split[i].mcp);
	free(series->split);
	free(series->requests);
	free(series->durations);
	free(series);
}

const struct app_gauges *
series_gauges(const struct app_metrics *series)
{
	return &series->gauges;
}

const char *
series_endpoint_name(enum provider_endpoint endpoint)
{
	return endpoint_names[endpoint];
}

void
series_request(struct app *app, size_t route, enum method method, int status, int64_t microseconds)
{
	const struct app_metrics *series = app->series;
	size_t at = STATUS_COUNT - 1;

	for (size_t i = 0; i < STATUS_COUNT; i++) {
		if (statuses[i] == status) {
			at = i;
			break;
		}
	}
	metrics_add(app->metrics, series->requests[(route * METHOD_COUNT + (size_t)method) * STATUS_COUNT + at], 1);
	metrics_observe_us(app->metrics, series->durations[route], microseconds);
}

void
series_provider_call(struct app *app, enum provider_endpoint endpoint, enum provider_outcome outcome,
		     int64_t microseconds)
{
	if (app->metrics == NULL)
		return;
	metrics_add(app->metrics, app->series->provider[endpoint][outcome], 1);
	metrics_observe_us(app->metrics, app->series->provider_duration[endpoint], microseconds);
}

void
series_overloaded(struct app *app)
{
	metrics_add(app->metrics, app->series->overloaded, 1);
}

void
series_wait_refused(struct app *app, enum waits_bound bound)
{
	if (app->metrics != NULL)
		metrics_add(app->metrics, app->series->wait_refused[bound], 1);
}

void
series_event_lost(struct app *app)
{
	if (app->metrics != NULL)
		metrics_add(app->metrics, app->series->event_lost, 1);
}

void
series_split_answer(struct app *app, const char *mcp)
{
	const struct app_metrics *series = app->series;
	size_t i = 0;

	while (i + 1 < series->split_count && !text_equal(series->split[i].mcp, mcp))
		i++;
	metrics_add(app->metrics, series->split[i].series, 1);
}

void
series_log_dropped(struct app *app, uint64_t lines)
{
	metrics_add(app->metrics, app->series->log_dropped, lines);
}
