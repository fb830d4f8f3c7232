/* store_writer.c - batches from the broker thread to disk: a ring of buffers and one thread that
 * commits.
 *
 * The broker thread fills a batch and publishes it by raising `head`; it never takes a lock, and
 * with every buffer out it simply gets none. The writer releases buffers (`tail`) only after their
 * commit, so a disk that fails costs memory nobody misses and loses nothing. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>

#include "store_internal.h"

#define URGENT_DELAY_MS 50 /* lets a burst of alerts share a commit; leaves 150 ms for the disk */
#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MAX_MS 60000
#define INTERVAL_MAX_MS 60000
#define SLOW_COMMIT_DIVISOR 5 /* a commit over a fifth of the interval doubles the interval */
#define LAST_TRIES 3          /* at close; then the broker's end matters more */
#define LAST_PAUSE_MS 300

/* --- broker thread --- */

struct hlt_batch *hlt_store_batch(struct hlt_store *store)
{
    uint64_t head = atomic_load_explicit(&store->head, memory_order_relaxed);

    if (head - atomic_load_explicit(&store->tail, memory_order_acquire) >= HLT_STORE_BATCHES) {
        return NULL;
    }
    return store->ring[head % HLT_STORE_BATCHES];
}

bool hlt_batch_put(struct hlt_batch *batch, enum hlt_db db, const void *key, size_t key_len,
                   const void *value, size_t value_len)
{
    bool is_delete = value == NULL;
    size_t len = is_delete ? 0 : value_len;

    if (key_len == 0 || key_len > HLT_STORE_KEY_MAX || len > HLT_STORE_VALUE_MAX ||
        (unsigned)db >= HLT_DB_COUNT) {
        atomic_fetch_add_explicit(&batch->store->records_refused, 1, memory_order_relaxed);
        return true;
    }
    if (batch->count == HLT_STORE_BATCH_RECORDS ||
        HLT_STORE_BATCH_BYTES - batch->used_bytes < key_len + len) {
        return false;
    }
    batch->op[batch->count++] = (struct hlt_batch_op){
        .offset = (uint32_t)batch->used_bytes,
        .value_len = (uint32_t)len,
        .key_len = (uint16_t)key_len,
        .db = (uint8_t)db,
        .is_delete = is_delete,
    };
    memcpy(batch->bytes + batch->used_bytes, key, key_len);
    if (len > 0) {
        memcpy(batch->bytes + batch->used_bytes + key_len, value, len);
    }
    batch->used_bytes += key_len + len;
    return true;
}

size_t hlt_batch_count(const struct hlt_batch *batch)
{
    return batch->count;
}

void hlt_store_submit(struct hlt_store *store, bool urgent)
{
    struct hlt_batch *batch = hlt_store_batch(store);

    if (batch != NULL && batch->count > 0) {
        batch->submitted_ms = hlt_store_mono_ms();
        atomic_fetch_add_explicit(&store->batches_submitted, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&store->head, 1, memory_order_release);
    } else if (!urgent) {
        return;
    }
    if (urgent) {
        /* after `head`: whoever sees this flag sees the batch it speaks of */
        atomic_store_explicit(&store->urgent, true, memory_order_release);
    }
    (void)eventfd_write(store->wake_fd, 1); /* non-blocking; a full counter has woken it already */
}

