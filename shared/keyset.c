/* keyset.c - judges keys at load and binds each to one algorithm.
 *
 * A key is judged twice: as JSON before libjwt sees it, and as the OpenSSL key libjwt made of it,
 * because that one will check the signatures. libjwt gets the key without `alg` and the algorithm
 * beside it: given in both places it enforces only the family (facts: libjwt, trap B). */
#include "keyset_internal.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "keyfile.h"
#include "text.h"

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 16384       /* OpenSSL verifies no longer ones */
#define RSA_EXPONENT_BITS_MAX 64 /* OpenSSL: no longer ones above 3072 bits */
/* 2^448 - 2^224 - 1 */
#define ED448_P                                                                                    \
    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFE"                                     \
    "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"

/* Where a problem is. */
struct place {
    struct hlt_problems *problems;
    const char *path;
    unsigned line;
    const char *name; /* "key 2 (kid \"a\"): " or "" */
    bool in_set;      /* one key of a JWKS */
};

#define TELL_KIND(place, kind, ...)                                                                \
    hlt_problems_add((place)->problems, kind, (place)->path, (place)->line, 0, __VA_ARGS__)
#define TELL(place, ...) TELL_KIND(place, HLT_PROBLEM_ERROR, __VA_ARGS__)

/* A key that is not for us. In a JWKS it is passed over (RFC 7517 section 5): identity providers
 * publish their encryption keys beside those that sign. Alone in its file it is a mistake. */
static enum hlt_problem_kind not_for_us(const struct place *place)
{
    return place->in_set ? HLT_PROBLEM_WARNING : HLT_PROBLEM_ERROR;
}

/* --- the key as JSON --- */

static const struct hlt_alg *alg_named(const char *name, enum hlt_problem_kind kind,
                                       const struct place *place)
{
    const struct hlt_alg *alg = hlt_alg_find(name);
    char shown[64];

    if (alg == NULL) {
        const char *near = hlt_suggest(name, hlt_alg_names());
        hlt_printable(shown, sizeof(shown), name, strlen(name));
        TELL_KIND(place, kind,
                  "%s%sunknown alg \"%s\"%s%s%s; known are HS256, RS256, PS256, ES256 (each also "
                  "384 and 512), ES256K and EdDSA",
                  place->name, kind == HLT_PROBLEM_WARNING ? "passed over: " : "", shown,
                  near != NULL ? " (did you mean " : "", near != NULL ? near : "",
                  near != NULL ? "?)" : "");
    }
    return alg;
}

static const struct hlt_alg *choose_alg(const struct hlt_jwk *jwk,
                                        const struct hlt_key_source *source,
                                        const struct place *place)
{
    const char *name = jwk->has_alg ? jwk->alg : source->alg;
    const struct hlt_alg *alg =
        alg_named(name != NULL ? name : hlt_jwk_default_alg(jwk),
                  jwk->has_alg ? not_for_us(place) : HLT_PROBLEM_ERROR, place);

    if (alg == NULL) {
        return NULL;
    }
    if (jwk->has_alg && source->alg != NULL && strcmp(jwk->alg, source->alg) != 0) {
        TELL(place, "%sthe key says alg %s, the keys_file option alg=%s; remove one of them",
             place->name, alg->name, source->alg);
        return NULL;
    }
    if (!hlt_jwk_fits(jwk, alg)) {
        TELL(place, "%salg %s does not fit this key (%s%s%s); its own would be %s", place->name,
             alg->name, jwk->kty, jwk->crv[0] != '\0' ? " " : "", jwk->crv,
             hlt_jwk_default_alg(jwk));
        return NULL;
    }
    return alg;
}

