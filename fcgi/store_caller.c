/*
 * Programs of the platform: caller:<sha256 of the key>, a hash with expiry. Found by hash only, as sessions are; the
 * commands, which know a caller by its name, look through all of them.
 *
 * A row decides whose tokens a program gets, so it has a MAC under the key ring: who can write to Redis alone can
 * neither make one up nor widen one. Rows of before have none; the setting CALLER_MAC says whether they count.
 */
#include "fcgi/store_caller.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/log.h"
#include "common/resp.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/store_internal.h"

#include <stdlib.h>
#include <string.h>

#define FIELDS "name", "mcps", "organizations", "expires_at", "mac"
#define PREFIX "caller:"
#define WITHOUT_MAC_MS (60 * 60 * 1000)
#define REFUSED_MS (60 * 1000)

enum field { NAME, MCPS, ORGANIZATIONS, EXPIRES_AT, MAC, FIELD_COUNT };

static struct resp_tail fields_tail;

static const struct redis_script write_script = {
    .shape = "[1,1]",
#include "build/lua/caller_write.lua.h"
};

static const struct redis_script sign_script = {
    .shape = "[0,1]",
#include "build/lua/caller_sign.lua.h"
};

void
store_caller_prepare(void)
{
	static const char *const fields[] = {FIELDS};

	_Static_assert(sizeof fields / sizeof *fields == FIELD_COUNT, "fields and enum differ");
	resp_tail_prepare(&fields_tail, sizeof fields / sizeof fields[0], fields);
}

static const char *
row_text(const struct redis_reply *row, enum field field)
{
	const char *text = redis_item(row, field);

	return text != NULL ? text : "";
}

/* What a MAC of a row covers; `key` is the row's in Redis. */
struct mac_parts {
	const char *text[SEAL_MAC_PARTS];
	size_t count;
};

static struct mac_parts
mac_parts(const struct app *app, const char *key, const char *name, const char *mcps, const char *organizations,
	  const char *expires_at)
{
	return (struct mac_parts){
	    .text = {"caller", app->config->environment, key + strlen(PREFIX), name, mcps, organizations, expires_at},
	    .count = 7};
}

static struct mac_parts
row_parts(const struct app *app, const char *key, const struct redis_reply *row, const char *expires_at)
{
	return mac_parts(app, key, row_text(row, NAME), row_text(row, MCPS), row_text(row, ORGANIZATIONS), expires_at);
}

static enum seal_mac_result
check_mac(const struct app *app, struct arena *arena, const char *key, const struct redis_reply *row)
{
	const struct mac_parts parts = row_parts(app, key, row, row_text(row, EXPIRES_AT));
	const struct key_ring *ring = app->config->keys;
	const char *mac = row_text(row, MAC);
	enum seal_mac_result result = seal_mac_check(arena, ring, parts.text, parts.count, mac);

	if (result == SEAL_MAC_UNKNOWN_KEY && config_learn_key(app->config, seal_key_id(arena, mac)))
		result = seal_mac_check(arena, ring, parts.text, parts.count, mac);
	return result;
}

/* Count it; true when a line is due that says how many there were. */
static bool
is_line_due(struct log_pace *pace, int64_t period_ms)
{
	int64_t now = clock_monotonic_ms();

	pace->count++;
	if (now < pace->next_ms)
		return false;
	pace->next_ms = now + period_ms;
	return true;
}

static void
end_line(struct log_line *line, struct log_pace *pace, const struct redis_reply *row, const char *action)
{
	log_text(line, "caller", row_text(row, NAME));
	log_number(line, "requests", pace->count);
	log_text(line, "action", action);
	log_end(line);
	pace->count = 0;
}

static void
note_without_mac(struct app *app, const struct redis_reply *row)
{
	struct log_line line;

	if (!is_line_due(&app->callers_without_mac, WITHOUT_MAC_MS))
		return;
	log_begin(&line, LOG_LEVEL_WARN, "caller_without_mac");
	end_line(&line, &app->callers_without_mac, row,
		 "sign the rows that you know with `integrations caller sign`, then set CALLER_MAC=required");
}

static void
note_refused(struct app *app, const struct redis_reply *row, const char *reason)
{
	struct log_line line;

	if (!is_line_due(&app->callers_refused, REFUSED_MS))
		return;
	log_begin(&line, LOG_LEVEL_ERROR, "caller_refused");
	log_text(&line, "reason", reason);
	end_line(&line, &app->callers_refused, row,
		 "look who wrote this row into Redis; if its key was taken out of TOKEN_KEYS, put it back or revoke "
		 "the caller and create it anew");
}

