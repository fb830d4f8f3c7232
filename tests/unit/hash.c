/* hash.c - tests of shared/hash.c: known answers, and that the key matters. */
#include "../../shared/hash.h"

#include <criterion/criterion.h>
#include <string.h>

/* Aumasson and Bernstein, SipHash, 2012, appendix A: key 00..0f, message 00..0e. */
Test(hash, is_siphash_2_4)
{
    struct hlt_hash_key key;
    unsigned char message[15];
    for (unsigned i = 0; i < 16; i++) {
        key.bytes[i] = (uint8_t)i;
    }
    for (unsigned i = 0; i < 15; i++) {
        message[i] = (unsigned char)i;
    }
    uint64_t want = UINT64_C(0xa129ca6149be45e5);
    cr_assert(hlt_hash(&key, message, sizeof(message)) == want);
}

Test(hash, depends_on_the_key)
{
    struct hlt_hash_key a;
    struct hlt_hash_key b;
    cr_assert(hlt_hash_key_init(&a) == 0);
    cr_assert(hlt_hash_key_init(&b) == 0);
    cr_assert(memcmp(&a, &b, sizeof(a)) != 0);
    cr_assert(hlt_hash(&a, "device", 6) != hlt_hash(&b, "device", 6));
    cr_assert(hlt_hash(&a, "device", 6) == hlt_hash(&a, "device", 6));
    cr_assert(hlt_hash(&a, "device", 6) != hlt_hash(&a, "device", 5));
}

/* XXH3_64bits of nothing is 2d06800538d394c2 (the algorithm's published test vectors). */
Test(hash, checksum_is_the_low_half_of_xxh3)
{
    cr_assert(hlt_checksum("", 0) == 0x38d394c2u);
}

Test(hash, checksum_notices_each_flipped_bit)
{
    unsigned char record[64];
    memset(record, 0xa5, sizeof(record));
    uint32_t good = hlt_checksum(record, sizeof(record));
    for (size_t bit = 0; bit < sizeof(record) * 8; bit++) {
        record[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        cr_expect(hlt_checksum(record, sizeof(record)) != good, "bit %zu", bit);
        record[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    cr_assert(hlt_checksum(record, sizeof(record)) == good);
}

Test(hash, sha256_is_that_of_fips_180)
{
    /* printf abc | sha256sum; printf '' | sha256sum */
    static const uint8_t abc[4] = {0xba, 0x78, 0x16, 0xbf}, empty[4] = {0xe3, 0xb0, 0xc4, 0x42};
    uint8_t out[HLT_SHA256_BYTES];

    hlt_sha256(out, "abc", 3);
    cr_expect_arr_eq(out, abc, sizeof(abc));
    cr_expect(out[31] == 0xad);
    hlt_sha256(out, "", 0);
    cr_expect_arr_eq(out, empty, sizeof(empty));
    cr_expect(out[31] == 0x55);
}

Test(hash, sha256_of_two_pieces_is_that_of_both_in_a_row)
{
    char text[300];
    uint8_t whole[HLT_SHA256_BYTES], pieces[HLT_SHA256_BYTES];

    memset(text, 'x', sizeof(text));
    hlt_sha256(whole, text, sizeof(text));
    for (size_t cut = 0; cut <= sizeof(text); cut++) {
        hlt_sha256_two(pieces, text, cut, text + cut, sizeof(text) - cut);
        cr_expect_arr_eq(pieces, whole, sizeof(whole), "%zu", cut);
    }
}
