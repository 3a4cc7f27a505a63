/*
 * libfcgi is handed each accepted connection by setting `ipcFd` and `keepConnection`, fields that its header calls
 * internal (tests/unit/test_fastcgi.c pins that it works). It never accepts, never closes and never waits: connections
 * are ours, and fastcgi_look (fastcgi_look.c) has seen the whole request before libfcgi reads a byte.
 */
#include "fcgi/fastcgi.h"

#include "common/arena.h"
#include "common/text.h"
#include "fcgi/api_error.h"
#include "fcgi/request.h"
#include "fcgi/response.h"

#include <fcgi_config.h>
#include <fcgiapp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SEND_BUFFER (512 * 1024) /* the largest answer leaves at once, however slowly it is read */

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
    PARAM("HTTP_X_REQUEST_ID", task.request_id),
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
	request->task.arena = arena;
	request->method = METHOD_OTHER;
	request->path = "";
	request->query = "";
	request->host = "";
	request->target_host = "";
	request->task.request_id = "";
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
	if (request->task.request_id == NULL)
		request->task.request_id = "";
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
	/* Freed, not finished: finishing would leave a stale answer to the next request of this struct. */
	FCGX_Free(&fastcgi->fcgi, 0);
}
