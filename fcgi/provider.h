/* Provider files (PROVIDERS_DIR/<service>.json) as structs. Nothing else in the program names a provider. */
#ifndef FCGI_PROVIDER_H
#define FCGI_PROVIDER_H

#include "common/oauth2.h"
#include "common/text.h"

#include <stdbool.h>
#include <stddef.h>

struct arena;

struct provider_mcp {
	const char *mcp;
	const char *name;
	const char *description;
	struct words scopes;
	const char *upstream; /* NULL: not offered through the gateway */
};

struct provider {
	const char *service; /* the file's name */
	const char *name;
	const char *description;
	const char *issuer;
	struct words id_token_issuers; /* default: the issuer */
	bool iss_required;
	bool login_hint; /* a reconnection names the account that is stored */
	const char *authorization_endpoint;
	const char *token_endpoint;
	const char *revocation_endpoint; /* NULL: cannot revoke */
	const char *userinfo_endpoint;
	const char *jwks_uri; /* NULL: the account is read from userinfo, no id_token is asked for */
	struct words id_token_algs;
	struct words scopes;              /* asked for identity */
	struct words all_scopes;          /* identity and every MCP's: what an authorization asks for */
	struct words mcp_scopes;          /* every MCP's, after aliases */
	struct oauth2_parameter *aliases; /* name: alias, value: what it stands for */
	size_t alias_count;
	struct oauth2_parameter *authorization_parameters;
	size_t authorization_parameter_count;
	const char *account_field; /* userinfo: default "sub" */
	const char *email_field;   /* userinfo: default "email" */
	const char *api_base;      /* NULL: no API proxy */
	struct words api_paths;
	struct provider_mcp *mcps;
	size_t mcp_count;
	struct oauth2_client client; /* from <SERVICE>_CLIENT_ID and _SECRET */
	const char *redirect_uri;
};

/*
 * Read one file's text. NULL on a mistake, with *mistake a sentence that names each member that has one. Endpoints must
 * be https (or, with allow_private, http on loopback). `client` and `redirect_uri` are the caller's to fill.
 */
struct provider *provider_parse(struct arena *arena, const char *service, const char *text, size_t len,
				bool allow_private, const char **mistake);

/* `scopes` with every alias replaced by what it stands for. */
struct words provider_canonical_scopes(struct arena *arena, const struct provider *provider,
				       const struct words *scopes);

/* MCP scopes that are not among `granted` (both after aliases). */
struct words provider_missing_scopes(struct arena *arena, const struct provider *provider, const struct words *granted);

#define PROVIDER_ACCOUNT_MAX 255 /* OpenID Connect Core 2: sub */

/* An account id as a provider may give it; NULL is none. */
bool provider_is_account(const char *account);

#endif
