/*
 * FastCGI: a connection's bytes -> struct request, struct response -> bytes, through libfcgi; the only file that
 * includes it. Nothing here ever waits: gateway_look says whether a whole request is in the socket, and only then is
 * libfcgi called.
 */
#ifndef FCGI_GATEWAY_H
#define FCGI_GATEWAY_H

#include <stdbool.h>

struct arena;
struct gateway;
struct request;
struct response;

enum gateway_state {
	GATEWAY_EMPTY,    /* nothing has come */
	GATEWAY_PARTIAL,  /* a part of a request */
	GATEWAY_COMPLETE, /* a whole request: gateway_read will not wait */
	GATEWAY_CLOSED,   /* the peer has closed, perhaps in the middle of a request */
	GATEWAY_INVALID   /* bytes that no web server sends: close it */
};

/* Once per process, before fork. */
bool gateway_prepare(void);

/* One per connection. It owns `fd`, which must be in non-blocking mode, and closes it. NULL without memory: then `fd`
 * is still the caller's. */
struct gateway *gateway_open(int fd);
void gateway_close(struct gateway *gateway);

/* Look at what is in the socket, without taking it. */
enum gateway_state gateway_look(int fd);

/*
 * Take the whole request that gateway_look found. What is wrong with its content goes into request->broken, to be
 * answered; false means that the connection must be closed.
 */
bool gateway_read(struct gateway *gateway, struct arena *arena, struct request *request);

/* Send the answer. False when the connection must be closed now. */
bool gateway_answer(struct gateway *gateway, const struct response *response);

/* Forget the request under way, whose peer has gone; the connection must be closed. */
void gateway_drop(struct gateway *gateway);

#endif
