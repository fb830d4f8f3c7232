/* engine.h - Haltere's state machine: events with their time go in, actions come out.
 *
 * It knows sessions, devices, rules and alerts, and calls no clock and no broker function, so that
 * the plugin, the unit tests, fuzzers and `haltere replay` run the same code. One thread (the
 * broker's); every call does bounded work. Flow of a message: topic -> device -> telemetry scan ->
 * detectors and rules -> alerts -> actions. */
#ifndef HLT_ENGINE_H
#define HLT_ENGINE_H

#include "audit.h"
#include "ban.h"
#include "base.h"
#include "options.h"
#include "record.h"
#include "revocation.h"
#include "rules.h"
#include "shadow.h"
#include "store.h"
#include "timer.h"
#include "token.h"

struct hlt_engine; /* opaque */
struct hlt_device; /* opaque: device.h */

/* --- actions: what the caller must carry out, in order --- */
enum hlt_action_kind {
    HLT_ACT_PUBLISH, /* topic, payload, qos, retain */
    HLT_ACT_KICK,    /* client_id, login, with_will: only if that login is still the session's
                        (DESIGN 11.4) */
    HLT_ACT_LOG,     /* level, payload is the line */
};
enum hlt_log_level { HLT_LOG_ERR, HLT_LOG_WARNING, HLT_LOG_NOTICE, HLT_LOG_INFO, HLT_LOG_DEBUG };

struct hlt_action {
    enum hlt_action_kind kind;
    char *topic;   /* malloc'd, PUBLISH */
    char *payload; /* malloc'd, NUL-terminated; "" clears a retained topic */
    size_t payload_len;
    int qos;
    bool retain;
    bool alert;      /* an alert or health document: on MQTT 5 with content type application/json */
    char *client_id; /* malloc'd. PUBLISH: straight to this client if set; KICK: whom */
    uint64_t login;  /* KICK */
    bool with_will;  /* KICK */
    enum hlt_log_level level;
};
/* Take the oldest action; false if there is none. The caller owns the strings; hlt_action_free
 * frees those left non-NULL. */
bool hlt_engine_action(struct hlt_engine *engine, struct hlt_action *out);
void hlt_action_free(struct hlt_action *action);

#define HLT_ACTIONS_MAX 8192 /* waiting actions; more are dropped and counted (actions_dropped) */

/* --- life --- */
struct hlt_engine_config {
    const struct hlt_options *options; /* borrowed for the engine's life */
    struct hlt_store *store;           /* borrowed; NULL: nothing is kept (replay, tests) */
    bool store_clean;                  /* the last stop was clean: the alert stream goes on */
    const char *version;               /* for the heartbeat */
};
/* Build the tables, read devices, alerts and identities back from the store and queue what must be
 * said again (active alerts, availability: in slices on the ticks). Takes `rules` over on HLT_OK.
 * About 0.5 us a device. */
enum hlt_rc hlt_engine_new(struct hlt_engine **out, const struct hlt_engine_config *config,
                           struct hlt_rules *rules, struct hlt_now now, struct hlt_err *err);
/* Hand all that is dirty to the store (the last tick of a clean stop); waits for the store between
 * batches. */
void hlt_engine_flush(struct hlt_engine *engine, struct hlt_now now);
void hlt_engine_free(struct hlt_engine *engine); /* accepts NULL */

/* Swap the rules in. Open alerts of rules that are gone are resolved. */
void hlt_engine_set_rules(struct hlt_engine *engine, struct hlt_rules *rules, struct hlt_now now);
const struct hlt_rules *hlt_engine_rules(const struct hlt_engine *engine);

/* Timers: expiry, notices, kicks, silence, alert timers, heartbeat, hand-over to the store. Call it
 * some 10 times a second (it returns at once when nothing is due); one call works through at most a
 * bounded slice. */
void hlt_engine_tick(struct hlt_engine *engine, struct hlt_now now);

/* --- sessions --- */

/* A client that logged in by token, online or kept for its offline session. Members are for
 * reading; `view` and `rebind` belong to the caller (freed through the engine's on_view_free). */
