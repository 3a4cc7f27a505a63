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
#include "fcgi/store_event.h"
#include "fcgi/store_integration.h"
#include "fcgi/store_shared_grant.h"
#include "fcgi/store_state.h"
#include "fcgi/task.h"
#include "fcgi/tokens_exchange.h"
#include "fcgi/tokens_refresh_once.h"
#include "fcgi/tokens_revoke.h"

#include <stddef.h>

#define POLL_MS 50
#define RESERVE_MS 1000 /* of a request's time, for the steps after waiting */

enum life { ALIVE, ASK_THE_PROVIDER, CANNOT_TELL };

/* What is known of a grant that was given for the code sent at exchange->sent_us, when no revocation is under way. */
static const struct error *
wait_out(struct task *task, const struct exchange_result *exchange, enum life *life)
{
	const struct provider *provider = task->provider;
	int64_t deadline_ms = loop_now_ms(task->app->loop) + TOKENS_REVOKE_MS + RESERVE_MS;
	struct grant_revocation last;
	const struct error *error;

	if (deadline_ms > task->deadline_ms - RESERVE_MS)
		deadline_ms = task->deadline_ms - RESERVE_MS;
	for (;;) {
		error = store_shared_grant_revocation(task, provider->issuer, exchange->account, &last);
		if (error != NULL || !last.under_way || loop_now_ms(task->app->loop) >= deadline_ms)
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
recheck_grant(struct task *task, const struct exchange_result *exchange, struct integration *record)
{
	const struct token_options options = {.force = true, .ask_again = true};
	enum token_result result = TOKEN_UNREACHABLE;
	struct credential credential;
	const struct error *error;
	enum life life;
	bool stored;

	error = wait_out(task, exchange, &life);
	if (error != NULL || life == ALIVE)
		return error;
	/* A request that took this connection's name out, before it was stored, may not have put it back. */
	error = store_shared_grant_add(task, task->provider->issuer, exchange->account);
	if (error == NULL && life == ASK_THE_PROVIDER)
		error = tokens_fresh(task, &options, record, &credential, &result);
	if (error != NULL || result == TOKEN_GOOD || result == TOKEN_GONE) /* gone: disconnected after we stored it */
		return error;
	if (result != TOKEN_UNREACHABLE && result != TOKEN_CLIENT && result != TOKEN_POLICY)
		return tokens_result_info(result)->error;
	record->status = tokens_result_info(result)->status;
	record->status_reason = tokens_result_info(result)->reason;
	return store_integration_status(task, record, false, &stored);
}

/* May this account take the place of the stored one? */
static bool
may_replace(const struct oauth_state *row, const struct exchange_result *exchange)
{
	return row->replace || text_equal(row->replace_with, exchange->account);
}

/* The provider gave no refresh token: the stored one serves on, if it is the same account's and works now. */
static const struct error *
keep_refresh_token(struct task *task, const struct oauth_state *row, const struct exchange_result *exchange,
		   struct integration *integration, struct credential *credential, struct integration *old)
{
	const struct token_options options = {.force = true, .ask_again = true, .leave_record = true};
	struct credential stored;
	enum token_result result;
	const struct error *error;
	bool found;
	bool barred = false;
	bool done = false;

	/* Another account's connection is not touched, not even to refresh it. */
	error = store_integration_read(task, old, &found);
	if (error != NULL)
		return error;
	if (found && !may_replace(row, exchange) && !text_equal(old->oauth_user_id, exchange->account))
		return &error_account_mismatch;
	if (!found || !text_equal(old->oauth_user_id, exchange->account))
		return &error_offline_access_missing;
	error = tokens_fresh(task, &options, old, &stored, &result);
	if (error != NULL)
		return error;
	if (result == TOKEN_REMOVED)
		return tokens_result_info(result)->error;
	if (result != TOKEN_GOOD || !text_equal(old->oauth_user_id, exchange->account))
		return &error_offline_access_missing;
	integration->id = old->id;
	integration->connected_at = old->connected_at;
	credential->refresh_token = stored.refresh_token;
	credential->vended_until = stored.vended_until;
	error = store_integration_refresh(task, integration, credential, old->generation, true, &barred, &done);
	if (error == NULL && barred)
		return &error_organization_forbidden;
	if (error == NULL && !done) /* another request changed the connection at this moment */
		error = &error_offline_access_missing;
	return error;
}

static const struct error *
connect_account(struct task *task, const struct oauth_state *row, const struct exchange_result *exchange,
		struct integration *integration, struct credential *credential, struct integration *old)
{
	const struct provider *provider = task->provider;
	struct credential old_credential;
	enum store_outcome outcome;
	enum grant_use use;
	const struct error *error;
	bool revoked;

	error = store_shared_grant_add(task, provider->issuer, exchange->account);
	if (error != NULL)
		return error;
	error = store_integration_connect(task, integration, credential, may_replace(row, exchange), &outcome, old,
					  &old_credential);
	if (error != NULL)
		return error;
	switch (outcome) {
	case STORE_CREATED: store_event_append(task, "connected", "ok"); break;
	case STORE_RECONNECTED: store_event_append(task, "reconnected", "ok"); break;
	case STORE_REPLACED:
		/* The new connection stands, whatever becomes of the old grant. */
		(void)tokens_grant_release(task, old, &old_credential, &use, &revoked);
		store_event_append(task, "replaced", tokens_revocation(revoked, use));
		break;
	case STORE_MISMATCH: return &error_account_mismatch;
	case STORE_REMOVED: return &error_organization_forbidden;
	}
	return recheck_grant(task, exchange, integration);
}

const struct error *
tokens_connect(struct task *task, const struct oauth_state *row, const struct exchange_result *exchange,
	       struct integration *integration, struct integration *old)
{
	const struct provider *provider = task->provider;
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
	*integration = (struct integration){.id = random_id(task->arena),
					    .connection_key = task->connection_key,
					    .status = "valid",
					    .oauth_user_id = exchange->account,
					    .oauth_email = exchange->email,
					    .scopes = exchange->scopes,
					    .connected_at = arena_text(task->arena, now),
					    .validated_at = arena_text(task->arena, now)};
	integration->missing_scopes = provider_missing_scopes(task->arena, provider, &exchange->scopes);
	if (provider->mcp_scopes.count > 0 && integration->missing_scopes.count == provider->mcp_scopes.count)
		return &error_scopes_missing;
	if (exchange->tokens.refresh_token != NULL)
		return connect_account(task, row, exchange, integration, &credential, old);
	error = keep_refresh_token(task, row, exchange, integration, &credential, old);
	if (error == NULL)
		store_event_append(task, "reconnected", "ok");
	return error;
}
