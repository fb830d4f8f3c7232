/* jsonpull.c - what the JSON reader accepts, what it refuses and where, and that its numbers are
 * exact. */
#include "../../shared/jsonpull.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../json_reference.h"

/* Read to the end; the last event. The copy has no byte to spare, so ASan sees any overrun. */
static enum hlt_json_event read_all(const char *text, size_t len, struct hlt_json *reader)
{
    char *copy = malloc(len > 0 ? len : 1);
    enum hlt_json_event event;

    memcpy(copy, text, len);
    hlt_json_begin(reader, copy, len);
    do {
        event = hlt_json_next(reader);
    } while (event != HLT_JSON_DONE && event != HLT_JSON_ERROR);
    cr_expect(hlt_json_next(reader) == event, "the last event stays");
    free(copy);
    return event;
}

static enum hlt_json_event read_text(const char *text)
{
    struct hlt_json reader;

    return read_all(text, strlen(text), &reader);
}

Test(jsonpull, accepts_every_kind_of_value)
{
    static const char *const texts[] = {"{}",
                                        "[]",
                                        "\"\"",
                                        "0",
                                        "-0",
                                        "true",
                                        "false",
                                        "null",
                                        " \t\r\n1 \t\r\n",
                                        "[1,2.5,-3e-2,1E+3,0.0]",
                                        "{\"a\":{\"b\":[{}]}}",
                                        "\"\\ud83d\\ude00\"",
                                        "\"\\ud800\\udc00 \\udbff\\udfff \\ud7ff \\ue000\"",
                                        "\"\xf4\x8f\xbf\xbf \xed\x9f\xbf \xee\x80\x80 \xc2\x80\"",
                                        "[[],{},\"x\"]",
                                        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\"",
                                        "\"\x7f\""};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cr_expect(read_text(texts[i]) == HLT_JSON_DONE, "%s", texts[i]);
        cr_expect(json_disagreement(texts[i], strlen(texts[i])) == NULL, "%s", texts[i]);
    }
}

