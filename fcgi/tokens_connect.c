/*
 * A connection is stored whole or not at all. A stored connection of another account gives way only where the member
 * has said so. A request that revokes the same grant at this moment is waited for, and then the grant is tried.
 */
#include "fcgi/tokens_connect.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/fiber.h"
#include "common/loop.h"
#include "common/random.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/provider.h"
#include "fcgi/request.h"
#include "fcgi/store_event.h"
#include "fcgi/store_integration.h"
#include "fcgi/store_shared_grant.h"
#include "fcgi/store_state.h"
#include "fcgi/tokens_exchange.h"
#include "fcgi/tokens_refresh_once.h"
#include "fcgi/tokens_revoke.h"

#include <stddef.h>

#define POLL_MS 50
#define RESERVE_MS 1000 /* of a request's time, for the steps after waiting */

static void
note_event(struct app *app, struct request *request, const char *event, const char *outcome)
{
	store_event_append(app, request->arena, event, request->actor, &request->connection_key, outcome,
			   request->request_id);
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

/*
 * A connection was stored with `exchange`: make sure that a request that was just revoking the same grant did not kill
 * it. Where that may be, the provider is asked by a refresh; *record is what is stored after that. A dead one is an
 * error; where that is not known, it is stored as `unknown`.
 */
static const struct error *
recheck_grant(struct app *app, struct request *request, const struct exchange_result *exchange,
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

/* May this account take the place of the stored one? */
static bool
may_replace(const struct oauth_state *row, const struct exchange_result *exchange)
{
	return row->replace || text_equal(row->replace_with, exchange->account);
}

/* Both accounts are named to the user whose they are, so that the choice is clear. */
static const struct error *
refuse_account(struct app *app, struct request *request, const struct integration *old,
	       const struct exchange_result *exchange)
{
	const char *stored = old->oauth_email != NULL ? old->oauth_email : old->oauth_user_id;
	const char *chosen = exchange->email != NULL ? exchange->email : exchange->account;

	request->detail =
	    arena_format(request->arena,
			 "You chose %s, but this connection is for %s: choose that account, or replace the "
			 "connection.",
			 chosen, stored);
	request->extension[0].name = "stored_account";
	request->extension[0].value = stored;
	request->extension[1].name = "chosen_account";
	request->extension[1].value = chosen;
	request->account[0].name = "stored";
	request->account[0].oauth_user_id = old->oauth_user_id;
	request->account[0].oauth_email = old->oauth_email;
	request->account[1].name = "offered";
	request->account[1].oauth_user_id = exchange->account;
	request->account[1].oauth_email = exchange->email;
	note_event(app, request, "account_mismatch", "refused");
	return &error_account_mismatch;
}

/* The provider gave no refresh token: the stored one serves on, if it is the same account's and works now. */
static const struct error *
keep_refresh_token(struct app *app, struct request *request, const struct oauth_state *row,
		   const struct exchange_result *exchange, struct integration *integration,
		   struct credential *credential)
{
	const struct token_options options = {.force = true, .ask_again = true, .leave_record = true};
	struct integration record;
	struct credential stored;
	enum token_result result;
	const struct error *error;
	bool found;
	bool barred = false;
	bool done = false;

	/* Another account's connection is not touched, not even to refresh it. */
	error = store_integration_read(app, request->arena, &request->connection_key, &record, &found);
	if (error != NULL)
		return error;
	if (found && !may_replace(row, exchange) && !text_equal(record.oauth_user_id, exchange->account))
		return refuse_account(app, request, &record, exchange);
	if (!found || !text_equal(record.oauth_user_id, exchange->account))
		return &error_offline_access_missing;
	error = tokens_fresh(app, request, &options, &record, &stored, &result);
	if (error != NULL)
		return error;
	if (result == TOKEN_REMOVED)
		return tokens_result_info(result)->error;
	if (result != TOKEN_GOOD || !text_equal(record.oauth_user_id, exchange->account))
		return &error_offline_access_missing;
	integration->id = record.id;
	integration->connected_at = record.connected_at;
	credential->refresh_token = stored.refresh_token;
	credential->vended_until = stored.vended_until;
	error = store_integration_refresh(app, request->arena, request->provider, integration, credential,
					  record.generation, true, &barred, &done);
	if (error == NULL && barred)
		return &error_organization_forbidden;
	if (error == NULL && !done) /* another request changed the connection at this moment */
		error = &error_offline_access_missing;
	return error;
}

static const struct error *
connect_account(struct app *app, struct request *request, const struct oauth_state *row,
		const struct exchange_result *exchange, struct integration *integration, struct credential *credential)
{
	const struct provider *provider = request->provider;
	struct integration old;
	struct credential old_credential;
	enum store_outcome outcome;
	enum grant_use use;
	const struct error *error;
	bool revoked;

	error =
	    store_shared_grant_add(app, request->arena, provider->issuer, exchange->account, &request->connection_key);
	if (error != NULL)
		return error;
	error = store_integration_connect(app, request->arena, provider, integration, credential,
					  may_replace(row, exchange), &outcome, &old, &old_credential);
	if (error != NULL)
		return error;
	switch (outcome) {
	case STORE_CREATED: note_event(app, request, "connected", "ok"); break;
	case STORE_RECONNECTED: note_event(app, request, "reconnected", "ok"); break;
	case STORE_REPLACED:
		/* The new connection stands, whatever becomes of the old grant. */
		(void)tokens_grant_release(app, request, &old, &old_credential, &use, &revoked);
		note_event(app, request, "replaced", tokens_revocation(revoked, use));
		break;
	case STORE_MISMATCH: return refuse_account(app, request, &old, exchange);
	case STORE_REMOVED: return &error_organization_forbidden;
	}
	return recheck_grant(app, request, exchange, integration);
}

const struct error *
tokens_connect(struct app *app, struct request *request, const struct oauth_state *row,
	       const struct exchange_result *exchange, struct integration *integration)
{
	const struct provider *provider = request->provider;
	char now[CLOCK_RFC3339_SIZE];
	struct credential credential = {.state = CREDENTIAL_OPEN,
					.access_token = exchange->tokens.access_token,
					.refresh_token = exchange->tokens.refresh_token,
					.issued_at = exchange->issued_at,
					.expires_at = exchange->issued_at + exchange->tokens.expires_in,
					.issuer = provider->issuer,
					.client_id = provider->client.id};
	const struct error *error;

	clock_rfc3339(clock_wall(), now);
	*integration = (struct integration){.id = random_id(request->arena),
					    .connection_key = request->connection_key,
					    .status = "valid",
					    .oauth_user_id = exchange->account,
					    .oauth_email = exchange->email,
					    .scopes = exchange->scopes,
					    .connected_at = arena_text(request->arena, now),
					    .validated_at = arena_text(request->arena, now)};
	integration->missing_scopes = provider_missing_scopes(request->arena, provider, &exchange->scopes);
	if (provider->mcp_scopes.count > 0 && integration->missing_scopes.count == provider->mcp_scopes.count)
		return &error_scopes_missing;
	if (exchange->tokens.refresh_token != NULL)
		return connect_account(app, request, row, exchange, integration, &credential);
	error = keep_refresh_token(app, request, row, exchange, integration, &credential);
	if (error == NULL)
		note_event(app, request, "reconnected", "ok");
	return error;
}
