/* Sealed values open in their own place, whole, with their own key, and nowhere else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/seal.h"
#include "common/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LENGTH(table) (sizeof(table) / sizeof(table)[0])

/* base64 of 32 equal bytes, of 0x11 and of 0x22 */
#define KEY_1 "ERERERERERERERERERERERERERERERERERERERERERE="
#define KEY_2 "IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI="

static const struct seal_context place = {
    .environment = "production",
    .organization = "acme",
    .user = "u1",
    .service = "google",
    .field = "credential.refresh_token",
    .issuer = "https://accounts.google.com",
    .client_id = "client-1",
};

static const char secret[] = "1//MARKER-refresh-token";

static struct arena *arena;
static struct key_ring *ring;

static struct key_ring *
open_ring(const char *text)
{
	const char *mistake = "untouched";
	struct key_ring *opened = key_ring_open(arena, text, &mistake);
	assert_non_null(opened);
	assert_null(mistake);
	return opened;
}

static int
open_all(void **state)
{
	(void)state;
	arena = arena_open(4096, 64 * 1024 * 1024, NULL, NULL);
	if (arena == NULL)
		return 1;
	ring = open_ring("k1:" KEY_1 "\n");
	return 0;
}

static int
close_all(void **state)
{
	(void)state;
	key_ring_close(ring);
	key_ring_close(NULL);
	arena_close(arena);
	return 0;
}

static void
opens_what_it_sealed(void **state)
{
	(void)state;
	char *big = arena_alloc(arena, 65536 + 2);
	memset(big, 'x', 65537);
	const char *const plains[] = {"", "x", secret, "\xc3\xa4", big + 1};
	for (size_t i = 0; i < LENGTH(plains); i++) {
		char *sealed = seal(arena, ring, &place, plains[i]);
		assert_non_null(sealed);
		assert_memory_equal(sealed, "k1.", 3);
		/* nonce, text and tag, without padding */
		assert_int_equal(strlen(sealed), 3 + ((12 + strlen(plains[i]) + 16) * 4 + 2) / 3);
		assert_string_equal(seal_open(arena, ring, &place, sealed), plains[i]);
		assert_string_equal(seal_key_id(arena, sealed), "k1");
		if (strlen(plains[i]) > 3)
			assert_null(strstr(sealed, plains[i]));
	}
	assert_null(seal(arena, ring, &place, big));
	arena_reset(arena);
}

/* A value made by another program to the letter of the format: stored ones must open for ever. */
static void
opens_what_another_program_sealed(void **state)
{
	(void)state;
	static const char sealed[] = "k1.AAECAwQFBgcICQoLIsyZXjrxfrFGlbDwtt-CVc4MO1vX4Yj1KKVKURrfjV8";
	assert_string_equal(seal_open(arena, ring, &place, sealed), "1//MARKER-corpus");

	static const char second[] = "k1.2.AAECAwQFBgcICQoLIsyZXjrxfrFGlbDwtt-CVSyjnT8r1bf7GNbbafhN4RQ";
	struct seal_context bound = place;
	bound.account = "account-1";
	bound.generation = "generation-1";
	assert_string_equal(seal_open(arena, ring, &bound, second), "1//MARKER-corpus");
}

static struct seal_context
bound_place(void)
{
	struct seal_context bound = place;
	bound.account = "account-1";
	bound.generation = "0123456789abcdef0123456789abcdef";
	return bound;
}

