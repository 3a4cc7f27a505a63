/* The predefined MCPs and whether each can work for the current user: from the stored records alone. */
#include "fcgi/route.h"

#include "common/json_write.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/provider.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/store_integration.h"

static const struct integration *
find_record(const struct integration *integrations, size_t count, const char *service)
{
	for (size_t i = 0; i < count; i++) {
		if (text_equal(integrations[i].connection_key.service, service))
			return &integrations[i];
	}
	return NULL;
}

static void
write_mcp(struct json_write *json, struct arena *arena, const struct provider *provider, const struct provider_mcp *mcp,
	  const struct integration *record)
{
	struct words wanted = provider_canonical_scopes(arena, provider, &mcp->scopes);
	struct words missing = {0};
	const char *state = "not_connected";

	if (record != NULL) {
		missing = words_minus(arena, &wanted, &record->scopes);
		if (text_equal(record->status, "invalid") || text_equal(record->status_reason, "tokens_unreadable"))
			state = "reconnect_required";
		else
			state = missing.count > 0 ? "missing_scopes" : "ready";
	}
	json_write_object(json, NULL);
	json_write_string(json, "mcp", mcp->mcp);
	json_write_string(json, "name", mcp->name);
	json_write_string(json, "service", provider->service);
	json_write_string(json, "state", state);
	json_write_words(json, "missing_scopes", &missing);
	json_write_string(json, "connect_url", "/integrations");
	json_write_object_end(json);
}

const struct error *
route_mcps(struct request *request, struct response *response)
{
	struct arena *arena = request->task.arena;
	struct json_write *json;
	struct integration *integrations;
	const struct error *error;
	size_t count;

	error = store_integration_list(&request->task, request->task.connection_key.organization,
				       request->task.connection_key.user, &request->prefetched, &integrations, &count);
	if (error != NULL)
		return error;
	json = json_write_open(arena, RESPONSE_BODY_MAX);
	json_write_object(json, NULL);
	json_write_array(json, "mcps");
	for (size_t i = 0; i < request->task.app->config->provider_count; i++) {
		const struct provider *provider = request->task.app->config->providers[i];
		const struct integration *record = find_record(integrations, count, provider->service);

		for (size_t j = 0; j < provider->mcp_count; j++)
			write_mcp(json, arena, provider, &provider->mcps[j], record);
	}
	json_write_array_end(json);
	json_write_object_end(json);
	return response_json(response, json);
}
