/* explain.h - why a policy decides as it does, for people: the rule, what it stands for, and the
 * rule that nearly allowed.
 *
 * The slow path: it may look at every rule of the client's sections. The decision itself is
 * hlt_policy_decide()'s, never one of its own. */
#ifndef HLT_EXPLAIN_H
#define HLT_EXPLAIN_H

#include "policy.h"

struct hlt_explanation {
    struct hlt_decision decision;
    /* "rule", "default" (no rule spoke), "malformed" (no topic or filter), "broker:$SYS" and
     * "broker:$share" (Mosquitto refuses it before any policy), "unusable-variable" (a deny that
     * takes any text for a claim that may not stand in a topic, or an allow it made useless),
     * "legacy:topic", "legacy:pattern" (a line of a Mosquitto acl_file), "legacy:bad-id" (the
     * client's name holds + or #: no pattern is asked), "default-allow". */
    const char *reason;
    bool has_by;
    struct hlt_rule_ref by; /* the rule that decided */
    char *bound;   /* its filter with what the variables stand for; malloc'd, may be NULL */
    bool has_near; /* only where nothing allowed and nothing denied */
    struct hlt_rule_ref near; /* the allow rule that failed by one thing */
    char why[512];            /* which thing */
};

/* Explain what hlt_policy_decide() says. HLT_OK or HLT_ENOMEM (then *out is empty). References live
 * as long as the policy. */
enum hlt_rc hlt_policy_explain(const struct hlt_view *view, enum hlt_access access,
                               const char *topic, struct hlt_explanation *out);
void hlt_explanation_free(struct hlt_explanation *explanation);

/* The titles of the sections that apply to the client, in the policy's order; NULL past the last.
 */
const char *hlt_view_section(const struct hlt_view *view, size_t index);

/* The filter of a rule as this client has it ("devices/d1/telemetry"), malloc'd; "%d" and the like
 * stay where there is not one value. NULL without memory or for a rule without a filter. */
char *hlt_view_bound_filter(const struct hlt_view *view, uint32_t rule);

/* "read", "write", "subscribe" or "unsubscribe". */
const char *hlt_access_word(enum hlt_access access);

#endif
