/* address.c - reads addresses and networks, and says which are the same. */
#include "address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 128 /* longer ones are no addresses */

/* The whole address, none of it forgotten. */
static uint8_t read_bytes(const char *text, uint8_t bytes[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    memset(bytes, 0, 16);
    if (inet_pton(AF_INET, text, bytes) == 1) {
        return 4;
    }
    if (inet_pton(AF_INET6, text, bytes) != 1) {
        return 0;
    }
    if (memcmp(bytes, mapped, sizeof(mapped)) == 0) { /* a dual-stack listener says it so */
        memmove(bytes, bytes + 12, 4);
        memset(bytes + 4, 0, 12);
        return 4;
    }
    return 6;
}

bool hlt_address_parse(struct hlt_address *out, const char *text)
{
    char copy[TEXT_MAX];

    *out = (struct hlt_address){0};
    if (text == NULL || strlen(text) >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text, strlen(text) + 1);
    copy[strcspn(copy, "%")] = '\0'; /* the interface of a link-local address */
    out->family = read_bytes(copy, out->bytes);
    if (out->family == 6) {
        memset(out->bytes + 8, 0, 8);
    }
    return out->family != 0;
}

bool hlt_address_same(const struct hlt_address *a, const struct hlt_address *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

void hlt_address_format(const struct hlt_address *address, char out[HLT_ADDRESS_TEXT])
{
    char text[INET6_ADDRSTRLEN] = "";

    if (address->family != 0) {
        (void)inet_ntop(address->family == 4 ? AF_INET : AF_INET6, address->bytes, text,
                        sizeof(text));
    }
    (void)snprintf(out, HLT_ADDRESS_TEXT, "%s%s", text, address->family == 6 ? "/64" : "");
}

static bool bits_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    return memcmp(a, b, whole) == 0 &&
           (rest == 0 || ((a[whole] ^ b[whole]) & (0xff00u >> rest & 0xffu)) == 0);
}

bool hlt_network_parse(struct hlt_network *out, const char *text)
{
    char copy[TEXT_MAX];
    uint8_t cleared[16] = {0};
    char *end = NULL;

    *out = (struct hlt_network){0};
    if (text == NULL || strlen(text) >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text, strlen(text) + 1);
    char *slash = strchr(copy, '/');
    if (slash != NULL) {
        *slash++ = '\0';
    }
    out->family = read_bytes(copy, out->bytes);
    if (out->family == 0 || (out->family == 4 && slash != NULL && strchr(copy, ':') != NULL)) {
        return false; /* ::ffff:10.0.0.0/104: which bits are meant? */
    }
    unsigned long most = out->family == 4 ? 32 : 128;
    unsigned long prefix = most;
    if (slash != NULL) {
        prefix = strtoul(slash, &end, 10);
        if (*slash < '0' || *slash > '9' || *end != '\0' || prefix > most) {
            return false;
        }
    }
    out->prefix = (uint8_t)prefix;
    for (unsigned bit = 0; bit < prefix; bit++) {
        cleared[bit / 8] = (uint8_t)(cleared[bit / 8] | (out->bytes[bit / 8] & (0x80u >> bit % 8)));
    }
    return memcmp(cleared, out->bytes, sizeof(cleared)) == 0;
}

bool hlt_network_holds(const struct hlt_network *network, const struct hlt_address *address)
{
    unsigned bits = network->prefix;

    if (network->family == 6 && bits > 64) {
        bits = 64;
    }
    return address->family != 0 && network->family == address->family &&
           bits_equal(network->bytes, address->bytes, bits);
}
