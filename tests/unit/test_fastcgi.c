/*
 * FastCGI over a socketpair: that libfcgi takes a connection which is handed to it (its fields ipcFd and
 * keepConnection), and that nothing reaches it but what a web server sends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "fcgi/api_error.h"
#include "fcgi/fastcgi.h"
#include "fcgi/request.h"
#include "fcgi/response.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BEGIN = 1, ABORT, END, PARAMS, STDIN, STDOUT, STDERR };

static int peer;   /* the web server's end */
static int served; /* ours */
static struct fastcgi *fastcgi;
static struct arena *arena;
static struct request request;

static int
open_all(void **state)
{
	int ends[2];

	(void)state;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0)
		return -1;
	peer = ends[0];
	served = ends[1];
	fastcgi = fastcgi_open(served);
	arena = arena_open(4096, 1024 * 1024, NULL, NULL);
	return fastcgi == NULL || arena == NULL;
}

static int
close_all(void **state)
{
	(void)state;
	fastcgi_close(fastcgi);
	arena_close(arena);
	if (peer >= 0)
		close(peer);
	return 0;
}

/* ---- what a web server sends ---- */

struct bytes {
	uint8_t data[200 * 1024];
	size_t len;
};

static struct bytes out;

static void
add(const void *data, size_t len)
{
	assert_true(out.len + len <= sizeof out.data);
	memcpy(out.data + out.len, data, len);
	out.len += len;
}

static void
add_record_padded(unsigned type, unsigned id, const void *content, size_t len, unsigned padding)
{
	const uint8_t head[8] = {
	    1, (uint8_t)type, (uint8_t)(id >> 8), (uint8_t)id, (uint8_t)(len >> 8), (uint8_t)len, (uint8_t)padding, 0};
	static const uint8_t zeros[256];

	add(head, sizeof head);
	if (len > 0)
		add(content, len);
	add(zeros, padding);
}

static void
add_record(unsigned type, unsigned id, const void *content, size_t len)
{
	add_record_padded(type, id, content, len, 0);
}

static void
add_begin(unsigned id, unsigned role)
{
	const uint8_t body[8] = {0, (uint8_t)role, 1};

	add_record(BEGIN, id, body, sizeof body);
}

struct params {
	uint8_t data[65536];
	size_t len;
};

static struct params params;

static void
add_length(size_t len, bool always_long)
{
	if (len < 128 && !always_long) {
		params.data[params.len++] = (uint8_t)len;
		return;
	}
	params.data[params.len++] = (uint8_t)(len >> 24 | 0x80);
	params.data[params.len++] = (uint8_t)(len >> 16);
	params.data[params.len++] = (uint8_t)(len >> 8);
	params.data[params.len++] = (uint8_t)len;
}

static void
add_pair(const char *name, const char *value)
{
	add_length(strlen(name), false);
	add_length(strlen(value), params.len % 2 == 0); /* both forms are allowed for any length */
	memcpy(params.data + params.len, name, strlen(name));
	params.len += strlen(name);
	memcpy(params.data + params.len, value, strlen(value));
	params.len += strlen(value);
}

static void
usual_params(const char *method, const char *length)
{
	params.len = 0;
	add_pair("REQUEST_METHOD", method);
	add_pair("REQUEST_URI", "/api/me?x=1");
	add_pair("CONTENT_LENGTH", length);
	add_pair("HTTP_HOST", "app.example.com");
	add_pair("REQUEST_HOST", "app.example.com");
	add_pair("HTTP_COOKIE", "");
	add_pair("HTTP_AUTHORIZATION", "Bearer session-MARKER");
	add_pair("HTTP_X_REQUEST_ID", "0123456789abcdef");
	add_pair("HTTP_PROXY", "ignored");
	add_pair("INTEGRATIONS_SERVER", "public");
}

static void
add_params(unsigned id)
{
	add_record_padded(PARAMS, id, params.data, params.len, (unsigned)(-params.len & 7));
	add_record(PARAMS, id, NULL, 0);
}

/* A whole request; its body in records of `at_once` bytes. */
static void
make_request(unsigned id, const char *method, const char *length, const char *body, size_t body_len, size_t at_once)
{
	out.len = 0;
	add_begin(id, 1);
	usual_params(method, length);
	add_params(id);
	for (size_t i = 0; i < body_len; i += at_once) {
		size_t n = body_len - i < at_once ? body_len - i : at_once;

		add_record_padded(STDIN, id, body + i, n, (unsigned)(-n & 7));
	}
	add_record(STDIN, id, NULL, 0);
}

