/* request.h - a question, cut into levels: what decide.c, relate.c and scan.c share. */
#ifndef HLT_POLICY_REQUEST_H
#define HLT_POLICY_REQUEST_H

#include "internal.h"

/* A level of the topic or filter that is asked for. */
struct level {
    struct acl_key key;
    const char *text;
    bool plus;
};

struct request {
    const struct hlt_view *view;
    const uint32_t *sections; /* whose rules are asked: of the view */
    uint32_t section_count;
    struct level
        level[HLT_ACL_LEVELS_MAX + 1]; /* as many as the policy's deepest filter has, and one */
    uint32_t known;                    /* levels in `level` */
    uint32_t count;                    /* levels, without a last # */
    uint32_t literal_count;            /* levels as written, with it */
    bool tail;                         /* a last # */
    bool dollar;                       /* begins with $ */
    bool wild;                         /* has + or # */
};

/* How a rule is compared with a subscription filter; on a topic name all three are the same. */
enum relation {
    COVERS,  /* does the rule hold all of it? */
    BARS,    /* does the rule leave nothing of it? */
    TOUCHES, /* does the rule hold some of it? */
};

struct found {
    uint32_t allow, deny; /* the lowest rules, HLT_ACL_NONE: none */
    bool all_bound;       /* every rule that allows binds %d */
};

/* Is a value of the variable this level? Values are sorted by key.a. */
static inline bool has_value(const struct hlt_view *view, const struct acl_bound *bound,
                             const struct level *level)
{
    const struct acl_value *values = view->values + bound->first;
    uint32_t low = 0, high = bound->count;

    while (high - low > 4) {
        uint32_t middle = low + (high - low) / 2;

        if (values[middle].key.a < level->key.a) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < bound->count && values[low].key.a <= level->key.a; low++) {
        if (acl_key_equal(&values[low].key, values[low].text, &level->key, level->text)) {
            return true;
        }
    }
    return false;
}

/* Some value of the variable may not stand at this depth: then a restriction has to take any text
 * for it. */
static inline bool unusable(const struct acl_bound *bound, uint32_t depth)
{
    return (bound->flags & (depth == 0 ? ACL_UNUSABLE | ACL_DOLLAR : ACL_UNUSABLE)) != 0;
}

static inline bool variable_is(const struct request *request, uint8_t slot, uint32_t depth)
{
    return !(depth == 0 && request->dollar) &&
           has_value(request->view, &request->view->bound[slot], &request->level[depth]);
}

/* Has the variable a value that may stand at this depth? */
bool hlt_request_usable(const struct request *request, uint8_t slot, uint32_t depth);
/* Is the rule's filter as `relation` asks, and does none of its `except` take the question out of
 * it? */
bool hlt_request_meets(const struct request *request, uint32_t rule, enum relation relation);
/* Only the latter. */
bool hlt_request_excepted(const struct request *request, uint32_t rule, enum relation relation);

#endif
