/* engine_identity.c - revocations at work on sessions, and the engine's audit: what is said, kept
 * and found again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine_impl.h"
#include "text.h"

/* Sessions held against a new revocation: 0.25 to 0.6 us each (100,000 of them measured), so a
 * tenth to a quarter of the time that passes until all were looked at, after a quarter of a second.
 */
#define SWEEP_SESSIONS_PER_MS 400
#define SWEEP_MS_MAX 100
#define SWEEP_ENTRIES 64 /* revocations looked at for their end in one tick */
#define HAND_AUDIT 2048  /* audit records handed over in one tick: 0.2 us each */
#define DELETE_AUDIT 256 /* and old ones deleted */

/* --- revoking --- */

enum hlt_rc hlt_engine_revoke(struct hlt_engine *engine, struct hlt_now now,
                              const struct hlt_revocation *what, struct hlt_err *err)
{
    struct hlt_revocation revocation = *what;
    char date[HLT_DATE_BYTES] = "", detail[256];

    revocation.created_ms = now.wall_ms;
    if (revocation.expires_ms == 0) {
        revocation.expires_ms = hlt_revocation_end(
            &revocation, engine->options->max_token_lifetime_s, engine->options->leeway_s);
    }
    if (revocation.expires_ms <= now.wall_ms) {
        return hlt_fail(err, HLT_EINVAL, "expires lies in the past: it would bar nothing");
    }
    enum hlt_rc rc = hlt_revocations_add(&engine->revocations, &revocation, false, err);
    if (rc == HLT_EFULL) {
        engine->counters.revocations_refused++;
        hlt_engine_system(engine, now, "revocations_full",
                          "max_revocations are in force: further ones are refused");
    }
    if (rc != HLT_OK) {
        return rc;
    }
    engine->counters.revocations++;
    engine->bar_left = engine->sessions.mask + 1;
    if (revocation.kind == HLT_REVOKE_BEFORE) {
        hlt_date_format(revocation.before_s * 1000, date);
    }
    (void)snprintf(detail, sizeof(detail), "%s %s%s%s", hlt_revoke_kind_word(revocation.kind), date,
                   revocation.reason != NULL && revocation.reason[0] != '\0' ? ": " : "",
                   revocation.reason != NULL ? revocation.reason : "");
    hlt_engine_audit(engine, now,
                     &(struct hlt_audit_event){.type = HLT_AUDIT_REVOCATION,
                                               .subject = revocation.id,
                                               .actor = revocation.by,
                                               .reason = "revoked",
                                               .detail = detail});
    return HLT_OK;
}

bool hlt_engine_unrevoke(struct hlt_engine *engine, struct hlt_now now, enum hlt_revoke_kind kind,
                         const char *id, const char *by)
{
    if (!hlt_revocations_remove(&engine->revocations, kind, id)) {
        return false;
    }
    hlt_engine_audit(engine, now,
                     &(struct hlt_audit_event){.type = HLT_AUDIT_REVOCATION,
                                               .subject = id,
                                               .actor = by,
                                               .reason = "lifted",
                                               .detail = hlt_revoke_kind_word(kind)});
    return true;
}

const struct hlt_revocations *hlt_engine_revocations(const struct hlt_engine *engine)
{
    return &engine->revocations;
}

bool hlt_engine_barred(struct hlt_engine *engine, struct hlt_session *session, struct hlt_now now)
{
    if (session->barred || session->judged == engine->revocations.generation) {
        return session->barred;
    }
    session->judged = engine->revocations.generation;
    if (hlt_revocations_bar(&engine->revocations, session->claims, now.wall_ms, NULL)) {
        engine->counters.revoked += session->online ? 1 : 0;
        hlt_session_bar(engine, session, HLT_GONE_REVOKED, now);
    }
    return session->barred;
}

/* All sessions are looked at again after an order; one that acts in the meantime is looked at
 * then. */
static void bar_some(struct hlt_engine *engine, struct hlt_now now)
{
    const struct hlt_session_table *table = &engine->sessions;

    int64_t passed_ms = now.mono_ms - engine->bar_mono_ms;
    int64_t budget = SWEEP_SESSIONS_PER_MS *
                     (passed_ms < 0 || passed_ms > SWEEP_MS_MAX ? SWEEP_MS_MAX : passed_ms);

    engine->bar_mono_ms = now.mono_ms;
    for (; budget > 0 && engine->bar_left > 0; engine->bar_left--) {
        struct hlt_session *session = table->by_id[engine->bar_at++ & table->mask];
        for (; session != NULL; session = session->next_by_id, budget--) {
            (void)hlt_engine_barred(engine, session, now);
        }
        if (engine->out.count > HLT_ACTIONS_MAX / 2) {
            return; /* let the caller carry these out first */
        }
    }
}

