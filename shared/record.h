/* record.h - the records in the store: packed little-endian, layout version, length, checksum.
 *
 * Every record starts with: u16 layout version, u16 total length (0xffff: see value length), u32
 * checksum (hlt_checksum over all that follows). Written and read field by field, never by struct
 * dump: LMDB values are only 2-byte aligned. A reader accepts records longer than it knows (fields
 * are only appended) and refuses wrong checksums (HLT_EPARSE). Keys: devices by id; alerts by
 * deviceId NUL alertname NUL metric; identities by client id; metrics by u16 big-endian id; meta
 * and counters by a short name. */
#ifndef HLT_RECORD_H
#define HLT_RECORD_H

#include "base.h"

#define HLT_RECORD_HEADER 8
#define HLT_RECORD_METRICS_MAX 16
#define HLT_RECORD_STATE_MAX 1024 /* bytes of one packed detector state */

/* True if the header's version, length and checksum hold: all that hlt_store_check asks of any
 * record. */
bool hlt_record_valid(const void *value, size_t len);

struct hlt_metric_record {
    uint16_t name_id; /* key in the metrics database */
    uint32_t flags;
    double value;          /* last */
    int64_t time_ms;       /* of last */
    float expected, score; /* of last */
    uint64_t count;        /* values seen */
    uint8_t detector_version;
    const uint8_t *state; /* packed detector state; borrowed */
    uint16_t state_len;
};

struct hlt_device_record {
    int64_t first_seen_ms, last_seen_ms, last_connect_ms, last_disconnect_ms,
        since_ms;        /* unix ms, 0: never */
    int64_t token_exp_s; /* 0: none */
    uint64_t messages, bytes, malformed, denied, anomalies, connects, auth_failures;
    uint32_t episode; /* of the newest alert (DESIGN 11.13) */
    uint32_t version; /* grows with every change that is published */
    float cadence_s;  /* learnt interval between messages, 0: not yet */
    uint32_t cadence_count;
    float health;                     /* 0..1 */
    uint8_t band;                     /* enum hlt_band */
    uint8_t online;                   /* as last known */
    uint8_t status;                   /* enum hlt_device_status */
    uint8_t disconnect_reason;        /* enum hlt_disconnect */
    uint8_t has_token;                /* a token session has used this id: other logins may not */
    float cpu, memory, disk, battery; /* NAN: not told */
    double uptime_s;                  /* NAN: not told */
    char device_class[65];
    char firmware[64];
    char address[64];  /* of the last login */
    char detector[32]; /* whose states the metrics hold */
    struct hlt_metric_record metric[HLT_RECORD_METRICS_MAX];
    size_t metric_count;
};

struct hlt_alert_record {
    char device_id[256];
    char name[49];
    char metric[65];  /* "" if none */
    uint8_t status;   /* enum hlt_alert_status */
    uint8_t severity; /* enum hlt_severity: of now, or the last while it fired */
    uint8_t
        topics; /* severities already told "firing" in this episode, a bit each: 1 << severity */
    uint32_t episode;
    uint64_t count;                         /* times the condition was seen in this episode */
    int64_t starts_ms, updated_ms, ends_ms; /* unix ms; ends 0: not ended */
    uint64_t seq;                           /* of its last message */
    double value, expected, threshold;      /* NAN: none */
    double score;                           /* NAN: none */
    char message[256];
    char acknowledged_by[256]; /* "" : nobody */
    int64_t acknowledged_ms;
};

struct hlt_identity_record { /* by client id */
    char user[256];          /* = sub */
    int64_t exp_s;
    int64_t seen_ms; /* last online */
    uint8_t durable;
    const char *claims; /* the token's payload; borrowed from the value */
    uint32_t claims_len;
    char kid[256];  /* of the key that signed it; "" if none, or an older record */
    uint8_t barred; /* revoked or banned: stays so until the next login */
};

/* What a revocation goes by (revocation.h). The key in the store is this byte, then the id. */
enum hlt_revoke_kind {
    HLT_REVOKE_JTI = 1,
    HLT_REVOKE_SUB,
    HLT_REVOKE_KID,
    HLT_REVOKE_BEFORE /* tokens of a sub issued before a date */
};
const char *hlt_revoke_kind_word(unsigned kind); /* "jti", "sub", "kid", "sub issued before" */
#define HLT_REVOKE_ID_MAX 480
#define HLT_REVOKE_REASON_MAX 127

struct hlt_revocation_record { /* by kind and id */
    int64_t before_s, created_ms, expires_ms;
    char reason[HLT_REVOKE_REASON_MAX + 1];
    char by[256];
};

enum hlt_audit_type {
    HLT_AUDIT_START = 1, /* the broker began; the chain goes on */
    HLT_AUDIT_STOP,
    HLT_AUDIT_LOGIN,
    HLT_AUDIT_REFUSAL, /* those of one address, for one reason, in one minute */
    HLT_AUDIT_EXPIRY,
    HLT_AUDIT_RENEWAL,
    HLT_AUDIT_REVOCATION,
    HLT_AUDIT_BAN,
    HLT_AUDIT_KEYS,
    HLT_AUDIT_POLICY,
    HLT_AUDIT_RULES,
    HLT_AUDIT_COMMAND,
    HLT_AUDIT_LOST, /* records that found no room */
    HLT_AUDIT_TYPES
};
const char *hlt_audit_type_word(unsigned type); /* "login" */
#define HLT_AUDIT_HASH_BYTES 32

