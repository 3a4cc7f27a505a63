/*
 * Writing connections. Each change is one script over record and tokens together, so that every other client sees all
 * of it or nothing, and each compares before it writes: the tombstone and the account on a connect, the generation
 * (drawn anew at every write of tokens) on everything later. The loser of a race changes nothing.
 */
#include "fcgi/store_internal.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/random.h"
#include "fcgi/api_error.h"
#include "fcgi/provider.h"
#include "fcgi/store_integration.h"
#include "fcgi/store_shared_grant.h"
#include "fcgi/task.h"

#include <stdlib.h>
#include <string.h>

#define PAIRS_MAX 64

/* Names and values of one hash, absent values left out. */
struct pairs {
	const char *text[PAIRS_MAX];
	size_t count;
};

static const struct redis_script connect_script = {
    .shape = "('removed')|(sss" STORE_SHAPE_RECORD STORE_SHAPE_CREDENTIAL ")",
#include "build/lua/connection_connect.lua.h"
};

static const struct redis_script refresh_script = {
    .shape = "[0,2]",
#include "build/lua/connection_refresh.lua.h"
};

static const struct redis_script status_script = {
    .shape = "[0,1]",
#include "build/lua/connection_status.lua.h"
};

static const struct redis_script vended_script = {
    .shape = "[0,1]",
#include "build/lua/connection_vended.lua.h"
};

static const struct redis_script refused_script = {
    .shape = "[0,2]",
#include "build/lua/connection_refused.lua.h"
};

static const struct redis_script delete_script = {
    .shape = "(" STORE_SHAPE_RECORD STORE_SHAPE_CREDENTIAL "2[0,1])",
#include "build/lua/connection_delete.lua.h"
};

static void
add_pair(struct pairs *pairs, const char *name, const char *value)
{
	if (value == NULL)
		return;
	if (pairs->count + 2 > PAIRS_MAX)
		abort(); /* callers know how many there are */
	pairs->text[pairs->count++] = name;
	pairs->text[pairs->count++] = value;
}

static char *
number(struct arena *arena, int64_t value)
{
	return arena_format(arena, "%lld", (long long)value);
}

static const char *
now_text(struct arena *arena)
{
	char text[CLOCK_RFC3339_SIZE];

	clock_rfc3339(clock_wall(), text);
	return arena_text(arena, text);
}

/* Whose the tokens are and that they are good: only a request that was told so may write this. */
static void
add_judgement(struct pairs *pairs, const struct integration *record)
{
	add_pair(pairs, "status", record->status);
	add_pair(pairs, "status_reason", record->status_reason);
	add_pair(pairs, "oauth_email", record->oauth_email);
	add_pair(pairs, "validated_at", record->validated_at);
}

/* What every write of tokens says about the record. */
static void
add_record_state(struct pairs *pairs, struct arena *arena, const struct integration *record)
{
	add_pair(pairs, "scopes", words_join(arena, &record->scopes));
	add_pair(pairs, "missing_scopes", words_join(arena, &record->missing_scopes));
	add_pair(pairs, "updated_at", record->updated_at);
	add_pair(pairs, "generation", record->generation);
}

/* Issuer and client id are the provider file's: it gave these tokens just now. The refresh token is sealed anew also
 * where it is the stored one, which was sealed for another generation. */
static const struct error *
add_credential(struct pairs *pairs, const struct task *task, const struct provider *provider,
	       const struct integration *record, const struct credential *credential)
{
	struct store_token_place place = {.connection_key = record->connection_key,
					  .field = STORE_ACCESS_TOKEN,
					  .account = record->oauth_user_id,
					  .generation = record->generation,
					  .issuer = provider->issuer,
					  .client_id = provider->client.id};
	const char *access = store_token_seal(task, &place, credential->access_token, credential->expires_at);
	const char *refresh;

	place.field = STORE_REFRESH_TOKEN;
	refresh = store_token_seal(task, &place, credential->refresh_token, 0);
	if (access == NULL || refresh == NULL)
		return &error_internal;
	add_pair(pairs, "access_token", access);
	add_pair(pairs, "refresh_token", refresh);
	add_pair(pairs, "issued_at", number(task->arena, credential->issued_at));
	add_pair(pairs, "expires_at", number(task->arena, credential->expires_at));
	add_pair(pairs, "handed_out_until", number(task->arena, credential->vended_until));
	add_pair(pairs, "forced_at", number(task->arena, credential->forced_at));
	add_pair(pairs, "issuer", provider->issuer);
	add_pair(pairs, "client_id", provider->client.id);
	add_pair(pairs, "generation", record->generation);
	return NULL;
}

