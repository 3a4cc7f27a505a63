/*
 * Revoking a token at the provider ends every connection that shares its grant (Google: all that this account granted
 * to the whole project). So it is asked first who else uses the grant, and nothing is revoked that still serves; and
 * a request that connects at that moment finds out whether its own grant is still alive.
 */
#include "fcgi/tokens_revoke.h"

#include "common/json_read.h"
#include "common/jwt.h"
#include "common/loop.h"
#include "fcgi/app.h"
#include "fcgi/provider.h"
#include "fcgi/provider_call.h"
#include "fcgi/provider_userinfo.h"
#include "fcgi/store_pending_revocation.h"
#include "fcgi/store_shared_grant.h"
#include "fcgi/task.h"
#include "fcgi/tokens_exchange.h"

#include <stddef.h>

/* True when the token is dead now. *answered is false when it may still come to be. */
static bool
send_revocation(struct task *task, const char *token, bool *answered)
{
	const struct provider *provider = task->provider;
	struct http_request call = {.method = "POST", .url = provider->revocation_endpoint};
	struct http_response response;

	*answered = true;
	if (provider->revocation_endpoint == NULL)
		return false;
	call.body = oauth2_revoke_request(task->arena, &provider->client, token, &call.authorization);
	call.deadline_ms = loop_now_ms(task->app->loop) + TOKENS_REVOKE_MS;
	*answered = provider_call(task, ENDPOINT_REVOKE, &call, &response) == NULL;
	if (!*answered)
		return false;
	if (oauth2_is_revoked(task->arena, response.status, response.body, response.len))
		return true;
	provider_complain(task, ENDPOINT_REVOKE, response.status, "the provider did not revoke a token",
			  "the service keeps nothing of the token; the user can remove access at the provider");
	return false;
}

/* Revoke `token` (NULL: none) where no connection uses the grant. Where it was `stored`, its user does no longer. */
static const struct error *
revoke_unused(struct task *task, const char *issuer, const char *account, bool stored, const char *token,
	      enum grant_use *use, bool *revoked)
{
	const struct error *error;
	const char *owner;
	bool answered = true;

	error = store_shared_grant_revoking(task, issuer, account, &owner);
	if (error == NULL && stored)
		error = store_shared_grant_remove(task, issuer, account);
	if (error == NULL)
		error = store_shared_grant_use(task, issuer, account, use);
	if (error != NULL)
		return error;
	if (*use == GRANT_FREE && token != NULL)
		*revoked = send_revocation(task, token, &answered);
	if (answered)
		store_shared_grant_revoking_over(task, issuer, account, owner);
	return NULL;
}

void
tokens_revoke(struct task *task, const char *account, const char *token)
{
	enum grant_use use;
	bool revoked;

	(void)revoke_unused(task, task->provider->issuer, account, false, token, &use, &revoked);
}

const struct error *
tokens_grant_release(struct task *task, const struct integration *record, const struct credential *credential,
		     enum grant_use *use, bool *revoked)
{
	const char *issuer = credential->issuer != NULL ? credential->issuer : task->provider->issuer;
	bool known = record->oauth_user_id[0] != '\0'; /* else it is not known who shares the grant */
	const char *token = credential->state == CREDENTIAL_OPEN && known ? credential->refresh_token : NULL;
	const struct error *error;

	*revoked = false;
	*use = GRANT_OTHERS; /* until it is known that none does */
	error = revoke_unused(task, issuer, record->oauth_user_id, true, token, use, revoked);
	if (error != NULL)
		*use = GRANT_OTHERS;
	else
		store_pending_revocation_done(task, record);
	return error;
}

const char *
tokens_revocation(bool revoked, enum grant_use use)
{
	if (revoked)
		return "revoked";
	return use == GRANT_SAME_USER ? "kept_shared" : "not_revoked";
}

/*
 * Whose tokens these are; NULL: not known. Userinfo is asked, even where it has just failed: to revoke blindly
 * could end a grant that others use. *sure is false where only a claim says so that was not verified.
 */
static const char *
owner_of(struct task *task, const struct exchange_result *exchange, bool *sure)
{
	const struct json *claims;
	const char *account = NULL;
	const char *email;

	*sure = true;
	if (exchange->account != NULL)
		return exchange->account;
	if (exchange->tokens.id_token != NULL) {
		claims = jwt_claims_unverified(task->arena, exchange->tokens.id_token);
		*sure = !provider_is_account(json_string(claims, "sub"));
		if (!*sure)
			return json_string(claims, "sub");
	}
	if (exchange->tokens.access_token == NULL ||
	    provider_userinfo(task, exchange->tokens.access_token, &account, &email) != USERINFO_GOOD)
		return NULL;
	return provider_is_account(account) ? account : NULL;
}

void
tokens_discard(struct task *task, const struct exchange_result *exchange)
{
	const struct oauth2_tokens *tokens = &exchange->tokens;
	const char *token = tokens->refresh_token != NULL ? tokens->refresh_token : tokens->access_token;
	const char *account;
	struct integration own;
	bool found = false;
	bool sure;

	if (token == NULL)
		return;
	account = owner_of(task, exchange, &sure);
	if (store_integration_read(task, &own, &found) != NULL)
		return;
	if (found && text_equal(own.oauth_user_id, account))
		return;
	if (account != NULL && (sure || !found))
		tokens_revoke(task, account, token);
	else
		provider_complain(task, ENDPOINT_EXCHANGE, 0,
				  "the service did not revoke tokens that it refused: their account is not known",
				  "when the provider works again, have the user connect, and disconnect if unwanted");
}
