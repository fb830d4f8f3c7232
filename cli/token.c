/* token.c - `haltere token`: issue, verify and read tokens.
 *
 * A token is a password: it is read from standard input or a file and never from the command line,
 * where `ps` would show it. */
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/base64url.h"
#include "../shared/file.h"
#include "../shared/jsonpull.h"
#include "../shared/keyset.h"
#include "../shared/text.h"
#include "../shared/token.h"
#include "command.h"
#include "issue.h"
#include "revoke.h"

#define TOKEN_BYTES_MAX 65535 /* an MQTT password is no longer */
#define KEYS_FILES_MAX 32
#define LIST_MAX 32
#define LIFE_DEFAULT_S 3600

/* --- reading a token --- */

/* Standard input up to one byte over the limit, so that longer input is seen as too long. */
static char *read_stdin(size_t *len)
{
    char *text = hlt_cli_resize(NULL, TOKEN_BYTES_MAX + 3);

    *len = fread(text, 1, TOKEN_BYTES_MAX + 2, stdin);
    if (ferror(stdin) != 0) {
        hlt_cli_fail(HLT_EXIT_IO, "cannot read standard input");
        free(text);
        return NULL;
    }
    text[*len] = '\0';
    return text;
}

/* The token of --token-file, else of standard input, without blanks around it; NULL after a
 * message.
 */
static char *read_token(const char *path, const char *const *positional, int count, int *code)
{
    char *text = NULL;
    size_t len = 0, begin;
    struct hlt_err err;

    if (count > 0 && strcmp(positional[0], "-") != 0) {
        *code =
            hlt_cli_fail(HLT_EXIT_USAGE, "a token on the command line can be seen by everybody on "
                                         "this machine: pipe it in, or use --token-file");
        return NULL;
    }
    *code = HLT_EXIT_IO;
    if (path == NULL) {
        text = read_stdin(&len);
    } else if (hlt_file_read(path, HLT_FILE_PUBLIC, HLT_FILE_MAX_BYTES, &text, &len, &err) !=
               HLT_OK) {
        hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
        return NULL;
    }
    if (text == NULL) {
        return NULL;
    }
    if (memchr(text, '\0', len) != NULL) {
        *code = hlt_cli_fail(HLT_EXIT_NO, "not a token: there is a NUL byte in it");
        free(text);
        return NULL;
    }
    while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL) {
        len--;
    }
    text[len] = '\0';
    begin = strspn(text, " \t\r\n");
    memmove(text, text + begin, len - begin + 1);
    return text;
}

/* --- issue --- */

enum {
    ISSUE_KEY,
    ISSUE_KID,
    ISSUE_ALG,
    ISSUE_SUB,
    ISSUE_ISS,
    ISSUE_AUD,
    ISSUE_EXP,
    ISSUE_NBF,
    ISSUE_IAT,
    ISSUE_JTI,
    ISSUE_ROLE,
    ISSUE_CLASS,
    ISSUE_CLAIM,
    ISSUE_HEADER,
    ISSUE_OPTIONS
};

static const struct hlt_cli_option issue_options[] = {
    [ISSUE_KEY] = {"key", "FILE", "private key: JWK, JWKS, PEM, or a secret"},
    [ISSUE_KID] = {"kid", "KID", "the key of that name; names a key that has none"},
    [ISSUE_ALG] = {"alg", "ALG", "algorithm of a key that names none"},
    [ISSUE_SUB] = {"sub", "ID", "the device"},
    [ISSUE_ISS] = {"iss", "ISSUER", "who issues it"},
    [ISSUE_AUD] = {"aud", "AUDIENCE", "who it is for; may be repeated"},
    [ISSUE_EXP] = {"exp", "WHEN", "end of validity, default 1h; 'never' leaves it out"},
    [ISSUE_NBF] = {"nbf", "WHEN", "begin of validity"},
    [ISSUE_IAT] = {"iat", "WHEN", "time of issue, default now; 'never' leaves it out"},
    [ISSUE_JTI] = {"jti", "ID", "the token's own name, default random"},
    [ISSUE_ROLE] = {"role", "ROLE", "may be repeated"},
    [ISSUE_CLASS] = {"device-class", "CLASS", "class of the device"},
    [ISSUE_CLAIM] = {"claim", "NAME=VALUE", "any claim; VALUE is JSON, else text; may be repeated"},
    [ISSUE_HEADER] = {"header", "NAME=VALUE", "the same for the header (not alg)"},
    {NULL, NULL, NULL}};

