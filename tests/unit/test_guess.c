/* A hint is what was noted last, or nothing; never another key's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fcgi/guess.h"

#include <stdio.h>
#include <string.h>

static void
finds_what_was_noted(void **state)
{
	struct guesses *guesses = guesses_open();

	(void)state;
	assert_non_null(guesses);
	assert_null(guesses_find(guesses, "session:a"));
	guesses_note(guesses, "session:a", "ada");
	guesses_note(guesses, "session:b", "bob");
	assert_string_equal(guesses_find(guesses, "session:a"), "ada");
	assert_string_equal(guesses_find(guesses, "session:b"), "bob");
	guesses_note(guesses, "session:a", "eve");
	assert_string_equal(guesses_find(guesses, "session:a"), "eve");
	assert_null(guesses_find(guesses, "session:"));
	assert_null(guesses_find(guesses, "session:aa"));
	assert_null(guesses_find(guesses, ""));
	guesses_close(guesses);
}

static void
keeps_no_long_text(void **state)
{
	struct guesses *guesses = guesses_open();
	char text[41] = {0};

	(void)state;
	memset(text, 'x', 39);
	guesses_note(guesses, "fits", text);
	assert_string_equal(guesses_find(guesses, "fits"), text);
	text[39] = 'x';
	guesses_note(guesses, "too long", text);
	assert_null(guesses_find(guesses, "too long"));
	guesses_close(guesses);
}

/* Far more than there is room for: some are forgotten, none is mixed up. */
static void
forgets_but_never_mixes_up(void **state)
{
	struct guesses *guesses = guesses_open();
	size_t kept = 0;

	(void)state;
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < 100000; i++) {
			char key[32], text[32];
			const char *found;

			snprintf(key, sizeof key, "session:%08x", (unsigned)i);
			snprintf(text, sizeof text, "user%d", i);
			if (pass == 0) {
				guesses_note(guesses, key, text);
				continue;
			}
			found = guesses_find(guesses, key);
			if (found == NULL)
				continue;
			assert_string_equal(found, text);
			kept++;
		}
	}
	assert_in_range(kept, 31000, 32768);
	guesses_close(guesses);
}

/* What was seen last is known, and nothing that was not; of as many as fit easily, nearly all. */
static void
knows_what_was_seen(void **state)
{
	struct guesses *guesses = guesses_open();
	size_t known = 0;
	size_t found = 0;

	(void)state;
	for (int pass = 0; pass < 3; pass++) {
		for (int i = 0; i < 10000; i++) {
			char key[64];

			snprintf(key, sizeof key, "credential:{acme:%s%d}:google", pass < 2 ? "user" : "other", i);
			if (pass == 0) {
				guesses_note_seen(guesses, key);
				guesses_note(guesses, key, "ada");
				assert_true(guesses_seen(guesses, key));
			} else if (pass == 1) {
				known += guesses_seen(guesses, key);
				found += guesses_find(guesses, key) != NULL;
			} else {
				assert_false(guesses_seen(guesses, key));
			}
		}
	}
	assert_in_range(known, 9950, 10000);
	assert_in_range(found, 9850, 10000);
	guesses_close(guesses);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(finds_what_was_noted),
	    cmocka_unit_test(keeps_no_long_text),
	    cmocka_unit_test(forgets_but_never_mixes_up),
	    cmocka_unit_test(knows_what_was_seen),
	};

	return cmocka_run_group_tests_name("guess", tests, NULL, NULL);
}
