/* store_caller.c: caller:<sha256>. */
#ifndef FCGI_STORE_CALLER_H
#define FCGI_STORE_CALLER_H

#include "common/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct app;
struct arena;
struct error;

struct caller {
	bool found;
	const char *name;
	struct words mcps;
	struct words organizations; /* "*": all */
};

/* The caller whose key is `key`. */
const struct error *store_caller_read(struct app *app, struct arena *arena, const char *key, struct caller *out);

/* For the commands: store `caller` under `key` for `ttl` seconds. */
const struct error *store_caller_write(struct app *app, struct arena *arena, const char *key,
				       const struct caller *caller, int64_t ttl);

struct caller_entry {
	struct caller caller;
	const char *key; /* in Redis: the hash of its key */
	int64_t ttl;     /* seconds left; -1: it never ends */
};

struct caller_list {
	size_t count;
	struct caller_entry *items; /* sorted by name */
};

/* All callers, by scan. */
const struct error *store_caller_list(struct app *app, struct arena *arena, struct caller_list *list);

/* Delete every caller of this name; *count of them. */
const struct error *store_caller_delete(struct app *app, struct arena *arena, const char *name, size_t *count);

#endif
