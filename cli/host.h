/* host.h - this machine's own readings, from /proc and /sys: real data for trying things out. */
#ifndef HLT_HOST_H
#define HLT_HOST_H

#include <cjson/cJSON.h>

#include "../shared/base.h"

#define HLT_HOST_READINGS 4

/* Zero-initialise. A reading the machine does not offer is left out. */
struct hlt_host {
    struct {
        const char
            *name; /* "cpu" and "memory" in percent, "load1", "temperature" in degrees Celsius */
        double value;
    } reading[HLT_HOST_READINGS];
    size_t count;
    uint64_t busy_ticks, all_ticks; /* of the last call: cpu is what happened since */
};

/* Read them anew. The first call has no cpu yet. About 100 us. */
void hlt_host_read(struct hlt_host *host);

/* Add cpu, memory, disk and uptime as members of a status document's `health`. */
void hlt_host_add_health(const struct hlt_host *host, cJSON *health);

#endif
