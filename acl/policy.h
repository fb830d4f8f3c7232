/* policy.h - may this client do this to this topic?
 *
 * A policy is compiled once, then only read. A session binds it to its roles and claims (a view);
 * the broker asks for every message and every subscriber, so hlt_policy_decide() does not allocate,
 * lock, log or touch the disk. Conflict rule (facts: acl 2): any matching deny denies, else any
 * matching allow allows, else nobody spoke (= deny). A `role ... ordered` is one voter: its first
 * matching rule; `topic` and `pattern` lines are one voter too (legacy.h).
 *
 * A file whose first line that is no comment is not `haltere 1` is a plain Mosquitto acl_file and
 * is decided as Mosquitto decides it: SUBSCRIBE and UNSUBSCRIBE are granted, what no line grants is
 * HLT_NO_RULE, and bound_device is always false. */
#ifndef HLT_POLICY_H
#define HLT_POLICY_H

#include "../shared/base.h"

struct hlt_policy; /* opaque: compiled rules */
struct hlt_view;   /* opaque: a policy bound to one client */
struct hlt_policy_sources;

enum hlt_access { HLT_READ = 1, HLT_WRITE = 2, HLT_SUBSCRIBE = 4, HLT_UNSUBSCRIBE = 8 };

#define HLT_POLICY_RULES_MAX 1000000
#define HLT_POLICY_FILE_MAX (64u << 20)

/* Which Mosquitto `topic` and `pattern` lines are decided as: 2.1 compares %c and %u with whole
 * levels only, and a name that is empty or has a / with nothing. */
enum hlt_acl_compat { HLT_ACL_2_0, HLT_ACL_2_1 };

/* How a policy is read; all zero, or NULL: as for Mosquitto 2.0, and its tests are run. */
struct hlt_policy_reading {
    enum hlt_acl_compat compat;
    bool untested; /* leave the `expect` lines to who runs them himself */
    /* Gets what was read, also if it has mistakes (sources.h); NULL: nobody asks. What it held is
     * freed. */
    struct hlt_policy_sources *sources;
};

/* Load and compile. All mistakes at once in `problems` (file:line:column, the word, a suggestion);
 * `expect` lines are run. HLT_OK only without errors: the caller owns *out. */
enum hlt_rc hlt_policy_load(struct hlt_policy **out, const char *path,
                            const struct hlt_policy_reading *how, struct hlt_problems *problems);
/* The same from memory; `name` stands in messages; `include` is refused. */
enum hlt_rc hlt_policy_parse(struct hlt_policy **out, const char *text, size_t len,
                             const char *name, const struct hlt_policy_reading *how,
                             struct hlt_problems *problems);
void hlt_policy_free(struct hlt_policy *policy); /* accepts NULL; no view may be left */

/* Is it a plain Mosquitto acl_file? */
bool hlt_policy_is_plain(const struct hlt_policy *policy);

size_t hlt_policy_rule_count(const struct hlt_policy *policy);
/* For people: what a policy is made of. `sections` counts `anyone` also where nobody wrote it. */
struct hlt_policy_counts {
    size_t rules, sections, files, expects, variables;
};
void hlt_policy_counts(const struct hlt_policy *policy, struct hlt_policy_counts *out);
/* Names the generation: the first 16 hex digits of the file's SHA-256, or, where files are
 * included, of the SHA-256 over the SHA-256s of all files in the order they were read. */
const char *hlt_policy_digest(const struct hlt_policy *policy);

/* Who asks. Strings are borrowed for the call to bind only. */
struct hlt_subject {
    const char *client_id; /* never NULL */
    const char *user;      /* NULL or "": anonymous */
    const char *device_id; /* the verified sub (%d); NULL for other logins */
    const char *claims;    /* the token's payload: one strict JSON object; NULL for other logins */
    size_t claims_len;
};

/* Bind. NULL only without memory. The view keeps its own copies of what it needs; the policy must
 * outlive it. */
struct hlt_view *hlt_policy_bind(const struct hlt_policy *policy,
                                 const struct hlt_subject *subject);
void hlt_view_free(struct hlt_view *view); /* accepts NULL */

/* How a question meets the rules of the client's sections (facts: acl 2):
 *  READ, WRITE  the rule's filter matches the topic and none of its `except` filters does.
 *  SUBSCRIBE    A `deny subscribe` bars the filter if it contains it, and none of its exceptions
 * contains it. If the client's sections have any `allow subscribe`, one must contain the filter and
 * none of its exceptions may overlap it. If they have none, an `allow read` rule must overlap the
 * filter without an exception that contains all of it, and no `deny read` may contain the filter
 * (with no exception that overlaps): a subscription that reaches into an excepted part is granted,
 * since every delivery is checked as READ; one that could bring nothing is told so. UNSUBSCRIBE
 * denied where a `deny unsubscribe` bars it, else allowed (maybe by no rule). Containing and
 * overlapping are exact for two filters, by MQTT's matching: + and # do not match a first level
 * that begins with $, # also matches the parent level (of "/#" that is the
 *  empty topic, which is counted here although nobody can publish to it). `=filter` rules want the
 * same text. Variables    A value that is missing, empty, too long, no UTF-8, has + # / or a
 * control byte, or begins with $ at the first level, is unusable: in an allow (and the exception of
 * a deny) it stands for nothing, in a deny (and the exception of an allow) for any text of that
 * level. With an array each string counts, at each of its places on its own; an element that is no
 * usable string adds the "any" above.
 *               %{sub} is %d. A session without a value for %u is anonymous, without %d no token
 * session. bound_device is false as soon as one allowing rule does without %d: then the client may
 * write there as a gateway or operator, for others than itself. `rule` is the lowest of the rules
 * that decide (files in reading order). */
enum hlt_verdict { HLT_NO_RULE, HLT_ALLOW, HLT_DENY }; /* NO_RULE: nobody spoke; a broker denies */

struct hlt_decision {
    enum hlt_verdict verdict;
    uint32_t rule;     /* index for hlt_policy_rule; UINT32_MAX with NO_RULE */
    bool bound_device; /* of READ and WRITE: every rule that allows bound %d (DESIGN 11.19) */
};

/* Decide. For READ, WRITE `topic` is a topic name, for SUBSCRIBE, UNSUBSCRIBE a filter ("$share/g/"
 * is taken off here). A topic with wildcards where a name belongs, or a malformed one, is HLT_DENY.
 * Cost: by the levels of the topic and the places that hold it, of which a limited number is
 * visited; beyond that a fraction of a nanosecond for each of the client's own rules (scan.h). */
void hlt_policy_decide(const struct hlt_view *view, enum hlt_access access, const char *topic,
                       struct hlt_decision *out);

struct hlt_rule_ref {
    const char *file, *text; /* the line as written, without leading blanks */
    unsigned line;
    const char *section; /* "anyone", "role Sensor" */
};
void hlt_policy_rule(const struct hlt_policy *policy, uint32_t rule, struct hlt_rule_ref *out);

/* An `expect` line: who asks what, and what must be answered. Lives as long as the policy. */
struct hlt_test {
    const char *file;
    unsigned line;
    bool deny; /* expected; else allow */
    enum hlt_access access;
    const char *topic;
    struct hlt_subject subject;
};
/* Test `index` in the order of reading; false past the last. */
bool hlt_policy_test(const struct hlt_policy *policy, size_t index, struct hlt_test *out);

#endif
