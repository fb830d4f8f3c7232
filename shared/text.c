/* text.c - checking and shaping text that comes from outside: UTF-8, ids, dates, units. */
#include "text.h"

#include <stdio.h>
#include <string.h>

#define SUGGEST_WORD_MAX 64 /* longer words get no suggestion: the cost is quadratic */

static unsigned char byte_at(const char *text, size_t at)
{
    return (unsigned char)text[at];
}

/* Decode the character at text[0], len > 0. Returns its bytes, 0 if it is not valid UTF-8
 * (RFC 3629 section 4: the bounds of the second byte rule out overlong forms and surrogates). */
static size_t utf8_decode(const char *text, size_t len, uint32_t *character)
{
    unsigned char first = byte_at(text, 0);
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    size_t bytes = 0;

    if (first < 0x80) {
        *character = first;
        return 1;
    }
    if (first >= 0xc2 && first <= 0xdf) {
        bytes = 2;
        *character = first & 0x1fu;
    } else if (first >= 0xe0 && first <= 0xef) {
        bytes = 3;
        *character = first & 0x0fu;
        low = first == 0xe0 ? 0xa0 : low;
        high = first == 0xed ? 0x9f : high;
    } else if (first >= 0xf0 && first <= 0xf4) {
        bytes = 4;
        *character = first & 0x07u;
        low = first == 0xf0 ? 0x90 : low;
        high = first == 0xf4 ? 0x8f : high;
    }
    if (bytes == 0 || len < bytes || byte_at(text, 1) < low || byte_at(text, 1) > high) {
        return 0;
    }
    for (size_t i = 1; i < bytes; i++) {
        if ((byte_at(text, i) & 0xc0u) != 0x80) {
            return 0;
        }
        *character = (*character << 6) | (byte_at(text, i) & 0x3fu);
    }
    return bytes;
}

static bool is_control(uint32_t character)
{
    return character < 0x20 || (character >= 0x7f && character <= 0x9f);
}

static bool is_noncharacter(uint32_t character)
{
    return (character >= 0xfdd0 && character <= 0xfdef) || (character & 0xfffeu) == 0xfffe;
}

/* What a person takes for a blank at the end of a name: an id must not look like another one. */
static bool is_blank(uint32_t character)
{
    return character == 0x20 || character == 0xa0 || character == 0x1680 ||
           (character >= 0x2000 && character <= 0x200b) || character == 0x2028 ||
           character == 0x2029 || character == 0x202f || character == 0x205f ||
           character == 0x3000 || character == 0xfeff;
}

size_t hlt_utf8_prefix(const char *text, size_t len)
{
    size_t at = 0;
    while (at < len) {
        uint32_t character = 0;
        size_t bytes = utf8_decode(text + at, len - at, &character);
        if (bytes == 0) {
            break;
        }
        at += bytes;
    }
    return at;
}

bool hlt_utf8_valid(const char *text, size_t len)
{
    return hlt_utf8_prefix(text, len) == len;
}

/* NULL if `character` may stand in an id. */
static const char *character_fault(uint32_t character)
{
    if (is_control(character)) {
        return "has a control character";
    }
    if (is_noncharacter(character)) {
        return "has a Unicode non-character";
    }
    if (character == '+' || character == '#' || character == '/') {
        return "has one of + # /, which mean something in topics";
    }
    return NULL;
}

static const char *id_fault(const char *id, size_t len)
{
    if (len == 0) {
        return "is empty";
    }
    if (len > HLT_ID_MAX) {
        return "is longer than 255 bytes";
    }
    if (id[0] == '$') {
        return "begins with $, which the broker keeps for itself";
    }
    uint32_t character = 0;
    size_t bytes = 0;
    for (size_t at = 0; at < len; at += bytes) {
        bytes = utf8_decode(id + at, len - at, &character);
        if (bytes == 0) {
            return "is not valid UTF-8";
        }
        const char *fault = character_fault(character);
        if (fault != NULL) {
            return fault;
        }
        if (at == 0 && is_blank(character)) {
            return "begins with a blank";
        }
    }
    return is_blank(character) ? "ends with a blank" : NULL;
}

