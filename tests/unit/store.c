/* store.c - what was committed stays, whatever dies; what is damaged is found outside the broker.
 *
 * LMDB allows one environment per process, so a second broker, readers and victims are children. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../shared/record.h"
#include "../../shared/store.h"
#include "../../shared/store_internal.h"

#define LONG_INTERVAL_MS 60000
#define PATIENCE_MS 30000
#define URGENT_TEST_MS 250 /* past the 200 ms that an urgent one may take */

static char top[256]; /* a fresh directory per test; the store is top/db */
static char db_path[300];
static struct hlt_err error;

static void setup(void)
{
    const char *tmp = getenv("TMPDIR");

    (void)snprintf(top, sizeof(top), "%s/haltere-store-XXXXXX", tmp != NULL ? tmp : "/tmp");
    cr_assert(mkdtemp(top) != NULL);
    (void)snprintf(db_path, sizeof(db_path), "%s/db", top);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

static void teardown(void)
{
    (void)nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

TestSuite(store, .init = setup, .fini = teardown, .timeout = 60);

/* --- helpers --- */

/* A child that never outlives the test, however that ends. */
static pid_t child_fork(void)
{
    fflush(NULL);
    pid_t pid = fork();

    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    return pid;
}

static const char *in_db(const char *name)
{
    static char path[2][400];
    static int turn;

    turn = !turn;
    (void)snprintf(path[turn], sizeof(path[turn]), "%s/%s", db_path, name);
    return path[turn];
}

static bool exists(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static unsigned mode_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (unsigned)st.st_mode & 07777 : 0;
}

static struct hlt_store_config config_of(int64_t interval_ms)
{
    return (struct hlt_store_config){.path = db_path, .flush_interval_ms = interval_ms};
}

static struct hlt_store *open_with(struct hlt_store_config config)
{
    struct hlt_store *store = NULL;

    error.msg[0] = '\0';
    enum hlt_rc rc = hlt_store_open(&store, &config, NULL, NULL, &error);
    cr_assert(eq(int, rc, HLT_OK), "%s", error.msg);
    return store;
}

static struct hlt_store *open_store(void)
{
    return open_with(config_of(1));
}

static void pause_ms(long ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {
    }
}

static struct hlt_store_stats stats_of(const struct hlt_store *store)
{
    struct hlt_store_stats stats;
    hlt_store_stats(store, &stats);
    return stats;
}

/* Wait until so many batches are on disk; false if it takes too long. */
static bool committed(const struct hlt_store *store, uint64_t batches)
{
    for (int64_t end = hlt_store_mono_ms() + PATIENCE_MS; hlt_store_mono_ms() < end; pause_ms(1)) {
        if (stats_of(store).batches_committed >= batches) {
            return true;
        }
    }
    return false;
}

static struct hlt_batch *next_batch(struct hlt_store *store)
{
    for (int64_t end = hlt_store_mono_ms() + PATIENCE_MS; hlt_store_mono_ms() < end; pause_ms(1)) {
        struct hlt_batch *batch = hlt_store_batch(store);
        if (batch != NULL) {
            return batch;
        }
    }
    return NULL;
}

static bool put_text(struct hlt_batch *batch, enum hlt_db db, const char *key, const char *text)
{
    uint8_t record[1024];
    size_t len = hlt_blob_record_write(text, strlen(text), record);
    return hlt_batch_put(batch, db, key, strlen(key), record, len);
}

static const uint8_t nothing[HLT_STORE_VALUE_MAX];

static void put_number(struct hlt_batch *batch, enum hlt_db db, const char *key, uint64_t number)
{
    uint8_t record[64];
    size_t len = hlt_blob_record_write(&number, sizeof(number), record);
    (void)hlt_batch_put(batch, db, key, strlen(key), record, len);
}

static bool get_number(struct hlt_store *store, enum hlt_db db, const char *key, uint64_t *number)
{
    const void *data;
    void *value;
    size_t len, data_len;

    if (hlt_store_get(store, db, key, strlen(key), &value, &len, NULL) != HLT_OK) {
        return false;
    }
    bool good =
        hlt_blob_record_read(&data, &data_len, value, len) == HLT_OK && data_len == sizeof(*number);
    if (good) {
        memcpy(number, data, sizeof(*number));
    }
    free(value);
    return good;
}

static char *get_text(struct hlt_store *store, enum hlt_db db, const char *key)
{
    static char text[1024];
    const void *data;
    void *value;
    size_t len, data_len;

    if (hlt_store_get(store, db, key, strlen(key), &value, &len, NULL) != HLT_OK) {
        return NULL;
    }
    cr_assert(eq(int, hlt_blob_record_read(&data, &data_len, value, len), HLT_OK));
    memcpy(text, data, data_len);
    text[data_len] = '\0';
    free(value);
    return text;
}

struct seen {
    size_t count;
    char keys[256];
};

static bool collect_key(void *context, const void *key, size_t key_len, const void *value,
                        size_t value_len)
{
    struct seen *seen = context;

    if (!hlt_record_valid(value, value_len)) {
        return false;
    }
    seen->count++;
    size_t used = strlen(seen->keys);
    (void)snprintf(seen->keys + used, sizeof(seen->keys) - used, "%.*s ", (int)key_len,
                   (const char *)key);
    return true;
}

/* Make a store with `count` devices and stop it; `clean` false: as a killed broker leaves it. */
static void make_store(unsigned count, bool clean)
{
    pid_t pid = child_fork();

    cr_assert(ge(int, pid, 0));
    if (pid == 0) {
        struct hlt_store *store = NULL;
        struct hlt_store_config config = config_of(1);
        if (hlt_store_open(&store, &config, NULL, NULL, NULL) != HLT_OK) {
            _exit(1);
        }
        struct hlt_batch *batch = hlt_store_batch(store);
        for (unsigned i = 0; i < count; i++) {
            char key[32];
            (void)snprintf(key, sizeof(key), "device-%06u", i);
            if (!put_text(batch, HLT_DB_DEVICES, key,
                          "some state of some device, found by tests")) {
                _exit(2);
            }
        }
        hlt_store_submit(store, true);
        if (!committed(store, 1)) {
            _exit(3);
        }
        if (clean) {
            hlt_store_close(store);
        }
        _exit(0);
    }
    int status = 0;
    cr_assert(eq(int, waitpid(pid, &status, 0), pid));
    cr_assert(eq(int, status, 0));
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "we");

    cr_assert(file != NULL);
    (void)fputs(text, file);
    (void)fclose(file);
    cr_assert(eq(int, chmod(path, mode), 0));
}

/* A checker that writes down its arguments and ends as told. */
static const char *checker_that(const char *end)
{
    static char path[300];
    char text[800];

    (void)snprintf(path, sizeof(path), "%s/checker", top);
    (void)snprintf(text, sizeof(text), "#!/bin/sh\necho \"$@\" >> %s/asked\n%s\n", top, end);
    write_file(path, text, 0755);
    return path;
}

static bool checker_was_asked(void)
{
    char path[300];

    (void)snprintf(path, sizeof(path), "%s/asked", top);
    bool asked = exists(path);
    (void)remove(path);
    return asked;
}

static unsigned corrupt_count(char *one, size_t one_bytes)
{
    DIR *dir = opendir(db_path);
    const struct dirent *entry;
    unsigned count = 0;

    cr_assert(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        if (strncmp(entry->d_name, "corrupt-", 8) == 0) {
            (void)snprintf(one, one_bytes, "%s/%s", db_path, entry->d_name);
            count++;
        }
    }
    (void)closedir(dir);
    return count;
}

/* --- what is written --- */

Test(store, records_come_back_in_key_order_after_a_restart)
{
    struct seen seen = {.count = 0};
    struct hlt_store *store = open_store();
    struct hlt_batch *batch = hlt_store_batch(store);

    cr_expect(put_text(batch, HLT_DB_DEVICES, "pump-2", "b"));
    cr_expect(put_text(batch, HLT_DB_DEVICES, "pump", "a"));
    cr_expect(put_text(batch, HLT_DB_DEVICES, "pump-10", "c"));
    cr_expect(put_text(batch, HLT_DB_ALERTS, "pump", "of another database"));
    cr_expect(eq(sz, hlt_batch_count(batch), 4));
    hlt_store_close(store); /* not submitted: close does it */

    store = open_store();
    cr_assert(eq(int, hlt_store_each(store, HLT_DB_DEVICES, collect_key, &seen, &error), HLT_OK));
    cr_expect(eq(str, seen.keys, "pump pump-10 pump-2 "));
    cr_expect(eq(str, get_text(store, HLT_DB_DEVICES, "pump-10"), "c"));
    cr_expect(eq(str, get_text(store, HLT_DB_ALERTS, "pump"), "of another database"));
    cr_expect(get_text(store, HLT_DB_DEVICES, "pump-3") == NULL);
    hlt_store_close(store);
}

Test(store, the_last_of_several_puts_and_deletes_of_a_key_wins)
{
    struct hlt_store *store = open_with(config_of(LONG_INTERVAL_MS));
    struct hlt_batch *batch = hlt_store_batch(store);

    for (int i = 0; i < 50; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%d", i);
        (void)put_text(batch, HLT_DB_DEVICES, "a", text);
    }
    (void)put_text(batch, HLT_DB_DEVICES, "b", "1");
    (void)hlt_batch_put(batch, HLT_DB_DEVICES, "b", 1, NULL, 0);
    (void)hlt_batch_put(batch, HLT_DB_DEVICES, "c", 1, NULL, 0); /* never was there */
    (void)put_text(batch, HLT_DB_DEVICES, "d", "1");
    hlt_store_submit(store, false);
    batch = hlt_store_batch(store); /* the same transaction, the next buffer */
    (void)put_text(batch, HLT_DB_DEVICES, "d", "2");
    (void)put_text(batch, HLT_DB_DEVICES, "c", "2");
    hlt_store_submit(store, true);
    cr_assert(committed(store, 2));
    cr_expect(eq(str, get_text(store, HLT_DB_DEVICES, "a"), "49"));
    cr_expect(get_text(store, HLT_DB_DEVICES, "b") == NULL);
    cr_expect(eq(str, get_text(store, HLT_DB_DEVICES, "c"), "2"));
    cr_expect(eq(str, get_text(store, HLT_DB_DEVICES, "d"), "2"));
    hlt_store_close(store);
}

Test(store, an_urgent_batch_does_not_wait_for_the_interval)
{
    struct hlt_store *store = open_with(config_of(LONG_INTERVAL_MS));

    (void)put_text(hlt_store_batch(store), HLT_DB_DEVICES, "slow", "1");
    hlt_store_submit(store, false);
    pause_ms(URGENT_TEST_MS);
    cr_expect(eq(u64, stats_of(store).batches_committed, 0), "not urgent, and it did not wait");
    (void)put_text(hlt_store_batch(store), HLT_DB_ALERTS, "fast", "1");
    hlt_store_submit(store, true);
    cr_assert(committed(store, 2), "the urgent one takes all before it along");
    cr_expect(get_text(store, HLT_DB_DEVICES, "slow") != NULL);
    (void)put_text(hlt_store_batch(store), HLT_DB_DEVICES, "slow", "2");
    hlt_store_submit(store, false);
    hlt_store_submit(store, true); /* an empty batch: hurries what waits */
    cr_assert(committed(store, 3));
    cr_expect(eq(u64, stats_of(store).batches_submitted, 3));
    hlt_store_close(store);
}

Test(store, an_empty_batch_is_kept)
{
    struct hlt_store *store = open_with(config_of(LONG_INTERVAL_MS));

    for (int i = 0; i < 10; i++) {
        hlt_store_submit(store, i % 2 == 0);
    }
    cr_expect(eq(u64, stats_of(store).batches_submitted, 0));
    cr_expect(hlt_store_batch(store) != NULL);
    hlt_store_close(store);
}

Test(store, keys_and_values_are_taken_to_the_limit_and_refused_beyond)
{
    struct hlt_store *store = open_store();
    struct hlt_batch *batch = hlt_store_batch(store);
    static char key[HLT_STORE_KEY_MAX + 1];
    uint8_t *value = calloc(1, HLT_STORE_VALUE_MAX + 1);
    void *back = NULL;
    size_t len = 0;

    memset(key, 'k', sizeof(key));
    cr_expect(hlt_batch_put(batch, HLT_DB_DEVICES, key, HLT_STORE_KEY_MAX, value, 1));
    cr_expect(hlt_batch_put(batch, HLT_DB_DEVICES, "v", 1, value, HLT_STORE_VALUE_MAX));
    cr_expect(eq(sz, hlt_batch_count(batch), 2));
    cr_expect(hlt_batch_put(batch, HLT_DB_DEVICES, key, HLT_STORE_KEY_MAX + 1, value, 1));
    cr_expect(hlt_batch_put(batch, HLT_DB_DEVICES, "v", 0, value, 1));
    cr_expect(hlt_batch_put(batch, HLT_DB_DEVICES, "v", 1, value, HLT_STORE_VALUE_MAX + 1));
    cr_expect(hlt_batch_put(batch, HLT_DB_COUNT, "v", 1, value, 1));
    cr_expect(eq(sz, hlt_batch_count(batch), 2));
    cr_expect(eq(u64, stats_of(store).records_refused, 4));
    hlt_store_submit(store, true);
    cr_assert(committed(store, 1));
    cr_assert(eq(int, hlt_store_get(store, HLT_DB_DEVICES, "v", 1, &back, &len, NULL), HLT_OK));
    cr_expect(eq(sz, len, HLT_STORE_VALUE_MAX));
    free(back);
    cr_expect(eq(int,
                 hlt_store_get(store, HLT_DB_DEVICES, key, HLT_STORE_KEY_MAX, &back, &len, NULL),
                 HLT_OK));
    free(back);
    free(value);
    hlt_store_close(store);
}

Test(store, a_batch_says_when_it_is_full)
{
    struct hlt_store *store = open_with(config_of(LONG_INTERVAL_MS));
    struct hlt_batch *batch = hlt_store_batch(store);
    uint8_t *value = calloc(1, HLT_STORE_VALUE_MAX);
    uint32_t i;

    for (i = 0; hlt_batch_put(batch, HLT_DB_DEVICES, &i, sizeof(i), "", 0); i++) {
    }
    cr_expect(eq(u32, i, HLT_STORE_BATCH_RECORDS));
    hlt_store_submit(store, false); /* enough for a transaction: it does not wait */
    cr_assert(committed(store, 1));
    cr_expect(eq(u64, stats_of(store).records_committed, HLT_STORE_BATCH_RECORDS));

    batch = next_batch(store);
    for (i = 0; hlt_batch_put(batch, HLT_DB_DEVICES, &i, sizeof(i), value, HLT_STORE_VALUE_MAX);
         i++) {
    }
    cr_expect(eq(u32, i, 3), "four values and four keys are more than 4 MiB");
    free(value);
    hlt_store_close(store);
}

/* --- who may open it --- */

Test(store, a_second_broker_is_refused_and_told_who_holds_it)
{
    struct hlt_store_config config = config_of(1);
    struct hlt_store *store = open_store();
    struct hlt_store *second = (struct hlt_store *)1;
    char pid_text[32];
    long pid = 0;

    cr_expect(hlt_store_in_use(db_path, &pid));
    cr_expect(eq(long, pid, (long)getpid()));
    cr_expect(eq(int, hlt_store_open(&second, &config, NULL, NULL, &error), HLT_EBUSY));
    cr_expect(second == NULL);
    (void)snprintf(pid_text, sizeof(pid_text), "process %ld", (long)getpid());
    cr_expect(strstr(error.msg, pid_text) != NULL, "%s", error.msg);

    pid_t child = child_fork(); /* another process, and it must not free what is ours by ending */
    if (child == 0) {
        _exit(hlt_store_open(&second, &config, NULL, NULL, NULL) == HLT_EBUSY ? 0 : 1);
    }
    int status = 1;
    (void)waitpid(child, &status, 0);
    cr_expect(eq(int, status, 0));
    cr_expect(hlt_store_in_use(db_path, NULL));
    hlt_store_close(store);
    cr_expect(not(hlt_store_in_use(db_path, NULL)));
    hlt_store_close(open_store());
}

Test(store, modes_do_not_depend_on_the_umask)
{
    static const mode_t masks[] = {0, 022, 077};

    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(db_path, sizeof(db_path), "%s/db%zu", top, i);
        (void)umask(masks[i]);
        struct hlt_store *store = open_store();
        cr_expect(eq(u32, mode_of(in_db("data.mdb")), 0640));
        cr_expect(eq(u32, mode_of(in_db("lock.mdb")), 0660), "readers write their slot");
        cr_expect(eq(u32, mode_of(in_db("owner")) & 0137, 0), "owner for the group to read only");
        cr_expect(eq(u32, mode_of(db_path) & 0027, 0), "nobody but the owner creates files there");
        hlt_store_close(store);
    }
}

