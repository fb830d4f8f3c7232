/* plugin.c - where Mosquitto enters Haltere. Start reading here.
 *
 *   init     options -> keys, policy, rules -> store -> engine -> hooks
 *   hooks    hook_auth.c     who is it?                  BASIC_AUTH, EXT_AUTH_START
 *            hook_acl.c      may it?                     ACL_CHECK
 *            hook_message.c  what does it say?           MESSAGE
 *            hook_tick.c     what is due, who has gone?  TICK, DISCONNECT, CLIENT_OFFLINE, CONNECT
 *            control.c       commands                    CONTROL
 *            reload.c        files read again            RELOAD
 *   act.c    publishes, kicks and logs what the engine asks for
 *   cleanup  the same in reverse
 *
 * All of it runs on the broker's one thread: a hook that waits stops every client. */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../acl/keep.h"
#include "../shared/text.h"
#include "plugin.h"
#include "version.h"

#define PLUGIN_API 5
#define LOG_LEVEL_UNKNOWN HLT_LOG_INFO /* until the options are read */

static const struct {
    int event;
    MOSQ_FUNC_generic_callback callback;
    const char *topic; /* CONTROL: which */
} hooks[] = {
    {MOSQ_EVT_RELOAD, hlt_on_reload, NULL},
    {MOSQ_EVT_BASIC_AUTH, hlt_on_basic_auth, NULL},
    {MOSQ_EVT_EXT_AUTH_START, hlt_on_ext_auth_start, NULL},
    {MOSQ_EVT_ACL_CHECK, hlt_on_acl_check, NULL},
    {MOSQ_EVT_MESSAGE, hlt_on_message, NULL},
    {MOSQ_EVT_CONTROL, hlt_on_control, HLT_CONTROL_TOPIC},
    {MOSQ_EVT_TICK, hlt_on_tick, NULL},
    {MOSQ_EVT_DISCONNECT, hlt_on_disconnect, NULL},
    {HLT_EVENT_CLIENT_OFFLINE, hlt_on_disconnect, NULL}, /* the same event data */
    {HLT_EVENT_CONNECT, hlt_on_connect, NULL},
};
#define HOOKS (sizeof(hooks) / sizeof(hooks[0]))

/* --- init, in the order of its calls --- */

/* The options as the broker hands them over: names without "plugin_opt_". */
static bool read_options(struct plugin *self, const struct mosquitto_opt *opts, int count)
{
    struct hlt_problems problems = {.count = 0};
    size_t len = count > 0 ? (size_t)count : 0;
    const char **names = calloc(len + 1, sizeof(char *));
    const char **values = calloc(len + 1, sizeof(char *));
    bool good = false;

    if (names == NULL || values == NULL) {
        hlt_say(LOG_LEVEL_UNKNOWN, HLT_LOG_ERR, "not enough memory");
        goto done;
    }
    for (size_t i = 0; i < len; i++) {
        names[i] = opts[i].key;
        values[i] = opts[i].value;
    }
    good = hlt_options_parse(&self->options, names, values, len, NULL, NULL, &problems) == HLT_OK;
    hlt_say_problems(good ? self->options.log_level : LOG_LEVEL_UNKNOWN, &problems);
done:
    hlt_problems_free(&problems);
    free(names);
    free(values);
    return good;
}

static void set_token_rules(struct plugin *self)
{
    const struct hlt_options *options = &self->options;

    self->token_rules = (struct hlt_token_rules){
        .issuers = (const char *const *)options->issuer,
        .issuer_count = options->issuer_count,
        .audiences = (const char *const *)options->audience,
        .audience_count = options->audience_count,
        .leeway_s = options->leeway_s,
        .max_lifetime_s = options->max_token_lifetime_s,
        .max_bytes = options->max_token_bytes,
        .require_exp = options->require_exp,
        .require_iss = options->require_iss,
        .require_aud = options->require_aud,
    };
}

