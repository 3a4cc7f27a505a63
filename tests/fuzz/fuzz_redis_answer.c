/*
 * Redis as an enemy: each reader of the store with replies out of the input. The first byte chooses the reader, its
 * highest bit that the replies come in pieces; '~' divides the replies to several commands. With the next bit it is run
 * again and again, each time with one reply less before the connection closes. Whatever Redis says, what comes out is
 * an error, nothing, or what the structs promise; no token but the known ones.
 */
#include "common/error.h"
#include "common/redis.h"
#include "common/text.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/hints.h"
#include "fcgi/provider.h"
#include "fcgi/store_caller.h"
#include "fcgi/store_event.h"
#include "fcgi/store_integration.h"
#include "fcgi/store_lease.h"
#include "fcgi/store_member.h"
#include "fcgi/store_refresh_failure.h"
#include "fcgi/store_rotate.h"
#include "fcgi/store_session.h"
#include "fcgi/store_shared_grant.h"
#include "fcgi/store_state.h"
#include "fcgi/store_validation.h"
#include "fcgi/task.h"
#include "tests/fuzz/app.h"
#include "tests/fuzz/fuzz.h"

#define SHORTER_MAX 8

static bool
is_shown(const char *text)
{
	return text == NULL || text_is_utf8(text, strlen(text));
}

static void
check_error(const struct error *error)
{
	must(error == NULL || error == &error_store_unavailable || error == &error_overloaded);
}

static void
check_record(const struct integration *record)
{
	must(record->id != NULL && record->oauth_user_id != NULL && record->generation != NULL);
	must(is_shown(record->id) && is_shown(record->oauth_user_id) && is_shown(record->oauth_email));
	must(is_shown(record->status_reason) && is_shown(record->connected_at) && is_shown(record->updated_at));
	must(record->connected_at != NULL && record->updated_at != NULL);
	must(text_equal(record->status, "valid") || text_equal(record->status, "invalid") ||
	     text_equal(record->status, "unknown"));
	for (size_t i = 0; i < record->scopes.count; i++)
		must(is_shown(record->scopes.items[i]));
}

static void
check_tokens(const struct credential *credential)
{
	must(credential->issued_at >= 0 && credential->expires_at >= 0 && credential->vended_until >= 0);
	must((credential->state == CREDENTIAL_OPEN) ==
	     (credential->access_token != NULL && credential->refresh_token != NULL));
	if (credential->state == CREDENTIAL_OPEN) {
		must(strcmp(credential->refresh_token, "1//MARKER-corpus") == 0);
		must(strcmp(credential->access_token, "ya29.MARKER-corpus") == 0);
		must(text_equal(credential->issuer, "https://accounts.google.com"));
	}
}

static void
check_session(const struct session *session)
{
	must(text_is_id(session->user) && session->binding != NULL);
	must(is_shown(session->email) && is_shown(session->name) && session->organization_count <= 1000);
	for (size_t i = 0; i < session->organization_count; i++) {
		must(text_is_id(session->organizations[i].id) && is_shown(session->organizations[i].role));
		must(i == 0 || strcmp(session->organizations[i - 1].id, session->organizations[i].id) <= 0);
	}
}

static void
read_whole_session(struct task *task, void *arg)
{
	struct session session;
	const struct error *error = store_session_read_all(task, "token-MARKER", &session);

	(void)arg;
	check_error(error);
	if (error == NULL && session.found)
		check_session(&session);
}

static void
check_list(struct task *task, const char *user, const struct prefetched_records *prefetched)
{
	struct integration *records;
	size_t count;

	if (store_integration_list(task, FUZZ_ORGANIZATION, user, prefetched, &records, &count) != NULL)
		return;
	must(count <= task->app->config->provider_count);
	for (size_t i = 0; i < count; i++)
		check_record(&records[i]);
}