Test(store, a_bad_place_is_refused_with_the_reason)
{
    struct hlt_store *store = NULL;
    char path[400];
    static char long_path[HLT_STORE_PATH_MAX + 2];
    struct hlt_store_config config = config_of(1);

    (void)snprintf(path, sizeof(path), "%s/none/db", top);
    config.path = path;
    cr_expect(eq(int, hlt_store_open(&store, &config, NULL, NULL, &error), HLT_EIO));
    cr_expect(strstr(error.msg, path) != NULL, "%s", error.msg);

    (void)snprintf(path, sizeof(path), "%s/file", top);
    write_file(path, "x", 0600);
    cr_expect(eq(int, hlt_store_open(&store, &config, NULL, NULL, &error), HLT_EINVAL));
    cr_expect(strstr(error.msg, "not a directory") != NULL, "%s", error.msg);

    config.path = db_path;
    cr_assert(eq(int, mkdir(db_path, 0700), 0));
    cr_assert(eq(int, chmod(db_path, 0777), 0));
    cr_expect(eq(int, hlt_store_open(&store, &config, NULL, NULL, &error), HLT_EINVAL));
    cr_expect(strstr(error.msg, "everybody") != NULL, "%s", error.msg);

    memset(long_path, 'a', sizeof(long_path) - 1);
    config.path = long_path;
    cr_expect(eq(int, hlt_store_open(&store, &config, NULL, NULL, &error), HLT_EINVAL));
    config.path = "";
    cr_expect(eq(int, hlt_store_open(&store, &config, NULL, NULL, &error), HLT_EINVAL));
    config.path = NULL;
    cr_expect(eq(int, hlt_store_open(&store, &config, NULL, NULL, &error), HLT_EINVAL));
    cr_expect(store == NULL);
}

