/* key.c - `haltere key`: the group, and `new`, which makes the key pairs and secrets that sign
 * tokens. */
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../shared/file.h"
#include "../shared/jwk.h"
#include "../shared/text.h"
#include "command.h"
#include "key.h"

#define SECRET_BYTES_MAX 64

enum { NEW_ALG, NEW_KID, NEW_BITS, NEW_OUT, NEW_PUBLIC, NEW_FORCE, NEW_JSON, NEW_OPTIONS };

static const struct hlt_cli_option new_options[] = {
    [NEW_ALG] = {"alg", "ALG",
                 "HS256, RS256, PS256, ES256 (each also 384 and 512), ES256K or "
                 "EdDSA (Ed25519); default ES256"},
    [NEW_KID] = {"kid", "KID", "name of the key; default its SHA-256 thumbprint (RFC 7638)"},
    [NEW_BITS] = {"bits", "N", "length of an RSA key, 2048 to 16384; default 3072"},
    [NEW_OUT] = {"out", "FILE", "the private key or secret goes here, readable by the owner alone"},
    [NEW_PUBLIC] = {"public", "FILE", "the public key set for keys_file goes here"},
    [NEW_FORCE] = {"force", NULL, "write over files that are there"},
    [NEW_JSON] = {"json", NULL, "report as JSON"},
    {NULL, NULL, NULL}};

static const struct hlt_cli_spec new_spec = {
    .synopsis = "haltere key new [--alg ALG] [--kid KID] [--bits N] --out FILE [--public FILE]",
    .summary =
        "Make a new key. For HS256, HS384 and HS512 it is a secret that both sides share and FILE "
        "serves as keys_file too; for all others the broker gets only the public file.",
    .options = new_options,
    .notes = "Example:\n"
             "  haltere key new --out issuer.jwk --public /etc/mosquitto/keys.json"};

struct new_key {
    const char *values[NEW_OPTIONS];
    const struct hlt_alg *alg;
    struct hlt_jwk jwk;
};

/* --- what rotate does too: key.h --- */

static EVP_PKEY *generate(const struct hlt_alg *alg, long bits)
{
    if (strcmp(alg->kty, "RSA") == 0) {
        return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)bits);
    }
    return strcmp(alg->kty, "EC") == 0 ? EVP_PKEY_Q_keygen(NULL, NULL, "EC", alg->crv)
                                       : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
}

static enum hlt_rc make_secret(struct hlt_jwk *jwk, const struct hlt_alg *alg, struct hlt_err *err)
{
    unsigned char secret[SECRET_BYTES_MAX];
    enum hlt_rc rc;

    if (RAND_priv_bytes(secret, (int)alg->secret_min) != 1) {
        return hlt_fail(err, HLT_EIO, "the system gives no random bytes");
    }
    rc = hlt_jwk_from_secret(jwk, secret, alg->secret_min, err);
    OPENSSL_cleanse(secret, sizeof(secret));
    return rc;
}

static enum hlt_rc make_pair(struct hlt_jwk *jwk, const struct hlt_alg *alg, long bits,
                             struct hlt_err *err)
{
    EVP_PKEY *pkey = generate(alg, bits);
    enum hlt_rc rc = pkey != NULL ? hlt_jwk_from_pkey(jwk, pkey, true, err)
                                  : hlt_fail(err, HLT_EIO, "OpenSSL could not make the key");

    EVP_PKEY_free(pkey);
    return rc;
}

static enum hlt_rc name_key(struct hlt_jwk *jwk, const struct hlt_alg *alg, const char *kid,
                            struct hlt_err *err)
{
    memcpy(jwk->alg, alg->name, strlen(alg->name) + 1);
    jwk->has_alg = jwk->has_kid = true;
    if (kid != NULL) {
        memcpy(jwk->kid, kid, strlen(kid) + 1);
        return HLT_OK;
    }
    return hlt_jwk_thumbprint(jwk, jwk->kid) ? HLT_OK : hlt_fail(err, HLT_ENOMEM, "out of memory");
}

enum hlt_rc hlt_new_key_make(struct hlt_jwk *jwk, const struct hlt_alg *alg, long bits,
                             const char *kid, struct hlt_err *err)
{
    enum hlt_rc rc =
        strcmp(alg->kty, "oct") == 0 ? make_secret(jwk, alg, err) : make_pair(jwk, alg, bits, err);

    return rc == HLT_OK ? name_key(jwk, alg, kid, err) : rc;
}

/* Reserve the name before anything is written: of two runs at once only one may have it. */
static enum hlt_rc reserve(const char *path, bool force, struct hlt_err *err)
{
    int fd = force ? -1 : open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (!force && fd < 0) {
        return hlt_fail(err, HLT_EIO, "%s: %s", path,
                        access(path, F_OK) == 0
                            ? "is already there; --force writes over it (tokens signed by the old "
                              "key would no longer be accepted)"
                            : "cannot be created; check the directory");
    }
    if (fd >= 0) {
        close(fd);
    }
    return HLT_OK;
}

enum hlt_rc hlt_new_key_write(const char *path, const struct hlt_jwk *jwk, bool private_half,
                              bool as_set, bool force, struct hlt_err *err)
{
    char *text = hlt_jwk_text(jwk, private_half ? HLT_JWK_PRIVATE : HLT_JWK_PUBLIC);
    size_t room = text != NULL ? strlen(text) + 32 : 0;
    char *document = malloc(room + 1);
    enum hlt_rc rc = text != NULL && document != NULL ? reserve(path, force, err)
                                                      : hlt_fail(err, HLT_ENOMEM, "out of memory");

    if (rc == HLT_OK && text != NULL && document != NULL) {
        (void)snprintf(document, room, as_set ? "{\"keys\":[%s]}\n" : "%s\n", text);
        rc = hlt_file_write(path, document, strlen(document), private_half ? 0600 : 0644, err);
        if (rc != HLT_OK && !force) {
            unlink(path); /* our own empty reservation */
        }
        OPENSSL_cleanse(document, room);
    }
    free(document);
    hlt_jwk_text_free(text);
    return rc;
}

