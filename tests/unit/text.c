/* text.c - tests of shared/text.c: UTF-8, ids, topic levels, dates, units, suggestions. */
#include "../../shared/text.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

Test(text, utf8_is_judged_to_the_letter_of_rfc_3629)
{
    static const struct {
        const char *bytes;
        bool good;
    } rows[] = {
        {"", true},
        {"plain", true},
        {"\xc2\x80", true},
        {"\xdf\xbf", true},
        {"\xe0\xa0\x80", true},
        {"\xed\x9f\xbf", true},
        {"\xee\x80\x80", true},
        {"\xef\xbf\xbf", true},
        {"\xf0\x90\x80\x80", true},
        {"\xf4\x8f\xbf\xbf", true},
        {"\x80", false},             /* continuation alone */
        {"\xc0\x80", false},         /* overlong NUL */
        {"\xc1\xbf", false},         /* overlong */
        {"\xe0\x9f\xbf", false},     /* overlong */
        {"\xf0\x8f\xbf\xbf", false}, /* overlong */
        {"\xed\xa0\x80", false},     /* surrogate */
        {"\xed\xbf\xbf", false},     /* surrogate */
        {"\xf4\x90\x80\x80", false}, /* U+110000 */
        {"\xf5\x80\x80\x80", false},
        {"\xff", false},
        {"\xc3", false}, /* cut short */
        {"\xe2\x82", false},
        {"\xf0\x9f\x98", false},
        {"a\xe2\x28\xa1", false},
        {"\xe2\x82\x28", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_expect(hlt_utf8_valid(rows[i].bytes, strlen(rows[i].bytes)) == rows[i].good, "row %zu",
                  i);
    }
    cr_assert(hlt_utf8_valid("a\0b", 3), "NUL is a character; ids refuse it");
}

Test(text, an_id_is_what_may_name_a_device)
{
    static const struct {
        const char *id;
        const char *why; /* NULL: good */
    } rows[] = {
        {"d", NULL},
        {"sensor-7:a.b_c", NULL},
        {"a b", NULL},
        {"t\xc3\xbcr", NULL},
        {"a$b", NULL},
        {"\xef\xb7\x8f", NULL}, /* U+FDCF, just before the non-characters */
        {"\xef\xb7\xb0", NULL}, /* U+FDF0, just behind */
        {"\xef\xbf\xbd", NULL}, /* U+FFFD */
        {"", "empty"},
        {"$SYS", "$"},
        {"a+", "+"},
        {"a#b", "+"},
        {"a/b", "+"},
        {"a\nb", "control"},
        {"a\x7f", "control"},
        {"a\xc2\x85z", "control"}, /* C1 */
        {"\xef\xb7\x90", "non-character"},
        {"\xef\xb7\xaf", "non-character"},
        {"a\xef\xbf\xbe", "non-character"},
        {"a\xef\xbf\xbf", "non-character"},
        {"\xf4\x8f\xbf\xbf", "non-character"},
        {"\xff", "UTF-8"},
        {" a", "begins with a blank"},
        {"a ", "ends with a blank"},
        {"a\xc2\xa0", "ends with a blank"},
        {"\xe3\x80\x80z", "begins with a blank"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *why = NULL;
        bool good = hlt_id_valid(rows[i].id, strlen(rows[i].id), &why);
        cr_expect(good == (rows[i].why == NULL), "row %zu", i);
        if (rows[i].why != NULL) {
            cr_expect(why != NULL && strstr(why, rows[i].why) != NULL, "row %zu: %s", i,
                      why != NULL ? why : "(nothing)");
        }
    }
    cr_assert(!hlt_id_valid("a\0b", 3, NULL), "NUL inside");
}

Test(text, an_id_has_255_bytes_at_most)
{
    char id[257];
    const char *why = NULL;
    memset(id, 'x', sizeof(id));
    cr_assert(hlt_id_valid(id, HLT_ID_MAX, NULL));
    cr_assert(!hlt_id_valid(id, HLT_ID_MAX + 1, &why));
    cr_assert(strstr(why, "255") != NULL);
}

Test(text, a_level_has_only_harmless_bytes)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"", ""},
        {"Az09_.:-", "Az09_.:-"},
        {"a/b", "a%2Fb"},
        {"+#$%", "%2B%23%24%25"},
        {"\xc3\xbc", "%C3%BC"},
        {"\xff!", "%FF%21"},
        {"\n", "%0A"},
    };
    char out[HLT_LEVEL_MAX + 1];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t len = hlt_level_encode(out, sizeof(out), rows[i].text, strlen(rows[i].text));
        cr_expect_str_eq(out, rows[i].want, "row %zu: %s", i, out);
        cr_expect(len == strlen(rows[i].want), "row %zu", i);
    }
}