Test(store, remote_file_systems_are_refused_by_name)
{
    cr_expect(eq(str, (char *)hlt_store_fs_refused(0x6969), "NFS"));
    cr_expect(eq(str, (char *)hlt_store_fs_refused(0xff534d42), "CIFS"));
    cr_expect(eq(str, (char *)hlt_store_fs_refused((unsigned long)(int)0xff534d42), "CIFS"));
    cr_expect(eq(str, (char *)hlt_store_fs_refused(0x01021997), "9p"));
    cr_expect(eq(str, (char *)hlt_store_fs_refused(0x65735546), "FUSE"));
    cr_expect(hlt_store_fs_refused(0xef53) == NULL, "ext4");
    cr_expect(hlt_store_fs_refused(0x58465342) == NULL, "XFS");
    cr_expect(hlt_store_fs_refused(0x01021994) == NULL, "tmpfs");
    cr_expect(hlt_store_fs_refused(0x794c7630) == NULL, "overlayfs");
}

Test(store, one_of_a_newer_schema_is_refused_by_broker_and_reader)
{
    struct hlt_store_config config = config_of(1);
    struct hlt_store *store = open_store();

    put_number(hlt_store_batch(store), HLT_DB_META, "schema", HLT_STORE_SCHEMA + 1);
    hlt_store_close(store);
    cr_expect(eq(int, hlt_store_open(&store, &config, NULL, NULL, &error), HLT_EINVAL));
    cr_expect(strstr(error.msg, "newer") != NULL, "%s", error.msg);
    cr_expect(store == NULL);
    cr_expect(eq(int, hlt_store_open_reader(&store, db_path, &error), HLT_EINVAL));
    cr_expect(strstr(error.msg, "newer") != NULL, "%s", error.msg);
}

