/* Two tables without chains. A key has two slots, side by side: a third one that falls there replaces one of them. */
#include "fcgi/guess.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_BITS 14
#define SEEN_BITS 16
#define TEXT_MAX 55

struct slot {
	uint64_t mark;
	char text[TEXT_MAX + 1]; /* empty: none */
};

struct guesses {
	struct slot slots[1 << SLOT_BITS];
	uint64_t seen[1 << SEEN_BITS];
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
place_of(uint64_t mark, unsigned bits)
{
	return mark >> (64 - bits);
}

/* Of the two that lie side by side there, the one with this mark, else a free one, else one of them. */
static struct slot *
slot_for(struct guesses *guesses, uint64_t mark)
{
	size_t place = place_of(mark, SLOT_BITS);
	struct slot *first = &guesses->slots[place];
	struct slot *second = &guesses->slots[place ^ 1];

	return first->mark == mark || (first->mark == 0 && second->mark != mark) ? first
	       : second->mark == mark || second->mark == 0                       ? second
										 : first;
}

const char *
guesses_find(const struct guesses *guesses, const char *key)
{
	uint64_t mark = mark_of(key);
	size_t place = place_of(mark, SLOT_BITS);
	const struct slot *slot = &guesses->slots[guesses->slots[place].mark == mark ? place : place ^ 1];

	return slot->mark == mark && slot->text[0] != '\0' ? slot->text : NULL;
}

void
guesses_note(struct guesses *guesses, const char *key, const char *text)
{
	uint64_t mark = mark_of(key);
	struct slot *slot = slot_for(guesses, mark);
	size_t len = strlen(text);

	if (len > TEXT_MAX)
		return;
	slot->mark = mark;
	memcpy(slot->text, text, len + 1);
}

bool
guesses_seen(const struct guesses *guesses, const char *key)
{
	uint64_t mark = mark_of(key);
	size_t place = place_of(mark, SEEN_BITS);

	return guesses->seen[place] == mark || guesses->seen[place ^ 1] == mark;
}

void
guesses_note_seen(struct guesses *guesses, const char *key)
{
	uint64_t mark = mark_of(key);
	size_t place = place_of(mark, SEEN_BITS);

	if (!guesses_seen(guesses, key))
		guesses->seen[guesses->seen[place] == 0 ? place : place ^ 1] = mark;
}
