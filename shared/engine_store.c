/* engine_store.c - what the engine keeps over restarts: reading it back, and handing over what
 * changed.
 *
 * Hand-over is in rounds: every flush_interval all that is dirty goes to the writer in slices;
 * alerts go at once. */
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine_impl.h"

#define DENIALS_SLICE 50

/* --- reading back --- */

struct restore {
    struct hlt_engine *engine;
    struct hlt_now now;
    bool clean;
    uint64_t seq;
    char stream[33];
    uint16_t *name_of; /* id in the store -> id now */
};

static bool damaged(struct hlt_engine *engine)
{
    engine->counters.records_damaged++;
    return true; /* passed over; written anew with its next change */
}

static bool restore_meta(void *context, const void *key, size_t key_len, const void *value,
                         size_t len)
{
    struct restore *r = context;
    const void *data;
    size_t data_len;

    if (hlt_blob_record_read(&data, &data_len, value, len) != HLT_OK) {
        return damaged(r->engine);
    }
    if (key_len == 6 && memcmp(key, "stream", 6) == 0 && data_len < sizeof(r->stream)) {
        memcpy(r->stream, data, data_len);
        r->stream[data_len] = '\0';
    } else if (key_len == 3 && memcmp(key, "seq", 3) == 0 && data_len == 8) {
        const uint8_t *bytes = data;
        for (unsigned i = 0; i < 8; i++) {
            r->seq |= (uint64_t)bytes[i] << (8 * i);
        }
    }
    return true;
}

static bool restore_name(void *context, const void *key, size_t key_len, const void *value,
                         size_t len)
{
    struct restore *r = context;
    const uint8_t *bytes = key;
    const void *data;
    size_t data_len;

    if (key_len != 2 || hlt_blob_record_read(&data, &data_len, value, len) != HLT_OK) {
        return damaged(r->engine);
    }
    uint16_t id = (uint16_t)(bytes[0] << 8 | bytes[1]);
    r->name_of[id] = hlt_names_intern(&r->engine->names, &r->engine->devices.key, data, data_len);
    return true;
}

static void restore_metric(struct hlt_engine *engine, struct hlt_device *device,
                           const struct hlt_metric_record *record, uint16_t name_id, bool same)
{
    const struct hlt_detector *detector = engine->detector;
    struct hlt_metric *metric =
        name_id != HLT_NAME_NONE
            ? hlt_device_add_metric(&engine->devices, device, name_id, detector)
            : NULL;

    if (metric == NULL) {
        return;
    }
    metric->value = record->value;
    metric->time_ms = record->time_ms;
    metric->expected = record->expected;
    metric->score = record->score;
    metric->count = record->count;
    if (same && record->detector_version == detector->version &&
        !detector->unpack(hlt_metric_state(metric), record->state, record->state_len)) {
        detector->init(hlt_metric_state(metric));
    }
}

static void restore_fields(struct hlt_device *device, const struct hlt_device_record *record)
{
    device->first_seen_ms = record->first_seen_ms;
    device->last_seen_ms = record->last_seen_ms;
    device->last_connect_ms = record->last_connect_ms;
    device->last_disconnect_ms = record->last_disconnect_ms;
    device->since_ms = record->since_ms;
    device->token_exp_s = record->token_exp_s;
    device->messages = device->messages_then = record->messages;
    device->bytes = record->bytes;
    device->malformed = device->malformed_then = record->malformed;
    device->denied = record->denied;
    device->anomalies = device->anomalies_then = record->anomalies;
    device->connects = device->connects_then = record->connects;
    device->auth_failures = record->auth_failures;
    device->episode = record->episode;
    device->version = record->version;
    device->cadence_s = record->cadence_s;
    device->cadence_count = record->cadence_count;
    device->health = record->health;
    device->band = record->band;
    device->status = record->status;
    device->has_token = record->has_token != 0;
    /* Whoever was online when the broker went down is not any more, and no event told us so. */
    device->disconnect_reason = record->online ? HLT_GONE_SHUTDOWN : record->disconnect_reason;
    hlt_string_set(&device->device_class, record->device_class);
    hlt_string_set(&device->address, record->address);
}

