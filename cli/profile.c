/* profile.c - believable signals: a mean of its own per device, a slow drift, gaussian noise, no
 * jumps. */
#include "profile.h"

#include <math.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "../shared/text.h"

enum { TEMPERATURE, HUMIDITY, PRESSURE, BATTERY };

#define OVERHEAT_C 95.0      /* well beyond the built-in critical threshold of 80 */
#define JUMP_SIGMA 20.0      /* of the noise: no detector worth the name may miss it */
#define NOISE_SIGMA_MAX 3.25 /* longer tails would be rare events of their own */
#define TWO_PI 6.283185307179586

static const char *const sensor_names[HLT_PROFILE_SENSORS] = {"temperature", "humidity", "pressure",
                                                              "battery"};

static const struct {
    const char *word, *text;
} kinds[HLT_PROFILE_COUNT] = {
    [HLT_PROFILE_NORMAL] = {"normal", "nothing happens"},
    [HLT_PROFILE_OVERHEAT] = {"overheat", "the temperature steps to 95"},
    [HLT_PROFILE_JUMP] = {"jump", "the humidity jumps to another level"},
    [HLT_PROFILE_SILENT] = {"silent", "it stays connected and says nothing more"},
    [HLT_PROFILE_SPOOF] = {"spoof", "payloads carry the id of --other"},
    [HLT_PROFILE_DENIED] = {"denied", "messages go to the topic of --other"},
    [HLT_PROFILE_MALFORMED] = {"malformed", "payloads are broken JSON"},
    [HLT_PROFILE_HOST] = {"host", "this machine's own readings"},
};

const char *hlt_profile_word(unsigned kind)
{
    return kind < HLT_PROFILE_COUNT ? kinds[kind].word : "?";
}

const char *hlt_profile_text(unsigned kind)
{
    return kind < HLT_PROFILE_COUNT ? kinds[kind].text : "?";
}

/* SplitMix64 (Steele, Lea, Flood 2014): small, seedable, good enough for noise. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static double uniform(uint64_t *state, double low, double high)
{
    return low + (high - low) * (double)(random_next(state) >> 11) * 0x1.0p-53;
}

/* Box and Muller; cut at NOISE_SIGMA_MAX. */
static double gaussian(uint64_t *state)
{
    double radius = sqrt(-2.0 * log(1.0 - uniform(state, 0.0, 1.0)));
    double value = radius * cos(uniform(state, 0.0, TWO_PI));
    return fmax(-NOISE_SIGMA_MAX, fmin(NOISE_SIGMA_MAX, value));
}

void hlt_profile_init(struct hlt_profile *profile, enum hlt_profile_kind kind, uint64_t seed,
                      size_t index, int64_t at_ms, const char *other)
{
    uint64_t random = seed * 0x2545f4914f6cdd1du + index;

    *profile = (struct hlt_profile){.kind = kind, .at_ms = at_ms, .other = other};
    (void)random_next(&random);
    profile->signal[TEMPERATURE] = (struct hlt_sensor_signal){
        .mean = uniform(&random, 18.0, 26.0), .noise = 0.2, .swing = 0.4};
    profile->signal[HUMIDITY] = (struct hlt_sensor_signal){
        .mean = uniform(&random, 40.0, 60.0), .noise = 0.6, .swing = 1.0};
    profile->signal[PRESSURE] = (struct hlt_sensor_signal){
        .mean = uniform(&random, 1005.0, 1020.0), .noise = 0.15, .swing = 0.3};
    profile->signal[BATTERY] =
        (struct hlt_sensor_signal){.mean = uniform(&random, 70.0, 99.0), .noise = 0.05};
    profile->battery_per_hour = uniform(&random, 0.1, 0.5);
    for (size_t i = 0; i < HLT_PROFILE_SENSORS; i++) {
        profile->signal[i].period_s = uniform(&random, 1800.0, 3600.0);
        profile->signal[i].phase = uniform(&random, 0.0, TWO_PI);
    }
    profile->random = random;
}

bool hlt_profile_odd(const struct hlt_profile *profile, int64_t elapsed_ms)
{
    return profile->kind != HLT_PROFILE_NORMAL && profile->kind != HLT_PROFILE_HOST &&
           elapsed_ms >= profile->at_ms;
}

