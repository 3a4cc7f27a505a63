/*
 * Everything comes from the private generator, which keeps what it gave out apart from what is shown to the world
 * (nonces in messages); OpenSSL seeds it anew after a fork.
 */
#include "common/random.h"

#include "common/arena.h"
#include "common/text.h"

#include <limits.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
random_bytes(uint8_t *out, size_t len)
{
	while (len > 0) {
		size_t part = len < INT_MAX ? len : INT_MAX;
		if (RAND_priv_bytes(out, (int)part) != 1) {
			fputs("the random generator of OpenSSL failed\n", stderr);
			abort();
		}
		out += part;
		len -= part;
	}
}

char *
random_token(struct arena *arena)
{
	uint8_t bytes[32];
	random_bytes(bytes, sizeof bytes);
	char *token = text_base64url(arena, bytes, sizeof bytes);
	explicit_bzero(bytes, sizeof bytes);
	return token;
}

char *
random_id(struct arena *arena)
{
	uint8_t bytes[16];
	random_bytes(bytes, sizeof bytes);
	char *id = arena_alloc(arena, 2 * sizeof bytes + 1);
	text_hex(bytes, sizeof bytes, id);
	explicit_bzero(bytes, sizeof bytes);
	return id;
}

uint32_t
random_below(uint32_t below)
{
	/* Values under 2^32 mod below would come up once more than the others. */
	uint32_t uneven = -below % below;
	uint32_t value;
	do {
		uint8_t bytes[sizeof value];
		random_bytes(bytes, sizeof bytes);
		memcpy(&value, bytes, sizeof value);
	} while (value < uneven);
	return value % below;
}
