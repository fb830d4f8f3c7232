/* telemetry.h - what a device said about its world: one pass over a payload, no allocation.
 *
 * Shapes (DESIGN 5): {"deviceId"?, "timestamp"?, "sensors":{name:number,...}, "location"?,
 * "metadata"?}; a flat object {name:number,...} (members that are not numbers are passed over); a
 * bare number (metric "value"). In "sensors" null means "no reading"; anything else but a number is
 * malformed. An object with "sensors" has no other readings. deviceId, timestamp, location and
 * metadata are never readings. A location that holds no latitude and longitude in range, and
 * metadata of any shape, are passed over. */
#ifndef HLT_TELEMETRY_H
#define HLT_TELEMETRY_H

#include "base.h"

#define HLT_READINGS_MAX                                                                           \
    16 /* metric names a message may carry; more: readings_dropped counts them */
#define HLT_METRIC_NAME_MAX                                                                        \
    64 /* bytes of a metric name; longer or empty ones, and those with control                     \
        * characters, are dropped and counted */
#define HLT_TELEMETRY_MAX 262144 /* bytes of a payload; more: HLT_TELEMETRY_TOO_LARGE */

enum hlt_telemetry_rc {
    HLT_TELEMETRY_OK = 0,
    HLT_TELEMETRY_EMPTY,     /* no payload */
    HLT_TELEMETRY_TOO_LARGE, /* over HLT_TELEMETRY_MAX */
    HLT_TELEMETRY_NOT_JSON,  /* broken JSON, bad UTF-8, too deep, number out of range */
    HLT_TELEMETRY_BAD_SHAPE, /* valid JSON of another shape: array, string, sensors not an object,
                              * deviceId not a valid id, ... */
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

/* Scan a payload. `out` is filled as far as read; only valid after HLT_TELEMETRY_OK. A metric named
 * twice: last wins. Only fields that were read are written: `out` need not be cleared. Cost: about
 * 1 ns per byte. */
enum hlt_telemetry_rc hlt_telemetry_scan(struct hlt_telemetry *out, const char *payload,
                                         size_t len);

/* devices/{id}/status:
 * {"status":"online|offline|maintenance|error","health":{cpu,memory,disk,uptime,battery},
 * "firmwareVersion","lastSeen"}; every member optional or null, unknown ones passed over; a member
 * of the wrong type is HLT_TELEMETRY_BAD_SHAPE, an unknown status word HLT_STATUS_UNKNOWN. */
enum hlt_device_status {
    HLT_STATUS_UNKNOWN,
    HLT_STATUS_ONLINE,
    HLT_STATUS_OFFLINE,
    HLT_STATUS_MAINTENANCE,
    HLT_STATUS_ERROR
};
struct hlt_status {
    enum hlt_device_status status;
    float cpu, memory, disk, battery; /* percent; NAN where absent or outside 0..100 */
    double uptime_s;                  /* NAN where absent or negative */
    char firmware[64];                /* "" where absent, too long or with control bytes */
    char device_id[256];
    bool has_device_id;
    size_t error_at;
};
enum hlt_telemetry_rc hlt_status_scan(struct hlt_status *out, const char *payload, size_t len);

#endif
