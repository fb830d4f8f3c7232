/* replay.c - `haltere replay`: recorded events through the very engine the broker runs, offline.
 *
 * Input is one JSON object a line (FORMATS.md, "Replay"); lines of `mosquitto_sub -F %j` are
 * messages as they stand. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/engine.h"
#include "../shared/jsonpull.h"
#include "../shared/text.h"
#include "command.h"
#include "version.h"

#define STEP_MS 1000 /* timers ring at least this often between two events */
#define LINE_MAX_BYTES (1u << 20)

struct replay {
    struct hlt_engine *engine;
    struct hlt_options options;
    const char *file;
    unsigned long line;
    int64_t now_ms; /* of the newest event; 0 before the first */
    bool all;
    unsigned long events, messages, alerts;
};

static struct hlt_now at(int64_t ms)
{
    return (struct hlt_now){.wall_ms = ms, .mono_ms = ms};
}

static int bad_line(const struct replay *r, const char *what)
{
    return hlt_cli_fail(HLT_EXIT_IO, "%s:%lu: %s", r->file, r->line, what);
}

/* --- out --- */

static void print_publish(struct replay *r, const struct hlt_action *action)
{
    bool alert =
        strncmp(action->topic, r->options.alert_prefix, strlen(r->options.alert_prefix)) == 0;
    bool active = strstr(action->topic, "/active/") != NULL;

    if (!r->all && (!alert || active)) {
        return;
    }
    r->alerts += alert && !active;
    cJSON *root = cJSON_CreateObject();
    cJSON *payload = cJSON_Parse(action->payload);
    cJSON_AddNumberToObject(root, "ts", (double)r->now_ms);
    cJSON_AddStringToObject(root, "topic", action->topic);
    if (payload != NULL) {
        cJSON_AddItemToObject(root, "payload", payload);
    } else {
        cJSON_AddStringToObject(root, "payload", action->payload);
    }
    cJSON_AddBoolToObject(root, "retain", action->retain);
    char *text = cJSON_PrintUnformatted(root);
    puts(text != NULL ? text : "{}");
    cJSON_free(text);
    cJSON_Delete(root);
}

static void drain(struct replay *r)
{
    struct hlt_action action;

    while (hlt_engine_action(r->engine, &action)) {
        if (action.kind == HLT_ACT_PUBLISH) {
            print_publish(r, &action);
        } else if (action.kind == HLT_ACT_KICK) {
            struct hlt_session *session = hlt_engine_session_by_id(r->engine, action.client_id);
            if (session != NULL && session->login == action.login) {
                hlt_engine_logout(r->engine, at(r->now_ms), session->client, action.client_id, -1);
            }
        }
        hlt_action_free(&action);
    }
}

/* Let the time pass that lies between two events, so that silence and clearing happen when they
 * would have. */
static void advance(struct replay *r, int64_t to_ms)
{
    while (r->now_ms < to_ms) {
        int64_t left = to_ms - r->now_ms;
        r->now_ms += left < STEP_MS ? left : STEP_MS;
        hlt_engine_tick(r->engine, at(r->now_ms));
        drain(r);
    }
}

/* --- in --- */

static const char *text_of(const cJSON *root, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, name);

    return cJSON_IsString(item) ? item->valuestring : NULL;
}

/* "ts" in unix ms, "time" or mosquitto_sub's "tst" in RFC 3339 (there with an offset without
 * colon). */
static bool time_of(const cJSON *root, int64_t *ms)
{
    const cJSON *ts = cJSON_GetObjectItemCaseSensitive(root, "ts");
    const char *date = text_of(root, "time");
    char fixed[64];

    if (cJSON_IsNumber(ts) && ts->valuedouble >= 0 && ts->valuedouble < 1e15) {
        *ms = (int64_t)ts->valuedouble;
        return true;
    }
    if (date == NULL) {
        date = text_of(root, "tst");
    }
    size_t len = date != NULL ? strlen(date) : 0;
    if (len == 0 || len > sizeof(fixed) - 2) {
        return false;
    }
    memcpy(fixed, date, len + 1);
    char *zone = strpbrk(fixed + (len > 19 ? 19 : len), "Z+-");
    if (zone != NULL && *zone == 'Z' &&
        zone[1] != '\0') { /* "…Z+0100" as mosquitto_sub writes it */
        memmove(zone, zone + 1, strlen(zone));
    }
    if (zone != NULL && *zone != 'Z' && strlen(zone) == 5) {
        memmove(zone + 4, zone + 3, 3);
        zone[3] = ':';
    }
    return hlt_date_parse(fixed, strlen(fixed), ms);
}

/* Each client id stands for its own connection: any address that is its alone will do as the
 * broker's pointer. */
static const void *pointer_of(struct replay *r, const char *client_id)
{
    struct hlt_session *session = hlt_engine_session_by_id(r->engine, client_id);
    static uintptr_t next = 16;

    if (session != NULL && session->client != NULL) {
        return session->client;
    }
    next += 16;
    return (const void *)next; /* NOLINT(performance-no-int-to-ptr): never followed */
}

