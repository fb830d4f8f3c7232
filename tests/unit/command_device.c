/* command_device.c - `haltere device|alert|fleet` show what is in the store, to people and to
 * programs. */
#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <ftw.h>
#include <math.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../shared/record.h"
#include "../../shared/rules.h"
#include "../../shared/store.h"
#include "../../shared/telemetry.h"

static char top[256], db_path[300];
static char output[1 << 20]; /* of the last command, stdout and stderr */
static struct hlt_store *store;

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static struct hlt_device_record device_record(void)
{
    return (struct hlt_device_record){.first_seen_ms = 1700000000000,
                                      .last_seen_ms = 1700000100000,
                                      .messages = 1,
                                      .health = 1.0f,
                                      .band = HLT_BAND_HEALTHY,
                                      .cpu = NAN,
                                      .memory = NAN,
                                      .disk = NAN,
                                      .battery = NAN,
                                      .uptime_s = NAN};
}

static void put(enum hlt_db db, const void *key, size_t key_len, const uint8_t *value, size_t len)
{
    struct hlt_batch *batch = hlt_store_batch(store);
    cr_assert(batch != NULL);
    cr_assert(hlt_batch_put(batch, db, key, key_len, value, len));
}

static void put_device(const char *id, const struct hlt_device_record *record)
{
    static uint8_t bytes[HLT_DEVICE_RECORD_MAX];
    put(HLT_DB_DEVICES, id, strlen(id), bytes, hlt_device_record_write(record, bytes));
}

static void put_blob(enum hlt_db db, const void *key, size_t key_len, const char *text)
{
    uint8_t bytes[1024];
    put(db, key, key_len, bytes, hlt_blob_record_write(text, strlen(text), bytes));
}

static void put_alert(const char *id, const char *name, const char *metric, uint8_t severity,
                      uint8_t status)
{
    struct hlt_alert_record record = {.severity = severity,
                                      .status = status,
                                      .episode = 3,
                                      .count = 7,
                                      .starts_ms = 1700000050000,
                                      .updated_ms = 1700000060000,
                                      .seq = 41,
                                      .value = 95.5,
                                      .expected = NAN,
                                      .threshold = 80,
                                      .score = NAN};
    uint8_t bytes[HLT_ALERT_RECORD_MAX];
    char key[400];

    (void)snprintf(record.device_id, sizeof(record.device_id), "%s", id);
    (void)snprintf(record.name, sizeof(record.name), "%s", name);
    (void)snprintf(record.metric, sizeof(record.metric), "%s", metric);
    (void)snprintf(record.message, sizeof(record.message), "%s is hot", id);
    int len = snprintf(key, sizeof(key), "%s%c%s%c%s", id, 0, name, 0, metric);
    put(HLT_DB_ALERTS, key, (size_t)len, bytes, hlt_alert_record_write(&record, bytes));
}

static void fill(void)
{
    struct hlt_device_record record = device_record();
    put_device("beta", &record);

    record.online = 1;
    record.band = HLT_BAND_CRITICAL;
    record.health = 0.4f;
    record.messages = 4711;
    (void)strcpy(record.device_class, "sensor");
    (void)strcpy(record.address, "192.0.2.7");
    /* What a device says of itself may try to steer the terminal. */
    (void)strcpy(record.firmware, "1.0\033[31m\nDevice beta");
    record.battery = 55.5f;
    record.metric_count = 2;
    record.metric[0] = (struct hlt_metric_record){.name_id = 1,
                                                  .value = 95.5,
                                                  .count = 12,
                                                  .time_ms = 1700000100000,
                                                  .expected = 21.25f,
                                                  .score = 0.875f};
    record.metric[1] = (struct hlt_metric_record){
        .name_id = 9, .value = 3, .count = 1, .time_ms = 1700000100000, .expected = 3, .score = 0};
    put_device("alpha", &record);

    record = device_record();
    record.online = 1;
    record.status = HLT_STATUS_MAINTENANCE;
    (void)strcpy(record.device_class, "gateway");
    put_device("alphabet", &record);

    put_blob(HLT_DB_METRICS, "\0\1", 2, "temperature");
    put_blob(HLT_DB_META, "stream", 6, "abcd1234");
    put_blob(
        HLT_DB_COUNTERS, "engine", 6,
        "{\"version\":\"9.9.9\",\"ts\":1700000100000,\"uptime\":77,\"counters\":{\"readings\":5,"
        "\"idle\":0},\"later\":\"tomorrow\"}");
    put_alert("alpha", "temperature_high", "temperature", HLT_SEV_CRITICAL, HLT_ALERT_FIRING);
    put_alert("alphabet", "silent", "", HLT_SEV_WARNING, HLT_ALERT_ACKNOWLEDGED);
    put_alert("beta", "silent", "", HLT_SEV_CRITICAL, HLT_ALERT_RESOLVED);
}