void hlt_engine_identity_tick(struct hlt_engine *engine, struct hlt_now now)
{
    bar_some(engine, now);
    hlt_revocations_sweep(&engine->revocations, now.wall_ms, SWEEP_ENTRIES);
    hlt_audit_minute(&engine->audit, now.wall_ms, false);
    hlt_audit_retain(&engine->audit, now.wall_ms, engine->options->audit_keep_s * 1000,
                     engine->options->audit_max_records);
}

/* --- the audit --- */

void hlt_engine_audit(struct hlt_engine *engine, struct hlt_now now,
                      const struct hlt_audit_event *event)
{
    hlt_audit_append(&engine->audit, event, now.wall_ms);
    engine->counters.audit_dropped = engine->audit.dropped;
}

void hlt_engine_audit_token(struct hlt_engine *engine, struct hlt_now now, enum hlt_audit_type type,
                            const struct hlt_session *session)
{
    const struct hlt_claims *claims = session->claims;
    char detail[256];

    if (!engine->audit.on) {
        return;
    }
    /* The kid and jti cut, by hand: printf takes a third of what a record costs. */
    char *at = stpncpy(stpcpy(detail, "kid="), claims->kid, 80);
    at = stpncpy(stpcpy(at, " jti="), claims->jti, 120);
    (void)snprintf(at, sizeof(detail) - (size_t)(at - detail), " exp=%lld",
                   claims->has_exp ? (long long)claims->exp_s : 0LL);
    hlt_engine_audit(engine, now,
                     &(struct hlt_audit_event){.type = type,
                                               .subject = claims->sub,
                                               .client_id = session->client_id,
                                               .address = session->address,
                                               .detail = detail});
}

/* --- the store --- */

static bool hand_revocations(struct hlt_engine *engine)
{
    struct hlt_revocation revocation;
    uint8_t key[HLT_REVOKE_KEY_MAX], value[HLT_REVOCATION_RECORD_MAX];
    bool removed, any = false;

    while (hlt_revocations_unsaved(&engine->revocations, &revocation, &removed)) {
        size_t key_len = hlt_revocation_key(&revocation, key);
        size_t len = removed ? 0 : hlt_revocation_write(&revocation, value);
        if (!hlt_engine_put(engine, HLT_DB_REVOCATIONS, key, key_len, removed ? NULL : value,
                            len)) {
            return false;
        }
        hlt_revocations_saved(&engine->revocations);
        any = true;
    }
    if (any) {
        hlt_store_submit(engine->store, true);
    }
    return true;
}

/* The anchor first: a crash in between leaves records before it, which the next start deletes. */
static bool hand_anchor(struct hlt_engine *engine)
{
    struct hlt_audit *audit = &engine->audit;
    uint8_t key[HLT_AUDIT_KEY_BYTES], anchor[HLT_AUDIT_ANCHOR_BYTES];
    uint8_t value[HLT_RECORD_HEADER + HLT_AUDIT_ANCHOR_BYTES];

    if (audit->anchor_dirty) {
        hlt_audit_anchor_write(audit->first, audit->anchor, anchor);
        if (!hlt_engine_put(engine, HLT_DB_META, HLT_AUDIT_ANCHOR, strlen(HLT_AUDIT_ANCHOR), value,
                            hlt_blob_record_write(anchor, sizeof(anchor), value))) {
            return false;
        }
        audit->anchor_dirty = false;
    }
    for (unsigned n = 0; n < DELETE_AUDIT && audit->gone_from < audit->first; n++) {
        hlt_audit_key(audit->gone_from, key);
        if (!hlt_engine_put(engine, HLT_DB_AUDIT, key, sizeof(key), NULL, 0)) {
            return false;
        }
        audit->gone_from++;
    }
    return true;
}