static void
make_get(unsigned id)
{
	make_request(id, "GET", "", NULL, 0, 1);
}

static void
send_out(void)
{
	assert_int_equal(send(peer, out.data, out.len, MSG_NOSIGNAL), (ssize_t)out.len);
}

/* ---- what comes back ---- */

static char answer[512 * 1024];
static size_t answer_len;

static void
receive(uint8_t *bytes, size_t len)
{
	size_t got = 0;

	while (got < len) {
		ssize_t n = recv(peer, bytes + got, len - got, 0);

		assert_true(n > 0);
		got += (size_t)n;
	}
}

/* The whole answer to request `id`, its head and body in `answer`. */
static void
take_answer(unsigned id)
{
	static uint8_t content[65536 + 256];
	bool over = false;

	answer_len = 0;
	while (!over) {
		uint8_t head[8];
		size_t len;

		receive(head, sizeof head);
		len = (size_t)head[4] << 8 | head[5];
		assert_int_equal(head[0], 1);
		assert_int_equal(head[2] << 8 | head[3], id);
		receive(content, len + head[6]);
		if (head[1] == STDOUT) {
			memcpy(answer + answer_len, content, len);
			answer_len += len;
		} else {
			assert_int_equal(head[1], END);
			assert_int_equal(len, 8);
			assert_int_equal(content[4], 0);
			over = true;
		}
	}
	answer[answer_len] = '\0';
}

