/*
 * Characters are judged by tables of our own: <ctype.h> depends on the locale. Decoders take only the one canonical
 * spelling of their bytes, so that no two texts mean the same secret.
 */
#include "common/text.h"

#include "common/arena.h"

#include <string.h>

#define FEW_WORDS 16

static const char base64_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char base64url_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static bool
is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static char
to_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool
text_equal(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	return strcmp(a, b) == 0;
}

int
text_compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

bool
text_equal_nocase(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	size_t i = 0;
	while (a[i] != '\0' && to_lower(a[i]) == to_lower(b[i]))
		i++;
	return a[i] == b[i];
}

bool
text_is_id(const char *text)
{
	if (text == NULL)
		return false;
	size_t len = 0;
	for (; text[len] != '\0'; len++) {
		char c = text[len];
		if (len == 64 || !(is_lower(to_lower(c)) || is_digit(c) || c == '_' || c == '-'))
			return false;
	}
	return len > 0;
}

bool
text_is_name(const char *text)
{
	if (text == NULL || !is_lower(text[0]))
		return false;
	for (size_t len = 1; text[len] != '\0'; len++) {
		char c = text[len];
		if (len == 32 || !(is_lower(c) || is_digit(c) || c == '_'))
			return false;
	}
	return true;
}

bool
text_is_utf8(const char *bytes, size_t len)
{
	const uint8_t *at = (const uint8_t *)bytes;
	const uint8_t *end = at + len;
	while (at < end) {
		/* Nearly all text is ASCII: look at eight bytes at once. A zero byte borrows from its top bit. */
		while (end - at >= 8) {
			uint64_t word;
			memcpy(&word, at, sizeof word);
			if (((word | (word - UINT64_C(0x0101010101010101))) & UINT64_C(0x8080808080808080)) != 0)
				break;
			at += 8;
		}
		while (at < end && *at < 0x80 && *at != 0)
			at++;
		if (at == end)
			break;
		uint8_t lead = *at++;
		/* The second byte's bounds exclude overlong forms, surrogates and what lies above U+10FFFF. */
		unsigned more = 0;
		uint8_t low = 0x80;
		uint8_t high = 0xbf;
		if (lead >= 0xc2 && lead <= 0xdf) {
			more = 1;
		} else if (lead >= 0xe0 && lead <= 0xef) {
			more = 2;
			if (lead == 0xe0)
				low = 0xa0;
			if (lead == 0xed)
				high = 0x9f;
		} else if (lead >= 0xf0 && lead <= 0xf4) {
			more = 3;
			if (lead == 0xf0)
				low = 0x90;
			if (lead == 0xf4)
				high = 0x8f;
		} else {
			return false;
		}
		for (; more > 0; more--) {
			if (at == end || *at < low || *at > high)
				return false;
			at++;
			low = 0x80;
			high = 0xbf;
		}
	}
	return true;
}

bool
text_is_visible(const char *text)
{
	if (text == NULL || *text == '\0')
		return false;
	for (; *text != '\0'; text++)
		if (*text < 0x21 || *text > 0x7e)
			return false;
	return true;
}

bool
text_to_number(const char *text, uint64_t max, uint64_t *value)
{
	if (text == NULL || *text == '\0')
		return false;
	uint64_t number = 0;
	for (; *text != '\0'; text++) {
		if (!is_digit(*text))
			return false;
		uint64_t digit = (uint64_t)(*text - '0');
		if (digit > max || number > (max - digit) / 10)
			return false;
		number = number * 10 + digit;
	}
	*value = number;
	return true;
}

char *
text_number(char *out, int64_t value)
{
	char digits[20];
	size_t n = 0;
	uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

	if (value >= 0 && value < 100) { /* as most are: lengths of words */
		if (value > 9)
			*out++ = (char)('0' + value / 10);
		*out++ = (char)('0' + value % 10);
		return out;
	}
	if (value < 0)
		*out++ = '-';
	do {
		digits[n++] = (char)('0' + rest % 10);
		rest /= 10;
	} while (rest > 0);
	while (n > 0)
		*out++ = digits[--n];
	return out;
}

void
text_hex(const uint8_t *bytes, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < len; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
}

