/*
 * Programs of the platform: caller:<sha256 of the key>, a hash with expiry. Found by hash only, as sessions are; the
 * commands, which know a caller by its name, look through all of them.
 */
#include "fcgi/store_caller_internal.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/resp.h"
#include "fcgi/app.h"
#include "fcgi/task.h"

#include <string.h>

static struct resp_tail fields_tail;

static const struct redis_script write_script = {
    .shape = "[1,1]",
#include "build/lua/hash_write.lua.h"
};

void
store_caller_prepare(void)
{
	static const char *const fields[] = {STORE_CALLER_FIELDS};

	_Static_assert(sizeof fields / sizeof *fields == STORE_CALLER_FIELD_COUNT, "fields and enum differ");
	resp_tail_prepare(&fields_tail, sizeof fields / sizeof fields[0], fields);
}

/* A text that is not a time counts as ended. */
static bool
has_ended(const struct redis_reply *row)
{
	const char *text = store_caller_text(row, STORE_CALLER_EXPIRES_AT);
	uint64_t expires_at;

	return text[0] != '\0' &&
	       (!text_to_number(text, INT64_MAX / 1000, &expires_at) || clock_wall() >= (int64_t)expires_at);
}

static void
parse_caller(struct arena *arena, const struct redis_reply *reply, struct caller *out)
{
	*out = (struct caller){.name = redis_item(reply, 0)};
	out->found = out->name != NULL && text_is_utf8(out->name, strlen(out->name));
	out->mcps = words_split(arena, redis_item(reply, 1));
	out->organizations = words_split(arena, redis_item(reply, 2));
}

const struct error *
store_caller_read(struct task *task, const char *key, struct caller *out)
{
	struct redis_batch batch;
	const struct error *error;
	const char *row_key = store_key_hashed(task->arena, "caller", key);
	bool good;

	*out = (struct caller){0};
	redis_batch_init(&batch, task->arena);
	redis_add_hmget(&batch, row_key, &fields_tail);
	error = redis_run_shared(task->app->redis, &batch); /* callers are few, and ask often */
	if (error != NULL)
		return error;
	parse_caller(task->arena, batch.reply[0], out);
	if (!out->found)
		return NULL;
	error = store_caller_check(task, row_key, batch.reply[0], &good);
	out->found = good && !has_ended(batch.reply[0]);
	return error;
}

const struct error *
store_caller_write(struct task *task, const char *key, const struct caller *caller, int64_t ttl)
{
	const char *const keys[] = {store_key_hashed(task->arena, "caller", key), NULL};
	const struct store_caller_row row = {.key = keys[0],
					     .name = caller->name,
					     .mcps = words_join(task->arena, &caller->mcps),
					     .organizations = words_join(task->arena, &caller->organizations),
					     .expires_at = store_caller_end(task->arena, ttl)};
	const char *const arguments[] = {
	    arena_format(task->arena, "%lld", (long long)ttl),
	    "name",
	    row.name,
	    "mcps",
	    row.mcps,
	    "organizations",
	    row.organizations,
	    "expires_at",
	    row.expires_at,
	    "mac",
	    store_caller_mac(task, &row),
	    NULL,
	};
	const struct error *error;

	(void)store_run_script(task, &write_script, keys, arguments, false, &error);
	return error;
}

static int
compare_names(const void *a, const void *b)
{
	const struct caller_entry *left = a;
	const struct caller_entry *right = b;
	int by_name = strcmp(left->caller.name, right->caller.name);

	return by_name != 0 ? by_name : strcmp(left->key, right->key);
}

/* Fields and remaining life of the callers [from, ...) of a page: two commands each. */
static const struct error *
read_some(struct task *task, const struct words *keys, size_t from, size_t count, struct caller_list *list)
{
	struct redis_batch batch;
	const struct error *error;

	redis_batch_init(&batch, task->arena);
	for (size_t i = from; i < from + count; i++) {
		redis_add(&batch, "HMGET", keys->items[i], STORE_CALLER_FIELDS, NULL);
		redis_add(&batch, "TTL", keys->items[i], NULL);
	}
	error = redis_run(task->app->redis, &batch, true);
	if (error != NULL)
		return error;
	for (size_t i = 0; i < count; i++) {
		struct caller_entry entry = {
		    .key = keys->items[from + i], .ttl = batch.reply[2 * i + 1]->integer, .row = batch.reply[2 * i]};

		parse_caller(task->arena, entry.row, &entry.caller);
		if (!entry.caller.found)
			continue;
		list->items = arena_grow(task->arena, list->items, list->count, sizeof *list->items);
		list->items[list->count++] = entry;
	}
	return NULL;
}

const struct error *
store_caller_list(struct task *task, struct caller_list *list)
{
	const size_t most = REDIS_BATCH_MAX / 2;
	char cursor[STORE_CURSOR_SIZE] = "0";
	const struct error *error;

	*list = (struct caller_list){0};
	do {
		struct words keys;

		error = store_scan_page(task, STORE_CALLER_PREFIX "*", cursor, &keys);
		if (error != NULL)
			return error;
		for (size_t from = 0; from < keys.count; from += most) {
			size_t count = keys.count - from < most ? keys.count - from : most;

			error = read_some(task, &keys, from, count, list);
			if (error != NULL)
				return error;
		}
	} while (strcmp(cursor, "0") != 0);
	if (list->count > 0)
		list->count = store_sort_unique(list->items, list->count, sizeof *list->items, compare_names);
	return NULL;
}

const struct error *
store_caller_delete(struct task *task, const char *name, size_t *count)
{
	struct caller_list list;
	const struct error *error;

	*count = 0;
	error = store_caller_list(task, &list);
	if (error != NULL)
		return error;
	for (size_t i = 0; i < list.count; i++) {
		struct redis_batch batch;

		if (!text_equal(list.items[i].caller.name, name))
			continue;
		redis_batch_init(&batch, task->arena);
		redis_add(&batch, "DEL", list.items[i].key, NULL);
		error = redis_run(task->app->redis, &batch, false);
		if (error != NULL)
			return error;
		(*count)++;
	}
	return NULL;
}
