/* store_refresh_failure.c: integrations:refresh_failure:{...}:<service>. */
#ifndef FCGI_STORE_REFRESH_FAILURE_H
#define FCGI_STORE_REFRESH_FAILURE_H

#include <stdint.h>

struct error;
struct integration;
struct task;

/* Remember for `ms` that a refresh of this generation ended with `result` (an enum token_result); does not wait. */
void store_refresh_failure_note(struct task *task, const struct integration *record, int result, int64_t ms);

/* The remembered result for this generation, or 0. A client that can write to Redis may have made it up. */
const struct error *store_refresh_failure_read(struct task *task, const struct integration *record, int *result);

#endif
