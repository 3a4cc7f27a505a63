/* store_pending_revocation.c: integrations:unrevoked:{...}:<service>, integrations:unrevoked_claim:{...}:<service>. */
#ifndef FCGI_STORE_PENDING_REVOCATION_H
#define FCGI_STORE_PENDING_REVOCATION_H

struct deletion;
struct error;
struct integration;
struct task;

/* What was deleted before, as store_integration_delete gives it, and no connection: it is never `found`. */
const struct error *store_pending_revocation_take(struct task *task, struct deletion *out);

/* The grant of a deleted or replaced connection has been dealt with. Should Redis not hear of it, it is done again. */
void store_pending_revocation_done(struct task *task, const struct integration *record);

#endif
