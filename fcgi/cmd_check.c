/*
 * Is everything ready to serve? One line per finding: "ok: ..." or "FAIL: what is wrong -> what to do". Looks at what
 * workers and commands will use, as they will use it; changes nothing.
 */
#include "common/arena.h"
#include "common/error.h"
#include "common/http.h"
#include "common/json_read.h"
#include "common/jwt.h"
#include "common/loop.h"
#include "common/redis.h"
#include "common/text.h"
#include "fcgi/app.h"
#include "fcgi/cmd.h"
#include "fcgi/cmd_run.h"
#include "fcgi/provider.h"
#include "fcgi/task.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CALL_MS 8000
#define WELL_KNOWN ".well-known/openid-configuration"

struct check {
	struct app *app;
	struct arena *arena;
	size_t failures;
};

static const struct redis_script memory_script = {
#include "build/lua/server_memory.lua.h"
};

static void __attribute__((format(printf, 1, 2))) ok(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	printf("ok: ");
	vprintf(format, list);
	printf("\n");
	va_end(list);
}

static void __attribute__((format(printf, 2, 3))) fail(struct check *check, const char *format, ...)
{
	va_list list;

	check->failures++;
	va_start(list, format);
	printf("FAIL: ");
	vprintf(format, list);
	printf("\n");
	va_end(list);
}

/* ---- Redis ---- */

static void
check_eviction(struct check *check, struct redis *redis, const char *setting)
{
	const char *const none[] = {NULL};
	struct redis_batch batch;

	redis_batch_init(&batch, check->arena);
	redis_add_script(&batch, &memory_script, none, none);
	if (redis_run(redis, &batch, true) != NULL)
		fail(check, "%s: Redis runs no scripts for this user -> grant it +eval and +evalsha", setting);
	else if (batch.reply[0]->type != REDIS_STRING)
		ok("%s: maxmemory-policy cannot be read by this user; make sure that it is noeviction", setting);
	else if (text_equal(batch.reply[0]->text, "noeviction"))
		ok("%s: Redis evicts nothing", setting);
	else
		fail(check,
		     "%s: maxmemory-policy is %s, so Redis may drop connections when memory is short -> set it to "
		     "noeviction",
		     setting, cmd_shown(check->arena, batch.reply[0]->text));
}

static void
check_redis(struct check *check, struct redis *redis, const char *setting)
{
	struct redis_batch batch;

	redis_batch_init(&batch, check->arena);
	redis_add(&batch, "PING", NULL);
	if (redis_run(redis, &batch, true) != NULL) {
		fail(check, "%s: Redis does not answer -> start it, or correct address, user and password", setting);
		return;
	}
	ok("%s: Redis answers", setting);
	check_eviction(check, redis, setting);
}

/* The commands' own connection, which nothing else here has open. */
static void
check_redis_admin(struct check *check)
{
	struct app *app = check->app;
	struct redis *redis = redis_open(app->loop, app->resolver, app->metrics, "admin", app->config->redis_admin_url);

	if (redis == NULL) {
		fail(check, "REDIS_ADMIN_URL: not enough memory to connect -> free some");
		return;
	}
	check_redis(check, redis, "REDIS_ADMIN_URL");
	redis_close(redis);
}

/* ---- providers ---- */

/* A GET; false when there is no answer (*why) or its status is not 200 (*status). */
static bool
get(struct check *check, const char *url, struct http_response *response, const char **why)
{
	const struct http_request request = {
	    .method = "GET",
	    .url = url,
	    .deadline_ms = loop_now_ms(check->app->loop) + CALL_MS,
	};

	*why = NULL;
	*response = (struct http_response){0};
	if (http_send(check->app->http, check->arena, &request, response, why) != NULL)
		return false;
	*why = arena_format(check->arena, "HTTP %ld", response->status);
	return response->status == 200;
}

static void
compare_endpoint(struct check *check, const struct provider *provider, const struct json *metadata, const char *member,
		 const char *ours)
{
	const char *theirs = json_string(metadata, member);

	if (ours == NULL || theirs == NULL || text_equal(ours, theirs))
		return;
	fail(check, "%s: the provider's %s is %s, the provider file says %s -> correct %s.json", provider->service,
	     member, cmd_shown(check->arena, theirs), ours, provider->service);
}

