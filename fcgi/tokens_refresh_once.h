/*
 * A fresh access token: refreshed once over all workers and hosts, where that is due.
 */
#ifndef FCGI_TOKENS_REFRESH_ONCE_H
#define FCGI_TOKENS_REFRESH_ONCE_H

#include "fcgi/tokens_refresh.h"

struct task;

/*
 * Read the connection and refresh its access token where that is due: once over all workers and hosts
 * (fcgi/README.md, Refresh). On TOKEN_GOOD *record and *credential are current. On any other result but TOKEN_GONE they
 * are what is stored; an access token in it may still be valid. TOKEN_DEAD has been noted in the record, unless it is
 * to be left.
 */
const struct error *tokens_fresh(struct task *task, const struct token_options *options, struct integration *record,
				 struct credential *credential, enum token_result *result);

#endif
