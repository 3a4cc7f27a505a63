/* OAuth messages: what is sent, how each answer is judged, which identities count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/crypto.h"
#include "common/json_read.h"
#include "common/oauth2.h"
#include "common/text.h"
#include "tests/unit/on_arena.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH(table) (sizeof(table) / sizeof(table)[0])

#define CLIENT "client-1.apps.example"
#define SECRET "stand-in-secret-MARKER-a b&c"
#define VERIFIER "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
#define CHALLENGE "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

static const struct oauth2_client post = {CLIENT, SECRET, OAUTH2_CLIENT_POST};
static const struct oauth2_client basic = {"a:b c", "ä+/MARKER", OAUTH2_CLIENT_BASIC};

/* ---- requests ---- */

static struct oauth2_authorization
example(struct words *scopes)
{
	*scopes = words_split(arena, "openid email https://www.example/auth/mail.readonly");
	return (struct oauth2_authorization){
	    .endpoint = "https://accounts.example/o/oauth2/v2/auth",
	    .client_id = CLIENT,
	    .redirect_uri = "https://app.example/integrations/google/callback",
	    .scopes = scopes,
	    .state = "S-_43.acme",
	    .nonce = "N",
	    .code_challenge = CHALLENGE,
	};
}

static void
writes_the_authorization_url(void **state)
{
	(void)state;
	struct words scopes;
	struct oauth2_authorization request = example(&scopes);
	static const struct oauth2_parameter extra[] = {
	    {"access_type", "offline"},
	    {"prompt", "consent select_account"},
	    {"state", "evil"},
	    {"redirect_uri", "https://evil.example"},
	    {"code_challenge_method", "plain"},
	};
	request.extra = extra;
	request.extra_count = LENGTH(extra);
	assert_string_equal(oauth2_authorization_url(arena, &request),
			    "https://accounts.example/o/oauth2/v2/auth?response_type=code&client_id=" CLIENT
			    "&redirect_uri=https%3A%2F%2Fapp.example%2Fintegrations%2Fgoogle%2Fcallback"
			    "&scope=openid%20email%20https%3A%2F%2Fwww.example%2Fauth%2Fmail.readonly"
			    "&state=S-_43.acme&nonce=N&code_challenge=" CHALLENGE "&code_challenge_method=S256"
			    "&access_type=offline&prompt=consent%20select_account");
}

static void
keeps_the_query_of_the_endpoint(void **state)
{
	(void)state;
	struct words scopes;
	struct oauth2_authorization request = example(&scopes);
	request.endpoint = "https://accounts.example/auth?tenant=1";
	request.nonce = NULL;
	const char *url = oauth2_authorization_url(arena, &request);
	assert_memory_equal(url, "https://accounts.example/auth?tenant=1&response_type=code&", 57);
	assert_null(strstr(url, "nonce"));
	request.endpoint = "https://accounts.example/auth?";
	assert_memory_equal(oauth2_authorization_url(arena, &request),
			    "https://accounts.example/auth?response_type=", 44);
}

static void
encodes_the_login_hint(void **state)
{
	(void)state;
	struct words scopes;
	struct oauth2_authorization request = example(&scopes);
	assert_null(strstr(oauth2_authorization_url(arena, &request), "login_hint"));
	request.login_hint = "a+b&state=x@example.com";
	assert_non_null(strstr(oauth2_authorization_url(arena, &request),
			       "&login_hint=a%2Bb%26state%3Dx%40example.com&code_challenge="));
}

static void
bounds_the_authorization_url(void **state)
{
	(void)state;
	struct words scopes;
	struct oauth2_authorization request = example(&scopes);
	char *long_state = arena_alloc(arena, 20001);
	memset(long_state, 'x', 20000);
	request.state = long_state;
	assert_null(oauth2_authorization_url(arena, &request));
}

static void
knows_its_own_parameters(void **state)
{
	(void)state;
	static const char *const own[] = {"response_type", "client_id", "redirect_uri",   "scope",
					  "state",         "nonce",     "code_challenge", "code_challenge_method"};
	static const char *const others[] = {"access_type", "prompt", "hd", "State", "", NULL};
	for (size_t i = 0; i < LENGTH(own); i++)
		assert_true(oauth2_parameter_is_reserved(own[i]));
	for (size_t i = 0; i < LENGTH(others); i++)
		assert_false(oauth2_parameter_is_reserved(others[i]));
}

static void
writes_token_requests(void **state)
{
	(void)state;
	const char *authorization = "untouched";
	assert_string_equal(
	    oauth2_code_request(arena, &post, "4/0AMARKER-code", "https://app.example/cb", VERIFIER, &authorization),
	    "grant_type=authorization_code&code=4%2F0AMARKER-code&redirect_uri=https%3A%2F%2Fapp.example%2Fcb"
	    "&code_verifier=" VERIFIER "&client_id=" CLIENT "&client_secret=stand-in-secret-MARKER-a%20b%26c");
	assert_null(authorization);

	authorization = "untouched";
	assert_string_equal(oauth2_refresh_request(arena, &post, "1//MARKER", &authorization),
			    "grant_type=refresh_token&refresh_token=1%2F%2FMARKER&client_id=" CLIENT
			    "&client_secret=stand-in-secret-MARKER-a%20b%26c");
	assert_null(authorization);

	assert_string_equal(oauth2_revoke_request(arena, &post, "1//MARKER", &authorization),
			    "token=1%2F%2FMARKER&client_id=" CLIENT "&client_secret=stand-in-secret-MARKER-a%20b%26c");
	assert_null(authorization);
}

