/*
 * Memory that cannot be had, at every point of opening something in turn: NULL, or false, and all that was taken before
 * is given back (the leak checker of the sanitized build looks). Linked so that our own calls, and only they, come here
 * (Makefile).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/fiber.h"
#include "common/http.h"
#include "common/jwt.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/redis.h"
#include "common/resolve.h"
#include "common/resp.h"
#include "common/seal.h"
#include "common/singleflight.h"
#include "fcgi/app_metrics.h"
#include "fcgi/config.h"
#include "fcgi/fastcgi.h"
#include "fcgi/router.h"
#include "fcgi/signing_keys.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 64 /* allocations of one kind while something is opened */

/* ---- the allocators ---- */

enum kind { CALLOC, REALLOC, STRDUP, MMAP, KINDS };

static enum kind failing = KINDS;
static unsigned left; /* calls until it fails, once */
static bool failed;

static bool
fails(enum kind kind)
{
	if (failed || kind != failing || left-- > 0)
		return false;
	failed = true;
	return true;
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__real_realloc(void *bytes, size_t size);
void *__wrap_realloc(void *bytes, size_t size);
char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);
void *__real_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset);

void *
__wrap_calloc(size_t count, size_t size)
{
	return fails(CALLOC) ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *bytes, size_t size)
{
	return fails(REALLOC) ? NULL : __real_realloc(bytes, size);
}

char *
__wrap_strdup(const char *text)
{
	return fails(STRDUP) ? NULL : __real_strdup(text);
}

void *
__wrap_mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
	return fails(MMAP) ? MAP_FAILED : __real_mmap(at, len, protection, flags, fd, offset);
}

/* Run fn with each allocation of `kind` failing in turn; there are at least `least`. */
static void
each(enum kind kind, unsigned least, bool (*fn)(void))
{
	unsigned n;

	for (n = 0; n < MOST; n++) {
		bool done;

		failing = kind;
		left = n;
		failed = false;
		done = fn();
		failing = KINDS;
		if (!failed) {
			assert_true(done);
			break;
		}
		assert_false(done);
	}
	assert_in_range(n, least, MOST - 1);
}

/* ---- what is opened ---- */

static struct loop *loop;
static struct resolver *resolver;
static struct arena *arena;

static void
nothing(void *arg)
{
	(void)arg;
}

static void
nothing_ready(void *arg, int events)
{
	(void)arg;
	(void)events;
}

static bool
nothing_done(void *arg)
{
	(void)arg;
	return false;
}

static bool
an_arena(void)
{
	struct arena *opened = arena_open(64, 4096, NULL, NULL);
	bool done = opened != NULL && arena_try_alloc(opened, 1000) != NULL;

	arena_close(opened);
	return done;
}

static bool
a_loop(void)
{
	struct loop *opened = loop_open();
	bool done = opened != NULL;

	loop_close(opened);
	return done;
}

static bool
its_parts(void)
{
	struct loop_io *io = loop_io_open(loop, STDIN_FILENO, 0, nothing_ready, NULL);
	struct loop_timer *timer = loop_timer_open(loop, nothing, NULL);
	struct loop_signal *signal = loop_signal_open(loop, SIGUSR1, nothing, NULL);
	struct loop_hook *hook = loop_hook_open(loop, nothing_done, NULL);
	bool done = io != NULL && timer != NULL && signal != NULL && hook != NULL;

	loop_io_close(io);
	loop_timer_close(timer);
	loop_signal_close(signal);
	loop_hook_close(hook);
	return done;
}

static void
ended(void *arg, bool abandoned)
{
	(void)arg;
	(void)abandoned;
	loop_stop(loop);
}

static bool
fibers(void)
{
	struct fibers *opened = fibers_open(loop, 2);
	bool done = opened != NULL && fiber_start(opened, nothing, ended, NULL);

	if (done)
		loop_run(loop);
	fibers_close(opened);
	return done;
}

static bool
singleflights(void)
{
	struct singleflights *opened = singleflights_open();
	bool done = opened != NULL;

	singleflights_close(opened);
	return done;
}

static bool
a_resolver(void)
{
	struct resolver *opened = resolver_open(loop);
	bool done = opened != NULL;

	resolver_close(opened);
	return done;
}

static bool
http(void)
{
	const struct http_settings settings = {.user_agent = "test"};
	struct http *opened = http_open(loop, resolver, &settings);
	bool done = opened != NULL;

	http_close(opened);
	return done;
}

static bool
redis(void)
{
	struct redis *opened = redis_open(loop, resolver, NULL, "test", "redis://:secret-MARKER@localhost/1");
	bool done = opened != NULL;

	redis_close(opened);
	return done;
}

static bool
metrics_and_series(void)
{
	struct metrics *metrics = metrics_open(2);
	struct app_metrics *app_metrics =
	    metrics != NULL ? app_metrics_open(metrics, NULL, router_count(), router_name) : NULL;
	bool done = app_metrics != NULL && metrics_freeze(metrics);

	app_metrics_close(app_metrics);
	metrics_close(metrics);
	return done;
}

