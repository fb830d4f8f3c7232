/* guard.h - the engine's defence against abuse: failed logins run out, bans hold, clones are seen.
 * Inside of the engine; its public calls are in engine.h. */
#ifndef HLT_GUARD_H
#define HLT_GUARD_H

#include "ban.h"
#include "engine.h"
#include "limiter.h"
#include "options.h"

#define HLT_BAN_CHANGES_MAX (2 * HLT_BANS_MAX) /* waiting for the store; more are not kept */

/* One ban to be written or deleted in the store; what it is now is looked up then. */
struct hlt_ban_change {
    struct hlt_ban_change *next;
    struct hlt_ban_subject subject;
};

struct hlt_guard {
    struct hlt_limiter *limiter; /* NULL: auth_fail_burst 0 */
    struct hlt_bans bans;
    struct hlt_network exempt[2 * HLT_LIST_MAX + 2], proxy[HLT_LIST_MAX];
    size_t exempt_count, proxy_count;
    struct hlt_ban_change *changes, **changes_tail;
    uint32_t change_count;
    uint64_t evicted_told; /* limiter's evictions at the last alarm */
    bool bans_full;
};

enum hlt_rc hlt_guard_init(struct hlt_guard *guard, const struct hlt_options *options);
void hlt_guard_free(struct hlt_guard *guard);

/* hlt_store_each_fn's work; false: damaged. */
bool hlt_guard_restore(struct hlt_engine *engine, struct hlt_now now, const void *key,
                       size_t key_len, const void *value, size_t len);
/* After all is restored: sessions of banned devices are barred. */
void hlt_guard_restored(struct hlt_engine *engine, struct hlt_now now);
/* The change that is due, as key and value (*value_len 0: delete); false: none. Call
 * hlt_guard_change_done once it is handed over. */
bool hlt_guard_change(struct hlt_engine *engine, char key[HLT_BAN_KEY_MAX], size_t *key_len,
                      uint8_t value[HLT_BAN_RECORD_MAX + 16], size_t *value_len);
void hlt_guard_change_done(struct hlt_engine *engine);

/* Take out bans that are over. */
void hlt_guard_tick(struct hlt_engine *engine, struct hlt_now now);
/* The alarm about full tables ends when nothing was lost since the last call. */
void hlt_guard_heartbeat(struct hlt_engine *engine, struct hlt_now now);
/* A login was refused. */
void hlt_guard_failed(struct hlt_engine *engine, struct hlt_now now,
                      const struct hlt_refusal *refusal);
/* A token was accepted: does it look as if somebody else has it, too? Before the device's address
 * and sessions are changed. */
void hlt_guard_login(struct hlt_engine *engine, struct hlt_now now, struct hlt_device *device,
                     const struct hlt_session *session, const char *address);

#endif