struct hlt_session {
    char *client_id;
    struct hlt_claims *claims;
    struct hlt_device *device;
    const void *client; /* the broker's pointer of the last login (kept offline, to know our own
                           offline session); NULL: restored */
    uint64_t login;     /* grows with every login: tells one session's logins apart */
    uint8_t secret[32]; /* SHA-256 of the password seen at login */
    char address[64];
    bool online;
    bool durable;   /* clean start was false */
    bool kicking;   /* inside our own kick: SUBSCRIBE checks are answered by policy alone (11.5) */
    bool barred;    /* ended by ban or revocation: nothing is allowed, wills included */
    bool enhanced;  /* logged in by MQTT 5 enhanced authentication (no password) */
    bool confirmed; /* seen alive after login (first ACL check or message) */
    void *view;
    bool rebind; /* the claims changed since the caller bound `view`; the caller clears it */
    void *meter; /* the caller's too: what limits have counted; lives as long as the session */
    uint64_t children; /* devices it created as a gateway */
    uint16_t protocol; /* 3, 4, 5 */
    uint16_t keepalive_s;
    int64_t connected_mono_ms, seen_wall_ms;
    uint64_t judged;      /* the generation of revocations it was held against last */
    int64_t ends_wall_ms; /* exp; if the token was accepted by leeway after exp, exp + leeway */
    /* private to the engine */
    struct hlt_session *next_by_id, *next_by_client, *older, *newer, *next_dirty;
    struct hlt_timer timer;
    uint64_t told_tick; /* the number of ticks when it was last told on `event` */
    uint8_t phase;
    uint8_t gone; /* enum hlt_disconnect: why it went or is about to be kicked */
    bool noticed; /* token_expiring was said */
    bool dirty;
};

struct hlt_login {
    const void *client;
    const char *client_id;
    const char *address;   /* NULL: unknown */
    const uint8_t *secret; /* 32 bytes; NULL for enhanced auth */
    bool durable, enhanced;
    int protocol, keepalive_s;
};
/* A token was accepted: bind it to a session (a new login generation) and its device. Takes
 * `claims` over on HLT_REASON_OK only. Checks client id against sub (11.9), max_sessions (the
 * oldest offline one makes room) and max_devices (a new device is refused and counted). */
enum hlt_reason hlt_engine_login(struct hlt_engine *engine, struct hlt_now now,
                                 const struct hlt_login *login, struct hlt_claims *claims,
                                 struct hlt_session **out);
/* Another token for a live session (renewal): same sub and binding, iat not earlier; swaps claims.
 * Takes `claims` over on HLT_REASON_OK. */
enum hlt_reason hlt_engine_renew(struct hlt_engine *engine, struct hlt_now now,
                                 struct hlt_session *session, struct hlt_claims *claims,
                                 const uint8_t *secret);
/* The online session of this pointer (its client id is compared), else NULL. One hash lookup by
 * address. */
struct hlt_session *hlt_engine_session(struct hlt_engine *engine, const void *client,
                                       const char *client_id);
/* The kept session of this client id, online or not. */
struct hlt_session *hlt_engine_session_by_id(struct hlt_engine *engine, const char *client_id);
/* The broker says this client is gone. Ignored unless `client` is the session's (take-over, refused
 * logins, port scans). With MQTT 2.0 reason is -1 = unknown; a will seen right after makes it
 * connection_lost. */
void hlt_engine_logout(struct hlt_engine *engine, struct hlt_now now, const void *client,
                       const char *client_id, int mqtt_reason);
/* A will of this (offline) session was just allowed or refused: so the connection was lost. */
void hlt_engine_will_seen(struct hlt_engine *engine, struct hlt_now now,
                          struct hlt_session *session);
/* Expired by now? (exp is a strict bound here; leeway was for logging in) */
bool hlt_session_expired(const struct hlt_session *session, int64_t wall_ms);
/* May this session do nothing any more, by ban or revocation? Looks at revocations that are newer
 * than its last check; then an online one is told and kicked on the next ticks. A compare, unless
 * there was an order since. */
bool hlt_engine_barred(struct hlt_engine *engine, struct hlt_session *session, struct hlt_now now);
/* A device that ever logged in by token owns its id: other logins may not use it as client id or
 * user name (11.8). */
