/* rules.c - the built-in alert rules, and the strict JSON file that changes and extends them.
 *
 * Every member is a row of `members`: its type, its range, the kinds it belongs to and its place in
 * struct hlt_rule. A rule object is read twice: first for name and kind, then for the rest. */
#include "rules.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "detector.h"
#include "file.h"
#include "jsonpull.h"
#include "text.h"

#define RULES_FILE_BYTES_MAX (1u << 20)
#define RULES_VERSION 1
#define TEXT_BYTES 256 /* more than any text member may have */
#define CANDIDATES_MAX 32
#define DAY_MS INT64_C(86400000)
#define SHOWN "%.100s"

#define UNSET INT64_C(-1) /* a duration that "defaults" fills in */

static const char *const severity_words[] = {"none", "info", "warning", "critical", NULL};
static const char *const kind_words[] = {
    "threshold",  "anomaly",        "silence", "spoof",  "malformed", "auth_failure",
    "acl_denied", "limit_exceeded", "clone",   "system", NULL};

/* --- the built-in rules --- */

#define NO_BOUND                                                                                   \
    {                                                                                              \
        .above = INFINITY, .below = -INFINITY                                                      \
    }
#define DURATIONS .for_ms = UNSET, .clear_ms = UNSET, .cooldown_ms = UNSET, .renotify_ms = UNSET
#define COMMON .enabled = true, .critical = NO_BOUND, .warning = NO_BOUND, .info = NO_BOUND

/* Thresholds and times are those of facts/seeds and DESIGN 6. */
static const struct hlt_rule builtins[] = {
    {.enabled = true,
     DURATIONS,
     .name = "temperature_high",
     .kind = HLT_RULE_THRESHOLD,
     .summary = "The temperature is above its limit",
     .metric = "temperature",
     .critical = {.above = 80, .below = -INFINITY},
     .warning = {.above = 60, .below = -INFINITY},
     .info = NO_BOUND,
     .hysteresis = 1},
    {COMMON, .name = "anomaly", .kind = HLT_RULE_ANOMALY, .severity = HLT_SEV_WARNING,
     .summary = "A metric is out of line with its own past", .score = 0.5, .for_ms = UNSET,
     .clear_ms = 60000, .cooldown_ms = 60000, .renotify_ms = UNSET},
    {COMMON, DURATIONS, .name = "silence", .kind = HLT_RULE_SILENCE, .severity = HLT_SEV_CRITICAL,
     .summary = "Nothing has been heard of the device for too long", .after_ms = 300000,
     .cadence_factor = 3},
    {COMMON, .name = "spoof", .kind = HLT_RULE_SPOOF, .severity = HLT_SEV_CRITICAL,
     .summary = "A message names another device than its sender", .deny = true, .count = 1,
     .window_ms = 60000, .for_ms = UNSET, .clear_ms = 60000, .cooldown_ms = UNSET,
     .renotify_ms = UNSET},
    {COMMON, .name = "malformed", .kind = HLT_RULE_MALFORMED, .severity = HLT_SEV_WARNING,
     .summary = "The device sends payloads that cannot be read", .count = 1, .window_ms = 60000,
     .for_ms = UNSET, .clear_ms = 300000, .cooldown_ms = UNSET, .renotify_ms = UNSET},
    {COMMON, .name = "auth_failure", .kind = HLT_RULE_AUTH_FAILURE, .severity = HLT_SEV_WARNING,
     .summary = "Logins in the device's name are refused again and again", .count = 5,
     .window_ms = 60000, .for_ms = UNSET, .clear_ms = 300000, .cooldown_ms = UNSET,
     .renotify_ms = UNSET},
    {COMMON, .name = "acl_denied", .kind = HLT_RULE_ACL_DENIED, .severity = HLT_SEV_WARNING,
     .summary = "The device keeps trying what the policy denies", .count = 10, .window_ms = 60000,
     .for_ms = UNSET, .clear_ms = 300000, .cooldown_ms = UNSET, .renotify_ms = UNSET},
    {COMMON, .name = "limit_exceeded", .kind = HLT_RULE_LIMIT_EXCEEDED, .severity = HLT_SEV_WARNING,
     .summary = "The device publishes more than the policy lets it", .count = 10,
     .window_ms = 60000, .for_ms = UNSET, .clear_ms = 300000, .cooldown_ms = UNSET,
     .renotify_ms = UNSET},
    {COMMON, .name = "clone", .kind = HLT_RULE_CLONE, .severity = HLT_SEV_CRITICAL,
     .summary = "Two clients use the device's identity", .count = 5, .window_ms = 600000,
     .for_ms = UNSET, .clear_ms = 600000, .cooldown_ms = UNSET, .renotify_ms = UNSET},
};

/* What Haltere says about itself: these differ in nothing else. */
static const struct {
    const char *name;
    enum hlt_severity severity;
    const char *summary;
} system_rules[] = {
    {"policy_reload_failed", HLT_SEV_CRITICAL,
     "The policy file is broken; the last good policy stays in force"},
    {"shadow_reload_failed", HLT_SEV_WARNING,
     "The shadow policy's file is broken; its last good version goes on being compared"},
    {"rules_reload_failed", HLT_SEV_CRITICAL,
     "The rules file is broken; the last good rules stay in force"},
    {"keys_reload_failed", HLT_SEV_CRITICAL,
     "A keys file is broken; the last good keys stay in force"},
    {"store_failing", HLT_SEV_CRITICAL,
     "The store cannot be written; what is not on disk would be lost at a stop"},
    {"devices_full", HLT_SEV_WARNING, "max_devices is reached; new devices are not tracked"},
    {"alerts_full", HLT_SEV_WARNING, "max_alerts is reached; new alerts are not kept"},
    {"sessions_full", HLT_SEV_WARNING, "max_sessions is reached; new logins are refused"},
    {"revocations_full", HLT_SEV_CRITICAL, "max_revocations is reached; new ones are refused"},
    {"limiter_full", HLT_SEV_WARNING,
     "Failed logins come from more places than the limits' tables hold"},
};

