/* store_validation.c: integrations:validated:{...}:<service>. */
#ifndef FCGI_STORE_VALIDATION_H
#define FCGI_STORE_VALIDATION_H

struct app;
struct arena;
struct connection_key;
struct error;

/*
 * Say that a validation has ended and its result is stored: before it is answered, or the next request would take the
 * mark, when it comes, for that of a request at the same time.
 */
void store_validation_mark(struct app *app, struct arena *arena, const struct connection_key *connection);

/* The mark of the last one, "" when there was none lately. */
const struct error *store_validation_read(struct app *app, struct arena *arena, const struct connection_key *connection,
					  const char **mark);

#endif
