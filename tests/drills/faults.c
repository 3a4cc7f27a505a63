/*
 * Preloaded into `integrations serve`: in its workers, and only there, the n-th allocation or the n-th call of one kind
 * fails. What is wanted, and what came of it, is in a file that the test has mapped too (FAULTS_FILE names it;
 * tests/drills/fault_plan.py is the other side, and knows the layout of struct plan).
 *
 * Calls inside of libc are met where libc itself goes through the symbol: for malloc and its kin always (strdup,
 * fopen, getaddrinfo), for system calls not. Under AddressSanitizer the next malloc is the sanitizer's.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define FRAMES 48
#define MODULES 48
#define MODULE_NAME 112
#define TRACE 65536
#define SHORT (-1) /* in place of an errno: less is done than was asked for */

enum kind { ALLOCATION, SOCKET, CONNECT, READ, RECV, WRITE, SEND, WRITEV, ACCEPT, GETRANDOM, OPEN, EPOLL_CTL, KINDS };

enum armed { OFF, COUNT, FAIL };

struct module {
	uint64_t base;
	char name[MODULE_NAME];
};

struct plan {
	uint32_t armed;
	uint32_t kind;
	int32_t error;
	uint32_t all_later; /* not only the n-th, but every one from there on */
	uint64_t n;
	uint64_t seen;
	uint64_t fired;
	uint64_t target; /* the only worker that fails; 0: any, from its first moment on */
	uint64_t worker; /* the last that was started */
	uint64_t starts; /* how many workers there have been */
	int64_t live;    /* blocks that the worker has allocated and not freed */
	uint64_t of_kind[KINDS];
	uint64_t frame_count[2]; /* of the first that failed, and of the last */
	uint64_t frames[2][FRAMES];
	uint64_t module_count;
	struct module modules[MODULES];
	uint64_t trace_count;
	uint64_t trace[TRACE]; /* with COUNT: a hash of the stack of each that was seen */
};

static struct plan *plan;
static uint64_t own_pid; /* of a worker; 0 in its parent */
static __thread bool inside __attribute__((tls_model("initial-exec")));

/* ---- the worker ---- */

static int
note_module(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct module *module = &plan->modules[plan->module_count];
	const char *slash = strrchr(info->dlpi_name, '/');

	(void)size;
	(void)arg;
	if (plan->module_count == MODULES)
		return 1;
	module->base = info->dlpi_addr;
	memset(module->name, 0, sizeof module->name);
	strncpy(module->name, slash != NULL && strlen(info->dlpi_name) >= MODULE_NAME ? slash : info->dlpi_name,
		MODULE_NAME - 1);
	plan->module_count++;
	return 0;
}

static void
worker_begins(void)
{
	if (plan == NULL)
		return;
	plan->module_count = 0;
	dl_iterate_phdr(note_module, NULL);
	plan->live = 0;
	own_pid = (uint64_t)getpid();
	plan->worker = own_pid;
	__atomic_add_fetch(&plan->starts, 1, __ATOMIC_SEQ_CST);
}

