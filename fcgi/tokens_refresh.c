/*
 * Only HTTP 400 with `invalid_grant` makes a connection invalid; whatever else happens, the stored tokens stay, or give
 * way to a new refresh token that came without an access token fit to be stored.
 */
#include "fcgi/tokens_refresh.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/fiber.h"
#include "common/json_read.h"
#include "common/jwt.h"
#include "common/loop.h"
#include "common/random.h"
#include "fcgi/app.h"
#include "fcgi/provider.h"
#include "fcgi/provider_call.h"
#include "fcgi/store_event.h"
#include "fcgi/store_refresh_failure.h"
#include "fcgi/store_use.h"
#include "fcgi/task.h"
#include "fcgi/tokens_exchange.h"
#include "fcgi/tokens_revoke.h"

#include <stddef.h>

#define REMEMBER_MS 1000 /* a failure, and up to as much again */
#define REMEMBER_MOST_S 60
#define STORE_AGAIN_MS 100 /* at first; each time twice as long */
#define STORE_AGAIN_MOST_MS 800

bool
tokens_in_cooldown(const struct credential *credential, int64_t cooldown_seconds)
{
	int64_t since = clock_wall() - credential->forced_at;

	return since >= 0 && since < cooldown_seconds;
}

bool
tokens_is_refused(const struct credential *credential, const struct token_options *options)
{
	char hash[CRYPTO_SHA256_HEX];

	if (options->refused == NULL || tokens_in_cooldown(credential, options->refused_cooldown_seconds))
		return false;
	crypto_sha256_hex(credential->access_token, hash);
	return text_equal(hash, options->refused);
}

static enum token_result
refresh_result(struct task *task, enum oauth2_failure failure, const struct http_response *response, const char *code)
{
	switch (failure) {
	case OAUTH2_OK: return TOKEN_GOOD;
	case OAUTH2_INVALID_GRANT: return TOKEN_DEAD;
	case OAUTH2_POLICY:
		provider_complain(task, ENDPOINT_REFRESH, response->status, code,
				  "an administrator of the user's account at the provider must allow this application");
		return TOKEN_POLICY;
	case OAUTH2_CLIENT:
		provider_complain(task, ENDPOINT_REFRESH, response->status, code,
				  "check the client id and its secret; stored tokens are kept");
		return TOKEN_CLIENT;
	case OAUTH2_TRANSIENT:
		provider_complain(task, ENDPOINT_REFRESH, response->status, code,
				  "look at the provider's status page; stored tokens are kept");
		break;
	}
	return TOKEN_UNREACHABLE;
}

/*
 * After a refresh iss and sub must be what they were, and aud us (OpenID Connect Core 12.2). The answer came straight
 * from the provider over TLS, which may stand for the signature here (3.1.3.7, 6). TOKEN_GOOD, and *account_verified
 * whether the answer names our account; TOKEN_IDENTITY: it names another; TOKEN_UNREACHABLE: it cannot be read.
 */
static enum token_result
judge_account(const struct token_attempt *attempt, const struct http_response *response,
	      const struct oauth2_tokens *tokens, bool *account_verified)
{
	struct task *task = attempt->task;
	const struct provider *provider = task->provider;
	const struct json *claims;

	*account_verified = false;
	if (tokens->id_token == NULL || provider->jwks_uri == NULL)
		return TOKEN_GOOD;
	claims = jwt_claims_unverified(task->arena, tokens->id_token);
	if (claims == NULL) {
		provider_complain(
		    task, ENDPOINT_REFRESH, response->status, "id_token",
		    "the id_token cannot be read: look at the provider's status page; stored tokens are kept");
		return TOKEN_UNREACHABLE;
	}
	*account_verified = json_string(claims, "iss") != NULL &&
			    words_contain(&provider->id_token_issuers, json_string(claims, "iss")) &&
			    oauth2_is_audience(claims, provider->client.id) &&
			    text_equal(json_string(claims, "sub"), attempt->record->oauth_user_id);
	return *account_verified ? TOKEN_GOOD : TOKEN_IDENTITY;
}

static void
take_tokens(struct token_attempt *attempt, const struct oauth2_tokens *tokens, int64_t issued_at, bool account_verified)
{
	struct task *task = attempt->task;
	struct integration *record = attempt->record;
	struct credential *credential = attempt->credential;

	if (tokens_is_refused(credential, attempt->options))
		credential->forced_at = clock_wall();
	credential->access_token = tokens->access_token;
	if (tokens->refresh_token != NULL)
		credential->refresh_token = tokens->refresh_token;
	credential->issued_at = issued_at;
	credential->expires_at = issued_at + tokens->expires_in;
	if (tokens->scope != NULL) {
		struct words scopes = words_split(task->arena, tokens->scope);

		record->scopes = provider_canonical_scopes(task->arena, task->provider, &scopes);
		record->missing_scopes = provider_missing_scopes(task->arena, task->provider, &record->scopes);
	}
	if (account_verified) {
		char now[CLOCK_RFC3339_SIZE];

		clock_rfc3339(clock_wall(), now);
		record->status = "valid";
		record->status_reason = NULL;
		record->validated_at = arena_text(task->arena, now);
	}
}

/*
 * No access token came that may be stored, yet perhaps a new refresh token: the provider has forgotten the old one, and
 * maybe the stored access token with it. False when there is nothing to store.
 */
