/*
 * yajl reads, this file bounds it: depth and number of values are counted in the callbacks, which end the parse at
 * once, long before yajl's own stack has grown. Memory of yajl and of the tree is the arena's.
 *
 * Escapes of surrogates are checked before yajl sees the text: it turns a lone one into a question mark, and its
 * reading of truncated ones has been wrong more than once. As NUL is refused there, too, in both its spellings, every
 * string of the tree is whole.
 */
#include "common/json_read.h"

#include "common/arena.h"
#include "common/text.h"

#include <string.h>
#include <yajl/yajl_parse.h>

#define DEPTH_MAX 16
#define VALUES_MAX 4096
#define MEMBERS_MAX 256
#define YAJL_HEADER 16 /* keeps what follows aligned */

struct reader {
	struct arena *arena;
	struct json *root;
	struct json *open[DEPTH_MAX];
	struct json *last[DEPTH_MAX]; /* last child of open[i] */
	unsigned depth;
	size_t values;
	const char *key;
};

static void *
yajl_take(void *arena, size_t size)
{
	char *bytes = arena_alloc(arena, YAJL_HEADER + size);
	memcpy(bytes, &size, sizeof size);
	return bytes + YAJL_HEADER;
}

static void *
yajl_take_again(void *arena, void *old, size_t size)
{
	void *bytes = yajl_take(arena, size);
	if (old != NULL) {
		size_t old_size;
		memcpy(&old_size, (char *)old - YAJL_HEADER, sizeof old_size);
		memcpy(bytes, old, old_size < size ? old_size : size);
	}
	return bytes;
}

static void
yajl_leave(void *arena, void *bytes)
{
	(void)arena;
	(void)bytes;
}

/* Hang a new value into the tree; NULL when there are too many. */
static struct json *
add_value(struct reader *reader, enum json_type type)
{
	if (++reader->values > VALUES_MAX)
		return NULL;
	struct json *value = arena_alloc(reader->arena, sizeof *value);
	value->type = type;
	if (reader->depth == 0) {
		reader->root = value;
		return value;
	}
	struct json *parent = reader->open[reader->depth - 1];
	struct json *last = reader->last[reader->depth - 1];
	if (last == NULL)
		parent->first = value;
	else
		last->next = value;
	reader->last[reader->depth - 1] = value;
	parent->count++;
	if (parent->type == JSON_OBJECT)
		value->key = reader->key;
	return value;
}

static int
on_null(void *reader)
{
	return add_value(reader, JSON_NULL) != NULL;
}

static int
on_boolean(void *reader, int boolean)
{
	struct json *value = add_value(reader, JSON_BOOL);
	if (value != NULL)
		value->boolean = boolean != 0;
	return value != NULL;
}

static int
on_number(void *reader, const char *text, size_t len)
{
	struct json *value = add_value(reader, JSON_NUMBER);
	if (value != NULL)
		value->text = arena_copy(((struct reader *)reader)->arena, text, len);
	return value != NULL;
}

static int
on_string(void *reader, const unsigned char *text, size_t len)
{
	struct json *value = add_value(reader, JSON_STRING);
	if (value != NULL)
		value->text = arena_copy(((struct reader *)reader)->arena, text, len);
	return value != NULL;
}

static int
on_key(void *arg, const unsigned char *text, size_t len)
{
	struct reader *reader = arg;
	const struct json *object = reader->open[reader->depth - 1];
	reader->key = arena_copy(reader->arena, text, len);
	/* With few members a search costs less than a table would. */
	return object->count < MEMBERS_MAX && json_member(object, reader->key) == NULL;
}

static int
open_container(struct reader *reader, enum json_type type)
{
	if (reader->depth == DEPTH_MAX)
		return 0;
	struct json *value = add_value(reader, type);
	if (value == NULL)
		return 0;
	reader->open[reader->depth] = value;
	reader->last[reader->depth] = NULL;
	reader->depth++;
	return 1;
}

