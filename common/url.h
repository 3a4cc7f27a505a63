/* URLs (RFC 3986): take apart, encode, read a query. */
#ifndef COMMON_URL_H
#define COMMON_URL_H

#include <stdbool.h>
#include <stddef.h>

struct arena;
struct buf;

struct url {
	const char *scheme; /* lower case: "https", "http" */
	const char *host;   /* lower case; an IPv6 address without brackets */
	unsigned port;      /* given, or the scheme's default */
	const char
	    *authority;     /* host[:port] in lower case as a Host header has it: without the scheme's default port */
	const char *origin; /* scheme://authority */
	const char *path;   /* with query, from the first slash; "" when there is none ("/?a" for a query alone) */
};

/* Parse an absolute http or https URL without userinfo or fragment, visible ASCII only. False when it is not one. */
bool url_parse(struct arena *arena, const char *text, struct url *out);

/* The host is `localhost`, in 127.0.0.0/8 or ::1. */
bool url_is_loopback(const struct url *url);

/* Percent-encode one value for a query or a form body (space becomes %20). */
void url_encode(struct buf *buf, const char *value);

/* Add `name=value` to a query or form; writes '&' first when the buf is not empty and does not end in '?' or '&'. */
void url_add(struct buf *buf, const char *name, const char *value);

/*
 * The decoded value of the first `name` in a query string (without '?'; '+' is a space), "" when it has none, NULL when
 * absent or not decodable. Always written: *repeated tells whether `name` stands more than once, *valid is false when
 * any escape in the query is broken or decodes to bytes that are not UTF-8, or NUL.
 */
const char *url_query(struct arena *arena, const char *query, const char *name, bool *repeated, bool *valid);

#endif