#define DEVICE_RULE_COUNT (sizeof(builtins) / sizeof(builtins[0]))
#define SYSTEM_RULE_COUNT (sizeof(system_rules) / sizeof(system_rules[0]))
#define BUILTIN_COUNT (DEVICE_RULE_COUNT + SYSTEM_RULE_COUNT)

/* --- the members of a rule --- */

enum member_type {
    TYPE_HEAD, /* name, kind: read before the rest */
    TYPE_DURATION,
    TYPE_COUNT,
    TYPE_REAL,
    TYPE_BOOL,
    TYPE_SEVERITY,
    TYPE_BOUND,
    TYPE_CLASSES,
    TYPE_METRIC,
    TYPE_SUMMARY,
};

#define KIND(kind) (1u << (kind))
#define ALL_KINDS 0x3ffu
#define THRESHOLD KIND(HLT_RULE_THRESHOLD)
#define ANOMALY KIND(HLT_RULE_ANOMALY)
#define SILENCE KIND(HLT_RULE_SILENCE)
#define DENIABLE (KIND(HLT_RULE_SPOOF) | KIND(HLT_RULE_MALFORMED))
#define COUNTED                                                                                    \
    (DENIABLE | KIND(HLT_RULE_AUTH_FAILURE) | KIND(HLT_RULE_ACL_DENIED) |                          \
     KIND(HLT_RULE_LIMIT_EXCEEDED) | KIND(HLT_RULE_CLONE))
#define OF_DEVICES (ALL_KINDS & ~KIND(HLT_RULE_SYSTEM))
/* A refused login has no class that anybody vouched for. */
#define CLASSED (OF_DEVICES & ~KIND(HLT_RULE_AUTH_FAILURE))

struct member {
    const char *name;
    enum member_type type;
    unsigned kinds;    /* bit per kind it belongs to */
    size_t offset;     /* in struct hlt_rule */
    size_t count_at;   /* TYPE_CLASSES: the count's offset */
    double low, high;  /* TYPE_DURATION in ms, TYPE_COUNT, TYPE_REAL */
    const char *range; /* the same for people */
};

#define AT(member) offsetof(struct hlt_rule, member)

static const struct member members[] = {
    {"name", TYPE_HEAD, ALL_KINDS, 0, 0, 0, 0, ""},
    {"kind", TYPE_HEAD, ALL_KINDS, 0, 0, 0, 0, ""},
    {"enabled", TYPE_BOOL, ALL_KINDS, AT(enabled), 0, 0, 0, ""},
    {"severity", TYPE_SEVERITY, ALL_KINDS & ~THRESHOLD, AT(severity), 0, 0, 0, ""},
    {"summary", TYPE_SUMMARY, OF_DEVICES, AT(summary), 0, 0, 0, ""},
    {"metric", TYPE_METRIC, THRESHOLD, AT(metric), 0, 0, 0, ""},
    {"critical", TYPE_BOUND, THRESHOLD, AT(critical), 0, 0, 0, ""},
    {"warning", TYPE_BOUND, THRESHOLD, AT(warning), 0, 0, 0, ""},
    {"info", TYPE_BOUND, THRESHOLD, AT(info), 0, 0, 0, ""},
    {"hysteresis", TYPE_REAL, THRESHOLD, AT(hysteresis), 0, 0, 1e300, "0 or more"},
    {"classes", TYPE_CLASSES, CLASSED, AT(classes), AT(class_count), 0, 0, ""},
    {"exceptClasses", TYPE_CLASSES, CLASSED, AT(except_classes), AT(except_class_count), 0, 0, ""},
    {"for", TYPE_DURATION, THRESHOLD | ANOMALY, AT(for_ms), 0, 0, 7 * DAY_MS, "0s..7d"},
    {"clearAfter", TYPE_DURATION, OF_DEVICES, AT(clear_ms), 0, 0, 7 * DAY_MS, "0s..7d"},
    {"cooldown", TYPE_DURATION, ALL_KINDS, AT(cooldown_ms), 0, 0, 7 * DAY_MS, "0s..7d"},
    {"renotify", TYPE_DURATION, ALL_KINDS, AT(renotify_ms), 0, 1000, 30 * DAY_MS,
     "1s..30d, or 0s for never"},
    {"count", TYPE_COUNT, COUNTED, AT(count), 0, 1, 1000000, "1..1000000"},
    {"window", TYPE_DURATION, COUNTED, AT(window_ms), 0, 1000, DAY_MS, "1s..1d"},
    {"after", TYPE_DURATION, SILENCE, AT(after_ms), 0, 1000, 30 * DAY_MS, "1s..30d"},
    {"cadenceFactor", TYPE_REAL, SILENCE, AT(cadence_factor), 0, 1, 1000,
     "1..1000, or 0 to use `after` alone"},
    {"score", TYPE_REAL, ANOMALY, AT(score), 0, 0.01, 1, "0.01..1"},
    {"deny", TYPE_BOOL, DENIABLE, AT(deny), 0, 0, 0, ""},
};

