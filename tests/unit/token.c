/* token.c - which tokens are accepted, which are refused, and with which word. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <openssl/err.h>

#include "../../shared/base64url.h"
#include "../../shared/keyset.h"
#include "../../shared/token.h"
#include "signing.h"

#define NOW 1800000000
#define GOOD "\"sub\":\"dev1\",\"iss\":\"https://id\",\"aud\":\"broker\",\"exp\":1800000600"

static const char *const issuers[] = {"https://id", "https://other"};
static const char *const audiences[] = {"broker", "backup"};

/* The defaults of the plugin, with an issuer and an audience set. */
static struct hlt_token_rules default_rules(void)
{
    return (struct hlt_token_rules){.issuers = issuers,
                                    .issuer_count = 2,
                                    .audiences = audiences,
                                    .audience_count = 2,
                                    .leeway_s = 30,
                                    .max_lifetime_s = 30 * 86400,
                                    .max_bytes = HLT_TOKEN_MAX_DEFAULT,
                                    .require_exp = true,
                                    .require_iss = true,
                                    .require_aud = true};
}

/* Nothing but sub and times: for vectors made by others. */
static struct hlt_token_rules loose_rules(void)
{
    return (struct hlt_token_rules){.max_bytes = HLT_TOKEN_MAX_DEFAULT};
}

static struct hlt_keyset *keys_from_issuer(const char *text, const char *issuer)
{
    struct hlt_problems problems = {0};
    struct hlt_keyset *set = NULL;
    char *path = file_with(text, strlen(text), 0600);
    struct hlt_key_source source = {.path = path, .issuer = issuer};

    hlt_keyset_load(&set, &source, 1, &problems);
    for (size_t i = 0; i < problems.count; i++) {
        fprintf(stderr, "%s\n", problems.item[i].text);
    }
    hlt_problems_free(&problems);
    file_remove(path);
    return must(set);
}

static struct hlt_keyset *keys_from(const char *text)
{
    return keys_from_issuer(text, NULL);
}

static struct hlt_keyset *keys_of(const struct signer *signer, const char *kid)
{
    char *jwk = jwk_of(signer, kid, signer->alg);
    struct hlt_keyset *set = keys_from(jwk);

    free(jwk);
    return set;
}

/* Verify and throw the claims away; frees the token. */
static enum hlt_reason reason_at(const struct hlt_keyset *keys, struct hlt_token_rules rules,
                                 char *token, int64_t now_s)
{
    struct hlt_verifier *verifier = must(hlt_verifier_new());
    struct hlt_claims *claims = NULL;
    struct hlt_err detail;
    enum hlt_reason reason =
        hlt_token_verify(verifier, keys, &rules, token, strlen(token), now_s, &claims, &detail);

    bool accepted = reason == HLT_REASON_OK;
    cr_expect(accepted == (claims != NULL), "claims go with OK only");
    cr_expect(accepted == (detail.msg[0] == '\0'), "a refusal says more");
    cr_expect(ERR_peek_error() == 0, "the thread's OpenSSL errors are left alone");
    hlt_claims_free(claims);
    hlt_verifier_free(verifier);
    free(token);
    return reason;
}

static enum hlt_reason reason_of(const struct hlt_keyset *keys, char *token)
{
    return reason_at(keys, default_rules(), token, NOW);
}

/* The reason for a well signed payload. */
static enum hlt_reason payload_reason(struct hlt_token_rules rules, const char *payload)
{
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);
    enum hlt_reason reason = reason_at(keys, rules, sign(&signer, NULL, payload), NOW);

    hlt_keyset_free(keys);
    return reason;
}

#define EXPECT_REASON(got, want, what)                                                             \
    do {                                                                                           \
        enum hlt_reason got_ = (got);                                                              \
        cr_expect(got_ == (want), "%s: got %s, want %s", (what), hlt_reason_word(got_),            \
                  hlt_reason_word(want));                                                          \
    } while (0)

struct payload_row {
    const char *payload;
    enum hlt_reason want;
};

static void check_payloads(const struct payload_row *rows, size_t count,
                           struct hlt_token_rules rules)
{
    for (size_t i = 0; i < count; i++) {
        EXPECT_REASON(payload_reason(rules, rows[i].payload), rows[i].want, rows[i].payload);
    }
}
#define CHECK_PAYLOADS(rows) check_payloads(rows, sizeof(rows) / sizeof((rows)[0]), default_rules())

/* --- every algorithm --- */

static const char *const every_alg[] = {"HS256", "HS384", "HS512",  "RS256", "RS384",
                                        "RS512", "PS256", "PS384",  "PS512", "ES256",
                                        "ES384", "ES512", "ES256K", "EdDSA", "Ed448"};

Test(token, every_algorithm_verifies_its_own_signature)
{
    for (size_t i = 0; i < sizeof(every_alg) / sizeof(every_alg[0]); i++) {
        struct signer signer = signer_new(every_alg[i]);
        struct hlt_keyset *keys = keys_of(&signer, "k1");

        EXPECT_REASON(reason_of(keys, sign(&signer, "k1", "{" GOOD "}")), HLT_REASON_OK,
                      every_alg[i]);
        hlt_keyset_free(keys);
        EVP_PKEY_free(signer.pkey);
    }
}

Test(token, a_changed_byte_anywhere_breaks_the_signature)
{
    for (size_t i = 0; i < sizeof(every_alg) / sizeof(every_alg[0]); i++) {
        struct signer signer = signer_new(every_alg[i]);
        struct hlt_keyset *keys = keys_of(&signer, NULL);
        char *token = sign(&signer, NULL, "{" GOOD "}");
        char *changed = sign(&signer, NULL, "{" GOOD ",\"roles\":[\"admin\"]}");
        char *mixed = must(malloc(4096));
        char *middle = strchr(token, '.') + 1;

        /* the payload of one, the signature of the other */
        snprintf(mixed, 4096, "%.*s.%s", (int)(strrchr(changed, '.') - changed), changed,
                 strrchr(token, '.') + 1);
        EXPECT_REASON(reason_of(keys, mixed), HLT_REASON_SIGNATURE, every_alg[i]);
        /* one character of the signature: its first, which has no unused bits */
        middle = strchr(middle, '.') + 1;
        *middle = *middle == 'A' ? 'B' : 'A';
        EXPECT_REASON(reason_of(keys, token), HLT_REASON_SIGNATURE, every_alg[i]);
        free(changed);
        hlt_keyset_free(keys);
        EVP_PKEY_free(signer.pkey);
    }
}

Test(token, a_signature_by_another_key_of_the_same_kind_is_refused)
{
    static const char *const algs[] = {"RS256", "PS256", "ES256", "EdDSA"};
    for (size_t i = 0; i < 4; i++) {
        struct signer ours = signer_new(algs[i]), theirs = signer_new(algs[i]);
        struct hlt_keyset *keys = keys_of(&ours, "k1");

        EXPECT_REASON(reason_of(keys, sign(&theirs, "k1", "{" GOOD "}")), HLT_REASON_SIGNATURE,
                      algs[i]);
        hlt_keyset_free(keys);
        EVP_PKEY_free(ours.pkey);
        EVP_PKEY_free(theirs.pkey);
    }
}

