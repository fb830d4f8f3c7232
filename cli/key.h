/* key.h - what the files of `haltere key` share: making a key, and the group's verbs. */
#ifndef HLT_KEY_H
#define HLT_KEY_H

#include "../shared/jwk.h"

#define RSA_BITS_DEFAULT 3072
#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 16384

/* --- key.c --- */
/* The options --alg, --kid and --bits; a message was printed where the answer is NULL or false.
 * `text` and `kid` may be NULL. */
const struct hlt_alg *hlt_new_key_alg(const char *alg);
bool hlt_new_key_kid_fits(const char *kid);
bool hlt_new_key_bits(const char *text, const struct hlt_alg *alg, long *bits);
/* Make a key with alg and kid (NULL: its thumbprint). The caller frees with hlt_jwk_free. */
enum hlt_rc hlt_new_key_make(struct hlt_jwk *jwk, const struct hlt_alg *alg, long bits,
                             const char *kid, struct hlt_err *err);
/* Write it, private halves readable by the owner alone; never over another file unless `force`. */
enum hlt_rc hlt_new_key_write(const char *path, const struct hlt_jwk *jwk, bool private_half,
                              bool as_set, bool force, struct hlt_err *err);

/* --- key_list.c, key_rotate.c: verbs --- */
int hlt_key_list(int argc, char **argv);
int hlt_key_show(int argc, char **argv);
int hlt_key_check(int argc, char **argv);
int hlt_key_rotate(int argc, char **argv);

#endif
