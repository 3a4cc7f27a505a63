/* cookie_find: the value is a part of the header, and no cookie is counted that is not there. */
#include "common/cookie.h"
#include "tests/fuzz/fuzz.h"

static void
find(struct arena *arena, const char *header, const char *name)
{
	const char *pattern = arena_format(arena, "%s=", name);
	size_t most = 0;
	for (const char *at = header; (at = strstr(at, pattern)) != NULL; at++)
		most++;
	const char *value = "untouched";
	size_t found = cookie_find(arena, header, name, &value);
	must(found <= most);
	must((value != NULL) == (found > 0));
	if (value != NULL)
		must(strstr(header, value) != NULL && strchr(value, ';') == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = fuzz_arena();
	char *header = fuzz_text(data, size);
	find(arena, header, "session");
	find(arena, header, "__Host-session");
	find(arena, header, "a");
	free(header);
	return 0;
}
