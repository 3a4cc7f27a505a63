/* The FastCGI socket: our own, or one passed by systemd (LISTEN_FDS). */
#ifndef FCGI_LISTEN_H
#define FCGI_LISTEN_H

#include <stdbool.h>

/*
 * The listening socket, in non-blocking mode and closed on exec; -1 with a log line on failure. *owned tells whether
 * the path is ours to unlink at the end. `path` gets mode 0660; a path on which another process listens is left alone.
 */
int listen_open(const char *path, bool *owned);

#endif
