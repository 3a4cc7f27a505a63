/*
 * The two ends of the consent flow: auth_link sends the user to the provider, callback takes what the provider sent
 * back (RFC 6749 4.1, RFC 7636, RFC 9207, RFC 9700 4.7). The session that begins a flow must be the one that ends it.
 */
#include "fcgi/route.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/json_read.h"
#include "common/json_write.h"
#include "common/random.h"
#include "common/url.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/provider.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/store_event.h"
#include "fcgi/store_limit.h"
#include "fcgi/store_shared_grant.h"
#include "fcgi/store_state.h"
#include "fcgi/tokens.h"
#include "fcgi/waits.h"

#include <string.h>

#define STATE_RANDOM 43 /* base64url characters before the point */
#define CODE_MAX 2048
#define ISS_MAX 512
#define REFUSED_STATES_NOTED 20 /* a minute, per user and organization */

static void
note_event(struct app *app, struct request *request, const char *event, const char *outcome)
{
	store_event_append(app, request->arena, event, request->actor, &request->connection_key, outcome,
			   request->request_id);
}

/* ---- auth_link ---- */

static bool
wants_replace(struct request *request)
{
	bool repeated = false;
	bool valid = true;
	const char *value = url_query(request->arena, request->query, "replace", &repeated, &valid);

	return valid && !repeated && text_equal(value, "true");
}

/* `replace_with` names one account that may take the stored one's place, so `replace` beside it is a contradiction. */
static const struct error *
read_replacement(struct request *request, struct oauth_state *row)
{
	bool repeated = false;
	bool valid = true;

	row->replace = wants_replace(request);
	row->replace_with = url_query(request->arena, request->query, "replace_with", &repeated, &valid);
	if (row->replace_with == NULL && !repeated)
		return NULL;
	if (repeated || !valid || row->replace || !tokens_is_account(row->replace_with))
		return &error_request_invalid;
	return NULL;
}

/* The account to name to the provider: its e-mail address where that is known. */
static const struct error *
find_hint(struct app *app, struct request *request, const struct oauth_state *row, const char **hint)
{
	const struct provider *provider = request->provider;
	struct integration stored;
	struct credential credential;
	const struct error *error;
	bool found;

	*hint = NULL;
	if (!provider->login_hint || row->replace)
		return NULL;
	error = store_integration_read_tokens(app, request->arena, provider, &request->connection_key, NULL, &stored,
					      &credential, &found);
	if (error != NULL)
		return error;
	*hint = row->replace_with;
	/* An account at another issuer is none of this provider's business. */
	if (!found || (credential.issuer != NULL && !text_equal(credential.issuer, provider->issuer)))
		return NULL;
	if (*hint == NULL || text_equal(*hint, stored.oauth_user_id))
		*hint = stored.oauth_email != NULL ? stored.oauth_email : stored.oauth_user_id;
	return NULL;
}

static const char *
authorization_url(struct request *request, const char *state, const struct oauth_state *row, const char *login_hint)
{
	const struct provider *provider = request->provider;
	struct oauth2_authorization authorization = {
	    .endpoint = provider->authorization_endpoint,
	    .client_id = provider->client.id,
	    .redirect_uri = provider->redirect_uri,
	    .scopes = &provider->all_scopes,
	    .state = state,
	    .nonce = provider->jwks_uri != NULL ? row->nonce : NULL,
	    .login_hint = login_hint,
	    .code_challenge = crypto_pkce_challenge(request->arena, row->code_verifier),
	    .extra = provider->authorization_parameters,
	    .extra_count = provider->authorization_parameter_count,
	};

	return oauth2_authorization_url(request->arena, &authorization);
}

const struct error *
route_connect_auth_link(struct app *app, struct request *request, struct response *response)
{
	struct arena *arena = request->arena;
	const struct provider *provider = request->provider;
	struct json_write *json = json_write_open(arena, RESPONSE_BODY_MAX);
	struct oauth_state row = {.connection_key = request->connection_key,
				  .binding = request->session.binding,
				  .credential = request->credential,
				  .issuer = provider->issuer,
				  .client_id = provider->client.id};
	const struct error *error;
	const char *state;
	const char *login_hint;
	bool removed = false;

	error = store_state_admit(app, arena, &request->connection_key, app->config->limit_auth_link,
				  &request->retry_after, &removed);
	if (error != NULL)
		return error;
	if (removed)
		return &error_organization_forbidden;
	if (request->retry_after > 0)
		return &error_rate_limited;
	error = read_replacement(request, &row);
	if (error == NULL)
		error = find_hint(app, request, &row, &login_hint);
	if (error != NULL)
		return error;
	row.code_verifier = random_token(arena);
	row.nonce = random_token(arena);
	state = arena_format(arena, "%s.%s", random_token(arena), request->connection_key.organization);
	error = store_state_write(app, arena, state, &row);
	if (error != NULL)
		return error;
	json_write_object(json, NULL);
	json_write_string(json, "auth_link", authorization_url(request, state, &row, login_hint));
	json_write_object_end(json);
	return response_json(response, json);
}