Test(token, a_signature_cut_short_or_stretched_is_refused)
{
    struct signer signer = signer_new("ES256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);
    char *token = sign(&signer, NULL, "{" GOOD "}");
    size_t len = strlen(token);
    char *longer = must(malloc(len + 5));

    snprintf(longer, len + 5, "%sAAAA", token);
    EXPECT_REASON(reason_of(keys, longer), HLT_REASON_SIGNATURE, "longer");
    token[len - 2] = '\0'; /* 84 characters: 63 bytes */
    EXPECT_REASON(reason_of(keys, token), HLT_REASON_SIGNATURE, "shorter");
    hlt_keyset_free(keys);
    EVP_PKEY_free(signer.pkey);
}

/* --- RFC vectors --- */

#define A1_KEY                                                                                     \
    "{\"kty\":\"oct\",\"k\":\"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4" \
    "hcgUuTwjAzZr1Z9CAow\"}"
#define A1_TOKEN                                                                                   \
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."                                                    \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVl" \
    "fQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

/* The RFC's example has no sub, so the furthest it may come is a judgement of its claims. */
static void check_rfc_token(const char *jwk, const char *token)
{
    struct hlt_keyset *keys = keys_from(jwk);
    char *forged = strdup(token);

    EXPECT_REASON(reason_at(keys, loose_rules(), strdup(token), 1300819379),
                  HLT_REASON_CLAIM_MISSING, token);
    char *sig = strrchr(forged, '.') + 1;
    *sig = *sig == 'x' ? 'y' : 'x';
    EXPECT_REASON(reason_at(keys, loose_rules(), forged, 1300819379), HLT_REASON_SIGNATURE,
                  "forged");
    hlt_keyset_free(keys);
}

Test(token, rfc_7515_a1_hmac_and_rfc_7519_3_1_verify)
{
    check_rfc_token(A1_KEY, A1_TOKEN);
}

Test(token, rfc_7515_a2_rsa_verifies)
{
    check_rfc_token(
        "{\"kty\":\"RSA\",\"n\":\"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-"
        "Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_"
        "7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxv"
        "b3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4"
        "FRWyuXpoQ\",\"e\":\"AQAB\"}",
        "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl"
        "LmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh"
        "7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyW"
        "zO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZ"
        "ESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_Ioyp"
        "GlUPQGe77Rw");
}

Test(token, rfc_7515_a3_ecdsa_verifies)
{
    check_rfc_token(
        "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
        "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}",
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxl"
        "LmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlS"
        "ApmWQxfKTUJqPP3-Kg6NU1Q");
}

Test(token, rfc_8037_a4_whose_payload_is_text_is_malformed_and_its_key_loads)
{
    struct hlt_keyset *keys =
        keys_from("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_"
                  "7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}");
    char *token =
        strdup("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PP"
               "Ot7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");

    EXPECT_REASON(reason_at(keys, loose_rules(), token, NOW), HLT_REASON_MALFORMED, "A.4");
    hlt_keyset_free(keys);
}

Test(token, rfc_7519_6_1_unsecured_is_refused)
{
    struct hlt_keyset *keys = keys_from(A1_KEY);
    char *token = strdup("eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0d"
                         "HA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.");

    EXPECT_REASON(reason_at(keys, loose_rules(), token, 0), HLT_REASON_ALG, "none");
    hlt_keyset_free(keys);
}

/* --- algorithms: one per key, compared exactly (facts: libjwt, traps A, B, G) --- */

Test(token, no_spelling_of_none_is_accepted)
{
    static const char *const headers[] = {
        "{\"alg\":\"none\"}", "{\"alg\":\"None\"}",    "{\"alg\":\"NONE\"}", "{\"alg\":\"\"}",
        "{\"alg\":null}",     "{\"alg\":[\"HS256\"]}", "{\"typ\":\"JWT\"}",  "{}"};
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);

    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        char *token = sign_raw(&signer, "HS256", headers[i], strlen(headers[i]), "{" GOOD "}",
                               strlen("{" GOOD "}"));
        char *bare = strdup(token);
        strrchr(bare, '.')[1] = '\0';
        EXPECT_REASON(reason_of(keys, token), HLT_REASON_ALG, headers[i]);
        EXPECT_REASON(reason_of(keys, bare), HLT_REASON_ALG, headers[i]);
    }
    hlt_keyset_free(keys);
}

Test(token, a_token_without_a_signature_is_refused_whatever_its_alg)
{
    struct signer signer = signer_new("ES256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);
    char *token = sign(&signer, NULL, "{" GOOD "}");

    strrchr(token, '.')[1] = '\0';
    EXPECT_REASON(reason_of(keys, token), HLT_REASON_SIGNATURE, "stripped");
    hlt_keyset_free(keys);
    EVP_PKEY_free(signer.pkey);
}

/* A good signature by the right key, but by another algorithm than the key's. */
static void check_other_alg(const char *bound, const char *used)
{
    struct signer signer = signer_new(bound);
    struct hlt_keyset *keys = keys_of(&signer, "k1");
    char header[64];

    snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"k1\"}", used);
    char *token =
        sign_raw(&signer, used, header, strlen(header), "{" GOOD "}", strlen("{" GOOD "}"));
    EXPECT_REASON(reason_of(keys, token), HLT_REASON_ALG, used);
    hlt_keyset_free(keys);
    EVP_PKEY_free(signer.pkey);
}

Test(token, a_key_verifies_no_other_algorithm_of_its_family)
{
    check_other_alg("RS256", "RS384");
    check_other_alg("RS256", "RS512");
    check_other_alg("RS256", "PS256");
    check_other_alg("PS256", "RS256");
    check_other_alg("PS512", "PS256");
    check_other_alg("HS256", "HS512");
    check_other_alg("HS512", "HS256");
}

/* The classic: what everybody knows of the key pair is used as an HMAC secret. */
static void check_confusion(const char *secret, size_t len, const struct hlt_keyset *keys,
                            const char *kid)
{
    struct signer forger = {.alg = "HS256", .secret_len = len};

    unsigned char mac[64];
    unsigned mac_len = 0;
    char text[2048], header[64];
    snprintf(header, sizeof(header), "{\"alg\":\"HS256\",\"kid\":\"%s\"}", kid);
    char *head = b64u(header, strlen(header)), *body = b64u("{" GOOD "}", strlen("{" GOOD "}"));
    snprintf(text, sizeof(text), "%s.%s", head, body);
    HMAC(EVP_sha256(), secret, (int)forger.secret_len, (unsigned char *)text, strlen(text), mac,
         &mac_len);
    char *tail = b64u(mac, mac_len), *token = must(malloc(4096));
    snprintf(token, 4096, "%s.%s", text, tail);
    EXPECT_REASON(reason_of(keys, token), HLT_REASON_ALG, "confusion");
    free(head);
    free(body);
    free(tail);
}

Test(token, a_public_key_is_never_an_hmac_secret)
{
    struct signer signer = signer_new("RS256");
    struct hlt_keyset *keys = keys_of(&signer, "k1");
    char *jwk = jwk_of(&signer, "k1", "RS256"), *data = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    long len;

    PEM_write_bio_PUBKEY(bio, signer.pkey);
    len = BIO_get_mem_data(bio, &data);
    check_confusion(data, (size_t)len, keys, "k1");
    check_confusion(jwk, strlen(jwk), keys, "k1");
    check_confusion("", 0, keys, "k1"); /* GHSA-q843-6q5f-w55g: the empty secret */
    BIO_free(bio);
    free(jwk);
    hlt_keyset_free(keys);
    EVP_PKEY_free(signer.pkey);
}

