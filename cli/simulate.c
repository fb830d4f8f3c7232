/* simulate.c - `haltere simulate`: a fleet of real MQTT clients with believable signals, and with
 * troubles on demand. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "../shared/file.h"
#include "command.h"
#include "simdevice.h"

#define DEVICES_MAX 10000
#define ROLES_MAX 16
#define POLL_MS 100   /* the longest wait: signals, keep-alive */
#define MISC_MS 1000  /* between looks at keep-alive */
#define RAMP_MS 2     /* between two devices' first connects */
#define DRAIN_MS 2000 /* wait this long for acknowledgements at the end */
#define TOKEN_MAX ((size_t)65536)
#define FILES_EXTRA 64 /* descriptors besides the devices' */

enum {
    HOST,
    PORT,
    CAFILE,
    DEVICES,
    PREFIX,
    ID,
    INTERVAL,
    DURATION,
    KEY,
    TOKEN_FILE,
    ISSUER,
    AUDIENCE,
    CLASS,
    ROLE,
    LIFETIME,
    PROFILE,
    AT,
    OTHER,
    SEED,
    STATUS,
    QOS,
    VERSION,
    TOPIC,
    RETRY,
    RETRY_INTERVAL,
    QUIET,
    JSON,
    OPTION_COUNT
};

static const struct hlt_cli_option options[] = {
    [HOST] = {"host", "HOST", "the broker (default localhost)"},
    [PORT] = {"port", "PORT", "its port (default 1883; 8883 with --cafile)"},
    [CAFILE] = {"cafile", "FILE", "use TLS and trust this certificate authority"},
    [DEVICES] = {"devices", "N", "how many devices (default 1)"},
    [PREFIX] = {"prefix", "NAME", "their ids are NAME-001, NAME-002, ... (default sensor)"},
    [ID] = {"id", "ID", "one device of this id instead"},
    [INTERVAL] = {"interval", "DURATION", "between two messages of a device (default 5s)"},
    [DURATION] = {"duration", "DURATION", "how long (default 0: until interrupted)"},
    [KEY] = {"key", "FILE", "private key (JWK, PEM or secret): sign a token for every login"},
    [TOKEN_FILE] = {"token-file", "FILE", "log in with the token in this file (one device)"},
    [ISSUER] = {"issuer", "TEXT", "`iss` of the tokens"},
    [AUDIENCE] = {"audience", "TEXT", "`aud` of the tokens"},
    [CLASS] = {"class", "CLASS", "`device_class` of the tokens"},
    [ROLE] = {"role", "ROLE", "one of `roles` of the tokens; may be repeated"},
    [LIFETIME] = {"lifetime", "DURATION", "of the tokens (default 1h)"},
    [PROFILE] = {"profile", "[ID=]PROFILE",
                 "what happens at --at, to all devices or to one; may be repeated:\n"
                 "  normal     nothing (default)\n"
                 "  overheat   the temperature steps to 95 and stays\n"
                 "  jump       humidity jumps by 20 sigma and stays\n"
                 "  silent     stays connected, says nothing more\n"
                 "  spoof      three payloads carry the id of --other\n"
                 "  denied     three messages to the topic of --other\n"
                 "  malformed  three payloads are broken JSON\n"
                 "  host       this machine's own readings"},
    [AT] = {"at", "DURATION", "when it happens, from the start (default 10s)"},
    [OTHER] = {"other", "ID", "the other device of spoof and denied"},
    [SEED] = {"seed", "N", "the same seed gives the same signals (default 1)"},
    [STATUS] = {"status", NULL, "publish status documents too, one a minute"},
    [QOS] = {"qos", "0|1|2", "of the messages (default 1)"},
    [VERSION] = {"version", "3.1.1|5", "of MQTT (default 5)"},
    [TOPIC] = {"topic", "PREFIX", "topics are PREFIX/ID/telemetry (default devices)"},
    [RETRY] = {"retry", "N", "login attempts while refused (default 1)"},
    [RETRY_INTERVAL] = {"retry-interval", "DURATION", "between them (default 1s)"},
    [QUIET] = {"quiet", NULL, "no line per event"},
    [JSON] = {"json", NULL, "print the summary as one JSON object"},
    [OPTION_COUNT] = {NULL, NULL, NULL},
};

