/* keyuse.c - which key was used when, within its limit and over a restart. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../shared/keyset.h"
#include "../../shared/keyuse.h"

static void expect_text(const struct hlt_keyuse *keys, size_t max, const char *want)
{
    char *text = hlt_keyuse_text(keys, max);

    cr_assert(text != NULL);
    cr_expect(eq(str, text, (char *)want));
    free(text);
}

Test(keyuse, keys_are_told_apart_by_kid_and_alg_and_the_last_used_comes_first)
{
    struct hlt_keyuse *keys = hlt_keyuse_new();

    expect_text(keys, 10, "[]");
    cr_expect(hlt_keyuse_dirty(keys) == false);
    hlt_keyuse_count(keys, "a", "ES256", 1000);
    hlt_keyuse_count(keys, "", "HS256", 2000);
    hlt_keyuse_count(keys, "a", "RS256", 3000);
    hlt_keyuse_count(keys, "a", "ES256", 4000);
    cr_expect(hlt_keyuse_dirty(keys));
    hlt_keyuse_stored(keys);
    cr_expect(hlt_keyuse_dirty(keys) == false);
    expect_text(keys, 10,
                "[{\"kid\":\"a\",\"alg\":\"ES256\",\"count\":2,\"first\":1000,\"last\":4000},"
                "{\"kid\":\"a\",\"alg\":\"RS256\",\"count\":1,\"first\":3000,\"last\":3000},"
                "{\"kid\":\"\",\"alg\":\"HS256\",\"count\":1,\"first\":2000,\"last\":2000}]");
    expect_text(keys, 1,
                "[{\"kid\":\"a\",\"alg\":\"ES256\",\"count\":2,\"first\":1000,\"last\":4000}]");
    hlt_keyuse_free(keys);
    hlt_keyuse_free(NULL);
}

Test(keyuse, counts_go_on_after_a_restart)
{
    struct hlt_keyuse *before = hlt_keyuse_new(), *after = hlt_keyuse_new();

    hlt_keyuse_count(before, "a\"\n", "ES256", 1000);
    hlt_keyuse_count(before, "b", "ES256", 2000);
    char *text = hlt_keyuse_text(before, HLT_KEYS_MAX);
    hlt_keyuse_restore(after, text, strlen(text));
    free(text);
    cr_expect(hlt_keyuse_dirty(after) == false, "what was read need not be written");
    hlt_keyuse_count(after, "a\"\n", "ES256", 5000);
    expect_text(
        after, 1,
        "[{\"kid\":\"a\\\"\\n\",\"alg\":\"ES256\",\"count\":2,\"first\":1000,\"last\":5000}]");
    cr_expect(eq(sz, hlt_keyuse_keys(after), 2));
    hlt_keyuse_free(before);
    hlt_keyuse_free(after);
}

Test(keyuse, a_damaged_record_is_passed_over)
{
    static const char *const texts[] = {
        "",
        "{}",
        "[",
        "null",
        "[1,null,[],{}]",
        "[{\"kid\":1,\"alg\":\"ES256\"}]",
        "[{\"kid\":\"a\",\"alg\":\"ES256\",\"count\":-1,\"first\":0,\"last\":0}]",
        "[{\"kid\":\"a\",\"alg\":\"ES256\",\"count\":1e300,\"first\":0,\"last\":0}]",
        "[{\"kid\":\"a\",\"alg\":\"an algorithm of too long a name\",\"count\":1,\"first\":0,"
        "\"last\":0}]"};
    struct hlt_keyuse *keys = hlt_keyuse_new();

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        hlt_keyuse_restore(keys, texts[i], strlen(texts[i]));
        cr_expect(eq(sz, hlt_keyuse_keys(keys), 0), "%s", texts[i]);
    }
    hlt_keyuse_free(keys);
}

Test(keyuse, over_the_limit_the_key_unused_for_longest_makes_room)
{
    struct hlt_keyuse *keys = hlt_keyuse_new();
    char kid[16];

    for (int i = 0; i < HLT_KEYS_MAX; i++) {
        snprintf(kid, sizeof(kid), "k%d", i);
        hlt_keyuse_count(keys, kid, "ES256", 1000 + i);
    }
    hlt_keyuse_count(keys, "k0", "ES256", 9000); /* so k1 is the oldest */
    hlt_keyuse_count(keys, "new", "ES256", 9001);
    cr_expect(eq(sz, hlt_keyuse_keys(keys), HLT_KEYS_MAX));
    char *text = hlt_keyuse_text(keys, HLT_KEYS_MAX);
    cr_expect(strstr(text, "\"k1\"") == NULL);
    cr_expect(strstr(text, "\"k0\",\"alg\":\"ES256\",\"count\":2") != NULL);
    cr_expect(strstr(text, "\"new\"") != NULL);
    free(text);
    for (int i = 2; i < HLT_KEYS_MAX; i++) { /* all are still found, none is counted twice */
        snprintf(kid, sizeof(kid), "k%d", i);
        hlt_keyuse_count(keys, kid, "ES256", 10000);
    }
    cr_expect(eq(sz, hlt_keyuse_keys(keys), HLT_KEYS_MAX));
    hlt_keyuse_free(keys);
}
