/* views.c - the policy in force, the ones it replaced, the shadow beside it, and who is bound to
 * which.
 *
 * A reload must not stop the broker while 100,000 sessions are bound again: a view is bound when
 * its client next asks, or on one of the next ticks, where what is left of an old policy goes in
 * slices. Whenever a client leaves one view of the policy in force for the next, its last questions
 * are put to both: so a reload can tell whom it changes, and who loses a subscription. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../acl/explain.h"
#include "../acl/limit.h"
#include "../shared/hash.h"
#include "../shared/text.h"
#include "plugin.h"
#include "recent.h"

#define OTHERS 1024u         /* cached views of other logins, a power of two */
#define OTHERS_KEY_MAX 512u  /* longer client id and user name together: bound for each question */
#define SWEEP_VIEWS 500u     /* views freed a tick: well under a millisecond */
#define SWEEP_COMPARED 50u   /* clients bound again and compared a tick: about half a millisecond */
#define REPLACED_COMPARED 8u /* old policies kept for comparing */
/* Questions looked up among a client's last ones; at higher rates the rest of a tick's go unseen,
 * and are seen in another. */
#define NOTES_A_TICK 256u
#define ASKED_BYTES 64u /* longer topics are decided each time */
#define WHO_BYTES 256u  /* of a name in the shadow's report */

/* A policy and the views bound to it. */
struct box {
    struct hlt_policy *policy;
    struct bound *views;
    struct box *next; /* older, replaced ones */
};

/* A view in its box's list. */
struct bound {
    struct hlt_view *view; /* NULL: none */
    struct box *box;
    struct bound *prev, *next;
    struct client *client;
};

/* One policy over time: the one in force, or the shadow (which there may be none of). */
struct track {
    struct box *current;
    struct box *replaced; /* the newest first */
    unsigned replaced_count;
};

/* Who asks. A session's `view` points here. */
struct client {
    /* The last question and its answer: a device asks the same one for each of its messages. What
     * that needs comes first. */
    char asked[ASKED_BYTES];
    struct hlt_decision said;
    uint32_t row; /* the shadow's, if it differed */
    bool differed;
    uint8_t asked_access;
    uint8_t asked_len; /* 0: nothing yet */
    bool unseen;       /* it was not noted: the tick's notes were used up */
    struct bound active, shadow;
    struct hlt_views *views;
    struct hlt_session *session;  /* NULL: another login */
    const char *client_id, *user; /* of another login */
    struct hlt_recent *recent;
    uint64_t login; /* whose subscriptions `recent` holds */
    bool durable;
};

struct other {
    char *key; /* client id, NUL, user name, NUL */
    size_t key_len;
    struct client client;
};

struct hlt_views {
    struct plugin *plugin; /* its engine and clock */
    struct track active, shadow;
    struct hlt_recent_pool recents;
    unsigned notes_left; /* this tick */
    bool reporting;      /* a policy was swapped in, and not all clients have been compared */
    struct hlt_policy_change change;
    struct hlt_hash_key key;
    struct other other[OTHERS];
};

/* --- boxes --- */

static struct box *box_new(struct hlt_policy *policy)
{
    struct box *box = calloc(1, sizeof(*box));

    if (box == NULL) {
        hlt_policy_free(policy);
        return NULL;
    }
    box->policy = policy;
    return box;
}

static void unbind(struct bound *bound)
{
    if (bound->view == NULL) {
        return;
    }
    hlt_view_free(bound->view);
    bound->view = NULL;
    if (bound->prev != NULL) {
        bound->prev->next = bound->next;
    } else {
        bound->box->views = bound->next;
    }
    if (bound->next != NULL) {
        bound->next->prev = bound->prev;
    }
    bound->box = NULL;
    bound->prev = bound->next = NULL;
}

/* Give the client this view of the box's policy instead of the one it has. */
static void attach(struct client *client, struct bound *bound, struct box *box,
                   struct hlt_view *view)
{
    unbind(bound);
    client->asked_len = 0;
    bound->client = client;
    bound->view = view;
    bound->box = box;
    bound->next = box->views;
    if (box->views != NULL) {
        box->views->prev = bound;
    }
    box->views = bound;
}

static void box_free(struct box *box)
{
    if (box == NULL) {
        return;
    }
    while (box->views != NULL) {
        unbind(box->views);
    }
    hlt_policy_free(box->policy);
    free(box);
}

static void track_free(struct track *track)
{
    while (track->replaced != NULL) {
        struct box *box = track->replaced;
        track->replaced = box->next;
        box_free(box);
    }
    box_free(track->current);
    track->current = NULL;
}

