/* options.c - tests of shared/options.c: defaults, limits, and that every mistake is told at once.
 */
#include "../../shared/options.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../shared/text.h"

#define PAIRS_MAX 80

static struct hlt_options options;
static struct hlt_problems problems;

static void clean_up(void)
{
    hlt_options_free(&options);
    hlt_problems_free(&problems);
}

TestSuite(options, .fini = clean_up);

/* Parse "name value" lines; line numbers are those of the text. */
static enum hlt_rc parse(const char *text)
{
    static char copy[20000];
    const char *names[PAIRS_MAX];
    const char *values[PAIRS_MAX];
    unsigned lines[PAIRS_MAX];
    size_t count = 0;
    char *save = NULL;

    clean_up();
    cr_assert(strlen(text) < sizeof(copy));
    memcpy(copy, text, strlen(text) + 1);
    for (char *line = strtok_r(copy, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        cr_assert(count < PAIRS_MAX);
        char *blank = strchr(line, ' ');
        if (blank != NULL) {
            *blank = '\0';
        }
        names[count] = line;
        values[count] = blank != NULL ? blank + 1 : NULL;
        lines[count] = (unsigned)count + 1;
        count++;
    }
    return hlt_options_parse(&options, names, values, count, "m.conf", lines, &problems);
}

#define NEEDED "keys_file /k\nacl_file /a\ndb_path /d\nissuer i\naudience a\n"

/* NEEDED and one more line. */
static enum hlt_rc parse_with(const char *line)
{
    char text[8000];
    (void)snprintf(text, sizeof(text), NEEDED "%s\n", line);
    return parse(text);
}

static bool told(enum hlt_problem_kind kind, const char *words)
{
    for (size_t i = 0; i < problems.count; i++) {
        if (problems.item[i].kind == kind && strstr(problems.item[i].text, words) != NULL) {
            return true;
        }
    }
    return false;
}

Test(options, defaults_are_those_of_the_header)
{
    cr_assert(parse(NEEDED) == HLT_OK);
    cr_assert(problems.errors == 0 && problems.warnings == 0);
    cr_expect(options.key_count == 1);
    cr_expect_str_eq(options.keys[0].path, "/k");
    cr_expect(options.leeway_s == 30);
    cr_expect(options.max_token_bytes == 8192);
    cr_expect(options.max_token_lifetime_s == 30 * 86400);
    cr_expect(!options.token_in_username && !options.client_id_prefix);
    cr_expect(options.require_exp && options.require_iss && options.require_aud);
    cr_expect(!options.allow_other_auth && !options.offline_after_exp_deny);
    cr_expect(options.admin_role_count == 1);
    cr_expect_str_eq(options.admin_roles[0], "haltere-admin");
    cr_expect(options.identity_keep_s == 7 * 86400);
    cr_expect(options.max_sessions == 100000);
    cr_expect_str_eq(options.acl_file, "/a");
    cr_expect(options.rules_file == NULL);
    cr_expect_str_eq(options.db_path, "/d");
    cr_expect(options.max_devices == 1000000 && options.max_alerts == 100000);
    cr_expect(options.flush_interval_ms == 5000);
    cr_expect(options.store_max_bytes == UINT64_C(64) << 30);
    cr_expect(options.max_revocations == 100000);
    cr_expect(options.audit_keep_s == 365 * 86400 && options.audit_max_records == 1000000);
    cr_expect(options.expiry_notice_s == 60);
    cr_expect(options.heartbeat_interval_ms == 30000 && options.health_interval_ms == 60000);
    cr_expect(options.health_publish == HLT_HEALTH_ON);
    cr_expect(options.health_publish_devices == 20000);
    cr_expect_str_eq(options.device_prefix, "devices");
    cr_expect_str_eq(options.alert_prefix, "alerts");
    cr_expect_str_eq(options.system_prefix, "system");
    cr_expect(options.log_level == 3);
    cr_expect(options.max_children == 1000);
}

Test(options, a_given_value_replaces_the_default)
{
    cr_assert(parse(NEEDED "leeway 1min\ntoken_source username\nclient_id_match prefix\n"
                           "require_iss false\nrequire_aud 0\nallow_other_auth 1\n"
                           "admin_roles boss\nadmin_roles ops\nhealth_publish changes\n"
                           "log_level debug\nflush_interval 250ms\nstore_max_size 1GiB\n"
                           "topic_devices site/a/devices\noffline_after_exp deny  \n"
                           "rules_file   /etc/r.json \t\n") == HLT_OK);
    cr_expect(options.leeway_s == 60);
    cr_expect(options.token_in_username && options.client_id_prefix);
    cr_expect(!options.require_iss && !options.require_aud && options.allow_other_auth);
    cr_expect(options.admin_role_count == 2);
    cr_expect_str_eq(options.admin_roles[1], "ops");
    cr_expect(options.health_publish == HLT_HEALTH_CHANGES);
    cr_expect(options.log_level == 4);
    cr_expect(options.flush_interval_ms == 250);
    cr_expect(options.store_max_bytes == UINT64_C(1) << 30);
    cr_expect_str_eq(options.device_prefix, "site/a/devices");
    cr_expect(options.offline_after_exp_deny);
    cr_expect_str_eq(options.rules_file, "/etc/r.json", "blanks around a value are dropped");
}

/* Every numeric option: both limits pass, one past each does not. The limits stand here again on
 * purpose: a slip in the table must show. */
Test(options, ranges_hold_at_each_limit_and_one_past_it)
{
    static const struct {
        const char *name, *low, *below, *high, *above;
    } rows[] = {
        {"leeway", "0s", NULL, "10min", "601s"},
        {"max_token_bytes", "256", "255", "65535", "65536"},
        {"max_token_lifetime", "0", NULL, "3650d", "87601h"},
        {"identity_keep", "1min", "59s", "3650d", "87601h"},
        {"max_sessions", "1", "0", "10000000", "10000001"},
        {"max_devices", "1", "0", "10000000", "10000001"},
        {"max_alerts", "100", "99", "10000000", "10000001"},
        {"flush_interval", "100ms", "99ms", "60s", "60001ms"},
        {"store_max_size", "64MiB", "67108863", "16TiB", "17592186044417"},
        {"max_revocations", "100", "99", "10000000", "10000001"},
        {"audit_keep", "0s", NULL, "3650d", "87601h"},
        {"audit_max_records", "10000", "9999", "100000000", "100000001"},
        {"expiry_notice", "0s", NULL, "1d", "86401s"},
        {"heartbeat_interval", "1s", "999ms", "1h", "3600001ms"},
        {"health_interval", "1s", "999ms", "1d", "86400001ms"},
        {"health_publish_max", "0", NULL, "10000000", "10000001"},
        {"max_children", "0", NULL, "1000000", "1000001"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *good[] = {rows[i].low, rows[i].high};
        const char *bad[] = {rows[i].below, rows[i].above};
        char line[100];
        for (size_t j = 0; j < 2; j++) {
            (void)snprintf(line, sizeof(line), "%s %s", rows[i].name, good[j]);
            cr_expect(parse_with(line) == HLT_OK, "%s", line);
            if (bad[j] != NULL) {
                (void)snprintf(line, sizeof(line), "%s %s", rows[i].name, bad[j]);
                cr_expect(parse_with(line) == HLT_EPARSE, "%s", line);
                cr_expect(problems.errors == 1 && told(HLT_PROBLEM_ERROR, "out of range"), "%s",
                          line);
                cr_expect(told(HLT_PROBLEM_ERROR, rows[i].name), "%s", line);
            }
        }
    }
}

Test(options, a_bad_value_is_told_with_its_name_and_how_to_mend_it)
{
    static const struct {
        const char *line, *name, *words;
    } rows[] = {
        {"leeway soon", "plugin_opt_leeway", "such as 30s"},
        {"leeway 5m", "plugin_opt_leeway", "not a duration"},
        {"leeway -1s", "plugin_opt_leeway", "not a duration"},
        {"leeway 1500ms", "plugin_opt_leeway", "whole seconds"},
        {"max_devices 1k", "plugin_opt_max_devices", "digits only"},
        {"max_devices 4KiB", "plugin_opt_max_devices", "digits only"},
        {"max_devices 1.5", "plugin_opt_max_devices", "digits only"},
        {"max_token_bytes 4K", "plugin_opt_max_token_bytes", "not a size"},
        {"token_source passwrod", "plugin_opt_token_source", "did you mean 'password'"},
        {"token_source cookie", "plugin_opt_token_source", "password|username"},
        {"require_exp yes", "plugin_opt_require_exp", "false|true"},
        {"require_exp 2", "plugin_opt_require_exp", "false|true"},
        {"log_level inof", "plugin_opt_log_level", "did you mean 'info'"},
        {"leeway", "plugin_opt_leeway", "has no value"},
        {"rules_file    ", "plugin_opt_rules_file", "has no value"},
        {"topic_devices a/+/b", "plugin_opt_topic_devices", "wildcard"},
        {"topic_devices /a", "plugin_opt_topic_devices", "empty level"},
        {"topic_devices a/", "plugin_opt_topic_devices", "empty level"},
        {"topic_devices a//b", "plugin_opt_topic_devices", "empty level"},
        {"topic_devices $SYS", "plugin_opt_topic_devices", "begins with $"},
        {"issuer \xff", "plugin_opt_issuer", "not valid UTF-8"},
        {"issuer a\x01", "plugin_opt_issuer", "control character"},
        {"acl_fil /x", "plugin_opt_acl_fil", "did you mean plugin_opt_acl_file"},
        {"DB_PATH /x", "plugin_opt_DB_PATH", "did you mean plugin_opt_db_path"},
        {"frobnicate 1", "plugin_opt_frobnicate", "unknown option"},
        {"db_path /e", "plugin_opt_db_path", "given twice (first on line 3)"},
        {"keys_file alg=HS256", "plugin_opt_keys_file", ""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_expect(parse_with(rows[i].line) == HLT_EPARSE, "row %zu", i);
        cr_expect(problems.errors == 1, "row %zu: %zu errors", i, problems.errors);
        const struct hlt_problem *item = &problems.item[0];
        cr_expect(strstr(item->text, rows[i].name) != NULL, "row %zu: %s", i, item->text);
        cr_expect(strstr(item->text, rows[i].words) != NULL, "row %zu: %s", i, item->text);
        cr_expect(item->line == 6 && strcmp(item->file, "m.conf") == 0, "row %zu", i);
    }
}

Test(options, every_mistake_is_told_at_once)
{
    cr_assert(parse("leeway x\nmax_devices y\nbogus 1\n") == HLT_EPARSE);
    cr_assert(problems.errors == 6);
    cr_expect(told(HLT_PROBLEM_ERROR, "plugin_opt_keys_file is missing"));
    cr_expect(told(HLT_PROBLEM_ERROR, "plugin_opt_acl_file is missing"));
    cr_expect(told(HLT_PROBLEM_ERROR, "plugin_opt_db_path is missing"));
    cr_expect(told(HLT_PROBLEM_ERROR, "plugin_opt_leeway"));
    cr_expect(told(HLT_PROBLEM_ERROR, "plugin_opt_max_devices"));
    cr_expect(told(HLT_PROBLEM_ERROR, "plugin_opt_bogus"));
}

Test(options, earlier_problems_are_not_counted_as_ours)
{
    const char *names[] = {"keys_file", "acl_file", "db_path"};
    const char *values[] = {"/k", "/a", "/d"};
    hlt_problems_add(&problems, HLT_PROBLEM_ERROR, NULL, 0, 0, "somebody else's");
    cr_assert(hlt_options_parse(&options, names, values, 3, NULL, NULL, &problems) == HLT_OK);
    cr_assert(problems.errors == 1);
    cr_assert(problems.item[1].file == NULL && problems.item[1].line == 0);
}

Test(options, lists_hold_sixteen_and_not_seventeen)
{
    char text[4000] = NEEDED;
    for (int i = 1; i < HLT_LIST_MAX; i++) {
        (void)snprintf(text + strlen(text), 40, "issuer issuer-%d\n", i);
    }
    cr_assert(parse(text) == HLT_OK);
    cr_assert(options.issuer_count == HLT_LIST_MAX);
    (void)snprintf(text + strlen(text), 40, "issuer one-more\n");
    cr_assert(parse(text) == HLT_EPARSE);
    cr_assert(told(HLT_PROBLEM_ERROR, "more than 16 times"));
}

Test(options, keys_files_are_thirty_two_at_most)
{
    char text[4000] = NEEDED;
    for (int i = 1; i < HLT_KEY_SOURCES_MAX; i++) {
        (void)snprintf(text + strlen(text), 64, "keys_file kid=k%d /k%d\n", i, i);
    }
    cr_assert(parse(text) == HLT_OK);
    cr_assert(options.key_count == HLT_KEY_SOURCES_MAX);
    cr_assert_str_eq(options.keys[31].path, "/k31");
    cr_assert_str_eq(options.keys[31].kid, "k31");
    (void)snprintf(text + strlen(text), 40, "keys_file /one-more\n");
    cr_assert(parse(text) == HLT_EPARSE);
    cr_assert(told(HLT_PROBLEM_ERROR, "more than 32 times"));
}

Test(options, texts_have_limits)
{
    char line[5000];
    static const struct {
        const char *name;
        size_t max;
    } rows[] = {{"topic_alerts", 128}, {"issuer", 255}, {"rules_file", 4095}};
    for (size_t i = 0; i < 3; i++) {
        size_t at = (size_t)snprintf(line, sizeof(line), "%s ", rows[i].name);
        memset(line + at, 'x', rows[i].max + 1);
        line[at + rows[i].max] = '\0';
        cr_expect(parse_with(line) == HLT_OK, "row %zu", i);
        line[at + rows[i].max] = 'x';
        line[at + rows[i].max + 1] = '\0';
        cr_expect(parse_with(line) == HLT_EPARSE, "row %zu", i);
        cr_expect(told(HLT_PROBLEM_ERROR, "too long"), "row %zu", i);
    }
}

Test(options, topic_prefixes_may_not_overlap)
{
    static const struct {
        const char *lines;
        bool good;
    } rows[] = {
        {"topic_devices alerts", false},
        {"topic_devices alerts/devices", false},
        {"topic_alerts a\ntopic_system a/b", false},
        {"topic_alerts a/b\ntopic_system a", false},
        {"topic_alerts x/a\ntopic_system x/b\ntopic_devices x/c", true},
        {"topic_devices alertsandmore", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_expect((parse_with(rows[i].lines) == HLT_OK) == rows[i].good, "row %zu", i);
        cr_expect(told(HLT_PROBLEM_ERROR, "overlap") != rows[i].good, "row %zu", i);
    }
}

Test(options, unchecked_claims_are_warned_of)
{
    cr_assert(parse("keys_file /k\nacl_file /a\ndb_path /d\n") == HLT_OK);
    cr_assert(problems.warnings == 2);
    cr_assert(told(HLT_PROBLEM_WARNING, "no plugin_opt_issuer"));
    cr_assert(told(HLT_PROBLEM_WARNING, "iss must be present but its value is not compared"));
    cr_assert(told(HLT_PROBLEM_WARNING, "no plugin_opt_audience"));
    cr_assert(
        parse("keys_file /k\nacl_file /a\ndb_path /d\nrequire_iss false\nrequire_exp false\n") ==
        HLT_OK);
    cr_assert(told(HLT_PROBLEM_WARNING, "iss may be missing"));
    cr_assert(told(HLT_PROBLEM_WARNING, "require_exp is false"));
    cr_assert(parse("keys_file issuer=x /k\nacl_file /a\ndb_path /d\naudience a\n") == HLT_OK);
    cr_assert(problems.warnings == 0, "keys that name their issuer check iss");
}

Test(options, a_keys_issuer_must_be_one_that_is_accepted)
{
    cr_assert(parse_with("keys_file issuer=i /k2") == HLT_OK);
    cr_assert(parse_with("keys_file issuer=stranger /k2") == HLT_EPARSE);
    cr_assert(told(HLT_PROBLEM_ERROR, "'stranger'"));
}

Test(options, the_same_list_value_twice_is_a_warning)
{
    cr_assert(parse_with("audience a") == HLT_OK);
    cr_assert(options.audience_count == 1);
    cr_assert(told(HLT_PROBLEM_WARNING, "plugin_opt_audience: 'a' is given twice"));
}

Test(options, every_default_lies_in_its_own_range)
{
    for (size_t i = 0; hlt_option_at(i) != NULL; i++) {
        const struct hlt_option_info *info = hlt_option_at(i);
        char line[200];
        cr_expect(info->effect[0] != '\0' && info->effect[strlen(info->effect) - 1] == '.', "%s",
                  info->name);
        if (info->fallback[0] != '\0' && strcmp(info->fallback, "required") != 0) {
            (void)snprintf(line, sizeof(line), "%s %s", info->name, info->fallback);
            cr_expect(parse_with(line) == HLT_OK, "%s", line);
        }
    }
    cr_assert(hlt_option_at(1000) == NULL);
}

/* The example shows each option with its default, active or behind "#". */
Test(options, mosquitto_conf_example_shows_every_option_with_its_default)
{
    const char *source = getenv("HALTERE_SOURCE_DIR");
    char path[1000];
    if (source != NULL) {
        (void)snprintf(path, sizeof(path), "%s/mosquitto.conf.example", source);
    } else {
        (void)snprintf(path, sizeof(path), "%.*s../../mosquitto.conf.example",
                       (int)(strrchr(__FILE__, '/') - __FILE__ + 1), __FILE__);
    }
    FILE *stream = fopen(path, "r");
    cr_assert(stream != NULL, "%s", path);
    static char text[50000];
    size_t len = fread(text, 1, sizeof(text) - 1, stream);
    text[len] = '\0';
    cr_assert(fclose(stream) == 0);

    for (size_t i = 0; hlt_option_at(i) != NULL; i++) {
        const struct hlt_option_info *info = hlt_option_at(i);
        bool has_default = info->fallback[0] != '\0' && strcmp(info->fallback, "required") != 0;
        bool required = strcmp(info->fallback, "required") == 0;
        char want[200];
        (void)snprintf(want, sizeof(want), "\n%splugin_opt_%s %s%s", required ? "" : "#",
                       info->name, has_default ? info->fallback : "", has_default ? "\n" : "");
        cr_expect(strstr(text, want) != NULL, "missing:%s", want);
    }
    /* And nothing that is no option. */
    for (const char *at = strstr(text, "plugin_opt_"); at != NULL; at = strstr(at, "plugin_opt_")) {
        char name[64];
        at += strlen("plugin_opt_");
        (void)snprintf(name, sizeof(name), "%.*s", (int)strcspn(at, " \n"), at);
        bool known = false;
        for (size_t i = 0; hlt_option_at(i) != NULL; i++) {
            known = known || strcmp(hlt_option_at(i)->name, name) == 0;
        }
        cr_expect(known, "the example has an unknown option %s", name);
    }
}
