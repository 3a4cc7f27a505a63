/*
 * What `make bench` compares with, too: the least that a program can do for a list on an event loop. The same two reads
 * from Redis, one after the other, on a fiber; kept connections; a JSON document. No checks but those it needs to be
 * right, no limits, no log, no metrics, no timeouts, no sandbox, no error messages: whatever it meets that it does not
 * expect ends it.
 *
 *   REDIS_PASSWORD=… bare SOCKET REDIS-SOCKET BODY-LENGTH
 */
#include <errno.h>
#include <fcgiapp.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK_SIZE ((size_t)64 * 1024)
#define WAITING_MAX 4096 /* a power of two */
#define EVENTS 512
#define BODY_MAX 2048

struct connection {
	FCGX_Request request;
	int fd;
};

struct fiber {
	ucontext_t context;
	struct connection *connection;
	redisReply *reply;
	int ended;
	struct fiber *next; /* in the list of spare ones */
};

static ucontext_t loop_context;
static struct fiber *current, *spare;
static struct fiber *waiting[WAITING_MAX]; /* for replies, in their order */
static unsigned first_waiting, last_waiting;
static redisContext *redis;
static size_t body_length;

static void
need(int good, const char *what)
{
	if (!good) {
		fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
		exit(1);
	}
}

/* The reply to what was just appended, with these many elements; the caller frees it. */
static redisReply *
await_reply(size_t elements)
{
	waiting[last_waiting++ % WAITING_MAX] = current;
	need(last_waiting - first_waiting < WAITING_MAX, "too many requests");
	swapcontext(&current->context, &loop_context);
	need(current->reply->type == REDIS_REPLY_ARRAY && current->reply->elements == elements, "the reply");
	return current->reply;
}

static void
refuse(FCGX_Stream *out)
{
	FCGX_PutS("Status: 401\r\nContent-Length: 0\r\n\r\n", out);
}

static void
serve(FCGX_Request *request)
{
	static const char *const names[] = {"id",           "status",     "oauth_user_id",
					    "oauth_email",  "scopes",     "missing_scopes",
					    "connected_at", "updated_at", "validated_at"};
	const size_t count = sizeof names / sizeof *names;
	const char *authorization = FCGX_GetParam("HTTP_AUTHORIZATION", request->envp);
	const char *uri = FCGX_GetParam("REQUEST_URI", request->envp);
	char organization[65], organization_field[70], hash[2 * SHA256_DIGEST_LENGTH + 1], body[BODY_MAX];
	unsigned char digest[SHA256_DIGEST_LENGTH];
	redisReply *session, *record;
	size_t len;

	need(authorization != NULL && uri != NULL, "parameters");
	if (strncmp(authorization, "Bearer ", 7) != 0 ||
	    sscanf(uri, "/bench/bare/%64[A-Za-z0-9_-]", organization) != 1) {
		refuse(request->out);
		return;
	}
	SHA256((const unsigned char *)authorization + 7, strlen(authorization + 7), digest);
	for (size_t i = 0; i < sizeof digest; i++)
		snprintf(hash + 2 * i, 3, "%02x", digest[i]);
	snprintf(organization_field, sizeof organization_field, "org:%s", organization);
	redisAppendCommand(redis, "HMGET session:%s user_id %s", hash, organization_field);
	session = await_reply(2);
	if (session->element[0]->type != REDIS_REPLY_STRING || session->element[1]->type != REDIS_REPLY_STRING) {
		freeReplyObject(session);
		refuse(request->out);
		return;
	}
	redisAppendCommand(redis,
			   "HMGET integration:{%s:%s}:google id status oauth_user_id oauth_email scopes missing_scopes "
			   "connected_at updated_at validated_at",
			   organization, session->element[0]->str);
	freeReplyObject(session);
	record = await_reply(count);
	len = (size_t)snprintf(body, sizeof body, "{\"integrations\":[{\"service\":\"google\"");
	for (size_t i = 0; i < count; i++) {
		const char *value = record->element[i]->type == REDIS_REPLY_STRING ? record->element[i]->str : "";

		len += (size_t)snprintf(body + len, sizeof body - len, ",\"%s\":\"%s\"", names[i], value);
		need(len < sizeof body, "the body");
	}
	freeReplyObject(record);
	len += (size_t)snprintf(body + len, sizeof body - len, "}]}");
	while (len < body_length && len < sizeof body) /* all that are compared send as much */
		body[len++] = ' ';
	FCGX_FPrintF(request->out, "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n", (int)len);
	FCGX_PutStr(body, (int)len, request->out);
}

