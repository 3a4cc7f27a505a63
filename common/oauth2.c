/*
 * Messages are built once, by one encoder, and answers are judged by tables: what a provider may say, and what we make
 * of it, stands in one place. Descriptions for people are never read.
 */
#include "common/oauth2.h"

#include "common/arena.h"
#include "common/buf.h"
#include "common/crypto.h"
#include "common/json_read.h"
#include "common/text.h"
#include "common/url.h"

#include <string.h>

#define MESSAGE_MAX 16384
#define ACCESS_TOKEN_MAX 4096
#define REFRESH_TOKEN_MAX 2048
#define ID_TOKEN_MAX 16384
#define SCOPE_MAX 8192
#define SUBJECT_MAX 255
#define EXPIRES_IN_MAX 86400
#define EXPIRES_IN_UNKNOWN 300
#define CLOCK_SKEW 300
#define LIFE_MAX 86400

/* ---- requests ---- */

static const char *const reserved_parameters[] = {
    "response_type", "client_id", "redirect_uri", "scope", "state", "nonce", "code_challenge", "code_challenge_method",
};

bool
oauth2_parameter_is_reserved(const char *name)
{
	for (size_t i = 0; i < sizeof reserved_parameters / sizeof reserved_parameters[0]; i++)
		if (text_equal(name, reserved_parameters[i]))
			return true;
	return false;
}

static char *
message(const struct buf *buf)
{
	return buf->failed ? NULL : buf->data;
}

char *
oauth2_authorization_url(struct arena *arena, const struct oauth2_authorization *request)
{
	struct buf buf;
	buf_init(&buf, arena, MESSAGE_MAX);
	buf_add(&buf, request->endpoint);
	if (strchr(request->endpoint, '?') == NULL)
		buf_add_char(&buf, '?');
	url_add(&buf, "response_type", "code");
	url_add(&buf, "client_id", request->client_id);
	url_add(&buf, "redirect_uri", request->redirect_uri);
	url_add(&buf, "scope", words_join(arena, request->scopes));
	url_add(&buf, "state", request->state);
	if (request->nonce != NULL)
		url_add(&buf, "nonce", request->nonce);
	if (request->login_hint != NULL)
		url_add(&buf, "login_hint", request->login_hint);
	/* Without the method a provider assumes `plain`, which protects nothing. */
	url_add(&buf, "code_challenge", request->code_challenge);
	url_add(&buf, "code_challenge_method", "S256");
	for (size_t i = 0; i < request->extra_count; i++)
		if (!oauth2_parameter_is_reserved(request->extra[i].name))
			url_add(&buf, request->extra[i].name, request->extra[i].value);
	return message(&buf);
}

/* Say who we are: in the form, or in *authorization with both halves form-encoded before base64 (RFC 6749 2.3.1). */
static void
add_client(struct arena *arena, struct buf *form, const struct oauth2_client *client, const char **authorization)
{
	*authorization = NULL;
	if (client->auth == OAUTH2_CLIENT_POST) {
		url_add(form, "client_id", client->id);
		url_add(form, "client_secret", client->secret);
		return;
	}
	struct buf pair;
	buf_init(&pair, arena, MESSAGE_MAX);
	url_encode(&pair, client->id);
	buf_add_char(&pair, ':');
	url_encode(&pair, client->secret);
	if (pair.failed) {
		form->failed = true;
		return;
	}
	const char *encoded = text_base64(arena, (const uint8_t *)pair.data, pair.len);
	*authorization = arena_format(arena, "Basic %s", encoded);
}

char *
oauth2_code_request(struct arena *arena, const struct oauth2_client *client, const char *code, const char *redirect_uri,
		    const char *code_verifier, const char **authorization)
{
	struct buf form;
	buf_init(&form, arena, MESSAGE_MAX);
	url_add(&form, "grant_type", "authorization_code");
	url_add(&form, "code", code);
	url_add(&form, "redirect_uri", redirect_uri);
	url_add(&form, "code_verifier", code_verifier);
	add_client(arena, &form, client, authorization);
	return message(&form);
}

char *
oauth2_refresh_request(struct arena *arena, const struct oauth2_client *client, const char *refresh_token,
		       const char **authorization)
{
	struct buf form;
	buf_init(&form, arena, MESSAGE_MAX);
	url_add(&form, "grant_type", "refresh_token");
	url_add(&form, "refresh_token", refresh_token);
	add_client(arena, &form, client, authorization);
	return message(&form);
}

char *
oauth2_revoke_request(struct arena *arena, const struct oauth2_client *client, const char *token,
		      const char **authorization)
{
	struct buf form;
	buf_init(&form, arena, MESSAGE_MAX);
	url_add(&form, "token", token);
	add_client(arena, &form, client, authorization);
	return message(&form);
}

/* ---- answers ---- */

struct known_code {
	const char *code;
	enum oauth2_failure failure; /* with a status from 400 to 499 */
};