static const struct hlt_cli_spec issue_spec = {
    .synopsis = "haltere token issue --key FILE --sub ID [OPTION]...",
    .summary = "Sign a token and print it on one line.",
    .options = issue_options,
    .notes = "WHEN is a span from now (30s, 1h, 7d, -5min), a date (2026-11-20T22:00:00Z) or @ and "
             "unix seconds.\n\n"
             "Example:\n"
             "  haltere token issue --key issuer.jwk --sub pump-7 --iss https://id.example \\\n"
             "    --aud broker --role sensor --exp 8h > pump-7.token"};

/* Whole seconds; false after a message. */
static bool parse_when(const char *name, const char *text, int64_t now_s, int64_t *out)
{
    bool minus = text[0] == '-';
    char *end = NULL;
    int64_t ms = 0;

    if (strcmp(text, "now") == 0) {
        *out = now_s;
        return true;
    }
    if (text[0] == '@' && text[1] != '\0') {
        *out = strtoll(text + 1, &end, 10);
        if (*end == '\0') {
            return true;
        }
    } else if (hlt_duration_parse(text + (minus || text[0] == '+'), &ms)) {
        *out = now_s + (minus ? -ms : ms) / 1000;
        return true;
    } else if (hlt_date_parse(text, strlen(text), &ms)) {
        *out = ms / 1000;
        return true;
    }
    hlt_cli_fail(
        HLT_EXIT_USAGE,
        "--%s '%s' is neither a span (1h, -5min), a date (2026-11-20T22:00:00Z) nor @SECONDS", name,
        text);
    return false;
}

/* A date claim; `fallback` where the option is not given, and none at all if that is negative. */
static bool add_date(cJSON *claims, const char *name, const char *text, int64_t now_s,
                     int64_t fallback)
{
    int64_t value = fallback;

    if (text != NULL && strcmp(text, "never") == 0) {
        return true;
    }
    if (text != NULL && !parse_when(name, text, now_s, &value)) {
        return false;
    }
    if (text != NULL || fallback >= 0) {
        cJSON_AddNumberToObject(claims, name, (double)value);
    }
    return true;
}

/* NAME=VALUE into the object, in place of what it held; false after a message. */
static bool add_pair(cJSON *object, const char *option, const char *pair)
{
    const char *equals = strchr(pair, '=');
    const char *value = equals != NULL ? equals + 1 : "";
    cJSON *item;
    char *name;

    if (equals == NULL || equals == pair) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--%s '%s' must be NAME=VALUE", option, pair);
        return false;
    }
    if (hlt_json_check(value, strlen(value), false, NULL) == NULL) {
        item = cJSON_Parse(value);
    } else if (value[0] != '\0' && strchr("{[\"", value[0]) != NULL) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--%s '%s': the value begins like JSON, but is not", option,
                     pair);
        return false;
    } else {
        item = cJSON_CreateString(value);
    }
    name = hlt_cli_resize(NULL, (size_t)(equals - pair) + 1);
    memcpy(name, pair, (size_t)(equals - pair));
    name[equals - pair] = '\0';
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    cJSON_AddItemToObject(object, name, item);
    free(name);
    return true;
}

static bool add_pairs(cJSON *object, const char *option, int argc, char **argv)
{
    const char *pair;
    int at = 0;

    while ((pair = hlt_cli_each(option, argc, argv, &at)) != NULL) {
        if (!add_pair(object, option, pair)) {
            return false;
        }
    }
    return true;
}

