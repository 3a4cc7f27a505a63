/*
 * What the store_*.c files share: key formats, the fields of a connection, the sealing context. Only they include this.
 */
#ifndef FCGI_STORE_INTERNAL_H
#define FCGI_STORE_INTERNAL_H

#include "common/redis.h"
#include "common/seal.h"
#include "common/text.h"
#include "fcgi/store.h"
#include "fcgi/store_rotate.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct app;
struct arena;
struct credential;
struct deletion;
struct error;
struct integration;
struct provider;

/* "<kind>:{organization:user}:<service>" */
char *store_key_connection(struct arena *arena, const char *kind, const struct connection_key *connection);

/* "<kind>:{organization:user}" */
char *store_key_member(struct arena *arena, const char *kind, const struct connection_key *connection);

/* "<kind>:<hex SHA-256 of text>" */
char *store_key_hashed(struct arena *arena, const char *kind, const char *text);

struct seal_context store_seal_context(const struct app *app, const struct connection_key *connection,
				       const char *field, const char *issuer, const char *client_id);

/* As seal_open; a key that was put into the key ring's file since the start is looked for there. */
const char *store_seal_open(const struct task *task, const struct seal_context *context, const char *sealed);

#define STORE_ACCESS_TOKEN "credential.access_token"
#define STORE_REFRESH_TOKEN "credential.refresh_token"

/* What a token of a connection is sealed for. */
struct store_token_place {
	struct connection_key connection_key;
	const char *field;      /* one of these two */
	const char *account;    /* of the record; NULL: it has none */
	const char *generation; /* likewise */
	const char *issuer;
	const char *client_id;
};

/* In the form that SEAL_VERSION says; `expires_at` is the access token's. NULL when seal() gives that. */
const char *store_token_seal(const struct task *task, const struct store_token_place *place, const char *token,
			     int64_t expires_at);

/* NULL when it does not open there, or has a form that is not accepted. *expires_at of an access token is put forward
 * where the sealed one is earlier. */
const char *store_token_open(const struct task *task, const struct store_token_place *place, const char *sealed,
			     int64_t *expires_at);

/* Are record and credential of different writes? Credentials of long ago, and damaged records, have no generation. */
bool store_is_torn(const char *record_generation, const char *credential_generation);

/*
 * The fields that a read of a record and of its tokens asks for, in this order, in C and in Lua
 * (fcgi/lua/connection.lua): the enums below and the macros belong together. Behind STORE_RECORD_BRIEF there is what
 * only members read. What else a record holds (organization_id, user_id, service) repeats its key for people who look
 * into Redis.
 */
#define STORE_RECORD_FIELDS(X)                                                                                         \
	X("id")                                                                                                        \
	X("status")                                                                                                    \
	X("oauth_user_id")                                                                                             \
	X("scopes")                                                                                                    \
	X("connected_at")                                                                                              \
	X("updated_at")                                                                                                \
	X("generation")                                                                                                \
	X("status_reason")                                                                                             \
	X("oauth_email")                                                                                               \
	X("missing_scopes")                                                                                            \
	X("validated_at")

enum store_record_field {
	STORE_RECORD_ID,
	STORE_RECORD_STATUS,
	STORE_RECORD_OAUTH_USER_ID,
	STORE_RECORD_SCOPES,
	STORE_RECORD_CONNECTED_AT,
	STORE_RECORD_UPDATED_AT,
	STORE_RECORD_GENERATION,
	STORE_RECORD_STATUS_REASON,
	STORE_RECORD_BRIEF,
	STORE_RECORD_OAUTH_EMAIL = STORE_RECORD_BRIEF,
	STORE_RECORD_MISSING_SCOPES,
	STORE_RECORD_VALIDATED_AT,
	STORE_RECORD_COUNT
};

#define STORE_CREDENTIAL_FIELDS(X)                                                                                     \
	X("access_token")                                                                                              \
	X("refresh_token")                                                                                             \
	X("issued_at")                                                                                                 \
	X("expires_at")                                                                                                \
	X("handed_out_until")                                                                                          \
	X("forced_at")                                                                                                 \
	X("issuer")                                                                                                    \
	X("client_id")                                                                                                 \
	X("generation")

