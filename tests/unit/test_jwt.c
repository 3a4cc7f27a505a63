/* Signed tokens: keys are made here, tokens signed with them, and then everything is forged that can be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/json_read.h"
#include "common/jwt.h"
#include "common/text.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rsa.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH(table) (sizeof(table) / sizeof(table)[0])
#define CLAIMS "{\"sub\":\"1081\"}"

static struct arena *arena;
static struct words every_algorithm;
static struct words only_rs256;
static EVP_PKEY *rsa;
static EVP_PKEY *other_rsa;
static EVP_PKEY *p256;
static EVP_PKEY *p384;
static int salt_length = RSA_PSS_SALTLEN_DIGEST;

static int
open_all(void **state)
{
	(void)state;
	arena = arena_open(4096, 64 * 1024 * 1024, NULL, NULL);
	every_algorithm = words_split(arena, "RS256 RS384 RS512 PS256 ES256 ES384");
	only_rs256 = words_split(arena, "RS256");
	rsa = EVP_RSA_gen(2048);
	other_rsa = EVP_RSA_gen(2048);
	p256 = EVP_EC_gen("P-256");
	p384 = EVP_EC_gen("P-384");
	return rsa == NULL || other_rsa == NULL || p256 == NULL || p384 == NULL;
}

static int
close_all(void **state)
{
	(void)state;
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(other_rsa);
	EVP_PKEY_free(p256);
	EVP_PKEY_free(p384);
	arena_close(arena);
	return 0;
}

/* ---- making key sets and tokens ---- */

static const char *
number(EVP_PKEY *pkey, const char *parameter, int size)
{
	BIGNUM *value = NULL;
	uint8_t bytes[1024];
	assert_int_equal(EVP_PKEY_get_bn_param(pkey, parameter, &value), 1);
	if (size == 0)
		size = BN_num_bytes(value);
	assert_int_equal(BN_bn2binpad(value, bytes, size), size);
	BN_free(value);
	return text_base64url(arena, bytes, (size_t)size);
}

/* `more` is further members, each with a comma in front. */
static const char *
rsa_jwk(EVP_PKEY *pkey, const char *more)
{
	return arena_format(arena, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"%s}",
			    number(pkey, OSSL_PKEY_PARAM_RSA_N, 0), number(pkey, OSSL_PKEY_PARAM_RSA_E, 0), more);
}

static const char *
ec_jwk(EVP_PKEY *pkey, const char *curve, const char *more)
{
	int size = strcmp(curve, "P-256") == 0 ? 32 : 48;
	return arena_format(arena, "{\"kty\":\"EC\",\"crv\":\"%s\",\"x\":\"%s\",\"y\":\"%s\"%s}", curve,
			    number(pkey, OSSL_PKEY_PARAM_EC_PUB_X, size), number(pkey, OSSL_PKEY_PARAM_EC_PUB_Y, size),
			    more);
}

static struct jwt_keys *
open_set(const char *jwks)
{
	const char *json = arena_format(arena, "{\"keys\":[%s]}", jwks);
	size_t len = strlen(json);
	/* Memory of exactly this size shows a read beyond it. */
	char *copy = malloc(len);
	assert_non_null(copy);
	memcpy(copy, json, len);
	struct jwt_keys *keys = jwt_keys_open(copy, len);
	free(copy);
	return keys;
}

static struct jwt_keys *
open_every_key(void)
{
	struct jwt_keys *keys =
	    open_set(arena_format(arena, "%s,%s,%s", rsa_jwk(rsa, ",\"kid\":\"r\",\"use\":\"sig\",\"alg\":\"RS256\""),
				  ec_jwk(p256, "P-256", ",\"kid\":\"p\""), ec_jwk(p384, "P-384", ",\"kid\":\"q\"")));
	assert_non_null(keys);
	return keys;
}

static const char *
encode(const char *text)
{
	return text_base64url(arena, (const uint8_t *)text, strlen(text));
}

