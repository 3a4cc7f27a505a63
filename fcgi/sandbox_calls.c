/*
 * Two filters. Calls whose arguments do not matter cost next to nothing: the kernel remembers for each whether it is
 * always allowed, and does not run the filter.
 */
#include "fcgi/sandbox_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_TYPE 0xf /* the rest of socket's second argument are flags */
#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* Other programs and their memory, the kernel, who we are, what is mounted where, the clock. */
static const int forbidden[] = {
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(process_madvise),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(kcmp),
    SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(reboot),
    SCMP_SYS(syslog),
    SCMP_SYS(iopl),
    SCMP_SYS(ioperm),
    SCMP_SYS(modify_ldt),
    SCMP_SYS(personality),
    SCMP_SYS(add_key),
    SCMP_SYS(request_key),
    SCMP_SYS(keyctl),
    SCMP_SYS(setuid),
    SCMP_SYS(setgid),
    SCMP_SYS(setreuid),
    SCMP_SYS(setregid),
    SCMP_SYS(setresuid),
    SCMP_SYS(setresgid),
    SCMP_SYS(setfsuid),
    SCMP_SYS(setfsgid),
    SCMP_SYS(setgroups),
    SCMP_SYS(capset),
    SCMP_SYS(setns),
    SCMP_SYS(unshare),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(move_mount),
    SCMP_SYS(open_tree),
    SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fspick),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(swapon),
    SCMP_SYS(swapoff),
    SCMP_SYS(acct),
    SCMP_SYS(quotactl),
    SCMP_SYS(name_to_handle_at),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(sethostname),
    SCMP_SYS(setdomainname),
    SCMP_SYS(settimeofday),
    SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(adjtimex),
};

/* The loop and its sockets, memory, threads that look names up, files that are read again. */
static const int needed[] = {
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvmmsg),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(lseek),
    SCMP_SYS(pipe2),
    SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(accept4),
    SCMP_SYS(connect),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(mlock),
    SCMP_SYS(mlock2),
    SCMP_SYS(munlock),
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(membarrier),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getcpu),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getppid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getrandom),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(nanosleep),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

/* Of gcc --coverage; not there otherwise. */
__attribute__((weak)) void __gcov_init(void *);

bool
sandbox_calls_coverage(void)
{
	return __gcov_init != NULL;
}

/* A filter under construction: the first failure stands. */
struct filter {
	scmp_filter_ctx context;
	bool failed;
};

/* The argument is `value`: all 64 bits, even where the kernel uses 32 of them. */
static struct scmp_arg_cmp
is(unsigned argument, uint64_t value)
{
	return (struct scmp_arg_cmp){.arg = argument, .op = SCMP_CMP_EQ, .datum_a = value};
}

static struct scmp_arg_cmp
has(unsigned argument, uint64_t bits, uint64_t value)
{
	return (struct scmp_arg_cmp){.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = bits, .datum_b = value};
}

static void
rule_of(struct filter *filter, uint32_t action, int call, unsigned count, const struct scmp_arg_cmp *arguments)
{
	if (!filter->failed && seccomp_rule_add_array(filter->context, action, call, count, arguments) != 0)
		filter->failed = true;
}

static void
rule(struct filter *filter, uint32_t action, int call)
{
	rule_of(filter, action, call, 0, NULL);
}

static void
rule_if(struct filter *filter, uint32_t action, int call, struct scmp_arg_cmp argument)
{
	rule_of(filter, action, call, 1, &argument);
}

static void
rule_if_both(struct filter *filter, uint32_t action, int call, struct scmp_arg_cmp one, struct scmp_arg_cmp other)
{
	const struct scmp_arg_cmp both[] = {one, other};

	rule_of(filter, action, call, COUNT(both), both);
}

static void
rules(struct filter *filter, uint32_t action, const int *calls, size_t count)
{
	for (size_t i = 0; i < count; i++)
		rule(filter, action, calls[i]);
}