/* --- haltere key new --- */

static int report(const struct new_key *key)
{
    const char *public_file = key->values[NEW_PUBLIC];
    cJSON *document;

    if (key->values[NEW_JSON] == NULL) {
        printf("%s key ", key->alg->name);
        hlt_cli_print_text(stdout, key->jwk.kid);
        printf("\n  %s: ", hlt_jwk_is_secret(&key->jwk) ? "secret" : "private");
        hlt_cli_print_text(stdout, key->values[NEW_OUT]);
        if (public_file != NULL) {
            printf("\n  public:  ");
            hlt_cli_print_text(stdout, public_file);
        }
        printf("\n");
        return HLT_EXIT_OK;
    }
    document = cJSON_CreateObject();
    cJSON_AddStringToObject(document, "kid", key->jwk.kid);
    cJSON_AddStringToObject(document, "alg", key->alg->name);
    cJSON_AddStringToObject(document, "out", key->values[NEW_OUT]);
    if (public_file != NULL) {
        cJSON_AddStringToObject(document, "public", public_file);
    }
    return hlt_cli_print_json(document);
}

bool hlt_new_key_bits(const char *text, const struct hlt_alg *alg, long *bits)
{
    char *end = NULL;

    *bits = text != NULL ? strtol(text, &end, 10) : RSA_BITS_DEFAULT;
    if (text != NULL && strcmp(alg->kty, "RSA") != 0) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--bits is for RSA keys: %s has one length", alg->name);
        return false;
    }
    if ((end != NULL && (end == text || *end != '\0')) || *bits < RSA_BITS_MIN ||
        *bits > RSA_BITS_MAX) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--bits must be a number from %d to %d", RSA_BITS_MIN,
                     RSA_BITS_MAX);
        return false;
    }
    return true;
}

const struct hlt_alg *hlt_new_key_alg(const char *alg)
{
    const struct hlt_alg *found = hlt_alg_find(alg);

    if (found == NULL) {
        const char *near = hlt_suggest(alg, hlt_alg_names());
        hlt_cli_fail(HLT_EXIT_USAGE, "unknown --alg '%s'%s%s%s", alg,
                     near != NULL ? ": did you mean '" : ": see --help", near != NULL ? near : "",
                     near != NULL ? "'?" : "");
    }
    return found;
}

bool hlt_new_key_kid_fits(const char *kid)
{
    if (kid != NULL &&
        (strlen(kid) == 0 || strlen(kid) > HLT_KID_MAX || !hlt_utf8_valid(kid, strlen(kid)))) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--kid must be 1 to %d bytes of UTF-8", HLT_KID_MAX);
        return false;
    }
    return true;
}

static bool check_usage(struct new_key *key, long *bits)
{
    const char *alg = key->values[NEW_ALG] != NULL ? key->values[NEW_ALG] : "ES256";

    key->alg = hlt_new_key_alg(alg);
    if (key->alg == NULL) {
        return false;
    }
    if (key->values[NEW_OUT] == NULL) {
        hlt_cli_fail(HLT_EXIT_USAGE, "--out FILE is missing");
        return false;
    }
    if (!hlt_new_key_kid_fits(key->values[NEW_KID])) {
        return false;
    }
    if (strcmp(key->alg->kty, "oct") == 0 && key->values[NEW_PUBLIC] != NULL) {
        hlt_cli_fail(HLT_EXIT_USAGE, "an %s key is a secret and has no public half", alg);
        return false;
    }
    return hlt_new_key_bits(key->values[NEW_BITS], key->alg, bits);
}

static int key_new(int argc, char **argv)
{
    struct new_key key = {.alg = NULL};
    struct hlt_err err = {{0}};
    bool force, secret;
    long bits;
    enum hlt_rc rc;

    switch (hlt_cli_parse(&new_spec, argc, argv, key.values, NULL, NULL)) {
    case HLT_CLI_HELP: return HLT_EXIT_OK;
    case HLT_CLI_USAGE: return HLT_EXIT_USAGE;
    case HLT_CLI_OK: break;
    }
    if (!check_usage(&key, &bits)) {
        return HLT_EXIT_USAGE;
    }
    force = key.values[NEW_FORCE] != NULL;
    secret = strcmp(key.alg->kty, "oct") == 0;
    rc = hlt_new_key_make(&key.jwk, key.alg, bits, key.values[NEW_KID], &err);
    if (rc == HLT_OK) {
        rc = hlt_new_key_write(key.values[NEW_OUT], &key.jwk, true, secret, force, &err);
    }
    if (rc == HLT_OK && key.values[NEW_PUBLIC] != NULL) {
        rc = hlt_new_key_write(key.values[NEW_PUBLIC], &key.jwk, false, true, force, &err);
    }
    int code = rc == HLT_OK ? report(&key) : hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
    hlt_jwk_free(&key.jwk);
    return code;
}

int hlt_cmd_key(int argc, char **argv)
{
    static const struct hlt_cli_verb verbs[] = {
        {"new", key_new, "make a key pair or a secret"},
        {"list", hlt_key_list, "the keys of files, and when each was used last"},
        {"show", hlt_key_show, "one key: its public half, length and thumbprint"},
        {"check", hlt_key_check, "judge key files as the broker would"},
        {"rotate", hlt_key_rotate, "put a new key beside the old ones"},
        {NULL, NULL, NULL}};

    return hlt_cli_dispatch("key", verbs, argc, argv);
}
