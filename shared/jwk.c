/* jwk.c - JSON Web Keys: the table of algorithms, strict reading, writing, thumbprints. */
#include "jwk.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "base64url.h"
#include "jsonpull.h"
#include "text.h"

static const struct hlt_alg algs[HLT_ALG_COUNT] = {
    {"HS256", "oct", NULL, JWT_ALG_HS256, 32},        {"HS384", "oct", NULL, JWT_ALG_HS384, 48},
    {"HS512", "oct", NULL, JWT_ALG_HS512, 64},        {"RS256", "RSA", NULL, JWT_ALG_RS256, 0},
    {"RS384", "RSA", NULL, JWT_ALG_RS384, 0},         {"RS512", "RSA", NULL, JWT_ALG_RS512, 0},
    {"PS256", "RSA", NULL, JWT_ALG_PS256, 0},         {"PS384", "RSA", NULL, JWT_ALG_PS384, 0},
    {"PS512", "RSA", NULL, JWT_ALG_PS512, 0},         {"ES256", "EC", "P-256", JWT_ALG_ES256, 0},
    {"ES384", "EC", "P-384", JWT_ALG_ES384, 0},       {"ES512", "EC", "P-521", JWT_ALG_ES512, 0},
    {"ES256K", "EC", "secp256k1", JWT_ALG_ES256K, 0}, {"EdDSA", "OKP", NULL, JWT_ALG_EDDSA, 0},
};

static const struct {
    const char *kty, *crv, *alg;
    size_t bytes; /* of each coordinate */
} curves[] = {
    {"EC", "P-256", "ES256", 32},    {"EC", "P-384", "ES384", 48},
    {"EC", "P-521", "ES512", 66},    {"EC", "secp256k1", "ES256K", 32},
    {"OKP", "Ed25519", "EdDSA", 32}, {"OKP", "Ed448", "EdDSA", 57},
};
#define CURVE_COUNT (sizeof(curves) / sizeof(curves[0]))

/* By enum hlt_jwk_part. */
static const char *const part_names[HLT_JWK_PARTS] = {"d", "dp", "dq", "e", "k", "n",
                                                      "p", "q",  "qi", "x", "y"};
#define PRIVATE_PARTS                                                                              \
    (1U << HLT_JWK_D | 1U << HLT_JWK_DP | 1U << HLT_JWK_DQ | 1U << HLT_JWK_P | 1U << HLT_JWK_Q |   \
     1U << HLT_JWK_QI)

const struct hlt_alg *hlt_alg_at(size_t index)
{
    return index < HLT_ALG_COUNT ? &algs[index] : NULL;
}

size_t hlt_alg_index(const struct hlt_alg *alg)
{
    return (size_t)(alg - algs);
}

const struct hlt_alg *hlt_alg_find(const char *name)
{
    for (size_t i = 0; i < HLT_ALG_COUNT; i++) {
        if (strcmp(algs[i].name, name) == 0) {
            return &algs[i];
        }
    }
    return NULL;
}

const char *const *hlt_alg_names(void)
{
    static const char *const names[HLT_ALG_COUNT + 1] = {
        "HS256", "HS384", "HS512", "RS256", "RS384",  "RS512", "PS256", "PS384",
        "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA", NULL};
    return names;
}

void hlt_jwk_text_free(char *text)
{
    if (text != NULL) {
        OPENSSL_cleanse(text, strlen(text));
        free(text);
    }
}

void hlt_jwk_free(struct hlt_jwk *jwk)
{
    for (size_t i = 0; i < HLT_JWK_PARTS; i++) {
        hlt_jwk_text_free(jwk->part[i]);
    }
    *jwk = (struct hlt_jwk){0};
}

bool hlt_jwk_is_secret(const struct hlt_jwk *jwk)
{
    return strcmp(jwk->kty, "oct") == 0;
}

bool hlt_jwk_is_private(const struct hlt_jwk *jwk)
{
    for (size_t i = 0; i < HLT_JWK_PARTS; i++) {
        if ((PRIVATE_PARTS & 1U << i) != 0 && jwk->part[i] != NULL) {
            return true;
        }
    }
    return false;
}

const char *hlt_jwk_default_alg(const struct hlt_jwk *jwk)
{
    if (hlt_jwk_is_secret(jwk)) {
        return "HS256";
    }
    if (strcmp(jwk->kty, "RSA") == 0) {
        return "RS256";
    }
    for (size_t i = 0; i < CURVE_COUNT; i++) {
        if (strcmp(curves[i].kty, jwk->kty) == 0 && strcmp(curves[i].crv, jwk->crv) == 0) {
            return curves[i].alg;
        }
    }
    return NULL;
}