Test(token, an_alg_spelt_differently_is_another_alg)
{
    static const char *const algs[] = {"hs256", "HS256 ", "HS2567", "HS", "HS256\\u0041"};
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);
    char header[64];

    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", algs[i]);
        EXPECT_REASON(reason_of(keys, sign_with(&signer, header, "{" GOOD "}")), HLT_REASON_ALG,
                      algs[i]);
    }
    /* an escape spells the same text: RFC 8259 section 8.3 */
    EXPECT_REASON(
        reason_of(keys, sign_with(&signer, "{\"\\u0061lg\":\"\\u0048S256\"}", "{" GOOD "}")),
        HLT_REASON_OK, "escaped");
    hlt_keyset_free(keys);
}

/* --- which key --- */

struct two_keys {
    struct signer a, b;
    struct hlt_keyset *keys;
};

/* Two keys of one algorithm; either kid may be NULL. */
static struct two_keys two_keys(const char *kid_a, const char *kid_b)
{
    struct two_keys two = {.a = signer_new("ES256"), .b = signer_new("ES256")};
    char *a = jwk_of(&two.a, kid_a, "ES256"), *b = jwk_of(&two.b, kid_b, "ES256");
    char *text = must(malloc(8192));

    snprintf(text, 8192, "{\"keys\":[%s,%s]}", a, b);
    two.keys = keys_from(text);
    free(a);
    free(b);
    free(text);
    return two;
}

static void two_keys_free(struct two_keys *two)
{
    hlt_keyset_free(two->keys);
    EVP_PKEY_free(two->a.pkey);
    EVP_PKEY_free(two->b.pkey);
}

Test(token, the_kid_chooses_among_several_keys)
{
    struct two_keys two = two_keys("a", "b");

    EXPECT_REASON(reason_of(two.keys, sign(&two.a, "a", "{" GOOD "}")), HLT_REASON_OK, "a");
    EXPECT_REASON(reason_of(two.keys, sign(&two.b, "b", "{" GOOD "}")), HLT_REASON_OK, "b");
    EXPECT_REASON(reason_of(two.keys, sign(&two.b, "a", "{" GOOD "}")), HLT_REASON_SIGNATURE,
                  "b as a");
    two_keys_free(&two);
}

Test(token, a_kid_that_names_no_key_is_refused)
{
    struct two_keys two = two_keys("a", NULL);
    char longest[300];

    memset(longest, 'k', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    EXPECT_REASON(reason_of(two.keys, sign(&two.a, "A", "{" GOOD "}")), HLT_REASON_UNKNOWN_KEY,
                  "case counts");
    EXPECT_REASON(reason_of(two.keys, sign(&two.a, "", "{" GOOD "}")), HLT_REASON_UNKNOWN_KEY,
                  "an empty kid does not find the key without one");
    char header[400];
    snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"kid\":\"%s\"}", longest);
    EXPECT_REASON(reason_of(two.keys, sign_with(&two.a, header, "{" GOOD "}")),
                  HLT_REASON_UNKNOWN_KEY, "longer than any kid");
    two_keys_free(&two);
}

Test(token, without_kid_the_only_key_of_the_algorithm_is_used)
{
    struct two_keys two = two_keys("a", "b");
    struct signer alone = signer_new("ES384");
    struct hlt_keyset *keys = keys_of(&alone, "has-a-kid");

    EXPECT_REASON(reason_of(two.keys, sign(&two.a, NULL, "{" GOOD "}")), HLT_REASON_UNKNOWN_KEY,
                  "two keys");
    EXPECT_REASON(reason_of(keys, sign(&alone, NULL, "{" GOOD "}")), HLT_REASON_OK, "one key");
    EXPECT_REASON(reason_of(keys, sign(&two.a, NULL, "{" GOOD "}")), HLT_REASON_UNKNOWN_KEY,
                  "none of that algorithm");
    hlt_keyset_free(keys);
    EVP_PKEY_free(alone.pkey);
    two_keys_free(&two);
}

/* So that a revoked kid meets the tokens that do not name it, and their use is counted. */
Test(token, claims_carry_the_kid_of_the_key_even_if_the_token_does_not_name_it)
{
    struct signer signer = signer_new("ES256");
    struct hlt_keyset *keys = keys_of(&signer, "the one");
    struct hlt_verifier *verifier = must(hlt_verifier_new());
    struct hlt_token_rules rules = default_rules();
    struct hlt_claims *claims = NULL;
    char *token = sign(&signer, NULL, "{" GOOD "}");

    cr_assert(hlt_token_verify(verifier, keys, &rules, token, strlen(token), NOW, &claims, NULL) ==
              HLT_REASON_OK);
    cr_expect(eq(str, claims->kid, "the one"));
    hlt_claims_free(claims);
    free(token);
    hlt_verifier_free(verifier);
    hlt_keyset_free(keys);
    EVP_PKEY_free(signer.pkey);
}

Test(token, a_kid_of_another_type_is_malformed)
{
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);

    EXPECT_REASON(
        reason_of(keys, sign_with(&signer, "{\"alg\":\"HS256\",\"kid\":7}", "{" GOOD "}")),
        HLT_REASON_MALFORMED, "number");
    EXPECT_REASON(
        reason_of(keys, sign_with(&signer, "{\"alg\":\"HS256\",\"kid\":null}", "{" GOOD "}")),
        HLT_REASON_MALFORMED, "null");
    hlt_keyset_free(keys);
}

Test(token, keys_that_come_with_the_token_are_never_used)
{
    struct signer ours = signer_new("ES256"), theirs = signer_new("ES256");
    struct hlt_keyset *keys = keys_of(&ours, "k1");
    char *jwk = jwk_of(&theirs, "evil", "ES256"), header[2048];

    snprintf(header, sizeof(header),
             "{\"alg\":\"ES256\",\"kid\":\"evil\",\"jwk\":%s,\"jku\":\"https://evil/jwks\","
             "\"x5u\":\"https://evil/c\",\"x5c\":[\"AAAA\"]}",
             jwk);
    EXPECT_REASON(reason_of(keys, sign_with(&theirs, header, "{" GOOD "}")), HLT_REASON_UNKNOWN_KEY,
                  "own kid");
    snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"jwk\":%s}", jwk);
    EXPECT_REASON(reason_of(keys, sign_with(&theirs, header, "{" GOOD "}")), HLT_REASON_SIGNATURE,
                  "no kid");
    /* they do no harm to a token that is ours */
    EXPECT_REASON(reason_of(keys, sign_with(&ours, header, "{" GOOD "}")), HLT_REASON_OK, "ours");
    free(jwk);
    hlt_keyset_free(keys);
    EVP_PKEY_free(ours.pkey);
    EVP_PKEY_free(theirs.pkey);
}

Test(token, a_key_bound_to_an_issuer_signs_for_no_other)
{
    struct signer signer = signer_new("HS256");
    char *jwk = jwk_of(&signer, NULL, NULL);
    struct hlt_keyset *keys = keys_from_issuer(jwk, "https://other");
    struct hlt_token_rules loose = loose_rules();

    EXPECT_REASON(reason_of(keys, sign(&signer, NULL, "{" GOOD "}")), HLT_REASON_ISSUER,
                  "an accepted issuer, but not the key's");
    EXPECT_REASON(
        reason_of(keys, sign(&signer, NULL,
                             "{\"sub\":\"d\",\"iss\":\"https://other\",\"aud\":\"broker\","
                             "\"exp\":1800000600}")),
        HLT_REASON_OK, "its own");
    EXPECT_REASON(reason_at(keys, loose, sign(&signer, NULL, "{\"sub\":\"d\"}"), NOW),
                  HLT_REASON_ISSUER, "none at all");
    free(jwk);
    hlt_keyset_free(keys);
}

