/* claims.h - from a payload to judged claims; inside of token.h, not for other modules.
 *
 * Build reads types and ranges only, judge compares with the rules and the clock. Both run after
 * the signature, so that a stranger learns nothing about what would have been accepted. */
#ifndef HLT_CLAIMS_H
#define HLT_CLAIMS_H

#include "token.h"

/* What only the judge needs to know of a payload. */
struct hlt_claims_facts {
    bool has_aud;
    bool aud_accepted; /* one of the token's audiences is one of the rules' */
};

/* Read a payload that hlt_json_check(object) has passed. `kid` and `alg` ("" if absent) are copied.
 * `rules` (may be NULL) only serves aud_accepted. The caller owns *out on HLT_REASON_OK. */
enum hlt_reason hlt_claims_build(struct hlt_claims **out, struct hlt_claims_facts *facts,
                                 const char *json, size_t len, const char *kid, const char *alg,
                                 const struct hlt_token_rules *rules, struct hlt_err *detail);

/* Required claims, issuer, audience, then times. `key_issuer` NULL: the key signs for any. */
enum hlt_reason hlt_claims_judge(const struct hlt_claims *claims,
                                 const struct hlt_claims_facts *facts,
                                 const struct hlt_token_rules *rules, const char *key_issuer,
                                 int64_t now_s, struct hlt_err *detail);

/* hlt_fail() for reasons: fill `detail` (may be NULL), return `reason`. */
enum hlt_reason hlt_refuse(struct hlt_err *detail, enum hlt_reason reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
