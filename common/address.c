/* The special-purpose registries of IANA (RFC 6890), as far as they name what is not globally reachable. */
#include "common/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct network {
	uint32_t address;
	unsigned bits;
};

static const struct network private_networks[] = {
    {0x00000000, 8},  /* this network */
    {0x0a000000, 8},  /* private */
    {0x64400000, 10}, /* shared by carriers */
    {0x7f000000, 8},  /* loopback */
    {0xa9fe0000, 16}, /* link-local, where clouds keep their metadata */
    {0xac100000, 12}, /* private */
    {0xc0000000, 24}, /* protocol assignments */
    {0xc0000200, 24}, /* documentation */
    {0xc0a80000, 16}, /* private */
    {0xc6120000, 15}, /* benchmarks */
    {0xc6336400, 24}, /* documentation */
    {0xcb007100, 24}, /* documentation */
    {0xe0000000, 3},  /* multicast and reserved */
};

static bool
is_private_v4(uint32_t address)
{
	for (size_t i = 0; i < sizeof private_networks / sizeof private_networks[0]; i++) {
		const struct network *network = &private_networks[i];

		if (address >> (32 - network->bits) == network->address >> (32 - network->bits))
			return true;
	}
	return false;
}

/* Whole, whatever IPv4 address is inside: where it leads is a relay's or a local translator's to say. */
static const struct {
	uint8_t prefix[16];
	unsigned bits;
} private_networks_v6[] = {
    {{0x00, 0x64, 0xff, 0x9b, 0x00, 0x01}, 48}, /* NAT64 of one network's own */
    {{0x01, 0x00}, 63},                         /* discarded, and one that stands for no host */
    {{0x20, 0x01, 0x00, 0x00}, 32},             /* Teredo */
    {{0x20, 0x01, 0x0d, 0xb8}, 32},             /* documentation */
    {{0x3f, 0xff, 0x00}, 20},                   /* documentation */
    {{0xfc}, 7},                                /* unique local */
    {{0xfe, 0x80}, 9},                          /* link-local and site-local */
    {{0xff}, 8},                                /* multicast */
};

static bool
begins_with(const uint8_t *address, const uint8_t *prefix, size_t len)
{
	return memcmp(address, prefix, len) == 0;
}

static bool
is_private_v6(const uint8_t address[16])
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	static const uint8_t translated[12] = {0, 0x64, 0xff, 0x9b}; /* NAT64 */
	static const uint8_t zero[12] = {0};                         /* unspecified, loopback, IPv4-compatible */
	uint32_t v4;

	memcpy(&v4, address + 12, sizeof v4);
	if (begins_with(address, mapped, 12) || begins_with(address, translated, 12))
		return is_private_v4(ntohl(v4));
	if (address[0] == 0x20 && address[1] == 0x02) { /* 6to4 */
		memcpy(&v4, address + 2, sizeof v4);
		return is_private_v4(ntohl(v4));
	}
	if (begins_with(address, zero, 12))
		return true;
	for (size_t i = 0; i < sizeof private_networks_v6 / sizeof private_networks_v6[0]; i++) {
		size_t bytes = private_networks_v6[i].bits / 8;
		unsigned rest = 8 - private_networks_v6[i].bits % 8; /* bits of the next byte that may differ */

		if (begins_with(address, private_networks_v6[i].prefix, bytes) &&
		    address[bytes] >> rest == private_networks_v6[i].prefix[bytes] >> rest)
			return true;
	}
	return false;
}

bool
address_is_private(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return is_private_v4(ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr));
	if (address->sa_family == AF_INET6)
		return is_private_v6(((const struct sockaddr_in6 *)(const void *)address)->sin6_addr.s6_addr);
	return true;
}
