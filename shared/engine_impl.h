/* engine_impl.h - the inside of the engine, shared by its files only (engine*.c, session.c,
 * alert.c, health.c, document.c). */
#ifndef HLT_ENGINE_IMPL_H
#define HLT_ENGINE_IMPL_H

#include "alert.h"
#include "audit.h"
#include "denial.h"
#include "detector.h"
#include "device.h"
#include "engine.h"
#include "guard.h"
#include "keyuse.h"
#include "outbox.h"

#define HLT_BROKER_ID "$broker" /* deviceId of alerts about the broker itself */
#define HLT_NOTES_MAX 8
#define HLT_LOG_BURST 20 /* refusal and denial lines a second; more are counted and told once */
#define HLT_SESSIONS_PER_SUB 16 /* client_id_match prefix: sessions of one device */
#define HLT_DUE_MAX 8192   /* devices whose availability waits for a tick; more are said at once */
#define HLT_TOPIC_MAX 1024 /* bytes of a topic Haltere builds */

struct hlt_prefix {
    const char *text;
    size_t len;
};

struct hlt_session_table {
    struct hlt_session **by_id, **by_client;
    uint64_t mask;
    uint32_t count, online, max;
    struct hlt_session *oldest_offline, *newest_offline;
    uint64_t login; /* last login generation given */
};

struct hlt_note {
    char name[24];
    char value[64];
};

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): by subject; there is one of it */
struct hlt_engine {
    const struct hlt_options *options;
    struct hlt_store *store;
    char version[32];
    struct hlt_rules *rules;
    const struct hlt_detector *detector;
    const struct hlt_rule *anomaly, *silence, *spoof, *malformed, *auth_failure, *acl_denied,
        *limit_exceeded, *clone; /* NULL: off */
    const struct hlt_rule *
        *name_rules[HLT_METRIC_NAMES_MAX]; /* threshold rules of a metric, NULL-ended */
    struct hlt_prefix devices_prefix, alerts_prefix, system_prefix;
    struct hlt_outbox out;
    struct hlt_wheel wheel;
    struct hlt_device_table devices;
    struct hlt_names names;
    struct hlt_device broker; /* stands for the broker in alerts; not in the table */
    struct hlt_session_table sessions;
    void (*view_free)(void *view);
    void (*meter_free)(void *meter);
    struct hlt_guard guard;
    struct hlt_alerts alerts;
    struct hlt_denials *denials; /* by a device's index */
    struct hlt_shadow *shadow;
    struct hlt_device *dirty, **dirty_tail;
    struct hlt_session *dirty_sessions;
    struct hlt_keyuse *keys; /* which keys are still used */
    struct hlt_counters counters;
    struct hlt_note note[HLT_NOTES_MAX];
    struct hlt_now started;
    int64_t heartbeat_mono_ms, flush_mono_ms;
    bool flushing;                 /* a round of hand-over is under way */
    bool publish_devices;          /* health_publish allows retained topics per device */
    bool resay_broker;             /* the broker's own restored alerts are still to be said again */
    uint32_t resay, resay_end;     /* slab entries of restored devices still to be said again */
    uint32_t rewatch, rewatch_end; /* slab entries whose silence timer is to be set again */
    uint32_t due[HLT_DUE_MAX];     /* slab entries of devices whose availability may have changed */
    uint32_t due_first, due_count;
    uint32_t online; /* devices with a session online */
    int64_t log_second;
    unsigned log_lines;
    uint64_t log_held;
    struct hlt_revocations revocations;
    uint64_t bar_at, bar_left; /* buckets of sessions still to be judged anew by revocations */
    int64_t bar_mono_ms;
    struct hlt_audit audit;
    struct hlt_telemetry scan; /* scratch of the message being read */
};

/* engine.c */
void hlt_engine_dirty(struct hlt_engine *engine, struct hlt_device *device);
/* True if one more line about strangers may be written this second. */
bool hlt_engine_may_log(struct hlt_engine *engine, struct hlt_now now);
void hlt_engine_index_rules(struct hlt_engine *engine);
void hlt_engine_index_name(struct hlt_engine *engine, uint16_t name_id);
/* The rule, if it is on and speaks of this device's class; else NULL. */
const struct hlt_rule *hlt_engine_rule_for(const struct hlt_rule *rule,
                                           const struct hlt_device *device);
/* Say what happened to a device on devices/{id}/event. `reason` may be NULL. */
void hlt_engine_event(struct hlt_engine *engine, struct hlt_now now,
                      const struct hlt_device *device, const char *type, const char *reason,
                      const char *client_id);