/* False without memory: the policy stays as it is. Takes `policy` over in any case. */
static bool track_swap(struct track *track, struct hlt_policy *policy)
{
    struct box *box = box_new(policy);

    if (box == NULL) {
        return false;
    }
    if (track->current != NULL) {
        track->current->next = track->replaced;
        track->replaced = track->current;
        track->replaced_count++;
    }
    track->current = box;
    return true;
}

/* --- the policies --- */

struct hlt_views *hlt_views_new(struct plugin *self, struct hlt_policy *policy)
{
    struct hlt_views *views = calloc(1, sizeof(*views));

    if (views == NULL || hlt_hash_key_init(&views->key) != 0) {
        hlt_policy_free(policy);
        free(views);
        return NULL;
    }
    views->plugin = self;
    views->recents.bytes_max = self->options.max_recent_bytes;
    views->notes_left = NOTES_A_TICK;
    if (!track_swap(&views->active, policy)) {
        free(views);
        return NULL;
    }
    return views;
}

const struct hlt_policy *hlt_views_policy(const struct hlt_views *views)
{
    return views->active.current->policy;
}

const struct hlt_policy *hlt_views_shadow(const struct hlt_views *views)
{
    return views->shadow.current != NULL ? views->shadow.current->policy : NULL;
}

void hlt_views_compare(struct hlt_views *views, struct hlt_now now)
{
    const struct hlt_policy *shadow = hlt_views_shadow(views);

    hlt_shadow_begin(hlt_engine_shadow(views->plugin->engine),
                     hlt_policy_digest(hlt_views_policy(views)),
                     shadow != NULL ? hlt_policy_digest(shadow) : NULL, now.wall_ms);
}

/* Whom the policy in force has changed since it is, or since this was told last. */
static void tell_change(struct hlt_views *views)
{
    hlt_engine_counters(views->plugin->engine)->clients_changed += views->change.changed;
    hlt_reload_tell_change(views->plugin, &views->change);
    views->change = (struct hlt_policy_change){0};
}

bool hlt_views_swap(struct hlt_views *views, struct hlt_policy *policy)
{
    /* Amid the comparing for the one before: the rest is compared with this one. */
    if (views->reporting && views->change.clients > 0) {
        tell_change(views);
    }
    if (!track_swap(&views->active, policy)) {
        return false;
    }
    views->reporting = true;
    return true;
}

bool hlt_views_swap_shadow(struct hlt_views *views, struct hlt_policy *policy)
{
    return track_swap(&views->shadow, policy);
}

unsigned hlt_views_replaced(const struct hlt_views *views)
{
    return views->active.replaced_count;
}

/* --- what a new policy changes --- */

/* "site.acl:14: allow read #"; NULL: no rule spoke. */
static const char *rule_text(const struct hlt_policy *policy, uint32_t rule, char *out,
                             size_t out_bytes)
{
    struct hlt_rule_ref ref;

    hlt_policy_rule(policy, rule, &ref);
    if (ref.line == 0) {
        return NULL;
    }
    (void)snprintf(out, out_bytes, "%s:%u: %s", ref.file, ref.line, ref.text);
    return out;
}

/* "client d1 may no longer write x/y (site.acl:14: deny write x/#)" */
static void keep_example(struct hlt_views *views, const struct client *client,
                         const struct hlt_recent_pair *pair, const struct hlt_decision *is)
{
    struct hlt_policy_change *change = &views->change;
    char line[512], rule[256];

    if (change->example_count == HLT_CHANGE_EXAMPLES) {
        return;
    }
    const char *by = rule_text(hlt_views_policy(views), is->rule, rule, sizeof(rule));
    (void)snprintf(line, sizeof(line), "client %.64s may %s %s %.128s (%s)",
                   client->session != NULL ? client->session->client_id : client->client_id,
                   is->verdict == HLT_ALLOW ? "now" : "no longer", hlt_access_word(pair->access),
                   pair->topic, by != NULL ? by : "no rule allows it");
    (void)hlt_printable(change->example[change->example_count++], sizeof(change->example[0]), line,
                        strlen(line));
}

/* A clean start holds no subscription of before, and who has left holds none unless the broker
 * keeps his session. */
static void release_before(struct client *client)
{
    const struct hlt_session *session = client->session;

    if (session == NULL) {
        return;
    }
    bool another = client->login != session->login;
    if ((another && !client->durable) || (!session->durable && (another || !session->online))) {
        hlt_recent_release_all(client->recent, &client->views->recents);
    }
    client->login = session->login;
    client->durable = session->durable;
}

