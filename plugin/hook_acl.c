/* hook_acl.c - may this client do this to this topic? Asked for every message, subscriber and
 * filter.
 *
 * Three kinds of clients ask: an online token session, by its pointer; a token session that is gone
 * (its will, its queued messages, the source of a retained message), by its client id; and
 * everybody else (DESIGN 11.4 to 11.10). Nothing here allocates once a view is bound, and nothing
 * is published from here. */
#include <string.h>

#include "plugin.h"

struct question {
    struct mosquitto *client;
    const char *client_id, *topic;
    const void *payload;
    uint32_t payload_len;
    enum hlt_access access;
    bool retain;
    int qos;
    struct hlt_now now;
};

static const char *access_word(enum hlt_access access)
{
    switch (access) {
    case HLT_READ: return "read";
    case HLT_WRITE: return "write";
    case HLT_SUBSCRIBE: return "subscribe";
    case HLT_UNSUBSCRIBE: return "unsubscribe";
    }
    return "unknown";
}

/* A denied READ is a filtered delivery, one for each message: it is counted and no more. */
static int deny(struct plugin *self, const struct question *question, struct hlt_session *session,
                const char *why)
{
    hlt_engine_counters(self->engine)->acl_denied++;
    if (question->access != HLT_READ) {
        hlt_engine_denied(self->engine, question->now, session, question->client_id,
                          access_word(question->access), question->topic, why);
    }
    return MOSQ_ERR_ACL_DENIED;
}

static int allow(struct plugin *self)
{
    hlt_engine_counters(self->engine)->acl_allowed++;
    return MOSQ_ERR_SUCCESS;
}

/* Topics only Haltere writes. NULL: nothing against it, else why not. */
static const char *own_topic_wrong(struct plugin *self, const struct question *question)
{
    if (question->access == HLT_WRITE) {
        if (hlt_engine_owns(self->engine, question->topic)) {
            hlt_engine_counters(self->engine)->own_topic_denied++;
            return "own_topic";
        }
    } else if (question->access == HLT_READ && question->retain &&
               hlt_engine_owns(self->engine, question->topic) &&
               !hlt_engine_retained_is_ours(self->engine, question->topic, question->payload,
                                            question->payload_len)) {
        hlt_engine_counters(self->engine)->stale_retained_denied++;
        return "stale_retained";
    }
    return NULL;
}

static bool writes_control(const struct question *question)
{
    return question->access == HLT_WRITE && strcmp(question->topic, HLT_CONTROL_TOPIC) == 0;
}

/* What the policy allows, `limit` lines may still forbid; NULL if they do not. */
static const char *over_limit(const struct plugin *self, const struct question *question,
                              struct hlt_session *session)
{
    switch (question->access) {
    case HLT_WRITE:
        /* A client the broker made up asks for a message that was sent and judged before. */
        return question->client == session->client || question->client == self->taken_over
                   ? hlt_meters_message(session, question->topic, question->payload_len,
                                        question->qos, question->retain)
                   : NULL;
    case HLT_SUBSCRIBE:
        return session->online && !session->kicking
                   ? hlt_meters_subscribe(session, question->topic, question->now.mono_ms)
                   : NULL;
    case HLT_UNSUBSCRIBE: hlt_meters_unsubscribe(session, question->topic); return NULL;
    case HLT_READ: return NULL;
    }
    return NULL;
}

static int by_policy(struct plugin *self, const struct question *question,
                     struct hlt_session *session, struct hlt_decision *decision)
{
    hlt_views_decide_session(self->views, session, question->access, question->topic, decision);
    if (decision->verdict != HLT_ALLOW) {
        return deny(self, question, session, "policy");
    }
    const char *over = over_limit(self, question, session);
    if (over != NULL) {
        hlt_engine_counters(self->engine)->limit_denied++;
        if (question->access == HLT_SUBSCRIBE) {
            hlt_views_not_held(self->views, session, question->topic);
        }
        return deny(self, question, session, over);
    }
    return allow(self);
}

/* --- an online token session --- */

static int ask_online(struct plugin *self, const struct question *question,
                      struct hlt_session *session)
{
    struct hlt_decision decision;

    session->confirmed = true;
    if (hlt_engine_barred(self->engine, session, question->now)) {
        return deny(self, question, session, "barred");
    }
    /* In our own kick the broker asks for each subscription of a durable session and deletes what
     * is denied: there exp does not count (11.5). */
    bool kicked = session->kicking && question->access == HLT_SUBSCRIBE;
    if (!kicked && question->access != HLT_UNSUBSCRIBE &&
        hlt_session_expired(session, question->now.wall_ms)) {
        return deny(self, question, session, "expired");
    }
    if (writes_control(question)) {
        return allow(self); /* each command is authorised on its own */
    }
    int answer = by_policy(self, question, session, &decision);
    if (answer == MOSQ_ERR_SUCCESS && question->access == HLT_WRITE) {
        self->written.client = question->client;
        self->written.session = session;
        self->written.bound_device = decision.bound_device;
    }
    return answer;
}

