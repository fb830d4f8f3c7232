/* keyfile.h - what stands in a keys file: JWKS, one JWK, PEM or a raw secret, as a list of JWKs. */
#ifndef HLT_KEYFILE_H
#define HLT_KEYFILE_H

#include "jwk.h"

struct hlt_keyfile_entry {
    struct hlt_jwk jwk;
    size_t index;  /* 0-based in the file's "keys" */
    unsigned line; /* 1-based */
};

/* Zero-initialise; free with hlt_keyfile_free. */
struct hlt_keyfile {
    struct hlt_keyfile_entry *entry;
    size_t count, capacity;
    bool in_set; /* the file is a JWKS: an entry is named by its index */
};

/* Take a file's content apart. Mistakes of each key go to `problems` (that key is left out); a file
 * that is none of the four kinds, or holds too many keys, is a problem too. `want_private`: a PEM
 * block must be a private key, else it must be a public one. HLT_OK only without errors. */
enum hlt_rc hlt_keyfile_parse(struct hlt_keyfile *out, const char *path, const char *text,
                              size_t len, bool want_private, struct hlt_problems *problems);
void hlt_keyfile_free(struct hlt_keyfile *file);

/* "key 2 (kid \"a\"): " or "" for a file that is one key; printable. */
#define HLT_KEYFILE_NAME_BYTES 400
void hlt_keyfile_name(const struct hlt_keyfile *file, const struct hlt_keyfile_entry *entry,
                      char out[HLT_KEYFILE_NAME_BYTES]);

/* True if the bytes are a public key or certificate in some spelling (DER, base64 of DER, SSH,
 * PEM). As an HMAC secret they would let everybody sign who knows the public key. */
bool hlt_keyfile_looks_public(const char *bytes, size_t len);

#endif
