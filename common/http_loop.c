/*
 * A fiber hands its call to the loop and parks: libcurl runs on the loop's own stack only, driven by its socket and
 * timer callbacks.
 */
#include "common/http_internal.h"

#include "common/clock.h"
#include "common/fiber.h"
#include "common/loop.h"
#include "common/trust.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define IDLE_CONNECTIONS 64        /* kept for reuse */
#define RECEIVED_MAX (1024 * 1024) /* bytes of one call, whatever they are */
#define TURN_MS 20
#define ACTS_AT_LEAST 8 /* in one turn, however long it is */

static void
finish_call(struct http_call *call, CURLcode result)
{
	struct http *http = call->http;

	if (call->previous != NULL)
		call->previous->next = call->next;
	else
		http->started = call->next;
	if (call->next != NULL)
		call->next->previous = call->previous;
	curl_multi_remove_handle(http->multi, call->easy);
	call->result = result;
	fiber_wake_all(&call->waiter, NULL);
}

static void
finish_calls(struct http *http)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(http->multi, &left)) != NULL) {
		struct http_call *call = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&call);
		finish_call(call, message->data.result);
	}
}

static void
act(struct http *http, curl_socket_t fd, int events)
{
	int running;

	if (curl_multi_socket_action(http->multi, fd, events, &running) != CURLM_OK)
		http->broken = true;
	finish_calls(http);
}

/* A socket, from the call's beginning on it to its end, even where the connection is kept. */
struct watched {
	struct http *http;
	struct http_call *call;
	curl_socket_t fd;
	struct loop_io *io;
	int64_t received;
};

/*
 * Body and headers are bounded where libcurl tells of them, but what it skips has no end there: extensions of chunks,
 * TLS records without content. What waits in the socket before each reading is less than what is read then, but a flood
 * is found out in a few turns.
 */
static bool
is_flooded(struct watched *watched)
{
	int bytes = 0;

	if (ioctl(watched->fd, FIONREAD, &bytes) == 0)
		watched->received += bytes;
	return watched->received > RECEIVED_MAX;
}

static void
give_up(struct http_call *call)
{
	call->too_large = true;
	finish_call(call, CURLE_WRITE_ERROR);
}

/*
 * Hundreds of TLS handshakes that are ready at once would hold up everything else for a second: after TURN_MS the rest
 * has to wait for the next turn, when the loop will tell of them again.
 */
static bool
has_had_its_turn(struct http *http)
{
	int64_t now = loop_now_ms(http->loop);

	if (http->turn_ms != now) {
		http->turn_ms = now;
		http->acts = 0;
	}
	return ++http->acts > ACTS_AT_LEAST && clock_monotonic_ms() - now >= TURN_MS;
}

static void
socket_ready(void *arg, int events)
{
	struct watched *watched = arg;

	if (has_had_its_turn(watched->http))
		return;
	if (is_flooded(watched)) {
		give_up(watched->call);
		return;
	}
	act(watched->http, watched->fd,
	    ((events & LOOP_READ) ? CURL_CSELECT_IN : 0) | ((events & LOOP_WRITE) ? CURL_CSELECT_OUT : 0));
}

static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *of_socket)
{
	struct http *http = arg;
	struct watched *watched = of_socket;
	int events = ((what & CURL_POLL_IN) ? LOOP_READ : 0) | ((what & CURL_POLL_OUT) ? LOOP_WRITE : 0);

	if (what == CURL_POLL_REMOVE) {
		if (watched != NULL) {
			loop_io_close(watched->io);
			free(watched);
		}
		return 0;
	}
	if (watched != NULL) {
		loop_io_set(watched->io, events);
		return 0;
	}
	watched = calloc(1, sizeof *watched);
	if (watched != NULL)
		watched->io = loop_io_open(http->loop, fd, events, socket_ready, watched);
	if (watched == NULL || watched->io == NULL) {
		free(watched);
		http->broken = true;
		return 0; /* an error would make libcurl refuse whatever comes later */
	}
	watched->http = http;
	watched->fd = fd;
	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&watched->call);
	curl_multi_assign(http->multi, fd, watched);
	return 0;
}

static void
timer_fired(void *arg)
{
	act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int
set_timer(CURLM *multi, long ms, void *arg)
{
	struct http *http = arg;

	(void)multi;
	if (ms < 0)
		loop_timer_clear(http->timer);
	else
		loop_timer_set(http->timer, ms);
	return 0;
}

static CURLM *
open_multi(struct http *http)
{
	CURLM *multi = curl_multi_init();

	if (multi == NULL)
		return NULL;
	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, http);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(multi, CURLMOPT_TIMERDATA, http);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)IDLE_CONNECTIONS);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	return multi;
}

/* What libcurl keeps of its sockets is damaged where memory was missing (7.88 divides by zero on a later call). */
static void
start_anew(struct http *http)
{
	while (http->started != NULL)
		finish_call(http->started, CURLE_OUT_OF_MEMORY);
	curl_multi_cleanup(http->multi);
	http->multi = NULL;
	http->broken = false;
	loop_timer_clear(http->timer);
}

static void
start_call(struct http *http, struct http_call *call)
{
	if (http->multi == NULL)
		http->multi = open_multi(http);
	call->next = http->started;
	call->previous = NULL;
	if (call->next != NULL)
		call->next->previous = call;
	http->started = call;
	if (http->multi == NULL || curl_multi_add_handle(http->multi, call->easy) != CURLM_OK)
		finish_call(call, CURLE_OUT_OF_MEMORY);
}

static bool
start_calls(void *arg)
{
	struct http *http = arg;
	bool did = http->broken;

	if (http->broken)
		start_anew(http);
	while (http->to_start != NULL) {
		struct http_call *call = http->to_start;

		http->to_start = call->next;
		if (http->to_start == NULL)
			http->to_start_end = &http->to_start;
		start_call(http, call);
		did = true;
	}
	return did;
}

struct http *
http_open(struct loop *loop, struct resolver *resolver, const struct http_settings *settings)
{
	struct http *http = calloc(1, sizeof *http);

	if (http == NULL)
		return NULL;
	http->loop = loop;
	http->resolver = resolver;
	http->allow_private = settings->allow_private;
	http->to_start_end = &http->to_start;
	http->trust = trust_open(settings->ca_file != NULL ? settings->ca_file : HTTP_SYSTEM_CA_FILE);
	http->user_agent = strdup(settings->user_agent);
	http->timer = loop_timer_open(loop, timer_fired, http);
	http->hook = loop_hook_open(loop, start_calls, http);
	http->multi = curl_global_init(CURL_GLOBAL_DEFAULT) == 0 ? open_multi(http) : NULL;
	if (http->trust == NULL || http->user_agent == NULL || http->timer == NULL || http->hook == NULL ||
	    http->multi == NULL) {
		http_close(http);
		return NULL;
	}
	return http;
}

void
http_close(struct http *http)
{
	if (http == NULL)
		return;
	if (http->multi != NULL)
		curl_multi_cleanup(http->multi);
	loop_hook_close(http->hook);
	loop_timer_close(http->timer);
	trust_close(http->trust);
	free(http->user_agent);
	free(http);
	curl_global_cleanup();
}

void
http_run(struct http_call *call, int64_t until_ms)
{
	struct http *http = call->http;

	*http->to_start_end = call;
	http->to_start_end = &call->next;
	if (fiber_wait(&call->waiter, until_ms, NULL))
		return;
	http->broken = true; /* nothing that is known makes libcurl forget a call: rather end all than wait for ever */
	(void)fiber_wait(&call->waiter, INT64_MAX, NULL);
}