static const char *
sign_bytes(EVP_PKEY *pkey, const char *digest, bool pss, const char *text)
{
	uint8_t signature[1024];
	size_t len = sizeof signature;
	EVP_PKEY_CTX *options = NULL;
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	assert_non_null(context);
	assert_int_equal(EVP_DigestSignInit_ex(context, &options, digest, NULL, NULL, pkey, NULL), 1);
	if (pss) {
		assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(options, RSA_PKCS1_PSS_PADDING), 1);
		assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(options, salt_length), 1);
	}
	assert_int_equal(EVP_DigestSign(context, signature, &len, (const uint8_t *)text, strlen(text)), 1);
	EVP_MD_CTX_free(context);

	if (EVP_PKEY_get_base_id(pkey) == EVP_PKEY_EC) {
		const uint8_t *at = signature;
		ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)len);
		int size = (EVP_PKEY_get_bits(pkey) + 7) / 8;
		assert_non_null(pair);
		assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_r(pair), signature, size), size);
		assert_int_equal(BN_bn2binpad(ECDSA_SIG_get0_s(pair), signature + size, size), size);
		ECDSA_SIG_free(pair);
		len = 2 * (size_t)size;
	}
	return text_base64url(arena, signature, len);
}

static const char *
make_token(EVP_PKEY *pkey, const char *digest, bool pss, const char *header, const char *payload)
{
	const char *text = arena_format(arena, "%s.%s", encode(header), encode(payload));
	return arena_format(arena, "%s.%s", text, sign_bytes(pkey, digest, pss, text));
}

static enum jwt_result
verify(const struct jwt_keys *keys, const struct words *algorithms, const char *token)
{
	const struct json *claims = (const struct json *)&claims;
	enum jwt_result result = jwt_verify(arena, keys, algorithms, token, &claims);
	if (result == JWT_VALID)
		assert_int_equal(claims->type, JSON_OBJECT);
	else
		assert_null(claims);
	return result;
}

/* ---- tests ---- */

/* RFC 7515 appendix A.3, a token not made by this code. */
static void
verifies_the_example_of_rfc7515(void **state)
{
	(void)state;
	struct jwt_keys *keys =
	    open_set("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
		     "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}");
	static const char token[] =
	    "eyJhbGciOiJFUzI1NiJ9."
	    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0"
	    "cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
	const struct json *claims;
	assert_non_null(keys);
	assert_int_equal(jwt_verify(arena, keys, &every_algorithm, token, &claims), JWT_VALID);
	assert_string_equal(json_string(claims, "iss"), "joe");
	assert_true(json_boolean(claims, "http://example.com/is_root", false));
	jwt_keys_close(keys);
}

static void
verifies_each_algorithm(void **state)
{
	(void)state;
	const struct {
		const char *name;
		EVP_PKEY *pkey;
		const char *digest;
		bool pss;
	} rows[] = {
	    {"RS256", rsa, "SHA256", false}, {"RS384", rsa, "SHA384", false},  {"RS512", rsa, "SHA512", false},
	    {"PS256", rsa, "SHA256", true},  {"ES256", p256, "SHA256", false}, {"ES384", p384, "SHA384", false},
	};
	struct jwt_keys *keys = open_set(
	    arena_format(arena, "%s,%s,%s", rsa_jwk(rsa, ""), ec_jwk(p256, "P-256", ""), ec_jwk(p384, "P-384", "")));
	assert_non_null(keys);
	for (size_t i = 0; i < LENGTH(rows); i++) {
		const char *header = arena_format(arena, "{\"alg\":\"%s\"}", rows[i].name);
		const char *token = make_token(rows[i].pkey, rows[i].digest, rows[i].pss, header, CLAIMS);
		struct words only = words_split(arena, rows[i].name);
		assert_int_equal(verify(keys, &every_algorithm, token), JWT_VALID);
		assert_int_equal(verify(keys, &only, token), JWT_VALID);
		assert_string_equal(jwt_algorithm(arena, token), rows[i].name);
		/* Under every other name the same signature is worth nothing. */
		for (size_t j = 0; j < LENGTH(rows); j++) {
			if (j == i)
				continue;
			header = arena_format(arena, "{\"alg\":\"%s\"}", rows[j].name);
			token = make_token(rows[i].pkey, rows[i].digest, rows[i].pss, header, CLAIMS);
			assert_int_equal(verify(keys, &every_algorithm, token), JWT_UNKNOWN_KEY);
			assert_int_equal(verify(keys, &only, token), JWT_ALGORITHM);
		}
	}
	jwt_keys_close(keys);
}

