/* Which system calls a process may still make: the only file that knows libseccomp. */
#ifndef FCGI_SANDBOX_CALLS_H
#define FCGI_SANDBOX_CALLS_H

#include <stdbool.h>

/*
 * The parent and, because filters are inherited, its workers: what no part of this program ever does, and an attacker
 * in it would, ends the process at once with SIGSYS. False when the kernel has no seccomp.
 */
bool sandbox_calls_forbid(void);

/*
 * A worker: only what serving takes. Starting a process ends it as above; any other call is answered as by a kernel
 * that does not have it, so that a newer C library finds its way without. False when the kernel has no seccomp.
 */
bool sandbox_calls_restrict(void);

/* Was this program built to count which lines run? Then it writes files at its end. */
bool sandbox_calls_coverage(void);

#endif
