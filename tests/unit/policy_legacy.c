/* Mosquitto's acl_file: what its lines load as, each oddity of its decisions, and the compiled form
 * against a slow and obvious reading of the same sentences. The broker itself is asked the same in
 * tests/broker/test_acl_plain.py. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../acl/policy.h"

static struct hlt_policy *load_as(const char *text, size_t len, enum hlt_acl_compat compat,
                                  struct hlt_problems *problems)
{
    struct hlt_policy_reading how = {.compat = compat};
    struct hlt_policy *policy = NULL;
    enum hlt_rc rc;

    memset(problems, 0, sizeof(*problems));
    rc = hlt_policy_parse(&policy, text, len, "m.acl", &how, problems);
    cr_expect((rc == HLT_OK) == (policy != NULL) && (rc == HLT_OK) == (problems->errors == 0));
    return policy;
}

static struct hlt_policy *load(const char *text, size_t len, struct hlt_problems *problems)
{
    return load_as(text, len, HLT_ACL_2_0, problems);
}

static struct hlt_policy *policy_as(const char *text, enum hlt_acl_compat compat)
{
    struct hlt_problems problems;
    struct hlt_policy *policy = load_as(text, strlen(text), compat, &problems);

    cr_assert(policy != NULL, "'%s': %s", text, problems.count > 0 ? problems.item[0].text : "");
    hlt_problems_free(&problems);
    return policy;
}

static struct hlt_policy *policy_from(const char *text)
{
    return policy_as(text, HLT_ACL_2_0);
}

/* What a client with these names is told; `line` may be NULL. */
static enum hlt_verdict ask(const struct hlt_policy *policy, const char *id, const char *user,
                            enum hlt_access access, const char *topic, unsigned *line)
{
    struct hlt_subject subject = {.client_id = id, .user = user};
    struct hlt_view *view = hlt_policy_bind(policy, &subject);
    struct hlt_decision decision;
    struct hlt_rule_ref ref;

    cr_assert(view != NULL);
    hlt_policy_decide(view, access, topic, &decision);
    hlt_policy_rule(policy, decision.rule, &ref);
    cr_expect(!decision.bound_device, "a line of an acl_file never binds the device");
    if (line != NULL) {
        *line = ref.line;
    }
    hlt_view_free(view);
    return decision.verdict;
}

enum { R = 1, W = 2, RW = 3 };

/* What user "u" (id "c") may do to `topic`: a set of R and W. */
static int rights(const struct hlt_policy *policy, const char *user, const char *topic)
{
    return (ask(policy, "c", user, HLT_READ, topic, NULL) == HLT_ALLOW ? R : 0) |
           (ask(policy, "c", user, HLT_WRITE, topic, NULL) == HLT_ALLOW ? W : 0);
}

/* ---- lines (facts: acl 1.2) ---- */

#define LEN_OF(text) (sizeof(text) - 1)
#define FILE_OF(text) text, LEN_OF(text)

