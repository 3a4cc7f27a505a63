/*
 * What is stored goes first, so that nothing is handed out any more, and its grant is pending in Redis until it was
 * dealt with. Whoever disconnects next finishes what an interrupted try has left.
 */
#include "fcgi/tokens_disconnect.h"

#include "common/fiber.h"
#include "common/loop.h"
#include "fcgi/app.h"
#include "fcgi/store_pending_revocation.h"
#include "fcgi/task.h"
#include "fcgi/tokens_revoke.h"
#include "fcgi/waits.h"

#include <stddef.h>

#define POLL_MS 50

/* As tokens_grant_release, also without a provider. */
static const struct error *
release_grant(struct task *task, const struct deleted_connection *deleted, struct disconnect_result *out)
{
	const struct error *error = NULL;

	out->credential = deleted->credential;
	if (task->provider != NULL)
		return tokens_grant_release(task, &deleted->record, &deleted->credential, &out->use, &out->revoked);
	if (deleted->credential.issuer != NULL)
		error = store_shared_grant_remove(task, deleted->credential.issuer, deleted->record.oauth_user_id);
	if (error == NULL)
		store_pending_revocation_done(task, &deleted->record);
	return error;
}

/* The connection first, because it decides about the answer, and then those pending, as time allows. */
static void
release_all_grants(struct task *task, const struct deletion *deletion, int64_t last_ms, struct disconnect_result *out)
{
	struct disconnect_result pending = {.use = GRANT_OTHERS};

	if (deletion->found)
		out->error = release_grant(task, &deletion->connection, out);
	out->found = out->found || deletion->found;
	out->finished = out->finished || deletion->pending_count > 0;
	for (size_t i = 0; i < deletion->pending_count && out->error == NULL && loop_now_ms(task->app->loop) < last_ms;
	     i++)
		out->error = release_grant(task, &deletion->pending[i], out->found ? &pending : out);
}

const struct error *
tokens_disconnect(struct task *task, struct disconnect_result *out)
{
	int64_t last_ms = task->deadline_ms - TOKENS_REVOKE_MS;
	struct deletion deletion;
	const struct error *error;

	*out = (struct disconnect_result){.use = GRANT_OTHERS};
	error = waits_begin_change(task);
	if (error != NULL)
		return error;
	error = store_integration_delete(task, &deletion);
	for (;;) {
		if (error != NULL)
			return out->found || out->finished ? NULL : error;
		release_all_grants(task, &deletion, last_ms, out);
		if (!deletion.busy || out->error != NULL || loop_now_ms(task->app->loop) >= last_ms)
			return NULL;
		/* Another worker is at those pending, or died at it: then they are ours in a moment. */
		fiber_sleep(POLL_MS);
		/* Only those pending: a connection that is there by now was made since. */
		error = store_pending_revocation_take(task, &deletion);
	}
}
