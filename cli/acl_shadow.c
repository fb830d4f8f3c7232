/* acl_shadow.c - `haltere acl shadow report`: where the shadow policy of a broker would decide
 * otherwise than the one in force. */
#include <stdlib.h>
#include <string.h>

#include "../shared/shadow.h"
#include "acl_verbs.h"
#include "reader.h"

/* What differs in the same way: by access, answer and rules; or by device as well. */
struct group {
    const char *who; /* NULL: grouped by rule alone; "": devices without a row of their own */
    const char *access, *topic, *active, *shadow, *example_who;
    bool allowed;
    double count, first, last;
    size_t devices;
};

struct report {
    cJSON *head, *rows; /* own the texts that groups point to */
    struct group *groups;
    size_t count;
};

static cJSON *read_json(const struct hlt_reader *reader, const char *key)
{
    char *text = hlt_reader_blob(reader, HLT_DB_COUNTERS, key);
    cJSON *root = text != NULL ? cJSON_Parse(text) : NULL;

    free(text);
    return root;
}

/* The rows of these two policies, in one array. NULL: there is nothing to report on. */
static cJSON *read_rows(const struct hlt_reader *reader, const cJSON *head)
{
    cJSON *rows = cJSON_CreateArray();
    double count = hlt_reader_number_of(head, "rows");

    for (unsigned i = 0; i < count; i++) {
        char key[24];

        (void)snprintf(key, sizeof(key), HLT_SHADOW_ROW_KEY, i);
        cJSON *row = read_json(reader, key);
        if (row == NULL ||
            strcmp(hlt_reader_text_of(row, "active"), hlt_reader_text_of(head, "active")) != 0 ||
            strcmp(hlt_reader_text_of(row, "shadow"), hlt_reader_text_of(head, "shadow")) != 0) {
            cJSON_Delete(row); /* not written yet */
            continue;
        }
        cJSON_AddItemToArray(rows, row);
    }
    return rows;
}

static int by_kind(const void *left, const void *right)
{
    const struct group *a = left, *b = right;
    int order = strcmp(a->access, b->access);

    order = order != 0 ? order : (int)a->allowed - (int)b->allowed;
    order = order != 0 ? order : strcmp(a->active, b->active);
    order = order != 0 ? order : strcmp(a->shadow, b->shadow);
    return order != 0 || a->who == NULL ? order : strcmp(a->who, b->who);
}

static int by_count(const void *left, const void *right)
{
    const struct group *a = left, *b = right;

    return a->count != b->count ? (a->count < b->count ? 1 : -1) : by_kind(left, right);
}

static struct group group_of(const cJSON *row, bool by_device)
{
    return (struct group){
        .who = by_device ? hlt_reader_text_of(row, "who") : NULL,
        .access = hlt_reader_text_of(row, "access"),
        .topic = hlt_reader_text_of(row, "topic"),
        .active = hlt_reader_text_of(row, "activeText"),
        .shadow = hlt_reader_text_of(row, "shadowText"),
        .example_who = hlt_reader_text_of(row, "who"),
        .allowed = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(row, "allowed")),
        .count = hlt_reader_number_of(row, "count"),
        .first = hlt_reader_number_of(row, "first"),
        .last = hlt_reader_number_of(row, "last"),
        .devices = hlt_reader_text_of(row, "who")[0] != '\0',
    };
}

