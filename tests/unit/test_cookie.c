/* The Cookie header: which pairs count, what their value is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cookie.h"
#include "tests/unit/on_arena.h"

#include <stdlib.h>
#include <string.h>

static void
finds_the_cookie(void **state)
{
	(void)state;
	static const struct {
		const char *header;
		size_t count;
		const char *value;
	} rows[] = {
	    {NULL, 0, NULL},
	    {"", 0, NULL},
	    {";", 0, NULL},
	    {";;; ;", 0, NULL},
	    {"session=abc", 1, "abc"},
	    {"session=", 1, ""},
	    {"a=1; session=abc; b=2", 1, "abc"},
	    {"a=1;session=abc;b=2", 1, "abc"},
	    {" \tsession=abc\t ", 1, "abc"},
	    {"session= abc ; b=2", 1, "abc"},
	    {"session=a=b==", 1, "a=b=="},
	    {"session=a b", 1, "a b"},
	    {"session=abc;", 1, "abc"},
	    /* quotes */
	    {"session=\"abc\"", 1, "abc"},
	    {"session=\"\"", 1, ""},
	    {"session=\"", 1, "\""},
	    {"session=\"abc", 1, "\"abc"},
	    {"session=abc\"", 1, "abc\""},
	    {"session=\"\"abc\"\"", 1, "\"abc\""},
	    {"a=\"; session=abc; b=\"", 1, "abc"},
	    /* repeated, also by one that is empty */
	    {"session=1; session=2", 2, "1"},
	    {"session=1; a=b; session=1; session=3", 3, "1"},
	    {"session=; session=2", 2, ""},
	    {"session=\"1\";session=2", 2, "1"},
	    /* other names */
	    {"Session=abc", 0, NULL},
	    {"SESSION=abc", 0, NULL},
	    {"sessions=abc", 0, NULL},
	    {"xsession=abc", 0, NULL},
	    {"x session=abc", 0, NULL},
	    {"session =abc", 0, NULL},
	    {"__Host-session=abc", 0, NULL},
	    {"session", 0, NULL},
	    {"session; session", 0, NULL},
	    {"a=session=abc", 0, NULL},
	    {"a=1, session=abc", 0, NULL},
	    {"=session=abc", 0, NULL},
	    {"\xe2\x80\x80session=abc", 0, NULL},
	    {"\xc2\xa0session=abc", 0, NULL},
	    {"\vsession=abc", 0, NULL},
	    {"$Version=1; session=abc; $Path=/", 1, "abc"},
	    {"sessio", 0, NULL},
	    {"a=1; sessio", 0, NULL},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		/* Its own memory shows a read beyond the end to the sanitizer. */
		char *header = rows[i].header == NULL ? NULL : strdup(rows[i].header);
		const char *value = "untouched";
		assert_int_equal(cookie_find(arena, header, "session", &value), rows[i].count);
		if (rows[i].value == NULL)
			assert_null(value);
		else
			assert_string_equal(value, rows[i].value);
		free(header);
	}
}

static void
finds_a_prefixed_name(void **state)
{
	(void)state;
	const char *value;
	assert_int_equal(cookie_find(arena, "session=evil; __Host-session=abc", "__Host-session", &value), 1);
	assert_string_equal(value, "abc");
}

static void
reads_long_headers(void **state)
{
	(void)state;
	enum { PAIRS = 5000 };
	char *header = malloc(PAIRS * 10 + 1);
	assert_non_null(header);
	for (size_t i = 0; i < PAIRS; i++)
		memcpy(header + i * 10, "session=1;", 10);
	header[PAIRS * 10] = '\0';
	const char *value;
	assert_int_equal(cookie_find(arena, header, "session", &value), PAIRS);
	assert_string_equal(value, "1");
	free(header);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(finds_the_cookie),
	    cmocka_unit_test(finds_a_prefixed_name),
	    cmocka_unit_test(reads_long_headers),
	};
	return cmocka_run_group_tests_name("cookie", tests, on_arena_open, on_arena_close);
}