/* The second form: bound to the account and the generation, and to all else as the first. */
static void
binds_account_and_generation(void **state)
{
	(void)state;
	const struct seal_context own = bound_place();
	char *sealed = seal(arena, ring, &own, secret);
	assert_memory_equal(sealed, "k1.2.", 5);
	assert_string_equal(seal_key_id(arena, sealed), "k1");
	assert_string_equal(seal_open(arena, ring, &own, sealed), secret);

	static const char *const others[] = {"x", "", NULL, "account-", "0123456789abcdef0123456789abcde"};
	static const size_t offsets[] = {offsetof(struct seal_context, account),
					 offsetof(struct seal_context, generation), offsetof(struct seal_context, user),
					 offsetof(struct seal_context, service)};
	for (size_t i = 0; i < LENGTH(offsets); i++) {
		for (size_t j = 0; j < LENGTH(others); j++) {
			struct seal_context other = own;
			*(const char **)((char *)&other + offsets[i]) = others[j];
			assert_null(seal_open(arena, ring, &other, sealed));
		}
	}
	struct seal_context swapped = own;
	swapped.account = own.generation;
	swapped.generation = own.account;
	assert_null(seal_open(arena, ring, &swapped, sealed));
	assert_null(seal_open(arena, ring, &place, sealed));
	arena_reset(arena);
}

/* The first form opens for a context of both; neither is tried as the other one, nor as a third. */
static void
tells_the_forms_apart(void **state)
{
	(void)state;
	const struct seal_context both = bound_place();
	char *first = seal(arena, ring, &place, secret);
	char *second = seal(arena, ring, &both, secret);
	assert_false(seal_is_second(first));
	assert_true(seal_is_second(second));
	assert_false(seal_is_second(NULL));
	assert_false(seal_is_second("k1"));
	assert_false(seal_is_second("2.k1"));
	assert_string_equal(seal_open(arena, ring, &both, first), secret);
	assert_null(seal_open(arena, ring, &both, arena_join(arena, "k1.2.", first + 3, NULL)));
	assert_null(seal_open(arena, ring, &both, arena_join(arena, "k1.", second + 5, NULL)));
	assert_null(seal_open(arena, ring, &both, arena_join(arena, "k1.3.", second + 5, NULL)));
	assert_null(seal_open(arena, ring, &both, arena_join(arena, "k1.2.2.", second + 5, NULL)));
	/* A key may be called 2. */
	struct key_ring *other = open_ring("2:" KEY_2 "\n");
	assert_string_equal(seal_open(arena, other, &place, seal(arena, other, &place, secret)), secret);
	assert_string_equal(seal_open(arena, other, &both, seal(arena, other, &both, secret)), secret);
	key_ring_close(other);
	arena_reset(arena);
}

/* Made by another program to the letter of the format: HKDF, HMAC and the lengths of the parts. */
static void
authenticates_parts(void **state)
{
	(void)state;
	static const char *const parts[] = {"caller", "production", "ab"};
	static const char made[] = "k1.7_4ib2KLAuUTQxboTeWGsvZp_n7drXcl1XYZlwQkkr4";
	char *mac = seal_mac(arena, ring, parts, LENGTH(parts));
	assert_string_equal(mac, made);
	assert_int_equal(seal_mac_check(arena, ring, parts, LENGTH(parts), mac), SEAL_MAC_GOOD);

	static const char *const others[][3] = {{"caller", "production", "a"},
						{"caller", "production", "abc"},
						{"caller", "productiona", "b"},
						{"calle", "rproduction", "ab"},
						{"caller", "ab", "production"}};
	for (size_t i = 0; i < LENGTH(others); i++)
		assert_int_equal(seal_mac_check(arena, ring, others[i], 3, mac), SEAL_MAC_WRONG);
	assert_int_equal(seal_mac_check(arena, ring, parts, 2, mac), SEAL_MAC_WRONG);

	static const char *const wrong[] = {"", "k1", "k1.", ".", "no id.x", "k1.AAAA"};
	for (size_t i = 0; i < LENGTH(wrong); i++)
		assert_int_equal(seal_mac_check(arena, ring, parts, 3, wrong[i]), SEAL_MAC_WRONG);
	for (size_t i = 3; mac[i] != '\0'; i++) {
		char *other = arena_text(arena, mac);
		other[i] = other[i] == 'A' ? 'B' : 'A';
		assert_int_equal(seal_mac_check(arena, ring, parts, 3, other), SEAL_MAC_WRONG);
	}
	assert_int_equal(seal_mac_check(arena, ring, parts, 3, arena_join(arena, mac, "A", NULL)), SEAL_MAC_WRONG);
	assert_int_equal(seal_mac_check(arena, ring, parts, 3, arena_join(arena, "k9", mac + 2, NULL)),
			 SEAL_MAC_UNKNOWN_KEY);

	/* Another key of the same name, and another name of the same key that the ring has. */
	struct key_ring *other = open_ring("k1:" KEY_2 "\nk2:" KEY_1 "\n");
	assert_int_equal(seal_mac_check(arena, other, parts, 3, mac), SEAL_MAC_WRONG);
	assert_int_equal(seal_mac_check(arena, other, parts, 3, arena_join(arena, "k2", mac + 2, NULL)), SEAL_MAC_GOOD);
	key_ring_close(other);
	arena_reset(arena);
}

