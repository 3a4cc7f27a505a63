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
const char *store_seal_open(const struct app *app, struct arena *arena, const struct seal_context *context,
			    const char *sealed);

/*
 * The fields that a read of a record and of its tokens asks for, in this order, in C and in Lua: the enums below and
 * the macros belong together. Behind STORE_RECORD_BRIEF there is what only members read. What else a record holds
 * (organization_id, user_id, service) repeats its key for people who look into Redis.
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

/* A further argument of a Lua call. */
#define STORE_LUA_FIELD(name) ",'" name "'"

/* The two reads as Lua expressions. */
#define STORE_LUA_RECORD "redis.call('HMGET', KEYS[1]" STORE_RECORD_FIELDS(STORE_LUA_FIELD) ")"
#define STORE_LUA_CREDENTIAL "redis.call('HMGET', KEYS[2]" STORE_CREDENTIAL_FIELDS(STORE_LUA_FIELD) ")"

/*
 * For scripts that delete or replace a connection, KEYS[3] and KEYS[4] being those of store_pending_revocation.c:
 * before it is gone, and when it is. This order, because Redis without memory refuses a script whose first write needs
 * some.
 */
#define STORE_LUA_LEAVING                                                                                              \
	"local whose = redis.call('HMGET', KEYS[1], 'generation', 'oauth_user_id')\n"                                  \
	"local gone = redis.call('HMGET', KEYS[2], 'client_id', 'issuer', 'handed_out_until', 'refresh_token')\n"
#define STORE_LUA_LEFT                                                                                                 \
	"if gone[1] and gone[2] and gone[4] then\n"                                                                    \
	"  redis.call('HSET', KEYS[3], whose[1] or '',\n"                                                              \
	"    table.concat({gone[1], gone[2], gone[3] or '0', gone[4], whose[2] or ''}, '\\n'))\n"                      \
	"  redis.call('EXPIRE', KEYS[3], '" STORE_PENDING_REVOCATION_SECONDS "')\n" STORE_LUA_CLAIM "end\n"
#define STORE_LUA_CLAIM "redis.call('SET', KEYS[4], '1', 'PX', '" STORE_CLAIM_MS "')\n"
#define STORE_PENDING_REVOCATION_SECONDS "86400"
#define STORE_CLAIM_MS "4000" /* longer than a revocation may take: TOKENS_REVOKE_MS */

/* KEYS of such a script. */
const char *const *store_pending_revocation_keys(struct arena *arena, const struct connection_key *connection);

/* What is left, from the reply to HGETALL. */
void store_pending_revocation_parse(const struct app *app, struct arena *arena, const struct provider *provider,
				    const struct connection_key *connection, const struct redis_reply *reply,
				    struct deletion *out);

/* And the form of their replies (redis_reply_shape.h). */
#define STORE_SHAPE_FIELD(name) "S"
#define STORE_SHAPE_RECORD "(" STORE_RECORD_FIELDS(STORE_SHAPE_FIELD) ")"
#define STORE_SHAPE_CREDENTIAL "(" STORE_CREDENTIAL_FIELDS(STORE_SHAPE_FIELD) ")"

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

/* Its tokens from the reply to theirs; nothing stored is CREDENTIAL_UNREADABLE. */
void store_credential_parse(const struct app *app, struct arena *arena, const struct provider *provider,
			    const struct connection_key *connection, const struct redis_reply *reply,
			    struct credential *out);

/* Run one script; its reply, or NULL with *error. */
const struct redis_reply *store_run_script(struct app *app, struct arena *arena, const struct redis_script *script,
					   const char *const *keys, const char *const *arguments, bool reads,
					   const struct error **error);

/* Count against `limit` a minute under `key`; where `removed_key` is not NULL and exists: *removed, and no count. */
const struct error *store_limit_run(struct app *app, struct arena *arena, const char *key, const char *removed_key,
				    unsigned limit, int64_t *retry_after, bool *removed);

/*
 * One page of a scan for `pattern`: *keys, perhaps none. `cursor` begins as "0" and is "0" again after the last page.
 */
const struct error *store_scan_page(struct app *app, struct arena *arena, const char *pattern,
				    char cursor[STORE_CURSOR_SIZE], struct words *keys);

/*
 * A scan for `pattern` from its beginning to its end: fn(arg, page, keys) for each page that found any. `page` is
 * memory that is used again for the next one; it is as large as `arena` may become, which holds nothing of it.
 */
typedef void store_page_function(void *arg, struct arena *page, const struct words *keys);
const struct error *store_scan(struct app *app, struct arena *arena, const char *pattern, store_page_function *fn,
			       void *arg);

/* What store_key_connection has put together; false for any other key. */
bool store_key_parse(struct arena *arena, const char *kind, const char *key, struct connection_key *out);

/* Each file's scripts, for store_prepare. */
void store_caller_prepare(void);
void store_integration_prepare(void);
void store_integration_write_prepare(void);
void store_rotate_prepare(void);

#endif
