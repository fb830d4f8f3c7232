/* options.c - every plugin_opt_NAME in one table; parsing, defaults and freeing follow from it. */
#include "options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "text.h"

#define PATH_BYTES_MAX 4095 /* Linux's PATH_MAX without the NUL */
#define CHOICE_BYTES_MAX 16 /* the longest word of the choices below is "password" */
#define CHOICES_MAX 8
#define OPTIONS_MAX 64 /* rows of the table, checked at compile time */
#define SHOWN "%.200s" /* how much of a value stands in a message */

/* Where and how a value is kept in struct hlt_options. */
enum member {
    MEMBER_FLAG,     /* bool: false for the first choice */
    MEMBER_INDEX,    /* int or enum: the choice's place */
    MEMBER_SECONDS,  /* int64_t */
    MEMBER_MILLIS,   /* int64_t */
    MEMBER_NUMBER,   /* uint64_t: counts and sizes */
    MEMBER_TEXT,     /* char *: paths */
    MEMBER_PREFIX,   /* char *: topic levels */
    MEMBER_LIST,     /* char *[HLT_LIST_MAX] and its count */
    MEMBER_NETWORKS, /* the same, of networks and the word loopback */
    MEMBER_KEYS,     /* keys, keys_storage, key_count */
};

struct row {
    struct hlt_option_info info;
    enum member member;
    size_t offset, count_offset;
};

#define AT(member) offsetof(struct hlt_options, member)

_Static_assert(sizeof(enum hlt_health_publish) == sizeof(int), "MEMBER_INDEX writes an int");
_Static_assert(sizeof(enum hlt_acl_compat_option) == sizeof(int), "MEMBER_INDEX writes an int");

