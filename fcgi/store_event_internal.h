/* What the files of the audit streams share: store_event.c, store_use.c. */
#ifndef FCGI_STORE_EVENT_INTERNAL_H
#define FCGI_STORE_EVENT_INTERNAL_H

#include "common/log.h"
#include "fcgi/store_internal.h"

#define EVENT_ARGUMENTS_MAX 24

/* An entry on its way. */
struct event_entry {
	struct app *app;
	/* What to do when Redis has taken it, with the number that the script answered; NULL: nothing */
	void (*taken)(const struct event_entry *entry, int64_t number);
	const char *event;
	const char *actor;
	struct connection_key connection_key;
	const char *outcome;
	const char *request_id;
	uint64_t count; /* of further uses in the same minute; 0: the field is left out */
	char text[];    /* of a copy */
};

const char *store_event_key(struct arena *arena, const char *organization, bool use);

/* Fields and values of the entry behind argv[*argc]. */
void store_event_add_fields(struct arena *arena, const struct event_entry *entry, const char **argv, int *argc);

/* A copy in one piece, for free(); NULL without memory. */
struct event_entry *store_event_keep(const struct event_entry *of);

void store_event_log(const struct event_entry *entry, enum log_level level, const char *name, const char *action);

/* Send the command that writes the entry, without waiting; what Redis does not take is counted and logged. */
void store_event_send(const struct event_entry *entry, struct redis_batch *batch);

#endif