/* Put the client's last questions to its view of before and to the one it gets. */
static void compare(struct hlt_views *views, struct client *client, const struct hlt_view *before,
                    const struct hlt_view *after, bool by_policy)
{
    const char *lost[HLT_RECENT_HELD_MAX];
    size_t lost_count = 0;
    struct hlt_recent_pair pair;
    bool changed = false;

    release_before(client);
    for (size_t i = 0; hlt_recent_at(client->recent, i, &pair); i++) {
        struct hlt_decision was, is;

        hlt_policy_decide(before, pair.access, pair.topic, &was);
        hlt_policy_decide(after, pair.access, pair.topic, &is);
        if ((was.verdict == HLT_ALLOW) == (is.verdict == HLT_ALLOW)) {
            continue;
        }
        if (by_policy && !changed) {
            keep_example(views, client, &pair, &is);
        }
        changed = true;
        if (pair.held && is.verdict != HLT_ALLOW && lost_count < HLT_RECENT_HELD_MAX) {
            lost[lost_count++] = pair.topic;
        }
    }
    if (by_policy) {
        views->change.clients++;
        views->change.changed += changed;
        views->change.lost += lost_count > 0;
    }
    if (lost_count > 0 && client->session != NULL) {
        hlt_engine_subscriptions_lost(views->plugin->engine, views->plugin->now, client->session,
                                      lost, lost_count);
    }
}

static struct hlt_subject subject_of(const struct client *client)
{
    const struct hlt_claims *claims = client->session != NULL ? client->session->claims : NULL;

    if (claims == NULL) {
        return (struct hlt_subject){.client_id = client->client_id, .user = client->user};
    }
    return (struct hlt_subject){
        .client_id = client->session->client_id,
        .user = claims->sub,
        .device_id = claims->sub,
        .claims = claims->json,
        .claims_len = claims->json_len,
    };
}

/* Bind the client to the policy in force. False without memory; it then has no view. */
static bool bind_active(struct hlt_views *views, struct client *client)
{
    struct hlt_subject subject = subject_of(client);
    struct hlt_view *view = hlt_policy_bind(hlt_views_policy(views), &subject);

    if (view == NULL) {
        unbind(&client->active);
        return false;
    }
    if (client->active.view != NULL) {
        compare(views, client, client->active.view, view,
                client->active.box != views->active.current);
    }
    attach(client, &client->active, views->active.current, view);
    return true;
}

/* True: the track is free of old policies. The oldest goes first, so that reloads in quick
 * succession pile up no more than the time it takes; when too many have, what they held is let go
 * without a comparison. */
static bool sweep_track(struct hlt_views *views, struct track *track, bool compared)
{
    unsigned freed = 0, bound_again = 0;

    while (track->replaced != NULL) {
        struct box **link = &track->replaced;
        while ((*link)->next != NULL) {
            link = &(*link)->next;
        }
        struct box *box = *link;
        while (box->views != NULL) {
            struct client *client = box->views->client;
            if (freed++ == SWEEP_VIEWS || bound_again == SWEEP_COMPARED) {
                return false;
            }
            if (compared && client->recent != NULL && track->replaced_count <= REPLACED_COMPARED) {
                bound_again++;
                (void)bind_active(views, client);
            } else {
                views->change.clients += compared;
                unbind(box->views);
            }
        }
        *link = NULL;
        track->replaced_count--;
        hlt_reload_discard(views->plugin->reload, box->policy); /* a large one takes milliseconds */
        free(box);
    }
    return true;
}

void hlt_views_sweep(struct hlt_views *views)
{
    struct hlt_counters *counters = hlt_engine_counters(views->plugin->engine);

    views->notes_left = NOTES_A_TICK;
    counters->recent_dropped = views->recents.dropped;
    (void)sweep_track(views, &views->shadow, false);
    if (sweep_track(views, &views->active, true) && views->reporting) {
        views->reporting = false;
        tell_change(views);
    }
}

static void client_clear(struct client *client)
{
    unbind(&client->active);
    unbind(&client->shadow);
    hlt_recent_free(client->recent, &client->views->recents);
    client->recent = NULL;
    client->asked_len = 0;
}

void hlt_views_free(struct hlt_views *views)
{
    if (views == NULL) {
        return;
    }
    for (size_t i = 0; i < OTHERS; i++) {
        if (views->other[i].key != NULL) {
            client_clear(&views->other[i].client);
            free(views->other[i].key);
        }
    }
    track_free(&views->active);
    track_free(&views->shadow);
    free(views);
}

