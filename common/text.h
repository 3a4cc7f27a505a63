/*
 * Small questions about text, and its encodings: hex, base64url (RFC 4648 5, without padding), base64 (4), UTF-8,
 * sets of words separated by spaces (OAuth scopes, RFC 6749 3.3).
 */
#ifndef COMMON_TEXT_H
#define COMMON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;

/* Equal as whole strings; NULL equals only NULL. Not for secrets: crypto_equal. */
bool text_equal(const char *a, const char *b);

/* The order of two texts in an array, for qsort and bsearch: by their bytes. */
int text_compare(const void *a, const void *b);

/* Equal without regard to ASCII case. */
bool text_equal_nocase(const char *a, const char *b);

/* An id of an organization or user: [A-Za-z0-9_-]{1,64}. */
bool text_is_id(const char *text);

/* The name of a service or MCP: [a-z][a-z0-9_]{0,31}. */
bool text_is_name(const char *text);

/* FNV-1a, for tables in memory. Another program can choose texts that have the same one. */
uint64_t text_hash(const char *text);

/* Valid UTF-8 (no overlong forms, no surrogates, at most U+10FFFF), and without NUL. */
bool text_is_utf8(const char *bytes, size_t len);

/* Only visible ASCII, 0x21 to 0x7e, and not empty: tokens and codes (RFC 6749 appendix A, without the space). */
bool text_is_visible(const char *text);

/* Decimal digits only, no sign, no spaces, at most `max`: true and *value, or false. */
bool text_to_number(const char *text, uint64_t max, uint64_t *value);

/* Write `value` in decimal at `out`, which has room for 20 characters; the place behind it. No NUL. */
char *text_number(char *out, int64_t value);

/* Lower-case hex of `len` bytes and a NUL: `out` has 2 * len + 1 bytes. */
void text_hex(const uint8_t *bytes, size_t len, char *out);

/* base64url without padding. */
char *text_base64url(struct arena *arena, const uint8_t *bytes, size_t len);

/* Decode base64url, unpadded and canonical; NULL when it is not, else *len bytes. */
uint8_t *text_base64url_decode(struct arena *arena, const char *text, size_t *len);

/* Plain base64 with padding, for HTTP Basic and key files; the decoder returns NULL for what is not canonical. */
char *text_base64(struct arena *arena, const uint8_t *bytes, size_t len);
uint8_t *text_base64_decode(struct arena *arena, const char *text, size_t *len);

/* A set of words: order and repetition do not count. `items` ends in NULL too. */
struct words {
	size_t count;
	const char **items;
};

/* Split at spaces (runs of them, and at the ends, too), dropping repeated words. NULL is the empty set. */
struct words words_split(struct arena *arena, const char *text);

/* Joined by single spaces. */
char *words_join(struct arena *arena, const struct words *words);

bool words_contain(const struct words *words, const char *word);

/* An empty set with room for `most` words, and a word put into it. */
struct words words_open(struct arena *arena, size_t most);
void words_put(struct words *words, const char *word);

/* The words of `a` that are not in `b`, in the order of `a`. */
struct words words_minus(struct arena *arena, const struct words *a, const struct words *b);

#endif
