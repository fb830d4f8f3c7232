/* store_reader.c - reading, checking and copying a store, beside the broker or without one.
 *
 * A reader creates nothing: files it made would be its own, and lock the broker out. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "record.h"
#include "store_internal.h"

#define BEGIN_TRIES 3
#define PAGE_FIRST 2 /* two root pages come before */

int hlt_store_read_begin(MDB_env *env, MDB_txn **txn)
{
    int rc = mdb_txn_begin(env, NULL, MDB_RDONLY, txn);
    int dead;

    for (int i = 0; i < BEGIN_TRIES; i++) {
        if (rc == MDB_MAP_RESIZED) {
            rc = mdb_env_set_mapsize(env, 0); /* adopt the new size; no transaction is open here */
        } else if (rc == MDB_READERS_FULL) {
            rc = mdb_reader_check(env, &dead);
        } else {
            break;
        }
        if (rc == MDB_SUCCESS) {
            rc = mdb_txn_begin(env, NULL, MDB_RDONLY, txn);
        }
    }
    return rc;
}

/* --- opening --- */

enum hlt_rc hlt_store_look_at(const char *path, bool *is_backup, struct hlt_err *err)
{
    char name[HLT_STORE_PATH_MAX + 32];
    struct stat st;

    hlt_store_path_of(name, sizeof(name), path, "data.mdb");
    if (stat(name, &st) != 0) {
        return errno == ENOENT || errno == ENOTDIR
                   ? hlt_fail(err, HLT_ENOTFOUND,
                              "no store at %s: the broker makes it at its first start (is db_path "
                              "the same?)",
                              path)
                   : hlt_fail(err, HLT_EIO, "cannot look at %s: %s", name, strerror(errno));
    }
    if (!S_ISREG(st.st_mode)) {
        return hlt_fail(err, HLT_EINVAL, "%s is not a file", name);
    }
    if (st.st_size == 0) {
        return hlt_fail(err, HLT_ENOTFOUND, "the store at %s is empty: the broker has not begun it",
                        path);
    }
    hlt_store_path_of(name, sizeof(name), path, "lock.mdb");
    *is_backup = stat(name, &st) != 0;
    if (*is_backup && errno != ENOENT) {
        return hlt_fail(err, HLT_EIO, "cannot look at %s: %s", name, strerror(errno));
    }
    return HLT_OK;
}

static int open_databases(struct hlt_store *store)
{
    MDB_txn *txn = NULL;
    int rc = hlt_store_read_begin(store->env, &txn);

    if (rc != MDB_SUCCESS) {
        return rc;
    }
    for (int db = 0; db < HLT_DB_COUNT && rc == MDB_SUCCESS; db++) {
        rc = mdb_dbi_open(txn, hlt_db_name((enum hlt_db)db), 0, &store->dbi[db]);
        store->has_dbi[db] = rc == MDB_SUCCESS;
        rc = rc == MDB_NOTFOUND ? MDB_SUCCESS : rc; /* an older store: reads as empty */
    }
    if (rc != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn); /* keeps the handles */
}

enum hlt_rc hlt_store_refuse_newer(struct hlt_store *store, struct hlt_err *err)
{
    MDB_txn *txn = NULL;
    uint64_t schema = 0;
    int rc = hlt_store_read_begin(store->env, &txn);

    if (rc != MDB_SUCCESS) {
        return hlt_store_rc(rc, "cannot read the store", store->path, err);
    }
    bool known = hlt_store_meta_number(txn, store, "schema", &schema);
    mdb_txn_abort(txn);
    if (known && schema > HLT_STORE_SCHEMA) {
        return hlt_fail(err, HLT_EINVAL,
                        "%s was written by a newer Haltere (schema %llu, this one knows %d)",
                        store->path, (unsigned long long)schema, HLT_STORE_SCHEMA);
    }
    return HLT_OK;
}

enum hlt_rc hlt_store_open_reader(struct hlt_store **out, const char *path, struct hlt_err *err)
{
    bool is_backup = false;
    struct hlt_store *store;

