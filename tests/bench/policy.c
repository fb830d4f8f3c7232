/* policy.c - what a decision costs at 10, 1,000 and 100,000 rules, what compiling 100,000 costs,
 * and the same for a plain Mosquitto acl_file of 10, 1,000 and 10,000 lines; then policies and
 * questions made to be dear: the broker waits for each answer, so none may take long.
 *
 * Usage: policy [SECONDS]. "hot" asks the same eight topics again and again, as one busy device
 * does; "spread" asks topics of all rules in random order, as many sessions do, so that memory is
 * part of the figure. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../acl/policy.h"

#define TOPICS 65536

/* Of this thread on a processor: what others do meanwhile costs it the caches only. */
static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint64_t state = 42;

static uint32_t rnd(uint32_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((state >> 33) % below);
}

/* `rules` rules: one role per tenth, its rules under areas of their own; every device is in role r0
 * and Sensor. `own`: all are in r0. */
static char *policy_text(unsigned rules, bool own, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);

    if (out == NULL) {
        abort();
    }
    fprintf(out, "haltere 1\nrole Sensor\n"
                 "  allow write devices/%%d/telemetry\n  allow write devices/%%d/status\n"
                 "  allow read devices/%%d/commands\n  allow read devices/%%d/health\n");
    for (unsigned i = 4; i < rules; i++) {
        if (i % 10 == 4 && (!own || i == 4)) {
            fprintf(out, "role r%u\n", i / 10);
        }
        switch (i % 4) {
        case 0: fprintf(out, "  allow read plant/a%u/line/%u/#\n", i / 64, i); break;
        case 1: fprintf(out, "  allow write plant/a%u/+/%u/state\n", i / 64, i); break;
        case 2: fprintf(out, "  allow read devices/%%d/out/%u\n", i); break;
        default: fprintf(out, "  deny write plant/a%u/line/%u/lock\n", i / 64, i); break;
        }
    }
    fclose(out);
    return text;
}

static void topic_of(char *out, size_t bytes, unsigned rules, uint32_t pick)
{
    uint32_t i = rnd(rules);

    switch (pick % 8) {
    case 0: snprintf(out, bytes, "devices/pump-17/telemetry"); break;
    case 1: snprintf(out, bytes, "devices/pump-17/status"); break;
    case 2: snprintf(out, bytes, "devices/pump-18/telemetry"); break;
    case 3: snprintf(out, bytes, "plant/a%u/line/%u/x/y", i / 64, i); break;
    case 4: snprintf(out, bytes, "plant/a%u/hall/%u/state", i / 64, i); break;
    case 5: snprintf(out, bytes, "devices/pump-17/out/%u", i); break;
    case 6: snprintf(out, bytes, "plant/a%u/line/%u/lock", i / 64, i); break;
    default: snprintf(out, bytes, "plant/none/line/%u/lock", i); break;
    }
}

static double measure(const struct hlt_view *view, char (*topics)[64], uint32_t count, double span)
{
    struct hlt_decision decision;
    uint64_t done = 0, sum = 0;
    double start = seconds(), now = start;

    while (now - start < span) {
        for (uint32_t i = 0; i < 65536; i++) {
            hlt_policy_decide(view, i & 1 ? HLT_READ : HLT_WRITE, topics[i & (count - 1)],
                              &decision);
            sum += decision.verdict;
        }
        done += 65536;
        now = seconds();
    }
    if (sum == 0) {
        printf("nothing was decided\n"); /* keeps the loop from being left out */
    }
    return (now - start) * 1e9 / (double)done;
}

/* A plain acl_file of `rules` lines: half of them topics of many users, half patterns. */
static char *plain_text(unsigned rules, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);

    if (out == NULL) {
        abort();
    }
    fprintf(out, "pattern write devices/%%u/telemetry\npattern write devices/%%u/status\n"
                 "pattern read devices/%%u/commands\nuser pump-17\n"
                 "topic read plant/a0/line/+/state\n");
    for (unsigned i = 4; i < rules; i++) {
        switch (i % 6) {
        case 0: fprintf(out, "user u%u\ntopic read plant/a%u/line/%u/#\n", i, i / 64, i); break;
        case 1: fprintf(out, "topic write plant/a%u/+/%u/state\n", i / 64, i); break;
        case 2: fprintf(out, "topic deny plant/a%u/line/%u/lock\n", i / 64, i); break;
        case 3: fprintf(out, "pattern read devices/%%u/out/%u\n", i); break;
        case 4: fprintf(out, "pattern read plant/a%u/line/%u/#\n", i / 64, i); break;
        default: fprintf(out, "pattern deny plant/a%u/line/%u/lock\n", i / 64, i); break;
        }
    }
    fclose(out);
    return text;
}