/* --- a token session that is gone --- */

/* The kept session this question is about: only where no stranger can stand, that is where the
 * broker made the client up (no address), on our own session's offline pointer, or on the one just
 * taken over. */
static struct hlt_session *kept_session(struct plugin *self, const struct question *question)
{
    struct hlt_session *session = hlt_engine_session_by_id(self->engine, question->client_id);
    const char *user = mosquitto_client_username(question->client);

    if (session == NULL || user == NULL || strcmp(user, session->claims->sub) != 0) {
        return NULL;
    }
    bool ours = question->client == self->taken_over ||
                (!session->online && question->client == session->client);
    return ours || mosquitto_client_address(question->client) == NULL ? session : NULL;
}

static int ask_kept(struct plugin *self, const struct question *question,
                    struct hlt_session *session)
{
    struct hlt_decision decision;

    if (question->access == HLT_WRITE && !session->online && question->client == session->client) {
        hlt_engine_will_seen(self->engine, question->now, session);
    }
    if (hlt_engine_barred(self->engine, session, question->now)) {
        return deny(self, question, session, "barred");
    }
    if (writes_control(question)) {
        return deny(self, question, session, "will");
    }
    if (question->access == HLT_READ && self->options.offline_after_exp_deny &&
        hlt_session_expired(session, question->now.wall_ms)) {
        return deny(self, question, session, "offline");
    }
    return by_policy(self, question, session, &decision);
}

/* --- everybody else --- */

static int ask_other(struct plugin *self, const struct question *question)
{
    const char *user = mosquitto_client_username(question->client);
    struct hlt_decision decision;

    if (hlt_engine_session_by_id(self->engine, question->client_id) != NULL ||
        hlt_engine_id_reserved(self->engine, question->client_id) ||
        (user != NULL && hlt_engine_id_reserved(self->engine, user))) {
        return deny(self, question, NULL, "id_reserved");
    }
    if (writes_control(question)) {
        return deny(self, question, NULL, "control");
    }
    hlt_views_decide_other(self->views, question->client_id, user, question->access,
                           question->topic, &decision);
    if (decision.verdict == HLT_ALLOW) {
        const char *over =
            question->access == HLT_WRITE
                ? hlt_views_limit_other(self->views, question->client_id, user, question->topic,
                                        question->payload_len, question->qos, question->retain)
                : NULL;
        if (over == NULL) {
            return allow(self);
        }
        hlt_engine_counters(self->engine)->limit_denied++;
        return deny(self, question, NULL, over);
    }
    if (decision.verdict == HLT_NO_RULE && self->options.allow_other_auth) {
        hlt_engine_counters(self->engine)->acl_deferred++;
        return MOSQ_ERR_PLUGIN_DEFER;
    }
    return deny(self, question, NULL, "policy");
}

int hlt_on_acl_check(int event, void *event_data, void *userdata)
{
    struct plugin *self = userdata;
    const struct mosquitto_evt_acl_check *ev = event_data;
    struct question question = {
        .client = ev->client,
        .client_id = mosquitto_client_id(ev->client),
        .topic = ev->topic,
        .payload = ev->payload,
        .payload_len = ev->payloadlen,
        .access = (enum hlt_access)ev->access,
        .retain = ev->retain,
        .qos = ev->qos,
    };

    (void)event;
    if (ev->access !=
        MOSQ_ACL_READ) { /* deliveries follow at once on what has just read the clock */
        self->now = hlt_plugin_now();
    }
    question.now = self->now;
    if (question.client_id == NULL || question.topic == NULL ||
        (ev->access != MOSQ_ACL_READ && ev->access != MOSQ_ACL_WRITE &&
         ev->access != MOSQ_ACL_SUBSCRIBE && ev->access != MOSQ_ACL_UNSUBSCRIBE)) {
        return MOSQ_ERR_ACL_DENIED;
    }
    self->written.client = NULL;
    struct hlt_session *session =
        hlt_engine_session(self->engine, question.client, question.client_id);
    const char *wrong = own_topic_wrong(self, &question);
    if (wrong != NULL) {
        return deny(self, &question, session, wrong);
    }
    if (session != NULL) {
        return ask_online(self, &question, session);
    }
    session = kept_session(self, &question);
    return session != NULL ? ask_kept(self, &question, session) : ask_other(self, &question);
}
