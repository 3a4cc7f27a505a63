/*
 * Only the exact name counts, at the start of a pair: no trimming beyond the blanks that separate pairs, so that no
 * other spelling of a name can pass for it. A pair without '=' has no name.
 */
#include "common/cookie.h"

#include "common/arena.h"

#include <stdbool.h>
#include <string.h>

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

size_t
cookie_find(struct arena *arena, const char *header, const char *name, const char **value)
{
	size_t found = 0;
	size_t name_len = strlen(name);
	*value = NULL;
	for (const char *at = header; at != NULL;) {
		while (is_blank(*at))
			at++;
		const char *semicolon = strchr(at, ';');
		const char *end = semicolon != NULL ? semicolon : at + strlen(at);
		if ((size_t)(end - at) > name_len && at[name_len] == '=' && memcmp(at, name, name_len) == 0 &&
		    found++ == 0) {
			const char *first = at + name_len + 1;
			while (first < end && is_blank(*first))
				first++;
			while (first < end && is_blank(end[-1]))
				end--;
			if (end - first >= 2 && *first == '"' && end[-1] == '"') {
				first++;
				end--;
			}
			*value = arena_copy(arena, first, (size_t)(end - first));
		}
		at = semicolon != NULL ? semicolon + 1 : NULL;
	}
	return found;
}
