/* denial.c - the last denials of each device, aggregated. */
#include "denial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jsondoc.h"
#include "text.h"

#define NUMBER_MAX 8999999999999999.0 /* a number of ours is exact, and below this */

struct denial {
    int64_t first_ms, last_ms;
    uint64_t count;
    char topic[HLT_DENIAL_TOPIC];
    char reason[HLT_DENIAL_REASON];
    char access[12];
};

struct list {
    uint32_t device;
    uint32_t count, space;
    struct denial *denial;
    struct list *next;          /* of the bucket */
    struct list *newer, *older; /* by last denial */
    struct list *dirty_next;    /* a queue */
    bool dirty;
};

struct hlt_denials {
    struct list **bucket;
    uint32_t mask, count, max;
    struct list *newest, *oldest;
    struct list *dirty, **dirty_tail;
};

struct hlt_denials *hlt_denials_new(uint32_t max)
{
    struct hlt_denials *denials = calloc(1, sizeof(*denials));
    uint32_t buckets = 16;

    while (buckets < max && buckets < 1U << 20) {
        buckets *= 2;
    }
    if (denials != NULL) {
        denials->bucket = calloc(buckets, sizeof(struct list *));
        denials->mask = buckets - 1;
        denials->max = max;
        denials->dirty_tail = &denials->dirty;
    }
    if (denials == NULL || denials->bucket == NULL) {
        free(denials);
        return NULL;
    }
    return denials;
}

static struct list **place(const struct hlt_denials *denials, uint32_t device)
{
    return &denials->bucket[device * UINT32_C(2654435769) >> 8 & denials->mask];
}

static struct list *find(const struct hlt_denials *denials, uint32_t device)
{
    struct list *list = *place(denials, device);

    while (list != NULL && list->device != device) {
        list = list->next;
    }
    return list;
}

static void unlink_age(struct hlt_denials *denials, struct list *list)
{
    *(list->newer != NULL ? &list->newer->older : &denials->newest) = list->older;
    *(list->older != NULL ? &list->older->newer : &denials->oldest) = list->newer;
    list->newer = list->older = NULL;
}

static void link_newest(struct hlt_denials *denials, struct list *list)
{
    list->older = denials->newest;
    *(list->older != NULL ? &list->older->newer : &denials->oldest) = list;
    denials->newest = list;
}

static void undirty(struct hlt_denials *denials, struct list *list)
{
    struct list **link = &denials->dirty;

    if (!list->dirty) {
        return;
    }
    while (*link != list) {
        link = &(*link)->dirty_next;
    }
    *link = list->dirty_next;
    if (*link == NULL) {
        denials->dirty_tail = link;
    }
    list->dirty = false;
    list->dirty_next = NULL;
}

static void mark_dirty(struct hlt_denials *denials, struct list *list)
{
    if (!list->dirty) {
        list->dirty = true;
        list->dirty_next = NULL;
        *denials->dirty_tail = list;
        denials->dirty_tail = &list->dirty_next;
    }
}

void hlt_denials_drop(struct hlt_denials *denials, uint32_t device)
{
    struct list *list = find(denials, device);
    struct list **link = place(denials, device);

    if (list == NULL) {
        return;
    }
    while (*link != list) {
        link = &(*link)->next;
    }
    *link = list->next;
    unlink_age(denials, list);
    undirty(denials, list);
    free(list->denial);
    free(list);
    denials->count--;
}

void hlt_denials_free(struct hlt_denials *denials)
{
    if (denials == NULL) {
        return;
    }
    while (denials->oldest != NULL) {
        hlt_denials_drop(denials, denials->oldest->device);
    }
    free(denials->bucket);
    free(denials);
}

size_t hlt_denials_devices(const struct hlt_denials *denials)
{
    return denials->count;
}

/* The device's list, the newest now. */
static struct list *list_of(struct hlt_denials *denials, uint32_t device)
{
    struct list *list = find(denials, device);

    if (list != NULL) {
        unlink_age(denials, list);
        link_newest(denials, list);
        return list;
    }
    if (denials->max == 0) {
        return NULL;
    }
    list = calloc(1, sizeof(*list));
    if (list == NULL) {
        return NULL;
    }
    if (denials->count == denials->max) {
        hlt_denials_drop(denials, denials->oldest->device);
    }
    list->device = device;
    list->next = *place(denials, device);
    *place(denials, device) = list;
    link_newest(denials, list);
    denials->count++;
    return list;
}

/* Where a new denial goes: a new place, or that of the one seen longest ago. NULL without memory.
 */
static struct denial *new_denial(struct list *list)
{
    struct denial *oldest;