bool hlt_id_valid(const char *id, size_t len, const char **why)
{
    const char *fault = id_fault(id, len);
    if (fault != NULL && why != NULL) {
        *why = fault;
    }
    return fault == NULL;
}

static bool is_level_byte(unsigned char byte)
{
    return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte >= '0' && byte <= '9') || byte == '_' || byte == '.' || byte == ':' || byte == '-';
}

size_t hlt_level_encode(char *out, size_t out_bytes, const char *text, size_t len)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t put = 0;
    size_t at = 0;

    if (out_bytes == 0) {
        return 0;
    }
    while (at < len) {
        uint32_t character = 0;
        size_t bytes = utf8_decode(text + at, len - at, &character);
        bytes = bytes == 0 ? 1 : bytes; /* a stray byte is encoded alone */
        bool plain = is_level_byte(byte_at(text, at));
        if (put + (plain ? 1 : 3 * bytes) >= out_bytes) {
            break;
        }
        if (plain) {
            out[put++] = text[at];
        } else {
            for (size_t i = at; i < at + bytes; i++) {
                out[put++] = '%';
                out[put++] = hex[byte_at(text, i) >> 4];
                out[put++] = hex[byte_at(text, i) & 0x0f];
            }
        }
        at += bytes;
    }
    out[put] = '\0';
    return put;
}

/* --- dates --- */

#define DAY_S 86400
#define MAX_DATE_MS INT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */

static bool is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return days[month - 1] + (month == 2 && is_leap(year) ? 1 : 0);
}

/* Days from 1970-01-01 to January 1st of `year` (1..10000). */
static int64_t days_to_year(int year)
{
    int64_t past = year - 1;
    return 365 * (past - 1969) + (past / 4 - 1969 / 4) - (past / 100 - 1969 / 100) +
           (past / 400 - 1969 / 400);
}

struct cursor {
    const char *text;
    size_t len, at;
};

/* Exactly `digits` digits. */
static bool take_number(struct cursor *cursor, int digits, int *out)
{
    int value = 0;
    for (int i = 0; i < digits; i++) {
        if (cursor->at >= cursor->len || cursor->text[cursor->at] < '0' ||
            cursor->text[cursor->at] > '9') {
            return false;
        }
        value = value * 10 + (cursor->text[cursor->at++] - '0');
    }
    *out = value;
    return true;
}

static bool take_one_of(struct cursor *cursor, const char *set, char *out)
{
    if (cursor->at >= cursor->len || cursor->text[cursor->at] == '\0' ||
        strchr(set, cursor->text[cursor->at]) == NULL) {
        return false;
    }
    *out = cursor->text[cursor->at++];
    return true;
}

/* ".5", ".123456789": to milliseconds, the rest is cut off. At least one digit. */
static bool take_fraction(struct cursor *cursor, int *ms)
{
    char dot = 0;
    int scale = 100;
    int digit = 0;

    *ms = 0;
    if (!take_one_of(cursor, ".", &dot)) {
        return true;
    }
    if (!take_number(cursor, 1, &digit)) {
        return false;
    }
    do {
        *ms += digit * scale;
        scale /= 10;
    } while (take_number(cursor, 1, &digit));
    return true;
}

