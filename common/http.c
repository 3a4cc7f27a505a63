/*
 * One call: its options, what comes back, and why it failed. Names are looked up before (resolve.c) and given to
 * libcurl as CURLOPT_RESOLVE: its own resolver would start a thread for each call that finds no cached answer.
 */
#include "common/http_internal.h"

#include "common/address.h"
#include "common/arena.h"
#include "common/error.h"
#include "common/loop.h"
#include "common/resolve.h"
#include "common/text.h"
#include "common/trust.h"
#include "common/url.h"

#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define IDLE_SECONDS 50 /* and for how long: less than providers keep theirs */
#define BODY_FIRST 4096
#define HEADERS_MAX (64 * 1024)
#define GRACE_MS 1000 /* for libcurl to end a call by itself, when its time is over */

/* libcurl asks for each socket: the place to refuse an address, whatever name led to it. */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
	const struct http *http = arg;

	(void)purpose;
	if (!http->allow_private && address_is_private(&address->addr))
		return CURL_SOCKET_BAD;
	return socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->protocol);
}

/* ---- what libcurl tells while a call runs ---- */

static size_t
take_body(char *bytes, size_t one, size_t len, void *arg)
{
	struct http_call *call = arg;

	(void)one;
	if (call->len + len > HTTP_BODY_MAX) {
		call->too_large = true;
		return 0;
	}
	if (call->len + len + 1 > call->size) {
		size_t size = call->size > 0 ? call->size * 2 : BODY_FIRST;
		char *body;

		while (size < call->len + len + 1)
			size *= 2;
		body = arena_try_alloc(call->arena, size);
		if (body == NULL) {
			call->no_memory = true;
			return 0;
		}
		if (call->len > 0)
			memcpy(body, call->body, call->len);
		call->body = body;
		call->size = size;
	}
	memcpy(call->body + call->len, bytes, len);
	call->len += len;
	call->body[call->len] = '\0';
	return len;
}

static int64_t
leading_number(const char *text, size_t len, int64_t max)
{
	int64_t value = 0;
	size_t i = 0;

	while (i < len && text[i] >= '0' && text[i] <= '9' && value <= max)
		value = value * 10 + (text[i++] - '0');
	if (i == 0)
		return -1;
	return value < max ? value : max;
}

static size_t
take_header(char *bytes, size_t one, size_t len, void *arg)
{
	static const char retry_after[] = "retry-after:";
	static const char cache_control[] = "cache-control:";
	static const char max_age[] = "max-age=";
	struct http_call *call = arg;

	(void)one;
	call->headers_len += len;
	if (call->headers_len > HEADERS_MAX) {
		call->too_large = true;
		return 0;
	}
	if (len > sizeof retry_after && strncasecmp(bytes, retry_after, sizeof retry_after - 1) == 0) {
		size_t at = sizeof retry_after - 1;

		while (at < len && bytes[at] == ' ')
			at++;
		call->response->retry_after = leading_number(bytes + at, len - at, 3600);
	} else if (len > sizeof cache_control && strncasecmp(bytes, cache_control, sizeof cache_control - 1) == 0) {
		const char *at = memmem(bytes, len, max_age, sizeof max_age - 1);

		if (at != NULL) {
			at += sizeof max_age - 1;
			call->response->max_age = leading_number(at, len - (size_t)(at - bytes), 86400);
		}
	}
	return len;
}

/* ---- a call from its beginning to its end ---- */

static struct curl_slist *
append(struct curl_slist *list, const char *text)
{
	struct curl_slist *longer = curl_slist_append(list, text);

	if (longer == NULL)
		curl_slist_free_all(list);
	return longer;
}

/* In the form of CURLOPT_RESOLVE. */
static const char *
addresses_text(struct arena *arena, const struct url *url, const struct resolved *found)
{
	const char *text = arena_format(arena, "+%s:%u:", url->host, url->port);

	for (size_t i = 0; i < found->count; i++) {
		bool v6 = strchr(found->address[i], ':') != NULL;

		text = arena_format(arena, "%s%s%s%s%s", text, i > 0 ? "," : "", v6 ? "[" : "", found->address[i],
				    v6 ? "]" : "");
	}
	return text;
}

static struct curl_slist *
header_list(const char *authorization)
{
	struct curl_slist *list = curl_slist_append(NULL, "Accept: application/json");

	if (list != NULL)
		list = append(list, "Expect:");
	if (list != NULL && authorization != NULL)
		list = append(list, authorization);
	return list;
}

/* libcurl would cache a store of its own, and keep one in which OpenSSL found a certificate bad for want of memory. */
static CURLcode
set_trust(CURL *easy, void *tls, void *arg)
{
	const struct http *http = arg;

	(void)easy;
	return trust_use(http->trust, tls) ? CURLE_OK : CURLE_SSL_CACERT_BADFILE;
}

