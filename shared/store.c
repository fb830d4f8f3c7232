/* store.c - opens and closes the store: the place, the lock, the check, LMDB, the thread, in that
 * order. */
#include "store.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "record.h"
#include "store_internal.h"

#define MAP_START_BYTES (8ull << 30) /* address space only */
#define MAP_CAP_BYTES (64ull << 30)
#define MAP_LEAST_BYTES (1ull << 20)
#define FLUSH_INTERVAL_MS 5000
#define READERS_MAX 256
#define META_VALUE_MAX 64

const char *hlt_db_name(enum hlt_db db)
{
    static const char *const names[HLT_DB_COUNT] = {
        [HLT_DB_META] = "meta",
        [HLT_DB_DEVICES] = "devices",
        [HLT_DB_METRICS] = "metrics",
        [HLT_DB_ALERTS] = "alerts",
        [HLT_DB_IDENTITIES] = "identities",
        [HLT_DB_COUNTERS] = "counters",
        [HLT_DB_REVOCATIONS] = "revocations",
        [HLT_DB_AUDIT] = "audit",
        [HLT_DB_BANS] = "bans",
    };

    return (unsigned)db < HLT_DB_COUNT ? names[db] : "unknown";
}

static int64_t clock_ms(clockid_t clock)
{
    struct timespec now;

    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t hlt_store_wall_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

int64_t hlt_store_mono_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

void hlt_store_path_of(char *out, size_t out_bytes, const char *directory, const char *name)
{
    (void)snprintf(out, out_bytes, "%s/%s", directory, name);
}

enum hlt_rc hlt_store_rc(int mdb_rc, const char *what, const char *path, struct hlt_err *err)
{
    switch (mdb_rc) {
    case MDB_SUCCESS: return HLT_OK;
    case ENOMEM:
        return hlt_fail(err, HLT_ENOMEM, "%s %s: out of memory or address space", what, path);
    case EACCES:
        return hlt_fail(
            err, HLT_EIO,
            "%s %s: permission denied. Reading needs membership of the directory's group "
            "and write permission on %s/lock.mdb (mode 0660)",
            what, path, path);
    case EAGAIN:
        return hlt_fail(err, HLT_EIO,
                        "%s %s: a reader with the same process id holds a slot (two containers?). "
                        "Run the command in the broker's container or share its PID namespace",
                        what, path);
    case MDB_READERS_FULL:
        return hlt_fail(err, HLT_EFULL, "%s %s: all %d reader slots are taken; try again", what,
                        path, READERS_MAX);
    case MDB_MAP_FULL:
        return hlt_fail(err, HLT_EFULL,
                        "%s %s: the store is at its size limit; raise store_max_size", what, path);
    case EIO:
    case ENOSPC:
        return hlt_fail(err, HLT_EIO, "%s %s: disk full or I/O error (%s)", what, path,
                        mdb_strerror(mdb_rc));
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
    case MDB_CURSOR_FULL:
    case MDB_INCOMPATIBLE:
    case MDB_BAD_DBI:
    case MDB_BAD_TXN:
        return hlt_fail(err, HLT_EPARSE, "%s %s: damaged or not a store (%s)", what, path,
                        mdb_strerror(mdb_rc));
    default: return hlt_fail(err, HLT_EIO, "%s %s: %s", what, path, mdb_strerror(mdb_rc));
    }
}

/* --- meta records --- */

static MDB_val key_of(const char *key)
{
    return (MDB_val){.mv_size = strlen(key), .mv_data = (void *)key};
}

bool hlt_store_meta_get(MDB_txn *txn, const struct hlt_store *store, const char *key, void *out,
                        size_t out_bytes)
{
    MDB_val name = key_of(key);
    MDB_val value;
    const void *data;
    size_t len;

    if (!store->has_dbi[HLT_DB_META] ||
        mdb_get(txn, store->dbi[HLT_DB_META], &name, &value) != MDB_SUCCESS ||
        hlt_blob_record_read(&data, &len, value.mv_data, value.mv_size) != HLT_OK ||
        len != out_bytes) {
        return false;
    }
    memcpy(out, data, out_bytes);
    return true;
}

bool hlt_store_meta_number(MDB_txn *txn, const struct hlt_store *store, const char *key,
                           uint64_t *out)
{
    uint8_t bytes[8];
    uint64_t value = 0;

    if (!hlt_store_meta_get(txn, store, key, bytes, sizeof(bytes))) {
        return false;
    }
    for (unsigned i = 0; i < 8; i++) {
        value |= (uint64_t)bytes[i] << (8 * i);
    }
    *out = value;
    return true;
}

int hlt_store_meta_put(MDB_txn *txn, const struct hlt_store *store, const char *key,
                       const void *data, size_t len)
{
    uint8_t record[HLT_RECORD_HEADER + META_VALUE_MAX];
    MDB_val name = key_of(key);
    MDB_val value = {.mv_data = record};

    if (len > META_VALUE_MAX) {
        return EINVAL;
    }
    value.mv_size = hlt_blob_record_write(data, len, record);
    return mdb_put(txn, store->dbi[HLT_DB_META], &name, &value, 0);
}

int hlt_store_meta_put_number(MDB_txn *txn, const struct hlt_store *store, const char *key,
                              uint64_t value)
{
    uint8_t bytes[8];

    for (unsigned i = 0; i < 8; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
    return hlt_store_meta_put(txn, store, key, bytes, sizeof(bytes));
}

/* --- opening --- */

static uint64_t map_now(const struct hlt_store *store)
{
    MDB_envinfo info;

    (void)mdb_env_info(store->env, &info);
    return info.me_mapsize;
}

bool hlt_store_grow(struct hlt_store *store)
{
    uint64_t now = map_now(store);
    uint64_t next = now < store->map_cap / 2 ? now * 2 : store->map_cap;

    if (next <= now || mdb_env_set_mapsize(store->env, (size_t)next) != MDB_SUCCESS) {
        return false;
    }
    atomic_store_explicit(&store->map_bytes, next, memory_order_relaxed);
    return true;
}

static int dbis_open(struct hlt_store *store)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);

    for (int db = 0; rc == MDB_SUCCESS && db < HLT_DB_COUNT; db++) {
        rc = mdb_dbi_open(txn, hlt_db_name((enum hlt_db)db), MDB_CREATE, &store->dbi[db]);
        store->has_dbi[db] = rc == MDB_SUCCESS;
    }
    if (rc != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

/* Readers of the directory's group need to write their slot into lock.mdb, whatever our umask is.
 * By name, never by opening: closing any descriptor of these files would drop LMDB's locks. */
static enum hlt_rc set_modes(const struct hlt_store *store, struct hlt_err *err)
{
    static const struct {
        const char *name;
        mode_t mode;
    } files[] = {{"data.mdb", 0640}, {"lock.mdb", 0660}};
    char path[HLT_STORE_PATH_MAX + 32];
    struct stat st;

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        hlt_store_path_of(path, sizeof(path), store->path, files[i].name);
        if (stat(path, &st) != 0 ||
            ((st.st_mode & 07777) != files[i].mode && chmod(path, files[i].mode) != 0)) {
            return hlt_fail(err, HLT_EIO, "cannot set the mode of %s to %04o: %s", path,
                            (unsigned)files[i].mode, strerror(errno));
        }
    }
    return HLT_OK;
}

enum hlt_rc hlt_store_env_open(struct hlt_store *store, struct hlt_err *err)
{
    int rc = mdb_env_create(&store->env);

    if (rc != MDB_SUCCESS) {
        store->env = NULL;
        return hlt_store_rc(rc, "cannot open the store", store->path, err);
    }
    (void)mdb_env_set_maxdbs(store->env, HLT_STORE_DATABASES_MAX);
    (void)mdb_env_set_maxreaders(store->env, READERS_MAX);
    (void)mdb_env_set_mapsize(store->env, (size_t)store->map_start);
    /* NOTLS: reader slots belong to transactions, and no thread-exit hook outlives the module. */
    rc = mdb_env_open(store->env, store->path, MDB_NOTLS, 0640);
    if (rc == MDB_SUCCESS) {
        rc = dbis_open(store);
        while (rc == MDB_MAP_FULL && hlt_store_grow(store)) {
            rc = dbis_open(store);
        }
    }
    if (rc != MDB_SUCCESS) {
        mdb_env_close(store->env);
        store->env = NULL;
        return hlt_store_rc(rc, "cannot open the store", store->path, err);
    }
    atomic_store_explicit(&store->map_bytes, map_now(store), memory_order_relaxed);
    return set_modes(store, err);
}

static void uuid_make(char out[37])
{
    uint8_t b[16];

    if (getrandom(b, sizeof(b), 0) != (ssize_t)sizeof(b)) {
        struct timespec now; /* a name, not a secret: the time and the process are unique enough */
        uint64_t words[2];

        (void)clock_gettime(CLOCK_REALTIME, &now);
        words[0] = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
        words[1] = (uint64_t)getpid();
        memcpy(b, words, sizeof(b));
    }
    b[6] = (uint8_t)((b[6] & 0x0f) | 0x40); /* RFC 9562, version 4 */
    b[8] = (uint8_t)((b[8] & 0x3f) | 0x80);
    (void)snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                   b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
                   b[13], b[14], b[15]);
}

