/*
 * getaddrinfo_a does the waiting on a thread of glibc's own; the loop asks it every few milliseconds whether it is
 * done, which needs no signal and no second thread's callback. Entries are few (one per provider host and Redis host)
 * and live as long as the process.
 */
#include "common/resolve.h"

#include "common/fiber.h"
#include "common/loop.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MS 2
#define KEEP_MS ((int64_t)60 * 1000)
#define KEEP_FAILURE_MS ((int64_t)1000)
#define KEEP_STALE_MS ((int64_t)600 * 1000)
#define ENTRIES_MAX 64

struct entry {
	char host[256];
	struct resolved answer;
	int64_t answered_ms; /* of the last good answer */
	int64_t tried_ms;    /* of the last lookup's end; 0: none yet */
	bool under_way;
	struct gaicb request;
	struct addrinfo hints;
	struct fiber *waiters;
	struct entry *next;
};

struct resolver {
	struct loop *loop;
	struct loop_timer *timer;
	struct entry *entries;
	size_t entry_count;
};

static void
take_answer(struct entry *entry, int64_t now)
{
	struct resolved found = {0};

	for (int family = 0; family < 2; family++) {
		for (struct addrinfo *a = entry->request.ar_result; a != NULL && found.count < RESOLVE_MAX;
		     a = a->ai_next) {
			const void *address = NULL;

			if (a->ai_family == AF_INET && family == 0)
				address = &((const struct sockaddr_in *)(const void *)a->ai_addr)->sin_addr;
			else if (a->ai_family == AF_INET6 && family == 1)
				address = &((const struct sockaddr_in6 *)(const void *)a->ai_addr)->sin6_addr;
			if (address != NULL)
				inet_ntop(a->ai_family, address, found.address[found.count++], RESOLVE_TEXT);
		}
	}
	freeaddrinfo(entry->request.ar_result);
	entry->request.ar_result = NULL;
	if (found.count > 0) {
		entry->answer = found;
		entry->answered_ms = now;
	}
}

static void
look(void *arg)
{
	struct resolver *resolver = arg;
	int64_t now = loop_now_ms(resolver->loop);
	bool more = false;

	for (struct entry *entry = resolver->entries; entry != NULL; entry = entry->next) {
		int state;

		if (!entry->under_way)
			continue;
		state = gai_error(&entry->request);
		if (state == EAI_INPROGRESS) {
			more = true;
			continue;
		}
		entry->under_way = false;
		entry->tried_ms = now;
		if (state == 0)
			take_answer(entry, now);
		fiber_wake_all(&entry->waiters, NULL);
	}
	if (more)
		loop_timer_set(resolver->timer, POLL_MS);
}

struct resolver *
resolver_open(struct loop *loop)
{
	struct resolver *resolver = calloc(1, sizeof *resolver);

	if (resolver == NULL)
		return NULL;
	resolver->loop = loop;
	resolver->timer = loop_timer_open(loop, look, resolver);
	if (resolver->timer == NULL) {
		free(resolver);
		return NULL;
	}
	return resolver;
}

void
resolver_close(struct resolver *resolver)
{
	if (resolver == NULL)
		return;
	while (resolver->entries != NULL) {
		struct entry *entry = resolver->entries;

		resolver->entries = entry->next;
		if (entry->under_way) { /* glibc still writes to it: wait, this process is ending anyway */
			const struct gaicb *list[1] = {&entry->request};

			gai_cancel(&entry->request);
			while (gai_error(&entry->request) == EAI_INPROGRESS)
				gai_suspend(list, 1, NULL);
			if (gai_error(&entry->request) == 0)
				freeaddrinfo(entry->request.ar_result);
		}
		free(entry);
	}
	loop_timer_close(resolver->timer);
	free(resolver);
}

static struct entry *
entry_of(struct resolver *resolver, const char *host)
{
	struct entry *entry;

	for (entry = resolver->entries; entry != NULL; entry = entry->next) {
		if (strcmp(entry->host, host) == 0)
			return entry;
	}
	if (resolver->entry_count == ENTRIES_MAX || strlen(host) >= sizeof entry->host)
		return NULL;
	entry = calloc(1, sizeof *entry);
	if (entry == NULL)
		return NULL;
	memcpy(entry->host, host, strlen(host) + 1);
	entry->next = resolver->entries;
	resolver->entries = entry;
	resolver->entry_count++;
	return entry;
}

static bool
begin_lookup(struct resolver *resolver, struct entry *entry)
{
	struct gaicb *list[1] = {&entry->request};

	memset(&entry->request, 0, sizeof entry->request);
	entry->hints = (struct addrinfo){.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	entry->request.ar_name = entry->host;
	entry->request.ar_request = &entry->hints;
	if (getaddrinfo_a(GAI_NOWAIT, list, 1, NULL) != 0)
		return false;
	entry->under_way = true;
	loop_timer_set(resolver->timer, POLL_MS);
	return true;
}

static bool
is_usable(const struct entry *entry, int64_t now)
{
	return entry->answer.count > 0 && now - entry->answered_ms < KEEP_STALE_MS;
}

bool
resolve(struct resolver *resolver, const char *host, int64_t deadline_ms, struct resolved *out)
{
	struct entry *entry;
	unsigned char numeric[sizeof(struct in6_addr)];
	int64_t now = loop_now_ms(resolver->loop);
	bool usable;

	memset(out, 0, sizeof *out);
	if (strlen(host) < RESOLVE_TEXT &&
	    (inet_pton(AF_INET, host, numeric) == 1 || inet_pton(AF_INET6, host, numeric) == 1)) {
		out->count = 1;
		memcpy(out->address[0], host, strlen(host) + 1);
		return true;
	}
	entry = entry_of(resolver, host);
	if (entry == NULL)
		return false;
	usable = is_usable(entry, now);
	if (!usable || now - entry->answered_ms >= KEEP_MS) {
		bool failed_just_now = entry->tried_ms != 0 && now - entry->tried_ms < KEEP_FAILURE_MS;
		bool asks = entry->under_way || (!failed_just_now && begin_lookup(resolver, entry));

		/* A caller that has an older answer goes on with it: while name servers are silent, a wait would take
		 * all of a caller's time. */
		if (asks && !usable)
			(void)fiber_wait(&entry->waiters, deadline_ms, NULL);
	}
	if (!usable && !is_usable(entry, loop_now_ms(resolver->loop)))
		return false;
	*out = entry->answer;
	return true;
}