    *out = NULL;
    if (path == NULL || path[0] == '\0' || strlen(path) > HLT_STORE_PATH_MAX) {
        return hlt_fail(err, HLT_EINVAL, "the store's path must have 1 to %d bytes",
                        HLT_STORE_PATH_MAX);
    }
    enum hlt_rc rc = hlt_store_look_at(path, &is_backup, err);
    if (rc != HLT_OK) {
        return rc;
    }
    store = hlt_store_new(path);
    if (store == NULL) {
        return hlt_fail(err, HLT_ENOMEM, "out of memory for the store");
    }
    int mdb_rc = mdb_env_create(&store->env);
    if (mdb_rc == MDB_SUCCESS) {
        (void)mdb_env_set_maxdbs(store->env, HLT_STORE_DATABASES_MAX);
        mdb_rc = mdb_env_open(store->env, path,
                              MDB_RDONLY | MDB_NOTLS | (is_backup ? MDB_NOLOCK : 0u), 0640);
    } else {
        store->env = NULL;
    }
    if (mdb_rc == MDB_SUCCESS) {
        mdb_rc = open_databases(store);
    }
    rc = hlt_store_rc(mdb_rc, "cannot open the store", path, err);
    if (rc == HLT_OK && !store->has_dbi[HLT_DB_META]) {
        rc = hlt_fail(err, HLT_ENOTFOUND, "the store at %s is empty: the broker has not begun it",
                      path);
    }
    if (rc == HLT_OK) {
        rc = hlt_store_refuse_newer(store, err);
    }
    if (rc != HLT_OK) {
        hlt_store_close(store);
        return rc;
    }
    *out = store;
    return HLT_OK;
}

/* --- reading --- */

static int each_record(MDB_cursor *cursor, hlt_store_each_fn *each, void *context)
{
    MDB_val key, value;
    int rc;

    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == MDB_SUCCESS) {
        if (!each(context, key.mv_data, key.mv_size, value.mv_data, value.mv_size)) {
            return MDB_SUCCESS;
        }
    }
    return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
}