/* Ranges are parsed from the text a person reads, so the two cannot differ. */
static const struct row table[] = {
    {{"keys_file", HLT_OPT_PATH, "", "required", "", true,
      "File of keys that sign tokens: `[alg=ALG] [kid=KID] [issuer=ISSUER] PATH`, a JWKS, a PEM "
      "public key or a raw secret."},
     MEMBER_KEYS,
     AT(keys),
     AT(key_count)},
    {{"issuer", HLT_OPT_TEXT, "", "", "", true,
      "An accepted `iss` claim; without this option any issuer is accepted."},
     MEMBER_LIST,
     AT(issuer),
     AT(issuer_count)},
    {{"audience", HLT_OPT_TEXT, "", "", "", true,
      "An accepted `aud` claim; without this option any audience is accepted."},
     MEMBER_LIST,
     AT(audience),
     AT(audience_count)},
    {{"leeway", HLT_OPT_DURATION, "s", "30s", "0s..10min", false,
      "How far clocks may differ when `exp`, `nbf` and `iat` are checked."},
     MEMBER_SECONDS,
     AT(leeway_s),
     0},
    {{"max_token_bytes", HLT_OPT_SIZE, "bytes", "8192", "256..65535", false,
      "A longer token is refused unread."},
     MEMBER_NUMBER,
     AT(max_token_bytes),
     0},
    {{"max_token_lifetime", HLT_OPT_DURATION, "s", "30d", "0s..3650d", false,
      "A token whose `exp` is further than this from its `iat` is refused; 0s: not checked."},
     MEMBER_SECONDS,
     AT(max_token_lifetime_s),
     0},
    {{"token_source", HLT_OPT_CHOICE, "", "password", "password|username", false,
      "Which field of CONNECT carries the token."},
     MEMBER_FLAG,
     AT(token_in_username),
     0},
    {{"client_id_match", HLT_OPT_CHOICE, "", "exact", "exact|prefix", false,
      "The client id must equal `sub`; `prefix` also allows `sub:anything`."},
     MEMBER_FLAG,
     AT(client_id_prefix),
     0},
    {{"require_exp", HLT_OPT_BOOL, "", "true", "false|true", false, "Refuse tokens without `exp`."},
     MEMBER_FLAG,
     AT(require_exp),
     0},
    {{"require_iss", HLT_OPT_BOOL, "", "true", "false|true", false, "Refuse tokens without `iss`."},
     MEMBER_FLAG,
     AT(require_iss),
     0},
    {{"require_aud", HLT_OPT_BOOL, "", "true", "false|true", false, "Refuse tokens without `aud`."},
     MEMBER_FLAG,
     AT(require_aud),
     0},
    {{"allow_other_auth", HLT_OPT_BOOL, "", "false", "false|true", false,
      "Leave logins without a token to password_file and other plugins."},
     MEMBER_FLAG,
     AT(allow_other_auth),
     0},
    {{"admin_roles", HLT_OPT_TEXT, "", "haltere-admin", "", true,
      "A role whose holders may give commands on `$CONTROL/haltere/v1`."},
     MEMBER_LIST,
     AT(admin_roles),
     AT(admin_role_count)},
    {{"offline_after_exp", HLT_OPT_CHOICE, "", "queue", "queue|deny", false,
      "Whether messages are queued for an offline session whose token has expired."},
     MEMBER_FLAG,
     AT(offline_after_exp_deny),
     0},
    {{"identity_keep", HLT_OPT_DURATION, "s", "7d", "1min..3650d", false,
      "How long an offline session's identity is kept after its token expired."},
     MEMBER_SECONDS,
     AT(identity_keep_s),
     0},
    {{"max_sessions", HLT_OPT_COUNT, "", "100000", "1..10000000", false,
      "Identities kept, online and offline; at the limit the oldest offline one goes, else new "
      "logins are refused."},
     MEMBER_NUMBER,
     AT(max_sessions),
     0},
    {{"token_cache", HLT_OPT_COUNT, "", "100000", "0..10000000", false,
      "Verified tokens remembered, so that a reconnect costs no signature; 0: none."},
     MEMBER_NUMBER,
     AT(token_cache),
     0},
    {{"auth_fail_burst", HLT_OPT_COUNT, "", "20", "0..100000", false,
      "Failed logins at once that get an address banned; half as many of one client id ban that id "
      "from the address; 0: nobody is banned."},
     MEMBER_NUMBER,
     AT(auth_fail_burst),
     0},
    {{"auth_fail_rate", HLT_OPT_COUNT, "", "20", "1..100000", false,
      "Failed logins that are forgotten each minute."},
     MEMBER_NUMBER,
     AT(auth_fail_rate),
     0},
    {{"ban_time", HLT_OPT_DURATION, "s", "10min", "1s..365d", false,
      "How long a ban for failed logins lasts."},
     MEMBER_SECONDS,
     AT(ban_time_s),
     0},
    {{"ban_exempt", HLT_OPT_TEXT, "", "loopback", "", true,
      "An address or network (10.0.0.0/8) that is never banned; `loopback` is this machine."},
     MEMBER_NETWORKS,
     AT(ban_exempt),
     AT(ban_exempt_count)},
    {{"trusted_proxies", HLT_OPT_TEXT, "", "", "", true,
      "An address or network of a TCP proxy: its clients are not limited or banned as one, nor "
      "compared by address."},
     MEMBER_NETWORKS,
     AT(trusted_proxies),
     AT(trusted_proxy_count)},
    {{"acl_file", HLT_OPT_PATH, "", "required", "", false,
      "The policy: who may read, write and subscribe to what."},
     MEMBER_TEXT,
     AT(acl_file),
     0},
    {{"acl_compat", HLT_OPT_CHOICE, "", "auto", "auto|2.0|2.1", false,
      "Which Mosquitto the `topic` and `pattern` lines of an acl_file are decided as; auto: the "
      "one "
      "that runs."},
     MEMBER_INDEX,
     AT(acl_compat),
     0},
    {{"acl_fallback", HLT_OPT_CHOICE, "", "stop", "stop|last_good", false,
      "What a broker does that is started on a broken `acl_file`: stop, or use the last good "
      "policy, "
      "which is kept in `db_path`, and raise `policy_reload_failed`."},
     MEMBER_FLAG,
     AT(acl_fallback_last_good),
     0},
    {{"acl_shadow_file", HLT_OPT_PATH, "", "", "", false,
      "A policy that is asked beside `acl_file`, without effect: what it would decide otherwise is "
      "counted (`haltere acl shadow report`)."},
     MEMBER_TEXT,
     AT(acl_shadow_file),
     0},
    {{"max_shadow_rows", HLT_OPT_COUNT, "", "10000", "0..1000000", false,
      "Differences of the shadow policy that are counted by device; more are counted by rule "
      "alone."},
     MEMBER_NUMBER,
     AT(max_shadow_rows),
     0},
    {{"max_recent_bytes", HLT_OPT_SIZE, "bytes", "64MiB", "0..4GiB", false,
      "Memory for each client's last 32 questions, by which a new policy tells whom it changes; "
      "when it is used up, new ones are not kept."},
     MEMBER_NUMBER,
     AT(max_recent_bytes),
     0},
    {{"rules_file", HLT_OPT_PATH, "", "", "", false,
      "Alert rules (JSON); without it the built-in rules hold."},
     MEMBER_TEXT,
     AT(rules_file),
     0},
    {{"db_path", HLT_OPT_PATH, "", "required", "", false,
      "Directory of the store, made if its parent exists; on a local disk."},
     MEMBER_TEXT,
     AT(db_path),
     0},
    {{"max_devices", HLT_OPT_COUNT, "", "1000000", "1..10000000", false,
      "Devices known at once; at the limit new ones are not tracked and `devices_full` fires."},
     MEMBER_NUMBER,
     AT(max_devices),
     0},
    {{"max_alerts", HLT_OPT_COUNT, "", "100000", "100..10000000", false,
      "Alert records kept, open and resolved; at the limit `alerts_full` fires."},
     MEMBER_NUMBER,
     AT(max_alerts),
     0},
    {{"max_denial_devices", HLT_OPT_COUNT, "", "1000", "0..1000000", false,
      "Devices whose last 64 denials are kept in memory (about 10 KB each at most); the longest "
      "quiet one makes room."},
     MEMBER_NUMBER,
     AT(max_denial_devices),
     0},
    {{"flush_interval", HLT_OPT_DURATION, "s", "5s", "100ms..60s", false,
      "Changes reach the disk at least this often."},
     MEMBER_MILLIS,
     AT(flush_interval_ms),
     0},
    {{"store_max_size", HLT_OPT_SIZE, "bytes", "64GiB", "64MiB..16TiB", false,
      "The store's file grows at most to this."},
     MEMBER_NUMBER,
     AT(store_max_bytes),
     0},
    {{"max_revocations", HLT_OPT_COUNT, "", "100000", "100..10000000", false,
      "Revocations in force at once; at the limit new ones are refused and `revocations_full` "
      "fires."},
     MEMBER_NUMBER,
     AT(max_revocations),
     0},
    {{"audit_keep", HLT_OPT_DURATION, "s", "365d", "0s..3650d", false,
      "Audit records older than this are removed; 0s: none for its age."},
     MEMBER_SECONDS,
     AT(audit_keep_s),
     0},
    {{"audit_max_records", HLT_OPT_COUNT, "", "1000000", "10000..100000000", false,
      "Above this many audit records the oldest are removed; one takes some 200 bytes of disk."},
     MEMBER_NUMBER,
     AT(audit_max_records),
     0},
    {{"expiry_notice", HLT_OPT_DURATION, "s", "60s", "0s..1d", false,
      "A device is told this long before its token expires; 0s: not told."},
     MEMBER_SECONDS,
     AT(expiry_notice_s),
     0},
    {{"heartbeat_interval", HLT_OPT_DURATION, "s", "30s", "1s..1h", false,
      "How often `system/heartbeat` is published."},
     MEMBER_MILLIS,
     AT(heartbeat_interval_ms),
     0},
    {{"health_interval", HLT_OPT_DURATION, "s", "60s", "1s..1d", false,
      "A device's health document is published at most this often while its band stays."},
     MEMBER_MILLIS,
     AT(health_interval_ms),
     0},
    {{"health_publish", HLT_OPT_CHOICE, "", "on", "off|changes|on", false,
      "Publish health documents: never, on a change of band, or also at `health_interval`."},
     MEMBER_INDEX,
     AT(health_publish),
     0},
    {{"health_publish_max", HLT_OPT_COUNT, "", "20000", "0..10000000", false,
      "Above this many devices no retained health and availability topics are published: each "
      "costs the broker about 1 KB."},
     MEMBER_NUMBER,
     AT(health_publish_devices),
     0},
    {{"topic_devices", HLT_OPT_TEXT, "", "devices", "", false,
      "First levels of the devices' topics."},
     MEMBER_PREFIX,
     AT(device_prefix),
     0},
    {{"topic_alerts", HLT_OPT_TEXT, "", "alerts", "", false, "First levels of the alert topics."},
     MEMBER_PREFIX,
     AT(alert_prefix),
     0},
    {{"topic_system", HLT_OPT_TEXT, "", "system", "", false,
      "First levels of the heartbeat topic."},
     MEMBER_PREFIX,
     AT(system_prefix),
     0},
    {{"log_level", HLT_OPT_CHOICE, "", "info", "error|warning|notice|info|debug", false,
      "The least important messages that reach the broker's log."},
     MEMBER_INDEX,
     AT(log_level),
     0},
    {{"max_children", HLT_OPT_COUNT, "", "1000", "0..1000000", false,
      "Devices that one gateway session may bring into being."},
     MEMBER_NUMBER,
     AT(max_children),
     0},
};

