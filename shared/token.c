/* token.c - from a string to verified claims: our strict pass, libjwt's signature, our judgement.
 */
#include "token.h"

#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base64url.h"
#include "claims.h"
#include "jsonpull.h"
#include "keyset_internal.h"

#define SHAPE_HEADER_MAX 2048 /* bytes of a header that hlt_token_shaped reads as a whole */

struct hlt_verifier {
    jwt_checker_t *checker;
    char *text; /* the token with a NUL, then the decoded header and payload */
    size_t room;
};

/* A token taken apart; pointers into the token. */
struct parts {
    const char *segment[3];
    size_t len[3];
};

struct header {
    const struct hlt_alg *alg; /* NULL: missing, none or unknown */
    char kid[HLT_KID_MAX + 1];
    bool has_kid;
    bool kid_usable;         /* false: longer than any key's */
    const char *unsupported; /* what makes it so, or NULL */
};

/* --- taking apart --- */

/* The number of segments (at most 6 are counted); fills `parts` if there are three. */
static unsigned split(struct parts *parts, const char *token, size_t len)
{
    const char *at = token, *end = token + len;
    unsigned count = 0;

    for (;;) {
        const char *dot = memchr(at, '.', (size_t)(end - at));
        const char *stop = dot != NULL ? dot : end;
        if (count < 3) {
            parts->segment[count] = at;
            parts->len[count] = (size_t)(stop - at);
        }
        count++;
        if (dot == NULL || count == 6) {
            return count;
        }
        at = dot + 1;
    }
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* True if JSON text may be an object, judged by its first byte that is no blank. */
static bool opens_object(const char *json, size_t len)
{
    size_t at = 0;

    while (at < len && blank(json[at])) {
        at++;
    }
    return at < len && json[at] == '{';
}

static bool is_object(const char *json, size_t len)
{
    struct hlt_json reader;
    enum hlt_json_event event;

    hlt_json_begin(&reader, json, len);
    event = hlt_json_next(&reader);
    if (event != HLT_JSON_OBJECT_BEGIN) {
        return false;
    }
    while (event != HLT_JSON_ERROR && event != HLT_JSON_DONE) {
        event = hlt_json_next(&reader);
    }
    return event == HLT_JSON_DONE;
}

bool hlt_token_shaped(const char *token, size_t len)
{
    char header[SHAPE_HEADER_MAX];
    struct parts parts;
    size_t decoded;

    if (split(&parts, token, len) != 3 || !hlt_base64url_shaped(parts.segment[0], parts.len[0]) ||
        !hlt_base64url_shaped(parts.segment[1], parts.len[1]) ||
        !hlt_base64url_shaped(parts.segment[2], parts.len[2])) {
        return false;
    }
    if (HLT_BASE64URL_DATA(parts.len[0]) > sizeof(header)) {
        /* a header with certificates in it: its beginning must do */
        decoded = hlt_base64url_decode(header, sizeof(header), parts.segment[0], 64);
        return decoded != SIZE_MAX && opens_object(header, decoded);
    }
    decoded = hlt_base64url_decode(header, sizeof(header), parts.segment[0], parts.len[0]);
    return decoded != SIZE_MAX && is_object(header, decoded);
}

/* --- the header --- */

static void read_alg(struct header *header, const struct hlt_json *reader,
                     enum hlt_json_event event)
{
    char name[16];

    if (event == HLT_JSON_STRING &&
        hlt_json_unescape(name, sizeof(name), reader->text, reader->text_len) != SIZE_MAX) {
        header->alg = hlt_alg_find(name);
    }
}

/* "JWT" in any case, with or without "application/"; also the typ of OAuth access tokens (RFC
 * 9068). Other types (logout tokens, proofs of possession) are signed by the same keys and mean
 * something else (RFC 8725 section 3.11). */
static bool typ_accepted(const struct hlt_json *reader)
{
    static const char prefix[] = "application/";
    char typ[64];
    const char *name = typ;

    if (hlt_json_unescape(typ, sizeof(typ), reader->text, reader->text_len) == SIZE_MAX) {
        return false;
    }
    if (strncasecmp(name, prefix, sizeof(prefix) - 1) == 0) {
        name += sizeof(prefix) - 1;
    }
    return strcasecmp(name, "JWT") == 0 || strcasecmp(name, "at+jwt") == 0;
}

static enum hlt_reason read_typ(struct header *header, const struct hlt_json *reader,
                                enum hlt_json_event event, struct hlt_err *detail)
{
    if (event != HLT_JSON_STRING) {
        return hlt_refuse(detail, HLT_REASON_MALFORMED, "header: typ must be a string");
    }
    if (!typ_accepted(reader)) {
        header->unsupported = "a typ other than JWT and at+jwt";
    }
    return HLT_REASON_OK;
}

static enum hlt_reason read_kid(struct header *header, const struct hlt_json *reader,
                                enum hlt_json_event event, struct hlt_err *detail)
{
    if (event != HLT_JSON_STRING) {
        return hlt_refuse(detail, HLT_REASON_MALFORMED, "header: kid must be a string");
    }
    header->has_kid = true;
    header->kid_usable =
        reader->text_len > 0 && hlt_json_unescape(header->kid, sizeof(header->kid), reader->text,
                                                  reader->text_len) != SIZE_MAX;
    return HLT_REASON_OK;
}

/* The reader has just delivered a member's name. jwk, jku, x5u and x5c are passed over: a key that
 * comes with the token proves nothing. */
static enum hlt_reason read_header_member(struct header *header, struct hlt_json *reader,
                                          struct hlt_err *detail)
{
    static const char *const refused[] = {"crit", "b64", "enc", "zip", "cty"};
    bool alg = hlt_json_is(reader, "alg"), kid = hlt_json_is(reader, "kid");
    bool typ = hlt_json_is(reader, "typ");
    enum hlt_json_event event;

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (hlt_json_is(reader, refused[i])) {
            header->unsupported = refused[i];
        }
    }
    event = hlt_json_next(reader);
    if (alg) {
        read_alg(header, reader, event);
    } else if (kid) {
        return read_kid(header, reader, event, detail);
    } else if (typ) {
        return read_typ(header, reader, event, detail);
    }
    return hlt_json_skip(reader, event) ? HLT_REASON_OK : HLT_REASON_MALFORMED;
}

