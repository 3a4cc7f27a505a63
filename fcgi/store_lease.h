/* store_lease.c: refresh_lease:{...}:<service>, integrations:validate_lease:{...}:<service>. */
#ifndef FCGI_STORE_LEASE_H
#define FCGI_STORE_LEASE_H

struct error;
struct task;

#define STORE_LEASE_MS 4000       /* a lease whose owner is gone is free after this */
#define STORE_LEASE_RENEW_MS 1000 /* its owner renews it this often while it works */

struct lease;

enum lease_kind { LEASE_REFRESH, LEASE_VALIDATE };

/* Take the lease when it is free. *lease is NULL when another process has it. It renews itself until released, or until
 * this process is gone. */
const struct error *store_lease_take(struct task *task, enum lease_kind kind, struct lease **lease);

/* Release it where it is still ours; neither waits nor needs memory of a request. NULL is allowed. */
void store_lease_release(struct lease *lease);

#endif
