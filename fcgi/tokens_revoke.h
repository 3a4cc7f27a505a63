/*
 * The end of tokens at the provider (RFC 7009), where no stored connection shares their grant.
 */
#ifndef FCGI_TOKENS_REVOKE_H
#define FCGI_TOKENS_REVOKE_H

#include "fcgi/store_integration.h"
#include "fcgi/store_shared_grant.h"

#include <stdbool.h>

struct error;
struct exchange_result;
struct task;

#define TOKENS_REVOKE_MS 3000

/* Revoke `token` of `account` at the provider, within TOKENS_REVOKE_MS, unless a stored connection shares its grant. */
void tokens_revoke(struct task *task, const char *account, const char *token);

/*
 * A connection was deleted or replaced: forget that it used its grant, and revoke the grant where no other connection
 * uses it. `use` tells which do; *revoked whether it is dead now.
 */
const struct error *tokens_grant_release(struct task *task, const struct integration *record,
					 const struct credential *credential, enum grant_use *use, bool *revoked);

/*
 * What became of a grant, in one word for answers and the audit: "revoked"; "kept_shared" where another connection of
 * the same user needs it; else "not_revoked", so that it says nothing about other people.
 */
const char *tokens_revocation(bool revoked, enum grant_use use);

/*
 * Revoke the tokens of an exchange that is refused, unless a stored connection may share their grant. Where their
 * account is not known, they are left, and the log says so.
 */
void tokens_discard(struct task *task, const struct exchange_result *exchange);

#endif
