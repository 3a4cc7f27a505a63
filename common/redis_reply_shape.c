#include "common/redis_reply_shape.h"

#include "common/redis.h"
#include "common/resp.h"

#include <stdlib.h>
#include <string.h>

#define TTL "[-2,9999999999999]" /* milliseconds: 300 years */

static const struct {
	const char *word;
	const char *shape;
} commands[] = {
    {"HMGET", "f"},     {"EXISTS", "n"}, /* most requests need these */
    {"AUTH", "k"},      {"DEL", "n"},    {"GET", "S"},  {"HDEL", "n"},       {"HGETALL", "2"},
    {"PING", "p"},      {"PTTL", TTL},   {"SADD", "n"}, {"SCAN", "(s*s)"},   {"SELECT", "k"},
    {"SMEMBERS", "*s"}, {"SREM", "n"},   {"TTL", TTL},  {"XRANGE", "*(e2)"}, {"ZREM", "n"},
};

#define COMMANDS (sizeof commands / sizeof commands[0])

static bool
has_word(const struct redis_command *command, const char *word)
{
	for (int i = 1; i < command->argc; i++) {
		if (strcmp(command->argv[i], word) == 0)
			return true;
	}
	return false;
}

struct redis_reply_shape
redis_reply_shape_of(const struct redis_command *command)
{
	struct redis_reply_shape shape = {.words = command->argc + (command->tail != NULL ? command->tail->argc : 0)};
	size_t i = 0;

	if (command->script != NULL) {
		shape.text = command->script->shape;
	} else if (strcmp(command->argv[0], "SET") == 0) {
		shape.text = has_word(command, "NX") ? "k|~" : "k";
	} else if (strcmp(command->argv[0], "XADD") == 0) { /* the option comes before what others have chosen */
		shape.text = command->argc > 2 && strcmp(command->argv[2], "NOMKSTREAM") == 0 ? "e|~" : "e";
	} else {
		while (i < COMMANDS && strcmp(command->argv[0], commands[i].word) != 0)
			i++;
		shape.text = i < COMMANDS ? commands[i].shape : NULL;
	}
	return shape;
}

/* The end of the item that begins at `at`. */
static const char *
item_end(const char *at)
{
	int depth = 0;

	if (*at == '*')
		return item_end(at + 1);
	if (*at == '\'')
		return strchr(at + 1, '\'') + 1;
	do {
		if (*at == '(' || *at == '[')
			depth++;
		if (*at == ')' || *at == ']')
			depth--;
		at++;
	} while (depth > 0);
	return at;
}

static bool
are_strings(const struct redis_reply *reply, bool or_nil)
{
	for (size_t i = 0; i < reply->count; i++) {
		enum redis_type type = reply->items[i]->type;

		if (type != REDIS_STRING && !(or_nil && type == REDIS_NIL))
			return false;
	}
	return true;
}

/* Digits, '-', digits. */
static bool
is_entry(const struct redis_reply *reply)
{
	static const char digits[] = "0123456789";
	size_t first = reply->type == REDIS_STRING ? strspn(reply->text, digits) : 0;
	size_t second = first > 0 && reply->text[first] == '-' ? strspn(reply->text + first + 1, digits) : 0;

	return second > 0 && first + 1 + second == reply->len;
}

static bool
is_text(const struct redis_reply *reply, const char *text)
{
	return reply->type == REDIS_STRING && strcmp(reply->text, text) == 0;
}

/* `quoted` goes on behind the word. */
static bool
is_word(const char *quoted, const struct redis_reply *reply)
{
	size_t len = strcspn(quoted, "'");

	return reply->type == REDIS_STRING && reply->len == len && memcmp(reply->text, quoted, len) == 0;
}

static bool
is_between(const char *range, int64_t number)
{
	char *comma;
	long long least = strtoll(range, &comma, 10);

	return number >= least && number <= strtoll(comma + 1, NULL, 10);
}

static bool fits(const char *at, int words, const struct redis_reply *reply);

static bool
all_fit(const char *at, int words, const struct redis_reply *reply)
{
	for (size_t i = 0; i < reply->count; i++) {
		if (!fits(at, words, reply->items[i]))
			return false;
	}
	return true;
}

static bool
each_fits(const char *at, int words, const struct redis_reply *reply)
{
	size_t i = 0;

	for (; *at != ')'; at = item_end(at), i++) {
		if (i == reply->count || !fits(at, words, reply->items[i]))
			return false;
	}
	return i == reply->count;
}

static bool
fits(const char *at, int words, const struct redis_reply *reply)
{
	bool array = reply->type == REDIS_ARRAY;

	switch (*at) {
	case 's': return reply->type == REDIS_STRING;
	case 'S': return reply->type == REDIS_STRING || reply->type == REDIS_NIL;
	case 'k': return is_text(reply, "OK");
	case '\'': return is_word(at + 1, reply);
	case 'p': return is_text(reply, "PONG");
	case 'e': return is_entry(reply);
	case '~': return reply->type == REDIS_NIL;
	case 'n': return reply->type == REDIS_INTEGER && reply->integer >= 0 && reply->integer <= words;
	case '[': return reply->type == REDIS_INTEGER && is_between(at + 1, reply->integer);
	case 'f': return array && reply->count + 2 == (size_t)words && are_strings(reply, true);
	case '2': return array && reply->count % 2 == 0 && are_strings(reply, false);
	case '*': return array && all_fit(at + 1, words, reply);
	case '(': return array && each_fits(at + 1, words, reply);
	default: return false;
	}
}

bool
redis_reply_shape_fits(const struct redis_reply_shape *shape, const struct redis_reply *reply)
{
	const char *at = shape->text;

	if (at == NULL)
		return true;
	for (;;) {
		if (fits(at, shape->words, reply))
			return true;
		at = item_end(at);
		if (*at != '|')
			return false;
		at++;
	}
}
