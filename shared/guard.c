/* guard.c - failed logins empty buckets, empty buckets make bans, bans stop signature work; and two
 * ends that use one identity are told apart. */
#include "guard.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"

#define SWEEP_A_TICK 64u
#define QUICK_MS                                                                                   \
    10000 /* a login so soon after the last that a client's own reconnect is taken back */
#define BACK_MS INT64_C(600000) /* an address is remembered so long as one it may come back to */

/* --- life --- */

static void add_network(struct hlt_network *list, size_t *count, const char *text)
{
    if (hlt_network_parse(&list[*count], text)) { /* always: options.c has looked */
        (*count)++;
    }
}

enum hlt_rc hlt_guard_init(struct hlt_guard *guard, const struct hlt_options *options)
{
    *guard = (struct hlt_guard){0};
    guard->changes_tail = &guard->changes;
    for (size_t i = 0; i < options->ban_exempt_count; i++) {
        if (strcmp(options->ban_exempt[i], HLT_OPTION_LOOPBACK) == 0) {
            add_network(guard->exempt, &guard->exempt_count, "127.0.0.0/8");
            add_network(guard->exempt, &guard->exempt_count, "::1");
        } else {
            add_network(guard->exempt, &guard->exempt_count, options->ban_exempt[i]);
        }
    }
    for (size_t i = 0; i < options->trusted_proxy_count; i++) {
        add_network(guard->proxy, &guard->proxy_count, options->trusted_proxies[i]);
    }
    if (options->auth_fail_burst > 0) {
        guard->limiter =
            hlt_limiter_new((uint32_t)options->auth_fail_burst, (uint32_t)options->auth_fail_rate);
        if (guard->limiter == NULL) {
            return HLT_ENOMEM;
        }
    }
    return hlt_bans_init(&guard->bans);
}

void hlt_guard_free(struct hlt_guard *guard)
{
    for (struct hlt_ban_change *change = guard->changes, *next; change != NULL; change = next) {
        next = change->next;
        free(change);
    }
    hlt_limiter_free(guard->limiter);
    hlt_bans_free(&guard->bans);
    *guard = (struct hlt_guard){0};
}

static bool in_list(const struct hlt_network *list, size_t count, const struct hlt_address *address)
{
    for (size_t i = 0; i < count; i++) {
        if (hlt_network_holds(&list[i], address)) {
            return true;
        }
    }
    return false;
}

/* Behind such an address stand clients that have nothing to do with each other, or we ourselves. */
static bool untouchable(const struct hlt_guard *guard, const struct hlt_address *address)
{
    return in_list(guard->exempt, guard->exempt_count, address) ||
           in_list(guard->proxy, guard->proxy_count, address);
}

/* --- the store --- */

static void note_change(struct hlt_engine *engine, const struct hlt_ban_subject *subject)
{
    struct hlt_guard *guard = &engine->guard;

    if (engine->store == NULL) {
        return;
    }
    struct hlt_ban_change *change =
        guard->change_count < HLT_BAN_CHANGES_MAX ? malloc(sizeof(*change)) : NULL;
    if (change == NULL) {
        engine->counters.store_busy++;
        return;
    }
    *change = (struct hlt_ban_change){.subject = *subject};
    *guard->changes_tail = change;
    guard->changes_tail = &change->next;
    guard->change_count++;
}

bool hlt_guard_change(struct hlt_engine *engine, char key[HLT_BAN_KEY_MAX], size_t *key_len,
                      uint8_t value[HLT_BAN_RECORD_MAX + 16], size_t *value_len)
{
    const struct hlt_ban_change *change = engine->guard.changes;
    uint8_t data[HLT_BAN_RECORD_MAX];

    if (change == NULL) {
        return false;
    }
    const struct hlt_ban *ban = hlt_bans_find(&engine->guard.bans, &change->subject, INT64_MIN);
    *key_len = hlt_ban_key(&change->subject, key);
    *value_len =
        ban != NULL ? hlt_blob_record_write(data, hlt_ban_record_write(ban, data), value) : 0;
    return true;
}