static void
never_seals_twice_alike(void **state)
{
	(void)state;
	enum { COUNT = 1000 };
	char *sealed[COUNT];
	for (size_t i = 0; i < COUNT; i++) {
		sealed[i] = seal(arena, ring, &place, secret);
		/* The nonce is the first 16 digits. */
		for (size_t j = 0; j < i; j++)
			assert_memory_not_equal(sealed[i] + 3, sealed[j] + 3, 16);
	}
	arena_reset(arena);
}

/* Each part of the place is changed, cut, emptied, left out, and swapped with each other part. */
static void
opens_only_in_its_own_place(void **state)
{
	(void)state;
	enum { PARTS = 7 };
	static const size_t offsets[PARTS] = {
	    offsetof(struct seal_context, environment), offsetof(struct seal_context, organization),
	    offsetof(struct seal_context, user),        offsetof(struct seal_context, service),
	    offsetof(struct seal_context, field),       offsetof(struct seal_context, issuer),
	    offsetof(struct seal_context, client_id),
	};
	static const char *const others[] = {"x", "", NULL, "acme ", "acm"};
	char *sealed = seal(arena, ring, &place, secret);
	int refused = 0;
	for (size_t i = 0; i < PARTS; i++) {
		struct seal_context other = place;
		const char **part = (const char **)((char *)&other + offsets[i]);
		const char *own = *part;
		for (size_t j = 0; j < LENGTH(others); j++) {
			*part = others[j];
			assert_null(seal_open(arena, ring, &other, sealed));
			refused++;
		}
		for (size_t j = 0; j < i; j++) {
			const char **swapped = (const char **)((char *)&other + offsets[j]);
			const char *theirs = *swapped;
			*part = theirs;
			*swapped = own;
			assert_null(seal_open(arena, ring, &other, sealed));
			*swapped = theirs;
			refused++;
		}
		*part = own;
		assert_string_equal(seal_open(arena, ring, &other, sealed), secret);
	}
	assert_int_equal(refused, PARTS * (int)LENGTH(others) + PARTS * (PARTS - 1) / 2);
}

/* Text that moves over the border between two parts makes another place. */
static void
parts_do_not_run_together(void **state)
{
	(void)state;
	struct seal_context one = place;
	struct seal_context other = place;
	one.organization = "ab";
	one.user = "c";
	other.organization = "a";
	other.user = "bc";
	assert_null(seal_open(arena, ring, &other, seal(arena, ring, &one, secret)));
	one.organization = "";
	other.organization = NULL;
	other.user = one.user;
	assert_null(seal_open(arena, ring, &other, seal(arena, ring, &one, secret)));
	assert_string_equal(seal_open(arena, ring, &other, seal(arena, ring, &other, secret)), secret);
	/* The key id is the last part: it must not continue the client id. */
	struct key_ring *longer = open_ring("1k1:" KEY_1);
	one = place;
	one.client_id = "client-";
	char *sealed = seal(arena, longer, &one, secret);
	assert_null(seal_open(arena, ring, &place, sealed + 1));
	key_ring_close(longer);
}