static enum hlt_reason read_header(struct header *header, const char *json, size_t len,
                                   struct hlt_err *detail)
{
    struct hlt_json reader;
    enum hlt_reason reason = HLT_REASON_OK;
    size_t at = 0;
    const char *error = hlt_json_check_weight(json, len, true, HLT_TOKEN_HEADER_WEIGHT_MAX, &at);

    if (error != NULL) {
        return hlt_refuse(detail, HLT_REASON_MALFORMED, "header: %s at byte %zu", error, at);
    }
    *header = (struct header){0};
    hlt_json_begin(&reader, json, len);
    reader.spelling = true; /* no number of a header means anything here */
    hlt_json_next(&reader);
    while (reason == HLT_REASON_OK && hlt_json_next(&reader) == HLT_JSON_NAME) {
        reason = read_header_member(header, &reader, detail);
    }
    if (reason == HLT_REASON_OK && header->unsupported != NULL) {
        return hlt_refuse(detail, HLT_REASON_UNSUPPORTED, "header: %s is not supported",
                          header->unsupported);
    }
    return reason;
}

static enum hlt_reason choose_key(const struct hlt_key **out, const struct hlt_keyset *keys,
                                  const struct header *header, struct hlt_err *detail)
{
    const struct hlt_key *key = NULL;

    if (header->alg == NULL) {
        return hlt_refuse(detail, HLT_REASON_ALG, "header: alg is missing, none or unknown");
    }
    if (!header->has_kid) {
        key = hlt_keyset_only(keys, header->alg);
    } else if (header->kid_usable) {
        key = hlt_keyset_find(keys, header->kid);
    }
    if (key == NULL && header->has_kid) {
        return hlt_refuse(detail, HLT_REASON_UNKNOWN_KEY, "no loaded key has the token's kid");
    }
    if (key == NULL) {
        return hlt_refuse(detail, HLT_REASON_UNKNOWN_KEY,
                          "the token has no kid, and there is not exactly one %s key",
                          header->alg->name);
    }
    if (key->alg != header->alg) {
        return hlt_refuse(detail, HLT_REASON_ALG, "the token says %s, its key is bound to %s",
                          header->alg->name, key->alg->name);
    }
    *out = key;
    return HLT_REASON_OK;
}

