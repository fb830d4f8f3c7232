/* revocation.c - which tokens are barred, for how long, and what becomes of their sessions. */
#include "fixture.h"

#include <unistd.h>

#include "../../shared/revocation.h"

#define NOW_S (FX_START_MS / 1000)

static struct hlt_revocations table;
static struct hlt_err err;

static enum hlt_rc add(enum hlt_revoke_kind kind, const char *id, int64_t before_s,
                       int64_t expires_ms)
{
    struct hlt_revocation revocation = {.kind = kind,
                                        .id = id,
                                        .before_s = before_s,
                                        .created_ms = FX_START_MS,
                                        .expires_ms = expires_ms,
                                        .reason = "test",
                                        .by = "me"};

    return hlt_revocations_add(&table, &revocation, false, &err);
}

static bool barred(const char *sub, const char *jti, const char *kid, int64_t iat_s,
                   int64_t wall_ms)
{
    char json[512], iat[64] = "";

    if (iat_s > 0) {
        snprintf(iat, sizeof(iat), ",\"iat\":%lld", (long long)iat_s);
    }
    snprintf(json, sizeof(json), "{\"sub\":\"%s\",\"jti\":\"%s\",\"exp\":%lld%s}", sub, jti,
             (long long)NOW_S + 3600, iat);
    struct hlt_claims *claims = hlt_claims_restore(json, strlen(json), kid);
    cr_assert(claims != NULL);
    bool answer = hlt_revocations_bar(&table, claims, wall_ms, NULL);
    hlt_claims_free(claims);
    return answer;
}

static void begin(uint32_t max, bool kept)
{
    cr_assert(hlt_revocations_init(&table, max, kept) == HLT_OK);
}

Test(revocation, each_kind_bars_its_tokens_and_no_others)
{
    begin(10, false);
    cr_assert(add(HLT_REVOKE_JTI, "j1", 0, INT64_MAX) == HLT_OK);
    cr_assert(add(HLT_REVOKE_SUB, "s1", 0, INT64_MAX) == HLT_OK);
    cr_assert(add(HLT_REVOKE_KID, "k1", 0, INT64_MAX) == HLT_OK);
    cr_assert(add(HLT_REVOKE_BEFORE, "s2", NOW_S, INT64_MAX) == HLT_OK);
    cr_expect(barred("x", "j1", "x", NOW_S, FX_START_MS));
    cr_expect(barred("s1", "x", "x", NOW_S, FX_START_MS));
    cr_expect(barred("x", "x", "k1", NOW_S, FX_START_MS));
    cr_expect(!barred("j1", "k1", "s1", NOW_S, FX_START_MS), "an id of another kind is another id");
    cr_expect(!barred("j1", "x", "", NOW_S, FX_START_MS));
    cr_expect(barred("s2", "x", "x", NOW_S - 1, FX_START_MS), "one second before the mark");
    cr_expect(!barred("s2", "x", "x", NOW_S, FX_START_MS), "at the mark");
    cr_expect(barred("s2", "x", "x", 0, FX_START_MS), "no iat: under every mark");
    cr_expect(!barred("s3", "x", "x", 0, FX_START_MS));
    hlt_revocations_free(&table);
}

Test(revocation, an_entry_ends_on_the_millisecond_and_is_swept)
{
    begin(10, false);
    cr_assert(add(HLT_REVOKE_JTI, "j1", 0, FX_START_MS + 1000) == HLT_OK);
    cr_assert(add(HLT_REVOKE_JTI, "j2", 0, FX_START_MS + 2000) == HLT_OK);
    cr_expect(barred("x", "j1", "", NOW_S, FX_START_MS + 999));
    cr_expect(!barred("x", "j1", "", NOW_S, FX_START_MS + 1000));
    hlt_revocations_sweep(&table, FX_START_MS + 1000, 1);
    cr_expect(table.held == 1 && table.count[0] == 1);
    hlt_revocations_sweep(&table, FX_START_MS + 1000, 10);
    cr_expect(table.held == 1, "the other one has time");
    hlt_revocations_sweep(&table, FX_START_MS + 2000, 10);
    cr_expect(table.held == 0 && table.count[0] == 0 && table.oldest == NULL);
    hlt_revocations_free(&table);
}