bool hlt_jwk_fits(const struct hlt_jwk *jwk, const struct hlt_alg *alg)
{
    return strcmp(jwk->kty, alg->kty) == 0 && (alg->crv == NULL || strcmp(jwk->crv, alg->crv) == 0);
}

/* --- reading --- */

/* Copy the string the reader stands on, decoded; false if it is no string, too long or empty. */
static bool take_text(const struct hlt_json *reader, enum hlt_json_event event, char *out,
                      size_t out_bytes)
{
    return event == HLT_JSON_STRING && reader->text_len > 0 &&
           hlt_json_unescape(out, out_bytes, reader->text, reader->text_len) != SIZE_MAX;
}

static enum hlt_rc read_part(struct hlt_jwk *jwk, size_t part, const struct hlt_json *reader,
                             enum hlt_json_event event, struct hlt_err *err)
{
    unsigned char scratch[HLT_BASE64URL_DATA(HLT_JWK_PART_MAX)];
    size_t decoded = SIZE_MAX;
    bool text = event == HLT_JSON_STRING && !reader->escaped && reader->text_len > 0 &&
                reader->text_len <= HLT_JWK_PART_MAX;

    if (text) {
        decoded = hlt_base64url_decode(scratch, sizeof(scratch), reader->text, reader->text_len);
        OPENSSL_cleanse(scratch, sizeof(scratch));
    }
    if (decoded == SIZE_MAX) {
        return hlt_fail(err, HLT_EPARSE,
                        "member \"%s\" must be base64url without padding, 1 to %d characters",
                        part_names[part], HLT_JWK_PART_MAX);
    }
    jwk->part[part] = strndup(reader->text, reader->text_len);
    return jwk->part[part] != NULL ? HLT_OK : hlt_fail(err, HLT_ENOMEM, "out of memory");
}

static enum hlt_rc read_key_ops(struct hlt_jwk *jwk, struct hlt_json *reader,
                                enum hlt_json_event event, struct hlt_err *err)
{
    if (event != HLT_JSON_ARRAY_BEGIN) {
        return hlt_fail(err, HLT_EPARSE, "\"key_ops\" must be an array of strings");
    }
    jwk->has_ops = true;
    while ((event = hlt_json_next(reader)) != HLT_JSON_ARRAY_END) {
        if (event != HLT_JSON_STRING) {
            return hlt_fail(err, HLT_EPARSE, "\"key_ops\" must be an array of strings");
        }
        jwk->may_verify = jwk->may_verify || hlt_json_is(reader, "verify");
        jwk->may_sign = jwk->may_sign || hlt_json_is(reader, "sign");
    }
    return HLT_OK;
}

static enum hlt_rc read_use(struct hlt_jwk *jwk, const struct hlt_json *reader,
                            enum hlt_json_event event, struct hlt_err *err)
{
    if (event != HLT_JSON_STRING) {
        return hlt_fail(err, HLT_EPARSE, "\"use\" must be a string");
    }
    if (!hlt_json_is(reader, "sig")) {
        jwk->unusable = "\"use\" is not \"sig\", so this key is not for signatures; remove it from "
                        "the file";
    }
    return HLT_OK;
}

/* A name out of a list that others may lengthen: one too long for us is merely unknown. */
static bool take_word(const struct hlt_json *reader, enum hlt_json_event event, char *out,
                      size_t out_bytes)
{
    if (event != HLT_JSON_STRING || reader->text_len == 0) {
        return false;
    }
    if (hlt_json_unescape(out, out_bytes, reader->text, reader->text_len) == SIZE_MAX) {
        memcpy(out, "?", sizeof("?"));
    }
    return true;
}

static enum hlt_rc read_meta(struct hlt_jwk *jwk, struct hlt_json *reader, struct hlt_err *err)
{
    static const char *const names[] = {"kty", "crv", "alg", "kid", "use", "key_ops"};
    size_t which = 0;
    bool good = true;
    enum hlt_json_event event;
    enum hlt_rc rc = HLT_OK;

