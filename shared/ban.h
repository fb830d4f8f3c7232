/* ban.h - who may not log in until when: by address, by device id, by both.
 *
 * A ban of an address, or of an id from one address, stops signature work for tokens not seen
 * before; one of a device ends its sessions, too (DESIGN 11.14). Bounded: when the table is full
 * the oldest automatic ban makes room, an admin's never does. Records in the store: key and value
 * as below. */
#ifndef HLT_BAN_H
#define HLT_BAN_H

#include "address.h"
#include "hash.h"
#include "text.h"

#define HLT_BANS_MAX 20000u
#define HLT_BAN_AUTHOR_MAX 255
#define HLT_BAN_REASON_MAX 127
#define HLT_BAN_AUTOMATIC "haltere" /* the author of bans by the limiter */
#define HLT_BAN_FOREVER INT64_MAX

enum hlt_ban_kind { HLT_BAN_ADDRESS, HLT_BAN_DEVICE, HLT_BAN_LOGIN, HLT_BAN_KINDS };
const char *hlt_ban_kind_word(unsigned kind); /* "address", "device", "login" */

/* Whom it is about. LOGIN has both members. */
struct hlt_ban_subject {
    enum hlt_ban_kind kind;
    struct hlt_address address;
    char id[HLT_ID_MAX + 1];
};

struct hlt_ban {
    struct hlt_ban_subject subject;
    int64_t since_ms, until_ms; /* unix ms; HLT_BAN_FOREVER */
    int64_t until_mono_ms;
    bool automatic;
    char author[HLT_BAN_AUTHOR_MAX + 1];
    char reason[HLT_BAN_REASON_MAX + 1]; /* for people; may be "" */
    /* private to the table */
    struct hlt_ban *next, *older, *newer;
    uint32_t index;
};

struct hlt_bans {
    struct hlt_hash_key key;
    struct hlt_ban **bucket, **ban;  /* ban: all, in no order */
    struct hlt_ban *oldest, *newest; /* automatic ones */
    uint32_t count, sweep;
    uint32_t by_kind[HLT_BAN_KINDS];
};

enum hlt_rc hlt_bans_init(struct hlt_bans *bans);
void hlt_bans_free(struct hlt_bans *bans);

/* The ban of exactly this subject that holds at `mono_ms`, else NULL. About 50 ns; none when there
 * are no bans of its kind. */
struct hlt_ban *hlt_bans_find(const struct hlt_bans *bans, const struct hlt_ban_subject *subject,
                              int64_t mono_ms);
/* Add a copy of `ban`, or put it in the place of the one that this subject has. *evicted (set in
 * any case) is an automatic ban that made room: taken out, the caller frees it. HLT_EFULL: all are
 * admins'. HLT_ENOMEM. */
enum hlt_rc hlt_bans_add(struct hlt_bans *bans, const struct hlt_ban *ban,
                         struct hlt_ban **evicted);
/* Take it out; the caller frees it. */
void hlt_bans_take(struct hlt_bans *bans, struct hlt_ban *ban);
/* The next ban that is over, taken out: the caller frees it. NULL: none among the next `*budget`.
 */
struct hlt_ban *hlt_bans_sweep(struct hlt_bans *bans, int64_t mono_ms, unsigned *budget);

/* --- what people and the store say --- */

/* "address 192.0.2.7", "device d1", "login 192.0.2.7 d1"; also the key in the store. */
#define HLT_BAN_KEY_MAX (16 + HLT_ADDRESS_TEXT + HLT_ID_MAX)
size_t hlt_ban_key(const struct hlt_ban_subject *subject, char out[HLT_BAN_KEY_MAX]);
bool hlt_ban_key_parse(struct hlt_ban_subject *out, const char *key, size_t len);

/* {"kind","address"?,"deviceId"?,"since","until"?,"author","automatic","reason"?}; NULL without
 * memory. Until is missing where there is no end. */
struct cJSON *hlt_ban_json(const struct hlt_ban *ban);

#define HLT_BAN_RECORD_MAX 512
/* The record's bytes (to be wrapped as a blob, record.h): since, until, automatic, author, reason.
 */
size_t hlt_ban_record_write(const struct hlt_ban *ban, uint8_t out[HLT_BAN_RECORD_MAX]);
/* HLT_EPARSE: damaged. Fills all but the monotonic time and the private members. */
enum hlt_rc hlt_ban_record_read(struct hlt_ban *out, const void *key, size_t key_len,
                                const void *data, size_t len);

#endif