/* --- readers --- */

Test(store, a_reader_creates_nothing)
{
    struct hlt_store *store = NULL;
    uint64_t records, damaged;

    cr_expect(eq(int, hlt_store_open_reader(&store, db_path, &error), HLT_ENOTFOUND));
    cr_expect(not(exists(db_path)));
    cr_assert(eq(int, mkdir(db_path, 0750), 0));
    cr_expect(eq(int, hlt_store_open_reader(&store, db_path, &error), HLT_ENOTFOUND));
    cr_expect(eq(int, hlt_store_check(db_path, &records, &damaged, &error), HLT_ENOTFOUND));
    cr_expect(not(hlt_store_in_use(db_path, NULL)));
    cr_expect(store == NULL);
    cr_expect(eq(int, rmdir(db_path), 0), "something was created");

    make_store(10, true);
    cr_assert(eq(int, unlink(in_db("lock.mdb")), 0)); /* what a backup looks like */
    cr_assert(eq(int, hlt_store_open_reader(&store, db_path, &error), HLT_OK), "%s", error.msg);
    cr_expect(get_text(store, HLT_DB_DEVICES, "device-000009") != NULL);
    hlt_store_close(store);
    cr_expect(not(exists(in_db("lock.mdb"))));
}

Test(store, a_reader_without_permission_is_told_what_it_needs)
{
    if (geteuid() != 0) {
        cr_skip_test("only root can become somebody else");
    }
    make_store(1, true);
    cr_assert(eq(int, chmod(top, 0755), 0));
    cr_assert(eq(int, chmod(db_path, 0755), 0));
    cr_assert(eq(int, chmod(in_db("data.mdb"), 0644), 0));
    pid_t child = child_fork();
    if (child == 0) {
        struct hlt_store *store = NULL;
        if (setgid(65534) != 0 || setuid(65534) != 0) {
            _exit(3);
        }
        enum hlt_rc rc = hlt_store_open_reader(&store, db_path, &error);
        _exit(rc == HLT_EIO && strstr(error.msg, "group") && strstr(error.msg, "lock.mdb") ? 0 : 1);
    }
    int status = 1;
    (void)waitpid(child, &status, 0);
    cr_expect(eq(int, status, 0));
}

struct equal {
    uint64_t first;
    size_t count;
    bool differ;
};

static bool all_equal(void *context, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    struct equal *equal = context;
    const void *data;
    uint64_t number = 0;
    size_t len;

    (void)key;
    (void)key_len;
    if (hlt_blob_record_read(&data, &len, value, value_len) != HLT_OK || len != sizeof(number)) {
        equal->differ = true;
        return false;
    }
    memcpy(&number, data, sizeof(number));
    equal->first = equal->count == 0 ? number : equal->first;
    equal->differ = equal->differ || number != equal->first;
    equal->count++;
    return true;
}

/* Writes the same number to 50 keys, again and again, growing the map on its way. */
static void write_until_killed(void)
{
    struct hlt_store *store = NULL;
    struct hlt_store_config config = config_of(1);

    config.map_start_bytes = 1u << 20;
    if (hlt_store_open(&store, &config, NULL, NULL, NULL) != HLT_OK) {
        _exit(1);
    }
    for (uint64_t n = 1;; n++) {
        struct hlt_batch *batch = next_batch(store);
        static uint8_t ballast[4096 + HLT_RECORD_HEADER];
        size_t len = hlt_blob_record_write(nothing, 4096, ballast);
        for (unsigned i = 0; i < 50; i++) {
            char key[16];
            (void)snprintf(key, sizeof(key), "%u", i);
            put_number(batch, HLT_DB_COUNTERS, key, n);
        }
        (void)hlt_batch_put(batch, HLT_DB_DEVICES, &n, sizeof(n), ballast, len);
        hlt_store_submit(store, true);
        (void)committed(store, n); /* one transaction each */
    }
}

Test(store, a_reader_sees_whole_transactions_while_the_broker_writes)
{
    struct hlt_store *store = NULL;
    uint64_t newest = 0, seen_values = 0;

    pid_t writer = child_fork();
    if (writer == 0) {
        write_until_killed();
    }
    for (int64_t end = hlt_store_mono_ms() + PATIENCE_MS;
         store == NULL && hlt_store_mono_ms() < end; pause_ms(1)) {
        if (hlt_store_open_reader(&store, db_path, &error) != HLT_OK) {
            store = NULL; /* not begun yet */
        }
    }
    cr_assert(store != NULL, "%s", error.msg);
    for (int64_t end = hlt_store_mono_ms() + PATIENCE_MS;
         seen_values < 20 && hlt_store_mono_ms() < end;) {
        struct equal equal = {.count = 0};
        enum hlt_rc rc = hlt_store_each(store, HLT_DB_COUNTERS, all_equal, &equal, &error);
        cr_assert(eq(int, rc, HLT_OK), "%s", error.msg);
        cr_assert(not(equal.differ));
        cr_assert(equal.count == 0 || equal.count == 50);
        cr_assert(ge(u64, equal.first, newest));
        seen_values += equal.first > newest ? 1 : 0;
        newest = equal.first;
    }
    (void)kill(writer, SIGKILL);
    (void)waitpid(writer, NULL, 0);
    cr_expect(ge(u64, seen_values, 20));
    hlt_store_close(store);
}

