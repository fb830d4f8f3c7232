/* brokerconf.c - tests of shared/brokerconf.c: reading mosquitto.conf as the broker does. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../shared/options.h"

static char directory[256];
static char conf_path[300];
static struct hlt_options options;
static struct hlt_problems problems;

static void set_up(void)
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(directory, sizeof(directory), "%s/haltere-conf.XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    cr_assert(mkdtemp(directory) != NULL);
    (void)snprintf(conf_path, sizeof(conf_path), "%s/mosquitto.conf", directory);
    umask(0022);
}

static void clean_up(void)
{
    char command[300];
    hlt_options_free(&options);
    hlt_problems_free(&problems);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    cr_assert(system(command) == 0);
}

TestSuite(brokerconf, .init = set_up, .fini = clean_up);

/* Write DIRECTORY/name; "@" in `text` stands for the directory. */
static void write_file(const char *name, const char *text)
{
    char path[600];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    FILE *stream = fopen(path, "w");
    cr_assert(stream != NULL, "%s", path);
    for (; *text != '\0'; text++) {
        if (*text == '@') {
            cr_assert(fputs(directory, stream) >= 0);
        } else {
            cr_assert(fputc(*text, stream) != EOF);
        }
    }
    cr_assert(fclose(stream) == 0);
}

static enum hlt_rc check(const char *text)
{
    hlt_options_free(&options);
    hlt_problems_free(&problems);
    write_file("mosquitto.conf", text);
    return hlt_broker_config_check(conf_path, &options, &problems);
}

#define BROKER                                                                                     \
    "per_listener_settings false\nallow_anonymous false\ncheck_retain_source true\n"               \
    "set_tcp_nodelay true\nlistener 1883 127.0.0.1\n"
#define PLUGIN "plugin /usr/lib/mosquitto_haltere.so\n"
#define OPTIONS                                                                                    \
    "plugin_opt_keys_file /k\nplugin_opt_acl_file /a\nplugin_opt_db_path /d\n"                     \
    "plugin_opt_issuer i\nplugin_opt_audience a\n"
#define GOOD BROKER PLUGIN OPTIONS

static const struct hlt_problem *find(enum hlt_problem_kind kind, const char *words)
{
    for (size_t i = 0; i < problems.count; i++) {
        if (problems.item[i].kind == kind && strstr(problems.item[i].text, words) != NULL) {
            return &problems.item[i];
        }
    }
    return NULL;
}

#define WARNED(words) (find(HLT_PROBLEM_WARNING, words) != NULL)
#define REFUSED(words) (find(HLT_PROBLEM_ERROR, words) != NULL)

Test(brokerconf, a_good_file_has_no_problems)
{
    cr_assert(check(GOOD) == HLT_OK, "%s", problems.count > 0 ? problems.item[0].text : "");
    cr_assert(problems.count == 0, "%s", problems.count > 0 ? problems.item[0].text : "");
    cr_expect_str_eq(options.db_path, "/d");
    cr_expect_str_eq(options.broker_user, "mosquitto");
    cr_assert(check(GOOD "user broker\n") == HLT_OK);
    cr_expect_str_eq(options.broker_user, "broker");
}

Test(brokerconf, lines_are_read_as_the_broker_reads_them)
{
    cr_assert(check(BROKER PLUGIN OPTIONS
                    "# comment\n\n\r\n   \n  plugin_opt_leeway  5s  \r\n"
                    "auth_opt_max_devices \t7\n#plugin_opt_bogus 1\n") == HLT_OK);
    cr_expect(options.leeway_s == 5 && options.max_devices == 7);
    cr_assert(check(GOOD " # not in column 1\n") == HLT_EPARSE);
    cr_expect(find(HLT_PROBLEM_ERROR, "column 1")->line == 12);
    cr_assert(check(GOOD "plugin_opt_leeway\t5s\n") == HLT_EPARSE);
    cr_expect(REFUSED("tab"));
    cr_assert(check(GOOD "plugin_opt_leeway 5s # no comment\n") == HLT_EPARSE);
    cr_expect(REFUSED("'5s # no comment'"));
    cr_assert(check(GOOD "log_dest\n") == HLT_EPARSE);
    cr_expect(REFUSED("'log_dest' has no value"));
    cr_assert(check(GOOD "persistence true") == HLT_OK, "no newline at the end");
}