#define MEMBER_COUNT (sizeof(members) / sizeof(members[0]))
_Static_assert(MEMBER_COUNT < CANDIDATES_MAX, "the list for suggestions ends with NULL");

/* What "defaults" may set: rules that say nothing of their own take these. */
struct defaults {
    int64_t for_ms, clear_ms, cooldown_ms, renotify_ms;
};

static const struct member default_members[] = {
    {"for", TYPE_DURATION, 0, offsetof(struct defaults, for_ms), 0, 0, 7 * DAY_MS, "0s..7d"},
    {"clearAfter", TYPE_DURATION, 0, offsetof(struct defaults, clear_ms), 0, 0, 7 * DAY_MS,
     "0s..7d"},
    {"cooldown", TYPE_DURATION, 0, offsetof(struct defaults, cooldown_ms), 0, 0, 7 * DAY_MS,
     "0s..7d"},
    {"renotify", TYPE_DURATION, 0, offsetof(struct defaults, renotify_ms), 0, 1000, 30 * DAY_MS,
     "1s..30d, or 0s for never"},
};

#define DEFAULT_COUNT (sizeof(default_members) / sizeof(default_members[0]))

/* --- reading --- */

struct loader {
    struct hlt_json reader;
    const char *text;
    const char *file;
    struct hlt_problems *problems;
    struct hlt_rules *rules; /* room for HLT_RULES_MAX */
    struct defaults defaults;
    size_t errors_before;
};

#define FAIL(loader, at, ...)                                                                      \
    do {                                                                                           \
        unsigned fail_line = 0;                                                                    \
        unsigned fail_column = 0;                                                                  \
        place_of(loader, at, &fail_line, &fail_column);                                            \
        hlt_problems_add((loader)->problems, HLT_PROBLEM_ERROR, (loader)->file, fail_line,         \
                         fail_column, __VA_ARGS__);                                                \
    } while (0)

/* Finding a position reads the file from its start: not worth it for problems that are not kept. */
static void place_of(const struct loader *loader, size_t at, unsigned *line, unsigned *column)
{
    if (loader->problems->count < HLT_PROBLEMS_MAX) {
        hlt_json_position(loader->text, at, line, column);
    }
}

static const char *event_word(enum hlt_json_event event)
{
    switch (event) {
    case HLT_JSON_OBJECT_BEGIN: return "an object";
    case HLT_JSON_ARRAY_BEGIN: return "an array";
    case HLT_JSON_STRING: return "a string";
    case HLT_JSON_NUMBER: return "a number";
    case HLT_JSON_TRUE:
    case HLT_JSON_FALSE: return "true or false";
    case HLT_JSON_NULL: return "null";
    default: return "nothing";
    }
}

/* Complain about the value at hand and read past it. */
static void wrong_type(struct loader *loader, enum hlt_json_event event, const char *name,
                       const char *wanted)
{
    FAIL(loader, loader->reader.at, "'%s' is %s: write %s", name, event_word(event), wanted);
    (void)hlt_json_skip(&loader->reader, event);
}

/* The string or name at hand, decoded; false (and a complaint) if it does not fit. */
static bool take_text(struct loader *loader, const char *what, char *out, size_t out_bytes)
{
    const struct hlt_json *reader = &loader->reader;
    size_t len = hlt_json_unescape(out, out_bytes, reader->text, reader->text_len);
    if (len == SIZE_MAX) {
        FAIL(loader, reader->at, "%s is longer than %zu bytes or holds a NUL: shorten it", what,
             out_bytes - 1);
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)out[i] < 0x20 || out[i] == 0x7f) {
            FAIL(loader, reader->at, "%s has a control character: remove it", what);
            return false;
        }
    }
    return true;
}

/* The next member's name into `name`; false at the object's end. Names that are too long for any of
 * ours are cut, and so unknown. */
static bool next_member(struct loader *loader, char name[TEXT_BYTES], size_t *at)
{
    if (hlt_json_next(&loader->reader) != HLT_JSON_NAME) {
        return false;
    }
    *at = loader->reader.at;
    if (hlt_json_unescape(name, TEXT_BYTES, loader->reader.text, loader->reader.text_len) ==
        SIZE_MAX) {
        (void)snprintf(name, TEXT_BYTES, "%.64s...", loader->reader.text);
    }
    return true;
}

static void unknown_member(struct loader *loader, size_t at, const char *where, const char *name,
                           const char *const *candidates)
{
    const char *near = hlt_suggest(name, candidates);
    char list[256] = "";
    size_t put = 0;

    if (near != NULL) {
        FAIL(loader, at, "unknown member '" SHOWN "' in %s: did you mean '%s'?", name, where, near);
        return;
    }
    for (size_t i = 0; candidates[i] != NULL && put < sizeof(list); i++) {
        put += (size_t)snprintf(list + put, sizeof(list) - put, "%s%s", i > 0 ? ", " : "",
                                candidates[i]);
    }
    FAIL(loader, at, "unknown member '" SHOWN "' in %s: it may have %s", name, where, list);
}

static const struct member *find_member(const struct member *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].name, name) == 0) {
            return &list[i];
        }
    }
    return NULL;
}

/* --- values --- */

/* Zero stands for "not at all" where the range does not begin with it. */
static bool allows_zero(const struct member *member)
{
    return strstr(member->range, "or 0") != NULL;
}

static void read_duration(struct loader *loader, const struct member *member,
                          enum hlt_json_event event, int64_t *out)
{
    char text[TEXT_BYTES];
    int64_t ms = 0;
    size_t at = loader->reader.at;

