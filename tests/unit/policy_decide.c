/* Decisions: the rules of the language one by one, then the compiled policy against a slow and
 * obvious reading of the same sentences over generated policies. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../acl/internal.h"

static struct hlt_policy *policy_from(const char *text)
{
    struct hlt_problems problems = {0};
    struct hlt_policy *policy = NULL;
    enum hlt_rc rc = hlt_policy_parse(&policy, text, strlen(text), "test.acl", NULL, &problems);

    cr_assert(rc == HLT_OK, "%s", problems.count > 0 ? problems.item[0].text : "no text");
    hlt_problems_free(&problems);
    return policy;
}

struct probe {
    enum hlt_access access;
    const char *topic;
    enum hlt_verdict want;
    unsigned line; /* 0: by no rule */
};

/* Ask `policy` all probes as one client: sub and claims of a token, or user alone. */
static void ask(const struct hlt_policy *policy, const char *sub, const char *user,
                const char *claims, const struct probe *probes, size_t count)
{
    struct hlt_subject subject = {.client_id = sub != NULL ? sub : "client",
                                  .user = user,
                                  .device_id = sub,
                                  .claims = claims,
                                  .claims_len = claims != NULL ? strlen(claims) : 0};
    struct hlt_view *view = hlt_policy_bind(policy, &subject);

    cr_assert(view != NULL);
    for (size_t i = 0; i < count; i++) {
        struct hlt_decision got;
        struct hlt_rule_ref ref;

        hlt_policy_decide(view, probes[i].access, probes[i].topic, &got);
        hlt_policy_rule(policy, got.rule, &ref);
        cr_expect(got.verdict == probes[i].want && ref.line == probes[i].line,
                  "row %zu '%s': verdict %d (want %d), line %u (want %u)", i, probes[i].topic,
                  got.verdict, probes[i].want, ref.line, probes[i].line);
    }
    hlt_view_free(view);
}
#define ASK(policy, sub, user, claims, probes)                                                     \
    ask(policy, sub, user, claims, probes, sizeof(probes) / sizeof((probes)[0]))

Test(policy_decide, deny_beats_allow_whatever_the_order)
{
    static const struct probe probes[] = {
        {HLT_READ, "farm/7/temp", HLT_ALLOW, 3},    {HLT_READ, "farm/7/secret", HLT_DENY, 4},
        {HLT_WRITE, "farm/7/temp", HLT_NO_RULE, 0}, {HLT_READ, "farm", HLT_ALLOW, 3},
        {HLT_READ, "barn/7", HLT_NO_RULE, 0},
    };
    struct hlt_policy *policy = policy_from("haltere 1\nanyone\nallow read farm/#\n"
                                            "deny read farm/+/secret\nallow read farm/7/secret\n");

    ASK(policy, NULL, NULL, NULL, probes);
    hlt_policy_free(policy);
}

Test(policy_decide, wildcards_do_not_match_a_first_level_that_begins_with_dollar)
{
    static const struct probe probes[] = {
        {HLT_READ, "$SYS/uptime", HLT_NO_RULE, 0}, {HLT_READ, "a/$SYS", HLT_ALLOW, 3},
        {HLT_WRITE, "$SYS", HLT_NO_RULE, 0},       {HLT_WRITE, "x", HLT_ALLOW, 4},
        {HLT_WRITE, "$C/x", HLT_ALLOW, 5},
    };
    struct hlt_policy *policy =
        policy_from("haltere 1\nanyone\nallow read #\nallow write +\nallow write $C/+\n");

    ASK(policy, NULL, NULL, NULL, probes);
    hlt_policy_free(policy);
}

Test(policy_decide, a_malformed_topic_is_denied_by_no_rule)
{
    static const struct probe probes[] = {
        {HLT_READ, "", HLT_DENY, 0},
        {HLT_READ, "a/+", HLT_DENY, 0},
        {HLT_WRITE, "#", HLT_DENY, 0},
        {HLT_WRITE, "a\x01", HLT_DENY, 0},
        {HLT_WRITE, "a\x7f", HLT_DENY, 0},
        {HLT_WRITE, "a/\xff", HLT_DENY, 0},
        {HLT_WRITE, "a/\xc3\xa4", HLT_ALLOW, 3},
        {HLT_SUBSCRIBE, "", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "a+", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "+a", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "a#", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "#/a", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "a/#/", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "++", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "$share", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "$share/", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "$share/g", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "$share/g/", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "$share//a", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "$share/+/a", HLT_DENY, 0},
        {HLT_UNSUBSCRIBE, "a/#/b", HLT_DENY, 0},
        {HLT_SUBSCRIBE, "$share/g/a", HLT_ALLOW, 3},
        {HLT_SUBSCRIBE, "/", HLT_ALLOW, 3},
    };
    struct hlt_policy *policy = policy_from("haltere 1\nanyone\nallow all #\n");

    ASK(policy, NULL, NULL, NULL, probes);
    hlt_policy_free(policy);
}

Test(policy_decide, an_access_that_is_none_or_several_is_denied)
{
    static const struct probe probes[] = {
        {(enum hlt_access)0, "a", HLT_DENY, 0},
        {(enum hlt_access)(HLT_READ | HLT_WRITE), "a", HLT_DENY, 0},
        {(enum hlt_access)16, "a", HLT_DENY, 0},
    };
    struct hlt_policy *policy = policy_from("haltere 1\nanyone\nallow all #\n");

    ASK(policy, NULL, NULL, NULL, probes);
    hlt_policy_free(policy);
}

Test(policy_decide, a_topic_of_65535_bytes_is_decided_and_one_more_is_malformed)
{
    struct hlt_policy *policy = policy_from("haltere 1\nanyone\nallow all #\n");
    char *topic = malloc(65537);
    struct probe fits = {HLT_WRITE, topic, HLT_ALLOW, 3}, over = {HLT_WRITE, topic, HLT_DENY, 0};

    for (size_t i = 0; i < 65536; i++) {
        topic[i] = i % 2 ? '/' : 'a'; /* also: far more levels than any filter has */
    }
    topic[65535] = '\0';
    ask(policy, NULL, NULL, NULL, &fits, 1);
    topic[65535] = 'a';
    topic[65536] = '\0';
    ask(policy, NULL, NULL, NULL, &over, 1);
    free(topic);
    hlt_policy_free(policy);
}

