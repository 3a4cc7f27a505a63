/* fcgi/lua/connection.lua reads the fields that store_internal.h has, in its order: replies are read by their place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fcgi/store_internal.h"

#include <stdio.h>
#include <string.h>

#define QUOTED(name) ", '" name "'"

static const struct redis_script script = {
#include "build/lua/connection_read.lua.h"
};

/* The script without the ends of its lines. */
static void
one_line(char *out, size_t size)
{
	size_t len = 0;

	for (const char *at = script.source; *at != '\0' && len + 1 < size; at++) {
		if (*at == '\n' && at[1] == ' ')
			at += strspn(at + 1, " ");
		else if (*at != '\n')
			out[len++] = *at;
		if (*at == ' ' && at[1] != '\0' && out[len - 1] == ',')
			out[len++] = ' ';
	}
	out[len] = '\0';
}

static void
fields_are_in_order(void **state)
{
	char text[4096];

	(void)state;
	one_line(text, sizeof text);
	assert_non_null(strstr(text, "'HMGET', KEYS[1]" STORE_RECORD_FIELDS(QUOTED) ")"));
	assert_non_null(strstr(text, "'HMGET', KEYS[2]" STORE_CREDENTIAL_FIELDS(QUOTED) ")"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(fields_are_in_order),
	};

	return cmocka_run_group_tests_name("lua", tests, NULL, NULL);
}
