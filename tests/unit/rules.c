/* rules.c - tests of shared/rules.c: the built-in rules, changing them, and refusing mistakes. */
#include "../../shared/rules.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct hlt_rules *rules;
static struct hlt_problems problems;

static void clean_up(void)
{
    hlt_rules_free(rules);
    rules = NULL;
    hlt_problems_free(&problems);
}

TestSuite(rules, .fini = clean_up);

static enum hlt_rc parse(const char *text)
{
    clean_up();
    enum hlt_rc rc = hlt_rules_parse(&rules, text, strlen(text), "r.json", &problems);
    cr_assert((rc == HLT_OK) == (rules != NULL));
    cr_assert((rc == HLT_OK) == (problems.errors == 0));
    return rc;
}

/* A document with these rules. */
static enum hlt_rc parse_rules(const char *entries)
{
    static char text[400000];
    (void)snprintf(text, sizeof(text), "{\"version\":1,\"rules\":[\n%s]}", entries);
    return parse(text);
}

static bool told(const char *words)
{
    for (size_t i = 0; i < problems.count; i++) {
        if (strstr(problems.item[i].text, words) != NULL) {
            return true;
        }
    }
    return false;
}

static const struct hlt_rule *rule(const char *name)
{
    const struct hlt_rule *found = hlt_rules_find(rules, name);
    cr_assert(found != NULL, "%s", name);
    return found;
}

Test(rules, built_in_rules_are_those_of_the_design)
{
    static const struct {
        const char *name;
        enum hlt_rule_kind kind;
        enum hlt_severity severity;
        uint32_t count;
        int64_t clear_ms, cooldown_ms, renotify_ms;
        bool deny;
    } rows[] = {
        {"temperature_high", HLT_RULE_THRESHOLD, HLT_SEV_NONE, 0, 0, 30000, 3600000, false},
        {"anomaly", HLT_RULE_ANOMALY, HLT_SEV_WARNING, 0, 60000, 60000, 3600000, false},
        {"silence", HLT_RULE_SILENCE, HLT_SEV_CRITICAL, 0, 0, 30000, 3600000, false},
        {"spoof", HLT_RULE_SPOOF, HLT_SEV_CRITICAL, 1, 60000, 30000, 3600000, true},
        {"malformed", HLT_RULE_MALFORMED, HLT_SEV_WARNING, 1, 300000, 30000, 3600000, false},
        {"auth_failure", HLT_RULE_AUTH_FAILURE, HLT_SEV_WARNING, 5, 300000, 30000, 3600000, false},
        {"acl_denied", HLT_RULE_ACL_DENIED, HLT_SEV_WARNING, 10, 300000, 30000, 3600000, false},
        {"limit_exceeded", HLT_RULE_LIMIT_EXCEEDED, HLT_SEV_WARNING, 10, 300000, 30000, 3600000,
         false},
        {"clone", HLT_RULE_CLONE, HLT_SEV_CRITICAL, 5, 600000, 30000, 3600000, false},
        {"policy_reload_failed", HLT_RULE_SYSTEM, HLT_SEV_CRITICAL, 0, 0, 30000, 3600000, false},
        {"shadow_reload_failed", HLT_RULE_SYSTEM, HLT_SEV_WARNING, 0, 0, 30000, 3600000, false},
        {"rules_reload_failed", HLT_RULE_SYSTEM, HLT_SEV_CRITICAL, 0, 0, 30000, 3600000, false},
        {"keys_reload_failed", HLT_RULE_SYSTEM, HLT_SEV_CRITICAL, 0, 0, 30000, 3600000, false},
        {"store_failing", HLT_RULE_SYSTEM, HLT_SEV_CRITICAL, 0, 0, 30000, 3600000, false},
        {"devices_full", HLT_RULE_SYSTEM, HLT_SEV_WARNING, 0, 0, 30000, 3600000, false},
        {"alerts_full", HLT_RULE_SYSTEM, HLT_SEV_WARNING, 0, 0, 30000, 3600000, false},
        {"sessions_full", HLT_RULE_SYSTEM, HLT_SEV_WARNING, 0, 0, 30000, 3600000, false},
        {"revocations_full", HLT_RULE_SYSTEM, HLT_SEV_CRITICAL, 0, 0, 30000, 3600000, false},
        {"limiter_full", HLT_RULE_SYSTEM, HLT_SEV_WARNING, 0, 0, 30000, 3600000, false},
    };
    cr_assert(hlt_rules_builtin(&rules) == HLT_OK);
    cr_assert(rules->count == sizeof(rows) / sizeof(rows[0]));
    for (size_t i = 0; i < rules->count; i++) {
        const struct hlt_rule *r = rule(rows[i].name);
        cr_expect(r->kind == rows[i].kind && r->severity == rows[i].severity, "row %zu", i);
        cr_expect(r->count == rows[i].count && r->deny == rows[i].deny, "row %zu", i);
        cr_expect(r->clear_ms == rows[i].clear_ms, "row %zu", i);
        cr_expect(r->cooldown_ms == rows[i].cooldown_ms, "row %zu", i);
        cr_expect(r->renotify_ms == rows[i].renotify_ms, "row %zu", i);
        cr_expect(r->enabled && r->line == 0 && r->for_ms == 0, "row %zu", i);
        cr_expect(r->summary[0] != '\0', "row %zu", i);
    }
    const struct hlt_rule *hot = rule("temperature_high");
    cr_expect_str_eq(hot->metric, "temperature");
    cr_expect(hot->critical.above == 80 && hot->warning.above == 60 && hot->hysteresis == 1);
    cr_expect(isinf(hot->critical.below) && isinf(hot->info.above));
    cr_expect(rule("silence")->after_ms == 300000 && rule("silence")->cadence_factor == 3);
    cr_expect(rule("anomaly")->score == 0.5);
    cr_expect(rule("auth_failure")->window_ms == 60000);
    cr_expect_str_eq(rules->digest, "builtin");
    cr_expect(rules->detector[0] != '\0');
    cr_assert(hlt_rules_find(rules, "no_such") == NULL);
}

