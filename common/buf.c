/*
 * Grows by doubling; the old text stays behind in the arena, which wipes it with everything else. `size` is at least
 * one more than `len` from the start, so that the NUL always has its place.
 */
#include "common/buf.h"

#include "common/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define FIRST_SIZE 1024 /* most answers fit */

void
buf_init(struct buf *buf, struct arena *arena, size_t max)
{
	buf->arena = arena;
	buf->len = 0;
	buf->max = max;
	buf->failed = false;
	buf->size = max < FIRST_SIZE ? max + 1 : FIRST_SIZE;
	buf->data = arena_alloc(arena, buf->size);
}

static __attribute__((noinline)) bool
grow(struct buf *buf, size_t more)
{
	if (more > buf->max - buf->len) {
		buf->failed = true;
		return false;
	}
	size_t need = buf->len + more + 1;
	size_t size = buf->size > buf->max / 2 ? buf->max + 1 : buf->size * 2;
	if (size < need)
		size = need;
	char *data = arena_alloc(buf->arena, size);
	memcpy(data, buf->data, buf->len);
	buf->data = data;
	buf->size = size;
	return true;
}

/* Room for `more` bytes and the NUL; false, and failed, when that would pass the maximum. */
static inline bool
make_room(struct buf *buf, size_t more)
{
	if (__builtin_expect(buf->failed, 0))
		return false;
	/* `size` never passes the maximum and its NUL, so what fits there is within it. */
	return __builtin_expect(more < buf->size - buf->len, 1) || grow(buf, more);
}

void
buf_add_bytes(struct buf *buf, const void *bytes, size_t len)
{
	if (len == 0 || !make_room(buf, len))
		return;
	char *end = buf->data + buf->len;
	/* Punctuation comes byte by byte from the JSON writer: too little for a call. */
	if (len == 1)
		*end = *(const char *)bytes;
	else
		memcpy(end, bytes, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
}

void
buf_add(struct buf *buf, const char *text)
{
	buf_add_bytes(buf, text, strlen(text));
}

char *
buf_extend(struct buf *buf, size_t len)
{
	char *end;

	if (!make_room(buf, len))
		return NULL;
	end = buf->data + buf->len;
	buf->len += len;
	buf->data[buf->len] = '\0';
	return end;
}

void
buf_add_char(struct buf *buf, char c)
{
	if (!make_room(buf, 1))
		return;
	buf->data[buf->len++] = c;
	buf->data[buf->len] = '\0';
}

void
buf_addf(struct buf *buf, const char *format, ...)
{
	if (buf->failed)
		return;
	size_t room = buf->size - buf->len;
	va_list args;
	va_start(args, format);
	int len = vsnprintf(buf->data + buf->len, room, format, args);
	va_end(args);
	if (len < 0 || !make_room(buf, (size_t)len)) {
		buf->failed = true;
		buf->data[buf->len] = '\0';
		return;
	}
	if ((size_t)len >= room) {
		va_start(args, format);
		vsnprintf(buf->data + buf->len, (size_t)len + 1, format, args);
		va_end(args);
	}
	buf->len += (size_t)len;
}

const char *
buf_text(const struct buf *buf)
{
	return buf->failed ? NULL : buf->data;
}
