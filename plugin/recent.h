/* recent.h - what a client asked last: pairs of access and topic, so that a new policy can tell
 * whom it changes, and the subscriptions it holds.
 *
 * A pair that is asked again stays; a new one takes the place of the oldest that is no held
 * subscription. Memory is bounded twice: by client and, through the pool, for all of them. */
#ifndef HLT_RECENT_H
#define HLT_RECENT_H

#include "../acl/policy.h"

#define HLT_RECENT_MAX 32        /* pairs of a client */
#define HLT_RECENT_HELD_MAX 16   /* of them held subscriptions; the oldest makes room */
#define HLT_RECENT_TOPIC_MAX 255 /* bytes; longer topics are not kept */

struct hlt_recent; /* opaque; NULL: nothing yet */

/* Shared by all clients. When `bytes_max` is used up new pairs are not kept, and `dropped` counts
 * them. */
struct hlt_recent_pool {
    uint64_t bytes, bytes_max, dropped;
};

/* A pair was asked; `held`: a subscription that was granted. Cost: a hash of the topic and at most
 * 32 comparisons; memory is allocated only for a pair that is new. */
void hlt_recent_note(struct hlt_recent **recent, struct hlt_recent_pool *pool,
                     enum hlt_access access, const char *topic, size_t len, bool held);
/* This subscription is not held any more. */
void hlt_recent_release(struct hlt_recent *recent, struct hlt_recent_pool *pool,
                        const char *filter);
/* None is: a clean start. */
void hlt_recent_release_all(struct hlt_recent *recent, struct hlt_recent_pool *pool);
void hlt_recent_free(struct hlt_recent *recent, struct hlt_recent_pool *pool); /* accepts NULL */

/* Pair `index`; false past the last. The topic lives until the next change. */
struct hlt_recent_pair {
    enum hlt_access access;
    const char *topic;
    bool held;
};
bool hlt_recent_at(const struct hlt_recent *recent, size_t index, struct hlt_recent_pair *out);

#endif
