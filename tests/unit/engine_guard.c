/* engine_guard.c - failed logins end in bans, bans hold and are kept, clones are seen. */
#include <malloc.h>
#include <unistd.h>

#include "fixture.h"

static struct fx fx;

/* 4 failures of an id, 8 of an address; the built-in exemption of this machine stays. */
static const char *const LIMITS[] = {
    "auth_fail_burst", "8", "auth_fail_rate", "1", "ban_time", "60s", NULL};

static void fail_as(const char *address, const char *id, enum hlt_reason reason)
{
    struct hlt_refusal refusal = {.reason = reason, .client_id = id, .address = address};

    hlt_engine_refused(fx.engine, fx.now, &refusal);
    fx_drain(&fx);
}

static bool admitted(const char *address, const char *id)
{
    return hlt_engine_admit(fx.engine, fx.now, address, id) == HLT_REASON_OK;
}

static size_t logged(const char *part)
{
    size_t count = 0;

    for (size_t i = 0; i < fx.said_count; i++) {
        count += fx.said[i].kind == HLT_ACT_LOG && strstr(fx.said[i].payload, part) != NULL;
    }
    return count;
}

static struct hlt_ban_order order_of(const char *key, int64_t for_ms)
{
    struct hlt_ban_order order = {.for_ms = for_ms, .author = "boss", .reason = "test"};

    cr_assert(hlt_ban_key_parse(&order.subject, key, strlen(key)), "%s", key);
    return order;
}

static void ban(const char *key, int64_t for_ms)
{
    struct hlt_ban_order order = order_of(key, for_ms);

    cr_assert(hlt_engine_ban(fx.engine, fx.now, &order, NULL) == HLT_OK, "%s", key);
    fx_drain(&fx);
}

static enum hlt_rc unban(const char *key)
{
    struct hlt_ban_order order = order_of(key, 0);

    return hlt_engine_unban(fx.engine, fx.now, &order.subject);
}

static enum hlt_reason try_login(const char *id, const char *address)
{
    struct hlt_session *session;
    static uintptr_t pointer = 0x900000;
    struct hlt_login login = {
        .client = (void *)(pointer += 64), .client_id = id, .address = address};
    struct hlt_claims *claims = fx_claims(id, fx.now.wall_ms / 1000 + 3600, NULL);
    enum hlt_reason reason = hlt_engine_login(fx.engine, fx.now, &login, claims, &session);

    if (reason != HLT_REASON_OK) {
        hlt_claims_free(claims);
    }
    fx_drain(&fx);
    return reason;
}

/* --- failed logins --- */

Test(guard, one_id_that_keeps_failing_is_banned_from_its_address_alone)
{
    fx_begin(&fx, NULL, LIMITS, NULL, true);
    for (int i = 0; i < 3; i++) {
        fail_as("192.0.2.7", "d1", HLT_REASON_SIGNATURE);
        cr_expect(admitted("192.0.2.7", "d1"), "%d", i);
    }
    fail_as("192.0.2.7", "d1", HLT_REASON_SIGNATURE);
    cr_expect(!admitted("192.0.2.7", "d1"));
    cr_expect(admitted("192.0.2.7", "d2"), "its neighbour behind the same address");
    cr_expect(admitted("192.0.2.8", "d1"), "the true owner elsewhere");
    cr_expect(logged("ban login 192.0.2.7 d1 for 60 s") == 1);
    fx_end(&fx);
}

Test(guard, an_address_with_many_ids_is_banned_until_the_ban_ends)
{
    char id[16];

    fx_begin(&fx, NULL, LIMITS, NULL, true);
    for (int i = 0; i < 8; i++) {
        cr_expect(admitted("192.0.2.7", "new"), "%d", i);
        snprintf(id, sizeof(id), "d%d", i);
        fail_as("192.0.2.7", id, HLT_REASON_SIGNATURE);
    }
    cr_expect(!admitted("192.0.2.7", "new"));
    cr_expect(admitted("192.0.2.8", "new"));
    cr_expect(logged("ban address 192.0.2.7 for 60 s by haltere") == 1);
    fx_advance(&fx, 59900);
    cr_expect(!admitted("192.0.2.7", "new"));
    fx_advance(&fx, 200);
    cr_expect(admitted("192.0.2.7", "new"));
    fail_as("192.0.2.7", "d1", HLT_REASON_SIGNATURE);
    cr_expect(admitted("192.0.2.7", "new"), "a fresh start");
    cr_expect(hlt_engine_ban_at(fx.engine, 0) == NULL, "swept out");
    fx_end(&fx);
}

