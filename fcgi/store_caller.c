/* Programs of the platform: caller:<sha256 of the key>, a hash with expiry. Found by hash only, as sessions are. */
#include "fcgi/store_common.h"

#include "fcgi/app.h"

#include <string.h>

const struct error *
store_caller_read(struct app *app, struct arena *arena, const char *key, struct caller *out)
{
	struct redis_batch batch;
	const struct error *err;

	*out = (struct caller){0};
	redis_batch_init(&batch, arena);
	redis_add(&batch, "HMGET", store_key_hashed(arena, "caller", key), "name", "mcps", "organizations", NULL);
	if ((err = redis_run(app->redis, &batch, true)) != NULL)
		return err;
	out->name = redis_item(batch.reply[0], 0);
	out->found = out->name != NULL && text_is_utf8(out->name, strlen(out->name));
	out->mcps = words_split(arena, redis_item(batch.reply[0], 1));
	out->organizations = words_split(arena, redis_item(batch.reply[0], 2));
	return NULL;
}
