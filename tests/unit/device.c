/* device.c - tests of the table of devices and of metric names. */
#include "../../shared/device.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct hlt_device_table table;

static void begin(uint32_t max)
{
    cr_assert(hlt_device_table_init(&table, max, hlt_detector_find("default")) == HLT_OK);
}

static struct hlt_device *add(unsigned n)
{
    char id[32];

    snprintf(id, sizeof(id), "device-%u", n);
    return hlt_device_add(&table, id, strlen(id));
}

static struct hlt_device *find(unsigned n)
{
    char id[32];

    snprintf(id, sizeof(id), "device-%u", n);
    return hlt_device_find(&table, id, strlen(id));
}

Test(device, adding_twice_gives_the_same_device)
{
    begin(10);
    struct hlt_device *one = add(1);
    cr_expect(one != NULL && add(1) == one && find(1) == one && table.count == 1);
    cr_expect(find(2) == NULL);
    hlt_device_table_free(&table);
}

Test(device, a_full_table_refuses_new_ids_and_keeps_the_old)
{
    begin(100);
    for (unsigned i = 0; i < 100; i++) {
        cr_assert(add(i) != NULL);
    }
    cr_expect(add(100) == NULL);
    cr_expect(add(5) == find(5) && find(5) != NULL);
    hlt_device_remove(&table, find(50));
    cr_expect(add(100) != NULL, "a forgotten device makes room");
    hlt_device_table_free(&table);
}

Test(device, random_adds_and_removes_agree_with_a_plain_array)
{
    static bool there[5000];

    begin(5000);
    srand(11);
    for (unsigned step = 0; step < 100000; step++) {
        unsigned n = (unsigned)rand() % 5000;
        if (rand() % 3 == 0 && there[n]) {
            hlt_device_remove(&table, find(n));
            there[n] = false;
        } else if (rand() % 3 == 0) {
            cr_assert(add(n) != NULL);
            there[n] = true;
        } else {
            struct hlt_device *device = find(n);
            cr_assert((device != NULL) == there[n], "device %u at step %u", n, step);
        }
    }
    hlt_device_table_free(&table);
}

Test(device, pointers_stay_valid_while_the_table_fills)
{
    begin(20000);
    struct hlt_device *first = add(0);
    for (unsigned i = 1; i < 20000; i++) {
        add(i);
    }
    cr_expect(find(0) == first && strcmp(first->id, "device-0") == 0);
    hlt_device_table_free(&table);
}

Test(device, keeps_sixteen_metrics_and_refuses_the_seventeenth)
{
    const struct hlt_detector *detector = hlt_detector_find("default");

    begin(1);
    struct hlt_device *device = add(0);
    for (uint16_t i = 0; i < HLT_DEVICE_METRICS_MAX; i++) {
        struct hlt_metric *metric = hlt_device_add_metric(&table, device, i, detector);
        cr_assert(metric != NULL);
        metric->value = i;
    }
    cr_expect(hlt_device_add_metric(&table, device, 99, detector) == NULL);
    for (uint16_t i = 0; i < HLT_DEVICE_METRICS_MAX; i++) {
        cr_expect(hlt_metric_at(&table, device, i)->value == (double)i, "kept when the block grew");
    }
    hlt_device_table_free(&table);
}

Test(names, the_table_of_names_is_bounded)
{
    static struct hlt_names names;
    struct hlt_hash_key key = {{3}};
    char name[HLT_METRIC_NAME_MAX + 2];

    for (unsigned i = 0; i < HLT_METRIC_NAMES_MAX; i++) {
        snprintf(name, sizeof(name), "metric-%u", i);
        cr_assert(hlt_names_intern(&names, &key, name, strlen(name)) == i);
    }
    cr_expect(hlt_names_intern(&names, &key, "one-more", 8) == HLT_NAME_NONE);
    cr_expect(hlt_names_intern(&names, &key, "metric-77", 9) == 77, "known ones are still found");
    hlt_names_free(&names);
    memset(name, 'x', sizeof(name));
    cr_expect(hlt_names_intern(&names, &key, name, HLT_METRIC_NAME_MAX + 1) == HLT_NAME_NONE);
    cr_expect(hlt_names_intern(&names, &key, name, HLT_METRIC_NAME_MAX) == 0);
    hlt_names_free(&names);
}
