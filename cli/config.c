/* config.c - `haltere config check`: everything the broker would find wrong at start, before it
 * starts. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../acl/policy.h"
#include "../shared/keyset.h"
#include "../shared/options.h"
#include "../shared/rules.h"
#include "../shared/text.h"
#include "command.h"

#define PATH_BYTES 4096

struct check {
    const char *path; /* the mosquitto.conf */
    struct hlt_options options;
    struct hlt_problems problems;
    size_t keys, policy_rules, alert_rules;
};

static void problem(struct check *check, const char *fmt, const char *a, const char *b)
{
    char text[PATH_BYTES];
    (void)snprintf(text, sizeof(text), "%s '%s': %s", fmt, a, b);
    hlt_problems_add(&check->problems, HLT_PROBLEM_ERROR, check->path, 0, 0, "%s", text);
}

/* Root may read everything, the broker's user may not: judge the files with that user's eyes. The
 * process ends after the check, so nothing needs to be taken back. */
static void become_broker_user(struct check *check)
{
    const char *name = check->options.broker_user;
    if (geteuid() != 0 || name == NULL || strcmp(name, "root") == 0) {
        return; /* a broker that root does not start runs as whoever starts it */
    }
    const struct passwd *user = getpwnam(name);
    if (user == NULL && strcmp(name, "mosquitto") == 0) {
        user = getpwnam("nobody"); /* as the broker does with its default */
    }
    if (user == NULL) {
        problem(check, "user", name, "no such user on this machine, so the broker does not start");
    } else if (initgroups(user->pw_name, user->pw_gid) != 0 || setgid(user->pw_gid) != 0 ||
               setuid(user->pw_uid) != 0) {
        hlt_problems_add(&check->problems, HLT_PROBLEM_WARNING, NULL, 0, 0,
                         "cannot become user '%s': the files were checked as root, who may read "
                         "more than the broker",
                         name);
    }
}

/* The store's directory, or the one it will be made in. */
static void check_db_path(struct check *check)
{
    const char *path = check->options.db_path;
    char parent[PATH_BYTES];
    struct stat st;

    if (stat(path, &st) == 0) {
        if (!S_ISDIR(st.st_mode)) {
            problem(check, "plugin_opt_db_path", path, "not a directory: name another path");
        } else if (access(path, R_OK | W_OK | X_OK) != 0) {
            problem(check, "plugin_opt_db_path", path,
                    "the broker's user may not write there: chown the directory to that user");
        }
        return;
    }
    if (errno != ENOENT) {
        problem(check, "plugin_opt_db_path", path, strerror(errno));
        return;
    }
    (void)snprintf(parent, sizeof(parent), "%s", path);
    size_t len = strlen(parent);
    while (len > 1 && parent[len - 1] == '/') {
        parent[--len] = '\0';
    }
    char *slash = strrchr(parent, '/');
    if (slash == NULL) {
        (void)snprintf(parent, sizeof(parent), ".");
    } else {
        slash[slash == parent ? 1 : 0] = '\0';
    }
    if (stat(parent, &st) != 0 || !S_ISDIR(st.st_mode)) {
        problem(check, "plugin_opt_db_path", path,
                "neither it nor the directory above exists: create it, owned by the broker's user");
    } else if (access(parent, W_OK | X_OK) != 0) {
        problem(check, "plugin_opt_db_path", path,
                "it does not exist and the broker's user may not make it: create it, owned by that "
                "user");
    }
}

/* Load what the options name, as the plugin does at start. */
static void check_files(struct check *check)
{
    const struct hlt_options *options = &check->options;
    struct hlt_keyset *keys = NULL;
    struct hlt_policy *policy = NULL;
    struct hlt_rules *rules = NULL;
    /* Which broker will run is not known here: `auto` is taken for the older one. */
    struct hlt_policy_reading how = {.compat = options->acl_compat == HLT_COMPAT_2_1 ? HLT_ACL_2_1
                                                                                     : HLT_ACL_2_0};

    if (options->key_count > 0 &&
        hlt_keyset_load(&keys, options->keys, options->key_count, &check->problems) == HLT_OK) {
        check->keys = hlt_keyset_count(keys);
    }
    if (options->acl_file != NULL &&
        hlt_policy_load(&policy, options->acl_file, &how, &check->problems) == HLT_OK) {
        check->policy_rules = hlt_policy_rule_count(policy);
    }
    hlt_policy_free(policy);
    policy = NULL;
    if (options->acl_shadow_file != NULL) {
        (void)hlt_policy_load(&policy, options->acl_shadow_file, &how, &check->problems);
    }
    enum hlt_rc rc = options->rules_file != NULL
                         ? hlt_rules_load(&rules, options->rules_file, &check->problems)
                         : hlt_rules_builtin(&rules);
    if (rc == HLT_OK) {
        check->alert_rules = rules->count;
    }
    if (options->db_path != NULL) {
        check_db_path(check);
    }
    hlt_rules_free(rules);
    hlt_policy_free(policy);
    hlt_keyset_free(keys);
}

