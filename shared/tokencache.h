/* tokencache.h - tokens whose signature was found good, by their SHA-256: a fleet that reconnects
 * costs a hash each, not a signature each.
 *
 * A hit says that these very bytes were signed by a key that is still in force: the caller judges
 * times, client id, binding, revocation and bans anew (DESIGN 11.14) and drops everything when the
 * keys change. One thread. Bounded; when full, the entry unused for longest (by a clock hand) makes
 * room. */
#ifndef HLT_TOKENCACHE_H
#define HLT_TOKENCACHE_H

#include "hash.h"
#include "token.h"

#define HLT_TOKENCACHE_MAX 10000000u
#define HLT_TOKENCACHE_CLAIMS_MAX 4096u /* longer payloads are not kept: they cost a signature */

struct hlt_tokencache;

/* Room for `entries` (0: keeps nothing; at most HLT_TOKENCACHE_MAX): 64 bytes each, touched with
 * use, and the claims, which are shared with the session that uses them. NULL without memory or
 * randomness. */
struct hlt_tokencache *hlt_tokencache_new(size_t entries);
void hlt_tokencache_free(struct hlt_tokencache *cache); /* accepts NULL */

/* The claims of the token with this hash as one more owner (free with hlt_claims_free), or NULL.
 * About 100 ns. */
struct hlt_claims *hlt_tokencache_get(struct hlt_tokencache *cache,
                                      const uint8_t hash[HLT_SHA256_BYTES]);
/* Would hlt_tokencache_get() find it? Does not count as use. */
bool hlt_tokencache_holds(const struct hlt_tokencache *cache, const uint8_t hash[HLT_SHA256_BYTES]);
/* Remember verified claims, as one more owner. */
void hlt_tokencache_put(struct hlt_tokencache *cache, const uint8_t hash[HLT_SHA256_BYTES],
                        struct hlt_claims *claims);
/* Forget all of them: a key has gone. */
void hlt_tokencache_clear(struct hlt_tokencache *cache);
size_t hlt_tokencache_count(const struct hlt_tokencache *cache);

#endif