/* False after a mistake. */
static bool measure_plain(double span)
{
    static const unsigned sizes[] = {10, 1000, 10000};
    static char topics[TOPICS][64];
    double first = 0;

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct hlt_problems problems = {0};
        struct hlt_policy *policy;
        size_t len;
        char *text = plain_text(sizes[s], &len);
        double start = seconds(), compile, hot, spread;
        struct hlt_view *view;

        if (hlt_policy_parse(&policy, text, len, "bench", NULL, &problems) != HLT_OK) {
            fprintf(stderr, "%s\n", problems.count > 0 ? problems.item[0].text : "cannot compile");
            return false;
        }
        compile = seconds() - start;
        view = hlt_policy_bind(policy,
                               &(struct hlt_subject){.client_id = "pump-17", .user = "pump-17"});
        if (view == NULL) {
            return false;
        }
        for (uint32_t i = 0; i < TOPICS; i++) {
            topic_of(topics[i], sizeof(topics[i]), sizes[s], i);
        }
        hot = measure(view, topics, 8, span);
        spread = measure(view, topics, TOPICS, span);
        first = s == 0 ? hot : first;
        printf(
            "plain acl_file, %5u lines: %5.1f ns hot (x%.2f of 10), %5.1f ns spread; compiled in "
            "%.3f s\n",
            sizes[s], hot, hot / first, spread, compile);
        hlt_view_free(view);
        hlt_policy_free(policy);
        hlt_problems_free(&problems);
        free(text);
    }
    return true;
}

/* ---- dear policies ---- */

#define QUESTIONS 4096 /* different ones of a kind; a power of two */
#define LONG 65535

static void all_own(FILE *out)
{
    fprintf(out, "role big\n");
    for (unsigned i = 0; i < 100000; i++) {
        fprintf(out, "  %s plant/a%u/line/%u/%s\n", i % 4 == 3 ? "deny write" : "allow readwrite",
                i / 64, i, i % 4 == 3 ? "lock" : "#");
    }
}

static void wide(FILE *out)
{
    fprintf(out, "role big\n");
    for (unsigned i = 0; i < 100000; i++) {
        fprintf(out, "  allow read,write hall/sensor-number-%u-of-many\n", i);
    }
}

static void deep(FILE *out)
{
    fprintf(out, "role big\n");
    for (unsigned i = 0; i < 1000; i++) {
        fprintf(out, "  allow readwrite r%u", i);
        for (unsigned k = 0; k < 198; k++) {
            fprintf(out, k % 16 == 15 ? "/+" : "/a");
        }
        fprintf(out, "\n");
    }
}

/* Every way to write 16 levels with "a" or + : the topic of 16 "a" is in all of them. */
static void all_ways(FILE *out)
{
    fprintf(out, "role big\n");
    for (unsigned i = 0; i < 65536; i++) {
        fprintf(out, "  allow readwrite ");
        for (unsigned k = 0; k < 16; k++) {
            fprintf(out, "%s%s", k > 0 ? "/" : "", i >> k & 1 ? "+" : "a");
        }
        fprintf(out, "\n");
    }
}

/* 100,000 filters of eight levels, each level + or one of four words. */
static void many_plus(FILE *out)
{
    fprintf(out, "role big\n");
    for (unsigned i = 0; i < 100000; i++) {
        fprintf(out, "  allow readwrite ");
        for (unsigned k = 0; k < 8; k++) {
            unsigned pick = rnd(6);

            fprintf(out, "%s%c", k > 0 ? "/" : "", pick < 2 ? '+' : (int)('a' + pick - 2));
        }
        fprintf(out, "\n");
    }
}

static void excepts(FILE *out)
{
    fprintf(out, "role big\n");
    for (unsigned i = 0; i < 1000; i++) {
        fprintf(out, "  allow readwrite plant/+/%u/#", i % 10);
        for (unsigned k = 0; k < 64; k++) {
            fprintf(out, " except plant/x%u/+/secret%u/#", i, k);
        }
        fprintf(out, "\n");
    }
}

/* The same filter a hundred thousand times. */
static void same(FILE *out)
{
    fprintf(out, "role big\n");
    for (unsigned i = 0; i < 100000; i++) {
        fprintf(out, "  allow readwrite plant/+/%%d/x\n");
    }
}