    if (event != HLT_JSON_STRING) {
        wrong_type(loader, event, member->name, "a duration such as \"30s\" or \"5min\"");
        return;
    }
    if (!take_text(loader, member->name, text, sizeof(text))) {
        return;
    }
    if (!hlt_duration_parse(text, &ms)) {
        FAIL(loader, at,
             "'%s' \"" SHOWN "\" is not a duration: write a whole number with ms, s, min, h or d, "
             "such as \"30s\"",
             member->name, text);
        return;
    }
    bool in_range = (double)ms >= member->low && (double)ms <= member->high;
    if (!in_range && !(ms == 0 && allows_zero(member))) {
        FAIL(loader, at, "'%s' \"" SHOWN "\" is out of range: it must be within %s", member->name,
             text, member->range);
        return;
    }
    *out = ms;
}

static bool read_number(struct loader *loader, const struct member *member,
                        enum hlt_json_event event, double *out)
{
    double number = loader->reader.number;
    bool whole = member->type != TYPE_COUNT || number == floor(number);
    if (event != HLT_JSON_NUMBER) {
        wrong_type(loader, event, member->name, "a number");
        return false;
    }
    bool in_range = number >= member->low && number <= member->high;
    if (!whole || (!in_range && !(number == 0 && allows_zero(member)))) {
        FAIL(loader, loader->reader.at, "'%s' %.*s is out of range: it must be %s%s", member->name,
             (int)(loader->reader.text_len < 32 ? loader->reader.text_len : 32),
             loader->reader.text, member->type == TYPE_COUNT ? "a whole number within " : "within ",
             member->range);
        return false;
    }
    *out = number;
    return true;
}

static void read_bool(struct loader *loader, const struct member *member, enum hlt_json_event event,
                      bool *out)
{
    if (event != HLT_JSON_TRUE && event != HLT_JSON_FALSE) {
        wrong_type(loader, event, member->name, "true or false");
        return;
    }
    *out = event == HLT_JSON_TRUE;
}

static int find_word(const char *const *words, const char *word)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], word) == 0) {
            return i;
        }
    }
    return -1;
}

static void read_severity(struct loader *loader, enum hlt_json_event event, enum hlt_severity *out)
{
    char word[TEXT_BYTES];
    size_t at = loader->reader.at;

    if (event != HLT_JSON_STRING) {
        wrong_type(loader, event, "severity", "\"info\", \"warning\" or \"critical\"");
        return;
    }
    if (!take_text(loader, "severity", word, sizeof(word))) {
        return;
    }
    int found = find_word(severity_words, word);
    if (found <= HLT_SEV_NONE) {
        FAIL(loader, at, "severity \"" SHOWN "\" is not one of info, warning, critical%s", word,
             found == HLT_SEV_NONE ? ": \"enabled\": false switches a rule off" : "");
        return;
    }
    *out = (enum hlt_severity)found;
}

/* {"above": 80, "below": 0}, or null for no bound. */
static void read_bound(struct loader *loader, const struct member *member,
                       enum hlt_json_event event, struct hlt_bound *out)
{
    static const char *const names[] = {"above", "below", NULL};
    struct hlt_bound bound = NO_BOUND;
    size_t begin = loader->reader.at;
    size_t errors = loader->problems->errors;
    char name[TEXT_BYTES];
    size_t at = 0;

    if (event == HLT_JSON_NULL) {
        *out = bound;
        return;
    }
    if (event != HLT_JSON_OBJECT_BEGIN) {
        wrong_type(loader, event, member->name, "an object such as {\"above\": 80}, or null");
        return;
    }
    while (next_member(loader, name, &at)) {
        int found = find_word(names, name);
        enum hlt_json_event value = hlt_json_next(&loader->reader);
        if (found < 0) {
            unknown_member(loader, at, "a bound", name, names);
            (void)hlt_json_skip(&loader->reader, value);
        } else if (value != HLT_JSON_NUMBER) {
            wrong_type(loader, value, name, "a number");
        } else if (found == 0) {
            bound.above = loader->reader.number;
        } else {
            bound.below = loader->reader.number;
        }
    }
    if (errors == loader->problems->errors && isinf(bound.above) && isinf(bound.below)) {
        FAIL(loader, begin, "'%s' has neither above nor below: give one, or null for no bound",
             member->name);
    } else if (bound.above < bound.below) {
        FAIL(loader, begin, "'%s' is breached by every value: above must not be less than below",
             member->name);
    }
    *out = bound;
}

static void read_class(struct loader *loader, const struct member *member,
                       enum hlt_json_event event, char (*classes)[65], size_t *count)
{
    char word[65] = "";
    size_t at = loader->reader.at;

    if (event != HLT_JSON_STRING) {
        wrong_type(loader, event, member->name, "device classes as strings");
        return;
    }
    if (!take_text(loader, "a device class", word, sizeof(word))) {
        return;
    }
    if (word[0] == '\0') {
        FAIL(loader, at, "'%s' has an empty class: remove it", member->name);
        return;
    }
    for (size_t i = 0; i < *count; i++) {
        if (strcmp(classes[i], word) == 0) {
            FAIL(loader, at, "'%s' has the class \"%s\" twice: remove one", member->name, word);
            return;
        }
    }
    if (*count == HLT_RULE_CLASSES_MAX) {
        FAIL(loader, at, "'%s' has more than %d classes: remove some", member->name,
             HLT_RULE_CLASSES_MAX);
        return;
    }
    memcpy(classes[(*count)++], word, sizeof(word));
}

