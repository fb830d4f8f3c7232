/* ban.c - `haltere ban`: who may not log in. Read from the store, changed through the broker. */
#include <stdlib.h>
#include <string.h>

#include "../shared/ban.h"
#include "admin.h"
#include "reader.h"

struct list {
    struct hlt_ban *ban;
    size_t count, room;
    uint64_t damaged;
    int64_t now_ms;
};

static bool collect(void *context, const void *key, size_t key_len, const void *value, size_t len)
{
    struct list *list = context;
    struct hlt_ban ban;
    const void *data;
    size_t data_len;

    if (hlt_blob_record_read(&data, &data_len, value, len) != HLT_OK ||
        hlt_ban_record_read(&ban, key, key_len, data, data_len) != HLT_OK) {
        list->damaged++;
        return true;
    }
    if (ban.until_ms <= list->now_ms) {
        return true; /* over; the broker takes it out when it looks */
    }
    if (list->count == list->room) {
        list->room = list->room > 0 ? list->room * 2 : 64;
        list->ban = hlt_cli_resize(list->ban, list->room * sizeof(*list->ban));
    }
    list->ban[list->count++] = ban;
    return true;
}

static int by_age(const void *left, const void *right)
{
    const struct hlt_ban *a = left, *b = right;

    return a->since_ms > b->since_ms ? -1 : a->since_ms < b->since_ms;
}

static void print_table(const struct list *list)
{
    static const char *const heads[] = {"<KIND", "<ADDRESS", "<DEVICE", ">AGE",
                                        ">LEFT", "<AUTHOR",  "<REASON"};
    struct hlt_table *table = hlt_table_new(heads, sizeof(heads) / sizeof(heads[0]));

    for (size_t i = 0; i < list->count; i++) {
        const struct hlt_ban *ban = &list->ban[i];
        char address[HLT_ADDRESS_TEXT], age[24], left[24] = "for ever";
        hlt_address_format(&ban->subject.address, address);
        hlt_cli_age(list->now_ms - ban->since_ms, age);
        if (ban->until_ms != HLT_BAN_FOREVER) {
            hlt_cli_age(ban->until_ms - list->now_ms, left);
        }
        hlt_table_cell(table, "%s", hlt_ban_kind_word(ban->subject.kind));
        hlt_table_cell(table, "%s", address);
        hlt_table_cell(table, "%s", ban->subject.id);
        hlt_table_cell(table, "%s", age);
        hlt_table_cell(table, "%s", left);
        hlt_table_cell(table, "%s", ban->author);
        hlt_table_cell(table, "%s", ban->reason);
    }
    hlt_table_print(table);
}

static int print_json(const struct list *list)
{
    cJSON *document = cJSON_CreateObject();
    cJSON *bans = cJSON_AddArrayToObject(document, "bans");

    for (size_t i = 0; i < list->count; i++) {
        (void)cJSON_AddItemToArray(bans, hlt_ban_json(&list->ban[i]));
    }
    return hlt_cli_print_json(document);
}

static int run_list(int argc, char **argv)
{
    enum { DB, CONFIG, JSON, COUNT };
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        {"json", NULL, "print {\"bans\":[...]}"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere ban list [--db DIR | --config CONF] [--json]",
        "Lists the bans in force, the newest first. Those by 'haltere' came from failed logins.",
        options,
        0,
        0,
        NULL};
    const char *values[COUNT];
    struct hlt_reader reader;
    struct hlt_err err = {""};
    struct list list = {.now_ms = hlt_cli_now_ms()};

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    int code = hlt_reader_open(&reader, values[DB], values[CONFIG]);
    if (code != HLT_EXIT_OK) {
        return code;
    }
    if (hlt_store_each(reader.store, HLT_DB_BANS, collect, &list, &err) != HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "cannot read the bans: %s", err.msg);
    } else {
        if (list.count > 1) {
            qsort(list.ban, list.count, sizeof(*list.ban), by_age);
        }
        if (values[JSON] != NULL) {
            code = print_json(&list);
        } else {
            print_table(&list);
        }
        code = hlt_reader_damaged(&reader, list.damaged, code);
    }
    free(list.ban);
    hlt_reader_close(&reader);
    return code;
}