/* --- growth --- */

Test(store, the_map_grows_and_a_reader_follows)
{
    struct hlt_store *reader = NULL;
    int asked[2], answered[2];
    char byte = 0;

    make_store(1, true);
    cr_assert(eq(int, pipe(asked) + pipe(answered), 0));
    pid_t child = child_fork();
    if (child == 0) {
        /* opened while the map is small, read when it has grown */
        if (hlt_store_open_reader(&reader, db_path, NULL) != HLT_OK) {
            _exit(1);
        }
        (void)!write(answered[1], "o", 1);
        (void)!read(asked[0], &byte, 1);
        _exit(get_text(reader, HLT_DB_DEVICES, "last") != NULL ? 0 : 2);
    }
    cr_assert(eq(int, (int)read(answered[0], &byte, 1), 1));

    struct hlt_store_config config = config_of(1);
    config.map_start_bytes = 1u << 20;
    config.map_bytes = 64u << 20;
    struct hlt_store *store = open_with(config);
    static uint8_t value[65536];
    size_t len = hlt_blob_record_write(nothing, sizeof(value) - HLT_RECORD_HEADER, value);
    for (uint32_t i = 0; i < 160; i++) { /* 10 MiB */
        struct hlt_batch *batch = next_batch(store);
        cr_assert(batch != NULL);
        if (!hlt_batch_put(batch, HLT_DB_METRICS, &i, sizeof(i), value, len)) {
            hlt_store_submit(store, true);
            i--;
        }
    }
    (void)put_text(next_batch(store), HLT_DB_DEVICES, "last", "x");
    hlt_store_submit(store, true);
    cr_assert(committed(store, stats_of(store).batches_submitted));
    struct hlt_store_stats stats = stats_of(store);
    cr_expect(ge(u64, stats.map_bytes, 16u << 20));
    cr_expect(le(u64, stats.map_bytes, 64u << 20));
    cr_expect(ge(u64, stats.used_bytes, 10u << 20));
    cr_expect(not(stats.failing));
    (void)!write(asked[1], "g", 1);
    int status = 1;
    (void)waitpid(child, &status, 0);
    cr_expect(eq(int, status, 0));
    hlt_store_close(store);
}

Test(store, at_its_size_limit_it_says_so_and_loses_nothing_committed)
{
    struct hlt_store_config config = config_of(1);
    struct hlt_store *store;
    bool clean = true;

    config.map_bytes = 1u << 20;
    store = open_with(config);
    (void)put_text(hlt_store_batch(store), HLT_DB_DEVICES, "early", "kept");
    hlt_store_submit(store, true);
    cr_assert(committed(store, 1));

    static uint8_t value[200000];
    size_t len = hlt_blob_record_write(nothing, sizeof(value) - HLT_RECORD_HEADER, value);
    struct hlt_batch *batch = next_batch(store);
    for (uint32_t i = 0; i < 10; i++) {
        (void)hlt_batch_put(batch, HLT_DB_METRICS, &i, sizeof(i), value, len);
    }
    hlt_store_submit(store, true);
    for (int64_t end = hlt_store_mono_ms() + PATIENCE_MS;
         !stats_of(store).failing && hlt_store_mono_ms() < end; pause_ms(1)) {
    }
    cr_assert(stats_of(store).failing);
    cr_expect(strstr(stats_of(store).failure, "store_max_size") != NULL);
    cr_expect(ge(u64, stats_of(store).commit_errors, 1));
    cr_expect(eq(str, get_text(store, HLT_DB_DEVICES, "early"), "kept"));
    hlt_store_close(store); /* ends although it cannot flush */

    config.map_bytes = 64u << 20;
    cr_assert(eq(int, hlt_store_open(&store, &config, &clean, NULL, &error), HLT_OK));
    cr_expect(not(clean), "what could not be flushed is no clean stop");
    cr_expect(eq(str, get_text(store, HLT_DB_DEVICES, "early"), "kept"));
    hlt_store_close(store);
}

/* --- disk full --- */

/* Fill the ring against a failing disk: the broker thread gets no buffer, and nothing is let go. */
static void fill_ring(struct hlt_store *store, uint64_t *put)
{
    for (int64_t end = hlt_store_mono_ms() + PATIENCE_MS; hlt_store_mono_ms() < end;) {
        struct hlt_batch *batch = hlt_store_batch(store);
        if (batch == NULL) {
            if (stats_of(store).failing) {
                return;
            }
            pause_ms(1);
            continue;
        }
        for (unsigned i = 0; i < 100; i++, (*put)++) {
            char key[32], text[600];
            (void)snprintf(key, sizeof(key), "device-%06u", (unsigned)*put);
            memset(text, 'x', sizeof(text));
            text[sizeof(text) - 1] = '\0';
            (void)put_text(batch, HLT_DB_DEVICES, key, text);
        }
        hlt_store_submit(store, true);
    }
}

static void expect_all(struct hlt_store *store, uint64_t put)
{
    struct seen seen = {.count = 0};

    cr_assert(eq(int, hlt_store_each(store, HLT_DB_DEVICES, collect_key, &seen, &error), HLT_OK));
    cr_expect(eq(sz, seen.count, put));
}

Test(store, a_full_disk_loses_no_batch_and_never_blocks_the_broker)
{
    struct hlt_store *store = open_store();
    struct rlimit limit;
    uint64_t put = 0;

    /* Writes beyond the limit fail, as they do on a full disk; the signal is ignored. */
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert(eq(int, getrlimit(RLIMIT_FSIZE, &limit), 0));
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = 256 * 1024;
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    fill_ring(store, &put);
    struct hlt_store_stats stats = stats_of(store);
    cr_assert(stats.failing);
    cr_expect(eq(str, (char *)stats.failure, "disk full or I/O error"));
    cr_expect(hlt_store_batch(store) == NULL);
    hlt_store_submit(store, true); /* harmless */
    cr_expect(eq(u64, stats.batches_submitted - stats.batches_committed, HLT_STORE_BATCHES));

    limit.rlim_cur = before;
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    cr_assert(committed(store, stats.batches_submitted), "it is tried again");
    cr_expect(not(stats_of(store).failing));
    expect_all(store, put);
    hlt_store_close(store);
}

