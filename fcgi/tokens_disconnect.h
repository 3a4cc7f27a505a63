/*
 * A connection that is deleted, and what becomes of its grant.
 */
#ifndef FCGI_TOKENS_DISCONNECT_H
#define FCGI_TOKENS_DISCONNECT_H

#include "fcgi/store_integration.h"
#include "fcgi/store_shared_grant.h"

#include <stdbool.h>

struct error;
struct task;

/* What became of a connection that a caller wanted to disconnect. */
struct disconnect_result {
	bool found;    /* it was stored until now */
	bool finished; /* or there was one whose grant an earlier try had left as it was */
	struct credential credential;
	enum grant_use use;
	bool revoked;
	const struct error *error; /* the store failed when it was deleted already; the next attempt finishes it */
};

/*
 * Delete the connection, then deal with its grant and with those that an interrupted try has left. Errors: nothing is
 * deleted. task->provider is NULL for a service that is no longer enabled: nothing is revoked.
 */
const struct error *tokens_disconnect(struct task *task, struct disconnect_result *out);

#endif
