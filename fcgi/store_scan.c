/*
 * Looking at more than one user, for the commands: a scan over the keys of Redis, which workers have neither the right
 * nor the time for. A scan may name a key twice, and misses none that is there from its beginning to its end.
 */
#include "fcgi/store_internal.h"

#include "common/arena.h"
#include "fcgi/app.h"
#include "fcgi/store_integration.h"
#include "fcgi/store_rotate.h"
#include "fcgi/task.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEYS_AT_ONCE "1000"
#define PAGE_FIRST ((size_t)256 * 1024)

/* Connections of these kinds found so far; the arena's limit is the bound. */
struct found {
	struct task *task;
	const char *const *kinds;
	const char *organization;
	struct connection_key *items;
	size_t count;
};

const struct error *
store_scan_page(struct task *task, const char *pattern, char cursor[STORE_CURSOR_SIZE], struct words *keys)
{
	const struct redis_reply *page;
	struct redis_batch batch;
	const struct error *error;

	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "SCAN", cursor, "MATCH", pattern, "COUNT", KEYS_AT_ONCE, NULL);
	error = redis_run(task->app->redis, &batch, true);
	if (error != NULL)
		return error;
	snprintf(cursor, STORE_CURSOR_SIZE, "%s", redis_item(batch.reply[0], 0));
	page = batch.reply[0]->items[1];
	*keys = (struct words){.items = arena_alloc(task->arena, (page->count + 1) * sizeof *keys->items)};
	for (size_t i = 0; i < page->count; i++)
		keys->items[keys->count++] = redis_item(page, i);
	return NULL;
}

const struct error *
store_scan(struct task *task, const char *pattern, store_page_function *fn, void *arg)
{
	struct task page = {.app = task->app, .arena = arena_open_like(task->arena, PAGE_FIRST)};
	char cursor[STORE_CURSOR_SIZE] = "0";
	const struct error *error;
	struct words keys;

	do {
		error = store_scan_page(&page, pattern, cursor, &keys);
		if (error == NULL && keys.count > 0)
			fn(arg, page.arena, &keys);
		arena_reset(page.arena);
	} while (error == NULL && strcmp(cursor, "0") != 0);
	arena_close(page.arena);
	return error;
}

size_t
store_sort_unique(void *items, size_t count, size_t size, int (*compare)(const void *, const void *))
{
	char *bytes = items;
	size_t kept = 0;

	qsort(items, count, size, compare);
	for (size_t i = 1; i < count; i++) {
		if (compare(bytes + kept * size, bytes + i * size) != 0)
			memmove(bytes + ++kept * size, bytes + i * size, size);
	}
	return kept + 1;
}

bool
store_key_parse(struct arena *arena, const char *kind, const char *key, struct connection_key *out)
{
	size_t len = strlen(kind);
	const char *organization = key + len + 2;
	const char *colon;
	const char *brace;

	if (strncmp(key, kind, len) != 0 || strncmp(key + len, ":{", 2) != 0)
		return false;
	colon = strchr(organization, ':');
	brace = colon != NULL ? strchr(colon, '}') : NULL;
	if (brace == NULL || brace[1] != ':')
		return false;
	out->organization = arena_copy(arena, organization, (size_t)(colon - organization));
	out->user = arena_copy(arena, colon + 1, (size_t)(brace - colon - 1));
	out->service = arena_text(arena, brace + 2);
	return text_is_id(out->organization) && text_is_id(out->user) && text_is_name(out->service);
}

static void
put_connection(struct found *found, const struct connection_key *connection)
{
	struct arena *arena = found->task->arena;

	found->items = arena_grow(arena, found->items, found->count, sizeof *found->items);
	found->items[found->count++] = (struct connection_key){.organization = found->organization,
							       .user = arena_text(arena, connection->user),
							       .service = arena_text(arena, connection->service)};
}

static void
put_page(void *arg, struct arena *page, const struct words *keys)
{
	struct found *found = arg;
	struct connection_key connection;

	for (size_t i = 0; i < keys->count; i++) {
		for (const char *const *kind = found->kinds; *kind != NULL; kind++) {
			if (store_key_parse(page, *kind, keys->items[i], &connection))
				put_connection(found, &connection);
		}
	}
}

static int
compare_connections(const void *a, const void *b)
{
	const struct connection_key *left = a;
	const struct connection_key *right = b;
	int by_user = strcmp(left->user, right->user);

	return by_user != 0 ? by_user : strcmp(left->service, right->service);
}

/* Of all whose keys match "<kinds>:{organization:user}:*". */
static const struct error *
scan(const char *kinds, const char *user, struct found *found)
{
	const char *pattern =
	    arena_format(found->task->arena, "%s:{%s:%s}:*", kinds, found->organization, user != NULL ? user : "*");
	const struct error *error = store_scan(found->task, pattern, put_page, found);

	if (found->count > 0)
		found->count = store_sort_unique(found->items, found->count, sizeof *found->items, compare_connections);
	return error;
}

const struct error *
store_integration_scan(struct task *task, const char *organization, const char *user, struct integration **out,
		       size_t *count)
{
	static const char *const kinds[] = {"integration", NULL};
	struct found found = {.task = task, .kinds = kinds, .organization = organization};
	const struct error *error;

	*count = 0;
	error = scan(kinds[0], user, &found);
	if (error != NULL)
		return error;
	*out = arena_alloc(task->arena, (found.count + 1) * sizeof **out);
	for (size_t from = 0; from < found.count; from += REDIS_BATCH_MAX) {
		struct redis_batch batch;

		redis_batch_init(&batch, task->arena);
		for (size_t i = from; i < found.count && i < from + REDIS_BATCH_MAX; i++)
			store_record_add(&batch, &found.items[i]);
		error = redis_run(task->app->redis, &batch, true);
		if (error != NULL)
			return error;
		for (size_t i = 0; i < batch.count; i++) {
			if (store_record_parse(task->arena, &found.items[from + i], batch.reply[i], &(*out)[*count]))
				(*count)++;
		}
	}
	return NULL;
}

/* Both kinds in one scan: it takes as long as Redis has keys, whatever it looks for. */
const struct error *
store_deletable_scan(struct task *task, const char *organization, const char *user, struct connection_key **out,
		     size_t *count)
{
	static const char *const kinds[] = {"integration", "integrations:unrevoked", NULL};
	struct found found = {.task = task, .kinds = kinds, .organization = organization};
	const struct error *error = scan("integration*", user, &found);

	*out = found.items;
	*count = found.count;
	return error;
}