Test(guard, hosts_of_one_ipv6_network_fail_together)
{
    char address[64];

    fx_begin(&fx, NULL, LIMITS, NULL, true);
    for (int i = 0; i < 8; i++) {
        snprintf(address, sizeof(address), "2001:db8::%x", i + 1);
        fail_as(address, NULL, HLT_REASON_SIGNATURE);
    }
    cr_expect(!admitted("2001:db8::ffff", "d"));
    cr_expect(admitted("2001:db8:0:1::1", "d"));
    fx_end(&fx);
}

Test(guard, refusals_that_are_no_fault_of_the_client_do_not_count)
{
    static const enum hlt_reason not_theirs[] = {HLT_REASON_BANNED, HLT_REASON_CLOCK_UNSET,
                                                 HLT_REASON_SESSIONS_FULL, HLT_REASON_INTERNAL};

    fx_begin(&fx, NULL, LIMITS, NULL, true);
    for (size_t i = 0; i < 40; i++) {
        fail_as("192.0.2.7", "d1", not_theirs[i % 4]);
    }
    cr_expect(admitted("192.0.2.7", "d1"));
    cr_expect(hlt_engine_counters(fx.engine)->refusals[HLT_REASON_BANNED] == 10);
    fx_end(&fx);
}

Test(guard, exempt_and_proxy_addresses_and_local_sockets_are_never_banned)
{
    static const char *const options[] = {"auth_fail_burst", "8",          "ban_exempt",
                                          "10.0.0.0/8",      "ban_exempt", "loopback",
                                          "trusted_proxies", "192.0.2.1",  NULL};
    static const char *const safe[] = {"10.1.2.3",  "127.0.0.1", "127.9.9.9", "::1",
                                       "192.0.2.1", NULL,        ""};

    fx_begin(&fx, NULL, options, NULL, true);
    for (size_t i = 0; i < sizeof(safe) / sizeof(safe[0]); i++) {
        for (int j = 0; j < 50; j++) {
            fail_as(safe[i], "d1", HLT_REASON_SIGNATURE);
        }
        cr_expect(admitted(safe[i], "d1"), "%s", safe[i] != NULL ? safe[i] : "none");
    }
    cr_expect(hlt_engine_ban_at(fx.engine, 0) == NULL);
    struct hlt_ban_order order = order_of("address 10.1.2.3", 1000);
    cr_expect(hlt_engine_ban(fx.engine, fx.now, &order, NULL) == HLT_EINVAL, "nor by hand");
    fx_end(&fx);
}

Test(guard, a_burst_of_0_bans_nobody)
{
    static const char *const options[] = {"auth_fail_burst", "0", NULL};

    fx_begin(&fx, NULL, options, NULL, true);
    for (int i = 0; i < 100; i++) {
        fail_as("192.0.2.7", "d1", HLT_REASON_SIGNATURE);
    }
    cr_expect(admitted("192.0.2.7", "d1"));
    fx_end(&fx);
}

Test(guard, an_id_that_can_be_no_devices_counts_for_its_address_only)
{
    char huge[1000];

    memset(huge, 'x', sizeof(huge) - 1);
    huge[sizeof(huge) - 1] = '\0';
    fx_begin(&fx, NULL, LIMITS, NULL, true);
    for (int i = 0; i < 7; i++) {
        fail_as("192.0.2.7", i % 2 ? huge : "a/#", HLT_REASON_SIGNATURE);
        cr_expect(admitted("192.0.2.7", huge), "%d", i);
    }
    fail_as("192.0.2.7", huge, HLT_REASON_SIGNATURE);
    cr_expect(!admitted("192.0.2.7", "d1") && !admitted("192.0.2.7", huge));
    fx_end(&fx);
}

