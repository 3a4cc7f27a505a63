/*
 * Revoking a token at the provider ends every connection that shares its grant (Google: all that this account granted
 * to the whole project). So it is asked first who else uses the grant, and nothing is revoked that still serves; and
 * a request that connects at that moment finds out whether its own grant is still alive.
 */
#include "fcgi/tokens.h"

#include "common/clock.h"
#include "common/error.h"
#include "common/fiber.h"
#include "common/loop.h"
#include "fcgi/app.h"
#include "fcgi/provider.h"
#include "fcgi/provider_call.h"
#include "fcgi/request.h"
#include "fcgi/store_pending_revocation.h"
#include "fcgi/store_shared_grant.h"
#include "fcgi/waits.h"

#include <stddef.h>

#define POLL_MS 50
#define RESERVE_MS 1000 /* of a request's time, for the steps after waiting */

/* True when the token is dead now. *answered is false when it may still come to be. */
static bool
send_revocation(struct app *app, struct request *request, const char *token, bool *answered)
{
	const struct provider *provider = request->provider;
	struct http_request call = {.method = "POST", .url = provider->revocation_endpoint};
	struct http_response response;

	*answered = true;
	if (provider->revocation_endpoint == NULL)
		return false;
	call.body = oauth2_revoke_request(request->arena, &provider->client, token, &call.authorization);
	call.deadline_ms = loop_now_ms(app->loop) + TOKENS_REVOKE_MS;
	*answered = provider_call(app, request, provider, ENDPOINT_REVOKE, &call, &response) == NULL;
	if (!*answered)
		return false;
	if (oauth2_is_revoked(request->arena, response.status, response.body, response.len))
		return true;
	provider_complain(request, provider, ENDPOINT_REVOKE, response.status, "the provider did not revoke a token",
			  "the service keeps nothing of the token; the user can remove access at the provider");
	return false;
}

/* Revoke `token` (NULL: none) where no connection uses the grant. Where it was `stored`, its user does no longer. */
static const struct error *
revoke_unused(struct app *app, struct request *request, const char *issuer, const char *account, bool stored,
	      const char *token, enum grant_use *use, bool *revoked)
{
	struct arena *arena = request->arena;
	const struct connection_key *connection = &request->connection_key;
	const struct error *error;
	const char *owner;
	bool answered = true;

	error = store_shared_grant_revoking(app, arena, issuer, account, &owner);
	if (error == NULL && stored)
		error = store_shared_grant_remove(app, arena, issuer, account, connection);
	if (error == NULL)
		error = store_shared_grant_use(app, arena, issuer, account, connection, use);
	if (error != NULL)
		return error;
	if (*use == GRANT_FREE && token != NULL)
		*revoked = send_revocation(app, request, token, &answered);
	if (answered)
		store_shared_grant_revoking_over(app, arena, issuer, account, owner);
	return NULL;
}

void
tokens_revoke(struct app *app, struct request *request, const char *account, const char *token)
{
	enum grant_use use;
	bool revoked;

	(void)revoke_unused(app, request, request->provider->issuer, account, false, token, &use, &revoked);
}

const struct error *
tokens_grant_release(struct app *app, struct request *request, const struct integration *record,
		     const struct credential *credential, enum grant_use *use, bool *revoked)
{
	const char *issuer = credential->issuer != NULL ? credential->issuer : request->provider->issuer;
	bool known = record->oauth_user_id[0] != '\0'; /* else it is not known who shares the grant */
	const char *token = credential->state == CREDENTIAL_OPEN && known ? credential->refresh_token : NULL;
	const struct error *error;

	*revoked = false;
	*use = GRANT_OTHERS; /* until it is known that none does */
	error = revoke_unused(app, request, issuer, record->oauth_user_id, true, token, use, revoked);
	if (error != NULL)
		*use = GRANT_OTHERS;
	else
		store_pending_revocation_done(app, request->arena, record);
	return error;
}

const char *
tokens_revocation(bool revoked, enum grant_use use)
{
	if (revoked)
		return "revoked";
	return use == GRANT_SAME_USER ? "kept_shared" : "not_revoked";
}

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

enum life { ALIVE, ASK_THE_PROVIDER, CANNOT_TELL };

/* What is known of a grant that was given for the code sent at exchange->sent_us, when no revocation is under way. */
static const struct error *
wait_out(struct app *app, struct request *request, const struct exchange_result *exchange, enum life *life)
{
	const struct provider *provider = request->provider;
	int64_t deadline_ms = loop_now_ms(app->loop) + TOKENS_REVOKE_MS + RESERVE_MS;
	struct grant_revocation last;
	const struct error *error;

	if (deadline_ms > request->deadline_ms - RESERVE_MS)
		deadline_ms = request->deadline_ms - RESERVE_MS;
	for (;;) {
		error = store_shared_grant_revocation(app, request->arena, provider->issuer, exchange->account, &last);
		if (error != NULL || !last.under_way || loop_now_ms(app->loop) >= deadline_ms)
			break;
		fiber_sleep(POLL_MS);
	}
	if (last.under_way)
		*life = CANNOT_TELL;
	else if (last.known && last.age_ms <= (clock_monotonic_us() - exchange->sent_us) / 1000 + 1)
		*life = ASK_THE_PROVIDER;
	else
		*life = ALIVE;
	return error;
}

const struct error *
tokens_recheck(struct app *app, struct request *request, const struct exchange_result *exchange,
	       struct integration *record)
{
	const struct token_options options = {.force = true, .ask_again = true};
	enum token_result result = TOKEN_UNREACHABLE;
	struct credential credential;
	const struct error *error;
	enum life life;
	bool stored;

	error = wait_out(app, request, exchange, &life);
	if (error != NULL || life == ALIVE)
		return error;
	/* A request that took this connection's name out, before it was stored, may not have put it back. */
	error = store_shared_grant_add(app, request->arena, request->provider->issuer, exchange->account,
				       &request->connection_key);
	if (error == NULL && life == ASK_THE_PROVIDER)
		error = tokens_fresh(app, request, &options, record, &credential, &result);
	if (error != NULL || result == TOKEN_GOOD || result == TOKEN_GONE) /* gone: disconnected after we stored it */
		return error;
	if (result != TOKEN_UNREACHABLE && result != TOKEN_CLIENT && result != TOKEN_POLICY)
		return tokens_result_info(result)->error;
	record->status = tokens_result_info(result)->status;
	record->status_reason = tokens_result_info(result)->reason;
	return store_integration_status(app, request->arena, record, false, &stored);
}