    if (list->count == list->space && list->count < HLT_DENIALS_KEPT) {
        uint32_t space = list->space == 0 ? 4 : list->space * 2;
        struct denial *grown = realloc(list->denial, space * sizeof(*grown));

        if (grown == NULL) {
            return NULL;
        }
        list->denial = grown;
        list->space = space;
    }
    if (list->count < list->space) {
        return &list->denial[list->count++];
    }
    oldest = &list->denial[0];
    for (uint32_t i = 1; i < list->count; i++) {
        oldest = list->denial[i].last_ms < oldest->last_ms ? &list->denial[i] : oldest;
    }
    return oldest;
}

/* As kept: printable, cut. */
static void keep(const struct denial *what, struct list *list)
{
    struct denial *denial = NULL;

    for (uint32_t i = 0; i < list->count; i++) {
        if (strcmp(list->denial[i].topic, what->topic) == 0 &&
            strcmp(list->denial[i].reason, what->reason) == 0 &&
            strcmp(list->denial[i].access, what->access) == 0) {
            denial = &list->denial[i];
            denial->count += what->count;
            denial->last_ms = what->last_ms;
            return;
        }
    }
    denial = new_denial(list);
    if (denial != NULL) {
        *denial = *what;
    }
}

void hlt_denials_note(struct hlt_denials *denials, uint32_t device, int64_t wall_ms,
                      const char *access, const char *topic, const char *reason)
{
    struct denial what = {.first_ms = wall_ms, .last_ms = wall_ms, .count = 1};
    struct list *list = list_of(denials, device);

    if (list == NULL) {
        return;
    }
    (void)hlt_printable(what.topic, sizeof(what.topic), topic, strlen(topic));
    (void)snprintf(what.access, sizeof(what.access), "%s", access);
    (void)snprintf(what.reason, sizeof(what.reason), "%s", reason);
    keep(&what, list);
    mark_dirty(denials, list);
}

bool hlt_denials_dirty(const struct hlt_denials *denials, uint32_t *device)
{
    if (denials->dirty == NULL) {
        return false;
    }
    *device = denials->dirty->device;
    return true;
}

void hlt_denials_clean(struct hlt_denials *denials, uint32_t device)
{
    struct list *list = find(denials, device);

    if (list != NULL) {
        undirty(denials, list);
    }
}

static int newest_first(const void *left, const void *right)
{
    const struct denial *a = left, *b = right;

    return a->last_ms > b->last_ms ? -1 : a->last_ms < b->last_ms;
}

char *hlt_denials_text(const struct hlt_denials *denials, uint32_t device)
{
    struct list *list = find(denials, device);
    cJSON *array = list != NULL ? cJSON_CreateArray() : NULL;

    if (array == NULL) {
        return NULL;
    }
    if (list->count > 0) {
        qsort(list->denial, list->count, sizeof(*list->denial), newest_first);
    }
    for (uint32_t i = 0; i < list->count; i++) {
        const struct denial *denial = &list->denial[i];
        cJSON *item = cJSON_CreateObject();

        cJSON_AddStringToObject(item, "access", denial->access);
        cJSON_AddStringToObject(item, "topic", denial->topic);
        cJSON_AddStringToObject(item, "reason", denial->reason);
        cJSON_AddNumberToObject(item, "count", (double)denial->count);
        cJSON_AddNumberToObject(item, "first", (double)denial->first_ms);
        cJSON_AddNumberToObject(item, "last", (double)denial->last_ms);
        cJSON_AddItemToArray(array, item);
    }
    return hlt_jsondoc_print(array);
}

static bool read_text(const cJSON *item, const char *name, char *out, size_t bytes)
{
    const char *text = hlt_jsondoc_text(item, name);

    if (text == NULL) {
        return false;
    }
    (void)snprintf(out, bytes, "%s", text);
    return true;
}

bool hlt_denials_restore(struct hlt_denials *denials, uint32_t device, const char *text, size_t len)
{
    cJSON *array = cJSON_ParseWithLength(text, len);
    const cJSON *item;
    struct list *list;
    bool good = cJSON_IsArray(array);

    list = good && cJSON_GetArraySize(array) > 0 ? list_of(denials, device) : NULL;
    cJSON_ArrayForEach(item, array)
    {
        struct denial what = {0};
        uint64_t first = 0, last = 0;

        good = good && read_text(item, "access", what.access, sizeof(what.access)) &&
               read_text(item, "topic", what.topic, sizeof(what.topic)) &&
               read_text(item, "reason", what.reason, sizeof(what.reason)) &&
               hlt_jsondoc_whole(item, "first", NUMBER_MAX, &first) &&
               hlt_jsondoc_whole(item, "last", NUMBER_MAX, &last) &&
               hlt_jsondoc_whole(item, "count", NUMBER_MAX, &what.count);
        what.first_ms = (int64_t)first;
        what.last_ms = (int64_t)last;
        if (good && list != NULL) {
            keep(&what, list);
        }
    }
    if (!good && list != NULL) {
        hlt_denials_drop(denials, device);
    }
    cJSON_Delete(array);
    return good;
}
