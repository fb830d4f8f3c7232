/* vectors.c - the examples of the RFCs, each verified by OpenSSL with the key as Haltere loaded it.
 *
 * Many examples sign text that is no JSON. Such a token is malformed here, but its key must load
 * and its signature hold, or the vector was written down wrongly. */
#include <criterion/criterion.h>
#include <openssl/err.h>

#include "../../shared/base64url.h"
#include "../../shared/keyset_internal.h"
#include "judging.h"

/* --- signatures, by OpenSSL --- */

static size_t raw_to_der(unsigned char *sig, size_t len)
{
    ECDSA_SIG *numbers = must(ECDSA_SIG_new());
    unsigned char *der = NULL;

    ECDSA_SIG_set0(numbers, BN_bin2bn(sig, (int)len / 2, NULL),
                   BN_bin2bn(sig + len / 2, (int)len / 2, NULL));
    int der_len = i2d_ECDSA_SIG(numbers, &der);
    memcpy(sig, der, (size_t)der_len);
    OPENSSL_free(der);
    ECDSA_SIG_free(numbers);
    return (size_t)der_len;
}

/* Does the signature of a compact token hold under the first key of the set? */
static bool holds(const struct hlt_keyset *keys, const char *token)
{
    const struct hlt_key *key = &keys->key[0];
    const char *alg = key->alg->name, *dot = strrchr(token, '.');
    bool eddsa = strcmp(alg, "EdDSA") == 0;
    unsigned char sig[1024], mac[64];
    size_t len = hlt_base64url_decode(sig, sizeof(sig), dot + 1, strlen(dot + 1)), secret_len = 0;
    const unsigned char *text = (const unsigned char *)token, *secret = NULL;
    size_t text_len = (size_t)(dot - token);
    unsigned mac_len = 0;

    cr_assert(len != SIZE_MAX);
    if (alg[0] == 'H') {
        cr_assert(jwks_item_key_oct(key->item, &secret, &secret_len) == 0);
        HMAC(alg_digest(alg), secret, (int)secret_len, text, text_len, mac, &mac_len);
        return mac_len == len && memcmp(mac, sig, len) == 0;
    }
    BIO *bio = BIO_new_mem_buf(jwks_item_pem(key->item), -1);
    EVP_PKEY *pkey = must(PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL));
    EVP_MD_CTX *context = must(EVP_MD_CTX_new());
    EVP_PKEY_CTX *pctx = NULL;
    if (alg[0] == 'E' && !eddsa) {
        len = raw_to_der(sig, len);
    }
    EVP_DigestVerifyInit(context, &pctx, eddsa ? NULL : alg_digest(alg), NULL, pkey);
    if (alg[0] == 'P') {
        EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING);
        EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST);
    }
    bool good = EVP_DigestVerify(context, sig, len, text, text_len) == 1;
    ERR_clear_error();
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(pkey);
    BIO_free(bio);
    return good;
}

static void check_text(const char *jwk, const char *alg, const char *token)
{
    struct hlt_keyset *keys = keys_from(jwk);
    char *changed = strdup(token);

    cr_expect(strcmp(keys->key[0].alg->name, alg) == 0, "%s", keys->key[0].alg->name);
    cr_expect(holds(keys, token), "%s: the vector's signature", alg);
    EXPECT(keys, token, HLT_REASON_MALFORMED);
    char *at = strchr(changed, '.') + 1;
    *at = *at == 'A' ? 'B' : 'A';
    cr_expect(!holds(keys, changed), "%s: of a changed text", alg);
    free(changed);
    hlt_keyset_free(keys);
}

/* --- RFC 7515 appendix A (A.1 to A.3: token.c) and RFC 8037 --- */

Test(vectors, rfc_7515_a4_es512)
{
    check_text(
        "{\"kty\":\"EC\",\"crv\":\"P-521\",\"x\":\"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcB"
        "pXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk\",\"y\":\"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyB"
        "XMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2\"}",
        "ES512",
        "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKP"
        "WROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7i"
        "KvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn");
}

Test(vectors, rfc_7515_a5_unsecured)
{
    struct signer signer = signer_new("HS256");
    char *jwk = jwk_of(&signer, NULL, "HS256");
    struct hlt_keyset *keys = keys_from(jwk);

    EXPECT(
        keys,
        "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlL"
        "mNvbS9pc19yb290Ijp0cnVlfQ.",
        HLT_REASON_ALG);
    free(jwk);
    hlt_keyset_free(keys);
}

Test(vectors, rfc_8037_a4_ed25519)
{
    check_text(
        "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_"
        "7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}",
        "EdDSA",
        "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09"
        "PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");
}

/* --- RFC 7520 section 4 --- */

#define BILBO "\"kid\":\"bilbo.baggins@hobbiton.example\",\"use\":\"sig\""
#define RSA_N                                                                                      \
    "n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_"     \
    "AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-"               \
    "oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-"  \
    "tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw"
#define FRODO                                                                                      \
    ".SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb25" \
    "0"                                                                                            \
    "byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hl" \
    "cmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4."
#define HEAD_OF_BILBO "ImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9"

Test(vectors, rfc_7520_4_1_rs256)
{
    check_text(
        "{\"kty\":\"RSA\"," BILBO ",\"n\":\"" RSA_N "\",\"e\":\"AQAB\"}", "RS256",
        "eyJhbGciOiJSUzI1NiIs" HEAD_OF_BILBO FRODO
        "MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp"
        "83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCr"
        "UCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aX"
        "ic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg");
}

Test(vectors, rfc_7520_4_2_ps384)
{
    check_text(
        "{\"kty\":\"RSA\",\"alg\":\"PS384\"," BILBO ",\"n\":\"" RSA_N "\",\"e\":\"AQAB\"}", "PS384",
        "eyJhbGciOiJQUzM4NCIs" HEAD_OF_BILBO FRODO
        "cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCd"
        "P6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442Z"
        "dNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1"
        "aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw");
}

Test(vectors, rfc_7520_4_3_es512)
{
    check_text(
        "{\"kty\":\"EC\"," BILBO ",\"crv\":\"P-521\",\"x\":\"AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v1"
        "3nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt\",\"y\":\"AdymlHvOiLxXkEhayXQnNCvDX4"
        "h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1\"}",
        "ES512",
        "eyJhbGciOiJFUzUxMiIs" HEAD_OF_BILBO FRODO
        "AE_R_YZCChjn4791jSQCrdPZCNYqHXCTZH0-JZGYNlaAjP2kqaluUIIUnC9qvbu9Plon7KRTzoNEuT4Va2cmL1"
        "eJAQy3mtPBu_u_sDDyYjnAMDxXPn7XrT0lw-kvAD890jl8e2puQens_IEKBpHABlsbEPX6sFY8OcGDqoRuBomu"
        "9xQ2");
}

Test(vectors, rfc_7520_4_4_hs256)
{
    check_text(
        "{\"kty\":\"oct\",\"kid\":\"018c0ae5-4d9b-471b-bfd6-eef314bc7037\",\"use\":\"sig\",\"alg\":"
        "\"HS256\",\"k\":\"hJtXIZ2uSN5kbQfbtTNWbpdmhkV8FJG-Onbc6mxCcYg\"}",
        "HS256",
        "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9" FRODO
        "s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0");
}
