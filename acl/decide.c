/* decide.c - one question, one answer: a walk through the trie over the levels of the topic.
 *
 * This is the hot path, asked for every message and every receiver: no allocation, no lock, and the
 * work is bounded by the places of the trie that match the topic, never by what a client sends. */
#include "../shared/text.h"
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
    COVERS, /* does the rule hold all of it? */
    BARS,   /* does the rule leave nothing of it? */
};

struct found {
    uint32_t allow, deny; /* the lowest rules, HLT_ACL_NONE: none */
    bool all_bound;       /* every rule that allows binds %d */
};

/* ---- reading the question ---- */

static void add_level(struct request *request, uint32_t most, const char *text, size_t len)
{
    if (request->known < most) {
        request->level[request->known++] =
            (struct level){.key = acl_key_of(text, len), .text = text};
    }
    request->literal_count++;
}

/* May a wildcard stand at `at`? It is a whole level, and # is the last. */
static bool wildcard_fits(const char *at, const char *level)
{
    return at == level && (at[1] == '\0' || (at[1] == '/' && *at == '+'));
}

/* Split a topic name or filter into levels. False if it is malformed. */
static bool split(struct request *request, const char *topic, bool filter, uint32_t most)
{
    const char *at = topic;
    const char *level = topic;
    bool high = false;

    for (;; at++) {
        unsigned char byte = (unsigned char)*at;

        if (byte > '/' && byte < 0x7f) {
            continue;
        }
        if (byte == '/' || byte == '\0') {
            add_level(request, most, level, (size_t)(at - level));
            level = at + 1;
            if (byte == '\0') {
                break;
            }
        } else if (byte == '+' || byte == '#') {
            if (!filter || !wildcard_fits(at, level)) {
                return false;
            }
            request->wild = true;
            request->tail = byte == '#';
        } else if (byte >= 0x80) {
            high = true;
        } else if (byte < 0x20 || byte == 0x7f) {
            return false;
        }
    }
    request->count = request->literal_count - request->tail;
    request->dollar = topic[0] == '$';
    return at != topic && (size_t)(at - topic) <= HLT_ACL_TOPIC_MAX &&
           (!high || hlt_utf8_valid(topic, (size_t)(at - topic)));
}

/* Which levels are wildcards. "#" is what "+/#" is: every topic has a level. */
static void mark_wildcards(struct request *request)
{
    for (uint32_t i = 0; i < request->known && i < request->count; i++) {
        request->level[i].plus = request->level[i].key.len == 1 && request->level[i].text[0] == '+';
    }
    if (request->tail && request->count == 0) {
        request->count = 1;
        request->level[0].plus = true;
    }
}

/* "$share/group/filter" to "filter"; NULL if it is no shared subscription that could be. */
static const char *unshared(const char *filter)
{
    const char *group = filter + 7;
    size_t len;

    if (strncmp(filter, "$share", 6) != 0 || (filter[6] != '/' && filter[6] != '\0')) {
        return filter;
    }
    if (filter[6] == '\0') {
        return NULL;
    }
    len = strcspn(group, "/+#");
    return len > 0 && group[len] == '/' ? group + len + 1 : NULL;
}

/* ---- comparing ---- */

