/* acl_explain.c - `haltere acl explain` and `test`: why a policy says what it says, and whether it
 * says what its author expects. */
#include <stdlib.h>
#include <string.h>

#include "../acl/explain.h"
#include "../acl/limit.h"
#include "../shared/jsonpull.h"
#include "../shared/options.h"
#include "../shared/text.h"
#include "acl_verbs.h"
#include "reader.h"

/* ---- what the verbs share ---- */

bool hlt_acl_compat(const char *value, enum hlt_acl_compat *out)
{
    if (value == NULL) {
        return true;
    }
    if (strcmp(value, "2.0") != 0 && strcmp(value, "2.1") != 0) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--acl-compat %s is neither 2.0 nor 2.1", value);
        return false;
    }
    *out = strcmp(value, "2.1") == 0 ? HLT_ACL_2_1 : HLT_ACL_2_0;
    return true;
}

struct hlt_policy *hlt_acl_load(const char *path, const struct hlt_policy_reading *how, int *code)
{
    struct hlt_problems *problems = hlt_cli_resize(NULL, sizeof(*problems)); /* large */
    struct hlt_policy *policy;
    enum hlt_rc rc;

    memset(problems, 0, sizeof(*problems));
    rc = hlt_policy_load(&policy, path, how, problems);
    hlt_cli_problems(problems);
    hlt_problems_free(problems);
    free(problems);
    *code = rc == HLT_OK ? HLT_EXIT_OK : HLT_EXIT_IO;
    return policy;
}

bool hlt_acl_access(const char *word, size_t len, enum hlt_access *out)
{
    static const enum hlt_access all[] = {HLT_READ, HLT_WRITE, HLT_SUBSCRIBE, HLT_UNSUBSCRIBE};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        const char *known = hlt_access_word(all[i]);

        if (strlen(known) == len && memcmp(known, word, len) == 0) {
            *out = all[i];
            return true;
        }
    }
    return false;
}

cJSON *hlt_acl_rule_json(const struct hlt_rule_ref *rule)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "file", rule->file);
    cJSON_AddNumberToObject(object, "line", rule->line);
    cJSON_AddStringToObject(object, "text", rule->text);
    cJSON_AddStringToObject(object, "section", rule->section);
    return object;
}

static void print_rule(const char *head, const struct hlt_rule_ref *rule)
{
    printf("  %-9s ", head);
    hlt_cli_print_text(stdout, rule->file);
    printf(":%u: ", rule->line);
    hlt_cli_print_text(stdout, rule->text);
    printf(" (");
    hlt_cli_print_text(stdout, rule->section);
    printf(")\n");
}

/* ---- explain: who asks ---- */

/* A client as given, or as the store knows it. All malloc'd. */
struct client {
    char *id, *user, *sub, *claims;
    int64_t seen_ms;
};

static void client_free(struct client *client)
{
    free(client->id);
    free(client->user);
    free(client->sub);
    free(client->claims);
}

static char *copy(const char *text, size_t len)
{
    char *out = hlt_cli_resize(NULL, len + 1);

    memcpy(out, text, len);
    out[len] = '\0';
    return out;
}

/* "NAME=VALUE": the value is JSON, else text; a name given again makes an array. */
static bool add_claim(cJSON *claims, const char *pair)
{
    const char *equals = strchr(pair, '=');
    cJSON *value, *before;
    char *name;

    if (equals == NULL || equals == pair) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--claim %s is not NAME=VALUE", pair);
        return false;
    }
    name = copy(pair, (size_t)(equals - pair));
    value = cJSON_ParseWithOpts(equals + 1, NULL, true);
    value = value != NULL ? value : cJSON_CreateString(equals + 1);
    before = cJSON_GetObjectItemCaseSensitive(claims, name);
    if (before == NULL) {
        cJSON_AddItemToObject(claims, name, value);
    } else if (cJSON_IsArray(before)) {
        cJSON_AddItemToArray(before, value);
    } else {
        cJSON *array = cJSON_CreateArray();

        cJSON_AddItemToArray(array, cJSON_DetachItemFromObjectCaseSensitive(claims, name));
        cJSON_AddItemToArray(array, value);
        cJSON_AddItemToObject(claims, name, array);
    }
    free(name);
    return true;
}

