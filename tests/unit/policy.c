/* The policy language: each production, each mistake with its place, includes, `use`, and the tests
 * in a policy. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../acl/policy.h"
#include "../../acl/sources.h"

static enum hlt_rc parse(const char *text, size_t len, struct hlt_problems *problems)
{
    struct hlt_policy *policy = (struct hlt_policy *)1;
    enum hlt_rc rc;

    memset(problems, 0, sizeof(*problems));
    rc = hlt_policy_parse(&policy, text, len, "p.acl", NULL, problems);
    cr_expect((rc == HLT_OK) == (policy != NULL), "a policy if and only if it is good");
    cr_expect((rc == HLT_OK) == (problems->errors == 0), "errors are told");
    hlt_policy_free(policy);
    return rc;
}

/* The first problem as a person sees it. */
static const char *first_problem(const struct hlt_problems *problems)
{
    static char text[1024];

    text[0] = '\0';
    if (problems->count > 0) {
        hlt_problem_format(problems, 0, text, sizeof(text));
    }
    return text;
}

Test(policy, every_production_is_understood)
{
    static const char *const lines[] = {
        "anyone\n allow read a",
        "anonymous\n allow write a",
        "user bob\n allow readwrite a/+/b",
        "user \"bob smith\"\n deny all a/#",
        "user bob\n",
        "role r\n allow subscribe,unsubscribe =a/+",
        "role r from groups\n allow read,write,subscribe,unsubscribe #",
        "role \"a role\" from \"a claim\"\n",
        "role r ordered\n allow read a",
        "role r from groups ordered\n deny read a",
        "user bob\n topic readwrite a\nanonymous\n topic deny \"b c\"",
        "pattern write d/%c/#\npattern deny x\nuser u\n topic write a/#",
        "role r\n limit payload 4KiB\n limit messages 10/s burst 30 on a/#",
        "role r\n allow read site/%{site}/%d/x",
        "anyone\n deny read a/%c/%u/%{http://x.example:y}",
        "anyone\n allow read a except b",
        "anyone\n allow read a except b/# except c/%d except \"d e\"",
        "anyone\n deny subscribe # except =#",
        "anyone\n allow read \"a b/c d/#\"",
        "anyone\n deny subscribe =\"a b/#\"",
        "anyone\n allow read a/\"b\"",
        "anyone\n allow read //",
        "anyone\n allow read 50%/a%20b/x%",
        "anyone\n allow read $SYS/#",
        "anyone\n\tallow\t read \t a\t\r",
        "# a comment\n   # another\n\n",
        "role a\n use b\nrole b\n",
        "role a\n use \"b\" from g\nrole b\nrole b from g\n",
        "user bob\n use op\nanonymous\n use op\nanyone\n use op\nrole op\n allow read a",
        "expect deny read a as",
        "expect deny read a as sub=d1",
        "expect deny subscribe \"a b/#\" as user=x client=\"y z\" roles=a roles=b x=",
        "anyone\n allow read d/%{k}/t\nexpect allow read d/2/t as sub=g k=1 k=2\n"
        "expect deny read d/3/t as sub=g k=1 k=2",
    };

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct hlt_problems problems;
        char text[512];

        (void)snprintf(text, sizeof(text), "# first\n\nhaltere 1\n%s", lines[i]);
        cr_expect(parse(text, strlen(text), &problems) == HLT_OK, "'%s': %s", lines[i],
                  first_problem(&problems));
        cr_expect(problems.count == 0, "'%s': %s", lines[i], first_problem(&problems));
        hlt_problems_free(&problems);
    }
}