static void close_store(void)
{
    hlt_store_close(store);
    store = NULL;
}

static void setup(void)
{
    const char *tmp = getenv("TMPDIR");
    struct hlt_store_config config = {
        .path = db_path, .map_bytes = 64u << 20, .flush_interval_ms = 200};
    struct hlt_err err;
    bool clean, replaced;

    (void)snprintf(top, sizeof(top), "%s/haltere-command-XXXXXX", tmp != NULL ? tmp : "/tmp");
    cr_assert(mkdtemp(top) != NULL);
    (void)snprintf(db_path, sizeof(db_path), "%s/db", top);
    cr_assert(hlt_store_open(&store, &config, &clean, &replaced, &err) == HLT_OK, "%s", err.msg);
    fill();
    hlt_store_submit(store, true);
    struct hlt_store_stats stats;
    do { /* until it is on disk */
        (void)usleep(1000);
        hlt_store_stats(store, &stats);
    } while (stats.batches_committed < stats.batches_submitted);
}

static void teardown(void)
{
    hlt_store_close(store);
    (void)nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(command, .init = setup, .fini = teardown, .timeout = 60);

/* Run `haltere ARGUMENTS --db STORE`; its exit code, or -1 with the test skipped where there is no
 * command. */
static int haltere(const char *arguments)
{
    char line[1024];
    const char *program = getenv("HALTERE");

    if (program == NULL || access(program, X_OK) != 0) {
        cr_skip_test("HALTERE does not name the command");
    }
    (void)snprintf(line, sizeof(line), "'%s' %s --db '%s' 2>&1", program, arguments, db_path);
    FILE *pipe = popen(line, "r");
    cr_assert(pipe != NULL);
    size_t len = fread(output, 1, sizeof(output) - 1, pipe);
    output[len] = '\0';
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool says(const char *text)
{
    return strstr(output, text) != NULL;
}

static cJSON *json(void)
{
    cJSON *document = cJSON_Parse(output);
    cr_assert(document != NULL, "not JSON: %s", output);
    return document;
}

static const cJSON *member(const cJSON *object, const char *path)
{
    char copy[128], *rest = NULL;
    (void)snprintf(copy, sizeof(copy), "%s", path);
    for (char *name = strtok_r(copy, ".", &rest); name != NULL; name = strtok_r(NULL, ".", &rest)) {
        object = name[0] >= '0' && name[0] <= '9' ? cJSON_GetArrayItem(object, atoi(name))
                                                  : cJSON_GetObjectItemCaseSensitive(object, name);
    }
    return object;
}

static double number(const cJSON *object, const char *path)
{
    const cJSON *item = member(object, path);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

static const char *text(const cJSON *object, const char *path)
{
    const char *value = cJSON_GetStringValue(member(object, path));
    return value != NULL ? value : "(none)";
}

Test(command, device_list_is_sorted_and_holds_every_device)
{
    cr_assert(haltere("device list") == 0);
    const char *alpha = strstr(output, "\nalpha "), *alphabet = strstr(output, "\nalphabet ");
    const char *beta = strstr(output, "\nbeta ");
    cr_assert(alpha != NULL && alphabet > alpha && beta > alphabet, "%s", output);
    cr_expect(says("192.0.2.7") && says("4711") && says("critical") && says("0.40"));
    cr_expect(says("maintenance"));
    cr_expect(!says("\033["), "no colours into a pipe");
    cr_expect(!says("no broker runs"), "this process is the broker");
}

Test(command, device_list_says_when_no_broker_runs)
{
    close_store();
    cr_assert(haltere("device list") == 0);
    cr_expect(says("no broker runs on this store"));
}

/* The same on a terminal of `columns`. */
static int on_terminal(const char *verb, const char *subverb, unsigned short columns)
{
    struct winsize size = {.ws_row = 24, .ws_col = columns};
    const char *program = getenv("HALTERE");
    size_t len = 0;
    ssize_t got;
    int master, status;

    if (program == NULL || access(program, X_OK) != 0) {
        cr_skip_test("HALTERE does not name the command");
    }
    pid_t pid = forkpty(&master, NULL, NULL, &size);
    cr_assert(pid >= 0);
    if (pid == 0) {
        (void)setenv("TERM", "xterm", 1);
        (void)execl(program, "haltere", verb, subverb, "--db", db_path, (char *)NULL);
        _exit(127);
    }
    while (len < sizeof(output) - 1 &&
           (got = read(master, output + len, sizeof(output) - 1 - len)) > 0) {
        len += (size_t)got;
    }
    output[len] = '\0';
    (void)close(master);
    (void)waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Columns that a terminal would show of the longest line. */
static size_t longest_line(void)
{
    size_t longest = 0, width = 0;

    for (const char *c = output; *c != '\0'; c++) {
        if (*c == '\033') {
            c = strchr(c, 'm');
        } else if (*c == '\n' || *c == '\r') {
            width = 0;
        } else if (((unsigned char)*c & 0xc0) != 0x80) {
            longest = ++width > longest ? width : longest;
        }
    }
    return longest;
}

Test(command, a_terminal_gets_colours_and_tables_of_its_width)
{
    (void)unsetenv("NO_COLOR");
    cr_assert(on_terminal("alert", "list", 200) == 0);
    cr_expect(says("\033[31mcritical"), "%s", output);
    cr_expect(says("temperature_high"));
    size_t needs = longest_line();
    cr_assert(on_terminal("alert", "list", 80) == 0);
    cr_expect(needs > 80 && longest_line() == 80, "%zu, then %zu", needs, longest_line());
    cr_expect(!says("temperature_high"), "cut: %s", output);
    (void)setenv("NO_COLOR", "1", 1);
    cr_assert(on_terminal("alert", "list", 200) == 0);
    cr_expect(!says("\033["));
}

Test(command, device_list_filters)
{
    static const struct {
        const char *arguments;
        bool alpha, alphabet, beta;
    } rows[] = {
        {"--online", true, true, false},
        {"--band critical", true, false, false},
        {"--band healthy", false, true, true},
        {"--band unknown", false, false, false},
        {"--class gateway", false, true, false},
        {"--class gate", false, false, false},
        {"--prefix alpha", true, true, false},
        {"--prefix alphab", false, true, false},
        {"--prefix b", false, false, true},
        {"--prefix zzz", false, false, false},
        {"--limit 1", true, false, false},
        {"--limit 2", true, true, false},
        {"--limit 4", true, true, true},
        {"--online --limit 1", true, false, false},
        {"--prefix= --band=healthy", false, true, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char arguments[128];
        (void)snprintf(arguments, sizeof(arguments), "device list %s", rows[i].arguments);
        cr_assert(haltere(arguments) == 0, "%s: %s", arguments, output);
        cr_expect((strstr(output, "\nalpha ") != NULL) == rows[i].alpha, "%s", arguments);
        cr_expect((strstr(output, "\nalphabet ") != NULL) == rows[i].alphabet, "%s", arguments);
        cr_expect((strstr(output, "\nbeta ") != NULL) == rows[i].beta, "%s", arguments);
    }
}

Test(command, device_list_refuses_filters_that_make_no_sense)
{
    static const char *const rows[] = {"--band critcal", "--limit 0",
                                       "--limit -1",     "--limit 1x",
                                       "--limit=",       "--limit 99999999999999999999",
                                       "--class",        "extra"};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char arguments[128];
        (void)snprintf(arguments, sizeof(arguments), "device list %s", rows[i]);
        cr_expect(haltere(arguments) == 2, "%s: %s", arguments, output);
    }
    (void)haltere("device list --band critcal");
    cr_expect(says("did you mean 'critical'?"), "%s", output);
}

Test(command, device_list_json_is_one_document)
{
    cr_assert(haltere("device list --json") == 0);
    cJSON *root = json();
    cr_assert(cJSON_GetArraySize(member(root, "devices")) == 3);
    cr_expect(strcmp(text(root, "devices.0.deviceId"), "alpha") == 0);
    cr_expect(cJSON_IsTrue(member(root, "devices.0.online")));
    cr_expect(number(root, "devices.0.messages") == 4711);
    cr_expect(number(root, "devices.0.health") == 0.4);
    cr_expect(number(root, "devices.0.metrics") == 2);
    cr_expect(strcmp(text(root, "devices.0.lastSeen"), "2023-11-14T22:15:00.000Z") == 0);
    cr_expect(strcmp(text(root, "devices.1.status"), "maintenance") == 0);
    cr_expect(member(root, "devices.2.address") == NULL, "what is not known is left out");
    cr_expect(cJSON_IsTrue(member(root, "live")));
    cJSON_Delete(root);

    cr_assert(haltere("device list --json --prefix nobody") == 0);
    root = json();
    cr_expect(cJSON_GetArraySize(member(root, "devices")) == 0);
    cJSON_Delete(root);
}

Test(command, device_show_tells_all_and_nothing_steers_the_terminal)
{
    cr_assert(haltere("device show alpha") == 0, "%s", output);
    cr_expect(says("4711") && says("sensor") && says("192.0.2.7") && says("55.5 %"));
    cr_expect(says("temperature") && says("95.5") && says("21.25") && says("0.88"));
    cr_expect(says("#9"), "a metric without a name is shown by its number");
    cr_expect(says("temperature_high") && says("alpha is hot"));
    cr_expect(!says("alphabet is hot"), "another device's alert");
    cr_expect(says("1.0\\x1b[31m\\x0aDevice beta"), "%s", output);
    cr_expect(!says("\033"));
}

Test(command, device_show_json_has_metrics_and_open_alerts)
{
    cr_assert(haltere("device show alpha --json") == 0);
    cJSON *root = json();
    cr_expect(strcmp(text(root, "deviceId"), "alpha") == 0);
    cr_expect(strcmp(text(root, "firmwareVersion"), "1.0\033[31m\nDevice beta") == 0);
    cr_expect(number(root, "battery") == 55.5);
    cr_expect(member(root, "cpu") == NULL);
    cr_expect(strcmp(text(root, "metrics.0.metric"), "temperature") == 0);
    cr_expect(number(root, "metrics.0.value") == 95.5);
    cr_expect(number(root, "metrics.0.expected") == 21.25);
    cr_expect(number(root, "metrics.0.score") == 0.875);
    cr_expect(cJSON_GetArraySize(member(root, "alerts")) == 1);
    cJSON_Delete(root);
    cr_assert(haltere("device show beta --json") == 0);
    root = json();
    cr_expect(cJSON_GetArraySize(member(root, "alerts")) == 0, "it is resolved");
    cJSON_Delete(root);
}

Test(command, device_show_of_an_unknown_device_is_a_no)
{
    char arguments[600];

    cr_expect(haltere("device show nobody") == 1);
    cr_expect(says("no device 'nobody'"));
    cr_expect(haltere("device show alph") == 1, "a prefix is not a name");
    cr_expect(haltere("device show ''") == 1);
    (void)snprintf(arguments, sizeof(arguments), "device show %0512d", 0);
    cr_expect(haltere(arguments) == 1, "longer than any key");
    cr_expect(haltere("device show") == 2);
    cr_expect(haltere("device show alpha beta") == 2);
}

Test(command, alert_list_shows_the_open_ones_worst_first)
{
    cr_assert(haltere("alert list") == 0);
    const char *critical = strstr(output, "critical"), *warning = strstr(output, "warning");
    cr_assert(critical != NULL && warning > critical, "%s", output);
    cr_expect(says("acknowledged") && !says("beta"));
    cr_assert(haltere("alert list --all") == 0);
    cr_expect(says("beta") && says("resolved"));
    cr_expect(strstr(output, "beta") > strstr(output, "alphabet"), "resolved ones come last");
    cr_assert(haltere("alert list --device alphabet") == 0);
    cr_expect(!says("alpha is hot") && says("alphabet is hot"));
    cr_assert(haltere("alert list --device nobody") == 0);
    cr_expect(says("no open alerts"));
}

Test(command, alert_list_json_has_the_members_of_an_alert_message)
{
    char id[33];

    cr_assert(haltere("alert list --json") == 0);
    cJSON *root = json();
    cr_assert(cJSON_GetArraySize(member(root, "alerts")) == 2);
    hlt_alert_id("alpha", "temperature_high", "temperature", 3, id);
    cr_expect(strcmp(text(root, "alerts.0.id"), id) == 0);
    cr_expect(strcmp(text(root, "alerts.0.stream"), "abcd1234") == 0);
    cr_expect(strcmp(text(root, "alerts.0.status"), "firing") == 0);
    cr_expect(strcmp(text(root, "alerts.0.severity"), "critical") == 0);
    cr_expect(strcmp(text(root, "alerts.0.alertname"), "temperature_high") == 0);
    cr_expect(strcmp(text(root, "alerts.0.deviceId"), "alpha") == 0);
    cr_expect(strcmp(text(root, "alerts.0.metric"), "temperature") == 0);
    cr_expect(strcmp(text(root, "alerts.0.startsAt"), "2023-11-14T22:14:10.000Z") == 0);
    cr_expect(number(root, "alerts.0.v") == 1 && number(root, "alerts.0.seq") == 41);
    cr_expect(number(root, "alerts.0.value") == 95.5 && number(root, "alerts.0.threshold") == 80);
    cr_expect(number(root, "alerts.0.count") == 7);
    cr_expect(member(root, "alerts.0.expected") == NULL && member(root, "alerts.0.endsAt") == NULL);
    cr_expect(member(root, "alerts.1.metric") == NULL);
    cJSON_Delete(root);
    cr_assert(haltere("alert list --ids") == 0);
    cr_expect(says(id));
}

Test(command, fleet_status_counts_and_a_critical_alert_is_a_no)
{
    char pid[32];

    cr_expect(haltere("fleet status") == 1);
    (void)snprintf(pid, sizeof(pid), "running, pid %ld", (long)getpid());
    cr_expect(says(pid), "%s", output);
    cr_expect(says("Devices   3, 2 online, 2 healthy, 0 degraded, 1 critical, 0 unknown"), "%s",
              output);
    cr_expect(says("Alerts    2 open, 1 critical, 1 warning, 0 info"));
    cr_expect(says("Messages  4713, 2 metrics"));
    cr_expect(says("9.9.9") && says("counters.readings") && says("later"), "unknown members too");
    cr_expect(!says("counters.idle"));
}

Test(command, fleet_status_without_a_critical_alert_is_a_yes)
{
    put_alert("alpha", "temperature_high", "temperature", HLT_SEV_CRITICAL, HLT_ALERT_RESOLVED);
    hlt_store_submit(store, true);
    close_store();
    cr_expect(haltere("fleet status --json") == 0, "%s", output);
    cJSON *root = json();
    cr_expect(cJSON_IsTrue(member(root, "healthy")));
    cr_expect(number(root, "devices.total") == 3 && number(root, "devices.critical") == 1);
    cr_expect(number(root, "alerts.open") == 1 && number(root, "alerts.critical") == 0);
    cr_expect(cJSON_IsFalse(member(root, "broker.running")));
    cr_expect(number(root, "store.usedBytes") > 0);
    cr_expect(strcmp(text(root, "engine.version"), "9.9.9") == 0);
    cJSON_Delete(root);
}

Test(command, damaged_records_are_told_and_do_not_hide_the_others)
{
    static uint8_t bytes[HLT_DEVICE_RECORD_MAX];
    struct hlt_device_record record = device_record();
    size_t len = hlt_device_record_write(&record, bytes);

    bytes[len - 1] ^= 1;
    put(HLT_DB_DEVICES, "broken", 6, bytes, len);
    hlt_store_submit(store, true);
    close_store();
    cr_expect(haltere("device list") == 3);
    cr_expect(says("alphabet") && says("1 damaged records") && says("store check"), "%s", output);
    cr_expect(haltere("device show broken") == 3);
    cr_expect(haltere("device show alpha") == 0);
    cr_expect(haltere("fleet status") == 3);
}
