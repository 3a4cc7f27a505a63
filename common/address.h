/* Which network addresses belong to no public host: what a server must not be talked into calling (SSRF). */
#ifndef COMMON_ADDRESS_H
#define COMMON_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/*
 * True for an address that is not a public one: loopback, private, link-local, shared, unspecified, multicast,
 * reserved, for documentation and tests; an IPv6 address that stands for an IPv4 one is judged as that. Also true for
 * every family but IPv4 and IPv6.
 */
bool address_is_private(const struct sockaddr *address);

#endif
