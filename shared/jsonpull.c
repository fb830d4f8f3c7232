/* jsonpull.c - the strict JSON reader: one pass, one event per call, nothing allocated.
 *
 * The state says what may come next; the bits of is_object remember what each open container is. */
#include "jsonpull.h"

#include <endian.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

enum state {
    VALUE,        /* a value must come */
    VALUE_OR_END, /* just after '[' */
    NAME,         /* a member name must come */
    NAME_OR_END,  /* just after '{' */
    AFTER_VALUE,  /* comma or the container's end; at depth 0 only white space */
    FAILED,
};

__attribute__((cold)) static enum hlt_json_event fail(struct hlt_json *reader, size_t at,
                                                      const char *error)
{
    reader->state = FAILED;
    reader->at = at;
    reader->error = error;
    return HLT_JSON_ERROR;
}

void hlt_json_begin(struct hlt_json *reader, const char *input, size_t len)
{
    *reader = (struct hlt_json){.text = input, .input = input, .len = len, .state = VALUE};
}

static bool blank(char c)
{
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* Payloads are written without blanks, mostly: one comparison settles it then. */
static inline void skip_blanks(struct hlt_json *reader)
{
    const char *input = reader->input;
    size_t pos = reader->pos;

    if (pos < reader->len && (unsigned char)input[pos] > ' ') {
        return;
    }
    while (pos < reader->len && blank(input[pos])) {
        pos++;
    }
    reader->pos = pos;
}

static bool digit(char c)
{
    return (unsigned char)(c - '0') <= 9;
}

/* ---- numbers ---- */

/* Powers of ten that a double holds exactly, and those that 64 bits hold. */
static const double exact_power[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                     1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                     1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
#define EXACT_POWER_MAX 22
/* clang-format off */
static const uint64_t integer_power[] = {
    1U, 10U, 100U, 1000U, 10000U, 100000U, 1000000U, 10000000U, 100000000U, 1000000000U,
    10000000000U, 100000000000U, 1000000000000U, 10000000000000U, 100000000000000U,
    1000000000000000U, 10000000000000000U, 100000000000000000U, 1000000000000000000U,
    10000000000000000000U};
/* clang-format on */
#define INTEGER_POWER_MAX 19
#define EXACT_MANTISSA_MAX (UINT64_C(1) << 53)

/* mantissa / 10^places, correctly rounded: sensors print 16 and 17 digits all the time, and strtod
 * is slow on them. A 127-bit by 64-bit division leaves at least 62 quotient bits; with the
 * remainder folded into the last one, the conversion to double rounds as if it saw every bit. */
static double divide_by_power(uint64_t mantissa, unsigned places)
{
    __extension__ typedef unsigned __int128 wide;
    int up = __builtin_clzll(mantissa);
    int power_up = __builtin_clzll(integer_power[places]);
    uint64_t power = integer_power[places] << power_up;
    wide dividend = (wide)(mantissa << up) << 63;
    uint64_t quotient = (uint64_t)(dividend / power);
    uint64_t scale_bits;
    double scale;

    if ((wide)quotient * power != dividend) {
        quotient |= 1;
    }
    scale_bits = (uint64_t)(1023 + power_up - up - 63) << 52; /* 2^(power_up - up - 63) */
    memcpy(&scale, &scale_bits, sizeof(scale));
    return (double)quotient * scale;
}

/* strtod in the "C" locale whatever the broker's locale says. glibc hands out one static object for
 * "C": nothing is allocated and nothing has to be freed. */
static bool convert_slow(double *out, const char *text, size_t len)
{
    char copy[HLT_JSON_NUMBER_MAX + 1];
    char *end = NULL;
    locale_t locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);

    if (locale == (locale_t)0) {
        return false;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    *out = strtod_l(copy, &end, locale);
    freelocale(locale);
    return end == copy + len;
}

struct decimal {
    uint64_t mantissa; /* of all digits; has wrapped if they are over MANTISSA_DIGITS_MAX */
    size_t digits;     /* seen, leading zeros too */
    int exponent;      /* of ten, capped well beyond what a double reaches */
};
#define MANTISSA_DIGITS_MAX 19

static const char *read_digits(const char *p, const char *end, struct decimal *decimal)
{
    const char *begin = p;
    uint64_t mantissa = decimal->mantissa;

    for (; p < end && digit(*p); p++) {
        mantissa = mantissa * 10 + (uint64_t)(*p - '0');
    }
    decimal->mantissa = mantissa;
    decimal->digits += (size_t)(p - begin);
    return p;
}

static const char *read_exponent(const char *p, const char *end, struct decimal *decimal)
{
    bool negative = false;
    int value = 0;

    if (p < end && (*p == '+' || *p == '-')) {
        negative = *p++ == '-';
    }
    if (p == end || !digit(*p)) {
        return NULL;
    }
    for (; p < end && digit(*p); p++) {
        if (value < 10000) {
            value = value * 10 + (*p - '0');
        }
    }
    decimal->exponent += negative ? -value : value;
    return p;
}

static bool convert(double *out, const struct decimal *decimal, const char *text, size_t len)
{
    int exponent = decimal->exponent;
    uint64_t mantissa = decimal->mantissa;
    double value;

    if (decimal->digits > MANTISSA_DIGITS_MAX) {
        return convert_slow(out, text, len);
    }
    if (mantissa == 0) {
        value = 0;
    } else if (mantissa <= EXACT_MANTISSA_MAX && exponent >= -EXACT_POWER_MAX &&
               exponent <= EXACT_POWER_MAX) {
        /* both operands are exact, so the one rounding is the right one (Clinger, 1990) */
        value = exponent < 0 ? (double)mantissa / exact_power[-exponent]
                             : (double)mantissa * exact_power[exponent];
    } else if (exponent < 0 && exponent >= -INTEGER_POWER_MAX) {
        value = divide_by_power(mantissa, (unsigned)-exponent);
    } else {
        return convert_slow(out, text, len);
    }
    *out = text[0] == '-' ? -value : value;
    return true;
}

/* Below 10^308, whatever the digits are. */
static bool surely_finite(const struct decimal *decimal)
{
    return (int64_t)decimal->digits + decimal->exponent <= 308;
}

static enum hlt_json_event read_number(struct hlt_json *reader)
{
    const char *begin = reader->input + reader->pos;
    const char *end = reader->input + reader->len;
    const char *p = begin + (*begin == '-');
    const char *mark, *whole_end;
    struct decimal decimal = {0};

    mark = p;
    p = read_digits(p, end, &decimal);
    if (p == mark || (*mark == '0' && p > mark + 1)) {
        return fail(reader, (size_t)(mark - reader->input),
                    p == mark ? "digit expected" : "number with a leading zero");
    }
    whole_end = p;
    if (p < end && *p == '.') {
        mark = ++p;
        p = read_digits(p, end, &decimal);
        if (p == mark) {
            return fail(reader, (size_t)(p - reader->input), "digit expected after the point");
        }
        decimal.exponent = p - mark <= HLT_JSON_NUMBER_MAX ? (int)(mark - p) : 0; /* too long */
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        mark = p + 1;
        p = read_exponent(mark, end, &decimal);
        if (p == NULL) {
            return fail(reader, (size_t)(mark - reader->input), "digit expected in the exponent");
        }
    }
    reader->text = begin;
    reader->text_len = (size_t)(p - begin);
    if (reader->text_len > HLT_JSON_NUMBER_MAX) {
        return fail(reader, reader->at, "number too long");
    }
    reader->integer = p == whole_end;
    if (!(reader->spelling && surely_finite(&decimal)) &&
        (!convert(&reader->number, &decimal, begin, reader->text_len) ||
         !isfinite(reader->number))) {
        return fail(reader, reader->at, "number out of range");
    }
    reader->pos += reader->text_len;
    reader->state = AFTER_VALUE;
    return HLT_JSON_NUMBER;
}

/* ---- strings ---- */

static int hex_digit(char c)
{
    if (digit(c)) {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hex digits, or -1. */
static long hex4(const char *p, const char *end)
{
    long value = 0;

    if (end - p < 4) {
        return -1;
    }
    for (int i = 0; i < 4; i++) {
        int nibble = hex_digit(p[i]);
        if (nibble < 0) {
            return -1;
        }
        value = value * 16 + nibble;
    }
    return value;
}

/* Decode the escape at `p` (a backslash). Returns the bytes it spans and its code point, or 0 and
 * an error text. */
static size_t read_escape(const char *p, const char *end, uint32_t *point, const char **error)
{
    long high, low;

    *error = "unknown escape";
    if (end - p < 2) {
        return 0;
    }
    switch (p[1]) {
    case '"':
    case '\\':
    case '/': *point = (uint8_t)p[1]; return 2;
    case 'b': *point = '\b'; return 2;
    case 'f': *point = '\f'; return 2;
    case 'n': *point = '\n'; return 2;
    case 'r': *point = '\r'; return 2;
    case 't': *point = '\t'; return 2;
    case 'u': break;
    default: return 0;
    }
    high = hex4(p + 2, end);
    if (high < 0) {
        *error = "four hex digits expected after \\u";
        return 0;
    }
    if (high == 0) {
        *error = "\\u0000 is not allowed";
        return 0;
    }
    *point = (uint32_t)high;
    if (high < 0xD800 || high > 0xDFFF) {
        return 6;
    }
    low = end - p >= 12 && p[6] == '\\' && p[7] == 'u' ? hex4(p + 8, end) : -1;
    if (high > 0xDBFF || low < 0xDC00 || low > 0xDFFF) {
        *error = "lone surrogate";
        return 0;
    }
    *point = 0x10000U + ((uint32_t)(high - 0xD800) << 10) + (uint32_t)(low - 0xDC00);
    return 12;
}

static bool follows(const unsigned char *p, unsigned low, unsigned high)
{
    return *p >= low && *p <= high;
}

/* Length of the well-formed UTF-8 sequence at `p` (first byte >= 0x80), 0 if there is none. The
 * ranges are table 3-7 of the Unicode standard. */
static size_t utf8_sequence(const char *text, const char *end)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t left = (size_t)(end - text);

    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        return left >= 2 && follows(p + 1, 0x80, 0xBF) ? 2 : 0;
    }
    if ((p[0] & 0xF0U) == 0xE0) {
        unsigned low = p[0] == 0xE0 ? 0xA0 : 0x80, high = p[0] == 0xED ? 0x9F : 0xBF;
        return left >= 3 && follows(p + 1, low, high) && follows(p + 2, 0x80, 0xBF) ? 3 : 0;
    }
    if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        unsigned low = p[0] == 0xF0 ? 0x90 : 0x80, high = p[0] == 0xF4 ? 0x8F : 0xBF;
        return left >= 4 && follows(p + 1, low, high) && follows(p + 2, 0x80, 0xBF) &&
                       follows(p + 3, 0x80, 0xBF)
                   ? 4
                   : 0;
    }
    return 0;
}

#define EVERY_BYTE UINT64_C(0x0101010101010101)
#define EVERY_TOP (EVERY_BYTE * 0x80)

/* The first byte that is a quote, a backslash, a control byte or not ASCII, else `end`. Eight bytes
 * at a time: a subtraction sets the top bit of each such byte. A borrow may flag bytes after a
 * flagged one, so only the first flag counts. */
static const char *skip_plain(const char *p, const char *end)
{
    while (end - p >= 8) {
        uint64_t word, quote, slash, found;
        memcpy(&word, p, sizeof(word));
        word = le64toh(word);
        quote = word ^ EVERY_BYTE * '"';
        slash = word ^ EVERY_BYTE * '\\';
        found = (word | (word - EVERY_BYTE * 0x20) | (quote - EVERY_BYTE) | (slash - EVERY_BYTE)) &
                EVERY_TOP;
        if (found != 0) {
            return p + (__builtin_ctzll(found) >> 3);
        }
        p += 8;
    }
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
           *p != '\\') {
        p++;
    }
    return p;
}