Test(rules, a_file_changes_only_what_it_names)
{
    cr_assert(
        parse("{\"version\":1,\"detector\":\"zscore\",\"rules\":[\n"
              " {\"name\":\"temperature_high\",\"critical\":{\"above\":90},\"for\":\"10s\"},\n"
              " {\"name\":\"acl_denied\",\"enabled\":false},\n"
              " {\"name\":\"devices_full\",\"severity\":\"critical\",\"renotify\":\"0s\"}]}") ==
        HLT_OK);
    const struct hlt_rule *hot = rule("temperature_high");
    cr_expect(hot->critical.above == 90 && hot->warning.above == 60);
    cr_expect(hot->for_ms == 10000 && hot->hysteresis == 1 && hot->line == 2);
    cr_expect(!rule("acl_denied")->enabled && rule("acl_denied")->count == 10);
    cr_expect(rule("devices_full")->severity == HLT_SEV_CRITICAL);
    cr_expect(rule("devices_full")->renotify_ms == 0);
    cr_expect(rule("silence")->line == 0);
    cr_expect_str_eq(rules->detector, "zscore");
    cr_expect(strlen(rules->digest) == 16);
}

/* SHA-256 of {"version":1} begins with these bytes (sha256sum). */
Test(rules, digest_is_the_beginning_of_sha256)
{
    cr_assert(parse("{\"version\":1}") == HLT_OK);
    cr_assert_str_eq(rules->digest, "2430f1a2ad2982d0");
}

