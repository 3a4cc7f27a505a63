/* URLs and queries, with the traps in which parsers differ. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buf.h"
#include "common/url.h"
#include "tests/unit/on_arena.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH(table) (sizeof(table) / sizeof(table)[0])

static void
takes_urls_apart(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *scheme;
		const char *host;
		unsigned port;
		const char *authority;
		const char *path;
	} rows[] = {
	    {"https://app.example.com", "https", "app.example.com", 443, "app.example.com", ""},
	    {"https://app.example.com/", "https", "app.example.com", 443, "app.example.com", "/"},
	    {"http://localhost:8080/x?y=1", "http", "localhost", 8080, "localhost:8080", "/x?y=1"},
	    {"HTTPS://App.Example.COM:443/Path", "https", "app.example.com", 443, "app.example.com", "/Path"},
	    {"http://a:80", "http", "a", 80, "a", ""},
	    {"http://a:443", "http", "a", 443, "a:443", ""},
	    {"https://a:80", "https", "a", 80, "a:80", ""},
	    {"https://a:065535", "https", "a", 65535, "a:65535", ""},
	    {"https://a?x=1", "https", "a", 443, "a", "/?x=1"},
	    {"https://a/b?c=/d?e", "https", "a", 443, "a", "/b?c=/d?e"},
	    {"https://a//evil.example/", "https", "a", 443, "a", "//evil.example/"},
	    {"https://a/%2f..%2F?q=%20", "https", "a", 443, "a", "/%2f..%2F?q=%20"},
	    {"https://a/x:y@z", "https", "a", 443, "a", "/x:y@z"},
	    {"http://127.0.0.1:9", "http", "127.0.0.1", 9, "127.0.0.1:9", ""},
	    {"http://[::1]:8080/", "http", "::1", 8080, "[::1]:8080", "/"},
	    {"https://[2001:DB8::0:1]", "https", "2001:db8::1", 443, "[2001:db8::1]", ""},
	    {"http://[0:0:0:0:0:0:0:1]", "http", "::1", 80, "[::1]", ""},
	    {"https://xn--bcher-kva.example/", "https", "xn--bcher-kva.example", 443, "xn--bcher-kva.example", "/"},
	    {"http://redis_1.local", "http", "redis_1.local", 80, "redis_1.local", ""},
	    {"http://4f5d2c1b9e3a/", "http", "4f5d2c1b9e3a", 80, "4f5d2c1b9e3a", "/"},
	    {"https://1e100.net", "https", "1e100.net", 443, "1e100.net", ""},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct url url;
		assert_true(url_parse(arena, rows[i].text, &url));
		assert_string_equal(url.scheme, rows[i].scheme);
		assert_string_equal(url.host, rows[i].host);
		assert_int_equal(url.port, rows[i].port);
		assert_string_equal(url.authority, rows[i].authority);
		assert_string_equal(url.path, rows[i].path);
		assert_string_equal(url.origin, arena_format(arena, "%s://%s", rows[i].scheme, rows[i].authority));
	}
}

static void
refuses_traps(void **state)
{
	(void)state;
	static const char *const rows[] = {
	    NULL,
	    "",
	    "/",
	    "//a",
	    "a",
	    "a.example",
	    "https:",
	    "https:/",
	    "https://",
	    "https:///",
	    "https:///a",
	    "https://?x",
	    "https:a",
	    "https:/a",
	    "https:\\\\a",
	    "ftp://a",
	    "file:///etc/passwd",
	    "javascript://a",
	    "httpss://a",
	    "://a",
	    " https://a",
	    "https://a ",
	    "https://a/ b",
	    "https://a\r\n",
	    "https://a/\r\nHost: b",
	    "https://a/\t",
	    "https://\xc3\xa4.example",
	    /* user information and what passes for it */
	    "https://user@a",
	    "https://user:secret@a",
	    "https://a@b@c",
	    "https://@a",
	    "https://a:80@b",
	    "https://a%40b",
	    "https://a\\@b",
	    "https://a\\b",
	    "https://a/\\b",
	    "https://app.example.com\\.evil.example",
	    "https://a;b",
	    "https://a,b",
	    /* fragments */
	    "https://a#",
	    "https://a/#b",
	    "https://a?b#c",
	    "https://a#@b/",
	    /* ports */
	    "https://a:",
	    "https://a:/",
	    "https://a:0",
	    "https://a:65536",
	    "https://a:-1",
	    "https://a:+1",
	    "https://a:8080x",
	    "https://a:80:80",
	    "https://a:99999999999999999999",
	    "https://a:0x50",
	    "https://:80",
	    /* hosts */
	    "https://.",
	    "https://a.",
	    "https://.a",
	    "https://a..b",
	    "https://-a",
	    "https://a-",
	    "https://a.-b",
	    "https://a%2eb",
	    "https://*",
	    "https://*.example",
	    "https://a_b!",
	    "https://a'b",
	    /* numbers that some programs read as addresses */
	    "https://1",
	    "https://127.1",
	    "https://2130706433",
	    "https://0x7f000001",
	    "https://0x7f.1",
	    "https://0X7F.0.0.1",
	    "https://0177.0.0.1",
	    "https://127.0.0.01",
	    "https://127.0.0.256",
	    "https://1.2.3.4.5",
	    "https://a.1",
	    "https://a.0x",
	    "https://127.0.0.1.",
	    /* IPv6 */
	    "https://[",
	    "https://[]",
	    "https://[::1",
	    "https://::1",
	    "https://[::1]x",
	    "https://[::1]:",
	    "https://[::1]80",
	    "https://[fe80::1%25eth0]",
	    "https://[fe80::1%eth0]",
	    "https://[127.0.0.1]",
	    "https://[::1]@a",
	    "https://[g::1]",
	    "https://x[::1]",
	    /* escapes and characters that no URL has bare */
	    "https://a/%",
	    "https://a/%4",
	    "https://a/%4g",
	    "https://a/%zz",
	    "https://a/<b>",
	    "https://a/\"",
	    "https://a/{b}",
	    "https://a/|",
	    "https://a/^",
	    "https://a/`",
	    "https://a/[b]",
	    "https://a/?x=%",
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct url url;
		char *text = rows[i] == NULL ? NULL : strdup(rows[i]);
		if (url_parse(arena, text, &url))
			fail_msg("taken: %s", text);
		free(text);
	}
}

