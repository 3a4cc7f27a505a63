/* The Cookie header (RFC 6265 4.2.1). */
#ifndef COMMON_COOKIE_H
#define COMMON_COOKIE_H

#include <stddef.h>

struct arena;

/*
 * How often the cookie `name` (exact, case matters) stands in `header` (NULL: none); *value is the first one's value
 * in the arena, without surrounding double quotes, possibly "".
 */
size_t cookie_find(struct arena *arena, const char *header, const char *name, const char **value);

#endif
