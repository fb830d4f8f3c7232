/* engine_alert.c - the life of alerts, as a subscriber sees it. */
#include "fixture.h"

#define CRIT "alerts/critical"
#define WARN "alerts/warning"

static struct fx fx;

static const char *const QUICK =
    "{\"version\":1,\"rules\":[{\"name\":\"temperature_high\",\"cooldown\":\"0s\"}]}";

Test(alert, a_value_over_the_critical_bound_fires_once_and_repeats_only_count)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "boiler", 3600, NULL);
    fx_reading(&fx, s, "temperature", 25);
    cr_expect(fx_count(&fx, CRIT, NULL) == 0);
    fx_reading(&fx, s, "temperature", 95);
    fx_reading(&fx, s, "temperature", 96);
    fx_reading(&fx, s, "temperature", 97);
    cr_expect(fx_count(&fx, CRIT, "\"firing\"") == 1, "one incident, one message");
    cr_expect_str_eq(fx_field(&fx, CRIT, "alertname"), "temperature_high");
    cr_expect_str_eq(fx_field(&fx, CRIT, "deviceId"), "boiler");
    cr_expect_str_eq(fx_field(&fx, CRIT, "metric"), "temperature");
    cr_expect_str_eq(fx_field(&fx, CRIT, "value"), "95");
    cr_expect_str_eq(fx_field(&fx, CRIT, "threshold"), "80");
    cr_expect_str_eq(fx_field(&fx, CRIT, "severity"), "critical");
    cr_expect_str_eq(fx_field(&fx, CRIT, "startsAt"), "2027-01-15T08:00:00.000Z");
    fx_advance(&fx, 1000);
    cr_expect(fx_count(&fx, "alerts/active/boiler/temperature_high:temperature", "\"firing\"") ==
              1);
    cr_expect(hlt_engine_counters(fx.engine)->alerts_repeated == 2);
    fx_end(&fx);
}

Test(alert, the_bound_itself_is_no_breach_and_just_above_is)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    fx_reading(&fx, s, "temperature", 60.0);
    cr_expect(fx_count(&fx, WARN, NULL) == 0);
    fx_reading(&fx, s, "temperature", 60.0001);
    cr_expect(fx_count(&fx, WARN, "\"firing\"") == 1);
    fx_reading(&fx, s, "temperature", 80.0);
    cr_expect(fx_count(&fx, CRIT, NULL) == 0);
    fx_end(&fx);
}

