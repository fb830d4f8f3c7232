/* tokencache.c - tokens that were verified, found again by nothing but their whole hash. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "../../shared/tokencache.h"

static struct hlt_claims *claims_of(const char *sub)
{
    char json[128];

    snprintf(json, sizeof(json), "{\"sub\":\"%s\",\"exp\":2000}", sub);
    struct hlt_claims *claims = hlt_claims_parse(json, strlen(json));
    cr_assert(claims != NULL);
    return claims;
}

static void hash_of(unsigned number, uint8_t out[HLT_SHA256_BYTES])
{
    hlt_sha256(out, &number, sizeof(number));
}

static void put(struct hlt_tokencache *cache, unsigned number)
{
    uint8_t hash[HLT_SHA256_BYTES];
    char sub[16];

    snprintf(sub, sizeof(sub), "d%u", number);
    struct hlt_claims *claims = claims_of(sub);
    hash_of(number, hash);
    hlt_tokencache_put(cache, hash, claims);
    hlt_claims_free(claims);
}

/* Is it there, and is it this device's? */
static bool has(struct hlt_tokencache *cache, unsigned number)
{
    uint8_t hash[HLT_SHA256_BYTES];
    char sub[16];

    hash_of(number, hash);
    bool held = hlt_tokencache_holds(cache, hash);
    struct hlt_claims *claims = hlt_tokencache_get(cache, hash);
    cr_expect(held == (claims != NULL), "holds and get are of one mind");
    if (claims == NULL) {
        return false;
    }
    snprintf(sub, sizeof(sub), "d%u", number);
    cr_expect_str_eq(claims->sub, sub, "another token's claims");
    hlt_claims_free(claims);
    return true;
}

Test(tokencache, gives_back_what_was_put_and_nothing_else)
{
    struct hlt_tokencache *cache = hlt_tokencache_new(10);

    cr_expect(!has(cache, 1));
    put(cache, 1);
    cr_expect(has(cache, 1));
    cr_expect(!has(cache, 2));
    cr_expect(hlt_tokencache_count(cache) == 1);
    put(cache, 1);
    cr_expect(hlt_tokencache_count(cache) == 1, "the same token is kept once");
    hlt_tokencache_free(cache);
}

Test(tokencache, each_bit_of_the_hash_counts)
{
    struct hlt_tokencache *cache = hlt_tokencache_new(1000);
    uint8_t hash[HLT_SHA256_BYTES];

    put(cache, 7);
    for (size_t bit = 0; bit < sizeof(hash) * 8; bit++) {
        hash_of(7, hash);
        hash[bit / 8] = (uint8_t)(hash[bit / 8] ^ (1u << bit % 8));
        cr_expect(hlt_tokencache_get(cache, hash) == NULL, "bit %zu", bit);
    }
    hlt_tokencache_free(cache);
}

Test(tokencache, claims_outlive_the_cache_and_the_first_owner)
{
    struct hlt_tokencache *cache = hlt_tokencache_new(1);
    uint8_t hash[HLT_SHA256_BYTES];

    put(cache, 1);
    hash_of(1, hash);
    struct hlt_claims *session = hlt_tokencache_get(cache, hash);
    put(cache, 2); /* throws the first out */
    cr_expect(!has(cache, 1));
    hlt_tokencache_free(cache);
    cr_expect_str_eq(session->sub, "d1");
    hlt_claims_free(session);
}

Test(tokencache, never_holds_more_than_its_limit_and_keeps_what_is_used)
{
    struct hlt_tokencache *cache = hlt_tokencache_new(64);

    for (unsigned i = 0; i < 20000; i++) {
        put(cache, i);
        cr_assert(hlt_tokencache_count(cache) <= 64);
        if (i > 0) {
            cr_assert(has(cache, 0), "in use all the time, gone after %u", i);
        }
    }
    unsigned found = 0;
    for (unsigned i = 0; i < 20000; i++) {
        found += has(cache, i);
    }
    cr_expect(found == 64, "each entry is found by its hash after all that moving: %u", found);
    hlt_tokencache_free(cache);
}

Test(tokencache, clearing_forgets_every_token)
{
    struct hlt_tokencache *cache = hlt_tokencache_new(100);

    for (unsigned i = 0; i < 250; i++) {
        put(cache, i);
    }
    hlt_tokencache_clear(cache);
    cr_expect(hlt_tokencache_count(cache) == 0);
    for (unsigned i = 0; i < 250; i++) {
        cr_expect(!has(cache, i));
    }
    put(cache, 3);
    cr_expect(has(cache, 3));
    hlt_tokencache_free(cache);
}

Test(tokencache, of_size_0_keeps_nothing)
{
    struct hlt_tokencache *cache = hlt_tokencache_new(0);

    put(cache, 1);
    cr_expect(!has(cache, 1));
    hlt_tokencache_clear(cache);
    hlt_tokencache_free(cache);
}

Test(tokencache, a_huge_payload_is_not_kept)
{
    struct hlt_tokencache *cache = hlt_tokencache_new(4);
    char json[HLT_TOKENCACHE_CLAIMS_MAX + 2];
    uint8_t hash[HLT_SHA256_BYTES];

    for (size_t over = 0; over < 2; over++) {
        size_t len = HLT_TOKENCACHE_CLAIMS_MAX + over;
        memset(json, ' ', len);
        memcpy(json, "{\"sub\":\"d\"", 10);
        json[len - 1] = '}';
        struct hlt_claims *claims = hlt_claims_parse(json, len);
        cr_assert(claims != NULL);
        hash_of((unsigned)over, hash);
        hlt_tokencache_put(cache, hash, claims);
        hlt_claims_free(claims);
        cr_expect(hlt_tokencache_count(cache) == 1, "%zu bytes", len);
    }
    hlt_tokencache_free(cache);
}

Test(tokencache, times_are_judged_anew)
{
    struct hlt_token_rules rules = {.leeway_s = 30};
    struct hlt_claims *claims = claims_of("d1");

    claims->nbf_s = 1000;
    cr_expect(hlt_claims_judge_times(claims, &rules, 969, NULL) == HLT_REASON_NOT_YET);
    cr_expect(hlt_claims_judge_times(claims, &rules, 970, NULL) == HLT_REASON_OK);
    cr_expect(hlt_claims_judge_times(claims, &rules, 2029, NULL) == HLT_REASON_OK);
    cr_expect(hlt_claims_judge_times(claims, &rules, 2030, NULL) == HLT_REASON_EXPIRED);
    hlt_claims_free(claims);
}
