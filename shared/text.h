/* text.h - checking and shaping text that comes from outside: UTF-8, ids, dates, units. */
#ifndef HLT_TEXT_H
#define HLT_TEXT_H

#include "base.h"

#define HLT_ID_MAX 255    /* bytes of a device id (DESIGN: LMDB keys end at 511) */
#define HLT_DATE_BYTES 25 /* "2026-11-20T22:00:00.000Z" and its NUL */
#define HLT_LEVEL_MAX 255 /* bytes of one encoded topic level */

/* True if the bytes are valid UTF-8 (RFC 3629: no overlong forms, surrogates, > U+10FFFF). */
bool hlt_utf8_valid(const char *text, size_t len);
/* How many bytes are, up to the first that is not. */
size_t hlt_utf8_prefix(const char *text, size_t len);

/* True if `id` may name a device: 1..255 bytes of valid UTF-8, no control or non-characters, none
 * of
 * + # /, no leading $, no blank at either end. Otherwise *why (may be NULL) gets a static text. */
bool hlt_id_valid(const char *id, size_t len, const char **why);

/* Percent-encode everything outside A-Za-z0-9_.:- so that input can stand in a topic level. Writes
 * at most out_bytes with NUL (use HLT_LEVEL_MAX + 1); a longer result is cut at a character. */
size_t hlt_level_encode(char *out, size_t out_bytes, const char *text, size_t len);

/* RFC 3339 date-time to unix ms; any offset, any number of fraction digits, years 1970..9999. */
bool hlt_date_parse(const char *text, size_t len, int64_t *unix_ms);
/* Unix ms to "2026-11-20T22:00:00.000Z"; out of range shows as 1970. */
void hlt_date_format(int64_t unix_ms, char out[HLT_DATE_BYTES]);

/* "250ms", "30s", "5min", "2h", "7d"; a bare number is seconds. To ms. */
bool hlt_duration_parse(const char *text, int64_t *ms);
/* "512", "4KiB", "10MiB", "1GiB", "64KB" (powers of 1000). To bytes. */
bool hlt_size_parse(const char *text, uint64_t *bytes);

/* The candidate nearest to `word` if it is near enough to be meant (Damerau-Levenshtein distance at
 * most a third of the length, at least 1), else NULL. `candidates` ends with NULL. */
const char *hlt_suggest(const char *word, const char *const *candidates);

/* Copy `text` with control bytes, DEL, C1 controls and invalid UTF-8 shown as \xNN: for terminals
 * and logs. Always ends with NUL; returns the length written. */
size_t hlt_printable(char *out, size_t out_bytes, const char *text, size_t len);

#endif
