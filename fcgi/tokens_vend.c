/*
 * An access token for a program, by the token route or the gateway: fresh, of the right member, with the scopes that
 * were asked for; noted, so that DELETE can say until when it lasts.
 */
#include "fcgi/tokens_vend.h"

#include "common/clock.h"
#include "common/crypto.h"
#include "fcgi/api_error.h"
#include "fcgi/store_use.h"
#include "fcgi/task.h"
#include "fcgi/tokens_refresh_once.h"

/* A stored token that is still good is handed out, although the provider fails or too many wait for it. */
static bool
is_still_usable(const struct credential *credential, const struct token_options *options, enum token_result result)
{
	char hash[CRYPTO_SHA256_HEX];

	if (result != TOKEN_UNREACHABLE && result != TOKEN_CLIENT && result != TOKEN_POLICY && result != TOKEN_CROWDED)
		return false;
	if (credential->state != CREDENTIAL_OPEN || credential->expires_at <= clock_wall())
		return false;
	crypto_sha256_hex(credential->access_token, hash);
	return !text_equal(hash, options->refused);
}

/* A call that failed has taken its time: is the connection still the one that was read before, and good? */
static const struct error *
is_still_stored(struct task *task, const struct integration *read, bool *still)
{
	struct integration record;
	struct credential credential;
	const struct error *error;
	bool found;

	error = store_integration_read_tokens(task, NULL, &record, &credential, &found);
	*still = error == NULL && found && !record.member_removed && text_equal(record.generation, read->generation) &&
		 !text_equal(record.status, "invalid") && !tokens_are_of_another(&record);
	return error;
}

/* One attempt; *noted is false when the connection went away, or became another, before the token was noted. */
static const struct error *
vend_once(struct task *task, const struct token_options *options, struct vended_token *out, bool *noted)
{
	const struct error *error;
	enum token_result result;
	struct words missing;

	out->warning = NULL;
	error = tokens_fresh(task, options, &out->record, &out->credential, &result);
	if (error != NULL)
		return error;
	if (result != TOKEN_GOOD) {
		bool still;

		if (!is_still_usable(&out->credential, options, result))
			return tokens_result_info(result)->error;
		error = is_still_stored(task, &out->record, &still);
		if (error != NULL || !still)
			return error;
		out->warning = tokens_result_info(result)->reason;
	}
	missing = words_minus(task->arena, options->scopes, &out->record.scopes);
	if (missing.count > 0)
		return &error_scopes_missing;
	return store_integration_vended(task, &out->record, &out->credential, noted);
}

const struct error *
tokens_vend(struct task *task, const struct token_options *options, const struct words *scopes,
	    struct vended_token *out)
{
	struct token_options whole = *options;
	const struct error *error;
	bool noted = false;

	whole.scopes = scopes;
	error = vend_once(task, &whole, out, &noted);
	if (error == NULL && !noted) /* disconnected at this moment, and perhaps connected again */
		error = vend_once(task, &whole, out, &noted);
	if (error == NULL && !noted)
		error = &error_integration_not_found;
	if (error == NULL)
		store_event_use(task, "token_issued", out->warning != NULL ? out->warning : "ok");
	return error;
}
