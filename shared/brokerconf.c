/* brokerconf.c - reads mosquitto.conf as Mosquitto 2.0 does, finds Haltere in it, and judges the
 * settings around it.
 *
 * What the broker does was tried on 2.0.11 with a probe plugin: comments only with # in column 1,
 * blanks before a keyword are skipped, a tab does not end a keyword; include_dir is read in the
 * main file only, names end in ".conf" and sort with A before a before B; options belong to the
 * last plugin line of the same file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "options.h"
#include "text.h"

#define CONF_FILE_BYTES (4u << 20) /* no mosquitto.conf is larger */
#define CONF_FILES_MAX 1000        /* files of include_dirs */
#define CONF_PAIRS_MAX 1000        /* plugin_opt_ lines of Haltere's plugin line */
#define CONF_PATH_BYTES 4096
#define PLUGIN_NAME "haltere" /* a module's file name has this in it */
#define SHOWN "%.200s"

enum owner { OWNER_NONE, OWNER_HALTERE, OWNER_OTHER };

/* A setting of which only the last value counts, and where it stood. */
struct setting {
    bool is_true;
    char *file; /* NULL: never set */
    unsigned line;
};

struct conf {
    struct hlt_problems *problems;
    /* where we are */
    const char *file;
    unsigned line;
    bool included;
    char *include_dir; /* to be read before the next line, NULL: none */
    enum owner owner;  /* whose plugin_opt_ lines these are */
    size_t files_read;
    /* Haltere's own lines */
    char *plugin_file; /* file of its plugin line, NULL: none found */
    unsigned plugin_line;
    char *names[CONF_PAIRS_MAX], *values[CONF_PAIRS_MAX];
    unsigned lines[CONF_PAIRS_MAX];
    size_t pair_count;
    /* the listener at hand */
    char *listener_file; /* NULL: the default listener, not mentioned so far */
    unsigned listener_line;
    bool listener_tls, listener_local;
    size_t listeners;
    /* the rest */
    struct setting per_listener, allow_anonymous, check_retain_source, tcp_nodelay, password_file,
        acl_file, other_plugin, username_as_clientid;
    char *user;
    bool no_memory;
};

/* What Mosquitto 2.0 and 2.1 know; others are told apart from slips of the pen. */
static const char *const keywords[] = {
    "acl_file",
    "address",
    "addresses",
    "allow_anonymous",
    "allow_duplicate_messages",
    "allow_zero_length_clientid",
    "auth_plugin",
    "auth_plugin_deny_special_chars",
    "auto_id_prefix",
    "autosave_interval",
    "autosave_on_changes",
    "bind_address",
    "bind_interface",
    "bridge_alpn",
    "bridge_attempt_unsubscribe",
    "bridge_bind_address",
    "bridge_cafile",
    "bridge_capath",
    "bridge_certfile",
    "bridge_ciphers",
    "bridge_ciphers_tls1.3",
    "bridge_identity",
    "bridge_insecure",
    "bridge_keyfile",
    "bridge_max_packet_size",
    "bridge_max_topic_alias",
    "bridge_outgoing_retain",
    "bridge_protocol_version",
    "bridge_psk",
    "bridge_receive_maximum",
    "bridge_reload_type",
    "bridge_require_ocsp",
    "bridge_session_expiry_interval",
    "bridge_tcp_keepalive",
    "bridge_tcp_user_timeout",
    "bridge_tls_use_os_certs",
    "bridge_tls_version",
    "cafile",
    "capath",
    "certfile",
    "check_retain_source",
    "ciphers",
    "ciphers_tls1.3",
    "cleansession",
    "clientid",
    "clientid_prefixes",
    "connection",
    "connection_messages",
    "crlfile",
    "dhparamfile",
    "disable_client_cert_date_checks",
    "enable_control_api",
    "enable_proxy_protocol",
    "enable_proxy_protocol_v2_require_tls",
    "global_max_clients",
    "global_max_connections",
    "global_plugin",
    "http_dir",
    "idle_timeout",
    "include_dir",
    "keepalive_interval",
    "keyfile",
    "listener",
    "listener_allow_anonymous",
    "listener_auto_id_prefix",
    "local_cleansession",
    "local_clientid",
    "local_password",
    "local_username",
    "log_dest",
    "log_facility",
    "log_timestamp",
    "log_timestamp_format",
    "log_type",
    "max_connections",
    "max_inflight_bytes",
    "max_inflight_messages",
    "max_keepalive",
    "max_packet_size",
    "max_qos",
    "max_queued_bytes",
    "max_queued_messages",
    "max_topic_alias",
    "max_topic_alias_broker",
    "memory_limit",
    "message_size_limit",
    "mount_point",
    "notification_topic",
    "notifications",
    "notifications_local_only",
    "packet_buffer_size",
    "packet_max_auth",
    "packet_max_connect",
    "packet_max_simple",
    "packet_max_sub",
    "packet_max_un",
    "password",
    "password_file",
    "per_listener_settings",
    "persistence",
    "persistence_file",
    "persistence_location",
    "persistent_client_expiration",
    "pid_file",
    "plugin",
    "plugin_load",
    "plugin_use",
    "port",
    "protocol",
    "protocol_version",
    "psk_file",
    "psk_hint",
    "queue_qos0_messages",
    "remote_clientid",
    "remote_password",
    "remote_username",
    "require_certificate",
    "restart_timeout",
    "retain_available",
    "retain_expiry_interval",
    "round_robin",
    "set_tcp_nodelay",
    "socket_domain",
    "start_type",
    "sys_interval",
    "threshold",
    "tls_engine",
    "tls_engine_kpass_sha1",
    "tls_keyform",
    "tls_version",
    "topic",
    "try_private",
    "upgrade_outgoing_qos",
    "use_identity_as_username",
    "use_subject_as_username",
    "use_username_as_clientid",
    "user",
    "username",
    "websockets_headers_size",
    "websockets_log_level",
    "websockets_origin",
    NULL,
};