static int
on_object(void *reader)
{
	return open_container(reader, JSON_OBJECT);
}

static int
on_array(void *reader)
{
	return open_container(reader, JSON_ARRAY);
}

static int
on_end(void *arg)
{
	struct reader *reader = arg;
	reader->depth--;
	return 1;
}

/* The four hex digits at `at`, or -1. */
static int
hex4(const char *at, const char *end)
{
	if (end - at < 4)
		return -1;
	int value = 0;
	for (int i = 0; i < 4; i++) {
		char c = at[i];
		int digit = -1;
		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if (c >= 'a' && c <= 'f')
			digit = c - 'a' + 10;
		else if (c >= 'A' && c <= 'F')
			digit = c - 'A' + 10;
		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

/* Every \u escape is whole, not U+0000, and a surrogate has its other half. Outside of strings no backslash is valid.
 */
static bool
escapes_are_whole(const char *bytes, size_t len)
{
	const char *end = bytes + len;
	for (const char *at = bytes; (at = memchr(at, '\\', (size_t)(end - at))) != NULL;) {
		if (end - at < 2)
			return false;
		if (at[1] != 'u') {
			at += 2;
			continue;
		}
		int code = hex4(at + 2, end);
		if (code <= 0 || (code >= 0xdc00 && code <= 0xdfff))
			return false;
		at += 6;
		if (code >= 0xd800 && code <= 0xdbff) {
			int low = end - at >= 2 && at[0] == '\\' && at[1] == 'u' ? hex4(at + 2, end) : -1;
			if (low < 0xdc00 || low > 0xdfff)
				return false;
			at += 6;
		}
	}
	return true;
}

const struct json *
json_read(struct arena *arena, const char *bytes, size_t len)
{
	static const yajl_callbacks callbacks = {
	    .yajl_null = on_null,
	    .yajl_boolean = on_boolean,
	    .yajl_number = on_number,
	    .yajl_string = on_string,
	    .yajl_start_map = on_object,
	    .yajl_map_key = on_key,
	    .yajl_end_map = on_end,
	    .yajl_start_array = on_array,
	    .yajl_end_array = on_end,
	};
	if (bytes == NULL || len == 0 || !text_is_utf8(bytes, len) || !escapes_are_whole(bytes, len))
		return NULL;

	struct reader reader = {.arena = arena};
	yajl_alloc_funcs alloc = {.malloc = yajl_take, .realloc = yajl_take_again, .free = yajl_leave, .ctx = arena};
	yajl_handle handle = yajl_alloc(&callbacks, &alloc, &reader);
	if (handle == NULL || yajl_parse(handle, (const unsigned char *)bytes, len) != yajl_status_ok ||
	    yajl_complete_parse(handle) != yajl_status_ok || reader.depth != 0)
		return NULL;
	return reader.root;
}

const struct json *
json_member(const struct json *object, const char *key)
{
	if (object == NULL || object->type != JSON_OBJECT)
		return NULL;
	for (const struct json *member = object->first; member != NULL; member = member->next)
		if (strcmp(member->key, key) == 0)
			return member;
	return NULL;
}

const char *
json_string(const struct json *object, const char *key)
{
	const struct json *member = json_member(object, key);
	return member != NULL && member->type == JSON_STRING ? member->text : NULL;
}

bool
json_integer(const struct json *object, const char *key, int64_t *value)
{
	const struct json *member = json_member(object, key);
	if (member == NULL || (member->type != JSON_NUMBER && member->type != JSON_STRING))
		return false;
	bool negative = member->type == JSON_NUMBER && member->text[0] == '-';
	uint64_t number;
	if (!text_to_number(member->text + (negative ? 1 : 0), INT64_MAX, &number))
		return false;
	*value = negative ? -(int64_t)number : (int64_t)number;
	return true;
}

bool
json_boolean(const struct json *object, const char *key, bool fallback)
{
	const struct json *member = json_member(object, key);
	return member != NULL && member->type == JSON_BOOL ? member->boolean : fallback;
}
