/* A hint is what was noted last, or nothing; never another key's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fcgi/hints.h"

#include <stdio.h>
#include <string.h>

static void
finds_what_was_noted(void **state)
{
	struct hints *hints = hints_open();

	(void)state;
	assert_non_null(hints);
	assert_null(hints_find(hints, "session:a"));
	hints_note(hints, "session:a", "ada");
	hints_note(hints, "session:b", "bob");
	assert_string_equal(hints_find(hints, "session:a"), "ada");
	assert_string_equal(hints_find(hints, "session:b"), "bob");
	hints_note(hints, "session:a", "eve");
	assert_string_equal(hints_find(hints, "session:a"), "eve");
	assert_null(hints_find(hints, "session:"));
	assert_null(hints_find(hints, "session:aa"));
	assert_null(hints_find(hints, ""));
	hints_close(hints);
}

static void
keeps_no_long_text(void **state)
{
	struct hints *hints = hints_open();
	char text[41] = {0};

	(void)state;
	memset(text, 'x', 39);
	hints_note(hints, "fits", text);
	assert_string_equal(hints_find(hints, "fits"), text);
	text[39] = 'x';
	hints_note(hints, "too long", text);
	assert_null(hints_find(hints, "too long"));
	hints_close(hints);
}

/* Far more than there is room for: some are forgotten, none is mixed up. */
static void
forgets_but_never_mixes_up(void **state)
{
	struct hints *hints = hints_open();
	size_t kept = 0;

	(void)state;
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < 100000; i++) {
			char key[32], text[32];
			const char *found;

			snprintf(key, sizeof key, "session:%08x", (unsigned)i);
			snprintf(text, sizeof text, "user%d", i);
			if (pass == 0) {
				hints_note(hints, key, text);
				continue;
			}
			found = hints_find(hints, key);
			if (found == NULL)
				continue;
			assert_string_equal(found, text);
			kept++;
		}
	}
	assert_in_range(kept, 31000, 32768);
	hints_close(hints);
}

/* What was seen last is known, and nothing that was not; of as many as fit easily, nearly all. */
static void
knows_what_was_seen(void **state)
{
	struct hints *hints = hints_open();
	size_t known = 0;
	size_t found = 0;

	(void)state;
	for (int pass = 0; pass < 3; pass++) {
		for (int i = 0; i < 10000; i++) {
			char key[64];

			snprintf(key, sizeof key, "credential:{acme:%s%d}:google", pass < 2 ? "user" : "other", i);
			if (pass == 0) {
				hints_note_seen(hints, key);
				hints_note(hints, key, "ada");
				assert_true(hints_seen(hints, key));
			} else if (pass == 1) {
				known += hints_seen(hints, key);
				found += hints_find(hints, key) != NULL;
			} else {
				assert_false(hints_seen(hints, key));
			}
		}
	}
	assert_in_range(known, 9950, 10000);
	assert_in_range(found, 9850, 10000);
	hints_close(hints);
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

	return cmocka_run_group_tests_name("hints", tests, NULL, NULL);
}
