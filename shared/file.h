/* file.h - reading the files an admin gives us, and refusing those that others could change.
 * Rules: DESIGN 11.15. Opened O_NONBLOCK|O_CLOEXEC, then fstat: regular file, bounded size,
 * owner root or the effective user. Symlinks are followed (mounted secrets are symlinks). */
#ifndef HLT_FILE_H
#define HLT_FILE_H

#include "base.h"

enum hlt_file_trust {
    HLT_FILE_PUBLIC, /* policy, rules, public keys: not writable by others */
    HLT_FILE_SECRET, /* HMAC secrets, private keys: no access for others, no group write */
};

#define HLT_FILE_MAX_BYTES (64u << 20) /* no file an admin edits is larger */

/* Read a whole file. On HLT_OK *out is NUL-terminated (the NUL is not counted in *len) and is freed
 * by the caller with free(). HLT_EIO: unreadable or not trusted, err says which and how to mend it
 * ("chmod o-w FILE"). HLT_EFULL: larger than max_bytes. */
enum hlt_rc hlt_file_read(const char *path, enum hlt_file_trust trust, size_t max_bytes, char **out,
                          size_t *len, struct hlt_err *err);

/* Check an already read file's descriptor rules without reading: used where the kind of content
 * decides the trust needed (a keys file turns out to hold secrets). Same errors. */
enum hlt_rc hlt_file_check(const char *path, enum hlt_file_trust trust, struct hlt_err *err);

/* Identity of a file's content as the file system sees it; changes when it is edited or replaced.
 */
struct hlt_file_stamp {
    uint64_t device, inode, size;
    int64_t mtime_ns, ctime_ns;
    bool exists;
};
void hlt_file_stamp(const char *path, struct hlt_file_stamp *out);

/* Write `len` bytes to `path` atomically (temporary file beside it, fsync, rename) with `mode`. */
enum hlt_rc hlt_file_write(const char *path, const void *data, size_t len, unsigned mode,
                           struct hlt_err *err);

#endif
