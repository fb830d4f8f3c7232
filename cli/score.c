/* score.c - `haltere score`: a series of values on stdin, one score per value on stdout.
 *
 * Rows are scored as they arrive: what came after a row never changes its score. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "../shared/detector.h"
#include "../shared/text.h"
#include "command.h"

#define LINE_MAX_BYTES 4096 /* of one row, without its line end */
#define READ_BYTES 65536
#define BATCH_ROWS 1024    /* scored together, so that the clock is not read per row */
#define SECONDS_BELOW 1e11 /* a smaller unix time is in seconds, as in telemetry */

struct row {
    int64_t time_ms;
    double value;
};

struct scorer {
    const struct hlt_detector *detector;
    void *state;
    struct row rows[BATCH_ROWS];
    size_t row_count;
    unsigned long line;  /* of the input, 1-based */
    unsigned long blank; /* the first of the blank lines just read, 0: none */
    unsigned long points;
    int64_t spent_ns;
    const char *error; /* why `line` cannot be read */
};

static int64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Score and print the rows gathered. Nine digits bring every float back exactly: a score just below
 * 0.5 is not printed as 0.5. */
static void score_rows(struct scorer *scorer)
{
    float scores[BATCH_ROWS] = {0};
    struct hlt_detector_score score;
    int64_t begin = clock_ns();

    for (size_t i = 0; i < scorer->row_count; i++) {
        scorer->detector->update(scorer->state, scorer->rows[i].value, scorer->rows[i].time_ms,
                                 &score);
        scores[i] = score.score;
    }
    scorer->spent_ns += clock_ns() - begin;
    scorer->points += scorer->row_count;
    for (size_t i = 0; i < scorer->row_count; i++) {
        printf("%.9g\n", (double)scores[i]);
    }
    scorer->row_count = 0;
}

/* A decimal number and nothing else: no "nan", no "0x1p3", no blanks. */
static bool parse_number(const char *text, double *value)
{
    char *end;

    if (text[0] == '\0' || text[strspn(text, "0123456789+-.eE")] != '\0') {
        return false;
    }
    *value = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*value);
}

/* RFC 3339, the same with a blank and without an offset (then UTC), or a unix time in s or ms. */
static bool parse_time(const char *text, int64_t *time_ms)
{
    char copy[64];
    size_t len = strlen(text);
    double number;

    if (parse_number(text, &number)) {
        if (fabs(number) > 253402300799999.0) { /* the end of the year 9999 */
            return false;
        }
        *time_ms = (int64_t)(fabs(number) < SECONDS_BELOW ? number * 1000 : number);
        return true;
    }
    if (len < 19 || len + 2 > sizeof(copy)) {
        return false;
    }
    memcpy(copy, text, len + 1);
    if (copy[10] == ' ') {
        copy[10] = 'T';
    }
    /* a date without an offset ends in a digit, and the last sign in it is a date's dash */
    if (strpbrk(copy + 19, "Zz+-") == NULL) {
        copy[len++] = 'Z';
    }
    return hlt_date_parse(copy, len, time_ms);
}

static const char *read_row(char *line, struct row *row)
{
    char *comma = strchr(line, ',');

    if (comma == NULL) {
        return "a row is timestamp,value";
    }
    *comma = '\0';
    if (!parse_time(line, &row->time_ms)) {
        return "the timestamp is not YYYY-MM-DD HH:MM:SS, RFC 3339 or a unix time";
    }
    if (!parse_number(comma + 1, &row->value)) {
        return "the value is not a finite decimal number";
    }
    return NULL;
}

/* One line without its '\n'; `line` may be changed, and line[len] is ours for a NUL. */
static bool take_line(struct scorer *scorer, char *line, size_t len)
{
    if (len > 0 && line[len - 1] == '\r') {
        len--;
    }
    line[len] = '\0';
    scorer->line++;
    if (len > LINE_MAX_BYTES) {
        scorer->error = "the line is too long";
    } else if (strlen(line) != len) {
        scorer->error = "a NUL byte: this is not text";
    } else if (scorer->line == 1) {
        scorer->error = strcasecmp(line, "timestamp,value") == 0
                            ? NULL
                            : "the first line must be the header: timestamp,value";
    } else if (len == 0) {
        scorer->blank = scorer->blank != 0 ? scorer->blank : scorer->line; /* fine at the end */
        return true;
    } else if (scorer->blank != 0) {
        scorer->line = scorer->blank;
        scorer->error = "an empty line amid the rows";
    } else {
        scorer->error = read_row(line, &scorer->rows[scorer->row_count]);
        scorer->row_count += scorer->error == NULL;
    }
    if (scorer->row_count == BATCH_ROWS) {
        score_rows(scorer);
    }
    return scorer->error == NULL;
}

