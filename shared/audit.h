/* audit.h - what happened to logins, tokens and settings, as a chain nobody can edit unseen: the
 * hash of each record covers the one before it (Schneier and Kelsey, 1998).
 *
 * The broker's thread appends: the record is encoded, hashed and queued, about 1.5 us. The engine
 * hands the queue to the store and removes the oldest blocks; the anchor (the hash before the
 * oldest kept record) keeps the rest verifiable. Texts are ids, addresses and words: no token ever.
 */
#ifndef HLT_AUDIT_H
#define HLT_AUDIT_H

#include "hash.h"
#include "record.h"
#include "token.h"

#define HLT_AUDIT_QUEUE_MAX 8192    /* records waiting for the store; more are lost and counted */
#define HLT_AUDIT_BLOCK 1024u       /* old records go by whole blocks of sequence numbers */
#define HLT_AUDIT_REFUSALS_MAX 1024 /* (address, reason) pairs told apart in one minute */

/* Texts are borrowed for the call; NULL is "". Longer ones are cut. */
struct hlt_audit_event {
    enum hlt_audit_type type;
    const char *subject, *client_id, *address, *actor, *reason, *detail;
    uint64_t count; /* 0 means 1 */
};

struct hlt_audit_waiting {
    struct hlt_audit_waiting *next;
    uint64_t seq;
    size_t len;
    uint8_t value[];
};

/* The last record of a block, so that its block can be removed without reading it again. */
struct hlt_audit_mark {
    uint64_t seq;
    int64_t time_ms;
    uint8_t hash[HLT_AUDIT_HASH_BYTES];
};

struct hlt_audit_refused {
    char address[64], client_id[128];
    uint64_t count;
    uint8_t reason; /* 0: free */
};

struct hlt_audit {
    bool on;      /* a store takes the records */
    uint64_t seq; /* of the last record, 0: none */
    uint8_t head[HLT_AUDIT_HASH_BYTES];
    uint64_t first; /* oldest kept */
    uint8_t anchor[HLT_AUDIT_HASH_BYTES];
    bool anchor_dirty;
    uint64_t gone_from; /* records from here to `first` are still to be deleted */
    struct hlt_audit_mark *mark;
    size_t mark_count, mark_room;
    struct hlt_audit_waiting *oldest, **tail;
    size_t waiting;
    uint64_t dropped, untold; /* lost ever; of these not yet said in a record */
    struct hlt_hash_key key;
    struct hlt_audit_refused *refused; /* HLT_AUDIT_REFUSALS_MAX, then one a reason for the rest */
    uint64_t refused_left;             /* records of the minute that are not empty */
    int64_t minute;                    /* of wall time */
};

enum hlt_rc hlt_audit_init(struct hlt_audit *audit, bool on);
void hlt_audit_free(struct hlt_audit *audit);

/* Append one record. Without room it is lost and counted; a record says how many once there is. */
void hlt_audit_append(struct hlt_audit *audit, const struct hlt_audit_event *event,
                      int64_t wall_ms);
/* Count a refused login; hlt_audit_minute appends the sums. */
void hlt_audit_refused(struct hlt_audit *audit, enum hlt_reason reason, const char *address,
                       const char *client_id, int64_t wall_ms);
/* Append the refusals of a minute that is over (`all`: of this one too). */
void hlt_audit_minute(struct hlt_audit *audit, int64_t wall_ms, bool all);

/* The oldest record the store has not got, NULL if none; then hlt_audit_handed takes it off. */
const struct hlt_audit_waiting *hlt_audit_next(const struct hlt_audit *audit);
void hlt_audit_handed(struct hlt_audit *audit);

/* Give up the oldest block if all of it is older than `keep_ms` or more than `max` records are
 * kept. Then anchor_dirty is set and gone_from..first are to be deleted, in this order. */
void hlt_audit_retain(struct hlt_audit *audit, int64_t wall_ms, int64_t keep_ms, uint64_t max);

/* Reading back: the last record is `seq` with `hash`, the oldest kept `first` after `anchor`; marks
 * in rising order. */
void hlt_audit_resume(struct hlt_audit *audit, uint64_t seq, const uint8_t *hash, uint64_t first,
                      const uint8_t *anchor);
void hlt_audit_remember(struct hlt_audit *audit, uint64_t seq, int64_t time_ms,
                        const uint8_t *hash);

/* The key of a record, and back; 0 is no sequence number. */
#define HLT_AUDIT_KEY_BYTES 8
void hlt_audit_key(uint64_t seq, uint8_t key[HLT_AUDIT_KEY_BYTES]);
uint64_t hlt_audit_key_seq(const void *key, size_t len);
/* The anchor's record in the meta database ("audit_anchor", a blob of seq LE and hash). */
#define HLT_AUDIT_ANCHOR "audit_anchor"
#define HLT_AUDIT_ANCHOR_BYTES (8 + HLT_AUDIT_HASH_BYTES)
void hlt_audit_anchor_write(uint64_t first, const uint8_t *anchor,
                            uint8_t out[HLT_AUDIT_ANCHOR_BYTES]);
bool hlt_audit_anchor_read(const void *data, size_t len, uint64_t *first, uint8_t *anchor);

/* A text for the audit and for logs: "(a token)" in place of what may be a token or part of one. */
const char *hlt_audit_safe(const char *text);

#endif
