/*
 * Refresh, once over all workers and hosts.
 *
 * Inside a process one fiber leads and the others wait for it (flight.h). Between processes the leaders compete for a
 * lease in Redis; who has it reads the connection again, asks the provider, and stores the result only if the
 * generation is still the one that was read. Who does not have it waits for the result to appear. A failure is
 * remembered for a moment, so that those who waited do not all ask the provider in turn.
 *
 * Only HTTP 400 with `invalid_grant` makes a connection invalid; whatever else happens, the stored tokens stay, or give
 * way to a new refresh token that came without an access token fit to be stored.
 */
#include "fcgi/tokens.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/error.h"
#include "common/fiber.h"
#include "common/flight.h"
#include "common/json_read.h"
#include "common/jwt.h"
#include "common/loop.h"
#include "common/random.h"
#include "fcgi/app.h"
#include "fcgi/provider.h"
#include "fcgi/provider_call.h"
#include "fcgi/request.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define POLL_MS 20 /* for another process's refresh, and up to as much again: at first; later less often */
#define POLL_MOST_MS 100
#define REMEMBER_MS 1000 /* a failure, and up to as much again */
#define REMEMBER_MOST_S 60
#define STORE_AGAIN_MS 100 /* at first; each time twice as long */
#define STORE_AGAIN_MOST_MS 800
#define JITTER_MOST_S 60
#define JITTER_SHARE 5 /* of what was asked for */
#define CALL_LEAST_MS                                                                                                  \
	500 /* with less time than this the provider is not asked: an answer too late may be lost tokens */

static const struct token_meaning meanings[] = {
    [TOKEN_GOOD] = {"valid", NULL, true, NULL},
    [TOKEN_GONE] = {NULL, NULL, false, &error_integration_not_found},
    [TOKEN_REMOVED] = {NULL, NULL, false, &error_organization_forbidden},
    [TOKEN_DEAD] = {"invalid", "grant_revoked", true, &error_reconnect_required},
    [TOKEN_UNREADABLE] = {"unknown", "tokens_unreadable", false, &error_reconnect_required},
    [TOKEN_FOREIGN] = {"unknown", "provider_changed", false, &error_reconnect_required},
    [TOKEN_POLICY] = {"unknown", "provider_policy", true, &error_reconnect_required},
    [TOKEN_CLIENT] = {"unknown", "provider_misconfigured", true, &error_provider_misconfigured},
    [TOKEN_UNREACHABLE] = {"unknown", "provider_unreachable", false, &error_provider_unreachable},
    [TOKEN_IDENTITY] = {"unknown", "identity_changed", true, &error_reconnect_required},
};

const struct token_meaning *
tokens_meaning(enum token_verdict verdict)
{
	return &meanings[verdict];
}

/* One attempt to have a fresh token, with what it works on. */
struct attempt {
	struct app *app;
	struct request *request;
	const struct token_wish *wish;
	struct integration *record;
	struct credential *credential;
	const char *first_generation; /* when we began: with `force`, another one means that somebody did it for us */
	const char *overtaken;        /* the generation that was gone when its refresh was to be stored */
	bool waited;                  /* for somebody else's refresh: its failure counts as our answer, too */
};

/*
 * Tokens of a team that were issued together are not refreshed together: some a little before they must be. Drawn from
 * the generation, so that everybody who looks at these tokens comes to the same answer.
 */
static int64_t
jitter(const struct attempt *attempt)
{
	int64_t most = attempt->wish->minimum_seconds / JITTER_SHARE;
	char drawn[9];

	if (most > JITTER_MOST_S)
		most = JITTER_MOST_S;
	snprintf(drawn, sizeof drawn, "%.8s", attempt->record->generation);
	return (int64_t)(strtoul(drawn, NULL, 16) % (unsigned long)(most + 1));
}

bool
tokens_rest(const struct credential *credential, int64_t rest_seconds)
{
	int64_t since = clock_wall() - credential->forced_at;

	return since >= 0 && since < rest_seconds;
}