Test(text, a_level_is_cut_at_a_character)
{
    char out[8];
    cr_assert(hlt_level_encode(out, 8, "abcdefgh", 8) == 7);
    cr_assert_str_eq(out, "abcdefg");
    cr_assert(hlt_level_encode(out, 8, "ab\xc3\xbc", 4) == 2, "six bytes do not fit into five");
    cr_assert_str_eq(out, "ab");
    cr_assert(hlt_level_encode(out, 8, "a\xc3\xbc", 3) == 7);
    cr_assert_str_eq(out, "a%C3%BC");
    cr_assert(hlt_level_encode(out, 1, "abc", 3) == 0 && out[0] == '\0');
    cr_assert(hlt_level_encode(out, 0, "abc", 3) == 0);
}

Test(text, dates_are_read_as_rfc_3339_says)
{
    static const struct {
        const char *text;
        int64_t want; /* -1: refused */
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01T00:00:00.001Z", 1},
        {"2026-11-20T22:00:00.000Z", INT64_C(1795212000000)},
        {"2026-11-20t22:00:00z", INT64_C(1795212000000)},
        {"2026-11-20 22:00:00Z", INT64_C(1795212000000)},
        {"2026-11-21T00:00:00+02:00", INT64_C(1795212000000)},
        {"2026-11-20T16:30:00-05:30", INT64_C(1795212000000)},
        {"2026-11-20T22:00:00.1Z", INT64_C(1795212000100)},
        {"2026-11-20T22:00:00.123456789Z", INT64_C(1795212000123)},
        {"2026-11-20T22:00:00.9999999999999Z", INT64_C(1795212000999)},
        {"2000-02-29T00:00:00Z", INT64_C(951782400000)},
        {"2016-12-31T23:59:60Z", INT64_C(1483228800000)}, /* a real leap second */
        {"9999-12-31T23:59:59.999Z", INT64_C(253402300799999)},
        {"1969-12-31T23:59:59Z", -1},
        {"9999-12-31T23:59:59-01:00", -1},
        {"2026-11-20T22:00:60Z", -1},
        {"2026-11-20T22:00:61Z", -1},
        {"1900-02-29T00:00:00Z", -1},
        {"2026-02-29T00:00:00Z", -1},
        {"2026-13-01T00:00:00Z", -1},
        {"2026-00-01T00:00:00Z", -1},
        {"2026-11-00T00:00:00Z", -1},
        {"2026-11-31T00:00:00Z", -1},
        {"2026-11-20T24:00:00Z", -1},
        {"2026-11-20T22:60:00Z", -1},
        {"2026-11-20T22:00:00", -1},
        {"2026-11-20T22:00Z", -1},
        {"2026-11-20T22:00:00.Z", -1},
        {"2026-11-20T22:00:00+0200", -1},
        {"2026-11-20T22:00:00+24:00", -1},
        {"2026-11-20T22:00:00+02:60", -1},
        {"2026-11-20T22:00:00ZZ", -1},
        {"2026-11-20", -1},
        {"", -1},
        {"26-11-20T22:00:00Z", -1},
        {"2026-11-20T22:00:0:Z", -1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t ms = -7;
        bool good = hlt_date_parse(rows[i].text, strlen(rows[i].text), &ms);
        cr_expect(good == (rows[i].want >= 0), "row %zu: %s", i, rows[i].text);
        cr_expect(ms == (good ? rows[i].want : -7), "row %zu: %" PRId64, i, ms);
    }
}

Test(text, dates_agree_with_the_c_library_over_the_years)
{
    /* Every 17 days and some odd seconds from 1970 to 9999. */
    for (int64_t s = 0; s < INT64_C(253402300800); s += 17 * 86400 + 12345) {
        char out[HLT_DATE_BYTES];
        char want[40];
        time_t time = (time_t)s;
        struct tm tm;
        int64_t back = 0;
        cr_assert(gmtime_r(&time, &tm) != NULL);
        cr_assert(strftime(want, sizeof(want), "%Y-%m-%dT%H:%M:%S.042Z", &tm) > 0);
        hlt_date_format(s * 1000 + 42, out);
        cr_assert_str_eq(out, want);
        cr_assert(hlt_date_parse(out, strlen(out), &back) && back == s * 1000 + 42);
    }
}

Test(text, dates_out_of_range_show_as_1970)
{
    static const int64_t odd[] = {-1, INT64_MIN, INT64_MAX, INT64_C(253402300800000)};
    for (size_t i = 0; i < 4; i++) {
        char out[HLT_DATE_BYTES];
        hlt_date_format(odd[i], out);
        cr_expect_str_eq(out, "1970-01-01T00:00:00.000Z", "row %zu", i);
    }
}

Test(text, durations_take_units_and_nothing_else)
{
    static const struct {
        const char *text;
        int64_t want; /* -1: refused */
    } rows[] = {
        {"250ms", 250},
        {"30s", 30000},
        {"30", 30000},
        {"5min", 300000},
        {"2h", 7200000},
        {"7d", 604800000},
        {"0", 0},
        {"106751991167d", INT64_C(9223372036828800000)},
        {"106751991168d", -1}, /* past int64 */
        {"9223372036854775807ms", INT64_MAX},
        {"9223372036854775808ms", -1},
        {"99999999999999999999s", -1},
        {"", -1},
        {"s", -1},
        {"5m", -1}, /* minutes or milliseconds? */
        {"5 s", -1},
        {" 5s", -1},
        {"5s ", -1},
        {"-5s", -1},
        {"+5s", -1},
        {"1.5h", -1},
        {"5S", -1},
        {"0x5s", -1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t ms = -7;
        bool good = hlt_duration_parse(rows[i].text, &ms);
        cr_expect(good == (rows[i].want >= 0), "row %zu: %s", i, rows[i].text);
        cr_expect(ms == (good ? rows[i].want : -7), "row %zu: %" PRId64, i, ms);
    }
}

Test(text, sizes_take_units_and_nothing_else)
{
    static const struct {
        const char *text;
        bool good;
        uint64_t want;
    } rows[] = {
        {"512", true, 512},
        {"0", true, 0},
        {"7B", true, 7},
        {"4KiB", true, 4096},
        {"10MiB", true, 10485760},
        {"1GiB", true, 1073741824},
        {"16TiB", true, UINT64_C(17592186044416)},
        {"64KB", true, 64000},
        {"64kB", true, 64000},
        {"2MB", true, 2000000},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"16777216TiB", false, 0},
        {"", false, 0},
        {"KiB", false, 0},
        {"4K", false, 0},
        {"4 KiB", false, 0},
        {"-4", false, 0},
        {"4kib", false, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t bytes = 7;
        cr_expect(hlt_size_parse(rows[i].text, &bytes) == rows[i].good, "row %zu", i);
        cr_expect(bytes == (rows[i].good ? rows[i].want : 7), "row %zu", i);
    }
}

Test(text, suggestions_are_near_or_none)
{
    static const char *const names[] = {"issuer", "audience", "leeway", "db_path", "on", NULL};
    static const char *const none[] = {NULL};
    static const struct {
        const char *word, *want;
    } rows[] = {
        {"isuer", "issuer"},
        {"issuers", "issuer"},
        {"issure", "issuer"},
        {"Issuer", "issuer"},
        {"audeince", "audience"},
        {"dbpath", "db_path"},
        {"db-path", "db_path"},
        {"no", "on"}, /* one swap */
        {"leewya", "leeway"},
        {"iss", NULL},
        {"xyz", NULL},
        {"", NULL},
        {"audxxxxx", NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *near = hlt_suggest(rows[i].word, names);
        cr_expect((near == NULL) == (rows[i].want == NULL), "row %zu: %s", i,
                  near != NULL ? near : "-");
        if (near != NULL && rows[i].want != NULL) {
            cr_expect_str_eq(near, rows[i].want, "row %zu", i);
        }
    }
    cr_assert(hlt_suggest("issuer", none) == NULL);
}

Test(text, suggestions_need_a_word_of_64_bytes_at_most)
{
    char word[66];
    const char *names[] = {word, NULL};
    memset(word, 'a', sizeof(word));
    word[64] = '\0';
    cr_assert(hlt_suggest(word, names) == word);
    word[64] = 'a';
    word[65] = '\0';
    cr_assert(hlt_suggest(word, names) == NULL);
}

Test(text, printable_text_cannot_steer_a_terminal)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"plain \xc3\xbc", "plain \xc3\xbc"}, {"\x1b[31m", "\\x1b[31m"},
        {"a\r\n\t", "a\\x0d\\x0a\\x09"},      {"\x7f", "\\x7f"},
        {"\xc2\x9b", "\\xc2\\x9b"}, /* C1 CSI */
        {"\xff\xc3", "\\xff\\xc3"},
    };
    char out[64];
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t len = hlt_printable(out, sizeof(out), rows[i].text, strlen(rows[i].text));
        cr_expect_str_eq(out, rows[i].want, "row %zu: %s", i, out);
        cr_expect(len == strlen(out), "row %zu", i);
    }
    cr_assert(hlt_printable(out, sizeof(out), "a\0b", 3) == 6);
    cr_assert_str_eq(out, "a\\x00b");
}

Test(text, printable_text_is_cut_whole_characters)
{
    char out[6];
    cr_assert(hlt_printable(out, 6, "abcdefgh", 8) == 5);
    cr_assert(hlt_printable(out, 6, "ab\x1b", 3) == 2, "\\x1b would need four more");
    cr_assert_str_eq(out, "ab");
    cr_assert(hlt_printable(out, 6, "abcd\xc3\xbc", 6) == 4);
    cr_assert_str_eq(out, "abcd");
    cr_assert(hlt_printable(out, 1, "a", 1) == 0 && out[0] == '\0');
    cr_assert(hlt_printable(out, 0, "a", 1) == 0);
}