/* The policy of acl_file; if that is broken and acl_fallback says so, the last good one. */
static struct hlt_policy *read_policy(struct plugin *self, struct hlt_problems *problems)
{
    const struct hlt_options *options = &self->options;
    struct hlt_policy_reading how = {.compat = hlt_plugin_compat(options),
                                     .sources = hlt_reload_sources(self->reload, false)};
    struct hlt_policy *policy = NULL;
    char folder[PATH_MAX], date[HLT_DATE_BYTES], text[512];
    size_t before = problems->count;
    int64_t kept_ms = 0;

    if (hlt_policy_load(&policy, options->acl_file, &how, problems) == HLT_OK ||
        !options->acl_fallback_last_good) {
        return policy;
    }
    hlt_problems_first(problems, before, text, sizeof(text));
    how.sources = NULL; /* acl_file is what is watched */
    if (hlt_policy_load_kept(&policy, hlt_reload_keep_folder(options, folder, sizeof(folder)),
                             &kept_ms, &how, problems) != HLT_OK) {
        return NULL;
    }
    self->fell_back = strdup(text);
    hlt_date_format(kept_ms, date);
    hlt_problems_add(problems, HLT_PROBLEM_WARNING, options->acl_file, 0, 0,
                     "acl_fallback last_good: policy %s, kept on %s, is in force instead. Mend the "
                     "above: the file is read again without a restart",
                     hlt_policy_digest(policy), date);
    return policy;
}

/* The policy of acl_shadow_file, if there is one. */
static bool read_shadow(struct plugin *self, struct hlt_problems *problems)
{
    const struct hlt_options *options = &self->options;
    struct hlt_policy_reading how = {.compat = hlt_plugin_compat(options),
                                     .sources = hlt_reload_sources(self->reload, true)};
    struct hlt_policy *policy = NULL;

    if (options->acl_shadow_file == NULL) {
        return true;
    }
    if (hlt_policy_load(&policy, options->acl_shadow_file, &how, problems) != HLT_OK) {
        return false;
    }
    if (self->views == NULL) { /* the policy in force is broken: told already */
        hlt_policy_free(policy);
        return true;
    }
    return hlt_views_swap_shadow(self->views, policy);
}

/* Keys, policy and rules: all are read before the first mistake stops the broker. */
static bool read_files(struct plugin *self, struct hlt_rules **rules)
{
    const struct hlt_options *options = &self->options;
    struct hlt_problems problems = {.count = 0};
    struct hlt_policy *policy = NULL;
    bool good = true;

    if (hlt_keyset_load(&self->keys, options->keys, options->key_count, &problems) != HLT_OK) {
        good = false;
    }
    policy = read_policy(self, &problems);
    if (policy == NULL) {
        good = false;
    } else {
        self->views = hlt_views_new(self, policy);
        good = good && self->views != NULL;
    }
    good = read_shadow(self, &problems) && good;
    enum hlt_rc rc = options->rules_file != NULL
                         ? hlt_rules_load(rules, options->rules_file, &problems)
                         : hlt_rules_builtin(rules);
    good = good && rc == HLT_OK;
    hlt_say_problems(options->log_level, &problems);
    hlt_problems_free(&problems);
    return good;
}

/* `haltere`, which checks the store in a process of its own after an unclean stop: beside this
 * module, as in a build directory, else where packages put it. */
static bool find_checker(char *out, size_t out_bytes)
{
    static const char *const beside[] = {"/haltere", "/../bin/haltere", "/../../bin/haltere"};
    Dl_info info;

    if (dladdr((const void *)hooks, &info) != 0 && info.dli_fname != NULL &&
        strchr(info.dli_fname, '/') != NULL) {
        int len = (int)(strrchr(info.dli_fname, '/') - info.dli_fname);
        for (size_t i = 0; i < sizeof(beside) / sizeof(beside[0]); i++) {
            int written = snprintf(out, out_bytes, "%.*s%s", len, info.dli_fname, beside[i]);
            if (written > 0 && (size_t)written < out_bytes && access(out, X_OK) == 0) {
                return true;
            }
        }
    }
    (void)snprintf(out, out_bytes, "/usr/bin/haltere");
    return access(out, X_OK) == 0;
}