Test(store, a_full_tmpfs_is_survived)
{
    if (mkdir(db_path, 0750) != 0 ||
        mount("tmpfs", db_path, "tmpfs", 0, "size=1m,mode=0750") != 0) {
        cr_skip_test("cannot mount a tmpfs here");
    }
    struct hlt_store *store = open_store();
    uint64_t put = 0;

    fill_ring(store, &put);
    cr_assert(stats_of(store).failing);
    cr_expect(eq(str, (char *)stats_of(store).failure, "disk full or I/O error"));
    cr_assert(eq(int, mount("tmpfs", db_path, "tmpfs", MS_REMOUNT, "size=64m,mode=0750"), 0));
    cr_assert(committed(store, stats_of(store).batches_submitted));
    expect_all(store, put);
    hlt_store_close(store);
    (void)umount(db_path);
}

/* --- kills --- */

#define KILLS 10
#define GROUPS 5
#define GROUP_KEYS 200

/* Batch n rewrites group n % 5 with n and the counter "n" with n; says in shared memory what is
 * committed. */
static void victim(_Atomic uint64_t *acknowledged, uint64_t n)
{
    struct hlt_store *store = NULL;
    struct hlt_store_config config = config_of(1);

    if (hlt_store_open(&store, &config, NULL, NULL, NULL) != HLT_OK) {
        _exit(1);
    }
    uint64_t base = n;
    for (;; n++) {
        struct hlt_batch *batch = next_batch(store);
        for (unsigned i = 0; i < GROUP_KEYS; i++) {
            char key[32];
            (void)snprintf(key, sizeof(key), "%u/%u", i, (unsigned)(n % GROUPS));
            put_number(batch, HLT_DB_DEVICES, key, n);
        }
        put_number(batch, HLT_DB_COUNTERS, "n", n);
        hlt_store_submit(store, n % 2 == 0);
        uint64_t done = stats_of(store).batches_committed;
        if (done > 0) {
            atomic_store(acknowledged, base + done - 1);
        }
    }
}

/* Every key must hold the newest number of its group that is not beyond what the counter says. */
static void verify(uint64_t acknowledged, uint64_t *newest)
{
    struct hlt_store *store = NULL;
    uint64_t records = 0, damaged = 1, n = 0;

    cr_assert(eq(int, hlt_store_check(db_path, &records, &damaged, &error), HLT_OK), "%s",
              error.msg);
    cr_assert(eq(u64, damaged, 0));
    cr_assert(eq(int, hlt_store_open_reader(&store, db_path, &error), HLT_OK), "%s", error.msg);
    bool any = get_number(store, HLT_DB_COUNTERS, "n", &n);
    cr_assert(any || acknowledged == 0);
    cr_assert(ge(u64, n, acknowledged), "an acknowledged batch is lost");
    for (unsigned group = 0; group < GROUPS && n >= GROUPS; group++) {
        uint64_t want = n - (n - group) % GROUPS;
        for (unsigned i = 0; i < GROUP_KEYS; i++) {
            uint64_t got = 0;
            char key[32];
            (void)snprintf(key, sizeof(key), "%u/%u", i, group);
            cr_assert(get_number(store, HLT_DB_DEVICES, key, &got), "%s", key);
            cr_assert(eq(u64, got, want), "%s", key);
        }
    }
    hlt_store_close(store);
    *newest = n;
}

Test(store, kill_9_at_any_moment_loses_no_committed_batch)
{
    _Atomic uint64_t *acknowledged =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t newest = 0;

    cr_assert(acknowledged != MAP_FAILED);
    for (int kill_number = 0; kill_number < KILLS; kill_number++) {
        struct timespec now;
        pid_t child = child_fork();
        if (child == 0) {
            victim(acknowledged, newest + 1);
        }
        uint64_t start = newest;
        for (int64_t end = hlt_store_mono_ms() + PATIENCE_MS;
             atomic_load(acknowledged) <= start && hlt_store_mono_ms() < end; pause_ms(1)) {
        }
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        struct timespec moment = {.tv_nsec = now.tv_nsec % 40000000}; /* 0..40 ms later */
        (void)nanosleep(&moment, NULL);
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
        cr_assert(gt(u64, atomic_load(acknowledged), start), "it never committed");
        cr_expect(not(hlt_store_in_use(db_path, NULL)), "a dead broker holds nothing");
        verify(atomic_load(acknowledged), &newest);
    }
}

static bool wait_in_transaction(void *context, const void *key, size_t key_len, const void *value,
                                size_t value_len)
{
    (void)key;
    (void)key_len;
    (void)value;
    (void)value_len;
    (void)!write(*(int *)context, "r", 1);
    for (;;) {
        (void)pause();
    }
    return false;
}

Test(store, a_reader_that_hangs_is_named_and_a_dead_one_cleared)
{
    struct hlt_store *store = open_store();
    struct hlt_store *reader = NULL;
    struct hlt_store_info info;
    int ready[2], status = 1;
    char byte;

    (void)put_text(hlt_store_batch(store), HLT_DB_DEVICES, "a", "1");
    hlt_store_submit(store, true);
    cr_assert(committed(store, 1));
    cr_assert(eq(int, pipe(ready), 0));
    pid_t hung = child_fork();
    if (hung == 0) {
        if (hlt_store_open_reader(&reader, db_path, NULL) == HLT_OK) {
            (void)hlt_store_each(reader, HLT_DB_DEVICES, wait_in_transaction, &ready[1], NULL);
        }
        _exit(1);
    }
    cr_assert(eq(int, (int)read(ready[0], &byte, 1), 1));
    for (uint64_t n = 2; n <= 4; n++) {
        (void)put_text(next_batch(store), HLT_DB_DEVICES, "a", "2");
        hlt_store_submit(store, true);
        cr_assert(committed(store, n));
    }
    pid_t looker = child_fork();
    if (looker == 0) {
        bool good = hlt_store_open_reader(&reader, db_path, NULL) == HLT_OK &&
                    hlt_store_info(reader, &info, NULL) == HLT_OK &&
                    info.oldest_reader_pid == hung && info.oldest_reader_lag == 3 &&
                    info.readers == 1 && info.broker_pid == getppid() &&
                    info.entries[HLT_DB_DEVICES] == 1 && info.schema == HLT_STORE_SCHEMA &&
                    info.boot == 1 && !info.clean && strlen(info.uuid) == 36 &&
                    info.flushed_ms >= info.created_ms && info.created_ms > 0 &&
                    info.used_bytes <= info.file_bytes;
        _exit(good ? 0 : 1);
    }
    (void)waitpid(looker, &status, 0);
    cr_expect(eq(int, status, 0));
    cr_expect(eq(u64, stats_of(store).readers_cleared, 0), "a living reader is left alone");
    (void)kill(hung, SIGKILL);
    (void)waitpid(hung, NULL, 0);
    (void)put_text(next_batch(store), HLT_DB_DEVICES, "a", "3");
    hlt_store_submit(store, true);
    cr_assert(committed(store, 5));
    cr_expect(eq(u64, stats_of(store).readers_cleared, 1));
    hlt_store_close(store);
}

