/* acl_diff.c - `haltere acl diff`: what changes for whom before a policy is put into force. */
#include <stdlib.h>
#include <string.h>

#include "../acl/diff.h"
#include "../acl/explain.h"
#include "../shared/jsonpull.h"
#include "acl_verbs.h"

static const char *const source_words[HLT_DIFF_SOURCES] = {"expect", "recorded", "probe"};

/* ---- recorded questions ---- */

/* The string member of a question, malloc'd; NULL if it is not there or null. False: no string. */
static bool member(const char *line, size_t len, const char *name, char **out)
{
    enum hlt_json_event event;
    struct hlt_json json;

    *out = NULL;
    if (!hlt_json_find(line, len, name, &json, &event) || event == HLT_JSON_NULL) {
        return true;
    }
    if (event != HLT_JSON_STRING) {
        return false;
    }
    *out = hlt_cli_resize(NULL, json.text_len + 1);
    return hlt_json_unescape(*out, json.text_len + 1, json.text, json.text_len) != SIZE_MAX;
}

/* The raw object `claims`; text NULL if it is not there or null. */
static bool claims_of(const char *line, size_t len, struct hlt_subject *out)
{
    enum hlt_json_event event;
    struct hlt_json json;

    if (!hlt_json_find(line, len, "claims", &json, &event) || event == HLT_JSON_NULL) {
        return true;
    }
    if (event != HLT_JSON_OBJECT_BEGIN) {
        return false;
    }
    out->claims = json.input + json.at;
    if (!hlt_json_skip(&json, event)) {
        return false;
    }
    out->claims_len = (size_t)(json.input + json.at + 1 - out->claims);
    return true;
}

/* One line as `haltere acl decide` takes it. NULL: asked, else what is wrong with it. */
static const char *ask_line(struct hlt_diff *diff, const char *line, size_t len)
{
    char *user = NULL, *client = NULL, *access = NULL, *topic = NULL, *sub = NULL;
    struct hlt_subject subject = {0};
    const char *wrong = NULL;
    enum hlt_access kind;
    size_t at;

    if (hlt_json_check(line, len, true, &at) != NULL) {
        return "it is no JSON object";
    }
    if (!member(line, len, "user", &user) || !member(line, len, "clientId", &client) ||
        !member(line, len, "access", &access) || !member(line, len, "topic", &topic) ||
        !claims_of(line, len, &subject) ||
        (subject.claims != NULL && !member(subject.claims, subject.claims_len, "sub", &sub))) {
        wrong = "user, clientId, access, topic and sub must be strings, claims an object";
    } else if (topic == NULL || access == NULL || !hlt_acl_access(access, strlen(access), &kind)) {
        wrong = "topic and access (read, write, subscribe or unsubscribe) must be given";
    } else {
        subject.user = user != NULL && user[0] != '\0' ? user : sub;
        subject.device_id = sub;
        subject.client_id = client != NULL ? client : subject.user != NULL ? subject.user : "";
        if (hlt_diff_ask(diff, &subject, kind, topic, HLT_DIFF_RECORDED) != HLT_OK) {
            wrong = "out of memory";
        }
    }
    free(user);
    free(client);
    free(access);
    free(topic);
    free(sub);
    return wrong;
}

static int ask_recorded(struct hlt_diff *diff, const char *path)
{
    FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char *line = NULL;
    size_t space = 0;
    unsigned long number = 0;
    int code = HLT_EXIT_OK;
    ssize_t len;

    if (in == NULL) {
        return hlt_cli_fail(HLT_EXIT_IO, "cannot read %s", path);
    }
    while (code == HLT_EXIT_OK && (len = getline(&line, &space, in)) >= 0) {
        number++;
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) {
            len--;
        }
        const char *wrong = len > 0 ? ask_line(diff, line, (size_t)len) : NULL;
        if (wrong != NULL) {
            code = hlt_cli_fail(HLT_EXIT_IO, "%s:%lu: %s", path, number, wrong);
        }
    }
    if (code == HLT_EXIT_OK && ferror(in) != 0) {
        code = hlt_cli_fail(HLT_EXIT_IO, "cannot read %s", path);
    }
    free(line);
    if (in != stdin) {
        (void)fclose(in);
    }
    return code;
}

