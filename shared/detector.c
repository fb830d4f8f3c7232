/* detector.c - the list of detectors. */
#include "detector.h"

#include <string.h>

#include "detector_impl.h"

static const struct hlt_detector *const detectors[] = {&hlt_detector_ewma, &hlt_detector_zscore};
#define DETECTOR_COUNT (sizeof(detectors) / sizeof(detectors[0]))

const struct hlt_detector *hlt_detector_at(size_t index)
{
    return index < DETECTOR_COUNT ? detectors[index] : NULL;
}

const struct hlt_detector *hlt_detector_find(const char *name)
{
    if (strcmp(name, "default") == 0) {
        return detectors[0];
    }
    for (size_t i = 0; i < DETECTOR_COUNT; i++) {
        if (strcmp(name, detectors[i]->name) == 0) {
            return detectors[i];
        }
    }
    return NULL;
}
