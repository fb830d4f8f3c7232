/* policy.h - may this client do this to this topic?
 *
 * A policy is compiled once, then only read. A session binds it to its roles and claims (a view); the broker asks for
 * every message and every subscriber, so hlt_policy_decide() does not allocate, lock, log or touch the disk.
 * Conflict rule (facts: acl 2): any matching deny denies, else any matching allow allows, else nobody spoke (= deny). */
#ifndef HLT_POLICY_H
#define HLT_POLICY_H

#include "../shared/base.h"

struct hlt_policy; /* opaque: compiled rules */
struct hlt_view;   /* opaque: a policy bound to one client */

enum hlt_access { HLT_READ = 1, HLT_WRITE = 2, HLT_SUBSCRIBE = 4, HLT_UNSUBSCRIBE = 8 };

#define HLT_POLICY_RULES_MAX 1000000
#define HLT_POLICY_FILE_MAX (64u << 20)

/* Load and compile. All mistakes at once in `problems` (file:line:column, the word, a suggestion); `expect` lines are run. HLT_OK only without errors: the
 * caller owns *out. */
enum hlt_rc hlt_policy_load(struct hlt_policy **out, const char *path, struct hlt_problems *problems);
/* The same from memory; `name` stands in messages; `include` is refused. */
enum hlt_rc hlt_policy_parse(struct hlt_policy **out, const char *text, size_t len, const char *name,
                             struct hlt_problems *problems);
void hlt_policy_free(struct hlt_policy *policy); /* accepts NULL; no view may be left */

size_t hlt_policy_rule_count(const struct hlt_policy *policy);
/* First 16 hex digits of SHA-256 over the policy's text (all files): names the generation. */
const char *hlt_policy_digest(const struct hlt_policy *policy);

/* Who asks. Strings are borrowed for the call to bind only. */
struct hlt_subject {
    const char *client_id; /* never NULL */
    const char *user;      /* NULL or "": anonymous */
    const char *device_id; /* the verified sub (%d); NULL for other logins */
    const char *claims;    /* the token's payload: one strict JSON object; NULL for other logins */
    size_t claims_len;
};

/* Bind. NULL only without memory. The view keeps its own copies of what it needs; the policy must outlive it. */
struct hlt_view *hlt_policy_bind(const struct hlt_policy *policy, const struct hlt_subject *subject);
void hlt_view_free(struct hlt_view *view); /* accepts NULL */

enum hlt_verdict { HLT_NO_RULE, HLT_ALLOW, HLT_DENY }; /* NO_RULE: nobody spoke; a broker denies */

struct hlt_decision {
    enum hlt_verdict verdict;
    uint32_t rule;      /* index for hlt_policy_rule; UINT32_MAX with NO_RULE */
    bool bound_device;  /* the allowing rule bound %d (DESIGN 11.19) */
};

/* Decide. For READ, WRITE `topic` is a topic name, for SUBSCRIBE, UNSUBSCRIBE a filter ("$share/g/" is taken off here). A topic with
 * wildcards where a name belongs, or a malformed one, is HLT_DENY. Cost: by the levels of the topic and the rules that match it. */
void hlt_policy_decide(const struct hlt_view *view, enum hlt_access access, const char *topic,
                       struct hlt_decision *out);

struct hlt_rule_ref {
    const char *file, *text; /* the line as written, without leading blanks */
    unsigned line;
    const char *section; /* "anyone", "role Sensor" */
};
void hlt_policy_rule(const struct hlt_policy *policy, uint32_t rule, struct hlt_rule_ref *out);

#endif