Test(policy_decide, sections_apply_to_whom_they_name)
{
    static const char text[] = "haltere 1\nanyone\nallow read any\nanonymous\nallow read anon\n"
                               "user bob\nallow read bob\nrole op\nallow read op\n"
                               "role op from groups\nallow read group\n";
    static const struct probe anonymous[] = {{HLT_READ, "any", HLT_ALLOW, 3},
                                             {HLT_READ, "anon", HLT_ALLOW, 5},
                                             {HLT_READ, "bob", HLT_NO_RULE, 0},
                                             {HLT_READ, "op", HLT_NO_RULE, 0}};
    static const struct probe bob[] = {{HLT_READ, "any", HLT_ALLOW, 3},
                                       {HLT_READ, "anon", HLT_NO_RULE, 0},
                                       {HLT_READ, "bob", HLT_ALLOW, 7}};
    static const struct probe device[] = {{HLT_READ, "any", HLT_ALLOW, 3},
                                          {HLT_READ, "anon", HLT_NO_RULE, 0},
                                          {HLT_READ, "op", HLT_ALLOW, 9},
                                          {HLT_READ, "group", HLT_NO_RULE, 0}};
    static const struct probe grouped[] = {{HLT_READ, "op", HLT_NO_RULE, 0},
                                           {HLT_READ, "group", HLT_ALLOW, 11}};
    static const struct probe nobody[] = {{HLT_READ, "bob", HLT_NO_RULE, 0}};
    struct hlt_policy *policy = policy_from(text);

    ASK(policy, NULL, NULL, NULL, anonymous);
    ASK(policy, NULL, "", NULL, anonymous);
    ASK(policy, NULL, "bob", NULL, bob);
    ASK(policy, NULL, "Bob", NULL, nobody);
    ASK(policy, NULL, "bob ", NULL, nobody);
    ASK(policy, "d1", NULL, "{\"sub\":\"d1\",\"roles\":[\"x\",\"op\"]}", device);
    ASK(policy, "d1", "d1", "{\"roles\":\"o\\u0070\"}", device);
    ASK(policy, "d1", "d1", "{\"r\\u006fles\":[[\"no\"],{\"a\":[1]},\"op\",7,null]}", device);
    ASK(policy, "d1", "d1", "{\"groups\":[\"op\"],\"roles\":[\"opp\",\"OP\",[\"op\"]]}", grouped);
    hlt_policy_free(policy);
}

Test(policy_decide, used_roles_are_pulled_in_over_several_steps)
{
    static const struct probe probes[] = {{HLT_READ, "c", HLT_ALLOW, 8},
                                          {HLT_READ, "b", HLT_DENY, 6},
                                          {HLT_READ, "d", HLT_NO_RULE, 0}};
    struct hlt_policy *policy =
        policy_from("haltere 1\nrole a\nuse b\nrole b\nuse c from groups\ndeny read b\n"
                    "role c from groups\nallow read c\nrole c\nallow read d\n");

    ASK(policy, "x", "x", "{\"roles\":\"a\"}", probes);
    hlt_policy_free(policy);
}

Test(policy_decide, except_narrows_a_rule)
{
    static const struct probe probes[] = {
        {HLT_WRITE, "dev/1/cmd/go", HLT_ALLOW, 3},
        {HLT_WRITE, "dev/1/cmd/firmware/x", HLT_NO_RULE, 0},
        {HLT_WRITE, "dev/1/cmd/firmware", HLT_NO_RULE, 0},
        {HLT_WRITE, "dev/9/cmd/go", HLT_NO_RULE, 0},
        {HLT_READ, "x/a", HLT_DENY, 4},
        {HLT_READ, "x/ok", HLT_ALLOW, 5},
    };
    struct hlt_policy *policy =
        policy_from("haltere 1\nanyone\n"
                    "allow write dev/+/cmd/# except dev/+/cmd/firmware/# except dev/9/#\n"
                    "deny read x/# except x/ok\nallow read x/#\n");

    ASK(policy, NULL, NULL, NULL, probes);
    hlt_policy_free(policy);
}

Test(policy_decide, a_subscription_must_be_contained_where_subscribing_is_granted)
{
    static const struct probe probes[] = {
        {HLT_SUBSCRIBE, "a/b/c", HLT_ALLOW, 3},     {HLT_SUBSCRIBE, "a/+", HLT_ALLOW, 3},
        {HLT_SUBSCRIBE, "a/#", HLT_ALLOW, 3},       {HLT_SUBSCRIBE, "$share/g1/a/#", HLT_ALLOW, 3},
        {HLT_SUBSCRIBE, "+/b", HLT_NO_RULE, 0},     {HLT_SUBSCRIBE, "#", HLT_NO_RULE, 0},
        {HLT_SUBSCRIBE, "a/secret/#", HLT_DENY, 4}, {HLT_SUBSCRIBE, "a/secret", HLT_DENY, 4},
        {HLT_SUBSCRIBE, "lit/+", HLT_ALLOW, 6},     {HLT_SUBSCRIBE, "lit/x", HLT_NO_RULE, 0},
        {HLT_SUBSCRIBE, "c/x/ok", HLT_ALLOW, 7},    {HLT_SUBSCRIBE, "c/#", HLT_NO_RULE, 0},
        {HLT_SUBSCRIBE, "c/x/+", HLT_NO_RULE, 0},   {HLT_UNSUBSCRIBE, "anything/#", HLT_ALLOW, 0},
        {HLT_UNSUBSCRIBE, "keep/x", HLT_DENY, 8},   {HLT_UNSUBSCRIBE, "+/x", HLT_ALLOW, 0},
    };
    struct hlt_policy *policy = policy_from(
        "haltere 1\nanyone\nallow subscribe a/#\ndeny subscribe a/secret/#\nallow read #\n"
        "allow subscribe =lit/+\nallow subscribe c/# except c/+/secret\ndeny unsubscribe keep/#\n");

    ASK(policy, NULL, NULL, NULL, probes);
    hlt_policy_free(policy);
}

Test(policy_decide, a_subscription_must_overlap_what_may_be_read_where_nobody_grants_subscribing)
{
    static const struct probe probes[] = {
        {HLT_SUBSCRIBE, "#", HLT_ALLOW, 3},
        {HLT_SUBSCRIBE, "+/b", HLT_ALLOW, 3},
        {HLT_SUBSCRIBE, "a/b", HLT_ALLOW, 3},
        {HLT_SUBSCRIBE, "b/#", HLT_NO_RULE, 0},
        {HLT_SUBSCRIBE, "+", HLT_ALLOW, 3}, /* a/# also matches a */
        {HLT_SUBSCRIBE, "$SYS/#", HLT_NO_RULE, 0},
        {HLT_SUBSCRIBE, "a/x/#", HLT_NO_RULE, 0},  /* all of it is excepted */
        {HLT_SUBSCRIBE, "a/+/y", HLT_ALLOW, 3},    /* delivery decides */
        {HLT_SUBSCRIBE, "a/never/#", HLT_DENY, 4}, /* could bring nothing */
        {HLT_SUBSCRIBE, "=a", HLT_NO_RULE, 0},
    };
    static const struct probe refused[] = {{HLT_SUBSCRIBE, "#", HLT_DENY, 4},
                                           {HLT_SUBSCRIBE, "+/#", HLT_ALLOW, 3}};
    struct hlt_policy *policy =
        policy_from("haltere 1\nanyone\nallow read a/# except a/x/#\ndeny read a/never/#\n");

    ASK(policy, NULL, NULL, NULL, probes);
    hlt_policy_free(policy);
    policy = policy_from("haltere 1\nanyone\nallow read a/#\ndeny subscribe =#\n");
    ASK(policy, NULL, NULL, NULL, refused);
    hlt_policy_free(policy);
}

Test(policy_decide, the_same_set_written_otherwise_is_the_same_subscription)
{
    static const struct probe probes[] = {{HLT_SUBSCRIBE, "#", HLT_DENY, 4},
                                          {HLT_SUBSCRIBE, "+/#", HLT_DENY, 4},
                                          {HLT_SUBSCRIBE, "$SYS/#", HLT_NO_RULE, 0}};
    struct hlt_policy *policy =
        policy_from("haltere 1\nanyone\nallow read #\ndeny subscribe +/#\n");

    ASK(policy, NULL, NULL, NULL, probes);
    hlt_policy_free(policy);
}