/* devices/{id}/{leaf} with the id encoded. */
void hlt_engine_device_topic(const struct hlt_engine *engine, const struct hlt_device *device,
                             const char *leaf, char out[HLT_TOPIC_MAX]);
/* Retained online/offline, on the next tick if it has changed by then: a connection that was taken
 * over or lasted no tick changes nothing. */
void hlt_engine_availability(struct hlt_engine *engine, struct hlt_device *device);
/* Set the silence timer of a device for what is known of it now. */
void hlt_engine_watch_silence(struct hlt_engine *engine, struct hlt_device *device,
                              struct hlt_now now);
/* When a device that stays quiet is called silent (monotonic ms); INT64_MAX: never. */
int64_t hlt_engine_silence_due(const struct hlt_engine *engine, const struct hlt_device *device);

/* engine_store.c */
enum hlt_rc hlt_engine_restore(struct hlt_engine *engine, bool clean, struct hlt_now now,
                               struct hlt_err *err);
/* Hand over what is due, at most `slice` records. True: nothing is left of this round. */
bool hlt_engine_hand_over(struct hlt_engine *engine, struct hlt_now now, unsigned slice);
void hlt_engine_forget_record(struct hlt_engine *engine, enum hlt_db db, const void *key,
                              size_t len);

/* Add a record (value NULL: delete it) to the batch being filled. False: the writer has no room. */
bool hlt_engine_put(struct hlt_engine *engine, enum hlt_db db, const void *key, size_t key_len,
                    const void *value, size_t value_len);

/* engine_identity.c */
void hlt_engine_identity_tick(struct hlt_engine *engine, struct hlt_now now);
/* Revocations at once, audit records some a tick. True: nothing is left that could not be handed.
 */
bool hlt_engine_hand_identity(struct hlt_engine *engine, unsigned slice);
/* False: the record is damaged. */
bool hlt_engine_restore_revocation(struct hlt_engine *engine, const void *key, size_t key_len,
                                   const void *value, size_t len);
enum hlt_rc hlt_engine_restore_audit(struct hlt_engine *engine, struct hlt_now now,
                                     struct hlt_err *err);
/* A login, renewal or expiry: whose token, from where, which one. */
void hlt_engine_audit_token(struct hlt_engine *engine, struct hlt_now now, enum hlt_audit_type type,
                            const struct hlt_session *session);

/* session.c */
enum hlt_rc hlt_sessions_init(struct hlt_session_table *table, uint32_t max);
void hlt_sessions_free(struct hlt_engine *engine);
void hlt_session_timer(struct hlt_engine *engine, struct hlt_session *session, struct hlt_now now);
struct hlt_session *hlt_session_restore(struct hlt_engine *engine, const char *client_id,
                                        const struct hlt_identity_record *record,
                                        struct hlt_now now);
void hlt_session_drop(struct hlt_engine *engine, struct hlt_session *session);
/* End a session for good: from now on nothing is allowed, wills included. An online one is told why
 * and kicked a tick later; an offline one keeps nothing but its place. `gone` is HLT_GONE_BANNED or
 * HLT_GONE_REVOKED. Ends with the next accepted login. */
void hlt_session_bar(struct hlt_engine *engine, struct hlt_session *session, uint8_t gone,
                     struct hlt_now now);

/* health.c */
/* Judge the device again if it is due (or `force`), publish what changed. */
void hlt_health_update(struct hlt_engine *engine, struct hlt_device *device, struct hlt_now now,
                       bool force);

/* document.c: malloc'd JSON texts, NULL without memory. */
char *hlt_document_alert(const struct hlt_engine *engine, const struct hlt_alert *alert,
                         const char *status, int64_t wall_ms);
struct hlt_factor {
    const char *name;
    float weight;
    const char *before, *after; /* of the value, which may be NAN: none */
    double value;
};
char *hlt_document_health(const struct hlt_engine *engine, const struct hlt_device *device,
                          const struct hlt_factor *factor, size_t factor_count, struct hlt_now now);
struct hlt_event {
    const char *type, *reason, *client_id; /* the last two may be NULL */
    const char *const *filters;            /* subscription_lost: which */
    size_t filter_count;
};
char *hlt_document_event(const struct hlt_device *device, const struct hlt_event *event,
                         int64_t wall_ms);
char *hlt_document_heartbeat(const struct hlt_engine *engine, struct hlt_now now);
/* The same with the keys that were used last, for admins. */
char *hlt_document_status(const struct hlt_engine *engine, struct hlt_now now);
uint64_t hlt_document_hash(const struct hlt_engine *engine, const void *text, size_t len);

/* What was denied to a device goes with it. */
void hlt_engine_forget_denials(struct hlt_engine *engine, const struct hlt_device *device);

#endif
