/*
 * Read JSON (RFC 8259) over yajl's SAX parser into a tree in an arena.
 *
 * Bounded: depth 16, 4,096 values, 256 members in an object, and the caller's limit on bytes. Refused: invalid UTF-8,
 * NUL in a string (also as \u0000), half a surrogate pair, a repeated member, comments, anything after the value. yajl
 * allocates from the arena, too. Numbers keep their text; only integers that fit are offered as numbers.
 */
#ifndef COMMON_JSON_READ_H
#define COMMON_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

struct json {
	enum json_type type;
	const char *key;    /* name of this member in its object, else NULL */
	const char *text;   /* JSON_STRING: the string; JSON_NUMBER: as written */
	bool boolean;       /* JSON_BOOL */
	size_t count;       /* JSON_ARRAY, JSON_OBJECT: number of children */
	struct json *first; /* first child */
	struct json *next;  /* next sibling */
};

/* Parse `len` bytes. NULL when they are not one valid document within the limits. */
const struct json *json_read(struct arena *arena, const char *bytes, size_t len);

/* The member `key` of an object; NULL when absent or `object` is not an object (or NULL). */
const struct json *json_member(const struct json *object, const char *key);

/* The member's value when it is a string, else NULL. */
const char *json_string(const struct json *object, const char *key);

/* True and *value when the member is an integer, or (lenient: providers send "3599") a string of digits. */
bool json_integer(const struct json *object, const char *key, int64_t *value);

/* The member's boolean, or `fallback` when it is absent or something else. */
bool json_boolean(const struct json *object, const char *key, bool fallback);

#endif
