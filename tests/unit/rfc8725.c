/* rfc8725.c - JSON Web Token Best Current Practices: each attack of section 2 and each
 * recommendation of section 3 is a test of its own, named by its section. */
#include <arpa/inet.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include "judging.h"

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

static void expect_payload(struct world *world, const char *payload, enum hlt_reason want)
{
    char *token = sign(&world->signer, "k", payload);

    EXPECT(world->keys, token, want);
    free(token);
}

/* The same token with other bytes for its signature. */
static void expect_forged(const struct world *world, const char *token, const unsigned char *sig,
                          size_t len)
{
    char forged[4096], *text = b64u(sig, len);

    snprintf(forged, sizeof(forged), "%.*s.%s", (int)(strrchr(token, '.') - token), token, text);
    EXPECT(world->keys, forged, HLT_REASON_SIGNATURE);
    free(text);
}

static void expect_refused_key(const char *jwk, const char *why)
{
    char problem[1024];
    struct hlt_keyset *set = load(jwk, problem, sizeof(problem));

    cr_expect(set == NULL && strstr(problem, why) != NULL, "%s: %s", jwk, problem);
    hlt_keyset_free(set);
}

static const char *const every_alg[] = {"HS256", "HS384", "HS512",  "RS256", "RS384",
                                        "RS512", "PS256", "PS384",  "PS512", "ES256",
                                        "ES384", "ES512", "ES256K", "EdDSA"};
#define ALGS (sizeof(every_alg) / sizeof(every_alg[0]))

/* --- section 2: threats --- */

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

/* "Insecure use of elliptic curve encryption": no key agreement with a point the sender chose.
 * Nothing is decrypted, whatever `epk` says. */
Test(rfc8725, s2_5_no_key_is_agreed_with_the_sender)
{
    struct world world = world_of("ES256");
    char *jwk = raw_jwk(&world.signer), header[1024], jwe[2048];

    snprintf(header, sizeof(header),
             "{\"alg\":\"ECDH-ES\",\"enc\":\"A128GCM\",\"kid\":\"k\",\"epk\":{%s}}", jwk);
    char *text = b64u(header, strlen(header));
    snprintf(jwe, sizeof(jwe), "%s..AAAA.AAAA.AAAA", text);
    EXPECT(world.keys, jwe, HLT_REASON_UNSUPPORTED);
    expect_signed(&world, header, "{" GOOD "}", HLT_REASON_UNSUPPORTED);
    free(text);
    free(jwk);
    end_world(&world);
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

/* --- section 3: recommendations --- */

/* "Perform algorithm verification": every pair of a key's algorithm and another one's name. */
Test(rfc8725, s3_1_a_key_is_for_one_algorithm)
{
    char header[64];

    for (size_t i = 0; i < ALGS; i++) {
        struct world world = world_of(every_alg[i]);
        char *own = sign(&world.signer, "k", "{" GOOD "}");
        EXPECT(world.keys, own, HLT_REASON_OK);
        free(own);
        for (size_t k = 0; k < ALGS; k++) {
            bool rsa =
                strchr("RP", every_alg[i][0]) != NULL && strchr("RP", every_alg[k][0]) != NULL;
            bool hmac = every_alg[i][0] == 'H' && every_alg[k][0] == 'H';
            /* where the key can make it, the other algorithm's own signature: a good one */
            const char *made_by = rsa || hmac ? every_alg[k] : every_alg[i];
            snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"k\"}", every_alg[k]);
            char *token = sign_raw(&world.signer, made_by, header, strlen(header), "{" GOOD "}",
                                   strlen("{" GOOD "}"));
            if (i != k) {
                EXPECT(world.keys, token, HLT_REASON_ALG);
            }
            free(token);
        }
        end_world(&world);
    }
}

/* "Use appropriate algorithms": what is not listed is not spoken. */
Test(rfc8725, s3_2_unknown_algorithms_are_refused)
{
    static const char *const algs[] = {"RS1",     "HS1",   "RSA1_5", "RSA-OAEP", "ES256K1",
                                       "Ed25519", "es256", "dir",    "none",     ""};
    struct world world = world_of("ES256");
    char header[64];

    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"k\"}", algs[i]);
        expect_signed(&world, header, "{" GOOD "}", HLT_REASON_ALG);
    }
    end_world(&world);
}

