/*
 * A provider file is read by a walk over its JSON tree that notes every mistake. What a member means is decided
 * here once: defaults are filled in, MCP scopes are kept after aliases (as they are compared), what is asked for as
 * written (as the provider documents it).
 */
#include "fcgi/provider.h"

#include "common/arena.h"
#include "common/json_read.h"
#include "common/log.h"
#include "common/url.h"

#include <string.h>

#define SCOPE_MAX 512
#define TEXT_MAX 1024

struct parser {
	struct arena *arena;
	const char *service;
	bool allow_private;
	const char *where;    /* "", or the MCP that is being read */
	const char *mistaken; /* the member that the last one is about, with where it is */
	const char *mistakes; /* NULL: none */
};

#define MEMBERS                                                                                                        \
	"name description issuer id_token_issuers iss_required login_hint authorization_endpoint token_endpoint "      \
	"revocation_endpoint userinfo_endpoint jwks_uri client_auth id_token_algs scopes scope_aliases "               \
	"authorization_parameters userinfo_fields api_base api_paths mcps"
#define MCP_MEMBERS "mcp name description scopes upstream"
#define USERINFO_MEMBERS "account email"

static void
fail(struct parser *parser, const char *member, const char *what)
{
	const char *name = arena_join(parser->arena, parser->where, member, NULL);

	if (text_equal(name, parser->mistaken)) /* what follows from a mistake is none */
		return;
	parser->mistaken = name;
	parser->mistakes = arena_format(parser->arena, "%s%s`%s` %s", parser->mistakes != NULL ? parser->mistakes : "",
					parser->mistakes != NULL ? "; " : "", name, what);
}

static void
warn_unknown(const struct parser *parser, const struct json *object, const char *members)
{
	const struct words known = words_split(parser->arena, members);

	for (const struct json *member = object->first; member != NULL; member = member->next) {
		struct log_line line;

		if (words_contain(&known, member->key))
			continue;
		log_begin(&line, LOG_LEVEL_WARN, "provider_member_ignored");
		log_text(&line, "service", parser->service);
		log_text(&line, "member", member->key);
		log_text(&line, "action", "correct the name of this member of the provider file, or remove it");
		log_end(&line);
	}
}

/* ---- single values ---- */

/* A string that is not empty, or NULL when it is absent or null. */
static const char *
optional_text(struct parser *parser, const struct json *object, const char *member)
{
	const struct json *value = json_member(object, member);

	if (value == NULL || value->type == JSON_NULL)
		return NULL;
	if (value->type != JSON_STRING || value->text[0] == '\0' || strlen(value->text) > TEXT_MAX) {
		fail(parser, member, "is not a text of 1 to 1,024 bytes");
		return NULL;
	}
	return value->text;
}

static const char *
required_text(struct parser *parser, const struct json *object, const char *member)
{
	const char *text = optional_text(parser, object, member);

	if (text == NULL)
		fail(parser, member, "is missing");
	return text != NULL ? text : "";
}

static const char *
text_or(struct parser *parser, const struct json *object, const char *member, const char *fallback)
{
	const char *text = optional_text(parser, object, member);

	return text != NULL ? text : fallback;
}

static void
check_url(struct parser *parser, const char *member, const char *text)
{
	struct url url;

	if (!url_parse(parser->arena, text, &url))
		fail(parser, member, "is not an https URL");
	else if (url_is_loopback(&url) && !parser->allow_private)
		fail(parser, member, "is on a loopback address; PROVIDER_ALLOW_PRIVATE=1 allows that");
	else if (!text_equal(url.scheme, "https") && !url_is_loopback(&url))
		fail(parser, member, "is not an https URL");
}

static const char *
optional_url(struct parser *parser, const struct json *object, const char *member)
{
	const char *text = optional_text(parser, object, member);

	if (text != NULL)
		check_url(parser, member, text);
	return text;
}

static const char *
required_url(struct parser *parser, const struct json *object, const char *member)
{
	const char *text = required_text(parser, object, member);

	if (text[0] != '\0')
		check_url(parser, member, text);
	return text;
}