#define PROBLEM(conf, kind, ...)                                                                   \
    hlt_problems_add((conf)->problems, kind, (conf)->file, (conf)->line, 0, __VA_ARGS__)

static char *copy(struct conf *conf, const char *text)
{
    char *made = strdup(text);
    conf->no_memory = conf->no_memory || made == NULL;
    return made;
}

static void replace(struct conf *conf, char **member, const char *text)
{
    free(*member);
    *member = copy(conf, text);
}

/* Conf values that Mosquitto takes for a boolean; others stop it at start. */
static bool read_bool(struct conf *conf, const char *keyword, const char *value)
{
    if (strcmp(value, "true") == 0 || strcmp(value, "1") == 0) {
        return true;
    }
    if (strcmp(value, "false") != 0 && strcmp(value, "0") != 0) {
        PROBLEM(conf, HLT_PROBLEM_ERROR, "%s '" SHOWN "': write true or false", keyword, value);
    }
    return false;
}

static void note(struct conf *conf, struct setting *setting, bool is_true)
{
    replace(conf, &setting->file, conf->file);
    setting->line = conf->line;
    setting->is_true = is_true;
}

/* --- listeners --- */

static bool is_local_address(const char *host)
{
    return strncmp(host, "127.", 4) == 0 || strcmp(host, "::1") == 0 ||
           strcmp(host, "localhost") == 0 || strcmp(host, "lo") == 0;
}

static void begin_listener(struct conf *conf)
{
    replace(conf, &conf->listener_file, conf->file);
    conf->listener_line = conf->line;
    conf->listener_tls = false;
    conf->listener_local = false;
    conf->listeners++;
}

static void end_listener(struct conf *conf)
{
    if (conf->listener_file != NULL && !conf->listener_tls && !conf->listener_local) {
        hlt_problems_add(conf->problems, HLT_PROBLEM_WARNING, conf->listener_file,
                         conf->listener_line, 0,
                         "this listener has no TLS: whoever sees the traffic can take a token and "
                         "use it. Give it certfile and keyfile, or bind it to 127.0.0.1 behind a "
                         "proxy that has TLS");
    }
    free(conf->listener_file);
    conf->listener_file = NULL;
}

/* "1883", "1883 127.0.0.1", "0 /run/mosquitto.sock". */
static void on_listener(struct conf *conf, const char *value)
{
    end_listener(conf);
    begin_listener(conf);
    const char *host = value + strcspn(value, " ");
    host += strspn(host, " ");
    conf->listener_local =
        is_local_address(host) || (host[0] == '/' && strtol(value, NULL, 10) == 0);
}