Test(policy_decide, an_odd_value_opens_nothing_and_escapes_no_denial)
{
    static const char *const odd[] = {"",     "#",        "+",       "a/b",     "a+",
                                      "$SYS", "x\\u0001", "\\u0000", "x\\u007f"};
    static const struct probe probes[] = {
        {HLT_WRITE, "$SYS/x", HLT_NO_RULE, 0},      {HLT_WRITE, "a/x", HLT_NO_RULE, 0},
        {HLT_WRITE, "a/b/x", HLT_NO_RULE, 0},       {HLT_WRITE, "devices/#", HLT_DENY, 0},
        {HLT_READ, "v/a/secret", HLT_DENY, 5},      {HLT_READ, "v/a/b/secret", HLT_ALLOW, 4},
        {HLT_READ, "v//secret", HLT_DENY, 5},       {HLT_SUBSCRIBE, "v/+/secret", HLT_DENY, 5},
        {HLT_SUBSCRIBE, "v/a/secret", HLT_DENY, 5},
    };
    struct hlt_policy *policy =
        policy_from("haltere 1\nanyone\nallow write %{x}/#\nallow read v/#\n"
                    "deny read,subscribe v/%{x}/secret\n");

    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        char claims[64];

        (void)snprintf(claims, sizeof(claims), "{\"x\":\"%s\"}", odd[i]);
        if (strcmp(odd[i], "$SYS") == 0) { /* fine below the first level, and only itself there */
            static const struct probe below[] = {{HLT_WRITE, "$SYS/x", HLT_NO_RULE, 0},
                                                 {HLT_READ, "v/$SYS/secret", HLT_DENY, 5},
                                                 {HLT_READ, "v/a/secret", HLT_ALLOW, 4}};
            ASK(policy, "d", "d", claims, below);
            continue;
        }
        ASK(policy, "d", "d", claims, probes);
    }
    ASK(policy, "d", "d", "{}", probes);
    ASK(policy, "d", "d", "{\"x\":null}", probes);
    ASK(policy, "d", "d", "{\"x\":1.5}", probes);
    ASK(policy, "d", "d", "{\"x\":[]}", probes);
    ASK(policy, "d", "d", "{\"x\":{\"x\":\"a\"}}", probes);
    ASK(policy, "d", "d", "not json", probes);
    ASK(policy, NULL, "bob", NULL, probes);
    hlt_policy_free(policy);
}

Test(policy_decide, a_denial_by_an_unusable_first_level_holds_for_dollar_too)
{
    static const struct probe probes[] = {{HLT_READ, "$SYS/k", HLT_DENY, 4},
                                          {HLT_READ, "a/k", HLT_DENY, 4},
                                          {HLT_READ, "$SYS/j", HLT_ALLOW, 3}};
    struct hlt_policy *policy =
        policy_from("haltere 1\nanyone\nallow read $SYS/#\ndeny read %u/k\n");

    ASK(policy, NULL, NULL, NULL, probes);
    ASK(policy, NULL, "$SYS", NULL, probes);
    hlt_policy_free(policy);
}

Test(policy_decide, exceptions_with_an_unusable_variable_take_the_safe_side)
{
    static const struct probe unknown[] = {{HLT_READ, "a/me", HLT_NO_RULE, 0},
                                           {HLT_WRITE, "b/me", HLT_DENY, 4}};
    static const struct probe known[] = {{HLT_READ, "a/me", HLT_NO_RULE, 0},
                                         {HLT_READ, "a/you", HLT_ALLOW, 3},
                                         {HLT_WRITE, "b/me", HLT_ALLOW, 5},
                                         {HLT_WRITE, "b/you", HLT_DENY, 4}};
    struct hlt_policy *policy = policy_from("haltere 1\nanyone\nallow read a/+ except a/%d\n"
                                            "deny write b/+ except b/%d\nallow write b/#\n");

    ASK(policy, NULL, "bob", NULL, unknown);
    ASK(policy, "me", "me", NULL, known);
    hlt_policy_free(policy);
}

Test(policy_decide, arrays_and_integers_are_values_and_claim_text_is_not_expanded_again)
{
    static const struct probe probes[] = {
        {HLT_WRITE, "d/k1/t", HLT_ALLOW, 3},
        {HLT_WRITE, "d/k2/t", HLT_ALLOW, 3},
        {HLT_WRITE, "d/%d/t", HLT_ALLOW, 3},
        {HLT_WRITE, "d/gw/t", HLT_NO_RULE, 0},
        {HLT_WRITE, "n/42", HLT_ALLOW, 4},
        {HLT_WRITE, "n/4", HLT_NO_RULE, 0},
        {HLT_WRITE, "o/gw/gw", HLT_ALLOW, 5},
        {HLT_WRITE, "o/gw/k1", HLT_NO_RULE, 0},
        {HLT_WRITE, "d/a-long-name-of-a-child/t", HLT_ALLOW, 3},
        {HLT_WRITE, "d/a-long-name-of-a-chile/t", HLT_NO_RULE, 0},
    };
    struct hlt_policy *policy = policy_from("haltere 1\nanyone\nallow write d/%{children}/t\n"
                                            "allow write n/%{n}\nallow write o/%{sub}/%d\n");

    ASK(policy, "gw", "gw",
        "{\"children\":[\"k1\",\"k2\",\"%d\",\"a-long-name-of-a-child\",\"k3\",\"k4\",\"k5\"],"
        "\"n\":42}",
        probes);
    hlt_policy_free(policy);
}

Test(policy_decide, a_thousand_children_are_all_found)
{
    struct hlt_policy *policy = policy_from("haltere 1\nanyone\nallow write d/%{children}/t\n");
    char *claims = malloc(20000);
    size_t len = (size_t)sprintf(claims, "{\"children\":[\"k0\"");
    struct hlt_view *view;

    for (int i = 1; i < 1000; i++) {
        len += (size_t)sprintf(claims + len, ",\"k%d\"", i);
    }
    len += (size_t)sprintf(claims + len, "]}");
    view = hlt_policy_bind(
        policy,
        &(struct hlt_subject){
            .client_id = "g", .user = "g", .device_id = "g", .claims = claims, .claims_len = len});
    cr_assert(view != NULL);
    for (int i = 0; i < 1100; i++) {
        struct hlt_decision got;
        char topic[32];

        (void)snprintf(topic, sizeof(topic), "d/k%d/t", i);
        hlt_policy_decide(view, HLT_WRITE, topic, &got);
        cr_expect(got.verdict == (i < 1000 ? HLT_ALLOW : HLT_NO_RULE), "%s", topic);
    }
    hlt_view_free(view);
    free(claims);
    hlt_policy_free(policy);
}

Test(policy_decide, bound_device_wants_every_allowing_rule_to_bind_the_device)
{
    struct hlt_policy *policy =
        policy_from("haltere 1\nanyone\nallow write a/%d\nallow write b/%d\nallow write b/+\n"
                    "allow write c/+\nallow write e/%{sub}\nallow write f/%c\n");
    static const struct {
        const char *topic;
        bool want;
    } rows[] = {{"a/me", true}, {"b/me", false}, {"c/me", false}, {"e/me", true}, {"f/me", false}};
    struct hlt_view *view = hlt_policy_bind(
        policy, &(struct hlt_subject){.client_id = "me", .user = "me", .device_id = "me"});

    cr_assert(view != NULL);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_decision got;

        hlt_policy_decide(view, HLT_WRITE, rows[i].topic, &got);
        cr_expect(got.verdict == HLT_ALLOW && got.bound_device == rows[i].want, "%s",
                  rows[i].topic);
    }
    hlt_view_free(view);
    hlt_policy_free(policy);
}

