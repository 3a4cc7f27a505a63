/* The log: one JSON object a line, whatever the values hold and however slowly it is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/json_read.h"
#include "common/log.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int old_stderr;
static int out; /* where it can be read */
static char text[512 * 1024];
static struct arena *arena;

static int
open_pipe(void **state)
{
	int ends[2];

	(void)state;
	arena = arena_open(4096, 16 * 1024 * 1024, NULL, NULL);
	if (pipe2(ends, O_CLOEXEC) != 0)
		return -1;
	old_stderr = dup(STDERR_FILENO);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	out = ends[0];
	fcntl(out, F_SETFL, O_NONBLOCK);
	log_configure(LOG_LEVEL_DEBUG, true);
	return 0;
}

static int
close_pipe(void **state)
{
	(void)state;
	log_configure(LOG_LEVEL_INFO, false);
	dup2(old_stderr, STDERR_FILENO);
	close(old_stderr);
	close(out);
	arena_close(arena);
	return 0;
}

static size_t
read_all(void)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(out, text + len, sizeof text - len - 1)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	return len;
}

/* Every line is an object with the four members that all have; how many lines. */
static size_t
check_lines(void)
{
	static const char *const members[] = {"time", "level", "event", "pid"};
	size_t count = 0;

	for (char *line = text; *line != '\0'; count++) {
		char *end = strchr(line, '\n');
		const struct json *json;

		assert_non_null(end);
		assert_true((size_t)(end - line) < PIPE_BUF);
		json = json_read(arena, line, (size_t)(end - line));
		assert_non_null(json);
		for (size_t i = 0; i < 4; i++)
			assert_non_null(json_member(json, members[i]));
		line = end + 1;
	}
	return count;
}

static void
writes_json(void **state)
{
	struct log_line line;

	(void)state;
	log_begin(&line, LOG_LEVEL_WARN, "something");
	log_text(&line, "plain", "value");
	log_text(&line, "absent", NULL);
	log_text(&line, "odd", "quote\" back\\ tab\t nul-less \x01 \xc3\xa9 \xff end");
	log_number(&line, "number", -42);
	log_end(&line);
	log_message(LOG_LEVEL_INFO, "other", "message", NULL);
	assert_int_equal(read_all(), 0); /* kept until the turn's end */
	log_flush();
	read_all();
	assert_int_equal(check_lines(), 2);
	assert_non_null(strstr(text, "\"level\":\"warn\",\"event\":\"something\""));
	assert_non_null(
	    strstr(text, "\"odd\":\"quote\\\" back\\\\ tab\\u0009 nul-less \\u0001 \\u00c3\\u00a9 \\u00ff end\""));
	assert_non_null(strstr(text, "\"number\":-42}"));
	assert_null(strstr(text, "absent"));
}

static void
cuts_what_is_long(void **state)
{
	static char value[1000];
	struct log_line line;
	char key[32];

	(void)state;
	memset(value, 'v', sizeof value - 1);
	log_begin(&line, LOG_LEVEL_ERROR, "long");
	log_text(&line, "first", value);
	memset(value, 1, sizeof value - 1); /* six bytes each when escaped */
	log_text(&line, "second", value);
	log_text(&line, "third", value);
	for (int i = 0; i < 200; i++) {
		snprintf(key, sizeof key, "number%d", i);
		log_number(&line, key, i);
	}
	log_text(&line, "last", "x");
	log_end(&line);
	log_flush();
	read_all();
	assert_int_equal(check_lines(), 1);
	assert_int_equal(strspn(strstr(text, "\"first\":\"") + 9, "v"), 256);
}

static void
obeys_its_level(void **state)
{
	enum log_level level;

	(void)state;
	log_configure(LOG_LEVEL_WARN, true);
	log_message(LOG_LEVEL_INFO, "info", "no", NULL);
	log_message(LOG_LEVEL_DEBUG, "debug", "no", NULL);
	log_message(LOG_LEVEL_WARN, "warn", "yes", NULL);
	log_message(LOG_LEVEL_ERROR, "error", "yes", NULL);
	log_flush();
	read_all();
	assert_int_equal(check_lines(), 2);
	assert_true(log_level_parse("debug", &level));
	assert_int_equal(level, LOG_LEVEL_DEBUG);
	assert_false(log_level_parse("loud", &level));
	assert_false(log_level_parse("", &level));
}

/* Nobody reads: lines are dropped whole, counted, and nothing waits. */
static void
never_waits_for_a_reader(void **state)
{
	uint64_t before = log_dropped();
	size_t lines = 5000;
	size_t came = 0;

	(void)state;
	for (size_t i = 0; i < lines; i++)
		log_message(LOG_LEVEL_INFO, "flood", "a line of the usual length, as it comes with every request",
			    NULL);
	log_flush();
	assert_true(log_dropped() > before);
	for (int i = 0; i < 100; i++) {
		read_all();
		came += check_lines();
		arena_reset(arena);
		log_flush();
	}
	assert_int_equal(came + (log_dropped() - before), lines);
}

static void
writes_at_once_where_asked(void **state)
{
	(void)state;
	log_configure(LOG_LEVEL_INFO, false);
	log_message(LOG_LEVEL_INFO, "now", "message", "action");
	read_all();
	assert_int_equal(check_lines(), 1);
}

static void
survives_a_reader_that_is_gone(void **state)
{
	uint64_t before = log_dropped();

	(void)state;
	close(out);
	out = open("/dev/null", O_RDONLY | O_CLOEXEC);
	log_message(LOG_LEVEL_INFO, "lost", "message", NULL);
	log_flush();
	assert_int_equal(log_dropped() - before, 1);
	for (int i = 0; i < 10; i++)
		log_message(LOG_LEVEL_INFO, "lost", "message", NULL);
	log_flush();
	assert_int_equal(log_dropped() - before, 11);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_pipe, close_pipe)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(writes_json),
	    TEST(cuts_what_is_long),
	    TEST(obeys_its_level),
	    TEST(never_waits_for_a_reader),
	    TEST(writes_at_once_where_asked),
	    TEST(survives_a_reader_that_is_gone),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
