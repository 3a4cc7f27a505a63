/* What a sandboxed process can no longer do, each tried in a child of its own; and what it still can. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/landlock.h"
#include "fcgi/config.h"
#include "fcgi/provider.h"
#include "fcgi/sandbox.h"
#include "fcgi/sandbox_calls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define NO_SUCH_CALL 100000

static char directory[PATH_MAX];

static const char *
path(const char *name)
{
	static char paths[4][PATH_MAX];
	static size_t next;
	char *out = paths[next++ % COUNT(paths)];

	snprintf(out, PATH_MAX, "%.2000s/%.2000s", directory, name);
	return out;
}

static void
write_file(const char *name)
{
	FILE *file = fopen(path(name), "w");

	assert_non_null(file);
	fputs("text\n", file);
	assert_int_equal(fclose(file), 0);
}

static int
prepare(void **state)
{
	(void)state;
	snprintf(directory, sizeof directory, "%s/sandbox.XXXXXX",
		 getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
	if (mkdtemp(directory) == NULL)
		return -1;
	write_file("keys");
	write_file("ca");
	write_file("other");
	return 0;
}

static int
clean(void **state)
{
	(void)state;
	unlink(path("keys"));
	unlink(path("ca"));
	unlink(path("other"));
	return rmdir(directory);
}

/* How a child ends that runs `run(argument)`. */
static int
child(int (*run)(const void *argument), const void *argument)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		int code = run(argument);

#ifdef __SANITIZE_ADDRESS__
		_exit(code); /* it would look for leaks, by calls that are forbidden now */
#else
		exit(code);
#endif
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void
assert_exits_well(int status)
{
	if (WIFSIGNALED(status))
		fail_msg("ended by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		fail_msg("exit status %d (a line of this file, modulo 256)", WEXITSTATUS(status));
}

/* In a child: leave with the number of the line that is wrong. */
#define MUST(condition)                                                                                                \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			return __LINE__ % 256 != 0 ? __LINE__ % 256 : 255;                                             \
	} while (0)

/* ---- system calls ---- */

struct call {
	const char *name;
	long number;
	long arguments[6];
	int error; /* 0: it ends the process */
};

static const struct call forbidden[] = {
    {"execve", SYS_execve, {0}, 0},
    {"execveat", SYS_execveat, {0}, 0},
    {"ptrace", SYS_ptrace, {0}, 0},
    {"process_vm_readv", SYS_process_vm_readv, {0}, 0},
    {"process_vm_writev", SYS_process_vm_writev, {0}, 0},
    {"bpf", SYS_bpf, {0}, 0},
    {"perf_event_open", SYS_perf_event_open, {0}, 0},
    {"userfaultfd", SYS_userfaultfd, {0}, 0},
    {"init_module", SYS_init_module, {0}, 0},
    {"finit_module", SYS_finit_module, {0}, 0},
    {"kexec_load", SYS_kexec_load, {0}, 0},
    {"keyctl", SYS_keyctl, {0}, 0},
    {"setuid", SYS_setuid, {0}, 0},
    {"setresgid", SYS_setresgid, {0}, 0},
    {"capset", SYS_capset, {0}, 0},
    {"unshare", SYS_unshare, {0}, 0},
    {"setns", SYS_setns, {0}, 0},
    {"mount", SYS_mount, {0}, 0},
    {"umount2", SYS_umount2, {0}, 0},
    {"chroot", SYS_chroot, {0}, 0},
    {"personality", SYS_personality, {0}, 0},
    {"clone with a user namespace", SYS_clone, {CLONE_NEWUSER | SIGCHLD}, 0},
    {"socket(AF_PACKET)", SYS_socket, {AF_PACKET, SOCK_RAW}, 0},
    {"socket(AF_ALG)", SYS_socket, {AF_ALG, SOCK_SEQPACKET}, 0},
    {"socket(AF_VSOCK)", SYS_socket, {AF_VSOCK, SOCK_STREAM}, 0},
    {"socket(AF_NETLINK)", SYS_socket, {AF_NETLINK, SOCK_RAW}, EAFNOSUPPORT},
    {"clone3", SYS_clone3, {0}, ENOSYS},
};

