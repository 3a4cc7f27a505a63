/*
 * A caller's row decides whose tokens a program gets, so it has a MAC under the key ring: who can write to Redis alone
 * can neither make one up nor widen one. Rows of before have none; the setting CALLER_MAC says whether they count.
 *
 * A worker keeps the rows that it found good, whole. One that comes again byte by byte needs no second look, which
 * would cost a quarter of what an access token does.
 */
#include "fcgi/store_caller_internal.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/log.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/task.h"

#include <stdlib.h>
#include <string.h>

#define WITHOUT_MAC_MS (60 * 60 * 1000)
#define REFUSED_MS (60 * 1000)
#define KEPT_MOST 4096 /* bytes of one row */

static const struct redis_script sign_script = {
    .shape = "[0,1]",
#include "build/lua/caller_sign.lua.h"
};

const char *
store_caller_text(const struct redis_reply *row, enum store_caller_field field)
{
	const char *text = redis_item(row, field);

	return text != NULL ? text : "";
}

char *
store_caller_end(struct arena *arena, int64_t ttl)
{
	return arena_format(arena, "%lld", (long long)clock_wall() + (long long)ttl);
}

static struct store_caller_row
row_of(const char *key, const struct redis_reply *reply)
{
	return (struct store_caller_row){.key = key,
					 .name = store_caller_text(reply, STORE_CALLER_NAME),
					 .mcps = store_caller_text(reply, STORE_CALLER_MCPS),
					 .organizations = store_caller_text(reply, STORE_CALLER_ORGANIZATIONS),
					 .expires_at = store_caller_text(reply, STORE_CALLER_EXPIRES_AT)};
}

#define MAC_PARTS 7

static void
mac_parts(const struct app *app, const struct store_caller_row *row, const char *parts[MAC_PARTS])
{
	parts[0] = "caller";
	parts[1] = app->config->environment;
	parts[2] = row->key + strlen(STORE_CALLER_PREFIX);
	parts[3] = row->name;
	parts[4] = row->mcps;
	parts[5] = row->organizations;
	parts[6] = row->expires_at;
}

char *
store_caller_mac(const struct task *task, const struct store_caller_row *row)
{
	const char *parts[MAC_PARTS];

	mac_parts(task->app, row, parts);
	return seal_mac(task->arena, task->app->config->keys, parts, MAC_PARTS);
}

static enum seal_mac_result
check_mac(const struct task *task, const char *key, const struct redis_reply *reply)
{
	const struct store_caller_row row = row_of(key, reply);
	const struct key_ring *ring = task->app->config->keys;
	const char *mac = store_caller_text(reply, STORE_CALLER_MAC);
	const char *parts[MAC_PARTS];
	enum seal_mac_result result;

	mac_parts(task->app, &row, parts);
	result = seal_mac_check(task->arena, ring, parts, MAC_PARTS, mac);
	if (result == SEAL_MAC_UNKNOWN_KEY && config_learn_key(task->app->config, seal_key_id(task->arena, mac)))
		result = seal_mac_check(task->arena, ring, parts, MAC_PARTS, mac);
	return result;
}

static char **
kept_slot(struct app *app, const char *key)
{
	const unsigned char *hash = (const unsigned char *)key + strlen(STORE_CALLER_PREFIX);

	return &app->callers.kept[(hash[0] * 16U + hash[1]) % APP_CALLERS_KEPT];
}

/* The key and all fields, each with its NUL, are what is kept. */
static bool
is_kept(const char *kept, const char *key, const struct redis_reply *reply)
{
	size_t len = strlen(key) + 1;

	if (kept == NULL || strcmp(kept, key) != 0)
		return false;
	for (enum store_caller_field field = 0; field < STORE_CALLER_FIELD_COUNT; field++) {
		const char *text = store_caller_text(reply, field);

		kept += len;
		if (strcmp(kept, text) != 0)
			return false;
		len = strlen(text) + 1;
	}
	return true;
}

static void
keep(char **slot, const char *key, const struct redis_reply *reply)
{
	size_t size = strlen(key) + 1;
	char *at;

	for (enum store_caller_field field = 0; field < STORE_CALLER_FIELD_COUNT; field++)
		size += strlen(store_caller_text(reply, field)) + 1;
	free(*slot);
	*slot = size <= KEPT_MOST ? malloc(size) : NULL;
	if (*slot == NULL)
		return;
	at = stpcpy(*slot, key) + 1;
	for (enum store_caller_field field = 0; field < STORE_CALLER_FIELD_COUNT; field++)
		at = stpcpy(at, store_caller_text(reply, field)) + 1;
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
	const char *name = store_caller_text(row, STORE_CALLER_NAME);

	/* The writer of the row may have chosen any text. */
	log_text(line, "caller", text_is_id(name) ? name : NULL);
	log_number(line, "requests", pace->count);
	log_text(line, "action", action);
	log_end(line);
	pace->count = 0;
}