/* "Validate all cryptographic operations": header, payload and signature, to the last character. */
Test(rfc8725, s3_3_no_character_can_be_changed)
{
    static const char *const algs[] = {"HS256", "RS256", "PS256", "ES256", "EdDSA"};

    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        struct world world = world_of(algs[i]);
        char *token = sign(&world.signer, "k", "{" GOOD "}");
        for (char *at = token; *at != '\0'; at++) {
            char was = *at;
            *at = was == 'A' ? 'B' : 'A';
            cr_expect(judge(world.keys, token) != HLT_REASON_OK, "%s: character %td", algs[i],
                      at - token);
            *at = '\0'; /* cut off there */
            cr_expect(judge(world.keys, token) != HLT_REASON_OK, "%s: cut at %td", algs[i],
                      at - token);
            *at = was;
        }
        EXPECT(world.keys, token, HLT_REASON_OK);
        free(token);
        end_world(&world);
    }
}

/* r and s as numbers: of an ECDSA signature with `half` bytes each. */
static void expect_numbers(const struct world *world, const char *token, const BIGNUM *r,
                           const BIGNUM *s, int half)
{
    unsigned char sig[132];

    BN_bn2binpad(r, sig, half);
    BN_bn2binpad(s, sig + half, half);
    expect_forged(world, token, sig, 2 * (size_t)half);
}

/* "Validate cryptographic inputs". CVE-2022-21449: zero for both numbers of an ECDSA signature held
 * under every key; so would multiples of the group's order. */
Test(rfc8725, s3_4_ecdsa_numbers_out_of_range_are_refused)
{
    static const struct {
        const char *alg;
        int nid, half;
    } rows[] = {{"ES256", NID_X9_62_prime256v1, 32},
                {"ES384", NID_secp384r1, 48},
                {"ES512", NID_secp521r1, 66},
                {"ES256K", NID_secp256k1, 32}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct world world = world_of(rows[i].alg);
        char *token = sign(&world.signer, "k", "{" GOOD "}");
        EC_GROUP *group = must(EC_GROUP_new_by_curve_name(rows[i].nid));
        BIGNUM *number[4] = {BN_new(), BN_new(), BN_dup(EC_GROUP_get0_order(group)),
                             BN_dup(EC_GROUP_get0_order(group))};
        unsigned char ones[132];
        BN_one(number[1]);
        BN_add_word(number[3], 1);
        for (size_t r = 0; r < 4; r++) {
            for (size_t s = 0; s < 4; s++) {
                expect_numbers(&world, token, number[r], number[s], rows[i].half);
            }
        }
        memset(ones, 0xff, sizeof(ones));
        expect_forged(&world, token, ones, 2 * (size_t)rows[i].half);
        for (size_t k = 0; k < 4; k++) {
            BN_free(number[k]);
        }
        EC_GROUP_free(group);
        free(token);
        end_world(&world);
    }
}

/* A number of an RSA signature that is no smaller than the modulus, and those that are their own
 * power. */
Test(rfc8725, s3_4_rsa_numbers_out_of_range_are_refused)
{
    static const char *const algs[] = {"RS256", "PS256"};

    for (size_t i = 0; i < 2; i++) {
        struct world world = world_of(algs[i]);
        char *token = sign(&world.signer, "k", "{" GOOD "}");
        BIGNUM *number = NULL;
        unsigned char sig[256] = {0};
        expect_forged(&world, token, sig, sizeof(sig));
        sig[255] = 1;
        expect_forged(&world, token, sig, sizeof(sig));
        EVP_PKEY_get_bn_param(world.signer.pkey, "n", &number);
        BN_bn2binpad(number, sig, sizeof(sig));
        expect_forged(&world, token, sig, sizeof(sig));
        BN_sub_word(number, 1);
        BN_bn2binpad(number, sig, sizeof(sig));
        expect_forged(&world, token, sig, sizeof(sig));
        memset(sig, 0xff, sizeof(sig));
        expect_forged(&world, token, sig, sizeof(sig));
        BN_free(number);
        free(token);
        end_world(&world);
    }
}

