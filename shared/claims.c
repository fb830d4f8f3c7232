/* claims.c - reads a verified payload into struct hlt_claims and judges it. */
#include "claims.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base64url.h"
#include "jsonpull.h"
#include "text.h"

#define DATE_MAX 9007199254740992.0 /* 2^53: beyond it a double skips seconds */
#define DATE_MAX_TEXT "9007199254740992"

/* One payload on its way into the struct. All strings go to one arena behind it: decoded text is
 * never longer than its spelling, and the two quotes pay for the NUL, so the payload's own length
 * is room enough. */
struct builder {
    struct hlt_claims *claims;
    char *arena;
    size_t arena_left;
    struct hlt_claims_facts *facts;
    const struct hlt_token_rules *rules;
    struct hlt_err *detail;
};

enum hlt_reason hlt_refuse(struct hlt_err *detail, enum hlt_reason reason, const char *fmt, ...)
{
    va_list args;

    if (detail != NULL) {
        va_start(args, fmt);
        (void)vsnprintf(detail->msg, sizeof(detail->msg), fmt, args);
        va_end(args);
    }
    return reason;
}

static enum hlt_reason wrong_type(const struct builder *builder, const char *name, const char *want)
{
    return hlt_refuse(builder->detail, HLT_REASON_CLAIM_INVALID, "%s must be %s", name, want);
}

/* Decode the string the reader stands on. NULL only if our own sizing were wrong. */
static char *take_text(struct builder *builder, const struct hlt_json *reader)
{
    char *text = builder->arena;
    size_t len = hlt_json_unescape(text, builder->arena_left, reader->text, reader->text_len);

    if (len == SIZE_MAX) {
        return NULL;
    }
    builder->arena += len + 1;
    builder->arena_left -= len + 1;
    return text;
}

/* "" would read like "absent" in the struct, so it counts as a wrong value. */
static enum hlt_reason read_text(struct builder *builder, const struct hlt_json *reader,
                                 enum hlt_json_event event, const char *name, char **out)
{
    if (event != HLT_JSON_STRING || reader->text_len == 0) {
        return wrong_type(builder, name, "a non-empty string");
    }
    *out = take_text(builder, reader);
    return *out != NULL ? HLT_REASON_OK : HLT_REASON_INTERNAL;
}

static enum hlt_reason read_sub(struct builder *builder, const struct hlt_json *reader,
                                enum hlt_json_event event)
{
    struct hlt_claims *claims = builder->claims;
    const char *why = NULL;
    char *sub;

    if (event != HLT_JSON_STRING) {
        return wrong_type(builder, "sub", "a string");
    }
    sub = take_text(builder, reader);
    if (sub == NULL) {
        return HLT_REASON_INTERNAL;
    }
    claims->sub = sub;
    claims->sub_len = strlen(sub);
    if (!hlt_id_valid(sub, claims->sub_len, &why)) {
        return hlt_refuse(builder->detail, HLT_REASON_SUBJECT, "sub may not name a device: %s",
                          why);
    }
    return HLT_REASON_OK;
}

/* 2^53 itself passes, by its own digits: a double cannot tell other spellings from 2^53 + 1. */
static bool is_date(const struct hlt_json *reader)
{
    return (reader->number >= 0 && reader->number < DATE_MAX) ||
           (reader->number == DATE_MAX && reader->text_len == sizeof(DATE_MAX_TEXT) - 1 &&
            memcmp(reader->text, DATE_MAX_TEXT, reader->text_len) == 0);
}

static enum hlt_reason read_date(const struct builder *builder, const struct hlt_json *reader,
                                 enum hlt_json_event event, const char *name, int64_t *out)
{
    if (event != HLT_JSON_NUMBER || !is_date(reader)) {
        return wrong_type(builder, name, "a number of seconds from 0 to 2^53");
    }
    *out = (int64_t)reader->number;
    return HLT_REASON_OK;
}

static void note_audience(struct builder *builder, const struct hlt_json *reader)
{
    const struct hlt_token_rules *rules = builder->rules;

    for (size_t i = 0; rules != NULL && i < rules->audience_count; i++) {
        if (hlt_json_is(reader, rules->audiences[i])) {
            builder->facts->aud_accepted = true;
        }
    }
}

