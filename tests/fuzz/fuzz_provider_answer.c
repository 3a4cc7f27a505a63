/*
 * Answers of a provider, as libcurl hands them to http.c (in pieces, header lines first), and what is made of the body
 * for each endpoint but the token's own (token_answer). The first byte chooses how large the pieces are; the input is
 * the head, an empty line, and the body.
 */
#include "common/http.c" /* for its callbacks */

#include "common/json_read.h"
#include "common/jwt.h"
#include "common/oauth2.h"
#include "tests/fuzz/fuzz.h"

/* One header line a call, with its end, as CURLOPT_HEADERFUNCTION promises. */
static char *
take_head(struct http_call *call, char *at, const char *end)
{
	while (at < end) {
		char *line_end = memchr(at, '\n', (size_t)(end - at));
		size_t len = line_end != NULL ? (size_t)(line_end - at) + 1 : (size_t)(end - at);
		/* In memory of exactly its size: no header line ends in NUL. */
		char *line = malloc(len);

		must(line != NULL);
		memcpy(line, at, len);
		must(take_header(line, 1, len, call) == len);
		free(line);
		at += len;
		if (len <= 2 && line_end != NULL)
			break;
	}
	return at;
}

static void
take_all(struct http_call *call, char *at, const char *end, size_t piece)
{
	while (at < end) {
		size_t len = (size_t)(end - at) < piece ? (size_t)(end - at) : piece;

		if (take_body(at, 1, len, call) != len) {
			must(call->too_large);
			return;
		}
		at += len;
	}
}

static const char *
member(struct arena *arena, const struct json *answer, const char *name)
{
	const struct json *value = json_member(answer, name);

	return value != NULL && value->text != NULL ? arena_text(arena, value->text) : NULL;
}

static void
judge(struct arena *arena, const char *body, size_t len)
{
	static const char signed_token[] = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0.e30.AAAA";
	struct words algorithms = words_split(arena, "RS256 RS384 RS512 PS256 ES256 ES384");
	struct jwt_keys *keys = jwt_keys_open(body, len);
	const struct json *claims = NULL;
	const struct json *answer = json_read(arena, body, len);
	static const char *const names[] = {"sub", "email", "issuer", "jwks_uri", "token_endpoint"};
	struct oauth2_tokens tokens;

	if (keys != NULL) {
		must(answer != NULL && answer->type == JSON_OBJECT);
		must(jwt_verify(arena, keys, &algorithms, signed_token, &claims) != JWT_VALID && claims == NULL);
	}
	jwt_keys_close(keys);
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		const char *text = member(arena, answer, names[i]);

		must(text == NULL || text_is_utf8(text, strlen(text)));
	}
	oauth2_unfit_tokens(arena, body, len, &tokens);
	must(tokens.access_token == NULL || text_is_visible(tokens.access_token));
	must(tokens.refresh_token == NULL || text_is_visible(tokens.refresh_token));
	must(oauth2_is_revoked(arena, 200, body, len));
	must(!oauth2_is_revoked(arena, 401, body, len));
	must(oauth2_is_revoked(arena, 400, body, len) == text_equal(json_string(answer, "error"), "invalid_token"));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = fuzz_arena();
	struct http_response response = {.retry_after = -1, .max_age = -1};
	struct http_call call = {.arena = arena, .response = &response};

	if (size == 0)
		return 0;
	char *text = fuzz_text(data + 1, size - 1);
	char *end = text + size - 1;
	char *body = take_head(&call, text, end);

	must(response.retry_after >= -1 && response.retry_after <= 3600);
	must(response.max_age >= -1 && response.max_age <= 86400);
	take_all(&call, body, end, (size_t)data[0] * 16 + 1);
	must(call.len <= HTTP_BODY_MAX && call.len <= (size_t)(end - body));
	if (!call.too_large && call.len > 0) {
		must(call.len == (size_t)(end - body) && memcmp(call.body, body, call.len) == 0);
		must(call.body[call.len] == '\0');
		judge(arena, call.body, call.len);
	}
	free(text);
	return 0;
}