/* With Basic both halves are form-encoded first, and the form holds neither. */
static void
writes_basic_credentials(void **state)
{
	(void)state;
	const char *authorization = NULL;
	static const char pair[] = "a%3Ab%20c:%C3%A4%2B%2FMARKER";
	const char *expected = arena_format(arena, "Basic %s", text_base64(arena, (const uint8_t *)pair, strlen(pair)));
	assert_string_equal(oauth2_refresh_request(arena, &basic, "1//MARKER", &authorization),
			    "grant_type=refresh_token&refresh_token=1%2F%2FMARKER");
	assert_string_equal(authorization, expected);
	authorization = NULL;
	assert_string_equal(oauth2_code_request(arena, &basic, "c", "r", "v", &authorization),
			    "grant_type=authorization_code&code=c&redirect_uri=r&code_verifier=v");
	assert_string_equal(authorization, expected);
	authorization = NULL;
	assert_string_equal(oauth2_revoke_request(arena, &basic, "t", &authorization), "token=t");
	assert_string_equal(authorization, expected);
}

static void
bounds_requests(void **state)
{
	(void)state;
	const char *authorization;
	char *text = arena_alloc(arena, 20001);
	memset(text, 'x', 20000);
	struct oauth2_client client = {"id", text, OAUTH2_CLIENT_BASIC};
	assert_null(oauth2_refresh_request(arena, &client, "t", &authorization));
	client.auth = OAUTH2_CLIENT_POST;
	assert_null(oauth2_refresh_request(arena, &client, "t", &authorization));
	assert_null(oauth2_refresh_request(arena, &post, text, &authorization));
	assert_null(oauth2_code_request(arena, &post, text, "r", "v", &authorization));
	assert_null(oauth2_revoke_request(arena, &post, text, &authorization));
}

/* ---- answers ---- */

static enum oauth2_failure
judge(long status, const char *body, struct oauth2_tokens *tokens, const char **code)
{
	/* Memory of exactly this size shows a read beyond it. */
	size_t len = strlen(body);
	char *copy = malloc(len == 0 ? 1 : len);
	assert_non_null(copy);
	memcpy(copy, body, len);
	*code = "untouched";
	memset(tokens, 0xa5, sizeof *tokens);
	enum oauth2_failure failure = oauth2_token_answer(arena, status, copy, len, tokens, code);
	free(copy);
	if (failure != OAUTH2_OK) {
		static const struct oauth2_tokens none;
		assert_memory_equal(tokens, &none, sizeof none);
	}
	return failure;
}

static void
takes_good_answers(void **state)
{
	(void)state;
	static const struct {
		const char *body;
		const char *refresh_token;
		const char *id_token;
		const char *scope;
		int64_t expires_in;
	} rows[] = {
#define ANSWER(rest) "{\"access_token\":\"ya29.MARKER\",\"token_type\":\"Bearer\"" rest "}"
	    {ANSWER(""), NULL, NULL, NULL, 300},
	    {ANSWER(
		 ",\"expires_in\":3599,\"refresh_token\":\"1//MARKER\",\"scope\":\"openid a\",\"id_token\":\"h.p.s\""),
	     "1//MARKER", "h.p.s", "openid a", 3599},
	    /* expires_in */
	    {ANSWER(",\"expires_in\":\"3599\""), NULL, NULL, NULL, 3599},
	    {ANSWER(",\"expires_in\":0"), NULL, NULL, NULL, 1},
	    {ANSWER(",\"expires_in\":-5"), NULL, NULL, NULL, 1},
	    {ANSWER(",\"expires_in\":1"), NULL, NULL, NULL, 1},
	    {ANSWER(",\"expires_in\":86400"), NULL, NULL, NULL, 86400},
	    {ANSWER(",\"expires_in\":86401"), NULL, NULL, NULL, 86400},
	    {ANSWER(",\"expires_in\":9223372036854775807"), NULL, NULL, NULL, 86400},
	    {ANSWER(",\"expires_in\":99999999999999999999999"), NULL, NULL, NULL, 300},
	    {ANSWER(",\"expires_in\":1e300"), NULL, NULL, NULL, 300},
	    {ANSWER(",\"expires_in\":3599.5"), NULL, NULL, NULL, 300},
	    {ANSWER(",\"expires_in\":null"), NULL, NULL, NULL, 300},
	    {ANSWER(",\"expires_in\":\"soon\""), NULL, NULL, NULL, 300},
	    {ANSWER(",\"expires_in\":[3599]"), NULL, NULL, NULL, 300},
	    /* no refresh token, in each way of saying so */
	    {ANSWER(",\"refresh_token\":null"), NULL, NULL, NULL, 300},
	    {ANSWER(",\"refresh_token\":\"\""), NULL, NULL, NULL, 300},
	    {ANSWER(",\"id_token\":null,\"scope\":null"), NULL, NULL, NULL, 300},
	    {ANSWER(",\"id_token\":\"\",\"scope\":\"\""), NULL, NULL, "", 300},
	    /* unknown members, other order, an error that is no text */
	    {ANSWER(",\"refresh_token_expires_in\":604799,\"x\":{\"y\":[1]}"), NULL, NULL, NULL, 300},
	    {"{\"scope\":\"a\",\"token_type\":\"bearer\",\"access_token\":\"ya29.MARKER\"}", NULL, NULL, "a", 300},
	    {"{\"token_type\":\"BEARER\",\"access_token\":\"ya29.MARKER\",\"error\":null}", NULL, NULL, NULL, 300},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct oauth2_tokens tokens;
		const char *code;
		assert_int_equal(judge(200, rows[i].body, &tokens, &code), OAUTH2_OK);
		assert_string_equal(code, "none");
		assert_string_equal(tokens.access_token, "ya29.MARKER");
		assert_true(text_equal(tokens.refresh_token, rows[i].refresh_token));
		assert_true(text_equal(tokens.id_token, rows[i].id_token));
		assert_true(text_equal(tokens.scope, rows[i].scope));
		assert_int_equal(tokens.expires_in, rows[i].expires_in);
	}
}

