/* legacy.h - `topic` and `pattern` lines of a Mosquitto acl_file, decided as Mosquitto 2.0.11 does.
 *
 * They are one voter (facts: acl 1.1): the client's own `topic deny`, its `topic` grants, `pattern
 * deny`, `pattern` grants; the first of the four with a match decides, and the order of the lines
 * never matters. A plain acl_file is this voter alone; in `haltere 1` it stands beside the rules.
 *
 * Compiled: one trie for each user name and one for the patterns. A level that holds %c or %u is a
 * template, whose text is made once when a client is bound, so that a decision costs by the levels
 * of the topic, not by the lines of the file. */
#ifndef HLT_POLICY_LEGACY_H
#define HLT_POLICY_LEGACY_H

#include "policy.h"

struct acl_parser;
struct acl_legacy_view;

#define HLT_ACL_LEGACY_LEVELS_MAX 201     /* of a topic or filter: the broker takes 200 "/" */
#define HLT_ACL_LEGACY_OF_ALL 0xffffffffU /* owner of patterns */

enum acl_legacy_right { ACL_DENY_LINE, ACL_READ_LINE, ACL_WRITE_LINE, ACL_LEGACY_RIGHTS };

/* A line that is no rule of a section: `topic`, `pattern`, and `default allow`. Its number as a
 * rule (struct hlt_decision) is its index here behind policy->rule_count. */
struct acl_line {
    const char *text;   /* as written, without leading blanks */
    const char *filter; /* not NUL-terminated; NULL: `default allow` */
    uint32_t filter_len;
    uint32_t file, line, column; /* the column of the filter */
    uint32_t owner;              /* in owners, HLT_ACL_LEGACY_OF_ALL for `pattern` */
    uint8_t access;              /* of enum hlt_access; 0: deny */
    bool bare;                   /* no access word was given */
    bool under_user;             /* stands below a `user` line */
};

/* Whose `topic` lines: [0] are clients without a user name. */
struct acl_owner {
    char *title; /* "user bob" */
    const char *name;
    uint32_t name_len;
    uint32_t root; /* of its trie */
};

/* So many levels are matched: one cache line, with the lowest line of each right that ends here, or
 * goes on from here with #. */
struct acl_place {
    uint64_t key_a, key_b;
    const char *text; /* of the level that leads here */
    uint32_t parent;
    uint16_t key_len;
    bool has_literals;
    uint32_t plus;      /* place behind +, 0: none */
    uint32_t templates; /* chain in branches, HLT_ACL_LEGACY_OF_ALL ends */
    uint32_t end[ACL_LEGACY_RIGHTS], tail[ACL_LEGACY_RIGHTS];
};
_Static_assert(sizeof(struct acl_place) == 64, "a place is a cache line");

struct acl_branch {
    uint32_t child, next, level; /* level: in levels */
};

/* The text of a level with %c or %u in it. */
struct acl_template {
    const char *text;
    uint32_t len;
    bool of_user; /* holds %u */
};

struct acl_slotted {
    uint32_t tag, child;
};

struct acl_legacy {
    struct acl_line *lines;
    struct acl_owner *owners;
    uint32_t *owner_table;    /* open addressing by name; 0 is empty, else index + 1 */
    struct acl_place *places; /* [0] is nothing, [1] the root of the patterns */
    struct acl_branch *branches;
    struct acl_template *levels;
    struct acl_slotted *buckets; /* open addressing by parent and literal level */
    uint32_t line_count, line_space, owner_count, owner_space, owner_table_size;
    uint32_t place_count, place_space, branch_count, branch_space, level_count, level_space;
    uint32_t bucket_used, bucket_shift;
    uint32_t pattern_count, legacy_count; /* of lines: patterns; patterns and topics */
};

/* Is this text in Haltere's own language, or a plain acl_file? Decided by the first line that is
 * neither blank nor a comment. */
bool hlt_legacy_is_plain(const char *text, size_t len);
/* Parse the file at hand as a plain acl_file: parser->policy->plain. Mistakes go to its problems.
 */
void hlt_legacy_parse_plain(struct acl_parser *parser);
/* A `topic` or `pattern` line of `haltere 1`, already split into words. */
void hlt_legacy_statement(struct acl_parser *parser);
/* Keep a line. False without memory, or over HLT_POLICY_RULES_MAX (then parser->rc says which). */
bool hlt_legacy_keep(struct acl_parser *parser, const struct acl_line *line);
/* What stands for "section" in struct hlt_rule_ref. */
const char *hlt_legacy_title(const struct acl_legacy *legacy, const struct acl_line *line);

/* Make the tries. HLT_ENOMEM or HLT_OK. */
enum hlt_rc hlt_legacy_compile(struct hlt_policy *policy);
void hlt_legacy_free(struct acl_legacy *legacy);

/* The client's part. *out NULL if the policy has no such lines. False without memory. */
bool hlt_legacy_bind(const struct hlt_policy *policy, const struct hlt_subject *subject,
                     struct acl_legacy_view **out);
/* The vote on a READ or WRITE; *line gets who decided, HLT_ACL_NONE if no line did. `view` may be
 * NULL: nobody spoke. */
enum hlt_verdict hlt_legacy_vote(const struct acl_legacy_view *view, enum hlt_access access,
                                 const char *topic, uint32_t *line);
/* All of a decision where the policy is a plain acl_file. */
void hlt_legacy_decide(const struct hlt_view *view, enum hlt_access access, const char *topic,
                       struct hlt_decision *out);

#endif
