/*
 * Validation: the provider is asked about a connection.
 */
#ifndef FCGI_TOKENS_VALIDATE_H
#define FCGI_TOKENS_VALIDATE_H

#include "fcgi/store_integration.h"

#include <stdbool.h>

struct error;
struct task;

/*
 * Ask the provider about the connection, refreshing first where due, and store the new status. Concurrent calls for one
 * connection, on all workers and hosts, share one. *found is false when nothing is stored.
 */
const struct error *tokens_validate(struct task *task, struct integration *record, bool *found);

#endif
