/* plugin.h - the state of one loaded plugin and what its files do for each other. All of it belongs
 * to the broker's thread; reload.c alone has a thread of its own. */
#ifndef HLT_PLUGIN_H
#define HLT_PLUGIN_H

#include <cjson/cJSON.h>

#include "../acl/policy.h"
#include "../shared/engine.h"
#include "../shared/tokencache.h"
#include "broker.h"
#include "say.h"

#define HLT_CONTROL_TOPIC "$CONTROL/haltere/v1"
#define HLT_CONTROL_RESPONSE "$CONTROL/haltere/v1/response"

/* Timers run at most this often; 2.0 ticks after every loop pass. */
#define HLT_WORK_INTERVAL_MS 20
/* No tick for so long: other hooks drive the timers (facts: TICK). */
#define HLT_TICK_LATE_MS 1000
/* Asked of 2.1 at every tick, or ticks stop. */
#define HLT_NEXT_TICK_MS 100

struct hlt_views;  /* views.c: policies in use and the views bound to them */
struct hlt_reload; /* reload.c: the thread that reads keys, policy and rules again */

/* One plugin line of mosquitto.conf. Zeroed at first; the broker hands it to every hook. */
struct plugin {
    mosquitto_plugin_id_t *id;
    struct hlt_options options;
    struct hlt_token_rules token_rules; /* borrows from options */
    struct hlt_keyset *keys;
    struct hlt_verifier *verifier;
    struct hlt_tokencache *tokens;
    struct hlt_views *views;
    struct hlt_store *store;
    struct hlt_engine *engine;
    struct hlt_reload *reload;

    struct hlt_now now;     /* read by every hook but deliveries: at most a tick old */
    int64_t worked_mono_ms; /* the timers ran last */
    char *fell_back;        /* started on the last good policy: what is wrong with acl_file */
    bool acting;            /* carrying out actions: a kick calls our DISCONNECT hook from within */
    bool clock_unset_told;

    /* SIGHUP asks BASIC_AUTH for every known client between its RELOAD and the next tick, with no
     * other event of the network in between: what is asked then is no new login (facts: 0.5). */
    bool asking_again;
    bool ticked; /* this broker does tick (2.0.11 with per_listener_settings does not) */
    int64_t asked_mono_ms;

    /* The WRITE that was just allowed: MESSAGE follows at once, for the same client. */
    struct {
        const void *client;
        struct hlt_session *session;
        bool bound_device;
    } written;

    /* The connection a login just took over: its will is asked for before and its end is told after
     * the new login, both with the old pointer. */
    const void *taken_over;
};

/* --- hooks (MOSQ_FUNC_generic_callback) --- */
int hlt_on_basic_auth(int event, void *event_data, void *userdata);
int hlt_on_ext_auth_start(int event, void *event_data, void *userdata);
int hlt_on_acl_check(int event, void *event_data, void *userdata);
int hlt_on_message(int event, void *event_data, void *userdata);
int hlt_on_tick(int event, void *event_data, void *userdata);
int hlt_on_disconnect(int event, void *event_data, void *userdata);
int hlt_on_connect(int event, void *event_data, void *userdata); /* 2.1 only */
int hlt_on_control(int event, void *event_data, void *userdata);
int hlt_on_reload(int event, void *event_data, void *userdata);

/* --- time: hook_tick.c --- */
/* Both clocks, as coarse as the kernel's tick (1 to 4 ms): a few nanoseconds each. */
struct hlt_now hlt_plugin_now(void);
/* The second it is, for judging tokens: by the coarse clock, which is behind, one issued just now
 * would lie in the future. */
int64_t hlt_plugin_wall_s(void);
/* Run the timers if they are late because the broker does not tick. */
void hlt_plugin_drive(struct plugin *self, struct hlt_now now);

/* --- act.c --- */
/* Carry out what the engine asks for. */
void hlt_act(struct plugin *self);

/* --- hook_auth.c --- */
/* A token as somebody showed it. */
struct hlt_shown {
    const char *token;
    size_t len;
    const uint8_t *hash; /* SHA-256 of these bytes; NULL: nobody has made it yet */
};
/* Verify a token for this client, its binding to the connection's certificate too: HLT_REASON_OK
 * and *claims (caller owns), or why not. Costs no signature if it was seen before, nor if the
 * client is banned. */
enum hlt_reason hlt_auth_verify(struct plugin *self, const struct mosquitto *client,
                                const struct hlt_shown *shown, struct hlt_claims **claims,
                                struct hlt_err *detail);

/* Which Mosquitto the lines of an acl_file are decided as. */
static inline enum hlt_acl_compat hlt_plugin_compat(const struct hlt_options *options)
{
    return options->acl_compat == HLT_COMPAT_2_1 ||
                   (options->acl_compat == HLT_COMPAT_AUTO && hlt_broker_is_2_1())
               ? HLT_ACL_2_1
               : HLT_ACL_2_0;
}

/* --- control.c: lists that are given in pages --- */
/* The part of a list that a command asks for. */
struct hlt_page {
    double after;  /* `next` of the answer before this one; 0: from the beginning */
    unsigned left; /* entries still wanted */
};
/* Read `after` and `limit`. NULL, or what is wrong with them. */
const char *hlt_page_read(struct hlt_page *out, const cJSON *command);
/* Add `total` and, unless it is 0, `next` to the answer. */
void hlt_page_end(cJSON *data, size_t total, double next);

/* --- control_token.c: commands about tokens; NULL when done, else what went wrong (a text that
 * lives until the next command) --- */
const char *hlt_control_revoke(struct plugin *self, struct hlt_now now, const char *by,
                               const cJSON *command);