void hlt_store_stats(const struct hlt_store *store, struct hlt_store_stats *out)
{
    static const char *const reason[] = {
        [HLT_STORE_FINE] = NULL,
        [HLT_STORE_FULL] = "the store has reached store_max_size",
        [HLT_STORE_DISK] = "disk full or I/O error",
        [HLT_STORE_MEMORY] = "out of memory",
        [HLT_STORE_BROKEN] = "the store is damaged; restart the broker to have it checked",
    };
    int failure = atomic_load_explicit(&store->failure, memory_order_relaxed);

    *out = (struct hlt_store_stats){
        .batches_submitted = atomic_load_explicit(&store->batches_submitted, memory_order_relaxed),
        /* acquire: who reads that a batch is committed reads the other numbers of that commit */
        .batches_committed = atomic_load_explicit(&store->batches_committed, memory_order_acquire),
        .failing = failure != HLT_STORE_FINE,
        .failure = reason[failure],
    };
    out->records_committed = atomic_load_explicit(&store->records_committed, memory_order_relaxed);
    out->commit_errors = atomic_load_explicit(&store->commit_errors, memory_order_relaxed);
    out->last_commit_us = atomic_load_explicit(&store->last_commit_us, memory_order_relaxed);
    out->last_commit_wall_ms =
        atomic_load_explicit(&store->last_commit_wall_ms, memory_order_relaxed);
    out->used_bytes = atomic_load_explicit(&store->used_bytes, memory_order_relaxed);
    out->map_bytes = atomic_load_explicit(&store->map_bytes, memory_order_relaxed);
    out->readers_cleared = atomic_load_explicit(&store->readers_cleared, memory_order_relaxed);
    out->records_refused = atomic_load_explicit(&store->records_refused, memory_order_relaxed);
}

/* --- writer thread: one transaction --- */

static const struct hlt_batch *batch_at(const struct hlt_store *store, uint64_t index)
{
    return store->ring[index % HLT_STORE_BATCHES];
}

/* By (database, key) as LMDB orders keys, so that a big batch walks the pages once (facts: 1.1);
 * then by arrival, so that the last of several puts of one key stands last. */
static int compare_items(const void *left, const void *right)
{
    const struct hlt_store_item *a = left;
    const struct hlt_store_item *b = right;

    if (a->op->db != b->op->db) {
        return a->op->db < b->op->db ? -1 : 1;
    }
    size_t shorter = a->op->key_len < b->op->key_len ? a->op->key_len : b->op->key_len;
    int order = memcmp(a->key, b->key, shorter);

    if (order == 0) {
        order = (int)a->op->key_len - (int)b->op->key_len;
    }
    return order != 0 ? order : a->arrival < b->arrival ? -1 : 1;
}

static bool same_key(const struct hlt_store_item *a, const struct hlt_store_item *b)
{
    return a->op->db == b->op->db && a->op->key_len == b->op->key_len &&
           memcmp(a->key, b->key, a->op->key_len) == 0;
}

/* Take batches from `tail` until the transaction has enough; returns the first one left. */
static uint64_t collect(const struct hlt_store *store, uint64_t tail, uint64_t head, size_t *count)
{
    *count = 0;
    while (tail < head && *count < HLT_STORE_BATCH_RECORDS) {
        const struct hlt_batch *batch = batch_at(store, tail++);

        for (size_t i = 0; i < batch->count; i++, (*count)++) {
            store->item[*count] = (struct hlt_store_item){
                .key = batch->bytes + batch->op[i].offset,
                .op = &batch->op[i],
                .arrival = (uint32_t)*count,
            };
        }
    }
    return tail;
}

static int put_item(const struct hlt_store *store, MDB_txn *txn, const struct hlt_store_item *item)
{
    MDB_dbi dbi = store->dbi[item->op->db];
    MDB_val key = {.mv_size = item->op->key_len, .mv_data = (void *)item->key};
    MDB_val value = {.mv_size = item->op->value_len,
                     .mv_data = (void *)(item->key + item->op->key_len)};

    if (item->op->is_delete) {
        int rc = mdb_del(txn, dbi, &key, NULL);
        return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
    }
    return mdb_put(txn, dbi, &key, &value, 0);
}

