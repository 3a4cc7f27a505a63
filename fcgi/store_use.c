/*
 * The audit of uses: events:{organization}:use. The first use of an actor, member, service, event and outcome in a
 * minute is an entry at once. Further ones raise a counter in the worker, and one entry with `count` follows when the
 * minute is over; it has the request_id of the first.
 *
 * So that one actor cannot push out what others did, it has a tenth of AUDIT_USES an hour over all workers, counted in
 * Redis. A worker takes its part of that in blocks: only each block's first entry costs more than an XADD.
 */
#include "fcgi/store_use.h"

#include "common/arena.h"
#include "common/loop.h"
#include "common/text.h"
#include "fcgi/app.h"
#include "fcgi/config.h"
#include "fcgi/store_event_internal.h"
#include "fcgi/task.h"

#include <stdlib.h>

#define ROWS_MAX 8192 /* about 3 MiB where ids are long; a caller of 5,000 members fits */
#define PLACES 8192
#define ACTORS 1024
#define BLOCKS 100       /* in an actor's share: what a worker that ends leaves unused is a hundredth of it */
#define TIMER_MIN_MS 250 /* rows that end soon after one another end together */

struct row {
	struct row *next; /* of the same place */
	struct row *newer;
	struct event_entry *entry;
	uint64_t mark;
	int64_t until_ms;
};

struct uses {
	struct app *app;
	int64_t minute_ms;
	struct loop_timer *timer;
	struct arena *arena; /* for one entry at a time */
	struct row *oldest, *newest;
	size_t count;
	bool direct; /* every use is an entry: the worker is about to end */
	struct row *places[PLACES];
	struct {
		uint64_t mark;
		int64_t left; /* entries that are set aside for it here */
	} actors[ACTORS];
};

static const struct redis_script write_script = {
    .shape = "[-1,1000000]",
#include "build/lua/use_write.lua.h"
};

/* Of a member or an actor (NULL: none) of an organization. */
static uint64_t
mark_of(const char *organization, const char *name)
{
	uint64_t mark = text_hash(organization) * UINT64_C(0x9e3779b97f4a7c15);

	return mark ^ (name != NULL ? text_hash(name) : 0);
}

static uint64_t
mark_of_actor(const struct event_entry *entry)
{
	return mark_of(entry->connection_key.organization, entry->actor);
}

/* Where to look for it; is_same_use decides. */
static uint64_t
mark_of_use(const struct event_entry *entry)
{
	return mark_of(entry->connection_key.organization, entry->connection_key.user);
}

static bool
is_same_use(const struct event_entry *one, const struct event_entry *other)
{
	return text_equal(one->connection_key.organization, other->connection_key.organization) &&
	       text_equal(one->connection_key.user, other->connection_key.user) &&
	       text_equal(one->connection_key.service, other->connection_key.service) &&
	       text_equal(one->actor, other->actor) && text_equal(one->event, other->event) &&
	       text_equal(one->outcome, other->outcome);
}

/* ---- writing ---- */

/* An entry of the block that is set aside for the actor; false when there is none. */
static bool
take_reserved(struct uses *uses, const struct event_entry *entry)
{
	uint64_t mark = mark_of_actor(entry);

	if (uses == NULL || uses->actors[mark % ACTORS].mark != mark || uses->actors[mark % ACTORS].left == 0)
		return false;
	uses->actors[mark % ACTORS].left--;
	return true;
}

/* The script has set `number` entries of the hour's share aside for the actor; -1: it did not write this one. */
static void
take_answer(const struct event_entry *entry, int64_t number)
{
	struct uses *uses = entry->app->uses;
	uint64_t mark = mark_of_actor(entry);

	if (number < 0)
		store_event_log(entry, LOG_LEVEL_INFO, "audit_use", NULL);
	if (number <= 0 || uses == NULL)
		return;
	if (uses->actors[mark % ACTORS].mark != mark)
		uses->actors[mark % ACTORS].left = 0;
	uses->actors[mark % ACTORS].mark = mark;
	uses->actors[mark % ACTORS].left += number;
}

static const char *
key_of_actor(struct arena *arena, const struct event_entry *entry)
{
	return store_key_hashed(
	    arena, arena_join(arena, "integrations:audit_uses:{", entry->connection_key.organization, "}", NULL),
	    entry->actor);
}

