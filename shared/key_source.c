/* key_source.c - takes a keys_file option apart: [alg=..] [kid=..] [issuer=..] PATH. */
#include <stdlib.h>
#include <string.h>

#include "jwk.h"
#include "keyset.h"
#include "text.h"

#define BLANKS " \t"

/* The length of a setting's name if the word is "name=...", with a name of lower-case letters. A
 * path with such a beginning is written ./name=... */
static size_t setting_len(const char *word)
{
    size_t len = strspn(word, "abcdefghijklmnopqrstuvwxyz_");

    return len > 0 && word[len] == '=' ? len : 0;
}

static enum hlt_rc unknown_setting(const char *name, struct hlt_err *err)
{
    static const char *const known[] = {"alg", "kid", "issuer", NULL};
    const char *near = hlt_suggest(name, known);

    return hlt_fail(err, HLT_EINVAL,
                    "keys_file has no setting \"%s\"%s%s%s; it takes alg=, kid= and issuer= before "
                    "the path (a path of that name is written ./%s=...)",
                    name, near != NULL ? " (did you mean " : "", near != NULL ? near : "",
                    near != NULL ? "?)" : "", name);
}

/* One setting; the words are cut out of the storage in place. */
static enum hlt_rc take_setting(struct hlt_key_source *source, char *word, size_t name_len,
                                struct hlt_err *err)
{
    const struct {
        const char *name;
        const char **value;
    } rows[] = {{"alg", &source->alg}, {"kid", &source->kid}, {"issuer", &source->issuer}};

    word[name_len] = '\0';
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strcmp(rows[i].name, word) != 0) {
            continue;
        }
        if (*rows[i].value != NULL) {
            return hlt_fail(err, HLT_EINVAL, "keys_file gives %s= twice", word);
        }
        *rows[i].value = word + name_len + 1;
        return word[name_len + 1] != '\0'
                   ? HLT_OK
                   : hlt_fail(err, HLT_EINVAL, "keys_file: %s= has no value", word);
    }
    return unknown_setting(word, err);
}

static enum hlt_rc check_source(const struct hlt_key_source *source, struct hlt_err *err)
{
    if (source->path == NULL || source->path[0] == '\0') {
        return hlt_fail(err, HLT_EINVAL,
                        "keys_file names no file: keys_file [alg=ALG] [kid=KID] "
                        "[issuer=ISSUER] PATH");
    }
    if (source->alg != NULL && hlt_alg_find(source->alg) == NULL) {
        const char *near = hlt_suggest(source->alg, hlt_alg_names());
        return hlt_fail(
            err, HLT_EINVAL,
            "keys_file: unknown alg \"%.32s\"%s%s%s; known are HS256, RS256, PS256, ES256 "
            "(each also 384 and 512), ES256K and EdDSA",
            source->alg, near != NULL ? " (did you mean " : "", near != NULL ? near : "",
            near != NULL ? "?)" : "");
    }
    if (source->kid != NULL && strlen(source->kid) > HLT_KID_MAX) {
        return hlt_fail(err, HLT_EINVAL, "keys_file: a kid has at most %d bytes", HLT_KID_MAX);
    }
    return HLT_OK;
}

enum hlt_rc hlt_key_source_parse(const char *value, struct hlt_key_source *out, char **storage,
                                 struct hlt_err *err)
{
    struct hlt_key_source source = {0};
    char *text = strdup(value);
    char *at = text;
    enum hlt_rc rc = HLT_OK;

    if (text == NULL) {
        return hlt_fail(err, HLT_ENOMEM, "out of memory");
    }
    at += strspn(at, BLANKS);
    while (rc == HLT_OK && setting_len(at) > 0) {
        char *word = at;
        at += strcspn(at, BLANKS);
        if (*at != '\0') {
            *at++ = '\0';
            at += strspn(at, BLANKS);
        }
        rc = take_setting(&source, word, setting_len(word), err);
    }
    source.path = at; /* all that is left: a path may have blanks in it */
    if (rc == HLT_OK) {
        rc = check_source(&source, err);
    }
    if (rc != HLT_OK) {
        free(text);
        return rc;
    }
    *out = source;
    *storage = text;
    return HLT_OK;
}
