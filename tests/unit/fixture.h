/* fixture.h - an engine under a clock of our own, and what it said. For the tests of the engine
 * only. */
#ifndef HLT_FIXTURE_H
#define HLT_FIXTURE_H

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../shared/engine.h"

#define FX_START_MS INT64_C(1800000000000)
#define FX_SAID_MAX 4096

struct fx_said {
    char *topic, *payload, *client_id;
    bool retain, with_will;
    enum hlt_action_kind kind;
};

struct fx {
    struct hlt_options options;
    struct hlt_engine *engine;
    struct hlt_store *store;
    struct hlt_now now;
    struct fx_said said[FX_SAID_MAX];
    size_t said_count;
    uintptr_t pointer;
};

static inline void fx_forget_said(struct fx *fx)
{
    for (size_t i = 0; i < fx->said_count; i++) {
        free(fx->said[i].topic);
        free(fx->said[i].payload);
        free(fx->said[i].client_id);
    }
    fx->said_count = 0;
}

/* Collect the engine's actions. Kicks are carried out, as the plugin does. */
static inline void fx_drain(struct fx *fx)
{
    struct hlt_action action;

    while (hlt_engine_action(fx->engine, &action)) {
        struct hlt_session *session = action.kind == HLT_ACT_KICK
                                          ? hlt_engine_session_by_id(fx->engine, action.client_id)
                                          : NULL;
        cr_assert(fx->said_count < FX_SAID_MAX, "more actions than the fixture keeps");
        fx->said[fx->said_count++] = (struct fx_said){.topic = action.topic,
                                                      .payload = action.payload,
                                                      .client_id = action.client_id,
                                                      .retain = action.retain,
                                                      .with_will = action.with_will,
                                                      .kind = action.kind};
        if (session != NULL && session->online && session->login == action.login) {
            hlt_engine_logout(fx->engine, fx->now, session->client, session->client_id, -1);
        }
    }
}

/* Publications on this topic whose payload contains `part` (NULL: any). */
static inline size_t fx_count(const struct fx *fx, const char *topic, const char *part)
{
    size_t count = 0;

    for (size_t i = 0; i < fx->said_count; i++) {
        const struct fx_said *said = &fx->said[i];
        count += said->kind == HLT_ACT_PUBLISH && strcmp(said->topic, topic) == 0 &&
                 (part == NULL || strstr(said->payload, part) != NULL);
    }
    return count;
}

static inline size_t fx_count_kind(const struct fx *fx, enum hlt_action_kind kind)
{
    size_t count = 0;

    for (size_t i = 0; i < fx->said_count; i++) {
        count += fx->said[i].kind == kind;
    }
    return count;
}

/* The newest payload on a topic, "" if there is none. */
static inline const char *fx_last(const struct fx *fx, const char *topic)
{
    for (size_t i = fx->said_count; i-- > 0;) {
        if (fx->said[i].kind == HLT_ACT_PUBLISH && strcmp(fx->said[i].topic, topic) == 0) {
            return fx->said[i].payload;
        }
    }
    return "";
}

/* A member of the newest document on a topic, as text ("" if absent). The buffer lives till the
 * next call. */
static inline const char *fx_field(const struct fx *fx, const char *topic, const char *member)
{
    static char text[512];
    cJSON *root = cJSON_Parse(fx_last(fx, topic));
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, member);

    text[0] = '\0';
    if (cJSON_IsString(item)) {
        snprintf(text, sizeof(text), "%s", item->valuestring);
    } else if (cJSON_IsNumber(item)) {
        snprintf(text, sizeof(text), "%.10g", item->valuedouble);
    } else if (cJSON_IsBool(item)) {
        snprintf(text, sizeof(text), "%s", cJSON_IsTrue(item) ? "true" : "false");
    }
    cJSON_Delete(root);
    return text;
}

/* Let time pass in steps of at most 100 ms, ticking. */
static inline void fx_advance(struct fx *fx, int64_t ms)
{
    while (ms > 0) {
        int64_t step = ms < 100 ? ms : 100;
        fx->now.wall_ms += step;
        fx->now.mono_ms += step;
        ms -= step;
        hlt_engine_tick(fx->engine, fx->now);
        fx_drain(fx);
    }
}