/* All values of a repeatable option: an array, or a string if there is one and `single` is set. */
static void add_list(cJSON *claims, const char *name, const char *option, bool single, int argc,
                     char **argv)
{
    cJSON *list = cJSON_CreateArray();
    const char *value;
    int at = 0;

    while ((value = hlt_cli_each(option, argc, argv, &at)) != NULL) {
        cJSON_AddItemToArray(list, cJSON_CreateString(value));
    }
    if (single && cJSON_GetArraySize(list) == 1) {
        cJSON_AddItemToObject(claims, name, cJSON_DetachItemFromArray(list, 0));
    } else if (cJSON_GetArraySize(list) > 0) {
        cJSON_AddItemToObject(claims, name, list);
        return;
    }
    cJSON_Delete(list);
}

static void add_text(cJSON *claims, const char *name, const char *value)
{
    if (value != NULL) {
        cJSON_AddStringToObject(claims, name, value);
    }
}

static bool add_jti(cJSON *claims, const char *given)
{
    unsigned char bytes[16];
    char text[HLT_BASE64URL_TEXT(sizeof(bytes))];

    if (given == NULL) {
        if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
            hlt_cli_fail(HLT_EXIT_IO, "the system gives no random bytes");
            return false;
        }
        hlt_base64url_encode(text, sizeof(text), bytes, sizeof(bytes));
        given = text;
    }
    cJSON_AddStringToObject(claims, "jti", given);
    return true;
}

static bool build_claims(cJSON *claims, const char *const *values, int argc, char **argv)
{
    int64_t now_s = hlt_cli_now_ms() / 1000;

    add_text(claims, "sub", values[ISSUE_SUB]);
    add_text(claims, "iss", values[ISSUE_ISS]);
    add_list(claims, "aud", "aud", true, argc, argv);
    add_list(claims, "roles", "role", false, argc, argv);
    add_text(claims, "device_class", values[ISSUE_CLASS]);
    return add_date(claims, "iat", values[ISSUE_IAT], now_s, now_s) &&
           add_date(claims, "nbf", values[ISSUE_NBF], now_s, -1) &&
           add_date(claims, "exp", values[ISSUE_EXP], now_s, now_s + LIFE_DEFAULT_S) &&
           add_jti(claims, values[ISSUE_JTI]) && add_pairs(claims, "claim", argc, argv);
}

/* Sign and print; a text that is not valid UTF-8 is found here, where it would be signed. */
static int print_signed(const char *const *values, const cJSON *header, const cJSON *claims)
{
    const struct hlt_issuer_choice choice = {
        .path = values[ISSUE_KEY], .alg = values[ISSUE_ALG], .kid = values[ISSUE_KID]};
    char *head = cJSON_PrintUnformatted(header), *body = cJSON_PrintUnformatted(claims);
    struct hlt_issuer *issuer = NULL;
    char *token = NULL;
    struct hlt_err err = {{0}};
    const char *wrong = body != NULL ? hlt_json_check(body, strlen(body), true, NULL) : "no memory";
    int code = HLT_EXIT_OK;

    if (wrong != NULL || head == NULL) {
        code = hlt_cli_fail(HLT_EXIT_USAGE, "the claims do not make valid JSON: %s", wrong);
    } else if (hlt_issuer_choose(&issuer, &choice, &err) != HLT_OK ||
               hlt_issuer_sign_with(issuer, head, body, &token, &err) != HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
    } else {
        puts(token);
    }
    hlt_issuer_close(issuer);
    free(token);
    cJSON_free(head);
    cJSON_free(body);
    return code;
}