static int meta_mark_running(struct hlt_store *store, MDB_txn *txn)
{
    char uuid[37];
    uint64_t number;
    int rc = MDB_SUCCESS;

    if (!hlt_store_meta_get(txn, store, "uuid", uuid, 36)) {
        uuid_make(uuid);
        rc = hlt_store_meta_put(txn, store, "uuid", uuid, 36);
    }
    if (rc == MDB_SUCCESS && !hlt_store_meta_number(txn, store, "created", &number)) {
        rc = hlt_store_meta_put_number(txn, store, "created", (uint64_t)hlt_store_wall_ms());
    }
    if (rc == MDB_SUCCESS) {
        rc = hlt_store_meta_put_number(txn, store, "schema", HLT_STORE_SCHEMA);
    }
    if (rc == MDB_SUCCESS) {
        bool known = hlt_store_meta_number(txn, store, "boot", &number);
        rc = hlt_store_meta_put_number(txn, store, "boot", known ? number + 1 : 1);
    }
    if (rc == MDB_SUCCESS) {
        rc = hlt_store_meta_put(txn, store, "clean", "0", 1);
    }
    return rc;
}

static enum hlt_rc mark_running(struct hlt_store *store, struct hlt_err *err)
{
    for (;;) {
        MDB_txn *txn = NULL;
        uint64_t schema = 0;
        int rc = mdb_txn_begin(store->env, NULL, 0, &txn);

        if (rc == MDB_SUCCESS && hlt_store_meta_number(txn, store, "schema", &schema) &&
            schema > HLT_STORE_SCHEMA) {
            mdb_txn_abort(txn);
            return hlt_fail(err, HLT_EINVAL,
                            "%s was written by a newer Haltere (schema %" PRIu64
                            ", this one knows %d); upgrade, or start with another db_path",
                            store->path, schema, HLT_STORE_SCHEMA);
        }
        if (rc == MDB_SUCCESS) {
            rc = meta_mark_running(store, txn);
            if (rc == MDB_SUCCESS) {
                rc = mdb_txn_commit(txn);
            } else {
                mdb_txn_abort(txn);
            }
        }
        if (rc != MDB_MAP_FULL || !hlt_store_grow(store)) {
            return hlt_store_rc(rc, "cannot write to the store", store->path, err);
        }
    }
}