Test(rules, defaults_fill_in_what_no_rule_says_itself)
{
    cr_assert(parse("{\"version\":1,\"rules\":[{\"name\":\"x\",\"metric\":\"m\","
                    "\"info\":{\"below\":1},\"cooldown\":\"7s\"}],\"defaults\":{\"for\":\"1s\","
                    "\"clearAfter\":\"2s\",\"cooldown\":\"3s\",\"renotify\":\"4s\"}}") == HLT_OK);
    const struct hlt_rule *x = rule("x");
    cr_expect(x->for_ms == 1000 && x->clear_ms == 2000 && x->renotify_ms == 4000);
    cr_expect(x->cooldown_ms == 7000, "its own value stays");
    cr_expect(rule("anomaly")->clear_ms == 60000 && rule("anomaly")->cooldown_ms == 60000);
    cr_expect(rule("anomaly")->for_ms == 1000);
    cr_expect(rule("silence")->for_ms == 0 && rule("silence")->clear_ms == 2000);
    cr_expect(rule("store_failing")->clear_ms == 0 && rule("store_failing")->cooldown_ms == 3000);
}

Test(rules, a_new_name_adds_a_threshold)
{
    cr_assert(parse_rules("{\"name\":\"battery_low\",\"metric\":\"battery\","
                          "\"critical\":{\"below\":5},\"warning\":{\"below\":20},"
                          "\"hysteresis\":0.5,\"classes\":[\"sensor\",\"tr\\u00e4ger\"],"
                          "\"exceptClasses\":[\"host\"],\"summary\":\"charge it\"}") == HLT_OK);
    const struct hlt_rule *r = rule("battery_low");
    cr_expect(r->kind == HLT_RULE_THRESHOLD && r->enabled && r->line == 2);
    cr_expect(r->critical.below == 5 && r->warning.below == 20 && isinf(r->critical.above));
    cr_expect(r->hysteresis == 0.5 && r->class_count == 2 && r->except_class_count == 1);
    cr_expect_str_eq(r->classes[1], "tr\xc3\xa4ger");
    cr_expect_str_eq(r->summary, "charge it");
}

Test(rules, null_takes_a_built_in_bound_away)
{
    cr_assert(parse_rules("{\"name\":\"temperature_high\",\"warning\":null}") == HLT_OK);
    cr_assert(isinf(rule("temperature_high")->warning.above));
    cr_assert(parse_rules("{\"name\":\"temperature_high\",\"warning\":null,\"critical\":null}") ==
              HLT_EPARSE);
    cr_assert(told("has no bound"));
    cr_assert(parse_rules("{\"name\":\"temperature_high\",\"enabled\":false,\"warning\":null,"
                          "\"critical\":null}") == HLT_OK);
}

