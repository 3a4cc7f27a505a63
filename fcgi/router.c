/*
 * One row per route. What stands before a route (who may call, same origin, the service's existence, the body's form)
 * is asked here, in the order of refusals that fcgi/API.md gives, so that no route can forget a check.
 */
#include "fcgi/router.h"

#include "common/arena.h"
#include "common/buf.h"
#include "common/json_read.h"
#include "common/text.h"
#include "fcgi/access.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/provider.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/route.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum access {
	ACCESS_ANYBODY, /* no credentials: what can reach the private server, or a refusal being spelled out */
	ACCESS_USER,    /* a user session */
	ACCESS_MEMBER,  /* a user session with access to the organization of the path */
	ACCESS_LIST,    /* the same, for a route that lists the user's records there */
	ACCESS_CALLER,  /* a caller's key that is good for the organization of the path */
	ACCESS_GATEWAY  /* a gateway session with access to the organization of the path */
};

#define GET (1u << METHOD_GET)
#define HEAD (1u << METHOD_HEAD)
#define POST (1u << METHOD_POST)
#define DELETE (1u << METHOD_DELETE)

struct route {
	enum server server;
	const char *pattern; /* {rest} stands for everything behind its slash */
	unsigned methods;
	enum access access;
	bool changes; /* something is stored: with a cookie it must be same-origin */
	route_function *run;
};

#define API "/api/organizations/{organization_id}"
#define TOKEN "/internal/organizations/{organization_id}/users/{user_id}/integrations/{service}/token"

static const struct route routes[] = {
    {SERVER_PUBLIC, "none", 0, ACCESS_ANYBODY, false, NULL},
    {SERVER_PUBLIC, "/api/me", GET | HEAD, ACCESS_USER, false, route_me},
    {SERVER_PUBLIC, "/api/services", GET | HEAD, ACCESS_USER, false, route_services},
    {SERVER_PUBLIC, API "/integrations", GET | HEAD, ACCESS_LIST, false, route_integrations_list},
    {SERVER_PUBLIC, API "/integrations/{service}", POST, ACCESS_MEMBER, true, route_validate},
    {SERVER_PUBLIC, API "/integrations/{service}", DELETE, ACCESS_MEMBER, true, route_disconnect},
    {SERVER_PUBLIC, API "/integrations/{service}/auth_link", GET, ACCESS_MEMBER, true, route_connect_auth_link},
    {SERVER_PUBLIC, API "/integrations/{service}/callback", POST, ACCESS_MEMBER, true, route_connect_callback},
    {SERVER_PUBLIC, API "/mcps", GET | HEAD, ACCESS_LIST, false, route_mcps},
    {SERVER_INTERNAL, TOKEN, POST, ACCESS_CALLER, false, route_token},
    {SERVER_INTERNAL, "/healthz", GET | HEAD, ACCESS_ANYBODY, false, route_health_alive},
    {SERVER_INTERNAL, "/readyz", GET | HEAD, ACCESS_ANYBODY, false, route_health_ready},
    {SERVER_INTERNAL, "/metrics", GET | HEAD, ACCESS_ANYBODY, false, route_health_metrics},
    {SERVER_GATEWAY, "/mcp/{organization_id}/{mcp}", GET | POST | DELETE, ACCESS_GATEWAY, false, route_gateway_mcp},
    {SERVER_GATEWAY, "/proxy/{organization_id}/{service}/{rest}", GET | HEAD, ACCESS_GATEWAY, false,
     route_gateway_proxy},
};

#define ROUTE_COUNT (sizeof routes / sizeof routes[0])

/* What the path's placeholders stand for, unchecked. */
struct captures {
	const char *organization;
	const char *user;
	const char *service;
	const char *mcp;
	const char *path_suffix;
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
	return (size_t)(strchrnul(path, '/') - path);
}

/* Where the value of the placeholder at the start of `pattern`, `len` bytes with its braces, goes. */
static const char **
capture(struct captures *captures, const char *pattern, size_t len)
{
	const struct {
		const char *placeholder;
		const char **value;
	} places[] = {
	    {"{organization_id}", &captures->organization},
	    {"{user_id}", &captures->user},
	    {"{service}", &captures->service},
	    {"{mcp}", &captures->mcp},
	};

	for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
		if (strlen(places[i].placeholder) == len && memcmp(places[i].placeholder, pattern, len) == 0)
			return places[i].value;
	}
	abort(); /* no pattern of the table has another */
}

