/* Fuzzing the policy: input is a policy, a byte 0xff, then lines: the claims, the id, and topics.
 * Whatever comes in, nothing breaks, and some properties of the language hold for each decision. */
#include <stdlib.h>
#include <string.h>

#include "../../acl/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The text up to the next `mark`, NUL-terminated; NULL at the end. */
static char *next_part(const uint8_t **at, size_t *left, uint8_t mark)
{
    const uint8_t *end;
    size_t len;
    char *part;

    if (*left == 0) {
        return NULL;
    }
    end = memchr(*at, mark, *left);
    len = end != NULL ? (size_t)(end - *at) : *left;
    part = malloc(len + 1);
    if (part == NULL) {
        abort();
    }
    memcpy(part, *at, len);
    part[len] = '\0';
    len += end != NULL;
    *at += len;
    *left -= len;
    return part;
}

/* A rule of the strict language begins with its effect, and `default` only ever allows. Mosquitto's
 * lines name theirs in their own way: fuzz/legacy.c looks after those. */
static bool names_effect(const char *text, enum hlt_verdict verdict)
{
    if (strncmp(text, "topic", 5) == 0 || strncmp(text, "pattern", 7) == 0) {
        return true;
    }
    if (strncmp(text, "default", 7) == 0) {
        return verdict == HLT_ALLOW;
    }
    return strncmp(text, verdict == HLT_DENY ? "deny" : "allow", 4) == 0;
}

static void check(struct hlt_policy *policy, const struct hlt_view *view, const char *topic)
{
    static const enum hlt_access all[] = {HLT_READ, HLT_WRITE, HLT_SUBSCRIBE, HLT_UNSUBSCRIBE};

    for (size_t i = 0; i < 4; i++) {
        struct hlt_decision first, again;
        struct hlt_rule_ref ref;

        policy->patience = HLT_ACL_PATIENCE;
        hlt_policy_decide(view, all[i], topic, &first);
        policy->patience = 0; /* the trie is not asked, only the columns of scan.c */
        hlt_policy_decide(view, all[i], topic, &again);
        hlt_policy_rule(policy, first.rule, &ref);
        if (first.verdict != again.verdict || first.rule != again.rule ||
            first.bound_device != again.bound_device) {
            abort(); /* a decision depends on nothing but its question */
        }
        if (first.verdict == HLT_NO_RULE && first.rule != UINT32_MAX) {
            abort();
        }
        if (first.rule != UINT32_MAX && (ref.line == 0 || !names_effect(ref.text, first.verdict))) {
            abort(); /* who decides has the effect it names */
        }
        if ((all[i] & (HLT_READ | HLT_WRITE)) != 0 && strpbrk(topic, "+#") != NULL &&
            first.verdict != HLT_DENY) {
            abort(); /* a name with wildcards opens nothing */
        }
        if (all[i] == HLT_UNSUBSCRIBE && first.verdict == HLT_NO_RULE) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hlt_problems problems = {0};
    struct hlt_policy *policy = NULL;
    const uint8_t *end = memchr(data, 0xff, len);
    size_t text_len = end != NULL ? (size_t)(end - data) : len;
    size_t left = end != NULL ? len - text_len - 1 : 0;
    const uint8_t *at = end != NULL ? end + 1 : NULL;
    enum hlt_rc rc =
        hlt_policy_parse(&policy, (const char *)data, text_len, "fuzz", NULL, &problems);

    if ((rc == HLT_OK) != (policy != NULL) || (rc == HLT_OK) != (problems.errors == 0)) {
        abort();
    }
    if (policy != NULL && !hlt_policy_is_plain(policy)) { /* a plain acl_file: fuzz/legacy.c */
        char *claims = left > 0 ? next_part(&at, &left, '\n') : NULL;
        char *id = left > 0 ? next_part(&at, &left, '\n') : NULL;
        struct hlt_subject subject = {.client_id = id != NULL ? id : "",
                                      .user = id,
                                      .device_id = claims != NULL ? id : NULL,
                                      .claims = claims,
                                      .claims_len = claims != NULL ? strlen(claims) : 0};
        struct hlt_view *view = hlt_policy_bind(policy, &subject);
        char *topic;

        while (view != NULL && (topic = next_part(&at, &left, '\n')) != NULL) {
            check(policy, view, topic);
            free(topic);
        }
        hlt_view_free(view);
        free(claims);
        free(id);
    }
    hlt_policy_free(policy);
    hlt_problems_free(&problems);
    return 0;
}
