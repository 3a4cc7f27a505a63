/* Numbers of several processes in one text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/buf.h"
#include "common/metrics.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct metrics *metrics;
static struct arena *arena;
static size_t good, bad, level, took;

static int
open_all(void **state)
{
	(void)state;
	arena = arena_open(4096, 1024 * 1024, NULL, NULL);
	metrics = metrics_open(4);
	good = metrics_counter(metrics, "requests_total", "Requests.", "outcome=\"good\"");
	bad = metrics_counter(metrics, "requests_total", "Requests.", "outcome=\"bad\"");
	level = metrics_gauge(metrics, "level", "Level.", "");
	took = metrics_histogram(metrics, "took_seconds", "Time.", "route=\"/a\"");
	return arena == NULL || !metrics_freeze(metrics);
}

static int
close_all(void **state)
{
	(void)state;
	metrics_close(metrics);
	arena_close(arena);
	return 0;
}

static const char *
written(void)
{
	struct buf text;

	buf_init(&text, arena, 65536);
	metrics_write(metrics, &text);
	return buf_text(&text);
}

static void
shows_what_was_counted(void **state)
{
	(void)state;
	metrics_claim(metrics, 0);
	assert_null(strstr(written(), "outcome"));
	assert_non_null(strstr(written(), "# HELP level Level.\n# TYPE level gauge\nlevel 0\n"));
	metrics_add(metrics, good, 2);
	metrics_add(metrics, good, 1);
	metrics_set(metrics, level, -7);
	assert_non_null(strstr(written(), "# TYPE requests_total counter\nrequests_total{outcome=\"good\"} 3\n"));
	assert_null(strstr(written(), "bad"));
	assert_non_null(strstr(written(), "level -7\n"));
	metrics_add(metrics, bad, 1);
	assert_non_null(strstr(written(), "requests_total{outcome=\"bad\"} 1\n"));
	assert_ptr_equal(strstr(strstr(written(), "# HELP requests_total") + 1, "# HELP requests_total"), NULL);
}

static void
shows_histograms(void **state)
{
	const char *text;

	(void)state;
	metrics_claim(metrics, 0);
	metrics_observe_us(metrics, took, 1000); /* a bound belongs to its bucket */
	metrics_observe_us(metrics, took, 1001);
	metrics_observe_us(metrics, took, 700000);
	metrics_observe_us(metrics, took, 99000000);
	metrics_observe_us(metrics, took, -5);
	text = written();
	assert_non_null(strstr(text, "took_seconds_bucket{route=\"/a\",le=\"0.001\"} 2\n"));
	assert_non_null(strstr(text, "took_seconds_bucket{route=\"/a\",le=\"0.0025\"} 3\n"));
	assert_non_null(strstr(text, "took_seconds_bucket{route=\"/a\",le=\"0.5\"} 3\n"));
	assert_non_null(strstr(text, "took_seconds_bucket{route=\"/a\",le=\"1\"} 4\n"));
	assert_non_null(strstr(text, "took_seconds_bucket{route=\"/a\",le=\"10\"} 4\n"));
	assert_non_null(strstr(text, "took_seconds_bucket{route=\"/a\",le=\"+Inf\"} 5\n"));
	assert_non_null(strstr(text, "took_seconds_sum{route=\"/a\"} 99.702001\n"));
	assert_non_null(strstr(text, "took_seconds_count{route=\"/a\"} 5\n"));
}

/* Counters of a process outlive it; its gauges do not. */
static void
sums_processes(void **state)
{
	(void)state;
	for (size_t slot = 1; slot < 4; slot++) {
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			metrics_claim(metrics, slot);
			for (int i = 0; i < 1000; i++)
				metrics_add(metrics, good, 1);
			metrics_set(metrics, level, (int64_t)slot);
			_exit(0);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
	}
	assert_int_equal(metrics_read(metrics, level, 3), 3);
	assert_non_null(strstr(written(), "outcome=\"good\"} 3000\n"));
	assert_non_null(strstr(written(), "level 6\n"));
	metrics_free(metrics, 3);
	assert_non_null(strstr(written(), "outcome=\"good\"} 3000\n"));
	assert_non_null(strstr(written(), "level 3\n"));
	metrics_claim(metrics, 2);
	assert_non_null(strstr(written(), "level 1\n"));
	metrics_add(metrics, good, 1);
	assert_non_null(strstr(written(), "outcome=\"good\"} 3001\n"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int
main(void)
{
	const struct CMUnitTest tests[] = {TEST(shows_what_was_counted), TEST(shows_histograms), TEST(sums_processes)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
