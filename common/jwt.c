/*
 * The algorithm is chosen by us and not by the token: its `alg` must be among those the caller allows and must belong
 * to the type of the key, so neither "none" nor an HMAC under a public key can come into play.
 */
#include "common/jwt.h"

#include "common/arena.h"
#include "common/crypto.h"
#include "common/json_read.h"
#include "common/text.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_MAX 16384
#define KEYS_MAX 32
#define KEY_SET_MAX 262144
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192
#define EXPONENT_SIZE_MAX 8 /* larger public exponents only cost time */
#define COORDINATE_MAX 48

enum key_type { KEY_RSA, KEY_P256, KEY_P384 };

struct algorithm {
	const char *name;
	enum key_type type;
	const EVP_MD *(*digest)(void);
	unsigned bits; /* of the digest */
	bool pss;
};

static const struct algorithm algorithms[] = {
    {"RS256", KEY_RSA, EVP_sha256, 256, false},  {"RS384", KEY_RSA, EVP_sha384, 384, false},
    {"RS512", KEY_RSA, EVP_sha512, 512, false},  {"PS256", KEY_RSA, EVP_sha256, 256, true},
    {"ES256", KEY_P256, EVP_sha256, 256, false}, {"ES384", KEY_P384, EVP_sha384, 384, false},
};

struct curve {
	const char *name; /* in a JWK */
	const char *openssl_name;
	enum key_type type;
	size_t size; /* bytes of a coordinate */
};

static const struct curve curves[] = {
    {"P-256", "prime256v1", KEY_P256, 32},
    {"P-384", "secp384r1", KEY_P384, 48},
};

struct key {
	char *kid;                    /* NULL: the set gives it no name */
	const struct algorithm *only; /* the one algorithm that the set allows it for, or NULL */
	enum key_type type;
	EVP_PKEY *pkey;
};

struct jwt_keys {
	size_t count;
	struct key keys[KEYS_MAX];
};

/* Did OpenSSL lack memory? Its functions do not say why they failed; big numbers fail for nothing else, as keys and
 * signatures were checked before. */
static bool
lacked_memory(void)
{
	bool lacked = false;
	unsigned long error;

	while ((error = ERR_get_error()) != 0)
		lacked = lacked || ERR_GET_REASON(error) == ERR_R_MALLOC_FAILURE || ERR_GET_LIB(error) == ERR_LIB_BN;
	return lacked;
}

static const struct algorithm *
find_algorithm(const char *name)
{
	for (size_t i = 0; i < sizeof algorithms / sizeof algorithms[0]; i++)
		if (text_equal(algorithms[i].name, name))
			return &algorithms[i];
	return NULL;
}

/* ---- key sets ---- */

static EVP_PKEY *
make_key(const char *type, OSSL_PARAM_BLD *builder)
{
	OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(builder);
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	EVP_PKEY *pkey = NULL;
	if (parameters == NULL || context == NULL || EVP_PKEY_fromdata_init(context) != 1 ||
	    EVP_PKEY_fromdata(context, &pkey, EVP_PKEY_PUBLIC_KEY, parameters) != 1)
		pkey = NULL;
	EVP_PKEY_CTX_free(context);
	OSSL_PARAM_free(parameters);
	return pkey;
}

static EVP_PKEY *
read_rsa(struct arena *arena, const struct json *jwk)
{
	size_t n_len = 0;
	size_t e_len = 0;
	const uint8_t *n_bytes = text_base64url_decode(arena, json_string(jwk, "n"), &n_len);
	const uint8_t *e_bytes = text_base64url_decode(arena, json_string(jwk, "e"), &e_len);
	if (n_bytes == NULL || e_bytes == NULL || n_len > RSA_BITS_MAX / 8 || e_len > EXPONENT_SIZE_MAX)
		return NULL;

	EVP_PKEY *pkey = NULL;
	BIGNUM *n = BN_bin2bn(n_bytes, (int)n_len, NULL);
	BIGNUM *e = BN_bin2bn(e_bytes, (int)e_len, NULL);
	OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
	if (n != NULL && e != NULL && builder != NULL && BN_num_bits(n) >= RSA_BITS_MIN && BN_is_odd(n) &&
	    BN_is_odd(e) && !BN_is_one(e) && OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e) == 1)
		pkey = make_key("RSA", builder);
	OSSL_PARAM_BLD_free(builder);
	BN_free(n);
	BN_free(e);
	return pkey;
}

static EVP_PKEY *
read_ec(struct arena *arena, const struct json *jwk, enum key_type *type)
{
	const struct curve *curve = NULL;
	for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++)
		if (text_equal(curves[i].name, json_string(jwk, "crv")))
			curve = &curves[i];
	size_t x_len = 0;
	size_t y_len = 0;
	const uint8_t *x = text_base64url_decode(arena, json_string(jwk, "x"), &x_len);
	const uint8_t *y = text_base64url_decode(arena, json_string(jwk, "y"), &y_len);
	if (curve == NULL || x == NULL || y == NULL || x_len != curve->size || y_len != curve->size)
		return NULL;

	uint8_t point[1 + 2 * COORDINATE_MAX] = {POINT_CONVERSION_UNCOMPRESSED};
	memcpy(point + 1, x, x_len);
	memcpy(point + 1 + x_len, y, y_len);
	EVP_PKEY *pkey = NULL;
	OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
	if (builder != NULL &&
	    OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, curve->openssl_name, 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * curve->size) == 1)
		pkey = make_key("EC", builder);
	OSSL_PARAM_BLD_free(builder);
	*type = curve->type;
	return pkey;
}

