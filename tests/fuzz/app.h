/*
 * What a worker has, for targets behind the edge: settings, a loop, a fiber, an HTTP client whose every call is refused
 * by this host, and a connection to a Redis that answers with bytes of the input.
 */
#ifndef TESTS_FUZZ_APP_H
#define TESTS_FUZZ_APP_H

#include <stdbool.h>
#include <stddef.h>

struct app;
struct task;

/* The two services of the settings: the second has no signing keys. */
#define FUZZ_SERVICE "google"
#define FUZZ_SERVICE_PLAIN "plain"

#define FUZZ_USER "u1"
#define FUZZ_ORGANIZATION "acme"

/* What commands for a session's key get: what stands in the input, or a good session of this user. */
enum fuzz_session { FUZZ_SESSION_ASKED, FUZZ_SESSION_USER, FUZZ_SESSION_GATEWAY };

struct fuzz_answers {
	const char *bytes; /* replies, '~' between those to two commands; NULL: none */
	size_t len;
	size_t at_once; /* bytes in one write; 0: all */
	bool then_nil;  /* when they are used up: nil replies, else the connection is closed */
	enum fuzz_session session;
};

/* Take the last reply away; false when there is none. */
bool fuzz_one_answer_less(struct fuzz_answers *answers);

/* The app alone, made with the first call. */
struct app *fuzz_app(void);

/* Run fn(task, arg) on a fiber, with a fresh connection to Redis; false when its arena was exhausted. */
bool fuzz_app_run(const struct fuzz_answers *answers, void (*fn)(struct task *, void *), void *arg);

#endif