/* --- deciding --- */

void hlt_views_drop(void *view)
{
    struct client *client = view;

    if (client != NULL) {
        client_clear(client);
        free(client);
    }
}

static void decide_deny(struct hlt_decision *out)
{
    *out = (struct hlt_decision){.verdict = HLT_DENY, .rule = UINT32_MAX, .bound_device = false};
}

/* What the shadow would have said; where it differs, the row that counts it. */
static void ask_shadow(struct hlt_views *views, struct client *client, enum hlt_access access,
                       const char *topic)
{
    struct hlt_shadow *counts = hlt_engine_shadow(views->plugin->engine);
    char who[WHO_BYTES], active_text[512], shadow_text[512];
    struct hlt_decision said;

    client->differed = false;
    if (client->shadow.box != views->shadow.current) {
        struct hlt_subject subject = subject_of(client);
        struct hlt_view *view = hlt_policy_bind(hlt_views_shadow(views), &subject);
        if (view == NULL) {
            unbind(&client->shadow);
            return;
        }
        attach(client, &client->shadow, views->shadow.current, view);
    }
    hlt_policy_decide(client->shadow.view, access, topic, &said);
    if ((said.verdict == HLT_ALLOW) == (client->said.verdict == HLT_ALLOW)) {
        return;
    }
    const char *name = client->session != NULL   ? client->session->claims->sub
                       : client->user[0] != '\0' ? client->user
                                                 : client->client_id;
    (void)hlt_printable(who, sizeof(who), name, strnlen(name, sizeof(who) - 1));
    struct hlt_shadow_case what = {.who = who,
                                   .access = hlt_access_word(access),
                                   .topic = topic,
                                   .allowed = client->said.verdict == HLT_ALLOW,
                                   .active_rule = client->said.rule,
                                   .shadow_rule = said.rule};
    client->differed = true;
    client->row = hlt_shadow_find(counts, &what);
    if (client->row == HLT_SHADOW_NONE) {
        what.active_text =
            rule_text(hlt_views_policy(views), client->said.rule, active_text, sizeof(active_text));
        what.shadow_text =
            rule_text(hlt_views_shadow(views), said.rule, shadow_text, sizeof(shadow_text));
        client->row = hlt_shadow_add(counts, &what, views->plugin->now.wall_ms);
    }
}

static void count_shadow(struct hlt_views *views, const struct client *client)
{
    struct hlt_shadow *counts = hlt_engine_shadow(views->plugin->engine);
    struct hlt_counters *counters = hlt_engine_counters(views->plugin->engine);
    bool allowed = client->said.verdict == HLT_ALLOW;

    if (!client->differed) {
        hlt_shadow_agree(counts);
        return;
    }
    *(allowed ? &counters->shadow_would_deny : &counters->shadow_would_allow) += 1;
    counters->shadow_rest += client->row == HLT_SHADOW_NONE;
    hlt_shadow_count(counts, client->row, allowed, views->plugin->now.wall_ms);
}

/* A subscription that was granted is held until it is given up. */
static void note(struct hlt_views *views, struct client *client, enum hlt_access access,
                 const char *topic)
{
    bool held = access == HLT_SUBSCRIBE && client->said.verdict == HLT_ALLOW;

    client->unseen = false;
    if (views->recents.bytes_max == 0) {
        return; /* switched off */
    }
    release_before(client);
    if (access == HLT_UNSUBSCRIBE) {
        hlt_recent_release(client->recent, &views->recents, topic);
    } else if (access == HLT_SUBSCRIBE || views->notes_left > 0) {
        views->notes_left -= views->notes_left > 0;
        hlt_recent_note(&client->recent, &views->recents, access, topic, strlen(topic), held);
    } else {
        client->unseen = true;
    }
}

/* The answer follows from views, access and topic alone, and goes when a view does. */
static void ask(struct hlt_views *views, struct client *client, enum hlt_access access,
                const char *topic, struct hlt_decision *out)
{
    size_t len = strnlen(topic, ASKED_BYTES);
    bool same = len > 0 && len == client->asked_len && access == client->asked_access &&
                (views->shadow.current == NULL || client->shadow.box == views->shadow.current) &&
                memcmp(topic, client->asked, len) == 0;

    if (!same) {
        client->asked_len = 0;
        hlt_policy_decide(client->active.view, access, topic, &client->said);
        if (views->shadow.current != NULL) {
            ask_shadow(views, client, access, topic);
        }
        note(views, client, access, topic);
        if (len < ASKED_BYTES) {
            memcpy(client->asked, topic, len);
            client->asked_len = (uint8_t)len;
            client->asked_access = (uint8_t)access;
        }
    } else if (client->unseen && views->notes_left > 0) {
        note(views, client, access, topic);
    }
    if (views->shadow.current != NULL) {
        count_shadow(views, client);
    }
    *out = client->said;
}

