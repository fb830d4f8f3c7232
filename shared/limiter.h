/* limiter.h - token buckets for failed logins, per address and per (address, claimed id).
 *
 * A table of fixed size: whatever strangers send, memory and work per failure stay the same. When a
 * set of the table is full, the bucket least lately drawn from makes room. A login's bucket is half
 * as deep as its address's, so that one client with a bad token stops itself before it stops its
 * neighbours behind the same address. */
#ifndef HLT_LIMITER_H
#define HLT_LIMITER_H

#include "address.h"

#define HLT_LIMITER_BUCKETS 65536u
#define HLT_LIMITER_WAYS 8u /* buckets of a set */

struct hlt_limiter;

/* `burst` failures of an address at once, then `per_minute`. NULL without memory or randomness. */
struct hlt_limiter *hlt_limiter_new(uint32_t burst, uint32_t per_minute);
void hlt_limiter_free(struct hlt_limiter *limiter); /* accepts NULL */

enum hlt_limit {
    HLT_LIMIT_OK,
    HLT_LIMIT_LOGIN,   /* this id from this address has failed too often */
    HLT_LIMIT_ADDRESS, /* so has the address */
};
/* One failed login. `id` may be NULL: no id that could be a device's was claimed. An empty bucket
 * is full again after this, so that a ban's end is a fresh start. About 200 ns. */
enum hlt_limit hlt_limiter_fail(struct hlt_limiter *limiter, int64_t mono_ms,
                                const struct hlt_address *address, const char *id);
/* Buckets that made room while they were not full: too many strangers for the table. */
uint64_t hlt_limiter_evicted(const struct hlt_limiter *limiter);

#endif
