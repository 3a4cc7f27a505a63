/*
 * A place is one of the WORKERS, a child the process that holds it now; during a reload a place has two children, the
 * successor and the one that drains. A child writes the metrics in the slot that is its index here.
 */
#include "fcgi/supervisor.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "fcgi/config.h"
#include "fcgi/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SLOTS SUPERVISOR_SLOTS
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MOST_MS 10000
#define LIVED_LONG_MS 10000 /* a worker that lived this long is replaced at once when it dies */
#define READY_MS 10000      /* for a new worker to serve, before its predecessor is kept */

static void
child_main(struct supervisor *supervisor, size_t slot, int ready_fd, pid_t parent_pid)
{
	struct worker_settings settings = {.config = supervisor->config,
					   .metrics = supervisor->metrics,
					   .app_metrics = supervisor->app_metrics,
					   .slot = slot,
					   .slots = SLOTS,
					   .listen_fd = supervisor->listen_fd,
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
free_slot(const struct supervisor *supervisor)
{
	size_t slot = 0;

	while (slot < SLOTS && supervisor->children[slot].state != CHILD_NONE)
		slot++;
	return slot;
}

/* Start a worker for `place`; its slot, or SLOTS when that failed. *ready_fd becomes readable when it serves. */
static size_t
start_child(struct supervisor *supervisor, unsigned place, int *ready_fd)
{
	size_t slot = free_slot(supervisor);
	pid_t self = getpid();
	int ends[2];
	pid_t pid;

	if (slot == SLOTS || pipe2(ends, O_CLOEXEC) != 0)
		return SLOTS;
	log_flush();
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		child_main(supervisor, slot, ends[1], self);
	}
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		log_message(LOG_LEVEL_ERROR, "fork_failed", strerror(errno), "raise the limit of processes (TasksMax)");
		return SLOTS;
	}
	*ready_fd = ends[0];
	supervisor->children[slot] =
	    (struct child){.pid = pid, .state = CHILD_SERVING, .place = place, .started_ms = clock_monotonic_ms()};
	supervisor->places[place].start_at_ms = -1;
	return slot;
}

static void
drain_child(struct supervisor *supervisor, size_t slot)
{
	kill(supervisor->children[slot].pid, SIGTERM);
	supervisor->children[slot].state = CHILD_DRAINING;
}

/* Kill it without patience, which then is not an end to report. */
static void
kill_child(struct supervisor *supervisor, size_t slot)
{
	kill(supervisor->children[slot].pid, SIGKILL);
	supervisor->children[slot].killed = true;
}

/* SIGTERM ends a worker at once that has not begun to serve. */
static bool
ended_as_told(const struct child *child, int status)
{
	if (child->state != CHILD_DRAINING)
		return false;
	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status) == 0;
	return WTERMSIG(status) == SIGTERM || (child->killed && WTERMSIG(status) == SIGKILL);
}

static const char *
death_action(const struct child *child, int status)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return "SIGSYS: a worker made a system call that the sandbox forbids, by a mistake or by an attack; "
		       "the kernel's log names the call (type=1326 ... syscall=): report it";
	if (child->state == CHILD_DRAINING)
		return "the worker was draining and lost the requests that it still served; look at the lines before "
		       "and report it";
	return "the parent starts another worker; if this repeats, look at the lines before and report it";
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
	log_text(&line, "action", death_action(child, status));
	log_end(&line);
}

static void
child_died(struct supervisor *supervisor, size_t slot, int status)
{
	struct child *child = &supervisor->children[slot];
	int64_t now = clock_monotonic_ms();

	metrics_free(supervisor->metrics, slot);
	if (!ended_as_told(child, status))
		log_death(child, status);
	if (child->state == CHILD_SERVING) {
		struct place *place = &supervisor->places[child->place];

		if (now - child->started_ms >= LIVED_LONG_MS)
			place->backoff_ms = 0;
		place->start_at_ms = now + place->backoff_ms;
		place->backoff_ms = place->backoff_ms == 0                    ? BACKOFF_FIRST_MS
				    : place->backoff_ms * 2 < BACKOFF_MOST_MS ? place->backoff_ms * 2
									      : BACKOFF_MOST_MS;
	}
	child->state = CHILD_NONE;
}

