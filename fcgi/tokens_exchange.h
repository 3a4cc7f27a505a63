/*
 * A code for tokens (RFC 6749 4.1.3), and whose they are.
 */
#ifndef FCGI_TOKENS_EXCHANGE_H
#define FCGI_TOKENS_EXCHANGE_H

#include "common/oauth2.h"
#include "common/text.h"

#include <stdint.h>

struct error;
struct oauth_state;
struct task;

/* What the provider gave for a code. */
struct exchange_result {
	struct oauth2_tokens tokens; /* neither access_token nor refresh_token: nothing was given */
	const char *account;
	const char *email;   /* NULL: not known */
	struct words scopes; /* granted, after aliases */
	int64_t issued_at;
	int64_t sent_us; /* clock_monotonic_us when the code was sent */
};

/*
 * Exchange `code` for tokens and find out whose they are: id_token, or userinfo where the provider has no keys. The
 * provider's keys are at hand before the code is sent. Where tokens came but were not acceptable, exchange->tokens
 * tells, so that the caller can discard them.
 */
const struct error *tokens_exchange(struct task *task, const struct oauth_state *state, const char *code,
				    struct exchange_result *exchange);

#endif