bool hlt_engine_id_reserved(const struct hlt_engine *engine, const char *id);
/* Called with a session's view when it goes. */
void hlt_engine_on_view_free(struct hlt_engine *engine, void (*free_view)(void *view));
/* Called with a session's meter when the session goes. */
void hlt_engine_on_meter_free(struct hlt_engine *engine, void (*free_meter)(void *meter));

/* --- what happened to clients --- */
struct hlt_refusal {
    enum hlt_reason reason;
    const char *client_id, *user, *address; /* as claimed; may be NULL */
    const char *detail;                     /* safe for logs; may be NULL */
};
/* A login was refused: counters, one rate-limited log line, rule auth_failure (on the device if the
 * id is known, else on $broker). */
void hlt_engine_refused(struct hlt_engine *engine, struct hlt_now now,
                        const struct hlt_refusal *refusal);
/* A check was answered with "no" ("write devices/x/telemetry"). `session` may be NULL. `why` is one
 * word. */
void hlt_engine_denied(struct hlt_engine *engine, struct hlt_now now, struct hlt_session *session,
                       const char *client_id, const char *access, const char *topic,
                       const char *why);
/* A new policy, or new claims, took subscriptions away that this session holds: it is told on its
 * event topic, as nothing else would say why nothing comes any more. */
void hlt_engine_subscriptions_lost(struct hlt_engine *engine, struct hlt_now now,
                                   const struct hlt_session *session, const char *const *filters,
                                   size_t count);
/* Where a shadow policy differs; the caller counts, the engine keeps it in the store. */
struct hlt_shadow *hlt_engine_shadow(struct hlt_engine *engine);
/* Haltere about itself: raise (`message`) or clear (NULL) a rule of kind system, as
 * `policy_reload_failed`. */
void hlt_engine_system(struct hlt_engine *engine, struct hlt_now now, const char *alertname,
                       const char *message);

/* --- abuse (DESIGN 11.14) --- */
/* May a token never seen before be verified for this client? HLT_REASON_OK or HLT_REASON_BANNED.
 * Constant cost; nothing while there are no bans. */
enum hlt_reason hlt_engine_admit(struct hlt_engine *engine, struct hlt_now now, const char *address,
                                 const char *client_id);
bool hlt_engine_device_banned(const struct hlt_engine *engine, struct hlt_now now, const char *id);
struct hlt_ban_order {
    struct hlt_ban_subject subject;
    int64_t for_ms;              /* HLT_BAN_FOREVER */
    const char *author, *reason; /* reason may be NULL */
};
/* Ban, or change the ban there is. A device's sessions end, without their wills; an address's do
 * not. HLT_EINVAL: the address is exempt. HLT_EFULL. */
enum hlt_rc hlt_engine_ban(struct hlt_engine *engine, struct hlt_now now,
                           const struct hlt_ban_order *order, struct hlt_err *err);
/* HLT_ENOTFOUND: no such ban is in force. */
enum hlt_rc hlt_engine_unban(struct hlt_engine *engine, struct hlt_now now,
                             const struct hlt_ban_subject *subject);
/* Ban `index` in no order, NULL after the last. May be over by some seconds. */
const struct hlt_ban *hlt_engine_ban_at(const struct hlt_engine *engine, size_t index);

/* --- messages --- */
struct hlt_message {
    const char *topic;
    const void *payload; /* not NUL-terminated */
    size_t payload_len;
    bool retain;
    bool checked;                /* an ACL check has just allowed it: own topics are behind it */
    const char *client_id;       /* for the log where it was not checked; may be NULL */
    struct hlt_session *session; /* NULL: another login or a bridge */
    bool bound_device; /* the allowing rule bound %d: topic id and sub must agree (11.19) */
};
enum hlt_answer { HLT_DELIVER, HLT_DROP };
/* A PUBLISH that policy allowed. HLT_DROP: forged own topic, or a rule with "deny". */
enum hlt_answer hlt_engine_message(struct hlt_engine *engine, struct hlt_now now,
                                   const struct hlt_message *message);

/* --- own topics (11.10) --- */
/* A topic only Haltere writes: alerts/#, devices/+/{health,availability,event}, system/heartbeat,
 * $CONTROL/haltere/# but v1. */
