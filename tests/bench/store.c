/* store.c - what the hand-over costs the broker thread, and what the disk takes. About 20 s, 1M
 * records.
 *
 *   bench_store [DIRECTORY]     default: $TMPDIR or /tmp; use the disk that will hold the store */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "../../shared/store.h"

#define KEYS 1000000u
#define VALUE_BYTES 256
#define PHASE_NS 4000000000ll

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static uint64_t random_state = 88172645463325252ull;

static uint32_t random_key(void)
{
    random_state ^= random_state << 13; /* xorshift64, Marsaglia 2003 */
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state % KEYS);
}

static void key_name(char *out, size_t out_bytes, uint32_t key)
{
    (void)snprintf(out, out_bytes, "device-%08u", key);
}

static struct hlt_batch *wait_batch(struct hlt_store *store)
{
    const struct timespec pause = {.tv_nsec = 200000};
    struct hlt_batch *batch;

    while ((batch = hlt_store_batch(store)) == NULL) {
        (void)nanosleep(&pause, NULL);
    }
    return batch;
}

static void wait_committed(struct hlt_store *store)
{
    const struct timespec pause = {.tv_nsec = 200000};
    struct hlt_store_stats stats;

    for (hlt_store_stats(store, &stats); stats.batches_committed < stats.batches_submitted;
         hlt_store_stats(store, &stats)) {
        (void)nanosleep(&pause, NULL);
    }
}

static void load(struct hlt_store *store)
{
    static const uint8_t value[VALUE_BYTES];
    char key[32];
    int64_t begin = now_ns();

    for (uint32_t i = 0; i < KEYS;) {
        struct hlt_batch *batch = wait_batch(store);
        for (key_name(key, sizeof(key), i);
             i < KEYS && hlt_batch_put(batch, HLT_DB_DEVICES, key, strlen(key), value, VALUE_BYTES);
             key_name(key, sizeof(key), i)) {
            i++;
        }
        hlt_store_submit(store, false);
    }
    hlt_store_submit(store, true);
    wait_committed(store);
    printf("load %u records in key order: %.1f s\n", KEYS, (double)(now_ns() - begin) / 1e9);
}

/* The broker thread's share: nothing but puts into a buffer that is there. */
static void hand_over(struct hlt_store *store)
{
    enum { ROUNDS = 20, RECORDS = 10000 };
    static char keys[RECORDS][16];
    static uint8_t value[VALUE_BYTES];
    int64_t put_ns = 0, submit_ns = 0, worst_ns = 0;

    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < RECORDS; i++) {
            key_name(keys[i], sizeof(keys[i]), random_key());
        }
        wait_committed(store); /* alone on the processor */
        struct hlt_batch *batch = wait_batch(store);
        int64_t begin = now_ns();
        for (uint32_t i = 0; i < RECORDS; i++) {
            (void)hlt_batch_put(batch, HLT_DB_DEVICES, keys[i], 15, value, VALUE_BYTES);
        }
        int64_t middle = now_ns();
        hlt_store_submit(store, false);
        int64_t end = now_ns();
        put_ns += middle - begin;
        submit_ns += end - middle;
        worst_ns = end - middle > worst_ns ? end - middle : worst_ns;
    }
    printf("broker thread: hlt_batch_put %.0f ns, submit %.0f ns (worst %.0f us)\n",
           (double)put_ns / ROUNDS / RECORDS, (double)submit_ns / ROUNDS, (double)worst_ns / 1e3);
    wait_committed(store);
}

static double cpu_s(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Random updates in transactions of `records`, one after the other. */
static void churn(struct hlt_store *store, unsigned records)
{
    static uint8_t value[VALUE_BYTES];
    char key[32];
    int64_t begin = now_ns();
    uint64_t total = 0, commits = 0, commit_us = 0, worst_us = 0;
    double cpu = cpu_s();

    while (now_ns() - begin < PHASE_NS) {
        struct hlt_store_stats stats;
        struct hlt_batch *batch = wait_batch(store);
        for (unsigned i = 0; i < records; i++) {
            key_name(key, sizeof(key), random_key());
            value[0]++;
            (void)hlt_batch_put(batch, HLT_DB_DEVICES, key, strlen(key), value, VALUE_BYTES);
        }
        hlt_store_submit(store, true);
        wait_committed(store);
        hlt_store_stats(store, &stats);
        total += records;
        commits++;
        commit_us += stats.last_commit_us;
        worst_us = stats.last_commit_us > worst_us ? stats.last_commit_us : worst_us;
    }
    printf("batch %5u on %u keys: %.0f records/s of commit time, txn mean %.1f ms max %.1f ms, "
           "cpu %.1f us/record\n",
           records, KEYS, (double)total / ((double)commit_us / 1e6),
           (double)commit_us / (double)commits / 1e3, (double)worst_us / 1e3,
           (cpu_s() - cpu) * 1e6 / (double)total);
}

static bool count_one(void *context, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    (void)key;
    (void)key_len;
    (void)value;
    (void)value_len;
    (*(uint64_t *)context)++;
    return true;
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    char path[512], data[600];
    struct hlt_err err = {.msg = ""};
    struct hlt_store *store = NULL;
    uint64_t count = 0;

    (void)snprintf(path, sizeof(path), "%s/haltere-bench-XXXXXX",
                   argc > 1 ? argv[1] : (tmp != NULL ? tmp : "/tmp"));
    if (mkdtemp(path) == NULL) {
        perror(path);
        return 1;
    }
    struct hlt_store_config config = {.path = path, .flush_interval_ms = 5000};
    if (hlt_store_open(&store, &config, NULL, NULL, &err) != HLT_OK) {
        (void)fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    load(store);
    int64_t begin = now_ns();
    (void)hlt_store_each(store, HLT_DB_DEVICES, count_one, &count, &err);
    printf("scan of %llu records: %.0f ms\n", (unsigned long long)count,
           (double)(now_ns() - begin) / 1e6);
    hand_over(store);
    churn(store, 1000);
    churn(store, 10000);
    hlt_store_close(store);

    static const char *const files[] = {"data.mdb", "lock.mdb", "owner"};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        (void)snprintf(data, sizeof(data), "%s/%s", path, files[i]);
        (void)remove(data);
    }
    (void)rmdir(path);
    return 0;
}
