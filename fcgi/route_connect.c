/*
 * The two ends of the consent flow: auth_link sends the user to the provider, callback takes what the provider sent
 * back (RFC 6749 4.1, RFC 7636, RFC 9207, RFC 9700 4.7). The session that begins a flow must be the one that ends it.
 */
#include "fcgi/route.h"

#include "common/arena.h"
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
#include "fcgi/store_state.h"
#include "fcgi/tokens_connect.h"
#include "fcgi/tokens_exchange.h"
#include "fcgi/tokens_revoke.h"
#include "fcgi/waits.h"

#include <string.h>

#define STATE_RANDOM 43 /* base64url characters before the point */
#define CODE_MAX 2048
#define ISS_MAX 512
#define REFUSED_STATES_NOTED 20 /* a minute, per user and organization */

/* ---- auth_link ---- */

static bool
wants_replace(struct request *request)
{
	bool repeated = false;
	bool valid = true;
	const char *value = url_query(request->task.arena, request->query, "replace", &repeated, &valid);

	return valid && !repeated && text_equal(value, "true");
}

/* `replace_with` names one account that may take the stored one's place, so `replace` beside it is a contradiction. */
static const struct error *
read_replacement(struct request *request, struct oauth_state *row)
{
	bool repeated = false;
	bool valid = true;

	row->replace = wants_replace(request);
	row->replace_with = url_query(request->task.arena, request->query, "replace_with", &repeated, &valid);
	if (row->replace_with == NULL && !repeated)
		return NULL;
	if (repeated || !valid || row->replace || !provider_is_account(row->replace_with))
		return &error_request_invalid;
	return NULL;
}

/* The account to name to the provider: its e-mail address where that is known. */
static const struct error *
find_hint(struct request *request, const struct oauth_state *row, const char **hint)
{
	const struct provider *provider = request->task.provider;
	struct integration stored;
	struct credential credential;
	const struct error *error;
	bool found;

	*hint = NULL;
	if (!provider->login_hint || row->replace)
		return NULL;
	error = store_integration_read_tokens(&request->task, NULL, &stored, &credential, &found);
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
	const struct provider *provider = request->task.provider;
	struct oauth2_authorization authorization = {
	    .endpoint = provider->authorization_endpoint,
	    .client_id = provider->client.id,
	    .redirect_uri = provider->redirect_uri,
	    .scopes = &provider->all_scopes,
	    .state = state,
	    .nonce = provider->jwks_uri != NULL ? row->nonce : NULL,
	    .login_hint = login_hint,
	    .code_challenge = crypto_pkce_challenge(request->task.arena, row->code_verifier),
	    .extra = provider->authorization_parameters,
	    .extra_count = provider->authorization_parameter_count,
	};

	return oauth2_authorization_url(request->task.arena, &authorization);
}

const struct error *
route_connect_auth_link(struct request *request, struct response *response)
{
	struct arena *arena = request->task.arena;
	const struct provider *provider = request->task.provider;
	struct json_write *json = json_write_open(arena, RESPONSE_BODY_MAX);
	struct oauth_state row = {.connection_key = request->task.connection_key,
				  .binding = request->session.binding,
				  .credential = request->credential,
				  .issuer = provider->issuer,
				  .client_id = provider->client.id};
	const struct error *error;
	const char *state;
	const char *login_hint;
	bool removed = false;

	error = store_state_admit(&request->task, request->task.app->config->limit_auth_link, &request->retry_after,
				  &removed);
	if (error != NULL)
		return error;
	if (removed)
		return &error_organization_forbidden;
	if (request->retry_after > 0)
		return &error_rate_limited;
	error = read_replacement(request, &row);
	if (error == NULL)
		error = find_hint(request, &row, &login_hint);
	if (error != NULL)
		return error;
	row.code_verifier = random_token(arena);
	row.nonce = random_token(arena);
	state = arena_format(arena, "%s.%s", random_token(arena), request->task.connection_key.organization);
	error = store_state_write(&request->task, state, &row);
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
	const struct connection_key *connection = &request->task.connection_key;
	const struct provider *provider = request->task.provider;

	return text_equal(row->binding, request->session.binding) && text_equal(row->credential, request->credential) &&
	       text_equal(row->connection_key.user, connection->user) &&
	       text_equal(row->connection_key.organization, connection->organization) &&
	       text_equal(row->connection_key.service, connection->service) &&
	       text_equal(row->issuer, provider->issuer) && text_equal(row->client_id, provider->client.id);
}

/* An invented state costs nothing, so a member could fill Redis with entries of the audit; the log has every request.
 */
static void
note_refused_state(struct request *request, const char *outcome)
{
	int64_t retry_after;

	if (store_limit_count(&request->task, "state_refused", REFUSED_STATES_NOTED, &retry_after) == NULL &&
	    retry_after == 0)
		store_event_append(&request->task, "state_refused", outcome);
}

/* Spend the state; whatever is wrong with it, the answer is one and the same. */
static const struct error *
take_state(struct request *request, const char *state, struct oauth_state *row)
{
	const struct error *error;
	bool found = false;

	if (is_state(state)) {
		error = store_state_take(&request->task, state, row, &found);
		if (error != NULL)
			return error;
	}
	if (found && is_ours(request, row))
		return NULL;
	note_refused_state(request, found ? "foreign" : "unknown");
	return &error_state_invalid;
}

static const struct error *
check_issuer(const struct request *request, const char *iss)
{
	const struct provider *provider = request->task.provider;

	if (iss == NULL ? provider->iss_required : !text_equal(iss, provider->issuer))
		return &error_issuer_mismatch;
	return NULL;
}

/* Both accounts are named to the member whose they are, so that the choice is clear. */
static void
refuse_account(struct request *request, const struct integration *old, const struct exchange_result *exchange)
{
	const char *stored = old->oauth_email != NULL ? old->oauth_email : old->oauth_user_id;
	const char *chosen = exchange->email != NULL ? exchange->email : exchange->account;

	request->detail =
	    arena_format(request->task.arena,
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
	store_event_append(&request->task, "account_mismatch", "refused");
}

const struct error *
route_connect_callback(struct request *request, struct response *response)
{
	struct callback callback = {0};
	struct oauth_state row;
	struct exchange_result exchange;
	struct integration integration;
	struct integration old;
	struct json_write *json;
	const struct error *error;

	error = read_callback(request->json, &callback);
	if (error == NULL && callback.code != NULL) /* while the state is unspent, so that it can be sent again */
		error = waits_begin_change(&request->task);
	if (error != NULL)
		return error;
	if (callback.state != NULL)
		error = take_state(request, callback.state, &row);
	if (error == NULL)
		error = check_issuer(request, callback.iss);
	if (error != NULL)
		return error;
	if (callback.error != NULL)
		return text_equal(callback.error, "access_denied") ? &error_consent_declined
								   : &error_authorization_failed;
	error = tokens_exchange(&request->task, &row, callback.code, &exchange);
	if (error == NULL) {
		error = tokens_connect(&request->task, &row, &exchange, &integration, &old);
		if (error == &error_account_mismatch)
			refuse_account(request, &old, &exchange);
	}
	if (error != NULL) {
		tokens_discard(&request->task, &exchange);
		return error;
	}
	json = json_write_open(request->task.arena, RESPONSE_BODY_MAX);
	json_write_object(json, NULL);
	response_record(json, "integration", &integration);
	json_write_object_end(json);
	return response_json(response, json);
}
