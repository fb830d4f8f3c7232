/* listing.h - what is in force, listed: from the store or, where a broker is named, as it tells it.
 */
#ifndef HLT_LISTING_H
#define HLT_LISTING_H

#include "admin.h"
#include "reader.h"

/* One list. The broker gives it in pages; all of them are asked for. */
struct hlt_listing {
    const char *command; /* on $CONTROL: "listBans" */
    const char *member;  /* the array in the answer, and in what --json prints: "bans" */
    enum hlt_db db;
    /* A record of the store as the broker would tell it; NULL: it is over, or *damaged. */
    cJSON *(*entry)(const void *key, size_t key_len, const void *value, size_t len, int64_t now_ms,
                    bool *damaged);
    void (*print)(const cJSON *list, int64_t now_ms); /* for people */
};

/* All rows of such a verb's option table. */
#define HLT_LISTING_OPTIONS(json)                                                                  \
    HLT_READER_OPTIONS, HLT_ADMIN_OPTIONS, {"json", NULL, json},                                   \
    {                                                                                              \
        NULL, NULL, NULL                                                                           \
    }
/* The verb. An exit code. */
int hlt_listing_run(const struct hlt_listing *listing, const struct hlt_cli_spec *spec, int argc,
                    char **argv);

/* A text member of an entry, else `fallback`. */
const char *hlt_listing_text(const cJSON *entry, const char *name, const char *fallback);

#endif
