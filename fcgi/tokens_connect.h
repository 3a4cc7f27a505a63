/* What a callback stores. */
#ifndef FCGI_TOKENS_CONNECT_H
#define FCGI_TOKENS_CONNECT_H

struct error;
struct exchange_result;
struct integration;
struct oauth_state;
struct task;

/*
 * Store what the provider granted, if it is of any use, and make sure that no revocation at the same time killed it.
 * *integration is what is stored then. Errors: another account than the stored one (*old is the stored connection
 * then), a scope or the refresh token missing, the member removed. Whoever gets an error discards `exchange`
 * (tokens_discard).
 */
const struct error *tokens_connect(struct task *task, const struct oauth_state *row,
				   const struct exchange_result *exchange, struct integration *integration,
				   struct integration *old);

#endif