Test(jsonpull, refuses_and_says_where)
{
    static const struct {
        const char *text;
        size_t at;
        const char *error;
    } rows[] = {
        {"", 0, "document ends too early"},
        {"  ", 2, "document ends too early"},
        {"[1,]", 3, "value expected"},
        {"[,1]", 1, "value expected"},
        {"[1 2]", 3, "comma or ] expected"},
        {"{\"a\":1 \"b\":2}", 7, "comma or } expected"},
        {"{\"a\":1,}", 7, "member name expected"},
        {"{a:1}", 1, "member name expected"},
        {"{\"a\" 1}", 5, "colon expected"},
        {"{\"a\"", 4, "colon expected"},
        {"{\"a\":}", 5, "value expected"},
        {"{\"a\":1", 6, "document ends too early"},
        {"{\"a\":1,", 7, "document ends too early"},
        {"[1}", 2, "comma or ] expected"},
        {"{\"a\":1]", 6, "comma or } expected"},
        {"{\"a\":1}{", 7, "bytes after the end of the document"},
        {"1 2", 2, "bytes after the end of the document"},
        {"01", 0, "number with a leading zero"},
        {"-01", 1, "number with a leading zero"},
        {"-", 1, "digit expected"},
        {"+1", 0, "value expected"},
        {".5", 0, "value expected"},
        {"1.", 2, "digit expected after the point"},
        {"1.e5", 2, "digit expected after the point"},
        {"1e", 2, "digit expected in the exponent"},
        {"1e+", 2, "digit expected in the exponent"},
        {"1.2.3", 3, "bytes after the end of the document"},
        {"NaN", 0, "value expected"},
        {"Infinity", 0, "value expected"},
        {"[1e999]", 1, "number out of range"},
        {"[-1e999]", 1, "number out of range"},
        {"tru", 0, "value expected"},
        {"nulll", 4, "bytes after the end of the document"},
        {"True", 0, "value expected"},
        {"\"abc", 0, "string without an end"},
        {"\"a\\", 2, "unknown escape"},
        {"\"\\x41\"", 1, "unknown escape"},
        {"\"\\u12g4\"", 1, "four hex digits expected after \\u"},
        {"\"\\u12", 1, "four hex digits expected after \\u"},
        {"\"\\u0000\"", 1, "\\u0000 is not allowed"},
        {"\"\\ud800\"", 1, "lone surrogate"},
        {"\"\\ud800\\u0041\"", 1, "lone surrogate"},
        {"\"\\ud800\\udbff\"", 1, "lone surrogate"},
        {"\"\\ud800\\ue000\"", 1, "lone surrogate"},
        {"\"\\udbff\"", 1, "lone surrogate"},
        {"\"\\udc00\"", 1, "lone surrogate"},
        {"\"a\nb\"", 2, "control byte in a string"},
        {"\"12345678\x1f\"", 9, "control byte in a string"},
        {"\"\x80\"", 1, "invalid UTF-8"},
        {"\"\xc0\xaf\"", 1, "invalid UTF-8"},
        {"\"\xe0\x9f\xbf\"", 1, "invalid UTF-8"},
        {"\"\xed\xa0\x80\"", 1, "invalid UTF-8"},
        {"\"\xf0\x8f\xbf\xbf\"", 1, "invalid UTF-8"},
        {"\"\xf4\x90\x80\x80\"", 1, "invalid UTF-8"},
        {"\"\xe2\x82\"", 1, "invalid UTF-8"},
        {"\"abcdefgh\xff\"", 9, "invalid UTF-8"},
        {"'a'", 0, "value expected"},
        {"\xef\xbb\xbf{}", 0, "value expected"},
        {"/**/1", 0, "value expected"},
        {"{\"a\":1,\v\"b\":2}", 7, "member name expected"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_json reader;
        cr_expect(read_all(rows[i].text, strlen(rows[i].text), &reader) == HLT_JSON_ERROR,
                  "accepted: %s", rows[i].text);
        cr_expect(eq(sz, reader.at, rows[i].at), "%s", rows[i].text);
        cr_expect(reader.error != NULL && strcmp(reader.error, rows[i].error) == 0, "%s: %s",
                  rows[i].text, reader.error);
    }
}

Test(jsonpull, refuses_a_nul_byte_anywhere)
{
    static const char text[] = "{\"ab\": [1, true]}";

    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        char copy[sizeof(text)];
        struct hlt_json reader;
        memcpy(copy, text, sizeof(text));
        copy[i] = '\0';
        cr_expect(read_all(copy, sizeof(text) - 1, &reader) == HLT_JSON_ERROR, "at %zu", i);
    }
}

Test(jsonpull, refuses_every_prefix_of_an_object)
{
    static const char text[] = "{\"name\":[1.5e3,\"\\ud83d\\ude00 x\",true,false,null,"
                               "{\"\xe2\x82\xac\":-0.25}],\"long name beyond eight\":\"y\"}";
    struct hlt_json reader;

    for (size_t len = 0; len < sizeof(text) - 1; len++) {
        cr_expect(read_all(text, len, &reader) == HLT_JSON_ERROR, "prefix of %zu", len);
    }
    cr_expect(read_all(text, sizeof(text) - 1, &reader) == HLT_JSON_DONE);
}

Test(jsonpull, nests_to_the_limit_and_no_deeper)
{
    static const char *const open[] = {"[", "{\"a\":"}, *const close[] = {"]", "}"};

    for (int kind = 0; kind < 2; kind++) {
        for (int depth = HLT_JSON_DEPTH; depth <= HLT_JSON_DEPTH + 1; depth++) {
            char text[256] = "";
            for (int i = 0; i < depth; i++) {
                strcat(text, open[kind]);
            }
            strcat(text, "1");
            for (int i = 0; i < depth; i++) {
                strcat(text, close[kind]);
            }
            cr_expect(read_text(text) == (depth > HLT_JSON_DEPTH ? HLT_JSON_ERROR : HLT_JSON_DONE),
                      "%s", text);
        }
    }
}