Test(brokerconf, option_mistakes_have_file_and_line)
{
    cr_assert(check(GOOD "plugin_opt_leeway 5m\nplugin_opt_isuer x\n") == HLT_EPARSE);
    cr_assert(problems.errors == 2);
    const struct hlt_problem *item = find(HLT_PROBLEM_ERROR, "plugin_opt_leeway");
    cr_assert(item != NULL && item->line == 12);
    cr_assert_str_eq(item->file, conf_path);
    item = find(HLT_PROBLEM_ERROR, "did you mean plugin_opt_issuer");
    cr_assert(item != NULL && item->line == 13);
}

Test(brokerconf, haltere_must_be_loaded_once)
{
    cr_assert(check(BROKER "plugin /usr/lib/dynsec.so\nplugin_opt_config_file /x\n") == HLT_EPARSE);
    cr_expect(REFUSED("no plugin line names Haltere"));
    cr_assert(check(BROKER "plugin /opt/haltere/other.so\n") == HLT_EPARSE);
    cr_expect(REFUSED("no plugin line names Haltere"), "only the file's own name counts");
    cr_assert(check(GOOD PLUGIN "plugin_opt_bogus 1\n") == HLT_EPARSE);
    cr_expect(REFUSED("a second plugin line") && problems.errors == 1);
    cr_assert(check(BROKER "auth_plugin /x/haltere.so\n" OPTIONS) == HLT_OK);
    cr_assert(check(BROKER "global_plugin /x/haltere.so\n" OPTIONS) == HLT_OK);
    cr_assert(check(BROKER "plugin_load us /x/haltere.so\n" OPTIONS) == HLT_OK);
}

Test(brokerconf, options_belong_to_the_plugin_line_before_them)
{
    cr_assert(check(GOOD "plugin /x/dynsec.so\nplugin_opt_config_file /y\n") == HLT_OK);
    cr_assert(problems.count == 0, "a plugin behind Haltere is nothing special");
    cr_assert(check(BROKER "plugin_opt_leeway 5s\n" PLUGIN OPTIONS) == HLT_EPARSE);
    cr_expect(find(HLT_PROBLEM_ERROR, "before any plugin line")->line == 6);
    cr_assert(check(BROKER "plugin /x/dynsec.so\nplugin_opt_config_file /y\n" PLUGIN OPTIONS) ==
              HLT_OK);
    cr_expect(find(HLT_PROBLEM_WARNING, "comes before Haltere")->line == 6);
}

Test(brokerconf, included_files_are_read_in_the_brokers_order)
{
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/conf.d", directory);
    cr_assert(mkdir(path, 0755) == 0);
    /* b after A after a: the last value of check_retain_source counts. */
    write_file("conf.d/A.conf", "check_retain_source true\n");
    write_file("conf.d/b.conf", "check_retain_source true\nset_tcp_nodelay true\n");
    write_file("conf.d/B.conf", "check_retain_source false\n");
    write_file("conf.d/a.conf", "check_retain_source false\n");
    write_file("conf.d/z.conf.bak", "bogus 1\n");
    write_file("conf.d/y.CONF", "bogus 1\n");
    write_file("conf.d/.conf", "bogus 1\n");
    cr_assert(check("allow_anonymous false\nlistener 1883 127.0.0.1\n" PLUGIN OPTIONS
                    "include_dir @/conf.d\nplugin_opt_leeway 7s\n") == HLT_OK);
    cr_expect(problems.count == 0, "%s", problems.count > 0 ? problems.item[0].text : "");
    cr_expect(options.leeway_s == 7, "the main file's plugin is still meant after include_dir");
}

Test(brokerconf, plugin_lines_may_be_in_an_included_file)
{
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/conf.d", directory);
    cr_assert(mkdir(path, 0755) == 0);
    write_file("conf.d/haltere.conf", PLUGIN OPTIONS "plugin_opt_leeway x\n");
    cr_assert(check(BROKER "include_dir @/conf.d\n") == HLT_EPARSE);
    const struct hlt_problem *item = find(HLT_PROBLEM_ERROR, "plugin_opt_leeway");
    cr_assert(item != NULL && item->line == 7);
    cr_assert(strstr(item->file, "/conf.d/haltere.conf") != NULL);
    write_file("conf.d/haltere.conf", "plugin_opt_leeway 1s\n");
    cr_assert(check(BROKER PLUGIN OPTIONS "include_dir @/conf.d\n") == HLT_EPARSE);
    cr_expect(REFUSED("before any plugin line of the same file"), "as the broker has it");
}

