/* meter.c - the policy's limits on the sessions of this broker: judged in ACL_CHECK, counted in
 * MESSAGE (DESIGN 11.20).
 *
 * A meter belongs to the session, not to its view: neither a reload nor a renewed token nor a new
 * connection makes a client's buckets full again. */
#include <stdlib.h>

#include "../acl/limit.h"
#include "plugin.h"

struct kept {
    struct hlt_meter *meter;
    uint64_t login; /* whose subscriptions are counted */
    bool durable;
};

void hlt_meters_drop(void *meter)
{
    struct kept *kept = meter;

    if (kept != NULL) {
        hlt_meter_free(kept->meter);
        free(kept);
    }
}

/* The session's meter for its view; NULL without memory. */
static struct hlt_meter *meter_of(struct hlt_session *session, const struct hlt_view *view,
                                  int64_t mono_ms)
{
    struct kept *kept = session->meter;

    if (kept == NULL) {
        kept = calloc(1, sizeof(*kept));
        if (kept == NULL) {
            return NULL;
        }
        kept->login = session->login;
        kept->durable = session->durable;
        session->meter = kept;
    }
    if (kept->meter == NULL || !hlt_meter_is_for(kept->meter, view)) {
        struct hlt_meter *meter = hlt_meter_new(view, kept->meter, mono_ms);

        if (meter == NULL) {
            return NULL;
        }
        hlt_meter_free(kept->meter);
        kept->meter = meter;
    }
    if (kept->login != session->login) {
        if (!kept->durable || !session->durable) { /* the broker has dropped them */
            hlt_meter_forget_subscriptions(kept->meter);
        }
        kept->login = session->login;
        kept->durable = session->durable;
    }
    return kept->meter;
}

const char *hlt_meters_subscribe(struct hlt_session *session, const char *filter, int64_t mono_ms)
{
    const struct hlt_view *view = hlt_views_view(session);

    if (view == NULL || !hlt_view_limits_subscriptions(view)) {
        return NULL;
    }
    struct hlt_meter *meter = meter_of(session, view, mono_ms);
    return meter == NULL ? "memory" : hlt_meter_subscribe(meter, view, filter);
}

void hlt_meters_unsubscribe(struct hlt_session *session, const char *filter)
{
    struct kept *kept = session->meter;

    if (kept != NULL && kept->meter != NULL) {
        hlt_meter_unsubscribe(kept->meter, filter);
    }
}

const char *hlt_meters_message(const struct hlt_session *session, const char *topic,
                               size_t payload_bytes, int qos, bool retain)
{
    const struct hlt_view *view = hlt_views_view(session);

    return view == NULL || !hlt_view_limits_message(view)
               ? NULL
               : hlt_limit_message(view, topic, payload_bytes, qos, retain);
}

const char *hlt_meters_rate(struct hlt_session *session, const char *topic, size_t payload_bytes,
                            int64_t mono_ms)
{
    const struct hlt_view *view = hlt_views_view(session);

    if (view == NULL || !hlt_view_limits_rate(view)) {
        return NULL;
    }
    struct hlt_meter *meter = meter_of(session, view, mono_ms);
    return meter == NULL ? "memory" : hlt_meter_take(meter, view, topic, payload_bytes, mono_ms);
}
