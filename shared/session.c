/* session.c - who is logged in, by client id and by the broker's pointer, and how a session ends.
 *
 * Identity lives as long as the MQTT session may: wills, queued messages and SIGHUP ask about
 * clients that are gone (facts: mosquitto plugin, 0.4, 0.5; DESIGN 11.1 to 11.7). */
#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"

#define EXPIRED_RECHECK_MS 30000 /* the wall clock may be set: look at exp at least this often */
#define OFFLINE_RECHECK_MS 3600000
#define KICK_RETRY_MS 1000

/* How far the end of a session has come. */
enum phase {
    PHASE_OPEN,    /* nothing to do before exp */
    PHASE_TOLD,    /* the reason was published; the kick follows a tick later (11.4) */
    PHASE_LEFT,    /* gone; availability and event wait one tick for a will (11.21) */
    PHASE_OFFLINE, /* gone and told */
};

/* --- tables --- */

enum hlt_rc hlt_sessions_init(struct hlt_session_table *table, uint32_t max)
{
    uint64_t buckets = 1024;

    memset(table, 0, sizeof(*table));
    while (buckets < max) {
        buckets *= 2;
    }
    table->mask = buckets - 1;
    table->max = max;
    table->by_id = calloc(buckets, sizeof(struct hlt_session *));
    table->by_client = calloc(buckets, sizeof(struct hlt_session *));
    return table->by_id != NULL && table->by_client != NULL ? HLT_OK : HLT_ENOMEM;
}

static struct hlt_session **id_bucket(const struct hlt_engine *engine, const char *client_id)
{
    uint64_t hash = hlt_hash(&engine->devices.key, client_id, strlen(client_id));

    return &engine->sessions.by_id[hash & engine->sessions.mask];
}

/* Pointers are the broker's, not the client's to choose: a multiplication is hash enough
 * (Knuth 6.4). */
static struct hlt_session **client_bucket(const struct hlt_engine *engine, const void *client)
{
    uint64_t hash = ((uint64_t)(uintptr_t)client >> 4) * UINT64_C(0x9E3779B97F4A7C15);

    return &engine->sessions.by_client[(hash >> 20) & engine->sessions.mask];
}

struct hlt_session *hlt_engine_session_by_id(struct hlt_engine *engine, const char *client_id)
{
    struct hlt_session *session = *id_bucket(engine, client_id);

    while (session != NULL && strcmp(session->client_id, client_id) != 0) {
        session = session->next_by_id;
    }
    return session;
}

struct hlt_session *hlt_engine_session(struct hlt_engine *engine, const void *client,
                                       const char *client_id)
{
    struct hlt_session *session = *client_bucket(engine, client);

    while (session != NULL && session->client != client) {
        session = session->next_by_client;
    }
    if (session == NULL || !session->online || client_id == NULL ||
        strcmp(session->client_id, client_id) != 0) {
        return NULL; /* addresses are reused at once by other clients */
    }
    return session;
}

static void unlink_client(struct hlt_engine *engine, struct hlt_session *session)
{
    if (session->client == NULL) {
        return;
    }
    struct hlt_session **link = client_bucket(engine, session->client);
    while (*link != NULL && *link != session) {
        link = &(*link)->next_by_client;
    }
    if (*link == session) {
        *link = session->next_by_client;
    }
    session->client = NULL;
}

static void link_client(struct hlt_engine *engine, struct hlt_session *session, const void *client)
{
    struct hlt_session **bucket = client_bucket(engine, client);

    /* The broker gave this address to a new client: the one that had it is gone. */
    for (struct hlt_session *old = *bucket, *next; old != NULL; old = next) {
        next = old->next_by_client;
        if (old->client == client && old != session) {
            unlink_client(engine, old);
        }
    }
    unlink_client(engine, session);
    if (client == NULL) {
        return;
    }
    session->client = client;
    session->next_by_client = *bucket;
    *bucket = session;
}