Test(brokerconf, included_files_that_cannot_be_read_are_told)
{
    char path[300];
    cr_assert(check(GOOD "include_dir @/none\n") == HLT_EPARSE);
    cr_expect(REFUSED("include_dir") && problems.item[0].line == 12);
    (void)snprintf(path, sizeof(path), "%s/conf.d", directory);
    cr_assert(mkdir(path, 0755) == 0);
    (void)snprintf(path, sizeof(path), "%s/conf.d/dir.conf", directory);
    cr_assert(mkdir(path, 0755) == 0);
    cr_assert(check(GOOD "include_dir @/conf.d\n") == HLT_EPARSE);
    cr_expect(REFUSED("not a regular file"));
    cr_assert(rmdir(path) == 0);
    write_file("conf.d/x.conf", "include_dir @/none\n");
    cr_assert(check(GOOD "include_dir @/conf.d\n") == HLT_OK);
    cr_expect(WARNED("main file only"));
}

Test(brokerconf, an_unreadable_main_file_is_an_io_error)
{
    cr_assert(hlt_broker_config_check("/no/such/file", &options, &problems) == HLT_EIO);
    cr_assert(problems.errors == 1 && REFUSED("cannot read it"));
    cr_assert(hlt_broker_config_check(directory, &options, &problems) == HLT_EIO);
    cr_assert(REFUSED("not a regular file"));
    cr_assert(mkfifo(conf_path, 0600) == 0);
    cr_assert(hlt_broker_config_check(conf_path, &options, &problems) == HLT_EIO);
}

