/* device.c - `haltere device`: what the broker knows of each device, read from the store. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/rules.h"
#include "../shared/telemetry.h"
#include "../shared/text.h"
#include "device_denials.h"
#include "reader.h"

/* --- device list --- */

/* What a line of the list needs. A million of these are held, full records are not; the read
 * transaction must not wait for a slow terminal. */
struct row {
    size_t id_at, class_at, address_at; /* in the arena */
    int64_t last_seen_ms;
    uint64_t messages;
    float health;
    uint8_t band, online, status, metrics;
};

struct list {
    struct row *row;
    size_t count, room;
    char *text;
    size_t text_len, text_room;
    uint64_t damaged;
    /* filters */
    const char *prefix, *device_class;
    bool online_only;
    int band; /* -1: any */
    size_t limit;
};

static size_t keep_text(struct list *list, const char *text, size_t len)
{
    if (list->text_room - list->text_len <= len) {
        list->text_room = (list->text_room + len + 1) * 2;
        list->text = hlt_cli_resize(list->text, list->text_room);
    }
    size_t at = list->text_len;
    memcpy(list->text + at, text, len);
    list->text[at + len] = '\0';
    list->text_len += len + 1;
    return at;
}

static bool wanted(const struct list *list, const struct hlt_device_record *record)
{
    return (!list->online_only || record->online != 0) &&
           (list->band < 0 || record->band == list->band) &&
           (list->device_class == NULL || strcmp(record->device_class, list->device_class) == 0);
}

static bool collect(void *context, const void *key, size_t key_len, const void *value,
                    size_t value_len)
{
    struct list *list = context;
    struct hlt_device_record record;

    if (list->prefix != NULL) {
        size_t len = strlen(list->prefix);
        int order = memcmp(key, list->prefix, len < key_len ? len : key_len);
        if (order != 0 || key_len < len) {
            return order <= 0; /* keys come in order: nothing fits behind the prefix */
        }
    }
    if (hlt_device_record_read(&record, value, value_len) != HLT_OK) {
        list->damaged++;
        return true;
    }
    if (!wanted(list, &record)) {
        return true;
    }
    if (list->count == list->limit) {
        return false;
    }
    if (list->count == list->room) {
        list->room = list->room > 0 ? list->room * 2 : 256;
        list->row = hlt_cli_resize(list->row, list->room * sizeof(*list->row));
    }
    list->row[list->count++] = (struct row){
        .id_at = keep_text(list, key, key_len),
        .class_at = keep_text(list, record.device_class, strlen(record.device_class)),
        .address_at = keep_text(list, record.address, strlen(record.address)),
        .last_seen_ms = record.last_seen_ms,
        .messages = record.messages,
        .health = record.health,
        .band = record.band,
        .online = record.online,
        .status = record.status,
        .metrics = (uint8_t)record.metric_count,
    };
    return true;
}

static void print_list(const struct list *list)
{
    static const char *const heads[] = {"<ID",       "<STATE",   "<BAND",  ">HEALTH", ">LAST SEEN",
                                        ">MESSAGES", ">METRICS", "<CLASS", "<ADDRESS"};
    struct hlt_table *table = hlt_table_new(heads, sizeof(heads) / sizeof(heads[0]));
    int64_t now_ms = hlt_cli_now_ms();

    for (size_t i = 0; i < list->count; i++) {
        const struct row *row = &list->row[i];
        char age[24] = "never";
        if (row->last_seen_ms > 0) {
            hlt_cli_age(now_ms - row->last_seen_ms, age);
        }
        hlt_table_cell(table, "%s", list->text + row->id_at);
        hlt_table_cell(table, "%s", hlt_reader_state(row->online != 0, row->status));
        hlt_table_cell(table, "%s", hlt_band_word(row->band));
        hlt_table_colour(table, hlt_reader_band_colour(row->band));
        hlt_table_cell(table, "%.2f", (double)row->health);
        hlt_table_cell(table, "%s", age);
        hlt_table_cell(table, "%llu", (unsigned long long)row->messages);
        hlt_table_cell(table, "%u", row->metrics);
        hlt_table_cell(table, "%s", list->text + row->class_at);
        hlt_table_cell(table, "%s", list->text + row->address_at);
    }
    hlt_table_print(table);
}

/* Two digits tell a health score; a float's tail of digits only looks exact. */
static double rounded(float value)
{
    return round((double)value * 10000.0) / 10000.0;
}