static void restore_vitals(struct hlt_device *device, const struct hlt_device_record *record)
{
    if (isnan(record->cpu) && isnan(record->memory) && isnan(record->disk) &&
        isnan(record->battery) && isnan(record->uptime_s) && record->firmware[0] == '\0') {
        return;
    }
    device->vitals = malloc(sizeof(*device->vitals));
    if (device->vitals != NULL) {
        *device->vitals = (struct hlt_vitals){.cpu = record->cpu,
                                              .memory = record->memory,
                                              .disk = record->disk,
                                              .battery = record->battery,
                                              .uptime_s = record->uptime_s};
        memcpy(device->vitals->firmware, record->firmware, sizeof(device->vitals->firmware));
    }
}

static bool restore_device(void *context, const void *key, size_t key_len, const void *value,
                           size_t len)
{
    struct restore *r = context;
    struct hlt_engine *engine = r->engine;
    static struct hlt_device_record record; /* large; only used at start, on one thread */

    if (hlt_device_record_read(&record, value, len) != HLT_OK) {
        return damaged(engine);
    }
    struct hlt_device *device = hlt_device_add(&engine->devices, key, key_len);
    if (device == NULL) {
        engine->counters.devices_refused++;
        return true;
    }
    bool same = strcmp(record.detector, engine->detector->name) == 0;
    restore_fields(device, &record);
    restore_vitals(device, &record);
    for (size_t i = 0; i < record.metric_count; i++) {
        restore_metric(engine, device, &record.metric[i], r->name_of[record.metric[i].name_id],
                       same);
    }
    device->seen_mono_ms = r->now.mono_ms; /* a start is no silence: the time begins now */
    device->health_mono_ms = r->now.mono_ms;
    if (record.online) {
        device->last_disconnect_ms = r->now.wall_ms;
        hlt_engine_dirty(engine, device);
    }
    return true;
}

/* Alerts that only their own timer ends: how long they must stay quiet. 0 for all others. */
static int64_t quiet_ms(const struct hlt_rule *rule)
{
    switch (rule->kind) {
    case HLT_RULE_SPOOF:
    case HLT_RULE_MALFORMED:
    case HLT_RULE_AUTH_FAILURE:
    case HLT_RULE_ACL_DENIED:
    case HLT_RULE_LIMIT_EXCEEDED:
    case HLT_RULE_CLONE: return rule->clear_ms;
    default: return 0;
    }
}

static void restore_alert_state(struct hlt_engine *engine, struct hlt_alert *alert,
                                const struct hlt_alert_record *record, struct hlt_now now)
{
    const struct hlt_rule *rule = hlt_rules_find(engine->rules, record->name);

    alert->severity = record->severity <= HLT_SEV_CRITICAL ? record->severity : HLT_SEV_WARNING;
    if (record->status == HLT_ALERT_RESOLVED) {
        return;
    }
    hlt_alert_place(engine, alert, HLT_ALERT_ACTIVE);
    alert->acknowledged = record->status == HLT_ALERT_ACKNOWLEDGED;
    alert->said_mono_ms = now.mono_ms;
    if (rule != NULL && quiet_ms(rule) > 0) {
        alert->clear_mono_ms = now.mono_ms + quiet_ms(rule);
    }
    if (rule != NULL && rule->kind == HLT_RULE_SILENCE) {
        alert->device->silent = true; /* until it is heard again */
    }
    /* Looks again at its rule soon: renotify, clearAfter, or gone from the rules. */
    hlt_timer_set(&engine->wheel, &alert->timer, now.mono_ms + 1000);
}

static bool restore_alert(void *context, const void *key, size_t key_len, const void *value,
                          size_t len)
{
    struct restore *r = context;
    struct hlt_engine *engine = r->engine;
    struct hlt_alert_record record;
    uint16_t metric_id = HLT_NAME_NONE;

    (void)key;
    (void)key_len;
    if (hlt_alert_record_read(&record, value, len) != HLT_OK) {
        return damaged(engine);
    }
    struct hlt_device *device =
        strcmp(record.device_id, HLT_BROKER_ID) == 0
            ? &engine->broker
            : hlt_device_find(&engine->devices, record.device_id, strlen(record.device_id));
    if (record.metric[0] != '\0') {
        metric_id = hlt_names_intern(&engine->names, &engine->devices.key, record.metric,
                                     strlen(record.metric));
    }
    struct hlt_alert *alert =
        device != NULL ? hlt_alert_add(engine, device, record.name, metric_id) : NULL;
    if (alert == NULL) {
        return true;
    }
    alert->episode = record.episode;
    alert->topics = record.topics;
    alert->count = record.count;
    alert->seq = record.seq;
    alert->starts_ms = record.starts_ms;
    alert->updated_ms = record.updated_ms;
    alert->ends_ms = record.ends_ms;
    alert->value = record.value;
    alert->expected = record.expected;
    alert->threshold = record.threshold;
    alert->score = record.score;
    alert->acknowledged_ms = record.acknowledged_ms;
    hlt_string_set(&alert->message, record.message);
    hlt_string_set(&alert->acknowledged_by, record.acknowledged_by);
    restore_alert_state(engine, alert, &record, r->now);
    return true;
}

