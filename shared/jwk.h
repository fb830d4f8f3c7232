/* jwk.h - one JSON Web Key (RFC 7517, 7518, 8037): from JSON, OpenSSL or a secret, to text and
 * back.
 *
 * Everything a key goes through on its way to libjwt is this struct: libjwt only ever sees text
 * that hlt_jwk_text() wrote, never a file's own. */
#ifndef HLT_JWK_H
#define HLT_JWK_H

#include <jwt.h>
#include <openssl/evp.h>

#include "base.h"

#define HLT_KID_MAX 255         /* bytes of a kid, in keys and tokens */
#define HLT_ALG_COUNT 14        /* algorithms */
#define HLT_JWK_PART_MAX 4096   /* base64url characters of a member: RSA up to 16384 bits */
#define HLT_THUMBPRINT_BYTES 44 /* SHA-256 in base64url and a NUL */

/* A signature algorithm and the only kind of key it goes with. */
struct hlt_alg {
    const char *name;
    const char *kty;
    const char *crv; /* NULL: no curve, or (EdDSA) both of its curves */
    jwt_alg_t id;
    unsigned secret_min; /* HMAC: bytes of the hash (RFC 7518 section 3.2) */
};
const struct hlt_alg *hlt_alg_at(size_t index);       /* 0 .. HLT_ALG_COUNT - 1 */
size_t hlt_alg_index(const struct hlt_alg *alg);      /* the reverse */
const struct hlt_alg *hlt_alg_find(const char *name); /* NULL: unknown. Exact. */
const char *const *hlt_alg_names(void);               /* ends with NULL, for hlt_suggest */

/* Members in the order of their names; text is strict base64url, NULL if absent. */
enum hlt_jwk_part {
    HLT_JWK_D,
    HLT_JWK_DP,
    HLT_JWK_DQ,
    HLT_JWK_E,
    HLT_JWK_K,
    HLT_JWK_N,
    HLT_JWK_P,
    HLT_JWK_Q,
    HLT_JWK_QI,
    HLT_JWK_X,
    HLT_JWK_Y,
    HLT_JWK_PARTS
};

/* Zero-initialise; free with hlt_jwk_free, which also wipes. */
struct hlt_jwk {
    char kty[8]; /* "RSA", "EC", "OKP", "oct" */
    char crv[16];
    char *part[HLT_JWK_PARTS];
    char alg[16];              /* "" if the key names none */
    char kid[HLT_KID_MAX + 1]; /* "" if it has none */
    bool has_alg, has_kid;
    bool has_ops, may_verify, may_sign; /* key_ops: given, and what it lists */
    /* Why this well-formed key is of no use here (another use, kty, crv or alg), NULL if it is.
     * Among others it is passed over (RFC 7517 section 5), alone it is a mistake. */
    const char *unusable;
};
void hlt_jwk_free(struct hlt_jwk *jwk);

/* From JSON text that hlt_json_check(object) has passed. HLT_EPARSE: a member has the wrong type,
 * is not base64url, is missing or does not fit its kty. HLT_OK: look at `unusable`; key_ops is for
 * the caller. */
enum hlt_rc hlt_jwk_read(struct hlt_jwk *jwk, const char *json, size_t len, struct hlt_err *err);
/* From an OpenSSL key; the private members too if `with_private`. */
enum hlt_rc hlt_jwk_from_pkey(struct hlt_jwk *jwk, const EVP_PKEY *pkey, bool with_private,
                              struct hlt_err *err);
/* From the bytes of an HMAC secret. */
enum hlt_rc hlt_jwk_from_secret(struct hlt_jwk *jwk, const void *secret, size_t len,
                                struct hlt_err *err);
/* From PEM text: PUBLIC KEY, RSA PUBLIC KEY, CERTIFICATE; or PRIVATE KEY if `want_private`. */
enum hlt_rc hlt_jwk_from_pem(struct hlt_jwk *jwk, const char *pem, size_t len, bool want_private,
                             struct hlt_err *err);

bool hlt_jwk_is_private(const struct hlt_jwk *jwk);         /* a private member, `oct` excepted */
bool hlt_jwk_is_secret(const struct hlt_jwk *jwk);          /* `oct` */
const char *hlt_jwk_default_alg(const struct hlt_jwk *jwk); /* "ES256"; NULL: a key we cannot use */
bool hlt_jwk_fits(const struct hlt_jwk *jwk, const struct hlt_alg *alg); /* type and curve */

enum hlt_jwk_detail {
    HLT_JWK_THUMBPRINT, /* only what identifies the key (RFC 7638) */
    HLT_JWK_BARE,       /* public members, or the secret; no kid, alg, use: for libjwt */
    HLT_JWK_BARE_PRIVATE,
    HLT_JWK_PUBLIC, /* with kid, alg and use: for people */
    HLT_JWK_PRIVATE,
};
/* Members sorted by name, no blanks. The caller frees with hlt_jwk_text_free. NULL: no memory. */
char *hlt_jwk_text(const struct hlt_jwk *jwk, enum hlt_jwk_detail detail);
void hlt_jwk_text_free(char *text); /* wipes first; accepts NULL */

/* SHA-256 thumbprint (RFC 7638). False: no memory. */
bool hlt_jwk_thumbprint(const struct hlt_jwk *jwk, char out[HLT_THUMBPRINT_BYTES]);

#endif
