/* Limits: each line of the language, at the limit and one past it, token buckets over time. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../acl/limit.h"

static struct hlt_policy *policy;
static struct hlt_view *view;
static struct hlt_meter *meter;

/* A view of `lines` for the client d1, and its meter, made at 1,000,000 ms. */
static void bind(const char *lines, const char *claims)
{
    char text[4096];
    struct hlt_problems problems = {0};
    struct hlt_subject subject = {.client_id = "d1",
                                  .user = "d1",
                                  .device_id = "d1",
                                  .claims = claims,
                                  .claims_len = strlen(claims)};
    int len = snprintf(text, sizeof(text), "haltere 1\n%s", lines);

    cr_assert(hlt_policy_parse(&policy, text, (size_t)len, "p.acl", NULL, &problems) == HLT_OK,
              "%s", problems.count > 0 ? problems.item[0].text : "");
    hlt_problems_free(&problems);
    view = hlt_policy_bind(policy, &subject);
    cr_assert(view != NULL);
    meter = hlt_meter_new(view, NULL, 1000000);
    cr_assert(meter != NULL);
}

static void teardown(void)
{
    hlt_meter_free(meter);
    hlt_view_free(view);
    hlt_policy_free(policy);
}

TestSuite(policy_limit, .fini = teardown);

static const char *message(const char *topic, size_t bytes, int qos, bool retain)
{
    const char *why = hlt_limit_message(view, topic, bytes, qos, retain);

    return why != NULL ? why : "";
}

static const char *take(const char *topic, size_t bytes, int64_t ms)
{
    const char *why = hlt_meter_take(meter, view, topic, bytes, 1000000 + ms);

    return why != NULL ? why : "";
}

Test(policy_limit, every_production_is_understood)
{
    bind("anyone\n limit payload 4KiB\n limit payload 0\n limit bytes 10MiB/h\n"
         " limit bytes 512/min on a/+/#\n limit messages 10/s\n limit messages 10/s burst 30\n"
         " limit messages 1/min burst 1 on devices/%d/x\n limit qos 0\n limit qos 2 on \"a b\"\n"
         " limit retain yes\n limit retain no on #\n limit subscriptions 0\n"
         "anonymous\n limit subscriptions 10000\nuser x\n limit qos 1\n",
         "{}");
    cr_expect(hlt_view_limits_message(view) && hlt_view_limits_rate(view) &&
              hlt_view_limits_subscriptions(view));
}

Test(policy_limit, mistakes_are_told_with_their_place)
{
    static const struct {
        const char *line, *told;
    } rows[] = {
        {"limit", "a limit is"},
        {"limit payload", "a limit is"},
        {"limit size 4", "there is no limit of 'size'"},
        {"limit mesages 4/s", "did you mean 'messages'?"},
        {"limit payload four", "a limit of payload is a size"},
        {"limit payload -1", "a limit of payload is a size"},
        {"limit bytes 10", "a rate is SIZE/UNIT"},
        {"limit messages 10", "a rate is NUMBER/UNIT"},
        {"limit messages 10/d", "the unit of a rate is s, min or h"},
        {"limit messages 0/s", "the amount of a rate"},
        {"limit messages 1.5/s", "the amount of a rate"},
        {"limit messages 68719476737/s", "the amount of a rate"},
        {"limit messages 99999999999999999999/s", "the amount of a rate"},
        {"limit bytes 65GiB/s", "the amount of a rate"},
        {"limit bytes 0/s", "the amount of a rate"},
        {"limit messages 1/s burst 0", "a burst is a number"},
        {"limit messages 1/s burst", "'burst' cannot stand here"},
        {"limit bytes 1/s burst 4", "'burst' cannot stand here"},
        {"limit messages 1/s on a burst 4", "'burst' cannot stand here"},
        {"limit messages 1/s # one", "a comment stands on a line of its own"},
        {"limit qos 3", "a limit of qos is 0, 1 or 2"},
        {"limit retain maybe", "a limit of retain is yes or no"},
        {"limit subscriptions 10001", "a limit of subscriptions is a number"},
        {"limit subscriptions 4 on a", "'on' cannot stand here"},
        {"limit payload 4 on a on b", "'on' cannot stand here"},
        {"limit payload 4 on a+", "must be a whole level"},
        {"limit payload 4 on =a", "a literal filter"},
        {"limit payload \"4\"", "a limit of payload is a size"},
    };
    char text[256];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_problems problems = {0};
        struct hlt_policy *none = NULL;
        int len = snprintf(text, sizeof(text), "haltere 1\nanyone\n %s\n", rows[i].line);

        cr_expect(hlt_policy_parse(&none, text, (size_t)len, "p.acl", NULL, &problems) ==
                      HLT_EPARSE,
                  "%s", rows[i].line);
        cr_expect(problems.count == 1 && problems.item[0].line == 3 &&
                      strstr(problems.item[0].text, rows[i].told) != NULL,
                  "%s: %s", rows[i].line, problems.count > 0 ? problems.item[0].text : "");
        hlt_problems_free(&problems);
        hlt_policy_free(none);
    }
    struct hlt_problems problems = {0};
    struct hlt_policy *none = NULL;
    cr_expect(hlt_policy_parse(&none, "haltere 1\nlimit qos 1\n", 22, "p", NULL, &problems) ==
              HLT_EPARSE);
    cr_expect(strstr(problems.item[0].text, "stands in a section") != NULL);
    hlt_problems_free(&problems);
}

