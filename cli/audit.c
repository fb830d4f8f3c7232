/* audit.c - `haltere audit`: who did what, and whether the record of it is whole. Read from the
 * store. */
#include <inttypes.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/audit.h"
#include "../shared/text.h"
#include "reader.h"

#define LAST_DEFAULT 200

/* --- what is asked for --- */

struct filter {
    int64_t since_ms, until_ms; /* until is not included */
    const char *device, *type;
};

static bool fits(const struct filter *filter, const struct hlt_audit_record *record)
{
    return record->time_ms >= filter->since_ms && record->time_ms < filter->until_ms &&
           (filter->device == NULL || strcmp(filter->device, record->subject) == 0 ||
            strcmp(filter->device, record->client_id) == 0) &&
           (filter->type == NULL || strcmp(filter->type, hlt_audit_type_word(record->type)) == 0);
}

/* A date, or a span back from now ("2h"). */
static bool parse_when(const char *option, const char *text, int64_t *out)
{
    int64_t span = 0;

    if (text == NULL || hlt_date_parse(text, strlen(text), out)) {
        return true;
    }
    if (hlt_duration_parse(text, &span)) {
        *out = hlt_cli_now_ms() - span;
        return true;
    }
    (void)hlt_cli_fail(HLT_EXIT_USAGE,
                       "--%s: '%s' is neither a date (2026-11-20T22:00:00Z) nor a span back from "
                       "now (2h)",
                       option, text);
    return false;
}

static bool check_type(const char *type)
{
    const char *words[HLT_AUDIT_TYPES + 1] = {NULL};
    const char *near;

    for (unsigned i = 1; i < HLT_AUDIT_TYPES; i++) {
        words[i - 1] = hlt_audit_type_word(i);
        if (type == NULL || strcmp(type, words[i - 1]) == 0) {
            return true;
        }
    }
    near = hlt_suggest(type, words);
    (void)hlt_cli_fail(HLT_EXIT_USAGE, "--type: there is no '%s'%s%s%s", type,
                       near != NULL ? ": did you mean '" : "", near != NULL ? near : "",
                       near != NULL ? "'?" : "");
    return false;
}

/* --- printing --- */

static cJSON *record_json(const struct hlt_audit_record *record)
{
    cJSON *object = cJSON_CreateObject();
    char hash[2 * HLT_AUDIT_HASH_BYTES + 1];

    (void)sodium_bin2hex(hash, sizeof(hash), record->hash, sizeof(record->hash));
    cJSON_AddNumberToObject(object, "seq", (double)record->seq);
    hlt_reader_add_date(object, "time", record->time_ms);
    cJSON_AddStringToObject(object, "type", hlt_audit_type_word(record->type));
    hlt_reader_add_text(object, "subject", record->subject);
    hlt_reader_add_text(object, "clientId", record->client_id);
    hlt_reader_add_text(object, "address", record->address);
    hlt_reader_add_text(object, "actor", record->actor);
    hlt_reader_add_text(object, "reason", record->reason);
    hlt_reader_add_text(object, "detail", record->detail);
    cJSON_AddNumberToObject(object, "count", (double)record->count);
    cJSON_AddStringToObject(object, "hash", hash);
    return object;
}

struct listing {
    struct filter filter;
    struct hlt_audit_record *ring; /* the last of those that fit */
    size_t room, count;            /* count grows past room */
    uint64_t damaged;
    int code;
    bool stream; /* print each at once, one JSON object a line */
};

static bool collect(void *context, const void *key, size_t key_len, const void *value, size_t len)
{
    struct listing *listing = context;
    struct hlt_audit_record record;

    (void)key;
    (void)key_len;
    if (hlt_audit_record_read(&record, value, len) != HLT_OK) {
        listing->damaged++;
        return true;
    }
    if (!fits(&listing->filter, &record)) {
        return true;
    }
    if (listing->stream) {
        listing->code = hlt_reader_print_compact(record_json(&record));
        (void)putchar('\n');
        return listing->code == HLT_EXIT_OK;
    }
    record.body = NULL;
    listing->ring[listing->count++ % listing->room] = record;
    return true;
}