/* ---- policies that could make a decision dear ---- */

/* One question, answered by the walk and, where that has no patience, by the scan. */
static void ask_both(struct hlt_policy *policy, const struct hlt_view *view, enum hlt_access access,
                     const char *topic, enum hlt_verdict want, unsigned line)
{
    static const uint32_t patience[] = {HLT_ACL_PATIENCE, 0};

    for (size_t i = 0; i < 2; i++) {
        struct hlt_decision got;
        struct hlt_rule_ref ref;

        policy->patience = patience[i];
        hlt_policy_decide(view, access, topic, &got);
        hlt_policy_rule(policy, got.rule, &ref);
        cr_expect(got.verdict == want && ref.line == line,
                  "'%s', patience %u: verdict %d (want %d), line %u (want %u)", topic, patience[i],
                  got.verdict, want, ref.line, line);
    }
    policy->patience = HLT_ACL_PATIENCE;
}

static struct hlt_policy *policy_of(FILE *out, char **text)
{
    struct hlt_policy *policy;

    fclose(out);
    policy = policy_from(*text);
    free(*text);
    return policy;
}

Test(policy_decide, filters_that_hold_a_topic_in_thousands_of_ways_are_decided_all_the_same)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct hlt_policy *policy;
    struct hlt_view *view;

    fprintf(out, "haltere 1\nanyone\n");
    for (unsigned i = 0; i < 4096; i++) { /* every way to write twelve levels with a or + */
        fprintf(out, "%s ", i == 4000 ? "deny write" : "allow read,write");
        for (unsigned k = 0; k < 12; k++) {
            fprintf(out, "%s%s", k > 0 ? "/" : "", i >> k & 1 ? "+" : "a");
        }
        fprintf(out, "\n");
    }
    policy = policy_of(out, &text);
    view = hlt_policy_bind(policy, &(struct hlt_subject){.client_id = "c"});
    ask_both(policy, view, HLT_READ, "a/a/a/a/a/a/a/a/a/a/a/a", HLT_ALLOW, 3);
    ask_both(policy, view, HLT_READ, "b/a/a/a/a/a/a/a/a/a/a/a", HLT_ALLOW, 4);
    ask_both(policy, view, HLT_READ, "a/a/a/a/a/a/a/a/a/a/a/b", HLT_ALLOW, 3 + 2048);
    ask_both(policy, view, HLT_READ, "b/b/b/b/b/b/b/b/b/b/b/b", HLT_ALLOW, 3 + 4095);
    ask_both(policy, view, HLT_WRITE, "a/a/a/a/a/a/a/a/a/a/a/a", HLT_DENY, 3 + 4000);
    ask_both(policy, view, HLT_READ, "a/a/a/a/a/a/a/a/a/a/a/a/a", HLT_NO_RULE, 0);
    ask_both(policy, view, HLT_READ, "a/a/a/a/a/a/a/a/a/a/a", HLT_NO_RULE, 0);
    hlt_view_free(view);
    hlt_policy_free(policy);
}

/* Without the claims each variable of a denial is any text: more ways aside than a walk can keep.
 */
Test(policy_decide, denials_with_many_variables_at_each_level_are_decided_all_the_same)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct hlt_policy *policy;
    struct hlt_view *view;

    fprintf(out, "haltere 1\nanyone\n");
    for (unsigned depth = 0; depth < 190; depth++) {
        for (unsigned way = 0; way < 6; way++) {
            fprintf(out, "deny read ");
            for (unsigned i = 0; i < depth; i++) {
                fprintf(out, "x/");
            }
            fprintf(out, "%%{k%u}\n", way);
        }
    }
    policy = policy_of(out, &text);
    view = hlt_policy_bind(policy, &(struct hlt_subject){.client_id = "c"});
    for (unsigned depth = 0; depth < 190; depth++) {
        char topic[400] = "";

        for (unsigned i = 0; i < depth; i++) {
            strcpy(topic + 2 * (size_t)i, "x/");
        }
        strcpy(topic + 2 * (size_t)depth, "y");
        ask_both(policy, view, HLT_READ, topic, HLT_DENY, 3 + depth * 6);
        strcpy(topic + 2 * (size_t)depth, "x/x/x");
        ask_both(policy, view, HLT_READ, topic, depth < 188 ? HLT_DENY : HLT_NO_RULE,
                 depth < 188 ? 3 + (depth + 2) * 6 : 0);
    }
    hlt_view_free(view);
    hlt_policy_free(policy);
}

/* Thousands of rules have the same code of sixteen bits here and there. */
Test(policy_decide, a_subscription_finds_the_one_of_many_rules_it_touches)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct hlt_policy *policy;
    struct hlt_view *view;

    fprintf(out, "haltere 1\nanyone\ndeny read hall/100/#\n");
    for (unsigned i = 0; i < 3000; i++) {
        fprintf(out, "allow read hall/%u/x%s\n", i, i % 7 == 0 ? " except +/+/x" : "");
    }
    policy = policy_of(out, &text);
    view = hlt_policy_bind(policy, &(struct hlt_subject){.client_id = "c"});
    for (unsigned i = 0; i < 6000; i++) {
        bool readable = i < 3000 && i != 100 && i % 7 != 0;
        char filter[32];

        (void)snprintf(filter, sizeof(filter), "+/%u/x", i);
        ask_both(policy, view, HLT_SUBSCRIBE, filter,
                 i < 3000 && i % 7 != 0 ? HLT_ALLOW : HLT_NO_RULE,
                 i < 3000 && i % 7 != 0 ? 4 + i : 0);
        (void)snprintf(filter, sizeof(filter), "hall/%u/#", i);
        ask_both(policy, view, HLT_SUBSCRIBE, filter,
                 i == 100   ? HLT_DENY
                 : i < 3000 ? HLT_ALLOW
                            : HLT_NO_RULE,
                 i == 100   ? 3
                 : i < 3000 ? 4 + i
                            : 0);
        (void)snprintf(filter, sizeof(filter), "hall/%u/x", i);
        ask_both(policy, view, HLT_READ, filter,
                 i == 100   ? HLT_DENY
                 : readable ? HLT_ALLOW
                            : HLT_NO_RULE,
                 i == 100   ? 3
                 : readable ? 4 + i
                            : 0);
    }
    hlt_view_free(view);
    hlt_policy_free(policy);
}

