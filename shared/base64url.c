/* base64url.c - strict base64url in both directions (RFC 4648 section 5, RFC 7515 section 2). */
#include "base64url.h"

#include <stdint.h>

/* By table. */
static const uint8_t digit_of[256] = {
    ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,
    ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16,
    ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24,
    ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32,
    ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40,
    ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48,
    ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
    ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['-'] = 63, ['_'] = 64,
};

/* The table holds the digit plus one, so that everything unnamed is 0 and comes out as 255: no
 * digit, and told from one by bits that none has. */
static unsigned digit(char c)
{
    return (uint8_t)(digit_of[(unsigned char)c] - 1u);
}

bool hlt_base64url_shaped(const char *text, size_t len)
{
    unsigned all = 0;

    for (size_t i = 0; i < len; i++) {
        all |= digit(text[i]);
    }
    return all <= 63 && len > 0 && len % 4 != 1;
}

/* The last two or three characters; the bits they carry beyond whole bytes must be zero. */
static bool decode_tail(uint8_t *out, const char *text, size_t len)
{
    unsigned a = digit(text[0]), b = digit(text[1]), c = len == 3 ? digit(text[2]) : 0;

    if ((a | b | c) > 63) {
        return false;
    }
    out[0] = (uint8_t)(a << 2 | b >> 4);
    if (len == 2) {
        return (b & 0xFU) == 0;
    }
    out[1] = (uint8_t)((b & 0xFU) << 4 | c >> 2);
    return (c & 0x3U) == 0;
}

size_t hlt_base64url_decode(void *out, size_t out_bytes, const char *text, size_t len)
{
    uint8_t *bytes = out;
    size_t tail = len % 4;
    size_t used = 0, i = 0;

    if (tail == 1 || HLT_BASE64URL_DATA(len) > out_bytes) {
        return SIZE_MAX;
    }
    for (; i + 4 <= len; i += 4) {
        unsigned a = digit(text[i]), b = digit(text[i + 1]);
        unsigned c = digit(text[i + 2]), d = digit(text[i + 3]);
        if ((a | b | c | d) > 63) {
            return SIZE_MAX;
        }
        bytes[used++] = (uint8_t)(a << 2 | b >> 4);
        bytes[used++] = (uint8_t)((b & 0xFU) << 4 | c >> 2);
        bytes[used++] = (uint8_t)((c & 0x3U) << 6 | d);
    }
    if (tail == 0) {
        return used;
    }
    return decode_tail(bytes + used, text + i, tail) ? used + tail - 1 : SIZE_MAX;
}

size_t hlt_base64url_encode(char *out, size_t out_bytes, const void *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    const uint8_t *bytes = data;
    size_t used = 0;

    if (HLT_BASE64URL_TEXT(len) > out_bytes) {
        return SIZE_MAX;
    }
    for (size_t i = 0; i < len; i += 3) {
        size_t group = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)bytes[i] << 16;
        bits |= group > 1 ? (uint32_t)bytes[i + 1] << 8 : 0;
        bits |= group > 2 ? (uint32_t)bytes[i + 2] : 0;
        for (size_t k = 0; k < group + 1; k++) {
            out[used++] = digits[bits >> (18 - 6 * k) & 0x3FU];
        }
    }
    out[used] = '\0';
    return used;
}