Test(policy_legacy, a_line_loads_as_what_mosquitto_makes_of_it)
{
    static const struct {
        const char *text;
        size_t len;
        const char *user, *topic;
        int want;
    } rows[] = {
        {FILE_OF("topic a"), NULL, "a", RW},
        {FILE_OF("topic a\n"), NULL, "a", RW},
        {FILE_OF("topic read a"), NULL, "a", R},
        {FILE_OF("topic write a"), NULL, "a", W},
        {FILE_OF("topic readwrite a"), NULL, "a", RW},
        {FILE_OF("topic deny a\ntopic a"), NULL, "a", 0},
        {FILE_OF("topic read a\r\n"), NULL, "a", R},
        {FILE_OF("topic read a  \t \n"), NULL, "a", R},
        {FILE_OF("   topic read a\n"), NULL, "a", R},
        {FILE_OF("topic   read   a\n"), NULL, "a", R},
        {FILE_OF("topic read"), NULL, "read", RW},
        {FILE_OF("topic read   "), NULL, "read", RW},
        {FILE_OF("topic deny"), NULL, "deny", RW},
        {FILE_OF("topic write\n"), NULL, "write", RW},
        {FILE_OF("pattern deny"), "u", "deny", RW},
        {FILE_OF("topic deny deny\ntopic deny"), NULL, "deny", 0},
        {FILE_OF("topic read read"), NULL, "read", R},
        {FILE_OF("topic topic"), NULL, "topic", RW},
        {FILE_OF("topic user"), NULL, "user", RW},
        {FILE_OF("topic read a b"), NULL, "a b", R},
        {FILE_OF("topic read   a  b"), NULL, "a  b", R},
        {FILE_OF("topic read \ta"), NULL, "a", R},
        {FILE_OF("topic read\ta"), NULL, "read\ta", RW}, /* no client may ask for it */
        {FILE_OF("topic read a\tb"), NULL, "a", 0},
        {FILE_OF("topic read a # note/x"), NULL, "a", -1},
        {FILE_OF("topic read a note"), NULL, "a note", R},
        {FILE_OF("topic read \"a\""), NULL, "\"a\"", R},
        {FILE_OF("topic a\0b\ntopic read c"), NULL, "a", RW},
        {FILE_OF("topic a\0b\ntopic read c"), NULL, "c", R},
        {FILE_OF("\0topic x y z\ntopic a"), NULL, "a", RW},
        {FILE_OF("topic \xff\xfe\ntopic a"), NULL, "a", RW},
        {FILE_OF("topic read %c"), NULL, "%c", R},
        {FILE_OF("topic read %c"), NULL, "c", 0},
        {FILE_OF("topic read p/%u"), NULL, "p/%u", R},
        {FILE_OF("pattern read a"), NULL, "a", R},
        {FILE_OF("pattern a"), "u", "a", RW},
        {FILE_OF("user u\ntopic a"), "u", "a", RW},
        {FILE_OF("user u\ntopic a"), NULL, "a", 0},
        {FILE_OF("user u  \r\ntopic a"), "u", "a", RW},
        {FILE_OF("user   u\ntopic a"), "u", "a", RW},
        {FILE_OF("user u v\ntopic a"), "u v", "a", RW},
        {FILE_OF("user u  v\ntopic a"), "u v", "a", 0},
        {FILE_OF("user U\ntopic a"), "u", "a", 0},
        {FILE_OF("user # x\ntopic a"), "# x", "a", RW},
        {FILE_OF("user u\nuser v\ntopic a"), "u", "a", 0},
        {FILE_OF("user u\n\n   \n#topic deny a\ntopic a\n"), "u", "a", RW},
        {FILE_OF("#haltere 1\ntopic a"), NULL, "a", RW},
        {FILE_OF(""), NULL, "a", 0},
        {FILE_OF("# nothing\n\n"), NULL, "a", 0},
        {FILE_OF("user u"), "u", "a", 0},
        {FILE_OF("topic /"), NULL, "/", RW},
        {FILE_OF("topic //#"), NULL, "/", RW},
        {FILE_OF("topic +/+"), NULL, "/", RW},
        {FILE_OF("topic a/"), NULL, "a", 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_problems problems;
        struct hlt_policy *policy = load(rows[i].text, rows[i].len, &problems);

        if (rows[i].want < 0) {
            cr_expect(policy == NULL, "row %zu '%s' must be refused", i, rows[i].text);
        } else {
            cr_expect(policy != NULL && rights(policy, rows[i].user, rows[i].topic) == rows[i].want,
                      "row %zu '%s': %s", i, rows[i].text,
                      problems.errors > 0 ? problems.item[0].text : "other rights");
        }
        hlt_policy_free(policy);
        hlt_problems_free(&problems);
    }
}

Test(policy_legacy, a_bad_line_is_refused_with_its_place)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"topic\n", "m.acl:1:1: error: the filter is missing"},
        {"topic a\npattern\n", "m.acl:2:1: error: the filter is missing"},
        {"topic  \n", "m.acl:1:1: error: the filter is missing"},
        {"user\n", "m.acl:1:1: error: the user name is missing"},
        {"user   \n", "m.acl:1:1: error: the user name is missing"},
        {"topic raed a\n", "m.acl:1:7: error: 'raed' is no access of this line (read, write, "
                           "readwrite, deny); did you mean 'read'?"},
        {"topic a b\n",
         "m.acl:1:7: error: 'a' is no access of this line (read, write, readwrite, deny)"},
        {"topic Read a\n", "m.acl:1:7: error: 'Read' is no access of this line (read, write, "
                           "readwrite, deny); did you mean 'read'?"},
        {"topic topic read\n",
         "m.acl:1:7: error: 'topic' is no access of this line (read, write, readwrite, deny)"},
        {"topic read\ta b\n",
         "m.acl:1:7: error: 'read\\x09a' is no access of this line (read, write, readwrite, deny)"},
        {"topic read a # note\n",
         "m.acl:1:14: error: in 'a # note': # must be a whole level, the last one"},
        {"topic a\n  # note\n", "m.acl:2:3: error: a comment of an acl_file begins in column 1"},
        {"topic\tread a\n",
         "m.acl:1:1: error: 'topic\\x09read' begins no line of Mosquitto's acl_file (topic, "
         "pattern, user, # in column 1; words are divided by spaces, not tabs); a policy in "
         "Haltere's own language begins with the line 'haltere 1'"},
        {"\ttopic a\n",
         "m.acl:1:1: error: '\\x09topic' begins no line of Mosquitto's acl_file (topic, pattern, "
         "user, # in column 1; words are divided by spaces, not tabs); a policy in Haltere's own "
         "language begins with the line 'haltere 1'"},
        {"topic a\nallow read b\n",
         "m.acl:2:1: error: 'allow' begins no line of Mosquitto's acl_file (topic, pattern, user, "
         "# in column 1; words are divided by spaces, not tabs); a policy in Haltere's own "
         "language begins with the line 'haltere 1'"},
        {"Topic a\n",
         "m.acl:1:1: error: 'Topic' begins no line of Mosquitto's acl_file (topic, pattern, user, "
         "# in column 1; words are divided by spaces, not tabs); a policy in Haltere's own "
         "language begins with the line 'haltere 1'"},
        {"topic a+\n",
         "m.acl:1:8: error: in 'a+': + must be a whole level: between two /, or at an end"},
        {"topic read a/+b\n",
         "m.acl:1:14: error: in 'a/+b': + must be a whole level: between two /, or at an end"},
        {"topic #/a\n", "m.acl:1:7: error: in '#/a': # must be a whole level, the last one"},
        {"topic a#\n", "m.acl:1:8: error: in 'a#': # must be a whole level, the last one"},
        {"pattern %c+\n",
         "m.acl:1:11: error: in '%c+': + must be a whole level: between two /, or at an end"},
        {"pattern read +%c\n",
         "m.acl:1:14: error: in '+%c': + must be a whole level: between two /, or at an end"},
        {"\xef\xbb\xbftopic a\n",
         "m.acl:1:1: error: the file begins with a byte order mark; save it as UTF-8 without one"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_problems problems;
        struct hlt_policy *policy = load(rows[i].text, strlen(rows[i].text), &problems);
        char got[1024] = "";

        if (problems.count > 0) {
            hlt_problem_format(&problems, 0, got, sizeof(got));
        }
        cr_expect(policy == NULL);
        cr_expect(strcmp(got, rows[i].want) == 0, "row %zu:\n got %s\nwant %s", i, got,
                  rows[i].want);
        hlt_policy_free(policy);
        hlt_problems_free(&problems);
    }
}

