/* detector_ewma.c - the default detector: z against an exponentially weighted mean and deviation.
 *
 * Level: a short and a middle mean of z, each in units of its own long-run size. On noise they
 * average out; on a shift they stay; on a random walk or a daily season their own size is large, so
 * only what is unusual for this very signal stands out. Event: a step away from the mean that is
 * large against the deviation or against the usual step, and larger than steps this signal has made
 * at least twice before. Robust: what is learnt from one value is clipped, so one glitch neither
 * blinds nor confuses. Every alert raises its own bar for a while. A new regime that lasts is
 * learnt afresh. All horizons count values, not seconds. */
#include <float.h>
#include <math.h>

#include "detector_impl.h"

#define LEARN 30 /* values before any score */
#define LEARN_LEVEL                                                                                \
    60 /* values before the level is judged: it needs the long-run size of its means */
#define SLOW (1.0 / 1000)
#define SHORT (1.0F / 9)
#define MIDDLE_VALUES 35
#define MIDDLE (1.0F / MIDDLE_VALUES)
#define CLIP 5.0 /* deviations: how far one value counts */

#define EVENT_Z 5.0 /* deviations that make an event; white noise gets there once in 2 million */
#define KNOWN_MARGIN 1.2 /* an event exceeds the known step by this */
#define KNOWN_FROM 6.0   /* usual steps: smaller ones are noise, and EVENT_Z looks after noise */
#define KNOWN_MEMORY (1.0 / 20000)
#define INHIBIT_MEMORY 0.995F /* after an alert: half-life of 140 values */
#define INHIBIT_SHARE 0.75F
#define INHIBIT_MAX 4.0F /* so that a huge glitch does not silence for long */

#define LEVEL_ON 3.5F /* the means in their own sizes; white noise reaches a third of it */
#define LEVEL_OFF (0.6F * LEVEL_ON)
#define FREEZE_Q 2.0F         /* from about here on a value teaches less */
#define LEARN_FREEZE 100      /* values before that holds */
#define LEVEL_SIZE_MIN 0.2F   /* deviations: a mean of z below this is never unusual */
#define RESTRAINT_EVENT 1.15F /* each alert raises its bar by this ... */
#define RESTRAINT_LEVEL 1.5F
#define RESTRAINT_MEMORY (1.0F / 10000) /* ... and so slowly it comes down again */
#define RESTRAINT_MAX 20.0F
#define QUIET 64    /* values after an alert in which an excursion belongs to that alert */
#define RELEARN 500 /* values out of line after which the new regime is normal */

/* Below this share of the value all is float dust (a step of a 32-bit float is 1.2e-7). */
#define NOISE_FLOOR 1e-7
#define NOISE_FLOOR_ABSOLUTE 1e-12
#define VALUE_MAX 1e150 /* so that squares stay finite */
#define Z_MAX 1000.0

struct ewma {
    double mean, variance;                  /* of the value, slow */
    double last, step_variance;             /* of the differences */
    double known_step;                      /* size of step away from normal seen twice, fading */
    double once_step;                       /* the same, seen once */
    float short_z, middle_z;                /* means of clipped z */
    float short_size, middle_size;          /* long-run mean squares of these */
    float inhibit;                          /* the last events' height, fading */
    float restraint_event, restraint_level; /* factors on the thresholds, 1..RESTRAINT_MAX */
    uint32_t count;                         /* values learnt, up to COUNT_MAX */
    uint16_t run;                           /* values the present excursion has lasted */
    uint8_t quiet;                          /* values until a level alert is due again */
    uint8_t told;                           /* the present excursion has had its alert */
};
#define COUNT_MAX 1000000U

_Static_assert(sizeof(struct ewma) <= 96, "the default detector's state is kept by the million");

static void init(void *state)
{
    memset(state, 0, sizeof(struct ewma));
    ((struct ewma *)state)->restraint_event = 1;
    ((struct ewma *)state)->restraint_level = 1;
}

