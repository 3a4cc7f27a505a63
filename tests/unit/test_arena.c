/* Memory of one request: zeroed, aligned, bounded, wiped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

static jmp_buf abandoned;
static int exhausted_calls;

static void
abandon(void *arg)
{
	exhausted_calls++;
	assert_ptr_equal(arg, &exhausted_calls);
	longjmp(abandoned, 1);
}

static bool
is_zero(const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

static void
gives_zeroed_aligned_memory_apart(void **state)
{
	(void)state;
	struct arena *arena = arena_open(256, 1024 * 1024, NULL, NULL);
	char *before = NULL;
	size_t before_size = 0;
	for (size_t size = 0; size < 600; size++) {
		char *bytes = arena_alloc(arena, size);
		assert_int_equal((uintptr_t)bytes % _Alignof(max_align_t), 0);
		assert_true(is_zero(bytes, size));
		memset(bytes, 0xa5, size);
		if (before != NULL)
			for (size_t i = 0; i < before_size; i++)
				assert_int_equal((unsigned char)before[i], 0xa5);
		before = bytes;
		before_size = size;
	}
	arena_close(arena);
}

static void
is_as_new_after_reset(void **state)
{
	(void)state;
	struct arena *arena = arena_open(4096, 1024 * 1024, NULL, NULL);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(arena_used(arena), 0);
		for (int i = 0; i < 300; i++) {
			char *bytes = arena_alloc(arena, 100);
			assert_true(is_zero(bytes, 100));
			memset(bytes, 0xff, 100);
		}
		char *big = arena_alloc(arena, 200000);
		assert_true(is_zero(big, 200000));
		memset(big, 0xff, 200000);
		assert_true(arena_used(arena) >= 230000);
		arena_reset(arena);
	}
	arena_close(arena);
}

static void
wipes_what_was_used(void **state)
{
	(void)state;
	struct arena *arena = arena_open(4096, 4096, NULL, NULL);
	char *secret = arena_text(arena, "1//MARKER-refresh-token");
	size_t len = strlen(secret);
	arena_reset(arena);
#if defined(__SANITIZE_ADDRESS__)
	assert_true(__asan_address_is_poisoned(secret));
	ASAN_UNPOISON_MEMORY_REGION(secret, len);
#endif
	assert_true(is_zero(secret, len));
	arena_close(arena);
}

static void
calls_exhausted_at_the_limit(void **state)
{
	(void)state;
	struct arena *arena = arena_open(1024, 8192, abandon, &exhausted_calls);
	volatile size_t given = 0;
	exhausted_calls = 0;
	if (setjmp(abandoned) == 0) {
		for (;;) {
			memset(arena_alloc(arena, 64), 1, 64);
			given = given + 64;
		}
	}
	assert_int_equal(exhausted_calls, 1);
	assert_true(given <= 8192);
	assert_true(given >= 4096);
	assert_null(arena_try_alloc(arena, 4096));
	arena_reset(arena);
	assert_non_null(arena_try_alloc(arena, 4096));
	arena_close(arena);
}

static void
opens_another_with_the_same_end(void **state)
{
	(void)state;
	struct arena *arena = arena_open(1024, 8192, abandon, &exhausted_calls);
	struct arena *other = arena_open_like(arena, 64);
	char *text = arena_text(arena, "stays");
	exhausted_calls = 0;
	if (setjmp(abandoned) == 0)
		arena_alloc(other, 8193);
	assert_int_equal(exhausted_calls, 1);
	assert_non_null(arena_try_alloc(other, 4096));
	arena_close(other);
	if (setjmp(abandoned) == 0)
		other = arena_open_like(arena, 8193);
	assert_int_equal(exhausted_calls, 2);
	assert_string_equal(text, "stays");
	arena_close(arena);
}

static void
refuses_absurd_sizes(void **state)
{
	(void)state;
	static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 15, SIZE_MAX - 16, SIZE_MAX / 2, 8193};
	struct arena *arena = arena_open(1024, 8192, abandon, &exhausted_calls);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		assert_null(arena_try_alloc(arena, sizes[i]));
	exhausted_calls = 0;
	if (setjmp(abandoned) == 0)
		arena_copy(arena, "x", SIZE_MAX);
	assert_int_equal(exhausted_calls, 1);
	assert_null(arena_open(2, 1, NULL, NULL));
	assert_null(arena_open(SIZE_MAX, SIZE_MAX, NULL, NULL));
	arena_close(arena);
	arena_close(NULL);
}

static void
keeps_the_chunk_in_use_beside_a_big_allocation(void **state)
{
	(void)state;
	struct arena *arena = arena_open(4096, 1024 * 1024, NULL, NULL);
	char *first = arena_alloc(arena, 16);
	char *big = arena_alloc(arena, 100000);
	char *second = arena_alloc(arena, 16);
	assert_true(second > first && second < first + 4096);
	assert_true(big < first || big > first + 4096);
	arena_close(arena);
}

static void
has_at_hand_what_was_reserved(void **state)
{
	(void)state;
	struct arena *arena = arena_open(256, 256 + 512, abandon, &exhausted_calls);
	arena_alloc(arena, 200);
	arena_reserve(arena, 512);
	exhausted_calls = 0;
	/* The limit is reached: these come from there or from nowhere. */
	for (int i = 0; i < 16; i++)
		assert_non_null(arena_try_alloc(arena, 16));
	exhausted_calls = 0;
	if (setjmp(abandoned) == 0)
		arena_reserve(arena, 512);
	if (setjmp(abandoned) == 0)
		arena_reserve(arena, SIZE_MAX);
	assert_int_equal(exhausted_calls, 2);
	arena_close(arena);
}

