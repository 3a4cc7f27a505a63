/*
 * hiredis parses; this file says whose reply it is. Replies come in the order of the commands, so the reader builds
 * each one directly in the arena of the batch at the head of the queue.
 *
 * Only the order says whose reply it is, so one reply too many or too few would give every later one to a stranger.
 * Where several commands are under way, what is written ends with a mark, an ECHO of a number of its own: all replies
 * before it are held back until it comes as expected, and reach no fiber if something else comes in its place.
 */
#include "common/redis_internal.h"

#include "common/arena.h"
#include "common/fiber.h"
#include "common/log.h"
#include "common/loop.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Stands for what found no room. No code looks into it: its batch fails, and only that one. */
static struct redis_reply too_large = {.type = REDIS_ERROR, .text = ""};

/*
 * Whose reply it is, is asked anew for each object: hiredis may prepare a task before the batch that its reply belongs
 * to is in the queue, so an arena given to it then would be another's.
 */
static void *
reply_alloc(const redisReadTask *task, size_t size)
{
	const struct redis *redis = task->privdata;
	struct redis_waiter *waiter = redis->head;
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

struct redisReader *
redis_reader_open(struct redis *redis)
{
	redisReader *reader = redisReaderCreateWithFunctions(&functions);

	if (reader != NULL)
		reader->privdata = redis;
	return reader;
}

/* ---- ends ---- */

void
redis_complain(struct redis *redis, const char *event, const char *message, const char *cause)
{
	struct log_line line;
	int64_t now = loop_now_ms(redis->loop);

	if (redis->complained_ms != 0 && now - redis->complained_ms < 1000)
		return;
	redis->complained_ms = now;
	log_begin(&line, LOG_LEVEL_ERROR, event);
	log_text(&line, "connection", redis->name);
	log_text(&line, "message", message);
	log_text(&line, "cause", cause);
	log_text(&line, "action",
		 "check that Redis runs and that REDIS_URL is right; requests get 503 until it answers");
	log_end(&line);
}

/* NULL where it does not fit. */
static struct redis_reply *
copy_reply(struct arena *arena, const struct redis_reply *reply)
{
	struct redis_reply *copy = arena_try_alloc(arena, sizeof *copy);
	char *text = reply->text != NULL ? arena_try_alloc(arena, reply->len + 1) : NULL;

	if (copy == NULL || (reply->text != NULL && text == NULL))
		return NULL;
	*copy = *reply;
	copy->text = text;
	if (text != NULL)
		memcpy(text, reply->text, reply->len + 1);
	if (reply->type != REDIS_ARRAY)
		return copy;
	copy->items = arena_try_alloc(arena, (reply->count + 1) * sizeof *copy->items);
	for (size_t i = 0; copy->items != NULL && i < reply->count; i++) {
		copy->items[i] = copy_reply(arena, reply->items[i]);
		if (copy->items[i] == NULL)
			return NULL;
	}
	return copy->items != NULL ? copy : NULL;
}

/* Before the fiber that asked goes on, whose arena has the reply. What had no room there may have it in another's. */
static void
let_share(struct redis_waiter *waiter, enum redis_end end)
{
	struct redis_waiter *next;

	for (struct redis_waiter *other = waiter->sharing; other != NULL; other = next) {
		next = other->next;
		other->end = end == REDIS_TOO_LARGE ? REDIS_LOST : end;
		if (end == REDIS_ANSWERED) {
			other->replies[0] = copy_reply(other->arena, waiter->replies[0]);
			if (other->replies[0] == NULL)
				other->end = REDIS_TOO_LARGE;
		}
		fiber_wake(other->fiber);
	}
}

static void
finish_waiter(struct redis_waiter *waiter, enum redis_end end)
{
	waiter->end = end;
	let_share(waiter, end);
	if (waiter->fiber != NULL) {
		fiber_wake(waiter->fiber);
		return;
	}
	if (waiter->on_end != NULL)
		waiter->on_end(waiter->arg, end == REDIS_ANSWERED && !waiter->refused, waiter->number);
	free(waiter);
}

/* All that are held back, as the list that is given back. */
static struct redis_waiter *
take_held(struct redis *redis)
{
	struct redis_waiter *first = redis->held;

	redis->held = NULL;
	redis->held_end = &redis->held;
	return first;
}

/* Close the connection; every batch in the queue ends as `end`. */
void
redis_drop(struct redis *redis, enum redis_end end, const char *message)
{
	struct redis_waiter *waiter;

	*redis->held_end = redis->head;
	waiter = take_held(redis);

	loop_io_close(redis->io);
	redis->io = NULL;
	if (redis->context != NULL)
		redisFree(redis->context);
	redis->context = NULL;
	resp_clear(&redis->out);
	redis->dirty = false;
	redis->state = redis->state == REDIS_CONNECTING ? REDIS_CONNECTING
							: REDIS_DOWN; /* the connecting fiber says when it gave up */
	redis->head = redis->unsent = redis->offered = NULL;
	redis->end = &redis->head;
	redis->marks = 0;
	loop_timer_clear(redis->timer);
	if (message != NULL)
		redis_complain(redis, "redis_connection_lost", message, NULL);
	while (waiter != NULL) {
		struct redis_waiter *next = waiter->next;

		redis_count(redis, end == REDIS_TIMED_OUT ? redis_series.timed_out : redis_series.lost,
			    waiter->wanted - waiter->got);
		finish_waiter(waiter, end);
		waiter = next;
	}
}

void
redis_log_error_reply(struct redis *redis, const char *what, const struct redis_reply *reply)
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

void
redis_mark_text(char text[REDIS_MARK_SIZE], uint64_t mark)
{
	snprintf(text, REDIS_MARK_SIZE, "%llu", (unsigned long long)mark);
}

/* The batch at the head has all its replies. */
static void
next_waiter(struct redis *redis)
{
	struct redis_waiter *waiter = redis->head;

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
	struct redis_waiter *waiter = take_held(redis);

	while (waiter != NULL) {
		struct redis_waiter *next = waiter->next;

		finish_waiter(waiter, waiter->too_large ? REDIS_TOO_LARGE : REDIS_ANSWERED);
		waiter = next;
	}
}

static void
take_reply(struct redis *redis, struct redis_reply *reply)
{
	struct redis_waiter *waiter = redis->head;

	if (reply->type == REDIS_ERROR) {
		redis_count(redis, redis_series.failed, 1);
		waiter->refused = true;
		if (waiter->fiber == NULL)
			redis_log_error_reply(redis, waiter->what, reply);
	} else {
		redis_count(redis, redis_series.ok, 1);
	}
	waiter->number = reply->integer;
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
	char wanted[REDIS_MARK_SIZE];

	redis_mark_text(wanted, redis->head->mark);
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
is_its_own(const struct redis_waiter *waiter, const struct redis_reply *reply)
{
	struct redis_reply_shape shape = waiter->shape;

	if (reply->type == REDIS_ERROR || waiter->too_large)
		return true;
	if (waiter->commands != NULL)
		shape = redis_reply_shape_of(&waiter->commands[waiter->got]);
	return redis_reply_shape_fits(&shape, reply);
}

/* A server that is not a master any more, or forgot our login: a new connection may find another, or be known again. */
static bool
ends_connection(const struct redis_reply *reply)
{
	return reply->type == REDIS_ERROR &&
	       (strncmp(reply->text, "READONLY", 8) == 0 || strncmp(reply->text, "MASTERDOWN", 10) == 0 ||
		strncmp(reply->text, "NOAUTH", 6) == 0);
}

/* Bytes of a reply that no command is waiting for, and that would become a part of the next one. */
static bool
has_stray_bytes(const struct redis *redis)
{
	const redisReader *reader = redis->context->reader;

	return (redis->head == NULL || redis->head == redis->unsent) &&
	       (reader->len > reader->pos || reader->ridx > 0 || (reader->ridx == 0 && reader->rstack[0].type >= 0));
}

void
redis_read(struct redis *redis)
{
	redisContext *context = redis->context;
	void *reply = NULL;
	bool ends;

	if (redisBufferRead(context) != REDIS_OK) {
		redis_drop(redis, REDIS_LOST,
			   context->err == REDIS_ERR_EOF ? "Redis closed the connection" : "reading from Redis failed");
		return;
	}
	for (;;) {
		if (redisGetReplyFromReader(context, &reply) != REDIS_OK) {
			redis_drop(redis, REDIS_LOST, "Redis sent an invalid reply");
			return;
		}
		if (reply == NULL && !has_stray_bytes(redis))
			break;
		if (redis->head == NULL || redis->head == redis->unsent) {
			redis_drop(redis, REDIS_LOST, "Redis sent a reply that no command is waiting for");
			return;
		}
		if (redis->head->got == redis->head->wanted) {
			if (take_mark(redis, reply))
				continue;
			if (((struct redis_reply *)reply)->type == REDIS_ERROR)
				redis_log_error_reply(redis, "mark", reply);
			redis_drop(redis, REDIS_LOST, "Redis sent too many replies, or too few");
			return;
		}
		if (!is_its_own(redis->head, reply)) {
			redis_drop(redis, REDIS_LOST, "Redis sent a reply that the command cannot have");
			return;
		}
		ends = ends_connection(reply);
		take_reply(redis, reply);
		if (ends) {
			if (redis->marks == 0)
				release_held(redis);
			redis_drop(redis, REDIS_LOST, "Redis refuses all commands of this connection");
			return;
		}
	}
	if (redis->marks == 0)
		release_held(redis);
}