static inline struct hlt_rules *fx_rules(const char *json)
{
    struct hlt_problems problems = {0};
    struct hlt_rules *rules = NULL;
    char line[600] = "";
    enum hlt_rc rc = json != NULL ? hlt_rules_parse(&rules, json, strlen(json), "rules", &problems)
                                  : hlt_rules_builtin(&rules);

    if (problems.count > 0) {
        hlt_problem_format(&problems, 0, line, sizeof(line));
    }
    cr_assert(rc == HLT_OK, "rules: %s", line);
    hlt_problems_free(&problems);
    return rules;
}

/* An engine at FX_START_MS. `options`: pairs of name and value, NULL-ended; may be NULL. */
static inline void fx_begin(struct fx *fx, const char *rules, const char *const *options,
                            struct hlt_store *store, bool clean)
{
    const char *names[32] = {"db_path", "keys_file", "acl_file"};
    const char *values[32] = {"unused", "unused", "unused"};
    struct hlt_problems problems = {0};
    size_t count = 3;
    struct hlt_err err = {{0}};

    memset(fx, 0, sizeof(*fx));
    for (; options != NULL && options[0] != NULL; options += 2) {
        names[count] = options[0];
        values[count++] = options[1];
    }
    cr_assert(hlt_options_parse(&fx->options, names, values, count, NULL, NULL, &problems) ==
                  HLT_OK,
              "options");
    hlt_problems_free(&problems);
    fx->now = (struct hlt_now){.wall_ms = FX_START_MS, .mono_ms = 5000000};
    fx->store = store;
    struct hlt_engine_config config = {
        .options = &fx->options, .store = store, .store_clean = clean, .version = "test"};
    enum hlt_rc rc = hlt_engine_new(&fx->engine, &config, fx_rules(rules), fx->now, &err);
    cr_assert(rc == HLT_OK, "engine: %s", err.msg);
}

static inline void fx_end(struct fx *fx)
{
    fx_drain(fx);
    fx_forget_said(fx);
    hlt_engine_free(fx->engine);
    hlt_options_free(&fx->options);
}

static inline struct hlt_claims *fx_claims(const char *sub, int64_t exp_s, const char *more)
{
    char json[1024];

    snprintf(json, sizeof(json),
             "{\"sub\":\"%s\",\"iss\":\"i\",\"aud\":\"a\",\"exp\":%lld,\"iat\":%lld%s%s}", sub,
             (long long)exp_s, (long long)(FX_START_MS / 1000), more != NULL ? "," : "",
             more != NULL ? more : "");
    struct hlt_claims *claims = hlt_claims_parse(json, strlen(json));
    cr_assert(claims != NULL, "claims of %s", sub);
    return claims;
}

/* Log a device in; its token lasts `life_s` from now. */
static inline struct hlt_session *fx_login(struct fx *fx, const char *id, int64_t life_s,
                                           const char *claims)
{
    struct hlt_session *session = NULL;
    uint8_t secret[32] = {1};

    fx->pointer += 64;
    struct hlt_login login = {.client = (const void *)(0x10000 + fx->pointer),
                              .client_id = id,
                              .address = "192.0.2.7",
                              .secret = secret,
                              .protocol = 4,
                              .keepalive_s = 60};
    struct hlt_claims *made = fx_claims(id, fx->now.wall_ms / 1000 + life_s, claims);
    enum hlt_reason reason = hlt_engine_login(fx->engine, fx->now, &login, made, &session);
    cr_assert(reason == HLT_REASON_OK, "login of %s: %s", id, hlt_reason_word(reason));
    fx_drain(fx);
    return session;
}

static inline enum hlt_answer fx_message(struct fx *fx, struct hlt_session *session,
                                         const char *topic, const char *payload)
{
    struct hlt_message message = {.topic = topic,
                                  .payload = payload,
                                  .payload_len = strlen(payload),
                                  .session = session,
                                  .bound_device = session != NULL};
    enum hlt_answer answer = hlt_engine_message(fx->engine, fx->now, &message);

    fx_drain(fx);
    return answer;
}

/* One reading of one metric on the session's own topic. */
static inline enum hlt_answer fx_reading(struct fx *fx, struct hlt_session *session,
                                         const char *metric, double value)
{
    char topic[300], payload[128];

    snprintf(topic, sizeof(topic), "devices/%s/telemetry", session->claims->sub);
    snprintf(payload, sizeof(payload), "{\"sensors\":{\"%s\":%.17g}}", metric, value);
    return fx_message(fx, session, topic, payload);
}

#endif
