/* json_read, and json_write with what was read: the second reading gives the same tree. */
#include "common/json_read.h"
#include "common/json_write.h"
#include "common/text.h"
#include "tests/fuzz/fuzz.h"

static size_t
count(const struct json *json, size_t depth)
{
	size_t values = 1;
	size_t children = 0;
	if (json->type == JSON_ARRAY || json->type == JSON_OBJECT)
		must(depth < 16);
	if (json->text != NULL)
		must(text_is_utf8(json->text, strlen(json->text)));
	for (const struct json *child = json->first; child != NULL; child = child->next) {
		must((child->key != NULL) == (json->type == JSON_OBJECT));
		if (child->key != NULL)
			must(json_member(json, child->key) == child);
		values += count(child, depth + 1);
		children++;
	}
	must(children == json->count);
	return values;
}

/* Numbers are written as the strings that they were. */
static void
write(struct json_write *out, const struct json *json)
{
	switch (json->type) {
	case JSON_NULL: json_write_string(out, json->key, NULL); break;
	case JSON_BOOL: json_write_bool(out, json->key, json->boolean); break;
	case JSON_NUMBER:
	case JSON_STRING: json_write_string(out, json->key, json->text); break;
	case JSON_ARRAY:
	case JSON_OBJECT:
		if (json->type == JSON_ARRAY)
			json_write_array(out, json->key);
		else
			json_write_object(out, json->key);
		for (const struct json *child = json->first; child != NULL; child = child->next)
			write(out, child);
		if (json->type == JSON_ARRAY)
			json_write_array_end(out);
		else
			json_write_object_end(out);
		break;
	}
}

static void
compare(const struct json *a, const struct json *b)
{
	must(b->type == (a->type == JSON_NUMBER ? JSON_STRING : a->type));
	must(text_equal(a->key, b->key) && text_equal(a->text, b->text));
	must(a->boolean == b->boolean && a->count == b->count);
	const struct json *other = b->first;
	for (const struct json *child = a->first; child != NULL; child = child->next, other = other->next)
		compare(child, other);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = fuzz_arena();
	const struct json *json = json_read(arena, (const char *)data, size);
	if (json == NULL)
		return 0;
	must(count(json, 0) <= 4096);
	int64_t number;
	json_integer(json, "n", &number);
	json_boolean(json, "b", true);
	json_string(json, "s");

	struct json_write *out = json_write_open(arena, 8 * size + 1024);
	write(out, json);
	size_t len = 0;
	const char *text = json_write_finish(out, &len);
	must(text != NULL && strlen(text) == len);
	const struct json *again = json_read(arena, text, len);
	must(again != NULL);
	compare(json, again);
	return 0;
}
