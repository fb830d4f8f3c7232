/* key_list.c - `haltere key list|show|check`: what is in key files, whether the broker would take
 * them, and which keys are still used. */
#include <math.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/base64url.h"
#include "../shared/file.h"
#include "../shared/keyfile.h"
#include "../shared/keyset.h"
#include "../shared/options.h"
#include "key.h"
#include "reader.h"

#define PATH_NOTES                                                                                 \
    "A FILE is written as in plugin_opt_keys_file: alg=, kid= and issuer= may stand before the "   \
    "path, within the same word ('issuer=https://id.example keys.jwks').\n"

/* Key files of the command line, read as the broker reads them. */
struct files {
    struct hlt_key_source source[HLT_KEY_SOURCES_MAX];
    char *storage[HLT_KEY_SOURCES_MAX];
    size_t count;
    struct hlt_keyset *set;
    struct hlt_problems problems;
    bool unreadable; /* one of them cannot be read at all */
};

static void close_files(struct files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        free(files->storage[i]);
    }
    hlt_keyset_free(files->set);
    hlt_problems_free(&files->problems);
}

/* HLT_EXIT_OK: files->set is there, or files->problems says why not. */
static int open_files(struct files *files, const char *const *words, int count)
{
    struct hlt_err err = {""};

    if ((size_t)count > HLT_KEY_SOURCES_MAX) {
        return hlt_cli_fail(HLT_EXIT_USAGE, "more than %d files", HLT_KEY_SOURCES_MAX);
    }
    for (int i = 0; i < count; i++) {
        char *text = NULL;
        size_t len = 0;
        if (hlt_key_source_parse(words[i], &files->source[i], &files->storage[i], &err) != HLT_OK) {
            return hlt_cli_fail(HLT_EXIT_USAGE, "%s", err.msg);
        }
        files->count++;
        if (hlt_file_read(files->source[i].path, HLT_FILE_PUBLIC, HLT_KEY_FILE_MAX, &text, &len,
                          &err) == HLT_EIO) {
            files->unreadable = true;
        }
        if (text != NULL) {
            OPENSSL_cleanse(text, len);
            free(text);
        }
    }
    (void)hlt_keyset_load(&files->set, files->source, files->count, &files->problems);
    return HLT_EXIT_OK;
}

/* --- haltere key check --- */

static const struct hlt_cli_option check_options[] = {{"json", NULL, "report as JSON"},
                                                      {NULL, NULL, NULL}};

static const struct hlt_cli_spec check_spec = {
    .synopsis = "haltere key check [--json] FILE...",
    .summary = "Judge key files as the broker would if these were all its keys_file options.",
    .options = check_options,
    .positional_min = 1,
    .positional_max = -1,
    .notes = PATH_NOTES "Exit code 0: the broker would take them, 1: it would keep the old ones, "
                        "3: a file cannot be read."};

static cJSON *problems_json(const struct hlt_problems *problems)
{
    cJSON *list = cJSON_CreateArray();

    for (size_t i = 0; i < problems->count; i++) {
        const struct hlt_problem *problem = &problems->item[i];
        cJSON *entry = cJSON_CreateObject();
        bool error = problem->kind == HLT_PROBLEM_ERROR;
        cJSON_AddStringToObject(entry, "kind", error ? "error" : "warning");
        hlt_reader_add_text(entry, "file", problem->file != NULL ? problem->file : "");
        if (problem->line > 0) {
            cJSON_AddNumberToObject(entry, "line", problem->line);
        }
        cJSON_AddStringToObject(entry, "text", problem->text);
        cJSON_AddItemToArray(list, entry);
    }
    return list;
}

