/*
 * One row per route. What stands before a route (who may call, same origin, the service's existence, the body's form)
 * is asked here, in the order of refusals that the README gives, so that no route can forget a check.
 */
#include "fcgi/router.h"

#include "common/arena.h"
#include "common/buf.h"
#include "common/error.h"
#include "common/json_read.h"
#include "common/text.h"
#include "fcgi/access.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/route.h"

#include <string.h>
#include <strings.h>

enum access {
	ACCESS_INTERNAL, /* the private server; no session */
	ACCESS_USER,     /* a user session */
	ACCESS_MEMBER    /* a user session with access to the organization of the path */
};

#define GET (1u << METHOD_GET)
#define HEAD (1u << METHOD_HEAD)
#define POST (1u << METHOD_POST)
#define DELETE (1u << METHOD_DELETE)

struct route {
	const char *pattern;
	unsigned methods;
	enum access access;
	bool changes; /* something is stored: with a cookie it must be same-origin */
	route_function *run;
};

#define API "/api/organizations/{organization_id}"

static const struct route routes[] = {
    {"none", 0, ACCESS_INTERNAL, false, NULL},
    {"/api/me", GET | HEAD, ACCESS_USER, false, route_me},
    {"/api/services", GET | HEAD, ACCESS_USER, false, route_services},
    {API "/integrations", GET | HEAD, ACCESS_MEMBER, false, route_integrations_list},
    {API "/integrations/{service}", POST, ACCESS_MEMBER, true, route_validate},
    {API "/integrations/{service}", DELETE, ACCESS_MEMBER, true, route_disconnect},
    {API "/integrations/{service}/auth_link", GET, ACCESS_MEMBER, true, route_connect_auth_link},
    {API "/integrations/{service}/callback", POST, ACCESS_MEMBER, true, route_connect_callback},
    {API "/mcps", GET | HEAD, ACCESS_MEMBER, false, route_mcps},
    {"/healthz", GET | HEAD, ACCESS_INTERNAL, false, route_health_alive},
    {"/readyz", GET | HEAD, ACCESS_INTERNAL, false, route_health_ready},
    {"/metrics", GET | HEAD, ACCESS_INTERNAL, false, route_health_metrics},
};

#define ROUTE_COUNT (sizeof routes / sizeof routes[0])

/* What the path's placeholders stand for, unchecked. */
struct captures {
	const char *organization;
	const char *service;
};

size_t
router_count(void)
{
	return ROUTE_COUNT;
}

const char *
router_name(size_t index)
{
	return routes[index].pattern;
}

static size_t
segment_length(const char *path)
{
	return strcspn(path, "/");
}

/* Compare segment by segment; the path is raw, so that nginx and we can only agree or answer 404. */
static bool
match(struct arena *arena, const char *pattern, const char *path, struct captures *captures)
{
	*captures = (struct captures){0};
	while (*pattern == '/' && *path == '/') {
		size_t pattern_len = segment_length(++pattern);
		size_t path_len = segment_length(++path);

		if (*pattern == '{') {
			const char **capture = strncmp(pattern, "{service}", pattern_len) == 0 ? &captures->service
											      : &captures->organization;

			if (path_len == 0)
				return false;
			*capture = arena_copy(arena, path, path_len);
		} else if (pattern_len != path_len || memcmp(pattern, path, path_len) != 0) {
			return false;
		}
		pattern += pattern_len;
		path += path_len;
	}
	return *pattern == '\0' && *path == '\0';
}

static const char *
allowed(struct arena *arena, unsigned methods)
{
	static const char *const names[] = {"GET", "HEAD", "POST", "DELETE"};
	struct buf list;

	buf_init(&list, arena, 64);
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		if (methods & (1u << i))
			buf_addf(&list, "%s%s", list.len > 0 ? ", " : "", names[i]);
	}
	return buf_text(&list);
}

static const struct error *
find(struct request *request, size_t *index, struct captures *captures)
{
	unsigned methods = 0;

	*index = 0;
	for (size_t i = 1; i < ROUTE_COUNT; i++) {
		struct captures found;

		if ((routes[i].access == ACCESS_INTERNAL) != request->internal ||
		    !match(request->arena, routes[i].pattern, request->path, &found))
			continue;
		*index = i;
		*captures = found;
		methods |= routes[i].methods;
		if (request->method != METHOD_OTHER && (routes[i].methods & (1u << request->method)))
			return NULL;
	}
	if (methods == 0)
		return &error_route_not_found;
	request->allow = allowed(request->arena, methods);
	return &error_method_not_allowed;
}

static bool
is_json(const char *content_type)
{
	static const char json[] = "application/json";
	size_t len = sizeof json - 1;

	return content_type != NULL && strncasecmp(content_type, json, len) == 0 &&
	       (content_type[len] == '\0' || content_type[len] == ';' || content_type[len] == ' ');
}

static const struct error *
read_body(struct request *request)
{
	if (request->method != METHOD_POST)
		return request->broken;
	if (request->body_len > 0 && !is_json(request->content_type))
		return &error_content_type_unsupported;
	if (request->broken != NULL)
		return request->broken;
	if (request->body_len == 0)
		return NULL;
	request->json = json_read(request->arena, request->body, request->body_len);
	if (request->json == NULL || request->json->type != JSON_OBJECT)
		return &error_body_invalid;
	return NULL;
}

/* Everything before the route, in the order of refusals. */
static const struct error *
admit(struct app *app, struct request *request, const struct route *route, const struct captures *captures)
{
	const struct error *error = NULL;

	if (route->access == ACCESS_INTERNAL)
		return request->broken;
	if (route->access == ACCESS_USER)
		error = access_user(app, request);
	else
		error = access_member(app, request, captures->organization);
	if (error == NULL && route->changes) {
		request->actor = arena_format(request->arena, "user:%s", request->principal.user);
		error = access_same_origin(app, request);
	}
	if (error != NULL)
		return error;
	if (captures->service != NULL) {
		request->principal.service = captures->service;
		request->provider = config_provider(app->config, captures->service);
		if (request->provider == NULL)
			return &error_service_not_found;
	}
	return read_body(request);
}

size_t
router_run(struct app *app, struct request *request, struct response *response)
{
	struct captures captures = {0};
	const struct error *error = NULL;
	size_t index = 0;

	if (!request->internal)
		error = access_host(app, request);
	if (error == NULL)
		error = find(request, &index, &captures);
	if (error == NULL)
		error = admit(app, request, &routes[index], &captures);
	if (error == NULL)
		error = routes[index].run(app, request, response);
	if (error == &error_unauthenticated && app->config->sign_in_url != NULL) {
		request->extension[0].name = "sign_in_url";
		request->extension[0].value = app->config->sign_in_url;
	}
	if (error != NULL) {
		request->error = error;
		response_problem(response, request, error);
	}
	return index;
}
