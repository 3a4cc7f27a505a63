/*
 * Sessions: session:<hex SHA-256 of the token>, a hash whose own expiry is the session's end. The platform's login
 * writes them, workers only read; the commands create and revoke some for operators and tests. They may live in a Redis
 * of their own.
 */
#include "fcgi/store_session.h"

#include "common/arena.h"
#include "common/error.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/hints.h"
#include "fcgi/store_internal.h"
#include "fcgi/task.h"

#include <stdlib.h>
#include <string.h>

#define ORGANIZATION_PREFIX "org:"

static const struct redis_script write_script = {
    .shape = "[1,1]",
#include "build/lua/hash_write.lua.h"
};

static const char *
not_empty(const char *text)
{
	return text != NULL && text[0] != '\0' ? text : NULL;
}

/* What people see must be text; it is left out otherwise, access does not depend on it. */
static const char *
shown(const char *text)
{
	text = not_empty(text);
	return text != NULL && text_is_utf8(text, strlen(text)) ? text : NULL;
}

/* A NUL would cut a value short of what the login wrote, so that it could pass for another. */
static bool
is_cut(const struct redis_reply *reply, size_t index)
{
	const char *text = redis_item(reply, index);

	return text != NULL && strlen(text) != reply->items[index]->len;
}

static bool
is_text(const struct redis_reply *reply)
{
	for (size_t i = 0; i < reply->count; i++) {
		if (is_cut(reply, i))
			return false;
	}
	return true;
}

/* Who uses a gateway session stands in the audit: a name that cannot stand there makes it no session. */
static bool
is_agent(const struct redis_reply *reply)
{
	const char *agent = not_empty(redis_item(reply, 4));

	return agent == NULL || redis_item(reply, 2) == NULL || text_is_id(agent);
}

static void
fill(struct arena *arena, const char *key, const struct redis_reply *reply, struct session *out)
{
	const char *hash = key + strlen("session:");

	out->user = redis_item(reply, 0);
	out->found = text_is_id(out->user) && is_text(reply) && is_agent(reply);
	if (!out->found)
		return;
	out->sid = not_empty(redis_item(reply, 1));
	out->use = redis_item(reply, 2);
	out->mcps = redis_item(reply, 3);
	out->agent = not_empty(redis_item(reply, 4));
	out->role = not_empty(redis_item(reply, 5));
	out->binding =
	    arena_join(arena, out->sid != NULL ? "sid:" : "token:", out->sid != NULL ? out->sid : hash, NULL);
}

/* The role's field may be NULL: then the last argument is missing, and so is the role. */
static void
add_fields(struct redis_batch *batch, const char *key, const char *role_field)
{
	redis_add(batch, "HMGET", key, "user_id", "sid", "use", "mcps", "agent", role_field, NULL);
}

/* Whose records to read in the same round; NULL: none. */
static const char *
hint_of_user(struct app *app, const char *key, const char *organization, const struct prefetched_records *prefetched)
{
	if (prefetched == NULL || organization == NULL || app->hints == NULL || app->sessions != app->redis ||
	    app->config->provider_count >= REDIS_BATCH_MAX)
		return NULL;
	return hints_find(app->hints, key);
}

static void
use_prefetched(struct arena *arena, const struct redis_batch *batch, const char *user,
	       struct prefetched_records *prefetched)
{
	size_t count = batch->count - 1;

	prefetched->user = user;
	prefetched->replies = arena_alloc(arena, (count + 1) * sizeof *prefetched->replies);
	for (size_t i = 0; i < count; i++)
		prefetched->replies[i] = batch->reply[i + 1];
}

const struct error *
store_session_read(struct task *task, const char *token, const char *organization, struct session *out,
		   struct prefetched_records *prefetched)
{
	struct redis_batch batch;
	const struct error *error;
	const char *key = store_key_hashed(task->arena, "session", token);
	const char *hinted = arena_text(task->arena, hint_of_user(task->app, key, organization, prefetched));
	const char *role_field = NULL;

