/* token.c - what verifying a token costs over the bare OpenSSL verification of the same signature.
 *
 * Rounds of both are interleaved, so that a busy machine slows both; the ratio is that of the
 * median rounds. Budgets (DESIGN 10): ES256 and EdDSA 1.2, RS256 1.6, HS256 8, a token seen before
 * 1 us. Also: what a refused token costs, because strangers can send those. */
#include <math.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>
#include <time.h>

#include "../../shared/jsonpull.h"
#include "../../shared/tokencache.h"
#include "../unit/signing.h"

#define ROUNDS 15
#define ROUND_NS 6e6
#define NOW 1800000000
#define PAYLOAD_BYTES 303 /* as in the first measurements of the library */

struct bench {
    struct signer signer;
    struct hlt_keyset *keys;
    struct hlt_verifier *verifier;
    struct hlt_token_rules rules;
    char *token;
    size_t len, signed_len;
    unsigned char sig[1024]; /* as OpenSSL takes it: DER for EC */
    size_t sig_len;
};

static double now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

static void load(struct bench *bench)
{
    struct hlt_problems problems = {0};
    char *jwk = jwk_of(&bench->signer, "bench", bench->signer.alg);
    char *path = file_with(jwk, strlen(jwk), 0600);
    struct hlt_key_source source = {.path = path};

    hlt_keyset_load(&bench->keys, &source, 1, &problems);
    must(bench->keys);
    hlt_problems_free(&problems);
    file_remove(path);
    free(jwk);
}

static void make_payload(char *out)
{
    size_t used = (size_t)sprintf(
        out, "{\"iss\":\"https://id.example\",\"sub\":\"pump-0042\",\"aud\":\"broker\",\"iat\":"
             "1799999000,\"nbf\":1799999000,\"exp\":1800003600,\"jti\":\"0f8fad5b-d9cb-469f\","
             "\"roles\":[\"sensor\",\"north\"],\"device_class\":\"pump\",\"site\":\"");

    while (used < PAYLOAD_BYTES - 2) {
        out[used++] = 'x';
    }
    memcpy(out + used, "\"}", 3);
}

static struct bench set_up(const char *alg)
{
    static const char *const one_issuer[] = {"https://id.example"};
    static const char *const one_audience[] = {"broker"};
    struct bench bench = {.signer = signer_new(alg)};
    char payload[PAYLOAD_BYTES + 1];

    load(&bench);
    bench.verifier = must(hlt_verifier_new());
    bench.rules = (struct hlt_token_rules){.issuers = one_issuer,
                                           .issuer_count = 1,
                                           .audiences = one_audience,
                                           .audience_count = 1,
                                           .leeway_s = 30,
                                           .max_bytes = HLT_TOKEN_MAX_DEFAULT,
                                           .require_exp = true,
                                           .require_iss = true,
                                           .require_aud = true};
    make_payload(payload);
    bench.token = sign(&bench.signer, "bench", payload);
    bench.len = strlen(bench.token);
    bench.signed_len = (size_t)(strrchr(bench.token, '.') - bench.token);
    /* the same bytes signed again: for EC in DER, as EVP_DigestVerify wants it */
    bench.sig_len = sizeof(bench.sig);
    if (bench.signer.pkey != NULL) {
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        EVP_PKEY_CTX *pctx = NULL;
        bool eddsa = strcmp(bench.signer.alg, "EdDSA") == 0;
        EVP_DigestSignInit(context, &pctx, eddsa ? NULL : alg_digest(alg), NULL, bench.signer.pkey);
        if (alg[0] == 'P') {
            EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING);
            EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST);
        }
        EVP_DigestSign(context, bench.sig, &bench.sig_len, (const unsigned char *)bench.token,
                       bench.signed_len);
        EVP_MD_CTX_free(context);
    }
    return bench;
}

