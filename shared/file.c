/* file.c - reading the files an admin gives us, and refusing those that others could change. */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_MAX_BYTES 4096 /* Linux's PATH_MAX, NUL included */

static enum hlt_rc cannot(struct hlt_err *err, const char *what, const char *path)
{
    return hlt_fail(err, HLT_EIO, "cannot %s %s: %s", what, path, strerror(errno));
}

static enum hlt_rc open_failed(struct hlt_err *err, const char *path)
{
    int code = errno;
    if (code == ENOENT || code == ENOTDIR) {
        return hlt_fail(err, HLT_EIO, "%s does not exist: create it or mend the path", path);
    }
    if (code == EACCES || code == EPERM) {
        return hlt_fail(err, HLT_EIO,
                        "%s may not be read by user %ld: check its owner and mode, and those of "
                        "the directories above it",
                        path, (long)geteuid());
    }
    return cannot(err, "open", path);
}

/* DESIGN 11.15. Judged on the descriptor, so the file cannot be exchanged after the check. */
static enum hlt_rc judge(const char *path, const struct stat *st, enum hlt_file_trust trust,
                         struct hlt_err *err)
{
    if (S_ISDIR(st->st_mode)) {
        return hlt_fail(err, HLT_EIO, "%s is a directory: name a file in it", path);
    }
    if (!S_ISREG(st->st_mode)) {
        return hlt_fail(err, HLT_EIO, "%s is not a regular file: name a plain file", path);
    }
    if (st->st_uid != 0 && st->st_uid != geteuid()) {
        return hlt_fail(err, HLT_EIO,
                        "%s belongs to user %ld, who could change it: chown it to root or to the "
                        "user who reads it (%ld)",
                        path, (long)st->st_uid, (long)geteuid());
    }
    if (trust == HLT_FILE_SECRET && (st->st_mode & (S_IRWXO | S_IWGRP)) != 0) {
        return hlt_fail(err, HLT_EIO,
                        "%s holds a secret and its mode %04o is open to others: chmod o-rwx,g-w %s",
                        path, (unsigned)(st->st_mode & 07777), path);
    }
    if ((st->st_mode & S_IWOTH) != 0) {
        return hlt_fail(err, HLT_EIO, "%s may be written by everybody: chmod o-w %s", path, path);
    }
    return HLT_OK;
}

/* O_NONBLOCK: a FIFO in the file's place must not stop the broker. */
static enum hlt_rc open_judged(const char *path, enum hlt_file_trust trust, int *out,
                               struct stat *st, struct hlt_err *err)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        return open_failed(err, path);
    }
    if (fstat(fd, st) != 0) {
        enum hlt_rc failed = cannot(err, "look at", path);
        (void)close(fd);
        return failed;
    }
    enum hlt_rc rc = judge(path, st, trust, err);
    if (rc != HLT_OK) {
        (void)close(fd);
        return rc;
    }
    *out = fd;
    return HLT_OK;
}

static enum hlt_rc too_large(struct hlt_err *err, const char *path, size_t max_bytes)
{
    return hlt_fail(err, HLT_EFULL, "%s is larger than %zu bytes: is it the right file?", path,
                    max_bytes);
}

/* Read until the end, growing the buffer: the size fstat told may be old, or 0 for odd file
 * systems. *buffer is the caller's to free also on failure. */
static enum hlt_rc read_all(int fd, const char *path, size_t expected, size_t max_bytes,
                            char **buffer, size_t *len, struct hlt_err *err)
{
    size_t room = expected + 1; /* one more byte than expected shows growth, and holds the NUL */
    size_t have = 0;
    *buffer = malloc(room);
    while (*buffer != NULL) {
        ssize_t got = read(fd, *buffer + have, room - have);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return cannot(err, "read", path);
        }
        if (got == 0) {
            (*buffer)[have] = '\0'; /* have < room: a full buffer is grown below */
            *len = have;
            return HLT_OK;
        }
        have += (size_t)got;
        if (have > max_bytes) {
            return too_large(err, path, max_bytes);
        }
        if (have == room) {
            char *grown = realloc(*buffer, room * 2);
            if (grown == NULL) {
                break;
            }
            *buffer = grown;
            room *= 2;
        }
    }
    return hlt_fail(err, HLT_ENOMEM, "no memory to read %s", path);
}