/* The thread takes no signals: they are the broker's. */
static enum hlt_rc start_writer(struct hlt_store *store, struct hlt_err *err)
{
    sigset_t all, before;

    store->item = calloc(HLT_STORE_TXN_RECORDS, sizeof(*store->item));
    for (size_t i = 0; i < HLT_STORE_BATCHES; i++) {
        store->ring[i] = malloc(sizeof(*store->ring[i])); /* touched only as far as it is filled */
        if (store->ring[i] == NULL || store->item == NULL) {
            return hlt_fail(err, HLT_ENOMEM, "out of memory for the store's buffers");
        }
        store->ring[i]->store = store;
        store->ring[i]->count = 0;
        store->ring[i]->used_bytes = 0;
    }
    store->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (store->wake_fd < 0) {
        return hlt_fail(err, HLT_EIO, "cannot create an eventfd: %s", strerror(errno));
    }
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&store->thread, NULL, hlt_store_writer_main, store);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0) {
        return hlt_fail(err, HLT_EIO, "cannot start the store's thread: %s", strerror(rc));
    }
    store->thread_runs = true;
    return HLT_OK;
}

static uint64_t map_size(uint64_t wanted, uint64_t fallback)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t size = wanted == 0 ? fallback : wanted;

    return (size < MAP_LEAST_BYTES ? MAP_LEAST_BYTES : size) / page * page;
}

