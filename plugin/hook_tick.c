/* hook_tick.c - what is due, and who has come or gone. */
#include <time.h>

#include "plugin.h"

static int64_t clock_ms(clockid_t clock)
{
    struct timespec ts;

    (void)clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t hlt_plugin_wall_s(void)
{
    return clock_ms(CLOCK_REALTIME) / 1000;
}

struct hlt_now hlt_plugin_now(void)
{
    return (struct hlt_now){
        .wall_ms = clock_ms(CLOCK_REALTIME_COARSE),
        .mono_ms = clock_ms(CLOCK_MONOTONIC_COARSE),
    };
}

static void work(struct plugin *self, struct hlt_now now)
{
    self->worked_mono_ms = now.mono_ms;
    hlt_reload_pick_up(self, now);
    hlt_views_sweep(self->views);
    hlt_engine_tick(self->engine, now);
    hlt_act(self);
}

void hlt_plugin_drive(struct plugin *self, struct hlt_now now)
{
    if (now.mono_ms - self->worked_mono_ms >= HLT_TICK_LATE_MS && !self->acting) {
        work(self, now);
    }
}

int hlt_on_tick(int event, void *event_data, void *userdata)
{
    struct plugin *self = userdata;
    struct mosquitto_evt_tick *ev = event_data;

    (void)event;
    /* 2.1 sleeps until then; there the field counts milliseconds. 2.0 ignores it. */
    ev->next_s = 0;
    ev->next_ns = HLT_NEXT_TICK_MS;
    self->ticked = true;
    self->asking_again = false;
    self->taken_over = NULL;
    self->now = hlt_plugin_now();
    if (self->now.mono_ms - self->worked_mono_ms >= HLT_WORK_INTERVAL_MS) {
        work(self, self->now);
    }
    return MOSQ_ERR_SUCCESS;
}

/* Also CLIENT_OFFLINE: 2.1 tells of a durable session's end by that alone. The client id may be
 * NULL. */
int hlt_on_disconnect(int event, void *event_data, void *userdata)
{
    struct plugin *self = userdata;
    const struct mosquitto_evt_disconnect *ev = event_data;

    (void)event;
    if (self->written.client == ev->client) {
        self->written.client = NULL;
    }
    hlt_engine_logout(self->engine, hlt_plugin_now(), ev->client, mosquitto_client_id(ev->client),
                      ev->reason);
    hlt_act(self);
    return MOSQ_ERR_SUCCESS;
}

int hlt_on_connect(int event, void *event_data, void *userdata)
{
    struct plugin *self = userdata;
    const struct hlt_event_connect *ev = event_data;
    struct hlt_session *session =
        hlt_engine_session(self->engine, ev->client, mosquitto_client_id(ev->client));

    (void)event;
    if (session != NULL) {
        session->confirmed = true;
    }
    return MOSQ_ERR_SUCCESS;
}
