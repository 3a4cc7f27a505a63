/* OpenSSL runs out of memory at every point in turn: nothing opens that should not, nothing leaks, nothing crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/json_read.h"
#include "common/jwt.h"
#include "common/random.h"
#include "common/seal.h"
#include "common/text.h"
#include "tests/unit/on_arena.h"
#include "tests/unit/openssl_allocation.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* base64 of 32 equal bytes */
#define KEY "k1:ERERERERERERERERERERERERERERERERERERERERERE="

static const struct seal_context place = {"production", "acme", "u1", "google", "f", "issuer", "client-1", NULL, NULL};

/* RFC 7515 appendix A.3 */
static const char key_set[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","
			      "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
			      "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";
static const char token[] =
    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0"
    "cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";

static long left = LONG_MAX; /* allocations until one fails */
static bool lasting;         /* then all later ones fail, too */
static bool failed;

static bool
fails(void)
{
	if (left > 0) {
		left--;
		return false;
	}
	if (!lasting)
		left = LONG_MAX;
	failed = true;
	return true;
}

static int
open_all(void **state)
{
	/* The generator is allowed to end the process; it has its memory from its first use on. */
	return on_arena_open(state) != 0 || random_id(arena) == NULL;
}

static void
seal_and_open(bool *whole)
{
	const char *mistake = NULL;
	struct key_ring *ring = key_ring_open(arena, KEY, &mistake);
	assert_int_equal(ring == NULL, mistake != NULL);
	const char *sealed = ring == NULL ? NULL : seal(arena, ring, &place, "1//MARKER");
	assert_true(ring == NULL || sealed != NULL); /* nothing but the ring needs memory */
	const char *opened = sealed == NULL ? NULL : seal_open(arena, ring, &place, sealed);
	assert_true(sealed == NULL || opened != NULL);
	if (opened != NULL)
		assert_string_equal(opened, "1//MARKER");
	if (sealed != NULL) {
		struct seal_context other = place;
		other.user = "u2";
		assert_null(seal_open(arena, ring, &other, sealed));
	}
	*whole = opened != NULL;
	key_ring_close(ring);
}

static void
verify_tokens(bool *whole)
{
	struct words algorithms = words_split(arena, "ES256");
	struct jwt_keys *keys = jwt_keys_open(key_set, strlen(key_set));
	const struct json *claims = NULL;
	enum jwt_result result = JWT_UNKNOWN_KEY;
	if (keys != NULL)
		result = jwt_verify(arena, keys, &algorithms, token, &claims);
	assert_int_equal(result == JWT_VALID, claims != NULL);
	assert_true(keys == NULL || result == JWT_VALID || result == JWT_NO_MEMORY);
	*whole = result == JWT_VALID;
	if (keys != NULL) {
		char *forged = arena_text(arena, token);
		forged[strlen(forged) - 10] ^= 1;
		assert_int_not_equal(jwt_verify(arena, keys, &algorithms, forged, &claims), JWT_VALID);
		assert_null(claims);
	}
	jwt_keys_close(keys);
}

/* Let each allocation of `work` fail in turn, alone and with all that follow, until it needs no more. */
static void
torture(void (*work)(bool *))
{
	for (int pass = 0; pass < 2; pass++) {
		bool spoiled = false;
		bool whole = false;
		lasting = pass == 1;
		for (long n = 0; n < 10000; n++) {
			left = n;
			failed = false;
			work(&whole);
			left = LONG_MAX;
			arena_reset(arena);
			spoiled = spoiled || !whole;
			if (!failed)
				break;
		}
		/* It was in the way of something, and did no lasting harm. */
		assert_true(spoiled);
		assert_true(whole);
		work(&whole);
		assert_true(whole);
	}
}

static void
sealing_survives(void **state)
{
	(void)state;
	torture(seal_and_open);
}

static void
verifying_survives(void **state)
{
	(void)state;
	torture(verify_tokens);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(sealing_survives),
	    cmocka_unit_test(verifying_survives),
	};
	if (!openssl_asks_us())
		return 1;
	return cmocka_run_group_tests_name("openssl memory", tests, open_all, on_arena_close);
}
