/*
 * Seal small secrets with AES-256-GCM under a ring of keys.
 *
 * A sealed value is text: "<key id>.<base64url of nonce (12), ciphertext, tag (16)>". The nonce is random. Associated
 * data is every part of `struct seal_context` and the key id, each with its length in front (32 bits, big endian), so
 * that a value opens only for the same environment, organization, user, service, field, issuer and client id.
 * The second form, "<key id>.2.<base64url>", is bound to the account and the generation, too. The text says which form
 * it is, and a value is tried as that form only.
 * What does not open is an error of its own, never a plain value.
 *
 * The ring's keys also authenticate what is stored in clear: HMAC-SHA-256 under a key that HKDF derives from each.
 */
#ifndef COMMON_SEAL_H
#define COMMON_SEAL_H

#include <stdbool.h>
#include <stddef.h>

struct arena;
struct key_ring;

struct seal_context {
	const char *environment;
	const char *organization;
	const char *user;
	const char *service;
	const char *field; /* "credential.access_token", "oauth_state.nonce", ... */
	const char *issuer;
	const char *client_id;
	const char *account;    /* of the second form only */
	const char *generation; /* NULL: the first form */
};

/*
 * Read a key ring: lines `id:base64 of 32 bytes` (id [A-Za-z0-9_-]{1,32}); empty lines and lines that begin with # are
 * skipped. The first key seals, all open. At most 16 keys. On a mistake NULL, and *mistake is a sentence that names the
 * line and never its content. Keys live in memory that is locked and kept out of core files where the system allows; a
 * lock does not pass over fork, but a child shares the page of the parent that holds it until it learns keys, and then
 * locks its own.
 */
struct key_ring *key_ring_open(struct arena *arena, const char *text, const char **mistake);
void key_ring_close(struct key_ring *ring);

/* Add the keys of `text` that the ring lacks; where it has no mistake, the first key of `text` seals from now on. */
void key_ring_learn(struct arena *arena, struct key_ring *ring, const char *text);

bool key_ring_has(const struct key_ring *ring, const char *id);

/* Id of the key that seals. */
const char *key_ring_first(const struct key_ring *ring);

/* A new line for a key ring, `id` chosen from the date and random digits. */
char *key_ring_new_line(struct arena *arena);

/* Wipe what the last key was expanded to: at the end of each turn of the loop. Closing the ring does it, too. */
void key_ring_forget_expanded(struct key_ring *ring);

/* Seal `plain`, in the second form where the context has a generation; NULL only when it has more than 64 KiB, or
 * OpenSSL fails. */
char *seal(struct arena *arena, struct key_ring *ring, const struct seal_context *context, const char *plain);

/*
 * Open what `seal` made for the same context; NULL when it is anything else (unknown key, other context, damaged). A
 * value of the first form opens whatever account and generation the context has.
 */
char *seal_open(struct arena *arena, struct key_ring *ring, const struct seal_context *context, const char *sealed);

/* Copy the key id of a sealed value, or NULL when it has no such form. Says nothing about whether it opens. */
char *seal_key_id(struct arena *arena, const char *sealed);

/* Is it of the second form? Likewise. */
bool seal_is_second(const char *sealed);

#define SEAL_MAC_PARTS 8 /* at most */

/* Authenticate these parts, in this order: "<key id>.<base64url of the MAC>". */
char *seal_mac(struct arena *arena, const struct key_ring *ring, const char *const *parts, size_t count);

enum seal_mac_result { SEAL_MAC_GOOD, SEAL_MAC_WRONG, SEAL_MAC_UNKNOWN_KEY };

/* Whether `mac` is what seal_mac made of the same parts, under any key of the ring. */
enum seal_mac_result seal_mac_check(struct arena *arena, const struct key_ring *ring, const char *const *parts,
				    size_t count, const char *mac);

#endif
