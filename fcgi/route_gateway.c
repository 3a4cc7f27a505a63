/*
 * What nginx asks before it forwards a request of the MCP gateway or the API proxy (auth_request): may this session do
 * that, where does it go, and with which token. The answer's headers are for nginx alone; its location is internal.
 *
 * auth_request knows 2xx, 401 and 403. So a refusal is one of these with its code in a header, and nginx comes back
 * with that code (GATEWAY_CODE) to have the problem body with the true status made here. It also comes back when the
 * upstream could not be reached (upstream_unreachable), answered without a final status (upstream_no_final_status), or
 * refused the token (provider_refused_token).
 */
#include "fcgi/route.h"

#include "common/arena.h"
#include "common/crypto.h"
#include "common/log.h"
#include "fcgi/access.h"
#include "fcgi/api_error.h"
#include "fcgi/app.h"
#include "fcgi/app_metrics.h"
#include "fcgi/config.h"
#include "fcgi/provider.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/tokens_vend.h"

#include <string.h>

#define MARK_LENGTH 24 /* 96 bits: with it a node of nginx's limit_conn takes 64 bytes, with more 128 */
#define MINIMUM_S 60   /* a conversation does not wait for a refresh without need */

/* The MCP of the path, with the provider that it needs. */
static const struct provider_mcp *
find_mcp(struct request *request)
{
	for (size_t i = 0; i < request->task.app->config->provider_count; i++) {
		const struct provider *provider = request->task.app->config->providers[i];

		for (size_t j = 0; j < provider->mcp_count; j++) {
			if (!text_equal(provider->mcps[j].mcp, request->mcp) || provider->mcps[j].upstream == NULL)
				continue;
			request->task.provider = provider;
			request->task.connection_key.service = provider->service;
			return &provider->mcps[j];
		}
	}
	return NULL;
}

static bool
session_has(const struct request *request, const char *mcp)
{
	struct words mcps = words_split(request->task.arena, request->session.mcps);

	return words_contain(&mcps, mcp);
}

/* What nginx counts a session's streams by: it opens nothing, and tells nothing of what the session is stored under. */
static const char *
session_mark(const struct request *request)
{
	char digest[CRYPTO_SHA256_HEX];

	crypto_sha256_hex(request->session.binding, digest);
	return arena_format(request->task.arena, "%.*s", MARK_LENGTH, digest);
}

static const struct error *
write_permission(const struct request *request, struct response *response, const char *token, const char *upstream)
{
	const struct error *error = response_header(response, "X-Gateway-Upstream", upstream);

	if (error == NULL)
		error = response_header(response, "X-Gateway-Session", session_mark(request));
	if (error == NULL)
		error = response_header(response, "X-Gateway-Authorization",
					arena_format(response->arena, "Bearer %s", token));
	return error;
}

/* The upstream answered 401 to the token that it just got: have the next request refresh it. */
static const struct error *
note_refused(struct request *request)
{
	struct integration record;
	struct credential credential;
	const struct error *error;
	bool found = false;

	error = store_integration_read_tokens(&request->task, NULL, &record, &credential, &found);
	if (error != NULL || !found || tokens_in_cooldown(&credential, TOKENS_REFUSED_COOLDOWN_S))
		return error;
	return store_integration_refused(&request->task, &record);
}

static const struct error *
vend_token(struct request *request, struct response *response, const struct words *scopes, const char *upstream)
{
	const struct token_options options = {.minimum_seconds = MINIMUM_S};
	struct words wanted = provider_canonical_scopes(request->task.arena, request->task.provider, scopes);
	struct vended_token vended;
	const struct error *error;

	if (text_equal(request->gateway_code, error_provider_refused_token.code)) {
		error = note_refused(request);
		return error != NULL ? error : &error_provider_refused_token;
	}
	error = tokens_vend(&request->task, &options, &wanted, &vended);
	return error != NULL ? error : write_permission(request, response, vended.credential.access_token, upstream);
}

const struct error *
route_gateway_mcp(struct request *request, struct response *response)
{
	const struct provider_mcp *mcp = find_mcp(request);

	if (mcp == NULL)
		return &error_route_not_found;
	if (!session_has(request, mcp->mcp))
		return access_forbid(request, "mcp");
	return vend_token(request, response, &mcp->scopes, mcp->upstream);
}

/*
 * The rest of the path is forwarded as it came, so it must mean the same to every program that reads it: no dot
 * segments, no empty ones, no fragment, no encoded slashes, dots or backslashes that one of them might decode.
 */
static bool
is_plain(const char *path)
{
	static const char *const traps[] = {"//", "/.", "\\", ";", "#", "%2e", "%2f", "%5c", "%25", "%00"};

	if (path[0] != '/')
		return false;
	for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++) {
		if (strcasestr(path, traps[i]) != NULL)
			return false;
	}
	return true;
}

/* `path` is an allowed one or lies below it: "/gmail/v1" allows "/gmail/v1" and "/gmail/v1/users", not "/gmail/v10". */
static bool
is_allowed(const struct provider *provider, const char *path)
{
	for (size_t i = 0; i < provider->api_paths.count; i++) {
		const char *prefix = provider->api_paths.items[i];
		size_t len = strlen(prefix);

		while (len > 0 && prefix[len - 1] == '/')
			len--;
		if (strncmp(path, prefix, len) == 0 && (path[len] == '\0' || path[len] == '/'))
			return true;
	}
	return false;
}

const struct error *
route_gateway_proxy(struct request *request, struct response *response)
{
	const struct provider *provider = request->task.provider;
	const struct words none = {0};
	const char *upstream;

	if (provider->api_base == NULL || !is_plain(request->path_suffix) ||
	    !is_allowed(provider, request->path_suffix))
		return &error_route_not_found;
	/* The token opens everything that was granted, so the session must be good for all of it. */
	if (provider->mcp_count == 0) /* no provider file leads to this */
		return &error_caller_forbidden;
	for (size_t i = 0; i < provider->mcp_count; i++) {
		if (!session_has(request, provider->mcps[i].mcp))
			return access_forbid(request, "mcp");
	}
	upstream = arena_format(request->task.arena, "%s%s%s%s", provider->api_base, request->path_suffix,
				request->query[0] != '\0' ? "?" : "", request->query);
	return vend_token(request, response, &none, upstream);
}

/* nginx dropped an answer without a final status: it would have written the caller's answer, or another member's. */
static void
log_split_answer(const struct request *request)
{
	struct log_line line;

	app_metrics_split_answer(request->task.app, request->mcp);
	log_begin(&line, LOG_LEVEL_WARN, "gateway_split_answer");
	log_text(&line, "request_id", request->task.request_id);
	log_text(&line, "mcp", request->mcp); /* or, of the proxy: */
	log_text(&line, "service", request->task.connection_key.service);
	log_text(&line, "message", "an upstream's answer has no final status; nginx dropped it");
	log_text(
	    &line, "action",
	    "ask the upstream's operator for the reason; remove the upstream from the provider file if this repeats");
	log_end(&line);
}

const struct error *
route_gateway_refusal(struct request *request, struct response *response)
{
	const struct error *error = error_find(request->gateway_code);

	(void)response;
	if (text_equal(request->gateway_code, "upstream_no_final_status")) {
		log_split_answer(request);
		return &error_provider_unreachable;
	}
	if (text_equal(request->gateway_code, "upstream_unreachable"))
		return &error_provider_unreachable;
	request->logged = true;
	return error != NULL ? error : &error_internal;
}