static bool
keys_of_providers(void)
{
	const struct config config = {.provider_count = 0};
	struct signing_keys *opened = signing_keys_open(&config);
	bool done = opened != NULL;

	signing_keys_close(opened);
	return done;
}

static bool
key_ring(void)
{
	const char *mistake = NULL;
	struct key_ring *ring = key_ring_open(arena, "k1:ERERERERERERERERERERERERERERERERERERERERERE=\n", &mistake);
	bool done = ring != NULL;

	key_ring_close(ring);
	return done;
}

/* RFC 7515 appendix A.3 */
static bool
key_set(void)
{
	static const char text[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"k\","
				   "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
				   "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";
	struct jwt_keys *keys = jwt_keys_open(text, strlen(text));
	bool done = keys != NULL;

	jwt_keys_close(keys);
	return done;
}

static bool
a_gateway(void)
{
	int ends[2];
	struct fastcgi *opened;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
	opened = fastcgi_open(ends[0]);
	close(ends[1]);
	if (opened == NULL)
		close(ends[0]); /* still ours */
	fastcgi_close(opened);
	return opened != NULL;
}

static bool
commands(void)
{
	static const char word[100000];
	const char *const argv[] = {"GET", word};
	const size_t lengths[] = {3, sizeof word};
	struct resp resp = {0};
	bool done = true;

	for (int i = 0; i < 3; i++) {
		size_t before = resp_left(&resp);

		if (resp_add(&resp, 2, argv, lengths, NULL))
			continue;
		done = false;
		assert_int_equal(resp_left(&resp), before); /* whole or not at all */
	}
	resp_clear(&resp);
	free(resp.bytes);
	return done;
}

static struct key_ring *ring;
static char keys_path[256];

static bool
a_new_key(void)
{
	struct config_keys_file file = {.path = keys_path};
	const struct config config = {.keys = ring, .keys_file = &file};

	return config_learn_key(&config, "k2");
}

static int
open_all(void **state)
{
	(void)state;
	loop = loop_open();
	resolver = resolver_open(loop);
	arena = arena_open(65536, 1024 * 1024, NULL, NULL);
	return resolver == NULL || arena == NULL;
}

static int
close_all(void **state)
{
	(void)state;
	arena_close(arena);
	resolver_close(resolver);
	loop_close(loop);
	return 0;
}

static void
every_allocation_in_turn(void **state)
{
	(void)state;
	each(CALLOC, 3, an_arena);
	each(CALLOC, 1, a_loop);
	each(CALLOC, 4, its_parts);
	each(CALLOC, 3, fibers);
	each(MMAP, 1, fibers);
	each(CALLOC, 1, singleflights);
	each(CALLOC, 2, a_resolver);
	each(CALLOC, 3, http);
	each(STRDUP, 2, http);
	each(CALLOC, 5, redis);
	each(CALLOC, 4, metrics_and_series);
	each(MMAP, 1, metrics_and_series);
	each(CALLOC, 1, keys_of_providers);
	each(CALLOC, 1, key_ring);
	each(MMAP, 1, key_ring);
	each(CALLOC, 1, key_set);
	each(CALLOC, 1, a_gateway);
	each(REALLOC, 2, commands);
}

/* In a worker, with requests in flight: it has to live on, and finds the key the next time. */
static void
a_key_looked_up(void **state)
{
	(void)state;
	const char *folder = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
	const char *mistake;
	FILE *file;
	int fd;

	assert_in_range(snprintf(keys_path, sizeof keys_path, "%s/keys.XXXXXX", folder), 1, sizeof keys_path - 1);
	fd = mkstemp(keys_path);
	assert_true(fd >= 0);
	file = fdopen(fd, "w");
	assert_non_null(file);
	for (int i = 0; i < 1000; i++)
		fprintf(file, "# A line of many: the file needs more than a small first chunk.\n");
	fprintf(file, "k2:IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI=\n");
	assert_int_equal(fclose(file), 0);
	ring = key_ring_open(arena, "k1:ERERERERERERERERERERERERERERERERERERERERERE=\n", &mistake);
	assert_non_null(ring);
	each(CALLOC, 2, a_new_key);
	key_ring_close(ring);
	assert_int_equal(unlink(keys_path), 0);
}

static void
closing_nothing(void **state)
{
	(void)state;
	loop_close(NULL);
	loop_io_close(NULL);
	fibers_close(NULL);
	singleflights_close(NULL);
	resolver_close(NULL);
	http_close(NULL);
	redis_close(NULL);
	app_metrics_close(NULL);
	metrics_close(NULL);
	signing_keys_close(NULL);
	jwt_keys_close(NULL);
	key_ring_close(NULL);
	fastcgi_close(NULL);
	config_close(NULL);
	arena_close(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(every_allocation_in_turn, open_all, close_all),
	    cmocka_unit_test_setup_teardown(a_key_looked_up, open_all, close_all),
	    cmocka_unit_test(closing_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
