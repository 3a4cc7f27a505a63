/*
 * The two halves of a refresh: tokens_refresh_once.c finds out whether one is due and who does it, over all workers and
 * hosts; tokens_refresh.c does it. For these two files only; all other files have tokens_fresh (tokens.h).
 */
#ifndef FCGI_TOKENS_INTERNAL_H
#define FCGI_TOKENS_INTERNAL_H

#include "fcgi/tokens.h"

#include <stdbool.h>

/* One attempt to have a fresh token, with what it works on. */
struct token_attempt {
	struct app *app;
	struct request *request;
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
