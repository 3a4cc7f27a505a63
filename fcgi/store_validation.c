/*
 * The mark of the last finished validation: integrations:validated:{organization:user}:<service>, a random value with
 * expiry. A request that waited for another's validation knows by a changed mark that it came to an end, and did not
 * just vanish.
 */
#include "fcgi/store_validation.h"

#include "common/error.h"
#include "common/random.h"
#include "fcgi/app.h"
#include "fcgi/store_internal.h"
#include "fcgi/task.h"

#define KIND "integrations:validated"
#define KEEP_MS "60000"

void
store_validation_mark(struct task *task)
{
	struct redis_batch batch;

	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "SET", store_key_connection(task->arena, KIND, &task->connection_key), random_id(task->arena),
		  "PX", KEEP_MS, NULL);
	/* Without the mark the others only ask the provider themselves. */
	(void)redis_run(task->app->redis, &batch, false);
}

const struct error *
store_validation_read(struct task *task, const char **mark)
{
	struct redis_batch batch;
	const struct error *error;

	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "GET", store_key_connection(task->arena, KIND, &task->connection_key), NULL);
	error = redis_run(task->app->redis, &batch, true);
	if (error == NULL)
		*mark = batch.reply[0]->type == REDIS_STRING ? batch.reply[0]->text : "";
	return error;
}
