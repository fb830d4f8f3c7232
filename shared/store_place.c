/* store_place.c - the store's directory: its file system, its owner, and the check of what lies in
 * it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "store_internal.h"

#define CORRUPT_PREFIX "corrupt-"
#define CORRUPT_KEPT 2
#define CHECK_LIMIT_MS 30000
#define CHECK_BYTES_PER_MS                                                                         \
    (16ull << 10) /* a slow disk reads 16 MB/s: a large store gets more time */
#define OWNER_BYTES 128

extern char **environ;

static void path_in(const struct hlt_store *store, const char *name, char out[PATH_MAX])
{
    hlt_store_path_of(out, PATH_MAX, store->path, name);
}

const char *hlt_store_fs_refused(unsigned long type)
{
    static const struct {
        unsigned long type;
        const char *name;
    } remote[] = {
        {0x6969, "NFS"},        {0xff534d42, "CIFS"},   {0xfe534d42, "SMB"},  {0x517b, "SMB"},
        {0x01021997, "9p"},     {0x65735546, "FUSE"},   {0x00c36400, "Ceph"}, {0x5346414f, "AFS"},
        {0x0bd00bd0, "Lustre"}, {0x7461636f, "OCFS2"},  {0x01161970, "GFS2"}, {0x564c, "NCP"},
        {0x73757245, "Coda"},   {0x786f4256, "vboxsf"},
    };

    for (size_t i = 0; i < sizeof(remote) / sizeof(remote[0]); i++) {
        if ((type & 0xffffffffu) == remote[i].type) {
            return remote[i].name;
        }
    }
    return NULL;
}

enum hlt_rc hlt_store_place_prepare(struct hlt_store *store, struct hlt_err *err)
{
    struct stat st;
    struct statfs fs;

    if (mkdir(store->path, 0750) != 0 && errno != EEXIST) {
        return hlt_fail(err, HLT_EIO, "cannot create the store's directory %s: %s", store->path,
                        strerror(errno));
    }
    if (stat(store->path, &st) != 0 || statfs(store->path, &fs) != 0) {
        return hlt_fail(err, HLT_EIO, "cannot look at %s: %s", store->path, strerror(errno));
    }
    if (!S_ISDIR(st.st_mode)) {
        return hlt_fail(err, HLT_EINVAL, "%s is not a directory; db_path names one", store->path);
    }
    if ((st.st_mode & S_IWOTH) != 0) {
        return hlt_fail(err, HLT_EINVAL,
                        "%s may be written by everybody, so anybody could replace the store; "
                        "chmod 0750 it",
                        store->path);
    }
    const char *remote = hlt_store_fs_refused((unsigned long)fs.f_type);
    if (remote != NULL) {
        return hlt_fail(err, HLT_EINVAL,
                        "%s is on a %s file system: locks and shared memory do not hold there and "
                        "the store would break; put db_path on a local disk",
                        store->path, remote);
    }
    return HLT_OK;
}

/* --- the owner: a lock on an open file description, which a test does not take and a close of
 * other descriptors does not drop, and one line that says how the last holder left --- */

static bool data_state(const struct hlt_store *store, struct stat *st)
{
    char path[PATH_MAX];

    path_in(store, "data.mdb", path);
    return stat(path, st) == 0 && st->st_size > 0;
}