Test(rules, mistakes_are_told_with_their_words)
{
    static const struct {
        const char *entry, *words;
    } rows[] = {
        {"7", "each rule as an object"},
        {"{}", "has no name"},
        {"{\"name\":7}", "'name' is a number"},
        {"{\"name\":\"Temp\"}", "must begin with a letter"},
        {"{\"name\":\"9a\"}", "must begin with a letter"},
        {"{\"name\":\"\"}", "must begin with a letter"},
        {"{\"name\":\"a-b\"}", "a-z, 0-9 and _"},
        {"{\"name\":\"a\",\"kind\":\"treshold\"}", "did you mean \"threshold\""},
        {"{\"name\":\"a\",\"kind\":\"silence\"}", "only rules of kind threshold can be added"},
        {"{\"name\":\"spoof\",\"kind\":\"silence\"}", "built-in rule of kind spoof"},
        {"{\"name\":\"spoof\",\"score\":0.5}", "'score' does not belong to a rule of kind spoof"},
        {"{\"name\":\"silence\",\"for\":\"1s\"}", "'for' does not belong"},
        {"{\"name\":\"auth_failure\",\"classes\":[]}", "'classes' does not belong"},
        {"{\"name\":\"auth_failure\",\"deny\":true}", "'deny' does not belong"},
        {"{\"name\":\"store_failing\",\"summary\":\"x\"}", "'summary' does not belong"},
        {"{\"name\":\"store_failing\",\"clearAfter\":\"1s\"}", "'clearAfter' does not belong"},
        {"{\"name\":\"temperature_high\",\"severity\":\"info\"}", "'severity' does not belong"},
        {"{\"name\":\"spoof\",\"cuont\":1}", "did you mean 'count'"},
        {"{\"name\":\"spoof\",\"zzzzzz\":1}", "it may have name, kind"},
        {"{\"name\":\"spoof\",\"zzzzzz\":{\"a\":[1,{}]},\"cuont\":1}", "did you mean 'count'"},
        {"{\"name\":\"spoof\",\"count\":\"1\"}", "'count' is a string: write a number"},
        {"{\"name\":\"spoof\",\"count\":1.5}", "a whole number"},
        {"{\"name\":\"spoof\",\"deny\":1}", "'deny' is a number: write true or false"},
        {"{\"name\":\"spoof\",\"severity\":\"none\"}", "\"enabled\": false"},
        {"{\"name\":\"spoof\",\"severity\":\"high\"}", "not one of info, warning, critical"},
        {"{\"name\":\"spoof\",\"severity\":3}", "'severity' is a number"},
        {"{\"name\":\"spoof\",\"cooldown\":30}", "a duration such as \"30s\""},
        {"{\"name\":\"spoof\",\"cooldown\":\"soon\"}", "is not a duration"},
        {"{\"name\":\"spoof\",\"classes\":\"a\"}", "an array such as"},
        {"{\"name\":\"spoof\",\"classes\":[1]}", "device classes as strings"},
        {"{\"name\":\"spoof\",\"classes\":[\"\"]}", "empty class"},
        {"{\"name\":\"spoof\",\"classes\":[\"a\",\"a\"]}", "twice"},
        {"{\"name\":\"spoof\",\"classes\":[\"a\"],\"exceptClasses\":[\"a\"]}",
         "remove it from one"},
        {"{\"name\":\"spoof\",\"summary\":\"a\\nb\"}", "control character"},
        {"{\"name\":\"spoof\",\"summary\":\"\"}", "'summary' is empty"},
        {"{\"name\":\"x\",\"info\":{\"above\":1}}", "has no metric"},
        {"{\"name\":\"x\",\"metric\":\"m\"}", "has no bound"},
        {"{\"name\":\"x\",\"metric\":\"m\",\"info\":{}}", "neither above nor below"},
        {"{\"name\":\"x\",\"metric\":\"m\",\"info\":7}", "an object such as"},
        {"{\"name\":\"x\",\"metric\":\"m\",\"info\":{\"abov\":7}}", "did you mean 'above'"},
        {"{\"name\":\"x\",\"metric\":\"m\",\"info\":{\"above\":\"7\"}}", "'above' is a string"},
        {"{\"name\":\"x\",\"metric\":\"m\",\"info\":{\"above\":1,\"below\":2}}", "every value"},
        {"{\"name\":\"x\",\"metric\":\"m\",\"critical\":{\"above\":1},\"warning\":{\"above\":2}}",
         "critical above 1 must be greater than warning above 2"},
        {"{\"name\":\"x\",\"metric\":\"m\",\"critical\":{\"below\":2},\"info\":{\"below\":2}}",
         "critical below 2 must be less than info below 2"},
        {"{\"name\":\"x\",\"metric\":\"m\",\"info\":{\"above\":10,\"below\":6},\"hysteresis\":2.5}",
         "make it smaller"},
        {"{\"name\":\"x\",\"metric\":\"m\",\"info\":{\"above\":1},\"hysteresis\":-1}", "0 or more"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_expect(parse_rules(rows[i].entry) == HLT_EPARSE, "row %zu: %s", i, rows[i].entry);
        cr_expect(told(rows[i].words), "row %zu: %s", i,
                  problems.count > 0 ? problems.item[0].text : "-");
        cr_expect(problems.count > 0 && problems.item[0].line == 2, "row %zu", i);
    }
}

Test(rules, numbers_and_durations_hold_at_each_limit)
{
    static const struct {
        const char *entry; /* %s is the value */
        const char *good[3], *bad[3];
    } rows[] = {
        {"{\"name\":\"spoof\",\"count\":%s}", {"1", "1000000", "5"}, {"0", "1000001", "-1"}},
        {"{\"name\":\"anomaly\",\"score\":%s}", {"0.01", "1", "0.5"}, {"0.009", "1.001", "0"}},
        {"{\"name\":\"silence\",\"cadenceFactor\":%s}", {"0", "1", "1000"}, {"0.99", "1001", "-1"}},
        {"{\"name\":\"silence\",\"after\":\"%s\"}", {"1s", "30d", "5min"}, {"999ms", "721h", "0s"}},
        {"{\"name\":\"spoof\",\"window\":\"%s\"}", {"1s", "1d", "5"}, {"999ms", "25h", "0s"}},
        {"{\"name\":\"spoof\",\"cooldown\":\"%s\"}", {"0s", "7d", "1ms"}, {"169h", "8d", "-1s"}},
        {"{\"name\":\"spoof\",\"renotify\":\"%s\"}", {"0s", "1s", "30d"}, {"999ms", "31d", "1ms"}},
        {"{\"name\":\"spoof\",\"clearAfter\":\"%s\"}", {"0s", "7d", "1h"}, {"8d", "x", "-0s"}},
        {"{\"name\":\"temperature_high\",\"for\":\"%s\"}", {"0s", "7d", "1h"}, {"8d", "", "1w"}},
        {"{\"name\":\"temperature_high\",\"hysteresis\":%s}",
         {"0", "0.5", "19"},
         {"-1", "-0.1", "\"1\""}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t j = 0; j < 3; j++) {
            char entry[200];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
            (void)snprintf(entry, sizeof(entry), rows[i].entry, rows[i].good[j]);
            cr_expect(parse_rules(entry) == HLT_OK, "%s", entry);
            (void)snprintf(entry, sizeof(entry), rows[i].entry, rows[i].bad[j]);
            cr_expect(parse_rules(entry) == HLT_EPARSE, "%s", entry);
#pragma GCC diagnostic pop
        }
    }
}

Test(rules, texts_hold_at_each_limit)
{
    static const struct {
        const char *before, *after;
        size_t max;
    } rows[] = {
        {"{\"info\":{\"above\":1},\"metric\":\"m\",\"name\":\"", "\"}", HLT_RULE_NAME_MAX},
        {"{\"info\":{\"above\":1},\"name\":\"x\",\"metric\":\"", "\"}", 64},
        {"{\"name\":\"spoof\",\"classes\":[\"", "\"]}", 64},
        {"{\"name\":\"spoof\",\"summary\":\"", "\"}", 127},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t extra = 0; extra < 2; extra++) {
            char text[400];
            char filler[200];
            size_t len = rows[i].max + extra;
            memset(filler, 'x', len);
            filler[len] = '\0';
            (void)snprintf(text, sizeof(text), "%s%s%s", rows[i].before, filler, rows[i].after);
            cr_expect((parse_rules(text) == HLT_OK) == (extra == 0), "row %zu +%zu", i, extra);
            cr_expect(extra == 0 || told("longer than"), "row %zu", i);
        }
    }
}

