/*
 * Who shares a grant: one account at one provider gives one grant to us, however many connections use it, and revoking
 * it ends them all. grant:<hex SHA-256(issuer NUL account)> names them. It lies on another node than the connections,
 * so it is only a hint of where to look: it may name too many, never too few. A request that takes a name out looks
 * once more afterwards, and puts it back when a connection was stored meanwhile; a request that stores one names it
 * before and after.
 *
 * Between the look and the revocation a member may connect the same account. So a request that means to revoke says so
 * first, in integrations:revoking:<the same hash>, and looks who uses the grant after that; a request that connects
 * stores first and reads that key after that. One of the two sees the other, and then it is the new connection that has
 * to ask the provider whether it lives (tokens_revoke.c). The key is never deleted: its age tells whether what the
 * provider gave is newer than the last revocation. Several may be on their way at once, so it names them all, and none
 * of them is over before the last one is.
 */
#include "fcgi/store_shared_grant.h"

#include "common/arena.h"
#include "common/crypto.h"
#include "common/error.h"
#include "common/random.h"
#include "fcgi/app.h"
#include "fcgi/store_internal.h"
#include "fcgi/task.h"

#include <string.h>

#define MEMBERS_AT_ONCE (REDIS_BATCH_MAX / 2) /* each needs two commands */

/* What is stored under a member's keys. */
struct holding {
	struct connection_key connection_key;
	const char *account; /* NULL: no record, or a damaged one */
	const char *issuer;
	bool empty; /* nothing at all */
};

#define KIND "integrations:revoking"
#define OVER "over"
#define KEEP_MS 15000 /* longer than a revocation, and than the way from a code's exchange to the stored connection */

static const struct redis_script begin_script = {
    .shape = "[1,1]",
#include "build/lua/grant_revoking.lua.h"
};

static const struct redis_script over_script = {
    .shape = "[1,1]",
#include "build/lua/grant_revoking_over.lua.h"
};

/* "<kind>:<hash of the grant>" */
static char *
grant_key(struct arena *arena, const char *kind, const char *issuer, const char *account)
{
	size_t issuer_len = strlen(issuer);
	size_t account_len = strlen(account);
	char *text = arena_alloc(arena, issuer_len + 1 + account_len);
	char *key = arena_alloc(arena, strlen(kind) + 1 + CRYPTO_SHA256_HEX);
	uint8_t digest[CRYPTO_SHA256_SIZE];

	memcpy(text, issuer, issuer_len);
	memcpy(text + issuer_len + 1, account, account_len);
	crypto_sha256(text, issuer_len + 1 + account_len, digest);
	text_hex(digest, sizeof digest, stpcpy(stpcpy(key, kind), ":"));
	return key;
}

static char *
member_name(struct arena *arena, const struct connection_key *connection)
{
	return arena_format(arena, "%s:%s:%s", connection->organization, connection->user, connection->service);
}

/* False where `name` is not a member of ours. */
static bool
member_parse(struct arena *arena, const char *name, struct connection_key *out)
{
	const char *first = name != NULL ? strchr(name, ':') : NULL;
	const char *second = first != NULL ? strchr(first + 1, ':') : NULL;

	if (second == NULL)
		return false;
	out->organization = arena_copy(arena, name, (size_t)(first - name));
	out->user = arena_copy(arena, first + 1, (size_t)(second - first - 1));
	out->service = second + 1;
	return text_is_id(out->organization) && text_is_id(out->user) && text_is_name(out->service);
}

static void
add_holding(struct redis_batch *batch, const struct connection_key *connection)
{
	redis_add(batch, "HMGET", store_key_connection(batch->arena, "integration", connection), "oauth_user_id", "id",
		  NULL);
	redis_add(batch, "HMGET", store_key_connection(batch->arena, "credential", connection), "issuer",
		  "refresh_token", NULL);
}

static void
holding_parse(const struct redis_batch *batch, size_t at, struct holding *out)
{
	const struct redis_reply *record = batch->reply[at];
	const struct redis_reply *credential = batch->reply[at + 1];

	out->account = redis_item(record, 0);
	out->issuer = redis_item(credential, 0);
	out->empty = out->account == NULL && out->issuer == NULL && redis_item(record, 1) == NULL &&
		     redis_item(credential, 1) == NULL;
}

/* Without tokens that name an issuer, the account alone decides: too many rather than too few. */
static bool
is_holding(const struct holding *holding, const char *issuer, const char *account)
{
	return text_equal(holding->account, account) &&
	       (holding->issuer == NULL || text_equal(holding->issuer, issuer));
}

static const struct error *
change_holders(struct task *task, const char *command, const char *key, const char *name)
{
	struct redis_batch batch;

	redis_batch_init(&batch, task->arena);
	redis_add(&batch, command, key, name, NULL);
	return redis_run(task->app->redis, &batch, false);
}

static const struct error *
is_holder(struct task *task, const char *issuer, const char *account, const struct connection_key *connection,
	  bool *held)
{
	struct holding holding;
	struct redis_batch batch;
	const struct error *error;

	*held = true;
	redis_batch_init(&batch, task->arena);
	add_holding(&batch, connection);
	error = redis_run(task->app->redis, &batch, true);
	if (error != NULL)
		return error;
	holding_parse(&batch, 0, &holding);
	*held = is_holding(&holding, issuer, account);
	return NULL;
}

/*
 * Take a name out, unless a connection with this account is there; back in when one is there now. The first look keeps
 * a name that was stored long ago from being out even for a moment.
 */
