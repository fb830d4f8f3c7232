/* compile.c - all rules of a policy to one trie over topic levels (and one for literal filters).
 *
 * A place in the trie carries the rules that end there, sorted by section, so that a decision
 * visits the places that match the topic and there only the rules of the client's own sections. */
#include <stdlib.h>

#include "scan.h"

static uint64_t bucket_count(const struct hlt_policy *policy)
{
    return policy->buckets == NULL ? 0 : UINT64_C(1) << (64 - policy->bucket_shift);
}

static void put_bucket(struct hlt_policy *policy, uint32_t child)
{
    const struct acl_node *node = &policy->nodes[child];
    struct acl_key key = {.a = node->key_a, .b = node->key_b, .len = node->key_len};
    uint64_t hash = acl_bucket_hash(node->parent, &key);
    uint64_t mask = bucket_count(policy) - 1;
    uint64_t place = hash >> policy->bucket_shift;

    while (policy->buckets[place].child != 0) {
        place = (place + 1) & mask;
    }
    policy->buckets[place] = (struct acl_bucket){.tag = (uint16_t)hash, .child = child};
}

/* Keep the table at most half full. */
static bool bucket_room(struct hlt_policy *policy)
{
    uint64_t count = bucket_count(policy);
    struct acl_bucket *old = policy->buckets;

    if (((uint64_t)policy->bucket_used + 1) * 2 <= count) {
        return true;
    }
    policy->buckets = calloc(count == 0 ? 64 : count * 2, sizeof(*policy->buckets));
    if (policy->buckets == NULL) {
        policy->buckets = old;
        return false;
    }
    policy->bucket_shift = old == NULL ? 64 - 6 : policy->bucket_shift - 1;
    for (uint64_t i = 0; old != NULL && i < count; i++) {
        if (old[i].child != 0) {
            put_bucket(policy, old[i].child);
        }
    }
    free(old);
    return true;
}

static uint32_t find_literal(const struct hlt_policy *policy, uint32_t parent,
                             const struct acl_key *key, const char *text)
{
    uint64_t hash = acl_bucket_hash(parent, key);
    uint64_t mask = bucket_count(policy) - 1;

    for (uint64_t place = hash >> policy->bucket_shift; policy->buckets[place].child != 0;
         place = (place + 1) & mask) {
        const struct acl_node *node = &policy->nodes[policy->buckets[place].child];

        if (policy->buckets[place].tag == (uint16_t)hash &&
            acl_node_is(policy, node, parent, key, text)) {
            return policy->buckets[place].child;
        }
    }
    return 0;
}

/* A new node below `parent`; 0 without memory. Node 0 is a root, so 0 is never a child. */
static uint32_t add_node(struct hlt_policy *policy, uint32_t parent)
{
    if (!hlt_policy_grow(&policy->nodes, &policy->node_space, policy->node_count,
                         sizeof(*policy->nodes))) {
        return 0;
    }
    policy->nodes[policy->node_count] =
        (struct acl_node){.parent = parent, .variables = HLT_ACL_NONE};
    return policy->node_count++;
}

static uint32_t literal_child(struct hlt_policy *policy, uint32_t parent,
                              const struct acl_level *level)
{
    struct acl_key key = acl_key_of(level->text, level->len);
    uint32_t child;

    if (!bucket_room(policy)) {
        return 0;
    }
    child = find_literal(policy, parent, &key, level->text);
    if (child != 0) {
        return child;
    }
    child = add_node(policy, parent);
    if (child != 0) {
        policy->nodes[child].key_a = key.a;
        policy->nodes[child].key_b = key.b;
        policy->nodes[child].key_len = key.len;
        policy->nodes[child].level = (uint32_t)(level - policy->levels);
        policy->nodes[parent].flags |= ACL_HAS_LITERALS;
        policy->bucket_used++;
        put_bucket(policy, child);
    }
    return child;
}

static uint32_t plus_child(struct hlt_policy *policy, uint32_t parent)
{
    if (policy->nodes[parent].plus == 0) {
        uint32_t child = add_node(policy, parent);

        policy->nodes[parent].plus = child;
    }
    return policy->nodes[parent].plus;
}