Test(policy_legacy, all_bad_lines_are_told_at_once)
{
    struct hlt_problems problems;
    static const char text[] = "topic a+\ntopic read ok\nuser\nfoo\n";

    cr_expect(load(text, strlen(text), &problems) == NULL);
    cr_expect(problems.errors == 3);
    cr_expect(problems.count == 3 && problems.item[0].line == 1 && problems.item[1].line == 3 &&
              problems.item[2].line == 4);
    hlt_problems_free(&problems);
}

Test(policy_legacy, a_filter_has_200_slashes_and_65535_bytes_and_not_one_more)
{
    static char text[70000];
    struct hlt_problems problems;
    struct hlt_policy *policy;

    memcpy(text, "topic read ", 11);
    memset(text + 11, '/', 201);
    policy = load(text, 11 + 200, &problems);
    cr_expect(policy != NULL);
    text[11 + 200] = '\0';
    cr_expect(ask(policy, "c", NULL, HLT_READ, text + 11, NULL) == HLT_ALLOW);
    hlt_policy_free(policy);
    hlt_problems_free(&problems);
    text[11 + 200] = '/';
    cr_expect(load(text, 11 + 201, &problems) == NULL);
    hlt_problems_free(&problems);
    memset(text + 11, 'a', 65536);
    policy = load(text, 11 + 65535, &problems);
    cr_expect(policy != NULL);
    hlt_policy_free(policy);
    hlt_problems_free(&problems);
    text[11 + 65535] = 'a';
    cr_expect(load(text, 11 + 65536, &problems) == NULL);
    hlt_problems_free(&problems);
}

Test(policy_legacy, a_topic_deeper_than_the_broker_takes_is_denied)
{
    struct hlt_policy *policy = policy_from("topic #\n");
    char topic[300];

    memset(topic, '/', sizeof(topic));
    topic[200] = '\0';
    cr_expect(ask(policy, "c", NULL, HLT_READ, topic, NULL) == HLT_ALLOW);
    topic[200] = '/';
    topic[201] = '\0';
    cr_expect(ask(policy, "c", NULL, HLT_READ, topic, NULL) == HLT_DENY);
    hlt_policy_free(policy);
}

/* ---- decisions (facts: acl 1.1) ---- */

struct row {
    const char *id, *user;
    enum hlt_access access;
    const char *topic;
    enum hlt_verdict want;
    unsigned line; /* 0: no line decides */
};

static void check(const char *text, enum hlt_acl_compat compat, const struct row *rows,
                  size_t count)
{
    struct hlt_policy *policy = policy_as(text, compat);

    for (size_t i = 0; i < count; i++) {
        unsigned line;
        enum hlt_verdict got =
            ask(policy, rows[i].id, rows[i].user, rows[i].access, rows[i].topic, &line);

        cr_expect(got == rows[i].want && line == rows[i].line,
                  "row %zu %s %s: verdict %d (want %d) by line %u (want %u)", i, rows[i].id,
                  rows[i].topic, got, rows[i].want, line, rows[i].line);
    }
    hlt_policy_free(policy);
}
#define CHECK(text, compat, rows) check(text, compat, rows, sizeof(rows) / sizeof((rows)[0]))

Test(policy_legacy, the_first_of_four_groups_with_a_match_decides)
{
    static const struct row rows[] = {
        {"c", "u", HLT_READ, "x/1", HLT_DENY, 4},   /* topic deny beats pattern grant */
        {"c", "u", HLT_READ, "y/1", HLT_ALLOW, 3},  /* topic grant beats pattern deny */
        {"c", "u", HLT_WRITE, "y/1", HLT_DENY, 6},  /* it grants reading only */
        {"c", "v", HLT_READ, "y/1", HLT_DENY, 6},   /* another user */
        {"c", "v", HLT_READ, "x/1", HLT_ALLOW, 1},  /* pattern grant */
        {"c", "u", HLT_READ, "z/1", HLT_DENY, 7},   /* deny first whatever the order */
        {"c", "u", HLT_READ, "w", HLT_NO_RULE, 0},  /* nothing matched */
        {"c", "u", HLT_READ, "both", HLT_ALLOW, 8}, /* rights of several lines add up */
        {"c", "u", HLT_WRITE, "both", HLT_ALLOW, 9},
    };

    CHECK("pattern read x/#\nuser u\ntopic read y/#\ntopic deny x/#\ntopic read x/#\n"
          "pattern deny y/#\npattern deny z/#\ntopic read both\ntopic write both\n"
          "pattern read z/#\n",
          HLT_ACL_2_0, rows);
}

Test(policy_legacy, lines_above_the_first_user_are_for_clients_without_a_name)
{
    static const struct row rows[] = {
        {"c", NULL, HLT_READ, "a", HLT_ALLOW, 1},   {"c", "", HLT_READ, "a", HLT_ALLOW, 1},
        {"c", "u", HLT_READ, "a", HLT_NO_RULE, 0},  {"c", "u", HLT_READ, "b", HLT_ALLOW, 3},
        {"c", "u", HLT_READ, "d", HLT_ALLOW, 7},    {"c", "v", HLT_READ, "d", HLT_NO_RULE, 0},
        {"c", NULL, HLT_READ, "b", HLT_NO_RULE, 0}, {"c", "U", HLT_READ, "b", HLT_NO_RULE, 0},
        {"c", "v", HLT_READ, "c", HLT_ALLOW, 5},
    };

    CHECK("topic read a\nuser u\ntopic read b\nuser v\ntopic read c\nuser u\ntopic read d\n",
          HLT_ACL_2_0, rows);
}

