/* What the two store_caller*.c files share. Only they include this. */
#ifndef FCGI_STORE_CALLER_INTERNAL_H
#define FCGI_STORE_CALLER_INTERNAL_H

#include "fcgi/store_caller.h"
#include "fcgi/store_internal.h"

struct task;

#define STORE_CALLER_PREFIX "caller:"
#define STORE_CALLER_FIELDS "name", "mcps", "organizations", "expires_at", "mac"

enum store_caller_field {
	STORE_CALLER_NAME,
	STORE_CALLER_MCPS,
	STORE_CALLER_ORGANIZATIONS,
	STORE_CALLER_EXPIRES_AT,
	STORE_CALLER_MAC,
	STORE_CALLER_FIELD_COUNT
};

/* What a MAC covers. */
struct store_caller_row {
	const char *key; /* in Redis */
	const char *name;
	const char *mcps;
	const char *organizations;
	const char *expires_at;
};

/* A field of a row as it was read; "" where it is absent. */
const char *store_caller_text(const struct redis_reply *row, enum store_caller_field field);

/* A new MAC. */
char *store_caller_mac(const struct task *task, const struct store_caller_row *row);

/* The end of a row that has `ttl` seconds left. */
char *store_caller_end(struct arena *arena, int64_t ttl);

/* May a row be believed? */
const struct error *store_caller_check(struct task *task, const char *key, const struct redis_reply *row, bool *good);

#endif
