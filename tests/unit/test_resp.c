/* Commands as bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/resp.h"

#include <stdlib.h>
#include <string.h>

static void
writes_commands(void **state)
{
	const char *const get[] = {"GET", "key"};
	const char *const set[] = {"SET", "", "a\0\r\nb"};
	const char *const argv[] = {"PING"};
	const size_t get_lengths[] = {3, 3};
	const size_t set_lengths[] = {3, 0, 5};
	const size_t lengths[] = {4};
	static const char expected[] =
	    "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n$5\r\na\0\r\nb\r\n*1\r\n$4\r\nPING\r\n";
	struct resp resp = {0};

	(void)state;
	assert_true(resp_add(&resp, 2, get, get_lengths, NULL));
	assert_true(resp_add(&resp, 3, set, set_lengths, NULL));
	assert_true(resp_add(&resp, 1, argv, lengths, NULL));
	assert_int_equal(resp.len, sizeof expected - 1);
	assert_memory_equal(resp.bytes, expected, sizeof expected - 1);
	resp_clear(&resp);
}

static void
adds_fixed_words(void **state)
{
	const char *const words[] = {"a", "", "field"};
	const char *const argv[] = {"HMGET", "k"};
	const size_t lengths[] = {5, 1};
	static const char expected[] = "*5\r\n$5\r\nHMGET\r\n$1\r\nk\r\n$1\r\na\r\n$0\r\n\r\n$5\r\nfield\r\n";
	struct resp_tail tail;
	struct resp resp = {0};

	(void)state;
	resp_tail_prepare(&tail, 3, words);
	assert_true(resp_add(&resp, 2, argv, lengths, &tail));
	assert_int_equal(resp.len, sizeof expected - 1);
	assert_memory_equal(resp.bytes, expected, sizeof expected - 1);
	resp_clear(&resp);
	free(tail.bytes);
}

static void
grows_and_shrinks(void **state)
{
	size_t len = 1024 * 1024;
	char *value = malloc(len + 1);
	const char *argv[] = {"SET", "k", value};
	size_t lengths[] = {3, 1, 0};
	struct resp resp = {0};
	size_t all;

	(void)state;
	memset(value, 'v', len);
	value[len] = '\0';
	for (size_t each = 0; each <= len; each = each * 3 + 1) {
		size_t before = resp.len;

		lengths[2] = each;
		assert_true(resp_add(&resp, 3, argv, lengths, NULL));
		assert_memory_equal(resp.bytes + before, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$", 21);
		assert_memory_equal(resp.bytes + resp.len - 2, "\r\n", 2);
	}
	all = resp.len;
	resp_sent(&resp, 1000);
	assert_int_equal(resp_left(&resp), all - 1000);
	resp_sent(&resp, all - 1000);
	assert_int_equal(resp_left(&resp), 0);
	assert_int_equal(resp.size, 0); /* so large a buffer is not kept */
	lengths[2] = 10;
	assert_true(resp_add(&resp, 3, argv, lengths, NULL));
	resp_sent(&resp, resp.len);
	assert_int_not_equal(resp.size, 0); /* a usual one is */
	resp_clear(&resp);
	free(value);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(writes_commands), cmocka_unit_test(adds_fixed_words),
					   cmocka_unit_test(grows_and_shrinks)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
