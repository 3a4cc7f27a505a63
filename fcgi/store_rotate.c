/*
 * Sealing stored tokens anew under the first key of the ring and in the form that SEAL_VERSION says, while the service
 * serves. Page by page over all credentials; each is exchanged only if it still holds what was read, so that a refresh
 * or disconnect in between wins: then it is read again, because the worker that refreshed may not know the key yet.
 * What does not open is left as it is and counted: it is never lost by a rotation.
 */
#include "fcgi/store_rotate.h"

#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/store_internal.h"
#include "fcgi/task.h"

#include <stdio.h>
#include <string.h>

#define AT_ONCE (REDIS_BATCH_MAX / 2) /* each takes two reads */
#define ATTEMPTS 5                    /* at a credential that others write at the same time */

static const struct redis_script exchange_script = {
    .shape = "[0,1]",
#include "build/lua/credential_exchange.lua.h"
};

/* What one credential holds, and its record's part of what it is sealed for. */
struct sealed {
	struct store_token_place place;
	const char *access;
	const char *refresh;
	const char *generation; /* the credential's own */
	int64_t expires_at;
};

static const char *
seal_again(const struct task *task, const struct sealed *sealed, const char *field, const char *value)
{
	struct store_token_place place = sealed->place;
	int64_t expires_at = sealed->expires_at;
	const char *plain;

	place.field = field;
	plain = store_token_open(task, &place, value, &expires_at);
	return plain != NULL ? store_token_seal(task, &place, plain, expires_at) : NULL;
}

static void
count_key(struct rotation *rotation, const char *id)
{
	size_t i = 0;

	if (id == NULL)
		id = "?";
	while (i < rotation->key_count && strcmp(rotation->keys[i].id, id) != 0)
		i++;
	if (i == ROTATION_KEYS_MAX)
		return;
	if (i == rotation->key_count) {
		snprintf(rotation->keys[i].id, sizeof rotation->keys[i].id, "%s", id);
		rotation->key_count++;
	}
	rotation->keys[i].count++;
}

static bool
is_current(const struct task *task, const struct sealed *sealed)
{
	const char *first = key_ring_first(task->app->config->keys);
	bool second = task->app->config->seal_second;

	return text_equal(seal_key_id(task->arena, sealed->access), first) &&
	       text_equal(seal_key_id(task->arena, sealed->refresh), first) &&
	       seal_is_second(sealed->access) == second && seal_is_second(sealed->refresh) == second;
}

static const struct error *
rotate_one(struct task *task, const struct sealed *sealed, struct rotation *rotation, bool *changed)
{
	const char *const keys[] = {store_key_connection(task->arena, "credential", &sealed->place.connection_key),
				    NULL};
	const char *access = seal_again(task, sealed, STORE_ACCESS_TOKEN, sealed->access);
	const char *refresh = seal_again(task, sealed, STORE_REFRESH_TOKEN, sealed->refresh);
	const struct redis_reply *reply;
	const struct error *error;

	if (access == NULL || refresh == NULL) {
		rotation->unreadable++;
		count_key(rotation, seal_key_id(task->arena, access == NULL ? sealed->access : sealed->refresh));
		return NULL;
	}
	const char *const arguments[] = {sealed->access, sealed->refresh, access, refresh, NULL};
	reply = store_run_script(task, &exchange_script, keys, arguments, false, &error);
	if (reply == NULL)
		return error;
	*changed = reply->integer != 1;
	if (*changed)
		return NULL;
	rotation->sealed_anew++;
	count_key(rotation, key_ring_first(task->app->config->keys));
	return NULL;
}

static const struct error *
assess_sealed(struct task *task, const struct sealed *sealed, struct rotation *rotation, bool *changed)
{
	*changed = false;
	if (sealed->access == NULL && sealed->refresh == NULL)
		return NULL;
	if (sealed->access == NULL || sealed->refresh == NULL || sealed->place.issuer == NULL ||
	    sealed->place.client_id == NULL) {
		rotation->unreadable++;
		count_key(rotation, NULL);
		return NULL;
	}
	if (is_current(task, sealed)) {
		rotation->current++;
		count_key(rotation, key_ring_first(task->app->config->keys));
		return NULL;
	}
	*changed = store_is_torn(sealed->place.generation, sealed->generation);
	return *changed ? NULL : rotate_one(task, sealed, rotation, changed);
}