static int print_list_json(const struct list *list, bool live)
{
    printf("{\"live\":%s,\"devices\":[", live ? "true" : "false");
    for (size_t i = 0; i < list->count; i++) {
        const struct row *row = &list->row[i];
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "deviceId", list->text + row->id_at);
        hlt_reader_add_text(object, "status", hlt_reader_status(row->status));
        cJSON_AddBoolToObject(object, "online", row->online != 0);
        cJSON_AddStringToObject(object, "band", hlt_band_word(row->band));
        hlt_reader_add_number(object, "health", rounded(row->health));
        hlt_reader_add_date(object, "lastSeen", row->last_seen_ms);
        cJSON_AddNumberToObject(object, "messages", (double)row->messages);
        cJSON_AddNumberToObject(object, "metrics", row->metrics);
        hlt_reader_add_text(object, "deviceClass", list->text + row->class_at);
        hlt_reader_add_text(object, "address", list->text + row->address_at);
        (void)fputs(i > 0 ? ",\n" : "\n", stdout);
        int code = hlt_reader_print_compact(object);
        if (code != HLT_EXIT_OK) {
            return code;
        }
    }
    puts("\n]}");
    return HLT_EXIT_OK;
}

/* -1: no such band; a message was printed. */
static int band_of(const char *word)
{
    const char *words[HLT_BAND_CRITICAL + 2] = {NULL};

    for (unsigned i = 0; i <= HLT_BAND_CRITICAL; i++) {
        words[i] = hlt_band_word(i);
        if (strcmp(words[i], word) == 0) {
            return (int)i;
        }
    }
    const char *near = hlt_suggest(word, words);
    if (near != NULL) {
        hlt_cli_fail(HLT_EXIT_USAGE, "no band '%s': did you mean '%s'?", word, near);
    } else {
        hlt_cli_fail(HLT_EXIT_USAGE, "no band '%s': it is healthy, degraded, critical or unknown",
                     word);
    }
    return -1;
}

static int scan_and_print(struct list *list, const char *db, const char *config, bool json)
{
    struct hlt_reader reader;
    struct hlt_err err = {""};
    int code = hlt_reader_open(&reader, db, config);

    if (code != HLT_EXIT_OK) {
        return code;
    }
    if (hlt_store_each(reader.store, HLT_DB_DEVICES, collect, list, &err) != HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "cannot read the devices: %s", err.msg);
    } else if (json) {
        code = print_list_json(list, reader.live);
    } else {
        print_list(list);
        hlt_reader_note_stale(&reader);
    }
    code = hlt_reader_damaged(&reader, list->damaged, code);
    hlt_reader_close(&reader);
    return code;
}

static int run_list(int argc, char **argv)
{
    enum { DB, CONFIG, ONLINE, BAND, CLASS, PREFIX, LIMIT, JSON, COUNT };
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        {"online", NULL, "only devices that are connected"},
        {"band", "BAND", "only this health band: healthy, degraded, critical, unknown"},
        {"class", "CLASS", "only this device class"},
        {"prefix", "TEXT", "only ids that start with this"},
        {"limit", "N", "no more than this many"},
        {"json", NULL, "print {\"devices\":[...]}"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere device list [--db DIR | --config CONF] [--online] [--band BAND] [--class CLASS] "
        "[--prefix TEXT] [--limit N] [--json]",
        "Lists the devices the broker knows, sorted by id, one per line.",
        options,
        0,
        0,
        "Examples:\n"
        "  haltere device list --band critical\n"
        "  haltere device list --prefix sensor- --json | jq '.devices[].deviceId'"};
    const char *values[COUNT];
    struct list list = {.band = -1};
    unsigned long long limit = SIZE_MAX;

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    if ((values[BAND] != NULL && (list.band = band_of(values[BAND])) < 0) ||
        !hlt_cli_number("limit", values[LIMIT], 1, SIZE_MAX / 2, &limit)) {
        return HLT_EXIT_USAGE;
    }
    list.limit = (size_t)limit;
    list.online_only = values[ONLINE] != NULL;
    list.prefix = values[PREFIX];
    list.device_class = values[CLASS];
    int code = scan_and_print(&list, values[DB], values[CONFIG], values[JSON] != NULL);
    free(list.row);
    free(list.text);
    return code;
}

/* --- device show --- */

struct open_alerts {
    const char *device_id;
    struct hlt_alert_record *item;
    size_t count;
    uint64_t damaged;
};