Test(alert, it_escalates_with_one_id_and_resolves_on_every_topic_that_heard_it)
{
    char id[64];

    fx_begin(&fx, QUICK, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    fx_reading(&fx, s, "temperature", 70);
    snprintf(id, sizeof(id), "%s", fx_field(&fx, WARN, "id"));
    fx_reading(&fx, s, "temperature", 90);
    cr_expect_str_eq(fx_field(&fx, CRIT, "id"), id);
    fx_reading(&fx, s, "temperature", 70);
    cr_expect(fx_count(&fx, WARN, "\"firing\"") == 1, "no message for getting a little better");
    fx_reading(&fx, s, "temperature", 20);
    fx_advance(&fx, 60000);
    cr_expect(fx_count(&fx, WARN, "\"resolved\"") == 1);
    cr_expect(fx_count(&fx, CRIT, "\"resolved\"") == 1);
    cr_expect_str_eq(fx_field(&fx, CRIT, "id"), id);
    cr_expect(fx_count(&fx, CRIT, "\"endsAt\"") == 1);
    cr_expect_str_eq(fx_last(&fx, "alerts/active/d/temperature_high:temperature"), "",
                     "the active set is cleared by an empty retained message");
    fx_end(&fx);
}

Test(alert, hysteresis_keeps_it_firing_just_inside_the_bound)
{
    fx_begin(&fx,
             "{\"version\":1,\"rules\":[{\"name\":\"temperature_high\",\"hysteresis\":5,"
             "\"clearAfter\":\"0s\"}]}",
             NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    fx_reading(&fx, s, "temperature", 61);
    fx_reading(&fx, s, "temperature", 58);
    cr_expect(fx_count(&fx, WARN, "\"resolved\"") == 0);
    fx_reading(&fx, s, "temperature", 55.5);
    cr_expect(fx_count(&fx, WARN, "\"resolved\"") == 0);
    fx_reading(&fx, s, "temperature", 54.9);
    cr_expect(fx_count(&fx, WARN, "\"resolved\"") == 1);
    fx_end(&fx);
}

Test(alert, the_condition_must_hold_for_its_time)
{
    fx_begin(&fx, "{\"version\":1,\"rules\":[{\"name\":\"temperature_high\",\"for\":\"10s\"}]}",
             NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    fx_reading(&fx, s, "temperature", 90);
    fx_advance(&fx, 5000);
    fx_reading(&fx, s, "temperature", 20);
    fx_advance(&fx, 6000);
    fx_reading(&fx, s, "temperature", 90);
    cr_expect(fx_count(&fx, CRIT, NULL) == 0, "interrupted: the time begins anew");
    fx_advance(&fx, 9900);
    fx_reading(&fx, s, "temperature", 90);
    cr_expect(fx_count(&fx, CRIT, NULL) == 0);
    fx_advance(&fx, 100);
    fx_reading(&fx, s, "temperature", 90);
    cr_expect(fx_count(&fx, CRIT, "\"firing\"") == 1);
    fx_end(&fx);
}

Test(alert, a_new_episode_waits_for_the_cool_down_and_has_a_new_id)
{
    char id[64];

    fx_begin(&fx,
             "{\"version\":1,\"rules\":[{\"name\":\"temperature_high\",\"cooldown\":\"30s\","
             "\"clearAfter\":\"0s\"}]}",
             NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    fx_reading(&fx, s, "temperature", 90);
    snprintf(id, sizeof(id), "%s", fx_field(&fx, CRIT, "id"));
    fx_reading(&fx, s, "temperature", 20);
    fx_reading(&fx, s, "temperature", 90);
    cr_expect(fx_count(&fx, CRIT, "\"firing\"") == 1, "within the cool-down");
    fx_advance(&fx, 30000);
    fx_reading(&fx, s, "temperature", 90);
    cr_expect(fx_count(&fx, CRIT, "\"firing\"") == 2);
    cr_expect_str_neq(fx_field(&fx, CRIT, "id"), id);
    fx_end(&fx);
}

Test(alert, firing_is_told_again_after_renotify_but_not_once_acknowledged)
{
    char id[64];

    fx_begin(&fx,
             "{\"version\":1,\"rules\":[{\"name\":\"temperature_high\",\"renotify\":\"60s\"}]}",
             NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 36000, NULL);
    fx_reading(&fx, s, "temperature", 90);
    fx_advance(&fx, 61000);
    cr_expect(fx_count(&fx, CRIT, "\"firing\"") == 2);
    snprintf(id, sizeof(id), "%s", fx_field(&fx, CRIT, "id"));
    cr_expect(hlt_engine_acknowledge(fx.engine, fx.now, id, "ada") == HLT_OK);
    fx_drain(&fx);
    cr_expect_str_eq(fx_field(&fx, CRIT, "status"), "acknowledged");
    cr_expect_str_eq(fx_field(&fx, CRIT, "acknowledgedBy"), "ada");
    fx_advance(&fx, 200000);
    cr_expect(fx_count(&fx, CRIT, "\"firing\"") == 2);
    cr_expect(hlt_engine_acknowledge(fx.engine, fx.now, "no such id", "ada") == HLT_ENOTFOUND);
    fx_end(&fx);
}

Test(alert, seq_grows_by_one_per_message_on_the_severity_topics)
{
    fx_begin(&fx, QUICK, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    fx_reading(&fx, s, "temperature", 70);
    cr_expect_str_eq(fx_field(&fx, WARN, "seq"), "1");
    fx_reading(&fx, s, "temperature", 90);
    cr_expect_str_eq(fx_field(&fx, CRIT, "seq"), "2");
    fx_reading(&fx, s, "temperature", 20);
    fx_advance(&fx, 60000);
    cr_expect_str_eq(fx_field(&fx, CRIT, "seq"), "3");
    cr_expect_str_eq(fx_field(&fx, WARN, "seq"), "4");
    fx_end(&fx);
}

Test(alert, a_class_may_be_left_out_of_a_rule)
{
    fx_begin(
        &fx,
        "{\"version\":1,\"rules\":[{\"name\":\"temperature_high\",\"exceptClasses\":[\"host\"]}]}",
        NULL, NULL, true);
    struct hlt_session *host = fx_login(&fx, "host", 3600, "\"device_class\":\"host\"");
    struct hlt_session *other = fx_login(&fx, "oven", 3600, "\"device_class\":\"sensor\"");
    fx_reading(&fx, host, "temperature", 95);
    cr_expect(fx_count(&fx, CRIT, NULL) == 0);
    fx_reading(&fx, other, "temperature", 95);
    cr_expect(fx_count(&fx, CRIT, NULL) == 1);
    fx_end(&fx);
}

Test(alert, a_jump_is_an_anomaly_and_a_threshold_alert_speaks_for_both)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 36000, NULL);
    for (int i = 0; i < 300; i++) {
        fx_reading(&fx, s, "humidity", 45 + sin(i * 1.7));
        fx_reading(&fx, s, "temperature", 22 + sin(i * 1.3));
        fx_advance(&fx, 1000);
    }
    cr_expect(fx_count(&fx, WARN, NULL) == 0, "a calm signal gives no alert");
    fx_reading(&fx, s, "humidity", 85);
    cr_expect(fx_count(&fx, WARN, "\"anomaly\"") == 1);
    cr_expect_str_eq(fx_field(&fx, WARN, "metric"), "humidity");
    fx_reading(&fx, s, "temperature", 95);
    cr_expect(fx_count(&fx, WARN, "\"metric\":\"temperature\"") == 0, "one incident, one alert");
    cr_expect(fx_count(&fx, CRIT, "temperature_high") == 1);
    fx_end(&fx);
}

Test(alert, silence_fires_after_its_time_and_resolves_with_the_next_message)
{
    fx_begin(
        &fx,
        "{\"version\":1,\"rules\":[{\"name\":\"silence\",\"after\":\"20s\",\"cadenceFactor\":3}]}",
        NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 36000, NULL);
    for (int i = 0; i < 10; i++) {
        fx_reading(&fx, s, "x", 1);
        fx_advance(&fx, 1000);
    }
    fx_advance(&fx, 18500);
    cr_expect(fx_count(&fx, CRIT, "silence") == 0);
    fx_advance(&fx, 1000);
    cr_expect(fx_count(&fx, CRIT, "\"silence\"") == 1);
    fx_reading(&fx, s, "x", 1);
    fx_advance(&fx, 120000);
    cr_expect(fx_count(&fx, CRIT, "\"resolved\"") >= 1);
    fx_end(&fx);
}

Test(alert, silence_waits_for_a_slow_device_as_long_as_its_habit_asks)
{
    fx_begin(
        &fx,
        "{\"version\":1,\"rules\":[{\"name\":\"silence\",\"after\":\"20s\",\"cadenceFactor\":3}]}",
        NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "slow", 360000, NULL);
    for (int i = 0; i < 10; i++) {
        fx_reading(&fx, s, "x", 1);
        fx_advance(&fx, 15000);
    }
    fx_advance(&fx, 25000); /* 40 s: over 20 s, under 3 x 15 s */
    cr_expect(fx_count(&fx, CRIT, "silence") == 0);
    fx_advance(&fx, 6000);
    cr_expect(fx_count(&fx, CRIT, "silence") == 1);
    fx_end(&fx);
}

Test(alert, a_shorter_silence_rule_holds_for_devices_that_are_there)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 36000, NULL);
    fx_reading(&fx, s, "x", 1);
    hlt_engine_set_rules(
        fx.engine, fx_rules("{\"version\":1,\"rules\":[{\"name\":\"silence\",\"after\":\"5s\"}]}"),
        fx.now);
    fx_advance(&fx, 4500);
    cr_expect(fx_count(&fx, CRIT, "silence") == 0);
    fx_advance(&fx, 1500);
    cr_expect(fx_count(&fx, CRIT, "silence") == 1);
    fx_end(&fx);
}

Test(alert, those_that_never_report_are_not_called_silent)
{
    fx_begin(&fx, "{\"version\":1,\"rules\":[{\"name\":\"silence\",\"after\":\"5s\"}]}", NULL, NULL,
             true);
    struct hlt_session *operator_session = fx_login(&fx, "operator", 36000, NULL);
    fx_message(&fx, operator_session, "devices/d/commands", "{\"command\":\"reboot\"}");
    fx_advance(&fx, 60000);
    cr_expect(fx_count(&fx, CRIT, NULL) == 0);
    fx_reading(&fx, operator_session, "x", 1); /* once is enough to be expected again */
    fx_advance(&fx, 6000);
    cr_expect(fx_count(&fx, CRIT, "silence") == 1);
    fx_end(&fx);
}

Test(alert, counted_rules_may_leave_a_class_out_too)
{
    fx_begin(&fx,
             "{\"version\":1,\"rules\":[{\"name\":\"spoof\",\"exceptClasses\":[\"gateway\"]}]}",
             NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "gw", 3600, "\"device_class\":\"gateway\"");
    cr_expect(fx_message(&fx, s, "devices/gw/telemetry",
                         "{\"deviceId\":\"e\",\"sensors\":{\"x\":1}}") == HLT_DELIVER);
    cr_expect(fx_count(&fx, CRIT, NULL) == 0);
    cr_expect(hlt_engine_counters(fx.engine)->spoofed == 1, "counted all the same");
    fx_end(&fx);
}

Test(alert, denials_alert_but_not_those_of_an_expired_token)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 10, NULL);
    for (int i = 0; i < 9; i++) {
        hlt_engine_denied(fx.engine, fx.now, s, "d", "write", "devices/e/telemetry", "policy");
    }
    fx.now.wall_ms += 10000;
    for (int i = 0; i < 50; i++) {
        hlt_engine_denied(fx.engine, fx.now, s, "d", "write", "devices/d/telemetry", "expired");
    }
    fx_drain(&fx);
    cr_expect(fx_count(&fx, WARN, NULL) == 0);
    fx.now.wall_ms -= 10000;
    hlt_engine_denied(fx.engine, fx.now, s, "d", "write", "devices/e/telemetry", "policy");
    fx_drain(&fx);
    cr_expect(fx_count(&fx, WARN, "acl_denied") == 1);
    fx_end(&fx);
}

