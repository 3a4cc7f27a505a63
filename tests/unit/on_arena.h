/* For tests of what allocates: one arena for all tests of a group. */
#ifndef TESTS_UNIT_ON_ARENA_H
#define TESTS_UNIT_ON_ARENA_H

#include "common/arena.h"

extern struct arena *arena;

/* cmocka's setup and teardown. */
int on_arena_open(void **state);
int on_arena_close(void **state);

#endif