static bool collect_alert(void *context, const void *key, size_t key_len, const void *value,
                          size_t value_len)
{
    struct open_alerts *alerts = context;
    size_t id_bytes = strlen(alerts->device_id) + 1; /* keys: deviceId NUL alertname NUL metric */
    int order = memcmp(key, alerts->device_id, id_bytes < key_len ? id_bytes : key_len);
    struct hlt_alert_record record;

    if (order != 0 || key_len < id_bytes) {
        return order <= 0;
    }
    if (hlt_alert_record_read(&record, value, value_len) != HLT_OK) {
        alerts->damaged++;
    } else if (hlt_reader_alert_open(&record)) {
        alerts->item = hlt_cli_resize(alerts->item, (alerts->count + 1) * sizeof(*alerts->item));
        alerts->item[alerts->count++] = record;
    }
    return true;
}

static void field(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One line "Name   text", left out where there is no text. */
static void field(const char *name, const char *fmt, ...)
{
    char text[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (text[0] != '\0') {
        printf("%s%-20s%s", hlt_cli_dim(), name, hlt_cli_reset());
        hlt_cli_print_text(stdout, text);
        putchar('\n');
    }
}

static void field_date(const char *name, int64_t unix_ms)
{
    char date[HLT_DATE_BYTES], age[24];

    if (unix_ms > 0) {
        hlt_date_format(unix_ms, date);
        hlt_cli_age(hlt_cli_now_ms() - unix_ms, age);
        field(name, "%s (%s ago)", date, age);
    }
}

static void field_number(const char *name, double value, const char *unit)
{
    if (isfinite(value)) {
        field(name, "%g%s", value, unit);
    }
}

static void print_fields(const char *id, const struct hlt_device_record *device)
{
    field("Device", "%s", id);
    field("State", "%s", hlt_reader_state(device->online != 0, device->status));
    printf("%s%-20s%s%s%s%s (%.2f)\n", hlt_cli_dim(), "Health", hlt_cli_reset(),
           hlt_reader_band_colour(device->band), hlt_band_word(device->band), hlt_cli_reset(),
           (double)device->health);
    field_date("In this band since", device->since_ms);
    field("Class", "%s", device->device_class);
    field("Firmware", "%s", device->firmware);
    field("Address", "%s", device->address);
    field_date("First seen", device->first_seen_ms);
    field_date("Last seen", device->last_seen_ms);
    field_date("Last connect", device->last_connect_ms);
    field_date("Last disconnect", device->last_disconnect_ms);
    if (device->disconnect_reason != HLT_GONE_NONE) {
        field("Disconnected by", "%s", hlt_disconnect_word(device->disconnect_reason));
    }
    if (device->token_exp_s > 0 && device->token_exp_s < INT64_MAX / 1000) {
        char date[HLT_DATE_BYTES];
        hlt_date_format(device->token_exp_s * 1000, date);
        field("Token expires", "%s", date);
    }
    field("Messages", "%llu (%llu bytes)", (unsigned long long)device->messages,
          (unsigned long long)device->bytes);
    if (device->cadence_s > 0) {
        field("Interval", "%.3g s, learnt from %u messages", (double)device->cadence_s,
              device->cadence_count);
    }
    field("Refused", "%llu malformed, %llu denied, %llu failed logins",
          (unsigned long long)device->malformed, (unsigned long long)device->denied,
          (unsigned long long)device->auth_failures);
    field("Anomalies", "%llu", (unsigned long long)device->anomalies);
    field("Connects", "%llu", (unsigned long long)device->connects);
    field_number("CPU", (double)device->cpu, " %");
    field_number("Memory", (double)device->memory, " %");
    field_number("Disk", (double)device->disk, " %");
    field_number("Battery", (double)device->battery, " %");
    field_number("Uptime", device->uptime_s, " s");
    field("Detector", "%s", device->detector);
}

static void print_metrics(const struct hlt_reader *reader, const struct hlt_device_record *device)
{
    static const char *const heads[] = {"<METRIC", ">LAST",   ">EXPECTED",
                                        ">SCORE",  ">VALUES", ">AGE"};
    struct hlt_table *table = hlt_table_new(heads, sizeof(heads) / sizeof(heads[0]));

    for (size_t i = 0; i < device->metric_count; i++) {
        const struct hlt_metric_record *metric = &device->metric[i];
        char *name = hlt_reader_metric_name(reader, metric->name_id);
        char age[24];
        hlt_cli_age(hlt_cli_now_ms() - metric->time_ms, age);
        hlt_table_cell(table, "%s", name);
        hlt_table_cell(table, "%.6g", metric->value);
        hlt_table_cell(table, isfinite(metric->expected) ? "%.6g" : "-", (double)metric->expected);
        hlt_table_cell(table, isfinite(metric->score) ? "%.2f" : "-", (double)metric->score);
        hlt_table_cell(table, "%llu", (unsigned long long)metric->count);
        hlt_table_cell(table, "%s", age);
        free(name);
    }
    putchar('\n');
    hlt_table_print(table);
}

static void print_alerts(const struct open_alerts *alerts)
{
    static const char *const heads[] = {"<SEVERITY", "<STATUS", "<ALERT",  "<METRIC",
                                        ">COUNT",    ">AGE",    "<MESSAGE"};
    struct hlt_table *table = hlt_table_new(heads, sizeof(heads) / sizeof(heads[0]));

    for (size_t i = 0; i < alerts->count; i++) {
        const struct hlt_alert_record *alert = &alerts->item[i];
        char age[24];
        hlt_cli_age(hlt_cli_now_ms() - alert->starts_ms, age);
        hlt_table_cell(table, "%s", hlt_severity_word(alert->severity));
        hlt_table_colour(table, hlt_reader_severity_colour(alert->severity));
        hlt_table_cell(table, "%s", hlt_alert_status_word(alert->status));
        hlt_table_cell(table, "%s", alert->name);
        hlt_table_cell(table, "%s", alert->metric);
        hlt_table_cell(table, "%llu", (unsigned long long)alert->count);
        hlt_table_cell(table, "%s", age);
        hlt_table_cell(table, "%s", alert->message);
    }
    putchar('\n');
    hlt_table_print(table);
}

static cJSON *metrics_json(const struct hlt_reader *reader, const struct hlt_device_record *device)
{
    cJSON *array = cJSON_CreateArray();

    for (size_t i = 0; i < device->metric_count; i++) {
        const struct hlt_metric_record *metric = &device->metric[i];
        cJSON *object = cJSON_CreateObject();
        char *name = hlt_reader_metric_name(reader, metric->name_id);
        cJSON_AddStringToObject(object, "metric", name);
        hlt_reader_add_number(object, "value", metric->value);
        hlt_reader_add_number(object, "expected", rounded(metric->expected));
        hlt_reader_add_number(object, "score", rounded(metric->score));
        cJSON_AddNumberToObject(object, "count", (double)metric->count);
        hlt_reader_add_date(object, "time", metric->time_ms);
        cJSON_AddItemToArray(array, object);
        free(name);
    }
    return array;
}

static cJSON *device_json(const char *id, const struct hlt_device_record *device)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "deviceId", id);
    hlt_reader_add_text(object, "status", hlt_reader_status(device->status));
    cJSON_AddBoolToObject(object, "online", device->online != 0);
    hlt_reader_add_number(object, "health", rounded(device->health));
    cJSON_AddStringToObject(object, "band", hlt_band_word(device->band));
    hlt_reader_add_date(object, "since", device->since_ms);
    hlt_reader_add_date(object, "firstSeen", device->first_seen_ms);
    hlt_reader_add_date(object, "lastSeen", device->last_seen_ms);
    hlt_reader_add_date(object, "lastConnect", device->last_connect_ms);
    hlt_reader_add_date(object, "lastDisconnect", device->last_disconnect_ms);
    if (device->disconnect_reason != HLT_GONE_NONE) {
        cJSON_AddStringToObject(object, "disconnectReason",
                                hlt_disconnect_word(device->disconnect_reason));
    }
    hlt_reader_add_text(object, "deviceClass", device->device_class);
    hlt_reader_add_text(object, "firmwareVersion", device->firmware);
    hlt_reader_add_text(object, "address", device->address);
    hlt_reader_add_number(object, "battery", (double)device->battery);
    hlt_reader_add_number(object, "cpu", (double)device->cpu);
    hlt_reader_add_number(object, "memory", (double)device->memory);
    hlt_reader_add_number(object, "disk", (double)device->disk);
    hlt_reader_add_number(object, "uptime", device->uptime_s);
    cJSON_AddNumberToObject(object, "messages", (double)device->messages);
    cJSON_AddNumberToObject(object, "bytes", (double)device->bytes);
    cJSON_AddNumberToObject(object, "malformed", (double)device->malformed);
    cJSON_AddNumberToObject(object, "denied", (double)device->denied);
    cJSON_AddNumberToObject(object, "anomalies", (double)device->anomalies);
    cJSON_AddNumberToObject(object, "connects", (double)device->connects);
    cJSON_AddNumberToObject(object, "authFailures", (double)device->auth_failures);
    if (device->cadence_s > 0) {
        hlt_reader_add_number(object, "interval", rounded(device->cadence_s));
    }
    if (device->token_exp_s > 0 && device->token_exp_s < INT64_MAX / 1000) {
        hlt_reader_add_date(object, "tokenExp", device->token_exp_s * 1000);
    }
    hlt_reader_add_text(object, "detector", device->detector);
    cJSON_AddNumberToObject(object, "version", device->version);
    return object;
}

