/*
 * What became of a connection's tokens when the provider was asked. What a provider says is a result, not an error: the
 * errors that tokens_*.h return are those of our own store and limits. All of their functions work for
 * task->connection_key, within task->deadline_ms, and park the fiber.
 */
#ifndef FCGI_TOKENS_RESULT_H
#define FCGI_TOKENS_RESULT_H

#include <stdbool.h>

struct error;
struct integration;

enum token_result {
	TOKEN_GOOD,
	TOKEN_GONE,        /* nothing is stored (any more) */
	TOKEN_REMOVED,     /* the member was removed from the organization: nothing is asked for them */
	TOKEN_DEAD,        /* the provider said invalid_grant */
	TOKEN_UNREADABLE,  /* stored tokens do not open */
	TOKEN_FOREIGN,     /* stored tokens belong to another issuer or client id */
	TOKEN_POLICY,      /* the provider's or its customer's policy forbids it; tokens are kept */
	TOKEN_CLIENT,      /* the provider refuses us as a client: an operator must act */
	TOKEN_UNREACHABLE, /* no usable answer */
	TOKEN_IDENTITY,    /* the provider named another account than the stored one */
	TOKEN_CROWDED      /* too many wait for the provider already: it was not asked */
};

/* What a result means for a record (status, status_reason, whether the provider has answered) and for a caller. */
struct token_result_info {
	const char *status;
	const char *reason;
	bool answered;
	const struct error *error;
};
const struct token_result_info *tokens_result_info(enum token_result result);

/* Has a validation found that the provider takes the stored token for another account's? Then no caller may have it. */
bool tokens_are_of_another(const struct integration *record);

#endif
