/*
 * Name lookups, with glibc's answers made up here: shared by all who want a name, kept, used for a while after a
 * failure or while name servers are silent, bounded in number, and given up at the deadline.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/on_loop.h"

#include "common/clock.h"
#include "common/fiber.h"
#include "common/loop.h"
#include "common/resolve.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SOON 1000

/* ---- what stands in for glibc ---- */

static int state;        /* of every lookup: EAI_INPROGRESS, 0, or an error */
static int begin_error;  /* of getaddrinfo_a */
static unsigned lookups; /* that were begun */
static unsigned waited;  /* for one to end, at the close */
static bool give_v6;
static bool give_other;
static bool give_many;

static int64_t ahead_ms; /* of the clock: what the test lets pass */

int64_t
clock_monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + ahead_ms;
}

static struct addrinfo *
address_of(int family, const char *text, struct addrinfo *next)
{
	struct addrinfo *info = calloc(1, sizeof *info);
	struct sockaddr_in6 *address = calloc(1, sizeof *address);

	assert_true(info != NULL && address != NULL);
	info->ai_family = family;
	info->ai_addr = (struct sockaddr *)(void *)address;
	info->ai_next = next;
	if (family == AF_INET)
		inet_pton(AF_INET, text, &((struct sockaddr_in *)(void *)address)->sin_addr);
	else
		inet_pton(AF_INET6, text, &address->sin6_addr);
	return info;
}

static struct addrinfo *
answer(void)
{
	struct addrinfo *list = address_of(AF_INET, "192.0.2.1", NULL);

	if (give_v6)
		list = address_of(AF_INET6, "2001:db8::1", list);
	if (give_other)
		list = address_of(AF_UNIX, "", list);
	for (int i = 0; give_many && i < 20; i++)
		list = address_of(AF_INET, "192.0.2.2", list);
	return list;
}

int
getaddrinfo_a(int mode, struct gaicb *list[], int count, struct sigevent *event)
{
	(void)event;
	assert_int_equal(mode, GAI_NOWAIT);
	assert_int_equal(count, 1);
	if (begin_error != 0)
		return begin_error;
	lookups++;
	list[0]->ar_result = NULL;
	return 0;
}

int
gai_error(struct gaicb *request)
{
	if (state == 0 && request->ar_result == NULL)
		request->ar_result = answer();
	return state;
}

int
gai_cancel(struct gaicb *request)
{
	(void)request;
	return EAI_NOTCANCELED;
}

int
gai_suspend(const struct gaicb *const list[], int count, const struct timespec *timeout)
{
	(void)list;
	(void)count;
	(void)timeout;
	waited++;
	state = 0;
	return 0;
}

void
freeaddrinfo(struct addrinfo *list)
{
	while (list != NULL) {
		struct addrinfo *next = list->ai_next;

		free(list->ai_addr);
		free(list);
		list = next;
	}
}

/* ---- fibers that ask ---- */

static struct resolver *resolver;

struct ask {
	const char *host;
	int64_t ms; /* to its deadline */
	bool found;
	struct resolved out;
};

static int
open_all(void **unused)
{
	state = begin_error = 0;
	ahead_ms = 0;
	lookups = waited = 0;
	give_v6 = give_other = give_many = false;
	if (on_loop_open(unused) != 0)
		return -1;
	resolver = resolver_open(test_loop);
	return resolver == NULL;
}

static int
close_all(void **unused)
{
	resolver_close(resolver);
	return on_loop_close(unused);
}

static void
work(void *arg)
{
	struct ask *ask = arg;

	ask->found = resolve(resolver, ask->host, loop_now_ms(test_loop) + ask->ms, &ask->out);
}

static bool
asked(struct ask *ask)
{
	on_loop_start(work, ask);
	on_loop_finish(SOON);
	return ask->found;
}

static void
turn(void *arg)
{
	(void)arg;
	fiber_sleep(1);
}

/* The loop reads the clock once in a turn. */
static void
pass(int64_t ms)
{
	ahead_ms += ms;
	on_loop_start(turn, NULL);
	on_loop_finish(SOON);
}

static void
addresses_v4_first(void **unused)
{
	struct ask ask = {.host = "provider.example", .ms = SOON};

	(void)unused;
	give_v6 = give_other = true;
	assert_true(asked(&ask));
	assert_int_equal(ask.out.count, 2);
	assert_string_equal(ask.out.address[0], "192.0.2.1");
	assert_string_equal(ask.out.address[1], "2001:db8::1");
}

static void
no_more_than_fit(void **unused)
{
	struct ask ask = {.host = "provider.example", .ms = SOON};

	(void)unused;
	give_many = true;
	assert_true(asked(&ask));
	assert_int_equal(ask.out.count, RESOLVE_MAX);
}

static void
numeric_needs_no_lookup(void **unused)
{
	struct ask v4 = {.host = "192.0.2.7"};
	struct ask v6 = {.host = "2001:db8::7"};

	(void)unused;
	assert_true(asked(&v4) && asked(&v6));
	assert_string_equal(v6.out.address[0], "2001:db8::7");
	assert_int_equal(lookups, 0);
}