static void
nothing_more_comes(void)
{
	char byte;

	assert_int_equal(recv(peer, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

static bool
say(const char *body)
{
	struct response response;

	response_init(&response, arena);
	response.content_type = "text/plain";
	response.body = body;
	response.body_len = strlen(body);
	return fastcgi_answer(fastcgi, &response);
}

/* ---- tests ---- */

static void
serves_many_requests_on_one_connection(void **state)
{
	(void)state;
	for (unsigned id = 1; id <= 300; id += 13) {
		assert_int_equal(fastcgi_look(served), FASTCGI_EMPTY);
		make_get(id);
		send_out();
		assert_int_equal(fastcgi_look(served), FASTCGI_COMPLETE);
		assert_true(fastcgi_read(fastcgi, arena, &request));
		assert_true(say("hello"));
		take_answer(id);
		assert_string_equal(answer,
				    "Status: 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello");
		nothing_more_comes();
		arena_reset(arena);
	}
	assert_true(fcntl(served, F_GETFD) >= 0);
}

static void
tells_what_nginx_says(void **state)
{
	(void)state;
	make_get(1);
	send_out();
	assert_true(fastcgi_read(fastcgi, arena, &request));
	assert_int_equal(request.method, METHOD_GET);
	assert_string_equal(request.path, "/api/me");
	assert_string_equal(request.query, "x=1");
	assert_string_equal(request.host, "app.example.com");
	assert_string_equal(request.authorization, "Bearer session-MARKER");
	assert_null(request.cookie);
	assert_null(request.origin);
	assert_string_equal(request.task.request_id, "0123456789abcdef");
	assert_int_equal(request.body_len, 0);
	assert_null(request.broken);
	assert_null(request.task.connection_key.user);
	assert_true(say(""));
}

static void
refuses_text_that_is_no_utf8(void **state)
{
	(void)state;
	out.len = 0;
	add_begin(1, 1);
	usual_params("GET", "");
	add_pair("HTTP_ORIGIN", "https://\xff\xfe");
	add_params(1);
	add_record(STDIN, 1, NULL, 0);
	send_out();
	assert_true(fastcgi_read(fastcgi, arena, &request));
	assert_ptr_equal(request.broken, &error_request_invalid);
	assert_null(request.origin);
	assert_true(say(""));
}

/* As long as one byte is missing libfcgi is not called: it would wait. */
static void
waits_for_the_last_byte(void **state)
{
	(void)state;
	make_request(1, "POST", "10", "0123456789", 10, 4);
	for (size_t cut = 0; cut < out.len; cut++) {
		if (cut > 0)
			assert_int_equal(send(peer, out.data, cut, MSG_NOSIGNAL), (ssize_t)cut);
		assert_int_equal(fastcgi_look(served), cut == 0 ? FASTCGI_EMPTY : FASTCGI_PARTIAL);
		assert_int_equal(send(peer, out.data + cut, out.len - cut, MSG_NOSIGNAL), (ssize_t)(out.len - cut));
		assert_int_equal(fastcgi_look(served), FASTCGI_COMPLETE);
		assert_true(fastcgi_read(fastcgi, arena, &request));
		assert_int_equal(request.method, METHOD_POST);
		assert_int_equal(request.body_len, 10);
		assert_memory_equal(request.body, "0123456789", 10);
		assert_true(say("yes"));
		take_answer(1);
		arena_reset(arena);
	}
}

static void
sees_a_peer_close(void **state)
{
	(void)state;
	make_get(1);
	assert_int_equal(send(peer, out.data, out.len / 2, MSG_NOSIGNAL), (ssize_t)out.len / 2);
	assert_int_equal(fastcgi_look(served), FASTCGI_PARTIAL);
	close(peer);
	peer = -1;
	assert_int_equal(fastcgi_look(served), FASTCGI_CLOSED);
}

static void
answers_a_peer_that_only_stopped_sending(void **state)
{
	(void)state;
	make_get(1);
	send_out();
	shutdown(peer, SHUT_WR);
	assert_int_equal(fastcgi_look(served), FASTCGI_COMPLETE);
	assert_true(fastcgi_read(fastcgi, arena, &request));
	assert_true(say("still"));
	take_answer(1);
	assert_int_equal(fastcgi_look(served), FASTCGI_CLOSED);
}

static void
takes_bodies_up_to_their_maximum(void **state)
{
	static char body[REQUEST_BODY_MAX + 9000];
	static const size_t sizes[] = {
	    1, 7, 8, 4096, 8184, 8192, 8193, REQUEST_BODY_MAX - 1, REQUEST_BODY_MAX, 16385, 20000, 25000};
	static const size_t records[] = {1, 100, 8192, 65535};

	(void)state;
	for (size_t i = 0; i < sizeof body; i++)
		body[i] = (char)('a' + i % 26);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (size_t j = sizes[i] > 4096; j < sizeof records / sizeof *records; j++) {
			char length[24];

			snprintf(length, sizeof length, "%zu", sizes[i]);
			make_request(1, "POST", length, body, sizes[i], records[j]);
			send_out();
			assert_int_equal(fastcgi_look(served), FASTCGI_COMPLETE);
			assert_true(fastcgi_read(fastcgi, arena, &request));
			if (sizes[i] <= REQUEST_BODY_MAX) {
				assert_null(request.broken);
				assert_int_equal(request.body_len, sizes[i]);
				assert_memory_equal(request.body, body, sizes[i]);
			} else {
				assert_ptr_equal(request.broken, &error_body_too_large);
			}
			assert_true(say("next"));
			take_answer(1);
			nothing_more_comes();
			arena_reset(arena);
		}
	}
}

static void
says_413_where_nginx_kept_the_body(void **state)
{
	(void)state;
	make_request(1, "POST", "16385", NULL, 0, 1);
	send_out();
	assert_true(fastcgi_read(fastcgi, arena, &request));
	assert_ptr_equal(request.broken, &error_body_too_large);
	assert_true(say(""));
}

/* Whatever it decides, the next request on the connection is not mixed up with this one's rest. */
static void
sees_lengths_that_are_not_the_body_s(void **state)
{
	static const struct {
		const char *length;
		const char *body;
	} cases[] = {{"3", "{}"},  {"2", "{}{}"}, {"1", ""},    {"", "{}"},
		     {"-1", "{}"}, {"0x2", "{}"}, {" 2", "{}"}, {"99999999999999999999", "{}"}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		make_request(1, "POST", cases[i].length, cases[i].body, strlen(cases[i].body), 100);
		send_out();
		assert_int_equal(fastcgi_look(served), FASTCGI_COMPLETE);
		if (fastcgi_read(fastcgi, arena, &request)) {
			assert_ptr_equal(request.broken, &error_body_too_large);
			assert_true(say("no"));
			take_answer(1);
		} else {
			fastcgi_drop(fastcgi);
			close_all(NULL);
			assert_int_equal(open_all(NULL), 0);
		}
	}
}

static void
is_refused(const char *what)
{
	send_out();
	if (fastcgi_look(served) != FASTCGI_INVALID)
		fail_msg("not refused: %s", what);
	close_all(NULL);
	assert_int_equal(open_all(NULL), 0);
	out.len = 0;
}

static void
refuse_params(const char *what, const char *bytes, size_t len)
{
	out.len = 0;
	add_begin(1, 1);
	usual_params("GET", "");
	memcpy(params.data + params.len, bytes, len);
	params.len += len;
	add_params(1);
	add_record(STDIN, 1, NULL, 0);
	is_refused(what);
}

static void
refuses_what_no_web_server_sends(void **state)
{
	static const char http[] = "GET / HTTP/1.1\r\n\r\n";

	(void)state;
	add(http, sizeof http - 1);
	is_refused("HTTP");
	add_begin(1, 1);
	out.data[0] = 2;
	is_refused("another version");
	add_begin(1, 2);
	is_refused("an authorizer");
	add_begin(1, 3);
	is_refused("a filter");
	add_begin(0, 1);
	is_refused("request 0");
	add_record(BEGIN, 1, "\0\1\1", 3);
	is_refused("a short beginning");
	add_record(9, 0, "x", 1);
	is_refused("a management record");
	add_record(200, 1, "x", 1);
	is_refused("an unknown record");
	add_record(STDIN, 1, NULL, 0);
	is_refused("a body first");
	add_begin(1, 1);
	add_begin(1, 1);
	is_refused("two beginnings");
	add_begin(1, 1);
	add_record(PARAMS, 1, NULL, 0);
	is_refused("no parameters");
	usual_params("GET", "");
	add_begin(1, 1);
	add_record(PARAMS, 2, params.data, params.len);
	is_refused("two ids");
	add_begin(1, 1);
	add_record(PARAMS, 1, params.data, params.len);
	add_record(PARAMS, 1, params.data, params.len);
	is_refused("two records of parameters");
	add_begin(1, 1);
	add_params(1);
	add_record(ABORT, 1, NULL, 0);
	is_refused("an abort");
	make_get(1);
	add_begin(2, 1);
	is_refused("a second request before the first was answered");
	make_get(1);
	add("\1\1\0", 3);
	is_refused("the first bytes of a second request");
	usual_params("POST", "1");
	add_begin(1, 1);
	add_params(1);
	add_record(STDIN, 2, "x", 1);
	add_record(STDIN, 1, NULL, 0);
	is_refused("a body of another id");
	usual_params("GET", "");
	memcpy(params.data + params.len, "\x01\x03nv", 4);
	add_begin(1, 1);
	add_record(PARAMS, 1, params.data, params.len + 4);
	add_record(PARAMS, 1, NULL, 0);
	add_record(STDIN, 1, NULL, 0);
	is_refused("a value that ends in the next record");
	refuse_params("a name longer than the record", "\x7f\x01n", 3);
	refuse_params("a value longer than the record", "\x01\x7fn", 3);
	refuse_params("lengths whose sum overflows", "\xff\xff\xff\xff\xff\xff\xff\xffx", 9);
	refuse_params("a length that is cut", "\x80\x00", 2);
	refuse_params("a name without a value's length", "\x01", 1);
	refuse_params("no name", "\x00\x01x", 3);
	refuse_params("NUL in a name", "\x02\x01n\0v", 5);
	refuse_params("NUL in a value", "\x01\x02nv\0", 5);
	usual_params("GET", "");
	for (int i = 0; i < 64; i++)
		add_pair("N", "v");
	add_begin(1, 1);
	add_params(1);
	is_refused("too many parameters");
}

/* A request that never ends, in a stream of its body, is given up when it is larger than any that is answered. */
static void
gives_up_on_an_endless_body(void **state)
{
	static char body[60000];
	int size = 1024 * 1024;

	(void)state;
	setsockopt(peer, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	out.len = 0;
	add_begin(1, 1);
	usual_params("POST", "1000000");
	add_params(1);
	add_record(STDIN, 1, body, sizeof body);
	add_record(STDIN, 1, body, sizeof body);
	add_record(STDIN, 1, body, sizeof body);
	if (send(peer, out.data, out.len, MSG_NOSIGNAL) == (ssize_t)out.len)
		assert_int_equal(fastcgi_look(served), FASTCGI_INVALID);
}

static void
writes_headers_and_status(void **state)
{
	struct response response;

	(void)state;
	make_get(1);
	send_out();
	assert_true(fastcgi_read(fastcgi, arena, &request));
	response_init(&response, arena);
	response.status = 429;
	assert_null(response_header(&response, "Retry-After", "7"));
	assert_true(fastcgi_answer(fastcgi, &response));
	take_answer(1);
	assert_string_equal(answer, "Status: 429 Too Many Requests\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n");
}

static void
refuses_headers_of_more_than_a_line(void **state)
{
	static const char *const values[] = {"a\r\nSet-Cookie: b=c", "a\nb", "a\rb", "a\tb", "a\x7f", "\x01"};
	struct response response;

	(void)state;
	response_init(&response, arena);
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		assert_ptr_equal(response_header(&response, "X-Name", values[i]), &error_internal);
	assert_int_equal(response.header_count, 0);
	for (size_t i = 0; i < RESPONSE_HEADERS_MAX; i++)
		assert_null(response_header(&response, "X-Name", "value"));
	assert_ptr_equal(response_header(&response, "X-Name", "value"), &error_internal);
	assert_int_equal(response.header_count, RESPONSE_HEADERS_MAX);
}

/* The largest answer leaves at once, though the peer has not begun to read. */
static void
never_waits_for_a_reader(void **state)
{
	struct response response;
	char *body = malloc(RESPONSE_BODY_MAX);

	(void)state;
	make_get(1);
	send_out();
	assert_true(fastcgi_read(fastcgi, arena, &request));
	memset(body, 'x', RESPONSE_BODY_MAX);
	response_init(&response, arena);
	response.body = body;
	response.body_len = RESPONSE_BODY_MAX;
	assert_true(fastcgi_answer(fastcgi, &response));
	take_answer(1);
	assert_int_equal(answer_len, strlen("Status: 200 OK\r\nContent-Length: 262144\r\n\r\n") + RESPONSE_BODY_MAX);
	free(body);
}

static void
says_when_the_peer_is_gone(void **state)
{
	(void)state;
	make_get(1);
	send_out();
	assert_true(fastcgi_read(fastcgi, arena, &request));
	close(peer);
	peer = -1;
	assert_false(say("nobody hears this"));
}

/* A dropped request leaves nothing behind: neither bytes for the peer nor a descriptor closed too early. */
static void
forgets_a_dropped_request(void **state)
{
	(void)state;
	make_get(1);
	send_out();
	assert_true(fastcgi_read(fastcgi, arena, &request));
	fastcgi_drop(fastcgi);
	nothing_more_comes();
	assert_true(fcntl(served, F_GETFD) >= 0);
	fastcgi_close(fastcgi);
	assert_int_equal(fcntl(served, F_GETFD), -1);
	fastcgi = NULL;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

extern const char __bss_start[]; /* NOLINT(bugprone-reserved-identifier): the linker's names */
extern const char _end[];        /* NOLINT(bugprone-reserved-identifier) */

/* Whether a variable of this program holds `text`. */
__attribute__((no_sanitize("address"))) static bool
is_held(const char *text)
{
	size_t len = strlen(text);

	for (const char *at = __bss_start; at + len <= _end; at++) {
		size_t i = 0;

		while (i < len && at[i] == text[i])
			i++;
		if (i == len)
			return true;
	}
	return false;
}

static void
a_look_leaves_no_credentials(void **state)
{
	static const char token[] = "Bearer session-MARKER-in-the-look";
	char bytes[128] = {1, 4, 0, 1, 0, 100}; /* a record that is not whole */
	int ends[2];

	(void)state;
	memcpy(bytes + 8, token, sizeof token);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(write(ends[1], bytes, 60), 60);
	(void)fastcgi_look(ends[0]);
	assert_false(is_held(token));
	close(ends[0]);
	close(ends[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_look_leaves_no_credentials),
	    TEST(serves_many_requests_on_one_connection),
	    TEST(tells_what_nginx_says),
	    TEST(refuses_text_that_is_no_utf8),
	    TEST(waits_for_the_last_byte),
	    TEST(sees_a_peer_close),
	    TEST(answers_a_peer_that_only_stopped_sending),
	    TEST(takes_bodies_up_to_their_maximum),
	    TEST(says_413_where_nginx_kept_the_body),
	    TEST(sees_lengths_that_are_not_the_body_s),
	    TEST(refuses_what_no_web_server_sends),
	    TEST(gives_up_on_an_endless_body),
	    TEST(writes_headers_and_status),
	    TEST(refuses_headers_of_more_than_a_line),
	    TEST(never_waits_for_a_reader),
	    TEST(says_when_the_peer_is_gone),
	    TEST(forgets_a_dropped_request),
	};

	if (!fastcgi_prepare())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
