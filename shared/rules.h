/* rules.h - when is something wrong? The alert rules: built-in ones, and those of `rules_file`
 * (strict JSON).
 *
 * A rule's name is the alertname. An entry of the file with a built-in's name changes that rule's
 * fields; other names add rules of kind "threshold". `"enabled": false` switches one off. Loaded
 * once, then only read. */
#ifndef HLT_RULES_H
#define HLT_RULES_H

#include "base.h"

enum hlt_severity { HLT_SEV_NONE, HLT_SEV_INFO, HLT_SEV_WARNING, HLT_SEV_CRITICAL };
const char *hlt_severity_word(enum hlt_severity severity); /* "critical" */

enum hlt_rule_kind {
    HLT_RULE_THRESHOLD,      /* a metric beyond a bound */
    HLT_RULE_ANOMALY,        /* the detector's score */
    HLT_RULE_SILENCE,        /* nothing heard for too long */
    HLT_RULE_SPOOF,          /* payload names another device */
    HLT_RULE_MALFORMED,      /* payload that is not what DESIGN 5 says */
    HLT_RULE_AUTH_FAILURE,   /* refused logins */
    HLT_RULE_ACL_DENIED,     /* refused publishes and subscribes */
    HLT_RULE_LIMIT_EXCEEDED, /* ... because of a limit of the policy */
    HLT_RULE_CLONE,          /* one identity used from two ends */
    HLT_RULE_SYSTEM,         /* raised by Haltere itself about itself: policy_reload_failed, ... */
};

struct hlt_bound {
    double above, below; /* INFINITY, -INFINITY where there is none: breach if value > above or
                            value < below */
};

#define HLT_RULE_NAME_MAX 48 /* [a-z][a-z0-9_]* */
#define HLT_RULES_MAX 1000
#define HLT_RULE_CLASSES_MAX 16

struct hlt_rule {
    char name[HLT_RULE_NAME_MAX + 1];
    bool enabled;
    bool deny; /* spoof, malformed: the message is not delivered */
    enum hlt_rule_kind kind;
    enum hlt_severity severity; /* of all kinds but threshold */
    char summary[128];          /* what it means, for alerts' annotations and the README */
    /* threshold */
    char metric[65];
    struct hlt_bound critical, warning, info;
    double hysteresis; /* in the metric's unit: clears only this far inside the bound. Default 0 */
    /* who: device classes (claim device_class); empty: all */
    char classes[HLT_RULE_CLASSES_MAX][65];
    size_t class_count;
    char except_classes[HLT_RULE_CLASSES_MAX][65];
    size_t except_class_count;
    /* when */
    int64_t for_ms;      /* the condition must hold this long */
    int64_t clear_ms;    /* clearAfter: good for this long before "resolved" */
    int64_t cooldown_ms; /* no new episode within this time after a resolve; it only counts */
    int64_t renotify_ms; /* repeat "firing" this often while it fires; 0: never */
    unsigned line;       /* in rules_file, 0 for a built-in */
    uint32_t count;      /* counted kinds: this many ... */
    int64_t window_ms;   /* ... within this time */
    int64_t after_ms;    /* silence: never before this */
    double
        cadence_factor; /* silence: nor before factor x the device's own interval; 0: not learnt */
    double score;       /* anomaly: alert at score >= this, default 0.5 */
};

struct hlt_rules {
    struct hlt_rule *rule;
    size_t count;
    char detector[32]; /* "ewma" */
    char digest[17];   /* hex of SHA-256's first 8 bytes over the file, "builtin" */
};

/* The built-in rules; on HLT_OK the caller owns *out. */
enum hlt_rc hlt_rules_builtin(struct hlt_rules **out);
/* Built-in rules changed by a file. All mistakes at once in `problems` with line and column. */
enum hlt_rc hlt_rules_load(struct hlt_rules **out, const char *path, struct hlt_problems *problems);
/* The same from memory (tests, fuzzing); `name` stands in the messages. */
enum hlt_rc hlt_rules_parse(struct hlt_rules **out, const char *text, size_t len, const char *name,
                            struct hlt_problems *problems);
void hlt_rules_free(struct hlt_rules *rules);

/* The rule of this name, NULL if there is none. */
const struct hlt_rule *hlt_rules_find(const struct hlt_rules *rules, const char *name);
/* Does the rule speak of devices of this class ("" : none given)? */
bool hlt_rule_covers(const struct hlt_rule *rule, const char *device_class);

#endif
