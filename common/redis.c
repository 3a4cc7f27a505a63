/*
 * hiredis parses and connects without waiting; this file owns when bytes move and who gets which reply. Replies come in
 * the order of the commands, so waiting batches form one queue, and the reader builds each reply directly in the arena
 * of the batch at its head.
 *
 * Only the order says whose reply it is, so one reply too many or too few would give every later one to a stranger.
 * Where several commands are under way, what is written ends with a mark, a PING with a number of its own: all replies
 * before it are held back until it comes as expected, and are nobody's if something else comes in its place.
 *
 * A connection is DOWN, CONNECTING (one fiber connects, the others wait for it) or UP. Whatever goes wrong on it, it is
 * closed whole and every batch in the queue fails; no reply that was late can reach a later command.
 */
#include "common/redis.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/fiber.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/redis_form.h"
#include "common/redis_url.h"
#include "common/resolve.h"
#include "common/resp.h"

#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define SCRATCH_MAX (64 * 1024)
#define MARK_SIZE 24

static const char no_memory[] = "memory for a Redis command could not be had";

enum state { DOWN, CONNECTING, UP };
enum end { PENDING, ANSWERED, LOST, TIMED_OUT, TOO_LARGE };

/* A batch in the queue. On its fiber's stack; allocated where nobody waits. */
struct waiter {
	struct fiber *fiber;
	struct arena *arena;
	struct redis_reply **replies; /* NULL: nobody reads them */
	const char *what;             /* names it in the log, where nobody waits */
	const struct redis_command *commands;
	struct redis_form form;   /* of a reply, where nobody waits: then it is one command */
	redis_end_function *told; /* where nobody waits, but somebody wants to know */
	void *arg;
	bool refused; /* a reply was an error */
	size_t wanted;
	size_t got;
	bool too_large; /* a reply did not fit into the arena */
	uint64_t mark;  /* 0: none; else the number of the mark that is behind this batch */
	int64_t sent_ms;
	enum end end;
	struct waiter *next;
};

struct connect_waiter {
	struct fiber *fiber;
	bool over;
	struct connect_waiter *next;
};

struct redis {
	struct loop *loop;
	struct resolver *resolver;
	struct metrics *metrics;
	const char *name;
	struct redis_target target;
	enum state state;
	redisContext *context;
	struct loop_io *io;
	struct loop_timer *timer;
	struct loop_hook *hook;
	struct waiter *head, **end;
	struct waiter *tail;             /* the last one, while there is a head */
	struct waiter *unsent;           /* the first one whose commands are not written yet */
	struct waiter *held, **held_end; /* have their replies, if nothing stray or a wrong mark comes behind */
	uint64_t last_mark;
	size_t marks; /* under way */
	struct connect_waiter *connect_waiters;
	struct fiber *connector; /* waits for the socket to become writable */
	bool connector_woken;
	int64_t took_more_ms;  /* when the socket last took what it had not taken at once */
	struct resp out;       /* commands to be written */
	bool dirty;            /* something was appended in this turn */
	struct arena *scratch; /* replies that nobody reads */
	int64_t complained_ms; /* last log line about the connection: at most one a second */
};

/* One set of series per process. */
static struct {
	size_t ok, failed, lost, timed_out, connected, connect_failed, unsent;
} series;

void
redis_register_metrics(struct metrics *metrics)
{
	static const char name[] = "integrations_redis_commands_total";
	static const char help[] = "Redis commands by outcome.";

	series.ok = metrics_counter(metrics, name, help, "outcome=\"ok\"");
	series.failed = metrics_counter(metrics, name, help, "outcome=\"error_reply\"");
	series.lost = metrics_counter(metrics, name, help, "outcome=\"connection_lost\"");
	series.timed_out = metrics_counter(metrics, name, help, "outcome=\"timeout\"");
	series.unsent = metrics_counter(metrics, name, help, "outcome=\"not_sent\"");
	series.connected = metrics_counter(metrics, "integrations_redis_connects_total", "Connections made to Redis.",
					   "outcome=\"ok\"");
	series.connect_failed = metrics_counter(metrics, "integrations_redis_connects_total",
						"Connections made to Redis.", "outcome=\"failed\"");
}

static void
count(struct redis *redis, size_t which, size_t n)
{
	if (redis->metrics != NULL)
		metrics_add(redis->metrics, which, n);
}

