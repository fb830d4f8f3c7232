/* document.c - the JSON documents Haltere publishes (shapes: DESIGN 5, README "Topics"). */
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"
#include "jsondoc.h"
#include "text.h"

#define KEYS_SHOWN 64    /* keys in the answer to getStatus; the store has all of them */
#define EVENT_BYTES 1024 /* most events are shorter than half of it */

static void add_date(cJSON *object, const char *name, int64_t unix_ms)
{
    char date[HLT_DATE_BYTES];

    if (unix_ms <= 0) {
        return; /* never happened */
    }
    hlt_date_format(unix_ms, date);
    cJSON_AddStringToObject(object, name, date);
}

static void add_number(cJSON *object, const char *name, double value)
{
    if (isfinite(value)) {
        cJSON_AddNumberToObject(object, name, value);
    }
}

static void add_text(cJSON *object, const char *name, const char *value)
{
    if (value != NULL && value[0] != '\0') {
        cJSON_AddStringToObject(object, name, value);
    }
}

/* Floats are told with the digits they have, not with the noise of their conversion. */
static double tidy(double value)
{
    return isfinite(value) && value != 0.0
               ? round(value * pow(10.0, 6.0 - ceil(log10(fabs(value))))) /
                     pow(10.0, 6.0 - ceil(log10(fabs(value))))
               : value;
}

/* malloc'd with cJSON's own allocator, so that on brokers that give cJSON other hooks it is still
 * free()d right. */
static void add_labels(const struct hlt_engine *engine, const struct hlt_alert *alert, cJSON *root)
{
    cJSON *labels = cJSON_AddObjectToObject(root, "labels");

    cJSON_AddStringToObject(labels, "alertname", alert->name);
    cJSON_AddStringToObject(labels, "deviceId", alert->device->id);
    cJSON_AddStringToObject(labels, "severity",
                            hlt_severity_word((enum hlt_severity)alert->severity));
    add_text(labels, "metric", hlt_alert_metric(engine, alert));
    add_text(labels, "deviceClass", alert->device->device_class);
}

static void add_annotations(const struct hlt_engine *engine, const struct hlt_alert *alert,
                            cJSON *root)
{
    const struct hlt_rule *rule = hlt_rules_find(engine->rules, alert->name);
    cJSON *annotations = cJSON_AddObjectToObject(root, "annotations");
    char summary[sizeof(rule->summary) + HLT_ID_MAX + 8];

    snprintf(summary, sizeof(summary), "%s: %s", alert->device->id,
             rule != NULL && rule->summary[0] != '\0' ? rule->summary : alert->name);
    cJSON_AddStringToObject(annotations, "summary", summary);
    add_text(annotations, "description", alert->message);
}

char *hlt_document_alert(const struct hlt_engine *engine, const struct hlt_alert *alert,
                         const char *status, int64_t wall_ms)
{
    const char *metric = hlt_alert_metric(engine, alert);
    cJSON *root = cJSON_CreateObject();
    char id[33];

    hlt_alert_id(alert->device->id, alert->name, metric, alert->episode, id);
    cJSON_AddNumberToObject(root, "v", 1);
    cJSON_AddStringToObject(root, "id", id);
    cJSON_AddStringToObject(root, "stream", engine->alerts.stream);
    cJSON_AddNumberToObject(root, "seq", (double)alert->seq);
    cJSON_AddStringToObject(root, "status", status);
    cJSON_AddStringToObject(root, "severity",
                            hlt_severity_word((enum hlt_severity)alert->severity));
    cJSON_AddStringToObject(root, "alertname", alert->name);
    cJSON_AddStringToObject(root, "deviceId", alert->device->id);
    add_text(root, "metric", metric);
    add_number(root, "value", alert->value);
    add_number(root, "expected", tidy(alert->expected));
    add_number(root, "threshold", alert->threshold);
    add_number(root, "score", tidy(alert->score));
    cJSON_AddNumberToObject(root, "count", (double)alert->count);
    cJSON_AddStringToObject(root, "message", alert->message != NULL ? alert->message : alert->name);
    add_labels(engine, alert, root);
    add_annotations(engine, alert, root);
    add_date(root, "startsAt", alert->starts_ms);
    add_date(root, "endsAt", alert->ends_ms);
    add_date(root, "updatedAt", alert->updated_ms);
    add_text(root, "acknowledgedBy", alert->acknowledged_by);
    cJSON_AddNumberToObject(root, "ts", (double)wall_ms);
    return hlt_jsondoc_print(root);
}

static const char *state_word(const struct hlt_device *device)
{
    if (device->status == HLT_STATUS_MAINTENANCE) {
        return "maintenance";
    }
    if (device->silent) {
        return "silent";
    }
    if (device->status == HLT_STATUS_ERROR) {
        return "error";
    }
    return device->sessions > 0 ? "ready" : "disconnected";
}

