//  test_guard.c -- addresses that outgoing connections may reach.

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "actors/kit/guard.h"

static bool
s_allows (const char *address)
{
    struct sockaddr_in four = { .sin_family = AF_INET };
    struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
    if (inet_pton (AF_INET, address, &four.sin_addr) == 1)
        return guard_allows ((struct sockaddr *) &four);
    assert_int_equal (inet_pton (AF_INET6, address, &six.sin6_addr), 1);
    return guard_allows ((struct sockaddr *) &six);
}

static void
test_only_public_addresses_are_reached (void **state)
{
    static const char *const denied [] = {
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1",
        "127.255.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.8",
        "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.255.255.250", "255.255.255.255", "::",
        "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1",
        "2002:7f00:1::", "2002:a9fe:a9fe::", "fc00::1", "fd00:ec2::254", "fe80::1", "fec0::1",
        "ff02::1", "2001::1", "2001:db8::1" };
    static const char *const allowed [] = {
        "1.1.1.1",         "9.255.255.255", "11.0.0.0",        "100.63.255.255",  "100.128.0.0",
        "126.255.255.255", "128.0.0.1",     "169.253.255.255", "172.15.255.255",  "172.32.0.0",
        "192.167.255.255", "192.169.0.0",   "198.17.255.255",  "198.20.0.0",      "223.255.255.255",
        "2606:4700::1111", "2a00:1450::1",  "::ffff:1.1.1.1",  "64:ff9b::101:101" };
    (void) state;
    for (size_t n = 0; n < sizeof denied / sizeof *denied; n++)
        assert_false (s_allows (denied [n]));
    for (size_t n = 0; n < sizeof allowed / sizeof *allowed; n++)
        assert_true (s_allows (allowed [n]));
    struct sockaddr local = { .sa_family = AF_UNIX };
    assert_false (guard_allows (&local));
}

static void
test_the_list_names_host_and_port_exactly (void **state)
{
    (void) state;
    const char *list = "localhost:4566,S3.local:9000";
    assert_true (guard_listed (list, "localhost", "4566"));
    assert_true (guard_listed (list, "s3.local", "9000"));
    assert_false (guard_listed (list, "localhost", "9000"));
    assert_false (guard_listed (list, "localhos", "4566"));
    assert_false (guard_listed (list, "host", "4566"));
    assert_false (guard_listed (list, "s3.local", "900"));
    assert_false (guard_listed ("", "localhost", "80"));
    assert_false (guard_listed (NULL, "localhost", "80"));
}

int
main (void)
{
    const struct CMUnitTest tests [] = {
        cmocka_unit_test (test_only_public_addresses_are_reached),
        cmocka_unit_test (test_the_list_names_host_and_port_exactly) };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