static int report_check(const struct files *files, bool json)
{
    size_t keys = files->set != NULL ? hlt_keyset_count(files->set) : 0;
    int code = files->set != NULL ? HLT_EXIT_OK : HLT_EXIT_NO;

    if (files->unreadable) {
        code = HLT_EXIT_IO;
    }
    if (json) {
        cJSON *document = cJSON_CreateObject();
        cJSON_AddBoolToObject(document, "good", code == HLT_EXIT_OK);
        cJSON_AddNumberToObject(document, "keys", (double)keys);
        cJSON_AddItemToObject(document, "problems", problems_json(&files->problems));
        int printed = hlt_cli_print_json(document);
        return printed != HLT_EXIT_OK ? printed : code;
    }
    hlt_cli_problems(&files->problems);
    if (code == HLT_EXIT_OK) {
        printf("%zu key%s: the broker would take %s\n", keys, keys == 1 ? "" : "s",
               keys == 1 ? "it" : "them");
    }
    return code;
}

int hlt_key_check(int argc, char **argv)
{
    const char *values[1];
    const char **words = hlt_cli_resize(NULL, (size_t)argc * sizeof(*words));
    struct files *files = hlt_cli_resize(NULL, sizeof(*files));
    int count = 0, code = HLT_EXIT_USAGE;

    memset(files, 0, sizeof(*files));
    switch (hlt_cli_parse(&check_spec, argc, argv, values, words, &count)) {
    case HLT_CLI_HELP: code = HLT_EXIT_OK; break;
    case HLT_CLI_USAGE: break;
    case HLT_CLI_OK:
        code = open_files(files, words, count);
        if (code == HLT_EXIT_OK) {
            code = report_check(files, values[0] != NULL);
        }
        break;
    }
    close_files(files);
    free(files);
    free(words);
    return code;
}

/* --- haltere key list --- */

enum { LIST_DB, LIST_CONFIG, LIST_JSON, LIST_OPTIONS };

static const struct hlt_cli_option list_options[] = {
    [LIST_DB] = {"db", "DIR", "say also how often and when each key was used, from this store"},
    [LIST_CONFIG] = {"config", "CONF", "take the store's directory from this mosquitto.conf"},
    [LIST_JSON] = {"json", NULL, "report as JSON"},
    {NULL, NULL, NULL}};

static const struct hlt_cli_spec list_spec = {
    .synopsis = "haltere key list [--db DIR | --config CONF] [--json] [FILE]...",
    .summary =
        "List the keys of the given files. With a store, also when the broker last accepted a "
        "token of each key, and keys it used that are in none of the files. A key that nobody has "
        "used for longer than the longest life of a token can go. With a store no FILE is needed.",
    .options = list_options,
    .positional_min = 0,
    .positional_max = -1,
    .notes = PATH_NOTES};

/* The use report: an array, or NULL without a store. */
static int read_use(const char *db, const char *config, cJSON **out)
{
    struct hlt_reader reader;
    int code = hlt_reader_open(&reader, db, config);

    if (code != HLT_EXIT_OK) {
        return code;
    }
    char *text = hlt_reader_blob(&reader, HLT_DB_COUNTERS, "keys");
    *out = text != NULL ? cJSON_Parse(text) : NULL;
    if (*out == NULL) {
        *out = cJSON_CreateArray(); /* nobody has logged in yet */
    }
    free(text);
    hlt_reader_close(&reader);
    return HLT_EXIT_OK;
}