/* port and bind_address shape the default listener, which then exists. */
static void on_default_listener(struct conf *conf, const char *keyword, const char *value)
{
    if (conf->listener_file == NULL) {
        begin_listener(conf);
    }
    if (strcmp(keyword, "port") != 0 && is_local_address(value)) {
        conf->listener_local = true;
    }
}

static void on_certificate_name(struct conf *conf, const char *keyword, const char *value)
{
    if (read_bool(conf, keyword, value)) {
        PROBLEM(conf, HLT_PROBLEM_WARNING,
                "%s true: the broker never asks Haltere about logins on this listener, so every "
                "read and write of its clients is denied. Set it to false and let devices send "
                "tokens; a token may be bound to the certificate with the claim cnf",
                keyword);
    }
}

static void on_psk(struct conf *conf, const char *keyword)
{
    PROBLEM(conf, HLT_PROBLEM_WARNING,
            "%s: Haltere takes no pre-shared key for an identity. Where the PSK identity is the "
            "user name the broker never asks Haltere about a login, and every read and write of "
            "such clients is denied. Use certificates for TLS, or send a token over the PSK "
            "connection with use_identity_as_username false",
            keyword);
}

/* --- plugins --- */

static void on_plugin(struct conf *conf, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;

    if (strstr(base, PLUGIN_NAME) == NULL) {
        conf->owner = OWNER_OTHER;
        if (conf->plugin_file == NULL) {
            PROBLEM(conf, HLT_PROBLEM_WARNING,
                    "the plugin " SHOWN " comes before Haltere and is asked first: what it allows, "
                    "Haltere never sees. Move its plugin line below Haltere's",
                    path);
        }
        note(conf, &conf->other_plugin, true);
        return;
    }
    conf->owner = OWNER_HALTERE;
    if (conf->plugin_file != NULL) {
        PROBLEM(conf, HLT_PROBLEM_ERROR,
                "a second plugin line for Haltere (the first: %s:%u): remove one",
                conf->plugin_file, conf->plugin_line);
        conf->owner = OWNER_OTHER; /* its options are not mixed with the first one's */
        return;
    }
    replace(conf, &conf->plugin_file, conf->file);
    conf->plugin_line = conf->line;
}

static void on_plugin_option(struct conf *conf, const char *name, const char *value)
{
    if (conf->owner == OWNER_NONE) {
        PROBLEM(conf, HLT_PROBLEM_ERROR,
                "this option stands before any plugin line of the same file: move it below the "
                "plugin line it belongs to");
    }
    if (conf->owner != OWNER_HALTERE) {
        return;
    }
    if (conf->pair_count == CONF_PAIRS_MAX) {
        PROBLEM(conf, HLT_PROBLEM_ERROR, "more than %d plugin_opt_ lines: remove some",
                CONF_PAIRS_MAX);
        return;
    }
    char *name_copy = copy(conf, name);
    char *value_copy = copy(conf, value);
    if (name_copy == NULL || value_copy == NULL) {
        free(name_copy);
        free(value_copy);
        return;
    }
    conf->names[conf->pair_count] = name_copy;
    conf->values[conf->pair_count] = value_copy;
    conf->lines[conf->pair_count++] = conf->line;
}

/* --- one line --- */

/* Read by read_main: only there is it heeded. */
static void on_include_dir(struct conf *conf, const char *path)
{
    if (conf->included) {
        PROBLEM(conf, HLT_PROBLEM_WARNING,
                "include_dir is heeded in the main file only: move it there");
        return;
    }
    replace(conf, &conf->include_dir, path);
}

static void on_bridge(struct conf *conf, const char *name)
{
    PROBLEM(conf, HLT_PROBLEM_WARNING,
            "bridge '" SHOWN "': the broker lets a bridge pass every access check, so what it "
            "brings in is not held to the policy (Haltere's own topics stay guarded). Bridge only "
            "the topics you need, and only with a broker you trust",
            name);
}

static void on_mount_point(struct conf *conf, const char *value)
{
    PROBLEM(
        conf, HLT_PROBLEM_WARNING,
        "mount_point '" SHOWN "': topics of this listener's clients begin with it, so Haltere "
        "does not see them as its devices' topics. Remove it, or choose plugin_opt_topic_devices "
        "to match",
        value);
}