static bool
take_refresh_token(struct token_attempt *attempt, const struct oauth2_tokens *tokens)
{
	struct credential *credential = attempt->credential;

	if (tokens->refresh_token == NULL || text_equal(tokens->refresh_token, credential->refresh_token))
		return false;
	credential->refresh_token = tokens->refresh_token;
	credential->expires_at = 0;
	return true;
}

/*
 * Store what the provider gave. A provider that rotates has already forgotten the old refresh token, so an unreachable
 * store is tried again until the deadline; a reply that was lost is recognised by reading.
 */
static const struct error *
store_tokens(struct token_attempt *attempt, const char *generation, bool account_verified, bool *stored)
{
	struct task *task = attempt->task;
	const struct credential sent = *attempt->credential;
	int64_t again_ms = STORE_AGAIN_MS; /* rarer and rarer: each time takes memory of the request */
	bool failed_before = false;

	for (;;) {
		const struct error *error = store_integration_refresh(task, attempt->record, attempt->credential,
								      generation, account_verified, NULL, stored);
		struct integration record;
		struct credential credential;
		bool found;

		if (error == NULL && !*stored && failed_before) {
			error = store_integration_read_tokens(task, NULL, &record, &credential, &found);
			if (error == NULL && found && text_equal(credential.access_token, sent.access_token) &&
			    text_equal(credential.refresh_token, sent.refresh_token)) {
				*attempt->record = record;
				*stored = true;
			}
		}
		if (error == NULL)
			return NULL;
		failed_before = true;
		if (loop_now_ms(task->app->loop) + again_ms >= task->deadline_ms)
			return error;
		fiber_sleep(again_ms);
		again_ms = again_ms < STORE_AGAIN_MOST_MS ? 2 * again_ms : STORE_AGAIN_MOST_MS;
	}
}

/* How long a failure is remembered: as long as the provider asks for, else a moment, never the same for all. */
static int64_t
remember_ms(const struct http_response *response)
{
	int64_t seconds = response->retry_after < REMEMBER_MOST_S ? response->retry_after : REMEMBER_MOST_S;

	return (seconds > 0 ? seconds * 1000 : REMEMBER_MS) + (int64_t)random_below(REMEMBER_MS);
}

/* *again: the refresh token was refused when another had taken its place, which says nothing about the connection. */
static const struct error *
note_failure(struct token_attempt *attempt, enum token_result result, const struct http_response *response, bool *again)
{
	struct task *task = attempt->task;
	const struct error *error = NULL;
	bool stored = true;

	if (result == TOKEN_DEAD && !attempt->options->leave_record) {
		attempt->record->status = tokens_result_info(result)->status;
		attempt->record->status_reason = tokens_result_info(result)->reason;
		error = store_integration_status(task, attempt->record, true, &stored);
	}
	*again = error == NULL && !stored;
	if (*again) {
		attempt->overtaken = attempt->record->generation;
		return NULL;
	}
	store_event_append(task, "refresh_failed", tokens_result_info(result)->reason);
	store_refresh_failure_note(task, attempt->record, (int)result, remember_ms(response));
	return error;
}

const struct error *
tokens_refresh(struct token_attempt *attempt, enum token_result *result, bool *again)
{
	struct task *task = attempt->task;
	const struct provider *provider = task->provider;
	const char *generation = attempt->record->generation;
	struct http_request call = {.method = "POST", .url = provider->token_endpoint};
	struct http_response response;
	struct oauth2_tokens tokens = {0};
	int64_t issued_at = clock_wall();
	const struct error *error;
	bool account_verified = false;
	bool stored;

	arena_reserve(task->arena, PROVIDER_ANSWER_MEMORY);
	call.body = oauth2_refresh_request(task->arena, &provider->client, attempt->credential->refresh_token,
					   &call.authorization);
	if (provider_call(task, ENDPOINT_REFRESH, &call, &response) != NULL) {
		*result = TOKEN_UNREACHABLE;
	} else {
		const char *code;
		enum oauth2_failure failure =
		    oauth2_refresh_answer(task->arena, response.status, response.body, response.len, &tokens, &code);

		*result = refresh_result(task, failure, &response, code);
	}
	if (*result == TOKEN_GOOD || tokens.refresh_token != NULL) {
		enum token_result account = judge_account(attempt, &response, &tokens, &account_verified);

		if (account == TOKEN_IDENTITY || *result == TOKEN_GOOD)
			*result = account;
	}
	/* Of what may be another account's nothing is stored. */
	if (*result == TOKEN_GOOD)
		take_tokens(attempt, &tokens, issued_at, account_verified);
	else if (*result == TOKEN_IDENTITY || !take_refresh_token(attempt, &tokens))
		return note_failure(attempt, *result, &response, again);
	error = store_tokens(attempt, generation, account_verified, &stored);
	if (error != NULL)
		return error;
	*again = !stored;
	if (!stored)
		attempt->overtaken = generation;
	if (stored && *result != TOKEN_GOOD)
		return note_failure(attempt, *result, &response, again);
	if (stored) {
		store_event_use(task, "refreshed", "ok");
	} else if (tokens.refresh_token != NULL) {
		/* A member who disconnected meanwhile could revoke the old refresh token only: the new one must not
		 * live on. */
		const struct exchange_result late = {.tokens = tokens, .account = attempt->record->oauth_user_id};

		tokens_discard(task, &late);
	}
	return NULL;
}