static const char **
arguments_of(struct arena *arena, const char *const *head, size_t head_count, const struct pairs *first,
	     const struct pairs *second)
{
	size_t count = head_count + first->count + (second != NULL ? second->count : 0);
	const char **all = arena_alloc(arena, (count + 1) * sizeof *all);

	memcpy(all, head, head_count * sizeof *all);
	memcpy(all + head_count, first->text, first->count * sizeof *all);
	if (second != NULL)
		memcpy(all + head_count + first->count, second->text, second->count * sizeof *all);
	return all;
}

static bool
outcome_parse(const char *text, enum store_outcome *outcome)
{
	static const char *const names[] = {
	    [STORE_CREATED] = "created",   [STORE_RECONNECTED] = "reconnected", [STORE_REPLACED] = "replaced",
	    [STORE_MISMATCH] = "mismatch", [STORE_REMOVED] = "removed",
	};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (text_equal(text, names[i])) {
			*outcome = (enum store_outcome)i;
			return true;
		}
	}
	return false;
}

static const struct error *
connect_answer(struct task *task, struct integration *integration, const struct redis_reply *reply,
	       enum store_outcome *outcome, struct integration *old, struct credential *old_credential)
{
	const struct connection_key *connection = &integration->connection_key;

	if (!outcome_parse(redis_item(reply, 0), outcome))
		return &error_store_unavailable;
	if (*outcome == STORE_REMOVED)
		return NULL;
	if (*outcome != STORE_MISMATCH) {
		integration->id = redis_item(reply, 1);
		integration->connected_at = redis_item(reply, 2);
	}
	(void)store_record_parse(task->arena, connection, reply->items[3], old);
	if (*outcome == STORE_REPLACED)
		store_credential_parse(task, task->provider, old, reply->items[4], old_credential);
	return NULL;
}

/*
 * The grant was named before the store. A disconnect that was just taking the same name out of the set may have looked
 * before the record was there: named once more, it stays. Should this fail, the first time most likely still counts.
 */
static void
name_grant(struct task *task, const struct integration *integration)
{
	(void)store_shared_grant_add(task, task->provider->issuer, integration->oauth_user_id);
}

const struct error *
store_integration_connect(struct task *task, struct integration *integration, const struct credential *credential,
			  bool replace, enum store_outcome *outcome, struct integration *old,
			  struct credential *old_credential)
{
	const struct connection_key *connection = &integration->connection_key;
	const char *const *keys = store_pending_revocation_keys(task->arena, connection);
	struct pairs record = {.count = 0};
	struct pairs tokens = {.count = 0};
	const struct redis_reply *reply;
	const struct error *error;

	*old = (struct integration){.connection_key = *connection};
	*old_credential = (struct credential){.state = CREDENTIAL_UNREADABLE};
	integration->generation = random_id(task->arena);
	integration->updated_at = now_text(task->arena);
	add_pair(&record, "organization_id", connection->organization);
	add_pair(&record, "user_id", connection->user);
	add_pair(&record, "service", connection->service);
	add_pair(&record, "oauth_user_id", integration->oauth_user_id);
	add_judgement(&record, integration);
	add_record_state(&record, task->arena, integration);
	error = add_credential(&tokens, task, task->provider, integration, credential);
	if (error != NULL)
		return error;
	const char *const head[] = {
	    store_key_member(task->arena, "removed", connection),
	    integration->oauth_user_id,
	    task->provider->issuer,
	    replace ? "1" : "0",
	    integration->id,
	    integration->updated_at,
	    number(task->arena, (int64_t)record.count),
	};

	reply = store_run_script(task, &connect_script, keys,
				 arguments_of(task->arena, head, sizeof head / sizeof *head, &record, &tokens), false,
				 &error);
	if (reply == NULL)
		return error;
	error = connect_answer(task, integration, reply, outcome, old, old_credential);
	if (error != NULL)
		return error;
	if (*outcome != STORE_MISMATCH && *outcome != STORE_REMOVED)
		name_grant(task, integration);
	return NULL;
}

