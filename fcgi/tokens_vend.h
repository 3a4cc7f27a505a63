/*
 * An access token for a program, by the token route or the gateway.
 */
#ifndef FCGI_TOKENS_VEND_H
#define FCGI_TOKENS_VEND_H

#include "fcgi/store_integration.h"
#include "fcgi/tokens_refresh.h"

struct task;

struct vended_token {
	struct integration record;
	struct credential credential;
	const char *warning; /* why it could not be refreshed when that was due; NULL: no such thing */
};

/*
 * A fresh access token for a program, if every one of `scopes` (after aliases) is granted. Errors: nothing stored, dead
 * or unreadable, a scope missing, the member removed, or the provider failing while no stored token is left.
 */
const struct error *tokens_vend(struct task *task, const struct token_options *options, const struct words *scopes,
				struct vended_token *out);

#endif