static void read_classes(struct loader *loader, const struct member *member,
                         enum hlt_json_event event, char (*classes)[65], size_t *count)
{
    if (event != HLT_JSON_ARRAY_BEGIN) {
        wrong_type(loader, event, member->name, "an array such as [\"sensor\"]");
        return;
    }
    *count = 0;
    for (;;) {
        event = hlt_json_next(&loader->reader);
        if (event == HLT_JSON_ARRAY_END || event == HLT_JSON_ERROR) {
            return;
        }
        read_class(loader, member, event, classes, count);
    }
}

static void read_string(struct loader *loader, const struct member *member,
                        enum hlt_json_event event, char *out, size_t out_bytes)
{
    char text[TEXT_BYTES];
    if (event != HLT_JSON_STRING) {
        wrong_type(loader, event, member->name, "a string");
        return;
    }
    if (!take_text(loader, member->name, text, out_bytes)) {
        return;
    }
    if (text[0] == '\0') {
        FAIL(loader, loader->reader.at, "'%s' is empty: write something or leave it out",
             member->name);
        return;
    }
    memcpy(out, text, strlen(text) + 1); /* fits: taken with its room as the limit */
}

static void read_value(struct loader *loader, const struct member *member, struct hlt_rule *rule)
{
    enum hlt_json_event event = hlt_json_next(&loader->reader);
    char *place = (char *)rule + member->offset;
    double number = 0;

    switch (member->type) {
    case TYPE_HEAD: (void)hlt_json_skip(&loader->reader, event); break;
    case TYPE_DURATION: read_duration(loader, member, event, (int64_t *)(void *)place); break;
    case TYPE_COUNT:
        if (read_number(loader, member, event, &number)) {
            *(uint32_t *)(void *)place = (uint32_t)number;
        }
        break;
    case TYPE_REAL: (void)read_number(loader, member, event, (double *)(void *)place); break;
    case TYPE_BOOL: read_bool(loader, member, event, (bool *)place); break;
    case TYPE_SEVERITY: read_severity(loader, event, &rule->severity); break;
    case TYPE_BOUND: read_bound(loader, member, event, (struct hlt_bound *)(void *)place); break;
    case TYPE_CLASSES:
        read_classes(loader, member, event, (char(*)[65])place,
                     (size_t *)(void *)((char *)rule + member->count_at));
        break;
    case TYPE_METRIC: read_string(loader, member, event, rule->metric, sizeof(rule->metric)); break;
    case TYPE_SUMMARY:
        read_string(loader, member, event, rule->summary, sizeof(rule->summary));
        break;
    }
}

/* --- one rule --- */

struct head {
    char name[HLT_RULE_NAME_MAX + 1];
    int kind; /* -1: not given */
    size_t name_at, kind_at;
    bool has_name;
};

