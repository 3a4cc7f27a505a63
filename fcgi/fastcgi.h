/*
 * FastCGI: a connection's bytes -> struct request, struct response -> bytes, through libfcgi, which only fastcgi.c
 * includes. Nothing here ever waits: fastcgi_look says whether a whole request is in the socket, and only then is
 * libfcgi called.
 */
#ifndef FCGI_FASTCGI_H
#define FCGI_FASTCGI_H

#include <stdbool.h>

struct arena;
struct fastcgi;
struct request;
struct response;

enum fastcgi_state {
	FASTCGI_EMPTY,    /* nothing has come */
	FASTCGI_PARTIAL,  /* a part of a request */
	FASTCGI_COMPLETE, /* a whole request: fastcgi_read will not wait */
	FASTCGI_CLOSED,   /* the peer has closed, perhaps in the middle of a request */
	FASTCGI_INVALID   /* bytes that no web server sends: close it */
};

/* Once per process, before fork. */
bool fastcgi_prepare(void);

/* One per connection. It owns `fd`, which must be in non-blocking mode, and closes it. NULL without memory: then `fd`
 * is still the caller's. */
struct fastcgi *fastcgi_open(int fd);
void fastcgi_close(struct fastcgi *fastcgi);

/* Look at what is in the socket, without taking it. */
enum fastcgi_state fastcgi_look(int fd);

/*
 * Take the whole request that fastcgi_look found. What is wrong with its content goes into request->broken, to be
 * answered; false means that the connection must be closed.
 */
bool fastcgi_read(struct fastcgi *fastcgi, struct arena *arena, struct request *request);

/* Send the answer. False when the connection must be closed now. */
bool fastcgi_answer(struct fastcgi *fastcgi, const struct response *response);

/* Forget the request under way, whose peer has gone; the connection must be closed. */
void fastcgi_drop(struct fastcgi *fastcgi);

#endif