static void offline_append(struct hlt_session_table *table, struct hlt_session *session)
{
    session->older = table->newest_offline;
    session->newer = NULL;
    if (table->newest_offline != NULL) {
        table->newest_offline->newer = session;
    } else {
        table->oldest_offline = session;
    }
    table->newest_offline = session;
}

static void offline_remove(struct hlt_session_table *table, struct hlt_session *session)
{
    if (session->older != NULL) {
        session->older->newer = session->newer;
    } else {
        table->oldest_offline = session->newer;
    }
    if (session->newer != NULL) {
        session->newer->older = session->older;
    } else {
        table->newest_offline = session->older;
    }
    session->older = session->newer = NULL;
}

static void session_dirty(struct hlt_engine *engine, struct hlt_session *session)
{
    if (engine->store != NULL && !session->dirty) {
        session->dirty = true;
        session->next_dirty = engine->dirty_sessions;
        engine->dirty_sessions = session;
    }
}

static void release(struct hlt_engine *engine, struct hlt_session *session)
{
    if (session->view != NULL && engine->view_free != NULL) {
        engine->view_free(session->view);
    }
    if (session->meter != NULL && engine->meter_free != NULL) {
        engine->meter_free(session->meter);
    }
    hlt_claims_free(session->claims);
    free(session->client_id);
    free(session);
}

void hlt_session_drop(struct hlt_engine *engine, struct hlt_session *session)
{
    struct hlt_session **link = id_bucket(engine, session->client_id);

    while (*link != session) {
        link = &(*link)->next_by_id;
    }
    *link = session->next_by_id;
    unlink_client(engine, session);
    if (!session->online) {
        offline_remove(&engine->sessions, session);
    }
    if (session->dirty) {
        for (link = &engine->dirty_sessions; *link != session; link = &(*link)->next_dirty) {
        }
        *link = session->next_dirty;
    }
    hlt_timer_cancel(&session->timer);
    hlt_engine_forget_record(engine, HLT_DB_IDENTITIES, session->client_id,
                             strlen(session->client_id));
    engine->sessions.count--;
    release(engine, session);
}

void hlt_sessions_free(struct hlt_engine *engine)
{
    struct hlt_session_table *table = &engine->sessions;

    for (uint64_t i = 0; table->by_id != NULL && i <= table->mask; i++) {
        for (struct hlt_session *session = table->by_id[i], *next; session != NULL;
             session = next) {
            next = session->next_by_id;
            release(engine, session);
        }
    }
    free(table->by_id);
    free(table->by_client);
    memset(table, 0, sizeof(*table));
}

/* A new, offline session; the oldest offline one makes room. NULL: all are online, or no memory. */
static struct hlt_session *session_new(struct hlt_engine *engine, const char *client_id)
{
    struct hlt_session_table *table = &engine->sessions;

    if (table->count >= table->max) {
        if (table->oldest_offline == NULL) {
            engine->counters.sessions_refused++;
            return NULL;
        }
        engine->counters.sessions_evicted++;
        hlt_session_drop(engine, table->oldest_offline);
    }
    struct hlt_session *session = calloc(1, sizeof(*session));
    char *copy = session != NULL ? strdup(client_id) : NULL;
    if (copy == NULL) {
        free(session);
        return NULL;
    }
    struct hlt_session **bucket = id_bucket(engine, client_id);
    session->client_id = copy;
    session->timer.kind = HLT_TIMER_SESSION;
    session->phase = PHASE_OFFLINE;
    session->next_by_id = *bucket;
    *bucket = session;
    table->count++;
    offline_append(table, session);
    return session;
}

/* --- logging in --- */

static bool id_matches(const struct hlt_engine *engine, const char *client_id, const char *sub)
{
    size_t len = strlen(sub);

    if (!engine->options->client_id_prefix) {
        return strcmp(client_id, sub) == 0;
    }
    return strncmp(client_id, sub, len) == 0 && (client_id[len] == '\0' || client_id[len] == ':');
}

