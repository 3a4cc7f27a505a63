/* The HTTP client against a scripted server on the same loop: whom it reaches, and why it says that a call failed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/error.h"
#include "common/http.h"
#include "common/loop.h"
#include "common/resolve.h"
#include "tests/unit/on_loop.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOON 2000
#define ARENA_LIMIT ((size_t)256 * 1024)

static struct server {
	unsigned port;
	int listener;
	int fd; /* -1: none */
	struct loop_io *accept_io, *io;
	size_t accepted;
	char in[4096];
	size_t len;
	const char *answer; /* all of what it says, before it closes */
} server;

static struct resolver *resolver;
static struct http *http;

static void
hang_up(void)
{
	loop_io_close(server.io);
	server.io = NULL;
	if (server.fd >= 0)
		close(server.fd);
	server.fd = -1;
}

static void
server_read(void *arg, int events)
{
	ssize_t n = recv(server.fd, server.in + server.len, sizeof server.in - server.len - 1, 0);

	(void)arg;
	(void)events;
	if (n <= 0) {
		hang_up();
		return;
	}
	server.len += (size_t)n;
	server.in[server.len] = '\0';
	if (strstr(server.in, "\r\n\r\n") == NULL)
		return;
	(void)send(server.fd, server.answer, strlen(server.answer), MSG_NOSIGNAL);
	hang_up();
}

static void
server_accept(void *arg, int events)
{
	const int room = 256 * 1024; /* an answer goes out in one piece */

	(void)arg;
	(void)events;
	server.fd = accept4(server.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(server.fd >= 0);
	(void)setsockopt(server.fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
	server.accepted++;
	server.len = 0;
	server.io = loop_io_open(test_loop, server.fd, LOOP_READ, server_read, NULL);
}

/* False on a machine without this family. */
static bool
listen_on(int family)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr *address = family == AF_INET ? (struct sockaddr *)(void *)&v4 : (struct sockaddr *)(void *)&v6;
	socklen_t len = family == AF_INET ? sizeof v4 : sizeof v6;

	server.listener = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (server.listener < 0 || bind(server.listener, address, len) != 0)
		return false;
	assert_int_equal(listen(server.listener, 4), 0);
	assert_int_equal(getsockname(server.listener, address, &len), 0);
	server.port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
	server.accept_io = loop_io_open(test_loop, server.listener, LOOP_READ, server_accept, NULL);
	return true;
}

static int
open_all(void **state)
{
	const struct http_settings settings = {.allow_private = true, .user_agent = "test"};

	signal(SIGPIPE, SIG_IGN);
	server = (struct server){.listener = -1, .fd = -1};
	if (on_loop_open(state) != 0)
		return -1;
	resolver = resolver_open(test_loop);
	http = http_open(test_loop, resolver, &settings);
	return http == NULL;
}

static int
close_all(void **state)
{
	http_close(http);
	resolver_close(resolver);
	hang_up();
	loop_io_close(server.accept_io);
	if (server.listener >= 0)
		close(server.listener);
	return on_loop_close(state);
}

struct call {
	const char *url;
	size_t limit; /* of its arena */
	struct arena *arena;
	struct http_response response;
	const struct error *error;
	const char *why;
};

static void
work(void *arg)
{
	struct call *call = arg;
	const struct http_request request = {
	    .method = "GET", .url = call->url, .deadline_ms = loop_now_ms(test_loop) + SOON / 2};

	call->error = http_send(http, call->arena, &request, &call->response, &call->why);
}

static void
send_call(struct call *call, const char *scheme, const char *host)
{
	char url[64];

	snprintf(url, sizeof url, "%s://%s:%u/", scheme, host, server.port);
	call->url = url;
	call->arena = arena_open(1024, call->limit > 0 ? call->limit : ARENA_LIMIT, NULL, NULL);
	assert_non_null(call->arena);
	on_loop_start(work, call);
	on_loop_finish(SOON);
}

static void
reaches(const char *host)
{
	struct call call = {0};

	server.answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nRetry-After: 7\r\n\r\nhello";
	send_call(&call, "http", host);
	if (call.error != NULL)
		fail_msg("%s: %s", host, call.why);
	assert_int_equal(call.response.status, 200);
	assert_string_equal(call.response.body, "hello");
	assert_int_equal(call.response.retry_after, 7);
	arena_close(call.arena);
}

static void
fails(struct call call, const char *scheme, const char *host, const char *why)
{
	send_call(&call, scheme, host);
	assert_ptr_equal(call.error, &error_provider_unreachable);
	assert_string_equal(call.why, why);
	arena_close(call.arena);
}

static void
a_name_and_a_numeric_ipv4_host(void **state)
{
	(void)state;
	assert_true(listen_on(AF_INET));
	reaches("localhost");
	reaches("127.0.0.1");
	assert_int_equal(server.accepted, 2);
}

static void
a_numeric_ipv6_host(void **state)
{
	(void)state;
	if (!listen_on(AF_INET6))
		skip();
	reaches("[::1]");
	reaches("[0:0:0:0:0:0:0:1]");
	assert_int_equal(server.accepted, 2);
}

static void
what_is_not_public_is_not_reached(void **state)
{
	static const char *const hosts[] = {"localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]"};
	const struct http_settings settings = {.user_agent = "test"};

	(void)state;
	assert_true(listen_on(AF_INET));
	http_close(http);
	http = http_open(test_loop, resolver, &settings);
	assert_non_null(http);
	for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
		fails((struct call){0}, "https", hosts[i], "the connection was refused, or its address is not allowed");
	fails((struct call){0}, "http", "127.0.0.1", "the address is not allowed");
	assert_int_equal(server.accepted, 0);
}

/* An answer with a body of `len` bytes. */
static const char *
long_answer(size_t len)
{
	static char answer[HTTP_BODY_MAX + 1024];
	int head = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", len);

	memset(answer + head, 'a', len);
	answer[(size_t)head + len] = '\0';
	return answer;
}

static void
an_answer_that_does_not_fit(void **state)
{
	(void)state;
	assert_true(listen_on(AF_INET));
	server.answer = long_answer(HTTP_BODY_MAX + 1);
	fails((struct call){0}, "http", "127.0.0.1", "the answer is too large");
	server.answer = long_answer(HTTP_BODY_MAX / 2);
	fails((struct call){.limit = (size_t)16 * 1024}, "http", "127.0.0.1", "no memory for the answer");
}

static void
an_answer_that_is_not_http(void **state)
{
	static const struct {
		const char *answer, *why;
	} rows[] = {
	    {"", "the connection closed without an answer"},
	    {"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not valid HTTP"},
	    {"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello", "the answer is not valid HTTP"},
	    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: unheard-of\r\n\r\nhello", "the answer is not valid HTTP"},
	    {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello", "the answer was cut short"},
	};

	(void)state;
	assert_true(listen_on(AF_INET));
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		server.answer = rows[i].answer;
		fails((struct call){0}, "http", "127.0.0.1", rows[i].why);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(a_name_and_a_numeric_ipv4_host),    TEST(a_numeric_ipv6_host),
	    TEST(what_is_not_public_is_not_reached), TEST(an_answer_that_does_not_fit),
	    TEST(an_answer_that_is_not_http),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
