/* jsondoc.c - what all documents share. */
#include "jsondoc.h"

#include <string.h>

char *hlt_jsondoc_print(cJSON *document)
{
    char *text = cJSON_PrintUnformatted(document), *copy = NULL;

    cJSON_Delete(document);
    if (text != NULL) {
        copy = strdup(text);
        cJSON_free(text);
    }
    return copy;
}

const char *hlt_jsondoc_text(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

bool hlt_jsondoc_whole(const cJSON *object, const char *name, double max, uint64_t *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= max)) {
        return false;
    }
    *out = (uint64_t)item->valuedouble;
    return true;
}
