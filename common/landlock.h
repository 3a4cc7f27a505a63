/*
 * Landlock: a process gives up, for itself and for good, every file and every TCP port that it does not name. Needs no
 * rights; what the kernel of the day cannot restrict stays open. Unix sockets and UDP are not covered.
 *
 * A rule for a file holds for the file that has this name now, not for one that takes its name later; a rule for a
 * directory holds for all that is ever beneath it.
 */
#ifndef COMMON_LANDLOCK_H
#define COMMON_LANDLOCK_H

#include <stdbool.h>

#define LANDLOCK_ABI_PORTS 4 /* from this version on the kernel restricts TCP */

struct landlock {
	int rules; /* file descriptor */
	int abi;   /* what the kernel can; 0: nothing */
};

/* Begin with nothing allowed. False when the kernel has no Landlock; then the rest does nothing. */
bool landlock_begin(struct landlock *landlock);

/* Let this file, or everything beneath this directory, be read. One that does not exist is passed over. */
void landlock_may_read(struct landlock *landlock, const char *path);

/* Let this TCP port be connected to, at any address. */
void landlock_may_connect(struct landlock *landlock, unsigned port);

/* From here on the rules hold for this thread and its later ones. False when the kernel refuses. */
bool landlock_enter(struct landlock *landlock);

#endif
