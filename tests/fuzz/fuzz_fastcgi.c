/*
 * The FastCGI edge: the input comes over a socket as a web server's bytes would, and ends or not. Whatever it is,
 * fastcgi_look tells in the end what to do, fastcgi_read never waits and takes exactly one request, and what it gives
 * is what request.h promises.
 */
#include "common/text.h"
#include "fcgi/api_error.h"
#include "fcgi/fastcgi.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define SENT_MAX (100 * 1024) /* what a socket takes at once */

static void
check_text(const char *text)
{
	must(text == NULL || text_is_utf8(text, strlen(text)));
}

static void
check_request(const struct request *request)
{
	const char *const texts[] = {request->path,           request->query,           request->host,
				     request->target_host,    request->cookie,          request->authorization,
				     request->origin,         request->task.request_id, request->content_type,
				     request->sec_fetch_site, request->gateway_code};

	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		check_text(texts[i]);
	must(request->path != NULL && request->query != NULL && request->host != NULL &&
	     request->task.request_id != NULL);
	must(request->target_host != NULL && strchr(request->path, '?') == NULL);
	must(request->body != NULL && request->body_len <= REQUEST_BODY_MAX &&
	     request->body[request->body_len] == '\0');
	must(request->broken == NULL || request->broken == &error_request_invalid ||
	     request->broken == &error_body_too_large);
	must(request->method <= METHOD_OTHER && request->server <= SERVER_GATEWAY);
}

/* The answer as a web server reads it: STDOUT records, then END_REQUEST with status 0. */
static void
check_answer(int peer)
{
	static uint8_t bytes[8192];
	ssize_t len = recv(peer, bytes, sizeof bytes, MSG_DONTWAIT);
	ssize_t at = 0;
	unsigned type = 0;

	must(len > 0);
	while (at + 8 <= len) {
		must(bytes[at] == 1);
		type = bytes[at + 1];
		if (type == 6 && (bytes[at + 4] | bytes[at + 5]) != 0)
			must(memcmp(bytes + at + 8, "Status: 200 OK\r\n", 16) == 0);
		at += 8 + (bytes[at + 4] << 8 | bytes[at + 5]) + bytes[at + 6];
	}
	must(at == len && type == 3);
}

static bool
take(struct fastcgi *fastcgi, int peer, int served, struct arena *arena)
{
	struct request request;
	struct response response;
	char byte;

	if (!fastcgi_read(fastcgi, arena, &request))
		return false;
	must(recv(served, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0);
	check_request(&request);
	response_init(&response, arena);
	must(response_header(&response, "X-Request-Id", "r") == NULL);
	response.body = "{}";
	response.body_len = 2;
	if (!fastcgi_answer(fastcgi, &response))
		return false;
	check_answer(peer);
	return true;
}

/* Send a part of the input and let the edge look. False when the connection is over. */
static bool
exchange(struct fastcgi *fastcgi, int peer, int served, const uint8_t *data, size_t size)
{
	struct arena *arena = fuzz_arena();

	must(size == 0 || send(peer, data, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size);
	switch (fastcgi_look(served)) {
	case FASTCGI_COMPLETE: return take(fastcgi, peer, served, arena);
	case FASTCGI_EMPTY:
	case FASTCGI_PARTIAL: return true;
	case FASTCGI_CLOSED:
	case FASTCGI_INVALID: break;
	}
	return false;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool prepared;
	int ends[2];

	if (!prepared)
		prepared = fastcgi_prepare();
	must(prepared);
	if (size < 2 || size > SENT_MAX)
		return 0;
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
	struct fastcgi *fastcgi = fastcgi_open(ends[1]);
	must(fastcgi != NULL);
	/* The first two bytes say where the input is cut in two, so that a part is looked at, and that a second request
	 * comes on the same connection. */
	size_t cut = (size_t)data[0] << 8 | data[1];
	data += 2;
	size -= 2;
	if (cut > size)
		cut = size;
	if (exchange(fastcgi, ends[0], ends[1], data, cut) &&
	    exchange(fastcgi, ends[0], ends[1], data + cut, size - cut)) {
		shutdown(ends[0], SHUT_WR);
		must(fastcgi_look(ends[1]) != FASTCGI_PARTIAL);
	}
	fastcgi_close(fastcgi);
	close(ends[0]);
	return 0;
}
