/*
 * The keys are one mapping of their own, locked, kept out of core files and wiped when closed. OpenSSL expands a key
 * into a context on its ordinary heap, which serves all values of one turn of the loop; then a key of zeros is expanded
 * over it. The context gets its memory once: were it missing later, a value that cannot be opened for a moment would be
 * taken for one that is damaged.
 *
 * The nonce is random: 96 bits allow about 2^32 values a key before a repetition becomes likely enough to matter, far
 * more than one installation seals between two rotations.
 */
#include "common/seal.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/random.h"
#include "common/text.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define KEYS_MAX 16
#define KEY_SIZE 32
#define ID_MAX 32
#define NONCE_SIZE 12
#define TAG_SIZE 16
#define PLAIN_MAX 65536
#define PART_MAX 65536
#define PARTS_FIRST 8
#define PARTS_SECOND 10
#define SECOND "2." /* between the key id and the rest */
#define MAC_LABEL "integrations mac"

struct key {
	char id[ID_MAX + 1];
	uint8_t bytes[KEY_SIZE];
	uint8_t mac[CRYPTO_SHA256_SIZE]; /* derived from it once: each request of a program needs it */
};

static const uint8_t no_key[KEY_SIZE]; /* and no nonce */

#define KEYS_SIZE (KEYS_MAX * sizeof(struct key))

struct key_ring {
	EVP_CIPHER *cipher;
	EVP_CIPHER_CTX *context;
	size_t count;
	size_t first;               /* the one that seals */
	struct key *keys;           /* KEYS_MAX, mapped */
	const struct key *expanded; /* the one in the context; NULL: none */
};

static bool
is_key_id(const char *id)
{
	return text_is_id(id) && strlen(id) <= ID_MAX;
}

static const struct key *
find_key(const struct key_ring *ring, const char *id)
{
	for (size_t i = 0; i < ring->count; i++)
		if (strcmp(ring->keys[i].id, id) == 0)
			return &ring->keys[i];
	return NULL;
}

