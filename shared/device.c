/* device.c - the table of devices and the table of metric names. */
#include "device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define CHUNK 1024u /* devices in one slab */

struct hlt_device_slot {
    uint32_t tag;   /* high half of the hash */
    uint32_t index; /* slab entry + 1; 0: empty */
};

static uint64_t slots_for(uint32_t max)
{
    uint64_t slots = 16;

    while (slots < (uint64_t)max * 2) {
        slots *= 2;
    }
    return slots;
}

enum hlt_rc hlt_device_table_init(struct hlt_device_table *table, uint32_t max,
                                  const struct hlt_detector *detector)
{
    uint64_t slots = slots_for(max);

    memset(table, 0, sizeof(*table));
    if (hlt_hash_key_init(&table->key) != 0) {
        return HLT_EIO;
    }
    table->slots = calloc(slots, sizeof(*table->slots));
    table->chunk = calloc(max / CHUNK + 1, sizeof(struct hlt_device *));
    if (table->slots == NULL || table->chunk == NULL) {
        hlt_device_table_free(table);
        return HLT_ENOMEM;
    }
    table->mask = slots - 1;
    table->max = max;
    table->metric_stride = sizeof(struct hlt_metric) + ((detector->state_bytes + 7) & ~(size_t)7);
    return HLT_OK;
}

static void release(struct hlt_device *device)
{
    if (device->id != device->short_id) {
        free(device->id);
    }
    free(device->vitals);
    free(device->device_class);
    free(device->address);
    free(device->address_before);
    free(device->metrics);
    device->id = NULL;
}

struct hlt_device *hlt_device_at(const struct hlt_device_table *table, uint32_t index)
{
    struct hlt_device *chunk = table->chunk != NULL ? table->chunk[index / CHUNK] : NULL;

    return chunk != NULL && chunk[index % CHUNK].id != NULL ? &chunk[index % CHUNK] : NULL;
}

void hlt_device_table_free(struct hlt_device_table *table)
{
    for (uint32_t i = 0; i < table->used; i++) {
        struct hlt_device *device = hlt_device_at(table, i);
        if (device != NULL) {
            release(device);
        }
    }
    for (uint32_t i = 0; table->chunk != NULL && i * CHUNK < table->used; i++) {
        free(table->chunk[i]);
    }
    free(table->chunk);
    free(table->slots);
    memset(table, 0, sizeof(*table));
}

/* The slot of this id, or the empty one where it belongs. */
static struct hlt_device_slot *probe(const struct hlt_device_table *table, uint64_t hash,
                                     const char *id, size_t len)
{
    uint32_t tag = (uint32_t)(hash >> 32);
    uint64_t at = hash & table->mask;

    for (;; at = (at + 1) & table->mask) {
        struct hlt_device_slot *slot = &table->slots[at];
        if (slot->index == 0) {
            return slot;
        }
        if (slot->tag == tag) {
            const struct hlt_device *device =
                &table->chunk[(slot->index - 1) / CHUNK][(slot->index - 1) % CHUNK];
            /* The id is in the first line; the message will touch the next two. */
            __builtin_prefetch((const char *)device + HLT_CACHE_LINE, 1);
            __builtin_prefetch((const char *)device + 2 * HLT_CACHE_LINE, 1);
            if (device->id != NULL && device->id_len == len && memcmp(device->id, id, len) == 0) {
                return slot;
            }
        }
    }
}

struct hlt_device *hlt_device_find(const struct hlt_device_table *table, const char *id, size_t len)
{
    if (len > HLT_ID_MAX) { /* strangers ask with client ids of up to 64 KB: not worth hashing */
        return NULL;
    }
    const struct hlt_device_slot *slot = probe(table, hlt_hash(&table->key, id, len), id, len);

    return slot->index != 0 ? hlt_device_at(table, slot->index - 1) : NULL;
}

/* A slab entry that is free, its memory made if needed; `max` if there is none. */
static uint32_t take_entry(struct hlt_device_table *table)
{
    uint32_t index = table->used;

    if (table->free_head != 0) {
        index = table->free_head - 1;
        table->free_head = table->chunk[index / CHUNK][index % CHUNK].index;
        return index;
    }
    if (index >= table->max) {
        return table->max;
    }
    if (table->chunk[index / CHUNK] == NULL) {
        struct hlt_device *chunk = aligned_alloc(HLT_CACHE_LINE, CHUNK * sizeof(struct hlt_device));
        if (chunk == NULL) {
            return table->max;
        }
        memset(chunk, 0, CHUNK * sizeof(struct hlt_device));
        table->chunk[index / CHUNK] = chunk;
    }
    table->used++;
    return index;
}

