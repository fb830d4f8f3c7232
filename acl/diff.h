/* diff.h - which decisions change from one policy to another?
 *
 * Nothing is proved: questions are asked of both, from the `expect` lines, from what was recorded,
 * and probes made of the filters, names and claims that stand in either policy. Changes of one kind
 * (same access, same answers, by the same rules) are told once, with the first example and their
 * number. The slow path. */
#ifndef HLT_DIFF_H
#define HLT_DIFF_H

#include "policy.h"

#define HLT_DIFF_PROBES_MAX 4000000u /* questions made up by hlt_diff_probes: about a second */
#define HLT_DIFF_KINDS_MAX 4096u     /* kinds of changes told apart */

enum hlt_diff_source { HLT_DIFF_EXPECT, HLT_DIFF_RECORDED, HLT_DIFF_PROBE, HLT_DIFF_SOURCES };

/* One kind of change. Strings live as long as the diff. */
struct hlt_change {
    enum hlt_access access;
    bool was_allowed;               /* now it is the other way round */
    uint32_t old_rule, new_rule;    /* for hlt_policy_rule; UINT32_MAX: none spoke */
    enum hlt_diff_source source;    /* of the example */
    char *topic, *client_id, *user; /* the example; user NULL: anonymous */
    char *claims;                   /* NULL: no token */
    size_t count;                   /* questions answered so */
};

struct hlt_diff {
    const struct hlt_policy *old_policy, *new_policy;
    struct hlt_change *changes;
    uint32_t change_count, change_space;
    size_t asked[HLT_DIFF_SOURCES];
    size_t changed;
    bool cut; /* HLT_DIFF_PROBES_MAX or HLT_DIFF_KINDS_MAX was reached */
};

/* Zero-initialise, set both policies (borrowed), ask, free. HLT_ENOMEM or HLT_OK. */
enum hlt_rc hlt_diff_ask(struct hlt_diff *diff, const struct hlt_subject *subject,
                         enum hlt_access access, const char *topic, enum hlt_diff_source source);
enum hlt_rc hlt_diff_expects(struct hlt_diff *diff); /* of both policies */
enum hlt_rc hlt_diff_probes(struct hlt_diff *diff);
void hlt_diff_free(struct hlt_diff *diff);

#endif