static bool
boolean_or(struct parser *parser, const struct json *object, const char *member, bool fallback)
{
	const struct json *value = json_member(object, member);

	if (value != NULL && value->type != JSON_BOOL)
		fail(parser, member, "is neither true nor false");
	return json_boolean(object, member, fallback);
}

/* ---- sets of words ---- */

static void
words_put_all(struct words *words, const struct words *more)
{
	for (size_t i = 0; i < more->count; i++)
		words_put(words, more->items[i]);
}

/* The strings of an array; the empty set, with `items` NULL, when it is absent. */
static struct words
optional_words(struct parser *parser, const struct json *object, const char *member)
{
	const struct json *array = json_member(object, member);
	struct words words = {.count = 0, .items = NULL};

	if (array == NULL || array->type == JSON_NULL)
		return words;
	if (array->type != JSON_ARRAY) {
		fail(parser, member, "is not an array of texts");
		return words;
	}
	words = words_open(parser->arena, array->count);
	for (const struct json *item = array->first; item != NULL; item = item->next) {
		if (item->type == JSON_STRING && text_is_visible(item->text) && strlen(item->text) <= TEXT_MAX)
			words_put(&words, item->text);
		else
			fail(parser, member, "holds a value that is not a text without spaces");
	}
	return words;
}

static struct words
words_or(struct parser *parser, const struct json *object, const char *member, const char *fallback)
{
	struct words words = optional_words(parser, object, member);

	return words.items != NULL ? words : words_split(parser->arena, fallback);
}

/* RFC 6749 3.3. */
static bool
is_scope(const char *text)
{
	return text_is_visible(text) && strlen(text) <= SCOPE_MAX && strpbrk(text, "\"\\") == NULL;
}

static void
check_scopes(struct parser *parser, const char *member, const struct words *scopes)
{
	for (size_t i = 0; i < scopes->count; i++) {
		if (!is_scope(scopes->items[i]))
			fail(parser, member, "holds a scope with a quotation mark, a backslash or over 512 bytes");
	}
}

/* ---- objects of texts ---- */

static struct oauth2_parameter *
parameters(struct parser *parser, const struct json *object, const char *member, size_t *count)
{
	const struct json *pairs = json_member(object, member);
	struct oauth2_parameter *out;

	*count = 0;
	if (pairs == NULL || pairs->type == JSON_NULL)
		return NULL;
	if (pairs->type != JSON_OBJECT) {
		fail(parser, member, "is not an object of texts");
		return NULL;
	}
	out = arena_alloc(parser->arena, (pairs->count + 1) * sizeof *out);
	for (const struct json *pair = pairs->first; pair != NULL; pair = pair->next) {
		if (pair->type != JSON_STRING || pair->key[0] == '\0')
			fail(parser, member, "holds a value that is not a text");
		else
			out[(*count)++] = (struct oauth2_parameter){.name = pair->key, .value = pair->text};
	}
	return out;
}

static void
parse_parameters(struct parser *parser, const struct json *object, struct provider *provider)
{
	size_t count;

	provider->authorization_parameters = parameters(parser, object, "authorization_parameters", &count);
	provider->authorization_parameter_count = count;
	for (size_t i = 0; i < count; i++) {
		const char *name = provider->authorization_parameters[i].name;

		if (oauth2_parameter_is_reserved(name) || (provider->login_hint && text_equal(name, "login_hint")))
			fail(parser, "authorization_parameters",
			     arena_format(parser->arena, "names `%s`, which the service sets by itself", name));
	}
}

static void
parse_aliases(struct parser *parser, const struct json *object, struct provider *provider)
{
	provider->aliases = parameters(parser, object, "scope_aliases", &provider->alias_count);
	for (size_t i = 0; i < provider->alias_count; i++) {
		if (!is_scope(provider->aliases[i].name) || !is_scope(provider->aliases[i].value))
			fail(parser, "scope_aliases", "holds a text that is not a scope");
	}
}

static void
parse_userinfo_fields(struct parser *parser, const struct json *object, struct provider *provider)
{
	const struct json *fields = json_member(object, "userinfo_fields");

	provider->account_field = "sub";
	provider->email_field = "email";
	if (fields == NULL || fields->type == JSON_NULL)
		return;
	if (fields->type != JSON_OBJECT) {
		fail(parser, "userinfo_fields", "is not an object");
		return;
	}
	warn_unknown(parser, fields, USERINFO_MEMBERS);
	provider->account_field = text_or(parser, fields, "account", provider->account_field);
	provider->email_field = text_or(parser, fields, "email", provider->email_field);
}