Test(rules, a_nul_in_a_string_is_refused)
{
    cr_assert(parse_rules("{\"name\":\"spoof\",\"summary\":\"a\\u0000b\"}") == HLT_EPARSE);
}

Test(rules, sixteen_classes_pass_and_seventeen_do_not)
{
    char text[600] = "{\"name\":\"spoof\",\"classes\":[\"c0\"";
    for (int i = 1; i < HLT_RULE_CLASSES_MAX; i++) {
        (void)snprintf(text + strlen(text), 20, ",\"c%d\"", i);
    }
    size_t end = strlen(text);
    (void)snprintf(text + end, 20, "]}");
    cr_assert(parse_rules(text) == HLT_OK);
    cr_assert(rule("spoof")->class_count == HLT_RULE_CLASSES_MAX);
    (void)snprintf(text + end, 20, ",\"more\"]}");
    cr_assert(parse_rules(text) == HLT_EPARSE);
    cr_assert(told("more than 16 classes"));
}

Test(rules, a_thousand_rules_pass_and_one_more_does_not)
{
    static char text[200000];
    size_t added = 0;
    cr_assert(hlt_rules_builtin(&rules) == HLT_OK);
    size_t builtin = rules->count;
    char *at = text;
    for (; added < HLT_RULES_MAX - builtin; added++) {
        at += sprintf(at, "%s{\"name\":\"r%zu\",\"metric\":\"m\",\"info\":{\"above\":1}}",
                      added > 0 ? "," : "", added);
    }
    cr_assert(parse_rules(text) == HLT_OK);
    cr_assert(rules->count == HLT_RULES_MAX);
    (void)sprintf(at, ",{\"name\":\"one_more\",\"metric\":\"m\",\"info\":{\"above\":1}}");
    cr_assert(parse_rules(text) == HLT_EPARSE);
    cr_assert(told("more than 1000 rules"));
}