static uint32_t variable_child(struct hlt_policy *policy, uint32_t parent, uint8_t slot)
{
    uint32_t child;

    for (uint32_t i = policy->nodes[parent].variables; i != HLT_ACL_NONE;
         i = policy->edges[i].next) {
        if (policy->edges[i].slot == slot) {
            return policy->edges[i].child;
        }
    }
    if (!hlt_policy_grow(&policy->edges, &policy->edge_space, policy->edge_count,
                         sizeof(*policy->edges))) {
        return 0;
    }
    child = add_node(policy, parent);
    if (child != 0) {
        policy->edges[policy->edge_count] = (struct acl_edge){
            .child = child, .next = policy->nodes[parent].variables, .slot = slot};
        policy->nodes[parent].variables = policy->edge_count++;
    }
    return child;
}

/* Where an entry belongs, for sorting. */
struct placed {
    uint32_t node;
    bool tail;
    struct acl_entry entry;
};

/* Walk the filter of a rule into the trie, making what is not there. False without memory. */
static bool place_rule(struct hlt_policy *policy, uint32_t index, struct placed *out)
{
    const struct acl_rule *rule = &policy->rules[index];
    const struct acl_level *levels = &policy->levels[rule->filter.first];
    uint32_t node = rule->filter.literal ? ACL_LITERAL_ROOT : ACL_ROOT;
    uint32_t deny = rule->deny ? ACL_HAS_DENY : 0;

    *out =
        (struct placed){.entry = {.section = rule->section, .rule = index, .access = rule->access}};
    out->entry.flags =
        (uint8_t)((rule->deny ? ACL_DENIES : 0) | (rule->filter.bound ? ACL_BOUND : 0) |
                  (rule->except_count > 0 ? ACL_EXCEPTS : 0));
    policy->nodes[node].flags |= deny;
    for (uint32_t i = 0; i < rule->filter.count; i++) {
        switch (levels[i].kind) {
        case ACL_PLUS: node = plus_child(policy, node); break;
        case ACL_VARIABLE: node = variable_child(policy, node, levels[i].slot); break;
        case ACL_HASH: out->tail = true; continue; /* it is the last */
        default: node = literal_child(policy, node, &levels[i]); break;
        }
        if (node == 0) {
            return false;
        }
        policy->nodes[node].flags |= deny;
    }
    out->node = node;
    return true;
}

static int compare_placed(const void *left, const void *right)
{
    const struct placed *a = left, *b = right;

    if (a->node != b->node) {
        return a->node < b->node ? -1 : 1;
    }
    if (a->tail != b->tail) {
        return a->tail ? 1 : -1;
    }
    if (a->entry.section != b->entry.section) {
        return a->entry.section < b->entry.section ? -1 : 1;
    }
    return a->entry.rule < b->entry.rule ? -1 : a->entry.rule > b->entry.rule;
}

/* Does the entry add nothing to what its section says at this place already? `said`: the accesses
 * that are spoken of without an exception, by effect. */
static bool said_already(const struct placed *placed, uint32_t index, uint8_t *said)
{
    const struct placed *entry = &placed[index];
    uint8_t *spoken = &said[entry->entry.flags & ACL_DENIES];

    if (index == 0 || entry[-1].node != entry->node || entry[-1].tail != entry->tail ||
        entry[-1].entry.section != entry->entry.section) {
        said[0] = said[ACL_DENIES] = 0;
    }
    if ((entry->entry.access & ~*spoken) == 0) {
        return true;
    }
    if ((entry->entry.flags & ACL_EXCEPTS) == 0) {
        *spoken |= entry->entry.access;
    }
    return false;
}

/* Hand the sorted entries to their nodes. */
static bool keep_entries(struct hlt_policy *policy, const struct placed *placed)
{
    uint8_t said[2];

    policy->entries = calloc(policy->rule_count + 1, sizeof(*policy->entries));
    if (policy->entries == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < policy->rule_count; i++) {
        struct acl_node *node = &policy->nodes[placed[i].node];

        if (said_already(placed, i, said)) {
            continue;
        }
        if (node->end_count + node->tail_count == 0) {
            node->first_entry = policy->entry_count;
            node->only = placed[i].entry;
        }
        if (placed[i].tail) {
            node->tail_count++;
        } else {
            node->end_count++;
        }
        policy->entries[policy->entry_count++] = placed[i].entry;
    }
    return true;
}