/* ---- the whole ---- */

static void
parse_endpoints(struct parser *parser, const struct json *object, struct provider *provider)
{
	provider->issuer = required_url(parser, object, "issuer");
	provider->authorization_endpoint = required_url(parser, object, "authorization_endpoint");
	provider->token_endpoint = required_url(parser, object, "token_endpoint");
	provider->revocation_endpoint = optional_url(parser, object, "revocation_endpoint");
	provider->userinfo_endpoint = required_url(parser, object, "userinfo_endpoint");
	provider->jwks_uri = optional_url(parser, object, "jwks_uri");
}

static void
parse_client_auth(struct parser *parser, const struct json *object, struct provider *provider)
{
	const char *auth = text_or(parser, object, "client_auth", "post");

	if (text_equal(auth, "basic"))
		provider->client.auth = OAUTH2_CLIENT_BASIC;
	else if (text_equal(auth, "post"))
		provider->client.auth = OAUTH2_CLIENT_POST;
	else
		fail(parser, "client_auth", "is neither \"post\" nor \"basic\"");
}

static void
parse_identity(struct parser *parser, const struct json *object, struct provider *provider)
{
	const struct words known = words_split(parser->arena, "RS256 RS384 RS512 PS256 ES256 ES384");

	provider->id_token_issuers = words_or(parser, object, "id_token_issuers", provider->issuer);
	provider->iss_required = boolean_or(parser, object, "iss_required", false);
	provider->login_hint = boolean_or(parser, object, "login_hint", false);
	provider->id_token_algs = words_or(parser, object, "id_token_algs", "RS256");
	if (provider->id_token_issuers.count == 0 && provider->issuer[0] != '\0')
		fail(parser, "id_token_issuers", "is empty");
	if (provider->id_token_algs.count == 0 ||
	    words_minus(parser->arena, &provider->id_token_algs, &known).count > 0)
		fail(parser, "id_token_algs", "may hold RS256, RS384, RS512, PS256, ES256 and ES384");
	provider->scopes = words_or(parser, object, "scopes", provider->jwks_uri != NULL ? "openid" : "");
	check_scopes(parser, "scopes", &provider->scopes);
	if (provider->jwks_uri != NULL && !words_contain(&provider->scopes, "openid"))
		fail(parser, "scopes",
		     "lacks \"openid\": without it the provider sends no id_token, and `jwks_uri` checks nothing");
}

/* What allowed paths are appended to: no slash at its end, and no query. */
static const char *
optional_base(struct parser *parser, const struct json *object, const char *member)
{
	const char *text = optional_url(parser, object, member);
	size_t len = text != NULL ? strlen(text) : 0;

	if (text == NULL)
		return NULL;
	if (strchr(text, '?') != NULL)
		fail(parser, member, "has a query");
	while (len > 0 && text[len - 1] == '/')
		len--;
	return arena_copy(parser->arena, text, len);
}

static void
parse_api(struct parser *parser, const struct json *object, struct provider *provider)
{
	provider->api_base = optional_base(parser, object, "api_base");
	provider->api_paths = words_or(parser, object, "api_paths", "");
	if (provider->api_paths.count > 0 && provider->api_base == NULL)
		fail(parser, "api_paths", "needs `api_base`");
	for (size_t i = 0; i < provider->api_paths.count; i++) {
		if (provider->api_paths.items[i][0] != '/')
			fail(parser, "api_paths", "holds a path that does not begin with /");
	}
}

/* Always with a path: nginx would forward its own to a URL that has none. */
static const char *
optional_upstream(struct parser *parser, const struct json *object, const char *member)
{
	const char *text = optional_url(parser, object, member);
	struct url url;

	if (text == NULL || !url_parse(parser->arena, text, &url) || url.path[0] != '\0')
		return text;
	return arena_format(parser->arena, "%s/", text);
}