Test(guard, too_many_strangers_raise_an_alarm_that_ends_with_them)
{
    char address[64];

    fx_begin(&fx, NULL, LIMITS, NULL, true);
    for (unsigned i = 0; i < 100000; i++) {
        snprintf(address, sizeof(address), "10.%u.%u.%u", i >> 16, i >> 8 & 255, i & 255);
        fail_as(address, NULL, HLT_REASON_SIGNATURE);
        fx_forget_said(&fx);
        if (hlt_engine_counters(fx.engine)->limits_evicted > 0) {
            break;
        }
    }
    cr_expect(hlt_engine_counters(fx.engine)->limits_evicted > 0);
    fail_as("10.200.0.1", NULL, HLT_REASON_SIGNATURE);
    fx_advance(&fx, 100);
    cr_expect(hlt_engine_admit(fx.engine, fx.now, "10.0.0.1", NULL) == HLT_REASON_OK);
    fx_advance(&fx, 120000);
    unsigned resolved = 0;
    for (size_t i = 0; i < fx.said_count; i++) {
        resolved += fx.said[i].kind == HLT_ACT_PUBLISH &&
                    strcmp(fx.said[i].topic, "alerts/warning") == 0 &&
                    strstr(fx.said[i].payload, "limiter_full") != NULL &&
                    strstr(fx.said[i].payload, "resolved") != NULL;
    }
    cr_expect(resolved == 1, "the alarm ends by itself");
    fx_end(&fx);
}

/* --- bans by hand --- */

Test(guard, a_banned_device_is_told_kicked_without_its_will_and_stays_out)
{
    fx_begin(&fx, NULL, LIMITS, NULL, true);
    struct hlt_session *s = fx_login(&fx, "pump", 3600, NULL);
    struct hlt_session *other = fx_login(&fx, "oven", 3600, NULL);
    ban("device pump", 60000);
    cr_expect(s->barred && s->online, "the kick follows a tick after the reason");
    cr_expect(fx_count(&fx, "devices/pump/event", "\"banned\"") == 2, "to all, and to itself");
    fx_advance(&fx, 900);
    cr_expect(!s->online && fx_count_kind(&fx, HLT_ACT_KICK) == 1);
    for (size_t i = 0; i < fx.said_count; i++) {
        cr_expect(fx.said[i].kind != HLT_ACT_KICK || !fx.said[i].with_will);
    }
    cr_expect_str_eq(fx_field(&fx, "devices/pump/event", "reason"), "banned");
    cr_expect(other->online && !other->barred);
    cr_expect(try_login("pump", "198.51.100.1") == HLT_REASON_BANNED, "from wherever");
    cr_expect(!admitted("198.51.100.1", "pump"), "nor is a signature checked in its name");
    fx_advance(&fx, 60000);
    cr_expect(!s->barred, "its queue works again once the ban is over");
    cr_expect(try_login("pump", "198.51.100.1") == HLT_REASON_OK);
    fx_end(&fx);
}

Test(guard, in_prefix_mode_a_ban_ends_every_session_of_the_device)
{
    static const char *const options[] = {"client_id_match", "prefix", NULL};
    static const struct {
        const char *client_id, *sub;
    } rows[] = {{"pump:1", "pump"}, {"pump:2", "pump"}, {"pump", "pump"}, {"pumpe:1", "pumpe"}};
    struct hlt_session *session[4];

    fx_begin(&fx, NULL, options, NULL, true);
    for (size_t i = 0; i < 4; i++) {
        struct hlt_login login = {.client = &session[i], .client_id = rows[i].client_id};
        struct hlt_claims *claims = fx_claims(rows[i].sub, FX_START_MS / 1000 + 3600, NULL);
        cr_assert(hlt_engine_login(fx.engine, fx.now, &login, claims, &session[i]) ==
                  HLT_REASON_OK);
    }
    ban("device pump", 60000);
    for (size_t i = 0; i < 4; i++) {
        cr_expect(session[i]->barred == (i < 3), "%s", rows[i].client_id);
    }
    fx_end(&fx);
}

