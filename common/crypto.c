/*
 * OpenSSL's EVP allocates for every digest, and a digest cannot fail where it is needed: for a session's key on every
 * request, for the keys of tokens that the provider has just given. So these are the functions below it, which work on
 * the caller's stack and fail on nothing.
 */
#define OPENSSL_SUPPRESS_DEPRECATED

#include "common/crypto.h"

#include "common/arena.h"
#include "common/text.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>

void
crypto_sha256(const void *bytes, size_t len, uint8_t out[CRYPTO_SHA256_SIZE])
{
	SHA256_CTX state;

	SHA256_Init(&state);
	SHA256_Update(&state, bytes, len);
	SHA256_Final(out, &state); /* wipes the state, too */
}

size_t
crypto_sha2(unsigned bits, const void *bytes, size_t len, uint8_t out[CRYPTO_SHA2_MAX])
{
	SHA512_CTX state;

	switch (bits) {
	case 256: crypto_sha256(bytes, len, out); return 32;
	case 384:
		SHA384_Init(&state);
		SHA384_Update(&state, bytes, len);
		SHA384_Final(out, &state);
		return 48;
	case 512:
		SHA512_Init(&state);
		SHA512_Update(&state, bytes, len);
		SHA512_Final(out, &state);
		return 64;
	default: return 0;
	}
}

void
crypto_sha256_hex(const char *text, char out[CRYPTO_SHA256_HEX])
{
	uint8_t bytes[CRYPTO_SHA256_SIZE];
	crypto_sha256(text, strlen(text), bytes);
	text_hex(bytes, sizeof bytes, out);
}

void
crypto_hmac_sha256(const void *key, size_t key_len, const struct crypto_part *parts, size_t count,
		   uint8_t out[CRYPTO_SHA256_SIZE])
{
	uint8_t pad[SHA256_CBLOCK] = {0};
	SHA256_CTX state;

	memcpy(pad, key, key_len);
	for (size_t i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36;
	SHA256_Init(&state);
	SHA256_Update(&state, pad, sizeof pad);
	for (size_t i = 0; i < count; i++)
		SHA256_Update(&state, parts[i].bytes, parts[i].len);
	SHA256_Final(out, &state);

	for (size_t i = 0; i < sizeof pad; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	SHA256_Init(&state);
	SHA256_Update(&state, pad, sizeof pad);
	SHA256_Update(&state, out, CRYPTO_SHA256_SIZE);
	SHA256_Final(out, &state);
	crypto_wipe(pad, sizeof pad);
}

void
crypto_hkdf_sha256(const void *key, size_t key_len, const char *info, uint8_t out[CRYPTO_SHA256_SIZE])
{
	static const uint8_t no_salt[CRYPTO_SHA256_SIZE];
	const struct crypto_part extract = {key, key_len};
	const struct crypto_part expand[] = {{info, strlen(info)}, {"\x01", 1}};
	uint8_t derived[CRYPTO_SHA256_SIZE];

	crypto_hmac_sha256(no_salt, sizeof no_salt, &extract, 1, derived);
	crypto_hmac_sha256(derived, sizeof derived, expand, 2, out);
	crypto_wipe(derived, sizeof derived);
}

char *
crypto_pkce_challenge(struct arena *arena, const char *verifier)
{
	uint8_t bytes[CRYPTO_SHA256_SIZE];
	crypto_sha256(verifier, strlen(verifier), bytes);
	return text_base64url(arena, bytes, sizeof bytes);
}

bool
crypto_equal(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return false;
	uint8_t hash_a[CRYPTO_SHA256_SIZE];
	uint8_t hash_b[CRYPTO_SHA256_SIZE];
	crypto_sha256(a, strlen(a), hash_a);
	crypto_sha256(b, strlen(b), hash_b);
	return CRYPTO_memcmp(hash_a, hash_b, sizeof hash_a) == 0;
}

void
crypto_wipe(void *bytes, size_t len)
{
	OPENSSL_cleanse(bytes, len);
}