static const struct call restricted[] = {
    {"clone without CLONE_THREAD", SYS_clone, {SIGCHLD}, 0},
#ifdef SYS_fork
    {"fork", SYS_fork, {0}, 0},
    {"vfork", SYS_vfork, {0}, 0},
#endif
    {"a call of a kernel to come", NO_SUCH_CALL, {0}, ENOSYS},
    {"a raw socket", SYS_socket, {AF_INET, SOCK_RAW}, ENOSYS},
    {"MPTCP", SYS_socket, {AF_INET, SOCK_STREAM, IPPROTO_MPTCP}, ENOSYS},
    {"MPTCP over IPv6", SYS_socket, {AF_INET6, SOCK_STREAM, IPPROTO_MPTCP}, ENOSYS},
    {"SCTP", SYS_socket, {AF_INET, SOCK_STREAM, IPPROTO_SCTP}, ENOSYS},
    {"ping", SYS_socket, {AF_INET, SOCK_DGRAM, IPPROTO_ICMP}, ENOSYS},
    {"UDP-Lite", SYS_socket, {AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE}, ENOSYS},
    {"Unix datagrams", SYS_socket, {AF_UNIX, SOCK_DGRAM}, ENOSYS},
    {"a pair of Unix datagrams", SYS_socketpair, {AF_UNIX, SOCK_DGRAM}, ENOSYS},
    {"a pair of Unix packets", SYS_socketpair, {AF_UNIX, SOCK_SEQPACKET}, ENOSYS},
    {"sendto, fast open", SYS_sendto, {-1, 0, 0, MSG_FASTOPEN | MSG_NOSIGNAL}, ENOSYS},
    {"sendmsg, fast open", SYS_sendmsg, {-1, 0, MSG_FASTOPEN}, ENOSYS},
    {"sendmmsg, fast open", SYS_sendmmsg, {-1, 0, 0, MSG_FASTOPEN}, ENOSYS},
    {"sendto, out of band", SYS_sendto, {-1, 0, 0, MSG_OOB}, ENOSYS},
    {"sendmsg, out of band", SYS_sendmsg, {-1, 0, MSG_OOB}, ENOSYS},
    {"sendmmsg, out of band", SYS_sendmmsg, {-1, 0, 0, MSG_OOB}, ENOSYS},
    {"connect by fast open", SYS_setsockopt, {-1, IPPROTO_TCP, TCP_FASTOPEN_CONNECT}, ENOSYS},
    {"a socket's own protocol", SYS_setsockopt, {-1, IPPROTO_TCP, TCP_ULP}, ENOSYS},
    {"a socket's own filter", SYS_setsockopt, {-1, SOL_SOCKET, SO_ATTACH_FILTER}, ENOSYS},
    {"a device of its own", SYS_setsockopt, {-1, SOL_SOCKET, SO_BINDTODEVICE}, ENOSYS},
    {"a descriptor's owner", SYS_fcntl, {0, F_SETOWN, 1}, ENOSYS},
    {"a descriptor's owner, extended", SYS_fcntl, {-1, F_SETOWN_EX}, ENOSYS},
    {"a descriptor's signal", SYS_fcntl, {0, F_SETSIG, SIGTERM}, ENOSYS},
    {"signals of a descriptor", SYS_fcntl, {-1, F_SETFL, O_ASYNC | O_NONBLOCK}, ENOSYS},
    {"a lease of a file", SYS_fcntl, {-1, F_SETLEASE, F_WRLCK}, ENOSYS},
    {"another's descriptor", SYS_ioctl, {0, FIOSETOWN}, ENOSYS},
    {"signals by ioctl", SYS_ioctl, {0, FIOASYNC}, ENOSYS},
    {"limits of another", SYS_prlimit64, {1, RLIMIT_NOFILE, 0, 0}, ENOSYS},
    {"pidfd_open", SYS_pidfd_open, {1}, ENOSYS},
    {"splice", SYS_splice, {0}, ENOSYS},
    {"sendfile", SYS_sendfile, {0}, ENOSYS},
    {"bind", SYS_bind, {0}, ENOSYS},
    {"listen", SYS_listen, {0}, ENOSYS},
    {"kill", SYS_kill, {1, SIGTERM}, ENOSYS},
    {"tgkill of another", SYS_tgkill, {1, 1, SIGTERM}, ENOSYS},
    {"prctl", SYS_prctl, {PR_SET_DUMPABLE, 1}, ENOSYS},
    {"memfd_create", SYS_memfd_create, {0}, ENOSYS},
    {"io_uring_setup", SYS_io_uring_setup, {1}, ENOSYS},
    {"unlinkat", SYS_unlinkat, {0}, ENOSYS},
    {"renameat2", SYS_renameat2, {0}, ENOSYS},
    {"fchmodat", SYS_fchmodat, {0}, ENOSYS},
    {"an ioctl of terminals", SYS_ioctl, {0, TIOCSTI}, ENOSYS},
    {"landlock_create_ruleset", SYS_landlock_create_ruleset, {0}, ENOSYS},
    {"memory to write and run", SYS_mmap, {0, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE, -1, 0}, EPERM},
    {"memory of nothing to run", SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0}, EPERM},
    {"mprotect to run", SYS_mprotect, {0, 4096, PROT_READ | PROT_EXEC}, EPERM},
};