bool hlt_engine_owns(const struct hlt_engine *engine, const char *topic);
/* Is this retained message on an own topic exactly what we last said there? */
bool hlt_engine_retained_is_ours(const struct hlt_engine *engine, const char *topic,
                                 const void *payload, size_t len);

/* --- numbers --- */
/* clang-format off */
#define HLT_COUNTERS(X)                                                                           \
    X(messages) X(bytes) X(telemetry) X(statuses) X(readings) X(readings_dropped) X(malformed)    \
    X(spoofed) X(clock_ahead) X(logins) X(logins_other) X(renewals) X(refused) X(expired)         \
    X(kicks) X(kicks_dropped) X(acl_allowed) X(acl_denied) X(acl_deferred) X(limit_denied)        \
    X(own_topic_denied) X(stale_retained_denied) X(alerts_fired) X(alerts_resolved)               \
    X(alerts_repeated) X(alerts_dropped) X(actions_dropped) X(devices_refused)                    \
    X(sessions_refused) X(sessions_evicted) X(identities_too_large) X(metrics_refused)            \
    X(metric_names_refused) X(children_refused) X(store_busy) X(records_damaged) X(reloads)       \
    X(reloads_failed) X(commands) X(commands_refused) X(ticks) X(revocations)                     \
    X(revocations_refused) X(revoked) X(audit_dropped) X(cache_hits) X(cache_misses) X(bans)      \
    X(limits_evicted) X(clones) X(shadow_would_deny) X(shadow_would_allow)              \
    X(shadow_rest) X(recent_dropped) X(clients_changed) X(subscriptions_lost)
/* clang-format on */
struct hlt_counters {
#define HLT_COUNTER_FIELD(name) uint64_t name;
    HLT_COUNTERS(HLT_COUNTER_FIELD)
#undef HLT_COUNTER_FIELD
    uint64_t refusals[HLT_REASON_COUNT]; /* `refused` by reason */
};
/* For the caller to count what only it sees (acl_*, reloads, commands). */
struct hlt_counters *hlt_engine_counters(struct hlt_engine *engine);
/* A text member of the heartbeat, as ("policy", "3fa9..."). At most 8 names. */
void hlt_engine_note(struct hlt_engine *engine, const char *name, const char *value);
/* The heartbeat's document (malloc'd JSON), for `getStatus`. NULL without memory. */
char *hlt_engine_status(struct hlt_engine *engine, struct hlt_now now);
/* The health document of a device (malloc'd JSON), NULL if unknown. */
char *hlt_engine_device_status(struct hlt_engine *engine, struct hlt_now now,
                               const char *device_id);

/* --- commands (authorised by the caller) --- */
/* Acknowledge a firing alert by its incident id. */
enum hlt_rc hlt_engine_acknowledge(struct hlt_engine *engine, struct hlt_now now,
                                   const char *alert_id, const char *author);
/* Forget a device that is offline: its record, alerts (resolved) and retained topics. HLT_EBUSY:
 * online. */
enum hlt_rc hlt_engine_forget(struct hlt_engine *engine, struct hlt_now now, const char *device_id);

/* Bar tokens from now on: logins, renewals and live sessions, which end within a second. created_ms
 * is set here; expires_ms 0 stands for as long as such a token may live. HLT_EINVAL, HLT_EFULL
 * (max_revocations; `revocations_full` fires), HLT_ENOMEM with a message. On disk within 200 ms if
 * the disk keeps up. */
enum hlt_rc hlt_engine_revoke(struct hlt_engine *engine, struct hlt_now now,
                              const struct hlt_revocation *what, struct hlt_err *err);
/* Lift one; sessions it ended stay ended until they log in again. False: there is none. */
bool hlt_engine_unrevoke(struct hlt_engine *engine, struct hlt_now now, enum hlt_revoke_kind kind,
                         const char *id, const char *by);
const struct hlt_revocations *hlt_engine_revocations(const struct hlt_engine *engine);

/* Write to the audit what only the caller knows: commands, reloads, bans. Never give it a secret;
 * what looks like a token is blanked. */
void hlt_engine_audit(struct hlt_engine *engine, struct hlt_now now,
                      const struct hlt_audit_event *event);

size_t hlt_engine_device_count(const struct hlt_engine *engine);

#endif