static bool restore_identity(void *context, const void *key, size_t key_len, const void *value,
                             size_t len)
{
    struct restore *r = context;
    struct hlt_identity_record record;
    char client_id[HLT_STORE_KEY_MAX + 1];

    if (key_len > HLT_STORE_KEY_MAX || hlt_identity_record_read(&record, value, len) != HLT_OK) {
        return damaged(r->engine);
    }
    memcpy(client_id, key, key_len);
    client_id[key_len] = '\0';
    hlt_session_restore(r->engine, client_id, &record, r->now);
    return true;
}

static bool restore_counter(void *context, const void *key, size_t key_len, const void *value,
                            size_t len)
{
    const size_t prefix = strlen(HLT_SHADOW_KEY);
    struct restore *r = context;
    const void *data;
    size_t data_len;
    bool keys = key_len == 4 && memcmp(key, "keys", 4) == 0;
    bool shadow = key_len >= prefix && memcmp(key, HLT_SHADOW_KEY, prefix) == 0;

    if (!keys && !shadow) {
        return true; /* the other counters begin anew */
    }
    if (hlt_blob_record_read(&data, &data_len, value, len) != HLT_OK ||
        (shadow && !hlt_shadow_restore(r->engine->shadow, key, key_len, data, data_len))) {
        return damaged(r->engine);
    }
    if (keys) {
        hlt_keyuse_restore(r->engine->keys, data, data_len);
    }
    return true;
}

static bool restore_denials(void *context, const void *key, size_t key_len, const void *value,
                            size_t len)
{
    const size_t prefix = strlen(HLT_DENIALS_KEY);
    struct restore *r = context;
    const void *data;
    size_t data_len;

    if (key_len <= prefix || memcmp(key, HLT_DENIALS_KEY, prefix) != 0) {
        return true;
    }
    const struct hlt_device *device =
        hlt_device_find(&r->engine->devices, (const char *)key + prefix, key_len - prefix);
    if (device == NULL) {
        return true;
    }
    if (hlt_blob_record_read(&data, &data_len, value, len) != HLT_OK ||
        !hlt_denials_restore(r->engine->denials, device->index, data, data_len)) {
        return damaged(r->engine);
    }
    return true;
}

static bool restore_revocation(void *context, const void *key, size_t key_len, const void *value,
                               size_t len)
{
    struct restore *r = context;

    return hlt_engine_restore_revocation(r->engine, key, key_len, value, len) || damaged(r->engine);
}

static bool restore_ban(void *context, const void *key, size_t key_len, const void *value,
                        size_t len)
{
    struct restore *r = context;

    return hlt_guard_restore(r->engine, r->now, key, key_len, value, len) || damaged(r->engine);
}

static void begin_stream(struct hlt_engine *engine, const struct restore *r)
{
    uint8_t random[16];

    if (r->clean && strlen(r->stream) == 32) {
        memcpy(engine->alerts.stream, r->stream, sizeof(r->stream));
        engine->alerts.seq = r->seq;
    } else {
        randombytes_buf(random, sizeof(random));
        sodium_bin2hex(engine->alerts.stream, sizeof(engine->alerts.stream), random,
                       sizeof(random));
    }
    engine->alerts.seq_dirty = true;
}

enum hlt_rc hlt_engine_restore(struct hlt_engine *engine, bool clean, struct hlt_now now,
                               struct hlt_err *err)
{
    static const struct {
        enum hlt_db db;
        hlt_store_each_fn *each;
    } steps[] = {
        {HLT_DB_META, restore_meta},
        {HLT_DB_METRICS, restore_name},
        {HLT_DB_DEVICES, restore_device},
        {HLT_DB_ALERTS, restore_alert},
        {HLT_DB_REVOCATIONS, restore_revocation},
        {HLT_DB_IDENTITIES, restore_identity},
        {HLT_DB_COUNTERS, restore_counter},
        {HLT_DB_BANS, restore_ban},
    };
    struct restore r = {.engine = engine, .now = now, .clean = clean};
    enum hlt_rc rc = HLT_OK;