/* One transaction over the sorted items; on any failure nothing of it is on disk. */
static int commit_once(const struct hlt_store *store, size_t count, bool last)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);

    if (rc != MDB_SUCCESS) {
        return rc;
    }
    for (size_t i = 0; rc == MDB_SUCCESS && i < count; i++) {
        if (i + 1 == count || !same_key(&store->item[i], &store->item[i + 1])) {
            rc = put_item(store, txn, &store->item[i]);
        }
    }
    if (rc == MDB_SUCCESS) {
        rc = hlt_store_meta_put_number(txn, store, "flushed", (uint64_t)hlt_store_wall_ms());
    }
    if (rc == MDB_SUCCESS && last) {
        rc = hlt_store_meta_put(txn, store, "clean", "1", 1);
    }
    if (rc != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

/* After a failed write of its root page LMDB locks the environment up (MDB_PANIC) until it is
 * opened anew. Nobody else in this process uses it by now. */
static int reopen(struct hlt_store *store)
{
    if (store->env != NULL) {
        mdb_env_close(store->env);
        store->env = NULL;
    }
    return hlt_store_env_open(store, NULL) == HLT_OK ? MDB_SUCCESS : EIO;
}

static int commit(struct hlt_store *store, size_t count, bool last)
{
    int rc = store->env == NULL ? reopen(store) : MDB_SUCCESS;

    if (rc == MDB_SUCCESS) {
        rc = commit_once(store, count, last);
    }
    if (rc == MDB_PANIC && reopen(store) == MDB_SUCCESS) {
        rc = commit_once(store, count, last);
    }
    while (rc == MDB_MAP_FULL && hlt_store_grow(store)) {
        rc = commit_once(store, count, last);
    }
    return rc;
}

static enum hlt_store_failure failure_of(int rc)
{
    switch (rc) {
    case MDB_SUCCESS: return HLT_STORE_FINE;
    case MDB_MAP_FULL: return HLT_STORE_FULL;
    case ENOMEM: return HLT_STORE_MEMORY;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID: return HLT_STORE_BROKEN;
    default: return HLT_STORE_DISK;
    }
}

/* --- writer thread: numbers --- */

static void publish_environment(struct hlt_store *store)
{
    MDB_envinfo info;
    MDB_stat stat;
    int dead = 0;

    if (mdb_reader_check(store->env, &dead) == MDB_SUCCESS && dead > 0) {
        atomic_fetch_add_explicit(&store->readers_cleared, (uint64_t)dead, memory_order_relaxed);
    }
    (void)mdb_env_info(store->env, &info);
    (void)mdb_env_stat(store->env, &stat);
    atomic_store_explicit(&store->used_bytes, ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize,
                          memory_order_relaxed);
    atomic_store_explicit(&store->map_bytes, info.me_mapsize, memory_order_relaxed);
}

/* A disk that needs long gets longer pauses, so that it can serve others too. */
static void adapt_interval(struct hlt_store *store, int64_t took_us)
{
    if (took_us / 1000 > store->interval_ms / SLOW_COMMIT_DIVISOR) {
        store->interval_ms *= 2;
    } else {
        store->interval_ms /= 2;
    }
    int64_t most =
        store->interval_set_ms > INTERVAL_MAX_MS ? store->interval_set_ms : INTERVAL_MAX_MS;
    store->interval_ms = store->interval_ms > most ? most : store->interval_ms;
    store->interval_ms =
        store->interval_ms < store->interval_set_ms ? store->interval_set_ms : store->interval_ms;
}

/* --- writer thread: when --- */

/* Commit what lies between tail and head, at most one transaction's worth. True: released. */
static bool flush(struct hlt_store *store, uint64_t head, bool last)
{
    uint64_t tail = atomic_load_explicit(&store->tail, memory_order_relaxed);
    struct timespec begin, end;
    size_t count;
    uint64_t next = collect(store, tail, head, &count);

    qsort(store->item, count, sizeof(*store->item), compare_items);
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    int rc = commit(store, count, last && next == head);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);

    int64_t took_us =
        (int64_t)(end.tv_sec - begin.tv_sec) * 1000000 + (end.tv_nsec - begin.tv_nsec) / 1000;
    if (store->env != NULL) {
        publish_environment(store);
    }
    atomic_store_explicit(&store->last_commit_us, (uint64_t)took_us, memory_order_relaxed);
    atomic_store_explicit(&store->failure, (int)failure_of(rc), memory_order_relaxed);
    if (rc != MDB_SUCCESS) {
        atomic_fetch_add_explicit(&store->commit_errors, 1, memory_order_relaxed);
        return false;
    }
    for (uint64_t i = tail; i < next; i++) {
        store->ring[i % HLT_STORE_BATCHES]->count = 0;
        store->ring[i % HLT_STORE_BATCHES]->used_bytes = 0;
    }
    atomic_store_explicit(&store->last_commit_wall_ms, hlt_store_wall_ms(), memory_order_relaxed);
    atomic_fetch_add_explicit(&store->records_committed, count, memory_order_relaxed);
    atomic_store_explicit(&store->tail, next, memory_order_release);
    atomic_fetch_add_explicit(&store->batches_committed, next - tail, memory_order_release);
    adapt_interval(store, took_us);
    return true;
}

