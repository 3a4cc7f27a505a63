/*
 * Memory of one request: allocate by bumping a pointer, free everything at once, wiped.
 *
 * An arena grows in chunks up to a limit given at birth. `arena_alloc` never returns NULL: where memory or the limit is
 * exhausted it calls the arena's `exhausted` function, which must not return (a worker ends that one request with
 * `overloaded`; a command ends the program). `arena_try_alloc` is for code that cannot be abandoned.
 */
#ifndef COMMON_ARENA_H
#define COMMON_ARENA_H

#include <stdarg.h>
#include <stddef.h>

struct arena;

/*
 * Make an arena whose first chunk has `first` bytes and which holds at most `limit` bytes in all. `exhausted(arg)` is
 * called by arena_alloc on failure and must not return; NULL stands for abort(). NULL when the first chunk cannot be
 * had.
 */
struct arena *arena_open(size_t first, size_t limit, void (*exhausted)(void *), void *arg);

/* Another one with the limit and the `exhausted` of `arena`, which is called where its first chunk cannot be allocated.
 * For what is thrown away piece by piece while `arena` lives on. */
struct arena *arena_open_like(struct arena *arena, size_t first) __attribute__((returns_nonnull));

/* Wipe and free everything, the arena too. NULL is allowed. */
void arena_close(struct arena *arena);

/* Wipe what was used and keep only the first chunk: the arena is as new. */
void arena_reset(struct arena *arena);

/* Zeroed memory, aligned for any type. Never NULL. */
void *arena_alloc(struct arena *arena, size_t size) __attribute__((returns_nonnull, alloc_size(2)));

/* The same, but NULL on exhaustion. */
void *arena_try_alloc(struct arena *arena, size_t size) __attribute__((alloc_size(2)));

/*
 * An array that grows: room for one more behind its `count` items of `size` bytes. Where they fill a power of two, it
 * moves to a place twice as large. It begins as NULL, and is never grown in another way.
 */
void *arena_grow(struct arena *arena, void *items, size_t count, size_t size) __attribute__((returns_nonnull));

/*
 * Have `size` bytes at hand: what is allocated next, as far as it fits into them, does not fail. For what cannot be
 * done again when memory is missing in its middle.
 */
void arena_reserve(struct arena *arena, size_t size);

/* Copies that end in NUL. `arena_text` takes a C string, `arena_copy` `len` bytes; NULL stays NULL. */
char *arena_text(struct arena *arena, const char *text);
char *arena_copy(struct arena *arena, const void *bytes, size_t len);

/* The texts one behind the other, ended by NULL. */
char *arena_join(struct arena *arena, const char *first, ...) __attribute__((sentinel, returns_nonnull));

/* printf into the arena. */
char *arena_format(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3), returns_nonnull));

/* Bytes in use, for tests. */
size_t arena_used(const struct arena *arena);

#endif