/* ---- the report ---- */

static void add_rule(cJSON *object, const char *name, const struct hlt_policy *policy,
                     uint32_t index)
{
    struct hlt_rule_ref rule;

    if (index != UINT32_MAX) {
        hlt_policy_rule(policy, index, &rule);
        cJSON_AddItemToObject(object, name, hlt_acl_rule_json(&rule));
    } else {
        cJSON_AddItemToObject(object, name, cJSON_CreateNull());
    }
}

static cJSON *change_json(const struct hlt_diff *diff, const struct hlt_change *change)
{
    cJSON *object = cJSON_CreateObject(), *example;

    cJSON_AddStringToObject(object, "access", hlt_access_word(change->access));
    cJSON_AddStringToObject(object, "from", change->was_allowed ? "allow" : "deny");
    cJSON_AddStringToObject(object, "to", change->was_allowed ? "deny" : "allow");
    cJSON_AddNumberToObject(object, "count", (double)change->count);
    add_rule(object, "before", diff->old_policy, change->old_rule);
    add_rule(object, "after", diff->new_policy, change->new_rule);
    example = cJSON_AddObjectToObject(object, "example");
    cJSON_AddStringToObject(example, "topic", change->topic);
    cJSON_AddStringToObject(example, "clientId", change->client_id);
    cJSON_AddItemToObject(example, "user",
                          change->user != NULL ? cJSON_CreateString(change->user)
                                               : cJSON_CreateNull());
    if (change->claims != NULL) {
        cJSON_AddItemToObject(example, "claims", cJSON_CreateRaw(change->claims));
    }
    cJSON_AddStringToObject(example, "source", source_words[change->source]);
    return object;
}

static void print_json(const struct hlt_diff *diff)
{
    cJSON *root = cJSON_CreateObject(), *asked, *list;

    cJSON_AddStringToObject(root, "old", hlt_policy_digest(diff->old_policy));
    cJSON_AddStringToObject(root, "new", hlt_policy_digest(diff->new_policy));
    asked = cJSON_AddObjectToObject(root, "asked");
    for (size_t i = 0; i < HLT_DIFF_SOURCES; i++) {
        cJSON_AddNumberToObject(asked, source_words[i], (double)diff->asked[i]);
    }
    cJSON_AddNumberToObject(root, "changed", (double)diff->changed);
    cJSON_AddBoolToObject(root, "complete", !diff->cut);
    list = cJSON_AddArrayToObject(root, "changes");
    for (uint32_t i = 0; i < diff->change_count; i++) {
        cJSON_AddItemToArray(list, change_json(diff, &diff->changes[i]));
    }
    (void)hlt_cli_print_json(root);
}

static void print_side(char sign, const struct hlt_policy *policy, uint32_t index, bool allowed)
{
    struct hlt_rule_ref rule;

    printf("  %c %s", sign, allowed ? "allow" : "deny");
    if (index == UINT32_MAX) {
        printf(allowed ? ": no rule denies it\n" : ": no rule allows it\n");
        return;
    }
    hlt_policy_rule(policy, index, &rule);
    printf(" by ");
    hlt_cli_print_text(stdout, rule.file);
    printf(":%u: ", rule.line);
    hlt_cli_print_text(stdout, rule.text);
    printf(" (");
    hlt_cli_print_text(stdout, rule.section);
    printf(")\n");
}

