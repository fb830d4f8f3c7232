/* outbox.h - the bounded queue of actions between the engine and whoever carries them out. */
#ifndef HLT_OUTBOX_H
#define HLT_OUTBOX_H

#include "engine.h"

struct hlt_outbox {
    struct hlt_action *ring; /* HLT_ACTIONS_MAX */
    size_t head, count;
    uint64_t dropped;
};

enum hlt_rc hlt_outbox_init(struct hlt_outbox *box);
void hlt_outbox_free(struct hlt_outbox *box);

/* Queue a publish. Takes `payload` (malloc'd, may be NULL after a failed allocation: counted as
 * dropped); copies `topic` and `client_id` (may be NULL). */
void hlt_outbox_publish(struct hlt_outbox *box, const char *topic, char *payload, int qos,
                        bool retain, bool alert, const char *client_id);
void hlt_outbox_kick(struct hlt_outbox *box, const char *client_id, uint64_t login, bool with_will);
void hlt_outbox_log(struct hlt_outbox *box, enum hlt_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool hlt_outbox_pop(struct hlt_outbox *box, struct hlt_action *out);

#endif