    while (which < sizeof(names) / sizeof(names[0]) && !hlt_json_is(reader, names[which])) {
        which++;
    }
    event = hlt_json_next(reader);
    switch (which) {
    case 0: good = take_word(reader, event, jwk->kty, sizeof(jwk->kty)); break;
    case 1: good = take_word(reader, event, jwk->crv, sizeof(jwk->crv)); break;
    case 2: good = jwk->has_alg = take_word(reader, event, jwk->alg, sizeof(jwk->alg)); break;
    case 3: good = jwk->has_kid = take_text(reader, event, jwk->kid, sizeof(jwk->kid)); break;
    case 4: rc = read_use(jwk, reader, event, err); break;
    case 5: rc = read_key_ops(jwk, reader, event, err); break;
    default: hlt_json_skip(reader, event); break;
    }
    return good ? rc
                : hlt_fail(err, HLT_EPARSE,
                           "\"%s\" must be a non-empty string (kid: at most %d bytes)",
                           names[which], HLT_KID_MAX);
}

static size_t part_of(const struct hlt_json *reader)
{
    size_t part = 0;

    while (part < HLT_JWK_PARTS && !hlt_json_is(reader, part_names[part])) {
        part++;
    }
    return part;
}

static size_t part_bytes(const struct hlt_jwk *jwk, enum hlt_jwk_part part)
{
    return HLT_BASE64URL_DATA(strlen(jwk->part[part]));
}

/* What kind of key it is, by the members that say so. */
static const char *why_unusable(const struct hlt_jwk *jwk)
{
    static const char *const types[] = {"RSA", "EC", "OKP", "oct"};
    bool known = false;

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        known = known || strcmp(types[i], jwk->kty) == 0;
    }
    if (!known) {
        return "\"kty\" must be one of RSA, EC, OKP and oct (upper and lower case count)";
    }
    if (hlt_jwk_default_alg(jwk) == NULL) {
        return "\"crv\" must be P-256, P-384, P-521 or secp256k1 (EC), Ed25519 or Ed448 (OKP)";
    }
    return NULL;
}

static enum hlt_rc check_parts(const struct hlt_jwk *jwk, struct hlt_err *err)
{
    static const struct {
        const char *kty;
        enum hlt_jwk_part need[2];
    } rows[] = {{"RSA", {HLT_JWK_E, HLT_JWK_N}},
                {"EC", {HLT_JWK_X, HLT_JWK_Y}},
                {"OKP", {HLT_JWK_X, HLT_JWK_X}},
                {"oct", {HLT_JWK_K, HLT_JWK_K}}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        for (size_t k = 0; strcmp(rows[i].kty, jwk->kty) == 0 && k < 2; k++) {
            if (jwk->part[rows[i].need[k]] == NULL) {
                return hlt_fail(err, HLT_EPARSE, "a key with kty %s needs the member \"%s\"",
                                jwk->kty, part_names[rows[i].need[k]]);
            }
        }
    }
    for (size_t i = 0; i < CURVE_COUNT; i++) {
        if (strcmp(curves[i].kty, jwk->kty) == 0 && strcmp(curves[i].crv, jwk->crv) == 0 &&
            (part_bytes(jwk, HLT_JWK_X) != curves[i].bytes ||
             (jwk->part[HLT_JWK_Y] != NULL && part_bytes(jwk, HLT_JWK_Y) != curves[i].bytes))) {
            return hlt_fail(err, HLT_EPARSE, "each coordinate of a %s key is %zu bytes", jwk->crv,
                            curves[i].bytes);
        }
    }
    return HLT_OK;
}

static enum hlt_rc read_members(struct hlt_jwk *jwk, const char *json, size_t len,
                                struct hlt_err *err)
{
    struct hlt_json reader;
    enum hlt_rc rc = HLT_OK;

    hlt_json_begin(&reader, json, len);
    if (hlt_json_next(&reader) != HLT_JSON_OBJECT_BEGIN) {
        return hlt_fail(err, HLT_EPARSE, "a key must be a JSON object");
    }
    while (rc == HLT_OK && hlt_json_next(&reader) == HLT_JSON_NAME) {
        size_t part = part_of(&reader);
        if (part == HLT_JWK_PARTS) {
            rc = read_meta(jwk, &reader, err);
        } else {
            enum hlt_json_event event = hlt_json_next(&reader);
            rc = read_part(jwk, part, &reader, event, err);
        }
    }
    return rc;
}

enum hlt_rc hlt_jwk_read(struct hlt_jwk *jwk, const char *json, size_t len, struct hlt_err *err)
{
    enum hlt_rc rc = read_members(jwk, json, len, err);
    const char *unusable = rc == HLT_OK ? why_unusable(jwk) : NULL;

    if (rc != HLT_OK) {
        return rc;
    }
    if (unusable != NULL) {
        jwk->unusable = unusable; /* what its members mean is not known to us */
        return jwk->kty[0] != '\0' ? HLT_OK : hlt_fail(err, HLT_EPARSE, "%s", unusable);
    }
    return check_parts(jwk, err);
}