/* fmin() and fmax() of libm are calls, for the sake of NaN; these are one instruction. A NaN in `a`
 * gives `b`, as there; there is none in `b`. */
static inline double least(double a, double b)
{
    return a < b ? a : b;
}

static inline double most(double a, double b)
{
    return a > b ? a : b;
}

static inline float leastf(float a, float b)
{
    return a < b ? a : b;
}

static inline float mostf(float a, float b)
{
    return a > b ? a : b;
}

static double clip(double value, double limit)
{
    return least(most(value, -limit), limit);
}

/* What one value means, before it is learnt. */
struct view {
    double residual, step;
    double sigma, step_sigma; /* never 0 */
    double deviation;         /* residual / sigma */
    float z;                  /* the same, clipped */
};

static struct view look(const struct ewma *self, double value)
{
    struct view view = {.residual = value - self->mean, .step = value - self->last};
    double floor = NOISE_FLOOR * most(fabs(value), fabs(self->mean)) + NOISE_FLOOR_ABSOLUTE;

    view.sigma = sqrt(self->variance + floor * floor);
    view.step_sigma = sqrt(self->step_variance + floor * floor);
    view.deviation = view.residual / view.sigma;
    view.z = (float)clip(view.deviation, Z_MAX);
    return view;
}

/* The way back from a glitch is as large as the glitch, but no news. */
static bool leads_away(const struct view *view)
{
    return fabs(view->residual) > fabs(view->residual - view->step);
}

/* How far the step stands out: 1 is due for an event. Only a step away from the mean is news. */
static float event_ratio(const struct ewma *self, const struct view *view)
{
    double size = fabs(view->step);
    double early = 1 + 20.0 / self->count; /* the deviations are not well known yet */
    double z = fabs(view->deviation);
    double restraint = (double)self->restraint_event;
    double ratio;

    if (!leads_away(view) || size < fabs(view->residual) / 2) {
        return 0;
    }
    ratio = most(z, size / view->step_sigma) / (EVENT_Z * early * restraint);
    if (self->known_step > KNOWN_FROM * view->step_sigma) {
        ratio = least(ratio, size / (KNOWN_MARGIN * restraint * self->known_step));
    }
    return (float)least(ratio, Z_MAX);
}

static void remember_step(struct ewma *self, const struct view *view)
{
    double size = fabs(view->step);

    self->known_step -= self->known_step * KNOWN_MEMORY;
    self->once_step -= self->once_step * KNOWN_MEMORY;
    if (leads_away(view) && size > self->known_step) {
        self->known_step = least(self->once_step, size);
        self->once_step = most(self->once_step, size);
    }
}

static float level_of(float mean, float mean_square)
{
    return fabsf(mean) / (sqrtf(mean_square) + LEVEL_SIZE_MIN);
}

/* Move the two means of z; returns how unusual they are. */
static float level_statistic(struct ewma *self, const struct view *view)
{
    /* Divisions are what this function costs: none where the result is known. */
    float first = self->count < MIDDLE_VALUES ? 1.0F / (float)(self->count + 1) : 0;
    float z = self->count > 5 ? (float)clip((double)view->z, CLIP) : 0;

    self->short_z += mostf(SHORT, first) * (z - self->short_z);
    self->middle_z += mostf(MIDDLE, first) * (z - self->middle_z);
    if (self->count < LEARN_LEVEL) {
        return 0;
    }
    return mostf(level_of(self->short_z, self->short_size),
                 level_of(self->middle_z, self->middle_size));
}

/* The weight of one value in the slow means. 2/n at first: what a sensor says as it powers up (85
 * degrees, -127) fades with the square of n instead of staying for thousands of values. Little
 * weight while things are out of line, or a shift would make itself normal before it is over. */
static double slow_weight(const struct ewma *self, float q)
{
    double weight = self->count < 2 / SLOW ? most(SLOW, least(1, 2.0 / (self->count + 1))) : SLOW;
    double strange = (double)(q / FREEZE_Q);

    return self->count > LEARN_FREEZE ? weight / (1 + strange * strange) : weight;
}

