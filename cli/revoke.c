/* revoke.c - `haltere token revoke|unrevoke|revocations`: bar tokens before their time, through the
 * running broker or, while none runs, in its store. */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../shared/audit.h"
#include "../shared/options.h"
#include "../shared/revocation.h"
#include "../shared/text.h"
#include "listing.h"
#include "revoke.h"

enum {
    DB,
    CONFIG,
    JTI,
    SUB,
    KID,
    BEFORE,
    WHERE,
    REASON = WHERE + HLT_ADMIN_OPTION_COUNT,
    EXPIRES,
    COUNT
};

#define TARGET_OPTIONS                                                                             \
    HLT_READER_OPTIONS, {"jti", "ID", "the token with this jti"},                                  \
        {"sub", "ID", "every token of this device"},                                               \
    {                                                                                              \
        "kid", "KID", "every token this key signed"                                                \
    }

static const struct hlt_cli_option options[] = {
    TARGET_OPTIONS,
    {"before", "DATE", "with --sub: only tokens issued before (a date, or now)"},
    HLT_ADMIN_OPTIONS,
    {"reason", "TEXT", "why, for list and audit"},
    {"expires", "DATE", "end it then (default: when the last such token has expired)"},
    {NULL, NULL, NULL}};

/* --- what is meant --- */

static bool parse_date(const char *name, const char *text, int64_t *out_ms)
{
    if (strcmp(text, "now") == 0) {
        *out_ms = hlt_cli_now_ms();
        return true;
    }
    if (hlt_date_parse(text, strlen(text), out_ms)) {
        return true;
    }
    (void)hlt_cli_fail(HLT_EXIT_USAGE, "--%s: '%s' is not a date: write 2026-11-20T22:00:00Z", name,
                       text);
    return false;
}

static bool read_target(const char *const *values, struct hlt_revocation *out)
{
    const char *const ids[] = {values[JTI], values[SUB], values[KID]};
    static const enum hlt_revoke_kind kinds[] = {HLT_REVOKE_JTI, HLT_REVOKE_SUB, HLT_REVOKE_KID};
    int64_t before_ms = 0;
    struct hlt_err err = {""};
    int given = 0;

    *out = (struct hlt_revocation){.reason = values[REASON], .created_ms = hlt_cli_now_ms()};
    for (size_t i = 0; i < 3; i++) {
        if (ids[i] != NULL) {
            out->kind = kinds[i];
            out->id = ids[i];
            given++;
        }
    }
    if (given != 1) {
        (void)hlt_cli_fail(HLT_EXIT_USAGE, "give exactly one of --jti, --sub and --kid");
        return false;
    }
    if (values[BEFORE] != NULL) {
        if (out->kind != HLT_REVOKE_SUB) {
            (void)hlt_cli_fail(HLT_EXIT_USAGE, "--before goes with --sub");
            return false;
        }
        if (!parse_date("before", values[BEFORE], &before_ms)) {
            return false;
        }
        out->kind = HLT_REVOKE_BEFORE;
        out->before_s = (before_ms + 999) / 1000;
    }
    if (values[EXPIRES] != NULL && !parse_date("expires", values[EXPIRES], &out->expires_ms)) {
        return false;
    }
    if (hlt_revocation_check(out, &err) != HLT_OK) {
        (void)hlt_cli_fail(HLT_EXIT_USAGE, "%s", err.msg);
        return false;
    }
    return true;
}

/* --- through the broker --- */

static void add_date(cJSON *object, const char *name, int64_t unix_ms)
{
    char date[HLT_DATE_BYTES];

    hlt_date_format(unix_ms, date);
    cJSON_AddStringToObject(object, name, date);
}