/* "Z", "+02:00": seconds east of UTC. */
static bool take_offset(struct cursor *cursor, int *seconds)
{
    char sign = 0;
    char colon = 0;
    int hours = 0;
    int minutes = 0;

    *seconds = 0;
    if (!take_one_of(cursor, "Zz+-", &sign)) {
        return false;
    }
    if (sign == 'Z' || sign == 'z') {
        return true;
    }
    if (!take_number(cursor, 2, &hours) || !take_one_of(cursor, ":", &colon) ||
        !take_number(cursor, 2, &minutes) || hours > 23 || minutes > 59) {
        return false;
    }
    *seconds = (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    return true;
}

struct date {
    int year, month, day, hour, minute, second, ms, offset_s;
};

static bool take_date(struct cursor *cursor, struct date *date)
{
    char mark = 0;
    return take_number(cursor, 4, &date->year) && take_one_of(cursor, "-", &mark) &&
           take_number(cursor, 2, &date->month) && take_one_of(cursor, "-", &mark) &&
           take_number(cursor, 2, &date->day) && take_one_of(cursor, "Tt ", &mark) &&
           take_number(cursor, 2, &date->hour) && take_one_of(cursor, ":", &mark) &&
           take_number(cursor, 2, &date->minute) && take_one_of(cursor, ":", &mark) &&
           take_number(cursor, 2, &date->second) && take_fraction(cursor, &date->ms) &&
           take_offset(cursor, &date->offset_s) && cursor->at == cursor->len;
}

bool hlt_date_parse(const char *text, size_t len, int64_t *unix_ms)
{
    struct cursor cursor = {.text = text, .len = len};
    struct date date;
    if (!take_date(&cursor, &date)) {
        return false;
    }
    if (date.year < 1 || date.month < 1 || date.month > 12 || date.day < 1 ||
        date.day > days_in_month(date.year, date.month) || date.hour > 23 || date.minute > 59 ||
        date.second > 60) {
        return false;
    }
    int64_t days = days_to_year(date.year) + date.day - 1;
    for (int month = 1; month < date.month; month++) {
        days += days_in_month(date.year, month);
    }
    int64_t seconds = days * DAY_S + date.hour * INT64_C(3600) + date.minute * INT64_C(60) +
                      date.second - date.offset_s;
    if (date.second == 60 && seconds % DAY_S != 0) {
        return false; /* a leap second ends a UTC day (RFC 3339, 5.7); unix time shows it as 0:00:00
                       */
    }
    int64_t ms = seconds * 1000 + date.ms;
    if (ms < 0 || ms > MAX_DATE_MS) {
        return false;
    }
    *unix_ms = ms;
    return true;
}

/* `digits` of `value`, then `after`. snprintf takes 0.35 us for a date, and every login makes two
 * or three. */
static inline char *put_digits(char *out, unsigned value, unsigned digits, char after)
{
    for (unsigned i = digits; i > 0; i--, value /= 10) {
        out[i - 1] = (char)('0' + value % 10);
    }
    out[digits] = after;
    return out + digits + 1;
}

void hlt_date_format(int64_t unix_ms, char out[HLT_DATE_BYTES])
{
    if (unix_ms < 0 || unix_ms > MAX_DATE_MS) {
        unix_ms = 0;
    }
    int64_t days = unix_ms / (DAY_S * INT64_C(1000));
    int in_day_ms = (int)(unix_ms % (DAY_S * INT64_C(1000)));
    int year = 1970 + (int)(days / 366); /* a year early now, 22 in year 9999 */
    while (days_to_year(year + 1) <= days) {
        year++;
    }
    int day = (int)(days - days_to_year(year));
    int month = 1;
    while (day >= days_in_month(year, month)) {
        day -= days_in_month(year, month);
        month++;
    }
    unsigned second = (unsigned)in_day_ms / 1000;
    out = put_digits(out, (unsigned)year, 4, '-');
    out = put_digits(out, (unsigned)month, 2, '-');
    out = put_digits(out, (unsigned)day + 1, 2, 'T');
    out = put_digits(out, second / 3600, 2, ':');
    out = put_digits(out, second / 60 % 60, 2, ':');
    out = put_digits(out, second % 60, 2, '.');
    out = put_digits(out, (unsigned)in_day_ms % 1000, 3, 'Z');
    *out = '\0';
}

/* --- units --- */

struct unit {
    const char *name;
    uint64_t factor;
};

/* Digits, then one of the units or nothing (units[0]). No sign, no fraction, no blank. */
static bool parse_with_unit(const char *text, const struct unit *units, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value)) {
            return false;
        }
    }
    if (at == text) {
        return false;
    }
    for (; units->name != NULL; units++) {
        if (strcmp(at, units->name) == 0) {
            break;
        }
    }
    if (units->name == NULL || __builtin_mul_overflow(value, units->factor, &value) ||
        value > max) {
        return false;
    }
    *out = value;
    return true;
}