/* Is a value of the variable this level? Values are sorted by key.a. */
static bool has_value(const struct hlt_view *view, const struct acl_bound *bound,
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
static bool unusable(const struct acl_bound *bound, uint32_t depth)
{
    return (bound->flags & (depth == 0 ? ACL_UNUSABLE | ACL_DOLLAR : ACL_UNUSABLE)) != 0;
}

static bool variable_is(const struct request *request, uint8_t slot, uint32_t depth)
{
    return !(depth == 0 && request->dollar) &&
           has_value(request->view, &request->view->bound[slot], &request->level[depth]);
}

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

/* Has the variable a value that may stand at this depth? */
static bool has_usable(const struct hlt_view *view, const struct acl_bound *bound, uint32_t depth)
{
    for (uint32_t i = 0; i < bound->count; i++) {
        if (depth > 0 || view->values[bound->first + i].text[0] != '$') {
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
            return overlap && has_usable(request->view, bound, depth);
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
        if (levels[i].kind == ACL_VARIABLE &&
            !has_usable(request->view, &request->view->bound[levels[i].slot], i)) {
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

/* Do the rule's `except` filters take this question out of it? An exception from an allow takes out
 * what it touches, one from a deny only what it holds completely: when unclear, denied. */
static bool excepted(const struct request *request, uint32_t rule_index, enum relation relation)
{
    const struct hlt_policy *policy = request->view->policy;
    const struct acl_rule *rule = &policy->rules[rule_index];
    bool overlap = !rule->deny || relation == BARS;

    for (uint32_t i = 0; i < rule->except_count; i++) {
        if (relates(request, &policy->excepts[rule->first_except + i], overlap, !rule->deny)) {
            return true;
        }
    }
    return false;
}

/* ---- the walk ---- */

static void take(const struct request *request, const struct acl_entry *entry,
                 enum relation relation, struct found *found)
{
    bool denies = (entry->flags & ACL_DENIES) != 0;

    if ((entry->flags & ACL_EXCEPTS) != 0 && excepted(request, entry->rule, relation)) {
        return;
    }
    if (denies) {
        found->deny = entry->rule < found->deny ? entry->rule : found->deny;
    } else {
        found->allow = entry->rule < found->allow ? entry->rule : found->allow;
        found->all_bound &= (entry->flags & ACL_BOUND) != 0;
    }
}

/* The entries of one place that belong to the client's sections. Both lists are sorted: many rules
 * of other people at the same place are passed over by halving. */
static void take_entries(const struct request *request, const struct acl_node *node, bool tail,
                         uint8_t access, bool denials_only, enum relation relation,
                         struct found *found)
{
    const struct acl_entry *entries =
        node->end_count + node->tail_count == 1
            ? &node->only
            : request->view->policy->entries + node->first_entry + (tail ? node->end_count : 0);
    uint32_t count = tail ? node->tail_count : node->end_count;
    uint32_t at = 0;

    for (uint32_t s = 0; s < request->section_count && at < count; s++) {
        uint32_t section = request->sections[s];
        uint32_t high = count;

        while (high - at > 4) {
            uint32_t middle = at + (high - at) / 2;

            if (entries[middle].section < section) {
                at = middle + 1;
            } else {
                high = middle;
            }
        }
        while (at < count && entries[at].section < section) {
            at++;
        }
        for (; at < count && entries[at].section == section; at++) {
            if ((entries[at].access & access) != 0 &&
                (!denials_only || (entries[at].flags & ACL_DENIES) != 0)) {
                take(request, &entries[at], relation, found);
            }
        }
    }
}

static uint32_t literal_child(const struct hlt_policy *policy, uint32_t parent,
                              const struct level *level)
{
    uint64_t hash = acl_bucket_hash(parent, &level->key);
    uint64_t mask = (UINT64_C(1) << (64 - policy->bucket_shift)) - 1;

    for (uint64_t place = hash >> policy->bucket_shift; policy->buckets[place].child != 0;
         place = (place + 1) & mask) {
        const struct acl_node *node = &policy->nodes[policy->buckets[place].child];

        if (policy->buckets[place].tag == (uint32_t)hash &&
            acl_node_is(policy, node, parent, &level->key, level->text)) {
            return policy->buckets[place].child;
        }
    }
    return 0;
}

/* A place still to visit. */
struct visit {
    uint32_t node;
    uint16_t depth;
    bool denials_only; /* got here over an unusable variable */
};

/* Push the places behind `from`. `literal`: wildcards of the question are plain text. Returns the
 * new top. */
static uint32_t push_children(const struct request *request, struct visit from, bool literal,
                              struct visit *stack, uint32_t top)
{
    const struct hlt_policy *policy = request->view->policy;
    const struct acl_node *node = &policy->nodes[from.node];
    const struct level *level = &request->level[from.depth];
    bool plus = level->plus && !literal;
    struct visit next = {.depth = (uint16_t)(from.depth + 1), .denials_only = from.denials_only};

    for (uint32_t e = node->variables; e != HLT_ACL_NONE; e = policy->edges[e].next) {
        const struct acl_edge *edge = &policy->edges[e];
        const struct acl_bound *bound = &request->view->bound[edge->slot];

        next.node = edge->child;
        if (!plus && variable_is(request, (uint8_t)edge->slot, from.depth)) {
            next.denials_only = from.denials_only;
        } else if (unusable(bound, from.depth) &&
                   (policy->nodes[edge->child].flags & ACL_HAS_DENY) != 0) {
            next.denials_only = true;
        } else {
            continue;
        }
        stack[top++] = next;
    }
    next.denials_only = from.denials_only;
    if (node->plus != 0 && (from.depth > 0 || !request->dollar)) {
        next.node = node->plus;
        stack[top++] = next;
    }
    if ((node->flags & ACL_HAS_LITERALS) != 0 && !plus) {
        next.node = literal_child(policy, from.node, level);
        if (next.node != 0) {
            stack[top++] = next;
        }
    }
    return top;
}

/* Visit all places of a trie that hold what is asked for. compile.c refuses policies that could
 * need a deeper stack. */
static void walk(const struct request *request, uint32_t root, uint8_t access,
                 enum relation relation, struct found *found)
{
    const struct hlt_policy *policy = request->view->policy;
    bool literal = root == ACL_LITERAL_ROOT;
    uint32_t count = literal ? request->literal_count : request->count;
    struct visit stack[HLT_ACL_STACK_MAX];
    uint32_t top = 0;

    stack[top++] = (struct visit){.node = root};
    while (top > 0) {
        struct visit visit = stack[--top];
        const struct acl_node *node = &policy->nodes[visit.node];

        if (node->tail_count > 0 && (visit.depth > 0 || !request->dollar)) {
            take_entries(request, node, true, access, visit.denials_only, relation, found);
        }
        if (visit.depth < count) {
            if (visit.depth < request->known) {
                top = push_children(request, visit, literal, stack, top);
            }
        } else if (node->end_count > 0 && (literal || !request->tail)) {
            take_entries(request, node, false, access, visit.denials_only, relation, found);
        }
    }
}

/* ---- the answers ---- */

static void answer(const struct found *found, struct hlt_decision *out)
{
    if (found->deny != HLT_ACL_NONE) {
        *out = (struct hlt_decision){.verdict = HLT_DENY, .rule = found->deny};
    } else if (found->allow != HLT_ACL_NONE) {
        *out = (struct hlt_decision){
            .verdict = HLT_ALLOW, .rule = found->allow, .bound_device = found->all_bound};
    } else {
        *out = (struct hlt_decision){.verdict = HLT_NO_RULE, .rule = HLT_ACL_NONE};
    }
}

/* The first `allow read` rule of the client's that holds some topic of the filter. */
static uint32_t overlapping_read(const struct request *request)
{
    const struct hlt_policy *policy = request->view->policy;
    uint32_t lowest = HLT_ACL_NONE;

    for (uint32_t s = 0; s < request->section_count; s++) {
        const struct acl_section *section = &policy->sections[request->sections[s]];

        for (uint32_t i = 0; i < section->read_count; i++) {
            uint32_t index = policy->reads[section->first_read + i];
            const struct acl_rule *rule = &policy->rules[index];
            bool hit = index < lowest && relates(request, &rule->filter, true, false);

            for (uint32_t e = 0; hit && e < rule->except_count; e++) {
                hit = !relates(request, &policy->excepts[rule->first_except + e], false, true);
            }
            if (hit || index >= lowest) {
                lowest = hit ? index : lowest;
                break; /* they are in order */
            }
        }
    }
    return lowest;
}

/* What the sections at hand say to a question. `by_reading`: no section says who may subscribe;
 * then to whatever holds something that may be read. */
static void ask_sections(const struct request *request, uint8_t access, bool by_reading,
                         struct found *found)
{
    *found = (struct found){.allow = HLT_ACL_NONE, .deny = HLT_ACL_NONE, .all_bound = true};
    walk(request, ACL_ROOT, access, by_reading ? BARS : COVERS, found);
    if (by_reading && request->wild) {
        found->allow = overlapping_read(request);
    }
    if ((access & (HLT_SUBSCRIBE | HLT_UNSUBSCRIBE)) != 0 &&
        request->view->policy->literal_count > 0) {
        walk(request, ACL_LITERAL_ROOT, access, COVERS, found);
    }
}

/* Each ordered role votes with its first rule that matches. */
static void ask_ordered(struct request *request, uint8_t access, bool by_reading,
                        struct found *found)
{
    const struct hlt_view *view = request->view;

    for (uint32_t i = 0; i < view->ordered_count; i++) {
        struct found own;

        request->sections = &view->ordered[i];
        request->section_count = 1;
        ask_sections(request, access, by_reading, &own);
        if (own.deny < own.allow) {
            found->deny = own.deny < found->deny ? own.deny : found->deny;
        } else if (own.allow != HLT_ACL_NONE) {
            found->all_bound &= view->policy->rules[own.allow].filter.bound;
            found->allow = own.allow < found->allow ? own.allow : found->allow;
        }
    }
}

static void ask_all(struct request *request, uint8_t access, bool by_reading, struct found *found)
{
    request->sections = request->view->free;
    request->section_count = request->view->free_count;
    ask_sections(request, access, by_reading, found);
    if (request->view->ordered_count > 0) {
        ask_ordered(request, access, by_reading, found);
    }
}

/* `default allow`, where nobody spoke. */
static void ask_default(const struct request *request, uint8_t access, struct hlt_decision *out)
{
    const struct hlt_policy *policy = request->view->policy;

    if (out->verdict == HLT_NO_RULE && (policy->default_access & access) != 0 && !request->dollar) {
        *out = (struct hlt_decision){.verdict = HLT_ALLOW,
                                     .rule = policy->rule_count + policy->default_line};
    }
}

/* The vote of `topic` and `pattern` lines on a topic name. */
static void ask_legacy(const struct request *request, enum hlt_access access, const char *topic,
                       struct hlt_decision *out)
{
    uint32_t line;
    enum hlt_verdict verdict;

    if (out->verdict == HLT_DENY) {
        return; /* a rule of a section, whose number is lower */
    }
    verdict = hlt_legacy_vote(request->view->legacy, access, topic, &line);
    if (line != HLT_ACL_NONE) {
        line += request->view->policy->rule_count;
    }
    if (verdict == HLT_DENY) {
        *out = (struct hlt_decision){.verdict = HLT_DENY, .rule = line};
    } else if (verdict == HLT_ALLOW) {
        out->rule = out->verdict == HLT_ALLOW ? out->rule : line;
        out->verdict = HLT_ALLOW;
        out->bound_device = false; /* such a line never binds %d */
    }
}

static void decide_filter(struct request *request, enum hlt_access access, struct hlt_decision *out)
{
    struct found found;
    uint8_t opens = HLT_SUBSCRIBE;

    ask_all(request, (uint8_t)access, false, &found);
    answer(&found, out);
    out->bound_device = false;
    if (out->verdict != HLT_NO_RULE) {
        return;
    }
    if (access == HLT_UNSUBSCRIBE) {
        out->verdict = HLT_ALLOW; /* nobody forbids it */
        return;
    }
    if (!request->view->subscribes) {
        ask_all(request, HLT_READ, true, &found);
        answer(&found, out);
        out->bound_device = false;
        if (out->verdict == HLT_NO_RULE && request->view->legacy != NULL) {
            out->verdict = HLT_ALLOW; /* as Mosquitto: reading is filtered at delivery */
        }
        opens |= HLT_READ;
    }
    ask_default(request, opens, out);
}

void hlt_policy_decide(const struct hlt_view *view, enum hlt_access access, const char *topic,
                       struct hlt_decision *out)
{
    struct found found = {.allow = HLT_ACL_NONE, .deny = HLT_ACL_NONE, .all_bound = true};
    bool filter = access == HLT_SUBSCRIBE || access == HLT_UNSUBSCRIBE;
    struct request request;

    if (view->policy->plain) {
        hlt_legacy_decide(view, access, topic, out);
        return;
    }
    request.view = view;
    request.sections = view->free;
    request.section_count = view->free_count;
    request.known = request.count = request.literal_count = 0;
    request.tail = request.dollar = request.wild = false;
    *out = (struct hlt_decision){.verdict = HLT_DENY, .rule = HLT_ACL_NONE};
    topic = filter ? unshared(topic) : topic;
    if (topic == NULL || (!filter && access != HLT_READ && access != HLT_WRITE) ||
        !split(&request, topic, filter, view->policy->depth + 1)) {
        return;
    }
    if (filter) {
        mark_wildcards(&request);
        decide_filter(&request, access, out);
        return;
    }
    walk(&request, ACL_ROOT, (uint8_t)access, COVERS, &found);
    if (view->votes) {
        ask_ordered(&request, (uint8_t)access, false, &found);
    }
    answer(&found, out);
    if (view->votes) {
        ask_legacy(&request, access, topic, out);
        ask_default(&request, (uint8_t)access, out);
    }
}
