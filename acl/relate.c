/* relate.c - a question and the filters of a rule, level by level: does one hold the other? */
#include "request.h"

static bool same_text(const struct acl_level *have, const struct level *level)
{
    return have->len == level->key.len && memcmp(have->text, level->text, have->len) == 0;
}

/* The literal filter `filter` is what was asked for, letter by letter. `any`: unusable variables
 * stand for any text. */
static bool equals(const struct request *request, const struct acl_filter *filter, bool any)
{
    const struct acl_level *levels = &request->view->policy->levels[filter->first];

    if (filter->count != request->literal_count) {
        return false;
    }
    for (uint32_t i = 0; i < filter->count; i++) {
        bool same = levels[i].kind == ACL_VARIABLE
                        ? variable_is(request, levels[i].slot, i) ||
                              (any && unusable(&request->view->bound[levels[i].slot], i))
                        : same_text(&levels[i], &request->level[i]);

        if (!same) {
            return false;
        }
    }
    return true;
}

bool hlt_request_usable(const struct request *request, uint8_t slot, uint32_t depth)
{
    const struct acl_bound *bound = &request->view->bound[slot];

    for (uint32_t i = 0; i < bound->count; i++) {
        if (depth > 0 || request->view->values[bound->first + i].text[0] != '$') {
            return true;
        }
    }
    return false;
}

/* One level of a rule's filter against one that is asked for. `overlap`: is there a text both hold?
 * Else: does the rule's hold all that the other does? */
static bool level_fits(const struct request *request, const struct acl_level *have, uint32_t depth,
                       bool overlap, bool any)
{
    const struct level *level = &request->level[depth];
    const struct acl_bound *bound;

    switch (have->kind) {
    case ACL_PLUS: return depth > 0 || !request->dollar;
    case ACL_VARIABLE:
        bound = &request->view->bound[have->slot];
        if (any && unusable(bound, depth)) {
            return true;
        }
        if (level->plus) {
            return overlap && hlt_request_usable(request, have->slot, depth);
        }
        return variable_is(request, have->slot, depth);
    default:
        if (level->plus) {
            return overlap && (depth > 0 || have->len == 0 || have->text[0] != '$');
        }
        return same_text(have, level);
    }
}

/* Can the levels from `from` on hold anything? Not with a variable that has no value. */
static bool rest_usable(const struct request *request, const struct acl_filter *filter,
                        uint32_t from)
{
    const struct acl_level *levels = &request->view->policy->levels[filter->first];

    for (uint32_t i = from; i < filter->count; i++) {
        if (levels[i].kind == ACL_VARIABLE && !hlt_request_usable(request, levels[i].slot, i)) {
            return false;
        }
    }
    return true;
}

/* `overlap`: is there a topic that both filters hold? Else: does `filter` hold every topic that was
 * asked for? */
static bool relates(const struct request *request, const struct acl_filter *filter, bool overlap,
                    bool any)
{
    const struct acl_level *levels = &request->view->policy->levels[filter->first];

    if (filter->literal) {
        return equals(request, filter, any);
    }
    if (!request->tail && filter->count != request->count &&
        levels[filter->count - 1].kind != ACL_HASH) {
        return false; /* said again below, after all the levels */
    }
    for (uint32_t i = 0; i < filter->count; i++) {
        if (levels[i].kind == ACL_HASH) {
            return i > 0 || !request->dollar;
        }
        if (i == request->count) {
            return overlap && request->tail && (any || rest_usable(request, filter, i));
        }
        if (!level_fits(request, &levels[i], i, overlap, any)) {
            return false;
        }
    }
    return filter->count == request->count && (overlap || !request->tail);
}

/* An exception from an allow takes out what it touches, one from a deny only what it holds
 * completely: when unclear, denied. Where an allow itself only has to touch the question, there
 * must be something left of it. */
bool hlt_request_excepted(const struct request *request, uint32_t rule_index,
                          enum relation relation)
{
    const struct hlt_policy *policy = request->view->policy;
    const struct acl_rule *rule = &policy->rules[rule_index];
    bool overlap = relation == BARS || (relation == COVERS && !rule->deny);

    for (uint32_t i = 0; i < rule->except_count; i++) {
        if (relates(request, &policy->excepts[rule->first_except + i], overlap, !rule->deny)) {
            return true;
        }
    }
    return false;
}

bool hlt_request_meets(const struct request *request, uint32_t rule_index, enum relation relation)
{
    const struct acl_rule *rule = &request->view->policy->rules[rule_index];

    return relates(request, &rule->filter, relation == TOUCHES, rule->deny) &&
           !hlt_request_excepted(request, rule_index, relation);
}