/* The claims of --claims or of all --claim; *out NULL if there are none. */
static bool read_claims(const char *given, int argc, char **argv, char **out)
{
    cJSON *claims = NULL;
    const char *pair;
    bool good = true;
    int at = 0;

    *out = given != NULL ? copy(given, strlen(given)) : NULL;
    while (good && (pair = hlt_cli_each("claim", argc, argv, &at)) != NULL) {
        if (given != NULL) {
            hlt_cli_fail(HLT_EXIT_USAGE, "--claims is all claims at once: no --claim beside it");
            return false;
        }
        claims = claims != NULL ? claims : cJSON_CreateObject();
        good = add_claim(claims, pair);
    }
    if (good && claims != NULL) {
        char *text = cJSON_PrintUnformatted(claims);

        *out = text != NULL ? copy(text, strlen(text)) : NULL;
        good = text != NULL;
        cJSON_free(text);
    }
    cJSON_Delete(claims);
    return good;
}

/* The device is the claim `sub`, as in a token. */
static bool read_sub(const char *claims, char **out)
{
    size_t len = strlen(claims), at = 0;
    const char *error = hlt_json_check(claims, len, true, &at);
    enum hlt_json_event event;
    struct hlt_json json;

    *out = NULL;
    if (error != NULL) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--claims: %s at byte %zu", error, at);
        return false;
    }
    if (!hlt_json_find(claims, len, "sub", &json, &event)) {
        return true;
    }
    *out = hlt_cli_resize(NULL, json.text_len + 1);
    if (event != HLT_JSON_STRING ||
        hlt_json_unescape(*out, json.text_len + 1, json.text, json.text_len) == SIZE_MAX) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--claims: sub must be a string without NUL");
        return false;
    }
    return true;
}

/* As in the broker: a token session's user name is its sub. */
static bool given_client(const char *user, const char *id, const char *claims, int argc,
                         char **argv, struct client *out)
{
    const char *name;

    if (!read_claims(claims, argc, argv, &out->claims) ||
        (out->claims != NULL && !read_sub(out->claims, &out->sub))) {
        return false;
    }
    name = user != NULL && user[0] != '\0' ? user : out->sub;
    out->user = name != NULL ? copy(name, strlen(name)) : NULL;
    name = id != NULL ? id : name != NULL ? name : "";
    out->id = copy(name, strlen(name));
    return true;
}

struct wanted {
    const char *device;
    struct client *client;
    uint64_t damaged;
};

/* Of a device's sessions the one that was seen last. */
static bool take_identity(void *context, const void *key, size_t key_len, const void *value,
                          size_t len)
{
    struct wanted *wanted = context;
    struct hlt_identity_record record;

    if (hlt_identity_record_read(&record, value, len) != HLT_OK) {
        wanted->damaged++;
        return true;
    }
    if (strcmp(record.user, wanted->device) != 0 ||
        (wanted->client->id != NULL && record.seen_ms <= wanted->client->seen_ms)) {
        return true;
    }
    client_free(wanted->client);
    *wanted->client = (struct client){.id = copy(key, key_len),
                                      .user = copy(record.user, strlen(record.user)),
                                      .sub = copy(record.user, strlen(record.user)),
                                      .claims = copy(record.claims, record.claims_len),
                                      .seen_ms = record.seen_ms};
    return true;
}

static int stored_client(const char *db, const char *config, const char *device, struct client *out)
{
    struct wanted wanted = {.device = device, .client = out};
    struct hlt_reader reader;
    struct hlt_err err = {""};
    int code = hlt_reader_open(&reader, db, config);

    if (code != HLT_EXIT_OK) {
        return code;
    }
    if (hlt_store_each(reader.store, HLT_DB_IDENTITIES, take_identity, &wanted, &err) != HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "cannot read the identities: %s", err.msg);
    } else if (out->id == NULL) {
        code = hlt_cli_fail(HLT_EXIT_IO,
                            "no session of device '%s' is kept in %s: give its claims with --claim",
                            device, reader.path);
    }
    hlt_reader_close(&reader);
    return code;
}

/* ---- explain: the answer ---- */

struct answer {
    const struct hlt_policy *policy;
    const struct hlt_view *view;
    const struct client *client;
    enum hlt_access access;
    const char *topic;
    struct hlt_explanation what;
};

static bool below(const char *prefix, const char *topic, const char **rest)
{
    size_t len = strlen(prefix);

    *rest = topic + len + 1;
    return strncmp(topic, prefix, len) == 0 && topic[len] == '/';
}