    if (engine->store == NULL) {
        snprintf(engine->alerts.stream, sizeof(engine->alerts.stream), "%032d", 0);
        return HLT_OK;
    }
    r.name_of = malloc((UINT16_MAX + 1) * sizeof(*r.name_of));
    if (r.name_of == NULL) {
        return hlt_fail(err, HLT_ENOMEM, "no memory to read the store");
    }
    memset(r.name_of, 0xff, (UINT16_MAX + 1) * sizeof(*r.name_of)); /* HLT_NAME_NONE */
    for (size_t i = 0; rc == HLT_OK && i < sizeof(steps) / sizeof(steps[0]); i++) {
        rc = hlt_store_each(engine->store, steps[i].db, steps[i].each, &r, err);
    }
    free(r.name_of);
    if (rc == HLT_OK) {
        rc = hlt_store_each(engine->store, HLT_DB_COUNTERS, restore_denials, &r, err);
    }
    if (rc == HLT_OK) {
        rc = hlt_engine_restore_audit(engine, now, err);
    }
    if (rc != HLT_OK) {
        return rc;
    }
    for (uint16_t i = 0; i < engine->names.count; i++) {
        hlt_engine_index_name(engine, i);
    }
    for (uint32_t i = 0; i < engine->devices.used; i++) {
        struct hlt_device *device = hlt_device_at(&engine->devices, i);
        if (device != NULL && !device->silent) {
            hlt_engine_watch_silence(engine, device, now);
        }
    }
    hlt_guard_restored(engine, now);
    engine->resay_broker = true;
    engine->resay_end = engine->devices.used;
    begin_stream(engine, &r);
    return HLT_OK;
}

/* --- handing over --- */

static bool put(struct hlt_engine *engine, enum hlt_db db, const void *key, size_t key_len,
                const void *value, size_t value_len)
{
    struct hlt_batch *batch = hlt_store_batch(engine->store);

    if (batch != NULL && hlt_batch_put(batch, db, key, key_len, value, value_len)) {
        return true;
    }
    if (batch != NULL &&
        hlt_batch_count(batch) > 0) { /* full: the next one, if the writer has one */
        hlt_store_submit(engine->store, false);
        batch = hlt_store_batch(engine->store);
        if (batch != NULL && hlt_batch_put(batch, db, key, key_len, value, value_len)) {
            return true;
        }
    }
    engine->counters.store_busy++;
    return false;
}

bool hlt_engine_put(struct hlt_engine *engine, enum hlt_db db, const void *key, size_t key_len,
                    const void *value, size_t value_len)
{
    return put(engine, db, key, key_len, value, value_len);
}

void hlt_engine_forget_record(struct hlt_engine *engine, enum hlt_db db, const void *key,
                              size_t len)
{
    if (engine->store != NULL) {
        put(engine, db, key, len, NULL, 0);
    }
}

static void fill_metric(const struct hlt_engine *engine, struct hlt_metric *metric,
                        struct hlt_metric_record *out, uint8_t *state)
{
    engine->detector->pack(hlt_metric_state(metric), state);
    *out = (struct hlt_metric_record){
        .name_id = metric->name_id,
        .value = metric->value,
        .time_ms = metric->time_ms,
        .expected = metric->expected,
        .score = metric->score,
        .count = metric->count,
        .detector_version = engine->detector->version,
        .state = state,
        .state_len = (uint16_t)engine->detector->packed_bytes,
    };
}

static void copy_text(char *out, size_t out_bytes, const char *text)
{
    snprintf(out, out_bytes, "%s", text != NULL ? text : "");
}