static void
run_requests(void)
{
	for (;;) {
		serve(&current->connection->request);
		FCGX_Finish_r(&current->connection->request);
		current->ended = 1;
		swapcontext(&current->context, &loop_context);
	}
}

static void
run(struct fiber *fiber)
{
	current = fiber;
	swapcontext(&loop_context, &fiber->context);
	if (fiber->ended) {
		fiber->ended = 0;
		fiber->next = spare;
		spare = fiber;
	}
}

static void
make_context(struct fiber *fiber)
{
	getcontext(&fiber->context);
	fiber->context.uc_stack.ss_sp =
	    mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	need(fiber->context.uc_stack.ss_sp != MAP_FAILED, "memory");
	fiber->context.uc_stack.ss_size = STACK_SIZE;
	makecontext(&fiber->context, run_requests, 0);
}

static struct fiber *
take_fiber(void)
{
	struct fiber *fiber = spare;

	if (fiber != NULL) {
		spare = fiber->next;
		return fiber;
	}
	fiber = calloc(1, sizeof *fiber);
	need(fiber != NULL, "memory");
	make_context(fiber);
	return fiber;
}

static void
watch(int epoll, int fd, void *who)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = who};

	need(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static void
accept_connection(int epoll, int listening)
{
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	struct connection *connection;

	if (fd < 0)
		return;
	connection = calloc(1, sizeof *connection);
	need(connection != NULL && FCGX_InitRequest(&connection->request, 0, 0) == 0, "memory");
	connection->fd = fd;
	watch(epoll, fd, connection);
}

static void
read_request(struct connection *connection, uint32_t events)
{
	struct fiber *fiber;

	connection->request.ipcFd = connection->fd;
	connection->request.keepConnection = 1;
	if ((events & (EPOLLRDHUP | EPOLLHUP)) != 0 || FCGX_Accept_r(&connection->request) != 0) {
		close(connection->fd); /* the connection's memory is left: there are as many as nginx opens */
		return;
	}
	fiber = take_fiber();
	fiber->connection = connection;
	run(fiber);
}

static void
read_replies(void)
{
	void *reply;

	need(redisBufferRead(redis) == REDIS_OK, "reading from Redis");
	while (redisGetReplyFromReader(redis, &reply) == REDIS_OK && reply != NULL) {
		struct fiber *fiber = waiting[first_waiting++ % WAITING_MAX];

		fiber->reply = reply;
		run(fiber);
	}
}

static void
connect_to_redis(const char *path)
{
	const char *password = getenv("REDIS_PASSWORD");
	redisReply *reply;

	redis = redisConnectUnix(path);
	need(redis != NULL && redis->err == 0 && password != NULL, "connecting to Redis");
	reply = redisCommand(redis, "AUTH integrations %s", password);
	need(reply != NULL && reply->type == REDIS_REPLY_STATUS, "AUTH");
	freeReplyObject(reply);
	redis->flags &= ~REDIS_BLOCK;
	need(fcntl(redis->fd, F_SETFL, O_NONBLOCK) == 0, "fcntl");
}

int
main(int argc, char **argv)
{
	int epoll = epoll_create1(0);
	int listening;

	if (argc != 4) {
		fprintf(stderr, "usage: %s SOCKET REDIS-SOCKET BODY-LENGTH\n", argv[0]);
		return 64;
	}
	body_length = strtoul(argv[3], NULL, 10);
	need(FCGX_Init() == 0, "FCGX_Init");
	connect_to_redis(argv[2]);
	listening = FCGX_OpenSocket(argv[1], 4096);
	need(listening >= 0 && fcntl(listening, F_SETFL, O_NONBLOCK) == 0, "listening");
	watch(epoll, listening, &listening);
	watch(epoll, redis->fd, redis);
	for (;;) {
		struct epoll_event events[EVENTS];
		int count = epoll_wait(epoll, events, EVENTS, -1);
		int written = 0;

		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr == &listening)
				accept_connection(epoll, listening);
			else if (events[i].data.ptr == redis)
				read_replies();
			else
				read_request(events[i].data.ptr, events[i].events);
		}
		while (!written) /* all commands of this turn at once */
			need(redisBufferWrite(redis, &written) == REDIS_OK, "writing to Redis");
	}
}