/* RFC 8032 section 5.1.7: S below the group's order, else every signature has a second spelling. */
Test(rfc8725, s3_4_eddsa_numbers_out_of_range_are_refused)
{
    static const unsigned char order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a,       0x63,
                                            0x12, 0x58, 0xd6, 0x9c, 0xf7,       0xa2,
                                            0xde, 0xf9, 0xde, 0x14, [31] = 0x10};
    struct world world = world_of("EdDSA"), other = world_of("Ed448");
    char *token = sign(&world.signer, "k", "{" GOOD "}"), text[512];
    unsigned char sig[114], zeros[114] = {0}, carry = 0;

    snprintf(text, sizeof(text), "%.*s", (int)(strrchr(token, '.') - token), token);
    cr_assert(sign_bytes(&world.signer, "EdDSA", text, sig) == 64); /* deterministic: the token's */
    for (size_t i = 0; i < 32; i++) {
        unsigned sum = (unsigned)sig[32 + i] + order[i] + carry;
        sig[32 + i] = (unsigned char)sum;
        carry = (unsigned char)(sum >> 8);
    }
    expect_forged(&world, token, sig, 64);
    expect_forged(&world, token, zeros, 64);
    zeros[0] = 1; /* R is the neutral element, S is 0 */
    expect_forged(&world, token, zeros, 64);
    free(token);
    token = sign(&other.signer, "k", "{" GOOD "}");
    expect_forged(&other, token, zeros, 114);
    memset(sig, 0xff, sizeof(sig));
    expect_forged(&other, token, sig, 114);
    free(token);
    end_world(&world);
    end_world(&other);
}

#define X256 "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"
#define Y256 "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"

/* Keys are points, too. */
Test(rfc8725, s3_4_ec_keys_off_their_curve_are_refused_at_load)
{
    static const char *const crvs[] = {"P-256", "P-384", "P-521", "secp256k1"};
    static const char *const algs[] = {"ES256", "ES384", "ES512", "ES256K"};
    char jwk[1024];

    for (size_t i = 0; i < 4; i++) {
        struct signer signer = signer_new(algs[i]);
        int bytes = (EVP_PKEY_get_bits(signer.pkey) + 7) / 8;
        char *x = bn_member(signer.pkey, OSSL_PKEY_PARAM_EC_PUB_X, bytes);
        char *y = bn_member(signer.pkey, OSSL_PKEY_PARAM_EC_PUB_Y, bytes);
        unsigned char zeros[66] = {0}, ones[66];
        memset(ones, 0xff, sizeof(ones));
        char *zero = b64u(zeros, (size_t)bytes), *huge = b64u(ones, (size_t)bytes);
        const char *const pairs[][2] = {{x, x}, {y, x}, {zero, zero}, {x, zero}, {huge, huge}};
        for (size_t k = 0; k < 5; k++) {
            snprintf(jwk, sizeof(jwk), "{\"kty\":\"EC\",\"crv\":\"%s\",\"x\":\"%s\",\"y\":\"%s\"}",
                     crvs[i], pairs[k][0], pairs[k][1]);
            expect_refused_key(jwk, i == 2 && k == 4 ? "" : "do not make a EC key");
        }
        free(x);
        free(y);
        free(zero);
        free(huge);
        EVP_PKEY_free(signer.pkey);
    }
    /* a good point, but of the other curve of 32 bytes */
    expect_refused_key("{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"" X256 "\",\"y\":\"" Y256
                       "\"}",
                       "do not make a EC key");
}

/* Under a point of small order everybody can sign: order 1, 2, 4 and 8 of Ed25519 and their other
 * spellings (y of p and p + 1), all of Ed448's. */
Test(rfc8725, s3_4_eddsa_keys_of_small_order_are_refused_at_load)
{
    static const char *const ed25519[] = {
        "0100000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0200000000000000000000000000000000000000000000000000000000000000", /* off the curve */
    };
    unsigned char point[57];
    char jwk[256];

    for (size_t i = 0; i < sizeof(ed25519) / sizeof(ed25519[0]); i++) {
        for (size_t k = 0; k < 32; k++) {
            unsigned byte = 0;
            sscanf(ed25519[i] + 2 * k, "%2x", &byte);
            point[k] = (unsigned char)byte;
        }
        char *x = b64u(point, 32);
        snprintf(jwk, sizeof(jwk), "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"}", x);
        expect_refused_key(jwk, "not a usable point");
        free(x);
    }
    for (int i = 0; i < 10; i++) { /* y of -1, 0, 1 (p - 1, p, p + 1), with both signs of x */
        int y = i % 5;
        memset(point, 0, sizeof(point));
        if (y < 2) {
            point[0] = (unsigned char)y;
        } else if (y < 4) { /* p = 2^448 - 2^224 - 1 */
            memset(point, 0xff, 56);
            point[0] = y == 2 ? 0xfe : 0xff;
            point[28] = 0xfe;
        } else { /* p + 1: a 1 in the place of 2^224 borrows from above alone */
            memset(point + 28, 0xff, 28);
        }
        point[56] = i < 5 ? 0x00 : 0x80;
        char *x = b64u(point, 57);
        snprintf(jwk, sizeof(jwk), "{\"kty\":\"OKP\",\"crv\":\"Ed448\",\"x\":\"%s\"}", x);
        expect_refused_key(jwk, "not a usable point");
        free(x);
    }
}