static enum hlt_reason read_aud(struct builder *builder, struct hlt_json *reader,
                                enum hlt_json_event event)
{
    static const char want[] = "a non-empty string or an array of them";
    bool array = event == HLT_JSON_ARRAY_BEGIN;

    if (array) {
        event = hlt_json_next(reader);
    }
    do {
        if (event != HLT_JSON_STRING || reader->text_len == 0) {
            return wrong_type(builder, "aud", want);
        }
        note_audience(builder, reader);
    } while (array && (event = hlt_json_next(reader)) != HLT_JSON_ARRAY_END);
    builder->facts->has_aud = true;
    return HLT_REASON_OK;
}

static enum hlt_reason read_roles(struct builder *builder, struct hlt_json *reader,
                                  enum hlt_json_event event)
{
    struct hlt_claims *claims = builder->claims;

    if (event != HLT_JSON_ARRAY_BEGIN) {
        return wrong_type(builder, "roles", "an array of strings");
    }
    while ((event = hlt_json_next(reader)) != HLT_JSON_ARRAY_END) {
        enum hlt_reason reason;
        if (claims->role_count == HLT_TOKEN_ROLES_MAX) {
            return hlt_refuse(builder->detail, HLT_REASON_CLAIM_INVALID,
                              "roles has more than %d entries", HLT_TOKEN_ROLES_MAX);
        }
        reason =
            read_text(builder, reader, event, "each of roles", &claims->roles[claims->role_count]);
        if (reason != HLT_REASON_OK) {
            return reason;
        }
        claims->role_count++;
    }
    return HLT_REASON_OK;
}

static enum hlt_reason read_thumbprint(const struct builder *builder, const struct hlt_json *reader,
                                       enum hlt_json_event event)
{
    uint8_t *out = builder->claims->certificate_sha256;

    if (event != HLT_JSON_STRING || reader->escaped ||
        hlt_base64url_decode(out, HLT_SHA256_BYTES, reader->text, reader->text_len) !=
            HLT_SHA256_BYTES) {
        return wrong_type(builder, "x5t#S256 of cnf", "a SHA-256 in base64url, 43 characters");
    }
    builder->claims->bound = true;
    return HLT_REASON_OK;
}

/* Whom the token binds itself to (RFC 7800). All but a certificate we could not check, and whoever
 * issued it wanted it checked. */
static enum hlt_reason read_cnf(const struct builder *builder, struct hlt_json *reader,
                                enum hlt_json_event event)
{
    enum hlt_reason reason = HLT_REASON_OK;

    if (event != HLT_JSON_OBJECT_BEGIN) {
        return wrong_type(builder, "cnf", "an object");
    }
    while (reason == HLT_REASON_OK && hlt_json_next(reader) == HLT_JSON_NAME) {
        bool thumbprint = hlt_json_is(reader, "x5t#S256");
        event = hlt_json_next(reader);
        if (thumbprint) {
            reason = read_thumbprint(builder, reader, event);
        } else if (!hlt_json_skip(reader, event)) {
            reason = HLT_REASON_MALFORMED;
        }
    }
    return reason != HLT_REASON_OK || builder->claims->bound
               ? reason
               : hlt_refuse(builder->detail, HLT_REASON_BINDING,
                            "cnf has no x5t#S256: only certificates can be checked here");
}

/* The reader has just delivered a member's name. Reads the value if it is one of ours, else skips.
 */
static enum hlt_reason read_member(struct builder *builder, struct hlt_json *reader)
{
    static const char *const names[] = {"sub", "iss", "jti", "device_class", "exp",
                                        "nbf", "iat", "aud", "roles",        "cnf"};
    struct hlt_claims *claims = builder->claims;
    size_t which = 0;
    enum hlt_json_event event;