static void
refuses_other_algorithms(void **state)
{
	(void)state;
	struct jwt_keys *keys = open_every_key();
	static const char *const headers[] = {
	    "{\"alg\":\"none\"}",
	    "{\"alg\":\"None\",\"kid\":\"r\"}",
	    "{\"alg\":\"\"}",
	    "{}",
	    "{\"alg\":null}",
	    "{\"alg\":[\"RS256\"]}",
	    "{\"alg\":\"rs256\"}",
	    "{\"alg\":\"RS256 \"}",
	    "{\"alg\":\"HS256\",\"kid\":\"r\"}",
	    "{\"alg\":\"EdDSA\"}",
	    "{\"alg\":\"PS384\"}",
	    "{\"alg\":\"ES512\"}",
	    "{\"alg\":\"RS1\"}",
	};
	/* Not even a caller that allows them gets them. */
	struct words generous = words_split(arena, "none None HS256 EdDSA PS384 ES512 RS1 RS256 rs256");
	for (size_t i = 0; i < LENGTH(headers); i++) {
		const char *token = make_token(rsa, "SHA256", false, headers[i], CLAIMS);
		assert_int_equal(verify(keys, &generous, token), JWT_ALGORITHM);
		token = arena_format(arena, "%s.%s.", encode(headers[i]), encode(CLAIMS));
		assert_int_equal(verify(keys, &generous, token), JWT_ALGORITHM);
	}
	/* What it could do it does not do unasked. */
	assert_int_equal(verify(keys, &only_rs256, make_token(p256, "SHA256", false, "{\"alg\":\"ES256\"}", CLAIMS)),
			 JWT_ALGORITHM);
	struct words none = words_split(arena, NULL);
	assert_int_equal(verify(keys, &none, make_token(rsa, "SHA256", false, "{\"alg\":\"RS256\"}", CLAIMS)),
			 JWT_ALGORITHM);
	jwt_keys_close(keys);
}

/* The classic: the public key, which everybody has, used as the secret of an HMAC. */
static void
refuses_hmac_under_the_public_key(void **state)
{
	(void)state;
	struct jwt_keys *keys = open_every_key();
	struct words generous = words_split(arena, "HS256 RS256");
	const char *text = arena_format(arena, "%s.%s", encode("{\"alg\":\"HS256\",\"kid\":\"r\"}"), encode(CLAIMS));
	const char *secret = number(rsa, OSSL_PKEY_PARAM_RSA_N, 0);
	uint8_t mac[32];
	unsigned len = sizeof mac;
	assert_non_null(
	    HMAC(EVP_sha256(), secret, (int)strlen(secret), (const uint8_t *)text, strlen(text), mac, &len));
	const char *token = arena_format(arena, "%s.%s", text, text_base64url(arena, mac, len));
	assert_int_equal(verify(keys, &generous, token), JWT_ALGORITHM);
	jwt_keys_close(keys);
}

