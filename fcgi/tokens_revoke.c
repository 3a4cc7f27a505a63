/*
 * Revoking a token at the provider ends every connection that shares its grant (Google: all that this account granted
 * to the whole project). So it is asked first who else uses the grant, and nothing is revoked that still serves.
 */
#include "fcgi/tokens.h"

#include "common/error.h"
#include "common/loop.h"
#include "fcgi/app.h"
#include "fcgi/provider.h"
#include "fcgi/provider_call.h"
#include "fcgi/request.h"

#include <stddef.h>

bool
tokens_revoke(struct app *app, struct request *request, const char *token)
{
	const struct provider *provider = request->provider;
	struct http_request call = {.method = "POST", .url = provider->revocation_endpoint};
	struct http_response response;

	if (provider->revocation_endpoint == NULL)
		return false;
	call.body = oauth2_revoke_request(request->arena, &provider->client, token, &call.authorization);
	call.deadline_ms = loop_now_ms(app->loop) + TOKENS_REVOKE_MS;
	if (provider_call(app, request, provider, ENDPOINT_REVOKE, &call, &response) != NULL)
		return false;
	if (oauth2_is_revoked(request->arena, response.status, response.body, response.len))
		return true;
	provider_complain(request, provider, ENDPOINT_REVOKE, response.status, "the provider did not revoke a token",
			  "nothing is stored of it here; its user can remove access at the provider");
	return false;
}

const struct error *
tokens_let_go(struct app *app, struct request *request, const struct integration *record,
	      const struct credential *credential, enum grant_use *use, bool *revoked)
{
	const struct provider *provider = request->provider;
	const char *issuer = credential->issuer != NULL ? credential->issuer : provider->issuer;
	const struct error *error;

	*revoked = false;
	*use = GRANT_OTHERS; /* until it is known that nobody does */
	error = store_grant_remove(app, request->arena, issuer, record->oauth_user_id, &record->principal);
	if (error == NULL)
		error =
		    store_grant_use(app, request->arena, issuer, record->oauth_user_id, &record->principal, NULL, use);
	if (error != NULL)
		return error;
	if (*use == GRANT_FREE && credential->state == CREDENTIAL_OPEN)
		*revoked = tokens_revoke(app, request, credential->refresh_token);
	return NULL;
}