static int by_broker(const char *const *values, const struct hlt_revocation *what, bool lift)
{
    struct hlt_admin where;
    cJSON *command;

    if (!hlt_admin_from(&where, values + WHERE)) {
        return HLT_EXIT_USAGE;
    }
    command = cJSON_CreateObject();
    cJSON_AddStringToObject(command, "command", lift ? "unrevokeToken" : "revokeToken");
    cJSON_AddStringToObject(
        command, what->kind == HLT_REVOKE_BEFORE ? "sub" : hlt_revoke_kind_word(what->kind),
        what->id);
    if (what->kind == HLT_REVOKE_BEFORE) {
        add_date(command, "issuedBefore", what->before_s * 1000);
    }
    if (!lift && what->expires_ms > 0) {
        add_date(command, "expires", what->expires_ms);
    }
    if (!lift && what->reason != NULL) {
        cJSON_AddStringToObject(command, "reason", what->reason);
    }
    return hlt_admin_command(&where, command, NULL);
}

/* --- into the store --- */

/* max_token_lifetime and leeway of --config; the defaults without it. */
static int64_t end_of(const struct hlt_revocation *what, const char *config)
{
    static const char *const names[] = {"keys_file", "acl_file", "db_path"};
    static const char *const values[] = {"-", "-", "-"};
    struct hlt_problems problems = {.count = 0};
    struct hlt_options read;
    int64_t end;

    if (config == NULL || hlt_broker_config_check(config, &read, &problems) != HLT_OK) {
        if (config != NULL) {
            hlt_options_free(&read);
        }
        (void)hlt_options_parse(&read, names, values, 3, NULL, NULL, &problems);
    }
    end = hlt_revocation_end(what, read.max_token_lifetime_s, read.leeway_s);
    hlt_options_free(&read);
    hlt_problems_free(&problems);
    return end;
}

static void who(char *out, size_t out_bytes)
{
    const struct passwd *user = getpwuid(getuid());

    (void)snprintf(out, out_bytes, "haltere token, user %s",
                   user != NULL ? user->pw_name : "unknown");
}

/* The audit's next record, with the chain going on from its last. False: it cannot be read. */
static bool audit_record(struct hlt_store *store, struct hlt_audit_record *record, uint8_t *out,
                         size_t *out_len, struct hlt_err *err)
{
    uint8_t key[HLT_AUDIT_KEY_BYTES], before[HLT_AUDIT_HASH_BYTES] = {0};
    struct hlt_audit_record last;
    size_t key_len = 0, len = 0;
    void *value = NULL;

    if (hlt_store_last(store, HLT_DB_AUDIT, key, sizeof(key), &key_len, err) != HLT_OK) {
        return false;
    }
    record->seq = hlt_audit_key_seq(key, key_len) + 1;
    if (record->seq > 1) {
        if (hlt_store_get(store, HLT_DB_AUDIT, key, sizeof(key), &value, &len, err) != HLT_OK) {
            return false;
        }
        if (hlt_audit_record_read(&last, value, len) == HLT_OK) {
            memcpy(before, last.hash, sizeof(before));
        }
        free(value);
    }
    *out_len = hlt_audit_record_write(record, before, out);
    return true;
}

static enum hlt_rc write_down(struct hlt_store *store, const struct hlt_revocation *what, bool lift,
                              struct hlt_err *err)
{
    uint8_t key[HLT_REVOKE_KEY_MAX], value[HLT_REVOCATION_RECORD_MAX];
    uint8_t audit_key[HLT_AUDIT_KEY_BYTES], audit[HLT_AUDIT_RECORD_MAX];
    struct hlt_audit_record record = {
        .time_ms = what->created_ms, .type = HLT_AUDIT_REVOCATION, .count = 1};
    size_t key_len = hlt_revocation_key(what, key);
    size_t audit_len = 0;

