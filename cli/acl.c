/* acl.c - `haltere acl`: check a policy file, and put questions to it without a broker. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../acl/policy.h"
#include "../shared/jsonpull.h"
#include "../shared/text.h"
#include "acl_verbs.h"

#define LINE_MAX_BYTES (1u << 20) /* of one question */
#define READ_BYTES (256u << 10)
#define CLAIMS_MAX_BYTES 65535 /* no token is larger (max_token_bytes) */

/* ---- check ---- */

static void print_check_json(const char *path, const struct hlt_policy *policy,
                             const struct hlt_problems *problems)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(root, "problems");

    cJSON_AddStringToObject(root, "file", path);
    cJSON_AddBoolToObject(root, "ok", policy != NULL);
    cJSON_AddNumberToObject(root, "errors", (double)problems->errors);
    cJSON_AddNumberToObject(root, "warnings", (double)problems->warnings);
    for (size_t i = 0; i < problems->count; i++) {
        const struct hlt_problem *problem = &problems->item[i];
        cJSON *item = cJSON_CreateObject();

        cJSON_AddStringToObject(item, "kind",
                                problem->kind == HLT_PROBLEM_ERROR ? "error" : "warning");
        cJSON_AddStringToObject(item, "file", problem->file != NULL ? problem->file : path);
        cJSON_AddNumberToObject(item, "line", problem->line);
        cJSON_AddNumberToObject(item, "column", problem->column);
        cJSON_AddStringToObject(item, "text", problem->text);
        cJSON_AddItemToArray(list, item);
    }
    if (policy != NULL) {
        struct hlt_policy_counts counts;

        hlt_policy_counts(policy, &counts);
        cJSON_AddNumberToObject(root, "rules", (double)counts.rules);
        cJSON_AddNumberToObject(root, "sections", (double)counts.sections);
        cJSON_AddNumberToObject(root, "files", (double)counts.files);
        cJSON_AddNumberToObject(root, "expects", (double)counts.expects);
        cJSON_AddStringToObject(root, "digest", hlt_policy_digest(policy));
    }
    (void)hlt_cli_print_json(root);
}

static void print_check(const char *path, const struct hlt_policy *policy,
                        const struct hlt_problems *problems)
{
    struct hlt_policy_counts counts;

    hlt_cli_problems(problems);
    if (policy == NULL) {
        return;
    }
    hlt_policy_counts(policy, &counts);
    hlt_cli_print_text(stdout, path);
    printf(": ok. %zu rules in %zu sections, %zu file%s, %zu tests passed, policy %s\n",
           counts.rules, counts.sections, counts.files, counts.files == 1 ? "" : "s",
           counts.expects, hlt_policy_digest(policy));
}

