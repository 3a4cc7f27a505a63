/* A fresh access token for a program of the platform. The refresh token never leaves the service. */
#include "fcgi/route.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/json_read.h"
#include "common/json_write.h"
#include "fcgi/access.h"
#include "fcgi/api_error.h"
#include "fcgi/provider.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/tokens_vend.h"

#include <string.h>

#define MINIMUM_DEFAULT_S 300
#define MINIMUM_MOST_S 1800
#define SCOPES_MAX 64
#define HASH_DIGITS 64

static const struct error *
read_minimum(const struct json *body, struct token_options *options)
{
	const struct json *member = json_member(body, "minimum_seconds");

	if (member == NULL)
		return NULL;
	if (member->type != JSON_NUMBER || !json_integer(body, "minimum_seconds", &options->minimum_seconds) ||
	    options->minimum_seconds < 0 || options->minimum_seconds > MINIMUM_MOST_S)
		return &error_body_invalid;
	return NULL;
}

static const struct error *
read_refused(const struct json *body, struct token_options *options)
{
	const char *hash = json_string(body, "refused");

	if (json_member(body, "refused") == NULL)
		return NULL;
	if (hash == NULL || strlen(hash) != HASH_DIGITS || strspn(hash, "0123456789abcdef") != HASH_DIGITS)
		return &error_body_invalid;
	options->refused = hash;
	options->refused_cooldown_seconds = TOKENS_REFUSED_COOLDOWN_S;
	return NULL;
}

static const struct error *
read_scopes(struct arena *arena, const struct json *body, struct words *scopes)
{
	const struct json *member = json_member(body, "scopes");

	*scopes = (struct words){0};
	if (member == NULL)
		return NULL;
	if (member->type != JSON_ARRAY || member->count > SCOPES_MAX)
		return &error_body_invalid;
	scopes->items = arena_alloc(arena, (member->count + 1) * sizeof *scopes->items);
	for (const struct json *item = member->first; item != NULL; item = item->next) {
		if (item->type != JSON_STRING || !text_is_visible(item->text))
			return &error_body_invalid;
		scopes->items[scopes->count++] = item->text;
	}
	return NULL;
}

/* The scopes of those MCPs of the service that the caller serves, after aliases. */
static struct words
scopes_of_caller(struct request *request, const struct provider *provider)
{
	const char *joined = "";
	struct words scopes;

	for (size_t i = 0; i < provider->mcp_count; i++) {
		if (access_caller_has(request, provider->mcps[i].mcp))
			joined = arena_format(request->task.arena, "%s %s", joined,
					      words_join(request->task.arena, &provider->mcps[i].scopes));
	}
	scopes = words_split(request->task.arena, joined);
	return provider_canonical_scopes(request->task.arena, provider, &scopes);
}

static bool
may_have(struct request *request, const struct words *wanted)
{
	struct words allowed;

	if (wanted->count == 0)
		return true;
	allowed = scopes_of_caller(request, request->task.provider);
	return words_minus(request->task.arena, wanted, &allowed).count == 0;
}

static const struct error *
write_token(struct request *request, struct response *response, const struct vended_token *vended)
{
	struct json_write *json = json_write_open(request->task.arena, RESPONSE_BODY_MAX);
	char expires_at[CLOCK_RFC3339_SIZE];

	clock_rfc3339(vended->credential.expires_at, expires_at);
	json_write_object(json, NULL);
	json_write_string(json, "access_token", vended->credential.access_token);
	json_write_string(json, "token_type", "Bearer");
	json_write_string(json, "expires_at", expires_at);
	json_write_words(json, "scopes", &vended->record.scopes);
	json_write_string(json, "oauth_user_id", vended->record.oauth_user_id);
	if (vended->warning != NULL)
		json_write_string(json, "warning", vended->warning);
	json_write_object_end(json);
	return response_json(response, json);
}

const struct error *
route_token(struct request *request, struct response *response)
{
	struct token_options options = {.minimum_seconds = MINIMUM_DEFAULT_S};
	struct vended_token vended;
	struct words wanted;
	const struct error *error;

	error = read_minimum(request->json, &options);
	if (error == NULL)
		error = read_refused(request->json, &options);
	if (error == NULL)
		error = read_scopes(request->task.arena, request->json, &wanted);
	if (error != NULL)
		return error;
	wanted = provider_canonical_scopes(request->task.arena, request->task.provider, &wanted);
	if (!may_have(request, &wanted))
		return access_forbid(request, "scope");
	error = tokens_vend(&request->task, &options, &wanted, &vended);
	return error != NULL ? error : write_token(request, response, &vended);
}
