/* Provider files: what is read, what has a default, and a table of mistakes with the member each one names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/log.h"
#include "fcgi/provider.h"
#include "tests/unit/on_arena.h"

#include <string.h>

#define LENGTH(table) (sizeof(table) / sizeof(table)[0])

#define ENDPOINTS                                                                                                      \
	"\"issuer\":\"https://id.example\",\"authorization_endpoint\":\"https://id.example/auth\","                    \
	"\"token_endpoint\":\"https://id.example/token\",\"userinfo_endpoint\":\"https://id.example/me\""
#define LEAST "\"name\":\"Example\"," ENDPOINTS

static int
open_all(void **state)
{
	log_configure(LOG_LEVEL_ERROR, true);
	return on_arena_open(state);
}

static struct provider *
parse(const char *text, bool allow_private, const char **mistake)
{
	return provider_parse(arena, "example", text, strlen(text), allow_private, mistake);
}

static struct provider *
good(const char *text)
{
	const char *mistake = NULL;
	struct provider *provider = parse(text, false, &mistake);

	if (provider == NULL)
		fail_msg("%s: %s", text, mistake);
	assert_null(mistake);
	return provider;
}

static void
assert_words(struct words words, const char *expected)
{
	assert_string_equal(words_join(arena, &words), expected);
}

static void
fills_in_defaults(void **state)
{
	(void)state;
	const struct provider *provider = good("{" LEAST "}");

	assert_string_equal(provider->service, "example");
	assert_string_equal(provider->description, "");
	assert_words(provider->id_token_issuers, "https://id.example");
	assert_words(provider->id_token_algs, "RS256");
	assert_words(provider->scopes, "");
	assert_words(provider->all_scopes, "");
	assert_words(provider->mcp_scopes, "");
	assert_false(provider->iss_required);
	assert_false(provider->login_hint);
	assert_null(provider->revocation_endpoint);
	assert_null(provider->jwks_uri);
	assert_null(provider->api_base);
	assert_string_equal(provider->account_field, "sub");
	assert_string_equal(provider->email_field, "email");
	assert_int_equal(provider->client.auth, OAUTH2_CLIENT_POST);
	assert_int_equal(provider->mcp_count, 0);
	assert_words(good("{" LEAST ",\"jwks_uri\":\"https://id.example/keys\"}")->scopes, "openid");
}

static const char whole[] =
    "{" LEAST ",\"description\":\"An example.\",\"jwks_uri\":\"https://id.example/keys\","
    "\"id_token_issuers\":[\"https://id.example\",\"id.example\"],\"iss_required\":true,"
    "\"login_hint\":true,"
    "\"revocation_endpoint\":\"https://id.example/revoke\",\"client_auth\":\"basic\","
    "\"id_token_algs\":[\"ES256\",\"RS256\"],\"scopes\":[\"openid\",\"email\"],"
    "\"scope_aliases\":{\"email\":\"https://id.example/email\",\"mail\":\"https://id.example/mail\"},"
    "\"authorization_parameters\":{\"access_type\":\"offline\"},"
    "\"userinfo_fields\":{\"account\":\"id\",\"email\":\"mail\"},"
    "\"api_base\":\"https://api.example\",\"api_paths\":[\"/v1/\",\"/v2/\"],"
    "\"mcps\":[{\"mcp\":\"mail\",\"name\":\"Mail\",\"scopes\":[\"mail\",\"openid\"]},"
    "{\"mcp\":\"files\",\"name\":\"Files\",\"description\":\"Read.\",\"scopes\":[\"files\",\"mail\"],"
    "\"upstream\":\"https://mcp.example/files\"}],\"not_known\":1}";

static void
reads_every_member(void **state)
{
	(void)state;
	const struct provider *provider = good(whole);

	assert_string_equal(provider->description, "An example.");
	assert_words(provider->id_token_issuers, "https://id.example id.example");
	assert_true(provider->iss_required);
	assert_true(provider->login_hint);
	assert_string_equal(provider->revocation_endpoint, "https://id.example/revoke");
	assert_int_equal(provider->client.auth, OAUTH2_CLIENT_BASIC);
	assert_words(provider->id_token_algs, "ES256 RS256");
	assert_words(provider->scopes, "openid email");
	assert_int_equal(provider->authorization_parameter_count, 1);
	assert_string_equal(provider->authorization_parameters[0].name, "access_type");
	assert_string_equal(provider->authorization_parameters[0].value, "offline");
	assert_string_equal(provider->account_field, "id");
	assert_string_equal(provider->email_field, "mail");
	assert_string_equal(provider->api_base, "https://api.example");
	assert_words(provider->api_paths, "/v1/ /v2/");
	assert_int_equal(provider->mcp_count, 2);
	assert_null(provider->mcps[0].upstream);
	assert_string_equal(provider->mcps[0].description, "");
	assert_string_equal(provider->mcps[1].upstream, "https://mcp.example/files");
}

/* What is asked for stands as written, without repeats; what is compared stands after aliases. */
static void
gathers_scopes(void **state)
{
	(void)state;
	const struct provider *provider = good(whole);
	struct words granted = words_split(arena, "files openid mail mail");
	struct words some = words_split(arena, "openid email");

	assert_words(provider->all_scopes, "openid email mail files");
	assert_words(provider->mcp_scopes, "https://id.example/mail openid files");
	assert_words(provider->mcps[1].scopes, "files https://id.example/mail");
	granted = provider_canonical_scopes(arena, provider, &granted);
	assert_words(granted, "files openid https://id.example/mail");
	assert_words(provider_missing_scopes(arena, provider, &granted), "");
	some = provider_canonical_scopes(arena, provider, &some);
	assert_words(some, "openid https://id.example/email");
	assert_words(provider_missing_scopes(arena, provider, &some), "https://id.example/mail files");
}

