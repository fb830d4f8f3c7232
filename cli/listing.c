/* listing.c - the frame of the verbs that list what is in force. */
#include "listing.h"

#include "../shared/jsondoc.h"

struct scan {
    const struct hlt_listing *listing;
    cJSON *list;
    int64_t now_ms;
    uint64_t damaged;
};

static bool collect(void *context, const void *key, size_t key_len, const void *value, size_t len)
{
    struct scan *scan = context;
    bool damaged = false;
    cJSON *entry = scan->listing->entry(key, key_len, value, len, scan->now_ms, &damaged);

    scan->damaged += damaged;
    if (entry != NULL) {
        (void)cJSON_AddItemToArray(scan->list, entry);
    }
    return true;
}

/* *list is what could be read, even where some could not. */
static int from_store(const struct hlt_listing *listing, const char *db, const char *config,
                      int64_t now_ms, cJSON **list)
{
    struct scan scan = {.listing = listing, .now_ms = now_ms};
    struct hlt_reader reader;
    struct hlt_err err = {""};
    int code = hlt_reader_open(&reader, db, config);

    if (code != HLT_EXIT_OK) {
        return code;
    }
    scan.list = cJSON_CreateArray();
    if (hlt_store_each(reader.store, listing->db, collect, &scan, &err) != HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "cannot read the %s: %s", listing->member, err.msg);
    }
    code = hlt_reader_damaged(&reader, scan.damaged, code);
    hlt_reader_close(&reader);
    *list = scan.list;
    return code;
}

static int from_broker(const struct hlt_listing *listing, const char *const *values, cJSON **list)
{
    struct hlt_admin where;

    return hlt_admin_from(&where, values)
               ? hlt_admin_list(&where, listing->command, listing->member, list)
               : HLT_EXIT_USAGE;
}

int hlt_listing_run(const struct hlt_listing *listing, const struct hlt_cli_spec *spec, int argc,
                    char **argv)
{
    enum { DB, CONFIG, WHERE, JSON = WHERE + HLT_ADMIN_OPTION_COUNT, COUNT };
    const char *values[COUNT];
    int64_t now_ms = hlt_cli_now_ms();
    cJSON *list = NULL;
    int code;

    switch (hlt_cli_parse(spec, argc, argv, values, NULL, NULL)) {
    case HLT_CLI_HELP: return HLT_EXIT_OK;
    case HLT_CLI_USAGE: return HLT_EXIT_USAGE;
    case HLT_CLI_OK: break;
    }
    if (!hlt_admin_named(values + WHERE)) {
        code = from_store(listing, values[DB], values[CONFIG], now_ms, &list);
    } else if (values[DB] != NULL || values[CONFIG] != NULL) {
        return hlt_cli_fail(HLT_EXIT_USAGE, "give --db or --config to read the store, or --host to "
                                            "ask the broker, not both");
    } else {
        code = from_broker(listing, values + WHERE, &list);
    }
    if (list == NULL) {
        return code;
    }
    if (values[JSON] != NULL) {
        cJSON *document = cJSON_CreateObject();
        (void)cJSON_AddItemToObject(document, listing->member, list);
        return hlt_cli_print_json(document) == HLT_EXIT_OK ? code : HLT_EXIT_IO;
    }
    listing->print(list, now_ms);
    cJSON_Delete(list);
    return code;
}

const char *hlt_listing_text(const cJSON *entry, const char *name, const char *fallback)
{
    const char *text = hlt_jsondoc_text(entry, name);

    return text != NULL ? text : fallback;
}