static const struct hlt_cli_spec spec = {
    "haltere simulate [--host HOST] [--port PORT] [--devices N | --id ID] [--key FILE] "
    "[--profile [ID=]PROFILE]... [--duration DURATION] [OPTION]...",
    "Connects devices to a broker and lets them publish temperature, humidity, pressure and "
    "battery: a mean of its own per device, slow drift, noise. Events go to stderr, the summary to "
    "stdout. Durations are written 250ms, 30s, 5min, 2h.",
    options,
    0,
    0,
    "Examples:\n"
    "  haltere simulate --devices 20 --key issuer.jwk --issuer https://id.example \\\n"
    "      --audience mqtt --role sensor --duration 1min \\\n"
    "      --profile sensor-007=overheat --at 20s\n"
    "  haltere simulate --profile host --id $(hostname) --class host --key issuer.jwk\n\n"
    "Exit code 0: every device logged in; 1: some were refused; 3: the broker cannot be reached."};

/* A run: what was asked for. */
struct run {
    struct hlt_sim sim;
    struct hlt_sim_device *device;
    struct pollfd *poll;
    size_t count;
    int64_t duration_ms;
    const char *roles[ROLES_MAX];
    char *token;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

/* --- options --- */

static bool duration_of(const char *name, const char *text, int64_t low_ms, int64_t *out)
{
    if (text == NULL) {
        return true;
    }
    if (!hlt_duration_parse(text, out) || *out < low_ms) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--%s '%s' is not a duration%s, like 250ms, 30s, 5min", name,
                     text, low_ms > 0 ? " above 0" : "");
        return false;
    }
    return true;
}

/* -1: unknown; a message was printed. */
static int kind_of(const char *word)
{
    const char *words[HLT_PROFILE_COUNT + 1] = {NULL};

    for (unsigned i = 0; i < HLT_PROFILE_COUNT; i++) {
        words[i] = hlt_profile_word(i);
        if (strcmp(words[i], word) == 0) {
            return (int)i;
        }
    }
    const char *near = hlt_suggest(word, words);
    if (near != NULL) {
        hlt_cli_fail(HLT_EXIT_USAGE, "no profile '%s': did you mean '%s'?", word, near);
    } else {
        hlt_cli_fail(HLT_EXIT_USAGE, "no profile '%s': see --help", word);
    }
    return -1;
}

/* `[ID=]PROFILE`: the last '=' divides, ids may hold others. */
static bool apply_profile(struct run *run, const char *value, const char *other)
{
    const char *equals = strrchr(value, '=');
    size_t id_len = equals != NULL ? (size_t)(equals - value) : 0;
    int kind = kind_of(equals != NULL ? equals + 1 : value);
    bool found = false;

    if (kind < 0) {
        return false;
    }
    if ((kind == HLT_PROFILE_SPOOF || kind == HLT_PROFILE_DENIED) && other == NULL) {
        hlt_cli_fail(HLT_EXIT_USAGE, "profile '%s' needs --other ID",
                     hlt_profile_word((unsigned)kind));
        return false;
    }
    for (size_t i = 0; i < run->count; i++) {
        struct hlt_sim_device *device = &run->device[i];
        if (equals == NULL ||
            (strlen(device->id) == id_len && strncmp(device->id, value, id_len) == 0)) {
            device->profile.kind = (enum hlt_profile_kind)kind;
            found = true;
        }
    }
    if (!found) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--profile %s: no device of this run has that id", value);
    }
    return found;
}

