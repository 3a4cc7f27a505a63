/*
 * Refresh, once over all workers and hosts.
 *
 * Inside a process one fiber leads and the others wait for it (singleflight.h). Between processes the leaders compete
 * for a lease in Redis; its owner reads the connection again, asks the provider, and stores the result only if the
 * generation is still the one that was read. The others wait for the result to appear. A failure is remembered for a
 * moment, so that those that waited do not all ask the provider in turn.
 */
#include "fcgi/tokens_refresh_once.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/fiber.h"
#include "common/loop.h"
#include "common/random.h"
#include "common/singleflight.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/store_lease.h"
#include "fcgi/store_refresh_failure.h"
#include "fcgi/task.h"
#include "fcgi/waits.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define POLL_MS 20 /* for another process's refresh, and up to as much again: at first; later less often */
#define POLL_MOST_MS 100
#define JITTER_MOST_S 60
#define SKEW_S 60      /* that the clocks of two hosts may differ by */
#define JITTER_SHARE 5 /* of what was asked for */

/* With less time than this the provider is not asked: an answer too late may be lost tokens. */
#define CALL_LEAST_MS 500

/*
 * Tokens of a team that were issued together are not refreshed together: some a little before they must be. Drawn from
 * the generation, so that all who look at these tokens come to the same answer.
 */
static int64_t
refresh_jitter(const struct token_attempt *attempt)
{
	int64_t most = attempt->options->minimum_seconds / JITTER_SHARE;
	char drawn[9];

	if (most > JITTER_MOST_S)
		most = JITTER_MOST_S;
	snprintf(drawn, sizeof drawn, "%.8s", attempt->record->generation);
	return (int64_t)(strtoul(drawn, NULL, 16) % (unsigned long)(most + 1));
}

static bool
is_due(const struct token_attempt *attempt)
{
	const struct credential *credential = attempt->credential;
	const struct token_options *options = attempt->options;
	int64_t left = credential->expires_at - clock_wall();
	int64_t life = credential->expires_at - credential->issued_at;

	if (left <= 0 || credential->issued_at > clock_wall() + SKEW_S)
		return true; /* issued in a time to come: by a clock that was wrong, and so is the expiry */
	if (options->force)
		return text_equal(attempt->record->generation, attempt->first_generation);
	if (tokens_is_refused(credential, options))
		return true;
	return left < options->minimum_seconds + refresh_jitter(attempt) && left * 2 <= life;
}

/* Read what is stored and say whether that settles it. */
static const struct error *
look_at_stored(struct token_attempt *attempt, enum token_result *result, bool *settled)
{
	struct task *task = attempt->task;
	const struct token_options *options = attempt->options;
	const struct vend_condition condition = {.expires_at = clock_wall() + options->minimum_seconds,
						 .scopes = options->scopes,
						 .brief = attempt->first_generation == NULL};
	const struct error *error;
	bool found;

	error = store_integration_read_tokens(task, options->scopes != NULL ? &condition : NULL, attempt->record,
					      attempt->credential, &found);
	*settled = true;
	if (error != NULL)
		return error;
	if (attempt->first_generation == NULL && found)
		attempt->first_generation = attempt->record->generation;
	if (attempt->record->member_removed)
		*result = TOKEN_REMOVED;
	else if (!found)
		*result = TOKEN_GONE;
	else if (attempt->credential->state == CREDENTIAL_UNREADABLE)
		*result = TOKEN_UNREADABLE;
	else if (attempt->overtaken != NULL && text_equal(attempt->record->generation, attempt->overtaken))
		*result = TOKEN_UNREADABLE; /* so it is not gone, but damaged: no refresh could ever be stored */
	else if (attempt->credential->state == CREDENTIAL_FOREIGN)
		*result = TOKEN_FOREIGN;
	else if (text_equal(attempt->record->status, "invalid") && (!attempt->options->ask_again || attempt->waited))
		*result = TOKEN_DEAD;
	else if (tokens_are_of_another(attempt->record) && !attempt->options->ask_again)
		*result = TOKEN_IDENTITY;
	else if (!is_due(attempt))
		*result = TOKEN_GOOD;
	else
		*settled = false;
	return NULL;
}

/* How a refresh of these tokens failed a moment ago; *known is false when nothing is remembered that makes sense. */
static const struct error *
remembered_failure(struct token_attempt *attempt, enum token_result *result, bool *known)
{
	const struct error *error;
	int number;

	error = store_refresh_failure_read(attempt->task, attempt->record, &number);
	*known = error == NULL && number > TOKEN_GOOD && number < TOKEN_CROWDED; /* which is never stored */
	if (*known)
		*result = (enum token_result)number;
	return error;
}

