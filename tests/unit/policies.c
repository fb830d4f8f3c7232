/* The policies that are shipped: each loads without a warning, and each is tested by its own
 * `expect` lines. */
#include <criterion/criterion.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../acl/limit.h"
#include "../../acl/policy.h"

static const char *source_dir(void)
{
    static char path[512];
    const char *given = getenv("HALTERE_SOURCE_DIR");
    char *slash;

    if (given != NULL) {
        return given;
    }
    (void)snprintf(path, sizeof(path), "%s", __FILE__); /* .../tests/unit/policies.c */
    for (int i = 0; i < 3; i++) {
        slash = strrchr(path, '/');
        if (slash == NULL) {
            return i == 2 ? "." : "../..";
        }
        *slash = '\0';
    }
    return path;
}

static struct hlt_policy *shipped(const char *name)
{
    struct hlt_problems problems = {0};
    struct hlt_policy *policy = NULL;
    char path[640];
    enum hlt_rc rc;

    (void)snprintf(path, sizeof(path), "%s/acl/policies/%s", source_dir(), name);
    rc = hlt_policy_load(&policy, path, NULL, &problems);
    cr_expect(problems.count == 0, "%s:%u: %s", path, problems.item[0].line, problems.item[0].text);
    cr_assert(rc == HLT_OK, "%s", path);
    hlt_problems_free(&problems);
    return policy;
}

Test(policies, budgets_are_those_of_thin_links)
{
    static const char claims[] =
        "{\"sub\":\"d1\",\"device_class\":\"sensor\",\"budget\":\"ultra-low\"}";
    struct hlt_subject subject = {.client_id = "d1",
                                  .user = "d1",
                                  .device_id = "d1",
                                  .claims = claims,
                                  .claims_len = sizeof(claims) - 1};
    static const char topic[] = "devices/d1/telemetry";
    struct hlt_policy *policy = shipped("haltere.acl");
    struct hlt_view *view = hlt_policy_bind(policy, &subject);
    struct hlt_meter *meter = view != NULL ? hlt_meter_new(view, NULL, 0) : NULL;

    cr_assert(meter != NULL);
    cr_expect(hlt_limit_message(view, topic, 32, 1, false) == NULL);
    cr_expect_str_eq(hlt_limit_message(view, topic, 33, 1, false), "limit:payload");
    cr_expect_str_eq(hlt_limit_message(view, topic, 32, 2, false), "limit:qos");
    cr_expect_str_eq(hlt_limit_message(view, topic, 32, 1, true), "limit:retain");
    for (int i = 0; i < 32; i++) { /* 1,024 bytes a minute */
        cr_expect(hlt_meter_take(meter, view, topic, 32, 0) == NULL);
    }
    cr_expect_str_eq(hlt_meter_take(meter, view, topic, 1, 0), "limit:bytes");
    hlt_meter_free(meter);
    hlt_view_free(view);
    hlt_policy_free(policy);
}

Test(policies, every_shipped_policy_loads_without_a_warning_and_tests_itself)
{
    glob_t found = {0};
    char pattern[600];

    (void)snprintf(pattern, sizeof(pattern), "%s/acl/policies/*.acl", source_dir());
    cr_assert(glob(pattern, 0, NULL, &found) == 0, "%s", pattern);
    cr_expect(found.gl_pathc >= 2);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct hlt_policy_counts counts;
        struct hlt_policy *policy = shipped(strrchr(found.gl_pathv[i], '/') + 1);

        hlt_policy_counts(policy, &counts);
        cr_expect(counts.rules > 0 && counts.expects >= counts.sections, "%s", found.gl_pathv[i]);
        hlt_policy_free(policy);
    }
    globfree(&found);
}

