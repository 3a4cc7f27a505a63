/*
 * What is kept in Redis: key formats and struct <-> hash, one store_*.c per kind (README.md's table of keys).
 *
 * Every key of one atomic step carries the same hash tag {organization:user}. Ids are checked against their patterns
 * before they come here; a key is built only by the functions of these files. Every function parks the fiber and
 * returns NULL or error_store_unavailable, unless it says more.
 */
#ifndef FCGI_STORE_H
#define FCGI_STORE_H

#include "common/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct app;
struct arena;
struct error;
struct provider;
struct redis_reply;
struct request;

/* Whose connection: all three checked. */
struct connection_key {
	const char *organization;
	const char *user;
	const char *service;
};

/* Once at start: the scripts' SHA-1. */
void store_prepare(void);

/* ---- store_session.c: session:<sha256> ---- */

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
const struct error *store_session_read(struct app *app, struct arena *arena, const char *token,
				       const char *organization, struct session *out,
				       struct prefetched_records *prefetched);
/* With everything, and all organizations. */
const struct error *store_session_read_all(struct app *app, struct arena *arena, const char *token,
					   struct session *out);

/* For the commands: store `token` with these fields (pairs of name and value, NULL at the end) for `ttl` seconds. */
const struct error *store_session_write(struct app *app, struct arena *arena, const char *token,
					const char *const *fields, int64_t ttl);
/* *existed tells whether there was one. */
const struct error *store_session_delete(struct app *app, struct arena *arena, const char *token, bool *existed);

/* ---- store_caller.c: caller:<sha256> ---- */

struct caller {
	bool found;
	const char *name;
	struct words mcps;
	struct words organizations; /* "*": all */
};

/* The caller whose key is `key`. */
const struct error *store_caller_read(struct app *app, struct arena *arena, const char *key, struct caller *out);

/* For the commands: store `caller` under `key` for `ttl` seconds. */
const struct error *store_caller_write(struct app *app, struct arena *arena, const char *key,
				       const struct caller *caller, int64_t ttl);

struct caller_entry {
	struct caller caller;
	const char *key; /* in Redis: the hash of its key */
	int64_t ttl;     /* seconds left; -1: it never ends */
};

struct caller_list {
	size_t count;
	struct caller_entry *items; /* sorted by name */
};

/* All callers, by scan. */
const struct error *store_caller_list(struct app *app, struct arena *arena, struct caller_list *list);

/* Delete every caller of this name; *count of them. */
const struct error *store_caller_delete(struct app *app, struct arena *arena, const char *name, size_t *count);

/* ---- store_state.c: oauth_state:<sha256 of the whole state>, integrations:states:{...} ---- */

