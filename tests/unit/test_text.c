/* Small questions about text, its encodings, and sets of words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/text.h"
#include "tests/unit/on_arena.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH(table) (sizeof(table) / sizeof(table)[0])

static void
compares(void **state)
{
	(void)state;
	static const struct {
		const char *a;
		const char *b;
		bool equal;
		bool equal_nocase;
	} rows[] = {
	    {"", "", true, true},          {"ada", "ada", true, true},    {"ada", "Ada", false, true},
	    {"ada", "adas", false, false}, {"adas", "ada", false, false}, {"a", "", false, false},
	    {NULL, NULL, true, true},      {NULL, "", false, false},      {"", NULL, false, false},
	    {"@", "`", false, false},      {"[", "{", false, false},      {"\xc3\x84", "\xc3\xa4", false, false},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		assert_int_equal(text_equal(rows[i].a, rows[i].b), rows[i].equal);
		assert_int_equal(text_equal_nocase(rows[i].a, rows[i].b), rows[i].equal_nocase);
	}
}

#define X8 "xxxxxxxx"
#define X32 X8 X8 X8 X8
#define X64 X32 X32

static void
knows_ids_and_names(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool id;
		bool name;
	} rows[] = {
	    {"", false, false},      {NULL, false, false},         {"a", true, true},
	    {"google", true, true},  {"google_drive", true, true}, {"a9", true, true},
	    {"9a", true, false},     {"_a", true, false},          {"-a", true, false},
	    {"a-b", true, false},    {"Ada", true, false},         {"aB", true, false},
	    {"a b", false, false},   {"a:b", false, false},        {"a{b}", false, false},
	    {"a*", false, false},    {"a/b", false, false},        {"a.b", false, false},
	    {"a\r\n", false, false}, {"\xc3\xa4", false, false},   {X32, true, true},
	    {X32 "x", true, false},  {X64, true, false},           {X64 "x", false, false},
	    {"a%00", false, false},  {"@", false, false},          {"[", false, false},
	    {"`", false, false},     {"{", false, false},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		assert_int_equal(text_is_id(rows[i].text), rows[i].id);
		assert_int_equal(text_is_name(rows[i].text), rows[i].name);
	}
}

static void
knows_utf8(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		size_t len;
		bool valid;
	} rows[] = {
	    {"", 0, true},
	    {"ada", 3, true},
	    {"\x01\x7f", 2, true},
	    {"a\0b", 3, false},
	    {"\0", 1, false},
	    {"12345678\0", 9, false},
	    {"1234567\0", 8, false},
	    {"\0"
	     "1234567",
	     8, false},
	    {"\xc2\x80", 2, true},
	    {"\xdf\xbf", 2, true},
	    {"\xe0\xa0\x80", 3, true},
	    {"\xed\x9f\xbf", 3, true},
	    {"\xee\x80\x80", 3, true},
	    {"\xef\xbf\xbf", 3, true},
	    {"\xf0\x90\x80\x80", 4, true},
	    {"\xf4\x8f\xbf\xbf", 4, true},
	    /* overlong */
	    {"\xc0\x80", 2, false},
	    {"\xc1\xbf", 2, false},
	    {"\xe0\x9f\xbf", 3, false},
	    {"\xf0\x8f\xbf\xbf", 4, false},
	    /* surrogates, beyond the last code point */
	    {"\xed\xa0\x80", 3, false},
	    {"\xed\xbf\xbf", 3, false},
	    {"\xf4\x90\x80\x80", 4, false},
	    {"\xf5\x80\x80\x80", 4, false},
	    {"\xff", 1, false},
	    {"\xfe\xff", 2, false},
	    /* cut short, alone, interrupted */
	    {"\xc2", 1, false},
	    {"\xe2\x82", 2, false},
	    {"\xf0\x9f\x98", 3, false},
	    {"\x80", 1, false},
	    {"\xc2"
	     "a",
	     2, false},
	    {"\xe2\x82"
	     "a",
	     3, false},
	    {"12345678\xc3\xa4"
	     "12345678",
	     18, true},
	    {"12345678\xc3", 9, false},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		/* A copy of its exact size shows a read beyond the end to the sanitizer. */
		char *bytes = malloc(rows[i].len == 0 ? 1 : rows[i].len);
		assert_non_null(bytes);
		memcpy(bytes, rows[i].bytes, rows[i].len);
		assert_int_equal(text_is_utf8(bytes, rows[i].len), rows[i].valid);
		free(bytes);
	}
}

