/* jsonpull.h - a strict, bounded JSON reader that pulls one event at a time and allocates nothing.
 *
 * RFC 8259 to the letter: UTF-8 checked, no control bytes, no lone surrogates, no trailing bytes,
 * no leading zeros, depth <= HLT_JSON_DEPTH; and stricter: no \u0000, numbers <=
 * HLT_JSON_NUMBER_MAX bytes. It never accepts what cJSON rejects. Works on (pointer, length): the
 * input needs no NUL and may not contain one. Measured about 1 ns per byte (facts: store and hot
 * path, 3). */
#ifndef HLT_JSONPULL_H
#define HLT_JSONPULL_H

#include "base.h"

#define HLT_JSON_DEPTH 16 /* containers open at once; one more is an error */
#define HLT_JSON_NUMBER_MAX                                                                        \
    63 /* bytes of a number's spelling: cJSON cuts longer ones and goes wrong */
#define HLT_JSON_NAMES_MAX 1024 /* hlt_json_check: member names in all objects open at once */

enum hlt_json_event {
    HLT_JSON_ERROR = 0, /* see error, and at: the offset it was found at; the reader stays here */
    HLT_JSON_OBJECT_BEGIN,
    HLT_JSON_OBJECT_END,
    HLT_JSON_ARRAY_BEGIN,
    HLT_JSON_ARRAY_END,
    HLT_JSON_NAME,   /* text, text_len, escaped: a member name; its value comes next */
    HLT_JSON_STRING, /* text, text_len, escaped */
    HLT_JSON_NUMBER, /* number; text is its spelling. 1e999 is HLT_JSON_ERROR ("number out of
                        range") */
    HLT_JSON_TRUE,
    HLT_JSON_FALSE,
    HLT_JSON_NULL,
    HLT_JSON_DONE, /* the document is complete and nothing but white space follows */
};

struct hlt_json {
    const char
        *text; /* raw bytes between the quotes, or the number's spelling; borrowed from input */
    size_t text_len;
    double number;
    bool escaped;      /* text has backslash escapes: use hlt_json_unescape */
    unsigned depth;    /* containers open after this event */
    size_t at;         /* byte offset of this event */
    const char *error; /* static text, only after HLT_JSON_ERROR */
    /* private */
    const char *input;
    size_t len, pos;
    uint16_t is_object; /* bit per depth */
    uint8_t state;
    bool spelling; /* nobody wants the value of a number, only whether it is one */
    bool integer;  /* the last number had neither fraction nor exponent */
};

void hlt_json_begin(struct hlt_json *reader, const char *input, size_t len);
enum hlt_json_event hlt_json_next(struct hlt_json *reader);

/* After a container's BEGIN event: read on to its END and stop there. After NAME: skip its value.
 * After a scalar: nothing. Returns false on a JSON error. */
bool hlt_json_skip(struct hlt_json *reader, enum hlt_json_event event);

/* Decode raw string bytes to UTF-8 with NUL. Returns the length, or SIZE_MAX if `out_bytes` is too
 * small or the text contains \u0000 (refused everywhere in Haltere). */
size_t hlt_json_unescape(char *out, size_t out_bytes, const char *text, size_t len);

/* True if the raw name or string (escapes decoded) equals `want`. */
bool hlt_json_is(const struct hlt_json *reader, const char *want);

/* The whole text is one valid document, its top is an object if `object` is set, and no object in
 * it has the same member name twice (compared decoded). NULL if so, else a static text and *at (may
 * be NULL). Finds names by a keyed hash (O(bytes), 30 ns a name) and takes 30 KiB of stack: for
 * documents (tokens, rules), not for the hot path. Over HLT_JSON_NAMES_MAX names in the objects
 * open at one point: refused. */
const char *hlt_json_check(const char *input, size_t len, bool object, size_t *at);
/* The same, and all of it weighs at most `weight_max`. Weights are in proportion to what a parser
 * that builds a tree pays (json-c: 45 ns each): a value 1, its name 2 more, an object or an array
 * 2 more, a number with a fraction or an exponent 5 more. */
const char *hlt_json_check_weight(const char *input, size_t len, bool object, size_t weight_max,
                                  size_t *at);

/* 1-based line and column of byte `offset`. */
void hlt_json_position(const char *input, size_t offset, unsigned *line, unsigned *column);

/* Find member `name` at the top level of an object. On true `out` has just delivered the value's
 * first event, *event is that event (pull on, or skip). */
bool hlt_json_find(const char *input, size_t len, const char *name, struct hlt_json *out,
                   enum hlt_json_event *event);

#endif