static void
begin_filter(struct filter *filter, uint32_t otherwise)
{
	*filter = (struct filter){.context = seccomp_init(otherwise)};
	if (filter->context == NULL) {
		filter->failed = true;
		return;
	}
	/* Calls by another numbering than this program's would pass by the rules. */
	seccomp_attr_set(filter->context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	/* Kernels before 5.16 slow a filtered process down against code that runs within it and is not its own: a
	 * worker has none. */
	seccomp_attr_set(filter->context, SCMP_FLTATR_CTL_SSB, 1);
	seccomp_attr_set(filter->context, SCMP_FLTATR_CTL_TSYNC, 1);
}

static bool
load(struct filter *filter)
{
	bool loaded = !filter->failed && seccomp_load(filter->context) == 0;

	if (filter->context != NULL)
		seccomp_release(filter->context);
	return loaded;
}

/* glibc asks the kernel for its addresses this way, and does well without. */
static void
refuse_netlink(struct filter *filter)
{
	rule_if(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), is(0, AF_NETLINK));
}

/* All but Unix and the Internet. */
static void
forbid_families(struct filter *filter)
{
	for (uint64_t family = 0; family < AF_NETLINK; family++) {
		if (family != AF_UNIX && family != AF_INET && family != AF_INET6)
			rule_if(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(socket), is(0, family));
	}
	rule_if(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(socket),
		(struct scmp_arg_cmp){.arg = 0, .op = SCMP_CMP_GT, .datum_a = AF_NETLINK});
	refuse_netlink(filter);
}

bool
sandbox_calls_forbid(void)
{
	struct filter filter;

	begin_filter(&filter, SCMP_ACT_ALLOW);
	rules(&filter, SCMP_ACT_KILL_PROCESS, forbidden, COUNT(forbidden));
	forbid_families(&filter);
	rule_if(&filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(clone), has(0, CLONE_NEWUSER, CLONE_NEWUSER));
	/* Its flags are in memory, where a filter does not look; without it glibc takes clone. */
	rule(&filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
	return load(&filter);
}

/*
 * By protocol as well: Landlock knows the ports of TCP, not those of the others that take SOCK_STREAM (MPTCP, SCTP,
 * SMC). No Unix datagrams: the journal and systemd listen for those, and a pair of them can be sent from to any path.
 */
static void
allow_sockets(struct filter *filter)
{
	static const struct {
		uint64_t family, type, protocol;
	} sockets[] = {
	    {AF_UNIX, SOCK_STREAM, 0},  {AF_INET, SOCK_STREAM, 0},          {AF_INET, SOCK_STREAM, IPPROTO_TCP},
	    {AF_INET6, SOCK_STREAM, 0}, {AF_INET, SOCK_DGRAM, 0},           {AF_INET6, SOCK_STREAM, IPPROTO_TCP},
	    {AF_INET6, SOCK_DGRAM, 0},  {AF_INET, SOCK_DGRAM, IPPROTO_UDP}, {AF_INET6, SOCK_DGRAM, IPPROTO_UDP},
	};

	for (size_t i = 0; i < COUNT(sockets); i++) {
		const struct scmp_arg_cmp all[] = {is(0, sockets[i].family), has(1, SOCKET_TYPE, sockets[i].type),
						   is(2, sockets[i].protocol)};

		rule_of(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), COUNT(all), all);
	}
	rule_if_both(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketpair), is(0, AF_UNIX), has(1, SOCKET_TYPE, SOCK_STREAM));
	refuse_netlink(filter);
}

/* MSG_FASTOPEN connects to where Landlock does not look. MSG_OOB signals a socket's owner. */
static void
allow_sending(struct filter *filter)
{
	const uint64_t none = MSG_FASTOPEN | MSG_OOB;

	rule_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(sendto), has(3, none, 0));
	rule_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(sendmsg), has(2, none, 0));
	rule_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(sendmmsg), has(3, none, 0));
}

/* Those in use, and no others: some open a way past Landlock (TCP_FASTOPEN_CONNECT), some attach programs, filters and
 * other protocols to a socket. */