void hlt_guard_change_done(struct hlt_engine *engine)
{
    struct hlt_guard *guard = &engine->guard;
    struct hlt_ban_change *change = guard->changes;

    guard->changes = change->next;
    if (guard->changes == NULL) {
        guard->changes_tail = &guard->changes;
    }
    guard->change_count--;
    free(change);
}

/* A ban's end by the monotonic clock: setting the other one does not move it. */
static int64_t end_mono(const struct hlt_ban *ban, struct hlt_now now)
{
    return ban->until_ms == HLT_BAN_FOREVER ? INT64_MAX
                                            : now.mono_ms + (ban->until_ms - now.wall_ms);
}

bool hlt_guard_restore(struct hlt_engine *engine, struct hlt_now now, const void *key,
                       size_t key_len, const void *value, size_t len)
{
    struct hlt_ban ban, *evicted = NULL;
    const void *data;
    size_t data_len;

    if (hlt_blob_record_read(&data, &data_len, value, len) != HLT_OK ||
        hlt_ban_record_read(&ban, key, key_len, data, data_len) != HLT_OK) {
        return false;
    }
    ban.until_mono_ms = end_mono(&ban, now);
    (void)hlt_bans_add(&engine->guard.bans, &ban, &evicted); /* those over go with the sweep */
    free(evicted);
    return true;
}

/* --- banning --- */

static void touch_session(struct hlt_engine *engine, struct hlt_session *session, bool bar,
                          struct hlt_now now)
{
    if (bar) {
        hlt_session_bar(engine, session, HLT_GONE_BANNED, now);
    } else if (!session->online && session->gone == HLT_GONE_BANNED) {
        session->barred = false;
    }
}

/* Every session of a banned device ends; those of one whose ban is over may queue messages again.
 * Only with client_id_match prefix it may have others than that of its own name: many bans may end
 * in one tick, and each search through all sessions takes milliseconds. */
static void touch_sessions(struct hlt_engine *engine, const char *device_id, bool bar,
                           struct hlt_now now)
{
    const struct hlt_session_table *table = &engine->sessions;

    if (!engine->options->client_id_prefix) {
        struct hlt_session *session = hlt_engine_session_by_id(engine, device_id);
        if (session != NULL) {
            touch_session(engine, session, bar, now);
        }
        return;
    }
    for (uint64_t i = 0; i <= table->mask; i++) {
        for (struct hlt_session *session = table->by_id[i]; session != NULL;
             session = session->next_by_id) {
            if (strcmp(session->claims->sub, device_id) == 0) {
                touch_session(engine, session, bar, now);
            }
        }
    }
}

static struct hlt_ban_subject device_subject(const char *id)
{
    struct hlt_ban_subject subject = {.kind = HLT_BAN_DEVICE};

    (void)snprintf(subject.id, sizeof(subject.id), "%s", id);
    return subject;
}

bool hlt_engine_device_banned(const struct hlt_engine *engine, struct hlt_now now, const char *id)
{
    if (engine->guard.bans.by_kind[HLT_BAN_DEVICE] == 0 || strlen(id) > HLT_ID_MAX) {
        return false;
    }
    struct hlt_ban_subject subject = device_subject(id);
    return hlt_bans_find(&engine->guard.bans, &subject, now.mono_ms) != NULL;
}

void hlt_guard_restored(struct hlt_engine *engine, struct hlt_now now)
{
    const struct hlt_session_table *table = &engine->sessions;

    for (uint64_t i = 0; engine->guard.bans.by_kind[HLT_BAN_DEVICE] > 0 && i <= table->mask; i++) {
        for (struct hlt_session *session = table->by_id[i]; session != NULL;
             session = session->next_by_id) {
            if (hlt_engine_device_banned(engine, now, session->claims->sub)) {
                hlt_session_bar(engine, session, HLT_GONE_BANNED, now);
            }
        }
    }
}

static void full_alarm(struct hlt_engine *engine, struct hlt_now now)
{
    char text[192];

    (void)snprintf(text, sizeof(text),
                   "failed logins come from more places than the tables of limits (%u) and bans "
                   "(%u) hold: the oldest are forgotten; use a firewall",
                   HLT_LIMITER_BUCKETS, HLT_BANS_MAX);
    hlt_engine_system(engine, now, "limiter_full", text);
}