static void
grows_an_array(void **state)
{
	(void)state;
	struct arena *arena = arena_open(64, 1024 * 1024, NULL, NULL);
	size_t *items = NULL;
	size_t moves = 0;
	for (size_t count = 0; count < 1000; count++) {
		size_t *grown = arena_grow(arena, items, count, sizeof *items);
		moves += grown != items;
		items = grown;
		items[count] = count;
	}
	for (size_t i = 0; i < 1000; i++)
		assert_int_equal(items[i], i);
	assert_int_equal(moves, 11); /* from 0 to 1024 places */
	assert_in_range(arena_used(arena), 2000 * sizeof *items, 2100 * sizeof *items);
	arena_close(arena);
}

static void
copies_text_and_formats(void **state)
{
	(void)state;
	struct arena *arena = arena_open(64, 1024 * 1024, NULL, NULL);
	assert_null(arena_text(arena, NULL));
	assert_null(arena_copy(arena, NULL, 3));
	assert_string_equal(arena_text(arena, ""), "");
	assert_string_equal(arena_text(arena, "ada"), "ada");
	assert_string_equal(arena_copy(arena, "adabyron", 3), "ada");
	assert_memory_equal(arena_copy(arena, "a\0b", 3), "a\0b", 4);
	assert_string_equal(arena_format(arena, "%s-%d", "ada", 7), "ada-7");

	char word[700];
	for (size_t len = 250; len < sizeof word; len++) {
		memset(word, 'x', len);
		word[len] = '\0';
		assert_string_equal(arena_format(arena, "%s", word), word);
	}
	arena_close(arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(gives_zeroed_aligned_memory_apart),
	    cmocka_unit_test(is_as_new_after_reset),
	    cmocka_unit_test(wipes_what_was_used),
	    cmocka_unit_test(calls_exhausted_at_the_limit),
	    cmocka_unit_test(opens_another_with_the_same_end),
	    cmocka_unit_test(refuses_absurd_sizes),
	    cmocka_unit_test(keeps_the_chunk_in_use_beside_a_big_allocation),
	    cmocka_unit_test(has_at_hand_what_was_reserved),
	    cmocka_unit_test(grows_an_array),
	    cmocka_unit_test(copies_text_and_formats),
	};
	return cmocka_run_group_tests_name("arena", tests, NULL, NULL);
}
