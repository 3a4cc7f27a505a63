/*
 * Write JSON (RFC 8259) into a buf.
 *
 * `key` is the member's name inside an object and NULL inside an array or at the top; a word of the program, written as
 * it is. Misuse, invalid UTF-8 in a value or a full buffer sets a sticky failure; json_write_finish tells.
 */
#ifndef COMMON_JSON_WRITE_H
#define COMMON_JSON_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct words;
struct json_write;

/* Start a document of at most `max` bytes. */
struct json_write *json_write_open(struct arena *arena, size_t max);

void json_write_object(struct json_write *json, const char *key);
void json_write_object_end(struct json_write *json);
void json_write_array(struct json_write *json, const char *key);
void json_write_array_end(struct json_write *json);
void json_write_string(struct json_write *json, const char *key, const char *value); /* NULL writes null */
void json_write_number(struct json_write *json, const char *key, int64_t value);
void json_write_bool(struct json_write *json, const char *key, bool value);
void json_write_words(struct json_write *json, const char *key, const struct words *words); /* array of strings */

/* The document, *len bytes, in the arena; NULL when anything failed or a container is still open. */
const char *json_write_finish(struct json_write *json, size_t *len);

#endif