/* Twice: the second time with the user's records, on a guess who that is. Another user never gets them. */
static void
read_session(struct task *task, void *arg)
{
	task->app->hints = hints_open();
	must(task->app->hints != NULL);
	for (int i = 0; i < 2; i++) {
		struct prefetched_records prefetched = {.user = NULL};
		struct session session;
		const struct error *error =
		    store_session_read(task, "token-MARKER", FUZZ_ORGANIZATION, &session, &prefetched);

		check_error(error);
		if (error != NULL || !session.found)
			break;
		check_session(&session);
		must(session.organization_count == 0 && (prefetched.user == NULL || i == 1));
		check_list(task, session.user, &prefetched);
	}
	hints_close(task->app->hints);
	task->app->hints = NULL;
	(void)arg;
}

static void
read_caller(struct task *task, void *arg)
{
	struct caller caller;

	(void)arg;
	check_error(store_caller_read(task, "key-MARKER", &caller));
	must(!caller.found || (caller.name != NULL && is_shown(caller.name)));
}

static void
list_callers(struct task *task, void *arg)
{
	struct caller_list list;

	(void)arg;
	if (store_caller_list(task, &list) != NULL)
		return;
	for (size_t i = 0; i < list.count; i++)
		must(list.items[i].caller.found && is_shown(list.items[i].caller.name));
}

static void
take_state(struct task *task, void *arg)
{
	struct oauth_state state;
	bool found;

	(void)arg;
	check_error(store_state_take(task, "state-MARKER.acme", &state, &found));
	if (!found)
		return;
	must(text_is_id(state.connection_key.organization) && text_is_id(state.connection_key.user));
	must(text_is_name(state.connection_key.service) && state.binding != NULL && state.credential != NULL);
	must(text_equal(state.code_verifier, "verifier-MARKER-corpus") &&
	     text_equal(state.nonce, "nonce-MARKER-corpus"));
}

static void
read_tokens_once(struct task *task, const struct vend_condition *options)
{
	struct integration record;
	struct credential credential;
	bool found;
	const struct error *error = store_integration_read_tokens(task, options, &record, &credential, &found);

	check_error(error);
	must(error == NULL || !found);
	if (found) {
		check_record(&record);
		check_tokens(&credential);
	}
}

/* To be handed out: twice, because the second time another way is taken. */
static void
read_tokens(struct task *task, void *arg)
{
	static const struct words none;
	static const struct vend_condition options = {.expires_at = 1790000000, .scopes = &none};

	task->app->hints = hints_open();
	must(task->app->hints != NULL);
	read_tokens_once(task, &options);
	read_tokens_once(task, &options);
	hints_close(task->app->hints);
	task->app->hints = NULL;
	(void)arg;
}

static void
read_tokens_only(struct task *task, void *arg)
{
	(void)arg;
	read_tokens_once(task, NULL);
}

static void
list_records(struct task *task, void *arg)
{
	static const struct prefetched_records none;

	(void)arg;
	check_list(task, FUZZ_USER, &none);
}

static void
scan_records(struct task *task, void *arg)
{
	struct integration *records;
	size_t count;

	(void)arg;
	if (store_integration_scan(task, FUZZ_ORGANIZATION, NULL, &records, &count) != NULL)
		return;
	for (size_t i = 0; i < count; i++) {
		check_record(&records[i]);
		must(strcmp(records[i].connection_key.organization, FUZZ_ORGANIZATION) == 0);
	}
}

static void
delete_record(struct task *task, void *arg)
{
	struct deletion deletion;

	(void)arg;
	check_error(store_integration_delete(task, &deletion));
	if (deletion.found) {
		check_record(&deletion.connection.record);
		check_tokens(&deletion.connection.credential);
	}
	for (size_t i = 0; i < deletion.pending_count; i++) {
		const struct deleted_connection *left = &deletion.pending[i];

		must(left->record.generation != NULL && left->record.oauth_user_id != NULL);
		must(left->credential.access_token == NULL);
		must((left->credential.state == CREDENTIAL_OPEN) ==
		     text_equal(left->credential.refresh_token, "1//MARKER-corpus"));
	}
}

