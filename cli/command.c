/* command.c - options, messages, colours and paths: what all groups of `haltere` share. */
#include "command.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../shared/options.h"
#include "../shared/text.h"

#define DB_PATH_DEFAULT "/var/lib/haltere"
#define OPTIONS_MAX 64 /* of one verb; the tables are ours */
#define TEXT_BYTES 4096

/* --- messages --- */

int hlt_cli_fail(int code, const char *fmt, ...)
{
    char text[TEXT_BYTES], shown[TEXT_BYTES];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    hlt_printable(shown, sizeof(shown), text, strlen(text));
    (void)fflush(stdout); /* what was printed before the failure comes before it */
    (void)fprintf(stderr, "%shaltere:%s %s\n", hlt_cli_red_err(), hlt_cli_reset_err(), shown);
    return code;
}

void hlt_cli_problems(const struct hlt_problems *problems)
{
    char line[TEXT_BYTES];

    (void)fflush(stdout);
    for (size_t i = 0; i < problems->count; i++) {
        bool error = problems->item[i].kind == HLT_PROBLEM_ERROR;
        hlt_problem_format(problems, i, line, sizeof(line));
        (void)fprintf(stderr, "%s%s%s\n", error ? hlt_cli_red_err() : hlt_cli_yellow_err(), line,
                      hlt_cli_reset_err());
    }
    size_t seen = problems->errors + problems->warnings;
    if (seen > problems->count) {
        (void)fprintf(stderr, "... and %zu more\n", seen - problems->count);
    }
}

void *hlt_cli_resize(void *old, size_t bytes)
{
    void *grown = realloc(old, bytes > 0 ? bytes : 1);
    if (grown == NULL) {
        exit(hlt_cli_fail(HLT_EXIT_IO, "out of memory"));
    }
    return grown;
}

void hlt_cli_print_text(FILE *out, const char *text)
{
    size_t len = strlen(text);
    size_t room = 4 * len + 1; /* every byte may become \xNN */
    char *shown = hlt_cli_resize(NULL, room);

    hlt_printable(shown, room, text, len);
    (void)fputs(shown, out);
    free(shown);
}

int hlt_cli_print_json(cJSON *document)
{
    char *text = cJSON_Print(document);

    cJSON_Delete(document);
    if (text == NULL) {
        return hlt_cli_fail(HLT_EXIT_IO, "out of memory");
    }
    puts(text);
    cJSON_free(text);
    return HLT_EXIT_OK;
}

/* --- colours --- */

/* Asked once per descriptor: a table asks for every cell. */
static bool colours_on(int fd)
{
    static int known[STDERR_FILENO + 1] = {-1, -1, -1};

    if (known[fd] < 0) {
        const char *never = getenv("NO_COLOR"); /* https://no-color.org: set and not empty */
        const char *terminal = getenv("TERM");
        bool on = isatty(fd) != 0 && (never == NULL || never[0] == '\0') && terminal != NULL &&
                  strcmp(terminal, "dumb") != 0;
        known[fd] = on ? 1 : 0;
    }
    return known[fd] == 1;
}

static const char *code_for(int fd, const char *code)
{
    return colours_on(fd) ? code : "";
}

const char *hlt_cli_bold(void)
{
    return code_for(STDOUT_FILENO, "\033[1m");
}

const char *hlt_cli_red(void)
{
    return code_for(STDOUT_FILENO, "\033[31m");
}

const char *hlt_cli_yellow(void)
{
    return code_for(STDOUT_FILENO, "\033[33m");
}

const char *hlt_cli_green(void)
{
    return code_for(STDOUT_FILENO, "\033[32m");
}

const char *hlt_cli_dim(void)
{
    return code_for(STDOUT_FILENO, "\033[2m");
}

const char *hlt_cli_reset(void)
{
    return code_for(STDOUT_FILENO, "\033[0m");
}

const char *hlt_cli_red_err(void)
{
    return code_for(STDERR_FILENO, "\033[31m");
}

const char *hlt_cli_yellow_err(void)
{
    return code_for(STDERR_FILENO, "\033[33m");
}

const char *hlt_cli_reset_err(void)
{
    return code_for(STDERR_FILENO, "\033[0m");
}

/* --- time --- */

int64_t hlt_cli_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void hlt_cli_age(int64_t ms, char out[24])
{
    long long s = ms > 0 ? (long long)(ms / 1000) : 0;

    if (s < 60) {
        (void)snprintf(out, 24, "%llds", s);
    } else if (s < 3600) {
        (void)snprintf(out, 24, "%lldmin", s / 60);
    } else if (s < 86400) {
        (void)snprintf(out, 24, "%lldh %lldmin", s / 3600, s % 3600 / 60);
    } else {
        (void)snprintf(out, 24, "%lldd", s / 86400);
    }
}

/* --- options --- */

#define HELP_WIDTH 80

/* Where to end a line of `text` that has room for `room` bytes: at its own end, else at the last
 * blank outside of [], for the synopses. Indented lines are commands and tables: never broken. */