static void raw(const struct bench *bench)
{
    const unsigned char *text = (const unsigned char *)bench->token;
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_len = 0;
    EVP_MD_CTX *context;
    EVP_PKEY_CTX *pctx = NULL;
    const EVP_MD *digest =
        strcmp(bench->signer.alg, "EdDSA") == 0 ? NULL : alg_digest(bench->signer.alg);

    if (bench->signer.pkey == NULL) {
        HMAC(digest, bench->signer.secret, (int)bench->signer.secret_len, text, bench->signed_len,
             mac, &mac_len);
        return;
    }
    context = EVP_MD_CTX_new();
    EVP_DigestVerifyInit(context, &pctx, digest, NULL, bench->signer.pkey);
    if (bench->signer.alg[0] == 'P') {
        EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING);
        EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_AUTO);
    }
    if (EVP_DigestVerify(context, bench->sig, bench->sig_len, text, bench->signed_len) != 1) {
        must(NULL);
    }
    EVP_MD_CTX_free(context);
}

static void ours(const struct bench *bench)
{
    struct hlt_claims *claims = NULL;

    hlt_token_verify(bench->verifier, bench->keys, &bench->rules, bench->token, bench->len, NOW,
                     &claims, NULL);
    must(claims);
    hlt_claims_free(claims);
}

/* ns a call over about ROUND_NS. */
static double round_of(void (*call)(const struct bench *), const struct bench *bench)
{
    double begin = now_ns(), elapsed;
    unsigned count = 0;

    do {
        for (int i = 0; i < 16; i++) {
            call(bench);
        }
        count += 16;
        elapsed = now_ns() - begin;
    } while (elapsed < ROUND_NS);
    return elapsed / count;
}

static bool run(const char *alg, double budget)
{
    struct bench bench = set_up(alg);
    double raws[ROUNDS], all[ROUNDS], ratio;

    for (int i = 0; i < ROUNDS; i++) {
        raws[i] = round_of(raw, &bench);
        all[i] = round_of(ours, &bench);
    }
    qsort(raws, ROUNDS, sizeof(raws[0]), compare);
    qsort(all, ROUNDS, sizeof(all[0]), compare);
    ratio = all[ROUNDS / 2] / raws[ROUNDS / 2];
    printf("%-7s raw %8.2f us   verified claims %8.2f us   ratio %5.2f", alg,
           raws[ROUNDS / 2] / 1e3, all[ROUNDS / 2] / 1e3, ratio);
    if (budget > 0) {
        printf("   budget %.1f%s", budget, ratio <= budget ? "" : "   OVER");
    }
    printf("\n");
    hlt_keyset_free(bench.keys);
    hlt_verifier_free(bench.verifier);
    EVP_PKEY_free(bench.signer.pkey);
    free(bench.token);
    return budget <= 0 || ratio <= budget;
}

/* --- what strangers can make us do --- */

#define CLAIMS                                                                                     \
    "\"iss\":\"https://id.example\",\"sub\":\"pump-0042\",\"aud\":\"broker\",\"iat\":"             \
    "1799999000,\"exp\":1800003600,\"jti\":\"0f8fad5b-d9cb-469f\""
#define TOKEN_ROOM 8000 /* bytes of a hostile token */