static void print_change(const struct hlt_diff *diff, const struct hlt_change *change)
{
    bool opens = !change->was_allowed;

    printf("%s%s%s %s ", opens ? hlt_cli_red() : hlt_cli_yellow(), opens ? "OPENS " : "CLOSES",
           hlt_cli_reset(), hlt_access_word(change->access));
    hlt_cli_print_text(stdout, change->topic);
    printf(" as ");
    hlt_cli_print_text(stdout, change->user != NULL ? change->user : "(anonymous)");
    if (change->claims != NULL) {
        printf(" ");
        hlt_cli_print_text(stdout, change->claims);
    }
    if (change->count > 1) {
        printf(" (and %zu more)", change->count - 1);
    }
    printf("\n");
    print_side('-', diff->old_policy, change->old_rule, change->was_allowed);
    print_side('+', diff->new_policy, change->new_rule, !change->was_allowed);
}

static void print_text(const struct hlt_diff *diff)
{
    for (uint32_t i = 0; i < diff->change_count; i++) {
        print_change(diff, &diff->changes[i]);
    }
    printf(
        "%zu of %zu decisions change (%zu tests, %zu recorded, %zu probes)%s\n", diff->changed,
        diff->asked[HLT_DIFF_EXPECT] + diff->asked[HLT_DIFF_RECORDED] + diff->asked[HLT_DIFF_PROBE],
        diff->asked[HLT_DIFF_EXPECT], diff->asked[HLT_DIFF_RECORDED], diff->asked[HLT_DIFF_PROBE],
        diff->cut ? "; the policies are too large to try everything" : "");
}

static int report(struct hlt_diff *diff, const char *topics, bool json)
{
    int code = HLT_EXIT_OK;

    if (hlt_diff_expects(diff) != HLT_OK) {
        return hlt_cli_fail(HLT_EXIT_IO, "out of memory");
    }
    if (topics != NULL) {
        code = ask_recorded(diff, topics);
    }
    if (code != HLT_EXIT_OK) {
        return code;
    }
    if (hlt_diff_probes(diff) != HLT_OK) {
        return hlt_cli_fail(HLT_EXIT_IO, "out of memory");
    }
    if (json) {
        print_json(diff);
    } else {
        print_text(diff);
    }
    return diff->changed > 0 ? HLT_EXIT_NO : HLT_EXIT_OK;
}

int hlt_acl_diff(int argc, char **argv)
{
    static const struct hlt_cli_option options[] = {
        {"topics", "FILE", "also put these questions: JSON lines as 'haltere acl decide' takes"},
        HLT_ACL_COMPAT_OPTION,
        {"json", NULL, "print one JSON document instead of text"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        .synopsis = "haltere acl diff [--topics FILE] [--acl-compat 2.0|2.1] [--json] OLD NEW",
        .summary =
            "Put the same questions to two policies and tell which decisions change, by which "
            "rules, with an example each: the tests ('expect' lines) of both, recorded questions, "
            "and questions made of the filters, names, roles and claims that stand in either.",
        .options = options,
        .positional_min = 2,
        .positional_max = 2,
        .notes = "Limits are not compared. Exit codes: 0 no decision changes, 1 some do, 2 usage, "
                 "3 a file cannot be read or has errors.",
    };
    struct hlt_policy_reading how = {.untested = true};
    const char *values[3] = {NULL};
    const char *paths[2] = {NULL};
    enum hlt_cli_rc parsed = hlt_cli_parse(&spec, argc, argv, values, paths, NULL);
    struct hlt_policy *before = NULL, *after = NULL;
    int code;

    if (parsed != HLT_CLI_OK) {
        return parsed == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    if (!hlt_acl_compat(values[1], &how.compat)) {
        return HLT_EXIT_USAGE;
    }
    before = hlt_acl_load(paths[0], &how, &code);
    if (before != NULL) {
        after = hlt_acl_load(paths[1], &how, &code);
    }
    if (after != NULL) {
        struct hlt_diff diff = {.old_policy = before, .new_policy = after};

        code = report(&diff, values[0], values[2] != NULL);
        hlt_diff_free(&diff);
    }
    hlt_policy_free(before);
    hlt_policy_free(after);
    return code;
}
