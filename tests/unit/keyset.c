/* keyset.c - which keys are loaded, which are refused, and what the refusal says. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <openssl/err.h>
#include <openssl/x509.h>

#include "../../shared/jwk.h"
#include "../../shared/keyset.h"
#include "signing.h"

/* What one load came to. */
struct outcome {
    struct hlt_keyset *set;
    struct hlt_problems problems;
    char all[8192]; /* every problem, as people see it */
};

static void load(struct outcome *out, const struct hlt_key_source *sources, size_t count)
{
    size_t used = 0;

    memset(out, 0, sizeof(*out));
    enum hlt_rc rc = hlt_keyset_load(&out->set, sources, count, &out->problems);
    bool loaded = rc == HLT_OK;
    for (size_t i = 0; i < out->problems.count && used < sizeof(out->all) - 1000; i++) {
        hlt_problem_format(&out->problems, i, out->all + used, sizeof(out->all) - used - 1);
        used += strlen(out->all + used);
        out->all[used++] = '\n';
    }
    cr_expect(loaded == (out->set != NULL));
    cr_expect(loaded == (out->problems.errors == 0), "%s", out->all);
    cr_expect(ERR_peek_error() == 0, "the thread's OpenSSL errors are left alone");
}

static void unload(struct outcome *out)
{
    hlt_keyset_free(out->set);
    hlt_problems_free(&out->problems);
}

static void load_bytes(struct outcome *out, const void *data, size_t len, unsigned mode,
                       const struct hlt_key_source *settings)
{
    struct hlt_key_source source = settings != NULL ? *settings : (struct hlt_key_source){0};
    char *path = file_with(data, len, mode);

    source.path = path;
    load(out, &source, 1);
    file_remove(path);
}

/* Refused, and the text has `say` in it. */
static void refused_bytes(const void *data, size_t len, const char *say, const char *what)
{
    struct outcome out;

    load_bytes(&out, data, len, 0600, NULL);
    cr_expect(out.set == NULL, "%s was loaded", what);
    cr_expect(strstr(out.all, say) != NULL, "%s: wanted \"%s\" in:\n%s", what, say, out.all);
    unload(&out);
}

static void refused(const char *text, const char *say)
{
    refused_bytes(text, strlen(text), say, text);
}

static struct hlt_key_info loaded(const char *text, const struct hlt_key_source *settings,
                                  struct outcome *out)
{
    struct hlt_key_info info = {0};

    load_bytes(out, text, strlen(text), 0600, settings);
    cr_assert(out->set != NULL, "%s", out->all);
    hlt_keyset_info(out->set, 0, &info);
    return info;
}

#define P256_X "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
#define P256_Y "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
#define P256 "\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" P256_X "\",\"y\":\"" P256_Y "\""
#define OCT32 "\"kty\":\"oct\",\"k\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\""
#define OCT31 "\"kty\":\"oct\",\"k\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg\""
#define ED25519_X "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"

/* --- the kinds of files --- */

Test(keyset, a_jwks_gives_each_key_its_own_algorithm)
{
    struct outcome out;
    struct hlt_key_info info = loaded("{\"keys\":[{" P256 ",\"kid\":\"a\",\"use\":\"sig\"},\n"
                                      "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" ED25519_X
                                      "\",\"kid\":\"b\",\"key_ops\":[\"verify\"],\"x5t\":\"?\"}]}",
                                      NULL, &out);

    cr_assert(eq(sz, hlt_keyset_count(out.set), 2));
    cr_expect(eq(str, (char *)info.kid, "a"));
    cr_expect(eq(str, (char *)info.alg, "ES256"));
    cr_expect(eq(str, (char *)info.issuer, ""));
    cr_expect(eq(uint, info.bits, 256));
    hlt_keyset_info(out.set, 1, &info);
    cr_expect(eq(str, (char *)info.alg, "EdDSA"));
    cr_expect(eq(sz, out.problems.warnings, 0));
    unload(&out);
}

Test(keyset, a_single_jwk_is_a_set_of_one)
{
    struct outcome out;
    struct hlt_key_info info = loaded("{" P256 "}", NULL, &out);

    cr_expect(eq(str, (char *)info.kid, ""));
    cr_expect(eq(str, (char *)info.alg, "ES256"));
    unload(&out);
}

static char *pem_of(EVP_PKEY *pkey, bool private_half)
{
    BIO *bio = must(BIO_new(BIO_s_mem()));
    char *data = NULL, *text;
    long len;

    if (private_half) {
        PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL);
    } else {
        PEM_write_bio_PUBKEY(bio, pkey);
    }
    len = BIO_get_mem_data(bio, &data);
    text = must(strndup(data, (size_t)len));
    BIO_free(bio);
    return text;
}

