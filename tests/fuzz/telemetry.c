/* telemetry.c - fuzzes the telemetry and status scanners; readings are compared with what cJSON
 * finds. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../../shared/telemetry.h"
#include "../../shared/text.h"
#include "../json_reference.h"

static void require(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

/* The readings as they should be, built the slow way. */
struct model {
    struct hlt_reading reading[HLT_READINGS_MAX];
    size_t count, dropped;
};

static bool has_control(const char *name)
{
    for (const unsigned char *p = (const unsigned char *)name; *p != '\0'; p++) {
        if (*p < 0x20 || *p == 0x7F || (p[0] == 0xC2 && p[1] >= 0x80 && p[1] <= 0x9F)) {
            return true;
        }
    }
    return false;
}

static void model_add(struct model *model, const char *name, double value)
{
    size_t at = 0;

    if (name[0] == '\0' || strlen(name) > HLT_METRIC_NAME_MAX || has_control(name)) {
        model->dropped++;
        return;
    }
    while (at < model->count && strcmp(model->reading[at].name, name) != 0) {
        at++;
    }
    if (at == HLT_READINGS_MAX) {
        model->dropped++;
        return;
    }
    model->count += at == model->count;
    strcpy(model->reading[at].name, name);
    model->reading[at].value = value;
}

static bool is_special(const char *name)
{
    return strcmp(name, "deviceId") == 0 || strcmp(name, "timestamp") == 0 ||
           strcmp(name, "location") == 0 || strcmp(name, "metadata") == 0;
}

static void model_read(struct model *model, const cJSON *tree)
{
    bool flat = true;
    const cJSON *member, *reading;

    if (cJSON_IsNumber(tree)) {
        model_add(model, "value", tree->valuedouble);
        return;
    }
    cJSON_ArrayForEach(member, tree)
    {
        flat = flat && strcmp(member->string, "sensors") != 0;
    }
    cJSON_ArrayForEach(member, tree)
    {
        if (flat && cJSON_IsNumber(member) && !is_special(member->string)) {
            model_add(model, member->string, member->valuedouble);
        }
        if (strcmp(member->string, "sensors") == 0) {
            cJSON_ArrayForEach(reading, member)
            {
                if (cJSON_IsNumber(reading)) {
                    model_add(model, reading->string, reading->valuedouble);
                }
            }
        }
    }
}

static void compare(const struct hlt_telemetry *got, const char *input, size_t len)
{
    struct model model = {.count = 0};
    cJSON *tree = cJSON_ParseWithLengthOpts(input, len, NULL, false);

    require(tree != NULL, "cJSON refuses what we accept");
    model_read(&model, tree);
    require(got->reading_count == model.count, "another number of readings");
    require(got->readings_dropped == model.dropped, "another number of dropped readings");
    for (size_t i = 0; i < model.count; i++) {
        const struct hlt_reading *reading = &got->reading[i];
        require(strcmp(reading->name, model.reading[i].name) == 0, "another name");
        require(reading->name_len == strlen(reading->name), "a wrong length");
        require(hlt_utf8_valid(reading->name, reading->name_len), "a name that is not UTF-8");
        require(memcmp(&reading->value, &model.reading[i].value, sizeof(double)) == 0,
                "another value");
    }
    cJSON_Delete(tree);
}

static void check_status(const char *input, size_t len)
{
    struct hlt_status status;

    if (hlt_status_scan(&status, input, len) != HLT_TELEMETRY_OK) {
        require(status.error_at <= len, "a fault beyond the payload");
        return;
    }
    require(isnan(status.cpu) || (status.cpu >= 0 && status.cpu <= 100), "cpu out of range");
    require(isnan(status.uptime_s) || status.uptime_s >= 0, "negative uptime");
    require(hlt_utf8_valid(status.firmware, strlen(status.firmware)), "firmware is not UTF-8");
    require(!status.has_device_id || hlt_id_valid(status.device_id, strlen(status.device_id), NULL),
            "an id that is none");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *input = (const char *)data;
    struct hlt_telemetry got;
    enum hlt_telemetry_rc rc;

    memset(&got, 0xA5, sizeof(got)); /* `out` need not be cleared */
    rc = hlt_telemetry_scan(&got, input, len);
    require(got.error_at <= len, "a fault beyond the payload");
    if (rc == HLT_TELEMETRY_OK) {
        require(got.reading_count > 0 && got.reading_count <= HLT_READINGS_MAX, "bad count");
        require(strlen(got.device_id) == got.device_id_len, "a NUL in the device id");
        require(!got.has_device_id || hlt_id_valid(got.device_id, got.device_id_len, NULL),
                "an id that is none");
        require(!got.has_location || (fabs(got.latitude) <= 90 && fabs(got.longitude) <= 180),
                "a place off the globe");
        compare(&got, input, len);
    } else if (rc != HLT_TELEMETRY_NOT_JSON && len > 0) {
        struct hlt_json reader;
        enum hlt_json_event event;
        hlt_json_begin(&reader, input, len);
        do {
            event = hlt_json_next(&reader);
        } while (event != HLT_JSON_DONE && event != HLT_JSON_ERROR);
        require(event == HLT_JSON_DONE || rc == HLT_TELEMETRY_TOO_LARGE, "not told: not JSON");
    }
    check_status(input, len);
    return 0;
}
