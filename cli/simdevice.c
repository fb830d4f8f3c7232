/* simdevice.c - drives one libmosquitto client without threads, so that thousands fit in a process.
 */
#include "simdevice.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <mqtt_protocol.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command.h"

#define KEEPALIVE_S 30
#define STATUS_INTERVAL_MS 60000
#define RECONNECT_MS 2000 /* after a lost connection */
#define PAYLOAD_BYTES 1024
#define PACKETS 100 /* handled in one go */

int64_t hlt_sim_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void tell(const struct hlt_sim_device *device, const char *colour, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* One line per event: "sensor-004 connected". */
static void tell(const struct hlt_sim_device *device, const char *colour, const char *fmt, ...)
{
    char text[512], line[2048];
    va_list args;

    if (device->sim->quiet) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    (void)hlt_printable(line, sizeof(line), text, strlen(text)); /* brokers send texts too */
    (void)fprintf(stderr, "%7.1fs  %s %s%s%s\n",
                  (double)(hlt_sim_now_ms() - device->sim->started_ms) / 1000.0, device->id, colour,
                  line, hlt_cli_reset_err());
}

/* --- tokens --- */

static char *claims_json(const struct hlt_sim_device *device)
{
    const struct hlt_sim *sim = device->sim;
    cJSON *claims = cJSON_CreateObject();
    int64_t now_s = hlt_cli_now_ms() / 1000;

    cJSON_AddStringToObject(claims, "sub", device->id);
    if (sim->issuer_name != NULL) {
        cJSON_AddStringToObject(claims, "iss", sim->issuer_name);
    }
    if (sim->audience != NULL) {
        cJSON_AddStringToObject(claims, "aud", sim->audience);
    }
    const char *class = sim->device_class;
    if (class == NULL && device->profile.kind == HLT_PROFILE_HOST) {
        class = "host"; /* a machine of its own kind: thresholds for sensors do not fit it */
    }
    if (class != NULL) {
        cJSON_AddStringToObject(claims, "device_class", class);
    }
    if (sim->role_count > 0) {
        cJSON *roles = cJSON_AddArrayToObject(claims, "roles");
        for (size_t i = 0; i < sim->role_count; i++) {
            cJSON_AddItemToArray(roles, cJSON_CreateString(sim->roles[i]));
        }
    }
    cJSON_AddNumberToObject(claims, "iat", (double)now_s);
    cJSON_AddNumberToObject(claims, "exp", (double)(now_s + sim->lifetime_s));
    char *json = cJSON_PrintUnformatted(claims);
    cJSON_Delete(claims);
    return json;
}

/* A fresh token for every login: a reconnect after expiry must work. */
static enum hlt_rc set_token(struct hlt_sim_device *device, struct hlt_err *err)
{
    const struct hlt_sim *sim = device->sim;
    char *minted = NULL;

    if (sim->issuer != NULL) {
        char *claims = claims_json(device);
        enum hlt_rc rc = claims != NULL ? hlt_issuer_sign(sim->issuer, claims, &minted, err)
                                        : hlt_fail(err, HLT_ENOMEM, "out of memory");
        cJSON_free(claims);
        if (rc != HLT_OK) {
            return rc;
        }
    }
    const char *token = minted != NULL ? minted : sim->token;
    int rc = token != NULL ? mosquitto_username_pw_set(device->mosq, device->id, token)
                           : MOSQ_ERR_SUCCESS;
    free(minted);
    return rc == MOSQ_ERR_SUCCESS ? HLT_OK
                                  : hlt_fail(err, HLT_EINVAL, "%s", mosquitto_strerror(rc));
}

/* --- what the broker says --- */

static void on_connect(struct mosquitto *mosq, void *context, int rc, int flags,
                       const mosquitto_property *properties)
{
    struct hlt_sim_device *device = context;
    struct hlt_sim *sim = device->sim;
    char *reason = NULL;

    (void)mosq;
    (void)flags;
    if (rc == 0) {
        tell(device, "", "connected");
        device->phase = HLT_SIM_ONLINE;
        device->was_online = true;
        device->refusals = 0;
        device->due_ms = hlt_sim_now_ms() + device->offset_ms;
        sim->connects++;
        return;
    }
    sim->refused_logins++;
    device->refusals++;
    if (sim->v5) {
        (void)mosquitto_property_read_string(properties, MQTT_PROP_REASON_STRING, &reason, false);
    }
    tell(device, hlt_cli_red_err(), "refused: %s (CONNACK %d)%s%s",
         sim->v5 ? mosquitto_reason_string(rc) : mosquitto_connack_string(rc), rc,
         reason != NULL ? ": " : "", reason != NULL ? reason : "");
    free(reason);
    bool again = device->refusals < sim->logins_max && !device->ending;
    device->phase = again ? HLT_SIM_WAITING : HLT_SIM_ENDED;
    device->due_ms = hlt_sim_now_ms() + sim->retry_ms;
}

static void on_disconnect(struct mosquitto *mosq, void *context, int rc,
                          const mosquitto_property *properties)
{
    struct hlt_sim_device *device = context;

    (void)mosq;
    (void)properties;
    if (device->ending) {
        device->phase = HLT_SIM_ENDED;
        return;
    }
    if (device->phase == HLT_SIM_WAITING || device->phase == HLT_SIM_ENDED) {
        return; /* the login was refused: told already */
    }
    /* Reason codes of MQTT 5 and errors of the library share `rc`: the former start at 128. */
    tell(device, hlt_cli_yellow_err(), "lost the connection: %s; tries again in %d s",
         rc >= 128 ? mosquitto_reason_string(rc) : mosquitto_strerror(rc), RECONNECT_MS / 1000);
    device->sim->lost++;
    device->phase = HLT_SIM_WAITING;
    device->due_ms = hlt_sim_now_ms() + RECONNECT_MS;
}

static void on_publish(struct mosquitto *mosq, void *context, int mid, int rc,
                       const mosquitto_property *properties)
{
    struct hlt_sim_device *device = context;

    (void)mosq;
    (void)mid;
    (void)properties;
    if (rc >= 128) {
        device->sim->refused_messages++;
        tell(device, hlt_cli_red_err(), "message refused: %s (PUBACK %d)",
             mosquitto_reason_string(rc), rc);
    } else if (device->sim->qos > 0) {
        device->sim->acknowledged++;
    }
}

/* --- life --- */

enum hlt_rc hlt_sim_device_init(struct hlt_sim_device *device, struct hlt_sim *sim,
                                struct hlt_err *err)
{
    device->sim = sim;
    device->phase = HLT_SIM_WAITING;
    device->mosq = mosquitto_new(device->id, true, device);
    if (device->mosq == NULL) {
        return hlt_fail(err, HLT_EINVAL, "cannot make a client '%s': %s", device->id,
                        strerror(errno));
    }
    (void)mosquitto_int_option(device->mosq, MOSQ_OPT_PROTOCOL_VERSION,
                               sim->v5 ? MQTT_PROTOCOL_V5 : MQTT_PROTOCOL_V311);
    mosquitto_connect_v5_callback_set(device->mosq, on_connect);
    mosquitto_disconnect_v5_callback_set(device->mosq, on_disconnect);
    mosquitto_publish_v5_callback_set(device->mosq, on_publish);
    if (sim->cafile != NULL) {
        int rc = mosquitto_tls_set(device->mosq, sim->cafile, NULL, NULL, NULL, NULL);
        if (rc != MOSQ_ERR_SUCCESS) {
            return hlt_fail(err, HLT_EIO, "cannot use %s: %s", sim->cafile, mosquitto_strerror(rc));
        }
    }
    return HLT_OK;
}

void hlt_sim_device_free(struct hlt_sim_device *device)
{
    mosquitto_destroy(device->mosq);
    device->mosq = NULL;
}

/* Blocks for the TCP (and TLS) handshake: the caller spreads its devices over time. */
static enum hlt_rc connect_now(struct hlt_sim_device *device, int64_t now_ms, struct hlt_err *err)
{
    struct hlt_sim *sim = device->sim;
    enum hlt_rc token_rc = set_token(device, err);

    if (token_rc != HLT_OK) {
        device->phase = HLT_SIM_ENDED;
        return token_rc;
    }
    int rc = mosquitto_connect(device->mosq, sim->host, sim->port, KEEPALIVE_S);
    if (rc != MOSQ_ERR_SUCCESS) {
        sim->unreachable++;
        device->due_ms = now_ms + RECONNECT_MS;
        return hlt_fail(err, HLT_EIO, "cannot reach the broker at %s:%d: %s", sim->host, sim->port,
                        rc == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(rc));
    }
    device->phase = HLT_SIM_CONNECTING;
    device->status_due_ms = now_ms;
    return HLT_OK;
}

static void publish(struct hlt_sim_device *device, const char *id, const char *leaf,
                    const char *payload, size_t len)
{
    char level[HLT_LEVEL_MAX + 1], topic[2 * HLT_LEVEL_MAX];

    (void)hlt_level_encode(level, sizeof(level), id, strlen(id));
    (void)snprintf(topic, sizeof(topic), "%s/%s/%s", device->sim->topic_prefix, level, leaf);
    int rc =
        mosquitto_publish(device->mosq, NULL, topic, (int)len, payload, device->sim->qos, false);
    if (rc == MOSQ_ERR_SUCCESS) {
        device->sim->sent++;
    } else {
        tell(device, hlt_cli_red_err(), "cannot publish: %s", mosquitto_strerror(rc));
    }
}

static void speak(struct hlt_sim_device *device, int64_t now_ms)
{
    int64_t elapsed_ms = now_ms - device->sim->started_ms;
    const char *topic_id = device->id;
    char payload[PAYLOAD_BYTES];

    if (!device->event_told && hlt_profile_odd(&device->profile, elapsed_ms)) {
        device->event_told = true;
        tell(device, hlt_cli_yellow_err(), "%s: from now on %s",
             hlt_profile_word(device->profile.kind), hlt_profile_text(device->profile.kind));
    }
    size_t len = hlt_profile_message(&device->profile, device->id, elapsed_ms, hlt_cli_now_ms(),
                                     payload, sizeof(payload), &topic_id);
    if (len > 0) {
        publish(device, topic_id, "telemetry", payload, len);
    }
    bool silent = len == 0;
    if (device->sim->status && !silent && now_ms >= device->status_due_ms) {
        len = hlt_profile_status(&device->profile, elapsed_ms, hlt_cli_now_ms(), payload,
                                 sizeof(payload));
        publish(device, device->id, "status", payload, len);
        device->status_due_ms = now_ms + STATUS_INTERVAL_MS;
    }
}

enum hlt_rc hlt_sim_device_step(struct hlt_sim_device *device, int64_t now_ms, struct hlt_err *err)
{
    if (device->phase == HLT_SIM_WAITING && now_ms >= device->due_ms && !device->ending) {
        return connect_now(device, now_ms, err);
    }
    if (device->phase == HLT_SIM_ONLINE && now_ms >= device->due_ms && !device->ending) {
        speak(device, now_ms);
        device->due_ms += device->sim->interval_ms;
        if (device->due_ms <= now_ms) { /* the machine slept: no burst to catch up */
            device->due_ms = now_ms + device->sim->interval_ms;
        }
    }
    return HLT_OK;
}

void hlt_sim_device_io(struct hlt_sim_device *device, bool readable, bool writable)
{
    /* Errors end in on_disconnect, which is where they are dealt with. */
    if (readable) {
        (void)mosquitto_loop_read(device->mosq, PACKETS);
    }
    if (writable || mosquitto_want_write(device->mosq)) {
        (void)mosquitto_loop_write(device->mosq, PACKETS);
    }
}

void hlt_sim_device_end(struct hlt_sim_device *device)
{
    device->ending = true;
    if (device->phase == HLT_SIM_ONLINE) {
        (void)mosquitto_disconnect(device->mosq);
    } else {
        device->phase = HLT_SIM_ENDED;
    }
}