static int run_check(int argc, char **argv)
{
    static const struct hlt_cli_option options[] = {
        HLT_ACL_COMPAT_OPTION,
        {"json", NULL, "print one JSON document instead of text"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        .synopsis = "haltere acl check [--acl-compat 2.0|2.1] [--json] FILE",
        .summary = "Read a policy with all it includes, tell every mistake with file, line and "
                   "column, and run the tests ('expect' lines) in it: what the broker does with it "
                   "before it takes it.",
        .options = options,
        .positional_min = 1,
        .positional_max = 1,
        .notes =
            "Exit codes: 0 the policy is good (there may be warnings), 1 it has errors, 2 usage, "
            "3 the file cannot be read.",
    };
    struct hlt_policy_reading how = {.compat = HLT_ACL_2_0};
    const char *values[2] = {NULL};
    const char *path[1] = {NULL};
    enum hlt_cli_rc parsed = hlt_cli_parse(&spec, argc, argv, values, path, NULL);
    struct hlt_problems *problems;
    struct hlt_policy *policy;
    enum hlt_rc rc;

    if (parsed != HLT_CLI_OK) {
        return parsed == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    if (!hlt_acl_compat(values[0], &how.compat)) {
        return HLT_EXIT_USAGE;
    }
    problems = hlt_cli_resize(NULL, sizeof(*problems)); /* large */
    memset(problems, 0, sizeof(*problems));
    rc = hlt_policy_load(&policy, path[0], &how, problems);
    if (values[1] != NULL) {
        print_check_json(path[0], policy, problems);
    } else {
        print_check(path[0], policy, problems);
    }
    hlt_policy_free(policy);
    hlt_problems_free(problems);
    free(problems);
    return rc == HLT_OK                        ? HLT_EXIT_OK
           : rc == HLT_EIO || rc == HLT_ENOMEM ? HLT_EXIT_IO
                                               : HLT_EXIT_NO;
}

/* ---- decide ---- */

/* Raw JSON text of a member of the question; text NULL: not given, or null. */
struct span {
    const char *text;
    size_t len;
    bool seen, escaped;
};

struct question {
    struct span user, client, access, topic, claims;
};

/* What outlives a question: the view of the last client, and room for decoded texts. */
struct decider {
    const struct hlt_policy *policy;
    struct hlt_view *view;
    struct span user, client, claims; /* of `view`; they point into `key` */
    char *key;
    char *topic;
    size_t topic_space;
    unsigned long line;
    unsigned long bad_lines;
    char error[256];
};

static bool refuse(struct decider *decider, const char *what, const char *more)
{
    (void)snprintf(decider->error, sizeof(decider->error), "%s%s", what, more);
    return false;
}

/* The member a name stands for, and whether it is an object; false for others. */
static bool find_member(struct question *question, const struct hlt_json *json, struct span **out,
                        bool *object)
{
    const struct {
        const char *name;
        struct span *span;
    } members[] = {{"user", &question->user},
                   {"clientId", &question->client},
                   {"access", &question->access},
                   {"topic", &question->topic},
                   {"claims", &question->claims}};

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (hlt_json_is(json, members[i].name)) {
            *object = strcmp(members[i].name, "claims") == 0;
            *out = members[i].span;
            return true;
        }
    }
    return false;
}

/* Members nobody knows are passed over. A name that is nearly one of ours is a slip that would
 * silently make another client of the question. */
static bool pass_over(struct decider *decider, struct hlt_json *json)
{
    static const char *const names[] = {"user", "clientId", "access", "topic", "claims", NULL};
    char name[64];
    const char *near;

    (void)hlt_printable(name, sizeof(name), json->text, json->text_len);
    near = hlt_suggest(name, names);
    if (near != NULL) {
        (void)snprintf(decider->error, sizeof(decider->error),
                       "unknown member '%s'; did you mean '%s'?", name, near);
        return false;
    }
    return hlt_json_skip(json, HLT_JSON_NAME) || refuse(decider, "bad JSON: ", json->error);
}

static bool read_member(struct decider *decider, struct hlt_json *json, struct span *span,
                        bool object)
{
    enum hlt_json_event event;

    if (span->seen) {
        return refuse(decider, "a member is given twice", "");
    }
    span->seen = true;
    event = hlt_json_next(json);
    if (event == HLT_JSON_NULL) {
        return true;
    }
    if (event == HLT_JSON_ERROR) {
        return refuse(decider, "bad JSON: ", json->error);
    }
    if (object && event == HLT_JSON_OBJECT_BEGIN) {
        const char *begin = json->input + json->at;

        if (!hlt_json_skip(json, event)) {
            return refuse(decider, "bad JSON: ", json->error);
        }
        span->text = begin;
        span->len = (size_t)(json->input + json->at + 1 - begin);
        return true;
    }
    if (object || event != HLT_JSON_STRING) {
        return refuse(decider,
                      object ? "claims must be an object or null"
                             : "user, clientId, access and topic must be strings",
                      "");
    }
    span->text = json->text;
    span->len = json->text_len;
    span->escaped = json->escaped;
    return true;
}

static bool read_question(struct decider *decider, const char *line, size_t len,
                          struct question *question)
{
    struct hlt_json json;
    enum hlt_json_event event;

    hlt_json_begin(&json, line, len);
    event = hlt_json_next(&json);
    if (event != HLT_JSON_OBJECT_BEGIN) {
        return refuse(decider,
                      event == HLT_JSON_ERROR ? "bad JSON: " : "a question is a JSON object",
                      event == HLT_JSON_ERROR ? json.error : "");
    }
    while ((event = hlt_json_next(&json)) == HLT_JSON_NAME) {
        bool object = false;
        struct span *span;

        if (!find_member(question, &json, &span, &object)) {
            if (!pass_over(decider, &json)) {
                return false;
            }
        } else if (!read_member(decider, &json, span, object)) {
            return false;
        }
    }
    if (event != HLT_JSON_OBJECT_END || hlt_json_next(&json) != HLT_JSON_DONE) {
        return refuse(decider,
                      "bad JSON: ", json.error != NULL ? json.error : "text after the object");
    }
    if (question->topic.text == NULL || question->access.text == NULL) {
        return refuse(decider, "access and topic must be given", "");
    }
    return true;
}

static bool read_access(struct decider *decider, const struct span *span, enum hlt_access *out)
{
    static const struct {
        const char *word;
        enum hlt_access access;
    } words[] = {{"read", HLT_READ},
                 {"write", HLT_WRITE},
                 {"subscribe", HLT_SUBSCRIBE},
                 {"unsubscribe", HLT_UNSUBSCRIBE}};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strlen(words[i].word) == span->len &&
            memcmp(words[i].word, span->text, span->len) == 0) {
            *out = words[i].access;
            return true;
        }
    }
    return refuse(decider, "access must be read, write, subscribe or unsubscribe", "");
}

