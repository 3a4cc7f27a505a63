/*
 * The parent of the workers: it holds the listening socket and the metrics, forks one worker per core, replaces a dead
 * one with backoff, and passes signals on. SIGTERM and SIGINT drain and end everything; SIGHUP reads the settings anew,
 * of which only what is in files can have changed, and replaces the workers one by one, each old one only when its
 * successor serves; on a mistake the old ones stay.
 */
#include "fcgi/cmd.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "fcgi/app_metrics.h"
#include "fcgi/config.h"
#include "fcgi/fastcgi.h"
#include "fcgi/listen.h"
#include "fcgi/router.h"
#include "fcgi/sandbox.h"
#include "fcgi/supervisor.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define END_MS 25000  /* for all workers to drain, before they are killed */
#define LOOK_MS 10000 /* how often the files that workers read again are looked at */

struct parent {
	struct config *config;
	struct metrics *metrics;
	struct app_metrics *app_metrics;
	struct supervisor supervisor;
	uint64_t files; /* sandbox_files, of the time when the workers were started */
	bool owns_socket;
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

static void
replace_workers(struct parent *parent)
{
	parent->files = sandbox_files(parent->config);
	supervisor_replace_all(&parent->supervisor);
}

static void
look_at_files(struct parent *parent)
{
	if (sandbox_files(parent->config) == parent->files)
		return;
	replace_workers(parent);
	log_message(LOG_LEVEL_INFO, "workers_renewed",
		    "the parent replaced the workers, because a file that workers read was replaced", NULL);
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
	parent->supervisor.config = config;
	log_configure(config->log_level, false);
	replace_workers(parent);
	log_message(LOG_LEVEL_INFO, "reloaded",
		    "the parent read the files of secrets and providers again and replaced the workers; environment "
		    "variables stay those of the start",
		    NULL);
	notify("READY=1");
}

/* ---- the end ---- */

static void
end_workers(struct parent *parent, const sigset_t *signals)
{
	struct supervisor *supervisor = &parent->supervisor;
	int64_t until = clock_monotonic_ms() + END_MS;

	notify("STOPPING=1");
	if (parent->owns_socket)
		unlink(parent->config->listen); /* no new peer connects; those in the queue are still served */
	supervisor_drain_all(supervisor);
	for (supervisor_reap(supervisor); supervisor_count(supervisor) > 0; supervisor_reap(supervisor)) {
		int64_t left = until - clock_monotonic_ms();
		struct timespec wait = {.tv_sec = left > 0 ? left / 1000 : 0,
					.tv_nsec = left > 0 ? left % 1000 * 1000000 : 0};
		int number = sigtimedwait(signals, NULL, &wait);

		if (number == SIGTERM || number == SIGINT || left <= 0) /* asked twice, or out of patience */
			supervisor_kill_all(supervisor);
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
		int due = supervisor_start_due(&parent->supervisor);
		int ms = due >= 0 && due < LOOK_MS ? due : LOOK_MS;
		struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
		int number = sigtimedwait(&signals, NULL, &wait);

		supervisor_reap(&parent->supervisor);
		look_at_files(parent);
		if (number == SIGHUP)
			reload(parent);
		if (number == SIGTERM || number == SIGINT)
			break;
	}
	end_workers(parent, &signals);
}

/* Every connection is a file. */
static void
raise_limit_of_files(void)
{
	struct rlimit files;

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
	parent->metrics = metrics_open(SUPERVISOR_SLOTS);
	parent->app_metrics = parent->metrics != NULL
				  ? app_metrics_open(parent->metrics, parent->config, router_count(), router_name)
				  : NULL;
	if (parent->app_metrics == NULL || !metrics_freeze(parent->metrics) || !fastcgi_prepare()) {
		log_message(LOG_LEVEL_ERROR, "start_failed", "the parent got no shared memory", "free some memory");
		return false;
	}
	parent->supervisor.config = parent->config;
	parent->supervisor.metrics = parent->metrics;
	parent->supervisor.app_metrics = parent->app_metrics;
	parent->supervisor.listen_fd = listen_open(parent->config->listen, &parent->owns_socket);
	return parent->supervisor.listen_fd >= 0;
}

static int
serve(struct parent *parent)
{
	struct log_line line;

	block_signals();
	sandbox_parent();
	raise_limit_of_files();
	if (!prepare(parent))
		return 1;
	parent->supervisor.place_count = parent->config->workers;
	parent->files = sandbox_files(parent->config);
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
	if (parent.supervisor.listen_fd > 0)
		close(parent.supervisor.listen_fd);
	app_metrics_close(parent.app_metrics);
	metrics_close(parent.metrics);
	config_close(parent.config);
	return status;
}
