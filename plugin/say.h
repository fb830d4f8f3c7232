/* say.h - lines in the broker's log. */
#ifndef HLT_SAY_H
#define HLT_SAY_H

#include "../shared/base.h"
#include "../shared/engine.h"

/* Write one line "haltere: ..." if `level` is within `limit` (option log_level). The broker cuts
 * lines at 1000 bytes: longer ones are written in pieces, and cut at 2 KiB. */
void hlt_say(int limit, enum hlt_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Write every problem of a file or configuration, a line each. */
void hlt_say_problems(int limit, const struct hlt_problems *problems);

#endif
