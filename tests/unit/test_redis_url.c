/* What a REDIS_URL means, and what is said about one that means nothing. */
#include "common/redis_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/redis.h"

#include <string.h>

static void
assert_text(const char *text, const char *expected)
{
	if (expected == NULL)
		assert_null(text);
	else
		assert_string_equal(text, expected);
}

static void
good_urls(void **state)
{
	static const struct {
		const char *url, *path, *host;
		unsigned port;
		const char *user, *password, *db;
	} rows[] = {
	    {"redis://127.0.0.1:6380/0", NULL, "127.0.0.1", 6380, NULL, NULL, "0"},
	    {"redis://host", NULL, "host", 6379, NULL, NULL, NULL},
	    {"redis://host/", NULL, "host", 6379, NULL, NULL, NULL},
	    {"redis://[::1]:7000/2", NULL, "::1", 7000, NULL, NULL, "2"},
	    {"redis://[::1]/2", NULL, "::1", 6379, NULL, NULL, "2"},
	    {"redis://[::1]", NULL, "::1", 6379, NULL, NULL, NULL},
	    {"redis://user:p%40ss-MARKER@host:1", NULL, "host", 1, "user", "p@ss-MARKER", NULL},
	    {"redis://:pass-MARKER@h", NULL, "h", 6379, NULL, "pass-MARKER", NULL},
	    {"unix:///run/redis.sock", "/run/redis.sock", NULL, 0, NULL, NULL, NULL},
	    {"unix:///run/redis.sock?db=1", "/run/redis.sock", NULL, 0, NULL, NULL, "1"},
	    {"unix:///run/redis@host.sock", "/run/redis@host.sock", NULL, 0, NULL, NULL, NULL},
	    {"unix://user:p%2Fss-MARKER@/run/redis.sock?db=1", "/run/redis.sock", NULL, 0, "user", "p/ss-MARKER", "1"},
	    {"unix://:pass-MARKER@/run/redis.sock", "/run/redis.sock", NULL, 0, NULL, "pass-MARKER", NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct redis_target target;
		const char *mistake;

		assert_true(redis_url_check(rows[i].url, &mistake));
		assert_int_equal(redis_url_port(rows[i].url), rows[i].port);
		assert_null(redis_target_parse(&target, rows[i].url));
		assert_text(target.path, rows[i].path);
		assert_text(target.host, rows[i].host);
		assert_text(target.user, rows[i].user);
		assert_text(target.password, rows[i].password);
		assert_text(target.db, rows[i].db);
		redis_target_free(&target);
	}
}

static void
bad_urls(void **state)
{
	static const struct {
		const char *url, *mistake; /* its beginning */
	} rows[] = {
	    {"", "is neither"},
	    {"http://host", "is neither"},
	    {"redis://", "names no host"},
	    {"redis://:6379", "names no host"},
	    {"redis://host:0", "has a port"},
	    {"redis://host:99999", "has a port"},
	    {"redis://host:", "has a port"},
	    {"redis://user@host", "has a user without a password"},
	    {"redis://user:p%zz@host", "has a broken percent-escape"},
	    {"redis://user:p%00@host", "has a broken percent-escape"},
	    {"redis://[::1:6379", "has an IPv6 address without"},
	    {"redis://[::1]6380/0", "has text behind its IPv6 address"},
	    {"redis://[::1]x", "has text behind its IPv6 address"},
	    {"redis://[::1]:/0", "has a port"},
	    {"redis://host/db", "has a database"},
	    {"unix://relative", "needs an absolute path"},
	    {"unix://user:pass-MARKER@relative", "needs an absolute path"},
	    {"unix://user:pass-MARKER@", "needs an absolute path"},
	    {"unix://user@/run/redis.sock", "has a user without a password"},
	    {"unix://:%zz@/run/redis.sock", "has a broken percent-escape"},
	    {"unix:///a?x=1", "may carry ?db="},
	    {"redis+cluster://a:1", "Sentinel and Cluster"},
	    {"redis+sentinel://a:1/m/0", "Sentinel and Cluster"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *mistake = NULL;

		assert_false(redis_url_check(rows[i].url, &mistake));
		assert_non_null(mistake);
		if (strncmp(mistake, rows[i].mistake, strlen(rows[i].mistake)) != 0)
			fail_msg("of '%s' is said that it %s", rows[i].url, mistake);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(good_urls),
	    cmocka_unit_test(bad_urls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