    while (which < sizeof(names) / sizeof(names[0]) && !hlt_json_is(reader, names[which])) {
        which++;
    }
    event = hlt_json_next(reader);
    switch (which) {
    case 0: return read_sub(builder, reader, event);
    case 1: return read_text(builder, reader, event, "iss", &claims->iss);
    case 2: return read_text(builder, reader, event, "jti", &claims->jti);
    case 3: return read_text(builder, reader, event, "device_class", &claims->device_class);
    case 4: claims->has_exp = true; return read_date(builder, reader, event, "exp", &claims->exp_s);
    case 5: return read_date(builder, reader, event, "nbf", &claims->nbf_s);
    case 6: claims->has_iat = true; return read_date(builder, reader, event, "iat", &claims->iat_s);
    case 7: return read_aud(builder, reader, event);
    case 8: return read_roles(builder, reader, event);
    case 9: return read_cnf(builder, reader, event);
    default: return hlt_json_skip(reader, event) ? HLT_REASON_OK : HLT_REASON_MALFORMED;
    }
}

static enum hlt_reason read_payload(struct builder *builder, const char *json, size_t len)
{
    struct hlt_json reader;
    enum hlt_json_event event;

    hlt_json_begin(&reader, json, len);
    event = hlt_json_next(&reader);
    if (event != HLT_JSON_OBJECT_BEGIN) {
        return HLT_REASON_MALFORMED;
    }
    while ((event = hlt_json_next(&reader)) == HLT_JSON_NAME) {
        enum hlt_reason reason = read_member(builder, &reader);
        if (reason != HLT_REASON_OK) {
            return reason;
        }
    }
    if (event != HLT_JSON_OBJECT_END) {
        return HLT_REASON_MALFORMED;
    }
    return builder->claims->sub[0] != '\0'
               ? HLT_REASON_OK
               : hlt_refuse(builder->detail, HLT_REASON_CLAIM_MISSING, "sub is missing");
}

static char *put(char **arena, const char *text, size_t len)
{
    char *at = *arena;

    memcpy(at, text, len);
    at[len] = '\0';
    *arena += len + 1;
    return at;
}

enum hlt_reason hlt_claims_build(struct hlt_claims **out, struct hlt_claims_facts *facts,
                                 const char *json, size_t len, const char *kid, const char *alg,
                                 const struct hlt_token_rules *rules, struct hlt_err *detail)
{
    size_t kid_len = strlen(kid), alg_len = strlen(alg);
    size_t fixed = sizeof(struct hlt_claims) + len + 1 + kid_len + 1 + alg_len + 1;
    struct hlt_claims *claims = malloc(fixed + len + 1);
    struct builder builder = {
        .claims = claims, .arena_left = len, .facts = facts, .rules = rules, .detail = detail};
    enum hlt_reason reason;
    char *text;

    if (claims == NULL) {
        return hlt_refuse(detail, HLT_REASON_INTERNAL, "out of memory");
    }
    text = (char *)(claims + 1);
    *claims = (struct hlt_claims){.json_len = len, .exp_s = INT64_MAX};
    *facts = (struct hlt_claims_facts){0};
    claims->json = put(&text, json, len);
    claims->kid = put(&text, kid, kid_len);
    claims->alg = put(&text, alg, alg_len);
    text[len] = '\0'; /* the arena's last byte: the empty string of all absent claims */
    claims->sub = claims->iss = claims->jti = claims->device_class = text + len;
    builder.arena = text;
    reason = read_payload(&builder, json, len);
    if (reason != HLT_REASON_OK) {
        hlt_claims_free(claims);
        return reason;
    }
    *out = claims;
    return HLT_REASON_OK;
}