static int64_t ends_at(const struct hlt_engine *engine, const struct hlt_claims *claims,
                       int64_t wall_ms)
{
    int64_t exp_ms = claims->exp_s < INT64_MAX / 2000 ? claims->exp_s * 1000 : INT64_MAX;

    if (exp_ms <= wall_ms) { /* let in by leeway: it lasts as long as the leeway does */
        exp_ms += engine->options->leeway_s * 1000;
    }
    return exp_ms;
}

static void adopt_claims(struct hlt_engine *engine, struct hlt_session *session,
                         struct hlt_claims *claims, struct hlt_now now)
{
    session->rebind = true;
    hlt_claims_free(session->claims);
    session->claims = claims;
    session->ends_wall_ms = ends_at(engine, claims, now.wall_ms);
    session->noticed = false;
    session->judged = engine->revocations.generation; /* it was, just before */
    session->seen_wall_ms = now.wall_ms;
    session->device->token_exp_s = claims->has_exp ? claims->exp_s : 0;
    hlt_string_set(&session->device->device_class, claims->device_class);
    session_dirty(engine, session);
    hlt_engine_dirty(engine, session->device);
}

/* The device of a token; NULL only when max_devices is reached. */
static struct hlt_device *device_of(struct hlt_engine *engine, const struct hlt_claims *claims,
                                    struct hlt_now now)
{
    struct hlt_device *device = hlt_device_find(&engine->devices, claims->sub, claims->sub_len);

    if (device == NULL) {
        device = hlt_device_add(&engine->devices, claims->sub, claims->sub_len);
        if (device == NULL) {
            engine->counters.devices_refused++;
            hlt_engine_system(engine, now, "devices_full",
                              "max_devices is reached: new devices are not tracked");
            return NULL;
        }
        device->first_seen_ms = now.wall_ms;
        device->seen_mono_ms = now.mono_ms;
    }
    device->has_token = true;
    return device;
}

static void went_online(struct hlt_engine *engine, struct hlt_session *session, struct hlt_now now)
{
    struct hlt_device *device = session->device;

    offline_remove(&engine->sessions, session);
    session->online = true;
    engine->sessions.online++;
    if (device->sessions++ == 0) {
        engine->online++;
        device->since_ms = now.wall_ms;
    }
}

static void went_offline(struct hlt_engine *engine, struct hlt_session *session)
{
    session->online = false;
    engine->sessions.online--;
    offline_append(&engine->sessions, session);
    if (--session->device->sessions == 0) {
        engine->online--;
    }
}

static void say_gone(struct hlt_engine *engine, struct hlt_session *session, struct hlt_now now)
{
    struct hlt_device *device = session->device;

    session->phase = PHASE_OFFLINE;
    device->disconnect_reason = session->gone;
    hlt_engine_event(engine, now, device, "disconnected", hlt_disconnect_word(session->gone),
                     session->client_id);
    hlt_engine_availability(engine, device);
    hlt_engine_dirty(engine, device);
}

static void note_login(struct hlt_session *session, const struct hlt_login *login,
                       struct hlt_now now)
{
    memset(session->secret, 0, sizeof(session->secret));
    if (login->secret != NULL) {
        memcpy(session->secret, login->secret, sizeof(session->secret));
    }
    memset(session->address, 0, sizeof(session->address));
    if (login->address != NULL) {
        strncpy(session->address, login->address, sizeof(session->address) - 1);
    }
    session->durable = login->durable;
    session->enhanced = login->enhanced;
    session->protocol = (uint16_t)login->protocol;
    session->keepalive_s = (uint16_t)login->keepalive_s;
    session->connected_mono_ms = now.mono_ms;
    session->phase = PHASE_OPEN;
    session->gone = HLT_GONE_NONE;
    session->barred = session->kicking = session->confirmed = false;
    session->children = 0;
}

/* The old connection of the same id, if there is one: the broker tells of its end only after the
 * new login. */