/* A thousand roles: what is other people's is passed over, what is one's own never. */
Test(policy_decide, each_of_a_thousand_roles_has_its_own_rules_and_no_other_s)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    struct hlt_policy *policy;

    fprintf(out, "haltere 1\n");
    for (unsigned i = 0; i < 1000; i++) { /* and under one place rules of many roles */
        fprintf(out, "role r%u\nallow read hall/%u/x\nallow write mix/%u/%u\n", i, i, i % 7, i);
    }
    policy = policy_of(out, &text);
    for (unsigned i = 0; i < 1000; i += 37) {
        char claims[64];
        unsigned other = 999 - i;
        struct hlt_view *view;

        (void)snprintf(claims, sizeof(claims), "{\"roles\":[\"r%u\",\"r%u\"]}", i, other);
        view = hlt_policy_bind(policy, &(struct hlt_subject){.client_id = "d",
                                                             .device_id = "d",
                                                             .claims = claims,
                                                             .claims_len = strlen(claims)});
        for (unsigned k = 0; k < 1000; k++) {
            bool own = k == i || k == other;
            char topic[32];

            (void)snprintf(topic, sizeof(topic), "hall/%u/x", k);
            ask_both(policy, view, HLT_READ, topic, own ? HLT_ALLOW : HLT_NO_RULE,
                     own ? 3 * k + 3 : 0);
            (void)snprintf(topic, sizeof(topic), "mix/%u/%u", k % 7, k);
            ask_both(policy, view, HLT_WRITE, topic, own ? HLT_ALLOW : HLT_NO_RULE,
                     own ? 3 * k + 4 : 0);
        }
        hlt_view_free(view);
    }
    hlt_policy_free(policy);
}

/* ---- against a slow reading of the same sentences ----
 * Variables are replaced by each of their values, ANY stands for "any text"; containing and
 * overlapping are looked up in the set of all topics of up to four levels over a small alphabet
 * that has texts no filter names. */

#define ANY "\x01"
#define MAX_RULES 14
#define MAX_EXPANDED 32
#define UNIVERSE 1600
#define WORDS (UNIVERSE / 64)

static const char *const alphabet[] = {"a", "7", "$s", "z", "", "quite-a-long-level"};
#define ALPHABET 6

struct set {
    uint64_t bit[WORDS];
};
struct filter {
    char text[96];
    bool literal;
};
struct rule {
    int section;
    bool deny;
    unsigned access;
    struct filter filter;
    struct filter except[2];
    int excepts;
};
enum { S_ANYONE, S_ANON, S_USER, S_ROLE0, S_ROLE1, S_ROLE2, S_COUNT };
struct value {
    const char *text[3];
    int count;
    bool odd; /* missing, or not all of its values usable */
};
struct session {
    bool applies[S_COUNT];
    struct value var[4]; /* %c %u %d %{site} */
};
struct world {
    struct rule rule[MAX_RULES];
    int rules;
    bool uses[S_COUNT][S_COUNT];
};

static char universe[UNIVERSE][96];
static int universe_size;
static uint64_t seed = 20261120;

static unsigned rnd(unsigned below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed % below);
}

static void make_universe(const char *prefix, int levels)
{
    for (int i = 0; i < ALPHABET; i++) {
        char topic[96];

        (void)snprintf(topic, sizeof(topic), "%s%s%s", prefix, levels > 0 ? "/" : "", alphabet[i]);
        strcpy(universe[universe_size++], topic);
        if (levels < 3) {
            make_universe(topic, levels + 1);
        }
    }
}

/* MQTT's matching, by the book and recursive; ANY stands for one level of any text. */
static bool matches(const char *filter, const char *topic, bool first)
{
    size_t f = strcspn(filter, "/"), t = strcspn(topic, "/");
    bool dollar = first && topic[0] == '$';

    if (f == 1 && filter[0] == '#') {
        return !dollar;
    }
    if (f == 1 && filter[0] == '+') {
        if (dollar) {
            return false;
        }
    } else if (!(f == 1 && filter[0] == ANY[0]) && (f != t || memcmp(filter, topic, f) != 0)) {
        return false;
    }
    if (filter[f] == '\0' || topic[t] == '\0') {
        return (filter[f] == topic[t]) || (topic[t] == '\0' && strcmp(filter + f, "/#") == 0);
    }
    return matches(filter + f + 1, topic + t + 1, false);
}

static bool same_literal(const char *filter, const char *asked)
{
    size_t f = strcspn(filter, "/"), t = strcspn(asked, "/");

    if (!(f == 1 && filter[0] == ANY[0]) && (f != t || memcmp(filter, asked, f) != 0)) {
        return false;
    }
    if (filter[f] == '\0' || asked[t] == '\0') {
        return filter[f] == asked[t];
    }
    return same_literal(filter + f + 1, asked + t + 1);
}

static struct set set_of(const char *filter)
{
    struct set set = {{0}};

    for (int i = 0; i < universe_size; i++) {
        if (matches(filter, universe[i], true)) {
            set.bit[i / 64] |= UINT64_C(1) << (i % 64);
        }
    }
    return set;
}

static bool inside(const struct set *inner, const struct set *outer)
{
    for (int i = 0; i < WORDS; i++) {
        if ((inner->bit[i] & ~outer->bit[i]) != 0) {
            return false;
        }
    }
    return true;
}

static bool touches(const struct set *one, const struct set *other)
{
    for (int i = 0; i < WORDS; i++) {
        if ((one->bit[i] & other->bit[i]) != 0) {
            return true;
        }
    }
    return false;
}

/* All filters `filter` stands for in this session. `strict`: what is odd stands for any text. */
static int expand(const struct session *session, const char *filter, bool strict, char (*out)[96])
{
    static const char *const names[] = {"%c", "%u", "%d", "%{site}"};
    int count = 1;

    out[0][0] = '\0';
    for (int depth = 0;; depth++) {
        size_t len = strcspn(filter, "/");
        char next[MAX_EXPANDED][96];
        int next_count = 0;

        for (int i = 0; i < count; i++) {
            const char *texts[4] = {NULL};
            char plain[64];
            int n = 0;

            (void)snprintf(plain, sizeof(plain), "%.*s", (int)len, filter);
            texts[n++] = plain;
            for (int v = 0; v < 4; v++) {
                bool odd = session->var[v].odd;

                if (strcmp(plain, names[v]) != 0) {
                    continue;
                }
                n = 0;
                for (int k = 0; k < session->var[v].count; k++) {
                    if (depth == 0 && session->var[v].text[k][0] == '$') {
                        odd = true;
                    } else {
                        texts[n++] = session->var[v].text[k];
                    }
                }
                if (odd && strict) {
                    texts[n++] = ANY;
                }
                break;
            }
            for (int k = 0; k < n; k++) {
                int len_made = snprintf(next[next_count++], 96, "%s%s%s", out[i],
                                        depth > 0 ? "/" : "", texts[k]);
                cr_assert(len_made < 96);
            }
        }
        memcpy(out, next, sizeof(next));
        count = next_count;
        if (filter[len] == '\0') {
            return count;
        }
        filter += len + 1;
    }
}

enum how { COVERS_IT, TOUCHES_IT };

static bool holds(const struct session *session, const struct filter *filter, bool strict,
                  enum how how, const char *asked, const struct set *asked_set)
{
    char expanded[MAX_EXPANDED][96];
    int count = expand(session, filter->text, strict, expanded);

    for (int i = 0; i < count; i++) {
        if (filter->literal) {
            if (same_literal(expanded[i], asked)) {
                return true;
            }
        } else {
            struct set set = set_of(expanded[i]);

            if (how == COVERS_IT ? inside(asked_set, &set) : touches(asked_set, &set)) {
                return true;
            }
        }
    }
    return false;
}

static bool any_except(const struct session *session, const struct rule *rule, enum how how,
                       const char *asked, const struct set *asked_set)
{
    for (int i = 0; i < rule->excepts; i++) {
        if (holds(session, &rule->except[i], !rule->deny, how, asked, asked_set)) {
            return true;
        }
    }
    return false;
}

