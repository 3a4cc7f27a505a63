/*
 * A short memory of a failed refresh: integrations:refresh_failure:{organization:user}:<service>, "<generation>
 * <result>", with expiry. Requests that waited for that refresh learn its end from here instead of asking the provider
 * themselves, one after the other. It speaks of one generation only: new tokens are not held back by an old failure.
 */
#include "fcgi/store_refresh_failure.h"

#include "common/arena.h"
#include "common/error.h"
#include "fcgi/app.h"
#include "fcgi/store_integration.h"
#include "fcgi/store_internal.h"
#include "fcgi/task.h"

#include <string.h>

#define KIND "integrations:refresh_failure"
#define RESULT_MAX 64

void
store_refresh_failure_note(struct task *task, const struct integration *record, int result, int64_t ms)
{
	struct redis_batch batch;

	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "SET", store_key_connection(task->arena, KIND, &record->connection_key),
		  arena_format(task->arena, "%s %d", record->generation, result), "PX",
		  arena_format(task->arena, "%lld", (long long)ms), NULL);
	(void)redis_send(task->app->redis, &batch, "memory of a failed refresh");
}

const struct error *
store_refresh_failure_read(struct task *task, const struct integration *record, int *result)
{
	struct redis_batch batch;
	const struct error *error;
	const char *text;
	size_t len = strlen(record->generation);
	uint64_t number;

	*result = 0;
	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "GET", store_key_connection(task->arena, KIND, &record->connection_key), NULL);
	error = redis_run(task->app->redis, &batch, true);
	if (error != NULL || batch.reply[0]->type != REDIS_STRING)
		return error;
	text = batch.reply[0]->text;
	if (strncmp(text, record->generation, len) == 0 && text[len] == ' ' &&
	    text_to_number(text + len + 1, RESULT_MAX, &number))
		*result = (int)number;
	return NULL;
}
