/* record.c - packs and unpacks the records of the store, byte by byte, trusting no length.
 *
 * The checksum finds silent damage (LMDB has none of its own); it is no signature, so decoding
 * stays bounded for any bytes at all. */
#include "record.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "hash.h"
#include "rules.h"
#include "telemetry.h"
#include "text.h"

#define LAYOUT_MAJOR 1u
#define LAYOUT ((uint16_t)(LAYOUT_MAJOR << 8)) /* major in the high byte, minor in the low one */
#define LENGTH_BEYOND 0xffffu /* in the u16 length: the value's own length counts */

/* --- writing: the caller's buffer has room for the longest record, so nothing here can overrun ---
 */

struct writer {
    uint8_t *start, *at;
};

static void put_uint(struct writer *w, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        *w->at++ = (uint8_t)(value >> (8 * i));
    }
}

static void put_i64(struct writer *w, int64_t value)
{
    put_uint(w, (uint64_t)value, 8);
}

static void put_double(struct writer *w, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    put_uint(w, bits, 8);
}

static void put_float(struct writer *w, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    put_uint(w, bits, 4);
}

static void put_bytes(struct writer *w, const void *data, size_t len)
{
    if (len > 0) {
        memcpy(w->at, data, len);
        w->at += len;
    }
}

/* A text in a field of `field_bytes` (at most 256). One that was cut inside a character is cut back
 * to the last whole one: the reader refuses bad UTF-8, and a name is no reason to lose a record. */
static void put_text(struct writer *w, const char *field, size_t field_bytes)
{
    size_t len = strnlen(field, field_bytes - 1);

    while (len > 0 && !hlt_utf8_valid(field, len)) {
        len--;
    }
    put_uint(w, len, 1);
    put_bytes(w, field, len);
}

static struct writer write_begin(uint8_t *out)
{
    return (struct writer){.start = out, .at = out + HLT_RECORD_HEADER};
}

static size_t write_end(struct writer *w)
{
    size_t len = (size_t)(w->at - w->start);
    uint32_t checksum = hlt_checksum(w->start + HLT_RECORD_HEADER, len - HLT_RECORD_HEADER);

    w->at = w->start;
    put_uint(w, LAYOUT, 2);
    put_uint(w, len < LENGTH_BEYOND ? len : LENGTH_BEYOND, 2);
    put_uint(w, checksum, 4);
    return len;
}

/* --- reading: past the end or on a bad value everything reads as 0 and `bad` stays set --- */

struct reader {
    const uint8_t *at, *end;
    bool bad;
};

static const uint8_t *get_bytes(struct reader *r, size_t len)
{
    const uint8_t *data = r->at;

    if (r->bad || (size_t)(r->end - r->at) < len) {
        r->bad = true;
        return NULL;
    }
    r->at += len;
    return data;
}

static uint64_t get_uint(struct reader *r, size_t bytes)
{
    const uint8_t *data = get_bytes(r, bytes);
    uint64_t value = 0;

    for (size_t i = 0; data != NULL && i < bytes; i++) {
        value |= (uint64_t)data[i] << (8 * i);
    }
    return value;
}

static uint8_t get_u8(struct reader *r)
{
    return (uint8_t)get_uint(r, 1);
}

static uint16_t get_u16(struct reader *r)
{
    return (uint16_t)get_uint(r, 2);
}

static uint32_t get_u32(struct reader *r)
{
    return (uint32_t)get_uint(r, 4);
}

static int64_t get_i64(struct reader *r)
{
    return (int64_t)get_uint(r, 8);
}

