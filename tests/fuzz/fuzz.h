/*
 * What all fuzz targets share. A target looks for more than crashes: `must` states what holds for every input, and ends
 * the process where it does not, in any build.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include "common/arena.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define must(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #condition);                     \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* The entry point that libFuzzer and replay.c call; always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The arena of a target, opened once and emptied before each input. */
static inline struct arena *
fuzz_arena(void)
{
	static struct arena *arena;
	if (arena == NULL)
		arena = arena_open(65536, (size_t)256 * 1024 * 1024, NULL, NULL);
	must(arena != NULL);
	arena_reset(arena);
	return arena;
}

/* The input as a C string in memory of exactly its size, so that a read beyond it shows; free it. */
static inline char *
fuzz_text(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	must(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	return text;
}

#endif