/* Status 200 alone makes no answer: what is not fit to be stored is as good as none. */
static void
refuses_unfit_answers(void **state)
{
	(void)state;
	static const char *const rows[] = {
	    "",
	    "{}",
	    "[]",
	    "null",
	    "\"ya29.MARKER\"",
	    "<html>",
	    "{\"access_token\":\"ya29.MARKER\"",
	    "{\"access_token\":\"ya29.MARKER\"}",
	    "{\"token_type\":\"Bearer\"}",
	    "{\"access_token\":\"ya29.MARKER\",\"token_type\":\"mac\"}",
	    "{\"access_token\":\"ya29.MARKER\",\"token_type\":null}",
	    "{\"access_token\":\"ya29.MARKER\",\"token_type\":\"Bearer \"}",
	    "{\"access_token\":null,\"token_type\":\"Bearer\"}",
	    "{\"access_token\":\"\",\"token_type\":\"Bearer\"}",
	    "{\"access_token\":1,\"token_type\":\"Bearer\"}",
	    "{\"access_token\":[\"a\"],\"token_type\":\"Bearer\"}",
	    "{\"access_token\":\"a b\",\"token_type\":\"Bearer\"}",
	    "{\"access_token\":\"a\\r\\nX: y\",\"token_type\":\"Bearer\"}",
	    "{\"access_token\":\"a\\u0000b\",\"token_type\":\"Bearer\"}",
	    "{\"access_token\":\"\xc3\xa4\",\"token_type\":\"Bearer\"}",
	    "{\"access_token\":\"a\",\"access_token\":\"b\",\"token_type\":\"Bearer\"}",
	    ANSWER(",\"refresh_token\":1"),
	    ANSWER(",\"refresh_token\":\"a\\nb\""),
	    ANSWER(",\"refresh_token\":{}"),
	    ANSWER(",\"refresh_token\":\"\xc3\xa4\""),
	    ANSWER(",\"id_token\":1"),
	    ANSWER(",\"id_token\":\"a b\""),
	    ANSWER(",\"scope\":[\"a\"]"),
	    ANSWER(",\"scope\":1"),
	    ANSWER(",\"scope\":\"a\\nb\""),
	    ANSWER(",\"scope\":\"\xc3\xa4\""),
	    ANSWER(",\"error\":\"server_error\""),
	    ANSWER("} x"),
	    ANSWER("/**/"),
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct oauth2_tokens tokens;
		const char *code;
		if (judge(200, rows[i], &tokens, &code) != OAUTH2_TRANSIENT)
			fail_msg("taken: %s", rows[i]);
	}
	/* The same tokens with another status are no success. */
	static const long statuses[] = {0, 100, 201, 202, 204, 206, 301, 302, 303, 307, 308, 400, 401, 500, -1};
	for (size_t i = 0; i < LENGTH(statuses); i++) {
		struct oauth2_tokens tokens;
		const char *code;
		assert_int_equal(judge(statuses[i], ANSWER(""), &tokens, &code), OAUTH2_TRANSIENT);
	}
}

/* A provider that rotates has forgotten the refresh token that it was sent. */
static void
loses_no_refresh_token_over_another_member(void **state)
{
	(void)state;
#define RENEWED(rest) "{\"refresh_token\":\"1//MARKER\"" rest "}"
#define BEARER ",\"access_token\":\"ya29.MARKER\",\"token_type\":\"Bearer\""
	static const struct {
		long status;
		const char *body;
		enum oauth2_failure failure;
		bool kept;
	} rows[] = {
	    {200, RENEWED(BEARER), OAUTH2_OK, true},
	    {200, RENEWED(BEARER ",\"id_token\":1"), OAUTH2_OK, true},
	    {200, RENEWED(BEARER ",\"id_token\":\"a b\""), OAUTH2_OK, true},
	    {200, RENEWED(BEARER ",\"scope\":[\"a\"]"), OAUTH2_OK, true},
	    {200, RENEWED(BEARER ",\"scope\":\"\xc3\xa4\""), OAUTH2_OK, true},
	    {200, RENEWED(""), OAUTH2_TRANSIENT, true},
	    {200, RENEWED(",\"access_token\":\"ya29.MARKER\""), OAUTH2_TRANSIENT, true},
	    {200, RENEWED(",\"access_token\":\"a b\",\"token_type\":\"Bearer\""), OAUTH2_TRANSIENT, true},
	    {200, RENEWED(",\"access_token\":null,\"token_type\":\"Bearer\""), OAUTH2_TRANSIENT, true},
	    {200, "{\"refresh_token\":\"a b\"" BEARER "}", OAUTH2_TRANSIENT, false},
	    {200, RENEWED(",\"error\":\"server_error\""), OAUTH2_TRANSIENT, false},
	    {201, RENEWED(BEARER), OAUTH2_TRANSIENT, false},
	    {400, RENEWED(",\"error\":\"invalid_grant\""), OAUTH2_INVALID_GRANT, false},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct oauth2_tokens tokens;
		const char *code;
		const char *body = rows[i].body;
		assert_int_equal(oauth2_refresh_answer(arena, rows[i].status, body, strlen(body), &tokens, &code),
				 rows[i].failure);
		assert_true(text_equal(tokens.refresh_token, rows[i].kept ? "1//MARKER" : NULL));
		assert_true(text_equal(tokens.access_token, rows[i].failure == OAUTH2_OK ? "ya29.MARKER" : NULL));
		assert_null(tokens.id_token);
		assert_null(tokens.scope);
	}
}