/* A key may say what it is for; one that is for encryption, or for another party's signing, is not ours to use. */
static bool
is_for_verifying(const struct json *jwk)
{
	const struct json *use = json_member(jwk, "use");
	if (use != NULL && !text_equal(json_string(jwk, "use"), "sig"))
		return false;
	const struct json *operations = json_member(jwk, "key_ops");
	if (operations == NULL)
		return true;
	for (const struct json *item = operations->first; item != NULL; item = item->next)
		if (item->type == JSON_STRING && strcmp(item->text, "verify") == 0)
			return true;
	return false;
}

/* Add the key of `jwk` when it is usable; false without memory. */
static bool
add_key(struct arena *arena, struct jwt_keys *keys, const struct json *jwk)
{
	if (keys->count == KEYS_MAX || !is_for_verifying(jwk))
		return true;
	const char *kid = json_string(jwk, "kid");
	const char *name = json_string(jwk, "alg");
	const struct algorithm *only = find_algorithm(name);
	if (name != NULL && only == NULL)
		return true;

	struct key key = {.only = only};
	if (text_equal(json_string(jwk, "kty"), "RSA"))
		key.pkey = read_rsa(arena, jwk);
	else if (text_equal(json_string(jwk, "kty"), "EC"))
		key.pkey = read_ec(arena, jwk, &key.type);
	if (key.pkey == NULL)
		return !lacked_memory();
	key.kid = kid == NULL ? NULL : strdup(kid);
	if ((kid != NULL && key.kid == NULL) || (only != NULL && only->type != key.type)) {
		EVP_PKEY_free(key.pkey);
		free(key.kid);
		return only != NULL && only->type != key.type;
	}
	keys->keys[keys->count++] = key;
	return true;
}

struct jwt_keys *
jwt_keys_open(const char *json, size_t len)
{
	if (json == NULL || len > KEY_SET_MAX)
		return NULL;
	/* Enough for the largest tree that json_read makes of `len` bytes, so that its memory cannot run out later. */
	size_t size = (size_t)1024 * 1024 + 16 * len;
	struct arena *arena = arena_open(size, size, NULL, NULL);
	struct jwt_keys *keys = calloc(1, sizeof *keys);
	bool whole = true;
	ERR_clear_error();
	if (arena != NULL && keys != NULL) {
		const struct json *list = json_member(json_read(arena, json, len), "keys");
		if (list != NULL && list->type == JSON_ARRAY)
			for (const struct json *jwk = list->first; jwk != NULL && whole; jwk = jwk->next)
				whole = add_key(arena, keys, jwk);
	}
	arena_close(arena);
	ERR_clear_error();
	if (keys != NULL && (keys->count == 0 || !whole)) {
		jwt_keys_close(keys);
		return NULL;
	}
	return keys;
}

void
jwt_keys_close(struct jwt_keys *keys)
{
	if (keys == NULL)
		return;
	for (size_t i = 0; i < keys->count; i++) {
		EVP_PKEY_free(keys->keys[i].pkey);
		free(keys->keys[i].kid);
	}
	free(keys);
}

/* ---- tokens ---- */

struct token {
	const struct json *header;
	const uint8_t *signed_part; /* header and payload as they were sent, with the point between them */
	size_t signed_len;
	const char *payload; /* decoded */
	size_t payload_len;
	const uint8_t *signature;
	size_t signature_len;
};

static const uint8_t *
decode_part(struct arena *arena, const char *text, size_t text_len, size_t *len)
{
	return text_base64url_decode(arena, arena_copy(arena, text, text_len), len);
}

/* Take a token apart; false when it is not three parts of base64url with a JSON object in the first. */
static bool
split(struct arena *arena, const char *text, struct token *token)
{
	if (text == NULL || strnlen(text, TOKEN_MAX + 1) > TOKEN_MAX)
		return false;
	const char *point = strchr(text, '.');
	const char *second = point == NULL ? NULL : strchr(point + 1, '.');
	if (second == NULL)
		return false;
	size_t header_len = 0;
	const uint8_t *header = decode_part(arena, text, (size_t)(point - text), &header_len);
	token->payload = (const char *)decode_part(arena, point + 1, (size_t)(second - point - 1), &token->payload_len);
	token->signature = decode_part(arena, second + 1, strlen(second + 1), &token->signature_len);
	if (header == NULL || token->payload == NULL || token->signature == NULL)
		return false;
	token->signed_part = (const uint8_t *)text;
	token->signed_len = (size_t)(second - text);
	token->header = json_read(arena, (const char *)header, header_len);
	return token->header != NULL && token->header->type == JSON_OBJECT;
}

