/* jwk_openssl.c - OpenSSL keys and PEM text to JSON Web Keys. */
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base64url.h"
#include "jwk.h"

#define PART_BYTES 2048 /* an RSA modulus of 16384 bits */

static enum hlt_rc put_bytes(struct hlt_jwk *jwk, enum hlt_jwk_part part, const void *data,
                             size_t len, struct hlt_err *err)
{
    size_t text_bytes = HLT_BASE64URL_TEXT(len);

    jwk->part[part] = malloc(text_bytes);
    if (jwk->part[part] == NULL) {
        return hlt_fail(err, HLT_ENOMEM, "out of memory");
    }
    hlt_base64url_encode(jwk->part[part], text_bytes, data, len);
    return HLT_OK;
}

/* A number of the key as big-endian bytes; `len` 0: as few as it needs. */
static enum hlt_rc put_number(struct hlt_jwk *jwk, enum hlt_jwk_part part, const EVP_PKEY *pkey,
                              const char *name, size_t len, struct hlt_err *err)
{
    unsigned char bytes[PART_BYTES];
    BIGNUM *number = NULL;
    enum hlt_rc rc;
    int written;

    if (EVP_PKEY_get_bn_param(pkey, name, &number) != 1) {
        return hlt_fail(err, HLT_EPARSE, "the key has no usable \"%s\"", name);
    }
    len = len != 0 ? len : (size_t)BN_num_bytes(number);
    written = len <= sizeof(bytes) ? BN_bn2binpad(number, bytes, (int)len) : -1;
    rc = written < 0 ? hlt_fail(err, HLT_EPARSE, "the key's \"%s\" is too long", name)
                     : put_bytes(jwk, part, bytes, len, err);
    OPENSSL_cleanse(bytes, sizeof(bytes));
    BN_clear_free(number);
    return rc;
}

static enum hlt_rc from_rsa(struct hlt_jwk *jwk, const EVP_PKEY *pkey, bool with_private,
                            struct hlt_err *err)
{
    static const struct {
        enum hlt_jwk_part part;
        const char *name;
    } rows[] = {{HLT_JWK_N, OSSL_PKEY_PARAM_RSA_N},
                {HLT_JWK_E, OSSL_PKEY_PARAM_RSA_E},
                {HLT_JWK_D, OSSL_PKEY_PARAM_RSA_D},
                {HLT_JWK_P, OSSL_PKEY_PARAM_RSA_FACTOR1},
                {HLT_JWK_Q, OSSL_PKEY_PARAM_RSA_FACTOR2},
                {HLT_JWK_DP, OSSL_PKEY_PARAM_RSA_EXPONENT1},
                {HLT_JWK_DQ, OSSL_PKEY_PARAM_RSA_EXPONENT2},
                {HLT_JWK_QI, OSSL_PKEY_PARAM_RSA_COEFFICIENT1}};
    enum hlt_rc rc = HLT_OK;

    memcpy(jwk->kty, "RSA", sizeof("RSA"));
    for (size_t i = 0; rc == HLT_OK && i < (with_private ? 8U : 2U); i++) {
        rc = put_number(jwk, rows[i].part, pkey, rows[i].name, 0, err);
    }
    return rc;
}

static enum hlt_rc from_ec(struct hlt_jwk *jwk, const EVP_PKEY *pkey, bool with_private,
                           struct hlt_err *err)
{
    static const struct {
        const char *group, *crv;
        size_t bytes;
    } rows[] = {{"prime256v1", "P-256", 32},
                {"secp384r1", "P-384", 48},
                {"secp521r1", "P-521", 66},
                {"secp256k1", "secp256k1", 32}};
    char group[64] = "";
    size_t row = 0;
    enum hlt_rc rc;

    EVP_PKEY_get_utf8_string_param(pkey, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group), NULL);
    while (row < 4 && strcmp(rows[row].group, group) != 0) {
        row++;
    }
    if (row == 4) {
        return hlt_fail(
            err, HLT_EPARSE,
            "the curve is not one of P-256, P-384, P-521 and secp256k1; make a key with "
            "one of these");
    }
    memcpy(jwk->kty, "EC", sizeof("EC"));
    memcpy(jwk->crv, rows[row].crv, strlen(rows[row].crv) + 1);
    rc = put_number(jwk, HLT_JWK_X, pkey, OSSL_PKEY_PARAM_EC_PUB_X, rows[row].bytes, err);
    if (rc == HLT_OK) {
        rc = put_number(jwk, HLT_JWK_Y, pkey, OSSL_PKEY_PARAM_EC_PUB_Y, rows[row].bytes, err);
    }
    if (rc == HLT_OK && with_private) {
        rc = put_number(jwk, HLT_JWK_D, pkey, OSSL_PKEY_PARAM_PRIV_KEY, rows[row].bytes, err);
    }
    return rc;
}

static enum hlt_rc from_ed(struct hlt_jwk *jwk, const EVP_PKEY *pkey, const char *crv,
                           bool with_private, struct hlt_err *err)
{
    unsigned char bytes[64];
    size_t len = sizeof(bytes);
    enum hlt_rc rc;

    memcpy(jwk->kty, "OKP", sizeof("OKP"));
    memcpy(jwk->crv, crv, strlen(crv) + 1);
    if (EVP_PKEY_get_raw_public_key(pkey, bytes, &len) != 1) {
        return hlt_fail(err, HLT_EPARSE, "the key has no public half");
    }
    rc = put_bytes(jwk, HLT_JWK_X, bytes, len, err);
    if (rc == HLT_OK && with_private) {
        len = sizeof(bytes);
        rc = EVP_PKEY_get_raw_private_key(pkey, bytes, &len) == 1
                 ? put_bytes(jwk, HLT_JWK_D, bytes, len, err)
                 : hlt_fail(err, HLT_EPARSE, "the key has no private half");
        OPENSSL_cleanse(bytes, sizeof(bytes));
    }
    return rc;
}