/* The stored token is the one that was refused, and no refusal has just forced a refresh. */
static bool
is_refused(const struct credential *credential, const struct token_wish *wish)
{
	char hash[CRYPTO_SHA256_HEX];

	if (wish->refused == NULL || tokens_rest(credential, wish->refused_rest_seconds))
		return false;
	crypto_sha256_hex(credential->access_token, hash);
	return text_equal(hash, wish->refused);
}

static bool
is_due(const struct attempt *attempt)
{
	const struct credential *credential = attempt->credential;
	const struct token_wish *wish = attempt->wish;
	int64_t left = credential->expires_at - clock_wall();
	int64_t life = credential->expires_at - credential->issued_at;

	if (left <= 0)
		return true;
	if (wish->force)
		return text_equal(attempt->record->generation, attempt->first_generation);
	if (is_refused(credential, wish))
		return true;
	return left < wish->minimum_seconds + jitter(attempt) && left * 2 <= life;
}

/* Read what is stored and say whether that settles it. */
static const struct error *
look(struct attempt *attempt, enum token_verdict *verdict, bool *settled)
{
	struct request *request = attempt->request;
	const struct token_wish *wish = attempt->wish;
	const struct hand_out hand_out = {.expires_at = clock_wall() + wish->minimum_seconds, .scopes = wish->scopes};
	const struct error *error;
	bool found;

	error = store_integration_read_tokens(attempt->app, request->arena, request->provider, &request->principal,
					      wish->scopes != NULL ? &hand_out : NULL, attempt->record,
					      attempt->credential, &found);
	*settled = true;
	if (error != NULL)
		return error;
	if (attempt->first_generation == NULL && found)
		attempt->first_generation = attempt->record->generation;
	if (attempt->record->member_removed)
		*verdict = TOKEN_REMOVED;
	else if (!found)
		*verdict = TOKEN_GONE;
	else if (attempt->credential->state == CREDENTIAL_UNREADABLE)
		*verdict = TOKEN_UNREADABLE;
	else if (attempt->overtaken != NULL && text_equal(attempt->record->generation, attempt->overtaken))
		*verdict = TOKEN_UNREADABLE; /* so it is not gone, but damaged: no refresh could ever be stored */
	else if (attempt->credential->state == CREDENTIAL_FOREIGN)
		*verdict = TOKEN_FOREIGN;
	else if (text_equal(attempt->record->status, "invalid") && (!attempt->wish->ask_again || attempt->waited))
		*verdict = TOKEN_DEAD;
	else if (!is_due(attempt))
		*verdict = TOKEN_GOOD;
	else
		*settled = false;
	return NULL;
}

static enum token_verdict
verdict_of(struct request *request, enum oauth2_failure failure, const struct http_response *response, const char *code)
{
	const struct provider *provider = request->provider;

	switch (failure) {
	case OAUTH2_OK: return TOKEN_GOOD;
	case OAUTH2_INVALID_GRANT: return TOKEN_DEAD;
	case OAUTH2_POLICY:
		provider_complain(request, provider, ENDPOINT_REFRESH, response->status, code,
				  "an administrator of the user's account at the provider must allow this application");
		return TOKEN_POLICY;
	case OAUTH2_CLIENT:
		provider_complain(request, provider, ENDPOINT_REFRESH, response->status, code,
				  "check the client id and its secret; stored tokens are kept");
		return TOKEN_CLIENT;
	case OAUTH2_TRANSIENT:
		provider_complain(request, provider, ENDPOINT_REFRESH, response->status, code,
				  "look at the provider's status page; stored tokens are kept");
		break;
	}
	return TOKEN_UNREACHABLE;
}

/* After a refresh iss and sub must be what they were, and aud us (OpenID Connect Core 12.2). The answer came straight
 * from the provider over TLS, which may stand for the signature here (3.1.3.7, 6). */
