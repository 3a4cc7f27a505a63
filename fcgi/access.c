/* Identity comes from the session and from nowhere else: no header, body, query or stored state names a user. */
#include "fcgi/access.h"

#include "common/arena.h"
#include "common/cookie.h"
#include "common/text.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/provider.h"
#include "fcgi/request.h"
#include "fcgi/store_caller.h"
#include "fcgi/store_event.h"
#include "fcgi/store_limit.h"
#include "fcgi/store_session.h"

#include <string.h>
#include <strings.h>

#define TOKEN_MAX 512
#define REFUSALS_NOTED 20 /* a minute, per caller's key or session */

/* The token of `Authorization: Bearer TOKEN`, "" when it is malformed, NULL without a bearer. */
static const char *
bearer_token(const char *authorization)
{
	if (authorization == NULL || strncasecmp(authorization, "Bearer", 6) != 0)
		return NULL;
	if (authorization[6] == '\0')
		return "";
	if (authorization[6] != ' ')
		return NULL;
	authorization += 6;
	while (*authorization == ' ')
		authorization++;
	return authorization;
}

static const struct error *
find_token(struct request *request, const char **token)
{
	const char *bearer = bearer_token(request->authorization);
	const char *cookie = NULL;
	size_t cookies =
	    cookie_find(request->task.arena, request->cookie, request->task.app->config->session_cookie, &cookie);

	if (cookies > 1 || (cookies > 0 && bearer != NULL))
		return &error_ambiguous_credentials;
	*token = bearer != NULL ? bearer : cookie;
	request->credential = bearer != NULL ? "bearer" : "cookie";
	if (*token == NULL || !text_is_visible(*token) || strlen(*token) > TOKEN_MAX)
		return &error_unauthenticated;
	return NULL;
}

const struct error *
access_member(struct request *request, const char *organization, bool lists)
{
	const struct error *error;
	const char *token;

	error = find_token(request, &token);
	if (error != NULL)
		return error;
	/* An id outside its pattern names no user; the session is read all the same, for the right refusal. */
	error = store_session_read(&request->task, token, text_is_id(organization) ? organization : NULL,
				   &request->session, lists ? &request->prefetched : NULL);
	if (error != NULL)
		return error;
	if (!request->session.found || request->session.use != NULL)
		return &error_unauthenticated;
	if (request->session.role == NULL)
		return &error_organization_forbidden;
	request->task.waiter = request->session.binding;
	request->task.connection_key.user = request->session.user;
	request->task.connection_key.organization = organization;
	return NULL;
}

const struct error *
access_user(struct request *request)
{
	const struct error *error;
	const char *token;

	error = find_token(request, &token);
	if (error == NULL)
		error = store_session_read_all(&request->task, token, &request->session);
	if (error == NULL && (!request->session.found || request->session.use != NULL))
		error = &error_unauthenticated;
	if (error == NULL)
		request->task.connection_key.user = request->session.user;
	return error;
}

/* The bearer alone; NULL when there is none that could be known. */
static const char *
program_token(const struct request *request)
{
	const char *token = bearer_token(request->authorization);

	return token != NULL && text_is_visible(token) && strlen(token) <= TOKEN_MAX ? token : NULL;
}

/*
 * Asking for what is refused costs nothing, so a caller could fill Redis with entries of the audit; the log has every
 * request. Only an organization that is named in the caller's list, or in a session, is known to be one.
 */
const struct error *
access_forbid(struct request *request, const char *outcome)
{
	const char *organization = request->task.connection_key.organization;
	int64_t retry_after;

	if (store_limit_count_caller(&request->task, "caller_forbidden", program_token(request), REFUSALS_NOTED,
				     &retry_after) != NULL ||
	    retry_after > 0)
		return &error_caller_forbidden;
	if (request->session.role != NULL || words_contain(&request->caller.organizations, organization))
		store_event_append(&request->task, "caller_forbidden", outcome);
	else
		store_event_append_known(&request->task, "caller_forbidden", outcome);
	return &error_caller_forbidden;
}

const struct error *
access_caller(struct request *request, const char *organization)
{
	const char *key = program_token(request);
	const struct error *error;

	if (key == NULL)
		return &error_unauthenticated;
	error = store_caller_read(&request->task, key, &request->caller);
	if (error != NULL)
		return error;
	if (!request->caller.found)
		return &error_unauthenticated;
	request->task.actor = arena_join(request->task.arena, "caller:", request->caller.name, NULL);
	request->task.waiter = request->task.actor;
	if (!text_is_id(organization))
		return &error_caller_forbidden;
	request->task.connection_key.organization = organization;
	if (words_contain(&request->caller.organizations, "*") ||
	    words_contain(&request->caller.organizations, organization))
		return NULL;
	return access_forbid(request, "organization");
}

bool
access_caller_has(const struct request *request, const char *mcp)
{
	return words_contain(&request->caller.mcps, mcp);
}

bool
access_caller_serves(const struct request *request, const struct provider *provider)
{
	for (size_t i = 0; i < provider->mcp_count; i++) {
		if (access_caller_has(request, provider->mcps[i].mcp))
			return true;
	}
	return false;
}

const struct error *
access_gateway(struct request *request, const char *organization)
{
	const char *token = program_token(request);
	const struct error *error;

	if (token == NULL)
		return &error_unauthenticated;
	error = store_session_read(&request->task, token, text_is_id(organization) ? organization : NULL,
				   &request->session, NULL);
	if (error != NULL)
		return error;
	if (!request->session.found || !text_equal(request->session.use, "gateway"))
		return &error_unauthenticated;
	if (request->session.role == NULL)
		return &error_organization_forbidden;
	request->task.waiter = request->session.binding;
	request->task.connection_key.user = request->session.user;
	request->task.connection_key.organization = organization;
	request->task.actor = arena_join(request->task.arena, "user:", request->session.user, NULL);
	if (request->session.agent != NULL)
		request->task.actor = arena_join(request->task.arena, "agent:", request->session.agent, " for ",
						 request->task.actor, NULL);
	return NULL;
}

const struct error *
access_program_origin(const struct request *request)
{
	if (request->origin != NULL && !text_equal(request->origin, request->task.app->config->public_url.origin))
		return &error_cross_origin;
	return NULL;
}

const struct error *
access_same_origin(const struct request *request)
{
	if (text_equal(request->credential, "bearer"))
		return NULL;
	if (request->origin == NULL && request->sec_fetch_site == NULL)
		return &error_cross_origin;
	if (request->origin != NULL && !text_equal(request->origin, request->task.app->config->public_url.origin))
		return &error_cross_origin;
	if (request->sec_fetch_site != NULL && !text_equal(request->sec_fetch_site, "same-origin"))
		return &error_cross_origin;
	return NULL;
}

/* As nginx writes it in $host: without a port, an IPv6 address in brackets. */
static bool
is_host(const struct url *url, const char *host)
{
	size_t len = strlen(url->host);

	if (strchr(url->host, ':') == NULL)
		return text_equal_nocase(host, url->host);
	return host != NULL && host[0] == '[' && strncasecmp(host + 1, url->host, len) == 0 &&
	       strcmp(host + 1 + len, "]") == 0;
}

const struct error *
access_host(const struct request *request)
{
	const struct url *public_url = &request->task.app->config->public_url;

	if (!text_equal_nocase(request->host, public_url->authority) || !is_host(public_url, request->target_host))
		return &error_misdirected;
	return NULL;
}