/* ---- replies, built in the arena of the batch at the head of the queue ---- */

/* Stands for what found no room. Nobody looks into it: its batch fails, and only that one. */
static struct redis_reply too_large = {.type = REDIS_ERROR, .text = ""};

/*
 * Whose reply it is, is asked anew for each object: hiredis may prepare a task before the batch that its reply belongs
 * to is in the queue, so an arena given to it then would be another's.
 */
static void *
reply_alloc(const redisReadTask *task, size_t size)
{
	const struct redis *redis = task->privdata;
	struct waiter *waiter = redis->head;
	bool theirs = waiter != NULL && waiter->got < waiter->wanted; /* not the mark behind them */
	void *memory = arena_try_alloc(theirs ? waiter->arena : redis->scratch, size);

	if (memory == NULL && theirs)
		waiter->too_large = true;
	return memory;
}

static struct redis_reply *
reply_new(const redisReadTask *task, enum redis_type type)
{
	struct redis_reply *reply = reply_alloc(task, sizeof *reply);
	struct redis_reply *parent = task->parent != NULL ? task->parent->obj : NULL;

	if (reply == NULL)
		return &too_large;
	reply->type = type;
	if (parent != NULL && parent != &too_large)
		parent->items[task->idx] = reply;
	return reply;
}

static void *
create_string(const redisReadTask *task, char *bytes, size_t len)
{
	struct redis_reply *reply = reply_new(task, task->type == REDIS_REPLY_ERROR ? REDIS_ERROR : REDIS_STRING);
	char *copy = reply != &too_large ? reply_alloc(task, len + 1) : NULL;

	if (copy == NULL)
		return &too_large;
	memcpy(copy, bytes, len);
	reply->text = copy;
	reply->len = len;
	return reply;
}

static void *
create_array(const redisReadTask *task, int elements)
{
	struct redis_reply *reply = reply_new(task, REDIS_ARRAY);

	if (reply == &too_large)
		return reply;
	reply->items = reply_alloc(task, ((size_t)elements + 1) * sizeof *reply->items);
	if (reply->items == NULL)
		return &too_large;
	reply->count = (size_t)elements;
	return reply;
}

static void *
create_integer(const redisReadTask *task, long long value)
{
	struct redis_reply *reply = reply_new(task, REDIS_INTEGER);

	if (reply != &too_large)
		reply->integer = value;
	return reply;
}

static void *
create_nil(const redisReadTask *task)
{
	return reply_new(task, REDIS_NIL);
}

static void
free_object(void *object)
{
	(void)object; /* its arena frees it */
}

static redisReplyObjectFunctions functions = {create_string, create_array, create_integer, create_nil, free_object};

/* ---- the connection ---- */

static void
complain(struct redis *redis, const char *event, const char *message)
{
	struct log_line line;
	int64_t now = loop_now_ms(redis->loop);

	if (redis->complained_ms != 0 && now - redis->complained_ms < 1000)
		return;
	redis->complained_ms = now;
	log_begin(&line, LOG_LEVEL_ERROR, event);
	log_text(&line, "connection", redis->name);
	log_text(&line, "message", message);
	log_text(&line, "action",
		 "check that Redis runs and that REDIS_URL is right; requests get 503 until it answers");
	log_end(&line);
}

static void
finish(struct waiter *waiter, enum end end)
{
	waiter->end = end;
	if (waiter->fiber != NULL) {
		fiber_wake(waiter->fiber);
		return;
	}
	if (waiter->told != NULL)
		waiter->told(waiter->arg, end == ANSWERED && !waiter->refused);
	free(waiter);
}

/* All that are held back, as the list that is given back. */
static struct waiter *
take_held(struct redis *redis)
{
	struct waiter *first = redis->held;

	redis->held = NULL;
	redis->held_end = &redis->held;
	return first;
}

