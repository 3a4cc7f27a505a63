/* Digests, comparison and wiping over OpenSSL; none of it allocates or fails. */
#ifndef COMMON_CRYPTO_H
#define COMMON_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRYPTO_SHA256_SIZE 32
#define CRYPTO_SHA256_HEX 65 /* 64 digits and a NUL */
#define CRYPTO_SHA2_MAX 64

struct arena;

void crypto_sha256(const void *bytes, size_t len, uint8_t out[CRYPTO_SHA256_SIZE]);

/* SHA-256, SHA-384 or SHA-512 by their `bits`: the number of bytes written, 0 for any other number of bits. */
size_t crypto_sha2(unsigned bits, const void *bytes, size_t len, uint8_t out[CRYPTO_SHA2_MAX]);

/* Lower-case hex of SHA-256 over a C string. */
void crypto_sha256_hex(const char *text, char out[CRYPTO_SHA256_HEX]);

struct crypto_part {
	const void *bytes;
	size_t len;
};

/* HMAC-SHA-256 (RFC 2104) over the parts, one after the other; the key has at most 64 bytes. */
void crypto_hmac_sha256(const void *key, size_t key_len, const struct crypto_part *parts, size_t count,
			uint8_t out[CRYPTO_SHA256_SIZE]);

/* The first 32 bytes of HKDF-SHA-256 (RFC 5869) without salt, `info` being a C string. */
void crypto_hkdf_sha256(const void *key, size_t key_len, const char *info, uint8_t out[CRYPTO_SHA256_SIZE]);

/* PKCE S256 (RFC 7636 4.2): base64url(SHA-256(ASCII(verifier))). */
char *crypto_pkce_challenge(struct arena *arena, const char *verifier);

/* Equal, in time that does not depend on the contents: both sides are hashed first. NULL is never equal. */
bool crypto_equal(const char *a, const char *b);

/* Overwrite. */
void crypto_wipe(void *bytes, size_t len);

#endif
