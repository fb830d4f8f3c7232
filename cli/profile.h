/* profile.h - what a simulated device measures, and what happens to it.
 *
 * Signals are reproducible: the same seed and device give the same series whatever else runs. */
#ifndef HLT_PROFILE_H
#define HLT_PROFILE_H

#include "../shared/base.h"
#include "host.h"

enum hlt_profile_kind {
    HLT_PROFILE_NORMAL,
    HLT_PROFILE_OVERHEAT,  /* temperature steps to 95 and stays */
    HLT_PROFILE_JUMP,      /* humidity steps by 20 sigma to another plateau and stays */
    HLT_PROFILE_SILENT,    /* stays connected, publishes no more */
    HLT_PROFILE_SPOOF,     /* a few payloads carry another device's id */
    HLT_PROFILE_DENIED,    /* a few messages go to another device's topic */
    HLT_PROFILE_MALFORMED, /* a few payloads are broken JSON */
    HLT_PROFILE_HOST,      /* this machine's own readings */
    HLT_PROFILE_COUNT
};
const char *hlt_profile_word(unsigned kind); /* "overheat" */
const char *hlt_profile_text(unsigned kind); /* what happens, for --help and for the event's line */

#define HLT_PROFILE_SENSORS 4
#define HLT_PROFILE_FEW 3 /* messages of an event that passes */

struct hlt_sensor_signal {
    double mean, noise; /* standard deviation of a reading around the drifting mean */
    double swing;       /* amplitude of the slow drift */
    double period_s, phase;
};

struct hlt_profile {
    enum hlt_profile_kind kind;
    int64_t at_ms;     /* when its event happens, from the start */
    const char *other; /* borrowed: the id SPOOF and DENIED use */
    uint64_t random;
    struct hlt_sensor_signal signal[HLT_PROFILE_SENSORS];
    double battery_per_hour;
    unsigned odd_messages; /* sent since the event */
    struct hlt_host host;
};

void hlt_profile_init(struct hlt_profile *profile, enum hlt_profile_kind kind, uint64_t seed,
                      size_t index, int64_t at_ms, const char *other);

/* Has the event begun at `elapsed_ms`, counted from the start? NORMAL and HOST have none. */
bool hlt_profile_odd(const struct hlt_profile *profile, int64_t elapsed_ms);

/* The next telemetry message of device `id`: *topic_id gets the id whose topic it goes to
 * (borrowed). Returns the payload's length, 0 if the device says nothing now. */
size_t hlt_profile_message(struct hlt_profile *profile, const char *id, int64_t elapsed_ms,
                           int64_t wall_ms, char *out, size_t out_bytes, const char **topic_id);

/* A status document (DESIGN 5). */
size_t hlt_profile_status(struct hlt_profile *profile, int64_t elapsed_ms, int64_t wall_ms,
                          char *out, size_t out_bytes);

#endif
