/*
 * Order: limits of the process, then files and ports (Landlock), then system calls (seccomp), which take away the means
 * to undo or to repeat any of it.
 *
 * Not where a tool is at work in the process: AddressSanitizer looks for leaks with ptrace and starts a program that
 * names functions, valgrind makes calls of its own. A build that counts coverage writes files, and may.
 */
#include "fcgi/sandbox.h"

#include "common/arena.h"
#include "common/buf.h"
#include "common/http.h"
#include "common/landlock.h"
#include "common/log.h"
#include "common/redis.h"
#include "common/url.h"
#include "fcgi/config.h"
#include "fcgi/provider.h"
#include "fcgi/sandbox_calls.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define HAS_SANITIZER true
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_SANITIZER true
#endif
#endif
#ifndef HAS_SANITIZER
#define HAS_SANITIZER false
#endif

#define DNS_PORT 53    /* by TCP, when an answer is long */
#define PORTS_MAX 1040 /* four for each of 256 providers, and three more */

/* What glibc reads for names and times, every time or when it changed. Each is a rule of its own: /etc has more. */
static const char *const system_files[] = {"/etc/resolv.conf",   "/etc/hosts",       "/etc/host.conf", "/etc/gai.conf",
					   "/etc/nsswitch.conf", "/etc/ld.so.cache", "/etc/localtime"};

/* Where the libraries are that nsswitch.conf names. */
static const char *const library_directories[] = {"/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local/lib"};

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static bool
is_watched_by_a_tool(void)
{
	return HAS_SANITIZER || RUNNING_ON_VALGRIND != 0;
}

void
sandbox_parent(void)
{
	struct rlimit none = {0};

	/* Neither core files nor another process of the same user get to see the secrets in memory. */
	prctl(PR_SET_DUMPABLE, 0);
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (!is_watched_by_a_tool() && !sandbox_calls_forbid())
		log_message(LOG_LEVEL_WARN, "sandbox", "the kernel filters no system calls",
			    "use a kernel with seccomp, or let the container's profile allow it");
}

/* ---- files ---- */

static const char *
ca_file(const struct config *config)
{
	return config->provider_ca_file != NULL ? config->provider_ca_file : HTTP_SYSTEM_CA_FILE;
}

static uint64_t
identity(const char *path)
{
	struct stat status;

	if (stat(path, &status) != 0)
		return 0;
	return (uint64_t)status.st_dev * 31 + (uint64_t)status.st_ino;
}

uint64_t
sandbox_files(const struct config *config)
{
	uint64_t all = identity(ca_file(config));

	for (size_t i = 0; i < COUNT(system_files); i++)
		all = all * 1000003 + identity(system_files[i]);
	return all;
}

/*
 * The key ring by its directory: a worker may have to read the new ring in the moment that it is there, and an operator
 * who writes files well puts a new one in the place of the old.
 */
static void
may_read_beside(struct landlock *landlock, const char *path)
{
	const char *slash = strrchr(path, '/');
	char directory[PATH_MAX];
	size_t len = slash != NULL ? (size_t)(slash - path) : 0;

	if (len == 0 ||
	    len >= sizeof directory) { /* in the root or in the working directory: all of it would be too much */
		landlock_may_read(landlock, path);
		return;
	}
	memcpy(directory, path, len);
	directory[len] = '\0';
	landlock_may_read(landlock, directory);
}

static void
allow_files(struct landlock *landlock, const struct config *config)
{
	for (size_t i = 0; i < COUNT(system_files); i++)
		landlock_may_read(landlock, system_files[i]);
	for (size_t i = 0; i < COUNT(library_directories); i++)
		landlock_may_read(landlock, library_directories[i]);
	landlock_may_read(landlock, ca_file(config));
	if (config->keys_file != NULL)
		may_read_beside(landlock, config->keys_file->path);
}

/* ---- ports ---- */

struct ports {
	unsigned port[PORTS_MAX];
	size_t count;
};

static void
add_port(struct ports *ports, unsigned port)
{
	for (size_t i = 0; i < ports->count; i++) {
		if (ports->port[i] == port)
			return;
	}
	if (port != 0 && ports->count < PORTS_MAX)
		ports->port[ports->count++] = port;
}

static void
add_port_of(struct ports *ports, struct arena *arena, const char *address)
{
	struct url url;

	if (address != NULL && url_parse(arena, address, &url))
		add_port(ports, url.port);
}

/* The member's browser goes to the authorization endpoint, nginx to the MCPs. */
static void
find_ports(struct ports *ports, const struct config *config)
{
	ports->count = 0;
	add_port(ports, redis_url_port(config->redis_url));
	add_port(ports, redis_url_port(config->session_redis_url));
	add_port(ports, DNS_PORT);
	for (size_t i = 0; i < config->provider_count; i++) {
		const struct provider *provider = config->providers[i];

		add_port_of(ports, config->arena, provider->token_endpoint);
		add_port_of(ports, config->arena, provider->revocation_endpoint);
		add_port_of(ports, config->arena, provider->userinfo_endpoint);
		add_port_of(ports, config->arena, provider->jwks_uri);
	}
}

/* ---- a worker ---- */

static void
log_restrictions(const struct landlock *landlock, const struct ports *ports, bool filtered)
{
	bool whole = filtered && landlock->abi > 0;
	struct log_line line;
	char text[128] = "";
	size_t used = 0;

	for (size_t i = 0; i < ports->count && used < sizeof text; i++)
		used += (size_t)snprintf(text + used, sizeof text - used, "%s%u", i > 0 ? " " : "", ports->port[i]);
	log_begin(&line, whole ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "sandbox");
	log_text(&line, "seccomp", filtered ? "yes" : "no");
	log_number(&line, "landlock", landlock->abi);
	log_text(&line, "tcp_ports", landlock->abi >= LANDLOCK_ABI_PORTS ? text : "any");
	if (!whole)
		log_text(
		    &line, "action",
		    "the service works with less protection: use a kernel that has seccomp and Landlock, and let the "
		    "container's profile allow them");
	log_end(&line);
}

void
sandbox_worker(const struct config *config)
{
	struct landlock landlock;
	struct ports ports;

	if (is_watched_by_a_tool()) {
		log_message(LOG_LEVEL_INFO, "sandbox", "off, for the tool that watches this process", NULL);
		return;
	}
	find_ports(&ports, config);
	if (landlock_begin(&landlock)) {
		allow_files(&landlock, config);
		for (size_t i = 0; i < ports.count; i++)
			landlock_may_connect(&landlock, ports.port[i]);
		if (!sandbox_calls_coverage())
			(void)landlock_enter(&landlock);
	}
	log_restrictions(&landlock, &ports, sandbox_calls_restrict());
}