static bool place_rules(struct hlt_policy *policy)
{
    struct placed *placed = calloc(policy->rule_count + 1, sizeof(*placed));
    bool done = placed != NULL;

    for (uint32_t i = 0; done && i < policy->rule_count; i++) {
        done = place_rule(policy, i, &placed[i]);
        policy->literal_count += policy->rules[i].filter.literal;
        if (policy->rules[i].filter.count > policy->depth) {
            policy->depth = policy->rules[i].filter.count;
        }
    }
    for (uint32_t i = 0; i < policy->except_count; i++) {
        if (policy->excepts[i].count > policy->depth) {
            policy->depth = policy->excepts[i].count;
        }
    }
    if (done) {
        qsort(placed, policy->rule_count, sizeof(*placed), compare_placed);
        done = keep_entries(policy, placed);
    }
    free(placed);
    return done;
}

/* Tell each bucket whose rules are at its child and below. */
static bool mark_bands(struct hlt_policy *policy)
{
    struct bands {
        uint8_t lowest, highest;
    } *of = calloc(policy->node_count, sizeof(*of));

    if (of == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < policy->node_count; i++) {
        of[i] = (struct bands){ACL_BANDS - 1, 0};
    }
    for (uint32_t i = policy->node_count; i-- > 0;) { /* nodes were made after their parents */
        const struct acl_node *node = &policy->nodes[i];
        uint32_t count = node->end_count + node->tail_count;
        struct bands *above = node->parent != HLT_ACL_NONE ? &of[node->parent] : &of[i];

        for (uint32_t e = 0; e < count; e++) {
            uint32_t section = policy->entries[node->first_entry + e].section;
            uint8_t band = (uint8_t)(section >> policy->band_shift);

            of[i].lowest = band < of[i].lowest ? band : of[i].lowest;
            of[i].highest = band > of[i].highest ? band : of[i].highest;
        }
        above->lowest = of[i].lowest < above->lowest ? of[i].lowest : above->lowest;
        above->highest = of[i].highest > above->highest ? of[i].highest : above->highest;
    }
    for (uint64_t i = 0; i < bucket_count(policy); i++) {
        policy->buckets[i].lowest = of[policy->buckets[i].child].lowest;
        policy->buckets[i].highest = of[policy->buckets[i].child].highest;
    }
    free(of);
    return true;
}

/* Put the nodes on cache lines of their own. */
static bool align_nodes(struct hlt_policy *policy)
{
    size_t bytes = policy->node_count * sizeof(*policy->nodes);
    struct acl_node *aligned = aligned_alloc(64, bytes);

    if (aligned == NULL) {
        return false;
    }
    memcpy(aligned, policy->nodes, bytes);
    free(policy->nodes);
    policy->nodes = aligned;
    policy->node_space = policy->node_count;
    return true;
}

/* So that binding a client asks for its own sections' limits only. */
static void chain_limits(struct hlt_policy *policy)
{
    for (uint32_t i = 0; i < policy->section_count; i++) {
        policy->sections[i].first_limit = HLT_ACL_NONE;
    }
    for (uint32_t i = 0; i < policy->limit_count; i++) {
        uint32_t *first = &policy->sections[policy->limits[i].section].first_limit;

        policy->limits[i].next = *first;
        *first = i;
    }
}

enum hlt_rc hlt_policy_compile(struct hlt_policy *policy)
{
    chain_limits(policy);
    policy->patience = HLT_ACL_PATIENCE;
    while ((policy->section_count - 1) >> policy->band_shift >= ACL_BANDS) {
        policy->band_shift++;
    }
    if (!hlt_policy_grow(&policy->nodes, &policy->node_space, 0, sizeof(*policy->nodes)) ||
        !bucket_room(policy)) {
        return HLT_ENOMEM;
    }
    policy->nodes[ACL_ROOT] = policy->nodes[ACL_LITERAL_ROOT] =
        (struct acl_node){.parent = HLT_ACL_NONE, .variables = HLT_ACL_NONE};
    policy->node_count = 2;
    if (!place_rules(policy) || !mark_bands(policy) || !align_nodes(policy)) {
        return HLT_ENOMEM;
    }
    return hlt_scan_compile(policy);
}