/* When the waiting batches are due: INT64_MIN now, INT64_MAX never (there are none). */
static int64_t due_ms(const struct hlt_store *store, uint64_t tail, uint64_t head)
{
    size_t records = 0;

    if (tail == head) {
        return INT64_MAX;
    }
    if (store->retry_at_ms > 0) {
        return store->retry_at_ms;
    }
    for (uint64_t i = tail; i < head; i++) {
        records += batch_at(store, i)->count;
    }
    if (records >= HLT_STORE_BATCH_RECORDS || head - tail == HLT_STORE_BATCHES) {
        return INT64_MIN; /* enough for a transaction, or the broker thread has no buffer left */
    }
    int64_t due = batch_at(store, tail)->submitted_ms + store->interval_ms;
    return due < store->urgent_due_ms ? due : store->urgent_due_ms;
}

static void wait_for_work(const struct hlt_store *store, int64_t until_ms, int64_t now_ms)
{
    struct pollfd wake = {.fd = store->wake_fd, .events = POLLIN};
    int64_t wait_ms = until_ms - now_ms;
    eventfd_t ignored;

    if (until_ms == INT64_MAX) {
        wait_ms = -1;
    } else if (wait_ms > INTERVAL_MAX_MS) {
        wait_ms = INTERVAL_MAX_MS; /* it comes round and asks again */
    }
    if (poll(&wake, 1, (int)wait_ms) > 0) {
        (void)eventfd_read(store->wake_fd, &ignored);
    }
}

static void note_result(struct hlt_store *store, bool released)
{
    if (released) {
        store->retry_at_ms = 0;
        store->backoff_ms = 0;
        return;
    }
    store->backoff_ms = store->backoff_ms == 0 ? BACKOFF_FIRST_MS : store->backoff_ms * 2;
    if (store->backoff_ms > BACKOFF_MAX_MS) {
        store->backoff_ms = BACKOFF_MAX_MS;
    }
    store->retry_at_ms = hlt_store_mono_ms() + store->backoff_ms;
}

/* At close: everything that is left, then the mark of a clean stop. Gives up after a few tries. */
static void finish(struct hlt_store *store)
{
    const struct timespec pause = {.tv_nsec = LAST_PAUSE_MS * 1000000L};
    uint64_t head = atomic_load_explicit(&store->head, memory_order_acquire);
    int tries = 0;

    while (!store->marked_clean && tries < LAST_TRIES) {
        if (!flush(store, head, true)) {
            tries++;
            (void)nanosleep(&pause, NULL);
        } else if (atomic_load_explicit(&store->tail, memory_order_relaxed) == head) {
            store->marked_clean = true; /* the flush that emptied the ring has set the mark */
        }
    }
}

void *hlt_store_writer_main(void *context)
{
    struct hlt_store *store = context;

    for (;;) {
        /* The order matters: each of these is set after what it speaks of. */
        bool stopping = atomic_load_explicit(&store->stopping, memory_order_acquire);
        bool urgent = atomic_exchange_explicit(&store->urgent, false, memory_order_acquire);
        uint64_t head = atomic_load_explicit(&store->head, memory_order_acquire);
        uint64_t tail = atomic_load_explicit(&store->tail, memory_order_relaxed);
        int64_t now_ms = hlt_store_mono_ms();

        if (stopping) {
            finish(store);
            return NULL;
        }
        if (tail == head) {
            store->urgent_due_ms = INT64_MAX;
        } else if (urgent && store->urgent_due_ms == INT64_MAX) {
            store->urgent_due_ms = now_ms + URGENT_DELAY_MS;
        }
        int64_t due = due_ms(store, tail, head);
        if (due <= now_ms) {
            note_result(store, flush(store, head, false));
        } else {
            wait_for_work(store, due, now_ms);
        }
    }
}
