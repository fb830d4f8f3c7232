/* engine_session.c - how sessions begin, end and are remembered. */
#include "../../shared/engine_impl.h"
#include "../../shared/jsonpull.h"
#include "fixture.h"

static struct fx fx;

static const char *const NO_HEALTH[] = {"health_publish", "changes", NULL};

Test(session, a_login_is_told_on_event_and_availability)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    fx_login(&fx, "pump", 3600, NULL);
    cr_expect(fx_count(&fx, "devices/pump/event", "\"connected\"") == 1);
    fx_advance(&fx, 20);
    cr_expect_str_eq(fx_last(&fx, "devices/pump/availability"), "online");
    cr_expect(hlt_engine_id_reserved(fx.engine, "pump"));
    cr_expect(!hlt_engine_id_reserved(fx.engine, "stranger"));
    fx_end(&fx);
}

/* In prefix mode the rest of a client id is the client's to choose. */
Test(session, an_event_tells_any_client_id_as_it_is)
{
    static const char *const options[] = {"client_id_match", "prefix", NULL};
    static const char topic[] = "devices/pump/event";
    struct hlt_session *session;
    char id[512] = "pump:", *at = id + strlen(id);

    fx_begin(&fx, NULL, options, NULL, true);
    for (int byte = 1; byte < 0x80; byte++) {
        *at++ = (char)byte;
    }
    for (unsigned i = 0; i < 300; i++) { /* each needs six bytes in JSON */
        at[i] = '\x01';
    }
    strcpy(at + 300, "\xc3\xa9\xf0\x9f\xa6\x9f");
    struct hlt_login login = {.client = &login, .client_id = id, .address = "192.0.2.7"};
    struct hlt_claims *claims = fx_claims("pump", FX_START_MS / 1000 + 3600, NULL);
    cr_assert(hlt_engine_login(fx.engine, fx.now, &login, claims, &session) == HLT_REASON_OK);
    fx_drain(&fx);
    const char *text = fx_last(&fx, topic);
    cr_expect(hlt_json_check(text, strlen(text), true, NULL) == NULL, "%s", text);
    cr_expect_str_eq(fx_field(&fx, topic, "clientId"), id);
    cr_expect_str_eq(fx_field(&fx, topic, "deviceId"), "pump");
    cr_expect_str_eq(fx_field(&fx, topic, "type"), "connected");
    cr_expect_str_eq(fx_field(&fx, topic, "address"), "192.0.2.7");
    cr_expect_str_eq(fx_field(&fx, topic, "time"), "2027-01-15T08:00:00.000Z");
    cr_expect_str_eq(fx_field(&fx, topic, "tokenExp"), "2027-01-15T09:00:00.000Z");
    fx_end(&fx);
}

Test(session, the_client_id_must_be_the_subject)
{
    struct hlt_session *session;
    struct hlt_login login = {.client = &fx, .client_id = "other"};

    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_claims *claims = fx_claims("pump", FX_START_MS / 1000 + 60, NULL);
    cr_expect(hlt_engine_login(fx.engine, fx.now, &login, claims, &session) ==
              HLT_REASON_CLIENT_ID);
    login.client_id = "pump:1"; /* only with client_id_match prefix */
    cr_expect(hlt_engine_login(fx.engine, fx.now, &login, claims, &session) ==
              HLT_REASON_CLIENT_ID);
    hlt_claims_free(claims);
    fx_end(&fx);
}