struct oauth_state {
	struct connection_key connection_key;
	const char *binding;    /* session.binding of who began */
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
const struct error *store_state_admit(struct app *app, struct arena *arena, const struct connection_key *connection,
				      unsigned limit, int64_t *retry_after, bool *removed);

/* Store `state` (the whole text) for STORE_STATE_SECONDS, verifier and nonce sealed. */
const struct error *store_state_write(struct app *app, struct arena *arena, const char *state,
				      const struct oauth_state *row);

/*
 * Read and delete in one atomic step: of any number of callers one gets it. *found is false when there is none, or its
 * secrets do not open (then it is gone, too).
 */
const struct error *store_state_take(struct app *app, struct arena *arena, const char *state, struct oauth_state *out,
				     bool *found);

/* ---- store_integration.c: integration:{...}:<service> and credential:{...}:<service> ---- */

struct integration {
	const char *id;
	struct connection_key connection_key;
	const char *status;        /* "valid", "invalid", "unknown" */
	const char *status_reason; /* NULL: none */
	const char *oauth_user_id;
	const char *oauth_email; /* NULL: not known */
	struct words scopes;
	struct words missing_scopes;
	bool member_removed;      /* a tombstone of the member stands (read with the tokens only) */
	const char *connected_at; /* RFC 3339 */
	const char *updated_at;
	const char *validated_at; /* NULL: never */
	const char *generation;   /* 32 hex digits, new at every write of tokens */
};

enum credential_state {
	CREDENTIAL_OPEN,       /* tokens are readable */
	CREDENTIAL_UNREADABLE, /* sealed values do not open here */
	CREDENTIAL_FOREIGN     /* issuer or client id is no longer the provider file's: sent nowhere */
};

struct credential {
	enum credential_state state;
	const char *access_token;
	const char *refresh_token;
	bool refresh_token_kept; /* it is the stored one: a write of a refresh leaves that as it is */
	int64_t issued_at;       /* wall clock, seconds */
	int64_t expires_at;
	int64_t vended_until; /* latest expiry of a token given to a program; 0: none was */
	int64_t forced_at;    /* when a refused token last made a refresh due before its time; 0: never */
	const char *issuer;
	const char *client_id;
};

/*
 * Note that the access token is handed to a program (until when DELETE cannot take access back). *noted is false when
 * the connection is gone: its token is not to be handed out any more.
 */
const struct error *store_integration_vended(struct app *app, struct arena *arena,
					     const struct integration *integration, const struct credential *credential,
					     bool *noted);

/* Note that the provider refused the access token (forced_at is now): whoever reads after this refreshes it. */
const struct error *store_integration_refused(struct app *app, struct arena *arena,
					      const struct integration *integration);

/* One connection's record; *found is false when nothing is stored. */
const struct error *store_integration_read(struct app *app, struct arena *arena,
					   const struct connection_key *connection, struct integration *out,
					   bool *found);

/* Whether something else is stored now than `seen`: tokens, status, or nothing any more. A small read, for those who
 * wait. */
const struct error *store_integration_changed(struct app *app, struct arena *arena, const struct integration *seen,
					      bool *changed);

/* What an access token must have to be handed out as it is. */
struct vend_condition {
	int64_t expires_at; /* or later */
	const struct words *scopes;
	bool brief; /* a record without email, missing scopes and validated_at will do: none is to be stored */
};

/*
 * One record with its tokens, of one moment, in one round. For `condition` (NULL: it is not for that) a token that has
 * what it must have is in most cases noted as handed out in the same step, so that a DELETE comes either before it or
 * knows of it; else store_integration_vended does it.
 */
const struct error *store_integration_read_tokens(struct app *app, struct arena *arena, const struct provider *provider,
						  const struct connection_key *connection,
						  const struct vend_condition *condition, struct integration *out,
						  struct credential *credential, bool *found);

/*
 * The user's records in an organization for all enabled services, sorted by service. `prefetched` is what was read for
 * this organization together with the session; it is used if it is this user's.
 */
const struct error *store_integration_list(struct app *app, struct arena *arena, const char *organization,
					   const char *user, const struct prefetched_records *prefetched,
					   struct integration **out, size_t *count);

enum store_outcome {
	STORE_CREATED,     /* there was none */
	STORE_RECONNECTED, /* same account: id and connected_at kept */
	STORE_REPLACED,    /* another account was there; *old and *old_credential are what it was */
	STORE_MISMATCH,    /* another account is there and `replace` is false: nothing changed; *old is it */
	STORE_REMOVED      /* tombstone: nothing changed */
};

/*
 * Store a new grant in one atomic step: tombstone, comparison of accounts and write together. `integration` brings
 * account, scopes and a new id; connected_at, id and generation are settled here and filled in.
 */
const struct error *store_integration_connect(struct app *app, struct arena *arena, const struct provider *provider,
					      struct integration *integration, const struct credential *credential,
					      bool replace, enum store_outcome *outcome, struct integration *old,
					      struct credential *old_credential);

/*
 * Store refreshed tokens and their scopes, if the generation is still `generation` (compare-and-set in one step). With
 * `account_verified` the provider has named their account, and status and e-mail address are stored too; without, those
 * stay what they are by now: a validation does not change the generation. *stored is false when the record has changed
 * or is gone, or where `barred` is given (NULL: that is no matter) and the member was removed: *barred says so. On
 * success integration->generation is the new one.
 */
const struct error *store_integration_refresh(struct app *app, struct arena *arena, const struct provider *provider,
					      struct integration *integration, const struct credential *credential,
					      const char *generation, bool account_verified, bool *barred,
					      bool *stored);

/*
 * Store status, status_reason, updated_at and, where `answered`, validated_at, if the generation is still
 * integration->generation; tokens stay as they are. *stored as above.
 */
const struct error *store_integration_status(struct app *app, struct arena *arena, struct integration *integration,
					     bool answered, bool *stored);

/* A connection that was stored and is no longer. */
struct deleted_connection {
	struct integration record;
	struct credential credential;
};

struct deletion {
	bool found;                           /* something was stored, and is deleted now */
	struct deleted_connection connection; /* where found */
	struct deleted_connection *pending;   /* deleted before, with a grant that nobody came to deal with; no access
					       * token, and of the   record the account and the generation only */
	size_t pending_count;
	bool busy; /* somebody else is dealing with what was deleted before; then nothing is `pending` */
};

/*
 * Read and delete record and tokens in one atomic step, which also notes that their grant is to be dealt with
 * (store_pending_revocation.c). `provider` is NULL for a service that is no longer enabled: its tokens are
 * CREDENTIAL_FOREIGN.
 */
const struct error *store_integration_delete(struct app *app, struct arena *arena, const struct provider *provider,
					     const struct connection_key *connection, struct deletion *out);

/* For the commands: every record of an organization (of `user` only, unless NULL), by scan. */
const struct error *store_integration_scan(struct app *app, struct arena *arena, const char *organization,
					   const char *user, struct integration **out, size_t *count);

/* Likewise, for store_integration_delete: whose records there are, or whose grants that are still to be dealt with. */
const struct error *store_deletable_scan(struct app *app, struct arena *arena, const char *organization,
					 const char *user, struct connection_key **out, size_t *count);

/* ---- store_pending_revocation.c: integrations:unrevoked:{...}:<service>, integrations:unrevoked_claim:{...}:<service>
 * ---- */

/* What was deleted before, as store_integration_delete gives it, and no connection: it is never `found`. */
const struct error *store_pending_revocation_take(struct app *app, struct arena *arena, const struct provider *provider,
						  const struct connection_key *connection, struct deletion *out);

/* The grant of a deleted or replaced connection has been dealt with. Should Redis not hear of it, it is done again. */
void store_pending_revocation_done(struct app *app, struct arena *arena, const struct integration *record);

/* ---- store_member.c: removed:{organization:user}, for the commands ---- */

/* Set the tombstone; one that stands already stays as it is. *set tells whether it was set now. */
const struct error *store_member_remove(struct app *app, struct arena *arena, const char *organization,
					const char *user, bool *set);

/* Lift it; *existed tells whether there was one. */
const struct error *store_member_restore(struct app *app, struct arena *arena, const char *organization,
					 const char *user, bool *existed);

/* Everybody of whom something is stored in this organization, sorted, by scan. */
const struct error *store_member_list(struct app *app, struct arena *arena, const char *organization,
				      struct words *users);

/* ---- store_rotate.c: for the commands ---- */

#define STORE_CURSOR_SIZE 24
#define ROTATION_KEYS_MAX 64

/* The state of a rotation; begins as zeroes. */
struct rotation {
	char cursor[STORE_CURSOR_SIZE];
	bool over;
	double done;    /* part of the keys that have been looked at, 0 to 1 */
	size_t seen;    /* credentials */
	size_t current; /* were sealed under the first key already */
	size_t sealed_anew;
	size_t changed;    /* written by somebody else just then: another run tells */
	size_t unreadable; /* left as they are */
	size_t key_count;
	struct {
		char id[33]; /* "?" where a value has none */
		size_t count;
	} keys[ROTATION_KEYS_MAX]; /* how many credentials are now sealed under which key */
};

/* Look at the next page of credentials. */
const struct error *store_rotate_page(struct app *app, struct arena *arena, struct rotation *rotation);

/* ---- store_lease.c: refresh_lease:{...}:<service>, integrations:validate_lease:{...}:<service> ---- */

#define STORE_LEASE_MS 4000       /* a lease whose owner is gone is free after this */
#define STORE_LEASE_RENEW_MS 1000 /* its owner renews it this often while it works */

struct lease;

enum lease_kind { LEASE_REFRESH, LEASE_VALIDATE };

/* Take the lease when it is free. *lease is NULL when somebody else has it. It renews itself until released, or until
 * this process is gone. */
const struct error *store_lease_take(struct app *app, struct arena *arena, enum lease_kind kind,
				     const struct connection_key *connection, struct lease **lease);

/* Release it where it is still ours; neither waits nor needs memory of a request. NULL is allowed. */
void store_lease_release(struct lease *lease);

/* ---- store_limit.c: integrations:limit:<what>:{...}, integrations:limit:<what>:<sha256> ---- */

/* Count one use of `what` against `limit` a minute (0: off). *retry_after > 0: the limit is reached. */
const struct error *store_limit_count(struct app *app, struct arena *arena, const char *what,
				      const struct connection_key *connection, unsigned limit, int64_t *retry_after);

/* The same for a program, by its caller's key. */
const struct error *store_limit_count_caller(struct app *app, struct arena *arena, const char *what, const char *key,
					     unsigned limit, int64_t *retry_after);

/* ---- store_refresh_failure.c: integrations:refresh_failure:{...}:<service> ---- */

/* Remember for `ms` that a refresh of this generation ended with `result` (an enum token_result); does not wait. */
void store_refresh_failure_note(struct app *app, struct arena *arena, const struct integration *record, int result,
				int64_t ms);

/* The remembered result for this generation, or 0. Whoever can write to Redis may have made it up. */
const struct error *store_refresh_failure_read(struct app *app, struct arena *arena, const struct integration *record,
					       int *result);

/* ---- store_validation.c: integrations:validated:{...}:<service> ---- */

/*
 * Say that a validation has ended and its result is stored: before it is answered, or whoever asks next would take the
 * mark, when it comes, for one of somebody who asked at the same time.
 */
void store_validation_mark(struct app *app, struct arena *arena, const struct connection_key *connection);

/* The mark of the last one, "" when there was none lately. */
const struct error *store_validation_read(struct app *app, struct arena *arena, const struct connection_key *connection,
					  const char **mark);

/* ---- store_shared_grant.c: grant:<sha256(issuer NUL account)>, integrations:revoking:<the same> ---- */

/* Say that the connection uses this grant: before it is stored. */
const struct error *store_shared_grant_add(struct app *app, struct arena *arena, const char *issuer,
					   const char *account, const struct connection_key *connection);

/* And that it does no longer: after it is deleted. */
const struct error *store_shared_grant_remove(struct app *app, struct arena *arena, const char *issuer,
					      const char *account, const struct connection_key *connection);

enum grant_use { GRANT_FREE, GRANT_SAME_USER, GRANT_OTHERS };

/*
 * Who uses the grant: stored connections with this issuer and account. GRANT_SAME_USER where the user of `connection`
 * is among them, in any organization.
 */
const struct error *store_shared_grant_use(struct app *app, struct arena *arena, const char *issuer,
					   const char *account, const struct connection_key *connection,
					   enum grant_use *use);

/*
 * Say that the grant may be about to be revoked: before asking who uses it, so that a connection that is stored after
 * that answer sees it. *owner is for the end.
 */
const struct error *store_shared_grant_revoking(struct app *app, struct arena *arena, const char *issuer,
						const char *account, const char **owner);

/* And that this one is over, one way or the other; does not wait. Not where the provider gave no answer: the revocation
 * may still come about. */
void store_shared_grant_revoking_over(struct app *app, struct arena *arena, const char *issuer, const char *account,
				      const char *owner);

struct grant_revocation {
	bool known;     /* there was one lately, or there is */
	bool under_way; /* at least one */
	int64_t age_ms; /* since the last was over, or since it began */
};

/* The last revocations of the grant: after a connection is stored. */
const struct error *store_shared_grant_revocation(struct app *app, struct arena *arena, const char *issuer,
						  const char *account, struct grant_revocation *out);

/* ---- store_event.c: events:{organization}, events:{organization}:use ---- */

/*
 * Append an audit entry without waiting; one that Redis does not take is counted and logged. `event`: connected,
 * reconnected, replaced, disconnected, refresh_failed, removed, state_refused, account_mismatch, caller_forbidden (kept
 * 90 days). `actor`: "user:<id>", "caller:<name>", "agent:<name> for user:<id>" or "operator".
 */
void store_event_append(struct app *app, struct arena *arena, const char *event, const char *actor,
			const struct connection_key *connection, const char *outcome, const char *request_id);

/*
 * The same, but only where the organization has such a stream: for what names an organization that may be invented. A
 * stream has no expiry, so each would stay for ever.
 */
void store_event_append_known(struct app *app, struct arena *arena, const char *event, const char *actor,
			      const struct connection_key *connection, const char *outcome, const char *request_id);

/* ---- store_use.c: events:{organization}:use, integrations:audit_uses:{organization}:<sha256(actor)> ---- */

/*
 * The same for what uses a connection: validated, refreshed, token_issued, of which AUDIT_USES are kept. Repeated
 * within a minute it only raises a counter of `app->uses`; where that is NULL (commands) every use is an entry.
 */
void store_event_use(struct app *app, struct arena *arena, const char *event, const char *actor,
		     const struct connection_key *connection, const char *outcome, const char *request_id);

#define STORE_USES_MINUTE_MS 60000

/* The counters of a worker. NULL without memory. */
struct uses *store_uses_open(struct app *app, int64_t minute_ms);
/* Write what they have counted; from now on every use is an entry. */
void store_uses_end(struct uses *uses);
void store_uses_close(struct uses *uses);

/* An entry; absent fields are NULL. */
struct event {
	const char *id; /* milliseconds since 1970, '-', a number */
	const char *event;
	const char *actor;
	const char *user;
	const char *service;
	const char *outcome;
	const char *request_id;
	const char *count; /* further uses in the minute that the entry with this request_id began */
};

#define STORE_EVENTS_MAX 500

/* For the commands: at most STORE_EVENTS_MAX entries after id `after` ("0": all), of the stream of uses or of changes.
 */
const struct error *store_event_read(struct app *app, struct arena *arena, const char *organization, bool uses,
				     const char *after, struct event **out, size_t *count);

#endif
