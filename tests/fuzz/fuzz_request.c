/*
 * A request through the router: every route, with a good session, callback's body and query among them. The input:
 *
 *   GET public /api/me?x=1          method, server and path with query
 *   name: value                     headers by the names of struct request
 *   (an empty line)
 *   the body
 *   ~a reply~another                what Redis says to all but the session; nil when these are used up
 *
 * With '!' before the method it is run again and again, each time with one reply less before the connection closes.
 * Whatever comes, the answer is one of those that API.md has, in good form, and holds no secret that it must not.
 */
#include "common/json_read.h"
#include "common/loop.h"
#include "common/text.h"
#include "fcgi/app.h"
#include "fcgi/request.h"
#include "fcgi/response.h"
#include "fcgi/router.h"
#include "tests/fuzz/app.h"
#include "tests/fuzz/fuzz.h"

#define WAIT_MS 3 /* for leases that somebody else has */
#define SHORTER_MAX 12

struct input {
	struct request request;
	struct response response;
	char *head;
	const char *body;
	size_t body_len;
};

/* ---- the input ---- */

static void
read_first(struct request *request, char *line)
{
	static const char *const methods[] = {"GET", "HEAD", "POST", "DELETE"};
	const char *method = strsep(&line, " ");
	const char *server = strsep(&line, " ");
	char *query;

	request->method = METHOD_OTHER;
	for (int i = 0; i < 4; i++) {
		if (strcmp(method, methods[i]) == 0)
			request->method = (enum method)i;
	}
	request->server = text_equal(server, "internal")  ? SERVER_INTERNAL
			  : text_equal(server, "gateway") ? SERVER_GATEWAY
							  : SERVER_PUBLIC;
	request->path = line != NULL ? line : "";
	request->query = "";
	query = line != NULL ? strchr(line, '?') : NULL;
	if (query != NULL) {
		*query = '\0';
		request->query = query + 1;
	}
}

static void
read_header(struct request *request, char *line)
{
	const struct {
		const char *name;
		const char **place;
	} headers[] = {
	    {"host", &request->host},
	    {"target_host", &request->target_host},
	    {"authorization", &request->authorization},
	    {"cookie", &request->cookie},
	    {"origin", &request->origin},
	    {"sec_fetch_site", &request->sec_fetch_site},
	    {"content_type", &request->content_type},
	    {"request_id", &request->task.request_id},
	    {"gateway_code", &request->gateway_code},
	};
	char *colon = strstr(line, ": ");

	if (colon == NULL || colon[2] == '\0')
		return;
	*colon = '\0';
	for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
		if (strcmp(headers[i].name, line) == 0)
			*headers[i].place = colon + 2;
	}
}

static void
read_head(struct input *input)
{
	struct request *request = &input->request;
	char *rest = input->head;

	request->host = request->target_host = "app.example.com";
	request->task.request_id = "r";
	request->origin = "https://app.example.com";
	request->cookie = "__Host-session=token-MARKER";
	request->content_type = "application/json";
	read_first(request, strsep(&rest, "\n"));
	while (rest != NULL)
		read_header(request, strsep(&rest, "\n"));
}

/* ---- the answer ---- */

/* 500 is only for a code that nginx would have made up. */
static void
check_status(int status, bool made_up)
{
	static const int statuses[] = {200, 400, 401, 403, 404, 405, 409, 413, 415, 421, 422, 429, 502, 503};

	for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
		if (statuses[i] == status)
			return;
	}
	must(status == 500 && made_up);
}

static const uint8_t *given; /* the input */
static size_t given_len;

/* What the input has in the clear is no secret. */
static bool
holds(const char *text, size_t len, const char *secret)
{
	return memmem(text, len, secret, strlen(secret)) != NULL &&
	       memmem(given, given_len, secret, strlen(secret)) == NULL;
}

static void
check_answer(struct arena *arena, const struct request *request, const struct response *response)
{
	check_status(response->status, request->gateway_code != NULL);
	must(response->header_count <= RESPONSE_HEADERS_MAX);
	for (size_t i = 0; i < response->header_count; i++) {
		for (const char *c = response->headers[i].value; *c != '\0'; c++)
			must((unsigned char)*c >= 0x20 && *c != 0x7f);
		must(!holds(response->headers[i].value, strlen(response->headers[i].value), "1//MARKER"));
	}
	must(!holds(response->body, response->body_len, "1//MARKER"));
	must(!holds(response->body, response->body_len, "secret-MARKER"));
	must(!holds(response->body, response->body_len, "verifier-MARKER"));
	if (request->server == SERVER_PUBLIC)
		must(!holds(response->body, response->body_len, "ya29.MARKER"));
	if (response->body_len > 0 && response->content_type != NULL && strstr(response->content_type, "json") != NULL)
		must(text_is_utf8(response->body, response->body_len) &&
		     (response->body_len > 65536 || json_read(arena, response->body, response->body_len) != NULL));
	must(response->status < 400 || response->body_len > 0);
}

static void
run(struct task *task, void *arg)
{
	struct input *input = arg;
	struct request *request = &input->request;

	request->task.app = task->app;
	request->task.arena = task->arena;
	request->body = input->body;
	request->body_len = input->body_len;
	request->task.deadline_ms = loop_now_ms(task->app->loop) + WAIT_MS;
	response_init(&input->response, task->arena);
	(void)router_run(request, &input->response);
	check_answer(task->arena, request, &input->response);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_answers answers = {.then_nil = true};
	bool again = size > 0 && data[0] == '!';
	char *text = fuzz_text(data + again, size - again);
	struct input input = {.head = text, .body = ""};
	char *end = text + size - again;
	char *body, *replies;

	given = data;
	given_len = size;
	body = memmem(text, (size_t)(end - text), "\n\n", 2);
	if (body != NULL) {
		*body = '\0';
		body += 2;
		replies = memmem(body, (size_t)(end - body), "\n~", 2);
		if (replies != NULL) {
			*replies = '\0';
			answers.bytes = replies + 2;
			answers.len = (size_t)(end - replies - 2);
		}
		input.body = body;
		input.body_len = (size_t)((replies != NULL ? replies : end) - body);
	}
	/* What the edge would not let pass (fuzz_fastcgi.c). */
	if (text_is_utf8(text, strlen(text)) && input.body_len <= REQUEST_BODY_MAX) {
		struct request *request = &input.request;

		read_head(&input);
		answers.session = request->server == SERVER_GATEWAY ? FUZZ_SESSION_GATEWAY : FUZZ_SESSION_USER;
		struct request fresh = *request;
		(void)fuzz_app_run(&answers, run, &input);
		answers.then_nil = false;
		for (int i = 0; again && i < SHORTER_MAX && fuzz_one_answer_less(&answers); i++) {
			*request = fresh;
			(void)fuzz_app_run(&answers, run, &input);
		}
	}
	free(text);
	return 0;
}
