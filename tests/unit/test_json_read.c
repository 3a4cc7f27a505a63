/* The bounded JSON reader: what it takes, what it refuses, and that hostile text costs nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/json_read.h"
#include "tests/unit/on_arena.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH(table) (sizeof(table) / sizeof(table)[0])

/* Read from memory of exactly this size, so that the sanitizer sees a read beyond it. */
static const struct json *
read_exactly(const char *bytes, size_t len)
{
	char *copy = malloc(len == 0 ? 1 : len);
	assert_non_null(copy);
	memcpy(copy, bytes, len);
	const struct json *json = json_read(arena, copy, len);
	free(copy);
	return json;
}

static const struct json *
read_text(const char *text)
{
	return read_exactly(text, strlen(text));
}

static void
reads_a_tree(void **state)
{
	(void)state;
	const struct json *json = read_text(" {\"a\":\"x\",\"b\":[1,true,null,{}],\"c\":{\"d\":-2.5e3}} ");
	assert_non_null(json);
	assert_int_equal(json->type, JSON_OBJECT);
	assert_int_equal(json->count, 3);
	assert_null(json->key);
	assert_null(json->next);
	assert_string_equal(json_string(json, "a"), "x");

	const struct json *list = json_member(json, "b");
	assert_int_equal(list->type, JSON_ARRAY);
	assert_int_equal(list->count, 4);
	const struct json *item = list->first;
	assert_int_equal(item->type, JSON_NUMBER);
	assert_string_equal(item->text, "1");
	assert_null(item->key);
	item = item->next;
	assert_int_equal(item->type, JSON_BOOL);
	assert_true(item->boolean);
	item = item->next;
	assert_int_equal(item->type, JSON_NULL);
	item = item->next;
	assert_int_equal(item->type, JSON_OBJECT);
	assert_int_equal(item->count, 0);
	assert_null(item->first);
	assert_null(item->next);

	assert_string_equal(json_member(json_member(json, "c"), "d")->text, "-2.5e3");
	assert_null(json_member(json, "e"));
	assert_null(json_member(json, "A"));
	assert_null(json_member(list, "a"));
	assert_null(json_member(NULL, "a"));
	assert_null(json_string(json, "b"));
}