static void audit_ban(struct hlt_engine *engine, struct hlt_now now, const struct hlt_ban *ban,
                      const char *what)
{
    char address[HLT_ADDRESS_TEXT];

    hlt_address_format(&ban->subject.address, address);
    hlt_engine_audit(engine, now,
                     &(struct hlt_audit_event){.type = HLT_AUDIT_BAN,
                                               .subject = ban->subject.id,
                                               .address = address,
                                               .actor = ban->author,
                                               .reason = what,
                                               .detail = ban->reason});
}

/* False: there is no room. */
static bool put_ban(struct hlt_engine *engine, struct hlt_now now, const struct hlt_ban *ban)
{
    struct hlt_ban *evicted = NULL;
    enum hlt_rc rc = hlt_bans_add(&engine->guard.bans, ban, &evicted);

    if (evicted != NULL) {
        note_change(engine, &evicted->subject);
        free(evicted);
    }
    if (evicted != NULL || rc == HLT_EFULL) {
        engine->guard.bans_full = true;
        full_alarm(engine, now);
    }
    if (rc != HLT_OK) {
        return false;
    }
    engine->counters.bans++;
    note_change(engine, &ban->subject);
    audit_ban(engine, now, ban, "banned");
    if (ban->subject.kind == HLT_BAN_DEVICE) {
        touch_sessions(engine, ban->subject.id, true, now);
    }
    return true;
}

static void log_ban(struct hlt_engine *engine, const struct hlt_ban *ban, int64_t for_ms)
{
    char key[HLT_BAN_KEY_MAX], shown[2 * HLT_BAN_KEY_MAX], author[300], reason[300];

    (void)hlt_printable(shown, sizeof(shown), key, hlt_ban_key(&ban->subject, key));
    (void)hlt_printable(author, sizeof(author), ban->author, strlen(ban->author));
    (void)hlt_printable(reason, sizeof(reason), ban->reason, strlen(ban->reason));
    char length[32] = "for ever";
    if (for_ms != HLT_BAN_FOREVER) {
        (void)snprintf(length, sizeof(length), "for %" PRId64 " s", for_ms / 1000);
    }
    hlt_outbox_log(&engine->out, HLT_LOG_WARNING, "ban %s %s by %s%s%s", shown, length, author,
                   reason[0] != '\0' ? ": " : "", reason);
}

enum hlt_rc hlt_engine_ban(struct hlt_engine *engine, struct hlt_now now,
                           const struct hlt_ban_order *order, struct hlt_err *err)
{
    struct hlt_ban ban = {
        .subject = order->subject, .since_ms = now.wall_ms, .until_ms = HLT_BAN_FOREVER};

    if (order->subject.kind != HLT_BAN_DEVICE &&
        untouchable(&engine->guard, &order->subject.address)) {
        return hlt_fail(err, HLT_EINVAL,
                        "this address is in ban_exempt or trusted_proxies: it is never banned");
    }
    if (order->for_ms < INT64_MAX / 2) {
        ban.until_ms = now.wall_ms + order->for_ms;
    }
    ban.until_mono_ms = end_mono(&ban, now);
    (void)snprintf(ban.author, sizeof(ban.author), "%s", order->author);
    (void)snprintf(ban.reason, sizeof(ban.reason), "%s",
                   order->reason != NULL ? order->reason : "");
    if (!put_ban(engine, now, &ban)) {
        return hlt_fail(err, HLT_EFULL, "no room: %u bans are in force, none of them automatic",
                        HLT_BANS_MAX);
    }
    log_ban(engine, &ban, order->for_ms < INT64_MAX / 2 ? order->for_ms : HLT_BAN_FOREVER);
    return HLT_OK;
}

static void end_ban(struct hlt_engine *engine, struct hlt_now now, struct hlt_ban *ban)
{
    note_change(engine, &ban->subject);
    audit_ban(engine, now, ban, "ended");
    if (ban->subject.kind == HLT_BAN_DEVICE) {
        touch_sessions(engine, ban->subject.id, false, now);
    }
    free(ban);
}