static bool
names_another(const struct attempt *attempt, const struct oauth2_tokens *tokens, bool *named)
{
	const struct provider *provider = attempt->request->provider;
	const struct json *claims;

	*named = false;
	if (tokens->id_token == NULL || provider->jwks_uri == NULL)
		return false;
	claims = jwt_claims_unverified(attempt->request->arena, tokens->id_token);
	*named = json_string(claims, "iss") != NULL &&
		 words_contain(&provider->id_token_issuers, json_string(claims, "iss")) &&
		 oauth2_is_audience(claims, provider->client.id) &&
		 text_equal(json_string(claims, "sub"), attempt->record->oauth_user_id);
	return !*named;
}

static void
take_tokens(struct attempt *attempt, const struct oauth2_tokens *tokens, int64_t issued_at, bool named)
{
	struct request *request = attempt->request;
	struct integration *record = attempt->record;
	struct credential *credential = attempt->credential;

	if (is_refused(credential, attempt->wish))
		credential->forced_at = clock_wall();
	credential->access_token = tokens->access_token;
	if (tokens->refresh_token != NULL)
		credential->refresh_token = tokens->refresh_token;
	credential->refresh_token_kept = tokens->refresh_token == NULL;
	credential->issued_at = issued_at;
	credential->expires_at = issued_at + tokens->expires_in;
	if (tokens->scope != NULL) {
		struct words scopes = words_split(request->arena, tokens->scope);

		record->scopes = provider_canonical_scopes(request->arena, request->provider, &scopes);
		record->missing_scopes = provider_missing_scopes(request->arena, request->provider, &record->scopes);
	}
	if (attempt->wish->scopes != NULL &&
	    words_minus(request->arena, attempt->wish->scopes, &record->scopes).count == 0)
		credential->handed_out_until = credential->expires_at;
	if (named) {
		char now[CLOCK_RFC3339_SIZE];

		clock_rfc3339(clock_wall(), now);
		record->status = "valid";
		record->status_reason = NULL;
		record->validated_at = arena_text(request->arena, now);
	}
}

/*
 * No access token came that may be stored, yet perhaps a new refresh token: the provider has forgotten the old one, and
 * maybe the stored access token with it. False when there is nothing to store.
 */
static bool
take_refresh_token(struct attempt *attempt, const struct oauth2_tokens *tokens)
{
	struct credential *credential = attempt->credential;

	if (tokens->refresh_token == NULL || text_equal(tokens->refresh_token, credential->refresh_token))
		return false;
	credential->refresh_token = tokens->refresh_token;
	credential->refresh_token_kept = false;
	credential->expires_at = 0;
	return true;
}

/*
 * Store what the provider gave. A provider that rotates has already forgotten the old refresh token, so an unreachable
 * store is tried again until the deadline; a reply that was lost is recognised by reading.
 */