Test(keyset, a_pem_public_key_of_every_kind_loads_with_its_default_algorithm)
{
    static const struct {
        const char *make, *alg;
        unsigned bits;
    } rows[] = {{"RS256", "RS256", 2048}, {"ES256", "ES256", 256},   {"ES384", "ES384", 384},
                {"ES512", "ES512", 521},  {"ES256K", "ES256K", 256}, {"EdDSA", "EdDSA", 256},
                {"Ed448", "EdDSA", 456}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct signer signer = signer_new(rows[i].make);
        char *pem = pem_of(signer.pkey, false);
        struct outcome out;
        struct hlt_key_info info = loaded(pem, NULL, &out);

        cr_expect(eq(str, (char *)info.alg, (char *)rows[i].alg));
        cr_expect(eq(uint, info.bits, rows[i].bits), "%s", rows[i].make);
        unload(&out);
        free(pem);
        EVP_PKEY_free(signer.pkey);
    }
}

static char *certificate_of(EVP_PKEY *pkey)
{
    X509 *certificate = must(X509_new());
    BIO *bio = must(BIO_new(BIO_s_mem()));
    char *data = NULL, *text;

    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 60);
    X509_set_pubkey(certificate, pkey);
    X509_sign(certificate, pkey, EVP_sha256());
    PEM_write_bio_X509(bio, certificate);
    text = must(strndup(data, (size_t)BIO_get_mem_data(bio, &data)));
    X509_free(certificate);
    BIO_free(bio);
    return text;
}

Test(keyset, a_certificate_gives_its_public_key)
{
    struct signer signer = signer_new("RS256");
    char *pem = certificate_of(signer.pkey);
    struct outcome out;
    struct hlt_key_info info = loaded(pem, NULL, &out);

    cr_expect(eq(str, (char *)info.alg, "RS256"));
    unload(&out);
    free(pem);
    EVP_PKEY_free(signer.pkey);
}

Test(keyset, a_raw_secret_loses_one_line_end_and_no_more)
{
    static const struct {
        const char *text;
        unsigned bits; /* 0: refused */
    } rows[] = {{"0123456789abcdef0123456789abcdef", 256},
                {"0123456789abcdef0123456789abcdef\n", 256},
                {"0123456789abcdef0123456789abcdef\r\n", 256},
                {"0123456789abcdef0123456789abcdef\n\n", 264},
                {"0123456789abcdef0123456789abcdef ", 264},
                {"0123456789abcdef0123456789abcde\n", 0},
                {"0123456789abcdef0123456789abcde\r\n", 0}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_key_info info;
        struct outcome out;
        if (rows[i].bits == 0) {
            refused(rows[i].text, "at least 32 bytes, this one has 31");
            continue;
        }
        info = loaded(rows[i].text, NULL, &out);
        cr_expect(eq(str, (char *)info.alg, "HS256"));
        cr_expect(eq(uint, info.bits, rows[i].bits), "row %zu", i);
        unload(&out);
    }
}

/* --- secrets --- */

Test(keyset, a_secret_is_at_least_as_long_as_its_hash)
{
    static const struct {
        const char *alg;
        size_t least;
    } rows[] = {{"HS256", 32}, {"HS384", 48}, {"HS512", 64}};
    char text[80];

    for (size_t i = 0; i < 3; i++) {
        struct hlt_key_source settings = {.alg = rows[i].alg};
        struct outcome out;
        memset(text, 's', sizeof(text));
        load_bytes(&out, text, rows[i].least, 0600, &settings);
        cr_expect(out.set != NULL, "%s", out.all);
        unload(&out);
        load_bytes(&out, text, rows[i].least - 1, 0600, &settings);
        cr_expect(out.set == NULL, "%s", rows[i].alg);
        unload(&out);
    }
    refused("{" OCT31 "}", "at least 32 bytes");
    refused("{" OCT32 ",\"alg\":\"HS384\"}", "at least 48 bytes");
}

Test(keyset, files_with_secrets_are_closed_to_others)
{
    static const char *const texts[] = {"0123456789abcdef0123456789abcdef", "{" OCT32 "}",
                                        "{\"keys\":[{" OCT32 "}]}"};
    static const struct {
        unsigned mode;
        bool good;
    } rows[] = {{0600, true},  {0400, true},  {0640, true},
                {0644, false}, {0604, false}, {0660, false}};

    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
            struct outcome out;
            load_bytes(&out, texts[i], strlen(texts[i]), rows[k].mode, NULL);
            cr_expect(rows[k].good == (out.set != NULL), "%o %s\n%s", rows[k].mode, texts[i],
                      out.all);
            cr_expect(rows[k].good || strstr(out.all, "chmod") != NULL, "%s", out.all);
            unload(&out);
        }
    }
}

