/* broker.h - all that Haltere takes from Mosquitto; the only file that includes its headers.
 *
 * Built on the 2.0.11 headers and loaded by 2.0.11, 2.0.21 and 2.1.x: what only 2.1 has is declared
 * weak here and is NULL elsewhere; what 2.0.21 does not export (mosquitto_property_read_*,
 * mosquitto_strerror, mosquitto_topic_matches_sub2) is not used at all (facts: mosquitto plugin,
 * 0.10, 1). */
#ifndef HLT_BROKER_H
#define HLT_BROKER_H

/* The order matters: 2.0.11's headers do not include what they need. */
/* clang-format off */
#include <mosquitto.h>
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <mqtt_protocol.h>
/* clang-format on */

#include <stdbool.h>

/* Events of 2.1. Registering them with 2.0 answers MOSQ_ERR_NOT_SUPPORTED and does no harm. */
#define HLT_EVENT_CONNECT 11
#define HLT_EVENT_CLIENT_OFFLINE 28

/* The layout of the 2.1 event structs that 2.0's headers do not have. */
struct hlt_event_connect {
    void *future;
    struct mosquitto *client;
    void *future2[4];
};

/* 2.1 only. */
int mosquitto_plugin_set_info(mosquitto_plugin_id_t *identifier, const char *plugin_name,
                              const char *plugin_version) __attribute__((weak));

/* Is this broker 2.1 or later? RELOAD and TICK are answered differently there. */
static inline bool hlt_broker_is_2_1(void)
{
    return mosquitto_plugin_set_info != NULL;
}

#endif