static int print_device(const struct hlt_reader *reader, const char *id,
                        const struct hlt_device_record *device, const struct open_alerts *alerts,
                        bool json)
{
    if (json) {
        char *stream = hlt_reader_blob(reader, HLT_DB_META, "stream");
        cJSON *object = device_json(id, device), *array = cJSON_CreateArray();
        for (size_t i = 0; i < alerts->count; i++) {
            cJSON_AddItemToArray(array, hlt_reader_alert_json(&alerts->item[i], stream));
        }
        cJSON_AddItemToObject(object, "metrics", metrics_json(reader, device));
        cJSON_AddItemToObject(object, "alerts", array);
        cJSON_AddBoolToObject(object, "live", reader->live);
        free(stream);
        return hlt_cli_print_json(object);
    }
    print_fields(id, device);
    if (device->metric_count > 0) {
        print_metrics(reader, device);
    }
    if (alerts->count > 0) {
        print_alerts(alerts);
    }
    hlt_reader_note_stale(reader);
    return HLT_EXIT_OK;
}

static int show(const struct hlt_reader *reader, const char *id, bool json)
{
    struct open_alerts alerts = {.device_id = id};
    struct hlt_device_record record;
    struct hlt_err err = {""};
    void *value = NULL;
    size_t len = 0;
    int code;

    enum hlt_rc rc =
        strlen(id) == 0 || strlen(id) > HLT_ID_MAX
            ? HLT_ENOTFOUND /* no key of the store can be like this */
            : hlt_store_get(reader->store, HLT_DB_DEVICES, id, strlen(id), &value, &len, &err);
    if (rc == HLT_ENOTFOUND) {
        code = hlt_cli_fail(HLT_EXIT_NO, "no device '%s' in %s", id, reader->path);
    } else if (rc != HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "cannot read device '%s': %s", id, err.msg);
    } else if (hlt_device_record_read(&record, value, len) != HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "the record of device '%s' is damaged", id);
    } else if (hlt_store_each(reader->store, HLT_DB_ALERTS, collect_alert, &alerts, &err) !=
               HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "cannot read the alerts: %s", err.msg);
    } else {
        code = print_device(reader, id, &record, &alerts, json);
        code = hlt_reader_damaged(reader, alerts.damaged, code);
    }
    free(alerts.item);
    free(value);
    return code;
}

static int run_show(int argc, char **argv)
{
    enum { DB, CONFIG, JSON, COUNT };
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        {"json", NULL, "print one JSON object"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere device show [--db DIR | --config CONF] [--json] ID",
        "Shows all that is known of one device: its state and health, each metric's last and "
        "expected value, and its open alerts.",
        options,
        1,
        1,
        "Exit code 1: there is no such device."};
    const char *values[COUNT], *id;
    struct hlt_reader reader;

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, &id, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    int code = hlt_reader_open(&reader, values[DB], values[CONFIG]);
    if (code != HLT_EXIT_OK) {
        return code;
    }
    code = show(&reader, id, values[JSON] != NULL);
    hlt_reader_close(&reader);
    return code;
}

int hlt_cmd_device(int argc, char **argv)
{
    static const struct hlt_cli_verb verbs[] = {
        {"list", run_list, "all devices with state and health"},
        {"show", run_show, "one device with its metrics and open alerts"},
        {"denials", hlt_device_denials, "what the policy denied it last"},
        {NULL, NULL, NULL},
    };
    return hlt_cli_dispatch("device", verbs, argc, argv);
}
