/* store_use.c: events:{organization}:use, integrations:audit_uses:{organization}:<sha256(actor)>. */
#ifndef FCGI_STORE_USE_H
#define FCGI_STORE_USE_H

#include <stdint.h>

struct app;
struct task;
struct uses;

/*
 * Append an audit entry, as store_event_append does, for what uses a connection: validated, refreshed, token_issued, of
 * which AUDIT_USES are kept. Repeated within a minute it only raises a counter of `app->uses`; where that is NULL
 * (commands) every use is an entry.
 */
void store_event_use(struct task *task, const char *event, const char *outcome);

#define STORE_USES_MINUTE_MS 60000

/* The counters of a worker. NULL without memory. */
struct uses *store_uses_open(struct app *app, int64_t minute_ms);
/* Write what they have counted; from now on every use is an entry. */
void store_uses_end(struct uses *uses);
void store_uses_close(struct uses *uses);

#endif