static int token_issue(int argc, char **argv)
{
    const char *values[ISSUE_OPTIONS];
    cJSON *claims, *header;
    int code = HLT_EXIT_USAGE;

    switch (hlt_cli_parse(&issue_spec, argc, argv, values, NULL, NULL)) {
    case HLT_CLI_HELP: return HLT_EXIT_OK;
    case HLT_CLI_USAGE: return HLT_EXIT_USAGE;
    case HLT_CLI_OK: break;
    }
    if (values[ISSUE_KEY] == NULL || values[ISSUE_SUB] == NULL) {
        return hlt_cli_fail(HLT_EXIT_USAGE, "--%s is missing",
                            values[ISSUE_KEY] == NULL ? "key FILE" : "sub ID");
    }
    claims = cJSON_CreateObject();
    header = cJSON_CreateObject();
    if (build_claims(claims, values, argc, argv) && add_pairs(header, "header", argc, argv)) {
        code = cJSON_HasObjectItem(header, "alg") != 0
                   ? hlt_cli_fail(HLT_EXIT_USAGE, "alg goes with the key: use --alg")
                   : print_signed(values, header, claims);
    }
    cJSON_Delete(claims);
    cJSON_Delete(header);
    return code;
}

/* --- verify --- */

enum {
    VERIFY_KEYS,
    VERIFY_ISSUER,
    VERIFY_AUDIENCE,
    VERIFY_LEEWAY,
    VERIFY_LIFETIME,
    VERIFY_SIZE,
    VERIFY_AT,
    VERIFY_NO_EXP,
    VERIFY_NO_ISS,
    VERIFY_NO_AUD,
    VERIFY_FILE,
    VERIFY_JSON,
    VERIFY_OPTIONS
};

static const struct hlt_cli_option verify_options[] = {
    [VERIFY_KEYS] = {"keys", "FILE",
                     "as the option keys_file: '[alg=ALG] [kid=KID] [issuer=ISSUER] "
                     "PATH'; may be repeated"},
    [VERIFY_ISSUER] = {"issuer", "ISSUER", "accepted iss; may be repeated; default any"},
    [VERIFY_AUDIENCE] = {"audience", "AUD", "accepted aud; may be repeated; default any"},
    [VERIFY_LEEWAY] = {"leeway", "SPAN", "how far clocks may differ, default 30s"},
    [VERIFY_LIFETIME] = {"max-lifetime", "SPAN", "longest life, default 30d; 0 is no limit"},
    [VERIFY_SIZE] = {"max-bytes", "SIZE", "largest token, default 8192"},
    [VERIFY_AT] = {"at", "DATE", "judge as of then, default now"},
    [VERIFY_NO_EXP] = {"allow-no-exp", NULL, "exp need not be there"},
    [VERIFY_NO_ISS] = {"allow-no-iss", NULL, "iss need not be there"},
    [VERIFY_NO_AUD] = {"allow-no-aud", NULL, "aud need not be there"},
    [VERIFY_FILE] = {"token-file", "FILE", "read the token from FILE, default standard input"},
    [VERIFY_JSON] = {"json", NULL, "answer as JSON"},
    {NULL, NULL, NULL}};

static const struct hlt_cli_spec verify_spec = {
    .synopsis = "haltere token verify --keys FILE [OPTION]... [-]",
    .summary = "Judge a token exactly as the broker does. Exit code 0: valid, 1: refused.",
    .options = verify_options,
    .positional_max = 1,
    .notes = "Client id, bans and revocations are the broker's: they are not judged here.\n\n"
             "Example:\n"
             "  haltere token verify --keys /etc/mosquitto/keys.json < pump-7.token"};

struct verify {
    const char *values[VERIFY_OPTIONS];
    struct hlt_token_rules rules;
    const char *issuers[LIST_MAX], *audiences[LIST_MAX];
    int64_t now_s;
    struct hlt_keyset *keys;
};

static size_t gather(const char **list, const char *option, int argc, char **argv)
{
    size_t count = 0;
    int at = 0;

    while (count < LIST_MAX && (list[count] = hlt_cli_each(option, argc, argv, &at)) != NULL) {
        count++;
    }
    return count;
}

static bool span(const char *name, const char *text, int64_t fallback_s, int64_t *out_s)
{
    int64_t ms = fallback_s * 1000;

    if (text != NULL && !hlt_duration_parse(text, &ms)) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--%s '%s' is not a span of time like 30s, 5min or 30d", name,
                     text);
        return false;
    }
    *out_s = ms / 1000;
    return true;
}

