/*
 * Batches of all fibers go into one queue and leave in one write per turn of the loop; redis_replies.c says who gets
 * which reply.
 */
#include "common/redis_internal.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/fiber.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define SCRATCH_MAX (64 * 1024)

static const char no_memory[] = "the program has too little memory for a Redis command";

struct redis_series redis_series;

void
redis_register_metrics(struct metrics *metrics)
{
	static const char name[] = "integrations_redis_commands_total";
	static const char help[] = "Redis commands by outcome.";

	redis_series.ok = metrics_counter(metrics, name, help, "outcome=\"ok\"");
	redis_series.failed = metrics_counter(metrics, name, help, "outcome=\"error_reply\"");
	redis_series.lost = metrics_counter(metrics, name, help, "outcome=\"connection_lost\"");
	redis_series.timed_out = metrics_counter(metrics, name, help, "outcome=\"timeout\"");
	redis_series.unsent = metrics_counter(metrics, name, help, "outcome=\"not_sent\"");
	redis_series.connected = metrics_counter(metrics, "integrations_redis_connects_total",
						 "Connections made to Redis.", "outcome=\"ok\"");
	redis_series.connect_failed = metrics_counter(metrics, "integrations_redis_connects_total",
						      "Connections made to Redis.", "outcome=\"failed\"");
}

void
redis_count(struct redis *redis, size_t which, size_t n)
{
	if (redis->metrics != NULL)
		metrics_add(redis->metrics, which, n);
}

bool
redis_append(struct redis *redis, const struct redis_command *command)
{
	return resp_add(&redis->out, command->argc, command->argv, command->lengths, command->tail);
}

static void
write_commands(struct redis *redis)
{
	struct resp *out = &redis->out;
	ssize_t n = send(redis->context->fd, out->bytes + out->sent, resp_left(out), MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		redis_drop(redis, REDIS_LOST, "writing to Redis failed");
		return;
	}
	resp_sent(out, n > 0 ? (size_t)n : 0);
	loop_io_set(redis->io, resp_left(out) == 0 ? LOOP_READ : LOOP_READ | LOOP_WRITE);
}

/* What the socket did not take at once. That it takes more shows that Redis reads: then nothing was late before. */
static void
write_rest(struct redis *redis)
{
	size_t before = resp_left(&redis->out);

	if (before == 0)
		return;
	write_commands(redis);
	if (redis->context != NULL && resp_left(&redis->out) < before)
		redis->took_more_ms = clock_monotonic_ms();
}

void
redis_ready(void *arg, int events)
{
	struct redis *redis = arg;

	if (redis->connector != NULL) { /* the socket's connect has ended, one way or the other */
		loop_io_set(redis->io, 0);
		fiber_wake_all(&redis->connector, NULL);
		return;
	}
	if (events & LOOP_WRITE)
		write_rest(redis);
	if (redis->context != NULL && (events & LOOP_READ))
		redis_read(redis);
}

/* A single command's reply is all that can come; what is behind it is seen to be stray. */
static bool
needs_mark(const struct redis *redis)
{
	return redis->state == REDIS_UP && (redis->head != redis->tail || redis->tail->wanted > 1);
}

/* Behind what is written now. Not by PING, which Redis refuses together with writes where it cannot save its data. */
static bool
add_mark(struct redis *redis)
{
	char text[REDIS_MARK_SIZE];
	const char *const argv[] = {"ECHO", text};
	size_t lengths[] = {4, 0};

	redis_mark_text(text, ++redis->last_mark);
	lengths[1] = strlen(text);
	redis->tail->mark = redis->last_mark;
	redis->marks++;
	return resp_add(&redis->out, 2, argv, lengths, NULL);
}

/*
 * Before the loop waits: what all fibers appended in this turn leaves in one write. True when the connection turned out
 * dead, because then the fibers that waited for it are ready.
 */
static bool
flush(void *arg)
{
	struct redis *redis = arg;

	if (!redis->dirty)
		return false;
	redis->dirty = false;
	redis->unsent = redis->offered = NULL;
	if (!needs_mark(redis) || add_mark(redis))
		write_commands(redis);
	else
		redis_drop(redis, REDIS_LOST, no_memory);
	return redis->context == NULL;
}