static bool judge_json(const struct hlt_jwk *jwk, const struct place *place)
{
    if (hlt_jwk_is_private(jwk)) {
        TELL(place,
             "%sholds private members, which have no place on a broker; publish the public half "
             "(haltere key new --public FILE writes it; else remove d, p, q, dp, dq and qi)",
             place->name);
        return false;
    }
    if (jwk->unusable != NULL) {
        TELL_KIND(place, not_for_us(place), "%s%s%s", place->name,
                  place->in_set ? "passed over: " : "", jwk->unusable);
        return false;
    }
    if (jwk->has_ops && !jwk->may_verify) {
        TELL_KIND(
            place, not_for_us(place),
            "%s%s\"key_ops\" does not list \"verify\"; add it if this key checks tokens, else "
            "remove the key",
            place->name, place->in_set ? "passed over: " : "");
        return false;
    }
    return true;
}

/* --- the key as libjwt holds it --- */

static bool judge_secret(const struct hlt_key *key, const struct place *place)
{
    const unsigned char *bytes = NULL;
    size_t len = 0;

    if (jwks_item_key_oct(key->item, &bytes, &len) != 0 || len < key->alg->secret_min) {
        TELL(place,
             "%sa secret for %s must have at least %u bytes, this one has %zu; make one with: "
             "haltere "
             "key new --alg %s --out FILE",
             place->name, key->alg->name, key->alg->secret_min, len, key->alg->name);
        return false;
    }
    if (hlt_keyfile_looks_public((const char *)bytes, len)) {
        TELL(place, "%sthe secret is a public key or certificate, which everybody knows",
             place->name);
        return false;
    }
    return true;
}

static bool judge_rsa(const EVP_PKEY *pkey, unsigned bits, const struct place *place)
{
    BIGNUM *e = NULL, *n = NULL;
    bool good = false;

    EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_E, &e);
    EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n);
    if (e == NULL || n == NULL || !BN_is_odd(n)) {
        TELL(place, "%sthe modulus \"n\" is not one of an RSA key", place->name);
    } else if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX) {
        TELL(place, "%sthe RSA key has %u bits, it must have %d to %d; make a new one", place->name,
             bits, RSA_BITS_MIN, RSA_BITS_MAX);
    } else if (!BN_is_odd(e) || BN_is_one(e) || BN_num_bits(e) > RSA_EXPONENT_BITS_MAX) {
        TELL(place,
             "%sthe RSA exponent must be odd, at least 3 and at most %d bits long (1 would make "
             "every "
             "signature valid); make a new key",
             place->name, RSA_EXPONENT_BITS_MAX);
    } else {
        good = true;
    }
    BN_free(e);
    BN_free(n);
    return good;
}

/* OpenSSL takes any bytes of the right length for an Edwards key. Under a point of small order
 * signatures are valid that nobody made. */
static bool judge_ed25519(const EVP_PKEY *pkey)
{
    unsigned char point[crypto_core_ed25519_BYTES];
    size_t len = sizeof(point);

    return EVP_PKEY_get_raw_public_key(pkey, point, &len) == 1 &&
           crypto_core_ed25519_is_valid_point(point) == 1;
}

/* The points of order 1, 2 and 4 are those with y of 1, -1 and 0 (RFC 8032 section 5.2: x^2 + y^2 =
 * 1 + d x^2 y^2), so y must lie strictly between 1 and p - 1. One off the curve verifies nothing.
 */
static bool judge_ed448(const EVP_PKEY *pkey)
{
    unsigned char point[57]; /* y in 56 bytes, lowest first, then the sign of x */
    size_t len = sizeof(point);
    BIGNUM *p = NULL, *y = NULL;
    bool good = EVP_PKEY_get_raw_public_key(pkey, point, &len) == 1 && len == sizeof(point) &&
                (point[56] & 0x7fU) == 0 && (y = BN_lebin2bn(point, 56, NULL)) != NULL &&
                BN_hex2bn(&p, ED448_P) > 0 && BN_sub_word(p, 1) == 1;

    good = good && !BN_is_zero(y) && !BN_is_one(y) && BN_cmp(y, p) < 0;
    BN_free(y);
    BN_free(p);
    return good;
}

