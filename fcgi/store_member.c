/*
 * Removed members: removed:{organization:user} has no expiry and stands until it is lifted. Its value, the time of
 * removal, is for people; only its presence counts.
 */
#include "fcgi/store_common.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/error.h"
#include "fcgi/app.h"

#include <stdlib.h>
#include <string.h>

const struct error *
store_member_remove(struct app *app, struct arena *arena, const char *organization, const char *user)
{
	const struct principal principal = {.organization = organization, .user = user};
	char now[CLOCK_RFC3339_SIZE];
	struct redis_batch batch;

	clock_rfc3339(clock_wall(), now);
	redis_batch_init(&batch, arena);
	redis_add(&batch, "SET", store_key_member(arena, "removed", &principal), now, "NX", NULL);
	return redis_run(app->redis, &batch, false);
}

const struct error *
store_member_restore(struct app *app, struct arena *arena, const char *organization, const char *user, bool *existed)
{
	const struct principal principal = {.organization = organization, .user = user};
	struct redis_batch batch;
	const struct error *err;

	*existed = false;
	redis_batch_init(&batch, arena);
	redis_add(&batch, "DEL", store_key_member(arena, "removed", &principal), NULL);
	if ((err = redis_run(app->redis, &batch, false)) != NULL)
		return err;
	*existed = batch.reply[0]->type == REDIS_INTEGER && batch.reply[0]->integer > 0;
	return NULL;
}

/* The user in "...{organization:user}...", or NULL. */
static const char *
user_of(struct arena *arena, const char *key, const char *tag)
{
	const char *at = strstr(key, tag);
	const char *end = at != NULL ? strchr(at, '}') : NULL;
	const char *user;

	if (end == NULL)
		return NULL;
	at += strlen(tag);
	user = arena_copy(arena, at, (size_t)(end - at));
	return text_is_id(user) ? user : NULL;
}

static int
compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void
add_all(struct arena *arena, struct words *users, const struct words *keys, const char *tag)
{
	const char **items = arena_alloc(arena, (users->count + keys->count + 1) * sizeof *items);
	size_t kept = 0;
	size_t count = users->count;

	if (count > 0)
		memcpy(items, users->items, count * sizeof *items);
	for (size_t i = 0; i < keys->count; i++) {
		const char *user = user_of(arena, keys->items[i], tag);

		if (user != NULL)
			items[count++] = user;
	}
	qsort(items, count, sizeof *items, compare);
	for (size_t i = 0; i < count; i++) {
		if (kept == 0 || strcmp(items[kept - 1], items[i]) != 0)
			items[kept++] = items[i];
	}
	items[kept] = NULL;
	*users = (struct words){.count = kept, .items = items};
}

/* Any key with the members' hash tag counts: somebody in the middle of a consent flow has no record yet. */
const struct error *
store_member_list(struct app *app, struct arena *arena, const char *organization, struct words *users)
{
	const char *tag = arena_format(arena, "{%s:", organization);
	const char *pattern = arena_format(arena, "*{%s:*}*", organization);
	char cursor[STORE_CURSOR_SIZE] = "0";
	const struct error *err;

	*users = (struct words){0};
	do {
		struct words keys;

		if ((err = store_scan_page(app, arena, pattern, cursor, &keys)) != NULL)
			return err;
		if (keys.count > 0)
			add_all(arena, users, &keys, tag);
	} while (strcmp(cursor, "0") != 0);
	return NULL;
}