static bool make_devices(struct run *run, const char *const *values, int argc, char **argv)
{
    unsigned long long count = 1, seed = 1;
    int64_t at_ms = 10000;
    int at = 0;
    const char *value, *why = NULL;

    if (!hlt_cli_number("devices", values[DEVICES], 1, DEVICES_MAX, &count) ||
        !hlt_cli_number("seed", values[SEED], 0, UINT64_MAX, &seed) ||
        !duration_of("at", values[AT], 0, &at_ms)) {
        return false;
    }
    run->count = (size_t)count;
    run->device = hlt_cli_resize(NULL, run->count * sizeof(*run->device));
    memset(run->device, 0, run->count * sizeof(*run->device));
    for (size_t i = 0; i < run->count; i++) {
        struct hlt_sim_device *device = &run->device[i];
        int len = values[ID] != NULL
                      ? snprintf(device->id, sizeof(device->id), "%s", values[ID])
                      : snprintf(device->id, sizeof(device->id), "%s-%03zu",
                                 values[PREFIX] != NULL ? values[PREFIX] : "sensor", i + 1);
        if (len < 0 || (size_t)len >= sizeof(device->id) ||
            !hlt_id_valid(device->id, (size_t)len, &why)) {
            hlt_cli_fail(HLT_EXIT_USAGE, "'%s' cannot be a device id: %s", device->id,
                         why != NULL ? why : "it is too long");
            return false;
        }
        hlt_profile_init(&device->profile, HLT_PROFILE_NORMAL, seed, i, at_ms, values[OTHER]);
    }
    while ((value = hlt_cli_each("profile", argc, argv, &at)) != NULL) {
        if (!apply_profile(run, value, values[OTHER])) {
            return false;
        }
    }
    return true;
}

static bool conflicts(const char *const *values)
{
    const char *what = NULL;

    if (values[ID] != NULL && values[DEVICES] != NULL) {
        what = "--id makes one device: it does not go with --devices";
    } else if (values[KEY] != NULL && values[TOKEN_FILE] != NULL) {
        what = "--key and --token-file: one of them";
    } else if (values[TOKEN_FILE] != NULL && values[DEVICES] != NULL) {
        what = "--token-file is one device's token: use --key for several devices";
    } else if (values[KEY] == NULL &&
               (values[ISSUER] != NULL || values[AUDIENCE] != NULL || values[ROLE] != NULL ||
                values[CLASS] != NULL || values[LIFETIME] != NULL)) {
        what = "--issuer, --audience, --class, --role and --lifetime describe tokens that --key "
               "signs: give --key too";
    }
    if (what != NULL) {
        hlt_cli_fail(HLT_EXIT_USAGE, "%s", what);
    }
    return what != NULL;
}

static bool read_choices(struct run *run, const char *const *values)
{
    struct hlt_sim *sim = &run->sim;
    const char *version = values[VERSION];
    unsigned long long port = values[CAFILE] != NULL ? 8883 : 1883, qos = 1, logins = 1;
    int64_t lifetime_ms = 3600000;

    if (version != NULL && strcmp(version, "5") != 0 && strcmp(version, "3.1.1") != 0) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--version '%s' is neither 3.1.1 nor 5", version);
        return false;
    }
    if (!hlt_cli_number("port", values[PORT], 1, 65535, &port) ||
        !hlt_cli_number("qos", values[QOS], 0, 2, &qos) ||
        !hlt_cli_number("retry", values[RETRY], 1, 1000000, &logins) ||
        !duration_of("interval", values[INTERVAL], 1, &sim->interval_ms) ||
        !duration_of("duration", values[DURATION], 0, &run->duration_ms) ||
        !duration_of("retry-interval", values[RETRY_INTERVAL], 1, &sim->retry_ms) ||
        !duration_of("lifetime", values[LIFETIME], 1000, &lifetime_ms)) {
        return false;
    }
    sim->host = values[HOST] != NULL ? values[HOST] : "localhost";
    sim->port = (int)port;
    sim->cafile = values[CAFILE];
    sim->qos = (int)qos;
    sim->v5 = version == NULL || strcmp(version, "5") == 0;
    sim->status = values[STATUS] != NULL;
    sim->quiet = values[QUIET] != NULL;
    sim->logins_max = (unsigned)logins;
    sim->issuer_name = values[ISSUER];
    sim->audience = values[AUDIENCE];
    sim->device_class = values[CLASS];
    sim->lifetime_s = lifetime_ms / 1000;
    sim->topic_prefix = values[TOPIC] != NULL ? values[TOPIC] : "devices";
    return true;
}