Test(alert, maintenance_suppresses_alerts_and_says_so)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    fx_message(&fx, s, "devices/d/status", "{\"status\":\"maintenance\"}");
    fx_reading(&fx, s, "temperature", 95);
    cr_expect(fx_count(&fx, CRIT, NULL) == 0);
    cr_expect(fx_count(&fx, "devices/d/event", "maintenance_begin") == 1);
    fx_message(&fx, s, "devices/d/status", "{\"status\":\"online\"}");
    fx_reading(&fx, s, "temperature", 95);
    cr_expect(fx_count(&fx, CRIT, "\"firing\"") == 1);
    fx_end(&fx);
}

Test(alert, a_payload_that_names_another_device_is_a_spoof_and_is_not_delivered)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    enum hlt_answer answer = fx_message(&fx, s, "devices/d/telemetry",
                                        "{\"deviceId\":\"e\",\"sensors\":{\"temperature\":95}}");
    cr_expect(answer == HLT_DROP);
    cr_expect_str_eq(fx_field(&fx, CRIT, "alertname"), "spoof");
    cr_expect_str_eq(fx_field(&fx, CRIT, "deviceId"), "d",
                     "the one who is authenticated answers for it");
    cr_expect(fx_count(&fx, CRIT, "temperature_high") == 0, "its readings count for nobody");
    answer = fx_message(&fx, s, "devices/d/telemetry",
                        "{\"deviceId\":\"d\",\"sensors\":{\"temperature\":20}}");
    cr_expect(answer == HLT_DELIVER);
    fx_end(&fx);
}

