/* engine.c - the engine's frame: life, ticks, own topics, and what it says about clients. Messages:
 * engine_message.c. */
#include "engine.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"
#include "text.h"

#define TICK_TIMERS 2000 /* wheel nodes looked at in one tick */
#define TICK_RECORDS 256 /* records handed to the store in one tick */
#define TICK_DUE 1000    /* devices whose availability is said in one tick */
#define TICK_RESAY 64    /* devices whose availability is said again in one tick after the start */
#define SILENCE_CADENCE_MIN 5 /* intervals learnt before the cadence counts */

/* --- life --- */

static struct hlt_prefix prefix_of(const char *text)
{
    return (struct hlt_prefix){.text = text, .len = strlen(text)};
}

static enum hlt_rc make_tables(struct hlt_engine *engine, struct hlt_err *err)
{
    const struct hlt_options *options = engine->options;

    if (hlt_device_table_init(&engine->devices, (uint32_t)options->max_devices, engine->detector) !=
            HLT_OK ||
        hlt_sessions_init(&engine->sessions, (uint32_t)options->max_sessions) != HLT_OK ||
        hlt_revocations_init(&engine->revocations, (uint32_t)options->max_revocations,
                             engine->store != NULL) != HLT_OK ||
        hlt_audit_init(&engine->audit, engine->store != NULL) != HLT_OK ||
        hlt_outbox_init(&engine->out) != HLT_OK ||
        hlt_guard_init(&engine->guard, options) != HLT_OK) {
        return hlt_fail(err, HLT_ENOMEM, "no memory for max_devices %llu and max_sessions %llu",
                        (unsigned long long)options->max_devices,
                        (unsigned long long)options->max_sessions);
    }
    engine->broker.id = strdup(HLT_BROKER_ID);
    engine->keys = hlt_keyuse_new();
    return engine->broker.id != NULL && engine->keys != NULL
               ? HLT_OK
               : hlt_fail(err, HLT_ENOMEM, "no memory");
}

enum hlt_rc hlt_engine_new(struct hlt_engine **out, const struct hlt_engine_config *config,
                           struct hlt_rules *rules, struct hlt_now now, struct hlt_err *err)
{
    struct hlt_engine *engine = calloc(1, sizeof(*engine));

    *out = NULL;
    if (engine == NULL) {
        return hlt_fail(err, HLT_ENOMEM, "no memory");
    }
    engine->options = config->options;
    engine->store = config->store;
    engine->rules = rules;
    engine->detector = hlt_detector_find(rules->detector);
    engine->started = now;
    engine->heartbeat_mono_ms = engine->flush_mono_ms = now.mono_ms;
    engine->dirty_tail = &engine->dirty;
    engine->alerts.max = (uint32_t)config->options->max_alerts;
    engine->devices_prefix = prefix_of(config->options->device_prefix);
    engine->alerts_prefix = prefix_of(config->options->alert_prefix);
    engine->system_prefix = prefix_of(config->options->system_prefix);
    engine->publish_devices = config->options->health_publish != HLT_HEALTH_OFF;
    snprintf(engine->version, sizeof(engine->version), "%s",
             config->version != NULL ? config->version : "");
    hlt_wheel_init(&engine->wheel, now.mono_ms);
    engine->denials = hlt_denials_new((uint32_t)config->options->max_denial_devices);
    enum hlt_rc rc = engine->detector != NULL
                         ? make_tables(engine, err)
                         : hlt_fail(err, HLT_EINVAL, "unknown detector '%s'", rules->detector);
    engine->shadow = hlt_shadow_new((uint32_t)config->options->max_shadow_rows);
    if (rc == HLT_OK && (engine->denials == NULL || engine->shadow == NULL)) {
        rc = hlt_fail(err, HLT_ENOMEM, "no memory");
    }
    if (rc == HLT_OK) {
        hlt_engine_index_rules(engine);
        rc = hlt_engine_restore(engine, config->store_clean, now, err);
    }
    if (rc != HLT_OK) {
        engine->rules = NULL; /* still the caller's */
        hlt_engine_free(engine);
        return rc;
    }
    *out = engine;
    return HLT_OK;
}

