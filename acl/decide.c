/* decide.c - one question, one answer: a walk through the trie over the levels of the topic.
 *
 * This is the hot path, asked for every message and every receiver: no allocation, no lock. The
 * work is by the places of the trie that match the topic; too many of them, and wildcards that may
 * touch anything, are left to scan.c, whose cost is known beforehand. */
#include "../shared/text.h"
#include "request.h"
#include "scan.h"

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
            while ((unsigned char)at[1] >= 0x80) {
                at++;
            }
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

/* ---- the walk ---- */

static void take(const struct request *request, const struct acl_entry *entry,
                 enum relation relation, struct found *found)
{
    bool denies = (entry->flags & ACL_DENIES) != 0;
    bool counts = denies ? entry->rule < found->deny
                         : entry->rule < found->allow ||
                               (found->all_bound && (entry->flags & ACL_BOUND) == 0);

    if (!counts || ((entry->flags & ACL_EXCEPTS) != 0 &&
                    hlt_request_excepted(request, entry->rule, relation))) {
        return;
    }
    if (denies) {
        found->deny = entry->rule;
    } else {
        found->allow = entry->rule < found->allow ? entry->rule : found->allow;
        found->all_bound &= (entry->flags & ACL_BOUND) != 0;
    }
}

/* The first of `sections` from `at` on that is not below `section`. */
static uint32_t skip_sections(const struct request *request, uint32_t at, uint32_t section)
{
    uint32_t high = request->section_count;

    while (high - at > 4) {
        uint32_t middle = at + (high - at) / 2;

        if (request->sections[middle] < section) {
            at = middle + 1;
        } else {
            high = middle;
        }
    }
    while (at < request->section_count && request->sections[at] < section) {
        at++;
    }
    return at;
}

static uint32_t skip_entries(const struct acl_entry *entries, uint32_t at, uint32_t count,
                             uint32_t section)
{
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
    return at;
}

/* The entries of one place that belong to the client's sections. Both lists are sorted: many rules
 * of other people at one place, and many sections without rules there, are passed over by halving.
 */
static void take_entries(const struct request *request, const struct acl_node *node, bool tail,
                         uint8_t access, bool denials_only, enum relation relation,
                         struct found *found)
{
    const struct acl_entry *entries =
        node->end_count + node->tail_count == 1
            ? &node->only
            : request->view->policy->entries + node->first_entry + (tail ? node->end_count : 0);
    uint32_t count = tail ? node->tail_count : node->end_count;
    uint32_t at = 0, s = 0;

    while (at < count) {
        s = skip_sections(request, s, entries[at].section);
        if (s == request->section_count) {
            return;
        }
        at = skip_entries(entries, at, count, request->sections[s]);
        for (; at < count && entries[at].section == request->sections[s]; at++) {
            if ((entries[at].access & access) != 0 &&
                (!denials_only || (entries[at].flags & ACL_DENIES) != 0)) {
                take(request, &entries[at], relation, found);
            }
        }
    }
}

static uint32_t literal_child(const struct request *request, uint32_t parent,
                              const struct level *level)
{
    const struct hlt_policy *policy = request->view->policy;
    uint64_t hash = acl_bucket_hash(parent, &level->key);
    uint64_t mask = (UINT64_C(1) << (64 - policy->bucket_shift)) - 1;
    const struct acl_bucket *bucket;

    for (uint64_t place = hash >> policy->bucket_shift;; place = (place + 1) & mask) {
        bucket = &policy->buckets[place];
        if (bucket->child == 0) {
            return 0;
        }
        if (bucket->tag == (uint16_t)hash &&
            acl_in_bands(request->view->bands, bucket->lowest, bucket->highest) &&
            acl_node_is(policy, &policy->nodes[bucket->child], parent, &level->key, level->text)) {
            return bucket->child;
        }
    }
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
        next.node = literal_child(request, from.node, level);
        if (next.node != 0) {
            stack[top++] = next;
        }
    }
    return top;
}

/* Visit all places of a trie that hold what is asked for. False if there are too many. */
static bool walk(const struct request *request, uint32_t root, uint8_t access,
                 enum relation relation, struct found *found)
{
    const struct hlt_policy *policy = request->view->policy;
    bool literal = root == ACL_LITERAL_ROOT;
    uint32_t count = literal ? request->literal_count : request->count;
    struct visit stack[HLT_ACL_STACK_MAX];
    uint32_t top = 0, left = policy->patience;

    stack[top++] = (struct visit){.node = root};
    while (top > 0) {
        struct visit visit = stack[--top];
        const struct acl_node *node = &policy->nodes[visit.node];

        if (node->tail_count > 0 && (visit.depth > 0 || !request->dollar)) {
            take_entries(request, node, true, access, visit.denials_only, relation, found);
        }
        if (left-- == 0 || top > HLT_ACL_STACK_MAX - ACL_WAYS_MAX) {
            return false;
        }
        if (visit.depth < count) {
            if (visit.depth < request->known) {
                top = push_children(request, visit, literal, stack, top);
            }
        } else if (node->end_count > 0 && (literal || !request->tail)) {
            take_entries(request, node, false, access, visit.denials_only, relation, found);
        }
    }
    return true;
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

/* What the sections at hand say to a question. `by_reading`: no section says who may subscribe;
 * then to whatever holds something that may be read. */
static void ask_sections(const struct request *request, uint8_t access, bool by_reading,
                         struct found *found)
{
    const struct found nothing = {.allow = HLT_ACL_NONE,
                                  .deny = HLT_ACL_NONE,
                                  .all_bound = !by_reading && (access & ACL_OF_TOPICS) != 0};
    bool literals =
        (access & ~(uint32_t)ACL_OF_TOPICS) != 0 && request->view->policy->literal_count > 0;
    enum relation relation = by_reading ? BARS : COVERS;

    *found = nothing;
    if (!walk(request, ACL_ROOT, access, relation, found) ||
        (literals && !walk(request, ACL_LITERAL_ROOT, access, COVERS, found))) {
        *found = nothing;
        hlt_scan_ask(request, access, relation, found);
    }
    if (by_reading && request->wild) {
        found->allow = HLT_ACL_NONE;
        hlt_scan_allow(request, access, TOUCHES, found);
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
    struct found found;
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
    ask_sections(&request, (uint8_t)access, false, &found);
    if (view->votes) {
        ask_ordered(&request, (uint8_t)access, false, &found);
    }
    answer(&found, out);
    if (view->votes) {
        ask_legacy(&request, access, topic, out);
        ask_default(&request, (uint8_t)access, out);
    }
}
