/* telemetry.c - reads telemetry and status payloads in one pass over the JSON reader's events. */
#include "telemetry.h"

#include <math.h>
#include <string.h>

#include "jsonpull.h"
#include "text.h"

/* A number below this is a unix time in seconds (it would be the year 5138), else in milliseconds.
 */
#define SECONDS_BELOW 1e11
#define TIME_MS_MAX 253402300799999.0 /* the end of the year 9999 */

const char *hlt_telemetry_text(enum hlt_telemetry_rc rc)
{
    switch (rc) {
    case HLT_TELEMETRY_OK: return "ok";
    case HLT_TELEMETRY_EMPTY: return "empty payload";
    case HLT_TELEMETRY_TOO_LARGE: return "payload too large";
    case HLT_TELEMETRY_NOT_JSON: return "not JSON";
    case HLT_TELEMETRY_BAD_SHAPE: return "JSON of another shape";
    case HLT_TELEMETRY_NO_READING: return "no reading in it";
    case HLT_TELEMETRY_BAD_TIME: return "timestamp is neither RFC 3339 nor a unix time";
    }
    return "unknown result";
}

/* A fault at the reader's event. Reads on to the end, so that "not JSON" always takes precedence.
 */
static enum hlt_telemetry_rc refuse(struct hlt_json *reader, enum hlt_telemetry_rc rc,
                                    size_t *error_at)
{
    enum hlt_json_event event;

    *error_at = reader->at;
    do {
        event = hlt_json_next(reader);
    } while (event != HLT_JSON_DONE && event != HLT_JSON_ERROR);
    if (event == HLT_JSON_ERROR) {
        *error_at = reader->at;
        return HLT_TELEMETRY_NOT_JSON;
    }
    return rc;
}

/* The member names with a meaning of their own. */
enum member {
    OTHER,
    SENSORS,
    DEVICE_ID,
    TIMESTAMP,
    LOCATION,
    METADATA,
    LATITUDE,
    LONGITUDE,
    STATUS,
    HEALTH,
    FIRMWARE,
    CPU,
    MEMORY,
    DISK,
    UPTIME,
    BATTERY,
};

static const struct {
    const char *name;
    size_t len;
} members[] = {
    [OTHER] = {"", 0},
    [SENSORS] = {"sensors", 7},
    [DEVICE_ID] = {"deviceId", 8},
    [TIMESTAMP] = {"timestamp", 9},
    [LOCATION] = {"location", 8},
    [METADATA] = {"metadata", 8},
    [LATITUDE] = {"latitude", 8},
    [LONGITUDE] = {"longitude", 9},
    [STATUS] = {"status", 6},
    [HEALTH] = {"health", 6},
    [FIRMWARE] = {"firmwareVersion", 15},
    [CPU] = {"cpu", 3},
    [MEMORY] = {"memory", 6},
    [DISK] = {"disk", 4},
    [UPTIME] = {"uptime", 6},
    [BATTERY] = {"battery", 7},
};

/* Which of first..last the reader's name is. */
static enum member which(const struct hlt_json *reader, enum member first, enum member last)
{
    for (unsigned i = first; i <= (unsigned)last; i++) {
        if (reader->escaped ? hlt_json_is(reader, members[i].name)
                            : reader->text_len == members[i].len &&
                                  memcmp(reader->text, members[i].name, members[i].len) == 0) {
            return (enum member)i;
        }
    }
    return OTHER;
}

/* C0 controls, DEL, or the C1 controls U+0080..U+009F, in text known to be UTF-8. */
static bool has_control(const char *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;

    for (size_t i = 0; i < len; i++) {
        if (p[i] < 0x20 || p[i] == 0x7F || (p[i] == 0xC2 && i + 1 < len && p[i + 1] < 0xA0)) {
            return true;
        }
    }
    return false;
}

/* ---- telemetry ---- */

struct scan {
    struct hlt_json reader;
    struct hlt_telemetry *out;
    bool sensors_seen; /* from here on top-level numbers are not readings */
    bool has_latitude, has_longitude;
};