static void on_queue_limit(struct conf *conf, const char *value)
{
    if (strtol(value, NULL, 10) == 0) {
        PROBLEM(conf, HLT_PROBLEM_WARNING,
                "max_queued_messages 0: Mosquitto 2.0 then disconnects every client that it "
                "refuses a message, instead of going on. Give a number");
    }
}

/* Settings that belong to the listener at hand. True if `keyword` is one. */
static bool on_listener_setting(struct conf *conf, const char *keyword, const char *value)
{
    if (strcmp(keyword, "listener") == 0) {
        on_listener(conf, value);
    } else if (strcmp(keyword, "port") == 0 || strcmp(keyword, "bind_address") == 0 ||
               strcmp(keyword, "bind_interface") == 0) {
        on_default_listener(conf, keyword, value);
    } else if (strcmp(keyword, "certfile") == 0) {
        conf->listener_tls = true;
    } else if (strcmp(keyword, "use_identity_as_username") == 0 ||
               strcmp(keyword, "use_subject_as_username") == 0) {
        on_certificate_name(conf, keyword, value);
    } else if (strcmp(keyword, "psk_file") == 0 || strcmp(keyword, "psk_hint") == 0) {
        conf->listener_tls = true;
        on_psk(conf, keyword);
    } else if (strcmp(keyword, "mount_point") == 0) {
        on_mount_point(conf, value);
    } else {
        return false;
    }
    return true;
}

static struct setting *setting_of(struct conf *conf, const char *keyword, bool *is_bool)
{
    const struct {
        const char *keyword;
        struct setting *setting;
        bool is_bool;
    } known[] = {
        {"per_listener_settings", &conf->per_listener, true},
        {"allow_anonymous", &conf->allow_anonymous, true},
        {"check_retain_source", &conf->check_retain_source, true},
        {"set_tcp_nodelay", &conf->tcp_nodelay, true},
        {"use_username_as_clientid", &conf->username_as_clientid, true},
        {"password_file", &conf->password_file, false},
        {"acl_file", &conf->acl_file, false},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].keyword, keyword) == 0) {
            *is_bool = known[i].is_bool;
            return known[i].setting;
        }
    }
    return NULL;
}

static bool is_keyword(const char *word)
{
    for (size_t i = 0; keywords[i] != NULL; i++) {
        if (strcmp(keywords[i], word) == 0) {
            return true;
        }
    }
    return false;
}

static void on_unknown(struct conf *conf, const char *keyword)
{
    const char *near = hlt_suggest(keyword, keywords);
    PROBLEM(conf, HLT_PROBLEM_WARNING,
            "'" SHOWN "' is no keyword of Mosquitto that we know of; the broker does not start "
            "with keywords it does not know. %s%s%s",
            keyword, near != NULL ? "Did you mean " : "See man mosquitto.conf",
            near != NULL ? near : "", near != NULL ? "?" : "");
}

/* The name behind plugin_opt_ or auth_opt_, NULL if it is another keyword. */
static const char *option_name(const char *keyword)
{
    static const char *const prefixes[] = {"plugin_opt_", "auth_opt_"};
    for (size_t i = 0; i < 2; i++) {
        size_t len = strlen(prefixes[i]);
        if (strncmp(keyword, prefixes[i], len) == 0) {
            return keyword + len;
        }
    }
    return NULL;
}

static void on_keyword(struct conf *conf, const char *keyword, const char *value)
{
    bool is_bool = false;
    const char *option = option_name(keyword);
    struct setting *setting = setting_of(conf, keyword, &is_bool);

    if (value[0] == '\0') {
        PROBLEM(conf, HLT_PROBLEM_ERROR, "'" SHOWN "' has no value: the broker does not start",
                keyword);
    } else if (option != NULL) {
        on_plugin_option(conf, option, value);
    } else if (strcmp(keyword, "plugin") == 0 || strcmp(keyword, "auth_plugin") == 0 ||
               strcmp(keyword, "global_plugin") == 0) {
        on_plugin(conf, value);
    } else if (strcmp(keyword, "plugin_load") == 0) { /* 2.1: a name, then the path */
        const char *path = value + strcspn(value, " ");
        on_plugin(conf, path + strspn(path, " "));
    } else if (setting != NULL) {
        note(conf, setting, !is_bool || read_bool(conf, keyword, value));
    } else if (strcmp(keyword, "user") == 0) {
        replace(conf, &conf->user, value);
    } else if (strcmp(keyword, "connection") == 0) {
        on_bridge(conf, value);
    } else if (strcmp(keyword, "include_dir") == 0) {
        on_include_dir(conf, value);
    } else if (strcmp(keyword, "max_queued_messages") == 0) {
        on_queue_limit(conf, value);
    } else if (!on_listener_setting(conf, keyword, value) && !is_keyword(keyword)) {
        on_unknown(conf, keyword);
    }
}