Test(policy_limit, one_message_is_judged_at_the_limit_and_one_past_it)
{
    bind("anyone\n limit payload 100\n limit qos 1\n limit retain no\n", "{}");
    cr_expect_str_eq(message("a", 100, 1, false), "");
    cr_expect_str_eq(message("a", 101, 1, false), "limit:payload");
    cr_expect_str_eq(message("a", 100, 2, false), "limit:qos");
    cr_expect_str_eq(message("a", 100, 1, true), "limit:retain");
}

Test(policy_limit, the_strictest_of_all_sections_holds)
{
    bind("anyone\n limit payload 1000\nrole a\n limit payload 10\n limit retain yes\n"
         "role b\n use a\n limit payload 100\n limit retain no\nrole c\n limit payload 1\n",
         "{\"roles\":\"b\"}");
    cr_expect_str_eq(message("t", 10, 0, false), "");
    cr_expect_str_eq(message("t", 11, 0, false), "limit:payload");
    cr_expect_str_eq(message("t", 1, 0, true), "limit:retain");
}

Test(policy_limit, on_names_the_topics)
{
    static const struct {
        const char *topic;
        bool limited;
    } rows[] = {
        {"devices/d1/log", true}, {"devices/d2/log", false}, {"devices/d1/log/x", false},
        {"devices/d1", false},    {"site/a/x", true},        {"site/b", true},
        {"site/c/x", false},      {"any/where/x", true},     {"any/where", false},
        {"any/where/x/y", false}, {"$SYS/x/y", false},       {"bad/z", true},
        {"bad", false},           {"plus/q/r", false},
    };

    bind(
        "anyone\n limit payload 1 on devices/%d/log\n limit payload 1 on site/%{site}/#\n"
        " limit payload 1 on any/+/x\n limit payload 1 on +/x/y\n limit payload 1 on bad/%{none}\n",
        "{\"site\":[\"a\",\"b\"]}");
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_expect_str_eq(message(rows[i].topic, 2, 0, false),
                         rows[i].limited ? "limit:payload" : "", "%s", rows[i].topic);
    }
}

Test(policy_limit, a_rate_lets_a_burst_through_and_then_fills_evenly)
{
    bind("anyone\n limit messages 10/s burst 30\n", "{}");
    for (int i = 0; i < 30; i++) {
        cr_expect_str_eq(take("t", 5, 0), "", "message %d", i);
    }
    cr_expect_str_eq(take("t", 5, 0), "limit:messages");
    cr_expect_str_eq(take("t", 5, 99), "limit:messages");
    cr_expect_str_eq(take("t", 5, 100), "");
    cr_expect_str_eq(take("t", 5, 100), "limit:messages");
    /* however long it was silent, never more than the burst */
    for (int i = 0; i < 30; i++) {
        cr_expect_str_eq(take("t", 5, INT64_C(400000000000)), "");
    }
    cr_expect_str_eq(take("t", 5, INT64_C(400000000000)), "limit:messages");
}

Test(policy_limit, bytes_are_counted_and_a_refused_message_costs_nothing)
{
    bind("anyone\n limit bytes 1024/min\n limit messages 3/min\n", "{}");
    cr_expect_str_eq(take("t", 1025, 0), "limit:bytes");
    cr_expect_str_eq(take("t", 1000, 0), "");
    cr_expect_str_eq(take("t", 25, 0), "limit:bytes");
    cr_expect_str_eq(take("t", 24, 0), "");
    cr_expect_str_eq(take("t", 0, 0), "");
    cr_expect_str_eq(take("t", 0, 0), "limit:messages"); /* three were taken, not five */
    cr_expect_str_eq(take("t", 1025, 3600000), "limit:bytes", "never more than a unit's worth");
    cr_expect_str_eq(take("t", 1024, 3600000), "");
}