static bool judge_point(EVP_PKEY *pkey, const struct place *place)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(pkey, NULL);
    bool good = context != NULL && EVP_PKEY_public_check(context) == 1;

    if (good && EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED25519) {
        good = judge_ed25519(pkey);
    } else if (good && EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED448) {
        good = judge_ed448(pkey);
    }
    EVP_PKEY_CTX_free(context);
    if (!good) {
        TELL(place, "%sthe public key is not a usable point of its curve; export it again",
             place->name);
    }
    return good;
}

static bool judge_public(struct hlt_key *key, const struct place *place)
{
    const char *pem = jwks_item_pem(key->item);
    BIO *bio = pem != NULL ? BIO_new_mem_buf(pem, -1) : NULL;
    EVP_PKEY *pkey = bio != NULL ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    bool good = false;

    if (pkey == NULL) {
        TELL(place, "%sthe key cannot be read back from the library", place->name);
    } else {
        key->bits = (unsigned)EVP_PKEY_get_bits(pkey);
        good = strcmp(key->alg->kty, "RSA") == 0 ? judge_rsa(pkey, key->bits, place)
                                                 : judge_point(pkey, place);
    }
    EVP_PKEY_free(pkey);
    BIO_free(bio);
    return good;
}

static bool hand_over(struct hlt_key *key, const struct hlt_jwk *jwk, const struct place *place)
{
    char *text = hlt_jwk_text(jwk, HLT_JWK_BARE);

    key->owner = text != NULL ? jwks_create(text) : NULL;
    hlt_jwk_text_free(text);
    key->item = jwks_item_get(key->owner, 0);
    if (jwks_error(key->owner) != 0 || key->item == NULL || jwks_item_error(key->item) != 0) {
        TELL(place, "%sthe key's numbers do not make a %s key; export it again", place->name,
             jwk->kty);
        return false;
    }
    key->bits = (unsigned)jwks_item_key_bits(key->item);
    return hlt_jwk_is_secret(jwk) ? judge_secret(key, place) : judge_public(key, place);
}

/* --- the set --- */

static void free_key(struct hlt_key *key)
{
    jwks_free(key->owner);
    free(key->kid);
    free(key->issuer);
    free(key->file);
}

void hlt_keyset_free(struct hlt_keyset *set)
{
    if (set == NULL) {
        return;
    }
    for (size_t i = 0; i < set->count; i++) {
        free_key(&set->key[i]);
    }
    free(set->key);
    free(set->by_kid);
    free(set);
}

/* A copy of text that may be absent; false only without memory. */
static bool copy(char **out, const char *text)
{
    *out = text != NULL ? strdup(text) : NULL;
    return text == NULL || *out != NULL;
}

static bool grow(struct hlt_keyset *set)
{
    size_t capacity = set->capacity == 0 ? 8 : set->capacity * 2;
    struct hlt_key *grown;

    if (set->count < set->capacity) {
        return true;
    }
    grown = realloc(set->key, capacity * sizeof(*grown));
    if (grown != NULL) {
        set->key = grown;
        set->capacity = capacity;
    }
    return grown != NULL;
}

static void add_key(struct hlt_keyset *set, const struct hlt_key_source *source,
                    const struct hlt_jwk *jwk, const struct place *place)
{
    const char *kid = jwk->has_kid ? jwk->kid : source->kid;
    struct hlt_key key = {.line = place->line};

    if (!judge_json(jwk, place) || (key.alg = choose_alg(jwk, source, place)) == NULL) {
        return;
    }
    if (jwk->has_kid && source->kid != NULL && strcmp(jwk->kid, source->kid) != 0) {
        TELL(place, "%sthe keys_file option gives another kid than the key; remove one of them",
             place->name);
        return;
    }
    if (set->count == HLT_KEYS_MAX) {
        TELL(place, "%sover %d keys in all; remove those that are no longer used", place->name,
             HLT_KEYS_MAX);
        return;
    }
    if (!hand_over(&key, jwk, place)) {
        free_key(&key);
        return;
    }
    if (!copy(&key.kid, kid) || !copy(&key.issuer, source->issuer) ||
        !copy(&key.file, source->path) || !grow(set)) {
        TELL(place, "%sout of memory", place->name);
        free_key(&key);
        return;
    }
    set->key[set->count++] = key;
}