Test(policy_legacy, a_plus_or_hash_in_a_name_is_denied_where_patterns_are_asked)
{
    static const struct row rows[] = {
        {"c+", "u", HLT_READ, "own", HLT_ALLOW, 2}, /* own lines still hold */
        {"c+", "u", HLT_READ, "free", HLT_DENY, 0}, /* also of a pattern without variables */
        {"#", "u", HLT_READ, "x/y", HLT_DENY, 0},
        {"c", "u+", HLT_READ, "free", HLT_DENY, 0},
        {"a/b", "u", HLT_READ, "p/a/b", HLT_ALLOW, 3}, /* a / is not checked */
        {"$SYS", "u", HLT_READ, "$SYS/broker", HLT_ALLOW, 5},
        {"%u", "u", HLT_READ, "p/%u", HLT_ALLOW, 3}, /* values are not expanded again */
        {"%u", "u", HLT_READ, "p/u", HLT_NO_RULE, 0},
        {"a b", "u", HLT_READ, "p/a b", HLT_ALLOW, 3},
        {"victim/state", "u", HLT_READ, "p/victim/state", HLT_ALLOW, 3},
        {"victim/state", "u", HLT_READ, "p/victim", HLT_NO_RULE, 0},
    };
    static const struct row none[] = {{"c+", "u", HLT_READ, "x", HLT_NO_RULE, 0}};

    CHECK("user u\ntopic read own\npattern read p/%c\npattern read free\npattern read %c/#\n",
          HLT_ACL_2_0, rows);
    CHECK("user u\ntopic read own\n", HLT_ACL_2_0, none); /* no pattern: nothing to bar */
}

Test(policy_legacy, names_are_put_in_also_inside_a_level_in_one_pass)
{
    static const struct row rows[] = {
        {"c", "u", HLT_READ, "pc/x", HLT_DENY, 1},
        {"d", "u", HLT_READ, "pc/x", HLT_NO_RULE, 0},
        {"c", "u", HLT_READ, "q/c-u/z", HLT_ALLOW, 2},
        {"a/b", "u", HLT_READ, "q/a/b-u/z", HLT_ALLOW, 2},
        {"c", NULL, HLT_READ, "q/c-/z", HLT_NO_RULE, 0},
        {"c", "u", HLT_READ, "%cc", HLT_ALLOW, 3},
        {"c", "u", HLT_READ, "100%", HLT_ALLOW, 4},
    };
    static const struct row percent[] = {
        {"c", "u", HLT_READ, "%c", HLT_ALLOW, 1}, /* the second % begins %c */
        {"d", "u", HLT_READ, "%c", HLT_NO_RULE, 0},
        {"d", "u", HLT_READ, "%d", HLT_ALLOW, 1},
    };

    CHECK("pattern deny p%c/#\npattern read q/%c-%u/z\npattern read %%cc\n"
          "pattern read 100%\n",
          HLT_ACL_2_0, rows);
    CHECK("pattern read %%c\n", HLT_ACL_2_0, percent);
}

Test(policy_legacy, a_pattern_with_a_user_name_is_skipped_for_clients_without)
{
    static const struct row rows[] = {
        {"c", NULL, HLT_READ, "a/x", HLT_ALLOW, 2}, /* the deny is skipped too */
        {"c", "x", HLT_READ, "a/x", HLT_DENY, 1},
        {"c", "", HLT_READ, "a/", HLT_ALLOW, 2},
    };

    CHECK("pattern deny a/%u\npattern read a/#\n", HLT_ACL_2_0, rows);
}

Test(policy_legacy, matching_is_mqtts)
{
    static const struct row rows[] = {
        {"c", NULL, HLT_READ, "a", HLT_ALLOW, 1},
        {"c", NULL, HLT_READ, "a/", HLT_ALLOW, 1},
        {"c", NULL, HLT_READ, "b/", HLT_ALLOW, 2},
        {"c", NULL, HLT_READ, "b", HLT_NO_RULE, 0},
        {"c", NULL, HLT_READ, "b/x/y", HLT_NO_RULE, 0},
        {"c", NULL, HLT_READ, "$a/x", HLT_NO_RULE, 0},
        {"c", NULL, HLT_READ, "z/x", HLT_ALLOW, 3},
        {"c", NULL, HLT_READ, "$S/x", HLT_ALLOW, 4},
        {"c", NULL, HLT_READ, "d/e", HLT_ALLOW, 3},
        {"c", NULL, HLT_READ, "f/e/g/h", HLT_ALLOW, 5},
        {"c", NULL, HLT_READ, "f/e", HLT_ALLOW, 3},
        {"c", NULL, HLT_READ, "a/+", HLT_DENY, 0},
        {"c", NULL, HLT_READ, "", HLT_DENY, 0},
        {"c", NULL, HLT_READ, "f/e/g", HLT_ALLOW, 5},
    };

    CHECK("topic a/#\ntopic b/+\ntopic +/+\ntopic $S/#\ntopic f/+/g/#\n", HLT_ACL_2_0, rows);
}

Test(policy_legacy, subscribing_is_granted_and_reading_is_not)
{
    static const struct row rows[] = {
        {"c", "u", HLT_SUBSCRIBE, "#", HLT_ALLOW, 0},
        {"c", "u", HLT_SUBSCRIBE, "$share/g/secret/#", HLT_ALLOW, 0},
        {"c", "u", HLT_UNSUBSCRIBE, "secret", HLT_ALLOW, 0},
        {"c", "u", HLT_SUBSCRIBE, "a/#/b", HLT_DENY, 0}, /* no filter at all */
        {"c", "u", HLT_SUBSCRIBE, "", HLT_DENY, 0},
        {"c", "u", HLT_READ, "secret", HLT_DENY, 1},
        {"c", "u", HLT_READ, "other", HLT_NO_RULE, 0},
    };
    static const struct row empty[] = {{"c", "u", HLT_SUBSCRIBE, "#", HLT_ALLOW, 0},
                                       {"c", "u", HLT_READ, "a", HLT_NO_RULE, 0}};

    CHECK("pattern deny secret/#\n", HLT_ACL_2_0, rows);
    CHECK("# nothing\n", HLT_ACL_2_0, empty);
}