/* Take the entry of this key out of the report; NULL: never used. */
static cJSON *take_use(cJSON *use, const struct hlt_key_info *info)
{
    cJSON *entry;

    cJSON_ArrayForEach(entry, use)
    {
        if (strcmp(hlt_reader_text_of(entry, "kid"), info->kid) == 0 &&
            strcmp(hlt_reader_text_of(entry, "alg"), info->alg) == 0) {
            return cJSON_DetachItemViaPointer(use, entry);
        }
    }
    return NULL;
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static void add_use(cJSON *row, const cJSON *entry)
{
    cJSON_AddNumberToObject(row, "logins", number(entry, "count"));
    hlt_reader_add_date(row, "firstUsed", (int64_t)number(entry, "first"));
    hlt_reader_add_date(row, "lastUsed", (int64_t)number(entry, "last"));
}

/* All keys as {"kid","alg","loaded",...}: first those of the files, then others that were used. */
static cJSON *list_keys(const struct files *files, cJSON *use)
{
    cJSON *list = cJSON_CreateArray(), *left;

    for (size_t i = 0; files->set != NULL && i < hlt_keyset_count(files->set); i++) {
        struct hlt_key_info info;
        cJSON *row = cJSON_CreateObject();
        hlt_keyset_info(files->set, i, &info);
        cJSON_AddStringToObject(row, "kid", info.kid);
        cJSON_AddStringToObject(row, "alg", info.alg);
        cJSON_AddNumberToObject(row, "bits", info.bits);
        cJSON_AddStringToObject(row, "use", "sig");
        hlt_reader_add_text(row, "issuer", info.issuer);
        cJSON_AddStringToObject(row, "file", info.file);
        cJSON_AddBoolToObject(row, "loaded", true);
        if (use != NULL) {
            cJSON *entry = take_use(use, &info);
            add_use(row, entry);
            cJSON_Delete(entry);
        }
        cJSON_AddItemToArray(list, row);
    }
    cJSON_ArrayForEach(left, use)
    {
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "kid", hlt_reader_text_of(left, "kid"));
        cJSON_AddStringToObject(row, "alg", hlt_reader_text_of(left, "alg"));
        cJSON_AddBoolToObject(row, "loaded", false);
        add_use(row, left);
        cJSON_AddItemToArray(list, row);
    }
    return list;
}

/* The dates are in the report as text; ages for people come from the use entries. */
static void print_row(struct hlt_table *table, const struct hlt_key_info *info, const cJSON *entry,
                      bool with_use)
{
    char age[24];

    hlt_table_cell(table, "%s", info->kid[0] != '\0' ? info->kid : "-");
    hlt_table_cell(table, "%s", info->alg);
    if (info->bits > 0) {
        hlt_table_cell(table, "%u", info->bits);
    } else {
        hlt_table_cell(table, "-");
    }
    hlt_table_cell(table, "%s", info->file[0] != '\0' ? "sig" : "-");
    hlt_table_cell(table, "%s", info->issuer[0] != '\0' ? info->issuer : "any");
    if (with_use) {
        hlt_table_cell(table, "%.0f", number(entry, "count"));
        hlt_cli_age(hlt_cli_now_ms() - (int64_t)number(entry, "last"), age);
        hlt_table_cell(table, "%s%s", entry != NULL ? age : "never", entry != NULL ? " ago" : "");
    }
    hlt_table_cell(table, "%s", info->file[0] != '\0' ? info->file : "(in none of the files)");
}

static void print_table(const struct files *files, cJSON *use)
{
    static const char *const plain[] = {"<KID", "<ALG", ">BITS", "<USE", "<ISSUER", "<FILE"};
    static const char *const used[] = {"<KID",    "<ALG",    ">BITS",      "<USE",
                                       "<ISSUER", ">LOGINS", "<LAST USED", "<FILE"};
    struct hlt_table *table = use != NULL ? hlt_table_new(used, 8) : hlt_table_new(plain, 6);
    struct hlt_key_info info;
    const cJSON *left;

    for (size_t i = 0; files->set != NULL && i < hlt_keyset_count(files->set); i++) {
        hlt_keyset_info(files->set, i, &info);
        cJSON *entry = take_use(use, &info);
        print_row(table, &info, entry, use != NULL);
        cJSON_Delete(entry);
    }
    cJSON_ArrayForEach(left, use)
    {
        info = (struct hlt_key_info){.kid = hlt_reader_text_of(left, "kid"),
                                     .alg = hlt_reader_text_of(left, "alg"),
                                     .issuer = "",
                                     .file = ""};
        print_row(table, &info, left, true);
    }
    hlt_table_print(table);
}

