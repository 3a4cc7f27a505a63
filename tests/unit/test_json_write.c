/* The JSON writer: its text, and that misuse never yields a document. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/json_read.h"
#include "common/json_write.h"
#include "common/text.h"
#include "tests/unit/on_arena.h"

#include <string.h>

static void
assert_written(struct json_write *json, const char *expected)
{
	size_t len = 0;
	const char *text = json_write_finish(json, &len);
	assert_non_null(text);
	assert_string_equal(text, expected);
	assert_int_equal(len, strlen(expected));
	assert_non_null(json_read(arena, text, len));
}

static void
assert_failed(struct json_write *json)
{
	size_t len = 77;
	assert_null(json_write_finish(json, &len));
	assert_int_equal(len, 77);
}

static void
writes_every_kind(void **state)
{
	(void)state;
	struct words scopes = words_split(arena, "openid email");
	struct words none = words_split(arena, NULL);
	struct json_write *json = json_write_open(arena, 1000);
	json_write_object(json, NULL);
	json_write_string(json, "s", "x");
	json_write_string(json, "nothing", NULL);
	json_write_number(json, "least", INT64_MIN);
	json_write_number(json, "most", INT64_MAX);
	json_write_bool(json, "t", true);
	json_write_bool(json, "f", false);
	json_write_words(json, "scopes", &scopes);
	json_write_words(json, "none", &none);
	json_write_array(json, "list");
	json_write_number(json, NULL, 1);
	json_write_object(json, NULL);
	json_write_object_end(json);
	json_write_array(json, NULL);
	json_write_array_end(json);
	json_write_string(json, NULL, NULL);
	json_write_array_end(json);
	json_write_object(json, "");
	json_write_object_end(json);
	json_write_object_end(json);
	assert_written(json,
		       "{\"s\":\"x\",\"nothing\":null,\"least\":-9223372036854775808,\"most\":9223372036854775807,"
		       "\"t\":true,\"f\":false,\"scopes\":[\"openid\",\"email\"],\"none\":[],\"list\":[1,{},[],null],"
		       "\"\":{}}");
}

static void
writes_a_single_value(void **state)
{
	(void)state;
	struct json_write *json = json_write_open(arena, 100);
	json_write_string(json, NULL, "x");
	assert_written(json, "\"x\"");
}

/* Whatever goes in comes out of the reader again, and no control character stands bare. */
static void
escapes(void **state)
{
	(void)state;
	char every[256];
	for (int i = 1; i < 128; i++)
		every[i - 1] = (char)i;
	every[127] = '\0';
	static const char *const rows[] = {
	    "", "\"", "\\", "</script>", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\r\n\t\b\f\x01\x1f", "\xe2\x80\xa8"};
	for (size_t i = 0; i <= sizeof rows / sizeof rows[0]; i++) {
		const char *value = i < sizeof rows / sizeof rows[0] ? rows[i] : every;
		struct json_write *json = json_write_open(arena, 4096);
		json_write_object(json, NULL);
		json_write_string(json, "name", value);
		json_write_object_end(json);
		size_t len;
		const char *text = json_write_finish(json, &len);
		assert_non_null(text);
		for (size_t at = 0; at < len; at++)
			assert_true((unsigned char)text[at] >= 0x20);
		assert_string_equal(json_string(json_read(arena, text, len), "name"), value);
	}
}

/* A byte that is not plain is seen wherever it stands in the eight that are looked at together. */
static void
sees_every_place(void **state)
{
	static const char odd[] = "\"\\\x01\x1f\x80\xff";

	(void)state;
	for (size_t len = 1; len < 20; len++) {
		for (size_t place = 0; place < len; place++) {
			for (size_t i = 0; i < sizeof odd - 1; i++) {
				struct json_write *json = json_write_open(arena, 100);
				char value[32] = {0};
				size_t written;
				const char *text;

				memset(value, i % 2 == 0 ? '~' : ' ', len);
				value[place] = odd[i];
				json_write_string(json, NULL, value);
				if ((unsigned char)odd[i] >= 0x80) {
					assert_failed(json);
					continue;
				}
				text = json_write_finish(json, &written);
				assert_non_null(text);
				assert_true(written > len + 2);
			}
		}
	}
}

static void
refuses_invalid_utf8(void **state)
{
	(void)state;
	static const char *const rows[] = {"\xff", "\xc3", "\xe2\x82", "a\x80"};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct json_write *json = json_write_open(arena, 100);
		json_write_string(json, NULL, rows[i]);
		assert_failed(json);
	}
}

