/* detector.c - what the detectors catch, how seldom they cry wolf, and that their states survive.
 */
#include "../../shared/detector.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t seed;
static double memory; /* of the present stream */

static double uniform(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return ((double)(seed >> 11) + 0.5) / 9007199254740992.0;
}

static double gauss(void)
{
    return sqrt(-2 * log(uniform())) * cos(6.283185307179586 * uniform());
}

static void start(uint64_t number)
{
    seed = (number + 1) * UINT64_C(0x9E3779B97F4A7C15);
    memory = 0;
    for (int i = 0; i < 20; i++) {
        uniform();
    }
}

/* ---- streams: nothing in them is an anomaly ---- */

static double white(int t)
{
    (void)t;
    return 20 + gauss();
}

static double correlated(int t)
{
    (void)t;
    memory = 0.9 * memory + gauss();
    return memory;
}

static double daily(int t)
{
    return 10 * sin(t * 6.283185307179586 / 288) + gauss();
}

static double quantised(int t)
{
    (void)t;
    memory = 0.95 * memory + gauss();
    return floor(memory / 3) * 3;
}

static double set_points(int t) /* a constant that moves every 1000 values or so */
{
    (void)t;
    if (uniform() < 0.001) {
        memory = floor(uniform() * 10);
    }
    return 20 + memory;
}

static double walk(int t)
{
    (void)t;
    memory += gauss();
    return memory;
}

static double two_states(int t) /* a compressor: on for an hour, off for an hour */
{
    return (t / 60 % 2) * 10 + 0.3 * gauss();
}

static double ramp(int t)
{
    return t * 10.0;
}

static double sawtooth(int t)
{
    return t % 500;
}

static double counts(int t)
{
    (void)t;
    return floor(-2 * log(uniform()));
}

static const struct hlt_detector *detector(const char *name)
{
    const struct hlt_detector *found = hlt_detector_find(name);

    cr_assert(found != NULL);
    return found;
}

static void *fresh_state(const struct hlt_detector *self)
{
    void *state = malloc(self->state_bytes);

    cr_assert(state != NULL);
    memset(state, 0xA5, self->state_bytes);
    self->init(state);
    return state;
}

static bool feed(const struct hlt_detector *self, void *state, double value,
                 struct hlt_detector_score *out)
{
    memset(out, 0xA5, sizeof(*out));
    self->update(state, value, 0, out);
    cr_assert(out->score >= 0 && out->score <= 1, "score %g", (double)out->score);
    cr_assert(out->level >= 0 && out->level <= 1, "level %g", (double)out->level);
    cr_assert(out->event >= 0 && out->event <= 1, "event %g", (double)out->event);
    cr_assert(isfinite(out->z) && isfinite(out->expected));
    return out->score >= 0.5F;
}

/* ---- the list ---- */

Test(detector, is_found_by_name)
{
    cr_expect(hlt_detector_find("default") == hlt_detector_at(0));
    cr_expect(hlt_detector_find("ewma") == hlt_detector_at(0));
    cr_expect(hlt_detector_find("zscore") == hlt_detector_at(1));
    cr_expect(hlt_detector_at(2) == NULL);
    cr_expect(hlt_detector_find("") == NULL);
    cr_expect(hlt_detector_find("EWMA") == NULL);
    cr_expect(hlt_detector_find("ewma ") == NULL);
}

Test(detector, keeps_small_states)
{
    cr_expect(detector("ewma")->state_bytes <= 96);
    cr_expect(detector("ewma")->packed_bytes <= 96);
    cr_expect(detector("ewma")->state_bytes % 8 == 0);
    cr_expect(detector("zscore")->state_bytes % 8 == 0);
    cr_expect(detector("zscore")->packed_bytes <= 1024); /* HLT_RECORD_STATE_MAX */
}

/* ---- ewma ---- */

#define STREAM_VALUES 40000
#define WARM_UP 2000
#define SEEDS 10

/* Alerts per 20,000 values after the warm-up, on average of the seeds. */
static double alert_rate(const char *name, double (*stream)(int t))
{
    const struct hlt_detector *self = detector(name);
    void *state = fresh_state(self);
    struct hlt_detector_score score;
    int alerts = 0;

    for (int run = 0; run < SEEDS; run++) {
        start((uint64_t)run);
        self->init(state);
        for (int t = 0; t < STREAM_VALUES; t++) {
            alerts += feed(self, state, stream(t), &score) && t >= WARM_UP;
        }
    }
    free(state);
    return alerts * 20000.0 / SEEDS / (STREAM_VALUES - WARM_UP);
}

