/* The current user's own connections in one organization. The hot path: two rounds to Redis and one JSON document. */
#include "fcgi/route.h"

#include "common/json_write.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/store_integration.h"

const struct error *
route_integrations_list(struct request *request, struct response *response)
{
	struct json_write *json;
	struct integration *integrations;
	const struct error *error;
	size_t count;

	error = store_integration_list(&request->task, request->task.connection_key.organization,
				       request->task.connection_key.user, &request->prefetched, &integrations, &count);
	if (error != NULL)
		return error;
	json = json_write_open(request->task.arena, RESPONSE_BODY_MAX);
	json_write_object(json, NULL);
	json_write_array(json, "integrations");
	for (size_t i = 0; i < count; i++)
		response_record(json, NULL, &integrations[i]);
	json_write_array_end(json);
	json_write_object_end(json);
	return response_json(response, json);
}
