/* detector_impl.h - what the detectors' files share: their tables and little-endian packing. */
#ifndef HLT_DETECTOR_IMPL_H
#define HLT_DETECTOR_IMPL_H

#include <string.h>

#include "detector.h"

extern const struct hlt_detector hlt_detector_ewma, hlt_detector_zscore;

/* Write the low `bytes` bytes of `value` at *at and move on. */
static inline void hlt_detector_put(uint8_t **at, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        *(*at)++ = (uint8_t)(value >> (8 * i));
    }
}

static inline void hlt_detector_put_double(uint8_t **at, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    hlt_detector_put(at, bits, 8);
}

static inline void hlt_detector_put_float(uint8_t **at, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    hlt_detector_put(at, bits, 4);
}

static inline uint64_t hlt_detector_get(const uint8_t **at, unsigned bytes)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        value |= (uint64_t) * (*at)++ << (8 * i);
    }
    return value;
}

static inline double hlt_detector_get_double(const uint8_t **at)
{
    uint64_t bits = hlt_detector_get(at, 8);
    double value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

static inline float hlt_detector_get_float(const uint8_t **at)
{
    uint32_t bits = (uint32_t)hlt_detector_get(at, 4);
    float value;

    memcpy(&value, &bits, sizeof(value));
    return value;
}

#endif
