/* parser.h - the state of reading a policy: which file, which line, its words, what is wrong with
 * them. */
#ifndef HLT_POLICY_PARSER_H
#define HLT_POLICY_PARSER_H

#include "internal.h"

/* A word of a line. Quoted words are shown without their quotes. */
struct acl_word {
    const char *text;
    uint32_t len, column;
    bool equals;       /* began with "=": a literal filter; the = is not in text */
    bool quoted;       /* "..." */
    const char *value; /* key="value": the value between the quotes, else NULL */
    uint32_t value_len;
};

struct acl_parser {
    struct hlt_policy *policy;
    struct hlt_problems *problems;
    char *folder; /* what includes must stay inside; NULL: read from memory, no includes */
    size_t total_bytes;
    enum hlt_rc rc; /* HLT_ENOMEM or HLT_EFULL end the reading; mistakes do not */

    /* of the file being read; saved and restored around an include */
    uint32_t file, line, section, depth;
    bool header; /* `haltere 1` was seen */
    bool stop;   /* the rest of this file would only repeat the first mistake */

    char *line_text;
    uint32_t line_end; /* the column behind its last word */
    struct acl_word words[HLT_ACL_WORDS_MAX];
    uint32_t word_count;
    char shown[4][72];
    unsigned shown_next;
};

/* Report a mistake at `word` (NULL: behind the line's last word, where something is missing). */
void hlt_policy_mistake(struct acl_parser *parser, const struct acl_word *word, const char *fmt,
                        ...) __attribute__((format(printf, 3, 4)));
/* Whether `word`, which has no place here, was meant to begin a comment; then reports it. */
bool hlt_policy_comment(struct acl_parser *parser, const struct acl_word *word);
/* Report a mistake or a warning at a column, 0: the whole line. */
void hlt_policy_problem(struct acl_parser *parser, enum hlt_problem_kind kind, unsigned column,
                        const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* Text in quotes for a message: printable, cut; lives until the fourth next call. */
const char *hlt_policy_shown(struct acl_parser *parser, const char *text, size_t len);
/* "; did you mean 'x'?" or "". */
const char *hlt_policy_meant(struct acl_parser *parser, const struct acl_word *word,
                             const char *const *candidates);

/* Split parser->line_text into words. False after a mistake. */
bool hlt_policy_split(struct acl_parser *parser);
bool hlt_policy_word_is(const struct acl_word *word, const char *want);
/* "read,write" and the like to a set of enum hlt_access, 0 after a mistake. */
uint8_t hlt_policy_accesses(struct acl_parser *parser, const struct acl_word *word);
/* A filter; its levels are added to the policy. `access` is the rule's. False after a mistake. */
bool hlt_policy_filter(struct acl_parser *parser, const struct acl_word *word, uint8_t access,
                       struct acl_filter *out, uint64_t *slots);
/* The index of a claim's name; HLT_ACL_NONE after a mistake. */
uint32_t hlt_policy_claim(struct acl_parser *parser, const struct acl_word *word, const char *name,
                          size_t len);
/* A `limit` line: limit.c. */
void hlt_policy_limit(struct acl_parser *parser);
/* An `expect` line. */
void hlt_policy_expect(struct acl_parser *parser);

#endif
