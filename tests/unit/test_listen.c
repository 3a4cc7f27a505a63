/* The socket that workers accept on: made with care for what is there already, or passed by the service manager. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fcgi/listen.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PASSED_FD 3

static char directory[80];
static char path[100];

static int
prepare(void **state)
{
	(void)state;
	snprintf(directory, sizeof directory, "/tmp/listen.XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof path, "%s/s", directory);
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	return 0;
}

static int
clean_up(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(directory);
}

static int
connected(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (connect(fd, (const struct sockaddr *)(const void *)&address, sizeof address) == 0)
		return fd;
	close(fd);
	return -1;
}

static void
refused(const char *where)
{
	bool owned;

	assert_int_equal(listen_open(where, &owned), -1);
}

static void
makes_its_own(void **state)
{
	struct stat status;
	bool owned = false;
	int fd = listen_open(path, &owned);
	int peer = connected();

	(void)state;
	assert_true(fd >= 0 && owned && peer >= 0);
	assert_int_equal(stat(path, &status), 0);
	assert_int_equal(status.st_mode & 0777, 0660);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	refused(path); /* another one listens */
	close(peer);
	close(fd);
	fd = listen_open(path, &owned); /* what a killed process left is taken away */
	assert_true(fd >= 0);
	close(fd);
}

static void
keeps_what_is_no_socket(void **state)
{
	char text[200];
	FILE *file = fopen(path, "w");

	(void)state;
	assert_non_null(file);
	fclose(file);
	refused(path);
	assert_int_equal(access(path, F_OK), 0);
	snprintf(text, sizeof text, "%s/none/s", directory);
	refused(text);
	memset(text, 'a', 150);
	text[0] = '/';
	text[150] = '\0';
	refused(text);
}

static void
pass(const char *pid, const char *fds)
{
	char own[20];

	snprintf(own, sizeof own, "%d", (int)getpid());
	setenv("LISTEN_PID", pid != NULL ? pid : own, 1);
	setenv("LISTEN_FDS", fds, 1);
}

static void
takes_a_passed_one(void **state)
{
	int kept = dup(PASSED_FD);
	int ends[2];
	bool owned = true;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	if (ends[0] != PASSED_FD)
		assert_int_equal(dup2(ends[0], PASSED_FD), PASSED_FD);
	pass(NULL, "1");
	assert_int_equal(listen_open(path, &owned), PASSED_FD);
	assert_false(owned);
	assert_true(fcntl(PASSED_FD, F_GETFL) & O_NONBLOCK);
	if (ends[0] != PASSED_FD)
		close(ends[0]);
	close(ends[1]);
	close(PASSED_FD);
	refused(path); /* told of one that is not there */
	if (kept >= 0) {
		assert_int_equal(dup2(kept, PASSED_FD), PASSED_FD);
		close(kept);
	}
}

static void
not_passed_to_us(void **state)
{
	static const struct {
		const char *pid, *fds;
	} cases[] = {{"1", "1"}, {"x", "1"}, {NULL, "0"}, {NULL, "many"}, {NULL, "9999"}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		bool owned = false;
		int fd;

		pass(cases[i].pid, cases[i].fds);
		fd = listen_open(path, &owned);
		assert_true(fd >= 0 && owned);
		close(fd);
	}
	unsetenv("LISTEN_FDS");
	refused("/");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(makes_its_own, prepare, clean_up),
	    cmocka_unit_test_setup_teardown(keeps_what_is_no_socket, prepare, clean_up),
	    cmocka_unit_test_setup_teardown(takes_a_passed_one, prepare, clean_up),
	    cmocka_unit_test_setup_teardown(not_passed_to_us, prepare, clean_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