#define ROW_COUNT (sizeof(table) / sizeof(table[0]))
_Static_assert(ROW_COUNT < OPTIONS_MAX, "the list of names for suggestions ends with NULL");

const struct hlt_option_info *hlt_option_at(size_t index)
{
    return index < ROW_COUNT ? &table[index].info : NULL;
}

/* One parse: what is being filled, where we are, what has been seen. */
struct parse {
    struct hlt_options *out;
    struct hlt_problems *problems;
    const char *file;
    unsigned line; /* of the pair at hand, 0 unknown */
    bool given[ROW_COUNT];
    unsigned given_line[ROW_COUNT];
};

static void complain(struct parse *parse, const struct row *row, const char *value,
                     const char *what)
{
    hlt_problems_add(parse->problems, HLT_PROBLEM_ERROR, parse->file, parse->line, 0,
                     "plugin_opt_%s: '" SHOWN "' %s", row->info.name, value, what);
}

static void no_memory(struct parse *parse)
{
    hlt_problems_add(parse->problems, HLT_PROBLEM_ERROR, NULL, 0, 0,
                     "no memory for the options: free some and start again");
}

static void *member_of(struct parse *parse, size_t offset)
{
    return (char *)parse->out + offset;
}

/* --- one setter per kind of value; each reports its own mistakes --- */

