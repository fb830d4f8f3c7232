/* telemetry.c - which payloads count as telemetry and status, what is read from them, what is
 * refused. */
#include "../../shared/telemetry.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Scan an exact copy (ASan sees an overrun) into memory that was never cleared. */
static enum hlt_telemetry_rc scan_bytes(struct hlt_telemetry *out, const char *text, size_t len)
{
    char *copy = malloc(len > 0 ? len : 1);
    enum hlt_telemetry_rc rc;

    memcpy(copy, text, len);
    memset(out, 0xA5, sizeof(*out));
    rc = hlt_telemetry_scan(out, copy, len);
    free(copy);
    return rc;
}

static enum hlt_telemetry_rc scan(struct hlt_telemetry *out, const char *text)
{
    return scan_bytes(out, text, strlen(text));
}

static double value_of(const struct hlt_telemetry *telemetry, const char *name)
{
    for (size_t i = 0; i < telemetry->reading_count; i++) {
        if (strcmp(telemetry->reading[i].name, name) == 0) {
            cr_expect(eq(sz, telemetry->reading[i].name_len, strlen(name)));
            return telemetry->reading[i].value;
        }
    }
    return NAN;
}

Test(telemetry, reads_the_full_shape)
{
    struct hlt_telemetry got;

    cr_assert(scan(&got,
                   "{\"deviceId\":\"pump-7\",\"timestamp\":\"2026-11-20T22:00:00.123Z\","
                   "\"sensors\":{\"temperature\":21.5,\"humidity\":40,\"battery\":null},"
                   "\"location\":{\"latitude\":48.1,\"longitude\":-11.5,\"floor\":[2]},"
                   "\"metadata\":{\"fw\":\"1.2\",\"deep\":[[{\"a\":1}]]}}") == HLT_TELEMETRY_OK);
    cr_expect(eq(sz, got.reading_count, 2));
    cr_expect(eq(sz, got.readings_dropped, 0));
    cr_expect(value_of(&got, "temperature") == 21.5);
    cr_expect(value_of(&got, "humidity") == 40);
    cr_expect(got.has_device_id);
    cr_expect(eq(str, got.device_id, "pump-7"));
    cr_expect(eq(sz, got.device_id_len, 6));
    cr_expect(eq(i64, got.time_ms, 1795212000123));
    cr_expect(got.has_location);
    cr_expect(got.latitude == 48.1 && got.longitude == -11.5);
}

Test(telemetry, reads_flat_objects_and_bare_numbers)
{
    struct hlt_telemetry got;

    cr_assert(scan(&got, "{\"deviceId\":\"d\",\"timestamp\":1732140000,\"t\":1,\"text\":\"x\","
                         "\"on\":true,\"list\":[1],\"none\":null,\"ts\":5}") == HLT_TELEMETRY_OK);
    cr_expect(eq(sz, got.reading_count, 2));
    cr_expect(value_of(&got, "t") == 1 && value_of(&got, "ts") == 5);
    cr_expect(eq(i64, got.time_ms, 1732140000000));
    cr_assert(scan(&got, " -3.5e1\n") == HLT_TELEMETRY_OK);
    cr_expect(eq(sz, got.reading_count, 1));
    cr_expect(value_of(&got, "value") == -35);
    cr_expect(not(got.has_device_id));
    cr_expect(eq(str, got.device_id, ""));
    cr_expect(eq(i64, got.time_ms, 0));
    cr_expect(not(got.has_location));
}

Test(telemetry, an_object_with_sensors_has_no_other_readings)
{
    struct hlt_telemetry got;

    cr_assert(scan(&got, "{\"a\":1,\"sensors\":{\"b\":2},\"c\":3}") == HLT_TELEMETRY_OK);
    cr_expect(eq(sz, got.reading_count, 1));
    cr_expect(value_of(&got, "b") == 2);
    cr_expect(scan(&got, "{\"a\":1,\"sensors\":{}}") == HLT_TELEMETRY_NO_READING);
    cr_expect(scan(&got, "{\"\":1,\"sensors\":{\"b\":2}}") == HLT_TELEMETRY_OK);
    cr_expect(eq(sz, got.readings_dropped, 0), "what was passed over is not counted");
}

