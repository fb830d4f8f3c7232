/* store.h - LMDB: one environment, full sync, one writer thread (facts: store and hot path, 2).
 *
 * The broker opens the store once, reads everything back, then only hands over batches; it never
 * touches LMDB again. The command opens it read-only, while the broker runs or when it is down.
 * Values are opaque here: record.h shapes them. */
#ifndef HLT_STORE_H
#define HLT_STORE_H

#include "base.h"

enum hlt_db {
    HLT_DB_META,
    HLT_DB_DEVICES,
    HLT_DB_METRICS,
    HLT_DB_ALERTS,
    HLT_DB_IDENTITIES,
    HLT_DB_COUNTERS,
    HLT_DB_REVOCATIONS,
    HLT_DB_AUDIT,
    HLT_DB_BANS,
    HLT_DB_COUNT
};
const char *hlt_db_name(enum hlt_db db); /* "devices" */

#define HLT_STORE_SCHEMA 1 /* a store with a greater one is refused */
#define HLT_STORE_KEY_MAX 511
#define HLT_STORE_VALUE_MAX (1u << 20)

struct hlt_store;

struct hlt_store_config {
    const char *path;          /* a directory; created 0750 if its parent exists */
    uint64_t map_bytes;        /* most the map may grow to; 0: 64 GiB */
    uint64_t map_start_bytes;  /* the map starts at min(this, map_bytes) and doubles; 0: 8 GiB */
    int64_t flush_interval_ms; /* a batch waits at most this long (0: 5 s), an urgent one 200 ms */
    /* Program run as `checker store check --structure --db PATH` unless the last stop was clean:
     * exit 0 is sound, 1 or a signal damaged, any other has judged nothing. NULL: no check. */
    const char *checker;
};

/* Open for the broker: takes the lock on PATH/owner (HLT_EBUSY: names the holder's pid), checks the
 * file system (network ones are refused), checks the store in a separate process unless the last
 * stop was clean and data.mdb is unchanged since, moves a damaged one aside to PATH/corrupt-DATE
 * (at most 2 kept; *replaced says so), marks it running, starts the writer thread. Commits
 * synchronously; call before serving. was_clean and replaced may be NULL. A new store counts as
 * clean. */
enum hlt_rc hlt_store_open(struct hlt_store **out, const struct hlt_store_config *config,
                           bool *was_clean, bool *replaced, struct hlt_err *err);
/* What a person should know about this start ("store not checked: no program 'haltere'"), "" if
 * nothing. Lives as long as the store. */
const char *hlt_store_note(const struct hlt_store *store);
/* Flush everything (a disk that fails is given a second or two), mark a clean stop, end the thread,
 * release the lock. Accepts NULL. */
void hlt_store_close(struct hlt_store *store);

/* Read every record of a database in key order, before the first batch is submitted (or read-only).
 * `each` returns false to stop. The pointers live only during the call. */
typedef bool hlt_store_each_fn(void *context, const void *key, size_t key_len, const void *value,
                               size_t value_len);
enum hlt_rc hlt_store_each(struct hlt_store *store, enum hlt_db db, hlt_store_each_fn *each,
                           void *context, struct hlt_err *err);

/* --- hand-over (broker thread) --- */
#define HLT_STORE_BATCHES 4              /* buffers in the ring */
#define HLT_STORE_BATCH_BYTES (4u << 20) /* room of one: keys and values */
#define HLT_STORE_BATCH_RECORDS 10000u   /* room of one: records; also enough for a transaction */

/* The batch being filled, or NULL while all buffers are with the writer: keep the records dirty and
 * come back. Never waits. */
struct hlt_batch;
struct hlt_batch *hlt_store_batch(struct hlt_store *store);
/* Add a put (value NULL: a delete). Copies both. False: no room, submit and take the next batch. A
 * key of 0 or more than HLT_STORE_KEY_MAX bytes or a value over HLT_STORE_VALUE_MAX can never be
 * stored: it is counted in records_refused, and the answer is true. About 30 ns and the copy. */
bool hlt_batch_put(struct hlt_batch *batch, enum hlt_db db, const void *key, size_t key_len,
                   const void *value, size_t value_len);
size_t hlt_batch_count(const struct hlt_batch *batch);
/* Give the batch to the writer. `urgent`: it and all before it on disk within 200 ms if the disk
 * keeps up. An empty batch is kept. One write to an eventfd, no lock. */
void hlt_store_submit(struct hlt_store *store, bool urgent);