/* A key of one curve under another's algorithm. */
Test(rfc8725, s3_4_a_curve_has_one_algorithm)
{
    static const char *const algs[] = {"ES256", "ES384", "ES512", "ES256K", "EdDSA"};

    for (size_t i = 0; i < 5; i++) {
        struct signer signer = signer_new(algs[i]);
        for (size_t k = 0; k < 5; k++) {
            char *jwk = jwk_of(&signer, "k", algs[k]);
            if (i != k) {
                expect_refused_key(jwk, "does not fit");
            }
            free(jwk);
        }
        EVP_PKEY_free(signer.pkey);
    }
}

/* "Ensure cryptographic keys have sufficient entropy": a secret no shorter than the hash (RFC 7518
 * section 3.2), RSA of 2048 bits (3.3) and an exponent that does something. */
Test(rfc8725, s3_5_short_keys_are_refused_at_load)
{
    static const struct {
        const char *alg;
        size_t least;
    } rows[] = {{"HS256", 32}, {"HS384", 48}, {"HS512", 64}};
    char problem[1024];

    for (size_t i = 0; i < 3; i++) {
        struct signer signer = signer_new(rows[i].alg);
        signer.secret_len = rows[i].least;
        char *jwk = jwk_of(&signer, "k", rows[i].alg);
        struct hlt_keyset *set = load(jwk, problem, sizeof(problem));
        cr_expect(set != NULL, "%s", problem);
        hlt_keyset_free(set);
        free(jwk);
        signer.secret_len--;
        jwk = jwk_of(&signer, "k", rows[i].alg);
        expect_refused_key(jwk, "at least");
        free(jwk);
    }
    struct signer small = {.alg = "RS256",
                           .pkey = must(EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)1024))};
    char *jwk = jwk_of(&small, "k", "RS256");
    expect_refused_key(jwk, "2048");
    free(jwk);
    EVP_PKEY_free(small.pkey);
    struct signer signer = signer_new("RS256");
    char *n = bn_member(signer.pkey, "n", 0), idle[1024];
    snprintf(idle, sizeof(idle), "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"AQ\"}", n);
    expect_refused_key(idle, "exponent");
    free(n);
    EVP_PKEY_free(signer.pkey);
}