/* --- the header --- */

Test(token, extensions_and_other_token_types_are_unsupported)
{
    static const char *const headers[] = {
        "{\"alg\":\"HS256\",\"crit\":[\"exp\"],\"exp\":1}",
        "{\"alg\":\"HS256\",\"crit\":[]}",
        "{\"alg\":\"HS256\",\"b64\":false,\"crit\":[\"b64\"]}",
        "{\"alg\":\"HS256\",\"b64\":true}",
        "{\"alg\":\"HS256\",\"zip\":\"DEF\"}",
        "{\"alg\":\"HS256\",\"enc\":\"A256GCM\"}",
        "{\"alg\":\"HS256\",\"cty\":\"JWT\"}",
        "{\"alg\":\"HS256\",\"typ\":\"logout+jwt\"}",
        "{\"alg\":\"HS256\",\"typ\":\"\"}",
        "{\"alg\":\"HS256\",\"cri\\u0074\":[\"x\"]}",
    };
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);

    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        EXPECT_REASON(reason_of(keys, sign_with(&signer, headers[i], "{" GOOD "}")),
                      HLT_REASON_UNSUPPORTED, headers[i]);
    }
    hlt_keyset_free(keys);
}

Test(token, typ_is_optional_and_its_case_does_not_matter)
{
    static const char *const headers[] = {
        "{\"alg\":\"HS256\"}",
        "{\"alg\":\"HS256\",\"typ\":\"JWT\"}",
        "{\"alg\":\"HS256\",\"typ\":\"jwt\"}",
        "{\"alg\":\"HS256\",\"typ\":\"application/Jwt\"}",
        "{\"alg\":\"HS256\",\"typ\":\"at+JWT\"}",
    };
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);

    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        EXPECT_REASON(reason_of(keys, sign_with(&signer, headers[i], "{" GOOD "}")), HLT_REASON_OK,
                      headers[i]);
    }
    EXPECT_REASON(
        reason_of(keys, sign_with(&signer, "{\"alg\":\"HS256\",\"typ\":5}", "{" GOOD "}")),
        HLT_REASON_MALFORMED, "number");
    hlt_keyset_free(keys);
}

/* --- base64url (trap H) --- */

Test(token, base64url_has_one_spelling)
{
    struct signer signer = signer_new("RS256"); /* 256 bytes: two unused bits at the end */
    struct hlt_keyset *keys = keys_of(&signer, NULL);
    char *token = sign(&signer, NULL, "{" GOOD "}");
    size_t len = strlen(token);

    for (int row = 0; row < 5; row++) {
        char *other = must(calloc(1, len + 8));
        memcpy(other, token, len);
        switch (row) {
        case 0: strcat(other, "=="); break;
        case 1: strcat(other, "=AAAA"); break;
        case 2: other[len - 1] = (char)(other[len - 1] + 1); break; /* A Q g w: an unused bit */
        case 3: other[len - 5] = '+'; break;
        default: other[len - 5] = '/'; break;
        }
        EXPECT_REASON(reason_of(keys, other), HLT_REASON_MALFORMED, other + len - 8);
    }
    EXPECT_REASON(reason_of(keys, token), HLT_REASON_OK, "untouched");
    hlt_keyset_free(keys);
    EVP_PKEY_free(signer.pkey);
}

Test(token, base64url_decodes_strictly)
{
    static const struct {
        const char *text;
        size_t len;
    } rows[] = {{"", 0},
                {"Zg", 1},
                {"Zm8", 2},
                {"Zm9v", 3},
                {"_-_-", 3},
                {"Zh", SIZE_MAX},
                {"Zm9", SIZE_MAX},
                {"Z", SIZE_MAX},
                {"Zm9vY", SIZE_MAX},
                {"Zg==", SIZE_MAX},
                {"Zm 9", SIZE_MAX},
                {"Zm9\n", SIZE_MAX},
                {"Zm+v", SIZE_MAX},
                {"Zm/v", SIZE_MAX},
                {"Zm9\xC3", SIZE_MAX}};
    char out[8], text[16];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        size_t len = hlt_base64url_decode(out, sizeof(out), rows[i].text, strlen(rows[i].text));
        cr_expect(eq(sz, len, rows[i].len), "%s", rows[i].text);
        if (len != SIZE_MAX) {
            cr_expect(
                eq(sz, hlt_base64url_encode(text, sizeof(text), out, len), strlen(rows[i].text)));
            cr_expect(eq(str, text, (char *)rows[i].text));
        }
    }
    cr_expect(eq(sz, hlt_base64url_decode(out, 2, "Zm9v", 4), SIZE_MAX), "no room");
    cr_expect(eq(sz, hlt_base64url_encode(text, 4, "foo", 3), SIZE_MAX), "no room for the NUL");
    cr_expect(eq(sz, hlt_base64url_decode(out, 8, "A\0AA", 4), SIZE_MAX), "NUL");
}

Test(token, shapes_that_are_no_token)
{
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);
    static const struct {
        const char *token;
        enum hlt_reason want;
    } rows[] = {{"", HLT_REASON_NO_TOKEN},
                {"secret", HLT_REASON_NO_TOKEN},
                {"a.b", HLT_REASON_NO_TOKEN},
                {"a.b.c.d", HLT_REASON_NO_TOKEN},
                {"a.b.c.d.e.f", HLT_REASON_NO_TOKEN},
                {"e30.e30.e30.e30.e30", HLT_REASON_UNSUPPORTED},
                {"..", HLT_REASON_MALFORMED},
                {".e30.e30", HLT_REASON_MALFORMED},
                {"e30..e30", HLT_REASON_MALFORMED},
                {"e30.e30.e30", HLT_REASON_ALG},
                {"W10.e30.e30", HLT_REASON_MALFORMED}, /* the header is [] */
                {"e30.e30.e3", HLT_REASON_MALFORMED}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        EXPECT_REASON(reason_of(keys, strdup(rows[i].token)), rows[i].want, rows[i].token);
    }
    hlt_keyset_free(keys);
}

Test(token, shaped_asks_for_three_segments_and_a_json_object)
{
    static const struct {
        const char *token;
        bool want;
    } rows[] = {{A1_TOKEN, true},
                {"e30.e30.e30", true},
                {"e30.AA.AA", true},
                {"e30.e30.", false},
                {"e30..e30", false},
                {".e30.e30", false},
                {"e30.e30", false},
                {"e30.e30.e30.e30.e30", false},
                {"W10.e30.e30", false},
                {"bnVsbA.e30.e30", false}, /* null */
                {"eyJ9.e30.e30", false},   /* {"} */
                {"e31.e30.e30", false},    /* an unused bit */
                {"e30.e3=.e30", false},
                {"not a token", false},
                {"", false}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool shaped = hlt_token_shaped(rows[i].token, strlen(rows[i].token));
        cr_expect(shaped == rows[i].want, "%s", rows[i].token);
    }
    char big[6000];
    memset(big, 'A', sizeof(big));
    memcpy(big, "eyJh", 4);
    memcpy(big + sizeof(big) - 8, ".e30.e30", 8);
    cr_expect(hlt_token_shaped(big, sizeof(big)), "a long header is judged by its beginning");
}