Test(policy_legacy, what_the_broker_refuses_itself_is_denied)
{
    static const struct row rows[] = {
        {"c", "u", HLT_WRITE, "$SYS/x", HLT_DENY, 0},
        {"c", "u", HLT_WRITE, "$SYSTEM", HLT_DENY, 0},
        {"c", "u", HLT_READ, "$SYS/x", HLT_ALLOW, 1},
        {"c", "u", HLT_WRITE, "$SYS/broker/connection/b/state", HLT_ALLOW, 1},
        {"c", "u", HLT_WRITE, "$SYS/broker/connection/b/c/state", HLT_DENY, 0},
        {"c", "u", HLT_WRITE, "$SYS/broker/connection/b/stat", HLT_DENY, 0},
        {"c", "u", HLT_WRITE, "$SYS/broker/connection/", HLT_DENY, 0},
        {"c", "u", HLT_WRITE, "$share/g/x", HLT_DENY, 0},
        {"c", "u", HLT_READ, "$shared", HLT_DENY, 0},
        {"c", "u", HLT_WRITE, "$other", HLT_ALLOW, 4},
    };

    CHECK("pattern $SYS/#\npattern $SYSTEM\npattern $share/#\npattern $other\npattern $shared\n",
          HLT_ACL_2_0, rows);
}

Test(policy_legacy, mosquitto_2_1_compares_whole_levels_only)
{
    static const char text[] = "pattern deny p%c/#\npattern read d/%c/#\npattern read u/%u\n"
                               "pattern read %c/x\npattern read $p%c\npattern read p%c/#\n";
    static const struct row rows[] = {
        {"c", "u", HLT_READ, "pc/x", HLT_NO_RULE, 0}, /* it stopped denying */
        {"c", "u", HLT_READ, "p%c/x", HLT_DENY, 1},   /* plain text now */
        {"c", "u", HLT_READ, "d/c/x", HLT_ALLOW, 2},
        {"c", "u", HLT_READ, "d/c", HLT_ALLOW, 2},
        {"a/b", "u", HLT_READ, "d/a/b", HLT_NO_RULE, 0},
        {"", "u", HLT_READ, "d/", HLT_NO_RULE, 0},
        {"c", "a/b", HLT_READ, "u/a/b", HLT_NO_RULE, 0},
        {"c", "u", HLT_READ, "u/u", HLT_ALLOW, 3},
        {"c", NULL, HLT_READ, "u/", HLT_NO_RULE, 0},
        {"$S", "u", HLT_READ, "$S/x", HLT_NO_RULE, 0},
        {"S", "u", HLT_READ, "S/x", HLT_ALLOW, 4},
        {"c", "u", HLT_READ, "$p%c", HLT_ALLOW, 5},
        {"cc", "u", HLT_READ, "d/c/x", HLT_NO_RULE, 0},
        {"c", "u", HLT_READ, "d/cc/x", HLT_NO_RULE, 0},
        {"c/", "u", HLT_READ, "d/c/", HLT_NO_RULE, 0},
        {"/", "u", HLT_READ, "d//", HLT_NO_RULE, 0},
        {"%u", "u", HLT_READ, "d/u", HLT_NO_RULE, 0}, /* not put in twice */
        {"%u", "u", HLT_READ, "d/%u", HLT_ALLOW, 2},
        {"c", "", HLT_READ, "u/", HLT_NO_RULE, 0},
        {"c+", "u", HLT_READ, "u/u", HLT_DENY, 0},
        {"c", "u", HLT_READ, "c/x", HLT_ALLOW, 4},
    };
    static const struct row before[] = {
        {"c", "u", HLT_READ, "pc/x", HLT_DENY, 1},
        {"a/b", "u", HLT_READ, "d/a/b", HLT_ALLOW, 2},
        {"", "u", HLT_READ, "d/", HLT_ALLOW, 2},
        {"$S", "u", HLT_READ, "$S/x", HLT_ALLOW, 4},
        {"c", "a/b", HLT_READ, "u/a/b", HLT_ALLOW, 3},
    };

    CHECK(text, HLT_ACL_2_1, rows);
    CHECK(text, HLT_ACL_2_0, before);
}

Test(policy_legacy, a_token_session_is_the_user_of_its_sub)
{
    struct hlt_policy *policy = policy_from("user d1\ntopic read own\npattern read p/%u\n");
    struct hlt_subject subject = {.client_id = "d1", .device_id = "d1"};
    struct hlt_view *view = hlt_policy_bind(policy, &subject);
    struct hlt_decision decision;

    cr_expect(hlt_policy_is_plain(policy));
    hlt_policy_decide(view, HLT_READ, "own", &decision);
    cr_expect(decision.verdict == HLT_ALLOW);
    hlt_policy_decide(view, HLT_READ, "p/d1", &decision);
    cr_expect(decision.verdict == HLT_ALLOW);
    hlt_view_free(view);
    hlt_policy_free(policy);
}

/* ---- against a slow and obvious reading of facts: acl 1.1 ---- */

static uint64_t state;

static uint32_t rnd(uint32_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((state >> 33) % below);
}

