/* issue.c - signs tokens by libjwt; the key file is checked before the library sees it. */
#include "issue.h"

#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/file.h"
#include "../shared/keyfile.h"
#include "../shared/keyset.h"

struct hlt_issuer {
    const struct hlt_alg *alg;
    char *kid; /* NULL: none */
    jwk_set_t *set;
    const jwk_item_t *key;
};

static enum hlt_rc pick(const struct hlt_keyfile *file, const struct hlt_issuer_choice *choice,
                        const struct hlt_jwk **out, struct hlt_err *err)
{
    if (file->count == 1 && (choice->kid == NULL || !file->entry[0].jwk.has_kid)) {
        *out = &file->entry[0].jwk;
        return HLT_OK;
    }
    for (size_t i = 0; choice->kid != NULL && i < file->count; i++) {
        if (strcmp(file->entry[i].jwk.kid, choice->kid) == 0) {
            *out = &file->entry[i].jwk;
            return HLT_OK;
        }
    }
    return choice->kid != NULL ? hlt_fail(err, HLT_ENOTFOUND, "%s holds no key with the kid \"%s\"",
                                          choice->path, choice->kid)
                               : hlt_fail(err, HLT_EPARSE, "%s holds %zu keys: name one by its kid",
                                          choice->path, file->count);
}

static enum hlt_rc bind_alg(struct hlt_issuer *issuer, const struct hlt_jwk *jwk,
                            const struct hlt_issuer_choice *choice, struct hlt_err *err)
{
    const char *name = choice->alg != NULL ? choice->alg
                       : jwk->has_alg      ? jwk->alg
                                           : hlt_jwk_default_alg(jwk);

    issuer->alg = hlt_alg_find(name);
    if (issuer->alg == NULL) {
        return hlt_fail(
            err, HLT_EINVAL,
            "unknown alg \"%s\"; known are HS256, RS256, PS256, ES256 (each also 384 and "
            "512), ES256K and EdDSA",
            name);
    }
    if (jwk->has_alg && strcmp(jwk->alg, issuer->alg->name) != 0) {
        return hlt_fail(err, HLT_EINVAL, "the key is bound to %s, not %s", jwk->alg, name);
    }
    return hlt_jwk_fits(jwk, issuer->alg)
               ? HLT_OK
               : hlt_fail(err, HLT_EINVAL, "%s does not fit a key of this kind; its own is %s",
                          name, hlt_jwk_default_alg(jwk));
}

static enum hlt_rc use_key(struct hlt_issuer *issuer, const struct hlt_jwk *jwk,
                           const struct hlt_issuer_choice *choice, struct hlt_err *err)
{
    const char *kid = jwk->has_kid ? jwk->kid : choice->kid;
    enum hlt_rc rc = jwk->unusable == NULL
                         ? bind_alg(issuer, jwk, choice, err)
                         : hlt_fail(err, HLT_EPARSE, "%s: %s", choice->path, jwk->unusable);
    char *text;

    if (rc != HLT_OK) {
        return rc;
    }
    if (jwk->has_ops && !jwk->may_sign) {
        return hlt_fail(err, HLT_EPARSE, "%s: \"key_ops\" does not list \"sign\"", choice->path);
    }
    if (!hlt_jwk_is_secret(jwk) && !hlt_jwk_is_private(jwk)) {
        return hlt_fail(err, HLT_EPARSE, "%s is a public key: signing needs the private one",
                        choice->path);
    }
    text = hlt_jwk_text(jwk, HLT_JWK_BARE_PRIVATE);
    issuer->set = text != NULL ? jwks_create(text) : NULL;
    hlt_jwk_text_free(text);
    issuer->key = jwks_item_get(issuer->set, 0);
    if (jwks_error(issuer->set) != 0 || issuer->key == NULL || jwks_item_error(issuer->key) != 0) {
        return hlt_fail(err, HLT_EPARSE, "%s: the key's numbers do not make a %s key", choice->path,
                        jwk->kty);
    }
    issuer->kid = kid != NULL ? strdup(kid) : NULL;
    return kid == NULL || issuer->kid != NULL ? HLT_OK : hlt_fail(err, HLT_ENOMEM, "out of memory");
}