Test(token, the_size_limit_holds_to_the_byte)
{
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);
    struct hlt_token_rules rules = default_rules();
    char *token = sign(&signer, NULL, "{" GOOD "}");

    rules.max_bytes = strlen(token);
    EXPECT_REASON(reason_at(keys, rules, strdup(token), NOW), HLT_REASON_OK, "at the limit");
    rules.max_bytes--;
    EXPECT_REASON(reason_at(keys, rules, token, NOW), HLT_REASON_TOO_LARGE, "one over");
    hlt_keyset_free(keys);
}

/* --- JSON: what json-c and jansson take and we do not --- */

Test(token, json_that_others_forgive_is_malformed_even_when_signed)
{
    static const char *const payloads[] = {
        "{\"sub\":\"dev1\",\"sub\":\"admin\"," GOOD "}",
        "{" GOOD ",\"x\":{\"a\":1,\"a\":2}}",
        "{" GOOD ",\"s\\u0075b\":\"admin\"}",
        "{" GOOD ",\"x\":\"admin\\u0000evil\"}",
        "{" GOOD ",\"sub\\u0000x\":\"admin\"}",
        "{'sub':'dev1'}",
        "{" GOOD ",\"x\":NaN}",
        "{" GOOD ",\"x\":Infinity}",
        "{" GOOD ",\"x\":TRUE}",
        "{" GOOD ",\"x\":1.}",
        "{" GOOD ",\"x\":.5}",
        "{" GOOD ",\"x\":01}",
        "{" GOOD ",\"x\":+1}",
        "{" GOOD ",\"x\":1e400}",
        "{" GOOD ",}",
        "{" GOOD ",/* */\"x\":1}",
        "{" GOOD "} x",
        "{" GOOD "}{}",
        "{" GOOD ",\"x\":\"\xC0\xAF\"}",
        "{" GOOD ",\"x\":\"\xED\xA0\x80\"}",
        "{" GOOD ",\"x\":\"\xFF\"}",
        "{" GOOD ",\"x\":\"\\ud800\"}",
        "{" GOOD ",\"x\":\"a\tb\"}",
        "{" GOOD ",\"x\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}",
        "[{" GOOD "}]",
        "\"text\"",
        "null",
        "\xEF\xBB\xBF{" GOOD "}",
    };

    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        EXPECT_REASON(payload_reason(default_rules(), payloads[i]), HLT_REASON_MALFORMED,
                      payloads[i]);
    }
    EXPECT_REASON(
        payload_reason(default_rules(), "{" GOOD ",\"x\":[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]}"),
        HLT_REASON_OK, "depth 16");
    EXPECT_REASON(payload_reason(default_rules(), " {" GOOD "}\r\n"), HLT_REASON_OK, "blanks");
}

Test(token, bytes_after_a_nul_are_not_forgotten)
{
    static const char payload[] = "{" GOOD "}\0{\"sub\":\"admin\"}";
    static const char header[] = "{\"alg\":\"HS256\"}\0x";
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);

    EXPECT_REASON(reason_of(keys, sign_raw(&signer, "HS256", header, sizeof(header) - 3, payload,
                                           sizeof(payload) - 1)),
                  HLT_REASON_MALFORMED, "payload");
    EXPECT_REASON(reason_of(keys, sign_raw(&signer, "HS256", header, sizeof(header) - 1,
                                           "{" GOOD "}", strlen("{" GOOD "}"))),
                  HLT_REASON_MALFORMED, "header");
    hlt_keyset_free(keys);
}

/* libjwt turns header and payload into trees before it looks at the signature: strangers may not
 * make that dear. */
Test(token, a_payload_above_the_weight_limit_is_malformed)
{
    char *payload = must(malloc(8192));

    /* The object weighs 3, four claims of 3 12, the list 5, each of its numbers 1. */
    for (int more = 0; more <= 1; more++) {
        int count = HLT_TOKEN_PAYLOAD_WEIGHT_MAX - 20 + more;
        size_t used = (size_t)sprintf(payload, "{%s,\"list\":[", GOOD);
        for (int i = 0; i < count; i++) {
            used += (size_t)sprintf(payload + used, "%s1", i > 0 ? "," : "");
        }
        strcpy(payload + used, "]}");
        EXPECT_REASON(payload_reason(default_rules(), payload),
                      more > 0 ? HLT_REASON_MALFORMED : HLT_REASON_OK, "many values");
    }
    free(payload);
}

Test(token, a_header_above_the_weight_limit_is_malformed)
{
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);
    char header[1024];

    /* The object weighs 3, alg 3, the list 5. */
    for (int more = 0; more <= 1; more++) {
        size_t used = (size_t)sprintf(header, "{\"alg\":\"HS256\",\"list\":[");
        for (int i = 0; i < HLT_TOKEN_HEADER_WEIGHT_MAX - 11 + more; i++) {
            used += (size_t)sprintf(header + used, "%s1", i > 0 ? "," : "");
        }
        strcpy(header + used, "]}");
        EXPECT_REASON(reason_of(keys, sign_with(&signer, header, "{" GOOD "}")),
                      more > 0 ? HLT_REASON_MALFORMED : HLT_REASON_OK, "many values");
    }
    hlt_keyset_free(keys);
}

Test(token, as_many_roles_as_allowed_and_a_hundred_claims_fit_the_weight_limit)
{
    char *payload = must(malloc(8192));
    size_t used = (size_t)sprintf(payload, "{%s", GOOD);

    for (int i = 0; i < 96; i++) {
        used += (size_t)sprintf(payload + used, ",\"claim-%d\":\"x\"", i);
    }
    used += (size_t)sprintf(payload + used, ",\"roles\":[");
    for (int i = 0; i < HLT_TOKEN_ROLES_MAX; i++) {
        used += (size_t)sprintf(payload + used, "%s\"role-%d\"", i > 0 ? "," : "", i);
    }
    strcpy(payload + used, "]}");
    EXPECT_REASON(payload_reason(default_rules(), payload), HLT_REASON_OK, "a rich token");
    free(payload);
}

Test(token, a_header_with_a_member_twice_is_malformed)
{
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);

    EXPECT_REASON(
        reason_of(keys, sign_with(&signer, "{\"alg\":\"none\",\"alg\":\"HS256\"}", "{" GOOD "}")),
        HLT_REASON_MALFORMED, "alg twice");
    EXPECT_REASON(reason_of(keys, sign_with(&signer, "{\"alg\":\"HS256\\u0000x\"}", "{" GOOD "}")),
                  HLT_REASON_MALFORMED, "NUL in alg");
    hlt_keyset_free(keys);
}

/* --- claims (traps D, E) --- */

#define IDS "\"sub\":\"dev1\",\"iss\":\"https://id\",\"aud\":\"broker\""