static void arrays(FILE *out)
{
    fprintf(out, "role big\n");
    for (unsigned i = 0; i < 50000; i++) {
        fprintf(out, "  allow readwrite site/%%{v%u}/%%{v%u}/%%{v%u}/%%{v%u}/n%u\n", i % 16,
                i / 16 % 16, i / 256 % 16, i % 7, i / 4096);
    }
}

/* 10,000 roles of ten rules. */
static void roles(FILE *out)
{
    for (unsigned i = 0; i < 10000; i++) {
        fprintf(out, "role r%u\n%s  allow write devices/%%d/telemetry\n", i,
                i < 4096 ? "  limit payload 4KiB\n" : "");
        for (unsigned k = 0; k < 9; k++) {
            fprintf(out, "  allow read area/%u/%u/%%{v%u}\n", i, k, k);
        }
    }
}

/* A role that is made of a thousand others. */
static void uses(FILE *out)
{
    roles(out);
    fprintf(out, "role big\n");
    for (unsigned i = 0; i < 1000; i++) {
        fprintf(out, "  use r%u\n", i * 10);
    }
}

static void claims_of_big(FILE *out)
{
    fprintf(out, "{\"sub\":\"pump-17\",\"roles\":[\"big\"]}");
}

static void claims_of_arrays(FILE *out)
{
    fprintf(out, "{\"sub\":\"pump-17\",\"roles\":[\"big\",\"r1\"]");
    for (unsigned v = 0; v < 16; v++) {
        fprintf(out, ",\"v%u\":[\"all\"", v);
        for (unsigned i = 1; i < 64; i++) {
            fprintf(out, ",\"v%u-%u\"", v, i);
        }
        fprintf(out, "]");
    }
    fprintf(out, "}");
}

static void claims_of_roles(FILE *out)
{
    fprintf(out, "{\"sub\":\"pump-17\",\"roles\":[\"r0\"");
    for (unsigned i = 1; i < 64; i++) {
        fprintf(out, ",\"r%u\"", i * 150);
    }
    fprintf(out, "]}");
}

static void claims_of_none(FILE *out)
{
    fprintf(out, "{\"sub\":\"pump-17\",\"device_class\":\"Sensor\"}");
}

static void question(char *out, const char *kind)
{
    unsigned i = rnd(100000);

    if (strcmp(kind, "200 levels") == 0) {
        for (unsigned k = 0; k < 200; k++) {
            out += sprintf(out, "%s", k > 0 ? "/a" : "r7");
        }
    } else if (strcmp(kind, "200 plus") == 0) {
        for (unsigned k = 0; k < 200; k++) {
            out += sprintf(out, "%s", k > 0 ? "/+" : "+");
        }
    } else if (strcmp(kind, "16 levels") == 0 || strcmp(kind, "16 levels, no match") == 0) {
        for (unsigned k = 0; k < 15; k++) {
            out += sprintf(out, "a/");
        }
        strcpy(out, strlen(kind) > 9 ? "b/b" : "a");
    } else if (strcmp(kind, "8 levels") == 0) {
        for (unsigned k = 0; k < 8; k++) {
            out += sprintf(out, "%s%c", k > 0 ? "/" : "", (int)('a' + rnd(4)));
        }
    } else if (strcmp(kind, "65,535 bytes in one level") == 0) {
        memset(out, 'x', LONG);
        out[LONG] = '\0';
    } else if (strcmp(kind, "65,535 bytes of slashes") == 0) {
        memset(out, '/', LONG);
        out[LONG] = '\0';
    } else if (strcmp(kind, "65,535 bytes of UTF-8") == 0) {
        for (unsigned k = 0; k + 2 <= LONG; k += 2) {
            out += sprintf(out, "\xc3\xa4");
        }
    } else {
        for (; *kind != '\0'; kind++) { /* @: a rule's number, ~: its area's */
            out += sprintf(out, *kind == '@' || *kind == '~' ? "%u" : "%c",
                           *kind == '@'   ? i
                           : *kind == '~' ? i / 64
                                          : (unsigned)*kind);
        }
    }
}