static const struct known_code known_codes[] = {
    {"invalid_grant", OAUTH2_INVALID_GRANT}, /* with status 400 alone */

    {"access_denied", OAUTH2_POLICY},
    {"account_selection_required", OAUTH2_POLICY},
    {"admin_policy_enforced", OAUTH2_POLICY},
    {"consent_required", OAUTH2_POLICY},
    {"interaction_required", OAUTH2_POLICY},
    {"invalid_scope", OAUTH2_POLICY},
    {"login_required", OAUTH2_POLICY},
    {"org_internal", OAUTH2_POLICY},

    {"deleted_client", OAUTH2_CLIENT},
    {"disabled_client", OAUTH2_CLIENT},
    {"invalid_client", OAUTH2_CLIENT},
    {"invalid_dpop_proof", OAUTH2_CLIENT},
    {"invalid_request", OAUTH2_CLIENT},
    {"redirect_uri_mismatch", OAUTH2_CLIENT},
    {"unauthorized_client", OAUTH2_CLIENT},
    {"unsupported_grant_type", OAUTH2_CLIENT},
    {"use_dpop_nonce", OAUTH2_CLIENT},

    {"internal_failure", OAUTH2_TRANSIENT},
    {"rate_limit_exceeded", OAUTH2_TRANSIENT},
    {"server_error", OAUTH2_TRANSIENT},
    {"slow_down", OAUTH2_TRANSIENT},
    {"temporarily_unavailable", OAUTH2_TRANSIENT},
};

static const struct known_code *
find_code(const char *code)
{
	for (size_t i = 0; i < sizeof known_codes / sizeof known_codes[0]; i++)
		if (text_equal(code, known_codes[i].code))
			return &known_codes[i];
	return NULL;
}

/* Only space and visible ASCII (RFC 6749 appendix A). */
static bool
is_scope(const char *text)
{
	for (; *text != '\0'; text++)
		if (*text < 0x20 || *text > 0x7e)
			return false;
	return true;
}

/* The optional token `name`: absent, null and "" are NULL. False when it is there and unfit to be stored. */
static bool
read_token(const struct json *answer, const char *name, size_t max, const char **token)
{
	const struct json *member = json_member(answer, name);
	*token = NULL;
	if (member == NULL || member->type == JSON_NULL)
		return true;
	if (member->type != JSON_STRING)
		return false;
	if (*member->text == '\0')
		return true;
	*token = member->text;
	return text_is_visible(member->text) && strlen(member->text) <= max;
}

/* Take what a token cannot be used without; false when it is not fit for use. */
static bool
read_tokens(const struct json *answer, struct oauth2_tokens *tokens)
{
	int64_t seconds;

	if (!json_integer(answer, "expires_in", &seconds))
		seconds = EXPIRES_IN_UNKNOWN;
	if (seconds < 1)
		seconds = 1;
	if (seconds > EXPIRES_IN_MAX)
		seconds = EXPIRES_IN_MAX;
	tokens->expires_in = seconds;
	if (!read_token(answer, "refresh_token", REFRESH_TOKEN_MAX, &tokens->refresh_token)) {
		tokens->refresh_token = NULL;
		return false;
	}
	return read_token(answer, "access_token", ACCESS_TOKEN_MAX, &tokens->access_token) &&
	       tokens->access_token != NULL && text_equal_nocase(json_string(answer, "token_type"), "bearer");
}

/* Take what is said about the tokens; what is unfit is left out, and the result is false. */
static bool
read_description(const struct json *answer, struct oauth2_tokens *tokens)
{
	const struct json *scope = json_member(answer, "scope");
	bool fit = read_token(answer, "id_token", ID_TOKEN_MAX, &tokens->id_token);

	if (!fit)
		tokens->id_token = NULL;
	if (scope == NULL || scope->type == JSON_NULL)
		return fit;
	if (scope->type != JSON_STRING || !is_scope(scope->text) || strlen(scope->text) > SCOPE_MAX)
		return false;
	tokens->scope = scope->text;
	return fit;
}

static enum oauth2_failure
assess_answer(struct arena *arena, long status, const char *body, size_t len, bool refreshed,
	      struct oauth2_tokens *tokens, const char **code)
{
	const struct json *answer = json_read(arena, body, len);
	const char *error = json_string(answer, "error");
	const struct known_code *known = find_code(error);
	*tokens = (struct oauth2_tokens){0};
	*code = known != NULL ? known->code : error != NULL ? "other" : "none";

	if (status == 200 && error == NULL) {
		bool described = read_description(answer, tokens);
		if (read_tokens(answer, tokens) && (described || refreshed))
			return OAUTH2_OK;
	}
	*tokens = (struct oauth2_tokens){.refresh_token = refreshed ? tokens->refresh_token : NULL,
					 .id_token = refreshed ? tokens->id_token : NULL};
	if (known == NULL || status < 400 || status > 499 || status == 408 || status == 429)
		return OAUTH2_TRANSIENT;
	/* This one verdict ends a connection, so it counts only exactly as RFC 6749 5.2 has it. */
	if (known->failure == OAUTH2_INVALID_GRANT && status != 400)
		return OAUTH2_TRANSIENT;
	return known->failure;
}