Test(session, prefix_mode_allows_a_bounded_number_of_sessions_per_subject)
{
    static const char *const options[] = {"client_id_match", "prefix", NULL};
    struct hlt_session *session;
    char id[32];

    fx_begin(&fx, NULL, options, NULL, true);
    for (uintptr_t i = 0; i < 17; i++) {
        snprintf(id, sizeof(id), "pump:%u", (unsigned)i);
        struct hlt_login login = {.client = (void *)(4096 + i * 64), .client_id = id};
        struct hlt_claims *claims = fx_claims("pump", FX_START_MS / 1000 + 60, NULL);
        enum hlt_reason reason = hlt_engine_login(fx.engine, fx.now, &login, claims, &session);
        cr_expect(reason == (i < 16 ? HLT_REASON_OK : HLT_REASON_SESSIONS_FULL), "session %u",
                  (unsigned)i);
        if (reason != HLT_REASON_OK) {
            hlt_claims_free(claims);
        }
    }
    struct hlt_login odd = {.client = &odd, .client_id = "a:b:1"};
    struct hlt_claims *claims = fx_claims("a:b", FX_START_MS / 1000 + 60, NULL);
    cr_expect(hlt_engine_login(fx.engine, fx.now, &odd, claims, &session) == HLT_REASON_SUBJECT,
              "a subject with ':' would blur whose session it is");
    odd.client_id = "a:b";
    cr_expect(hlt_engine_login(fx.engine, fx.now, &odd, claims, &session) == HLT_REASON_SUBJECT,
              "not even under its own name: it could be a session of 'a'");
    hlt_claims_free(claims);
    fx_end(&fx);
}

Test(session, the_pointer_names_it_only_while_online_and_with_its_id)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "pump", 3600, NULL);
    const void *client = s->client;
    cr_expect(hlt_engine_session(fx.engine, client, "pump") == s);
    cr_expect(hlt_engine_session(fx.engine, client, "other") == NULL,
              "an address is reused at once");
    cr_expect(hlt_engine_session(fx.engine, client, NULL) == NULL);
    hlt_engine_logout(fx.engine, fx.now, client, "pump", -1);
    cr_expect(hlt_engine_session(fx.engine, client, "pump") == NULL);
    cr_expect(hlt_engine_session_by_id(fx.engine, "pump") == s,
              "kept for wills and queued messages");
    fx_end(&fx);
}

Test(session, a_reused_pointer_belongs_to_the_new_client)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *old = fx_login(&fx, "old", 3600, NULL), *new_session;
    const void *client = old->client;
    hlt_engine_logout(fx.engine, fx.now, client, "old", -1);
    struct hlt_login login = {.client = client, .client_id = "new"};
    cr_assert(hlt_engine_login(fx.engine, fx.now, &login,
                               fx_claims("new", FX_START_MS / 1000 + 60, NULL),
                               &new_session) == HLT_REASON_OK);
    cr_expect(hlt_engine_session(fx.engine, client, "new") == new_session);
    cr_expect(hlt_engine_session(fx.engine, client, "old") == NULL);
    cr_expect(old->client == NULL);
    fx_end(&fx);
}

Test(session, a_take_over_is_told_and_the_old_connections_end_is_ignored)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "pump", 3600, NULL);
    const void *first = s->client;
    struct hlt_session *again = fx_login(&fx, "pump", 3600, NULL);
    cr_expect(again == s && s->login == 2);
    cr_expect(fx_count(&fx, "devices/pump/event", "duplicate_client_id") == 1);
    hlt_engine_logout(fx.engine, fx.now, first, "pump", -1);
    fx_advance(&fx, 500);
    cr_expect(s->online);
    cr_expect_str_eq(fx_last(&fx, "devices/pump/availability"), "online");
    fx_end(&fx);
}

Test(session, availability_says_what_is_left_at_the_tick)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "pump", 3600, NULL);
    fx_advance(&fx, 100);
    fx_forget_said(&fx);
    fx_login(&fx, "pump", 3600, NULL); /* taken over: it was never away */
    fx_advance(&fx, 100);
    cr_expect(fx_count(&fx, "devices/pump/event", "duplicate_client_id") == 1);
    cr_expect(fx_count(&fx, "devices/pump/availability", NULL) == 0);
    hlt_engine_logout(fx.engine, fx.now, s->client, "pump", -1);
    fx_advance(&fx, 500);
    cr_expect(fx_count(&fx, "devices/pump/availability", NULL) == 1);
    for (int i = 0; i < HLT_DUE_MAX + 10; i++) { /* more than may wait: none is lost */
        char id[16];
        snprintf(id, sizeof(id), "d%d", i);
        fx_login(&fx, id, 3600, NULL);
        fx_forget_said(&fx);
    }
    for (int i = 0; i < 20; i++) {
        fx_advance(&fx, 20);
        fx_forget_said(&fx);
    }
    for (int i = 0; i < HLT_DUE_MAX + 10; i++) {
        char topic[48];
        snprintf(topic, sizeof(topic), "devices/d%d/availability", i);
        cr_assert(hlt_engine_retained_is_ours(fx.engine, topic, "online", 6), "%s", topic);
    }
    fx_end(&fx);
}