static void
chooses_the_key(void **state)
{
	(void)state;
	struct jwt_keys *keys = open_every_key();
	static const char right[] = "{\"alg\":\"RS256\",\"kid\":\"r\"}";
	assert_int_equal(verify(keys, &every_algorithm, make_token(rsa, "SHA256", false, right, CLAIMS)), JWT_VALID);
	assert_int_equal(verify(keys, &every_algorithm, make_token(other_rsa, "SHA256", false, right, CLAIMS)),
			 JWT_BAD_SIGNATURE);

	/* Named by nobody, the key may be one that is published since. */
	assert_int_equal(
	    verify(keys, &every_algorithm, make_token(other_rsa, "SHA256", false, "{\"alg\":\"RS256\"}", CLAIMS)),
	    JWT_UNKNOWN_KEY);

	static const struct {
		const char *header;
		enum jwt_result result;
	} rows[] = {
	    {"{\"alg\":\"RS256\"}", JWT_VALID},
	    {"{\"alg\":\"RS256\",\"kid\":\"x\"}", JWT_UNKNOWN_KEY},
	    {"{\"alg\":\"RS256\",\"kid\":\"\"}", JWT_UNKNOWN_KEY},
	    {"{\"alg\":\"RS256\",\"kid\":\"R\"}", JWT_UNKNOWN_KEY},
	    /* A key of another type, and one that its set allows for RS256 alone. */
	    {"{\"alg\":\"RS256\",\"kid\":\"p\"}", JWT_UNKNOWN_KEY},
	    {"{\"alg\":\"ES256\",\"kid\":\"r\"}", JWT_UNKNOWN_KEY},
	    {"{\"alg\":\"ES256\",\"kid\":\"q\"}", JWT_UNKNOWN_KEY},
	    {"{\"alg\":\"RS384\",\"kid\":\"r\"}", JWT_UNKNOWN_KEY},
	    {"{\"alg\":\"PS256\",\"kid\":\"r\"}", JWT_UNKNOWN_KEY},
	    {"{\"alg\":\"RS384\"}", JWT_UNKNOWN_KEY},
	    /* Extensions that must be understood are not. */
	    {"{\"alg\":\"RS256\",\"kid\":\"r\",\"crit\":[\"exp\"]}", JWT_MALFORMED},
	    {"{\"alg\":\"RS256\",\"kid\":\"r\",\"crit\":[]}", JWT_MALFORMED},
	    /* What the token brings along is not looked at. */
	    {"{\"alg\":\"RS256\",\"kid\":\"r\",\"typ\":\"JWT\",\"jku\":\"https://evil.example\",\"x\":1}", JWT_VALID},
	};
	for (size_t i = 0; i < LENGTH(rows); i++)
		if (verify(keys, &every_algorithm, make_token(rsa, "SHA256", false, rows[i].header, CLAIMS)) !=
		    rows[i].result)
			fail_msg("%s", rows[i].header);

	const char *own_key =
	    arena_format(arena, "{\"alg\":\"RS256\",\"kid\":\"r\",\"jwk\":%s}", rsa_jwk(other_rsa, ""));
	assert_int_equal(verify(keys, &every_algorithm, make_token(other_rsa, "SHA256", false, own_key, CLAIMS)),
			 JWT_BAD_SIGNATURE);
	jwt_keys_close(keys);
}

/* Without a name all keys that fit are tried; with a repeated name, all of that name. */
static void
tries_all_keys_that_fit(void **state)
{
	(void)state;
	const char *tokens[] = {make_token(rsa, "SHA256", false, "{\"alg\":\"RS256\"}", CLAIMS),
				make_token(rsa, "SHA256", false, "{\"alg\":\"RS256\",\"kid\":\"a\"}", CLAIMS)};
	for (int turn = 0; turn < 2; turn++) {
		const char *one = rsa_jwk(turn == 0 ? rsa : other_rsa, ",\"kid\":\"a\"");
		const char *two = rsa_jwk(turn == 0 ? other_rsa : rsa, ",\"kid\":\"a\"");
		struct jwt_keys *keys = open_set(arena_format(arena, "%s,%s", one, two));
		assert_non_null(keys);
		for (size_t i = 0; i < LENGTH(tokens); i++)
			assert_int_equal(verify(keys, &only_rs256, tokens[i]), JWT_VALID);
		jwt_keys_close(keys);
	}
}