static const struct json *
read_claims(struct arena *arena, const struct token *token)
{
	const struct json *claims = json_read(arena, token->payload, token->payload_len);
	return claims != NULL && claims->type == JSON_OBJECT ? claims : NULL;
}

static size_t
ecdsa_size(enum key_type type)
{
	return type == KEY_P256 ? 32 : 48;
}

/* A signature of two numbers side by side (RFC 7518 3.4) as the DER that OpenSSL wants; NULL without memory. */
static unsigned char *
ecdsa_der(const struct token *token, enum key_type type, size_t *len)
{
	size_t size = ecdsa_size(type);
	unsigned char *der = NULL;
	int der_len = 0;
	ECDSA_SIG *pair = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(token->signature, (int)size, NULL);
	BIGNUM *s = BN_bin2bn(token->signature + size, (int)size, NULL);
	if (pair != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(pair, r, s) == 1) {
		/* The pair owns them now. */
		r = NULL;
		s = NULL;
		der_len = i2d_ECDSA_SIG(pair, &der);
	}
	BN_free(r);
	BN_free(s);
	ECDSA_SIG_free(pair);
	if (der_len <= 0)
		return NULL;
	*len = (size_t)der_len;
	return der;
}

/* A context that has everything it needs to compare a signature; NULL without memory. */
static EVP_PKEY_CTX *
prepare_check(const struct algorithm *algorithm, const struct key *key)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
	int padding = algorithm->pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING;
	if (context != NULL && EVP_PKEY_verify_init(context) == 1 &&
	    (key->type != KEY_RSA || EVP_PKEY_CTX_set_rsa_padding(context, padding) == 1) &&
	    EVP_PKEY_CTX_set_signature_md(context, algorithm->digest()) == 1 &&
	    (!algorithm->pss || EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) == 1))
		return context;
	EVP_PKEY_CTX_free(context);
	return NULL;
}

/* The digest is our own and the context is there before, so that little is left that can fail for want of memory. */
static enum jwt_result
check_signature(const struct token *token, const struct algorithm *algorithm, const struct key *key)
{
	uint8_t hash[CRYPTO_SHA2_MAX];
	size_t hash_len = crypto_sha2(algorithm->bits, token->signed_part, token->signed_len, hash);
	const unsigned char *signature = token->signature;
	size_t signature_len = token->signature_len;
	unsigned char *der = NULL;
	enum jwt_result result = JWT_NO_MEMORY;
	if (key->type != KEY_RSA) {
		if (signature_len != 2 * ecdsa_size(key->type))
			return JWT_BAD_SIGNATURE;
		der = ecdsa_der(token, key->type, &signature_len);
		signature = der;
	}
	EVP_PKEY_CTX *context = signature != NULL ? prepare_check(algorithm, key) : NULL;
	ERR_clear_error();
	if (context != NULL) {
		if (EVP_PKEY_verify(context, signature, signature_len, hash, hash_len) == 1)
			result = JWT_VALID;
		else
			result = lacked_memory() ? JWT_NO_MEMORY : JWT_BAD_SIGNATURE;
	}
	EVP_PKEY_CTX_free(context);
	OPENSSL_free(der);
	ERR_clear_error();
	return result;
}

enum jwt_result
jwt_verify(struct arena *arena, const struct jwt_keys *keys, const struct words *allowed, const char *text,
	   const struct json **claims)
{
	struct token token;
	*claims = NULL;
	if (!split(arena, text, &token))
		return JWT_MALFORMED;
	/* `crit` names extensions without which the token must not be understood (RFC 7515 4.1.11); there are none
	 * here. */
	if (json_member(token.header, "crit") != NULL)
		return JWT_MALFORMED;
	const char *name = json_string(token.header, "alg");
	const struct algorithm *algorithm = find_algorithm(name);
	if (algorithm == NULL || !words_contain(allowed, name))
		return JWT_ALGORITHM;

	const char *kid = json_string(token.header, "kid");
	enum jwt_result result = JWT_UNKNOWN_KEY;
	for (size_t i = 0; i < keys->count && result != JWT_VALID && result != JWT_NO_MEMORY; i++) {
		const struct key *key = &keys->keys[i];
		if (key->type != algorithm->type || (key->only != NULL && key->only != algorithm) ||
		    (kid != NULL && !text_equal(kid, key->kid)))
			continue;
		result = check_signature(&token, algorithm, key);
	}
	/* It names no key, so it may be signed with one that is not among these yet. */
	if (result == JWT_BAD_SIGNATURE && kid == NULL)
		return JWT_UNKNOWN_KEY;
	if (result != JWT_VALID)
		return result;
	*claims = read_claims(arena, &token);
	return *claims == NULL ? JWT_MALFORMED : JWT_VALID;
}

const char *
jwt_algorithm(struct arena *arena, const char *text)
{
	struct token token;
	return split(arena, text, &token) ? json_string(token.header, "alg") : NULL;
}

const struct json *
jwt_claims_unverified(struct arena *arena, const char *text)
{
	struct token token;
	return split(arena, text, &token) ? read_claims(arena, &token) : NULL;
}
