/*
 * Memory that no request uses is always zero: chunks come zeroed from the system and what was used is wiped on reset.
 * So an allocation is one addition, and the wipe that secrets need anyway is the only clearing ever done.
 *
 * The first chunk stays with the arena. Later ones double up to CHUNK_MAX; an allocation too big for that gets a chunk
 * of its own, and the chunk in use stays in use. Under AddressSanitizer everything not handed out is poisoned, with a
 * gap after each allocation.
 */
#include "common/arena.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#define GAP 16
#define POISON(bytes, len) ASAN_POISON_MEMORY_REGION(bytes, len)
#define UNPOISON(bytes, len) ASAN_UNPOISON_MEMORY_REGION(bytes, len)
#else
#define GAP 0
#define POISON(bytes, len) ((void)(bytes), (void)(len))
#define UNPOISON(bytes, len) ((void)(bytes), (void)(len))
#endif

#define ALIGNMENT 16
#define CHUNK_MAX ((size_t)64 * 1024)
#define FORMAT_STACK 256

struct chunk {
	struct chunk *older;
	char *end;
	char *used; /* how far it was filled; of the chunk in use `arena->next` tells */
	_Alignas(ALIGNMENT) char data[];
};

struct arena {
	char *next; /* free part of the chunk in use */
	char *end;
	struct chunk *current;
	struct chunk *first;
	struct chunk *newest; /* list of all, by age; own chunks of big allocations too */
	size_t held;          /* bytes of all chunks */
	size_t limit;
	size_t chunk_size; /* of the chunk in use */
	void (*exhausted)(void *);
	void *arg;
};

/* The caller has compared `size` with the limit. */
static struct chunk *
add_chunk(struct arena *arena, size_t size)
{
	struct chunk *chunk = calloc(1, sizeof *chunk + size);
	if (chunk == NULL)
		return NULL;
	chunk->end = chunk->data + size;
	chunk->used = chunk->data;
	chunk->older = arena->newest;
	arena->newest = chunk;
	arena->held += size;
	POISON(chunk->data, size);
	return chunk;
}

static void
wipe(struct chunk *chunk)
{
	size_t len = (size_t)(chunk->used - chunk->data);
	UNPOISON(chunk->data, len);
	explicit_bzero(chunk->data, len);
}

static void
use(struct arena *arena, struct chunk *chunk)
{
	if (arena->current != NULL)
		arena->current->used = arena->next;
	arena->current = chunk;
	arena->next = chunk->data;
	arena->end = chunk->end;
	arena->chunk_size = (size_t)(chunk->end - chunk->data);
}

/* The chunk in use has no room for `need` bytes (a multiple of ALIGNMENT). */
static __attribute__((noinline)) void *
take_elsewhere(struct arena *arena, size_t need, size_t size)
{
	size_t left = arena->limit - arena->held;
	if (need > left)
		return NULL;
	size_t usual = arena->chunk_size < CHUNK_MAX / 2 ? arena->chunk_size * 2 : CHUNK_MAX;
	if (usual > left)
		usual = left - left % ALIGNMENT;
	bool own = need > usual;
	struct chunk *chunk = add_chunk(arena, own ? need : usual);
	if (chunk == NULL)
		return NULL;
	if (own) {
		chunk->used = chunk->end;
	} else {
		use(arena, chunk);
		arena->next += need;
	}
	UNPOISON(chunk->data, size);
	return chunk->data;
}

