/* store_shared_grant.c: grant:<sha256(issuer NUL account)>, integrations:revoking:<the same>. */
#ifndef FCGI_STORE_SHARED_GRANT_H
#define FCGI_STORE_SHARED_GRANT_H

#include <stdbool.h>
#include <stdint.h>

struct error;
struct task;

/* Say that the connection uses this grant: before it is stored. */
const struct error *store_shared_grant_add(struct task *task, const char *issuer, const char *account);

/* And that it does no longer: after it is deleted. */
const struct error *store_shared_grant_remove(struct task *task, const char *issuer, const char *account);

enum grant_use { GRANT_FREE, GRANT_SAME_USER, GRANT_OTHERS };

/*
 * Who uses the grant: stored connections with this issuer and account. GRANT_SAME_USER where the user of `connection`
 * is among them, in any organization.
 */
const struct error *store_shared_grant_use(struct task *task, const char *issuer, const char *account,
					   enum grant_use *use);

/*
 * Say that the grant may be about to be revoked: before asking who uses it, so that a connection that is stored after
 * that answer sees it. *owner is for the end.
 */
const struct error *store_shared_grant_revoking(struct task *task, const char *issuer, const char *account,
						const char **owner);

/* And that this one is over, one way or the other; does not wait. Not where the provider gave no answer: the revocation
 * may still come about. */
void store_shared_grant_revoking_over(struct task *task, const char *issuer, const char *account, const char *owner);

struct grant_revocation {
	bool known;     /* there was one lately, or there is */
	bool under_way; /* at least one */
	int64_t age_ms; /* since the last was over, or since it began */
};

/* The last revocations of the grant: after a connection is stored. */
const struct error *store_shared_grant_revocation(struct task *task, const char *issuer, const char *account,
						  struct grant_revocation *out);

#endif