Test(jsonpull, tells_events_in_order_with_depth_and_place)
{
    static const struct {
        enum hlt_json_event event;
        unsigned depth;
        size_t at;
    } want[] = {{HLT_JSON_OBJECT_BEGIN, 1, 0}, {HLT_JSON_NAME, 1, 1},
                {HLT_JSON_ARRAY_BEGIN, 2, 6},  {HLT_JSON_NUMBER, 2, 7},
                {HLT_JSON_STRING, 2, 10},      {HLT_JSON_ARRAY_END, 1, 13},
                {HLT_JSON_OBJECT_END, 0, 14},  {HLT_JSON_DONE, 0, 15}};
    static const char text[] = "{\"a\" :[12,\"x\"]}";
    struct hlt_json reader;

    hlt_json_begin(&reader, text, strlen(text));
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        cr_assert(hlt_json_next(&reader) == want[i].event, "event %zu", i);
        cr_expect(eq(u32, reader.depth, want[i].depth), "event %zu", i);
        cr_expect(eq(sz, reader.at, want[i].at), "event %zu", i);
    }
}

/* ---- numbers ---- */

static bool same_as_strtod(const char *text)
{
    double want = strtod(text, NULL);
    struct hlt_json reader;

    hlt_json_begin(&reader, text, strlen(text));
    if (hlt_json_next(&reader) != HLT_JSON_NUMBER) {
        return !isfinite(want);
    }
    return memcmp(&reader.number, &want, sizeof(want)) == 0 && reader.text_len == strlen(text);
}

Test(jsonpull, converts_hard_numbers_exactly)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "0.0",
        "-0.0e5",
        "1",
        "-1",
        "0.1",
        "0.3",
        "123456789012345",
        "9007199254740991",
        "9007199254740992",
        "9007199254740993",
        "9007199254740993.0",
        "9007199254740994.9",
        "9007199254740995.0",
        "18014398509481989e-1",
        "4503599627370496.5",
        "4503599627370497.5",
        "1e22",
        "1e23",
        "1e-22",
        "1e-23",
        "8.5e22",
        "9999999999999999999",
        "99999999999999999999",
        "9.999999999999999999",
        "0.9999999999999999999",
        "9223372036854775807.5",
        "1e19",
        "1e-19",
        "1234567890123456789e-19",
        "1234567890123456789e-20",
        "0.0000000000000000001",
        "1.7976931348623157e308",
        "1.7976931348623158e308",
        "2.2250738585072014e-308",
        "2.2250738585072011e-308",
        "5e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "1e-400",
        "-1e-400",
        "0e999",
        "0.00e-999",
        "1e00000000000000000005",
        "123456789012345678901234567890123456789012345678901234567890123",
        "1.00000000000000011102230246251565404236316680908203125",
        "1.0000000000000001110223024625156540423631668090820312499999",
        "1.0000000000000001110223024625156540423631668090820312500001"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cr_expect(same_as_strtod(texts[i]), "%s", texts[i]);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

Test(jsonpull, converts_random_numbers_like_strtod)
{
    uint64_t seed = 20261120;

    for (int i = 0; i < 200000; i++) {
        char text[64];
        uint64_t digits = next_random(&seed) >> (next_random(&seed) % 60);
        int point = (int)(next_random(&seed) % 26);
        switch (next_random(&seed) % 4) {
        case 0: /* what sensors and languages print */
            snprintf(text, sizeof(text), "%.*g", 1 + (int)(next_random(&seed) % 17),
                     (double)digits / pow(10, point));
            break;
        case 1: snprintf(text, sizeof(text), "%llue-%d", (unsigned long long)digits, point); break;
        case 2:
            snprintf(text, sizeof(text), "-%llu.%llu", (unsigned long long)(digits >> 40),
                     (unsigned long long)next_random(&seed) >> (next_random(&seed) % 64));
            break;
        default:
            snprintf(text, sizeof(text), "%llue%d", (unsigned long long)digits,
                     (int)(next_random(&seed) % 700) - 350);
        }
        cr_assert(same_as_strtod(text), "%s", text);
    }
}