static void add_reading(struct hlt_telemetry *out, const char *name, size_t len, double value)
{
    struct hlt_reading *reading;

    if (len == 0 || has_control(name, len)) {
        out->readings_dropped++;
        return;
    }
    for (size_t i = 0; i < out->reading_count; i++) {
        reading = &out->reading[i];
        if (reading->name_len == len && memcmp(reading->name, name, len) == 0) {
            reading->value = value;
            return;
        }
    }
    if (out->reading_count == HLT_READINGS_MAX) {
        out->readings_dropped++;
        return;
    }
    reading = &out->reading[out->reading_count++];
    memcpy(reading->name, name, len);
    reading->name[len] = '\0';
    reading->name_len = (uint8_t)len;
    reading->value = value;
}

/* A member name, kept while the reader goes on to the value. */
struct name {
    const char *text;
    size_t len;
    bool escaped;
};

static struct name name_of(const struct hlt_json *reader)
{
    return (struct name){.text = reader->text, .len = reader->text_len, .escaped = reader->escaped};
}

static void add_named(struct hlt_telemetry *out, const struct name *name, double value)
{
    char decoded[HLT_METRIC_NAME_MAX + 1];
    size_t len = name->len;

    if (name->escaped) {
        len = hlt_json_unescape(decoded, sizeof(decoded), name->text, name->len);
    }
    if (len > HLT_METRIC_NAME_MAX) {
        out->readings_dropped++;
        return;
    }
    add_reading(out, name->escaped ? decoded : name->text, len, value);
}

static enum hlt_telemetry_rc read_sensors(struct scan *scan)
{
    struct hlt_json *reader = &scan->reader;
    enum hlt_json_event event = hlt_json_next(reader);

    if (event != HLT_JSON_OBJECT_BEGIN) {
        return HLT_TELEMETRY_BAD_SHAPE;
    }
    if (!scan->sensors_seen) {
        scan->sensors_seen = true;
        scan->out->reading_count = 0; /* top-level numbers met before */
        scan->out->readings_dropped = 0;
    }
    while (hlt_json_next(reader) == HLT_JSON_NAME) {
        struct name name = name_of(reader);
        event = hlt_json_next(reader);
        if (event == HLT_JSON_NUMBER) {
            add_named(scan->out, &name, reader->number);
        } else if (event != HLT_JSON_NULL) {
            return HLT_TELEMETRY_BAD_SHAPE;
        }
    }
    return HLT_TELEMETRY_OK; /* an error of the reader is found by the next call */
}

/* A valid device id into `out` (256 bytes); false: not a string or not an id. */
static bool read_id(struct hlt_json *reader, char *out, size_t *len)
{
    if (hlt_json_next(reader) != HLT_JSON_STRING) {
        return false;
    }
    *len = hlt_json_unescape(out, HLT_ID_MAX + 1, reader->text, reader->text_len);
    return *len != SIZE_MAX && hlt_id_valid(out, *len, NULL);
}

static enum hlt_telemetry_rc read_time(struct scan *scan)
{
    struct hlt_json *reader = &scan->reader;
    enum hlt_json_event event = hlt_json_next(reader);
    double number = reader->number;

    if (event == HLT_JSON_STRING && !reader->escaped &&
        hlt_date_parse(reader->text, reader->text_len, &scan->out->time_ms)) {
        return HLT_TELEMETRY_OK;
    }
    if (event != HLT_JSON_NUMBER || number < 0 || number > TIME_MS_MAX) {
        return HLT_TELEMETRY_BAD_TIME;
    }
    scan->out->time_ms = (int64_t)(number < SECONDS_BELOW ? number * 1000 : number);
    return HLT_TELEMETRY_OK;
}