static bool same_span(const struct span *left, const struct span *right)
{
    if (left->text == NULL || right->text == NULL) {
        return left->text == right->text;
    }
    return left->len == right->len && memcmp(left->text, right->text, left->len) == 0;
}

/* The decoded text, malloc'd; NULL stays NULL. False if it holds a NUL. */
static bool decode(struct decider *decider, const struct span *span, char **out)
{
    *out = NULL;
    if (span->text == NULL) {
        return true;
    }
    *out = hlt_cli_resize(NULL, span->len + 1);
    if (hlt_json_unescape(*out, span->len + 1, span->text, span->len) == SIZE_MAX) {
        free(*out);
        *out = NULL;
        return refuse(decider, "a name with a NUL (\\u0000) is nobody's", "");
    }
    return true;
}

/* The claim `sub`, which makes a token's device; *out NULL if there is none. */
static bool read_sub(struct decider *decider, const struct span *claims, char **out)
{
    struct hlt_json json;
    enum hlt_json_event event;
    struct span span = {0};
    size_t at;
    const char *error;

    *out = NULL;
    if (claims->text == NULL) {
        return true;
    }
    if (claims->len > CLAIMS_MAX_BYTES) {
        return refuse(decider, "the claims are larger than any token", "");
    }
    error = hlt_json_check(claims->text, claims->len, true, &at);
    if (error != NULL) {
        return refuse(decider, "claims: ", error);
    }
    if (!hlt_json_find(claims->text, claims->len, "sub", &json, &event)) {
        return true;
    }
    if (event != HLT_JSON_STRING) {
        return refuse(decider, "claims: sub must be a string", "");
    }
    span.text = json.text;
    span.len = json.text_len;
    return decode(decider, &span, out);
}

/* Keep the raw texts the new view was made of. */
static void remember(struct decider *decider, const struct question *question)
{
    const struct span *from[] = {&question->user, &question->client, &question->claims};
    struct span *to[] = {&decider->user, &decider->client, &decider->claims};
    size_t at = 0;

    decider->key = hlt_cli_resize(decider->key, question->user.len + question->client.len +
                                                    question->claims.len + 1);
    for (size_t i = 0; i < 3; i++) {
        *to[i] = *from[i];
        if (from[i]->text != NULL) {
            to[i]->text = decider->key + at;
            memcpy(decider->key + at, from[i]->text, from[i]->len);
            at += from[i]->len;
        }
    }
}

/* Bind the policy to this question's client, unless it is the last one's. */
static bool bind_client(struct decider *decider, const struct question *question)
{
    char *user = NULL, *client = NULL, *sub = NULL;
    struct hlt_subject subject;
    bool known;

    if (decider->view != NULL && same_span(&decider->user, &question->user) &&
        same_span(&decider->client, &question->client) &&
        same_span(&decider->claims, &question->claims)) {
        return true;
    }
    hlt_view_free(decider->view);
    decider->view = NULL;
    known = decode(decider, &question->user, &user) &&
            decode(decider, &question->client, &client) &&
            read_sub(decider, &question->claims, &sub);
    if (known) {
        /* as in the broker: a token session's user name is its sub */
        subject = (struct hlt_subject){.user = user != NULL && user[0] != '\0' ? user : sub,
                                       .device_id = sub,
                                       .claims = question->claims.text,
                                       .claims_len = question->claims.len};
        subject.client_id = client != NULL ? client : subject.user != NULL ? subject.user : "";
        decider->view = hlt_policy_bind(decider->policy, &subject);
        known = decider->view != NULL || refuse(decider, "out of memory", "");
    }
    if (known) {
        remember(decider, question);
    }
    free(user);
    free(client);
    free(sub);
    return known;
}

