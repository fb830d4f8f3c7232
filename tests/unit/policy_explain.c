/* Why a policy decides so: the rule, what its variables stand for, the rule that nearly allowed. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "../../acl/explain.h"

static const char text[] = "haltere 1\n"                                           /* 1 */
                           "anyone\n"                                              /* 2 */
                           "  allow write devices/%d/telemetry\n"                  /* 3 */
                           "  allow read  devices/%d/# except devices/%d/secret\n" /* 4 */
                           "  allow write site/%{site}/log\n"                      /* 5 */
                           "  deny  read  area/%{site}/plan\n"                     /* 6 */
                           "role boss\n"                                           /* 7 */
                           "  allow subscribe boss/#\n"                            /* 8 */
                           "  deny subscribe =boss/+\n"                            /* 9 */
                           "role gate\n"                                           /* 10 */
                           "  allow write devices/%{children}/ack\n"               /* 11 */
                           "  allow unsubscribe a\n"                               /* 12 */
                           "  deny unsubscribe b\n";                               /* 13 */

static struct hlt_policy *policy;
static struct hlt_view *view;
static struct hlt_explanation what;

static void ask(const char *sub, const char *claims, enum hlt_access access, const char *topic)
{
    struct hlt_subject subject = {.client_id = sub != NULL ? sub : "",
                                  .user = sub,
                                  .device_id = sub,
                                  .claims = claims,
                                  .claims_len = claims != NULL ? strlen(claims) : 0};
    struct hlt_decision decision;

    if (policy == NULL) {
        cr_assert(hlt_policy_parse(&policy, text, sizeof(text) - 1, "p.acl", NULL, NULL) == HLT_OK);
    }
    view = hlt_policy_bind(policy, &subject);
    cr_assert(view != NULL);
    cr_assert(hlt_policy_explain(view, access, topic, &what) == HLT_OK);
    hlt_policy_decide(view, access, topic, &decision);
    if (strncmp(what.reason, "broker:", 7) != 0) {
        cr_expect(decision.verdict == what.decision.verdict && decision.rule == what.decision.rule,
                  "%s: the explanation is of the decision", topic);
    }
}

static void done(void)
{
    hlt_explanation_free(&what);
    hlt_view_free(view);
}

static void teardown(void)
{
    hlt_policy_free(policy);
}

TestSuite(policy_explain, .fini = teardown);

