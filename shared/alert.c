/* alert.c - the alert state machine and its messages. */
#include "alert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"
#include "text.h"

/* --- lists --- */

static void list_append(struct hlt_alert_list *list, struct hlt_alert *alert)
{
    alert->older = list->newest;
    alert->newer = NULL;
    if (list->newest != NULL) {
        list->newest->newer = alert;
    } else {
        list->oldest = alert;
    }
    list->newest = alert;
    list->count++;
}

static void list_remove(struct hlt_alert_list *list, struct hlt_alert *alert)
{
    if (alert->older != NULL) {
        alert->older->newer = alert->newer;
    } else {
        list->oldest = alert->newer;
    }
    if (alert->newer != NULL) {
        alert->newer->older = alert->older;
    } else {
        list->newest = alert->older;
    }
    list->count--;
}

static struct hlt_alert_list *list_of(struct hlt_engine *engine, const struct hlt_alert *alert)
{
    return alert->state == HLT_ALERT_ACTIVE ? &engine->alerts.active : &engine->alerts.other;
}

/* Quick flags on the metric, so that the message path need not walk the alerts of a healthy device.
 */
static void mark_metric(struct hlt_engine *engine, const struct hlt_alert *alert, bool open)
{
    if (alert->metric_id == HLT_NAME_NONE || alert->device == &engine->broker) {
        return;
    }
    for (size_t i = 0; i < alert->device->metric_count; i++) {
        struct hlt_metric *metric = hlt_metric_at(&engine->devices, alert->device, i);
        if (metric->name_id != alert->metric_id) {
            continue;
        }
        if (engine->anomaly != NULL && strcmp(alert->name, engine->anomaly->name) == 0) {
            metric->anomalous = open;
        } else {
            metric->breached = open;
        }
    }
}

void hlt_alert_place(struct hlt_engine *engine, struct hlt_alert *alert, enum hlt_alert_state state)
{
    if (alert->state == HLT_ALERT_ACTIVE) {
        engine->alerts.by_severity[alert->severity]--;
    }
    list_remove(list_of(engine, alert), alert);
    alert->state = (uint8_t)state;
    list_append(list_of(engine, alert), alert);
    if (state == HLT_ALERT_ACTIVE) {
        engine->alerts.by_severity[alert->severity]++;
    }
    mark_metric(engine, alert, state != HLT_ALERT_IDLE);
}

static void mark_dirty(struct hlt_engine *engine, struct hlt_alert *alert)
{
    if (!alert->dirty && engine->store != NULL) {
        alert->dirty = true;
        alert->next_dirty = engine->alerts.dirty;
        engine->alerts.dirty = alert;
    }
}

/* --- records --- */

struct hlt_alert *hlt_alert_find(const struct hlt_device *device, const char *name,
                                 uint16_t metric_id)
{
    struct hlt_alert *alert = device->alerts;

    while (alert != NULL && (alert->metric_id != metric_id || strcmp(alert->name, name) != 0)) {
        alert = alert->next;
    }
    return alert;
}

const char *hlt_alert_metric(const struct hlt_engine *engine, const struct hlt_alert *alert)
{
    return alert->metric_id == HLT_NAME_NONE ? "" : engine->names.name[alert->metric_id];
}

void hlt_alert_remove(struct hlt_engine *engine, struct hlt_alert *alert)
{
    struct hlt_alert **link = &alert->device->alerts;

    if (alert->state == HLT_ALERT_ACTIVE) {
        engine->alerts.by_severity[alert->severity]--;
    }
    mark_metric(engine, alert, false);
    hlt_timer_cancel(&alert->timer);
    list_remove(list_of(engine, alert), alert);
    while (*link != alert) {
        link = &(*link)->next;
    }
    *link = alert->next;
    if (alert->dirty) {
        for (link = &engine->alerts.dirty; *link != alert; link = &(*link)->next_dirty) {
        }
        *link = alert->next_dirty;
    }
    free(alert->message);
    free(alert->acknowledged_by);
    free(alert);
}

void hlt_alert_forget(struct hlt_engine *engine, struct hlt_alert *alert)
{
    char key[HLT_STORE_KEY_MAX];
    int len = snprintf(key, sizeof(key), "%s%c%s%c%s", alert->device->id, 0, alert->name, 0,
                       hlt_alert_metric(engine, alert));

    hlt_engine_forget_record(engine, HLT_DB_ALERTS, key, (size_t)len);
    hlt_alert_remove(engine, alert);
}