/* "Avoid compression of encryption inputs". Not for signatures either: RFC 7515 knows no `zip`. */
Test(rfc8725, s3_6_nothing_is_inflated)
{
    static const unsigned char deflated[] = {
        0xab, 0x56, 0x2a, 0x2e, 0x4d, 0x52, 0xb2, 0x52,
        0x4a, 0x49, 0x2d, 0x33, 0x54, 0xaa, 0x05, 0x00}; /* {"sub":"dev1"} */
    static const char *const zips[] = {"\"DEF\"", "\"GZ\"", "\"\"", "null", "false"};
    struct world world = world_of("ES256");
    char header[128];

    for (size_t i = 0; i < sizeof(zips) / sizeof(zips[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"kid\":\"k\",\"zip\":%s}", zips[i]);
        expect_signed(&world, header, "{" GOOD "}", HLT_REASON_UNSUPPORTED);
        char *token =
            sign_raw(&world.signer, "ES256", header, strlen(header), deflated, sizeof(deflated));
        EXPECT(world.keys, token, HLT_REASON_UNSUPPORTED);
        free(token);
    }
    char *token = sign_raw(&world.signer, "ES256", "{\"alg\":\"ES256\",\"kid\":\"k\"}", 26,
                           deflated, sizeof(deflated));
    EXPECT(world.keys, token, HLT_REASON_MALFORMED);
    free(token);
    end_world(&world);
}

/* "Use UTF-8": valid, in header and payload, and compared byte by byte. */
Test(rfc8725, s3_7_only_valid_utf_8_is_read)
{
    static const char *const bad[] = {
        "\xC0\xAF",         /* "/" in two bytes */
        "\xE0\x80\xAF",     /* in three */
        "\xF0\x80\x80\xAF", /* in four */
        "\xED\xA0\x80",     /* half of a surrogate pair */
        "\xF4\x90\x80\x80", /* over U+10FFFF */
        "\xC3",             /* cut off */
        "\xE9",             /* Latin-1 */
        "\xFF\xFE",         /* the mark of UTF-16 */
    };
    struct world world = world_of("HS256");
    char text[256], header[256];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(text, sizeof(text), "{" GOOD ",\"x\":\"%s\"}", bad[i]);
        expect_payload(&world, text, HLT_REASON_MALFORMED);
        snprintf(text, sizeof(text), "{" GOOD ",\"%s\":1}", bad[i]);
        expect_payload(&world, text, HLT_REASON_MALFORMED);
        snprintf(header, sizeof(header), "{\"alg\":\"HS256\",\"kid\":\"k\",\"x\":\"%s\"}", bad[i]);
        expect_signed(&world, header, "{" GOOD "}", HLT_REASON_MALFORMED);
    }
    expect_payload(&world, "{" GOOD ",\"x\":\"caf\xC3\xA9 \xF0\x9F\xA6\x9F\"}", HLT_REASON_OK);
    end_world(&world);
}

/* "Validate issuer and subject". */
Test(rfc8725, s3_8_issuer_and_subject_are_validated)
{
#define REST ",\"aud\":\"broker\",\"exp\":1800000600}"
    static const struct {
        const char *payload;
        enum hlt_reason want;
    } rows[] = {
        {"{\"sub\":\"dev1\",\"iss\":\"https://id\"" REST, HLT_REASON_OK},
        {"{\"sub\":\"dev1\",\"iss\":\"https:\\/\\/id\"" REST, HLT_REASON_OK}, /* the same text */
        {"{\"sub\":\"dev1\"" REST, HLT_REASON_CLAIM_MISSING},
        {"{\"sub\":\"dev1\",\"iss\":\"https://id/\"" REST, HLT_REASON_ISSUER},
        {"{\"sub\":\"dev1\",\"iss\":\"https://ID\"" REST, HLT_REASON_ISSUER},
        {"{\"sub\":\"dev1\",\"iss\":\"https://id.evil\"" REST, HLT_REASON_ISSUER},
        {"{\"sub\":\"dev1\",\"iss\":\"https://i\"" REST, HLT_REASON_ISSUER},
        {"{\"sub\":\"dev1\",\"iss\":\"\"" REST, HLT_REASON_CLAIM_INVALID},
        {"{\"sub\":\"dev1\",\"iss\":[\"https://id\"]" REST, HLT_REASON_CLAIM_INVALID},
        {"{\"sub\":\"dev1\",\"iss\":null" REST, HLT_REASON_CLAIM_INVALID},
        {"{\"iss\":\"https://id\"" REST, HLT_REASON_CLAIM_MISSING},
        {"{\"sub\":\"\",\"iss\":\"https://id\"" REST, HLT_REASON_SUBJECT},
        {"{\"sub\":\"+\",\"iss\":\"https://id\"" REST, HLT_REASON_SUBJECT},
        {"{\"sub\":\"a/b\",\"iss\":\"https://id\"" REST, HLT_REASON_SUBJECT},
        {"{\"sub\":\"$SYS\",\"iss\":\"https://id\"" REST, HLT_REASON_SUBJECT},
        {"{\"sub\":\"dev1 \",\"iss\":\"https://id\"" REST, HLT_REASON_SUBJECT},
        {"{\"sub\":\"a\\uFFFE\",\"iss\":\"https://id\"" REST, HLT_REASON_SUBJECT},
        {"{\"sub\":\"a\\uFDD0\",\"iss\":\"https://id\"" REST, HLT_REASON_SUBJECT},
        {"{\"sub\":\"a\\uD83F\\uDFFF\",\"iss\":\"https://id\"" REST, HLT_REASON_SUBJECT},
        {"{\"sub\":\"a\\u0085\",\"iss\":\"https://id\"" REST, HLT_REASON_SUBJECT},
        {"{\"sub\":[\"dev1\"],\"iss\":\"https://id\"" REST, HLT_REASON_CLAIM_INVALID},
        {"{\"sub\":1,\"iss\":\"https://id\"" REST, HLT_REASON_CLAIM_INVALID},
    };
    struct world world = world_of("HS256");

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        expect_payload(&world, rows[i].payload, rows[i].want);
    }
    end_world(&world);
}

