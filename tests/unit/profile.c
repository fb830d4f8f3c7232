/* profile.c - simulated devices say what a device would say, the same for the same seed, and
 * misbehave on time. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "../../cli/profile.h"
#include "../../shared/telemetry.h"

#define AT_MS 60000
#define WALL_MS 1700000000000

static struct hlt_profile profile;
static char payload[1024];
static const char *topic_id;
static struct hlt_telemetry told;

static enum hlt_telemetry_rc message(int64_t elapsed_ms)
{
    size_t len = hlt_profile_message(&profile, "me", elapsed_ms, WALL_MS + elapsed_ms, payload,
                                     sizeof(payload), &topic_id);
    return hlt_telemetry_scan(&told, payload, len);
}

static double value(const char *name)
{
    for (size_t i = 0; i < told.reading_count; i++) {
        if (strcmp(told.reading[i].name, name) == 0) {
            return told.reading[i].value;
        }
    }
    return NAN;
}

static void begin(enum hlt_profile_kind kind)
{
    hlt_profile_init(&profile, kind, 7, 3, AT_MS, "other");
}

Test(profile, a_normal_device_stays_within_believable_bounds)
{
    for (size_t device = 0; device < 50; device++) {
        hlt_profile_init(&profile, HLT_PROFILE_NORMAL, 1, device, AT_MS, NULL);
        double last = NAN;
        for (int64_t ms = 0; ms < 3600000; ms += 5000) {
            cr_assert(message(ms) == HLT_TELEMETRY_OK, "%s", payload);
            double temperature = value("temperature"), battery = value("battery");
            cr_assert(told.reading_count == 4 && strcmp(told.device_id, "me") == 0);
            cr_assert(told.time_ms == WALL_MS + ms);
            cr_assert(temperature > 10 && temperature < 35);
            cr_assert(isnan(last) || fabs(temperature - last) < 1.5, "a jump");
            cr_assert(battery > 60 && battery <= 100);
            cr_assert(strcmp(topic_id, "me") == 0);
            last = temperature;
        }
    }
}

Test(profile, the_same_seed_gives_the_same_series_and_another_does_not)
{
    char first[sizeof(payload)];

    begin(HLT_PROFILE_NORMAL);
    (void)message(5000);
    (void)strcpy(first, payload);
    begin(HLT_PROFILE_NORMAL);
    (void)message(5000);
    cr_expect(strcmp(first, payload) == 0);
    hlt_profile_init(&profile, HLT_PROFILE_NORMAL, 8, 3, AT_MS, NULL);
    (void)message(5000);
    cr_expect(strcmp(first, payload) != 0);
    hlt_profile_init(&profile, HLT_PROFILE_NORMAL, 7, 4, AT_MS, NULL);
    (void)message(5000);
    cr_expect(strcmp(first, payload) != 0, "devices differ");
}

Test(profile, overheat_goes_beyond_80_with_its_first_message)
{
    begin(HLT_PROFILE_OVERHEAT);
    (void)message(AT_MS - 1);
    cr_expect(value("temperature") < 60);
    (void)message(AT_MS);
    cr_expect(value("temperature") > 90 && value("temperature") < 100);
    (void)message(10 * AT_MS);
    cr_expect(value("temperature") > 90, "and stays");
}

Test(profile, jump_moves_the_humidity_only)
{
    begin(HLT_PROFILE_JUMP);
    (void)message(AT_MS - 1);
    double humidity = value("humidity"), temperature = value("temperature");
    (void)message(AT_MS);
    cr_expect(value("humidity") - humidity > 8 && value("humidity") < 100);
    cr_expect(fabs(value("temperature") - temperature) < 1.5);
}

Test(profile, silent_says_nothing_from_then_on)
{
    begin(HLT_PROFILE_SILENT);
    cr_expect(message(AT_MS - 1) == HLT_TELEMETRY_OK);
    cr_expect(message(AT_MS) == HLT_TELEMETRY_EMPTY);
    cr_expect(message(100 * AT_MS) == HLT_TELEMETRY_EMPTY);
}

Test(profile, passing_events_take_three_messages)
{
    static const enum hlt_profile_kind kinds[] = {HLT_PROFILE_SPOOF, HLT_PROFILE_DENIED,
                                                  HLT_PROFILE_MALFORMED};
    for (size_t k = 0; k < 3; k++) {
        begin(kinds[k]);
        for (int i = 0; i < 6; i++) { /* one before, three odd ones, two after */
            enum hlt_telemetry_rc rc = message(AT_MS - 1000 + 1000 * i);
            bool odd = i >= 1 && i <= HLT_PROFILE_FEW;
            bool spoof = odd && kinds[k] == HLT_PROFILE_SPOOF;
            bool denied = odd && kinds[k] == HLT_PROFILE_DENIED;
            bool broken = odd && kinds[k] == HLT_PROFILE_MALFORMED;
            cr_expect((rc == HLT_TELEMETRY_NOT_JSON) == broken, "%u, %d", kinds[k], i);
            cr_expect(strcmp(topic_id, denied ? "other" : "me") == 0, "%u, %d", kinds[k], i);
            cr_expect(broken || strcmp(told.device_id, spoof ? "other" : "me") == 0, "%u, %d",
                      kinds[k], i);
        }
    }
}

Test(profile, host_tells_this_machines_load_and_memory)
{
    begin(HLT_PROFILE_HOST);
    cr_assert(message(0) == HLT_TELEMETRY_OK, "%s", payload);
    cr_expect(isnan(value("cpu")), "not before there are two looks");
    cr_expect(value("memory") > 0 && value("memory") < 100);
    cr_expect(value("load1") >= 0);
}

Test(profile, a_status_document_is_one)
{
    struct hlt_status status;

    for (unsigned kind = 0; kind < HLT_PROFILE_COUNT; kind++) {
        begin((enum hlt_profile_kind)kind);
        (void)message(0);
        size_t len = hlt_profile_status(&profile, 90000, WALL_MS, payload, sizeof(payload));
        cr_assert(hlt_status_scan(&status, payload, len) == HLT_TELEMETRY_OK, "%s", payload);
        cr_expect(status.status == HLT_STATUS_ONLINE && status.uptime_s > 0);
    }
}

Test(profile, a_payload_that_does_not_fit_is_not_sent)
{
    char small[20];

    begin(HLT_PROFILE_NORMAL);
    cr_expect(hlt_profile_message(&profile, "me", 0, WALL_MS, small, sizeof(small), &topic_id) ==
              0);
}