static void
bounds_the_parts(void **state)
{
	(void)state;
	struct seal_context other = place;
	char *text = arena_alloc(arena, 65538);
	memset(text, 'x', 65537);
	other.issuer = text;
	assert_null(seal(arena, ring, &other, secret));
	other.issuer = text + 1;
	char *sealed = seal(arena, ring, &other, secret);
	assert_string_equal(seal_open(arena, ring, &other, sealed), secret);
	arena_reset(arena);
}

static void
every_bit_counts(void **state)
{
	(void)state;
	char *sealed = seal(arena, ring, &place, secret);
	size_t len;
	uint8_t *bytes = text_base64url_decode(arena, sealed + 3, &len);
	assert_non_null(bytes);
	assert_int_equal(len, 12 + strlen(secret) + 16);
	for (size_t at = 0; at < len; at++) {
		for (int bit = 0; bit < 8; bit++) {
			bytes[at] ^= (uint8_t)(1 << bit);
			assert_null(seal_open(arena, ring, &place,
					      arena_format(arena, "k1.%s", text_base64url(arena, bytes, len))));
			bytes[at] ^= (uint8_t)(1 << bit);
		}
	}
	assert_string_equal(
	    seal_open(arena, ring, &place, arena_format(arena, "k1.%s", text_base64url(arena, bytes, len))), secret);
	arena_reset(arena);
}

/* Every character of the text replaced by every other, and every shorter and longer text. */
static void
every_character_counts(void **state)
{
	(void)state;
	char *sealed = strdup(seal(arena, ring, &place, secret));
	assert_non_null(sealed);
	size_t len = strlen(sealed);
	for (size_t at = 0; at < len; at++) {
		char own = sealed[at];
		for (int c = 1; c < 128; c++) {
			if (c == own)
				continue;
			sealed[at] = (char)c;
			assert_null(seal_open(arena, ring, &place, sealed));
		}
		sealed[at] = '\0';
		assert_null(seal_open(arena, ring, &place, sealed));
		sealed[at] = own;
		arena_reset(arena);
	}
	assert_null(seal_open(arena, ring, &place, arena_format(arena, "%sA", sealed)));
	assert_null(seal_open(arena, ring, &place, arena_format(arena, "%s=", sealed)));
	assert_null(seal_open(arena, ring, &place, arena_format(arena, " %s", sealed)));
	assert_string_equal(seal_open(arena, ring, &place, sealed), secret);
	free(sealed);
}

