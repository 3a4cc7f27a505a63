/* store_event.c: events:{organization}, events:{organization}:use. */
#ifndef FCGI_STORE_EVENT_H
#define FCGI_STORE_EVENT_H

#include <stdbool.h>
#include <stddef.h>

struct error;
struct task;

/*
 * Append an audit entry without waiting; one that Redis does not take is counted and logged. `event`: connected,
 * reconnected, replaced, disconnected, refresh_failed, removed, state_refused, account_mismatch, caller_forbidden (kept
 * 90 days). Its actor, connection and request_id are the task's.
 */
void store_event_append(struct task *task, const char *event, const char *outcome);

/*
 * The same, but only where the organization has such a stream: for what names an organization that may be invented. A
 * stream has no expiry, so each would stay for ever.
 */
void store_event_append_known(struct task *task, const char *event, const char *outcome);

/* An entry; absent fields are NULL. */
struct event {
	const char *id; /* milliseconds since 1970, '-', a number */
	const char *event;
	const char *actor;
	const char *user;
	const char *service;
	const char *outcome;
	const char *request_id;
	const char *count; /* further uses in the minute that the entry with this request_id began */
};

#define STORE_EVENTS_MAX 500

/* For the commands: at most STORE_EVENTS_MAX entries after id `after` ("0": all), of the stream of uses or of changes.
 */
const struct error *store_event_read(struct task *task, const char *organization, bool uses, const char *after,
				     struct event **out, size_t *count);

#endif