Test(alert, malformed_payloads_are_one_alert_and_are_delivered)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    cr_expect(fx_message(&fx, s, "devices/d/telemetry", "{\"sensors\":{\"t\":") == HLT_DELIVER);
    cr_expect(fx_message(&fx, s, "devices/d/telemetry", "") == HLT_DELIVER);
    cr_expect(fx_message(&fx, s, "devices/d/telemetry", "[1]") == HLT_DELIVER);
    cr_expect(fx_count(&fx, WARN, "\"malformed\"") == 1);
    cr_expect(hlt_engine_counters(fx.engine)->malformed == 3);
    fx_end(&fx);
}

Test(alert, refused_logins_alert_on_the_device_they_claim_or_on_the_broker)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    fx_login(&fx, "d", 3600, NULL);
    struct hlt_refusal known = {
        .reason = HLT_REASON_SIGNATURE, .client_id = "d", .address = "192.0.2.9"};
    struct hlt_refusal stranger = {
        .reason = HLT_REASON_SIGNATURE, .client_id = "nobody\n\x1b[31m", .address = "192.0.2.9"};
    for (int i = 0; i < 5; i++) {
        hlt_engine_refused(fx.engine, fx.now, &known);
        cr_expect(fx_count(&fx, WARN, NULL) == 0 || i == 4);
    }
    fx_drain(&fx);
    cr_expect_str_eq(fx_field(&fx, WARN, "alertname"), "auth_failure");
    cr_expect_str_eq(fx_field(&fx, WARN, "deviceId"), "d");
    for (int i = 0; i < 5; i++) {
        hlt_engine_refused(fx.engine, fx.now, &stranger);
    }
    fx_drain(&fx);
    cr_expect_str_eq(fx_field(&fx, WARN, "deviceId"), "$broker");
    cr_expect(strchr(fx_last(&fx, WARN), '\n') == NULL &&
              strchr(fx_last(&fx, WARN), '\x1b') == NULL);
    cr_expect(fx_count(&fx, "alerts/active/%24broker/auth_failure", "firing") == 1);
    fx_advance(&fx, 310000);
    cr_expect(fx_count(&fx, WARN, "\"resolved\"") == 2, "they resolve when it is quiet");
    fx_end(&fx);
}

