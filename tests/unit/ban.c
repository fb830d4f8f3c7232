/* ban.c - bans hold, end, make room, and survive as records. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../shared/ban.h"

static struct hlt_ban_subject subject_of(const char *key)
{
    struct hlt_ban_subject subject;

    cr_assert(hlt_ban_key_parse(&subject, key, strlen(key)), "%s", key);
    return subject;
}

static enum hlt_rc add(struct hlt_bans *bans, const char *key, int64_t until_mono_ms,
                       bool automatic)
{
    struct hlt_ban ban = {
        .subject = subject_of(key), .until_mono_ms = until_mono_ms, .automatic = automatic};
    struct hlt_ban *evicted;
    enum hlt_rc rc = hlt_bans_add(bans, &ban, &evicted);

    free(evicted);
    return rc;
}

static bool banned(const struct hlt_bans *bans, const char *key, int64_t mono_ms)
{
    struct hlt_ban_subject subject = subject_of(key);

    return hlt_bans_find(bans, &subject, mono_ms) != NULL;
}

Test(ban, holds_for_its_subject_until_its_end)
{
    struct hlt_bans bans;

    cr_assert(hlt_bans_init(&bans) == HLT_OK);
    add(&bans, "address 192.0.2.7", 1000, false);
    add(&bans, "login 192.0.2.8 d1", 1000, true);
    add(&bans, "device d2", HLT_BAN_FOREVER, false);
    cr_expect(banned(&bans, "address 192.0.2.7", 999));
    cr_expect(!banned(&bans, "address 192.0.2.7", 1000));
    cr_expect(!banned(&bans, "address 192.0.2.8", 0));
    cr_expect(banned(&bans, "login 192.0.2.8 d1", 0));
    cr_expect(!banned(&bans, "login 192.0.2.8 d2", 0));
    cr_expect(!banned(&bans, "login 192.0.2.7 d1", 0));
    cr_expect(banned(&bans, "device d2", INT64_MAX - 1));
    cr_expect(!banned(&bans, "device d1", 0));
    hlt_bans_free(&bans);
}

Test(ban, ipv6_is_banned_by_network)
{
    struct hlt_bans bans;

    cr_assert(hlt_bans_init(&bans) == HLT_OK);
    add(&bans, "address 2001:db8::1", 1000, false);
    cr_expect(banned(&bans, "address 2001:db8::2", 0));
    cr_expect(banned(&bans, "address 2001:db8::/64", 0));
    cr_expect(!banned(&bans, "address 2001:db8:0:1::1", 0));
    hlt_bans_free(&bans);
}

Test(ban, a_second_one_takes_the_place_of_the_first)
{
    struct hlt_bans bans;

    cr_assert(hlt_bans_init(&bans) == HLT_OK);
    add(&bans, "device d", 1000, true);
    add(&bans, "device d", 5000, false);
    cr_expect(bans.count == 1 && bans.by_kind[HLT_BAN_DEVICE] == 1 && bans.oldest == NULL);
    cr_expect(banned(&bans, "device d", 4999));
    hlt_bans_free(&bans);
}

Test(ban, sweeping_takes_out_what_is_over_within_its_budget)
{
    struct hlt_bans bans;
    char key[32];
    unsigned taken = 0, calls = 0;

    cr_assert(hlt_bans_init(&bans) == HLT_OK);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "device d%d", i);
        add(&bans, key, i % 2 ? 1000 : 2000, i % 3 == 0);
    }
    while (bans.count > 50 && calls++ < 100) {
        unsigned budget = 10;
        struct hlt_ban *ban;
        while ((ban = hlt_bans_sweep(&bans, 1500, &budget)) != NULL) {
            taken++;
            free(ban);
        }
        cr_expect(budget == 0);
    }
    cr_expect(taken == 50);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "device d%d", i);
        cr_expect(banned(&bans, key, 1500) == (i % 2 == 0), "%s", key);
    }
    hlt_bans_free(&bans);
}

Test(ban, a_full_table_gives_up_automatic_ones_only)
{
    struct hlt_bans bans;
    char key[32];

    cr_assert(hlt_bans_init(&bans) == HLT_OK);
    for (unsigned i = 0; i < HLT_BANS_MAX; i++) {
        snprintf(key, sizeof(key), "address 10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        cr_assert(add(&bans, key, 1000, i < 2) == HLT_OK);
    }
    cr_expect(add(&bans, "device new1", 1000, false) == HLT_OK);
    cr_expect(!banned(&bans, "address 10.0.0.0", 0), "the oldest automatic one made room");
    cr_expect(banned(&bans, "address 10.0.0.1", 0));
    cr_expect(add(&bans, "device new2", 1000, true) == HLT_OK);
    cr_expect(add(&bans, "device new3", 1000, true) == HLT_OK, "new2 is automatic");
    cr_expect(add(&bans, "device new4", 1000, false) == HLT_OK);
    cr_expect(add(&bans, "device new5", 1000, false) == HLT_EFULL);
    cr_expect(add(&bans, "device new5", 1000, true) == HLT_EFULL);
    cr_expect(bans.count == HLT_BANS_MAX);
    cr_expect(banned(&bans, "address 10.0.0.2", 0));
    hlt_bans_free(&bans);
}

Test(ban, its_key_is_read_as_it_is_written)
{
    static const char *const good[] = {"address 192.0.2.7", "address 2001:db8::/64", "device d 1",
                                       "login 192.0.2.7 a b", "device \xc3\xa4"};
    static const char *const bad[] = {"address",
                                      "address ",
                                      "device ",
                                      "device a+b",
                                      "login 192.0.2.7",
                                      "login 192.0.2.7 ",
                                      "address host",
                                      "address 1.2.3.4/64",
                                      "nobody x",
                                      "device $x",
                                      "login x d",
                                      "",
                                      " "};
    char key[HLT_BAN_KEY_MAX];
    struct hlt_ban_subject subject;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        subject = subject_of(good[i]);
        cr_expect(hlt_ban_key(&subject, key) == strlen(good[i]));
        cr_expect_str_eq(key, good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_expect(!hlt_ban_key_parse(&subject, bad[i], strlen(bad[i])), "%s", bad[i]);
    }
    cr_expect(!hlt_ban_key_parse(&subject, "device a\0b", 10));
}

Test(ban, its_record_is_read_as_it_is_written_and_no_other_is)
{
    struct hlt_ban ban = {.subject = subject_of("device d1"),
                          .since_ms = 1800000000000,
                          .until_ms = HLT_BAN_FOREVER,
                          .automatic = true,
                          .author = "boss",
                          .reason = "stolen"};
    struct hlt_ban out;
    uint8_t bytes[HLT_BAN_RECORD_MAX];
    size_t len = hlt_ban_record_write(&ban, bytes);

    cr_assert(hlt_ban_record_read(&out, "device d1", 9, bytes, len) == HLT_OK);
    cr_expect(out.since_ms == ban.since_ms && out.until_ms == ban.until_ms && out.automatic);
    cr_expect_str_eq(out.author, "boss");
    cr_expect_str_eq(out.reason, "stolen");
    cr_expect_str_eq(out.subject.id, "d1");
    for (size_t cut = 0; cut < len; cut++) {
        cr_expect(hlt_ban_record_read(&out, "device d1", 9, bytes, cut) == HLT_EPARSE, "%zu", cut);
    }
    bytes[len] = 0;
    cr_expect(hlt_ban_record_read(&out, "device d1", 9, bytes, len + 1) == HLT_EPARSE);
    cr_expect(hlt_ban_record_read(&out, "d1", 2, bytes, len) == HLT_EPARSE);
}

Test(ban, the_longest_record_fits)
{
    struct hlt_ban ban = {.subject.kind = HLT_BAN_LOGIN}, out;
    uint8_t bytes[HLT_BAN_RECORD_MAX];
    char key[HLT_BAN_KEY_MAX];

    memset(ban.author, 'a', HLT_BAN_AUTHOR_MAX);
    memset(ban.reason, 'r', HLT_BAN_REASON_MAX);
    memset(ban.subject.id, 'd', HLT_ID_MAX);
    hlt_address_parse(&ban.subject.address, "2001:db8:1111:2222::");
    size_t key_len = hlt_ban_key(&ban.subject, key);
    cr_expect(key_len == strlen(key));
    size_t len = hlt_ban_record_write(&ban, bytes);
    cr_expect(len <= sizeof(bytes));
    cr_expect(hlt_ban_record_read(&out, key, key_len, bytes, len) == HLT_OK);
    cr_expect_str_eq(out.subject.id, ban.subject.id);
}