/* Copy choice `index` of "a|b|c" into `word`. */
static bool choice_at(const char *choices, size_t index, char word[CHOICE_BYTES_MAX])
{
    for (; index > 0; index--) {
        choices = strchr(choices, '|');
        if (choices == NULL) {
            return false;
        }
        choices++;
    }
    (void)snprintf(word, CHOICE_BYTES_MAX, "%.*s", (int)strcspn(choices, "|"), choices);
    return true;
}

static void set_choice(struct parse *parse, const struct row *row, const char *value)
{
    char words[CHOICES_MAX][CHOICE_BYTES_MAX];
    const char *list[CHOICES_MAX + 1] = {NULL};
    int found = -1;

    for (int i = 0; i < CHOICES_MAX && choice_at(row->info.range, (size_t)i, words[i]); i++) {
        list[i] = words[i];
        if (strcmp(words[i], value) == 0) {
            found = i;
        }
    }
    if (row->info.type == HLT_OPT_BOOL && found < 0 && value[0] != '\0' && value[1] == '\0') {
        found = value[0] == '0' ? 0 : value[0] == '1' ? 1 : -1; /* as Mosquitto reads its own */
    }
    if (found < 0) {
        const char *near = hlt_suggest(value, list);
        char what[128];
        (void)snprintf(what, sizeof(what), "is not one of %s%s%s%s", row->info.range,
                       near != NULL ? ": did you mean '" : "", near != NULL ? near : "",
                       near != NULL ? "'?" : "");
        complain(parse, row, value, what);
        return;
    }
    if (row->member == MEMBER_FLAG) {
        bool flag = found != 0;
        memcpy(member_of(parse, row->offset), &flag, sizeof(flag));
    } else {
        memcpy(member_of(parse, row->offset), &found, sizeof(found));
    }
}

