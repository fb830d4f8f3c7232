/* keyfile.c - tells the kinds of keys files apart and takes each of them to pieces. */
#include "keyfile.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jsonpull.h"
#include "keyset.h"
#include "text.h"

void hlt_keyfile_free(struct hlt_keyfile *file)
{
    for (size_t i = 0; i < file->count; i++) {
        hlt_jwk_free(&file->entry[i].jwk);
    }
    free(file->entry);
    *file = (struct hlt_keyfile){0};
}

void hlt_keyfile_name(const struct hlt_keyfile *file, const struct hlt_keyfile_entry *entry,
                      char out[HLT_KEYFILE_NAME_BYTES])
{
    char kid[300];

    out[0] = '\0';
    if (!file->in_set) {
        return;
    }
    if (!entry->jwk.has_kid) {
        (void)snprintf(out, HLT_KEYFILE_NAME_BYTES, "key %zu (no kid): ", entry->index + 1);
        return;
    }
    hlt_printable(kid, sizeof(kid), entry->jwk.kid, strlen(entry->jwk.kid));
    (void)snprintf(out, HLT_KEYFILE_NAME_BYTES, "key %zu (kid \"%s\"): ", entry->index + 1, kid);
}

/* --- is it a public key in disguise? --- */

static bool is_public_der(const unsigned char *bytes, size_t len)
{
    const unsigned char *at = bytes;
    EVP_PKEY *pkey = d2i_PUBKEY(NULL, &at, (long)len);
    X509 *certificate = NULL;
    bool found;

    if (pkey == NULL) {
        at = bytes;
        certificate = d2i_X509(NULL, &at, (long)len);
    }
    if (pkey == NULL && certificate == NULL) {
        at = bytes;
        pkey = d2i_PublicKey(EVP_PKEY_RSA, NULL, &at, (long)len);
    }
    found = pkey != NULL || certificate != NULL;
    EVP_PKEY_free(pkey);
    X509_free(certificate);
    return found;
}

/* The body of a PEM file without its armour, line breaks and all. */
static bool is_public_base64(const char *text, size_t len)
{
    unsigned char *bytes = malloc(len + 3); /* the decoder works in threes */
    EVP_ENCODE_CTX *context = EVP_ENCODE_CTX_new();
    int used = 0, last = 0;
    bool found = false;

    if (bytes != NULL && context != NULL) {
        EVP_DecodeInit(context);
        found = EVP_DecodeUpdate(context, bytes, &used, (const unsigned char *)text, (int)len) >= 0;
        found = found && EVP_DecodeFinal(context, bytes + used, &last) >= 0 &&
                is_public_der(bytes, (size_t)used + (size_t)last);
    }
    EVP_ENCODE_CTX_free(context);
    if (bytes != NULL) {
        OPENSSL_cleanse(bytes, len + 3);
    }
    free(bytes);
    return found;
}

static bool begins(const char *bytes, size_t len, const char *with)
{
    size_t with_len = strlen(with);

    return len >= with_len && memcmp(bytes, with, with_len) == 0;
}

bool hlt_keyfile_looks_public(const char *bytes, size_t len)
{
    static const char *const prefixes[] = {"ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-",
                                           "---- BEGIN SSH2 PUBLIC KEY"};

    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        if (begins(bytes, len, prefixes[i])) {
            return true;
        }
    }
    return memmem(bytes, len, "-----BEGIN ", 11) != NULL ||
           is_public_der((const unsigned char *)bytes, len) || is_public_base64(bytes, len);
}

/* --- the kinds --- */

static struct hlt_keyfile_entry *new_entry(struct hlt_keyfile *file)
{
    if (file->count == file->capacity) {
        size_t capacity = file->capacity == 0 ? 8 : file->capacity * 2;
        struct hlt_keyfile_entry *grown = realloc(file->entry, capacity * sizeof(*grown));
        if (grown == NULL) {
            return NULL;
        }
        file->entry = grown;
        file->capacity = capacity;
    }
    file->entry[file->count] = (struct hlt_keyfile_entry){.line = 1};
    return &file->entry[file->count++];
}

static void tell(struct hlt_problems *problems, const char *path, unsigned line, const char *name,
                 const char *text)
{
    hlt_problems_add(problems, HLT_PROBLEM_ERROR, path, line, 0, "%s%s", name, text);
}

struct input {
    const char *path, *text;
    size_t len;
    struct hlt_problems *problems;
};

/* One key of JSON, from byte `at` to `end` of the file. */
static void add_json_key(struct hlt_keyfile *file, const struct input *input, size_t at, size_t end)
{
    struct hlt_keyfile_entry *entry = new_entry(file);
    char name[HLT_KEYFILE_NAME_BYTES];
    struct hlt_err err;
    unsigned column;

    if (entry == NULL) {
        tell(input->problems, input->path, 0, "", "out of memory");
        return;
    }
    entry->index = file->count - 1;
    hlt_json_position(input->text, at, &entry->line, &column);
    if (hlt_jwk_read(&entry->jwk, input->text + at, end - at, &err) != HLT_OK) {
        hlt_keyfile_name(file, entry, name);
        tell(input->problems, input->path, entry->line, name, err.msg);
    }
}