static void
never_takes_plain_text(void **state)
{
	(void)state;
	static const char *const rows[] = {NULL,
					   "",
					   "ya29.MARKER-plain",
					   "k1",
					   ".",
					   "k1.",
					   ".AAAA",
					   "k1.A",
					   "k1.AAAA",
					   "k2.AAAA",
					   "k1..AAAA",
					   "k1:AAAA",
					   "K1.AAAA",
					   "k1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", /* 28 zero bytes */
					   "k1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
	for (size_t i = 0; i < LENGTH(rows); i++)
		assert_null(seal_open(arena, ring, &place, rows[i]));
}

static void
tells_the_key_id(void **state)
{
	(void)state;
	static const struct {
		const char *sealed;
		const char *id;
	} rows[] = {
	    {NULL, NULL},
	    {"", NULL},
	    {".", NULL},
	    {"k1", NULL},
	    {".AAAA", NULL},
	    {"k1.", "k1"},
	    {"k1.x.y", "k1"},
	    {"unknown.AAAA", "unknown"},
	    {"a b.AAAA", NULL},
	    {"a:b.AAAA", NULL},
	    {"12345678901234567890123456789012.A", "12345678901234567890123456789012"},
	    {"123456789012345678901234567890123.A", NULL},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		const char *id = seal_key_id(arena, rows[i].sealed);
		if (rows[i].id == NULL)
			assert_null(id);
		else
			assert_string_equal(id, rows[i].id);
	}
}

static void
rotates(void **state)
{
	(void)state;
	struct key_ring *both = open_ring("k2:" KEY_2 "\nk1:" KEY_1 "\n");
	struct key_ring *renamed = open_ring("k2:" KEY_1);
	char *old = seal(arena, ring, &place, secret);
	char *new = seal(arena, both, &place, secret);
	assert_string_equal(key_ring_first(ring), "k1");
	assert_string_equal(key_ring_first(both), "k2");
	assert_string_equal(seal_key_id(arena, new), "k2");
	assert_string_equal(seal_open(arena, both, &place, old), secret);
	assert_string_equal(seal_open(arena, both, &place, new), secret);
	assert_null(seal_open(arena, ring, &place, new));
	/* The id is bound too: the same bytes under another name do not open. */
	assert_null(seal_open(arena, renamed, &place, old));
	assert_null(seal_open(arena, renamed, &place, arena_format(arena, "k2%s", old + 2)));
	/* Another key under the same name does not, either. */
	assert_null(seal_open(arena, both, &place, arena_format(arena, "k2%s", old + 2)));
	assert_string_equal(seal_open(arena, both, &place, old), secret);
	key_ring_close(both);
	key_ring_close(renamed);
}

static void
reads_key_rings(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *first;
	} rows[] = {
	    {"k1:" KEY_1, "k1"},
	    {"\n\n# made today\n  \nk1:" KEY_1 "\n\n", "k1"},
	    {"a:" KEY_2 "\r\nb:" KEY_1 "\r\n", "a"},
	    {"  a:" KEY_2 "  \n\tb:" KEY_1 "\t", "a"},
	    {"#x:" KEY_2 "\nA-Z_9:" KEY_1, "A-Z_9"},
	    {"12345678901234567890123456789012:" KEY_1, "12345678901234567890123456789012"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct key_ring *opened = open_ring(rows[i].text);
		assert_string_equal(key_ring_first(opened), rows[i].first);
		key_ring_close(opened);
	}
}

/* A mistake names its line and nothing of what stands there. */
static void
names_mistakes_without_their_content(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *line; /* NULL: of the whole */
	} rows[] = {
	    {NULL, NULL},
	    {"", NULL},
	    {"\n# nothing\n", NULL},
	    {"MARKER", "line 1 "},
	    {"k1:" KEY_1 "\nMARKER\n", "line 2 "},
	    {"\n#\n:MARKER" KEY_1, "line 3 "},
	    {":" KEY_1, "line 1 "},
	    {"k1:", "line 1 "},
	    {"k1:MARKER", "line 1 "},
	    {"k1:" KEY_1 "MARKER", "line 1 "},
	    {"k1: " KEY_1, "line 1 "},
	    {"k1 :" KEY_1, "line 1 "},
	    {"k.1:" KEY_1, "line 1 "},
	    {"MARKER MARKER:" KEY_1, "line 1 "},
	    {"123456789012345678901234567890123:" KEY_1, "line 1 "},
	    {"k1:ERERERERERERERERERERERERERERERERERERERERERE", "line 1 "},  /* no padding */
	    {"k1:ERERERERERERERERERERERERERERERERERERERERERF=", "line 1 "}, /* not canonical */
	    {"k1:ERERERERERERERERERERERERERERERERERERERERE==", "line 1 "},  /* 31 bytes */
	    {"k1:ERERERERERERERERERERERERERERERERERERERERERER", "line 1 "}, /* 33 bytes */
	    {"k1:" KEY_1 "\nk1:" KEY_2, "line 2 "},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		const char *mistake = NULL;
		assert_null(key_ring_open(arena, rows[i].text, &mistake));
		assert_non_null(mistake);
		if (rows[i].line != NULL)
			assert_non_null(strstr(mistake, rows[i].line));
		assert_null(strstr(mistake, "MARKER"));
		assert_null(strstr(mistake, "ERERER"));
		assert_null(strstr(mistake, "12345678"));
	}
}

