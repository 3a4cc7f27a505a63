/*
 * HTTPS client: one libcurl multi handle on the loop; nothing else includes curl.
 *
 * https only (http only where allowed for loopback), certificate and host name checked, TLS 1.2 or newer, HTTP/1.1, no
 * redirects, no proxy, no netrc, no cookies; answers of at most 64 KiB, with headers of as much; addresses on private,
 * loopback and link-local networks refused unless allowed. A host's name is looked up once for all (resolve.h).
 */
#ifndef COMMON_HTTP_H
#define COMMON_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct error;
struct http;
struct loop;
struct resolver;

#define HTTP_BODY_MAX (64 * 1024)
#define HTTP_CONNECT_MS 2000
#define HTTP_SYSTEM_CA_FILE "/etc/ssl/certs/ca-certificates.crt"

struct http_settings {
	const char *ca_file; /* NULL: the system's */
	bool allow_private;  /* loopback and private addresses, and http to loopback, may be called */
	const char *user_agent;
};

struct http_request {
	const char *method; /* "GET" or "POST" */
	const char *url;
	const char *authorization; /* value of the header, or NULL */
	const char *body;          /* application/x-www-form-urlencoded, or NULL */
	bool once;                 /* a fresh connection, so that libcurl cannot send it twice */
	int64_t deadline_ms;       /* loop_now_ms at which it ends, whatever happened */
};

struct http_response {
	long status;
	const char *body; /* ends in NUL */
	size_t len;
	int64_t retry_after; /* seconds from Retry-After (digits only), clamped to 0 .. 3,600; -1: none */
	int64_t max_age;     /* seconds from Cache-Control, clamped to 0 .. 86,400; -1: none */
};

struct http *http_open(struct loop *loop, struct resolver *resolver, const struct http_settings *settings);
void http_close(struct http *http); /* none may be under way */

/*
 * Send and park until the answer is there. NULL whenever there is one, whatever its status: that is the caller's to
 * judge. error_provider_unreachable for everything else (name, connection, TLS, time, size); *why is then a short
 * static text for the log.
 */
const struct error *http_send(struct http *http, struct arena *arena, const struct http_request *request,
			      struct http_response *response, const char **why);

#endif
