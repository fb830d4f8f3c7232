/* jsondoc.h - JSON documents of our own, by cJSON: printed, and read back. */
#ifndef HLT_JSONDOC_H
#define HLT_JSONDOC_H

#include <cjson/cJSON.h>

#include "base.h"

#define HLT_JSONDOC_WHOLE_MAX 9007199254740992.0 /* 2^53: JSON numbers are exact up to there */

/* Print without blanks and delete. malloc'd, whatever allocator cJSON was given (a 2.1 broker gives
 * it its own); NULL without memory. */
char *hlt_jsondoc_print(cJSON *document);

/* A string member; NULL if there is none of that type. Borrowed from the document. */
const char *hlt_jsondoc_text(const cJSON *object, const char *name);

/* A number member from 0 to `max`, its fraction cut off. False: there is no such member. */
bool hlt_jsondoc_whole(const cJSON *object, const char *name, double max, uint64_t *out);

#endif