/* Read the string whose opening quote is at pos; leaves pos behind the closing one. */
static bool read_string(struct hlt_json *reader)
{
    const char *begin = reader->input + reader->pos + 1;
    const char *end = reader->input + reader->len;
    const char *p = begin;
    const char *error;
    uint32_t point;
    size_t step;

    reader->escaped = false;
    while ((p = skip_plain(p, end)) < end && *p != '"') {
        do { /* such characters come in rows */
            if (*p == '\\') {
                reader->escaped = true;
                step = read_escape(p, end, &point, &error);
            } else {
                error = (unsigned char)*p < 0x20 ? "control byte in a string" : "invalid UTF-8";
                step = (unsigned char)*p < 0x80 ? 0 : utf8_sequence(p, end);
            }
            if (step == 0) {
                fail(reader, (size_t)(p - reader->input), error);
                return false;
            }
            p += step;
        } while (p < end && (*p == '\\' || (unsigned char)*p >= 0x80));
    }
    if (p == end) {
        fail(reader, reader->at, "string without an end");
        return false;
    }
    reader->text = begin;
    reader->text_len = (size_t)(p - begin);
    reader->pos = (size_t)(p + 1 - reader->input);
    return true;
}

/* ---- structure ---- */

static enum hlt_json_event open_container(struct hlt_json *reader, bool object)
{
    if (reader->depth == HLT_JSON_DEPTH) {
        return fail(reader, reader->at, "nested too deeply");
    }
    reader->is_object = (uint16_t)((reader->is_object & ~(1U << reader->depth)) |
                                   ((unsigned)object << reader->depth));
    reader->depth++;
    reader->pos++;
    reader->state = object ? NAME_OR_END : VALUE_OR_END;
    return object ? HLT_JSON_OBJECT_BEGIN : HLT_JSON_ARRAY_BEGIN;
}

