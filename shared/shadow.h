/* shadow.h - where a shadow policy would have decided otherwise than the one in force: counted by
 * device, access and the two rules that decided.
 *
 * A row begins with the first such decision and lasts until either policy changes. At most
 * `rows_max` rows; after that a decision of a new device counts in a row of the same rules that
 * stands for all devices without one, so sums by rule stay right (as long as there are at most
 * HLT_SHADOW_REST_MAX different pairs of rules). */
#ifndef HLT_SHADOW_H
#define HLT_SHADOW_H

#include "base.h"

#define HLT_SHADOW_KEY "shadow"                   /* in the store's counters: the head */
#define HLT_SHADOW_ROW_KEY HLT_SHADOW_KEY ":%07u" /* a row, in the store's order */
#define HLT_SHADOW_REST_MAX 4096
#define HLT_SHADOW_TOPIC 128 /* bytes of an example's topic, with its NUL */
#define HLT_SHADOW_NONE UINT32_MAX

struct hlt_shadow;

/* A decision on which the two policies differ. Strings are borrowed for the call. */
struct hlt_shadow_case {
    const char *who;    /* the device's id, or another login's user name or client id */
    const char *access; /* "write" */
    const char *topic;
    bool allowed; /* by the policy in force; the shadow says the opposite */
    /* The rules that decided, "site.acl:14: allow read #"; NULL: no rule spoke. The numbers tell
     * them apart. */
    uint32_t active_rule, shadow_rule;
    const char *active_text, *shadow_text;
};

/* NULL without memory. */
struct hlt_shadow *hlt_shadow_new(uint32_t rows_max);
void hlt_shadow_free(struct hlt_shadow *shadow); /* accepts NULL */

/* These two policies are compared from now on (`shadow_digest` NULL: nothing is). Counts go on if
 * they are of the same two, else all begin anew. */
void hlt_shadow_begin(struct hlt_shadow *shadow, const char *active_digest,
                      const char *shadow_digest, int64_t wall_ms);

/* The row this case is counted in, found by who, access and rules; HLT_SHADOW_NONE: there is none
 * yet. The rules' texts are not looked at. */
uint32_t hlt_shadow_find(const struct hlt_shadow *shadow, const struct hlt_shadow_case *what);
/* Make the row. HLT_SHADOW_NONE without memory or room: hlt_shadow_count takes it all the same. */
uint32_t hlt_shadow_add(struct hlt_shadow *shadow, const struct hlt_shadow_case *what,
                        int64_t wall_ms);
/* Count a decision in its row. Rows keep their number until hlt_shadow_begin. */
void hlt_shadow_count(struct hlt_shadow *shadow, uint32_t row, bool allowed, int64_t wall_ms);
/* Count a decision on which both agree. */
void hlt_shadow_agree(struct hlt_shadow *shadow);

struct hlt_shadow_totals {
    uint64_t checked, would_deny, would_allow;
    uint64_t rest; /* counted in rows that stand for several devices, or in none */
    uint32_t rows;
};
void hlt_shadow_totals(const struct hlt_shadow *shadow, struct hlt_shadow_totals *out);

/* Begin a round of writing: what has changed until now. Rows that change while it is written wait
 * for the next one, so that it ends. */
void hlt_shadow_round(struct hlt_shadow *shadow);
/* What is to be written next in this round: key and JSON text (malloc'd, NULL: delete the key).
 * False: nothing. Call hlt_shadow_written when it is on its way, then again. */
bool hlt_shadow_dirty(const struct hlt_shadow *shadow, char key[24], char **text);
void hlt_shadow_written(struct hlt_shadow *shadow);
/* Take back what was written, in the store's order: the head first, and each row to the number it
 * had. False: it is damaged. */
bool hlt_shadow_restore(struct hlt_shadow *shadow, const char *key, size_t key_len,
                        const char *text, size_t len);

#endif
