/* store_session.c: session:<sha256>. */
#ifndef FCGI_STORE_SESSION_H
#define FCGI_STORE_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct redis_reply;
struct task;

#define STORE_SESSION_ORGANIZATIONS_MAX 1000 /* what store_session_read_all finds of them */

struct session_organization {
	const char *id;
	const char *role;
};

struct session {
	bool found;
	const char *user; /* an id, or found is false */
	const char *email;
	const char *name;
	const char *sid;
	const char *use;           /* NULL, or "gateway" */
	const char *mcps;          /* for "gateway" */
	const char *agent;         /* for "gateway": who acts for the user; NULL: not named */
	const char *binding;       /* what a flow is bound to: "sid:<sid>", else "token:<sha256>" */
	const char *role;          /* in the organization asked for; NULL: none */
	size_t organization_count; /* store_session_read_all only; sorted by id */
	struct session_organization *organizations;
};

/* A user's records as they came, read together with the session on a hint of who the user is (hints.h). */
struct prefetched_records {
	const char *user;                   /* whose they are; NULL: none were read */
	const struct redis_reply **replies; /* one per enabled service */
};

/*
 * The session of `token`, with its role in `organization` (NULL: none asked for); without email and name. Where
 * `prefetched` is not NULL the user's records in that organization may come with it.
 */
const struct error *store_session_read(struct task *task, const char *token, const char *organization,
				       struct session *out, struct prefetched_records *prefetched);
/* With everything, and all organizations. */
const struct error *store_session_read_all(struct task *task, const char *token, struct session *out);

/* For the commands: store `token` with these fields (pairs of name and value, NULL at the end) for `ttl` seconds. */
const struct error *store_session_write(struct task *task, const char *token, const char *const *fields, int64_t ttl);
/* *existed tells whether there was one. */
const struct error *store_session_delete(struct task *task, const char *token, bool *existed);

#endif