static bool parse_number(const struct row *row, const char *text, uint64_t *out)
{
    int64_t ms = 0;
    switch (row->info.type) {
    case HLT_OPT_DURATION:
        if (!hlt_duration_parse(text, &ms)) {
            return false;
        }
        *out = (uint64_t)ms;
        return true;
    case HLT_OPT_COUNT: /* digits only: a count in KiB makes no sense */
        return text[strspn(text, "0123456789")] == '\0' && hlt_size_parse(text, out);
    case HLT_OPT_SIZE: return hlt_size_parse(text, out);
    default: return false;
    }
}

/* "low..high" of our own table. */
static bool in_range(const struct row *row, uint64_t value)
{
    char low_text[32];
    uint64_t low = 0;
    uint64_t high = 0;
    const char *dots = strstr(row->info.range, "..");

    if (dots == NULL) {
        return false;
    }
    (void)snprintf(low_text, sizeof(low_text), "%.*s", (int)(dots - row->info.range),
                   row->info.range);
    return parse_number(row, low_text, &low) && parse_number(row, dots + 2, &high) &&
           value >= low && value <= high;
}

static const char *number_help(enum hlt_option_type type)
{
    switch (type) {
    case HLT_OPT_DURATION:
        return "is not a duration: write a whole number with ms, s, min, h or d, such as";
    case HLT_OPT_SIZE: return "is not a size: write a whole number with KiB, MiB or GiB, such as";
    default: return "is not a number: write digits only, such as";
    }
}

static void set_number(struct parse *parse, const struct row *row, const char *value)
{
    char what[160];
    uint64_t number = 0;

    if (!parse_number(row, value, &number)) {
        (void)snprintf(what, sizeof(what), "%s %s", number_help(row->info.type),
                       row->info.fallback);
        complain(parse, row, value, what);
        return;
    }
    if (!in_range(row, number)) {
        (void)snprintf(what, sizeof(what), "is out of range: it must be within %s (default %s)",
                       row->info.range, row->info.fallback);
        complain(parse, row, value, what);
        return;
    }
    if (row->member == MEMBER_SECONDS && number % 1000 != 0) {
        complain(parse, row, value, "is not a number of whole seconds");
        return;
    }
    if (row->member == MEMBER_SECONDS) {
        number /= 1000;
    }
    int64_t time = (int64_t)number; /* in range, so it fits */
    if (row->member == MEMBER_NUMBER) {
        memcpy(member_of(parse, row->offset), &number, sizeof(number));
    } else {
        memcpy(member_of(parse, row->offset), &time, sizeof(time));
    }
}

/* NULL if `text` may be a value at all. */
static const char *text_fault(const char *text, size_t max_bytes)
{
    size_t len = strlen(text);
    if (len > max_bytes) {
        return "is too long";
    }
    if (!hlt_utf8_valid(text, len)) {
        return "is not valid UTF-8";
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return "has a control character";
        }
    }
    return NULL;
}

static const char *prefix_fault(const char *prefix)
{
    size_t len = strlen(prefix);
    const char *fault = text_fault(prefix, HLT_PREFIX_MAX);
    if (fault != NULL) {
        return fault;
    }
    if (strpbrk(prefix, "+#") != NULL) {
        return "has a wildcard: name the levels themselves";
    }
    if (prefix[0] == '/' || prefix[len - 1] == '/' || strstr(prefix, "//") != NULL) {
        return "has an empty level: leave out the / at its ends";
    }
    if (prefix[0] == '$') {
        return "begins with $, which the broker keeps for itself";
    }
    return NULL;
}