Test(rules, a_name_stands_once)
{
    cr_assert(parse_rules("{\"name\":\"spoof\"},\n{\"name\":\"spoof\"}") == HLT_EPARSE);
    cr_assert(told("defined twice (first on line 2)"));
    cr_assert(problems.item[0].line == 3 && problems.item[0].column == 9);
}

Test(rules, every_mistake_is_told_at_once_with_its_place)
{
    cr_assert(parse("{\n\"version\": 2,\n\"detectr\": \"ewma\",\n\"detector\": \"ewna\",\n"
                    "\"defaults\": {\"coldown\": \"1s\", \"renotify\": 5},\n"
                    "\"rules\": [{\"name\": \"spoof\", \"count\": 0}, 1]\n}") == HLT_EPARSE);
    static const struct {
        unsigned line, column;
        const char *words;
    } rows[] = {
        {2, 12, "version 2 is not known"},
        {3, 1, "unknown member 'detectr' in the document: did you mean 'detector'"},
        {4, 13, "unknown detector \"ewna\": did you mean \"ewma\""},
        {5, 14, "did you mean 'cooldown'"},
        {5, 43, "'renotify' is a number"},
        {6, 38, "'count' 0 is out of range"},
        {6, 42, "each rule as an object"},
    };
    cr_assert(problems.count == sizeof(rows) / sizeof(rows[0]));
    for (size_t i = 0; i < problems.count; i++) {
        const struct hlt_problem *item = &problems.item[i];
        cr_expect(item->line == rows[i].line && item->column == rows[i].column, "row %zu: %u:%u", i,
                  item->line, item->column);
        cr_expect(strstr(item->text, rows[i].words) != NULL, "row %zu: %s", i, item->text);
        cr_expect_str_eq(item->file, "r.json");
    }
}

Test(rules, only_strict_json_is_read)
{
    static const char *const rows[] = {
        "",
        "[]",
        "{\"version\":1,}",
        "{\"version\":1} x",
        "{\"version\":1,\"version\":1}",
        "{\"version\":1,\"rules\":[{\"name\":\"spoof\",\"count\":1,\"count\":2}]}",
        "{\"version\":01}",
        "// no comments\n{\"version\":1}",
        "{'version':1}",
        "{\"version\":1,\"rules\":[{\"name\":\"anomaly\",\"score\":1e999}]}",
        "\xef\xbb\xbf{\"version\":1}",
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        cr_expect(parse(rows[i]) == HLT_EPARSE, "row %zu", i);
        cr_expect(told("not valid JSON"), "row %zu", i);
        cr_expect(problems.item[0].line >= 1 && problems.item[0].column >= 1, "row %zu", i);
    }
}