static bool uses_device(const char *filter)
{
    return strstr(filter, "%d") != NULL;
}

struct verdict {
    enum hlt_verdict verdict;
    int rule;
    bool bound;
};

/* The lowest rule with this access and effect for which filter and exceptions come out so; -1:
 * none. */
static int lowest(const struct world *world, const struct session *session, unsigned access,
                  bool deny, enum how filter_how, enum how except_how, const char *asked,
                  bool *all_bound)
{
    struct set set = set_of(asked);
    int found = -1;

    for (int i = world->rules - 1; i >= 0; i--) {
        const struct rule *rule = &world->rule[i];

        if (session->applies[rule->section] && rule->deny == deny && (rule->access & access) != 0 &&
            holds(session, &rule->filter, deny, filter_how, asked, &set) &&
            !any_except(session, rule, except_how, asked, &set)) {
            found = i;
            *all_bound &= uses_device(rule->filter.text);
        }
    }
    return found;
}

static struct verdict slow_decide(const struct world *world, const struct session *session,
                                  unsigned access, const char *asked)
{
    struct verdict none = {HLT_NO_RULE, -1, false};
    bool bound = true, subscribes = false;
    int deny = lowest(world, session, access, true, COVERS_IT, COVERS_IT, asked, &(bool){true});
    int allow = lowest(world, session, access, false, COVERS_IT, TOUCHES_IT, asked, &bound);

    if (deny >= 0) {
        return (struct verdict){HLT_DENY, deny, false};
    }
    if (allow >= 0) {
        return (struct verdict){HLT_ALLOW, allow, bound && (access & (HLT_READ | HLT_WRITE)) != 0};
    }
    if (access == HLT_UNSUBSCRIBE) {
        return (struct verdict){HLT_ALLOW, -1, false};
    }
    for (int i = 0; i < world->rules; i++) {
        subscribes |= session->applies[world->rule[i].section] && !world->rule[i].deny &&
                      (world->rule[i].access & HLT_SUBSCRIBE) != 0;
    }
    if (access != HLT_SUBSCRIBE || subscribes) {
        return none;
    }
    deny = lowest(world, session, HLT_READ, true, COVERS_IT, TOUCHES_IT, asked, &(bool){true});
    allow = lowest(world, session, HLT_READ, false, TOUCHES_IT, COVERS_IT, asked, &(bool){true});
    return deny >= 0    ? (struct verdict){HLT_DENY, deny, false}
           : allow >= 0 ? (struct verdict){HLT_ALLOW, allow, false}
                        : none;
}

/* A filter of up to three levels and maybe #; `variables`: with some. */
static void random_filter(char *out, bool variables)
{
    static const char *const names[] = {"%c", "%u", "%d", "%{site}"};
    int levels = (int)rnd(4);
    size_t len = 0;

    out[0] = '\0';
    for (int i = 0; i < levels; i++) {
        unsigned pick = rnd(10);
        const char *level = pick < 2                ? "+"
                            : pick < 5 && variables ? names[rnd(4)]
                                                    : alphabet[rnd(ALPHABET)];

        len += (size_t)sprintf(out + len, "%s%s", i > 0 ? "/" : "", level);
    }
    if (levels == 0 || rnd(4) == 0) {
        (void)sprintf(out + len, "%s#", levels > 0 ? "/" : "");
    }
    if (out[0] == '\0') {
        strcpy(out, "a");
    }
}

static void random_world(struct world *world)
{
    static const unsigned accesses[] = {
        HLT_READ, HLT_WRITE, HLT_SUBSCRIBE, HLT_UNSUBSCRIBE, HLT_READ, HLT_READ | HLT_WRITE, 15};
    bool granting = rnd(2) == 0; /* half the policies leave subscribing to reading */

    memset(world, 0, sizeof(*world));
    world->rules = 1 + (int)rnd(MAX_RULES);
    for (int i = 0; i < world->rules; i++) {
        struct rule *rule = &world->rule[i];

        rule->section = (int)rnd(S_COUNT);
        rule->deny = rnd(4) == 0;
        rule->access = accesses[rnd(7)];
        if (!granting && !rule->deny) {
            rule->access &= ~(unsigned)HLT_SUBSCRIBE;
            rule->access |= HLT_READ;
        }
        random_filter(rule->filter.text, true);
        rule->filter.literal = (rule->access & (HLT_READ | HLT_WRITE)) == 0 && rnd(3) == 0;
        rule->excepts = rnd(3) == 0 ? 1 + (int)rnd(2) : 0;
        for (int e = 0; e < rule->excepts; e++) {
            random_filter(rule->except[e].text, true);
            rule->except[e].literal = (rule->access & (HLT_READ | HLT_WRITE)) == 0 && rnd(3) == 0;
        }
    }
    world->uses[S_ROLE0][S_ROLE1] = rnd(3) == 0;
    world->uses[S_ROLE1][S_ROLE2] = rnd(3) == 0;
    world->uses[S_USER][S_ROLE0] = rnd(3) == 0;
}

static void print_filter(FILE *out, const struct filter *filter)
{
    fprintf(out, " %s\"%s\"", filter->literal ? "=" : "", filter->text);
}

/* The policy as text: each rule under its own section line, in order, so that rule i is rule i. */
static char *print_world(const struct world *world)
{
    static const char *const sections[] = {"anyone",  "anonymous", "user a",
                                           "role r0", "role r1",   "role r2 from groups"};
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    fprintf(out, "haltere 1\nrole r0\nrole r1\nrole r2 from groups\n");
    for (int i = 0; i < S_COUNT; i++) {
        for (int k = 0; k < S_COUNT; k++) {
            if (world->uses[i][k]) {
                fprintf(out, "%s\nuse %s\n", sections[i], sections[k] + 5);
            }
        }
    }
    for (int i = 0; i < world->rules; i++) {
        const struct rule *rule = &world->rule[i];
        const char *comma = "";

        fprintf(out, "%s\n  %s ", sections[rule->section], rule->deny ? "deny" : "allow");
        for (int bit = 0; bit < 4; bit++) {
            static const char *const names[] = {"read", "write", "subscribe", "unsubscribe"};

            if ((rule->access >> bit & 1) != 0) {
                fprintf(out, "%s%s", comma, names[bit]);
                comma = ",";
            }
        }
        print_filter(out, &rule->filter);
        for (int e = 0; e < rule->excepts; e++) {
            fprintf(out, " except");
            print_filter(out, &rule->except[e]);
        }
        fprintf(out, "\n");
    }
    fclose(out);
    return text;
}

static void use_more(const struct world *world, struct session *session)
{
    for (int round = 0; round < S_COUNT; round++) {
        for (int i = 0; i < S_COUNT; i++) {
            for (int k = 0; k < S_COUNT; k++) {
                session->applies[k] |= session->applies[i] && world->uses[i][k];
            }
        }
    }
}

static void set_value(struct value *value, const char *text)
{
    bool odd = text == NULL || text[0] == '\0' || strpbrk(text, "+#/\x02") != NULL;

    *value = (struct value){.odd = odd};
    if (!odd) {
        value->text[value->count++] = text;
    }
}

