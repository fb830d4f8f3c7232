/* Fuzzing what stands around a decision: explanations, limits and diffs. Input is a policy, a byte
 * 0xff, then lines: the claims, the id, and topics. An explanation must be of the very decision,
 * and a policy must not differ from itself. */
#include <stdlib.h>
#include <string.h>

#include "../../acl/diff.h"
#include "../../acl/explain.h"
#include "../../acl/limit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void explain(const struct hlt_view *view, const char *topic)
{
    static const enum hlt_access all[] = {HLT_READ, HLT_WRITE, HLT_SUBSCRIBE, HLT_UNSUBSCRIBE};

    for (size_t i = 0; i < 4; i++) {
        struct hlt_explanation what;
        struct hlt_decision decision;

        hlt_policy_decide(view, all[i], topic, &decision);
        if (hlt_policy_explain(view, all[i], topic, &what) != HLT_OK) {
            return; /* out of memory */
        }
        if (strncmp(what.reason, "broker:", 7) != 0 &&
            (what.decision.verdict != decision.verdict || what.decision.rule != decision.rule)) {
            abort();
        }
        if (what.has_near && (what.why[0] == '\0' || decision.verdict == HLT_ALLOW)) {
            abort();
        }
        hlt_explanation_free(&what);
    }
}

/* Whatever the limits are, time only helps, and a refused message costs nothing. */
static void meter(const struct hlt_view *view, const char *topic)
{
    struct hlt_meter *meter = hlt_meter_new(view, NULL, 1000);
    const char *why;

    if (meter == NULL) {
        return;
    }
    (void)hlt_limit_message(view, topic, strlen(topic), 1, true);
    for (int i = 0; i < 20 && hlt_meter_take(meter, view, topic, 10, 1000) == NULL; i++) {
    }
    why = hlt_meter_take(meter, view, topic, 10, 1000);
    if (why != NULL && hlt_meter_take(meter, view, topic, 10, 1000) == NULL) {
        abort();
    }
    if (!hlt_view_limits_rate(view) && why != NULL) {
        abort();
    }
    if (hlt_meter_subscribe(meter, view, topic) == NULL &&
        hlt_meter_subscribe(meter, view, topic) != NULL) {
        abort(); /* it is held already */
    }
    hlt_meter_unsubscribe(meter, topic);
    if (hlt_meter_subscriptions(meter) != 0) {
        abort();
    }
    hlt_meter_free(meter);
}

static void ask(const struct hlt_policy *policy, char *lines)
{
    char *at = lines;
    char *claims = strsep(&at, "\n");
    char *id = strsep(&at, "\n");
    struct hlt_subject subject = {.client_id = id != NULL ? id : "",
                                  .user = id,
                                  .device_id = id,
                                  .claims = claims,
                                  .claims_len = claims != NULL ? strlen(claims) : 0};
    struct hlt_view *view = hlt_policy_bind(policy, &subject);
    char *topic;

    while (view != NULL && (topic = strsep(&at, "\n")) != NULL) {
        explain(view, topic);
        meter(view, topic);
    }
    hlt_view_free(view);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const uint8_t *end = memchr(data, 0xff, len);
    size_t text_len = end != NULL ? (size_t)(end - data) : len;
    struct hlt_problems problems = {0};
    struct hlt_policy *policy = NULL;

    if (hlt_policy_parse(&policy, (const char *)data, text_len, "fuzz", NULL, &problems) ==
        HLT_OK) {
        struct hlt_diff diff = {.old_policy = policy, .new_policy = policy};

        if (hlt_policy_rule_count(policy) < 100 &&
            (hlt_diff_expects(&diff) != HLT_OK || hlt_diff_probes(&diff) != HLT_OK ||
             diff.changed != 0)) {
            abort();
        }
        hlt_diff_free(&diff);
        char *lines = end != NULL ? strndup((const char *)end + 1, len - text_len - 1) : NULL;
        if (lines != NULL) {
            ask(policy, lines);
        }
        free(lines);
    }
    hlt_policy_free(policy);
    hlt_problems_free(&problems);
    return 0;
}
