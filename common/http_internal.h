/*
 * The HTTPS client as its own files see it, and only they: http.c has what is said and heard in one call, http_loop.c
 * drives libcurl by its sockets and timers.
 */
#ifndef COMMON_HTTP_INTERNAL_H
#define COMMON_HTTP_INTERNAL_H

#include "common/http.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct curl_slist;
struct fiber;
struct loop_hook;
struct loop_timer;
struct trust;

/* A call under way, on its fiber's stack. */
struct http_call {
	struct http *http;
	struct fiber *waiter;
	struct arena *arena;
	CURL *easy;
	struct curl_slist *headers;
	struct curl_slist *addresses;
	char *body;
	size_t len;
	size_t size;
	size_t headers_len; /* trailers and interim answers included */
	bool too_large;
	bool no_memory; /* for the body */
	CURLcode result;
	struct http_response *response;
	struct http_call *next, *previous; /* among those to start, then among those that libcurl has */
};

struct http {
	struct loop *loop;
	struct resolver *resolver;
	struct loop_timer *timer;
	struct loop_hook *hook;
	CURLM *multi;
	struct http_call *to_start, **to_start_end;
	struct http_call *started;
	bool broken;     /* libcurl lacked memory: which call waits in vain is unknown, so all end */
	int64_t turn_ms; /* which turn of the loop this is, */
	size_t acts;     /* and how many sockets were looked after in it */
	struct trust *trust;
	char *user_agent;
	bool allow_private;
};

/* Hand a call with all its options to libcurl and park until it is over, which it is by `until_ms` (loop_now_ms). */
void http_run(struct http_call *call, int64_t until_ms);

#endif