/* "Use and validate audience". */
Test(rfc8725, s3_9_the_audience_is_this_broker)
{
#define MINE "{\"sub\":\"dev1\",\"iss\":\"https://id\",\"exp\":1800000600"
    static const struct {
        const char *payload;
        enum hlt_reason want;
    } rows[] = {
        {MINE ",\"aud\":\"broker\"}", HLT_REASON_OK},
        {MINE ",\"aud\":[\"shop\",\"broker\"]}", HLT_REASON_OK},
        {MINE "}", HLT_REASON_CLAIM_MISSING},
        {MINE ",\"aud\":\"shop\"}", HLT_REASON_AUDIENCE},
        {MINE ",\"aud\":[\"shop\",\"mail\"]}", HLT_REASON_AUDIENCE},
        {MINE ",\"aud\":\"Broker\"}", HLT_REASON_AUDIENCE},
        {MINE ",\"aud\":\"broker,shop\"}", HLT_REASON_AUDIENCE},
        {MINE ",\"aud\":\"*\"}", HLT_REASON_AUDIENCE},
        {MINE ",\"aud\":[]}", HLT_REASON_CLAIM_INVALID},
        {MINE ",\"aud\":{\"broker\":1}}", HLT_REASON_CLAIM_INVALID},
        {MINE ",\"aud\":[\"broker\",{}]}", HLT_REASON_CLAIM_INVALID},
    };
    struct world world = world_of("HS256");

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        expect_payload(&world, rows[i].payload, rows[i].want);
    }
    end_world(&world);
}

/* "Do not trust received claims": no key is taken from the token, no address in it is called. */
Test(rfc8725, s3_10_nothing_the_header_names_is_fetched)
{
    static const char *const members[] = {"jku", "x5u", "kid", "iss"};
    struct world world = world_of("ES256");
    struct signer thief = signer_new("ES256");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    char *jwk = jwk_of(&thief, "k", "ES256"), header[1024];

    cr_assert(bind(server, (struct sockaddr *)&address, len) == 0 && listen(server, 8) == 0 &&
              getsockname(server, (struct sockaddr *)&address, &len) == 0);
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"%s\":\"http://127.0.0.1:%d/keys\"}",
                 members[i], ntohs(address.sin_port));
        expect_signed(&world, header, "{" GOOD "}",
                      strcmp(members[i], "kid") == 0 ? HLT_REASON_UNKNOWN_KEY : HLT_REASON_OK);
        char *token = sign_with(&thief, header, "{" GOOD "}");
        EXPECT(world.keys, token,
               strcmp(members[i], "kid") == 0 ? HLT_REASON_UNKNOWN_KEY : HLT_REASON_SIGNATURE);
        free(token);
    }
    cr_expect(accept(server, NULL, NULL) < 0, "somebody called");
    close(server);
    snprintf(header, sizeof(header),
             "{\"alg\":\"ES256\",\"kid\":\"k\",\"x5c\":[\"AAAA\"],\"jwk\":%s}", jwk);
    char *token = sign_with(&thief, header, "{" GOOD "}");
    EXPECT(world.keys, token, HLT_REASON_SIGNATURE);
    free(token);
    free(jwk);
    EVP_PKEY_free(thief.pkey);
    end_world(&world);
}