/* As many units as the limits allow, between begin and end; # is another number each time. */
static const struct shape {
    const char *what, *begin, *unit, *end;
    bool in_header;
} shapes[] = {
    {"plain", "", "", "", false},
    {"64 roles", "\"roles\":[", "\"role-#\"", "]", false},
    {"members", "\"a\":{", "\"#\":1", "}", false},
    {"long names", "\"a\":{", "\"a-rather-long-name-of-a-member-#\":true", "}", false},
    {"empty objects", "\"a\":[", "{}", "]", false},
    {"empty arrays", "\"a\":[", "[]", "]", false},
    {"deep nesting", "\"a\":[", "[[[[[[[[[[[[[]]]]]]]]]]]]]", "]", false},
    {"deep objects", "\"a\":[", "{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{\"\":{}}}}}}}}", "]", false},
    {"strings", "\"a\":[", "\"a string that is twenty\"", "]", false},
    {"long digits", "\"a\":[", "12345678901234567890123456789012345678901234567890123456789012",
     "]", false},
    {"small numbers", "\"a\":[", "4.9406564584124654e-324", "]", false},
    {"large numbers", "\"a\":[", "1.7976931348623157e308", "]", false},
    {"one string", "\"a\":\"", "x", "\"", false},
    {"one string of quotes", "\"a\":\"", "\\\"", "\"", false},
    {"one string of escapes", "\"a\":\"", "\\u00e9", "\"", false},
    {"one string, not ASCII", "\"a\":\"", "\xc3\xa9", "\"", false},
    {"one name", "\"", "x", "\":1", false},
    {"blanks", "\"a\":", " ", "1", false},
    {"members in the header", "\"a\":{", "\"#\":1", "}", true},
    {"small numbers in the header", "\"a\":[", "4.9406564584124654e-324", "]", true},
    {"a string of quotes in the header", "\"a\":\"", "\\\"", "\"", true},
    {"blanks in the header", "\"a\":", " ", "1", true},
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static char *fill(const struct shape *shape, const char *head, unsigned units)
{
    bool listed = shape->end[0] == ']' || shape->end[0] == '}';
    size_t unit = strlen(shape->unit) + 8, room = 1024 + units * unit;
    char *out = must(malloc(room)), *at = stpcpy(out, head);

    at = stpcpy(at, shape->begin[0] != '\0' ? "," : "");
    at = stpcpy(at, shape->begin);
    for (unsigned i = 0; i < units; i++) {
        at = stpcpy(at, i > 0 && listed ? "," : "");
        for (const char *c = shape->unit; *c != '\0'; c++) {
            at = *c == '#' ? at + sprintf(at, "%u", i) : stpncpy(at, c, 1);
        }
    }
    strcpy(stpcpy(at, shape->end), "}");
    return out;
}

static bool allowed(const struct shape *shape, const char *text)
{
    size_t max = shape->in_header ? HLT_TOKEN_HEADER_WEIGHT_MAX : HLT_TOKEN_PAYLOAD_WEIGHT_MAX;

    return strlen(text) < TOKEN_ROOM / 4 * 3 - (shape->in_header ? 600 : 500) &&
           hlt_json_check_weight(text, strlen(text), true, max, NULL) == NULL;
}

/* The token of this shape, signed as it should be. */
static char *token_of(const struct signer *signer, const struct shape *shape)
{
    char head[64], *filled, *token;
    unsigned units = 0;
    unsigned most = shape->unit[0] == '\0'                     ? 0
                    : strcmp(shape->begin, "\"roles\":[") == 0 ? HLT_TOKEN_ROLES_MAX
                                                               : TOKEN_ROOM;

    snprintf(head, sizeof(head), "{\"alg\":\"%s\",\"kid\":\"bench\",\"typ\":\"JWT\"", signer->alg);
    for (unsigned step = 4096; step > 0; step /= 2) { /* the largest number that is allowed */
        if (units + step > most) {
            continue;
        }
        filled = fill(shape, shape->in_header ? head : "{" CLAIMS, units + step);
        units += allowed(shape, filled) ? step : 0;
        free(filled);
    }
    filled = fill(shape, shape->in_header ? head : "{" CLAIMS, units);
    token = shape->in_header ? sign_with(signer, filled, "{" CLAIMS "}")
                             : sign_with(signer, strcat(head, "}"), filled);
    free(filled);
    return token;
}

static void refuse(const struct bench *bench)
{
    struct hlt_claims *claims = NULL;

    hlt_token_verify(bench->verifier, bench->keys, &bench->rules, bench->token, bench->len, NOW,
                     &claims, NULL);
    if (claims != NULL) {
        must(NULL);
    }
}

#define FEW 7

/* us of both in their quietest rounds, interleaved: they differ by little. */
static void both(struct bench *bench, char *other, double *accepted, double *refused)
{
    char *token = bench->token;

    *accepted = *refused = INFINITY;
    for (int i = 0; i < FEW; i++) {
        *accepted = fmin(*accepted, round_of(ours, bench) / 1e3);
        bench->token = other;
        *refused = fmin(*refused, round_of(refuse, bench) / 1e3);
        bench->token = token;
    }
}

#define NOISE 1.05 /* of a shared machine */

struct verdict {
    double plain;           /* us to accept a plain one */
    double dearest, worst;  /* us to refuse one at most; over accepting the same at most */
    const char *which, *of; /* the shapes of these two */
};

/* A token of each shape, and the same with another signature. */
static struct verdict run_shapes(const char *alg, bool show)
{
    struct bench bench = set_up(alg);
    struct verdict verdict = {.worst = 0};

    for (size_t i = 0; i < SHAPES; i++) {
        double accepted = 0, refused = 0;
        free(bench.token);
        bench.token = token_of(&bench.signer, &shapes[i]);
        bench.len = strlen(bench.token);
        char *forged = must(strdup(bench.token)), *signature = strrchr(forged, '.') + 1;
        *signature = *signature == 'A' ? 'B' : 'A';
        both(&bench, forged, &accepted, &refused);
        free(forged);
        if (show) {
            printf("%-7s %-33s %4zu bytes: accepted %6.2f us, forged %6.2f us\n", alg,
                   shapes[i].what, bench.len, accepted, refused);
        }
        verdict.plain = i == 0 ? accepted : verdict.plain;
        if (refused > verdict.dearest) {
            verdict.dearest = refused;
            verdict.which = shapes[i].what;
        }
        if (refused / accepted > verdict.worst) {
            verdict.worst = refused / accepted;
            verdict.of = shapes[i].what;
        }
    }
    hlt_keyset_free(bench.keys);
    hlt_verifier_free(bench.verifier);
    EVP_PKEY_free(bench.signer.pkey);
    free(bench.token);
    return verdict;
}

/* What the shapes cost is the same for all algorithms, so one shows them. */
static bool run_all_shapes(void)
{
    static const char *const algs[] = {"HS256", "RS256", "ES256", "EdDSA"};
    bool good = true;

    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        struct verdict verdict = run_shapes(algs[i], i == 0);
        bool met = verdict.worst <= NOISE;
        printf("%-7s forged over accepted, at most %4.2f (%s)   budget 1.0 and noise%s\n", algs[i],
               verdict.worst, verdict.of, met ? "" : "   OVER");
        printf("%-7s accepted, plain %6.2f us; forged, at most %6.2f us (%s)\n", algs[i],
               verdict.plain, verdict.dearest, verdict.which);
        good = good && met;
    }
    return good;
}