static void
decodes_strings(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *value;
	} rows[] = {
	    {"\"\"", ""},
	    {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
	    {"\"\\u0041\\u00e4\\u20AC\"", "A\xc3\xa4\xe2\x82\xac"},
	    {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
	    {"\"\\uD83D\\uDE00x\"", "\xf0\x9f\x98\x80x"},
	    {"\"\\\\ud800\"", "\\ud800"},
	    {"\"\xc3\xa4\xf0\x9f\x98\x80\"", "\xc3\xa4\xf0\x9f\x98\x80"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		const struct json *json = read_text(rows[i].text);
		assert_non_null(json);
		assert_int_equal(json->type, JSON_STRING);
		assert_string_equal(json->text, rows[i].value);
	}
}

static void
refuses_what_is_no_document(void **state)
{
	(void)state;
	static const char *const rows[] = {
	    "",
	    " ",
	    "{",
	    "}",
	    "[",
	    "]",
	    "[1",
	    "{\"a\"",
	    "{\"a\":",
	    "{\"a\":1",
	    "{\"a\":1,",
	    "{\"a\":1,}",
	    "[1,]",
	    "[,1]",
	    "{a:1}",
	    "{'a':1}",
	    "{\"a\" 1}",
	    "{1:2}",
	    "\"",
	    "\"a",
	    "'a'",
	    "tru",
	    "nul",
	    "True",
	    "NaN",
	    "Infinity",
	    "-",
	    "01",
	    "1.",
	    ".5",
	    "+1",
	    "1e",
	    "0x1",
	    "1 2",
	    "{}{}",
	    "{} x",
	    "[] []",
	    "[1]]",
	    "[}",
	    "{]",
	    "/* c */ 1",
	    "1 // c",
	    "{\"a\":1/* c */}",
	    "\"\t\"",
	    "\"\n\"",
	    "\"\x1f\"",
	    "\"\\x\"",
	    "\"\\\"",
	    "\\",
	    "{\\",
	    "\xef\xbb\xbf{}",
	    /* not UTF-8 */
	    "\"\xff\"",
	    "\"\xc3\"",
	    "\"\xc0\x80\"",
	    "\"\xed\xa0\x80\"",
	    "{\"\xff\":1}",
	    "\xc3",
	    /* U+0000 however it is written, and half a pair */
	    "\"\\u0000\"",
	    "{\"a\\u0000b\":1}",
	    "\"\\ud800\"",
	    "\"\\udc00\"",
	    "\"\\ud800x\"",
	    "\"\\ud800\\u0041\"",
	    "\"\\ud800\\ud800\"",
	    "\"\\udc00\\ud800\"",
	    "{\"\\ud800\":1}",
	    /* escapes cut short, at the end of the text and of the string */
	    "\"\\u",
	    "\"\\u0",
	    "\"\\u00",
	    "\"\\u004",
	    "\"\\u0041",
	    "\"\\u\"",
	    "\"\\u0\"",
	    "\"\\u00\"",
	    "\"\\u004\"",
	    "\"\\uD8",
	    "\"\\uD8\"",
	    "\"\\uD8xx\"",
	    "\"\\uD83D",
	    "\"\\uD83D\\",
	    "\"\\uD83D\\\"",
	    "\"\\uD83D\\u",
	    "\"\\uD83D\\u\"",
	    "\"\\uD83D\\uD",
	    "\"\\uD83D\\uDE\"",
	    "\"\\uD83D\\uDE0",
	    "\"\\uD83D\\uDE0\"",
	    "\"\\uD83D\\uDE00",
	    "\"\\u00g0\"",
	    "\"\\u+041\"",
	    "\"\\u 041\"",
	    /* repeated members, also when written otherwise, also far apart and deep down */
	    "{\"a\":1,\"a\":1}",
	    "{\"a\":1,\"\\u0061\":2}",
	    "{\"a\":1,\"b\":2,\"c\":{},\"a\":3}",
	    "[[{\"x\":{\"a\":1,\"a\":2}}]]",
	    "{\"\":1,\"\":2}",
	};
	for (size_t i = 0; i < LENGTH(rows); i++)
		if (read_text(rows[i]) != NULL)
			fail_msg("taken: %s", rows[i]);
	assert_null(json_read(arena, NULL, 0));
}

static void
takes_what_only_looks_repeated(void **state)
{
	(void)state;
	static const char *const rows[] = {"{\"a\":{\"a\":1},\"b\":{\"a\":1}}", "[{\"a\":1},{\"a\":1}]",
					   "{\"a\":1,\"A\":2,\"a \":3}"};
	for (size_t i = 0; i < LENGTH(rows); i++)
		assert_non_null(read_text(rows[i]));
}

/* A NUL anywhere ends nothing: the length counts. */
static void
refuses_nul_bytes(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		size_t len;
	} rows[] = {{"{}\0", 3}, {"{}\0garbage", 10}, {"\0", 1}, {"\"a\0b\"", 5}, {"[1\0]", 4}, {"\0{}", 3}};
	for (size_t i = 0; i < LENGTH(rows); i++)
		assert_null(read_exactly(rows[i].bytes, rows[i].len));
}

/* Every beginning of a document that is no document, and the document with every byte replaced, end cleanly. */
static void
survives_damage_at_every_byte(void **state)
{
	(void)state;
	static const char whole[] =
	    "{\"access_token\":\"ya29.MARKER-\\ud83d\\ude00\",\"n\":[1,-2.5e3,true,null,{\"d\":\"\xc3\xa4\"}]}";
	size_t len = sizeof whole - 1;
	assert_non_null(read_exactly(whole, len));
	for (size_t cut = 0; cut < len; cut++)
		assert_null(read_exactly(whole, cut));
	char damaged[sizeof whole];
	for (size_t at = 0; at < len; at++) {
		for (int byte = 0; byte < 256; byte += 3) {
			memcpy(damaged, whole, sizeof whole);
			damaged[at] = (char)byte;
			read_exactly(damaged, len);
			arena_reset(arena);
		}
	}
}

static void
repeat(struct buf *buf, const char *text, size_t times)
{
	for (size_t i = 0; i < times; i++)
		buf_add(buf, text);
}

static const struct json *
read_nested(size_t depth, const char *open, const char *inner, const char *close)
{
	struct buf buf;
	buf_init(&buf, arena, 2 * 1024 * 1024);
	repeat(&buf, open, depth);
	buf_add(&buf, inner);
	repeat(&buf, close, depth);
	return read_exactly(buf_text(&buf), buf.len);
}

static void
bounds_depth(void **state)
{
	(void)state;
	assert_non_null(read_nested(16, "[", "", "]"));
	assert_null(read_nested(17, "[", "", "]"));
	assert_non_null(read_nested(16, "{\"a\":", "1", "}"));
	assert_null(read_nested(17, "{\"a\":", "1", "}"));
	assert_null(read_nested(17, "[", "", ""));
}

/* 200,000 opening brackets end after the seventeenth: the parse uses less than the text itself did. */
static void
bombs_cost_nothing(void **state)
{
	(void)state;
	enum { BRACKETS = 200000 };
	char *text = malloc(2 * BRACKETS);
	assert_non_null(text);
	memset(text, '[', BRACKETS);
	memset(text + BRACKETS, ']', BRACKETS);
	arena_reset(arena);
	assert_null(json_read(arena, text, 2 * BRACKETS));
	assert_null(json_read(arena, text, BRACKETS));
	assert_true(arena_used(arena) < 32768);
	free(text);
}

/* A list that makes `values` values, itself among them, all written like `item`. */
static const struct json *
read_list(size_t values, const char *item)
{
	struct buf buf;
	buf_init(&buf, arena, 64 * 1024);
	buf_addf(&buf, "[%s", item);
	for (size_t i = 2; i < values; i++)
		buf_addf(&buf, ",%s", item);
	buf_add(&buf, "]");
	return read_exactly(buf_text(&buf), buf.len);
}

static const struct json *
read_members(size_t members)
{
	struct buf buf;
	buf_init(&buf, arena, 64 * 1024);
	buf_add(&buf, "{");
	for (size_t i = 0; i < members; i++)
		buf_addf(&buf, "%s\"k%zu\":1", i > 0 ? "," : "", i);
	buf_add(&buf, "}");
	return read_exactly(buf_text(&buf), buf.len);
}

static void
bounds_numbers_of_values(void **state)
{
	(void)state;
	static const char *const items[] = {"1", "\"x\"", "true", "null", "[]", "{}"};
	for (size_t i = 0; i < LENGTH(items); i++) {
		assert_non_null(read_list(4096, items[i]));
		assert_null(read_list(4097, items[i]));
	}
	assert_non_null(read_members(256));
	assert_null(read_members(257));
}

/* yajl grows its buffers by reallocation, which must carry the old bytes along. */
static void
reads_long_strings(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, arena, 1024 * 1024);
	buf_add(&buf, "\"");
	repeat(&buf, "0123456789\\u0041", 10000);
	buf_add(&buf, "\"");
	const struct json *json = read_exactly(buf_text(&buf), buf.len);
	assert_non_null(json);
	assert_int_equal(strlen(json->text), 110000);
	for (size_t i = 0; i < 110000; i += 11)
		assert_memory_equal(json->text + i, "0123456789A", 11);
}