static double get_double(struct reader *r)
{
    uint64_t bits = get_uint(r, 8);
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static float get_float(struct reader *r)
{
    uint32_t bits = get_u32(r);
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static void get_text(struct reader *r, char *out, size_t out_bytes)
{
    size_t len = get_u8(r);
    const uint8_t *data = get_bytes(r, len);

    if (data == NULL || len >= out_bytes || memchr(data, '\0', len) != NULL ||
        !hlt_utf8_valid((const char *)data, len)) {
        r->bad = true;
        out[0] = '\0';
        return;
    }
    memcpy(out, data, len);
    out[len] = '\0';
}

/* A number that stands for a word: one from a later minor layout reads as `fallback`. */
static uint8_t get_word(struct reader *r, unsigned max, unsigned fallback)
{
    uint8_t value = get_u8(r);

    return value <= max ? value : (uint8_t)fallback;
}

/* The header's verdict; on true the reader stands behind the header. */
static bool read_begin(struct reader *r, const void *value, size_t len)
{
    if (len < HLT_RECORD_HEADER) {
        return false;
    }
    *r = (struct reader){.at = value, .end = (const uint8_t *)value + len};
    unsigned layout = get_u16(r);
    size_t told = get_u16(r);
    uint32_t checksum = get_u32(r);
    bool length_holds = told == LENGTH_BEYOND ? len >= LENGTH_BEYOND : told == len;

    return layout >> 8 == LAYOUT_MAJOR && length_holds &&
           checksum == hlt_checksum(r->at, len - HLT_RECORD_HEADER);
}

bool hlt_record_valid(const void *value, size_t len)
{
    struct reader r;

    return read_begin(&r, value, len);
}

/* --- devices --- */

static void put_metric(struct writer *w, const struct hlt_metric_record *metric)
{
    struct writer item = {.start = w->at, .at = w->at + 2};
    size_t state_len =
        metric->state_len <= HLT_RECORD_STATE_MAX ? metric->state_len : 0; /* cut is no state */

    put_uint(&item, metric->name_id, 2);
    put_uint(&item, metric->flags, 4);
    put_double(&item, metric->value);
    put_i64(&item, metric->time_ms);
    put_float(&item, metric->expected);
    put_float(&item, metric->score);
    put_uint(&item, metric->count, 8);
    put_uint(&item, metric->detector_version, 1);
    put_uint(&item, state_len, 2);
    put_bytes(&item, metric->state, state_len);
    put_uint(w, (size_t)(item.at - item.start) - 2, 2); /* so that a metric can grow fields too */
    w->at = item.at;
}

static void get_metric(struct reader *r, struct hlt_metric_record *metric)
{
    size_t len = get_u16(r);
    const uint8_t *data = get_bytes(r, len);

    if (data == NULL) {
        return;
    }
    struct reader item = {.at = data, .end = data + len};

    metric->name_id = get_u16(&item);
    metric->flags = get_u32(&item);
    metric->value = get_double(&item);
    metric->time_ms = get_i64(&item);
    metric->expected = get_float(&item);
    metric->score = get_float(&item);
    metric->count = get_uint(&item, 8);
    metric->detector_version = get_u8(&item);
    metric->state_len = get_u16(&item);
    metric->state = get_bytes(&item, metric->state_len);
    r->bad = item.bad || metric->state_len > HLT_RECORD_STATE_MAX;
}

size_t hlt_device_record_write(const struct hlt_device_record *record, uint8_t *out)
{
    struct writer w = write_begin(out);
    size_t count = record->metric_count <= HLT_RECORD_METRICS_MAX ? record->metric_count
                                                                  : HLT_RECORD_METRICS_MAX;

    put_i64(&w, record->first_seen_ms);
    put_i64(&w, record->last_seen_ms);
    put_i64(&w, record->last_connect_ms);
    put_i64(&w, record->last_disconnect_ms);
    put_i64(&w, record->since_ms);
    put_i64(&w, record->token_exp_s);
    put_uint(&w, record->messages, 8);
    put_uint(&w, record->bytes, 8);
    put_uint(&w, record->malformed, 8);
    put_uint(&w, record->denied, 8);
    put_uint(&w, record->anomalies, 8);
    put_uint(&w, record->connects, 8);
    put_uint(&w, record->auth_failures, 8);
    put_uint(&w, record->episode, 4);
    put_uint(&w, record->version, 4);
    put_float(&w, record->cadence_s);
    put_uint(&w, record->cadence_count, 4);
    put_float(&w, record->health);
    put_uint(&w, record->band, 1);
    put_uint(&w, record->online, 1);
    put_uint(&w, record->status, 1);
    put_uint(&w, record->disconnect_reason, 1);
    put_uint(&w, record->has_token, 1);
    put_float(&w, record->cpu);
    put_float(&w, record->memory);
    put_float(&w, record->disk);
    put_float(&w, record->battery);
    put_double(&w, record->uptime_s);
    put_text(&w, record->device_class, sizeof(record->device_class));
    put_text(&w, record->firmware, sizeof(record->firmware));
    put_text(&w, record->address, sizeof(record->address));
    put_text(&w, record->detector, sizeof(record->detector));
    put_uint(&w, count, 1);
    for (size_t i = 0; i < count; i++) {
        put_metric(&w, &record->metric[i]);
    }
    return write_end(&w);
}

static void get_device_numbers(struct reader *r, struct hlt_device_record *record)
{
    record->first_seen_ms = get_i64(r);
    record->last_seen_ms = get_i64(r);
    record->last_connect_ms = get_i64(r);
    record->last_disconnect_ms = get_i64(r);
    record->since_ms = get_i64(r);
    record->token_exp_s = get_i64(r);
    record->messages = get_uint(r, 8);
    record->bytes = get_uint(r, 8);
    record->malformed = get_uint(r, 8);
    record->denied = get_uint(r, 8);
    record->anomalies = get_uint(r, 8);
    record->connects = get_uint(r, 8);
    record->auth_failures = get_uint(r, 8);
    record->episode = get_u32(r);
    record->version = get_u32(r);
    record->cadence_s = get_float(r);
    record->cadence_count = get_u32(r);
    record->health = get_float(r);
    record->band = get_word(r, HLT_BAND_CRITICAL, HLT_BAND_UNKNOWN);
    record->online = get_word(r, 1, 1);
    record->status = get_word(r, HLT_STATUS_ERROR, HLT_STATUS_UNKNOWN);
    record->disconnect_reason = get_word(r, HLT_GONE_UNKNOWN, HLT_GONE_UNKNOWN);
    record->has_token = get_word(r, 1, 1);
    record->cpu = get_float(r);
    record->memory = get_float(r);
    record->disk = get_float(r);
    record->battery = get_float(r);
    record->uptime_s = get_double(r);
}

enum hlt_rc hlt_device_record_read(struct hlt_device_record *out, const void *value, size_t len)
{
    struct hlt_device_record record = {.metric_count = 0};
    struct reader r;

    if (!read_begin(&r, value, len)) {
        return HLT_EPARSE;
    }
    get_device_numbers(&r, &record);
    get_text(&r, record.device_class, sizeof(record.device_class));
    get_text(&r, record.firmware, sizeof(record.firmware));
    get_text(&r, record.address, sizeof(record.address));
    get_text(&r, record.detector, sizeof(record.detector));
    record.metric_count = get_u8(&r);
    if (r.bad || record.metric_count > HLT_RECORD_METRICS_MAX) {
        return HLT_EPARSE;
    }
    for (size_t i = 0; i < record.metric_count && !r.bad; i++) {
        get_metric(&r, &record.metric[i]);
    }
    if (r.bad) {
        return HLT_EPARSE;
    }
    *out = record;
    return HLT_OK;
}

/* --- alerts --- */

size_t hlt_alert_record_write(const struct hlt_alert_record *record, uint8_t *out)
{
    struct writer w = write_begin(out);

    put_text(&w, record->device_id, sizeof(record->device_id));
    put_text(&w, record->name, sizeof(record->name));
    put_text(&w, record->metric, sizeof(record->metric));
    put_uint(&w, record->status, 1);
    put_uint(&w, record->severity, 1);
    put_uint(&w, record->topics, 1);
    put_uint(&w, record->episode, 4);
    put_uint(&w, record->count, 8);
    put_i64(&w, record->starts_ms);
    put_i64(&w, record->updated_ms);
    put_i64(&w, record->ends_ms);
    put_uint(&w, record->seq, 8);
    put_double(&w, record->value);
    put_double(&w, record->expected);
    put_double(&w, record->threshold);
    put_double(&w, record->score);
    put_text(&w, record->message, sizeof(record->message));
    put_text(&w, record->acknowledged_by, sizeof(record->acknowledged_by));
    put_i64(&w, record->acknowledged_ms);
    return write_end(&w);
}

enum hlt_rc hlt_alert_record_read(struct hlt_alert_record *out, const void *value, size_t len)
{
    struct hlt_alert_record record = {.status = HLT_ALERT_RESOLVED};
    struct reader r;

    if (!read_begin(&r, value, len)) {
        return HLT_EPARSE;
    }
    get_text(&r, record.device_id, sizeof(record.device_id));
    get_text(&r, record.name, sizeof(record.name));
    get_text(&r, record.metric, sizeof(record.metric));
    record.status = get_word(&r, HLT_ALERT_ACKNOWLEDGED, HLT_ALERT_FIRING);
    record.severity = get_word(&r, HLT_SEV_CRITICAL, HLT_SEV_CRITICAL);
    record.topics = get_u8(&r);
    record.episode = get_u32(&r);
    record.count = get_uint(&r, 8);
    record.starts_ms = get_i64(&r);
    record.updated_ms = get_i64(&r);
    record.ends_ms = get_i64(&r);
    record.seq = get_uint(&r, 8);
    record.value = get_double(&r);
    record.expected = get_double(&r);
    record.threshold = get_double(&r);
    record.score = get_double(&r);
    get_text(&r, record.message, sizeof(record.message));
    get_text(&r, record.acknowledged_by, sizeof(record.acknowledged_by));
    record.acknowledged_ms = get_i64(&r);
    if (r.bad) {
        return HLT_EPARSE;
    }
    *out = record;
    return HLT_OK;
}

/* --- identities --- */

size_t hlt_identity_record_write(const struct hlt_identity_record *record, uint8_t *out)
{
    struct writer w = write_begin(out);
    size_t claims_len =
        record->claims_len <= HLT_CLAIMS_STORED_MAX ? record->claims_len : 0; /* cut is not JSON */

    put_text(&w, record->user, sizeof(record->user));
    put_i64(&w, record->exp_s);
    put_i64(&w, record->seen_ms);
    put_uint(&w, record->durable, 1);
    put_uint(&w, claims_len, 4);
    put_bytes(&w, record->claims, claims_len);
    put_text(&w, record->kid, sizeof(record->kid));
    put_uint(&w, record->barred, 1);
    return write_end(&w);
}

enum hlt_rc hlt_identity_record_read(struct hlt_identity_record *out, const void *value, size_t len)
{
    struct hlt_identity_record record = {.durable = 0};
    struct reader r;

    if (!read_begin(&r, value, len)) {
        return HLT_EPARSE;
    }
    get_text(&r, record.user, sizeof(record.user));
    record.exp_s = get_i64(&r);
    record.seen_ms = get_i64(&r);
    record.durable = get_word(&r, 1, 1);
    record.claims_len = get_u32(&r);
    record.claims = (const char *)get_bytes(&r, record.claims_len);
    if (!r.bad && r.at < r.end) { /* older records end here */
        get_text(&r, record.kid, sizeof(record.kid));
        record.barred = get_word(&r, 1, 1);
    }
    if (r.bad || record.claims_len > HLT_CLAIMS_STORED_MAX ||
        !hlt_utf8_valid(record.claims, record.claims_len)) {
        return HLT_EPARSE;
    }
    *out = record;
    return HLT_OK;
}

/* --- revocations --- */

size_t hlt_revocation_record_write(const struct hlt_revocation_record *record, uint8_t *out)
{
    struct writer w = write_begin(out);

    put_i64(&w, record->before_s);
    put_i64(&w, record->created_ms);
    put_i64(&w, record->expires_ms);
    put_text(&w, record->reason, sizeof(record->reason));
    put_text(&w, record->by, sizeof(record->by));
    return write_end(&w);
}

enum hlt_rc hlt_revocation_record_read(struct hlt_revocation_record *out, const void *value,
                                       size_t len)
{
    struct hlt_revocation_record record = {.before_s = 0};
    struct reader r;

    if (!read_begin(&r, value, len)) {
        return HLT_EPARSE;
    }
    record.before_s = get_i64(&r);
    record.created_ms = get_i64(&r);
    record.expires_ms = get_i64(&r);
    get_text(&r, record.reason, sizeof(record.reason));
    get_text(&r, record.by, sizeof(record.by));
    if (r.bad) {
        return HLT_EPARSE;
    }
    *out = record;
    return HLT_OK;
}

/* --- audit --- */

void hlt_audit_record_hash(const struct hlt_audit_record *record,
                           const uint8_t before[HLT_AUDIT_HASH_BYTES],
                           uint8_t out[HLT_AUDIT_HASH_BYTES])
{
    hlt_sha256_two(out, before, HLT_AUDIT_HASH_BYTES, record->body, record->body_len);
}

size_t hlt_audit_record_write(struct hlt_audit_record *record,
                              const uint8_t before[HLT_AUDIT_HASH_BYTES], uint8_t *out)
{
    struct writer w = write_begin(out);
    uint8_t *hash = w.at;

    w.at += HLT_AUDIT_HASH_BYTES;
    const uint8_t *body = w.at;
    put_uint(&w, record->seq, 8);
    put_i64(&w, record->time_ms);
    put_uint(&w, record->type, 1);
    put_uint(&w, record->count, 8);
    put_text(&w, record->subject, sizeof(record->subject));
    put_text(&w, record->client_id, sizeof(record->client_id));
    put_text(&w, record->address, sizeof(record->address));
    put_text(&w, record->actor, sizeof(record->actor));
    put_text(&w, record->reason, sizeof(record->reason));
    put_text(&w, record->detail, sizeof(record->detail));
    hlt_sha256_two(record->hash, before, HLT_AUDIT_HASH_BYTES, body, (size_t)(w.at - body));
    memcpy(hash, record->hash, HLT_AUDIT_HASH_BYTES);
    return write_end(&w);
}

enum hlt_rc hlt_audit_record_read(struct hlt_audit_record *out, const void *value, size_t len)
{
    struct reader r;

    if (!read_begin(&r, value, len)) {
        return HLT_EPARSE;
    }
    const uint8_t *hash = get_bytes(&r, HLT_AUDIT_HASH_BYTES);
    const uint8_t *body = r.at;
    struct hlt_audit_record record = {.body = body, .body_len = (size_t)(r.end - body)};
    record.seq = get_uint(&r, 8);
    record.time_ms = get_i64(&r);
    record.type = get_u8(&r);
    record.count = get_uint(&r, 8);
    get_text(&r, record.subject, sizeof(record.subject));
    get_text(&r, record.client_id, sizeof(record.client_id));
    get_text(&r, record.address, sizeof(record.address));
    get_text(&r, record.actor, sizeof(record.actor));
    get_text(&r, record.reason, sizeof(record.reason));
    get_text(&r, record.detail, sizeof(record.detail));
    if (r.bad || hash == NULL) {
        return HLT_EPARSE;
    }
    memcpy(record.hash, hash, HLT_AUDIT_HASH_BYTES);
    *out = record;
    return HLT_OK;
}

/* --- everything else --- */

size_t hlt_blob_record_write(const void *data, size_t len, uint8_t *out)
{
    struct writer w = write_begin(out);

    put_bytes(&w, data, len);
    return write_end(&w);
}

enum hlt_rc hlt_blob_record_read(const void **data, size_t *data_len, const void *value, size_t len)
{
    struct reader r;

    if (!read_begin(&r, value, len)) {
        return HLT_EPARSE;
    }
    *data = r.at;
    *data_len = len - HLT_RECORD_HEADER;
    return HLT_OK;
}

/* --- words --- */

static const char *word_of(const char *const *words, size_t count, unsigned index)
{
    return index < count ? words[index] : "unknown";
}

const char *hlt_band_word(unsigned band)
{
    static const char *const words[] = {
        [HLT_BAND_UNKNOWN] = "unknown",
        [HLT_BAND_HEALTHY] = "healthy",
        [HLT_BAND_DEGRADED] = "degraded",
        [HLT_BAND_CRITICAL] = "critical",
    };

    return word_of(words, sizeof(words) / sizeof(words[0]), band);
}

const char *hlt_disconnect_word(unsigned reason)
{
    static const char *const words[] = {
        [HLT_GONE_NONE] = "none",
        [HLT_GONE_CLIENT] = "client_disconnect",
        [HLT_GONE_LOST] = "connection_lost",
        [HLT_GONE_DUPLICATE] = "duplicate_client_id",
        [HLT_GONE_KICKED_EXPIRED] = "token_expired",
        [HLT_GONE_KICKED] = "kicked",
        [HLT_GONE_SHUTDOWN] = "broker_shutdown",
        [HLT_GONE_UNKNOWN] = "unknown",
        [HLT_GONE_BANNED] = "banned",
        [HLT_GONE_REVOKED] = "token_revoked",
    };

    return word_of(words, sizeof(words) / sizeof(words[0]), reason);
}

const char *hlt_revoke_kind_word(unsigned kind)
{
    static const char *const words[] = {
        [0] = "unknown",
        [HLT_REVOKE_JTI] = "jti",
        [HLT_REVOKE_SUB] = "sub",
        [HLT_REVOKE_KID] = "kid",
        [HLT_REVOKE_BEFORE] = "sub issued before",
    };

    return word_of(words, sizeof(words) / sizeof(words[0]), kind);
}

const char *hlt_audit_type_word(unsigned type)
{
    static const char *const words[HLT_AUDIT_TYPES] = {
        [0] = "unknown",
        [HLT_AUDIT_START] = "start",
        [HLT_AUDIT_STOP] = "stop",
        [HLT_AUDIT_LOGIN] = "login",
        [HLT_AUDIT_REFUSAL] = "refusal",
        [HLT_AUDIT_EXPIRY] = "expiry",
        [HLT_AUDIT_RENEWAL] = "renewal",
        [HLT_AUDIT_REVOCATION] = "revocation",
        [HLT_AUDIT_BAN] = "ban",
        [HLT_AUDIT_KEYS] = "keys",
        [HLT_AUDIT_POLICY] = "policy",
        [HLT_AUDIT_RULES] = "rules",
        [HLT_AUDIT_COMMAND] = "command",
        [HLT_AUDIT_LOST] = "lost",
    };

    return word_of(words, HLT_AUDIT_TYPES, type);
}

const char *hlt_alert_status_word(unsigned status)
{
    static const char *const words[] = {
        [HLT_ALERT_RESOLVED] = "resolved",
        [HLT_ALERT_FIRING] = "firing",
        [HLT_ALERT_ACKNOWLEDGED] = "acknowledged",
    };

    return word_of(words, sizeof(words) / sizeof(words[0]), status);
}

/* libsodium's SHA-256 works on the stack and cannot fail, so an incident always has its id. */
void hlt_alert_id(const char *device_id, const char *name, const char *metric, uint32_t episode,
                  char out[33])
{
    crypto_hash_sha256_state state;
    unsigned char digest[crypto_hash_sha256_BYTES];
    char number[11];

    (void)snprintf(number, sizeof(number), "%u", (unsigned)episode);
    crypto_hash_sha256_init(&state);
    crypto_hash_sha256_update(&state, (const unsigned char *)device_id, strlen(device_id) + 1);
    crypto_hash_sha256_update(&state, (const unsigned char *)name, strlen(name) + 1);
    crypto_hash_sha256_update(&state, (const unsigned char *)metric, strlen(metric) + 1);
    crypto_hash_sha256_update(&state, (const unsigned char *)number, strlen(number));
    crypto_hash_sha256_final(&state, digest);
    sodium_bin2hex(out, 33, digest, 16);
}