static void
check_metadata(struct check *check, const struct provider *provider)
{
	size_t before = check->failures;
	size_t len = strlen(provider->issuer);
	const char *slash = len > 0 && provider->issuer[len - 1] == '/' ? "" : "/";
	const char *url = arena_format(check->arena, "%s%s%s", provider->issuer, slash, WELL_KNOWN);
	struct http_response response;
	const struct json *metadata;
	const char *why;

	if (!get(check, url, &response, &why)) {
		if (response.status == 404)
			ok("%s: the provider publishes no metadata; its endpoints are as the provider file says",
			   provider->service);
		else
			fail(check, "%s: %s: %s -> check network, name lookup and PROVIDER_CA_FILE", provider->service,
			     url, why);
		return;
	}
	metadata = json_read(check->arena, response.body, response.len);
	if (!text_equal(json_string(metadata, "issuer"), provider->issuer)) {
		fail(check, "%s: %s names another issuer than the provider file -> correct `issuer` in %s.json",
		     provider->service, url, provider->service);
		return;
	}
	compare_endpoint(check, provider, metadata, "authorization_endpoint", provider->authorization_endpoint);
	compare_endpoint(check, provider, metadata, "token_endpoint", provider->token_endpoint);
	compare_endpoint(check, provider, metadata, "revocation_endpoint", provider->revocation_endpoint);
	compare_endpoint(check, provider, metadata, "userinfo_endpoint", provider->userinfo_endpoint);
	compare_endpoint(check, provider, metadata, "jwks_uri", provider->jwks_uri);
	if (check->failures == before)
		ok("%s: issuer and endpoints are what the provider publishes", provider->service);
}

static void
check_keys(struct check *check, const struct provider *provider)
{
	struct http_response response;
	struct jwt_keys *keys;
	const char *why;

	if (provider->jwks_uri == NULL)
		return;
	if (!get(check, provider->jwks_uri, &response, &why)) {
		fail(check, "%s: %s: %s -> without its keys members cannot connect; check network and `jwks_uri`",
		     provider->service, provider->jwks_uri, why);
		return;
	}
	keys = jwt_keys_open(response.body, response.len);
	if (keys == NULL)
		fail(check, "%s: %s holds no key that can be used -> check `jwks_uri`", provider->service,
		     provider->jwks_uri);
	else
		ok("%s: the provider's keys can be read", provider->service);
	jwt_keys_close(keys);
}

static int
check_all(struct task *task, void *arg)
{
	const struct config *config = task->app->config;
	struct check check = {.app = task->app, .arena = task->arena};

	(void)arg;
	ok("settings: %zu provider%s, environment %s", config->provider_count, config->provider_count == 1 ? "" : "s",
	   config->environment);
	check_redis(&check, task->app->redis, "REDIS_URL");
	if (task->app->sessions != task->app->redis)
		check_redis(&check, task->app->sessions, "SESSION_REDIS_URL");
	if (!text_equal(config->redis_admin_url, config->redis_url))
		check_redis_admin(&check);
	for (size_t i = 0; i < config->provider_count; i++) {
		check_metadata(&check, config->providers[i]);
		check_keys(&check, config->providers[i]);
	}
	printf("Register these redirect URIs with the providers, exactly:\n");
	for (size_t i = 0; i < config->provider_count; i++)
		printf("  %s: %s\n", config->providers[i]->service, config->providers[i]->redirect_uri);
	if (check.failures > 0) {
		printf("%zu finding%s. Each says behind its arrow what to do.\n", check.failures,
		       check.failures == 1 ? "" : "s");
		return CMD_FAILED;
	}
	printf("All is well.\n");
	return CMD_OK;
}

int
cmd_check(int argc, char **argv)
{
	if (argc > 1)
		return cmd_usage("check", "takes no arguments, but got \"%s\"", argv[1]);
	return cmd_run(CONFIG_ALL, check_all, NULL);
}