bool hlt_engine_hand_identity(struct hlt_engine *engine, unsigned slice)
{
    const struct hlt_audit_waiting *waiting;
    uint8_t key[HLT_AUDIT_KEY_BYTES];
    unsigned left = slice > HAND_AUDIT ? slice : HAND_AUDIT;

    if (!hand_revocations(engine)) {
        return false;
    }
    while (left-- > 0 && (waiting = hlt_audit_next(&engine->audit)) != NULL) {
        hlt_audit_key(waiting->seq, key);
        if (!hlt_engine_put(engine, HLT_DB_AUDIT, key, sizeof(key), waiting->value, waiting->len)) {
            return false;
        }
        hlt_audit_handed(&engine->audit);
    }
    return hand_anchor(engine);
}

bool hlt_engine_restore_revocation(struct hlt_engine *engine, const void *key, size_t key_len,
                                   const void *value, size_t len)
{
    struct hlt_revocation revocation;
    struct hlt_revocation_record record;
    char id[HLT_REVOKE_ID_MAX + 1];

    if (hlt_revocation_read(&revocation, id, &record, key, key_len, value, len) != HLT_OK) {
        return false;
    }
    if (hlt_revocations_add(&engine->revocations, &revocation, true, NULL) != HLT_OK) {
        engine->counters.revocations_refused++; /* max_revocations was lowered */
    }
    return true;
}

static bool first_key(void *context, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    uint64_t *first = context;

    (void)value;
    (void)value_len;
    *first = hlt_audit_key_seq(key, key_len);
    return false;
}

/* A record by its number; false if it is not there or damaged. */
static bool read_record(struct hlt_engine *engine, uint64_t seq, struct hlt_audit_record *out)
{
    uint8_t key[HLT_AUDIT_KEY_BYTES];
    void *value = NULL;
    size_t len = 0;

    hlt_audit_key(seq, key);
    if (hlt_store_get(engine->store, HLT_DB_AUDIT, key, sizeof(key), &value, &len, NULL) !=
        HLT_OK) {
        return false;
    }
    bool good = hlt_audit_record_read(out, value, len) == HLT_OK && out->seq == seq;
    out->body = NULL;
    free(value);
    return good;
}

static void read_anchor(struct hlt_engine *engine, uint64_t *first, uint8_t *anchor)
{
    void *value = NULL;
    const void *data = NULL;
    size_t len = 0, data_len = 0;

    if (hlt_store_get(engine->store, HLT_DB_META, HLT_AUDIT_ANCHOR, strlen(HLT_AUDIT_ANCHOR),
                      &value, &len, NULL) != HLT_OK) {
        return;
    }
    if (hlt_blob_record_read(&data, &data_len, value, len) != HLT_OK ||
        !hlt_audit_anchor_read(data, data_len, first, anchor)) {
        engine->counters.records_damaged++;
    }
    free(value);
}

enum hlt_rc hlt_engine_restore_audit(struct hlt_engine *engine, struct hlt_now now,
                                     struct hlt_err *err)
{
    struct hlt_audit_record record = {.seq = 0};
    uint8_t anchor[HLT_AUDIT_HASH_BYTES] = {0}, key[HLT_AUDIT_KEY_BYTES];
    uint64_t first = 1, present = 0;
    size_t key_len = 0;
    bool whole = true;

    enum hlt_rc rc = hlt_store_last(engine->store, HLT_DB_AUDIT, key, sizeof(key), &key_len, err);
    if (rc == HLT_OK) {
        rc = hlt_store_each(engine->store, HLT_DB_AUDIT, first_key, &present, err);
    }
    if (rc != HLT_OK) {
        return rc;
    }
    uint64_t seq = hlt_audit_key_seq(key, key_len);
    if (seq > 0) {
        read_anchor(engine, &first, anchor);
        whole = read_record(engine, seq, &record);
        engine->counters.records_damaged += whole ? 0 : 1;
        hlt_audit_resume(&engine->audit, seq, record.hash, first, anchor);
        if (present > 0 && present < first) {
            engine->audit.gone_from = present;
        }
    }
    for (uint64_t at = (first + HLT_AUDIT_BLOCK - 1) / HLT_AUDIT_BLOCK * HLT_AUDIT_BLOCK; at <= seq;
         at += HLT_AUDIT_BLOCK) {
        if (read_record(engine, at, &record)) {
            hlt_audit_remember(&engine->audit, at, record.time_ms, record.hash);
        }
    }
    hlt_engine_audit(engine, now,
                     &(struct hlt_audit_event){.type = HLT_AUDIT_START,
                                               .detail = whole ? engine->version
                                                               : "the last record was damaged"});
    return HLT_OK;
}
