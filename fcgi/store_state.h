/* store_state.c: oauth_state:<sha256 of the whole state>, integrations:states:{...}. */
#ifndef FCGI_STORE_STATE_H
#define FCGI_STORE_STATE_H

#include "fcgi/store.h"

#include <stdbool.h>
#include <stdint.h>

struct error;

struct oauth_state {
	struct connection_key connection_key;
	const char *binding;    /* session.binding of the member who began */
	const char *credential; /* "cookie" or "bearer" */
	const char *code_verifier;
	const char *nonce;
	const char *issuer;
	const char *client_id;
	bool replace;             /* by any account */
	const char *replace_with; /* by this account; NULL: by none but what `replace` says */
};

#define STORE_STATE_SECONDS 600
#define STORE_STATE_LIVE 20 /* per user and organization; the oldest makes room */

/*
 * Admission of a new flow, in one step: counts it against `limit` a minute (0: off) and tells whether the member was
 * removed. *retry_after > 0: the limit is reached; *removed: tombstone.
 */
const struct error *store_state_admit(struct task *task, unsigned limit, int64_t *retry_after, bool *removed);

/* Store `state` (the whole text) for STORE_STATE_SECONDS, verifier and nonce sealed. */
const struct error *store_state_write(struct task *task, const char *state, const struct oauth_state *row);

/*
 * Read and delete in one atomic step: of any number of callers one gets it. *found is false when there is none, or its
 * secrets do not open (then it is gone, too).
 */
const struct error *store_state_take(struct task *task, const char *state, struct oauth_state *out, bool *found);

#endif
