/* options.h - every plugin_opt_NAME: one table of type, unit, default, range and effect.
 *
 * The plugin, `haltere config check` and the README's table all come from hlt_option_at(). */
#ifndef HLT_OPTIONS_H
#define HLT_OPTIONS_H

#include "base.h"
#include "keyset.h"

#define HLT_KEY_SOURCES_MAX 32
#define HLT_LIST_MAX 16 /* values of issuer, audience, admin_roles, trusted_proxies, ban_exempt */
#define HLT_PREFIX_MAX 128 /* bytes of a topic prefix: leaves room for ids and names in a topic */
#define HLT_OPTION_LOOPBACK "loopback" /* in ban_exempt: 127.0.0.0/8 and ::1 */

/* acl_compat: which Mosquitto `topic` and `pattern` lines are decided as; AUTO: the broker's own.
 */
enum hlt_acl_compat_option { HLT_COMPAT_AUTO, HLT_COMPAT_2_0, HLT_COMPAT_2_1 };

enum hlt_health_publish { HLT_HEALTH_OFF, HLT_HEALTH_CHANGES, HLT_HEALTH_ON };

struct hlt_options {
    /* identity */
    struct hlt_key_source keys[HLT_KEY_SOURCES_MAX]; /* keys_file, may be repeated; at least one */
    char *keys_storage[HLT_KEY_SOURCES_MAX];
    size_t key_count;
    char *issuer[HLT_LIST_MAX];
    size_t issuer_count; /* issuer, may be repeated */
    char *audience[HLT_LIST_MAX];
    size_t audience_count;        /* audience, may be repeated */
    int64_t leeway_s;             /* leeway, 30 s, 0..10 min */
    uint64_t max_token_bytes;     /* max_token_bytes, 8192, 256..65535 */
    int64_t max_token_lifetime_s; /* max_token_lifetime, 30 d; 0 off */
    bool token_in_username;       /* token_source password|username, default password */
    bool client_id_prefix;        /* client_id_match exact|prefix, default exact */
    bool require_exp, require_iss, require_aud; /* true, true, true; require_iss/aud: presence */
    bool allow_other_auth;                      /* false */
    char *admin_roles[HLT_LIST_MAX];
    size_t admin_role_count;     /* haltere-admin */
    bool offline_after_exp_deny; /* offline_after_exp queue|deny, default queue */
    int64_t identity_keep_s;     /* identity_keep, 7 d after exp */
    uint64_t max_sessions;       /* identities kept, online and offline: 100,000 */
    /* abuse */
    uint64_t token_cache;     /* tokens whose signature is remembered: 100,000; 0 off */
    uint64_t auth_fail_burst; /* failed logins of an address before it is banned: 20; 0 off */
    uint64_t auth_fail_rate;  /* of them forgotten a minute: 20 */
    int64_t ban_time_s;       /* 10 min */
    char *ban_exempt[HLT_LIST_MAX];
    size_t ban_exempt_count; /* networks, or "loopback" (default) */
    char *trusted_proxies[HLT_LIST_MAX];
    size_t trusted_proxy_count; /* networks */
    /* policy and rules */
    char *acl_file;                        /* required */
    enum hlt_acl_compat_option acl_compat; /* auto */
    char *acl_shadow_file;                 /* optional: compared with acl_file, without effect */
    uint64_t max_shadow_rows;              /* 10,000 */
    uint64_t max_recent_bytes;             /* for the clients' last questions: 64 MiB */
    bool acl_fallback_last_good; /* acl_fallback: false, a broken acl_file stops the start */
    char *rules_file;            /* optional: the built-in rules */
    /* store */
    char *db_path;               /* required: a directory */
    uint64_t max_devices;        /* 1,000,000 */
    uint64_t max_alerts;         /* alert records kept, open and resolved: 100,000 */
    uint64_t max_denial_devices; /* devices whose last denials are kept: 1,000; 0 off */
    int64_t flush_interval_ms;   /* 5 s, 100 ms..60 s */
    uint64_t store_max_bytes;    /* store_max_size, LMDB map cap: 64 GiB; starts at 8 GiB */
    uint64_t max_revocations;    /* 100,000 */
    int64_t audit_keep_s;        /* audit_keep, 365 d; 0: not by age */
    uint64_t audit_max_records;  /* 1,000,000 */
    /* out */
    int64_t expiry_notice_s;                /* 60 s, 0 off */
    int64_t heartbeat_interval_ms;          /* 30 s, 1 s..1 h */
    int64_t health_interval_ms;             /* 60 s, 1 s..1 d */
    enum hlt_health_publish health_publish; /* on */
    uint64_t health_publish_devices; /* health_publish_max: retained topics only for fleets up to
                                        20,000 */
    char *
        device_prefix; /* topic_devices, "devices": levels, no wildcard, no leading or trailing / */
    char *alert_prefix;    /* topic_alerts, "alerts" */
    char *system_prefix;   /* topic_system, "system" */
    int log_level;         /* log_level error|warning|notice|info|debug -> 0..4, default info 3 */
    uint64_t max_children; /* new devices one gateway session may create: 1,000 */
    /* not an option: the broker's `user` (default mosquitto), set by hlt_broker_config_check only
     */
    char *broker_user;
};

enum hlt_option_type {
    HLT_OPT_TEXT,
    HLT_OPT_PATH,
    HLT_OPT_BOOL,
    HLT_OPT_COUNT,
    HLT_OPT_SIZE,
    HLT_OPT_DURATION,
    HLT_OPT_CHOICE
};

/* One row of the table (README shows the same; a test compares). */
struct hlt_option_info {
    const char *name;
    enum hlt_option_type type;
    const char *unit;     /* "s", "bytes", "" */
    const char *fallback; /* default as one would write it; "" none; "required" */
    const char *range;    /* "0s..10min", "exact|prefix", "" */
    bool repeatable;
    const char *effect; /* one sentence */
};
const struct hlt_option_info *hlt_option_at(size_t index); /* NULL after the last */

/* Parse name/value pairs (names without "plugin_opt_"); blanks around a value are dropped. Every
 * mistake goes to `problems` with the option's name and a suggestion; `file`/`lines` (may be NULL;
 * lines[i] is the pair's line) place them. HLT_OK without errors. `out` must be freed in any case.
 */
enum hlt_rc hlt_options_parse(struct hlt_options *out, const char *const *names,
                              const char *const *values, size_t count, const char *file,
                              const unsigned *lines, struct hlt_problems *problems);
void hlt_options_free(struct hlt_options *options);

/* Read a mosquitto.conf (with include_dir) the way Mosquitto 2.0 does, find Haltere's plugin line
 * and its plugin_opt_ lines, parse the options, and judge the broker settings around them
 * (DESIGN 11.8: allow_anonymous, per_listener_settings, listeners that never call BASIC_AUTH,
 * check_retain_source, order of plugin lines). Does not load keys, policy, rules. */
enum hlt_rc hlt_broker_config_check(const char *path, struct hlt_options *out,
                                    struct hlt_problems *problems);

#endif
