/* denial.h - what was denied to each device last: the same thing again only counts.
 *
 * Kept for the devices that were denied something, at most `max` of them: the one whose last denial
 * is the oldest makes room. Denied deliveries (READ) are not kept: one wide subscription makes
 * thousands, and they would push everything else out. */
#ifndef HLT_DENIAL_H
#define HLT_DENIAL_H

#include "base.h"

#define HLT_DENIALS_KEPT 64        /* different denials of a device: access, topic, reason */
#define HLT_DENIAL_TOPIC 128       /* bytes of a topic that are kept, with its NUL */
#define HLT_DENIALS_KEY "denials:" /* in the store's counters, before the device's id */
#define HLT_DENIAL_REASON 24       /* bytes of a reason, with its NUL */

struct hlt_denials;

/* For at most `max` devices (0: nothing is kept). NULL without memory. */
struct hlt_denials *hlt_denials_new(uint32_t max);
void hlt_denials_free(struct hlt_denials *denials); /* accepts NULL */

/* A denial to `device` (a number that names it until hlt_denials_drop). Without memory it is not
 * kept. Cost: up to 64 comparisons. */
void hlt_denials_note(struct hlt_denials *denials, uint32_t device, int64_t wall_ms,
                      const char *access, const char *topic, const char *reason);
/* Forget a device. */
void hlt_denials_drop(struct hlt_denials *denials, uint32_t device);
size_t hlt_denials_devices(const struct hlt_denials *denials);

/* A device whose list changed since it was last handed over; false if there is none. */
bool hlt_denials_dirty(const struct hlt_denials *denials, uint32_t *device);
/* It is handed over. */
void hlt_denials_clean(struct hlt_denials *denials, uint32_t device);
/* The list as JSON, newest first: [{"access","topic","reason","count","first","last"}], times in
 * unix ms. malloc'd; NULL if there is none or without memory. */
char *hlt_denials_text(const struct hlt_denials *denials, uint32_t device);
/* Take a list back that hlt_denials_text made. False if it is none; nothing is kept then. */
bool hlt_denials_restore(struct hlt_denials *denials, uint32_t device, const char *text,
                         size_t len);

#endif