void hlt_views_decide_session(struct hlt_views *views, struct hlt_session *session,
                              enum hlt_access access, const char *topic, struct hlt_decision *out)
{
    struct client *client = session->view;

    if (client == NULL) {
        client = calloc(1, sizeof(*client));
        if (client == NULL) {
            decide_deny(out);
            return;
        }
        client->views = views;
        client->session = session;
        client->login = session->login;
        client->durable = session->durable;
        session->view = client;
    }
    if (session->rebind || client->active.box != views->active.current) {
        if (!bind_active(views, client)) {
            decide_deny(out);
            return;
        }
        unbind(&client->shadow); /* of the old claims */
        session->rebind = false;
    }
    ask(views, client, access, topic, out);
}

void hlt_views_not_held(struct hlt_views *views, struct hlt_session *session, const char *filter)
{
    struct client *client = session->view;

    if (client != NULL) {
        hlt_recent_release(client->recent, &views->recents, filter);
        client->asked_len = 0; /* it is held if it is granted the next time */
    }
}

/* The cache's client, bound to the policy in force. NULL: too long to keep, or no memory. */
static struct client *other_client(struct hlt_views *views, const struct hlt_subject *subject)
{
    char key[OTHERS_KEY_MAX + 2];
    size_t id_len = strlen(subject->client_id);
    size_t user_len = strlen(subject->user);

    if (id_len + user_len > OTHERS_KEY_MAX) {
        return NULL;
    }
    memcpy(key, subject->client_id, id_len + 1);
    memcpy(key + id_len + 1, subject->user, user_len + 1);
    size_t len = id_len + user_len + 2;
    struct other *other = &views->other[hlt_hash(&views->key, key, len) & (OTHERS - 1)];
    struct client *client = &other->client;
    bool same = other->key != NULL && other->key_len == len && memcmp(other->key, key, len) == 0;
    if (!same) {
        char *copy = malloc(len);
        if (copy == NULL) {
            return NULL;
        }
        memcpy(copy, key, len);
        if (other->key != NULL) {
            client_clear(client);
            free(other->key);
        }
        client->views = views;
        other->key = copy;
        other->key_len = len;
        client->client_id = copy;
        client->user = copy + id_len + 1;
    }
    return client->active.box == views->active.current || bind_active(views, client) ? client
                                                                                     : NULL;
}

const struct hlt_view *hlt_views_view(const struct hlt_session *session)
{
    const struct client *client = session->view;

    return client != NULL ? client->active.view : NULL;
}

const char *hlt_views_limit_other(struct hlt_views *views, const char *client_id, const char *user,
                                  const char *topic, size_t payload_bytes, int qos, bool retain)
{
    struct hlt_subject subject = {.client_id = client_id, .user = user != NULL ? user : ""};
    const struct client *client;
    const char *why = "memory";

    if (hlt_policy_limit_count(hlt_views_policy(views)) == 0) {
        return NULL;
    }
    client = other_client(views, &subject);
    if (client != NULL) {
        return hlt_limit_message(client->active.view, topic, payload_bytes, qos, retain);
    }
    struct hlt_view *once = hlt_policy_bind(hlt_views_policy(views), &subject);
    if (once != NULL) {
        why = hlt_limit_message(once, topic, payload_bytes, qos, retain);
        hlt_view_free(once);
    }
    return why;
}

void hlt_views_decide_other(struct hlt_views *views, const char *client_id, const char *user,
                            enum hlt_access access, const char *topic, struct hlt_decision *out)
{
    struct hlt_subject subject = {.client_id = client_id, .user = user != NULL ? user : ""};
    struct client *client = other_client(views, &subject);

    if (client != NULL) {
        ask(views, client, access, topic, out);
        return;
    }
    struct hlt_view *once = hlt_policy_bind(hlt_views_policy(views), &subject);
    if (once == NULL) {
        decide_deny(out);
        return;
    }
    hlt_policy_decide(once, access, topic, out);
    hlt_view_free(once);
}
