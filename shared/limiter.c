/* limiter.c - a set-associative table of token buckets, found by a keyed hash that strangers cannot
 * steer. */
#include "limiter.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "text.h"

#define SETS (HLT_LIMITER_BUCKETS / HLT_LIMITER_WAYS)
_Static_assert((SETS & (SETS - 1)) == 0, "sets are chosen by a mask");

/* 64 bits of a keyed hash name the client: two clients that share one are bad luck once in a
 * lifetime, and only share a limit. */
struct bucket {
    uint64_t name; /* 0: free */
    int64_t at_ms; /* of the last draw */
    double left;   /* failures still allowed, then */
};

struct hlt_limiter {
    struct hlt_hash_key key;
    double burst[2]; /* of a login, of an address */
    double per_ms;
    uint64_t evicted;
    struct bucket bucket[SETS][HLT_LIMITER_WAYS];
};

struct hlt_limiter *hlt_limiter_new(uint32_t burst, uint32_t per_minute)
{
    struct hlt_limiter *limiter = calloc(1, sizeof(*limiter));

    if (limiter == NULL || hlt_hash_key_init(&limiter->key) != 0) {
        free(limiter);
        return NULL;
    }
    const uint32_t half = (burst + 1) / 2;

    limiter->burst[0] = half;
    limiter->burst[1] = burst;
    limiter->per_ms = per_minute / 60000.0;
    return limiter;
}

void hlt_limiter_free(struct hlt_limiter *limiter)
{
    free(limiter);
}

uint64_t hlt_limiter_evicted(const struct hlt_limiter *limiter)
{
    return limiter->evicted;
}

static uint64_t name_of(const struct hlt_limiter *limiter, const struct hlt_address *address,
                        const char *id)
{
    uint8_t text[1 + sizeof(address->bytes) + HLT_ID_MAX];
    size_t id_len = id != NULL ? strnlen(id, HLT_ID_MAX) : 0;

    text[0] = address->family;
    memcpy(text + 1, address->bytes, sizeof(address->bytes));
    if (id_len > 0) {
        memcpy(text + 1 + sizeof(address->bytes), id, id_len);
    }
    uint64_t name = hlt_hash(&limiter->key, text, 1 + sizeof(address->bytes) + id_len);
    return name != 0 ? name : 1;
}

static double now_left(const struct hlt_limiter *limiter, const struct bucket *bucket, double burst,
                       int64_t mono_ms)
{
    double left = bucket->left + (double)(mono_ms - bucket->at_ms) * limiter->per_ms;

    return left < burst ? left : burst;
}

/* The bucket of this name; a new one is full. */
static struct bucket *bucket_of(struct hlt_limiter *limiter, uint64_t name, double burst,
                                int64_t mono_ms)
{
    struct bucket *set = limiter->bucket[name & (SETS - 1)];
    struct bucket *oldest = &set[0];

    for (unsigned i = 0; i < HLT_LIMITER_WAYS; i++) {
        if (set[i].name == name) {
            return &set[i];
        }
        if (oldest->name != 0 && (set[i].name == 0 || set[i].at_ms < oldest->at_ms)) {
            oldest = &set[i];
        }
    }
    /* The larger burst: an address's bucket might not be full yet where a login's is. */
    if (oldest->name != 0 &&
        now_left(limiter, oldest, limiter->burst[1], mono_ms) < limiter->burst[1]) {
        limiter->evicted++;
    }
    *oldest = (struct bucket){.name = name, .at_ms = mono_ms, .left = burst};
    return oldest;
}

/* False: that was one too many. */
static bool draw(struct hlt_limiter *limiter, uint64_t name, double burst, int64_t mono_ms)
{
    struct bucket *bucket = bucket_of(limiter, name, burst, mono_ms);

    bucket->left = now_left(limiter, bucket, burst, mono_ms) - 1.0;
    bucket->at_ms = mono_ms;
    if (bucket->left >= 1.0) { /* not 0: a part of one has come back meanwhile */
        return true;
    }
    bucket->left = burst;
    return false;
}

enum hlt_limit hlt_limiter_fail(struct hlt_limiter *limiter, int64_t mono_ms,
                                const struct hlt_address *address, const char *id)
{
    bool address_left = draw(limiter, name_of(limiter, address, NULL), limiter->burst[1], mono_ms);

    if (!address_left) {
        return HLT_LIMIT_ADDRESS;
    }
    if (id == NULL || id[0] == '\0' ||
        draw(limiter, name_of(limiter, address, id), limiter->burst[0], mono_ms)) {
        return HLT_LIMIT_OK;
    }
    return HLT_LIMIT_LOGIN;
}
