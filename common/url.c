/*
 * Strict on purpose: these URLs are settings and provider metadata, and what two programs could read in two ways (user
 * information, backslashes, escapes in a host, numbers that are not a dotted quad) is refused rather than guessed.
 */
#include "common/url.h"

#include "common/arena.h"
#include "common/buf.h"
#include "common/text.h"

#include <arpa/inet.h>
#include <string.h>

#define URL_MAX 8192
#define HOST_MAX 253
#define LABEL_MAX 63

static int
hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_alphanumeric(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void
make_lower(char *text)
{
	for (; *text != '\0'; text++)
		if (*text >= 'A' && *text <= 'Z')
			*text = (char)(*text - 'A' + 'a');
}

/* Digits, or 0x and hex digits: what inet_aton would take for a part of an address. */
static bool
is_number(const char *label)
{
	if (label[0] == '0' && label[1] == 'x')
		return label[2 + strspn(label + 2, "0123456789abcdef")] == '\0';
	return label[strspn(label, "0123456789")] == '\0';
}

/* In lower case: a dotted quad, or a name of labels whose last one could not be read as a number. */
static bool
is_host(const char *host)
{
	struct in_addr address;
	if (inet_pton(AF_INET, host, &address) == 1)
		return true;
	if (strlen(host) > HOST_MAX)
		return false;
	for (const char *label = host;;) {
		size_t len = strcspn(label, ".");
		if (len == 0 || len > LABEL_MAX || label[0] == '-' || label[len - 1] == '-')
			return false;
		for (size_t i = 0; i < len; i++)
			if (!is_alphanumeric(label[i]) && label[i] != '-' && label[i] != '_')
				return false;
		if (label[len] == '\0')
			return !is_number(label);
		label += len + 1;
	}
}

/* Path and query hold the characters of RFC 3986 3.3 and 3.4 and whole escapes. */
static bool
is_path(const char *path)
{
	for (; *path != '\0'; path++) {
		if (*path == '%') {
			if (hex_value(path[1]) < 0 || hex_value(path[2]) < 0)
				return false;
		} else if (!is_alphanumeric(*path) && strchr("-._~!$&'()*+,;=:@/?", *path) == NULL) {
			return false;
		}
	}
	return true;
}

bool
url_parse(struct arena *arena, const char *text, struct url *out)
{
	if (!text_is_visible(text) || strnlen(text, URL_MAX + 1) > URL_MAX)
		return false;
	const char *colon = strstr(text, "://");
	if (colon == NULL)
		return false;
	char *scheme = arena_copy(arena, text, (size_t)(colon - text));
	make_lower(scheme);
	bool https = strcmp(scheme, "https") == 0;
	if (!https && strcmp(scheme, "http") != 0)
		return false;

	const char *rest = colon + 3;
	size_t authority_len = strcspn(rest, "/?");
	const char *path = rest + authority_len;
	if (!is_path(path))
		return false;
	char *host = arena_copy(arena, rest, authority_len);
	make_lower(host);

	char *port_text = NULL;
	bool ipv6 = host[0] == '[';
	if (ipv6) {
		char *bracket = strchr(host, ']');
		if (bracket == NULL || (bracket[1] != '\0' && bracket[1] != ':'))
			return false;
		if (bracket[1] == ':')
			port_text = bracket + 2;
		*bracket = '\0';
		/* One spelling for each address, the one browsers put into a Host header. */
		struct in6_addr address;
		char spelled[INET6_ADDRSTRLEN];
		if (inet_pton(AF_INET6, host + 1, &address) != 1 ||
		    inet_ntop(AF_INET6, &address, spelled, sizeof spelled) == NULL)
			return false;
		host = arena_text(arena, spelled);
	} else {
		char *port_colon = strchr(host, ':');
		if (port_colon != NULL) {
			*port_colon = '\0';
			port_text = port_colon + 1;
		}
		if (!is_host(host))
			return false;
	}

	unsigned default_port = https ? 443 : 80;
	uint64_t port = default_port;
	if (port_text != NULL && (!text_to_number(port_text, 65535, &port) || port == 0))
		return false;

	const char *left = ipv6 ? "[" : "";
	const char *right = ipv6 ? "]" : "";
	out->scheme = scheme;
	out->host = host;
	out->port = (unsigned)port;
	if (port == default_port)
		out->authority = arena_format(arena, "%s%s%s", left, host, right);
	else
		out->authority = arena_format(arena, "%s%s%s:%u", left, host, right, out->port);
	out->origin = arena_format(arena, "%s://%s", scheme, out->authority);
	out->path = *path == '?' ? arena_format(arena, "/%s", path) : arena_text(arena, path);
	return true;
}

bool
url_is_loopback(const struct url *url)
{
	struct in_addr ipv4;
	struct in6_addr ipv6;
	if (strcmp(url->host, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, url->host, &ipv4) == 1)
		return ntohl(ipv4.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, url->host, &ipv6) == 1 && memcmp(&ipv6, &in6addr_loopback, sizeof ipv6) == 0;
}

void
url_encode(struct buf *buf, const char *value)
{
	static const char digits[] = "0123456789ABCDEF";
	for (; *value != '\0'; value++) {
		if (is_alphanumeric(*value) || strchr("-._~", *value) != NULL) {
			buf_add_char(buf, *value);
		} else {
			unsigned char byte = (unsigned char)*value;
			const char escape[3] = {'%', digits[byte >> 4], digits[byte & 15]};
			buf_add_bytes(buf, escape, sizeof escape);
		}
	}
}

void
url_add(struct buf *buf, const char *name, const char *value)
{
	if (buf->len > 0 && buf->data[buf->len - 1] != '?' && buf->data[buf->len - 1] != '&')
		buf_add_char(buf, '&');
	url_encode(buf, name);
	buf_add_char(buf, '=');
	url_encode(buf, value);
}

/* Decode `len` bytes of a query; NULL when an escape is broken or the result is not UTF-8. */
static char *
decode(struct arena *arena, const char *text, size_t len)
{
	char *decoded = arena_alloc(arena, len + 1);
	size_t count = 0;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (c == '+') {
			c = ' ';
		} else if (c == '%') {
			if (len - i < 3 || hex_value(text[i + 1]) < 0 || hex_value(text[i + 2]) < 0)
				return NULL;
			c = (char)(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
			i += 2;
		}
		decoded[count++] = c;
	}
	decoded[count] = '\0';
	return text_is_utf8(decoded, count) ? decoded : NULL;
}

const char *
url_query(struct arena *arena, const char *query, const char *name, bool *repeated, bool *valid)
{
	const char *found = NULL;
	bool seen = false;
	*repeated = false;
	*valid = true;
	for (const char *at = query; at != NULL && *at != '\0';) {
		size_t len = strcspn(at, "&");
		size_t name_len = strcspn(at, "=&");
		const char *given_name = decode(arena, at, name_len);
		const char *value = name_len < len ? decode(arena, at + name_len + 1, len - name_len - 1) : "";
		if (given_name == NULL || value == NULL)
			*valid = false;
		if (given_name != NULL && strcmp(given_name, name) == 0) {
			if (seen)
				*repeated = true;
			else
				found = value;
			seen = true;
		}
		at += len + (at[len] == '&' ? 1 : 0);
	}
	return found;
}
