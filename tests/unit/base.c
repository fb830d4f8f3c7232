/* base.c - tests of shared/base.c: error texts and the list of problems. */
#include "../../shared/base.h"

#include <criterion/criterion.h>
#include <string.h>

Test(base, fail_formats_the_message_and_returns_the_code)
{
    struct hlt_err err;
    cr_assert(hlt_fail(&err, HLT_EIO, "cannot %s %d", "read", 7) == HLT_EIO);
    cr_assert_str_eq(err.msg, "cannot read 7");
    cr_assert(hlt_fail(NULL, HLT_EFULL, "nobody listens") == HLT_EFULL);
}

Test(base, fail_cuts_a_message_that_is_too_long)
{
    struct hlt_err err;
    char text[2000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)hlt_fail(&err, HLT_EIO, "%s", text);
    cr_assert(strlen(err.msg) == sizeof(err.msg) - 1);
}

Test(base, problems_are_kept_to_the_limit_and_counted_beyond_it)
{
    static struct hlt_problems problems;
    for (unsigned i = 0; i < HLT_PROBLEMS_MAX; i++) {
        hlt_problems_add(&problems, HLT_PROBLEM_ERROR, "f", i + 1, 0, "problem %u", i);
    }
    cr_assert(problems.count == HLT_PROBLEMS_MAX);
    hlt_problems_add(&problems, HLT_PROBLEM_ERROR, "f", 1, 0, "one more");
    hlt_problems_add(&problems, HLT_PROBLEM_WARNING, "f", 1, 0, "and a warning");
    cr_assert(problems.count == HLT_PROBLEMS_MAX);
    cr_assert(problems.errors == HLT_PROBLEMS_MAX + 1);
    cr_assert(problems.warnings == 1);
    cr_assert_str_eq(problems.item[HLT_PROBLEMS_MAX - 1].text, "problem 99");
    hlt_problems_free(&problems);
    cr_assert(problems.count == 0 && problems.errors == 0);
}

Test(base, a_problem_reads_file_line_column_kind_text)
{
    static struct hlt_problems problems;
    static const char *const want[] = {
        "a.conf:3:7: error: bad word",
        "a.conf:3: warning: bad line",
        "a.conf: error: bad file",
        "error: bad world",
    };
    hlt_problems_add(&problems, HLT_PROBLEM_ERROR, "a.conf", 3, 7, "bad word");
    hlt_problems_add(&problems, HLT_PROBLEM_WARNING, "a.conf", 3, 0, "bad line");
    hlt_problems_add(&problems, HLT_PROBLEM_ERROR, "a.conf", 0, 0, "bad file");
    hlt_problems_add(&problems, HLT_PROBLEM_ERROR, NULL, 0, 0, "bad %s", "world");
    for (size_t i = 0; i < 4; i++) {
        char line[200];
        hlt_problem_format(&problems, i, line, sizeof(line));
        cr_expect_str_eq(line, want[i], "row %zu: %s", i, line);
    }
    char cut[10];
    hlt_problem_format(&problems, 0, cut, sizeof(cut));
    cr_assert_str_eq(cut, "a.conf:3:");
    hlt_problems_free(&problems);
}

Test(base, a_problem_shows_control_bytes_and_bad_utf8_harmlessly)
{
    static struct hlt_problems problems;
    char line[200];
    hlt_problems_add(&problems, HLT_PROBLEM_ERROR, "x\x1b[2J", 1, 0, "a\nb\x1b[31m\xff");
    cr_assert_str_eq(problems.item[0].text, "a\\x0ab\\x1b[31m\\xff");
    hlt_problem_format(&problems, 0, line, sizeof(line));
    cr_assert_str_eq(line, "x\\x1b[2J:1: error: a\\x0ab\\x1b[31m\\xff");
    hlt_problems_free(&problems);
}

Test(base, freeing_nothing_is_fine)
{
    static struct hlt_problems problems;
    hlt_problems_free(&problems);
    hlt_problems_free(NULL);
    cr_assert(problems.count == 0);
}