/* Take all whole lines of the buffer; what is left of the last one moves to its front. */
static bool take_lines(struct scorer *scorer, char *buffer, size_t *filled)
{
    char *line = buffer, *end = buffer + *filled, *newline;

    while ((newline = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        if (!take_line(scorer, line, (size_t)(newline - line))) {
            return false;
        }
        line = newline + 1;
    }
    *filled = (size_t)(end - line);
    memmove(buffer, line, *filled);
    if (*filled > LINE_MAX_BYTES + 1) {
        scorer->line++;
        scorer->error = "the line is too long";
        return false;
    }
    return true;
}

static int score_input(struct scorer *scorer)
{
    static char buffer[READ_BYTES + LINE_MAX_BYTES + 2]; /* the rest of a line, and one read */
    size_t filled = 0;
    ssize_t got;
    bool good = true;

    do {
        got = read(STDIN_FILENO, buffer + filled, READ_BYTES);
        if (got < 0) {
            return hlt_cli_fail(HLT_EXIT_IO, "cannot read stdin: %s", strerror(errno));
        }
        filled += (size_t)got;
        good = take_lines(scorer, buffer, &filled);
        if (good && got == 0 && filled > 0) {
            good = take_line(scorer, buffer, filled); /* a last line without '\n' */
        }
        score_rows(scorer);
        (void)fflush(stdout); /* whoever feeds rows slowly sees each score at once */
    } while (good && got != 0);
    if (!good) {
        return hlt_cli_fail(HLT_EXIT_IO, "stdin:%lu: %s", scorer->line, scorer->error);
    }
    if (scorer->line == 0) {
        return hlt_cli_fail(HLT_EXIT_IO, "stdin is empty: expected the header timestamp,value");
    }
    if (scorer->points > 0) {
        (void)fprintf(stderr, "ns_per_point=%.1f\n",
                      (double)scorer->spent_ns / (double)scorer->points);
    }
    return HLT_EXIT_OK;
}

static int list_detectors(void)
{
    const struct hlt_detector *detector;

    for (size_t i = 0; (detector = hlt_detector_at(i)) != NULL; i++) {
        printf("%-8s %s%s\n", detector->name, detector->summary, i == 0 ? " (default)" : "");
    }
    return HLT_EXIT_OK;
}

static int unknown_detector(const char *name)
{
    const char *names[16] = {NULL};
    const struct hlt_detector *detector;
    const char *near;

    for (size_t i = 0; i < 15 && (detector = hlt_detector_at(i)) != NULL; i++) {
        names[i] = detector->name;
    }
    near = hlt_suggest(name, names);
    if (near != NULL) {
        return hlt_cli_fail(HLT_EXIT_USAGE, "unknown detector '%s': did you mean '%s'?", name,
                            near);
    }
    return hlt_cli_fail(HLT_EXIT_USAGE, "unknown detector '%s': see 'haltere score --list'", name);
}

static int run(const struct hlt_detector *detector)
{
    struct scorer *scorer = calloc(1, sizeof(*scorer));
    int code;

    if (scorer != NULL) {
        scorer->detector = detector;
        scorer->state = calloc(1, detector->state_bytes);
    }
    if (scorer == NULL || scorer->state == NULL) {
        free(scorer);
        return hlt_cli_fail(HLT_EXIT_IO, "out of memory");
    }
    detector->init(scorer->state);
    code = score_input(scorer);
    free(scorer->state);
    free(scorer);
    return code;
}

int hlt_cmd_score(int argc, char **argv)
{
    enum { DETECTOR, LIST, OPTION_COUNT };
    static const struct hlt_cli_option options[] = {
        [DETECTOR] = {"detector", "NAME",
                      "the detector to use; the default is what the plugin uses"},
        [LIST] = {"list", NULL, "name the detectors and stop"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        .synopsis = "haltere score [--detector NAME] <series.csv\nhaltere score --list",
        .summary =
            "Scores a series with the code that runs in the broker. Reads CSV with the header "
            "timestamp,value from stdin and prints one score in [0,1] per row; 0.5 and more is an "
            "alert. A score depends on its row and the rows before, never on later ones.",
        .options = options,
        .notes = "Timestamps: 2014-04-01 00:05:00[.ffffff] (UTC), RFC 3339, or unix s or ms.\n"
                 "At the end ns_per_point=… on stderr is the detector's own time per value.\n"
                 "Exit codes: 0 ok; 2 wrong usage; 3 input that cannot be read, with its line.\n\n"
                 "  haltere score <boiler.csv | awk '$1 >= 0.5 {print NR + 1}'   # alerts",
    };
    const char *values[OPTION_COUNT];
    const struct hlt_detector *detector;

    switch (hlt_cli_parse(&spec, argc, argv, values, NULL, NULL)) {
    case HLT_CLI_HELP: return HLT_EXIT_OK;
    case HLT_CLI_USAGE: return HLT_EXIT_USAGE;
    case HLT_CLI_OK: break;
    }
    if (values[LIST] != NULL) {
        return list_detectors();
    }
    detector = hlt_detector_find(values[DETECTOR] != NULL ? values[DETECTOR] : "default");
    if (detector == NULL) {
        return unknown_detector(values[DETECTOR]);
    }
    return run(detector);
}
