/*
 * Reading connections: integration:{organization:user}:<service> is the record, credential:{...}:<service> its sealed
 * tokens. Both are read by named fields, so that no caller gets sealed values without asking. A damaged record
 * is shown as what it is, never as "not connected": its tokens may still give access.
 */
#include "fcgi/store_integration.h"

#include "common/arena.h"
#include "common/error.h"
#include "common/log.h"
#include "common/resp.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/hints.h"
#include "fcgi/provider.h"
#include "fcgi/store_internal.h"
#include "fcgi/store_session.h"
#include "fcgi/task.h"

#include <string.h>

#define FIELD_NAME(name) name,
#define NO_TIME "1970-01-01T00:00:00Z"

static const char *const record_fields[] = {STORE_RECORD_FIELDS(FIELD_NAME)};
static const char *const credential_fields[] = {STORE_CREDENTIAL_FIELDS(FIELD_NAME)};
static struct resp_tail record_tail, brief_tail, credential_tail;

_Static_assert(sizeof record_fields / sizeof *record_fields == STORE_RECORD_COUNT, "record fields and enum differ");
_Static_assert(sizeof credential_fields / sizeof *credential_fields == STORE_CREDENTIAL_COUNT,
	       "credential fields and enum differ");

static const struct redis_script read_script = {
    .shape = "(" STORE_SHAPE_RECORD STORE_SHAPE_CREDENTIAL "[0,1])",
#include "build/lua/connection_read.lua.h"
};

static const struct redis_script vend_script = {
    .shape = "(" STORE_SHAPE_RECORD STORE_SHAPE_CREDENTIAL "[0,1][0,1])",
#include "build/lua/connection_vend.lua.h"
};

void
store_integration_prepare(void)
{
	resp_tail_prepare(&record_tail, STORE_RECORD_COUNT, record_fields);
	resp_tail_prepare(&brief_tail, STORE_RECORD_BRIEF, record_fields);
	resp_tail_prepare(&credential_tail, STORE_CREDENTIAL_COUNT, credential_fields);
}

static void
add_record(struct redis_batch *batch, const struct connection_key *connection, const struct resp_tail *fields)
{
	redis_add_hmget(batch, store_key_connection(batch->arena, "integration", connection), fields);
}

void
store_record_add(struct redis_batch *batch, const struct connection_key *connection)
{
	add_record(batch, connection, &record_tail);
}

static const char *
not_empty(const char *text)
{
	return text != NULL && text[0] != '\0' ? text : NULL;
}

static bool
is_status(const char *status)
{
	return text_equal(status, "valid") || text_equal(status, "invalid") || text_equal(status, "unknown");
}

static bool
is_whole(const struct integration *record)
{
	return record->id != NULL && record->oauth_user_id != NULL && record->connected_at != NULL &&
	       record->updated_at != NULL && record->generation != NULL && is_status(record->status);
}

static void
mark_damaged(struct integration *record)
{
	record->status = "unknown";
	record->status_reason = "tokens_unreadable";
	if (record->id == NULL)
		record->id = "";
	if (record->oauth_user_id == NULL)
		record->oauth_user_id = "";
	if (record->connected_at == NULL)
		record->connected_at = NO_TIME;
	if (record->updated_at == NULL)
		record->updated_at = NO_TIME;
	if (record->generation == NULL)
		record->generation = "";
}

/* NULL where nothing is stored, and where it is not text, which no answer could show: then *text is false. */
static const char *
field(const struct redis_reply *reply, enum store_record_field which, bool *text)
{
	const char *value = not_empty(redis_item(reply, which));

	if (value == NULL || text_is_utf8(value, strlen(value)))
		return value;
	*text = false;
	return NULL;
}

static bool
is_stored(const struct redis_reply *reply)
{
	for (size_t i = 0; i < reply->count; i++) {
		if (redis_item(reply, i) != NULL)
			return true;
	}
	return false;
}

bool
store_record_parse(struct arena *arena, const struct connection_key *connection, const struct redis_reply *reply,
		   struct integration *out)
{
	bool text = true;

	*out = (struct integration){.connection_key = *connection};
	if (!is_stored(reply))
		return false;
	out->id = field(reply, STORE_RECORD_ID, &text);
	out->status = field(reply, STORE_RECORD_STATUS, &text);
	out->status_reason = field(reply, STORE_RECORD_STATUS_REASON, &text);
	out->oauth_user_id = field(reply, STORE_RECORD_OAUTH_USER_ID, &text);
	out->oauth_email = field(reply, STORE_RECORD_OAUTH_EMAIL, &text);
	out->scopes = words_split(arena, field(reply, STORE_RECORD_SCOPES, &text));
	out->missing_scopes = words_split(arena, field(reply, STORE_RECORD_MISSING_SCOPES, &text));
	out->connected_at = field(reply, STORE_RECORD_CONNECTED_AT, &text);
	out->updated_at = field(reply, STORE_RECORD_UPDATED_AT, &text);
	out->validated_at = field(reply, STORE_RECORD_VALIDATED_AT, &text);
	out->generation = not_empty(redis_item(reply, STORE_RECORD_GENERATION)); /* shown nowhere, compared as it is */
	if (!text || !is_whole(out))
		mark_damaged(out);
	return true;
}

