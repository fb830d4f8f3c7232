/* keyset_internal.h - the inside of a key set, for token.c and the tests of the loader. */
#ifndef HLT_KEYSET_INTERNAL_H
#define HLT_KEYSET_INTERNAL_H

#include "jwk.h"
#include "keyset.h"

struct hlt_key {
    const struct hlt_alg *alg; /* the only one this key verifies */
    char *kid;                 /* NULL: for tokens without a kid */
    char *issuer;              /* NULL: any */
    char *file;
    unsigned line;
    unsigned bits;
    jwk_set_t *owner; /* libjwt's, holds only `item` */
    const jwk_item_t *item;
};

struct hlt_keyset {
    struct hlt_key *key;
    size_t count, capacity;
    struct hlt_key **by_kid; /* sorted; filled by hlt_keyset_seal */
    size_t kid_count;
    const struct hlt_key *only[HLT_ALG_COUNT]; /* the algorithm's one key, NULL: none or several */
};

/* Add a file's content; mistakes go to `problems`. */
void hlt_keyset_add(struct hlt_keyset *set, const struct hlt_key_source *source, const char *text,
                    size_t len, struct hlt_problems *problems);
/* Build the indexes; duplicate kids are problems. */
void hlt_keyset_seal(struct hlt_keyset *set, struct hlt_problems *problems);

/* After sealing. NULL: no such key. */
const struct hlt_key *hlt_keyset_find(const struct hlt_keyset *set, const char *kid);
const struct hlt_key *hlt_keyset_only(const struct hlt_keyset *set, const struct hlt_alg *alg);

#endif