struct hlt_device *hlt_device_add(struct hlt_device_table *table, const char *id, size_t len)
{
    uint64_t hash = hlt_hash(&table->key, id, len);
    struct hlt_device_slot *slot = probe(table, hash, id, len);

    if (slot->index != 0) {
        return hlt_device_at(table, slot->index - 1);
    }
    char *copy = len >= HLT_DEVICE_SHORT_ID ? strndup(id, len) : NULL;
    bool fits = len > 0 && len <= HLT_ID_MAX && (copy != NULL || len < HLT_DEVICE_SHORT_ID);
    uint32_t index = fits ? take_entry(table) : table->max;
    if (index == table->max) {
        free(copy);
        return NULL;
    }
    struct hlt_device *device = &table->chunk[index / CHUNK][index % CHUNK];
    *device =
        (struct hlt_device){.id = copy, .id_len = (uint8_t)len, .index = index, .health = 1.0F};
    if (copy == NULL) {
        memcpy(device->short_id, id, len);
        device->id = device->short_id;
    }
    device->timer.kind = HLT_TIMER_DEVICE;
    slot->tag = (uint32_t)(hash >> 32);
    slot->index = index + 1;
    table->count++;
    return device;
}

/* Deletion without tombstones: later entries of the same run move back (Knuth 6.4, algorithm R). */
static void close_gap(struct hlt_device_table *table, uint64_t gap)
{
    uint64_t at = gap;

    for (;;) {
        at = (at + 1) & table->mask;
        if (table->slots[at].index == 0) {
            break;
        }
        const struct hlt_device *device = hlt_device_at(table, table->slots[at].index - 1);
        uint64_t home = hlt_hash(&table->key, device->id, device->id_len) & table->mask;
        if (((at - home) & table->mask) >= ((at - gap) & table->mask)) {
            table->slots[gap] = table->slots[at];
            gap = at;
        }
    }
    table->slots[gap] = (struct hlt_device_slot){0};
}

void hlt_device_remove(struct hlt_device_table *table, struct hlt_device *device)
{
    uint64_t hash = hlt_hash(&table->key, device->id, device->id_len);
    struct hlt_device_slot *slot = probe(table, hash, device->id, device->id_len);
    uint32_t index = device->index;

    if (slot->index == 0) {
        return;
    }
    close_gap(table, (uint64_t)(slot - table->slots));
    release(device);
    *device = (struct hlt_device){.index = table->free_head};
    table->free_head = index + 1;
    table->count--;
}

static size_t room_after(size_t room)
{
    return room == 0 ? 4 : room == 4 ? 8 : HLT_DEVICE_METRICS_MAX;
}

struct hlt_metric *hlt_device_add_metric(struct hlt_device_table *table, struct hlt_device *device,
                                         uint16_t name_id, const struct hlt_detector *detector)
{
    if (device->metric_count == device->metric_room) {
        if (device->metric_room == HLT_DEVICE_METRICS_MAX) {
            return NULL;
        }
        size_t room = room_after(device->metric_room);
        unsigned char *grown = realloc(device->metrics, room * table->metric_stride);
        if (grown == NULL) {
            return NULL;
        }
        device->metrics = grown;
        device->metric_room = (uint8_t)room;
    }
    struct hlt_metric *metric = hlt_metric_at(table, device, device->metric_count++);
    *metric = (struct hlt_metric){.name_id = name_id, .expected = NAN};
    detector->init(hlt_metric_state(metric));
    return metric;
}

uint16_t hlt_names_intern(struct hlt_names *names, const struct hlt_hash_key *key, const char *name,
                          size_t len)
{
    const size_t slots = sizeof(names->slot) / sizeof(names->slot[0]);
    size_t at = hlt_hash(key, name, len) % slots;

    for (; names->slot[at] != 0; at = (at + 1) % slots) {
        uint16_t id = (uint16_t)(names->slot[at] - 1);
        if (names->len[id] == len && memcmp(names->name[id], name, len) == 0) {
            return id;
        }
    }
    if (names->count == HLT_METRIC_NAMES_MAX || len > HLT_METRIC_NAME_MAX) {
        return HLT_NAME_NONE;
    }
    names->name[names->count] = strndup(name, len);
    if (names->name[names->count] == NULL) {
        return HLT_NAME_NONE;
    }
    names->len[names->count] = (uint8_t)len;
    names->slot[at] = (uint16_t)(names->count + 1);
    return names->count++;
}

void hlt_names_free(struct hlt_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->name[i]);
    }
    memset(names, 0, sizeof(*names));
}

void hlt_string_set(char **where, const char *text)
{
    char *copy = NULL;

    if (text != NULL && text[0] != '\0') {
        if (*where != NULL && strcmp(*where, text) == 0) {
            return;
        }
        copy = strdup(text);
        if (copy == NULL) {
            return;
        }
    }
    free(*where);
    *where = copy;
}