/* Every character of a token replaced, and every beginning of it. */
static void
every_character_counts(void **state)
{
	(void)state;
	struct jwt_keys *keys = open_every_key();
	const struct {
		EVP_PKEY *pkey;
		const char *header;
	} rows[] = {{rsa, "{\"alg\":\"RS256\",\"kid\":\"r\"}"}, {p256, "{\"alg\":\"ES256\",\"kid\":\"p\"}"}};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		char *token = strdup(make_token(rows[i].pkey, "SHA256", false, rows[i].header, CLAIMS));
		assert_non_null(token);
		assert_int_equal(verify(keys, &every_algorithm, token), JWT_VALID);
		size_t len = strlen(token);
		for (size_t at = 0; at < len; at++) {
			static const char others[] = "AQgwz0-_.= ";
			char own = token[at];
			for (const char *c = others; *c != '\0'; c++) {
				if (*c == own)
					continue;
				token[at] = *c;
				assert_int_not_equal(verify(keys, &every_algorithm, token), JWT_VALID);
			}
			token[at] = '\0';
			assert_int_not_equal(verify(keys, &every_algorithm, token), JWT_VALID);
			token[at] = own;
		}
		free(token);
	}
	jwt_keys_close(keys);
}

static void
refuses_malformed_tokens(void **state)
{
	(void)state;
	struct jwt_keys *keys = open_every_key();
	const char *good = make_token(rsa, "SHA256", false, "{\"alg\":\"RS256\",\"kid\":\"r\"}", CLAIMS);
	const char *const rows[] = {
	    NULL,
	    "",
	    ".",
	    "..",
	    "...",
	    "a",
	    "a.b",
	    "a.b.c",
	    "....",
	    arena_format(arena, "%s.", good),
	    arena_format(arena, ".%s", good),
	    arena_format(arena, "%s.x", good),
	    arena_format(arena, " %s", good),
	    arena_format(arena, "%s\n", good),
	    arena_format(arena, "%s=", good),
	    arena_format(arena, "%s..", encode("[]")),
	    arena_format(arena, "%s..", encode("\"x\"")),
	    arena_format(arena, "%s..", encode("{")),
	    arena_format(arena, "%s..", encode("{\"alg\":\"RS256\",\"alg\":\"none\"}")),
	    "ya29.MARKER-access-token",
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		assert_int_equal(verify(keys, &every_algorithm, rows[i]), JWT_MALFORMED);
		assert_null(jwt_algorithm(arena, rows[i]));
		assert_null(jwt_claims_unverified(arena, rows[i]));
	}
	/* Signed well, but not claims. */
	static const char *const payloads[] = {
	    "", "[]", "\"x\"", "1", "{", "{}x", "{\"sub\":\"1\",\"sub\":\"2\"}", "{\"sub\":\"\xff\"}"};
	for (size_t i = 0; i < LENGTH(payloads); i++) {
		const char *token = make_token(rsa, "SHA256", false, "{\"alg\":\"RS256\",\"kid\":\"r\"}", payloads[i]);
		assert_int_equal(verify(keys, &every_algorithm, token), JWT_MALFORMED);
		assert_null(jwt_claims_unverified(arena, token));
	}
	jwt_keys_close(keys);
}

static void
refuses_signatures_of_other_sizes(void **state)
{
	(void)state;
	struct jwt_keys *keys = open_every_key();
	static const char *const headers[] = {"{\"alg\":\"RS256\",\"kid\":\"r\"}", "{\"alg\":\"ES256\",\"kid\":\"p\"}",
					      "{\"alg\":\"ES384\",\"kid\":\"q\"}"};
	static const uint8_t zeros[600];
	for (size_t i = 0; i < LENGTH(headers); i++) {
		for (size_t len = 0; len <= sizeof zeros; len = len < 130 ? len + 1 : len + 94) {
			const char *token = arena_format(arena, "%s.%s.%s", encode(headers[i]), encode(CLAIMS),
							 text_base64url(arena, zeros, len));
			assert_int_equal(verify(keys, &every_algorithm, token), JWT_BAD_SIGNATURE);
		}
	}
	jwt_keys_close(keys);
}

