/* Two policies, the same questions: what changes is found, what does not is not told. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../acl/diff.h"

static struct hlt_policy *before, *after;
static struct hlt_diff diff;

static void load(const char *one, const char *other)
{
    cr_assert(hlt_policy_parse(&before, one, strlen(one), "old.acl", NULL, NULL) == HLT_OK);
    cr_assert(hlt_policy_parse(&after, other, strlen(other), "new.acl", NULL, NULL) == HLT_OK);
    diff = (struct hlt_diff){.old_policy = before, .new_policy = after};
}

static void unload(void)
{
    hlt_diff_free(&diff);
    hlt_policy_free(before);
    hlt_policy_free(after);
    before = after = NULL;
}

static void probe(const char *one, const char *other)
{
    load(one, other);
    cr_assert(hlt_diff_expects(&diff) == HLT_OK);
    cr_assert(hlt_diff_probes(&diff) == HLT_OK);
}

static bool found(enum hlt_access access, bool was_allowed)
{
    for (uint32_t i = 0; i < diff.change_count; i++) {
        if (diff.changes[i].access == access && diff.changes[i].was_allowed == was_allowed) {
            return true;
        }
    }
    return false;
}

#define BASE                                                                                       \
    "haltere 1\nanyone\n allow write devices/%d/telemetry\n allow read site/%{site}/#\n"           \
    "anonymous\n deny all #\nuser bob\n allow write lab/+/x\n"                                     \
    "role boss\n allow readwrite t/# except t/secret\nrole gate from class\n"                      \
    " allow write devices/%{children}/ack\n"

Test(policy_diff, the_same_policy_has_no_changes)
{
    probe(BASE, BASE "# a comment\n");
    cr_expect(diff.changed == 0 && diff.change_count == 0 && !diff.cut);
    cr_expect(diff.asked[HLT_DIFF_PROBE] > 500, "%zu", diff.asked[HLT_DIFF_PROBE]);
    unload();
}

Test(policy_diff, each_edit_is_found)
{
    static const struct {
        const char *from, *to; /* a piece of BASE, and what it becomes */
        enum hlt_access access;
        bool was_allowed;
    } rows[] = {
        {"devices/%d/telemetry", "devices/+/telemetry", HLT_WRITE, false},
        {"devices/%d/telemetry", "devices/%c/telemetri", HLT_WRITE, true},
        {"allow read site", "allow write site", HLT_READ, true},
        {"allow read site", "allow readwrite site", HLT_WRITE, false},
        {"site/%{site}/#", "site/%{site}/+", HLT_READ, true},
        {" deny all #\n", "", HLT_UNSUBSCRIBE, false},
        {"user bob", "user eve", HLT_WRITE, true},
        {"lab/+/x", "lab/+/y", HLT_WRITE, false},
        {" except t/secret", "", HLT_READ, false},
        {"role boss", "role chief", HLT_READ, true},
        {"role gate from class", "role gate from kind", HLT_WRITE, true},
        {"%{children}/ack", "%{child}/ack", HLT_WRITE, true},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[1024];
        const char *at = strstr(BASE, rows[i].from);

        cr_assert(at != NULL, "row %zu", i);
        (void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - BASE), BASE, rows[i].to,
                       at + strlen(rows[i].from));
        probe(BASE, text);
        cr_expect(found(rows[i].access, rows[i].was_allowed), "row %zu: %u kinds", i,
                  diff.change_count);
        unload();
    }
}

Test(policy_diff, changes_of_one_kind_are_one_with_a_count_and_an_example)
{
    load("haltere 1\nrole r\n allow read a/#\n",
         "haltere 1\nrole r\n allow read a/# except a/b/#\n");
    static const char claims[] = "{\"sub\":\"d\",\"roles\":\"r\"}";
    struct hlt_subject subject = {.client_id = "c",
                                  .user = "d",
                                  .device_id = "d",
                                  .claims = claims,
                                  .claims_len = strlen(claims)};
    static const char *const topics[] = {"a/b/1", "a/b/2", "a/c", "x"};

    for (size_t i = 0; i < 4; i++) {
        cr_assert(hlt_diff_ask(&diff, &subject, HLT_READ, topics[i], HLT_DIFF_RECORDED) == HLT_OK);
    }
    cr_assert(diff.change_count == 1);
    cr_expect(diff.changed == 2 && diff.changes[0].count == 2 &&
              diff.asked[HLT_DIFF_RECORDED] == 4);
    cr_expect_str_eq(diff.changes[0].topic, "a/b/1");
    cr_expect_str_eq(diff.changes[0].claims, claims);
    cr_expect(diff.changes[0].was_allowed && diff.changes[0].old_rule == 0 &&
              diff.changes[0].new_rule == UINT32_MAX);
    unload();
}

Test(policy_diff, tests_of_both_are_asked)
{
    load("haltere 1\nanyone\n allow read odd/place/42\nexpect allow read odd/place/42 as sub=d9\n",
         "haltere 1\nanyone\n allow read odd/place/43\nexpect deny read odd/place/42 as sub=d9\n");
    cr_assert(hlt_diff_expects(&diff) == HLT_OK);
    cr_expect(diff.asked[HLT_DIFF_EXPECT] == 2 && diff.changed == 2 && diff.change_count == 1);
    cr_expect(diff.changes[0].source == HLT_DIFF_EXPECT);
    unload();
}

Test(policy_diff, a_mosquitto_acl_file_is_compared_as_well)
{
    probe("user bob\ntopic read a/#\npattern write c/%c/#\n", "user bob\ntopic read a/+\n");
    cr_expect(found(HLT_READ, true) && found(HLT_WRITE, true));
    unload();
}
