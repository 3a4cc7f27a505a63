/*
 * Removed members: removed:{organization:user} has no expiry and stands until it is lifted. Its value, the time of
 * removal, is for people; only its presence counts.
 */
#include "fcgi/store_member.h"

#include "common/arena.h"
#include "common/clock.h"
#include "fcgi/app.h"
#include "fcgi/store_internal.h"
#include "fcgi/task.h"

#include <string.h>

/* Users found so far, perhaps some of them twice. */
struct members {
	struct arena *arena;
	const char *tag;
	struct words users;
};

const struct error *
store_member_remove(struct task *task, const char *organization, const char *user, bool *set)
{
	const struct connection_key connection = {.organization = organization, .user = user};
	char now[CLOCK_RFC3339_SIZE];
	struct redis_batch batch;
	const struct error *error;

	*set = false;
	clock_rfc3339(clock_wall(), now);
	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "SET", store_key_member(task->arena, "removed", &connection), now, "NX", NULL);
	error = redis_run(task->app->redis, &batch, false);
	if (error != NULL)
		return error;
	*set = batch.reply[0]->type != REDIS_NIL;
	return NULL;
}

const struct error *
store_member_restore(struct task *task, const char *organization, const char *user, bool *existed)
{
	const struct connection_key connection = {.organization = organization, .user = user};
	struct redis_batch batch;
	const struct error *error;

	*existed = false;
	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "DEL", store_key_member(task->arena, "removed", &connection), NULL);
	error = redis_run(task->app->redis, &batch, false);
	if (error != NULL)
		return error;
	*existed = batch.reply[0]->integer > 0;
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

static void
put_page(void *arg, struct arena *page, const struct words *keys)
{
	struct members *members = arg;
	struct words *users = &members->users;

	for (size_t i = 0; i < keys->count; i++) {
		const char *user = user_of(page, keys->items[i], members->tag);

		if (user == NULL)
			continue;
		users->items = arena_grow(members->arena, users->items, users->count, sizeof *users->items);
		users->items[users->count++] = arena_text(members->arena, user);
	}
}

/* Any key with the members' hash tag counts: a member in the middle of a consent flow has no record yet. */
const struct error *
store_member_list(struct task *task, const char *organization, struct words *users)
{
	struct members members = {.arena = task->arena, .tag = arena_format(task->arena, "{%s:", organization)};
	const struct error *error =
	    store_scan(task, arena_format(task->arena, "*{%s:*}*", organization), put_page, &members);

	*users = members.users;
	if (users->count > 0)
		users->count = store_sort_unique(users->items, users->count, sizeof *users->items, text_compare);
	return error;
}
