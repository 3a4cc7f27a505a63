/* Every network that is not public, at both of its ends, and the public address beside each end. */
#include "common/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

struct row {
	const char *address;
	bool is_private;
};

static const struct row rows[] = {
    {"0.0.0.0", true},
    {"0.255.255.255", true},
    {"1.0.0.0", false},
    {"9.255.255.255", false},
    {"10.0.0.0", true},
    {"10.255.255.255", true},
    {"11.0.0.0", false},
    {"100.63.255.255", false},
    {"100.64.0.0", true},
    {"100.127.255.255", true},
    {"100.128.0.0", false},
    {"126.255.255.255", false},
    {"127.0.0.1", true},
    {"127.255.255.255", true},
    {"128.0.0.0", false},
    {"169.253.255.255", false},
    {"169.254.169.254", true},
    {"169.255.0.0", false},
    {"172.15.255.255", false},
    {"172.16.0.0", true},
    {"172.31.255.255", true},
    {"172.32.0.0", false},
    {"192.0.0.1", true},
    {"192.0.1.0", false},
    {"192.0.2.1", true},
    {"192.167.255.255", false},
    {"192.168.0.0", true},
    {"192.168.255.255", true},
    {"192.169.0.0", false},
    {"198.17.255.255", false},
    {"198.18.0.0", true},
    {"198.19.255.255", true},
    {"198.20.0.0", false},
    {"198.51.100.1", true},
    {"203.0.113.1", true},
    {"203.0.114.0", false},
    {"223.255.255.255", false},
    {"224.0.0.0", true},
    {"255.255.255.255", true},
    {"142.250.74.110", false},
    {"::", true},
    {"::1", true},
    {"::127.0.0.1", true},
    {"::ffff:127.0.0.1", true},
    {"::ffff:10.0.0.1", true},
    {"::ffff:142.250.74.110", false},
    {"64:ff9b::127.0.0.1", true},
    {"64:ff9b::142.250.74.110", false},
    {"2002:7f00:1::", true},
    {"2002:8efa:4a6e::", false},
    {"64:ff9b:0:ffff:ffff:ffff:ffff:ffff", false},
    {"64:ff9b:1::", true},
    {"64:ff9b:1:ffff:ffff:ffff:8efa:4a6e", true},
    {"64:ff9b:2::", false},
    {"ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
    {"100::", true},
    {"100:0:0:1:ffff:ffff:ffff:ffff", true},
    {"100:0:0:2::", false},
    {"2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
    {"2001::", true},
    {"2001:0:ffff:ffff:ffff:ffff:ffff:ffff", true},
    {"2001:1::", false},
    {"2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", false},
    {"2001:db8::", true},
    {"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true},
    {"2001:db9::", false},
    {"3ffe:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
    {"3fff::", true},
    {"3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff", true},
    {"3fff:1000::", false},
    {"fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
    {"fc00::1", true},
    {"fdff:ffff::1", true},
    {"fe00::", false},
    {"fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
    {"fe80::1", true},
    {"febf::1", true},
    {"fec0::1", true},
    {"ff02::1", true},
    {"2a00:1450:4001:80b::200e", false},
};

static void
parse(const char *text, struct sockaddr_storage *out)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)out;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof *out);
	if (strchr(text, ':') == NULL) {
		v4->sin_family = AF_INET;
		assert_int_equal(inet_pton(AF_INET, text, &v4->sin_addr), 1);
	} else {
		v6->sin6_family = AF_INET6;
		assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
	}
}

static void
test_addresses(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct sockaddr_storage address;

		parse(rows[i].address, &address);
		if (address_is_private((const struct sockaddr *)&address) != rows[i].is_private)
			fail_msg("%s is judged wrongly", rows[i].address);
	}
}

static void
test_other_families(void **state)
{
	const struct sockaddr local = {.sa_family = AF_UNIX};

	(void)state;
	assert_true(address_is_private(&local));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_other_families),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