struct ref_line {
    char user[16]; /* of a topic line; "" anonymous */
    bool pattern;
    int access; /* R, W, RW, 0 deny */
    char filter[64];
};

/* Cut at /, an array of strings. */
static int ref_cut(const char *text, char (*out)[64])
{
    int count = 0, len = 0;

    for (;; text++) {
        if (*text == '/' || *text == '\0') {
            out[count++][len] = '\0';
            len = 0;
            if (*text == '\0') {
                return count;
            }
        } else {
            out[count][len++] = *text;
        }
    }
}

/* Which Mosquitto the reference is: 2.0 puts the names into a pattern and then matches, 2.1
 * compares them with whole levels of the topic as it matches. */
static enum hlt_acl_compat ref_compat;

static bool ref_level(const char *level, const char *topic_level, const char *id, const char *user)
{
    if (ref_compat == HLT_ACL_2_1 && id != NULL) {
        if (strcmp(level, "%c") == 0) {
            return id[0] != '\0' && strcmp(id, topic_level) == 0;
        }
        if (strcmp(level, "%u") == 0) {
            return user[0] != '\0' && strcmp(user, topic_level) == 0;
        }
    }
    return strcmp(level, "+") == 0 || strcmp(level, topic_level) == 0;
}

/* `id` NULL: the filter has no names in it. */
static bool ref_matches(const char *filter, const char *topic, const char *id, const char *user)
{
    char f[24][64], t[24][64];
    int fn, tn;

    if (filter[0] == '\0' || topic[0] == '\0' || (filter[0] == '$') != (topic[0] == '$')) {
        return false;
    }
    fn = ref_cut(filter, f);
    tn = ref_cut(topic, t);
    for (int i = 0; i < fn; i++) {
        if (strcmp(f[i], "#") == 0) {
            return tn >= i; /* also the parent */
        }
        if (i >= tn || !ref_level(f[i], t[i], id, user)) {
            return false;
        }
    }
    return fn == tn;
}

static void ref_expand(const char *filter, const char *id, const char *user, char *out)
{
    for (; *filter != '\0'; filter++) {
        if (ref_compat == HLT_ACL_2_0 && filter[0] == '%' &&
            (filter[1] == 'c' || filter[1] == 'u')) {
            const char *name = filter[1] == 'c' ? id : user;

            memcpy(out, name, strlen(name));
            out += strlen(name);
            filter++;
        } else {
            *out++ = *filter;
        }
    }
    *out = '\0';
}

/* One group: any deny of it, or any grant of this access. */
static bool ref_group(const struct ref_line *lines, int count, bool patterns, bool denies,
                      const char *id, const char *user, int access, const char *topic)
{
    for (int i = 0; i < count; i++) {
        char filter[256];

        if (lines[i].pattern != patterns || (lines[i].access == 0) != denies ||
            (!denies && (lines[i].access & access) == 0)) {
            continue;
        }
        if (patterns) {
            if (user[0] == '\0' && strstr(lines[i].filter, "%u") != NULL) {
                continue;
            }
            ref_expand(lines[i].filter, id, user, filter);
        } else {
            if (strcmp(lines[i].user, user) != 0) {
                continue;
            }
            (void)snprintf(filter, sizeof(filter), "%s", lines[i].filter);
        }
        if (ref_matches(filter, topic, patterns ? id : NULL, user)) {
            return true;
        }
    }
    return false;
}

static bool ref_decide(const struct ref_line *lines, int count, const char *id, const char *user,
                       int access, const char *topic)
{
    bool patterns = false;

    for (int i = 0; i < count; i++) {
        patterns |= lines[i].pattern;
    }
    if (strncmp(topic, "$share", 6) == 0 || (access == W && strncmp(topic, "$SYS", 4) == 0)) {
        return false;
    }
    if (ref_group(lines, count, false, true, id, user, access, topic)) {
        return false;
    }
    if (ref_group(lines, count, false, false, id, user, access, topic)) {
        return true;
    }
    if (patterns && (strpbrk(id, "+#") != NULL || strpbrk(user, "+#") != NULL)) {
        return false;
    }
    if (ref_group(lines, count, true, true, id, user, access, topic)) {
        return false;
    }
    return ref_group(lines, count, true, false, id, user, access, topic);
}

static const char *const users[] = {"", "u", "v", "u v", "a/b", "$S", "u+", "%c"};
static const char *const ids[] = {"c", "u", "a/b", "$S", "#", "%u", "a", "x/y/z"};

static void random_filter(char *out, bool pattern)
{
    static const char *const levels[] = {
        "a", "b",  "c",  "u",   "x",     "",    "$S", "$SYS", "a-long-level-of-a-topic",
        "+", "%c", "%u", "p%c", "%u-%c", "%%c", "%"};
    uint32_t depth = 1 + rnd(4);

    out[0] = '\0';
    for (uint32_t i = 0; i < depth; i++) {
        strcat(out, i > 0 ? "/" : "");
        strcat(out, levels[rnd(pattern || rnd(4) == 0 ? 16 : 10)]);
    }
    if (rnd(3) == 0) {
        strcat(out, "/#");
    }
    if (out[0] == '\0' || rnd(30) == 0) {
        strcpy(out, "#");
    }
}

static void random_topic(char *out)
{
    static const char *const levels[] = {"a",  "b",  "c",    "u",  "x",
                                         "",   "$S", "$SYS", "pc", "u-c",
                                         "%c", "%u", "y",    "z",  "a-long-level-of-a-topic",
                                         "%a"};
    uint32_t depth = 1 + rnd(5);

    do {
        out[0] = '\0';
        for (uint32_t i = 0; i < depth; i++) {
            strcat(out, i > 0 ? "/" : "");
            strcat(out, levels[rnd(16)]);
        }
    } while (out[0] == '\0');
}

