/*
 * Limits by fixed windows of a minute: integrations:limit:<what>:{organization:user}, for a caller
 * integrations:limit:<what>:<hex SHA-256 of its key>, counts and expires with its window. What is refused is not
 * counted and writes nothing, so that a flood costs Redis only reads.
 */
#include "fcgi/store_limit.h"

#include "common/arena.h"
#include "fcgi/store_internal.h"

#define WINDOW_SECONDS 60

/*
 * -1: removed; 0: counted; else the milliseconds until the window ends. The tombstone's key is an argument: among KEYS
 * it would need the right to write it, which workers do not have. It lies on the same node all the same.
 */
static struct redis_script count_script = {
    .shape = "[-1,60000]",
    .source = "if ARGV[3] and redis.call('EXISTS', ARGV[3]) == 1 then return -1 end\n"
	      "local limit = tonumber(ARGV[1])\n"
	      "if limit == 0 then return 0 end\n"
	      "local used = tonumber(redis.call('GET', KEYS[1]) or '0')\n"
	      "if used >= limit then\n"
	      "  local left = redis.call('PTTL', KEYS[1])\n"
	      "  if left > 0 and left <= ARGV[2] * 1000 then return left end\n"
	      "  redis.call('DEL', KEYS[1])\n"
	      "end\n"
	      "if redis.call('INCR', KEYS[1]) == 1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end\n"
	      "return 0\n",
};

void
store_limit_prepare(void)
{
	redis_script_prepare(&count_script);
}

const struct error *
store_limit_run(struct app *app, struct arena *arena, const char *key, const char *removed_key, unsigned limit,
		int64_t *retry_after, bool *removed)
{
	const char *const keys[] = {key, NULL};
	const char *const arguments[] = {arena_format(arena, "%u", limit), arena_format(arena, "%d", WINDOW_SECONDS),
					 removed_key, NULL};
	const struct error *error;
	const struct redis_reply *reply;

	*retry_after = 0;
	*removed = false;
	reply = store_run_script(app, arena, &count_script, keys, arguments, false, &error);
	if (reply == NULL)
		return error;
	*removed = reply->integer < 0;
	if (reply->integer > 0)
		*retry_after = reply->integer / 1000 + (reply->integer % 1000 != 0);
	return NULL;
}

const struct error *
store_limit_count(struct app *app, struct arena *arena, const char *what, const struct connection_key *connection,
		  unsigned limit, int64_t *retry_after)
{
	const char *kind = arena_format(arena, "integrations:limit:%s", what);
	bool removed;

	*retry_after = 0;
	if (limit == 0)
		return NULL;
	return store_limit_run(app, arena, store_key_member(arena, kind, connection), NULL, limit, retry_after,
			       &removed);
}

const struct error *
store_limit_count_caller(struct app *app, struct arena *arena, const char *what, const char *key, unsigned limit,
			 int64_t *retry_after)
{
	const char *kind = arena_format(arena, "integrations:limit:%s", what);
	bool removed;

	return store_limit_run(app, arena, store_key_hashed(arena, kind, key), NULL, limit, retry_after, &removed);
}
