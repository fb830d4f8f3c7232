/* Where a shadow policy differs: counted by device and rules, bounded, kept as text. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../shared/shadow.h"

static struct hlt_shadow_case differs(const char *who, uint32_t rule)
{
    return (struct hlt_shadow_case){.who = who,
                                    .access = "write",
                                    .topic = "a/b",
                                    .allowed = true,
                                    .active_rule = 1,
                                    .shadow_rule = rule,
                                    .active_text = "a.acl:2: allow write #",
                                    .shadow_text = "b.acl:9: deny write a/b"};
}

static void count(struct hlt_shadow *shadow, const struct hlt_shadow_case *what, int64_t wall_ms)
{
    uint32_t row = hlt_shadow_find(shadow, what);

    if (row == HLT_SHADOW_NONE) {
        row = hlt_shadow_add(shadow, what, wall_ms);
    }
    hlt_shadow_count(shadow, row, what->allowed, wall_ms);
}

/* All that is to be written, key=text a line, and written. */
static char *written(struct hlt_shadow *shadow)
{
    char key[24], *text = NULL, *all = NULL;
    size_t len;
    FILE *out = open_memstream(&all, &len);

    hlt_shadow_round(shadow);
    while (hlt_shadow_dirty(shadow, key, &text)) {
        fprintf(out, "%s=%s\n", key, text != NULL ? text : "");
        free(text);
        hlt_shadow_written(shadow);
    }
    fclose(out);
    return all;
}

Test(shadow, the_same_difference_is_one_row)
{
    struct hlt_shadow *shadow = hlt_shadow_new(100);
    struct hlt_shadow_case d1 = differs("d1", 7), d2 = differs("d2", 7), other = differs("d1", 8);
    struct hlt_shadow_totals totals;

    hlt_shadow_begin(shadow, "aaaa", "bbbb", 1000);
    count(shadow, &d1, 2000);
    count(shadow, &d1, 3000);
    count(shadow, &d2, 4000);
    count(shadow, &other, 5000);
    hlt_shadow_agree(shadow);
    hlt_shadow_totals(shadow, &totals);
    cr_expect(totals.rows == 3 && totals.checked == 5);
    cr_expect(totals.would_deny == 4 && totals.would_allow == 0 && totals.rest == 0);
    char *text = written(shadow);
    cr_expect(strstr(text, "\"who\":\"d1\"") != NULL);
    cr_expect(strstr(text, "\"count\":2,\"first\":2000,\"last\":3000") != NULL, "%s", text);
    cr_expect(strstr(text, "\"shadowText\":\"b.acl:9: deny write a/b\"") != NULL);
    cr_expect(strstr(text, "shadow={\"active\":\"aaaa\",\"shadow\":\"bbbb\",\"since\":1000,"
                           "\"checked\":5,\"wouldDeny\":4") != NULL,
              "%s", text);
    free(text);
    hlt_shadow_free(shadow);
}

Test(shadow, another_policy_begins_anew_and_the_same_one_goes_on)
{
    struct hlt_shadow *shadow = hlt_shadow_new(100);
    struct hlt_shadow_case d1 = differs("d1", 7);
    struct hlt_shadow_totals totals;

    hlt_shadow_begin(shadow, "aaaa", "bbbb", 1000);
    count(shadow, &d1, 2000);
    hlt_shadow_begin(shadow, "aaaa", "bbbb", 3000);
    hlt_shadow_totals(shadow, &totals);
    cr_expect(totals.rows == 1);
    hlt_shadow_begin(shadow, "aaaa", "cccc", 4000);
    hlt_shadow_totals(shadow, &totals);
    cr_expect(totals.rows == 0 && totals.checked == 0);
    free(written(shadow));
    hlt_shadow_begin(shadow, "aaaa", NULL, 5000);
    char *text = written(shadow);
    cr_expect_str_eq(text, "shadow=\n", "the head is deleted");
    free(text);
    hlt_shadow_free(shadow);
}