Test(telemetry, the_last_of_two_equal_names_wins)
{
    struct hlt_telemetry got;

    cr_assert(scan(&got, "{\"sensors\":{\"a\":1,\"b\":2,\"\\u0061\":3}}") == HLT_TELEMETRY_OK);
    cr_expect(eq(sz, got.reading_count, 2));
    cr_expect(value_of(&got, "a") == 3);
}

Test(telemetry, refuses_with_a_reason)
{
    static const struct {
        const char *text;
        enum hlt_telemetry_rc rc;
        size_t at;
    } rows[] = {
        {"", HLT_TELEMETRY_EMPTY, 0},
        {"   ", HLT_TELEMETRY_NOT_JSON, 3},
        {"on", HLT_TELEMETRY_NOT_JSON, 0},
        {"{\"t\":1", HLT_TELEMETRY_NOT_JSON, 6},
        {"{\"t\":1}}", HLT_TELEMETRY_NOT_JSON, 7},
        {"{\"t\":1e999}", HLT_TELEMETRY_NOT_JSON, 5},
        {"{\"t\":NaN}", HLT_TELEMETRY_NOT_JSON, 5},
        {"{\"t\xff\":1}", HLT_TELEMETRY_NOT_JSON, 3},
        {"12 13", HLT_TELEMETRY_NOT_JSON, 3},
        {"[1,2]", HLT_TELEMETRY_BAD_SHAPE, 0},
        {"\"21.5\"", HLT_TELEMETRY_BAD_SHAPE, 0},
        {"true", HLT_TELEMETRY_BAD_SHAPE, 0},
        {"null", HLT_TELEMETRY_BAD_SHAPE, 0},
        {"[1,2", HLT_TELEMETRY_NOT_JSON, 4}, /* broken beats misshapen */
        {"{\"sensors\":[1]}", HLT_TELEMETRY_BAD_SHAPE, 11},
        {"{\"sensors\":null}", HLT_TELEMETRY_BAD_SHAPE, 11},
        {"{\"sensors\":5}", HLT_TELEMETRY_BAD_SHAPE, 11},
        {"{\"sensors\":{\"t\":\"21\"}}", HLT_TELEMETRY_BAD_SHAPE, 16},
        {"{\"sensors\":{\"t\":{}}}", HLT_TELEMETRY_BAD_SHAPE, 16},
        {"{\"sensors\":{\"t\":true}}", HLT_TELEMETRY_BAD_SHAPE, 16},
        {"{\"sensors\":{\"t\":\"21\"}", HLT_TELEMETRY_NOT_JSON, 21},
        {"{\"deviceId\":7,\"t\":1}", HLT_TELEMETRY_BAD_SHAPE, 12},
        {"{\"deviceId\":null,\"t\":1}", HLT_TELEMETRY_BAD_SHAPE, 12},
        {"{\"deviceId\":\"\",\"t\":1}", HLT_TELEMETRY_BAD_SHAPE, 12},
        {"{\"deviceId\":\"a/b\",\"t\":1}", HLT_TELEMETRY_BAD_SHAPE, 12},
        {"{\"deviceId\":\"a\\u002fb\",\"t\":1}", HLT_TELEMETRY_BAD_SHAPE, 12},
        {"{\"timestamp\":\"yesterday\",\"t\":1}", HLT_TELEMETRY_BAD_TIME, 13},
        {"{\"timestamp\":null,\"t\":1}", HLT_TELEMETRY_BAD_TIME, 13},
        {"{\"timestamp\":-1,\"t\":1}", HLT_TELEMETRY_BAD_TIME, 13},
        {"{\"timestamp\":253402300800000,\"t\":1}", HLT_TELEMETRY_BAD_TIME, 13},
        {"{}", HLT_TELEMETRY_NO_READING, 0},
        {"{\"deviceId\":\"a\",\"timestamp\":1}", HLT_TELEMETRY_NO_READING, 0},
        {"{\"sensors\":{\"t\":null}}", HLT_TELEMETRY_NO_READING, 0},
        {"{\"metadata\":{\"t\":1},\"location\":{\"latitude\":1}}", HLT_TELEMETRY_NO_READING, 0},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_telemetry got;
        enum hlt_telemetry_rc rc = scan(&got, rows[i].text);
        cr_expect(rc == rows[i].rc, "%s: %s", rows[i].text, hlt_telemetry_text(rc));
        cr_expect(eq(sz, got.error_at, rows[i].at), "%s", rows[i].text);
    }
}