Test(policy_limit, the_largest_rates_do_not_overflow)
{
    bind("anyone\n limit messages 1/h burst 68719476736\n limit bytes 64GiB/h\n", "{}");
    cr_expect_str_eq(take("t", 1U << 28, 0), "");
    cr_expect_str_eq(take("t", 1U << 28, INT64_MAX / 2), "");
    for (int i = 0; i < 255; i++) {
        cr_expect_str_eq(take("t", 1U << 28, INT64_MAX / 2), "");
    }
    cr_expect_str_eq(take("t", 1U << 28, INT64_MAX / 2), "limit:bytes");
}

Test(policy_limit, a_slow_rate_fills_after_days_what_it_should)
{
    bind("anyone\n limit messages 1/h burst 1000\n", "{}");
    for (int i = 0; i < 1000; i++) {
        cr_expect_str_eq(take("t", 1, 0), "");
    }
    for (int i = 0; i < 24; i++) { /* a day later: 24 */
        cr_expect_str_eq(take("t", 1, 86400000), "");
    }
    cr_expect_str_eq(take("t", 1, 86400000), "limit:messages");
}

Test(policy_limit, a_clock_that_stands_or_goes_back_gives_nothing)
{
    bind("anyone\n limit messages 1/s\n", "{}");
    cr_expect_str_eq(take("t", 1, 5000), "");
    cr_expect_str_eq(take("t", 1, 0), "limit:messages");
    cr_expect_str_eq(take("t", 1, 5999), "limit:messages");
    cr_expect_str_eq(take("t", 1, 6000), "");
}

Test(policy_limit, a_new_view_goes_on_counting)
{
    bind("anyone\n limit messages 2/min\n limit subscriptions 2\n", "{}");
    cr_expect_str_eq(take("t", 1, 0), "");
    cr_expect_str_eq(take("t", 1, 0), "");
    cr_expect(hlt_meter_subscribe(meter, view, "a") == NULL);
    cr_expect(hlt_meter_is_for(meter, view));
    struct hlt_view *again = hlt_policy_bind(policy, &(struct hlt_subject){.client_id = "x"});
    cr_assert(again != NULL);
    cr_expect(!hlt_meter_is_for(meter, again));
    struct hlt_meter *next = hlt_meter_new(again, meter, 1000000);
    cr_assert(next != NULL);
    cr_expect(hlt_meter_take(next, again, "t", 1, 1000000) != NULL, "no amnesty");
    cr_expect(hlt_meter_subscriptions(next) == 1);
    hlt_meter_free(next);
    hlt_view_free(again);
}

Test(policy_limit, subscriptions_are_counted_once_each)
{
    bind("anyone\n limit subscriptions 2\nrole r\n limit subscriptions 3\n", "{\"roles\":\"r\"}");
    cr_expect(hlt_meter_subscribe(meter, view, "a") == NULL);
    cr_expect(hlt_meter_subscribe(meter, view, "a") == NULL);
    cr_expect(hlt_meter_subscribe(meter, view, "b/+") == NULL);
    cr_expect_str_eq(hlt_meter_subscribe(meter, view, "c"), "limit:subscriptions");
    cr_expect(hlt_meter_subscribe(meter, view, "b/+") == NULL, "held already");
    hlt_meter_unsubscribe(meter, "never");
    hlt_meter_unsubscribe(meter, "a");
    cr_expect(hlt_meter_subscribe(meter, view, "c") == NULL);
    cr_expect(hlt_meter_subscriptions(meter) == 2);
    hlt_meter_forget_subscriptions(meter);
    cr_expect(hlt_meter_subscribe(meter, view, "d") == NULL);
}

Test(policy_limit, a_client_without_limits_has_none)
{
    bind("role r\n limit payload 1\n limit messages 1/h\n limit subscriptions 0\n", "{}");
    cr_expect(!hlt_view_limits_message(view) && !hlt_view_limits_rate(view) &&
              !hlt_view_limits_subscriptions(view));
    cr_expect_str_eq(message("t", 1000, 2, true), "");
    cr_expect_str_eq(take("t", 1000, 0), "");
    cr_expect_str_eq(take("t", 1000, 0), "");
}

Test(policy_limit, limits_are_named_for_explanations)
{
    struct hlt_rule_ref ref;
    bool applies;

    bind("anyone\n limit payload 1 on a\nrole r\n limit qos 1\n", "{\"roles\":\"r\"}");
    cr_assert(hlt_view_limit(view, 0, "b", &ref, &applies));
    cr_expect(ref.line == 3 && !applies);
    cr_expect_str_eq(ref.text, "limit payload 1 on a");
    cr_assert(hlt_view_limit(view, 1, "b", &ref, &applies));
    cr_expect(applies);
    cr_expect_str_eq(ref.section, "role r");
    cr_expect(!hlt_view_limit(view, 2, "b", &ref, &applies));
}
