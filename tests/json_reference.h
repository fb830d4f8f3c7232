/* json_reference.h - cJSON as the reference for our JSON reader: where both accept, both must have
 * read the same; what cJSON rejects we must reject. Used by the unit test and by the fuzzers. */
#ifndef HLT_TESTS_JSON_REFERENCE_H
#define HLT_TESTS_JSON_REFERENCE_H

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/jsonpull.h"

/* The reader's text, decoded, is exactly `want`. */
static inline bool json_same_text(const struct hlt_json *reader, const char *want)
{
    char *decoded = malloc(reader->text_len + 1);
    size_t len = hlt_json_unescape(decoded, reader->text_len + 1, reader->text, reader->text_len);
    bool same = len != SIZE_MAX && len == strlen(want) && memcmp(decoded, want, len) == 0 &&
                hlt_json_is(reader, want);

    if (!reader->escaped) {
        same = same && len == reader->text_len && memcmp(decoded, reader->text, len) == 0;
    }
    free(decoded);
    return same;
}

static inline bool json_same_scalar(const struct hlt_json *reader, enum hlt_json_event event,
                                    const cJSON *want)
{
    switch (event) {
    case HLT_JSON_STRING: return cJSON_IsString(want) && json_same_text(reader, want->valuestring);
    case HLT_JSON_NUMBER:
        return cJSON_IsNumber(want) &&
               memcmp(&reader->number, &want->valuedouble, sizeof(double)) == 0;
    case HLT_JSON_TRUE: return cJSON_IsTrue(want);
    case HLT_JSON_FALSE: return cJSON_IsFalse(want);
    case HLT_JSON_NULL: return cJSON_IsNull(want);
    default: return false;
    }
}

/* The value that `event` has begun equals `want`, down to its end. */
static inline bool json_same_value(struct hlt_json *reader, enum hlt_json_event event,
                                   const cJSON *want)
{
    bool object = event == HLT_JSON_OBJECT_BEGIN;
    unsigned depth = reader->depth;

    if (!object && event != HLT_JSON_ARRAY_BEGIN) {
        return json_same_scalar(reader, event, want);
    }
    if (object ? !cJSON_IsObject(want) : !cJSON_IsArray(want)) {
        return false;
    }
    for (const cJSON *child = want->child; child != NULL; child = child->next) {
        event = hlt_json_next(reader);
        if (object) {
            if (event != HLT_JSON_NAME || !json_same_text(reader, child->string)) {
                return false;
            }
            event = hlt_json_next(reader);
        }
        if (!json_same_value(reader, event, child)) {
            return false;
        }
    }
    return hlt_json_next(reader) == (object ? HLT_JSON_OBJECT_END : HLT_JSON_ARRAY_END) &&
           reader->depth + 1 == depth;
}

static inline bool json_repeats_name(const cJSON *value)
{
    for (const cJSON *child = value->child; child != NULL; child = child->next) {
        for (const cJSON *other = child->next; other != NULL; other = other->next) {
            if (child->string != NULL && strcmp(child->string, other->string) == 0) {
                return true;
            }
        }
        if (json_repeats_name(child)) {
            return true;
        }
    }
    return false;
}

/* NULL if our reader and cJSON agree about the document, else what they disagree about. */
static inline const char *json_disagreement(const char *input, size_t len)
{
    struct hlt_json reader;
    enum hlt_json_event event;
    const char *problem = NULL, *checked;
    size_t at = SIZE_MAX;
    cJSON *tree;

    hlt_json_begin(&reader, input, len);
    do {
        event = hlt_json_next(&reader);
        if (reader.at > len || (event == HLT_JSON_ERROR && reader.error == NULL)) {
            return "an error without a place or a text";
        }
    } while (event != HLT_JSON_DONE && event != HLT_JSON_ERROR);
    checked = hlt_json_check(input, len, false, &at);
    if (event == HLT_JSON_ERROR) {
        return checked == NULL || at > len ? "the check passes what the reader refuses" : NULL;
    }
    tree = cJSON_ParseWithLengthOpts(input, len, NULL, false);
    if (tree == NULL) {
        return "cJSON refuses what we accept";
    }
    hlt_json_begin(&reader, input, len);
    event = hlt_json_next(&reader);
    if (!json_same_value(&reader, event, tree) || hlt_json_next(&reader) != HLT_JSON_DONE) {
        problem = "cJSON has read something else";
    } else if ((checked != NULL) != json_repeats_name(tree) &&
               (checked == NULL || strcmp(checked, "too many member names") != 0)) {
        problem = "the check for repeated names is wrong";
    }
    cJSON_Delete(tree);
    return problem;
}

#endif