/* Ask one kind of question, and say what one costs. */
static void measure_kind(const struct hlt_view *view, enum hlt_access access, const char *policy,
                         const char *kind, double span)
{
    bool big = strncmp(kind, "65,535", 6) == 0;
    unsigned count = big ? 1 : QUESTIONS;
    size_t bytes = big ? LONG + 1 : 1024;
    char *questions = malloc(count * bytes);
    struct hlt_decision decision = {0};
    double taken = 0;
    uint64_t asked;

    if (questions == NULL) {
        abort();
    }
    for (unsigned i = 0; i < count; i++) {
        question(questions + i * bytes, kind);
    }
    for (asked = 8; taken < span / 2;) { /* twice as many until it takes long enough */
        double start = seconds();

        asked *= 2;
        for (uint64_t i = 0; i < asked; i++) {
            hlt_policy_decide(view, access, questions + i % count * bytes, &decision);
        }
        taken = seconds() - start;
    }
    printf("  %-36s %-9s %-30s %9.0f ns  (%s)\n", policy,
           access == HLT_READ        ? "read"
           : access == HLT_SUBSCRIBE ? "subscribe"
                                     : "write",
           kind, taken * 1e9 / (double)asked,
           decision.verdict == HLT_ALLOW  ? "allowed"
           : decision.verdict == HLT_DENY ? "denied"
                                          : "no rule");
    free(questions);
}

static const struct dear {
    const char *name;
    void (*rules)(FILE *);
    void (*claims)(FILE *);
    struct {
        enum hlt_access access;
        const char *kind;
    } ask[9];
} dears[] = {
    {"100,000 rules, all the client's",
     all_own,
     claims_of_big,
     {{HLT_READ, "plant/a~/line/@/x"},
      {HLT_READ, "plant/none/line/7/x"},
      {HLT_SUBSCRIBE, "plant/a~/line/@/#"},
      {HLT_SUBSCRIBE, "#"},
      {HLT_SUBSCRIBE, "+/+/+/+"},
      {HLT_SUBSCRIBE, "+/+/+/none/x"},
      {HLT_SUBSCRIBE, "plant/+/none/#"},
      {HLT_SUBSCRIBE, "none/#"},
      {HLT_SUBSCRIBE, "200 plus"}}},
    {"100,000 siblings",
     wide,
     claims_of_big,
     {{HLT_READ, "hall/sensor-number-@-of-many"},
      {HLT_READ, "hall/none"},
      {HLT_READ, "65,535 bytes in one level"},
      {HLT_READ, "65,535 bytes of slashes"},
      {HLT_READ, "65,535 bytes of UTF-8"},
      {HLT_SUBSCRIBE, "+/none"},
      {HLT_SUBSCRIBE, "+/+/#"},
      {HLT_SUBSCRIBE, "hall/none/#"}}},
    {"1,000 rules of 199 levels",
     deep,
     claims_of_big,
     {{HLT_READ, "200 levels"}, {HLT_SUBSCRIBE, "200 plus"}, {HLT_SUBSCRIBE, "+/a/a/+/#"}}},
    {"16 levels, a or + in every way",
     all_ways,
     claims_of_big,
     {{HLT_READ, "16 levels"}, {HLT_READ, "16 levels, no match"}, {HLT_SUBSCRIBE, "+/+/+/none/#"}}},
    {"8 levels, + or one of four words",
     many_plus,
     claims_of_big,
     {{HLT_READ, "8 levels"}, {HLT_READ, "a/b/c/d/a/b/c/e"}, {HLT_SUBSCRIBE, "+/a/+/b/+/c/+/e/#"}}},
    {"1,000 rules with 64 except each",
     excepts,
     claims_of_big,
     {{HLT_READ, "plant/y/7/z"},
      {HLT_READ, "plant/x7/7/secret63/z"},
      {HLT_SUBSCRIBE, "plant/+/7/#"},
      {HLT_SUBSCRIBE, "plant/x7/+/secret63/#"}}},
    {"100,000 rules on one filter",
     same,
     claims_of_big,
     {{HLT_READ, "plant/7/pump-17/x"}, {HLT_SUBSCRIBE, "plant/+/pump-17/y"}}},
    {"variables of 64 values",
     arrays,
     claims_of_arrays,
     {{HLT_READ, "site/all/all/all/all/n3"},
      {HLT_READ, "site/v3-7/v1-1/v1-1/none"},
      {HLT_SUBSCRIBE, "site/+/all/+/none/n3"}}},
    {"10,000 roles, a token without any",
     roles,
     claims_of_none,
     {{HLT_READ, "area/~/7/x"}, {HLT_WRITE, "devices/pump-17/telemetry"}}},
    {"10,000 roles, a token with 64",
     roles,
     claims_of_roles,
     {{HLT_READ, "area/~/7/x"},
      {HLT_WRITE, "devices/pump-17/telemetry"},
      {HLT_SUBSCRIBE, "area/+/7/#"}}},
    {"10,000 roles, one that uses 1,000",
     uses,
     claims_of_big,
     {{HLT_READ, "area/~/7/x"},
      {HLT_WRITE, "devices/pump-17/telemetry"},
      {HLT_SUBSCRIBE, "area/+/7/#"}}},
    {"10,000 roles, 16 arrays of 64 values", roles, claims_of_arrays, {{HLT_READ, "area/1/7/all"}}},
};