/* RFC 7518 3.5: the salt is as long as the digest. */
static void
refuses_other_salt_lengths(void **state)
{
	(void)state;
	struct jwt_keys *keys = open_set(rsa_jwk(rsa, ",\"kid\":\"r\""));
	assert_non_null(keys);
	static const int lengths[] = {0, 16, 20, 31, 33, 64, RSA_PSS_SALTLEN_MAX};
	for (size_t i = 0; i < LENGTH(lengths); i++) {
		salt_length = lengths[i];
		const char *token = make_token(rsa, "SHA256", true, "{\"alg\":\"PS256\",\"kid\":\"r\"}", CLAIMS);
		assert_int_equal(verify(keys, &every_algorithm, token), JWT_BAD_SIGNATURE);
	}
	salt_length = RSA_PSS_SALTLEN_DIGEST;
	jwt_keys_close(keys);
}

/* A good signature with something behind it is not a good one. */
static void
refuses_longer_signatures(void **state)
{
	(void)state;
	struct jwt_keys *keys = open_every_key();
	const struct {
		EVP_PKEY *pkey;
		const char *digest;
		const char *header;
	} rows[] = {{rsa, "SHA256", "{\"alg\":\"RS256\",\"kid\":\"r\"}"},
		    {p256, "SHA256", "{\"alg\":\"ES256\",\"kid\":\"p\"}"},
		    {p384, "SHA384", "{\"alg\":\"ES384\",\"kid\":\"q\"}"}};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		const char *text = arena_format(arena, "%s.%s", encode(rows[i].header), encode(CLAIMS));
		const char *signature = sign_bytes(rows[i].pkey, rows[i].digest, false, text);
		size_t len;
		const uint8_t *bytes = text_base64url_decode(arena, signature, &len);
		assert_non_null(bytes);
		uint8_t *longer = arena_alloc(arena, len + 3);
		memcpy(longer, bytes, len);
		for (size_t more = 0; more <= 3; more++) {
			const char *token =
			    arena_format(arena, "%s.%s", text, text_base64url(arena, longer, len + more));
			assert_int_equal(verify(keys, &every_algorithm, token),
					 more == 0 ? JWT_VALID : JWT_BAD_SIGNATURE);
		}
	}
	jwt_keys_close(keys);
}

static void
bounds_tokens(void **state)
{
	(void)state;
	struct jwt_keys *keys = open_every_key();
	for (size_t len = 11000; len <= 13000; len += 2000) {
		char *text = arena_alloc(arena, len + 1);
		memset(text, 'x', len);
		const char *payload = arena_format(arena, "{\"sub\":\"%s\"}", text);
		const char *token = make_token(rsa, "SHA256", false, "{\"alg\":\"RS256\",\"kid\":\"r\"}", payload);
		assert_int_equal(verify(keys, &every_algorithm, token),
				 strlen(token) <= 16384 ? JWT_VALID : JWT_MALFORMED);
		assert_true((strlen(token) <= 16384) == (len == 11000));
	}
	jwt_keys_close(keys);
}

static void
reads_claims_without_a_check(void **state)
{
	(void)state;
	const char *token = arena_format(arena, "%s.%s.", encode("{\"alg\":\"none\"}"), encode(CLAIMS));
	assert_string_equal(json_string(jwt_claims_unverified(arena, token), "sub"), "1081");
	assert_string_equal(jwt_algorithm(arena, token), "none");
}

/* ---- key sets ---- */