/* --- the signature --- */

/* libjwt is given this very key and algorithm, and no claim to check. It accepts `none` when it has
 * no key (facts: trap A), so a key it does not take ends here. */
static enum hlt_reason check_signature(struct hlt_verifier *verifier, const struct hlt_key *key,
                                       struct hlt_err *detail)
{
    enum hlt_reason reason = HLT_REASON_OK;

    ERR_set_mark();
    jwt_checker_error_clear(verifier->checker);
    if (jwt_checker_setkey(verifier->checker, key->alg->id, key->item) != 0) {
        reason = hlt_refuse(detail, HLT_REASON_INTERNAL, "the library does not take the key");
    } else if (jwt_checker_verify(verifier->checker, verifier->text) != 0) {
        reason = hlt_refuse(detail, HLT_REASON_SIGNATURE, "the %s signature is not by this key",
                            key->alg->name);
    }
    jwt_checker_setkey(verifier->checker, JWT_ALG_NONE, NULL); /* the set may be freed next */
    ERR_pop_to_mark(); /* the broker reads this thread's queue for its TLS connections */
    return reason;
}

/* --- all of it --- */

struct hlt_verifier *hlt_verifier_new(void)
{
    struct hlt_verifier *verifier = calloc(1, sizeof(*verifier));

    if (verifier == NULL) {
        return NULL;
    }
    verifier->checker = jwt_checker_new();
    if (verifier->checker == NULL ||
        jwt_checker_time_leeway(verifier->checker, JWT_CLAIM_EXP, -1) != 0 ||
        jwt_checker_time_leeway(verifier->checker, JWT_CLAIM_NBF, -1) != 0) {
        hlt_verifier_free(verifier);
        return NULL;
    }
    return verifier;
}

void hlt_verifier_free(struct hlt_verifier *verifier)
{
    if (verifier != NULL) {
        jwt_checker_free(verifier->checker);
        free(verifier->text);
        free(verifier);
    }
}

/* Room for the token and what it decodes to, by the limit and not by what was sent: it grows once.
 */
static bool make_room(struct hlt_verifier *verifier, size_t max_bytes)
{
    size_t want = 2 * max_bytes + 2;
    char *grown;

    if (want <= verifier->room) {
        return true;
    }
    grown = realloc(verifier->text, want);
    if (grown != NULL) {
        verifier->text = grown;
        verifier->room = want;
    }
    return grown != NULL;
}

static enum hlt_reason check_shape(struct parts *parts, const char *token, size_t len,
                                   const struct hlt_token_rules *rules, struct hlt_err *detail)
{
    unsigned count;

    if (len == 0) {
        return hlt_refuse(detail, HLT_REASON_NO_TOKEN, "empty");
    }
    if (len > rules->max_bytes) {
        return hlt_refuse(detail, HLT_REASON_TOO_LARGE, "%zu bytes, the limit is %zu", len,
                          rules->max_bytes);
    }
    count = split(parts, token, len);
    if (count == 5) {
        return hlt_refuse(detail, HLT_REASON_UNSUPPORTED, "five parts: an encrypted token (JWE)");
    }
    if (count != 3) {
        return hlt_refuse(detail, HLT_REASON_NO_TOKEN, "not three parts joined by dots");
    }
    return HLT_REASON_OK;
}

/* One token on its way: taken apart, decoded, its key found. All pointers go into the verifier's
 * buffer or the key set. */
struct attempt {
    struct parts parts;
    const char *json[2]; /* header, payload */
    size_t json_len[2];
    struct header header;
    const struct hlt_key *key;
};