static void
connect_record(struct task *task, void *arg)
{
	struct integration record = {.id = "id",
				     .connection_key = task->connection_key,
				     .status = "valid",
				     .oauth_user_id = "account",
				     .connected_at = "2026-01-01T00:00:00Z",
				     .updated_at = "2026-01-01T00:00:00Z",
				     .generation = "g"};
	struct credential credential = {.state = CREDENTIAL_OPEN,
					.access_token = "ya29.MARKER",
					.refresh_token = "1//MARKER",
					.issuer = task->provider->issuer,
					.client_id = task->provider->client.id};
	struct integration old = {0};
	struct credential old_credential;
	enum store_outcome outcome;

	(void)arg;
	if (store_integration_connect(task, &record, &credential, true, &outcome, &old, &old_credential) != NULL)
		return;
	must(outcome <= STORE_REMOVED && record.id != NULL);
	if (outcome == STORE_REPLACED || outcome == STORE_MISMATCH)
		check_record(&old);
}

static void
read_grant(struct task *task, void *arg)
{
	enum grant_use use = GRANT_OTHERS;
	struct grant_revocation last;
	int result;
	const char *mark;
	const struct integration record = {.connection_key = task->connection_key, .generation = "g"};

	(void)arg;
	check_error(store_shared_grant_use(task, "https://accounts.google.com", "account", &use));
	must(use <= GRANT_OTHERS);
	check_error(store_shared_grant_revocation(task, "https://accounts.google.com", "account", &last));
	check_error(store_refresh_failure_read(task, &record, &result));
	check_error(store_validation_read(task, &mark));
}

static void
count_limit(struct task *task, void *arg)
{
	int64_t retry_after = 0;
	bool removed = false;
	struct lease *lease = NULL;

	(void)arg;
	check_error(store_state_admit(task, 20, &retry_after, &removed));
	must(retry_after >= 0);
	check_error(store_lease_take(task, LEASE_REFRESH, &lease));
	if (lease != NULL)
		store_lease_release(lease);
}

static void
read_events(struct task *task, void *arg)
{
	struct event *events;
	size_t count;

	(void)arg;
	if (store_event_read(task, FUZZ_ORGANIZATION, false, "0", &events, &count) != NULL)
		return;
	must(count <= STORE_EVENTS_MAX);
	for (size_t i = 0; i < count; i++)
		must(events[i].id != NULL);
}

static void
rotate(struct task *task, void *arg)
{
	struct rotation rotation = {0};

	(void)arg;
	for (int i = 0; i < 8 && !rotation.over; i++) {
		if (store_rotate_page(task, &rotation) != NULL)
			return;
	}
	must(rotation.key_count <= ROTATION_KEYS_MAX && rotation.done >= 0);
}

static void
list_members(struct task *task, void *arg)
{
	struct words users;
	bool existed;

	(void)arg;
	if (store_member_list(task, FUZZ_ORGANIZATION, &users) != NULL)
		return;
	for (size_t i = 0; i < users.count; i++)
		must(text_is_id(users.items[i]));
	check_error(store_member_restore(task, FUZZ_ORGANIZATION, FUZZ_USER, &existed));
}

/* What nobody waits for, and then something that is waited for. */
static void
send_only(struct task *task, void *arg)
{
	struct redis_batch batch;
	bool found;
	struct integration record;

	(void)arg;
	check_error(store_integration_read(task, &record, &found));
	store_event_append(task, "connected", "ok");
	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "PING", NULL);
	check_error(redis_run(task->app->redis, &batch, true));
}

static void (*const readers[])(struct task *, void *) = {
    read_session, read_whole_session, read_caller,  list_callers,  take_state,     read_tokens_only,
    read_tokens,  list_records,       scan_records, delete_record, connect_record, read_grant,
    count_limit,  read_events,        rotate,       list_members,  send_only,
};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	size_t which = (data[0] & 0x3f) % (sizeof readers / sizeof readers[0]);
	struct fuzz_answers answers = {
	    .bytes = (const char *)data + 1, .len = size - 1, .at_once = (data[0] & 0x80) ? 7 : 0};

	fuzz_app_run(&answers, readers[which], NULL);
	for (int i = 0; (data[0] & 0x40) && i < SHORTER_MAX && fuzz_one_answer_less(&answers); i++)
		fuzz_app_run(&answers, readers[which], NULL);
	return 0;
}