static void add_vitals(cJSON *root, const struct hlt_vitals *vitals)
{
    if (vitals == NULL) {
        return;
    }
    add_text(root, "firmwareVersion", vitals->firmware);
    add_number(root, "battery", tidy((double)vitals->battery));
    add_number(root, "cpu", tidy((double)vitals->cpu));
    add_number(root, "memory", tidy((double)vitals->memory));
    add_number(root, "disk", tidy((double)vitals->disk));
    add_number(root, "uptime", vitals->uptime_s);
}

static void add_reasons(cJSON *root, const struct hlt_factor *factor, size_t factor_count)
{
    cJSON *reasons = cJSON_AddArrayToObject(root, "reasons");
    char number[32], detail[80];

    for (size_t i = 0; i < factor_count; i++) {
        cJSON *reason = cJSON_CreateObject();
        cJSON_AddStringToObject(reason, "factor", factor[i].name);
        cJSON_AddNumberToObject(reason, "weight", tidy((double)factor[i].weight));
        snprintf(number, sizeof(number), "%.0f", factor[i].value);
        snprintf(detail, sizeof(detail), "%s%s%s", factor[i].before,
                 isnan(factor[i].value) ? "" : number, factor[i].after);
        cJSON_AddStringToObject(reason, "detail", detail);
        cJSON_AddItemToArray(reasons, reason);
    }
}

char *hlt_document_health(const struct hlt_engine *engine, const struct hlt_device *device,
                          const struct hlt_factor *factor, size_t factor_count, struct hlt_now now)
{
    cJSON *root = cJSON_CreateObject();
    int64_t due = hlt_engine_silence_due(engine, device);

    cJSON_AddStringToObject(root, "deviceId", device->id);
    cJSON_AddStringToObject(root, "state", state_word(device));
    cJSON_AddBoolToObject(root, "online", device->sessions > 0);
    cJSON_AddNumberToObject(root, "health", tidy((double)device->health));
    cJSON_AddStringToObject(root, "band", hlt_band_word(device->band));
    add_reasons(root, factor, factor_count);
    add_date(root, "since", device->since_ms);
    add_date(root, "lastSeen", device->last_seen_ms);
    add_date(root, "lastConnect", device->last_connect_ms);
    add_date(root, "lastDisconnect", device->last_disconnect_ms);
    if (device->disconnect_reason != HLT_GONE_NONE) {
        cJSON_AddStringToObject(root, "disconnectReason",
                                hlt_disconnect_word(device->disconnect_reason));
    }
    if (due != INT64_MAX) {
        add_date(root, "expectedUntil", now.wall_ms + (due - now.mono_ms));
    }
    add_text(root, "deviceClass", device->device_class);
    add_vitals(root, device->vitals);
    cJSON_AddNumberToObject(root, "messages", (double)device->messages);
    cJSON_AddNumberToObject(root, "errors", (double)device->malformed);
    cJSON_AddNumberToObject(root, "anomalies", (double)device->anomalies);
    if (device->token_exp_s > 0) {
        add_date(root, "tokenExp", device->token_exp_s * 1000);
    }
    cJSON_AddNumberToObject(root, "version", device->version);
    add_date(root, "time", now.wall_ms);
    cJSON_AddNumberToObject(root, "ts", (double)now.wall_ms);
    return hlt_jsondoc_print(root);
}

/* Every login makes two events. What is named and borrowed here need not be copied, and a number of
 * ours not be read back by cJSON: so an event costs a third of what it does otherwise. */
static void borrow_text(cJSON *root, const char *name, const char *text)
{
    if (text != NULL && text[0] != '\0') {
        cJSON_AddItemToObjectCS(root, name, cJSON_CreateStringReference(text));
    }
}

char *hlt_document_event(const struct hlt_device *device, const struct hlt_event *event,
                         int64_t wall_ms)
{
    char expires[HLT_DATE_BYTES] = "", time[HLT_DATE_BYTES] = "", ts[24], text[EVENT_BYTES];
    cJSON *root = cJSON_CreateObject();

    if (device->token_exp_s > 0) {
        hlt_date_format(device->token_exp_s * 1000, expires);
    }
    hlt_date_format(wall_ms, time);
    (void)snprintf(ts, sizeof(ts), "%lld", (long long)wall_ms);
    cJSON_AddItemToObjectCS(root, "v", cJSON_CreateNumber(1));
    borrow_text(root, "deviceId", device->id);
    borrow_text(root, "type", event->type);
    borrow_text(root, "reason", event->reason);
    borrow_text(root, "clientId", event->client_id);
    borrow_text(root, "address", device->address);
    borrow_text(root, "tokenExp", expires);
    if (event->filter_count > 0) {
        cJSON_AddItemToObjectCS(root, "filters",
                                cJSON_CreateStringArray(event->filters, (int)event->filter_count));
    }
    borrow_text(root, "time", time);
    cJSON_AddItemToObjectCS(root, "ts", cJSON_CreateRaw(ts));
    if (root == NULL || !cJSON_PrintPreallocated(root, text, sizeof(text), false)) {
        return hlt_jsondoc_print(root); /* longer than most */
    }
    cJSON_Delete(root);
    return strdup(text);
}