/* A file and the same lines for the reference. */
static int random_file(struct ref_line *lines, char *text)
{
    static const char *const words[] = {"deny ", "read ", "write ", "readwrite ", ""};
    static const int accesses[] = {0, R, W, RW, RW};
    int count = 1 + (int)rnd(12);
    char user[16] = "";

    text[0] = '\0';
    for (int i = 0; i < count; i++) {
        uint32_t access = rnd(5);
        bool pattern = rnd(2) == 0;
        struct ref_line *line = &lines[i];

        if (rnd(3) == 0) {
            strcpy(user, users[1 + rnd(7)]);
            sprintf(text + strlen(text), "user %s\n", user);
        }
        *line = (struct ref_line){.pattern = pattern, .access = accesses[access]};
        strcpy(line->user, user);
        random_filter(line->filter, pattern);
        sprintf(text + strlen(text), "%s %s%s\n", pattern ? "pattern" : "topic", words[access],
                line->filter);
    }
    return count;
}

static void compare_with_reference(enum hlt_acl_compat compat)
{
    struct ref_line lines[12];
    char text[2048], topic[256];
    uint64_t allowed = 0, denied = 0;

    state = 20260;
    ref_compat = compat;
    for (int file = 0; file < 6000; file++) {
        int count = random_file(lines, text);
        struct hlt_policy *policy = policy_as(text, compat);

        for (int client = 0; client < 6; client++) {
            const char *id = ids[rnd(8)], *user = users[rnd(8)];
            struct hlt_subject subject = {.client_id = id, .user = user};
            struct hlt_view *view = hlt_policy_bind(policy, &subject);

            for (int probe = 0; probe < 10; probe++) {
                int access = rnd(2) == 0 ? R : W;
                struct hlt_decision decision;
                bool want;

                random_topic(topic);
                want = ref_decide(lines, count, id, user, access, topic);
                hlt_policy_decide(view, access == R ? HLT_READ : HLT_WRITE, topic, &decision);
                cr_assert((decision.verdict == HLT_ALLOW) == want,
                          "id '%s' user '%s' access %d topic '%s': want %s in\n%s", id, user,
                          access, topic, want ? "allow" : "deny", text);
                allowed += want;
                denied += !want;
            }
            hlt_view_free(view);
        }
        hlt_policy_free(policy);
    }
    cr_expect(allowed > 25000 && denied > 25000, "%lu allowed, %lu denied", (unsigned long)allowed,
              (unsigned long)denied);
}

Test(policy_legacy, generated_files_are_decided_as_a_slow_reading_decides_them, .timeout = 120)
{
    compare_with_reference(HLT_ACL_2_0);
}

Test(policy_legacy, and_as_a_slow_reading_of_2_1_decides_them, .timeout = 120)
{
    compare_with_reference(HLT_ACL_2_1);
}

/* ---- beside the rules of `haltere 1` ---- */

Test(policy_legacy, the_tests_of_a_policy_ask_the_mosquitto_it_is_read_for)
{
    static const char text[] = "haltere 1\npattern readwrite #\npattern deny p%c/#\n"
                               "expect deny write pd1/x as client=d1\n";
    struct hlt_problems problems;
    struct hlt_policy *policy = load_as(text, sizeof(text) - 1, HLT_ACL_2_0, &problems);

    cr_expect(policy != NULL);
    hlt_policy_free(policy);
    hlt_problems_free(&problems);
    cr_expect(load_as(text, sizeof(text) - 1, HLT_ACL_2_1, &problems) == NULL);
    for (size_t i = 0; i < problems.count; i++) {
        cr_expect(problems.item[i].kind != HLT_PROBLEM_ERROR ||
                      (problems.item[i].line == 4 &&
                       strstr(problems.item[i].text, "expects deny, but it is allowed") != NULL),
                  "%s", problems.item[i].text);
    }
    cr_expect(problems.errors == 1);
    hlt_problems_free(&problems);
}

Test(policy_legacy, in_haltere_1_the_lines_are_one_voter)
{
    static const struct row rows[] = {
        {"c", "u", HLT_READ, "own/x", HLT_ALLOW, 4},
        {"c", "u", HLT_READ, "own/secret", HLT_DENY, 5}, /* its deny beats an allow */
        {"c", "u", HLT_READ, "own/closed", HLT_DENY, 8}, /* a deny beats its grant */
        {"c", "u", HLT_READ, "free", HLT_ALLOW, 7},      /* it abstains */
        {"c", "u", HLT_READ, "none", HLT_NO_RULE, 0},
        {"c", "v", HLT_READ, "own/x", HLT_NO_RULE, 0},
        {"c", "v", HLT_READ, "own/secret", HLT_ALLOW, 9},
        {"c", NULL, HLT_READ, "lobby", HLT_ALLOW, 2},
        {"c", "u", HLT_READ, "lobby", HLT_NO_RULE, 0},
        {"c", "v", HLT_WRITE, "p/c/x", HLT_ALLOW, 10},
        {"c", "v", HLT_SUBSCRIBE, "#", HLT_ALLOW, 7},
        {"c", "v", HLT_SUBSCRIBE, "own/closed", HLT_DENY, 8},
        {"c", "v", HLT_SUBSCRIBE, "what/else", HLT_ALLOW, 0}, /* as Mosquitto grants it */
    };

    CHECK("haltere 1\ntopic read lobby\nuser u\ntopic read own/#\ntopic deny own/secret\n"
          "anyone\nallow read free\ndeny read own/closed\nallow read own/secret\n"
          "pattern write p/%c/#\n",
          HLT_ACL_2_0, rows);
}