Test(keyset, public_keys_may_be_read_but_not_written_by_others)
{
    struct outcome out;

    load_bytes(&out, "{" P256 "}", strlen("{" P256 "}"), 0644, NULL);
    cr_expect(out.set != NULL, "%s", out.all);
    unload(&out);
    load_bytes(&out, "{" P256 "}", strlen("{" P256 "}"), 0646, NULL);
    cr_expect(out.set == NULL);
    unload(&out);
}

Test(keyset, a_public_key_in_another_spelling_does_not_become_a_secret)
{
    struct signer rsa = signer_new("RS256"), ec = signer_new("ES256");
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(rsa.pkey, &der);
    char base64[1024], jwk[2048];

    refused_bytes(der, (size_t)len, "public key", "DER");
    EVP_EncodeBlock((unsigned char *)base64, der, len);
    refused(base64, "public key");
    char *k = b64u(der, (size_t)len);
    snprintf(jwk, sizeof(jwk), "{\"kty\":\"oct\",\"k\":\"%s\"}", k);
    refused(jwk, "public key");
    free(k);
    OPENSSL_free(der);
    char *pem = pem_of(ec.pkey, false);
    k = b64u(pem, strlen(pem));
    snprintf(jwk, sizeof(jwk), "{\"kty\":\"oct\",\"k\":\"%s\"}", k);
    refused(jwk, "public key");
    refused("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZvbyBiYXIgYmF6IHF1eCBxdXV4IGNvcmdl me@host\n",
            "public key");
    free(k);
    free(pem);
    EVP_PKEY_free(rsa.pkey);
    EVP_PKEY_free(ec.pkey);
}

Test(keyset, secrets_and_public_keys_do_not_share_a_file)
{
    struct outcome out;
    char *secret =
        file_with("{" OCT32 ",\"kid\":\"s\"}", strlen("{" OCT32 ",\"kid\":\"s\"}"), 0600);
    char *public = file_with("{" P256 ",\"kid\":\"p\"}", strlen("{" P256 ",\"kid\":\"p\"}"), 0644);
    struct hlt_key_source sources[] = {{.path = secret}, {.path = public}};

    refused("{\"keys\":[{" P256 "},{" OCT32 "}]}", "file of their own");
    load(&out, sources, 2);
    cr_expect(out.set != NULL, "two files: %s", out.all);
    unload(&out);
    file_remove(secret);
    file_remove(public);
}

/* --- private keys --- */

Test(keyset, private_keys_are_refused_with_the_way_to_the_public_half)
{
    static const char *const algs[] = {"RS256", "ES256", "EdDSA"};

    for (size_t i = 0; i < 3; i++) {
        struct signer signer = signer_new(algs[i]);
        char *pem = pem_of(signer.pkey, true);
        refused(pem, "openssl pkey -in FILE -pubout");
        free(pem);
        EVP_PKEY_free(signer.pkey);
    }
    refused("{" P256 ",\"d\":\"AAAA\"}", "private members");
    refused("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" ED25519_X "\",\"d\":\"AAAA\"}",
            "private members");
    refused("{\"keys\":[{" P256 ",\"kid\":\"a\"},{" P256 ",\"kid\":\"b\",\"p\":\"AAAA\"}]}",
            "key 2 (kid \"b\")");
}

Test(keyset, several_pem_blocks_are_refused)
{
    struct signer signer = signer_new("ES256");
    char *pem = pem_of(signer.pkey, false), *private_pem = pem_of(signer.pkey, true), text[4096];

    snprintf(text, sizeof(text), "%s%s", pem, pem);
    refused(text, "2 PEM blocks");
    snprintf(text, sizeof(text), "%s%s", pem, private_pem);
    refused(text, "private key");
    refused("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot read");
    refused("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot read");
    free(pem);
    free(private_pem);
    EVP_PKEY_free(signer.pkey);
}

/* --- RSA --- */

static char *rsa_jwk(unsigned bits, unsigned long exponent)
{
    EVP_PKEY *pkey = NULL;
    EVP_PKEY_CTX *context = must(EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL));
    BIGNUM *e = BN_new();
    struct signer signer = {.alg = "RS256"};
    char *jwk;

    BN_set_word(e, exponent);
    EVP_PKEY_keygen_init(context);
    EVP_PKEY_CTX_set_rsa_keygen_bits(context, (int)bits);
    EVP_PKEY_CTX_set1_rsa_keygen_pubexp(context, e);
    EVP_PKEY_generate(context, &pkey);
    signer.pkey = must(pkey);
    jwk = jwk_of(&signer, NULL, NULL);
    EVP_PKEY_free(pkey);
    EVP_PKEY_CTX_free(context);
    BN_free(e);
    return jwk;
}

