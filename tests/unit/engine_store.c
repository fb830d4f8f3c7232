/* engine_store.c - what the engine finds again after a restart, clean or not. */
#include "fixture.h"

#include <unistd.h>

static struct fx fx;
static char dir[64];

static struct hlt_store *open_store(bool *clean)
{
    struct hlt_store *store;
    struct hlt_err err = {{0}};
    bool replaced;
    struct hlt_store_config config = {
        .path = dir, .map_bytes = 64u << 20, .flush_interval_ms = 200};

    if (dir[0] == '\0') {
        snprintf(dir, sizeof(dir), "%s/haltere-XXXXXX", "/tmp");
        cr_assert(mkdtemp(dir) != NULL);
    }
    cr_assert(hlt_store_open(&store, &config, clean, &replaced, &err) == HLT_OK, "%s", err.msg);
    return store;
}

static void begin(const char *rules)
{
    bool clean;
    struct hlt_store *store = open_store(&clean);

    fx_begin(&fx, rules, NULL, store, clean);
}

/* A clean stop, then a start on the same store. */
static void restart(const char *rules)
{
    struct hlt_store *store = fx.store;

    hlt_engine_flush(fx.engine, fx.now);
    fx_end(&fx);
    hlt_store_close(store);
    begin(rules);
}

static void end(void)
{
    struct hlt_store *store = fx.store;
    char command[128];

    hlt_engine_flush(fx.engine, fx.now);
    fx_end(&fx);
    hlt_store_close(store);
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    cr_expect(system(command) == 0);
}

Test(restore, a_firing_alert_keeps_its_id_and_is_said_again)
{
    char id[64];

    begin(NULL);
    struct hlt_session *s = fx_login(&fx, "d", 36000, NULL);
    fx_reading(&fx, s, "temperature", 95);
    snprintf(id, sizeof(id), "%s", fx_field(&fx, "alerts/critical", "id"));
    restart(NULL);
    fx_advance(&fx, 500);
    cr_expect(fx_count(&fx, "alerts/critical", NULL) == 0, "no second 'firing'");
    cr_expect_str_eq(fx_field(&fx, "alerts/active/d/temperature_high:temperature", "id"), id);
    s = fx_login(&fx, "d", 36000, NULL);
    fx_reading(&fx, s, "temperature", 96);
    cr_expect(fx_count(&fx, "alerts/critical", NULL) == 0, "still the same incident");
    fx_reading(&fx, s, "temperature", 20);
    fx_advance(&fx, 60000);
    cr_expect(fx_count(&fx, "alerts/critical", "\"resolved\"") == 1);
    cr_expect_str_eq(fx_field(&fx, "alerts/critical", "id"), id);
    end();
}

Test(restore, episodes_go_on_where_they_stopped)
{
    char id[64];

    begin("{\"version\":1,\"rules\":[{\"name\":\"temperature_high\",\"cooldown\":\"0s\","
          "\"clearAfter\":\"0s\"}]}");
    struct hlt_session *s = fx_login(&fx, "d", 36000, NULL);
    fx_reading(&fx, s, "temperature", 95);
    snprintf(id, sizeof(id), "%s", fx_field(&fx, "alerts/critical", "id"));
    fx_reading(&fx, s, "temperature", 20);
    restart(NULL);
    s = fx_login(&fx, "d", 36000, NULL);
    fx_reading(&fx, s, "temperature", 95);
    cr_expect(fx_count(&fx, "alerts/critical", "\"firing\"") == 1);
    cr_expect_str_neq(fx_field(&fx, "alerts/critical", "id"), id);
    end();
}

Test(restore, the_stream_goes_on_after_a_clean_stop_only)
{
    char stream[64];

    begin(NULL);
    struct hlt_session *s = fx_login(&fx, "d", 36000, NULL);
    fx_reading(&fx, s, "temperature", 95);
    snprintf(stream, sizeof(stream), "%s", fx_field(&fx, "alerts/critical", "stream"));
    restart(NULL);
    s = fx_login(&fx, "e", 36000, NULL);
    fx_reading(&fx, s, "temperature", 95);
    cr_expect_str_eq(fx_field(&fx, "alerts/critical", "stream"), stream);
    cr_expect_str_eq(fx_field(&fx, "alerts/critical", "seq"), "2");
    struct hlt_store *store = fx.store;
    hlt_engine_flush(fx.engine, fx.now);
    fx_end(&fx);
    hlt_store_close(store);
    bool clean;
    store = open_store(&clean);
    cr_expect(clean);
    fx_begin(&fx, NULL, NULL, store, false); /* as after a kill */
    s = fx_login(&fx, "f", 36000, NULL);
    fx_reading(&fx, s, "temperature", 95);
    cr_expect_str_neq(fx_field(&fx, "alerts/critical", "stream"), stream);
    cr_expect_str_eq(fx_field(&fx, "alerts/critical", "seq"), "1");
    end();
}