Test(ewma, seldom_alerts_on_clean_signals)
{
    static const struct {
        const char *name;
        double (*stream)(int t);
        double most; /* per 20,000 values */
    } rows[] = {{"white", white, 1},           {"correlated", correlated, 5},
                {"daily", daily, 5},           {"quantised", quantised, 5},
                {"set points", set_points, 5}, {"random walk", walk, 5},
                {"two states", two_states, 5}, {"ramp", ramp, 0},
                {"sawtooth", sawtooth, 5},     {"counts", counts, 5}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        double rate = alert_rate("ewma", rows[i].stream);
        cr_expect(rate <= rows[i].most, "%s: %.2f", rows[i].name, rate);
    }
}

Test(ewma, is_quiet_from_the_first_value_on)
{
    static double (*const streams[])(int t) = {white, correlated, daily, walk, ramp};
    const struct hlt_detector *self = detector("ewma");
    void *state = fresh_state(self);
    struct hlt_detector_score score;
    int alerts = 0;

    for (size_t i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        for (uint64_t run = 0; run < 100; run++) {
            start(run);
            self->init(state);
            for (int t = 0; t < WARM_UP; t++) {
                alerts += feed(self, state, streams[i](t), &score);
                cr_assert(score.learning == (t < 30), "value %d", t);
            }
        }
    }
    cr_expect(alerts <= 30, "%d alerts in the warm-up of 500 streams", alerts);
    free(state);
}

/* A state that has seen `values` of the stream. */
static void *trained(const struct hlt_detector *self, double (*stream)(int t), int values)
{
    void *state = fresh_state(self);
    struct hlt_detector_score score;

    for (int t = 0; t < values; t++) {
        feed(self, state, stream(t), &score);
    }
    return state;
}

Test(ewma, alerts_on_a_ten_sigma_jump_at_once)
{
    static const struct {
        double (*stream)(int t);
        double sigma;
    } rows[] = {{white, 1}, {correlated, 2.294}, {quantised, 3.3}};
    const struct hlt_detector *self = detector("ewma");

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (uint64_t run = 0; run < 20; run++) {
            struct hlt_detector_score score;
            for (int sign = -1; sign <= 1; sign += 2) {
                start(run);
                void *state = trained(self, rows[i].stream, 200 + (int)run * 500);
                double value = rows[i].stream(0) + sign * 10 * rows[i].sigma;
                cr_expect(feed(self, state, value, &score), "stream %zu, seed %d, sign %d: %g", i,
                          (int)run, sign, (double)score.score);
                cr_expect(score.event >= 0.5F);
                cr_expect(sign * score.z > 5);
                free(state);
            }
        }
    }
}

Test(ewma, stays_up_during_a_three_sigma_shift_and_comes_down_after)
{
    const struct hlt_detector *self = detector("ewma");

    for (uint64_t run = 0; run < 20; run++) {
        struct hlt_detector_score score;
        int first = -1, up = 0, alerts = 0, down = -1;
        start(run);
        void *state = trained(self, white, 3000);
        for (int t = 0; t < 300; t++) {
            bool alert = feed(self, state, white(t) + 3, &score);
            alerts += alert;
            first = first < 0 && alert ? t : first;
            up += score.level >= 0.5F;
        }
        for (int t = 0; t < 300; t++) {
            feed(self, state, white(t), &score);
            down = down < 0 && score.level < 0.5F ? t : down;
        }
        cr_expect(first >= 0 && first < 30, "seed %d: alert after %d", (int)run, first);
        cr_expect(up > 250, "seed %d: level up for %d of 300", (int)run, up);
        cr_expect(alerts <= 3, "seed %d: %d alerts for one shift", (int)run, alerts);
        cr_expect(down >= 0 && down < 150, "seed %d: level down after %d", (int)run, down);
        free(state);
    }
}

Test(ewma, a_shift_that_lasts_becomes_normal)
{
    const struct hlt_detector *self = detector("ewma");
    struct hlt_detector_score score;

    start(1);
    void *state = trained(self, white, 3000);
    for (int t = 0; t < 1500; t++) {
        feed(self, state, white(t) + 50, &score);
    }
    cr_expect(score.level < 0.5F);
    cr_expect(fabsf(score.expected - 70) < 1, "expected %g", (double)score.expected);
    free(state);
}

Test(ewma, one_glitch_does_not_blind_it)
{
    const struct hlt_detector *self = detector("ewma");
    int seen = 0;

    for (uint64_t run = 0; run < 20; run++) {
        struct hlt_detector_score score;
        start(run);
        void *state = trained(self, white, 5000);
        cr_expect(feed(self, state, 20 + 1e4, &score));
        for (int t = 0; t < 1500; t++) {
            feed(self, state, white(t), &score);
        }
        seen += feed(self, state, white(0) + 12, &score);
        free(state);
    }
    cr_expect(seen >= 18, "seen %d of 20", seen);
}