static void
bounds_lengths_of_tokens(void **state)
{
	(void)state;
	static const struct {
		const char *format;
		size_t most;
	} rows[] = {
	    {"{\"token_type\":\"Bearer\",\"access_token\":\"%s\"}", 4096},
	    {"{\"token_type\":\"Bearer\",\"access_token\":\"a\",\"refresh_token\":\"%s\"}", 2048},
	    {"{\"token_type\":\"Bearer\",\"access_token\":\"a\",\"id_token\":\"%s\"}", 16384},
	    {"{\"token_type\":\"Bearer\",\"access_token\":\"a\",\"scope\":\"%s\"}", 8192},
	};
	char *text = malloc(20000);
	assert_non_null(text);
	for (size_t i = 0; i < LENGTH(rows); i++) {
		for (size_t len = rows[i].most; len <= rows[i].most + 1; len++) {
			struct oauth2_tokens tokens;
			const char *code;
			memset(text, 'x', len);
			text[len] = '\0';
			const char *at = strstr(rows[i].format, "%s");
			const char *body =
			    arena_format(arena, "%.*s%s%s", (int)(at - rows[i].format), rows[i].format, text, at + 2);
			assert_int_equal(judge(200, body, &tokens, &code),
					 len == rows[i].most ? OAUTH2_OK : OAUTH2_TRANSIENT);
		}
	}
	free(text);
}

#define ERROR(code) "{\"error\":\"" code "\"}"
#define DESCRIBED(code, description) "{\"error\":\"" code "\",\"error_description\":\"" description "\"}"