static int64_t
seconds(const char *text)
{
	uint64_t value;

	return text != NULL && text_to_number(text, INT64_MAX / 1000, &value) ? (int64_t)value : 0;
}

static void
log_unreadable(const struct connection_key *connection)
{
	struct log_line line;

	log_begin(&line, LOG_LEVEL_ERROR, "tokens_unreadable");
	log_text(&line, "organization", connection->organization);
	log_text(&line, "user", connection->user);
	log_text(&line, "service", connection->service);
	log_text(&line, "action",
		 "check that TOKEN_KEYS still holds every key in use and that ENVIRONMENT is unchanged; if both are "
		 "right, the user has to connect again");
	log_end(&line);
}

static void
open_tokens(const struct task *task, const struct integration *record, const struct redis_reply *reply,
	    struct credential *out)
{
	struct store_token_place place = {.connection_key = record->connection_key,
					  .field = STORE_ACCESS_TOKEN,
					  .account = record->oauth_user_id,
					  .generation = record->generation,
					  .issuer = out->issuer,
					  .client_id = out->client_id};

	out->access_token =
	    store_token_open(task, &place, redis_item(reply, STORE_CREDENTIAL_ACCESS_TOKEN), &out->expires_at);
	place.field = STORE_REFRESH_TOKEN;
	out->refresh_token = store_token_open(task, &place, redis_item(reply, STORE_CREDENTIAL_REFRESH_TOKEN), NULL);
}

void
store_credential_parse(const struct task *task, const struct provider *provider, const struct integration *record,
		       const struct redis_reply *reply, struct credential *out)
{
	*out = (struct credential){
	    .state = CREDENTIAL_UNREADABLE,
	    .issued_at = seconds(redis_item(reply, STORE_CREDENTIAL_ISSUED_AT)),
	    .expires_at = seconds(redis_item(reply, STORE_CREDENTIAL_EXPIRES_AT)),
	    .vended_until = seconds(redis_item(reply, STORE_CREDENTIAL_VENDED_UNTIL)),
	    .forced_at = seconds(redis_item(reply, STORE_CREDENTIAL_FORCED_AT)),
	    .issuer = redis_item(reply, STORE_CREDENTIAL_ISSUER),
	    .client_id = redis_item(reply, STORE_CREDENTIAL_CLIENT_ID),
	};
	if (out->issuer != NULL && out->client_id != NULL) {
		if (provider == NULL || !text_equal(out->issuer, provider->issuer) ||
		    !text_equal(out->client_id, provider->client.id)) {
			out->state = CREDENTIAL_FOREIGN;
			return;
		}
		if (!store_is_torn(record->generation, redis_item(reply, STORE_CREDENTIAL_GENERATION)))
			open_tokens(task, record, reply, out);
	}
	if (out->access_token != NULL && out->refresh_token != NULL)
		out->state = CREDENTIAL_OPEN;
	else
		log_unreadable(&record->connection_key);
}

const struct error *
store_integration_read(struct task *task, struct integration *out, bool *found)
{
	struct redis_batch batch;
	const struct error *error;

	*found = false;
	redis_batch_init(&batch, task->arena);
	store_record_add(&batch, &task->connection_key);
	error = redis_run(task->app->redis, &batch, true);
	if (error != NULL)
		return error;
	*found = store_record_parse(task->arena, &task->connection_key, batch.reply[0], out);
	return NULL;
}

const struct error *
store_integration_changed(struct task *task, const struct integration *seen, bool *changed)
{
	struct redis_batch batch;
	const struct error *error;

	*changed = false;
	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "HMGET", store_key_connection(task->arena, "integration", &seen->connection_key),
		  "generation", "status", NULL);
	error = redis_run(task->app->redis, &batch, true);
	if (error != NULL)
		return error;
	*changed = !text_equal(redis_item(batch.reply[0], 0), seen->generation) ||
		   !text_equal(redis_item(batch.reply[0], 1), seen->status);
	return NULL;
}

/* What is stored of a connection, as it came. */
struct stored {
	const struct redis_reply *record;
	const struct redis_reply *tokens;
	bool removed;
	bool noted; /* as handed out, in the same step */
};

/* Were they stored by different writes? Every write of tokens draws one generation for both. */
static bool
is_torn(const struct stored *stored)
{
	return (is_stored(stored->record) || is_stored(stored->tokens)) &&
	       !text_equal(redis_item(stored->record, STORE_RECORD_GENERATION),
			   redis_item(stored->tokens, STORE_CREDENTIAL_GENERATION));
}