/* Only latitude and longitude count; a location of another shape ("Hall 4") is passed over. */
static void read_location(struct scan *scan)
{
    struct hlt_json *reader = &scan->reader;
    struct hlt_telemetry *out = scan->out;
    enum hlt_json_event event = hlt_json_next(reader);

    if (event != HLT_JSON_OBJECT_BEGIN) {
        hlt_json_skip(reader, event);
        return;
    }
    while (hlt_json_next(reader) == HLT_JSON_NAME) {
        enum member member = which(reader, LATITUDE, LONGITUDE);
        event = hlt_json_next(reader);
        if (event != HLT_JSON_NUMBER) {
            hlt_json_skip(reader, event);
        } else if (member == LATITUDE) {
            out->latitude = reader->number;
            scan->has_latitude = fabs(reader->number) <= 90;
        } else if (member == LONGITUDE) {
            out->longitude = reader->number;
            scan->has_longitude = fabs(reader->number) <= 180;
        }
    }
}

static void read_flat(struct scan *scan)
{
    struct name name = name_of(&scan->reader);
    enum hlt_json_event event = hlt_json_next(&scan->reader);

    if (event == HLT_JSON_NUMBER && !scan->sensors_seen) {
        add_named(scan->out, &name, scan->reader.number);
    } else {
        hlt_json_skip(&scan->reader, event);
    }
}

static enum hlt_telemetry_rc read_member(struct scan *scan)
{
    switch (which(&scan->reader, SENSORS, METADATA)) {
    case SENSORS: return read_sensors(scan);
    case DEVICE_ID:
        scan->out->has_device_id =
            read_id(&scan->reader, scan->out->device_id, &scan->out->device_id_len);
        return scan->out->has_device_id ? HLT_TELEMETRY_OK : HLT_TELEMETRY_BAD_SHAPE;
    case TIMESTAMP: return read_time(scan);
    case LOCATION: read_location(scan); return HLT_TELEMETRY_OK;
    case METADATA: hlt_json_skip(&scan->reader, HLT_JSON_NAME); return HLT_TELEMETRY_OK;
    default: read_flat(scan); return HLT_TELEMETRY_OK;
    }
}

static enum hlt_telemetry_rc scan_document(struct scan *scan)
{
    struct hlt_json *reader = &scan->reader;
    enum hlt_json_event event = hlt_json_next(reader);
    enum hlt_telemetry_rc rc = HLT_TELEMETRY_OK;

    if (event == HLT_JSON_NUMBER) {
        add_reading(scan->out, "value", 5, reader->number);
    } else if (event == HLT_JSON_OBJECT_BEGIN) {
        while (rc == HLT_TELEMETRY_OK && hlt_json_next(reader) == HLT_JSON_NAME) {
            rc = read_member(scan);
        }
    } else {
        rc = HLT_TELEMETRY_BAD_SHAPE;
    }
    if (rc != HLT_TELEMETRY_OK) {
        return refuse(reader, rc, &scan->out->error_at);
    }
    if (hlt_json_next(reader) != HLT_JSON_DONE) {
        scan->out->error_at = reader->at;
        return HLT_TELEMETRY_NOT_JSON;
    }
    return HLT_TELEMETRY_OK;
}

enum hlt_telemetry_rc hlt_telemetry_scan(struct hlt_telemetry *out, const char *payload, size_t len)
{
    struct scan scan = {.out = out};
    enum hlt_telemetry_rc rc;

    out->reading_count = 0;
    out->readings_dropped = 0;
    out->has_device_id = false;
    out->device_id[0] = '\0';
    out->device_id_len = 0;
    out->time_ms = 0;
    out->has_location = false;
    out->error_at = 0;
    if (len == 0 || len > HLT_TELEMETRY_MAX) {
        return len == 0 ? HLT_TELEMETRY_EMPTY : HLT_TELEMETRY_TOO_LARGE;
    }
    hlt_json_begin(&scan.reader, payload, len);
    rc = scan_document(&scan);
    if (rc != HLT_TELEMETRY_OK) {
        return rc;
    }
    out->has_location = scan.has_latitude && scan.has_longitude;
    return out->reading_count != 0 ? HLT_TELEMETRY_OK : HLT_TELEMETRY_NO_READING;
}

/* ---- status ---- */

