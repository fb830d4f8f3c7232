/* reader.c - opens the store for the reading verbs and turns its records into JSON. */
#include "reader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/jsondoc.h"
#include "../shared/rules.h"
#include "../shared/telemetry.h"
#include "../shared/text.h"

int hlt_reader_open(struct hlt_reader *out, const char *db, const char *config)
{
    struct hlt_err err = {""};
    struct hlt_reader reader = {.path = hlt_cli_db_path(db, config)};

    if (reader.path == NULL) {
        return HLT_EXIT_IO; /* the message is out */
    }
    if (hlt_store_open_reader(&reader.store, reader.path, &err) != HLT_OK) {
        hlt_cli_fail(HLT_EXIT_IO, "cannot read the store: %s", err.msg);
        free(reader.path);
        return HLT_EXIT_IO;
    }
    reader.live = hlt_store_in_use(reader.path, &reader.pid);
    *out = reader;
    return HLT_EXIT_OK;
}

void hlt_reader_close(struct hlt_reader *reader)
{
    hlt_store_close(reader->store);
    free(reader->path);
    *reader = (struct hlt_reader){NULL, NULL, false, 0};
}

void hlt_reader_note_stale(const struct hlt_reader *reader)
{
    if (!reader->live) {
        (void)fflush(stdout);
        (void)fprintf(stderr, "%sno broker runs on this store: states are as last written%s\n",
                      hlt_cli_yellow_err(), hlt_cli_reset_err());
    }
}

int hlt_reader_damaged(const struct hlt_reader *reader, uint64_t damaged, int code)
{
    if (damaged == 0) {
        return code;
    }
    return hlt_cli_fail(HLT_EXIT_IO,
                        "%llu damaged records were passed over: run 'haltere store check --db %s'",
                        (unsigned long long)damaged, reader->path);
}

/* A blob's bytes with a NUL behind them. */
static char *blob_text(const struct hlt_reader *reader, enum hlt_db db, const void *key,
                       size_t key_len)
{
    void *value = NULL;
    size_t len = 0, data_len = 0;
    const void *data = NULL;
    char *text = NULL;

    if (hlt_store_get(reader->store, db, key, key_len, &value, &len, NULL) != HLT_OK) {
        return NULL;
    }
    if (hlt_blob_record_read(&data, &data_len, value, len) == HLT_OK) {
        text = hlt_cli_resize(NULL, data_len + 1);
        memcpy(text, data, data_len);
        text[data_len] = '\0';
    }
    free(value);
    return text;
}

char *hlt_reader_blob(const struct hlt_reader *reader, enum hlt_db db, const char *key)
{
    return blob_text(reader, db, key, strlen(key));
}

char *hlt_reader_metric_name(const struct hlt_reader *reader, uint16_t name_id)
{
    const uint8_t key[2] = {(uint8_t)(name_id >> 8), (uint8_t)(name_id & 0xff)};
    char *name = blob_text(reader, HLT_DB_METRICS, key, sizeof(key));

    if (name == NULL) {
        name = hlt_cli_resize(NULL, 16);
        (void)snprintf(name, 16, "#%u", (unsigned)name_id);
    }
    return name;
}

const char *hlt_reader_text_of(const cJSON *object, const char *name)
{
    const char *text = hlt_jsondoc_text(object, name);

    return text != NULL ? text : "";
}

double hlt_reader_number_of(const cJSON *object, const char *name)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsNumber(member) ? member->valuedouble : 0;
}

void hlt_reader_add_date(cJSON *object, const char *name, int64_t unix_ms)
{
    char date[HLT_DATE_BYTES];

    if (unix_ms > 0) {
        hlt_date_format(unix_ms, date);
        cJSON_AddStringToObject(object, name, date);
    }
}

void hlt_reader_add_number(cJSON *object, const char *name, double value)
{
    if (isfinite(value)) {
        cJSON_AddNumberToObject(object, name, value);
    }
}

void hlt_reader_add_text(cJSON *object, const char *name, const char *text)
{
    if (text[0] != '\0') {
        cJSON_AddStringToObject(object, name, text);
    }
}