Test(revocation, an_order_never_weakens_another)
{
    struct hlt_claims *claims = hlt_claims_parse("{\"sub\":\"s\"}", 11);
    struct hlt_revocation found;

    begin(10, false);
    cr_assert(add(HLT_REVOKE_BEFORE, "s", NOW_S, FX_START_MS + 5000) == HLT_OK);
    cr_assert(add(HLT_REVOKE_BEFORE, "s", NOW_S - 100, FX_START_MS + 9000) == HLT_OK);
    cr_assert(hlt_revocations_bar(&table, claims, FX_START_MS, &found));
    cr_expect(found.before_s == NOW_S && found.expires_ms == FX_START_MS + 9000);
    cr_expect(table.count[0] == 1);
    hlt_claims_free(claims);
    hlt_revocations_free(&table);
}

Test(revocation, a_full_table_refuses_and_a_known_entry_still_goes_in)
{
    char id[16];

    begin(3, false);
    for (int i = 0; i < 3; i++) {
        snprintf(id, sizeof(id), "j%d", i);
        cr_assert(add(HLT_REVOKE_JTI, id, 0, INT64_MAX) == HLT_OK);
    }
    cr_expect(add(HLT_REVOKE_JTI, "one more", 0, INT64_MAX) == HLT_EFULL);
    cr_expect(strstr(err.msg, "max_revocations") != NULL, "%s", err.msg);
    cr_expect(add(HLT_REVOKE_JTI, "j1", 0, INT64_MAX) == HLT_OK);
    cr_expect(hlt_revocations_remove(&table, HLT_REVOKE_JTI, "j1"));
    cr_expect(!hlt_revocations_remove(&table, HLT_REVOKE_JTI, "j1"));
    cr_expect(add(HLT_REVOKE_JTI, "one more", 0, INT64_MAX) == HLT_OK);
    hlt_revocations_free(&table);
}

Test(revocation, what_cannot_be_one_is_refused)
{
    char longest[HLT_REVOKE_ID_MAX + 2];

    begin(10, false);
    memset(longest, 'x', sizeof(longest));
    longest[HLT_REVOKE_ID_MAX + 1] = '\0';
    cr_expect(add(HLT_REVOKE_JTI, longest, 0, INT64_MAX) == HLT_EINVAL);
    longest[HLT_REVOKE_ID_MAX] = '\0';
    cr_expect(add(HLT_REVOKE_JTI, longest, 0, INT64_MAX) == HLT_OK);
    cr_expect(add(HLT_REVOKE_JTI, "", 0, INT64_MAX) == HLT_EINVAL);
    cr_expect(add(HLT_REVOKE_JTI, NULL, 0, INT64_MAX) == HLT_EINVAL);
    cr_expect(add(HLT_REVOKE_JTI, "\xff", 0, INT64_MAX) == HLT_EINVAL);
    cr_expect(add((enum hlt_revoke_kind)0, "x", 0, INT64_MAX) == HLT_EINVAL);
    cr_expect(add((enum hlt_revoke_kind)5, "x", 0, INT64_MAX) == HLT_EINVAL);
    cr_expect(add(HLT_REVOKE_BEFORE, "x", 0, INT64_MAX) == HLT_EINVAL);
    cr_expect(add(HLT_REVOKE_JTI, "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA", 0, INT64_MAX) ==
              HLT_EINVAL);
    cr_expect(strstr(err.msg, "that is a token") != NULL);
    cr_expect(table.count[0] == 1);
    hlt_revocations_free(&table);
}

