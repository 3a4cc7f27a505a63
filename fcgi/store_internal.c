/*
 * What the stores share: the forms of keys, the sealing context, the run of a script. The braces of a key are a cluster
 * hash tag: every key of one member lies on one node, and scripts may touch several of them. Keys are put together by
 * copying, not by printf: each list request builds one per service.
 */
#include "fcgi/store_internal.h"

#include "common/arena.h"
#include "common/crypto.h"
#include "common/error.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/task.h"

#include <string.h>

char *
store_key_connection(struct arena *arena, const char *kind, const struct connection_key *connection)
{
	size_t size = strlen(kind) + strlen(connection->organization) + strlen(connection->user) +
		      strlen(connection->service) + sizeof ":{:}:";
	char *key = arena_alloc(arena, size);
	char *at = stpcpy(stpcpy(key, kind), ":{");

	at = stpcpy(stpcpy(at, connection->organization), ":");
	at = stpcpy(stpcpy(at, connection->user), "}:");
	stpcpy(at, connection->service);
	return key;
}

char *
store_key_member(struct arena *arena, const char *kind, const struct connection_key *connection)
{
	size_t size = strlen(kind) + strlen(connection->organization) + strlen(connection->user) + sizeof ":{:}";
	char *key = arena_alloc(arena, size);
	char *at = stpcpy(stpcpy(key, kind), ":{");

	at = stpcpy(stpcpy(at, connection->organization), ":");
	stpcpy(stpcpy(at, connection->user), "}");
	return key;
}

char *
store_key_hashed(struct arena *arena, const char *kind, const char *text)
{
	size_t len = strlen(kind);
	char *key = arena_alloc(arena, len + 1 + CRYPTO_SHA256_HEX);

	memcpy(key, kind, len);
	key[len] = ':';
	crypto_sha256_hex(text, key + len + 1);
	return key;
}

struct seal_context
store_seal_context(const struct app *app, const struct connection_key *connection, const char *field,
		   const char *issuer, const char *client_id)
{
	struct seal_context context = {
	    .environment = app->config->environment,
	    .organization = connection->organization,
	    .user = connection->user,
	    .service = connection->service,
	    .field = field,
	    .issuer = issuer,
	    .client_id = client_id,
	};

	return context;
}

const char *
store_seal_open(const struct task *task, const struct seal_context *context, const char *sealed)
{
	const char *plain = seal_open(task->arena, task->app->config->keys, context, sealed);

	if (plain == NULL && config_learn_key(task->app->config, seal_key_id(task->arena, sealed)))
		plain = seal_open(task->arena, task->app->config->keys, context, sealed);
	return plain;
}

const struct redis_reply *
store_run_script(struct task *task, const struct redis_script *script, const char *const *keys,
		 const char *const *arguments, bool reads, const struct error **error)
{
	struct redis_batch batch;

	redis_batch_init(&batch, task->arena);
	redis_add_script(&batch, script, keys, arguments);
	*error = redis_run(task->app->redis, &batch, reads);
	return *error == NULL ? batch.reply[0] : NULL;
}