enum hlt_rc hlt_jwk_from_pkey(struct hlt_jwk *jwk, const EVP_PKEY *pkey, bool with_private,
                              struct hlt_err *err)
{
    switch (EVP_PKEY_get_base_id(pkey)) {
    case EVP_PKEY_RSA: return from_rsa(jwk, pkey, with_private, err);
    case EVP_PKEY_EC: return from_ec(jwk, pkey, with_private, err);
    case EVP_PKEY_ED25519: return from_ed(jwk, pkey, "Ed25519", with_private, err);
    case EVP_PKEY_ED448: return from_ed(jwk, pkey, "Ed448", with_private, err);
    case EVP_PKEY_RSA_PSS:
        return hlt_fail(err, HLT_EPARSE,
                        "this is an RSA-PSS key; use a plain RSA key with alg=PS256 instead");
    default:
        return hlt_fail(err, HLT_EPARSE,
                        "this kind of key cannot sign tokens; use RSA, EC P-256, "
                        "P-384, P-521, secp256k1, Ed25519 or Ed448");
    }
}

/* --- PEM --- */

/* An encrypted key would make OpenSSL ask on the terminal. */
/* NOLINTNEXTLINE(readability-non-const-parameter): OpenSSL gives the type */
static int no_passphrase(char *buffer, int size, int writing, void *context)
{
    (void)buffer;
    (void)size;
    (void)writing;
    (void)context;
    return -1;
}

static EVP_PKEY *decode_pem(BIO *bio, int selection)
{
    EVP_PKEY *pkey = NULL;
    OSSL_DECODER_CTX *decoder =
        OSSL_DECODER_CTX_new_for_pkey(&pkey, "PEM", NULL, NULL, selection, NULL, NULL);

    if (decoder != NULL) {
        OSSL_DECODER_CTX_set_pem_password_cb(decoder, no_passphrase, NULL);
        if (OSSL_DECODER_from_bio(decoder, bio) != 1) {
            EVP_PKEY_free(pkey);
            pkey = NULL;
        }
    }
    OSSL_DECODER_CTX_free(decoder);
    return pkey;
}

static EVP_PKEY *decode_certificate(BIO *bio)
{
    X509 *certificate = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
    EVP_PKEY *pkey = certificate != NULL ? X509_get_pubkey(certificate) : NULL;

    X509_free(certificate);
    return pkey;
}

static size_t count_of(const char *text, size_t len, const char *word)
{
    size_t count = 0, word_len = strlen(word);
    const char *at = text;

    while ((at = memmem(at, len - (size_t)(at - text), word, word_len)) != NULL) {
        at += word_len;
        count++;
    }
    return count;
}

/* One key, and of the half that is wanted. EC private keys may stand behind EC PARAMETERS. */
static enum hlt_rc check_blocks(const char *pem, size_t len, bool want_private, struct hlt_err *err)
{
    size_t blocks = count_of(pem, len, "-----BEGIN ");
    size_t private_blocks = count_of(pem, len, "PRIVATE KEY-----");
    size_t parameters = count_of(pem, len, "-----BEGIN EC PARAMETERS-----");

    if (private_blocks > 0 && !want_private) {
        return hlt_fail(err, HLT_EPARSE,
                        "holds a private key, which has no place on a broker; extract the public "
                        "half: openssl pkey -in FILE -pubout -out public.pem");
    }
    if (private_blocks == 0 && want_private) {
        return hlt_fail(err, HLT_EPARSE, "holds no private key");
    }
    if (blocks - parameters != 1) {
        return hlt_fail(err, HLT_EPARSE,
                        "holds %zu PEM blocks, must hold one; keep only the signer's own key or "
                        "certificate, and name one keys_file for each key",
                        blocks);
    }
    return HLT_OK;
}

enum hlt_rc hlt_jwk_from_pem(struct hlt_jwk *jwk, const char *pem, size_t len, bool want_private,
                             struct hlt_err *err)
{
    bool certificate = count_of(pem, len, "-----BEGIN CERTIFICATE-----") > 0;
    enum hlt_rc rc = check_blocks(pem, len, want_private, err);
    EVP_PKEY *pkey = NULL;
    BIO *bio;

    if (rc != HLT_OK) {
        return rc;
    }
    bio = BIO_new_mem_buf(pem, (int)len); /* len <= HLT_KEY_FILE_MAX */
    if (bio == NULL) {
        return hlt_fail(err, HLT_ENOMEM, "out of memory");
    }
    pkey = certificate ? decode_certificate(bio)
                       : decode_pem(bio, want_private ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY);
    BIO_free(bio);
    rc = pkey != NULL ? hlt_jwk_from_pkey(jwk, pkey, want_private, err)
                      : hlt_fail(err, HLT_EPARSE,
                                 "OpenSSL cannot read this PEM %s; check with: openssl %s -in FILE "
                                 "-noout -text",
                                 want_private  ? "private key (is it encrypted?)"
                                 : certificate ? "certificate"
                                               : "public key",
                                 want_private  ? "pkey"
                                 : certificate ? "x509"
                                               : "pkey -pubin");
    EVP_PKEY_free(pkey);
    return rc;
}