Test(policy, a_mistake_is_told_with_its_place_and_how_to_mend_it)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"anyone\n", "p.acl:1:1: error: a policy begins with the line 'haltere 1'"},
        {"\n# x\nrole a\n", "p.acl:3:1: error: a policy begins with the line 'haltere 1'"},
        {"haltere 2\n",
         "p.acl:1:9: error: this version knows the policy language 'haltere 1' only"},
        {"haltere\n", "p.acl:1:1: error: this version knows the policy language 'haltere 1' only"},
        {"haltere 1 x\n",
         "p.acl:1:9: error: this version knows the policy language 'haltere 1' only"},
        {"\xef\xbb\xbfhaltere 1\n",
         "p.acl:1:1: error: the file begins with a byte order mark; save it as "
         "UTF-8 without one"},
        {"haltere 1\nhaltere 1\n",
         "p.acl:2:1: error: 'haltere 1' stands once, as a file's first line"},
        {"haltere 1\nalow read a\n",
         "p.acl:2:1: error: unknown word 'alow'; did you mean 'allow'?"},
        {"haltere 1\nAllow read a\n",
         "p.acl:2:1: error: unknown word 'Allow'; did you mean 'allow'?"},
        {"haltere 1\n\"allow\" read a\n",
         "p.acl:2:1: error: unknown word 'allow'; did you mean 'allow'?"},
        {"haltere 1\nxyzzy\n", "p.acl:2:1: error: unknown word 'xyzzy'"},
        {"haltere 1\nx\x01y\n", "p.acl:2:1: error: unknown word 'x\\x01y'"},
        {"haltere 1\nanyone\xff\n", "p.acl:2:7: error: this line is not UTF-8"},
        {"haltere 1\nallow read a\n",
         "p.acl:2:1: error: this line stands in no section; put 'anyone', "
         "'anonymous', 'user NAME' or 'role NAME' above it"},
        {"haltere 1\nuse a\n", "p.acl:2:1: error: this line stands in no section; put 'anyone', "
                               "'anonymous', 'user NAME' or 'role NAME' above it"},
        {"haltere 1\nanyone\nallow\n",
         "p.acl:3:6: error: a rule is 'allow ACCESS FILTER'; the access is missing"},
        {"haltere 1\nanyone\ndeny read\n",
         "p.acl:3:10: error: a rule is 'deny ACCESS FILTER'; the filter is missing"},
        {"haltere 1\nanyone\nallow raed a\n",
         "p.acl:3:7: error: 'raed' is no access (read, write, readwrite, subscribe, unsubscribe, "
         "all; "
         "several with commas and no blanks); did you mean 'read'?"},
        {"haltere 1\nanyone\nallow read,,write a\n",
         "p.acl:3:12: error: '' is no access (read, write, readwrite, subscribe, unsubscribe, all; "
         "several with commas and no blanks)"},
        {"haltere 1\nanyone\nallow read,wriet a\n",
         "p.acl:3:12: error: 'wriet' is no access (read, write, readwrite, subscribe, unsubscribe, "
         "all; "
         "several with commas and no blanks); did you mean 'write'?"},
        {"haltere 1\nanyone\nallow read a # note\n",
         "p.acl:3:14: error: a comment stands on a line of its own: after a word, # is a filter"},
        {"haltere 1\nanyone\nallow read a b\n",
         "p.acl:3:14: error: 'b' is one word too many; a text with blanks must be in quotes"},
        {"haltere 1\nanyone\nallow read a exept b\n",
         "p.acl:3:14: error: 'exept' instead of 'except'; did you mean 'except'?"},
        {"haltere 1\nanyone\nallow read a except\n",
         "p.acl:3:14: error: the filter behind 'except' is missing"},
        {"haltere 1\nanyone\nallow read a except b+\n",
         "p.acl:3:21: error: in 'b+' the + must be a whole level: between two /, or at an end"},
        {"haltere 1\nanyone\nallow read \"\"\n", "p.acl:3:12: error: the filter is empty"},
        {"haltere 1\nanyone\nallow read x=\"a\"\n",
         "p.acl:3:12: error: a filter is wanted here, not key=\"value\"; quote all of it"},
        {"haltere 1\nanyone\nallow read a/#b\n",
         "p.acl:3:14: error: in '#b' the # must be a whole level: between two /, or at an end"},
        {"haltere 1\nanyone\nallow read \"a/#/b\"\n",
         "p.acl:3:15: error: # must be the last level of a filter"},
        {"haltere 1\nanyone\ndeny subscribe =a/#/b\n",
         "p.acl:3:19: error: # must be the last level of a filter"},
        {"haltere 1\nanyone\nallow read a\x01\n",
         "p.acl:3:12: error: a filter cannot hold control bytes"},
        {"haltere 1\nanyone\nallow read a/%q\n", "p.acl:3:14: error: '%q' is no variable; there "
                                                 "are %c, %u, %d and %{claim}, each a whole level"},
        {"haltere 1\nanyone\nallow read p%c/x\n",
         "p.acl:3:12: error: 'p%c' is no variable; there are %c, %u, %d and %{claim}, each a whole "
         "level"},
        {"haltere 1\nanyone\nallow read a/%{x\n",
         "p.acl:3:14: error: '%{x' is no variable; there are %c, %u, %d and %{claim}, each a whole "
         "level"},
        {"haltere 1\nanyone\nallow read a/%{x}%{y}\n",
         "p.acl:3:14: error: '%{x}%{y}' is no variable; there are %c, %u, %d and %{claim}, each a "
         "whole level"},
        {"haltere 1\nanyone\nallow read a/%{}\n",
         "p.acl:3:14: error: the name of the claim is missing"},
        {"haltere 1\nanyone\nallow read =a\n", "p.acl:3:12: error: a literal filter (=) is for "
                                               "subscribe and unsubscribe only; leave the = out, "
                                               "or name only these accesses"},
        {"haltere 1\nanyone\nallow all =a\n", "p.acl:3:11: error: a literal filter (=) is for "
                                              "subscribe and unsubscribe only; leave the = out, "
                                              "or name only these accesses"},
        {"haltere 1\nanyone\nallow read a except =b\n",
         "p.acl:3:21: error: a literal filter (=) is for subscribe and unsubscribe only; leave the "
         "= out, "
         "or name only these accesses"},
        {"haltere 1\nanyone\nallow subscribe $share/g/a\n",
         "p.acl:3:17: error: a shared subscription is judged by the filter behind $share/NAME/: "
         "write that "
         "one"},
        {"haltere 1\nanyone\nallow read \"a\n",
         "p.acl:3:12: error: this quote is never closed; end the text with another \""},
        {"haltere 1\nanyone\nallow read \"a\"b\n", "p.acl:3:15: error: after a closing quote a "
                                                   "blank is needed; a quoted text cannot hold \""},
        {"haltere 1\nanyone x\n",
         "p.acl:2:8: error: 'x' is one word too many; a text with blanks must be in "
         "quotes"},
        {"haltere 1\nanonymous x\n",
         "p.acl:2:11: error: 'x' is one word too many; a text with blanks must be "
         "in quotes"},
        {"haltere 1\nuser\n", "p.acl:2:5: error: the user name is missing"},
        {"haltere 1\nuser \"\"\n",
         "p.acl:2:6: error: this is no user name; a name with odd characters is quoted"},
        {"haltere 1\nuser a b\n",
         "p.acl:2:8: error: 'b' is one word too many; a text with blanks must be in "
         "quotes"},
        {"haltere 1\nrole\n", "p.acl:2:5: error: the role name is missing"},
        {"haltere 1\nrole a form g\n",
         "p.acl:2:8: error: 'form' instead of 'from CLAIM'; did you mean 'from'?"},
        {"haltere 1\nrole a from\n", "p.acl:2:12: error: the name of the claim is missing"},
        {"haltere 1\nrole a from g h\n",
         "p.acl:2:15: error: 'h' is one word too many; a text with blanks must "
         "be in quotes"},
        {"haltere 1\nrole a orderd\n", "p.acl:2:8: error: 'orderd' instead of 'from CLAIM'"},
        {"haltere 1\nrole a ordered x\n", "p.acl:2:8: error: 'ordered' instead of 'from CLAIM'"},
        {"haltere 1\nrole a ordered\nrole a\n",
         "p.acl:3:6: error: this role stands twice, once 'ordered' and once not; say the same"},
        {"haltere 1\nrole a from g\nrole a from g ordered\n",
         "p.acl:3:6: error: this role stands twice, once 'ordered' and once not; say the same"},
        {"haltere 1\nrole ordered\nuse a ordered\n",
         "p.acl:3:7: error: 'ordered' instead of 'from CLAIM'"},
        {"haltere 1\nanyone\nlimit payload four\n",
         "p.acl:3:15: error: a limit of payload is a size, as in 4KiB"},
        {"haltere 1\ndefault\n", "p.acl:2:8: error: this line is 'default allow ACCESSES'; without "
                                 "it what nobody allows is denied"},
        {"haltere 1\ndefault deny read\n", "p.acl:2:9: error: this line is 'default allow "
                                           "ACCESSES'; without it what nobody allows is "
                                           "denied"},
        {"haltere 1\ndefault allow raed\n",
         "p.acl:2:15: error: 'raed' is no access (read, write, readwrite, subscribe, unsubscribe, "
         "all; several with commas and no blanks); did you mean 'read'?"},
        {"haltere 1\ndefault allow read write\n", "p.acl:2:20: error: this line is 'default allow "
                                                  "ACCESSES'; without it what nobody allows is "
                                                  "denied"},
        {"haltere 1\ntopic a\n", "p.acl:2:8: error: this line is 'topic read|write|readwrite|deny "
                                 "FILTER', all three; a filter with blanks is quoted"},
        {"haltere 1\npattern raed %c/x\n", "p.acl:2:9: error: 'raed' is no access of this line "
                                           "(read, write, readwrite, deny); did you "
                                           "mean 'read'?"},
        {"haltere 1\nrole a\ntopic read a\n",
         "p.acl:3:1: error: a 'topic' line belongs to a user name: put it under 'user NAME' or "
         "'anonymous', or write 'allow' or 'deny' here"},
        {"haltere 1\npattern read a/b+\n",
         "p.acl:2:17: error: in 'a/b+': + must be a whole level: between two /, or at an end"},
        {"haltere 1\npattern read =a\n", "p.acl:2:14: error: this is no filter of such a line"},
        {"haltere 1\ninclude x.acl\n",
         "p.acl:2:9: error: only a policy in a file can include others"},
        {"haltere 1\nrole a\nuse\n", "p.acl:3:4: error: the role name is missing"},
        {"haltere 1\nrole sensor\nrole b\nuse sensr\n",
         "p.acl:4:5: error: there is no role 'sensr'; did you mean 'sensor'?"},
        {"haltere 1\nrole a\nuse completely-else\n",
         "p.acl:3:5: error: there is no role 'completely-else' in this policy"},
        {"haltere 1\nrole a\nuse b from h\nrole b from g\n",
         "p.acl:3:5: error: there is no role 'b' from that claim"},
        {"haltere 1\nrole a\nuse b\nrole b\nrole b from g\n",
         "p.acl:3:5: error: there are several roles 'b'; say which: use NAME from CLAIM"},
        {"haltere 1\nrole a\nuse a\n",
         "p.acl:3:5: error: this comes back to the role it stands in: use 'a'; a "
         "role cannot use itself"},
        {"haltere 1\nrole a\nuse b\nrole b\nuse c\nrole c\nuse a\n",
         "p.acl:7:5: error: this comes back to the role it stands in: use 'a'; a role cannot use "
         "itself"},
        {"haltere 1\nexpect allow read a\n",
         "p.acl:2:20: error: a test is 'expect allow|deny ACCESS "
         "TOPIC as KEY=VALUE...'; 'as' with nothing "
         "behind it is an anonymous client"},
        {"haltere 1\nexpect maybe read a as\n",
         "p.acl:2:8: error: 'maybe' instead of allow or deny"},
        {"haltere 1\nexpect deny readwrite a as\n",
         "p.acl:2:13: error: a test asks for one access: read, write, subscribe or unsubscribe"},
        {"haltere 1\nexpect deny read a like sub=x\n", "p.acl:2:20: error: 'like' instead of 'as'"},
        {"haltere 1\nexpect deny read =a as sub=x\n",
         "p.acl:2:18: error: the topic is missing or is not one"},
        {"haltere 1\nexpect deny read a as sub\n",
         "p.acl:2:23: error: 'sub' is not KEY=VALUE, as in sub=d1 or roles=operator"},
        {"haltere 1\nexpect deny read a as sub=a sub=b\n",
         "p.acl:2:29: error: 'sub' is given twice"},
        {"haltere 1\nexpect allow read a as sub=x\n",
         "p.acl:2:1: error: this test expects allow, but it is denied: no rule allows it"},
        {"haltere 1\nexpect allow read a/+ as sub=x\n",
         "p.acl:2:1: error: this test expects allow, but it is denied: the topic is malformed"},
        {"haltere 1\nexpect deny unsubscribe a as sub=x\n",
         "p.acl:2:1: error: this test expects deny, but it is allowed: no rule denies it"},
        {"haltere 1\nrole r\n  allow read  a/#\nexpect deny read a as sub=x roles=q roles=r\n",
         "p.acl:4:1: error: this test expects deny, but it is allowed by p.acl:3 'allow read  a/#' "
         "(role r)"},
        {"haltere 1\nrole r from g\nallow read a\ndeny read a\nexpect allow read a as g=r\n",
         "p.acl:5:1: error: this test expects allow, but it is denied by p.acl:4 'deny read a' "
         "(role r from g)"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_problems problems;

        cr_expect(parse(rows[i].text, strlen(rows[i].text), &problems) == HLT_EPARSE, "row %zu", i);
        cr_expect(strcmp(first_problem(&problems), rows[i].want) == 0, "row %zu:\n got %s\nwant %s",
                  i, first_problem(&problems), rows[i].want);
        hlt_problems_free(&problems);
    }
}