const struct error *
store_integration_refresh(struct task *task, struct integration *integration, const struct credential *credential,
			  const char *generation, bool account_verified, bool *barred, bool *stored)
{
	const struct connection_key *connection = &integration->connection_key;
	const char *const keys[] = {store_key_connection(task->arena, "integration", connection),
				    store_key_connection(task->arena, "credential", connection), NULL};
	struct integration changed = *integration;
	struct pairs record = {.count = 0};
	struct pairs tokens = {.count = 0};
	const struct redis_reply *reply;
	const struct error *error;

	*stored = false;
	changed.generation = random_id(task->arena);
	changed.updated_at = now_text(task->arena);
	if (account_verified)
		add_judgement(&record, &changed);
	add_record_state(&record, task->arena, &changed);
	error = add_credential(&tokens, task, task->provider, &changed, credential);
	if (error != NULL)
		return error;
	const char *const head[] = {generation, account_verified ? "1" : "0",
				    barred != NULL ? store_key_member(task->arena, "removed", connection) : "",
				    number(task->arena, (int64_t)record.count)};
	reply = store_run_script(task, &refresh_script, keys,
				 arguments_of(task->arena, head, sizeof head / sizeof *head, &record, &tokens), false,
				 &error);
	if (reply == NULL)
		return error;
	*stored = reply->integer == 1;
	if (barred != NULL)
		*barred = reply->integer == 2;
	if (*stored)
		*integration = changed;
	return NULL;
}

const struct error *
store_integration_status(struct task *task, struct integration *integration, bool answered, bool *stored)
{
	const char *const keys[] = {store_key_connection(task->arena, "integration", &integration->connection_key),
				    NULL};
	const char *now = now_text(task->arena);
	struct pairs record = {.count = 0};
	const struct redis_reply *reply;
	const struct error *error;

	*stored = false;
	add_pair(&record, "status", integration->status);
	add_pair(&record, "status_reason", integration->status_reason);
	add_pair(&record, "updated_at", now);
	add_pair(&record, "validated_at", answered ? now : NULL);
	reply = store_run_script(task, &status_script, keys,
				 arguments_of(task->arena, &integration->generation, 1, &record, NULL), false, &error);
	if (reply == NULL)
		return error;
	*stored = reply->integer == 1;
	if (*stored) {
		integration->updated_at = now;
		if (answered)
			integration->validated_at = now;
	}
	return NULL;
}

const struct error *
store_integration_delete(struct task *task, struct deletion *out)
{
	const char *const *keys = store_pending_revocation_keys(task->arena, &task->connection_key);
	const char *const arguments[] = {NULL};
	const struct redis_reply *reply;
	const struct error *error;

	*out = (struct deletion){.found = false};
	reply = store_run_script(task, &delete_script, keys, arguments, false, &error);
	if (reply == NULL)
		return error;
	out->found = store_record_parse(task->arena, &task->connection_key, reply->items[0], &out->connection.record);
	if (out->found)
		store_credential_parse(task, task->provider, &out->connection.record, reply->items[1],
				       &out->connection.credential);
	store_pending_revocation_parse(task, reply->items[2], out);
	out->busy = reply->items[3]->integer != 0;
	return NULL;
}

const struct error *
store_integration_vended(struct task *task, const struct integration *integration, const struct credential *credential,
			 bool *noted)
{
	const struct connection_key *connection = &integration->connection_key;
	const char *keys[3] = {0};
	const char *arguments[4] = {0};
	const struct redis_reply *reply;
	const struct error *error;

	*noted = credential->vended_until >= credential->expires_at;
	if (*noted)
		return NULL;
	keys[0] = store_key_connection(task->arena, "integration", connection);
	keys[1] = store_key_connection(task->arena, "credential", connection);
	arguments[0] = number(task->arena, credential->expires_at);
	arguments[1] = store_key_member(task->arena, "removed", connection);
	arguments[2] = integration->id;
	reply = store_run_script(task, &vended_script, keys, arguments, false, &error);
	*noted = reply != NULL && reply->integer == 1;
	return error;
}

const struct error *
store_integration_refused(struct task *task, const struct integration *integration)
{
	const struct connection_key *connection = &integration->connection_key;
	const char *const keys[] = {store_key_connection(task->arena, "integration", connection),
				    store_key_connection(task->arena, "credential", connection), NULL};
	const char *const arguments[] = {integration->generation, number(task->arena, clock_wall()), NULL};
	const struct error *error;

	(void)store_run_script(task, &refused_script, keys, arguments, false, &error);
	return error;
}
