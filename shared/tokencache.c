/* tokencache.c - open addressing over 8-byte slots that point into a flat array of entries; a clock
 * hand over the array finds who goes (Corbato 1968). */
#include "tokencache.h"

#include <stdlib.h>
#include <string.h>

#define HAND_STEPS 32 /* entries the hand passes over at most: a login does bounded work */

struct entry {
    uint8_t hash[HLT_SHA256_BYTES];
    struct hlt_claims *claims;
    bool used; /* since the hand came by */
};

/* `home` keeps the low bits of the keyed hash, so that moving a slot needs no entry. */
struct slot {
    uint32_t home;
    uint32_t index; /* of the entry, + 1; 0: free */
};

struct hlt_tokencache {
    struct hlt_hash_key key;
    struct entry *entry;
    struct slot *slot;
    uint32_t mask;
    size_t max, count, hand;
};

struct hlt_tokencache *hlt_tokencache_new(size_t entries)
{
    struct hlt_tokencache *cache = calloc(1, sizeof(*cache));
    size_t slots = 16;

    if (cache == NULL) {
        return NULL;
    }
    cache->max = entries < HLT_TOKENCACHE_MAX ? entries : HLT_TOKENCACHE_MAX;
    while (slots < 2 * cache->max) {
        slots *= 2;
    }
    cache->mask = (uint32_t)(slots - 1);
    cache->entry = calloc(cache->max > 0 ? cache->max : 1, sizeof(*cache->entry));
    cache->slot = calloc(slots, sizeof(*cache->slot));
    if (cache->entry == NULL || cache->slot == NULL || hlt_hash_key_init(&cache->key) != 0) {
        hlt_tokencache_free(cache);
        return NULL;
    }
    return cache;
}

void hlt_tokencache_clear(struct hlt_tokencache *cache)
{
    for (size_t i = 0; i < cache->count; i++) {
        hlt_claims_free(cache->entry[i].claims);
    }
    if (cache->count > 0) {
        memset(cache->slot, 0, ((size_t)cache->mask + 1) * sizeof(*cache->slot));
    }
    cache->count = cache->hand = 0;
}

void hlt_tokencache_free(struct hlt_tokencache *cache)
{
    if (cache == NULL) {
        return;
    }
    if (cache->entry != NULL && cache->slot != NULL) {
        hlt_tokencache_clear(cache);
    }
    free(cache->entry);
    free(cache->slot);
    free(cache);
}

size_t hlt_tokencache_count(const struct hlt_tokencache *cache)
{
    return cache->count;
}

static uint32_t home_of(const struct hlt_tokencache *cache, const uint8_t *hash)
{
    return (uint32_t)hlt_hash(&cache->key, hash, HLT_SHA256_BYTES);
}

/* The slot of this hash, or the free one where it would go. At least half of them are free. */
static struct slot *find(const struct hlt_tokencache *cache, const uint8_t *hash, uint32_t home)
{
    uint32_t at = home & cache->mask;

    while (cache->slot[at].index != 0) {
        struct slot *slot = &cache->slot[at];
        if (slot->home == home &&
            memcmp(cache->entry[slot->index - 1].hash, hash, HLT_SHA256_BYTES) == 0) {
            return slot;
        }
        at = (at + 1) & cache->mask;
    }
    return &cache->slot[at];
}

bool hlt_tokencache_holds(const struct hlt_tokencache *cache, const uint8_t hash[HLT_SHA256_BYTES])
{
    return find(cache, hash, home_of(cache, hash))->index != 0;
}

struct hlt_claims *hlt_tokencache_get(struct hlt_tokencache *cache,
                                      const uint8_t hash[HLT_SHA256_BYTES])
{
    const struct slot *slot = find(cache, hash, home_of(cache, hash));

    if (slot->index == 0) {
        return NULL;
    }
    struct entry *entry = &cache->entry[slot->index - 1];
    entry->used = true;
    return hlt_claims_share(entry->claims);
}

/* Free a slot and close the gap, so that no search ends too early (Knuth 6.4, algorithm R). */
static void remove_slot(struct hlt_tokencache *cache, uint32_t gap)
{
    uint32_t at = gap;

    for (;;) {
        cache->slot[gap].index = 0;
        for (;;) {
            at = (at + 1) & cache->mask;
            if (cache->slot[at].index == 0) {
                return;
            }
            uint32_t home = cache->slot[at].home & cache->mask;
            if (((at - home) & cache->mask) >= ((at - gap) & cache->mask)) {
                break; /* it may stand in the gap */
            }
        }
        cache->slot[gap] = cache->slot[at];
        gap = at;
    }
}

/* An entry for a new token: a fresh one, or that of the token unused for longest. */
static size_t take_entry(struct hlt_tokencache *cache)
{
    if (cache->count < cache->max) {
        return cache->count++;
    }
    for (unsigned step = 0; step < HAND_STEPS && cache->entry[cache->hand].used; step++) {
        cache->entry[cache->hand].used = false;
        cache->hand = (cache->hand + 1) % cache->max;
    }
    size_t index = cache->hand;
    struct entry *old = &cache->entry[index];
    const struct slot *slot = find(cache, old->hash, home_of(cache, old->hash));
    cache->hand = (cache->hand + 1) % cache->max;
    remove_slot(cache, (uint32_t)(slot - cache->slot));
    hlt_claims_free(old->claims);
    return index;
}

void hlt_tokencache_put(struct hlt_tokencache *cache, const uint8_t hash[HLT_SHA256_BYTES],
                        struct hlt_claims *claims)
{
    uint32_t home = home_of(cache, hash);

    if (cache->max == 0 || claims->json_len > HLT_TOKENCACHE_CLAIMS_MAX ||
        find(cache, hash, home)->index != 0) {
        return;
    }
    size_t index = take_entry(cache);
    struct slot *slot = find(cache, hash, home); /* now: making room moves slots */
    struct entry *entry = &cache->entry[index];
    memcpy(entry->hash, hash, HLT_SHA256_BYTES);
    entry->claims = hlt_claims_share(claims);
    entry->used = false;
    *slot = (struct slot){.home = home, .index = (uint32_t)index + 1};
}