Test(brokerconf, unsafe_broker_settings_are_told_and_where)
{
    static const struct {
        const char *line;
        enum hlt_problem_kind kind;
        const char *words;
    } rows[] = {
        {"per_listener_settings true", HLT_PROBLEM_ERROR, "not supported"},
        {"allow_anonymous true", HLT_PROBLEM_WARNING, "Set it to false"},
        {"allow_anonymous 1", HLT_PROBLEM_WARNING, "allow_anonymous true"},
        {"allow_anonymous yes", HLT_PROBLEM_ERROR, "write true or false"},
        {"check_retain_source false", HLT_PROBLEM_WARNING, "Add check_retain_source true"},
        {"set_tcp_nodelay false", HLT_PROBLEM_WARNING, "Add set_tcp_nodelay true"},
        {"use_identity_as_username true", HLT_PROBLEM_WARNING, "never asks Haltere"},
        {"use_subject_as_username true", HLT_PROBLEM_WARNING, "every read and write"},
        {"psk_file /x", HLT_PROBLEM_WARNING, "pre-shared key"},
        {"psk_hint x", HLT_PROBLEM_WARNING, "pre-shared key"},
        {"password_file /x", HLT_PROBLEM_WARNING, "never asked"},
        {"acl_file /x", HLT_PROBLEM_WARNING, "plugin_opt_acl_file"},
        {"connection up", HLT_PROBLEM_WARNING, "bridge 'up'"},
        {"mount_point x/", HLT_PROBLEM_WARNING, "mount_point 'x/'"},
        {"max_queued_messages 0", HLT_PROBLEM_WARNING, "disconnects every client"},
        {"plugin_opt_allow_other_auth true", HLT_PROBLEM_WARNING, "no password_file"},
        {"allow_anonymus false", HLT_PROBLEM_WARNING, "Did you mean allow_anonymous?"},
        {"frobnicate 1", HLT_PROBLEM_WARNING, "See man mosquitto.conf"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[2000];
        (void)snprintf(text, sizeof(text), GOOD "%s\n", rows[i].line);
        bool error = rows[i].kind == HLT_PROBLEM_ERROR;
        cr_expect((check(text) == HLT_EPARSE) == error, "row %zu", i);
        const struct hlt_problem *item = find(rows[i].kind, rows[i].words);
        cr_expect(item != NULL, "row %zu: %s", i, problems.count > 0 ? problems.item[0].text : "-");
        cr_expect(problems.count == 1, "row %zu: %zu problems", i, problems.count);
        unsigned want = strstr(rows[i].line, "other_auth") != NULL ? 6 : 12;
        cr_expect(item == NULL || item->line == want, "row %zu: line %u", i, item->line);
    }
}

Test(brokerconf, what_is_left_out_is_told_too)
{
    cr_assert(check("listener 1883 127.0.0.1\nallow_anonymous false\n" PLUGIN OPTIONS) == HLT_OK);
    cr_expect(WARNED("check_retain_source is not true") && WARNED("set_tcp_nodelay is not true"));
    cr_expect(problems.warnings == 2);
    cr_assert(check("check_retain_source true\nset_tcp_nodelay true\n" PLUGIN OPTIONS) == HLT_OK);
    cr_expect(WARNED("no listener is configured") && problems.warnings == 1);
}

Test(brokerconf, other_logins_are_fine_when_they_are_meant)
{
    cr_assert(check(GOOD "plugin_opt_allow_other_auth true\npassword_file /p\n") == HLT_OK);
    cr_expect(problems.count == 0);
    cr_assert(check(GOOD "plugin_opt_allow_other_auth true\npassword_file /p\nacl_file /x\n") ==
              HLT_OK);
    cr_expect(WARNED("only for clients without a token") && problems.count == 1);
    cr_assert(check(GOOD "plugin_opt_allow_other_auth true\nplugin /x/dynsec.so\n") == HLT_OK);
    cr_expect(problems.count == 0);
    cr_assert(check(GOOD "plugin_opt_token_source username\nuse_username_as_clientid true\n") ==
              HLT_EPARSE);
    cr_expect(REFUSED("makes the token the client id"));
    cr_assert(check(GOOD "use_username_as_clientid true\n") == HLT_OK);
    cr_expect(problems.count == 0);
}

Test(brokerconf, a_listener_in_clear_text_is_warned_of)
{
    static const struct {
        const char *lines;
        unsigned line; /* of the warning, 0: none */
    } rows[] = {
        {"listener 1884\n", 12},
        {"listener 1884 0.0.0.0\n", 12},
        {"listener 1884 127.0.0.1\n", 0},
        {"listener 1884 ::1\n", 0},
        {"listener 1884 localhost\n", 0},
        {"listener 0 /run/m.sock\n", 0},
        {"listener 8883\ncertfile /c\n", 0},
        {"listener 8883\ncertfile /c\nlistener 1884\n", 14},
        {"listener 1884\nlistener 8883\ncertfile /c\n", 12},
        {"listener 1884\nbind_interface lo\n", 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[2000];
        (void)snprintf(text, sizeof(text), GOOD "%s", rows[i].lines);
        cr_expect(check(text) == HLT_OK, "row %zu", i);
        const struct hlt_problem *item = find(HLT_PROBLEM_WARNING, "no TLS");
        cr_expect((item != NULL ? item->line : 0) == rows[i].line, "row %zu", i);
    }
    cr_assert(check("check_retain_source true\nset_tcp_nodelay true\nport 1883\n" PLUGIN OPTIONS) ==
              HLT_OK);
    cr_expect(WARNED("no TLS") && !WARNED("no listener is configured"));
    cr_assert(check("check_retain_source true\nset_tcp_nodelay true\nport 1883\n"
                    "bind_address 127.0.0.1\n" PLUGIN OPTIONS) == HLT_OK);
    cr_expect(problems.count == 0);
}

Test(brokerconf, a_file_that_everybody_may_write_is_warned_of)
{
    write_file("mosquitto.conf", GOOD);
    cr_assert(chmod(conf_path, 0646) == 0);
    cr_assert(hlt_broker_config_check(conf_path, &options, &problems) == HLT_OK);
    cr_assert(WARNED("chmod o-w"));
}

Test(brokerconf, a_thousand_options_pass_and_one_more_does_not)
{
    static char text[100000];
    char *at = text + sprintf(text, "%s", GOOD);
    for (int i = 5; i < 1000; i++) {
        at += sprintf(at, "plugin_opt_audience a\n");
    }
    cr_assert(check(text) == HLT_OK);
    (void)sprintf(at, "plugin_opt_audience a\n");
    cr_assert(check(text) == HLT_EPARSE);
    cr_assert(REFUSED("more than 1000"));
}

Test(brokerconf, the_example_has_only_the_warnings_it_announces)
{
    const char *source = getenv("HALTERE_SOURCE_DIR");
    char path[1000];
    if (source != NULL) {
        (void)snprintf(path, sizeof(path), "%s/mosquitto.conf.example", source);
    } else {
        (void)snprintf(path, sizeof(path), "%.*s../../mosquitto.conf.example",
                       (int)(strrchr(__FILE__, '/') - __FILE__ + 1), __FILE__);
    }
    cr_assert(hlt_broker_config_check(path, &options, &problems) == HLT_OK, "%s",
              problems.count > 0 ? problems.item[0].text : "");
    cr_expect(WARNED("no plugin_opt_issuer") && WARNED("no plugin_opt_audience"));
    cr_expect(problems.count == 2, "%s", problems.count > 2 ? problems.item[2].text : "");
}
