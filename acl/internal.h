/* internal.h - what the files of the policy share: the parsed rules, the tries made of them, and
 * views.
 *
 * parse.c fills everything down to `expects`, compile.c the tries, bind.c makes views, decide.c
 * only reads. All strings point into the texts of the files, which the policy keeps. */
#ifndef HLT_POLICY_INTERNAL_H
#define HLT_POLICY_INTERNAL_H

#include <string.h>

#include "legacy.h"
#include "policy.h"
#include "sources.h"

#define HLT_ACL_LEVELS_MAX 200      /* levels of a filter; the broker refuses deeper topics */
#define HLT_ACL_SLOTS_MAX 64        /* distinct variables of a policy: one bit each */
#define HLT_ACL_CLAIMS_MAX 64       /* distinct claims that roles and variables come from */
#define HLT_ACL_WORDS_MAX 256       /* words of a line */
#define HLT_ACL_EXCEPTS_MAX 64      /* `except` filters of a rule */
#define HLT_ACL_FILES_MAX 1000      /* files of a policy */
#define HLT_ACL_INCLUDE_DEPTH_MAX 8 /* files inside files */
#define HLT_ACL_EXPECTS_MAX 100000  /* `expect` lines of a policy */
#define HLT_ACL_TOPIC_MAX 65535     /* bytes of a topic or filter (MQTT 5, 1.5.4) */
#define HLT_ACL_STACK_MAX 256       /* places still to visit in a trie */
#define HLT_ACL_PATIENCE 512        /* places a decision visits in a trie; then scan.c answers */

#define HLT_ACL_NONE UINT32_MAX

/* A level's text as three numbers: equal numbers are equal text up to 16 bytes; above that `a` is a
 * hash and the text has to be compared as well. */
struct acl_key {
    uint64_t a, b;
    uint32_t len;
};

/* One level of a rule's filter. */
enum acl_level_kind { ACL_LITERAL, ACL_PLUS, ACL_HASH, ACL_VARIABLE };
struct acl_level {
    const char *text;
    uint32_t len;
    uint8_t kind;
    uint8_t slot; /* ACL_VARIABLE: which variable */
};

struct acl_filter {
    uint32_t first; /* in policy->levels */
    uint16_t count;
    bool literal; /* "=filter": + and # are plain text */
    bool bound;   /* contains %d */
};

struct acl_rule {
    const char *text;
    uint32_t file, line, section;
    uint32_t first_except; /* in policy->excepts */
    uint16_t except_count;
    uint8_t access; /* of enum hlt_access */
    bool deny;
    struct acl_filter filter;
};

enum acl_section_kind { ACL_ANYONE, ACL_ANONYMOUS, ACL_USER, ACL_ROLE };
struct acl_section {
    char *title; /* "role Sensor from device_class" */
    const char *name;
    uint32_t name_len;
    uint8_t kind, claim; /* ACL_ROLE: index in policy->claims */
    bool subscribes;     /* has an `allow subscribe` */
    bool ordered;        /* one voter: its first matching rule */
    uint64_t slots;      /* variables of its rules, a bit each */
    uint32_t first_deny, deny_count, first_allow, allow_count; /* its rows of policy->scan */
    uint32_t first_limit, first_use; /* chains in policy->limits and uses; HLT_ACL_NONE ends */
};

struct acl_use {
    uint32_t section, next; /* next of the same using section */
    uint32_t file, line, column;
    struct acl_text {
        const char *text;
        uint32_t len;
    } name, claim;   /* what is used: claim.text NULL if it was not said */
    uint32_t target; /* the section used, once resolved */
};

enum acl_slot_kind { ACL_SLOT_CLIENT, ACL_SLOT_USER, ACL_SLOT_DEVICE, ACL_SLOT_CLAIM };
struct acl_slot {
    uint8_t kind, claim;
};

struct acl_expect {
    uint32_t file, line, column;
    bool deny;
    uint8_t access;
    char *topic;
    char *client, *user, *sub; /* NULL if not given */
    char *claims;              /* one JSON object; NULL if no claim was given */
};

/* A `limit` line (limit.h). */
struct acl_limit {
    const char *text;
    uint32_t file, line, section;
    uint32_t next;          /* of its section; HLT_ACL_NONE ends */
    uint32_t period_ms;     /* of a rate */
    uint64_t amount, burst; /* bytes, messages, subscriptions; qos; retain: 0 no, 1 yes */
    struct acl_filter filter;
    uint8_t kind; /* enum hlt_limit_kind */
    bool filtered;
};

struct acl_file {
    char *name, *text;
    size_t len;
    uint64_t device, inode;
    unsigned char digest[32]; /* SHA-256 of the text as it was read */
};

/* A rule at its place; of one place and kind sorted by section, then rule. */
struct acl_entry {
    uint32_t section, rule;
    uint8_t access, flags;
};
enum { ACL_DENIES = 1, ACL_BOUND = 2, ACL_EXCEPTS = 4 };

