/* token.c - arbitrary bytes as tokens, and arbitrary headers and payloads under a good signature.
 *
 * First byte 'T': the rest is a token; only the one token that was really signed may be accepted,
 * in its one spelling. 'P': the rest is a payload, 'H': header, line feed, payload; both are
 * signed, so that everything behind the signature is reached. */
#include "../../shared/token.h"

#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#include "../../shared/base64url.h"
#include "../../shared/jsonpull.h"
#include "../../shared/keyset_internal.h"
#include "../../shared/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PART_MAX 4096
#define NOW 1800000000
/* Also in the seeds, so that mutations start from a token that is accepted. */
#define HEADER "{\"alg\":\"HS256\"}"
#define PAYLOAD "{\"sub\":\"d\",\"exp\":1800000600}"

static const char secret[] = "0123456789abcdef0123456789abcdef";
static struct hlt_keyset *keys;
static struct hlt_verifier *verifier;

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void set_up(void)
{
    const struct hlt_key_source source = {.path = "fuzz"};
    struct hlt_problems problems = {0};

    keys = calloc(1, sizeof(*keys));
    verifier = hlt_verifier_new();
    require(keys != NULL && verifier != NULL);
    hlt_keyset_add(keys, &source, secret, strlen(secret), &problems);
    hlt_keyset_seal(keys, &problems);
    require(problems.errors == 0 && keys->count == 1);
}

/* Sign into `out`, which has room for it; returns the length. */
static size_t sign(char *out, size_t room, const void *header, size_t header_len,
                   const void *payload, size_t payload_len)
{
    unsigned char mac[32];
    unsigned mac_len = sizeof(mac);
    size_t used = hlt_base64url_encode(out, room, header, header_len);

    out[used++] = '.';
    used += hlt_base64url_encode(out + used, room - used, payload, payload_len);
    HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)out, used, mac,
         &mac_len);
    out[used++] = '.';
    return used + hlt_base64url_encode(out + used, room - used, mac, mac_len);
}

static void require_claims(const struct hlt_claims *claims)
{
    struct hlt_claims *again = hlt_claims_parse(claims->json, claims->json_len);

    require(hlt_json_check(claims->json, claims->json_len, true, NULL) == NULL);
    require(hlt_id_valid(claims->sub, claims->sub_len, NULL));
    require(strlen(claims->sub) == claims->sub_len);
    require(hlt_utf8_valid(claims->iss, strlen(claims->iss)));
    require(hlt_utf8_valid(claims->jti, strlen(claims->jti)));
    require(hlt_utf8_valid(claims->kid, strlen(claims->kid)));
    require(claims->nbf_s >= 0 && claims->nbf_s <= NOW && claims->iat_s >= 0);
    require(claims->has_exp ? claims->exp_s > NOW : claims->exp_s == INT64_MAX);
    require(claims->role_count <= HLT_TOKEN_ROLES_MAX);
    for (size_t i = 0; i < claims->role_count; i++) {
        require(claims->roles[i][0] != '\0');
    }
    require(again != NULL && strcmp(again->sub, claims->sub) == 0);
    hlt_claims_free(again);
}

/* Returns whether the token was accepted. */
static bool verify(const char *token, size_t len)
{
    const struct hlt_token_rules rules = {.max_bytes = 65535};
    struct hlt_claims *claims = NULL;
    struct hlt_err detail;
    enum hlt_reason reason =
        hlt_token_verify(verifier, keys, &rules, token, len, NOW, &claims, &detail);

    require((reason == HLT_REASON_OK) == (claims != NULL));
    require((reason == HLT_REASON_OK) == (detail.msg[0] == '\0'));
    require(reason < HLT_REASON_COUNT && reason != HLT_REASON_INTERNAL);
    if (claims != NULL) {
        require(hlt_token_shaped(token, len));
        require_claims(claims);
    }
    hlt_claims_free(claims);
    return reason == HLT_REASON_OK;
}

static void fuzz_token(const char *token, size_t len)
{
    char good[512];
    size_t good_len = sign(good, sizeof(good), HEADER, strlen(HEADER), PAYLOAD, strlen(PAYLOAD));

    hlt_token_shaped(token, len);
    if (verify(token, len)) {
        require(len == good_len && memcmp(token, good, len) == 0);
    } else {
        require(len != good_len || memcmp(token, good, len) != 0);
    }
}

static void fuzz_signed(const char *header, size_t header_len, const char *payload,
                        size_t payload_len)
{
    static char token[4 * PART_MAX];

    if (header_len <= PART_MAX && payload_len <= PART_MAX) {
        size_t len = sign(token, sizeof(token), header, header_len, payload, payload_len);
        verify(token, len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data + 1;
    const char *line_end;

    if (keys == NULL) {
        set_up();
    }
    if (size == 0) {
        return 0;
    }
    size--;
    line_end = memchr(text, '\n', size);
    if (data[0] == 'T') {
        fuzz_token(text, size);
    } else if (data[0] == 'H' && line_end != NULL) {
        size_t header_len = (size_t)(line_end - text);
        fuzz_signed(text, header_len, line_end + 1, size - header_len - 1);
    } else {
        fuzz_signed(HEADER, strlen(HEADER), text, size);
    }
    return 0;
}