/* Are there unread bytes? Then a reply that seems late may only wait for us. */
static bool
is_readable(const struct redis *redis)
{
	int bytes = 0;

	return redis->context != NULL && ioctl(redis->context->fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

static void
check_age(void *arg)
{
	struct redis *redis = arg;
	int64_t oldest;

	while (redis->head != NULL && is_readable(redis))
		redis_read(redis);
	if (redis->head != NULL && redis->context != NULL)
		write_rest(redis);
	if (redis->head == NULL)
		return;
	oldest = redis->head->sent_ms > redis->took_more_ms ? redis->head->sent_ms : redis->took_more_ms;
	oldest += REDIS_TIMEOUT_MS - loop_now_ms(redis->loop);
	if (oldest <= 0)
		redis_drop(redis, REDIS_TIMED_OUT, "Redis did not answer in time");
	else
		loop_timer_set(redis->timer, oldest);
}

void
redis_enqueue(struct redis *redis, struct redis_waiter *waiter)
{
	waiter->sent_ms = clock_monotonic_ms(); /* not the loop's clock: a long turn is not Redis' fault */
	if (redis->head == NULL)
		loop_timer_set(redis->timer, REDIS_TIMEOUT_MS);
	*redis->end = waiter;
	redis->end = &waiter->next;
	redis->tail = waiter;
	if (!redis->dirty)
		redis->unsent = waiter;
	redis->dirty = true;
	if (waiter->offers) {
		waiter->next_offered = redis->offered;
		redis->offered = waiter;
	}
}

struct redis *
redis_open(struct loop *loop, struct resolver *resolver, struct metrics *metrics, const char *name, const char *url)
{
	struct redis *redis = calloc(1, sizeof *redis);

	if (redis == NULL)
		return NULL;
	redis->loop = loop;
	redis->resolver = resolver;
	redis->metrics = metrics;
	redis->name = name;
	redis->end = &redis->head;
	redis->held_end = &redis->held;
	redis->reconnect = fibers_open(loop, 1);
	redis->timer = loop_timer_open(loop, check_age, redis);
	redis->hook = loop_hook_open(loop, flush, redis);
	redis->scratch = arena_open(1024, SCRATCH_MAX, NULL, NULL);
	if (redis_target_parse(&redis->target, url) != NULL || redis->reconnect == NULL || redis->timer == NULL ||
	    redis->hook == NULL || redis->scratch == NULL) {
		redis_close(redis);
		return NULL;
	}
	return redis;
}

void
redis_close(struct redis *redis)
{
	if (redis == NULL)
		return;
	if (redis->timer != NULL)
		redis_drop(redis, REDIS_LOST, NULL);
	loop_timer_close(redis->timer);
	loop_hook_close(redis->hook);
	fibers_close(redis->reconnect); /* it may be waiting for what was closed above */
	arena_close(redis->scratch);
	redis_target_free(&redis->target);
	free(redis);
}

/* ---- running batches ---- */

static void
use_source(struct redis_command *command)
{
	command->argv[0] = "EVAL";
	command->lengths[0] = 4;
	command->argv[1] = command->script->source;
	command->lengths[1] = strlen(command->script->source);
}

static bool
is_alike(const struct redis_command *one, const struct redis_command *other)
{
	if (one->argc != other->argc || one->tail != other->tail)
		return false;
	for (int i = 0; i < one->argc; i++) {
		if (one->lengths[i] != other->lengths[i] || memcmp(one->argv[i], other->argv[i], one->lengths[i]) != 0)
			return false;
	}
	return true;
}

/* Get a copy of the reply to the same command, if another fiber is about to send it. */
static bool
share(const struct redis *redis, struct redis_waiter *waiter)
{
	struct redis_waiter *other = redis->offered;

	while (other != NULL && !is_alike(other->commands, waiter->commands))
		other = other->next_offered;
	if (other == NULL)
		return false;
	waiter->next = other->sharing;
	other->sharing = waiter;
	return true;
}

static bool
append_all(struct redis *redis, const struct redis_waiter *waiter)
{
	for (size_t i = 0; i < waiter->wanted; i++) {
		if (!redis_append(redis, &waiter->commands[i]))
			return false;
	}
	return true;
}

/* Send commands [from, to) and wait for their replies. `shared`: of one command, which may be a copy of another's. */
static enum redis_end
run_range(struct redis *redis, struct redis_batch *batch, size_t from, size_t to, bool shared)
{
	struct redis_waiter waiter = {.fiber = fiber_current(),
				      .arena = batch->arena,
				      .commands = &batch->commands[from],
				      .wanted = to - from,
				      .offers = shared};

	if (!redis_be_up(redis))
		return REDIS_TIMED_OUT; /* not REDIS_LOST: connecting anew at once would not help */
	waiter.replies = &batch->reply[from];
	if (!shared || !share(redis, &waiter)) {
		if (!append_all(redis, &waiter)) {
			redis_drop(redis, REDIS_LOST, no_memory);
			return REDIS_TIMED_OUT;
		}
		redis_enqueue(redis, &waiter);
	}
	while (waiter.end == REDIS_PENDING)
		fiber_park();
	if (waiter.end == REDIS_LOST && waiter.got > 0)
		return REDIS_TIMED_OUT;
	return waiter.end;
}

static bool
is_unknown_script(const struct redis_batch *batch, size_t i)
{
	return batch->commands[i].script != NULL && batch->reply[i]->type == REDIS_ERROR &&
	       strncmp(batch->reply[i]->text, "NOSCRIPT", 8) == 0;
}

static const struct error *
error_of(enum redis_end end)
{
	if (end == REDIS_ANSWERED)
		return NULL;
	if (end != REDIS_TOO_LARGE)
		return &error_store_unavailable;
	log_message(LOG_LEVEL_ERROR, "redis_reply_too_large", "a reply needs more memory than a request may have",
		    "look at what is stored for the user of this request: it is far larger than it should be");
	return &error_overloaded;
}

static const struct error *
run_batch(struct redis *redis, struct redis_batch *batch, bool reads, bool shared)
{
	enum redis_end end = run_range(redis, batch, 0, batch->count, shared);

	if (end == REDIS_LOST && reads)
		end = run_range(redis, batch, 0, batch->count, false);
	if (end != REDIS_ANSWERED)
		return error_of(end);
	for (size_t i = 0; i < batch->count; i++) {
		if (is_unknown_script(batch, i)) { /* nothing was done: send the source */
			use_source(&batch->commands[i]);
			end = run_range(redis, batch, i, i + 1, false);
			if (end != REDIS_ANSWERED)
				return error_of(end);
		}
		if (batch->reply[i]->type == REDIS_ERROR) {
			redis_log_error_reply(redis, batch->commands[i].argv[0], batch->reply[i]);
			return &error_store_unavailable;
		}
	}
	return NULL;
}

const struct error *
redis_run(struct redis *redis, struct redis_batch *batch, bool reads)
{
	return run_batch(redis, batch, reads, false);
}

const struct error *
redis_run_shared(struct redis *redis, struct redis_batch *batch)
{
	if (batch->count != 1)
		abort(); /* callers know how much they ask for */
	return run_batch(redis, batch, true, true);
}

static void
connect_alone(void *arg)
{
	(void)redis_be_up(arg);
}

static void
connected_alone(void *arg, bool abandoned)
{
	(void)arg;
	(void)abandoned;
}

bool
redis_send(struct redis *redis, struct redis_batch *batch, const char *what)
{
	return redis_send_told(redis, batch, what, NULL, NULL);
}

bool
redis_send_told(struct redis *redis, struct redis_batch *batch, const char *what, redis_end_function *end, void *arg)
{
	struct redis_waiter *waiter = redis->state == REDIS_UP ? calloc(1, sizeof *waiter) : NULL;

	if (waiter == NULL) {
		redis_count(redis, redis_series.unsent, batch->count);
		if (redis->state == REDIS_UP)
			redis_complain(redis, "redis_not_sent", what, no_memory);
		else if (redis->state == REDIS_DOWN) /* the fiber that connects says why it fails; no other might try */
			(void)fiber_start(redis->reconnect, connect_alone, connected_alone, redis);
		return false;
	}
	waiter->arena = redis->scratch;
	waiter->what = what;
	waiter->on_end = end;
	waiter->arg = arg;
	waiter->wanted = batch->count;
	waiter->shape = redis_reply_shape_of(&batch->commands[0]);
	for (size_t i = 0; i < batch->count; i++) {
		if (batch->commands[i].script != NULL)
			use_source(&batch->commands[i]);
		if (!redis_append(redis, &batch->commands[i])) {
			free(waiter);
			redis_drop(redis, REDIS_LOST, no_memory);
			return false;
		}
	}
	redis_enqueue(redis, waiter);
	return true;
}

/* Replies come in order: when this one is there, all before it are. */
void
redis_settle(struct redis *redis, struct arena *arena)
{
	struct redis_batch batch;

	if (redis->head == NULL)
		return;
	redis_batch_init(&batch, arena);
	redis_add(&batch, "PING", NULL);
	(void)redis_run(redis, &batch, false);
}