enum hlt_rc hlt_store_each(struct hlt_store *store, enum hlt_db db, hlt_store_each_fn *each,
                           void *context, struct hlt_err *err)
{
    MDB_cursor *cursor = NULL;
    MDB_txn *txn = NULL;

    if ((unsigned)db >= HLT_DB_COUNT) {
        return hlt_fail(err, HLT_EINVAL, "there is no database %d", (int)db);
    }
    if (!store->has_dbi[db]) {
        return HLT_OK;
    }
    int rc = hlt_store_read_begin(store->env, &txn);
    if (rc == MDB_SUCCESS) {
        rc = mdb_cursor_open(txn, store->dbi[db], &cursor);
    }
    if (rc == MDB_SUCCESS) {
        rc = each_record(cursor, each, context);
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return hlt_store_rc(rc, "cannot read the store", store->path, err);
}

enum hlt_rc hlt_store_last(struct hlt_store *store, enum hlt_db db, void *key, size_t key_bytes,
                           size_t *key_len, struct hlt_err *err)
{
    MDB_cursor *cursor = NULL;
    MDB_txn *txn = NULL;
    MDB_val last, value;

    *key_len = 0;
    if ((unsigned)db >= HLT_DB_COUNT || !store->has_dbi[db]) {
        return HLT_OK;
    }
    int rc = hlt_store_read_begin(store->env, &txn);
    if (rc == MDB_SUCCESS) {
        rc = mdb_cursor_open(txn, store->dbi[db], &cursor);
    }
    if (rc == MDB_SUCCESS) {
        rc = mdb_cursor_get(cursor, &last, &value, MDB_LAST);
        if (rc == MDB_SUCCESS) {
            *key_len = last.mv_size;
            memcpy(key, last.mv_data, last.mv_size < key_bytes ? last.mv_size : key_bytes);
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return hlt_store_rc(rc == MDB_NOTFOUND ? MDB_SUCCESS : rc, "cannot read the store", store->path,
                        err);
}

enum hlt_rc hlt_store_get(struct hlt_store *store, enum hlt_db db, const void *key, size_t key_len,
                          void **value, size_t *value_len, struct hlt_err *err)
{
    MDB_val name = {.mv_size = key_len, .mv_data = (void *)key};
    MDB_val found;
    MDB_txn *txn = NULL;
    enum hlt_rc result = HLT_OK;

    if ((unsigned)db >= HLT_DB_COUNT || !store->has_dbi[db] || key_len == 0 ||
        key_len > HLT_STORE_KEY_MAX) {
        return hlt_fail(err, HLT_ENOTFOUND, "no such record");
    }
    int rc = hlt_store_read_begin(store->env, &txn);
    if (rc == MDB_SUCCESS) {
        rc = mdb_get(txn, store->dbi[db], &name, &found);
    }
    if (rc == MDB_NOTFOUND) {
        result = hlt_fail(err, HLT_ENOTFOUND, "no such record");
    } else if (rc != MDB_SUCCESS) {
        result = hlt_store_rc(rc, "cannot read the store", store->path, err);
    } else {
        void *copy = malloc(found.mv_size + 1); /* an empty value is a pointer too */
        if (copy == NULL) {
            result = hlt_fail(err, HLT_ENOMEM, "out of memory for a record");
        } else {
            memcpy(copy, found.mv_data, found.mv_size);
            *value = copy;
            *value_len = found.mv_size;
        }
    }
    mdb_txn_abort(txn);
    return result;
}

/* --- the free list: LMDB's own database 0, records of page numbers --- */

struct free_walk {
    uint64_t pages;   /* free ones */
    size_t last_page; /* of the file */
    uint8_t *seen;    /* a bit per page, NULL: do not look for doubles */
    bool damaged;
};

/* A page number list: its length, then the numbers in falling order (mdb.c, MDB_IDL). */
static void walk_free_record(struct free_walk *walk, const MDB_val *value)
{
    size_t words = value->mv_size / sizeof(size_t);
    size_t count = 0, page = 0, before = SIZE_MAX;

    if (words > 0) {
        memcpy(&count, value->mv_data, sizeof(count));
    }
    if (words == 0 || count > words - 1) {
        walk->damaged = true;
        return;
    }
    for (size_t i = 1; i <= count; i++, before = page) {
        memcpy(&page, (const uint8_t *)value->mv_data + i * sizeof(page), sizeof(page));
        if (page < PAGE_FIRST || page > walk->last_page || page >= before) {
            walk->damaged = true;
            return;
        }
        if (walk->seen != NULL) {
            uint8_t bit = (uint8_t)(1u << (page % 8));
            walk->damaged = walk->damaged || (walk->seen[page / 8] & bit) != 0;
            walk->seen[page / 8] |= bit;
        }
    }
    walk->pages += count;
}

static int walk_free_list(MDB_txn *txn, struct free_walk *walk)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    int rc = mdb_cursor_open(txn, 0, &cursor);

    if (rc != MDB_SUCCESS) {
        return rc;
    }
    while (!walk->damaged && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == MDB_SUCCESS) {
        walk_free_record(walk, &value);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
}

/* --- check --- */

struct check {
    uint64_t records, damaged, pages;
};

/* Every record of one database. The number of records is known beforehand: a tree that leads in a
 * circle ends there. */
static int check_database(const struct hlt_store *store, MDB_txn *txn, int db, struct check *check)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    MDB_stat stat;
    size_t entries = 0;
    int rc = mdb_stat(txn, store->dbi[db], &stat);

    if (rc == MDB_SUCCESS) {
        rc = mdb_cursor_open(txn, store->dbi[db], &cursor);
    }
    if (rc != MDB_SUCCESS) {
        return rc;
    }
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == MDB_SUCCESS &&
           entries <= stat.ms_entries) {
        entries++;
        check->records++;
        check->damaged += hlt_record_valid(value.mv_data, value.mv_size) ? 0 : 1;
    }
    mdb_cursor_close(cursor);
    check->pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    if (rc == MDB_NOTFOUND) {
        rc = entries == stat.ms_entries ? MDB_SUCCESS : MDB_CORRUPTED;
    }
    return rc == MDB_SUCCESS && entries > stat.ms_entries ? MDB_CORRUPTED : rc;
}

/* No free page twice or out of the file, and no more pages than the file has: otherwise the next
 * writes would overwrite records. */
static int check_free_list(const struct hlt_store *store, MDB_txn *txn, uint64_t used_pages)
{
    struct free_walk walk = {.pages = 0};
    MDB_envinfo info;

    (void)mdb_env_info(store->env, &info);
    walk.last_page = info.me_last_pgno;
    walk.seen = calloc(walk.last_page / 8 + 1, 1);
    if (walk.seen == NULL) {
        return ENOMEM;
    }
    int rc = walk_free_list(txn, &walk);
    free(walk.seen);
    if (rc == MDB_SUCCESS &&
        (walk.damaged || walk.pages + used_pages + PAGE_FIRST > (uint64_t)walk.last_page + 1)) {
        rc = MDB_CORRUPTED;
    }
    return rc;
}

enum hlt_rc hlt_store_check(const char *path, uint64_t *records, uint64_t *damaged,
                            struct hlt_err *err)
{
    struct hlt_store *store = NULL;
    struct check check = {.records = 0};
    MDB_txn *txn = NULL;

    *records = 0;
    *damaged = 0;
    enum hlt_rc rc = hlt_store_open_reader(&store, path, err);
    if (rc != HLT_OK || store == NULL) {
        return rc;
    }
    int mdb_rc = hlt_store_read_begin(store->env, &txn);
    for (int db = 0; mdb_rc == MDB_SUCCESS && db < HLT_DB_COUNT; db++) {
        if (store->has_dbi[db]) {
            mdb_rc = check_database(store, txn, db, &check);
        }
    }
    if (mdb_rc == MDB_SUCCESS) {
        mdb_rc = check_free_list(store, txn, check.pages);
    }
    mdb_txn_abort(txn);
    *records = check.records;
    *damaged = check.damaged;
    rc = hlt_store_rc(mdb_rc, "checking", path, err);
    hlt_store_close(store);
    return rc;
}

/* --- numbers --- */

struct oldest_reader {
    uint64_t txn; /* UINT64_MAX: nobody */
    long pid;
    unsigned count;
};

/* A line of mdb_reader_list(): "pid thread txnid", "-" for a slot without a transaction. */
static int oldest_of(const char *line, void *context)
{
    struct oldest_reader *oldest = context;
    char *end;
    long pid = strtol(line, &end, 10);

    (void)strtoull(end, &end, 16); /* the thread */
    while (*end == ' ') {
        end++;
    }
    if (pid <= 0 || *end < '0' || *end > '9') {
        return 0; /* the heading, "(no readers)", or an idle slot */
    }
    uint64_t txn = strtoull(end, NULL, 10);
    oldest->count++;
    if (txn < oldest->txn) {
        oldest->txn = txn;
        oldest->pid = pid;
    }
    return 0;
}

static void info_meta(struct hlt_store *store, MDB_txn *txn, struct hlt_store_info *out)
{
    uint64_t number = 0;
    char clean = '0';

    (void)hlt_store_meta_number(txn, store, "schema", &out->schema);
    (void)hlt_store_meta_number(txn, store, "boot", &out->boot);
    if (hlt_store_meta_number(txn, store, "created", &number)) {
        out->created_ms = (int64_t)number;
    }
    if (hlt_store_meta_number(txn, store, "flushed", &number)) {
        out->flushed_ms = (int64_t)number;
    }
    if (!hlt_store_meta_get(txn, store, "uuid", out->uuid, 36)) {
        out->uuid[0] = '\0';
    }
    out->clean = hlt_store_meta_get(txn, store, "clean", &clean, 1) && clean == '1';
}

static void info_readers(struct hlt_store *store, struct hlt_store_info *out)
{
    struct oldest_reader oldest = {.txn = UINT64_MAX};

    (void)mdb_reader_list(store->env, oldest_of, &oldest);
    out->readers = oldest.count;
    out->oldest_reader_pid = oldest.pid;
    if (oldest.count > 0 && oldest.txn < out->last_txn) {
        out->oldest_reader_lag = out->last_txn - oldest.txn;
    }
}

static int info_databases(struct hlt_store *store, MDB_txn *txn, struct hlt_store_info *out)
{
    struct free_walk walk = {.pages = 0};
    MDB_envinfo info;
    MDB_stat stat;
    int rc = mdb_stat(txn, 0, &stat);

    (void)mdb_env_info(store->env, &info);
    out->map_bytes = info.me_mapsize;
    out->last_txn = info.me_last_txnid;
    out->readers_max = info.me_maxreaders;
    for (int db = 0; rc == MDB_SUCCESS && db < HLT_DB_COUNT; db++) {
        if (store->has_dbi[db] && (rc = mdb_stat(txn, store->dbi[db], &stat)) == MDB_SUCCESS) {
            out->entries[db] = stat.ms_entries;
            out->bytes[db] = (uint64_t)stat.ms_psize *
                             (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages);
        }
    }
    out->used_bytes = (uint64_t)stat.ms_psize * (info.me_last_pgno + 1);
    walk.last_page = info.me_last_pgno;
    if (rc == MDB_SUCCESS) {
        rc = walk_free_list(txn, &walk);
    }
    out->free_bytes = (uint64_t)stat.ms_psize * walk.pages;
    return rc;
}

enum hlt_rc hlt_store_info(struct hlt_store *store, struct hlt_store_info *out, struct hlt_err *err)
{
    char path[HLT_STORE_PATH_MAX + 32];
    MDB_txn *txn = NULL;
    struct stat st;

    *out = (struct hlt_store_info){.schema = 0};
    (void)hlt_store_in_use(store->path, &out->broker_pid);
    hlt_store_path_of(path, sizeof(path), store->path, "data.mdb");
    if (stat(path, &st) == 0) {
        out->file_bytes = (uint64_t)st.st_size;
    }
    int rc = hlt_store_read_begin(store->env, &txn);
    if (rc == MDB_SUCCESS) {
        rc = info_databases(store, txn, out);
        info_meta(store, txn, out);
    }
    mdb_txn_abort(txn);
    if (rc == MDB_SUCCESS) {
        info_readers(store, out); /* without our own transaction among them */
    }
    return hlt_store_rc(rc, "cannot read the store", store->path, err);
}

/* --- backup --- */

static enum hlt_rc require_empty_directory(const char *directory, struct hlt_err *err)
{
    DIR *dir = opendir(directory);
    const struct dirent *entry;
    bool empty = true;

    if (dir == NULL) {
        return hlt_fail(err, HLT_EINVAL, "cannot open the directory %s: %s", directory,
                        strerror(errno));
    }
    while ((entry = readdir(dir)) != NULL) {
        empty = empty && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
    }
    (void)closedir(dir);
    return empty ? HLT_OK
                 : hlt_fail(err, HLT_EINVAL,
                            "%s is not empty; a backup goes into an empty directory", directory);
}

static int copy_to(struct hlt_store *store, int fd)
{
    int rc = mdb_env_copyfd2(store->env, fd, MDB_CP_COMPACT);

    if (rc ==
        MDB_MAP_RESIZED) { /* before the first byte was written: the copy begins with its reader */
        rc = mdb_env_set_mapsize(store->env, 0);
        if (rc == MDB_SUCCESS) {
            rc = mdb_env_copyfd2(store->env, fd, MDB_CP_COMPACT);
        }
    }
    return rc == MDB_SUCCESS && fsync(fd) != 0 ? errno : rc;
}

static int sync_directory(const char *directory)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 || fsync(fd) != 0 ? errno : MDB_SUCCESS;

    if (fd >= 0) {
        (void)close(fd);
    }
    return rc;
}

enum hlt_rc hlt_store_backup(struct hlt_store *store, const char *directory, struct hlt_err *err)
{
    char part[HLT_STORE_PATH_MAX + 32], whole[HLT_STORE_PATH_MAX + 32];

    if (strlen(directory) > HLT_STORE_PATH_MAX) {
        return hlt_fail(err, HLT_EINVAL, "the backup's path is too long");
    }
    enum hlt_rc rc = require_empty_directory(directory, err);
    if (rc != HLT_OK) {
        return rc;
    }
    hlt_store_path_of(part, sizeof(part), directory, "data.mdb.part");
    hlt_store_path_of(whole, sizeof(whole), directory, "data.mdb");
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0) {
        return hlt_fail(err, HLT_EIO, "cannot create %s: %s", part, strerror(errno));
    }
    int mdb_rc = copy_to(store, fd);
    (void)close(fd);
    if (mdb_rc == MDB_SUCCESS && rename(part, whole) != 0) {
        mdb_rc = errno;
    }
    if (mdb_rc != MDB_SUCCESS) {
        (void)unlink(part);
        return hlt_store_rc(mdb_rc, "cannot write the backup to", directory, err);
    }
    return hlt_store_rc(sync_directory(directory), "cannot sync", directory, err);
}
