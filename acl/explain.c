/* explain.c - the decision in words: which rule, what its variables stand for, and which rule
 * nearly allowed. */
#include "explain.h"

#include <stdio.h>
#include <stdlib.h>

#include "../shared/text.h"
#include "internal.h"

#define FAR 1000u /* more misfits than any near rule has */

/* What is asked for, split into levels. */
struct asked {
    const struct hlt_view *view;
    struct acl_text level[HLT_ACL_LEVELS_MAX + 2];
    uint32_t count; /* levels, without a last # */
    uint32_t written;
    bool tail, dollar;
    bool overlap; /* is it enough to hold some topic of the filter? */
};

/* How a rule's filter misses what is asked for. */
struct misfit {
    uint32_t count, at; /* levels that do not fit, the first of them */
    bool unusable;      /* ... because a variable has no value */
    bool length;        /* one of the two is longer */
};

const char *hlt_access_word(enum hlt_access access)
{
    switch (access) {
    case HLT_READ: return "read";
    case HLT_WRITE: return "write";
    case HLT_SUBSCRIBE: return "subscribe";
    case HLT_UNSUBSCRIBE: return "unsubscribe";
    }
    return "unknown";
}

const char *hlt_view_section(const struct hlt_view *view, size_t index)
{
    return index < view->section_count ? view->policy->sections[view->sections[index]].title : NULL;
}

/* ---- comparing ---- */

/* False: more levels than a broker takes. */
static bool split(struct asked *asked, const char *topic)
{
    const char *at = topic;

    for (;;) {
        size_t len = strcspn(at, "/");

        if (asked->written == HLT_ACL_LEVELS_MAX + 2) {
            return false;
        }
        asked->level[asked->written++] = (struct acl_text){.text = at, .len = (uint32_t)len};
        if (at[len] == '\0') {
            break;
        }
        at += len + 1;
    }
    asked->tail = asked->level[asked->written - 1].len == 1 && at[0] == '#';
    asked->count = asked->written - asked->tail;
    asked->dollar = topic[0] == '$';
    return true;
}

static bool is(const struct acl_text *text, const char *what, size_t len)
{
    return text->len == len && memcmp(text->text, what, len) == 0;
}

/* The value of a variable that is this text; NULL if it has none like it. */
static const struct acl_value *value_of(const struct hlt_view *view, uint8_t slot,
                                        const struct acl_text *text)
{
    const struct acl_bound *bound = &view->bound[slot];

    for (uint32_t i = 0; i < bound->count; i++) {
        const struct acl_value *value = &view->values[bound->first + i];

        if (is(text, value->text, value->key.len)) {
            return value;
        }
    }
    return NULL;
}

static bool has_usable(const struct hlt_view *view, uint8_t slot, uint32_t depth)
{
    const struct acl_bound *bound = &view->bound[slot];

    for (uint32_t i = 0; i < bound->count; i++) {
        if (depth > 0 || view->values[bound->first + i].text[0] != '$') {
            return true;
        }
    }
    return false;
}

static bool level_fits(const struct asked *asked, const struct acl_level *have, uint32_t depth)
{
    const struct acl_text *level = &asked->level[depth];
    bool plus = level->len == 1 && level->text[0] == '+';

    switch (have->kind) {
    case ACL_PLUS: return depth > 0 || !asked->dollar;
    case ACL_VARIABLE:
        if (plus) {
            return asked->overlap && has_usable(asked->view, have->slot, depth);
        }
        return !(depth == 0 && asked->dollar) && value_of(asked->view, have->slot, level) != NULL;
    default:
        return (plus && asked->overlap && (depth > 0 || have->len == 0 || have->text[0] != '$')) ||
               is(level, have->text, have->len);
    }
}

static void note(const struct asked *asked, const struct acl_level *have, uint32_t depth,
                 struct misfit *out)
{
    if (out->count++ == 0) {
        out->at = depth;
    }
    out->unusable = have->kind == ACL_VARIABLE && !has_usable(asked->view, have->slot, depth);
}

static void compare_literal(const struct asked *asked, const struct acl_filter *filter,
                            struct misfit *out)
{
    const struct acl_level *levels = &asked->view->policy->levels[filter->first];

    if (filter->count != asked->written) {
        out->count = FAR;
        return;
    }
    for (uint32_t i = 0; i < filter->count; i++) {
        bool same = levels[i].kind == ACL_VARIABLE
                        ? value_of(asked->view, levels[i].slot, &asked->level[i]) != NULL
                        : is(&asked->level[i], levels[i].text, levels[i].len);

        if (!same) {
            note(asked, &levels[i], i, out);
        }
    }
}

