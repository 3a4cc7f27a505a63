/*
 * yajl escapes and counts brackets; this file adds what yajl leaves to its caller: UTF-8, a failure that stays, and
 * the check that members have names and elements have none (yajl would take the value for the name).
 *
 * yajl writes straight into the buf, and its own structure lives in the arena: nothing to free, whatever happens.
 */
#include "common/json_write.h"

#include "common/arena.h"
#include "common/buf.h"
#include "common/text.h"

#include <string.h>
#include <yajl/yajl_gen.h>

#define DEPTH_MAX 32

struct json_write {
	yajl_gen gen;
	yajl_alloc_funcs alloc;
	struct buf buf;
	bool failed;
	bool begun; /* the one value of the document is there or open */
	unsigned depth;
	bool in_object[DEPTH_MAX];
};

static void *
take(void *arena, size_t size)
{
	return arena_alloc(arena, size);
}

/* yajl_gen gets fixed sizes only; growing would need the old size. */
static void *
take_again(void *arena, void *bytes, size_t size)
{
	(void)arena;
	(void)bytes;
	(void)size;
	return NULL;
}

static void
leave(void *arena, void *bytes)
{
	(void)arena;
	(void)bytes;
}

static void
print(void *buf, const char *text, size_t len)
{
	buf_add_bytes(buf, text, len);
}

struct json_write *
json_write_open(struct arena *arena, size_t max)
{
	struct json_write *json = arena_alloc(arena, sizeof *json);
	buf_init(&json->buf, arena, max);
	json->alloc = (yajl_alloc_funcs){.malloc = take, .realloc = take_again, .free = leave, .ctx = arena};
	json->gen = yajl_gen_alloc(&json->alloc);
	if (json->gen == NULL || yajl_gen_config(json->gen, yajl_gen_print_callback, print, &json->buf) != 1)
		json->failed = true;
	return json;
}

static void
check(struct json_write *json, yajl_gen_status status)
{
	if (status != yajl_gen_status_ok)
		json->failed = true;
}

static void
put_string(struct json_write *json, const char *text)
{
	size_t len = strlen(text);
	/* yajl would look at every byte; this check looks at eight at once. */
	if (!text_is_utf8(text, len)) {
		json->failed = true;
		return;
	}
	check(json, yajl_gen_string(json->gen, (const unsigned char *)text, len));
}

/* Write the name of the value that follows; false when that value must not be written. */
static bool
begin_value(struct json_write *json, const char *key)
{
	bool member = json->depth > 0 && json->in_object[json->depth - 1];
	if (member != (key != NULL))
		json->failed = true;
	if (json->failed)
		return false;
	json->begun = true;
	if (key != NULL)
		put_string(json, key);
	return !json->failed;
}

static void
begin_container(struct json_write *json, const char *key, bool object)
{
	if (json->depth == DEPTH_MAX)
		json->failed = true;
	if (!begin_value(json, key))
		return;
	check(json, object ? yajl_gen_map_open(json->gen) : yajl_gen_array_open(json->gen));
	json->in_object[json->depth++] = object;
}

static void
end_container(struct json_write *json, bool object)
{
	if (json->depth == 0 || json->in_object[json->depth - 1] != object)
		json->failed = true;
	if (json->failed)
		return;
	json->depth--;
	check(json, object ? yajl_gen_map_close(json->gen) : yajl_gen_array_close(json->gen));
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
		check(json, yajl_gen_null(json->gen));
	else
		put_string(json, value);
}

void
json_write_number(struct json_write *json, const char *key, int64_t value)
{
	if (begin_value(json, key))
		check(json, yajl_gen_integer(json->gen, value));
}

void
json_write_bool(struct json_write *json, const char *key, bool value)
{
	if (begin_value(json, key))
		check(json, yajl_gen_bool(json->gen, value));
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