static void print_table(const struct listing *listing)
{
    /* Few columns, so that 80 have room for them: the actor stands with the detail. */
    static const char *const heads[] = {">SEQ",     "!TIME",   "!TYPE",  "<SUBJECT",
                                        "<ADDRESS", "!REASON", "<DETAIL"};
    struct hlt_table *table = hlt_table_new(heads, sizeof(heads) / sizeof(heads[0]));
    size_t first = listing->count > listing->room ? listing->count - listing->room : 0;

    for (size_t i = first; i < listing->count; i++) {
        const struct hlt_audit_record *record = &listing->ring[i % listing->room];
        char date[HLT_DATE_BYTES];
        hlt_date_format(record->time_ms, date);
        hlt_table_cell(table, "%" PRIu64, record->seq);
        hlt_table_cell(table, "%.19sZ", date); /* to the second: --json has the rest */
        hlt_table_cell(table, "%s", hlt_audit_type_word(record->type));
        hlt_table_cell(table, "%s", record->subject);
        hlt_table_cell(table, "%s", record->address);
        hlt_table_cell(table, record->count > 1 ? "%s x%" PRIu64 : "%s", record->reason,
                       record->count);
        bool both = record->actor[0] != '\0' && record->detail[0] != '\0';
        hlt_table_cell(table, "%s%s%s%s", record->actor[0] != '\0' ? "by " : "", record->actor,
                       both ? ": " : "", record->detail);
    }
    hlt_table_print(table);
}

static int print_json(const struct listing *listing)
{
    size_t first = listing->count > listing->room ? listing->count - listing->room : 0;
    int code = HLT_EXIT_OK;

    (void)fputs("{\"records\":[", stdout);
    for (size_t i = first; i < listing->count && code == HLT_EXIT_OK; i++) {
        (void)fputs(i > first ? ",\n" : "\n", stdout);
        code = hlt_reader_print_compact(record_json(&listing->ring[i % listing->room]));
    }
    puts("\n]}");
    return code;
}

static int walk(struct listing *listing, const char *db, const char *config, bool json)
{
    struct hlt_reader reader;
    struct hlt_err err = {""};
    int code = hlt_reader_open(&reader, db, config);

    if (code != HLT_EXIT_OK) {
        return code;
    }
    if (hlt_store_each(reader.store, HLT_DB_AUDIT, collect, listing, &err) != HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "cannot read the audit: %s", err.msg);
    } else if (listing->stream) {
        code = listing->code;
    } else if (json) {
        code = print_json(listing);
    } else if (listing->count == 0) {
        puts("no audit records");
    } else {
        print_table(listing);
    }
    code = hlt_reader_damaged(&reader, listing->damaged, code);
    hlt_reader_close(&reader);
    return code;
}

/* --- list and export --- */

#define FILTER_OPTIONS                                                                             \
    {"since", "WHEN", "only from this date, or this long back (2h)"},                              \
        {"until", "WHEN", "only before it"},                                                       \
        {"device", "ID", "only about this device or client id"},                                   \
    {                                                                                              \
        "type", "TYPE", "only of this type: login, refusal, expiry, renewal, revocation, ..."      \
    }
enum { DB, CONFIG, SINCE, UNTIL, DEVICE, TYPE, FILTERS };

static bool read_filter(struct filter *out, const char *const *values)
{
    *out = (struct filter){.until_ms = INT64_MAX, .device = values[DEVICE], .type = values[TYPE]};
    return parse_when("since", values[SINCE], &out->since_ms) &&
           parse_when("until", values[UNTIL], &out->until_ms) && check_type(values[TYPE]);
}