/* A client and what the sentences make of it. `claims` has room for 256 bytes. */
static struct hlt_subject random_subject(const struct world *world, struct session *session,
                                         char *claims)
{
    static const char *const ids[] = {
        "a", "7", "$s", "z", "+", "#", "a/b", "a\x02", "quite-a-long-level"};
    static const struct {
        const char *json;
        struct value value;
    } sites[] = {
        {"", {.odd = true}},
        {",\"site\":\"a\"", {{"a"}, 1, false}},
        {",\"site\":\"$s\"", {{"$s"}, 1, false}},
        {",\"site\":[\"a\",\"7\"]", {{"a", "7"}, 2, false}},
        {",\"site\":[\"z\",\"+\"]", {{"z"}, 1, true}},
        {",\"site\":[\"$s\",\"quite-a-long-level\"]", {{"$s", "quite-a-long-level"}, 2, false}},
        {",\"site\":[\"z\",7]", {{"z"}, 1, true}},
        {",\"site\":7", {{"7"}, 1, false}},
        {",\"site\":true", {.odd = true}},
    };
    struct hlt_subject subject = {.client_id = ids[rnd(9)]};
    unsigned site = rnd(9);

    memset(session, 0, sizeof(*session));
    session->applies[S_ANYONE] = true;
    for (int v = 0; v < 4; v++) {
        session->var[v].odd = true;
    }
    if (rnd(4) > 0) {
        subject.user = ids[rnd(9)];
        session->applies[S_USER] = strcmp(subject.user, "a") == 0;
    }
    if (rnd(3) > 0) {
        bool r0 = rnd(2), r1 = rnd(2), r2 = rnd(2);

        subject.device_id = ids[rnd(9)];
        (void)sprintf(claims, "{\"x\":{\"roles\":\"r0\"},\"roles\":[%s%s%s]%s%s}",
                      r0 ? "\"r0\"" : "", r0 && r1 ? "," : "", r1 ? "\"r1\"" : "",
                      r2 ? ",\"groups\":\"r2\"" : "", sites[site].json);
        subject.claims = claims;
        subject.claims_len = strlen(claims);
        session->applies[S_ROLE0] = r0;
        session->applies[S_ROLE1] = r1;
        session->applies[S_ROLE2] = r2;
        session->var[3] = sites[site].value;
    }
    session->applies[S_ANON] = subject.user == NULL && subject.device_id == NULL;
    set_value(&session->var[0], subject.client_id);
    set_value(&session->var[1], subject.user);
    set_value(&session->var[2], subject.device_id);
    use_more(world, session);
    return subject;
}

static void compare(const char *client, const struct world *world, const struct session *session,
                    const struct hlt_view *view, const char *text)
{
    static const enum hlt_access kinds[] = {HLT_READ, HLT_WRITE, HLT_SUBSCRIBE, HLT_UNSUBSCRIBE};
    enum hlt_access access = kinds[rnd(4)];
    struct hlt_decision got;
    struct verdict want;
    char asked[96];

    if (access == HLT_SUBSCRIBE || access == HLT_UNSUBSCRIBE) {
        random_filter(asked, false);
    } else {
        do {
            strcpy(asked, universe[rnd((unsigned)universe_size)]);
        } while (asked[0] == '\0'); /* in the set, as "/#" holds it, but nobody can ask it */
    }
    hlt_policy_decide(view, access, asked, &got);
    want = slow_decide(world, session, access, asked);
    cr_assert(got.verdict == want.verdict && got.bound_device == want.bound &&
                  (got.rule == UINT32_MAX ? -1 : (int)got.rule) == want.rule,
              "access %u '%s' by '%s': verdict %d rule %d bound %d, should be %d %d %d, in\n%s",
              access, asked, client, got.verdict, (int)got.rule, got.bound_device, want.verdict,
              want.rule, want.bound, text);
}

Test(policy_decide, agrees_with_a_slow_reading_of_the_language, .timeout = 120)
{
    static const uint32_t patience[] = {HLT_ACL_PATIENCE, 0, 3};
    unsigned decisions = 0;

    make_universe("", 0);
    while (decisions < 60000) {
        struct world world;
        struct hlt_policy *policy;
        char *text;

        random_world(&world);
        text = print_world(&world);
        policy = policy_from(text);
        policy->patience = patience[rnd(3)]; /* the walk answers, the scan, or it depends */
        for (int s = 0; s < 8; s++) {
            struct session session;
            char claims[256];
            struct hlt_subject subject = random_subject(&world, &session, claims);
            struct hlt_view *view = hlt_policy_bind(policy, &subject);

            cr_assert(view != NULL);
            for (int i = 0; i < 25; i++, decisions++) {
                compare(subject.client_id, &world, &session, view, text);
            }
            hlt_view_free(view);
        }
        hlt_policy_free(policy);
        free(text);
    }
}

/* Two filters alone, all pairs: containing by `allow subscribe`, overlapping by `allow read`. */
Test(policy_decide, containing_and_overlapping_are_exact_for_all_small_filters, .timeout = 120)
{
    static const char *const levels[] = {"a", "$s", "+", "", "#"};
    static char filters[200][96];
    static struct set sets[200];
    int count = 0;

    make_universe("", 0);
    for (int i = 0; i < 5 * 6 * 6; i++) {
        int pick[3] = {i % 5, i / 5 % 6, i / 30};
        char *out = filters[count];

        if ((pick[0] == 4 && pick[1] < 5) || (pick[1] == 4 && pick[2] < 5) ||
            (pick[1] == 5 && pick[2] < 5)) {
            continue; /* # is last; what is missing is missing at the end */
        }
        (void)sprintf(out, "%s%s%s%s%s", levels[pick[0]], pick[1] < 5 ? "/" : "",
                      pick[1] < 5 ? levels[pick[1]] : "", pick[2] < 5 ? "/" : "",
                      pick[2] < 5 ? levels[pick[2]] : "");
        if (out[0] != '\0') {
            sets[count] = set_of(out);
            count++;
        }
    }
    cr_assert(count > 80);
    for (int i = 0; i < count; i++) {
        char text[256];
        struct hlt_policy *policy;
        struct hlt_view *views[2];

        int len = snprintf(text, sizeof(text),
                           "haltere 1\nuser a\nallow subscribe \"%s\"\nuser b\nallow read \"%s\"\n",
                           filters[i], filters[i]);
        cr_assert(len < (int)sizeof(text));
        policy = policy_from(text);
        views[0] = hlt_policy_bind(policy, &(struct hlt_subject){.client_id = "", .user = "a"});
        views[1] = hlt_policy_bind(policy, &(struct hlt_subject){.client_id = "", .user = "b"});
        for (int k = 0; k < count; k++) {
            struct hlt_decision got;

            hlt_policy_decide(views[0], HLT_SUBSCRIBE, filters[k], &got);
            cr_expect((got.verdict == HLT_ALLOW) == inside(&sets[k], &sets[i]), "'%s' in '%s'",
                      filters[k], filters[i]);
            hlt_policy_decide(views[1], HLT_SUBSCRIBE, filters[k], &got);
            cr_expect((got.verdict == HLT_ALLOW) == touches(&sets[k], &sets[i]), "'%s' and '%s'",
                      filters[k], filters[i]);
        }
        hlt_view_free(views[0]);
        hlt_view_free(views[1]);
        hlt_policy_free(policy);
    }
}

/* ---- role ... ordered, and default allow ---- */

struct role_probe {
    const char *claims;
    enum hlt_access access;
    const char *topic;
    enum hlt_verdict want;
    unsigned line;
};

