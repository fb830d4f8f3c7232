/* issue.h - sign tokens with a private JWK: what `haltere token issue` and `haltere simulate`
 * share. */
#ifndef HLT_ISSUE_H
#define HLT_ISSUE_H

#include "../shared/base.h"

struct hlt_issuer; /* opaque: a private key, read and judged once */

/* Read a private JWK (or a JWKS with exactly one) from an owner-only file. The algorithm is the
 * key's `alg`, else by key type (DESIGN 11.9). On HLT_OK the caller owns *out. */
enum hlt_rc hlt_issuer_open(struct hlt_issuer **out, const char *path, struct hlt_err *err);
void hlt_issuer_close(struct hlt_issuer *issuer); /* accepts NULL */

/* Sign a payload: one JSON object. On HLT_OK *token is malloc'd. Not thread-safe. */
enum hlt_rc hlt_issuer_sign(struct hlt_issuer *issuer, const char *claims_json, char **token,
                            struct hlt_err *err);

#endif
