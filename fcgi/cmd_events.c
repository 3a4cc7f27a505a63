/*
 * The audit streams of an organization, both in one by time: each is read page by page, and the older entry of the two
 * at hand is printed next.
 */
#include "common/arena.h"
#include "common/clock.h"
#include "common/fiber.h"
#include "fcgi/cmd.h"
#include "fcgi/cmd_run.h"
#include "fcgi/store_event.h"
#include "fcgi/task.h"

#include <getopt.h>
#include <stdio.h>

#define FOLLOW_MS 1000
#define ID_SIZE 48
#define PAGE_LIMIT ((size_t)64 * 1024 * 1024)

/* One stream, with the page at hand. */
struct stream {
	bool uses;
	struct task page; /* its arena is the page's */
	struct event *events;
	size_t count;
	size_t at;
	char last[ID_SIZE];
	bool exhausted; /* the page at hand is the last for now */
};

static const struct error *
refill(const char *organization, struct stream *stream)
{
	const struct error *error;

	if (stream->at < stream->count || stream->exhausted)
		return NULL;
	arena_reset(stream->page.arena);
	stream->at = 0;
	error =
	    store_event_read(&stream->page, organization, stream->uses, stream->last, &stream->events, &stream->count);
	if (error != NULL)
		return error;
	stream->exhausted = stream->count < STORE_EVENTS_MAX;
	if (stream->count > 0)
		snprintf(stream->last, sizeof stream->last, "%s", stream->events[stream->count - 1].id);
	return NULL;
}

/* Both numbers of an id. */
static void
id_parse(const char *id, unsigned long long *ms, unsigned long long *number)
{
	*ms = 0;
	*number = 0;
	(void)sscanf(id, "%20llu-%20llu", ms, number);
}

static bool
is_older(const struct event *a, const struct event *b)
{
	unsigned long long a_ms;
	unsigned long long a_number;
	unsigned long long b_ms;
	unsigned long long b_number;

	id_parse(a->id, &a_ms, &a_number);
	id_parse(b->id, &b_ms, &b_number);
	return a_ms != b_ms ? a_ms < b_ms : a_number <= b_number;
}

static void
print_event(struct arena *arena, const struct event *event)
{
	unsigned long long ms;
	unsigned long long number;
	char time[CLOCK_RFC3339_SIZE];

	id_parse(event->id, &ms, &number);
	clock_rfc3339((int64_t)(ms / 1000), time);
	printf("%s  %-16s  by %s  user %s  service %s  outcome %s  request %s", time, cmd_shown(arena, event->event),
	       cmd_shown(arena, event->actor), cmd_shown(arena, event->user), cmd_shown(arena, event->service),
	       cmd_shown(arena, event->outcome), cmd_shown(arena, event->request_id));
	if (event->count != NULL)
		printf("  count %s", cmd_shown(arena, event->count));
	printf("\n");
}

/* Everything that is there now. */
static const struct error *
print_all(const char *organization, struct stream streams[2])
{
	const struct error *error;

	for (;;) {
		struct stream *next = &streams[0];
		const struct stream *other = &streams[1];

		error = refill(organization, &streams[0]);
		if (error == NULL)
			error = refill(organization, &streams[1]);
		if (error != NULL)
			return error;
		if (next->at == next->count ||
		    (other->at < other->count && !is_older(&next->events[next->at], &other->events[other->at])))
			next = &streams[1];
		if (next->at == next->count)
			return NULL;
		print_event(next->page.arena, &next->events[next->at++]);
	}
}

static int
print_events(const struct cmd_options *options, struct stream streams[2])
{
	for (;;) {
		if (print_all(options->organization, streams) != NULL)
			return cmd_store_failed();
		if (fflush(stdout) != 0)
			return CMD_FAILED;
		if (!options->follow)
			return CMD_OK;
		fiber_sleep(FOLLOW_MS);
		streams[0].exhausted = false;
		streams[1].exhausted = false;
	}
}

static int
events(struct task *task, void *arg)
{
	const struct cmd_options *options = arg;
	struct stream streams[2] = {{.uses = false, .page = *task, .last = "0"},
				    {.uses = true, .page = *task, .last = "0"}};
	int status = CMD_FAILED;

	streams[0].page.arena = arena_open(4096, PAGE_LIMIT, NULL, NULL);
	streams[1].page.arena = arena_open(4096, PAGE_LIMIT, NULL, NULL);
	if (streams[0].page.arena != NULL && streams[1].page.arena != NULL)
		status = print_events(options, streams);
	arena_close(streams[0].page.arena);
	arena_close(streams[1].page.arena);
	return status;
}

int
cmd_events(int argc, char **argv)
{
	static const struct option known[] = {
	    {"org", required_argument, NULL, 'o'}, {"follow", no_argument, NULL, 'f'}, {NULL, 0, NULL, 0}};
	struct cmd_options options;
	int status = cmd_read_options(argc, argv, known, &options);

	return status == CMD_OK ? cmd_run(CONFIG_STORE, events, &options) : status;
}
