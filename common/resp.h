/*
 * Commands to Redis as bytes (RESP: an array of bulk strings), gathered until they are sent. One command takes a tenth
 * of the steps that a general formatter needs for it.
 */
#ifndef COMMON_RESP_H
#define COMMON_RESP_H

#include <stdbool.h>
#include <stddef.h>

struct resp {
	char *bytes;
	size_t len;  /* gathered */
	size_t sent; /* of them */
	size_t size;
};

/* The last words of a command that is sent again and again, as bytes. */
struct resp_tail {
	int argc;
	char *bytes;
	size_t len;
};

/* Once at start, for the life of the process; abort without memory. */
void resp_tail_prepare(struct resp_tail *tail, int argc, const char *const *argv);

/* Add one command, `argv` and then the tail (NULL: none), whole or not at all: false without memory. */
bool resp_add(struct resp *resp, int argc, const char *const *argv, const size_t *lengths,
	      const struct resp_tail *tail);

/* Bytes that still have to be sent, and that so many of them were. */
size_t resp_left(const struct resp *resp);
void resp_sent(struct resp *resp, size_t len);

/* Forget all of it; as new. */
void resp_clear(struct resp *resp);

#endif