__attribute__((constructor)) static void
prepare(void)
{
	const char *path = getenv("FAULTS_FILE");
	int fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *memory = MAP_FAILED;
	void *frames[FRAMES];

	if (fd >= 0) {
		memory = mmap(NULL, sizeof *plan, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		close(fd);
	}
	if (memory == MAP_FAILED)
		return;
	(void)backtrace(frames, FRAMES); /* the first one loads the unwinder, which allocates */
	plan = memory;
	pthread_atfork(NULL, NULL, worker_begins);
}

/* ---- shall it fail? ---- */

static uint64_t
hash(void *const *frames, int count)
{
	uint64_t value = 14695981039346656037u; /* FNV-1a, by words */

	for (int i = 0; i < count; i++)
		value = (value ^ (uint64_t)(uintptr_t)frames[i]) * 1099511628211u;
	return value;
}

static void
note_stack(bool failed)
{
	void *frames[FRAMES];
	int count = backtrace(frames, FRAMES);

	if (failed) {
		for (int which = plan->fired == 0 ? 0 : 1; which < 2; which++) {
			plan->frame_count[which] = (uint64_t)count;
			for (int i = 0; i < count; i++)
				plan->frames[which][i] = (uint64_t)(uintptr_t)frames[i];
		}
	} else if (plan->trace_count < TRACE) {
		plan->trace[plan->trace_count++] = hash(frames, count);
	}
}

static bool
fails(enum kind kind)
{
	uint32_t armed;
	uint64_t number;
	bool failed;

	if (own_pid == 0 || inside)
		return false;
	armed = __atomic_load_n(&plan->armed, __ATOMIC_SEQ_CST);
	if (armed == OFF || (plan->target != 0 && plan->target != own_pid))
		return false;
	__atomic_add_fetch(&plan->of_kind[kind], 1, __ATOMIC_SEQ_CST);
	if (plan->kind != kind)
		return false;
	number = __atomic_add_fetch(&plan->seen, 1, __ATOMIC_SEQ_CST);
	failed = armed == FAIL && (plan->all_later != 0 ? number >= plan->n : number == plan->n);
	if (!failed && armed != COUNT)
		return false;
	inside = true;
	note_stack(failed);
	inside = false;
	if (failed)
		__atomic_add_fetch(&plan->fired, 1, __ATOMIC_SEQ_CST);
	return failed;
}

/* For a call that moves `len` bytes: 0 to go on, SHORT, or an errno. One that is asked for a byte cannot do less. */
static int
fault(enum kind kind, size_t len)
{
	if (own_pid == 0 || (plan->error == SHORT && len < 2))
		return 0;
	return fails(kind) ? plan->error : 0;
}

/* As fault(), for a call that moves nothing. */
static bool
refused(enum kind kind)
{
	if (!fails(kind))
		return false;
	errno = plan->error;
	return true;
}

/* The next function of that name, once. */
#define NEXT(type, name)                                                                                               \
	static type next_##name;                                                                                       \
	if (next_##name == NULL)                                                                                       \
	*(void **)(void *)&next_##name = dlsym(RTLD_NEXT, #name)

/* ---- memory ---- */

static void
count_live(int64_t more)
{
	if (own_pid != 0)
		__atomic_add_fetch(&plan->live, more, __ATOMIC_SEQ_CST);
}

static void *
allocated(void *bytes)
{
	if (bytes != NULL)
		count_live(1);
	return bytes;
}

static bool
is_out_of_memory(void)
{
	if (!fails(ALLOCATION))
		return false;
	errno = ENOMEM;
	return true;
}

typedef void *(*malloc_function)(size_t);
typedef void *(*calloc_function)(size_t, size_t);
typedef void *(*realloc_function)(void *, size_t);
typedef void (*free_function)(void *);
typedef int (*memalign_function)(void **, size_t, size_t);
typedef void *(*mmap_function)(void *, size_t, int, int, int, off_t);

void *
malloc(size_t size)
{
	NEXT(malloc_function, malloc);
	return is_out_of_memory() ? NULL : allocated(next_malloc(size));
}

void *
calloc(size_t count, size_t size)
{
	NEXT(calloc_function, calloc);
	return is_out_of_memory() ? NULL : allocated(next_calloc(count, size));
}

void *
realloc(void *old, size_t size)
{
	NEXT(realloc_function, realloc);
	void *bytes;

	if (is_out_of_memory())
		return NULL;
	bytes = next_realloc(old, size);
	if (old == NULL && bytes != NULL)
		count_live(1);
	if (old != NULL && bytes == NULL && size == 0)
		count_live(-1);
	return bytes;
}

void *
reallocarray(void *old, size_t count, size_t size)
{
	size_t whole;

	if (__builtin_mul_overflow(count, size, &whole)) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(old, whole);
}

int
posix_memalign(void **bytes, size_t alignment, size_t size)
{
	NEXT(memalign_function, posix_memalign);
	int error;

	if (is_out_of_memory())
		return ENOMEM;
	error = next_posix_memalign(bytes, alignment, size);
	if (error == 0)
		count_live(1);
	return error;
}

void *
aligned_alloc(size_t alignment, size_t size)
{
	NEXT(calloc_function, aligned_alloc);
	return is_out_of_memory() ? NULL : allocated(next_aligned_alloc(alignment, size));
}

void
free(void *bytes)
{
	NEXT(free_function, free);
	if (bytes != NULL)
		count_live(-1);
	next_free(bytes);
}

/* Stacks of fibers; what maps a file is no allocation. */
void *
mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
	NEXT(mmap_function, mmap);
	if ((flags & MAP_ANONYMOUS) != 0 && is_out_of_memory())
		return MAP_FAILED;
	return next_mmap(address, size, protection, flags, fd, offset);
}

/* ---- system calls ---- */

typedef int (*socket_function)(int, int, int);
typedef int (*connect_function)(int, const struct sockaddr *, socklen_t);
typedef ssize_t (*read_function)(int, void *, size_t);
typedef ssize_t (*recv_function)(int, void *, size_t, int);
typedef ssize_t (*write_function)(int, const void *, size_t);
typedef ssize_t (*send_function)(int, const void *, size_t, int);
typedef ssize_t (*writev_function)(int, const struct iovec *, int);
typedef int (*accept_function)(int, struct sockaddr *, socklen_t *, int);
typedef int (*getentropy_function)(void *, size_t);
typedef ssize_t (*getrandom_function)(void *, size_t, unsigned);
typedef int (*open_function)(const char *, int, mode_t);
typedef int (*openat_function)(int, const char *, int, mode_t);
typedef int (*epoll_function)(int, int, int, struct epoll_event *);

/* Sets *len to what may be moved; true when nothing may. */
static bool
blocked(enum kind kind, size_t *len)
{
	int error = fault(kind, *len);

	if (error == SHORT)
		*len = (*len + 1) / 2;
	if (error <= 0)
		return false;
	errno = error;
	return true;
}

int
socket(int domain, int type, int protocol)
{
	NEXT(socket_function, socket);
	return refused(SOCKET) ? -1 : next_socket(domain, type, protocol);
}

int
connect(int fd, const struct sockaddr *address, socklen_t len)
{
	NEXT(connect_function, connect);
	return refused(CONNECT) ? -1 : next_connect(fd, address, len);
}

ssize_t
read(int fd, void *bytes, size_t len)
{
	NEXT(read_function, read);
	return blocked(READ, &len) ? -1 : next_read(fd, bytes, len);
}

ssize_t __read_chk(int fd, void *bytes, size_t len, size_t size);

ssize_t
__read_chk(int fd, void *bytes, size_t len, size_t size)
{
	if (len > size)
		abort();
	return read(fd, bytes, len);
}

ssize_t
recv(int fd, void *bytes, size_t len, int flags)
{
	NEXT(recv_function, recv);
	return blocked(RECV, &len) ? -1 : next_recv(fd, bytes, len, flags);
}

ssize_t __recv_chk(int fd, void *bytes, size_t len, size_t size, int flags);

ssize_t
__recv_chk(int fd, void *bytes, size_t len, size_t size, int flags)
{
	if (len > size)
		abort();
	return recv(fd, bytes, len, flags);
}

ssize_t
write(int fd, const void *bytes, size_t len)
{
	NEXT(write_function, write);
	return blocked(WRITE, &len) ? -1 : next_write(fd, bytes, len);
}

ssize_t
send(int fd, const void *bytes, size_t len, int flags)
{
	NEXT(send_function, send);
	return blocked(SEND, &len) ? -1 : next_send(fd, bytes, len, flags);
}

ssize_t
writev(int fd, const struct iovec *parts, int count)
{
	NEXT(writev_function, writev);
	size_t len = 0;
	size_t wanted;

	for (int i = 0; i < count; i++)
		len += parts[i].iov_len;
	wanted = len;
	if (blocked(WRITEV, &len))
		return -1;
	return len == wanted ? next_writev(fd, parts, count) : next_writev(fd, parts, 1);
}

int
accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
	NEXT(accept_function, accept4);
	return refused(ACCEPT) ? -1 : next_accept4(fd, address, len, flags);
}