/*
 * Another process has the lease: wait a moment. *over: too little time is left. *changed: the caller must read the
 * connection again. A turn reads only whether it changed: the whole connection at every turn would exhaust the
 * request's memory.
 */
static const struct error *
wait_for_owner(struct token_attempt *attempt, int64_t *poll_ms, bool *changed, bool *over)
{
	struct loop *loop = attempt->task->app->loop;
	struct task *task = attempt->task;

	attempt->waited = true;
	*over = loop_now_ms(loop) + 2 * *poll_ms >= task->deadline_ms;
	if (*over)
		return NULL;
	fiber_sleep(*poll_ms + (int64_t)random_below((uint32_t)*poll_ms));
	*poll_ms = *poll_ms * 3 / 2 < POLL_MOST_MS ? *poll_ms * 3 / 2 : POLL_MOST_MS;
	return store_integration_changed(task, attempt->record, changed);
}

/* With the lease: look once more, and refresh where that is still due. *again: the record changed meanwhile. */
static const struct error *
look_and_refresh(struct token_attempt *attempt, enum token_result *result, bool *again)
{
	bool settled;
	const struct error *error = look_at_stored(attempt, result, &settled);

	*again = false;
	if (error != NULL || settled)
		return error;
	*result = TOKEN_UNREACHABLE;
	if (loop_now_ms(attempt->task->app->loop) + CALL_LEAST_MS >= attempt->task->deadline_ms)
		return NULL;
	return tokens_refresh(attempt, result, again);
}

/* As the leader of this process: get the lease, or wait for its owner. */
static const struct error *
lead_refresh(struct token_attempt *attempt, enum token_result *result)
{
	struct task *task = attempt->task;
	int64_t poll_ms = POLL_MS;
	bool over = false;

	while (!over) {
		const struct error *error;
		struct lease *lease;
		bool changed = false;

		if (!attempt->options->ask_again || attempt->waited) {
			error = remembered_failure(attempt, result, &over);
			if (error != NULL || over)
				return error;
		}
		error = store_lease_take(task, LEASE_REFRESH, &lease);
		if (error == NULL && lease != NULL) {
			error = look_and_refresh(attempt, result, &changed);
			store_lease_release(lease);
			over = !changed;
		} else if (error == NULL) {
			*result = TOKEN_UNREACHABLE;
			error = wait_for_owner(attempt, &poll_ms, &changed, &over);
			if (error == NULL && changed)
				error = look_at_stored(attempt, result, &over);
		}
		if (error != NULL)
			return error;
	}
	return NULL;
}

/* Join the refresh of this process, or lead it. *over: the result is final. */
static const struct error *
join_refresh(struct token_attempt *attempt, const char *key, enum token_result *result, bool *over)
{
	struct task *task = attempt->task;
	const struct error *error = NULL;
	struct singleflight flight;

	*over = true;
	switch (singleflight_join(attempt->task->app->singleflights, &flight, key, task->deadline_ms, &error)) {
	case SINGLEFLIGHT_LEADER:
		error = lead_refresh(attempt, result);
		singleflight_end(&flight, error);
		return error;
	case SINGLEFLIGHT_TIMEOUT: *result = TOKEN_UNREACHABLE; return NULL;
	case SINGLEFLIGHT_FOLLOWER: break;
	}
	attempt->waited = true;
	if (error == NULL)
		error = look_at_stored(attempt, result, over);
	if (error != NULL || *over)
		return error;
	return remembered_failure(attempt, result, over);
}

const struct error *
tokens_fresh(struct task *task, const struct token_options *options, struct integration *record,
	     struct credential *credential, enum token_result *result)
{
	struct token_attempt attempt = {.task = task, .options = options, .record = record, .credential = credential};
	const struct connection_key *connection = &task->connection_key;
	const char *key = arena_join(task->arena, "refresh ", connection->organization, " ", connection->user, " ",
				     connection->service, NULL);
	const struct error *error;
	bool over;

	error = look_at_stored(&attempt, result, &over);
	if (error == NULL && !over && waits_begin(task) != NULL) {
		*result = TOKEN_CROWDED;
		return NULL;
	}
	while (error == NULL && !over) {
		*result = TOKEN_UNREACHABLE;
		if (loop_now_ms(task->app->loop) >= task->deadline_ms)
			return NULL;
		error = join_refresh(&attempt, key, result, &over);
	}
	return error;
}