Test(token, dates_are_json_numbers_from_0_to_2_to_the_53)
{
    static const struct payload_row rows[] = {
        {"{" IDS ",\"exp\":1800000600}", HLT_REASON_OK},
        {"{" IDS ",\"exp\":1800000600.75}", HLT_REASON_OK},
        {"{" IDS ",\"exp\":18000006e2}", HLT_REASON_OK},
        {"{" IDS ",\"exp\":1.8000006E+9}", HLT_REASON_OK},
        {"{" IDS "}", HLT_REASON_CLAIM_MISSING},
        {"{" IDS ",\"exp\":null}", HLT_REASON_CLAIM_INVALID},
        {"{" IDS ",\"exp\":\"1800000600\"}", HLT_REASON_CLAIM_INVALID},
        {"{" IDS ",\"exp\":true}", HLT_REASON_CLAIM_INVALID},
        {"{" IDS ",\"exp\":[1800000600]}", HLT_REASON_CLAIM_INVALID},
        {"{" IDS ",\"exp\":{}}", HLT_REASON_CLAIM_INVALID},
        {"{" IDS ",\"exp\":-1}", HLT_REASON_CLAIM_INVALID},
        {"{" IDS ",\"exp\":-0.5}", HLT_REASON_CLAIM_INVALID},
        {"{" IDS ",\"exp\":0}", HLT_REASON_EXPIRED},
        {"{" IDS ",\"exp\":1e300}", HLT_REASON_CLAIM_INVALID},
        {"{" IDS ",\"exp\":9007199254740993}", HLT_REASON_CLAIM_INVALID}, /* as a double: 2^53 */
        {"{" IDS ",\"exp\":9007199254740992.5}", HLT_REASON_CLAIM_INVALID},
        {"{" IDS ",\"exp\":9007199254740994}", HLT_REASON_CLAIM_INVALID},
        {"{" IDS ",\"exp\":9223372036854775808}", HLT_REASON_CLAIM_INVALID},
        {"{" IDS ",\"exp\":18446744073709551616}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"nbf\":\"0\"}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"nbf\":null}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"iat\":-1}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"iat\":1e300}", HLT_REASON_CLAIM_INVALID},
    };
    struct hlt_token_rules forever = default_rules();

    CHECK_PAYLOADS(rows);
    forever.max_lifetime_s = 0;
    EXPECT_REASON(payload_reason(forever, "{" IDS ",\"exp\":9007199254740992}"), HLT_REASON_OK,
                  "2^53");
}

Test(token, the_leeway_holds_to_the_second)
{
    static const struct payload_row rows[] = {
        {"{" IDS ",\"exp\":1799999971}", HLT_REASON_OK}, /* now - 29 > now - 30 */
        {"{" IDS ",\"exp\":1799999970}", HLT_REASON_EXPIRED},
        {"{" IDS ",\"exp\":1799999970.9}", HLT_REASON_EXPIRED},
        {"{" GOOD ",\"nbf\":1800000030}", HLT_REASON_OK},
        {"{" GOOD ",\"nbf\":1800000031}", HLT_REASON_NOT_YET},
        {"{" GOOD ",\"iat\":1800000030}", HLT_REASON_OK},
        {"{" GOOD ",\"iat\":1800000031}", HLT_REASON_NOT_YET},
    };
    struct hlt_token_rules exact = default_rules();

    CHECK_PAYLOADS(rows);
    exact.leeway_s = 0;
    EXPECT_REASON(payload_reason(exact, "{" IDS ",\"exp\":1800000001}"), HLT_REASON_OK, "later");
    EXPECT_REASON(payload_reason(exact, "{" IDS ",\"exp\":1800000000}"), HLT_REASON_EXPIRED, "now");
    EXPECT_REASON(payload_reason(exact, "{" GOOD ",\"nbf\":1800000000}"), HLT_REASON_OK, "now");
    EXPECT_REASON(payload_reason(exact, "{" GOOD ",\"nbf\":1800000001}"), HLT_REASON_NOT_YET,
                  "later");
}

Test(token, no_token_lives_longer_than_the_limit)
{
    static const struct payload_row rows[] = {
        {"{" IDS ",\"iat\":1800000000,\"exp\":1802592000}", HLT_REASON_OK},
        {"{" IDS ",\"iat\":1800000000,\"exp\":1802592001}", HLT_REASON_LIFETIME},
        /* without iat the rest of its life counts, else leaving it out would be the way around */
        {"{" IDS ",\"exp\":1802592030}", HLT_REASON_OK},
        {"{" IDS ",\"exp\":1802592031}", HLT_REASON_LIFETIME},
    };
    struct hlt_token_rules off = default_rules();

    CHECK_PAYLOADS(rows);
    off.max_lifetime_s = 0;
    EXPECT_REASON(payload_reason(off, "{" IDS ",\"iat\":1,\"exp\":9000000000}"), HLT_REASON_OK,
                  "0 switches it off");
}

Test(token, required_claims_are_required_until_an_option_relaxes_them)
{
    static const struct payload_row rows[] = {
        {"{\"iss\":\"https://id\",\"aud\":\"broker\",\"exp\":1800000600}",
         HLT_REASON_CLAIM_MISSING},
        {"{\"sub\":\"d\",\"aud\":\"broker\",\"exp\":1800000600}", HLT_REASON_CLAIM_MISSING},
        {"{\"sub\":\"d\",\"iss\":\"https://id\",\"exp\":1800000600}", HLT_REASON_CLAIM_MISSING},
        {"{\"sub\":\"d\",\"iss\":\"https://id\",\"aud\":\"broker\"}", HLT_REASON_CLAIM_MISSING},
        {"{\"x\":{" GOOD "}}", HLT_REASON_CLAIM_MISSING}, /* only the top level counts */
    };
    struct hlt_token_rules rules = default_rules();

    CHECK_PAYLOADS(rows);
    EXPECT_REASON(payload_reason(loose_rules(), "{\"sub\":\"d\"}"), HLT_REASON_OK, "all relaxed");
    EXPECT_REASON(payload_reason(loose_rules(), "{\"iss\":\"a\"}"), HLT_REASON_CLAIM_MISSING,
                  "sub is always required");
    rules.require_iss = rules.require_aud = false;
    EXPECT_REASON(payload_reason(rules, "{\"sub\":\"d\",\"exp\":1800000600}"), HLT_REASON_ISSUER,
                  "a list of issuers still wants one of them");
    rules.issuer_count = 0;
    EXPECT_REASON(payload_reason(rules, "{\"sub\":\"d\",\"exp\":1800000600}"), HLT_REASON_AUDIENCE,
                  "and so does a list of audiences");
    rules.audience_count = 0;
    rules.require_iss = true;
    EXPECT_REASON(payload_reason(rules, "{\"sub\":\"d\",\"exp\":1800000600}"),
                  HLT_REASON_CLAIM_MISSING, "iss wanted without a list");
}

Test(token, aud_is_a_string_or_an_array_of_strings)
{
#define REST "\"sub\":\"dev1\",\"iss\":\"https://id\",\"exp\":1800000600"
    static const struct payload_row rows[] = {
        {"{" REST ",\"aud\":\"broker\"}", HLT_REASON_OK},
        {"{" REST ",\"aud\":[\"broker\"]}", HLT_REASON_OK},
        {"{" REST ",\"aud\":[\"x\",\"backup\",\"y\"]}", HLT_REASON_OK},
        {"{" REST ",\"aud\":\"bro\\u006ber\"}", HLT_REASON_OK},
        {"{" REST ",\"aud\":\"Broker\"}", HLT_REASON_AUDIENCE},
        {"{" REST ",\"aud\":\"broker \"}", HLT_REASON_AUDIENCE},
        {"{" REST ",\"aud\":\"broke\"}", HLT_REASON_AUDIENCE},
        {"{" REST ",\"aud\":[\"x\"]}", HLT_REASON_AUDIENCE},
        {"{" REST ",\"aud\":[]}", HLT_REASON_CLAIM_INVALID},
        {"{" REST ",\"aud\":[\"broker\",5]}", HLT_REASON_CLAIM_INVALID},
        {"{" REST ",\"aud\":[[\"broker\"]]}", HLT_REASON_CLAIM_INVALID},
        {"{" REST ",\"aud\":{\"a\":\"broker\"}}", HLT_REASON_CLAIM_INVALID},
        {"{" REST ",\"aud\":\"\"}", HLT_REASON_CLAIM_INVALID},
        {"{" REST ",\"aud\":null}", HLT_REASON_CLAIM_INVALID},
        {"{" REST ",\"aud\":1}", HLT_REASON_CLAIM_INVALID},
    };
    CHECK_PAYLOADS(rows);
}