Test(policy, all_mistakes_are_told_at_once)
{
    static const char text[] =
        "haltere 1\nanyone\nallow raed a\nallow read a+\nxyzzy\nuse nobody\n";
    struct hlt_problems problems;

    cr_expect(parse(text, strlen(text), &problems) == HLT_EPARSE);
    cr_expect(problems.errors == 4 && problems.count == 4, "%zu", problems.errors);
    hlt_problems_free(&problems);
}

Test(policy, a_nul_byte_is_a_mistake_and_hides_nothing)
{
    static const char text[] = "haltere 1\nanyone\nallow read a\0b\n";
    struct hlt_problems problems;

    cr_expect(parse(text, sizeof(text) - 1, &problems) == HLT_EPARSE);
    cr_expect(strcmp(first_problem(&problems), "p.acl:3:13: error: a NUL byte; a policy is text") ==
                  0,
              "%s", first_problem(&problems));
    hlt_problems_free(&problems);
}

Test(policy, what_is_seldom_meant_is_a_warning_and_no_error)
{
    static const char text[] =
        "haltere 1\nanyone\nallow read a/%c\nallow write %d/#\ndeny write %c/x\n";
    struct hlt_problems problems;

    cr_expect(parse(text, strlen(text), &problems) == HLT_OK);
    cr_assert(problems.warnings == 2 && problems.count == 2);
    cr_expect(problems.item[0].line == 3 &&
              strstr(problems.item[0].text, "%d is the device") != NULL);
    cr_expect(problems.item[1].line == 4 &&
              strstr(problems.item[1].text, "begins with a variable") != NULL);
    hlt_problems_free(&problems);
}