/* Two reads: another client may write between them, and then the generations differ. */
static void
add_sealed(struct redis_batch *batch, const struct connection_key *connection)
{
	redis_add(batch, "HMGET", store_key_connection(batch->arena, "credential", connection), "access_token",
		  "refresh_token", "issuer", "client_id", "generation", "expires_at", NULL);
	redis_add(batch, "HMGET", store_key_connection(batch->arena, "integration", connection), "oauth_user_id",
		  "generation", NULL);
}

static void
sealed_parse(const struct redis_reply *const *replies, struct sealed *out)
{
	const char *expires_at = redis_item(replies[0], 5);
	uint64_t seconds;

	out->access = redis_item(replies[0], 0);
	out->refresh = redis_item(replies[0], 1);
	out->place.issuer = redis_item(replies[0], 2);
	out->place.client_id = redis_item(replies[0], 3);
	out->generation = redis_item(replies[0], 4);
	out->expires_at = 0;
	if (expires_at != NULL && text_to_number(expires_at, INT64_MAX / 1000, &seconds))
		out->expires_at = (int64_t)seconds;
	out->place.account = redis_item(replies[1], 0);
	out->place.generation = redis_item(replies[1], 1);
}

/* Until it is sealed anew, or needs not be. */
static const struct error *
settle(struct task *task, struct sealed *sealed, struct rotation *rotation)
{
	struct redis_batch batch;
	const struct error *error;
	bool changed;

	if (sealed->access != NULL || sealed->refresh != NULL)
		rotation->seen++;
	for (int attempt = 1;; attempt++) {
		error = assess_sealed(task, sealed, rotation, &changed);
		if (error != NULL || !changed)
			return error;
		if (attempt == ATTEMPTS)
			break;
		redis_batch_init(&batch, task->arena);
		add_sealed(&batch, &sealed->place.connection_key);
		error = redis_run(task->app->redis, &batch, true);
		if (error != NULL)
			return error;
		sealed_parse((const struct redis_reply *const *)batch.reply, sealed);
	}
	if (store_is_torn(sealed->place.generation, sealed->generation)) {
		rotation->unreadable++;
		count_key(rotation, seal_key_id(task->arena, sealed->access));
	} else {
		rotation->changed++;
	}
	return NULL;
}

/* The credentials [from, from + AT_ONCE) of a page: read in one round, then one exchange each. */
static const struct error *
rotate_some(struct task *task, const struct words *keys, size_t from, struct rotation *rotation)
{
	struct sealed sealed[AT_ONCE];
	struct redis_batch batch;
	const struct error *error;
	size_t count = 0;

	redis_batch_init(&batch, task->arena);
	for (size_t i = from; i < keys->count && i < from + AT_ONCE; i++) {
		if (store_key_parse(task->arena, "credential", keys->items[i], &sealed[count].place.connection_key))
			add_sealed(&batch, &sealed[count++].place.connection_key);
	}
	if (count == 0)
		return NULL;
	error = redis_run(task->app->redis, &batch, true);
	if (error != NULL)
		return error;
	for (size_t i = 0; i < count; i++) {
		sealed_parse((const struct redis_reply *const *)batch.reply + 2 * i, &sealed[i]);
		error = settle(task, &sealed[i], rotation);
		if (error != NULL)
			return error;
	}
	return NULL;
}

/* A cursor counts with its bits reversed: read backwards it is the part of the keys that is done. */
static double
done(const char *cursor)
{
	uint64_t number;
	uint64_t reversed = 0;

	if (!text_to_number(cursor, UINT64_MAX, &number))
		return 0;
	for (int bit = 0; bit < 64; bit++)
		reversed |= (number >> bit & 1) << (63 - bit);
	return (double)reversed / (double)UINT64_MAX;
}

const struct error *
store_rotate_page(struct task *task, struct rotation *rotation)
{
	struct words keys;
	const struct error *error;

	if (rotation->cursor[0] == '\0')
		snprintf(rotation->cursor, sizeof rotation->cursor, "0");
	error = store_scan_page(task, "credential:{*}:*", rotation->cursor, &keys);
	if (error != NULL)
		return error;
	for (size_t from = 0; from < keys.count; from += AT_ONCE) {
		error = rotate_some(task, &keys, from, rotation);
		if (error != NULL)
			return error;
	}
	rotation->over = strcmp(rotation->cursor, "0") == 0;
	rotation->done = rotation->over ? 1 : done(rotation->cursor);
	return NULL;
}