Test(token, other_claims_have_their_types)
{
    static const struct payload_row rows[] = {
        {"{" GOOD ",\"jti\":\"1\",\"device_class\":\"pump\",\"roles\":[]}", HLT_REASON_OK},
        {"{" GOOD ",\"jti\":1}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"jti\":\"\"}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"device_class\":[\"pump\"]}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"roles\":\"admin\"}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"roles\":null}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"roles\":{\"admin\":true}}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"roles\":[\"a\",1]}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"roles\":[\"\"]}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"roles\":[[\"admin\"]]}", HLT_REASON_CLAIM_INVALID},
        {"{\"sub\":\"d\",\"iss\":[\"https://id\"],\"aud\":\"broker\",\"exp\":1800000600}",
         HLT_REASON_CLAIM_INVALID},
        {"{\"sub\":\"d\",\"iss\":\"\",\"aud\":\"broker\",\"exp\":1800000600}",
         HLT_REASON_CLAIM_INVALID},
        {"{\"sub\":\"d\",\"iss\":\"https://id/\",\"aud\":\"broker\",\"exp\":1800000600}",
         HLT_REASON_ISSUER},
    };
    CHECK_PAYLOADS(rows);
}

#define THUMB "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2" /* RFC 8705 section 3.1 */

Test(token, a_binding_is_a_sha_256_of_a_certificate)
{
    static const struct payload_row rows[] = {
        {"{" GOOD ",\"cnf\":{\"x5t#S256\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"}}",
         HLT_REASON_OK},
        {"{" GOOD ",\"cnf\":{\"x5t#S256\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"}}",
         HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"cnf\":{\"x5t#S256\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg\"}}",
         HLT_REASON_CLAIM_INVALID}, /* 31 bytes */
        {"{" GOOD ",\"cnf\":{\"x5t#S256\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g\"}}",
         HLT_REASON_CLAIM_INVALID}, /* 33 bytes */
        {"{" GOOD ",\"cnf\":{\"x5t#S256\":\"" THUMB "\"}}",
         HLT_REASON_CLAIM_INVALID}, /* the RFC's own example has unused bits set */
        {"{" GOOD ",\"cnf\":{\"x5t#S256\":null}}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"cnf\":\"x\"}", HLT_REASON_CLAIM_INVALID},
        {"{" GOOD ",\"cnf\":[]}", HLT_REASON_CLAIM_INVALID},
        /* bound to what nobody here can see: not a bearer token */
        {"{" GOOD ",\"cnf\":{}}", HLT_REASON_BINDING},
        {"{" GOOD ",\"cnf\":{\"jkt\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"}}",
         HLT_REASON_BINDING},
        {"{" GOOD
         ",\"cnf\":{\"jwk\":{\"x5t#S256\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"}}}",
         HLT_REASON_BINDING},
    };

    check_payloads(rows, sizeof(rows) / sizeof(rows[0]), default_rules());
}

Test(token, the_binding_is_read_again_from_a_stored_payload)
{
    static const char text[] = "{\"sub\":\"d\",\"cnf\":{\"other\":[1,{}],\"x5t#S256\":"
                               "\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"}}";
    struct hlt_claims *claims = must(hlt_claims_parse(text, strlen(text)));

    cr_expect(claims->bound);
    for (unsigned i = 0; i < HLT_SHA256_BYTES; i++) {
        cr_expect(claims->certificate_sha256[i] == i);
    }
    hlt_claims_free(claims);
}

Test(token, sixty_four_roles_pass_and_one_more_does_not)
{
    char payload[2048];
    int used;

    for (int count = 64; count <= 65; count++) {
        used = snprintf(payload, sizeof(payload), "{" GOOD ",\"roles\":[");
        for (int i = 0; i < count; i++) {
            used += snprintf(payload + used, sizeof(payload) - (size_t)used, "%s\"r%d\"",
                             i > 0 ? "," : "", i);
        }
        snprintf(payload + used, sizeof(payload) - (size_t)used, "]}");
        EXPECT_REASON(payload_reason(default_rules(), payload),
                      count == 64 ? HLT_REASON_OK : HLT_REASON_CLAIM_INVALID, "roles");
    }
}

Test(token, a_sub_that_may_not_name_a_device_is_refused)
{
#define OTHERS "\"iss\":\"https://id\",\"aud\":\"broker\",\"exp\":1800000600"
    static const struct payload_row rows[] = {
        {"{\"sub\":\"caf\\u00e9 1\"," OTHERS "}", HLT_REASON_OK},
        {"{\"sub\":\"\"," OTHERS "}", HLT_REASON_SUBJECT},
        {"{\"sub\":\"a/b\"," OTHERS "}", HLT_REASON_SUBJECT},
        {"{\"sub\":\"a\\u002fb\"," OTHERS "}", HLT_REASON_SUBJECT},
        {"{\"sub\":\"+\"," OTHERS "}", HLT_REASON_SUBJECT},
        {"{\"sub\":\"a#\"," OTHERS "}", HLT_REASON_SUBJECT},
        {"{\"sub\":\"$SYS\"," OTHERS "}", HLT_REASON_SUBJECT},
        {"{\"sub\":\"a\\nb\"," OTHERS "}", HLT_REASON_SUBJECT},
        {"{\"sub\":\" a\"," OTHERS "}", HLT_REASON_SUBJECT},
        {"{\"sub\":7," OTHERS "}", HLT_REASON_CLAIM_INVALID},
        {"{\"sub\":null," OTHERS "}", HLT_REASON_CLAIM_INVALID},
        {"{\"sub\":\"a\\u0000b\"," OTHERS "}", HLT_REASON_MALFORMED},
    };
    char sub[300], payload[512];

    CHECK_PAYLOADS(rows);
    for (int len = 255; len <= 256; len++) {
        memset(sub, 'd', sizeof(sub));
        snprintf(payload, sizeof(payload), "{\"sub\":\"%.*s\"," OTHERS "}", len, sub);
        EXPECT_REASON(payload_reason(default_rules(), payload),
                      len == 255 ? HLT_REASON_OK : HLT_REASON_SUBJECT, "length");
    }
}

Test(token, a_forged_token_is_refused_for_its_signature_whatever_else_is_wrong)
{
    static const char *const payloads[] = {"{" IDS ",\"exp\":1}", "{}", "{\"sub\":7}",
                                           "{" IDS ",\"exp\":\"x\"}",
                                           "{\"sub\":\"a/b\"," OTHERS "}"};
    struct signer ours = signer_new("ES256"), theirs = signer_new("ES256");
    struct hlt_keyset *keys = keys_of(&ours, NULL);

    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        EXPECT_REASON(reason_of(keys, sign(&theirs, NULL, payloads[i])), HLT_REASON_SIGNATURE,
                      payloads[i]);
    }
    hlt_keyset_free(keys);
    EVP_PKEY_free(ours.pkey);
    EVP_PKEY_free(theirs.pkey);
}

/* --- what comes out --- */