Test(guard, a_renewal_does_not_outrun_a_ban)
{
    fx_begin(&fx, NULL, LIMITS, NULL, true);
    struct hlt_session *s = fx_login(&fx, "pump", 60, NULL);
    ban("device pump", 60000);
    struct hlt_claims *fresh = fx_claims("pump", FX_START_MS / 1000 + 5000, NULL);
    cr_expect(hlt_engine_renew(fx.engine, fx.now, s, fresh, NULL) == HLT_REASON_BANNED);
    hlt_claims_free(fresh);
    fx_end(&fx);
}

Test(guard, a_banned_address_loses_no_session_and_takes_tokens_seen_before)
{
    fx_begin(&fx, NULL, LIMITS, NULL, true);
    struct hlt_session *s = fx_login(&fx, "pump", 3600, NULL); /* from 192.0.2.7 */
    ban("address 192.0.2.7", HLT_BAN_FOREVER);
    fx_advance(&fx, 2000);
    cr_expect(s->online && !s->barred);
    cr_expect(!admitted("192.0.2.7", "pump"));
    cr_expect(try_login("oven", "192.0.2.7") == HLT_REASON_OK, "the caller had no need to ask");
    cr_expect(unban("address 192.0.2.7") == HLT_OK);
    cr_expect(admitted("192.0.2.7", "pump"));
    cr_expect(unban("address 192.0.2.7") == HLT_ENOTFOUND);
    fx_end(&fx);
}

Test(guard, an_admins_ban_is_not_shortened_by_failures)
{
    fx_begin(&fx, NULL, LIMITS, NULL, true);
    ban("address 192.0.2.7", HLT_BAN_FOREVER);
    for (int i = 0; i < 20; i++) {
        fail_as("192.0.2.7", NULL, HLT_REASON_SIGNATURE);
    }
    fx_advance(&fx, 120000);
    cr_expect(!admitted("192.0.2.7", "d1"));
    fx_end(&fx);
}

/* --- the store --- */

static struct hlt_store *open_store(const char *path)
{
    struct hlt_store_config config = {.path = path};
    struct hlt_store *store = NULL;
    struct hlt_err err = {""};

    cr_assert(hlt_store_open(&store, &config, NULL, NULL, &err) == HLT_OK, "%s", err.msg);
    return store;
}

Test(guard, bans_survive_a_restart_with_their_end_and_author)
{
    char path[] = "/tmp/haltere-guard-XXXXXX", command[64];

    cr_assert(mkdtemp(path) != NULL);
    struct hlt_store *store = open_store(path);
    fx_begin(&fx, NULL, LIMITS, store, true);
    fx_login(&fx, "pump", 3600, NULL);
    ban("device pump", HLT_BAN_FOREVER);
    ban("address 192.0.2.7", 60000);
    ban("address 192.0.2.8", 60000);
    ban("login 192.0.2.9 d1", 10000);
    cr_expect(unban("address 192.0.2.8") == HLT_OK);
    fx_advance(&fx, 1000);
    hlt_engine_flush(fx.engine, fx.now);
    fx_end(&fx);
    hlt_store_close(store);

    store = open_store(path);
    fx_begin(&fx, NULL, LIMITS, store, true); /* the same wall clock again */
    cr_expect(!admitted("192.0.2.7", "x"));
    cr_expect(admitted("192.0.2.8", "x"));
    cr_expect(!admitted("192.0.2.9", "d1"));
    cr_expect(try_login("pump", "198.51.100.1") == HLT_REASON_BANNED);
    const struct hlt_session *s = hlt_engine_session_by_id(fx.engine, "pump");
    cr_assert(s != NULL);
    cr_expect(s->barred, "nothing is queued for it");
    cr_expect_str_eq(hlt_engine_ban_at(fx.engine, 0)->author, "boss");
    fx_advance(&fx, 61000);
    cr_expect(admitted("192.0.2.7", "x") && admitted("192.0.2.9", "d1"));
    cr_expect(try_login("pump", "198.51.100.1") == HLT_REASON_BANNED);
    cr_expect(hlt_engine_ban_at(fx.engine, 1) == NULL);
    fx_end(&fx);
    hlt_store_close(store);
    snprintf(command, sizeof(command), "rm -r %s", path);
    cr_expect(system(command) == 0);
}