/* --- telling --- */

static void add_text(cJSON *object, const char *name, const char *text)
{
    char shown[PATH_BYTES];
    if (text == NULL) {
        cJSON_AddNullToObject(object, name);
        return;
    }
    (void)hlt_printable(shown, sizeof(shown), text, strlen(text)); /* a path need not be UTF-8 */
    cJSON_AddStringToObject(object, name, shown);
}

static void print_json(const struct hlt_problems *problems)
{
    cJSON *document = cJSON_CreateObject();
    cJSON_AddBoolToObject(document, "ok", problems->errors == 0);
    cJSON_AddNumberToObject(document, "errors", (double)problems->errors);
    cJSON_AddNumberToObject(document, "warnings", (double)problems->warnings);
    cJSON *list = cJSON_AddArrayToObject(document, "problems");
    for (size_t i = 0; i < problems->count; i++) {
        const struct hlt_problem *item = &problems->item[i];
        cJSON *entry = cJSON_CreateObject();
        add_text(entry, "kind", item->kind == HLT_PROBLEM_ERROR ? "error" : "warning");
        add_text(entry, "file", item->file);
        cJSON_AddNumberToObject(entry, "line", item->line);
        cJSON_AddNumberToObject(entry, "column", item->column);
        add_text(entry, "text", item->text);
        cJSON_AddItemToArray(list, entry);
    }
    (void)hlt_cli_print_json(document);
}

static const char *plural(size_t count)
{
    return count == 1 ? "" : "s";
}

static void print_text(const struct check *check)
{
    const struct hlt_problems *problems = &check->problems;
    const char *colour = problems->errors > 0     ? hlt_cli_red()
                         : problems->warnings > 0 ? hlt_cli_yellow()
                                                  : hlt_cli_green();
    hlt_cli_problems(problems);
    hlt_cli_print_text(stdout, check->path);
    printf(": %s%zu error%s, %zu warning%s%s", colour, problems->errors, plural(problems->errors),
           problems->warnings, plural(problems->warnings), hlt_cli_reset());
    if (problems->errors == 0) {
        printf("; %zu key%s, %zu policy rule%s, %zu alert rule%s", check->keys, plural(check->keys),
               check->policy_rules, plural(check->policy_rules), check->alert_rules,
               plural(check->alert_rules));
    }
    printf("\n");
}

static int run_check(int argc, char **argv)
{
    static const struct hlt_cli_option options[] = {
        {"json", NULL, "print one JSON document instead of text"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        .synopsis = "haltere config check [--json] mosquitto.conf",
        .summary = "Read mosquitto.conf as the broker does (with include_dir) and tell every "
                   "mistake in Haltere's options, its keys, policy and rules files, and in the "
                   "broker settings around them. Started by root, the files are read as the "
                   "broker's user. Relative paths are taken from the current directory, as the "
                   "broker takes them from its own.",
        .options = options,
        .positional_min = 1,
        .positional_max = 1,
        .notes = "Exit codes: 0 no errors (there may be warnings), 1 errors, 2 usage, 3 the file "
                 "cannot be read.",
    };
    const char *values[1] = {NULL};
    const char *positional[1] = {NULL};
    int count = 0;
    enum hlt_cli_rc parsed = hlt_cli_parse(&spec, argc, argv, values, positional, &count);
    if (parsed != HLT_CLI_OK) {
        return parsed == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }

    struct check *check = hlt_cli_resize(NULL, sizeof(*check)); /* problems are large */
    memset(check, 0, sizeof(*check));
    check->path = positional[0];
    enum hlt_rc rc = hlt_broker_config_check(check->path, &check->options, &check->problems);
    if (rc != HLT_EIO) {
        become_broker_user(check);
        check_files(check);
    }
    if (values[0] != NULL) {
        print_json(&check->problems);
    } else {
        print_text(check);
    }
    int code = rc == HLT_EIO ? HLT_EXIT_IO : check->problems.errors > 0 ? HLT_EXIT_NO : HLT_EXIT_OK;
    hlt_options_free(&check->options);
    hlt_problems_free(&check->problems);
    free(check);
    return code;
}

int hlt_cmd_config(int argc, char **argv)
{
    static const struct hlt_cli_verb verbs[] = {
        {"check", run_check, "every mistake in mosquitto.conf and the files it names"},
        {NULL, NULL, NULL},
    };
    return hlt_cli_dispatch("config", verbs, argc, argv);
}
