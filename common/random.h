/* Random values from OpenSSL's private generator (RAND_priv_bytes). A failing generator ends the process: there is no
 * safe way on. */
#ifndef COMMON_RANDOM_H
#define COMMON_RANDOM_H

#include <stddef.h>
#include <stdint.h>

struct arena;

void random_bytes(uint8_t *out, size_t len);

/* 32 random bytes as 43 base64url characters: states, nonces, PKCE verifiers, session tokens. */
char *random_token(struct arena *arena);

/* 128 random bits as 32 hex digits: ids, generations, lease owners. */
char *random_id(struct arena *arena);

/* A number from 0 to below - 1 (below > 0), evenly spread: jitter. */
uint32_t random_below(uint32_t below);

#endif
