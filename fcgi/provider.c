/* What a provider's scopes and accounts mean. How its file is read: provider_file.c. */
#include "fcgi/provider.h"

#include <string.h>

static const char *
canonical(const struct provider *provider, const char *scope)
{
	for (size_t i = 0; i < provider->alias_count; i++) {
		if (text_equal(provider->aliases[i].name, scope))
			return provider->aliases[i].value;
	}
	return scope;
}

struct words
provider_canonical_scopes(struct arena *arena, const struct provider *provider, const struct words *scopes)
{
	struct words out = words_open(arena, scopes->count);

	for (size_t i = 0; i < scopes->count; i++)
		words_put(&out, canonical(provider, scopes->items[i]));
	return out;
}

struct words
provider_missing_scopes(struct arena *arena, const struct provider *provider, const struct words *granted)
{
	return words_minus(arena, &provider->mcp_scopes, granted);
}

bool
provider_is_account(const char *account)
{
	return account != NULL && strlen(account) <= PROVIDER_ACCOUNT_MAX && text_is_visible(account);
}