static void
offers_integers(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool valid;
		int64_t value;
	} rows[] = {
	    {"{\"n\":0}", true, 0},
	    {"{\"n\":-0}", true, 0},
	    {"{\"n\":3599}", true, 3599},
	    {"{\"n\":-5}", true, -5},
	    {"{\"n\":\"3599\"}", true, 3599},
	    {"{\"n\":9223372036854775807}", true, INT64_MAX},
	    {"{\"n\":9223372036854775808}", false, 0},
	    {"{\"n\":99999999999999999999999}", false, 0},
	    {"{\"n\":1e3}", false, 0},
	    {"{\"n\":1e999}", false, 0},
	    {"{\"n\":3599.0}", false, 0},
	    {"{\"n\":\"-5\"}", false, 0},
	    {"{\"n\":\" 5\"}", false, 0},
	    {"{\"n\":\"\"}", false, 0},
	    {"{\"n\":\"5x\"}", false, 0},
	    {"{\"n\":true}", false, 0},
	    {"{\"n\":null}", false, 0},
	    {"{\"n\":[5]}", false, 0},
	    {"{\"m\":5}", false, 0},
	    {"5", false, 0},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		int64_t value = 0;
		const struct json *json = read_text(rows[i].text);
		assert_non_null(json);
		assert_int_equal(json_integer(json, "n", &value), rows[i].valid);
		assert_int_equal(value, rows[i].value);
	}
}

static void
offers_booleans(void **state)
{
	(void)state;
	const struct json *json = read_text("{\"t\":true,\"f\":false,\"s\":\"true\",\"n\":1,\"z\":null}");
	assert_non_null(json);
	assert_true(json_boolean(json, "t", false));
	assert_false(json_boolean(json, "f", true));
	static const char *const others[] = {"s", "n", "z", "absent"};
	for (size_t i = 0; i < LENGTH(others); i++) {
		assert_true(json_boolean(json, others[i], true));
		assert_false(json_boolean(json, others[i], false));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(reads_a_tree),
	    cmocka_unit_test(decodes_strings),
	    cmocka_unit_test(refuses_what_is_no_document),
	    cmocka_unit_test(takes_what_only_looks_repeated),
	    cmocka_unit_test(refuses_nul_bytes),
	    cmocka_unit_test(survives_damage_at_every_byte),
	    cmocka_unit_test(bounds_depth),
	    cmocka_unit_test(bombs_cost_nothing),
	    cmocka_unit_test(bounds_numbers_of_values),
	    cmocka_unit_test(reads_long_strings),
	    cmocka_unit_test(offers_integers),
	    cmocka_unit_test(offers_booleans),
	};
	return cmocka_run_group_tests_name("json_read", tests, on_arena_open, on_arena_close);
}