static void fill_device(const struct hlt_engine *engine, const struct hlt_device *device,
                        struct hlt_device_record *out)
{
    *out = (struct hlt_device_record){
        .first_seen_ms = device->first_seen_ms,
        .last_seen_ms = device->last_seen_ms,
        .last_connect_ms = device->last_connect_ms,
        .last_disconnect_ms = device->last_disconnect_ms,
        .since_ms = device->since_ms,
        .token_exp_s = device->token_exp_s,
        .messages = device->messages,
        .bytes = device->bytes,
        .malformed = device->malformed,
        .denied = device->denied,
        .anomalies = device->anomalies,
        .connects = device->connects,
        .auth_failures = device->auth_failures,
        .episode = device->episode,
        .version = device->version,
        .cadence_s = device->cadence_s,
        .cadence_count = device->cadence_count,
        .health = device->health,
        .band = device->band,
        .online = device->sessions > 0,
        .status = device->status,
        .disconnect_reason = device->disconnect_reason,
        .has_token = device->has_token,
        .cpu = NAN,
        .memory = NAN,
        .disk = NAN,
        .battery = NAN,
        .uptime_s = NAN,
    };
    if (device->vitals != NULL) {
        out->cpu = device->vitals->cpu;
        out->memory = device->vitals->memory;
        out->disk = device->vitals->disk;
        out->battery = device->vitals->battery;
        out->uptime_s = device->vitals->uptime_s;
        copy_text(out->firmware, sizeof(out->firmware), device->vitals->firmware);
    }
    copy_text(out->device_class, sizeof(out->device_class), device->device_class);
    copy_text(out->address, sizeof(out->address), device->address);
    copy_text(out->detector, sizeof(out->detector), engine->detector->name);
}

static bool hand_device(struct hlt_engine *engine, struct hlt_device *device)
{
    static struct hlt_device_record record; /* broker thread only; too large for its stack */
    static uint8_t states[HLT_RECORD_METRICS_MAX][HLT_RECORD_STATE_MAX];
    static uint8_t value[HLT_DEVICE_RECORD_MAX];

    fill_device(engine, device, &record);
    for (size_t i = 0; i < device->metric_count; i++) {
        fill_metric(engine, hlt_metric_at(&engine->devices, device, i), &record.metric[i],
                    states[i]);
    }
    record.metric_count = device->metric_count;
    return put(engine, HLT_DB_DEVICES, device->id, device->id_len, value,
               hlt_device_record_write(&record, value));
}

static bool hand_alert(struct hlt_engine *engine, const struct hlt_alert *alert)
{
    struct hlt_alert_record record = {
        .status = alert->state != HLT_ALERT_ACTIVE ? HLT_ALERT_RESOLVED
                  : alert->acknowledged            ? HLT_ALERT_ACKNOWLEDGED
                                                   : HLT_ALERT_FIRING,
        .severity = alert->severity,
        .topics = alert->topics,
        .episode = alert->episode,
        .count = alert->count,
        .starts_ms = alert->starts_ms,
        .updated_ms = alert->updated_ms,
        .ends_ms = alert->ends_ms,
        .seq = alert->seq,
        .value = alert->value,
        .expected = alert->expected,
        .threshold = alert->threshold,
        .score = alert->score,
        .acknowledged_ms = alert->acknowledged_ms,
    };
    uint8_t value[HLT_ALERT_RECORD_MAX];
    char key[HLT_STORE_KEY_MAX];

    copy_text(record.device_id, sizeof(record.device_id), alert->device->id);
    copy_text(record.name, sizeof(record.name), alert->name);
    copy_text(record.metric, sizeof(record.metric), hlt_alert_metric(engine, alert));
    copy_text(record.message, sizeof(record.message), alert->message);
    copy_text(record.acknowledged_by, sizeof(record.acknowledged_by), alert->acknowledged_by);
    int len = snprintf(key, sizeof(key), "%s%c%s%c%s", record.device_id, 0, record.name, 0,
                       record.metric);
    return put(engine, HLT_DB_ALERTS, key, (size_t)len, value,
               hlt_alert_record_write(&record, value));
}

static bool hand_session(struct hlt_engine *engine, const struct hlt_session *session)
{
    struct hlt_identity_record record = {
        .exp_s = session->claims->has_exp ? session->claims->exp_s : INT64_MAX,
        .seen_ms = session->seen_wall_ms,
        .durable = session->durable,
        .claims = session->claims->json,
        .claims_len = (uint32_t)session->claims->json_len,
        .barred = session->barred,
    };
    uint8_t value[HLT_IDENTITY_RECORD_MAX];

    if (session->claims->json_len > HLT_CLAIMS_STORED_MAX ||
        strlen(session->client_id) > HLT_STORE_KEY_MAX) {
        engine->counters.identities_too_large++; /* after a restart this client is unknown: denied
                                                    until login */
        return true;
    }
    copy_text(record.user, sizeof(record.user), session->claims->sub);
    copy_text(record.kid, sizeof(record.kid), session->claims->kid);
    return put(engine, HLT_DB_IDENTITIES, session->client_id, strlen(session->client_id), value,
               hlt_identity_record_write(&record, value));
}

