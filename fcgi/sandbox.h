/*
 * What the processes of `serve` give up, so that a mistake in what they read from outside is worth little to an
 * attacker. Best effort: where the kernel lacks a part, the rest holds, and the log says what is missing.
 */
#ifndef FCGI_SANDBOX_H
#define FCGI_SANDBOX_H

#include <stdint.h>

struct config;

/* The parent, before it reads anything from outside. Its workers inherit it. */
void sandbox_parent(void);

/*
 * A worker, before it opens its first connection: no more file but those that it reads again, no more TCP port but
 * those of Redis, of the providers and of DNS, no more system call but those of serving. Says so in the log.
 */
void sandbox_worker(const struct config *config);

/*
 * A number that changes when one of the files that workers read again is replaced by another of the same name: those
 * that run may not read the new one, their successors may.
 */
uint64_t sandbox_files(const struct config *config);

#endif
