/* detector_zscore.c - the plain rolling z-score: z against the last 100 values, from the 10th on.
 *
 * z = (value - mean) / std of the window before the value (population std). The value is an anomaly
 * at |z| > 3, of severity HIGH above 5. Our scale puts 0.5 exactly there: score < 0.5 up to and
 * including |z| = 3, and 1 - 1.5 / |z| beyond, so HIGH is a score above 0.7. `level` is the usual
 * normalised score min(1, |z| / 3); `event` is the score of the first value of an excursion, else
 * 0. Kept because it is what people know; it repeats itself on every value of a shift. */
#include <float.h>
#include <math.h>

#include "detector_impl.h"

#define WINDOW 100
#define SAMPLES_MIN 10
#define ANOMALY_Z 3.0
#define SCORE_BELOW 0.4999F /* the largest score that is no alert */
#define Z_MAX 1e6           /* shown for any change of a constant */

/* A window of equal values has a std of 0 but for rounding: below this share of the mean it is 0.
 */
#define NOISE_FLOOR 1e-12
#define VALUE_MAX 1e150 /* so that squares stay finite */

struct zscore {
    double window[WINDOW];
    uint16_t count; /* values in the window */
    uint16_t next;  /* where the next value goes; the oldest once the window is full */
    uint8_t anomalous;
};

static void init(void *state)
{
    memset(state, 0, sizeof(struct zscore));
}

/* Two passes over the window: a running sum would drift over months. About 100 ns. */
static double deviation(const struct zscore *self, double value, double *mean)
{
    double sum = 0, squares = 0, std;

    for (unsigned i = 0; i < self->count; i++) {
        sum += self->window[i];
    }
    *mean = sum / self->count;
    for (unsigned i = 0; i < self->count; i++) {
        double residual = self->window[i] - *mean;
        squares += residual * residual;
    }
    std = sqrt(squares / self->count);
    if (std <= NOISE_FLOOR * fabs(*mean)) {
        bool same = fabs(value - *mean) <= NOISE_FLOOR * fabs(*mean);
        return same ? 0 : copysign(Z_MAX, value - *mean);
    }
    return fmin(fmax((value - *mean) / std, -Z_MAX), Z_MAX);
}

static void update(void *state, double value, int64_t time_ms, struct hlt_detector_score *out)
{
    struct zscore *self = state;
    double mean = value, z = 0;
    bool anomalous;

    (void)time_ms; /* the window counts values */
    value = fmin(fmax(value, -VALUE_MAX), VALUE_MAX);
    if (self->count >= SAMPLES_MIN) {
        z = deviation(self, value, &mean);
    }
    anomalous = fabs(z) > ANOMALY_Z;
    *out = (struct hlt_detector_score){
        .level = (float)fmin(1, fabs(z) / ANOMALY_Z),
        .score = anomalous ? fmaxf(0.5F, (float)(1 - ANOMALY_Z / 2 / fabs(z)))
                           : fminf(SCORE_BELOW, (float)(fabs(z) / ANOMALY_Z / 2)),
        .expected = (float)fmin(fmax(mean, -FLT_MAX), FLT_MAX),
        .z = (float)z,
        .learning = self->count < SAMPLES_MIN,
    };
    out->event = anomalous && !self->anomalous ? out->score : 0;
    self->anomalous = anomalous;
    self->window[self->next] = value;
    self->next = (uint16_t)((self->next + 1) % WINDOW);
    self->count = (uint16_t)(self->count + (self->count < WINDOW));
}

#define PACKED_BYTES (WINDOW * 8 + 2 + 2 + 1)

static void pack(const void *state, uint8_t *out)
{
    const struct zscore *self = state;

    for (unsigned i = 0; i < WINDOW; i++) {
        hlt_detector_put_double(&out, self->window[i]);
    }
    hlt_detector_put(&out, self->count, 2);
    hlt_detector_put(&out, self->next, 2);
    hlt_detector_put(&out, self->anomalous, 1);
}

static bool unpack(void *state, const uint8_t *in, size_t len)
{
    struct zscore self;

    if (len != PACKED_BYTES) {
        return false;
    }
    memset(&self, 0, sizeof(self));
    for (unsigned i = 0; i < WINDOW; i++) {
        self.window[i] = hlt_detector_get_double(&in);
        if (!(fabs(self.window[i]) <= VALUE_MAX)) { /* also NaN */
            return false;
        }
    }
    self.count = (uint16_t)hlt_detector_get(&in, 2);
    self.next = (uint16_t)hlt_detector_get(&in, 2);
    self.anomalous = (uint8_t)hlt_detector_get(&in, 1);
    if (self.count > WINDOW || self.next >= WINDOW || self.anomalous > 1 ||
        (self.count < WINDOW && self.next != self.count)) {
        return false;
    }
    memcpy(state, &self, sizeof(self));
    return true;
}

const struct hlt_detector hlt_detector_zscore = {
    .name = "zscore",
    .summary = "rolling z-score: 100 values, anomaly at |z| > 3",
    .state_bytes = sizeof(struct zscore),
    .packed_bytes = PACKED_BYTES,
    .version = 1,
    .init = init,
    .update = update,
    .pack = pack,
    .unpack = unpack,
};