/* May a row be believed? An unknown key is most likely one that this host has not been told of yet. */
static const struct error *
check_row(struct app *app, struct arena *arena, const char *key, const struct redis_reply *row, bool *good)
{
	*good = false;
	if (row_text(row, MAC)[0] == '\0') {
		*good = !app->config->caller_mac_required;
		if (*good)
			note_without_mac(app, row);
		else
			note_refused(app, row, "mac_missing");
		return NULL;
	}
	switch (check_mac(app, arena, key, row)) {
	case SEAL_MAC_GOOD: *good = true; return NULL;
	case SEAL_MAC_WRONG: note_refused(app, row, "mac_wrong"); return NULL;
	case SEAL_MAC_UNKNOWN_KEY: break;
	}
	note_refused(app, row, "key_unknown");
	return &error_store_unavailable;
}

/* What is no time has ended, too. */
static bool
has_ended(const struct redis_reply *row)
{
	const char *text = row_text(row, EXPIRES_AT);
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
store_caller_read(struct app *app, struct arena *arena, const char *key, struct caller *out)
{
	struct redis_batch batch;
	const struct error *error;

	const char *row_key = store_key_hashed(arena, "caller", key);
	bool good;

	*out = (struct caller){0};
	redis_batch_init(&batch, arena);
	redis_add_hmget(&batch, row_key, &fields_tail);
	error = redis_run_shared(app->redis, &batch); /* callers are few, and ask often */
	if (error != NULL)
		return error;
	parse_caller(arena, batch.reply[0], out);
	if (!out->found)
		return NULL;
	error = check_row(app, arena, row_key, batch.reply[0], &good);
	out->found = good && !has_ended(batch.reply[0]);
	return error;
}

static const char *
end_after(struct arena *arena, int64_t ttl)
{
	return arena_format(arena, "%lld", (long long)(clock_wall() + ttl));
}

const struct error *
store_caller_write(struct app *app, struct arena *arena, const char *key, const struct caller *caller, int64_t ttl)
{
	const char *const keys[] = {store_key_hashed(arena, "caller", key), NULL};
	const char *mcps = words_join(arena, &caller->mcps);
	const char *organizations = words_join(arena, &caller->organizations);
	const char *expires_at = end_after(arena, ttl);
	const struct mac_parts parts = mac_parts(app, keys[0], caller->name, mcps, organizations, expires_at);
	const char *const arguments[] = {
	    arena_format(arena, "%lld", (long long)ttl),
	    "name",
	    caller->name,
	    "mcps",
	    mcps,
	    "organizations",
	    organizations,
	    "expires_at",
	    expires_at,
	    "mac",
	    seal_mac(arena, app->config->keys, parts.text, parts.count),
	    NULL,
	};
	const struct error *error;

	(void)store_run_script(app, arena, &write_script, keys, arguments, false, &error);
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
read_some(struct app *app, struct arena *arena, const struct words *keys, size_t from, size_t count,
	  struct caller_list *list)
{
	struct redis_batch batch;
	const struct error *error;

	redis_batch_init(&batch, arena);
	for (size_t i = from; i < from + count; i++) {
		redis_add(&batch, "HMGET", keys->items[i], FIELDS, NULL);
		redis_add(&batch, "TTL", keys->items[i], NULL);
	}
	error = redis_run(app->redis, &batch, true);
	if (error != NULL)
		return error;
	for (size_t i = 0; i < count; i++) {
		struct caller_entry *entry = &list->items[list->count];

		parse_caller(arena, batch.reply[2 * i], &entry->caller);
		entry->key = keys->items[from + i];
		entry->ttl = batch.reply[2 * i + 1]->integer;
		entry->row = batch.reply[2 * i];
		if (entry->caller.found)
			list->count++;
	}
	return NULL;
}

static void
make_room(struct arena *arena, struct caller_list *list, size_t more)
{
	struct caller_entry *items = arena_alloc(arena, (list->count + more + 1) * sizeof *items);

	if (list->count > 0)
		memcpy(items, list->items, list->count * sizeof *items);
	list->items = items;
}

static void
sort_unique(struct caller_list *list)
{
	size_t kept = 0;

	if (list->count == 0)
		return;
	qsort(list->items, list->count, sizeof *list->items, compare_names);
	for (size_t i = 1; i < list->count; i++) {
		if (strcmp(list->items[kept].key, list->items[i].key) != 0)
			list->items[++kept] = list->items[i];
	}
	list->count = kept + 1;
}

const struct error *
store_caller_list(struct app *app, struct arena *arena, struct caller_list *list)
{
	const size_t most = REDIS_BATCH_MAX / 2;
	char cursor[STORE_CURSOR_SIZE] = "0";
	const struct error *error;

	*list = (struct caller_list){0};
	do {
		struct words keys;

		error = store_scan_page(app, arena, PREFIX "*", cursor, &keys);
		if (error != NULL)
			return error;
		make_room(arena, list, keys.count);
		for (size_t from = 0; from < keys.count; from += most) {
			size_t count = keys.count - from < most ? keys.count - from : most;

			error = read_some(app, arena, &keys, from, count, list);
			if (error != NULL)
				return error;
		}
	} while (strcmp(cursor, "0") != 0);
	sort_unique(list);
	return NULL;
}

const struct error *
store_caller_delete(struct app *app, struct arena *arena, const char *name, size_t *count)
{
	struct caller_list list;
	const struct error *error;

	*count = 0;
	error = store_caller_list(app, arena, &list);
	if (error != NULL)
		return error;
	for (size_t i = 0; i < list.count; i++) {
		struct redis_batch batch;

		if (!text_equal(list.items[i].caller.name, name))
			continue;
		redis_batch_init(&batch, arena);
		redis_add(&batch, "DEL", list.items[i].key, NULL);
		error = redis_run(app->redis, &batch, false);
		if (error != NULL)
			return error;
		(*count)++;
	}
	return NULL;
}

bool
store_caller_has_mac(const struct caller_entry *entry)
{
	return row_text(entry->row, MAC)[0] != '\0';
}

static const struct error *
put_mac(struct app *app, struct arena *arena, const struct caller_entry *entry, const char *expires_at, bool *done)
{
	const struct redis_reply *row = entry->row;
	const struct mac_parts parts = row_parts(app, entry->key, row, expires_at);
	const char *const keys[] = {entry->key, NULL};
	const char *const arguments[] = {row_text(row, NAME),
					 row_text(row, MCPS),
					 row_text(row, ORGANIZATIONS),
					 row_text(row, EXPIRES_AT),
					 row_text(row, MAC),
					 expires_at,
					 seal_mac(arena, app->config->keys, parts.text, parts.count),
					 NULL};
	const struct redis_reply *reply;
	const struct error *error;

	reply = store_run_script(app, arena, &sign_script, keys, arguments, false, &error);
	*done = reply != NULL && reply->integer == 1;
	return error;
}

const struct error *
store_caller_sign(struct app *app, struct arena *arena, const struct caller_entry *entry, bool *done)
{
	const char *expires_at = row_text(entry->row, EXPIRES_AT);

	if (expires_at[0] == '\0' && entry->ttl >= 0)
		expires_at = end_after(arena, entry->ttl);
	return put_mac(app, arena, entry, expires_at, done);
}

static const struct error *
renew_one(struct app *app, struct arena *arena, const struct caller_entry *entry, struct caller_renewal *out)
{
	const char *id = seal_key_id(arena, row_text(entry->row, MAC));
	const struct error *error;
	bool done;

	if (!store_caller_has_mac(entry)) {
		out->without_mac++;
		return NULL;
	}
	if (check_mac(app, arena, entry->key, entry->row) != SEAL_MAC_GOOD) {
		out->refused++;
		return NULL;
	}
	if (text_equal(id, key_ring_first(app->config->keys))) {
		out->current++;
		return NULL;
	}
	error = put_mac(app, arena, entry, row_text(entry->row, EXPIRES_AT), &done);
	if (error == NULL && done)
		out->renewed++;
	else if (error == NULL)
		out->changed++;
	return error;
}

const struct error *
store_caller_renew(struct app *app, struct arena *arena, struct caller_renewal *out)
{
	struct caller_list list;
	const struct error *error;

	*out = (struct caller_renewal){0};
	error = store_caller_list(app, arena, &list);
	for (size_t i = 0; error == NULL && i < list.count; i++)
		error = renew_one(app, arena, &list.items[i], out);
	return error;
}
