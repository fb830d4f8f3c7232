/* file.c - tests of shared/file.c: what may be read, what is refused and why, and safe writing. */
#include "../../shared/file.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[256];

static void make_directory(void)
{
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(directory, sizeof(directory), "%s/haltere-file.XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    cr_assert(mkdtemp(directory) != NULL);
}

static void remove_directory(void)
{
    char command[300];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    cr_assert(system(command) == 0);
}

TestSuite(file, .init = make_directory, .fini = remove_directory);

static const char *path_of(const char *name)
{
    static char path[2][400];
    static unsigned turn;
    turn ^= 1u;
    (void)snprintf(path[turn], sizeof(path[turn]), "%s/%s", directory, name);
    return path[turn];
}

static const char *make_file(const char *name, const char *content, mode_t mode)
{
    const char *path = path_of(name);
    FILE *stream = fopen(path, "w");
    cr_assert(stream != NULL);
    cr_assert(fputs(content, stream) >= 0);
    cr_assert(fclose(stream) == 0);
    cr_assert(chmod(path, mode) == 0);
    return path;
}

static enum hlt_rc try_read(const char *path, enum hlt_file_trust trust, size_t max,
                            struct hlt_err *err)
{
    char *text = NULL;
    size_t len = 99;
    enum hlt_rc rc = hlt_file_read(path, trust, max, &text, &len, err);
    if (rc != HLT_OK) {
        cr_expect(text == NULL && len == 0, "nothing is handed out on failure");
    }
    free(text);
    return rc;
}

Test(file, reads_a_whole_file_and_ends_it_with_nul)
{
    char *text = NULL;
    size_t len = 0;
    struct hlt_err err;
    const char *path = make_file("a", "one\ntwo\n", 0644);
    cr_assert(hlt_file_read(path, HLT_FILE_PUBLIC, 100, &text, &len, &err) == HLT_OK);
    cr_assert(len == 8);
    cr_assert_str_eq(text, "one\ntwo\n");
    free(text);
}

Test(file, reads_an_empty_file)
{
    char *text = NULL;
    size_t len = 7;
    const char *path = make_file("a", "", 0600);
    cr_assert(hlt_file_read(path, HLT_FILE_SECRET, 100, &text, &len, NULL) == HLT_OK);
    cr_assert(len == 0);
    cr_assert_str_eq(text, "");
    free(text);
}

Test(file, reads_what_fstat_calls_empty)
{
    char *text = NULL;
    size_t len = 0;
    struct hlt_err err = {.msg = ""};
    cr_assert(hlt_file_read("/proc/self/status", HLT_FILE_PUBLIC, 1u << 20, &text, &len, &err) ==
                  HLT_OK,
              "%s", err.msg);
    cr_assert(len > 100 && strlen(text) == len);
    free(text);
}

Test(file, size_limit_is_the_last_that_passes)
{
    struct hlt_err err;
    const char *path = make_file("a", "12345678", 0644);
    cr_assert(try_read(path, HLT_FILE_PUBLIC, 8, &err) == HLT_OK);
    cr_assert(try_read(path, HLT_FILE_PUBLIC, 7, &err) == HLT_EFULL);
    cr_assert(strstr(err.msg, "larger than 7 bytes") != NULL);
    cr_assert(strstr(err.msg, path) != NULL);
    cr_assert(try_read("/proc/self/status", HLT_FILE_PUBLIC, 50, &err) == HLT_EFULL);
}

Test(file, modes_decide_who_is_trusted)
{
    static const struct {
        mode_t mode;
        enum hlt_rc as_public, as_secret;
        const char *mend; /* in the secret's message */
    } rows[] = {
        {0600, HLT_OK, HLT_OK, ""},          {0640, HLT_OK, HLT_OK, ""},
        {0400, HLT_OK, HLT_OK, ""},          {0644, HLT_OK, HLT_EIO, "chmod o-rwx,g-w"},
        {0641, HLT_OK, HLT_EIO, "chmod"},    {0660, HLT_OK, HLT_EIO, "chmod o-rwx,g-w"},
        {0602, HLT_EIO, HLT_EIO, "chmod o"}, {0666, HLT_EIO, HLT_EIO, "0666"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_err err = {.msg = ""};
        const char *path = make_file("a", "x", rows[i].mode);
        cr_expect(try_read(path, HLT_FILE_PUBLIC, 10, &err) == rows[i].as_public, "row %zu", i);
        if (rows[i].as_public == HLT_EIO) {
            cr_expect(strstr(err.msg, "chmod o-w") != NULL, "row %zu: %s", i, err.msg);
        }
        err.msg[0] = '\0';
        cr_expect(try_read(path, HLT_FILE_SECRET, 10, &err) == rows[i].as_secret, "row %zu", i);
        cr_expect(strstr(err.msg, rows[i].mend) != NULL, "row %zu: %s", i, err.msg);
        cr_expect(hlt_file_check(path, HLT_FILE_SECRET, &err) == rows[i].as_secret, "row %zu", i);
        cr_expect(hlt_file_check(path, HLT_FILE_PUBLIC, &err) == rows[i].as_public, "row %zu", i);
        cr_assert(unlink(path) == 0);
    }
}

Test(file, another_users_file_is_refused)
{
    struct hlt_err err;
    const char *path = make_file("a", "x", 0644);
    if (chown(path, 12345, (gid_t)-1) != 0) {
        cr_skip_test("only root can give files away");
    }
    cr_assert(try_read(path, HLT_FILE_PUBLIC, 10, &err) == HLT_EIO);
    cr_assert(strstr(err.msg, "12345") != NULL && strstr(err.msg, "chown") != NULL);
}

Test(file, roots_file_is_trusted_by_everybody)
{
    struct hlt_err err;
    if (geteuid() == 0) {
        const char *path = make_file("a", "x", 0644);
        cr_assert(chmod(directory, 0755) == 0);
        cr_assert(seteuid(65534) == 0);
        cr_expect(try_read(path, HLT_FILE_PUBLIC, 10, &err) == HLT_OK);
        cr_assert(seteuid(0) == 0);
    } else {
        cr_assert(try_read("/etc/passwd", HLT_FILE_PUBLIC, 1u << 20, &err) == HLT_OK);
    }
}

Test(file, what_may_not_be_read_says_so)
{
    struct hlt_err err;
    const char *path = make_file("a", "x", 0000);
    uid_t was = geteuid();
    if (was == 0) {
        cr_assert(chmod(directory, 0755) == 0);
        cr_assert(seteuid(65534) == 0);
    }
    cr_expect(try_read(path, HLT_FILE_PUBLIC, 10, &err) == HLT_EIO);
    cr_expect(strstr(err.msg, "may not be read by user") != NULL);
    cr_assert(seteuid(was) == 0);
}

Test(file, only_regular_files_are_read_and_a_fifo_does_not_block)
{
    struct hlt_err err;
    const char *fifo = path_of("fifo");
    cr_assert(mkfifo(fifo, 0600) == 0);
    cr_assert(try_read(fifo, HLT_FILE_PUBLIC, 10, &err) == HLT_EIO);
    cr_assert(strstr(err.msg, "not a regular file") != NULL);
    cr_assert(try_read(directory, HLT_FILE_PUBLIC, 10, &err) == HLT_EIO);
    cr_assert(strstr(err.msg, "directory") != NULL);
    cr_assert(try_read("/dev/zero", HLT_FILE_PUBLIC, 10, &err) == HLT_EIO);
    cr_assert(try_read(path_of("none"), HLT_FILE_PUBLIC, 10, &err) == HLT_EIO);
    cr_assert(strstr(err.msg, "does not exist") != NULL);
    cr_assert(hlt_file_check(path_of("none"), HLT_FILE_PUBLIC, &err) == HLT_EIO);
}

Test(file, symlinks_are_followed_to_what_they_name)
{
    const char *target = make_file("target", "x", 0600);
    const char *link_path = path_of("link");
    cr_assert(symlink(target, link_path) == 0);
    cr_assert(try_read(link_path, HLT_FILE_SECRET, 10, NULL) == HLT_OK);
    cr_assert(chmod(target, 0644) == 0);
    cr_assert(try_read(link_path, HLT_FILE_SECRET, 10, NULL) == HLT_EIO);
}

Test(file, stamp_changes_with_the_file)
{
    struct hlt_file_stamp none;
    struct hlt_file_stamp first;
    struct hlt_file_stamp second;
    hlt_file_stamp(path_of("a"), &none);
    cr_assert(!none.exists && none.inode == 0);
    const char *path = make_file("a", "x", 0644);
    hlt_file_stamp(path, &first);
    cr_assert(first.exists && first.size == 1);
    cr_assert(hlt_file_write(path, "y", 1, 0644, NULL) == HLT_OK);
    hlt_file_stamp(path, &second); /* the same size, perhaps the same clock tick: another inode */
    cr_assert(memcmp(&first, &second, sizeof(first)) != 0);
}

Test(file, write_replaces_the_whole_file_with_the_mode_asked_for)
{
    char *text = NULL;
    size_t len = 0;
    struct stat st;
    const char *path = make_file("a", "a much longer old content", 0644);
    umask(0077);
    cr_assert(hlt_file_write(path, "new\0x", 5, 0640, NULL) == HLT_OK);
    cr_assert(stat(path, &st) == 0 && (st.st_mode & 07777) == 0640);
    cr_assert(hlt_file_read(path, HLT_FILE_SECRET, 100, &text, &len, NULL) == HLT_OK);
    cr_assert(len == 5 && memcmp(text, "new\0x", 5) == 0);
    free(text);
}

Test(file, write_that_fails_leaves_nothing_behind)
{
    struct hlt_err err;
    char command[400];
    cr_assert(hlt_file_write(path_of("no/such"), "x", 1, 0600, &err) == HLT_EIO);
    cr_assert(strstr(err.msg, "no/such") != NULL);
    cr_assert(mkdir(path_of("taken"), 0700) == 0);
    cr_assert(hlt_file_write(path_of("taken"), "x", 1, 0600, &err) == HLT_EIO);
    (void)snprintf(command, sizeof(command), "test \"$(ls '%s')\" = taken", directory);
    cr_assert(system(command) == 0, "the temporary file is gone");
}

Test(file, write_refuses_a_path_that_is_too_long)
{
    char path[5000];
    struct hlt_err err;
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    cr_assert(hlt_file_write(path, "x", 1, 0600, &err) == HLT_EINVAL);
}
