/*
 * Written straight into the buf: strings are mostly copied whole, because in most of them nothing has to be escaped.
 * yajl's generator looks at every byte twice and builds a structure of its own for each document; this took a sixth of
 * a list request's instructions.
 */
#include "common/json_write.h"

#include "common/arena.h"
#include "common/buf.h"
#include "common/text.h"

#include <string.h>

#define DEPTH_MAX 32

struct json_write {
	struct buf buf;
	bool failed;
	bool begun;     /* the one value of the document is there or open */
	bool has_value; /* the open container has one: the next needs a comma */
	unsigned depth;
	bool in_object[DEPTH_MAX];
};

struct json_write *
json_write_open(struct arena *arena, size_t max)
{
	struct json_write *json = arena_alloc(arena, sizeof *json);

	buf_init(&json->buf, arena, max);
	return json;
}

#define EACH(byte) (0x0101010101010101u * (byte))

/* Non-zero where one of eight bytes is `byte`. */
static uint64_t
holds(uint64_t eight, uint8_t byte)
{
	uint64_t other = eight ^ EACH(byte);

	return (other - EACH(0x01)) & ~other & EACH(0x80);
}

/* How many bytes from `text` on need no escape. */
static size_t
plain_length(const char *text, size_t len)
{
	size_t i = 0;

	for (; i + 8 <= len; i += 8) {
		uint64_t eight;

		memcpy(&eight, text + i, 8);
		if ((((eight - EACH(0x20)) & ~eight & EACH(0x80)) | holds(eight, '"') | holds(eight, '\\')) != 0)
			break;
	}
	while (i < len && (unsigned char)text[i] >= 0x20 && text[i] != '"' && text[i] != '\\')
		i++;
	return i;
}

static void
put_escape(struct buf *buf, char c)
{
	static const char from[] = "\"\\\b\f\n\r\t";
	static const char to[] = "\"\\bfnrt";
	static const char digits[] = "0123456789abcdef";
	const char *place = strchr(from, c);
	char escape[6] = {'\\', 'u', '0', '0', digits[(unsigned char)c >> 4], digits[c & 15]};

	if (place == NULL) {
		buf_add_bytes(buf, escape, sizeof escape);
		return;
	}
	escape[1] = to[place - from];
	buf_add_bytes(buf, escape, 2);
}

static void
put_plain(struct buf *buf, const char *text, size_t len)
{
	char *at = buf_extend(buf, len + 2);

	if (at == NULL)
		return;
	at[0] = '"';
	memcpy(at + 1, text, len);
	at[len + 1] = '"';
}

/* Most strings: ASCII of which nothing has to be escaped. One look at each byte tells. */
static bool
is_plain_ascii(const char *text, size_t len)
{
	uint64_t odd = 0;
	size_t i = 0;

	for (; i + 8 <= len; i += 8) {
		uint64_t eight;

		memcpy(&eight, text + i, 8);
		odd |= ((eight - EACH(0x20)) & EACH(0x80)) | eight | holds(eight, '"') | holds(eight, '\\');
	}
	if ((odd & EACH(0x80)) != 0)
		return false;
	for (; i < len; i++) {
		if ((unsigned char)text[i] < 0x20 || (unsigned char)text[i] >= 0x80 || text[i] == '"' ||
		    text[i] == '\\')
			return false;
	}
	return true;
}

static void
put_string(struct json_write *json, const char *text)
{
	size_t len = strlen(text);
	size_t plain;

	if (is_plain_ascii(text, len)) {
		put_plain(&json->buf, text, len);
		return;
	}
	if (!text_is_utf8(text, len)) {
		json->failed = true;
		return;
	}
	plain = plain_length(text, len);
	buf_add_char(&json->buf, '"');
	while (plain < len) {
		buf_add_bytes(&json->buf, text, plain);
		put_escape(&json->buf, text[plain]);
		text += plain + 1;
		len -= plain + 1;
		plain = plain_length(text, len);
	}
	buf_add_bytes(&json->buf, text, len);
	buf_add_char(&json->buf, '"');
}

/* "name": as it is, for names are words of the program. */
static void
put_name(struct buf *buf, const char *name)
{
	size_t len = strlen(name);
	char *at = buf_extend(buf, len + 3);

	if (at == NULL)
		return;
	at[0] = '"';
	memcpy(at + 1, name, len);
	at[len + 1] = '"';
	at[len + 2] = ':';
}

/* Write the name of the value that follows; false when that value must not be written. */
static bool
begin_value(struct json_write *json, const char *key)
{
	bool member = json->depth > 0 && json->in_object[json->depth - 1];
	if (member != (key != NULL) || (json->depth == 0 && json->begun))
		json->failed = true;
	if (json->failed)
		return false;
	json->begun = true;
	if (json->has_value)
		buf_add_char(&json->buf, ',');
	json->has_value = true;
	if (key != NULL)
		put_name(&json->buf, key);
	return true;
}

static void
begin_container(struct json_write *json, const char *key, bool object)
{
	if (json->depth == DEPTH_MAX)
		json->failed = true;
	if (!begin_value(json, key))
		return;
	buf_add_char(&json->buf, object ? '{' : '[');
	json->in_object[json->depth++] = object;
	json->has_value = false;
}

static void
end_container(struct json_write *json, bool object)
{
	if (json->depth == 0 || json->in_object[json->depth - 1] != object)
		json->failed = true;
	if (json->failed)
		return;
	json->depth--;
	buf_add_char(&json->buf, object ? '}' : ']');
	json->has_value = true;
}

void
json_write_object(struct json_write *json, const char *key)
{
	begin_container(json, key, true);
}

void
json_write_object_end(struct json_write *json)
{
	end_container(json, true);
}

void
json_write_array(struct json_write *json, const char *key)
{
	begin_container(json, key, false);
}

void
json_write_array_end(struct json_write *json)
{
	end_container(json, false);
}

void
json_write_string(struct json_write *json, const char *key, const char *value)
{
	if (!begin_value(json, key))
		return;
	if (value == NULL)
		buf_add(&json->buf, "null");
	else
		put_string(json, value);
}

void
json_write_number(struct json_write *json, const char *key, int64_t value)
{
	char digits[20];
	const char *end = text_number(digits, value);

	if (begin_value(json, key))
		buf_add_bytes(&json->buf, digits, (size_t)(end - digits));
}

void
json_write_bool(struct json_write *json, const char *key, bool value)
{
	if (begin_value(json, key))
		buf_add(&json->buf, value ? "true" : "false");
}

void
json_write_words(struct json_write *json, const char *key, const struct words *words)
{
	json_write_array(json, key);
	for (size_t i = 0; i < words->count; i++)
		json_write_string(json, NULL, words->items[i]);
	json_write_array_end(json);
}

const char *
json_write_finish(struct json_write *json, size_t *len)
{
	if (json->failed || json->depth > 0 || !json->begun)
		return NULL;
	const char *text = buf_text(&json->buf);
	if (text != NULL)
		*len = json->buf.len;
	return text;
}