static void
one_lookup_for_all(void **unused)
{
	struct ask asks[8];

	(void)unused;
	for (size_t i = 0; i < 8; i++) {
		asks[i] = (struct ask){.host = i < 7 ? "provider.example" : "other.example", .ms = SOON};
		on_loop_start(work, &asks[i]);
	}
	on_loop_finish(SOON);
	for (size_t i = 0; i < 8; i++)
		assert_true(asks[i].found);
	assert_int_equal(lookups, 2);
	assert_true(asked(&asks[0]));
	assert_int_equal(lookups, 2); /* kept */
}

static void
failures(void **unused)
{
	struct ask ask = {.host = "provider.example", .ms = SOON};
	struct ask other = {.host = "other.example", .ms = SOON};

	(void)unused;
	state = EAI_NONAME;
	assert_false(asked(&ask));
	state = 0;
	assert_false(asked(&ask)); /* failed just now: not asked again */
	assert_int_equal(lookups, 1);
	begin_error = EAI_AGAIN;
	assert_false(asked(&other));
	begin_error = 0;
	assert_true(asked(&other));
}

static void
ask_until_v6(void *arg)
{
	struct ask *ask = arg;

	do {
		fiber_sleep(1);
		work(ask);
	} while (ask->found && ask->out.count < 2);
}

static void
an_old_answer_is_not_waited_for(void **unused)
{
	struct ask ask = {.host = "provider.example", .ms = (int64_t)10 * SOON};

	(void)unused;
	assert_true(asked(&ask));
	pass(61000);
	state = EAI_INPROGRESS;
	for (int i = 0; i < 2; i++) {
		assert_true(asked(&ask)); /* long before its deadline */
		assert_string_equal(ask.out.address[0], "192.0.2.1");
		assert_int_equal(lookups, 2); /* one was begun, for both */
	}
	state = 0;
	give_v6 = true;
	on_loop_start(ask_until_v6, &ask); /* its answer is taken, though nobody waits for it */
	on_loop_finish(SOON);
	assert_int_equal(ask.out.count, 2);
	assert_int_equal(lookups, 2);
}

static void
an_old_answer_outlives_failures_for_a_while(void **unused)
{
	struct ask ask = {.host = "provider.example", .ms = 20};

	(void)unused;
	assert_true(asked(&ask));
	state = EAI_AGAIN;
	for (int minutes = 1; minutes < 10; minutes++) {
		pass(60000);
		assert_true(asked(&ask));
	}
	pass(60000);
	assert_false(asked(&ask));
	state = EAI_INPROGRESS;
	pass(2000);
	assert_false(asked(&ask));
}

static void
nothing_usable(void **unused)
{
	struct ask ask = {.host = "provider.example", .ms = SOON};
	char long_name[400];

	(void)unused;
	memset(long_name, 'a', sizeof long_name - 1);
	long_name[sizeof long_name - 1] = '\0';
	ask.host = long_name;
	assert_false(asked(&ask));
	assert_int_equal(lookups, 0);
}

static void
names_are_bounded(void **unused)
{
	char names[65][32];
	struct ask ask = {.ms = SOON};

	(void)unused;
	for (size_t i = 0; i < 65; i++) {
		snprintf(names[i], sizeof names[i], "host%zu.example", i);
		ask.host = names[i];
		assert_int_equal(asked(&ask), i < 64);
	}
}

static void
deadline(void **unused)
{
	struct ask first = {.host = "provider.example", .ms = 10};
	struct ask second = {.host = "provider.example", .ms = 20};

	(void)unused;
	state = EAI_INPROGRESS;
	on_loop_start(work, &first);
	on_loop_start(work, &second);
	on_loop_finish(SOON);
	assert_false(first.found || second.found);
	/* Closed while it is under way: the process waits for glibc, which still writes to it. */
	resolver_close(resolver);
	assert_int_equal(waited, 1);
	resolver = NULL;
	resolver_close(NULL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(addresses_v4_first, open_all, close_all),
	    cmocka_unit_test_setup_teardown(no_more_than_fit, open_all, close_all),
	    cmocka_unit_test_setup_teardown(numeric_needs_no_lookup, open_all, close_all),
	    cmocka_unit_test_setup_teardown(one_lookup_for_all, open_all, close_all),
	    cmocka_unit_test_setup_teardown(failures, open_all, close_all),
	    cmocka_unit_test_setup_teardown(an_old_answer_is_not_waited_for, open_all, close_all),
	    cmocka_unit_test_setup_teardown(an_old_answer_outlives_failures_for_a_while, open_all, close_all),
	    cmocka_unit_test_setup_teardown(nothing_usable, open_all, close_all),
	    cmocka_unit_test_setup_teardown(names_are_bounded, open_all, close_all),
	    cmocka_unit_test_setup_teardown(deadline, open_all, close_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