/* Topics that only Haltere writes, whatever the policy says (DESIGN 11.10). */
static bool own_topic(const struct hlt_options *options, const char *topic)
{
    const char *devices = options->device_prefix != NULL ? options->device_prefix : "devices";
    const char *alerts = options->alert_prefix != NULL ? options->alert_prefix : "alerts";
    const char *system = options->system_prefix != NULL ? options->system_prefix : "system";
    const char *rest;

    if (below(devices, topic, &rest)) {
        const char *leaf = strchr(rest, '/');

        return leaf != NULL && (strcmp(leaf, "/event") == 0 || strcmp(leaf, "/health") == 0 ||
                                strcmp(leaf, "/availability") == 0);
    }
    return below(alerts, topic, &rest) || strcmp(topic, alerts) == 0 ||
           (below(system, topic, &rest) && strcmp(rest, "heartbeat") == 0) ||
           (below("$CONTROL/haltere", topic, &rest) && strcmp(rest, "v1") != 0);
}

static const char *reason_text(const struct hlt_explanation *what)
{
    static const struct {
        const char *reason, *text;
    } texts[] = {
        {"default", "no rule allows it"},
        {"malformed", "this is no topic (for read and write) or no filter (for subscribe)"},
        {"broker:$SYS", "Mosquitto itself lets nobody write below $SYS"},
        {"broker:$share", "Mosquitto itself lets nobody use a topic that begins with $share"},
        {"legacy:bad-id", "Mosquitto asks no pattern for a client whose name holds + or #"},
        {"own-topic", "only Haltere itself publishes here, whatever a policy says"},
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        if (strcmp(what->reason, texts[i].reason) == 0) {
            return what->decision.verdict == HLT_ALLOW ? "no rule denies it" : texts[i].text;
        }
    }
    return strcmp(what->reason, "unusable-variable") == 0
               ? "a variable of the rule has no value that may stand in a topic"
               : "by the rule";
}

static void print_limits(const struct answer *answer)
{
    struct hlt_rule_ref limit;
    bool applies;

    for (size_t i = 0; hlt_view_limit(answer->view, i, answer->topic, &limit, &applies); i++) {
        if (applies) {
            print_rule("limit", &limit);
        }
    }
}

static void print_answer(const struct answer *answer)
{
    const struct hlt_explanation *what = &answer->what;
    bool allowed = what->decision.verdict == HLT_ALLOW;
    const char *section;

    printf("%s%s%s: %s ", allowed ? hlt_cli_green() : hlt_cli_red(), allowed ? "allow" : "deny",
           hlt_cli_reset(), hlt_access_word(answer->access));
    hlt_cli_print_text(stdout, answer->topic);
    printf("\n  %-9s %s\n", "why", reason_text(what));
    if (what->has_by) {
        print_rule("rule", &what->by);
    }
    if (what->bound != NULL) {
        printf("  %-9s ", "here");
        hlt_cli_print_text(stdout, what->bound);
        printf("\n");
    }
    if (what->has_near) {
        print_rule("nearest", &what->near);
        printf("  %-9s ", "but");
        hlt_cli_print_text(stdout, what->why);
        printf("\n");
    }
    if (answer->access == HLT_WRITE && allowed) {
        print_limits(answer);
    }
    printf("  %-9s ", "client");
    hlt_cli_print_text(stdout, answer->client->id);
    if (answer->client->sub != NULL) {
        printf(", device ");
        hlt_cli_print_text(stdout, answer->client->sub);
    }
    printf("\n  %-9s", "sections");
    for (size_t i = 0; (section = hlt_view_section(answer->view, i)) != NULL; i++) {
        printf(i > 0 ? ", " : " ");
        hlt_cli_print_text(stdout, section);
    }
    printf("\n  %-9s %s\n", "policy", hlt_policy_digest(answer->policy));
}

static void add_text(cJSON *object, const char *name, const char *text)
{
    cJSON_AddItemToObject(object, name,
                          text != NULL ? cJSON_CreateString(text) : cJSON_CreateNull());
}

