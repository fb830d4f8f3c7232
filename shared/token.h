/* token.h - is this string a token signed by one of our keys, for us, now? (RFC 7515, 7519, 8725)
 *
 * A strict pass of our own runs before libjwt (facts: libjwt 5, traps A to H), libjwt checks the
 * signature, and the claims come from the strict parse of the very bytes that were verified. */
#ifndef HLT_TOKEN_H
#define HLT_TOKEN_H

#include "base.h"
#include "hash.h"
#include "keyset.h"

#define HLT_TOKEN_MAX_DEFAULT 8192
#define HLT_TOKEN_ROLES_MAX 64
/* What header and payload may weigh (hlt_json_check_weight): libjwt builds trees of them before it
 * looks at the signature. 384 is 64 roles and 100 plain claims, and 17 us. */
#define HLT_TOKEN_HEADER_WEIGHT_MAX 96
#define HLT_TOKEN_PAYLOAD_WEIGHT_MAX 384

/* Why a login was refused. The words (hlt_reason_word) stand in logs, counters, events and the
 * README. */
enum hlt_reason {
    HLT_REASON_OK = 0,
    HLT_REASON_NO_TOKEN, /* no password, or not shaped like a token */
    HLT_REASON_TOO_LARGE,
    HLT_REASON_MALFORMED,   /* base64url, UTF-8, JSON, duplicate names, NUL, depth */
    HLT_REASON_UNSUPPORTED, /* crit, b64, JWE, nested token types */
    HLT_REASON_ALG,         /* alg missing, none, unknown, or not the key's */
    HLT_REASON_UNKNOWN_KEY, /* no key of that kid (or of that alg, without kid) */
    HLT_REASON_SIGNATURE,
    HLT_REASON_EXPIRED,
    HLT_REASON_NOT_YET,       /* nbf or iat in the future */
    HLT_REASON_CLAIM_MISSING, /* a required claim is absent */
    HLT_REASON_CLAIM_INVALID, /* a claim has the wrong type or range */
    HLT_REASON_ISSUER,
    HLT_REASON_AUDIENCE,
    HLT_REASON_LIFETIME,      /* exp - iat over max_token_lifetime */
    HLT_REASON_SUBJECT,       /* sub may not name a device */
    HLT_REASON_BINDING,       /* bound to a certificate (cnf) that this connection does not show */
    HLT_REASON_CLIENT_ID,     /* client id is not the token's sub */
    HLT_REASON_OLDER,         /* a renewal with an older token than the session's */
    HLT_REASON_USER_NAME,     /* user name is neither sub nor "jwt" */
    HLT_REASON_ID_RESERVED,   /* another login uses a device's id or name */
    HLT_REASON_CLOCK_UNSET,   /* this machine's clock is before the build date */
    HLT_REASON_SESSIONS_FULL, /* max_sessions */
    HLT_REASON_BANNED,
    HLT_REASON_REVOKED,
    HLT_REASON_INTERNAL,
    HLT_REASON_COUNT
};
const char *hlt_reason_word(enum hlt_reason reason); /* "expired", "signature", ... : [a-z_]+ */
const char *
hlt_reason_text(enum hlt_reason reason); /* one sentence for a person: what and how to mend it */

struct hlt_token_rules {
    const char *const
        *issuers; /* accepted `iss`; count 0: iss is not checked (require_iss still asks for it) */
    size_t issuer_count;
    const char *const *audiences; /* accepted `aud` (any of the token's); count 0: not checked */
    size_t audience_count;
    int64_t leeway_s;       /* 30 */
    int64_t max_lifetime_s; /* exp - iat, without iat exp - now; 0 or no exp: not checked */
    size_t max_bytes;       /* HLT_TOKEN_MAX_DEFAULT */
    bool require_exp, require_iss, require_aud; /* sub is always required */
};

/* A verified token's claims. Text members point into `claims_json`'s buffer or `text`; freed with
 * the struct. */
struct hlt_claims {
    char *json; /* the payload exactly as signed: one strict JSON object, NUL-terminated */
    size_t json_len;
    char *sub; /* decoded, passed hlt_id_valid */
    size_t sub_len;
    char *iss, *jti, *kid, *alg; /* decoded; "" if absent. kid and alg are those of the key, whether
                                    the token names it or not */
    int64_t exp_s, nbf_s, iat_s; /* unix seconds (fractions cut); INT64_MAX, 0, 0 if absent */
    bool has_exp, has_iat;
    char *roles[HLT_TOKEN_ROLES_MAX];
    size_t role_count;
    char *device_class; /* claim device_class (string), "" if absent */
    bool bound; /* cnf x5t#S256 (RFC 8705): good only on a connection with this certificate */
    uint8_t certificate_sha256[HLT_SHA256_BYTES]; /* of its DER */
    unsigned shares;                              /* owners beside the first */
};
void hlt_claims_free(struct hlt_claims *claims); /* the last owner's call frees; accepts NULL */
/* One more owner of the same claims (only read from then on, on one thread). Returns `claims`. */
struct hlt_claims *hlt_claims_share(struct hlt_claims *claims);

/* Looks like a token at all: three base64url segments, the first decodes to a JSON object. Cheap,
 * no key. */
bool hlt_token_shaped(const char *token, size_t len);

/* A verifier keeps the library contexts of one thread. It borrows nothing. */
struct hlt_verifier;
struct hlt_verifier *hlt_verifier_new(void);
void hlt_verifier_free(struct hlt_verifier *verifier);

/* Verify a token at `now_s` (unix seconds). HLT_REASON_OK: the caller owns *out. Otherwise *out is
 * NULL and `detail` (may be NULL) gets a short text safe for logs (no part of token or secret).
 * Bounded by rules->max_bytes; cost is the signature's plus 6-10 us (bench). */
enum hlt_reason hlt_token_verify(struct hlt_verifier *verifier, const struct hlt_keyset *keys,
                                 const struct hlt_token_rules *rules, const char *token, size_t len,
                                 int64_t now_s, struct hlt_claims **out, struct hlt_err *detail);

/* Judge exp, nbf and iat of claims verified before (tokencache.h): nothing else about them changes
 * with time. */
enum hlt_reason hlt_claims_judge_times(const struct hlt_claims *claims,
                                       const struct hlt_token_rules *rules, int64_t now_s,
                                       struct hlt_err *detail);

/* Claims from a payload that was verified before (a session restored from the store): same strict
 * parse, no signature and no time checks. NULL if it is not such a payload. */
struct hlt_claims *hlt_claims_parse(const char *json, size_t len);
/* The same, of a token that the key `kid` signed ("": not known). */
struct hlt_claims *hlt_claims_restore(const char *json, size_t len, const char *kid);

#endif