static void
names_the_member_of_a_mistake(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *says;
	} rows[] = {
	    {"", "JSON"},
	    {"[]", "JSON"},
	    {"{" LEAST ",\"name\":\"twice\"}", "JSON"},
	    {"{" ENDPOINTS "}", "`name` is missing"},
	    {"{\"name\":\"\"," ENDPOINTS "}", "`name`"},
	    {"{\"name\":1," ENDPOINTS "}", "`name`"},
	    {"{\"name\":\"E\"}", "`issuer` is missing"},
	    {"{" ENDPOINTS ",\"client_auth\":\"none\",\"id_token_algs\":[\"none\"]}",
	     "`name` is missing; `client_auth` is neither \"post\" nor \"basic\"; `id_token_algs` may hold"},
	    {"{" ENDPOINTS ",\"name\":7}", "`name` is not a text of 1 to 1,024 bytes"},
	    {"{\"name\":\"E\",\"issuer\":\"id.example\"}", "`issuer` is not an https URL"},
	    {"{\"name\":\"E\",\"issuer\":\"http://id.example\"}", "`issuer` is not an https URL"},
	    {"{\"name\":\"E\",\"issuer\":\"https://127.0.0.1\"}", "`issuer` is on a loopback address"},
	    {"{\"name\":\"E\",\"issuer\":\"https://id.example\"}", "`authorization_endpoint` is missing"},
	    {"{" LEAST ",\"revocation_endpoint\":\"ftp://id.example\"}", "`revocation_endpoint`"},
	    {"{" LEAST ",\"revocation_endpoint\":7}", "`revocation_endpoint`"},
	    {"{" LEAST ",\"jwks_uri\":\"https://id.example/#x\"}", "`jwks_uri`"},
	    {"{" LEAST ",\"iss_required\":\"yes\"}", "`iss_required`"},
	    {"{" LEAST ",\"client_auth\":\"none\"}", "`client_auth`"},
	    {"{" LEAST ",\"id_token_issuers\":[]}", "`id_token_issuers`"},
	    {"{" LEAST ",\"id_token_issuers\":\"x\"}", "`id_token_issuers`"},
	    {"{" LEAST ",\"id_token_algs\":[\"none\"]}", "`id_token_algs`"},
	    {"{" LEAST ",\"id_token_algs\":[\"HS256\"]}", "`id_token_algs`"},
	    {"{" LEAST ",\"id_token_algs\":[]}", "`id_token_algs`"},
	    {"{" LEAST ",\"scopes\":[\"a b\"]}", "`scopes`"},
	    {"{" LEAST ",\"scopes\":[\"a\\\\b\"]}", "`scopes`"},
	    {"{" LEAST ",\"scopes\":[1]}", "`scopes`"},
	    {"{" LEAST ",\"scopes\":{}}", "`scopes`"},
	    {"{" LEAST ",\"scopes\":[\"email\"],\"jwks_uri\":\"https://id.example/k\"}", "\"openid\""},
	    {"{" LEAST ",\"scope_aliases\":[]}", "`scope_aliases`"},
	    {"{" LEAST ",\"scope_aliases\":{\"a\":1}}", "`scope_aliases`"},
	    {"{" LEAST ",\"scope_aliases\":{\"a\":\"b c\"}}", "`scope_aliases`"},
	    {"{" LEAST ",\"authorization_parameters\":{\"state\":\"x\"}}", "names `state`"},
	    {"{" LEAST ",\"login_hint\":\"yes\"}", "`login_hint` is neither"},
	    {"{" LEAST ",\"login_hint\":true,\"authorization_parameters\":{\"login_hint\":\"x\"}}",
	     "names `login_hint`"},
	    {"{" LEAST ",\"authorization_parameters\":{\"redirect_uri\":\"x\"}}", "names `redirect_uri`"},
	    {"{" LEAST ",\"authorization_parameters\":{\"prompt\":true}}", "`authorization_parameters`"},
	    {"{" LEAST ",\"userinfo_fields\":[]}", "`userinfo_fields`"},
	    {"{" LEAST ",\"userinfo_fields\":{\"account\":1}}", "`account`"},
	    {"{" LEAST ",\"api_base\":\"http://api.example\"}", "`api_base`"},
	    {"{" LEAST ",\"api_paths\":[\"/v1\"]}", "`api_paths` needs"},
	    {"{" LEAST ",\"api_base\":\"https://api.example/?key=x\"}", "`api_base` has a query"},
	    {"{" LEAST ",\"api_base\":\"https://api.example\",\"api_paths\":[\"v1\"]}", "begin with /"},
	    {"{" LEAST ",\"api_base\":\"https://api.example\"}", "`api_base` needs `mcps`"},
	    {"{" LEAST ",\"api_base\":\"https://api.example\",\"mcps\":[]}", "`api_base` needs `mcps`"},
	    {"{" LEAST ",\"mcps\":{}}", "`mcps`"},
	    {"{" LEAST ",\"mcps\":[1]}", "`mcps`"},
	    {"{" LEAST ",\"mcps\":[{\"name\":\"M\",\"scopes\":[\"s\"]}]}", "`mcps[0].mcp` is missing"},
	    {"{" LEAST ",\"mcps\":[{\"mcp\":\"M!\",\"name\":\"M\",\"scopes\":[\"s\"]}]}", "`mcps[0].mcp`"},
	    {"{" LEAST ",\"mcps\":[{\"mcp\":\"m\",\"scopes\":[\"s\"]}]}", "`mcps[0].name`"},
	    {"{" LEAST ",\"mcps\":[{\"mcp\":\"m\",\"name\":\"M\"}]}", "`mcps[0].scopes`"},
	    {"{" LEAST ",\"mcps\":[{\"mcp\":\"m\",\"name\":\"M\",\"scopes\":[]}]}", "`mcps[0].scopes`"},
	    {"{" LEAST
	     ",\"mcps\":[{\"mcp\":\"m\",\"name\":\"M\",\"scopes\":[\"s\"],\"upstream\":\"http://m.example\"}]}",
	     "`mcps[0].upstream`"},
	    {"{" LEAST ",\"mcps\":[{\"mcp\":\"m\",\"name\":\"M\",\"scopes\":[\"s\"]},"
	     "{\"mcp\":\"m\",\"name\":\"N\",\"scopes\":[\"t\"]}]}",
	     "twice"},
	};

	for (size_t i = 0; i < LENGTH(rows); i++) {
		const char *mistake = NULL;

		if (parse(rows[i].text, false, &mistake) != NULL)
			fail_msg("taken: %s", rows[i].text);
		assert_non_null(mistake);
		if (strstr(mistake, rows[i].says) == NULL)
			fail_msg("%s: says \"%s\", not \"%s\"", rows[i].text, mistake, rows[i].says);
	}
}

static void
allows_loopback_where_told(void **state)
{
	(void)state;
	static const char text[] =
	    "{\"name\":\"E\",\"issuer\":\"http://127.0.0.1:9\","
	    "\"authorization_endpoint\":\"https://localhost/a\","
	    "\"token_endpoint\":\"http://[::1]:9/t\",\"userinfo_endpoint\":\"http://localhost/u\"}";
	static const char remote[] = "{\"name\":\"E\",\"issuer\":\"http://id.example\"}";
	const char *mistake = NULL;

	assert_non_null(parse(text, true, &mistake));
	assert_null(parse(text, false, &mistake));
	assert_null(parse(remote, true, &mistake));
	assert_non_null(strstr(mistake, "`issuer`"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(fills_in_defaults),
	    cmocka_unit_test(reads_every_member),
	    cmocka_unit_test(gathers_scopes),
	    cmocka_unit_test(names_the_member_of_a_mistake),
	    cmocka_unit_test(allows_loopback_where_told),
	};
	return cmocka_run_group_tests_name("provider", tests, open_all, on_arena_close);
}
