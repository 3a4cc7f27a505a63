/*
 * fastcgi_look: what is in a connection's socket, without taking it. It is also the guard of libfcgi, whose record
 * layer is not hardened. libfcgi gets exactly what a web server sends for one request: BEGIN (responder), one PARAMS
 * record and its end, STDIN records and their end, all with one id and sane lengths.
 */
#include "fcgi/fastcgi.h"

#include <errno.h>
#include <fastcgi.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#define LOOK_MAX ((size_t)160 * 1024) /* one PARAMS record, and more body than is allowed, so that 413 can be said */
#define PARAMS_MAX 64

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