static void put_text(const char *text)
{
    putc_unlocked('"', stdout);
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\') {
            putc_unlocked('\\', stdout);
            putc_unlocked(*at, stdout);
        } else if ((unsigned char)*at < 0x20) {
            printf("\\u%04x", (unsigned)*at);
        } else {
            putc_unlocked(*at, stdout);
        }
    }
    putc_unlocked('"', stdout);
}

static void put_raw(const char *text, size_t len)
{
    (void)fwrite_unlocked(text, 1, len, stdout);
}

static void put(const char *text)
{
    put_raw(text, strlen(text));
}

static void print_answer(const struct decider *decider, const struct question *question,
                         const struct hlt_decision *decision)
{
    char number[16];
    struct hlt_rule_ref rule;

    put(decision->verdict == HLT_ALLOW ? "{\"decision\":\"allow\",\"access\":\""
                                       : "{\"decision\":\"deny\",\"access\":\"");
    put_raw(question->access.text, question->access.len);
    put("\",\"topic\":\"");
    put_raw(question->topic.text, question->topic.len); /* it was valid JSON when it came */
    if (decision->rule == UINT32_MAX) {
        put(decision->verdict != HLT_DENY          ? "\",\"reason\":\"default\""
            : hlt_policy_is_plain(decider->policy) ? "\",\"reason\":\"refused\""
                                                   : "\",\"reason\":\"malformed\"");
    } else {
        hlt_policy_rule(decider->policy, decision->rule, &rule);
        put("\",\"reason\":\"rule\",\"by\":{\"file\":");
        put_text(rule.file);
        (void)snprintf(number, sizeof(number), "%u", rule.line);
        put(",\"line\":");
        put(number);
        put(",\"text\":");
        put_text(rule.text);
        put(",\"section\":");
        put_text(rule.section);
        put("}");
    }
    put(decision->bound_device ? ",\"boundDevice\":true}\n" : ",\"boundDevice\":false}\n");
}

static bool answer(struct decider *decider, const char *line, size_t len)
{
    struct question question = {0};
    struct hlt_decision decision = {.verdict = HLT_DENY, .rule = UINT32_MAX};
    enum hlt_access access;

    if (!read_question(decider, line, len, &question) ||
        !read_access(decider, &question.access, &access) || !bind_client(decider, &question)) {
        return false;
    }
    if (decider->topic_space <= question.topic.len) {
        decider->topic_space = question.topic.len * 2 + 256;
        decider->topic = hlt_cli_resize(decider->topic, decider->topic_space);
    }
    /* a topic with a NUL is malformed like others: denied */
    if (hlt_json_unescape(decider->topic, decider->topic_space, question.topic.text,
                          question.topic.len) != SIZE_MAX) {
        hlt_policy_decide(decider->view, access, decider->topic, &decision);
    }
    print_answer(decider, &question, &decision);
    return true;
}

static void take_line(struct decider *decider, const char *line, size_t len)
{
    char text[640];

    decider->line++;
    if (len > 0 && line[len - 1] == '\r') {
        len--;
    }
    decider->error[0] = '\0';
    if (len > LINE_MAX_BYTES) {
        (void)refuse(decider, "the line is longer than 1 MiB", "");
    } else if (answer(decider, line, len)) {
        return;
    }
    decider->bad_lines++;
    (void)hlt_printable(text, sizeof(text), decider->error, strlen(decider->error));
    put("{\"error\":");
    put_text(text);
    printf(",\"line\":%lu}\n", decider->line);
}

/* Read until the end of stdin. All answers to what has come are out before waiting for more, so
 * that a caller may ask one question at a time. A line too long for the buffer keeps its first part
 * there and drops the rest. */