enum oauth2_failure
oauth2_token_answer(struct arena *arena, long status, const char *body, size_t len, struct oauth2_tokens *tokens,
		    const char **code)
{
	return assess_answer(arena, status, body, len, false, tokens, code);
}

enum oauth2_failure
oauth2_refresh_answer(struct arena *arena, long status, const char *body, size_t len, struct oauth2_tokens *tokens,
		      const char **code)
{
	return assess_answer(arena, status, body, len, true, tokens, code);
}

void
oauth2_unfit_tokens(struct arena *arena, const char *body, size_t len, struct oauth2_tokens *tokens)
{
	const struct json *answer = json_read(arena, body, len);
	*tokens = (struct oauth2_tokens){0};
	if (!read_token(answer, "access_token", ACCESS_TOKEN_MAX, &tokens->access_token))
		tokens->access_token = NULL;
	if (!read_token(answer, "refresh_token", REFRESH_TOKEN_MAX, &tokens->refresh_token))
		tokens->refresh_token = NULL;
	if (!read_token(answer, "id_token", ID_TOKEN_MAX, &tokens->id_token))
		tokens->id_token = NULL;
}

bool
oauth2_is_revoked(struct arena *arena, long status, const char *body, size_t len)
{
	if (status == 200)
		return true;
	return status == 400 && text_equal(json_string(json_read(arena, body, len), "error"), "invalid_token");
}

/* ---- id_token claims ---- */

/* An integer claim; unlike json_integer it takes no string. */
static bool
read_time(const struct json *claims, const char *name, int64_t *value)
{
	const struct json *claim = json_member(claims, name);
	return claim != NULL && claim->type == JSON_NUMBER && json_integer(claims, name, value) && *value >= 0;
}

/* Another audience could use the token against us (OpenID Connect Core 3.1.3.7, 3). */
bool
oauth2_is_audience(const struct json *claims, const char *client_id)
{
	const struct json *audience = json_member(claims, "aud");
	if (audience == NULL)
		return false;
	if (audience->type == JSON_STRING)
		return text_equal(audience->text, client_id);
	if (audience->type != JSON_ARRAY || audience->count == 0)
		return false;
	for (const struct json *item = audience->first; item != NULL; item = item->next)
		if (item->type != JSON_STRING || !text_equal(item->text, client_id))
			return false;
	return true;
}

/* The left half of the access token's digest, of the size that the token's own algorithm uses. */
static bool
is_hash_of(struct arena *arena, const char *hash, const char *access_token, const char *algorithm)
{
	unsigned bits = 256;
	size_t len = algorithm == NULL ? 0 : strlen(algorithm);
	if (len > 3 && strcmp(algorithm + len - 3, "384") == 0)
		bits = 384;
	if (len > 3 && strcmp(algorithm + len - 3, "512") == 0)
		bits = 512;
	uint8_t digest[CRYPTO_SHA2_MAX];
	size_t size = crypto_sha2(bits, access_token, strlen(access_token), digest);
	return crypto_equal(hash, text_base64url(arena, digest, size / 2));
}

const char *
oauth2_check_identity(struct arena *arena, const struct json *claims, const struct oauth2_identity_check *check)
{
	if (!words_contain(check->issuers, json_string(claims, "iss")))
		return "iss";
	if (!oauth2_is_audience(claims, check->client_id))
		return "aud";
	if (json_member(claims, "azp") != NULL && !text_equal(json_string(claims, "azp"), check->client_id))
		return "azp";

	int64_t issued;
	int64_t expires;
	int64_t begins;
	if (!read_time(claims, "exp", &expires) || expires <= check->now - CLOCK_SKEW)
		return "exp";
	if (!read_time(claims, "iat", &issued) || issued > check->now + CLOCK_SKEW)
		return "iat";
	if (expires < issued || expires - issued > LIFE_MAX)
		return "exp";
	if (json_member(claims, "nbf") != NULL &&
	    (!read_time(claims, "nbf", &begins) || begins > check->now + CLOCK_SKEW))
		return "nbf";

	if (check->nonce != NULL && !crypto_equal(json_string(claims, "nonce"), check->nonce))
		return "nonce";
	const char *subject = json_string(claims, "sub");
	if (!text_is_visible(subject) || strlen(subject) > SUBJECT_MAX)
		return "sub";
	if (check->access_token != NULL && json_member(claims, "at_hash") != NULL &&
	    !is_hash_of(arena, json_string(claims, "at_hash"), check->access_token, check->algorithm))
		return "at_hash";
	return NULL;
}
