/* vectors.c - the examples of the RFCs, each verified by OpenSSL with the key as Haltere loaded it,
 * and every attack of RFC 8725 (JSON Web Token Best Current Practices) by its section.
 *
 * Many examples sign text that is no JSON. Such a token is malformed here, but its key must load
 * and its signature hold, or the vector was written down wrongly. */
#include <criterion/criterion.h>
#include <openssl/err.h>

#include "../../shared/base64url.h"
#include "../../shared/keyset_internal.h"
#include "../../shared/token.h"
#include "signing.h"

#define NOW 1800000000
#define GOOD "\"sub\":\"dev1\",\"iss\":\"https://id\",\"aud\":\"broker\",\"exp\":1800000600"

static struct hlt_keyset *load(const char *jwk, char *problem, size_t room)
{
    struct hlt_problems problems = {0};
    struct hlt_keyset *set = NULL;
    char *path = file_with(jwk, strlen(jwk), 0600);
    struct hlt_key_source source = {.path = path};

    hlt_keyset_load(&set, &source, 1, &problems);
    problem[0] = '\0';
    if (problems.count > 0) {
        hlt_problem_format(&problems, 0, problem, room);
    }
    hlt_problems_free(&problems);
    file_remove(path);
    return set;
}

static struct hlt_keyset *keys_from(const char *jwk)
{
    char problem[1024];
    struct hlt_keyset *set = load(jwk, problem, sizeof(problem));

    cr_assert(set != NULL, "%s", problem);
    return set;
}

static enum hlt_reason judge(const struct hlt_keyset *keys, const char *token)
{
    static const char *const issuers[] = {"https://id"}, *const audiences[] = {"broker"};
    const struct hlt_token_rules rules = {.issuers = issuers,
                                          .issuer_count = 1,
                                          .audiences = audiences,
                                          .audience_count = 1,
                                          .leeway_s = 30,
                                          .max_bytes = HLT_TOKEN_MAX_DEFAULT,
                                          .require_exp = true,
                                          .require_iss = true,
                                          .require_aud = true};
    struct hlt_verifier *verifier = must(hlt_verifier_new());
    struct hlt_claims *claims = NULL;
    enum hlt_reason reason =
        hlt_token_verify(verifier, keys, &rules, token, strlen(token), NOW, &claims, NULL);

    cr_expect((reason == HLT_REASON_OK) == (claims != NULL));
    hlt_claims_free(claims);
    hlt_verifier_free(verifier);
    return reason;
}

#define EXPECT(keys, token, want)                                                                  \
    do {                                                                                           \
        enum hlt_reason got_ = judge(keys, token);                                                 \
        cr_expect(got_ == (want), "got %s, want %s", hlt_reason_word(got_),                        \
                  hlt_reason_word(want));                                                          \
    } while (0)

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

/* --- RFC 8725, by section --- */

/* A key loaded, and what is signed with it judged. */
struct world {
    struct signer signer;
    struct hlt_keyset *keys;
};

static struct world world_of(const char *alg)
{
    struct world world = {.signer = signer_new(alg)};
    char *jwk = jwk_of(&world.signer, "k", world.signer.alg);

    world.keys = keys_from(jwk);
    free(jwk);
    return world;
}

static void end_world(struct world *world)
{
    hlt_keyset_free(world->keys);
    EVP_PKEY_free(world->signer.pkey);
}

static void expect_signed(struct world *world, const char *header, const char *payload,
                          enum hlt_reason want)
{
    char *token = sign_with(&world->signer, header, payload);

    EXPECT(world->keys, token, want);
    free(token);
}

/* "Weak signatures and insufficient signature validation": none, RS256 for HS256. */
Test(rfc8725, s2_1_the_attacker_does_not_choose_the_algorithm)
{
    struct world rsa = world_of("RS256");
    char *good = sign(&rsa.signer, "k", "{" GOOD "}"), none[4096], *pem = NULL;
    const char *body = strchr(good, '.') + 1;
    struct signer confused = {.alg = "HS256"};
    BIO *bio = BIO_new(BIO_s_mem());

    EXPECT(rsa.keys, good, HLT_REASON_OK);
    snprintf(none, sizeof(none), "eyJhbGciOiJub25lIiwia2lkIjoiayJ9.%.*s.",
             (int)(strchr(body, '.') - body), body); /* {"alg":"none","kid":"k"} */
    EXPECT(rsa.keys, none, HLT_REASON_ALG);
    PEM_write_bio_PUBKEY(bio, rsa.signer.pkey);
    long len = BIO_get_mem_data(bio, &pem);
    confused.secret_len =
        (size_t)len < sizeof(confused.secret) ? (size_t)len : sizeof(confused.secret);
    memcpy(confused.secret, pem, confused.secret_len);
    char *forged = sign(&confused, "k", "{" GOOD "}");
    EXPECT(rsa.keys, forged, HLT_REASON_ALG);
    BIO_free(bio);
    free(forged);
    free(good);
    end_world(&rsa);
}