static void set_text(struct parse *parse, const struct row *row, const char *value)
{
    const char *fault =
        row->member == MEMBER_PREFIX ? prefix_fault(value) : text_fault(value, PATH_BYTES_MAX);
    if (fault != NULL) {
        complain(parse, row, value, fault);
        return;
    }
    char *copy = strdup(value);
    if (copy == NULL) {
        no_memory(parse);
        return;
    }
    char **member = member_of(parse, row->offset);
    free(*member);
    *member = copy;
}

static const char *network_fault(const struct row *row, const char *text)
{
    struct hlt_network network;

    if (row->offset == AT(ban_exempt) && strcmp(text, HLT_OPTION_LOOPBACK) == 0) {
        return NULL;
    }
    return hlt_network_parse(&network, text) ? NULL
                                             : "is no address or network, such as 192.0.2.7, "
                                               "10.0.0.0/8 or 2001:db8::/32 (no bits "
                                               "behind the prefix)";
}

static void add_to_list(struct parse *parse, const struct row *row, const char *value)
{
    char **list = member_of(parse, row->offset);
    size_t *count = member_of(parse, row->count_offset);
    const char *fault =
        row->member == MEMBER_NETWORKS ? network_fault(row, value) : text_fault(value, HLT_ID_MAX);

    if (fault != NULL) {
        complain(parse, row, value, fault);
        return;
    }
    for (size_t i = 0; i < *count; i++) {
        if (strcmp(list[i], value) == 0) {
            hlt_problems_add(parse->problems, HLT_PROBLEM_WARNING, parse->file, parse->line, 0,
                             "plugin_opt_%s: '" SHOWN "' is given twice: remove one",
                             row->info.name, value);
            return;
        }
    }
    if (*count == HLT_LIST_MAX) {
        hlt_problems_add(parse->problems, HLT_PROBLEM_ERROR, parse->file, parse->line, 0,
                         "plugin_opt_%s is given more than %d times: remove some", row->info.name,
                         HLT_LIST_MAX);
        return;
    }
    char *copy = strdup(value);
    if (copy == NULL) {
        no_memory(parse);
        return;
    }
    list[(*count)++] = copy;
}

static void add_keys(struct parse *parse, const struct row *row, const char *value)
{
    struct hlt_options *out = parse->out;
    struct hlt_err err = {.msg = ""};
    const char *fault = text_fault(value, PATH_BYTES_MAX);

    if (fault != NULL) {
        complain(parse, row, value, fault);
        return;
    }
    if (out->key_count == HLT_KEY_SOURCES_MAX) {
        hlt_problems_add(parse->problems, HLT_PROBLEM_ERROR, parse->file, parse->line, 0,
                         "plugin_opt_%s is given more than %d times: put several keys into one "
                         "JWKS file",
                         row->info.name, HLT_KEY_SOURCES_MAX);
        return;
    }
    if (hlt_key_source_parse(value, &out->keys[out->key_count], &out->keys_storage[out->key_count],
                             &err) != HLT_OK) {
        hlt_problems_add(parse->problems, HLT_PROBLEM_ERROR, parse->file, parse->line, 0,
                         "plugin_opt_%s: %s", row->info.name, err.msg);
        return;
    }
    out->key_count++;
}

static void set(struct parse *parse, const struct row *row, const char *value)
{
    switch (row->member) {
    case MEMBER_FLAG:
    case MEMBER_INDEX: set_choice(parse, row, value); break;
    case MEMBER_SECONDS:
    case MEMBER_MILLIS:
    case MEMBER_NUMBER: set_number(parse, row, value); break;
    case MEMBER_TEXT:
    case MEMBER_PREFIX: set_text(parse, row, value); break;
    case MEMBER_LIST:
    case MEMBER_NETWORKS: add_to_list(parse, row, value); break;
    case MEMBER_KEYS: add_keys(parse, row, value); break;
    }
}

