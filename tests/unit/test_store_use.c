/* Uses are counted for a minute, by actor, member, service, event and outcome; no count is lost where the table is
 * full. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/fiber.h"
#include "common/redis.h"
#include "fcgi/app.h"
#include "fcgi/app_metrics.h"
#include "fcgi/config.h"
#include "fcgi/store.h"
#include "fcgi/store_use.h"
#include "fcgi/task.h"
#include "tests/unit/on_loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_MS 30
#define ROWS 8192 /* that the table holds */

static struct config config;
static struct app app;
static struct arena *arena;
static size_t entries;   /* without count */
static char counts[256]; /* of the others: "actor=count " */

/* ---- in place of Redis ---- */

static const char *
field(const struct redis_command *command, const char *name)
{
	for (int i = 2; i + 1 < command->argc; i++) {
		if (strcmp(command->argv[i], name) == 0)
			return command->argv[i + 1];
	}
	return NULL;
}

bool
redis_send_told(struct redis *redis, struct redis_batch *batch, const char *what, redis_end_function *end, void *arg)
{
	const char *count = field(&batch->commands[0], "count");

	(void)redis;
	(void)what;
	if (count == NULL)
		entries++;
	else
		snprintf(counts + strlen(counts), sizeof counts - strlen(counts), "%s=%s ",
			 field(&batch->commands[0], "actor"), count);
	end(arg, true, 0);
	return true;
}

bool
redis_send(struct redis *redis, struct redis_batch *batch, const char *what)
{
	(void)redis;
	(void)batch;
	(void)what;
	return false;
}

const struct error *
redis_run(struct redis *redis, struct redis_batch *batch, bool reads)
{
	(void)redis;
	(void)batch;
	(void)reads;
	return NULL;
}

const struct error *
redis_run_shared(struct redis *redis, struct redis_batch *batch)
{
	return redis_run(redis, batch, true);
}

void
app_metrics_event_lost(struct app *lost)
{
	(void)lost;
}

/* ---- uses ---- */

static void
use_as(const char *event, const char *actor, const char *user, const char *outcome)
{
	struct task task = {.app = &app,
			    .arena = arena,
			    .connection_key = {.organization = "acme", .user = user, .service = "google"},
			    .actor = actor,
			    .request_id = "r1"};

	store_event_use(&task, event, outcome);
	arena_reset(arena);
}

static void
use(const char *actor, const char *user, const char *outcome)
{
	use_as("token_issued", actor, user, outcome);
}

static int
open_all(void **state)
{
	config = (struct config){.audit_uses = 10000};
	app = (struct app){.config = &config};
	entries = 0;
	counts[0] = '\0';
	arena = arena_open(4096, 65536, NULL, NULL);
	if (arena == NULL || on_loop_open(state) != 0)
		return -1;
	app.loop = test_loop;
	app.uses = store_uses_open(&app, MINUTE_MS);
	return app.uses == NULL;
}

static int
close_all(void **state)
{
	store_uses_close(app.uses);
	arena_close(arena);
	return on_loop_close(state);
}

static void
two_minutes(void *arg)
{
	(void)arg;
	use("a", "ada", "ok");
	use("a", "ada", "ok");
	use("b", "ada", "ok");
	use("a", "bob", "ok");
	use("a", "ada", "stale");
	use_as("validated", "a", "ada", "ok");
	assert_int_equal(entries, 5);
	fiber_sleep(MINUTE_MS / 2);
	use("c", "ada", "ok");
	use("c", "ada", "ok");
	use("a", "ada", "ok");
	assert_string_equal(counts, "");
	while (strlen(counts) < strlen("a=2 c=1 "))
		fiber_sleep(5);
	assert_string_equal(counts, "a=2 c=1 ");
	assert_int_equal(entries, 6);
	use("a", "ada", "ok");
	assert_int_equal(entries, 7);
}

static void
counts_for_a_minute(void **state)
{
	(void)state;
	on_loop_start(two_minutes, NULL);
	on_loop_finish(5000);
}

static void
a_full_table_loses_no_count(void **state)
{
	char user[16];

	(void)state;
	use("a", "first", "ok");
	use("a", "first", "ok");
	for (int i = 1; i < ROWS; i++) {
		snprintf(user, sizeof user, "u%d", i);
		use("a", user, "ok");
	}
	assert_string_equal(counts, "");
	use("a", "last", "ok");
	assert_string_equal(counts, "a=1 ");
	assert_int_equal(entries, ROWS + 1);
	use("a", "first", "ok");
	assert_int_equal(entries, ROWS + 2);
}

static void
an_end_writes_and_counts_no_more(void **state)
{
	(void)state;
	use("a", "ada", "ok");
	use("a", "ada", "ok");
	store_uses_end(app.uses);
	assert_string_equal(counts, "a=1 ");
	use("a", "ada", "ok");
	use("a", "ada", "ok");
	assert_int_equal(entries, 3);
}

static void
a_command_has_an_entry_for_each(void **state)
{
	struct uses *uses = app.uses;

	(void)state;
	app.uses = NULL;
	use("a", "ada", "ok");
	use("a", "ada", "ok");
	assert_int_equal(entries, 2);
	app.uses = uses;
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(counts_for_a_minute, open_all, close_all),
	    cmocka_unit_test_setup_teardown(a_full_table_loses_no_count, open_all, close_all),
	    cmocka_unit_test_setup_teardown(an_end_writes_and_counts_no_more, open_all, close_all),
	    cmocka_unit_test_setup_teardown(a_command_has_an_entry_for_each, open_all, close_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