enum hlt_rc hlt_jwk_from_secret(struct hlt_jwk *jwk, const void *secret, size_t len,
                                struct hlt_err *err)
{
    size_t text_bytes = HLT_BASE64URL_TEXT(len);

    if (len == 0 || text_bytes > HLT_JWK_PART_MAX) {
        return hlt_fail(err, HLT_EPARSE, "a secret is 1 to %d bytes long",
                        (int)HLT_BASE64URL_DATA(HLT_JWK_PART_MAX - 1));
    }
    jwk->part[HLT_JWK_K] = malloc(text_bytes);
    if (jwk->part[HLT_JWK_K] == NULL) {
        return hlt_fail(err, HLT_ENOMEM, "out of memory");
    }
    hlt_base64url_encode(jwk->part[HLT_JWK_K], text_bytes, secret, len);
    memcpy(jwk->kty, "oct", sizeof("oct"));
    return HLT_OK;
}

/* --- writing --- */

/* Text that grows up to a size computed beforehand. */
struct writer {
    char *text;
    size_t used;
};

static void add_raw(struct writer *writer, const char *text)
{
    size_t len = strlen(text);

    memcpy(writer->text + writer->used, text, len + 1);
    writer->used += len;
}

static void add_member(struct writer *writer, const char *name, const char *value)
{
    static const char hex[] = "0123456789abcdef";

    add_raw(writer, writer->used == 1 ? "\"" : ",\"");
    add_raw(writer, name);
    add_raw(writer, "\":\"");
    for (; *value != '\0'; value++) {
        unsigned char c = (unsigned char)*value;
        char escape[] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 0xFU], '\0'};
        char plain[] = {(char)c, '\0'};
        add_raw(writer, c < 0x20 || c == '"' || c == '\\' ? escape : plain);
    }
    add_raw(writer, "\"");
}

/* All names of a JWK in their order; those that are no part carry what people need. */
static void add_members(struct writer *writer, const struct hlt_jwk *jwk, bool meta, unsigned parts)
{
    const struct {
        const char *name, *value;
    } extra[] = {{"alg", meta && jwk->has_alg ? jwk->alg : NULL},
                 {"crv", jwk->crv[0] != '\0' ? jwk->crv : NULL},
                 {"kid", meta && jwk->has_kid ? jwk->kid : NULL},
                 {"kty", jwk->kty},
                 {"use", meta ? "sig" : NULL}};
    size_t part = 0, other = 0;

    while (part < HLT_JWK_PARTS || other < 5) {
        if (other == 5 ||
            (part < HLT_JWK_PARTS && strcmp(part_names[part], extra[other].name) < 0)) {
            if ((parts & 1U << part) != 0 && jwk->part[part] != NULL) {
                add_member(writer, part_names[part], jwk->part[part]);
            }
            part++;
        } else {
            if (extra[other].value != NULL) {
                add_member(writer, extra[other].name, extra[other].value);
            }
            other++;
        }
    }
}

char *hlt_jwk_text(const struct hlt_jwk *jwk, enum hlt_jwk_detail detail)
{
    bool meta = detail == HLT_JWK_PUBLIC || detail == HLT_JWK_PRIVATE;
    bool with_private = detail == HLT_JWK_PRIVATE || detail == HLT_JWK_BARE_PRIVATE;
    unsigned parts = (1U << HLT_JWK_PARTS) - 1U;
    size_t room = 256 + 6 * sizeof(jwk->kid); /* names, quotes, and a kid of nothing but escapes */
    struct writer writer = {0};

    for (size_t i = 0; i < HLT_JWK_PARTS; i++) {
        room += jwk->part[i] != NULL ? strlen(jwk->part[i]) : 0;
    }
    writer.text = malloc(room);
    if (writer.text == NULL) {
        return NULL;
    }
    add_raw(&writer, "{");
    add_members(&writer, jwk, meta, with_private ? parts : parts & ~PRIVATE_PARTS);
    add_raw(&writer, "}");
    return writer.text;
}

bool hlt_jwk_thumbprint(const struct hlt_jwk *jwk, char out[HLT_THUMBPRINT_BYTES])
{
    char *text = hlt_jwk_text(jwk, HLT_JWK_THUMBPRINT);
    unsigned char digest[SHA256_DIGEST_LENGTH];

    if (text == NULL) {
        return false;
    }
    SHA256((const unsigned char *)text, strlen(text), digest);
    hlt_jwk_text_free(text);
    return hlt_base64url_encode(out, HLT_THUMBPRINT_BYTES, digest, sizeof(digest)) != SIZE_MAX;
}