static void learn(struct ewma *self, double value, const struct view *view, double slow)
{
    double residual = view->residual, step = view->step;

    if (self->count > LEARN) {
        residual = clip(residual, CLIP * view->sigma);
        step = clip(step, CLIP * view->step_sigma);
    }
    self->mean += slow * residual;
    self->variance += slow * (residual * residual - self->variance);
    self->step_variance += slow * (step * step - self->step_variance);
    self->short_size += (float)slow * (self->short_z * self->short_z - self->short_size);
    self->middle_size += (float)slow * (self->middle_z * self->middle_z - self->middle_size);
    self->last = value;
    self->count += self->count < COUNT_MAX;
}

/* Far beyond the noise, and yet no further than this signal is known to jump: a set point that
 * changes now and then. */
static bool known_jump(const struct ewma *self, const struct view *view)
{
    double size = fabs(view->residual);

    return size > 2 * EVENT_Z * view->sigma && size <= KNOWN_MARGIN * self->known_step;
}

/* True when the level's own alert is due: once per excursion. */
static bool judge_level(struct ewma *self, const struct view *view, float q)
{
    if (self->run == 0 && q >= LEVEL_ON) {
        self->told = self->quiet > 0 || known_jump(self, view);
        self->run = 1;
    } else if (self->run > 0) {
        self->run = q < LEVEL_OFF ? 0 : (uint16_t)(self->run + 1);
    }
    self->quiet = (uint8_t)(self->quiet - (self->quiet > 0));
    self->restraint_level -= (self->restraint_level - 1) * RESTRAINT_MEMORY;
    if (self->run == 0 || self->told || q < LEVEL_ON * self->restraint_level) {
        return false;
    }
    self->told = 1;
    self->quiet = QUIET;
    self->restraint_level = leastf(self->restraint_level * RESTRAINT_LEVEL, RESTRAINT_MAX);
    return true;
}

/* The event score after inhibition: 0.5 and more is an alert. */
static float judge_event(struct ewma *self, float ratio)
{
    float over = mostf(ratio - INHIBIT_SHARE * self->inhibit, 0);

    self->inhibit = mostf(self->inhibit * INHIBIT_MEMORY, leastf(ratio, INHIBIT_MAX));
    self->restraint_event -= (self->restraint_event - 1) * RESTRAINT_MEMORY;
    if (over >= 1) {
        self->told = 1;
        self->quiet = QUIET;
        self->restraint_event = leastf(self->restraint_event * RESTRAINT_EVENT, RESTRAINT_MAX);
    }
    return over / (over + 1);
}

/* What has lasted this long is how things are now. Known steps and bars stay. */
static void accept_regime(struct ewma *self, double value)
{
    self->mean = value;
    self->variance = 0;
    self->step_variance = 0;
    self->short_z = 0;
    self->middle_z = 0;
    self->short_size = 0;
    self->middle_size = 0;
    self->count = 1;
    self->run = 0;
}

static void update(void *state, double value, int64_t time_ms, struct hlt_detector_score *out)
{
    struct ewma *self = state;
    struct view view;
    float q;

    (void)time_ms; /* horizons count values */
    *out = (struct hlt_detector_score){.learning = self->count < LEARN};
    value = clip(value, VALUE_MAX);
    if (self->count == 0) {
        self->mean = self->last = value;
    }
    view = look(self, value);
    q = level_statistic(self, &view);
    if (!out->learning) {
        bool due;
        out->event = judge_event(self, event_ratio(self, &view));
        due = judge_level(self, &view, q);
        out->level = q / (q + LEVEL_ON);
        out->score = due ? mostf(out->event, out->level) : out->event;
    }
    out->expected = (float)clip(self->mean, FLT_MAX);
    out->z = out->learning ? 0 : view.z;
    remember_step(self, &view);
    learn(self, value, &view, slow_weight(self, q));
    if (self->run >= RELEARN) {
        accept_regime(self, value);
    }
}

