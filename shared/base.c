/* base.c - error texts, and the list of problems that lets one run tell every mistake. */
#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define PROBLEM_TEXT_MAX 1024 /* bytes of a problem's text before control bytes become \xNN */

enum hlt_rc hlt_fail(struct hlt_err *err, enum hlt_rc rc, const char *fmt, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, fmt);
        (void)vsnprintf(err->msg, sizeof(err->msg), fmt, args);
        va_end(args);
    }
    return rc;
}

/* A copy that is safe to print whatever the file or option held. */
static char *printable_copy(const char *text)
{
    char shown[PROBLEM_TEXT_MAX * 4 + 1]; /* \xNN is four bytes for one */
    (void)hlt_printable(shown, sizeof(shown), text, strlen(text));
    return strdup(shown);
}

void hlt_problems_add(struct hlt_problems *problems, enum hlt_problem_kind kind, const char *file,
                      unsigned line, unsigned column, const char *fmt, ...)
{
    if (kind == HLT_PROBLEM_ERROR) {
        problems->errors++;
    } else {
        problems->warnings++;
    }
    if (problems->count == HLT_PROBLEMS_MAX) {
        return; /* counted above: the caller can say how many more there are */
    }

    char text[PROBLEM_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);

    struct hlt_problem item = {.kind = kind, .line = line, .column = column};
    item.text = printable_copy(text);
    item.file = file != NULL ? strdup(file) : NULL;
    if (item.text == NULL || (file != NULL && item.file == NULL)) {
        free(item.text); /* without memory the counts still make the load fail */
        free(item.file);
        return;
    }
    problems->item[problems->count++] = item;
}

void hlt_problem_format(const struct hlt_problems *problems, size_t index, char *out,
                        size_t out_bytes)
{
    const struct hlt_problem *item = &problems->item[index];
    const char *kind = item->kind == HLT_PROBLEM_ERROR ? "error" : "warning";
    char place[32] = "";
    if (item->line > 0 && item->column > 0) {
        (void)snprintf(place, sizeof(place), ":%u:%u", item->line, item->column);
    } else if (item->line > 0) {
        (void)snprintf(place, sizeof(place), ":%u", item->line);
    }
    if (item->file != NULL) {
        char file[512];
        (void)hlt_printable(file, sizeof(file), item->file, strlen(item->file));
        (void)snprintf(out, out_bytes, "%s%s: %s: %s", file, place, kind, item->text);
    } else {
        (void)snprintf(out, out_bytes, "%s: %s", kind, item->text);
    }
}

void hlt_problems_first(const struct hlt_problems *problems, size_t from, char *out,
                        size_t out_bytes)
{
    (void)snprintf(out, out_bytes, "not enough memory");
    for (size_t i = from; i < problems->count; i++) {
        if (problems->item[i].kind == HLT_PROBLEM_ERROR) {
            hlt_problem_format(problems, i, out, out_bytes);
            return;
        }
    }
}

void hlt_problems_free(struct hlt_problems *problems)
{
    if (problems == NULL) {
        return;
    }
    for (size_t i = 0; i < problems->count; i++) {
        free(problems->item[i].file);
        free(problems->item[i].text);
    }
    memset(problems, 0, sizeof(*problems));
}
