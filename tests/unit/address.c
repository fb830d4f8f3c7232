/* address.c - which addresses are the same client, and which networks hold them. */
#include <criterion/criterion.h>
#include <string.h>

#include "../../shared/address.h"

static const char *shown(const char *text)
{
    static char out[HLT_ADDRESS_TEXT];
    struct hlt_address address;

    return hlt_address_parse(&address, text) ? (hlt_address_format(&address, out), out) : "no";
}

Test(address, is_read_as_brokers_write_it)
{
    cr_expect_str_eq(shown("192.0.2.7"), "192.0.2.7");
    cr_expect_str_eq(shown("::ffff:192.0.2.7"), "192.0.2.7");
    cr_expect_str_eq(shown("2001:db8:0:1:aaaa:bbbb:cccc:dddd"), "2001:db8:0:1::/64");
    cr_expect_str_eq(shown("fe80::1%eth0"), "fe80::/64");
    cr_expect_str_eq(shown("::1"), "::/64");
}

Test(address, anything_else_is_none)
{
    static const char *const bad[] = {"",         "localhost", "192.0.2", "192.0.2.7.1",
                                      "/run/mq",  "1.2.3.4 ",  "::g",     "192.0.2.256",
                                      "012.0.2.7"};
    char long_text[300];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_expect_str_eq(shown(bad[i]), "no", "%s", bad[i]);
    }
    memset(long_text, '1', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    cr_expect_str_eq(shown(long_text), "no");
    cr_expect_str_eq(shown(NULL), "no");
}

Test(address, ipv6_hosts_of_one_network_are_one)
{
    struct hlt_address a, b, c, d;

    hlt_address_parse(&a, "2001:db8::1");
    hlt_address_parse(&b, "2001:db8::ffff:1");
    hlt_address_parse(&c, "2001:db8:0:1::1");
    hlt_address_parse(&d, "32.1.13.184");
    cr_expect(hlt_address_same(&a, &b));
    cr_expect(!hlt_address_same(&a, &c));
    cr_expect(!hlt_address_same(&a, &d), "the same first bytes of the other family");
}

static bool holds(const char *network, const char *address)
{
    struct hlt_network net;
    struct hlt_address one;

    cr_assert(hlt_network_parse(&net, network), "%s", network);
    hlt_address_parse(&one, address);
    return hlt_network_holds(&net, &one);
}

Test(address, a_network_holds_its_own_and_no_others)
{
    cr_expect(holds("10.0.0.0/8", "10.255.255.255"));
    cr_expect(!holds("10.0.0.0/8", "11.0.0.0"));
    cr_expect(holds("192.0.2.128/25", "192.0.2.128"));
    cr_expect(!holds("192.0.2.128/25", "192.0.2.127"));
    cr_expect(holds("192.0.2.7", "192.0.2.7"));
    cr_expect(!holds("192.0.2.7", "192.0.2.6"));
    cr_expect(holds("0.0.0.0/0", "203.0.113.9"));
    cr_expect(!holds("0.0.0.0/0", "2001:db8::1"));
    cr_expect(holds("2001:db8::/32", "2001:db8:ffff::1"));
    cr_expect(!holds("2001:db8::/32", "2001:db9::1"));
    cr_expect(holds("2001:db8::5", "2001:db8::9"), "all of a /64 counts as one client");
    cr_expect(holds("10.0.0.0/8", "::ffff:10.1.2.3"));
    cr_expect(!holds("0.0.0.0/0", "localhost"));
}

Test(address, a_network_with_a_mistake_in_it_is_refused)
{
    static const char *const bad[] = {"10.0.0.1/8",
                                      "10.0.0.0/33",
                                      "10.0.0.0/",
                                      "10.0.0.0/-1",
                                      "10.0.0.0/8x",
                                      "2001:db8::/129",
                                      "/8",
                                      "2001:db8::1/64",
                                      "",
                                      "::ffff:10.0.0.0/104",
                                      "host",
                                      "10.0.0.0/ 8"};
    struct hlt_network network;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_expect(!hlt_network_parse(&network, bad[i]), "%s", bad[i]);
    }
    cr_expect(!hlt_network_parse(&network, NULL));
}
