/* The two clocks and how a moment is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"

#include <stdlib.h>
#include <time.h>

static void
writes_known_moments(void **state)
{
	(void)state;
	static const struct {
		int64_t seconds;
		const char *text;
	} rows[] = {
	    {0, "1970-01-01T00:00:00Z"},
	    {-1, "1970-01-01T00:00:00Z"},
	    {INT64_MIN, "1970-01-01T00:00:00Z"},
	    {59, "1970-01-01T00:00:59Z"},
	    {951782399, "2000-02-28T23:59:59Z"},
	    {951782400, "2000-02-29T00:00:00Z"},
	    {951868800, "2000-03-01T00:00:00Z"},
	    {1790000000, "2026-09-21T14:13:20Z"},
	    {2147483647, "2038-01-19T03:14:07Z"},
	    {2147483648, "2038-01-19T03:14:08Z"},
	    {4107542399, "2100-02-28T23:59:59Z"},
	    {4107542400, "2100-03-01T00:00:00Z"},
	    {INT64_C(253402300799), "9999-12-31T23:59:59Z"},
	    {INT64_C(253402300800), "9999-12-31T23:59:59Z"},
	    {INT64_MAX, "9999-12-31T23:59:59Z"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char out[CLOCK_RFC3339_SIZE];
		clock_rfc3339(rows[i].seconds, out);
		assert_string_equal(out, rows[i].text);
	}
}

/* Every day of eight thousand years, against the C library. */
static void
agrees_with_the_library(void **state)
{
	(void)state;
	for (int64_t seconds = 0; seconds <= INT64_C(253402300799); seconds += 86399) {
		time_t moment = (time_t)seconds;
		struct tm parts;
		char expected[CLOCK_RFC3339_SIZE];
		char out[CLOCK_RFC3339_SIZE];
		assert_non_null(gmtime_r(&moment, &parts));
		assert_int_equal(strftime(expected, sizeof expected, "%Y-%m-%dT%H:%M:%SZ", &parts), 20);
		clock_rfc3339(seconds, out);
		assert_string_equal(out, expected);
	}
}

static void
tells_the_time(void **state)
{
	(void)state;
	assert_true(llabs((long long)clock_wall() - (long long)time(NULL)) <= 1);
	assert_true(llabs((long long)(clock_wall_ms() / 1000 - clock_wall())) <= 1);
	int64_t before = clock_monotonic_us();
	for (int i = 0; i < 1000; i++) {
		int64_t now = clock_monotonic_us();
		assert_true(now >= before);
		before = now;
	}
	assert_true(llabs((long long)(clock_monotonic_us() / 1000 - clock_monotonic_ms())) <= 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(writes_known_moments),
	    cmocka_unit_test(agrees_with_the_library),
	    cmocka_unit_test(tells_the_time),
	};
	return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