/* Read the policy, bind it and put its questions. False after a mistake. */
static bool measure_policy(const struct dear *dear, double span)
{
    char *text = NULL, *claims = NULL;
    size_t len, claims_len;
    FILE *out = open_memstream(&text, &len);
    struct hlt_problems problems = {0};
    struct hlt_policy *policy;
    struct hlt_subject subject = {
        .client_id = "pump-17", .user = "pump-17", .device_id = "pump-17"};
    struct hlt_view *view;
    unsigned done = 0;
    double start, now;

    fprintf(out, "haltere 1\n");
    dear->rules(out);
    fclose(out);
    out = open_memstream(&claims, &claims_len);
    dear->claims(out);
    fclose(out);
    start = seconds();
    if (hlt_policy_parse(&policy, text, len, "bench", NULL, &problems) != HLT_OK) {
        fprintf(stderr, "%s: %s\n", dear->name,
                problems.count > 0 ? problems.item[0].text : "cannot compile");
        return false;
    }
    printf("%s: compiled in %.3f s, ", dear->name, seconds() - start);
    subject.claims = claims;
    subject.claims_len = claims_len;
    start = now = seconds();
    while (now - start < span / 4) {
        for (unsigned i = 0; i < 64; i++, done++) {
            hlt_view_free(hlt_policy_bind(policy, &subject));
        }
        now = seconds();
    }
    printf("bound in %.2f us\n", (now - start) * 1e6 / done);
    view = hlt_policy_bind(policy, &subject);
    for (size_t i = 0; view != NULL && i < 9 && dear->ask[i].kind != NULL; i++) {
        measure_kind(view, dear->ask[i].access, dear->name, dear->ask[i].kind, span / 4);
    }
    hlt_view_free(view);
    hlt_policy_free(policy);
    hlt_problems_free(&problems);
    free(text);
    free(claims);
    return true;
}

static bool measure_dear(double span)
{
    for (size_t i = 0; i < sizeof(dears) / sizeof(dears[0]); i++) {
        if (!measure_policy(&dears[i], span)) {
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    static const struct {
        unsigned rules;
        bool own; /* all of them are the client's */
    } sizes[] = {{10, false}, {1000, false}, {100000, false}, {100000, true}};
    static char topics[TOPICS][64];
    double span = argc > 1 ? atof(argv[1]) : 0.5;
    double first = 0;

    (void)setvbuf(stdout, NULL, _IOLBF, 0); /* rows are seen as they come */
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct hlt_problems problems = {0};
        struct hlt_policy *policy;
        size_t len;
        char *text = policy_text(sizes[s].rules, sizes[s].own, &len);
        char claims[128];
        double start = seconds(), compile, hot, spread;
        struct hlt_view *view;

        if (hlt_policy_parse(&policy, text, len, "bench", NULL, &problems) != HLT_OK) {
            fprintf(stderr, "%s\n", problems.count > 0 ? problems.item[0].text : "cannot compile");
            return 1;
        }
        compile = seconds() - start;
        snprintf(claims, sizeof(claims),
                 "{\"sub\":\"pump-17\",\"roles\":[\"Sensor\",\"r0\",\"r%u\"]}",
                 sizes[s].rules / 20);
        view = hlt_policy_bind(policy, &(struct hlt_subject){.client_id = "pump-17",
                                                             .user = "pump-17",
                                                             .device_id = "pump-17",
                                                             .claims = claims,
                                                             .claims_len = strlen(claims)});
        if (view == NULL) {
            return 1;
        }
        for (uint32_t i = 0; i < TOPICS; i++) {
            topic_of(topics[i], sizeof(topics[i]), sizes[s].rules, i);
        }
        hot = measure(view, topics, 8, span);
        spread = measure(view, topics, TOPICS, span);
        first = s == 0 ? hot : first;
        printf(
            "%6u rules%s: %5.1f ns hot (x%.2f of 10 rules), %5.1f ns spread; compiled in %.3f s\n",
            sizes[s].rules, sizes[s].own ? ", all the client's" : "", hot, hot / first, spread,
            compile);
        hlt_view_free(view);
        hlt_policy_free(policy);
        hlt_problems_free(&problems);
        free(text);
    }
    return measure_plain(span) && measure_dear(span) ? 0 : 1;
}