enum hlt_rc hlt_engine_unban(struct hlt_engine *engine, struct hlt_now now,
                             const struct hlt_ban_subject *subject)
{
    struct hlt_ban *ban = hlt_bans_find(&engine->guard.bans, subject, now.mono_ms);

    if (ban == NULL) {
        return HLT_ENOTFOUND;
    }
    hlt_bans_take(&engine->guard.bans, ban);
    end_ban(engine, now, ban);
    return HLT_OK;
}

const struct hlt_ban *hlt_engine_ban_at(const struct hlt_engine *engine, size_t index)
{
    return index < engine->guard.bans.count ? engine->guard.bans.ban[index] : NULL;
}

/* --- logins --- */

/* The id a client claims, if it may be a device's. */
static const char *usable_id(const char *client_id)
{
    return client_id != NULL && hlt_id_valid(client_id, strlen(client_id), NULL) ? client_id : NULL;
}

enum hlt_reason hlt_engine_admit(struct hlt_engine *engine, struct hlt_now now, const char *address,
                                 const char *client_id)
{
    const struct hlt_bans *bans = &engine->guard.bans;
    struct hlt_ban_subject subject = {.kind = HLT_BAN_ADDRESS};

    if (bans->count == 0) {
        return HLT_REASON_OK;
    }
    const char *id = usable_id(client_id);
    if (id != NULL && hlt_engine_device_banned(engine, now, id)) {
        return HLT_REASON_BANNED;
    }
    if (!hlt_address_parse(&subject.address, address) ||
        untouchable(&engine->guard, &subject.address)) {
        return HLT_REASON_OK;
    }
    if (hlt_bans_find(bans, &subject, now.mono_ms) != NULL) {
        return HLT_REASON_BANNED;
    }
    if (id == NULL || bans->by_kind[HLT_BAN_LOGIN] == 0) {
        return HLT_REASON_OK;
    }
    subject.kind = HLT_BAN_LOGIN;
    (void)snprintf(subject.id, sizeof(subject.id), "%s", id);
    return hlt_bans_find(bans, &subject, now.mono_ms) != NULL ? HLT_REASON_BANNED : HLT_REASON_OK;
}

static void ban_for_failures(struct hlt_engine *engine, struct hlt_now now,
                             const struct hlt_ban_subject *subject)
{
    int64_t for_ms = engine->options->ban_time_s * 1000;
    struct hlt_ban ban = {.subject = *subject,
                          .since_ms = now.wall_ms,
                          .until_ms = now.wall_ms + for_ms,
                          .until_mono_ms = now.mono_ms + for_ms,
                          .automatic = true,
                          .author = HLT_BAN_AUTOMATIC,
                          .reason = "too many failed logins"};

    if (hlt_bans_find(&engine->guard.bans, subject, now.mono_ms) == NULL &&
        put_ban(engine, now, &ban) && hlt_engine_may_log(engine, now)) {
        log_ban(engine, &ban, for_ms);
    }
}

/* Refusals that are no fault of the client, or that follow from a ban. */
static bool counts(enum hlt_reason reason)
{
    switch (reason) {
    case HLT_REASON_OK:
    case HLT_REASON_BANNED:
    case HLT_REASON_CLOCK_UNSET:
    case HLT_REASON_SESSIONS_FULL:
    case HLT_REASON_INTERNAL: return false;
    default: return true;
    }
}

void hlt_guard_failed(struct hlt_engine *engine, struct hlt_now now,
                      const struct hlt_refusal *refusal)
{
    struct hlt_guard *guard = &engine->guard;
    struct hlt_ban_subject subject = {.kind = HLT_BAN_ADDRESS};

    if (guard->limiter == NULL || !counts(refusal->reason) ||
        !hlt_address_parse(&subject.address, refusal->address) ||
        untouchable(guard, &subject.address)) {
        return;
    }
    const char *id = usable_id(refusal->client_id);
    switch (hlt_limiter_fail(guard->limiter, now.mono_ms, &subject.address, id)) {
    case HLT_LIMIT_OK: break;
    case HLT_LIMIT_ADDRESS: ban_for_failures(engine, now, &subject); break;
    case HLT_LIMIT_LOGIN:
        subject.kind = HLT_BAN_LOGIN;
        (void)snprintf(subject.id, sizeof(subject.id), "%s", id != NULL ? id : "");
        ban_for_failures(engine, now, &subject);
        break;
    }
    engine->counters.limits_evicted = hlt_limiter_evicted(guard->limiter);
    if (engine->counters.limits_evicted != guard->evicted_told) {
        full_alarm(engine, now);
    }
}

