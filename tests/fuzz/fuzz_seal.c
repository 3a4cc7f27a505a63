/*
 * The input as a sealed value: only the ones of the corpus open, whose text is known. As a key ring: taken whole or
 * refused with a sentence. As a secret and its place: what is sealed opens there and nowhere else, in both forms. As a
 * MAC: of the corpus only.
 */
#include "common/seal.h"
#include "common/text.h"
#include "tests/fuzz/fuzz.h"

/* base64 of 32 equal bytes */
#define KEYS                                                                                                           \
	"k1:ERERERERERERERERERERERERERERERERERERERERERE=\n"                                                            \
	"k2:IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI=\n"

static const struct seal_context place = {
    .environment = "production",
    .organization = "acme",
    .user = "u1",
    .service = "google",
    .field = "credential.refresh_token",
    .issuer = "https://accounts.google.com",
    .client_id = "client-1",
};

static const char *const text_of_corpus = "caller";

static void
open_as_ring(struct arena *arena, const char *text)
{
	const char *mistake = NULL;
	struct key_ring *ring = key_ring_open(arena, text, &mistake);
	must((ring == NULL) == (mistake != NULL));
	if (ring != NULL)
		must(text_is_id(key_ring_first(ring)) && strstr(text, key_ring_first(ring)) != NULL);
	key_ring_close(ring);
}

/* The first half of the text is the secret, the second the user and, with a generation, the account. */
static void
seal_and_open(struct arena *arena, struct key_ring *ring, const char *text, const char *generation)
{
	size_t half = strlen(text) / 2;
	const char *plain = arena_copy(arena, text, half);
	struct seal_context own = place;
	own.user = text + half;
	own.generation = generation;
	own.account = generation != NULL ? own.user : NULL;
	const char *sealed = seal(arena, ring, &own, plain);
	if (sealed == NULL) {
		must(strlen(plain) > 65536 || strlen(own.user) > 65536);
		return;
	}
	must(text_equal(seal_open(arena, ring, &own, sealed), plain));
	struct seal_context other = own;
	other.organization = arena_format(arena, "%s%c", place.organization, 'x');
	must(seal_open(arena, ring, &other, sealed) == NULL);
	other = own;
	other.user = arena_format(arena, "%sx", own.user);
	must(seal_open(arena, ring, &other, sealed) == NULL);
	must(seal_is_second(sealed) == (generation != NULL));
	other = own;
	other.account = arena_format(arena, "%sx", own.user);
	must((seal_open(arena, ring, &other, sealed) == NULL) == (generation != NULL));
	other = own;
	other.generation = generation != NULL ? "generation-2" : NULL;
	must((seal_open(arena, ring, &other, sealed) == NULL) == (generation != NULL));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct key_ring *ring;
	struct arena *arena = fuzz_arena();
	if (ring == NULL) {
		const char *mistake;
		ring = key_ring_open(arena, KEYS, &mistake);
	}
	must(ring != NULL);
	char *text = fuzz_text(data, size);
	const char *plain = seal_open(arena, ring, &place, text);
	if (plain != NULL)
		must(strcmp(plain, "1//MARKER-corpus") == 0);
	open_as_ring(arena, text);
	struct seal_context both = place;
	both.account = "account-1";
	both.generation = "generation-1";
	plain = seal_open(arena, ring, &both, text);
	if (plain != NULL)
		must(strcmp(plain, "1//MARKER-corpus") == 0);
	seal_and_open(arena, ring, text, NULL);
	seal_and_open(arena, ring, text, "generation-1");
	if (seal_mac_check(arena, ring, &text_of_corpus, 1, text) == SEAL_MAC_GOOD)
		must(strcmp(text, seal_mac(arena, ring, &text_of_corpus, 1)) == 0);
	free(text);
	return 0;
}