static void
skips_unusable_keys(void **state)
{
	(void)state;
	EVP_PKEY *small = EVP_RSA_gen(1024);
	assert_non_null(small);
	const char *n = number(rsa, OSSL_PKEY_PARAM_RSA_N, 0);
	const char *x = number(p256, OSSL_PKEY_PARAM_EC_PUB_X, 32);
	const char *y = number(p256, OSSL_PKEY_PARAM_EC_PUB_Y, 32);
	const char *const rows[] = {
	    "1",
	    "null",
	    "\"x\"",
	    "[]",
	    "{}",
	    "{\"kty\":\"RSA\"}",
	    "{\"kty\":\"EC\"}",
	    "{\"kty\":\"oct\",\"k\":\"c2VjcmV0\",\"alg\":\"HS256\"}",
	    rsa_jwk(small, ""),
	    rsa_jwk(rsa, ",\"use\":\"enc\""),
	    rsa_jwk(rsa, ",\"use\":null"),
	    rsa_jwk(rsa, ",\"use\":[\"sig\"]"),
	    rsa_jwk(rsa, ",\"key_ops\":[\"encrypt\"]"),
	    rsa_jwk(rsa, ",\"key_ops\":[]"),
	    rsa_jwk(rsa, ",\"key_ops\":\"verify\""),
	    rsa_jwk(rsa, ",\"alg\":\"RSA-OAEP\""),
	    rsa_jwk(rsa, ",\"alg\":\"HS256\""),
	    rsa_jwk(rsa, ",\"alg\":\"ES256\""),
	    arena_format(arena, "{\"kty\":\"RSA\",\"n\":\"%s\"}", n),
	    arena_format(arena, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"\"}", n),
	    arena_format(arena, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"AQ\"}", n),           /* 1 */
	    arena_format(arena, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"Ag\"}", n),           /* 2 */
	    arena_format(arena, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"AQAAAAAAAAAB\"}", n), /* 2^64 + 1 */
	    arena_format(arena, "{\"kty\":\"RSA\",\"n\":\"%s=\",\"e\":\"AQAB\"}", n),
	    arena_format(arena, "{\"kty\":\"RSA\",\"n\":\" %s\",\"e\":\"AQAB\"}", n),
	    arena_format(arena, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"}", x,
			 x), /* not on the curve */
	    arena_format(arena, "{\"kty\":\"EC\",\"crv\":\"P-384\",\"x\":\"%s\",\"y\":\"%s\"}", x, y),
	    arena_format(arena, "{\"kty\":\"EC\",\"crv\":\"P-521\",\"x\":\"%s\",\"y\":\"%s\"}", x, y),
	    arena_format(arena, "{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"%s\",\"y\":\"%s\"}", x, y),
	    arena_format(arena, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%.42s\"}", x, y),
	    arena_format(arena, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\"}", x),
	    arena_format(arena, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"}", x),
	    ec_jwk(p256, "P-256", ",\"alg\":\"ES384\""),
	    ec_jwk(p256, "P-256", ",\"alg\":\"RS256\""),
	};
	EVP_PKEY_free(small);
	/* Coordinates that are far too long have no room in a point. */
	uint8_t *bytes = arena_alloc(arena, 4096);
	memset(bytes, 1, 4096);
	for (size_t len = 33; len <= 4096; len += 127) {
		const char *coordinate = text_base64url(arena, bytes, len);
		assert_null(open_set(arena_format(arena, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"}",
						  coordinate, y)));
		assert_null(open_set(arena_format(arena, "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\",\"y\":\"%s\"}",
						  x, coordinate)));
	}
	const char *token = make_token(rsa, "SHA256", false, "{\"alg\":\"RS256\"}", CLAIMS);
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct jwt_keys *keys = open_set(rows[i]);
		if (keys != NULL)
			fail_msg("taken: %s", rows[i]);
		/* Its neighbours are none the worse for it. */
		keys = open_set(arena_format(arena, "%s,%s", rows[i], rsa_jwk(rsa, "")));
		assert_non_null(keys);
		assert_int_equal(verify(keys, &only_rs256, token), JWT_VALID);
		jwt_keys_close(keys);
	}
	const char *const usable[] = {rsa_jwk(rsa, ",\"use\":\"sig\""),
				      rsa_jwk(rsa, ",\"key_ops\":[\"sign\",\"verify\"]"),
				      rsa_jwk(rsa, ",\"alg\":\"RS256\",\"x5t\":\"x\"")};
	for (size_t i = 0; i < LENGTH(usable); i++) {
		struct jwt_keys *keys = open_set(usable[i]);
		assert_non_null(keys);
		assert_int_equal(verify(keys, &only_rs256, token), JWT_VALID);
		jwt_keys_close(keys);
	}
}