/* Which limits a publish here has to keep: whether it does, only the message can say. */
static void add_limits(const struct answer *answer, cJSON *root)
{
    cJSON *list = cJSON_AddArrayToObject(root, "limits");
    struct hlt_rule_ref limit;
    bool applies;

    for (size_t i = 0; hlt_view_limit(answer->view, i, answer->topic, &limit, &applies); i++) {
        if (applies) {
            cJSON_AddItemToArray(list, hlt_acl_rule_json(&limit));
        }
    }
}

static void print_json(const struct answer *answer)
{
    const struct hlt_explanation *what = &answer->what;
    cJSON *root = cJSON_CreateObject(), *client, *list;
    const char *section;

    cJSON_AddStringToObject(root, "decision",
                            what->decision.verdict == HLT_ALLOW ? "allow" : "deny");
    cJSON_AddStringToObject(root, "access", hlt_access_word(answer->access));
    cJSON_AddStringToObject(root, "topic", answer->topic);
    client = cJSON_AddObjectToObject(root, "client");
    add_text(client, "id", answer->client->id);
    add_text(client, "user", answer->client->user);
    add_text(client, "sub", answer->client->sub);
    list = cJSON_AddArrayToObject(root, "sections");
    for (size_t i = 0; (section = hlt_view_section(answer->view, i)) != NULL; i++) {
        cJSON_AddItemToArray(list, cJSON_CreateString(section));
    }
    cJSON_AddStringToObject(root, "policy", hlt_policy_digest(answer->policy));
    cJSON_AddStringToObject(root, "reason", what->reason);
    if (what->has_by) {
        cJSON *by = hlt_acl_rule_json(&what->by);

        if (what->bound != NULL) {
            cJSON_AddStringToObject(by, "bound", what->bound);
        }
        cJSON_AddItemToObject(root, "by", by);
    }
    if (what->has_near) {
        cJSON *near = hlt_acl_rule_json(&what->near);

        cJSON_AddStringToObject(near, "why", what->why);
        cJSON_AddItemToObject(root, "near", near);
    }
    if (answer->access == HLT_WRITE && what->decision.verdict == HLT_ALLOW) {
        add_limits(answer, root);
    }
    (void)hlt_cli_print_json(root);
}

static int explain(struct answer *answer, const struct hlt_options *options, bool json)
{
    const struct client *client = answer->client;
    struct hlt_subject subject = {.client_id = client->id,
                                  .user = client->user,
                                  .device_id = client->sub,
                                  .claims = client->claims,
                                  .claims_len =
                                      client->claims != NULL ? strlen(client->claims) : 0};
    struct hlt_view *view = hlt_policy_bind(answer->policy, &subject);

    if (view == NULL ||
        hlt_policy_explain(view, answer->access, answer->topic, &answer->what) != HLT_OK) {
        hlt_view_free(view);
        return hlt_cli_fail(HLT_EXIT_IO, "out of memory");
    }
    answer->view = view;
    if (answer->access == HLT_WRITE && own_topic(options, answer->topic)) {
        hlt_explanation_free(&answer->what);
        answer->what = (struct hlt_explanation){
            .decision = {.verdict = HLT_DENY, .rule = UINT32_MAX}, .reason = "own-topic"};
    }
    if (json) {
        print_json(answer);
    } else {
        print_answer(answer);
    }
    hlt_explanation_free(&answer->what);
    hlt_view_free(view);
    return answer->what.decision.verdict == HLT_ALLOW ? HLT_EXIT_OK : HLT_EXIT_NO;
}

enum { POLICY, DB, CONFIG, DEVICE, USER, CLIENT, CLAIMS, CLAIM, COMPAT, JSON, OPTIONS };