static bool in_object(const struct hlt_json *reader)
{
    return ((reader->is_object >> (reader->depth - 1)) & 1U) != 0;
}

static enum hlt_json_event close_container(struct hlt_json *reader)
{
    bool object = in_object(reader);

    reader->depth--;
    reader->pos++;
    reader->state = AFTER_VALUE;
    return object ? HLT_JSON_OBJECT_END : HLT_JSON_ARRAY_END;
}

static enum hlt_json_event read_literal(struct hlt_json *reader, const char *word, size_t word_len,
                                        enum hlt_json_event event)
{
    if (reader->len - reader->pos < word_len ||
        memcmp(reader->input + reader->pos, word, word_len) != 0) {
        return fail(reader, reader->at, "value expected");
    }
    reader->pos += word_len;
    reader->state = AFTER_VALUE;
    return event;
}

static enum hlt_json_event read_value(struct hlt_json *reader)
{
    char c = reader->input[reader->pos];

    switch (c) {
    case '{': return open_container(reader, true);
    case '[': return open_container(reader, false);
    case '"':
        if (!read_string(reader)) {
            return HLT_JSON_ERROR;
        }
        reader->state = AFTER_VALUE;
        return HLT_JSON_STRING;
    case 't': return read_literal(reader, "true", 4, HLT_JSON_TRUE);
    case 'f': return read_literal(reader, "false", 5, HLT_JSON_FALSE);
    case 'n': return read_literal(reader, "null", 4, HLT_JSON_NULL);
    default: break;
    }
    if (c == '-' || digit(c)) {
        return read_number(reader);
    }
    return fail(reader, reader->at, "value expected");
}

