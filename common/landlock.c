/*
 * By raw system calls, which glibc does not wrap. The rights of newer kernels are not in the headers of older ones, so
 * their bits are named here; each version of the kernel refuses bits that it does not know, so only those that it has
 * are asked for.
 */
#include "common/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RULE_PORT 2                     /* from version 4 on */
#define FILES_FIRST ((1ULL << 13) - 1)  /* version 1: from execute to make_sym */
#define FILES_REFER (1ULL << 13)        /* 2 */
#define FILES_TRUNCATE (1ULL << 14)     /* 3 */
#define FILES_IOCTL_DEVICE (1ULL << 15) /* 5 */
#define PORTS_BIND (1ULL << 0)          /* 4 */
#define PORTS_CONNECT (1ULL << 1)       /* 4 */
#define SCOPE_ABSTRACT (1ULL << 0)      /* 6: unix sockets without a file, of processes outside */
#define SCOPE_SIGNAL (1ULL << 1)        /* 6: signals to processes outside */

/* The kernel's struct landlock_ruleset_attr, which grew with the versions. */
struct ruleset {
	uint64_t files;
	uint64_t ports;
	uint64_t scopes;
};

/* The kernel's struct landlock_net_port_attr. */
struct port_rule {
	uint64_t access;
	uint64_t port;
};

/* Everything that this version can restrict; how much of the struct it knows. */
static size_t
restrict_all(int abi, struct ruleset *ruleset)
{
	*ruleset = (struct ruleset){.files = FILES_FIRST};
	if (abi >= 2)
		ruleset->files |= FILES_REFER;
	if (abi >= 3)
		ruleset->files |= FILES_TRUNCATE;
	if (abi >= 5)
		ruleset->files |= FILES_IOCTL_DEVICE;
	if (abi < LANDLOCK_ABI_PORTS)
		return offsetof(struct ruleset, ports);
	ruleset->ports = PORTS_BIND | PORTS_CONNECT;
	if (abi < 6)
		return offsetof(struct ruleset, scopes);
	ruleset->scopes = SCOPE_ABSTRACT | SCOPE_SIGNAL;
	return sizeof *ruleset;
}

bool
landlock_begin(struct landlock *landlock)
{
	struct ruleset ruleset;
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	size_t size;

	*landlock = (struct landlock){.rules = -1};
	if (abi <= 0)
		return false;
	size = restrict_all((int)abi, &ruleset);
	landlock->rules = (int)syscall(SYS_landlock_create_ruleset, &ruleset, size, 0);
	landlock->abi = landlock->rules >= 0 ? (int)abi : 0;
	return landlock->abi > 0;
}

void
landlock_may_read(struct landlock *landlock, const char *path)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE};

	if (landlock->rules < 0)
		return;
	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return;
	(void)syscall(SYS_landlock_add_rule, landlock->rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(rule.parent_fd);
}

void
landlock_may_connect(struct landlock *landlock, unsigned port)
{
	struct port_rule rule = {.access = PORTS_CONNECT, .port = port};

	if (landlock->abi >= LANDLOCK_ABI_PORTS)
		(void)syscall(SYS_landlock_add_rule, landlock->rules, RULE_PORT, &rule, 0);
}

bool
landlock_enter(struct landlock *landlock)
{
	bool entered;

	if (landlock->rules < 0)
		return false;
	entered =
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_landlock_restrict_self, landlock->rules, 0) == 0;
	close(landlock->rules);
	landlock->rules = -1;
	if (!entered)
		landlock->abi = 0;
	return entered;
}
