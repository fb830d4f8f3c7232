/* ban.c - `haltere ban`: who may not log in. Listed from the store or by the broker, changed
 * through the broker. */
#include <stdlib.h>
#include <string.h>

#include "../shared/ban.h"
#include "listing.h"

/* --- list --- */

static cJSON *entry(const void *key, size_t key_len, const void *value, size_t len, int64_t now_ms,
                    bool *damaged)
{
    struct hlt_ban ban;
    const void *data;
    size_t data_len;

    *damaged = hlt_blob_record_read(&data, &data_len, value, len) != HLT_OK ||
               hlt_ban_record_read(&ban, key, key_len, data, data_len) != HLT_OK;
    return !*damaged && ban.until_ms > now_ms ? hlt_ban_json(&ban) : NULL;
}

struct row {
    const cJSON *ban;
};

/* Newest first: the dates are all of one length. */
static int by_age(const void *left, const void *right)
{
    const struct row *a = left, *b = right;

    return strcmp(hlt_listing_text(b->ban, "since", ""), hlt_listing_text(a->ban, "since", ""));
}

/* How long from `since` to `until`; either may be NULL: now. */
static void span(char out[24], const char *since, const char *until, int64_t now_ms)
{
    int64_t from_ms = now_ms, to_ms = now_ms;

    (void)(since != NULL && hlt_date_parse(since, strlen(since), &from_ms));
    (void)(until != NULL && hlt_date_parse(until, strlen(until), &to_ms));
    hlt_cli_age(to_ms - from_ms, out);
}

static void print_row(struct hlt_table *table, const cJSON *ban, int64_t now_ms)
{
    const char *until = hlt_listing_text(ban, "until", NULL);
    char age[24], left[24] = "for ever";

    span(age, hlt_listing_text(ban, "since", NULL), NULL, now_ms);
    if (until != NULL) {
        span(left, NULL, until, now_ms);
    }
    hlt_table_cell(table, "%s", hlt_listing_text(ban, "kind", ""));
    hlt_table_cell(table, "%s", hlt_listing_text(ban, "address", ""));
    hlt_table_cell(table, "%s", hlt_listing_text(ban, "deviceId", ""));
    hlt_table_cell(table, "%s", age);
    hlt_table_cell(table, "%s", left);
    hlt_table_cell(table, "%s", hlt_listing_text(ban, "author", ""));
    hlt_table_cell(table, "%s", hlt_listing_text(ban, "reason", ""));
}

static void print_table(const cJSON *list, int64_t now_ms)
{
    static const char *const heads[] = {"<KIND", "<ADDRESS", "<DEVICE", ">AGE",
                                        ">LEFT", "<AUTHOR",  "<REASON"};
    struct hlt_table *table = hlt_table_new(heads, sizeof(heads) / sizeof(heads[0]));
    size_t count = 0, room = (size_t)cJSON_GetArraySize(list) + 1;
    struct row *row = hlt_cli_resize(NULL, room * sizeof(*row));
    const cJSON *item;

    cJSON_ArrayForEach(item, list)
    {
        row[count++].ban = item;
    }
    qsort(row, count, sizeof(*row), by_age);
    for (size_t i = 0; i < count; i++) {
        print_row(table, row[i].ban, now_ms);
    }
    hlt_table_print(table);
    free(row);
}

static int run_list(int argc, char **argv)
{
    static const struct hlt_cli_option options[] = {HLT_LISTING_OPTIONS("print {\"bans\":[...]}")};
    static const struct hlt_cli_spec spec = {
        "haltere ban list [--db DIR | --config CONF | --host HOST --token-file FILE] [--json]",
        "Lists the bans in force, the newest first: from the store or, with --token-file, as the "
        "running broker tells them. Those by 'haltere' came from failed logins.",
        options,
        0,
        0,
        NULL};
    static const struct hlt_listing listing = {"listBans", "bans", HLT_DB_BANS, entry, print_table};

    return hlt_listing_run(&listing, &spec, argc, argv);
}

/* --- changes, through the broker --- */

#define SUBJECT_OPTIONS                                                                            \
    {"address", "ADDRESS", "this address (IPv6: its /64)"},                                        \
    {                                                                                              \
        "device", "ID", "this device; with --address: this id from there only"                     \
    }
#define SUBJECT_NOTES                                                                              \
    "The broker is asked as an MQTT client by an admin's token: the token's `roles` must hold "    \
    "one of admin_roles. Exit code 1: the broker says no."

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
        "their wills. A banned address gets no new token verified; sessions that live go on, and "
        "tokens verified before still log in.",
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
