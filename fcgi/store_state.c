/*
 * Consent flows under way: oauth_state:<hex SHA-256 of the state> is the row of one, gone in ten minutes or with its
 * first use. integrations:states:{organization:user} lists a member's live ones by expiry, so that the oldest can make
 * room; it lies on another node than the rows (which are found by hash alone), so it may name rows that are gone.
 */
#include "fcgi/store_state.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/store_internal.h"
#include "fcgi/task.h"

#include <string.h>

#define FIELD_NAME(name) name,
#define STATE_FIELDS(X)                                                                                                \
	X("organization")                                                                                              \
	X("user")                                                                                                      \
	X("service")                                                                                                   \
	X("binding")                                                                                                   \
	X("credential")                                                                                                \
	X("code_verifier")                                                                                             \
	X("nonce")                                                                                                     \
	X("issuer")                                                                                                    \
	X("client_id")                                                                                                 \
	X("replace")                                                                                                   \
	X("replace_with")

enum state_field {
	STATE_ORGANIZATION,
	STATE_USER,
	STATE_SERVICE,
	STATE_BINDING,
	STATE_CREDENTIAL,
	STATE_CODE_VERIFIER,
	STATE_NONCE,
	STATE_ISSUER,
	STATE_CLIENT_ID,
	STATE_REPLACE,
	STATE_REPLACE_WITH
};

static const struct redis_script write_script = {
    .shape = "[1,1]",
#include "build/lua/state_write.lua.h"
};

static const struct redis_script take_script = {
    .shape = "~|(" STATE_FIELDS(STORE_SHAPE_FIELD) ")",
#include "build/lua/state_take.lua.h"
};

static const struct redis_script live_script = {
    .shape = "*s",
#include "build/lua/state_live.lua.h"
};

const struct error *
store_state_admit(struct task *task, unsigned limit, int64_t *retry_after, bool *removed)
{
	const char *key = store_key_member(task->arena, "integrations:limit:auth_link", &task->connection_key);

	return store_limit_run(task, key, store_key_member(task->arena, "removed", &task->connection_key), limit,
			       retry_after, removed);
}

static const char *
seal_field(const struct task *task, const struct oauth_state *row, const char *field, const char *plain)
{
	struct seal_context context =
	    store_seal_context(task->app, &row->connection_key, field, row->issuer, row->client_id);

	return seal(task->arena, task->app->config->keys, &context, plain);
}

static const char *
open_field(const struct task *task, const struct oauth_state *row, const char *field, const char *sealed)
{
	struct seal_context context =
	    store_seal_context(task->app, &row->connection_key, field, row->issuer, row->client_id);

	return store_seal_open(task, &context, sealed);
}

static void
add_live(struct redis_batch *batch, struct arena *arena, const struct connection_key *connection, const char *name)
{
	/* Milliseconds keep the order of flows that begin within one second. */
	long long now = (long long)clock_wall_ms();
	const char *const keys[] = {store_key_member(arena, "integrations:states", connection), NULL};
	const char *const arguments[] = {
	    name,
	    arena_format(arena, "%lld", now + STORE_STATE_SECONDS * 1000LL),
	    arena_format(arena, "%lld", now),
	    arena_format(arena, "%d", STORE_STATE_LIVE),
	    arena_format(arena, "%d", STORE_STATE_SECONDS),
	    NULL,
	};

	redis_add_script(batch, &live_script, keys, arguments);
}

static const struct error *
add_row(struct redis_batch *batch, struct task *task, const char *key, const struct oauth_state *row)
{
	const char *const keys[] = {key, NULL};
	const char *verifier = seal_field(task, row, "oauth_state.code_verifier", row->code_verifier);
	const char *nonce = seal_field(task, row, "oauth_state.nonce", row->nonce);

	if (verifier == NULL || nonce == NULL)
		return &error_internal;
	const char *const arguments[] = {
	    arena_format(task->arena, "%d", STORE_STATE_SECONDS),
	    "organization",
	    row->connection_key.organization,
	    "user",
	    row->connection_key.user,
	    "service",
	    row->connection_key.service,
	    "binding",
	    row->binding,
	    "credential",
	    row->credential,
	    "code_verifier",
	    verifier,
	    "issuer",
	    row->issuer,
	    "client_id",
	    row->client_id,
	    "replace",
	    row->replace ? "1" : "0",
	    "nonce",
	    nonce,
	    row->replace_with != NULL ? "replace_with" : NULL,
	    row->replace_with,
	    NULL,
	};
	redis_add_script(batch, &write_script, keys, arguments);
	return NULL;
}