/* The line is ours to cut. */
static void read_line(struct conf *conf, char *line)
{
    size_t len = strlen(line);
    if (line[0] == '#') {
        return;
    }
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) {
        line[--len] = '\0';
    }
    char *keyword = line + strspn(line, " ");
    if (keyword[0] == '\0') {
        return;
    }
    if (keyword[0] == '#') {
        PROBLEM(conf, HLT_PROBLEM_ERROR,
                "a comment begins in column 1: the broker takes a # behind blanks for a keyword "
                "and does not start. Remove the blanks");
        return;
    }
    char *value = keyword + strcspn(keyword, " ");
    if (value[0] != '\0') {
        *value++ = '\0';
    }
    value += strspn(value, " \t");
    len = strlen(value);
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t')) {
        value[--len] = '\0';
    }
    if (strchr(keyword, '\t') != NULL) {
        PROBLEM(conf, HLT_PROBLEM_ERROR,
                "a tab follows the keyword: Mosquitto ends a keyword only at a blank. Write a "
                "blank there");
        return;
    }
    on_keyword(conf, keyword, value);
}

/* --- files --- */

static FILE *open_conf(const char *path, struct hlt_err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        (void)hlt_fail(err, HLT_EIO, "cannot read it: %s", strerror(errno));
        return NULL;
    }
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        (void)hlt_fail(err, HLT_EIO, "it is not a regular file: name a plain file");
    } else if (st.st_size > CONF_FILE_BYTES) {
        (void)hlt_fail(err, HLT_EIO, "it is larger than %u bytes: is it the right file?",
                       CONF_FILE_BYTES);
    } else {
        FILE *stream = fdopen(fd, "r");
        if (stream != NULL) {
            return stream;
        }
        (void)hlt_fail(err, HLT_ENOMEM, "no memory to read it");
    }
    (void)close(fd);
    return NULL;
}

/* Whoever may write this file may load any code into the broker. */
static void check_writers(struct conf *conf, FILE *stream)
{
    struct stat st;
    if (fstat(fileno(stream), &st) == 0 && (st.st_mode & S_IWOTH) != 0) {
        PROBLEM(conf, HLT_PROBLEM_WARNING,
                "everybody may write this file, and so load code into the broker: chmod o-w %s",
                conf->file);
    }
}

/* Open a file and go to its beginning. NULL after a complaint. */
static FILE *begin_conf(struct conf *conf, const char *path)
{
    struct hlt_err err = {.msg = ""};

    conf->file = path;
    conf->line = 0;
    conf->owner = OWNER_NONE;
    FILE *stream = open_conf(path, &err);
    if (stream == NULL) {
        PROBLEM(conf, HLT_PROBLEM_ERROR, "%s", err.msg);
        return NULL;
    }
    check_writers(conf, stream);
    return stream;
}

/* Read to the end, or to an include_dir: true, and conf->include_dir is set. */
static bool read_lines(struct conf *conf, FILE *stream)
{
    char *line = NULL;
    size_t room = 0;
    while (conf->include_dir == NULL && getline(&line, &room, stream) >= 0) {
        conf->line++;
        read_line(conf, line);
    }
    free(line);
    return conf->include_dir != NULL;
}

static bool end_conf(struct conf *conf, FILE *stream)
{
    bool whole = ferror(stream) == 0;
    conf->line = 0;
    if (!whole) {
        PROBLEM(conf, HLT_PROBLEM_ERROR, "cannot read on: the rest of the file is missing here");
    }
    (void)fclose(stream);
    return whole;
}

static char lower(char letter)
{
    if (letter >= 'A' && letter <= 'Z') {
        return (char)(letter - 'A' + 'a');
    }
    return letter;
}

