/* detector.c - ns per value of each detector: one hot state, and many states touched at random.
 *
 * Budget of the default: 100 ns hot, aim 50. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../shared/detector.h"

#define ROUNDS 9
#define VALUES 200000
#define SAMPLES 4096 /* a power of two */
#define STATES_BYTES_MAX (256U << 20)

static double samples[SAMPLES];
static uint64_t seed = 88172645463325252U;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static double now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

/* Median ns of one update, on states picked at random out of `count`. */
static double time_updates(const struct hlt_detector *detector, unsigned char *states, size_t count)
{
    double rounds[ROUNDS];
    struct hlt_detector_score score;
    volatile float sink = 0;

    for (int round = 0; round < ROUNDS; round++) {
        double begin = now_ns();
        for (size_t i = 0; i < VALUES; i++) {
            size_t pick = count == 1 ? 0 : next_random() % count;
            detector->update(states + pick * detector->state_bytes, samples[i & (SAMPLES - 1)],
                             (int64_t)i, &score);
            sink = score.score;
        }
        rounds[round] = (now_ns() - begin) / VALUES;
    }
    (void)sink;
    qsort(rounds, ROUNDS, sizeof(double), by_value);
    return rounds[ROUNDS / 2];
}

int main(void)
{
    static const size_t counts[] = {1, 1000, 1000000};
    const struct hlt_detector *detector;

    for (size_t i = 0; i < SAMPLES; i++) { /* roughly normal: the sum of twelve uniform values */
        for (int k = 0; k < 12; k++) {
            samples[i] += (double)(next_random() >> 11) / 9007199254740992.0;
        }
    }
    printf("%-8s %6s %6s   ns per value on 1 / 1000 / 1M states\n", "name", "bytes", "packed");
    for (size_t i = 0; (detector = hlt_detector_at(i)) != NULL; i++) {
        printf("%-8s %6zu %6zu  ", detector->name, detector->state_bytes, detector->packed_bytes);
        for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
            unsigned char *states;
            if (counts[c] * detector->state_bytes > STATES_BYTES_MAX) {
                printf("   (over %u MiB)", STATES_BYTES_MAX >> 20);
                continue;
            }
            states = malloc(counts[c] * detector->state_bytes);
            if (states == NULL) {
                printf("   (no memory)");
                continue;
            }
            for (size_t k = 0; k < counts[c]; k++) {
                detector->init(states + k * detector->state_bytes);
            }
            printf(" %8.1f", time_updates(detector, states, counts[c]));
            free(states);
        }
        printf("\n");
    }
    return 0;
}