    (void)snprintf(record.subject, sizeof(record.subject), "%.255s", what->id);
    (void)snprintf(record.actor, sizeof(record.actor), "%s", what->by);
    (void)snprintf(record.reason, sizeof(record.reason), lift ? "lifted" : "revoked");
    (void)snprintf(record.detail, sizeof(record.detail), "%s, while no broker ran%s%.160s",
                   hlt_revoke_kind_word(what->kind), what->reason != NULL ? ": " : "",
                   what->reason != NULL ? hlt_audit_safe(what->reason) : "");
    if (!audit_record(store, &record, audit, &audit_len, err)) {
        return HLT_EIO;
    }
    hlt_audit_key(record.seq, audit_key);
    const struct hlt_store_put puts[] = {
        {HLT_DB_REVOCATIONS, key, key_len, lift ? NULL : value,
         lift ? 0 : hlt_revocation_write(what, value)},
        {HLT_DB_AUDIT, audit_key, sizeof(audit_key), audit, audit_len},
    };
    return hlt_store_write(store, puts, 2, err);
}

/* An order never weakens an older one: the later mark and the later end stay. */
static bool merge(struct hlt_store *store, struct hlt_revocation *what)
{
    uint8_t key[HLT_REVOKE_KEY_MAX];
    char id[HLT_REVOKE_ID_MAX + 1];
    struct hlt_revocation_record record;
    struct hlt_revocation old;
    size_t len = 0, key_len = hlt_revocation_key(what, key);
    void *value = NULL;

    if (hlt_store_get(store, HLT_DB_REVOCATIONS, key, key_len, &value, &len, NULL) != HLT_OK) {
        return false;
    }
    bool good = hlt_revocation_read(&old, id, &record, key, key_len, value, len) == HLT_OK;
    if (good) {
        what->before_s = old.before_s > what->before_s ? old.before_s : what->before_s;
        what->expires_ms = old.expires_ms > what->expires_ms ? old.expires_ms : what->expires_ms;
    }
    free(value);
    return true;
}

static int by_store(const char *const *values, struct hlt_revocation *what, bool lift)
{
    struct hlt_store *store = NULL;
    struct hlt_err err = {""};
    char by[128];
    char *path = hlt_cli_db_path(values[DB], values[CONFIG]);
    int code = HLT_EXIT_OK;

    if (path == NULL) {
        return HLT_EXIT_IO;
    }
    if (what->expires_ms == 0) {
        what->expires_ms = end_of(what, values[CONFIG]);
    }
    if (!lift && what->expires_ms <= what->created_ms) {
        code = hlt_cli_fail(HLT_EXIT_USAGE, "--expires lies in the past: it would bar nothing");
        goto done;
    }
    enum hlt_rc rc = hlt_store_open_writer(&store, path, &err);
    if (rc == HLT_EBUSY) {
        code = hlt_cli_fail(HLT_EXIT_IO,
                            "a broker runs on %s: give the order to it, with --host, --port and "
                            "--token-file of an admin's token",
                            path);
        goto done;
    }
    if (rc != HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
        goto done;
    }
    who(by, sizeof(by));
    what->by = by;
    bool known = merge(store, what);
    if (lift && !known) {
        code = hlt_cli_fail(HLT_EXIT_NO, "no such revocation is in force");
    } else if (write_down(store, what, lift, &err) != HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
    }
done:
    what->by = NULL;
    hlt_store_close(store);
    free(path);
    return code;
}

static int order(const struct hlt_cli_spec *spec, int argc, char **argv, bool lift)
{
    const char *values[COUNT];
    struct hlt_revocation what;

    switch (hlt_cli_parse(spec, argc, argv, values, NULL, NULL)) {
    case HLT_CLI_HELP: return HLT_EXIT_OK;
    case HLT_CLI_USAGE: return HLT_EXIT_USAGE;
    case HLT_CLI_OK: break;
    }
    if (!read_target(values, &what)) {
        return HLT_EXIT_USAGE;
    }
    if (hlt_admin_named(values + WHERE)) {
        if (values[DB] != NULL) {
            return hlt_cli_fail(HLT_EXIT_USAGE,
                                "give --db (no broker runs) or --host (one does), not both");
        }
        return by_broker(values, &what, lift);
    }
    return by_store(values, &what, lift);
}

