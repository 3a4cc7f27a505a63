/* sd_listen_fds(3) is three environment variables, so libsystemd is not needed for it. */
#include "fcgi/listen.h"

#include "common/log.h"
#include "common/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 4096 /* a full one makes the web server's connect fail at once */
#define FIRST_PASSED_FD 3

static void
complain(const char *path, const char *message, const char *action)
{
	struct log_line line;

	log_begin(&line, LOG_LEVEL_ERROR, "listen_failed");
	log_text(&line, "path", path);
	log_text(&line, "message", message);
	log_text(&line, "action", action);
	log_end(&line);
}

/* A socket that the service manager holds for us, or -1. */
static int
passed_socket(void)
{
	const char *pid = getenv("LISTEN_PID");
	const char *fds = getenv("LISTEN_FDS");
	uint64_t number;

	if (pid == NULL || fds == NULL || !text_to_number(pid, INT32_MAX, &number) || number != (uint64_t)getpid() ||
	    !text_to_number(fds, 1024, &number) || number == 0)
		return -1;
	return FIRST_PASSED_FD;
}

static bool
has_listener(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool answered = fd >= 0 && connect(fd, (const struct sockaddr *)(const void *)address, sizeof *address) == 0;

	if (fd >= 0)
		close(fd);
	return answered;
}

static int
own_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat status;
	mode_t mask;
	int fd, bound;

	if (strlen(path) >= sizeof address.sun_path) {
		complain(path, "the path is longer than 107 bytes", "choose a shorter LISTEN");
		return -1;
	}
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (lstat(path, &status) == 0) {
		if (!S_ISSOCK(status.st_mode)) {
			complain(path, "the path names something that is not a socket",
				 "remove it, or choose another LISTEN");
			return -1;
		}
		if (has_listener(&address)) {
			complain(path, "another process listens there",
				 "end the other instance, or choose another LISTEN");
			return -1;
		}
		unlink(path); /* left by a process that was killed */
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	mask = umask(0117);
	bound = fd >= 0 ? bind(fd, (const struct sockaddr *)(const void *)&address, sizeof address) : -1;
	umask(mask);
	if (bound != 0 || listen(fd, BACKLOG) != 0) {
		complain(path, strerror(errno), "check that its directory exists and that the service may write to it");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

int
listen_open(const char *path, bool *owned)
{
	int fd = passed_socket();

	*owned = fd < 0;
	if (fd < 0)
		fd = own_socket(path);
	if (fd >= 0 && (fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)) {
		complain(path, strerror(errno), "check that the passed socket listens");
		close(fd);
		return -1;
	}
	return fd;
}
