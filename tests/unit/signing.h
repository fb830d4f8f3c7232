/* signing.h - keys and signed tokens for tests, made with OpenSSL alone so that a mistake of ours
 * is not made twice. Header only: every test is its own program. */
#ifndef HLT_TEST_SIGNING_H
#define HLT_TEST_SIGNING_H

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct signer {
    char alg[16];
    EVP_PKEY *pkey;            /* NULL: HMAC */
    unsigned char secret[128]; /* HMAC */
    size_t secret_len;
};

static inline void *must(void *pointer)
{
    if (pointer == NULL) {
        fprintf(stderr, "test set-up failed\n");
        abort();
    }
    return pointer;
}

/* Base64url by way of OpenSSL's base64. */
static inline char *b64u(const void *data, size_t len)
{
    char *text = must(malloc(len / 3 * 4 + 8));
    int used = EVP_EncodeBlock((unsigned char *)text, data, (int)len);

    while (used > 0 && text[used - 1] == '=') {
        used--;
    }
    text[used] = '\0';
    for (char *at = text; *at != '\0'; at++) {
        *at = *at == '+' ? '-' : *at == '/' ? '_' : *at;
    }
    return text;
}

static inline EVP_PKEY *new_pkey(const char *alg)
{
    EVP_PKEY *pkey = NULL;

    if (alg[0] == 'R' || alg[0] == 'P') {
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    } else if (strcmp(alg, "EdDSA") == 0) {
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    } else if (strcmp(alg, "Ed448") == 0) {
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED448");
    } else {
        const char *curve = strcmp(alg, "ES256") == 0   ? "P-256"
                            : strcmp(alg, "ES384") == 0 ? "P-384"
                            : strcmp(alg, "ES512") == 0 ? "P-521"
                                                        : "secp256k1";
        pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", curve);
    }
    return must(pkey);
}

/* `alg` "Ed448" is EdDSA with that curve. */
static inline struct signer signer_new(const char *alg)
{
    struct signer signer = {.secret_len = 64};

    snprintf(signer.alg, sizeof(signer.alg), "%s", strcmp(alg, "Ed448") == 0 ? "EdDSA" : alg);
    if (alg[0] == 'H') {
        for (size_t i = 0; i < signer.secret_len; i++) {
            signer.secret[i] = (unsigned char)(i * 37 + 11);
        }
    } else {
        signer.pkey = new_pkey(alg);
    }
    return signer;
}

static inline const EVP_MD *alg_digest(const char *alg)
{
    const char *bits = alg + 2;

    return strncmp(bits, "384", 3) == 0   ? EVP_sha384()
           : strncmp(bits, "512", 3) == 0 ? EVP_sha512()
                                          : EVP_sha256();
}

/* DER to the two numbers of fixed length that RFC 7518 section 3.4 wants. */
static inline size_t der_to_raw(unsigned char *sig, size_t len, size_t half)
{
    const unsigned char *at = sig;
    ECDSA_SIG *parsed = must(d2i_ECDSA_SIG(NULL, &at, (long)len));
    unsigned char raw[132];

    BN_bn2binpad(ECDSA_SIG_get0_r(parsed), raw, (int)half);
    BN_bn2binpad(ECDSA_SIG_get0_s(parsed), raw + half, (int)half);
    ECDSA_SIG_free(parsed);
    memcpy(sig, raw, 2 * half);
    return 2 * half;
}

/* Sign bytes; `sig` has room for 1024 bytes. `alg` rules, not the signer's own. */
static inline size_t sign_bytes(const struct signer *signer, const char *alg, const char *text,
                                unsigned char *sig)
{
    EVP_MD_CTX *context = must(EVP_MD_CTX_new());
    EVP_PKEY_CTX *pctx = NULL;
    size_t len = 1024;
    unsigned hmac_len = 0;
    bool eddsa = strcmp(alg, "EdDSA") == 0;

    if (alg[0] == 'H') {
        EVP_MD_CTX_free(context);
        HMAC(alg_digest(alg), signer->secret, (int)signer->secret_len, (const unsigned char *)text,
             strlen(text), sig, &hmac_len);
        return hmac_len;
    }
    EVP_DigestSignInit(context, &pctx, eddsa ? NULL : alg_digest(alg), NULL, signer->pkey);
    if (alg[0] == 'P') {
        EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING);
        EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST);
    }
    if (EVP_DigestSign(context, sig, &len, (const unsigned char *)text, strlen(text)) != 1) {
        must(NULL);
    }
    EVP_MD_CTX_free(context);
    if (alg[0] == 'E' && !eddsa) {
        len = der_to_raw(sig, len, ((size_t)EVP_PKEY_get_bits(signer->pkey) + 7) / 8);
    }
    return len;
}

