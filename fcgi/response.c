/* Answers are built whole in memory: one write, with Content-Length, so that nothing is ever half an answer. */
#include "fcgi/response.h"

#include "common/arena.h"
#include "common/json_write.h"
#include "fcgi/api_error.h"
#include "fcgi/request.h"
#include "fcgi/store_integration.h"

#include <stdlib.h>
#include <string.h>

#define PROBLEM_MAX (16 * 1024) /* two e-mail addresses, three times each, every byte of them escaped */

void
response_init(struct response *response, struct arena *arena)
{
	memset(response, 0, sizeof *response);
	response->arena = arena;
	response->status = 200;
	response->body = "";
}

const struct error *
response_header(struct response *response, const char *name, const char *value)
{
	for (const unsigned char *c = (const unsigned char *)value; *c != '\0'; c++) {
		if (*c < 0x20 || *c == 0x7f)
			return &error_internal;
	}
	if (response->header_count == RESPONSE_HEADERS_MAX)
		return &error_internal;
	response->headers[response->header_count].name = name;
	response->headers[response->header_count].value = value;
	response->header_count++;
	return NULL;
}

const struct error *
response_json(struct response *response, struct json_write *json)
{
	size_t len;
	const char *body = json_write_finish(json, &len);

	if (body == NULL)
		return &error_internal;
	response->content_type = "application/json";
	response->body = body;
	response->body_len = len;
	return NULL;
}

void
response_record(struct json_write *json, const char *key, const struct integration *integration)
{
	json_write_object(json, key);
	json_write_string(json, "id", integration->id);
	json_write_string(json, "organization_id", integration->connection_key.organization);
	json_write_string(json, "user_id", integration->connection_key.user);
	json_write_string(json, "service", integration->connection_key.service);
	json_write_string(json, "status", integration->status);
	json_write_string(json, "status_reason", integration->status_reason);
	json_write_string(json, "oauth_user_id", integration->oauth_user_id);
	json_write_string(json, "oauth_email", integration->oauth_email);
	json_write_words(json, "scopes", &integration->scopes);
	json_write_words(json, "missing_scopes", &integration->missing_scopes);
	json_write_string(json, "connected_at", integration->connected_at);
	json_write_string(json, "updated_at", integration->updated_at);
	json_write_string(json, "validated_at", integration->validated_at);
	json_write_object_end(json);
}

static int64_t
retry_after(const struct request *request, const struct error *error)
{
	if (request->retry_after > 0)
		return request->retry_after;
	return error == &error_overloaded || error == &error_store_unavailable || error == &error_rate_limited ? 1 : 0;
}

static void
write_accounts(struct json_write *json, const struct request *request)
{
	for (size_t i = 0; i < sizeof request->account / sizeof request->account[0]; i++) {
		if (request->account[i].name == NULL)
			continue;
		json_write_object(json, request->account[i].name);
		json_write_string(json, "oauth_user_id", request->account[i].oauth_user_id);
		json_write_string(json, "oauth_email", request->account[i].oauth_email);
		json_write_object_end(json);
	}
}

void
response_problem(struct response *response, const struct request *request, const struct error *error)
{
	struct arena *arena = request->task.arena;
	struct json_write *json = json_write_open(arena, PROBLEM_MAX);
	int64_t seconds = retry_after(request, error);

	response_init(response, arena);
	response->status = error->status;
	json_write_object(json, NULL);
	json_write_string(json, "type", arena_format(arena, "urn:integrations:%s", error->code));
	json_write_string(json, "title", error->title);
	json_write_number(json, "status", error->status);
	json_write_string(json, "detail", request->detail != NULL ? request->detail : error->detail);
	json_write_string(json, "code", error->code);
	json_write_string(json, "request_id", request->task.request_id);
	for (size_t i = 0; i < sizeof request->extension / sizeof request->extension[0]; i++) {
		if (request->extension[i].name != NULL && request->extension[i].value != NULL)
			json_write_string(json, request->extension[i].name, request->extension[i].value);
	}
	write_accounts(json, request);
	json_write_object_end(json);
	if (response_json(response, json) != NULL) {
		response->body = "";
		response->body_len = 0;
	}
	response->content_type = "application/problem+json";
	if (error == &error_unauthenticated)
		(void)response_header(response, "WWW-Authenticate", "Bearer");
	if (error == &error_method_not_allowed && request->allow != NULL)
		(void)response_header(response, "Allow", request->allow);
	if (seconds > 0)
		(void)response_header(response, "Retry-After", arena_format(arena, "%lld", (long long)seconds));
}