Test(policy_explain, the_rule_that_decides_is_named_with_what_it_stands_for)
{
    static const struct {
        const char *claims, *topic;
        enum hlt_access access;
        enum hlt_verdict verdict;
        unsigned line;
        const char *bound, *reason;
    } rows[] = {
        {"{}", "devices/d1/telemetry", HLT_WRITE, HLT_ALLOW, 3, "devices/d1/telemetry", "rule"},
        {"{}", "devices/d1/x/y", HLT_READ, HLT_ALLOW, 4, "devices/d1/#", "rule"},
        {"{\"site\":\"n\"}", "area/n/plan", HLT_READ, HLT_DENY, 6, "area/n/plan", "rule"},
        /* a deny with an unusable variable holds for any text */
        {"{}", "area/n/plan", HLT_READ, HLT_DENY, 6, "area/%{site}/plan", "unusable-variable"},
        {"{\"roles\":\"gate\",\"children\":[\"d7\",\"d8\"]}", "devices/d8/ack", HLT_WRITE,
         HLT_ALLOW, 11, "devices/d8/ack", "rule"},
        {"{\"roles\":\"boss\"}", "$share/g/boss/x", HLT_SUBSCRIBE, HLT_ALLOW, 8, "boss/#", "rule"},
        {"{\"roles\":\"boss\"}", "boss/+", HLT_SUBSCRIBE, HLT_DENY, 9, "=boss/+", "rule"},
        {"{\"roles\":\"gate\"}", "b", HLT_UNSUBSCRIBE, HLT_DENY, 13, "b", "rule"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ask("d1", rows[i].claims, rows[i].access, rows[i].topic);
        cr_expect(what.decision.verdict == rows[i].verdict, "row %zu", i);
        cr_expect(what.has_by && what.by.line == rows[i].line, "row %zu: line %u", i, what.by.line);
        cr_expect_str_eq(what.bound, rows[i].bound, "row %zu", i);
        cr_expect_str_eq(what.reason, rows[i].reason, "row %zu", i);
        cr_expect(!what.has_near, "row %zu: a rule spoke", i);
        done();
    }
}

Test(policy_explain, the_allow_that_failed_by_one_thing_is_found)
{
    static const struct {
        const char *claims, *topic;
        enum hlt_access access;
        unsigned line;
        const char *why;
    } rows[] = {
        {"{}", "devices/d2/telemetry", HLT_WRITE, 3, "level 2 is 'd2', not 'd1' (%d)"},
        {"{}", "devices/d1/telemetri", HLT_READ, 0, NULL}, /* allowed by line 4 */
        {"{}", "devices/d1/secret", HLT_READ, 4,
         "its exception 'devices/d1/secret' takes this out"},
        {"{\"site\":\"n\"}", "site/n/log", HLT_READ, 5, "access is write only"},
        {"{}", "site/n/log", HLT_WRITE, 5,
         "%{site} has no usable value: missing, empty, or with + # / in it"},
        {"{\"site\":\"a/b\"}", "site/n/log", HLT_WRITE, 5,
         "%{site} has no usable value: missing, empty, or with + # / in it"},
        {"{\"site\":\"n\"}", "site/n/log/x", HLT_WRITE, 5,
         "the rule's filter has 3 levels, this has 4"},
        {"{\"site\":\"n\"}", "site/n", HLT_WRITE, 5, "the rule's filter has 3 levels, this has 2"},
        {"{\"roles\":\"gate\",\"children\":[\"d7\",\"d8\"]}", "devices/d9/ack", HLT_WRITE, 11,
         "level 2 is 'd9', none of the 2 values of %{children}"},
        {"{\"roles\":\"boss\"}", "bosses/x", HLT_SUBSCRIBE, 8, "level 1 is 'bosses', not 'boss'"},
        {"{}", "nothing/at/all", HLT_WRITE, 0, NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ask("d1", rows[i].claims, rows[i].access, rows[i].topic);
        cr_expect(what.has_near == (rows[i].why != NULL), "row %zu: %s", i, what.why);
        if (what.has_near) {
            cr_expect(what.near.line == rows[i].line, "row %zu: line %u", i, what.near.line);
            cr_expect(rows[i].why != NULL && strcmp(what.why, rows[i].why) == 0, "row %zu: %s", i,
                      what.why);
        }
        done();
    }
}

Test(policy_explain, a_hopeless_subscription_is_told_what_it_lacks)
{
    ask("a+", "{}", HLT_SUBSCRIBE, "devices/#");
    cr_expect(what.decision.verdict == HLT_NO_RULE);
    cr_expect(what.has_near && what.near.line == 4, "line %u", what.near.line);
    cr_expect_str_eq(what.reason, "unusable-variable");
    done();
}

Test(policy_explain, what_the_broker_refuses_is_not_blamed_on_the_policy)
{
    static const struct {
        const char *topic, *reason;
        enum hlt_access access;
    } rows[] = {
        {"$SYS/x", "broker:$SYS", HLT_WRITE},
        {"$SYSTEM/x", "broker:$SYS", HLT_WRITE},
        {"$SYS/x", "default", HLT_READ},
        {"$SYS/broker/connection/b/state", "default", HLT_WRITE},
        {"$SYS/broker/connection/b/c/state", "broker:$SYS", HLT_WRITE},
        {"$share/g/x", "broker:$share", HLT_READ},
        {"$share/g/x", "default", HLT_SUBSCRIBE},
        {"a/+", "malformed", HLT_WRITE},
        {"a/#/b", "malformed", HLT_SUBSCRIBE},
        {"", "malformed", HLT_READ},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ask("d1", "{}", rows[i].access, rows[i].topic);
        cr_expect_str_eq(what.reason, rows[i].reason, "row %zu", i);
        cr_expect(what.decision.verdict != HLT_ALLOW, "row %zu", i);
        done();
    }
}

Test(policy_explain, the_sections_of_the_client_are_listed)
{
    ask("d1", "{\"roles\":[\"gate\",\"boss\",\"nobody\"]}", HLT_READ, "x");
    cr_expect_str_eq(hlt_view_section(view, 0), "anyone");
    cr_expect_str_eq(hlt_view_section(view, 1), "role boss");
    cr_expect_str_eq(hlt_view_section(view, 2), "role gate");
    cr_expect_null(hlt_view_section(view, 3));
    done();
}

Test(policy_explain, very_deep_topics_are_answered)
{
    char topic[1024];

    memset(topic, 'a', sizeof(topic));
    for (size_t i = 1; i < sizeof(topic); i += 2) {
        topic[i] = '/';
    }
    topic[sizeof(topic) - 1] = '\0';
    ask("d1", "{}", HLT_WRITE, topic);
    cr_expect(what.decision.verdict == HLT_NO_RULE);
    done();
}

Test(policy_explain, lines_of_a_mosquitto_acl_file_are_named)
{
    static const char plain[] = "user bob\ntopic read a\ntopic deny b\npattern write c/%c\n";
    static const struct {
        const char *id, *topic, *reason;
        enum hlt_access access;
        unsigned line;
    } rows[] = {
        {"x", "a", "legacy:topic", HLT_READ, 2},      {"x", "b", "legacy:topic", HLT_READ, 3},
        {"x", "c/x", "legacy:pattern", HLT_WRITE, 4}, {"x", "c/y", "default", HLT_WRITE, 0},
        {"x+", "c/x", "legacy:bad-id", HLT_WRITE, 0}, {"x", "c/+", "malformed", HLT_WRITE, 0},
    };
    struct hlt_policy *one;

    cr_assert(hlt_policy_parse(&one, plain, sizeof(plain) - 1, "acl", NULL, NULL) == HLT_OK);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_subject subject = {.client_id = rows[i].id, .user = "bob"};

        view = hlt_policy_bind(one, &subject);
        cr_assert(view != NULL);
        cr_assert(hlt_policy_explain(view, rows[i].access, rows[i].topic, &what) == HLT_OK);
        cr_expect_str_eq(what.reason, rows[i].reason, "row %zu", i);
        cr_expect(what.has_by == (rows[i].line > 0), "row %zu", i);
        cr_expect(!what.has_by || what.by.line == rows[i].line, "row %zu", i);
        done();
    }
    hlt_policy_free(one);
}

Test(policy_explain, tests_of_a_policy_can_be_run_one_by_one)
{
    static const char source[] = "haltere 1\nanyone\n allow read a\n"
                                 "expect allow read a as user=bob\n"
                                 "expect deny write a as sub=d1 roles=x roles=y\n";
    struct hlt_policy *one;
    struct hlt_test test;

    cr_assert(hlt_policy_parse(&one, source, sizeof(source) - 1, "p.acl", NULL, NULL) == HLT_OK);
    cr_assert(hlt_policy_test(one, 0, &test));
    cr_expect_str_eq(test.subject.user, "bob");
    cr_expect_null(test.subject.device_id);
    cr_expect(!test.deny && test.access == HLT_READ && test.line == 4);
    cr_assert(hlt_policy_test(one, 1, &test));
    cr_expect_str_eq(test.subject.claims, "{\"sub\":\"d1\",\"roles\":[\"x\",\"y\"]}");
    cr_expect_str_eq(test.subject.device_id, "d1");
    cr_expect(!hlt_policy_test(one, 2, &test));
    hlt_policy_free(one);
}
