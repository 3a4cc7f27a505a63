/*
 * Validation really asks the provider: a refresh when one is due, then one cheap authenticated call (userinfo). Of
 * concurrent validations of one connection one asks: inside a process by a flight, between processes by a lease. The
 * others answer from the record it stored.
 */
#include "fcgi/tokens_validate.h"

#include "common/arena.h"
#include "common/crypto.h"
#include "common/error.h"
#include "common/fiber.h"
#include "common/loop.h"
#include "common/random.h"
#include "common/singleflight.h"
#include "fcgi/app.h"
#include "fcgi/provider_userinfo.h"
#include "fcgi/store_lease.h"
#include "fcgi/store_use.h"
#include "fcgi/store_validation.h"
#include "fcgi/task.h"
#include "fcgi/tokens_refresh_once.h"
#include "fcgi/waits.h"

#include <stddef.h>

#define POLL_MS 25
#define MINIMUM_SECONDS 300

/* Does the provider take the token, and for the account that is stored? TOKEN_DEAD: it refuses the token. */
static enum token_result
ask_userinfo(struct task *task, const char *access_token, const struct integration *record)
{
	const char *account = NULL;
	const char *email = NULL;

	switch (provider_userinfo(task, access_token, &account, &email)) {
	case USERINFO_GOOD: return text_equal(account, record->oauth_user_id) ? TOKEN_GOOD : TOKEN_IDENTITY;
	case USERINFO_REFUSED: return TOKEN_DEAD;
	case USERINFO_FORBIDDEN: return TOKEN_POLICY;
	case USERINFO_UNREACHABLE: break;
	}
	return TOKEN_UNREACHABLE;
}

/* Refresh where due, then ask who the token belongs to. A refused token is refreshed and asked about once more. */
static const struct error *
ask_provider(struct task *task, struct integration *record, enum token_result *result)
{
	struct token_options options = {.minimum_seconds = MINIMUM_SECONDS, .ask_again = true};
	struct credential credential;
	char refused[CRYPTO_SHA256_HEX];

	for (int round = 0; round < 2; round++) {
		const struct error *error = tokens_fresh(task, &options, record, &credential, result);

		if (error != NULL || *result != TOKEN_GOOD)
			return error;
		*result = ask_userinfo(task, credential.access_token, record);
		if (*result != TOKEN_DEAD)
			return NULL;
		crypto_sha256_hex(credential.access_token, refused);
		options.refused = refused;
	}
	/* A token that was new a moment ago is refused: that says nothing about the grant. */
	*result = TOKEN_UNREACHABLE;
	return NULL;
}

static const struct error *
validate_connection(struct task *task, struct integration *record, bool *found)
{
	enum token_result result = TOKEN_UNREACHABLE;
	const struct token_result_info *info;
	const struct error *error;
	bool stored = false;

	error = ask_provider(task, record, &result);
	*found = result != TOKEN_GONE;
	if (error == NULL && result == TOKEN_REMOVED)
		error = tokens_result_info(result)->error;
	if (error != NULL || !*found)
		return error;
	info = tokens_result_info(result);
	record->status = info->status;
	record->status_reason = info->reason;
	error = store_integration_status(task, record, info->answered, &stored);
	if (error == NULL && !stored) /* reconnected or disconnected meanwhile: what is there now counts */
		error = store_integration_read(task, record, found);
	if (error == NULL)
		store_event_use(task, "validated", record->status);
	return error;
}

/* As the leader of this process: validate, or wait for the process that does. */
static const struct error *
lead_validation(struct task *task, struct integration *record, bool *found)
{
	const char *before;
	const struct error *error = store_validation_read(task, &before);

	while (error == NULL) {
		struct lease *lease;
		const char *mark;

		error = store_lease_take(task, LEASE_VALIDATE, &lease);
		if (error == NULL)
			error = store_validation_read(task, &mark);
		if (error == NULL && !text_equal(mark, before))
			error = store_integration_read(task, record, found);
		else if (error == NULL && lease != NULL)
			error = validate_connection(task, record, found);
		else if (error == NULL && loop_now_ms(task->app->loop) + 2 * POLL_MS < task->deadline_ms) {
			fiber_sleep(POLL_MS + (int64_t)random_below(POLL_MS));
			continue;
		} else if (error == NULL)
			error = &error_overloaded;
		if (lease != NULL) {
			if (error == NULL)
				store_validation_mark(task);
			store_lease_release(lease);
		}
		break;
	}
	return error;
}

const struct error *
tokens_validate(struct task *task, struct integration *record, bool *found)
{
	const struct connection_key *connection = &task->connection_key;
	const char *key = arena_join(task->arena, "validate ", connection->organization, " ", connection->user, " ",
				     connection->service, NULL);
	const struct error *error = waits_begin(task);
	struct singleflight flight;

	if (error != NULL)
		return error;
	switch (singleflight_join(task->app->singleflights, &flight, key, task->deadline_ms, &error)) {
	case SINGLEFLIGHT_LEADER:
		error = lead_validation(task, record, found);
		singleflight_end(&flight, error);
		return error;
	case SINGLEFLIGHT_TIMEOUT: return &error_overloaded;
	case SINGLEFLIGHT_FOLLOWER: break;
	}
	return error != NULL ? error : store_integration_read(task, record, found);
}
