/* The Redis connection against a scripted peer that runs on the same loop, so that every order of events can be had. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/clock.h"
#include "common/error.h"
#include "common/fiber.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/redis.h"
#include "common/resolve.h"
#include "tests/unit/on_loop.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_CONNECTIONS 16

/* What stands in for Redis: it answers with whatever the test says, when the test says so. */
static struct peer {
	char path[64];
	int listener;
	int fd; /* the newest connection; -1: none */
	int old[MAX_CONNECTIONS];
	size_t accepted;
	struct loop_io *accept_io, *io;
	char in[256 * 1024]; /* all that came over the newest connection */
	size_t len;
	size_t reads;
	size_t answered;
	size_t seen;       /* of `in` */
	void (*got)(void); /* after each read */
} peer;

static struct redis *redis;
static struct resolved addresses; /* of every host */

bool
resolve(struct resolver *unused, const char *host, int64_t deadline_ms, struct resolved *out)
{
	(void)unused;
	(void)host;
	(void)deadline_ms;
	*out = addresses;
	return addresses.count > 0;
}

static void
peer_read(void *arg, int events)
{
	ssize_t n = recv(peer.fd, peer.in + peer.len, sizeof peer.in - peer.len - 1, 0);

	(void)arg;
	(void)events;
	if (n <= 0) { /* the client has closed: nothing more will come */
		loop_io_set(peer.io, 0);
		return;
	}
	peer.len += (size_t)n;
	peer.in[peer.len] = '\0';
	peer.reads++;
	if (peer.got != NULL)
		peer.got();
}

