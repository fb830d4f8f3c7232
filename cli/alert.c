/* alert.c - `haltere alert`: what is wrong now, read from the store. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/rules.h"
#include "reader.h"

/* Alerts are kept packed (some 300 bytes) and unpacked to print: the record itself is five times
 * that. */
struct item {
    int64_t starts_ms;
    size_t at, len; /* in the arena */
    uint8_t open, severity;
};

struct list {
    struct item *item;
    size_t count, room;
    char *bytes;
    size_t bytes_len, bytes_room;
    uint64_t damaged;
    const char *device_id; /* NULL: all devices */
    bool all;
};

static bool collect(void *context, const void *key, size_t key_len, const void *value,
                    size_t value_len)
{
    struct list *list = context;
    struct hlt_alert_record record;

    (void)key;
    (void)key_len;
    if (hlt_alert_record_read(&record, value, value_len) != HLT_OK) {
        list->damaged++;
        return true;
    }
    bool open = hlt_reader_alert_open(&record);
    if ((!open && !list->all) ||
        (list->device_id != NULL && strcmp(list->device_id, record.device_id) != 0)) {
        return true;
    }
    if (list->count == list->room) {
        list->room = list->room > 0 ? list->room * 2 : 64;
        list->item = hlt_cli_resize(list->item, list->room * sizeof(*list->item));
    }
    if (list->bytes_room - list->bytes_len < value_len) {
        list->bytes_room = (list->bytes_room + value_len) * 2;
        list->bytes = hlt_cli_resize(list->bytes, list->bytes_room);
    }
    memcpy(list->bytes + list->bytes_len, value, value_len);
    list->item[list->count++] =
        (struct item){record.starts_ms, list->bytes_len, value_len, open, record.severity};
    list->bytes_len += value_len;
    return true;
}

/* Open before resolved, the worst first, then the newest. */
static int by_urgency(const void *left, const void *right)
{
    const struct item *a = left, *b = right;

    if (a->open != b->open) {
        return a->open > b->open ? -1 : 1;
    }
    if (a->severity != b->severity) {
        return a->severity > b->severity ? -1 : 1;
    }
    if (a->starts_ms != b->starts_ms) {
        return a->starts_ms > b->starts_ms ? -1 : 1;
    }
    return a->at < b->at ? -1 : 1; /* then in the store's order: by device */
}

static void print_row(struct hlt_table *table, const struct hlt_alert_record *alert, bool ids)
{
    char age[24], id[33];

    hlt_cli_age(hlt_cli_now_ms() - alert->starts_ms, age);
    if (ids) {
        hlt_alert_id(alert->device_id, alert->name, alert->metric, alert->episode, id);
        hlt_table_cell(table, "%s", id);
    }
    hlt_table_cell(table, "%s", hlt_severity_word(alert->severity));
    hlt_table_colour(table, hlt_reader_severity_colour(alert->severity));
    hlt_table_cell(table, "%s", hlt_alert_status_word(alert->status));
    hlt_table_cell(table, "%s", alert->device_id);
    hlt_table_cell(table, "%s", alert->name);
    hlt_table_cell(table, "%s", alert->metric);
    hlt_table_cell(table, isfinite(alert->value) ? "%.6g" : "-", alert->value);
    hlt_table_cell(table, "%llu", (unsigned long long)alert->count);
    hlt_table_cell(table, "%s", age);
    hlt_table_cell(table, "%s", alert->message);
}

static void print_table(const struct list *list, bool ids)
{
    static const char *const heads[] = {"<ID",     "<SEVERITY", "<STATUS", "<DEVICE", "<ALERT",
                                        "<METRIC", ">VALUE",    ">COUNT",  ">AGE",    "<MESSAGE"};
    size_t skip = ids ? 0 : 1;
    struct hlt_table *table = hlt_table_new(heads + skip, sizeof(heads) / sizeof(heads[0]) - skip);

    for (size_t i = 0; i < list->count; i++) {
        struct hlt_alert_record record;
        if (hlt_alert_record_read(&record, list->bytes + list->item[i].at, list->item[i].len) ==
            HLT_OK) {
            print_row(table, &record, ids);
        }
    }
    hlt_table_print(table);
}

static int print_json(const struct list *list, const struct hlt_reader *reader)
{
    char *stream = hlt_reader_blob(reader, HLT_DB_META, "stream");
    int code = HLT_EXIT_OK;

    (void)fputs("{\"alerts\":[", stdout);
    for (size_t i = 0; i < list->count && code == HLT_EXIT_OK; i++) {
        struct hlt_alert_record record;
        if (hlt_alert_record_read(&record, list->bytes + list->item[i].at, list->item[i].len) ==
            HLT_OK) {
            (void)fputs(i > 0 ? ",\n" : "\n", stdout);
            code = hlt_reader_print_compact(hlt_reader_alert_json(&record, stream));
        }
    }
    puts("\n]}");
    free(stream);
    return code;
}

static int list_alerts(struct list *list, const struct hlt_reader *reader, bool json, bool ids)
{
    struct hlt_err err = {""};
    int code = HLT_EXIT_OK;

    if (hlt_store_each(reader->store, HLT_DB_ALERTS, collect, list, &err) != HLT_OK) {
        return hlt_cli_fail(HLT_EXIT_IO, "cannot read the alerts: %s", err.msg);
    }
    if (list->count > 0) {
        qsort(list->item, list->count, sizeof(*list->item), by_urgency);
    }
    if (json) {
        code = print_json(list, reader);
    } else if (list->count == 0) {
        puts(list->all ? "no alerts" : "no open alerts");
    } else {
        print_table(list, ids);
    }
    return hlt_reader_damaged(reader, list->damaged, code);
}

static int run_list(int argc, char **argv)
{
    enum { DB, CONFIG, ALL, DEVICE, IDS, JSON, COUNT };
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        {"all", NULL, "resolved ones too"},
        {"device", "ID", "only of this device ('$broker': of Haltere itself)"},
        {"ids", NULL, "show the incident ids by which alerts are acknowledged"},
        {"json", NULL, "print {\"alerts\":[...]}, members as in the alert messages"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere alert list [--db DIR | --config CONF] [--all] [--device ID] [--ids] [--json]",
        "Lists the open alerts (firing or acknowledged): the worst first, then the newest.",
        options,
        0,
        0,
        "Example:\n"
        "  haltere alert list --json | jq -r '.alerts[] | [.deviceId, .message] | @tsv'"};
    const char *values[COUNT];
    struct hlt_reader reader;

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    int code = hlt_reader_open(&reader, values[DB], values[CONFIG]);
    if (code != HLT_EXIT_OK) {
        return code;
    }
    struct list list = {.device_id = values[DEVICE], .all = values[ALL] != NULL};
    code = list_alerts(&list, &reader, values[JSON] != NULL, values[IDS] != NULL);
    free(list.item);
    free(list.bytes);
    hlt_reader_close(&reader);
    return code;
}

int hlt_cmd_alert(int argc, char **argv)
{
    static const struct hlt_cli_verb verbs[] = {
        {"list", run_list, "open alerts, the worst first"},
        {NULL, NULL, NULL},
    };
    return hlt_cli_dispatch("alert", verbs, argc, argv);
}