/* --- memory --- */

/* Allocated bytes, after what waits for the store has been handed over. */
static size_t in_use(void)
{
    fx_advance(&fx, 120000);
    fx_forget_said(&fx);
    const struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* A login as `id` from address number `place` is refused; time goes on. */
static void stranger(uint32_t place, uint32_t number)
{
    char address[32], id[32];

    snprintf(address, sizeof(address), "%u.%u.%u.%u", 1 + (place >> 24), place >> 16 & 255,
             place >> 8 & 255, place & 255);
    snprintf(id, sizeof(id), "stranger-%u", number);
    struct hlt_refusal refusal = {
        .reason = HLT_REASON_SIGNATURE, .client_id = id, .address = address};
    hlt_engine_refused(fx.engine, fx.now, &refusal);
    if (number % 1000 == 0) {
        fx_advance(&fx, 100);
        fx_forget_said(&fx);
    }
}

/* The store's writer keeps the pages of its largest batch, and batches grow where the disk is
 * behind: 4 MiB more were seen once, on a loaded machine. Eight bytes a stranger would be 80 MB. */
#define SLACK (32u << 20)

#ifdef __SANITIZE_ADDRESS__ /* there mallinfo2() tells nothing: only for the sanitizer to watch */
#define STRANGERS 1000000u
#else
#define STRANGERS 10000000u
#endif

/* Ten million of them, every one under a name and at a place of its own, then as many places that
 * come often enough for a ban as make the table of bans go round five times. */
Test(guard, ten_million_strangers_leave_tables_of_fixed_size)
{
    char path[] = "/tmp/haltere-guard-XXXXXX", command[64];
    size_t early = 0, banned = 0;
    uint32_t i = 0;

    cr_assert(mkdtemp(path) != NULL);
    struct hlt_store *store = open_store(path);
    fx_begin(&fx, NULL, LIMITS, store, true);
    for (; i < STRANGERS; i++) {
        early = i == STRANGERS / 10 ? in_use() : early;
        stranger(i, i);
    }
    cr_expect(in_use() < early + SLACK, "%zu bytes more", in_use() - early);
    for (; i < STRANGERS + 8 * 5 * HLT_BANS_MAX; i++) {
        banned = i == STRANGERS + 8 * HLT_BANS_MAX ? in_use() : banned;
        stranger(i / 8, i);
    }
    cr_expect(in_use() < banned + SLACK, "%zu bytes more", in_use() - banned);
    cr_expect(hlt_engine_counters(fx.engine)->refused == i);
    cr_expect(hlt_engine_counters(fx.engine)->bans > 4 * HLT_BANS_MAX);
    cr_expect(hlt_engine_counters(fx.engine)->limits_evicted > 0);
    fx_end(&fx);
    hlt_store_close(store);
    snprintf(command, sizeof(command), "rm -r %s", path);
    cr_expect(system(command) == 0);
}

/* --- clones --- */

static size_t clones(void)
{
    return fx_count(&fx, "alerts/critical", "\"alertname\":\"clone\"");
}

Test(clone, two_addresses_that_take_over_from_each_other_are_named)
{
    fx_begin(&fx, NULL, LIMITS, NULL, true);
    for (int i = 0; i < 6; i++) {
        cr_expect(clones() == 0, "%d", i);
        cr_expect(try_login("pump", i % 2 ? "198.51.100.1" : "192.0.2.7") == HLT_REASON_OK);
        fx_advance(&fx, 30000);
    }
    cr_expect(clones() == 1);
    const char *message = fx_field(&fx, "alerts/critical", "message");
    cr_expect(strstr(message, "192.0.2.7, then 198.51.100.1") != NULL, "%s", message);
    cr_expect_str_eq(fx_field(&fx, "alerts/critical", "deviceId"), "pump");
    fx_end(&fx);
}

Test(clone, two_addresses_that_take_turns_are_seen_without_any_take_over)
{
    fx_begin(&fx, NULL, LIMITS, NULL, true);
    for (int i = 0; i < 10; i++) {
        const char *address = i % 2 ? "198.51.100.1" : "192.0.2.7";
        cr_expect(try_login("pump", address) == HLT_REASON_OK);
        const struct hlt_session *s = hlt_engine_session_by_id(fx.engine, "pump");
        hlt_engine_logout(fx.engine, fx.now, s->client, "pump", -1);
        fx_advance(&fx, 20000);
    }
    cr_expect(clones() == 1);
    fx_end(&fx);
}

Test(clone, a_quick_ping_pong_at_one_address_is_seen)
{
    fx_begin(&fx, NULL, LIMITS, NULL, true);
    for (int i = 0; i < 6; i++) {
        cr_expect(clones() == 0, "%d", i);
        cr_expect(try_login("pump", "192.0.2.7") == HLT_REASON_OK);
        fx_advance(&fx, 1000);
    }
    cr_expect(clones() == 1);
    fx_end(&fx);
}

Test(clone, a_device_that_reconnects_moves_or_loses_its_line_is_none)
{
    char address[32];

    fx_begin(&fx, NULL, LIMITS, NULL, true);
    for (int i = 0; i < 30; i++) { /* a dead line is noticed by nobody; it comes back each 15 s */
        cr_expect(try_login("dead-line", "192.0.2.7") == HLT_REASON_OK);
        cr_expect(try_login("quick", "192.0.2.7") == HLT_REASON_OK); /* with a DISCONNECT each */
        const struct hlt_session *s = hlt_engine_session_by_id(fx.engine, "quick");
        hlt_engine_logout(fx.engine, fx.now, s->client, "quick", -1);
        snprintf(address, sizeof(address), "198.51.100.%d", i + 1); /* on the road */
        cr_expect(try_login("mover", address) == HLT_REASON_OK);
        s = hlt_engine_session_by_id(fx.engine, "mover");
        hlt_engine_logout(fx.engine, fx.now, s->client, "mover", -1);
        fx_advance(&fx, 15000);
        fx_forget_said(&fx);
        cr_expect(hlt_engine_counters(fx.engine)->clones == 0, "%d", i);
    }
    fx_end(&fx);
}

Test(clone, clients_behind_a_trusted_proxy_are_not_told_apart_by_address)
{
    static const char *const options[] = {"trusted_proxies", "192.0.2.0/24", NULL};

    fx_begin(&fx, NULL, options, NULL, true);
    for (int i = 0; i < 10; i++) { /* two proxies in turn */
        cr_expect(try_login("pump", i % 2 ? "192.0.2.7" : "192.0.2.8") == HLT_REASON_OK);
        fx_advance(&fx, 15000);
    }
    cr_expect(hlt_engine_counters(fx.engine)->clones == 0);
    fx_end(&fx);
}

Test(clone, sessions_of_one_subject_at_two_addresses_are_seen)
{
    static const char *const options[] = {"client_id_match", "prefix", NULL};
    struct hlt_session *session;

    fx_begin(&fx, NULL, options, NULL, true);
    for (uintptr_t i = 0; i < 2; i++) {
        struct hlt_login login = {.client = (void *)(4096 + i * 64),
                                  .client_id = i ? "pump:b" : "pump:a",
                                  .address = i ? "198.51.100.1" : "192.0.2.7"};
        cr_expect(hlt_engine_login(fx.engine, fx.now, &login,
                                   fx_claims("pump", FX_START_MS / 1000 + 60, NULL),
                                   &session) == HLT_REASON_OK);
    }
    cr_expect(hlt_engine_counters(fx.engine)->clones == 1);
    fx_end(&fx);
}