static bool read_rules(struct verify *verify, int argc, char **argv)
{
    const char *const *values = verify->values;
    uint64_t size = HLT_TOKEN_MAX_DEFAULT;

    verify->rules = (struct hlt_token_rules){.issuers = verify->issuers,
                                             .audiences = verify->audiences,
                                             .require_exp = values[VERIFY_NO_EXP] == NULL,
                                             .require_iss = values[VERIFY_NO_ISS] == NULL,
                                             .require_aud = values[VERIFY_NO_AUD] == NULL};
    verify->rules.issuer_count = gather(verify->issuers, "issuer", argc, argv);
    verify->rules.audience_count = gather(verify->audiences, "audience", argc, argv);
    verify->now_s = hlt_cli_now_ms() / 1000;
    if (values[VERIFY_SIZE] != NULL &&
        (!hlt_size_parse(values[VERIFY_SIZE], &size) || size < 1 || size > TOKEN_BYTES_MAX)) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--max-bytes must be a size up to %d bytes", TOKEN_BYTES_MAX);
        return false;
    }
    verify->rules.max_bytes = (size_t)size;
    return span("leeway", values[VERIFY_LEEWAY], 30, &verify->rules.leeway_s) &&
           span("max-lifetime", values[VERIFY_LIFETIME], 30 * 86400L,
                &verify->rules.max_lifetime_s) &&
           (values[VERIFY_AT] == NULL ||
            parse_when("at", values[VERIFY_AT], verify->now_s, &verify->now_s));
}

static int load_keys(struct verify *verify, int argc, char **argv)
{
    struct hlt_key_source sources[KEYS_FILES_MAX];
    char *storage[KEYS_FILES_MAX] = {NULL};
    struct hlt_problems problems = {0};
    struct hlt_err err;
    const char *value;
    size_t count = 0;
    int at = 0, code = HLT_EXIT_OK;

    while (code == HLT_EXIT_OK && (value = hlt_cli_each("keys", argc, argv, &at)) != NULL) {
        if (count == KEYS_FILES_MAX) {
            code = hlt_cli_fail(HLT_EXIT_USAGE, "--keys may be given %d times", KEYS_FILES_MAX);
        } else if (hlt_key_source_parse(value, &sources[count], &storage[count], &err) != HLT_OK) {
            code = hlt_cli_fail(HLT_EXIT_USAGE, "%s", err.msg);
        } else {
            count++;
        }
    }
    if (code == HLT_EXIT_OK && count == 0) {
        code = hlt_cli_fail(HLT_EXIT_USAGE, "--keys FILE is missing");
    }
    if (code == HLT_EXIT_OK &&
        hlt_keyset_load(&verify->keys, sources, count, &problems) != HLT_OK) {
        code = HLT_EXIT_IO;
    }
    hlt_cli_problems(&problems);
    hlt_problems_free(&problems);
    for (size_t i = 0; i < count; i++) {
        free(storage[i]);
    }
    return code;
}

static void print_answer(const struct verify *verify, enum hlt_reason reason, const char *detail,
                         const struct hlt_claims *claims)
{
    char date[HLT_DATE_BYTES], left[24];

    if (reason != HLT_REASON_OK) {
        printf("%srefused%s: %s: %s (%s)\n", hlt_cli_red(), hlt_cli_reset(),
               hlt_reason_word(reason), hlt_reason_text(reason), detail);
        return;
    }
    printf("%svalid%s: ", hlt_cli_green(), hlt_cli_reset());
    hlt_cli_print_text(stdout, claims->sub);
    printf(", signed by %s", claims->alg);
    if (claims->kid[0] != '\0') {
        printf(" key ");
        hlt_cli_print_text(stdout, claims->kid);
    }
    if (claims->has_exp) {
        hlt_date_format(claims->exp_s * 1000, date);
        hlt_cli_age((claims->exp_s - verify->now_s) * 1000, left);
        printf(", expires %s (in %s)", date, left);
    }
    printf("\n");
}