/* Sum the rows up; `device` NULL: of all devices. */
static void sum_up(struct report *report, const char *device)
{
    size_t space = (size_t)cJSON_GetArraySize(report->rows), count = 0, kept = 0;
    const cJSON *row;

    report->groups = hlt_cli_resize(NULL, (space + 1) * sizeof(*report->groups));
    cJSON_ArrayForEach(row, report->rows)
    {
        if (device == NULL || strcmp(hlt_reader_text_of(row, "who"), device) == 0) {
            report->groups[count++] = group_of(row, device != NULL);
        }
    }
    if (count > 0) {
        qsort(report->groups, count, sizeof(*report->groups), by_kind);
    }
    for (size_t i = 0; i < count; i++) {
        struct group *last = kept > 0 ? &report->groups[kept - 1] : NULL;
        const struct group *next = &report->groups[i];

        if (last == NULL || by_kind(last, next) != 0) {
            report->groups[kept++] = *next;
            continue;
        }
        last->count += next->count;
        last->devices += next->devices;
        last->first = next->first < last->first ? next->first : last->first;
        if (next->last > last->last || last->example_who[0] == '\0') {
            last->last = next->last > last->last ? next->last : last->last;
            last->topic = next->topic;
            last->example_who = next->example_who;
        }
    }
    if (kept > 0) {
        qsort(report->groups, kept, sizeof(*report->groups), by_count);
    }
    report->count = kept;
}

static void add_rule(cJSON *object, const char *name, const char *text)
{
    if (text[0] == '\0') {
        cJSON_AddNullToObject(object, name);
    } else {
        cJSON_AddStringToObject(object, name, text);
    }
}

static int print_json(const struct report *report, size_t limit)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "policy", hlt_reader_text_of(report->head, "active"));
    cJSON_AddStringToObject(root, "shadowPolicy", hlt_reader_text_of(report->head, "shadow"));
    hlt_reader_add_date(root, "since", (int64_t)hlt_reader_number_of(report->head, "since"));
    cJSON_AddNumberToObject(root, "checked", hlt_reader_number_of(report->head, "checked"));
    cJSON_AddNumberToObject(root, "wouldDeny", hlt_reader_number_of(report->head, "wouldDeny"));
    cJSON_AddNumberToObject(root, "wouldAllow", hlt_reader_number_of(report->head, "wouldAllow"));
    cJSON *list = cJSON_AddArrayToObject(root, "differences");
    for (size_t i = 0; i < report->count && i < limit; i++) {
        const struct group *group = &report->groups[i];
        cJSON *item = cJSON_CreateObject();

        cJSON_AddStringToObject(item, "access", group->access);
        cJSON_AddStringToObject(item, "now", group->allowed ? "allow" : "deny");
        cJSON_AddStringToObject(item, "shadow", group->allowed ? "deny" : "allow");
        add_rule(item, "nowRule", group->active);
        add_rule(item, "shadowRule", group->shadow);
        cJSON_AddNumberToObject(item, "count", group->count);
        cJSON_AddNumberToObject(item, "devices", (double)group->devices);
        hlt_reader_add_date(item, "first", (int64_t)group->first);
        hlt_reader_add_date(item, "last", (int64_t)group->last);
        cJSON *example = cJSON_AddObjectToObject(item, "example");
        hlt_reader_add_text(example, "deviceId", group->example_who);
        cJSON_AddStringToObject(example, "topic", group->topic);
        cJSON_AddItemToArray(list, item);
    }
    return hlt_cli_print_json(root);
}

static void print_rule(const char *what, const char *text, bool allowed)
{
    printf("    %s ", what);
    hlt_cli_print_text(stdout, text[0] != '\0' ? text
                               : allowed       ? "no rule denies it"
                                               : "no rule allows it");
    printf("\n");
}

static void print_group(const struct group *group)
{
    int64_t now_ms = hlt_cli_now_ms();
    char last[24];

    hlt_cli_age(now_ms - (int64_t)group->last, last);
    printf("%s%s%s %.0f x %s ", group->allowed ? hlt_cli_red() : hlt_cli_yellow(),
           group->allowed ? "WOULD DENY " : "WOULD ALLOW", hlt_cli_reset(), group->count,
           group->access);
    if (group->who == NULL && group->devices > 1) {
        printf("of %zu devices, ", group->devices);
    }
    printf("last %s ago: ", last);
    hlt_cli_print_text(stdout, group->topic);
    if (group->example_who[0] != '\0') {
        printf(" by ");
        hlt_cli_print_text(stdout, group->example_who);
    }
    printf("\n");
    print_rule("now:   ", group->active, group->allowed);
    print_rule("shadow:", group->shadow, !group->allowed);
}