Test(telemetry, takes_times_in_three_spellings)
{
    static const struct {
        const char *text;
        int64_t time_ms;
    } rows[] = {{"\"2026-11-20T22:00:00Z\"", 1795212000000},
                {"\"2026-11-20T23:00:00.5+01:00\"", 1795212000500},
                {"1795212000", 1795212000000},
                {"1795212000.25", 1795212000250},
                {"1795212000123", 1795212000123},
                {"0", 0},
                {"99999999999", 99999999999000},
                {"100000000000", 100000000000},
                {"253402300799999", 253402300799999}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[128];
        struct hlt_telemetry got;
        snprintf(text, sizeof(text), "{\"t\":1,\"timestamp\":%s}", rows[i].text);
        cr_assert(scan(&got, text) == HLT_TELEMETRY_OK, "%s", text);
        cr_expect(eq(i64, got.time_ms, rows[i].time_ms), "%s", text);
    }
}

Test(telemetry, a_location_must_be_on_the_globe)
{
    static const struct {
        const char *text;
        bool has;
    } rows[] = {{"{\"latitude\":90,\"longitude\":-180}", true},
                {"{\"latitude\":90.001,\"longitude\":0}", false},
                {"{\"latitude\":0,\"longitude\":180.5}", false},
                {"{\"latitude\":0}", false},
                {"{\"latitude\":\"48\",\"longitude\":11}", false},
                {"{\"latitude\":null,\"longitude\":11}", false},
                {"\"Hall 4\"", false},
                {"[48,11]", false},
                {"null", false}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[128];
        struct hlt_telemetry got;
        snprintf(text, sizeof(text), "{\"location\":%s,\"t\":1}", rows[i].text);
        cr_assert(scan(&got, text) == HLT_TELEMETRY_OK, "%s", text);
        cr_expect(got.has_location == rows[i].has, "%s", text);
        cr_expect(eq(sz, got.reading_count, 1), "%s", text);
    }
}

/* {"sensors":{"m0":0,...}} with `count` metrics. */
static size_t many_metrics(char *text, int count)
{
    size_t len = (size_t)sprintf(text, "{\"sensors\":{");

    for (int i = 0; i < count; i++) {
        len += (size_t)sprintf(text + len, "%s\"m%d\":%d", i > 0 ? "," : "", i, i);
    }
    return len + (size_t)sprintf(text + len, "}}");
}

Test(telemetry, keeps_sixteen_metrics_and_counts_the_rest)
{
    char text[1024];
    struct hlt_telemetry got;

    cr_assert(scan_bytes(&got, text, many_metrics(text, HLT_READINGS_MAX)) == HLT_TELEMETRY_OK);
    cr_expect(eq(sz, got.reading_count, HLT_READINGS_MAX));
    cr_expect(eq(sz, got.readings_dropped, 0));
    cr_assert(scan_bytes(&got, text, many_metrics(text, HLT_READINGS_MAX + 3)) == HLT_TELEMETRY_OK);
    cr_expect(eq(sz, got.reading_count, HLT_READINGS_MAX));
    cr_expect(eq(sz, got.readings_dropped, 3));
    cr_expect(value_of(&got, "m15") == 15);
}

Test(telemetry, drops_names_that_cannot_be_shown)
{
    static const struct {
        const char *name;
        bool kept;
    } rows[] = {{"temp \xc2\xb0"
                 "C",
                 true},
                {"\xe6\xb8\xa9\xe5\xba\xa6", true},
                {"a\\u00b0", true},
                {"\xc2\xa0", true},
                {"", false},
                {"a\\n", false},
                {"a\\u001f", false},
                {"a\x7f", false},
                {"a\\u007f", false},
                {"a\xc2\x80", false},
                {"a\xc2\x9f", false},
                {"a\\u0085", false},
                {"0123456789012345678901234567890123456789012345678901234567890123", true},
                {"01234567890123456789012345678901234567890123456789012345678901234", false},
                {"\\u0030123456789012345678901234567890123456789012345678901234567890123", true},
                {"\\u00301234567890123456789012345678901234567890123456789012345678901234", false}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        struct hlt_telemetry got;
        snprintf(text, sizeof(text), "{\"sensors\":{\"ok\":1,\"%s\":2}}", rows[i].name);
        cr_assert(scan(&got, text) == HLT_TELEMETRY_OK, "%s", text);
        cr_expect(eq(sz, got.reading_count, rows[i].kept ? 2 : 1), "%s", text);
        cr_expect(eq(sz, got.readings_dropped, rows[i].kept ? 0 : 1), "%s", text);
    }
}