static void end_previous(struct hlt_engine *engine, struct hlt_session *session, struct hlt_now now)
{
    if (session->online) {
        went_offline(engine, session);
        session->gone = HLT_GONE_DUPLICATE;
        say_gone(engine, session, now);
    } else if (session->phase == PHASE_LEFT) {
        say_gone(engine, session, now);
    }
}

enum hlt_reason hlt_engine_login(struct hlt_engine *engine, struct hlt_now now,
                                 const struct hlt_login *login, struct hlt_claims *claims,
                                 struct hlt_session **out)
{
    struct hlt_session *session;

    *out = NULL;
    if (engine->options->client_id_prefix && strchr(claims->sub, ':') != NULL) {
        return HLT_REASON_SUBJECT; /* "d1:a" is a session of d1 and of nobody else (11.9) */
    }
    if (login->client_id == NULL || !id_matches(engine, login->client_id, claims->sub)) {
        return HLT_REASON_CLIENT_ID;
    }
    if (hlt_revocations_bar(&engine->revocations, claims, now.wall_ms, NULL)) {
        return HLT_REASON_REVOKED;
    }
    if (hlt_engine_device_banned(engine, now, claims->sub)) {
        return HLT_REASON_BANNED;
    }
    struct hlt_device *device = device_of(engine, claims, now);
    if (device == NULL) {
        return HLT_REASON_SESSIONS_FULL;
    }
    session = hlt_engine_session_by_id(engine, login->client_id);
    if (session == NULL && device->sessions >= HLT_SESSIONS_PER_SUB) {
        engine->counters.sessions_refused++;
        return HLT_REASON_SESSIONS_FULL;
    }
    if (session == NULL) {
        session = session_new(engine, login->client_id);
        if (session == NULL) {
            hlt_engine_system(engine, now, "sessions_full",
                              "max_sessions are online: new logins are refused");
            return HLT_REASON_SESSIONS_FULL;
        }
        session->device = device;
    }
    hlt_guard_login(engine, now, device, session, login->address);
    end_previous(engine, session, now);
    session->device = device;
    note_login(session, login, now);
    session->login = ++engine->sessions.login;
    link_client(engine, session, login->client);
    went_online(engine, session, now);
    adopt_claims(engine, session, claims, now);
    hlt_string_set(&device->address, session->address);
    device->last_connect_ms = now.wall_ms;
    device->connects++;
    engine->counters.logins++;
    hlt_keyuse_count(engine->keys, claims->kid, claims->alg, now.wall_ms);
    hlt_engine_event(engine, now, device, "connected", NULL, session->client_id);
    hlt_engine_availability(engine, device);
    hlt_engine_watch_silence(engine, device, now);
    hlt_health_update(engine, device, now, true);
    hlt_session_timer(engine, session, now);
    hlt_engine_audit_token(engine, now, HLT_AUDIT_LOGIN, session);
    *out = session;
    return HLT_REASON_OK;
}

enum hlt_reason hlt_engine_renew(struct hlt_engine *engine, struct hlt_now now,
                                 struct hlt_session *session, struct hlt_claims *claims,
                                 const uint8_t *secret)
{
    if (strcmp(claims->sub, session->claims->sub) != 0) {
        return HLT_REASON_CLIENT_ID;
    }
    if (session->barred) { /* a new token does not stop the kick that is on its way */
        return session->gone == HLT_GONE_BANNED ? HLT_REASON_BANNED : HLT_REASON_REVOKED;
    }
    if (claims->bound != session->claims->bound ||
        memcmp(claims->certificate_sha256, session->claims->certificate_sha256,
               sizeof(claims->certificate_sha256)) != 0) {
        return HLT_REASON_BINDING;
    }
    if (hlt_revocations_bar(&engine->revocations, claims, now.wall_ms, NULL)) {
        return HLT_REASON_REVOKED;
    }
    if (claims->iat_s < session->claims->iat_s) {
        return HLT_REASON_OLDER;
    }
    adopt_claims(engine, session, claims, now);
    if (secret != NULL && session->enhanced) {
        memcpy(session->secret, secret, sizeof(session->secret));
    }
    session->phase = PHASE_OPEN;
    session->gone = HLT_GONE_NONE;
    engine->counters.renewals++;
    hlt_keyuse_count(engine->keys, claims->kid, claims->alg, now.wall_ms);
    hlt_engine_event(engine, now, session->device, "token_renewed", NULL, session->client_id);
    hlt_engine_audit_token(engine, now, HLT_AUDIT_RENEWAL, session);
    hlt_session_timer(engine, session, now);
    return HLT_REASON_OK;
}