/* The same key with another exponent. */
static char *with_exponent(const char *jwk, const char *e)
{
    char *out = must(malloc(4096));
    const char *at = strstr(jwk, "\"e\":\"");

    snprintf(out, 4096, "%.*s\"e\":\"%s\"}", (int)(at - jwk), jwk, e);
    return out;
}

Test(keyset, rsa_keys_have_at_least_2048_bits)
{
    char *jwk = rsa_jwk(1024, 65537);
    struct outcome out;

    refused(jwk, "1024 bits");
    free(jwk);
    jwk = rsa_jwk(2047, 65537);
    refused(jwk, "2047 bits");
    free(jwk);
    jwk = rsa_jwk(2048, 65537);
    loaded(jwk, NULL, &out);
    unload(&out);
    free(jwk);
}

Test(keyset, rsa_exponents_are_odd_and_at_least_3)
{
    static const struct {
        const char *e; /* base64url */
        bool good;
    } rows[] = {{"AQ", false},            /* 1: every signature would be valid */
                {"AA", false},            /* 0 */
                {"Ag", false},            /* 2 */
                {"BA", false},            /* 4 */
                {"Aw", true},             /* 3 */
                {"AAD_", true},           /* leading zero bytes change nothing */
                {"AQAA", false},          /* 65536 */
                {"__________8", true},    /* 2^64 - 1 */
                {"AQAAAAAAAAAB", false}}; /* 2^64 + 1 */
    char *jwk = rsa_jwk(2048, 65537);

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *text = with_exponent(jwk, rows[i].e);
        struct outcome out;
        load_bytes(&out, text, strlen(text), 0600, NULL);
        cr_expect(rows[i].good == (out.set != NULL), "e %s: %s", rows[i].e, out.all);
        unload(&out);
        free(text);
    }
    free(jwk);
}

/* --- algorithm, curve, use --- */

Test(keyset, the_algorithm_fits_the_key_and_its_curve)
{
    static const struct {
        const char *jwk, *say;
    } rows[] = {
        {"{" P256 ",\"alg\":\"ES384\"}", "does not fit"},
        {"{" P256 ",\"alg\":\"ES256K\"}", "does not fit"},
        {"{" P256 ",\"alg\":\"RS256\"}", "does not fit"},
        {"{" P256 ",\"alg\":\"HS256\"}", "does not fit"},
        {"{" OCT32 ",\"alg\":\"ES256\"}", "does not fit"},
        {"{" P256 ",\"alg\":\"none\"}", "unknown alg"},
        {"{" P256 ",\"alg\":\"es256\"}", "did you mean ES256"},
        {"{" P256 ",\"alg\":\"ECDH-ES\"}", "unknown alg"},
        {"{" P256 ",\"alg\":null}", "\"alg\""},
        {"{" P256 ",\"alg\":\"\"}", "\"alg\""},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        refused(rows[i].jwk, rows[i].say);
    }
}

Test(keyset, the_option_s_alg_speaks_only_where_the_key_is_silent)
{
    struct hlt_key_source ps512 = {.alg = "PS512"}, es256 = {.alg = "ES256"};
    char *jwk = rsa_jwk(2048, 65537);
    struct outcome out;
    struct hlt_key_info info = loaded(jwk, &ps512, &out);

    cr_expect(eq(str, (char *)info.alg, "PS512"));
    unload(&out);
    loaded("{" P256 ",\"alg\":\"ES256\"}", &es256, &out);
    unload(&out);
    load_bytes(&out, "{" P256 ",\"alg\":\"ES256\"}", strlen("{" P256 ",\"alg\":\"ES256\"}"), 0600,
               &ps512);
    cr_expect(out.set == NULL && strstr(out.all, "remove one of them") != NULL, "%s", out.all);
    unload(&out);
    load_bytes(&out, jwk, strlen(jwk), 0600, &es256);
    cr_expect(out.set == NULL && strstr(out.all, "does not fit") != NULL, "%s", out.all);
    unload(&out);
    free(jwk);
}