struct hlt_store_stats {
    uint64_t batches_submitted, batches_committed, records_committed;
    uint64_t commit_errors;  /* commits that failed and were tried again */
    uint64_t last_commit_us; /* duration */
    int64_t last_commit_wall_ms;
    uint64_t used_bytes, map_bytes;
    uint64_t readers_cleared; /* dead readers found */
    uint64_t records_refused; /* puts with an impossible key or value */
    bool failing;        /* the last commit failed and is tried again (1 s, doubling to 60 s) */
    const char *failure; /* why, a static text; NULL unless failing */
};
void hlt_store_stats(const struct hlt_store *store, struct hlt_store_stats *out);

/* --- the command --- */
/* Open read-only. Never creates anything. HLT_ENOTFOUND: no store there (yet). End each use within
 * a second: an open reader makes the file grow. A directory with data.mdb but no lock.mdb is a
 * backup: it is read without locks. */
enum hlt_rc hlt_store_open_reader(struct hlt_store **out, const char *path, struct hlt_err *err);
/* The key of a database's last record: *key_len is its length (0: the database is empty), at most
 * key_bytes of it are copied. */
enum hlt_rc hlt_store_last(struct hlt_store *store, enum hlt_db db, void *key, size_t key_bytes,
                           size_t *key_len, struct hlt_err *err);
/* One record, copied to malloc'd *value (caller frees). HLT_ENOTFOUND. */
enum hlt_rc hlt_store_get(struct hlt_store *store, enum hlt_db db, const void *key, size_t key_len,
                          void **value, size_t *value_len, struct hlt_err *err);
/* Open for a few writes of the command while no broker runs: takes the lock on PATH/owner
 * (HLT_EBUSY: names the holder), only as the directory's owner, and never creates a store
 * (HLT_ENOTFOUND). hlt_store_close gives it back as it was found, clean or not. */
enum hlt_rc hlt_store_open_writer(struct hlt_store **out, const char *path, struct hlt_err *err);
struct hlt_store_put {
    enum hlt_db db;
    const void *key;
    size_t key_len;
    const void *value; /* NULL: delete; one that is not there is no error */
    size_t value_len;
};
/* All of them or none, on disk when this returns. Only with a store of hlt_store_open_writer. */
enum hlt_rc hlt_store_write(struct hlt_store *store, const struct hlt_store_put *puts, size_t count,
                            struct hlt_err *err);
/* Meta keys the store itself keeps, all blob records: "schema", "created" (unix ms), "boot"
 * (starts), "flushed" (unix ms of the last commit) are u64 LE; "uuid" is 36 characters, "clean" "0"
 * or "1". */
struct hlt_store_info {
    uint64_t file_bytes, used_bytes,
        free_bytes; /* data.mdb; pages ever used; of those free again */
    uint64_t map_bytes;
    uint64_t entries[HLT_DB_COUNT], bytes[HLT_DB_COUNT]; /* records and pages, per database */
    unsigned readers, readers_max;                       /* open read transactions, slots */
    long oldest_reader_pid;                              /* 0: nobody reads */
    uint64_t oldest_reader_lag;                          /* commits since its snapshot */
    uint64_t last_txn;
    long broker_pid; /* 0: no broker holds the store */
    uint64_t schema, boot;
    int64_t created_ms, flushed_ms; /* 0: not known */
    char uuid[37];                  /* "" : not known */
    bool clean;                     /* the last stop was clean, or nobody has run since */
};
/* Numbers about a store opened with hlt_store_open_reader. Walks the free list: milliseconds. */
enum hlt_rc hlt_store_info(struct hlt_store *store, struct hlt_store_info *out,
                           struct hlt_err *err);
/* Write a compacted copy to DIRECTORY/data.mdb, synced before it gets that name. The directory must
 * exist and be empty (HLT_EINVAL). Holds one read transaction: about 1.3 s for 1 GB. */
enum hlt_rc hlt_store_backup(struct hlt_store *store, const char *directory, struct hlt_err *err);
/* True if a broker holds the store now; *pid (may be NULL) is it. */
bool hlt_store_in_use(const char *path, long *pid);
/* Walk all of it: structure and record checksums (record.h's header). For a separate process: LMDB
 * may abort() on damaged pages. *records gets the number read, *damaged those with a wrong checksum
 * (the broker skips these). HLT_EPARSE: the structure is damaged; then both counts say how far it
 * came. */
enum hlt_rc hlt_store_check(const char *path, uint64_t *records, uint64_t *damaged,
                            struct hlt_err *err);

#endif
