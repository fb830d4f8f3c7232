/* say.c - lines in the broker's log. */
#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "broker.h"

#define LINE_BYTES 2048  /* longer lines are cut */
#define PIECE_BYTES 900u /* the broker cuts a log line, time stamp included, at 1000 bytes */

static int broker_level(enum hlt_log_level level)
{
    switch (level) {
    case HLT_LOG_ERR: return MOSQ_LOG_ERR;
    case HLT_LOG_WARNING: return MOSQ_LOG_WARNING;
    case HLT_LOG_NOTICE: return MOSQ_LOG_NOTICE;
    case HLT_LOG_INFO: return MOSQ_LOG_INFO;
    case HLT_LOG_DEBUG: return MOSQ_LOG_DEBUG;
    }
    return MOSQ_LOG_ERR;
}

/* Bytes of the next piece: never in the middle of a UTF-8 character. */
static size_t piece_len(const char *text, size_t len)
{
    size_t cut = len;

    if (len > PIECE_BYTES) {
        cut = PIECE_BYTES;
        while (cut > 0 && ((unsigned char)text[cut] & 0xC0u) == 0x80u) {
            cut--;
        }
    }
    return cut > 0 ? cut : len;
}

void hlt_say(int limit, enum hlt_log_level level, const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list args;

    if ((int)level > limit) {
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);

    const char *text = line;
    size_t len = strlen(line);
    const char *lead = "";
    do {
        size_t piece = piece_len(text, len);
        mosquitto_log_printf(broker_level(level), "haltere: %s%.*s", lead, (int)piece, text);
        text += piece;
        len -= piece;
        lead = "... ";
    } while (len > 0);
}

void hlt_say_problems(int limit, const struct hlt_problems *problems)
{
    char line[LINE_BYTES];

    for (size_t i = 0; i < problems->count; i++) {
        hlt_problem_format(problems, i, line, sizeof(line));
        hlt_say(limit, problems->item[i].kind == HLT_PROBLEM_ERROR ? HLT_LOG_ERR : HLT_LOG_WARNING,
                "%s", line);
    }
    size_t seen = problems->errors + problems->warnings;
    if (seen > problems->count) {
        hlt_say(limit, HLT_LOG_ERR, "%zu more problems are not shown", seen - problems->count);
    }
}
