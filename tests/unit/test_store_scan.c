/* What a scan found: sorted, and each thing once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fcgi/store_internal.h"

static void
sorts_and_drops_what_is_there_twice(void **state)
{
	(void)state;
	static const struct {
		const char *found[6];
		size_t count;
		const char *kept[6];
		size_t left;
	} rows[] = {
	    {{"ada"}, 1, {"ada"}, 1},
	    {{"ada", "ada"}, 2, {"ada"}, 1},
	    {{"eve", "ada"}, 2, {"ada", "eve"}, 2},
	    {{"eve", "bob", "ada", "bob", "eve", "eve"}, 6, {"ada", "bob", "eve"}, 3},
	    {{"a", "B", "ab", "\xc3\xa4", "", "a"}, 6, {"", "B", "a", "ab", "\xc3\xa4"}, 5},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *items[6];
		for (size_t j = 0; j < 6; j++)
			items[j] = rows[i].found[j];
		size_t left = store_sort_unique(items, rows[i].count, sizeof *items, text_compare);
		assert_int_equal(left, rows[i].left);
		for (size_t j = 0; j < left; j++)
			assert_string_equal(items[j], rows[i].kept[j]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sorts_and_drops_what_is_there_twice),
	};
	return cmocka_run_group_tests_name("store_scan", tests, NULL, NULL);
}