Test(restore, baselines_are_not_learnt_anew)
{
    begin(NULL);
    struct hlt_session *s = fx_login(&fx, "d", 360000, NULL);
    for (int i = 0; i < 300; i++) {
        fx_reading(&fx, s, "humidity", 45 + sin(i * 1.7));
        fx_advance(&fx, 1000);
    }
    restart(NULL);
    s = fx_login(&fx, "d", 360000, NULL);
    fx_reading(&fx, s, "humidity", 95);
    cr_expect(fx_count(&fx, "alerts/warning", "\"anomaly\"") == 1);
    end();
}

Test(restore, who_was_online_is_told_offline_and_the_counts_go_on)
{
    begin(NULL);
    struct hlt_session *s = fx_login(&fx, "d", 36000, "\"device_class\":\"sensor\"");
    fx_reading(&fx, s, "x", 1);
    fx_message(&fx, s, "devices/d/status", "{\"health\":{\"battery\":50}}");
    restart(NULL);
    fx_advance(&fx, 300);
    cr_expect_str_eq(fx_last(&fx, "devices/d/availability"), "offline");
    cr_expect_str_eq(fx_field(&fx, "devices/d/health", "messages"), "2");
    cr_expect_str_eq(fx_field(&fx, "devices/d/health", "battery"), "50");
    cr_expect_str_eq(fx_field(&fx, "devices/d/health", "deviceClass"), "sensor");
    cr_expect_str_eq(fx_field(&fx, "devices/d/health", "disconnectReason"), "broker_shutdown");
    cr_expect(hlt_engine_id_reserved(fx.engine, "d"));
    end();
}

Test(restore, an_identity_is_kept_with_its_claims_and_never_the_token)
{
    begin(NULL);
    fx_login(&fx, "d", 36000, "\"roles\":[\"operator\"]");
    restart(NULL);
    struct hlt_session *s = hlt_engine_session_by_id(fx.engine, "d");
    cr_assert(s != NULL);
    cr_expect(!s->online && s->client == NULL);
    cr_expect(s->claims->role_count == 1 && strcmp(s->claims->roles[0], "operator") == 0);
    end();
}

/* More devices denied between two ticks than one tick writes down, all the time. */
Test(restore, who_logs_in_amid_a_flood_of_denials_is_known_after_a_crash)
{
    struct hlt_session *s[120];
    char id[32];

    begin(NULL);
    for (int i = 0; i < 120; i++) {
        (void)snprintf(id, sizeof(id), "flood-%d", i);
        s[i] = fx_login(&fx, id, 36000, NULL);
    }
    hlt_engine_flush(fx.engine, fx.now);
    fx_login(&fx, "late", 36000, NULL);
    for (int tick = 0; tick < 300; tick++) {
        for (int i = 0; i < 120; i++) {
            hlt_engine_denied(fx.engine, fx.now, s[i], s[i]->client_id, "write", "a/b", "policy");
        }
        fx_advance(&fx, 100);
        fx_forget_said(&fx);
    }
    struct hlt_store *store = fx.store;
    fx_end(&fx); /* without a flush */
    hlt_store_close(store);
    begin(NULL);
    cr_expect(hlt_engine_session_by_id(fx.engine, "late") != NULL);
    end();
}

Test(restore, a_forgotten_device_stays_forgotten)
{
    begin(NULL);
    struct hlt_session *s = fx_login(&fx, "d", 36000, NULL);
    fx_reading(&fx, s, "temperature", 95);
    hlt_engine_logout(fx.engine, fx.now, s->client, "d", -1);
    fx_advance(&fx, 6000);
    cr_expect(hlt_engine_forget(fx.engine, fx.now, "d") == HLT_OK);
    restart(NULL);
    cr_expect(hlt_engine_device_count(fx.engine) == 0);
    cr_expect(hlt_engine_session_by_id(fx.engine, "d") == NULL);
    end();
}

Test(restore, a_start_is_no_silence)
{
    static const char *const rules =
        "{\"version\":1,\"rules\":[{\"name\":\"silence\",\"after\":\"30s\"}]}";

    begin(rules);
    struct hlt_session *s = fx_login(&fx, "d", 36000, NULL);
    fx_reading(&fx, s, "x", 1);
    restart(rules);
    fx_advance(&fx, 29000);
    cr_expect(fx_count(&fx, "alerts/critical", "silence") == 0);
    fx_advance(&fx, 2000);
    cr_expect(fx_count(&fx, "alerts/critical", "silence") == 1);
    end();
}
