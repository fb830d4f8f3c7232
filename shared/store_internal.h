/* store_internal.h - what the files of the store share; nobody else includes it.
 *
 *   store.c          open, close, numbers: the order of things
 *   store_place.c    the directory, its owner, the check before use, moving a damaged store aside
 *   store_writer.c   batches, the ring and the one thread that commits
 *   store_reader.c   reading, checking and copying
 *   store_offline.c  the command's own writes, while no broker runs */
#ifndef HLT_STORE_INTERNAL_H
#define HLT_STORE_INTERNAL_H

#include "store.h"

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define HLT_STORE_PATH_MAX 3900 /* room for "/corrupt-DATE/data.mdb" within PATH_MAX */
#define HLT_STORE_DATABASES_MAX 16
#define HLT_STORE_TXN_RECORDS                                                                      \
    ((size_t)2 * HLT_STORE_BATCH_RECORDS) /* most a transaction can collect */

/* One record waiting in a batch; its key and then its value stand at `offset` of the bytes. */
struct hlt_batch_op {
    uint32_t offset;
    uint32_t value_len;
    uint16_t key_len;
    uint8_t db;
    bool is_delete;
};

struct hlt_batch {
    struct hlt_store *store;
    size_t count, used_bytes;
    int64_t submitted_ms; /* CLOCK_MONOTONIC */
    struct hlt_batch_op op[HLT_STORE_BATCH_RECORDS];
    uint8_t bytes[HLT_STORE_BATCH_BYTES];
};

/* A record of the transaction being put together: (db, key) order, then the order of arrival. */
struct hlt_store_item {
    const uint8_t *key;
    const struct hlt_batch_op *op;
    uint32_t arrival;
};

enum hlt_store_failure {
    HLT_STORE_FINE,
    HLT_STORE_FULL, /* the map is at its cap */
    HLT_STORE_DISK, /* LMDB says EIO for a full disk too (facts: store and hot path, 1.6) */
    HLT_STORE_MEMORY,
    HLT_STORE_BROKEN, /* LMDB refuses its own file */
};

struct hlt_store {
    char path[HLT_STORE_PATH_MAX + 1];
    char note[512];
    MDB_env *env;
    MDB_dbi dbi[HLT_DB_COUNT];
    bool has_dbi[HLT_DB_COUNT];
    uint64_t map_cap, map_start;
    int owner_fd; /* -1: a reader */

    /* the ring: broker thread writes `head`, writer thread writes `tail`; both only grow */
    struct hlt_batch *ring[HLT_STORE_BATCHES];
    _Atomic uint64_t head, tail;
    atomic_bool urgent, stopping;
    int wake_fd; /* eventfd: a submit or the stop */
    pthread_t thread;
    bool thread_runs;

    /* the writer thread's own */
    struct hlt_store_item *item; /* HLT_STORE_TXN_RECORDS */
    int64_t interval_ms, interval_set_ms;
    int64_t urgent_due_ms; /* INT64_MAX: nothing urgent */
    int64_t retry_at_ms, backoff_ms;
    bool marked_clean; /* the store was given back clean */

    /* numbers for other threads */
    _Atomic uint64_t batches_submitted, batches_committed, records_committed, commit_errors;
    _Atomic uint64_t last_commit_us, used_bytes, map_bytes, readers_cleared, records_refused;
    _Atomic int64_t last_commit_wall_ms;
    atomic_int failure; /* enum hlt_store_failure */
};

/* --- store.c --- */
/* A store that is not open yet; its path is 1..HLT_STORE_PATH_MAX bytes. NULL: no memory. */
struct hlt_store *hlt_store_new(const char *path);
int64_t hlt_store_wall_ms(void);
int64_t hlt_store_mono_ms(void);
void hlt_store_path_of(char *out, size_t out_bytes, const char *directory, const char *name);
/* Translate a code of LMDB or errno; `what` says what was tried: "cannot open the store". */
enum hlt_rc hlt_store_rc(int mdb_rc, const char *what, const char *path, struct hlt_err *err);
/* Create and open the environment for writing, and its databases. */
enum hlt_rc hlt_store_env_open(struct hlt_store *store, struct hlt_err *err);
/* One meta record of a fixed size; false if absent or damaged. */
bool hlt_store_meta_get(MDB_txn *txn, const struct hlt_store *store, const char *key, void *out,
                        size_t out_bytes);
bool hlt_store_meta_number(MDB_txn *txn, const struct hlt_store *store, const char *key,
                           uint64_t *out);
int hlt_store_meta_put(MDB_txn *txn, const struct hlt_store *store, const char *key,
                       const void *data, size_t len);
int hlt_store_meta_put_number(MDB_txn *txn, const struct hlt_store *store, const char *key,
                              uint64_t value);
/* Double the map up to its cap; false at the cap. No transaction of this process may be open. */
bool hlt_store_grow(struct hlt_store *store);

/* --- store_place.c --- */
/* Why this file system (statfs f_type) cannot hold a store: its name, or NULL if it can. */
const char *hlt_store_fs_refused(unsigned long type);
enum hlt_rc hlt_store_place_prepare(struct hlt_store *store, struct hlt_err *err);
/* Lock PATH/owner for life. *was_clean: as the last holder left it, and data.mdb is the same still.
 */
enum hlt_rc hlt_store_owner_take(struct hlt_store *store, bool *was_clean, struct hlt_err *err);
void hlt_store_owner_mark_clean(struct hlt_store *store);
/* Check in another process; move a damaged store aside. */
enum hlt_rc hlt_store_judge(struct hlt_store *store, const char *checker, bool *replaced,
                            struct hlt_err *err);

/* --- store_reader.c --- */
/* Begin a read transaction, after the broker has grown the map or dead readers hold the slots too.
 */
int hlt_store_read_begin(MDB_env *env, MDB_txn **txn);
/* Refuse a store that a newer Haltere wrote. */
enum hlt_rc hlt_store_refuse_newer(struct hlt_store *store, struct hlt_err *err);
/* Say why there is no store at `path`, or whether it is a backup (data.mdb alone). */
enum hlt_rc hlt_store_look_at(const char *path, bool *is_backup, struct hlt_err *err);

/* --- store_writer.c --- */
void *hlt_store_writer_main(void *store);

#endif