static enum hlt_rc use_file(struct hlt_issuer *issuer, const struct hlt_issuer_choice *choice,
                            const char *text, size_t len, struct hlt_err *err)
{
    struct hlt_problems problems = {0};
    struct hlt_keyfile file = {0};
    const struct hlt_jwk *jwk = NULL;
    enum hlt_rc rc = hlt_keyfile_parse(&file, choice->path, text, len, true, &problems);

    if (rc != HLT_OK) {
        char line[sizeof(err->msg)] = "";
        if (problems.count > 0) {
            hlt_problem_format(&problems, 0, line, sizeof(line));
        }
        rc = hlt_fail(err, rc, "%s", line);
    } else {
        rc = pick(&file, choice, &jwk, err);
    }
    if (rc == HLT_OK && jwk != NULL) {
        rc = use_key(issuer, jwk, choice, err);
    }
    hlt_keyfile_free(&file);
    hlt_problems_free(&problems);
    return rc;
}

enum hlt_rc hlt_issuer_choose(struct hlt_issuer **out, const struct hlt_issuer_choice *choice,
                              struct hlt_err *err)
{
    struct hlt_issuer *issuer;
    char *text = NULL;
    size_t len = 0;
    enum hlt_rc rc =
        hlt_file_read(choice->path, HLT_FILE_SECRET, HLT_KEY_FILE_MAX, &text, &len, err);

    *out = NULL;
    if (rc != HLT_OK) {
        return rc;
    }
    issuer = calloc(1, sizeof(*issuer));
    rc = issuer != NULL ? use_file(issuer, choice, text, len, err)
                        : hlt_fail(err, HLT_ENOMEM, "out of memory");
    OPENSSL_cleanse(text, len);
    free(text);
    if (rc != HLT_OK) {
        hlt_issuer_close(issuer);
        return rc;
    }
    *out = issuer;
    return HLT_OK;
}

enum hlt_rc hlt_issuer_open(struct hlt_issuer **out, const char *path, struct hlt_err *err)
{
    const struct hlt_issuer_choice choice = {.path = path};

    return hlt_issuer_choose(out, &choice, err);
}

void hlt_issuer_close(struct hlt_issuer *issuer)
{
    if (issuer != NULL) {
        jwks_free(issuer->set);
        free(issuer->kid);
        free(issuer);
    }
}

typedef jwt_value_error_t (*setter)(jwt_builder_t *builder, jwt_value_t *value);

/* Merge a JSON object into the header or the claims; NULL text: nothing to do. */
static bool set_object(jwt_builder_t *builder, setter set, const char *json)
{
    char *copy = json != NULL ? strdup(json) : NULL; /* libjwt's setter takes no const */
    /* Not by the jwt_set_SET_ macros: they are GNU statement expressions. */
    jwt_value_t value = {.type = JWT_VALUE_JSON, .json_val = copy, .replace = 1};
    bool good = json == NULL || (copy != NULL && set(builder, &value) == JWT_VALUE_ERR_NONE);

    free(copy);
    return good;
}

enum hlt_rc hlt_issuer_sign_with(struct hlt_issuer *issuer, const char *header_json,
                                 const char *claims_json, char **token, struct hlt_err *err)
{
    jwt_builder_t *builder = jwt_builder_new();
    jwt_value_t kid = {.type = JWT_VALUE_STR, .name = "kid", .str_val = issuer->kid, .replace = 1};
    enum hlt_rc rc = HLT_OK;

    *token = NULL;
    if (builder == NULL) {
        return hlt_fail(err, HLT_ENOMEM, "out of memory");
    }
    if (jwt_builder_setkey(builder, issuer->alg->id, issuer->key) != 0 ||
        jwt_builder_enable_iat(builder, 0) < 0 ||
        (issuer->kid != NULL && jwt_builder_header_set(builder, &kid) != JWT_VALUE_ERR_NONE) ||
        !set_object(builder, jwt_builder_header_set, header_json) ||
        !set_object(builder, jwt_builder_claim_set, claims_json) ||
        (*token = jwt_builder_generate(builder)) == NULL) {
        const char *why = jwt_builder_error_msg(builder);
        rc = hlt_fail(err, HLT_EINVAL, "cannot sign the token: %s",
                      why != NULL && why[0] != '\0' ? why : "the key or the claims do not fit");
    }
    jwt_builder_free(builder);
    return rc;
}

enum hlt_rc hlt_issuer_sign(struct hlt_issuer *issuer, const char *claims_json, char **token,
                            struct hlt_err *err)
{
    return hlt_issuer_sign_with(issuer, NULL, claims_json, token, err);
}