Test(session, a_will_right_after_tells_a_lost_connection_from_an_unknown_one)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *a = fx_login(&fx, "a", 3600, NULL), *b = fx_login(&fx, "b", 3600, NULL);
    hlt_engine_logout(fx.engine, fx.now, a->client, "a", -1);
    hlt_engine_will_seen(fx.engine, fx.now, a);
    hlt_engine_logout(fx.engine, fx.now, b->client, "b", -1);
    fx_advance(&fx, 300);
    cr_expect_str_eq(fx_field(&fx, "devices/a/event", "reason"), "connection_lost");
    cr_expect_str_eq(fx_field(&fx, "devices/b/event", "reason"), "unknown");
    cr_expect_str_eq(fx_last(&fx, "devices/a/availability"), "offline");
    fx_end(&fx);
}

Test(session, expiry_is_announced_told_and_then_kicked_a_tick_later)
{
    fx_begin(&fx, NULL, NO_HEALTH, NULL, true);
    struct hlt_session *s = fx_login(&fx, "pump", 100, NULL);
    fx_advance(&fx, 39000);
    cr_expect(fx_count(&fx, "devices/pump/event", "token_expiring") == 0);
    fx_advance(&fx, 2000);
    cr_expect(fx_count(&fx, "devices/pump/event", "token_expiring") == 2,
              "on the topic and to the client");
    fx_advance(&fx, 58500);
    cr_expect(!hlt_session_expired(s, fx.now.wall_ms) && s->online);
    for (int i = 0; i < 20 && fx_count_kind(&fx, HLT_ACT_KICK) == 0; i++) {
        size_t told = fx_count(&fx, "devices/pump/event", "token_expired");
        fx_advance(&fx, 100);
        if (fx_count_kind(&fx, HLT_ACT_KICK) == 1) {
            cr_expect(told == 2, "the reason went out in an earlier tick than the kick");
        }
    }
    cr_expect(fx_count_kind(&fx, HLT_ACT_KICK) == 1 && !s->online);
    cr_expect(fx.now.wall_ms - s->ends_wall_ms <= 1000, "within a second");
    fx_advance(&fx, 500);
    cr_expect_str_eq(fx_field(&fx, "devices/pump/event", "reason"), "token_expired");
    cr_expect(hlt_session_expired(s, fx.now.wall_ms));
    fx_end(&fx);
}

/* Ticks come when the broker's loop turns, up to 100 ms apart: more than a slot of the wheel. What
 * is published in one tick is on its way only after the next one at the latest. */
Test(session, the_reason_is_on_its_way_before_the_kick_however_the_ticks_fall)
{
    for (int64_t at = 0; at < 100; at += 7) {
        size_t ticks = 0;

        fx_begin(&fx, NULL, NO_HEALTH, NULL, true);
        struct hlt_session *s = fx_login(&fx, "pump", 100, NULL);
        fx_advance(&fx, 99500 + at);
        while (fx_count_kind(&fx, HLT_ACT_KICK) == 0 && ticks < 20) {
            fx_advance(&fx, 100);
            ticks += fx_count(&fx, "devices/pump/event", "token_expired") > 0;
        }
        cr_expect(ticks == 3, "expiry %d ms behind a tick: kicked %zu ticks later", (int)at,
                  ticks - 1);
        cr_expect(fx.now.wall_ms - s->ends_wall_ms <= 1000, "within a second");
        fx_end(&fx);
    }
}

