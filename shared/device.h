/* device.h - the table of devices: what Haltere remembers of each, found by id in one probe or two.
 *
 * Open addressing over 8-byte slots (tag and index), keyed hash, load <= 0.5, sized at start from
 * max_devices, so it never stalls the broker to grow (facts: store and hot path, 4). Records live
 * in slabs: pointers stay valid until forget. */
#ifndef HLT_DEVICE_H
#define HLT_DEVICE_H

#include "detector.h"
#include "hash.h"
#include "record.h"
#include "telemetry.h"
#include "timer.h"

#define HLT_DEVICE_METRICS_MAX HLT_RECORD_METRICS_MAX
#define HLT_CACHE_LINE ((size_t)64)
#define HLT_DEVICE_SHORT_ID 32 /* ids below this length cost no cache line of their own */

struct hlt_alert;

/* One metric of one device; the detector's state follows it in the block (hlt_metric_state). */
struct hlt_metric {
    uint16_t name_id;
    uint8_t breached;  /* a threshold rule's alert on this metric exists and is not resolved */
    uint8_t anomalous; /* likewise the anomaly rule's */
    float expected, score;
    double value;
    int64_t time_ms; /* unix ms */
    uint64_t count;
};

/* What the device says of itself; allocated with its first status message. */
struct hlt_vitals {
    float cpu, memory, disk, battery; /* percent; NAN: not told */
    double uptime_s;
    char firmware[64];
};

/* What every message touches stands first, in the order it is touched: with a million devices a
 * message costs the cache lines it reads, not the instructions. */
struct hlt_device {
    _Alignas(HLT_CACHE_LINE) char
        *id;                /* NUL-terminated, valid by hlt_id_valid; short ones are in short_id */
    unsigned char *metrics; /* metric_room blocks of metric_stride bytes */
    struct hlt_alert *alerts;
    char short_id[HLT_DEVICE_SHORT_ID];
    uint8_t id_len;
    uint8_t metric_count, metric_room;
    uint8_t status;               /* enum hlt_device_status */
    uint8_t band, published_band; /* enum hlt_band */
    bool dirty, silent;
    int64_t seen_mono_ms; /* of last_seen, or of the start of this process */
    int64_t last_seen_ms; /* unix ms, as all *_ms that are not mono */
    uint64_t messages, bytes;
    struct hlt_device *next_dirty;
    int64_t health_mono_ms; /* last evaluation */
    float cadence_s;
    uint32_t cadence_count;
    struct hlt_timer timer; /* silence */
    /* seldom touched */
    uint32_t index;
    uint8_t disconnect_reason;
    bool has_token, said_online, said_availability;
    bool availability_due; /* it is said on the next tick */
    uint16_t sessions;     /* online now */
    float health;
    uint32_t version, episode; /* episode: floor, of evicted alerts (DESIGN 11.13) */
    int64_t first_seen_ms, last_connect_ms, last_disconnect_ms, since_ms;
    int64_t said_mono_ms; /* last health document */
    int64_t token_exp_s;
    uint64_t malformed, denied, anomalies, connects, auth_failures;
    /* at the last evaluation */
    uint64_t messages_then, malformed_then, connects_then, anomalies_then;
    uint64_t health_hash; /* of the last health document, to know it again (11.10) */
    struct hlt_vitals *vitals;
    char *device_class, *address; /* NULL: none */
    char *address_before;         /* another one it logged in from, NULL: none */
    int64_t login_mono_ms;        /* of the last login; 0: none since the start */
};

struct hlt_device_table {
    struct hlt_hash_key key;
    struct hlt_device_slot *slots;
    uint64_t mask;
    struct hlt_device **chunk;
    uint32_t count, used, max; /* devices, slab entries ever used, cap */
    uint32_t free_head;        /* index + 1 of the first free entry */
    size_t metric_stride;
};

/* Sized for `max` devices (address space only; memory comes with use). */
enum hlt_rc hlt_device_table_init(struct hlt_device_table *table, uint32_t max,
                                  const struct hlt_detector *detector);
void hlt_device_table_free(struct hlt_device_table *table);

struct hlt_device *hlt_device_find(const struct hlt_device_table *table, const char *id,
                                   size_t len);
/* Ask for the memory that reading a message of this device will touch, while it is being parsed. */
static inline void hlt_device_prefetch(const struct hlt_device_table *table,
                                       const struct hlt_device *device)
{
    size_t bytes = device->metric_count * table->metric_stride;

    for (size_t i = 0; i < bytes; i += HLT_CACHE_LINE) {
        __builtin_prefetch(device->metrics + i, 1);
    }
}
/* Find or add. NULL: the table is full or no memory. The id must be valid. */
struct hlt_device *hlt_device_add(struct hlt_device_table *table, const char *id, size_t len);
/* Takes it out and frees it; it must have no timer, alerts or sessions left. */
void hlt_device_remove(struct hlt_device_table *table, struct hlt_device *device);
/* The device in slab entry `index` (0 .. used - 1), NULL if it is free. */
struct hlt_device *hlt_device_at(const struct hlt_device_table *table, uint32_t index);

static inline struct hlt_metric *hlt_metric_at(const struct hlt_device_table *table,
                                               const struct hlt_device *device, size_t index)
{
    return (struct hlt_metric *)(void *)(device->metrics + index * table->metric_stride);
}
static inline void *hlt_metric_state(struct hlt_metric *metric)
{
    return metric + 1;
}
/* Add a metric with a fresh detector state; NULL: HLT_DEVICE_METRICS_MAX reached, or no memory. */
struct hlt_metric *hlt_device_add_metric(struct hlt_device_table *table, struct hlt_device *device,
                                         uint16_t name_id, const struct hlt_detector *detector);

/* Metric names, interned: id -> name and back. At most HLT_METRIC_NAMES_MAX different ones. */
#define HLT_METRIC_NAMES_MAX 4096
#define HLT_NAME_NONE UINT16_MAX
struct hlt_names {
    char *name[HLT_METRIC_NAMES_MAX];
    uint8_t len[HLT_METRIC_NAMES_MAX];
    uint16_t slot[2 * HLT_METRIC_NAMES_MAX]; /* id + 1 */
    uint16_t count, saved;                   /* saved: already handed to the store */
};
/* The id, added if new; HLT_NAME_NONE if the table is full. */
uint16_t hlt_names_intern(struct hlt_names *names, const struct hlt_hash_key *key, const char *name,
                          size_t len);
void hlt_names_free(struct hlt_names *names);

/* Replace an owned string; "" becomes NULL. Keeps the old one without memory. */
void hlt_string_set(char **where, const char *text);

#endif