static const struct error *
store_tokens(struct attempt *attempt, const char *generation, bool named, bool *stored)
{
	struct app *app = attempt->app;
	struct request *request = attempt->request;
	const struct credential sent = *attempt->credential;
	int64_t again_ms = STORE_AGAIN_MS; /* rarer and rarer: each time takes memory of the request */
	bool failed_before = false;

	for (;;) {
		const struct error *error =
		    store_integration_refresh(app, request->arena, request->provider, attempt->record,
					      attempt->credential, generation, named, stored);
		struct integration record;
		struct credential credential;
		bool found;

		if (error == NULL && !*stored && failed_before) {
			error = store_integration_read_tokens(app, request->arena, request->provider,
							      &request->principal, NULL, &record, &credential, &found);
			if (error == NULL && found && text_equal(credential.access_token, sent.access_token) &&
			    text_equal(credential.refresh_token, sent.refresh_token)) {
				*attempt->record = record;
				*stored = true;
			}
		}
		if (error == NULL)
			return NULL;
		failed_before = true;
		if (loop_now_ms(app->loop) + again_ms >= request->deadline_ms)
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

static const struct error *
note_failure(struct attempt *attempt, enum token_verdict verdict, const struct http_response *response)
{
	struct app *app = attempt->app;
	struct request *request = attempt->request;
	const struct error *error = NULL;
	bool stored;

	store_event_append(app, request->arena, "refresh_failed", request->actor, &request->principal,
			   tokens_meaning(verdict)->reason, request->request_id);
	store_failure_note(app, request->arena, attempt->record, (int)verdict, remember_ms(response));
	if (verdict == TOKEN_DEAD && !attempt->wish->leave_record) {
		attempt->record->status = tokens_meaning(verdict)->status;
		attempt->record->status_reason = tokens_meaning(verdict)->reason;
		error = store_integration_status(app, request->arena, attempt->record, true, &stored);
	}
	return error;
}

/* Under the lease: ask the provider and store what it says. *again: the record changed meanwhile; look anew. */
static const struct error *
refresh(struct attempt *attempt, enum token_verdict *verdict, bool *again)
{
	struct app *app = attempt->app;
	struct request *request = attempt->request;
	const struct provider *provider = request->provider;
	const char *generation = attempt->record->generation;
	struct http_request call = {.method = "POST", .url = provider->token_endpoint};
	struct http_response response;
	struct oauth2_tokens tokens = {0};
	int64_t issued_at = clock_wall();
	const struct error *error;
	bool named = false;
	bool stored;

	arena_reserve(request->arena, TOKENS_ANSWER_MEMORY);
	call.body = oauth2_refresh_request(request->arena, &provider->client, attempt->credential->refresh_token,
					   &call.authorization);
	if (provider_call(app, request, provider, ENDPOINT_REFRESH, &call, &response) != NULL) {
		*verdict = TOKEN_UNREACHABLE;
	} else {
		const char *code;
		enum oauth2_failure failure =
		    oauth2_refresh_answer(request->arena, response.status, response.body, response.len, &tokens, &code);

		*verdict = verdict_of(request, failure, &response, code);
	}
	if ((*verdict == TOKEN_GOOD || tokens.refresh_token != NULL) && names_another(attempt, &tokens, &named))
		*verdict = TOKEN_IDENTITY; /* and nothing of it is stored: it may be another account's */
	if (*verdict == TOKEN_GOOD)
		take_tokens(attempt, &tokens, issued_at, named);
	else if (*verdict == TOKEN_IDENTITY || !take_refresh_token(attempt, &tokens))
		return note_failure(attempt, *verdict, &response);
	error = store_tokens(attempt, generation, named, &stored);
	if (error != NULL)
		return error;
	*again = !stored;
	if (!stored)
		attempt->overtaken = generation;
	if (stored && *verdict != TOKEN_GOOD)
		return note_failure(attempt, *verdict, &response);
	if (stored) {
		store_event_append(app, request->arena, "refreshed", request->actor, &request->principal, "ok",
				   request->request_id);
	} else if (tokens.refresh_token != NULL) {
		/* Who disconnected meanwhile could revoke the old refresh token only: the new one must not live on. */
		const struct grant late = {.tokens = tokens, .account = attempt->record->oauth_user_id};

		tokens_discard(app, request, &late);
	}
	return NULL;
}

/* How a refresh of these tokens failed a moment ago; *known is false when nothing is remembered that makes sense. */
static const struct error *
remembered_failure(struct attempt *attempt, enum token_verdict *verdict, bool *known)
{
	const struct error *error;
	int number;

	error = store_failure_read(attempt->app, attempt->request->arena, attempt->record, &number);
	*known = error == NULL && number > TOKEN_GOOD && (size_t)number < sizeof meanings / sizeof meanings[0];
	if (*known)
		*verdict = (enum token_verdict)number;
	return error;
}

/*
 * Somebody else has the lease: wait a moment. *over when no time is left; *changed when what is stored is to be looked
 * at anew. Only that is asked for, as the whole connection, read at every turn, would exhaust the request's memory.
 */
static const struct error *
wait_for_owner(struct attempt *attempt, int64_t *poll_ms, bool *changed, bool *over)
{
	struct loop *loop = attempt->app->loop;
	struct request *request = attempt->request;

	attempt->waited = true;
	*over = loop_now_ms(loop) + 2 * *poll_ms >= request->deadline_ms;
	if (*over)
		return NULL;
	fiber_sleep(*poll_ms + (int64_t)random_below((uint32_t)*poll_ms));
	*poll_ms = *poll_ms * 3 / 2 < POLL_MOST_MS ? *poll_ms * 3 / 2 : POLL_MOST_MS;
	return store_integration_changed(attempt->app, request->arena, attempt->record, changed);
}

/* With the lease: look once more, and refresh where that is still due. *again: the record changed meanwhile. */
static const struct error *
look_and_refresh(struct attempt *attempt, enum token_verdict *verdict, bool *again)
{
	bool settled;
	const struct error *error = look(attempt, verdict, &settled);

	*again = false;
	if (error != NULL || settled)
		return error;
	*verdict = TOKEN_UNREACHABLE;
	if (loop_now_ms(attempt->app->loop) + CALL_LEAST_MS >= attempt->request->deadline_ms)
		return NULL;
	return refresh(attempt, verdict, again);
}

/* As the leader of this process: get the lease, or wait for whoever has it. */
static const struct error *
lead(struct attempt *attempt, enum token_verdict *verdict)
{
	struct app *app = attempt->app;
	struct request *request = attempt->request;
	int64_t poll_ms = POLL_MS;
	bool over = false;

	while (!over) {
		const struct error *error;
		struct lease *lease;
		bool changed = false;

		if (!attempt->wish->ask_again || attempt->waited) {
			error = remembered_failure(attempt, verdict, &over);
			if (error != NULL || over)
				return error;
		}
		error = store_lease_take(app, request->arena, LEASE_REFRESH, &request->principal, &lease);
		if (error == NULL && lease != NULL) {
			error = look_and_refresh(attempt, verdict, &changed);
			store_lease_release(lease);
			over = !changed;
		} else if (error == NULL) {
			*verdict = TOKEN_UNREACHABLE;
			error = wait_for_owner(attempt, &poll_ms, &changed, &over);
			if (error == NULL && changed)
				error = look(attempt, verdict, &over);
		}
		if (error != NULL)
			return error;
	}
	return NULL;
}

/* Join the refresh of this process, or lead it. *over: the verdict is final. */
static const struct error *
join(struct attempt *attempt, const char *key, enum token_verdict *verdict, bool *over)
{
	struct request *request = attempt->request;
	const struct error *error = NULL;
	struct flight flight;

	*over = true;
	switch (flight_join(attempt->app->flights, &flight, key, request->deadline_ms, &error)) {
	case FLIGHT_LEADER:
		error = lead(attempt, verdict);
		flight_end(&flight, error);
		return error;
	case FLIGHT_TIMEOUT: *verdict = TOKEN_UNREACHABLE; return NULL;
	case FLIGHT_FOLLOWER: break;
	}
	attempt->waited = true;
	if (error == NULL)
		error = look(attempt, verdict, over);
	if (error != NULL || *over)
		return error;
	return remembered_failure(attempt, verdict, over);
}

const struct error *
tokens_fresh(struct app *app, struct request *request, const struct token_wish *wish, struct integration *record,
	     struct credential *credential, enum token_verdict *verdict)
{
	struct attempt attempt = {
	    .app = app, .request = request, .wish = wish, .record = record, .credential = credential};
	const struct principal *principal = &request->principal;
	const char *key = arena_join(request->arena, "refresh ", principal->organization, " ", principal->user, " ",
				     principal->service, NULL);
	const struct error *error;
	bool over;

	error = look(&attempt, verdict, &over);
	while (error == NULL && !over) {
		*verdict = TOKEN_UNREACHABLE;
		if (loop_now_ms(app->loop) >= request->deadline_ms)
			return NULL;
		error = join(&attempt, key, verdict, &over);
	}
	return error;
}
