/* main.c - where `haltere` starts: finds the command group and hands over. */
#include <locale.h>
#include <signal.h>
#include <string.h>

#include "../shared/text.h"
#include "command.h"
#include "version.h"

struct group {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct group groups[] = {
    {"key", hlt_cmd_key, "make the keys that sign tokens"},
    {"token", hlt_cmd_token, "issue, verify, read and revoke device tokens"},
    {"acl", hlt_cmd_acl, "ask a policy what a client may do"},
    {"ban", hlt_cmd_ban, "who may not log in, and until when"},
    {"device", hlt_cmd_device, "what the broker knows of its devices"},
    {"alert", hlt_cmd_alert, "what is wrong now, and what was"},
    {"audit", hlt_cmd_audit, "who logged in, who was refused, who changed what"},
    {"fleet", hlt_cmd_fleet, "the whole fleet at a glance"},
    {"store", hlt_cmd_store, "check, measure and back up the store"},
    {"config", hlt_cmd_config, "check a mosquitto.conf before the broker reads it"},
    {"score", hlt_cmd_score, "score a series of values from stdin"},
    {"replay", hlt_cmd_replay, "run recorded traffic through the engine, offline"},
    {"simulate", hlt_cmd_simulate, "a fleet of devices for trying things out"},
};
#define GROUP_COUNT (sizeof(groups) / sizeof(groups[0]))

static void usage(FILE *out)
{
    (void)fprintf(out,
                  "Usage: haltere GROUP [VERB] [OPTION]...\n\n"
                  "Looks after the MQTT fleet of a Mosquitto broker with the Haltere plugin.\n\n"
                  "Groups:\n");
    for (size_t i = 0; i < GROUP_COUNT; i++) {
        (void)fprintf(out, "  %-10s %s\n", groups[i].name, groups[i].summary);
    }
    (void)fprintf(out, "\n  haltere help GROUP [VERB]    more about one of them\n"
                       "  haltere --version            the version\n\n"
                       "Exit codes: 0 ok; 1 the answer is no (denied, unhealthy, not found);\n"
                       "2 wrong usage; 3 something could not be read or written.\n");
}

static const struct group *find_group(const char *name)
{
    for (size_t i = 0; i < GROUP_COUNT; i++) {
        if (strcmp(groups[i].name, name) == 0) {
            return &groups[i];
        }
    }
    return NULL;
}

static int unknown_group(const char *name)
{
    const char *names[GROUP_COUNT + 1];
    for (size_t i = 0; i < GROUP_COUNT; i++) {
        names[i] = groups[i].name;
    }
    names[GROUP_COUNT] = NULL;
    const char *near = hlt_suggest(name, names);
    if (near != NULL) {
        return hlt_cli_fail(HLT_EXIT_USAGE, "unknown command '%s': did you mean '%s'?", name, near);
    }
    return hlt_cli_fail(HLT_EXIT_USAGE, "unknown command '%s': see 'haltere --help'", name);
}

static int help(int argc, char **argv)
{
    if (argc < 2) {
        usage(stdout);
        return HLT_EXIT_OK;
    }
    const struct group *group = find_group(argv[1]);
    if (group == NULL) {
        return unknown_group(argv[1]);
    }
    char dashed[] = "--help";
    char *again[] = {argv[1], argc > 2 ? argv[2] : dashed, argc > 2 ? dashed : NULL, NULL};
    return group->run(argc > 2 ? 3 : 2, again);
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return HLT_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        usage(stdout);
        return HLT_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
        printf("haltere %s\n", HLT_VERSION);
        return HLT_EXIT_OK;
    }
    if (strcmp(argv[1], "help") == 0) {
        return help(argc - 1, argv + 1);
    }
    if (argv[1][0] == '-') {
        return hlt_cli_fail(HLT_EXIT_USAGE, "unknown option '%s': see 'haltere --help'", argv[1]);
    }
    const struct group *group = find_group(argv[1]);
    return group == NULL ? unknown_group(argv[1]) : group->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    /* Numbers keep their point: only the meaning of characters follows the user's locale. */
    (void)setlocale(LC_CTYPE, "");
    /* `haltere device list | head` ends quietly, also where a parent left the signal ignored. */
    (void)signal(SIGPIPE, SIG_DFL);
    int code = run(argc, argv);
    /* A full disk must not look like success. */
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        return hlt_cli_fail(HLT_EXIT_IO, "cannot write the output: is the disk full?");
    }
    return code;
}
