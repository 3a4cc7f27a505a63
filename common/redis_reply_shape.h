/*
 * The shape of replies. A reply that its command cannot have is another command's, or does not come from Redis:
 * code that took it for an answer would call a member signed out, or not connected, or another member.
 *
 * A shape is a text:
 *
 *	s        a string                    S        a string or nil
 *	k        "OK"                        ~        nil
 *	p        "PONG"                      e        the id of a stream's entry
 *	[a,b]    a number from a to b        n        a number of arguments: from 0 to the words of the command
 *	(...)    exactly these               *x       any number of x
 *	f        S for each field of HMGET   2        pairs of s
 *	'word'   just this string           x|y      one of them; only outermost
 */
#ifndef COMMON_REDIS_REPLY_SHAPE_H
#define COMMON_REDIS_REPLY_SHAPE_H

#include <stdbool.h>

struct redis_command;
struct redis_reply;

struct redis_reply_shape {
	const char *text; /* NULL: any */
	int words;        /* of the command */
};

/* What `command` is answered with, if not with an error. The text outlives the command. */
struct redis_reply_shape redis_reply_shape_of(const struct redis_command *command);

bool redis_reply_shape_fits(const struct redis_reply_shape *shape, const struct redis_reply *reply);

#endif