static double reading(struct hlt_profile *profile, size_t sensor, double elapsed_s)
{
    const struct hlt_sensor_signal *signal = &profile->signal[sensor];
    double value = signal->mean + signal->noise * gaussian(&profile->random) +
                   signal->swing * sin(signal->phase + TWO_PI * elapsed_s / signal->period_s);

    if (sensor == BATTERY) {
        value = fmax(0.0, fmin(100.0, value - profile->battery_per_hour * elapsed_s / 3600.0));
    }
    return value;
}

static void add_rounded(cJSON *object, const char *name, double value)
{
    cJSON_AddNumberToObject(object, name, round(value * 100.0) / 100.0);
}

static void add_sensors(struct hlt_profile *profile, cJSON *sensors, int64_t elapsed_ms)
{
    bool odd = hlt_profile_odd(profile, elapsed_ms);

    if (profile->kind == HLT_PROFILE_HOST) {
        hlt_host_read(&profile->host);
        for (size_t i = 0; i < profile->host.count; i++) {
            add_rounded(sensors, profile->host.reading[i].name, profile->host.reading[i].value);
        }
        return;
    }
    for (size_t i = 0; i < HLT_PROFILE_SENSORS; i++) {
        double value = reading(profile, i, (double)elapsed_ms / 1000.0);
        if (odd && profile->kind == HLT_PROFILE_OVERHEAT && i == TEMPERATURE) {
            value += OVERHEAT_C - profile->signal[i].mean;
        }
        if (odd && profile->kind == HLT_PROFILE_JUMP && i == HUMIDITY) {
            value += JUMP_SIGMA * profile->signal[i].noise;
        }
        add_rounded(sensors, sensor_names[i], value);
    }
}

/* Print `object` into `out` and delete it; 0 if it does not fit. */
static size_t print_into(cJSON *object, char *out, size_t out_bytes)
{
    bool fits = cJSON_PrintPreallocated(object, out, (int)out_bytes, false) != 0;

    cJSON_Delete(object);
    return fits ? strlen(out) : 0;
}

size_t hlt_profile_message(struct hlt_profile *profile, const char *id, int64_t elapsed_ms,
                           int64_t wall_ms, char *out, size_t out_bytes, const char **topic_id)
{
    bool odd = hlt_profile_odd(profile, elapsed_ms);
    bool first_few = odd && profile->odd_messages < HLT_PROFILE_FEW;
    char date[HLT_DATE_BYTES];

    *topic_id = id;
    if (odd && profile->kind == HLT_PROFILE_SILENT) {
        return 0;
    }
    if (first_few && profile->kind == HLT_PROFILE_DENIED) {
        *topic_id = profile->other;
    }
    const char *claimed = first_few && profile->kind == HLT_PROFILE_SPOOF ? profile->other : id;
    cJSON *object = cJSON_CreateObject();
    hlt_date_format(wall_ms, date);
    cJSON_AddStringToObject(object, "deviceId", claimed);
    cJSON_AddStringToObject(object, "timestamp", date);
    add_sensors(profile, cJSON_AddObjectToObject(object, "sensors"), elapsed_ms);
    size_t len = print_into(object, out, out_bytes);
    if (first_few && profile->kind == HLT_PROFILE_MALFORMED) {
        len -= len / 4; /* torn off inside "sensors" */
    }
    if (odd) {
        profile->odd_messages++;
    }
    return len;
}

size_t hlt_profile_status(struct hlt_profile *profile, int64_t elapsed_ms, int64_t wall_ms,
                          char *out, size_t out_bytes)
{
    cJSON *object = cJSON_CreateObject(), *health;
    char date[HLT_DATE_BYTES];

    hlt_date_format(wall_ms, date);
    cJSON_AddStringToObject(object, "status", "online");
    health = cJSON_AddObjectToObject(object, "health");
    if (profile->kind != HLT_PROFILE_HOST) { /* what a small board says of itself */
        add_rounded(health, "cpu", 12.0 + gaussian(&profile->random));
        add_rounded(health, "memory", 41.0 + 0.3 * gaussian(&profile->random));
        add_rounded(health, "disk", 23.0);
        cJSON_AddNumberToObject(health, "uptime", floor((double)elapsed_ms / 1000.0));
        add_rounded(health, "battery", reading(profile, BATTERY, (double)elapsed_ms / 1000.0));
        cJSON_AddStringToObject(object, "firmwareVersion", "1.4.2");
    } else {
        hlt_host_add_health(&profile->host, health);
    }
    cJSON_AddStringToObject(object, "lastSeen", date);
    return print_into(object, out, out_bytes);
}