/* Ids stay unique after an eviction: the device remembers how far episodes had come (DESIGN 11.13).
 */
static void evict(struct hlt_engine *engine, struct hlt_alert *alert)
{
    struct hlt_device *device = alert->device;

    if (alert->episode > device->episode) {
        device->episode = alert->episode;
        hlt_engine_dirty(engine, device);
    }
    hlt_alert_forget(engine, alert);
}

struct hlt_alert *hlt_alert_add(struct hlt_engine *engine, struct hlt_device *device,
                                const char *name, uint16_t metric_id)
{
    struct hlt_alerts *all = &engine->alerts;

    if (all->active.count + all->other.count >= all->max) {
        if (all->other.oldest == NULL) {
            engine->counters.alerts_dropped++;
            return NULL;
        }
        evict(engine, all->other.oldest);
    }
    struct hlt_alert *alert = calloc(1, sizeof(*alert));
    if (alert == NULL) {
        engine->counters.alerts_dropped++;
        return NULL;
    }
    snprintf(alert->name, sizeof(alert->name), "%s", name);
    alert->metric_id = metric_id;
    alert->device = device;
    alert->episode = device->episode;
    alert->timer.kind = HLT_TIMER_ALERT;
    alert->value = alert->expected = alert->threshold = alert->score = NAN;
    alert->ended_mono_ms = INT64_MIN / 2;
    alert->next = device->alerts;
    device->alerts = alert;
    list_append(&all->other, alert);
    return alert;
}

void hlt_alerts_free(struct hlt_engine *engine)
{
    while (engine->alerts.active.oldest != NULL) {
        hlt_alert_remove(engine, engine->alerts.active.oldest);
    }
    while (engine->alerts.other.oldest != NULL) {
        hlt_alert_remove(engine, engine->alerts.other.oldest);
    }
}

/* --- messages --- */

void hlt_alert_level(const struct hlt_engine *engine, const struct hlt_alert *alert, char *out,
                     size_t out_bytes)
{
    const char *metric = hlt_alert_metric(engine, alert);
    char plain[HLT_RULE_NAME_MAX + HLT_METRIC_NAME_MAX + 2];

    snprintf(plain, sizeof(plain), "%s%s%s", alert->name, metric[0] != '\0' ? ":" : "", metric);
    hlt_level_encode(out, out_bytes, plain, strlen(plain));
}

static void say_active(struct hlt_engine *engine, struct hlt_alert *alert, char *document)
{
    char topic[HLT_TOPIC_MAX], device[HLT_LEVEL_MAX + 1], level[HLT_LEVEL_MAX + 1];

    hlt_level_encode(device, sizeof(device), alert->device->id, strlen(alert->device->id));
    hlt_alert_level(engine, alert, level, sizeof(level));
    snprintf(topic, sizeof(topic), "%s/active/%s/%s", engine->alerts_prefix.text, device, level);
    alert->said_hash = document != NULL ? hlt_document_hash(engine, document, strlen(document)) : 0;
    hlt_outbox_publish(&engine->out, topic, document, 1, true, true, NULL);
}

/* One transition: to every severity topic in `topics`, and to the active set, which gets the text
 * of the last of them. */
static void say(struct hlt_engine *engine, struct hlt_alert *alert, const char *status,
                unsigned topics, struct hlt_now now)
{
    char topic[HLT_TOPIC_MAX];
    char *active = NULL;

    for (unsigned severity = HLT_SEV_CRITICAL; severity >= HLT_SEV_INFO; severity--) {
        if ((topics & (1u << severity)) == 0) {
            continue;
        }
        alert->seq = ++engine->alerts.seq;
        snprintf(topic, sizeof(topic), "%s/%s", engine->alerts_prefix.text,
                 hlt_severity_word((enum hlt_severity)severity));
        char *document = hlt_document_alert(engine, alert, status, now.wall_ms);
        free(active);
        active = document != NULL ? strdup(document) : NULL;
        hlt_outbox_publish(&engine->out, topic, document, 1, false, true, NULL);
    }
    engine->alerts.seq_dirty = true;
    alert->said_mono_ms = now.mono_ms;
    if (alert->state != HLT_ALERT_ACTIVE) {
        free(active);
        active = strdup("");
    }
    say_active(engine, alert, active);
    mark_dirty(engine, alert);
}

void hlt_alert_resay(struct hlt_engine *engine, struct hlt_alert *alert, struct hlt_now now)
{
    const char *status = alert->acknowledged ? "acknowledged" : "firing";

    say_active(engine, alert, hlt_document_alert(engine, alert, status, now.wall_ms));
}

