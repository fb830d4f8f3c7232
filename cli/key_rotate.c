/* key_rotate.c - `haltere key rotate`: a new key beside the old ones, so that tokens of both are
 * good until the old one is taken out. */
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../shared/file.h"
#include "../shared/jsonpull.h"
#include "../shared/keyfile.h"
#include "../shared/keyset_internal.h"
#include "command.h"
#include "key.h"

enum { KEYS, KEY, ALG, KID, BITS, JSON, OPTIONS };

static const struct hlt_cli_option options[] = {
    [KEYS] = {"keys", "FILE",
              "the key set the broker reads (JWKS or one JWK): the new key is added"},
    [KEY] = {"key", "FILE", "the new private key goes here; the file must not be there yet"},
    [ALG] = {"alg", "ALG", "algorithm of the new key; default that of the set's last key"},
    [KID] = {"kid", "KID", "name of the new key; default its SHA-256 thumbprint"},
    [BITS] = {"bits", "N", "length of an RSA key, 2048 to 16384; default 3072"},
    [JSON] = {"json", NULL, "report as JSON"},
    {NULL, NULL, NULL}};

static const struct hlt_cli_spec spec = {
    .synopsis = "haltere key rotate --keys FILE --key FILE [--alg ALG] [--kid KID] [--bits N]",
    .summary = "Make a new key and add its public half to a key set. No key is taken out and "
               "nothing is written over: what the broker accepts now it goes on accepting.",
    .options = options,
    .notes = "Example:\n"
             "  haltere key rotate --keys /etc/mosquitto/keys.json --key issuer-2.jwk\n"
             "  haltere key list --db /var/lib/haltere /etc/mosquitto/keys.json\n"
             "The broker reads the changed set by itself. Then sign with the new key, and when the "
             "old one has not been used for longer than a token lives, take it out of the set."};

struct rotation {
    const char *values[OPTIONS];
    char *text; /* of the set as it is */
    size_t len;
    struct hlt_keyfile file;
    const struct hlt_alg *alg;
    struct hlt_jwk jwk;
    char *document; /* the new set */
};

/* What the broker would say of a set's text; prints it and returns false unless it is good. */
static bool broker_takes(const char *path, const char *text, size_t len)
{
    struct hlt_problems *problems = hlt_cli_resize(NULL, sizeof(*problems));
    struct hlt_keyset *set = hlt_cli_resize(NULL, sizeof(*set));
    struct hlt_key_source source = {.path = path};

    memset(problems, 0, sizeof(*problems));
    memset(set, 0, sizeof(*set));
    hlt_keyset_add(set, &source, text, len, problems);
    hlt_keyset_seal(set, problems);
    bool good = problems->errors == 0;
    hlt_cli_problems(problems);
    hlt_keyset_free(set);
    hlt_problems_free(problems);
    free(problems);
    return good;
}

static int read_set(struct rotation *rotation)
{
    const char *path = rotation->values[KEYS];
    struct hlt_problems problems = {0};
    struct hlt_err err = {""};

    if (hlt_file_read(path, HLT_FILE_PUBLIC, HLT_KEY_FILE_MAX, &rotation->text, &rotation->len,
                      &err) != HLT_OK) {
        return hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
    }
    if (strspn(rotation->text, " \t\r\n") == strcspn(rotation->text, "{")) {
        if (!broker_takes(path, rotation->text, rotation->len)) {
            return HLT_EXIT_IO;
        }
        (void)hlt_keyfile_parse(&rotation->file, path, rotation->text, rotation->len, false,
                                &problems); /* it was good a moment ago */
        hlt_problems_free(&problems);
        return HLT_EXIT_OK;
    }
    return hlt_cli_fail(
        HLT_EXIT_NO,
        "%s is no JSON key set: only that can hold a second key. Give the broker the "
        "new key as a further keys_file (haltere key new), or make a set of both",
        path);
}