static enum hlt_json_event read_name(struct hlt_json *reader)
{
    if (reader->input[reader->pos] != '"') {
        return fail(reader, reader->at, "member name expected");
    }
    if (!read_string(reader)) {
        return HLT_JSON_ERROR;
    }
    skip_blanks(reader);
    if (reader->pos == reader->len || reader->input[reader->pos] != ':') {
        return fail(reader, reader->pos, "colon expected");
    }
    reader->pos++;
    reader->state = VALUE;
    return HLT_JSON_NAME;
}

/* A value is complete: a comma leads to the next one, else the container must end here. */
static enum hlt_json_event after_value(struct hlt_json *reader)
{
    bool object = in_object(reader);
    char c = reader->input[reader->pos];

    if (c == (object ? '}' : ']')) {
        return close_container(reader);
    }
    if (c != ',') {
        return fail(reader, reader->at, object ? "comma or } expected" : "comma or ] expected");
    }
    reader->pos++;
    skip_blanks(reader);
    reader->at = reader->pos;
    if (reader->pos == reader->len) {
        return fail(reader, reader->at, "document ends too early");
    }
    return object ? read_name(reader) : read_value(reader);
}

enum hlt_json_event hlt_json_next(struct hlt_json *reader)
{
    if (reader->state == FAILED) {
        return HLT_JSON_ERROR;
    }
    skip_blanks(reader);
    reader->at = reader->pos;
    if (reader->depth == 0 && reader->state == AFTER_VALUE) {
        return reader->pos == reader->len
                   ? HLT_JSON_DONE
                   : fail(reader, reader->at, "bytes after the end of the document");
    }
    if (reader->pos == reader->len) {
        return fail(reader, reader->at, "document ends too early");
    }
    switch (reader->state) {
    case NAME_OR_END:
        if (reader->input[reader->pos] == '}') {
            return close_container(reader);
        }
        return read_name(reader);
    case VALUE_OR_END:
        if (reader->input[reader->pos] == ']') {
            return close_container(reader);
        }
        return read_value(reader);
    case AFTER_VALUE: return after_value(reader);
    default: return read_value(reader);
    }
}