static void
bounds_lengths(void **state)
{
	(void)state;
	struct url url;
	for (size_t len = 8192; len <= 8193; len++) {
		char *text = arena_alloc(arena, len + 1);
		memset(text, 'a', len);
		memcpy(text, "https://a/", 10);
		assert_int_equal(url_parse(arena, text, &url), len == 8192);
	}
	for (size_t label = 63; label <= 64; label++) {
		char *text = arena_alloc(arena, 8 + label + 1);
		memset(text, 'a', 8 + label);
		memcpy(text, "https://", 8);
		assert_int_equal(url_parse(arena, text, &url), label == 63);
	}
	for (size_t host = 253; host <= 254; host++) {
		char *text = arena_alloc(arena, 8 + host + 1);
		memset(text, 'a', 8 + host);
		memcpy(text, "https://", 8);
		for (size_t at = 50; at < host - 1; at += 50)
			text[8 + at] = '.';
		assert_int_equal(url_parse(arena, text, &url), host == 253);
	}
}

static void
knows_loopback(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool loopback;
	} rows[] = {
	    {"http://localhost", true},   {"http://LOCALHOST:8080/", true},
	    {"http://127.0.0.1", true},   {"http://127.255.255.254", true},
	    {"http://[::1]:1", true},     {"http://[0:0:0:0:0:0:0:1]", true},
	    {"http://128.0.0.1", false},  {"http://126.0.0.1", false},
	    {"http://0.0.0.0", false},    {"http://[::]", false},
	    {"http://[::2]", false},      {"http://localhost.example", false},
	    {"http://localhosts", false}, {"http://127.0.0.1.example", false},
	    {"http://10.0.0.1", false},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct url url;
		assert_true(url_parse(arena, rows[i].text, &url));
		assert_int_equal(url_is_loopback(&url), rows[i].loopback);
	}
}