static void remember(struct hlt_alert *alert, const struct hlt_observation *seen,
                     struct hlt_now now)
{
    alert->value = seen->value;
    alert->expected = seen->expected;
    alert->threshold = seen->threshold;
    alert->score = seen->score;
    alert->updated_ms = now.wall_ms;
    hlt_string_set(&alert->message, seen->text);
}

static void set_timer(struct hlt_engine *engine, struct hlt_alert *alert,
                      const struct hlt_rule *rule)
{
    int64_t due = INT64_MAX;

    if (rule->renotify_ms > 0) {
        due = alert->said_mono_ms + rule->renotify_ms;
    }
    if (alert->clear_mono_ms != 0 && alert->clear_mono_ms < due) {
        due = alert->clear_mono_ms;
    }
    if (due == INT64_MAX) {
        hlt_timer_cancel(&alert->timer);
    } else if (alert->timer.link == NULL || alert->timer.due_ms > due) {
        hlt_timer_set(&engine->wheel, &alert->timer,
                      due); /* later deadlines: it rings and looks again */
    }
}

static void fire(struct hlt_engine *engine, const struct hlt_rule *rule, struct hlt_alert *alert,
                 enum hlt_severity severity, struct hlt_now now)
{
    alert->episode++;
    alert->starts_ms = now.wall_ms;
    alert->ends_ms = 0;
    alert->severity = (uint8_t)severity;
    alert->topics = (uint8_t)(1u << severity);
    alert->acknowledged = false;
    hlt_string_set(&alert->acknowledged_by, "");
    hlt_alert_place(engine, alert, HLT_ALERT_ACTIVE);
    engine->counters.alerts_fired++;
    say(engine, alert, "firing", 1u << severity, now);
    hlt_outbox_log(&engine->out, severity == HLT_SEV_CRITICAL ? HLT_LOG_WARNING : HLT_LOG_NOTICE,
                   "alert %s: %s %s %s", hlt_severity_word(severity), alert->device->id,
                   alert->name, alert->message != NULL ? alert->message : "");
    set_timer(engine, alert, rule);
    hlt_health_update(engine, alert->device, now, true);
}

void hlt_alert_resolve(struct hlt_engine *engine, struct hlt_alert *alert, struct hlt_now now,
                       const char *why)
{
    alert->ends_ms = alert->updated_ms = now.wall_ms;
    alert->ended_mono_ms = now.mono_ms;
    alert->clear_mono_ms = 0;
    hlt_timer_cancel(&alert->timer);
    hlt_alert_place(engine, alert, HLT_ALERT_IDLE);
    engine->counters.alerts_resolved++;
    if (why != NULL) {
        hlt_string_set(&alert->message, why);
    }
    say(engine, alert, "resolved", alert->topics, now);
    hlt_health_update(engine, alert->device, now, true);
}

static void escalate(struct hlt_engine *engine, struct hlt_alert *alert, enum hlt_severity severity,
                     struct hlt_now now)
{
    engine->alerts.by_severity[alert->severity]--;
    engine->alerts.by_severity[severity]++;
    alert->severity = (uint8_t)severity;
    alert->topics |= (uint8_t)(1u << severity);
    alert->acknowledged = false; /* it got worse: somebody must look again */
    say(engine, alert, "firing", 1u << severity, now);
    hlt_health_update(engine, alert->device, now, true);
}

/* --- observations --- */

static bool suppressed(const struct hlt_rule *rule, const struct hlt_device *device)
{
    return device->status == HLT_STATUS_MAINTENANCE &&
           (rule->kind == HLT_RULE_THRESHOLD || rule->kind == HLT_RULE_ANOMALY ||
            rule->kind == HLT_RULE_SILENCE || rule->kind == HLT_RULE_MALFORMED);
}