/* Mosquitto's order of included files: letter case counts only between the same letters. */
static int compare_names(const struct dirent **a, const struct dirent **b)
{
    const char *x = (*a)->d_name;
    const char *y = (*b)->d_name;
    while (*x == *y && *x != '\0') {
        x++;
        y++;
    }
    if (lower(*x) != lower(*y)) {
        return (unsigned char)lower(*x) < (unsigned char)lower(*y) ? -1 : 1;
    }
    return (unsigned char)*x - (unsigned char)*y;
}

static int is_conf_name(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);
    return len > 5 && strcmp(entry->d_name + len - 5, ".conf") == 0;
}

static void read_included(struct conf *conf, const char *directory, const char *name)
{
    char path[CONF_PATH_BYTES];
    int len = snprintf(path, sizeof(path), "%s/%s", directory, name);
    if (len < 0 || (size_t)len >= sizeof(path)) {
        PROBLEM(conf, HLT_PROBLEM_ERROR, "the path of an included file is too long");
    } else if (conf->files_read == CONF_FILES_MAX) {
        PROBLEM(conf, HLT_PROBLEM_ERROR, "include_dir: more than %d files", CONF_FILES_MAX);
    } else {
        conf->files_read++;
        const char *outer_file = conf->file;
        unsigned outer_line = conf->line;
        enum owner outer_owner = conf->owner;
        conf->included = true;
        FILE *stream = begin_conf(conf, path);
        if (stream != NULL) {
            (void)read_lines(conf, stream);
            (void)end_conf(conf, stream);
        }
        conf->included = false;
        conf->file = outer_file;
        conf->line = outer_line;
        conf->owner = outer_owner;
    }
}

