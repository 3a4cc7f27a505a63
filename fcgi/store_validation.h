/* store_validation.c: integrations:validated:{...}:<service>. */
#ifndef FCGI_STORE_VALIDATION_H
#define FCGI_STORE_VALIDATION_H

struct error;
struct task;

/*
 * Say that a validation has ended and its result is stored: before it is answered, or the next request would take the
 * mark, when it comes, for that of a request at the same time.
 */
void store_validation_mark(struct task *task);

/* The mark of the last one, "" when there was none lately. */
const struct error *store_validation_read(struct task *task, const char **mark);

#endif