bool hlt_json_skip(struct hlt_json *reader, enum hlt_json_event event)
{
    unsigned depth;

    if (event == HLT_JSON_NAME) {
        event = hlt_json_next(reader);
    }
    if (event == HLT_JSON_OBJECT_BEGIN || event == HLT_JSON_ARRAY_BEGIN) {
        depth = reader->depth;
        while (event != HLT_JSON_ERROR && reader->depth >= depth) {
            event = hlt_json_next(reader);
        }
    }
    return event != HLT_JSON_ERROR;
}

/* ---- text ---- */

static size_t encode_utf8(char out[4], uint32_t point)
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char)(0xC0U | point >> 6);
        out[1] = (char)(0x80U | (point & 0x3FU));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char)(0xE0U | point >> 12);
        out[1] = (char)(0x80U | (point >> 6 & 0x3FU));
        out[2] = (char)(0x80U | (point & 0x3FU));
        return 3;
    }
    out[0] = (char)(0xF0U | point >> 18);
    out[1] = (char)(0x80U | (point >> 12 & 0x3FU));
    out[2] = (char)(0x80U | (point >> 6 & 0x3FU));
    out[3] = (char)(0x80U | (point & 0x3FU));
    return 4;
}

/* The next character of raw string text, decoded: its bytes and, through *text, how far it reached.
 * 0 if the escape is not valid. Bytes that are no escape come back as they are, one at a time. */
static size_t next_decoded(char out[4], const char **text, const char *end)
{
    const char *error;
    uint32_t point;
    size_t step;

    if (**text != '\\') {
        out[0] = *(*text)++;
        return 1;
    }
    step = read_escape(*text, end, &point, &error);
    *text += step;
    return step != 0 ? encode_utf8(out, point) : 0;
}

size_t hlt_json_unescape(char *out, size_t out_bytes, const char *text, size_t len)
{
    const char *end = text + len;
    size_t used = 0;

    while (text < end) {
        const char *slash = memchr(text, '\\', (size_t)(end - text));
        size_t plain = (size_t)((slash != NULL ? slash : end) - text);
        char piece[4];
        size_t piece_len;

        if (plain >= out_bytes - used || memchr(text, '\0', plain) != NULL) {
            return SIZE_MAX;
        }
        memcpy(out + used, text, plain);
        used += plain;
        text += plain;
        if (slash == NULL) {
            break;
        }
        piece_len = next_decoded(piece, &text, end);
        if (piece_len == 0 || piece_len >= out_bytes - used) {
            return SIZE_MAX;
        }
        memcpy(out + used, piece, piece_len);
        used += piece_len;
    }
    if (out_bytes == 0) {
        return SIZE_MAX;
    }
    out[used] = '\0';
    return used;
}

