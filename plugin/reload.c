/* reload.c - keys, policy and rules are read again on a thread of their own and put into force on a
 * tick.
 *
 * The thread asks for the files' stamps every second and is woken by SIGHUP. It touches neither the
 * broker nor the engine: what it made waits behind one atomic pointer until the broker's thread
 * takes it. A file that does not load leaves what is in force untouched. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../acl/keep.h"
#include "../acl/sources.h"
#include "../shared/file.h"
#include "plugin.h"

#define DISCARDED_MAX 8 /* old policies waiting for the thread; more are freed where they are */
#define LOOK_MS 1000    /* a changed file is noticed within this time */
#define SETTLE_MS 250   /* and read when it has been the same for so long */
#define FILES_MAX (HLT_KEY_SOURCES_MAX + 1) /* and the rules; the policies have their sources */

enum part { PART_KEYS, PART_POLICY, PART_SHADOW, PART_RULES, PARTS };

static const struct {
    const char *name, *alert;
    enum hlt_audit_type audit;
} parts[PARTS] = {
    {"keys", "keys_reload_failed", HLT_AUDIT_KEYS},
    {"policy", "policy_reload_failed", HLT_AUDIT_POLICY},
    {"shadow policy", "shadow_reload_failed", HLT_AUDIT_POLICY},
    {"rules", "rules_reload_failed", HLT_AUDIT_RULES},
};

struct result {
    bool asked; /* by SIGHUP or command, not because a file changed */
    bool tried[PARTS], good[PARTS];
    struct hlt_problems problems[PARTS];
    struct hlt_keyset *keys;
    struct hlt_policy *policy, *shadow;
    struct hlt_rules *rules;
};

struct watched {
    const char *path;
    enum part part;
    struct hlt_file_stamp stamp, latest; /* as it was read last; as it was looked at last */
};

struct hlt_reload {
    const struct hlt_options *options;
    struct watched file[FILES_MAX];
    size_t file_count;
    struct hlt_policy_sources policy, shadow; /* of the last reading, good or bad */
    uint8_t latest[2][16];                    /* how these looked last */
    bool settling;                            /* a change was seen: look again soon */
    pthread_t thread;
    bool running;
    int wake; /* eventfd */
    atomic_bool stop, asked;
    _Atomic(struct hlt_policy *) discarded[DISCARDED_MAX]; /* set by the broker's, freed by this */
    _Atomic(struct result *) result; /* written by the thread when NULL, taken by the broker's */
};

/* --- the thread --- */

static bool stamps_differ(const struct hlt_file_stamp *left, const struct hlt_file_stamp *right)
{
    return left->exists != right->exists || left->device != right->device ||
           left->inode != right->inode || left->size != right->size ||
           left->mtime_ns != right->mtime_ns || left->ctime_ns != right->ctime_ns;
}

/* A copy that cannot be made is no reason to go on with the old policy. If a file has changed since
 * it was read, what it says now is read next. */
static void keep_policy(const struct hlt_options *options, const struct hlt_policy *policy,
                        struct hlt_problems *problems)
{
    struct hlt_err err = {.msg = ""};
    enum hlt_rc rc = hlt_reload_keep(options, policy, &err);

    if (rc != HLT_OK && rc != HLT_EBUSY) {
        hlt_problems_add(problems, HLT_PROBLEM_WARNING, options->acl_file, 0, 0,
                         "no copy of this policy is kept for acl_fallback: %s", err.msg);
    }
}

static void load_part(struct hlt_reload *reload, struct result *result, enum part part)
{
    const struct hlt_options *options = reload->options;
    struct hlt_problems *problems = &result->problems[part];
    struct hlt_policy_reading how = {.compat = hlt_plugin_compat(options),
                                     .sources =
                                         part == PART_SHADOW ? &reload->shadow : &reload->policy};
    enum hlt_rc rc = HLT_OK;

    switch (part) {
    case PART_KEYS:
        rc = hlt_keyset_load(&result->keys, options->keys, options->key_count, problems);
        break;
    case PART_POLICY:
        rc = hlt_policy_load(&result->policy, options->acl_file, &how, problems);
        if (rc == HLT_OK) {
            keep_policy(options, result->policy, problems);
        }
        break;
    case PART_SHADOW:
        if (options->acl_shadow_file == NULL) {
            return;
        }
        rc = hlt_policy_load(&result->shadow, options->acl_shadow_file, &how, problems);
        break;
    case PART_RULES:
        if (options->rules_file == NULL) {
            return; /* the built-in rules do not change */
        }
        rc = hlt_rules_load(&result->rules, options->rules_file, problems);
        break;
    case PARTS: return;
    }
    result->tried[part] = true;
    result->good[part] = rc == HLT_OK;
}