/* The levels behind a last # of the question: a variable there needs a value. */
static void note_rest(const struct asked *asked, const struct acl_filter *filter, uint32_t from,
                      struct misfit *out)
{
    const struct acl_level *levels = &asked->view->policy->levels[filter->first];

    for (uint32_t i = from; i < filter->count; i++) {
        if (levels[i].kind == ACL_VARIABLE && !has_usable(asked->view, levels[i].slot, i)) {
            note(asked, &levels[i], i, out);
        }
    }
}

static struct misfit compare(const struct asked *asked, const struct acl_filter *filter)
{
    const struct acl_level *levels = &asked->view->policy->levels[filter->first];
    struct misfit out = {0};
    uint32_t i;

    if (filter->literal) {
        compare_literal(asked, filter, &out);
        return out;
    }
    for (i = 0; i < filter->count; i++) {
        if (levels[i].kind == ACL_HASH) {
            if (i == 0 && asked->dollar) {
                note(asked, &levels[i], i, &out);
            }
            return out;
        }
        if (i >= asked->count) {
            if (asked->tail && asked->overlap) {
                note_rest(asked, filter, i, &out);
                return out; /* # goes on as the rule does */
            }
            break;
        }
        if (!level_fits(asked, &levels[i], i)) {
            note(asked, &levels[i], i, &out);
        }
    }
    uint32_t over = (filter->count - i) + (asked->count > i ? asked->count - i : 0) +
                    (asked->tail && !asked->overlap);
    if (over > 0) {
        out.at = out.count == 0 ? i : out.at;
        out.count += over;
        out.length = true;
    }
    return out;
}

/* ---- what a filter stands for ---- */

/* The text of one level as this client has it. `asked` may be NULL. */
static struct acl_text bound_level(const struct hlt_view *view, const struct asked *asked,
                                   const struct acl_level *have, uint32_t depth)
{
    const struct acl_text plain = {.text = have->text, .len = have->len};
    const struct acl_value *value = NULL;

    if (have->kind != ACL_VARIABLE) {
        return plain;
    }
    if (asked != NULL && depth < asked->count) {
        value = value_of(view, have->slot, &asked->level[depth]);
    }
    if (value == NULL && view->bound[have->slot].count == 1) {
        value = &view->values[view->bound[have->slot].first];
    }
    return value != NULL ? (struct acl_text){.text = value->text, .len = value->key.len} : plain;
}

static char *bound_filter(const struct hlt_view *view, const struct asked *asked,
                          const struct acl_filter *filter)
{
    const struct acl_level *levels = &view->policy->levels[filter->first];
    size_t bytes = filter->literal + 1U;
    char *text, *at;

    for (uint32_t i = 0; i < filter->count; i++) {
        bytes += bound_level(view, asked, &levels[i], i).len + 1;
    }
    text = at = calloc(1, bytes);
    if (text == NULL) {
        return NULL;
    }
    if (filter->literal) {
        *at++ = '=';
    }
    for (uint32_t i = 0; i < filter->count; i++) {
        struct acl_text level = bound_level(view, asked, &levels[i], i);

        if (i > 0) {
            *at++ = '/';
        }
        memcpy(at, level.text, level.len);
        at += level.len;
    }
    *at = '\0';
    return text;
}

char *hlt_view_bound_filter(const struct hlt_view *view, uint32_t rule)
{
    return rule < view->policy->rule_count
               ? bound_filter(view, NULL, &view->policy->rules[rule].filter)
               : NULL;
}

/* ---- the rule that nearly allowed ---- */

enum near_kind { NEAR_EXCEPT, NEAR_ACCESS, NEAR_VARIABLE, NEAR_LEVEL, NEAR_NONE };

struct near {
    enum near_kind kind;
    uint32_t rule, detail; /* the exception's index, or the level */
    bool length;
};

/* The exception that takes the question out of the rule; HLT_ACL_NONE if none does. */
static uint32_t exception(const struct asked *asked, const struct acl_rule *rule)
{
    struct asked part = *asked;

    /* From a rule that must hold all of a filter, an exception takes what it touches; from one that
     * only has to touch it, what it holds completely (policy.h). */
    part.overlap = !asked->overlap;
    for (uint32_t i = 0; i < rule->except_count; i++) {
        if (compare(&part, &asked->view->policy->excepts[rule->first_except + i]).count == 0) {
            return rule->first_except + i;
        }
    }
    return HLT_ACL_NONE;
}

static struct near judge(const struct asked *asked, uint32_t index, uint8_t wanted)
{
    const struct acl_rule *rule = &asked->view->policy->rules[index];
    struct misfit misfit = compare(asked, &rule->filter);
    bool access = (rule->access & wanted) != 0;
    struct near near = {.kind = NEAR_NONE, .rule = index, .detail = misfit.at};

