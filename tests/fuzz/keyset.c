/* keyset.c - arbitrary bytes as keys files: what loads must keep every promise of keyset.h.
 *
 * The first byte chooses the option's alg and whether private keys are wanted; the rest is the
 * file, and goes through the option parser too. */
#include "../../shared/keyset.h"

#include <stdlib.h>
#include <string.h>

#include "../../shared/keyfile.h"
#include "../../shared/keyset_internal.h"
#include "../../shared/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void require_key(const struct hlt_keyset *set, size_t index)
{
    const struct hlt_key *key = &set->key[index];
    struct hlt_key_info info;

    hlt_keyset_info(set, index, &info);
    require(hlt_alg_find(info.alg) == key->alg);
    require(key->item != NULL && hlt_utf8_valid(info.kid, strlen(info.kid)));
    require(strcmp(key->alg->kty, "RSA") != 0 || info.bits >= 2048);
    require(info.bits >= 8 * key->alg->secret_min);
    require(strcmp(key->alg->kty, "oct") == 0 || jwks_item_is_private(key->item) == 0);
    require(jwks_item_alg(key->item) == JWT_ALG_NONE); /* bound beside the key, not in it */
    require(key->kid == NULL || strlen(key->kid) <= HLT_KID_MAX);
}

static void require_texts(const struct hlt_problems *problems)
{
    char line[2048];

    for (size_t i = 0; i < problems->count; i++) {
        hlt_problem_format(problems, i, line, sizeof(line));
        require(hlt_utf8_valid(line, strlen(line)));
    }
}

static void fuzz_set(const char *text, size_t len, const char *alg)
{
    const struct hlt_key_source source = {.path = "fuzz", .alg = alg};
    struct hlt_keyset *set = calloc(1, sizeof(*set));
    struct hlt_problems problems = {0};

    require(set != NULL);
    hlt_keyset_add(set, &source, text, len, &problems);
    hlt_keyset_seal(set, &problems);
    require(problems.errors > 0 || set->count > 0);
    for (size_t i = 0; i < set->count; i++) {
        require_key(set, i);
        require(problems.errors > 0 || set->key[i].kid == NULL ||
                hlt_keyset_find(set, set->key[i].kid) == &set->key[i]);
    }
    require_texts(&problems);
    hlt_problems_free(&problems);
    hlt_keyset_free(set);
}

static void fuzz_private(const char *text, size_t len)
{
    struct hlt_problems problems = {0};
    struct hlt_keyfile file = {0};

    hlt_keyfile_parse(&file, "fuzz", text, len, true, &problems);
    for (size_t i = 0; problems.errors == 0 && i < file.count; i++) {
        struct hlt_jwk again = {0};
        char *json = hlt_jwk_text(&file.entry[i].jwk, HLT_JWK_PRIVATE);
        struct hlt_err err;
        require(json != NULL && hlt_jwk_read(&again, json, strlen(json), &err) == HLT_OK);
        require(strcmp(again.kid, file.entry[i].jwk.kid) == 0);
        hlt_jwk_text_free(json);
        hlt_jwk_free(&again);
    }
    require_texts(&problems);
    hlt_problems_free(&problems);
    hlt_keyfile_free(&file);
}

static void fuzz_option(const char *text, size_t len)
{
    char *value = strndup(text, len), *storage = NULL;
    struct hlt_key_source source;
    struct hlt_err err;

    require(value != NULL);
    if (hlt_key_source_parse(value, &source, &storage, &err) == HLT_OK) {
        require(source.path != NULL && source.path[0] != '\0');
        require(source.alg == NULL || hlt_alg_find(source.alg) != NULL);
        free(storage);
    }
    free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct hlt_alg *alg;

    if (size == 0) {
        return 0;
    }
    alg = hlt_alg_at(data[0] % 32); /* NULL: none given */
    if ((data[0] & 0x80) != 0) {
        fuzz_private((const char *)data + 1, size - 1);
    } else {
        fuzz_set((const char *)data + 1, size - 1, alg != NULL ? alg->name : NULL);
    }
    fuzz_option((const char *)data + 1, size - 1);
    return 0;
}