Test(shadow, when_the_rows_are_full_the_sums_by_rule_stay_right)
{
    struct hlt_shadow *shadow = hlt_shadow_new(10);
    struct hlt_shadow_totals totals;
    char who[16];

    hlt_shadow_begin(shadow, "aaaa", "bbbb", 1000);
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 1000; i++) {
            (void)snprintf(who, sizeof(who), "d%u", i);
            struct hlt_shadow_case what = differs(who, 7 + i % 2);
            count(shadow, &what, 2000);
        }
    }
    hlt_shadow_totals(shadow, &totals);
    cr_expect(totals.rows == 12, "%u", totals.rows); /* ten devices, and a rest for each rule */
    cr_expect(totals.would_deny == 3000 && totals.rest == 2970);
    char *text = written(shadow);
    cr_expect(strstr(text, "\"who\":\"\"") != NULL && strstr(text, "\"count\":1485") != NULL, "%s",
              text);
    free(text);
    for (uint32_t i = 0; i < HLT_SHADOW_REST_MAX + 100; i++) {
        struct hlt_shadow_case what = differs("new", 1000 + i);
        count(shadow, &what, 3000);
    }
    hlt_shadow_totals(shadow, &totals);
    cr_expect(totals.rows == 10 + HLT_SHADOW_REST_MAX);
    cr_expect(totals.would_deny == 3000 + HLT_SHADOW_REST_MAX + 100);
    hlt_shadow_free(shadow);
}

Test(shadow, what_was_written_comes_back)
{
    struct hlt_shadow *shadow = hlt_shadow_new(100), *back = hlt_shadow_new(100);
    struct hlt_shadow_totals totals;
    char key[24], who[16], *text = NULL;

    hlt_shadow_begin(shadow, "aaaa", "bbbb", 1000);
    for (uint32_t i = 0; i < 30; i++) {
        (void)snprintf(who, sizeof(who), "d%u", i);
        struct hlt_shadow_case what = differs(who, 7);
        if (i % 2 != 0) {
            what.shadow_rule = HLT_SHADOW_NONE;
            what.shadow_text = NULL;
        }
        count(shadow, &what, 2000);
    }
    char *keys[40], *texts[40];
    size_t count_written = 0;
    hlt_shadow_round(shadow);
    while (hlt_shadow_dirty(shadow, key, &text)) {
        keys[count_written] = strdup(key);
        texts[count_written++] = text;
        hlt_shadow_written(shadow);
    }
    cr_assert(count_written == 31);
    for (size_t i = count_written; i-- > 0;) { /* the head was written last */
        cr_expect(hlt_shadow_restore(back, keys[i], strlen(keys[i]), texts[i], strlen(texts[i])));
        free(keys[i]);
        free(texts[i]);
    }
    hlt_shadow_begin(back, "aaaa", "bbbb", 9000);
    hlt_shadow_totals(back, &totals);
    cr_expect(totals.rows == 30 && totals.would_deny == 30);
    struct hlt_shadow_case what = differs("d4", 7);
    uint32_t row = hlt_shadow_find(back, &what);
    cr_expect(row != HLT_SHADOW_NONE);
    hlt_shadow_count(back, row, true, 9000);
    char *all = written(back);
    cr_expect(strstr(all, "\"count\":2,\"first\":2000,\"last\":9000") != NULL);
    free(all);
    static const char *const bad[] = {"", "{", "[]", "{\"active\":\"aaaa\"}", "7"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_expect(!hlt_shadow_restore(back, "shadow", 6, bad[i], strlen(bad[i])), "row %zu", i);
        cr_expect(!hlt_shadow_restore(back, "shadow:1", 8, bad[i], strlen(bad[i])), "row %zu", i);
    }
    hlt_shadow_free(shadow);
    hlt_shadow_free(back);
}

/* --- a store of one column --- */

struct stored {
    char key[24], *text;
};

static void free_records(struct stored *records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(records[i].text);
    }
}

static int by_key(const void *left, const void *right)
{
    return strcmp(((const struct stored *)left)->key, ((const struct stored *)right)->key);
}

/* Write up to `most` records. */
static void store(struct hlt_shadow *shadow, struct stored *records, size_t *count, unsigned most)
{
    char key[24], *text = NULL;

    hlt_shadow_round(shadow);
    for (unsigned n = 0; n < most && hlt_shadow_dirty(shadow, key, &text); n++) {
        size_t i = 0;
        while (i < *count && strcmp(records[i].key, key) != 0) {
            i++;
        }
        *count += i == *count;
        free(records[i].text);
        (void)snprintf(records[i].key, sizeof(records[i].key), "%s", key);
        records[i].text = text;
        hlt_shadow_written(shadow);
    }
}

/* What a start finds: in the store's order. */
static struct hlt_shadow *start_on(struct stored *records, size_t count, uint32_t rows_max)
{
    struct hlt_shadow *shadow = hlt_shadow_new(rows_max);

    qsort(records, count, sizeof(*records), by_key);
    for (size_t i = 0; i < count; i++) {
        cr_assert(records[i].text != NULL);
        cr_expect(hlt_shadow_restore(shadow, records[i].key, strlen(records[i].key),
                                     records[i].text, strlen(records[i].text)));
    }
    return shadow;
}