/* The algorithm, and that no old key is lost by having company. */
static int choose_alg(struct rotation *rotation)
{
    const char *name = rotation->values[ALG];
    bool secrets = false;

    for (size_t i = 0; i < rotation->file.count; i++) {
        const struct hlt_jwk *jwk = &rotation->file.entry[i].jwk;
        if (jwk->unusable == NULL && rotation->values[ALG] == NULL) {
            name = jwk->has_alg ? jwk->alg : hlt_jwk_default_alg(jwk);
        }
        secrets = secrets || (jwk->unusable == NULL && hlt_jwk_is_secret(jwk));
    }
    rotation->alg = hlt_new_key_alg(name != NULL ? name : "ES256");
    if (rotation->alg == NULL) {
        return HLT_EXIT_USAGE;
    }
    if (secrets != (strcmp(rotation->alg->kty, "oct") == 0)) {
        return hlt_cli_fail(
            HLT_EXIT_NO,
            "%s holds %s and %s makes %s: they do not share a file. Use haltere key "
            "new and a further keys_file",
            rotation->values[KEYS], secrets ? "secrets" : "public keys", rotation->alg->name,
            secrets ? "a public key" : "a secret");
    }
    for (size_t i = 0; i < rotation->file.count; i++) {
        const struct hlt_jwk *jwk = &rotation->file.entry[i].jwk;
        const char *alg = jwk->has_alg ? jwk->alg : hlt_jwk_default_alg(jwk);
        if (jwk->unusable == NULL && !jwk->has_kid && strcmp(alg, rotation->alg->name) == 0) {
            return hlt_cli_fail(
                HLT_EXIT_NO,
                "key %zu of %s has no kid: beside a second %s key its tokens would no "
                "longer be accepted. Give it a \"kid\" and let its issuer write that "
                "into the tokens first",
                i + 1, rotation->values[KEYS], alg);
        }
    }
    return HLT_EXIT_OK;
}

/* Where in the text the list of keys ends; 0: the file is one key. */
static size_t end_of_keys(const struct rotation *rotation)
{
    struct hlt_json reader;
    enum hlt_json_event event;

    if (!hlt_json_find(rotation->text, rotation->len, "keys", &reader, &event)) {
        return 0;
    }
    while ((event = hlt_json_next(&reader)) != HLT_JSON_ARRAY_END) {
        hlt_json_skip(&reader, event); /* cannot fail: the document was checked */
    }
    return reader.pos - 1;
}

/* The old text stays as it is, with all that others have put into it. */
static int extend_set(struct rotation *rotation)
{
    char *key = hlt_jwk_text(&rotation->jwk, HLT_JWK_PUBLIC);
    size_t end = end_of_keys(rotation), room = rotation->len + 64;
    int used;

    if (key == NULL) {
        return hlt_cli_fail(HLT_EXIT_IO, "out of memory");
    }
    room += strlen(key);
    rotation->document = hlt_cli_resize(NULL, room);
    if (end == 0) {
        used = snprintf(rotation->document, room, "{\"keys\":[%.*s,\n%s]}\n", (int)rotation->len,
                        rotation->text, key);
    } else {
        used = snprintf(rotation->document, room, "%.*s,\n%s%s", (int)end, rotation->text, key,
                        rotation->text + end);
    }
    hlt_jwk_text_free(key);
    return broker_takes(rotation->values[KEYS], rotation->document, (size_t)used)
               ? HLT_EXIT_OK
               : hlt_cli_fail(HLT_EXIT_NO, "nothing was changed");
}

/* First the private key, which nobody uses yet, then the set: whatever fails, no token that is
 * signed is without its key. */
