/* keyuse.h - which keys signed the tokens that were accepted, how often and when last: so that an
 * admin knows when an old key can go.
 *
 * Keys are told apart by kid and algorithm. At most HLT_KEYS_MAX are kept; the one unused for
 * longest makes room. Kept in the store as the counters' blob `keys` (JSON). One thread. */
#ifndef HLT_KEYUSE_H
#define HLT_KEYUSE_H

#include "base.h"

struct hlt_keyuse; /* opaque */

struct hlt_keyuse *hlt_keyuse_new(void);       /* NULL without memory */
void hlt_keyuse_free(struct hlt_keyuse *keys); /* accepts NULL */

/* A token signed by this key was accepted. `kid` "" for a key without one. One hash lookup; without
 * memory the use goes uncounted. */
void hlt_keyuse_count(struct hlt_keyuse *keys, const char *kid, const char *alg, int64_t wall_ms);
size_t hlt_keyuse_keys(const struct hlt_keyuse *keys);
/* Has anything been counted since hlt_keyuse_stored()? */
bool hlt_keyuse_dirty(const struct hlt_keyuse *keys);
void hlt_keyuse_stored(struct hlt_keyuse *keys);

/* [{"kid":"a","alg":"ES256","count":7,"first":UNIX_MS,"last":UNIX_MS},...], last used first, at
 * most `max` of them. malloc'd; NULL without memory. */
char *hlt_keyuse_text(const struct hlt_keyuse *keys, size_t max);
/* Read such a text back; what is not such an entry is passed over. */
void hlt_keyuse_restore(struct hlt_keyuse *keys, const char *text, size_t len);

#endif
