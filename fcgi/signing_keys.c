/*
 * One entry per provider. A fetch is shared by all fibers that want it at that moment; a pointer to a key set is never
 * kept across a park, because a later fetch replaces it.
 */
#include "fcgi/signing_keys.h"

#include "common/arena.h"
#include "common/json_read.h"
#include "common/loop.h"
#include "common/singleflight.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/provider.h"
#include "fcgi/provider_call.h"
#include "fcgi/task.h"

#include <stdlib.h>

#define KEEP_DEFAULT_S 3600
#define KEEP_LEAST_S 60
#define REFETCH_MS 60000 /* for a key that is not known, at most this often */

struct entry {
	const struct provider *provider;
	struct jwt_keys *keys;
	int64_t fresh_until_ms;
	int64_t refetched_ms; /* because of an unknown key; 0: never */
};

struct signing_keys {
	size_t count;
	struct entry entries[];
};

struct signing_keys *
signing_keys_open(const struct config *config)
{
	struct signing_keys *keys = calloc(1, sizeof *keys + config->provider_count * sizeof keys->entries[0]);

	if (keys == NULL)
		return NULL;
	keys->count = config->provider_count;
	for (size_t i = 0; i < keys->count; i++)
		keys->entries[i].provider = config->providers[i];
	return keys;
}

void
signing_keys_close(struct signing_keys *keys)
{
	if (keys == NULL)
		return;
	for (size_t i = 0; i < keys->count; i++)
		jwt_keys_close(keys->entries[i].keys);
	free(keys);
}

static struct entry *
entry_of(struct app *app, const struct provider *provider)
{
	struct signing_keys *keys = app->signing_keys;

	for (size_t i = 0; i < keys->count; i++) {
		if (keys->entries[i].provider == provider)
			return &keys->entries[i];
	}
	abort(); /* every provider of the config has an entry */
}

static const struct error *
fetch(struct task *task, struct entry *entry)
{
	struct http_request call = {.method = "GET", .url = entry->provider->jwks_uri};
	struct http_response response;
	const struct error *error;
	struct jwt_keys *keys;
	int64_t keep;

	error = provider_call(task, ENDPOINT_KEYS, &call, &response);
	if (error != NULL)
		return error;
	keys = response.status == 200 ? jwt_keys_open(response.body, response.len) : NULL;
	if (keys == NULL) {
		provider_complain(task, ENDPOINT_KEYS, response.status, "the provider sent no usable key set",
				  "check jwks_uri in the provider file");
		return &error_provider_unreachable;
	}
	keep = response.max_age < 0 ? KEEP_DEFAULT_S : response.max_age;
	jwt_keys_close(entry->keys);
	entry->keys = keys;
	entry->fresh_until_ms = loop_now_ms(task->app->loop) + (keep > KEEP_LEAST_S ? keep : KEEP_LEAST_S) * 1000;
	return NULL;
}

static const struct error *
fetch_shared(struct task *task, struct entry *entry)
{
	const char *key = arena_format(task->arena, "keys %s", entry->provider->service);
	const struct error *error = NULL;
	struct singleflight flight;

	switch (singleflight_join(task->app->singleflights, &flight, key, task->deadline_ms, &error)) {
	case SINGLEFLIGHT_LEADER:
		error = fetch(task, entry);
		singleflight_end(&flight, error);
		return error;
	case SINGLEFLIGHT_FOLLOWER: return error;
	case SINGLEFLIGHT_TIMEOUT: break;
	}
	return &error_provider_unreachable;
}

const struct error *
signing_keys_need(struct task *task)
{
	struct entry *entry = entry_of(task->app, task->provider);

	if (entry->keys != NULL && loop_now_ms(task->app->loop) < entry->fresh_until_ms)
		return NULL;
	return fetch_shared(task, entry);
}

static const char *
complaint(enum jwt_result result)
{
	switch (result) {
	case JWT_MALFORMED: return "the id_token is malformed";
	case JWT_ALGORITHM: return "the id_token is signed with an algorithm that is not allowed";
	case JWT_UNKNOWN_KEY: return "the id_token is signed with a key that the provider does not publish";
	default: return "the id_token's signature is wrong";
	}
}

const struct error *
signing_keys_verify(struct task *task, const char *token, const struct json **claims)
{
	struct entry *entry = entry_of(task->app, task->provider);
	enum jwt_result result = jwt_verify(task->arena, entry->keys, &task->provider->id_token_algs, token, claims);
	int64_t now = loop_now_ms(task->app->loop);

	if (result == JWT_UNKNOWN_KEY && (entry->refetched_ms == 0 || now - entry->refetched_ms >= REFETCH_MS)) {
		const struct error *error = fetch_shared(task, entry);

		/* Noted only now: a request that finds an unknown key meanwhile waits for the same fetch. */
		entry->refetched_ms = loop_now_ms(task->app->loop);
		if (error != NULL)
			return error;
		result = jwt_verify(task->arena, entry->keys, &task->provider->id_token_algs, token, claims);
	}
	if (result == JWT_VALID)
		return NULL;
	if (result == JWT_NO_MEMORY)
		return &error_overloaded;
	provider_complain(task, ENDPOINT_EXCHANGE, 200, complaint(result),
			  "check jwks_uri and id_token_algs in the provider file");
	return &error_identity_invalid;
}
