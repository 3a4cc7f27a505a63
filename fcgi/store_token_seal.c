/*
 * Sealing the tokens of a connection. The first form is bound to the connection's place and to the client; the second
 * one also to the account and the generation of the record, so that an old credential opens under no record but its
 * own. In the second form an access token has its expiry in front, "<seconds since 1970> <token>": the field
 * expires_at stands in clear, and may shorten that but not lengthen it.
 */
#include "fcgi/store_internal.h"

#include "common/arena.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/task.h"

#include <stdlib.h>
#include <string.h>

static struct seal_context
token_context(const struct app *app, const struct store_token_place *place)
{
	struct seal_context context =
	    store_seal_context(app, &place->connection_key, place->field, place->issuer, place->client_id);

	context.account = place->account != NULL ? place->account : "";
	context.generation = place->generation != NULL ? place->generation : "";
	return context;
}

static bool
has_expiry(const struct store_token_place *place)
{
	return strcmp(place->field, STORE_ACCESS_TOKEN) == 0;
}

const char *
store_token_seal(const struct task *task, const struct store_token_place *place, const char *token, int64_t expires_at)
{
	struct seal_context context = token_context(task->app, place);

	if (!task->app->config->seal_second)
		context.generation = NULL;
	else if (has_expiry(place))
		token = arena_format(task->arena, "%lld %s", (long long)expires_at, token);
	return seal(task->arena, task->app->config->keys, &context, token);
}

const char *
store_token_open(const struct task *task, const struct store_token_place *place, const char *sealed,
		 int64_t *expires_at)
{
	const struct seal_context context = token_context(task->app, place);
	bool second = seal_is_second(sealed);
	const char *token;
	char *space;
	int64_t sealed_end;

	if (sealed == NULL || (!second && !task->app->config->seal_accept_first))
		return NULL;
	token = store_seal_open(task, &context, sealed);
	if (token == NULL || !second || !has_expiry(place))
		return token;
	sealed_end = strtoll(token, &space, 10);
	if (*space != ' ')
		return NULL;
	if (*expires_at > sealed_end)
		*expires_at = sealed_end;
	return space + 1;
}

bool
store_is_torn(const char *record_generation, const char *credential_generation)
{
	return record_generation != NULL && record_generation[0] != '\0' && credential_generation != NULL &&
	       strcmp(record_generation, credential_generation) != 0;
}