/* Names the very file: one that was changed or put back since is not "clean". */
static void clean_line(const struct stat *st, char out[OWNER_BYTES])
{
    (void)snprintf(out, OWNER_BYTES, "clean %ju %jd %jd.%09ld\n", (uintmax_t)st->st_ino,
                   (intmax_t)st->st_size, (intmax_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

static bool owner_write(int fd, const char *line)
{
    size_t len = strlen(line);

    return ftruncate(fd, 0) == 0 && pwrite(fd, line, len, 0) == (ssize_t)len && fsync(fd) == 0;
}

static void owner_read(int fd, char out[OWNER_BYTES])
{
    ssize_t len = pread(fd, out, OWNER_BYTES - 1, 0);

    out[len > 0 ? len : 0] = '\0';
}

/* The pid in an owner file, 0 if it holds none. */
static long owner_pid(int fd)
{
    char line[OWNER_BYTES];

    owner_read(fd, line);
    long pid = strtol(line, NULL, 10);
    return pid > 0 ? pid : 0;
}

enum hlt_rc hlt_store_owner_take(struct hlt_store *store, bool *was_clean, struct hlt_err *err)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char path[PATH_MAX], line[OWNER_BYTES], expected[OWNER_BYTES];
    struct stat st;

    path_in(store, "owner", path);
    store->owner_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (store->owner_fd < 0) {
        return hlt_fail(err, HLT_EIO, "cannot open %s: %s", path, strerror(errno));
    }
    if (fcntl(store->owner_fd, F_OFD_SETLK, &lock) != 0) {
        if (errno == EAGAIN || errno == EACCES) {
            return hlt_fail(err, HLT_EBUSY,
                            "%s is in use by process %ld: two brokers cannot share a store; stop "
                            "that one or give this one its own db_path",
                            store->path, owner_pid(store->owner_fd));
        }
        return hlt_fail(err, HLT_EIO, "cannot lock %s: %s", path, strerror(errno));
    }
    owner_read(store->owner_fd, line);
    *was_clean = true;
    if (data_state(store, &st)) {
        clean_line(&st, expected);
        *was_clean = strcmp(line, expected) == 0;
    }
    (void)snprintf(line, sizeof(line), "%ld\n", (long)getpid());
    if (!owner_write(store->owner_fd, line)) {
        return hlt_fail(err, HLT_EIO, "cannot write %s: disk full or I/O error (%s)", path,
                        strerror(errno));
    }
    return HLT_OK;
}

void hlt_store_owner_mark_clean(struct hlt_store *store)
{
    char line[OWNER_BYTES];
    struct stat st;

    if (store->owner_fd >= 0 && data_state(store, &st)) {
        clean_line(&st, line);
        (void)owner_write(store->owner_fd, line); /* not written: the next start checks, no more */
    }
}

bool hlt_store_in_use(const char *path, long *pid)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    char name[PATH_MAX];

    hlt_store_path_of(name, sizeof(name), path, "owner");
    int fd = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    /* Asks without taking, so that it can never stand in the way of a broker that starts. */
    bool held = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    if (held && pid != NULL) {
        *pid = owner_pid(fd);
    }
    (void)close(fd);
    return held;
}

/* --- the check, in a process of its own: LMDB may abort() on damaged pages --- */

enum judgement { SOUND, DAMAGED, NOT_JUDGED };

static pid_t checker_start(const struct hlt_store *store, const char *checker, int *error)
{
    const char *argv[] = {checker, "store", "check", "--structure", "--db", store->path, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none;
    pid_t pid = -1;

    (void)sigemptyset(&none);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    (void)posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    *error = posix_spawnp(&pid, checker, &actions, &attr, (char *const *)argv, environ);
    (void)posix_spawnattr_destroy(&attr);
    (void)posix_spawn_file_actions_destroy(&actions);
    return *error == 0 ? pid : -1;
}

/* Wait for `pid`; kill it at the limit. False: its end cannot be known (somebody else reaped it).
 */
static bool checker_wait(pid_t pid, int64_t limit_ms, int *status, bool *late)
{
    int64_t end_ms = hlt_store_mono_ms() + limit_ms;
    const struct timespec pause = {.tv_nsec = 5000000};

    *late = false;
    for (;;) {
        pid_t done = waitpid(pid, status, *late ? 0 : WNOHANG);
        if (done == pid) {
            return true;
        }
        if (done < 0 && errno != EINTR) {
            return false;
        }
        if (!*late && hlt_store_mono_ms() >= end_ms) {
            (void)kill(pid, SIGKILL);
            *late = true;
        }
        if (!*late) {
            (void)nanosleep(&pause, NULL);
        }
    }
}

static enum judgement check_outside(struct hlt_store *store, const char *checker, uint64_t bytes)
{
    int64_t limit_ms = CHECK_LIMIT_MS + (int64_t)(bytes / CHECK_BYTES_PER_MS);
    int error = 0, status = 0;
    bool late;
    pid_t pid = checker_start(store, checker, &error);

    if (pid < 0) {
        (void)snprintf(
            store->note, sizeof(store->note),
            "the last stop was not clean and the store was not checked: cannot run %s: %s", checker,
            strerror(error));
        return NOT_JUDGED;
    }
    if (!checker_wait(pid, limit_ms, &status, &late)) {
        (void)snprintf(store->note, sizeof(store->note), "the end of the store's check is unknown");
        return NOT_JUDGED;
    }
    if (late) {
        (void)snprintf(store->note, sizeof(store->note),
                       "the check did not end within %" PRId64 " s", limit_ms / 1000);
        return DAMAGED;
    }
    if (WIFSIGNALED(status)) {
        (void)snprintf(store->note, sizeof(store->note), "the check ended with signal %d",
                       WTERMSIG(status));
        return DAMAGED;
    }
    if (WEXITSTATUS(status) > 1) {
        /* Usage, no program, cannot read: it has judged nothing. Opening tells the reason better.
         */
        (void)snprintf(store->note, sizeof(store->note),
                       "the last stop was not clean and the store was not checked: "
                       "%s store check ended with code %d",
                       checker, WEXITSTATUS(status));
        return NOT_JUDGED;
    }
    if (WEXITSTATUS(status) == 1) {
        (void)snprintf(store->note, sizeof(store->note), "the check found damage");
        return DAMAGED;
    }
    return SOUND;
}

/* --- moving aside --- */

static int is_corrupt_name(const struct dirent *entry)
{
    return strncmp(entry->d_name, CORRUPT_PREFIX, strlen(CORRUPT_PREFIX)) == 0;
}

static void remove_corrupt(const struct hlt_store *store, const char *name)
{
    static const char *const files[] = {"/data.mdb", "/lock.mdb", ""};
    char path[PATH_MAX];

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        int len = snprintf(path, sizeof(path), "%s/%s%s", store->path, name, files[i]);
        if (len > 0 && (size_t)len < sizeof(path)) {
            (void)remove(path);
        }
    }
}

/* The names carry their date, so the order of names is the order of age. */
static void keep_newest_corrupt(const struct hlt_store *store)
{
    struct dirent **names = NULL;
    int count = scandir(store->path, &names, is_corrupt_name, alphasort);

    for (int i = 0; i < count; i++) {
        if (i < count - CORRUPT_KEPT) {
            remove_corrupt(store, names[i]->d_name);
        }
        free(names[i]);
    }
    free(names);
}

static bool make_corrupt_directory(const struct hlt_store *store, char out[PATH_MAX])
{
    char name[64], date[32];
    time_t now = time(NULL);
    struct tm tm;

    if (gmtime_r(&now, &tm) == NULL || strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", &tm) == 0) {
        return false;
    }
    for (int n = 0; n < 100; n++) { /* several in one second */
        (void)snprintf(name, sizeof(name), CORRUPT_PREFIX "%s%s%.0d", date, n > 0 ? "-" : "", n);
        path_in(store, name, out);
        if (mkdir(out, 0750) == 0) {
            return true;
        }
        if (errno != EEXIST) {
            return false;
        }
    }
    return false;
}

static enum hlt_rc move_aside(struct hlt_store *store, struct hlt_err *err)
{
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    char directory[PATH_MAX], from[PATH_MAX], to[PATH_MAX];
    char why[sizeof(store->note)];

    memcpy(why, store->note, sizeof(why));
    if (!make_corrupt_directory(store, directory)) {
        return hlt_fail(err, HLT_EIO, "the store %s is damaged and cannot be moved aside: %s",
                        store->path, strerror(errno));
    }
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        path_in(store, files[i], from);
        hlt_store_path_of(to, sizeof(to), directory, files[i]);
        if (rename(from, to) != 0 && errno != ENOENT) {
            return hlt_fail(err, HLT_EIO, "the store is damaged and %s cannot be moved aside: %s",
                            from, strerror(errno));
        }
    }
    keep_newest_corrupt(store);
    (void)snprintf(store->note, sizeof(store->note),
                   "%.200s: the damaged store was moved to %.200s and an empty one begun", why,
                   directory);
    return HLT_OK;
}

/* A store put back from a backup has no lock file yet; the checker, a reader, does not make one. */
static enum hlt_rc ensure_lock_file(const struct hlt_store *store, struct hlt_err *err)
{
    char path[PATH_MAX];

    path_in(store, "lock.mdb", path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
    if (fd < 0) {
        return hlt_fail(err, HLT_EIO, "cannot open %s: %s", path, strerror(errno));
    }
    (void)close(fd); /* LMDB is not open yet in this process: no lock to lose */
    return HLT_OK;
}

enum hlt_rc hlt_store_judge(struct hlt_store *store, const char *checker, bool *replaced,
                            struct hlt_err *err)
{
    struct stat st;

    if (!data_state(store, &st) || checker == NULL) {
        return HLT_OK;
    }
    enum hlt_rc rc = ensure_lock_file(store, err);
    if (rc != HLT_OK || check_outside(store, checker, (uint64_t)st.st_size) != DAMAGED) {
        return rc;
    }
    rc = move_aside(store, err);
    *replaced = rc == HLT_OK;
    return rc;
}