static bool is_rule_name(const char *name)
{
    return name[0] >= 'a' && name[0] <= 'z' &&
           name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

static bool take_name(struct loader *loader, struct head *head)
{
    if (!take_text(loader, "a rule's name", head->name, sizeof(head->name))) {
        return false;
    }
    if (!is_rule_name(head->name)) {
        FAIL(loader, loader->reader.at,
             "the name \"" SHOWN "\" must begin with a letter and have only a-z, 0-9 and _",
             head->name);
        return false;
    }
    return true;
}

static bool take_kind(struct loader *loader, struct head *head)
{
    char word[TEXT_BYTES];
    if (!take_text(loader, "kind", word, sizeof(word))) {
        return false;
    }
    head->kind = find_word(kind_words, word);
    if (head->kind >= 0) {
        return true;
    }
    const char *near = hlt_suggest(word, kind_words);
    FAIL(loader, loader->reader.at, "unknown kind \"" SHOWN "\"%s%s%s", word,
         near != NULL ? ": did you mean \"" : ": leave it out for a threshold",
         near != NULL ? near : "", near != NULL ? "\"?" : "");
    return false;
}

/* First pass: name and kind. Reads to the object's end. */
static bool read_head(struct loader *loader, size_t begin, struct head *head)
{
    char name[TEXT_BYTES];
    size_t at = 0;
    bool good = true;

    while (next_member(loader, name, &at)) {
        enum hlt_json_event event = hlt_json_next(&loader->reader);
        bool is_name = strcmp(name, "name") == 0;
        bool is_kind = strcmp(name, "kind") == 0;
        if ((is_name || is_kind) && event != HLT_JSON_STRING) {
            wrong_type(loader, event, name, "a string");
            good = false;
        } else if (is_name) {
            head->has_name = true;
            head->name_at = loader->reader.at;
            good = take_name(loader, head) && good;
        } else if (is_kind) {
            head->kind_at = loader->reader.at;
            good = take_kind(loader, head) && good;
        } else {
            (void)hlt_json_skip(&loader->reader, event);
        }
    }
    if (good && !head->has_name) {
        FAIL(loader, begin, "this rule has no name: add \"name\", which becomes the alert's name");
        good = false;
    }
    return good;
}

/* The rule that an entry changes or adds; NULL after a complaint. */
static struct hlt_rule *claim_rule(struct loader *loader, const struct head *head)
{
    struct hlt_rules *rules = loader->rules;
    struct hlt_rule *rule = NULL;

    for (size_t i = 0; i < rules->count; i++) {
        if (strcmp(rules->rule[i].name, head->name) == 0) {
            rule = &rules->rule[i];
        }
    }
    if (rule != NULL && rule->line > 0) {
        FAIL(loader, head->name_at, "rule '%s' is defined twice (first on line %u): remove one",
             head->name, rule->line);
        return NULL;
    }
    if (rule != NULL && head->kind >= 0 && head->kind != (int)rule->kind) {
        FAIL(loader, head->kind_at, "'%s' is a built-in rule of kind %s: leave kind out",
             head->name, kind_words[rule->kind]);
        return NULL;
    }
    if (rule != NULL) {
        return rule;
    }
    if (head->kind > HLT_RULE_THRESHOLD) {
        FAIL(loader, head->kind_at,
             "'%s': only rules of kind threshold can be added; change the built-in rule of kind %s "
             "instead",
             head->name, kind_words[head->kind]);
        return NULL;
    }
    if (rules->count == HLT_RULES_MAX) {
        FAIL(loader, head->name_at, "more than %d rules: remove some", HLT_RULES_MAX);
        return NULL;
    }
    rule = &rules->rule[rules->count++];
    *rule = (struct hlt_rule){COMMON, DURATIONS, .kind = HLT_RULE_THRESHOLD};
    memcpy(rule->name, head->name, sizeof(rule->name));
    return rule;
}

static void read_member(struct loader *loader, struct hlt_rule *rule, const char *name, size_t at)
{
    const char *candidates[CANDIDATES_MAX] = {NULL};
    char where[96];
    size_t count = 0;
    const struct member *member = find_member(members, MEMBER_COUNT, name);

    if (member != NULL && (member->kinds & KIND(rule->kind)) != 0) {
        read_value(loader, member, rule);
        return;
    }
    if (member != NULL) {
        FAIL(loader, at, "'%s' does not belong to a rule of kind %s ('%s'): remove it", name,
             kind_words[rule->kind], rule->name);
    } else {
        for (size_t i = 0; i < MEMBER_COUNT; i++) {
            if ((members[i].kinds & KIND(rule->kind)) != 0) {
                candidates[count++] = members[i].name;
            }
        }
        (void)snprintf(where, sizeof(where), "rule '%s'", rule->name);
        unknown_member(loader, at, where, name, candidates);
    }
    (void)hlt_json_skip(&loader->reader, hlt_json_next(&loader->reader));
}

static bool has_bound(const struct hlt_bound *bound)
{
    return !isinf(bound->above) || !isinf(bound->below);
}

/* A worse bound must lie further out, else the milder one is never seen. */
static void check_order(struct loader *loader, size_t at, const struct hlt_rule *rule,
                        const char *worse_name, const struct hlt_bound *worse,
                        const char *milder_name, const struct hlt_bound *milder)
{
    if (!isinf(worse->above) && !isinf(milder->above) && worse->above <= milder->above) {
        FAIL(loader, at, "rule '%s': %s above %g must be greater than %s above %g", rule->name,
             worse_name, worse->above, milder_name, milder->above);
    }
    if (!isinf(worse->below) && !isinf(milder->below) && worse->below >= milder->below) {
        FAIL(loader, at, "rule '%s': %s below %g must be less than %s below %g", rule->name,
             worse_name, worse->below, milder_name, milder->below);
    }
}

/* Between above - h and below + h a value is good again: there must be such values. */
static void check_hysteresis(struct loader *loader, size_t at, const struct hlt_rule *rule,
                             const char *name, const struct hlt_bound *bound)
{
    if (!isinf(bound->above) && !isinf(bound->below) && bound->above >= bound->below &&
        bound->above - rule->hysteresis < bound->below + rule->hysteresis) {
        FAIL(loader, at,
             "rule '%s': with hysteresis %g no value between %s below %g and above %g clears the "
             "alert: make it smaller",
             rule->name, rule->hysteresis, name, bound->below, bound->above);
    }
}

static void check_threshold(struct loader *loader, size_t at, const struct hlt_rule *rule)
{
    if (rule->metric[0] == '\0') {
        FAIL(loader, at, "rule '%s' has no metric: add \"metric\": \"NAME\"", rule->name);
    }
    if (!has_bound(&rule->critical) && !has_bound(&rule->warning) && !has_bound(&rule->info)) {
        FAIL(loader, at,
             "rule '%s' has no bound: add \"critical\", \"warning\" or \"info\", such as "
             "{\"above\": 80}, or switch it off with \"enabled\": false",
             rule->name);
    }
    check_order(loader, at, rule, "critical", &rule->critical, "warning", &rule->warning);
    check_order(loader, at, rule, "warning", &rule->warning, "info", &rule->info);
    check_order(loader, at, rule, "critical", &rule->critical, "info", &rule->info);
    check_hysteresis(loader, at, rule, "critical", &rule->critical);
    check_hysteresis(loader, at, rule, "warning", &rule->warning);
    check_hysteresis(loader, at, rule, "info", &rule->info);
}

static void check_classes(struct loader *loader, size_t at, const struct hlt_rule *rule)
{
    for (size_t i = 0; i < rule->class_count; i++) {
        for (size_t j = 0; j < rule->except_class_count; j++) {
            if (strcmp(rule->classes[i], rule->except_classes[j]) == 0) {
                FAIL(loader, at,
                     "rule '%s': class \"%s\" is in classes and in exceptClasses: "
                     "remove it from one",
                     rule->name, rule->classes[i]);
            }
        }
    }
}

static void read_rule(struct loader *loader)
{
    struct head head = {.kind = -1};
    struct hlt_json begin = loader->reader; /* to read the object again */
    size_t begin_at = begin.at;
    size_t errors = loader->problems->errors;
    char name[TEXT_BYTES];
    size_t at = 0;
    unsigned column = 0;

    if (!read_head(loader, begin_at, &head)) {
        return;
    }
    struct hlt_rule *rule = claim_rule(loader, &head);
    if (rule == NULL) {
        return;
    }
    hlt_json_position(loader->text, head.name_at, &rule->line, &column);
    loader->reader = begin;
    while (next_member(loader, name, &at)) {
        read_member(loader, rule, name, at);
    }
    if (errors != loader->problems->errors) {
        return; /* what follows would only repeat those */
    }
    if (rule->kind == HLT_RULE_THRESHOLD && rule->enabled) {
        check_threshold(loader, begin_at, rule);
    }
    check_classes(loader, begin_at, rule);
}

/* --- the document --- */

static void read_rules(struct loader *loader)
{
    enum hlt_json_event event = hlt_json_next(&loader->reader);
    if (event != HLT_JSON_ARRAY_BEGIN) {
        wrong_type(loader, event, "rules", "an array of rules");
        return;
    }
    for (;;) {
        event = hlt_json_next(&loader->reader);
        if (event == HLT_JSON_ARRAY_END || event == HLT_JSON_ERROR) {
            return;
        }
        if (event == HLT_JSON_OBJECT_BEGIN) {
            read_rule(loader);
        } else {
            wrong_type(loader, event, "rules", "each rule as an object");
        }
    }
}

static void read_defaults(struct loader *loader)
{
    const char *candidates[DEFAULT_COUNT + 1] = {NULL};
    char name[TEXT_BYTES];
    size_t at = 0;
    enum hlt_json_event event = hlt_json_next(&loader->reader);

    if (event != HLT_JSON_OBJECT_BEGIN) {
        wrong_type(loader, event, "defaults", "an object such as {\"cooldown\": \"30s\"}");
        return;
    }
    for (size_t i = 0; i < DEFAULT_COUNT; i++) {
        candidates[i] = default_members[i].name;
    }
    while (next_member(loader, name, &at)) {
        const struct member *member = find_member(default_members, DEFAULT_COUNT, name);
        event = hlt_json_next(&loader->reader);
        if (member == NULL) {
            unknown_member(loader, at, "defaults", name, candidates);
            (void)hlt_json_skip(&loader->reader, event);
        } else {
            char *place = (char *)&loader->defaults + member->offset;
            read_duration(loader, member, event, (int64_t *)(void *)place);
        }
    }
}

static void read_version(struct loader *loader)
{
    enum hlt_json_event event = hlt_json_next(&loader->reader);
    if (event != HLT_JSON_NUMBER) {
        wrong_type(loader, event, "version", "1");
    } else if (loader->reader.number != RULES_VERSION) {
        FAIL(loader, loader->reader.at, "version %.*s is not known: this Haltere reads version %d",
             (int)(loader->reader.text_len < 32 ? loader->reader.text_len : 32),
             loader->reader.text, RULES_VERSION);
    }
}

static void read_detector(struct loader *loader)
{
    const char *candidates[CANDIDATES_MAX] = {NULL};
    char name[TEXT_BYTES];
    enum hlt_json_event event = hlt_json_next(&loader->reader);

    if (event != HLT_JSON_STRING) {
        wrong_type(loader, event, "detector", "a detector's name");
        return;
    }
    if (!take_text(loader, "detector", name, sizeof(name))) {
        return;
    }
    const struct hlt_detector *detector = hlt_detector_find(name);
    if (detector != NULL) {
        (void)snprintf(loader->rules->detector, sizeof(loader->rules->detector), "%s",
                       detector->name);
        return;
    }
    for (size_t i = 0; i + 1 < CANDIDATES_MAX && hlt_detector_at(i) != NULL; i++) {
        candidates[i] = hlt_detector_at(i)->name;
    }
    const char *near = hlt_suggest(name, candidates);
    FAIL(loader, loader->reader.at, "unknown detector \"" SHOWN "\": did you mean \"%s\"?", name,
         near != NULL ? near : candidates[0]);
}

static void read_document(struct loader *loader)
{
    static const char *const names[] = {"version", "detector", "defaults", "rules", NULL};
    static void (*const readers[])(struct loader *) = {read_version, read_detector, read_defaults,
                                                       read_rules};
    char name[TEXT_BYTES];
    size_t at = 0;
    bool has_version = false;

    (void)hlt_json_next(&loader->reader); /* the object's begin: checked before */
    while (next_member(loader, name, &at)) {
        int found = find_word(names, name);
        has_version = has_version || found == 0;
        if (found >= 0) {
            readers[found](loader);
        } else {
            unknown_member(loader, at, "the document", name, names);
            (void)hlt_json_skip(&loader->reader, hlt_json_next(&loader->reader));
        }
    }
    if (!has_version) {
        FAIL(loader, 0, "\"version\" is missing: add \"version\": %d", RULES_VERSION);
    }
}

/* --- loading --- */

static void fill_in(int64_t *member, int64_t value)
{
    if (*member == UNSET) {
        *member = value;
    }
}

static void apply_defaults(struct hlt_rules *rules, const struct defaults *defaults)
{
    for (size_t i = 0; i < rules->count; i++) {
        struct hlt_rule *rule = &rules->rule[i];
        bool is_system =
            rule->kind == HLT_RULE_SYSTEM; /* raised and cleared by Haltere, no waiting */
        bool waits = rule->kind == HLT_RULE_THRESHOLD || rule->kind == HLT_RULE_ANOMALY;
        fill_in(&rule->for_ms, waits ? defaults->for_ms : 0);
        fill_in(&rule->clear_ms, is_system ? 0 : defaults->clear_ms);
        fill_in(&rule->cooldown_ms, defaults->cooldown_ms);
        fill_in(&rule->renotify_ms, defaults->renotify_ms);
    }
}

static const struct defaults general_defaults = {.cooldown_ms = 30000, .renotify_ms = 3600000};

/* Built-in rules whose durations still wait for the defaults. NULL: no memory. */
static struct hlt_rules *new_rules(size_t room)
{
    struct hlt_rules *rules = calloc(1, sizeof(*rules));
    if (rules == NULL) {
        return NULL;
    }
    rules->rule = calloc(room, sizeof(rules->rule[0]));
    if (rules->rule == NULL) {
        free(rules);
        return NULL;
    }
    memcpy(rules->rule, builtins, sizeof(builtins));
    for (size_t i = 0; i < SYSTEM_RULE_COUNT; i++) {
        struct hlt_rule *rule = &rules->rule[DEVICE_RULE_COUNT + i];
        *rule = (struct hlt_rule){COMMON, DURATIONS, .kind = HLT_RULE_SYSTEM,
                                  .severity = system_rules[i].severity};
        (void)snprintf(rule->name, sizeof(rule->name), "%s", system_rules[i].name);
        (void)snprintf(rule->summary, sizeof(rule->summary), "%s", system_rules[i].summary);
    }
    rules->count = BUILTIN_COUNT;
    (void)snprintf(rules->detector, sizeof(rules->detector), "%s",
                   hlt_detector_find("default")->name);
    (void)snprintf(rules->digest, sizeof(rules->digest), "builtin");
    return rules;
}

enum hlt_rc hlt_rules_builtin(struct hlt_rules **out)
{
    struct hlt_rules *rules = new_rules(BUILTIN_COUNT);
    if (rules == NULL) {
        return HLT_ENOMEM;
    }
    apply_defaults(rules, &general_defaults);
    *out = rules;
    return HLT_OK;
}

static bool set_digest(struct hlt_rules *rules, const char *text, size_t len)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    if (EVP_Digest(text, len, hash, NULL, EVP_sha256(), NULL) != 1) {
        return false;
    }
    for (size_t i = 0; i < 8; i++) {
        (void)snprintf(rules->digest + 2 * i, 3, "%02x", hash[i]);
    }
    return true;
}