ssize_t
getrandom(void *bytes, size_t len, unsigned flags)
{
	NEXT(getrandom_function, getrandom);
	return blocked(GETRANDOM, &len) ? -1 : next_getrandom(bytes, len, flags);
}

/* What OpenSSL asks; it gives all or nothing. */
int
getentropy(void *bytes, size_t len)
{
	NEXT(getentropy_function, getentropy);
	return refused(GETRANDOM) ? -1 : next_getentropy(bytes, len);
}

static mode_t
mode_of(int flags, va_list list)
{
	return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(list, mode_t) : 0;
}

int
open(const char *path, int flags, ...)
{
	NEXT(open_function, open);
	mode_t mode;
	va_list list;

	va_start(list, flags);
	mode = mode_of(flags, list);
	va_end(list);
	return refused(OPEN) ? -1 : next_open(path, flags, mode);
}

int
openat(int directory, const char *path, int flags, ...)
{
	NEXT(openat_function, openat);
	mode_t mode;
	va_list list;

	va_start(list, flags);
	mode = mode_of(flags, list);
	va_end(list);
	return refused(OPEN) ? -1 : next_openat(directory, path, flags, mode);
}

int
epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	NEXT(epoll_function, epoll_ctl);
	return refused(EPOLL_CTL) ? -1 : next_epoll_ctl(epoll, operation, fd, event);
}