void hlt_alert_bad(struct hlt_engine *engine, const struct hlt_rule *rule,
                   struct hlt_device *device, uint16_t metric_id, enum hlt_severity severity,
                   const struct hlt_observation *seen, struct hlt_now now)
{
    struct hlt_alert *alert = hlt_alert_find(device, rule->name, metric_id);

    if (alert == NULL) {
        if (suppressed(rule, device)) {
            return;
        }
        alert = hlt_alert_add(engine, device, rule->name, metric_id);
        if (alert == NULL) {
            return;
        }
    }
    if (alert->state != HLT_ALERT_ACTIVE &&
        (suppressed(rule, device) || now.mono_ms - alert->ended_mono_ms < rule->cooldown_ms)) {
        engine->counters.alerts_repeated++;
        return;
    }
    if (alert->state == HLT_ALERT_IDLE) {
        alert->pending_mono_ms = now.mono_ms;
        alert->count = 0;
        hlt_alert_place(engine, alert, HLT_ALERT_PENDING);
    }
    alert->count++;
    alert->clear_mono_ms = 0;
    remember(alert, seen, now);
    if (alert->state == HLT_ALERT_PENDING) {
        if (now.mono_ms - alert->pending_mono_ms >= rule->for_ms) {
            fire(engine, rule, alert, severity, now);
        }
        return;
    }
    engine->counters.alerts_repeated++;
    if (severity > alert->severity) {
        escalate(engine, alert, severity, now);
    }
}

void hlt_alert_good(struct hlt_engine *engine, const struct hlt_rule *rule,
                    struct hlt_device *device, uint16_t metric_id, struct hlt_now now)
{
    struct hlt_alert *alert = hlt_alert_find(device, rule->name, metric_id);

    if (alert == NULL || alert->state == HLT_ALERT_IDLE) {
        return;
    }
    if (alert->state == HLT_ALERT_PENDING) {
        hlt_alert_place(engine, alert, HLT_ALERT_IDLE);
        return;
    }
    if (alert->clear_mono_ms == 0) {
        alert->clear_mono_ms = now.mono_ms + rule->clear_ms;
    }
    if (now.mono_ms >= alert->clear_mono_ms) {
        hlt_alert_resolve(engine, alert, now, NULL);
    } else {
        set_timer(engine, alert, rule);
    }
}

void hlt_alert_count(struct hlt_engine *engine, const struct hlt_rule *rule,
                     struct hlt_device *device, const struct hlt_observation *seen,
                     struct hlt_now now)
{
    struct hlt_alert *alert = hlt_alert_find(device, rule->name, HLT_NAME_NONE);

    if (alert == NULL) {
        alert = hlt_alert_add(engine, device, rule->name, HLT_NAME_NONE);
        if (alert == NULL) {
            return;
        }
    }
    if (alert->state != HLT_ALERT_ACTIVE) {
        if (alert->window_count == 0 || now.mono_ms - alert->window_mono_ms >= rule->window_ms) {
            alert->window_count = 0;
            alert->window_mono_ms = now.mono_ms;
        }
        if (++alert->window_count < rule->count) {
            return;
        }
    }
    uint64_t cases = alert->window_count;
    hlt_alert_bad(engine, rule, device, HLT_NAME_NONE, rule->severity, seen, now);
    if (alert->state == HLT_ALERT_ACTIVE) {
        if (cases > 0) {
            alert->count += cases - 1; /* those before it fired */
            alert->window_count = 0;
        }
        alert->clear_mono_ms = now.mono_ms + rule->clear_ms;
        set_timer(engine, alert, rule);
    }
}

void hlt_alert_ring(struct hlt_engine *engine, struct hlt_alert *alert, struct hlt_now now)
{
    const struct hlt_rule *rule = hlt_rules_find(engine->rules, alert->name);

    if (alert->state != HLT_ALERT_ACTIVE) {
        return;
    }
    if (hlt_engine_rule_for(rule, alert->device) == NULL) {
        hlt_alert_resolve(engine, alert, now, "the rule is gone");
        return;
    }
    if (alert->clear_mono_ms != 0 && now.mono_ms >= alert->clear_mono_ms) {
        hlt_alert_resolve(engine, alert, now, NULL);
        return;
    }
    if (rule->renotify_ms > 0 && now.mono_ms - alert->said_mono_ms >= rule->renotify_ms) {
        if (alert->acknowledged) {
            alert->said_mono_ms = now.mono_ms; /* somebody knows: be quiet, keep counting */
        } else {
            say(engine, alert, "firing", 1u << alert->severity, now);
        }
    }
    set_timer(engine, alert, rule);
}

enum hlt_rc hlt_alert_acknowledge(struct hlt_engine *engine, struct hlt_alert *alert,
                                  const char *author, struct hlt_now now)
{
    if (alert->state != HLT_ALERT_ACTIVE) {
        return HLT_ENOTFOUND;
    }
    alert->acknowledged = true;
    alert->acknowledged_ms = alert->updated_ms = now.wall_ms;
    hlt_string_set(&alert->acknowledged_by, author);
    say(engine, alert, "acknowledged", alert->topics, now);
    return HLT_OK;
}