Test(session, a_kick_is_for_the_login_it_was_meant_for)
{
    struct hlt_action action;
    uint64_t login = 0;

    fx_begin(&fx, NULL, NO_HEALTH, NULL, true);
    struct hlt_session *s = fx_login(&fx, "pump", 10, NULL);
    while (login == 0) {
        fx.now.wall_ms += 100;
        fx.now.mono_ms += 100;
        hlt_engine_tick(fx.engine, fx.now);
        while (hlt_engine_action(fx.engine, &action)) {
            login = action.kind == HLT_ACT_KICK ? action.login : login;
            hlt_action_free(&action);
        }
    }
    fx_login(&fx, "pump", 3600, NULL); /* back with a fresh token while the kick is queued */
    cr_expect(s->login != login && s->online);
    fx_end(&fx);
}

Test(session, a_token_let_in_by_leeway_lives_until_the_leeway_ends)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "pump", -10, NULL);
    cr_expect(!hlt_session_expired(s, fx.now.wall_ms));
    cr_expect(hlt_session_expired(s, fx.now.wall_ms + 20000));
    fx_end(&fx);
}

Test(session, renewal_swaps_the_claims_of_the_same_subject_only)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "pump", 50, NULL);
    int64_t exp = FX_START_MS / 1000 + 5000;
    struct hlt_claims *other = fx_claims("oven", exp, NULL);
    cr_expect(hlt_engine_renew(fx.engine, fx.now, s, other, NULL) == HLT_REASON_CLIENT_ID);
    hlt_claims_free(other);
    struct hlt_claims *older = fx_claims("pump", exp, NULL);
    older->iat_s -= 10;
    cr_expect(hlt_engine_renew(fx.engine, fx.now, s, older, NULL) != HLT_REASON_OK);
    hlt_claims_free(older);
    cr_expect(hlt_engine_renew(fx.engine, fx.now, s, fx_claims("pump", exp, NULL), NULL) ==
              HLT_REASON_OK);
    fx_advance(&fx, 60000);
    cr_expect(s->online, "lives on past the first token's exp");
    cr_expect(fx_count_kind(&fx, HLT_ACT_KICK) == 0);
    fx_end(&fx);
}

Test(session, the_oldest_offline_session_makes_room_and_online_ones_never_do)
{
    static const char *const options[] = {"max_sessions", "10", NULL};
    struct hlt_session *session;
    char id[16];

    fx_begin(&fx, NULL, options, NULL, true);
    struct hlt_session *first = fx_login(&fx, "d0", 3600, NULL);
    hlt_engine_logout(fx.engine, fx.now, first->client, "d0", -1);
    for (int i = 1; i < 10; i++) {
        snprintf(id, sizeof(id), "d%d", i);
        fx_login(&fx, id, 3600, NULL);
    }
    fx_login(&fx, "d10", 3600, NULL);
    cr_expect(hlt_engine_session_by_id(fx.engine, "d0") == NULL);
    cr_expect(hlt_engine_counters(fx.engine)->sessions_evicted == 1);
    struct hlt_login login = {.client = &login, .client_id = "d11"};
    struct hlt_claims *claims = fx_claims("d11", FX_START_MS / 1000 + 60, NULL);
    cr_expect(hlt_engine_login(fx.engine, fx.now, &login, claims, &session) ==
              HLT_REASON_SESSIONS_FULL);
    hlt_claims_free(claims);
    fx_end(&fx);
}

Test(session, a_kept_identity_goes_when_its_time_is_over)
{
    static const char *const options[] = {"identity_keep", "2h", NULL};

    fx_begin(&fx, NULL, options, NULL, true);
    struct hlt_session *s = fx_login(&fx, "pump", 60, NULL);
    hlt_engine_logout(fx.engine, fx.now, s->client, "pump", -1);
    fx_advance(&fx, 7000000);
    cr_expect(hlt_engine_session_by_id(fx.engine, "pump") != NULL);
    fx_advance(&fx, 4000000);
    cr_expect(hlt_engine_session_by_id(fx.engine, "pump") == NULL);
    fx_end(&fx);
}