const char *hlt_control_unrevoke(struct plugin *self, struct hlt_now now, const char *by,
                                 const cJSON *command);
const char *hlt_control_revocations(struct plugin *self, const cJSON *command, cJSON **data);
/* Who gave which command with what, and how it ended; secrets are left out. `session` may be NULL.
 */
void hlt_control_audit(struct plugin *self, struct hlt_now now, const struct hlt_session *session,
                       const cJSON *command, const char *error);

/* --- views.c --- */
/* Take `policy` over as the one in force. NULL without memory: then the policy is freed. */
struct hlt_views *hlt_views_new(struct plugin *self, struct hlt_policy *policy);
/* Swap the policy in force; takes `policy` over in any case. Clients bound to the old one are bound
 * again when they next ask or by hlt_views_sweep. False without memory: the old policy stays. */
bool hlt_views_swap(struct hlt_views *views, struct hlt_policy *policy);
/* The same of the shadow policy: asked beside the one in force, without effect. */
bool hlt_views_swap_shadow(struct hlt_views *views, struct hlt_policy *policy);
/* After a swap of either, and once when the engine is there: which policies the shadow's counts are
 * about. */
void hlt_views_compare(struct hlt_views *views, struct hlt_now now);
/* Each tick: work off a slice of what is left of replaced policies. After the last one
 * hlt_reload_tell_change is called. */
void hlt_views_sweep(struct hlt_views *views);
void hlt_views_free(struct hlt_views *views); /* after the engine; accepts NULL */
const struct hlt_policy *hlt_views_policy(const struct hlt_views *views);
const struct hlt_policy *hlt_views_shadow(const struct hlt_views *views); /* NULL: there is none */
unsigned
hlt_views_replaced(const struct hlt_views *views); /* old ones somebody is still bound to */
/* Whom a new policy changed, by each client's last questions (recent.h). */
#define HLT_CHANGE_EXAMPLES 5
struct hlt_policy_change {
    uint64_t clients; /* that were bound to the policy before */
    uint64_t changed; /* of them, who gets another answer to a question of his */
    uint64_t lost;    /* of them, who loses a subscription he holds */
    unsigned example_count;
    char example[HLT_CHANGE_EXAMPLES][512];
};
/* The engine's on_view_free. */
void hlt_views_drop(void *view);
/* Decide for a session; binds its view if there is none of the policy in force. Without memory:
 * HLT_DENY. */
void hlt_views_decide_session(struct hlt_views *views, struct hlt_session *session,
                              enum hlt_access access, const char *topic, struct hlt_decision *out);
/* Decide for another login, by a bounded cache of views. */
void hlt_views_decide_other(struct hlt_views *views, const char *client_id, const char *user,
                            enum hlt_access access, const char *topic, struct hlt_decision *out);

/* A subscription that the policy granted was refused for another reason. */
void hlt_views_not_held(struct hlt_views *views, struct hlt_session *session, const char *filter);

/* What a session's last decision was bound to; NULL if it was never asked. */
const struct hlt_view *hlt_views_view(const struct hlt_session *session);
/* Limits of the policy on what a message of another login shows by itself (limit.h). */
const char *hlt_views_limit_other(struct hlt_views *views, const char *client_id, const char *user,
                                  const char *topic, size_t payload_bytes, int qos, bool retain);

/* --- meter.c: call only after the policy has allowed. NULL: within the limits, else why not --- */
const char *hlt_meters_message(const struct hlt_session *session, const char *topic,
                               size_t payload_bytes, int qos, bool retain);
const char *hlt_meters_subscribe(struct hlt_session *session, const char *filter, int64_t mono_ms);
void hlt_meters_unsubscribe(struct hlt_session *session, const char *filter);
/* Count a message that is about to be delivered. */
const char *hlt_meters_rate(struct hlt_session *session, const char *topic, size_t payload_bytes,
                            int64_t mono_ms);
/* The engine's on_meter_free. */
void hlt_meters_drop(void *meter);

/* --- reload.c --- */
/* Note how the files look now. Call before they are read for the first time. */
struct hlt_reload *hlt_reload_new(const struct hlt_options *options);
/* Where the first reading of the policy, or of the shadow policy, notes what it read; before the
 * thread is started. */
struct hlt_policy_sources *hlt_reload_sources(struct hlt_reload *reload, bool shadow);
/* Start the thread; false if the system refuses one. */
bool hlt_reload_start(struct hlt_reload *reload);
/* Ask for all files to be read again. Never waits. */
void hlt_reload_request(struct hlt_reload *reload);
/* Put into force what the thread has read since the last call. One atomic load if there is nothing.
 */
void hlt_reload_pick_up(struct plugin *self, struct hlt_now now);
/* Have a policy freed that nobody is bound to (any more). Accepts NULL. */
void hlt_reload_discard(struct hlt_reload *reload, struct hlt_policy *policy);
/* End the thread and wait for it. Accepts NULL. */
void hlt_reload_free(struct hlt_reload *reload);
/* Keep a copy of a good policy for acl_fallback, and where it lies. Not on the broker's thread once
 * it runs. */
enum hlt_rc hlt_reload_keep(const struct hlt_options *options, const struct hlt_policy *policy,
                            struct hlt_err *err);
const char *hlt_reload_keep_folder(const struct hlt_options *options, char *out, size_t out_bytes);
/* Whom the policy that was put in force last has changed: log, heartbeat and audit. */
void hlt_reload_tell_change(struct plugin *self, const struct hlt_policy_change *change);
/* Tell heartbeat and log which keys, policy and rules are in force. */
void hlt_reload_note(struct plugin *self);

#endif