static void
refuses_what_is_no_key_set(void **state)
{
	(void)state;
	const char *key = rsa_jwk(rsa, "");
	const char *const rows[] = {"",
				    "{}",
				    "[]",
				    "null",
				    "{\"keys\":[]}",
				    "{\"keys\":{}}",
				    "{\"keys\":null}",
				    "{\"keys\":\"x\"}",
				    key,
				    arena_format(arena, "[%s]", key),
				    arena_format(arena, "{\"keys\":%s}", key),
				    arena_format(arena, "{\"keys\":[%s]", key),
				    arena_format(arena, "{\"Keys\":[%s]}", key)};
	for (size_t i = 0; i < LENGTH(rows); i++)
		assert_null(jwt_keys_open(rows[i], strlen(rows[i])));
	assert_null(jwt_keys_open(NULL, 0));
	jwt_keys_close(NULL);
}

static void
holds_32_keys(void **state)
{
	(void)state;
	const char *set = rsa_jwk(other_rsa, ",\"kid\":\"k0\"");
	for (int i = 1; i < 33; i++)
		set = arena_format(arena, "%s,%s", set,
				   rsa_jwk(i < 31 ? other_rsa : rsa, arena_format(arena, ",\"kid\":\"k%d\"", i)));
	struct jwt_keys *keys = open_set(set);
	assert_non_null(keys);
	assert_int_equal(
	    verify(keys, &only_rs256, make_token(rsa, "SHA256", false, "{\"alg\":\"RS256\",\"kid\":\"k31\"}", CLAIMS)),
	    JWT_VALID);
	assert_int_equal(
	    verify(keys, &only_rs256, make_token(rsa, "SHA256", false, "{\"alg\":\"RS256\",\"kid\":\"k32\"}", CLAIMS)),
	    JWT_UNKNOWN_KEY);
	jwt_keys_close(keys);
}

/* The largest tree a key set can make must fit into the memory set aside for it. */
static void
survives_the_largest_sets(void **state)
{
	(void)state;
	enum { SIZE = 262144 };
	char *json = malloc(SIZE + 1);
	assert_non_null(json);
	static const char begins[] = "{\"keys\":[{\"kty\":\"RSA\",\"e\":\"AQAB\",\"n\":\"";
	static const char ends[] = "\"}]}";
	memset(json, 'x', SIZE + 1);
	memcpy(json, begins, strlen(begins));
	memcpy(json + SIZE - strlen(ends), ends, strlen(ends));
	assert_non_null(json_read(arena, json, SIZE));
	assert_null(jwt_keys_open(json, SIZE));
	assert_null(jwt_keys_open(json, SIZE + 1));

	/* As many values as are allowed, each with text to decode. */
	static const char list[] = "{\"keys\":[";
	static const char jwk[] = "{\"n\":\"\\\\\\\\\\\\\"},";
	memcpy(json, list, strlen(list));
	size_t len = strlen(list);
	for (int i = 0; i < 2046; i++) {
		memcpy(json + len, jwk, strlen(jwk));
		len += strlen(jwk);
	}
	memcpy(json + len - 1, "]}", 2);
	assert_non_null(json_read(arena, json, len + 1));
	assert_null(jwt_keys_open(json, len + 1));
	free(json);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(verifies_the_example_of_rfc7515),
	    cmocka_unit_test(verifies_each_algorithm),
	    cmocka_unit_test(refuses_other_algorithms),
	    cmocka_unit_test(refuses_hmac_under_the_public_key),
	    cmocka_unit_test(chooses_the_key),
	    cmocka_unit_test(tries_all_keys_that_fit),
	    cmocka_unit_test(every_character_counts),
	    cmocka_unit_test(refuses_malformed_tokens),
	    cmocka_unit_test(refuses_signatures_of_other_sizes),
	    cmocka_unit_test(refuses_other_salt_lengths),
	    cmocka_unit_test(refuses_longer_signatures),
	    cmocka_unit_test(bounds_tokens),
	    cmocka_unit_test(reads_claims_without_a_check),
	    cmocka_unit_test(skips_unusable_keys),
	    cmocka_unit_test(refuses_what_is_no_key_set),
	    cmocka_unit_test(holds_32_keys),
	    cmocka_unit_test(survives_the_largest_sets),
	};
	return cmocka_run_group_tests_name("jwt", tests, open_all, close_all);
}
