/* issue.c - signs tokens by libjwt; the key file is checked before the library sees it. */
#include "issue.h"

#include <jwt.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/file.h"
#include "../shared/jsonpull.h"
#include "../shared/keyset.h"

struct hlt_issuer {
    jwk_set_t *set;
    const jwk_item_t *key;
    jwt_alg_t alg;
};

/* libjwt 3.3.3 aborts the process on a JWKS whose "keys" is not an array. */
static bool keys_is_sane(const char *json, size_t len)
{
    struct hlt_json reader;
    enum hlt_json_event event;

    return !hlt_json_find(json, len, "keys", &reader, &event) || event == HLT_JSON_ARRAY_BEGIN;
}

/* The same defaults as for verifying (DESIGN 11.9). */
static jwt_alg_t default_alg(const jwk_item_t *key)
{
    const char *curve = jwks_item_curve(key);

    switch (jwks_item_kty(key)) {
    case JWK_KEY_TYPE_RSA: return JWT_ALG_RS256;
    case JWK_KEY_TYPE_OKP: return JWT_ALG_EDDSA;
    case JWK_KEY_TYPE_OCT: return JWT_ALG_HS256;
    case JWK_KEY_TYPE_EC:
        return curve == NULL                 ? JWT_ALG_INVAL
               : strcmp(curve, "P-256") == 0 ? JWT_ALG_ES256
               : strcmp(curve, "P-384") == 0 ? JWT_ALG_ES384
                                             : JWT_ALG_INVAL;
    default: return JWT_ALG_INVAL;
    }
}

static enum hlt_rc use_key(struct hlt_issuer *issuer, const char *path, struct hlt_err *err)
{
    if (issuer->set == NULL || jwks_error(issuer->set) != 0) {
        return hlt_fail(err, HLT_EPARSE, "%s is not a JSON Web Key", path);
    }
    if (jwks_item_count(issuer->set) != 1) {
        return hlt_fail(err, HLT_EPARSE, "%s must hold exactly one key, it holds %zu", path,
                        jwks_item_count(issuer->set));
    }
    issuer->key = jwks_item_get(issuer->set, 0);
    if (jwks_item_error(issuer->key) != 0) {
        return hlt_fail(err, HLT_EPARSE, "%s: %s", path, jwks_item_error_msg(issuer->key));
    }
    if (jwks_item_is_private(issuer->key) == 0 && jwks_item_kty(issuer->key) != JWK_KEY_TYPE_OCT) {
        return hlt_fail(err, HLT_EPARSE, "%s is a public key: signing needs the private one", path);
    }
    issuer->alg = jwks_item_alg(issuer->key);
    if (issuer->alg == JWT_ALG_NONE) {
        issuer->alg = default_alg(issuer->key);
    }
    if (issuer->alg == JWT_ALG_INVAL) {
        return hlt_fail(err, HLT_EPARSE, "%s: no signing algorithm fits this key", path);
    }
    return HLT_OK;
}

enum hlt_rc hlt_issuer_open(struct hlt_issuer **out, const char *path, struct hlt_err *err)
{
    struct hlt_issuer *issuer = NULL;
    char *json = NULL;
    size_t len = 0, at = 0;

    *out = NULL;
    enum hlt_rc rc = hlt_file_read(path, HLT_FILE_SECRET, HLT_KEY_FILE_MAX, &json, &len, err);
    if (rc != HLT_OK) {
        return rc;
    }
    const char *wrong = hlt_json_check(json, len, true, &at);
    if (wrong != NULL) {
        rc = hlt_fail(err, HLT_EPARSE, "%s is not a JSON Web Key: %s at byte %zu", path, wrong, at);
    } else if (!keys_is_sane(json, len)) {
        rc = hlt_fail(err, HLT_EPARSE, "%s: \"keys\" is not an array", path);
    } else if ((issuer = calloc(1, sizeof(*issuer))) == NULL) {
        rc = hlt_fail(err, HLT_ENOMEM, "out of memory");
    } else {
        issuer->set = jwks_create_strn(json, len);
        rc = use_key(issuer, path, err);
    }
    explicit_bzero(json, len);
    free(json);
    if (rc != HLT_OK) {
        hlt_issuer_close(issuer);
        return rc;
    }
    *out = issuer;
    return HLT_OK;
}

void hlt_issuer_close(struct hlt_issuer *issuer)
{
    if (issuer != NULL) {
        jwks_free(issuer->set);
        free(issuer);
    }
}

enum hlt_rc hlt_issuer_sign(struct hlt_issuer *issuer, const char *claims_json, char **token,
                            struct hlt_err *err)
{
    jwt_builder_t *builder = jwt_builder_new();
    const char *kid = jwks_item_kid(issuer->key);
    char *copy = strdup(claims_json); /* libjwt's setter takes no const */
    jwt_value_t claims, header;
    enum hlt_rc rc = HLT_OK;

    *token = NULL;
    jwt_set_SET_JSON(&claims, NULL, copy);
    jwt_set_SET_STR(&header, "kid", kid);
    if (builder == NULL || copy == NULL) {
        rc = hlt_fail(err, HLT_ENOMEM, "out of memory");
    } else if (jwt_builder_setkey(builder, issuer->alg, issuer->key) != 0 ||
               jwt_builder_enable_iat(builder, 0) < 0 ||
               jwt_builder_claim_set(builder, &claims) != JWT_VALUE_ERR_NONE ||
               (kid != NULL && kid[0] != '\0' &&
                jwt_builder_header_set(builder, &header) != JWT_VALUE_ERR_NONE) ||
               (*token = jwt_builder_generate(builder)) == NULL) {
        const char *why = jwt_builder_error_msg(builder);
        rc = hlt_fail(err, HLT_EINVAL, "cannot sign the token: %s",
                      why != NULL && why[0] != '\0' ? why : "the key or the claims do not fit");
    }
    jwt_builder_free(builder);
    free(copy);
    return rc;
}