/* Compare segment by segment; the path is raw, so that nginx and we can only agree or answer 404. */
static bool
match(struct arena *arena, const char *pattern, const char *path, struct captures *captures)
{
	*captures = (struct captures){0};
	while (*pattern == '/' && *path == '/') {
		size_t pattern_len = segment_length(++pattern);
		size_t path_len = segment_length(++path);

		if (strcmp(pattern, "{rest}") == 0) {
			captures->path_suffix = path - 1;
			return true;
		}
		if (*pattern == '{') {
			if (path_len == 0)
				return false;
			*capture(captures, pattern, pattern_len) = arena_copy(arena, path, path_len);
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
	struct buf list;

	buf_init(&list, arena, 64);
	for (enum method method = METHOD_GET; method < METHOD_OTHER; method++) {
		if (methods & (1u << method))
			buf_addf(&list, "%s%s", list.len > 0 ? ", " : "", request_method_name(method));
	}
	return buf_text(&list);
}

static const struct error *
find_route(struct request *request, size_t *index, struct captures *captures)
{
	unsigned methods = 0;

	*index = 0;
	for (size_t i = 1; i < ROUTE_COUNT; i++) {
		struct captures found;

		if (routes[i].server != request->server || routes[i].run == NULL ||
		    !match(request->task.arena, routes[i].pattern, request->path, &found))
			continue;
		*index = i;
		*captures = found;
		methods |= routes[i].methods;
		if (request->method != METHOD_OTHER && (routes[i].methods & (1u << request->method)))
			return NULL;
	}
	if (methods == 0)
		return &error_route_not_found;
	request->allow = allowed(request->task.arena, methods);
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
	request->json = json_read(request->task.arena, request->body, request->body_len);
	if (request->json == NULL || request->json->type != JSON_OBJECT)
		return &error_body_invalid;
	return NULL;
}

static const struct error *
check_credentials(struct request *request, const struct route *route, const struct captures *captures)
{
	switch (route->access) {
	case ACCESS_USER: return access_user(request);
	case ACCESS_MEMBER: return access_member(request, captures->organization, false);
	case ACCESS_LIST: return access_member(request, captures->organization, true);
	case ACCESS_CALLER: return access_caller(request, captures->organization);
	case ACCESS_GATEWAY: return access_gateway(request, captures->organization);
	case ACCESS_ANYBODY: break;
	}
	return NULL;
}

static const struct error *
check_origin(struct request *request, const struct route *route)
{
	if (route->access == ACCESS_GATEWAY)
		return access_program_origin(request);
	if (!route->changes)
		return NULL;
	request->task.actor = arena_join(request->task.arena, "user:", request->task.connection_key.user, NULL);
	return access_same_origin(request);
}

/* What the path names, once the caller is known. */
static const struct error *
check_target(struct request *request, const struct captures *captures)
{
	request->mcp = captures->mcp;
	request->path_suffix = captures->path_suffix;
	if (captures->service == NULL)
		return NULL;
	request->task.provider = config_provider(request->task.app->config, captures->service);
	if (request->task.provider == NULL)
		return &error_service_not_found;
	request->task.connection_key.service = request->task.provider->service;
	if (captures->user == NULL) /* a caller's route alone names one */
		return NULL;
	if (text_is_id(captures->user))
		request->task.connection_key.user = captures->user;
	if (!access_caller_serves(request, request->task.provider))
		return access_forbid(request, "mcp");
	return request->task.connection_key.user != NULL ? NULL : &error_integration_not_found;
}

/* Everything before the route, in the order of refusals. */
static const struct error *
admit(struct request *request, const struct route *route, const struct captures *captures)
{
	const struct error *error = check_credentials(request, route, captures);

	if (error == NULL)
		error = check_origin(request, route);
	if (error == NULL)
		error = check_target(request, captures);
	return error != NULL ? error : read_body(request);
}

static void
write_problem(struct request *request, struct response *response, const struct error *error)
{
	request->error = error;
	if (error == &error_unauthenticated && request->task.app->config->sign_in_url != NULL) {
		request->extension[0].name = "sign_in_url";
		request->extension[0].value = request->task.app->config->sign_in_url;
	}
	response_problem(response, request, error);
	if (request->server == SERVER_GATEWAY && request->gateway_code == NULL) { /* to nginx's auth_request */
		response->status = error == &error_unauthenticated ? 401 : 403;
		(void)response_header(response, "X-Gateway-Code", error->code);
	}
}

/* What nginx brings back to have it spelled out; that an upstream refused the token is found out by asking. */
static bool
is_refusal(const struct request *request)
{
	return request->server == SERVER_GATEWAY && request->gateway_code != NULL &&
	       !text_equal(request->gateway_code, error_provider_refused_token.code);
}

static const struct error *
run_route(struct request *request, struct response *response, size_t *index)
{
	struct captures captures = {0};
	const struct error *error = NULL;

	if (is_refusal(request)) {
		(void)find_route(request, index, &captures);
		request->mcp = captures.mcp;
		request->task.connection_key.service = captures.service;
		return route_gateway_refusal(request, response);
	}
	if (request->server != SERVER_INTERNAL)
		error = access_host(request);
	if (error == NULL)
		error = find_route(request, index, &captures);
	if (error == NULL)
		error = admit(request, &routes[*index], &captures);
	return error != NULL ? error : routes[*index].run(request, response);
}

size_t
router_run(struct request *request, struct response *response)
{
	size_t index = 0;
	const struct error *error = run_route(request, response, &index);

	if (error != NULL)
		write_problem(request, response, error);
	return index;
}
