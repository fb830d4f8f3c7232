/* fleet.c - `haltere fleet`: the whole fleet at a glance, read from the store. */
#include <stdlib.h>
#include <string.h>

#include "../shared/rules.h"
#include "reader.h"

struct fleet {
    uint64_t devices, online, messages, metrics, damaged;
    uint64_t by_band[HLT_BAND_CRITICAL + 1];
    uint64_t open, by_severity[HLT_SEV_CRITICAL + 1];
    struct hlt_store_info store;
    cJSON *engine; /* the plugin's own numbers as last written (its heartbeat); NULL: none */
};

static bool count_device(void *context, const void *key, size_t key_len, const void *value,
                         size_t value_len)
{
    struct fleet *fleet = context;
    struct hlt_device_record record;

    (void)key;
    (void)key_len;
    if (hlt_device_record_read(&record, value, value_len) != HLT_OK) {
        fleet->damaged++;
        return true;
    }
    fleet->devices++;
    fleet->online += record.online != 0;
    fleet->messages += record.messages;
    fleet->metrics += record.metric_count;
    fleet->by_band[record.band <= HLT_BAND_CRITICAL ? record.band : HLT_BAND_UNKNOWN]++;
    return true;
}

static bool count_alert(void *context, const void *key, size_t key_len, const void *value,
                        size_t value_len)
{
    struct fleet *fleet = context;
    struct hlt_alert_record record;

    (void)key;
    (void)key_len;
    if (hlt_alert_record_read(&record, value, value_len) != HLT_OK) {
        fleet->damaged++;
    } else if (hlt_reader_alert_open(&record)) {
        fleet->open++;
        fleet->by_severity[record.severity <= HLT_SEV_CRITICAL ? record.severity : 0]++;
    }
    return true;
}

static int survey(const struct hlt_reader *reader, struct fleet *fleet)
{
    struct hlt_err err = {""};

    if (hlt_store_each(reader->store, HLT_DB_DEVICES, count_device, fleet, &err) != HLT_OK ||
        hlt_store_each(reader->store, HLT_DB_ALERTS, count_alert, fleet, &err) != HLT_OK ||
        hlt_store_info(reader->store, &fleet->store, &err) != HLT_OK) {
        return hlt_cli_fail(HLT_EXIT_IO, "cannot read the store: %s", err.msg);
    }
    char *text = hlt_reader_blob(reader, HLT_DB_COUNTERS, "engine");
    if (text != NULL) {
        fleet->engine = cJSON_Parse(text);
        free(text);
    }
    return HLT_EXIT_OK;
}

static int print_json(const struct hlt_reader *reader, struct fleet *fleet)
{
    cJSON *object = cJSON_CreateObject(), *part;

    cJSON_AddBoolToObject(object, "healthy", fleet->by_severity[HLT_SEV_CRITICAL] == 0);
    part = cJSON_AddObjectToObject(object, "devices");
    cJSON_AddNumberToObject(part, "total", (double)fleet->devices);
    cJSON_AddNumberToObject(part, "online", (double)fleet->online);
    for (unsigned i = 0; i <= HLT_BAND_CRITICAL; i++) {
        cJSON_AddNumberToObject(part, hlt_band_word(i), (double)fleet->by_band[i]);
    }
    part = cJSON_AddObjectToObject(object, "alerts");
    cJSON_AddNumberToObject(part, "open", (double)fleet->open);
    for (unsigned i = HLT_SEV_INFO; i <= HLT_SEV_CRITICAL; i++) {
        cJSON_AddNumberToObject(part, hlt_severity_word(i), (double)fleet->by_severity[i]);
    }
    cJSON_AddNumberToObject(object, "messages", (double)fleet->messages);
    cJSON_AddNumberToObject(object, "metrics", (double)fleet->metrics);
    part = cJSON_AddObjectToObject(object, "store");
    cJSON_AddStringToObject(part, "path", reader->path);
    cJSON_AddNumberToObject(part, "usedBytes", (double)fleet->store.used_bytes);
    cJSON_AddNumberToObject(part, "mapBytes", (double)fleet->store.map_bytes);
    hlt_reader_add_date(part, "flushed", fleet->store.flushed_ms);
    part = cJSON_AddObjectToObject(object, "broker");
    cJSON_AddBoolToObject(part, "running", reader->live);
    if (reader->live) {
        cJSON_AddNumberToObject(part, "pid", (double)reader->pid);
    }
    if (fleet->engine != NULL) {
        cJSON_AddItemToObject(object, "engine", fleet->engine);
        fleet->engine = NULL; /* deleted with the document */
    }
    cJSON_AddNumberToObject(object, "ts", (double)hlt_cli_now_ms());
    return hlt_cli_print_json(object);
}

/* A part of the whole, in its colour unless there is nothing to see. */
static void print_count(uint64_t count, const char *word, const char *colour)
{
    printf(", %s%llu %s%s", count > 0 ? colour : "", (unsigned long long)count, word,
           count > 0 ? hlt_cli_reset() : "");
}

