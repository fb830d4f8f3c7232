/* telemetry.h - what a device said about its world: one pass over a payload, no allocation.
 *
 * Shapes (DESIGN 5): {"deviceId"?, "timestamp"?, "sensors":{name:number,...}, "location"?, "metadata"?};
 * a flat object {name:number,...} (members that are not numbers are passed over); a bare number (metric "value").
 * In "sensors" null means "no reading"; anything else but a number is malformed. */
#ifndef HLT_TELEMETRY_H
#define HLT_TELEMETRY_H

#include "base.h"

#define HLT_READINGS_MAX 16      /* metric names a message may carry; more: readings_dropped counts them */
#define HLT_METRIC_NAME_MAX 64   /* bytes of a metric name; longer ones are dropped and counted */
#define HLT_TELEMETRY_MAX 262144 /* bytes of a payload; more: HLT_TELEMETRY_TOO_LARGE */

enum hlt_telemetry_rc {
    HLT_TELEMETRY_OK = 0,
    HLT_TELEMETRY_EMPTY,     /* no payload */
    HLT_TELEMETRY_TOO_LARGE, /* over HLT_TELEMETRY_MAX */
    HLT_TELEMETRY_NOT_JSON,  /* broken JSON, bad UTF-8, too deep, number out of range */
    HLT_TELEMETRY_BAD_SHAPE, /* valid JSON of another shape: array, string, sensors not an object, ... */
    HLT_TELEMETRY_NO_READING,
    HLT_TELEMETRY_BAD_TIME, /* timestamp neither RFC 3339 nor a unix time (s or ms) */
};
const char *hlt_telemetry_text(enum hlt_telemetry_rc rc); /* "not JSON", for logs and alerts */

struct hlt_reading {
    char name[HLT_METRIC_NAME_MAX + 1]; /* valid UTF-8 without control bytes */
    uint8_t name_len;
    double value; /* finite */
};

struct hlt_telemetry {
    struct hlt_reading reading[HLT_READINGS_MAX];
    size_t reading_count;
    size_t readings_dropped;
    char device_id[256]; /* decoded "deviceId", "" if absent */
    size_t device_id_len;
    bool has_device_id;
    int64_t time_ms; /* unix ms of "timestamp", 0 if absent; below 1e11 it was seconds */
    bool has_location;
    double latitude, longitude;
    size_t error_at; /* byte offset of the fault, when rc is not OK */
};

/* Scan a payload. `out` is filled as far as read; only valid after HLT_TELEMETRY_OK. A metric named twice: last wins.
 * Only fields that were read are written: `out` need not be cleared. Cost: about 1 ns per byte. */
enum hlt_telemetry_rc hlt_telemetry_scan(struct hlt_telemetry *out, const char *payload, size_t len);

/* devices/{id}/status: {"status":"online|offline|maintenance|error","health":{cpu,memory,disk,uptime,battery},
 * "firmwareVersion","lastSeen"}; every member optional, unknown ones passed over. */
enum hlt_device_status { HLT_STATUS_UNKNOWN, HLT_STATUS_ONLINE, HLT_STATUS_OFFLINE,
                         HLT_STATUS_MAINTENANCE, HLT_STATUS_ERROR };
struct hlt_status {
    enum hlt_device_status status;
    float cpu, memory, disk, battery; /* percent 0..100; NAN where absent */
    double uptime_s;                  /* NAN where absent */
    char firmware[64];                /* "" where absent */
    char device_id[256];
    bool has_device_id;
    size_t error_at;
};
enum hlt_telemetry_rc hlt_status_scan(struct hlt_status *out, const char *payload, size_t len);

#endif