static void
holds_sixteen_keys(void **state)
{
	(void)state;
	char *text = arena_text(arena, "");
	for (int i = 1; i <= 17; i++) {
		text = arena_format(arena, "%sk%d:%s\n", text, i, KEY_1);
		const char *mistake;
		struct key_ring *opened = key_ring_open(arena, text, &mistake);
		if (i <= 16)
			assert_non_null(opened);
		else
			assert_null(opened);
		key_ring_close(opened);
	}
}

/* A ring that was read before its file got a new first key: what is sealed under that opens, and seals. */
static void
learns_keys(void **state)
{
	(void)state;
	const struct seal_context context = {"test", "acme", "u1", "google", "field", "issuer", "client", NULL, NULL};
	const char *before = arena_format(arena, "old:%s\n", KEY_1);
	const char *after = arena_format(arena, "# a comment\nnew:%s\nold:%s\n", KEY_2, KEY_1);
	const char *mistake;
	struct key_ring *early = key_ring_open(arena, before, &mistake);
	struct key_ring *late = key_ring_open(arena, after, &mistake);
	const char *sealed = seal(arena, late, &context, "secret");

	assert_null(seal_open(arena, early, &context, sealed));
	assert_false(key_ring_has(early, "new"));
	key_ring_learn(arena, early, "new:not base64\n");
	assert_false(key_ring_has(early, "new"));
	assert_string_equal(key_ring_first(early), "old");
	key_ring_learn(arena, early, after);
	assert_true(key_ring_has(early, "new") && key_ring_has(early, "old"));
	assert_string_equal(key_ring_first(early), "new");
	assert_string_equal(seal_open(arena, early, &context, sealed), "secret");
	assert_string_equal(seal_open(arena, late, &context, seal(arena, early, &context, "back")), "back");
	key_ring_close(early);
	key_ring_close(late);
}

#ifndef __SANITIZE_ADDRESS__ /* which leaves mlock out */
/* How much memory of this process is locked, in KiB. */
static long
locked(void)
{
	FILE *file = fopen("/proc/self/status", "r");
	char line[256];
	long size = 0;

	if (file == NULL)
		return 0;
	while (fgets(line, sizeof line, file) != NULL)
		if (strncmp(line, "VmLck:", 6) == 0)
			size = strtol(line + 6, NULL, 10);
	fclose(file);
	return size;
}

/* A worker writes to a page that it shared with its parent until then. */
static void
locks_what_a_child_learns(void **state)
{
	(void)state;
	struct key_ring *opened = open_ring("old:" KEY_1 "\n");
	int status;
	pid_t child;

	if (locked() == 0) {
		key_ring_close(opened);
		skip(); /* not allowed here */
	}
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		long before = locked();

		key_ring_learn(arena, opened, "new:" KEY_2 "\n");
		_exit(before == 0 && locked() > 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	key_ring_close(opened);
}
#endif

/* The id of the first key lies beside the key. */
static void
keys_are_kept_out_of_core_files(void **state)
{
	(void)state;
	const uintptr_t wanted = (uintptr_t)key_ring_first(ring);
	FILE *maps = fopen("/proc/self/smaps", "r");
	char line[512];
	bool inside = false;
	bool found = false;
	assert_non_null(maps);
	while (!found && fgets(line, sizeof line, maps) != NULL) {
		char *end;
		uintptr_t from = strtoull(line, &end, 16);
		if (*end == '-')
			inside = wanted >= from && wanted < strtoull(end + 1, NULL, 16);
		if (inside && strncmp(line, "VmFlags:", 8) == 0) {
			assert_non_null(strstr(line, " dd"));
			found = true;
		}
	}
	fclose(maps);
	assert_true(found);
}

#ifndef __SANITIZE_ADDRESS__ /* which has a heap of its own */
static bool
heap_holds(const void *bytes, size_t len)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];
	bool holds = false;
	assert_non_null(maps);
	while (fgets(line, sizeof line, maps) != NULL) {
		char *end;
		const char *from = (const char *)strtoull(line, &end, 16);
		if (strstr(line, "[heap]") != NULL)
			holds = memmem(from, (size_t)((const char *)strtoull(end + 1, NULL, 16) - from), bytes, len) !=
				NULL;
	}
	fclose(maps);
	return holds;
}

