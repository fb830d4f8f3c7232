/* keyuse.c - counts accepted tokens by key. */
#include "keyuse.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "jsondoc.h"
#include "keyset.h"

#define SLOTS ((size_t)2 * HLT_KEYS_MAX) /* a power of two, never more than half full */

struct use {
    char *kid;
    char alg[16];
    uint64_t count;
    int64_t first_ms, last_ms;
};

struct hlt_keyuse {
    struct use use[HLT_KEYS_MAX];
    uint16_t slot[SLOTS]; /* index + 1; 0: free */
    size_t count;
    bool dirty;
};

struct hlt_keyuse *hlt_keyuse_new(void)
{
    return calloc(1, sizeof(struct hlt_keyuse));
}

void hlt_keyuse_free(struct hlt_keyuse *keys)
{
    if (keys != NULL) {
        for (size_t i = 0; i < keys->count; i++) {
            free(keys->use[i].kid);
        }
        free(keys);
    }
}

/* The slot of this key, or the free one where it belongs. Kids come from the key files, not from
 * strangers: the hash needs no key. */
static uint16_t *slot_of(struct hlt_keyuse *keys, const char *kid, const char *alg)
{
    size_t at = hlt_checksum(kid, strlen(kid)) % SLOTS;

    while (keys->slot[at] != 0) {
        const struct use *use = &keys->use[keys->slot[at] - 1];
        if (strcmp(use->kid, kid) == 0 && strcmp(use->alg, alg) == 0) {
            break;
        }
        at = (at + 1) % SLOTS;
    }
    return &keys->slot[at];
}

static void make_room(struct hlt_keyuse *keys)
{
    size_t oldest = 0;

    for (size_t i = 1; i < keys->count; i++) {
        if (keys->use[i].last_ms < keys->use[oldest].last_ms) {
            oldest = i;
        }
    }
    free(keys->use[oldest].kid);
    keys->use[oldest] = keys->use[--keys->count];
    memset(keys->slot, 0, sizeof(keys->slot));
    for (size_t i = 0; i < keys->count; i++) {
        *slot_of(keys, keys->use[i].kid, keys->use[i].alg) = (uint16_t)(i + 1);
    }
}

/* NULL without memory. */
static struct use *use_of(struct hlt_keyuse *keys, const char *kid, const char *alg)
{
    uint16_t *slot = slot_of(keys, kid, alg);

    if (*slot != 0) {
        return &keys->use[*slot - 1];
    }
    char *copy = strlen(alg) < sizeof(keys->use[0].alg) ? strdup(kid) : NULL;
    if (copy == NULL) {
        return NULL;
    }
    if (keys->count == HLT_KEYS_MAX) {
        make_room(keys);
        slot = slot_of(keys, kid, alg);
    }
    struct use *use = &keys->use[keys->count++];
    *use = (struct use){.kid = copy};
    memcpy(use->alg, alg, strlen(alg) + 1);
    *slot = (uint16_t)keys->count;
    return use;
}

void hlt_keyuse_count(struct hlt_keyuse *keys, const char *kid, const char *alg, int64_t wall_ms)
{
    struct use *use = use_of(keys, kid, alg);

    if (use == NULL) {
        return;
    }
    if (use->count++ == 0) {
        use->first_ms = wall_ms;
    }
    use->last_ms = wall_ms;
    keys->dirty = true;
}

size_t hlt_keyuse_keys(const struct hlt_keyuse *keys)
{
    return keys->count;
}

bool hlt_keyuse_dirty(const struct hlt_keyuse *keys)
{
    return keys->dirty;
}

void hlt_keyuse_stored(struct hlt_keyuse *keys)
{
    keys->dirty = false;
}

static int compare_last(const void *left, const void *right)
{
    const struct use *const *a = left, *const *b = right;

    return ((*a)->last_ms < (*b)->last_ms) - ((*a)->last_ms > (*b)->last_ms);
}

char *hlt_keyuse_text(const struct hlt_keyuse *keys, size_t max)
{
    const struct use **order = malloc((keys->count + 1) * sizeof(const struct use *));
    cJSON *list = order != NULL ? cJSON_CreateArray() : NULL;

    for (size_t i = 0; order != NULL && i < keys->count; i++) {
        order[i] = &keys->use[i];
    }
    if (order != NULL) {
        qsort(order, keys->count, sizeof(const struct use *), compare_last);
    }
    for (size_t i = 0; list != NULL && i < keys->count && i < max; i++) {
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddStringToObject(entry, "kid", order[i]->kid);
        cJSON_AddStringToObject(entry, "alg", order[i]->alg);
        cJSON_AddNumberToObject(entry, "count", (double)order[i]->count);
        cJSON_AddNumberToObject(entry, "first", (double)order[i]->first_ms);
        cJSON_AddNumberToObject(entry, "last", (double)order[i]->last_ms);
        cJSON_AddItemToArray(list, entry);
    }
    free(order);
    return list != NULL ? hlt_jsondoc_print(list) : NULL;
}

/* An entry that is none of ours is passed over. */
static void restore_entry(struct hlt_keyuse *keys, const cJSON *entry)
{
    const char *kid = hlt_jsondoc_text(entry, "kid");
    const char *alg = hlt_jsondoc_text(entry, "alg");
    uint64_t count, first, last;

    if (kid == NULL || alg == NULL ||
        !hlt_jsondoc_whole(entry, "count", HLT_JSONDOC_WHOLE_MAX, &count) ||
        !hlt_jsondoc_whole(entry, "first", HLT_JSONDOC_WHOLE_MAX, &first) ||
        !hlt_jsondoc_whole(entry, "last", HLT_JSONDOC_WHOLE_MAX, &last)) {
        return;
    }
    struct use *use = use_of(keys, kid, alg);
    if (use != NULL) {
        use->count += count;
        use->first_ms = (int64_t)first;
        use->last_ms = (int64_t)last;
    }
}

void hlt_keyuse_restore(struct hlt_keyuse *keys, const char *text, size_t len)
{
    cJSON *list = cJSON_ParseWithLength(text, len);
    const cJSON *entry;

    cJSON_ArrayForEach(entry, list)
    {
        restore_entry(keys, entry);
    }
    cJSON_Delete(list);
}