/* ---- callback ---- */

/* What the page posted; absent members are NULL. */
struct callback {
	const char *code;
	const char *state;
	const char *iss;
	const char *error;
};

/* A member that may be absent: a string of at most `max` bytes. */
static bool
take_text(const struct json *body, const char *key, size_t max, const char **value)
{
	*value = json_string(body, key);
	if (json_member(body, key) == NULL)
		return true;
	return *value != NULL && strlen(*value) <= max;
}

static const struct error *
read_callback(const struct json *body, struct callback *callback)
{
	if (body == NULL || !take_text(body, "code", CODE_MAX, &callback->code) ||
	    !take_text(body, "state", REQUEST_BODY_MAX, &callback->state) ||
	    !take_text(body, "iss", ISS_MAX, &callback->iss) ||
	    !take_text(body, "error", REQUEST_BODY_MAX, &callback->error))
		return &error_body_invalid;
	if ((callback->code == NULL) == (callback->error == NULL))
		return &error_body_invalid;
	if (callback->code != NULL && (callback->state == NULL || callback->code[0] == '\0'))
		return &error_body_invalid;
	return NULL;
}

/* 43 base64url characters, a point and an organization's id: nothing else can be a stored state. */
static bool
is_state(const char *state)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

	return strlen(state) > STATE_RANDOM && strspn(state, alphabet) >= STATE_RANDOM && state[STATE_RANDOM] == '.' &&
	       text_is_id(state + STATE_RANDOM + 1);
}

static bool
is_ours(const struct request *request, const struct oauth_state *row)
{
	const struct connection_key *connection = &request->connection_key;
	const struct provider *provider = request->provider;

	return text_equal(row->binding, request->session.binding) && text_equal(row->credential, request->credential) &&
	       text_equal(row->connection_key.user, connection->user) &&
	       text_equal(row->connection_key.organization, connection->organization) &&
	       text_equal(row->connection_key.service, connection->service) &&
	       text_equal(row->issuer, provider->issuer) && text_equal(row->client_id, provider->client.id);
}

/* An invented state costs nothing, so a member could fill Redis with entries of the audit; the log has every request.
 */
static void
note_refused_state(struct app *app, struct request *request, const char *outcome)
{
	int64_t retry_after;

	if (store_limit_count(app, request->arena, "state_refused", &request->connection_key, REFUSED_STATES_NOTED,
			      &retry_after) == NULL &&
	    retry_after == 0)
		note_event(app, request, "state_refused", outcome);
}

/* Spend the state; whatever is wrong with it, the answer is one and the same. */
static const struct error *
take_state(struct app *app, struct request *request, const char *state, struct oauth_state *row)
{
	const struct error *error;
	bool found = false;

	if (is_state(state)) {
		error = store_state_take(app, request->arena, state, row, &found);
		if (error != NULL)
			return error;
	}
	if (found && is_ours(request, row))
		return NULL;
	note_refused_state(app, request, found ? "foreign" : "unknown");
	return &error_state_invalid;
}

static const struct error *
check_issuer(const struct request *request, const char *iss)
{
	const struct provider *provider = request->provider;

	if (iss == NULL ? provider->iss_required : !text_equal(iss, provider->issuer))
		return &error_issuer_mismatch;
	return NULL;
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
	return tokens_recheck(app, request, exchange, integration);
}

/* Store what was granted, if it is of any use. */
static const struct error *
save_connection(struct app *app, struct request *request, const struct oauth_state *row,
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

const struct error *
route_connect_callback(struct app *app, struct request *request, struct response *response)
{
	struct callback callback = {0};
	struct oauth_state row;
	struct exchange_result exchange;
	struct integration integration;
	struct json_write *json;
	const struct error *error;

	error = read_callback(request->json, &callback);
	if (error == NULL && callback.code != NULL) /* while the state is unspent, so that it can be sent again */
		error = waits_begin_change(app, request);
	if (error != NULL)
		return error;
	if (callback.state != NULL)
		error = take_state(app, request, callback.state, &row);
	if (error == NULL)
		error = check_issuer(request, callback.iss);
	if (error != NULL)
		return error;
	if (callback.error != NULL)
		return text_equal(callback.error, "access_denied") ? &error_consent_declined
								   : &error_authorization_failed;
	error = tokens_exchange(app, request, &row, callback.code, &exchange);
	if (error == NULL)
		error = save_connection(app, request, &row, &exchange, &integration);
	if (error != NULL) {
		tokens_discard(app, request, &exchange);
		return error;
	}
	json = json_write_open(request->arena, RESPONSE_BODY_MAX);
	json_write_object(json, NULL);
	response_record(json, "integration", &integration);
	json_write_object_end(json);
	return response_json(response, json);
}
