/* store_offline.c - the command's own writes, while no broker runs (DESIGN 11.16).
 *
 * It is careful with what is the broker's: the lock says that there is none, only the directory's
 * owner may write (a file made by somebody else would lock the broker out), and nothing is begun
 * that was not there. */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "store_internal.h"

#define MAP_BYTES (8ull << 30) /* address space only; grows as the broker's does */
#define MAP_CAP_BYTES (64ull << 30)

static enum hlt_rc require_owner(const char *path, struct hlt_err *err)
{
    struct stat st;
    struct passwd entry;
    struct passwd *owner = NULL;
    char buffer[4096];

    if (stat(path, &st) != 0) {
        return hlt_fail(err, HLT_EIO, "cannot look at %s: %s", path, strerror(errno));
    }
    if (st.st_uid == geteuid()) {
        return HLT_OK;
    }
    (void)getpwuid_r(st.st_uid, &entry, buffer, sizeof(buffer), &owner);
    return hlt_fail(err, HLT_EIO,
                    "%s belongs to %s (uid %lu): files written by anybody else would lock the "
                    "broker out; run this as that user (sudo -u %s ...)",
                    path, owner != NULL ? owner->pw_name : "another user", (unsigned long)st.st_uid,
                    owner != NULL ? owner->pw_name : "USER");
}

static enum hlt_rc open_steps(struct hlt_store *store, bool *was_clean, struct hlt_err *err)
{
    bool is_backup = false;
    enum hlt_rc rc = hlt_store_look_at(store->path, &is_backup, err);

    if (rc == HLT_OK && is_backup) {
        rc = hlt_fail(err, HLT_EINVAL,
                      "%s is a backup: it is not written to; revoke in the store the broker uses",
                      store->path);
    }
    if (rc == HLT_OK) {
        rc = require_owner(store->path, err);
    }
    if (rc == HLT_OK) {
        rc = hlt_store_place_prepare(store, err);
    }
    if (rc == HLT_OK) {
        rc = hlt_store_owner_take(store, was_clean, err);
    }
    if (rc == HLT_OK) {
        rc = hlt_store_env_open(store, err);
    }
    return rc == HLT_OK ? hlt_store_refuse_newer(store, err) : rc;
}

enum hlt_rc hlt_store_open_writer(struct hlt_store **out, const char *path, struct hlt_err *err)
{
    bool was_clean = false;
    struct hlt_store *store;

    *out = NULL;
    if (path == NULL || path[0] == '\0' || strlen(path) > HLT_STORE_PATH_MAX) {
        return hlt_fail(err, HLT_EINVAL, "the store's path must have 1 to %d bytes",
                        HLT_STORE_PATH_MAX);
    }
    store = hlt_store_new(path);
    if (store == NULL) {
        return hlt_fail(err, HLT_ENOMEM, "out of memory for the store");
    }
    store->map_cap = MAP_CAP_BYTES;
    store->map_start = MAP_BYTES;
    store->map_bytes = MAP_BYTES;
    enum hlt_rc rc = open_steps(store, &was_clean, err);
    store->marked_clean = was_clean; /* as it was found: an unclean stop is still to be checked */
    if (rc != HLT_OK) {
        hlt_store_close(store);
        return rc;
    }
    *out = store;
    return HLT_OK;
}

static int write_one(const struct hlt_store *store, MDB_txn *txn, const struct hlt_store_put *put)
{
    MDB_val key = {.mv_size = put->key_len, .mv_data = (void *)put->key};
    MDB_val value = {.mv_size = put->value_len, .mv_data = (void *)put->value};

    if (put->value == NULL) {
        int rc = mdb_del(txn, store->dbi[put->db], &key, NULL);
        return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
    }
    return mdb_put(txn, store->dbi[put->db], &key, &value, 0);
}

static int write_all(const struct hlt_store *store, const struct hlt_store_put *puts, size_t count)
{
    MDB_txn *txn = NULL;
    int rc = mdb_txn_begin(store->env, NULL, 0, &txn);

    for (size_t i = 0; rc == MDB_SUCCESS && i < count; i++) {
        rc = write_one(store, txn, &puts[i]);
    }
    if (rc != MDB_SUCCESS) {
        mdb_txn_abort(txn);
        return rc;
    }
    return mdb_txn_commit(txn);
}

enum hlt_rc hlt_store_write(struct hlt_store *store, const struct hlt_store_put *puts, size_t count,
                            struct hlt_err *err)
{
    int rc = write_all(store, puts, count);

    while (rc == MDB_MAP_FULL && hlt_store_grow(store)) {
        rc = write_all(store, puts, count);
    }
    return hlt_store_rc(rc, "cannot write to the store", store->path, err);
}