enum hlt_rc hlt_file_read(const char *path, enum hlt_file_trust trust, size_t max_bytes, char **out,
                          size_t *len, struct hlt_err *err)
{
    struct stat st = {.st_size = 0};
    int fd = -1;
    char *buffer = NULL;

    *out = NULL;
    *len = 0;
    enum hlt_rc rc = open_judged(path, trust, &fd, &st, err);
    if (rc != HLT_OK) {
        return rc;
    }
    if (max_bytes > HLT_FILE_MAX_BYTES) {
        max_bytes = HLT_FILE_MAX_BYTES;
    }
    if ((uint64_t)st.st_size > max_bytes) {
        rc = too_large(err, path, max_bytes);
        goto done;
    }
    rc = read_all(fd, path, (size_t)st.st_size, max_bytes, &buffer, len, err);
    if (rc == HLT_OK) {
        *out = buffer;
        buffer = NULL; /* handed to the caller */
    }
done:
    free(buffer);
    (void)close(fd);
    return rc;
}

enum hlt_rc hlt_file_check(const char *path, enum hlt_file_trust trust, struct hlt_err *err)
{
    struct stat st = {.st_size = 0};
    int fd = -1;
    enum hlt_rc rc = open_judged(path, trust, &fd, &st, err);
    if (rc == HLT_OK) {
        (void)close(fd);
    }
    return rc;
}

static int64_t to_ns(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void hlt_file_stamp(const char *path, struct hlt_file_stamp *out)
{
    struct stat st;
    memset(out, 0, sizeof(*out));
    if (stat(path, &st) != 0) {
        return;
    }
    out->exists = true;
    out->device = (uint64_t)st.st_dev;
    out->inode = (uint64_t)st.st_ino;
    out->size = (uint64_t)st.st_size;
    out->mtime_ns = to_ns(st.st_mtim);
    out->ctime_ns = to_ns(st.st_ctim);
}

static enum hlt_rc write_all(int fd, const char *path, const void *data, size_t len,
                             struct hlt_err *err)
{
    const char *at = data;
    while (len > 0) {
        ssize_t put = write(fd, at, len);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return cannot(err, "write", path);
        }
        at += put;
        len -= (size_t)put;
    }
    return fsync(fd) == 0 ? HLT_OK : cannot(err, "sync", path);
}

/* Without this a power cut after the rename may bring the old name back. */
static enum hlt_rc sync_directory_of(const char *path, struct hlt_err *err)
{
    char directory[PATH_MAX_BYTES];
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        (void)snprintf(directory, sizeof(directory), ".");
    } else {
        int len = slash == path ? 1 : (int)(slash - path);
        (void)snprintf(directory, sizeof(directory), "%.*s", len, path);
    }
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return cannot(err, "open", directory);
    }
    enum hlt_rc rc = fsync(fd) == 0 ? HLT_OK : cannot(err, "sync", directory);
    (void)close(fd);
    return rc;
}

enum hlt_rc hlt_file_write(const char *path, const void *data, size_t len, unsigned mode,
                           struct hlt_err *err)
{
    char temporary[PATH_MAX_BYTES];
    int want = snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
    if (want < 0 || (size_t)want >= sizeof(temporary)) {
        return hlt_fail(err, HLT_EINVAL, "the path is longer than %d bytes", PATH_MAX_BYTES - 8);
    }
    int fd = mkostemp(temporary, O_CLOEXEC); /* made with mode 0600 */
    if (fd < 0) {
        return cannot(err, "create a file beside", path);
    }
    enum hlt_rc rc = write_all(fd, path, data, len, err);
    if (rc == HLT_OK && fchmod(fd, (mode_t)mode & 07777) != 0) {
        rc = cannot(err, "set the mode of", path);
    }
    if (close(fd) != 0 && rc == HLT_OK) {
        rc = cannot(err, "write", path);
    }
    if (rc == HLT_OK && rename(temporary, path) != 0) {
        rc = cannot(err, "replace", path);
    }
    if (rc != HLT_OK) {
        (void)unlink(temporary);
        return rc;
    }
    return sync_directory_of(path, err);
}