Test(jsonpull, rounds_halfway_cases_to_even)
{
    uint64_t seed = 7;

    for (int i = 0; i < 100000; i++) { /* 54-bit odd integers lie halfway between two doubles */
        uint64_t tie = (next_random(&seed) >> 10) | UINT64_C(1) << 53 | 1;
        char text[64];
        int zeros = (int)(next_random(&seed) % 3);
        snprintf(text, sizeof(text), "%llu.%.*s", (unsigned long long)tie, zeros + 1, "000");
        cr_assert(same_as_strtod(text), "%s", text);
        snprintf(text, sizeof(text), "%llu.%.*s1", (unsigned long long)tie, zeros, "000");
        cr_assert(same_as_strtod(text), "%s", text);
        snprintf(text, sizeof(text), "%llu.9", (unsigned long long)(tie - 1));
        cr_assert(same_as_strtod(text), "%s", text);
    }
}

Test(jsonpull, limits_the_length_of_a_number)
{
    char text[HLT_JSON_NUMBER_MAX + 2];

    memset(text, '1', sizeof(text));
    text[1] = '.';
    text[HLT_JSON_NUMBER_MAX] = '\0';
    cr_expect(read_text(text) == HLT_JSON_DONE);
    cr_expect(same_as_strtod(text));
    text[HLT_JSON_NUMBER_MAX] = '1';
    text[HLT_JSON_NUMBER_MAX + 1] = '\0';
    cr_expect(read_text(text) == HLT_JSON_ERROR);
}

/* A locale whose decimal point is a comma, installed or made here; false: neither is possible. */
static bool enter_comma_locale(char *directory)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "nl_NL.UTF-8"};
    char command[512];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (setlocale(LC_ALL, names[i]) != NULL) {
            return true;
        }
    }
    if (mkdtemp(directory) == NULL) {
        return false;
    }
    snprintf(command, sizeof(command), "localedef -i de_DE -f UTF-8 '%s/de_DE.UTF-8' 2>&1",
             directory);
    FILE *run = popen(command, "r");
    if (run == NULL || pclose(run) != 0 || setenv("LOCPATH", directory, 1) != 0) {
        return false;
    }
    return setlocale(LC_ALL, "de_DE.UTF-8") != NULL;
}

Test(jsonpull, reads_numbers_the_same_in_a_comma_locale, .timeout = 30)
{
    char directory[] = "/tmp/haltere-locale-XXXXXX";
    char command[64];
    struct hlt_json reader;
    bool entered = enter_comma_locale(directory);

    if (entered) {
        cr_expect(fabs(strtod("1.5", NULL) - 1) < 1e-9, "the point means nothing to strtod here");
        hlt_json_begin(&reader, "0.1234567890123456789012345", 27); /* too long for the fast ways */
        cr_expect(hlt_json_next(&reader) == HLT_JSON_NUMBER);
        cr_expect(reader.number == 0.1234567890123456789012345);
        hlt_json_begin(&reader, "1.5e300", 7);
        cr_expect(hlt_json_next(&reader) == HLT_JSON_NUMBER);
        cr_expect(reader.number == 1.5e300);
        cr_expect(read_text("1,5") == HLT_JSON_ERROR, "a comma is never a decimal point");
    }
    if (strstr(directory, "XXXXXX") == NULL) {
        snprintf(command, sizeof(command), "rm -rf '%s'", directory);
        cr_expect(system(command) == 0);
    }
    if (!entered) {
        cr_skip_test("no locale with a decimal comma, and localedef cannot make one");
    }
}

/* ---- text ---- */

Test(jsonpull, unescapes_within_its_room)
{
    char out[16];
    static const char text[] = "a\\u00e9\\ud83d\\ude00\\n"; /* 1 + 2 + 4 + 1 bytes */

    cr_expect(eq(sz, hlt_json_unescape(out, 9, text, strlen(text)), 8));
    cr_expect(eq(str, out, "a\xc3\xa9\xf0\x9f\x98\x80\n"));
    cr_expect(eq(sz, hlt_json_unescape(out, 8, text, strlen(text)), SIZE_MAX), "no room for NUL");
    cr_expect(eq(sz, hlt_json_unescape(out, 1, "", 0), 0));
    cr_expect(eq(sz, hlt_json_unescape(out, 0, "", 0), SIZE_MAX));
    cr_expect(eq(sz, hlt_json_unescape(out, 16, "x\\u0000", 7), SIZE_MAX));
    cr_expect(eq(sz, hlt_json_unescape(out, 16, "x\0y", 3), SIZE_MAX), "raw NUL");
    cr_expect(eq(sz, hlt_json_unescape(out, 16, "\\ud800", 6), SIZE_MAX));
    cr_expect(eq(sz, hlt_json_unescape(out, 16, "\\", 1), SIZE_MAX));
}