static enum hlt_verdict ask(const struct hlt_policy *policy, const char *sub, const char *claims,
                            enum hlt_access access, const char *topic, bool *bound)
{
    struct hlt_subject subject = {.client_id = sub,
                                  .user = sub,
                                  .device_id = sub,
                                  .claims = claims,
                                  .claims_len = strlen(claims)};
    struct hlt_view *view = hlt_policy_bind(policy, &subject);
    struct hlt_decision decision;

    cr_assert(view != NULL);
    hlt_policy_decide(view, access, topic, &decision);
    hlt_view_free(view);
    *bound = decision.bound_device;
    return decision.verdict;
}

Test(policies, a_device_is_bound_to_itself_and_a_gateway_to_its_children)
{
    static const struct {
        const char *sub, *claims, *topic;
        enum hlt_verdict want;
        bool bound;
    } rows[] = {
        {"d1", "{\"sub\":\"d1\"}", "devices/d1/telemetry", HLT_ALLOW, true},
        {"d1", "{\"sub\":\"d1\"}", "devices/d2/telemetry", HLT_NO_RULE, false},
        {"g", "{\"device_class\":\"gateway\",\"children\":[\"d1\"]}", "devices/d1/telemetry",
         HLT_ALLOW, false},
        {"g", "{\"device_class\":\"gateway\",\"children\":[\"d1\"]}", "devices/g/telemetry",
         HLT_ALLOW, true},
        {"a", "{\"roles\":[\"administrator\"]}", "devices/a/telemetry", HLT_ALLOW, false},
    };
    struct hlt_policy *policy = shipped("haltere.acl");

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool bound;

        cr_expect(ask(policy, rows[i].sub, rows[i].claims, HLT_WRITE, rows[i].topic, &bound) ==
                      rows[i].want,
                  "row %zu", i);
        cr_expect(bound == rows[i].bound, "row %zu", i);
    }
    hlt_policy_free(policy);
}

/* Every role and class of the shipped policy, alone and with every other: nobody but who should may
 * order about a device, read what it is told, or publish in Haltere's place. */
Test(policies, no_role_reaches_further_than_it_says)
{
    static const char *const roles[] = {
        "operator",         "technician", "engineer",      "analytics",
        "alert-subscriber", "monitor",    "haltere-admin", "nobody"};
    static const char *const classes[] = {"sensor",     "actuator", "gateway",
                                          "controller", "monitor",  "none"};
    struct hlt_policy *policy = shipped("haltere.acl");
    bool bound;

    for (size_t r = 0; r < 8; r++) {
        for (size_t c = 0; c < 6; c++) {
            bool orders = r < 3 && c > 1;
            char claims[128];

            (void)snprintf(claims, sizeof(claims), "{\"roles\":[\"%s\"],\"device_class\":\"%s\"}",
                           roles[r], classes[c]);
            cr_expect((ask(policy, "x", claims, HLT_WRITE, "devices/d/commands", &bound) ==
                       HLT_ALLOW) == orders,
                      "%s %s", roles[r], classes[c]);
            cr_expect(ask(policy, "x", claims, HLT_WRITE, "devices/d/telemetry", &bound) !=
                          HLT_ALLOW,
                      "%s %s", roles[r], classes[c]);
            cr_expect(ask(policy, "x", claims, HLT_WRITE, "alerts/critical", &bound) != HLT_ALLOW);
            cr_expect(ask(policy, "x", claims, HLT_WRITE, "system/heartbeat", &bound) != HLT_ALLOW);
            cr_expect(ask(policy, "x", claims, HLT_WRITE, "$CONTROL/dynamic-security/v1", &bound) !=
                      HLT_ALLOW);
            cr_expect((ask(policy, "x", claims, HLT_READ, "devices/d/commands", &bound) ==
                       HLT_ALLOW) == (r < 3 || r == 6),
                      "%s %s", roles[r], classes[c]);
            cr_expect(ask(policy, "x", claims, HLT_WRITE, "$CONTROL/haltere/v1", &bound) ==
                      HLT_ALLOW);
        }
    }
    hlt_policy_free(policy);
}