/* ---- limits: at them, and one past them ---- */

/* "haltere 1\nanyone\n" + head, then `count` times `each` with its number, then tail; parsed. */
static enum hlt_rc repeated(const char *head, const char *each, unsigned count, const char *tail,
                            struct hlt_problems *problems)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    enum hlt_rc rc;

    fprintf(out, "haltere 1\nanyone\n%s", head);
    for (unsigned i = 0; i < count; i++) {
        for (const char *at = each; *at != '\0'; at++) {
            if (*at == '@') {
                fprintf(out, "%u", i);
            } else {
                fputc(*at, out);
            }
        }
    }
    fprintf(out, "%s", tail);
    fclose(out);
    rc = parse(text, len, problems);
    free(text);
    return rc;
}

Test(policy, each_limit_holds_at_it_and_one_past_it)
{
    static const struct {
        const char *head, *each;
        unsigned limit;
        const char *tail, *want;
    } rows[] = {
        {"allow read a", "/b", 199, "\n", "a filter has at most 200 levels"},
        {"allow read ", "a", 65535, "\n", "the filter is longer than 65535 bytes"},
        {"", "allow read d/%{k@}\n", 64, "", "more than 64 different claims in a policy"},
        {"allow read d/%d/%{k}\n", "allow read d/%{k@}\n", 62, "",
         "more than 64 different variables"},
        {"allow read a", " except b@", 64, "\n", "more than 64 'except' in a rule"},
        {"expect deny read a as", " k@=v", 251, "\n", "more than 256 words in a line"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_problems problems;

        cr_expect(repeated(rows[i].head, rows[i].each, rows[i].limit, rows[i].tail, &problems) ==
                      HLT_OK,
                  "row %zu: %s", i, first_problem(&problems));
        hlt_problems_free(&problems);
        cr_expect(repeated(rows[i].head, rows[i].each, rows[i].limit + 1, rows[i].tail,
                           &problems) == HLT_EPARSE,
                  "row %zu", i);
        cr_expect(strstr(first_problem(&problems), rows[i].want) != NULL, "row %zu: %s", i,
                  first_problem(&problems));
        hlt_problems_free(&problems);
    }
}

Test(policy, more_rules_than_fit_are_refused)
{
    struct hlt_problems problems;

    cr_expect(repeated("", "allow read a\n", HLT_POLICY_RULES_MAX, "", &problems) == HLT_OK);
    hlt_problems_free(&problems);
    cr_expect(repeated("", "allow read a\n", HLT_POLICY_RULES_MAX + 1, "", &problems) == HLT_EFULL);
    cr_expect(strstr(first_problem(&problems), "more than 1000000 rules") != NULL);
    hlt_problems_free(&problems);
}

/* Every name was compared with every other: over a minute for these. */
Test(policy, many_unknown_roles_are_told_without_comparing_all_names, .timeout = 20)
{
    struct hlt_problems problems;

    cr_expect(repeated("", "role name@\nuse nome@\n", 30000, "", &problems) == HLT_EPARSE);
    cr_expect(problems.errors == 30000);
    cr_expect(strstr(first_problem(&problems), "; did you mean 'name0'?") != NULL, "%s",
              first_problem(&problems));
    hlt_problems_free(&problems);
}

/* ---- files ---- */

static char folder[] = "/tmp/hlt-policy-XXXXXX";

static void write_file(const char *name, const char *text)
{
    char path[256];
    FILE *out;

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    out = fopen(path, "w");
    cr_assert(out != NULL, "%s", path);
    fputs(text, out);
    fclose(out);
    cr_assert(chmod(path, 0644) == 0);
}

static void make_folder(const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    cr_assert(mkdir(path, 0755) == 0);
}

static void begin_files(void)
{
    cr_assert(mkdtemp(folder) != NULL);
    make_folder("classes");
}

static void remove_files(void)
{
    char command[128];

    (void)snprintf(command, sizeof(command), "rm -rf %s", folder);
    cr_expect(system(command) == 0);
}

/* Load main.acl of the folder; the first problem must hold `want` (NULL: it must load). */
static struct hlt_policy *load(const char *want)
{
    struct hlt_problems problems = {0};
    struct hlt_policy *policy;
    char path[256];
    enum hlt_rc rc;

    (void)snprintf(path, sizeof(path), "%s/main.acl", folder);
    rc = hlt_policy_load(&policy, path, NULL, &problems);
    if (want == NULL) {
        cr_expect(rc == HLT_OK, "%s", first_problem(&problems));
    } else {
        cr_expect(rc != HLT_OK && policy == NULL);
        cr_expect(strstr(first_problem(&problems), want) != NULL, "%s", first_problem(&problems));
    }
    hlt_problems_free(&problems);
    return policy;
}

Test(policy, includes_are_read_in_order_each_once_with_sections_of_their_own, .init = begin_files,
     .fini = remove_files)
{
    struct hlt_policy *policy;
    struct hlt_policy_counts counts;
    struct hlt_rule_ref ref;

    write_file("classes/b.acl", "role b\nallow read b\n");
    write_file("classes/a.acl", "haltere 1\nrole a\nallow read a\ninclude b.acl\n");
    write_file("main.acl", "haltere 1\nanyone\nallow read first\ninclude classes/*.acl\n"
                           "allow read last\ninclude classes/a.acl\ninclude *.acl\n"
                           "expect allow read last as\nexpect deny read b as\n"
                           "expect allow read b as roles=b\n");
    policy = load(NULL);
    cr_assert(policy != NULL);
    hlt_policy_counts(policy, &counts);
    cr_expect(counts.rules == 4 && counts.files == 3 && counts.expects == 3);
    hlt_policy_rule(policy, 2, &ref);
    cr_expect(strcmp(ref.text, "allow read b") == 0 && strcmp(ref.section, "role b") == 0 &&
                  ref.line == 2,
              "%s", ref.text);
    cr_expect(strstr(ref.file, "/classes/b.acl") != NULL);
    hlt_policy_rule(policy, 3, &ref);
    cr_expect(strcmp(ref.text, "allow read last") == 0 && strcmp(ref.section, "anyone") == 0);
    hlt_policy_free(policy);
}

Test(policy, a_section_ends_with_its_file, .init = begin_files, .fini = remove_files)
{
    write_file("classes/a.acl", "allow read a\n");
    write_file("main.acl", "haltere 1\nanyone\ninclude classes/a.acl\n");
    (void)load("classes/a.acl:1:1: error: this line stands in no section");
    write_file("classes/a.acl", "role a\n");
    write_file("main.acl", "haltere 1\ninclude classes/a.acl\nallow read x\n");
    (void)load("main.acl:3:1: error: this line stands in no section");
}

Test(policy, includes_stay_in_the_folder, .init = begin_files, .fini = remove_files)
{
    char link[256];

    write_file("main.acl", "haltere 1\ninclude /etc/hosts\n");
    (void)load("main.acl:2:9: error: an include is a path inside the policy's folder: no leading "
               "/, no ..");
    write_file("main.acl", "haltere 1\ninclude ../x.acl\n");
    (void)load("no leading /, no ..");
    write_file("main.acl", "haltere 1\ninclude classes/..\n");
    (void)load("no leading /, no ..");
    write_file("main.acl", "haltere 1\ninclude nowhere.acl\n");
    (void)load("main.acl:2:9: error: no file matches 'nowhere.acl'");
    write_file("main.acl", "haltere 1\ninclude classes/*.acl\n");
    (void)load("main.acl:2:9: error: no file matches 'classes/*.acl'");
    write_file("main.acl", "haltere 1\ninclude a.acl b.acl\n");
    (void)load("one word too many");
    write_file("main.acl", "haltere 1\ninclude hosts\n");
    (void)snprintf(link, sizeof(link), "%s/hosts", folder);
    cr_assert(symlink("/etc/hosts", link) == 0);
    (void)load("is not inside the policy's folder");
    write_file("classes/ok..acl", "haltere 1\nanyone\nallow read a\n");
    write_file("main.acl", "haltere 1\ninclude classes/ok..acl\n");
    hlt_policy_free(load(NULL));
}

Test(policy, includes_are_at_most_eight_deep, .init = begin_files, .fini = remove_files)
{
    for (int i = 1; i <= 9; i++) {
        char name[32], text[64];

        (void)snprintf(name, sizeof(name), "f%d.acl", i);
        (void)snprintf(text, sizeof(text), "include f%d.acl\n", i + 1);
        write_file(name, i < 9 ? text : "anyone\n");
    }
    write_file("f8.acl", "anyone\n");
    write_file("main.acl", "haltere 1\ninclude f1.acl\n");
    hlt_policy_free(load(NULL));
    write_file("f8.acl", "include f9.acl\n");
    (void)load("f8.acl:1:9: error: includes are more than 8 deep");
}

Test(policy, a_file_others_may_write_or_that_is_missing_is_not_taken, .init = begin_files,
     .fini = remove_files)
{
    char path[256];

    (void)load("main.acl");
    write_file("main.acl", "haltere 1\nanyone\n");
    (void)snprintf(path, sizeof(path), "%s/main.acl", folder);
    cr_assert(chmod(path, 0666) == 0);
    (void)load("chmod");
    cr_assert(chmod(path, 0644) == 0);
    hlt_policy_free(load(NULL));
    write_file("classes/a.acl", "anyone\n");
    write_file("main.acl", "haltere 1\ninclude classes/a.acl\n");
    (void)snprintf(path, sizeof(path), "%s/classes/a.acl", folder);
    cr_assert(chmod(path, 0666) == 0);
    (void)load("main.acl:2:9: error:");
}

/* Load main.acl again into `sources`; they hold the folder as it is now. */
static bool sources_changed(const struct hlt_policy_sources *sources)
{
    uint8_t now[16];

    return hlt_policy_sources_changed(sources, now);
}

static void load_sources(struct hlt_policy_sources *sources, enum hlt_rc want)
{
    struct hlt_policy_reading how = {.sources = sources};
    struct hlt_problems problems = {0};
    struct hlt_policy *policy = NULL;
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/main.acl", folder);
    cr_expect(hlt_policy_load(&policy, path, &how, &problems) == want, "%s",
              first_problem(&problems));
    cr_expect(!sources_changed(sources));
    hlt_policy_free(policy);
    hlt_problems_free(&problems);
}

static void remove_file(const char *name)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    cr_assert(unlink(path) == 0);
}