static size_t line_length(const char *text, size_t room)
{
    size_t cut = 0, depth = 0, i;

    for (i = 0; text[i] != '\0' && text[i] != '\n'; i++) {
        depth += text[i] == '[';
        depth -= text[i] == ']' && depth > 0;
        cut = text[i] == ' ' && depth == 0 && i <= room ? i : cut;
    }
    return i <= room || cut == 0 || text[0] == ' ' ? i : cut;
}

/* Print `text`, which begins at column `at`. Lines after breaks of its own begin at column `at`,
 * too, those after breaks made here `hang` further right. */
static void print_wrapped(FILE *out, const char *text, int at, int hang)
{
    int column = at;

    while (*text != '\0') {
        size_t cut = line_length(text, (size_t)(HELP_WIDTH - column));
        (void)fprintf(out, "%.*s\n", (int)cut, text);
        text += cut;
        column = *text == ' ' ? at + hang : at;
        text += *text != '\0'; /* the blank or the line break */
        if (*text != '\0' && *text != '\n') {
            (void)fprintf(out, "%*s", column, "");
        }
    }
}

static void print_synopsis(FILE *out, const struct hlt_cli_spec *spec)
{
    (void)fputs("Usage: ", out);
    print_wrapped(out, spec->synopsis, 7, 4);
}

static void print_help(const struct hlt_cli_spec *spec)
{
    int width = (int)strlen("help");

    for (const struct hlt_cli_option *o = spec->options; o != NULL && o->name != NULL; o++) {
        int len = (int)(strlen(o->name) + (o->argument != NULL ? strlen(o->argument) + 1 : 0));
        width = len > width ? len : width;
    }
    print_synopsis(stdout, spec);
    putchar('\n');
    print_wrapped(stdout, spec->summary, 0, 0);
    (void)fputs("\nOptions:\n", stdout);
    for (const struct hlt_cli_option *o = spec->options; o != NULL && o->name != NULL; o++) {
        int used = printf("  --%s%s%s", o->name, o->argument != NULL ? " " : "",
                          o->argument != NULL ? o->argument : "");
        printf("%*s", width + 6 - used, "");
        print_wrapped(stdout, o->help, width + 6, 0);
    }
    printf("  --help%*sthis text\n", width + 6 - (int)strlen("  --help"), "");
    if (spec->notes != NULL) {
        putchar('\n');
        print_wrapped(stdout, spec->notes, 0, 0);
    }
}

static enum hlt_cli_rc usage_error(const struct hlt_cli_spec *spec, const char *what)
{
    hlt_cli_fail(HLT_EXIT_USAGE, "%s", what);
    print_synopsis(stderr, spec);
    return HLT_CLI_USAGE;
}

static enum hlt_cli_rc unknown_option(const struct hlt_cli_spec *spec, const char *word, size_t len)
{
    const char *names[OPTIONS_MAX + 2] = {"help"};
    char name[64], what[256];
    size_t count = 1;

    for (const struct hlt_cli_option *o = spec->options;
         o != NULL && o->name != NULL && count <= OPTIONS_MAX; o++) {
        names[count++] = o->name;
    }
    (void)snprintf(name, sizeof(name), "%.*s", (int)len, word);
    const char *near = hlt_suggest(name, names);
    if (near != NULL) {
        (void)snprintf(what, sizeof(what), "unknown option '--%s': did you mean '--%s'?", name,
                       near);
    } else {
        (void)snprintf(what, sizeof(what), "unknown option '--%s': try --help", name);
    }
    return usage_error(spec, what);
}

/* Take the option at argv[*at]; *at moves on to its value if that is a word of its own. */
static enum hlt_cli_rc take_option(const struct hlt_cli_spec *spec, int argc, char **argv, int *at,
                                   const char **values)
{
    const char *word = argv[*at] + 2;
    const char *equals = strchr(word, '=');
    size_t len = equals != NULL ? (size_t)(equals - word) : strlen(word);
    char what[256];

    for (size_t i = 0; spec->options != NULL && spec->options[i].name != NULL; i++) {
        const struct hlt_cli_option *option = &spec->options[i];
        if (strlen(option->name) != len || strncmp(option->name, word, len) != 0) {
            continue;
        }
        if (option->argument == NULL && equals != NULL) {
            (void)snprintf(what, sizeof(what), "--%s takes no value", option->name);
            return usage_error(spec, what);
        }
        if (option->argument == NULL) {
            values[i] = "";
        } else if (equals != NULL) {
            values[i] = equals + 1;
        } else if (*at + 1 < argc && strncmp(argv[*at + 1], "--", 2) != 0) {
            values[i] = argv[++*at];
        } else {
            (void)snprintf(what, sizeof(what), "--%s needs a value: --%s=%s", option->name,
                           option->name, option->argument);
            return usage_error(spec, what);
        }
        return HLT_CLI_OK;
    }
    return unknown_option(spec, word, len);
}

/* Positional arguments may hold anything, help is found first: `haltere token verify X --help`. */
static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            return true;
        }
    }
    return false;
}