/* As crypto_sha256_hex writes it: what else stands in the list is not ours, and becomes no key. */
static bool
is_row_name(const char *name)
{
	return name != NULL && strlen(name) == CRYPTO_SHA256_HEX - 1 &&
	       strspn(name, "0123456789abcdef") == CRYPTO_SHA256_HEX - 1;
}

/* The rows of those that made room: no callback can end these flows any more. */
static const struct error *
drop_rows(struct task *task, const struct redis_reply *names)
{
	struct redis_batch batch;

	redis_batch_init(&batch, task->arena);
	for (size_t i = 0; i < names->count && batch.count < REDIS_BATCH_MAX; i++) {
		const char *name = redis_item(names, i);

		if (is_row_name(name))
			redis_add(&batch, "DEL", arena_format(task->arena, "oauth_state:%s", name), NULL);
	}
	return batch.count > 0 ? redis_run(task->app->redis, &batch, false) : NULL;
}

const struct error *
store_state_write(struct task *task, const char *state, const struct oauth_state *row)
{
	struct redis_batch batch;
	const struct error *error;
	const char *key = store_key_hashed(task->arena, "oauth_state", state);

	redis_batch_init(&batch, task->arena);
	add_live(&batch, task->arena, &row->connection_key, key + strlen("oauth_state:"));
	error = add_row(&batch, task, key, row);
	if (error != NULL)
		return error;
	error = redis_run(task->app->redis, &batch, false);
	if (error != NULL)
		return error;
	return drop_rows(task, batch.reply[0]);
}

static bool
parse_state(const struct task *task, const struct redis_reply *row, struct oauth_state *out)
{
	const char *verifier = redis_item(row, STATE_CODE_VERIFIER);
	const char *nonce = redis_item(row, STATE_NONCE);

	out->connection_key.organization = redis_item(row, STATE_ORGANIZATION);
	out->connection_key.user = redis_item(row, STATE_USER);
	out->connection_key.service = redis_item(row, STATE_SERVICE);
	out->binding = redis_item(row, STATE_BINDING);
	out->credential = redis_item(row, STATE_CREDENTIAL);
	out->issuer = redis_item(row, STATE_ISSUER);
	out->client_id = redis_item(row, STATE_CLIENT_ID);
	out->replace = text_equal(redis_item(row, STATE_REPLACE), "1");
	out->replace_with = redis_item(row, STATE_REPLACE_WITH);
	if (!text_is_id(out->connection_key.organization) || !text_is_id(out->connection_key.user) ||
	    !text_is_name(out->connection_key.service))
		return false;
	if (out->binding == NULL || out->credential == NULL || out->issuer == NULL || out->client_id == NULL ||
	    verifier == NULL || nonce == NULL)
		return false;
	out->code_verifier = open_field(task, out, "oauth_state.code_verifier", verifier);
	/* One without it, which is none of ours, would leave the id_token's nonce unchecked. */
	out->nonce = open_field(task, out, "oauth_state.nonce", nonce);
	return out->code_verifier != NULL && out->nonce != NULL;
}

/* Its place in the list is free again; a lost command only leaves it taken until it expires. */
static void
forget_live(struct task *task, const struct connection_key *connection, const char *name)
{
	struct redis_batch batch;

	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "ZREM", store_key_member(task->arena, "integrations:states", connection), name, NULL);
	(void)redis_send(task->app->redis, &batch, "state list");
}

const struct error *
store_state_take(struct task *task, const char *state, struct oauth_state *out, bool *found)
{
	const char *key = store_key_hashed(task->arena, "oauth_state", state);
	const char *const keys[] = {key, NULL};
	static const char *const arguments[] = {STATE_FIELDS(FIELD_NAME) NULL};
	const struct redis_reply *reply;
	const struct error *error;

	*out = (struct oauth_state){0};
	*found = false;
	reply = store_run_script(task, &take_script, keys, arguments, false, &error);
	if (reply == NULL)
		return error;
	if (reply->type != REDIS_ARRAY)
		return NULL;
	*found = parse_state(task, reply, out);
	if (*found)
		forget_live(task, &out->connection_key, key + strlen("oauth_state:"));
	else
		log_message(LOG_LEVEL_ERROR, "state_unreadable", "a stored state of a consent flow does not open",
			    "check that TOKEN_KEYS still holds every key in use and that ENVIRONMENT is unchanged");
	return NULL;
}