Test(policy, a_change_of_what_it_was_read_from_is_seen, .init = begin_files, .fini = remove_files)
{
    struct hlt_policy_sources sources = {0};
    char target[256], path[256];

    write_file("classes/a.acl", "role a\ninclude deep.inc\n");
    write_file("classes/deep.inc", "role deep\n");
    write_file("main.acl", "haltere 1\ninclude classes/*.acl\n");
    load_sources(&sources, HLT_OK);
    cr_expect(sources.count == 3);
    write_file("classes/note.txt", "no part of it");
    cr_expect(!sources_changed(&sources), "a file that no pattern names");
    write_file("classes/a.acl", "role a\nallow read a\ninclude deep.inc\n");
    cr_expect(sources_changed(&sources), "an included file was edited");
    load_sources(&sources, HLT_OK);
    write_file("classes/deep.inc", "role deep\nallow read d\n");
    cr_expect(sources_changed(&sources), "what an included file includes");
    load_sources(&sources, HLT_OK);
    write_file("classes/b.acl", "role b\n");
    cr_expect(sources_changed(&sources), "a file more");
    load_sources(&sources, HLT_OK);
    remove_file("classes/b.acl");
    cr_expect(sources_changed(&sources), "a file less");
    load_sources(&sources, HLT_OK);
    write_file("main.acl", "haltere 1\ninclude classes/*.acl\nanyone\n");
    cr_expect(sources_changed(&sources), "the policy's own file");
    load_sources(&sources, HLT_OK);
    write_file("v2", "role b\n");
    (void)snprintf(target, sizeof(target), "%s/v2", folder);
    (void)snprintf(path, sizeof(path), "%s/classes/b.acl", folder);
    cr_assert(symlink(target, path) == 0);
    load_sources(&sources, HLT_OK);
    write_file("v2", "role b\nallow read b\n");
    cr_expect(sources_changed(&sources), "what a link leads to");
    hlt_policy_sources_free(&sources);
}