static bool open_store(struct plugin *self, bool *was_clean)
{
    const struct hlt_options *options = &self->options;
    char checker[4096];
    struct hlt_err err = {.msg = ""};
    bool found = find_checker(checker, sizeof(checker));
    bool replaced = false;
    struct hlt_store_config config = {
        .path = options->db_path,
        .map_bytes = options->store_max_bytes,
        .flush_interval_ms = options->flush_interval_ms,
        .checker = found ? checker : NULL,
    };

    if (!found) {
        hlt_say(
            options->log_level, HLT_LOG_WARNING,
            "the command 'haltere' is neither beside this module nor in /usr/bin: after an unclean "
            "stop the store is opened without a check");
    }
    if (hlt_store_open(&self->store, &config, was_clean, &replaced, &err) != HLT_OK) {
        hlt_say(options->log_level, HLT_LOG_ERR, "db_path: %s", err.msg);
        return false;
    }
    if (hlt_store_note(self->store)[0] != '\0') {
        hlt_say(options->log_level, HLT_LOG_WARNING, "store: %s", hlt_store_note(self->store));
    }
    if (replaced) {
        hlt_say(
            options->log_level, HLT_LOG_ERR,
            "the store in %s was damaged: it was moved aside to corrupt-DATE in there and a new, "
            "empty one was begun",
            options->db_path);
    }
    return true;
}

/* Takes `rules` over. */
static bool start_engine(struct plugin *self, struct hlt_rules *rules, bool was_clean)
{
    struct hlt_err err = {.msg = ""};
    struct hlt_engine_config config = {
        .options = &self->options,
        .store = self->store,
        .store_clean = was_clean,
        .version = HLT_VERSION,
    };

    self->verifier = hlt_verifier_new();
    self->tokens = hlt_tokencache_new((size_t)self->options.token_cache);
    if (self->verifier == NULL || self->tokens == NULL) {
        hlt_rules_free(rules);
        hlt_say(self->options.log_level, HLT_LOG_ERR, "not enough memory");
        return false;
    }
    if (hlt_engine_new(&self->engine, &config, rules, hlt_plugin_now(), &err) != HLT_OK) {
        hlt_rules_free(rules);
        hlt_say(self->options.log_level, HLT_LOG_ERR, "%s", err.msg);
        return false;
    }
    hlt_engine_on_view_free(self->engine, hlt_views_drop);
    hlt_engine_on_meter_free(self->engine, hlt_meters_drop);
    return true;
}

/* All files have just been read: alerts of an earlier run about them are over, but for the one
 * that this start raises itself. And what the next start may fall back on is kept. */
static void note_files(struct plugin *self)
{
    struct hlt_err err = {.msg = ""};

    hlt_engine_system(self->engine, hlt_plugin_now(), "keys_reload_failed", NULL);
    hlt_engine_system(self->engine, hlt_plugin_now(), "rules_reload_failed", NULL);
    hlt_engine_system(self->engine, hlt_plugin_now(), "shadow_reload_failed", NULL);
    hlt_engine_system(self->engine, hlt_plugin_now(), "policy_reload_failed", self->fell_back);
    if (self->fell_back == NULL &&
        hlt_reload_keep(&self->options, hlt_views_policy(self->views), &err) != HLT_OK) {
        hlt_say(self->options.log_level, HLT_LOG_WARNING,
                "no copy of the policy is kept for acl_fallback: %s", err.msg);
    }
    hlt_views_compare(self->views, hlt_plugin_now());
}

static bool register_hooks(struct plugin *self)
{
    for (size_t i = 0; i < HOOKS; i++) {
        int rc = mosquitto_callback_register(self->id, hooks[i].event, hooks[i].callback,
                                             hooks[i].topic, self);
        if (rc != MOSQ_ERR_SUCCESS && rc != MOSQ_ERR_NOT_SUPPORTED) {
            hlt_say(self->options.log_level, HLT_LOG_ERR,
                    "the broker refuses the hook for its event %d with code %d", hooks[i].event,
                    rc);
            return false;
        }
    }
    return true;
}