Test(policy_legacy, with_an_allow_subscribe_the_lines_do_not_open_other_subscriptions)
{
    static const struct row rows[] = {
        {"c", "u", HLT_SUBSCRIBE, "a/b", HLT_ALLOW, 4},
        {"c", "u", HLT_SUBSCRIBE, "p/c", HLT_NO_RULE, 0},
    };

    CHECK("haltere 1\npattern read p/%c\nanyone\nallow subscribe a/#\n", HLT_ACL_2_0, rows);
}

/* ---- warnings ---- */

/* All warnings, a line each. */
static void warnings_of(const char *text, char *out, size_t bytes)
{
    struct hlt_problems problems;
    struct hlt_policy *policy = load(text, strlen(text), &problems);
    size_t at = 0;

    out[0] = '\0';
    cr_assert(policy != NULL, "%s", problems.count > 0 ? problems.item[0].text : "");
    for (size_t i = 0; i < problems.count; i++) {
        hlt_problem_format(&problems, i, out + at, bytes - at - 1);
        at += strlen(out + at);
        out[at++] = '\n';
        out[at] = '\0';
    }
    hlt_policy_free(policy);
    hlt_problems_free(&problems);
}

Test(policy_legacy, what_is_seldom_meant_is_warned_of_with_its_place)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"user u\ntopic read a\ntopic deny a\n", ""},
        {"",
         "m.acl: warning: the file has no rules: nobody may read or write anything; a policy in "
         "Haltere's own language begins with the line 'haltere 1'\n"},
        {"topic read a\ntopic read b\nuser u\ntopic c\n",
         "m.acl:1:12: warning: a 'topic' line above the first 'user' is for clients without a user "
         "name only, not for everybody (2 such lines)\n"},
        {"pattern read a/%c\nuser u\n pattern read b/%c\n",
         "m.acl:3:15: warning: a 'pattern' holds for everybody, also below a 'user' line (1 such "
         "lines)\n"},
        {"user u\ntopic deny\n",
         "m.acl:2:7: warning: with one word behind it this line allows reading and writing the "
         "topic of that name; add the filter\n"},
        {"pattern deny a/p%c/#\npattern read a/%c-x\npattern read a/%c\n",
         "m.acl:1:14: warning: Mosquitto 2.1 puts names in for whole levels only: there this line "
         "stops denying what it denies in 2.0\n"
         "m.acl:2:14: warning: Mosquitto 2.1 puts names in for whole levels only: there this line "
         "allows the text as it is written\n"},
        {"pattern read %c/#\npattern deny +/#\n",
         "m.acl:1:14: warning: the filter begins with a name: whoever is called like the first "
         "level of other topics gets those; begin with a fixed level\n"},
        {"pattern deny a/%c\npattern deny a\npattern deny b/+/%u/#\npattern read a/%u\n",
         "m.acl:1:14: warning: in Mosquitto 2.1 a name with a / in it fits no %c or %u: there such "
         "clients are not denied what this line denies in 2.0 (2 such lines)\n"},
        {"user u\ntopic read a/%c\n",
         "m.acl:2:12: warning: in a 'topic' line %c and %u are plain text; only 'pattern' puts "
         "names in\n"},
        {"user u\ntopic read a\nuser v\ntopic read a\nuser u\ntopic write a\ntopic read a\n",
         "m.acl:7:12: warning: this line says the same as line 2\n"},
        {"pattern read $share/g/a\n",
         "m.acl:1:14: warning: this line holds nothing: a shared subscription is judged by the "
         "topics of its messages, and the broker refuses topics that begin with $share\n"},
        {"haltere 1\nanyone\nallow read a/#\nallow read a/#\nallow read,write a/#\n",
         "m.acl:4:12: warning: this rule adds nothing to the one of line 3\n"},
        {"haltere 1\nrole a\nallow read b\nrole c\nallow read b\n", ""},
        {"haltere 1\nanyone\nallow read \"a b\"\ndeny all \"a b\"\n",
         "m.acl:3:13: warning: this rule never allows anything: all of it is denied in line 4\n"},
        {"haltere 1\nrole r ordered\nallow read a\ndeny read a\n", ""},
        {"haltere 1\nrole r ordered\ndeny read a\nallow read a\n",
         "m.acl:4:12: warning: this rule never allows anything: all of it is denied in line 3\n"},
        {"haltere 1\nanyone\nallow readwrite a\ndeny write a\n", ""},
        {"haltere 1\nanyone\nallow read a\ndeny read a except b\n", ""},
        {"haltere 1\nanonymous\nallow read a/%d/x\nallow read b/%{site}\ndeny read c/%d\n",
         "m.acl:3:12: warning: this rule never allows anything: a client without a name has no "
         "user, device or claims to put in\n"
         "m.acl:4:12: warning: this rule never allows anything: a client without a name has no "
         "user, device or claims to put in\n"},
        {"haltere 1\nanyone\nallow read a/# except #\nallow read $SYS/# except #\n"
         "allow read b/+ except b/+\n",
         "m.acl:3:12: warning: the 'except' leaves nothing of this rule\n"
         "m.acl:5:12: warning: the 'except' leaves nothing of this rule\n"},
        {"haltere 1\ndefault allow read\n",
         "m.acl:2:1: warning: what no rule names is open to everybody; name what is allowed "
         "instead\n"},
        {"haltere 1\nanyone\nallow read a/%c\n",
         "m.acl:3:12: warning: %c is what a client calls itself; %d is the device its token "
         "proves\n"},
    };
    static char got[8192];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        warnings_of(rows[i].text, got, sizeof(got));
        cr_expect(strcmp(got, rows[i].want) == 0, "row %zu:\n got %s\nwant %s", i, got,
                  rows[i].want);
    }
}