static int list(struct files *files, const char *const *values, const char *const *words, int count)
{
    bool with_use = values[LIST_DB] != NULL || values[LIST_CONFIG] != NULL;
    cJSON *use = NULL;
    int code = count > 0 ? open_files(files, words, count) : HLT_EXIT_OK;

    if (code == HLT_EXIT_OK && count == 0 && !with_use) {
        return hlt_cli_fail(HLT_EXIT_USAGE, "name a key file, or a store by --db or --config");
    }
    if (code == HLT_EXIT_OK) {
        hlt_cli_problems(&files->problems);
        code = count > 0 && files->set == NULL ? HLT_EXIT_IO : HLT_EXIT_OK;
    }
    if (code == HLT_EXIT_OK && with_use) {
        code = read_use(values[LIST_DB], values[LIST_CONFIG], &use);
    }
    if (code == HLT_EXIT_OK && values[LIST_JSON] != NULL) {
        cJSON *document = cJSON_CreateObject();
        cJSON_AddItemToObject(document, "keys", list_keys(files, use));
        code = hlt_cli_print_json(document);
    } else if (code == HLT_EXIT_OK) {
        print_table(files, use);
    }
    cJSON_Delete(use);
    return code;
}

int hlt_key_list(int argc, char **argv)
{
    const char *values[LIST_OPTIONS];
    const char **words = hlt_cli_resize(NULL, (size_t)argc * sizeof(*words));
    struct files *files = hlt_cli_resize(NULL, sizeof(*files));
    int count = 0, code = HLT_EXIT_USAGE;

    memset(files, 0, sizeof(*files));
    switch (hlt_cli_parse(&list_spec, argc, argv, values, words, &count)) {
    case HLT_CLI_HELP: code = HLT_EXIT_OK; break;
    case HLT_CLI_USAGE: break;
    case HLT_CLI_OK: code = list(files, values, words, count); break;
    }
    close_files(files);
    free(files);
    free(words);
    return code;
}

/* --- haltere key show --- */

enum { SHOW_KID, SHOW_JSON, SHOW_OPTIONS };

static const struct hlt_cli_option show_options[] = {
    [SHOW_KID] = {"kid", "KID", "which key of the file; needed if it holds several"},
    [SHOW_JSON] = {"json", NULL, "report as JSON"},
    {NULL, NULL, NULL}};

static const struct hlt_cli_spec show_spec = {
    .synopsis = "haltere key show [--kid KID] [--json] FILE",
    .summary = "Show one key of a JWKS, JWK, PEM or secret file, private ones too: its algorithm, "
               "length, thumbprint (RFC 7638) and public half. What is secret is never shown.",
    .options = show_options,
    .positional_min = 1,
    .positional_max = 1};

static unsigned bits_of(const struct hlt_jwk *jwk)
{
    unsigned char bytes[HLT_BASE64URL_DATA(HLT_JWK_PART_MAX)];
    enum hlt_jwk_part part = hlt_jwk_is_secret(jwk)         ? HLT_JWK_K
                             : strcmp(jwk->kty, "RSA") == 0 ? HLT_JWK_N
                                                            : HLT_JWK_X;
    const char *text = jwk->part[part] != NULL ? jwk->part[part] : "";
    size_t len = hlt_base64url_decode(bytes, sizeof(bytes), text, strlen(text));
    unsigned bits = 0;

    if (len != SIZE_MAX && part == HLT_JWK_N) {
        BIGNUM *modulus = BN_bin2bn(bytes, (int)len, NULL);
        bits = modulus != NULL ? (unsigned)BN_num_bits(modulus) : 0;
        BN_free(modulus);
    } else if (strcmp(jwk->crv, "P-521") == 0) {
        bits = 521;
    } else if (len != SIZE_MAX) {
        bits = (unsigned)len * 8;
    }
    OPENSSL_cleanse(bytes, sizeof(bytes));
    return bits;
}