static enum hlt_rc no_memory(struct hlt_problems *problems, const char *name)
{
    hlt_problems_add(problems, HLT_PROBLEM_ERROR, name, 0, 0,
                     "no memory to load the rules: free some and try again");
    return HLT_ENOMEM;
}

enum hlt_rc hlt_rules_parse(struct hlt_rules **out, const char *text, size_t len, const char *name,
                            struct hlt_problems *problems)
{
    struct loader loader = {.text = text,
                            .file = name,
                            .problems = problems,
                            .defaults = general_defaults,
                            .errors_before = problems->errors};
    size_t at = 0;

    *out = NULL;
    if (len > RULES_FILE_BYTES_MAX) {
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, name, 0, 0,
                         "more than %u bytes: is it the right file?", RULES_FILE_BYTES_MAX);
        return HLT_EFULL;
    }
    const char *fault = hlt_json_check(text, len, true, &at);
    if (fault != NULL) {
        FAIL(&loader, at < len ? at : len, "not valid JSON: %s", fault);
        return HLT_EPARSE;
    }
    loader.rules = new_rules(HLT_RULES_MAX);
    if (loader.rules == NULL || !set_digest(loader.rules, text, len)) {
        hlt_rules_free(loader.rules);
        return no_memory(problems, name);
    }
    hlt_json_begin(&loader.reader, text, len);
    read_document(&loader);
    if (problems->errors != loader.errors_before) {
        hlt_rules_free(loader.rules);
        return HLT_EPARSE;
    }
    apply_defaults(loader.rules, &loader.defaults);
    *out = loader.rules;
    return HLT_OK;
}