Test(session, a_full_device_table_refuses_new_devices_and_says_so)
{
    static const char *const options[] = {"max_devices", "3", NULL};
    struct hlt_session *session;

    fx_begin(&fx, NULL, options, NULL, true);
    fx_login(&fx, "a", 60, NULL);
    fx_login(&fx, "b", 60, NULL);
    fx_login(&fx, "c", 60, NULL);
    struct hlt_login login = {.client = &login, .client_id = "d"};
    struct hlt_claims *claims = fx_claims("d", FX_START_MS / 1000 + 60, NULL);
    cr_expect(hlt_engine_login(fx.engine, fx.now, &login, claims, &session) != HLT_REASON_OK);
    hlt_claims_free(claims);
    fx_drain(&fx);
    cr_expect(fx_count(&fx, "alerts/warning", "devices_full") == 1);
    fx_login(&fx, "a", 60, NULL);
    fx_end(&fx);
}

Test(own_topics, belong_to_haltere_alone)
{
    static const struct {
        const char *topic;
        bool ours;
    } rows[] = {
        {"alerts", true},
        {"alerts/critical", true},
        {"alerts/active/x/y", true},
        {"alertsx", false},
        {"devices/d/health", true},
        {"devices/d/availability", true},
        {"devices/d/event", true},
        {"devices/d/telemetry", false},
        {"devices/d/health/x", false},
        {"devices/d/sub/health", false},
        {"devices//health", true},
        {"devices/health", false},
        {"system/heartbeat", true},
        {"system/other", false},
        {"$CONTROL/haltere/v1", false},
        {"$CONTROL/haltere/v1/response", true},
        {"$CONTROL/haltere/v2", true},
        {"$CONTROL/dynamic-security/v1", false},
        {"", false},
    };

    fx_begin(&fx, NULL, NULL, NULL, true);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_expect(hlt_engine_owns(fx.engine, rows[i].topic) == rows[i].ours, "%s", rows[i].topic);
    }
    struct hlt_message forged = {.topic = "alerts/critical", .payload = "{}", .payload_len = 2};
    cr_expect(hlt_engine_message(fx.engine, fx.now, &forged) == HLT_DROP, "from a bridge, say");
    fx_end(&fx);
}

Test(own_topics, only_what_we_said_last_counts_as_retained)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d 1", 3600, NULL);
    fx_reading(&fx, s, "temperature", 95);
    fx_advance(&fx, 20);
    static const char *const topics[] = {"devices/d%201/health", "devices/d%201/availability",
                                         "alerts/active/d%201/temperature_high:temperature"};
    for (size_t i = 0; i < 3; i++) {
        const char *said = fx_last(&fx, topics[i]);
        cr_assert(said[0] != '\0', "%s", topics[i]);
        cr_expect(hlt_engine_retained_is_ours(fx.engine, topics[i], said, strlen(said)), "%s",
                  topics[i]);
        cr_expect(!hlt_engine_retained_is_ours(fx.engine, topics[i], "forged", 6), "%s", topics[i]);
        cr_expect(!hlt_engine_retained_is_ours(fx.engine, topics[i], said, strlen(said) - 1));
    }
    cr_expect(!hlt_engine_retained_is_ours(fx.engine, "alerts/critical",
                                           fx_last(&fx, "alerts/critical"),
                                           strlen(fx_last(&fx, "alerts/critical"))),
              "transitions are never retained");
    cr_expect(!hlt_engine_retained_is_ours(fx.engine, "alerts/active/x", "{}", 2));
    cr_expect(!hlt_engine_retained_is_ours(fx.engine, "devices/%zz/health", "{}", 2));
    cr_expect(hlt_engine_retained_is_ours(fx.engine, "alerts/active/x/y", "", 0),
              "an empty one clears: subscribers must hear it");
    fx_end(&fx);
}

Test(message, other_peoples_topics_are_a_spoof_only_where_policy_bound_the_device)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *gateway = fx_login(&fx, "gw", 3600, NULL);
    struct hlt_message message = {.topic = "devices/child/telemetry",
                                  .payload = "{\"t\":1}",
                                  .payload_len = 7,
                                  .session = gateway,
                                  .bound_device = false};
    cr_expect(hlt_engine_message(fx.engine, fx.now, &message) == HLT_DELIVER);
    cr_expect(hlt_engine_device_count(fx.engine) == 2 && gateway->children == 1);
    message.bound_device = true;
    cr_expect(hlt_engine_message(fx.engine, fx.now, &message) == HLT_DROP);
    fx_drain(&fx);
    cr_expect_str_eq(fx_field(&fx, "alerts/critical", "deviceId"), "gw");
    fx_end(&fx);
}