/* --- changes, through the broker --- */

#define SUBJECT_OPTIONS                                                                            \
    {"address", "ADDRESS", "this address (IPv6: its /64)"},                                        \
    {                                                                                              \
        "device", "ID", "this device; with --address: this id from there only"                     \
    }
#define SUBJECT_NOTES                                                                              \
    "The broker is asked as an MQTT client by an admin's token: the token's `roles` must hold "    \
    "one\n"                                                                                        \
    "of admin_roles. Exit code 1: the broker says no."

/* The command with its subject; NULL after a message. */
static cJSON *command_about(const char *name, const char *address, const char *device)
{
    cJSON *command = cJSON_CreateObject();

    if (address == NULL && device == NULL) {
        (void)hlt_cli_fail(HLT_EXIT_USAGE, "whom? Give --address, --device, or both");
        cJSON_Delete(command);
        return NULL;
    }
    (void)cJSON_AddStringToObject(command, "command", name);
    if (address != NULL) {
        (void)cJSON_AddStringToObject(command, "address", address);
    }
    if (device != NULL) {
        (void)cJSON_AddStringToObject(command, "deviceId", device);
    }
    return command;
}

static int run_add(int argc, char **argv)
{
    enum { ADDRESS, DEVICE, DURATION, REASON, ADMIN, COUNT = ADMIN + HLT_ADMIN_OPTION_COUNT };
    static const struct hlt_cli_option options[] = {
        SUBJECT_OPTIONS,
        {"for", "DURATION", "how long, such as 10min or 2d, or forever (default ban_time)"},
        {"reason", "TEXT", "why, for those who read the list"},
        HLT_ADMIN_OPTIONS,
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere ban add (--address ADDRESS | --device ID) --token-file FILE [OPTION]...",
        "Bans an address or a device. A banned device's sessions end within a second, without "
        "their\n"
        "wills. A banned address gets no new token verified; sessions that live go on, and tokens\n"
        "verified before still log in.",
        options,
        0,
        0,
        SUBJECT_NOTES};
    const char *values[COUNT];
    struct hlt_admin where;

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    if (!hlt_admin_from(&where, values + ADMIN)) {
        return HLT_EXIT_USAGE;
    }
    cJSON *command = command_about("addBan", values[ADDRESS], values[DEVICE]);
    if (command == NULL) {
        return HLT_EXIT_USAGE;
    }
    if (values[DURATION] != NULL) {
        (void)cJSON_AddStringToObject(command, "duration", values[DURATION]);
    }
    if (values[REASON] != NULL) {
        (void)cJSON_AddStringToObject(command, "reason", values[REASON]);
    }
    return hlt_admin_command(&where, command, NULL);
}

static int run_remove(int argc, char **argv)
{
    enum { ADDRESS, DEVICE, ADMIN, COUNT = ADMIN + HLT_ADMIN_OPTION_COUNT };
    static const struct hlt_cli_option options[] = {
        SUBJECT_OPTIONS,
        HLT_ADMIN_OPTIONS,
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere ban remove (--address ADDRESS | --device ID) --token-file FILE [OPTION]...",
        "Ends a ban. Name it by what 'haltere ban list' shows of it.",
        options,
        0,
        0,
        SUBJECT_NOTES};
    const char *values[COUNT];
    struct hlt_admin where;

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    if (!hlt_admin_from(&where, values + ADMIN)) {
        return HLT_EXIT_USAGE;
    }
    cJSON *command = command_about("removeBan", values[ADDRESS], values[DEVICE]);
    return command != NULL ? hlt_admin_command(&where, command, NULL) : HLT_EXIT_USAGE;
}

int hlt_cmd_ban(int argc, char **argv)
{
    static const struct hlt_cli_verb verbs[] = {
        {"list", run_list, "bans in force"},
        {"add", run_add, "ban an address or a device"},
        {"remove", run_remove, "end a ban"},
        {NULL, NULL, NULL},
    };
    return hlt_cli_dispatch("ban", verbs, argc, argv);
}