static void print_value(const char *name, const cJSON *item)
{
    (void)fputs("  ", stdout);
    hlt_cli_print_text(stdout, name);
    size_t used = strlen(name);
    printf("%*s", used < 28 ? (int)(28 - used) : 1, "");
    if (cJSON_IsString(item)) {
        hlt_cli_print_text(stdout, item->valuestring);
    } else if (cJSON_IsNumber(item)) {
        printf("%.15g", item->valuedouble);
    } else {
        (void)fputs(cJSON_IsTrue(item) ? "true" : cJSON_IsFalse(item) ? "false" : "-", stdout);
    }
    putchar('\n');
}

/* The plugin's document grows from version to version: whatever is in it is shown, one line a
 * member, one level deep; counters that never counted are not worth a line. */
static void print_member(const cJSON *item)
{
    char name[128];

    if (!cJSON_IsObject(item)) {
        print_value(item->string, item);
        return;
    }
    for (const cJSON *child = item->child; child != NULL; child = child->next) {
        bool idle = cJSON_IsNumber(child) && child->valuedouble == 0.0;
        if (!cJSON_IsObject(child) && !cJSON_IsArray(child) && !idle) {
            (void)snprintf(name, sizeof(name), "%s.%s", item->string, child->string);
            print_value(name, child);
        }
    }
}

static void print_engine(const cJSON *engine, bool live)
{
    const cJSON *ts = cJSON_GetObjectItemCaseSensitive(engine, "ts");
    char age[24] = "an unknown time";

    if (cJSON_IsNumber(ts) && ts->valuedouble > 0 && ts->valuedouble < 9e15) {
        hlt_cli_age(hlt_cli_now_ms() - (int64_t)ts->valuedouble, age);
    }
    printf("\n%sThe plugin%s, as it wrote %s ago%s:\n", hlt_cli_bold(), hlt_cli_reset(), age,
           live ? "" : " (it is not running)");
    for (const cJSON *item = engine->child; item != NULL; item = item->next) {
        if (strcmp(item->string, "ts") != 0 && !cJSON_IsArray(item)) {
            print_member(item);
        }
    }
}

static int print_text(const struct hlt_reader *reader, const struct fleet *fleet)
{
    char age[24];

    printf("Devices   %llu, %llu online", (unsigned long long)fleet->devices,
           (unsigned long long)fleet->online);
    for (unsigned i = HLT_BAND_HEALTHY; i <= HLT_BAND_CRITICAL; i++) {
        print_count(fleet->by_band[i], hlt_band_word(i), hlt_reader_band_colour(i));
    }
    print_count(fleet->by_band[HLT_BAND_UNKNOWN], hlt_band_word(HLT_BAND_UNKNOWN), "");
    printf("\nAlerts    %llu open", (unsigned long long)fleet->open);
    for (unsigned i = HLT_SEV_CRITICAL; i >= HLT_SEV_INFO; i--) {
        print_count(fleet->by_severity[i], hlt_severity_word(i), hlt_reader_severity_colour(i));
    }
    printf("\nMessages  %llu, %llu metrics\n", (unsigned long long)fleet->messages,
           (unsigned long long)fleet->metrics);
    (void)fputs("Store     ", stdout);
    hlt_cli_print_text(stdout, reader->path);
    printf(", %.1f MiB used", (double)fleet->store.used_bytes / (1024.0 * 1024.0));
    if (fleet->store.flushed_ms > 0) {
        hlt_cli_age(hlt_cli_now_ms() - fleet->store.flushed_ms, age);
        printf(", written %s ago", age);
    }
    putchar('\n');
    if (reader->live) {
        printf("Broker    running, pid %ld\n", reader->pid);
    } else {
        printf("Broker    %snot running%s on this store: states are as last written\n",
               hlt_cli_yellow(), hlt_cli_reset());
    }
    if (cJSON_IsObject(fleet->engine)) {
        print_engine(fleet->engine, reader->live);
    }
    return HLT_EXIT_OK;
}

static int run_status(int argc, char **argv)
{
    enum { DB, CONFIG, JSON, COUNT };
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        {"json", NULL, "print one JSON object"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere fleet status [--db DIR | --config CONF] [--json]",
        "Counts the devices by state and health and the open alerts by severity, and shows what "
        "the plugin last said of itself.",
        options,
        0,
        0,
        "Exit code 1: a critical alert is open."};
    const char *values[COUNT];
    struct hlt_reader reader;
    struct fleet fleet = {0};

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    int code = hlt_reader_open(&reader, values[DB], values[CONFIG]);
    if (code != HLT_EXIT_OK) {
        return code;
    }
    code = survey(&reader, &fleet);
    if (code == HLT_EXIT_OK) {
        code = values[JSON] != NULL ? print_json(&reader, &fleet) : print_text(&reader, &fleet);
        if (code == HLT_EXIT_OK && fleet.by_severity[HLT_SEV_CRITICAL] > 0) {
            code = HLT_EXIT_NO;
        }
        code = hlt_reader_damaged(&reader, fleet.damaged, code);
    }
    cJSON_Delete(fleet.engine);
    hlt_reader_close(&reader);
    return code;
}

int hlt_cmd_fleet(int argc, char **argv)
{
    static const struct hlt_cli_verb verbs[] = {
        {"status", run_status, "devices, alerts, store and broker in one view"},
        {NULL, NULL, NULL},
    };
    return hlt_cli_dispatch("fleet", verbs, argc, argv);
}