/* A ring without keys; NULL when memory or the algorithm is missing. */
static struct key_ring *
new_ring(void)
{
	struct key_ring *ring = calloc(1, sizeof *ring);
	if (ring == NULL)
		return NULL;
	void *keys = mmap(NULL, KEYS_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (keys != MAP_FAILED) {
		ring->keys = keys;
		/* Both may be denied (RLIMIT_MEMLOCK, an old kernel); the service works without them. */
		(void)mlock(keys, KEYS_SIZE);
		(void)madvise(keys, KEYS_SIZE, MADV_DONTDUMP);
	}
	ring->cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
	ring->context = EVP_CIPHER_CTX_new();
	if (ring->keys == NULL || ring->cipher == NULL || ring->context == NULL ||
	    EVP_CipherInit_ex2(ring->context, ring->cipher, no_key, no_key, 1, NULL) != 1) {
		key_ring_close(ring);
		return NULL;
	}
	return ring;
}

/* Read one line that is neither empty nor a comment; NULL, or what is wrong with it. */
static const char *
read_line(struct arena *arena, struct key_ring *ring, const char *line)
{
	const char *colon = strchr(line, ':');
	if (colon == NULL)
		return "is not of the form id:base64";
	const char *id = arena_copy(arena, line, (size_t)(colon - line));
	if (!is_key_id(id))
		return "has a key id that is not 1 to 32 characters of A-Z a-z 0-9 _ -";
	if (find_key(ring, id) != NULL)
		return "repeats the key id of an earlier line";
	if (ring->count == KEYS_MAX)
		return "is one too many: a key ring holds at most 16 keys";

	size_t len = 0;
	uint8_t *bytes = text_base64_decode(arena, colon + 1, &len);
	if (bytes == NULL || len != KEY_SIZE) {
		if (bytes != NULL)
			crypto_wipe(bytes, len);
		return "has a key that is not the base64 of 32 bytes";
	}
	struct key *key = &ring->keys[ring->count++];
	memcpy(key->id, id, strlen(id) + 1);
	memcpy(key->bytes, bytes, KEY_SIZE);
	crypto_hkdf_sha256(key->bytes, KEY_SIZE, MAC_LABEL, key->mac);
	crypto_wipe(bytes, len);
	return NULL;
}

/* Read the lines whose keys the ring lacks, or all of them; NULL, or what is wrong. *first is the first line's id. */
static const char *
read_lines(struct arena *arena, struct key_ring *ring, const char *text, bool lacking, const char **first)
{
	const char *wrong = NULL;
	size_t number = 0;

	*first = NULL;
	for (const char *at = text; at != NULL && wrong == NULL;) {
		size_t len = strcspn(at, "\n");
		const char *next = at[len] == '\n' ? at + len + 1 : NULL;
		while (len > 0 && strchr(" \t\r", at[len - 1]) != NULL)
			len--;
		while (len > 0 && strchr(" \t", *at) != NULL) {
			at++;
			len--;
		}
		number++;
		if (len > 0 && *at != '#') {
			char *line = arena_copy(arena, at, len);
			const char *id = arena_copy(arena, line, strcspn(line, ":"));
			if (*first == NULL)
				*first = id;
			if (!lacking || find_key(ring, id) == NULL)
				wrong = read_line(arena, ring, line);
			crypto_wipe(line, len);
		}
		at = next;
	}
	return wrong != NULL ? arena_format(arena, "line %zu of the key ring %s", number, wrong) : NULL;
}

struct key_ring *
key_ring_open(struct arena *arena, const char *text, const char **mistake)
{
	struct key_ring *ring = new_ring();
	const char *first;
	*mistake = NULL;
	if (ring == NULL)
		*mistake = "memory for a key ring, or AES-256-GCM in OpenSSL, is not available";
	else
		*mistake = read_lines(arena, ring, text, false, &first);
	if (*mistake == NULL && ring->count == 0)
		*mistake = "the key ring holds no key";
	if (*mistake == NULL)
		return ring;
	key_ring_close(ring);
	return NULL;
}

void
key_ring_learn(struct arena *arena, struct key_ring *ring, const char *text)
{
	const char *first;
	const char *wrong = read_lines(arena, ring, text, true, &first);
	/* Written to after a fork, the page is this process's own copy, and the lock was on the parent's. */
	(void)mlock(ring->keys, KEYS_SIZE);
	if (wrong != NULL || first == NULL)
		return;
	for (size_t i = 0; i < ring->count; i++)
		if (strcmp(ring->keys[i].id, first) == 0)
			ring->first = i;
}

bool
key_ring_has(const struct key_ring *ring, const char *id)
{
	return find_key(ring, id) != NULL;
}

void
key_ring_close(struct key_ring *ring)
{
	if (ring == NULL)
		return;
	EVP_CIPHER_CTX_free(ring->context);
	EVP_CIPHER_free(ring->cipher);
	if (ring->keys != NULL) {
		crypto_wipe(ring->keys, KEYS_SIZE);
		munmap(ring->keys, KEYS_SIZE);
	}
	free(ring);
}

const char *
key_ring_first(const struct key_ring *ring)
{
	return ring->keys[ring->first].id;
}

char *
key_ring_new_line(struct arena *arena)
{
	char today[CLOCK_RFC3339_SIZE];
	clock_rfc3339(clock_wall(), today);
	uint8_t bytes[KEY_SIZE];
	random_bytes(bytes, sizeof bytes);
	char *key = text_base64(arena, bytes, sizeof bytes);
	char *line = arena_format(arena, "k%.4s%.2s%.2s-%.8s:%s", today, today + 5, today + 8, random_id(arena), key);
	crypto_wipe(bytes, sizeof bytes);
	crypto_wipe(key, strlen(key));
	return line;
}

/* Associated data on its way to the cipher: most of it is gathered first, for a call costs more than its few bytes. */
struct bound {
	EVP_CIPHER_CTX *context;
	bool good;
	size_t len;
	uint8_t bytes[512];
};

static void
bind_now(struct bound *bound, const void *bytes, size_t len)
{
	int done;
	if (len > 0 && EVP_CipherUpdate(bound->context, NULL, &done, bytes, (int)len) != 1)
		bound->good = false;
}

static void
bind_gathered(struct bound *bound)
{
	bind_now(bound, bound->bytes, bound->len);
	bound->len = 0;
}

static void
write_length(uint8_t out[4], uint32_t len)
{
	out[0] = (uint8_t)(len >> 24);
	out[1] = (uint8_t)(len >> 16);
	out[2] = (uint8_t)(len >> 8);
	out[3] = (uint8_t)len;
}

/* One part, its length in front; NULL has a length that no text has. */
static void
bind_part(struct bound *bound, const char *part)
{
	size_t len = part == NULL ? 0 : strnlen(part, PART_MAX + 1);
	uint32_t number = part == NULL ? UINT32_MAX : (uint32_t)len;
	uint8_t prefix[4];
	write_length(prefix, number);
	if (len > PART_MAX) {
		bound->good = false;
		return;
	}
	if (sizeof prefix + len > sizeof bound->bytes - bound->len)
		bind_gathered(bound);
	memcpy(bound->bytes + bound->len, prefix, sizeof prefix);
	bound->len += sizeof prefix;
	if (len > sizeof bound->bytes - bound->len) {
		bind_gathered(bound);
		bind_now(bound, part, len);
	} else if (len > 0) {
		memcpy(bound->bytes + bound->len, part, len);
		bound->len += len;
	}
}

/* Set key, nonce and associated data; `direction` is EVP_CipherInit's: 1 seals, 0 opens. Naming the cipher again would
 * free the context's memory and ask for it anew. */
static bool
begin_cipher(struct key_ring *ring, const struct key *key, const struct seal_context *context, bool second,
	     const uint8_t *nonce, int direction)
{
	const char *const parts[] = {context->environment, context->organization, context->user,      context->service,
				     context->field,       context->issuer,       context->client_id, key->id,
				     context->account,     context->generation};
	size_t count = second ? PARTS_SECOND : PARTS_FIRST;
	struct bound bound = {.context = ring->context};
	const uint8_t *bytes = ring->expanded != key ? key->bytes : NULL;
	ring->expanded = key;
	bound.good = EVP_CipherInit_ex2(ring->context, NULL, bytes, nonce, direction, NULL) == 1;
	for (size_t i = 0; bound.good && i < count; i++)
		bind_part(&bound, parts[i]);
	if (bound.good)
		bind_gathered(&bound);
	return bound.good;
}

void
key_ring_forget_expanded(struct key_ring *ring)
{
	if (ring == NULL || ring->expanded == NULL)
		return;
	ring->expanded = NULL;
	if (EVP_CipherInit_ex2(ring->context, NULL, no_key, NULL, 1, NULL) != 1)
		ERR_clear_error();
}

/* What it left in the context is unknown, and libraries that share OpenSSL's error queue would take it for theirs. */
static void
forget_failure(struct key_ring *ring)
{
	key_ring_forget_expanded(ring);
	ERR_clear_error();
}

char *
seal(struct arena *arena, struct key_ring *ring, const struct seal_context *context, const char *plain)
{
	size_t len = strnlen(plain, PLAIN_MAX + 1);
	if (len > PLAIN_MAX)
		return NULL;
	const struct key *key = &ring->keys[ring->first];
	bool second = context->generation != NULL;
	uint8_t *nonce = arena_alloc(arena, NONCE_SIZE + len + TAG_SIZE);
	uint8_t *text = nonce + NONCE_SIZE;
	random_bytes(nonce, NONCE_SIZE);

	int done = 0;
	bool sealed = begin_cipher(ring, key, context, second, nonce, 1) &&
		      EVP_CipherUpdate(ring->context, text, &done, (const uint8_t *)plain, (int)len) == 1 &&
		      EVP_CipherFinal_ex(ring->context, text + len, &done) == 1 &&
		      EVP_CIPHER_CTX_ctrl(ring->context, EVP_CTRL_AEAD_GET_TAG, TAG_SIZE, text + len) == 1;
	if (!sealed) {
		forget_failure(ring);
		return NULL;
	}
	return arena_format(arena, "%s.%s%s", key->id, second ? SECOND : "",
			    text_base64url(arena, nonce, NONCE_SIZE + len + TAG_SIZE));
}

char *
seal_open(struct arena *arena, struct key_ring *ring, const struct seal_context *context, const char *sealed)
{
	const char *id = seal_key_id(arena, sealed);
	const struct key *key = id == NULL ? NULL : find_key(ring, id);
	bool second = seal_is_second(sealed);
	if (key == NULL)
		return NULL;
	size_t len = 0;
	const char *rest = sealed + strlen(id) + 1 + (second ? strlen(SECOND) : 0);
	uint8_t *nonce = text_base64url_decode(arena, rest, &len);
	if (nonce == NULL || len < NONCE_SIZE + TAG_SIZE || len > NONCE_SIZE + PLAIN_MAX + TAG_SIZE)
		return NULL;
	len -= NONCE_SIZE + TAG_SIZE;
	const uint8_t *text = nonce + NONCE_SIZE;
	uint8_t tag[TAG_SIZE];
	memcpy(tag, text + len, TAG_SIZE);

	char *plain = arena_alloc(arena, len + 1);
	int done = 0;
	bool opened = begin_cipher(ring, key, context, second, nonce, 0) &&
		      EVP_CIPHER_CTX_ctrl(ring->context, EVP_CTRL_AEAD_SET_TAG, TAG_SIZE, tag) == 1 &&
		      EVP_CipherUpdate(ring->context, (uint8_t *)plain, &done, text, (int)len) == 1 &&
		      EVP_CipherFinal_ex(ring->context, (uint8_t *)plain + len, &done) == 1;
	if (!opened) {
		forget_failure(ring);
		/* Until the tag has been compared this is not the plain text, whatever it looks like. */
		crypto_wipe(plain, len);
		return NULL;
	}
	plain[len] = '\0';
	return plain;
}

char *
seal_key_id(struct arena *arena, const char *sealed)
{
	const char *point = sealed == NULL ? NULL : strchr(sealed, '.');
	if (point == NULL)
		return NULL;
	char *id = arena_copy(arena, sealed, (size_t)(point - sealed));
	return is_key_id(id) ? id : NULL;
}

bool
seal_is_second(const char *sealed)
{
	const char *point = sealed == NULL ? NULL : strchr(sealed, '.');
	return point != NULL && strncmp(point + 1, SECOND, strlen(SECOND)) == 0;
}

/* Each part with its length in front, as associated data has them. */
static char *
mac_under(struct arena *arena, const struct key *key, const char *const *parts, size_t count)
{
	uint8_t prefixes[SEAL_MAC_PARTS][4];
	struct crypto_part gathered[2 * SEAL_MAC_PARTS];
	uint8_t mac[CRYPTO_SHA256_SIZE];
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(parts[i]);
		write_length(prefixes[i], (uint32_t)len);
		gathered[2 * i] = (struct crypto_part){prefixes[i], sizeof prefixes[i]};
		gathered[2 * i + 1] = (struct crypto_part){parts[i], len};
	}
	crypto_hmac_sha256(key->mac, sizeof key->mac, gathered, 2 * count, mac);
	return arena_join(arena, key->id, ".", text_base64url(arena, mac, sizeof mac), NULL);
}

char *
seal_mac(struct arena *arena, const struct key_ring *ring, const char *const *parts, size_t count)
{
	return mac_under(arena, &ring->keys[ring->first], parts, count);
}

enum seal_mac_result
seal_mac_check(struct arena *arena, const struct key_ring *ring, const char *const *parts, size_t count,
	       const char *mac)
{
	const char *id = seal_key_id(arena, mac);
	const struct key *key = id == NULL ? NULL : find_key(ring, id);
	if (id == NULL)
		return SEAL_MAC_WRONG;
	if (key == NULL)
		return SEAL_MAC_UNKNOWN_KEY;
	return crypto_equal(mac_under(arena, key, parts, count), mac) ? SEAL_MAC_GOOD : SEAL_MAC_WRONG;
}