Test(telemetry, a_device_id_ends_at_255_bytes)
{
    char text[400], id[258];
    struct hlt_telemetry got;

    memset(id, 'a', sizeof(id));
    id[255] = '\0';
    snprintf(text, sizeof(text), "{\"t\":1,\"deviceId\":\"%s\"}", id);
    cr_assert(scan(&got, text) == HLT_TELEMETRY_OK);
    cr_expect(eq(sz, got.device_id_len, 255));
    id[255] = 'a';
    id[256] = '\0';
    snprintf(text, sizeof(text), "{\"t\":1,\"deviceId\":\"%s\"}", id);
    cr_expect(scan(&got, text) == HLT_TELEMETRY_BAD_SHAPE);
}

Test(telemetry, takes_payloads_up_to_the_limit)
{
    char *text = malloc(HLT_TELEMETRY_MAX + 1);
    struct hlt_telemetry got;

    memset(text, ' ', HLT_TELEMETRY_MAX + 1);
    text[0] = '7';
    cr_expect(scan_bytes(&got, text, HLT_TELEMETRY_MAX) == HLT_TELEMETRY_OK);
    cr_expect(scan_bytes(&got, text, HLT_TELEMETRY_MAX + 1) == HLT_TELEMETRY_TOO_LARGE);
    free(text);
}

Test(telemetry, metadata_may_nest_to_the_readers_limit)
{
    char text[256];
    struct hlt_telemetry got;

    for (int depth = 15; depth <= 16; depth++) { /* inside the outer object */
        size_t len = (size_t)sprintf(text, "{\"t\":1,\"metadata\":");
        for (int i = 0; i < depth; i++) {
            text[len++] = '[';
        }
        for (int i = 0; i < depth; i++) {
            text[len++] = ']';
        }
        text[len++] = '}';
        cr_expect(scan_bytes(&got, text, len) ==
                  (depth == 15 ? HLT_TELEMETRY_OK : HLT_TELEMETRY_NOT_JSON));
    }
}

Test(telemetry, every_result_has_a_text)
{
    for (int rc = HLT_TELEMETRY_OK; rc <= HLT_TELEMETRY_BAD_TIME; rc++) {
        cr_expect(strcmp(hlt_telemetry_text((enum hlt_telemetry_rc)rc), "unknown result") != 0);
    }
    cr_expect(eq(str, (char *)hlt_telemetry_text((enum hlt_telemetry_rc)99), "unknown result"));
}

/* ---- status ---- */

static enum hlt_telemetry_rc status_of(struct hlt_status *out, const char *text)
{
    memset(out, 0xA5, sizeof(*out));
    return hlt_status_scan(out, text, strlen(text));
}

Test(status, reads_every_member)
{
    struct hlt_status got;

    cr_assert(status_of(&got,
                        "{\"deviceId\":\"d1\",\"status\":\"maintenance\",\"health\":{\"cpu\":12.5,"
                        "\"memory\":0,\"disk\":100,\"uptime\":86400.5,\"battery\":55,\"fan\":[1]},"
                        "\"firmwareVersion\":\"1.2.3\",\"lastSeen\":5,\"extra\":{\"a\":[]}}") ==
              HLT_TELEMETRY_OK);
    cr_expect(got.status == HLT_STATUS_MAINTENANCE);
    cr_expect(got.cpu == 12.5F && got.memory == 0 && got.disk == 100 && got.battery == 55);
    cr_expect(got.uptime_s == 86400.5);
    cr_expect(eq(str, got.firmware, "1.2.3"));
    cr_expect(got.has_device_id);
    cr_expect(eq(str, got.device_id, "d1"));
}