static inline void *
take_block(struct arena *arena, size_t size)
{
	if (size > arena->limit)
		return NULL;
	size_t need = (size + (size == 0) + GAP + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	if (__builtin_expect(need > (size_t)(arena->end - arena->next), 0))
		return take_elsewhere(arena, need, size);
	char *bytes = arena->next;
	arena->next += need;
	UNPOISON(bytes, size);
	return bytes;
}

static _Noreturn __attribute__((noinline, cold)) void
give_up(struct arena *arena)
{
	if (arena->exhausted != NULL)
		arena->exhausted(arena->arg);
	abort();
}

struct arena *
arena_open(size_t first, size_t limit, void (*exhausted)(void *), void *arg)
{
	/* Sizes far beyond any memory would overflow when rounded. */
	if (first > SIZE_MAX / 4 || limit > SIZE_MAX / 4 || first > limit)
		return NULL;
	struct arena *arena = calloc(1, sizeof *arena);
	if (arena == NULL)
		return NULL;
	arena->limit = limit;
	arena->exhausted = exhausted;
	arena->arg = arg;
	arena->first = add_chunk(arena, first - first % ALIGNMENT);
	if (arena->first == NULL) {
		free(arena);
		return NULL;
	}
	use(arena, arena->first);
	return arena;
}

struct arena *
arena_open_like(struct arena *arena, size_t first)
{
	struct arena *other = arena_open(first, arena->limit, arena->exhausted, arena->arg);

	if (other == NULL)
		give_up(arena);
	return other;
}

void
arena_close(struct arena *arena)
{
	if (arena == NULL)
		return;
	arena_reset(arena);
	UNPOISON(arena->first->data, (size_t)(arena->first->end - arena->first->data));
	free(arena->first);
	free(arena);
}

void
arena_reset(struct arena *arena)
{
	arena->current->used = arena->next;
	while (arena->newest != arena->first) {
		struct chunk *chunk = arena->newest;
		arena->newest = chunk->older;
		arena->held -= (size_t)(chunk->end - chunk->data);
		wipe(chunk);
		UNPOISON(chunk->data, (size_t)(chunk->end - chunk->data));
		free(chunk);
	}
	wipe(arena->first);
	POISON(arena->first->data, (size_t)(arena->first->end - arena->first->data));
	arena->current = NULL;
	use(arena, arena->first);
}

void *
arena_alloc(struct arena *arena, size_t size)
{
	void *bytes = take_block(arena, size);
	if (__builtin_expect(bytes == NULL, 0))
		give_up(arena);
	return bytes;
}

void *
arena_try_alloc(struct arena *arena, size_t size)
{
	return take_block(arena, size);
}

void *
arena_grow(struct arena *arena, void *items, size_t count, size_t size)
{
	void *grown;

	if ((count & (count - 1)) != 0)
		return items;
	grown = arena_alloc(arena, (count > 0 ? 2 * count : 1) * size);
	if (count > 0)
		memcpy(grown, items, count * size);
	return grown;
}

void
arena_reserve(struct arena *arena, size_t size)
{
	size_t need = (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
	struct chunk *chunk;

	if (size <= (size_t)(arena->end - arena->next))
		return;
	chunk = size <= arena->limit && need <= arena->limit - arena->held ? add_chunk(arena, need) : NULL;
	if (chunk == NULL)
		give_up(arena);
	use(arena, chunk);
}

char *
arena_copy(struct arena *arena, const void *bytes, size_t len)
{
	if (bytes == NULL)
		return NULL;
	if (len > arena->limit)
		give_up(arena);
	char *copy = arena_alloc(arena, len + 1);
	memcpy(copy, bytes, len);
	return copy;
}

char *
arena_text(struct arena *arena, const char *text)
{
	return text == NULL ? NULL : arena_copy(arena, text, strlen(text));
}

char *
arena_join(struct arena *arena, const char *first, ...)
{
	size_t len = 0;
	va_list args;
	va_start(args, first);
	for (const char *text = first; text != NULL; text = va_arg(args, const char *))
		len += strlen(text);
	va_end(args);

	char *joined = arena_alloc(arena, len + 1);
	char *at = joined;
	va_start(args, first);
	for (const char *text = first; text != NULL; text = va_arg(args, const char *))
		at = stpcpy(at, text);
	va_end(args);
	return joined;
}

char *
arena_format(struct arena *arena, const char *format, ...)
{
	char first[FORMAT_STACK];
	va_list args;
	va_start(args, format);
	int len = vsnprintf(first, sizeof first, format, args);
	va_end(args);
	if (len < 0)
		give_up(arena);

	size_t size = (size_t)len + 1;
	char *text = arena_alloc(arena, size);
	if (size <= sizeof first) {
		memcpy(text, first, size);
	} else {
		va_start(args, format);
		vsnprintf(text, size, format, args);
		va_end(args);
	}
	/* What is formatted may be secret, and this stack is used again by others. */
	explicit_bzero(first, size < sizeof first ? size : sizeof first);
	return text;
}

size_t
arena_used(const struct arena *arena)
{
	size_t used = (size_t)(arena->next - arena->current->data);
	for (const struct chunk *chunk = arena->newest; chunk != NULL; chunk = chunk->older)
		if (chunk != arena->current)
			used += (size_t)(chunk->used - chunk->data);
	return used;
}