static bool hand_names(struct hlt_engine *engine)
{
    struct hlt_names *names = &engine->names;
    uint8_t value[HLT_RECORD_HEADER + HLT_METRIC_NAME_MAX];

    for (; names->saved < names->count; names->saved++) {
        uint8_t key[2] = {(uint8_t)(names->saved >> 8), (uint8_t)names->saved};
        size_t len =
            hlt_blob_record_write(names->name[names->saved], names->len[names->saved], value);
        if (!put(engine, HLT_DB_METRICS, key, sizeof(key), value, len)) {
            return false;
        }
    }
    return true;
}

static bool hand_stream(struct hlt_engine *engine)
{
    uint8_t value[HLT_RECORD_HEADER + 64], seq[8];

    for (unsigned i = 0; i < 8; i++) {
        seq[i] = (uint8_t)(engine->alerts.seq >> (8 * i));
    }
    size_t len = hlt_blob_record_write(engine->alerts.stream, strlen(engine->alerts.stream), value);
    return put(engine, HLT_DB_META, "stream", 6, value, len) &&
           put(engine, HLT_DB_META, "seq", 3, value,
               hlt_blob_record_write(seq, sizeof(seq), value));
}

/* Put a text of ours among the counters and free it. True without text or memory, too: it comes
 * again with its next change. */
static bool put_text(struct hlt_engine *engine, const char *key, char *text)
{
    size_t len = text != NULL ? strlen(text) : 0;
    uint8_t *value = len > 0 ? malloc(HLT_RECORD_HEADER + len) : NULL;
    bool done = value == NULL || put(engine, HLT_DB_COUNTERS, key, strlen(key), value,
                                     hlt_blob_record_write(text, len, value));

    free(value);
    free(text);
    return done;
}

static bool hand_counters(struct hlt_engine *engine, struct hlt_now now)
{
    return put_text(engine, "engine", hlt_document_heartbeat(engine, now));
}

/* Which keys were used. */
static bool hand_keys(struct hlt_engine *engine)
{
    if (!hlt_keyuse_dirty(engine->keys)) {
        return true;
    }
    if (!put_text(engine, "keys", hlt_keyuse_text(engine->keys, HLT_KEYS_MAX))) {
        return false;
    }
    hlt_keyuse_stored(engine->keys);
    return true;
}

/* Alerts leave at once: on disk within about a quarter of a second when the disk keeps up. */
static bool hand_alerts(struct hlt_engine *engine, unsigned slice)
{
    bool any = false;

    while (engine->alerts.dirty != NULL) {
        struct hlt_alert *alert = engine->alerts.dirty;
        /* Its device must be known before it: a restart drops alerts of unknown devices. */
        if (slice-- == 0 || (alert->device != &engine->broker && alert->device->dirty &&
                             !hand_device(engine, alert->device))) {
            return false;
        }
        if (!hand_alert(engine, alert)) {
            return false;
        }
        engine->alerts.dirty = alert->next_dirty;
        alert->dirty = false;
        any = true;
    }
    if (any || engine->alerts.seq_dirty) {
        if (!hand_names(engine) || !hand_stream(engine)) {
            return false;
        }
        engine->alerts.seq_dirty = false;
        hlt_store_submit(engine->store, true);
    }
    return true;
}

/* "denials:" and the device's id. */
static size_t denials_key(const struct hlt_device *device, char key[HLT_STORE_KEY_MAX])
{
    return (size_t)snprintf(key, HLT_STORE_KEY_MAX, HLT_DENIALS_KEY "%s", device->id);
}

void hlt_engine_forget_denials(struct hlt_engine *engine, const struct hlt_device *device)
{
    char key[HLT_STORE_KEY_MAX];

    hlt_denials_drop(engine->denials, device->index);
    hlt_engine_forget_record(engine, HLT_DB_COUNTERS, key, denials_key(device, key));
}

static bool hand_denial_list(struct hlt_engine *engine, uint32_t index)
{
    const struct hlt_device *device = hlt_device_at(&engine->devices, index);
    char key[HLT_STORE_KEY_MAX];

    if (device == NULL) {
        return true;
    }
    (void)denials_key(device, key);
    return put_text(engine, key, hlt_denials_text(engine->denials, index));
}