static const struct error *
take_out(struct task *task, const char *key, const char *issuer, const char *account,
	 const struct connection_key *connection)
{
	const char *name = member_name(task->arena, connection);
	const struct error *error;
	bool held;

	error = is_holder(task, issuer, account, connection, &held);
	if (error != NULL || held)
		return error;
	error = change_holders(task, "SREM", key, name);
	if (error != NULL)
		return error;
	if (is_holder(task, issuer, account, connection, &held) != NULL || held)
		return change_holders(task, "SADD", key, name);
	return NULL;
}

const struct error *
store_shared_grant_add(struct task *task, const char *issuer, const char *account)
{
	return change_holders(task, "SADD", grant_key(task->arena, "grant", issuer, account),
			      member_name(task->arena, &task->connection_key));
}

const struct error *
store_shared_grant_remove(struct task *task, const char *issuer, const char *account)
{
	return take_out(task, grant_key(task->arena, "grant", issuer, account), issuer, account, &task->connection_key);
}

/* What the members [from, from + count) hold, one round. */
static const struct error *
read_holdings(struct task *task, struct holding *holdings, size_t count)
{
	struct redis_batch batch;
	const struct error *error;

	redis_batch_init(&batch, task->arena);
	for (size_t i = 0; i < count; i++)
		add_holding(&batch, &holdings[i].connection_key);
	error = redis_run(task->app->redis, &batch, true);
	if (error != NULL)
		return error;
	for (size_t i = 0; i < count; i++)
		holding_parse(&batch, 2 * i, &holdings[i]);
	return NULL;
}

/* The members of the set, as holdings still to be looked up. */
static const struct error *
read_holders(struct task *task, const char *key, struct holding **out, size_t *count)
{
	struct redis_batch batch;
	const struct error *error;

	*count = 0;
	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "SMEMBERS", key, NULL);
	error = redis_run(task->app->redis, &batch, true);
	if (error != NULL)
		return error;
	*out = arena_alloc(task->arena, (batch.reply[0]->count + 1) * sizeof **out);
	for (size_t i = 0; i < batch.reply[0]->count; i++) {
		struct holding *holding = &(*out)[*count];

		if (member_parse(task->arena, redis_item(batch.reply[0], i), &holding->connection_key))
			(*count)++;
	}
	return NULL;
}

/* What one holding says about the grant; names without anything stored are taken out of the set. */
static const struct error *
assess_holding(struct task *task, const char *key, const char *issuer, const char *account,
	       const struct connection_key *connection, const struct holding *holding, enum grant_use *use)
{
	if (holding->empty)
		return take_out(task, key, issuer, account, &holding->connection_key);
	if (!is_holding(holding, issuer, account))
		return NULL;
	if (text_equal(holding->connection_key.user, connection->user))
		*use = GRANT_SAME_USER;
	else if (*use == GRANT_FREE)
		*use = GRANT_OTHERS;
	return NULL;
}

const struct error *
store_shared_grant_use(struct task *task, const char *issuer, const char *account, enum grant_use *use)
{
	const char *key = grant_key(task->arena, "grant", issuer, account);
	struct holding *holdings;
	const struct error *error;
	size_t count;

	*use = GRANT_FREE;
	error = read_holders(task, key, &holdings, &count);
	if (error != NULL)
		return error;
	for (size_t from = 0; from < count && *use != GRANT_SAME_USER; from += MEMBERS_AT_ONCE) {
		size_t some = count - from < MEMBERS_AT_ONCE ? count - from : MEMBERS_AT_ONCE;

		error = read_holdings(task, holdings + from, some);
		if (error != NULL)
			return error;
		for (size_t i = from; i < from + some; i++) {
			error = assess_holding(task, key, issuer, account, &task->connection_key, &holdings[i], use);
			if (error != NULL)
				return error;
		}
	}
	return NULL;
}

/* ---- revocations under way ---- */

const struct error *
store_shared_grant_revoking(struct task *task, const char *issuer, const char *account, const char **owner)
{
	const char *const keys[] = {grant_key(task->arena, KIND, issuer, account), NULL};
	const char *mine = random_id(task->arena);
	const char *const arguments[] = {mine, arena_format(task->arena, "%d", KEEP_MS), NULL};
	const struct error *error;

	*owner = mine;
	(void)store_run_script(task, &begin_script, keys, arguments, false, &error);
	return error;
}

void
store_shared_grant_revoking_over(struct task *task, const char *issuer, const char *account, const char *owner)
{
	const char *const keys[] = {grant_key(task->arena, KIND, issuer, account), NULL};
	const char *const arguments[] = {owner, OVER, arena_format(task->arena, "%d", KEEP_MS), NULL};
	struct redis_batch batch;

	redis_batch_init(&batch, task->arena);
	redis_add_script(&batch, &over_script, keys, arguments);
	(void)redis_send(task->app->redis, &batch, "end of a revocation");
}

const struct error *
store_shared_grant_revocation(struct task *task, const char *issuer, const char *account, struct grant_revocation *out)
{
	const char *key = grant_key(task->arena, KIND, issuer, account);
	struct redis_batch batch;
	const struct error *error;

	*out = (struct grant_revocation){0};
	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "GET", key, NULL);
	redis_add(&batch, "PTTL", key, NULL);
	error = redis_run(task->app->redis, &batch, true);
	if (error != NULL)
		return error;
	out->known = batch.reply[0]->type == REDIS_STRING && batch.reply[1]->integer >= 0;
	if (!out->known)
		return NULL;
	out->under_way = !text_equal(batch.reply[0]->text, OVER);
	out->age_ms = KEEP_MS - batch.reply[1]->integer;
	return NULL;
}
