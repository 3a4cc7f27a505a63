/* provider_parse: a file is refused with a sentence, or everything in it is fit for use. */
#include "common/text.h"
#include "common/url.h"
#include "fcgi/provider.h"
#include "tests/fuzz/fuzz.h"

static void
check_endpoint(struct arena *arena, const char *endpoint, bool allow_private)
{
	struct url url;

	if (endpoint == NULL)
		return;
	must(text_is_visible(endpoint) && url_parse(arena, endpoint, &url));
	must(text_equal(url.scheme, "https") || (allow_private && url_is_loopback(&url)));
}

static void
check_parameters(const struct oauth2_parameter *parameters, size_t count)
{
	for (size_t i = 0; i < count; i++)
		must(parameters[i].name != NULL && parameters[i].value != NULL);
}

static void
check(struct arena *arena, const struct provider *provider, bool allow_private)
{
	struct words canonical, missing;

	must(text_equal(provider->service, "google") && provider->name != NULL && provider->description != NULL);
	must(provider->issuer != NULL && provider->authorization_endpoint != NULL && provider->token_endpoint != NULL);
	must(provider->userinfo_endpoint != NULL && provider->account_field != NULL && provider->email_field != NULL);
	must(provider->jwks_uri == NULL || provider->id_token_algs.count > 0);
	must(!words_contain(&provider->id_token_algs, "none") && !words_contain(&provider->id_token_algs, "HS256"));
	check_endpoint(arena, provider->authorization_endpoint, allow_private);
	check_endpoint(arena, provider->token_endpoint, allow_private);
	check_endpoint(arena, provider->revocation_endpoint, allow_private);
	check_endpoint(arena, provider->userinfo_endpoint, allow_private);
	check_endpoint(arena, provider->jwks_uri, allow_private);
	check_endpoint(arena, provider->api_base, allow_private);
	must(provider->api_base == NULL || provider->mcp_count > 0);
	check_parameters(provider->aliases, provider->alias_count);
	check_parameters(provider->authorization_parameters, provider->authorization_parameter_count);
	for (size_t i = 0; i < provider->authorization_parameter_count; i++)
		must(!oauth2_parameter_is_reserved(provider->authorization_parameters[i].name));
	for (size_t i = 0; i < provider->mcp_count; i++) {
		must(text_is_name(provider->mcps[i].mcp) && provider->mcps[i].scopes.count > 0);
		check_endpoint(arena, provider->mcps[i].upstream, allow_private);
	}
	canonical = provider_canonical_scopes(arena, provider, &provider->all_scopes);
	must(canonical.count <= provider->all_scopes.count);
	missing = provider_missing_scopes(arena, provider, &canonical);
	must(missing.count == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (int allow_private = 0; allow_private < 2; allow_private++) {
		struct arena *arena = fuzz_arena();
		const char *mistake = NULL;
		const struct provider *provider =
		    provider_parse(arena, "google", (const char *)data, size, allow_private != 0, &mistake);

		must((provider == NULL) == (mistake != NULL));
		if (provider != NULL)
			check(arena, provider, allow_private != 0);
	}
	return 0;
}