struct hlt_store *hlt_store_new(const char *path)
{
    struct hlt_store *store = calloc(1, sizeof(*store));

    if (store != NULL) {
        memcpy(store->path, path, strlen(path) + 1);
        store->owner_fd = -1;
        store->wake_fd = -1;
        store->urgent_due_ms = INT64_MAX;
    }
    return store;
}

static enum hlt_rc open_steps(struct hlt_store *store, const struct hlt_store_config *config,
                              bool *was_clean, bool *replaced, struct hlt_err *err)
{
    enum hlt_rc rc = hlt_store_place_prepare(store, err);

    if (rc == HLT_OK) {
        rc = hlt_store_owner_take(store, was_clean, err);
    }
    if (rc == HLT_OK && !*was_clean) {
        rc = hlt_store_judge(store, config->checker, replaced, err);
    }
    if (rc == HLT_OK) {
        rc = hlt_store_env_open(store, err);
    }
    if (rc == HLT_OK) {
        rc = mark_running(store, err);
    }
    return rc == HLT_OK ? start_writer(store, err) : rc;
}

static void store_free(struct hlt_store *store)
{
    if (store == NULL) {
        return;
    }
    if (store->env != NULL) {
        mdb_env_close(store->env);
    }
    if (store->marked_clean) {
        hlt_store_owner_mark_clean(store); /* after LMDB let go of data.mdb */
    }
    if (store->owner_fd >= 0) {
        (void)close(store->owner_fd);
    }
    if (store->wake_fd >= 0) {
        (void)close(store->wake_fd);
    }
    for (size_t i = 0; i < HLT_STORE_BATCHES; i++) {
        free(store->ring[i]);
    }
    free(store->item);
    free(store);
}

enum hlt_rc hlt_store_open(struct hlt_store **out, const struct hlt_store_config *config,
                           bool *was_clean, bool *replaced, struct hlt_err *err)
{
    bool clean = false, moved = false;
    struct hlt_store *store;

    *out = NULL;
    if (config->path == NULL || config->path[0] == '\0' ||
        strlen(config->path) > HLT_STORE_PATH_MAX) {
        return hlt_fail(err, HLT_EINVAL, "the store's path must have 1 to %d bytes",
                        HLT_STORE_PATH_MAX);
    }
    store = hlt_store_new(config->path);
    if (store == NULL) {
        return hlt_fail(err, HLT_ENOMEM, "out of memory for the store");
    }
    store->map_cap = map_size(config->map_bytes, MAP_CAP_BYTES);
    store->map_start = map_size(config->map_start_bytes, MAP_START_BYTES);
    if (store->map_start > store->map_cap) {
        store->map_start = store->map_cap;
    }
    store->map_bytes = store->map_start;
    store->interval_set_ms =
        config->flush_interval_ms > 0 ? config->flush_interval_ms : FLUSH_INTERVAL_MS;
    store->interval_ms = store->interval_set_ms;

    enum hlt_rc rc = open_steps(store, config, &clean, &moved, err);
    if (rc != HLT_OK) {
        store_free(store);
        return rc;
    }
    if (was_clean != NULL) {
        *was_clean = clean;
    }
    if (replaced != NULL) {
        *replaced = moved;
    }
    *out = store;
    return HLT_OK;
}

const char *hlt_store_note(const struct hlt_store *store)
{
    return store->note;
}

void hlt_store_close(struct hlt_store *store)
{
    if (store != NULL && store->thread_runs) {
        hlt_store_submit(store, true);
        atomic_store_explicit(&store->stopping, true, memory_order_release);
        (void)eventfd_write(store->wake_fd, 1);
        (void)pthread_join(store->thread, NULL);
    }
    store_free(store);
}
