/* store_member.c: removed:{organization:user}, for the commands. */
#ifndef FCGI_STORE_MEMBER_H
#define FCGI_STORE_MEMBER_H

#include <stdbool.h>

struct error;
struct task;
struct words;

/* Set the tombstone; one that stands already stays as it is. *set tells whether it was set now. */
const struct error *store_member_remove(struct task *task, const char *organization, const char *user, bool *set);

/* Lift it; *existed tells whether there was one. */
const struct error *store_member_restore(struct task *task, const char *organization, const char *user, bool *existed);

/* All users of whom something is stored in this organization, sorted, by scan. */
const struct error *store_member_list(struct task *task, const char *organization, struct words *users);

#endif
