/* store_integration.c: integration:{...}:<service> and credential:{...}:<service>. */
#ifndef FCGI_STORE_INTEGRATION_H
#define FCGI_STORE_INTEGRATION_H

#include "common/text.h"
#include "fcgi/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct prefetched_records;

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
	int64_t issued_at; /* wall clock, seconds */
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
const struct error *store_integration_vended(struct task *task, const struct integration *integration,
					     const struct credential *credential, bool *noted);

/* Note that the provider refused the access token (forced_at is now): the next reader refreshes it. */
const struct error *store_integration_refused(struct task *task, const struct integration *integration);

/* One connection's record; *found is false when nothing is stored. */
const struct error *store_integration_read(struct task *task, struct integration *out, bool *found);

/* Whether something else is stored now than `seen`: tokens, status, or nothing any more. A small read, for requests
 * that wait. */
const struct error *store_integration_changed(struct task *task, const struct integration *seen, bool *changed);

/* What an access token must have to be handed out as it is. */
struct vend_condition {
	int64_t expires_at; /* or later */
	const struct words *scopes;
	bool brief; /* a record without email, missing scopes and validated_at will do: the caller stores none */
};

/*
 * One record with its tokens, of one moment, in one round. For `condition` (NULL: it is not for that) a token that has
 * what it must have is in most cases noted as handed out in the same step, so that a DELETE comes either before it or
 * knows of it; else store_integration_vended does it.
 */
const struct error *store_integration_read_tokens(struct task *task, const struct vend_condition *condition,
						  struct integration *out, struct credential *credential, bool *found);

/*
 * The user's records in an organization for all enabled services, sorted by service. `prefetched` is what was read for
 * this organization together with the session; it is used if it is this user's.
 */
const struct error *store_integration_list(struct task *task, const char *organization, const char *user,
					   const struct prefetched_records *prefetched, struct integration **out,
					   size_t *count);

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
const struct error *store_integration_connect(struct task *task, struct integration *integration,
					      const struct credential *credential, bool replace,
					      enum store_outcome *outcome, struct integration *old,
					      struct credential *old_credential);

/*
 * Store refreshed tokens and their scopes, if the generation is still `generation` (compare-and-set in one step). With
 * `account_verified` the provider has named their account, and status and e-mail address are stored too; without, those
 * stay what they are by now: a validation does not change the generation. *stored is false when the record has changed
 * or is gone, or where `barred` is given (NULL: it does not matter) and the member was removed: *barred says so. On
 * success integration->generation is the new one.
 */
const struct error *store_integration_refresh(struct task *task, struct integration *integration,
					      const struct credential *credential, const char *generation,
					      bool account_verified, bool *barred, bool *stored);

/*
 * Store status, status_reason, updated_at and, where `answered`, validated_at, if the generation is still
 * integration->generation; tokens stay as they are. *stored as above.
 */
const struct error *store_integration_status(struct task *task, struct integration *integration, bool answered,
					     bool *stored);

/* A connection that was deleted or replaced. */
struct deleted_connection {
	struct integration record;
	struct credential credential;
};

struct deletion {
	bool found;                           /* something was stored, and is deleted now */
	struct deleted_connection connection; /* where found */
	struct deleted_connection *pending;   /* deleted before, with a grant that no worker has dealt with; no access
					       * token, and of the record the account and the generation only */
	size_t pending_count;
	bool busy; /* another request deals with what was deleted before; then nothing is `pending` */
};

/*
 * Read and delete record and tokens in one atomic step, which also notes that a worker must deal with their grant
 * (store_pending_revocation.c). `provider` is NULL for a service that is no longer enabled: its tokens are
 * CREDENTIAL_FOREIGN.
 */
const struct error *store_integration_delete(struct task *task, struct deletion *out);

/* For the commands: every record of an organization (of `user` only, unless NULL), by scan. */
const struct error *store_integration_scan(struct task *task, const char *organization, const char *user,
					   struct integration **out, size_t *count);

/* Likewise, for store_integration_delete: whose records there are, or whose grants that are still to be dealt with. */
const struct error *store_deletable_scan(struct task *task, const char *organization, const char *user,
					 struct connection_key **out, size_t *count);

#endif