Test(alert, four_refusals_in_a_window_are_no_alert)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_refusal refusal = {
        .reason = HLT_REASON_EXPIRED, .client_id = "x", .address = "192.0.2.9"};
    for (int i = 0; i < 12; i++) {
        hlt_engine_refused(fx.engine, fx.now, &refusal);
        fx_advance(&fx, 16000);
    }
    cr_expect(fx_count(&fx, WARN, NULL) == 0);
    fx_end(&fx);
}

Test(alert, the_table_is_bounded_and_ids_stay_unique_after_eviction)
{
    static const char *const options[] = {"max_alerts", "100", NULL};
    char first[64];

    fx_begin(&fx, QUICK, options, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d0", 360000, NULL);
    fx_reading(&fx, s, "temperature", 90);
    snprintf(first, sizeof(first), "%s", fx_field(&fx, CRIT, "id"));
    fx_reading(&fx, s, "temperature", 20);
    fx_advance(&fx, 60000);
    for (int i = 1; i <= 101; i++) {
        char id[16];
        snprintf(id, sizeof(id), "d%d", i);
        struct hlt_session *other = fx_login(&fx, id, 360000, NULL);
        fx_reading(&fx, other, "temperature", 90);
        fx_forget_said(&fx);
    }
    cr_expect(hlt_engine_counters(fx.engine)->alerts_dropped >= 1,
              "100 firing: the 101st is dropped");
    hlt_engine_forget(fx.engine, fx.now, "d5");
    struct hlt_session *five = hlt_engine_session_by_id(fx.engine, "d5");
    cr_expect(five != NULL, "an online device is not forgotten");
    fx_reading(&fx, five, "temperature", 20);
    fx_advance(&fx, 60000);
    fx_forget_said(&fx);
    fx_reading(&fx, s, "temperature", 90);
    cr_expect(fx_count(&fx, CRIT, "\"firing\"") == 1);
    cr_expect_str_neq(fx_field(&fx, CRIT, "id"), first);
    fx_end(&fx);
}

Test(alert, a_rule_that_goes_resolves_its_alerts)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    struct hlt_session *s = fx_login(&fx, "d", 3600, NULL);
    fx_reading(&fx, s, "temperature", 90);
    hlt_engine_set_rules(
        fx.engine,
        fx_rules("{\"version\":1,\"rules\":[{\"name\":\"temperature_high\",\"enabled\":false}]}"),
        fx.now);
    fx_advance(&fx, 200);
    cr_expect(fx_count(&fx, CRIT, "\"resolved\"") == 1);
    fx_reading(&fx, s, "temperature", 90);
    cr_expect(fx_count(&fx, CRIT, "\"firing\"") == 1);
    fx_end(&fx);
}

Test(alert, what_haltere_says_of_itself_fires_and_clears)
{
    fx_begin(&fx, NULL, NULL, NULL, true);
    hlt_engine_system(fx.engine, fx.now, "policy_reload_failed", "policy.acl:3: unknown word");
    hlt_engine_system(fx.engine, fx.now, "policy_reload_failed", "policy.acl:3: unknown word");
    fx_drain(&fx);
    cr_expect(fx_count(&fx, CRIT, "policy.acl:3") == 1);
    hlt_engine_system(fx.engine, fx.now, "policy_reload_failed", NULL);
    fx_advance(&fx, 1000);
    cr_expect(fx_count(&fx, CRIT, "\"resolved\"") == 1);
    fx_end(&fx);
}
