/* store_caller.c: caller:<sha256>. */
#ifndef FCGI_STORE_CALLER_H
#define FCGI_STORE_CALLER_H

#include "common/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct error;
struct redis_reply;
struct task;

struct caller {
	bool found;
	const char *name;
	struct words mcps;
	struct words organizations; /* "*": all */
};

/*
 * The caller whose key is `key`. Not found, too, when its row has ended or has a wrong MAC, or none where CALLER_MAC is
 * `required`; error_store_unavailable when the MAC is under a key that the ring lacks.
 */
const struct error *store_caller_read(struct task *task, const char *key, struct caller *out);

/* For the commands: store `caller` under `key` for `ttl` seconds, with a MAC. */
const struct error *store_caller_write(struct task *task, const char *key, const struct caller *caller, int64_t ttl);

struct caller_entry {
	struct caller caller;
	const char *key; /* in Redis: the hash of its key */
	int64_t ttl;     /* seconds left; -1: it never ends */
	const struct redis_reply *row;
};

struct caller_list {
	size_t count;
	struct caller_entry *items; /* sorted by name */
};

/* All callers, by scan. */
const struct error *store_caller_list(struct task *task, struct caller_list *list);

bool store_caller_has_mac(const struct caller_entry *entry);

/*
 * Give a row without a MAC one, and its end. *done is false when the row changed since it was listed.
 */
const struct error *store_caller_sign(struct task *task, const struct caller_entry *entry, bool *done);

struct caller_renewal {
	size_t renewed;
	size_t current; /* were under the first key already */
	size_t without_mac;
	size_t refused; /* a wrong MAC, or under a key that the ring lacks: left as they are */
	size_t changed; /* by another writer just then */
};

/* Put every good MAC under the first key of the ring. */
const struct error *store_caller_renew(struct task *task, struct caller_renewal *out);

/* Delete every caller of this name; *count of them. */
const struct error *store_caller_delete(struct task *task, const char *name, size_t *count);

#endif
