/* host.c - reads this machine's load, memory and temperature (proc(5); kernel
 * Documentation/hwmon/sysfs-interface). */
#include "host.h"

#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

static bool read_text(const char *path, char *out, size_t out_bytes)
{
    FILE *file = fopen(path, "re");

    if (file == NULL) {
        return false;
    }
    size_t len = fread(out, 1, out_bytes - 1, file);
    (void)fclose(file);
    out[len] = '\0';
    return len > 0;
}

static void add(struct hlt_host *host, const char *name, double value)
{
    if (host->count < HLT_HOST_READINGS) {
        host->reading[host->count].name = name;
        host->reading[host->count++].value = value;
    }
}

static void read_cpu(struct hlt_host *host)
{
    char text[512];
    uint64_t all = 0, idle = 0;

    if (!read_text("/proc/stat", text, sizeof(text)) || strncmp(text, "cpu ", 4) != 0) {
        return;
    }
    char *at = text + 4;
    /* user nice system idle iowait irq softirq steal; guest time is in user already */
    for (int i = 0; i < 8; i++) {
        uint64_t ticks = strtoull(at, &at, 10);
        all += ticks;
        idle += i == 3 || i == 4 ? ticks : 0;
    }
    uint64_t busy = all - idle;
    if (host->all_ticks > 0 && all > host->all_ticks && busy >= host->busy_ticks) {
        add(host, "cpu",
            100.0 * (double)(busy - host->busy_ticks) / (double)(all - host->all_ticks));
    }
    host->all_ticks = all;
    host->busy_ticks = busy;
}

static double meminfo(const char *text, const char *name)
{
    const char *line = strstr(text, name);
    return line != NULL ? strtod(line + strlen(name), NULL) : 0.0;
}

static void read_memory(struct hlt_host *host)
{
    char text[4096];

    if (read_text("/proc/meminfo", text, sizeof(text))) {
        double total = meminfo(text, "MemTotal:"), free_kb = meminfo(text, "MemAvailable:");
        if (total > 0.0) {
            add(host, "memory", 100.0 * (total - free_kb) / total);
        }
    }
}

/* The hottest sensor: it is the one that matters. */
static void read_temperature(struct hlt_host *host)
{
    glob_t found = {0};
    double hottest = 0.0;

    (void)glob("/sys/class/thermal/thermal_zone*/temp", 0, NULL, &found);
    (void)glob("/sys/class/hwmon/hwmon*/temp*_input", GLOB_APPEND, NULL, &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char text[32];
        if (read_text(found.gl_pathv[i], text, sizeof(text))) {
            double degrees = strtod(text, NULL) / 1000.0;
            hottest = degrees > hottest && degrees < 200.0 ? degrees : hottest;
        }
    }
    globfree(&found);
    if (hottest > 0.0) {
        add(host, "temperature", hottest);
    }
}

void hlt_host_read(struct hlt_host *host)
{
    char text[128];

    host->count = 0;
    read_cpu(host);
    if (read_text("/proc/loadavg", text, sizeof(text))) {
        add(host, "load1", strtod(text, NULL));
    }
    read_memory(host);
    read_temperature(host);
}

static void add_rounded(cJSON *health, const char *name, double value)
{
    cJSON_AddNumberToObject(health, name, round(value * 100.0) / 100.0);
}

void hlt_host_add_health(const struct hlt_host *host, cJSON *health)
{
    struct statvfs disk;
    char text[128];

    for (size_t i = 0; i < host->count; i++) {
        const char *name = host->reading[i].name;
        if (strcmp(name, "cpu") == 0 || strcmp(name, "memory") == 0) {
            add_rounded(health, name, host->reading[i].value);
        }
    }
    if (statvfs("/", &disk) == 0 && disk.f_blocks > 0) {
        add_rounded(health, "disk", 100.0 * (1.0 - (double)disk.f_bavail / (double)disk.f_blocks));
    }
    if (read_text("/proc/uptime", text, sizeof(text))) {
        cJSON_AddNumberToObject(health, "uptime", strtod(text, NULL));
    }
}
