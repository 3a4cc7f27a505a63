/* Connecting, without waiting: the socket, then AUTH and SELECT before any other command can be on the connection. */
#include "common/redis_internal.h"

#include "common/arena.h"
#include "common/fiber.h"
#include "common/loop.h"
#include "common/resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

static const char no_memory[] = "no memory";

static bool
fail(struct redis *redis, const char *cause)
{
	redis->failed_by = cause;
	return false;
}

/* To `address`; NULL: to the unix socket. */
static bool
open_socket(struct redis *redis, const char *address)
{
	redisContext *context = address != NULL ? redisConnectNonBlock(address, (int)redis->target.port)
						: redisConnectUnixNonBlock(redis->target.path);
	int error = errno;
	redisReader *reader;

	if (context == NULL)
		return fail(redis, no_memory);
	if (context->err != 0) {
		redisFree(context);
		return fail(redis, strerror(error));
	}
	reader = redis_reader_open(redis);
	if (reader == NULL) {
		redisFree(context);
		return fail(redis, no_memory);
	}
	redisReaderFree(context->reader);
	context->reader = reader;
	(void)fcntl(context->fd, F_SETFD, FD_CLOEXEC);
	redis->context = context;
	return true;
}

/* Wait until the socket is connected. */
static bool
connect_wait(struct redis *redis, int64_t deadline_ms)
{
	int error = 0;
	int on = 1;
	socklen_t len = sizeof error;

	redis->io = loop_io_open(redis->loop, redis->context->fd, LOOP_WRITE, redis_ready, redis);
	if (redis->io == NULL)
		return fail(redis, no_memory);
	if (!fiber_wait(&redis->connector, deadline_ms, NULL))
		return fail(redis, "it did not answer in time");
	if (getsockopt(redis->context->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error != 0)
		return fail(redis, strerror(error));
	redis->context->flags |= REDIS_CONNECTED;
	if (redis->target.path == NULL) {
		(void)setsockopt(redis->context->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		(void)redisEnableKeepAlive(redis->context);
	}
	loop_io_set(redis->io, LOOP_READ);
	return true;
}

/*
 * To the first address that takes the connection. One that refuses costs no time; one that is silent takes all of it,
 * and so the next connect begins behind it.
 */
static bool
connect_any(struct redis *redis, int64_t deadline_ms)
{
	bool over_tcp = redis->target.path == NULL;
	struct resolved found = {.count = 1};

	redis->failed_by = NULL;
	if (over_tcp && !resolve(redis->resolver, redis->target.host, deadline_ms, &found))
		return fail(redis, "its name has no address");
	for (size_t i = 0; i < found.count && loop_now_ms(redis->loop) < deadline_ms; i++) {
		const char *address = over_tcp ? found.address[redis->next_address % found.count] : NULL;

		if (open_socket(redis, address) && connect_wait(redis, deadline_ms)) {
			redis->failed_by = NULL;
			return true;
		}
		redis_drop(redis, REDIS_LOST, NULL);
		redis->next_address++;
	}
	return false;
}

/* AUTH and SELECT, before any other command can be on this connection. */
static bool
introduce(struct redis *redis)
{
	struct redis_batch batch;
	struct redis_reply *replies[2] = {0};
	struct redis_waiter waiter = {
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
		if (!redis_append(redis, &batch.commands[i]))
			return false;
	}
	waiter.wanted = batch.count;
	if (waiter.wanted == 0)
		return true;
	redis_enqueue(redis, &waiter);
	while (waiter.end == REDIS_PENDING)
		fiber_park();
	for (size_t i = 0; i < waiter.got; i++) {
		if (replies[i]->type == REDIS_ERROR) {
			redis_log_error_reply(redis, "connecting", replies[i]);
			return false;
		}
	}
	return waiter.end == REDIS_ANSWERED;
}

static void
connect_now(struct redis *redis)
{
	int64_t deadline_ms = loop_now_ms(redis->loop) + REDIS_TIMEOUT_MS;
	bool up;

	redis->state = REDIS_CONNECTING;
	up = connect_any(redis, deadline_ms);
	if (up && !(introduce(redis) && redis->context != NULL)) { /* what came behind the replies may have ended it */
		redis->next_address++;
		up = false;
	}
	redis->state = up ? REDIS_UP : REDIS_DOWN;
	if (up) {
		redis_count(redis, redis_series.connected, 1);
	} else {
		redis_count(redis, redis_series.connect_failed, 1);
		redis_drop(redis, REDIS_LOST, NULL);
		redis_complain(redis, "redis_unreachable", "Redis cannot be reached", redis->failed_by);
	}
	fiber_wake_all(&redis->connect_waiters, NULL);
}

bool
redis_be_up(struct redis *redis)
{
	if (redis->state == REDIS_DOWN)
		connect_now(redis);
	else if (redis->state == REDIS_CONNECTING)
		(void)fiber_wait(&redis->connect_waiters, INT64_MAX, NULL);
	return redis->state == REDIS_UP;
}