Test(jsonpull, compares_names_decoded)
{
    static const struct {
        const char *text, *want;
        bool same;
    } rows[] = {{"\"ab\"", "ab", true},         {"\"\\u0061b\"", "ab", true},
                {"\"ab\"", "abc", false},       {"\"\\u0061b\"", "abc", false},
                {"\"\\u0061bc\"", "ab", false}, {"\"\\u00e9\"", "\xc3\xa9", true},
                {"\"\\u00e9\"", "\xc3", false}, {"\"\"", "", true},
                {"\"\\n\"", "n", false},        {"\"\\n\"", "\n", true}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_json reader;
        hlt_json_begin(&reader, rows[i].text, strlen(rows[i].text));
        cr_assert(hlt_json_next(&reader) == HLT_JSON_STRING);
        cr_expect(hlt_json_is(&reader, rows[i].want) == rows[i].same, "row %zu", i);
    }
}

Test(jsonpull, skips_whole_values)
{
    static const char text[] = "{\"a\":[1,{\"x\":[]},2],\"b\":{},\"c\":3,\"d\":4}";
    struct hlt_json reader;

    hlt_json_begin(&reader, text, strlen(text));
    cr_assert(hlt_json_skip(&reader, HLT_JSON_NUMBER), "after a scalar there is nothing to skip");
    cr_assert(hlt_json_next(&reader) == HLT_JSON_OBJECT_BEGIN);
    cr_assert(hlt_json_next(&reader) == HLT_JSON_NAME);
    cr_assert(hlt_json_skip(&reader, HLT_JSON_NAME));
    cr_assert(hlt_json_next(&reader) == HLT_JSON_NAME && hlt_json_is(&reader, "b"));
    cr_assert(hlt_json_skip(&reader, hlt_json_next(&reader)));
    cr_assert(hlt_json_next(&reader) == HLT_JSON_NAME && hlt_json_is(&reader, "c"));
    cr_assert(hlt_json_skip(&reader, HLT_JSON_NAME));
    cr_assert(hlt_json_next(&reader) == HLT_JSON_NAME && hlt_json_is(&reader, "d"));
    cr_assert(eq(u32, reader.depth, 1));
    hlt_json_begin(&reader, "[[1,", 4);
    cr_expect(not(hlt_json_skip(&reader, hlt_json_next(&reader))));
}

Test(jsonpull, finds_a_member_at_the_top_only)
{
    struct hlt_json value;
    enum hlt_json_event event = HLT_JSON_ERROR;
    static const char text[] = "{\"x\":{\"kid\":\"inner\"},\"k\\u0069d\":\"outer\",\"n\":null}";

    cr_assert(hlt_json_find(text, strlen(text), "kid", &value, &event));
    cr_expect(event == HLT_JSON_STRING && hlt_json_is(&value, "outer"));
    cr_expect(hlt_json_next(&value) == HLT_JSON_NAME, "pull on from there");
    cr_expect(hlt_json_find(text, strlen(text), "n", &value, &event) && event == HLT_JSON_NULL);
    cr_expect(not(hlt_json_find(text, strlen(text), "none", &value, &event)));
    cr_expect(not(hlt_json_find("[\"kid\"]", 7, "kid", &value, &event)));
    cr_expect(not(hlt_json_find("{\"kid\":}", 8, "kid", &value, &event)));
}