/* What is refused before anything dear is done. */
static void run_refused(struct bench *bench, const char *what, char *token)
{
    double rounds[FEW];

    bench->token = token;
    bench->len = strlen(token);
    for (int i = 0; i < FEW; i++) {
        rounds[i] = round_of(refuse, bench);
    }
    qsort(rounds, FEW, sizeof(rounds[0]), compare);
    printf("refused: %-44s %8.2f us\n", what, rounds[FEW / 2] / 1e3);
    free(token);
}

static void run_all_refused(void)
{
    struct bench bench = set_up("ES256");
    char *text = must(malloc(16384));
    size_t used = 0;

    free(bench.token);
    run_refused(&bench, "an unknown kid", sign(&bench.signer, "none", "{\"sub\":\"d\"}"));
    text[used++] = '{';
    for (int i = 0; used < 5500; i++) { /* as many names as 8192 bytes of token hold */
        used += (size_t)sprintf(text + used, "%s\"%x\":1", i > 0 ? "," : "", i);
    }
    strcpy(text + used, "}");
    run_refused(&bench, "8 KB of member names", sign(&bench.signer, "bench", text));
    memset(text, '.', 8000);
    text[8000] = '\0';
    run_refused(&bench, "8 KB of dots", strdup(text));
    free(text);
    hlt_keyset_free(bench.keys);
    hlt_verifier_free(bench.verifier);
    EVP_PKEY_free(bench.signer.pkey);
}

/* --- tokens seen before --- */

#define CACHED 100000u /* the default of token_cache */
#define CACHED_BUDGET_NS 1000.0

/* The token with its last four bytes replaced: another token, as hot as one just received. */
static void hash_variant(const struct bench *bench, uint32_t number, uint8_t hash[HLT_SHA256_BYTES])
{
    memcpy(bench->token + bench->len - sizeof(number), &number, sizeof(number));
    hlt_sha256(hash, bench->token, bench->len);
}

/* What a login by a token seen before costs: its hash, the search, the times, the claims. They come
 * in an order that no cache line can foresee. */