/* OpenSSL's expanded key begins with the key itself. */
static void
leaves_no_key_behind_when_it_rests(void **state)
{
	(void)state;
	struct key_ring *both = open_ring("k1:" KEY_1 "\nk3:MzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzM=\n");
	struct key_ring *other = open_ring("k3:MzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzM=\n");
	char *first = seal(arena, both, &place, secret);
	uint8_t key[32];
	memset(key, 0x33, sizeof key);
	assert_false(heap_holds(key, sizeof key));
	char *sealed = seal(arena, other, &place, secret);
	assert_true(heap_holds(key, sizeof key));
	key_ring_forget_expanded(other);
	assert_false(heap_holds(key, sizeof key));
	assert_string_equal(seal_open(arena, both, &place, sealed), secret);
	assert_string_equal(seal_open(arena, both, &place, first), secret);
	assert_false(heap_holds(key, sizeof key));
	key_ring_forget_expanded(both);
	key_ring_forget_expanded(both);
	assert_string_equal(seal_open(arena, both, &place, first), secret);
	assert_string_equal(seal_open(arena, other, &place, sealed), secret);
	key_ring_close(other);
	key_ring_close(both);
	assert_false(heap_holds(key, sizeof key));
}
#endif

static void
makes_new_lines(void **state)
{
	(void)state;
	char *one = key_ring_new_line(arena);
	char *two = key_ring_new_line(arena);
	assert_string_not_equal(one, two);
	struct key_ring *both = open_ring(arena_format(arena, "%s\n%s\n", one, two));
	assert_memory_equal(one, key_ring_first(both), strlen(key_ring_first(both)));
	assert_string_equal(seal_open(arena, both, &place, seal(arena, both, &place, secret)), secret);
	key_ring_close(both);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(opens_what_it_sealed),
	    cmocka_unit_test(opens_what_another_program_sealed),
	    cmocka_unit_test(binds_account_and_generation),
	    cmocka_unit_test(tells_the_forms_apart),
	    cmocka_unit_test(authenticates_parts),
	    cmocka_unit_test(never_seals_twice_alike),
	    cmocka_unit_test(opens_only_in_its_own_place),
	    cmocka_unit_test(parts_do_not_run_together),
	    cmocka_unit_test(bounds_the_parts),
	    cmocka_unit_test(every_bit_counts),
	    cmocka_unit_test(every_character_counts),
	    cmocka_unit_test(never_takes_plain_text),
	    cmocka_unit_test(tells_the_key_id),
	    cmocka_unit_test(rotates),
	    cmocka_unit_test(reads_key_rings),
	    cmocka_unit_test(names_mistakes_without_their_content),
	    cmocka_unit_test(holds_sixteen_keys),
	    cmocka_unit_test(learns_keys),
#ifndef __SANITIZE_ADDRESS__
	    cmocka_unit_test(locks_what_a_child_learns),
#endif
	    cmocka_unit_test(keys_are_kept_out_of_core_files),
#ifndef __SANITIZE_ADDRESS__
	    cmocka_unit_test(leaves_no_key_behind_when_it_rests),
#endif
	    cmocka_unit_test(makes_new_lines),
	};
	return cmocka_run_group_tests_name("seal", tests, open_all, close_all);
}
