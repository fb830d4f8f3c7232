/* store.h - LMDB: one environment, full sync, one writer thread (facts: store and hot path, 2).
 *
 * The broker opens the store once, reads everything back, then only hands over batches; it never touches LMDB again. The
 * command opens it read-only, while the broker runs or when it is down. Values are opaque here: record.h shapes them. */
#ifndef HLT_STORE_H
#define HLT_STORE_H

#include "base.h"

enum hlt_db { HLT_DB_META, HLT_DB_DEVICES, HLT_DB_METRICS, HLT_DB_ALERTS, HLT_DB_IDENTITIES,
              HLT_DB_COUNTERS, HLT_DB_COUNT };
const char *hlt_db_name(enum hlt_db db); /* "devices" */

#define HLT_STORE_SCHEMA 1            /* a store with a greater one is refused */
#define HLT_STORE_KEY_MAX 511
#define HLT_STORE_VALUE_MAX (1u << 20)

struct hlt_store;

struct hlt_store_config {
    const char *path;          /* a directory; created 0750 if its parent exists */
    uint64_t map_bytes;        /* starts at min(8 GiB, this) and doubles up to this */
    int64_t flush_interval_ms; /* a batch waits at most this long (5 s), an urgent one 200 ms */
    const char *checker;       /* program run as `checker store check --db PATH` after an unclean stop, NULL: no check */
};

/* Open for the broker: takes the lock on PATH/owner (HLT_EBUSY: names the holder's pid), checks the file system (network ones
 * are refused), checks the store in a separate process after an unclean stop, moves a damaged one aside to PATH.corrupt-DATE (at most 2 kept; *replaced says so),
 * marks it running, starts the writer thread. Commits synchronously; call before serving. */
enum hlt_rc hlt_store_open(struct hlt_store **out, const struct hlt_store_config *config,
                           bool *was_clean, bool *replaced, struct hlt_err *err);
/* Flush everything, mark a clean stop, end the thread, release the lock. Accepts NULL. */
void hlt_store_close(struct hlt_store *store);

/* Read every record of a database in key order, before the first batch is submitted (or read-only). `each` returns false to stop. The
 * pointers live only during the call. */
typedef bool hlt_store_each_fn(void *context, const void *key, size_t key_len, const void *value,
                               size_t value_len);
enum hlt_rc hlt_store_each(struct hlt_store *store, enum hlt_db db, hlt_store_each_fn *each,
                           void *context, struct hlt_err *err);

/* --- hand-over (broker thread) --- */
#define HLT_STORE_BATCHES 4                   /* buffers in the ring */
#define HLT_STORE_BATCH_BYTES (4u << 20)      /* room of one */

/* The batch being filled, or NULL while all buffers are with the writer: keep the records dirty and come back. Never waits. */
struct hlt_batch;
struct hlt_batch *hlt_store_batch(struct hlt_store *store);
/* Add a put (value NULL: a delete). False: no room, submit and take the next batch. */
bool hlt_batch_put(struct hlt_batch *batch, enum hlt_db db, const void *key, size_t key_len,
                   const void *value, size_t value_len);
size_t hlt_batch_count(const struct hlt_batch *batch);
/* Give the batch to the writer. `urgent`: on disk within 200 ms if the disk keeps up. An empty batch is kept. */
void hlt_store_submit(struct hlt_store *store, bool urgent);

struct hlt_store_stats {
    uint64_t batches_submitted, batches_committed, records_committed;
    uint64_t commit_errors;   /* commits that failed and were tried again */
    uint64_t last_commit_us;  /* duration */
    int64_t last_commit_wall_ms;
    uint64_t used_bytes, map_bytes;
    uint64_t readers_cleared; /* dead readers found */
    bool failing;             /* the last commit failed: disk full or I/O error */
};
void hlt_store_stats(const struct hlt_store *store, struct hlt_store_stats *out);

/* --- the command --- */
/* Open read-only. Never creates anything. HLT_ENOTFOUND: no store there (yet). End each use within a second: an open
 * reader makes the file grow. */
enum hlt_rc hlt_store_open_reader(struct hlt_store **out, const char *path, struct hlt_err *err);
/* One record, copied to malloc'd *value (caller frees). HLT_ENOTFOUND. */
enum hlt_rc hlt_store_get(struct hlt_store *store, enum hlt_db db, const void *key, size_t key_len,
                          void **value, size_t *value_len, struct hlt_err *err);
/* True if a broker holds the store now; *pid (may be NULL) is it. */
bool hlt_store_in_use(const char *path, long *pid);
/* Walk all of it: structure and record checksums (record.h's header). For the separate process. *records gets the number read, *damaged those with a wrong checksum. */
enum hlt_rc hlt_store_check(const char *path, uint64_t *records, uint64_t *damaged,
                            struct hlt_err *err);

#endif
