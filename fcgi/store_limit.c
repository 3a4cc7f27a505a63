/*
 * Limits by fixed windows of a minute: integrations:limit:<what>:{organization:user}, for a caller
 * integrations:limit:<what>:<hex SHA-256 of its key>, counts and expires with its window. What is refused is not
 * counted and writes nothing, so that a flood costs Redis only reads.
 */
#include "fcgi/store_limit.h"

#include "common/arena.h"
#include "fcgi/store_internal.h"
#include "fcgi/task.h"

#define WINDOW_SECONDS 60

static const struct redis_script count_script = {
    .shape = "[-1,60000]",
#include "build/lua/limit_count.lua.h"
};

const struct error *
store_limit_run(struct task *task, const char *key, const char *removed_key, unsigned limit, int64_t *retry_after,
		bool *removed)
{
	const char *const keys[] = {key, NULL};
	const char *const arguments[] = {arena_format(task->arena, "%u", limit),
					 arena_format(task->arena, "%d", WINDOW_SECONDS), removed_key, NULL};
	const struct error *error;
	const struct redis_reply *reply;

	*retry_after = 0;
	*removed = false;
	reply = store_run_script(task, &count_script, keys, arguments, false, &error);
	if (reply == NULL)
		return error;
	*removed = reply->integer < 0;
	if (reply->integer > 0)
		*retry_after = reply->integer / 1000 + (reply->integer % 1000 != 0);
	return NULL;
}

const struct error *
store_limit_count(struct task *task, const char *what, unsigned limit, int64_t *retry_after)
{
	const char *kind = arena_format(task->arena, "integrations:limit:%s", what);
	bool removed;

	*retry_after = 0;
	if (limit == 0)
		return NULL;
	return store_limit_run(task, store_key_member(task->arena, kind, &task->connection_key), NULL, limit,
			       retry_after, &removed);
}

const struct error *
store_limit_count_caller(struct task *task, const char *what, const char *key, unsigned limit, int64_t *retry_after)
{
	const char *kind = arena_format(task->arena, "integrations:limit:%s", what);
	bool removed;

	return store_limit_run(task, store_key_hashed(task->arena, kind, key), NULL, limit, retry_after, &removed);
}