Test(keyset, keys_for_other_purposes_are_refused)
{
    refused("{" P256 ",\"use\":\"enc\"}", "\"use\"");
    refused("{" P256 ",\"use\":\"SIG\"}", "\"use\"");
    refused("{" P256 ",\"use\":null}", "\"use\"");
    refused("{" P256 ",\"key_ops\":[\"sign\"]}", "\"key_ops\"");
    refused("{" P256 ",\"key_ops\":[]}", "\"key_ops\"");
    refused("{" P256 ",\"key_ops\":\"verify\"}", "\"key_ops\"");
    refused("{" P256 ",\"key_ops\":[\"verify\",1]}", "\"key_ops\"");
}

/* Keycloak, Azure AD and others publish encryption keys, and kinds yet to come, in the same set. */
Test(keyset, in_a_jwks_keys_for_other_purposes_are_passed_over_with_a_warning)
{
    static const struct {
        const char *key, *say;
    } rows[] = {
        {"{" P256 ",\"kid\":\"x\",\"use\":\"enc\"}", "\"use\" is not \"sig\""},
        {"{" P256 ",\"kid\":\"x\",\"use\":\"enc\",\"alg\":\"ECDH-ES+A256KW\"}", "\"use\""},
        {"{" P256 ",\"kid\":\"x\",\"alg\":\"RSA-OAEP-256-or-longer-names\"}", "unknown alg"},
        {"{" P256 ",\"kid\":\"x\",\"alg\":\"ECDH-ES\"}", "unknown alg"},
        {"{" P256 ",\"kid\":\"x\",\"key_ops\":[\"encrypt\",\"wrapKey\"]}", "\"key_ops\""},
        {"{\"kty\":\"AKP\",\"alg\":\"ML-DSA-65\",\"kid\":\"x\",\"pub\":\"AAAA\"}", "\"kty\""},
        {"{\"kty\":\"a type with a long name\",\"kid\":\"x\"}", "\"kty\""},
        {"{\"kty\":\"OKP\",\"crv\":\"X25519\",\"kid\":\"x\",\"x\":\"" ED25519_X "\"}", "\"crv\""},
        {"{\"kty\":\"EC\",\"crv\":\"brainpoolP256r1\",\"x\":\"AAAA\",\"y\":\"AAAA\"}", "\"crv\""},
        {"{" OCT32 ",\"use\":\"enc\"}", "\"use\""}, /* no mixture either: it is not used */
    };
    char text[1024];
    struct outcome out;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(text, sizeof(text), "{\"keys\":[\n%s,\n{" P256 ",\"kid\":\"good\"}]}",
                 rows[i].key);
        struct hlt_key_info info = loaded(text, NULL, &out);
        cr_expect(eq(sz, hlt_keyset_count(out.set), 1), "%s", rows[i].key);
        cr_expect(eq(str, (char *)info.kid, "good"));
        cr_assert(eq(sz, out.problems.count, 1), "%s", out.all);
        cr_expect(out.problems.item[0].kind == HLT_PROBLEM_WARNING);
        cr_expect(eq(uint, out.problems.item[0].line, 2));
        cr_expect(strstr(out.all, "passed over: ") != NULL && strstr(out.all, rows[i].say) != NULL,
                  "%s", out.all);
        unload(&out);
        snprintf(text, sizeof(text), "{\"keys\":[%s]}", rows[i].key);
        refused(text, "every key in it was passed over");
    }
}

Test(keyset, what_is_wrong_with_a_key_is_not_passed_over)
{
    refused("{\"keys\":[{" P256 "},{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" P256_X "\"}]}",
            "needs the member \"y\"");
    refused("{\"keys\":[{" P256 "},{" P256 ",\"alg\":\"ES384\"}]}", "does not fit");
    refused("{\"keys\":[{" P256 "},{" P256 ",\"use\":\"enc\",\"d\":\"" P256_X "\"}]}",
            "private members");
    refused("{\"keys\":[{" P256 "},{\"kty\":\"AKP\",\"d\":\"" P256_X "\"}]}", "private members");
    refused("{\"keys\":[{" P256 ",\"kid\":\"a\"},{" P256 ",\"kid\":\"b\",\"use\":7}]}", "\"use\"");
}

Test(keyset, points_off_the_curve_and_of_small_order_are_refused)
{
    refused("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" P256_Y "\",\"y\":\"" P256_X "\"}",
            "numbers do not make");
    refused("{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"" P256_X "\",\"y\":\"" P256_Y "\"}",
            "numbers do not make");
    /* the identity and a point of order 8: anybody can sign for them */
    refused("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
            "AAA\"}",
            "not a usable point");
    refused("{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"xxdqcD1N2E-6PAt2DRBnDyogU_"
            "osOczGTsf9d5KsA3o\"}",
            "not a usable point");
}