static void unregister_hooks(struct plugin *self)
{
    for (size_t i = 0; i < HOOKS; i++) {
        (void)mosquitto_callback_unregister(self->id, hooks[i].event, hooks[i].callback,
                                            hooks[i].topic);
    }
}

/* Threads inherit the mask: the broker's signals must be handled on the broker's thread. */
static bool start_quietly(struct plugin *self, struct hlt_rules *rules)
{
    sigset_t all;
    sigset_t before;
    bool was_clean = false;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_BLOCK, &all, &before);
    bool opened = open_store(self, &was_clean);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!opened) {
        hlt_rules_free(rules);
        return false;
    }
    if (!start_engine(self, rules, was_clean)) {
        return false;
    }
    note_files(self);
    if (!hlt_reload_start(self->reload)) {
        hlt_say(self->options.log_level, HLT_LOG_ERR, "the system refuses a thread for reloading");
        return false;
    }
    return register_hooks(self);
}

/* Everything that init made, in reverse; also of a half-way init. */
static void tear_down(struct plugin *self)
{
    hlt_reload_free(self->reload);
    if (self->engine != NULL) {
        hlt_engine_flush(self->engine, hlt_plugin_now());
        hlt_engine_free(self->engine);
    }
    hlt_store_close(self->store);
    hlt_views_free(self->views);
    hlt_verifier_free(self->verifier);
    hlt_tokencache_free(self->tokens);
    hlt_keyset_free(self->keys);
    hlt_options_free(&self->options);
    free(self->fell_back);
    free(self);
}

/* --- what the broker looks up by name --- */

__attribute__((visibility("default"))) int mosquitto_plugin_version(int supported_version_count,
                                                                    const int *supported_versions)
{
    for (int i = 0; i < supported_version_count; i++) {
        if (supported_versions[i] == PLUGIN_API) {
            return PLUGIN_API;
        }
    }
    return -1;
}

__attribute__((visibility("default"))) int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier,
                                                                 void **userdata,
                                                                 struct mosquitto_opt *options,
                                                                 int option_count)
{
    struct hlt_rules *rules = NULL;
    struct plugin *self = calloc(1, sizeof(*self));

    if (self == NULL) {
        return MOSQ_ERR_NOMEM;
    }
    self->id = identifier;
    if (!read_options(self, options, option_count)) {
        goto failed;
    }
    set_token_rules(self);
    self->reload = hlt_reload_new(&self->options);
    if (self->reload == NULL) {
        goto failed;
    }
    if (!read_files(self, &rules)) {
        hlt_rules_free(rules);
        goto failed;
    }
    if (!start_quietly(self, rules)) {
        unregister_hooks(self);
        goto failed;
    }
    if (hlt_broker_is_2_1()) {
        (void)mosquitto_plugin_set_info(identifier, "haltere", HLT_VERSION);
    }
    hlt_reload_note(self);
    hlt_say(self->options.log_level, HLT_LOG_NOTICE,
            "version %s: %zu keys, %zu rules of policy %s, %zu devices known", HLT_VERSION,
            hlt_keyset_count(self->keys), hlt_policy_rule_count(hlt_views_policy(self->views)),
            hlt_policy_digest(hlt_views_policy(self->views)),
            hlt_engine_device_count(self->engine));
    *userdata = self;
    return MOSQ_ERR_SUCCESS;

failed:
    hlt_say(LOG_LEVEL_UNKNOWN, HLT_LOG_ERR,
            "not started; mend the above and start the broker again");
    tear_down(self);
    return MOSQ_ERR_INVAL;
}

__attribute__((visibility("default"))) int
mosquitto_plugin_cleanup(void *userdata, struct mosquitto_opt *options, int option_count)
{
    struct plugin *self = userdata;

    (void)options;
    (void)option_count;
    if (self != NULL) {
        unregister_hooks(self);
        tear_down(self);
    }
    return MOSQ_ERR_SUCCESS;
}