void hlt_engine_free(struct hlt_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    hlt_alerts_free(engine);
    hlt_sessions_free(engine);
    hlt_device_table_free(&engine->devices);
    for (size_t i = 0; i < engine->names.count; i++) {
        free(engine->name_rules[i]);
    }
    hlt_names_free(&engine->names);
    hlt_outbox_free(&engine->out);
    hlt_denials_free(engine->denials);
    hlt_shadow_free(engine->shadow);
    hlt_keyuse_free(engine->keys);
    hlt_revocations_free(&engine->revocations);
    hlt_audit_free(&engine->audit);
    hlt_guard_free(&engine->guard);
    hlt_rules_free(engine->rules);
    free(engine->broker.id);
    free(engine->broker.address);
    free(engine);
}

/* --- rules --- */

static const struct hlt_rule *enabled_rule(const struct hlt_rules *rules, enum hlt_rule_kind kind)
{
    for (size_t i = 0; i < rules->count; i++) {
        if (rules->rule[i].kind == kind) {
            return rules->rule[i].enabled ? &rules->rule[i] : NULL;
        }
    }
    return NULL;
}

/* The threshold rules of one metric, so that the message path need not look through all of them. */
static const struct hlt_rule **rules_of(const struct hlt_rules *rules, const char *metric)
{
    size_t count = 0;

    for (size_t i = 0; i < rules->count; i++) {
        const struct hlt_rule *rule = &rules->rule[i];
        count +=
            rule->kind == HLT_RULE_THRESHOLD && rule->enabled && strcmp(rule->metric, metric) == 0;
    }
    const struct hlt_rule **list =
        count > 0 ? calloc(count + 1, sizeof(const struct hlt_rule *)) : NULL;
    for (size_t i = 0, n = 0; list != NULL && i < rules->count; i++) {
        const struct hlt_rule *rule = &rules->rule[i];
        if (rule->kind == HLT_RULE_THRESHOLD && rule->enabled &&
            strcmp(rule->metric, metric) == 0) {
            list[n++] = rule;
        }
    }
    return list;
}

void hlt_engine_index_name(struct hlt_engine *engine, uint16_t name_id)
{
    free(engine->name_rules[name_id]);
    engine->name_rules[name_id] = rules_of(engine->rules, engine->names.name[name_id]);
}

void hlt_engine_index_rules(struct hlt_engine *engine)
{
    const struct hlt_rules *rules = engine->rules;

    engine->anomaly = enabled_rule(rules, HLT_RULE_ANOMALY);
    engine->silence = enabled_rule(rules, HLT_RULE_SILENCE);
    engine->spoof = enabled_rule(rules, HLT_RULE_SPOOF);
    engine->malformed = enabled_rule(rules, HLT_RULE_MALFORMED);
    engine->auth_failure = enabled_rule(rules, HLT_RULE_AUTH_FAILURE);
    engine->acl_denied = enabled_rule(rules, HLT_RULE_ACL_DENIED);
    engine->limit_exceeded = enabled_rule(rules, HLT_RULE_LIMIT_EXCEEDED);
    engine->clone = enabled_rule(rules, HLT_RULE_CLONE);
    for (uint16_t i = 0; i < engine->names.count; i++) {
        hlt_engine_index_name(engine, i);
    }
}

const struct hlt_rule *hlt_engine_rule_for(const struct hlt_rule *rule,
                                           const struct hlt_device *device)
{
    const char *class = device->device_class != NULL ? device->device_class : "";

    return rule != NULL && rule->enabled && hlt_rule_covers(rule, class) ? rule : NULL;
}

void hlt_engine_set_rules(struct hlt_engine *engine, struct hlt_rules *rules, struct hlt_now now)
{
    struct hlt_rules *old = engine->rules;

    if (strcmp(rules->detector, engine->detector->name) != 0 &&
        hlt_detector_find(rules->detector) != engine->detector) {
        hlt_outbox_log(&engine->out, HLT_LOG_WARNING,
                       "rules: detector '%s' takes effect at the next start; '%s' stays in use",
                       rules->detector, engine->detector->name);
    }
    engine->rules = rules;
    hlt_engine_index_rules(engine);
    for (struct hlt_alert *alert = engine->alerts.active.oldest; alert != NULL;
         alert = alert->newer) {
        hlt_timer_set(&engine->wheel, &alert->timer, now.mono_ms); /* looks at its rule again */
    }
    engine->rewatch = 0;
    engine->rewatch_end = engine->devices.used;
    hlt_rules_free(old);
}