/* "Weak symmetric keys": a password is no key. */
Test(rfc8725, s2_2_a_short_secret_is_refused_at_load)
{
    char problem[1024];
    struct hlt_keyset *set = load("correct horse battery staple", problem, sizeof(problem));

    cr_expect(set == NULL);
    cr_expect(strstr(problem, "at least 32 bytes") != NULL, "%s", problem);
}

/* "Incorrect composition of encryption and signature": nothing encrypted or nested is looked at. */
Test(rfc8725, s2_3_encrypted_and_nested_tokens_are_unsupported)
{
    struct world world = world_of("ES256");

    EXPECT(world.keys, "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.AAAA.AAAA.AAAA.AAAA",
           HLT_REASON_UNSUPPORTED);
    expect_signed(&world, "{\"alg\":\"ES256\",\"kid\":\"k\",\"cty\":\"JWT\"}", "{" GOOD "}",
                  HLT_REASON_UNSUPPORTED);
    expect_signed(&world, "{\"alg\":\"ES256\",\"kid\":\"k\",\"enc\":\"A256GCM\"}", "{" GOOD "}",
                  HLT_REASON_UNSUPPORTED);
    end_world(&world);
}

/* "Plaintext leakage through analysis of ciphertext length" (and 3.6): no compression. */
Test(rfc8725, s2_4_compressed_tokens_are_unsupported)
{
    struct world world = world_of("ES256");

    expect_signed(&world, "{\"alg\":\"ES256\",\"kid\":\"k\",\"zip\":\"DEF\"}", "{" GOOD "}",
                  HLT_REASON_UNSUPPORTED);
    end_world(&world);
}

/* "Insecure use of elliptic curve encryption" (and 3.4): points are checked, at load. */
Test(rfc8725, s2_5_points_off_the_curve_are_refused_at_load)
{
    char problem[1024];
    struct hlt_keyset *set = load(
        "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
        "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a1\"}",
        problem, sizeof(problem));

    cr_expect(set == NULL, "a y that is one bit off");
    set = load(
        "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
        "\"y\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}",
        problem, sizeof(problem));
    cr_expect(set == NULL, "a y that is x");
}

/* "Multiplicity of JSON encodings" (and 3.7): UTF-8 alone, no byte order mark. */
Test(rfc8725, s2_6_other_encodings_than_utf_8_are_malformed)
{
    static const char text[] = "{" GOOD "}";
    struct world world = world_of("HS256");
    char header[] = "{\"alg\":\"HS256\",\"kid\":\"k\"}", utf_16[2 * sizeof(text)],
         marked[sizeof(text) + 3] = "\xEF\xBB\xBF";

    for (size_t i = 0; i < sizeof(text); i++) {
        utf_16[2 * i] = text[i];
        utf_16[2 * i + 1] = '\0';
    }
    memcpy(marked + 3, text, sizeof(text));
    char *wide =
        sign_raw(&world.signer, "HS256", header, strlen(header), utf_16, 2 * (sizeof(text) - 1));
    char *bom = sign_with(&world.signer, header, marked);
    EXPECT(world.keys, wide, HLT_REASON_MALFORMED);
    EXPECT(world.keys, bom, HLT_REASON_MALFORMED);
    expect_signed(&world, header, "{" GOOD ",\"x\":\"\xC0\xAF\"}", HLT_REASON_MALFORMED);
    free(wide);
    free(bom);
    end_world(&world);
}

/* "Substitution attacks" (and 3.8, 3.9): a good token meant for somebody else. */
Test(rfc8725, s2_7_a_token_for_another_recipient_is_refused)
{
    struct world world = world_of("ES256");
    const char *header = "{\"alg\":\"ES256\",\"kid\":\"k\"}";

    expect_signed(&world, header,
                  "{\"sub\":\"dev1\",\"iss\":\"https://id\",\"aud\":\"shop\",\"exp\":1800000600}",
                  HLT_REASON_AUDIENCE);
    expect_signed(&world, header, "{\"sub\":\"dev1\",\"iss\":\"https://id\",\"exp\":1800000600}",
                  HLT_REASON_CLAIM_MISSING);
    expect_signed(
        &world, header,
        "{\"sub\":\"dev1\",\"iss\":\"https://evil\",\"aud\":\"broker\",\"exp\":1800000600}",
        HLT_REASON_ISSUER);
    end_world(&world);
}