static void
encodes(void **state)
{
	(void)state;
	struct buf buf;
	buf_init(&buf, arena, 4096);
	url_encode(&buf, "AZaz09-._~");
	url_encode(&buf, " +&=?#%/:@\"<>\xc3\xa4\r\n\x7f");
	assert_string_equal(buf_text(&buf), "AZaz09-._~%20%2B%26%3D%3F%23%25%2F%3A%40%22%3C%3E%C3%A4%0D%0A%7F");

	buf_init(&buf, arena, 4096);
	url_add(&buf, "a", "1");
	url_add(&buf, "b c", "x&y=z");
	assert_string_equal(buf_text(&buf), "a=1&b%20c=x%26y%3Dz");
	buf_init(&buf, arena, 4096);
	buf_add(&buf, "https://a?");
	url_add(&buf, "b", "");
	assert_string_equal(buf_text(&buf), "https://a?b=");
	buf_init(&buf, arena, 4096);
	buf_add(&buf, "https://a?x=1&");
	url_add(&buf, "b", "2");
	assert_string_equal(buf_text(&buf), "https://a?x=1&b=2");
}

/* What was encoded is decoded to the same bytes, whatever they are. */
static void
decodes_what_it_encoded(void **state)
{
	(void)state;
	for (int byte = 1; byte < 128; byte++) {
		const char value[] = {'x', (char)byte, '\0'};
		struct buf buf;
		bool repeated;
		bool valid;
		buf_init(&buf, arena, 100);
		url_add(&buf, value, value);
		assert_string_equal(url_query(arena, buf_text(&buf), value, &repeated, &valid), value);
		assert_true(valid);
		assert_false(repeated);
	}
}

static void
reads_queries(void **state)
{
	(void)state;
	static const struct {
		const char *query;
		const char *value; /* of "replace" */
		bool repeated;
		bool valid;
	} rows[] = {
	    {NULL, NULL, false, true},
	    {"", NULL, false, true},
	    {"replace=true", "true", false, true},
	    {"replace", "", false, true},
	    {"replace=", "", false, true},
	    {"a=1&replace=true&b=2", "true", false, true},
	    {"&&replace=true&&", "true", false, true},
	    {"replace=a=b", "a=b", false, true},
	    {"replace=a+b%20c%2B", "a b c+", false, true},
	    {"rep%6Cace=1", "1", false, true},
	    {"Replace=1", NULL, false, true},
	    {"replaced=1", NULL, false, true},
	    {"xreplace=1", NULL, false, true},
	    {"x=replace", NULL, false, true},
	    {"x=1?replace=1", NULL, false, true},
	    {"replace=1&replace=2", "1", true, true},
	    {"replace=1&x=2&rep%6cace=1", "1", true, true},
	    {"replace&replace", "", true, true},
	    {"replace=%C3%A4", "\xc3\xa4", false, true},
	    {"replace=\xc3\xa4", "\xc3\xa4", false, true},
	    /* broken escapes, wherever they stand */
	    {"replace=%", NULL, false, false},
	    {"replace=%4", NULL, false, false},
	    {"replace=%4g", NULL, false, false},
	    {"replace=%4&x=1", NULL, false, false},
	    {"replace=1&x=%zz", "1", false, false},
	    {"x%=1&replace=1", "1", false, false},
	    {"replace=%zz&replace=1", NULL, true, false},
	    /* not text */
	    {"replace=%00", NULL, false, false},
	    {"replace=a%00b", NULL, false, false},
	    {"replace%00=1", NULL, false, false},
	    {"replace=%ff", NULL, false, false},
	    {"replace=%c0%80", NULL, false, false},
	    {"replace=%ed%a0%80", NULL, false, false},
	    {"replace=\xff", NULL, false, false},
	    {"replace=a%0d%0ab", "a\r\nb", false, true},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		char *query = rows[i].query == NULL ? NULL : strdup(rows[i].query);
		bool repeated = !rows[i].repeated;
		bool valid = !rows[i].valid;
		const char *value = url_query(arena, query, "replace", &repeated, &valid);
		free(query);
		if (rows[i].value == NULL)
			assert_null(value);
		else
			assert_string_equal(value, rows[i].value);
		assert_int_equal(repeated, rows[i].repeated);
		assert_int_equal(valid, rows[i].valid);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(takes_urls_apart), cmocka_unit_test(refuses_traps),
	    cmocka_unit_test(bounds_lengths),   cmocka_unit_test(knows_loopback),
	    cmocka_unit_test(encodes),          cmocka_unit_test(decodes_what_it_encoded),
	    cmocka_unit_test(reads_queries),
	};
	return cmocka_run_group_tests_name("url", tests, on_arena_open, on_arena_close);
}