Test(message, a_gateway_may_create_only_so_many_children)
{
    static const char *const options[] = {"max_children", "5", NULL};
    char topic[64];

    fx_begin(&fx, NULL, options, NULL, true);
    struct hlt_session *gateway = fx_login(&fx, "gw", 3600, NULL);
    for (int i = 0; i < 20; i++) {
        snprintf(topic, sizeof(topic), "devices/child-%d/telemetry", i);
        struct hlt_message message = {
            .topic = topic, .payload = "1", .payload_len = 1, .session = gateway};
        hlt_engine_message(fx.engine, fx.now, &message);
    }
    cr_expect(hlt_engine_device_count(fx.engine) == 6);
    cr_expect(hlt_engine_counters(fx.engine)->children_refused == 15);
    fx_end(&fx);
}

Test(message, a_device_keeps_sixteen_metric_names)
{
    char metric[32];

    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    for (int i = 0; i < 40; i++) {
        snprintf(metric, sizeof(metric), "m%d", i);
        fx_reading(&fx, s, metric, 1.0);
    }
    cr_expect(hlt_engine_counters(fx.engine)->metrics_refused == 24);
    fx_end(&fx);
}

Test(health, follows_status_and_alerts_and_names_its_reasons)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    fx_reading(&fx, s, "temperature", 20);
    cr_expect_str_eq(fx_field(&fx, "devices/d/health", "band"), "healthy");
    cr_expect_str_eq(fx_field(&fx, "devices/d/health", "health"), "1");
    fx_message(
        &fx, s, "devices/d/status",
        "{\"status\":\"error\",\"health\":{\"battery\":3,\"cpu\":99},\"firmwareVersion\":\"1.2\"}");
    cr_expect_str_eq(fx_field(&fx, "devices/d/health", "band"), "critical");
    cr_expect(fx_count(&fx, "devices/d/health", "\"battery\"") >= 1);
    cr_expect_str_eq(fx_field(&fx, "devices/d/health", "firmwareVersion"), "1.2");
    fx_message(&fx, s, "devices/d/status",
               "{\"status\":\"online\",\"health\":{\"battery\":90,\"cpu\":5}}");
    cr_expect_str_eq(fx_field(&fx, "devices/d/health", "band"), "healthy");
    fx_reading(&fx, s, "temperature", 95);
    cr_expect_str_eq(fx_field(&fx, "devices/d/health", "band"), "degraded");
    cr_expect(fx_count(&fx, "devices/d/health", "critical_alert") == 1);
    fx_end(&fx);
}

Test(health, is_published_at_most_every_interval_while_nothing_changes)
{
    static const char *const options[] = {"health_interval", "60s", NULL};

    fx_begin(&fx, NULL, options, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 36000, NULL);
    for (int i = 0; i < 600; i++) {
        fx_reading(&fx, s, "x", 1);
        fx_advance(&fx, 1000);
    }
    size_t said = fx_count(&fx, "devices/d/health", NULL);
    cr_expect(said >= 10 && said <= 12, "%zu in ten minutes", said);
    fx_end(&fx);
}

Test(health, is_not_published_per_device_in_large_fleets)
{
    static const char *const options[] = {"health_publish_max", "3", "heartbeat_interval", "1s",
                                          NULL};
    char id[16];

    fx_begin(&fx, NULL, options, NULL, true);
    for (int i = 0; i < 4; i++) {
        snprintf(id, sizeof(id), "d%d", i);
        fx_login(&fx, id, 3600, NULL);
    }
    fx_advance(&fx, 1500);
    cr_expect(fx_count_kind(&fx, HLT_ACT_LOG) == 1, "one line says so");
    fx_forget_said(&fx);
    fx_login(&fx, "late", 3600, NULL);
    cr_expect(fx_count(&fx, "devices/late/availability", NULL) == 0);
    cr_expect(fx_count(&fx, "devices/late/event", "connected") == 1);
    fx_end(&fx);
}