/* Three plain reads cost Redis a quarter of a script; another request may write between two of them. */
static const struct error *
read_apart(struct task *task, bool brief, struct stored *out)
{
	struct redis_batch batch;
	const struct error *error;

	redis_batch_init(&batch, task->arena);
	add_record(&batch, &task->connection_key, brief ? &brief_tail : &record_tail);
	redis_add_hmget(&batch, store_key_connection(task->arena, "credential", &task->connection_key),
			&credential_tail);
	redis_add(&batch, "EXISTS", store_key_member(task->arena, "removed", &task->connection_key), NULL);
	error = redis_run(task->app->redis, &batch, true);
	if (error != NULL)
		return error;
	*out = (struct stored){
	    .record = batch.reply[0], .tokens = batch.reply[1], .removed = batch.reply[2]->integer != 0};
	return NULL;
}

static const struct error *
read_together(struct task *task, const struct vend_condition *condition, struct stored *out)
{
	const char *const keys[] = {store_key_connection(task->arena, "integration", &task->connection_key),
				    store_key_connection(task->arena, "credential", &task->connection_key), NULL};
	const char *arguments[6] = {store_key_member(task->arena, "removed", &task->connection_key)};
	const struct redis_reply *reply;
	const struct error *error;

	if (condition != NULL) {
		arguments[1] = arena_format(task->arena, "%lld", (long long)condition->expires_at);
		arguments[2] = words_join(task->arena, condition->scopes);
		arguments[3] = task->provider->issuer;
		arguments[4] = task->provider->client.id;
	}
	reply = store_run_script(task, condition != NULL ? &vend_script : &read_script, keys, arguments, true, &error);
	if (reply == NULL)
		return error;
	*out = (struct stored){.record = reply->items[0],
			       .tokens = reply->items[1],
			       .removed = reply->items[2]->integer != 0,
			       .noted = reply->count == 4 && reply->items[3]->integer != 0};
	return NULL;
}

/* Was its token handed out before? Then that is noted already, and plain reads will do. */
static bool
is_known(const struct app *app, const char *key)
{
	return app->hints != NULL && hints_seen(app->hints, key);
}

static const struct error *
read_tokens(struct task *task, const struct vend_condition *condition, struct stored *out)
{
	const char *key = store_key_connection(task->arena, "credential", &task->connection_key);
	bool apart = condition == NULL || is_known(task->app, key);
	const struct error *error;

	if (apart) {
		error = read_apart(task, condition != NULL && condition->brief, out);
		if (error != NULL || !is_torn(out))
			return error;
	}
	error = read_together(task, condition, out);
	if (error == NULL && condition != NULL && task->app->hints != NULL)
		hints_note_seen(task->app->hints, key);
	return error;
}

const struct error *
store_integration_read_tokens(struct task *task, const struct vend_condition *condition, struct integration *out,
			      struct credential *credential, bool *found)
{
	struct stored stored = {0};
	const struct error *error;

	*found = false;
	error = read_tokens(task, condition, &stored);
	if (error != NULL)
		return error;
	*found = store_record_parse(task->arena, &task->connection_key, stored.record, out);
	out->member_removed = stored.removed;
	if (!*found)
		return NULL;
	store_credential_parse(task, task->provider, out, stored.tokens, credential);
	if (stored.noted)
		credential->vended_until = credential->expires_at;
	return NULL;
}

void
store_records_add(struct app *app, struct redis_batch *batch, const char *organization, const char *user, size_t from)
{
	const struct config *config = app->config;
	struct connection_key connection = {.organization = organization, .user = user};

	for (size_t i = from; i < config->provider_count && batch->count < REDIS_BATCH_MAX; i++) {
		connection.service = config->providers[i]->service;
		store_record_add(batch, &connection);
	}
}

/* The records of the services from `from` on; *count grows by what is there. */
static void
parse_some(struct task *task, struct connection_key connection, size_t from, const struct redis_reply *const *replies,
	   size_t reply_count, struct integration *out, size_t *count)
{
	for (size_t i = 0; i < reply_count; i++) {
		connection.service = task->app->config->providers[from + i]->service;
		if (store_record_parse(task->arena, &connection, replies[i], &out[*count]))
			(*count)++;
	}
}

const struct error *
store_integration_list(struct task *task, const char *organization, const char *user,
		       const struct prefetched_records *prefetched, struct integration **out, size_t *count)
{
	const struct connection_key connection = {.organization = organization, .user = user};
	size_t provider_count = task->app->config->provider_count;

	*count = 0;
	*out = arena_alloc(task->arena, (provider_count + 1) * sizeof **out);
	if (text_equal(prefetched->user, user)) {
		parse_some(task, connection, 0, prefetched->replies, provider_count, *out, count);
		return NULL;
	}
	for (size_t i = 0; i < provider_count; i += REDIS_BATCH_MAX) {
		struct redis_batch batch;
		const struct error *error;

		redis_batch_init(&batch, task->arena);
		store_records_add(task->app, &batch, organization, user, i);
		error = redis_run(task->app->redis, &batch, true);
		if (error != NULL)
			return error;
		parse_some(task, connection, i, (const struct redis_reply *const *)batch.reply, batch.count, *out,
			   count);
	}
	return NULL;
}