static void
write_use(struct arena *arena, const struct event_entry *entry)
{
	unsigned most = entry->app->config->audit_uses;
	unsigned share = (most + 9) / 10;
	const char *stream = store_event_key(arena, entry->connection_key.organization, true);
	const char *number = arena_format(arena, "%u", most);
	const char *argv[EVENT_ARGUMENTS_MAX] = {"XADD", stream, "MAXLEN", "~", number, "*"};
	int argc = 6;
	struct redis_batch batch;

	if (most == 0) {
		store_event_log(entry, LOG_LEVEL_INFO, "audit_use", NULL);
		return;
	}
	redis_batch_init(&batch, arena);
	if (take_reserved(entry->app->uses, entry)) {
		store_event_add_fields(arena, entry, argv, &argc);
		redis_add_argv(&batch, argc, argv);
	} else {
		const char *const keys[] = {key_of_actor(arena, entry), NULL};
		unsigned block = entry->app->uses != NULL && share > BLOCKS ? share / BLOCKS : 1;

		argv[0] = arena_format(arena, "%u", share);
		argv[1] = arena_format(arena, "%u", block);
		argv[2] = stream;
		argv[3] = number;
		argv[4] = entry->actor;
		argv[5] = entry->connection_key.organization;
		store_event_add_fields(arena, entry, argv, &argc);
		argv[argc] = NULL;
		redis_add_script(&batch, &write_script, keys, argv);
	}
	store_event_send(entry, &batch);
}

/* ---- counting ---- */

static struct row **
find_row(struct uses *uses, uint64_t mark, const struct event_entry *entry)
{
	struct row **at = &uses->places[mark % PLACES];

	while (*at != NULL && ((*at)->mark != mark || !is_same_use((*at)->entry, entry)))
		at = &(*at)->next;
	return at;
}

/* The oldest row's minute is over, or another actor needs its place. */
static void
end_oldest_row(struct uses *uses)
{
	struct row *row = uses->oldest;

	*find_row(uses, row->mark, row->entry) = row->next;
	uses->oldest = row->newer;
	uses->count--;
	if (row->entry->count > 0) {
		write_use(uses->arena, row->entry);
		arena_reset(uses->arena);
	}
	free(row->entry);
	free(row);
}

/* Without memory for it the next use is an entry, too. */
static void
begin_row(struct uses *uses, struct row **at, uint64_t mark, const struct event_entry *entry)
{
	struct row *row = malloc(sizeof *row);
	struct event_entry *kept = row != NULL ? store_event_keep(entry) : NULL;

	if (kept == NULL) {
		free(row);
		return;
	}
	*row = (struct row){.entry = kept, .mark = mark, .until_ms = loop_now_ms(uses->app->loop) + uses->minute_ms};
	*at = row;
	if (uses->oldest == NULL) {
		uses->oldest = row;
		loop_timer_set(uses->timer, uses->minute_ms);
	} else {
		uses->newest->newer = row;
	}
	uses->newest = row;
	uses->count++;
}

static void
end_minutes(void *arg)
{
	struct uses *uses = arg;
	int64_t now = loop_now_ms(uses->app->loop);

	while (uses->oldest != NULL && uses->oldest->until_ms <= now)
		end_oldest_row(uses);
	if (uses->oldest != NULL)
		loop_timer_set(uses->timer, uses->oldest->until_ms - now + TIMER_MIN_MS);
}

void
store_event_use(struct task *task, const char *event, const char *outcome)
{
	const struct event_entry entry = {.app = task->app,
					  .taken = take_answer,
					  .event = event,
					  .actor = task->actor,
					  .connection_key = task->connection_key,
					  .outcome = outcome,
					  .request_id = task->request_id};
	struct uses *uses = task->app->uses;
	uint64_t mark = mark_of_use(&entry);

	if (uses != NULL && !uses->direct) {
		struct row *row = *find_row(uses, mark, &entry);

		if (row != NULL) {
			row->entry->count++;
			return;
		}
		if (uses->count == ROWS_MAX)
			end_oldest_row(uses);
		begin_row(uses, find_row(uses, mark, &entry), mark, &entry);
	}
	write_use(task->arena, &entry);
}

/* ---- life ---- */

struct uses *
store_uses_open(struct app *app, int64_t minute_ms)
{
	struct uses *uses = calloc(1, sizeof *uses);

	if (uses == NULL)
		return NULL;
	uses->app = app;
	uses->minute_ms = minute_ms;
	uses->timer = loop_timer_open(app->loop, end_minutes, uses);
	uses->arena = arena_open(4096, 65536, NULL, NULL);
	if (uses->timer != NULL && uses->arena != NULL)
		return uses;
	store_uses_close(uses);
	return NULL;
}

void
store_uses_end(struct uses *uses)
{
	uses->direct = true;
	while (uses->oldest != NULL)
		end_oldest_row(uses);
}

void
store_uses_close(struct uses *uses)
{
	if (uses == NULL)
		return;
	while (uses->oldest != NULL) {
		uses->oldest->entry->count = 0;
		end_oldest_row(uses);
	}
	if (uses->timer != NULL)
		loop_timer_close(uses->timer);
	arena_close(uses->arena);
	free(uses);
}