int hlt_token_revoke(int argc, char **argv)
{
    static const struct hlt_cli_spec spec = {
        .synopsis = "haltere token revoke (--jti ID | --sub ID [--before DATE] | --kid KID) "
                    "[--reason TEXT] [--expires DATE] [--host HOST --token-file FILE | --db DIR]",
        .summary = "Bars tokens before they expire. With --host and --token-file the running "
                   "broker does it and ends the sessions concerned within a second, without their "
                   "wills. While no broker runs it goes into the store, as the user who owns it.",
        .options = options,
        .notes =
            "--sub alone bars new tokens of that device too, until it is lifted or ends; with "
            "--before now only those issued until now: issue a new one and the device is back.\n\n"
            "Example:\n"
            "  haltere token revoke --sub pump-7 --before now --reason stolen \\\n"
            "    --token-file admin.token"};

    return order(&spec, argc, argv, false);
}

int hlt_token_unrevoke(int argc, char **argv)
{
    static const struct hlt_cli_spec spec = {
        .synopsis = "haltere token unrevoke (--jti ID | --sub ID [--before DATE] | --kid KID) "
                    "[--host HOST --token-file FILE | --db DIR]",
        .summary = "Lifts a revocation, named as it was given (with any --before for one that had "
                   "a date). Sessions it ended stay ended until they log in again.",
        .options = options};

    return order(&spec, argc, argv, true);
}

/* --- list --- */

static cJSON *entry(const void *key, size_t key_len, const void *value, size_t len, int64_t now_ms,
                    bool *damaged)
{
    struct hlt_revocation revocation;
    struct hlt_revocation_record record;
    char id[HLT_REVOKE_ID_MAX + 1];

    *damaged = hlt_revocation_read(&revocation, id, &record, key, key_len, value, len) != HLT_OK;
    return !*damaged && revocation.expires_ms > now_ms ? hlt_revocation_json(&revocation) : NULL;
}

static void print_table(const cJSON *list, int64_t now_ms)
{
    static const char *const heads[] = {"<KIND", "<ID", "<BEFORE", "<ENDS", "<BY", "<REASON"};
    static const char *const ids[] = {"jti", "kid", "sub"};
    struct hlt_table *table = hlt_table_new(heads, sizeof(heads) / sizeof(heads[0]));
    const cJSON *item;

    (void)now_ms;
    cJSON_ArrayForEach(item, list)
    {
        const char *before = hlt_listing_text(item, "issuedBefore", NULL);
        size_t kind = 0;
        while (kind < 2 && hlt_listing_text(item, ids[kind], NULL) == NULL) {
            kind++;
        }
        hlt_table_cell(table, "%s",
                       before != NULL ? hlt_revoke_kind_word(HLT_REVOKE_BEFORE) : ids[kind]);
        hlt_table_cell(table, "%s", hlt_listing_text(item, ids[kind], ""));
        hlt_table_cell(table, "%s", before != NULL ? before : "-");
        hlt_table_cell(table, "%s", hlt_listing_text(item, "expires", "never"));
        hlt_table_cell(table, "%s", hlt_listing_text(item, "by", ""));
        hlt_table_cell(table, "%s", hlt_listing_text(item, "reason", ""));
    }
    hlt_table_print(table);
}

int hlt_token_revocations(int argc, char **argv)
{
    static const struct hlt_cli_option list_options[] = {
        HLT_LISTING_OPTIONS("print {\"revocations\":[...]}")};
    static const struct hlt_cli_spec spec = {
        .synopsis = "haltere token revocations [--db DIR | --config CONF | --host HOST "
                    "--token-file FILE] [--json]",
        .summary = "Lists the revocations in force: from the store or, with --token-file, as the "
                   "running broker tells them, oldest first.",
        .options = list_options};
    static const struct hlt_listing listing = {"listRevocations", "revocations", HLT_DB_REVOCATIONS,
                                               entry, print_table};

    return hlt_listing_run(&listing, &spec, argc, argv);
}
