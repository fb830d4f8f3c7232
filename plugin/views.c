/* views.c - the policy in force, the ones it replaced, and who is bound to which.
 *
 * A reload must not stop the broker while 100,000 sessions are bound again: a view is bound when
 * its client next asks, and what is left of an old policy is freed in slices on the ticks. */
#include <stdlib.h>
#include <string.h>

#include "../acl/limit.h"
#include "../shared/hash.h"
#include "plugin.h"

#define OTHERS 1024u        /* cached views of other logins, a power of two */
#define OTHERS_KEY_MAX 512u /* longer client id and user name together: bound for each question */
#define SWEEP_VIEWS 500u    /* views freed a tick: well under a millisecond */

#define ASKED_BYTES 64u /* longer topics are decided each time */

/* A policy and the views bound to it. */
struct box {
    struct hlt_policy *policy;
    uint64_t generation;
    struct bound *views;
    struct box *next; /* older, replaced ones */
};

/* A view in its box's list. A session's `view` points here, even after the view itself was swept.
 */
struct bound {
    struct hlt_view *view;
    struct box *box;
    struct bound *prev, *next;
    /* The last question and its answer: a device asks the same one for each of its messages. */
    struct hlt_decision said;
    uint8_t asked_access;
    uint8_t asked_len; /* 0: nothing yet */
    char asked[ASKED_BYTES];
};

struct other {
    char *key; /* client id, NUL, user name, NUL */
    size_t key_len;
    struct bound bound;
};

struct hlt_views {
    struct box *current;
    struct box *replaced;
    uint64_t generation;
    struct hlt_hash_key key;
    struct other other[OTHERS];
};

/* --- boxes --- */

static struct box *box_new(struct hlt_policy *policy, uint64_t generation)
{
    struct box *box = calloc(1, sizeof(*box));

    if (box == NULL) {
        hlt_policy_free(policy);
        return NULL;
    }
    box->policy = policy;
    box->generation = generation;
    return box;
}