struct attempt {
	bool is_worker;
	const struct call *call;
};

static int
attempt(const void *argument)
{
	const struct attempt *attempt = argument;
	const long *with = attempt->call->arguments;

	MUST(sandbox_calls_forbid());
	MUST(!attempt->is_worker || sandbox_calls_restrict());
	errno = 0;
	(void)syscall(attempt->call->number, with[0], with[1], with[2], with[3], with[4], with[5]);
	return errno; /* where it must not come back at all, 0 is as wrong as anything else */
}

static void
check_calls(const struct call *calls, size_t count, bool is_worker)
{
	for (size_t i = 0; i < count; i++) {
		struct attempt one = {.is_worker = is_worker, .call = &calls[i]};
		int status = child(attempt, &one);

		if (calls[i].error == 0) {
			if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
				fail_msg("%s did not end the process: status %#x", calls[i].name, (unsigned)status);
		} else if (!WIFEXITED(status) || WEXITSTATUS(status) != calls[i].error) {
			fail_msg("%s: status %#x, not the error %d", calls[i].name, (unsigned)status, calls[i].error);
		}
	}
}

static void
test_nobody_may(void **state)
{
	(void)state;
	check_calls(forbidden, COUNT(forbidden), false);
	check_calls(forbidden, COUNT(forbidden), true);
}

static void
test_a_worker_may_not(void **state)
{
	(void)state;
	check_calls(restricted, COUNT(restricted), true);
}

static int
write_files(const void *argument)
{
	const char *name = argument;

	MUST(sandbox_calls_restrict());
	MUST(open(name, O_WRONLY) < 0 && errno == EACCES);
	MUST(open(name, O_RDWR) < 0 && errno == EACCES);
	MUST(open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600) < 0 && errno == EACCES);
	MUST(open(name, O_RDONLY | O_TRUNC) < 0);
	MUST(open(name, O_RDONLY | O_CREAT, 0600) < 0);
	MUST(open(name, O_RDONLY | O_CLOEXEC) >= 0);
	return 0;
}

static void
test_a_worker_writes_no_file(void **state)
{
	(void)state;
	if (!sandbox_calls_coverage())
		assert_exits_well(child(write_files, path("other")));
}

static void *
answer(void *arg)
{
	return arg;
}

static int
serve(const void *argument)
{
	struct addrinfo *found = NULL;
	struct gaicb request = {.ar_name = "localhost"};
	struct gaicb *list[1] = {&request};
	int pair[2];
	int waiting = 0;
	int on = 1;
	int tcp;
	struct rlimit files;
	pthread_t thread;
	void *answered = NULL;

	(void)argument;
	MUST(sandbox_calls_forbid() && sandbox_calls_restrict());
	MUST(pthread_create(&thread, NULL, answer, pair) == 0 && pthread_join(thread, &answered) == 0);
	MUST(answered == pair);
	MUST(getaddrinfo("localhost", NULL, NULL, &found) == 0);
	freeaddrinfo(found);
	MUST(getaddrinfo_a(GAI_WAIT, list, 1, NULL) == 0 && gai_error(&request) == 0);
	freeaddrinfo(request.ar_result);
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 && write(pair[0], "abc", 3) == 3);
	MUST(ioctl(pair[1], FIONREAD, &waiting) == 0 && waiting == 3);
	MUST(send(pair[0], "d", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1);
	MUST(fcntl(pair[1], F_SETFD, FD_CLOEXEC) == 0 && fcntl(pair[1], F_GETFD) == FD_CLOEXEC);
	MUST(fcntl(pair[1], F_SETFL, O_NONBLOCK) == 0 && fcntl(pair[1], F_GETFL) & O_NONBLOCK);
	MUST(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) >= 0 || errno == EAFNOSUPPORT);
	MUST(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP) >= 0);
	tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
	MUST(tcp >= 0 && setsockopt(tcp, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
	MUST(setsockopt(tcp, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0);
	MUST(setsockopt(tcp, IPPROTO_TCP, TCP_KEEPIDLE, &on, sizeof on) == 0);
	MUST(setsockopt(tcp, IPPROTO_TCP, TCP_KEEPINTVL, &on, sizeof on) == 0);
	MUST(setsockopt(tcp, IPPROTO_TCP, TCP_KEEPCNT, &on, sizeof on) == 0);
	MUST(setsockopt(tcp, SOL_SOCKET, SO_SNDBUF, &waiting, sizeof waiting) == 0);
	MUST(getrlimit(RLIMIT_NOFILE, &files) == 0);
	MUST(malloc((size_t)1 << 24) != NULL);
	return 0;
}

static void
test_a_worker_still_may(void **state)
{
	(void)state;
	assert_exits_well(child(serve, NULL));
}

static int
abort_here(const void *argument)
{
	(void)argument;
	MUST(sandbox_calls_restrict());
	abort();
}

static void
test_a_mistake_still_ends_as_one(void **state)
{
	int status;

	(void)state;
	status = child(abort_here, NULL);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

/* ---- files and ports ---- */

static int
listening(unsigned *port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof address;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (const struct sockaddr *)(const void *)&address, sizeof address), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)(void *)&address, &len), 0);
	*port = ntohs(address.sin_port);
	return fd;
}

