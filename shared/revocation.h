/* revocation.h - which tokens are barred before their time: by jti, by sub, by the key that signed
 * them, or "issued to this sub before T".
 *
 * A bounded table with keyed hashes, never keyed on the token itself. An entry ends when the last
 * token it bars has expired. One thread; the engine keeps it in the store. */
#ifndef HLT_REVOCATION_H
#define HLT_REVOCATION_H

#include "hash.h"
#include "record.h"
#include "token.h"

/* One entry. Texts point into the table for those handed out, to the caller's for those given. */
struct hlt_revocation {
    enum hlt_revoke_kind kind;
    const char *id;     /* jti, sub or kid: 1..HLT_REVOKE_ID_MAX bytes of UTF-8 */
    int64_t before_s;   /* BEFORE: bars tokens whose iat is less, or absent */
    int64_t created_ms; /* unix ms */
    int64_t expires_ms; /* bars nothing from then on; INT64_MAX: never ends */
    const char *reason; /* "" if none; at most HLT_REVOKE_REASON_MAX bytes are kept */
    const char *by;     /* who ordered it */
    uint64_t order;     /* its place in the list, from 1: only grows; 0 outside of a table */
};

struct hlt_revoke_entry; /* inside */

struct hlt_revocations {
    struct hlt_hash_key key;
    struct hlt_revoke_entry **bucket;
    uint64_t mask;
    uint32_t max, held;                    /* entries in memory, those being removed included */
    uint32_t count[HLT_REVOKE_BEFORE + 1]; /* in force, by kind; [0]: all */
    uint64_t generation;                   /* grows whenever the answer for some token may change */
    uint64_t order;                        /* of the newest */
    struct hlt_revoke_entry *oldest, *newest, *cursor;
    struct hlt_revoke_entry *dirty, **dirty_tail;
    bool kept; /* a store takes what is dirty; else nothing waits for it */
};

/* HLT_ENOMEM. `max` entries at most; memory is taken as they come. */
enum hlt_rc hlt_revocations_init(struct hlt_revocations *table, uint32_t max, bool kept);
void hlt_revocations_free(struct hlt_revocations *table);

/* Add an entry, or extend the one of the same kind and id: the later mark and the later end stay,
 * so an order never weakens another. Copies the texts. HLT_EINVAL, HLT_EFULL, HLT_ENOMEM with a
 * message. `saved`: it comes from the store and need not go there. */
enum hlt_rc hlt_revocations_add(struct hlt_revocations *table,
                                const struct hlt_revocation *revocation, bool saved,
                                struct hlt_err *err);
/* False: there is no such entry in force. */
bool hlt_revocations_remove(struct hlt_revocations *table, enum hlt_revoke_kind kind,
                            const char *id);

/* What bars this token at `wall_ms`? False: nothing. *out (may be NULL) gets the entry. Up to four
 * lookups, of the kinds in use only: 30 to 60 ns each. */
bool hlt_revocations_bar(const struct hlt_revocations *table, const struct hlt_claims *claims,
                         int64_t wall_ms, struct hlt_revocation *out);

/* Remove what has ended, looking at no more than `budget` entries; goes on where it stopped. */
void hlt_revocations_sweep(struct hlt_revocations *table, int64_t wall_ms, unsigned budget);

/* All entries in force, oldest first; `each` returns false to stop. */
typedef bool hlt_revocations_each_fn(void *context, const struct hlt_revocation *revocation);
void hlt_revocations_each(const struct hlt_revocations *table, hlt_revocations_each_fn *each,
                          void *context);

/* {"jti"|"sub"|"kid","issuedBefore"?,"created","expires"?,"reason"?,"by"?}; NULL without memory. */
struct cJSON *hlt_revocation_json(const struct hlt_revocation *revocation);

/* The next entry the store has not got. `*removed`: it is to be deleted there. False: none. */
bool hlt_revocations_unsaved(const struct hlt_revocations *table, struct hlt_revocation *out,
                             bool *removed);
/* That entry was handed over. */
void hlt_revocations_saved(struct hlt_revocations *table);

/* The key in the store: the kind, then the id. `key` has HLT_REVOKE_KEY_MAX bytes. */
#define HLT_REVOKE_KEY_MAX (HLT_REVOKE_ID_MAX + 1)
size_t hlt_revocation_key(const struct hlt_revocation *revocation, uint8_t *key);
/* From key and value of the store: `id` (HLT_REVOKE_ID_MAX + 1 bytes) and `record` hold the texts.
 * HLT_EPARSE. */
enum hlt_rc hlt_revocation_read(struct hlt_revocation *out, char *id,
                                struct hlt_revocation_record *record, const void *key,
                                size_t key_len, const void *value, size_t len);
/* The value to be stored; `out` has HLT_REVOCATION_RECORD_MAX bytes. Returns its length. */
size_t hlt_revocation_write(const struct hlt_revocation *revocation, uint8_t *out);

/* When an entry made now may end: the last token it bars lives until then (DESIGN 11.14).
 * `max_lifetime_s` 0: lifetimes are not bounded, so it never ends. */
int64_t hlt_revocation_end(const struct hlt_revocation *revocation, int64_t max_lifetime_s,
                           int64_t leeway_s);
/* Is this an entry one may make? Fills `err` with what, and how to mend it. */
enum hlt_rc hlt_revocation_check(const struct hlt_revocation *revocation, struct hlt_err *err);

#endif