static bool take_input(struct decider *decider)
{
    size_t space = LINE_MAX_BYTES + 1 + READ_BYTES;
    char *buffer = hlt_cli_resize(NULL, space);
    size_t have = 0, scanned = 0;
    ssize_t got;

    do {
        (void)fflush(stdout);
        if (have > LINE_MAX_BYTES) {
            have = LINE_MAX_BYTES + 1;
        }
        scanned = have;
        got = read(STDIN_FILENO, buffer + have, space - have);
        if (got < 0 && errno == EINTR) {
            got = 1;
            continue;
        }
        if (got > 0) {
            char *line = buffer, *end = buffer + have + got, *eol = buffer + scanned;

            while ((eol = memchr(eol, '\n', (size_t)(end - eol))) != NULL) {
                take_line(decider, line, (size_t)(eol - line));
                line = ++eol;
            }
            have = (size_t)(end - line);
            memmove(buffer, line, have);
        }
    } while (got > 0);
    if (got == 0 && have > 0) {
        take_line(decider, buffer, have); /* the last line may end without a line end */
    }
    free(buffer);
    return got == 0;
}

static int decide(const char *path, const struct hlt_policy_reading *how)
{
    struct decider decider = {0};
    int code;
    struct hlt_policy *policy = hlt_acl_load(path, how, &code);
    bool read;

    if (policy == NULL) {
        return hlt_cli_fail(code, "no policy: nothing was decided");
    }
    decider.policy = policy;
    read = take_input(&decider);
    hlt_view_free(decider.view);
    hlt_policy_free(policy);
    free(decider.key);
    free(decider.topic);
    if (!read) {
        return hlt_cli_fail(HLT_EXIT_IO, "cannot read standard input: %s", strerror(errno));
    }
    return decider.bad_lines > 0 ? HLT_EXIT_NO : HLT_EXIT_OK;
}

static int run_decide(int argc, char **argv)
{
    static const struct hlt_cli_option options[] = {
        {"policy", "FILE", "the policy to ask (as plugin_opt_acl_file)"},
        HLT_ACL_COMPAT_OPTION,
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        .synopsis = "haltere acl decide --policy FILE [--acl-compat 2.0|2.1] < QUESTIONS",
        .summary =
            "Read questions from standard input, one JSON object a line: {\"user\", \"clientId\", "
            "\"access\": \"read|write|subscribe|unsubscribe\", \"topic\", \"claims\": {...}}, and "
            "print an answer for each in order: {\"decision\": \"allow|deny\", \"access\", "
            "\"topic\", "
            "\"reason\": \"rule|default|malformed|refused\", \"by\": {\"file\", \"line\", "
            "\"text\", "
            "\"section\"}, \"boundDevice\"}.",
        .options = options,
        .notes =
            "user null or \"\" is anonymous; with claims the device is their sub, and the user too "
            "if "
            "none is given. reason default: no rule spoke; refused (in a plain acl_file): "
            "Mosquitto asks no line for this topic or name. boundDevice: every rule that allows "
            "this "
            "read or write binds %d. A line that is no question gets {\"error\", \"line\"} in its "
            "place.\n\n"
            "Exit codes: 0 all questions were answered (also with deny), 1 a line was no question, "
            "2 usage, 3 the policy or standard input cannot be read, or the policy has errors.",
    };
    struct hlt_policy_reading how = {.compat = HLT_ACL_2_0};
    const char *values[2] = {NULL};
    enum hlt_cli_rc parsed = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);

    if (parsed != HLT_CLI_OK) {
        return parsed == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    if (values[0] == NULL) {
        return hlt_cli_fail(HLT_EXIT_USAGE,
                            "--policy FILE is missing: see 'haltere acl decide --help'");
    }
    return hlt_acl_compat(values[1], &how.compat) ? decide(values[0], &how) : HLT_EXIT_USAGE;
}

int hlt_cmd_acl(int argc, char **argv)
{
    static const struct hlt_cli_verb verbs[] = {
        {"check", run_check, "every mistake in a policy, and its own tests"},
        {"test", hlt_acl_test, "run the tests in policies, for pipelines"},
        {"diff", hlt_acl_diff, "which decisions change from one policy to another"},
        {"shadow", hlt_acl_shadow,
         "where a broker's shadow policy decides otherwise: shadow report"},
        {"explain", hlt_acl_explain, "why a client may or may not do something"},
        {"import-dynsec", hlt_acl_import_dynsec, "a policy from a dynamic-security.json"},
        {"decide", run_decide, "what a policy says to questions on standard input"},
        {NULL, NULL, NULL},
    };

    return hlt_cli_dispatch("acl", verbs, argc, argv);
}