Test(policy, a_policy_with_mistakes_is_watched_for_the_mending, .init = begin_files,
     .fini = remove_files)
{
    struct hlt_policy_sources sources = {0};

    load_sources(&sources, HLT_EIO); /* there is no file at all */
    write_file("main.acl", "haltere 1\ninclude classes/*.acl\n");
    cr_expect(sources_changed(&sources));
    load_sources(&sources, HLT_EPARSE); /* nothing to include */
    write_file("classes/a.acl", "role a\nalow read a\n");
    cr_expect(sources_changed(&sources));
    load_sources(&sources, HLT_EPARSE); /* a mistake there */
    write_file("classes/a.acl", "role a\nallow read a\n");
    cr_expect(sources_changed(&sources));
    load_sources(&sources, HLT_OK);
    hlt_policy_sources_free(&sources);
}

Test(policy, different_includes_are_bounded, .init = begin_files, .fini = remove_files)
{
    char *text = malloc(64 * (HLT_POLICY_INCLUDES_MAX + 2));
    size_t len;

    cr_assert(text != NULL);
    len = (size_t)sprintf(text, "haltere 1\n");
    write_file("a.acl", "role a\n");
    for (int i = 0; i < HLT_POLICY_INCLUDES_MAX; i++) {
        len += (size_t)sprintf(text + len, "include [a%d].acl\ninclude [a0].acl\n", i);
    }
    write_file("main.acl", text);
    hlt_policy_free(load(NULL)); /* the same pattern again is none more */
    (void)sprintf(text + len, "include a.acl\n");
    write_file("main.acl", text);
    (void)load("main.acl:2002:9: error: more than 1000 different 'include' in a policy");
    free(text);
}