/* One MCP; its scopes as written are what is left in *asked. */
static void
parse_mcp(struct parser *parser, const struct json *object, const struct provider *provider, struct provider_mcp *mcp,
	  struct words *asked)
{
	warn_unknown(parser, object, MCP_MEMBERS);
	mcp->mcp = required_text(parser, object, "mcp");
	mcp->name = required_text(parser, object, "name");
	mcp->description = text_or(parser, object, "description", "");
	mcp->upstream = optional_upstream(parser, object, "upstream");
	*asked = words_or(parser, object, "scopes", "");
	check_scopes(parser, "scopes", asked);
	mcp->scopes = provider_canonical_scopes(parser->arena, provider, asked);
	if (!text_is_name(mcp->mcp))
		fail(parser, "mcp", "is not a name (a to z, 0 to 9 and _, at most 32, a letter first)");
	if (asked->count == 0)
		fail(parser, "scopes", "is missing or empty");
}

static void
check_mcp_names(struct parser *parser, const struct provider *provider)
{
	for (size_t i = 0; i < provider->mcp_count; i++) {
		for (size_t j = 0; j < i; j++) {
			if (text_equal(provider->mcps[i].mcp, provider->mcps[j].mcp))
				fail(parser, "mcps", "names an MCP twice");
		}
	}
}

static void
parse_mcps(struct parser *parser, const struct json *object, struct provider *provider)
{
	const struct json *array = json_member(object, "mcps");
	struct words *asked;
	size_t most = provider->scopes.count;
	size_t i = 0;

	if (array != NULL && array->type != JSON_ARRAY)
		fail(parser, "mcps", "is not an array");
	provider->mcp_count = array != NULL ? array->count : 0;
	provider->mcps = arena_alloc(parser->arena, (provider->mcp_count + 1) * sizeof *provider->mcps);
	asked = arena_alloc(parser->arena, (provider->mcp_count + 1) * sizeof *asked);
	for (const struct json *item = array != NULL ? array->first : NULL; item != NULL; item = item->next, i++) {
		if (item->type != JSON_OBJECT)
			fail(parser, "mcps", "holds a value that is not an object");
		parser->where = arena_format(parser->arena, "mcps[%zu].", i);
		parse_mcp(parser, item, provider, &provider->mcps[i], &asked[i]);
		most += asked[i].count;
	}
	parser->where = "";
	if (parser->mistakes != NULL)
		return;
	check_mcp_names(parser, provider);
	provider->all_scopes = words_open(parser->arena, most);
	provider->mcp_scopes = words_open(parser->arena, most);
	words_put_all(&provider->all_scopes, &provider->scopes);
	for (i = 0; i < provider->mcp_count; i++) {
		words_put_all(&provider->all_scopes, &asked[i]);
		words_put_all(&provider->mcp_scopes, &provider->mcps[i].scopes);
	}
}

struct provider *
provider_parse(struct arena *arena, const char *service, const char *text, size_t len, bool allow_private,
	       const char **mistake)
{
	struct parser parser = {.arena = arena, .service = service, .allow_private = allow_private, .where = ""};
	struct provider *provider = arena_alloc(arena, sizeof *provider);
	const struct json *object = json_read(arena, text, len);

	if (object == NULL || object->type != JSON_OBJECT) {
		*mistake = "is not one JSON object (or holds a member twice)";
		return NULL;
	}
	warn_unknown(&parser, object, MEMBERS);
	provider->service = arena_text(arena, service);
	provider->name = required_text(&parser, object, "name");
	provider->description = text_or(&parser, object, "description", "");
	parse_endpoints(&parser, object, provider);
	parse_client_auth(&parser, object, provider);
	parse_identity(&parser, object, provider);
	parse_aliases(&parser, object, provider);
	parse_parameters(&parser, object, provider);
	parse_userinfo_fields(&parser, object, provider);
	parse_api(&parser, object, provider);
	parse_mcps(&parser, object, provider);
	/* The proxy asks for sessions that are good for all of them: without any, every session would do. */
	if (provider->api_base != NULL && provider->mcp_count == 0)
		fail(&parser, "api_base", "needs `mcps`");
	*mistake = parser.mistakes;
	return parser.mistakes == NULL ? provider : NULL;
}
