/*
 * Sealing stored tokens anew under the first key of the ring, while the service serves. Page by page over all
 * credentials; each is exchanged only if it still holds what was read, so that a refresh or disconnect in between wins:
 * then it is read again, because a refresh seals the access token only.
 * What does not open is left as it is and counted: it is never lost by a rotation.
 */
#include "fcgi/store_rotate.h"

#include "common/arena.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/store_internal.h"

#include <stdio.h>
#include <string.h>

#define ATTEMPTS 5 /* at a credential that others write at the same time */

static const struct redis_script exchange_script = {
    .shape = "[0,1]",
#include "build/lua/credential_exchange.lua.h"
};

/* What one credential holds. */
struct sealed {
	struct connection_key connection_key;
	const char *access;
	const char *refresh;
	const char *issuer;
	const char *client_id;
};

static const char *
seal_again(const struct app *app, struct arena *arena, const struct sealed *sealed, const char *field,
	   const char *value)
{
	struct key_ring *ring = app->config->keys;
	const struct seal_context context =
	    store_seal_context(app, &sealed->connection_key, field, sealed->issuer, sealed->client_id);
	const char *plain = seal_open(arena, ring, &context, value);

	return plain != NULL ? seal(arena, ring, &context, plain) : NULL;
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
is_current(const struct app *app, struct arena *arena, const struct sealed *sealed)
{
	const char *first = key_ring_first(app->config->keys);

	return text_equal(seal_key_id(arena, sealed->access), first) &&
	       text_equal(seal_key_id(arena, sealed->refresh), first);
}

static const struct error *
rotate_one(struct app *app, struct arena *arena, const struct sealed *sealed, struct rotation *rotation, bool *changed)
{
	const char *const keys[] = {store_key_connection(arena, "credential", &sealed->connection_key), NULL};
	const char *access = seal_again(app, arena, sealed, "credential.access_token", sealed->access);
	const char *refresh = seal_again(app, arena, sealed, "credential.refresh_token", sealed->refresh);
	const struct redis_reply *reply;
	const struct error *error;

	if (access == NULL || refresh == NULL) {
		rotation->unreadable++;
		count_key(rotation, seal_key_id(arena, access == NULL ? sealed->access : sealed->refresh));
		return NULL;
	}
	const char *const arguments[] = {sealed->access, sealed->refresh, access, refresh, NULL};
	reply = store_run_script(app, arena, &exchange_script, keys, arguments, false, &error);
	if (reply == NULL)
		return error;
	*changed = reply->integer != 1;
	if (*changed)
		return NULL;
	rotation->sealed_anew++;
	count_key(rotation, key_ring_first(app->config->keys));
	return NULL;
}

static const struct error *
assess_sealed(struct app *app, struct arena *arena, const struct sealed *sealed, struct rotation *rotation,
	      bool *changed)
{
	*changed = false;
	if (sealed->access == NULL && sealed->refresh == NULL)
		return NULL;
	if (sealed->access == NULL || sealed->refresh == NULL || sealed->issuer == NULL || sealed->client_id == NULL) {
		rotation->unreadable++;
		count_key(rotation, NULL);
		return NULL;
	}
	if (is_current(app, arena, sealed)) {
		rotation->current++;
		count_key(rotation, key_ring_first(app->config->keys));
		return NULL;
	}
	return rotate_one(app, arena, sealed, rotation, changed);
}

static void
add_sealed(struct redis_batch *batch, const char *key)
{
	redis_add(batch, "HMGET", key, "access_token", "refresh_token", "issuer", "client_id", NULL);
}

static void
sealed_parse(const struct redis_reply *reply, struct sealed *out)
{
	out->access = redis_item(reply, 0);
	out->refresh = redis_item(reply, 1);
	out->issuer = redis_item(reply, 2);
	out->client_id = redis_item(reply, 3);
}

/* Until it is sealed anew, or needs not be. */
static const struct error *
settle(struct app *app, struct arena *arena, struct sealed *sealed, struct rotation *rotation)
{
	struct redis_batch batch;
	const struct error *error;
	bool changed;

	if (sealed->access != NULL || sealed->refresh != NULL)
		rotation->seen++;
	for (int attempt = 1;; attempt++) {
		error = assess_sealed(app, arena, sealed, rotation, &changed);
		if (error != NULL || !changed)
			return error;
		if (attempt == ATTEMPTS)
			break;
		redis_batch_init(&batch, arena);
		add_sealed(&batch, store_key_connection(arena, "credential", &sealed->connection_key));
		error = redis_run(app->redis, &batch, true);
		if (error != NULL)
			return error;
		sealed_parse(batch.reply[0], sealed);
	}
	rotation->changed++;
	return NULL;
}

/* The credentials [from, from + 64) of a page: read in one round, then one exchange each. */
static const struct error *
rotate_some(struct app *app, struct arena *arena, const struct words *keys, size_t from, struct rotation *rotation)
{
	struct sealed sealed[REDIS_BATCH_MAX];
	struct redis_batch batch;
	const struct error *error;

	redis_batch_init(&batch, arena);
	for (size_t i = from; i < keys->count && batch.count < REDIS_BATCH_MAX; i++) {
		if (store_key_parse(arena, "credential", keys->items[i], &sealed[batch.count].connection_key))
			add_sealed(&batch, keys->items[i]);
		if (i + 1 == from + REDIS_BATCH_MAX)
			break;
	}
	if (batch.count == 0)
		return NULL;
	error = redis_run(app->redis, &batch, true);
	if (error != NULL)
		return error;
	for (size_t i = 0; i < batch.count; i++) {
		sealed_parse(batch.reply[i], &sealed[i]);
		error = settle(app, arena, &sealed[i], rotation);
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
store_rotate_page(struct app *app, struct arena *arena, struct rotation *rotation)
{
	struct words keys;
	const struct error *error;

	if (rotation->cursor[0] == '\0')
		snprintf(rotation->cursor, sizeof rotation->cursor, "0");
	error = store_scan_page(app, arena, "credential:{*}:*", rotation->cursor, &keys);
	if (error != NULL)
		return error;
	for (size_t from = 0; from < keys.count; from += REDIS_BATCH_MAX) {
		error = rotate_some(app, arena, &keys, from, rotation);
		if (error != NULL)
			return error;
	}
	rotation->over = strcmp(rotation->cursor, "0") == 0;
	rotation->done = rotation->over ? 1 : done(rotation->cursor);
	return NULL;
}