void
supervisor_reap(struct supervisor *supervisor)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (size_t slot = 0; slot < SLOTS; slot++) {
			if (supervisor->children[slot].state != CHILD_NONE && supervisor->children[slot].pid == pid)
				child_died(supervisor, slot, status);
		}
	}
}

/* Start what is due; milliseconds until the next is, or -1. */
int
supervisor_start_due(struct supervisor *supervisor)
{
	int64_t now = clock_monotonic_ms();
	int64_t next = -1;

	for (unsigned place = 0; place < supervisor->place_count; place++) {
		int64_t at = supervisor->places[place].start_at_ms;
		int ready_fd;

		if (at >= 0 && at <= now) {
			if (start_child(supervisor, place, &ready_fd) != SLOTS)
				close(ready_fd);
			else
				at = supervisor->places[place].start_at_ms = now + BACKOFF_MOST_MS;
		}
		if (supervisor->places[place].start_at_ms >= 0 && (next < 0 || at - now < next))
			next = at - now;
	}
	return next < 0 ? -1 : (int)next;
}

size_t
supervisor_count(const struct supervisor *supervisor)
{
	size_t count = 0;

	for (size_t slot = 0; slot < SLOTS; slot++)
		count += supervisor->children[slot].state != CHILD_NONE;
	return count;
}

/* ---- replacing all of them ---- */

static bool
is_serving(int ready_fd)
{
	struct pollfd wait = {.fd = ready_fd, .events = POLLIN};
	char byte;

	return poll(&wait, 1, READY_MS) == 1 && read(ready_fd, &byte, 1) == 1;
}

/* Put a worker with the new settings in the place of `old` (SLOTS: none). False when it does not come to serve. */
static bool
replace_child(struct supervisor *supervisor, unsigned place, size_t old)
{
	int ready_fd;
	size_t slot = start_child(supervisor, place, &ready_fd);
	bool serving;

	if (slot == SLOTS)
		return false;
	serving = is_serving(ready_fd);
	close(ready_fd);
	if (!serving) {
		kill_child(supervisor, slot);
		supervisor->children[slot].state = CHILD_DRAINING;
		return false;
	}
	if (old != SLOTS)
		drain_child(supervisor, old);
	return true;
}

static size_t
child_of(const struct supervisor *supervisor, unsigned place, const struct child *before)
{
	for (size_t slot = 0; slot < SLOTS; slot++) {
		if (before[slot].state == CHILD_SERVING && before[slot].place == place &&
		    supervisor->children[slot].state == CHILD_SERVING &&
		    supervisor->children[slot].pid == before[slot].pid)
			return slot;
	}
	return SLOTS;
}

void
supervisor_replace_all(struct supervisor *supervisor)
{
	struct child before[SLOTS];
	unsigned wanted = supervisor->config->workers;

	memcpy(before, supervisor->children, sizeof before);
	for (unsigned place = 0; place < wanted; place++) {
		if (place >= supervisor->place_count)
			supervisor->places[place] = (struct place){.start_at_ms = -1};
		if (!replace_child(supervisor, place, child_of(supervisor, place, before))) {
			log_message(LOG_LEVEL_ERROR, "worker_not_replaced", "a new worker did not start to serve",
				    "look at the lines before; the old worker goes on with the old settings");
			if (child_of(supervisor, place, before) == SLOTS) /* no worker serves there: try again later */
				supervisor->places[place].start_at_ms = clock_monotonic_ms() + BACKOFF_MOST_MS;
		}
		supervisor_reap(supervisor);
	}
	for (unsigned place = wanted; place < supervisor->place_count; place++) {
		size_t slot = child_of(supervisor, place, before);

		if (slot != SLOTS)
			drain_child(supervisor, slot);
	}
	supervisor->place_count = wanted;
}

void
supervisor_drain_all(struct supervisor *supervisor)
{
	for (size_t slot = 0; slot < SLOTS; slot++) {
		if (supervisor->children[slot].state == CHILD_SERVING)
			drain_child(supervisor, slot);
	}
}

void
supervisor_kill_all(struct supervisor *supervisor)
{
	for (size_t slot = 0; slot < SLOTS; slot++) {
		if (supervisor->children[slot].state != CHILD_NONE)
			kill_child(supervisor, slot);
	}
}
