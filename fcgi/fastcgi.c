/*
 * libfcgi is handed each accepted connection by setting `ipcFd` and `keepConnection`, fields that its header calls
 * internal (tests/unit/test_fastcgi.c pins that it works). It never accepts, never closes and never waits: connections
 * are ours, and fastcgi_look has seen the whole request before libfcgi reads a byte. fastcgi_look is also the guard:
 * libfcgi's record layer is not hardened, so what it gets is exactly what a web server sends for one request: BEGIN
 * (responder), one PARAMS record and its end, STDIN records and their end, all with one id and sane lengths.
 */
#include "fcgi/fastcgi.h"

#include "common/arena.h"
#include "common/text.h"
#include "fcgi/api_error.h"
#include "fcgi/request.h"
#include "fcgi/response.h"

#include <errno.h>
#include <fastcgi.h>
#include <fcgi_config.h>
#include <fcgiapp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOK_MAX ((size_t)160 * 1024) /* one PARAMS record, and more body than is allowed, so that 413 can be said */
#define SEND_BUFFER (512 * 1024)      /* the largest answer leaves at once, however slowly it is read */
#define PARAMS_MAX 64

struct fastcgi {
	FCGX_Request fcgi;
};

bool
fastcgi_prepare(void)
{
	return FCGX_Init() == 0;
}

struct fastcgi *
fastcgi_open(int fd)
{
	struct fastcgi *fastcgi = calloc(1, sizeof *fastcgi);
	int size = SEND_BUFFER;

	if (fastcgi == NULL)
		return NULL;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
	FCGX_InitRequest(&fastcgi->fcgi, -1, FCGI_FAIL_ACCEPT_ON_INTR);
	fastcgi->fcgi.ipcFd = fd;
	return fastcgi;
}

void
fastcgi_close(struct fastcgi *fastcgi)
{
	if (fastcgi == NULL)
		return;
	FCGX_Free(&fastcgi->fcgi, 0);
	if (fastcgi->fcgi.ipcFd >=
	    0) /* else libfcgi has closed it, in the middle of a request that it would not read */
		close(fastcgi->fcgi.ipcFd);
	free(fastcgi);
}

/* ---- look ---- */

struct record {
	unsigned type;
	unsigned id;
	const uint8_t *content;
	size_t len;
};

/* The next record; *rest moves behind it. False when it is not whole yet. */
static bool
next_record(const uint8_t **rest, const uint8_t *end, struct record *record)
{
	const uint8_t *at = *rest;
	size_t len, padding;

	if (end - at < FCGI_HEADER_LEN)
		return false;
	len = (size_t)at[4] << 8 | at[5];
	padding = at[6];
	record->type = at[1];
	record->id = (unsigned)at[2] << 8 | at[3];
	record->content = at + FCGI_HEADER_LEN;
	record->len = len;
	if ((size_t)(end - at) < FCGI_HEADER_LEN + len + padding)
		return false;
	*rest = at + FCGI_HEADER_LEN + len + padding;
	return true;
}

/* A length of a name-value pair (FastCGI 1.0, 3.4). */
static bool
pair_length(const uint8_t **at, const uint8_t *end, size_t *len)
{
	if (*at == end)
		return false;
	if ((**at & 0x80) == 0) {
		*len = *(*at)++;
		return true;
	}
	if (end - *at < 4)
		return false;
	*len = ((size_t)(*at)[0] & 0x7f) << 24 | (size_t)(*at)[1] << 16 | (size_t)(*at)[2] << 8 | (*at)[3];
	*at += 4;
	return true;
}

static bool
params_are_sane(const struct record *record)
{
	const uint8_t *at = record->content;
	const uint8_t *end = at + record->len;
	size_t pairs = 0;

	while (at < end) {
		size_t name, value;

		if (++pairs > PARAMS_MAX || !pair_length(&at, end, &name) || !pair_length(&at, end, &value) ||
		    name == 0 || name + value > (size_t)(end - at) || memchr(at, 0, name + value) != NULL)
			return false;
		at += name + value;
	}
	return true;
}

enum expect { EXPECT_BEGIN, EXPECT_PARAMS, EXPECT_PARAMS_END, EXPECT_STDIN, EXPECT_NOTHING };

/* One step: the record is what may come now. */
static bool
step(enum expect *expect, unsigned *id, const struct record *record)
{
	switch (*expect) {
	case EXPECT_BEGIN:
		*id = record->id;
		*expect = EXPECT_PARAMS;
		return record->type == FCGI_BEGIN_REQUEST && record->id != 0 && record->len == 8 &&
		       record->content[0] == 0 && record->content[1] == FCGI_RESPONDER;
	case EXPECT_PARAMS:
		*expect = EXPECT_PARAMS_END;
		return record->type == FCGI_PARAMS && record->id == *id && record->len > 0 && params_are_sane(record);
	case EXPECT_PARAMS_END:
		*expect = EXPECT_STDIN;
		return record->type == FCGI_PARAMS && record->id == *id && record->len == 0;
	case EXPECT_STDIN:
		if (record->len == 0)
			*expect = EXPECT_NOTHING;
		return record->type == FCGI_STDIN && record->id == *id;
	case EXPECT_NOTHING: break;
	}
	return false;
}