static int read_secrets(struct run *run, const char *const *values, int argc, char **argv)
{
    struct hlt_err err = {""};
    const char *value;
    size_t len = 0;
    int at = 0;

    while ((value = hlt_cli_each("role", argc, argv, &at)) != NULL) {
        if (run->sim.role_count == ROLES_MAX) {
            return hlt_cli_fail(HLT_EXIT_USAGE, "more than %d roles", ROLES_MAX);
        }
        run->roles[run->sim.role_count++] = value;
    }
    run->sim.roles = run->roles;
    if (values[KEY] != NULL && hlt_issuer_open(&run->sim.issuer, values[KEY], &err) != HLT_OK) {
        return hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
    }
    if (values[TOKEN_FILE] != NULL) {
        if (hlt_file_read(values[TOKEN_FILE], HLT_FILE_SECRET, TOKEN_MAX, &run->token, &len,
                          &err) != HLT_OK) {
            return hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
        }
        run->token[strcspn(run->token, " \t\r\n")] = '\0';
        run->sim.token = run->token;
    }
    return HLT_EXIT_OK;
}

/* --- the run --- */

static int make_room_for_files(size_t devices)
{
    struct rlimit limit;
    rlim_t need = devices + FILES_EXTRA;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= need) {
        return HLT_EXIT_OK;
    }
    if (limit.rlim_max < need) {
        return hlt_cli_fail(HLT_EXIT_IO, "%zu devices need %llu open files, the limit is %llu",
                            devices, (unsigned long long)need, (unsigned long long)limit.rlim_max);
    }
    limit.rlim_cur = need;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0
               ? HLT_EXIT_OK
               : hlt_cli_fail(HLT_EXIT_IO, "cannot raise the limit of open files: %s",
                              strerror(errno));
}

/* The descriptors' turn; returns how many devices have not ended. */
static size_t turn(struct run *run, int wait_ms)
{
    size_t alive = 0;

    for (size_t i = 0; i < run->count; i++) {
        struct hlt_sim_device *device = &run->device[i];
        bool connected = device->phase == HLT_SIM_CONNECTING || device->phase == HLT_SIM_ONLINE;
        run->poll[i].fd = connected ? mosquitto_socket(device->mosq) : -1;
        run->poll[i].events =
            (short)(POLLIN | (connected && mosquitto_want_write(device->mosq) ? POLLOUT : 0));
        run->poll[i].revents = 0;
        alive += device->phase != HLT_SIM_ENDED;
    }
    if (poll(run->poll, run->count, wait_ms) > 0) {
        for (size_t i = 0; i < run->count; i++) {
            short seen = run->poll[i].revents;
            if (seen != 0) {
                hlt_sim_device_io(&run->device[i], (seen & ~POLLOUT) != 0, (seen & POLLOUT) != 0);
            }
        }
    }
    return alive;
}

static int wait_of(const struct run *run, int64_t now_ms)
{
    int64_t wait_ms = POLL_MS;

    for (size_t i = 0; i < run->count; i++) {
        const struct hlt_sim_device *device = &run->device[i];
        if (device->phase == HLT_SIM_WAITING || device->phase == HLT_SIM_ONLINE) {
            int64_t left_ms = device->due_ms - now_ms;
            wait_ms = left_ms < wait_ms ? left_ms : wait_ms;
        }
    }
    return wait_ms > 0 ? (int)wait_ms : 0;
}

static int loop(struct run *run)
{
    struct hlt_err err = {""};
    int64_t misc_ms = run->sim.started_ms;
    bool told = false;

    while (interrupted == 0) {
        int64_t now_ms = hlt_sim_now_ms();
        if (run->duration_ms > 0 && now_ms - run->sim.started_ms >= run->duration_ms) {
            break;
        }
        for (size_t i = 0; i < run->count; i++) {
            enum hlt_rc rc = hlt_sim_device_step(&run->device[i], now_ms, &err);
            if (rc != HLT_OK &&
                (rc != HLT_EIO || run->sim.connects + run->sim.refused_logins == 0)) {
                return hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg); /* never reached, or no token */
            }
            if (rc != HLT_OK && !told) {
                told = true; /* once: a restarting broker is back soon */
                hlt_cli_fail(HLT_EXIT_IO, "%s; the devices keep trying", err.msg);
            }
        }
        if (now_ms - misc_ms >= MISC_MS) {
            misc_ms = now_ms;
            for (size_t i = 0; i < run->count; i++) {
                (void)mosquitto_loop_misc(run->device[i].mosq);
            }
        }
        if (turn(run, wait_of(run, now_ms)) == 0) {
            break; /* all refused for good */
        }
    }
    return HLT_EXIT_OK;
}