static int answer(const struct verify *verify, enum hlt_reason reason, const char *detail,
                  const struct hlt_claims *claims)
{
    int code = reason == HLT_REASON_OK ? HLT_EXIT_OK : HLT_EXIT_NO;
    cJSON *document;

    if (verify->values[VERIFY_JSON] == NULL) {
        print_answer(verify, reason, detail, claims);
        return code;
    }
    document = cJSON_CreateObject();
    cJSON_AddBoolToObject(document, "valid", reason == HLT_REASON_OK);
    cJSON_AddStringToObject(document, "reason", hlt_reason_word(reason));
    cJSON_AddStringToObject(document, "text", hlt_reason_text(reason));
    if (detail[0] != '\0') {
        cJSON_AddStringToObject(document, "detail", detail);
    }
    if (claims != NULL) {
        cJSON_AddStringToObject(document, "alg", claims->alg);
        cJSON_AddStringToObject(document, "kid", claims->kid);
        cJSON_AddItemToObject(document, "claims", cJSON_Parse(claims->json));
    }
    return hlt_cli_print_json(document) == HLT_EXIT_OK ? code : HLT_EXIT_IO;
}

static int judge(const struct verify *verify, const char *token)
{
    struct hlt_verifier *verifier = hlt_verifier_new();
    struct hlt_claims *claims = NULL;
    struct hlt_err detail;
    enum hlt_reason reason;
    int code;

    if (verifier == NULL) {
        return hlt_cli_fail(HLT_EXIT_IO, "out of memory");
    }
    reason = hlt_token_verify(verifier, verify->keys, &verify->rules, token, strlen(token),
                              verify->now_s, &claims, &detail);
    code = reason == HLT_REASON_INTERNAL ? hlt_cli_fail(HLT_EXIT_IO, "%s", detail.msg)
                                         : answer(verify, reason, detail.msg, claims);
    hlt_claims_free(claims);
    hlt_verifier_free(verifier);
    return code;
}

static int token_verify(int argc, char **argv)
{
    struct verify verify = {.keys = NULL};
    const char *positional[1];
    int count = 0, code;
    char *token;

    switch (hlt_cli_parse(&verify_spec, argc, argv, verify.values, positional, &count)) {
    case HLT_CLI_HELP: return HLT_EXIT_OK;
    case HLT_CLI_USAGE: return HLT_EXIT_USAGE;
    case HLT_CLI_OK: break;
    }
    if (!read_rules(&verify, argc, argv)) {
        return HLT_EXIT_USAGE;
    }
    code = load_keys(&verify, argc, argv);
    if (code != HLT_EXIT_OK) {
        return code;
    }
    token = read_token(verify.values[VERIFY_FILE], positional, count, &code);
    if (token != NULL) {
        code = judge(&verify, token);
    }
    free(token);
    hlt_keyset_free(verify.keys);
    return code;
}

/* --- show --- */

enum { SHOW_FILE, SHOW_JSON, SHOW_OPTIONS };

static const struct hlt_cli_option show_options[] = {
    [SHOW_FILE] = {"token-file", "FILE", "read the token from FILE, default standard input"},
    [SHOW_JSON] = {"json", NULL, "print as JSON"},
    {NULL, NULL, NULL}};

static const struct hlt_cli_spec show_spec = {
    .synopsis = "haltere token show [--token-file FILE] [--json] [-]",
    .summary =
        "Decode a token WITHOUT checking its signature: anybody may have written what it says.",
    .options = show_options,
    .positional_max = 1,
    .notes = "Example:\n  haltere token show < pump-7.token"};

/* A segment's strict JSON object; NULL after a message. */
static cJSON *decode_segment(const char *name, const char *text, size_t len)
{
    size_t room = HLT_BASE64URL_DATA(len) + 1, at = 0;
    char *json = hlt_cli_resize(NULL, room);
    size_t used = hlt_base64url_decode(json, room - 1, text, len);
    const char *wrong = used != SIZE_MAX ? hlt_json_check(json, used, true, &at) : "not base64url";
    cJSON *object = NULL;

    if (wrong != NULL) {
        hlt_cli_fail(HLT_EXIT_NO, "not a token that would be accepted: %s: %s at byte %zu", name,
                     wrong, at);
    } else {
        json[used] = '\0';
        object = cJSON_Parse(json);
    }
    free(json);
    return object;
}