Test(rules, the_version_must_be_given)
{
    cr_assert(parse("{}") == HLT_EPARSE);
    cr_assert(told("\"version\" is missing"));
    cr_assert(parse("{\"version\":\"1\"}") == HLT_EPARSE);
    cr_assert(parse("{\"version\":1.5}") == HLT_EPARSE);
    cr_assert(parse("{\"version\":1,\"rules\":{}}") == HLT_EPARSE);
    cr_assert(told("an array of rules"));
    cr_assert(parse("{\"version\":1,\"defaults\":[]}") == HLT_EPARSE);
    cr_assert(parse("{\"version\":1,\"detector\":1}") == HLT_EPARSE);
}

Test(rules, more_mistakes_than_are_kept_are_counted)
{
    static char text[100000];
    char *at = text;
    for (int i = 0; i < 500; i++) {
        at += sprintf(at, "%s{\"name\":\"X%d\"}", i > 0 ? "," : "", i);
    }
    cr_assert(parse_rules(text) == HLT_EPARSE);
    cr_assert(problems.errors == 500 && problems.count == HLT_PROBLEMS_MAX);
}

Test(rules, classes_say_whom_a_rule_covers)
{
    cr_assert(parse_rules("{\"name\":\"spoof\",\"classes\":[\"a\",\"b\"]},"
                          "{\"name\":\"silence\",\"exceptClasses\":[\"a\"]}") == HLT_OK);
    cr_expect(hlt_rule_covers(rule("spoof"), "a") && hlt_rule_covers(rule("spoof"), "b"));
    cr_expect(!hlt_rule_covers(rule("spoof"), "c") && !hlt_rule_covers(rule("spoof"), ""));
    cr_expect(!hlt_rule_covers(rule("silence"), "a"));
    cr_expect(hlt_rule_covers(rule("silence"), "b") && hlt_rule_covers(rule("silence"), ""));
    cr_expect(hlt_rule_covers(rule("anomaly"), "anything"));
}

Test(rules, severities_have_words)
{
    cr_expect_str_eq(hlt_severity_word(HLT_SEV_INFO), "info");
    cr_expect_str_eq(hlt_severity_word(HLT_SEV_WARNING), "warning");
    cr_expect_str_eq(hlt_severity_word(HLT_SEV_CRITICAL), "critical");
    cr_expect_str_eq(hlt_severity_word(HLT_SEV_NONE), "none");
    cr_expect_str_eq(hlt_severity_word((enum hlt_severity)9), "none");
}

Test(rules, the_example_loads)
{
    const char *source = getenv("HALTERE_SOURCE_DIR");
    char path[1000];
    if (source != NULL) {
        (void)snprintf(path, sizeof(path), "%s/examples/rules.json", source);
    } else {
        (void)snprintf(path, sizeof(path), "%.*s../../examples/rules.json",
                       (int)(strrchr(__FILE__, '/') - __FILE__ + 1), __FILE__);
    }
    enum hlt_rc rc = hlt_rules_load(&rules, path, &problems);
    cr_assert(rc == HLT_OK, "%s", problems.count > 0 ? problems.item[0].text : "");
    cr_assert(problems.errors == 0 && problems.warnings == 0);
    cr_expect(rule("battery_low")->critical.below == 5);
    cr_expect(rule("disk_full")->for_ms == 300000);
}

Test(rules, a_missing_or_unsafe_file_is_refused)
{
    char path[] = "/tmp/haltere-rules.XXXXXX";
    cr_assert(hlt_rules_load(&rules, "/no/such/rules.json", &problems) == HLT_EIO);
    cr_assert(told("does not exist") && rules == NULL);
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_expect(write(fd, "{\"version\":1}", 13) == 13);
    cr_expect(fchmod(fd, 0646) == 0);
    cr_expect(hlt_rules_load(&rules, path, &problems) == HLT_EIO);
    cr_expect(told("chmod o-w"));
    cr_expect(fchmod(fd, 0644) == 0);
    cr_expect(hlt_rules_load(&rules, path, &problems) == HLT_OK);
    cr_expect(close(fd) == 0 && unlink(path) == 0);
}
