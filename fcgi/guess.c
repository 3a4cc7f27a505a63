/* One table without chains: what falls into the same slot replaces what was there. */
#include "fcgi/guess.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_BITS 14
#define TEXT_MAX 55

struct slot {
	uint64_t mark;
	char text[TEXT_MAX + 1]; /* empty: none */
};

struct guesses {
	struct slot slots[1 << SLOT_BITS];
};

struct guesses *
guesses_open(void)
{
	return calloc(1, sizeof(struct guesses));
}

void
guesses_close(struct guesses *guesses)
{
	free(guesses);
}

/* FNV-1a, and a multiplication that makes the high bits depend on all of them. */
static uint64_t
mark_of(const char *key)
{
	uint64_t mark = UINT64_C(0xcbf29ce484222325);

	for (; *key != '\0'; key++)
		mark = (mark ^ (unsigned char)*key) * UINT64_C(0x100000001b3);
	return mark * UINT64_C(0x9e3779b97f4a7c15);
}

static size_t
slot_of(uint64_t mark)
{
	return mark >> (64 - SLOT_BITS);
}

const char *
guesses_find(const struct guesses *guesses, const char *key)
{
	uint64_t mark = mark_of(key);
	const struct slot *slot = &guesses->slots[slot_of(mark)];

	return slot->mark == mark && slot->text[0] != '\0' ? slot->text : NULL;
}

void
guesses_note(struct guesses *guesses, const char *key, const char *text)
{
	uint64_t mark = mark_of(key);
	struct slot *slot = &guesses->slots[slot_of(mark)];
	size_t len = strlen(text);

	if (len > TEXT_MAX)
		return;
	slot->mark = mark;
	memcpy(slot->text, text, len + 1);
}
