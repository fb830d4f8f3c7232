/* The last denials of a device: aggregated, bounded per device and over devices, kept as text. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../shared/denial.h"

static char *text_of(const struct hlt_denials *denials, uint32_t device)
{
    char *text = hlt_denials_text(denials, device);

    cr_assert(text != NULL);
    return text;
}

static size_t times(const char *text, const char *what)
{
    size_t count = 0;

    for (const char *at = text; (at = strstr(at, what)) != NULL; at++) {
        count++;
    }
    return count;
}

Test(denial, the_same_denial_only_counts)
{
    struct hlt_denials *denials = hlt_denials_new(10);

    cr_assert(denials != NULL);
    hlt_denials_note(denials, 7, 1000, "write", "a/b", "policy");
    hlt_denials_note(denials, 7, 2000, "write", "a/b", "policy");
    hlt_denials_note(denials, 7, 3000, "subscribe", "a/b", "policy");
    hlt_denials_note(denials, 7, 4000, "write", "a/b", "limit:payload");
    hlt_denials_note(denials, 8, 5000, "write", "x", "policy");
    char *text = text_of(denials, 7);
    cr_expect_str_eq(
        text, "[{\"access\":\"write\",\"topic\":\"a/b\",\"reason\":\"limit:payload\",\"count\":1,"
              "\"first\":4000,\"last\":4000},"
              "{\"access\":\"subscribe\",\"topic\":\"a/b\",\"reason\":\"policy\",\"count\":1,"
              "\"first\":3000,\"last\":3000},"
              "{\"access\":\"write\",\"topic\":\"a/b\",\"reason\":\"policy\",\"count\":2,"
              "\"first\":1000,\"last\":2000}]");
    free(text);
    cr_expect(hlt_denials_devices(denials) == 2);
    cr_expect_null(hlt_denials_text(denials, 9));
    hlt_denials_free(denials);
}

Test(denial, the_65th_takes_the_place_of_the_one_seen_longest_ago)
{
    struct hlt_denials *denials = hlt_denials_new(10);
    char topic[16];

    for (int i = 0; i < HLT_DENIALS_KEPT; i++) {
        (void)snprintf(topic, sizeof(topic), "t%02d", i);
        hlt_denials_note(denials, 1, 1000 + i, "write", topic, "policy");
    }
    hlt_denials_note(denials, 1, 5000, "write", "t00", "policy"); /* seen again */
    char *text = text_of(denials, 1);
    cr_expect(times(text, "\"topic\"") == 64);
    free(text);
    hlt_denials_note(denials, 1, 6000, "write", "new", "policy");
    text = text_of(denials, 1);
    cr_expect(times(text, "\"topic\"") == 64);
    cr_expect(strstr(text, "\"t00\"") != NULL && strstr(text, "\"new\"") != NULL);
    cr_expect(strstr(text, "\"t01\"") == NULL);
    free(text);
    hlt_denials_free(denials);
}

Test(denial, at_the_cap_the_device_quiet_for_longest_makes_room)
{
    struct hlt_denials *denials = hlt_denials_new(3);

    for (uint32_t i = 0; i < 3; i++) {
        hlt_denials_note(denials, i, 1000, "write", "t", "policy");
    }
    hlt_denials_note(denials, 0, 2000, "write", "t", "policy");
    hlt_denials_note(denials, 3, 3000, "write", "t", "policy");
    cr_expect(hlt_denials_devices(denials) == 3);
    cr_expect_null(hlt_denials_text(denials, 1));
    char *text = text_of(denials, 0);
    free(text);
    hlt_denials_free(denials);
}

Test(denial, with_a_cap_of_none_nothing_is_kept)
{
    struct hlt_denials *denials = hlt_denials_new(0);
    uint32_t device;

    hlt_denials_note(denials, 1, 1000, "write", "t", "policy");
    cr_expect(hlt_denials_devices(denials) == 0 && !hlt_denials_dirty(denials, &device));
    hlt_denials_free(denials);
}

Test(denial, changed_lists_are_handed_over_in_turn)
{
    struct hlt_denials *denials = hlt_denials_new(10);
    uint32_t device = 0;

    cr_expect(!hlt_denials_dirty(denials, &device));
    for (uint32_t i = 1; i <= 3; i++) {
        hlt_denials_note(denials, i, 1000, "write", "t", "policy");
    }
    hlt_denials_note(denials, 1, 1000, "write", "t", "policy");
    hlt_denials_drop(denials, 2);
    cr_assert(hlt_denials_dirty(denials, &device) && device == 1);
    hlt_denials_clean(denials, 1);
    cr_assert(hlt_denials_dirty(denials, &device) && device == 3);
    hlt_denials_clean(denials, 3);
    cr_expect(!hlt_denials_dirty(denials, &device));
    hlt_denials_note(denials, 3, 1000, "write", "t", "policy");
    hlt_denials_note(denials, 1, 1000, "write", "t", "policy");
    cr_assert(hlt_denials_dirty(denials, &device) && device == 3);
    hlt_denials_free(denials);
}

Test(denial, a_list_comes_back_as_it_was_kept)
{
    struct hlt_denials *denials = hlt_denials_new(10);
    struct hlt_denials *again = hlt_denials_new(10);
    uint32_t device;

    hlt_denials_note(denials, 1, INT64_C(1795200000000), "write", "a\"\\\x01\xff/b", "policy");
    hlt_denials_note(denials, 1, INT64_C(1795200000001), "subscribe", "x", "policy");
    char *text = text_of(denials, 1);
    cr_assert(hlt_denials_restore(again, 5, text, strlen(text)));
    char *other = text_of(again, 5);
    cr_expect_str_eq(text, other);
    cr_expect(!hlt_denials_dirty(again, &device), "what was read need not be written");
    free(text);
    free(other);
    hlt_denials_free(denials);
    hlt_denials_free(again);
}

Test(denial, what_is_no_list_is_refused_whole)
{
    static const char *const texts[] = {
        "",
        "x",
        "{}",
        "[1]",
        "[{}]",
        "[{\"access\":\"write\",\"topic\":\"a\",\"reason\":\"p\",\"count\":1,\"first\":1}]",
        "[{\"access\":\"write\",\"topic\":\"a\",\"reason\":\"p\",\"count\":-1,\"first\":1,\"last\":"
        "1}]",
        "[{\"access\":\"write\",\"topic\":\"a\",\"reason\":\"p\",\"count\":1e300,\"first\":1,"
        "\"last\":1}]",
        "[{\"access\":\"write\",\"topic\":\"a\",\"reason\":\"p\",\"count\":1,\"first\":1,\"last\":"
        "1},4]",
    };
    struct hlt_denials *denials = hlt_denials_new(10);

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cr_expect(!hlt_denials_restore(denials, 1, texts[i], strlen(texts[i])), "%s", texts[i]);
        cr_expect_null(hlt_denials_text(denials, 1));
    }
    hlt_denials_free(denials);
}

Test(denial, long_texts_are_cut)
{
    struct hlt_denials *denials = hlt_denials_new(10);
    char topic[4096];

    memset(topic, 'x', sizeof(topic) - 1);
    topic[sizeof(topic) - 1] = '\0';
    hlt_denials_note(denials, 1, 1, "unsubscribe", topic, "a reason that is longer than any is");
    char *text = text_of(denials, 1);
    cr_expect(strlen(text) < 300, "%zu", strlen(text));
    free(text);
    hlt_denials_free(denials);
}