Test(status, knows_its_four_words)
{
    static const struct {
        const char *word;
        enum hlt_device_status status;
    } rows[] = {{"online", HLT_STATUS_ONLINE},
                {"offline", HLT_STATUS_OFFLINE},
                {"maintenance", HLT_STATUS_MAINTENANCE},
                {"error", HLT_STATUS_ERROR},
                {"rebooting", HLT_STATUS_UNKNOWN},
                {"Online", HLT_STATUS_UNKNOWN},
                {"", HLT_STATUS_UNKNOWN},
                {"\\u006fnline", HLT_STATUS_ONLINE}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[64];
        struct hlt_status got;
        snprintf(text, sizeof(text), "{\"status\":\"%s\"}", rows[i].word);
        cr_assert(status_of(&got, text) == HLT_TELEMETRY_OK, "%s", text);
        cr_expect(got.status == rows[i].status, "%s", text);
    }
}

Test(status, leaves_out_what_is_absent_null_or_out_of_range)
{
    struct hlt_status got;

    cr_assert(status_of(&got, "{\"status\":null,\"firmwareVersion\":null,\"health\":{\"cpu\":null,"
                              "\"memory\":100.5,\"disk\":-1,\"uptime\":-5}}") == HLT_TELEMETRY_OK);
    cr_expect(got.status == HLT_STATUS_UNKNOWN);
    cr_expect(isnan(got.cpu) && isnan(got.memory) && isnan(got.disk) && isnan(got.battery));
    cr_expect(isnan(got.uptime_s));
    cr_expect(eq(str, got.firmware, ""));
    cr_expect(not(got.has_device_id));
    cr_expect(status_of(&got, "{}") == HLT_TELEMETRY_OK);
    cr_expect(isnan(got.cpu));
    cr_expect(status_of(&got, "{\"health\":null}") == HLT_TELEMETRY_OK);
}

Test(status, leaves_out_a_firmware_version_that_cannot_be_shown)
{
    char text[128], version[65];
    struct hlt_status got;

    memset(version, '1', sizeof(version));
    version[63] = '\0';
    snprintf(text, sizeof(text), "{\"firmwareVersion\":\"%s\"}", version);
    cr_assert(status_of(&got, text) == HLT_TELEMETRY_OK);
    cr_expect(eq(str, got.firmware, version));
    version[63] = '1';
    version[64] = '\0';
    snprintf(text, sizeof(text), "{\"firmwareVersion\":\"%s\"}", version);
    cr_assert(status_of(&got, text) == HLT_TELEMETRY_OK);
    cr_expect(eq(str, got.firmware, ""));
    cr_assert(status_of(&got, "{\"firmwareVersion\":\"1\\u001b[2J\"}") == HLT_TELEMETRY_OK);
    cr_expect(eq(str, got.firmware, ""));
}

Test(status, refuses_with_a_reason)
{
    static const struct {
        const char *text;
        enum hlt_telemetry_rc rc;
        size_t at;
    } rows[] = {{"", HLT_TELEMETRY_EMPTY, 0},
                {"online", HLT_TELEMETRY_NOT_JSON, 0},
                {"\"online\"", HLT_TELEMETRY_BAD_SHAPE, 0},
                {"{\"status\":1}", HLT_TELEMETRY_BAD_SHAPE, 10},
                {"{\"health\":[]}", HLT_TELEMETRY_BAD_SHAPE, 10},
                {"{\"health\":{\"cpu\":\"5%\"}}", HLT_TELEMETRY_BAD_SHAPE, 17},
                {"{\"firmwareVersion\":1.2}", HLT_TELEMETRY_BAD_SHAPE, 19},
                {"{\"deviceId\":\"#\"}", HLT_TELEMETRY_BAD_SHAPE, 12},
                {"{\"status\":1", HLT_TELEMETRY_NOT_JSON, 11},
                {"{\"status\":\"online\"", HLT_TELEMETRY_NOT_JSON, 18},
                {"{\"health\":{\"cpu\":1e999}}", HLT_TELEMETRY_NOT_JSON, 17}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_status got;
        enum hlt_telemetry_rc rc = status_of(&got, rows[i].text);
        cr_expect(rc == rows[i].rc, "%s: %s", rows[i].text, hlt_telemetry_text(rc));
        cr_expect(eq(sz, got.error_at, rows[i].at), "%s", rows[i].text);
    }
}
