/* The builder of text: grows to its maximum and not beyond. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"
#include "tests/unit/on_arena.h"

#include <string.h>

static void
starts_empty(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, arena, 0);
	assert_string_equal(buf_text(&buf), "");
	buf_add(&buf, "");
	buf_addf(&buf, "%s", "");
	assert_string_equal(buf_text(&buf), "");
	buf_add_char(&buf, 'x');
	assert_null(buf_text(&buf));
}

static void
builds_text_by_every_function(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, arena, 100);
	buf_add(&buf, "one");
	buf_add_char(&buf, ' ');
	buf_add_bytes(&buf, "two!", 3);
	buf_addf(&buf, " %d%s", 3, ".");
	assert_string_equal(buf_text(&buf), "one two 3.");
	assert_int_equal(buf.len, 10);
}

/* Each maximum around the steps of growth: the last byte fits, one more does not and changes nothing. */
static void
holds_exactly_its_maximum(void **state)
{
	(void)state;
	char word[1100];
	for (size_t max = 1; max < 1090; max++) {
		struct buf buf;
		memset(word, 'a', max);
		word[max] = '\0';

		buf_init(&buf, arena, max);
		buf_add(&buf, word);
		assert_string_equal(buf_text(&buf), word);
		buf_add_char(&buf, 'b');
		assert_null(buf_text(&buf));
		assert_string_equal(buf.data, word);

		buf_init(&buf, arena, max);
		buf_addf(&buf, "%s", word);
		assert_string_equal(buf_text(&buf), word);
		buf_addf(&buf, "%c", 'b');
		assert_null(buf_text(&buf));
		assert_string_equal(buf.data, word);

		buf_init(&buf, arena, max);
		for (size_t i = 0; i < max; i++)
			buf_add_char(&buf, 'a');
		assert_string_equal(buf_text(&buf), word);
		arena_reset(arena);
	}
}

static void
stays_failed(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, arena, 4);
	buf_add(&buf, "ab");
	buf_add(&buf, "cde");
	assert_null(buf_text(&buf));
	assert_string_equal(buf.data, "ab");
	buf_add(&buf, "c");
	buf_add_char(&buf, 'c');
	buf_add_bytes(&buf, "c", 1);
	buf_addf(&buf, "c");
	assert_null(buf_text(&buf));
	assert_string_equal(buf.data, "ab");
	assert_true(buf.failed);
}

static void
a_failed_format_leaves_no_trace(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, arena, 10);
	buf_add(&buf, "ab");
	buf_addf(&buf, "%d", 123456789);
	assert_null(buf_text(&buf));
	assert_string_equal(buf.data, "ab");
}

static void
refuses_a_length_that_would_overflow(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, arena, 10);
	buf_add(&buf, "ab");
	buf_add_bytes(&buf, "x", SIZE_MAX);
	assert_null(buf_text(&buf));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(starts_empty),
	    cmocka_unit_test(builds_text_by_every_function),
	    cmocka_unit_test(holds_exactly_its_maximum),
	    cmocka_unit_test(stays_failed),
	    cmocka_unit_test(a_failed_format_leaves_no_trace),
	    cmocka_unit_test(refuses_a_length_that_would_overflow),
	};
	return cmocka_run_group_tests_name("buf", tests, on_arena_open, on_arena_close);
}