static void result_free(struct result *result)
{
    if (result == NULL) {
        return;
    }
    for (int part = 0; part < PARTS; part++) {
        hlt_problems_free(&result->problems[part]);
    }
    hlt_keyset_free(result->keys);
    hlt_policy_free(result->policy);
    hlt_policy_free(result->shadow);
    hlt_rules_free(result->rules);
    free(result);
}

/* Which parts differ from what was read last. True: something has changed since the last look, so
 * it may still be on its way. */
static bool look_at_files(struct hlt_reload *reload, bool changed[PARTS])
{
    struct hlt_policy_sources *const sources[] = {&reload->policy, &reload->shadow};
    static const enum part part_of[] = {PART_POLICY, PART_SHADOW};
    bool moving = false;

    for (size_t i = 0; i < reload->file_count; i++) {
        struct watched *file = &reload->file[i];
        struct hlt_file_stamp now;

        hlt_file_stamp(file->path, &now);
        moving = moving || stamps_differ(&now, &file->latest);
        file->latest = now;
        changed[file->part] = changed[file->part] || stamps_differ(&now, &file->stamp);
    }
    for (size_t i = 0; i < 2; i++) {
        uint8_t now[sizeof(reload->latest[i])];

        changed[part_of[i]] = hlt_policy_sources_changed(sources[i], now);
        moving = moving || memcmp(now, reload->latest[i], sizeof(now)) != 0;
        memcpy(reload->latest[i], now, sizeof(now));
    }
    return moving;
}

/* Look at the files, read what changed (all, if asked), hand it over. Who writes a file in place
 * may be half-way through it, and half a policy may allow what the other half denies: a change is
 * read once a second look finds it the same. */
static void look(struct hlt_reload *reload)
{
    bool wanted[PARTS] = {false};
    bool any = false;

    if (atomic_load(&reload->result) != NULL) {
        return; /* the last one still waits for a tick: nothing is lost, stamps and request stay */
    }
    bool asked = atomic_exchange(&reload->asked, false);
    bool moving = look_at_files(reload, wanted);
    for (int part = 0; part < PARTS; part++) {
        wanted[part] = wanted[part] || asked;
        any = any || wanted[part];
    }
    reload->settling = any && moving && !asked;
    struct result *result = any && !reload->settling ? calloc(1, sizeof(*result)) : NULL;
    if (result == NULL) {
        return;
    }
    result->asked = asked;
    /* Stamped before they are read: an edit in between is seen the next time. */
    for (size_t i = 0; i < reload->file_count; i++) {
        reload->file[i].stamp = reload->file[i].latest;
    }
    for (int part = 0; part < PARTS; part++) {
        if (wanted[part]) {
            load_part(reload, result, (enum part)part);
        }
    }
    atomic_store(&reload->result, result);
}

static void free_discarded(struct hlt_reload *reload)
{
    for (size_t i = 0; i < DISCARDED_MAX; i++) {
        hlt_policy_free(atomic_exchange(&reload->discarded[i], NULL));
    }
}

static void *run(void *context)
{
    struct hlt_reload *reload = context;
    struct pollfd wake = {.fd = reload->wake, .events = POLLIN};
    uint64_t count;

    while (!atomic_load(&reload->stop)) {
        if (poll(&wake, 1, reload->settling ? SETTLE_MS : LOOK_MS) > 0) {
            (void)!read(reload->wake, &count, sizeof(count));
        }
        free_discarded(reload);
        if (!atomic_load(&reload->stop)) {
            look(reload);
        }
    }
    return NULL;
}

/* --- the broker's side --- */

const char *hlt_reload_keep_folder(const struct hlt_options *options, char *out, size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "%s/%s", options->db_path, HLT_KEEP_FOLDER);
    return out;
}

enum hlt_rc hlt_reload_keep(const struct hlt_options *options, const struct hlt_policy *policy,
                            struct hlt_err *err)
{
    char folder[PATH_MAX];

    return hlt_policy_keep(policy, hlt_reload_keep_folder(options, folder, sizeof(folder)), err);
}

static void watch(struct hlt_reload *reload, const char *path, enum part part)
{
    struct watched *file = &reload->file[reload->file_count];

    if (path == NULL || reload->file_count == FILES_MAX) {
        return;
    }
    file->path = path;
    file->part = part;
    hlt_file_stamp(path, &file->stamp);
    file->latest = file->stamp;
    reload->file_count++;
}