static uint64_t counted(struct hlt_shadow *shadow)
{
    char *all = written(shadow);
    uint64_t sum = 0;

    for (const char *at = all; (at = strstr(at, "\"count\":")) != NULL; at++) {
        sum += strtoull(at + strlen("\"count\":"), NULL, 10);
    }
    free(all);
    return sum;
}

static void count_devices(struct hlt_shadow *shadow, unsigned devices)
{
    char who[16];

    for (unsigned i = 0; i < devices; i++) {
        (void)snprintf(who, sizeof(who), "d%u", i);
        struct hlt_shadow_case what = differs(who, 7);
        count(shadow, &what, 2000);
    }
}

Test(shadow, rows_of_the_same_policies_before_they_were_changed_back_do_not_come_back)
{
    struct hlt_shadow *shadow = hlt_shadow_new(100);
    struct stored records[40] = {{"", NULL}};
    size_t records_count = 0;

    hlt_shadow_begin(shadow, "aaaa", "bbbb", 1000);
    count_devices(shadow, 12);
    store(shadow, records, &records_count, UINT32_MAX);
    hlt_shadow_begin(shadow, "aaaa", "cccc", 2000);
    hlt_shadow_begin(shadow, "aaaa", "bbbb", 3000);
    count_devices(shadow, 3);
    store(shadow, records, &records_count, UINT32_MAX);
    struct hlt_shadow *back = start_on(records, records_count, 100);
    cr_expect_eq(counted(back), 3);
    hlt_shadow_free(back);
    hlt_shadow_free(shadow);
    free_records(records, records_count);
}

Test(shadow, a_crash_while_what_came_back_is_written_again_counts_nothing_twice)
{
    struct hlt_shadow *shadow = hlt_shadow_new(100);
    struct stored records[40] = {{"", NULL}};
    size_t records_count = 0;

    hlt_shadow_begin(shadow, "aaaa", "bbbb", 1000);
    count_devices(shadow, 30);
    store(shadow, records, &records_count, UINT32_MAX);
    for (unsigned crash = 0; crash < 30; crash += 7) {
        struct hlt_shadow *back = start_on(records, records_count, 100);
        store(back, records, &records_count, crash);
        hlt_shadow_free(back);
        back = start_on(records, records_count, 100);
        cr_expect_eq(counted(back), 30, "after %u", crash);
        hlt_shadow_free(back);
    }
    hlt_shadow_free(shadow);
    free_records(records, records_count);
}

Test(shadow, fewer_rows_than_before_count_nothing_twice)
{
    struct hlt_shadow *shadow = hlt_shadow_new(100);
    struct stored records[40] = {{"", NULL}};
    size_t records_count = 0;

    hlt_shadow_begin(shadow, "aaaa", "bbbb", 1000);
    count_devices(shadow, 30);
    store(shadow, records, &records_count, UINT32_MAX);
    for (int start = 0; start < 3; start++) { /* max_shadow_rows has been lowered */
        struct hlt_shadow *back = start_on(records, records_count, 5);
        store(back, records, &records_count, UINT32_MAX);
        hlt_shadow_free(back);
    }
    struct hlt_shadow *back = start_on(records, records_count, 5);
    cr_expect_eq(counted(back), 30);
    hlt_shadow_free(back);
    hlt_shadow_free(shadow);
    free_records(records, records_count);
}

Test(shadow, a_round_of_writing_ends_however_fast_rows_change)
{
    struct hlt_shadow *shadow = hlt_shadow_new(100);
    struct hlt_shadow_case late = differs("late", 7);
    char key[24], *text = NULL;
    unsigned rows = 0;
    bool head = false;

    hlt_shadow_begin(shadow, "aaaa", "bbbb", 1000);
    count_devices(shadow, 30);
    hlt_shadow_round(shadow);
    for (int i = 0; i < 1000 && hlt_shadow_dirty(shadow, key, &text); i++) {
        head = strcmp(key, HLT_SHADOW_KEY) == 0;
        rows += !head;
        cr_expect(!head || strstr(text, "\"rows\":30}") != NULL, "it speaks of rows not there yet");
        free(text);
        hlt_shadow_written(shadow);
        if (!head) {
            count_devices(shadow, 30);
            count(shadow, &late, 2000);
        }
    }
    cr_expect(head && rows == 30, "%u", rows);
    hlt_shadow_round(shadow);
    cr_expect(hlt_shadow_dirty(shadow, key, &text), "the rest is written in the next one");
    free(text);
    char *all = written(shadow);
    cr_expect(strstr(all, "\"who\":\"late\"") != NULL);
    cr_expect(strstr(all, "\"rows\":31}") != NULL);
    free(all);
    hlt_shadow_free(shadow);
}