/* The error of connecting, 0 when it went well. */
static int
connect_to(unsigned port)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error = connect(fd, (const struct sockaddr *)(const void *)&address, sizeof address) == 0 ? 0 : errno;

	close(fd);
	return error;
}

#ifndef __SANITIZE_ADDRESS__ /* there the calls are not filtered */
/* By a way that Landlock does not see. */
static bool
is_reached_otherwise(unsigned port)
{
	struct sockaddr_in address = {
	    .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const struct sockaddr *to = (const struct sockaddr *)(const void *)&address;
	char byte = 'x';
	struct iovec bytes = {.iov_base = &byte, .iov_len = 1};
	struct mmsghdr message = {
	    .msg_hdr = {.msg_name = &address, .msg_namelen = sizeof address, .msg_iov = &bytes, .msg_iovlen = 1}};
	int multipath = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (multipath >= 0 && connect(multipath, to, sizeof address) == 0)
		return true;
	if (sendto(fd, &byte, 1, MSG_FASTOPEN, to, sizeof address) > 0 ||
	    sendmsg(fd, &message.msg_hdr, MSG_FASTOPEN) > 0 || sendmmsg(fd, &message, 1, MSG_FASTOPEN) > 0)
		return true;
	return setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof on) == 0 &&
	       connect(fd, to, sizeof address) == 0 && write(fd, &byte, 1) == 1;
}
#endif

static int
read_one(const char *name)
{
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	char byte;
	bool good = fd >= 0 && read(fd, &byte, 1) == 1;

	if (fd >= 0)
		close(fd);
	return good ? 0 : errno;
}

static bool
has_landlock(int abi)
{
	struct landlock landlock;
	bool has = landlock_begin(&landlock) && landlock.abi >= abi;

	if (landlock.rules >= 0)
		close(landlock.rules);
	return has;
}

struct ports {
	unsigned allowed, refused;
};

static int
land(const void *argument)
{
	const struct ports *ports = argument;
	struct landlock landlock;

	MUST(landlock_begin(&landlock));
	landlock_may_read(&landlock, path("ca"));
	landlock_may_read(&landlock, path("none"));
	landlock_may_connect(&landlock, ports->allowed);
	MUST(landlock_enter(&landlock));
	MUST(read_one(path("ca")) == 0);
	MUST(read_one(path("other")) == EACCES);
	MUST(read_one("/etc/passwd") == EACCES);
	MUST(open(path("ca"), O_WRONLY) < 0 && errno == EACCES);
	MUST(unlink(path("ca")) != 0 && errno == EACCES);
	MUST(landlock.abi < LANDLOCK_ABI_PORTS || connect_to(ports->refused) == EACCES);
	MUST(connect_to(ports->allowed) == 0);
	return 0;
}

static void
test_files_and_ports(void **state)
{
	struct ports ports;
	int allowed = listening(&ports.allowed);
	int refused = listening(&ports.refused);

	(void)state;
	if (has_landlock(1))
		assert_exits_well(child(land, &ports));
	close(allowed);
	close(refused);
}

