/* keyset.h - the keys that may sign tokens: read, judged and bound to one algorithm each at load.
 *
 * Files (DESIGN 11.9, 11.15): JWKS or single JWK (public keys, or `oct` in an owner-only file), PEM
 * public key or certificate, raw secret. Several files make one set. A set is immutable after
 * loading and may be used by one thread while another loads its successor. */
#ifndef HLT_KEYSET_H
#define HLT_KEYSET_H

#include "base.h"

struct hlt_keyset; /* opaque */
struct hlt_key;    /* opaque, lives as long as its set */

#define HLT_KEYS_MAX 1024                  /* keys in a set */
#define HLT_KEY_FILE_MAX ((size_t)1 << 20) /* bytes of a keys file */

/* One `keys_file [alg=..] [kid=..] [issuer=..] PATH` option. */
struct hlt_key_source {
    const char *path;
    const char *alg;    /* NULL: the file's own, else by key type */
    const char *kid;    /* NULL: the file's own (JWKS), else none */
    const char *issuer; /* NULL: any issuer the plugin accepts */
};

/* Split the option's value into a source; *storage (malloc, caller frees) owns the strings. */
enum hlt_rc hlt_key_source_parse(const char *value, struct hlt_key_source *out, char **storage,
                                 struct hlt_err *err);

/* Load all sources into a new set; every mistake of every file goes to `problems` (file, line where
 * known). HLT_OK only without errors: the caller owns *out. Refused with a reason: RSA below 2048
 * bits or with an even or < 3 exponent, HMAC secrets shorter than the hash, duplicate kid,
 * symmetric and asymmetric keys in one file, private members where public ones belong, alg not
 * fitting the key or its curve, empty sets. A key of another use, kty, curve or alg, or whose
 * key_ops lack verify, is passed over with a warning in a JWKS (RFC 7517 section 5) as long as one
 * usable key of that file remains, and refused in a file of its own. */
enum hlt_rc hlt_keyset_load(struct hlt_keyset **out, const struct hlt_key_source *sources,
                            size_t source_count, struct hlt_problems *problems);
void hlt_keyset_free(struct hlt_keyset *set); /* accepts NULL */

size_t hlt_keyset_count(const struct hlt_keyset *set);
struct hlt_key_info {
    const char *kid;    /* "" if it has none */
    const char *alg;    /* "ES256" */
    const char *issuer; /* "" if any */
    const char *file;
    unsigned bits;
};
void hlt_keyset_info(const struct hlt_keyset *set, size_t index, struct hlt_key_info *out);

#endif