static enum hlt_device_status status_named(const struct hlt_json *reader)
{
    static const struct {
        const char *name;
        enum hlt_device_status status;
    } words[] = {{"online", HLT_STATUS_ONLINE},
                 {"offline", HLT_STATUS_OFFLINE},
                 {"maintenance", HLT_STATUS_MAINTENANCE},
                 {"error", HLT_STATUS_ERROR}};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (hlt_json_is(reader, words[i].name)) {
            return words[i].status;
        }
    }
    return HLT_STATUS_UNKNOWN;
}

static void put_health(struct hlt_status *out, enum member member, double value)
{
    float percent = value >= 0 && value <= 100 ? (float)value : NAN;

    switch (member) {
    case CPU: out->cpu = percent; break;
    case MEMORY: out->memory = percent; break;
    case DISK: out->disk = percent; break;
    case BATTERY: out->battery = percent; break;
    case UPTIME: out->uptime_s = value >= 0 ? value : (double)NAN; break;
    default: break;
    }
}

static bool read_health(struct hlt_json *reader, struct hlt_status *out)
{
    enum hlt_json_event event = hlt_json_next(reader);

    if (event != HLT_JSON_OBJECT_BEGIN) {
        return event == HLT_JSON_NULL;
    }
    while (hlt_json_next(reader) == HLT_JSON_NAME) {
        enum member member = which(reader, CPU, BATTERY);
        event = hlt_json_next(reader);
        if (event == HLT_JSON_NUMBER) {
            put_health(out, member, reader->number);
        } else if (member == OTHER) {
            hlt_json_skip(reader, event);
        } else if (event != HLT_JSON_NULL) {
            return false;
        }
    }
    return true;
}

/* Shown to people: a version with control bytes or too long for the record is left out. */
static void put_firmware(struct hlt_status *out, const struct hlt_json *reader)
{
    size_t len =
        hlt_json_unescape(out->firmware, sizeof(out->firmware), reader->text, reader->text_len);

    if (len == SIZE_MAX || has_control(out->firmware, len)) {
        out->firmware[0] = '\0';
    }
}

static bool read_status_member(struct hlt_json *reader, struct hlt_status *out)
{
    enum member member = which(reader, DEVICE_ID, DEVICE_ID);
    enum hlt_json_event event;
    size_t len;

    if (member == DEVICE_ID) {
        out->has_device_id = read_id(reader, out->device_id, &len);
        return out->has_device_id;
    }
    member = which(reader, STATUS, FIRMWARE);
    if (member == HEALTH) {
        return read_health(reader, out);
    }
    event = hlt_json_next(reader);
    if (member == OTHER) {
        hlt_json_skip(reader, event);
        return true;
    }
    if (event != HLT_JSON_STRING) {
        return event == HLT_JSON_NULL;
    }
    if (member == STATUS) {
        out->status = status_named(reader);
    } else {
        put_firmware(out, reader);
    }
    return true;
}

enum hlt_telemetry_rc hlt_status_scan(struct hlt_status *out, const char *payload, size_t len)
{
    struct hlt_json reader;
    bool good;

    *out = (struct hlt_status){.cpu = NAN,
                               .memory = NAN,
                               .disk = NAN,
                               .battery = NAN,
                               .uptime_s = (double)NAN,
                               .status = HLT_STATUS_UNKNOWN};
    if (len == 0 || len > HLT_TELEMETRY_MAX) {
        return len == 0 ? HLT_TELEMETRY_EMPTY : HLT_TELEMETRY_TOO_LARGE;
    }
    hlt_json_begin(&reader, payload, len);
    good = hlt_json_next(&reader) == HLT_JSON_OBJECT_BEGIN;
    while (good && hlt_json_next(&reader) == HLT_JSON_NAME) {
        good = read_status_member(&reader, out);
    }
    if (!good) {
        return refuse(&reader, HLT_TELEMETRY_BAD_SHAPE, &out->error_at);
    }
    if (hlt_json_next(&reader) != HLT_JSON_DONE) {
        out->error_at = reader.at;
        return HLT_TELEMETRY_NOT_JSON;
    }
    return HLT_TELEMETRY_OK;
}