static enum fastcgi_state
assess_records(const uint8_t *bytes, size_t len)
{
	const uint8_t *rest = bytes;
	const uint8_t *end = bytes + len;
	enum expect expect = EXPECT_BEGIN;
	struct record record;
	unsigned id = 0;

	while (rest < end && *rest == FCGI_VERSION_1 && next_record(&rest, end, &record)) {
		if (!step(&expect, &id, &record))
			return FASTCGI_INVALID;
	}
	if (rest < end && *rest != FCGI_VERSION_1) /* another protocol: its lengths would be waited for in vain */
		return FASTCGI_INVALID;
	if (expect == EXPECT_NOTHING)
		return rest == end ? FASTCGI_COMPLETE : FASTCGI_INVALID; /* no web server sends ahead */
	return len == LOOK_MAX ? FASTCGI_INVALID : FASTCGI_PARTIAL;
}

/* Has the peer closed, or said that it sends no more? A peek does not tell as long as there are bytes. */
static bool
has_hung_up(int fd)
{
	struct pollfd state = {.fd = fd, .events = POLLRDHUP};

	return poll(&state, 1, 0) == 1;
}

enum fastcgi_state
fastcgi_look(int fd)
{
	static uint8_t bytes[LOOK_MAX];
	ssize_t len = recv(fd, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
	enum fastcgi_state state;

	if (len == 0)
		return FASTCGI_CLOSED;
	if (len < 0)
		return errno == EAGAIN || errno == EINTR ? FASTCGI_EMPTY : FASTCGI_CLOSED;
	state = assess_records(bytes, (size_t)len);
	explicit_bzero(bytes, (size_t)len); /* credentials were in it */
	if (state == FASTCGI_PARTIAL && has_hung_up(fd))
		return FASTCGI_CLOSED;
	return state;
}

/* ---- read ---- */

struct param {
	const char *name;
	size_t len;
	size_t offset; /* of the `const char *` in struct request */
};

#define PARAM(name, member)                                                                                            \
	{                                                                                                              \
		name, sizeof(name) - 1, offsetof(struct request, member)                                               \
	}

/* What nginx passes (nginx/parts/integrations-fastcgi.conf); everything else is ignored. */
static const struct param texts[] = {
    PARAM("HTTP_HOST", host),
    PARAM("REQUEST_HOST", target_host),
    PARAM("HTTP_AUTHORIZATION", authorization),
    PARAM("HTTP_ORIGIN", origin),
    PARAM("HTTP_SEC_FETCH_SITE", sec_fetch_site),
    PARAM("CONTENT_TYPE", content_type),
    PARAM("HTTP_X_REQUEST_ID", request_id),
    PARAM("GATEWAY_CODE", gateway_code),
};

/* On the loop's own stack nothing can be abandoned: without memory this is NULL, and the whole request is not read. */
static char *
copy_text(struct arena *arena, const char *bytes, size_t len)
{
	char *kept = arena_try_alloc(arena, len + 1);

	if (kept != NULL)
		memcpy(kept, bytes, len);
	return kept;
}

/*
 * The cookies of other applications come along, in whatever encoding: of ours, access.c takes visible ASCII alone.
 * False without memory.
 */
static bool
copy_cookie(struct arena *arena, struct request *request, const char *value)
{
	if (value[0] != '\0')
		request->cookie = copy_text(arena, value, strlen(value));
	return value[0] == '\0' || request->cookie != NULL;
}

/* Copy one value into *copied; what is not valid UTF-8 makes the request broken, and counts as absent. False without
 * memory. */
static bool
copy(struct arena *arena, struct request *request, const char *value, const char **copied)
{
	*copied = NULL;
	if (value[0] == '\0')
		return true; /* nginx passes an absent header as an empty one */
	if (!text_is_utf8(value, strlen(value))) {
		request->broken = &error_request_invalid;
		return true;
	}
	*copied = copy_text(arena, value, strlen(value));
	return *copied != NULL;
}

/* The path and the query behind it: what is wrong with the query leaves the path. False without memory. */
static bool
take_uri(struct arena *arena, struct request *request, const char *value)
{
	size_t path_len = strcspn(value, "?");
	const char *query;

	if (!text_is_utf8(value, path_len)) {
		request->broken = &error_request_invalid;
		return true;
	}
	if (!copy(arena, request, value[path_len] == '?' ? value + path_len + 1 : "", &query))
		return false;
	request->path = copy_text(arena, value, path_len);
	request->query = query != NULL ? query : "";
	return request->path != NULL;
}

/* False without memory. */
static bool
take_param(struct arena *arena, struct request *request, const char *name, size_t name_len, const char *value)
{
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		if (texts[i].len == name_len && memcmp(texts[i].name, name, name_len) == 0) {
			const char **member = (const char **)(void *)((char *)request + texts[i].offset);

			return copy(arena, request, value, member);
		}
	}
	if (name_len == 14 && memcmp(name, "REQUEST_METHOD", 14) == 0) {
		request->method = request_method(value);
	} else if (name_len == 11 && memcmp(name, "REQUEST_URI", 11) == 0) {
		return take_uri(arena, request, value);
	} else if (name_len == 11 && memcmp(name, "HTTP_COOKIE", 11) == 0) {
		return copy_cookie(arena, request, value);
	} else if (name_len == 19 && memcmp(name, "INTEGRATIONS_SERVER", 19) == 0) {
		request->server = text_equal(value, "internal")  ? SERVER_INTERNAL
				  : text_equal(value, "gateway") ? SERVER_GATEWAY
								 : SERVER_PUBLIC;
	}
	return true;
}