Test(keyset, members_are_strict)
{
    static const struct {
        const char *jwk, *say;
    } rows[] = {
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" P256_X "=\",\"y\":\"" P256_Y "\"}",
         "base64url"},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" P256_X "AA\",\"y\":\"" P256_Y "\"}", ""},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AAAA\",\"y\":\"" P256_Y "\"}", "32"},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" P256_X "\"}", "needs the member \"y\""},
        {"{\"kty\":\"EC\",\"crv\":\"P-257\",\"x\":\"AAAA\",\"y\":\"AAAA\"}", "\"crv\""},
        {"{\"kty\":\"EC\",\"x\":\"" P256_X "\",\"y\":\"" P256_Y "\"}", "\"crv\""},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":7,\"y\":\"" P256_Y "\"}", "\"x\""},
        {"{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"" ED25519_X "\"}", "\"crv\""},
        {"{\"kty\":\"RSA\",\"n\":\"AQAB\"}", "needs the member \"e\""},
        {"{\"kty\":\"oct\"}", "needs the member \"k\""},
        {"{\"kty\":\"oct\",\"k\":\"\"}", "\"k\""},
        {"{\"kty\":\"ec\",\"crv\":\"P-256\"}", "\"kty\""},
        {"{\"kty\":[]}", "\"kty\""},
        {"{}", "\"kty\""},
        {"{" P256 ",\"kid\":\"\"}", "\"kid\""},
        {"{" P256 ",\"kid\":5}", "\"kid\""},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        refused(rows[i].jwk, rows[i].say);
    }
}

/* --- files that are no key files (trap C and the leniency of JSON readers) --- */

Test(keyset, keys_that_is_no_array_of_objects_is_an_error_and_no_abort)
{
    refused("{\"keys\":\"x\"}", "must be an array");
    refused("{\"keys\":{}}", "must be an array");
    refused("{\"keys\":null}", "must be an array");
    refused("{\"keys\":[]}", "is empty");
    refused("{\"keys\":[5]}", "must be a JSON object");
    refused("{\"keys\":[null,\"x\",[]]}", "must be a JSON object");
    refused("[{" P256 "}]", "object expected");
}

Test(keyset, json_is_strict_and_the_place_is_named)
{
    refused("{\"keys\":[{" P256 "},\n{" P256 ",\"kty\":\"EC\"}]}", "keys:2:");
    refused("{\"keys\":[],\"keys\":[{" P256 "}]}", "twice");
    refused("{'keys':[]}", "member name expected");
    refused("{\"keys\":[{" P256 "},]}", "value expected");
    refused("{" P256 ",\"kid\":\"a\\u0000b\"}", "\\u0000");
    refused("{" P256 "} x", "after the end");
    refused("\xEF\xBB\xBF{" P256 "}", "not a valid JSON");
    refused_bytes("{" P256 "}\0{}", strlen("{" P256 "}") + 3, "after the end", "NUL");
    refused("", "is empty");
    refused("\n", "is empty");
    refused("   \n", "");
    refused("hunter2", "at least 32 bytes");
}

Test(keyset, a_mistake_names_file_line_and_key)
{
    struct outcome out;
    static const char text[] = "{\"keys\": [\n  {" P256 ",\"kid\":\"good\"},\n\n  {" P256
                               ",\"kid\":\"b\\u001bad\",\"use\":5}\n]}";

    load_bytes(&out, text, strlen(text), 0600, NULL);
    cr_assert(eq(sz, out.problems.errors, 1));
    cr_expect(eq(uint, out.problems.item[0].line, 4));
    cr_expect(strstr(out.all, "key 2 (kid \"b\\x1Bad\")") != NULL ||
                  strstr(out.all, "key 2 (kid \"b\\x1bad\")") != NULL,
              "%s", out.all);
    unload(&out);
}

Test(keyset, every_mistake_of_every_file_is_told)
{
    char *one = file_with("{\"keys\":[{},{" P256 ",\"use\":5}]}",
                          strlen("{\"keys\":[{},{" P256 ",\"use\":5}]}"), 0600);
    char *two = file_with("short", 5, 0600);
    struct hlt_key_source sources[] = {{.path = one}, {.path = two}, {.path = "/nonexistent/keys"}};
    struct outcome out;

    load(&out, sources, 3);
    cr_expect(eq(sz, out.problems.errors, 4), "%s", out.all);
    unload(&out);
    load(&out, NULL, 0);
    cr_expect(eq(sz, out.problems.errors, 1), "no files, no keys: %s", out.all);
    unload(&out);
    file_remove(one);
    file_remove(two);
}

/* --- kid --- */