Test(ewma, forgets_what_a_sensor_says_as_it_powers_up)
{
    const struct hlt_detector *self = detector("ewma");

    for (uint64_t run = 0; run < 20; run++) {
        void *state = fresh_state(self);
        struct hlt_detector_score score;
        start(run);
        for (int t = 0; t < 3; t++) {
            feed(self, state, 85, &score);
        }
        for (int t = 0; t < 1000; t++) {
            feed(self, state, 20 + 0.5 * gauss(), &score);
        }
        cr_expect(feed(self, state, 20 - 10 * 0.5, &score), "seed %d: %g", (int)run,
                  (double)score.score);
        free(state);
    }
}

Test(ewma, a_constant_alerts_when_it_jumps)
{
    static const struct {
        double constant, jump;
        bool alert;
    } rows[] = {{0, 1, true},          {20, 0.5, true},
                {20, -20, true},       {-1e6, 100, true},
                {0, 1e-6, true},       {1e12, 1e9, true},
                {21.3, 1.9e-6, false}, /* one step of a 32-bit float: dust */
                {0.1, 1.4e-17, false}, {0, 1e-14, false},
                {1e9, 10, false},      {DBL_MAX, -DBL_MAX, true},
                {1e-300, 1, true},     {5, 0, false}};
    const struct hlt_detector *self = detector("ewma");

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (int length = 40; length <= 40000; length *= 10) {
            void *state = fresh_state(self);
            struct hlt_detector_score score;
            for (int t = 0; t < length; t++) {
                cr_assert(not(feed(self, state, rows[i].constant, &score)), "row %zu", i);
                cr_assert(score.z == 0 || rows[i].constant == DBL_MAX);
            }
            cr_expect(feed(self, state, rows[i].constant + rows[i].jump, &score) == rows[i].alert,
                      "row %zu after %d: %g", i, length, (double)score.score);
            free(state);
        }
    }
}

Test(ewma, extreme_values_never_break_it)
{
    static const double values[] = {0,     DBL_MAX, -DBL_MAX, DBL_MIN, 5e-324, 1e308, -1e308,
                                    1e150, -1e150,  1,        -1,      1e-300, 0,     0};
    const struct hlt_detector *self = detector("ewma");
    void *state = fresh_state(self);
    uint8_t packed[256];
    struct hlt_detector_score score;

    start(5);
    for (int t = 0; t < 20000; t++) {
        size_t pick = (size_t)(uniform() * (sizeof(values) / sizeof(values[0])));
        feed(self, state, values[pick], &score);
        if (t % 100 == 0) {
            self->pack(state, packed);
            cr_assert(self->unpack(state, packed, self->packed_bytes), "its own state, value %d",
                      t);
        }
    }
    free(state);
}

/* ---- states ---- */

static void check_restart(const char *name)
{
    const struct hlt_detector *self = detector(name);
    uint8_t packed[1024];

    for (int length = 0; length < 3000; length = length * 2 + 1) {
        struct hlt_detector_score one, other;
        start((uint64_t)length);
        void *state = trained(self, correlated, length);
        void *restored = fresh_state(self);
        self->pack(state, packed);
        cr_assert(self->unpack(restored, packed, self->packed_bytes), "after %d", length);
        for (int t = 0; t < 500; t++) {
            double value = correlated(t) + (t > 300 ? 20 : 0);
            feed(self, state, value, &one);
            feed(self, restored, value, &other);
            cr_assert(one.score == other.score && one.level == other.level && one.z == other.z,
                      "value %d after %d", t, length);
        }
        free(restored);
        free(state);
    }
}

Test(detector, scores_the_same_after_a_restart)
{
    check_restart("ewma");
    check_restart("zscore");
}

/* Overwrite `bytes` bytes at `at` of a good state; is it still accepted? */
static bool accepts_with(const struct hlt_detector *self, const uint8_t *good, size_t at,
                         const void *with, size_t bytes)
{
    uint8_t bad[1024];
    void *state = fresh_state(self), *before = fresh_state(self);
    bool accepted;

    memcpy(before, state, self->state_bytes);
    memcpy(bad, good, self->packed_bytes);
    memcpy(bad + at, with, bytes);
    accepted = self->unpack(state, bad, self->packed_bytes);
    cr_expect(accepted || memcmp(before, state, self->state_bytes) == 0, "state was touched");
    free(before);
    free(state);
    return accepted;
}