static bool judge_file(const struct hlt_keyfile *file, const struct hlt_key_source *source,
                       struct hlt_problems *problems)
{
    const struct place place = {.problems = problems, .path = source->path, .name = ""};
    size_t secrets = 0, others = 0;

    for (size_t i = 0; i < file->count; i++) {
        const struct hlt_jwk *jwk = &file->entry[i].jwk;
        secrets += jwk->unusable == NULL && hlt_jwk_is_secret(jwk);
        others += jwk->unusable == NULL && !hlt_jwk_is_secret(jwk);
    }
    if (secrets != 0 && others != 0) {
        TELL(&place,
             "holds secrets (oct) and public keys; put the secrets into a file of their own");
        return false;
    }
    if (source->kid != NULL && secrets + others > 1) {
        TELL(&place, "holds %zu keys, but kid= can only name one; give each its own \"kid\"",
             secrets + others);
        return false;
    }
    return true;
}

static void add_keys(struct hlt_keyset *set, const struct hlt_key_source *source,
                     const struct hlt_keyfile *file, struct hlt_problems *problems)
{
    const struct place whole = {.problems = problems, .path = source->path, .name = ""};
    size_t before = set->count, errors = problems->errors;
    char name[HLT_KEYFILE_NAME_BYTES];

    for (size_t i = 0; i < file->count; i++) {
        struct place place = {.problems = problems,
                              .path = source->path,
                              .line = file->entry[i].line,
                              .name = name,
                              .in_set = file->in_set};
        hlt_keyfile_name(file, &file->entry[i], name);
        add_key(set, source, &file->entry[i].jwk, &place);
    }
    if (set->count == before && problems->errors == errors) {
        TELL(&whole, "every key in it was passed over, so no token could be verified; add the "
                     "issuer's signing key");
    }
}

void hlt_keyset_add(struct hlt_keyset *set, const struct hlt_key_source *source, const char *text,
                    size_t len, struct hlt_problems *problems)
{
    struct hlt_keyfile file = {0};

    ERR_set_mark();
    if (hlt_keyfile_parse(&file, source->path, text, len, false, problems) == HLT_OK &&
        judge_file(&file, source, problems)) {
        add_keys(set, source, &file, problems);
    }
    hlt_keyfile_free(&file);
    ERR_pop_to_mark(); /* the broker reads this thread's queue for its TLS connections */
}

static int compare_kids(const void *left, const void *right)
{
    const struct hlt_key *const *a = left, *const *b = right;

    return strcmp((*a)->kid, (*b)->kid);
}

static void index_kids(struct hlt_keyset *set, struct hlt_problems *problems)
{
    char shown[300];

    set->kid_count = 0;
    for (size_t i = 0; i < set->count; i++) {
        if (set->key[i].kid != NULL) {
            set->by_kid[set->kid_count++] = &set->key[i];
        }
    }
    qsort(set->by_kid, set->kid_count, sizeof(struct hlt_key *), compare_kids);
    for (size_t i = 1; i < set->kid_count; i++) {
        const struct hlt_key *a = set->by_kid[i - 1], *b = set->by_kid[i];
        if (strcmp(a->kid, b->kid) == 0) {
            hlt_printable(shown, sizeof(shown), b->kid, strlen(b->kid));
            hlt_problems_add(problems, HLT_PROBLEM_ERROR, b->file, b->line, 0,
                             "kid \"%s\" is also in %s line %u; a kid must name one key", shown,
                             a->file, a->line);
        }
    }
}

