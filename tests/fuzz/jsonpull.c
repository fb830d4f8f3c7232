/* jsonpull.c - fuzzes the JSON reader against cJSON: never more lenient, and the same where both
 * accept. */
#include <stdio.h>
#include <stdlib.h>

#include "../json_reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    const char *problem = json_disagreement((const char *)data, len);
    struct hlt_json value;
    enum hlt_json_event event;
    char small[8];

    if (problem != NULL) {
        fprintf(stderr, "%s\n", problem);
        abort();
    }
    if (hlt_json_find((const char *)data, len, "a", &value, &event)) {
        hlt_json_skip(&value, event);
    }
    /* raw bytes that no reader has checked must not lead astray either */
    hlt_json_unescape(small, sizeof(small), (const char *)data, len);
    return 0;
}
