/* address.h - who a connection comes from, as far as limits and bans care: an IPv4 address, or the
 * /64 network of an IPv6 one (a host picks the rest of it freely). */
#ifndef HLT_ADDRESS_H
#define HLT_ADDRESS_H

#include "base.h"

#define HLT_ADDRESS_TEXT 64 /* bytes of any text below, with its NUL */

struct hlt_address {
    uint8_t family; /* 4, 6; 0: unknown (a local socket, a name) */
    uint8_t bytes[16];
};

/* Read "192.0.2.7", "2001:db8::1", "::ffff:192.0.2.7" (that is IPv4), "fe80::1%eth0"; the lower
 * half of an IPv6 address becomes 0. False, and family 0: none of these, or NULL. */
bool hlt_address_parse(struct hlt_address *out, const char *text);
bool hlt_address_same(const struct hlt_address *a, const struct hlt_address *b);
/* "192.0.2.7" or "2001:db8:0:1::/64"; "" for family 0. */
void hlt_address_format(const struct hlt_address *address, char out[HLT_ADDRESS_TEXT]);

/* "192.0.2.7", "10.0.0.0/8", "2001:db8::/32". */
struct hlt_network {
    uint8_t family, prefix; /* bits that count */
    uint8_t bytes[16];
};
/* False: not an address or network, or bits are set behind the prefix (a typing mistake). */
bool hlt_network_parse(struct hlt_network *out, const char *text);
/* An IPv6 network longer than /64 holds the whole /64: that is all an hlt_address knows. */
bool hlt_network_holds(const struct hlt_network *network, const struct hlt_address *address);

#endif
