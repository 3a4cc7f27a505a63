/*
 * oauth2_token_answer, oauth2_refresh_answer and what it rests on. The first byte chooses the status, the rest is the
 * body. Whatever comes in, only status 400 with exactly `invalid_grant` ends a connection, and nothing unfit to be
 * stored comes out.
 */
#include "common/json_read.h"
#include "common/oauth2.h"
#include "common/text.h"
#include "tests/fuzz/fuzz.h"

static void
check_tokens(const struct oauth2_tokens *tokens)
{
	must(text_is_visible(tokens->access_token) && strlen(tokens->access_token) <= 4096);
	if (tokens->refresh_token != NULL)
		must(text_is_visible(tokens->refresh_token) && strlen(tokens->refresh_token) <= 2048);
	if (tokens->id_token != NULL)
		must(text_is_visible(tokens->id_token));
	if (tokens->scope != NULL)
		must(strpbrk(tokens->scope, "\r\n\t\x7f") == NULL && strlen(tokens->scope) <= 8192);
	must(tokens->expires_in >= 1 && tokens->expires_in <= 86400);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const long statuses[] = {200, 400, 401, 403, 408, 429, 500, 503, 302, 0};
	if (size == 0)
		return 0;
	struct arena *arena = fuzz_arena();
	long status = statuses[data[0] % (sizeof statuses / sizeof statuses[0])];
	const char *body = (const char *)data + 1;
	size_t len = size - 1;

	static const struct oauth2_tokens none;
	struct oauth2_tokens tokens;
	const char *code = NULL;
	enum oauth2_failure failure = oauth2_token_answer(arena, status, body, len, &tokens, &code);
	const struct json *answer = json_read(arena, body, len);
	const char *error = json_string(answer, "error");
	must(code != NULL && text_is_name(code));
	must((failure == OAUTH2_INVALID_GRANT) == (status == 400 && text_equal(error, "invalid_grant")));
	if (failure == OAUTH2_OK) {
		must(status == 200 && error == NULL);
		check_tokens(&tokens);
	} else {
		must(memcmp(&tokens, &none, sizeof none) == 0);
	}
	struct oauth2_tokens renewed;
	enum oauth2_failure after = oauth2_refresh_answer(arena, status, body, len, &renewed, &code);
	must(after == failure || (after == OAUTH2_OK && failure == OAUTH2_TRANSIENT));
	if (after == OAUTH2_OK)
		check_tokens(&renewed);
	else if (renewed.refresh_token != NULL)
		must(status == 200 && error == NULL && text_is_visible(renewed.refresh_token) &&
		     strlen(renewed.refresh_token) <= 2048);
	if (failure == OAUTH2_POLICY || failure == OAUTH2_CLIENT)
		must(status >= 400 && status < 404 && text_equal(error, code));

	bool revoked = oauth2_is_revoked(arena, status, body, len);
	must(revoked == (status == 200 || (status == 400 && text_equal(error, "invalid_token"))));

	if (answer != NULL) {
		struct words issuers = words_split(arena, "https://accounts.google.com");
		const struct oauth2_identity_check check = {.issuers = &issuers,
							    .client_id = "C",
							    .nonce = "N",
							    .access_token = "ya29.stand-in-access-token",
							    .now = 1790000000};
		if (oauth2_check_identity(arena, answer, &check) == NULL) {
			must(text_equal(json_string(answer, "iss"), "https://accounts.google.com"));
			must(text_equal(json_string(answer, "nonce"), "N"));
			must(text_is_visible(json_string(answer, "sub")));
		}
	}
	return 0;
}
