/* document.c - the JSON documents Haltere publishes (shapes: DESIGN 5, README "Topics"). */
#include <cjson/cJSON.h>
#include <math.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"
#include "text.h"

#define KEYS_SHOWN 64 /* keys in the answer to getStatus; the store has all of them */

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
static char *print(cJSON *object)
{
    char *text = cJSON_PrintUnformatted(object), *copy = NULL;

    cJSON_Delete(object);
    if (text != NULL) {
        copy = strdup(text);
        cJSON_free(text);
    }
    return copy;
}

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
    return print(root);
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
    return print(root);
}

/* --- events: every login makes two, and through cJSON each cost 1.8 us. What has few plain members
 * is written straight into its own memory. */

/* The letter after the backslash of a byte that JSON does not take as it is, 'u' for \u00XX. */
static const char escape[256] = {
    [0] = 'u',    [1] = 'u',    [2] = 'u',    [3] = 'u',    [4] = 'u',    [5] = 'u',
    [6] = 'u',    [7] = 'u',    ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', [0x0b] = 'u',
    ['\f'] = 'f', ['\r'] = 'r', [0x0e] = 'u', [0x0f] = 'u', [0x10] = 'u', [0x11] = 'u',
    [0x12] = 'u', [0x13] = 'u', [0x14] = 'u', [0x15] = 'u', [0x16] = 'u', [0x17] = 'u',
    [0x18] = 'u', [0x19] = 'u', [0x1a] = 'u', [0x1b] = 'u', [0x1c] = 'u', [0x1d] = 'u',
    [0x1e] = 'u', [0x1f] = 'u', ['"'] = '"',  ['\\'] = '\\'};

/* Bytes of the text in quotes at most, and of a comma. */
static size_t quoted_room(const char *text)
{
    size_t room = sizeof("\"\",") - 1;

    for (; *text != '\0'; text++) {
        room += escape[(unsigned char)*text] == 0 ? 1 : 6;
    }
    return room;
}

static char *put_quoted(char *at, const char *text)
{
    static const char hex[] = "0123456789abcdef";

    *at++ = '"';
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (escape[byte] == 0) {
            *at++ = *text;
            continue;
        }
        *at++ = '\\';
        *at++ = escape[byte];
        if (escape[byte] == 'u') {
            at = stpcpy(at, "00");
            *at++ = hex[byte >> 4];
            *at++ = hex[byte & 0xfU];
        }
    }
    *at++ = '"';
    return at;
}

static char *put_number(char *at, int64_t value)
{
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    char digits[20];
    size_t count = 0;

    if (value < 0) {
        *at++ = '-';
    }
    do {
        digits[count++] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    while (count > 0) {
        *at++ = digits[--count];
    }
    return at;
}

static char *put_filters(char *at, const struct hlt_event *event)
{
    if (event->filter_count == 0) {
        return at;
    }
    at = stpcpy(at, ",\"filters\":");
    for (size_t i = 0; i < event->filter_count; i++) {
        *at++ = i == 0 ? '[' : ',';
        at = put_quoted(at, event->filters[i]);
    }
    *at++ = ']';
    return at;
}

/* "" if there is none: such members are left out. */
static void date_of(int64_t unix_ms, char out[HLT_DATE_BYTES])
{
    out[0] = '\0';
    if (unix_ms > 0) {
        hlt_date_format(unix_ms, out);
    }
}

char *hlt_document_event(const struct hlt_device *device, const struct hlt_event *event,
                         int64_t wall_ms)
{
    char expires[HLT_DATE_BYTES], time[HLT_DATE_BYTES];
    const struct {
        const char *head, *text;
        bool plain; /* needs no escape */
    } member[] = {{",\"deviceId\":", device->id, false},
                  {",\"type\":", event->type, true},
                  {",\"reason\":", event->reason, true},
                  {",\"clientId\":", event->client_id, false},
                  {",\"address\":", device->address, false},
                  {",\"tokenExp\":", expires, true},
                  {",\"time\":", time, true}};
    const size_t members = sizeof(member) / sizeof(member[0]);
    size_t room = sizeof("{\"v\":1,\"filters\":[],\"ts\":-9223372036854775808}");

    date_of(device->token_exp_s * 1000, expires);
    date_of(wall_ms, time);
    for (size_t i = 0; i < members; i++) {
        const char *text = member[i].text != NULL ? member[i].text : "";
        room += strlen(member[i].head) + (member[i].plain ? strlen(text) + 2 : quoted_room(text));
    }
    for (size_t i = 0; i < event->filter_count; i++) {
        room += quoted_room(event->filters[i]);
    }
    char *document = malloc(room);
    if (document == NULL) {
        return NULL;
    }
    char *at = stpcpy(document, "{\"v\":1");
    for (size_t i = 0; i < members; i++) {
        if (member[i].text == NULL || member[i].text[0] == '\0') {
            continue;
        }
        at = stpcpy(at, member[i].head);
        at = member[i].plain ? stpcpy(stpcpy(stpcpy(at, "\""), member[i].text), "\"")
                             : put_quoted(at, member[i].text);
    }
    at = put_filters(at, event);
    at = put_number(stpcpy(at, ",\"ts\":"), wall_ms);
    memcpy(at, "}", 2);
    return document;
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
    return root;
}

char *hlt_document_heartbeat(const struct hlt_engine *engine, struct hlt_now now)
{
    return print(heartbeat(engine, now));
}

char *hlt_document_status(const struct hlt_engine *engine, struct hlt_now now)
{
    char *text = hlt_keyuse_text(engine->keys, KEYS_SHOWN);
    cJSON *root = heartbeat(engine, now), *use = text != NULL ? cJSON_Parse(text) : NULL;

    free(text);
    if (use != NULL) {
        cJSON_AddItemToObject(root, "keyUse", use);
    }
    return print(root);
}

uint64_t hlt_document_hash(const struct hlt_engine *engine, const void *text, size_t len)
{
    return hlt_hash(&engine->devices.key, text, len);
}
