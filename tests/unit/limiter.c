/* limiter.c - failed logins run out, per address and per id of an address, in memory that stays. */
#include <criterion/criterion.h>
#include <malloc.h>
#include <stdio.h>

#include "../../shared/limiter.h"

static struct hlt_address address_of(uint32_t number)
{
    struct hlt_address address = {.family = 4};

    for (unsigned i = 0; i < 4; i++) {
        address.bytes[i] = (uint8_t)(number >> (24 - 8 * i));
    }
    return address;
}

Test(limiter, one_id_stops_itself_before_it_stops_its_address)
{
    struct hlt_limiter *limiter = hlt_limiter_new(20, 6);
    struct hlt_address address = address_of(1);

    for (int i = 0; i < 9; i++) {
        cr_expect(hlt_limiter_fail(limiter, 1000, &address, "d1") == HLT_LIMIT_OK, "%d", i);
    }
    cr_expect(hlt_limiter_fail(limiter, 1000, &address, "d1") == HLT_LIMIT_LOGIN);
    cr_expect(hlt_limiter_fail(limiter, 1000, &address, "d2") == HLT_LIMIT_OK);
    hlt_limiter_free(limiter);
}

Test(limiter, many_ids_of_one_address_stop_the_address)
{
    struct hlt_limiter *limiter = hlt_limiter_new(20, 6);
    struct hlt_address address = address_of(1), other = address_of(2);
    char id[16];

    for (int i = 0; i < 19; i++) {
        snprintf(id, sizeof(id), "d%d", i);
        cr_expect(hlt_limiter_fail(limiter, 1000, &address, i % 2 ? id : NULL) == HLT_LIMIT_OK);
    }
    cr_expect(hlt_limiter_fail(limiter, 1000, &other, "d1") == HLT_LIMIT_OK);
    cr_expect(hlt_limiter_fail(limiter, 1000, &address, "d19") == HLT_LIMIT_ADDRESS);
    cr_expect(hlt_limiter_fail(limiter, 1000, &address, "d20") == HLT_LIMIT_OK,
              "after a ban it begins anew");
    hlt_limiter_free(limiter);
}

Test(limiter, failures_are_forgotten_at_the_given_rate)
{
    struct hlt_limiter *limiter = hlt_limiter_new(20, 6); /* one in 10 s */
    struct hlt_address address = address_of(1);
    int64_t now = 1000;

    for (int i = 0; i < 1000; i++, now += 10000) {
        cr_assert(hlt_limiter_fail(limiter, now, &address, "d1") == HLT_LIMIT_OK, "%d", i);
    }
    for (int i = 0; i < 8; i++) {
        cr_assert(hlt_limiter_fail(limiter, now, &address, "d1") == HLT_LIMIT_OK, "%d", i);
    }
    cr_expect(hlt_limiter_fail(limiter, now + 9000, &address, "d1") == HLT_LIMIT_OK);
    cr_expect(hlt_limiter_fail(limiter, now + 9000, &address, "d1") == HLT_LIMIT_LOGIN);
    hlt_limiter_free(limiter);
}

Test(limiter, a_burst_of_one_allows_no_second_failure)
{
    struct hlt_limiter *limiter = hlt_limiter_new(1, 1);
    struct hlt_address address = address_of(1);

    cr_expect(hlt_limiter_fail(limiter, 0, &address, "d1") == HLT_LIMIT_ADDRESS);
    hlt_limiter_free(limiter);
}

Test(limiter, ten_million_strangers_cost_no_memory_and_hide_nobody)
{
    struct hlt_limiter *limiter = hlt_limiter_new(20, 6);
    struct hlt_address attacker = address_of(1);
    struct mallinfo2 before = mallinfo2();
    unsigned stopped = 0;
    char id[24];

    for (uint32_t i = 0; i < 10000000; i++) {
        struct hlt_address address = address_of(0x10000000u + i);
        snprintf(id, sizeof(id), "stranger-%u", i);
        hlt_limiter_fail(limiter, i / 10000, &address, id);
        /* One of them comes as often as 50 others: it stays in the table and is stopped. */
        if (i % 50 == 0) {
            stopped += hlt_limiter_fail(limiter, i / 10000, &attacker, NULL) == HLT_LIMIT_ADDRESS;
        }
    }
    struct mallinfo2 after = mallinfo2();
    cr_expect(after.uordblks + after.hblkhd == before.uordblks + before.hblkhd, "%zu bytes more",
              after.uordblks - before.uordblks);
    cr_expect(stopped >= 9900, "200,000 failures, stopped every 20: %u", stopped);
    cr_expect(hlt_limiter_evicted(limiter) > 19000000, "and it tells that the table is too small");
    hlt_limiter_free(limiter);
}

Test(limiter, a_quiet_table_evicts_nobody)
{
    struct hlt_limiter *limiter = hlt_limiter_new(20, 60);

    for (uint32_t i = 0; i < 1000000; i++) { /* the buckets are full again when they must go */
        struct hlt_address address = address_of(i);
        hlt_limiter_fail(limiter, (int64_t)i * 100, &address, NULL);
    }
    cr_expect(hlt_limiter_evicted(limiter) == 0);
    hlt_limiter_free(limiter);
}

Test(limiter, a_burst_that_takes_a_while_is_still_one)
{
    struct hlt_limiter *limiter = hlt_limiter_new(8, 1);
    struct hlt_address address = address_of(1);

    for (int i = 0; i < 7; i++) {
        cr_expect(hlt_limiter_fail(limiter, i * 100, &address, NULL) == HLT_LIMIT_OK);
    }
    cr_expect(hlt_limiter_fail(limiter, 800, &address, NULL) == HLT_LIMIT_ADDRESS);
    hlt_limiter_free(limiter);
}