Test(keyset, a_kid_names_one_key_in_all_files)
{
    struct outcome out;
    char *path = file_with("{" P256 ",\"kid\":\"a\"}", strlen("{" P256 ",\"kid\":\"a\"}"), 0644);
    struct hlt_key_source sources[] = {{.path = path}, {.path = path}};

    refused("{\"keys\":[{" P256 ",\"kid\":\"a\"},{" P256 ",\"kid\":\"a\"}]}",
            "kid \"a\" is also in");
    refused("{\"keys\":[{" P256 ",\"kid\":\"a\"},{" P256 ",\"kid\":\"\\u0061\"}]}", "also in");
    load(&out, sources, 2);
    cr_expect(out.set == NULL && strstr(out.all, "also in") != NULL, "%s", out.all);
    unload(&out);
    file_remove(path);
}

Test(keyset, a_kid_has_at_most_255_bytes)
{
    char kid[300], text[1024];
    struct outcome out;

    memset(kid, 'k', sizeof(kid));
    snprintf(text, sizeof(text), "{" P256 ",\"kid\":\"%.255s\"}", kid);
    loaded(text, NULL, &out);
    unload(&out);
    snprintf(text, sizeof(text), "{" P256 ",\"kid\":\"%.256s\"}", kid);
    refused(text, "\"kid\"");
}

Test(keyset, the_option_s_kid_names_a_file_s_only_key)
{
    struct hlt_key_source settings = {.kid = "from-option", .issuer = "https://id"};
    static const char two[] = "{\"keys\":[{" P256 "},{" P256 "}]}";
    struct outcome out;
    struct hlt_key_info info = loaded("{" P256 "}", &settings, &out);

    cr_expect(eq(str, (char *)info.kid, "from-option"));
    cr_expect(eq(str, (char *)info.issuer, "https://id"));
    unload(&out);
    load_bytes(&out, two, strlen(two), 0600, &settings);
    cr_expect(out.set == NULL && strstr(out.all, "kid= can only name one") != NULL, "%s", out.all);
    unload(&out);
    load_bytes(&out, "{" P256 ",\"kid\":\"own\"}", strlen("{" P256 ",\"kid\":\"own\"}"), 0600,
               &settings);
    cr_expect(out.set == NULL && strstr(out.all, "another kid") != NULL, "%s", out.all);
    unload(&out);
}

Test(keyset, a_key_that_no_token_can_reach_is_warned_of)
{
    struct outcome out;

    loaded("{\"keys\":[{" P256 ",\"kid\":\"a\"},{" P256 "}]}", NULL, &out);
    cr_expect(eq(sz, out.problems.warnings, 1), "%s", out.all);
    unload(&out);
}

Test(keyset, more_keys_than_the_limit_are_refused)
{
    size_t room = (HLT_KEYS_MAX + 1) * 200;
    char *text = must(malloc(room));

    for (size_t count = HLT_KEYS_MAX; count <= HLT_KEYS_MAX + 1; count++) {
        size_t used = (size_t)snprintf(text, room, "{\"keys\":[");
        struct outcome out;
        for (size_t i = 0; i < count; i++) {
            used += (size_t)snprintf(text + used, room - used,
                                     "%s{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" ED25519_X
                                     "\",\"kid\":\"k%zu\"}",
                                     i > 0 ? "," : "", i);
        }
        snprintf(text + used, room - used, "]}");
        load_bytes(&out, text, strlen(text), 0600, NULL);
        bool good = count <= HLT_KEYS_MAX;
        cr_expect(good == (out.set != NULL), "%zu: %s", count, out.all);
        unload(&out);
    }
    free(text);
}

/* --- the option's value --- */

Test(keyset, a_keys_file_option_is_settings_and_a_path)
{
    static const struct {
        const char *value, *path, *alg, *kid, *issuer;
    } rows[] = {
        {"/etc/keys.json", "/etc/keys.json", NULL, NULL, NULL},
        {"alg=PS256 /etc/k", "/etc/k", "PS256", NULL, NULL},
        {"issuer=https://id?a=b  kid=k-1\talg=ES256  /etc/k", "/etc/k", "ES256", "k-1",
         "https://id?a=b"},
        {"kid=x /etc/with blank and=sign", "/etc/with blank and=sign", NULL, "x", NULL},
        {"./alg=ES256", "./alg=ES256", NULL, NULL, NULL},
        {"Keys=1", "Keys=1", NULL, NULL, NULL},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_key_source source;
        char *storage = NULL;
        struct hlt_err err;
        cr_assert(eq(int, hlt_key_source_parse(rows[i].value, &source, &storage, &err), HLT_OK),
                  "%s", rows[i].value);
        const char *const got[] = {source.path, source.alg, source.kid, source.issuer};
        const char *const want[] = {rows[i].path, rows[i].alg, rows[i].kid, rows[i].issuer};
        for (size_t k = 0; k < 4; k++) {
            bool same =
                want[k] == NULL ? got[k] == NULL : got[k] != NULL && strcmp(got[k], want[k]) == 0;
            cr_expect(same, "%s: member %zu", rows[i].value, k);
        }
        free(storage);
    }
}

