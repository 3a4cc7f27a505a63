/*
 * Forget a connection, then revoke it where that hurts no other. What is stored is gone before anything is asked of the
 * provider, so a provider that cannot be reached does not make this fail; the answer says what became of the grant.
 * Sent again after an interruption, it finishes what was left.
 */
#include "fcgi/route.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/json_write.h"
#include "fcgi/api_error.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/store_event.h"
#include "fcgi/tokens_disconnect.h"
#include "fcgi/tokens_revoke.h"

/* When the last token that a program got from here ends, if that is still to come. */
static const char *
access_until(struct arena *arena, const struct credential *credential)
{
	char text[CLOCK_RFC3339_SIZE];

	if (credential->vended_until <= clock_wall())
		return NULL;
	clock_rfc3339(credential->vended_until, text);
	return arena_text(arena, text);
}

const struct error *
route_disconnect(struct request *request, struct response *response)
{
	struct json_write *json = json_write_open(request->task.arena, RESPONSE_BODY_MAX);
	struct disconnect_result result;
	const struct error *error;
	const char *revocation;

	error = tokens_disconnect(&request->task, &result);
	if (error != NULL)
		return error;
	if (!result.found && !result.finished)
		return &error_integration_not_found;
	/* It is deleted: where the store failed after that, the grant counts as used by others and is not revoked. */
	revocation = tokens_revocation(result.revoked, result.use);
	store_event_append(&request->task, "disconnected", revocation);
	json_write_object(json, NULL);
	json_write_string(json, "service", request->task.connection_key.service);
	json_write_string(json, "revocation", revocation);
	json_write_string(json, "access_until",
			  result.revoked ? NULL : access_until(request->task.arena, &result.credential));
	json_write_object_end(json);
	return response_json(response, json);
}