/* --- time --- */

void hlt_guard_tick(struct hlt_engine *engine, struct hlt_now now)
{
    unsigned budget = SWEEP_A_TICK;
    struct hlt_ban *ban;

    while ((ban = hlt_bans_sweep(&engine->guard.bans, now.mono_ms, &budget)) != NULL) {
        end_ban(engine, now, ban);
    }
}

void hlt_guard_heartbeat(struct hlt_engine *engine, struct hlt_now now)
{
    struct hlt_guard *guard = &engine->guard;

    if (!guard->bans_full && engine->counters.limits_evicted == guard->evicted_told) {
        hlt_engine_system(engine, now, "limiter_full", NULL);
    }
    guard->evicted_told = engine->counters.limits_evicted;
    guard->bans_full = false;
}

/* --- clones --- */

static bool same_place(const char *a, const char *b)
{
    struct hlt_address left, right;

    if (a != NULL && b != NULL && strcmp(a, b) == 0) {
        return true; /* nearly always: reading two addresses costs 0.3 us */
    }
    if (!hlt_address_parse(&left, a) || !hlt_address_parse(&right, b)) {
        return false;
    }
    return hlt_address_same(&left, &right);
}

/* Behind a proxy all clients share its address: it says nothing about where one is. */
static bool known_place(const struct hlt_engine *engine, const char *text)
{
    struct hlt_address address;

    return hlt_address_parse(&address, text) &&
           !in_list(engine->guard.proxy, engine->guard.proxy_count, &address);
}

/* What this login looks like; NULL: nothing odd. A device that moves takes over its own dead
 * connection now and then; two that share a token do it again and again, and both come back. */
static const char *clone_sign(const struct hlt_engine *engine, struct hlt_now now,
                              const struct hlt_device *device, const struct hlt_session *session,
                              const char *address)
{
    int64_t since_ms = now.mono_ms - device->login_mono_ms;
    bool moved = !same_place(address, device->address) && known_place(engine, address) &&
                 known_place(engine, device->address);

    if (device->login_mono_ms == 0) {
        return NULL; /* the first login since the start */
    }
    if (moved && device->sessions > 0) {
        return "used from two addresses at once";
    }
    if (moved && since_ms < BACK_MS && device->address_before != NULL &&
        same_place(address, device->address_before)) {
        return "used from two addresses in turn";
    }
    if (!moved && session != NULL && session->online && since_ms < QUICK_MS) {
        return "its connection is taken over again and again";
    }
    return NULL;
}

void hlt_guard_login(struct hlt_engine *engine, struct hlt_now now, struct hlt_device *device,
                     const struct hlt_session *session, const char *address)
{
    const char *sign = clone_sign(engine, now, device, session, address);
    const struct hlt_rule *rule = hlt_engine_rule_for(engine->clone, device);
    char before[80], after[80], text[256];

    if (sign != NULL) {
        engine->counters.clones++;
    }
    if (sign != NULL && rule != NULL) {
        const char *from = device->address != NULL ? device->address : "-";
        const char *to = address != NULL ? address : "-";
        (void)hlt_printable(before, sizeof(before), from, strlen(from));
        (void)hlt_printable(after, sizeof(after), to, strlen(to));
        (void)snprintf(text, sizeof(text), "the identity is %s: %s, then %s", sign, before, after);
        struct hlt_observation seen = {
            .value = NAN, .expected = NAN, .threshold = NAN, .score = NAN, .text = text};
        hlt_alert_count(engine, rule, device, &seen, now);
    }
    if (address != NULL && device->address != NULL && !same_place(address, device->address)) {
        hlt_string_set(&device->address_before, device->address);
    }
    device->login_mono_ms = now.mono_ms > 0 ? now.mono_ms : 1;
}
