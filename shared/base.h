/* base.h - result codes, error texts and time: what every module of Haltere shares. */
#ifndef HLT_BASE_H
#define HLT_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The one result type. HLT_OK is 0; values go through out parameters, set only on success. */
enum hlt_rc {
    HLT_OK = 0,
    HLT_EINVAL,    /* the caller's argument makes no sense */
    HLT_EPARSE,    /* a file, token or document is malformed; the text says where */
    HLT_EIO,       /* the system or a library could not read or write */
    HLT_ENOMEM,    /* allocation failed */
    HLT_EFULL,     /* a named limit is reached */
    HLT_ENOTFOUND, /* no such thing */
    HLT_EBUSY,     /* somebody else holds it */
};

/* A message for a person: what happened, to what, what to do. Owned by the caller. */
struct hlt_err {
    char msg[512];
};

/* Format `fmt` into `err` (may be NULL) and return `rc`: rc = hlt_fail(err, HLT_EIO, ...). */
enum hlt_rc hlt_fail(struct hlt_err *err, enum hlt_rc rc, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A point in time. Durations are taken from mono_ms, dates shown to people from wall_ms. */
struct hlt_now {
    int64_t wall_ms; /* unix time in milliseconds (CLOCK_REALTIME) */
    int64_t mono_ms; /* CLOCK_MONOTONIC in milliseconds */
};

/* Several mistakes of one file or configuration, so that all are told at once.
 * Keeps the first HLT_PROBLEMS_MAX, counts the rest. Zero-initialise; free with hlt_problems_free.
 */
#define HLT_PROBLEMS_MAX 100

enum hlt_problem_kind { HLT_PROBLEM_ERROR, HLT_PROBLEM_WARNING };

struct hlt_problem {
    enum hlt_problem_kind kind;
    char *file;      /* NULL: no file involved */
    unsigned line;   /* 1-based, 0: the whole file */
    unsigned column; /* 1-based in bytes, 0: the whole line */
    char *text;      /* what, where and how to mend it; valid UTF-8 without control bytes */
};

struct hlt_problems {
    struct hlt_problem item[HLT_PROBLEMS_MAX];
    size_t count;    /* items kept */
    size_t errors;   /* errors seen, kept or not */
    size_t warnings; /* warnings seen, kept or not */
};

void hlt_problems_add(struct hlt_problems *problems, enum hlt_problem_kind kind, const char *file,
                      unsigned line, unsigned column, const char *fmt, ...)
    __attribute__((format(printf, 6, 7)));

/* Write item `index` as "file:line:column: error: text" into `out`. */
void hlt_problem_format(const struct hlt_problems *problems, size_t index, char *out,
                        size_t out_bytes);

/* The first error at or behind `from` in the same form, for who has room for one. */
void hlt_problems_first(const struct hlt_problems *problems, size_t from, char *out,
                        size_t out_bytes);

void hlt_problems_free(struct hlt_problems *problems);

#endif
