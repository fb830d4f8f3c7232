/* recent.c - a client's last questions: a small ring of pairs. */
#include "recent.h"

#include <stdlib.h>
#include <string.h>

#include "../shared/hash.h"

#define FIRST_SPACE 4 /* most devices ask two or three things */

struct pair {
    char *topic; /* with its NUL */
    uint32_t hash;
    uint16_t len;
    uint8_t access;
    bool held;
};

struct hlt_recent {
    uint8_t count, space;
    uint8_t next; /* the ring's oldest place, once it is full */
    uint8_t held;
    struct pair pair[];
};

static size_t bytes_for(unsigned space)
{
    return sizeof(struct hlt_recent) + space * sizeof(struct pair);
}

static struct pair *find(struct hlt_recent *recent, enum hlt_access access, const char *topic,
                         size_t len, uint32_t hash)
{
    for (unsigned i = 0; recent != NULL && i < recent->count; i++) {
        struct pair *pair = &recent->pair[i];

        if (pair->hash == hash && pair->len == len && pair->access == access &&
            memcmp(pair->topic, topic, len) == 0) {
            return pair;
        }
    }
    return NULL;
}

/* Room for one more pair at the end. False without memory, or if the ring has its full size. */
static bool grow(struct hlt_recent **recent, struct hlt_recent_pool *pool)
{
    unsigned space = *recent != NULL ? (*recent)->space : 0;
    unsigned wanted = space == 0 ? FIRST_SPACE : space * 2;
    size_t more = bytes_for(wanted) - (space > 0 ? bytes_for(space) : 0);
    struct hlt_recent *grown;

    if (space == HLT_RECENT_MAX || pool->bytes + more > pool->bytes_max) {
        return false;
    }
    grown = realloc(*recent, bytes_for(wanted));
    if (grown == NULL) {
        return false;
    }
    if (space == 0) {
        memset(grown, 0, sizeof(*grown));
    }
    grown->space = (uint8_t)wanted;
    pool->bytes += more;
    *recent = grown;
    return true;
}

static void clear(struct hlt_recent *recent, struct hlt_recent_pool *pool, struct pair *pair)
{
    pool->bytes -= (uint64_t)pair->len + 1;
    recent->held = (uint8_t)(recent->held - pair->held);
    free(pair->topic);
    *pair = (struct pair){0};
}

/* The place for a new pair: behind the last, or that of the oldest pair whose kind must make room:
 * among held subscriptions if there are enough of them, else among the others. */
static struct pair *place(struct hlt_recent **recent, struct hlt_recent_pool *pool, bool held)
{
    bool among_held = held && *recent != NULL && (*recent)->held == HLT_RECENT_HELD_MAX;

    if (!among_held && (*recent == NULL || (*recent)->count == (*recent)->space)) {
        (void)grow(recent, pool);
    }
    if (*recent == NULL) {
        return NULL;
    }
    if (!among_held && (*recent)->count < (*recent)->space) {
        return &(*recent)->pair[(*recent)->count++];
    }
    for (unsigned i = 0; i < (*recent)->count; i++) {
        unsigned at = ((*recent)->next + i) % (*recent)->count;
        struct pair *pair = &(*recent)->pair[at];

        if (pair->held == among_held) {
            (*recent)->next = (uint8_t)((at + 1) % (*recent)->count);
            clear(*recent, pool, pair);
            return pair;
        }
    }
    return NULL; /* nothing but held subscriptions, and no memory for more places */
}

/* Take the pair out; the last one fills its place. */
static void take_out(struct hlt_recent *recent, struct hlt_recent_pool *pool, struct pair *pair)
{
    clear(recent, pool, pair);
    *pair = recent->pair[--recent->count];
    recent->next = (uint8_t)(recent->count > 0 ? recent->next % recent->count : 0);
}

void hlt_recent_note(struct hlt_recent **recent, struct hlt_recent_pool *pool,
                     enum hlt_access access, const char *topic, size_t len, bool held)
{
    uint32_t hash = hlt_checksum(topic, len);
    struct pair *pair = find(*recent, access, topic, len, hash);
    char *copy;

    if (pair != NULL && pair->held == held) {
        return;
    }
    if (pair != NULL) { /* asked before with the other answer */
        take_out(*recent, pool, pair);
    }
    if (len > HLT_RECENT_TOPIC_MAX || pool->bytes + len + 1 > pool->bytes_max) {
        pool->dropped++;
        return;
    }
    copy = malloc(len + 1);
    pair = copy != NULL ? place(recent, pool, held) : NULL;
    if (pair == NULL) {
        free(copy);
        pool->dropped++;
        return;
    }
    memcpy(copy, topic, len);
    copy[len] = '\0';
    *pair = (struct pair){
        .topic = copy, .hash = hash, .len = (uint16_t)len, .access = (uint8_t)access, .held = held};
    pool->bytes += len + 1;
    (*recent)->held = (uint8_t)((*recent)->held + held);
}

void hlt_recent_release(struct hlt_recent *recent, struct hlt_recent_pool *pool, const char *filter)
{
    size_t len = strlen(filter);
    struct pair *pair = find(recent, HLT_SUBSCRIBE, filter, len, hlt_checksum(filter, len));

    if (pair != NULL) {
        take_out(recent, pool, pair);
    }
}

void hlt_recent_release_all(struct hlt_recent *recent, struct hlt_recent_pool *pool)
{
    for (unsigned i = recent != NULL ? recent->count : 0; i-- > 0;) {
        if (recent->pair[i].held) {
            take_out(recent, pool, &recent->pair[i]);
        }
    }
}

void hlt_recent_free(struct hlt_recent *recent, struct hlt_recent_pool *pool)
{
    if (recent == NULL) {
        return;
    }
    while (recent->count > 0) {
        take_out(recent, pool, &recent->pair[0]);
    }
    pool->bytes -= bytes_for(recent->space);
    free(recent);
}

bool hlt_recent_at(const struct hlt_recent *recent, size_t index, struct hlt_recent_pair *out)
{
    if (recent == NULL || index >= recent->count) {
        return false;
    }
    out->access = (enum hlt_access)recent->pair[index].access;
    out->topic = recent->pair[index].topic;
    out->held = recent->pair[index].held;
    return true;
}