/* False when one of them is not in force: libcurl keeps copies, for which memory may be missing. */
static bool
set_options(struct http_call *call, const struct http_request *request, int64_t ms)
{
	struct http *http = call->http;
	CURL *easy = call->easy;
	bool good = true;

#define SET(option, value) good = curl_easy_setopt(easy, option, value) == CURLE_OK && good

	SET(CURLOPT_URL, request->url);
	SET(CURLOPT_PRIVATE, call);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_PROTOCOLS_STR, http->allow_private ? "https,http" : "https");
	SET(CURLOPT_REDIR_PROTOCOLS_STR, "https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_PROXY, "");
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	SET(CURLOPT_SSL_VERIFYPEER, 1L);
	SET(CURLOPT_SSL_VERIFYHOST, 2L);
	SET(CURLOPT_SSL_SESSIONID_CACHE,
	    0L); /* libcurl 7.88 frees a session twice when memory is missing as it keeps it */
	SET(CURLOPT_CAINFO, NULL);
	SET(CURLOPT_CAPATH, NULL);
	SET(CURLOPT_SSL_CTX_FUNCTION, set_trust);
	SET(CURLOPT_SSL_CTX_DATA, http);
	SET(CURLOPT_CONNECTTIMEOUT_MS, (long)(ms < HTTP_CONNECT_MS ? ms : HTTP_CONNECT_MS));
	SET(CURLOPT_TIMEOUT_MS, (long)ms);
	SET(CURLOPT_MAXAGE_CONN, (long)IDLE_SECONDS);
	SET(CURLOPT_BUFFERSIZE, 16384L);
	SET(CURLOPT_USERAGENT, http->user_agent);
	SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
	SET(CURLOPT_OPENSOCKETDATA, http);
	SET(CURLOPT_WRITEFUNCTION, take_body);
	SET(CURLOPT_WRITEDATA, call);
	SET(CURLOPT_HEADERFUNCTION, take_header);
	SET(CURLOPT_HEADERDATA, call);
	SET(CURLOPT_HTTPHEADER, call->headers);
	SET(CURLOPT_RESOLVE, call->addresses);
	if (strcmp(request->method, "POST") == 0) {
		const char *body = request->body != NULL ? request->body : "";

		SET(CURLOPT_POST, 1L);
		/* not copied: it stays in the arena, and is wiped there */
		SET(CURLOPT_POSTFIELDS, body);
		SET(CURLOPT_POSTFIELDSIZE, (long)strlen(body));
	}
	if (request->once) {
		SET(CURLOPT_FRESH_CONNECT, 1L);
		SET(CURLOPT_FORBID_REUSE, 1L);
	}
#undef SET
	return good;
}

static const char *
reason(const struct http_call *call)
{
	if (call->too_large)
		return "the answer is too large";
	if (call->no_memory)
		return "no memory for the answer";
	switch (call->result) {
	case CURLE_COULDNT_CONNECT: return "the connection was refused, or its address is not allowed";
	case CURLE_OPERATION_TIMEDOUT: return "no answer in time";
	case CURLE_PEER_FAILED_VERIFICATION: return "the certificate is not trusted or names another host";
	case CURLE_SSL_CONNECT_ERROR: return "the TLS handshake failed";
	case CURLE_SSL_CACERT_BADFILE: return "the file of trusted certificates cannot be read";
	case CURLE_GOT_NOTHING: return "the connection closed without an answer";
	case CURLE_PARTIAL_FILE: return "the answer was cut short";
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR: return "the connection broke";
	case CURLE_OUT_OF_MEMORY: return "no memory for the call";
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL: /* no status line, as before HTTP/1.0 */
	case CURLE_BAD_CONTENT_ENCODING: return "the answer is not valid HTTP";
	default: return "the call failed";
	}
}

/*
 * No handle serves a second call: one that had to send again on another connection sends its next body wrong, and
 * curl_easy_reset does not say when it lacked memory. Connections are the multi handle's, and stay.
 */
static void
release(struct http_call *call)
{
	curl_slist_free_all(call->headers);
	curl_slist_free_all(call->addresses);
	curl_easy_cleanup(call->easy);
}

static const struct error *
perform(struct http_call *call, const struct http_request *request, int64_t ms, const char **why)
{
	if (!set_options(call, request, ms))
		return &error_provider_unreachable;
	http_run(call, loop_now_ms(call->http->loop) + ms + GRACE_MS);
	if (call->result != CURLE_OK) {
		*why = reason(call);
		return &error_provider_unreachable;
	}
	curl_easy_getinfo(call->easy, CURLINFO_RESPONSE_CODE, &call->response->status);
	call->response->body = call->body != NULL ? call->body : "";
	call->response->len = call->len;
	return NULL;
}

const struct error *
http_send(struct http *http, struct arena *arena, const struct http_request *request, struct http_response *response,
	  const char **why)
{
	struct http_call call = {.http = http, .arena = arena, .response = response};
	const struct error *error = &error_provider_unreachable;
	struct resolved found;
	struct url url;
	const char *addresses = NULL;
	const char *authorization = NULL;
	int64_t connect_by = loop_now_ms(http->loop) + HTTP_CONNECT_MS;
	int64_t ms;

	*response = (struct http_response){.retry_after = -1, .max_age = -1};
	if (!url_parse(arena, request->url, &url) ||
	    (text_equal(url.scheme, "http") && !(http->allow_private && url_is_loopback(&url)))) {
		*why = "the address is not allowed";
		return error;
	}
	if (!resolve(http->resolver, url.host, connect_by < request->deadline_ms ? connect_by : request->deadline_ms,
		     &found)) {
		*why = "the host's name cannot be looked up";
		return error;
	}
	ms = request->deadline_ms - loop_now_ms(http->loop);
	if (ms <= 0) {
		*why = "no time was left for the call";
		return error;
	}
	/* A numeric host is its own only address. Libcurl needs no list for that, and takes none for an IPv6 one. */
	if (!text_equal(found.address[0], url.host))
		addresses = addresses_text(arena, &url, &found);
	if (request->authorization != NULL)
		authorization = arena_format(arena, "Authorization: %s", request->authorization);
	/* From here on nothing may abandon the fiber: what follows is not the arena's. */
	if (addresses != NULL)
		call.addresses = curl_slist_append(NULL, addresses);
	call.headers = header_list(authorization);
	call.easy = curl_easy_init();
	call.result = CURLE_OUT_OF_MEMORY;
	*why = "no memory for the call";
	if (call.easy != NULL && call.headers != NULL && (addresses == NULL || call.addresses != NULL))
		error = perform(&call, request, ms, why);
	release(&call);
	return error;
}