static int run_list(int argc, char **argv)
{
    enum { LAST = FILTERS, JSON, COUNT };
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        FILTER_OPTIONS,
        {"last", "N", "the last N of them (default 200)"},
        {"json", NULL, "print {\"records\":[...]}"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere audit list [--db DIR | --config CONF] [--since WHEN] [--until WHEN] [--device ID] "
        "[--type TYPE] [--last N] [--json]",
        "Lists audit records, oldest first: logins, refusals (summed by address, reason and "
        "minute), expiries, renewals, revocations, bans, changes of keys, policy and rules, "
        "commands.",
        options,
        0,
        0,
        "Example: haltere audit list --since 1d --type refusal"};
    const char *values[COUNT];
    struct listing listing = {.room = LAST_DEFAULT};

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    if (!read_filter(&listing.filter, values)) {
        return HLT_EXIT_USAGE;
    }
    if (values[LAST] != NULL) {
        char *end;
        unsigned long last = strtoul(values[LAST], &end, 10);
        if (*end != '\0' || values[LAST][0] == '-' || last == 0 || last > 1000000) {
            return hlt_cli_fail(HLT_EXIT_USAGE, "--last must be 1 to 1000000; more: audit export");
        }
        listing.room = last;
    }
    listing.ring = hlt_cli_resize(NULL, listing.room * sizeof(*listing.ring));
    int code = walk(&listing, values[DB], values[CONFIG], values[JSON] != NULL);
    free(listing.ring);
    return code;
}

static int run_export(int argc, char **argv)
{
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        FILTER_OPTIONS,
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere audit export [--db DIR | --config CONF] [--since WHEN] [--until WHEN] "
        "[--device ID] [--type TYPE]",
        "Writes all records that fit to standard output, one JSON object a line.",
        options,
        0,
        0,
        "Example: haltere audit export --since 2026-11-01T00:00:00Z > november.jsonl"};
    const char *values[FILTERS];
    struct listing listing = {.stream = true};

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    return read_filter(&listing.filter, values) ? walk(&listing, values[DB], values[CONFIG], false)
                                                : HLT_EXIT_USAGE;
}

/* --- verify --- */

struct verify {
    uint64_t first, next; /* sequence numbers */
    uint8_t hash[HLT_AUDIT_HASH_BYTES];
    uint8_t wanted[HLT_AUDIT_HASH_BYTES];
    bool want;
    uint64_t found; /* where `wanted` stands, 0: nowhere */
    uint64_t broken;
    const char *how; /* NULL: intact so far */
};

static bool verify_record(void *context, const void *key, size_t key_len, const void *value,
                          size_t len)
{
    struct verify *verify = context;
    struct hlt_audit_record record;
    uint8_t hash[HLT_AUDIT_HASH_BYTES];
    uint64_t seq = hlt_audit_key_seq(key, key_len);

    if (seq < verify->first && seq > 0) {
        return true; /* given up by retention, its removal was cut short */
    }
    verify->broken = verify->next;
    if (seq != verify->next) {
        verify->how = seq == 0 ? "a key is damaged" : "records are missing";
        return false;
    }
    if (hlt_audit_record_read(&record, value, len) != HLT_OK || record.seq != seq) {
        verify->how = "the record is damaged";
        return false;
    }
    hlt_audit_record_hash(&record, verify->hash, hash);
    if (sodium_memcmp(hash, record.hash, sizeof(hash)) != 0) {
        verify->how = "the record, or the one before it, is not what was written";
        return false;
    }
    memcpy(verify->hash, hash, sizeof(hash));
    verify->found =
        verify->want && memcmp(hash, verify->wanted, sizeof(hash)) == 0 ? seq : verify->found;
    verify->next++;
    return true;
}

static bool read_anchor(const struct hlt_reader *reader, struct verify *verify)
{
    void *value = NULL;
    const void *data = NULL;
    size_t len = 0, data_len = 0;
    bool good = true;

    if (hlt_store_get(reader->store, HLT_DB_META, HLT_AUDIT_ANCHOR, strlen(HLT_AUDIT_ANCHOR),
                      &value, &len, NULL) == HLT_OK) {
        good = hlt_blob_record_read(&data, &data_len, value, len) == HLT_OK &&
               hlt_audit_anchor_read(data, data_len, &verify->first, verify->hash);
        free(value);
    }
    verify->next = verify->first;
    return good;
}