Test(policy, a_folder_with_glob_characters_is_no_pattern, .init = begin_files, .fini = remove_files)
{
    struct hlt_policy *policy = NULL;
    struct hlt_problems problems = {0};
    char path[256];

    make_folder("a[b]*");
    write_file("a[b]*/main.acl", "haltere 1\ninclude x?.acl\n");
    write_file("a[b]*/x1.acl", "anyone\nallow read a\n");
    (void)snprintf(path, sizeof(path), "%s/a[b]*/main.acl", folder);
    cr_expect(hlt_policy_load(&policy, path, NULL, &problems) == HLT_OK, "%s",
              first_problem(&problems));
    hlt_policy_free(policy);
    hlt_problems_free(&problems);
}

Test(policy, the_digest_names_the_text_and_where_it_stands, .init = begin_files,
     .fini = remove_files)
{
    struct hlt_policy *policy;
    char first[17], second[17];

    write_file("main.acl", "haltere 1\n");
    policy = load(NULL);
    /* printf 'haltere 1\n' | sha256sum */
    cr_expect(strcmp(hlt_policy_digest(policy), "74ec72419a1fea37") == 0, "%s",
              hlt_policy_digest(policy));
    hlt_policy_free(policy);
    write_file("classes/a.acl", "role a\n");
    write_file("main.acl", "haltere 1\ninclude classes/a.acl\nrole b\n");
    policy = load(NULL);
    strcpy(first, hlt_policy_digest(policy));
    hlt_policy_free(policy);
    write_file("classes/a.acl", "role a\nrole b\n");
    write_file("main.acl", "haltere 1\ninclude classes/a.acl\n");
    policy = load(NULL);
    strcpy(second, hlt_policy_digest(policy));
    hlt_policy_free(policy);
    cr_expect(strcmp(first, second) != 0);
}

