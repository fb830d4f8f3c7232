/* store_offline.c - the command's own writes: only without a broker, only by the owner, never a new
 * store. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../shared/store.h"

static char dir[64];
static struct hlt_err err;

static void make(void)
{
    snprintf(dir, sizeof(dir), "/tmp/haltere-XXXXXX");
    cr_assert(mkdtemp(dir) != NULL);
}

static void drop(void)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    cr_expect(system(command) == 0);
}

TestSuite(store_offline, .init = make, .fini = drop);

static struct hlt_store *broker(bool *clean)
{
    struct hlt_store_config config = {.path = dir, .map_bytes = 64u << 20};
    struct hlt_store *store = NULL;
    bool replaced;

    cr_assert(hlt_store_open(&store, &config, clean, &replaced, &err) == HLT_OK, "%s", err.msg);
    return store;
}

static enum hlt_rc write_one(struct hlt_store *store, const char *key, const char *value)
{
    struct hlt_store_put put = {HLT_DB_REVOCATIONS, key, strlen(key), value,
                                value != NULL ? strlen(value) : 0};

    return hlt_store_write(store, &put, 1, &err);
}

Test(store_offline, a_store_that_is_not_there_is_not_begun)
{
    struct hlt_store *store;
    struct dirent *entry;
    unsigned files = 0;

    cr_expect(hlt_store_open_writer(&store, dir, &err) == HLT_ENOTFOUND);
    cr_expect(store == NULL);
    DIR *open = opendir(dir);
    while ((entry = readdir(open)) != NULL) {
        files += entry->d_name[0] != '.';
    }
    closedir(open);
    cr_expect(files == 0, "%u files made", files);
    cr_expect(hlt_store_open_writer(&store, "/nowhere/at/all", &err) == HLT_ENOTFOUND);
    cr_expect(hlt_store_open_writer(&store, "", &err) == HLT_EINVAL);
}

Test(store_offline, a_broker_s_store_is_left_alone_while_it_runs)
{
    struct hlt_store *store;
    char pid[32];
    bool clean;
    struct hlt_store *running = broker(&clean);

    cr_expect(hlt_store_open_writer(&store, dir, &err) == HLT_EBUSY);
    snprintf(pid, sizeof(pid), "%ld", (long)getpid());
    cr_expect(strstr(err.msg, pid) != NULL, "%s", err.msg);
    hlt_store_close(running);
    cr_expect(hlt_store_open_writer(&store, dir, &err) == HLT_OK, "%s", err.msg);
    hlt_store_close(store);
}

Test(store_offline, writes_are_there_for_the_next_broker_which_starts_as_after_a_clean_stop)
{
    struct hlt_store *store;
    void *value = NULL;
    size_t len = 0, key_len = 0;
    char key[8] = "";
    bool clean;

    hlt_store_close(broker(&clean));
    cr_assert(hlt_store_open_writer(&store, dir, &err) == HLT_OK, "%s", err.msg);
    cr_expect(write_one(store, "a", "1") == HLT_OK, "%s", err.msg);
    cr_expect(write_one(store, "b", "2") == HLT_OK);
    cr_expect(write_one(store, "a", NULL) == HLT_OK);
    cr_expect(write_one(store, "never was", NULL) == HLT_OK, "deleting nothing is no error");
    hlt_store_close(store);
    store = broker(&clean);
    cr_expect(clean);
    cr_expect(hlt_store_get(store, HLT_DB_REVOCATIONS, "a", 1, &value, &len, NULL) ==
              HLT_ENOTFOUND);
    cr_assert(hlt_store_get(store, HLT_DB_REVOCATIONS, "b", 1, &value, &len, NULL) == HLT_OK);
    cr_expect(len == 1 && memcmp(value, "2", 1) == 0);
    free(value);
    cr_expect(hlt_store_last(store, HLT_DB_REVOCATIONS, key, sizeof(key), &key_len, &err) ==
              HLT_OK);
    cr_expect(key_len == 1 && key[0] == 'b');
    cr_expect(hlt_store_last(store, HLT_DB_AUDIT, key, sizeof(key), &key_len, &err) == HLT_OK);
    cr_expect(key_len == 0, "empty");
    hlt_store_close(store);
}

Test(store_offline, all_of_a_write_or_none)
{
    struct hlt_store *store;
    char long_key[600];
    void *value = NULL;
    size_t len = 0;
    bool clean;

    hlt_store_close(broker(&clean));
    memset(long_key, 'k', sizeof(long_key));
    cr_assert(hlt_store_open_writer(&store, dir, &err) == HLT_OK, "%s", err.msg);
    struct hlt_store_put puts[] = {{HLT_DB_REVOCATIONS, "a", 1, "1", 1},
                                   {HLT_DB_AUDIT, long_key, sizeof(long_key), "1", 1}};
    cr_expect(hlt_store_write(store, puts, 2, &err) != HLT_OK);
    cr_expect(hlt_store_get(store, HLT_DB_REVOCATIONS, "a", 1, &value, &len, NULL) ==
              HLT_ENOTFOUND);
    hlt_store_close(store);
}

Test(store_offline, a_store_of_somebody_else_is_refused)
{
    struct hlt_store *store;
    bool clean;

    if (geteuid() != 0) {
        cr_skip_test("only root can give a directory away");
    }
    hlt_store_close(broker(&clean));
    cr_assert(chown(dir, 65534, 65534) == 0);
    cr_expect(hlt_store_open_writer(&store, dir, &err) == HLT_EIO);
    cr_expect(strstr(err.msg, "sudo -u nobody") != NULL, "%s", err.msg);
}

Test(store_offline, a_backup_is_not_written_to)
{
    struct hlt_store *store;
    char path[128];
    bool clean;

    hlt_store_close(broker(&clean));
    snprintf(path, sizeof(path), "%s/lock.mdb", dir);
    cr_assert(unlink(path) == 0);
    cr_expect(hlt_store_open_writer(&store, dir, &err) == HLT_EINVAL);
    cr_expect(access(path, F_OK) != 0, "no lock file was made");
}
