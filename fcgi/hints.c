/*
 * Two tables without chains: a key's mark says which row it belongs to, and a row has room for a few marks, side by
 * side, so that a look takes one line of the processor's cache. Where a row is full, a new one replaces any of them.
 */
#include "fcgi/hints.h"

#include "common/text.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ROOM 4 /* marks in a row */
#define TEXT_ROW_BITS 13
#define SEEN_ROW_BITS 14
#define TEXT_MAX 39 /* a UUID, and some more */

struct row {
	uint64_t marks[ROOM]; /* 0: free */
};

struct hints {
	struct row texts[1 << TEXT_ROW_BITS];
	struct row seen[1 << SEEN_ROW_BITS];
	char text[1 << TEXT_ROW_BITS][ROOM][TEXT_MAX + 1];
};

struct hints *
hints_open(void)
{
	return calloc(1, sizeof(struct hints));
}

void
hints_close(struct hints *hints)
{
	free(hints);
}

/* The high bits depend on all others by the multiplication. */
static uint64_t
mark_of(const char *key)
{
	return text_hash(key) * UINT64_C(0x9e3779b97f4a7c15);
}

static size_t
place_of(uint64_t mark, unsigned bits)
{
	return mark >> (64 - bits);
}

/* Where in the row; ROOM: nowhere. */
static size_t
find_in_row(const struct row *row, uint64_t mark)
{
	size_t i = 0;

	while (i < ROOM && row->marks[i] != mark)
		i++;
	return i;
}

/* Its own place, else a free one, else one that is as good as any: the row depends on other bits. */
static size_t
put_in_row(struct row *row, uint64_t mark)
{
	size_t i = find_in_row(row, mark);

	if (i == ROOM)
		i = find_in_row(row, 0);
	if (i == ROOM)
		i = mark % ROOM;
	row->marks[i] = mark;
	return i;
}

const char *
hints_find(const struct hints *hints, const char *key)
{
	uint64_t mark = mark_of(key);
	size_t place = place_of(mark, TEXT_ROW_BITS);
	size_t i = find_in_row(&hints->texts[place], mark);

	return i < ROOM ? hints->text[place][i] : NULL;
}

void
hints_note(struct hints *hints, const char *key, const char *text)
{
	uint64_t mark = mark_of(key);
	size_t place = place_of(mark, TEXT_ROW_BITS);
	size_t len = strlen(text);

	if (len <= TEXT_MAX)
		memcpy(hints->text[place][put_in_row(&hints->texts[place], mark)], text, len + 1);
}

bool
hints_seen(const struct hints *hints, const char *key)
{
	uint64_t mark = mark_of(key);

	return find_in_row(&hints->seen[place_of(mark, SEEN_ROW_BITS)], mark) < ROOM;
}

void
hints_note_seen(struct hints *hints, const char *key)
{
	uint64_t mark = mark_of(key);

	put_in_row(&hints->seen[place_of(mark, SEEN_ROW_BITS)], mark);
}
