/* health.c - how well is a device? A product of named factors, each told in `reasons` (DESIGN 5).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"

#define FACTORS_MAX 10

struct judgement {
    struct hlt_factor factor[FACTORS_MAX];
    size_t count;
    float health;
};

/* `before`, the value and `after` say why; document.c puts them together, for most judgements are
 * never told. */
static void weigh(struct judgement *j, const char *name, float weight, const char *before,
                  double value, const char *after)
{
    j->factor[j->count++] = (struct hlt_factor){
        .name = name, .weight = weight, .before = before, .value = value, .after = after};
    j->health *= weight;
}

static void judge_vitals(struct judgement *j, const struct hlt_vitals *v)
{
    float worst;

    if (v == NULL) {
        return;
    }
    if (v->battery < 5.0F) { /* false for NAN: not told */
        weigh(j, "battery", 0.6F, "battery at ", (double)v->battery, " %");
    } else if (v->battery < 20.0F) {
        weigh(j, "battery", 0.9F, "battery at ", (double)v->battery, " %");
    }
    worst = fmaxf(v->cpu, fmaxf(v->memory, v->disk)); /* fmaxf passes over NAN */
    if (worst > 98.0F) {
        weigh(j, "resources", 0.7F, "cpu, memory or disk at ", (double)worst, " %");
    } else if (worst > 90.0F) {
        weigh(j, "resources", 0.9F, "cpu, memory or disk at ", (double)worst, " %");
    }
}

/* What happened since the last evaluation: rates need no work per message. */
static void judge_recent(struct judgement *j, const struct hlt_device *d)
{
    uint64_t messages = d->messages - d->messages_then, bad = d->malformed - d->malformed_then;
    uint64_t connects = d->connects - d->connects_then, odd = d->anomalies - d->anomalies_then;

    if (bad > 0 && (double)bad > 0.05 * (double)messages) {
        weigh(j, "errors", 0.8F, "", (double)bad, " malformed messages lately");
    }
    if (connects > 3) {
        weigh(j, "flapping", 0.8F, "", (double)connects, " connects lately");
    }
    if (odd > 0) {
        weigh(j, "anomalies", 0.9F, "", (double)odd, " anomalous values lately");
    }
}

static void judge_alerts(struct judgement *j, const struct hlt_device *d)
{
    unsigned critical = 0, warning = 0;

    for (const struct hlt_alert *a = d->alerts; a != NULL; a = a->next) {
        if (a->state == HLT_ALERT_ACTIVE) {
            critical += a->severity == HLT_SEV_CRITICAL;
            warning += a->severity == HLT_SEV_WARNING;
        }
    }
    if (critical > 0) {
        weigh(j, "critical_alert", 0.6F, "", (double)critical, " open");
    }
    if (warning > 0) {
        weigh(j, "warning_alert", 0.9F, "", (double)warning, " open");
    }
}

static void judge(struct judgement *j, const struct hlt_device *d, struct hlt_now now)
{
    j->count = 0;
    j->health = 1.0F;
    if (d->silent) {
        weigh(j, "silent", 0.8F, "nothing heard for ",
              (double)(now.wall_ms - d->last_seen_ms) / 1000.0, " s");
    }
    if (d->status == HLT_STATUS_ERROR) {
        weigh(j, "status", 0.5F, "the device reports an error", NAN, "");
    }
    judge_vitals(j, d->vitals);
    judge_recent(j, d);
    judge_alerts(j, d);
}

static uint8_t band_of(const struct hlt_device *d, float health)
{
    if (d->last_seen_ms == 0) {
        return HLT_BAND_UNKNOWN;
    }
    return health >= 0.8F   ? HLT_BAND_HEALTHY
           : health >= 0.5F ? HLT_BAND_DEGRADED
                            : HLT_BAND_CRITICAL;
}

static void publish(struct hlt_engine *engine, struct hlt_device *device, const struct judgement *j,
                    struct hlt_now now)
{
    char topic[HLT_TOPIC_MAX];

    device->version++;
    device->published_band = device->band;
    device->said_mono_ms = now.mono_ms;
    char *document = hlt_document_health(engine, device, j->factor, j->count, now);
    device->health_hash =
        document != NULL ? hlt_document_hash(engine, document, strlen(document)) : 0;
    hlt_engine_device_topic(engine, device, "health", topic);
    hlt_outbox_publish(&engine->out, topic, document, 0, true, true, NULL);
}

void hlt_health_update(struct hlt_engine *engine, struct hlt_device *device, struct hlt_now now,
                       bool force)
{
    const struct hlt_options *options = engine->options;
    bool due = now.mono_ms - device->health_mono_ms >= options->health_interval_ms;
    struct judgement j;
    bool first = device->band == HLT_BAND_UNKNOWN && device->last_seen_ms != 0;

    if (device == &engine->broker || (!due && !force && !first)) {
        return;
    }
    judge(&j, device, now);
    device->health = j.health;
    uint8_t band = band_of(device, j.health);
    if (band != device->band) {
        device->band = band;
        device->since_ms = now.wall_ms;
    }
    if (due) {
        device->health_mono_ms = now.mono_ms;
        device->messages_then = device->messages;
        device->malformed_then = device->malformed;
        device->connects_then = device->connects;
        device->anomalies_then = device->anomalies;
    }
    hlt_engine_dirty(engine, device);
    bool say = device->band != device->published_band ||
               (options->health_publish == HLT_HEALTH_ON &&
                now.mono_ms - device->said_mono_ms >= options->health_interval_ms);
    if (say && engine->publish_devices) {
        publish(engine, device, &j, now);
    }
}

char *hlt_engine_device_status(struct hlt_engine *engine, struct hlt_now now, const char *device_id)
{
    const struct hlt_device *device =
        hlt_device_find(&engine->devices, device_id, strlen(device_id));
    struct judgement j;

    if (device == NULL) {
        return NULL;
    }
    judge(&j, device, now);
    return hlt_document_health(engine, device, j.factor, j.count, now);
}