bool hlt_json_is(const struct hlt_json *reader, const char *want)
{
    const char *text = reader->text;
    const char *end = text + reader->text_len;
    size_t want_len = strlen(want);

    if (!reader->escaped) {
        return reader->text_len == want_len && memcmp(text, want, want_len) == 0;
    }
    while (text < end) {
        char piece[4];
        size_t piece_len = next_decoded(piece, &text, end);
        if (piece_len == 0 || piece_len > want_len || memcmp(piece, want, piece_len) != 0) {
            return false;
        }
        want += piece_len;
        want_len -= piece_len;
    }
    return want_len == 0;
}

/* ---- whole documents ---- */

#define NAME_SLOTS (2 * HLT_JSON_NAMES_MAX) /* a power of two, never more than half full */
#define NAME_HASHED 256                     /* decoded bytes of a name that its hash covers */

struct name {
    uint32_t hash; /* of the decoded beginning and the object; its low bits choose the first slot */
    uint32_t len;
    const char *text;
    uint32_t object; /* names are compared within one */
    uint32_t slot;
};

/* The member names of every object that is open: those of inner objects lie on top. They are found
 * by hash: pairwise, 8 KB of short names cost more than a signature (bench: token). */
struct names {
    struct name item[HLT_JSON_NAMES_MAX];
    uint16_t slot[NAME_SLOTS]; /* index + 1; 0: free */
    size_t count;
    size_t first[HLT_JSON_DEPTH + 1]; /* by depth: where the names of that object begin */
    uint32_t object[HLT_JSON_DEPTH + 1], objects;
    size_t weight_left;
};

static struct hlt_hash_key name_key;

static void make_name_key(void)
{
    /* Without randomness the key stays zero: slower for crafted names, never wrong. */
    (void)hlt_hash_key_init(&name_key);
}

/* Keyed, for the names come from strangers. */
static uint32_t decoded_hash(const char *text, size_t len, bool escaped)
{
    const char *end = text + len;
    char decoded[NAME_HASHED + 4];
    size_t used = 0;

    if (!escaped) {
        return (uint32_t)hlt_hash(&name_key, text, len < NAME_HASHED ? len : NAME_HASHED);
    }
    while (text < end && used < NAME_HASHED) {
        size_t piece_len = next_decoded(decoded + used, &text, end);
        if (piece_len == 0) {
            break; /* cannot be: the reader has checked the escapes */
        }
        used += piece_len;
    }
    return (uint32_t)hlt_hash(&name_key, decoded, used < NAME_HASHED ? used : NAME_HASHED);
}

static bool same_decoded(const struct name *a, const struct name *b)
{
    const char *left = a->text, *left_end = left + a->len;
    const char *right = b->text, *right_end = right + b->len;
    char left_piece[4], right_piece[4];
    size_t left_len = 0, right_len = 0, left_at = 0, right_at = 0;

    for (;;) {
        if (left_at == left_len) {
            left_len = left < left_end ? next_decoded(left_piece, &left, left_end) : 0;
            left_at = 0;
        }
        if (right_at == right_len) {
            right_len = right < right_end ? next_decoded(right_piece, &right, right_end) : 0;
            right_at = 0;
        }
        if (left_len == 0 || right_len == 0) {
            return left_len == right_len;
        }
        if (left_piece[left_at++] != right_piece[right_at++]) {
            return false;
        }
    }
}

static const char *add_name(struct names *names, const struct hlt_json *reader)
{
    struct name name = {.len = (uint32_t)reader->text_len,
                        .text = reader->text,
                        .object = names->object[reader->depth]};

    /* The same names in many objects (a list of rules) must not share a slot. */
    name.hash =
        decoded_hash(reader->text, reader->text_len, reader->escaped) ^ name.object * 0x9E3779B9U;
    name.slot = name.hash % NAME_SLOTS;
    while (names->slot[name.slot] != 0) {
        const struct name *other = &names->item[names->slot[name.slot] - 1];
        if (other->hash == name.hash && other->object == name.object &&
            same_decoded(other, &name)) {
            return "member name given twice";
        }
        name.slot = (name.slot + 1) % NAME_SLOTS;
    }
    if (names->count == HLT_JSON_NAMES_MAX) {
        return "too many member names";
    }
    names->item[names->count++] = name;
    names->slot[name.slot] = (uint16_t)names->count;
    return NULL;
}