Test(revocation, an_entry_lives_as_long_as_the_last_token_it_bars)
{
    struct hlt_revocation now = {.kind = HLT_REVOKE_JTI, .created_ms = FX_START_MS};
    struct hlt_revocation later = {
        .kind = HLT_REVOKE_BEFORE, .created_ms = FX_START_MS, .before_s = NOW_S + 500};

    cr_expect(hlt_revocation_end(&now, 1000, 30) == FX_START_MS + 1060000);
    cr_expect(hlt_revocation_end(&later, 1000, 30) == FX_START_MS + 1560000);
    cr_expect(hlt_revocation_end(&now, 0, 30) == INT64_MAX, "unbounded lifetimes");
}

Test(revocation, the_store_gets_each_change_once_and_in_order)
{
    struct hlt_revocation change;
    bool removed;

    begin(10, true);
    cr_expect(!hlt_revocations_unsaved(&table, &change, &removed));
    cr_assert(add(HLT_REVOKE_JTI, "j1", 0, INT64_MAX) == HLT_OK);
    cr_assert(add(HLT_REVOKE_JTI, "j2", 0, INT64_MAX) == HLT_OK);
    cr_assert(hlt_revocations_remove(&table, HLT_REVOKE_JTI, "j1"));
    cr_expect(!barred("x", "j1", "", NOW_S, FX_START_MS), "lifted at once");
    cr_assert(hlt_revocations_unsaved(&table, &change, &removed));
    cr_expect_str_eq(change.id, "j1");
    cr_expect(removed && table.held == 2);
    hlt_revocations_saved(&table);
    cr_expect(table.held == 1);
    cr_assert(hlt_revocations_unsaved(&table, &change, &removed));
    cr_expect_str_eq(change.id, "j2");
    cr_expect(!removed);
    hlt_revocations_saved(&table);
    cr_expect(!hlt_revocations_unsaved(&table, &change, &removed));
    cr_assert(hlt_revocations_remove(&table, HLT_REVOKE_JTI, "j2"));
    cr_assert(add(HLT_REVOKE_JTI, "j2", 0, FX_START_MS + 5) == HLT_OK, "before it was deleted");
    cr_assert(hlt_revocations_unsaved(&table, &change, &removed));
    cr_expect(!removed && change.expires_ms == FX_START_MS + 5);
    cr_expect(barred("x", "j2", "", NOW_S, FX_START_MS) && table.count[0] == 1);
    hlt_revocations_free(&table);
}

Test(revocation, key_and_value_come_back_as_they_went)
{
    struct hlt_revocation in = {.kind = HLT_REVOKE_BEFORE,
                                .id = "pümpe",
                                .before_s = 5,
                                .created_ms = 6,
                                .expires_ms = 7,
                                .reason = "why",
                                .by = "who"};
    struct hlt_revocation out;
    struct hlt_revocation_record record;
    uint8_t key[HLT_REVOKE_KEY_MAX], value[HLT_REVOCATION_RECORD_MAX];
    char id[HLT_REVOKE_ID_MAX + 1];
    size_t key_len = hlt_revocation_key(&in, key), len = hlt_revocation_write(&in, value);

    cr_assert(hlt_revocation_read(&out, id, &record, key, key_len, value, len) == HLT_OK);
    cr_expect(out.kind == in.kind && out.before_s == 5 && out.created_ms == 6 &&
              out.expires_ms == 7);
    cr_expect_str_eq(out.id, in.id);
    cr_expect_str_eq(out.reason, "why");
    cr_expect_str_eq(out.by, "who");
    cr_expect(hlt_revocation_read(&out, id, &record, key, 1, value, len) == HLT_EPARSE);
    cr_expect(hlt_revocation_read(&out, id, &record, key, key_len, value, len - 1) == HLT_EPARSE);
    key[0] = 9;
    cr_expect(hlt_revocation_read(&out, id, &record, key, key_len, value, len) == HLT_EPARSE);
    key[0] = HLT_REVOKE_BEFORE;
    value[len - 1] ^= 1;
    cr_expect(hlt_revocation_read(&out, id, &record, key, key_len, value, len) == HLT_EPARSE);
}

/* --- at work in the engine --- */