static bool run_cached(void)
{
    struct bench bench = set_up("ES256");
    struct hlt_tokencache *cache = must(hlt_tokencache_new(CACHED));
    struct hlt_claims *verified = NULL;
    double rounds[ROUNDS];
    uint8_t hash[HLT_SHA256_BYTES];
    uint32_t at = 0;

    hlt_token_verify(bench.verifier, bench.keys, &bench.rules, bench.token, bench.len, NOW,
                     &verified, NULL);
    must(verified);
    for (uint32_t i = 0; i < CACHED; i++) { /* each with claims of its own */
        struct hlt_claims *claims = must(hlt_claims_parse(verified->json, verified->json_len));
        hash_variant(&bench, i, hash);
        hlt_tokencache_put(cache, hash, claims);
        hlt_claims_free(claims);
    }
    hlt_claims_free(verified);
    for (int round = 0; round < ROUNDS; round++) {
        double begin = now_ns();
        for (uint32_t i = 0; i < CACHED; i++) {
            at = (at + 61803u) % CACHED;
            hash_variant(&bench, at, hash);
            struct hlt_claims *claims = must(hlt_tokencache_get(cache, hash));
            if (hlt_claims_judge_times(claims, &bench.rules, NOW, NULL) != HLT_REASON_OK) {
                must(NULL);
            }
            hlt_claims_free(claims);
        }
        rounds[round] = (now_ns() - begin) / CACHED;
    }
    qsort(rounds, ROUNDS, sizeof(rounds[0]), compare);
    printf("seen before: %zu bytes of token, one of %u: %.0f ns   budget %.0f%s\n", bench.len,
           CACHED, rounds[ROUNDS / 2], CACHED_BUDGET_NS,
           rounds[ROUNDS / 2] <= CACHED_BUDGET_NS ? "" : "   OVER");
    hlt_tokencache_free(cache);
    hlt_keyset_free(bench.keys);
    hlt_verifier_free(bench.verifier);
    EVP_PKEY_free(bench.signer.pkey);
    free(bench.token);
    return rounds[ROUNDS / 2] <= CACHED_BUDGET_NS;
}

/* --- for tests/bench/broker.py --- */

static int print_raw(const char *alg)
{
    struct bench bench = set_up(alg);
    double rounds[ROUNDS];

    for (int i = 0; i < ROUNDS; i++) {
        rounds[i] = round_of(raw, &bench);
    }
    qsort(rounds, ROUNDS, sizeof(rounds[0]), compare);
    printf("%.2f\n", rounds[ROUNDS / 2] / 1e3);
    return 0;
}

/* A line "name token" for each name on stdin; no two tokens are alike. */
static int issue(const char *alg, const char *key_file, const char *issuer, const char *audience)
{
    struct signer signer = {.pkey = NULL};
    char name[256], payload[1024];
    FILE *file = must(fopen(key_file, "re"));
    struct timespec now;

    snprintf(signer.alg, sizeof(signer.alg), "%s", alg);
    signer.pkey = must(PEM_read_PrivateKey(file, NULL, NULL, NULL));
    (void)fclose(file);
    clock_gettime(CLOCK_REALTIME, &now);
    while (fgets(name, sizeof(name), stdin) != NULL) {
        name[strcspn(name, "\n")] = '\0';
        snprintf(payload, sizeof(payload),
                 "{\"iss\":\"%s\",\"sub\":\"%s\",\"aud\":\"%s\",\"iat\":%lld,\"exp\":%lld,"
                 "\"jti\":\"%lld.%09ld\",\"roles\":[\"sensor\"],\"device_class\":\"pump\"}",
                 issuer, name, audience, (long long)now.tv_sec, (long long)now.tv_sec + 7200,
                 (long long)now.tv_sec, now.tv_nsec);
        char *token = sign(&signer, NULL, payload);
        printf("%s %s\n", name, token);
        free(token);
    }
    EVP_PKEY_free(signer.pkey);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *alg;
        double budget; /* 0: none */
    } rows[] = {{"HS256", 8},   {"HS512", 0}, {"RS256", 1.6}, {"PS256", 0},
                {"ES256", 1.2}, {"ES384", 0}, {"ES256K", 0},  {"EdDSA", 1.2}};
    bool good = true;

    if (argc == 3 && strcmp(argv[1], "--raw") == 0) {
        return print_raw(argv[2]);
    }
    if (argc == 6 && strcmp(argv[1], "--issue") == 0) {
        return issue(argv[2], argv[3], argv[4], argv[5]);
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        good = run(rows[i].alg, rows[i].budget) && good;
    }
    good = run_all_shapes() && good;
    run_all_refused();
    good = run_cached() && good;
    return good ? 0 : 1;
}