#define FULL                                                                                       \
    "{\"sub\":\"caf\\u00e9\",\"iss\":\"https://id\",\"aud\":[\"x\",\"broker\"],"                   \
    "\"exp\":1800000600.9,\"nbf\":1799999999,\"iat\":1799999998,\"jti\":\"j\\\"1\","               \
    "\"roles\":[\"operator\",\"r\\u00f4le\"],\"device_class\":\"pump\",\"site\":{\"sub\":\"no\"}}"

static void check_full(const struct hlt_claims *claims)
{
    cr_assert(claims != NULL);
    cr_expect(eq(str, claims->json, FULL));
    cr_expect(eq(sz, claims->json_len, strlen(FULL)));
    cr_expect(eq(str, claims->sub, "caf\xC3\xA9"));
    cr_expect(eq(sz, claims->sub_len, 5));
    cr_expect(eq(str, claims->iss, "https://id"));
    cr_expect(eq(str, claims->jti, "j\"1"));
    cr_expect(eq(str, claims->device_class, "pump"));
    cr_expect(eq(i64, claims->exp_s, 1800000600));
    cr_expect(eq(i64, claims->nbf_s, 1799999999));
    cr_expect(eq(i64, claims->iat_s, 1799999998));
    cr_expect(claims->has_exp);
    cr_expect(claims->has_iat);
    cr_assert(eq(sz, claims->role_count, 2));
    cr_expect(eq(str, claims->roles[0], "operator"));
    cr_expect(eq(str, claims->roles[1], "r\xC3\xB4le"));
}

Test(token, the_claims_are_what_was_signed)
{
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, "k1");
    struct hlt_token_rules rules = default_rules();
    struct hlt_verifier *verifier = must(hlt_verifier_new());
    struct hlt_claims *claims = NULL;
    char *token = sign(&signer, "k1", FULL);

    EXPECT_REASON(
        hlt_token_verify(verifier, keys, &rules, token, strlen(token), NOW, &claims, NULL),
        HLT_REASON_OK, "full");
    hlt_keyset_free(keys); /* the claims borrow nothing */
    hlt_verifier_free(verifier);
    memset(token, 0, strlen(token));
    check_full(claims);
    cr_expect(eq(str, claims->kid, "k1"));
    cr_expect(eq(str, claims->alg, "HS256"));
    hlt_claims_free(claims);
    free(token);
}

Test(token, claims_restored_from_a_payload_are_the_same)
{
    struct hlt_claims *claims = hlt_claims_parse(FULL, strlen(FULL));

    check_full(claims);
    cr_expect(eq(str, claims->kid, ""));
    cr_expect(eq(str, claims->alg, ""));
    hlt_claims_free(claims);
    claims = hlt_claims_parse("{\"sub\":\"d\"}", 11);
    cr_assert(claims != NULL);
    cr_expect(eq(i64, claims->exp_s, INT64_MAX));
    cr_expect(eq(i64, claims->nbf_s, 0));
    cr_expect(not(claims->has_exp));
    cr_expect(not(claims->has_iat));
    cr_expect(eq(str, claims->jti, ""));
    cr_expect(eq(str, claims->device_class, ""));
    cr_expect(eq(sz, claims->role_count, 0));
    hlt_claims_free(claims);
}

Test(token, no_claims_come_from_what_is_no_such_payload)
{
    static const char *const texts[] = {"",
                                        "{}",
                                        "null",
                                        "{\"sub\":\"a/b\"}",
                                        "{\"sub\":\"d\"",
                                        "{\"sub\":\"d\",\"exp\":\"x\"}",
                                        "{\"sub\":\"d\",\"sub\":\"d\"}"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cr_expect(hlt_claims_parse(texts[i], strlen(texts[i])) == NULL, "%s", texts[i]);
    }
    hlt_claims_free(NULL);
}

Test(token, a_verifier_serves_many_sets_and_sizes_in_turn)
{
    struct signer a = signer_new("ES256"), b = signer_new("EdDSA");
    struct hlt_keyset *keys_a = keys_of(&a, NULL), *keys_b = keys_of(&b, NULL);
    struct hlt_token_rules rules = default_rules();
    struct hlt_verifier *verifier = must(hlt_verifier_new());
    struct hlt_claims *claims = NULL;
    char *token_a = sign(&a, NULL, "{" GOOD "}"), *token_b = sign(&b, NULL, "{" GOOD "}");
    static const struct {
        bool keys_a, token_a;
        enum hlt_reason want;
    } rows[] = {{true, true, HLT_REASON_OK},
                {true, false, HLT_REASON_UNKNOWN_KEY},
                {false, false, HLT_REASON_OK},
                {false, true, HLT_REASON_UNKNOWN_KEY},
                {true, true, HLT_REASON_OK}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *token = rows[i].token_a ? token_a : token_b;
        rules.max_bytes = 2048 + i * 512;
        EXPECT_REASON(hlt_token_verify(verifier, rows[i].keys_a ? keys_a : keys_b, &rules, token,
                                       strlen(token), NOW, &claims, NULL),
                      rows[i].want, "turn");
        hlt_claims_free(claims);
    }
    hlt_keyset_free(keys_a); /* the verifier keeps nothing of a set */
    EXPECT_REASON(
        hlt_token_verify(verifier, keys_b, &rules, token_b, strlen(token_b), NOW, &claims, NULL),
        HLT_REASON_OK, "after the other set is gone");
    hlt_claims_free(claims);
    hlt_keyset_free(keys_b);
    hlt_verifier_free(verifier);
    EVP_PKEY_free(a.pkey);
    EVP_PKEY_free(b.pkey);
    free(token_a);
    free(token_b);
}

Test(token, the_details_tell_nothing_of_the_token)
{
    struct signer signer = signer_new("HS256");
    struct hlt_keyset *keys = keys_of(&signer, NULL);
    struct hlt_token_rules rules = default_rules();
    struct hlt_verifier *verifier = must(hlt_verifier_new());
    static const char *const headers[] = {
        "{\"alg\":\"S3CRET\"}", "{\"alg\":\"HS256\",\"kid\":\"S3CRET\"}",
        "{\"alg\":\"HS256\",\"typ\":\"S3CRET\"}", "{\"alg\":\"HS256\",\"S3CRET\":tru}"};

    for (size_t i = 0; i < 4; i++) {
        char *token = sign_with(&signer, headers[i], "{\"sub\":\"S3CRET/\"}");
        struct hlt_claims *claims = NULL;
        struct hlt_err detail;
        cr_expect(hlt_token_verify(verifier, keys, &rules, token, strlen(token), NOW, &claims,
                                   &detail) != HLT_REASON_OK);
        cr_expect(detail.msg[0] != '\0');
        cr_expect(strstr(detail.msg, "S3CRET") == NULL, "%s", detail.msg);
        free(token);
    }
    hlt_verifier_free(verifier);
    hlt_keyset_free(keys);
}

Test(token, every_reason_has_its_own_word_and_a_sentence)
{
    for (int i = 0; i < HLT_REASON_COUNT; i++) {
        const char *word = hlt_reason_word((enum hlt_reason)i);
        cr_expect(strlen(word) > 0 && strspn(word, "abcdefghijklmnopqrstuvwxyz_") == strlen(word),
                  "%s", word);
        cr_expect(strlen(hlt_reason_text((enum hlt_reason)i)) > 10);
        for (int k = 0; k < i; k++) {
            cr_expect(strcmp(word, hlt_reason_word((enum hlt_reason)k)) != 0, "%s", word);
        }
    }
    cr_expect(eq(str, (char *)hlt_reason_word((enum hlt_reason)999), "internal"));
}
