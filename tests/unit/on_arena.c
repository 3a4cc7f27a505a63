#include "tests/unit/on_arena.h"

#include <stddef.h>

struct arena *arena;

int
on_arena_open(void **state)
{
	(void)state;
	arena = arena_open(4096, (size_t)64 * 1024 * 1024, NULL, NULL);
	return arena == NULL;
}

int
on_arena_close(void **state)
{
	(void)state;
	arena_close(arena);
	return 0;
}
