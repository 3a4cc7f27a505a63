/*
 * What is stored goes first, so that nothing is handed out any more, and its grant is pending in Redis until it was
 * dealt with. Whoever disconnects next finishes what an interrupted try has left.
 */
#include "fcgi/tokens_disconnect.h"

#include "common/fiber.h"
#include "common/loop.h"
#include "fcgi/app.h"
#include "fcgi/request.h"
#include "fcgi/store_pending_revocation.h"
#include "fcgi/tokens_revoke.h"
#include "fcgi/waits.h"

#include <stddef.h>

#define POLL_MS 50

/* As tokens_grant_release, also without a provider. */
static const struct error *
release_grant(struct app *app, struct request *request, const struct deleted_connection *deleted,
	      struct disconnect_result *out)
{
	const struct error *error = NULL;

	out->credential = deleted->credential;
	if (request->provider != NULL)
		return tokens_grant_release(app, request, &deleted->record, &deleted->credential, &out->use,
					    &out->revoked);
	if (deleted->credential.issuer != NULL)
		error = store_shared_grant_remove(app, request->arena, deleted->credential.issuer,
						  deleted->record.oauth_user_id, &request->connection_key);
	if (error == NULL)
		store_pending_revocation_done(app, request->arena, &deleted->record);
	return error;
}

/* The connection first, because it decides about the answer, and then those pending, as time allows. */
static void
release_all_grants(struct app *app, struct request *request, const struct deletion *deletion, int64_t last_ms,
		   struct disconnect_result *out)
{
	struct disconnect_result pending = {.use = GRANT_OTHERS};

	if (deletion->found)
		out->error = release_grant(app, request, &deletion->connection, out);
	out->found = out->found || deletion->found;
	out->finished = out->finished || deletion->pending_count > 0;
	for (size_t i = 0; i < deletion->pending_count && out->error == NULL && loop_now_ms(app->loop) < last_ms; i++)
		out->error = release_grant(app, request, &deletion->pending[i], out->found ? &pending : out);
}

const struct error *
tokens_disconnect(struct app *app, struct request *request, struct disconnect_result *out)
{
	int64_t last_ms = request->deadline_ms - TOKENS_REVOKE_MS;
	struct deletion deletion;
	const struct error *error;

	*out = (struct disconnect_result){.use = GRANT_OTHERS};
	error = waits_begin_change(app, request);
	if (error != NULL)
		return error;
	error = store_integration_delete(app, request->arena, request->provider, &request->connection_key, &deletion);
	for (;;) {
		if (error != NULL)
			return out->found || out->finished ? NULL : error;
		release_all_grants(app, request, &deletion, last_ms, out);
		if (!deletion.busy || out->error != NULL || loop_now_ms(app->loop) >= last_ms)
			return NULL;
		/* Another worker is at those pending, or died at it: then they are ours in a moment. */
		fiber_sleep(POLL_MS);
		/* Only those pending: a connection that is there by now was made since. */
		error = store_pending_revocation_take(app, request->arena, request->provider, &request->connection_key,
						      &deletion);
	}
}
