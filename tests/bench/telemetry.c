/* telemetry.c - ns per message of the telemetry scanner, and of cJSON on the same payloads in the
 * same run.
 *
 * Both read the id, the time and every sensor. Rounds are interleaved, so that a busy machine slows
 * both; the figures are the best and the median round. Budget: 420 ns for the 298-byte message. */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../shared/telemetry.h"
#include "../../shared/text.h"

#define ROUNDS 11
#define ROUND_NS 8e6
#define PAYLOAD_MAX 16384

static double now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Fill up to exactly `size` bytes with metadata as devices send it, then close the object. */
static void fill(char *text, size_t size)
{
    size_t len = strlen(text);
    char *last;

    len += (size_t)snprintf(text + len, PAYLOAD_MAX - len, ",\"metadata\":{\"site\":\"north-7\"");
    for (int i = 0; len + 60 < size; i++) {
        len += (size_t)snprintf(
            text + len, PAYLOAD_MAX - len,
            i % 2 == 0 ? ",\"field%03d\":\"some text\"" : ",\"reading%03d\":%d.25", i, i * 37);
    }
    last = text + len;
    len += (size_t)snprintf(last, PAYLOAD_MAX - len, ",\"pad\":\"");
    while (len + 3 < size) {
        text[len++] = 'x';
    }
    memcpy(text + len, "\"}}", 4);
}

static void make_payload(char *text, size_t size)
{
    if (size < 150) {
        strcpy(text, "{\"deviceId\":\"sensor-0042\",\"timestamp\":1795212000123,"
                     "\"sensors\":{\"temperature\":23.51,\"a\":1}}");
        memset(text + strlen(text), ' ', size - strlen(text));
        text[size] = '\0';
        return;
    }
    strcpy(text, "{\"deviceId\":\"sensor-0042\",\"timestamp\":\"2026-11-20T22:00:00.123Z\","
                 "\"sensors\":{\"temperature\":23.51,\"humidity\":45.2,\"pressure\":1013.25,"
                 "\"battery\":87},\"location\":{\"latitude\":48.137154,\"longitude\":11.576124}");
    fill(text, size);
}

static double read_ours(const char *text, size_t len)
{
    static struct hlt_telemetry out;
    double sum = 0;

    if (hlt_telemetry_scan(&out, text, len) != HLT_TELEMETRY_OK) {
        abort();
    }
    for (size_t i = 0; i < out.reading_count; i++) {
        sum += out.reading[i].value;
    }
    return sum + (double)out.device_id_len + (double)(out.time_ms % 1000);
}

static double read_cjson(const char *text, size_t len)
{
    cJSON *tree = cJSON_ParseWithLengthOpts(text, len, NULL, false);
    const cJSON *id = cJSON_GetObjectItemCaseSensitive(tree, "deviceId");
    const cJSON *when = cJSON_GetObjectItemCaseSensitive(tree, "timestamp");
    const cJSON *sensors = cJSON_GetObjectItemCaseSensitive(tree, "sensors"), *sensor;
    int64_t time_ms = 0;
    double sum = 0;

    if (!cJSON_IsString(id) || sensors == NULL) {
        abort();
    }
    if (cJSON_IsNumber(when)) {
        time_ms = (int64_t)when->valuedouble;
    } else if (!hlt_date_parse(when->valuestring, strlen(when->valuestring), &time_ms)) {
        abort();
    }
    cJSON_ArrayForEach(sensor, sensors)
    {
        sum += sensor->valuedouble;
    }
    sum += (double)strlen(id->valuestring) + (double)(time_ms % 1000);
    cJSON_Delete(tree);
    return sum;
}

static double time_round(double (*read)(const char *, size_t), const char *text, size_t len)
{
    double begin = now_ns(), spent = 0, check = 0;
    long messages = 0;

    while (spent < ROUND_NS) {
        for (int i = 0; i < 64; i++) {
            check += read(text, len);
        }
        messages += 64;
        spent = now_ns() - begin;
    }
    if (check < 0) {
        abort(); /* so that the reading is not optimised away */
    }
    return spent / (double)messages;
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

int main(void)
{
    static const size_t sizes[] = {90, 298, 1028, 10232};
    static char text[PAYLOAD_MAX];

    printf("%8s %22s %22s %8s\n", "bytes", "scanner best / median", "cJSON best / median", "ratio");
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        double ours[ROUNDS], theirs[ROUNDS];
        make_payload(text, sizes[s]);
        if (strlen(text) != sizes[s] || read_ours(text, sizes[s]) != read_cjson(text, sizes[s])) {
            fprintf(stderr, "the payload of %zu bytes is read differently\n", sizes[s]);
            return 1;
        }
        for (int round = 0; round < ROUNDS; round++) {
            ours[round] = time_round(read_ours, text, sizes[s]);
            theirs[round] = time_round(read_cjson, text, sizes[s]);
        }
        qsort(ours, ROUNDS, sizeof(double), by_value);
        qsort(theirs, ROUNDS, sizeof(double), by_value);
        printf("%8zu %12.0f / %4.0f ns %12.0f / %4.0f ns %7.1fx\n", sizes[s], ours[0],
               ours[ROUNDS / 2], theirs[0], theirs[ROUNDS / 2],
               theirs[ROUNDS / 2] / ours[ROUNDS / 2]);
    }
    return 0;
}