bool hlt_duration_parse(const char *text, int64_t *ms)
{
    static const struct unit units[] = {
        {"", 1000},      {"ms", 1},        {"s", 1000}, {"min", 60000},
        {"h", 3600000u}, {"d", 86400000u}, {NULL, 0},
    };
    uint64_t value = 0;
    if (!parse_with_unit(text, units, INT64_MAX, &value)) {
        return false;
    }
    *ms = (int64_t)value;
    return true;
}

bool hlt_size_parse(const char *text, uint64_t *bytes)
{
    static const struct unit units[] = {
        {"", 1},
        {"B", 1},
        {"KiB", UINT64_C(1) << 10},
        {"MiB", UINT64_C(1) << 20},
        {"GiB", UINT64_C(1) << 30},
        {"TiB", UINT64_C(1) << 40},
        {"kB", 1000},
        {"KB", 1000},
        {"MB", 1000000},
        {"GB", 1000000000},
        {"TB", UINT64_C(1000000000000)},
        {NULL, 0},
    };
    return parse_with_unit(text, units, UINT64_MAX, bytes);
}

/* --- suggestions --- */

static char lower(char letter)
{
    if (letter >= 'A' && letter <= 'Z') {
        return (char)(letter - 'A' + 'a');
    }
    return letter;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Restricted Damerau-Levenshtein distance (a swap of neighbours counts one), letter case ignored.
 */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t rows[3][SUGGEST_WORD_MAX + 1];
    size_t *before = rows[0];
    size_t *last = rows[1];
    size_t *now = rows[2];

    for (size_t j = 0; j <= b_len; j++) {
        last[j] = j;
        before[j] = 0; /* read only from the second row on; set for the analysers */
    }
    for (size_t i = 1; i <= a_len; i++) {
        now[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            bool same = lower(a[i - 1]) == lower(b[j - 1]);
            now[j] = min_size(last[j - 1] + (same ? 0 : 1), min_size(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                lower(a[i - 2]) == lower(b[j - 1])) {
                now[j] = min_size(now[j], before[j - 2] + 1);
            }
        }
        size_t *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    return last[b_len];
}

const char *hlt_suggest(const char *word, const char *const *candidates)
{
    size_t len = strlen(word);
    if (len == 0 || len > SUGGEST_WORD_MAX) {
        return NULL;
    }
    size_t limit = len / 3 > 1 ? len / 3 : 1;
    size_t best = limit + 1;
    const char *nearest = NULL;

    for (; *candidates != NULL; candidates++) {
        size_t candidate_len = strlen(*candidates);
        if (candidate_len > SUGGEST_WORD_MAX) {
            continue;
        }
        size_t apart = distance(word, len, *candidates, candidate_len);
        if (apart < best) {
            best = apart;
            nearest = *candidates;
        }
    }
    return nearest;
}

size_t hlt_printable(char *out, size_t out_bytes, const char *text, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    size_t put = 0;
    size_t at = 0;

    if (out_bytes == 0) {
        return 0;
    }
    while (at < len) {
        uint32_t character = 0;
        size_t bytes = utf8_decode(text + at, len - at, &character);
        bool plain = bytes != 0 && !is_control(character);
        bytes = bytes == 0 ? 1 : bytes;
        if (put + (plain ? bytes : 4 * bytes) >= out_bytes) {
            break;
        }
        for (size_t i = at; i < at + bytes; i++) {
            if (plain) {
                out[put++] = text[i];
            } else {
                out[put++] = '\\';
                out[put++] = 'x';
                out[put++] = hex[byte_at(text, i) >> 4];
                out[put++] = hex[byte_at(text, i) & 0x0f];
            }
        }
        at += bytes;
    }
    out[put] = '\0';
    return put;
}
