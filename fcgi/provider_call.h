/* One call to a provider: sent, timed, counted by outcome, and logged where it failed. */
#ifndef FCGI_PROVIDER_CALL_H
#define FCGI_PROVIDER_CALL_H

#include "common/http.h"
#include "fcgi/app_metrics.h"

#include <stddef.h>

struct error;
struct task;

/* For a provider's answer of usual size and all that is done with it: a request that has asked for tokens must be
 * able to keep them. */
#define PROVIDER_ANSWER_MEMORY ((size_t)64 * 1024)

/*
 * Send `call` (its deadline is cut to the task's own) to `endpoint` of the task's provider and park until the answer is
 * there. NULL when there is an answer, whatever its status; error_provider_unreachable otherwise.
 */
const struct error *provider_call(struct task *task, enum provider_endpoint endpoint, struct http_request *call,
				  struct http_response *response);

/* Log that an answer was not what was wanted: the endpoint, the status, and `what` (a fixed text, never the
 * provider's). */
void provider_complain(const struct task *task, enum provider_endpoint endpoint, long status, const char *what,
		       const char *action);

#endif
