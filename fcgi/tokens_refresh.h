/*
 * A refresh (RFC 6749 6), as its owner over all workers and hosts does it. All but tokens_refresh_once.c want
 * tokens_fresh (tokens_refresh_once.h).
 */
#ifndef FCGI_TOKENS_REFRESH_H
#define FCGI_TOKENS_REFRESH_H

#include "fcgi/store_integration.h"
#include "fcgi/tokens_result.h"

#include <stdbool.h>
#include <stdint.h>

struct error;
struct words;

#define TOKENS_REFUSED_COOLDOWN_S 60 /* a program, or an upstream, that keeps refusing costs one refresh a minute */

/* Has a refusal forced a refresh in the last `cooldown_seconds`? A time to come is none: some clock was wrong. */
bool tokens_in_cooldown(const struct credential *credential, int64_t cooldown_seconds);

struct token_options {
	int64_t minimum_seconds; /* refresh when less is left, but never before half of the token's life is over */
	/* hex SHA-256 of an access token that the provider refused: refresh if it is still this one */
	const char *refused;
	int64_t refused_cooldown_seconds; /* but not when a refusal has forced a refresh in the last so many seconds */
	bool force;                       /* refresh whatever is left */
	bool ask_again;                   /* ask the provider even where it has said no before */
	bool leave_record;                /* where the provider says no, say so to the caller only */
	const struct words *scopes; /* the token goes to a program, with these granted; NULL: it stays in the service */
};

/* One attempt to have a fresh token, with what it works on. */
struct token_attempt {
	struct task *task;
	const struct token_options *options;
	struct integration *record;
	struct credential *credential;
	const char *first_generation; /* when we began: with `force`, a new one means that another request did it */
	const char *overtaken;        /* the generation that was gone when we came to store its refresh */
	bool waited;                  /* for another request's refresh: its failure counts as our answer, too */
};

/* The stored token is the one that was refused, and no refusal has just forced a refresh. */
bool tokens_is_refused(const struct credential *credential, const struct token_options *options);

/*
 * Under the lease: ask the provider, and store what it says where the generation is still that of the record. *result
 * is what became of it; *again: the record has changed meanwhile, look anew. A failure is remembered for a moment.
 */
const struct error *tokens_refresh(struct token_attempt *attempt, enum token_result *result, bool *again);

#endif
