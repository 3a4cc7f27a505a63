/* store_limit.c: integrations:limit:<what>:{...}, integrations:limit:<what>:<sha256>. */
#ifndef FCGI_STORE_LIMIT_H
#define FCGI_STORE_LIMIT_H

#include <stdint.h>

struct error;
struct task;

/* Count one use of `what` against `limit` a minute (0: off). *retry_after > 0: the limit is reached. */
const struct error *store_limit_count(struct task *task, const char *what, unsigned limit, int64_t *retry_after);

/* The same for a program, by its caller's key. */
const struct error *store_limit_count_caller(struct task *task, const char *what, const char *key, unsigned limit,
					     int64_t *retry_after);

#endif