struct hlt_audit_record { /* by sequence number, 8 bytes big-endian */
    uint64_t seq;         /* from 1, without gaps */
    int64_t time_ms;
    uint8_t type;        /* enum hlt_audit_type */
    uint64_t count;      /* how many it stands for */
    char subject[256];   /* the device or subject it is about, "" if none */
    char client_id[256]; /* "" if it is the subject */
    char address[64];
    char actor[256]; /* who ordered it, "" if nobody did */
    char reason[32]; /* one word */
    char detail[256];
    uint8_t hash[HLT_AUDIT_HASH_BYTES]; /* SHA-256(hash of the record before, body) */
    const uint8_t *body;                /* reading only: what was hashed; borrowed */
    size_t body_len;
};

/* Longest encodings; a device with 16 metrics of 64-byte states is about 1.9 KB. */
#define HLT_DEVICE_RECORD_MAX (512 + HLT_RECORD_METRICS_MAX * (64 + HLT_RECORD_STATE_MAX))
#define HLT_ALERT_RECORD_MAX 2048
#define HLT_CLAIMS_STORED_MAX 2048
#define HLT_IDENTITY_RECORD_MAX (1024 + HLT_CLAIMS_STORED_MAX)
#define HLT_REVOCATION_RECORD_MAX 512
#define HLT_AUDIT_RECORD_MAX 1280

/* Encode into `out` (at least the _MAX bytes); returns the length. Never fails: a text cut inside a
 * character loses that character, a state or claims over its limit is left out (a cut one would
 * mean something else). */
size_t hlt_device_record_write(const struct hlt_device_record *record, uint8_t *out);
size_t hlt_alert_record_write(const struct hlt_alert_record *record, uint8_t *out);
size_t hlt_identity_record_write(const struct hlt_identity_record *record, uint8_t *out);
size_t hlt_revocation_record_write(const struct hlt_revocation_record *record, uint8_t *out);
/* Sets record->hash from `before` (the hash of the record before it) and what it writes. */
size_t hlt_audit_record_write(struct hlt_audit_record *record,
                              const uint8_t before[HLT_AUDIT_HASH_BYTES], uint8_t *out);
/* Any other value (meta, counters, metric names): header and the bytes. Returns 8 + len. `out` has
 * that room. */
size_t hlt_blob_record_write(const void *data, size_t len, uint8_t *out);

/* Decode. HLT_EPARSE: damaged or of a newer major layout; *out is untouched then. Borrowed pointers
 * live as long as `value`. */
enum hlt_rc hlt_device_record_read(struct hlt_device_record *out, const void *value, size_t len);
enum hlt_rc hlt_alert_record_read(struct hlt_alert_record *out, const void *value, size_t len);
enum hlt_rc hlt_identity_record_read(struct hlt_identity_record *out, const void *value,
                                     size_t len);
enum hlt_rc hlt_revocation_record_read(struct hlt_revocation_record *out, const void *value,
                                       size_t len);
enum hlt_rc hlt_audit_record_read(struct hlt_audit_record *out, const void *value, size_t len);
/* SHA-256(before, body): the hash an unchanged record carries. */
void hlt_audit_record_hash(const struct hlt_audit_record *record,
                           const uint8_t before[HLT_AUDIT_HASH_BYTES],
                           uint8_t out[HLT_AUDIT_HASH_BYTES]);
enum hlt_rc hlt_blob_record_read(const void **data, size_t *data_len, const void *value,
                                 size_t len);

/* --- the words behind the small numbers, shared by engine and command --- */
enum hlt_band { HLT_BAND_UNKNOWN, HLT_BAND_HEALTHY, HLT_BAND_DEGRADED, HLT_BAND_CRITICAL };
const char *hlt_band_word(unsigned band); /* "healthy" */

enum hlt_disconnect {
    HLT_GONE_NONE,
    HLT_GONE_CLIENT,
    HLT_GONE_LOST,
    HLT_GONE_DUPLICATE,
    HLT_GONE_KICKED_EXPIRED,
    HLT_GONE_KICKED,
    HLT_GONE_SHUTDOWN,
    HLT_GONE_UNKNOWN,
    HLT_GONE_BANNED,
    HLT_GONE_REVOKED
};
const char *hlt_disconnect_word(
    unsigned reason); /* "connection_lost", "duplicate_client_id", "token_expired", ... */

enum hlt_alert_status { HLT_ALERT_RESOLVED, HLT_ALERT_FIRING, HLT_ALERT_ACKNOWLEDGED };
const char *hlt_alert_status_word(unsigned status);

/* Incident id: hex of the first 16 bytes of SHA-256(deviceId NUL alertname NUL metric NUL episode),
 * the episode in decimal digits. Same everywhere (DESIGN 5). */
void hlt_alert_id(const char *device_id, const char *name, const char *metric, uint32_t episode,
                  char out[33]);

/* Meta keys (blob records): "uuid", "stream", "seq" (u64 LE), "clean" ("1"/"0"), "created", "boot"
 * (u64 LE); counters: one blob per group. */

#endif
