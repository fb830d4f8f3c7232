/* timer.c - tests of the timing wheel. */
#include "../../shared/timer.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct hlt_wheel wheel;

static struct hlt_timer *pop(int64_t now)
{
    unsigned budget = 100000;

    return hlt_wheel_pop(&wheel, now, &budget);
}

Test(timer, rings_at_its_deadline_and_not_before)
{
    struct hlt_timer timer = {0};

    hlt_wheel_init(&wheel, 1000);
    hlt_timer_set(&wheel, &timer, 5000);
    cr_expect(pop(4999) == NULL);
    cr_expect(pop(5000 + HLT_WHEEL_SLOT_MS) == &timer);
    cr_expect(pop(9000) == NULL, "rings once");
}

Test(timer, a_deadline_beyond_a_turn_waits_for_its_turn)
{
    struct hlt_timer timer = {0};
    int64_t turn = (int64_t)HLT_WHEEL_SLOTS * HLT_WHEEL_SLOT_MS;

    hlt_wheel_init(&wheel, 0);
    hlt_timer_set(&wheel, &timer, 3 * turn + 10);
    for (int64_t now = 0; now <= 3 * turn; now += 1000) {
        cr_assert(pop(now) == NULL, "at %lld", (long long)now);
    }
    cr_expect(pop(3 * turn + 100) == &timer);
}

Test(timer, a_past_deadline_rings_in_the_next_slot)
{
    struct hlt_timer timer = {0};

    hlt_wheel_init(&wheel, 100000);
    hlt_timer_set(&wheel, &timer, 1);
    cr_expect(pop(100000) == NULL, "never inside the call that set it");
    cr_expect(pop(100000 + HLT_WHEEL_SLOT_MS) == &timer);
}

Test(timer, a_cancelled_timer_does_not_ring)
{
    struct hlt_timer one = {0}, two = {0};

    hlt_wheel_init(&wheel, 0);
    hlt_timer_set(&wheel, &one, 500);
    hlt_timer_set(&wheel, &two, 500);
    hlt_timer_cancel(&one);
    hlt_timer_cancel(&one);
    cr_expect(pop(1000) == &two);
    cr_expect(pop(1000) == NULL);
}

Test(timer, the_budget_bounds_one_call_and_nothing_is_lost)
{
    static struct hlt_timer timers[1000];
    unsigned rung = 0;

    hlt_wheel_init(&wheel, 0);
    for (size_t i = 0; i < 1000; i++) {
        hlt_timer_set(&wheel, &timers[i], 500);
    }
    for (unsigned calls = 0; calls < 100; calls++) {
        unsigned budget = 10;
        while (hlt_wheel_pop(&wheel, 1000, &budget) != NULL) {
            rung++;
        }
        cr_assert(rung <= (calls + 1) * 10);
    }
    cr_expect(rung == 1000, "%u", rung);
}

Test(timer, random_deadlines_ring_in_time_and_once)
{
    static struct hlt_timer timers[2000];
    size_t rung = 0;

    srand(7);
    hlt_wheel_init(&wheel, 0);
    for (size_t i = 0; i < 2000; i++) {
        hlt_timer_set(&wheel, &timers[i], rand() % 400000);
    }
    for (int64_t now = 0; now <= 401000; now += 37) {
        struct hlt_timer *timer;
        while ((timer = pop(now)) != NULL) {
            cr_assert(timer->due_ms <= now && now - timer->due_ms <= 37 + 2 * HLT_WHEEL_SLOT_MS,
                      "due %lld at %lld", (long long)timer->due_ms, (long long)now);
            rung++;
        }
    }
    cr_expect(rung == 2000, "%zu", rung);
}