static bool
read_body(FCGX_Request *fcgi, struct arena *arena, struct request *request)
{
	static char spill[4096];
	const char *declared = FCGX_GetParam("CONTENT_LENGTH", fcgi->envp);
	uint64_t wanted = 0;
	char *body;
	int len;

	if (declared != NULL && declared[0] != '\0' && !text_to_number(declared, REQUEST_BODY_MAX, &wanted)) {
		/* nginx keeps such a body to itself; its length alone says that there was one. */
		request->broken = &error_body_too_large;
		wanted = REQUEST_BODY_MAX;
	}
	body = arena_try_alloc(arena, (size_t)wanted + 1);
	if (body == NULL)
		return false;
	len = FCGX_GetStr(body, (int)wanted, fcgi->in);
	/* The end must be read, too, or it would be taken for the start of the next request. */
	while (FCGX_GetStr(spill, (int)sizeof spill, fcgi->in) > 0) {
		explicit_bzero(spill, sizeof spill);
		request->broken = &error_body_too_large;
	}
	if (FCGX_GetError(fcgi->in) != 0 || ((uint64_t)len != wanted && request->broken != &error_body_too_large))
		return false;
	request->body = body;
	request->body_len = (size_t)wanted;
	return true;
}

bool
fastcgi_read(struct fastcgi *fastcgi, struct arena *arena, struct request *request)
{
	FCGX_Request *fcgi = &fastcgi->fcgi;

	memset(request, 0, sizeof *request);
	request->arena = arena;
	request->method = METHOD_OTHER;
	request->path = "";
	request->query = "";
	request->host = "";
	request->target_host = "";
	request->request_id = "";
	fcgi->keepConnection = 1; /* else FCGX_Accept_r begins by closing what it was handed */
	fcgi->detached = 1;       /* should libfcgi close after all, it must not wait for the peer */
	if (FCGX_Accept_r(fcgi) != 0)
		return false;
	for (char **param = fcgi->envp; *param != NULL; param++) {
		const char *equals = strchr(*param, '=');

		if (equals != NULL && !take_param(arena, request, *param, (size_t)(equals - *param), equals + 1))
			return false;
	}
	if (request->host == NULL)
		request->host = "";
	if (request->target_host == NULL)
		request->target_host = "";
	if (request->request_id == NULL)
		request->request_id = "";
	if (!read_body(fcgi, arena, request))
		return false;
	/* Read to its end: no request keeps these eight kilobytes while it waits; the next finds them in the cache. */
	FCGX_FreeStream(&fcgi->in);
	return true;
}

/* ---- answer ---- */

static void
put_text(FCGX_Stream *out, const char *text)
{
	FCGX_PutStr(text, (int)strlen(text), out);
}

static void
put_number(FCGX_Stream *out, int64_t number)
{
	char digits[20];
	const char *end = text_number(digits, number);

	FCGX_PutStr(digits, (int)(end - digits), out);
}

/* Names and values were checked when they were set. */
static void
put_head(FCGX_Stream *out, const struct response *response)
{
	put_text(out, "Status: ");
	put_number(out, response->status);
	put_text(out, " ");
	put_text(out, api_statuses[api_status_index(response->status)].reason);
	put_text(out, "\r\nContent-Length: ");
	put_number(out, (int64_t)response->body_len);
	if (response->content_type != NULL) {
		put_text(out, "\r\nContent-Type: ");
		put_text(out, response->content_type);
	}
	for (size_t i = 0; i < response->header_count; i++) {
		put_text(out, "\r\n");
		put_text(out, response->headers[i].name);
		put_text(out, ": ");
		put_text(out, response->headers[i].value);
	}
	put_text(out, "\r\n\r\n");
}

bool
fastcgi_answer(struct fastcgi *fastcgi, const struct response *response)
{
	FCGX_Request *fcgi = &fastcgi->fcgi;
	bool good;

	put_head(fcgi->out, response);
	FCGX_PutStr(response->body, (int)response->body_len, fcgi->out);
	good = FCGX_FClose(fcgi->err) == 0;
	good = FCGX_FClose(fcgi->out) == 0 && good;
	good = fcgi->keepConnection != 0 && good;
	FCGX_Free(fcgi, 0);
	return good;
}

void
fastcgi_drop(struct fastcgi *fastcgi)
{
	/* Freed, not finished: finishing would leave a stale answer for whoever uses this struct next. */
	FCGX_Free(&fastcgi->fcgi, 0);
}
