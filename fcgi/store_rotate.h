/* store_rotate.c: seal every credential anew under the first key, for `keys rotate`. */
#ifndef FCGI_STORE_ROTATE_H
#define FCGI_STORE_ROTATE_H

#include <stdbool.h>
#include <stddef.h>

struct error;
struct task;

#define STORE_CURSOR_SIZE 24
#define ROTATION_KEYS_MAX 64

/* The state of a rotation; begins as zeroes. */
struct rotation {
	char cursor[STORE_CURSOR_SIZE];
	bool over;
	double done;    /* part of the keys that have been looked at, 0 to 1 */
	size_t seen;    /* credentials */
	size_t current; /* were sealed under the first key already */
	size_t sealed_anew;
	size_t changed;    /* written by a worker just then: another run tells */
	size_t unreadable; /* left as they are */
	size_t key_count;
	struct {
		char id[33]; /* "?" where a value has none */
		size_t count;
	} keys[ROTATION_KEYS_MAX]; /* how many credentials are now sealed under which key */
};

/* Look at the next page of credentials. */
const struct error *store_rotate_page(struct task *task, struct rotation *rotation);

#endif