static void
knows_visible_text(void **state)
{
	(void)state;
	assert_true(text_is_visible("!~"));
	assert_true(text_is_visible("ya29.MARKER-token"));
	static const char *const rows[] = {NULL, "", " ", "a b", "a\t", "a\r\n", "\x7f", "\x1f", "\xc3\xa4", "\x80"};
	for (size_t i = 0; i < LENGTH(rows); i++)
		assert_false(text_is_visible(rows[i]));
}

static void
reads_numbers(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t max;
		bool valid;
		uint64_t value;
	} rows[] = {
	    {"0", 0, true, 0},
	    {"1", 0, false, 0},
	    {"7", 7, true, 7},
	    {"8", 7, false, 0},
	    {"007", 7, true, 7},
	    {"65535", 65535, true, 65535},
	    {"65536", 65535, false, 0},
	    {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
	    {"18446744073709551616", UINT64_MAX, false, 0},
	    {"99999999999999999999999", UINT64_MAX, false, 0},
	    {"", UINT64_MAX, false, 0},
	    {NULL, UINT64_MAX, false, 0},
	    {"-1", UINT64_MAX, false, 0},
	    {"+1", UINT64_MAX, false, 0},
	    {" 1", UINT64_MAX, false, 0},
	    {"1 ", UINT64_MAX, false, 0},
	    {"300x", UINT64_MAX, false, 0},
	    {"0x10", UINT64_MAX, false, 0},
	    {"1e3", UINT64_MAX, false, 0},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		uint64_t value = 0;
		assert_int_equal(text_to_number(rows[i].text, rows[i].max, &value), rows[i].valid);
		assert_int_equal(value, rows[i].value);
	}
}

static void
writes_hex(void **state)
{
	(void)state;
	static const uint8_t bytes[] = {0x00, 0x0f, 0xa5, 0xff};
	char out[9];
	text_hex(bytes, sizeof bytes, out);
	assert_string_equal(out, "000fa5ff");
	text_hex(bytes, 0, out);
	assert_string_equal(out, "");
}

/* RFC 4648 10, and bytes that need the two digits in which the alphabets differ. */
static void
encodes_base64(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		const char *base64;
		const char *base64url;
	} rows[] = {
	    {"", "", ""},
	    {"f", "Zg==", "Zg"},
	    {"fo", "Zm8=", "Zm8"},
	    {"foo", "Zm9v", "Zm9v"},
	    {"foob", "Zm9vYg==", "Zm9vYg"},
	    {"fooba", "Zm9vYmE=", "Zm9vYmE"},
	    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
	    {"\xfb\xff\xfe", "+//+", "-__-"},
	    {"\xff", "/w==", "_w"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		const uint8_t *bytes = (const uint8_t *)rows[i].bytes;
		size_t len = strlen(rows[i].bytes);
		assert_string_equal(text_base64(arena, bytes, len), rows[i].base64);
		assert_string_equal(text_base64url(arena, bytes, len), rows[i].base64url);

		size_t decoded_len = 99;
		const uint8_t *decoded = text_base64_decode(arena, rows[i].base64, &decoded_len);
		assert_non_null(decoded);
		assert_int_equal(decoded_len, len);
		assert_memory_equal(decoded, bytes, len);
		decoded = text_base64url_decode(arena, rows[i].base64url, &decoded_len);
		assert_non_null(decoded);
		assert_int_equal(decoded_len, len);
		assert_memory_equal(decoded, bytes, len);
	}
}

static void
decodes_only_the_canonical_form(void **state)
{
	(void)state;
	static const char *const bad_base64url[] = {NULL,    "A",        "AAAAA",   "Z",    "Zh",    "Zm9", "Zm9vY",
						    "Zg==",  "Zg=",      "Zm+v",    "Zm/v", " Zg",   "Zg ", "Z\ng",
						    "Zm9v.", "\xc3\xa4", "Zm8\x80", "====", "Zm9vYh"};
	static const char *const bad_base64[] = {NULL,    "Zg",    "Zg=",    "Zh==",   "Zm9=",         "Z===",
						 "====",  "=",     "Zg=a",   "Z=g=",   "Zm-v",         "Zm_v",
						 "Zg== ", " Zg==", "Zm9vYg", "Zm\n9v", "Zm9vZg==Zm9v", "\xc3\xa4=="};
	size_t len;
	for (size_t i = 0; i < LENGTH(bad_base64url); i++)
		assert_null(text_base64url_decode(arena, bad_base64url[i], &len));
	for (size_t i = 0; i < LENGTH(bad_base64); i++)
		assert_null(text_base64_decode(arena, bad_base64[i], &len));
}