/* Close the connection; every batch in the queue ends as `end`. */
static void
drop(struct redis *redis, enum end end, const char *message)
{
	struct waiter *waiter;

	*redis->held_end = redis->head;
	waiter = take_held(redis);

	loop_io_close(redis->io);
	redis->io = NULL;
	if (redis->context != NULL)
		redisFree(redis->context);
	redis->context = NULL;
	resp_clear(&redis->out);
	redis->dirty = false;
	redis->state = redis->state == CONNECTING ? CONNECTING : DOWN; /* the connecting fiber says when it gave up */
	redis->head = redis->unsent = NULL;
	redis->end = &redis->head;
	redis->marks = 0;
	loop_timer_clear(redis->timer);
	if (message != NULL)
		complain(redis, "redis_connection_lost", message);
	while (waiter != NULL) {
		struct waiter *next = waiter->next;

		count(redis, end == TIMED_OUT ? series.timed_out : series.lost, waiter->wanted - waiter->got);
		finish(waiter, end);
		waiter = next;
	}
}

static void
log_error_reply(struct redis *redis, const char *what, const struct redis_reply *reply)
{
	struct log_line line;
	char word[32] = {0};

	for (size_t i = 0; i + 1 < sizeof word && reply->text[i] != '\0' && reply->text[i] != ' '; i++)
		word[i] = reply->text[i];
	log_begin(&line, LOG_LEVEL_ERROR, "redis_error_reply");
	log_text(&line, "connection", redis->name);
	log_text(&line, "what", what);
	log_text(&line, "error", word);
	log_text(&line, "action",
		 strcmp(word, "OOM") == 0 || strcmp(word, "MISCONF") == 0
		     ? "Redis refuses writes: give it memory or disk space"
		 : strcmp(word, "NOPERM") == 0 || strcmp(word, "NOAUTH") == 0 || strcmp(word, "WRONGPASS") == 0
		     ? "check the user, password and ACL of REDIS_URL"
		     : "look at Redis: it answered with an error");
	log_end(&line);
}

static void
mark_text(char text[MARK_SIZE], uint64_t mark)
{
	snprintf(text, MARK_SIZE, "%llu", (unsigned long long)mark);
}

/* The batch at the head has all its replies. */
static void
next_waiter(struct redis *redis)
{
	struct waiter *waiter = redis->head;

	redis->head = waiter->next;
	if (redis->head == NULL) {
		redis->end = &redis->head;
		loop_timer_clear(redis->timer);
	}
	waiter->next = NULL;
	*redis->held_end = waiter;
	redis->held_end = &waiter->next;
}

/* All replies so far are what they seem to be. */
static void
release_held(struct redis *redis)
{
	struct waiter *waiter = take_held(redis);

	while (waiter != NULL) {
		struct waiter *next = waiter->next;

		finish(waiter, waiter->too_large ? TOO_LARGE : ANSWERED);
		waiter = next;
	}
}

static void
take_reply(struct redis *redis, struct redis_reply *reply)
{
	struct waiter *waiter = redis->head;

	if (reply->type == REDIS_ERROR) {
		count(redis, series.failed, 1);
		waiter->refused = true;
		if (waiter->fiber == NULL)
			log_error_reply(redis, waiter->what, reply);
	} else {
		count(redis, series.ok, 1);
	}
	if (waiter->replies != NULL)
		waiter->replies[waiter->got] = reply;
	else
		arena_reset(redis->scratch);
	if (++waiter->got == waiter->wanted && waiter->mark == 0)
		next_waiter(redis);
}

/* The reply to the mark behind the batch at the head: all replies up to here are what they seem to be. */
static bool
take_mark(struct redis *redis, const struct redis_reply *reply)
{
	char wanted[MARK_SIZE];

	mark_text(wanted, redis->head->mark);
	if (reply->type != REDIS_STRING || strcmp(reply->text, wanted) != 0)
		return false;
	arena_reset(redis->scratch);
	redis->marks--;
	next_waiter(redis);
	release_held(redis);
	return true;
}

/* Can the next command have this reply? */
static bool
is_its_own(const struct waiter *waiter, const struct redis_reply *reply)
{
	struct redis_form form = waiter->form;

	if (reply->type == REDIS_ERROR || waiter->too_large)
		return true;
	if (waiter->commands != NULL)
		form = redis_form_of(&waiter->commands[waiter->got]);
	return redis_form_fits(&form, reply);
}

/* A server that is no master any more, or forgot who we are: a new connection may find another, or be known again. */
static bool
ends_connection(const struct redis_reply *reply)
{
	return reply->type == REDIS_ERROR &&
	       (strncmp(reply->text, "READONLY", 8) == 0 || strncmp(reply->text, "MASTERDOWN", 10) == 0 ||
		strncmp(reply->text, "NOAUTH", 6) == 0);
}

