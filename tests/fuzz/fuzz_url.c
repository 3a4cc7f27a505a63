/*
 * url_parse: what it takes can be put together again and means the same. url_query: what url_add wrote is read back,
 * and hostile queries give UTF-8 or nothing.
 */
#include "common/buf.h"
#include "common/text.h"
#include "common/url.h"
#include "tests/fuzz/fuzz.h"

static void
parse(struct arena *arena, const char *text)
{
	struct url url;
	if (!url_parse(arena, text, &url))
		return;
	must(strcmp(url.scheme, "https") == 0 || strcmp(url.scheme, "http") == 0);
	must(url.port >= 1 && url.port <= 65535);
	must(url.host[0] != '\0' && strpbrk(url.host, "@/\\?#%[] ") == NULL);
	must(url.path[0] == '\0' || url.path[0] == '/');
	must(strpbrk(url.path, "#\\ \r\n") == NULL);

	struct url again;
	must(url_parse(arena, arena_format(arena, "%s%s", url.origin, url.path), &again));
	must(text_equal(url.scheme, again.scheme) && text_equal(url.host, again.host) && url.port == again.port);
	must(text_equal(url.authority, again.authority) && text_equal(url.origin, again.origin));
	must(text_equal(url.path, again.path));
	must(url_is_loopback(&url) == url_is_loopback(&again));
}

static void
read_query(struct arena *arena, const char *query)
{
	static const char *const names[] = {"replace", "", "a", "code"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		bool repeated;
		bool valid;
		const char *value = url_query(arena, query, names[i], &repeated, &valid);
		must(value == NULL || text_is_utf8(value, strlen(value)));
	}
}

static void
read_back(struct arena *arena, const char *text)
{
	if (!text_is_utf8(text, strlen(text)))
		return;
	struct buf buf;
	buf_init(&buf, arena, 9 * strlen(text) + 64);
	url_add(&buf, "first", text);
	url_add(&buf, text, "x");
	url_add(&buf, "last", text);
	must(buf_text(&buf) != NULL);
	bool repeated;
	bool valid;
	bool own_name = strcmp(text, "first") != 0 && strcmp(text, "last") != 0;
	must(text_equal(url_query(arena, buf_text(&buf), "first", &repeated, &valid), text));
	must(valid && repeated == (strcmp(text, "first") == 0));
	if (own_name)
		must(text_equal(url_query(arena, buf_text(&buf), text, &repeated, &valid), "x"));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = fuzz_arena();
	char *text = fuzz_text(data, size);
	parse(arena, text);
	read_query(arena, text);
	read_back(arena, text);
	free(text);
	return 0;
}
