/* act.c - carrying out what the engine asks for: publish, kick, log. */
#include <stdlib.h>
#include <string.h>

#include "../shared/jsonpull.h"
#include "plugin.h"

/* The broker queues what is published: the rest waits for the next call. */
#define ACTIONS_A_CALL 2048u

/* The string member `name` of a document we made ourselves, into `out`; false if there is none. */
static bool member(const struct hlt_action *action, const char *name, char *out, size_t out_bytes)
{
    struct hlt_json reader;
    enum hlt_json_event event;

    return hlt_json_find(action->payload, action->payload_len, name, &reader, &event) &&
           event == HLT_JSON_STRING &&
           hlt_json_unescape(out, out_bytes, reader.text, reader.text_len) != SIZE_MAX;
}

/* CloudEvents 1.0, MQTT binding, binary mode: its attributes are user properties. */
static int add_cloud_event(mosquitto_property **properties, const struct hlt_action *action)
{
    static const char begin[] = "{\"v\":1,\"id\":\""; /* document.c */
    char id[256];
    char time[64];
    int rc;

    /* Others have no id; every login publishes two, and looking through them costs 0.1 us each. */
    if (strncmp(action->payload, begin, sizeof(begin) - 1) != 0 ||
        !member(action, "id", id, sizeof(id)) || !member(action, "updatedAt", time, sizeof(time))) {
        return MOSQ_ERR_SUCCESS;
    }
    const char *const pair[][2] = {{"specversion", "1.0"},
                                   {"type", "haltere.alert"},
                                   {"source", "haltere"},
                                   {"id", id},
                                   {"time", time}};
    for (size_t i = 0; i < sizeof(pair) / sizeof(pair[0]); i++) {
        rc = mosquitto_property_add_string_pair(properties, MQTT_PROP_USER_PROPERTY, pair[i][0],
                                                pair[i][1]);
        if (rc != MOSQ_ERR_SUCCESS) {
            return rc;
        }
    }
    return MOSQ_ERR_SUCCESS;
}

/* What an MQTT 5 subscriber is told about a document; NULL for none, or without memory. */
static mosquitto_property *describe(const struct hlt_action *action)
{
    mosquitto_property *properties = NULL;

    if (!action->alert || action->payload_len == 0) {
        return NULL;
    }
    if (mosquitto_property_add_byte(&properties, MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, 1) !=
            MOSQ_ERR_SUCCESS ||
        mosquitto_property_add_string(&properties, MQTT_PROP_CONTENT_TYPE, "application/json") !=
            MOSQ_ERR_SUCCESS ||
        add_cloud_event(&properties, action) != MOSQ_ERR_SUCCESS) {
        mosquitto_property_free_all(&properties);
        return NULL;
    }
    return properties;
}

static void act_publish(struct plugin *self, struct hlt_action *action)
{
    mosquitto_property *properties = describe(action);
    void *payload = action->payload_len > 0 ? action->payload : NULL;
    int rc = mosquitto_broker_publish(action->client_id, action->topic, (int)action->payload_len,
                                      payload, action->qos, action->retain, properties);

    if (rc == MOSQ_ERR_SUCCESS) {
        if (payload != NULL) {
            action->payload = NULL; /* the broker's now */
        }
        return;
    }
    mosquitto_property_free_all(&properties);
    hlt_say(self->options.log_level, HLT_LOG_WARNING,
            "the broker refuses to publish on %s (code %d)", action->topic, rc);
}

/* A login that is over is not kicked: the id may belong to another connection by now. */
static void act_kick(struct plugin *self, const struct hlt_action *action)
{
    struct hlt_session *session;

    if (action->client_id == NULL) {
        return; /* to the broker that would mean everybody */
    }
    session = hlt_engine_session_by_id(self->engine, action->client_id);
    if (session == NULL || !session->online || session->login != action->login) {
        hlt_engine_counters(self->engine)->kicks_dropped++;
        return;
    }
    session->kicking = true;
    /* Our DISCONNECT hook runs inside this call, and the session may be gone after it. */
    int rc = mosquitto_kick_client_by_clientid(action->client_id, action->with_will);
    session = hlt_engine_session_by_id(self->engine, action->client_id);
    if (session != NULL) {
        session->kicking = false;
    }
    if (rc != MOSQ_ERR_SUCCESS) {
        hlt_say(self->options.log_level, HLT_LOG_DEBUG, "kick of %s: code %d", action->client_id,
                rc);
    }
}

void hlt_act(struct plugin *self)
{
    struct hlt_action action;

    if (self->acting) {
        return; /* called from within a kick: the loop below goes on with it */
    }
    self->acting = true;
    for (unsigned i = 0; i < ACTIONS_A_CALL && hlt_engine_action(self->engine, &action); i++) {
        switch (action.kind) {
        case HLT_ACT_PUBLISH: act_publish(self, &action); break;
        case HLT_ACT_KICK: act_kick(self, &action); break;
        case HLT_ACT_LOG:
            hlt_say(self->options.log_level, action.level, "%s", action.payload);
            break;
        }
        hlt_action_free(&action);
    }
    self->acting = false;
}