/* --- leaving --- */

static uint8_t gone_reason(const struct hlt_session *session, int mqtt_reason)
{
    if (session->gone != HLT_GONE_NONE) {
        return session->gone; /* we kicked it and know why */
    }
    switch (mqtt_reason) { /* 2.1 tells; 2.0 always says -1 (facts: DISCONNECT) */
    case 0: return HLT_GONE_CLIENT;
    case 7:
    case 19: return HLT_GONE_LOST; /* MOSQ_ERR_CONN_LOST, MOSQ_ERR_KEEPALIVE */
    case 142: return HLT_GONE_DUPLICATE;
    default: return HLT_GONE_UNKNOWN;
    }
}

void hlt_engine_logout(struct hlt_engine *engine, struct hlt_now now, const void *client,
                       const char *client_id, int mqtt_reason)
{
    struct hlt_session *session = hlt_engine_session(engine, client, client_id);

    if (session == NULL) {
        return;
    }
    session->gone = gone_reason(session, mqtt_reason);
    went_offline(engine, session);
    session->phase = PHASE_LEFT;
    session->seen_wall_ms = now.wall_ms;
    session->device->last_disconnect_ms = now.wall_ms;
    session_dirty(engine, session);
    hlt_timer_set(&engine->wheel, &session->timer, now.mono_ms);
}

void hlt_engine_will_seen(struct hlt_engine *engine, struct hlt_now now,
                          struct hlt_session *session)
{
    if (session->phase == PHASE_LEFT && session->gone == HLT_GONE_UNKNOWN) {
        session->gone = HLT_GONE_LOST;
        hlt_timer_set(&engine->wheel, &session->timer, now.mono_ms + 1);
    }
}

bool hlt_session_expired(const struct hlt_session *session, int64_t wall_ms)
{
    return wall_ms >= session->ends_wall_ms;
}

bool hlt_engine_id_reserved(const struct hlt_engine *engine, const char *id)
{
    const struct hlt_device *device = hlt_device_find(&engine->devices, id, strlen(id));

    return device != NULL && device->has_token;
}

void hlt_engine_on_meter_free(struct hlt_engine *engine, void (*free_meter)(void *meter))
{
    engine->meter_free = free_meter;
}

void hlt_engine_on_view_free(struct hlt_engine *engine, void (*free_view)(void *view))
{
    engine->view_free = free_view;
}

/* --- time --- */

static void tell_expiring(struct hlt_engine *engine, struct hlt_session *session,
                          struct hlt_now now, const char *type)
{
    char topic[HLT_TOPIC_MAX];
    struct hlt_event event = {.type = type, .client_id = session->client_id};

    session->told_tick = engine->counters.ticks;
    hlt_engine_event(engine, now, session->device, type, NULL, session->client_id);
    hlt_engine_device_topic(engine, session->device, "event", topic);
    hlt_outbox_publish(&engine->out, topic,
                       hlt_document_event(session->device, &event, now.wall_ms), 0, false, true,
                       session->client_id);
}

void hlt_session_bar(struct hlt_engine *engine, struct hlt_session *session, uint8_t gone,
                     struct hlt_now now)
{
    if (session->barred) {
        return;
    }
    session->barred = true;
    session->gone = gone;
    session_dirty(engine, session);
    if (session->online) {
        session->phase = PHASE_TOLD;
        tell_expiring(engine, session, now, hlt_disconnect_word(gone));
        hlt_timer_set(&engine->wheel, &session->timer, now.mono_ms);
    }
}