static int on_login(struct replay *r, const cJSON *root, const char *client_id)
{
    const cJSON *given = cJSON_GetObjectItemCaseSensitive(root, "claims");
    struct hlt_session *session;
    struct hlt_claims *claims;
    cJSON *made = NULL;

    if (!cJSON_IsObject(given)) {
        made = cJSON_CreateObject();
        cJSON_AddStringToObject(made, "sub", client_id);
        given = made;
    }
    char *text = cJSON_PrintUnformatted(given);
    claims = text != NULL ? hlt_claims_parse(text, strlen(text)) : NULL;
    cJSON_free(text);
    cJSON_Delete(made);
    if (claims == NULL) {
        return bad_line(
            r, "\"claims\" is not the payload of a token for a device (sub, exp, roles ...)");
    }
    struct hlt_login login = {.client = pointer_of(r, client_id),
                              .client_id = client_id,
                              .address = text_of(root, "address"),
                              .protocol = 4};
    enum hlt_reason reason = hlt_engine_login(r->engine, at(r->now_ms), &login, claims, &session);
    if (reason != HLT_REASON_OK) {
        struct hlt_refusal refusal = {
            .reason = reason, .client_id = client_id, .address = login.address};
        hlt_claims_free(claims);
        hlt_engine_refused(r->engine, at(r->now_ms), &refusal);
    }
    return HLT_EXIT_OK;
}

static int on_refused(struct replay *r, const cJSON *root, const char *client_id)
{
    const char *word = text_of(root, "reason");
    struct hlt_refusal refusal = {
        .reason = HLT_REASON_INTERNAL, .client_id = client_id, .address = text_of(root, "address")};

    for (int i = 1; word != NULL && i < HLT_REASON_COUNT; i++) {
        if (strcmp(word, hlt_reason_word((enum hlt_reason)i)) == 0) {
            refusal.reason = (enum hlt_reason)i;
        }
    }
    hlt_engine_refused(r->engine, at(r->now_ms), &refusal);
    return HLT_EXIT_OK;
}

static int on_message(struct replay *r, const cJSON *root, const char *client_id)
{
    const char *topic = text_of(root, "topic");
    const cJSON *payload = cJSON_GetObjectItemCaseSensitive(root, "payload");
    char *made = NULL;

    if (topic == NULL || payload == NULL) {
        return bad_line(r, "a message needs \"topic\" and \"payload\"");
    }
    const char *text =
        cJSON_IsString(payload) ? payload->valuestring : (made = cJSON_PrintUnformatted(payload));
    struct hlt_message message = {
        .topic = topic,
        .payload = text,
        .payload_len = text != NULL ? strlen(text) : 0,
        .retain = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "retain")),
        .session = client_id != NULL ? hlt_engine_session_by_id(r->engine, client_id) : NULL,
    };
    hlt_engine_message(r->engine, at(r->now_ms), &message);
    cJSON_free(made);
    r->messages++;
    return HLT_EXIT_OK;
}

static int dispatch(struct replay *r, const cJSON *root)
{
    const char *event = text_of(root, "event"), *client_id = text_of(root, "clientId");

    if (event == NULL || strcmp(event, "message") == 0) {
        return on_message(r, root, client_id);
    }
    if (strcmp(event, "tick") == 0) {
        return HLT_EXIT_OK;
    }
    if (client_id == NULL) {
        return bad_line(r, "this event needs \"clientId\"");
    }
    if (strcmp(event, "login") == 0) {
        return on_login(r, root, client_id);
    }
    if (strcmp(event, "refused") == 0) {
        return on_refused(r, root, client_id);
    }
    if (strcmp(event, "logout") == 0) {
        hlt_engine_logout(r->engine, at(r->now_ms), pointer_of(r, client_id), client_id, -1);
        return HLT_EXIT_OK;
    }
    return bad_line(r, "\"event\" is none of message, login, logout, refused, tick");
}

static int begin(struct replay *r, struct hlt_rules *rules, int64_t first_ms)
{
    struct hlt_engine_config config = {.options = &r->options, .version = HLT_VERSION};
    struct hlt_err err;

    r->now_ms = first_ms;
    if (hlt_engine_new(&r->engine, &config, rules, at(first_ms), &err) != HLT_OK) {
        hlt_rules_free(rules);
        return hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
    }
    return HLT_EXIT_OK;
}

