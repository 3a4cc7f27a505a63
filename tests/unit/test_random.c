/* Random values: their form, that they differ, that they are even. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/random.h"
#include "common/text.h"
#include "tests/unit/on_arena.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 20000 };

static void
tokens_have_256_bits_and_differ(void **state)
{
	(void)state;
	char **tokens = arena_alloc(arena, COUNT * sizeof *tokens);
	uint8_t ever_set[32] = {0};
	uint8_t ever_clear[32] = {0};
	for (size_t i = 0; i < COUNT; i++) {
		tokens[i] = random_token(arena);
		size_t len;
		const uint8_t *bytes = text_base64url_decode(arena, tokens[i], &len);
		assert_int_equal(strlen(tokens[i]), 43);
		assert_non_null(bytes);
		assert_int_equal(len, 32);
		for (size_t j = 0; j < len; j++) {
			ever_set[j] |= bytes[j];
			ever_clear[j] |= (uint8_t)~bytes[j];
		}
	}
	for (size_t j = 0; j < 32; j++) {
		assert_int_equal(ever_set[j], 0xff);
		assert_int_equal(ever_clear[j], 0xff);
	}
	qsort(tokens, COUNT, sizeof *tokens, text_compare);
	for (size_t i = 1; i < COUNT; i++)
		assert_string_not_equal(tokens[i - 1], tokens[i]);
}

static void
ids_are_32_hex_digits_and_differ(void **state)
{
	(void)state;
	char **ids = arena_alloc(arena, COUNT * sizeof *ids);
	for (size_t i = 0; i < COUNT; i++) {
		ids[i] = random_id(arena);
		assert_int_equal(strlen(ids[i]), 32);
		assert_int_equal(strspn(ids[i], "0123456789abcdef"), 32);
	}
	qsort(ids, COUNT, sizeof *ids, text_compare);
	for (size_t i = 1; i < COUNT; i++)
		assert_string_not_equal(ids[i - 1], ids[i]);
}

static void
numbers_stay_below_and_are_even(void **state)
{
	(void)state;
	enum { BELOW = 7, DRAWS = 70000 };
	unsigned seen[BELOW] = {0};
	for (int i = 0; i < DRAWS; i++) {
		uint32_t value = random_below(BELOW);
		assert_true(value < BELOW);
		seen[value]++;
	}
	/* Expected 10,000 each with a deviation of 93: a miss by 700 happens once in 10^13 runs. */
	for (size_t i = 0; i < BELOW; i++)
		assert_in_range(seen[i], 9300, 10700);
	/* Of three quarters of all numbers the lowest third would come up half of the time if none were drawn again. */
	unsigned low = 0;
	for (int i = 0; i < DRAWS; i++)
		low += random_below(0xc0000000) < 0x40000000;
	assert_in_range(low, DRAWS / 3 - 1000, DRAWS / 3 + 1000);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(random_below(1), 0);
		assert_true(random_below(UINT32_MAX) < UINT32_MAX);
	}
}

/* Workers are forked from one process: parent and child must not draw the same values. */
static void
differs_after_fork(void **state)
{
	(void)state;
	int ends[2];
	assert_int_equal(pipe(ends), 0);
	random_token(arena);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		const char *token = random_token(arena);
		_exit(write(ends[1], token, 43) == 43 ? 0 : 1);
	}
	char theirs[44] = {0};
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(read(ends[0], theirs, 43), 43);
	assert_string_not_equal(theirs, random_token(arena));
	close(ends[0]);
	close(ends[1]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(tokens_have_256_bits_and_differ),
	    cmocka_unit_test(ids_are_32_hex_digits_and_differ),
	    cmocka_unit_test(numbers_stay_below_and_are_even),
	    cmocka_unit_test(differs_after_fork),
	};
	return cmocka_run_group_tests_name("random", tests, on_arena_open, on_arena_close);
}