static void add_store(cJSON *root, const struct hlt_engine *engine, int64_t wall_ms)
{
    struct hlt_store_stats stats;

    if (engine->store == NULL) {
        return;
    }
    hlt_store_stats(engine->store, &stats);
    cJSON *store = cJSON_AddObjectToObject(root, "store");
    cJSON_AddBoolToObject(store, "failing", stats.failing);
    cJSON_AddNumberToObject(store, "lagMs",
                            stats.batches_submitted > stats.batches_committed
                                ? (double)(wall_ms - stats.last_commit_wall_ms)
                                : 0.0);
    cJSON_AddNumberToObject(store, "records", (double)stats.records_committed);
    cJSON_AddNumberToObject(store, "commits", (double)stats.batches_committed);
    cJSON_AddNumberToObject(store, "commitErrors", (double)stats.commit_errors);
    cJSON_AddNumberToObject(store, "lastCommitUs", (double)stats.last_commit_us);
    add_date(store, "lastCommit", stats.last_commit_wall_ms);
    cJSON_AddNumberToObject(store, "usedBytes", (double)stats.used_bytes);
    cJSON_AddNumberToObject(store, "mapBytes", (double)stats.map_bytes);
}

static void add_alerts(cJSON *root, const struct hlt_alerts *all)
{
    cJSON *alerts = cJSON_AddObjectToObject(root, "alerts");

    cJSON_AddNumberToObject(alerts, "critical", all->by_severity[HLT_SEV_CRITICAL]);
    cJSON_AddNumberToObject(alerts, "warning", all->by_severity[HLT_SEV_WARNING]);
    cJSON_AddNumberToObject(alerts, "info", all->by_severity[HLT_SEV_INFO]);
    cJSON_AddStringToObject(alerts, "stream", all->stream);
    cJSON_AddNumberToObject(alerts, "seq", (double)all->seq);
}

static cJSON *heartbeat(const struct hlt_engine *engine, struct hlt_now now)
{
    cJSON *root = cJSON_CreateObject();
    char head[2 * HLT_AUDIT_HASH_BYTES + 1];

    cJSON_AddStringToObject(root, "name", "haltere");
    cJSON_AddStringToObject(root, "version", engine->version);
    add_date(root, "time", now.wall_ms);
    cJSON_AddNumberToObject(root, "ts", (double)now.wall_ms);
    add_date(root, "started", engine->started.wall_ms);
    cJSON_AddNumberToObject(root, "uptime",
                            floor((double)(now.mono_ms - engine->started.mono_ms) / 1000.0));
    cJSON_AddNumberToObject(root, "devices", engine->devices.count);
    cJSON_AddNumberToObject(root, "online", engine->online);
    cJSON_AddNumberToObject(root, "sessions", engine->sessions.count);
    cJSON_AddNumberToObject(root, "metricNames", engine->names.count);
    add_alerts(root, &engine->alerts);
    cJSON_AddStringToObject(root, "detector", engine->detector->name);
    for (size_t i = 0; i < HLT_NOTES_MAX && engine->note[i].name[0] != '\0'; i++) {
        cJSON_AddStringToObject(root, engine->note[i].name, engine->note[i].value);
    }
    if (engine->audit.on) {
        sodium_bin2hex(head, sizeof(head), engine->audit.head, sizeof(engine->audit.head));
        cJSON_AddNumberToObject(root, "auditSeq", (double)engine->audit.seq);
        cJSON_AddStringToObject(root, "auditHead", head);
    }
    cJSON_AddNumberToObject(root, "revocationsInForce", engine->revocations.count[0]);
    add_store(root, engine, now.wall_ms);
    cJSON *counters = cJSON_AddObjectToObject(root, "counters");
#define HLT_COUNTER_ADD(name)                                                                      \
    cJSON_AddNumberToObject(counters, #name, (double)engine->counters.name);
    HLT_COUNTERS(HLT_COUNTER_ADD)
#undef HLT_COUNTER_ADD
    cJSON *refusals = cJSON_AddObjectToObject(root, "refusals");
    for (int i = HLT_REASON_OK + 1; i < HLT_REASON_COUNT; i++) {
        cJSON_AddNumberToObject(refusals, hlt_reason_word((enum hlt_reason)i),
                                (double)engine->counters.refusals[i]);
    }
    return root;
}

char *hlt_document_heartbeat(const struct hlt_engine *engine, struct hlt_now now)
{
    return hlt_jsondoc_print(heartbeat(engine, now));
}

char *hlt_document_status(const struct hlt_engine *engine, struct hlt_now now)
{
    char *text = hlt_keyuse_text(engine->keys, KEYS_SHOWN);
    cJSON *root = heartbeat(engine, now), *use = text != NULL ? cJSON_Parse(text) : NULL;

    free(text);
    if (use != NULL) {
        cJSON_AddItemToObject(root, "keyUse", use);
    }
    return hlt_jsondoc_print(root);
}

uint64_t hlt_document_hash(const struct hlt_engine *engine, const void *text, size_t len)
{
    return hlt_hash(&engine->devices.key, text, len);
}