/* "Use explicit typing": JWT or nothing, and at+jwt (RFC 9068); another type is another kind. */
Test(rfc8725, s3_11_the_type_is_looked_at)
{
    static const struct {
        const char *typ;
        enum hlt_reason want;
    } rows[] = {
        {"\"JWT\"", HLT_REASON_OK},
        {"\"jwt\"", HLT_REASON_OK},
        {"\"jWt\"", HLT_REASON_OK},
        {"\"application/jwt\"", HLT_REASON_OK},
        {"\"at+jwt\"", HLT_REASON_OK},
        {"\"application/AT+JWT\"", HLT_REASON_OK},
        {"\"secevent+jwt\"", HLT_REASON_UNSUPPORTED},
        {"\"dpop+jwt\"", HLT_REASON_UNSUPPORTED},
        {"\"application/secevent+jwt\"", HLT_REASON_UNSUPPORTED},
        {"\"application/\"", HLT_REASON_UNSUPPORTED},
        {"\"JWS\"", HLT_REASON_UNSUPPORTED},
        {"\"JWT \"", HLT_REASON_UNSUPPORTED},
        {"\"text/jwt\"", HLT_REASON_UNSUPPORTED},
        {"null", HLT_REASON_MALFORMED},
        {"[\"JWT\"]", HLT_REASON_MALFORMED},
    };
    struct world world = world_of("ES256");
    char header[128];

    expect_signed(&world, "{\"alg\":\"ES256\",\"kid\":\"k\"}", "{" GOOD "}", HLT_REASON_OK);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"kid\":\"k\",\"typ\":%s}",
                 rows[i].typ);
        expect_signed(&world, header, "{" GOOD "}", rows[i].want);
    }
    end_world(&world);
}

/* "Use mutually exclusive validation rules for different kinds of JWTs": two issuers, a key each,
 * and tokens of another kind by the right key. */
Test(rfc8725, s3_12_a_key_s_tokens_are_good_for_its_issuer_audience_and_kind_alone)
{
    static const char *const issuers[] = {"https://id", "https://fab"}, *const here[] = {"broker"};
    const struct hlt_token_rules rules = {.issuers = issuers,
                                          .issuer_count = 2,
                                          .audiences = here,
                                          .audience_count = 1,
                                          .max_bytes = HLT_TOKEN_MAX_DEFAULT,
                                          .require_exp = true,
                                          .require_iss = true,
                                          .require_aud = true};
    struct signer signer[2] = {signer_new("ES256"), signer_new("ES256")};
    struct hlt_key_source source[2] = {{.issuer = issuers[0]}, {.issuer = issuers[1]}};
    struct hlt_problems problems = {0};
    struct hlt_keyset *keys = NULL;
    static const char *const kids[] = {"a", "b"}, *const typs[] = {"JWT", "logout+jwt"},
                             *const auds[] = {"broker", "shop"};
    char header[128], payload[256], *path[2];

    for (size_t i = 0; i < 2; i++) {
        char *jwk = jwk_of(&signer[i], kids[i], "ES256");
        source[i].path = path[i] = file_with(jwk, strlen(jwk), 0600);
        free(jwk);
    }
    cr_assert(hlt_keyset_load(&keys, source, 2, &problems) == HLT_OK);
    struct hlt_verifier *verifier = must(hlt_verifier_new());
    for (unsigned bits = 0; bits < 32; bits++) { /* whose signature, kid, iss, typ and aud */
        size_t by = bits & 1, kid = bits >> 1 & 1, iss = bits >> 2 & 1, typ = bits >> 3 & 1;
        struct hlt_claims *claims = NULL;
        snprintf(header, sizeof(header), "{\"alg\":\"ES256\",\"kid\":\"%s\",\"typ\":\"%s\"}",
                 kids[kid], typs[typ]);
        snprintf(payload, sizeof(payload),
                 "{\"sub\":\"dev1\",\"iss\":\"%s\",\"aud\":\"%s\",\"exp\":1800000600}",
                 issuers[iss], auds[bits >> 4]);
        char *token = sign_with(&signer[by], header, payload);
        enum hlt_reason want = typ != 0         ? HLT_REASON_UNSUPPORTED
                               : by != kid      ? HLT_REASON_SIGNATURE
                               : kid != iss     ? HLT_REASON_ISSUER
                               : bits >> 4 != 0 ? HLT_REASON_AUDIENCE
                                                : HLT_REASON_OK;
        enum hlt_reason got =
            hlt_token_verify(verifier, keys, &rules, token, strlen(token), NOW, &claims, NULL);
        cr_expect(got == want, "%s %s: %s", header, payload, hlt_reason_word(got));
        hlt_claims_free(claims);
        free(token);
    }
    hlt_verifier_free(verifier);
    hlt_keyset_free(keys);
    hlt_problems_free(&problems);
    for (size_t i = 0; i < 2; i++) {
        EVP_PKEY_free(signer[i].pkey);
        file_remove(path[i]);
    }
}