static void
misuse_is_sticky(void **state)
{
	(void)state;
	struct json_write *json = json_write_open(arena, 100);
	assert_failed(json);

	json = json_write_open(arena, 100);
	json_write_object(json, NULL);
	assert_failed(json);

	/* a name where none belongs */
	json = json_write_open(arena, 100);
	json_write_string(json, "k", "v");
	assert_failed(json);
	json = json_write_open(arena, 100);
	json_write_array(json, NULL);
	json_write_number(json, "k", 1);
	json_write_array_end(json);
	assert_failed(json);

	/* none where one belongs */
	json = json_write_open(arena, 100);
	json_write_object(json, NULL);
	json_write_bool(json, NULL, true);
	json_write_object_end(json);
	assert_failed(json);
	json = json_write_open(arena, 100);
	json_write_object(json, NULL);
	json_write_string(json, NULL, "taken for a name");
	json_write_string(json, NULL, "and its value");
	json_write_object_end(json);
	assert_failed(json);

	/* brackets that do not match */
	json = json_write_open(arena, 100);
	json_write_object_end(json);
	assert_failed(json);
	json = json_write_open(arena, 100);
	json_write_object(json, NULL);
	json_write_array_end(json);
	json_write_object_end(json);
	assert_failed(json);
	json = json_write_open(arena, 100);
	json_write_array(json, NULL);
	json_write_object_end(json);
	assert_failed(json);

	/* two documents */
	json = json_write_open(arena, 100);
	json_write_number(json, NULL, 1);
	json_write_number(json, NULL, 2);
	assert_failed(json);
	json = json_write_open(arena, 100);
	json_write_object(json, NULL);
	json_write_object_end(json);
	json_write_object(json, NULL);
	json_write_object_end(json);
	assert_failed(json);
}

static void
bounds_depth(void **state)
{
	(void)state;
	for (int depth = 32; depth <= 200; depth += 168) {
		struct json_write *json = json_write_open(arena, 1000);
		for (int i = 0; i < depth; i++)
			json_write_array(json, NULL);
		for (int i = 0; i < depth; i++)
			json_write_array_end(json);
		size_t len;
		if (depth == 32)
			assert_non_null(json_write_finish(json, &len));
		else
			assert_failed(json);
	}
}

/* Every maximum below the whole length fails, the exact one does not. */
static void
bounds_length(void **state)
{
	(void)state;
	static const char whole[] = "{\"a\":\"bc\",\"d\":[12,true,null]}";
	for (size_t max = 0; max <= sizeof whole; max++) {
		struct json_write *json = json_write_open(arena, max);
		json_write_object(json, NULL);
		json_write_string(json, "a", "bc");
		json_write_array(json, "d");
		json_write_number(json, NULL, 12);
		json_write_bool(json, NULL, true);
		json_write_string(json, NULL, NULL);
		json_write_array_end(json);
		json_write_object_end(json);
		if (max < sizeof whole - 1)
			assert_failed(json);
		else
			assert_written(json, whole);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(writes_every_kind), cmocka_unit_test(writes_a_single_value),
	    cmocka_unit_test(escapes),           cmocka_unit_test(refuses_invalid_utf8),
	    cmocka_unit_test(misuse_is_sticky),  cmocka_unit_test(bounds_depth),
	    cmocka_unit_test(bounds_length),     cmocka_unit_test(sees_every_place),
	};
	return cmocka_run_group_tests_name("json_write", tests, on_arena_open, on_arena_close);
}