static void
peer_accept(void *arg, int events)
{
	(void)arg;
	(void)events;
	loop_io_close(peer.io);
	peer.io = NULL;
	if (peer.fd >= 0)
		peer.old[peer.accepted - 1] = peer.fd;
	peer.fd = accept4(peer.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(peer.fd >= 0);
	assert_true(++peer.accepted < MAX_CONNECTIONS);
	peer.len = peer.answered = peer.seen = 0;
	peer.in[0] = '\0';
	peer.io = loop_io_open(test_loop, peer.fd, LOOP_READ, peer_read, NULL);
}

static void
peer_close(void)
{
	loop_io_close(peer.io);
	peer.io = NULL;
	close(peer.fd);
	peer.fd = -1;
}

static void
peer_send_bytes(const char *bytes, size_t len)
{
	assert_int_equal(send(peer.fd, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void
peer_send(const char *text)
{
	peer_send_bytes(text, strlen(text));
}

static size_t
occurrences(const char *text)
{
	size_t count = 0;

	for (const char *at = peer.in; (at = strstr(at, text)) != NULL; at++)
		count++;
	return count;
}

static void
open_client(const char *prefix, const char *suffix)
{
	char url[128];

	snprintf(url, sizeof url, "%s%s%s", prefix, peer.path, suffix);
	redis = redis_open(test_loop, NULL, NULL, "test", url);
	assert_non_null(redis);
}

static int
open_all(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (on_loop_open(state) != 0)
		return -1;
	signal(SIGPIPE, SIG_IGN);
	memset(&peer, 0, sizeof peer);
	peer.fd = -1;
	memset(peer.old, -1, sizeof peer.old);
	snprintf(peer.path, sizeof peer.path, "/tmp/test-redis-%d.sock", (int)getpid());
	strcpy(address.sun_path, peer.path);
	unlink(peer.path);
	peer.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (bind(peer.listener, (const struct sockaddr *)(const void *)&address, sizeof address) != 0 ||
	    listen(peer.listener, 16) != 0)
		return -1;
	peer.accept_io = loop_io_open(test_loop, peer.listener, LOOP_READ, peer_accept, NULL);
	open_client("unix://", "");
	return 0;
}

static int
close_all(void **state)
{
	redis_close(redis);
	loop_io_close(peer.io);
	loop_io_close(peer.accept_io);
	if (peer.fd >= 0)
		close(peer.fd);
	for (size_t i = 0; i < MAX_CONNECTIONS; i++) {
		if (peer.old[i] >= 0)
			close(peer.old[i]);
	}
	close(peer.listener);
	unlink(peer.path);
	return on_loop_close(state);
}

/* One command on a fiber of its own. */
struct ask {
	const char *words[4];
	bool reads;
	bool shares;
	size_t limit; /* of its arena; 0: plenty */
	/* what became of it */
	struct arena *arena;
	struct redis_batch batch;
	const struct error *error;
	bool over;
	int64_t ms;
};

static void
ask_now(void *arg)
{
	struct ask *ask = arg;
	int64_t begun = clock_monotonic_ms();

	ask->arena = arena_open(1024, ask->limit > 0 ? ask->limit : 1024 * 1024, NULL, NULL);
	redis_batch_init(&ask->batch, ask->arena);
	redis_add(&ask->batch, ask->words[0], ask->words[1], ask->words[2], NULL);
	ask->error = ask->shares ? redis_run_shared(redis, &ask->batch) : redis_run(redis, &ask->batch, ask->reads);
	ask->ms = clock_monotonic_ms() - begun;
	ask->over = true;
}

static void
forget(struct ask *asks, size_t count)
{
	for (size_t i = 0; i < count; i++)
		arena_close(asks[i].arena);
}

/* ---- order ---- */

/* The next command with this word that has not been seen yet, or false. Marks before it are answered. */
static bool
next_command(const char *word)
{
	static const char echo[] = "ECHO\r\n$";

	for (;;) {
		const char *command = strstr(peer.in + peer.seen, word);
		const char *mark = strstr(peer.in + peer.seen, echo);
		const char *end;

		if (mark == NULL || (command != NULL && command < mark)) {
			peer.seen = command != NULL ? (size_t)(command - peer.in) + strlen(word) : peer.seen;
			return command != NULL;
		}
		mark += sizeof echo - 2; /* its number comes back as it is */
		end = strstr(strstr(mark, "\r\n") + 2, "\r\n") + 2;
		peer_send_bytes(mark, (size_t)(end - mark));
		peer.seen = (size_t)(end - peer.in);
	}
}

/* 0, 1, 2... over each connection. */
static void
answer_each_get(void)
{
	char reply[64];

	while (next_command("GET\r\n")) {
		snprintf(reply, sizeof reply, "$1\r\n%zu\r\n", peer.answered++);
		peer_send(reply);
	}
}

static void
replies_go_to_who_asked(void **state)
{
	struct ask asks[8] = {0};

	(void)state;
	peer.got = answer_each_get;
	for (size_t i = 0; i < 8; i++) {
		asks[i].words[0] = "GET";
		asks[i].words[1] = "key";
		on_loop_start(ask_now, &asks[i]);
	}
	on_loop_finish(2000);
	for (size_t i = 0; i < 8; i++) {
		assert_null(asks[i].error);
		assert_int_equal(asks[i].batch.reply[0]->type, REDIS_STRING);
	}
	assert_string_equal(asks[0].batch.reply[0]->text, "0"); /* it connected; the others waited for it */
	for (size_t i = 1; i < 8; i++) {
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(asks[i].batch.reply[0]->text, asks[j].batch.reply[0]->text);
	}
	assert_int_equal(peer.accepted, 1);
	assert_int_equal(peer.reads, 1); /* all in one write */
	forget(asks, 8);
}

static void
four_in_a_batch(void *arg)
{
	struct arena *arena = arena_open(1024, 65536, NULL, NULL);
	struct redis_batch batch;

	(void)arg;
	redis_batch_init(&batch, arena);
	for (int i = 0; i < 4; i++)
		redis_add(&batch, "GET", "key", NULL);
	assert_null(redis_run(redis, &batch, true));
	for (int i = 1; i < 4; i++)
		assert_int_equal(batch.reply[i]->text[0], batch.reply[0]->text[0] + i);
	arena_close(arena);
}

static void
batches_stay_together(void **state)
{
	(void)state;
	peer.got = answer_each_get;
	on_loop_start(four_in_a_batch, NULL);
	on_loop_start(four_in_a_batch, NULL);
	on_loop_finish(2000);
	assert_int_equal(occurrences("GET\r\n"), 8);
}

static const char *shifted; /* instead of the second reply over the connection `shifted_on` */
static size_t shifted_on;

static void
answer_shifted(void)
{
	if (peer.accepted != shifted_on) {
		answer_each_get();
		return;
	}
	while (next_command("GET\r\n")) {
		char reply[64];

		snprintf(reply, sizeof reply, "$1\r\n%zu\r\n", peer.answered++);
		if (peer.answered != 2)
			peer_send(reply);
		else
			peer_send(shifted);
	}
}

/* Nobody takes another's reply: all who were under way fail, and the next command has a new connection. */
static void
one_reply_too_many_or_too_few_is_nobody_s(void **state)
{
	static const char *const shifts[] = {"$1\r\n1\r\n$1\r\n1\r\n", "", "$1\r\n1\r\n:1\r\n", "$1\r\n1\r\n+O"};

	(void)state;
	for (size_t i = 0; i < sizeof shifts / sizeof shifts[0]; i++) {
		struct ask asks[5] = {0};

		shifted = shifts[i];
		peer.got = answer_shifted;
		shifted_on = peer.accepted + 1;
		for (size_t j = 0; j < 5; j++) {
			asks[j] = (struct ask){.words = {"GET", "key"}};
			if (j < 4)
				on_loop_start(ask_now, &asks[j]);
		}
		on_loop_finish(2000);
		for (size_t j = 0; j < 4; j++)
			assert_ptr_equal(asks[j].error, &error_store_unavailable);
		on_loop_start(ask_now, &asks[4]);
		on_loop_finish(2000);
		assert_null(asks[4].error);
		assert_string_equal(asks[4].batch.reply[0]->text, "0");
		forget(asks, 5);
		redis_close(redis);
		open_client("unix://", "");
	}
}

static void
answer_one_too_many(void)
{
	while (next_command("GET\r\n"))
		continue;
	peer_send("$1\r\n0\r\n$1\r\n0\r\n$1\r\n1\r\n");
}

static void
two_in_a_batch(void *arg)
{
	struct arena *arena = arena_open(1024, 65536, NULL, NULL);
	struct redis_batch batch;

	redis_batch_init(&batch, arena);
	redis_add(&batch, "GET", "a", NULL);
	redis_add(&batch, "GET", "b", NULL);
	*(const struct error **)arg = redis_run(redis, &batch, true);
	arena_close(arena);
}

/* The last reply of a batch tells nothing of those before it: what is behind it does. */
static void
a_reply_too_many_spoils_its_own_batch(void **state)
{
	const struct error *error = NULL;

	(void)state;
	peer.got = answer_one_too_many;
	on_loop_start(two_in_a_batch, &error);
	on_loop_finish(2000);
	assert_ptr_equal(error, &error_store_unavailable);
}

/* ---- parsing ---- */

static const char everything[] =
    "*6\r\n$5\r\nhello\r\n$-1\r\n:42\r\n+status\r\n*2\r\n$0\r\n\r\n*0\r\n$6\r\nab\0\r\nc\r\n";
#define EVERYTHING_LEN (sizeof everything - 1)

static size_t cut;

static void
send_rest(void *arg)
{
	(void)arg;
	fiber_sleep(2);
	peer_send_bytes(everything + cut, EVERYTHING_LEN - cut);
}

static void
send_part(void)
{
	peer_send_bytes(everything, cut);
	on_loop_start(send_rest, NULL);
}

static void
is_everything(const struct redis_reply *reply)
{
	assert_int_equal(reply->type, REDIS_ARRAY);
	assert_int_equal(reply->count, 6);
	assert_string_equal(redis_item(reply, 0), "hello");
	assert_int_equal(reply->items[1]->type, REDIS_NIL);
	assert_null(redis_item(reply, 1));
	assert_int_equal(reply->items[2]->integer, 42);
	assert_string_equal(redis_item(reply, 3), "status");
	assert_int_equal(reply->items[4]->count, 2);
	assert_string_equal(redis_item(reply->items[4], 0), "");
	assert_int_equal(reply->items[4]->items[1]->count, 0);
	assert_int_equal(reply->items[5]->len, 6);
	assert_memory_equal(reply->items[5]->text, "ab\0\r\nc", 6);
	assert_null(redis_item(reply, 6));
}

static void
replies_may_be_cut_anywhere(void **state)
{
	(void)state;
	peer.got = send_part;
	for (cut = 1; cut < EVERYTHING_LEN; cut++) {
		struct ask ask = {.words = {"ANY", "key"}};

		on_loop_start(ask_now, &ask);
		on_loop_finish(2000);
		assert_null(ask.error);
		is_everything(ask.batch.reply[0]);
		forget(&ask, 1);
	}
	assert_int_equal(peer.accepted, 1);
}

static void
send_byte_by_byte(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < EVERYTHING_LEN; i++) {
		peer_send_bytes(everything + i, 1);
		fiber_sleep(1);
	}
}

static void
start_dripping(void)
{
	on_loop_start(send_byte_by_byte, NULL);
}

static void
replies_may_drip(void **state)
{
	struct ask ask = {.words = {"ANY", "key"}};

	(void)state;
	peer.got = start_dripping;
	on_loop_start(ask_now, &ask);
	on_loop_finish(2000);
	assert_null(ask.error);
	is_everything(ask.batch.reply[0]);
	forget(&ask, 1);
}

static void
rubbish(void)
{
	peer_send("HTTP/1.1 400 Bad Request\r\n\r\n");
}

static void
rubbish_fails_and_drops_the_connection(void **state)
{
	struct ask asks[2] = {{.words = {"GET", "key"}}, {.words = {"GET", "key"}}};

	(void)state;
	peer.got = rubbish;
	on_loop_start(ask_now, &asks[0]);
	on_loop_finish(2000);
	assert_ptr_equal(asks[0].error, &error_store_unavailable);
	peer.got = answer_each_get;
	on_loop_start(ask_now, &asks[1]);
	on_loop_finish(2000);
	assert_null(asks[1].error);
	assert_int_equal(peer.accepted, 2);
	forget(asks, 2);
}

static void
send_stray_then_ask(void *arg)
{
	peer_send("$5\r\nstray\r\n");
	fiber_sleep(5);
	ask_now(arg);
}

static void
a_reply_that_nobody_asked_for_drops_the_connection(void **state)
{
	struct ask asks[2] = {{.words = {"GET", "key"}}, {.words = {"GET", "key"}}};

	(void)state;
	peer.got = answer_each_get;
	on_loop_start(ask_now, &asks[0]);
	on_loop_finish(2000);
	on_loop_start(send_stray_then_ask, &asks[1]);
	on_loop_finish(2000);
	assert_null(asks[1].error);
	assert_string_equal(asks[1].batch.reply[0]->text, "0");
	assert_int_equal(peer.accepted, 2);
	forget(asks, 2);
}

static void
send_half_a_stray_then_ask(void *arg)
{
	peer_send("$5\r\nst");
	fiber_sleep(5);
	ask_now(arg);
}

static void
half_a_reply_that_nobody_asked_for_drops_the_connection(void **state)
{
	struct ask asks[2] = {{.words = {"GET", "key"}}, {.words = {"GET", "key"}}};

	(void)state;
	peer.got = answer_each_get;
	on_loop_start(ask_now, &asks[0]);
	on_loop_finish(2000);
	on_loop_start(send_half_a_stray_then_ask, &asks[1]);
	on_loop_finish(2000);
	assert_null(asks[1].error);
	assert_string_equal(asks[1].batch.reply[0]->text, "0");
	assert_int_equal(peer.accepted, 2);
	forget(asks, 2);
}

static void
answer_with_a_number(void)
{
	peer_send(":1\r\n");
}

static void
a_reply_that_the_command_cannot_have_drops_the_connection(void **state)
{
	struct ask asks[2] = {{.words = {"GET", "key"}}, {.words = {"GET", "key"}}};

	(void)state;
	peer.got = answer_with_a_number;
	on_loop_start(ask_now, &asks[0]);
	on_loop_finish(2000);
	assert_ptr_equal(asks[0].error, &error_store_unavailable);
	peer.got = answer_each_get;
	on_loop_start(ask_now, &asks[1]);
	on_loop_finish(2000);
	assert_null(asks[1].error);
	assert_int_equal(peer.accepted, 2);
	forget(asks, 2);
}

/* ---- errors ---- */

static void
answer_error(void)
{
	peer_send("-OOM command not allowed\r\n");
}

static void
an_error_reply_is_an_error_of_that_command_only(void **state)
{
	struct ask asks[2] = {{.words = {"SET", "key", "value"}}, {.words = {"GET", "key"}}};

	(void)state;
	peer.got = answer_error;
	on_loop_start(ask_now, &asks[0]);
	on_loop_finish(2000);
	assert_ptr_equal(asks[0].error, &error_store_unavailable);
	peer.got = answer_each_get;
	on_loop_start(ask_now, &asks[1]);
	on_loop_finish(2000);
	assert_null(asks[1].error);
	assert_int_equal(peer.accepted, 1);
	forget(asks, 2);
}

static void
answer_readonly(void)
{
	peer_send("-READONLY You can't write against a read only replica.\r\n");
}

static void
a_replica_is_left(void **state)
{
	struct ask asks[2] = {{.words = {"SET", "key", "value"}}, {.words = {"GET", "key"}}};

	(void)state;
	peer.got = answer_readonly;
	on_loop_start(ask_now, &asks[0]);
	on_loop_finish(2000);
	assert_ptr_equal(asks[0].error, &error_store_unavailable);
	peer.got = answer_each_get;
	on_loop_start(ask_now, &asks[1]);
	on_loop_finish(2000);
	assert_null(asks[1].error);
	assert_int_equal(peer.accepted, 2);
	forget(asks, 2);
}

static void
close_at_once(void)
{
	peer_close();
}

static void
a_lost_connection_fails_every_writer(void **state)
{
	struct ask asks[5] = {0};

	(void)state;
	peer.got = close_at_once;
	for (size_t i = 0; i < 5; i++) {
		asks[i].words[0] = "SET";
		asks[i].words[1] = "key";
		on_loop_start(ask_now, &asks[i]);
	}
	on_loop_finish(2000);
	for (size_t i = 0; i < 5; i++)
		assert_ptr_equal(asks[i].error, &error_store_unavailable);
	assert_int_equal(peer.accepted, 1);
	forget(asks, 5);
}

static void
close_first_answer_second(void)
{
	if (peer.accepted == 1)
		peer_close();
	else
		answer_each_get();
}

static void
three_reads_are_repeated(bool shared)
{
	struct ask asks[3] = {0};

	peer.got = close_first_answer_second;
	for (size_t i = 0; i < 3; i++) {
		asks[i] = (struct ask){.words = {"GET", "key"}, .reads = true, .shares = shared};
		on_loop_start(ask_now, &asks[i]);
	}
	on_loop_finish(2000);
	for (size_t i = 0; i < 3; i++)
		assert_null(asks[i].error);
	assert_int_equal(peer.accepted, 2);
	forget(asks, 3);
}

static void
reads_are_repeated_once(void **state)
{
	struct ask asks[1];

	(void)state;
	three_reads_are_repeated(false);
	peer_close();
	peer.got = close_at_once;
	asks[0] = (struct ask){.words = {"GET", "key"}, .reads = true};
	on_loop_start(ask_now, &asks[0]);
	on_loop_finish(2000);
	assert_ptr_equal(asks[0].error, &error_store_unavailable);
	assert_int_equal(peer.accepted, 3);
	forget(asks, 1);
}

/* The peer has gone, and we learn it only when we write: who waits must go on at once, not at the next event. */
static void
close_then_ask(void *arg)
{
	peer_close();
	ask_now(arg);
}

static void
a_failed_write_wakes_who_waits(void **state)
{
	struct ask first = {.words = {"GET", "key"}};
	struct ask second = {.words = {"SET", "key"}};

	(void)state;
	peer.got = answer_each_get;
	on_loop_start(ask_now, &first);
	on_loop_finish(2000);
	on_loop_start(close_then_ask, &second);
	on_loop_finish(5000);
	assert_ptr_equal(second.error, &error_store_unavailable);
	assert_true(second.ms < 200);
	forget(&first, 1);
	forget(&second, 1);
}

static void
nobody_listens(void **state)
{
	struct ask ask = {.words = {"GET", "key"}, .reads = true};

	(void)state;
	loop_io_close(peer.accept_io);
	peer.accept_io = NULL;
	unlink(peer.path);
	on_loop_start(ask_now, &ask);
	on_loop_finish(2000);
	assert_ptr_equal(ask.error, &error_store_unavailable);
	assert_true(ask.ms < 200);
	forget(&ask, 1);
}

/* ---- time ---- */

static void
silence_times_out_and_a_late_reply_reaches_nobody(void **state)
{
	struct ask asks[3] = {{.words = {"SET", "a"}}, {.words = {"GET", "b"}, .reads = true}, {.words = {"GET", "c"}}};

	(void)state;
	on_loop_start(ask_now, &asks[0]);
	on_loop_start(ask_now, &asks[1]);
	on_loop_finish(3000);
	for (size_t i = 0; i < 2; i++) {
		assert_ptr_equal(asks[i].error, &error_store_unavailable);
		assert_in_range(asks[i].ms, REDIS_TIMEOUT_MS - 20, 2 * REDIS_TIMEOUT_MS);
	}
	/* Too late: the old connection must not be read any more, and the next command has a new one. */
	(void)send(peer.fd, "$4\r\nlate\r\n", 10, MSG_NOSIGNAL);
	peer.got = answer_each_get;
	on_loop_start(ask_now, &asks[2]);
	on_loop_finish(2000);
	assert_null(asks[2].error);
	assert_string_equal(asks[2].batch.reply[0]->text, "0");
	assert_int_equal(peer.accepted, 2);
	forget(asks, 3);
}

#define LARGE ((size_t)100 * 1024)

static void
answer_large(void)
{
	char *reply = calloc(1, LARGE + 32);
	int n = snprintf(reply, LARGE, "$%zu\r\n", LARGE);

	memset(reply + n, 'x', LARGE);
	memcpy(reply + (size_t)n + LARGE, "\r\n", 3);
	peer_send(reply);
	free(reply);
	usleep((REDIS_TIMEOUT_MS + 100) * 1000); /* the loop is held up, and with it its clock */
}

/* When we are late, the reply is there all the same: nothing may be dropped for it. */
static void
a_held_up_loop_is_no_timeout(void **state)
{
	struct ask ask = {.words = {"ANY", "key"}};

	(void)state;
	peer.got = answer_large;
	on_loop_start(ask_now, &ask);
	on_loop_finish(3000);
	assert_null(ask.error);
	assert_int_equal(ask.batch.reply[0]->len, LARGE);
	assert_int_equal(peer.accepted, 1);
	forget(&ask, 1);
}

#define LONG_COMMAND ((size_t)600 * 1024)

static void
hold_up_then_answer(void)
{
	static bool held;

	if (!held) {
		held = true;
		usleep((REDIS_TIMEOUT_MS + 100) * 1000);
	}
	if (strstr(peer.in, "end\r\n") != NULL)
		peer_send("+OK\r\n");
	else if (peer.len > sizeof peer.in / 2)
		peer.len = 0;
}

/* The same when it is we who have not written all of the command yet. */
static void
a_command_that_is_not_sent_is_not_late(void **state)
{
	char *value = calloc(1, LONG_COMMAND);
	struct ask ask = {.words = {"SET", value, "end"}, .limit = 4 * LONG_COMMAND};

	(void)state;
	memset(value, 'v', LONG_COMMAND - 1);
	peer.got = hold_up_then_answer;
	on_loop_start(ask_now, &ask);
	on_loop_finish(3000);
	assert_null(ask.error);
	assert_int_equal(peer.accepted, 1);
	forget(&ask, 1);
	free(value);
}

/* ---- size ---- */

static void
answer_large_then_small(void)
{
	static const char small[] = "$5\r\nsmall\r\n";
	char *reply = calloc(1, LARGE + 64);
	int n = snprintf(reply, LARGE, "*3\r\n$1\r\na\r\n$%zu\r\n", LARGE);

	if (occurrences("GET\r\n") < 2) {
		free(reply);
		return;
	}
	memset(reply + n, 'x', LARGE);
	memcpy(reply + (size_t)n + LARGE, "\r\n:1\r\n", 6);
	memcpy(reply + (size_t)n + LARGE + 6, small, sizeof small);
	peer_send(reply);
	free(reply);
	while (next_command("GET\r\n"))
		continue;
}

static void
a_reply_that_is_too_large_fails_its_batch_alone(void **state)
{
	struct ask warm = {.words = {"DEL", "x"}};
	struct ask asks[2] = {{.words = {"GET", "a"}, .limit = 16 * 1024}, {.words = {"GET", "b"}}};

	(void)state;
	peer.got = answer_error;
	on_loop_start(ask_now, &warm);
	on_loop_finish(2000);
	peer.got = answer_large_then_small;
	on_loop_start(ask_now, &asks[0]);
	on_loop_start(ask_now, &asks[1]);
	on_loop_finish(2000);
	assert_ptr_equal(asks[0].error, &error_overloaded);
	assert_null(asks[1].error);
	assert_string_equal(asks[1].batch.reply[0]->text, "small");
	assert_int_equal(peer.accepted, 1);
	forget(&warm, 1);
	forget(asks, 2);
}

static void
answer_long_array(void)
{
	peer_send("*2000000000\r\n:1\r\n");
}

static void
an_absurd_array_is_no_memory(void **state)
{
	struct ask ask = {.words = {"GET", "key"}};

	(void)state;
	peer.got = answer_long_array;
	on_loop_start(ask_now, &ask);
	on_loop_finish(3000); /* its end never comes */
	assert_ptr_equal(ask.error, &error_store_unavailable);
	forget(&ask, 1);
}

/* ---- replies that are shared ---- */

static void
connect_first(void)
{
	struct ask ask = {.words = {"GET", "key"}};

	peer.got = answer_each_get;
	on_loop_start(ask_now, &ask);
	on_loop_finish(2000);
	assert_null(ask.error);
	forget(&ask, 1);
}

static void
those_of_one_turn_share_a_reply(void **state)
{
	struct ask asks[6] = {{.words = {"GET", "a"}, .shares = true}, {.words = {"GET", "b"}, .shares = true},
			      {.words = {"GET", "a"}, .shares = true}, {.words = {"GET", "a"}},
			      {.words = {"GET", "a"}, .shares = true}, {.words = {"GET", "a", "c"}, .shares = true}};
	static const char *const replies[] = {"1", "2", "1", "3", "1", "4"};

	(void)state;
	connect_first();
	for (size_t i = 0; i < 6; i++)
		on_loop_start(ask_now, &asks[i]);
	on_loop_finish(2000);
	forget(asks, 1); /* the reply was in its arena */
	for (size_t i = 1; i < 6; i++) {
		assert_null(asks[i].error);
		assert_string_equal(asks[i].batch.reply[0]->text, replies[i]);
	}
	assert_int_equal(occurrences("GET\r\n"), 5);
	forget(asks + 1, 5);
}

static void
a_shared_reply_is_whole(void **state)
{
	struct ask asks[3] = {0};

	(void)state;
	connect_first();
	peer.got = send_part;
	cut = EVERYTHING_LEN - 1;
	for (size_t i = 0; i < 3; i++) {
		asks[i] = (struct ask){.words = {"ANY", "key"}, .shares = true};
		on_loop_start(ask_now, &asks[i]);
	}
	on_loop_finish(2000);
	forget(asks, 1);
	for (size_t i = 1; i < 3; i++) {
		assert_null(asks[i].error);
		is_everything(asks[i].batch.reply[0]);
	}
	forget(asks + 1, 2);
}

static struct ask later;

static void
ask_when_the_first_is_written(void)
{
	if (occurrences("GET\r\n") == 2 && !later.over) {
		on_loop_start(ask_now, &later);
		later.over = true;
		return;
	}
	answer_each_get();
}

/* The value may have changed after Redis read it for the first. */
static void
nobody_shares_what_is_written(void **state)
{
	struct ask first = {.words = {"GET", "a"}, .shares = true};

	(void)state;
	connect_first();
	later = (struct ask){.words = {"GET", "a"}, .shares = true};
	peer.got = ask_when_the_first_is_written;
	on_loop_start(ask_now, &first);
	on_loop_finish(2000);
	assert_null(later.error);
	assert_string_equal(first.batch.reply[0]->text, "1");
	assert_string_equal(later.batch.reply[0]->text, "2");
	forget(&first, 1);
	forget(&later, 1);
}

static void
those_who_share_a_lost_reply_ask_again(void **state)
{
	(void)state;
	three_reads_are_repeated(true);
}

static void
those_who_share_an_error_have_it(void **state)
{
	struct ask asks[2] = {{.words = {"GET", "key"}, .shares = true}, {.words = {"GET", "key"}, .shares = true}};

	(void)state;
	connect_first();
	peer.got = answer_error;
	on_loop_start(ask_now, &asks[0]);
	on_loop_start(ask_now, &asks[1]);
	on_loop_finish(2000);
	assert_ptr_equal(asks[0].error, &error_store_unavailable);
	assert_ptr_equal(asks[1].error, &error_store_unavailable);
	forget(asks, 2);
}

#define SOME ((size_t)4 * 1024)

static void
answer_some(void)
{
	while (next_command("GET\r\n")) {
		char reply[SOME + 32];
		int n = snprintf(reply, sizeof reply, "$%zu\r\n", SOME);

		memset(reply + n, 'x', SOME);
		memcpy(reply + (size_t)n + SOME, "\r\n", 3);
		peer_send(reply);
	}
}

/* Whoever has no room for it, first or not, fails alone. */
static void
a_shared_reply_may_be_too_large_for_one(void **state)
{
	(void)state;
	connect_first();
	peer.got = answer_some;
	for (size_t narrow = 0; narrow < 3; narrow++) {
		struct ask asks[3] = {0};

		for (size_t i = 0; i < 3; i++) {
			asks[i] = (struct ask){.words = {"GET", "a"}, .shares = true, .limit = i == narrow ? SOME : 0};
			on_loop_start(ask_now, &asks[i]);
		}
		on_loop_finish(2000);
		for (size_t i = 0; i < 3; i++) {
			assert_ptr_equal(asks[i].error, i == narrow ? &error_overloaded : NULL);
			if (i != narrow)
				assert_int_equal(strspn(asks[i].batch.reply[0]->text, "x"), SOME);
		}
		forget(asks, 3);
	}
}

/* ---- scripts ---- */

static const struct redis_script script = {.source = "return KEYS[1]",
					   .sha1 = "4a2267357833227dd98abdedb8cf24b15a986445"};

static void
run_script(void *arg)
{
	const char *const keys[] = {"key", NULL};
	const char *const arguments[] = {"one", "two", NULL};
	struct ask *ask = arg;

	ask->arena = arena_open(1024, 65536, NULL, NULL);
	redis_batch_init(&ask->batch, ask->arena);
	redis_add_script(&ask->batch, &script, keys, arguments);
	ask->error = redis_run(redis, &ask->batch, false);
}

static void
answer_noscript(void)
{
	if (occurrences("EVALSHA\r\n") == 1 && occurrences("EVAL\r\n") == 0)
		peer_send("-NOSCRIPT No matching script.\r\n");
	else
		peer_send("+done\r\n");
}

static void
an_unknown_script_is_sent_whole(void **state)
{
	struct ask ask = {0};

	(void)state;
	peer.got = answer_noscript;
	on_loop_start(run_script, &ask);
	on_loop_finish(2000);
	assert_null(ask.error);
	assert_string_equal(ask.batch.reply[0]->text, "done");
	assert_non_null(strstr(peer.in, "*6\r\n$7\r\nEVALSHA\r\n$40\r\n"));
	assert_non_null(
	    strstr(peer.in,
		   "*6\r\n$4\r\nEVAL\r\n$14\r\nreturn KEYS[1]\r\n$1\r\n1\r\n$3\r\nkey\r\n$3\r\none\r\n$3\r\ntwo\r\n"));
	forget(&ask, 1);
}

/* ---- commands that nobody waits for ---- */

static void
answer_ok_and_values(void)
{
	while (next_command("\r\nS")) {
		if (strncmp(peer.in + peer.seen, "MEMBERS\r\n", 9) == 0)
			peer_send("*2\r\n$5\r\nvalue\r\n$4\r\nmore\r\n");
		else
			peer_send("+OK\r\n");
	}
}

static void
send_and_ask(void *arg)
{
	struct ask *ask = arg;
	struct redis_batch unheard;

	for (int round = 0; round < 20; round++) {
		struct arena *arena = arena_open(1024, 65536, NULL, NULL);

		redis_batch_init(&unheard, arena);
		redis_add(&unheard, "SET", "mark", NULL);
		assert_true(redis_send(redis, &unheard, "a mark"));
		redis_batch_init(&ask->batch, arena);
		redis_add(&ask->batch, "SMEMBERS", "key", NULL);
		assert_null(redis_run(redis, &ask->batch, true));
		assert_true(redis_send(redis, &unheard, "a mark"));
		fiber_sleep(1 + round % 3); /* the reply to the mark comes before this one is read */
		assert_string_equal(redis_item(ask->batch.reply[0], 0), "value");
		assert_string_equal(redis_item(ask->batch.reply[0], 1), "more");
		arena_close(arena);
	}
}

static void
unheard_replies_disturb_nobody(void **state)
{
	struct ask warm = {.words = {"SMEMBERS", "key"}};
	struct ask asks[4] = {0};

	(void)state;
	peer.got = answer_ok_and_values;
	on_loop_start(ask_now, &warm);
	on_loop_finish(2000);
	for (size_t i = 0; i < 4; i++)
		on_loop_start(send_and_ask, &asks[i]);
	on_loop_finish(5000);
	assert_int_equal(peer.accepted, 1);
	forget(&warm, 1);
}

static void
without_a_connection_nothing_is_sent(void **state)
{
	struct arena *arena = arena_open(1024, 65536, NULL, NULL);
	struct redis_batch batch;

	(void)state;
	redis_batch_init(&batch, arena);
	redis_add(&batch, "SET", "mark", NULL);
	assert_false(redis_send(redis, &batch, "a mark"));
	arena_close(arena);
}

static void
answer_set_and_ping(void)
{
	assert_true(next_command("SET\r\n"));
	peer_send("+OK\r\n");
	assert_true(next_command("PING\r\n"));
	peer_send("+PONG\r\n");
	assert_false(next_command("GET\r\n")); /* answers the mark behind it */
}

static void
note_end(void *arg, bool done, int64_t number)
{
	(void)number;
	*(bool *)arg = done;
}

static void
send_and_settle(void *arg)
{
	struct arena *arena = arena_open(1024, 65536, NULL, NULL);
	bool *settled = arg;
	struct redis_batch batch;
	bool done = false;

	redis_batch_init(&batch, arena);
	redis_add(&batch, "SET", "mark", "1", NULL);
	assert_true(redis_send_told(redis, &batch, "a mark", note_end, &done));
	redis_settle(redis, arena);
	*settled = done;
	arena_close(arena);
}

static void
settle_nothing(void *arg)
{
	redis_settle(redis, NULL);
	*(bool *)arg = true;
}

static void
settling_waits_for_what_is_under_way(void **state)
{
	struct ask warm = {.words = {"GET", "key"}};
	bool settled[2] = {false, false};

	(void)state;
	on_loop_start(settle_nothing, &settled[0]);
	on_loop_finish(2000);
	assert_true(settled[0]);
	assert_int_equal(peer.accepted, 0);
	peer.got = answer_each_get;
	on_loop_start(ask_now, &warm);
	on_loop_finish(2000);
	peer.got = answer_set_and_ping;
	on_loop_start(send_and_settle, &settled[1]);
	on_loop_finish(2000);
	assert_true(settled[1]);
	forget(&warm, 1);
}

/* ---- connecting ---- */

static void
accept_introduction(void)
{
	if (strstr(peer.in, "GET\r\n") != NULL)
		peer_send("$2\r\nme\r\n");
	else if (strstr(peer.in, "SELECT\r\n") != NULL)
		peer_send("+OK\r\n");
}

static void
a_database_is_selected_first(void **state)
{
	struct ask ask = {.words = {"GET", "key"}};

	(void)state;
	redis_close(redis);
	open_client("unix://", "?db=3");
	peer.got = accept_introduction;
	on_loop_start(ask_now, &ask);
	on_loop_finish(2000);
	assert_null(ask.error);
	assert_ptr_equal(strstr(peer.in, "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*2\r\n$3\r\nGET\r\n"), peer.in);
	forget(&ask, 1);
}

static void
a_refused_introduction_is_an_error(void **state)
{
	struct ask asks[3] = {{.words = {"GET", "a"}}, {.words = {"GET", "b"}}, {.words = {"GET", "c"}}};

	(void)state;
	redis_close(redis);
	open_client("unix://", "?db=99");
	peer.got = answer_error;
	for (size_t i = 0; i < 3; i++)
		on_loop_start(ask_now, &asks[i]);
	on_loop_finish(2000);
	for (size_t i = 0; i < 3; i++)
		assert_ptr_equal(asks[i].error, &error_store_unavailable);
	assert_null(strstr(peer.in, "GET"));
	forget(asks, 3);
}

/* ---- the addresses of a name ---- */

/* A TCP socket that listens on `address`; *port 0: on a free one. */
static int
listen_on(const char *address, uint16_t *port, int backlog)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(*port)};
	socklen_t len = sizeof at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_int_equal(inet_pton(AF_INET, address, &at.sin_addr), 1);
	assert_int_equal(bind(fd, (const struct sockaddr *)(const void *)&at, sizeof at), 0);
	assert_int_equal(listen(fd, backlog), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)(void *)&at, &len), 0);
	*port = ntohs(at.sin_port);
	return fd;
}