static void ask_roles(const char *text, const struct role_probe *probes, size_t count)
{
    struct hlt_policy *policy = policy_from(text);

    for (size_t i = 0; i < count; i++) {
        struct hlt_subject subject = {.client_id = "d1",
                                      .user = "d1",
                                      .device_id = "d1",
                                      .claims = probes[i].claims,
                                      .claims_len = strlen(probes[i].claims)};
        struct hlt_view *view = hlt_policy_bind(policy, &subject);
        struct hlt_decision got;
        struct hlt_rule_ref ref;

        hlt_policy_decide(view, probes[i].access, probes[i].topic, &got);
        hlt_policy_rule(policy, got.rule, &ref);
        cr_expect(got.verdict == probes[i].want && ref.line == probes[i].line,
                  "row %zu '%s': verdict %d (want %d), line %u (want %u)", i, probes[i].topic,
                  got.verdict, probes[i].want, ref.line, probes[i].line);
        hlt_view_free(view);
    }
    hlt_policy_free(policy);
}
#define ASK_ROLES(text, probes) ask_roles(text, probes, sizeof(probes) / sizeof((probes)[0]))

#define ONE "{\"sub\":\"d1\",\"roles\":[\"one\"]}"
#define TWO "{\"sub\":\"d1\",\"roles\":[\"two\"]}"
#define BOTH "{\"sub\":\"d1\",\"roles\":[\"one\",\"two\"]}"

Test(policy_decide, an_ordered_role_votes_with_its_first_rule_that_matches)
{
    static const struct role_probe probes[] = {
        {ONE, HLT_READ, "a/b", HLT_ALLOW, 3},      {ONE, HLT_READ, "a/x", HLT_DENY, 4},
        {ONE, HLT_READ, "b/y", HLT_ALLOW, 5},      {ONE, HLT_READ, "z", HLT_NO_RULE, 0},
        {TWO, HLT_READ, "a/x", HLT_ALLOW, 8},      {BOTH, HLT_READ, "a/x", HLT_DENY, 4},
        {BOTH, HLT_READ, "a/b", HLT_ALLOW, 3},     {BOTH, HLT_READ, "z", HLT_DENY, 9},
        {ONE, HLT_WRITE, "own/d1", HLT_ALLOW, 11}, {ONE, HLT_READ, "b/n", HLT_DENY, 13},
    };

    ASK_ROLES("haltere 1\nrole one ordered\nallow read a/b\ndeny read a/#\nallow read b/#\n"
              "deny read b/y\nrole two from roles ordered\nallow read a/x\ndeny read z\n"
              "role one ordered\nallow write own/%d\nanyone\ndeny read b/n\n",
              probes);
}

Test(policy_decide, an_ordered_role_judges_subscriptions_in_its_order_too)
{
    static const struct role_probe probes[] = {
        {ONE, HLT_SUBSCRIBE, "a/x", HLT_ALLOW, 3},   {ONE, HLT_SUBSCRIBE, "a/y", HLT_DENY, 4},
        {ONE, HLT_SUBSCRIBE, "b/#", HLT_ALLOW, 5},   {ONE, HLT_SUBSCRIBE, "c", HLT_NO_RULE, 0},
        {TWO, HLT_SUBSCRIBE, "a/#", HLT_DENY, 7},    {TWO, HLT_SUBSCRIBE, "a/x", HLT_DENY, 7},
        {TWO, HLT_SUBSCRIBE, "#", HLT_ALLOW, 8},     {TWO, HLT_SUBSCRIBE, "b/x", HLT_ALLOW, 8},
        {TWO, HLT_UNSUBSCRIBE, "a/x", HLT_ALLOW, 0},
    };

    ASK_ROLES("haltere 1\nrole one ordered\nallow subscribe =a/x\ndeny subscribe a/#\n"
              "allow subscribe b/#\nrole two ordered\ndeny read a/#\nallow read #\n",
              probes);
}

Test(policy_decide, an_ordered_role_that_is_used_stays_a_voter_of_its_own)
{
    static const struct role_probe probes[] = {
        {ONE, HLT_READ, "a/x", HLT_ALLOW, 6},
        {ONE, HLT_READ, "a/y", HLT_DENY, 7},
        {ONE, HLT_READ, "a/z", HLT_DENY, 4}, /* the user's own denial */
        {ONE, HLT_READ, "b", HLT_ALLOW, 8},
    };

    ASK_ROLES("haltere 1\nuser d1\nuse base\ndeny read a/z\nrole base ordered\nallow read a/x\n"
              "deny read a/y\nallow read #\n",
              probes);
}

Test(policy_decide, an_allowing_vote_of_an_ordered_role_tells_whether_it_binds_the_device)
{
    static const struct {
        const char *topic;
        bool bound;
    } rows[] = {{"d/d1", true}, {"e/d1", false}, {"f/d1", false}};
    struct hlt_policy *policy = policy_from(
        "haltere 1\nrole one ordered\nallow write d/%d\nallow write d/+\n"
        "allow write e/+\nallow write e/%d\nallow write f/%d\nanyone\nallow write f/#\n");
    struct hlt_subject subject = {.client_id = "d1",
                                  .user = "d1",
                                  .device_id = "d1",
                                  .claims = ONE,
                                  .claims_len = strlen(ONE)};
    struct hlt_view *view = hlt_policy_bind(policy, &subject);

    for (size_t i = 0; i < 3; i++) {
        struct hlt_decision got;

        hlt_policy_decide(view, HLT_WRITE, rows[i].topic, &got);
        cr_expect(got.verdict == HLT_ALLOW && got.bound_device == rows[i].bound, "row %zu", i);
    }
    hlt_view_free(view);
    hlt_policy_free(policy);
}

Test(policy_decide, default_allow_speaks_where_nobody_does_and_never_for_dollar_topics)
{
    static const struct role_probe probes[] = {
        {ONE, HLT_READ, "a", HLT_ALLOW, 2},
        {ONE, HLT_READ, "secret", HLT_DENY, 4},
        {ONE, HLT_READ, "$SYS/x", HLT_NO_RULE, 0},
        {ONE, HLT_WRITE, "a", HLT_NO_RULE, 0},
        {ONE, HLT_SUBSCRIBE, "#", HLT_ALLOW, 2},
        {ONE, HLT_SUBSCRIBE, "secret", HLT_DENY, 4},
        {ONE, HLT_SUBSCRIBE, "$SYS/#", HLT_NO_RULE, 0},
        {ONE, HLT_SUBSCRIBE, "$share/g/a", HLT_ALLOW, 2},
        {ONE, HLT_SUBSCRIBE, "$share/g/$SYS/#", HLT_NO_RULE, 0},
        {ONE, HLT_READ, "a/+", HLT_DENY, 0},
        {ONE, HLT_UNSUBSCRIBE, "a", HLT_ALLOW, 0},
    };
    static const struct role_probe listed[] = {
        {ONE, HLT_SUBSCRIBE, "a", HLT_ALLOW, 4},
        {ONE, HLT_SUBSCRIBE, "b", HLT_NO_RULE, 0}, /* who may subscribe is listed */
    };

    ASK_ROLES("haltere 1\ndefault allow read\nanyone\ndeny read secret\n", probes);
    ASK_ROLES("haltere 1\ndefault allow read\nanyone\nallow subscribe a\n", listed);
}
