/*
 * Dates are computed here and not by gmtime_r: that takes a lock and may read files on its first call, and a record
 * shows three of them. Days are counted from 1 March, so that the leap day is the last of its year.
 */
#include "common/clock.h"

#include <time.h>

#define SECONDS_A_DAY 86400
#define LAST_SECOND INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define DAYS_BEFORE_1970 719468           /* from 0000-03-01 */
#define DAYS_IN_400_YEARS 146097

static int64_t
microseconds(clockid_t id)
{
	struct timespec now;
	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t
clock_wall(void)
{
	return microseconds(CLOCK_REALTIME) / 1000000;
}

int64_t
clock_wall_ms(void)
{
	return microseconds(CLOCK_REALTIME) / 1000;
}

int64_t
clock_monotonic_ms(void)
{
	return microseconds(CLOCK_MONOTONIC) / 1000;
}

int64_t
clock_monotonic_us(void)
{
	return microseconds(CLOCK_MONOTONIC);
}

static char *
put_digits(char *out, int64_t value, int digits, char after)
{
	for (int i = digits - 1; i >= 0; i--) {
		out[i] = (char)('0' + value % 10);
		value /= 10;
	}
	out[digits] = after;
	return out + digits + 1;
}

void
clock_rfc3339(int64_t seconds, char out[CLOCK_RFC3339_SIZE])
{
	if (seconds < 0)
		seconds = 0;
	if (seconds > LAST_SECOND)
		seconds = LAST_SECOND;

	int64_t of_day = seconds % SECONDS_A_DAY;
	int64_t days = seconds / SECONDS_A_DAY + DAYS_BEFORE_1970;
	int64_t cycle = days / DAYS_IN_400_YEARS;
	int64_t of_cycle = days % DAYS_IN_400_YEARS;
	/* Take out the leap days that have passed in the cycle: one in 4 years, none in 100, one in 400. */
	int64_t year_of_cycle = (of_cycle - of_cycle / 1460 + of_cycle / 36524 - of_cycle / 146096) / 365;
	int64_t of_year = of_cycle - (year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100);
	/* From March on, months of 31 and 30 days alternate in a pattern of 153 days for five months. */
	int64_t march_month = (of_year * 5 + 2) / 153;
	int64_t day = of_year - (march_month * 153 + 2) / 5 + 1;
	int64_t month = march_month < 10 ? march_month + 3 : march_month - 9;
	int64_t year = cycle * 400 + year_of_cycle + (month <= 2 ? 1 : 0);

	out = put_digits(out, year, 4, '-');
	out = put_digits(out, month, 2, '-');
	out = put_digits(out, day, 2, 'T');
	out = put_digits(out, of_day / 3600, 2, ':');
	out = put_digits(out, of_day / 60 % 60, 2, ':');
	out = put_digits(out, of_day % 60, 2, 'Z');
	*out = '\0';
}