/* A place in a trie: so many levels are matched. 64 bytes, so that a visit touches one cache line:
 * the key of the level that leads here is flat, and most places have one rule, which is here. */
struct acl_node {
    uint64_t key_a, key_b;
    uint32_t key_len;
    uint32_t level; /* where the key's text is, in policy->levels: for texts over 16 bytes */
    uint32_t parent;
    uint32_t plus;      /* node behind +, 0: none */
    uint32_t variables; /* chain in policy->edges, HLT_ACL_NONE ends */
    uint32_t flags;
    uint32_t end_count;  /* entries of filters that end here */
    uint32_t tail_count; /* behind them, entries of filters that go on with # */
    uint32_t first_entry;
    struct acl_entry only; /* the entry, if there is one */
};
_Static_assert(sizeof(struct acl_node) == 64, "a node is a cache line");
enum { ACL_HAS_LITERALS = 1, ACL_HAS_DENY = 2 };

struct acl_edge {
    uint32_t child, next;
    uint32_t slot;
};

/* One open-addressing table finds a literal child: child 0 is empty. Sections are parted into
 * bands; a child below which no band of the client has a rule is passed over without a look at it:
 * of a large policy most is other people's. */
#define ACL_BANDS 256u
struct acl_bucket {
    uint16_t tag;
    uint8_t lowest, highest; /* bands of the sections whose rules are at the child and below */
    uint32_t child;
};

/* The rules by section, in columns: scan.c. */
#define ACL_SCAN_COLUMNS 32u /* levels with a code of their own */
struct acl_scan {
    uint32_t *rule;
    uint8_t *flags; /* accesses, and whether it binds %d */
    int16_t *code;  /* [column * stride + row] */
    uint32_t columns, stride;
    uint64_t slots[ACL_SCAN_COLUMNS]; /* variables of a column, a bit each */
};

struct hlt_policy {
    struct acl_file *files;
    struct acl_section *sections; /* [0] is always `anyone` */
    struct acl_rule *rules;
    struct acl_filter *excepts;
    struct acl_level *levels;
    struct acl_use *uses;
    struct acl_expect *expects;
    struct acl_limit *limits;
    struct acl_text claims[HLT_ACL_CLAIMS_MAX];
    struct acl_slot slots[HLT_ACL_SLOTS_MAX];
    uint32_t file_count, file_space, section_count, section_space, rule_count, rule_space;
    uint32_t except_count, except_space, level_count, level_space, use_count, use_space;
    uint32_t expect_count, expect_space, claim_count, slot_count, limit_count, limit_space;

    uint32_t
        *section_table; /* open addressing by kind, claim and name; 0 is empty, else index + 1 */
    uint32_t section_table_size;
    bool uses_anywhere;

    struct hlt_policy_sources sources;
    struct acl_legacy legacy; /* `topic`, `pattern` and `default` lines */
    bool plain;               /* nothing else: a Mosquitto acl_file */
    uint8_t compat;           /* enum hlt_acl_compat */
    uint8_t default_access;   /* of `default allow`, 0: there is none */
    uint32_t default_line;    /* in legacy.lines */

    struct acl_node *nodes; /* [0]: root of filters, [1]: root of literals */
    struct acl_entry *entries;
    struct acl_edge *edges;
    struct acl_bucket *buckets;
    struct acl_scan scan;
    uint32_t node_count, node_space, edge_count, edge_space, entry_count, literal_count;
    uint32_t bucket_used, bucket_shift; /* the table has 1 << (64 - bucket_shift) buckets */
    uint32_t band_shift;                /* section >> band_shift is its band */
    uint32_t depth;                     /* levels of the deepest filter */
    uint32_t patience;                  /* places a walk may visit before it is given up */
    char digest[17];
};

/* What a variable stands for in one session: values [first, first + count), sorted by key. */
struct acl_bound {
    uint32_t first, count;
    uint32_t flags;
};
enum {
    ACL_UNUSABLE = 1, /* missing, or one of its values may not stand in a topic */
    ACL_DOLLAR = 2,   /* one begins with $: unusable at the first level */
};
struct acl_value {
    struct acl_key key;
    const char *text;
};

struct hlt_view {
    const struct hlt_policy *policy;
    const uint32_t *sections;      /* sorted, [0] is 0: anyone */
    const struct acl_bound *bound; /* by slot */
    const struct acl_value *values;
    const uint32_t *limits;         /* those of its sections, in policy->limits */
    uint64_t bands[ACL_BANDS / 64]; /* of its sections, a bit each */
    uint32_t section_count;
    uint64_t serial; /* no other view of this process has it */
    uint32_t limit_count;
    uint8_t limit_kinds; /* which kinds there are, a bit each */
    bool subscribes;     /* its sections have an `allow subscribe` */
    bool votes; /* there is more to ask than `free`: legacy lines, ordered roles, a default */
    const uint32_t *free, *ordered; /* `sections` that are not, and that are `ordered` */
    uint32_t free_count, ordered_count;
    struct acl_legacy_view *legacy; /* owned; NULL: none */
};