static void index_algs(struct hlt_keyset *set, struct hlt_problems *problems)
{
    unsigned count[HLT_ALG_COUNT] = {0};

    for (size_t i = 0; i < set->count; i++) {
        size_t alg = hlt_alg_index(set->key[i].alg);
        set->only[alg] = count[alg] == 0 ? &set->key[i] : NULL;
        count[alg]++;
    }
    for (size_t i = 0; i < set->count; i++) {
        const struct hlt_key *key = &set->key[i];
        if (key->kid == NULL && count[hlt_alg_index(key->alg)] > 1) {
            hlt_problems_add(
                problems, HLT_PROBLEM_WARNING, key->file, key->line, 0,
                "this %s key has no kid and is not the only one of its algorithm, so no "
                "token will ever use it; give it a kid",
                key->alg->name);
        }
    }
}

void hlt_keyset_seal(struct hlt_keyset *set, struct hlt_problems *problems)
{
    free(set->by_kid);
    set->by_kid = calloc(set->count + 1, sizeof(struct hlt_key *));
    if (set->by_kid == NULL) {
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, NULL, 0, 0, "out of memory");
        return;
    }
    index_kids(set, problems);
    index_algs(set, problems);
}

/* Whether a file holds secrets is known only once it is read; then its rights are judged. */
static bool holds_secrets(const struct hlt_keyset *set, size_t from)
{
    return set->count > from && strcmp(set->key[from].alg->kty, "oct") == 0;
}

static void load_file(struct hlt_keyset *set, const struct hlt_key_source *source,
                      struct hlt_problems *problems)
{
    size_t before = set->count, len = 0;
    char *text = NULL;
    struct hlt_err err;
    enum hlt_rc rc =
        hlt_file_read(source->path, HLT_FILE_PUBLIC, HLT_KEY_FILE_MAX, &text, &len, &err);

    if (rc == HLT_OK) {
        hlt_keyset_add(set, source, text, len, problems);
        OPENSSL_cleanse(text, len);
        free(text);
        if (holds_secrets(set, before)) {
            rc = hlt_file_check(source->path, HLT_FILE_SECRET, &err);
        }
    }
    if (rc != HLT_OK) {
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, source->path, 0, 0, "%s", err.msg);
    }
}

enum hlt_rc hlt_keyset_load(struct hlt_keyset **out, const struct hlt_key_source *sources,
                            size_t source_count, struct hlt_problems *problems)
{
    struct hlt_keyset *set = calloc(1, sizeof(*set));
    size_t errors = problems->errors;

    if (set == NULL || sodium_init() < 0) {
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, NULL, 0, 0, "out of memory");
        free(set);
        return HLT_ENOMEM;
    }
    for (size_t i = 0; i < source_count; i++) {
        load_file(set, &sources[i], problems);
    }
    hlt_keyset_seal(set, problems);
    if (set->count == 0 && problems->errors == errors) {
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, NULL, 0, 0,
                         "no key at all, so no token could be verified; name a keys_file");
    }
    if (problems->errors != errors) {
        hlt_keyset_free(set);
        return HLT_EPARSE;
    }
    *out = set;
    return HLT_OK;
}

const struct hlt_key *hlt_keyset_find(const struct hlt_keyset *set, const char *kid)
{
    size_t low = 0, high = set->kid_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(set->by_kid[middle]->kid, kid);
        if (order == 0) {
            return set->by_kid[middle];
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

const struct hlt_key *hlt_keyset_only(const struct hlt_keyset *set, const struct hlt_alg *alg)
{
    return set->only[hlt_alg_index(alg)];
}

size_t hlt_keyset_count(const struct hlt_keyset *set)
{
    return set->count;
}

void hlt_keyset_info(const struct hlt_keyset *set, size_t index, struct hlt_key_info *out)
{
    const struct hlt_key *key = &set->key[index];

    *out = (struct hlt_key_info){.kid = key->kid != NULL ? key->kid : "",
                                 .alg = key->alg->name,
                                 .issuer = key->issuer != NULL ? key->issuer : "",
                                 .file = key->file,
                                 .bits = key->bits};
}
