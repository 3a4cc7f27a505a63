/*
 * Signed JSON Web Tokens as OpenID Connect uses them (RFC 7515, 7517, 7518; OpenID Connect Core 3.1.3.7): signature and
 * header here, the meaning of claims in oauth2.h.
 */
#ifndef COMMON_JWT_H
#define COMMON_JWT_H

#include <stddef.h>

struct arena;
struct json;
struct words;
struct jwt_keys;

enum jwt_result {
	JWT_VALID,
	JWT_MALFORMED,     /* not three parts of base64url JSON, or too long (16 KiB) */
	JWT_ALGORITHM,     /* `alg` is not an allowed one; "none" and HS* never are */
	JWT_UNKNOWN_KEY,   /* no key with this `kid`, or without one none that fits: fetching the keys anew may help */
	JWT_BAD_SIGNATURE, /* of the key that the token names */
	JWT_NO_MEMORY      /* says nothing about the token */
};

/*
 * Read a JWK set: RSA keys of 2048 to 8192 bits and EC keys on P-256 and P-384 that may sign; others are skipped. At
 * most 32. Not in an arena: it outlives the request. NULL when it is not a key set, holds no usable key, or
 * memory for one is missing: with a part of the keys, good tokens would seem forged.
 */
struct jwt_keys *jwt_keys_open(const char *json, size_t len);
void jwt_keys_close(struct jwt_keys *keys);

/* Check `token` with `keys` where its header's `alg` is in `algorithms` (RS256, RS384, RS512, PS256, ES256, ES384) and
 * fits the key's type; on JWT_VALID *claims is the payload's object. */
enum jwt_result jwt_verify(struct arena *arena, const struct jwt_keys *keys, const struct words *algorithms,
			   const char *token, const struct json **claims);

/* The header's `alg`, WITHOUT any check: after jwt_verify it says which hash `at_hash` uses. NULL when malformed. */
const char *jwt_algorithm(struct arena *arena, const char *token);

/* The payload WITHOUT any check, for decisions in which a forgery does no harm. NULL when malformed. */
const struct json *jwt_claims_unverified(struct arena *arena, const char *token);

#endif
