/*
 * The connection that redis.h is about, as its own files see it, and only they: redis.c sends batches, redis_connect.c
 * connects, redis_replies.c reads and says whose reply it is.
 *
 * A connection is DOWN, CONNECTING (one fiber connects, the others wait for it) or UP. Whatever goes wrong on it, it is
 * closed whole and every batch in the queue fails; no reply that was late can reach a later command.
 */
#ifndef COMMON_REDIS_INTERNAL_H
#define COMMON_REDIS_INTERNAL_H

#include "common/redis.h"

#include "common/redis_reply_shape.h"
#include "common/redis_url.h"
#include "common/resp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REDIS_MARK_SIZE 24

struct fiber;
struct fibers;
struct loop_hook;
struct loop_io;
struct loop_timer;
struct redisContext;
struct redisReader;

enum redis_state { REDIS_DOWN, REDIS_CONNECTING, REDIS_UP };
enum redis_end { REDIS_PENDING, REDIS_ANSWERED, REDIS_LOST, REDIS_TIMED_OUT, REDIS_TOO_LARGE };

/* A batch in the queue. On its fiber's stack; allocated where no fiber waits. */
struct redis_waiter {
	struct fiber *fiber;
	struct arena *arena;
	struct redis_reply **replies; /* NULL: no fiber reads them */
	const char *what;             /* names it in the log, where no fiber waits */
	const struct redis_command *commands;
	struct redis_reply_shape shape; /* of a reply, where no fiber waits: then it is one command */
	redis_end_function *on_end;     /* where no fiber waits, but the caller wants to know */
	void *arg;
	int64_t number; /* the last reply, where it was one */
	bool refused;   /* a reply was an error */
	bool offers;    /* its reply to others who ask the same before it is sent */
	size_t wanted;
	size_t got;
	bool too_large; /* a reply did not fit into the arena */
	uint64_t mark;  /* 0: none; else the number of the mark that is behind this batch */
	int64_t sent_ms;
	enum redis_end end;
	struct redis_waiter *next;
	struct redis_waiter *next_offered;
	struct redis_waiter *sharing; /* those that get a copy of the reply; each names the next one by `next` */
};

struct redis {
	struct loop *loop;
	struct resolver *resolver;
	struct metrics *metrics;
	const char *name;
	struct redis_target target;
	enum redis_state state;
	size_t next_address;   /* of the host's, counted on where one failed */
	const char *failed_by; /* static: why no connection to the last address came about; NULL: one did */
	struct redisContext *context;
	struct loop_io *io;
	struct loop_timer *timer;
	struct loop_hook *hook;
	struct redis_waiter *head, **end;
	struct redis_waiter *tail;             /* the last one, while there is a head */
	struct redis_waiter *unsent;           /* the first one whose commands are not written yet */
	struct redis_waiter *offered;          /* of the unsent: whose reply others may share */
	struct redis_waiter *held, **held_end; /* have their replies, if nothing stray or a wrong mark comes behind */
	uint64_t last_mark;
	size_t marks;                  /* under way */
	struct fiber *connect_waiters; /* fibers that wait for the one that connects */
	struct fiber *connector;       /* waits for the socket to become writable */
	int64_t took_more_ms;          /* when the socket last took what it had not taken at once */
	struct resp out;               /* commands to be written */
	bool dirty;                    /* something was appended in this turn */
	struct arena *scratch;         /* replies that no fiber reads */
	struct fibers *reconnect;      /* one, for what is sent without waiting while there is no connection */
	int64_t complained_ms;         /* last log line about the connection: at most one a second */
};

/* One set of series per process. */
extern struct redis_series {
	size_t ok, failed, lost, timed_out, connected, connect_failed, unsent;
} redis_series;

void redis_count(struct redis *redis, size_t which, size_t n);

/* ---- redis.c ---- */

/* Put a batch at the end of the queue; its commands are in redis->out already, or on their way there in this turn. */
void redis_enqueue(struct redis *redis, struct redis_waiter *waiter);

/* A command into redis->out; false without memory. */
bool redis_append(struct redis *redis, const struct redis_command *command);

/* The socket is readable or writable: a loop_io function, for redis_connect.c to open it with. */
void redis_ready(void *redis, int events);

/* ---- redis_connect.c ---- */

/* Connect, if need be, or wait for the fiber that does. False: it failed, which is counted and logged. Parks. */
bool redis_be_up(struct redis *redis);

/* ---- redis_replies.c ---- */

/* A hiredis reader whose replies are built in the arena of the batch at the head; NULL without memory. */
struct redisReader *redis_reader_open(struct redis *redis);

/* Read what is there, and let those go on whose replies it is. May end in redis_drop. */
void redis_read(struct redis *redis);

/* The text of a mark. */
void redis_mark_text(char text[REDIS_MARK_SIZE], uint64_t mark);

/* Close the connection; every batch in the queue ends as `end`. `message` is for the log; NULL: nothing to say. */
void redis_drop(struct redis *redis, enum redis_end end, const char *message);

/* A log line about the connection, at most one a second. `cause`: why, where it is known, else NULL. */
void redis_complain(struct redis *redis, const char *event, const char *message, const char *cause);

/* A log line about an error reply to `what`: its first word, and what to do. */
void redis_log_error_reply(struct redis *redis, const char *what, const struct redis_reply *reply);

#endif