bool hlt_reader_alert_open(const struct hlt_alert_record *alert)
{
    return alert->status != HLT_ALERT_RESOLVED;
}

static void add_labels(cJSON *object, const struct hlt_alert_record *alert)
{
    cJSON *labels = cJSON_AddObjectToObject(object, "labels");

    cJSON_AddStringToObject(labels, "alertname", alert->name);
    cJSON_AddStringToObject(labels, "deviceId", alert->device_id);
    cJSON_AddStringToObject(labels, "severity", hlt_severity_word(alert->severity));
    hlt_reader_add_text(labels, "metric", alert->metric);
}

cJSON *hlt_reader_alert_json(const struct hlt_alert_record *alert, const char *stream)
{
    cJSON *object = cJSON_CreateObject();
    char id[33];

    hlt_alert_id(alert->device_id, alert->name, alert->metric, alert->episode, id);
    cJSON_AddNumberToObject(object, "v", 1);
    cJSON_AddStringToObject(object, "id", id);
    hlt_reader_add_text(object, "stream", stream != NULL ? stream : "");
    cJSON_AddNumberToObject(object, "seq", (double)alert->seq);
    cJSON_AddStringToObject(object, "status", hlt_alert_status_word(alert->status));
    cJSON_AddStringToObject(object, "severity", hlt_severity_word(alert->severity));
    cJSON_AddStringToObject(object, "alertname", alert->name);
    cJSON_AddStringToObject(object, "deviceId", alert->device_id);
    hlt_reader_add_text(object, "metric", alert->metric);
    hlt_reader_add_number(object, "value", alert->value);
    hlt_reader_add_number(object, "expected", alert->expected);
    hlt_reader_add_number(object, "threshold", alert->threshold);
    hlt_reader_add_number(object, "score", alert->score);
    cJSON_AddNumberToObject(object, "count", (double)alert->count);
    cJSON_AddStringToObject(object, "message", alert->message);
    add_labels(object, alert);
    hlt_reader_add_date(object, "startsAt", alert->starts_ms);
    hlt_reader_add_date(object, "endsAt", alert->ends_ms);
    hlt_reader_add_date(object, "updatedAt", alert->updated_ms);
    hlt_reader_add_text(object, "acknowledgedBy", alert->acknowledged_by);
    hlt_reader_add_date(object, "acknowledgedAt", alert->acknowledged_ms);
    cJSON_AddNumberToObject(object, "ts", (double)alert->updated_ms);
    return object;
}

const char *hlt_reader_severity_colour(unsigned severity)
{
    switch (severity) {
    case HLT_SEV_CRITICAL: return hlt_cli_red();
    case HLT_SEV_WARNING: return hlt_cli_yellow();
    default: return "";
    }
}

const char *hlt_reader_band_colour(unsigned band)
{
    switch (band) {
    case HLT_BAND_CRITICAL: return hlt_cli_red();
    case HLT_BAND_DEGRADED: return hlt_cli_yellow();
    case HLT_BAND_HEALTHY: return hlt_cli_green();
    default: return "";
    }
}

const char *hlt_reader_state(bool online, unsigned status)
{
    if (!online) {
        return "offline";
    }
    return status == HLT_STATUS_MAINTENANCE ? "maintenance"
           : status == HLT_STATUS_ERROR     ? "error"
                                            : "online";
}

const char *hlt_reader_status(unsigned status)
{
    static const char *const words[] = {
        [HLT_STATUS_UNKNOWN] = "",        [HLT_STATUS_ONLINE] = "online",
        [HLT_STATUS_OFFLINE] = "offline", [HLT_STATUS_MAINTENANCE] = "maintenance",
        [HLT_STATUS_ERROR] = "error",
    };
    return status < sizeof(words) / sizeof(words[0]) ? words[status] : "";
}

int hlt_reader_print_compact(cJSON *document)
{
    char *text = cJSON_PrintUnformatted(document);

    cJSON_Delete(document);
    if (text == NULL) {
        return hlt_cli_fail(HLT_EXIT_IO, "out of memory");
    }
    (void)fputs(text, stdout);
    cJSON_free(text);
    return HLT_EXIT_OK;
}
