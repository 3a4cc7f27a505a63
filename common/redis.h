/*
 * Redis: one connection per process, shared by all fibers; nothing else includes hiredis.
 *
 * Commands of all fibers that are ready in one turn of the loop leave in one write. A fiber parks until its replies are
 * there. Any error, or a reply older than the time limit, drops the whole connection: every waiting fiber fails with
 * error_store_unavailable, and the next command connects anew. "Cannot be reached" is an error; "not there" is a nil
 * reply: never the same value.
 *
 * Arguments are C strings (binary values are sealed or encoded before they come here) and always sent by length.
 */
#ifndef COMMON_REDIS_H
#define COMMON_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct error;
struct loop;
struct metrics;
struct redis;
struct resolver;
struct resp_tail;

#define REDIS_TIMEOUT_MS 500 /* a command's reply, and a connect with its AUTH and SELECT */
#define REDIS_BATCH_MAX 64   /* commands in one batch */

enum redis_type { REDIS_NIL, REDIS_STRING, REDIS_INTEGER, REDIS_ARRAY, REDIS_ERROR };

/* A reply, in the arena of the batch. Status replies are REDIS_STRING. */
struct redis_reply {
	enum redis_type type;
	int64_t integer;
	const char *text; /* REDIS_STRING, REDIS_ERROR; ends in NUL */
	size_t len;
	size_t count; /* REDIS_ARRAY */
	struct redis_reply **items;
};

/* Commands that are sent together and answered together. */
struct redis_batch {
	struct arena *arena;
	size_t count;
	struct redis_command {
		int argc;
		const char **argv;
		size_t *lengths;
		const struct redis_script *script; /* argv[1] is its SHA-1 */
		const struct resp_tail *tail;      /* NULL: none */
	} commands[REDIS_BATCH_MAX];
	struct redis_reply *reply[REDIS_BATCH_MAX]; /* filled by redis_run */
};

/* A Lua script, run by its SHA-1; the source is sent where Redis does not know it. */
struct redis_script {
	const char *source;
	const char *sha1;  /* of the source, 40 hex digits; made with it (Makefile) */
	const char *shape; /* of its reply (redis_reply_shape.h) */
};

/* Register the series of all connections of this process; before metrics_freeze. */
void redis_register_metrics(struct metrics *metrics);

/*
 * Is `url` of a form that works here: redis://[user:pass@]host:port/db or unix:///path[?db=N]? On a mistake false and
 * *mistake says what (without the password).
 */
bool redis_url_check(const char *url, const char **mistake);

/* The TCP port of `url` (checked before); 0 for a unix socket. */
unsigned redis_url_port(const char *url);

/*
 * A connection for `url` (checked before); connects with its first command. `name` labels its log lines. Counts in
 * `metrics` unless that is NULL. NULL without memory.
 */
struct redis *redis_open(struct loop *loop, struct resolver *resolver, struct metrics *metrics, const char *name,
			 const char *url);
void redis_close(struct redis *redis);

void redis_batch_init(struct redis_batch *batch, struct arena *arena);

/* Add a command: its words as C strings, ended by NULL. */
void redis_add(struct redis_batch *batch, ...) __attribute__((sentinel));
void redis_add_argv(struct redis_batch *batch, int argc, const char *const *argv);

/* Add `HMGET key` and the fields of the tail (resp.h). */
void redis_add_hmget(struct redis_batch *batch, const char *key, const struct resp_tail *fields);

/* Add EVALSHA of `script`: `keys` and `arguments` are NULL-terminated lists. */
void redis_add_script(struct redis_batch *batch, const struct redis_script *script, const char *const *keys,
		      const char *const *arguments);

/*
 * Send the batch and park until all replies are there. NULL: every reply is there and none is REDIS_ERROR. An error
 * reply (logged by its first word) gives error_store_unavailable, too. A batch is appended whole: nothing of another
 * fiber comes between its commands. A reply that its command cannot have (redis_reply_shape.h) is an error, too, and
 * ends the connection. `reads` true says that all of it may be repeated: it is, once, when the connection turned out
 * dead before any reply. Only on a fiber.
 */
const struct error *redis_run(struct redis *redis, struct redis_batch *batch, bool reads);

/*
 * The same for a batch of one command that reads and that many fibers want at once: those of one turn of the loop send
 * it once, and each gets the reply in its own arena. No fiber joins what is written already, so the reply is as new as
 * one's own.
 */
const struct error *redis_run_shared(struct redis *redis, struct redis_batch *batch);

/*
 * Send the batch and do not wait; an error is counted and logged under `what`. Never parks; works on the loop's stack,
 * too. False (and counted) when there is no connection now; one is made, for what is sent later.
 */
bool redis_send(struct redis *redis, struct redis_batch *batch, const char *what);

/*
 * The same, and `end` is told, once and never from within this call, whether Redis has done all of it, and the number
 * that the last reply was, if it was one. Not called where this returns false.
 */
typedef void redis_end_function(void *arg, bool done, int64_t number);
bool redis_send_told(struct redis *redis, struct redis_batch *batch, const char *what, redis_end_function *end,
		     void *arg);

/* Park until nothing is under way that was sent without waiting: before redis_close, which would call it lost. Only on
 * a fiber. */
void redis_settle(struct redis *redis, struct arena *arena);

/* Helpers for hash replies (HMGET: the array of values in the order asked for). NULL for nil or no such item. */
const char *redis_item(const struct redis_reply *reply, size_t index);

/* The value of `field` in an HGETALL reply, or NULL. */
const char *redis_field(const struct redis_reply *reply, const char *field);

#endif