Test(detector, refuses_nonsense_from_the_store)
{
    static const char *const names[] = {"ewma", "zscore"};

    for (size_t i = 0; i < 2; i++) {
        const struct hlt_detector *self = detector(names[i]);
        size_t doubles = i == 0 ? 6 : 100;
        double bad_double[] = {NAN, INFINITY, -INFINITY, 1e300};
        uint8_t good[1024];
        start(3);
        void *state = trained(self, white, 500);
        self->pack(state, good);
        cr_expect(self->unpack(state, good, self->packed_bytes));
        cr_expect(not(self->unpack(state, good, self->packed_bytes - 1)));
        cr_expect(not(self->unpack(state, good, self->packed_bytes + 1)));
        cr_expect(not(self->unpack(state, good, 0)));
        for (size_t at = 0; at < doubles; at++) {
            for (size_t k = 0; k < 4; k++) {
                if (i == 0 && k == 3 && (at == 1 || at == 3)) {
                    continue; /* a variance may be that large */
                }
                cr_expect(not(accepts_with(self, good, at * 8, &bad_double[k], 8)),
                          "%s: double %zu, value %zu", names[i], at, k);
            }
        }
        free(state);
    }
}

Test(ewma, refuses_impossible_deviations)
{
    const struct hlt_detector *self = detector("ewma");
    const double negative = -1e-9;
    const float bad_float[] = {NAN, INFINITY, -1e-6F, 100};
    const uint32_t many = 2000000;
    uint8_t good[256];

    start(4);
    void *state = trained(self, white, 500);
    self->pack(state, good);
    for (size_t at = 0; at < 6; at++) { /* mean and last may be negative, the others not */
        cr_expect(accepts_with(self, good, at * 8, &negative, 8) == (at == 0 || at == 2), "%zu",
                  at);
    }
    for (size_t at = 0; at < 7; at++) {
        for (size_t k = 0; k < 4; k++) {
            bool fine = k == 2 && at < 2; /* the means of z have a sign */
            cr_expect(accepts_with(self, good, 48 + at * 4, &bad_float[k], 4) == fine, "%zu %zu",
                      at, k);
        }
    }
    cr_expect(not(accepts_with(self, good, 76, &many, 4)), "count");
    cr_expect(not(accepts_with(self, good, 80, &many, 2)), "run");
    cr_expect(not(accepts_with(self, good, 82, "\xff", 1)), "quiet");
    cr_expect(not(accepts_with(self, good, 83, "\x02", 1)), "told");
    free(state);
}

/* ---- zscore ---- */

/* The definition, the slow way. */
static double reference_z(const double *values, int count, double value)
{
    int from = count > 100 ? count - 100 : 0;
    double sum = 0, squares = 0;

    for (int i = from; i < count; i++) {
        sum += values[i];
    }
    for (int i = from; i < count; i++) {
        squares += (values[i] - sum / (count - from)) * (values[i] - sum / (count - from));
    }
    return (value - sum / (count - from)) / sqrt(squares / (count - from));
}

Test(zscore, is_the_rolling_z_of_a_hundred_values)
{
    const struct hlt_detector *self = detector("zscore");
    void *state = fresh_state(self);
    double values[2000];
    int alerts = 0;

    start(8);
    for (int t = 0; t < 2000; t++) {
        struct hlt_detector_score score;
        values[t] = correlated(t);
        bool alert = feed(self, state, values[t], &score);
        cr_assert(score.learning == (t < 10));
        if (t < 10) {
            cr_assert(score.score == 0 && score.z == 0);
            continue;
        }
        double z = reference_z(values, t, values[t]);
        cr_assert(fabs((double)score.z - z) <= 1e-5 * fabs(z) + 1e-7, "value %d", t);
        cr_assert(alert == (fabs(z) > 3), "value %d: z %g", t, z);
        cr_assert(fabs(z) > 5 ? score.score > 0.7F : score.score <= 0.7F, "value %d: z %g", t, z);
        cr_assert(fabs((double)score.level - fmin(1, fabs(z) / 3)) < 1e-6);
        alerts += alert;
    }
    cr_expect(alerts > 0);
    free(state);
}

Test(zscore, three_deviations_exactly_are_no_anomaly)
{
    const struct hlt_detector *self = detector("zscore");
    struct hlt_detector_score score;
    static const struct {
        double value;
        bool alert;
    } rows[] = {{3, false}, {-3, false}, {3.000001, true}, {-3.000001, true}, {2.999999, false}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        void *state = fresh_state(self);
        for (int t = 0; t < 100; t++) { /* mean 0, deviation 1 */
            feed(self, state, t % 2 == 0 ? 1 : -1, &score);
        }
        cr_expect(feed(self, state, rows[i].value, &score) == rows[i].alert, "row %zu", i);
        free(state);
    }
}

Test(zscore, a_constant_alerts_when_it_jumps)
{
    const struct hlt_detector *self = detector("zscore");
    struct hlt_detector_score score;
    static const double constants[] = {0, 20, 0.1, -1e9, 1e-300};

    for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++) {
        void *state = fresh_state(self);
        for (int t = 0; t < 150; t++) {
            cr_assert(not(feed(self, state, constants[i], &score)), "constant %zu", i);
        }
        cr_expect(feed(self, state, constants[i] + 1, &score), "constant %zu", i);
        cr_expect(score.event >= 0.5F);
        free(state);
    }
}
