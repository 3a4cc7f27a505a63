/* Ask the provider about a stored connection, and store what it says. */
#include "fcgi/route.h"

#include "common/json_write.h"
#include "common/text.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/store_limit.h"
#include "fcgi/tokens_validate.h"

const struct error *
route_validate(struct request *request, struct response *response)
{
	struct json_write *json;
	struct integration record;
	const struct error *error;
	bool found = false;

	error = store_limit_count(&request->task, "validate", request->task.app->config->limit_validate,
				  &request->retry_after);
	if (error != NULL)
		return error;
	if (request->retry_after > 0)
		return &error_rate_limited;
	error = tokens_validate(&request->task, &record, &found);
	if (error != NULL)
		return error;
	if (!found)
		return &error_integration_not_found;
	json = json_write_open(request->task.arena, RESPONSE_BODY_MAX);
	json_write_object(json, NULL);
	json_write_bool(json, "is_valid", text_equal(record.status, "valid"));
	response_record(json, "integration", &record);
	json_write_object_end(json);
	return response_json(response, json);
}