enum hlt_rc hlt_rules_load(struct hlt_rules **out, const char *path, struct hlt_problems *problems)
{
    struct hlt_err err = {.msg = ""};
    char *text = NULL;
    size_t len = 0;

    *out = NULL;
    enum hlt_rc rc = hlt_file_read(path, HLT_FILE_PUBLIC, RULES_FILE_BYTES_MAX, &text, &len, &err);
    if (rc != HLT_OK) {
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, path, 0, 0, "%s", err.msg);
        return rc;
    }
    rc = hlt_rules_parse(out, text, len, path, problems);
    free(text);
    return rc;
}

void hlt_rules_free(struct hlt_rules *rules)
{
    if (rules != NULL) {
        free(rules->rule);
        free(rules);
    }
}

/* --- asking --- */

const char *hlt_severity_word(enum hlt_severity severity)
{
    return severity >= HLT_SEV_NONE && severity <= HLT_SEV_CRITICAL ? severity_words[severity]
                                                                    : "none";
}

const struct hlt_rule *hlt_rules_find(const struct hlt_rules *rules, const char *name)
{
    for (size_t i = 0; i < rules->count; i++) {
        if (strcmp(rules->rule[i].name, name) == 0) {
            return &rules->rule[i];
        }
    }
    return NULL;
}

static bool names_class(const char (*classes)[65], size_t count, const char *device_class)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(classes[i], device_class) == 0) {
            return true;
        }
    }
    return false;
}

bool hlt_rule_covers(const struct hlt_rule *rule, const char *device_class)
{
    if (names_class(rule->except_classes, rule->except_class_count, device_class)) {
        return false;
    }
    return rule->class_count == 0 || names_class(rule->classes, rule->class_count, device_class);
}