enum { ACL_ROOT = 0, ACL_LITERAL_ROOT = 1 };
#define ACL_WAYS_MAX (HLT_ACL_SLOTS_MAX + 2) /* behind one place: variables, +, a literal */
#define ACL_OF_TOPICS (HLT_READ | HLT_WRITE) /* accesses that ask for a topic, not a filter */

/* Make room for one more item. False without memory. */
bool hlt_policy_grow(void *array, uint32_t *space, uint32_t count, size_t item_bytes);
/* Find a section; HLT_ACL_NONE if there is none. */
uint32_t hlt_policy_section(const struct hlt_policy *policy, enum acl_section_kind kind,
                            uint8_t claim, const char *name, size_t len);
enum hlt_rc hlt_policy_add_section(struct hlt_policy *policy, const struct acl_section *section);

/* Read `path` and what it includes into `policy`; mistakes go to `problems`. HLT_OK also with
 * mistakes. */
enum hlt_rc hlt_policy_parse_file(struct hlt_policy *policy, const char *path,
                                  struct hlt_problems *problems);
enum hlt_rc hlt_policy_parse_text(struct hlt_policy *policy, const char *text, size_t len,
                                  const char *name, struct hlt_problems *problems);
/* `use` lines: find their sections, refuse unknown ones and cycles. */
enum hlt_rc hlt_policy_resolve(struct hlt_policy *policy, struct hlt_problems *problems);
/* Make the tries. */
enum hlt_rc hlt_policy_compile(struct hlt_policy *policy);

static inline uint64_t acl_load64(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

static inline uint32_t acl_load32(const char *at)
{
    uint32_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

/* The product of two 64-bit numbers folded: every bit of both reaches every bit of the result. */
static inline uint64_t acl_fold(uint64_t left, uint64_t right)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)left * right;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* No secret is mixed in: the tables hold the policy's strings only, so a client cannot make a chain
 * longer. */
static inline struct acl_key acl_key_of(const char *text, size_t len)
{
    struct acl_key key = {.len = (uint32_t)len};

    if (len > 16) {
        key.a = len * UINT64_C(0x9e3779b97f4a7c15);
        for (size_t i = 0; i + 8 < len; i += 8) {
            key.a = acl_fold(key.a ^ acl_load64(text + i), UINT64_C(0xd6e8feb86659fd93));
        }
        key.a = acl_fold(key.a ^ acl_load64(text + len - 8), UINT64_C(0xa0761d6478bd642f));
    } else if (len >= 8) {
        key.a = acl_load64(text);
        key.b = acl_load64(text + len - 8);
    } else if (len >= 4) {
        key.a = acl_load32(text) | (uint64_t)acl_load32(text + len - 4) << 32;
    } else if (len > 0) {
        key.a = (uint64_t)(unsigned char)text[0] | (uint64_t)(unsigned char)text[len / 2] << 8 |
                (uint64_t)(unsigned char)text[len - 1] << 16;
    }
    return key;
}

static inline bool acl_key_equal(const struct acl_key *left, const char *left_text,
                                 const struct acl_key *right, const char *right_text)
{
    return left->a == right->a && left->b == right->b && left->len == right->len &&
           (left->len <= 16 || memcmp(left_text, right_text, left->len) == 0);
}

/* Is this node the child of `parent` behind the literal level `key`? */
static inline bool acl_node_is(const struct hlt_policy *policy, const struct acl_node *node,
                               uint32_t parent, const struct acl_key *key, const char *text)
{
    return node->parent == parent && node->key_a == key->a && node->key_b == key->b &&
           node->key_len == key->len &&
           (key->len <= 16 || memcmp(policy->levels[node->level].text, text, key->len) == 0);
}

/* Is one of the bands from `lowest` to `highest` among `bands`? */
static inline bool acl_in_bands(const uint64_t *bands, uint32_t lowest, uint32_t highest)
{
    uint64_t from = bands[lowest / 64] >> lowest % 64;

    if (from != 0) {
        return lowest + (uint32_t)__builtin_ctzll(from) <= highest;
    }
    for (uint32_t i = lowest / 64 + 1; i <= highest / 64; i++) {
        if (bands[i] != 0) {
            return i * 64 + (uint32_t)__builtin_ctzll(bands[i]) <= highest;
        }
    }
    return false;
}

/* Where to look for the child of `parent` behind the literal `key`. */
static inline uint64_t acl_bucket_hash(uint32_t parent, const struct acl_key *key)
{
    return acl_fold(key->a ^ parent * UINT64_C(0x9e3779b97f4a7c15) ^ UINT64_C(0x8ebc6af09c88c6e3),
                    key->b ^ ((uint64_t)key->len << 56) ^ UINT64_C(0x589965cc75374cc3));
}

#endif