static int on_line(struct replay *r, struct hlt_rules **rules, const char *line, size_t len)
{
    size_t offset = 0;
    const char *fault = hlt_json_check(line, len, true, &offset);
    int64_t ms = 0;
    int code = HLT_EXIT_OK;

    if (fault != NULL) {
        return hlt_cli_fail(HLT_EXIT_IO, "%s:%lu:%zu: %s", r->file, r->line, offset + 1, fault);
    }
    cJSON *root = cJSON_ParseWithLength(line, len);
    if (root == NULL || !time_of(root, &ms)) {
        cJSON_Delete(root);
        return bad_line(r, "no time: give \"ts\" (unix ms) or \"time\" (RFC 3339)");
    }
    if (r->engine == NULL) {
        code = begin(r, *rules, ms);
        *rules = NULL;
    } else if (ms < r->now_ms) {
        ms = r->now_ms; /* clocks of recorders jitter: order is the file's */
    }
    if (code == HLT_EXIT_OK) {
        advance(r, ms);
        code = dispatch(r, root);
        drain(r);
        r->events++;
    }
    cJSON_Delete(root);
    return code;
}

static int run(struct replay *r, FILE *in, struct hlt_rules **rules)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t len;
    int code = HLT_EXIT_OK;

    while (code == HLT_EXIT_OK && (len = getline(&line, &room, in)) >= 0) {
        r->line++;
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) {
            len--;
        }
        if (len > (ssize_t)LINE_MAX_BYTES) {
            code = bad_line(r, "line over 1 MiB");
        } else if (len > 0) {
            code = on_line(r, rules, line, (size_t)len);
        }
    }
    if (code == HLT_EXIT_OK && ferror(in)) {
        code = hlt_cli_fail(HLT_EXIT_IO, "%s: %s", r->file, strerror(errno));
    }
    free(line);
    return code;
}

static int load(struct replay *r, const char *rules_file, struct hlt_rules **rules)
{
    static const char *const names[] = {"db_path", "keys_file", "acl_file", "health_interval"};
    static const char *const values[] = {"unused", "unused", "unused", "60s"};
    struct hlt_problems problems = {0};
    enum hlt_rc rc = hlt_options_parse(&r->options, names, values, 4, NULL, NULL, &problems);

    if (rc == HLT_OK) {
        rc = rules_file != NULL ? hlt_rules_load(rules, rules_file, &problems)
                                : hlt_rules_builtin(rules);
    }
    if (rc != HLT_OK) {
        hlt_cli_problems(&problems);
    }
    hlt_problems_free(&problems);
    return rc == HLT_OK ? HLT_EXIT_OK : HLT_EXIT_IO;
}

static int replay_file(struct replay *r, const char *path, const char *rules_file, int64_t until_ms)
{
    struct hlt_rules *rules = NULL;
    FILE *in = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    int code = in != NULL ? load(r, rules_file, &rules)
                          : hlt_cli_fail(HLT_EXIT_IO, "%s: %s", path, strerror(errno));

    r->file = strcmp(path, "-") == 0 ? "stdin" : path;
    if (code == HLT_EXIT_OK) {
        code = run(r, in, &rules);
    }
    if (code == HLT_EXIT_OK && r->engine != NULL && until_ms > 0) {
        advance(r, r->now_ms + until_ms);
    }
    if (in != NULL && in != stdin) {
        (void)fclose(in);
    }
    hlt_engine_free(r->engine);
    hlt_rules_free(rules);
    hlt_options_free(&r->options);
    if (code == HLT_EXIT_OK) {
        fprintf(stderr, "%lu events, %lu messages, %lu alert messages\n", r->events, r->messages,
                r->alerts);
    }
    return code;
}

int hlt_cmd_replay(int argc, char **argv)
{
    static const struct hlt_cli_option options[] = {
        {"rules", "FILE", "alert rules (rules_file); default: the built-in ones"},
        {"after", "DURATION",
         "let this much time pass after the last event, so that silence shows"},
        {"all", NULL, "print every publication (health, events, heartbeat), not only alerts"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        .synopsis = "haltere replay [--rules FILE] [--after DURATION] [--all] FILE",
        .summary =
            "Run recorded events through the engine offline and print, one JSON line each, the "
            "alerts it would have published. FILE - reads standard input.",
        .options = options,
        .positional_min = 1,
        .positional_max = 1,
        .notes = "Record:  mosquitto_sub -t 'devices/+/telemetry' -F %j > traffic.jsonl\n"
                 "Replay:  haltere replay --rules rules.json traffic.jsonl\n"
                 "Exit codes: 0 done, 2 usage, 3 unreadable or malformed input (file:line).",
    };
    const char *values[3], *positional[1];
    struct replay r = {0};
    int count;
    int64_t after_ms = 0;

    switch (hlt_cli_parse(&spec, argc, argv, values, positional, &count)) {
    case HLT_CLI_OK: break;
    case HLT_CLI_HELP: return HLT_EXIT_OK;
    case HLT_CLI_USAGE: return HLT_EXIT_USAGE;
    }
    if (values[1] != NULL && !hlt_duration_parse(values[1], &after_ms)) {
        return hlt_cli_fail(HLT_EXIT_USAGE, "--after %s: not a duration such as 10min", values[1]);
    }
    r.all = values[2] != NULL;
    return replay_file(&r, positional[0], values[0], after_ms);
}