static struct fx fx;
static char dir[64];

static void engine_begin(const char *const *options)
{
    struct hlt_store *store = NULL;
    bool clean, replaced;

    if (dir[0] == '\0') {
        snprintf(dir, sizeof(dir), "/tmp/haltere-XXXXXX");
        cr_assert(mkdtemp(dir) != NULL);
    }
    struct hlt_store_config config = {
        .path = dir, .map_bytes = 64u << 20, .flush_interval_ms = 200};
    cr_assert(hlt_store_open(&store, &config, &clean, &replaced, &err) == HLT_OK, "%s", err.msg);
    fx_begin(&fx, NULL, options, store, clean);
}

static void engine_end(bool last)
{
    struct hlt_store *store = fx.store;
    char command[128];

    hlt_engine_flush(fx.engine, fx.now);
    fx_end(&fx);
    hlt_store_close(store);
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    cr_expect(!last || system(command) == 0);
}

static enum hlt_rc give(enum hlt_revoke_kind kind, const char *id)
{
    struct hlt_revocation order = {.kind = kind, .id = id, .reason = "", .by = "admin"};

    return hlt_engine_revoke(fx.engine, fx.now, &order, &err);
}

static enum hlt_reason try_login(const char *id, const char *more)
{
    struct hlt_session *session;
    uint8_t secret[32] = {1};
    struct hlt_login login = {.client = (const void *)0x77770,
                              .client_id = id,
                              .address = "192.0.2.7",
                              .secret = secret,
                              .protocol = 4};
    struct hlt_claims *claims = fx_claims(id, NOW_S + 3600, more);
    enum hlt_reason reason = hlt_engine_login(fx.engine, fx.now, &login, claims, &session);

    if (reason != HLT_REASON_OK) {
        hlt_claims_free(claims);
    }
    return reason;
}

Test(revocation, a_live_session_is_told_first_and_kicked_two_ticks_later_without_its_will)
{
    engine_begin(NULL);
    struct hlt_session *session = fx_login(&fx, "d1", 3600, "\"jti\":\"j1\"");
    fx_login(&fx, "d2", 3600, "\"jti\":\"j2\"");
    fx_forget_said(&fx);
    cr_assert(give(HLT_REVOKE_JTI, "j1") == HLT_OK);
    cr_expect(!session->barred, "the order itself looks at nobody");
    hlt_engine_tick(fx.engine, fx.now);
    cr_expect(session->barred);
    struct hlt_action action;
    unsigned told = 0;
    while (hlt_engine_action(fx.engine, &action)) {
        cr_expect(action.kind != HLT_ACT_KICK, "not in the tick that tells");
        told += action.kind == HLT_ACT_PUBLISH && strstr(action.payload, "token_revoked") != NULL;
        hlt_action_free(&action);
    }
    cr_expect(told == 2, "to the device, and to all");
    fx.now.mono_ms += 200;
    hlt_engine_tick(fx.engine, fx.now);
    while (hlt_engine_action(fx.engine, &action)) {
        cr_expect(action.kind != HLT_ACT_KICK, "nor in the next: the broker may not be there yet");
        hlt_action_free(&action);
    }
    fx.now.mono_ms += 100;
    hlt_engine_tick(fx.engine, fx.now);
    bool kicked = false;
    while (hlt_engine_action(fx.engine, &action)) {
        if (action.kind == HLT_ACT_KICK) {
            kicked = true;
            cr_expect_str_eq(action.client_id, "d1");
            cr_expect(!action.with_will);
        }
        hlt_action_free(&action);
    }
    cr_expect(kicked);
    cr_expect(hlt_engine_counters(fx.engine)->revoked == 1);
    cr_expect(!hlt_engine_barred(fx.engine, hlt_engine_session_by_id(fx.engine, "d2"), fx.now));
    engine_end(true);
}

