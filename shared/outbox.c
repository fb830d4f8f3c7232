/* outbox.c - the ring behind hlt_engine_action(). When it is full new actions are dropped and
 * counted: what must not be lost (kicks, the active set) is derived again from state by the timers.
 */
#include "outbox.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum hlt_rc hlt_outbox_init(struct hlt_outbox *box)
{
    memset(box, 0, sizeof(*box));
    box->ring = calloc(HLT_ACTIONS_MAX, sizeof(*box->ring));
    return box->ring != NULL ? HLT_OK : HLT_ENOMEM;
}

void hlt_outbox_free(struct hlt_outbox *box)
{
    struct hlt_action action;

    while (hlt_outbox_pop(box, &action)) {
        hlt_action_free(&action);
    }
    free(box->ring);
    box->ring = NULL;
}

void hlt_action_free(struct hlt_action *action)
{
    free(action->topic);
    free(action->payload);
    free(action->client_id);
    action->topic = action->payload = action->client_id = NULL;
}

/* Takes over the action's strings in any case. */
static void push(struct hlt_outbox *box, struct hlt_action *action)
{
    if (box->ring == NULL || box->count == HLT_ACTIONS_MAX) {
        box->dropped++;
        hlt_action_free(action);
        return;
    }
    box->ring[(box->head + box->count) % HLT_ACTIONS_MAX] = *action;
    box->count++;
}

void hlt_outbox_publish(struct hlt_outbox *box, const char *topic, char *payload, int qos,
                        bool retain, bool alert, const char *client_id)
{
    struct hlt_action action = {.kind = HLT_ACT_PUBLISH,
                                .qos = qos,
                                .retain = retain,
                                .alert = alert,
                                .payload = payload,
                                .topic = strdup(topic)};
    bool whole = action.topic != NULL && payload != NULL;

    if (client_id != NULL) {
        action.client_id = strdup(client_id);
        whole = whole && action.client_id != NULL;
    }
    if (!whole) { /* no memory */
        box->dropped++;
        hlt_action_free(&action);
        return;
    }
    action.payload_len = strlen(payload);
    push(box, &action);
}

void hlt_outbox_kick(struct hlt_outbox *box, const char *client_id, uint64_t login, bool with_will)
{
    struct hlt_action action = {.kind = HLT_ACT_KICK,
                                .login = login,
                                .with_will = with_will,
                                .client_id = strdup(client_id)};

    if (action.client_id == NULL) {
        box->dropped++;
        return;
    }
    push(box, &action);
}

void hlt_outbox_log(struct hlt_outbox *box, enum hlt_log_level level, const char *fmt, ...)
{
    struct hlt_action action = {.kind = HLT_ACT_LOG, .level = level};
    char line[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    action.payload = strdup(line);
    if (action.payload == NULL) {
        box->dropped++;
        return;
    }
    action.payload_len = strlen(line);
    push(box, &action);
}

bool hlt_outbox_pop(struct hlt_outbox *box, struct hlt_action *out)
{
    if (box->count == 0) {
        return false;
    }
    *out = box->ring[box->head];
    box->count--;
    /* An empty ring begins at its beginning again: that is in the cache, the rest of it is not. */
    box->head = box->count > 0 ? (box->head + 1) % HLT_ACTIONS_MAX : 0;
    return true;
}
