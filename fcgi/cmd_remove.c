/*
 * Removal of members. The tombstones come first: from then on nothing new can be stored and no token be handed out, so
 * what is found and deleted afterwards is all there is. Each look takes as long as Redis has keys, so there are two of
 * them for any number of members: who they are, and what they have. Run again after an interruption, it goes on where
 * it stopped: also with a grant whose connection was deleted already (store_pending_revocation.c).
 */
#include "common/arena.h"
#include "common/error.h"
#include "common/loop.h"
#include "common/random.h"
#include "common/text.h"
#include "fcgi/app.h"
#include "fcgi/cmd.h"
#include "fcgi/cmd_run.h"
#include "fcgi/store_event.h"
#include "fcgi/store_member.h"
#include "fcgi/store_shared_grant.h"
#include "fcgi/task.h"
#include "fcgi/tokens_disconnect.h"
#include "fcgi/tokens_revoke.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define ACTOR "operator"
#define CALLS_MS 8000
#define WORK_FIRST ((size_t)64 * 1024)

struct counts {
	size_t members;
	size_t connections;
	size_t revoked;
};

static const char *
revocation_text(const struct disconnect_result *result)
{
	if (result->revoked)
		return "revoked";
	return result->use == GRANT_SAME_USER ? "not revoked: another connection of this user needs the grant"
					      : "not revoked at the provider";
}

/* As DELETE does: forget, then revoke where no other connection uses the grant. */
static const struct error *
forget(struct task *work, const struct connection_key *connection, struct counts *counts)
{
	struct disconnect_result result;
	const struct error *error;

	work->connection_key = *connection;
	work->provider = config_provider(work->app->config, connection->service);
	work->request_id = random_id(work->arena);
	work->deadline_ms = loop_now_ms(work->app->loop) + CALLS_MS;
	error = tokens_disconnect(work, &result);
	if (error != NULL)
		return error;
	if (!result.found && !result.finished)
		return NULL;
	store_event_append(work, "removed", tokens_revocation(result.revoked, result.use));
	printf("%s %s: %s, %s\n", connection->user, connection->service,
	       result.found ? "forgotten" : "was forgotten before", revocation_text(&result));
	counts->connections += result.found ? 1 : 0;
	counts->revoked += result.revoked ? 1 : 0;
	return result.error;
}

/* The tombstone is what bars a member, with connections or without: it has an entry of its own, without a service. */
static const struct error *
bar(struct task *work, const char *organization, const char *user)
{
	const struct error *error;
	bool set;

	work->connection_key = (struct connection_key){.organization = organization, .user = user};
	work->request_id = random_id(work->arena);
	error = store_member_remove(work, organization, user, &set);
	if (error == NULL && set)
		store_event_append(work, "removed", "barred");
	return error;
}

/* All of them before anything is forgotten: what is found after that is all there is. */
static const struct error *
bar_all(struct task *work, const char *organization, const struct words *users, struct counts *counts)
{
	const struct error *error = NULL;

	while (error == NULL && counts->members < users->count) {
		error = bar(work, organization, users->items[counts->members]);
		counts->members += error == NULL ? 1 : 0;
		arena_reset(work->arena);
	}
	return error;
}

/* A member who came after `users` were listed has no tombstone and keeps their connections. */
static const struct error *
forget_all(struct task *task, struct task *work, const struct cmd_options *options, const struct words *users,
	   struct counts *counts)
{
	struct connection_key *connections;
	size_t count;
	const struct error *error =
	    store_deletable_scan(task, options->organization, options->user, &connections, &count);

	for (size_t i = 0; error == NULL && i < count; i++) {
		if (users->count > 0 && bsearch(&connections[i].user, users->items, users->count, sizeof *users->items,
						text_compare) != NULL)
			error = forget(work, &connections[i], counts);
		arena_reset(work->arena);
	}
	return error;
}

static int
remove_all(struct task *task, void *arg)
{
	const struct cmd_options *options = arg;
	struct words users = {.count = 1, .items = (const char *[]){options->user, NULL}};
	/* For one member, or one connection, at a time. */
	struct task work = {.app = task->app, .arena = arena_open_like(task->arena, WORK_FIRST), .actor = ACTOR};
	struct counts counts = {0};
	const struct error *error = NULL;

	if (options->user == NULL)
		error = store_member_list(task, options->organization, &users);
	if (error == NULL)
		error = bar_all(&work, options->organization, &users, &counts);
	if (error == NULL)
		error = forget_all(task, &work, options, &users, &counts);
	arena_close(work.arena);
	printf("%zu of %zu member%s removed, %zu connection%s forgotten, %zu revoked.\n", counts.members, users.count,
	       users.count == 1 ? "" : "s", counts.connections, counts.connections == 1 ? "" : "s", counts.revoked);
	if (counts.connections > 0)
		printf("Streams of the MCP gateway that were open before may go on for nginx's GATEWAY_STREAM_SECONDS "
		       "(15 minutes if not set).\n");
	if (error == NULL)
		return CMD_OK;
	fprintf(stderr, "Not all is done: run the same command again.\n");
	return cmd_store_failed();
}

static int
restore(struct task *task, void *arg)
{
	const struct cmd_options *options = arg;
	bool existed;

	if (store_member_restore(task, options->organization, options->user, &existed) != NULL)
		return cmd_store_failed();
	if (existed) {
		task->connection_key =
		    (struct connection_key){.organization = options->organization, .user = options->user};
		task->actor = ACTOR;
		task->request_id = random_id(task->arena);
		store_event_append(task, "removed", "lifted");
	}
	printf(existed ? "%s can connect again in %s.\n" : "%s was not removed from %s.\n", options->user,
	       options->organization);
	return CMD_OK;
}

static const struct option known_options[] = {
    {"org", required_argument, NULL, 'o'}, {"user", required_argument, NULL, 'u'}, {NULL, 0, NULL, 0}};

int
cmd_remove(int argc, char **argv)
{
	struct cmd_options options;
	int status = cmd_read_options(argc, argv, known_options, &options);

	return status == CMD_OK ? cmd_run(CONFIG_KEYS, remove_all, &options) : status;
}

int
cmd_restore(int argc, char **argv)
{
	struct cmd_options options;
	int status = cmd_read_options(argc, argv, known_options, &options);

	if (status == CMD_OK && options.user == NULL)
		return cmd_usage("restore", "--user needs an id");
	return status == CMD_OK ? cmd_run(CONFIG_STORE, restore, &options) : status;
}
