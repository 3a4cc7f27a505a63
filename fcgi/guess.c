/* One table without chains: what falls into the same slot replaces what was there. */
#include "fcgi/guess.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_BITS 14
#define USER_MAX 55

struct slot {
	uint64_t mark;
	char user[USER_MAX + 1];
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

/* Half of the digits are more than enough to tell sessions apart; the high bits of the product depend on all of them.
 */
static uint64_t
mark_of(const char *hash)
{
	uint64_t first, second;

	memcpy(&first, hash, sizeof first);
	memcpy(&second, hash + sizeof first, sizeof second);
	return (first * UINT64_C(0x9e3779b97f4a7c15)) ^ (second * UINT64_C(0xc2b2ae3d27d4eb4f));
}

const char *
guesses_find(const struct guesses *guesses, const char *hash)
{
	uint64_t mark = mark_of(hash);
	const struct slot *slot = &guesses->slots[mark >> (64 - SLOT_BITS)];

	return slot->mark == mark && slot->user[0] != '\0' ? slot->user : NULL;
}

void
guesses_note(struct guesses *guesses, const char *hash, const char *user)
{
	uint64_t mark = mark_of(hash);
	struct slot *slot = &guesses->slots[mark >> (64 - SLOT_BITS)];
	size_t len = strlen(user);

	if (len > USER_MAX)
		return;
	slot->mark = mark;
	memcpy(slot->user, user, len + 1);
}
