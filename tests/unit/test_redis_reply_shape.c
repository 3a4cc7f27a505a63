/* Which replies a command can have. */
#include "common/redis_reply_shape.h"

#include "common/redis.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct redis_reply nil = {.type = REDIS_NIL};
static struct redis_reply ok = {.type = REDIS_STRING, .text = "OK", .len = 2};
static struct redis_reply pong = {.type = REDIS_STRING, .text = "PONG", .len = 4};
static struct redis_reply id = {.type = REDIS_STRING, .text = "1700000000000-0", .len = 15};
static struct redis_reply no_id = {.type = REDIS_STRING, .text = "1700000000000-", .len = 14};
static struct redis_reply word = {.type = REDIS_STRING, .text = "word", .len = 4};
static struct redis_reply zero = {.type = REDIS_INTEGER, .integer = 0};
static struct redis_reply one = {.type = REDIS_INTEGER, .integer = 1};
static struct redis_reply minus_two = {.type = REDIS_INTEGER, .integer = -2};
static struct redis_reply seven = {.type = REDIS_INTEGER, .integer = 7};
static struct redis_reply none = {.type = REDIS_ARRAY};
static struct redis_reply *words[] = {&word, &ok, &word};
static struct redis_reply *gaps[] = {&nil, &word};
static struct redis_reply *numbers[] = {&one, &zero};
static struct redis_reply one_word = {.type = REDIS_ARRAY, .count = 1, .items = words};
static struct redis_reply two_words = {.type = REDIS_ARRAY, .count = 2, .items = words};
static struct redis_reply three_words = {.type = REDIS_ARRAY, .count = 3, .items = words};
static struct redis_reply with_nil = {.type = REDIS_ARRAY, .count = 2, .items = gaps};
static struct redis_reply two_numbers = {.type = REDIS_ARRAY, .count = 2, .items = numbers};
static struct redis_reply *pair[] = {&word, &two_words};
static struct redis_reply *entry[] = {&id, &two_words};
static struct redis_reply *one_entry[] = {&(struct redis_reply){.type = REDIS_ARRAY, .count = 2, .items = entry}};
static struct redis_reply page = {.type = REDIS_ARRAY, .count = 2, .items = pair};
static struct redis_reply entries = {.type = REDIS_ARRAY, .count = 1, .items = one_entry};

#define MOST 8

static const struct {
	const char *command; /* its words */
	struct redis_reply *good[MOST];
	struct redis_reply *bad[MOST];
} table[] = {
    {"PING", {&pong}, {&word, &one, &nil, &none, &one_word}},
    {"AUTH u p", {&ok}, {&word, &one, &nil, &none}},
    {"GET k", {&word, &nil}, {&zero, &none, &one_word}},
    {"SET k v PX 10", {&ok}, {&nil, &word, &one, &none}},
    {"SET k v NX PX 10", {&ok, &nil}, {&word, &one, &none}},
    {"DEL a b", {&zero, &one}, {&seven, &minus_two, &nil, &ok, &none}},
    {"SADD k m", {&zero, &one}, {&seven, &minus_two, &ok, &nil}},
    {"PTTL k", {&minus_two, &seven}, {&ok, &nil, &none}},
    {"HMGET k a b", {&two_words, &with_nil}, {&none, &one_word, &three_words, &two_numbers, &nil, &word, &one}},
    {"HGETALL k", {&none, &two_words}, {&one_word, &three_words, &with_nil, &two_numbers, &nil, &word}},
    {"SMEMBERS k", {&none, &one_word, &three_words}, {&with_nil, &two_numbers, &nil, &word, &one}},
    {"SCAN 0", {&page}, {&none, &two_words, &nil, &entries}},
    {"XADD k * f v", {&id}, {&no_id, &word, &one, &nil, &none}},
    {"XADD k NOMKSTREAM * f v", {&id, &nil}, {&no_id, &word, &one, &none}},
    {"XADD k * f NOMKSTREAM", {&id}, {&no_id, &word, &one, &nil, &none}},
    {"XRANGE k - +", {&none, &entries}, {&two_words, &page, &nil, &one}},
    {"INVENTED x", {&nil, &one, &word, &none}, {0}},
};

static struct redis_command
split(char *text, const char **argv)
{
	struct redis_command command = {.argv = argv};

	for (char *at = strtok(text, " "); at != NULL; at = strtok(NULL, " "))
		argv[command.argc++] = at;
	return command;
}

static void
commands_have_their_replies(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *argv[MOST];
		char text[64];
		struct redis_command command;
		struct redis_reply_shape shape;

		strcpy(text, table[i].command);
		command = split(text, argv);
		shape = redis_reply_shape_of(&command);
		for (size_t j = 0; j < MOST && table[i].good[j] != NULL; j++) {
			if (!redis_reply_shape_fits(&shape, table[i].good[j]))
				fail_msg("%s: good reply %zu does not fit", table[i].command, j);
		}
		for (size_t j = 0; j < MOST && table[i].bad[j] != NULL; j++) {
			if (redis_reply_shape_fits(&shape, table[i].bad[j]))
				fail_msg("%s: bad reply %zu fits", table[i].command, j);
		}
	}
}

static bool
script_fits(const char *text, const struct redis_reply *reply)
{
	const struct redis_script script = {.shape = text};
	const struct redis_command command = {.argc = 3, .script = &script};
	struct redis_reply_shape shape = redis_reply_shape_of(&command);

	return redis_reply_shape_fits(&shape, reply);
}

static void
scripts_say_theirs(void **state)
{
	(void)state;
	assert_true(script_fits("[0,1]", &one));
	assert_false(script_fits("[0,1]", &seven));
	assert_false(script_fits("[0,1]", &ok));
	assert_true(script_fits("[-2,60000]", &minus_two));
	assert_false(script_fits("[-1,60000]", &minus_two));
	assert_true(script_fits("~|(ss)", &nil));
	assert_true(script_fits("~|(ss)", &two_words));
	assert_false(script_fits("~|(ss)", &one_word));
	assert_false(script_fits("~|(ss)", &three_words));
	assert_true(script_fits("(s)|(s(sS))", &one_word));
	assert_true(script_fits("(s)|(s(sS))", &page));
	assert_false(script_fits("(s)|(s(sS[0,1]))", &page));
	assert_false(script_fits("(s)|(s(sS))", &two_words));
	assert_true(script_fits("([0,1][0,1])", &two_numbers));
	assert_false(script_fits("([0,1])", &two_numbers));
	assert_true(script_fits("(SS)", &with_nil));
	assert_false(script_fits("(ss)", &with_nil));
	assert_true(script_fits("('word')|(ss)", &one_word));
	assert_true(script_fits("('word''OK')", &two_words));
	assert_false(script_fits("('wor')|(ss)", &one_word));
	assert_false(script_fits("('words')|(ss)", &one_word));
	assert_true(script_fits(NULL, &none));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(commands_have_their_replies),
	    cmocka_unit_test(scripts_say_theirs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