/* The silence rule may have changed for everybody: set the timers again, some devices a tick. */
static void rewatch(struct hlt_engine *engine, struct hlt_now now)
{
    for (unsigned n = 0; n < TICK_TIMERS && engine->rewatch < engine->rewatch_end; n++) {
        struct hlt_device *device = hlt_device_at(&engine->devices, engine->rewatch++);
        if (device != NULL && !device->silent) {
            hlt_engine_watch_silence(engine, device, now);
        }
    }
}

const struct hlt_rules *hlt_engine_rules(const struct hlt_engine *engine)
{
    return engine->rules;
}

/* --- small services --- */

bool hlt_engine_action(struct hlt_engine *engine, struct hlt_action *out)
{
    engine->counters.actions_dropped = engine->out.dropped;
    return hlt_outbox_pop(&engine->out, out);
}

struct hlt_counters *hlt_engine_counters(struct hlt_engine *engine)
{
    return &engine->counters;
}

size_t hlt_engine_device_count(const struct hlt_engine *engine)
{
    return engine->devices.count;
}

void hlt_engine_note(struct hlt_engine *engine, const char *name, const char *value)
{
    for (size_t i = 0; i < HLT_NOTES_MAX; i++) {
        struct hlt_note *note = &engine->note[i];
        if (note->name[0] == '\0' || strcmp(note->name, name) == 0) {
            snprintf(note->name, sizeof(note->name), "%s", name);
            snprintf(note->value, sizeof(note->value), "%s", value);
            return;
        }
    }
}

char *hlt_engine_status(struct hlt_engine *engine, struct hlt_now now)
{
    return hlt_document_status(engine, now);
}

void hlt_engine_dirty(struct hlt_engine *engine, struct hlt_device *device)
{
    if (device->dirty || engine->store == NULL || device == &engine->broker) {
        return;
    }
    device->dirty = true;
    device->next_dirty = NULL;
    *engine->dirty_tail = device;
    engine->dirty_tail = &device->next_dirty;
}

void hlt_engine_device_topic(const struct hlt_engine *engine, const struct hlt_device *device,
                             const char *leaf, char out[HLT_TOPIC_MAX])
{
    _Static_assert(HLT_PREFIX_MAX + 1 + HLT_LEVEL_MAX + 1 + 16 < HLT_TOPIC_MAX,
                   "room for prefix, id and the longest leaf");
    const struct hlt_prefix *prefix = &engine->devices_prefix;
    char *at = out + prefix->len;

    memcpy(out, prefix->text, prefix->len);
    *at++ = '/';
    at += hlt_level_encode(at, HLT_LEVEL_MAX + 1, device->id, device->id_len);
    *at++ = '/';
    memcpy(at, leaf, strlen(leaf) + 1);
}

static void say_event(struct hlt_engine *engine, struct hlt_now now,
                      const struct hlt_device *device, const struct hlt_event *event)
{
    char topic[HLT_TOPIC_MAX];

    hlt_engine_device_topic(engine, device, "event", topic);
    hlt_outbox_publish(&engine->out, topic, hlt_document_event(device, event, now.wall_ms), 0,
                       false, true, NULL);
}

void hlt_engine_event(struct hlt_engine *engine, struct hlt_now now,
                      const struct hlt_device *device, const char *type, const char *reason,
                      const char *client_id)
{
    say_event(engine, now, device,
              &(struct hlt_event){.type = type, .reason = reason, .client_id = client_id});
}

void hlt_engine_subscriptions_lost(struct hlt_engine *engine, struct hlt_now now,
                                   const struct hlt_session *session, const char *const *filters,
                                   size_t count)
{
    engine->counters.subscriptions_lost += count;
    say_event(engine, now, session->device,
              &(struct hlt_event){.type = "subscription_lost",
                                  .reason = "policy",
                                  .client_id = session->client_id,
                                  .filters = filters,
                                  .filter_count = count});
}

struct hlt_shadow *hlt_engine_shadow(struct hlt_engine *engine)
{
    return engine->shadow;
}

