/* timer.h - a hashed timing wheel (Varghese and Lauck, 1987): many timers, O(1) to set and cancel,
 * bounded work per call.
 *
 * Nodes are embedded in what they time. Moving a deadline later needs no call: let it ring, look,
 * set it again. */
#ifndef HLT_TIMER_H
#define HLT_TIMER_H

#include "base.h"

#define HLT_WHEEL_SLOTS 2048
#define HLT_WHEEL_SLOT_MS                                                                          \
    64 /* resolution; a turn is 131 s, later deadlines stay for further turns */

enum hlt_timer_kind { HLT_TIMER_SESSION, HLT_TIMER_DEVICE, HLT_TIMER_ALERT };

struct hlt_timer {
    struct hlt_timer *next;
    struct hlt_timer **link; /* what points here; NULL: not set */
    int64_t due_ms;          /* monotonic */
    enum hlt_timer_kind kind;
};

struct hlt_wheel {
    struct hlt_timer *slot[HLT_WHEEL_SLOTS];
    struct hlt_timer *open; /* nodes of the slot being worked through */
    int64_t at;             /* slot number reached */
};

void hlt_wheel_init(struct hlt_wheel *wheel, int64_t now_ms);
/* (Re)set; a deadline in the past rings at the next call. */
void hlt_timer_set(struct hlt_wheel *wheel, struct hlt_timer *timer, int64_t due_ms);
void hlt_timer_cancel(struct hlt_timer *timer);
/* The next timer that is due, taken off the wheel; NULL: none, or *budget (nodes looked at) is used
 * up. */
struct hlt_timer *hlt_wheel_pop(struct hlt_wheel *wheel, int64_t now_ms, unsigned *budget);

#endif
