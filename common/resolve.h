/*
 * Host names to addresses without holding up the loop: one lookup per name at a time, shared by all who want it, on
 * glibc's own resolver thread (getaddrinfo_a); answers are kept 60 s, failures 1 s. An older answer is looked up anew,
 * and meanwhile, and where that fails, used up to 10 minutes long: it is never waited for.
 */
#ifndef COMMON_RESOLVE_H
#define COMMON_RESOLVE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESOLVE_MAX 8 /* addresses kept per name */
#define RESOLVE_TEXT INET6_ADDRSTRLEN

struct loop;
struct resolver;

struct resolved {
	size_t count;
	char address[RESOLVE_MAX][RESOLVE_TEXT]; /* numeric, IPv4 first */
};

struct resolver *resolver_open(struct loop *loop);
void resolver_close(struct resolver *resolver);

/* Addresses of `host` (a name, or a numeric address, which needs no lookup). Parks the fiber. False when there are none
 * before `deadline_ms`. */
bool resolve(struct resolver *resolver, const char *host, int64_t deadline_ms, struct resolved *out);

#endif
