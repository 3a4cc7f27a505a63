/*
 * The parent of the workers: it holds the listening socket and the metrics, forks one worker per core, replaces a dead
 * one with backoff, and passes signals on. SIGTERM and SIGINT drain and end everything; SIGHUP reads the settings anew
 * and replaces the workers one by one, each old one only when its successor serves; on a mistake the old ones stay.
 */
#include "fcgi/cmd.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/crypto.h"
#include "common/log.h"
#include "common/metrics.h"
#include "fcgi/config.h"
#include "fcgi/gateway.h"
#include "fcgi/listen.h"
#include "fcgi/series.h"
#include "fcgi/store.h"
#include "fcgi/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOTS 128 /* workers at once, those that drain counted */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MOST_MS 10000
#define LIVED_LONG_MS 10000 /* a worker that lived this long is replaced at once when it dies */
#define READY_MS 10000      /* for a new worker to serve, before its predecessor is kept */
#define END_MS 25000        /* for all workers to drain, before they are killed */

enum child_state { CHILD_NONE, CHILD_SERVING, CHILD_DRAINING };

struct child {
	pid_t pid;
	enum child_state state;
	unsigned place; /* which of the WORKERS it is */
	int64_t started_ms;
};

/* One of the WORKERS places, whoever holds it. */
struct place {
	int64_t start_at_ms; /* -1: a worker serves there */
	int64_t backoff_ms;
};

struct parent {
	struct config *config;
	struct metrics *metrics;
	struct app_metrics *series;
	int listen_fd;
	bool owns_socket;
	struct child children[SLOTS]; /* index: slot of the metrics */
	struct place places[SLOTS];
	unsigned place_count;
	bool ending;
};

static void
report_mistakes(const struct config_mistakes *mistakes)
{
	for (size_t i = 0; i < mistakes->count; i++)
		log_message(LOG_LEVEL_ERROR, "setting_wrong", mistakes->text[i], "correct the setting");
}

/* sd_notify(3): one datagram. */
static void
notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof address.sun_path)
		return;
	memcpy(address.sun_path, path, strlen(path));
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)(const void *)&address,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
	close(fd);
}

/* ---- children ---- */

static void
child_main(struct parent *parent, size_t slot, int ready_fd, pid_t parent_pid)
{
	struct worker_settings settings = {.config = parent->config,
					   .metrics = parent->metrics,
					   .series = parent->series,
					   .slot = slot,
					   .slots = SLOTS,
					   .listen_fd = parent->listen_fd,
					   .ready_fd = ready_fd};
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGTERM); /* no worker outlives its parent */
	if (getppid() != parent_pid)
		_exit(0);
	prctl(PR_SET_NAME, "integrations-w");
	/* Ctrl-C and a terminal's end reach the whole group; the parent tells its workers. */
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	config_scrub_environment();
	exit(worker_run(&settings));
}

static size_t
free_slot(const struct parent *parent)
{
	size_t slot = 0;

	while (slot < SLOTS && parent->children[slot].state != CHILD_NONE)
		slot++;
	return slot;
}

/* Start a worker for `place`; its slot, or SLOTS when that failed. *ready_fd becomes readable when it serves. */
static size_t
start_child(struct parent *parent, unsigned place, int *ready_fd)
{
	size_t slot = free_slot(parent);
	pid_t self = getpid();
	int ends[2];
	pid_t pid;

	if (slot == SLOTS || pipe2(ends, O_CLOEXEC) != 0)
		return SLOTS;
	log_flush();
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		child_main(parent, slot, ends[1], self);
	}
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		log_message(LOG_LEVEL_ERROR, "fork_failed", strerror(errno), "raise the limit of processes (TasksMax)");
		return SLOTS;
	}
	*ready_fd = ends[0];
	parent->children[slot] =
	    (struct child){.pid = pid, .state = CHILD_SERVING, .place = place, .started_ms = clock_monotonic_ms()};
	parent->places[place].start_at_ms = -1;
	return slot;
}

static void
drain_child(struct parent *parent, size_t slot)
{
	kill(parent->children[slot].pid, SIGTERM);
	parent->children[slot].state = CHILD_DRAINING;
}

static void
log_death(const struct child *child, int status)
{
	struct log_line line;

	log_begin(&line, LOG_LEVEL_ERROR, "worker_died");
	log_number(&line, "worker", child->pid);
	if (WIFSIGNALED(status))
		log_number(&line, "signal", WTERMSIG(status));
	else
		log_number(&line, "exit_status", WEXITSTATUS(status));
	log_text(&line, "action", "another one is started; if this repeats, look at the lines before and report it");
	log_end(&line);
}

