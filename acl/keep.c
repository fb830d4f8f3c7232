/* keep.c - the last good policy's files, copied and read back. */
#include "keep.h"

#include <errno.h>
#include <ftw.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../shared/file.h"
#include "internal.h"

#define PATH_BYTES 4096
#define CURRENT_BYTES 1024 /* of the file `current`: a digest and a file's name */
#define FOLDER_MODE 0700   /* nobody else reads a policy here that he may not read at its place */
#define FILE_MODE 0600
#define DIGEST_LEN 16

static enum hlt_rc path_join(char out[PATH_BYTES], const char *folder, const char *name,
                             struct hlt_err *err)
{
    int len = snprintf(out, PATH_BYTES, "%s/%s", folder, name);

    return len > 0 && len < PATH_BYTES
               ? HLT_OK
               : hlt_fail(err, HLT_EIO, "the path %.100s/%.100s is too long", folder, name);
}

static enum hlt_rc make_folder(const char *path, struct hlt_err *err)
{
    return mkdir(path, FOLDER_MODE) == 0 || errno == EEXIST
               ? HLT_OK
               : hlt_fail(err, HLT_EIO, "cannot make the folder %s: %s", path, strerror(errno));
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *place)
{
    (void)st;
    (void)type;
    (void)place;
    (void)remove(path); /* what stays is in nobody's way */
    return 0;
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* Of a policy's files all lie below the first one's folder (parse.c sees to it): the rest of a
 * file's name behind that folder. */
static const char *relative_name(const struct hlt_policy *policy, uint32_t file)
{
    const char *first = policy->files[0].name;
    const char *slash = strrchr(first, '/');

    return policy->files[file].name + (slash != NULL ? (size_t)(slash - first) + 1 : 0);
}

/* Make the folders a relative name goes through. */
static enum hlt_rc make_folders_of(const char *path, size_t base_len, struct hlt_err *err)
{
    char folder[PATH_BYTES];

    for (const char *at = strchr(path + base_len + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
        (void)snprintf(folder, sizeof(folder), "%.*s", (int)(at - path), path);
        enum hlt_rc rc = make_folder(folder, err);
        if (rc != HLT_OK) {
            return rc;
        }
    }
    return HLT_OK;
}

/* The parser has written into the text it holds, so the file is read once more. */
static enum hlt_rc copy_file(const struct hlt_policy *policy, uint32_t file, const char *folder,
                             struct hlt_err *err)
{
    const struct acl_file *source = &policy->files[file];
    unsigned char digest[crypto_hash_sha256_BYTES];
    char path[PATH_BYTES];
    char *text = NULL;
    size_t len = 0;
    enum hlt_rc rc = path_join(path, folder, relative_name(policy, file), err);

    if (rc == HLT_OK) {
        rc = hlt_file_read(source->name, HLT_FILE_PUBLIC, HLT_POLICY_FILE_MAX, &text, &len, err);
    }
    if (rc == HLT_OK) {
        (void)crypto_hash_sha256(digest, (const unsigned char *)text, len);
        rc = memcmp(digest, source->digest, sizeof(digest)) == 0
                 ? make_folders_of(path, strlen(folder), err)
                 : hlt_fail(err, HLT_EBUSY, "%s has changed meanwhile", source->name);
    }
    if (rc == HLT_OK) {
        rc = hlt_file_write(path, text, len, FILE_MODE, err);
    }
    free(text);
    return rc;
}

/* "DIGEST NAME": false if there is none or it is no such line. `line` is cut in two. */
static bool read_current(const char *folder, char line[CURRENT_BYTES], const char **name,
                         int64_t *written_ms)
{
    char path[PATH_BYTES];
    struct hlt_file_stamp stamp;
    char *text = NULL;
    size_t len = 0;

    if (path_join(path, folder, "current", NULL) != HLT_OK ||
        hlt_file_read(path, HLT_FILE_PUBLIC, CURRENT_BYTES - 1, &text, &len, NULL) != HLT_OK) {
        return false;
    }
    memcpy(line, text, len + 1);
    free(text);
    line[strcspn(line, "\n")] = '\0';
    hlt_file_stamp(path, &stamp);
    *written_ms = stamp.mtime_ns / 1000000;
    if (strspn(line, "0123456789abcdef") != DIGEST_LEN || line[DIGEST_LEN] != ' ' ||
        line[DIGEST_LEN + 1] == '\0' || strchr(line + DIGEST_LEN + 1, '/') != NULL) {
        return false;
    }
    line[DIGEST_LEN] = '\0';
    *name = line + DIGEST_LEN + 1;
    return true;
}

static enum hlt_rc write_current(const struct hlt_policy *policy, const char *folder,
                                 struct hlt_err *err)
{
    char path[PATH_BYTES], line[CURRENT_BYTES];
    int len = snprintf(line, sizeof(line), "%s %s\n", policy->digest, relative_name(policy, 0));
    enum hlt_rc rc = path_join(path, folder, "current", err);

    if (rc == HLT_OK && (len < 0 || len >= CURRENT_BYTES)) {
        rc = hlt_fail(err, HLT_EIO, "the name of %s is too long", policy->files[0].name);
    }
    return rc == HLT_OK ? hlt_file_write(path, line, (size_t)len, FILE_MODE, err) : rc;
}

enum hlt_rc hlt_policy_keep(const struct hlt_policy *policy, const char *folder,
                            struct hlt_err *err)
{
    char line[CURRENT_BYTES], place[PATH_BYTES], before[PATH_BYTES] = "";
    const char *name = NULL;
    int64_t written_ms = 0;

    if (read_current(folder, line, &name, &written_ms)) {
        if (strcmp(line, policy->digest) == 0 && strcmp(name, relative_name(policy, 0)) == 0) {
            return HLT_OK;
        }
        (void)path_join(before, folder, line, NULL);
    }
    enum hlt_rc rc = make_folder(folder, err);
    if (rc == HLT_OK) {
        rc = path_join(place, folder, policy->digest, err);
    }
    if (rc != HLT_OK) {
        return rc;
    }
    bool renamed =
        strcmp(before, place) == 0; /* the same text under another name: keep what is there */
    if (!renamed) {
        remove_tree(place); /* what a crash left there */
    }
    rc = make_folder(place, err);
    for (uint32_t i = 0; rc == HLT_OK && i < policy->file_count; i++) {
        rc = copy_file(policy, i, place, err);
    }
    if (rc == HLT_OK) {
        rc = write_current(policy, folder, err);
    }
    if (rc != HLT_OK && !renamed) {
        remove_tree(place);
    } else if (rc == HLT_OK && !renamed && before[0] != '\0') {
        remove_tree(before);
    }
    return rc;
}

enum hlt_rc hlt_policy_load_kept(struct hlt_policy **out, const char *folder, int64_t *kept_ms,
                                 const struct hlt_policy_reading *how,
                                 struct hlt_problems *problems)
{
    char line[CURRENT_BYTES], place[PATH_BYTES], path[PATH_BYTES];
    const char *name = NULL;
    struct hlt_err err = {.msg = ""};

    *out = NULL;
    if (!read_current(folder, line, &name, kept_ms)) {
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, folder, 0, 0,
                         "no good policy has been kept there yet");
        return HLT_ENOTFOUND;
    }
    enum hlt_rc rc = path_join(place, folder, line, &err);
    if (rc == HLT_OK) {
        rc = path_join(path, place, name, &err);
    }
    if (rc != HLT_OK) {
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, folder, 0, 0, "%s", err.msg);
        return rc;
    }
    rc = hlt_policy_load(out, path, how, problems);
    if (rc == HLT_OK && strcmp((*out)->digest, line) != 0) {
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, path, 0, 0,
                         "the kept policy is damaged: its SHA-256 is not %s...", line);
        hlt_policy_free(*out);
        *out = NULL;
        return HLT_EPARSE;
    }
    return rc;
}
