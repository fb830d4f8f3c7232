/* simdevice.h - one simulated device: an MQTT client with a token, a profile and a small state
 * machine. */
#ifndef HLT_SIMDEVICE_H
#define HLT_SIMDEVICE_H

#include <mosquitto.h>

#include "../shared/text.h"
#include "issue.h"
#include "profile.h"

/* What all devices of a run share. */
struct hlt_sim {
    const char *host;
    int port;
    const char *cafile;  /* NULL: no TLS */
    int64_t interval_ms; /* between telemetry messages of a device */
    int64_t retry_ms;    /* between login attempts */
    unsigned logins_max; /* login attempts while refused */
    int qos;
    bool v5, status, quiet;
    /* tokens: by key, from a file, or none */
    struct hlt_issuer *issuer;
    const char *issuer_name, *audience, *device_class;
    const char *const *roles;
    size_t role_count;
    int64_t lifetime_s;
    const char *token;        /* of --token-file */
    const char *topic_prefix; /* "devices" */
    int64_t started_ms;       /* monotonic */
    /* results */
    uint64_t sent, acknowledged, refused_messages, refused_logins, connects, lost, unreachable;
};

enum hlt_sim_phase {
    HLT_SIM_WAITING,    /* connects at due_ms */
    HLT_SIM_CONNECTING, /* CONNECT is out */
    HLT_SIM_ONLINE,
    HLT_SIM_ENDED, /* refused for good, or told to end */
};

struct hlt_sim_device {
    struct hlt_sim *sim;
    struct mosquitto *mosq;
    char id[HLT_ID_MAX + 1];
    struct hlt_profile profile;
    enum hlt_sim_phase phase;
    int64_t due_ms; /* monotonic: of the next connect or message */
    int64_t status_due_ms;
    int64_t offset_ms; /* of the first message after a login: spreads a fleet over the interval */
    unsigned refusals;
    bool was_online, ending, event_told;
};

enum hlt_rc hlt_sim_device_init(struct hlt_sim_device *device, struct hlt_sim *sim,
                                struct hlt_err *err);
void hlt_sim_device_free(struct hlt_sim_device *device);

/* Do what is due. HLT_EIO: the broker cannot be reached (err says why); the device tries again by
 * itself. */
enum hlt_rc hlt_sim_device_step(struct hlt_sim_device *device, int64_t now_ms, struct hlt_err *err);
/* The descriptor is readable or writable. */
void hlt_sim_device_io(struct hlt_sim_device *device, bool readable, bool writable);
/* Log out in good order; the device is HLT_SIM_ENDED once the connection is gone. */
void hlt_sim_device_end(struct hlt_sim_device *device);

/* CLOCK_MONOTONIC in ms. */
int64_t hlt_sim_now_ms(void);

#endif