/* --- the pairs --- */

static void unknown_option(struct parse *parse, const char *name)
{
    const char *names[OPTIONS_MAX] = {NULL};
    for (size_t i = 0; i < ROW_COUNT; i++) {
        names[i] = table[i].info.name;
    }
    const char *near = hlt_suggest(name, names);
    if (near != NULL) {
        hlt_problems_add(parse->problems, HLT_PROBLEM_ERROR, parse->file, parse->line, 0,
                         "unknown option plugin_opt_" SHOWN ": did you mean plugin_opt_%s?", name,
                         near);
    } else {
        hlt_problems_add(parse->problems, HLT_PROBLEM_ERROR, parse->file, parse->line, 0,
                         "unknown option plugin_opt_" SHOWN ": remove it; mosquitto.conf.example "
                         "shows all options",
                         name);
    }
}

static size_t find_row(const char *name)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (strcmp(table[i].info.name, name) == 0) {
            return i;
        }
    }
    return ROW_COUNT;
}

/* Mosquitto hands trailing blanks on: "plugin_opt_leeway 30s " has the value "30s ". NULL: no
 * memory. */
static char *trimmed(const char *value)
{
    value += strspn(value, " \t");
    size_t len = strlen(value);
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t')) {
        len--;
    }
    return strndup(value, len);
}

static void parse_pair(struct parse *parse, const char *name, const char *raw_value)
{
    size_t at = find_row(name);
    if (at == ROW_COUNT) {
        unknown_option(parse, name);
        return;
    }
    const struct row *row = &table[at];
    if (parse->given[at] && !row->info.repeatable) {
        char first[40] = "";
        if (parse->given_line[at] > 0) {
            (void)snprintf(first, sizeof(first), " (first on line %u)", parse->given_line[at]);
        }
        hlt_problems_add(parse->problems, HLT_PROBLEM_ERROR, parse->file, parse->line, 0,
                         "plugin_opt_%s is given twice%s: keep one", name, first);
        return;
    }
    parse->given[at] = true;
    parse->given_line[at] = parse->line;
    char *value = trimmed(raw_value != NULL ? raw_value : "");
    if (value == NULL) {
        no_memory(parse);
    } else if (value[0] == '\0') {
        hlt_problems_add(parse->problems, HLT_PROBLEM_ERROR, parse->file, parse->line, 0,
                         "plugin_opt_%s has no value: write one after the name", name);
    } else {
        set(parse, row, value);
    }
    free(value);
}

static bool is_required(const struct row *row)
{
    return strcmp(row->info.fallback, "required") == 0;
}

static void fill_in_defaults(struct parse *parse)
{
    parse->line = 0;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (parse->given[i]) {
            continue;
        }
        if (is_required(&table[i])) {
            hlt_problems_add(parse->problems, HLT_PROBLEM_ERROR, parse->file, 0, 0,
                             "plugin_opt_%s is missing: add it below the plugin line. It names: %s",
                             table[i].info.name, table[i].info.effect);
        } else if (table[i].info.fallback[0] != '\0') {
            set(parse, &table[i], table[i].info.fallback);
        }
    }
}

/* --- what must fit together --- */

/* True if `inner` is `outer` or lies below it. */
static bool is_within(const char *inner, const char *outer)
{
    size_t len = strlen(outer);
    return strncmp(inner, outer, len) == 0 && (inner[len] == '\0' || inner[len] == '/');
}

static void check_prefixes(const struct parse *parse)
{
    const struct {
        const char *name, *value;
    } prefix[] = {{"topic_devices", parse->out->device_prefix},
                  {"topic_alerts", parse->out->alert_prefix},
                  {"topic_system", parse->out->system_prefix}};

    for (size_t i = 0; i < 3; i++) {
        for (size_t j = i + 1; j < 3; j++) {
            const char *a = prefix[i].value;
            const char *b = prefix[j].value;
            if (a != NULL && b != NULL && (is_within(a, b) || is_within(b, a))) {
                hlt_problems_add(parse->problems, HLT_PROBLEM_ERROR, parse->file, 0, 0,
                                 "plugin_opt_%s '%s' and plugin_opt_%s '%s' overlap: neither may "
                                 "lie within the other",
                                 prefix[i].name, a, prefix[j].name, b);
            }
        }
    }
}

