//  guard.c -- which addresses an outgoing connection may reach. Asked after name resolution and
//  before connect, so a name that points somewhere else the second time gains nothing.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "guard.h"

static const struct {
    uint32_t net;
    unsigned bits;
} s_denied4 [] = {
    { 0x00000000, 8 },               //  this host
    { 0x0a000000, 8 },               //  private
    { 0x64400000, 10 },              //  carrier-grade NAT
    { 0x7f000000, 8 },               //  loopback
    { 0xa9fe0000, 16 },              //  link-local, cloud metadata
    { 0xac100000, 12 },              //  private
    { 0xc0000000, 24 },              //  protocol assignments
    { 0xc0000200, 24 },              //  documentation
    { 0xc0a80000, 16 },              //  private
    { 0xc6120000, 15 },              //  benchmarks
    { 0xc6336400, 24 },              //  documentation
    { 0xcb007100, 24 },              //  documentation
    { 0xe0000000, 4 },               //  multicast
    { 0xf0000000, 4 } };             //  reserved, broadcast

static bool
s_allowed4 (uint32_t address)
{
    for (size_t n = 0; n < sizeof s_denied4 / sizeof *s_denied4; n++)
        if (((address ^ s_denied4 [n].net) >> (32 - s_denied4 [n].bits)) == 0)
            return false;
    return true;
}

static uint32_t
s_word (const uint8_t *at)
{
    return (uint32_t) at [0] << 24 | (uint32_t) at [1] << 16 | (uint32_t) at [2] << 8 | at [3];
}

static bool
s_allowed6 (const uint8_t *a)
{
    static const uint8_t zeros [12], mapped [12] = { [10] = 0xff, [11] = 0xff };
    static const uint8_t nat64 [12] = { 0x00, 0x64, 0xff, 0x9b };
    //  An IPv4 address in other clothes is judged as such.
    if (memcmp (a, mapped, 12) == 0 || memcmp (a, nat64, 12) == 0)
        return s_allowed4 (s_word (a + 12));
    if (a [0] == 0x20 && a [1] == 0x02)
        return s_allowed4 (s_word (a + 2));
    //  Only global unicast; no unspecified, loopback, compatible, unique local, link-local,
    //  multicast, Teredo.
    return memcmp (a, zeros, 12) != 0 && (a [0] & 0xe0) == 0x20 && s_word (a) != 0x20010000
           && s_word (a) != 0x20010db8;
}

bool
guard_allows (const struct sockaddr *address)
{
    if (address->sa_family == AF_INET)
        return s_allowed4 (ntohl (((const struct sockaddr_in *) address)->sin_addr.s_addr));
    if (address->sa_family == AF_INET6)
        return s_allowed6 (((const struct sockaddr_in6 *) address)->sin6_addr.s6_addr);
    return false;
}

bool
guard_listed (const char *list, const char *host, const char *port)
{
    size_t host_size = strlen (host), port_size = strlen (port);
    for (const char *at = list; at && *at;) {
        size_t size = strcspn (at, ",");
        if (size == host_size + 1 + port_size && strncasecmp (at, host, host_size) == 0
            && at [host_size] == ':' && strncmp (at + host_size + 1, port, port_size) == 0)
            return true;
        at += size + (at [size] == ',');
    }
    return false;
}
