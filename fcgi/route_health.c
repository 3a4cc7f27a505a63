/* For operators and their machines, on the private server: alive, ready, metrics. */
#include "fcgi/route.h"

#include "common/arena.h"
#include "common/buf.h"
#include "common/json_write.h"
#include "common/metrics.h"
#include "common/redis.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/request.h"
#include "fcgi/response.h"

#include <string.h>

#define METRICS_MAX ((size_t)512 * 1024)

const struct error *
route_health_alive(struct request *request, struct response *response)
{
	(void)request->task.app;
	(void)request;
	response->content_type = "text/plain";
	response->body = "ok\n";
	response->body_len = strlen(response->body);
	return NULL;
}

static bool
answers(struct request *request, struct redis *redis)
{
	struct redis_batch batch;

	redis_batch_init(&batch, request->task.arena);
	redis_add(&batch, "PING", NULL);
	return redis_run(redis, &batch, true) == NULL;
}

const struct error *
route_health_ready(struct request *request, struct response *response)
{
	struct json_write *json = json_write_open(request->task.arena, 1024);
	bool records = answers(request, request->task.app->redis);
	bool sessions = request->task.app->sessions == request->task.app->redis
			    ? records
			    : answers(request, request->task.app->sessions);

	json_write_object(json, NULL);
	json_write_string(json, "status", records && sessions ? "ready" : "not ready");
	json_write_object(json, "checks");
	json_write_string(json, "redis", records ? "ok" : "cannot be reached: check REDIS_URL and the server");
	json_write_string(json, "session_redis",
			  sessions ? "ok" : "cannot be reached: check SESSION_REDIS_URL and the server");
	json_write_object_end(json);
	json_write_object_end(json);
	response->status = records && sessions ? 200 : 503;
	return response_json(response, json);
}

const struct error *
route_health_metrics(struct request *request, struct response *response)
{
	struct buf text;

	buf_init(&text, request->task.arena, METRICS_MAX);
	metrics_write(request->task.app->metrics, &text);
	if (buf_text(&text) == NULL)
		return &error_internal;
	response->content_type = "text/plain; version=0.0.4";
	response->body = buf_text(&text);
	response->body_len = text.len;
	return NULL;
}
