/* What a callback stores. */
#ifndef FCGI_TOKENS_CONNECT_H
#define FCGI_TOKENS_CONNECT_H

struct app;
struct error;
struct exchange_result;
struct integration;
struct oauth_state;
struct request;

/*
 * Store what the provider granted, if it is of any use, and make sure that no revocation at the same time killed it.
 * *integration is what is stored then. Errors: another account than the stored one (request->account names both), a
 * scope or the refresh token missing, the member removed. Whoever gets an error discards `exchange` (tokens_discard).
 */
const struct error *tokens_connect(struct app *app, struct request *request, const struct oauth_state *row,
				   const struct exchange_result *exchange, struct integration *integration);

#endif