static int write_both(const struct rotation *rotation)
{
    const char *keys = rotation->values[KEYS], *key = rotation->values[KEY];
    bool secret = hlt_jwk_is_secret(&rotation->jwk);
    struct hlt_err err = {""};
    struct stat was;

    if (stat(keys, &was) != 0) {
        return hlt_cli_fail(HLT_EXIT_IO, "%s has gone", keys);
    }
    if (access(key, F_OK) == 0) {
        return hlt_cli_fail(
            HLT_EXIT_NO,
            "%s is already there, and may hold the key that signs now: name a new file", key);
    }
    if (hlt_new_key_write(key, &rotation->jwk, true, secret, false, &err) != HLT_OK) {
        return hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
    }
    if (hlt_file_write(keys, rotation->document, strlen(rotation->document), was.st_mode & 0777U,
                       &err) != HLT_OK) {
        unlink(key);
        return hlt_cli_fail(HLT_EXIT_IO, "%s; nothing was changed", err.msg);
    }
    if (geteuid() == 0 && chown(keys, was.st_uid, was.st_gid) != 0) {
        return hlt_cli_fail(HLT_EXIT_IO, "%s: its owner could not be kept", keys);
    }
    return HLT_EXIT_OK;
}

static int report(const struct rotation *rotation)
{
    const char *keys = rotation->values[KEYS], *key = rotation->values[KEY];

    if (rotation->values[JSON] != NULL) {
        cJSON *document = cJSON_CreateObject();
        cJSON_AddStringToObject(document, "kid", rotation->jwk.kid);
        cJSON_AddStringToObject(document, "alg", rotation->alg->name);
        cJSON_AddStringToObject(document, "keys", keys);
        cJSON_AddStringToObject(document, "key", key);
        cJSON_AddNumberToObject(document, "count", (double)rotation->file.count + 1);
        return hlt_cli_print_json(document);
    }
    printf("%s key ", rotation->alg->name);
    hlt_cli_print_text(stdout, rotation->jwk.kid);
    printf(" is now beside %zu other%s in ", rotation->file.count,
           rotation->file.count == 1 ? "" : "s");
    hlt_cli_print_text(stdout, keys);
    printf("\nNext:\n"
           "  1. bring the set to every broker; each reads it by itself within seconds\n"
           "  2. sign new tokens with ");
    hlt_cli_print_text(stdout, key);
    printf("\n  3. watch `haltere key list --db DIR FILE`: when the old key has not been used for\n"
           "     longer than a token lives, take it out of the set\n");
    return HLT_EXIT_OK;
}

static int rotate(struct rotation *rotation)
{
    struct hlt_err err = {""};
    int code = read_set(rotation);
    long bits;

    if (code == HLT_EXIT_OK) {
        code = choose_alg(rotation);
    }
    if (code != HLT_EXIT_OK) {
        return code;
    }
    if (!hlt_new_key_bits(rotation->values[BITS], rotation->alg, &bits)) {
        return HLT_EXIT_USAGE;
    }
    if (hlt_new_key_make(&rotation->jwk, rotation->alg, bits, rotation->values[KID], &err) !=
        HLT_OK) {
        return hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
    }
    code = extend_set(rotation);
    if (code == HLT_EXIT_OK) {
        code = write_both(rotation);
    }
    return code == HLT_EXIT_OK ? report(rotation) : code;
}

int hlt_key_rotate(int argc, char **argv)
{
    struct rotation rotation = {.alg = NULL};
    int code;

    switch (hlt_cli_parse(&spec, argc, argv, rotation.values, NULL, NULL)) {
    case HLT_CLI_HELP: return HLT_EXIT_OK;
    case HLT_CLI_USAGE: return HLT_EXIT_USAGE;
    case HLT_CLI_OK: break;
    }
    if (rotation.values[KEYS] == NULL || rotation.values[KEY] == NULL) {
        return hlt_cli_fail(HLT_EXIT_USAGE, "--keys FILE and --key FILE are needed");
    }
    if (!hlt_new_key_kid_fits(rotation.values[KID])) {
        return HLT_EXIT_USAGE;
    }
    code = rotate(&rotation);
    hlt_jwk_free(&rotation.jwk);
    hlt_keyfile_free(&rotation.file);
    if (rotation.text != NULL) {
        OPENSSL_cleanse(rotation.text, rotation.len); /* a set may be of secrets */
    }
    if (rotation.document != NULL) {
        OPENSSL_cleanse(rotation.document, strlen(rotation.document));
    }
    free(rotation.text);
    free(rotation.document);
    return code;
}