static void say_availability(struct hlt_engine *engine, struct hlt_device *device)
{
    char topic[HLT_TOPIC_MAX];
    bool online = device->sessions > 0;

    device->said_availability = true;
    device->said_online = online;
    hlt_engine_device_topic(engine, device, "availability", topic);
    hlt_outbox_publish(&engine->out, topic, strdup(online ? "online" : "offline"), 1, true, false,
                       NULL);
}

static bool availability_changed(const struct hlt_engine *engine, const struct hlt_device *device)
{
    return engine->publish_devices &&
           (!device->said_availability || device->said_online != (device->sessions > 0));
}

void hlt_engine_availability(struct hlt_engine *engine, struct hlt_device *device)
{
    if (device->availability_due || !availability_changed(engine, device)) {
        return;
    }
    if (engine->due_count == HLT_DUE_MAX) {
        say_availability(engine, device);
        return;
    }
    device->availability_due = true;
    engine->due[(engine->due_first + engine->due_count++) % HLT_DUE_MAX] = device->index;
}

static void say_due(struct hlt_engine *engine)
{
    for (unsigned n = 0; n < TICK_DUE && engine->due_count > 0; n++) {
        struct hlt_device *device = hlt_device_at(&engine->devices, engine->due[engine->due_first]);

        engine->due_first = (engine->due_first + 1) % HLT_DUE_MAX;
        engine->due_count--;
        if (device == NULL || !device->availability_due) {
            continue; /* forgotten meanwhile, and maybe another's place now */
        }
        device->availability_due = false;
        if (availability_changed(engine, device)) {
            say_availability(engine, device);
        }
    }
}

bool hlt_engine_may_log(struct hlt_engine *engine, struct hlt_now now)
{
    int64_t second = now.mono_ms / 1000;

    if (second != engine->log_second) {
        if (engine->log_held > 0) {
            hlt_outbox_log(&engine->out, HLT_LOG_NOTICE,
                           "%llu more refusals and denials were not logged one by one",
                           (unsigned long long)engine->log_held);
        }
        engine->log_second = second;
        engine->log_lines = 0;
        engine->log_held = 0;
    }
    if (engine->log_lines >= HLT_LOG_BURST) {
        engine->log_held++;
        return false;
    }
    engine->log_lines++;
    return true;
}

/* --- silence --- */

int64_t hlt_engine_silence_due(const struct hlt_engine *engine, const struct hlt_device *device)
{
    const struct hlt_rule *rule = hlt_engine_rule_for(engine->silence, device);
    bool reports = device->metric_count > 0 || device->vitals != NULL;

    if (rule == NULL || !reports) {
        return INT64_MAX; /* operators and subscribers log in by token, too: nobody waits for them
                           */
    }
    int64_t after = rule->after_ms;
    if (rule->cadence_factor > 0.0 && device->cadence_count >= SILENCE_CADENCE_MIN) {
        double learnt = rule->cadence_factor * (double)device->cadence_s * 1000.0;
        if (learnt > (double)after) {
            after = (int64_t)learnt;
        }
    }
    return device->seen_mono_ms + after;
}

void hlt_engine_watch_silence(struct hlt_engine *engine, struct hlt_device *device,
                              struct hlt_now now)
{
    int64_t due = hlt_engine_silence_due(engine, device);

    if (due == INT64_MAX) {
        hlt_timer_cancel(&device->timer);
    } else if (device->timer.link == NULL || device->timer.due_ms > due) {
        hlt_timer_set(&engine->wheel, &device->timer, due > now.mono_ms ? due : now.mono_ms);
    }
}