enum store_credential_field {
	STORE_CREDENTIAL_ACCESS_TOKEN,
	STORE_CREDENTIAL_REFRESH_TOKEN,
	STORE_CREDENTIAL_ISSUED_AT,
	STORE_CREDENTIAL_EXPIRES_AT,
	STORE_CREDENTIAL_VENDED_UNTIL,
	STORE_CREDENTIAL_FORCED_AT,
	STORE_CREDENTIAL_ISSUER,
	STORE_CREDENTIAL_CLIENT_ID,
	STORE_CREDENTIAL_GENERATION,
	STORE_CREDENTIAL_COUNT
};

/* The shape of the replies to these two reads (redis_reply_shape.h). */
#define STORE_SHAPE_FIELD(name) "S"
#define STORE_SHAPE_RECORD "(" STORE_RECORD_FIELDS(STORE_SHAPE_FIELD) ")"
#define STORE_SHAPE_CREDENTIAL "(" STORE_CREDENTIAL_FIELDS(STORE_SHAPE_FIELD) ")"

/* KEYS[3] and KEYS[4] of a script that deletes or replaces a connection (fcgi/lua/pending.lua), behind its record and
 * tokens. */
const char *const *store_pending_revocation_keys(struct arena *arena, const struct connection_key *connection);

/* The pending revocations, from the reply to HGETALL. */
void store_pending_revocation_parse(const struct task *task, const struct redis_reply *reply, struct deletion *out);

/* Add the read of a record. */
void store_record_add(struct redis_batch *batch, const struct connection_key *connection);

/* Add the reads of a user's records of the enabled services from `from` on, as many as a batch still holds. */
void store_records_add(struct app *app, struct redis_batch *batch, const char *organization, const char *user,
		       size_t from);

/*
 * A record from the reply to its fields; false when nothing is stored. One that lacks what every record has is there
 * all the same: `unknown`, `tokens_unreadable`.
 */
bool store_record_parse(struct arena *arena, const struct connection_key *connection, const struct redis_reply *reply,
			struct integration *out);

/* Its tokens from the reply to theirs; what is not stored, or of another write than the record, is
 * CREDENTIAL_UNREADABLE. */
void store_credential_parse(const struct task *task, const struct provider *provider, const struct integration *record,
			    const struct redis_reply *reply, struct credential *out);

/* Run one script; its reply, or NULL with *error. */
const struct redis_reply *store_run_script(struct task *task, const struct redis_script *script,
					   const char *const *keys, const char *const *arguments, bool reads,
					   const struct error **error);

/* Count against `limit` a minute under `key`; where `removed_key` is not NULL and exists: *removed, and no count. */
const struct error *store_limit_run(struct task *task, const char *key, const char *removed_key, unsigned limit,
				    int64_t *retry_after, bool *removed);

/*
 * One page of a scan for `pattern`: *keys, perhaps none. `cursor` begins as "0" and is "0" again after the last page.
 */
const struct error *store_scan_page(struct task *task, const char *pattern, char cursor[STORE_CURSOR_SIZE],
				    struct words *keys);

/*
 * A scan for `pattern` from its beginning to its end: fn(arg, page, keys) for each page that found any. `page` is
 * memory that is used again for the next one; it is as large as `arena` may become, which holds nothing of it.
 */
typedef void store_page_function(void *arg, struct arena *page, const struct words *keys);
const struct error *store_scan(struct task *task, const char *pattern, store_page_function *fn, void *arg);

/* Sort what a scan found, at least one item, and drop what it found twice: how many are left. */
size_t store_sort_unique(void *items, size_t count, size_t size, int (*compare)(const void *, const void *));

/* What store_key_connection has put together; false for any other key. */
bool store_key_parse(struct arena *arena, const char *kind, const char *key, struct connection_key *out);

/* Words that are sent again and again, for store_prepare. */
void store_caller_prepare(void);
void store_integration_prepare(void);

#endif