static void unbind(struct bound *bound)
{
    if (bound->view == NULL) {
        return;
    }
    hlt_view_free(bound->view);
    bound->view = NULL;
    bound->asked_len = 0;
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

static bool bind(struct bound *bound, struct box *box, const struct hlt_subject *subject)
{
    unbind(bound);
    bound->view = hlt_policy_bind(box->policy, subject);
    if (bound->view == NULL) {
        return false;
    }
    bound->box = box;
    bound->prev = NULL;
    bound->next = box->views;
    if (box->views != NULL) {
        box->views->prev = bound;
    }
    box->views = bound;
    return true;
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

/* --- the policy in force --- */

struct hlt_views *hlt_views_new(struct hlt_policy *policy)
{
    struct hlt_views *views = calloc(1, sizeof(*views));

    if (views == NULL || hlt_hash_key_init(&views->key) != 0) {
        hlt_policy_free(policy);
        free(views);
        return NULL;
    }
    views->generation = 1; /* 0 is "never bound" in a session */
    views->current = box_new(policy, views->generation);
    if (views->current == NULL) {
        free(views);
        return NULL;
    }
    return views;
}

bool hlt_views_swap(struct hlt_views *views, struct hlt_policy *policy)
{
    struct box *box = box_new(policy, views->generation + 1);

    if (box == NULL) {
        return false;
    }
    views->generation++;
    views->current->next = views->replaced;
    views->replaced = views->current;
    views->current = box;
    return true;
}

void hlt_views_sweep(struct hlt_views *views)
{
    unsigned freed = 0;

    while (views->replaced != NULL) {
        struct box *box = views->replaced;
        while (box->views != NULL) {
            if (freed++ == SWEEP_VIEWS) {
                return;
            }
            unbind(box->views);
        }
        views->replaced = box->next;
        box_free(box);
    }
}

void hlt_views_free(struct hlt_views *views)
{
    if (views == NULL) {
        return;
    }
    while (views->replaced != NULL) {
        struct box *box = views->replaced;
        views->replaced = box->next;
        box_free(box);
    }
    box_free(views->current);
    for (size_t i = 0; i < OTHERS; i++) {
        free(views->other[i].key);
    }
    free(views);
}

const struct hlt_policy *hlt_views_policy(const struct hlt_views *views)
{
    return views->current->policy;
}

/* --- deciding --- */

void hlt_views_drop(void *view)
{
    struct bound *bound = view;

    if (bound != NULL) {
        unbind(bound);
        free(bound);
    }
}

static void decide_deny(struct hlt_decision *out)
{
    *out = (struct hlt_decision){.verdict = HLT_DENY, .rule = UINT32_MAX, .bound_device = false};
}

/* The answer follows from view, access and topic alone, and goes when the view does. */
static void decide_bound(struct bound *bound, enum hlt_access access, const char *topic,
                         struct hlt_decision *out)
{
    size_t len = strnlen(topic, ASKED_BYTES);

    if (len > 0 && len == bound->asked_len && access == bound->asked_access &&
        memcmp(topic, bound->asked, len) == 0) {
        *out = bound->said;
        return;
    }
    hlt_policy_decide(bound->view, access, topic, out);
    if (len < ASKED_BYTES) {
        memcpy(bound->asked, topic, len);
        bound->asked_len = (uint8_t)len;
        bound->asked_access = (uint8_t)access;
        bound->said = *out;
    }
}

static bool bind_session(struct hlt_views *views, struct hlt_session *session)
{
    const struct hlt_claims *claims = session->claims;
    struct hlt_subject subject = {
        .client_id = session->client_id,
        .user = claims->sub,
        .device_id = claims->sub,
        .claims = claims->json,
        .claims_len = claims->json_len,
    };

    if (session->view == NULL) {
        session->view = calloc(1, sizeof(struct bound));
        if (session->view == NULL) {
            return false;
        }
    }
    if (!bind(session->view, views->current, &subject)) {
        return false;
    }
    session->view_generation = views->generation;
    return true;
}

void hlt_views_decide_session(struct hlt_views *views, struct hlt_session *session,
                              enum hlt_access access, const char *topic, struct hlt_decision *out)
{
    if ((session->view == NULL || session->view_generation != views->generation) &&
        !bind_session(views, session)) {
        session->view_generation = 0;
        decide_deny(out);
        return;
    }
    decide_bound(session->view, access, topic, out);
}

/* The cache's slot for this client, bound to the policy in force. NULL: too long to keep, or no
 * memory. */
static struct bound *other_bound(struct hlt_views *views, const struct hlt_subject *subject)
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
    bool same = other->key != NULL && other->key_len == len && memcmp(other->key, key, len) == 0;
    if (same && other->bound.box == views->current) {
        return &other->bound;
    }
    if (!same) {
        char *copy = malloc(len);
        if (copy == NULL) {
            return NULL;
        }
        memcpy(copy, key, len);
        unbind(&other->bound);
        free(other->key);
        other->key = copy;
        other->key_len = len;
    }
    return bind(&other->bound, views->current, subject) ? &other->bound : NULL;
}

const struct hlt_view *hlt_views_view(const struct hlt_session *session)
{
    const struct bound *bound = session->view;

    return bound != NULL ? bound->view : NULL;
}

const char *hlt_views_limit_other(struct hlt_views *views, const char *client_id, const char *user,
                                  const char *topic, size_t payload_bytes, int qos, bool retain)
{
    struct hlt_subject subject = {.client_id = client_id, .user = user != NULL ? user : ""};
    const struct bound *bound;
    const char *why = "memory";

    if (hlt_policy_limit_count(views->current->policy) == 0) {
        return NULL;
    }
    bound = other_bound(views, &subject);
    if (bound != NULL) {
        return hlt_limit_message(bound->view, topic, payload_bytes, qos, retain);
    }
    struct hlt_view *once = hlt_policy_bind(views->current->policy, &subject);
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
    const struct bound *bound = other_bound(views, &subject);

    if (bound != NULL) {
        hlt_policy_decide(bound->view, access, topic, out);
        return;
    }
    struct hlt_view *once = hlt_policy_bind(views->current->policy, &subject);
    if (once == NULL) {
        decide_deny(out);
        return;
    }
    hlt_policy_decide(once, access, topic, out);
    hlt_view_free(once);
}