struct hlt_reload *hlt_reload_new(const struct hlt_options *options)
{
    struct hlt_reload *reload = calloc(1, sizeof(*reload));

    if (reload == NULL) {
        return NULL;
    }
    reload->options = options;
    reload->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (reload->wake < 0) {
        free(reload);
        return NULL;
    }
    for (size_t i = 0; i < options->key_count; i++) {
        watch(reload, options->keys[i].path, PART_KEYS);
    }
    watch(reload, options->rules_file, PART_RULES);
    return reload;
}

struct hlt_policy_sources *hlt_reload_sources(struct hlt_reload *reload, bool shadow)
{
    return shadow ? &reload->shadow : &reload->policy;
}

bool hlt_reload_start(struct hlt_reload *reload)
{
    sigset_t all;
    sigset_t before;

    /* The broker's signals are handled on the broker's thread. */
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    reload->running = pthread_create(&reload->thread, NULL, run, reload) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return reload->running;
}

static void wake(struct hlt_reload *reload)
{
    const uint64_t one = 1;

    (void)!write(reload->wake, &one, sizeof(one)); /* full means it is awake already */
}

void hlt_reload_request(struct hlt_reload *reload)
{
    atomic_store(&reload->asked, true);
    wake(reload);
}

void hlt_reload_discard(struct hlt_reload *reload, struct hlt_policy *policy)
{
    for (size_t i = 0; policy != NULL && i < DISCARDED_MAX; i++) {
        struct hlt_policy *none = NULL;

        if (atomic_compare_exchange_strong(&reload->discarded[i], &none, policy)) {
            return; /* it looks every second */
        }
    }
    hlt_policy_free(policy);
}

void hlt_reload_free(struct hlt_reload *reload)
{
    if (reload == NULL) {
        return;
    }
    if (reload->running) {
        atomic_store(&reload->stop, true);
        wake(reload);
        (void)pthread_join(reload->thread, NULL);
    }
    free_discarded(reload);
    result_free(atomic_load(&reload->result));
    hlt_policy_sources_free(&reload->policy);
    hlt_policy_sources_free(&reload->shadow);
    (void)close(reload->wake);
    free(reload);
}

void hlt_reload_note(struct plugin *self)
{
    char count[24];

    (void)snprintf(count, sizeof(count), "%zu", hlt_keyset_count(self->keys));
    hlt_engine_note(self->engine, "policy", hlt_policy_digest(hlt_views_policy(self->views)));
    if (hlt_views_shadow(self->views) != NULL) {
        hlt_engine_note(self->engine, "shadowPolicy",
                        hlt_policy_digest(hlt_views_shadow(self->views)));
    }
    hlt_engine_note(self->engine, "rules", hlt_engine_rules(self->engine)->digest);
    hlt_engine_note(self->engine, "keys", count);
}

static bool put_into_force(struct plugin *self, struct hlt_now now, struct result *result,
                           enum part part)
{
    bool done = true;

    switch (part) {
    case PART_KEYS:
        hlt_keyset_free(self->keys);
        self->keys = result->keys;
        result->keys = NULL;
        hlt_tokencache_clear(self->tokens); /* whoever signed them may be gone */
        break;
    case PART_POLICY:
        if (strcmp(hlt_policy_digest(result->policy),
                   hlt_policy_digest(hlt_views_policy(self->views))) != 0) {
            done = hlt_views_swap(self->views, result->policy);
            result->policy = NULL;
        }
        break;
    case PART_SHADOW:
        if (strcmp(hlt_policy_digest(result->shadow),
                   hlt_policy_digest(hlt_views_shadow(self->views))) != 0) {
            done = hlt_views_swap_shadow(self->views, result->shadow);
            result->shadow = NULL;
        }
        break;
    case PART_RULES:
        hlt_engine_set_rules(self->engine, result->rules, now);
        result->rules = NULL;
        break;
    case PARTS: break;
    }
    if (part == PART_POLICY || part == PART_SHADOW) {
        hlt_views_compare(self->views, now);
    }
    return done;
}

/* What is in force now, for the audit: a digest, or how many keys and the first of their names. */
static void describe_part(const struct plugin *self, enum part part, char *out, size_t out_bytes)
{
    size_t count = hlt_keyset_count(self->keys);
    size_t len;

    if (part != PART_KEYS) {
        const char *digest = part == PART_RULES ? hlt_engine_rules(self->engine)->digest
                             : part == PART_SHADOW
                                 ? hlt_policy_digest(hlt_views_shadow(self->views))
                                 : hlt_policy_digest(hlt_views_policy(self->views));
        (void)snprintf(out, out_bytes, "%s", digest);
        return;
    }
    (void)snprintf(out, out_bytes, "%zu keys:", count);
    len = strlen(out);
    for (size_t i = 0; i < count && len + 1 < out_bytes; i++) {
        struct hlt_key_info info;
        hlt_keyset_info(self->keys, i, &info);
        (void)snprintf(out + len, out_bytes - len, " %s/%s", info.alg, info.kid);
        len = strlen(out);
    }
}