Test(heartbeat, comes_every_interval_with_the_counters)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    hlt_engine_note(fx.engine, "policy", "3fa9");
    fx_advance(&fx, 95000);
    cr_expect(fx_count(&fx, "system/heartbeat", NULL) == 4);
    cr_expect_str_eq(fx_field(&fx, "system/heartbeat", "policy"), "3fa9");
    cr_expect_str_eq(fx_field(&fx, "system/heartbeat", "version"), "test");
    cr_expect(strstr(fx_last(&fx, "system/heartbeat"), "\"acl_denied\":0") != NULL);
    fx_end(&fx);
}

Test(session, a_token_in_the_wrong_field_is_neither_logged_nor_told)
{
    static const char *const tokens[] = {"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA",
                                         "eyJhbGciOiJFUzI1NiJ9.eyJzdWIi"};

    fx_begin(&fx, NULL, NULL, NULL, true);
    for (size_t i = 0; i < 6; i++) { /* enough of them for an alert */
        struct hlt_refusal refusal = {.reason = HLT_REASON_NO_TOKEN,
                                      .client_id = tokens[i % 2],
                                      .user = tokens[i % 2],
                                      .address = "192.0.2.1"};
        hlt_engine_refused(fx.engine, fx.now, &refusal);
    }
    fx_drain(&fx);
    cr_expect(fx_count_kind(&fx, HLT_ACT_LOG) > 0);
    cr_expect(fx_count(&fx, "alerts/warning", "auth_failure") > 0);
    for (size_t i = 0; i < fx.said_count; i++) {
        cr_expect(strstr(fx.said[i].payload, "eyJ") == NULL, "%s", fx.said[i].payload);
    }
    fx_end(&fx);
}

Test(heartbeat, counts_refused_logins_by_their_reason)
{
    char member[64];

    fx_begin(&fx, NULL, NULL, NULL, true);
    for (int reason = HLT_REASON_OK + 1; reason < HLT_REASON_COUNT; reason++) {
        for (int times = 0; times < reason;
             times++) { /* as often as its number: none is another's */
            struct hlt_refusal refusal = {.reason = (enum hlt_reason)reason, .client_id = "d"};
            hlt_engine_refused(fx.engine, fx.now, &refusal);
        }
    }
    fx_advance(&fx, 31000);
    const char *refusals = strstr(fx_last(&fx, "system/heartbeat"), "\"refusals\":{");
    cr_assert(refusals != NULL);
    for (int reason = HLT_REASON_OK + 1; reason < HLT_REASON_COUNT; reason++) {
        snprintf(member, sizeof(member), "\"%s\":%d%s", hlt_reason_word((enum hlt_reason)reason),
                 reason, reason + 1 < HLT_REASON_COUNT ? "," : "}");
        cr_expect(strstr(refusals, member) != NULL, "%s in %s", member, refusals);
    }
    cr_expect(hlt_engine_counters(fx.engine)->refused ==
              HLT_REASON_COUNT * (HLT_REASON_COUNT - 1) / 2);
    fx_end(&fx);
}

Test(forget, removes_an_offline_device_and_its_topics)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    fx_reading(&fx, s, "temperature", 95);
    cr_expect(hlt_engine_forget(fx.engine, fx.now, "d") == HLT_EBUSY);
    hlt_engine_logout(fx.engine, fx.now, s->client, "d", -1);
    fx_advance(&fx, 500);
    cr_expect(hlt_engine_forget(fx.engine, fx.now, "d") == HLT_OK);
    fx_drain(&fx);
    cr_expect_str_eq(fx_last(&fx, "devices/d/availability"), "");
    cr_expect_str_eq(fx_last(&fx, "devices/d/health"), "");
    cr_expect(fx_count(&fx, "alerts/critical", "\"resolved\"") == 1);
    cr_expect(hlt_engine_session_by_id(fx.engine, "d") == NULL &&
              !hlt_engine_id_reserved(fx.engine, "d"));
    cr_expect(hlt_engine_forget(fx.engine, fx.now, "d") == HLT_ENOTFOUND);
    fx_advance(&fx, 1000000);
    fx_end(&fx);
}
