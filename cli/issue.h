/* issue.h - sign tokens with a private key: what `haltere token issue` and `haltere simulate`
 * share. */
#ifndef HLT_ISSUE_H
#define HLT_ISSUE_H

#include "../shared/base.h"

struct hlt_issuer; /* opaque: a private key, read and judged once */

/* Which key of which file. */
struct hlt_issuer_choice {
    const char *path; /* private JWK or JWKS, private PEM, or a raw secret; owner-only */
    const char *alg;  /* NULL: the key's own, else by key type (DESIGN 11.9) */
    const char *kid;  /* NULL: the file's only key, and its own kid. Else the key of that kid; a key
                         without one gets it */
};

/* Read the chosen key. On HLT_OK the caller owns *out. */
enum hlt_rc hlt_issuer_choose(struct hlt_issuer **out, const struct hlt_issuer_choice *choice,
                              struct hlt_err *err);
/* The same for a file with one key whose alg and kid are its own. */
enum hlt_rc hlt_issuer_open(struct hlt_issuer **out, const char *path, struct hlt_err *err);
void hlt_issuer_close(struct hlt_issuer *issuer); /* accepts NULL */

/* Sign a payload: one JSON object. `header_json` (NULL: none) is one JSON object of members that
 * the header gets besides alg, kid and typ, or in place of kid and typ. On HLT_OK *token is
 * malloc'd. Not thread-safe. */
enum hlt_rc hlt_issuer_sign_with(struct hlt_issuer *issuer, const char *header_json,
                                 const char *claims_json, char **token, struct hlt_err *err);
enum hlt_rc hlt_issuer_sign(struct hlt_issuer *issuer, const char *claims_json, char **token,
                            struct hlt_err *err);

#endif