static void ring_device(struct hlt_engine *engine, struct hlt_device *device, struct hlt_now now)
{
    int64_t due = hlt_engine_silence_due(engine, device);
    char text[128];

    if (due == INT64_MAX) {
        return;
    }
    if (now.mono_ms < due) {
        hlt_timer_set(&engine->wheel, &device->timer, due);
        return;
    }
    if (device->status == HLT_STATUS_MAINTENANCE) {
        hlt_timer_set(&engine->wheel, &device->timer, now.mono_ms + engine->silence->after_ms);
        return;
    }
    double quiet_s = (double)(now.mono_ms - device->seen_mono_ms) / 1000.0;
    double bound_s = (double)(due - device->seen_mono_ms) / 1000.0;
    snprintf(text, sizeof(text), "nothing heard for %.0f s (expected within %.0f s)", quiet_s,
             bound_s);
    struct hlt_observation seen = {
        .value = round(quiet_s), .expected = NAN, .threshold = bound_s, .score = NAN, .text = text};
    device->silent = true;
    hlt_alert_bad(engine, engine->silence, device, HLT_NAME_NONE, engine->silence->severity, &seen,
                  now);
    const struct hlt_alert *alert = hlt_alert_find(device, engine->silence->name, HLT_NAME_NONE);
    if (alert != NULL && alert->state != HLT_ALERT_ACTIVE) { /* for or cool-down: look again */
        hlt_timer_set(&engine->wheel, &device->timer, now.mono_ms + 1000);
    }
    hlt_health_update(engine, device, now, true);
}

/* --- ticks --- */

static void ring_timers(struct hlt_engine *engine, struct hlt_now now)
{
    unsigned budget = TICK_TIMERS;
    struct hlt_timer *timer;

#define OWNER(type) ((struct type *)(void *)((char *)timer - offsetof(struct type, timer)))
    while ((timer = hlt_wheel_pop(&engine->wheel, now.mono_ms, &budget)) != NULL) {
        switch (timer->kind) {
        case HLT_TIMER_SESSION: hlt_session_timer(engine, OWNER(hlt_session), now); break;
        case HLT_TIMER_DEVICE: ring_device(engine, OWNER(hlt_device), now); break;
        case HLT_TIMER_ALERT: hlt_alert_ring(engine, OWNER(hlt_alert), now); break;
        }
        if (engine->out.count > HLT_ACTIONS_MAX / 2) {
            break; /* let the caller carry these out first; the rest rings at the next tick */
        }
    }
#undef OWNER
}

/* After a restart the retained topics may tell an old story: put it right, some devices a tick. */
static void resay_alerts(struct hlt_engine *engine, const struct hlt_device *device,
                         struct hlt_now now)
{
    for (struct hlt_alert *alert = device->alerts; alert != NULL; alert = alert->next) {
        if (alert->state == HLT_ALERT_ACTIVE) {
            hlt_alert_resay(engine, alert, now);
        }
    }
}

static void resay(struct hlt_engine *engine, struct hlt_now now)
{
    if (engine->resay_broker) {
        engine->resay_broker = false;
        resay_alerts(engine, &engine->broker, now);
    }
    for (unsigned n = 0; n < TICK_RESAY && engine->resay < engine->resay_end; engine->resay++) {
        struct hlt_device *device = hlt_device_at(&engine->devices, engine->resay);
        if (device == NULL) {
            continue;
        }
        resay_alerts(engine, device, now);
        if (device->has_token && availability_changed(engine, device)) {
            say_availability(engine, device);
        }
        if (device->last_seen_ms != 0) {
            hlt_health_update(engine, device, now, true);
        }
        n++;
    }
}

static void check_fleet_size(struct hlt_engine *engine)
{
    if (engine->publish_devices &&
        engine->devices.count > engine->options->health_publish_devices) {
        engine->publish_devices = false;
        hlt_outbox_log(
            &engine->out, HLT_LOG_WARNING,
            "more than health_publish_max (%llu) devices: availability and health are no "
            "longer published per device; raise the option if the broker may keep 2 KB a device",
            (unsigned long long)engine->options->health_publish_devices);
    }
}