/* The peer is on the last of these addresses, and there only. Returns its port. */
static uint16_t
move_peer(const char *const *list, size_t count)
{
	uint16_t port = 0;
	char url[64];

	addresses.count = count;
	for (size_t i = 0; i < count; i++)
		snprintf(addresses.address[i], RESOLVE_TEXT, "%s", list[i]);
	loop_io_close(peer.accept_io);
	close(peer.listener);
	peer.listener = listen_on(list[count - 1], &port, 16);
	peer.accept_io = loop_io_open(test_loop, peer.listener, LOOP_READ, peer_accept, NULL);
	peer.got = answer_each_get;
	redis_close(redis);
	snprintf(url, sizeof url, "redis://redis.example:%u", port);
	redis = redis_open(test_loop, NULL, NULL, "test", url);
	assert_non_null(redis);
	return port;
}

static bool
is_answered(void)
{
	struct ask ask = {.words = {"GET", "key"}, .reads = true};

	on_loop_start(ask_now, &ask);
	on_loop_finish(2000);
	forget(&ask, 1);
	return ask.error == NULL;
}

static void
an_address_that_refuses_is_passed_by(void **state)
{
	static const char *const list[] = {"127.0.0.2", "::1", "127.0.0.3", "127.0.0.4"};

	(void)state;
	(void)move_peer(list, 4);
	assert_true(is_answered());
	peer_close();
	assert_true(is_answered());
	assert_int_equal(peer.accepted, 2);
	addresses.count = 1; /* looked up anew, the name has fewer: those are tried */
	peer_close();
	assert_false(is_answered());
	addresses.count = 0;
	assert_false(is_answered());
	assert_int_equal(peer.accepted, 2);
}

