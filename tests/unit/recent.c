/* A client's last questions: bounded by client and over all, held subscriptions stay. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "../../plugin/recent.h"

static struct hlt_recent_pool pool;

static void begin(void)
{
    pool = (struct hlt_recent_pool){.bytes_max = 1 << 20};
}

TestSuite(recent, .init = begin);

static void note(struct hlt_recent **recent, enum hlt_access access, const char *topic, bool held)
{
    hlt_recent_note(recent, &pool, access, topic, strlen(topic), held);
}

static size_t count(const struct hlt_recent *recent)
{
    struct hlt_recent_pair pair;
    size_t found = 0;

    while (hlt_recent_at(recent, found, &pair)) {
        found++;
    }
    return found;
}

static bool has(const struct hlt_recent *recent, enum hlt_access access, const char *topic)
{
    struct hlt_recent_pair pair;

    for (size_t i = 0; hlt_recent_at(recent, i, &pair); i++) {
        if (pair.access == access && strcmp(pair.topic, topic) == 0) {
            return true;
        }
    }
    return false;
}

Test(recent, the_same_question_is_kept_once)
{
    struct hlt_recent *recent = NULL;

    for (int i = 0; i < 3; i++) {
        note(&recent, HLT_WRITE, "a/b", false);
        note(&recent, HLT_READ, "a/b", false);
        note(&recent, HLT_WRITE, "", false);
    }
    cr_expect(count(recent) == 3);
    cr_expect(has(recent, HLT_WRITE, "a/b") && has(recent, HLT_READ, "a/b"));
    cr_expect(has(recent, HLT_WRITE, ""));
    hlt_recent_free(recent, &pool);
    cr_expect(pool.bytes == 0);
}

Test(recent, the_33rd_takes_the_place_of_the_oldest)
{
    struct hlt_recent *recent = NULL;
    char topic[16];

    for (int i = 0; i < 40; i++) {
        (void)snprintf(topic, sizeof(topic), "t%02d", i);
        note(&recent, HLT_WRITE, topic, false);
    }
    cr_expect(count(recent) == HLT_RECENT_MAX);
    for (int i = 0; i < 40; i++) {
        (void)snprintf(topic, sizeof(topic), "t%02d", i);
        cr_expect(has(recent, HLT_WRITE, topic) == (i >= 8), "%s", topic);
    }
    hlt_recent_free(recent, &pool);
    cr_expect(pool.bytes == 0);
}

Test(recent, held_subscriptions_are_not_pushed_out_by_messages)
{
    struct hlt_recent *recent = NULL;
    char topic[16];

    for (int i = 0; i < 20; i++) {
        (void)snprintf(topic, sizeof(topic), "s%02d/#", i);
        note(&recent, HLT_SUBSCRIBE, topic, true);
    }
    for (int i = 0; i < 100; i++) {
        (void)snprintf(topic, sizeof(topic), "r%02d", i);
        note(&recent, HLT_READ, topic, false);
    }
    cr_expect(count(recent) == HLT_RECENT_MAX);
    for (int i = 0; i < 20; i++) {
        (void)snprintf(topic, sizeof(topic), "s%02d/#", i);
        cr_expect(has(recent, HLT_SUBSCRIBE, topic) == (i >= 4), "%s", topic);
    }
    cr_expect(has(recent, HLT_READ, "r99") && !has(recent, HLT_READ, "r50"));
    hlt_recent_release(recent, &pool, "s10/#");
    cr_expect(!has(recent, HLT_SUBSCRIBE, "s10/#"));
    hlt_recent_release_all(recent, &pool);
    cr_expect(count(recent) == HLT_RECENT_MAX - HLT_RECENT_HELD_MAX);
    hlt_recent_free(recent, &pool);
    cr_expect(pool.bytes == 0);
}

Test(recent, a_refused_subscription_is_held_once_it_is_granted)
{
    struct hlt_recent *recent = NULL;
    struct hlt_recent_pair pair;

    note(&recent, HLT_SUBSCRIBE, "a/#", false);
    cr_expect(hlt_recent_at(recent, 0, &pair) && !pair.held);
    note(&recent, HLT_SUBSCRIBE, "a/#", true);
    cr_expect(count(recent) == 1 && hlt_recent_at(recent, 0, &pair) && pair.held);
    hlt_recent_free(recent, &pool);
}

Test(recent, memory_for_all_clients_is_bounded_and_what_is_left_out_counted)
{
    struct hlt_recent *recent[8] = {NULL};
    char topic[300];

    pool.bytes_max = 2000;
    for (int i = 0; i < 800; i++) {
        (void)snprintf(topic, sizeof(topic), "topic/%d", i);
        note(&recent[i % 8], HLT_WRITE, topic, false);
        cr_assert(pool.bytes <= pool.bytes_max);
    }
    cr_expect(pool.dropped > 0);
    cr_expect(count(recent[0]) > 0);
    for (int i = 0; i < 8; i++) {
        hlt_recent_free(recent[i], &pool);
    }
    cr_expect(pool.bytes == 0);
    pool.bytes_max = 0; /* switched off */
    recent[0] = NULL;
    note(&recent[0], HLT_WRITE, "a", false);
    cr_expect(recent[0] == NULL);
    pool = (struct hlt_recent_pool){.bytes_max = 1 << 20};
    memset(topic, 'x', sizeof(topic));
    topic[HLT_RECENT_TOPIC_MAX + 1] = '\0';
    note(&recent[0], HLT_WRITE, topic, false);
    cr_expect(pool.dropped == 1);
    topic[HLT_RECENT_TOPIC_MAX] = '\0';
    note(&recent[0], HLT_WRITE, topic, false);
    cr_expect(has(recent[0], HLT_WRITE, topic));
    hlt_recent_free(recent[0], &pool);
}