static void read_include_dir(struct conf *conf, const char *path)
{
    struct dirent **entries = NULL;

    int count = scandir(path, &entries, is_conf_name, compare_names);
    if (count < 0) {
        PROBLEM(conf, HLT_PROBLEM_ERROR,
                "include_dir " SHOWN " cannot be read: %s. The broker does not start without it",
                path, strerror(errno));
        return;
    }
    for (int i = 0; i < count; i++) {
        read_included(conf, path, entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
}

static bool read_main(struct conf *conf, const char *path)
{
    FILE *stream = begin_conf(conf, path);
    if (stream == NULL) {
        return false;
    }
    while (read_lines(conf, stream)) {
        char *directory = conf->include_dir;
        conf->include_dir = NULL;
        read_include_dir(conf, directory);
        free(directory);
    }
    return end_conf(conf, stream);
}

/* --- the verdict --- */

static void judge(struct conf *conf, const struct setting *setting, enum hlt_problem_kind kind,
                  const char *main_file, const char *text)
{
    const char *file = setting->file != NULL ? setting->file : main_file;
    hlt_problems_add(conf->problems, kind, file, setting->line, 0, "%s", text);
}

static void judge_anonymous(struct conf *conf, const char *main_file)
{
    if (conf->allow_anonymous.is_true) {
        judge(conf, &conf->allow_anonymous, HLT_PROBLEM_WARNING, main_file,
              "allow_anonymous true: where Haltere leaves a login to others, clients without a "
              "name come in without proof. Set it to false");
    } else if (conf->allow_anonymous.file == NULL && conf->listeners == 0) {
        judge(conf, &conf->allow_anonymous, HLT_PROBLEM_WARNING, main_file,
              "no listener is configured: the broker then serves this machine only and allows "
              "anonymous clients. Add a listener line and allow_anonymous false");
    }
}

static void judge_logins(struct conf *conf, const struct hlt_options *out, const char *main_file)
{
    bool has_other = conf->password_file.file != NULL || conf->other_plugin.file != NULL;

    if (conf->password_file.file != NULL && !out->allow_other_auth) {
        judge(conf, &conf->password_file, HLT_PROBLEM_WARNING, main_file,
              "password_file is never asked, as Haltere decides every login: remove it, or set "
              "plugin_opt_allow_other_auth true to let its users in beside the devices");
    }
    if (conf->acl_file.file != NULL && !out->allow_other_auth) {
        judge(conf, &conf->acl_file, HLT_PROBLEM_WARNING, main_file,
              "the broker's own acl_file is never asked, as Haltere decides every access: move its "
              "rules to plugin_opt_acl_file and remove this line");
    }
    if (conf->acl_file.file != NULL && out->allow_other_auth) {
        judge(conf, &conf->acl_file, HLT_PROBLEM_WARNING, main_file,
              "the broker's own acl_file is asked only for clients without a token, where "
              "Haltere's policy says nothing; and 2.0 allows everything when it is broken at a "
              "reload. Move its rules to plugin_opt_acl_file");
    }
    if (out->allow_other_auth && !has_other) {
        hlt_problems_add(conf->problems, HLT_PROBLEM_WARNING, conf->plugin_file, conf->plugin_line,
                         0,
                         "plugin_opt_allow_other_auth is true but there is no password_file and no "
                         "other plugin to decide such logins: set it to false or add one");
    }
    if (conf->username_as_clientid.is_true && out->token_in_username) {
        judge(conf, &conf->username_as_clientid, HLT_PROBLEM_ERROR, main_file,
              "use_username_as_clientid true makes the token the client id when "
              "plugin_opt_token_source is username, and no login can succeed: set it to false");
    }
}

static void judge_broker(struct conf *conf, const char *main_file)
{
    if (conf->per_listener.is_true) {
        judge(conf, &conf->per_listener, HLT_PROBLEM_ERROR, main_file,
              "per_listener_settings true is not supported: the broker would load Haltere once per "
              "listener and deny restored sessions without asking. Set it to false");
    }
    if (!conf->check_retain_source.is_true) {
        judge(conf, &conf->check_retain_source, HLT_PROBLEM_WARNING, main_file,
              "check_retain_source is not true: retained messages of a sender who has lost the "
              "right to write are still delivered. Add check_retain_source true");
    }
    if (!conf->tcp_nodelay.is_true) {
        judge(conf, &conf->tcp_nodelay, HLT_PROBLEM_WARNING, main_file,
              "set_tcp_nodelay is not true: an alert may wait 40 ms in the kernel. Add "
              "set_tcp_nodelay true");
    }
    judge_anonymous(conf, main_file);
}

static void conf_free(struct conf *conf)
{
    struct setting *settings[] = {
        &conf->per_listener, &conf->allow_anonymous,      &conf->check_retain_source,
        &conf->tcp_nodelay,  &conf->password_file,        &conf->acl_file,
        &conf->other_plugin, &conf->username_as_clientid,
    };
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        free(settings[i]->file);
    }
    for (size_t i = 0; i < conf->pair_count; i++) {
        free(conf->names[i]);
        free(conf->values[i]);
    }
    free(conf->plugin_file);
    free(conf->listener_file);
    free(conf->user);
    free(conf);
}

static void conclude(struct conf *conf, const char *path, struct hlt_options *out)
{
    end_listener(conf);
    if (conf->plugin_file == NULL) {
        hlt_problems_add(conf->problems, HLT_PROBLEM_ERROR, path, 0, 0,
                         "no plugin line names Haltere: add 'plugin "
                         "/usr/lib/x86_64-linux-gnu/mosquitto_haltere.so' (or where it was "
                         "installed) and its plugin_opt_ lines; mosquitto.conf.example has them");
    } else {
        (void)hlt_options_parse(out, (const char *const *)conf->names,
                                (const char *const *)conf->values, conf->pair_count,
                                conf->plugin_file, conf->lines, conf->problems);
        judge_logins(conf, out, path);
    }
    judge_broker(conf, path);
    out->broker_user = strdup(conf->user != NULL ? conf->user : "mosquitto");
    if (conf->no_memory || out->broker_user == NULL) {
        hlt_problems_add(conf->problems, HLT_PROBLEM_ERROR, NULL, 0, 0,
                         "no memory to check the configuration: free some and try again");
    }
}

enum hlt_rc hlt_broker_config_check(const char *path, struct hlt_options *out,
                                    struct hlt_problems *problems)
{
    size_t errors_before = problems->errors;
    struct conf *conf = calloc(1, sizeof(*conf)); /* too large for a stack */

    memset(out, 0, sizeof(*out));
    if (conf == NULL) {
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, path, 0, 0,
                         "no memory to check the configuration: free some and try again");
        return HLT_ENOMEM;
    }
    conf->problems = problems;
    if (!read_main(conf, path)) {
        conf_free(conf);
        return HLT_EIO;
    }
    conclude(conf, path, out);
    conf_free(conf);
    return problems->errors == errors_before ? HLT_OK : HLT_EPARSE;
}
