/* limit.h - how much, how often and how a client may publish, and how many subscriptions it may
 * hold.
 *
 * `limit` lines of all sections of a client count; of several the strictest holds, since each must
 * be kept. What one message shows by itself (payload, qos, retain) is judged from the view alone;
 * rates and subscriptions need a memory, the meter: one for each session, bounded by the policy's
 * lines. */
#ifndef HLT_LIMIT_H
#define HLT_LIMIT_H

#include "policy.h"

enum hlt_limit_kind {
    HLT_LIMIT_PAYLOAD,       /* limit payload SIZE: bytes of one message */
    HLT_LIMIT_QOS,           /* limit qos 0|1|2: the highest */
    HLT_LIMIT_RETAIN,        /* limit retain no */
    HLT_LIMIT_BYTES,         /* limit bytes SIZE/UNIT: payload bytes per time */
    HLT_LIMIT_MESSAGES,      /* limit messages N/UNIT [burst N] */
    HLT_LIMIT_SUBSCRIPTIONS, /* limit subscriptions N: held at a time */
};

#define HLT_LIMITS_MAX 4096               /* limit lines of a policy */
#define HLT_LIMIT_AMOUNT_MAX (1ULL << 36) /* bytes or messages per unit, and burst: 64 GiB */
#define HLT_LIMIT_SUBSCRIPTIONS_MAX 10000

/* Has the client any limit on publishing by what one message shows; by rate; on subscriptions? One
 * load each. */
bool hlt_view_limits_message(const struct hlt_view *view);
bool hlt_view_limits_rate(const struct hlt_view *view);
bool hlt_view_limits_subscriptions(const struct hlt_view *view);

/* Judge one message by itself. NULL: within all limits, else "limit:payload", "limit:qos" or
 * "limit:retain" (static). Cost: by the limits of the client's sections and, for those with `on`,
 * the levels of the filter. */
const char *hlt_limit_message(const struct hlt_view *view, const char *topic, size_t payload_bytes,
                              int qos, bool retain);

/* `limit` lines of a policy. */
size_t hlt_policy_limit_count(const struct hlt_policy *policy);

struct hlt_meter;
/* A meter for a view, with what an older one (may be NULL; it stays the caller's) counted for the
 * same limits, so that a reload is no amnesty. NULL without memory. */
struct hlt_meter *hlt_meter_new(const struct hlt_view *view, const struct hlt_meter *old,
                                int64_t mono_ms);
/* Was it made for this view (not one before at the same address)? */
bool hlt_meter_is_for(const struct hlt_meter *meter, const struct hlt_view *view);
void hlt_meter_free(struct hlt_meter *meter); /* accepts NULL */

/* Count a message at `mono_ms` (never going back). NULL: counted; "limit:bytes" or
 * "limit:messages": over a limit, and nothing was counted. A bucket holds one unit's worth, or
 * `burst`, and fills evenly. `view` must be the one the meter was made for. */
const char *hlt_meter_take(struct hlt_meter *meter, const struct hlt_view *view, const char *topic,
                           size_t payload_bytes, int64_t mono_ms);

/* A subscription is asked for: "limit:subscriptions" if it is one too many, else NULL and it
 * counts; one that is held already counts once. Without memory it is refused. */
const char *hlt_meter_subscribe(struct hlt_meter *meter, const struct hlt_view *view,
                                const char *filter);
void hlt_meter_unsubscribe(struct hlt_meter *meter, const char *filter);
void hlt_meter_forget_subscriptions(struct hlt_meter *meter); /* a clean start */
size_t hlt_meter_subscriptions(const struct hlt_meter *meter);

/* For explanations: limit `index` of the client and whether it speaks for this topic; false past
 * the last. */
bool hlt_view_limit(const struct hlt_view *view, size_t index, const char *topic,
                    struct hlt_rule_ref *out, bool *applies);

#endif
