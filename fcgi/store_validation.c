/*
 * The mark of the last finished validation: integrations:validated:{organization:user}:<service>, a random value with
 * expiry. A request that waited for another's validation knows by a changed mark that it came to an end, and did not
 * just vanish.
 */
#include "fcgi/store_validation.h"

#include "common/arena.h"
#include "common/error.h"
#include "common/random.h"
#include "fcgi/app.h"
#include "fcgi/store_internal.h"

#define KIND "integrations:validated"
#define KEEP_MS "60000"

void
store_validation_mark(struct app *app, struct arena *arena, const struct connection_key *connection)
{
	struct redis_batch batch;

	redis_batch_init(&batch, arena);
	redis_add(&batch, "SET", store_key_connection(arena, KIND, connection), random_id(arena), "PX", KEEP_MS, NULL);
	/* Without the mark the others only ask the provider themselves. */
	(void)redis_run(app->redis, &batch, false);
}

const struct error *
store_validation_read(struct app *app, struct arena *arena, const struct connection_key *connection, const char **mark)
{
	struct redis_batch batch;
	const struct error *error;

	redis_batch_init(&batch, arena);
	redis_add(&batch, "GET", store_key_connection(arena, KIND, connection), NULL);
	error = redis_run(app->redis, &batch, true);
	if (error == NULL)
		*mark = batch.reply[0]->type == REDIS_STRING ? batch.reply[0]->text : "";
	return error;
}