/* Its queue of connections is full: whoever connects hears nothing. */
static void
an_address_that_is_silent_is_passed_by_next_time(void **state)
{
	static const char *const list[] = {"127.0.0.2", "127.0.0.3"};
	uint16_t port = move_peer(list, 2);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
	int listener = listen_on(list[0], &port, 0);
	int fds[3];

	(void)state;
	assert_int_equal(inet_pton(AF_INET, list[0], &at.sin_addr), 1);
	for (size_t i = 0; i < 3; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(fds[i], (const struct sockaddr *)(const void *)&at, sizeof at);
	}
	assert_false(is_answered());
	assert_int_equal(peer.accepted, 0);
	assert_true(is_answered());
	peer_close();
	assert_true(is_answered()); /* where it was before */
	assert_int_equal(peer.accepted, 2);
	for (size_t i = 0; i < 3; i++)
		close(fds[i]);
	close(listener);
}

static void
fields_are_found(void **state)
{
	struct redis_reply name = {.type = REDIS_STRING, .text = "name", .len = 4};
	struct redis_reply value = {.type = REDIS_STRING, .text = "value", .len = 5};
	struct redis_reply nil = {.type = REDIS_NIL};
	struct redis_reply *items[] = {&name, &value, &nil};
	struct redis_reply reply = {.type = REDIS_ARRAY, .count = 3, .items = items};

	(void)state;
	assert_string_equal(redis_field(&reply, "name"), "value");
	assert_null(redis_field(&reply, "value"));
	assert_null(redis_field(&nil, "name"));
	assert_null(redis_item(NULL, 0));
	assert_null(redis_item(&reply, 2));
	assert_null(redis_item(&reply, 3));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(replies_go_to_who_asked),
	    TEST(batches_stay_together),
	    TEST(one_reply_too_many_or_too_few_is_nobody_s),
	    TEST(a_reply_too_many_spoils_its_own_batch),
	    TEST(replies_may_be_cut_anywhere),
	    TEST(replies_may_drip),
	    TEST(rubbish_fails_and_drops_the_connection),
	    TEST(a_reply_that_nobody_asked_for_drops_the_connection),
	    TEST(half_a_reply_that_nobody_asked_for_drops_the_connection),
	    TEST(a_reply_that_the_command_cannot_have_drops_the_connection),
	    TEST(an_error_reply_is_an_error_of_that_command_only),
	    TEST(a_replica_is_left),
	    TEST(a_lost_connection_fails_every_writer),
	    TEST(reads_are_repeated_once),
	    TEST(a_failed_write_wakes_who_waits),
	    TEST(nobody_listens),
	    TEST(silence_times_out_and_a_late_reply_reaches_nobody),
	    TEST(a_held_up_loop_is_no_timeout),
	    TEST(a_command_that_is_not_sent_is_not_late),
	    TEST(a_reply_that_is_too_large_fails_its_batch_alone),
	    TEST(an_absurd_array_is_no_memory),
	    TEST(those_of_one_turn_share_a_reply),
	    TEST(a_shared_reply_is_whole),
	    TEST(nobody_shares_what_is_written),
	    TEST(those_who_share_a_lost_reply_ask_again),
	    TEST(those_who_share_an_error_have_it),
	    TEST(a_shared_reply_may_be_too_large_for_one),
	    TEST(an_unknown_script_is_sent_whole),
	    TEST(unheard_replies_disturb_nobody),
	    TEST(without_a_connection_nothing_is_sent),
	    TEST(settling_waits_for_what_is_under_way),
	    TEST(a_database_is_selected_first),
	    TEST(a_refused_introduction_is_an_error),
	    TEST(an_address_that_refuses_is_passed_by),
	    TEST(an_address_that_is_silent_is_passed_by_next_time),
	    cmocka_unit_test(fields_are_found),
	};

	log_configure(LOG_LEVEL_ERROR, true); /* kept, and not written: what fails here is meant to */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
