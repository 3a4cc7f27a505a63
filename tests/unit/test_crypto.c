/* Digests and comparison. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/crypto.h"
#include "common/text.h"
#include "tests/unit/on_arena.h"

#include <string.h>

/* The examples of FIPS 180 that everybody uses. */
static void
digests_match_the_standard(void **state)
{
	(void)state;
	char hex[CRYPTO_SHA256_HEX];
	crypto_sha256_hex("", hex);
	assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	crypto_sha256_hex("abc", hex);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");

	uint8_t bytes[CRYPTO_SHA256_SIZE];
	crypto_sha256("abc\0def", 3, bytes);
	text_hex(bytes, sizeof bytes, hex);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	crypto_sha256("abc\0def", 7, bytes);
	text_hex(bytes, sizeof bytes, hex);
	assert_string_not_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* RFC 4231, 4.2 and 4.3; the second in two parts. */
static void
hmac_matches_the_standard(void **state)
{
	(void)state;
	uint8_t key[20];
	uint8_t mac[CRYPTO_SHA256_SIZE];
	char hex[CRYPTO_SHA256_HEX];
	const struct crypto_part one = {"Hi There", 8};
	const struct crypto_part two[] = {{"what do ya want ", 16}, {"for nothing?", 12}};
	memset(key, 0x0b, sizeof key);
	crypto_hmac_sha256(key, sizeof key, &one, 1, mac);
	text_hex(mac, sizeof mac, hex);
	assert_string_equal(hex, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
	crypto_hmac_sha256("Jefe", 4, two, 2, mac);
	text_hex(mac, sizeof mac, hex);
	assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

/* RFC 5869, A.3, as far as it goes: no salt and no info. */
static void
hkdf_matches_the_standard(void **state)
{
	(void)state;
	uint8_t key[22];
	uint8_t out[CRYPTO_SHA256_SIZE];
	char hex[CRYPTO_SHA256_HEX];
	memset(key, 0x0b, sizeof key);
	crypto_hkdf_sha256(key, sizeof key, "", out);
	text_hex(out, sizeof out, hex);
	assert_string_equal(hex, "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
}

static void
sha2_has_three_sizes(void **state)
{
	(void)state;
	static const struct {
		unsigned bits;
		size_t size;
		const char *begins;
	} rows[] = {
	    {256, 32, "ba7816bf8f01cfea"},
	    {384, 48, "cb00753f45a35e8b"},
	    {512, 64, "ddaf35a193617aba"},
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		uint8_t bytes[CRYPTO_SHA2_MAX];
		char hex[17];
		assert_int_equal(crypto_sha2(rows[i].bits, "abc", 3, bytes), rows[i].size);
		text_hex(bytes, 8, hex);
		assert_string_equal(hex, rows[i].begins);
	}
	uint8_t bytes[CRYPTO_SHA2_MAX];
	assert_int_equal(crypto_sha2(224, "abc", 3, bytes), 0);
}

/* RFC 7636 appendix B, and the verifier of the bytes 00 to 1f. */
static void
challenge_matches_rfc7636(void **state)
{
	(void)state;
	assert_string_equal(crypto_pkce_challenge(arena, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
			    "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
	assert_string_equal(crypto_pkce_challenge(arena, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"),
			    "6oZqdX5MOLq_qBJ8vppAnT4fk6AP8UiP9zX8-Rev_9A");
}

static void
equal_means_equal(void **state)
{
	(void)state;
	assert_true(crypto_equal("", ""));
	assert_true(crypto_equal("stand-in-secret-MARKER", "stand-in-secret-MARKER"));
	assert_false(crypto_equal("stand-in-secret-MARKER", "stand-in-secret-MARKEr"));
	assert_false(crypto_equal("stand-in-secret-MARKER", "stand-in-secret-MARKE"));
	assert_false(crypto_equal("a", ""));
	/* All of the digest counts: a part of it would agree now and then. */
	for (int i = 0; i < 5000; i++)
		assert_false(crypto_equal("stand-in-secret-MARKER", arena_format(arena, "%d", i)));
	assert_false(crypto_equal(NULL, ""));
	assert_false(crypto_equal("", NULL));
	assert_false(crypto_equal(NULL, NULL));
}

static void
wipes(void **state)
{
	(void)state;
	char secret[] = "stand-in-secret-MARKER";
	crypto_wipe(secret, sizeof secret);
	for (size_t i = 0; i < sizeof secret; i++)
		assert_int_equal(secret[i], 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(digests_match_the_standard),
	    cmocka_unit_test(sha2_has_three_sizes),
	    cmocka_unit_test(hmac_matches_the_standard),
	    cmocka_unit_test(hkdf_matches_the_standard),
	    cmocka_unit_test(challenge_matches_rfc7636),
	    cmocka_unit_test(equal_means_equal),
	    cmocka_unit_test(wipes),
	};
	return cmocka_run_group_tests_name("crypto", tests, on_arena_open, on_arena_close);
}
