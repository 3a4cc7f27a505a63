/*
 * Grants that are still to be dealt with. Between a connection's end in Redis and the revocation of its grant a worker,
 * or the command, may die; what it was about to revoke would then be lost. So the step that deletes or replaces a
 * connection puts its refresh token, sealed as it is, into integrations:unrevoked:{...}:<service>, a hash by
 * generation, and the worker that has dealt with the grant takes it out. The next DELETE or `remove` finishes what it
 * finds there.
 *
 * integrations:unrevoked_claim:{...}:<service> says that a worker is at it: it ends by itself when that worker is gone.
 */
#include "fcgi/store_pending_revocation.h"

#include "common/arena.h"
#include "common/log.h"
#include "fcgi/provider.h"
#include "fcgi/store_integration.h"
#include "fcgi/store_internal.h"
#include "fcgi/task.h"

#include <string.h>

#define KIND "integrations:unrevoked"
#define CLAIM "integrations:unrevoked_claim"

static const struct redis_script take_script = {
    .shape = "(2[0,1])",
#include "build/lua/pending_take.lua.h"
};

static const struct redis_script done_script = {
    .shape = "[1,1]",
#include "build/lua/pending_done.lua.h"
};

const char *const *
store_pending_revocation_keys(struct arena *arena, const struct connection_key *connection)
{
	const char **keys = arena_alloc(arena, 5 * sizeof *keys);

	keys[0] = store_key_connection(arena, "integration", connection);
	keys[1] = store_key_connection(arena, "credential", connection);
	keys[2] = store_key_connection(arena, KIND, connection);
	keys[3] = store_key_connection(arena, CLAIM, connection);
	keys[4] = NULL;
	return keys;
}

/* The pending revocations and their claim: the last two of those. */
static const char *const *
own_keys(struct arena *arena, const struct connection_key *connection)
{
	return store_pending_revocation_keys(arena, connection) + 2;
}

/* The next line of *rest. Only the last part, the account's id at the provider, may itself hold a line's end. */
static const char *
next_line(struct arena *arena, const char **rest)
{
	size_t len = strcspn(*rest, "\n");
	const char *line = arena_copy(arena, *rest, len);

	*rest += len + ((*rest)[len] == '\n' ? 1 : 0);
	return line;
}

/* The grant is released all the same: a later try would not open it either. */
static void
log_unreadable(const struct connection_key *connection)
{
	struct log_line line;

	log_begin(&line, LOG_LEVEL_ERROR, "unrevoked_unreadable");
	log_text(&line, "organization", connection->organization);
	log_text(&line, "user", connection->user);
	log_text(&line, "service", connection->service);
	log_text(&line, "message",
		 "the grant of a deleted connection stays unrevoked: its refresh token does not open");
	log_text(&line, "action",
		 "have the user remove the access at the provider; keep a key in TOKEN_KEYS for a day after its last "
		 "use, and ENVIRONMENT as it is");
	log_end(&line);
}

static void
parse_one(const struct task *task, const char *generation, const char *text, struct deleted_connection *out)
{
	struct credential *credential = &out->credential;
	struct store_token_place place;
	uint64_t vended_until;
	const char *sealed;

	*out = (struct deleted_connection){.record = {.connection_key = task->connection_key, .generation = generation},
					   .credential = {.state = CREDENTIAL_FOREIGN}};
	credential->client_id = next_line(task->arena, &text);
	credential->issuer = next_line(task->arena, &text);
	if (text_to_number(next_line(task->arena, &text), INT64_MAX / 1000, &vended_until))
		credential->vended_until = (int64_t)vended_until;
	sealed = next_line(task->arena, &text);
	out->record.oauth_user_id = text;
	if (task->provider == NULL || !text_equal(credential->issuer, task->provider->issuer) ||
	    !text_equal(credential->client_id, task->provider->client.id))
		return;
	place = (struct store_token_place){.connection_key = task->connection_key,
					   .field = STORE_REFRESH_TOKEN,
					   .account = out->record.oauth_user_id,
					   .generation = generation,
					   .issuer = credential->issuer,
					   .client_id = credential->client_id};
	credential->refresh_token = store_token_open(task, &place, sealed, NULL);
	credential->state = credential->refresh_token != NULL ? CREDENTIAL_OPEN : CREDENTIAL_UNREADABLE;
	if (credential->state == CREDENTIAL_UNREADABLE)
		log_unreadable(&task->connection_key);
}

void
store_pending_revocation_parse(const struct task *task, const struct redis_reply *reply, struct deletion *out)
{
	out->pending = arena_alloc(task->arena, (reply->count / 2 + 1) * sizeof *out->pending);
	out->pending_count = 0;
	for (size_t i = 0; i + 1 < reply->count; i += 2) {
		const char *generation = redis_item(reply, i);
		const char *text = redis_item(reply, i + 1);

		if (generation != NULL && text != NULL)
			parse_one(task, generation, text, &out->pending[out->pending_count++]);
	}
}

const struct error *
store_pending_revocation_take(struct task *task, struct deletion *out)
{
	const char *const arguments[] = {NULL};
	const struct redis_reply *reply;
	const struct error *error;

	*out = (struct deletion){.found = false};
	reply = store_run_script(task, &take_script, own_keys(task->arena, &task->connection_key), arguments, false,
				 &error);
	if (reply == NULL)
		return error;
	store_pending_revocation_parse(task, reply->items[0], out);
	out->busy = reply->items[1]->integer != 0;
	return NULL;
}

void
store_pending_revocation_done(struct task *task, const struct integration *record)
{
	const char *const arguments[] = {record->generation, NULL};
	const struct error *error;

	(void)store_run_script(task, &done_script, own_keys(task->arena, &record->connection_key), arguments, false,
			       &error);
}