static void open_object(struct names *names, unsigned depth)
{
    names->first[depth] = names->count;
    names->object[depth] = names->objects++;
}

/* Last in, first out: so no name that stays was ever pushed on by one that goes. */
static void close_object(struct names *names, unsigned depth)
{
    while (names->count > names->first[depth]) {
        names->count--; /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.ArraySubscript) */
        names->slot[names->item[names->count].slot] = 0; /* add_name wrote all below count */
    }
}

/* What an event adds to the weight (jsonpull.h). */
static size_t weight_of(const struct hlt_json *reader, enum hlt_json_event event)
{
    switch (event) {
    case HLT_JSON_OBJECT_END:
    case HLT_JSON_ARRAY_END: return 0;
    case HLT_JSON_NAME: return 2;
    case HLT_JSON_OBJECT_BEGIN:
    case HLT_JSON_ARRAY_BEGIN: return 3;
    case HLT_JSON_NUMBER: return reader->integer ? 1 : 6;
    default: return 1;
    }
}

static const char *check_names(struct hlt_json *reader, struct names *names, bool object)
{
    for (;;) {
        enum hlt_json_event event = hlt_json_next(reader);
        const char *error = NULL;

        if (object && event != HLT_JSON_OBJECT_BEGIN && event != HLT_JSON_ERROR) {
            return "object expected";
        }
        object = false; /* only the first event is the top */
        switch (event) {
        case HLT_JSON_ERROR: return reader->error;
        case HLT_JSON_DONE: return NULL;
        case HLT_JSON_OBJECT_BEGIN: open_object(names, reader->depth); break;
        case HLT_JSON_OBJECT_END: close_object(names, reader->depth + 1); break;
        case HLT_JSON_NAME: error = add_name(names, reader); break;
        default: break;
        }
        if (error != NULL) {
            return error;
        }
        size_t weight = weight_of(reader, event);
        if (weight > names->weight_left) {
            return "too many values";
        }
        names->weight_left -= weight;
    }
}

const char *hlt_json_check_weight(const char *input, size_t len, bool object, size_t weight_max,
                                  size_t *at)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct names names;
    struct hlt_json reader;
    const char *error;

    (void)pthread_once(&once, make_name_key);
    names.weight_left = weight_max;
    names.count = names.objects = 0; /* the rest is written before it is read, and it is 24 KiB */
    memset(names.slot, 0, sizeof(names.slot));
    hlt_json_begin(&reader, input, len);
    reader.spelling = true;
    error = len > UINT32_MAX ? "document too large" : check_names(&reader, &names, object);
    if (error != NULL && at != NULL) {
        *at = reader.at;
    }
    return error;
}

const char *hlt_json_check(const char *input, size_t len, bool object, size_t *at)
{
    return hlt_json_check_weight(input, len, object, SIZE_MAX, at);
}

void hlt_json_position(const char *input, size_t offset, unsigned *line, unsigned *column)
{
    *line = 1;
    *column = 1;
    for (size_t i = 0; i < offset; i++) {
        if (input[i] == '\n') {
            *line += 1;
            *column = 1;
        } else {
            *column += 1;
        }
    }
}

bool hlt_json_find(const char *input, size_t len, const char *name, struct hlt_json *out,
                   enum hlt_json_event *event)
{
    struct hlt_json reader;

    hlt_json_begin(&reader, input, len);
    if (hlt_json_next(&reader) != HLT_JSON_OBJECT_BEGIN) {
        return false;
    }
    while (hlt_json_next(&reader) == HLT_JSON_NAME) {
        bool found = hlt_json_is(&reader, name);
        enum hlt_json_event got = hlt_json_next(&reader);
        if (got == HLT_JSON_ERROR) {
            return false;
        }
        if (found) {
            *out = reader;
            *event = got;
            return true;
        }
        if (!hlt_json_skip(&reader, got)) {
            return false;
        }
    }
    return false;
}