/* "Cross-JWT confusion" (and 3.11, 3.12): tokens of another kind by the same keys. */
Test(rfc8725, s2_8_a_token_of_another_kind_is_refused)
{
    static const char *const other[] = {
        "logout+jwt", "secevent+jwt",           "dpop+jwt", "id+jwt",
        "jwt2",       "application/logout+jwt", "JOSE",     ""};
    static const char *const ours[] = {"JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"};
    struct world world = world_of("ES256");
    char header[128];

    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"%s\"}",
                 other[i]);
        expect_signed(&world, header, "{" GOOD "}", HLT_REASON_UNSUPPORTED);
    }
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":\"%s\"}",
                 ours[i]);
        expect_signed(&world, header, "{" GOOD "}", HLT_REASON_OK);
    }
    end_world(&world);
}

/* "Indirect attacks on the server" (and 3.10): kid, jku, x5u and jwk are only ever compared. */
Test(rfc8725, s2_9_what_the_header_names_is_never_fetched_or_opened)
{
    static const char *const kids[] = {
        "../../../../dev/null", "k' OR '1'='1", "k;ls", "/etc/passwd", "k\\u0000x", "%00", ""};
    struct world world = world_of("HS256");
    char header[512];

    for (size_t i = 0; i < sizeof(kids) / sizeof(kids[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":\"HS256\",\"kid\":\"%s\"}", kids[i]);
        char *token = sign_with(&world.signer, header, "{" GOOD "}");
        enum hlt_reason reason = judge(world.keys, token);
        cr_expect(reason == HLT_REASON_UNKNOWN_KEY || reason == HLT_REASON_MALFORMED, "%s: %s",
                  kids[i], hlt_reason_word(reason));
        free(token);
    }
    struct signer thief = signer_new("HS256");
    thief.secret[0] ^= 1;
    char *jwk = jwk_of(&thief, "k", "HS256");
    snprintf(header, sizeof(header),
             "{\"alg\":\"HS256\",\"kid\":\"k\",\"jku\":\"http://127.0.0.1:1/jwks\",\"x5u\":\"file:/"
             "//k\","
             "\"jwk\":%s}",
             jwk);
    char *token = sign_with(&thief, header, "{" GOOD "}");
    EXPECT(world.keys, token, HLT_REASON_SIGNATURE);
    free(token);
    free(jwk);
    end_world(&world);
}

/* 3.1: each key is used with exactly one algorithm. */
Test(rfc8725, s3_1_a_key_is_for_one_algorithm)
{
    struct world world = world_of("RS256");
    static const char *const others[] = {"RS384", "RS512", "PS256", "PS384", "PS512"};
    char header[64];

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"k\"}", others[i]);
        char *token = sign_raw(&world.signer, others[i], header, strlen(header), "{" GOOD "}",
                               strlen("{" GOOD "}"));
        EXPECT(world.keys, token, HLT_REASON_ALG);
        free(token);
    }
    end_world(&world);
}

/* 3.2: what is not listed is not spoken. */
Test(rfc8725, s3_2_unknown_algorithms_are_refused)
{
    static const char *const algs[] = {"RS1",     "HS1",   "RSA1_5", "ES256K1",
                                       "Ed25519", "es256", "dir"};
    struct world world = world_of("ES256");
    char header[64];

    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"k\"}", algs[i]);
        expect_signed(&world, header, "{" GOOD "}", HLT_REASON_ALG);
    }
    end_world(&world);
}

/* 3.3 and 3.4: every signature is checked as a whole, numbers out of range too. */
Test(rfc8725, s3_3_signatures_of_zeros_and_of_no_length_are_refused)
{
    struct world world = world_of("ES256");
    char *good = sign(&world.signer, "k", "{" GOOD "}"), forged[4096];
    unsigned char numbers[64] = {0};

    for (int kind = 0; kind < 3; kind++) {
        memset(numbers, kind == 1 ? 0xff : 0, sizeof(numbers));
        numbers[63] = kind == 2 ? 1 : numbers[63]; /* r = 0, s = 1 */
        char *sig = b64u(numbers, sizeof(numbers));
        snprintf(forged, sizeof(forged), "%.*s.%s", (int)(strrchr(good, '.') - good), good, sig);
        EXPECT(world.keys, forged, HLT_REASON_SIGNATURE);
        free(sig);
    }
    snprintf(forged, sizeof(forged), "%.*s.", (int)(strrchr(good, '.') - good), good);
    EXPECT(world.keys, forged, HLT_REASON_SIGNATURE);
    free(good);
    end_world(&world);
}

/* 3.5: keys with too little entropy or strength do not load. */
Test(rfc8725, s3_5_short_rsa_keys_are_refused_at_load)
{
    EVP_PKEY *pkey = must(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024));
    struct signer small = {.alg = "RS256", .pkey = pkey};
    char *jwk = jwk_of(&small, "k", "RS256"), problem[1024];

    cr_expect(load(jwk, problem, sizeof(problem)) == NULL);
    free(jwk);
    EVP_PKEY_free(pkey);
}