static bool is_listed(const char *word, char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i], word) == 0) {
            return true;
        }
    }
    return false;
}

/* Returns true if each key signs for one issuer, which then is a check of `iss`. */
static bool check_key_issuers(const struct parse *parse)
{
    const struct hlt_options *out = parse->out;
    bool all = out->key_count > 0;
    for (size_t i = 0; i < out->key_count; i++) {
        const char *issuer = out->keys[i].issuer;
        if (issuer == NULL) {
            all = false;
        } else if (out->issuer_count > 0 && !is_listed(issuer, out->issuer, out->issuer_count)) {
            hlt_problems_add(parse->problems, HLT_PROBLEM_ERROR, parse->file, 0, 0,
                             "plugin_opt_keys_file: the key file " SHOWN " is for issuer '" SHOWN
                             "', whom no plugin_opt_issuer accepts: add it there",
                             out->keys[i].path, issuer);
        }
    }
    return all;
}

static void warn_of_claim(const struct parse *parse, const char *claim, const char *option,
                          bool required)
{
    hlt_problems_add(parse->problems, HLT_PROBLEM_WARNING, parse->file, 0, 0,
                     "no plugin_opt_%s is given: a token's %s %s but its value is not compared "
                     "with anything. Give plugin_opt_%s so that tokens made for others are refused",
                     option, claim, required ? "must be present" : "may be missing", option);
}

static void check_claims(const struct parse *parse)
{
    const struct hlt_options *out = parse->out;
    bool keys_name_issuers = check_key_issuers(parse);
    if (out->issuer_count == 0 && !keys_name_issuers) {
        warn_of_claim(parse, "iss", "issuer", out->require_iss);
    }
    if (out->audience_count == 0) {
        warn_of_claim(parse, "aud", "audience", out->require_aud);
    }
    if (!out->require_exp) {
        hlt_problems_add(parse->problems, HLT_PROBLEM_WARNING, parse->file, 0, 0,
                         "plugin_opt_require_exp is false: a stolen token without exp is good for "
                         "ever, until it is revoked. Set it to true and let tokens expire");
    }
}

enum hlt_rc hlt_options_parse(struct hlt_options *out, const char *const *names,
                              const char *const *values, size_t count, const char *file,
                              const unsigned *lines, struct hlt_problems *problems)
{
    struct parse parse = {.out = out, .problems = problems, .file = file};
    size_t errors_before = problems->errors;

    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < count; i++) {
        parse.line = lines != NULL ? lines[i] : 0;
        parse_pair(&parse, names[i], values[i]);
    }
    fill_in_defaults(&parse);
    check_prefixes(&parse);
    check_claims(&parse);
    return problems->errors == errors_before ? HLT_OK : HLT_EPARSE;
}

static void free_list(char **list, size_t *count)
{
    for (size_t i = 0; i < *count; i++) {
        free(list[i]);
    }
    *count = 0;
}

void hlt_options_free(struct hlt_options *options)
{
    if (options == NULL) {
        return;
    }
    free_list(options->keys_storage, &options->key_count);
    free_list(options->issuer, &options->issuer_count);
    free_list(options->audience, &options->audience_count);
    free_list(options->admin_roles, &options->admin_role_count);
    free_list(options->ban_exempt, &options->ban_exempt_count);
    free_list(options->trusted_proxies, &options->trusted_proxy_count);
    free(options->acl_file);
    free(options->acl_shadow_file);
    free(options->rules_file);
    free(options->db_path);
    free(options->device_prefix);
    free(options->alert_prefix);
    free(options->system_prefix);
    free(options->broker_user);
    memset(options, 0, sizeof(*options));
}