static void heartbeat(struct hlt_engine *engine, struct hlt_now now)
{
    char topic[HLT_TOPIC_MAX];
    struct hlt_store_stats stats = {0};

    if (now.mono_ms < engine->heartbeat_mono_ms) {
        return;
    }
    engine->heartbeat_mono_ms = now.mono_ms + engine->options->heartbeat_interval_ms;
    snprintf(topic, sizeof(topic), "%s/heartbeat", engine->system_prefix.text);
    hlt_outbox_publish(&engine->out, topic, hlt_document_heartbeat(engine, now), 0, false, true,
                       NULL);
    if (engine->store != NULL) {
        hlt_store_stats(engine->store, &stats);
        hlt_engine_system(engine, now, "store_failing",
                          stats.failing ? "the store cannot be written: disk full or I/O error; "
                                          "health is kept in memory until it can"
                                        : NULL);
    }
    if (engine->alerts.active.count < engine->alerts.max) {
        hlt_engine_system(engine, now, "alerts_full", NULL);
    } else {
        hlt_engine_system(engine, now, "alerts_full",
                          "max_alerts alerts are firing: more are dropped");
    }
    if (engine->devices.count < engine->devices.max) {
        hlt_engine_system(engine, now, "devices_full", NULL);
    }
    if (engine->sessions.online < engine->sessions.max) {
        hlt_engine_system(engine, now, "sessions_full", NULL);
    }
    if (engine->revocations.held < engine->revocations.max) {
        hlt_engine_system(engine, now, "revocations_full", NULL);
    }
    hlt_guard_heartbeat(engine, now);
    check_fleet_size(engine);
}

void hlt_engine_tick(struct hlt_engine *engine, struct hlt_now now)
{
    engine->counters.ticks++;
    ring_timers(engine, now);
    say_due(engine);
    resay(engine, now);
    rewatch(engine, now);
    hlt_guard_tick(engine, now);
    heartbeat(engine, now);
    hlt_engine_identity_tick(engine, now);
    hlt_engine_hand_over(engine, now, TICK_RECORDS);
}

/* --- what happened to clients --- */

static void printable(char *out, size_t out_bytes, const char *text)
{
    hlt_printable(out, out_bytes, text != NULL ? text : "-", text != NULL ? strlen(text) : 1);
}

/* A device that sends its token in the wrong field must not bring it into the log. */
static const char *shown(const char *text)
{
    return text != NULL ? hlt_audit_safe(text) : NULL;
}

void hlt_engine_refused(struct hlt_engine *engine, struct hlt_now now,
                        const struct hlt_refusal *refusal)
{
    char id[128], user[128], address[80], text[256];
    struct hlt_device *device = &engine->broker;

    engine->counters.refused++;
    engine->counters.refusals[refusal->reason]++;
    hlt_guard_failed(engine, now, refusal);
    hlt_audit_refused(&engine->audit, refusal->reason, refusal->address, refusal->client_id,
                      now.wall_ms);
    printable(id, sizeof(id), shown(refusal->client_id));
    printable(user, sizeof(user), shown(refusal->user));
    printable(address, sizeof(address), refusal->address);
    if (hlt_engine_may_log(engine, now)) {
        hlt_outbox_log(&engine->out, HLT_LOG_NOTICE,
                       "auth-fail ip=%s client=%s user=%s reason=%s (%s)%s%s", address, id, user,
                       hlt_reason_word(refusal->reason), hlt_reason_text(refusal->reason),
                       refusal->detail != NULL && refusal->detail[0] != '\0' ? ": " : "",
                       refusal->detail != NULL ? refusal->detail : "");
    }
    if (refusal->client_id != NULL) {
        struct hlt_device *known =
            hlt_device_find(&engine->devices, refusal->client_id, strlen(refusal->client_id));
        if (known != NULL) {
            device = known;
            known->auth_failures++;
            hlt_engine_dirty(engine, known);
        }
    }
    if (engine->auth_failure == NULL) {
        return;
    }
    snprintf(text, sizeof(text), "login refused (%s) for client %s from %s",
             hlt_reason_word(refusal->reason), id, address);
    struct hlt_observation seen = {
        .value = NAN, .expected = NAN, .threshold = NAN, .score = NAN, .text = text};
    hlt_alert_count(engine, engine->auth_failure, device, &seen, now);
}