static void
test_rules_without_landlock(void **state)
{
	struct landlock landlock = {.rules = -1};

	(void)state;
	landlock_may_read(&landlock, "/etc/hosts");
	landlock_may_connect(&landlock, 443);
	assert_false(landlock_enter(&landlock));
	assert_int_equal(read_one("/etc/passwd"), 0);
}

/* ---- the whole, for a worker's settings ---- */

static struct config *
settings(struct arena *arena, unsigned redis, unsigned provider)
{
	struct config *config = arena_alloc(arena, sizeof *config);
	struct provider *google = arena_alloc(arena, sizeof *google);

	*google = (struct provider){.service = "google",
				    .token_endpoint = arena_format(arena, "https://id.example:%u/token", provider),
				    .userinfo_endpoint = "https://id.example/me"};
	*config = (struct config){.arena = arena,
				  .redis_url = arena_format(arena, "redis://127.0.0.1:%u/0", redis),
				  .session_redis_url = "unix:///run/redis.sock",
				  .provider_count = 1,
				  .provider_ca_file = arena_format(arena, "%s", path("ca"))};
	config->providers = arena_alloc(arena, sizeof *config->providers);
	config->providers[0] = google;
	config->keys_file = arena_alloc(arena, sizeof *config->keys_file);
	*config->keys_file = (struct config_keys_file){.path = arena_format(arena, "%s", path("keys"))};
	return config;
}

static void
no_memory(void *arg)
{
	(void)arg;
	abort();
}

static void
test_a_replaced_file_is_seen(void **state)
{
	struct arena *arena = arena_open(4096, 65536, no_memory, NULL);
	const struct config *config = settings(arena, 6379, 443);
	uint64_t before = sandbox_files(config);

	(void)state;
	assert_true(sandbox_files(config) == before);
	write_file("keys");
	assert_true(sandbox_files(config) == before);
	write_file("other");
	assert_int_equal(rename(path("other"), path("ca")), 0);
	assert_true(sandbox_files(config) != before);
	write_file("other");
	arena_close(arena);
}

#ifndef __SANITIZE_ADDRESS__
struct servers {
	const struct config *config;
	unsigned redis, provider, other;
};

static int
be_worker(const void *argument)
{
	const struct servers *servers = argument;
	struct rlimit core = {1, 1};

	sandbox_parent();
	MUST(prctl(PR_GET_DUMPABLE) == 0);
	MUST(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	MUST(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == 0 && core.rlim_max == 0);
	sandbox_worker(servers->config);
	MUST(read_one(path("keys")) == 0 && read_one(path("ca")) == 0);
	MUST(!has_landlock(1)); /* nobody may begin anew */
	MUST(read_one("/etc/passwd") == EACCES);
	MUST(connect_to(servers->other) == EACCES);
	MUST(!is_reached_otherwise(servers->other));
	MUST(connect_to(servers->redis) == 0 && connect_to(servers->provider) == 0);
	MUST(connect_to(443) == ECONNREFUSED && connect_to(53) == ECONNREFUSED);
	(void)syscall(SYS_ptrace, 0, 0, 0, 0);
	return 1;
}

static void
test_a_worker(void **state)
{
	struct arena *arena = arena_open(4096, 65536, no_memory, NULL);
	struct servers servers;
	int redis = listening(&servers.redis);
	int provider = listening(&servers.provider);
	int other = listening(&servers.other);
	int status;

	(void)state;
	servers.config = settings(arena, servers.redis, servers.provider);
	if (has_landlock(LANDLOCK_ABI_PORTS) && !sandbox_calls_coverage()) {
		status = child(be_worker, &servers);
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("status %#x, line %d", (unsigned)status, WEXITSTATUS(status));
	}
	close(redis);
	close(provider);
	close(other);
	arena_close(arena);
}
#endif

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_nobody_may),
	    cmocka_unit_test(test_a_worker_may_not),
	    cmocka_unit_test(test_a_worker_writes_no_file),
	    cmocka_unit_test(test_a_worker_still_may),
	    cmocka_unit_test(test_a_mistake_still_ends_as_one),
	    cmocka_unit_test(test_files_and_ports),
	    cmocka_unit_test(test_rules_without_landlock),
	    cmocka_unit_test(test_a_replaced_file_is_seen),
#ifndef __SANITIZE_ADDRESS__
	    cmocka_unit_test(test_a_worker),
#endif
	};

	return cmocka_run_group_tests(tests, prepare, clean);
}