/* --- the check after an unclean stop --- */

Test(store, a_clean_store_is_not_checked_and_any_other_is)
{
    struct hlt_store_config config = config_of(1);
    struct hlt_store *store;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};
    bool clean = false, replaced = true;

    config.checker = checker_that("exit 0");
    cr_assert(eq(int, hlt_store_open(&store, &config, &clean, &replaced, &error), HLT_OK));
    cr_expect(clean, "a new one");
    cr_expect(not(replaced));
    hlt_store_close(store);
    cr_expect(not(checker_was_asked()));

    cr_assert(eq(int, hlt_store_open(&store, &config, &clean, &replaced, &error), HLT_OK));
    cr_expect(clean);
    hlt_store_close(store);
    cr_expect(not(checker_was_asked()));

    cr_assert(eq(int, utimensat(AT_FDCWD, in_db("data.mdb"), times, 0), 0));
    cr_assert(eq(int, hlt_store_open(&store, &config, &clean, &replaced, &error), HLT_OK));
    cr_expect(not(clean), "somebody changed data.mdb since the clean stop");
    cr_expect(eq(str, (char *)hlt_store_note(store), ""));
    hlt_store_close(store);
    cr_expect(checker_was_asked());

    make_store(1, false);
    cr_assert(eq(int, hlt_store_open(&store, &config, &clean, &replaced, &error), HLT_OK));
    cr_expect(not(clean), "a killed broker");
    cr_expect(not(replaced));
    cr_expect(get_text(store, HLT_DB_DEVICES, "device-000000") != NULL);
    hlt_store_close(store);
    cr_expect(checker_was_asked());
}

Test(store, a_damaged_store_is_moved_aside_and_two_are_kept)
{
    static const char *const ends[] = {"exit 1", "kill -9 $$", "kill -ABRT $$", "exit 1"};
    struct hlt_store_config config = config_of(1);
    struct hlt_store *store;
    char aside[600];

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        bool clean = true, replaced = false;
        make_store(3, false);
        config.checker = checker_that(ends[i]);
        cr_assert(eq(int, hlt_store_open(&store, &config, &clean, &replaced, &error), HLT_OK));
        cr_expect(replaced, "%s", ends[i]);
        cr_expect(not(clean));
        cr_expect(get_text(store, HLT_DB_DEVICES, "device-000000") == NULL, "it starts empty");
        cr_expect(eq(u32, corrupt_count(aside, sizeof(aside)), i < 2 ? (unsigned)i + 1 : 2));
        cr_expect(strstr(hlt_store_note(store), "corrupt-") != NULL, "%s", hlt_store_note(store));
        hlt_store_close(store);
    }
    cr_assert(eq(int, hlt_store_open_reader(&store, aside, &error), HLT_OK), "%s", error.msg);
    cr_expect(get_text(store, HLT_DB_DEVICES, "device-000002") != NULL, "nothing is thrown away");
    hlt_store_close(store);
}

Test(store, a_check_that_has_judged_nothing_costs_no_data)
{
    struct hlt_store_config config = config_of(1);
    struct hlt_store *store;
    char ignored[600], missing[300];
    bool replaced = true;

    (void)snprintf(missing, sizeof(missing), "%s/no-such-program", top);
    const char *const checkers[] = {missing, checker_that("exit 2"), NULL};
    for (size_t i = 0; i < 3; i++) {
        make_store(3, false);
        config.checker = checkers[i];
        cr_assert(eq(int, hlt_store_open(&store, &config, NULL, &replaced, &error), HLT_OK));
        cr_expect(not(replaced));
        cr_expect(eq(u32, corrupt_count(ignored, sizeof(ignored)), 0));
        cr_expect(get_text(store, HLT_DB_DEVICES, "device-000000") != NULL);
        bool told = strstr(hlt_store_note(store), "not checked") != NULL;
        cr_expect(told == (i < 2), "%s", hlt_store_note(store));
        hlt_store_close(store);
    }
}

static void overwrite_pages(void)
{
    struct stat st;
    int fd = open(in_db("data.mdb"), O_RDWR | O_CLOEXEC);

    cr_assert(eq(int, fstat(fd, &st), 0));
    for (off_t at = 2 * 4096; at < st.st_size; at += 4096) {
        uint8_t page[4096];
        for (size_t i = 0; i < sizeof(page); i++) {
            page[i] = (uint8_t)((size_t)at / 4096 * 31 + i * 131);
        }
        cr_assert(eq(int, (int)pwrite(fd, page, sizeof(page), at), 4096));
    }
    (void)close(fd);
}

Test(store, the_command_is_the_judge_of_a_real_store)
{
    struct hlt_store_config config = config_of(1);
    struct hlt_store *store;
    bool replaced = true;

    config.checker = getenv("HALTERE"); /* set by ctest */
    if (config.checker == NULL || access(config.checker, X_OK) != 0) {
        cr_skip_test("HALTERE does not name the command");
    }
    make_store(3000, false);
    cr_assert(eq(int, hlt_store_open(&store, &config, NULL, &replaced, &error), HLT_OK));
    cr_expect(not(replaced), "%s", hlt_store_note(store));
    cr_expect(eq(str, (char *)hlt_store_note(store), ""));
    hlt_store_close(store);
    overwrite_pages(); /* after a clean stop: it is noticed all the same */
    cr_assert(eq(int, hlt_store_open(&store, &config, NULL, &replaced, &error), HLT_OK));
    cr_expect(replaced, "%s", hlt_store_note(store));
    cr_expect(get_text(store, HLT_DB_DEVICES, "device-000000") == NULL);
    hlt_store_close(store);
}