static void audit_part(struct plugin *self, struct hlt_now now, enum part part, const char *problem)
{
    char text[256];

    describe_part(self, part, text, sizeof(text));
    hlt_engine_audit(self->engine, now,
                     &(struct hlt_audit_event){.type = parts[part].audit,
                                               .subject = parts[part].name,
                                               .reason = problem == NULL ? "in_force" : "refused",
                                               .detail = problem != NULL ? problem : text});
}

static void pick_up_part(struct plugin *self, struct hlt_now now, struct result *result,
                         enum part part)
{
    struct hlt_counters *counters = hlt_engine_counters(self->engine);
    char text[512];

    hlt_say_problems(self->options.log_level, &result->problems[part]);
    if (result->good[part] && put_into_force(self, now, result, part)) {
        counters->reloads++;
        hlt_engine_system(self->engine, now, parts[part].alert, NULL);
        audit_part(self, now, part, NULL);
        hlt_say(self->options.log_level, HLT_LOG_NOTICE, "%s read again: in force",
                parts[part].name);
        return;
    }
    counters->reloads_failed++;
    hlt_problems_first(&result->problems[part], 0, text, sizeof(text));
    hlt_engine_system(self->engine, now, parts[part].alert, text);
    audit_part(self, now, part, text);
    hlt_say(self->options.log_level, HLT_LOG_ERR,
            "the %s could not be read again: the old %s %s in force until the above is mended",
            parts[part].name, parts[part].name,
            part == PART_POLICY || part == PART_SHADOW ? "stays" : "stay");
}

void hlt_reload_pick_up(struct plugin *self, struct hlt_now now)
{
    if (atomic_load_explicit(&self->reload->result, memory_order_relaxed) == NULL) {
        return;
    }
    struct result *result = atomic_exchange(&self->reload->result, NULL);
    for (int part = 0; part < PARTS; part++) {
        if (result->tried[part]) {
            pick_up_part(self, now, result, (enum part)part);
        }
    }
    /* Read again and found the same: let the thread free it, a large one takes milliseconds. */
    hlt_reload_discard(self->reload, result->policy);
    hlt_reload_discard(self->reload, result->shadow);
    result->policy = result->shadow = NULL;
    result_free(result);
    hlt_reload_note(self);
    wake(self->reload); /* a request may have come while this one waited */
}

void hlt_reload_tell_change(struct plugin *self, const struct hlt_policy_change *change)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "%llu of %llu clients change, subscriptions lost by %llu",
                   (unsigned long long)change->changed, (unsigned long long)change->clients,
                   (unsigned long long)change->lost);
    hlt_engine_note(self->engine, "policyChange", text);
    hlt_engine_audit(self->engine, self->now,
                     &(struct hlt_audit_event){.type = HLT_AUDIT_POLICY,
                                               .subject = parts[PART_POLICY].name,
                                               .reason = "compared",
                                               .detail = text});
    hlt_say(self->options.log_level, HLT_LOG_NOTICE, "policy %s: %s%s",
            hlt_policy_digest(hlt_views_policy(self->views)), text,
            change->changed > change->example_count ? ", such as:"
            : change->changed > 0                   ? ":"
                                                    : "");
    for (unsigned i = 0; i < change->example_count; i++) {
        hlt_say(self->options.log_level, HLT_LOG_NOTICE, "policy change: %s", change->example[i]);
    }
}

/* SIGHUP. Any error here would end a 2.1 broker, or leave a 2.0 one without its own access control;
 * on 2.0 anything but DEFER keeps the event from later plugins (facts: 0.6). */
int hlt_on_reload(int event, void *event_data, void *userdata)
{
    struct plugin *self = userdata;

    (void)event;
    (void)event_data;
    self->asking_again = true;
    self->asked_mono_ms = hlt_plugin_now().mono_ms;
    hlt_say(self->options.log_level, HLT_LOG_NOTICE,
            "reading keys, policy and rules again; changed plugin_opt lines need a restart");
    hlt_reload_request(self->reload);
    return hlt_broker_is_2_1() ? MOSQ_ERR_SUCCESS : MOSQ_ERR_PLUGIN_DEFER;
}