static int64_t kick(struct hlt_engine *engine, const struct hlt_session *session,
                    struct hlt_now now)
{
    engine->counters.kicks++;
    hlt_outbox_kick(&engine->out, session->client_id, session->login, !session->barred);
    return now.mono_ms + KICK_RETRY_MS;
}

/* The broker hands on what was published between two ticks, so that the first one after the telling
 * may still come before it: a kick then would take the reason from the client. */
static bool told_by_now(const struct hlt_engine *engine, const struct hlt_session *session)
{
    return engine->counters.ticks >= session->told_tick + 2;
}

static int64_t online_due(struct hlt_engine *engine, struct hlt_session *session,
                          struct hlt_now now)
{
    int64_t left = session->ends_wall_ms - now.wall_ms;
    int64_t notice = engine->options->expiry_notice_s * 1000;

    if (session->barred) {
        return told_by_now(engine, session) ? kick(engine, session, now) : now.mono_ms + 1;
    }
    if (left > 0) {
        if (notice > 0 && !session->noticed && left <= notice) {
            session->noticed = true;
            tell_expiring(engine, session, now, "token_expiring");
        }
        int64_t next = notice > 0 && !session->noticed ? left - notice : left;
        return now.mono_ms + (next < EXPIRED_RECHECK_MS ? next : EXPIRED_RECHECK_MS);
    }
    if (session->phase == PHASE_OPEN) {
        session->phase = PHASE_TOLD;
        session->gone = HLT_GONE_KICKED_EXPIRED;
        engine->counters.expired++;
        hlt_engine_audit_token(engine, now, HLT_AUDIT_EXPIRY, session);
        tell_expiring(engine, session, now, "token_expired");
        return now.mono_ms + 1; /* not due in this tick, however many slots the wheel is behind */
    }
    return told_by_now(engine, session) ? kick(engine, session, now) : now.mono_ms + 1;
}

void hlt_session_timer(struct hlt_engine *engine, struct hlt_session *session, struct hlt_now now)
{
    if (session->online) {
        hlt_timer_set(&engine->wheel, &session->timer, online_due(engine, session, now));
        return;
    }
    if (session->phase == PHASE_LEFT) {
        say_gone(engine, session, now);
        hlt_health_update(engine, session->device, now, true);
    }
    int64_t keep_until = session->ends_wall_ms < INT64_MAX / 2
                             ? session->ends_wall_ms + engine->options->identity_keep_s * 1000
                             : INT64_MAX;
    if (now.wall_ms >= keep_until) {
        hlt_session_drop(engine, session);
        return;
    }
    hlt_timer_set(&engine->wheel, &session->timer, now.mono_ms + OFFLINE_RECHECK_MS);
}

struct hlt_session *hlt_session_restore(struct hlt_engine *engine, const char *client_id,
                                        const struct hlt_identity_record *record,
                                        struct hlt_now now)
{
    struct hlt_claims *claims = hlt_claims_restore(record->claims, record->claims_len, record->kid);
    struct hlt_device *device =
        claims != NULL ? hlt_device_find(&engine->devices, claims->sub, claims->sub_len) : NULL;
    struct hlt_session *session = NULL;

    if (device != NULL && strcmp(record->user, claims->sub) == 0 &&
        hlt_engine_session_by_id(engine, client_id) == NULL) {
        session = session_new(engine, client_id);
    }
    if (session == NULL) {
        hlt_claims_free(claims);
        return NULL;
    }
    session->device = device;
    session->claims = claims;
    session->durable = record->durable != 0;
    session->barred = record->barred != 0;
    session->seen_wall_ms = record->seen_ms;
    session->ends_wall_ms = claims->exp_s < INT64_MAX / 2000 ? claims->exp_s * 1000 : INT64_MAX;
    hlt_timer_set(&engine->wheel, &session->timer, now.mono_ms + OFFLINE_RECHECK_MS);
    return session;
}
