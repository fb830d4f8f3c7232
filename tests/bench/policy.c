/* policy.c - what a decision costs at 10, 1,000 and 100,000 rules, what compiling 100,000 costs,
 * and the same for a plain Mosquitto acl_file of 10, 1,000 and 10,000 lines.
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

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint64_t state = 42;

static uint32_t rnd(uint32_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((state >> 33) % below);
}

/* `rules` rules: one role per tenth, its rules under areas of their own; every device is in role r0
 * and Sensor. */
static char *policy_text(unsigned rules, size_t *len)
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
        if (i % 10 == 4) {
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

int main(int argc, char **argv)
{
    static const unsigned sizes[] = {10, 1000, 100000};
    static char topics[TOPICS][64];
    double span = argc > 1 ? atof(argv[1]) : 0.5;
    double first = 0;

    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct hlt_problems problems = {0};
        struct hlt_policy *policy;
        size_t len;
        char *text = policy_text(sizes[s], &len);
        char claims[128];
        double start = seconds(), compile, hot, spread;
        struct hlt_view *view;

        if (hlt_policy_parse(&policy, text, len, "bench", NULL, &problems) != HLT_OK) {
            fprintf(stderr, "%s\n", problems.count > 0 ? problems.item[0].text : "cannot compile");
            return 1;
        }
        compile = seconds() - start;
        snprintf(claims, sizeof(claims),
                 "{\"sub\":\"pump-17\",\"roles\":[\"Sensor\",\"r0\",\"r%u\"]}", sizes[s] / 20);
        view = hlt_policy_bind(policy, &(struct hlt_subject){.client_id = "pump-17",
                                                             .user = "pump-17",
                                                             .device_id = "pump-17",
                                                             .claims = claims,
                                                             .claims_len = strlen(claims)});
        if (view == NULL) {
            return 1;
        }
        for (uint32_t i = 0; i < TOPICS; i++) {
            topic_of(topics[i], sizeof(topics[i]), sizes[s], i);
        }
        hot = measure(view, topics, 8, span);
        spread = measure(view, topics, TOPICS, span);
        first = s == 0 ? hot : first;
        printf("%6u rules: %5.1f ns hot (x%.2f of 10 rules), %5.1f ns spread; compiled in %.3f s\n",
               sizes[s], hot, hot / first, spread, compile);
        hlt_view_free(view);
        hlt_policy_free(policy);
        hlt_problems_free(&problems);
        free(text);
    }
    return measure_plain(span) ? 0 : 1;
}
