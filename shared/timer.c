/* timer.c - the timing wheel. */
#include "timer.h"

#include <string.h>

static int64_t slot_of(int64_t due_ms)
{
    return due_ms / HLT_WHEEL_SLOT_MS;
}

static void link_into(struct hlt_timer **head, struct hlt_timer *timer)
{
    timer->next = *head;
    timer->link = head;
    if (timer->next != NULL) {
        timer->next->link = &timer->next;
    }
    *head = timer;
}

void hlt_wheel_init(struct hlt_wheel *wheel, int64_t now_ms)
{
    memset(wheel, 0, sizeof(*wheel));
    wheel->at = slot_of(now_ms);
}

void hlt_timer_cancel(struct hlt_timer *timer)
{
    if (timer->link == NULL) {
        return;
    }
    *timer->link = timer->next;
    if (timer->next != NULL) {
        timer->next->link = timer->link;
    }
    timer->next = NULL;
    timer->link = NULL;
}

void hlt_timer_set(struct hlt_wheel *wheel, struct hlt_timer *timer, int64_t due_ms)
{
    int64_t slot = slot_of(due_ms);

    hlt_timer_cancel(timer);
    timer->due_ms = due_ms;
    if (slot <= wheel->at) { /* past or in the slot being worked on: the next one to be opened */
        slot = wheel->at + 1;
    }
    link_into(&wheel->slot[slot % HLT_WHEEL_SLOTS], timer);
}

/* A whole slot is opened at once: its nodes are detached, so that those set again meanwhile are not
 * met twice. */
static void open_slot(struct hlt_wheel *wheel)
{
    struct hlt_timer **head = &wheel->slot[++wheel->at % HLT_WHEEL_SLOTS];

    wheel->open = *head;
    *head = NULL;
    if (wheel->open != NULL) {
        wheel->open->link = &wheel->open;
    }
}

struct hlt_timer *hlt_wheel_pop(struct hlt_wheel *wheel, int64_t now_ms, unsigned *budget)
{
    int64_t last = slot_of(now_ms);

    for (;;) {
        while (wheel->open != NULL) {
            struct hlt_timer *timer = wheel->open;
            if (*budget == 0) {
                return NULL;
            }
            --*budget;
            hlt_timer_cancel(timer);
            if (timer->due_ms <= now_ms) {
                return timer;
            }
            hlt_timer_set(wheel, timer, timer->due_ms); /* a later turn, or later in this slot */
        }
        if (wheel->at >= last) {
            return NULL;
        }
        open_slot(wheel);
    }
}
