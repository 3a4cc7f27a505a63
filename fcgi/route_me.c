/* What the pages ask first: who am I, and what can be connected here. */
#include "fcgi/route.h"

#include "common/json_write.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/provider.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/store_session.h"

const struct error *
route_me(struct request *request, struct response *response)
{
	const struct session *session = &request->session;
	struct json_write *json = json_write_open(request->task.arena, RESPONSE_BODY_MAX);

	(void)request->task.app;
	json_write_object(json, NULL);
	json_write_string(json, "user_id", session->user);
	json_write_string(json, "email", session->email);
	json_write_string(json, "name", session->name);
	json_write_array(json, "organizations");
	for (size_t i = 0; i < session->organization_count; i++) {
		json_write_object(json, NULL);
		json_write_string(json, "id", session->organizations[i].id);
		json_write_string(json, "role", session->organizations[i].role);
		json_write_object_end(json);
	}
	json_write_array_end(json);
	json_write_object_end(json);
	return response_json(response, json);
}

static void
write_service(struct json_write *json, const struct provider *provider)
{
	json_write_object(json, NULL);
	json_write_string(json, "service", provider->service);
	json_write_string(json, "name", provider->name);
	json_write_string(json, "description", provider->description);
	json_write_words(json, "scopes", &provider->all_scopes);
	json_write_array(json, "mcps");
	for (size_t i = 0; i < provider->mcp_count; i++) {
		json_write_object(json, NULL);
		json_write_string(json, "mcp", provider->mcps[i].mcp);
		json_write_string(json, "name", provider->mcps[i].name);
		json_write_string(json, "description", provider->mcps[i].description);
		json_write_words(json, "scopes", &provider->mcps[i].scopes);
		json_write_object_end(json);
	}
	json_write_array_end(json);
	json_write_object_end(json);
}

const struct error *
route_services(struct request *request, struct response *response)
{
	struct json_write *json = json_write_open(request->task.arena, RESPONSE_BODY_MAX);

	json_write_object(json, NULL);
	json_write_array(json, "services");
	for (size_t i = 0; i < request->task.app->config->provider_count; i++)
		write_service(json, request->task.app->config->providers[i]);
	json_write_array_end(json);
	json_write_object_end(json);
	return response_json(response, json);
}
