/* device_denials.c - `haltere device denials`: what the policy denied to a device last. */
#include "device_denials.h"

#include <stdlib.h>
#include <string.h>

#include "../shared/denial.h"
#include "../shared/text.h"
#include "reader.h"

static void print_table(const cJSON *list)
{
    static const char *const heads[] = {"<ACCESS", "<TOPIC", "<REASON",
                                        ">COUNT",  ">LAST",  ">FIRST"};
    struct hlt_table *table = hlt_table_new(heads, sizeof(heads) / sizeof(heads[0]));
    int64_t now_ms = hlt_cli_now_ms();
    const cJSON *item;

    cJSON_ArrayForEach(item, list)
    {
        char first[24], last[24];

        hlt_cli_age(now_ms - (int64_t)hlt_reader_number_of(item, "first"), first);
        hlt_cli_age(now_ms - (int64_t)hlt_reader_number_of(item, "last"), last);
        hlt_table_cell(table, "%s", hlt_reader_text_of(item, "access"));
        hlt_table_cell(table, "%s", hlt_reader_text_of(item, "topic"));
        hlt_table_cell(table, "%s", hlt_reader_text_of(item, "reason"));
        hlt_table_cell(table, "%.0f", hlt_reader_number_of(item, "count"));
        hlt_table_cell(table, "%s", last);
        hlt_table_cell(table, "%s", first);
    }
    hlt_table_print(table);
}

static int print_json(const char *id, const cJSON *list)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *array = cJSON_AddArrayToObject(root, "denials");
    const cJSON *item;

    cJSON_AddStringToObject(root, "deviceId", id);
    cJSON_ArrayForEach(item, list)
    {
        cJSON *denial = cJSON_CreateObject();

        cJSON_AddStringToObject(denial, "access", hlt_reader_text_of(item, "access"));
        cJSON_AddStringToObject(denial, "topic", hlt_reader_text_of(item, "topic"));
        cJSON_AddStringToObject(denial, "reason", hlt_reader_text_of(item, "reason"));
        cJSON_AddNumberToObject(denial, "count", hlt_reader_number_of(item, "count"));
        hlt_reader_add_date(denial, "first", (int64_t)hlt_reader_number_of(item, "first"));
        hlt_reader_add_date(denial, "last", (int64_t)hlt_reader_number_of(item, "last"));
        cJSON_AddItemToArray(array, denial);
    }
    return hlt_cli_print_json(root);
}

static int print_denials(const struct hlt_reader *reader, const char *id, bool json)
{
    char key[HLT_STORE_KEY_MAX];
    void *value = NULL;
    size_t len = 0;
    int code = HLT_EXIT_OK;

    if (id[0] == '\0' || strlen(id) > HLT_ID_MAX ||
        hlt_store_get(reader->store, HLT_DB_DEVICES, id, strlen(id), &value, &len, NULL) !=
            HLT_OK) {
        return hlt_cli_fail(HLT_EXIT_NO, "no device '%s' in %s", id, reader->path);
    }
    free(value);
    (void)snprintf(key, sizeof(key), HLT_DENIALS_KEY "%s", id);
    char *text = hlt_reader_blob(reader, HLT_DB_COUNTERS, key);
    cJSON *list = text != NULL ? cJSON_Parse(text) : NULL;
    if (text != NULL && !cJSON_IsArray(list)) {
        code = hlt_cli_fail(HLT_EXIT_IO, "the denials of device '%s' are damaged", id);
    } else if (json) {
        code = print_json(id, list);
    } else if (list == NULL) {
        printf("nothing was denied\n");
    } else {
        print_table(list);
    }
    cJSON_Delete(list);
    free(text);
    return code;
}

int hlt_device_denials(int argc, char **argv)
{
    enum { DB, CONFIG, JSON, COUNT };
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        {"json", NULL, "print {\"deviceId\":...,\"denials\":[...]}"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        .synopsis = "haltere device denials [--db DIR | --config CONF] [--json] ID",
        .summary = "List what was denied to a device last, the newest first: up to 64 different "
                   "denials with access, topic, reason, how often and when. Denied deliveries are "
                   "not kept. 'haltere acl explain --device ID' says why.",
        .options = options,
        .positional_min = 1,
        .positional_max = 1,
        .notes = "Exit code 1: there is no such device.",
    };
    const char *values[COUNT] = {NULL}, *id = NULL;
    struct hlt_reader reader;
    enum hlt_cli_rc parsed = hlt_cli_parse(&spec, argc, argv, values, &id, NULL);

    if (parsed != HLT_CLI_OK) {
        return parsed == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    int code = hlt_reader_open(&reader, values[DB], values[CONFIG]);
    if (code != HLT_EXIT_OK) {
        return code;
    }
    code = print_denials(&reader, id, values[JSON] != NULL);
    hlt_reader_close(&reader);
    return code;
}