Test(revocation, a_session_that_acts_before_the_sweep_comes_is_barred_then)
{
    engine_begin(NULL);
    struct hlt_session *session = fx_login(&fx, "d1", 3600, NULL);
    cr_assert(give(HLT_REVOKE_SUB, "d1") == HLT_OK);
    cr_expect(hlt_engine_barred(fx.engine, session, fx.now));
    cr_expect(session->barred && session->gone == HLT_GONE_REVOKED);
    engine_end(true);
}

Test(revocation, logins_and_renewals_with_a_revoked_token_are_refused)
{
    engine_begin(NULL);
    struct hlt_session *session = fx_login(&fx, "d1", 3600, "\"jti\":\"good\"");
    cr_assert(give(HLT_REVOKE_JTI, "bad") == HLT_OK);
    struct hlt_claims *claims = fx_claims("d1", NOW_S + 7200, "\"jti\":\"bad\"");
    cr_expect(hlt_engine_renew(fx.engine, fx.now, session, claims, NULL) == HLT_REASON_REVOKED);
    hlt_claims_free(claims);
    cr_expect(try_login("d2", "\"jti\":\"bad\"") == HLT_REASON_REVOKED);
    cr_expect(hlt_engine_device_count(fx.engine) == 1, "no device of a revoked token");
    cr_expect(try_login("d2", "\"jti\":\"good too\"") == HLT_REASON_OK);
    cr_expect(hlt_engine_unrevoke(fx.engine, fx.now, HLT_REVOKE_JTI, "bad", "admin"));
    cr_expect(!hlt_engine_unrevoke(fx.engine, fx.now, HLT_REVOKE_JTI, "bad", "admin"));
    cr_expect(try_login("d3", "\"jti\":\"bad\"") == HLT_REASON_OK);
    engine_end(true);
}

Test(revocation, a_restart_finds_entries_and_barred_sessions_again)
{
    engine_begin(NULL);
    fx_login(&fx, "d1", 3600, "\"jti\":\"j1\"");
    fx_login(&fx, "d2", 3600, "\"jti\":\"j2\"");
    cr_assert(give(HLT_REVOKE_JTI, "j1") == HLT_OK);
    cr_assert(give(HLT_REVOKE_JTI, "j9") == HLT_OK);
    fx_advance(&fx, 1000);
    cr_assert(hlt_engine_unrevoke(fx.engine, fx.now, HLT_REVOKE_JTI, "j9", "admin"));
    engine_end(false);
    engine_begin(NULL);
    cr_expect(hlt_engine_revocations(fx.engine)->count[0] == 1);
    cr_expect(try_login("d3", "\"jti\":\"j1\"") == HLT_REASON_REVOKED);
    cr_expect(try_login("d3", "\"jti\":\"j9\"") == HLT_REASON_OK);
    struct hlt_session *kept = hlt_engine_session_by_id(fx.engine, "d1");
    cr_assert(kept != NULL);
    cr_expect(kept->barred);
    kept = hlt_engine_session_by_id(fx.engine, "d2");
    cr_assert(kept != NULL);
    cr_expect(!hlt_engine_barred(fx.engine, kept, fx.now));
    engine_end(true);
}

Test(revocation, an_end_in_the_past_is_refused_and_the_default_is_the_longest_lifetime)
{
    static const char *const options[] = {"max_token_lifetime", "1h", "leeway", "10s", NULL};
    struct hlt_revocation order = {
        .kind = HLT_REVOKE_JTI, .id = "j1", .expires_ms = FX_START_MS, .by = "admin"};

    engine_begin(options);
    cr_expect(hlt_engine_revoke(fx.engine, fx.now, &order, &err) == HLT_EINVAL);
    order.expires_ms = 0;
    cr_expect(hlt_engine_revoke(fx.engine, fx.now, &order, &err) == HLT_OK);
    fx.now.wall_ms += 3619999;
    cr_expect(try_login("d1", "\"jti\":\"j1\"") == HLT_REASON_REVOKED);
    fx.now.wall_ms += 1;
    cr_expect(try_login("d1", "\"jti\":\"j1\"") == HLT_REASON_OK);
    engine_end(true);
}