static enum hlt_rc check_in_child(bool *died, uint64_t *damaged)
{
    uint64_t *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0;

    pid_t child = child_fork();
    if (child == 0) {
        const struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGABRT, SIG_DFL);
        (void)signal(SIGSEGV, SIG_DFL);
        (void)signal(SIGBUS, SIG_DFL);
        _exit((int)hlt_store_check(db_path, &shared[0], &shared[1], NULL));
    }
    (void)waitpid(child, &status, 0);
    *died = WIFSIGNALED(status);
    *damaged = shared[1];
    (void)munmap(shared, 4096);
    return WIFEXITED(status) ? (enum hlt_rc)WEXITSTATUS(status) : HLT_EPARSE;
}

Test(store, garbage_over_pages_is_never_called_sound)
{
    bool died;
    uint64_t damaged;

    make_store(5000, true);
    cr_assert(eq(int, check_in_child(&died, &damaged), HLT_OK));
    cr_assert(eq(u64, damaged, 0));
    overwrite_pages();
    enum hlt_rc rc = check_in_child(&died, &damaged);
    cr_expect(died || rc == HLT_EPARSE, "rc %d", (int)rc);
}

Test(store, a_flipped_bit_in_a_record_is_found)
{
    bool died;
    uint64_t damaged;
    struct stat st;

    make_store(1000, true);
    cr_assert(eq(int, stat(in_db("data.mdb"), &st), 0));
    uint8_t *data = malloc((size_t)st.st_size);
    int fd = open(in_db("data.mdb"), O_RDWR | O_CLOEXEC);
    cr_assert(eq(int, (int)pread(fd, data, (size_t)st.st_size, 0), (int)st.st_size));
    /* also in pages that are free by now: LMDB never writes over what a reader may see */
    const uint8_t *at = data;
    unsigned found = 0;
    while ((at = memmem(at, (size_t)(data + st.st_size - at), "device-000500", 13)) != NULL) {
        at += 13 + HLT_RECORD_HEADER; /* the first byte of its text */
        uint8_t flipped = *at ^ 4;
        cr_assert(eq(int, (int)pwrite(fd, &flipped, 1, at - data), 1));
        found++;
    }
    cr_assert(ge(u32, found, 1));
    (void)close(fd);
    free(data);
    cr_expect(eq(int, check_in_child(&died, &damaged), HLT_OK), "the structure holds");
    cr_expect(not(died));
    cr_expect(eq(u64, damaged, 1));
}

Test(store, a_file_that_is_no_store_is_called_damaged)
{
    struct hlt_store *store = NULL;
    char junk[8192];

    cr_assert(eq(int, mkdir(db_path, 0750), 0));
    memset(junk, 'j', sizeof(junk) - 1);
    junk[sizeof(junk) - 1] = '\0';
    write_file(in_db("data.mdb"), junk, 0640);
    write_file(in_db("lock.mdb"), "", 0660);
    cr_expect(eq(int, hlt_store_open_reader(&store, db_path, &error), HLT_EPARSE), "%s", error.msg);
    cr_expect(store == NULL);
}

/* --- backup --- */

Test(store, a_backup_is_whole_and_goes_only_into_an_empty_directory)
{
    struct hlt_store *store = NULL;
    char backup[300];
    uint64_t records = 0, damaged = 1;
    bool clean = true;

    make_store(2000, true);
    (void)snprintf(backup, sizeof(backup), "%s/backup", top);
    cr_assert(eq(int, hlt_store_open_reader(&store, db_path, &error), HLT_OK));
    cr_expect(eq(int, hlt_store_backup(store, backup, &error), HLT_EINVAL), "it does not exist");
    cr_assert(eq(int, mkdir(backup, 0700), 0));
    cr_assert(eq(int, hlt_store_backup(store, backup, &error), HLT_OK), "%s", error.msg);
    cr_expect(eq(int, hlt_store_backup(store, backup, &error), HLT_EINVAL), "it is not empty now");
    cr_expect(eq(int, hlt_store_backup(store, db_path, &error), HLT_EINVAL));
    hlt_store_close(store);

    (void)snprintf(db_path, sizeof(db_path), "%s", backup);
    cr_expect(eq(u32, mode_of(in_db("data.mdb")) & 0137, 0));
    cr_assert(eq(int, hlt_store_check(backup, &records, &damaged, &error), HLT_OK), "%s",
              error.msg);
    cr_expect(ge(u64, records, 2000));
    cr_expect(eq(u64, damaged, 0));
    struct hlt_store_config config = config_of(1); /* and a broker can start from it */
    cr_assert(eq(int, hlt_store_open(&store, &config, &clean, NULL, &error), HLT_OK));
    cr_expect(not(clean), "put back by hand: it is looked at first");
    cr_expect(get_text(store, HLT_DB_DEVICES, "device-001999") != NULL);
    hlt_store_close(store);
}

Test(store, a_name_is_kept_and_starts_are_counted)
{
    struct hlt_store_info first, second;
    struct hlt_store *store;

    hlt_store_close(open_store());
    cr_assert(eq(int, hlt_store_open_reader(&store, db_path, &error), HLT_OK));
    cr_assert(eq(int, hlt_store_info(store, &first, &error), HLT_OK));
    hlt_store_close(store);
    hlt_store_close(open_store());
    cr_assert(eq(int, hlt_store_open_reader(&store, db_path, &error), HLT_OK));
    cr_assert(eq(int, hlt_store_info(store, &second, &error), HLT_OK));
    hlt_store_close(store);
    cr_expect(eq(str, first.uuid, second.uuid));
    cr_expect(eq(i64, first.created_ms, second.created_ms));
    cr_expect(eq(u64, first.boot, 1));
    cr_expect(eq(u64, second.boot, 2));
    cr_expect(second.clean);
    cr_expect(eq(long, second.broker_pid, 0));
}

Test(store, closing_nothing_is_fine)
{
    hlt_store_close(NULL);
    cr_expect(eq(str, (char *)hlt_db_name(HLT_DB_IDENTITIES), "identities"));
    cr_expect(eq(str, (char *)hlt_db_name(HLT_DB_COUNT), "unknown"));
}
