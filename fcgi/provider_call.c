/* The provider's own words stay out of the log: only its status and names from a fixed list are written. */
#include "fcgi/provider_call.h"

#include "common/clock.h"
#include "common/error.h"
#include "common/log.h"
#include "fcgi/app.h"
#include "fcgi/provider.h"
#include "fcgi/task.h"

#include <stddef.h>

void
provider_complain(const struct task *task, enum provider_endpoint endpoint, long status, const char *what,
		  const char *action)
{
	struct log_line line;

	log_begin(&line, LOG_LEVEL_ERROR, "provider_call_failed");
	log_text(&line, "request_id", task->request_id);
	log_text(&line, "service", task->provider->service);
	log_text(&line, "endpoint", app_metrics_endpoint_name(endpoint));
	if (status != 0)
		log_number(&line, "provider_status", status);
	log_text(&line, "message", what);
	log_text(&line, "action", action);
	log_end(&line);
}

const struct error *
provider_call(struct task *task, enum provider_endpoint endpoint, struct http_request *call,
	      struct http_response *response)
{
	int64_t started_us = clock_monotonic_us();
	enum provider_outcome outcome = OUTCOME_OK;
	const struct error *error;
	const char *why = NULL;

	if (call->deadline_ms == 0 || call->deadline_ms > task->deadline_ms)
		call->deadline_ms = task->deadline_ms;
	error = http_send(task->app->http, task->arena, call, response, &why);
	if (error != NULL || response->status >= 500 || response->status == 429)
		outcome = OUTCOME_UNREACHABLE;
	else if (response->status >= 400)
		outcome = OUTCOME_REFUSED;
	app_metrics_provider_call(task->app, endpoint, outcome, clock_monotonic_us() - started_us);
	if (error != NULL)
		provider_complain(task, endpoint, 0, why,
				  "check the network, PROVIDER_CA_FILE and the provider's own status page");
	return error;
}