static int say(const struct verify *verify, bool json)
{
    char head[2 * HLT_AUDIT_HASH_BYTES + 1];
    bool missing = verify->want && verify->found == 0;
    bool intact = verify->how == NULL && !missing;

    (void)sodium_bin2hex(head, sizeof(head), verify->hash, sizeof(verify->hash));
    if (json) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddBoolToObject(object, "intact", intact);
        cJSON_AddNumberToObject(object, "firstSeq", (double)verify->first);
        cJSON_AddNumberToObject(object, "auditSeq", (double)(verify->next - 1));
        cJSON_AddStringToObject(object, "auditHead", head);
        if (verify->how != NULL) {
            cJSON_AddNumberToObject(object, "brokenSeq", (double)verify->broken);
            cJSON_AddStringToObject(object, "problem", verify->how);
        } else if (missing) {
            cJSON_AddStringToObject(object, "problem", "the given head is not in the chain");
        }
        int code = hlt_cli_print_json(object);
        return code != HLT_EXIT_OK ? code : intact ? HLT_EXIT_OK : HLT_EXIT_NO;
    }
    if (verify->how != NULL) {
        printf("%sbroken%s at record %" PRIu64 ": %s\n", hlt_cli_red(), hlt_cli_reset(),
               verify->broken, verify->how);
        return HLT_EXIT_NO;
    }
    printf("%sintact%s: records %" PRIu64 " to %" PRIu64 ", head %s\n", hlt_cli_green(),
           hlt_cli_reset(), verify->first, verify->next - 1, head);
    if (missing) {
        printf("%sbut the given head is not in this chain%s: the records up to it are missing or "
               "are others\n",
               hlt_cli_red(), hlt_cli_reset());
        return HLT_EXIT_NO;
    }
    if (verify->want) {
        printf("the given head is that of record %" PRIu64 "\n", verify->found);
    }
    return HLT_EXIT_OK;
}

static int run_verify(int argc, char **argv)
{
    enum { V_DB, V_CONFIG, HEAD, JSON, COUNT };
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        {"head", "HASH", "this hash (auditHead of a heartbeat) must be in the chain"},
        {"json", NULL, "print one JSON object"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere audit verify [--db DIR | --config CONF] [--head HASH] [--json]",
        "Walks the chain from the oldest kept record: each hash covers its record and the hash "
        "before it. A chain that was cut off at its end is whole in itself: only a head noted "
        "elsewhere, from system/heartbeat, shows that.",
        options,
        0,
        0,
        "Exit: 0 intact, 1 broken (it says at which record) or without the given head."};
    const char *values[COUNT];
    struct hlt_reader reader;
    struct hlt_err err = {""};
    struct verify verify = {.first = 1};

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    if (values[HEAD] != NULL) {
        size_t len = 0;
        verify.want = sodium_hex2bin(verify.wanted, sizeof(verify.wanted), values[HEAD],
                                     strlen(values[HEAD]), NULL, &len, NULL) == 0 &&
                      len == sizeof(verify.wanted);
        if (!verify.want) {
            return hlt_cli_fail(HLT_EXIT_USAGE, "--head must be 64 hexadecimal digits");
        }
    }
    int code = hlt_reader_open(&reader, values[V_DB], values[V_CONFIG]);
    if (code != HLT_EXIT_OK) {
        return code;
    }
    if (!read_anchor(&reader, &verify)) {
        verify.how = "the anchor, from which the chain begins, is damaged";
        verify.broken = 0;
        code = say(&verify, values[JSON] != NULL);
    } else if (hlt_store_each(reader.store, HLT_DB_AUDIT, verify_record, &verify, &err) != HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "cannot read the audit: %s", err.msg);
    } else {
        code = say(&verify, values[JSON] != NULL);
    }
    hlt_reader_close(&reader);
    return code;
}

int hlt_cmd_audit(int argc, char **argv)
{
    static const struct hlt_cli_verb verbs[] = {
        {"list", run_list, "the last records, or those that fit"},
        {"verify", run_verify, "is the chain whole?"},
        {"export", run_export, "all of them as JSON lines"},
        {NULL, NULL, NULL},
    };
    return hlt_cli_dispatch("audit", verbs, argc, argv);
}