static void
child_died(struct parent *parent, size_t slot, int status)
{
	struct child *child = &parent->children[slot];
	int64_t now = clock_monotonic_ms();

	metrics_free(parent->metrics, slot);
	if (child->state == CHILD_SERVING && !parent->ending) {
		struct place *place = &parent->places[child->place];

		log_death(child, status);
		if (now - child->started_ms >= LIVED_LONG_MS)
			place->backoff_ms = 0;
		place->start_at_ms = now + place->backoff_ms;
		place->backoff_ms = place->backoff_ms == 0                    ? BACKOFF_FIRST_MS
				    : place->backoff_ms * 2 < BACKOFF_MOST_MS ? place->backoff_ms * 2
									      : BACKOFF_MOST_MS;
	}
	child->state = CHILD_NONE;
}

static void
reap(struct parent *parent)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t slot = 0; slot < SLOTS; slot++) {
			if (parent->children[slot].state != CHILD_NONE && parent->children[slot].pid == pid)
				child_died(parent, slot, status);
		}
	}
}

/* Start what is due; milliseconds until the next is, or -1. */
static int
start_due(struct parent *parent)
{
	int64_t now = clock_monotonic_ms();
	int64_t next = -1;

	for (unsigned place = 0; place < parent->place_count; place++) {
		int64_t at = parent->places[place].start_at_ms;
		int ready_fd;

		if (at >= 0 && at <= now) {
			if (start_child(parent, place, &ready_fd) != SLOTS)
				close(ready_fd);
			else
				at = parent->places[place].start_at_ms = now + BACKOFF_MOST_MS;
		}
		if (parent->places[place].start_at_ms >= 0 && (next < 0 || at - now < next))
			next = at - now;
	}
	return next < 0 ? -1 : (int)next;
}

static size_t
count_children(const struct parent *parent)
{
	size_t count = 0;

	for (size_t slot = 0; slot < SLOTS; slot++)
		count += parent->children[slot].state != CHILD_NONE;
	return count;
}

/* ---- reload ---- */

static bool
is_serving(int ready_fd)
{
	struct pollfd wait = {.fd = ready_fd, .events = POLLIN};
	char byte;

	return poll(&wait, 1, READY_MS) == 1 && read(ready_fd, &byte, 1) == 1;
}

/* Put a worker with the new settings in the place of `old` (SLOTS: nobody). False when it does not come to serve. */
static bool
replace_child(struct parent *parent, unsigned place, size_t old)
{
	int ready_fd;
	size_t slot = start_child(parent, place, &ready_fd);
	bool serving;

	if (slot == SLOTS)
		return false;
	serving = is_serving(ready_fd);
	close(ready_fd);
	if (!serving) {
		kill(parent->children[slot].pid, SIGKILL);
		parent->children[slot].state = CHILD_DRAINING;
		return false;
	}
	if (old != SLOTS)
		drain_child(parent, old);
	return true;
}

static size_t
child_of(const struct parent *parent, unsigned place, const struct child *before)
{
	for (size_t slot = 0; slot < SLOTS; slot++) {
		if (before[slot].state == CHILD_SERVING && before[slot].place == place &&
		    parent->children[slot].state == CHILD_SERVING && parent->children[slot].pid == before[slot].pid)
			return slot;
	}
	return SLOTS;
}

static void
replace_children(struct parent *parent)
{
	struct child before[SLOTS];
	unsigned wanted = parent->config->workers;

	memcpy(before, parent->children, sizeof before);
	for (unsigned place = 0; place < wanted; place++) {
		if (place >= parent->place_count)
			parent->places[place] = (struct place){.start_at_ms = -1};
		if (!replace_child(parent, place, child_of(parent, place, before)))
			log_message(LOG_LEVEL_ERROR, "worker_not_replaced", "a new worker did not come to serve",
				    "look at the lines before; the old worker goes on with the old settings");
		reap(parent);
	}
	for (unsigned place = wanted; place < parent->place_count; place++) {
		size_t slot = child_of(parent, place, before);

		if (slot != SLOTS)
			drain_child(parent, slot);
	}
	parent->place_count = wanted;
}

static void
reload(struct parent *parent)
{
	struct config_mistakes mistakes = {0};
	struct config *config = config_open(CONFIG_ALL, &mistakes);

	if (config == NULL) {
		report_mistakes(&mistakes);
		log_message(LOG_LEVEL_ERROR, "reload_refused", "the settings have mistakes: the old ones stay in force",
			    "correct them and send SIGHUP again");
		return;
	}
	notify("RELOADING=1");
	/* The old config goes with this process's copy of it; workers that still use it have their own. */
	config_close(parent->config);
	parent->config = config;
	log_configure(config->log_level, false);
	replace_children(parent);
	log_message(LOG_LEVEL_INFO, "reloaded", "the workers were replaced with the settings of now", NULL);
	notify("READY=1");
}