#define PACKED_BYTES (6 * 8 + 7 * 4 + 4 + 2 + 1 + 1)

static void pack(const void *state, uint8_t *out)
{
    const struct ewma *self = state;
    const double doubles[] = {self->mean,          self->variance,   self->last,
                              self->step_variance, self->known_step, self->once_step};
    const float floats[] = {self->short_z,        self->middle_z, self->short_size,
                            self->middle_size,    self->inhibit,  self->restraint_event,
                            self->restraint_level};

    for (size_t i = 0; i < sizeof(doubles) / sizeof(doubles[0]); i++) {
        hlt_detector_put_double(&out, doubles[i]);
    }
    for (size_t i = 0; i < sizeof(floats) / sizeof(floats[0]); i++) {
        hlt_detector_put_float(&out, floats[i]);
    }
    hlt_detector_put(&out, self->count, 4);
    hlt_detector_put(&out, self->run, 2);
    hlt_detector_put(&out, self->quiet, 1);
    hlt_detector_put(&out, self->told, 1);
}

/* False for NaN. */
static bool within(double value, double low, double high)
{
    return value >= low && value <= high;
}

static bool sound(const struct ewma *self)
{
    const double squares = 5 * VALUE_MAX * VALUE_MAX;

    return within(self->mean, -2 * VALUE_MAX, 2 * VALUE_MAX) &&
           within(self->last, -VALUE_MAX, VALUE_MAX) && within(self->variance, 0, squares) &&
           within(self->step_variance, 0, squares) && within(self->known_step, 0, 2 * VALUE_MAX) &&
           within(self->once_step, 0, 2 * VALUE_MAX) &&
           within((double)self->short_z, -CLIP, CLIP) &&
           within((double)self->middle_z, -CLIP, CLIP) &&
           within((double)self->short_size, 0, CLIP * CLIP) &&
           within((double)self->middle_size, 0, CLIP * CLIP) &&
           within((double)self->inhibit, 0, (double)INHIBIT_MAX) &&
           within((double)self->restraint_event, 1, (double)RESTRAINT_MAX) &&
           within((double)self->restraint_level, 1, (double)RESTRAINT_MAX) &&
           self->count <= COUNT_MAX && self->run < RELEARN && self->quiet <= QUIET &&
           self->told <= 1;
}

static bool unpack(void *state, const uint8_t *in, size_t len)
{
    struct ewma self = {0};
    double *const doubles[] = {&self.mean,          &self.variance,   &self.last,
                               &self.step_variance, &self.known_step, &self.once_step};
    float *const floats[] = {&self.short_z,        &self.middle_z, &self.short_size,
                             &self.middle_size,    &self.inhibit,  &self.restraint_event,
                             &self.restraint_level};

    if (len != PACKED_BYTES) {
        return false;
    }
    for (size_t i = 0; i < sizeof(doubles) / sizeof(doubles[0]); i++) {
        *doubles[i] = hlt_detector_get_double(&in);
    }
    for (size_t i = 0; i < sizeof(floats) / sizeof(floats[0]); i++) {
        *floats[i] = hlt_detector_get_float(&in);
    }
    self.count = (uint32_t)hlt_detector_get(&in, 4);
    self.run = (uint16_t)hlt_detector_get(&in, 2);
    self.quiet = (uint8_t)hlt_detector_get(&in, 1);
    self.told = (uint8_t)hlt_detector_get(&in, 1);
    if (!sound(&self)) {
        return false;
    }
    memcpy(state, &self, sizeof(self));
    return true;
}

const struct hlt_detector hlt_detector_ewma = {
    .name = "ewma",
    .summary = "z against an exponentially weighted mean; shifts and steps, robust to glitches",
    .state_bytes = sizeof(struct ewma),
    .packed_bytes = PACKED_BYTES,
    .version = 1,
    .init = init,
    .update = update,
    .pack = pack,
    .unpack = unpack,
};