/* Every byte in every position survives. */
static void
decodes_what_it_encoded(void **state)
{
	(void)state;
	uint8_t bytes[256 + 3];
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7 + 3);
	for (size_t start = 0; start < 3; start++) {
		for (size_t len = 0; len < 256; len++) {
			size_t decoded_len;
			char *text = text_base64url(arena, bytes + start, len);
			uint8_t *decoded = text_base64url_decode(arena, text, &decoded_len);
			assert_non_null(decoded);
			assert_int_equal(decoded_len, len);
			assert_memory_equal(decoded, bytes + start, len);
			text = text_base64(arena, bytes + start, len);
			decoded = text_base64_decode(arena, text, &decoded_len);
			assert_non_null(decoded);
			assert_int_equal(decoded_len, len);
			assert_memory_equal(decoded, bytes + start, len);
		}
		arena_reset(arena);
	}
}

static void
splits_and_joins_words(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		size_t count;
		const char *joined;
	} rows[] = {
	    {NULL, 0, ""},
	    {"", 0, ""},
	    {"   ", 0, ""},
	    {"openid", 1, "openid"},
	    {" openid  email ", 2, "openid email"},
	    {"a b a c b", 3, "a b c"},
	    {"a A", 2, "a A"},
	    {"a\tb", 1, "a\tb"},
	    {"aa a aaa a aa", 3, "aa a aaa"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct words words = words_split(arena, rows[i].text);
		assert_int_equal(words.count, rows[i].count);
		assert_non_null(words.items);
		assert_null(words.items[words.count]);
		assert_string_equal(words_join(arena, &words), rows[i].joined);
	}
}

static void
leaves_its_text_alone(void **state)
{
	(void)state;
	char text[] = "a b";
	words_split(arena, text);
	assert_string_equal(text, "a b");
}

static void
finds_and_subtracts_words(void **state)
{
	(void)state;
	struct words wanted = words_split(arena, "openid drive mail calendar");
	struct words granted = words_split(arena, "mail openid other");
	struct words none = words_split(arena, NULL);
	assert_true(words_contain(&wanted, "mail"));
	assert_false(words_contain(&wanted, "mai"));
	assert_false(words_contain(&wanted, "Mail"));
	assert_false(words_contain(&wanted, ""));
	assert_false(words_contain(&wanted, NULL));
	assert_false(words_contain(&none, "mail"));

	struct words missing = words_minus(arena, &wanted, &granted);
	assert_string_equal(words_join(arena, &missing), "drive calendar");
	assert_null(missing.items[missing.count]);
	missing = words_minus(arena, &wanted, &none);
	assert_string_equal(words_join(arena, &missing), "openid drive mail calendar");
	missing = words_minus(arena, &none, &wanted);
	assert_int_equal(missing.count, 0);
	assert_null(missing.items[0]);
	missing = words_minus(arena, &wanted, &wanted);
	assert_int_equal(missing.count, 0);
}

/* A provider chooses the words: many of them, all repeated, are still a set. */
static void
splits_many_words(void **state)
{
	(void)state;
	enum { COUNT = 20000, SIZE = 6 };
	char *text = malloc((size_t)2 * COUNT * SIZE + 1);
	assert_non_null(text);
	for (size_t i = 0; i < (size_t)2 * COUNT; i++) {
		size_t number = i % COUNT;
		for (size_t digit = SIZE - 1; digit-- > 0; number /= 10)
			text[i * SIZE + digit] = (char)('0' + number % 10);
		text[i * SIZE + SIZE - 1] = ' ';
	}
	text[(size_t)2 * COUNT * SIZE] = '\0';
	struct words words = words_split(arena, text);
	assert_int_equal(words.count, COUNT);
	assert_string_equal(words.items[COUNT - 1], "19999");
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(compares),
	    cmocka_unit_test(knows_ids_and_names),
	    cmocka_unit_test(knows_utf8),
	    cmocka_unit_test(knows_visible_text),
	    cmocka_unit_test(reads_numbers),
	    cmocka_unit_test(writes_hex),
	    cmocka_unit_test(encodes_base64),
	    cmocka_unit_test(decodes_only_the_canonical_form),
	    cmocka_unit_test(decodes_what_it_encoded),
	    cmocka_unit_test(splits_and_joins_words),
	    cmocka_unit_test(leaves_its_text_alone),
	    cmocka_unit_test(finds_and_subtracts_words),
	    cmocka_unit_test(splits_many_words),
	};
	return cmocka_run_group_tests_name("text", tests, on_arena_open, on_arena_close);
}