/* Load the policy, find the client, answer. */
static int answer_for(int argc, char **argv, const char *const *values, const char *const *words)
{
    struct hlt_options options = {0};
    struct hlt_problems problems = {0};
    struct client client = {0};
    struct answer answer = {.client = &client, .topic = words[1]};
    struct hlt_policy_reading how = {.untested = true};
    struct hlt_policy *policy = NULL;
    const char *path = values[POLICY];
    int code = HLT_EXIT_USAGE;

    if (values[CONFIG] != NULL) { /* other mistakes in it are `haltere config check`'s to tell */
        (void)hlt_broker_config_check(values[CONFIG], &options, &problems);
        path = path != NULL ? path : options.acl_file;
        how.compat = options.acl_compat == HLT_COMPAT_2_1 ? HLT_ACL_2_1 : HLT_ACL_2_0;
    }
    if (!hlt_acl_compat(values[COMPAT], &how.compat)) {
        code = HLT_EXIT_USAGE;
    } else if (!hlt_acl_access(words[0], strlen(words[0]), &answer.access)) {
        hlt_cli_fail(code, "'%s' is no access: read, write, subscribe or unsubscribe", words[0]);
    } else if (path == NULL) {
        hlt_cli_fail(code, "which policy? Give --policy FILE, or --config with an acl_file in it");
    } else if (values[DEVICE] != NULL) {
        code = stored_client(values[DB], values[CONFIG], values[DEVICE], &client);
    } else if (given_client(values[USER], values[CLIENT], values[CLAIMS], argc, argv, &client)) {
        code = HLT_EXIT_OK;
    }
    if (code == HLT_EXIT_OK) {
        policy = hlt_acl_load(path, &how, &code);
    }
    if (policy != NULL) {
        answer.policy = policy;
        code = explain(&answer, &options, values[JSON] != NULL);
    }
    hlt_policy_free(policy);
    client_free(&client);
    hlt_options_free(&options);
    hlt_problems_free(&problems);
    return code;
}