static char *
encode(struct arena *arena, const uint8_t *bytes, size_t len, const char *digits, bool padded)
{
	char *text = arena_alloc(arena, len / 3 * 4 + 5);
	char *out = text;
	for (; len >= 3; len -= 3, bytes += 3) {
		uint32_t group = (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
		*out++ = digits[group >> 18];
		*out++ = digits[group >> 12 & 63];
		*out++ = digits[group >> 6 & 63];
		*out++ = digits[group & 63];
	}
	if (len > 0) {
		uint32_t group = (uint32_t)bytes[0] << 16 | (len == 2 ? (uint32_t)bytes[1] << 8 : 0);
		*out++ = digits[group >> 18];
		*out++ = digits[group >> 12 & 63];
		if (len == 2)
			*out++ = digits[group >> 6 & 63];
		for (size_t i = len; padded && i < 3; i++)
			*out++ = '=';
	}
	*out = '\0';
	return text;
}

#define NO_DIGIT 64

/* Decode `digits` digits without padding. By table: which digit comes next is random, and no branch could be foreseen.
 */
static uint8_t *
decode(struct arena *arena, const char *text, size_t digits, const char *alphabet, size_t *len)
{
	uint8_t values[256];
	uint8_t wrong = 0;
	uint32_t bits = 0;
	const size_t rest = digits % 4;

	if (rest == 1)
		return NULL;
	memset(values, NO_DIGIT, sizeof values);
	for (uint8_t value = 0; value < 64; value++)
		values[(unsigned char)alphabet[value]] = value;
	uint8_t *bytes = arena_alloc(arena, digits / 4 * 3 + 3);
	uint8_t *out = bytes;
	for (const char *end = text + digits - rest; text < end; text += 4) {
		uint8_t a = values[(unsigned char)text[0]];
		uint8_t b = values[(unsigned char)text[1]];
		uint8_t c = values[(unsigned char)text[2]];
		uint8_t d = values[(unsigned char)text[3]];

		wrong |= a | b | c | d;
		*out++ = (uint8_t)(a << 2 | b >> 4);
		*out++ = (uint8_t)(b << 4 | c >> 2);
		*out++ = (uint8_t)(c << 6 | d);
	}
	for (size_t i = 0; i < rest; i++) {
		uint8_t value = values[(unsigned char)text[i]];

		wrong |= value;
		bits = bits << 6 | value;
	}
	/* Two or three digits were left, or none: one or two bytes, and then bits that must be zero. */
	if (rest == 2) {
		*out++ = (uint8_t)(bits >> 4);
		bits &= 0xf;
	} else if (rest == 3) {
		*out++ = (uint8_t)(bits >> 10);
		*out++ = (uint8_t)(bits >> 2);
		bits &= 0x3;
	}
	if ((wrong & NO_DIGIT) != 0 || bits != 0)
		return NULL;
	*len = (size_t)(out - bytes);
	return bytes;
}

char *
text_base64url(struct arena *arena, const uint8_t *bytes, size_t len)
{
	return encode(arena, bytes, len, base64url_digits, false);
}

uint8_t *
text_base64url_decode(struct arena *arena, const char *text, size_t *len)
{
	return text == NULL ? NULL : decode(arena, text, strlen(text), base64url_digits, len);
}

char *
text_base64(struct arena *arena, const uint8_t *bytes, size_t len)
{
	return encode(arena, bytes, len, base64_digits, true);
}

uint8_t *
text_base64_decode(struct arena *arena, const char *text, size_t *len)
{
	if (text == NULL)
		return NULL;
	size_t digits = strlen(text);
	if (digits % 4 != 0)
		return NULL;
	for (int padding = 0; padding < 2 && digits > 0 && text[digits - 1] == '='; padding++)
		digits--;
	return decode(arena, text, digits, base64_digits, len);
}

uint64_t
text_hash(const char *text)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (; *text != '\0'; text++)
		hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
	return hash;
}

/* Put `word` in a hash table of `mask` + 1 places, of which at least half are free; false when it is in already. */
static bool
put_word(const char **table, size_t mask, const char *word)
{
	uint64_t hash = text_hash(word);
	size_t place = (hash ^ hash >> 32) & mask;
	for (; table[place] != NULL; place = (place + 1) & mask)
		if (strcmp(table[place], word) == 0)
			return false;
	table[place] = word;
	return true;
}

/* The first word in `text`, or NULL. */
static char *
next_word(char *text)
{
	while (*text == ' ')
		text++;
	return *text == '\0' ? NULL : text;
}

struct words
words_split(struct arena *arena, const char *text)
{
	struct words words = {0};
	char *rest = arena_text(arena, text == NULL ? "" : text);

	size_t most = 0;
	for (char *at = next_word(rest); at != NULL; at = next_word(at + strcspn(at, " ")))
		most++;
	words.items = arena_alloc(arena, (most + 1) * sizeof *words.items);
	/* A provider chooses the words: when they are many, time must not grow with the square of their number. */
	const char **table = NULL;
	size_t places = 1;
	if (most > FEW_WORDS) {
		while (places < most * 2)
			places *= 2;
		table = arena_alloc(arena, places * sizeof *table);
	}

	for (char *word = next_word(rest); word != NULL; word = next_word(rest)) {
		rest = word + strcspn(word, " ");
		if (*rest == ' ')
			*rest++ = '\0';
		if (table == NULL ? !words_contain(&words, word) : put_word(table, places - 1, word))
			words.items[words.count++] = word;
	}
	return words;
}

char *
words_join(struct arena *arena, const struct words *words)
{
	size_t size = 1;
	for (size_t i = 0; i < words->count; i++)
		size += strlen(words->items[i]) + 1;
	char *text = arena_alloc(arena, size);
	char *out = text;
	for (size_t i = 0; i < words->count; i++) {
		if (i > 0)
			*out++ = ' ';
		size_t len = strlen(words->items[i]);
		memcpy(out, words->items[i], len);
		out += len;
	}
	*out = '\0';
	return text;
}

bool
words_contain(const struct words *words, const char *word)
{
	if (word == NULL)
		return false;
	for (size_t i = 0; i < words->count; i++)
		if (strcmp(words->items[i], word) == 0)
			return true;
	return false;
}

struct words
words_open(struct arena *arena, size_t most)
{
	return (struct words){.count = 0, .items = arena_alloc(arena, (most + 1) * sizeof(const char *))};
}

void
words_put(struct words *words, const char *word)
{
	if (!words_contain(words, word))
		words->items[words->count++] = word;
}

struct words
words_minus(struct arena *arena, const struct words *a, const struct words *b)
{
	struct words words = {0};
	words.items = arena_alloc(arena, (a->count + 1) * sizeof *words.items);
	for (size_t i = 0; i < a->count; i++)
		if (!words_contain(b, a->items[i]))
			words.items[words.count++] = a->items[i];
	return words;
}