static void
note_without_mac(struct app *app, const struct redis_reply *row)
{
	struct log_line line;

	if (!is_line_due(&app->callers.without_mac, WITHOUT_MAC_MS))
		return;
	log_begin(&line, LOG_LEVEL_WARN, "caller_without_mac");
	end_line(&line, &app->callers.without_mac, row,
		 "sign the rows that you know with `integrations caller sign`, then set CALLER_MAC=required");
}

static void
note_refused(struct task *task, const struct redis_reply *row, const char *reason)
{
	struct log_line line;

	if (!is_line_due(&task->app->callers.refused, REFUSED_MS))
		return;
	log_begin(&line, LOG_LEVEL_ERROR, "caller_refused");
	log_text(&line, "reason", reason);
	log_text(&line, "key", seal_key_id(task->arena, store_caller_text(row, STORE_CALLER_MAC)));
	end_line(&line, &task->app->callers.refused, row,
		 "look who wrote this row into Redis; if its key was taken out of TOKEN_KEYS, put it back or revoke "
		 "the caller and create it anew");
}

const struct error *
store_caller_check(struct task *task, const char *key, const struct redis_reply *row, bool *good)
{
	char **slot = kept_slot(task->app, key);

	*good = false;
	if (store_caller_text(row, STORE_CALLER_MAC)[0] == '\0') {
		*good = !task->app->config->caller_mac_required;
		if (*good)
			note_without_mac(task->app, row);
		else
			note_refused(task, row, "mac_missing");
		return NULL;
	}
	*good = is_kept(*slot, key, row);
	if (*good)
		return NULL;
	switch (check_mac(task, key, row)) {
	case SEAL_MAC_GOOD:
		*good = true;
		keep(slot, key, row);
		return NULL;
	case SEAL_MAC_WRONG: note_refused(task, row, "mac_wrong"); return NULL;
	case SEAL_MAC_UNKNOWN_KEY: break;
	}
	/* Most likely one that this host has not been told of yet. */
	note_refused(task, row, "key_unknown");
	return &error_store_unavailable;
}

bool
store_caller_has_mac(const struct caller_entry *entry)
{
	return store_caller_text(entry->row, STORE_CALLER_MAC)[0] != '\0';
}

static const struct error *
put_mac(struct task *task, const struct caller_entry *entry, const char *expires_at, bool *done)
{
	const char *const keys[] = {entry->key, NULL};
	struct store_caller_row row = row_of(entry->key, entry->row);
	const char *arguments[STORE_CALLER_FIELD_COUNT + 3] = {0};
	const struct redis_reply *reply;
	const struct error *error;

	for (enum store_caller_field field = 0; field < STORE_CALLER_FIELD_COUNT; field++)
		arguments[field] = store_caller_text(entry->row, field);
	row.expires_at = expires_at;
	arguments[STORE_CALLER_FIELD_COUNT] = expires_at;
	arguments[STORE_CALLER_FIELD_COUNT + 1] = store_caller_mac(task, &row);
	reply = store_run_script(task, &sign_script, keys, arguments, false, &error);
	*done = reply != NULL && reply->integer == 1;
	return error;
}

const struct error *
store_caller_sign(struct task *task, const struct caller_entry *entry, bool *done)
{
	const char *expires_at = store_caller_text(entry->row, STORE_CALLER_EXPIRES_AT);

	if (expires_at[0] == '\0' && entry->ttl >= 0)
		expires_at = store_caller_end(task->arena, entry->ttl);
	return put_mac(task, entry, expires_at, done);
}

static const struct error *
renew_one(struct task *task, const struct caller_entry *entry, struct caller_renewal *out)
{
	const char *id = seal_key_id(task->arena, store_caller_text(entry->row, STORE_CALLER_MAC));
	const struct error *error;
	bool done;

	if (!store_caller_has_mac(entry)) {
		out->without_mac++;
		return NULL;
	}
	if (check_mac(task, entry->key, entry->row) != SEAL_MAC_GOOD) {
		out->refused++;
		return NULL;
	}
	if (text_equal(id, key_ring_first(task->app->config->keys))) {
		out->current++;
		return NULL;
	}
	error = put_mac(task, entry, store_caller_text(entry->row, STORE_CALLER_EXPIRES_AT), &done);
	if (error == NULL && done)
		out->renewed++;
	else if (error == NULL)
		out->changed++;
	return error;
}

const struct error *
store_caller_renew(struct task *task, struct caller_renewal *out)
{
	struct caller_list list;
	const struct error *error;

	*out = (struct caller_renewal){0};
	error = store_caller_list(task, &list);
	for (size_t i = 0; error == NULL && i < list.count; i++)
		error = renew_one(task, &list.items[i], out);
	return error;
}