/* Line by line: within a line only cJSON's own tabs are control bytes, those of the token's texts
 * are escapes; the rest that could steer a terminal (DEL, C1) is made visible. */
static void print_object(const char *title, const cJSON *object)
{
    char *text = cJSON_Print(object), *line = text;

    printf("%s%s%s ", hlt_cli_bold(), title, hlt_cli_reset());
    while (line != NULL && *line != '\0') {
        char *end = strchr(line, '\n');
        for (char *at = line; at != end && *at != '\0'; at++) {
            if (*at == '\t') {
                *at = ' ';
            }
        }
        if (end != NULL) {
            *end = '\0';
        }
        hlt_cli_print_text(stdout, line);
        printf("\n");
        line = end != NULL ? end + 1 : NULL;
    }
    cJSON_free(text);
}

static void print_dates(const cJSON *claims)
{
    static const char *const names[] = {"iat", "nbf", "exp"};
    char date[HLT_DATE_BYTES];

    for (size_t i = 0; i < 3; i++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(claims, names[i]);
        if (cJSON_IsNumber(item) != 0 && item->valuedouble >= 0 && item->valuedouble < 2.5e11) {
            hlt_date_format((int64_t)item->valuedouble * 1000, date);
            printf("%s %s\n", names[i], date);
        }
    }
}

static int show(const char *token, bool as_json)
{
    const char *first = strchr(token, '.'), *second = first != NULL ? strchr(first + 1, '.') : NULL;
    cJSON *header = NULL, *claims = NULL, *document;

    if (second == NULL || strchr(second + 1, '.') != NULL) {
        return hlt_cli_fail(HLT_EXIT_NO, "not a token: it must have three parts joined by dots");
    }
    header = decode_segment("header", token, (size_t)(first - token));
    claims =
        header != NULL ? decode_segment("payload", first + 1, (size_t)(second - first - 1)) : NULL;
    if (claims == NULL) {
        cJSON_Delete(header);
        return HLT_EXIT_NO;
    }
    if (as_json) {
        document = cJSON_CreateObject();
        cJSON_AddBoolToObject(document, "verified", 0);
        cJSON_AddItemToObject(document, "header", header);
        cJSON_AddItemToObject(document, "claims", claims);
        return hlt_cli_print_json(document);
    }
    printf("%sNOT VERIFIED%s: the signature was not checked, anybody may have written this\n",
           hlt_cli_yellow(), hlt_cli_reset());
    print_object("header", header);
    print_object("claims", claims);
    print_dates(claims);
    cJSON_Delete(header);
    cJSON_Delete(claims);
    return HLT_EXIT_OK;
}

static int token_show(int argc, char **argv)
{
    const char *values[SHOW_OPTIONS], *positional[1];
    int count = 0, code;
    char *token;

    switch (hlt_cli_parse(&show_spec, argc, argv, values, positional, &count)) {
    case HLT_CLI_HELP: return HLT_EXIT_OK;
    case HLT_CLI_USAGE: return HLT_EXIT_USAGE;
    case HLT_CLI_OK: break;
    }
    token = read_token(values[SHOW_FILE], positional, count, &code);
    if (token != NULL) {
        code = show(token, values[SHOW_JSON] != NULL);
    }
    free(token);
    return code;
}

int hlt_cmd_token(int argc, char **argv)
{
    static const struct hlt_cli_verb verbs[] = {
        {"issue", token_issue, "sign a token for a device"},
        {"verify", token_verify, "judge a token as the broker does"},
        {"show", token_show, "read a token without checking it"},
        {"revoke", hlt_token_revoke, "bar tokens before they expire"},
        {"unrevoke", hlt_token_unrevoke, "lift a revocation"},
        {"revocations", hlt_token_revocations, "what is revoked"},
        {NULL, NULL, NULL}};

    return hlt_cli_dispatch("token", verbs, argc, argv);
}