/* A token of any header and payload bytes, signed by `alg`. */
static inline char *sign_raw(const struct signer *signer, const char *alg, const void *header,
                             size_t header_len, const void *payload, size_t payload_len)
{
    unsigned char sig[1024];
    char *head = b64u(header, header_len), *body = b64u(payload, payload_len), *tail, *token;
    size_t room = strlen(head) + strlen(body) + 1400;

    token = must(malloc(room));
    snprintf(token, room, "%s.%s", head, body);
    tail = b64u(sig, sign_bytes(signer, alg, token, sig));
    strcat(token, ".");
    strcat(token, tail);
    free(head);
    free(body);
    free(tail);
    return token;
}

static inline char *sign_with(const struct signer *signer, const char *header, const char *payload)
{
    return sign_raw(signer, signer->alg, header, strlen(header), payload, strlen(payload));
}

/* The usual header of the signer's algorithm; `kid` may be NULL. */
static inline char *sign(const struct signer *signer, const char *kid, const char *payload)
{
    char header[128];

    if (kid != NULL) {
        snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"%s\",\"typ\":\"JWT\"}",
                 signer->alg, kid);
    } else {
        snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"typ\":\"JWT\"}", signer->alg);
    }
    return sign_with(signer, header, payload);
}

static inline char *bn_member(const EVP_PKEY *pkey, const char *name, int bytes)
{
    unsigned char raw[1024];
    BIGNUM *number = NULL;
    char *text;

    EVP_PKEY_get_bn_param(pkey, name, &number);
    must(number);
    bytes = bytes != 0 ? bytes : BN_num_bytes(number);
    BN_bn2binpad(number, raw, bytes);
    text = b64u(raw, (size_t)bytes);
    BN_free(number);
    return text;
}

static inline char *raw_jwk(const struct signer *signer)
{
    char *out = must(malloc(2048)), *a = NULL, *b = NULL;
    unsigned char raw[64];
    size_t len = sizeof(raw);

    if (signer->pkey == NULL) {
        a = b64u(signer->secret, signer->secret_len);
        snprintf(out, 2048, "\"kty\":\"oct\",\"k\":\"%s\"", a);
    } else if (EVP_PKEY_get_base_id(signer->pkey) == EVP_PKEY_RSA) {
        a = bn_member(signer->pkey, "n", 0);
        b = bn_member(signer->pkey, "e", 0);
        snprintf(out, 2048, "\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"", a, b);
    } else if (strcmp(signer->alg, "EdDSA") == 0) {
        EVP_PKEY_get_raw_public_key(signer->pkey, raw, &len);
        a = b64u(raw, len);
        snprintf(out, 2048, "\"kty\":\"OKP\",\"crv\":\"%s\",\"x\":\"%s\"",
                 len == 32 ? "Ed25519" : "Ed448", a);
    } else {
        int bytes = (EVP_PKEY_get_bits(signer->pkey) + 7) / 8;
        const char *crv = strcmp(signer->alg, "ES256") == 0   ? "P-256"
                          : strcmp(signer->alg, "ES384") == 0 ? "P-384"
                          : strcmp(signer->alg, "ES512") == 0 ? "P-521"
                                                              : "secp256k1";
        a = bn_member(signer->pkey, OSSL_PKEY_PARAM_EC_PUB_X, bytes);
        b = bn_member(signer->pkey, OSSL_PKEY_PARAM_EC_PUB_Y, bytes);
        snprintf(out, 2048, "\"kty\":\"EC\",\"crv\":\"%s\",\"x\":\"%s\",\"y\":\"%s\"", crv, a, b);
    }
    free(a);
    free(b);
    return out;
}

/* {"kty":...,"kid":...,"alg":...}; `kid` and `alg` may be NULL. */
static inline char *jwk_of(const struct signer *signer, const char *kid, const char *alg)
{
    char *raw = raw_jwk(signer), *out = must(malloc(4096));
    int used = snprintf(out, 4096, "{%s", raw);

    if (kid != NULL) {
        used += snprintf(out + used, 4096 - (size_t)used, ",\"kid\":\"%s\"", kid);
    }
    if (alg != NULL) {
        used += snprintf(out + used, 4096 - (size_t)used, ",\"alg\":\"%s\"", alg);
    }
    snprintf(out + used, 4096 - (size_t)used, "}");
    free(raw);
    return out;
}

/* A file of its own in a new directory; the caller frees the path. */
static inline char *file_with(const void *data, size_t len, unsigned mode)
{
    const char *top = getenv("TMPDIR");
    char *path = must(malloc(512));
    FILE *file;

    snprintf(path, 512, "%s/hlt-test-XXXXXX", top != NULL ? top : "/tmp");
    must(mkdtemp(path));
    strcat(path, "/keys");
    file = must(fopen(path, "wb"));
    fwrite(data, 1, len, file);
    fclose(file);
    chmod(path, (mode_t)mode);
    return path;
}

/* Remove such a file and its directory. */
static inline void file_remove(char *path)
{
    unlink(path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
    free(path);
}

#endif