static bool listed(const char *text, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

static enum hlt_reason judge_parties(const struct hlt_claims *claims,
                                     const struct hlt_claims_facts *facts,
                                     const struct hlt_token_rules *rules, const char *key_issuer,
                                     struct hlt_err *detail)
{
    if (rules->require_iss && claims->iss[0] == '\0') {
        return hlt_refuse(detail, HLT_REASON_CLAIM_MISSING, "iss is missing");
    }
    if (rules->require_aud && !facts->has_aud) {
        return hlt_refuse(detail, HLT_REASON_CLAIM_MISSING, "aud is missing");
    }
    if (rules->require_exp && !claims->has_exp) {
        return hlt_refuse(detail, HLT_REASON_CLAIM_MISSING, "exp is missing");
    }
    if (key_issuer != NULL && strcmp(claims->iss, key_issuer) != 0) {
        return hlt_refuse(detail, HLT_REASON_ISSUER, "this key signs for another iss");
    }
    if (rules->issuer_count > 0 && !listed(claims->iss, rules->issuers, rules->issuer_count)) {
        return hlt_refuse(detail, HLT_REASON_ISSUER, "iss is not an accepted issuer");
    }
    if (rules->audience_count > 0 && !facts->aud_accepted) {
        return hlt_refuse(detail, HLT_REASON_AUDIENCE, "no aud of the token is accepted here");
    }
    return HLT_REASON_OK;
}

enum hlt_reason hlt_claims_judge_times(const struct hlt_claims *claims,
                                       const struct hlt_token_rules *rules, int64_t now_s,
                                       struct hlt_err *detail)
{
    if (claims->exp_s <= now_s - rules->leeway_s) {
        return hlt_refuse(detail, HLT_REASON_EXPIRED,
                          "expired %" PRId64 " s ago (leeway %" PRId64 " s)", now_s - claims->exp_s,
                          rules->leeway_s);
    }
    if (claims->nbf_s > now_s + rules->leeway_s || claims->iat_s > now_s + rules->leeway_s) {
        bool nbf = claims->nbf_s > now_s + rules->leeway_s;
        return hlt_refuse(
            detail, HLT_REASON_NOT_YET, "%s is %" PRId64 " s in the future (leeway %" PRId64 " s)",
            nbf ? "nbf" : "iat", (nbf ? claims->nbf_s : claims->iat_s) - now_s, rules->leeway_s);
    }
    return HLT_REASON_OK;
}

/* Without iat the life that is left stands in for the whole: else leaving iat out would be the way
 * around the limit. */
static enum hlt_reason judge_lifetime(const struct hlt_claims *claims,
                                      const struct hlt_token_rules *rules, int64_t now_s,
                                      struct hlt_err *detail)
{
    int64_t begin = claims->has_iat ? claims->iat_s : now_s + rules->leeway_s;

    if (rules->max_lifetime_s > 0 && claims->has_exp &&
        claims->exp_s - begin > rules->max_lifetime_s) {
        return hlt_refuse(detail, HLT_REASON_LIFETIME,
                          "valid for %" PRId64 " s, the limit is %" PRId64 " s",
                          claims->exp_s - begin, rules->max_lifetime_s);
    }
    return HLT_REASON_OK;
}

enum hlt_reason hlt_claims_judge(const struct hlt_claims *claims,
                                 const struct hlt_claims_facts *facts,
                                 const struct hlt_token_rules *rules, const char *key_issuer,
                                 int64_t now_s, struct hlt_err *detail)
{
    enum hlt_reason reason = judge_parties(claims, facts, rules, key_issuer, detail);

    if (reason == HLT_REASON_OK) {
        reason = hlt_claims_judge_times(claims, rules, now_s, detail);
    }
    if (reason != HLT_REASON_OK) {
        return reason;
    }
    return judge_lifetime(claims, rules, now_s, detail);
}

struct hlt_claims *hlt_claims_parse(const char *json, size_t len)
{
    return hlt_claims_restore(json, len, "");
}

struct hlt_claims *hlt_claims_restore(const char *json, size_t len, const char *kid)
{
    struct hlt_claims *claims = NULL;
    struct hlt_claims_facts facts;

    if (hlt_json_check(json, len, true, NULL) != NULL ||
        hlt_claims_build(&claims, &facts, json, len, kid, "", NULL, NULL) != HLT_REASON_OK) {
        return NULL;
    }
    return claims;
}

struct hlt_claims *hlt_claims_share(struct hlt_claims *claims)
{
    claims->shares++;
    return claims;
}

void hlt_claims_free(struct hlt_claims *claims)
{
    if (claims != NULL && claims->shares > 0) {
        claims->shares--;
        return;
    }
    free(claims); /* one allocation: see hlt_claims_build */
}
