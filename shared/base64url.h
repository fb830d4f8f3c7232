/* base64url.h - base64url as RFC 7515 wants it: no padding, no other characters, no unused bits
 * set.
 *
 * One byte string has exactly one spelling, so a spelling that decodes is the only one. */
#ifndef HLT_BASE64URL_H
#define HLT_BASE64URL_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the encoded text with its NUL, and at most so many bytes when decoded. */
#define HLT_BASE64URL_TEXT(bytes) (((bytes)*4 + 2) / 3 + 1)
#define HLT_BASE64URL_DATA(text_len) ((text_len)*3 / 4)

/* Some characters, all of them digits, as many as whole bytes may have. Unused bits are not looked
 * at. */
bool hlt_base64url_shaped(const char *text, size_t len);

/* Decode `len` characters into `out`. Returns the bytes written, or SIZE_MAX when the text is not
 * strict base64url or does not fit. Nothing is added at the end. */
size_t hlt_base64url_decode(void *out, size_t out_bytes, const char *text, size_t len);

/* Encode into `out` with a NUL. Returns the characters written, or SIZE_MAX if they do not fit. */
size_t hlt_base64url_encode(char *out, size_t out_bytes, const void *data, size_t len);

#endif
