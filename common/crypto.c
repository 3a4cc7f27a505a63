/*
 * Fetching an algorithm costs more than a digest of a session token, so each is fetched once and one context serves all
 * calls: a worker is one thread, and no call here is interrupted by another.
 *
 * A digest over memory fails only when OpenSSL itself is broken or was not opened; no caller could go on safely, so the
 * process ends.
 */
#include "common/crypto.h"

#include "common/arena.h"
#include "common/text.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHA1_SIZE 20

static EVP_MD *sha1;
static EVP_MD *sha256;
static EVP_MD *sha384;
static EVP_MD *sha512;
static EVP_MD_CTX *context;

bool
crypto_open(void)
{
	crypto_close();
	sha1 = EVP_MD_fetch(NULL, "SHA1", NULL);
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	sha384 = EVP_MD_fetch(NULL, "SHA384", NULL);
	sha512 = EVP_MD_fetch(NULL, "SHA512", NULL);
	context = EVP_MD_CTX_new();
	if (sha1 != NULL && sha256 != NULL && sha384 != NULL && sha512 != NULL && context != NULL)
		return true;
	crypto_close();
	return false;
}

void
crypto_close(void)
{
	EVP_MD_free(sha1);
	EVP_MD_free(sha256);
	EVP_MD_free(sha384);
	EVP_MD_free(sha512);
	EVP_MD_CTX_free(context);
	sha1 = sha256 = sha384 = sha512 = NULL;
	context = NULL;
}

static void
digest(const EVP_MD *algorithm, const void *bytes, size_t len, uint8_t *out)
{
	if (algorithm == NULL || EVP_DigestInit_ex2(context, algorithm, NULL) != 1 ||
	    EVP_DigestUpdate(context, bytes, len) != 1 || EVP_DigestFinal_ex(context, out, NULL) != 1) {
		fputs("a digest of OpenSSL failed, or crypto_open was not called\n", stderr);
		abort();
	}
}

void
crypto_sha256(const void *bytes, size_t len, uint8_t out[CRYPTO_SHA256_SIZE])
{
	digest(sha256, bytes, len, out);
}

size_t
crypto_sha2(unsigned bits, const void *bytes, size_t len, uint8_t out[CRYPTO_SHA2_MAX])
{
	switch (bits) {
	case 256: digest(sha256, bytes, len, out); return 32;
	case 384: digest(sha384, bytes, len, out); return 48;
	case 512: digest(sha512, bytes, len, out); return 64;
	default: return 0;
	}
}

void
crypto_sha256_hex(const char *text, char out[CRYPTO_SHA256_HEX])
{
	uint8_t bytes[CRYPTO_SHA256_SIZE];
	digest(sha256, text, strlen(text), bytes);
	text_hex(bytes, sizeof bytes, out);
}

void
crypto_sha1_hex(const char *text, char out[CRYPTO_SHA1_HEX])
{
	uint8_t bytes[SHA1_SIZE];
	digest(sha1, text, strlen(text), bytes);
	text_hex(bytes, sizeof bytes, out);
}

char *
crypto_pkce_challenge(struct arena *arena, const char *verifier)
{
	uint8_t bytes[CRYPTO_SHA256_SIZE];
	digest(sha256, verifier, strlen(verifier), bytes);
	return text_base64url(arena, bytes, sizeof bytes);
}

bool
crypto_equal(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return false;
	uint8_t hash_a[CRYPTO_SHA256_SIZE];
	uint8_t hash_b[CRYPTO_SHA256_SIZE];
	digest(sha256, a, strlen(a), hash_a);
	digest(sha256, b, strlen(b), hash_b);
	return CRYPTO_memcmp(hash_a, hash_b, sizeof hash_a) == 0;
}

void
crypto_wipe(void *bytes, size_t len)
{
	OPENSSL_cleanse(bytes, len);
}
