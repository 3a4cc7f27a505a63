/*
 * The audit streams. What changes a connection goes to events:{organization}, trimmed by age; what uses one goes to
 * events:{organization}:use, trimmed by number (store_use.c), so that busy programs cannot push out the history of
 * changes. An entry's id is its time. Nothing waits for an entry; one that Redis does not take stands in the log.
 */
#include "fcgi/store_event.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/log.h"
#include "fcgi/app.h"
#include "fcgi/app_metrics.h"
#include "fcgi/store_event_internal.h"
#include "fcgi/task.h"

#include <stdlib.h>
#include <string.h>

#define KEEP_MS (90LL * 24 * 60 * 60 * 1000)

const char *
store_event_key(struct arena *arena, const char *organization, bool use)
{
	return arena_join(arena, "events:{", organization, use ? "}:use" : "}", NULL);
}

static void
add_field(const char **argv, int *argc, const char *name, const char *value)
{
	if (value == NULL)
		return;
	if (*argc + 2 > EVENT_ARGUMENTS_MAX)
		abort(); /* store_event_add_fields knows how many there are */
	argv[(*argc)++] = name;
	argv[(*argc)++] = value;
}

void
store_event_add_fields(struct arena *arena, const struct event_entry *entry, const char **argv, int *argc)
{
	add_field(argv, argc, "event", entry->event);
	add_field(argv, argc, "actor", entry->actor);
	add_field(argv, argc, "organization", entry->connection_key.organization);
	add_field(argv, argc, "user", entry->connection_key.user);
	add_field(argv, argc, "service", entry->connection_key.service);
	add_field(argv, argc, "outcome", entry->outcome);
	add_field(argv, argc, "request_id", entry->request_id);
	if (entry->count > 0)
		add_field(argv, argc, "count", arena_format(arena, "%llu", (unsigned long long)entry->count));
}

static size_t
room(const char *text)
{
	return text != NULL ? strlen(text) + 1 : 0;
}

static const char *
keep_text(const char *text, char **at)
{
	const char *kept = *at;

	if (text == NULL)
		return NULL;
	*at = stpcpy(*at, text) + 1;
	return kept;
}

struct event_entry *
store_event_keep(const struct event_entry *of)
{
	const struct connection_key *connection = &of->connection_key;
	struct event_entry *entry =
	    malloc(sizeof *entry + room(of->event) + room(of->actor) + room(connection->organization) +
		   room(connection->user) + room(connection->service) + room(of->outcome) + room(of->request_id));
	char *at;

	if (entry == NULL)
		return NULL;
	at = entry->text;
	entry->app = of->app;
	entry->taken = of->taken;
	entry->count = of->count;
	entry->event = keep_text(of->event, &at);
	entry->actor = keep_text(of->actor, &at);
	entry->connection_key.organization = keep_text(connection->organization, &at);
	entry->connection_key.user = keep_text(connection->user, &at);
	entry->connection_key.service = keep_text(connection->service, &at);
	entry->outcome = keep_text(of->outcome, &at);
	entry->request_id = keep_text(of->request_id, &at);
	return entry;
}

void
store_event_log(const struct event_entry *entry, enum log_level level, const char *name, const char *action)
{
	struct log_line line;

	log_begin(&line, level, name);
	log_text(&line, "what", entry->event);
	log_text(&line, "actor", entry->actor);
	log_text(&line, "organization", entry->connection_key.organization);
	log_text(&line, "user", entry->connection_key.user);
	log_text(&line, "service", entry->connection_key.service);
	log_text(&line, "outcome", entry->outcome);
	log_text(&line, "request_id", entry->request_id);
	if (entry->count > 0)
		log_number(&line, "count", (int64_t)entry->count);
	log_text(&line, "action", action);
	log_end(&line);
}

static void
lost(const struct event_entry *entry)
{
	app_metrics_event_lost(entry->app);
	store_event_log(entry, LOG_LEVEL_ERROR, "audit_entry_lost",
			"Redis did not take the entry: keep this line in its place");
}

static void
written(void *arg, bool done, int64_t number)
{
	struct event_entry *entry = arg;

	if (!done)
		lost(entry);
	else if (entry->taken != NULL)
		entry->taken(entry, number);
	free(entry);
}

void
store_event_send(const struct event_entry *entry, struct redis_batch *batch)
{
	struct event_entry *kept = store_event_keep(entry);

	if (redis_send_told(entry->app->redis, batch, "audit entry", kept != NULL ? written : NULL, kept))
		return;
	free(kept);
	lost(entry);
}

/* `known`: only to a stream that is there. */
static void
append(struct task *task, bool known, const char *event, const char *outcome)
{
	const struct event_entry entry = {.app = task->app,
					  .event = event,
					  .actor = task->actor,
					  .connection_key = task->connection_key,
					  .outcome = outcome,
					  .request_id = task->request_id};
	struct redis_batch batch;
	const char *argv[EVENT_ARGUMENTS_MAX] = {"XADD"};
	int argc = 1;

	argv[argc++] = store_event_key(task->arena, task->connection_key.organization, false);
	if (known)
		argv[argc++] = "NOMKSTREAM";
	argv[argc++] = "MINID";
	argv[argc++] = "~";
	argv[argc++] = arena_format(task->arena, "%lld", (long long)(clock_wall_ms() - KEEP_MS));
	argv[argc++] = "*";
	store_event_add_fields(task->arena, &entry, argv, &argc);
	redis_batch_init(&batch, task->arena);
	redis_add_argv(&batch, argc, argv);
	store_event_send(&entry, &batch);
}

void
store_event_append(struct task *task, const char *event, const char *outcome)
{
	append(task, false, event, outcome);
}

void
store_event_append_known(struct task *task, const char *event, const char *outcome)
{
	append(task, true, event, outcome);
}

static void
parse_entry(const struct redis_reply *entry, struct event *out)
{
	const struct redis_reply *fields = entry->items[1];

	out->id = redis_item(entry, 0);
	out->event = redis_field(fields, "event");
	out->actor = redis_field(fields, "actor");
	out->user = redis_field(fields, "user");
	out->service = redis_field(fields, "service");
	out->outcome = redis_field(fields, "outcome");
	out->request_id = redis_field(fields, "request_id");
	out->count = redis_field(fields, "count");
}

const struct error *
store_event_read(struct task *task, const char *organization, bool uses, const char *after, struct event **out,
		 size_t *count)
{
	struct redis_batch batch;
	const struct redis_reply *entries;
	const struct error *error;

	*count = 0;
	redis_batch_init(&batch, task->arena);
	redis_add(&batch, "XRANGE", store_event_key(task->arena, organization, uses),
		  arena_format(task->arena, "(%s", after), "+", "COUNT",
		  arena_format(task->arena, "%d", STORE_EVENTS_MAX), NULL);
	error = redis_run(task->app->redis, &batch, true);
	if (error != NULL)
		return error;
	entries = batch.reply[0];
	*out = arena_alloc(task->arena, (entries->count + 1) * sizeof **out);
	for (size_t i = 0; i < entries->count; i++)
		parse_entry(entries->items[i], &(*out)[i]);
	*count = entries->count;
	return NULL;
}