static void
allow_socket_options(struct filter *filter)
{
	static const struct {
		uint64_t level, option;
	} options[] = {
	    {SOL_SOCKET, SO_SNDBUF},     {SOL_SOCKET, SO_KEEPALIVE},   {IPPROTO_TCP, TCP_NODELAY},
	    {IPPROTO_TCP, TCP_KEEPIDLE}, {IPPROTO_TCP, TCP_KEEPINTVL}, {IPPROTO_TCP, TCP_KEEPCNT},
	    {IPPROTO_IP, IP_RECVERR},    {IPPROTO_IPV6, IPV6_RECVERR}, /* of glibc's name lookups */
	};

	for (size_t i = 0; i < COUNT(options); i++)
		rule_if_both(filter, SCMP_ACT_ALLOW, SCMP_SYS(setsockopt), is(1, options[i].level),
			     is(2, options[i].option));
}

/* A descriptor's flags. Its owner and its signal (F_SETOWN, F_SETSIG, O_ASYNC) would signal other processes. */
static void
allow_descriptor_flags(struct filter *filter)
{
	static const uint64_t commands[] = {F_GETFD, F_SETFD, F_GETFL};

	if (sandbox_calls_coverage()) { /* it locks what it writes */
		rule(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl));
		return;
	}
	for (size_t i = 0; i < COUNT(commands); i++)
		rule_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), is(1, commands[i]));
	rule_if_both(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), is(1, F_SETFL), has(2, O_ASYNC, 0));
}

/* Threads, no processes. */
static void
allow_threads(struct filter *filter)
{
	rule_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), has(0, CLONE_THREAD, CLONE_THREAD));
	rule_if(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(clone), has(0, CLONE_THREAD, 0));
	rule(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(fork));
	rule(filter, SCMP_ACT_KILL_PROCESS, SCMP_SYS(vfork));
	/* abort(3); no other process is signalled. */
	rule_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), is(0, (uint64_t)getpid()));
}

/* No page is ever both written and run; code comes from files alone (glibc loads what nsswitch.conf names). */
static void
allow_memory(struct filter *filter)
{
	const uint64_t both = PROT_WRITE | PROT_EXEC;

	rule_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), has(2, PROT_EXEC, 0));
	rule_if_both(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), has(2, both, PROT_EXEC), has(3, MAP_ANONYMOUS, 0));
	rule_if_both(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mmap), has(2, both, PROT_EXEC),
		     has(3, MAP_ANONYMOUS, MAP_ANONYMOUS));
	rule_if(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mmap), has(2, both, both));
	rule_if(filter, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), has(2, PROT_EXEC, 0));
	rule_if(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mprotect), has(2, PROT_EXEC, PROT_EXEC));
}

/* To read. A library that tries to write a file is told no and goes on. */
static void
allow_reading(struct filter *filter, int call, unsigned flags)
{
	if (sandbox_calls_coverage()) {
		rule(filter, SCMP_ACT_ALLOW, call);
		return;
	}
	rule_if(filter, SCMP_ACT_ALLOW, call, has(flags, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
	rule_if(filter, SCMP_ACT_ERRNO(EACCES), call, has(flags, O_ACCMODE, O_WRONLY));
	rule_if(filter, SCMP_ACT_ERRNO(EACCES), call, has(flags, O_ACCMODE, O_RDWR));
}

bool
sandbox_calls_restrict(void)
{
	struct filter filter;

	begin_filter(&filter, SCMP_ACT_ERRNO(ENOSYS));
	rules(&filter, SCMP_ACT_ALLOW, needed, COUNT(needed));
	allow_sockets(&filter);
	allow_sending(&filter);
	allow_socket_options(&filter);
	allow_descriptor_flags(&filter);
	allow_threads(&filter);
	allow_memory(&filter);
	allow_reading(&filter, SCMP_SYS(open), 1);
	allow_reading(&filter, SCMP_SYS(openat), 2);
	/* How much there is to read. */
	rule_if(&filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), is(1, FIONREAD));
	/* Its own limits may be read, not set. */
	rule_if_both(&filter, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), is(0, 0), is(2, 0));
	rule(&filter, SCMP_ACT_ALLOW, SCMP_SYS(getrlimit));
	return load(&filter);
}
