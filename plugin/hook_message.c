/* hook_message.c - what does it say? Every PUBLISH that was allowed, and those of bridges, which
 * nobody asked about. Alerts go out from here: from TICK they would wait 100 ms on 2.1 (facts:
 * 0.9). */
#include <string.h>

#include "plugin.h"

int hlt_on_message(int event, void *event_data, void *userdata)
{
    struct plugin *self = userdata;
    const struct mosquitto_evt_message *ev = event_data;
    struct hlt_message message = {
        .topic = ev->topic,
        .payload = ev->payload,
        .payload_len = ev->payloadlen,
        .retain = ev->retain,
        .checked = self->written.client == ev->client, /* else a bridge: ACL_CHECK never saw it */
    };

    (void)event;
    if (message.checked) {
        message.session = self->written.session;
        message.bound_device = self->written.bound_device;
    } else {
        message.client_id = mosquitto_client_id(ev->client);
        self->now = hlt_plugin_now();
    }
    struct hlt_now now = self->now;
    self->written.client = NULL;
    const char *over = message.session != NULL ? hlt_meters_rate(message.session, ev->topic,
                                                                 ev->payloadlen, now.mono_ms)
                                               : NULL;
    if (over != NULL) {
        hlt_engine_counters(self->engine)->limit_denied++;
        hlt_engine_denied(self->engine, now, message.session, message.session->client_id, "write",
                          ev->topic, over);
        hlt_plugin_drive(self, now);
        hlt_act(self);
        return MOSQ_ERR_ACL_DENIED;
    }
    enum hlt_answer answer = hlt_engine_message(self->engine, now, &message);
    hlt_plugin_drive(self, now);
    hlt_act(self);
    return answer == HLT_DELIVER ? MOSQ_ERR_SUCCESS : MOSQ_ERR_ACL_DENIED;
}