/* What providers have been seen to say at the token endpoint, and what we make of it. */
static void
judges_every_known_answer(void **state)
{
	(void)state;
	static const struct {
		long status;
		const char *body;
		enum oauth2_failure failure;
		const char *code;
	} rows[] = {
	    {400, DESCRIBED("unsupported_grant_type", "Invalid grant_type: X"), OAUTH2_CLIENT,
	     "unsupported_grant_type"},
	    {400, DESCRIBED("invalid_request", "Missing parameter: redirect_uri"), OAUTH2_CLIENT, "invalid_request"},
	    {400, DESCRIBED("invalid_request", "client_secret is missing."), OAUTH2_CLIENT, "invalid_request"},
	    {401, DESCRIBED("invalid_client", "The OAuth client was not found."), OAUTH2_CLIENT, "invalid_client"},
	    {401, DESCRIBED("invalid_client", "Unauthorized"), OAUTH2_CLIENT, "invalid_client"},
	    {400, DESCRIBED("invalid_client", "Unauthorized"), OAUTH2_CLIENT, "invalid_client"},
	    {400, DESCRIBED("redirect_uri_mismatch", "Bad Request"), OAUTH2_CLIENT, "redirect_uri_mismatch"},
	    {400, DESCRIBED("invalid_grant", "Malformed auth code."), OAUTH2_INVALID_GRANT, "invalid_grant"},
	    {400, DESCRIBED("invalid_grant", "Bad Request"), OAUTH2_INVALID_GRANT, "invalid_grant"},
	    {400, DESCRIBED("invalid_grant", "Missing code verifier."), OAUTH2_INVALID_GRANT, "invalid_grant"},
	    {400, DESCRIBED("invalid_grant", "Invalid code verifier."), OAUTH2_INVALID_GRANT, "invalid_grant"},
	    {400, DESCRIBED("invalid_grant", "Token has been expired or revoked."), OAUTH2_INVALID_GRANT,
	     "invalid_grant"},
	    {400, "{\"error\":\"invalid_grant\",\"error_subtype\":\"invalid_rapt\"}", OAUTH2_INVALID_GRANT,
	     "invalid_grant"},
	    {400, "{\"error\":\"invalid_grant\",\"error_subtype\":\"rapt_required\"}", OAUTH2_INVALID_GRANT,
	     "invalid_grant"},
	    {400, ERROR("invalid_grant"), OAUTH2_INVALID_GRANT, "invalid_grant"},
	    {401, DESCRIBED("unauthorized_client", "Unauthorized"), OAUTH2_CLIENT, "unauthorized_client"},
	    {400, ERROR("invalid_scope"), OAUTH2_POLICY, "invalid_scope"},
	    {400, ERROR("admin_policy_enforced"), OAUTH2_POLICY, "admin_policy_enforced"},
	    {403, ERROR("admin_policy_enforced"), OAUTH2_POLICY, "admin_policy_enforced"},
	    {403, ERROR("org_internal"), OAUTH2_POLICY, "org_internal"},
	    {403, ERROR("access_denied"), OAUTH2_POLICY, "access_denied"},
	    {400, ERROR("interaction_required"), OAUTH2_POLICY, "interaction_required"},
	    {401, DESCRIBED("deleted_client", "The OAuth client was deleted."), OAUTH2_CLIENT, "deleted_client"},
	    {401, ERROR("disabled_client"), OAUTH2_CLIENT, "disabled_client"},
	    {400, ERROR("invalid_dpop_proof"), OAUTH2_CLIENT, "invalid_dpop_proof"},
	    {400, ERROR("use_dpop_nonce"), OAUTH2_CLIENT, "use_dpop_nonce"},
	    {500, ERROR("internal_failure"), OAUTH2_TRANSIENT, "internal_failure"},
	    {500, DESCRIBED("internal_failure", "Backend Error"), OAUTH2_TRANSIENT, "internal_failure"},
	    {400, ERROR("internal_failure"), OAUTH2_TRANSIENT, "internal_failure"},
	    {400, ERROR("server_error"), OAUTH2_TRANSIENT, "server_error"},
	    {503, ERROR("temporarily_unavailable"), OAUTH2_TRANSIENT, "temporarily_unavailable"},
	    {403, ERROR("rate_limit_exceeded"), OAUTH2_TRANSIENT, "rate_limit_exceeded"},
	    {403, "<html>User Rate Limit Exceeded</html>", OAUTH2_TRANSIENT, "none"},
	    {500, "<html>", OAUTH2_TRANSIENT, "none"},
	    {502, "<html><title>502 Bad Gateway</title></html>", OAUTH2_TRANSIENT, "none"},
	    {503, "", OAUTH2_TRANSIENT, "none"},
	    {204, "", OAUTH2_TRANSIENT, "none"},
	    {302, "", OAUTH2_TRANSIENT, "none"},
	    {0, "", OAUTH2_TRANSIENT, "none"},
	    {405, "", OAUTH2_TRANSIENT, "none"},
	    {400, ERROR("something_new"), OAUTH2_TRANSIENT, "other"},
	    {400, ERROR(""), OAUTH2_TRANSIENT, "other"},
	    {400, "{}", OAUTH2_TRANSIENT, "none"},
	    {401, "{}", OAUTH2_TRANSIENT, "none"},
	    {403, "{\"error\":{\"code\":403,\"status\":\"PERMISSION_DENIED\"}}", OAUTH2_TRANSIENT, "none"},
	    {401, DESCRIBED("", "invalid_grant"), OAUTH2_TRANSIENT, "other"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct oauth2_tokens tokens;
		const char *code;
		if (judge(rows[i].status, rows[i].body, &tokens, &code) != rows[i].failure)
			fail_msg("misjudged: %ld %s", rows[i].status, rows[i].body);
		assert_string_equal(code, rows[i].code);
	}
}

/* The one verdict that ends a connection: every answer that only resembles it is another one. */
static void
only_400_and_exactly_invalid_grant_ends_a_connection(void **state)
{
	(void)state;
	for (long status = 0; status < 600; status++) {
		struct oauth2_tokens tokens;
		const char *code;
		enum oauth2_failure failure = judge(status, ERROR("invalid_grant"), &tokens, &code);
		assert_int_equal(failure, status == 400 ? OAUTH2_INVALID_GRANT : OAUTH2_TRANSIENT);
		assert_string_equal(code, "invalid_grant");
		arena_reset(arena);
	}
	static const char *const rows[] = {
	    "invalid_grant",
	    "\"invalid_grant\"",
	    "[\"invalid_grant\"]",
	    "[{\"error\":\"invalid_grant\"}]",
	    "{\"error\":[\"invalid_grant\"]}",
	    "{\"error\":{\"error\":\"invalid_grant\"}}",
	    "{\"error\":{\"code\":\"invalid_grant\"}}",
	    "{\"errors\":\"invalid_grant\"}",
	    "{\"Error\":\"invalid_grant\"}",
	    "{\"error_description\":\"invalid_grant\"}",
	    "{\"error_subtype\":\"invalid_grant\"}",
	    "{\"error\":\"server_error\",\"error_description\":\"invalid_grant\"}",
	    ERROR("invalid_grant "),
	    ERROR(" invalid_grant"),
	    ERROR("Invalid_Grant"),
	    ERROR("INVALID_GRANT"),
	    ERROR("invalid_grants"),
	    ERROR("invalid_gran"),
	    ERROR("invalid_grant\\u0000"),
	    ERROR("invalid_grant\\u0000x"),
	    ERROR("invalid_grant\\n"),
	    ERROR("invalid-grant"),
	    "{\"error\":\"invalid_grant\"",
	    "{\"error\":\"invalid_grant\"}x",
	    "{\"error\":\"invalid_grant\"}{}",
	    "{\"error\":\"invalid_grant\",\"error\":\"invalid_grant\"}",
	    "{\"error\":\"server_error\",\"error\":\"invalid_grant\"}",
	    "/**/{\"error\":\"invalid_grant\"}",
	    "<html>{\"error\":\"invalid_grant\"}</html>",
	    "error=invalid_grant",
	    "\xef\xbb\xbf{\"error\":\"invalid_grant\"}",
	    "{\"error\":\"invalid_grant\",\"x\":\"\xff\"}",
	    "{\"error\":null}",
	    "{\"error\":true}",
	    "{\"error\":400}",
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct oauth2_tokens tokens;
		const char *code;
		if (judge(400, rows[i], &tokens, &code) != OAUTH2_TRANSIENT)
			fail_msg("misjudged: %s", rows[i]);
	}
}

/* 408, 429 and 5xx are for later, whatever the body says; 3xx and 2xx are no answer. */
static void
busy_servers_blame_nobody(void **state)
{
	(void)state;
	static const char *const bodies[] = {ERROR("invalid_client"), ERROR("invalid_grant"),
					     ERROR("admin_policy_enforced"), ERROR("invalid_request")};
	static const long statuses[] = {199, 200, 204, 302, 307, 399, 408, 429, 500, 502, 503, 504, 599, 600};
	for (size_t i = 0; i < LENGTH(bodies); i++) {
		for (size_t j = 0; j < LENGTH(statuses); j++) {
			struct oauth2_tokens tokens;
			const char *code;
			assert_int_equal(judge(statuses[j], bodies[i], &tokens, &code), OAUTH2_TRANSIENT);
		}
	}
}

/* The code may be logged, so it is never the provider's own bytes. */
static void
codes_are_our_own_words(void **state)
{
	(void)state;
	struct oauth2_tokens tokens;
	const char *code;
	judge(400, ERROR("evil\\ninjected MARKER"), &tokens, &code);
	assert_string_equal(code, "other");
	judge(400, ERROR("invalid_grant"), &tokens, &code);
	arena_reset(arena);
	memset(arena_alloc(arena, 2000), 'x', 2000);
	assert_string_equal(code, "invalid_grant");
}

static void
knows_dead_tokens(void **state)
{
	(void)state;
	static const struct {
		long status;
		const char *body;
		bool dead;
	} rows[] = {
	    {200, "", true},
	    {200, "{}", true},
	    {200, "<html>", true},
	    {400, DESCRIBED("invalid_token", "Token expired or revoked"), true},
	    {400, ERROR("invalid_token"), true},
	    {400, ERROR("invalid_request"), false},
	    {400, ERROR("invalid_grant"), false},
	    {400, ERROR("unsupported_token_type"), false},
	    {400, "invalid_token", false},
	    {400, "{\"error_description\":\"invalid_token\"}", false},
	    {400, "", false},
	    {401, ERROR("invalid_token"), false},
	    {500, ERROR("invalid_token"), false},
	    {503, "", false},
	    {204, "", false},
	    {302, "", false},
	    {0, "", false},
	};
	for (size_t i = 0; i < LENGTH(rows); i++)
		assert_int_equal(oauth2_is_revoked(arena, rows[i].status, rows[i].body, strlen(rows[i].body)),
				 rows[i].dead);
}

/* ---- identity ---- */

#define NOW INT64_C(1790000000)
#define TIMES ",\"iat\":1790000000,\"exp\":1790003600"
#define ISS "\"iss\":\"https://accounts.google.com\""
#define AUD ",\"aud\":\"" CLIENT "\""
#define SUB ",\"sub\":\"1081\""
#define NONCE ",\"nonce\":\"N\""
/* left half of SHA-256 of ya29.stand-in-access-token */
#define AT_HASH ",\"at_hash\":\"udKJF4Yxl-4wcZG8N1O2hw\""

static const char *
check(const char *claims, const char *nonce, const char *access_token, const char *algorithm)
{
	struct words issuers = words_split(arena, "https://accounts.google.com accounts.google.com");
	const struct json *json = json_read(arena, claims, strlen(claims));
	const struct oauth2_identity_check asked = {
	    .issuers = &issuers,
	    .client_id = CLIENT,
	    .nonce = nonce,
	    .access_token = access_token,
	    .algorithm = algorithm,
	    .now = NOW,
	};
	assert_non_null(json);
	return oauth2_check_identity(arena, json, &asked);
}

static void
checks_every_claim(void **state)
{
	(void)state;
	static const struct {
		const char *claims;
		const char *wrong;
	} rows[] = {
	    {"{" ISS AUD SUB NONCE TIMES AT_HASH "}", NULL},
	    {"{" ISS AUD SUB NONCE TIMES "}", NULL},
	    {"{" ISS AUD SUB NONCE TIMES AT_HASH ",\"azp\":\"" CLIENT "\",\"hd\":\"x\",\"email_verified\":true}", NULL},
	    {"{\"iss\":\"accounts.google.com\"" AUD SUB NONCE TIMES "}", NULL},
	    /* iss */
	    {"{}", "iss"},
	    {"{\"iss\":\"https://accounts.google.com/\"" AUD SUB NONCE TIMES "}", "iss"},
	    {"{\"iss\":\"https://evil.example\"" AUD SUB NONCE TIMES "}", "iss"},
	    {"{\"iss\":\"HTTPS://accounts.google.com\"" AUD SUB NONCE TIMES "}", "iss"},
	    {"{\"iss\":[\"accounts.google.com\"]" AUD SUB NONCE TIMES "}", "iss"},
	    {"{\"iss\":\"\"" AUD SUB NONCE TIMES "}", "iss"},
	    {"{\"iss\":null" AUD SUB NONCE TIMES "}", "iss"},
	    /* aud */
	    {"{" ISS SUB NONCE TIMES "}", "aud"},
	    {"{" ISS ",\"aud\":\"other\"" SUB NONCE TIMES "}", "aud"},
	    {"{" ISS ",\"aud\":[\"" CLIENT "\"]" SUB NONCE TIMES "}", NULL},
	    {"{" ISS ",\"aud\":[\"" CLIENT "\",\"other\"]" SUB NONCE TIMES "}", "aud"},
	    {"{" ISS ",\"aud\":[\"other\",\"" CLIENT "\"],\"azp\":\"" CLIENT "\"" SUB NONCE TIMES "}", "aud"},
	    {"{" ISS ",\"aud\":[]" SUB NONCE TIMES "}", "aud"},
	    {"{" ISS ",\"aud\":[\"" CLIENT "\",1]" SUB NONCE TIMES "}", "aud"},
	    {"{" ISS ",\"aud\":{\"" CLIENT "\":\"" CLIENT "\"}" SUB NONCE TIMES "}", "aud"},
	    {"{" ISS ",\"aud\":\"\"" SUB NONCE TIMES "}", "aud"},
	    {"{" ISS ",\"aud\":null" SUB NONCE TIMES "}", "aud"},
	    /* azp */
	    {"{" ISS AUD ",\"azp\":\"other\"" SUB NONCE TIMES "}", "azp"},
	    {"{" ISS AUD ",\"azp\":null" SUB NONCE TIMES "}", "azp"},
	    /* exp: a skew of five minutes, a life of a day */
	    {"{" ISS AUD SUB NONCE ",\"iat\":1789990000}", "exp"},
	    {"{" ISS AUD SUB NONCE ",\"iat\":1789990000,\"exp\":\"1790003600\"}", "exp"},
	    {"{" ISS AUD SUB NONCE ",\"iat\":1789990000,\"exp\":1790003600.5}", "exp"},
	    {"{" ISS AUD SUB NONCE ",\"iat\":1789990000,\"exp\":1789999940}", NULL},
	    {"{" ISS AUD SUB NONCE ",\"iat\":1789990000,\"exp\":1789999701}", NULL},
	    {"{" ISS AUD SUB NONCE ",\"iat\":1789990000,\"exp\":1789999700}", "exp"},
	    {"{" ISS AUD SUB NONCE ",\"iat\":1789990000,\"exp\":1789996400}", "exp"},
	    {"{" ISS AUD SUB NONCE ",\"iat\":1790000000,\"exp\":1790086400}", NULL},
	    {"{" ISS AUD SUB NONCE ",\"iat\":1790000000,\"exp\":1790086401}", "exp"},
	    {"{" ISS AUD SUB NONCE ",\"iat\":1790000000,\"exp\":9223372036854775807}", "exp"},
	    {"{" ISS AUD SUB NONCE ",\"iat\":1790000000,\"exp\":-9223372036854775807}", "exp"},
	    {"{" ISS AUD SUB NONCE ",\"iat\":1790000010,\"exp\":1790000009}", "exp"},
	    {"{" ISS AUD SUB NONCE ",\"iat\":0,\"exp\":1790003600}", "exp"},
	    /* iat */
	    {"{" ISS AUD SUB NONCE ",\"exp\":1790003600}", "iat"},
	    {"{" ISS AUD SUB NONCE ",\"exp\":1790003600,\"iat\":null}", "iat"},
	    {"{" ISS AUD SUB NONCE ",\"exp\":1790003600,\"iat\":1790000060}", NULL},
	    {"{" ISS AUD SUB NONCE ",\"exp\":1790003600,\"iat\":1790000300}", NULL},
	    {"{" ISS AUD SUB NONCE ",\"exp\":1790007200,\"iat\":1790000301}", "iat"},
	    {"{" ISS AUD SUB NONCE ",\"exp\":1790007200,\"iat\":1790003600}", "iat"},
	    {"{" ISS AUD SUB NONCE ",\"exp\":1790003600,\"iat\":-9223372036854775807}", "iat"},
	    {"{" ISS AUD SUB NONCE ",\"exp\":9223372036854775807,\"iat\":9223372036854775807}", "iat"},
	    /* nbf */
	    {"{" ISS AUD SUB NONCE TIMES ",\"nbf\":1790000300}", NULL},
	    {"{" ISS AUD SUB NONCE TIMES ",\"nbf\":1790000301}", "nbf"},
	    {"{" ISS AUD SUB NONCE TIMES ",\"nbf\":\"x\"}", "nbf"},
	    /* nonce */
	    {"{" ISS AUD SUB TIMES "}", "nonce"},
	    {"{" ISS AUD SUB TIMES ",\"nonce\":\"n\"}", "nonce"},
	    {"{" ISS AUD SUB TIMES ",\"nonce\":\"\"}", "nonce"},
	    {"{" ISS AUD SUB TIMES ",\"nonce\":null}", "nonce"},
	    {"{" ISS AUD SUB TIMES ",\"nonce\":[\"N\"]}", "nonce"},
	    /* sub */
	    {"{" ISS AUD NONCE TIMES "}", "sub"},
	    {"{" ISS AUD NONCE TIMES ",\"sub\":\"\"}", "sub"},
	    {"{" ISS AUD NONCE TIMES ",\"sub\":1081}", "sub"},
	    {"{" ISS AUD NONCE TIMES ",\"sub\":\"a b\"}", "sub"},
	    {"{" ISS AUD NONCE TIMES ",\"sub\":\"\xc3\xa4\"}", "sub"},
	    {"{" ISS AUD NONCE TIMES ",\"sub\":\"a\\nb\"}", "sub"},
	    /* at_hash */
	    {"{" ISS AUD SUB NONCE TIMES ",\"at_hash\":\"udKJF4Yxl-4wcZG8N1O2hW\"}", "at_hash"},
	    {"{" ISS AUD SUB NONCE TIMES ",\"at_hash\":\"udKJF4Yxl-4wcZG8N1O2hw==\"}", "at_hash"},
	    {"{" ISS AUD SUB NONCE TIMES ",\"at_hash\":\"\"}", "at_hash"},
	    {"{" ISS AUD SUB NONCE TIMES ",\"at_hash\":null}", "at_hash"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		const char *wrong = check(rows[i].claims, "N", "ya29.stand-in-access-token", "RS256");
		if (!text_equal(wrong, rows[i].wrong))
			fail_msg("%s: %s, not %s", rows[i].claims, wrong == NULL ? "taken" : wrong,
				 rows[i].wrong == NULL ? "taken" : rows[i].wrong);
	}
}

static void
bounds_the_subject(void **state)
{
	(void)state;
	char subject[257];
	for (size_t len = 255; len <= 256; len++) {
		memset(subject, '1', len);
		subject[len] = '\0';
		const char *claims = arena_format(arena, "{" ISS AUD NONCE TIMES ",\"sub\":\"%s\"}", subject);
		assert_true(text_equal(check(claims, "N", NULL, NULL), len == 255 ? NULL : "sub"));
	}
}

static void
asks_only_what_it_is_told_to(void **state)
{
	(void)state;
	/* A refresh has no nonce of ours; one that is there does not matter. */
	assert_null(check("{" ISS AUD SUB TIMES "}", NULL, NULL, NULL));
	assert_null(check("{" ISS AUD SUB NONCE TIMES "}", NULL, NULL, NULL));
	assert_null(check("{" ISS AUD SUB TIMES ",\"at_hash\":\"wrong\"}", NULL, NULL, NULL));
	assert_string_equal(check("{" ISS AUD SUB TIMES ",\"at_hash\":\"wrong\"}", NULL, "ya29.MARKER", NULL),
			    "at_hash");
}

/* The hash of at_hash follows the token's own algorithm (OpenID Connect Core 3.1.3.6). */
static void
at_hash_follows_the_algorithm(void **state)
{
	(void)state;
	static const char token[] = "ya29.stand-in-access-token";
	static const struct {
		const char *algorithm;
		unsigned bits;
	} rows[] = {{NULL, 256},    {"RS256", 256}, {"PS256", 256}, {"ES256", 256},
		    {"RS384", 384}, {"ES384", 384}, {"RS512", 512}};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		for (unsigned bits = 256; bits <= 512; bits += 128) {
			uint8_t digest[CRYPTO_SHA2_MAX];
			size_t size = crypto_sha2(bits, token, strlen(token), digest);
			const char *claims = arena_format(arena, "{" ISS AUD SUB NONCE TIMES ",\"at_hash\":\"%s\"}",
							  text_base64url(arena, digest, size / 2));
			assert_true(text_equal(check(claims, "N", token, rows[i].algorithm),
					       bits == rows[i].bits ? NULL : "at_hash"));
		}
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(writes_the_authorization_url),
	    cmocka_unit_test(keeps_the_query_of_the_endpoint),
	    cmocka_unit_test(encodes_the_login_hint),
	    cmocka_unit_test(bounds_the_authorization_url),
	    cmocka_unit_test(knows_its_own_parameters),
	    cmocka_unit_test(writes_token_requests),
	    cmocka_unit_test(writes_basic_credentials),
	    cmocka_unit_test(bounds_requests),
	    cmocka_unit_test(takes_good_answers),
	    cmocka_unit_test(refuses_unfit_answers),
	    cmocka_unit_test(loses_no_refresh_token_over_another_member),
	    cmocka_unit_test(bounds_lengths_of_tokens),
	    cmocka_unit_test(judges_every_known_answer),
	    cmocka_unit_test(only_400_and_exactly_invalid_grant_ends_a_connection),
	    cmocka_unit_test(busy_servers_blame_nobody),
	    cmocka_unit_test(codes_are_our_own_words),
	    cmocka_unit_test(knows_dead_tokens),
	    cmocka_unit_test(checks_every_claim),
	    cmocka_unit_test(bounds_the_subject),
	    cmocka_unit_test(asks_only_what_it_is_told_to),
	    cmocka_unit_test(at_hash_follows_the_algorithm),
	};
	return cmocka_run_group_tests_name("oauth2", tests, on_arena_open, on_arena_close);
}