enum hlt_cli_rc hlt_cli_parse(const struct hlt_cli_spec *spec, int argc, char **argv,
                              const char **values, const char **positional, int *positional_count)
{
    bool options_end = false;
    int count = 0;

    if (wants_help(argc, argv)) {
        print_help(spec);
        return HLT_CLI_HELP;
    }
    for (size_t i = 0; spec->options != NULL && spec->options[i].name != NULL; i++) {
        values[i] = NULL;
    }
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!options_end && strcmp(word, "--") == 0) {
            options_end = true;
        } else if (!options_end && strncmp(word, "--", 2) == 0) {
            enum hlt_cli_rc rc = take_option(spec, argc, argv, &i, values);
            if (rc != HLT_CLI_OK) {
                return rc;
            }
        } else if (!options_end && word[0] == '-' && word[1] != '\0') {
            return usage_error(spec, "options are written with two dashes: try --help");
        } else if (spec->positional_max >= 0 && count >= spec->positional_max) {
            char what[256];
            (void)snprintf(what, sizeof(what), "'%s' is one argument too many", word);
            return usage_error(spec, what);
        } else {
            positional[count++] = word;
        }
    }
    if (count < spec->positional_min) {
        return usage_error(spec, "an argument is missing");
    }
    if (positional_count != NULL) {
        *positional_count = count;
    }
    return HLT_CLI_OK;
}

const char *hlt_cli_each(const char *name, int argc, char **argv, int *at)
{
    size_t len = strlen(name);

    /* Unambiguous without the table: a value never starts with "--" (see take_option). */
    for (int i = *at > 0 ? *at : 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--", 2) != 0 || strncmp(argv[i] + 2, name, len) != 0) {
            continue;
        }
        const char *rest = argv[i] + 2 + len;
        if (*rest == '=') {
            *at = i + 1;
            return rest + 1;
        }
        if (*rest == '\0' && i + 1 < argc) {
            *at = i + 2;
            return argv[i + 1];
        }
    }
    *at = argc;
    return NULL;
}

static void print_verbs(FILE *out, const char *group, const struct hlt_cli_verb *verbs)
{
    (void)fprintf(out, "Usage: haltere %s VERB [OPTION]...\n\nVerbs:\n", group);
    for (const struct hlt_cli_verb *verb = verbs; verb->name != NULL; verb++) {
        (void)fprintf(out, "  %-14s %s\n", verb->name, verb->summary);
    }
    (void)fprintf(out, "\n  haltere %s VERB --help    more about one of them\n", group);
}

int hlt_cli_dispatch(const char *group, const struct hlt_cli_verb *verbs, int argc, char **argv)
{
    const char *names[OPTIONS_MAX + 1] = {NULL};
    size_t count = 0;

    if (argc < 2) {
        hlt_cli_fail(HLT_EXIT_USAGE, "'%s' needs a verb", group);
        print_verbs(stderr, group, verbs);
        return HLT_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_verbs(stdout, group, verbs);
        return HLT_EXIT_OK;
    }
    for (const struct hlt_cli_verb *verb = verbs; verb->name != NULL; verb++) {
        if (strcmp(verb->name, argv[1]) == 0) {
            return verb->run(argc - 1, argv + 1);
        }
        if (count < OPTIONS_MAX) {
            names[count++] = verb->name;
        }
    }
    const char *near = hlt_suggest(argv[1], names);
    if (near != NULL) {
        return hlt_cli_fail(HLT_EXIT_USAGE, "unknown verb '%s %s': did you mean '%s %s'?", group,
                            argv[1], group, near);
    }
    return hlt_cli_fail(HLT_EXIT_USAGE, "unknown verb '%s %s': see 'haltere %s --help'", group,
                        argv[1], group);
}

bool hlt_cli_number(const char *name, const char *text, unsigned long long low,
                    unsigned long long high, unsigned long long *out)
{
    char *end = NULL;

    if (text == NULL) {
        return true;
    }
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < low ||
        value > high) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--%s '%s' is not a number from %llu to %llu", name, text, low,
                     high);
        return false;
    }
    *out = value;
    return true;
}

/* --- where the store is --- */

static char *path_copy(const char *path)
{
    size_t len = strlen(path) + 1;
    return memcpy(hlt_cli_resize(NULL, len), path, len);
}

static char *db_path_of(const char *config)
{
    struct hlt_options options = {0};
    struct hlt_problems problems = {0};
    char *path = NULL;

    /* A reader needs one line of the file: other mistakes in it are `haltere config check`'s to
     * tell. */
    hlt_broker_config_check(config, &options, &problems);
    if (options.db_path != NULL) {
        path = path_copy(options.db_path);
    } else {
        hlt_cli_problems(&problems);
        hlt_cli_fail(HLT_EXIT_IO, "no plugin_opt_db_path found in %s: name the store with --db DIR",
                     config);
    }
    hlt_options_free(&options);
    hlt_problems_free(&problems);
    return path;
}

char *hlt_cli_db_path(const char *db, const char *config)
{
    if (db != NULL) {
        return path_copy(db);
    }
    return config != NULL ? db_path_of(config) : path_copy(DB_PATH_DEFAULT);
}