Test(jsonpull, check_refuses_repeated_names)
{
    static const struct {
        const char *text;
        bool object;
        const char *error; /* NULL: fine */
        size_t at;
    } rows[] = {
        {"{\"a\":1,\"b\":2}", true, NULL, 0},
        {"{\"a\":1,\"a\":2}", true, "member name given twice", 7},
        {"{\"a\":1,\"\\u0061\":2}", true, "member name given twice", 7},
        {"{\"a\":{\"a\":{\"a\":1}}}", true, NULL, 0},
        {"[{\"a\":1},{\"a\":1}]", false, NULL, 0},
        {"{\"x\":{\"a\":1},\"y\":[{\"a\":1}],\"a\":1}", true, NULL, 0},
        {"{\"x\":{\"a\":1},\"x\":1}", true, "member name given twice", 13},
        {"{\"x\":[{\"a\":1,\"b\":1,\"a\":1}]}", true, "member name given twice", 19},
        {"[1]", true, "object expected", 0},
        {"[1]", false, NULL, 0},
        {"", true, "document ends too early", 0},
        {"{\"a\":1}}", true, "bytes after the end of the document", 7},
        {"{\"a\":01}", true, "number with a leading zero", 5},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t at = 0;
        const char *error = hlt_json_check(rows[i].text, strlen(rows[i].text), rows[i].object, &at);
        cr_expect(rows[i].error == NULL ? error == NULL
                                        : error != NULL && strcmp(error, rows[i].error) == 0,
                  "%s: %s", rows[i].text, error != NULL ? error : "accepted");
        cr_expect(eq(sz, at, rows[i].at), "%s", rows[i].text);
    }
}

Test(jsonpull, check_limits_the_names_open_at_once)
{
    char *text = malloc(HLT_JSON_NAMES_MAX * 16 + 64);

    for (int names = HLT_JSON_NAMES_MAX; names <= HLT_JSON_NAMES_MAX + 1; names++) {
        size_t len = 0;
        for (int i = 0; i < names; i++) {
            len += (size_t)sprintf(text + len, "%c\"n%d\":%d", i == 0 ? '{' : ',', i, i);
        }
        len += (size_t)sprintf(text + len, "}");
        const char *error = hlt_json_check(text, len, true, NULL);
        cr_expect(names > HLT_JSON_NAMES_MAX
                      ? error != NULL && strcmp(error, "too many member names") == 0
                      : error == NULL,
                  "%d names: %s", names, error != NULL ? error : "fine");
    }
    free(text);
}

Test(jsonpull, check_weighs_a_document_when_asked)
{
    static const struct {
        const char *text;
        size_t weight;
    } rows[] = {{"{}", 3},
                {"[]", 3},
                {"[1,true,\"x\",null]", 7},
                {"[0,-0,123456789012345678901234567890]", 6},
                {"[1.0]", 9},
                {"[1e3]", 9},
                {"[-1.5E-3]", 9},
                {"{\"a\":[1,true,{\"b\":null}],\"c\":\"x\"}", 19}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *text = rows[i].text;
        cr_expect(hlt_json_check_weight(text, strlen(text), false, rows[i].weight, NULL) == NULL,
                  "%s", text);
        const char *error =
            hlt_json_check_weight(text, strlen(text), false, rows[i].weight - 1, NULL);
        cr_expect(error != NULL && strcmp(error, "too many values") == 0, "%s", text);
    }
}

/* It does not convert numbers that cannot be too large. */
Test(jsonpull, check_finds_numbers_out_of_range)
{
    static const struct {
        const char *number;
        bool good;
    } rows[] = {{"1e307", true},
                {"1e308", true},
                {"1e309", false},
                {"1.7976931348623157e308", true},
                {"1.7976931348623159e308", false},
                {"0.00000000000000000001e309", true},
                {"0.00000000000000000001e328", true},
                {"0.00000000000000000001e329", false},
                {"100000000000000000000e288", true},
                {"100000000000000000000e289", false},
                {"0e9999", true},
                {"1e-9999", true},
                {"-1e999999999999999999999", false}};
    char text[80];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(text, sizeof(text), "{\"a\":%s}", rows[i].number);
        const char *error = hlt_json_check(text, strlen(text), true, NULL);
        cr_expect(rows[i].good ? error == NULL
                               : error != NULL && strcmp(error, "number out of range") == 0,
                  "%s: %s", text, error != NULL ? error : "fine");
    }
}