void hlt_engine_denied(struct hlt_engine *engine, struct hlt_now now, struct hlt_session *session,
                       const char *client_id, const char *access, const char *topic,
                       const char *why)
{
    char id[128], name[256], text[300];

    printable(id, sizeof(id), client_id);
    printable(name, sizeof(name), topic);
    if (hlt_engine_may_log(engine, now)) {
        hlt_outbox_log(&engine->out, HLT_LOG_NOTICE,
                       "acl-deny client=%s access=%s topic=%s reason=%s", id, access, name, why);
    }
    if (session == NULL) {
        return;
    }
    session->device->denied++;
    hlt_denials_note(engine->denials, session->device->index, now.wall_ms, access, topic, why);
    hlt_engine_dirty(engine, session->device);
    const struct hlt_rule *rule = hlt_engine_rule_for(
        strncmp(why, "limit:", 6) == 0 ? engine->limit_exceeded : engine->acl_denied,
        session->device);
    /* Between exp and the kick everything is denied: that is no sign of a device that misbehaves.
     */
    if (rule == NULL || hlt_session_expired(session, now.wall_ms)) {
        return;
    }
    snprintf(text, sizeof(text), "%s %s denied (%s)", access, name, why);
    struct hlt_observation seen = {
        .value = NAN, .expected = NAN, .threshold = NAN, .score = NAN, .text = text};
    hlt_alert_count(engine, rule, session->device, &seen, now);
}

void hlt_engine_system(struct hlt_engine *engine, struct hlt_now now, const char *alertname,
                       const char *message)
{
    const struct hlt_rule *rule = hlt_rules_find(engine->rules, alertname);
    struct hlt_observation seen = {
        .value = NAN, .expected = NAN, .threshold = NAN, .score = NAN, .text = message};

    if (rule == NULL || !rule->enabled) {
        return;
    }
    if (message != NULL) {
        hlt_alert_bad(engine, rule, &engine->broker, HLT_NAME_NONE, rule->severity, &seen, now);
    } else {
        hlt_alert_good(engine, rule, &engine->broker, HLT_NAME_NONE, now);
    }
}

/* --- commands --- */

enum hlt_rc hlt_engine_acknowledge(struct hlt_engine *engine, struct hlt_now now,
                                   const char *alert_id, const char *author)
{
    for (struct hlt_alert *alert = engine->alerts.active.oldest; alert != NULL;
         alert = alert->newer) {
        char id[33];
        hlt_alert_id(alert->device->id, alert->name, hlt_alert_metric(engine, alert),
                     alert->episode, id);
        if (strcmp(id, alert_id) == 0) {
            return hlt_alert_acknowledge(engine, alert, author, now);
        }
    }
    return HLT_ENOTFOUND;
}

static void forget_sessions(struct hlt_engine *engine, const struct hlt_device *device)
{
    for (struct hlt_session *s = engine->sessions.oldest_offline, *next; s != NULL; s = next) {
        next = s->newer;
        if (s->device == device) {
            hlt_session_drop(engine, s);
        }
    }
}

static void undirty(struct hlt_engine *engine, struct hlt_device *device)
{
    struct hlt_device **link = &engine->dirty;

    if (!device->dirty) {
        return;
    }
    while (*link != device) {
        link = &(*link)->next_dirty;
    }
    *link = device->next_dirty;
    if (engine->dirty_tail == &device->next_dirty) {
        engine->dirty_tail = link;
    }
    device->dirty = false;
}

enum hlt_rc hlt_engine_forget(struct hlt_engine *engine, struct hlt_now now, const char *device_id)
{
    struct hlt_device *device = hlt_device_find(&engine->devices, device_id, strlen(device_id));
    static const char *const leaves[] = {"health", "availability"};
    char topic[HLT_TOPIC_MAX];

    if (device == NULL) {
        return HLT_ENOTFOUND;
    }
    if (device->sessions > 0) {
        return HLT_EBUSY;
    }
    forget_sessions(engine, device);
    for (struct hlt_alert *alert = device->alerts, *next; alert != NULL; alert = next) {
        next = alert->next;
        if (alert->state == HLT_ALERT_ACTIVE) {
            hlt_alert_resolve(engine, alert, now, "the device was forgotten");
        }
        hlt_alert_forget(engine, alert);
    }
    for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++) {
        hlt_engine_device_topic(engine, device, leaves[i], topic);
        hlt_outbox_publish(&engine->out, topic, strdup(""), 1, true, false, NULL);
    }
    hlt_engine_forget_record(engine, HLT_DB_DEVICES, device->id, device->id_len);
    hlt_engine_forget_denials(engine, device);
    hlt_timer_cancel(&device->timer);
    undirty(engine, device);
    hlt_device_remove(&engine->devices, device);
    return HLT_OK;
}