	*out = (struct session){0};
	if (organization != NULL)
		role_field = arena_join(task->arena, ORGANIZATION_PREFIX, organization, NULL);
	redis_batch_init(&batch, task->arena);
	add_fields(&batch, key, role_field);
	if (hinted != NULL)
		store_records_add(task->app, &batch, organization, hinted, 0);
	error = redis_run(task->app->sessions, &batch, true);
	if (error != NULL)
		return error;
	fill(task->arena, key, batch.reply[0], out);
	if (hinted != NULL)
		use_prefetched(task->arena, &batch, hinted, prefetched);
	if (out->found && prefetched != NULL && task->app->hints != NULL)
		hints_note(task->app->hints, key, out->user);
	return NULL;
}

static int
compare_organizations(const void *a, const void *b)
{
	const struct session_organization *left = a;
	const struct session_organization *right = b;

	return strcmp(left->id, right->id);
}

static void
read_organizations(struct arena *arena, const struct redis_reply *reply, struct session *out)
{
	const size_t prefix = strlen(ORGANIZATION_PREFIX);
	size_t most =
	    reply->count / 2 < STORE_SESSION_ORGANIZATIONS_MAX ? reply->count / 2 : STORE_SESSION_ORGANIZATIONS_MAX;

	out->organizations = arena_alloc(arena, (most + 1) * sizeof *out->organizations);
	for (size_t i = 0; i + 1 < reply->count && out->organization_count < most; i += 2) {
		const char *field = redis_item(reply, i);
		const char *role = shown(redis_item(reply, i + 1));

		if (field == NULL || role == NULL || is_cut(reply, i) || is_cut(reply, i + 1) ||
		    strncmp(field, ORGANIZATION_PREFIX, prefix) != 0 || !text_is_id(field + prefix))
			continue;
		out->organizations[out->organization_count++] =
		    (struct session_organization){.id = field + prefix, .role = role};
	}
	qsort(out->organizations, out->organization_count, sizeof *out->organizations, compare_organizations);
}

const struct error *
store_session_read_all(struct task *task, const char *token, struct session *out)
{
	struct redis_batch batch;
	const struct error *error;
	const char *key = store_key_hashed(task->arena, "session", token);

	*out = (struct session){0};
	redis_batch_init(&batch, task->arena);
	add_fields(&batch, key, NULL);
	redis_add(&batch, "HGETALL", key, NULL);
	error = redis_run(task->app->sessions, &batch, true);
	if (error != NULL)
		return error;
	fill(task->arena, key, batch.reply[0], out);
	if (!out->found)
		return NULL;
	/* Two replies that contradict each other are not a session: it has just ended, or Redis is not well. */
	if (!text_equal(redis_field(batch.reply[1], "user_id"), out->user))
		return &error_store_unavailable;
	out->email = shown(redis_field(batch.reply[1], "email"));
	out->name = shown(redis_field(batch.reply[1], "name"));
	read_organizations(task->arena, batch.reply[1], out);
	return NULL;
}

const struct error *
store_session_write(struct task *task, const char *token, const char *const *fields, int64_t ttl)
{
	struct redis_batch batch;
	const char *const keys[] = {store_key_hashed(task->arena, "session", token), NULL};
	const char **arguments;
	size_t count = 0;

	while (fields[count] != NULL)
		count++;
	arguments = arena_alloc(task->arena, (count + 2) * sizeof *arguments);
	arguments[0] = arena_format(task->arena, "%lld", (long long)ttl);
	for (size_t i = 0; i < count; i++)
		arguments[i + 1] = fields[i];
	redis_batch_init(&batch, task->arena);
	redis_add_script(&batch, &write_script, keys, arguments);
	return redis_run(task->app->sessions, &batch, false);
}

const struct error *
store_session_delete(struct task *task, const char *token, bool *existed)
{
	struct redis_batch batch;
	const struct error *error;

	*existed = false;
	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "DEL", store_key_hashed(task->arena, "session", token), NULL);
	error = redis_run(task->app->sessions, &batch, false);
	if (error != NULL)
		return error;
	*existed = batch.reply[0]->integer > 0;
	return NULL;
}