Test(keyset, a_keys_file_option_with_a_mistake_is_refused)
{
    static const struct {
        const char *value, *say;
    } rows[] = {{"", "names no file"},
                {"alg=ES256", "names no file"},
                {"alg=ES256 ", "names no file"},
                {"alg= /k", "no value"},
                {"alg=ES256 alg=ES256 /k", "twice"},
                {"alg=ES255 /k", "did you mean"},
                {"algo=ES256 /k", "did you mean alg"},
                {"typ=jwks /k", "no setting"}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_key_source source;
        char *storage = NULL;
        struct hlt_err err = {{0}};
        cr_expect(ne(int, hlt_key_source_parse(rows[i].value, &source, &storage, &err), HLT_OK),
                  "%s", rows[i].value);
        cr_expect(storage == NULL);
        cr_expect(strstr(err.msg, rows[i].say) != NULL, "%s: %s", rows[i].value, err.msg);
    }
}

/* --- JWKs as such --- */

Test(keyset, thumbprints_are_those_of_rfc_7638_and_rfc_8037)
{
    static const struct {
        const char *jwk, *want;
    } rows[] = {
        {"{\"kty\":\"RSA\",\"n\":\"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86z"
         "wu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5"
         "w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpb"
         "ISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8aw"
         "apJzKnqDKgw\",\"e\":\"AQAB\",\"alg\":\"RS256\",\"kid\":\"2011-04-29\"}",
         "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
        {"{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" ED25519_X "\"}",
         "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct hlt_jwk jwk = {0};
        char thumbprint[HLT_THUMBPRINT_BYTES];
        struct hlt_err err;
        cr_assert(eq(int, hlt_jwk_read(&jwk, rows[i].jwk, strlen(rows[i].jwk), &err), HLT_OK));
        cr_assert(hlt_jwk_thumbprint(&jwk, thumbprint));
        cr_expect(eq(str, thumbprint, (char *)rows[i].want));
        hlt_jwk_free(&jwk);
    }
}

Test(keyset, openssl_keys_become_the_jwks_that_others_write)
{
    static const char *const algs[] = {"RS256",  "ES256", "ES384", "ES512",
                                       "ES256K", "EdDSA", "Ed448"};

    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        struct signer signer = signer_new(algs[i]);
        struct hlt_jwk ours = {0}, theirs = {0};
        char *text = jwk_of(&signer, NULL, NULL);
        struct hlt_err err;
        cr_assert(eq(int, hlt_jwk_from_pkey(&ours, signer.pkey, false, &err), HLT_OK));
        cr_assert(eq(int, hlt_jwk_read(&theirs, text, strlen(text), &err), HLT_OK));
        char *a = hlt_jwk_text(&ours, HLT_JWK_BARE), *b = hlt_jwk_text(&theirs, HLT_JWK_BARE);
        cr_expect(eq(str, a, b));
        hlt_jwk_text_free(a);
        hlt_jwk_text_free(b);
        hlt_jwk_free(&ours);
        hlt_jwk_free(&theirs);
        free(text);
        EVP_PKEY_free(signer.pkey);
    }
}

Test(keyset, no_private_member_is_written_unless_asked_for)
{
    struct signer signer = signer_new("RS256");
    struct hlt_jwk jwk = {0};
    struct hlt_err err;

    cr_assert(eq(int, hlt_jwk_from_pkey(&jwk, signer.pkey, true, &err), HLT_OK));
    cr_expect(hlt_jwk_is_private(&jwk));
    for (int detail = HLT_JWK_THUMBPRINT; detail <= HLT_JWK_PRIVATE; detail++) {
        char *text = hlt_jwk_text(&jwk, (enum hlt_jwk_detail)detail);
        bool private_wanted = detail == HLT_JWK_PRIVATE || detail == HLT_JWK_BARE_PRIVATE;
        bool has_d = strstr(text, "\"d\":") != NULL, has_p = strstr(text, "\"p\":") != NULL;
        cr_expect(has_d == private_wanted, "detail %d", detail);
        cr_expect(has_p == private_wanted, "detail %d", detail);
        hlt_jwk_text_free(text);
    }
    hlt_jwk_free(&jwk);
    EVP_PKEY_free(signer.pkey);
}
