/* command.h - the frame of `haltere`: one file per command group, one way to print and to fail. */
#ifndef HLT_COMMAND_H
#define HLT_COMMAND_H

#include <cjson/cJSON.h>
#include <stdio.h>

#include "../shared/base.h"

/* Exit codes (DESIGN 8). */
enum hlt_exit { HLT_EXIT_OK = 0, HLT_EXIT_NO = 1, HLT_EXIT_USAGE = 2, HLT_EXIT_IO = 3 };

/* A group: argv[0] is the group's name, argv[1] the verb. Returns an exit code. Every verb knows
 * --help. */
int hlt_cmd_key(int argc, char **argv);
int hlt_cmd_token(int argc, char **argv);
int hlt_cmd_acl(int argc, char **argv);
int hlt_cmd_ban(int argc, char **argv);
int hlt_cmd_device(int argc, char **argv);
int hlt_cmd_alert(int argc, char **argv);
int hlt_cmd_fleet(int argc, char **argv);
int hlt_cmd_audit(int argc, char **argv);
int hlt_cmd_store(int argc, char **argv);
int hlt_cmd_config(int argc, char **argv);
int hlt_cmd_score(int argc, char **argv);
int hlt_cmd_simulate(int argc, char **argv);
int hlt_cmd_replay(int argc, char **argv);

/* One option of a verb. Table ends with name NULL. */
struct hlt_cli_option {
    const char *name;     /* long name without dashes: "json" */
    const char *argument; /* "FILE", NULL: a flag */
    const char *help;
};

/* One verb of a group. Table ends with name NULL. */
struct hlt_cli_verb {
    const char *name;
    int (*run)(int argc, char **argv); /* argv[0] is the verb: hand both on to hlt_cli_parse */
    const char *summary;               /* one line */
};
/* What every group with verbs does: `--help` (and no verb at all) lists the verbs, an unknown one
 * gets a "did you mean", a known one runs with argv[0] = the verb. argc and argv are the group's
 * own. */
int hlt_cli_dispatch(const char *group, const struct hlt_cli_verb *verbs, int argc, char **argv);

/* Parse `--name VALUE`, `--name=VALUE`, flags and positional arguments; argv[0] (the verb, or the
 * group where it has no verbs) is passed over. A value that starts with "--" needs the `=` form;
 * `--` ends the options; `-` is positional. Unknown options: an error with a "did you mean".
 * `--help` prints usage (synopsis, summary, options, notes) to stdout and returns HLT_CLI_HELP:
 * exit with HLT_EXIT_OK. HLT_CLI_USAGE: a message was printed, exit with HLT_EXIT_USAGE. values[i]
 * gets option i's last value ("" for a set flag, NULL if not given). `positional` has room for
 * positional_max, or for argc if that is -1. Repeatable options: use hlt_cli_each on argc/argv
 * again. */
enum hlt_cli_rc { HLT_CLI_OK, HLT_CLI_HELP, HLT_CLI_USAGE };
struct hlt_cli_spec {
    const char *synopsis; /* "haltere key new [--alg ALG] --out FILE" */
    const char *summary;  /* a paragraph */
    const struct hlt_cli_option *options;
    int positional_min, positional_max; /* -1: any number */
    const char *notes;                  /* examples, exit codes; may be NULL */
};
enum hlt_cli_rc hlt_cli_parse(const struct hlt_cli_spec *spec, int argc, char **argv,
                              const char **values, const char **positional, int *positional_count);
/* All values of a repeatable option in order: call with *at = 0 first; NULL at the end. */
const char *hlt_cli_each(const char *name, int argc, char **argv, int *at);

/* The whole number of option `name`, from `low` to `high`; `text` NULL: *out stays. False after a
 * message: exit with HLT_EXIT_USAGE. */
bool hlt_cli_number(const char *name, const char *text, unsigned long long low,
                    unsigned long long high, unsigned long long *out);

/* "haltere: ..." to stderr; returns `code`. */
int hlt_cli_fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Print all problems to stderr, coloured on a tty. */
void hlt_cli_problems(const struct hlt_problems *problems);

/* realloc for the command: never NULL, without memory it says so and exits with HLT_EXIT_IO. */
void *hlt_cli_resize(void *old, size_t bytes);

/* Print text from outside so that it cannot steer the terminal (hlt_printable). */
void hlt_cli_print_text(FILE *out, const char *text);

/* Print a cJSON document to stdout with a newline and delete it. */
int hlt_cli_print_json(cJSON *document);

/* A table: columns are sized to what they hold, cut to the terminal's width on a tty; text is shown
 * printable. */
struct hlt_table;
struct hlt_table *hlt_table_new(
    const char *const *heads,
    size_t columns); /* head "<NAME" left (default), ">NAME" right, "!NAME" left and never cut */
void hlt_table_cell(struct hlt_table *table, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The cell just added is shown in this colour (one of the static codes below; "" is plain). */
void hlt_table_colour(struct hlt_table *table, const char *colour);
void hlt_table_print(struct hlt_table *table); /* prints and frees */

/* Colour codes, "" unless stdout (stderr for the _err ones) is a terminal and NO_COLOR is unset. */
const char *hlt_cli_bold(void);
const char *hlt_cli_red(void);
const char *hlt_cli_yellow(void);
const char *hlt_cli_green(void);
const char *hlt_cli_dim(void);
const char *hlt_cli_reset(void);
const char *hlt_cli_red_err(void);
const char *hlt_cli_yellow_err(void);
const char *hlt_cli_reset_err(void);

/* "3s", "5min", "2h 10min", "41d": a duration for people, from ms. Negative ones count as 0. */
void hlt_cli_age(int64_t ms, char out[24]);
/* Unix ms of now. */
int64_t hlt_cli_now_ms(void);

/* Where the store is: --db, else db_path of --config's mosquitto.conf, else the packaged default
 * /var/lib/haltere. Returns a malloc'd path, or NULL after a message. */
char *hlt_cli_db_path(const char *db, const char *config);

#endif
