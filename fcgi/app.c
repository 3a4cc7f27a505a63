#include "fcgi/app.h"

#include "common/http.h"
#include "common/redis.h"
#include "common/resolve.h"
#include "common/singleflight.h"
#include "common/text.h"
#include "fcgi/config.h"
#include "fcgi/signing_keys.h"

#include <stdlib.h>

static struct redis *
open_redis(const struct app *app, const char *name, const char *url)
{
	return redis_open(app->loop, app->resolver, app->metrics, name, url);
}

bool
app_open(struct app *app, const char *redis_url)
{
	const struct config *config = app->config;
	const struct http_settings http = {.ca_file = config->provider_ca_file,
					   .allow_private = config->provider_allow_private,
					   .user_agent = "integrations"};

	app->resolver = resolver_open(app->loop);
	app->singleflights = singleflights_open();
	app->signing_keys = signing_keys_open(config);
	if (app->resolver == NULL || app->singleflights == NULL || app->signing_keys == NULL)
		return false;
	app->redis = open_redis(app, "records", redis_url);
	app->sessions = text_equal(config->redis_url, config->session_redis_url)
			    ? app->redis
			    : open_redis(app, "sessions", config->session_redis_url);
	app->http = http_open(app->loop, app->resolver, &http);
	return app->redis != NULL && app->sessions != NULL && app->http != NULL;
}

void
app_close(struct app *app)
{
	http_close(app->http);
	if (app->sessions != app->redis)
		redis_close(app->sessions);
	redis_close(app->redis);
	signing_keys_close(app->signing_keys);
	singleflights_close(app->singleflights);
	resolver_close(app->resolver);
	for (size_t i = 0; i < APP_CALLERS_KEPT; i++)
		free(app->callers.kept[i]);
}
