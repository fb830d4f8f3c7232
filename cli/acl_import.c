/* acl_import.c - `haltere acl import-dynsec`: a dynamic-security configuration as a policy. */
#include <stdlib.h>
#include <string.h>

#include "../acl/import.h"
#include "../shared/file.h"
#include "acl_verbs.h"

/* Translate, and see whether the policy holds: a mistake of ours must not reach a broker. */
static int import(const char *path, struct hlt_problems *problems)
{
    struct hlt_problems own = {0};
    struct hlt_policy *policy = NULL;
    struct hlt_err err = {.msg = ""};
    char *json = NULL, *text = NULL;
    size_t len = 0;
    int code = HLT_EXIT_IO;

    if (hlt_file_read(path, HLT_FILE_PUBLIC, HLT_FILE_MAX_BYTES, &json, &len, &err) != HLT_OK) {
        return hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
    }
    if (hlt_policy_import_dynsec(json, len, path, &text, problems) == HLT_OK) {
        code = problems->warnings > 0 ? HLT_EXIT_NO : HLT_EXIT_OK;
        if (hlt_policy_parse(&policy, text, strlen(text), "import", NULL, &own) != HLT_OK) {
            hlt_cli_problems(&own);
            code = HLT_EXIT_IO;
        } else {
            (void)fputs(text, stdout);
        }
    }
    hlt_cli_problems(problems);
    hlt_policy_free(policy);
    hlt_problems_free(&own);
    free(text);
    free(json);
    return code;
}

int hlt_acl_import_dynsec(int argc, char **argv)
{
    static const struct hlt_cli_option options[] = {{NULL, NULL, NULL}};
    static const struct hlt_cli_spec spec = {
        .synopsis = "haltere acl import-dynsec FILE",
        .summary = "Print a policy that decides as the dynamic-security.json FILE does: each "
                   "distinct sequence of roles becomes one 'ordered' role, users keep their names.",
        .options = options,
        .positional_min = 1,
        .positional_max = 1,
        .notes =
            "What cannot be said in a policy stands there as a comment and is told on standard "
            "error.\n\n"
            "Exit codes: 0 all was carried over, 1 not all, 2 usage, 3 the file cannot be read "
            "or is no such configuration.",
    };
    const char *path[1] = {NULL};
    enum hlt_cli_rc parsed = hlt_cli_parse(&spec, argc, argv, NULL, path, NULL);
    struct hlt_problems *problems;
    int code;

    if (parsed != HLT_CLI_OK) {
        return parsed == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    problems = hlt_cli_resize(NULL, sizeof(*problems)); /* large */
    memset(problems, 0, sizeof(*problems));
    code = import(path[0], problems);
    hlt_problems_free(problems);
    free(problems);
    return code;
}
