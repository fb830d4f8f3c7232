/* engine_message.c - the hot path: one PUBLISH from topic to device, readings, rules and alerts.
 *
 * Nothing here allocates for a known device with known metrics and no alert. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"
#include "text.h"

#define CLOCK_AHEAD_MAX_MS 60000 /* facts: seeds, a timestamp further in the future is refused */
#define CADENCE_WEIGHT 0.1F
#define TEXT_BYTES 256

/* --- topics --- */

/* The rest of `topic` behind "prefix/", NULL if it does not start so. */
static const char *behind(const struct hlt_prefix *prefix, const char *topic)
{
    if (strncmp(topic, prefix->text, prefix->len) != 0 || topic[prefix->len] != '/') {
        return NULL;
    }
    return topic + prefix->len + 1;
}

static bool one_of_ours(const char *leaf)
{
    return strcmp(leaf, "event") == 0 || strcmp(leaf, "health") == 0 ||
           strcmp(leaf, "availability") == 0;
}

bool hlt_engine_owns(const struct hlt_engine *engine, const char *topic)
{
    const char *rest = behind(&engine->devices_prefix, topic);

    if (rest != NULL) {
        const char *leaf = strchr(rest, '/');
        return leaf != NULL && one_of_ours(leaf + 1);
    }
    if (behind(&engine->alerts_prefix, topic) != NULL ||
        strcmp(topic, engine->alerts_prefix.text) == 0) {
        return true;
    }
    rest = behind(&engine->system_prefix, topic);
    if (rest != NULL) {
        return strcmp(rest, "heartbeat") == 0;
    }
    return strncmp(topic, "$CONTROL/haltere/", 17) == 0 && strcmp(topic + 17, "v1") != 0;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Undo hlt_level_encode. Returns the length, 0 if it is no such text. */
static size_t level_decode(char *out, size_t out_bytes, const char *level, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = level[i];
        if (n + 1 >= out_bytes) {
            return 0;
        }
        if (c == '%') {
            if (i + 2 >= len || hex(level[i + 1]) < 0 || hex(level[i + 2]) < 0) {
                return 0;
            }
            c = (char)(hex(level[i + 1]) * 16 + hex(level[i + 2]));
            i += 2;
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return n;
}

static const struct hlt_device *device_of_level(const struct hlt_engine *engine, const char *level,
                                                size_t len)
{
    char id[HLT_ID_MAX + 1];
    size_t id_len = level_decode(id, sizeof(id), level, len);

    if (id_len == strlen(HLT_BROKER_ID) && memcmp(id, HLT_BROKER_ID, id_len) == 0) {
        return &engine->broker;
    }
    return id_len > 0 ? hlt_device_find(&engine->devices, id, id_len) : NULL;
}

static bool is_active_alert(const struct hlt_engine *engine, const char *rest, uint64_t hash)
{
    const char *leaf = strchr(rest, '/');
    const struct hlt_device *device =
        leaf != NULL ? device_of_level(engine, rest, (size_t)(leaf - rest)) : NULL;
    char level[HLT_LEVEL_MAX + 1];

    for (const struct hlt_alert *a = device != NULL ? device->alerts : NULL; a != NULL;
         a = a->next) {
        if (a->state == HLT_ALERT_ACTIVE && a->said_hash == hash) {
            hlt_alert_level(engine, a, level, sizeof(level));
            if (strcmp(level, leaf + 1) == 0) {
                return true;
            }
        }
    }
    return false;
}

bool hlt_engine_retained_is_ours(const struct hlt_engine *engine, const char *topic,
                                 const void *payload, size_t len)
{
    if (len == 0) {
        return true; /* it only clears, and is never kept */
    }
    const char *rest = behind(&engine->alerts_prefix, topic);
    uint64_t hash = hlt_document_hash(engine, payload, len);

    if (rest != NULL) {
        return strncmp(rest, "active/", 7) == 0 && is_active_alert(engine, rest + 7, hash);
    }
    rest = behind(&engine->devices_prefix, topic);
    const char *leaf = rest != NULL ? strchr(rest, '/') : NULL;
    const struct hlt_device *device =
        leaf != NULL ? device_of_level(engine, rest, (size_t)(leaf - rest)) : NULL;
    if (device == NULL) {
        return false;
    }
    if (strcmp(leaf + 1, "availability") == 0) {
        const char *said = device->said_online ? "online" : "offline";
        return device->said_availability && len == strlen(said) && memcmp(payload, said, len) == 0;
    }
    return strcmp(leaf + 1, "health") == 0 && device->health_hash != 0 &&
           device->health_hash == hash;
}

/* --- devices --- */

static void seen(struct hlt_engine *engine, struct hlt_device *device, size_t bytes,
                 struct hlt_now now)
{
    int64_t gap = now.mono_ms - device->seen_mono_ms;

    if (device->messages > 0 &&
        gap > 0) { /* restored ones count from this process's first message on */
        float gap_s = (float)gap / 1000.0F;
        float weight =
            device->cadence_count < 9 ? 1.0F / (float)(device->cadence_count + 1) : CADENCE_WEIGHT;
        if (!device->silent) { /* the gap of a silence is not the device's habit */
            device->cadence_s += weight * (gap_s - device->cadence_s);
            device->cadence_count += device->cadence_count < UINT32_MAX;
        }
    }
    device->messages++;
    device->bytes += bytes;
    device->last_seen_ms = now.wall_ms;
    device->seen_mono_ms = now.mono_ms;
    if (device->silent) {
        device->silent = false;
        if (engine->silence != NULL) {
            hlt_alert_good(engine, engine->silence, device, HLT_NAME_NONE, now);
        }
        hlt_engine_watch_silence(engine, device, now);
    }
    hlt_engine_dirty(engine, device);
}

/* The device a topic speaks of; new ones are added within max_devices and, for gateways,
 * max_children. */
static struct hlt_device *device_of_topic(struct hlt_engine *engine, struct hlt_now now,
                                          const struct hlt_message *message, const char *id,
                                          size_t len)
{
    struct hlt_session *session = message->session;

    if (session != NULL && session->device->id_len == len &&
        memcmp(session->device->id, id, len) == 0) {
        return session->device;
    }
    if (!hlt_id_valid(id, len, NULL)) {
        return NULL;
    }
    struct hlt_device *device = hlt_device_find(&engine->devices, id, len);
    if (device != NULL) {
        return device;
    }
    if (session != NULL && session->children >= engine->options->max_children) {
        engine->counters.children_refused++;
        return NULL;
    }
    device = hlt_device_add(&engine->devices, id, len);
    if (device == NULL) {
        engine->counters.devices_refused++;
        hlt_engine_system(engine, now, "devices_full",
                          "max_devices is reached: new devices are not tracked");
        return NULL;
    }
    if (session != NULL) {
        session->children++;
    }
    device->first_seen_ms = now.wall_ms;
    device->seen_mono_ms = now.mono_ms;
    return device;
}

/* --- refused payloads --- */

static enum hlt_answer malformed(struct hlt_engine *engine, struct hlt_device *device,
                                 enum hlt_telemetry_rc rc, size_t at, struct hlt_now now)
{
    char text[TEXT_BYTES];

    engine->counters.malformed++;
    device->malformed++;
    const struct hlt_rule *rule = hlt_engine_rule_for(engine->malformed, device);
    if (rule == NULL) {
        return HLT_DELIVER;
    }
    snprintf(text, sizeof(text), "payload refused: %s (byte %zu)", hlt_telemetry_text(rc), at);
    struct hlt_observation obs = {
        .value = NAN, .expected = NAN, .threshold = NAN, .score = NAN, .text = text};
    hlt_alert_count(engine, rule, device, &obs, now);
    return rule->deny ? HLT_DROP : HLT_DELIVER;
}

/* Somebody speaks for another: the one who is authenticated answers for it. */
static enum hlt_answer spoofed(struct hlt_engine *engine, const struct hlt_message *message,
                               struct hlt_device *device, const char *claimed, size_t claimed_len,
                               struct hlt_now now)
{
    char id[128], text[TEXT_BYTES];
    struct hlt_device *liar = message->session != NULL ? message->session->device : device;

    engine->counters.spoofed++;
    const struct hlt_rule *rule = hlt_engine_rule_for(engine->spoof, liar);
    if (rule == NULL) {
        return HLT_DELIVER;
    }
    hlt_printable(id, sizeof(id), claimed, claimed_len);
    snprintf(text, sizeof(text), "a message on %.64s's topic claims to be from device %s",
             device->id, id);
    struct hlt_observation obs = {
        .value = NAN, .expected = NAN, .threshold = NAN, .score = NAN, .text = text};
    hlt_alert_count(engine, rule, liar, &obs, now);
    return rule->deny ? HLT_DROP : HLT_DELIVER;
}

/* --- readings --- */

static bool beyond(const struct hlt_bound *bound, double value, double hysteresis,
                   double *threshold)
{
    if (value > bound->above - hysteresis) {
        *threshold = bound->above;
        return true;
    }
    if (value < bound->below + hysteresis) {
        *threshold = bound->below;
        return true;
    }
    return false;
}

/* The severity of a value; with `hysteresis` the bounds lie that much further in. */
static enum hlt_severity judge(const struct hlt_rule *rule, double value, double hysteresis,
                               double *threshold)
{
    if (beyond(&rule->critical, value, hysteresis, threshold)) {
        return HLT_SEV_CRITICAL;
    }
    if (beyond(&rule->warning, value, hysteresis, threshold)) {
        return HLT_SEV_WARNING;
    }
    return beyond(&rule->info, value, hysteresis, threshold) ? HLT_SEV_INFO : HLT_SEV_NONE;
}

static void check_rule(struct hlt_engine *engine, const struct hlt_rule *rule,
                       struct hlt_device *device, const struct hlt_metric *metric, double value,
                       struct hlt_now now)
{
    double threshold = NAN;
    enum hlt_severity severity = judge(rule, value, 0.0, &threshold);
    const struct hlt_alert *alert = NULL;
    char text[TEXT_BYTES];

    if (severity == HLT_SEV_NONE && !metric->breached) {
        return; /* as nearly always */
    }
    if (hlt_engine_rule_for(rule, device) == NULL) {
        return;
    }
    if (metric->breached) {
        alert = hlt_alert_find(device, rule->name, metric->name_id);
    }
    if (severity == HLT_SEV_NONE && alert != NULL && alert->state == HLT_ALERT_ACTIVE &&
        judge(rule, value, rule->hysteresis, &threshold) != HLT_SEV_NONE) {
        severity =
            HLT_SEV_INFO; /* still within the hysteresis: it goes on, without getting worse */
    }
    if (severity == HLT_SEV_NONE) {
        hlt_alert_good(engine, rule, device, metric->name_id, now);
        return;
    }
    snprintf(text, sizeof(text), "%.64s is %.6g, %s %.6g", engine->names.name[metric->name_id],
             value,
             value > threshold   ? "above"
             : value < threshold ? "below"
                                 : "at",
             threshold);
    struct hlt_observation obs = {
        .value = value, .expected = NAN, .threshold = threshold, .score = NAN, .text = text};
    hlt_alert_bad(engine, rule, device, metric->name_id, severity, &obs, now);
}

static void check_anomaly(struct hlt_engine *engine, struct hlt_device *device,
                          struct hlt_metric *metric, double value,
                          const struct hlt_detector_score *score, struct hlt_now now)
{
    const struct hlt_rule *rule = engine->anomaly;
    char text[TEXT_BYTES];

    if (rule == NULL) {
        return;
    }
    if ((double)score->score < rule->score) {
        /* The score peaks when something happens; the level stays up as long as it lasts. */
        if (metric->anomalous && score->level < 0.5F) {
            hlt_alert_good(engine, rule, device, metric->name_id, now);
        }
        return;
    }
    if (hlt_engine_rule_for(rule, device) == NULL) {
        return;
    }
    device->anomalies++;
    if (metric->breached && !metric->anomalous) {
        return; /* a threshold rule already tells of this value: one incident, one alert */
    }
    snprintf(text, sizeof(text), "%.64s is %.6g, expected about %.6g (%.1f sigma)",
             engine->names.name[metric->name_id], value, (double)score->expected, (double)score->z);
    struct hlt_observation obs = {.value = value,
                                  .expected = (double)score->expected,
                                  .threshold = NAN,
                                  .score = (double)score->score,
                                  .text = text};
    hlt_alert_bad(engine, rule, device, metric->name_id, rule->severity, &obs, now);
}

/* Devices send the same names in the same order: look at that place first. */
static struct hlt_metric *metric_of(struct hlt_engine *engine, struct hlt_device *device,
                                    const struct hlt_reading *reading, size_t guess)
{
    const struct hlt_names *names = &engine->names;

    for (size_t n = 0; n < device->metric_count; n++) {
        size_t i = (guess + n) % device->metric_count;
        struct hlt_metric *metric = hlt_metric_at(&engine->devices, device, i);
        if (names->len[metric->name_id] == reading->name_len &&
            memcmp(names->name[metric->name_id], reading->name, reading->name_len) == 0) {
            return metric;
        }
    }
    if (device->metric_count == HLT_DEVICE_METRICS_MAX) {
        engine->counters.metrics_refused++;
        return NULL;
    }
    uint16_t known = names->count;
    uint16_t id =
        hlt_names_intern(&engine->names, &engine->devices.key, reading->name, reading->name_len);
    if (id == HLT_NAME_NONE) {
        engine->counters.metric_names_refused++;
        return NULL;
    }
    if (id == known) {
        hlt_engine_index_name(engine, id);
    }
    return hlt_device_add_metric(&engine->devices, device, id, engine->detector);
}

static void read_value(struct hlt_engine *engine, struct hlt_device *device,
                       const struct hlt_reading *reading, size_t guess, int64_t time_ms,
                       struct hlt_now now)
{
    struct hlt_metric *metric = metric_of(engine, device, reading, guess);
    struct hlt_detector_score score;

    if (metric == NULL) {
        return;
    }
    const struct hlt_rule **rule = engine->name_rules[metric->name_id];
    for (; rule != NULL && *rule != NULL; rule++) {
        check_rule(engine, *rule, device, metric, reading->value, now);
    }
    engine->detector->update(hlt_metric_state(metric), reading->value, time_ms, &score);
    metric->value = reading->value;
    metric->time_ms = time_ms;
    metric->expected = score.expected;
    metric->score = score.score;
    metric->count++;
    check_anomaly(engine, device, metric, reading->value, &score, now);
}

/* --- the two kinds of messages that are read --- */

static enum hlt_answer on_telemetry(struct hlt_engine *engine, const struct hlt_message *message,
                                    struct hlt_device *device, struct hlt_now now)
{
    struct hlt_telemetry *scan = &engine->scan;

    hlt_device_prefetch(&engine->devices, device);
    enum hlt_telemetry_rc rc = hlt_telemetry_scan(scan, message->payload, message->payload_len);
    int64_t time_ms = now.wall_ms;

    engine->counters.telemetry++;
    if (rc != HLT_TELEMETRY_OK) {
        return malformed(engine, device, rc, scan->error_at, now);
    }
    if (scan->has_device_id && (scan->device_id_len != device->id_len ||
                                memcmp(scan->device_id, device->id, device->id_len) != 0)) {
        return spoofed(engine, message, device, scan->device_id, scan->device_id_len, now);
    }
    if (scan->time_ms > now.wall_ms + CLOCK_AHEAD_MAX_MS) {
        engine->counters.clock_ahead++; /* its clock is wrong: ours is used, the reading counts */
    } else if (scan->time_ms > 0) {
        time_ms = scan->time_ms;
    }
    engine->counters.readings += scan->reading_count;
    engine->counters.readings_dropped += scan->readings_dropped;
    for (size_t i = 0; i < scan->reading_count; i++) {
        read_value(engine, device, &scan->reading[i], i, time_ms, now);
    }
    return HLT_DELIVER;
}

static void keep_vitals(struct hlt_device *device, const struct hlt_status *status)
{
    struct hlt_vitals *v = device->vitals;

    if (v == NULL) {
        v = device->vitals = malloc(sizeof(*v));
        if (v == NULL) {
            return;
        }
        *v = (struct hlt_vitals){
            .cpu = NAN, .memory = NAN, .disk = NAN, .battery = NAN, .uptime_s = NAN};
    }
    v->cpu = isnan(status->cpu) ? v->cpu : status->cpu;
    v->memory = isnan(status->memory) ? v->memory : status->memory;
    v->disk = isnan(status->disk) ? v->disk : status->disk;
    v->battery = isnan(status->battery) ? v->battery : status->battery;
    v->uptime_s = isnan(status->uptime_s) ? v->uptime_s : status->uptime_s;
    if (status->firmware[0] != '\0') {
        memcpy(v->firmware, status->firmware, sizeof(v->firmware));
    }
}

static enum hlt_answer on_status(struct hlt_engine *engine, const struct hlt_message *message,
                                 struct hlt_device *device, struct hlt_now now)
{
    struct hlt_status status;
    enum hlt_telemetry_rc rc = hlt_status_scan(&status, message->payload, message->payload_len);

    engine->counters.statuses++;
    if (rc != HLT_TELEMETRY_OK) {
        return malformed(engine, device, rc, status.error_at, now);
    }
    if (status.has_device_id && strcmp(status.device_id, device->id) != 0) {
        return spoofed(engine, message, device, status.device_id, strlen(status.device_id), now);
    }
    keep_vitals(device, &status);
    if (status.status != HLT_STATUS_UNKNOWN && device->status != status.status) {
        bool was = device->status == HLT_STATUS_MAINTENANCE;
        bool is = status.status == HLT_STATUS_MAINTENANCE;
        device->status = (uint8_t)status.status;
        if (was != is) {
            hlt_engine_event(engine, now, device, is ? "maintenance_begin" : "maintenance_end",
                             is ? "alerts of this device are suppressed" : NULL, NULL);
        }
    }
    hlt_health_update(engine, device, now, true);
    return HLT_DELIVER;
}

/* Topics outside devices/{id}/{telemetry,status}: only a sign of life of whoever sent it. */
static enum hlt_answer on_other(struct hlt_engine *engine, const struct hlt_message *message,
                                struct hlt_now now)
{
    if (message->session != NULL) {
        seen(engine, message->session->device, message->payload_len, now);
    }
    return HLT_DELIVER;
}

enum hlt_answer hlt_engine_message(struct hlt_engine *engine, struct hlt_now now,
                                   const struct hlt_message *message)
{
    const char *id = behind(&engine->devices_prefix, message->topic);
    const char *leaf = id != NULL ? strchr(id, '/') : NULL;
    enum hlt_answer answer;

    engine->counters.messages++;
    engine->counters.bytes += message->payload_len;
    if (!message->checked && hlt_engine_owns(engine, message->topic)) {
        engine->counters.own_topic_denied++;
        hlt_engine_denied(engine, now, message->session, message->client_id, "write",
                          message->topic, "own_topic");
        return HLT_DROP;
    }
    bool telemetry = leaf != NULL && strcmp(leaf, "/telemetry") == 0;
    if (!telemetry && (leaf == NULL || strcmp(leaf, "/status") != 0)) {
        return on_other(engine, message, now);
    }
    struct hlt_device *device = device_of_topic(engine, now, message, id, (size_t)(leaf - id));
    if (device == NULL) {
        return on_other(engine, message, now);
    }
    if (message->session != NULL && device != message->session->device) {
        if (message->bound_device) { /* policy tied this topic to the token's own id */
            return spoofed(engine, message, device, device->id, device->id_len, now);
        }
        seen(engine, message->session->device, message->payload_len,
             now); /* the gateway lives, too */
    }
    seen(engine, device, message->payload_len, now);
    answer = telemetry ? on_telemetry(engine, message, device, now)
                       : on_status(engine, message, device, now);
    if (device->timer.link == NULL) { /* with its first telemetry a device begins to be expected */
        hlt_engine_watch_silence(engine, device, now);
    }
    hlt_health_update(engine, device, now, false);
    return answer;
}