/* Bytes of a reply that nobody asked for, and that would become a part of the next one. */
static bool
has_stray_bytes(const struct redis *redis)
{
	const redisReader *reader = redis->context->reader;

	return (redis->head == NULL || redis->head == redis->unsent) &&
	       (reader->len > reader->pos || reader->ridx > 0 || (reader->ridx == 0 && reader->rstack[0].type >= 0));
}

static void
read_replies(struct redis *redis)
{
	redisContext *context = redis->context;
	void *reply = NULL;
	bool ends;

	if (redisBufferRead(context) != REDIS_OK) {
		drop(redis, LOST,
		     context->err == REDIS_ERR_EOF ? "Redis closed the connection" : "reading from Redis failed");
		return;
	}
	for (;;) {
		if (redisGetReplyFromReader(context, &reply) != REDIS_OK) {
			drop(redis, LOST, "Redis sent what is no valid reply");
			return;
		}
		if (reply == NULL && !has_stray_bytes(redis))
			break;
		if (redis->head == NULL || redis->head == redis->unsent) {
			drop(redis, LOST, "Redis sent a reply that nobody asked for");
			return;
		}
		if (redis->head->got == redis->head->wanted) {
			if (take_mark(redis, reply))
				continue;
			drop(redis, LOST, "Redis sent too many replies, or too few");
			return;
		}
		if (!is_its_own(redis->head, reply)) {
			drop(redis, LOST, "Redis sent a reply that the command cannot have");
			return;
		}
		ends = ends_connection(reply);
		take_reply(redis, reply);
		if (ends) {
			if (redis->marks == 0)
				release_held(redis);
			drop(redis, LOST, "Redis refuses all commands of this connection");
			return;
		}
	}
	if (redis->marks == 0)
		release_held(redis);
}

