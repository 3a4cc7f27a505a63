/*
 * What is kept in Redis: key formats and struct <-> hash, one store_*.[ch] per kind of key (fcgi/README.md, Redis
 * keys).
 *
 * Every key of one atomic step carries the same hash tag {organization:user}. Ids are checked against their patterns
 * before they come here; a key is built only by the functions of these files. Every function parks the fiber and
 * returns NULL or error_store_unavailable, unless it says more.
 */
#ifndef FCGI_STORE_H
#define FCGI_STORE_H

struct task;

/* Whose connection: all three checked. */
struct connection_key {
	const char *organization;
	const char *user;
	const char *service;
};

/* Once at start: words of commands, encoded once for all requests. */
void store_prepare(void);

#endif
