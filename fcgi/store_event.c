/*
 * The audit streams. What changes a connection goes to events:{organization}, trimmed by age; what uses one goes to
 * events:{organization}:use, trimmed by number, so that busy programs cannot push out the history of changes. An
 * entry's id is its time. Nothing waits for an entry; one that Redis does not take stands in the log instead.
 */
#include "fcgi/store_common.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/log.h"
#include "fcgi/app.h"
#include "fcgi/series.h"

#include <stdlib.h>
#include <string.h>

#define KEEP_MS (90LL * 24 * 60 * 60 * 1000)
#define KEEP_USES "100000"
#define ARGUMENTS_MAX 24

static bool
is_use(const char *event)
{
	return text_equal(event, "validated") || text_equal(event, "refreshed") || text_equal(event, "token_issued");
}

static const char *
stream_key(struct arena *arena, const char *organization, bool use)
{
	return arena_join(arena, "events:{", organization, use ? "}:use" : "}", NULL);
}

static void
add_field(const char **argv, int *argc, const char *name, const char *value)
{
	if (value == NULL)
		return;
	if (*argc + 2 > ARGUMENTS_MAX)
		abort(); /* append knows how many there are */
	argv[(*argc)++] = name;
	argv[(*argc)++] = value;
}

/* What is needed of an entry should it get lost; outlives its request. */
struct entry {
	struct app *app;
	const char *event;
	const char *actor;
	struct principal principal;
	const char *outcome;
	const char *request_id;
	char text[];
};

static size_t
room(const char *text)
{
	return text != NULL ? strlen(text) + 1 : 0;
}

static const char *
keep(const char *text, char **at)
{
	const char *kept = *at;

	if (text == NULL)
		return NULL;
	*at = stpcpy(*at, text) + 1;
	return kept;
}

static struct entry *
entry_open(const struct entry *of)
{
	const struct principal *principal = &of->principal;
	struct entry *entry =
	    malloc(sizeof *entry + room(of->event) + room(of->actor) + room(principal->organization) +
		   room(principal->user) + room(principal->service) + room(of->outcome) + room(of->request_id));
	char *at;

	if (entry == NULL)
		return NULL;
	at = entry->text;
	entry->app = of->app;
	entry->event = keep(of->event, &at);
	entry->actor = keep(of->actor, &at);
	entry->principal.organization = keep(principal->organization, &at);
	entry->principal.user = keep(principal->user, &at);
	entry->principal.service = keep(principal->service, &at);
	entry->outcome = keep(of->outcome, &at);
	entry->request_id = keep(of->request_id, &at);
	return entry;
}

static void
lost(const struct entry *entry)
{
	struct log_line line;

	series_event_lost(entry->app);
	log_begin(&line, LOG_LEVEL_ERROR, "audit_entry_lost");
	log_text(&line, "what", entry->event);
	log_text(&line, "actor", entry->actor);
	log_text(&line, "organization", entry->principal.organization);
	log_text(&line, "user", entry->principal.user);
	log_text(&line, "service", entry->principal.service);
	log_text(&line, "outcome", entry->outcome);
	log_text(&line, "request_id", entry->request_id);
	log_text(&line, "action", "Redis did not take it: keep this line as the audit entry");
	log_end(&line);
}

static void
written(void *arg, bool done)
{
	struct entry *entry = arg;

	if (!done)
		lost(entry);
	free(entry);
}

/* `known`: only to a stream that is there. */
static void
append(struct app *app, struct arena *arena, bool known, const char *event, const char *actor,
       const struct principal *principal, const char *outcome, const char *request_id)
{
	const struct entry entry = {.app = app,
				    .event = event,
				    .actor = actor,
				    .principal = *principal,
				    .outcome = outcome,
				    .request_id = request_id};
	struct entry *kept;
	struct redis_batch batch;
	const char *argv[ARGUMENTS_MAX] = {"XADD"};
	int argc = 1;
	bool use = is_use(event);

	argv[argc++] = stream_key(arena, principal->organization, use);
	if (known)
		argv[argc++] = "NOMKSTREAM";
	argv[argc++] = use ? "MAXLEN" : "MINID";
	argv[argc++] = "~";
	argv[argc++] = use ? KEEP_USES : arena_format(arena, "%lld", (long long)(clock_wall_ms() - KEEP_MS));
	argv[argc++] = "*";
	add_field(argv, &argc, "event", event);
	add_field(argv, &argc, "actor", actor);
	add_field(argv, &argc, "organization", principal->organization);
	add_field(argv, &argc, "user", principal->user);
	add_field(argv, &argc, "service", principal->service);
	add_field(argv, &argc, "outcome", outcome);
	add_field(argv, &argc, "request_id", request_id);
	redis_batch_init(&batch, arena);
	redis_add_argv(&batch, argc, argv);
	kept = entry_open(&entry);
	if (redis_send_told(app->redis, &batch, "audit entry", kept != NULL ? written : NULL, kept))
		return;
	free(kept);
	lost(&entry);
}

void
store_event_append(struct app *app, struct arena *arena, const char *event, const char *actor,
		   const struct principal *principal, const char *outcome, const char *request_id)
{
	append(app, arena, false, event, actor, principal, outcome, request_id);
}

void
store_event_append_known(struct app *app, struct arena *arena, const char *event, const char *actor,
			 const struct principal *principal, const char *outcome, const char *request_id)
{
	append(app, arena, true, event, actor, principal, outcome, request_id);
}

static void
parse(const struct redis_reply *entry, struct event *out)
{
	const struct redis_reply *fields = entry->items[1];

	out->id = redis_item(entry, 0);
	out->event = redis_field(fields, "event");
	out->actor = redis_field(fields, "actor");
	out->user = redis_field(fields, "user");
	out->service = redis_field(fields, "service");
	out->outcome = redis_field(fields, "outcome");
	out->request_id = redis_field(fields, "request_id");
}

const struct error *
store_event_read(struct app *app, struct arena *arena, const char *organization, bool uses, const char *after,
		 struct event **out, size_t *count)
{
	struct redis_batch batch;
	const struct redis_reply *entries;
	const struct error *err;

	*count = 0;
	redis_batch_init(&batch, arena);
	redis_add(&batch, "XRANGE", stream_key(arena, organization, uses), arena_format(arena, "(%s", after), "+",
		  "COUNT", arena_format(arena, "%d", STORE_EVENTS_MAX), NULL);
	if ((err = redis_run(app->redis, &batch, true)) != NULL)
		return err;
	entries = batch.reply[0];
	*out = arena_alloc(arena, (entries->count + 1) * sizeof **out);
	for (size_t i = 0; i < entries->count; i++)
		parse(entries->items[i], &(*out)[i]);
	*count = entries->count;
	return NULL;
}
