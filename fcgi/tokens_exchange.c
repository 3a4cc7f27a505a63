/*
 * A ladder: keys at hand, code sent (once, on a fresh connection: libcurl may repeat a request on a dead kept one),
 * answer judged, identity checked, scopes read. What the provider says about itself is believed only after the checks
 * of OpenID Connect Core 3.1.3.7.
 */
#include "fcgi/tokens_exchange.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/json_read.h"
#include "fcgi/api_error.h"
#include "fcgi/provider.h"
#include "fcgi/provider_call.h"
#include "fcgi/provider_userinfo.h"
#include "fcgi/signing_keys.h"
#include "fcgi/store_state.h"
#include "fcgi/task.h"

#include <stddef.h>
#include <string.h>

#define EMAIL_MAX 320

static const struct error *
exchange_refusal(const struct task *task, enum oauth2_failure failure, long status, const char *code)
{
	switch (failure) {
	case OAUTH2_CLIENT:
		provider_complain(task, ENDPOINT_EXCHANGE, status, code,
				  "check the client id, its secret and the redirect URIs registered at the provider "
				  "(integrations check prints them)");
		return &error_provider_misconfigured;
	case OAUTH2_TRANSIENT:
		provider_complain(task, ENDPOINT_EXCHANGE, status, code,
				  "look at the provider's status page; the user can try again");
		return &error_provider_unreachable;
	case OAUTH2_POLICY:
		provider_complain(task, ENDPOINT_EXCHANGE, status, code,
				  "an administrator of the user's account at the provider must allow this application");
		return &error_authorization_failed;
	case OAUTH2_INVALID_GRANT:
	case OAUTH2_OK: break;
	}
	return &error_code_rejected;
}

static const struct error *
send_code(struct task *task, const struct oauth_state *state, const char *code, struct exchange_result *exchange)
{
	const struct provider *provider = task->provider;
	struct http_request call = {.method = "POST", .url = provider->token_endpoint, .once = true};
	struct http_response response;
	enum oauth2_failure failure;
	const struct error *error;
	const char *refused;

	arena_reserve(task->arena, PROVIDER_ANSWER_MEMORY);
	call.body = oauth2_code_request(task->arena, &provider->client, code, provider->redirect_uri,
					state->code_verifier, &call.authorization);
	exchange->issued_at = clock_wall(); /* the time of sending: the token cannot be older (RFC 6749 5.1) */
	exchange->sent_us = clock_monotonic_us();
	error = provider_call(task, ENDPOINT_EXCHANGE, &call, &response);
	if (error != NULL)
		return error;
	failure =
	    oauth2_token_answer(task->arena, response.status, response.body, response.len, &exchange->tokens, &refused);
	if (failure != OAUTH2_OK) {
		/* Whatever is in it was given, be the status what it may, and must not live on. */
		oauth2_unfit_tokens(task->arena, response.body, response.len, &exchange->tokens);
		return exchange_refusal(task, failure, response.status, refused);
	}
	return NULL;
}

static const char *
usable_email(const char *email)
{
	return email != NULL && email[0] != '\0' && strlen(email) <= EMAIL_MAX ? email : NULL;
}

static const struct error *
identify_by_token(struct task *task, const struct oauth_state *state, struct exchange_result *exchange)
{
	const struct provider *provider = task->provider;
	struct oauth2_identity_check check = {.issuers = &provider->id_token_issuers,
					      .client_id = provider->client.id,
					      .nonce = state->nonce,
					      .access_token = exchange->tokens.access_token,
					      .algorithm = NULL,
					      .now = clock_wall()};
	const struct json *claims = NULL;
	const struct error *error;
	const char *wrong;

	if (exchange->tokens.id_token == NULL) {
		provider_complain(task, ENDPOINT_EXCHANGE, 200, "the provider sent no id_token",
				  "the provider file's scopes must include openid");
		return &error_identity_invalid;
	}
	error = signing_keys_verify(task, exchange->tokens.id_token, &claims);
	if (error != NULL)
		return error;
	check.algorithm = jwt_algorithm(task->arena, exchange->tokens.id_token);
	wrong = oauth2_check_identity(task->arena, claims, &check);
	if (wrong == NULL && !provider_is_account(json_string(claims, "sub")))
		wrong = "sub";
	if (wrong != NULL) {
		provider_complain(task, ENDPOINT_EXCHANGE, 200,
				  arena_format(task->arena, "the id_token's claim %s is wrong", wrong),
				  "check the clock of this host, and issuer and client id in the settings");
		return &error_identity_invalid;
	}
	exchange->account = json_string(claims, "sub");
	exchange->email = usable_email(json_string(claims, "email"));
	return NULL;
}

static const struct error *
identify_by_userinfo(struct task *task, struct exchange_result *exchange)
{
	const char *account = NULL;
	const char *email = NULL;

	switch (provider_userinfo(task, exchange->tokens.access_token, &account, &email)) {
	case USERINFO_GOOD: break;
	case USERINFO_UNREACHABLE: return &error_provider_unreachable;
	default: return &error_identity_invalid;
	}
	if (!provider_is_account(account))
		return &error_identity_invalid;
	exchange->account = account;
	exchange->email = usable_email(email);
	return NULL;
}

const struct error *
tokens_exchange(struct task *task, const struct oauth_state *state, const char *code, struct exchange_result *exchange)
{
	const struct provider *provider = task->provider;
	const struct error *error = NULL;
	struct words scopes;

	memset(exchange, 0, sizeof *exchange);
	if (provider->jwks_uri != NULL)
		error = signing_keys_need(task);
	if (error == NULL)
		error = send_code(task, state, code, exchange);
	if (error == NULL && provider->jwks_uri != NULL)
		error = identify_by_token(task, state, exchange);
	else if (error == NULL)
		error = identify_by_userinfo(task, exchange);
	if (error != NULL)
		return error;
	/* Without `scope` in the answer, what was asked for was granted (RFC 6749 5.1). */
	scopes =
	    exchange->tokens.scope != NULL ? words_split(task->arena, exchange->tokens.scope) : provider->all_scopes;
	exchange->scopes = provider_canonical_scopes(task->arena, provider, &scopes);
	return NULL;
}