/* Let acknowledgements come in, then log everybody out. */
static void drain(struct run *run)
{
    const struct hlt_sim *sim = &run->sim;
    int64_t until_ms = hlt_sim_now_ms() + DRAIN_MS;

    while (sim->qos > 0 && sim->acknowledged + sim->refused_messages < sim->sent &&
           hlt_sim_now_ms() < until_ms && sim->lost == 0) {
        (void)turn(run, POLL_MS / 10);
    }
    for (size_t i = 0; i < run->count; i++) {
        hlt_sim_device_end(&run->device[i]);
    }
    until_ms = hlt_sim_now_ms() + DRAIN_MS;
    while (turn(run, POLL_MS / 10) > 0 && hlt_sim_now_ms() < until_ms) {
    }
}

static int summary(const struct run *run, bool json)
{
    const struct hlt_sim *sim = &run->sim;
    size_t in = 0;

    for (size_t i = 0; i < run->count; i++) {
        in += run->device[i].was_online;
    }
    double seconds = (double)(hlt_sim_now_ms() - sim->started_ms) / 1000.0;
    if (json) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddNumberToObject(object, "devices", (double)run->count);
        cJSON_AddNumberToObject(object, "loggedIn", (double)in);
        cJSON_AddNumberToObject(object, "sent", (double)sim->sent);
        cJSON_AddNumberToObject(object, "acknowledged", (double)sim->acknowledged);
        cJSON_AddNumberToObject(object, "refusedMessages", (double)sim->refused_messages);
        cJSON_AddNumberToObject(object, "refusedLogins", (double)sim->refused_logins);
        cJSON_AddNumberToObject(object, "connectionsLost", (double)sim->lost);
        cJSON_AddNumberToObject(object, "seconds", seconds);
        hlt_cli_print_json(object);
    } else {
        printf("%zu of %zu devices logged in; %llu messages sent, ", in, run->count,
               (unsigned long long)sim->sent);
        if (sim->qos > 0) {
            printf("%llu acknowledged, ", (unsigned long long)sim->acknowledged);
        }
        printf("%llu refused; %llu logins refused, %llu connections lost; %.1f s\n",
               (unsigned long long)sim->refused_messages, (unsigned long long)sim->refused_logins,
               (unsigned long long)sim->lost, seconds);
    }
    return in == run->count ? HLT_EXIT_OK : HLT_EXIT_NO;
}

static int run_fleet(struct run *run, bool json)
{
    struct sigaction action = {.sa_handler = on_signal}, ignore = {.sa_handler = SIG_IGN};
    struct hlt_err err = {""};
    int code = make_room_for_files(run->count);

    if (code != HLT_EXIT_OK) {
        return code;
    }
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGPIPE, &ignore,
                    NULL); /* TLS writes to closed sockets are errors, not signals */
    run->sim.started_ms = hlt_sim_now_ms();
    run->poll = hlt_cli_resize(NULL, run->count * sizeof(*run->poll));
    for (size_t i = 0; i < run->count; i++) {
        if (hlt_sim_device_init(&run->device[i], &run->sim, &err) != HLT_OK) {
            return hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
        }
        run->device[i].due_ms = run->sim.started_ms + RAMP_MS * (int64_t)i;
        run->device[i].offset_ms = run->sim.interval_ms * (int64_t)i / (int64_t)run->count;
    }
    code = loop(run);
    if (code == HLT_EXIT_OK) {
        drain(run);
        code = summary(run, json);
    }
    return code;
}

int hlt_cmd_simulate(int argc, char **argv)
{
    struct run run = {.sim = {.interval_ms = 5000, .retry_ms = 1000}};
    const char *values[OPTION_COUNT];

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    int code = HLT_EXIT_USAGE;
    if (!conflicts(values) && read_choices(&run, values) &&
        make_devices(&run, values, argc, argv)) {
        code = read_secrets(&run, values, argc, argv);
    }
    if (code == HLT_EXIT_OK) {
        (void)mosquitto_lib_init();
        code = run_fleet(&run, values[JSON] != NULL);
        for (size_t i = 0; i < run.count; i++) {
            hlt_sim_device_free(&run.device[i]);
        }
        (void)mosquitto_lib_cleanup();
    }
    free(run.device);
    free(run.poll);
    free(run.token);
    hlt_issuer_close(run.sim.issuer);
    return code;
}
