/* alert.h - the life of an alert: pending, firing, resolved; one incident per (device, alertname,
 * metric).
 *
 * Repeats only count (dedup), a bound is left only beyond its hysteresis and after clearAfter, a
 * new episode waits for the cool-down, "firing" is told again every renotify. Severity only rises
 * within an episode; "resolved" goes to every topic that heard "firing". Open and recent alerts are
 * records in the store, so a restart keeps ids and episodes. */
#ifndef HLT_ALERT_H
#define HLT_ALERT_H

#include "base.h"
#include "rules.h"
#include "timer.h"

struct hlt_engine;
struct hlt_device;

enum hlt_alert_state { HLT_ALERT_IDLE, HLT_ALERT_PENDING, HLT_ALERT_ACTIVE };

struct hlt_alert {
    struct hlt_alert *next;          /* of the same device */
    struct hlt_alert *older, *newer; /* in the list of active or of other alerts */
    struct hlt_alert *next_dirty;
    struct hlt_device *device;
    struct hlt_timer timer; /* clearAfter or renotify, whichever is first */
    char name[HLT_RULE_NAME_MAX + 1];
    uint16_t metric_id; /* HLT_NAME_NONE: none */
    uint8_t state, severity, topics;
    bool acknowledged, dirty;
    uint32_t episode, window_count;
    uint64_t count, seq, said_hash;
    int64_t starts_ms, updated_ms, ends_ms, acknowledged_ms; /* unix ms */
    int64_t pending_mono_ms, clear_mono_ms, ended_mono_ms, said_mono_ms, window_mono_ms;
    double value, expected, threshold, score; /* NAN: none */
    char *message, *acknowledged_by;
};

struct hlt_alert_list {
    struct hlt_alert *oldest, *newest;
    uint32_t count;
};

struct hlt_alerts {
    struct hlt_alert_list active,
        other; /* other: idle and pending ones, which make room when the table is full */
    struct hlt_alert *dirty;
    uint32_t max;
    uint32_t by_severity[HLT_SEV_CRITICAL + 1]; /* active ones */
    char stream[33];                            /* begins anew when the last stop was not clean */
    uint64_t seq;                               /* of the last message on alerts/<severity> */
    bool seq_dirty, full_told;
};

/* What was seen. NAN: does not apply. `text` is for people; valid UTF-8. */
struct hlt_observation {
    double value, expected, threshold, score;
    const char *text;
};

/* The condition holds with this severity. */
void hlt_alert_bad(struct hlt_engine *engine, const struct hlt_rule *rule,
                   struct hlt_device *device, uint16_t metric_id, enum hlt_severity severity,
                   const struct hlt_observation *seen, struct hlt_now now);
/* The condition was looked at and does not hold. */
void hlt_alert_good(struct hlt_engine *engine, const struct hlt_rule *rule,
                    struct hlt_device *device, uint16_t metric_id, struct hlt_now now);
/* One more case of a counted condition: fires at rule->count within rule->window_ms, resolves
 * clear_ms after the last. */
void hlt_alert_count(struct hlt_engine *engine, const struct hlt_rule *rule,
                     struct hlt_device *device, const struct hlt_observation *seen,
                     struct hlt_now now);
/* The alert's timer rang. */
void hlt_alert_ring(struct hlt_engine *engine, struct hlt_alert *alert, struct hlt_now now);
/* End it now, whatever its rule says. */
void hlt_alert_resolve(struct hlt_engine *engine, struct hlt_alert *alert, struct hlt_now now,
                       const char *why);
/* Say again what is firing, on alerts/active only (after a restart). */
void hlt_alert_resay(struct hlt_engine *engine, struct hlt_alert *alert, struct hlt_now now);
enum hlt_rc hlt_alert_acknowledge(struct hlt_engine *engine, struct hlt_alert *alert,
                                  const char *author, struct hlt_now now);

/* NULL if there is no such record. */
struct hlt_alert *hlt_alert_find(const struct hlt_device *device, const char *name,
                                 uint16_t metric_id);
/* A new idle record, from the store or before first use. NULL: max_alerts are active, or no memory.
 */
struct hlt_alert *hlt_alert_add(struct hlt_engine *engine, struct hlt_device *device,
                                const char *name, uint16_t metric_id);
/* Put a restored record where its state belongs. */
void hlt_alert_place(struct hlt_engine *engine, struct hlt_alert *alert,
                     enum hlt_alert_state state);
void hlt_alert_remove(struct hlt_engine *engine, struct hlt_alert *alert);
/* Remove it, its record too. */
void hlt_alert_forget(struct hlt_engine *engine, struct hlt_alert *alert);
void hlt_alerts_free(struct hlt_engine *engine);
/* "alertname" or "alertname:metric", percent-encoded: the last level of
 * alerts/active/{deviceId}/... */
void hlt_alert_level(const struct hlt_engine *engine, const struct hlt_alert *alert, char *out,
                     size_t out_bytes);
const char *hlt_alert_metric(const struct hlt_engine *engine, const struct hlt_alert *alert);

#endif