/* ---- the end ---- */

static void
end(struct parent *parent, const sigset_t *signals)
{
	int64_t until = clock_monotonic_ms() + END_MS;

	parent->ending = true;
	notify("STOPPING=1");
	if (parent->owns_socket)
		unlink(parent->config->listen); /* nobody new comes; who waits in the queue is still served */
	for (size_t slot = 0; slot < SLOTS; slot++) {
		if (parent->children[slot].state == CHILD_SERVING)
			drain_child(parent, slot);
	}
	for (reap(parent); count_children(parent) > 0; reap(parent)) {
		int64_t left = until - clock_monotonic_ms();
		struct timespec wait = {.tv_sec = left > 0 ? left / 1000 : 0,
					.tv_nsec = left > 0 ? left % 1000 * 1000000 : 0};
		int number = sigtimedwait(signals, NULL, &wait);

		if (number == SIGTERM || number == SIGINT || left <= 0) { /* asked twice, or out of patience */
			for (size_t slot = 0; slot < SLOTS; slot++) {
				if (parent->children[slot].state != CHILD_NONE)
					kill(parent->children[slot].pid, SIGKILL);
			}
		}
	}
	log_message(LOG_LEVEL_INFO, "ended", "all workers have ended", NULL);
}

static void
watch(struct parent *parent)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGCHLD);
	for (;;) {
		int ms = start_due(parent);
		struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
		int number = ms < 0 ? sigwaitinfo(&signals, NULL) : sigtimedwait(&signals, NULL, &wait);

		reap(parent);
		if (number == SIGHUP)
			reload(parent);
		if (number == SIGTERM || number == SIGINT)
			break;
	}
	end(parent, &signals);
}

/* Neither core files nor another process of the same user get to see the secrets in memory. */
static void
harden(void)
{
	struct rlimit none = {0};
	struct rlimit files;

	prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	setrlimit(RLIMIT_CORE, &none);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* Blocked here, taken by sigwaitinfo; workers unblock them. */
static void
block_signals(void)
{
	sigset_t signals;

	sigfillset(&signals);
	sigdelset(&signals, SIGSEGV);
	sigdelset(&signals, SIGBUS);
	sigdelset(&signals, SIGFPE);
	sigdelset(&signals, SIGILL);
	sigdelset(&signals, SIGABRT);
	sigprocmask(SIG_SETMASK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static bool
prepare(struct parent *parent)
{
	parent->metrics = metrics_open(SLOTS);
	parent->series = parent->metrics != NULL ? series_open(parent->metrics) : NULL;
	if (parent->series == NULL || metrics_freeze(parent->metrics) != 0 || !gateway_prepare()) {
		log_message(LOG_LEVEL_ERROR, "start_failed", "the shared memory could not be had", "free some memory");
		return false;
	}
	parent->listen_fd = listen_open(parent->config->listen, &parent->owns_socket);
	return parent->listen_fd >= 0;
}

static int
serve(struct parent *parent)
{
	struct log_line line;

	block_signals();
	harden();
	store_prepare();
	if (!prepare(parent))
		return 1;
	parent->place_count = parent->config->workers;
	log_begin(&line, LOG_LEVEL_INFO, "serving");
	log_text(&line, "listen", parent->config->listen);
	log_number(&line, "workers", parent->config->workers);
	log_text(&line, "public_url", parent->config->public_url.origin);
	log_end(&line);
	notify("READY=1");
	watch(parent);
	return 0;
}

int
cmd_serve(int argc, char **argv)
{
	static struct parent parent;
	struct config_mistakes mistakes = {0};
	int status;

	if (argc > 1) {
		fprintf(stderr,
			"integrations serve takes no arguments, not even %s; its settings are environment "
			"variables\n",
			argv[1]);
		return 64;
	}
	parent.config = config_open(CONFIG_ALL, &mistakes);
	if (parent.config == NULL) {
		report_mistakes(&mistakes);
		return 78;
	}
	log_configure(parent.config->log_level, false);
	status = serve(&parent);
	if (parent.listen_fd > 0)
		close(parent.listen_fd);
	series_close(parent.series);
	metrics_close(parent.metrics);
	config_close(parent.config);
	crypto_close();
	return status;
}