int hlt_acl_explain(int argc, char **argv)
{
    static const struct hlt_cli_option options[] = {
        {"policy", "FILE", "the policy to ask (default: acl_file of --config)"},
        HLT_READER_OPTIONS,
        {"device", "ID", "ask as this device, with the claims the broker last saw of it"},
        {"user", "NAME", "ask as this user name (default: the claim sub)"},
        {"client", "ID", "with this client id (default: the user name)"},
        {"claims", "JSON", "with these claims: one JSON object"},
        {"claim", "NAME=VALUE", "with this claim; the value is JSON, else text. May be repeated"},
        HLT_ACL_COMPAT_OPTION,
        {"json", NULL, "print one JSON object"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        .synopsis =
            "haltere acl explain [--policy FILE] [--user NAME] [--client ID] "
            "[--claims JSON | --claim NAME=VALUE...] [--json] ACCESS TOPIC\n"
            "haltere acl explain --device ID [--policy FILE] [--db DIR | --config CONF] [--json] "
            "ACCESS TOPIC",
        .summary = "Say why a client may or may not do this (ACCESS is read, write, subscribe or "
                   "unsubscribe): the rule with its file and line, what it stands for with this "
                   "client's claims, the sections that apply, and, where no rule allows it, the "
                   "rule that nearly did and what it failed by.",
        .options = options,
        .positional_min = 2,
        .positional_max = 2,
        .notes = "Exit codes: 0 allowed, 1 denied, 2 usage, 3 the policy or the store cannot be "
                 "read, or the store knows no session of the device.",
    };
    const char *values[OPTIONS] = {NULL};
    const char *words[2] = {NULL};
    enum hlt_cli_rc parsed = hlt_cli_parse(&spec, argc, argv, values, words, NULL);

    if (parsed != HLT_CLI_OK) {
        return parsed == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    return answer_for(argc, argv, values, words);
}

/* ---- test ---- */

struct tally {
    cJSON *failures; /* NULL: print as text */
    size_t tests, failed;
};

static void report(const struct hlt_test *test, const struct hlt_explanation *what,
                   struct tally *tally)
{
    const char *want = test->deny ? "deny" : "allow";
    const char *got = test->deny ? "allow" : "deny";

    tally->failed++;
    if (tally->failures != NULL) {
        cJSON *item = cJSON_CreateObject();

        cJSON_AddStringToObject(item, "file", test->file);
        cJSON_AddNumberToObject(item, "line", test->line);
        cJSON_AddStringToObject(item, "access", hlt_access_word(test->access));
        cJSON_AddStringToObject(item, "topic", test->topic);
        cJSON_AddStringToObject(item, "expected", want);
        cJSON_AddStringToObject(item, "decision", got);
        cJSON_AddStringToObject(item, "reason", what->reason);
        if (what->has_by) {
            cJSON_AddItemToObject(item, "by", hlt_acl_rule_json(&what->by));
        }
        if (what->has_near) {
            cJSON *near = hlt_acl_rule_json(&what->near);

            cJSON_AddStringToObject(near, "why", what->why);
            cJSON_AddItemToObject(item, "near", near);
        }
        cJSON_AddItemToArray(tally->failures, item);
        return;
    }
    printf("%sFAILED%s ", hlt_cli_red(), hlt_cli_reset());
    hlt_cli_print_text(stdout, test->file);
    printf(":%u: expected %s, is %s: %s ", test->line, want, got, hlt_access_word(test->access));
    hlt_cli_print_text(stdout, test->topic);
    printf("\n  %-9s %s\n", "why", reason_text(what));
    if (what->has_by) {
        print_rule("rule", &what->by);
    }
    if (what->has_near) {
        print_rule("nearest", &what->near);
        printf("  %-9s ", "but");
        hlt_cli_print_text(stdout, what->why);
        printf("\n");
    }
}

static bool run_tests(const struct hlt_policy *policy, struct tally *tally)
{
    struct hlt_test test;

    for (size_t i = 0; hlt_policy_test(policy, i, &test); i++) {
        struct hlt_view *view = hlt_policy_bind(policy, &test.subject);
        struct hlt_decision decision;
        struct hlt_explanation what;

        if (view == NULL) {
            return false;
        }
        hlt_policy_decide(view, test.access, test.topic, &decision);
        tally->tests++;
        if ((decision.verdict == HLT_ALLOW) == test.deny &&
            hlt_policy_explain(view, test.access, test.topic, &what) == HLT_OK) {
            report(&test, &what, tally);
            hlt_explanation_free(&what);
        }
        hlt_view_free(view);
    }
    return true;
}

static int test_file(const char *path, const struct hlt_policy_reading *how, cJSON *list)
{
    cJSON *item = list != NULL ? cJSON_CreateObject() : NULL;
    struct tally tally = {.failures =
                              item != NULL ? cJSON_AddArrayToObject(item, "failures") : NULL};
    int code;
    struct hlt_policy *policy = hlt_acl_load(path, how, &code);
    bool ran = policy != NULL && run_tests(policy, &tally);

    if (item != NULL) {
        cJSON_AddStringToObject(item, "file", path);
        cJSON_AddBoolToObject(item, "read", ran);
        cJSON_AddNumberToObject(item, "tests", (double)tally.tests);
        cJSON_AddNumberToObject(item, "failed", (double)tally.failed);
        cJSON_AddItemToArray(list, item);
    } else if (ran) {
        hlt_cli_print_text(stdout, path);
        printf(": %zu test%s, %zu failed\n", tally.tests, tally.tests == 1 ? "" : "s",
               tally.failed);
    }
    hlt_policy_free(policy);
    return !ran ? HLT_EXIT_IO : tally.failed > 0 ? HLT_EXIT_NO : HLT_EXIT_OK;
}

int hlt_acl_test(int argc, char **argv)
{
    static const struct hlt_cli_option options[] = {
        HLT_ACL_COMPAT_OPTION,
        {"json", NULL, "print one JSON document instead of text"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        .synopsis = "haltere acl test [--acl-compat 2.0|2.1] [--json] FILE...",
        .summary = "Run the tests ('expect' lines) in each policy and explain every one that "
                   "fails. Made for CI pipelines; the broker runs the same tests at every load.",
        .options = options,
        .positional_min = 1,
        .positional_max = -1,
        .notes = "Exit codes: 0 all tests passed, 1 a test failed, 2 usage, 3 a file cannot be "
                 "read or has errors.",
    };
    struct hlt_policy_reading how = {.untested = true};
    const char *values[2] = {NULL};
    const char **paths = hlt_cli_resize(NULL, (size_t)argc * sizeof(*paths));
    int count = 0, code = HLT_EXIT_OK;
    enum hlt_cli_rc parsed = hlt_cli_parse(&spec, argc, argv, values, paths, &count);

    if (parsed != HLT_CLI_OK) {
        free(paths);
        return parsed == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    if (!hlt_acl_compat(values[0], &how.compat)) {
        free(paths);
        return HLT_EXIT_USAGE;
    }
    cJSON *root = values[1] != NULL ? cJSON_CreateObject() : NULL;
    cJSON *list = root != NULL ? cJSON_AddArrayToObject(root, "policies") : NULL;
    for (int i = 0; i < count; i++) {
        int one = test_file(paths[i], &how, list);

        code = one > code ? one : code;
    }
    if (root != NULL) {
        cJSON_AddBoolToObject(root, "ok", code == HLT_EXIT_OK);
        (void)hlt_cli_print_json(root);
    }
    free(paths);
    return code;
}