/* A list takes some 20 us to write down: a bounded number each time. */
static bool hand_denials(struct hlt_engine *engine)
{
    uint32_t index;

    for (unsigned i = 0; i < DENIALS_SLICE; i++) {
        if (!hlt_denials_dirty(engine->denials, &index)) {
            return true;
        }
        if (!hand_denial_list(engine, index)) {
            return false;
        }
        hlt_denials_clean(engine->denials, index);
    }
    return !hlt_denials_dirty(engine->denials, &index);
}

/* As many rows as denials: they cost about the same. */
static bool hand_shadow(struct hlt_engine *engine)
{
    char key[24], *text = NULL;

    for (unsigned i = 0; i < DENIALS_SLICE; i++) {
        if (!hlt_shadow_dirty(engine->shadow, key, &text)) {
            return true;
        }
        if (text != NULL ? !put_text(engine, key, text)
                         : !put(engine, HLT_DB_COUNTERS, key, strlen(key), NULL, 0)) {
            return false;
        }
        hlt_shadow_written(engine->shadow);
    }
    return false; /* whether more is left shows the next time */
}

/* Lists of denials may change faster than they are written: sessions and devices do not wait for
 * them. */
static bool hand_dirty(struct hlt_engine *engine, unsigned slice)
{
    bool listed = hand_denials(engine);

    listed = hand_shadow(engine) && listed;
    while (engine->dirty_sessions != NULL) {
        struct hlt_session *session = engine->dirty_sessions;
        if (slice-- == 0 || !hand_session(engine, session)) {
            return false;
        }
        engine->dirty_sessions = session->next_dirty;
        session->dirty = false;
    }
    while (engine->dirty != NULL) {
        struct hlt_device *device = engine->dirty;
        if (slice-- == 0 || !hand_device(engine, device)) {
            return false;
        }
        engine->dirty = device->next_dirty;
        if (engine->dirty == NULL) {
            engine->dirty_tail = &engine->dirty;
        }
        device->dirty = false;
    }
    return listed;
}

/* Bans leave at once: one that was given must hold after a crash. */
static bool hand_bans(struct hlt_engine *engine, unsigned slice)
{
    char key[HLT_BAN_KEY_MAX];
    uint8_t value[HLT_BAN_RECORD_MAX + 16];
    size_t key_len, value_len;
    bool any = false;

    while (hlt_guard_change(engine, key, &key_len, value, &value_len)) {
        if (slice-- == 0 ||
            !put(engine, HLT_DB_BANS, key, key_len, value_len > 0 ? value : NULL, value_len)) {
            return false;
        }
        hlt_guard_change_done(engine);
        any = true;
    }
    if (any) {
        hlt_store_submit(engine->store, true);
    }
    return true;
}

bool hlt_engine_hand_over(struct hlt_engine *engine, struct hlt_now now, unsigned slice)
{
    if (engine->store == NULL) {
        return true;
    }
    if (!hand_alerts(engine, slice) || !hlt_engine_hand_identity(engine, slice) ||
        !hand_bans(engine, slice)) {
        return false;
    }
    if (!engine->flushing) {
        if (now.mono_ms < engine->flush_mono_ms) {
            return true;
        }
        engine->flushing = true;
        engine->flush_mono_ms = now.mono_ms + engine->options->flush_interval_ms;
        hlt_shadow_round(engine->shadow);
    }
    if (!hand_names(engine) || !hand_dirty(engine, slice) || !hand_counters(engine, now) ||
        !hand_keys(engine)) {
        return false;
    }
    engine->flushing = false;
    hlt_store_submit(engine->store, true);
    return true;
}

void hlt_engine_flush(struct hlt_engine *engine, struct hlt_now now)
{
    const struct timespec pause = {.tv_nsec = 10000000L};

    engine->flush_mono_ms = now.mono_ms;
    engine->alerts.seq_dirty = true;
    hlt_shadow_round(engine->shadow);
    hlt_audit_minute(&engine->audit, now.wall_ms, true);
    hlt_engine_audit(engine, now, &(struct hlt_audit_event){.type = HLT_AUDIT_STOP});
    for (unsigned tries = 0; tries < 1000; tries++) { /* 10 s: a full disk must not hang the stop */
        if (hlt_engine_hand_over(engine, now, UINT32_MAX)) {
            return;
        }
        nanosleep(&pause, NULL);
    }
}
