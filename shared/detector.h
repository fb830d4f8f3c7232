/* detector.h - is this value out of line? One state per (device, metric), no training phase,
 * causal.
 *
 * A detector is a table of functions over a flat state of fixed size, so that the engine can keep
 * millions of states in slabs, the store can save them, and `haltere score` runs exactly the same
 * code. Two outputs in [0,1] (DESIGN 6): `level` is high as long as the value is out of line,
 * `event` is high when something new happens. The detector says itself when an alert is due:
 * `alert` is its own calibrated decision. */
#ifndef HLT_DETECTOR_H
#define HLT_DETECTOR_H

#include "base.h"

struct hlt_detector_score {
    float level;    /* 0..1 */
    float event;    /* 0..1 */
    float score;    /* 0..1 the calibrated combination: alert iff score >= 0.5 */
    float expected; /* what the detector thought normal, in the metric's unit */
    float z;        /* the deviation in its own standard deviations, signed; for people */
    bool learning;  /* too few values yet: score is 0 */
};

struct hlt_detector {
    const char *name;    /* "ewma", "zscore" */
    const char *summary; /* one line for --help */
    size_t state_bytes;  /* of the state in memory (8-byte aligned) */
    size_t packed_bytes; /* of the packed state in the store */
    uint8_t version;     /* of the packed layout; another version is not unpacked but learnt anew */
    void (*init)(void *state);
    /* Score `value` against what came before, then learn it. Never fails: value is finite.
     * `time_ms` is unix ms. */
    void (*update)(void *state, double value, int64_t time_ms, struct hlt_detector_score *out);
    void (*pack)(const void *state, uint8_t *out); /* little-endian, packed_bytes */
    bool (*unpack)(void *state, const uint8_t *in,
                   size_t len); /* false: nonsense, state untouched */
};

/* By name; NULL if there is none. "default" is the default. Never freed. */
const struct hlt_detector *hlt_detector_find(const char *name);
/* All of them, for --help and tests: index from 0 to NULL. The first is the default. */
const struct hlt_detector *hlt_detector_at(size_t index);

#endif