static enum hlt_reason decode(struct attempt *attempt, const struct hlt_verifier *verifier,
                              size_t token_len, struct hlt_err *detail)
{
    static const char *const names[] = {"header", "payload", "signature"};
    const struct parts *parts = &attempt->parts;
    char *at = verifier->text + token_len + 1;

    for (size_t i = 0; i < 3; i++) {
        size_t room = verifier->room - (size_t)(at - verifier->text);
        size_t len = hlt_base64url_decode(at, room, parts->segment[i], parts->len[i]);
        if (len == SIZE_MAX || (len == 0 && i < 2)) {
            return hlt_refuse(detail, HLT_REASON_MALFORMED, "%s: not base64url", names[i]);
        }
        if (i < 2) { /* of the signature only the spelling matters here */
            attempt->json[i] = at;
            attempt->json_len[i] = len;
        }
        at += len;
    }
    return HLT_REASON_OK;
}

/* Everything up to and including the signature. */
static enum hlt_reason authenticate(struct attempt *attempt, struct hlt_verifier *verifier,
                                    const struct hlt_keyset *keys, size_t token_len,
                                    struct hlt_err *detail)
{
    enum hlt_reason reason = decode(attempt, verifier, token_len, detail);
    const char *error;
    size_t at = 0;

    if (reason == HLT_REASON_OK) {
        reason = read_header(&attempt->header, attempt->json[0], attempt->json_len[0], detail);
    }
    if (reason != HLT_REASON_OK) {
        return reason;
    }
    /* before the payload: checking that can cost more than the whole rest (bench: 8 KB of names) */
    reason = choose_key(&attempt->key, keys, &attempt->header, detail);
    if (reason != HLT_REASON_OK) {
        return reason;
    }
    error = hlt_json_check_weight(attempt->json[1], attempt->json_len[1], true,
                                  HLT_TOKEN_PAYLOAD_WEIGHT_MAX, &at);
    if (error != NULL) {
        return hlt_refuse(detail, HLT_REASON_MALFORMED, "payload: %s at byte %zu", error, at);
    }
    if (attempt->parts.len[2] == 0) {
        return hlt_refuse(detail, HLT_REASON_SIGNATURE, "the signature is missing");
    }
    return check_signature(verifier, attempt->key, detail);
}

static enum hlt_reason judge(const struct attempt *attempt, const struct hlt_token_rules *rules,
                             int64_t now_s, struct hlt_claims **out, struct hlt_err *detail)
{
    struct hlt_claims *claims = NULL;
    struct hlt_claims_facts facts;
    enum hlt_reason reason;

    if (attempt->key == NULL) { /* cannot be; if it could, nobody has signed this */
        return hlt_refuse(detail, HLT_REASON_INTERNAL, "no key");
    }
    reason = hlt_claims_build(&claims, &facts, attempt->json[1], attempt->json_len[1],
                              attempt->key->kid != NULL ? attempt->key->kid : "",
                              attempt->key->alg->name, rules, detail);
    if (reason == HLT_REASON_OK) {
        reason = hlt_claims_judge(claims, &facts, rules, attempt->key->issuer, now_s, detail);
    }
    if (reason != HLT_REASON_OK) {
        hlt_claims_free(claims);
        return reason;
    }
    *out = claims;
    return HLT_REASON_OK;
}

enum hlt_reason hlt_token_verify(struct hlt_verifier *verifier, const struct hlt_keyset *keys,
                                 const struct hlt_token_rules *rules, const char *token, size_t len,
                                 int64_t now_s, struct hlt_claims **out, struct hlt_err *detail)
{
    struct attempt attempt = {.key = NULL};
    enum hlt_reason reason;

    *out = NULL;
    if (detail != NULL) {
        detail->msg[0] = '\0';
    }
    reason = check_shape(&attempt.parts, token, len, rules, detail);
    if (reason != HLT_REASON_OK) {
        return reason;
    }
    if (!make_room(verifier, rules->max_bytes)) {
        return hlt_refuse(detail, HLT_REASON_INTERNAL, "out of memory");
    }
    memcpy(verifier->text, token, len);
    verifier->text[len] = '\0';
    split(&attempt.parts, verifier->text, len);
    reason = authenticate(&attempt, verifier, keys, len, detail);
    return reason == HLT_REASON_OK ? judge(&attempt, rules, now_s, out, detail) : reason;
}