static int show(const struct hlt_jwk *jwk, bool json)
{
    char thumbprint[HLT_THUMBPRINT_BYTES];
    bool secret = hlt_jwk_is_secret(jwk);
    const char *alg = jwk->has_alg ? jwk->alg : hlt_jwk_default_alg(jwk);
    char *public_half = secret ? NULL : hlt_jwk_text(jwk, HLT_JWK_PUBLIC);
    cJSON *document = cJSON_CreateObject();

    if (jwk->unusable != NULL) {
        cJSON_AddStringToObject(document, "unusable", jwk->unusable);
    }
    cJSON_AddStringToObject(document, "kid", jwk->kid);
    cJSON_AddStringToObject(document, "kty", jwk->kty);
    hlt_reader_add_text(document, "crv", jwk->crv);
    hlt_reader_add_text(document, "alg", alg != NULL ? alg : "");
    cJSON_AddNumberToObject(document, "bits", bits_of(jwk));
    cJSON_AddBoolToObject(document, "private", secret || hlt_jwk_is_private(jwk));
    /* The thumbprint of a secret would let anybody test guesses of it. */
    if (!secret && hlt_jwk_thumbprint(jwk, thumbprint)) {
        cJSON_AddStringToObject(document, "thumbprint", thumbprint);
    }
    if (public_half != NULL) {
        cJSON_AddItemToObject(document, "public", cJSON_Parse(public_half));
        hlt_jwk_text_free(public_half);
    }
    if (json) {
        return hlt_cli_print_json(document);
    }
    for (const cJSON *item = document->child; item != NULL; item = item->next) {
        char *text = cJSON_IsString(item) ? NULL : cJSON_PrintUnformatted(item);
        printf("%-11s ", item->string);
        hlt_cli_print_text(stdout, text != NULL ? text : cJSON_GetStringValue(item));
        printf("\n");
        cJSON_free(text);
    }
    cJSON_Delete(document);
    return HLT_EXIT_OK;
}

static int show_one(const struct hlt_keyfile *file, const char *path, const char *kid, bool json)
{
    for (size_t i = 0; i < file->count; i++) {
        const struct hlt_jwk *jwk = &file->entry[i].jwk;
        if (kid == NULL ? file->count == 1 : jwk->has_kid && strcmp(jwk->kid, kid) == 0) {
            return show(jwk, json);
        }
    }
    return kid != NULL ? hlt_cli_fail(HLT_EXIT_NO, "%s holds no key with the kid '%s'", path, kid)
                       : hlt_cli_fail(HLT_EXIT_USAGE, "%s holds %zu keys: name one by --kid", path,
                                      file->count);
}

static int show_file(const char *path, const char *kid, bool json)
{
    struct hlt_problems *problems = hlt_cli_resize(NULL, sizeof(*problems));
    struct hlt_keyfile file = {0};
    struct hlt_err err = {""};
    char *text = NULL;
    size_t len = 0;
    int code = HLT_EXIT_IO;

    memset(problems, 0, sizeof(*problems));
    if (hlt_file_read(path, HLT_FILE_PUBLIC, HLT_KEY_FILE_MAX, &text, &len, &err) != HLT_OK) {
        hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
    } else {
        bool private_pem = memmem(text, len, "PRIVATE KEY-----", 16) != NULL;
        if (hlt_keyfile_parse(&file, path, text, len, private_pem, problems) == HLT_OK) {
            code = show_one(&file, path, kid, json);
        }
        OPENSSL_cleanse(text, len);
        free(text);
    }
    hlt_cli_problems(problems);
    hlt_keyfile_free(&file);
    hlt_problems_free(problems);
    free(problems);
    return code;
}

int hlt_key_show(int argc, char **argv)
{
    const char *values[SHOW_OPTIONS];
    const char **words = hlt_cli_resize(NULL, (size_t)argc * sizeof(*words));
    int count = 0, code = HLT_EXIT_USAGE;

    switch (hlt_cli_parse(&show_spec, argc, argv, values, words, &count)) {
    case HLT_CLI_HELP: code = HLT_EXIT_OK; break;
    case HLT_CLI_USAGE: break;
    case HLT_CLI_OK: code = show_file(words[0], values[SHOW_KID], values[SHOW_JSON] != NULL); break;
    }
    free(words);
    return code;
}