/* Names are found by a hash of their first 256 bytes and the object they are in. */
Test(jsonpull, check_tells_long_and_escaped_names_apart)
{
    char text[4096], name[300];

    memset(name, 'n', sizeof(name));
    for (size_t len = 250; len <= 260; len++) {
        /* "nnn..x" spelt plainly, and once more with its last but one character escaped */
        snprintf(text, sizeof(text), "{\"%.*sx\":1,\"%.*sy\":1,\"%.*s\\u006ex\":1}", (int)len, name,
                 (int)len, name, (int)len - 1, name);
        const char *error = hlt_json_check(text, strlen(text), true, NULL);
        cr_expect(error != NULL && strcmp(error, "member name given twice") == 0, "%zu", len);
        snprintf(text, sizeof(text), "{\"%.*sx\":1,\"%.*sy\":{\"%.*sx\":1},\"%.*s\\u006fx\":1}",
                 (int)len, name, (int)len, name, (int)len, name, (int)len - 1, name);
        cr_expect(hlt_json_check(text, strlen(text), true, NULL) == NULL, "%zu", len);
    }
}

/* An inner object's names go when it ends and leave no hole in the way to the others. */
Test(jsonpull, check_remembers_a_name_over_many_inner_objects)
{
    char *text = malloc(200000);
    size_t len = (size_t)sprintf(text, "{\"first\":1");

    for (int i = 0; i < 500; i++) {
        len += (size_t)sprintf(text + len, ",\"o%d\":{\"first\":1,\"a%d\":2,\"b\":[{\"first\":3}]}",
                               i, i);
    }
    size_t end = len;
    len += (size_t)sprintf(text + len, "}");
    cr_expect(hlt_json_check(text, len, true, NULL) == NULL);
    len = end + (size_t)sprintf(text + end, ",\"first\":1}");
    cr_expect(hlt_json_check(text, len, true, NULL) != NULL);
    free(text);
}

Test(jsonpull, tells_line_and_column)
{
    unsigned line, column;

    hlt_json_position("ab\ncd\n", 0, &line, &column);
    cr_expect(line == 1 && column == 1);
    hlt_json_position("ab\ncd\n", 4, &line, &column);
    cr_expect(line == 2 && column == 2);
    hlt_json_position("ab\ncd\n", 6, &line, &column);
    cr_expect(line == 3 && column == 1);
}

/* A small fuzzer of its own, for builds without clang: flip, insert and delete bytes. */
Test(jsonpull, agrees_with_cjson_on_damaged_documents)
{
    static const char seed_text[] =
        "{\"deviceId\":\"pump-7\",\"t\":[1.25,-0,1e5,\"\\u20ac\\ud83d\\ude00\",true,false,null],"
        "\"sensors\":{\"a\":1,\"b\":{\"a\":2},\"\xc3\xa9\":[]}}";
    static const char spice[] = "{}[]\",:\\0123456789.eE+-utrfn \t\n\x80\xc3";
    uint64_t seed = 99;
    size_t accepted = 0;

    for (int round = 0; round < 100000; round++) {
        char text[sizeof(seed_text) + 8];
        size_t len = sizeof(seed_text) - 1;
        memcpy(text, seed_text, sizeof(seed_text));
        for (uint64_t edits = next_random(&seed) % 3 + 1; edits > 0; edits--) {
            size_t at = next_random(&seed) % len;
            char byte = spice[next_random(&seed) % (sizeof(spice) - 1)];
            if (next_random(&seed) % 2 == 0) {
                text[at] = byte;
            } else {
                memmove(text + at + 1, text + at, len - at);
                text[at] = byte;
                len++;
            }
        }
        const char *problem = json_disagreement(text, len);
        cr_assert(problem == NULL, "%s: %.*s", problem, (int)len, text);
        accepted += hlt_json_check(text, len, false, NULL) == NULL;
    }
    cr_expect(accepted > 1000, "only %zu documents were still JSON", accepted);
}