Test(policy, mistakes_of_others_in_the_same_list_do_not_spoil_a_good_policy)
{
    struct hlt_problems problems = {0};
    struct hlt_policy *policy;

    hlt_problems_add(&problems, HLT_PROBLEM_ERROR, "other", 1, 1, "something else");
    cr_expect(hlt_policy_parse(&policy, "haltere 1\n", 10, "p.acl", NULL, &problems) == HLT_OK);
    cr_expect(problems.errors == 1);
    hlt_policy_free(policy);
    cr_expect(hlt_policy_parse(&policy, "x\n", 2, "p.acl", NULL, NULL) == HLT_EPARSE);
    hlt_problems_free(&problems);
}

Test(policy, a_hundred_thousand_rules_of_other_roles_are_passed_over)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct hlt_problems problems = {0};
    struct hlt_policy *policy;
    struct hlt_view *view;
    static const char claims[] = "{\"sub\":\"d\",\"roles\":[\"r4711\",\"r99999\"]}";
    struct hlt_decision got;

    fprintf(out, "haltere 1\n");
    for (int i = 0; i < 100000; i++) { /* all at one place of the trie */
        fprintf(out, "role r%d\n%s write site/+/x\n", i, i == 99999 ? "deny" : "allow");
    }
    fclose(out);
    cr_assert(hlt_policy_parse(&policy, text, len, "p.acl", NULL, &problems) == HLT_OK);
    free(text);
    view = hlt_policy_bind(policy, &(struct hlt_subject){.client_id = "d",
                                                         .user = "d",
                                                         .device_id = "d",
                                                         .claims = claims,
                                                         .claims_len = sizeof(claims) - 1});
    cr_assert(view != NULL);
    hlt_policy_decide(view, HLT_WRITE, "site/7/x", &got);
    cr_expect(got.verdict == HLT_DENY && got.rule == 99999);
    hlt_view_free(view);
    view = hlt_policy_bind(policy, &(struct hlt_subject){.client_id = "d",
                                                         .user = "d",
                                                         .device_id = "d",
                                                         .claims = "{\"roles\":\"r4711\"}",
                                                         .claims_len = 17});
    hlt_policy_decide(view, HLT_WRITE, "site/7/x", &got);
    cr_expect(got.verdict == HLT_ALLOW && got.rule == 4711);
    hlt_view_free(view);
    hlt_policy_free(policy);
    hlt_problems_free(&problems);
}