static int print_text(const struct report *report, size_t limit)
{
    char age[24];

    for (size_t i = 0; i < report->count && i < limit; i++) {
        print_group(&report->groups[i]);
    }
    if (report->count > limit) {
        printf("... and %zu more (--limit)\n", report->count - limit);
    }
    hlt_cli_age(hlt_cli_now_ms() - (int64_t)hlt_reader_number_of(report->head, "since"), age);
    printf("policy %s in force, %s as its shadow for %s: %.0f checks, %.0f would be denied, %.0f "
           "would be allowed\n",
           hlt_reader_text_of(report->head, "active"), hlt_reader_text_of(report->head, "shadow"),
           age, hlt_reader_number_of(report->head, "checked"),
           hlt_reader_number_of(report->head, "wouldDeny"),
           hlt_reader_number_of(report->head, "wouldAllow"));
    return HLT_EXIT_OK;
}

static int tell(const struct hlt_reader *reader, const char *device, size_t limit, bool json)
{
    struct report report = {.head = read_json(reader, HLT_SHADOW_KEY)};
    int code;

    if (report.head == NULL) {
        return hlt_cli_fail(HLT_EXIT_NO,
                            "no shadow policy is compared on %s: give the broker "
                            "plugin_opt_acl_shadow_file (its first counts "
                            "are written after flush_interval)",
                            reader->path);
    }
    report.rows = read_rows(reader, report.head);
    sum_up(&report, device);
    code = json ? print_json(&report, limit) : print_text(&report, limit);
    free(report.groups);
    cJSON_Delete(report.rows);
    cJSON_Delete(report.head);
    return code;
}

int hlt_acl_shadow(int argc, char **argv)
{
    enum { DB, CONFIG, DEVICE, LIMIT, JSON, COUNT };
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        {"device", "ID", "only what this device would be answered otherwise"},
        {"limit", "N", "at most so many differences, the most frequent first (default 50)"},
        {"json", NULL, "print one JSON document instead of text"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        .synopsis =
            "haltere acl shadow report [--db DIR | --config CONF] [--device ID] [--limit N] "
            "[--json]",
        .summary = "Tell where the policy in plugin_opt_acl_shadow_file would have decided "
                   "otherwise than the one in force, by access and rules, since both are the same: "
                   "how often, for how many devices, and the latest example.",
        .options = options,
        .positional_min = 1,
        .positional_max = 1,
        .notes = "Limits are not compared. The broker writes its counts down every flush_interval. "
                 "Exit codes: 0, also if nothing differs; 1 no shadow policy is compared.",
    };
    const char *values[COUNT] = {NULL}, *what = NULL;
    struct hlt_reader reader;
    unsigned long long limit = 50;
    enum hlt_cli_rc parsed = hlt_cli_parse(&spec, argc, argv, values, &what, NULL);

    if (parsed != HLT_CLI_OK) {
        return parsed == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    if (strcmp(what, "report") != 0) {
        return hlt_cli_fail(HLT_EXIT_USAGE,
                            "unknown verb 'acl shadow %s': did you mean 'acl "
                            "shadow report'?",
                            what);
    }
    if (!hlt_cli_number("limit", values[LIMIT], 1, UINT32_MAX, &limit)) {
        return HLT_EXIT_USAGE;
    }
    int code = hlt_reader_open(&reader, values[DB], values[CONFIG]);
    if (code != HLT_EXIT_OK) {
        return code;
    }
    hlt_reader_note_stale(&reader);
    code = tell(&reader, values[DEVICE], (size_t)limit, values[JSON] != NULL);
    hlt_reader_close(&reader);
    return code;
}