    if (misfit.count == 0 && access) {
        near.kind = NEAR_EXCEPT;
        near.detail = exception(asked, rule);
        if (near.detail == HLT_ACL_NONE && rule->except_count > 0) {
            near.detail = rule->first_except; /* by an unusable variable in it */
        } else if (near.detail == HLT_ACL_NONE) {
            near.kind = NEAR_NONE;
        }
    } else if (misfit.count == 0) {
        near.kind = NEAR_ACCESS;
    } else if (misfit.count == 1 && access) {
        near.kind = misfit.unusable ? NEAR_VARIABLE : NEAR_LEVEL;
        near.length = misfit.length;
    }
    return near;
}

/* Of two that miss by a level, the one that goes along further. */
static bool nearer(const struct near *one, const struct near *other)
{
    if (one->kind != other->kind) {
        return one->kind < other->kind;
    }
    return one->kind == NEAR_LEVEL && one->detail > other->detail;
}

static struct near find_near(const struct asked *asked, uint8_t wanted)
{
    const struct hlt_view *view = asked->view;
    const struct hlt_policy *policy = view->policy;
    struct near best = {.kind = NEAR_NONE};

    for (uint32_t i = 0; i < policy->rule_count; i++) {
        bool own = false;

        for (uint32_t s = 0; s < view->section_count && !policy->rules[i].deny; s++) {
            own |= view->sections[s] == policy->rules[i].section;
        }
        if (own) {
            struct near near = judge(asked, i, wanted);

            best = nearer(&near, &best) ? near : best;
        }
    }
    return best;
}

static size_t put_accesses(uint8_t accesses, char *out, size_t bytes)
{
    size_t len = 0;

    out[0] = '\0';
    for (unsigned bit = HLT_READ; bit <= HLT_UNSUBSCRIBE && len + 16 < bytes; bit <<= 1) {
        if ((accesses & bit) != 0) {
            len += (size_t)snprintf(out + len, bytes - len, "%s%s", len > 0 ? ", " : "",
                                    hlt_access_word((enum hlt_access)bit));
        }
    }
    return len;
}

/* "%{site} is missing or may not stand in a topic" */
static void why_variable(const struct asked *asked, const struct acl_level *have, char *out,
                         size_t bytes)
{
    bool missing = (asked->view->bound[have->slot].flags & ACL_UNUSABLE) != 0;

    (void)snprintf(out, bytes, "%.*s %s", (int)have->len, have->text,
                   missing ? "has no usable value: missing, empty, or with + # / in it"
                           : "begins with $, which may not be the first level");
}

static void why_level(const struct asked *asked, const struct near *near, char *out, size_t bytes)
{
    const struct acl_filter *filter = &asked->view->policy->rules[near->rule].filter;
    const struct acl_level *have = &asked->view->policy->levels[filter->first + near->detail];
    char is_text[80], want[80];

    if (near->length) {
        (void)snprintf(out, bytes, "the rule's filter has %u levels, this has %u", filter->count,
                       asked->written);
        return;
    }
    struct acl_text level = asked->level[near->detail];
    struct acl_text value = bound_level(asked->view, NULL, have, near->detail);

    (void)hlt_printable(is_text, sizeof(is_text), level.text, level.len);
    (void)hlt_printable(want, sizeof(want), value.text, value.len);
    if (have->kind == ACL_VARIABLE && value.text != have->text) {
        (void)snprintf(out, bytes, "level %u is '%s', not '%s' (%.*s)", near->detail + 1, is_text,
                       want, (int)have->len, have->text);
    } else if (have->kind == ACL_VARIABLE) {
        (void)snprintf(out, bytes, "level %u is '%s', none of the %u values of %s",
                       near->detail + 1, is_text, asked->view->bound[have->slot].count, want);
    } else {
        (void)snprintf(out, bytes, "level %u is '%s', not '%s'", near->detail + 1, is_text, want);
    }
}

static void why_except(const struct asked *asked, const struct acl_filter *filter,
                       struct hlt_explanation *out)
{
    char *text = bound_filter(asked->view, asked, filter);
    char shown[256];

    (void)hlt_printable(shown, sizeof(shown), text != NULL ? text : "",
                        text != NULL ? strlen(text) : 0);
    (void)snprintf(out->why, sizeof(out->why), "its exception '%s' takes this out", shown);
    free(text);
}