static void read_json_keys(struct hlt_keyfile *file, const struct input *input)
{
    struct hlt_json reader;
    enum hlt_json_event event;

    file->in_set = hlt_json_find(input->text, input->len, "keys", &reader, &event);
    if (!file->in_set) {
        add_json_key(file, input, 0, input->len);
        return;
    }
    if (event != HLT_JSON_ARRAY_BEGIN) {
        tell(input->problems, input->path, 1, "",
             "\"keys\" must be an array of keys (JWKS, RFC 7517 section 5)");
        return;
    }
    while ((event = hlt_json_next(&reader)) != HLT_JSON_ARRAY_END) {
        size_t at = reader.at;
        if (file->count == HLT_KEYS_MAX) {
            hlt_problems_add(input->problems, HLT_PROBLEM_ERROR, input->path, 0, 0,
                             "more than %d keys; split off those that are no longer used",
                             HLT_KEYS_MAX);
            return;
        }
        hlt_json_skip(&reader, event); /* cannot fail: the document was checked */
        add_json_key(file, input, at, reader.pos);
    }
    if (file->count == 0) {
        tell(input->problems, input->path, 1, "",
             "\"keys\" is empty, so no token could be verified; add the issuer's public key");
    }
}

static void read_json(struct hlt_keyfile *file, const struct input *input)
{
    size_t at = 0;
    unsigned line, column;
    const char *error = hlt_json_check(input->text, input->len, true, &at);

    if (error != NULL) {
        hlt_json_position(input->text, at, &line, &column);
        hlt_problems_add(input->problems, HLT_PROBLEM_ERROR, input->path, line, column,
                         "not a valid JSON key file: %s", error);
        return;
    }
    read_json_keys(file, input);
}

static void read_pem(struct hlt_keyfile *file, const struct input *input, bool want_private)
{
    struct hlt_keyfile_entry *entry = new_entry(file);
    struct hlt_err err = {{0}};

    if (entry == NULL) {
        tell(input->problems, input->path, 0, "", "out of memory");
    } else if (hlt_jwk_from_pem(&entry->jwk, input->text, input->len, want_private, &err) !=
               HLT_OK) {
        tell(input->problems, input->path, 1, "", err.msg);
    }
}

/* An editor's last line break is not part of a secret. */
static size_t without_line_end(const char *text, size_t len)
{
    if (len > 0 && text[len - 1] == '\n') {
        len--;
        if (len > 0 && text[len - 1] == '\r') {
            len--;
        }
    }
    return len;
}

static void read_secret(struct hlt_keyfile *file, const struct input *input)
{
    size_t len = without_line_end(input->text, input->len);
    struct hlt_keyfile_entry *entry;
    struct hlt_err err = {{0}};

    if (hlt_keyfile_looks_public(input->text, input->len)) {
        tell(input->problems, input->path, 0, "",
             "is a public key or certificate, but not in PEM; as a secret everybody would know it. "
             "Convert it: openssl pkey -pubin -inform DER -in FILE -out FILE.pem (SSH: ssh-keygen "
             "-e -m PKCS8 -f FILE)");
        return;
    }
    entry = new_entry(file);
    if (entry == NULL) {
        tell(input->problems, input->path, 0, "", "out of memory");
    } else if (hlt_jwk_from_secret(&entry->jwk, input->text, len, &err) != HLT_OK) {
        tell(input->problems, input->path, 0,
             "is neither JSON nor PEM, so it was read as a secret: ", err.msg);
    }
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static char first_character(const char *text, size_t len)
{
    size_t at = 0;

    if (begins(text, len, "\xEF\xBB\xBF")) {
        at = 3; /* a byte order mark: the JSON reader will name it, it must not become a secret */
    }
    while (at < len && blank(text[at])) {
        at++;
    }
    if (at == len) {
        return '\0';
    }
    return text[at];
}

enum hlt_rc hlt_keyfile_parse(struct hlt_keyfile *out, const char *path, const char *text,
                              size_t len, bool want_private, struct hlt_problems *problems)
{
    struct input input = {.path = path, .text = text, .len = len, .problems = problems};
    size_t errors = problems->errors;
    char first = first_character(text, len);

    if (without_line_end(text, len) == 0) {
        tell(problems, path, 0, "", "is empty; put a JWKS, a PEM public key or a secret into it");
    } else if (first == '{' || first == '[') {
        read_json(out, &input);
    } else if (memmem(text, len, "-----BEGIN ", 11) != NULL) {
        read_pem(out, &input, want_private);
    } else {
        read_secret(out, &input);
    }
    return problems->errors == errors ? HLT_OK : HLT_EPARSE;
}