static void
write_commands(struct redis *redis)
{
	struct resp *out = &redis->out;
	ssize_t n = send(redis->context->fd, out->bytes + out->sent, resp_left(out), MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		drop(redis, LOST, "writing to Redis failed");
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

static void
ready(void *arg, int events)
{
	struct redis *redis = arg;

	if (redis->connector != NULL) { /* the socket's connect has ended, one way or the other */
		loop_io_set(redis->io, 0);
		redis->connector_woken = true;
		fiber_wake(redis->connector);
		return;
	}
	if (events & LOOP_WRITE)
		write_rest(redis);
	if (redis->context != NULL && (events & LOOP_READ))
		read_replies(redis);
}

/* A single command's reply is all that can come; what is behind it is seen to be stray. */
static bool
needs_mark(const struct redis *redis)
{
	return redis->state == UP && (redis->head != redis->tail || redis->tail->wanted > 1);
}

/* Behind what is written now. */
static bool
add_mark(struct redis *redis)
{
	char text[MARK_SIZE];
	const char *const argv[] = {"PING", text};
	size_t lengths[] = {4, 0};

	mark_text(text, ++redis->last_mark);
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
	redis->unsent = NULL;
	if (!needs_mark(redis) || add_mark(redis))
		write_commands(redis);
	else
		drop(redis, LOST, no_memory);
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
		read_replies(redis);
	if (redis->head != NULL && redis->context != NULL)
		write_rest(redis);
	if (redis->head == NULL)
		return;
	oldest = redis->head->sent_ms > redis->took_more_ms ? redis->head->sent_ms : redis->took_more_ms;
	oldest += REDIS_TIMEOUT_MS - loop_now_ms(redis->loop);
	if (oldest <= 0)
		drop(redis, TIMED_OUT, "Redis did not answer in time");
	else
		loop_timer_set(redis->timer, oldest);
}

static void
enqueue(struct redis *redis, struct waiter *waiter)
{
	waiter->sent_ms = clock_monotonic_ms(); /* not the loop's clock: a long turn is no fault of Redis */
	if (redis->head == NULL)
		loop_timer_set(redis->timer, REDIS_TIMEOUT_MS);
	*redis->end = waiter;
	redis->end = &waiter->next;
	redis->tail = waiter;
	if (!redis->dirty)
		redis->unsent = waiter;
	redis->dirty = true;
}

/* ---- connect ---- */

static redisContext *
connect_socket(struct redis *redis, int64_t deadline_ms)
{
	struct resolved addresses;
	redisContext *context;

	if (redis->target.path != NULL) {
		context = redisConnectUnixNonBlock(redis->target.path);
	} else {
		if (!resolve(redis->resolver, redis->target.host, deadline_ms, &addresses))
			return NULL;
		context = redisConnectNonBlock(addresses.address[0], (int)redis->target.port);
	}
	if (context != NULL && context->err != 0) {
		redisFree(context);
		context = NULL;
	}
	if (context != NULL) {
		redisReader *reader = redisReaderCreateWithFunctions(&functions);

		if (reader == NULL) {
			redisFree(context);
			return NULL;
		}
		reader->privdata = redis;
		redisReaderFree(context->reader);
		context->reader = reader;
		(void)fcntl(context->fd, F_SETFD, FD_CLOEXEC);
	}
	return context;
}

/* Wait until the socket is connected. */
static bool
connect_wait(struct redis *redis, int64_t deadline_ms)
{
	int error = 0;
	int on = 1;
	socklen_t len = sizeof error;

	redis->io = loop_io_open(redis->loop, redis->context->fd, LOOP_WRITE, ready, redis);
	if (redis->io == NULL)
		return false;
	redis->connector = fiber_current();
	redis->connector_woken = false;
	while (!redis->connector_woken && fiber_park_until(deadline_ms))
		continue;
	redis->connector = NULL;
	if (!redis->connector_woken)
		return false;
	if (getsockopt(redis->context->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0)
		return false;
	redis->context->flags |= REDIS_CONNECTED;
	if (redis->target.path == NULL) {
		(void)setsockopt(redis->context->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		(void)redisEnableKeepAlive(redis->context);
	}
	loop_io_set(redis->io, LOOP_READ);
	return true;
}

static bool
append(struct redis *redis, const struct redis_command *command)
{
	return resp_add(&redis->out, command->argc, command->argv, command->lengths, command->tail);
}

/* AUTH and SELECT, before any other command can be on this connection. */
static bool
introduce(struct redis *redis)
{
	struct redis_batch batch;
	struct redis_reply *replies[2] = {0};
	struct waiter waiter = {
	    .fiber = fiber_current(), .arena = redis->scratch, .replies = replies, .commands = batch.commands};

	arena_reset(redis->scratch);
	redis_batch_init(&batch, redis->scratch);
	if (redis->target.password != NULL && redis->target.user != NULL)
		redis_add(&batch, "AUTH", redis->target.user, redis->target.password, NULL);
	else if (redis->target.password != NULL)
		redis_add(&batch, "AUTH", redis->target.password, NULL);
	if (redis->target.db != NULL)
		redis_add(&batch, "SELECT", redis->target.db, NULL);
	for (size_t i = 0; i < batch.count; i++) {
		if (!append(redis, &batch.commands[i]))
			return false;
	}
	waiter.wanted = batch.count;
	if (waiter.wanted == 0)
		return true;
	enqueue(redis, &waiter);
	while (waiter.end == PENDING)
		fiber_park();
	for (size_t i = 0; i < waiter.got; i++) {
		if (replies[i]->type == REDIS_ERROR) {
			log_error_reply(redis, "connecting", replies[i]);
			return false;
		}
	}
	return waiter.end == ANSWERED;
}

static void
connect_now(struct redis *redis)
{
	int64_t deadline_ms = loop_now_ms(redis->loop) + REDIS_TIMEOUT_MS;
	struct connect_waiter *waiter;
	bool up;

	redis->state = CONNECTING;
	redis->context = connect_socket(redis, deadline_ms);
	up = redis->context != NULL && connect_wait(redis, deadline_ms) && introduce(redis) &&
	     redis->context != NULL; /* what came behind the replies may have ended it already */
	redis->state = up ? UP : DOWN;
	if (up) {
		count(redis, series.connected, 1);
		redis->complained_ms = 0;
	} else {
		count(redis, series.connect_failed, 1);
		drop(redis, LOST, NULL);
		complain(redis, "redis_unreachable", "Redis cannot be reached");
	}
	waiter = redis->connect_waiters;
	redis->connect_waiters = NULL;
	for (; waiter != NULL; waiter = waiter->next) {
		waiter->over = true;
		fiber_wake(waiter->fiber);
	}
}

static bool
be_up(struct redis *redis)
{
	if (redis->state == DOWN) {
		connect_now(redis);
	} else if (redis->state == CONNECTING) {
		struct connect_waiter waiter = {.fiber = fiber_current(), .next = redis->connect_waiters};

		redis->connect_waiters = &waiter;
		while (!waiter.over)
			fiber_park();
	}
	return redis->state == UP;
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
	redis->timer = loop_timer_open(loop, check_age, redis);
	redis->hook = loop_hook_open(loop, flush, redis);
	redis->scratch = arena_open(1024, SCRATCH_MAX, NULL, NULL);
	if (redis_target_parse(&redis->target, url) != NULL || redis->timer == NULL || redis->hook == NULL ||
	    redis->scratch == NULL) {
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
	redis->complained_ms = 0;
	if (redis->timer != NULL)
		drop(redis, LOST, NULL);
	loop_timer_close(redis->timer);
	loop_hook_close(redis->hook);
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

/* Send commands [from, to) and wait for their replies. */
static enum end
run_range(struct redis *redis, struct redis_batch *batch, size_t from, size_t to)
{
	struct waiter waiter = {
	    .fiber = fiber_current(), .arena = batch->arena, .commands = &batch->commands[from], .wanted = to - from};

	if (!be_up(redis))
		return TIMED_OUT; /* not LOST: connecting anew at once would not help */
	waiter.replies = &batch->reply[from];
	for (size_t i = from; i < to; i++) {
		if (!append(redis, &batch->commands[i])) {
			drop(redis, LOST, no_memory);
			return TIMED_OUT;
		}
	}
	enqueue(redis, &waiter);
	while (waiter.end == PENDING)
		fiber_park();
	if (waiter.end == LOST && waiter.got > 0)
		return TIMED_OUT;
	return waiter.end;
}

static bool
is_unknown_script(const struct redis_batch *batch, size_t i)
{
	return batch->commands[i].script != NULL && batch->reply[i]->type == REDIS_ERROR &&
	       strncmp(batch->reply[i]->text, "NOSCRIPT", 8) == 0;
}

static const struct error *
error_of(enum end end)
{
	if (end == ANSWERED)
		return NULL;
	if (end != TOO_LARGE)
		return &error_store_unavailable;
	log_message(LOG_LEVEL_ERROR, "redis_reply_too_large", "a reply needs more memory than a request may have",
		    "look at what is stored for the user of this request: it is far larger than it should be");
	return &error_overloaded;
}

const struct error *
redis_run(struct redis *redis, struct redis_batch *batch, bool reads)
{
	enum end end = run_range(redis, batch, 0, batch->count);

	if (end == LOST && reads)
		end = run_range(redis, batch, 0, batch->count);
	if (end != ANSWERED)
		return error_of(end);
	for (size_t i = 0; i < batch->count; i++) {
		if (is_unknown_script(batch, i)) { /* nothing was done: send the source */
			use_source(&batch->commands[i]);
			end = run_range(redis, batch, i, i + 1);
			if (end != ANSWERED)
				return error_of(end);
		}
		if (batch->reply[i]->type == REDIS_ERROR) {
			log_error_reply(redis, batch->commands[i].argv[0], batch->reply[i]);
			return &error_store_unavailable;
		}
	}
	return NULL;
}

bool
redis_send(struct redis *redis, struct redis_batch *batch, const char *what)
{
	return redis_send_told(redis, batch, what, NULL, NULL);
}

bool
redis_send_told(struct redis *redis, struct redis_batch *batch, const char *what, redis_end_function *end, void *arg)
{
	struct waiter *waiter = redis->state == UP ? calloc(1, sizeof *waiter) : NULL;

	if (waiter == NULL) {
		count(redis, series.unsent, batch->count);
		complain(redis, "redis_not_sent", what);
		return false;
	}
	waiter->arena = redis->scratch;
	waiter->what = what;
	waiter->told = end;
	waiter->arg = arg;
	waiter->wanted = batch->count;
	waiter->form = redis_form_of(&batch->commands[0]);
	for (size_t i = 0; i < batch->count; i++) {
		if (batch->commands[i].script != NULL)
			use_source(&batch->commands[i]);
		if (!append(redis, &batch->commands[i])) {
			free(waiter);
			drop(redis, LOST, no_memory);
			return false;
		}
	}
	enqueue(redis, waiter);
	return true;
}