static void why_not(const struct asked *asked, const struct near *near, struct hlt_explanation *out)
{
    const struct hlt_policy *policy = asked->view->policy;
    const struct acl_rule *rule;
    char words[64];

    if (near->kind == NEAR_NONE) {
        return; /* also where there are no rules at all */
    }
    rule = &policy->rules[near->rule];
    switch (near->kind) {
    case NEAR_ACCESS:
        (void)put_accesses(rule->access, words, sizeof(words));
        (void)snprintf(out->why, sizeof(out->why), "access is %s only", words);
        break;
    case NEAR_EXCEPT: why_except(asked, &policy->excepts[near->detail], out); break;
    case NEAR_VARIABLE:
        why_variable(asked, &policy->levels[rule->filter.first + near->detail], out->why,
                     sizeof(out->why));
        break;
    case NEAR_LEVEL: why_level(asked, near, out->why, sizeof(out->why)); break;
    case NEAR_NONE: return;
    }
    out->has_near = true;
    hlt_policy_rule(policy, near->rule, &out->near);
    if (near->kind == NEAR_VARIABLE) {
        out->reason = "unusable-variable";
    }
}

/* ---- the whole answer ---- */

/* What Mosquitto refuses before it asks anybody (facts: acl 1.1.2); NULL: nothing. */
static const char *broker_refuses(enum hlt_access access, const char *topic)
{
    const char *id = topic + strlen("$SYS/broker/connection/");

    if (access != HLT_WRITE && access != HLT_READ) {
        return NULL;
    }
    if (strncmp(topic, "$share", 6) == 0) {
        return "broker:$share";
    }
    if (access == HLT_READ || strncmp(topic, "$SYS", 4) != 0) {
        return NULL;
    }
    if (strncmp(topic, "$SYS/broker/connection/", 23) == 0) {
        const char *leaf = strchr(id, '/');

        if (leaf != NULL && strcmp(leaf, "/state") == 0) {
            return NULL;
        }
    }
    return "broker:$SYS";
}

static enum hlt_rc explain_rule(const struct asked *asked, struct hlt_explanation *out)
{
    const struct hlt_policy *policy = asked->view->policy;
    uint32_t rule = out->decision.rule;

    out->has_by = true;
    out->reason = "rule";
    hlt_policy_rule(policy, rule, &out->by);
    if (rule >= policy->rule_count) {
        const struct acl_line *line = &policy->legacy.lines[rule - policy->rule_count];

        out->reason = line->filter == NULL                   ? "default-allow"
                      : line->owner == HLT_ACL_LEGACY_OF_ALL ? "legacy:pattern"
                                                             : "legacy:topic";
        return HLT_OK;
    }
    if (policy->rules[rule].deny && compare(asked, &policy->rules[rule].filter).count > 0) {
        out->reason = "unusable-variable"; /* it denies any text for it */
    }
    out->bound = bound_filter(asked->view, asked, &policy->rules[rule].filter);
    return out->bound != NULL ? HLT_OK : HLT_ENOMEM;
}

enum hlt_rc hlt_policy_explain(const struct hlt_view *view, enum hlt_access access,
                               const char *topic, struct hlt_explanation *out)
{
    bool filter = access == HLT_SUBSCRIBE || access == HLT_UNSUBSCRIBE;
    const char *bare = topic;
    struct asked *asked;
    enum hlt_rc rc = HLT_OK;

    *out = (struct hlt_explanation){.reason = "default"};
    hlt_policy_decide(view, access, topic, &out->decision);
    const char *refused = broker_refuses(access, topic);
    if (refused != NULL) {
        out->decision = (struct hlt_decision){.verdict = HLT_DENY, .rule = HLT_ACL_NONE};
        out->reason = refused;
        return HLT_OK;
    }
    if (out->decision.verdict == HLT_DENY && out->decision.rule == HLT_ACL_NONE) {
        /* Mosquitto asks no pattern for a client whose name holds + or #. */
        out->reason =
            view->legacy != NULL && topic[strcspn(topic, "+#")] == '\0' && topic[0] != '\0'
                ? "legacy:bad-id"
                : "malformed";
        return HLT_OK;
    }
    if (filter && strncmp(topic, "$share/", 7) == 0) {
        bare = strchr(topic + 7, '/');
        bare = bare != NULL ? bare + 1 : topic;
    }
    asked = calloc(1, sizeof(*asked));
    if (asked == NULL) {
        return HLT_ENOMEM;
    }
    asked->view = view;
    asked->overlap = access == HLT_SUBSCRIBE && !view->subscribes;
    if (!split(asked, bare)) {
        out->reason = "malformed"; /* deeper than any rule; the broker refuses it as well */
    } else if (out->decision.rule != HLT_ACL_NONE) {
        rc = explain_rule(asked, out);
    } else if (out->decision.verdict == HLT_NO_RULE) {
        struct near near = find_near(asked, asked->overlap ? HLT_READ : (uint8_t)access);

        why_not(asked, &near, out);
    }
    free(asked);
    return rc;
}

void hlt_explanation_free(struct hlt_explanation *explanation)
{
    free(explanation->bound);
    explanation->bound = NULL;
}
