/* lint.c - warnings: what people keep writing into access lists without meaning it. */
#include "lint.h"

#include <stdio.h>
#include <stdlib.h>

#include "../shared/text.h"

#define NONE HLT_ACL_NONE

struct lint {
    const struct hlt_policy *policy;
    struct hlt_problems *problems;
};

/* The column of a place in a file's text, whose lines end with NUL by now. */
static unsigned column_of(const struct hlt_policy *policy, uint32_t file, const char *at)
{
    const char *from = at;

    while (from > policy->files[file].text && from[-1] != '\0') {
        from--;
    }
    return (unsigned)(at - from) + 1;
}

static void warn_rule(const struct lint *lint, const struct acl_rule *rule, const char *text,
                      unsigned line)
{
    const char *at = lint->policy->levels[rule->filter.first].text;
    char number[16] = "";

    if (line > 0) {
        (void)snprintf(number, sizeof(number), " %u", line);
    }
    hlt_problems_add(lint->problems, HLT_PROBLEM_WARNING, lint->policy->files[rule->file].name,
                     rule->line, column_of(lint->policy, rule->file, at), "%s%s", text, number);
}

static void warn_line(const struct lint *lint, const struct acl_line *line, const char *text)
{
    hlt_problems_add(lint->problems, HLT_PROBLEM_WARNING, lint->policy->files[line->file].name,
                     line->line, line->column, "%s", text);
}

/* ---- rules of sections ---- */

static bool same_filter(const struct hlt_policy *policy, const struct acl_filter *left,
                        const struct acl_filter *right)
{
    if (left->count != right->count || left->literal != right->literal) {
        return false;
    }
    for (uint32_t i = 0; i < left->count; i++) {
        const struct acl_level *a = &policy->levels[left->first + i];
        const struct acl_level *b = &policy->levels[right->first + i];

        if (a->kind != b->kind || a->len != b->len || memcmp(a->text, b->text, a->len) != 0) {
            return false;
        }
    }
    return true;
}

static uint64_t filter_hash(const struct hlt_policy *policy, const struct acl_rule *rule)
{
    uint32_t hash = rule->section;

    for (uint32_t i = 0; i < rule->filter.count; i++) {
        const struct acl_level *level = &policy->levels[rule->filter.first + i];
        struct acl_key key = acl_key_of(level->text, level->len);

        hash = (uint32_t)(acl_bucket_hash(hash, &key) >> 32);
    }
    return hash;
}

/* Compare a rule with an earlier one of the same section on the same filter. */
static void compare_rules(const struct lint *lint, const struct acl_rule *earlier,
                          const struct acl_rule *rule)
{
    const struct acl_rule *deny = earlier->deny ? earlier : rule;
    const struct acl_rule *allow = earlier->deny ? rule : earlier;

    if (earlier->deny == rule->deny) {
        if ((rule->access & ~earlier->access) == 0 && earlier->except_count == 0) {
            warn_rule(lint, rule, "this rule adds nothing to the one of line", earlier->line);
        }
    } else if ((allow->access & ~deny->access) == 0 && deny->except_count == 0 &&
               (!lint->policy->sections[rule->section].ordered || earlier == deny)) {
        warn_rule(lint, allow, "this rule never allows anything: all of it is denied in line",
                  deny->line);
    }
}

/* Rules on one and the same filter in one section. False without memory. */
static bool look_for_pairs(const struct lint *lint)
{
    const struct hlt_policy *policy = lint->policy;
    uint32_t size = 64, *table;

    while (size < policy->rule_count * 2) {
        size *= 2;
    }
    table = calloc(size, sizeof(*table));
    if (table == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < policy->rule_count; i++) {
        const struct acl_rule *rule = &policy->rules[i];
        uint32_t place = (uint32_t)filter_hash(policy, rule) & (size - 1);
        bool kept = false;

        for (; table[place] != 0; place = (place + 1) & (size - 1)) {
            const struct acl_rule *other = &policy->rules[table[place] - 1];

            if (other->section == rule->section &&
                same_filter(policy, &other->filter, &rule->filter)) {
                compare_rules(lint, other, rule);
                kept = other->deny == rule->deny; /* the first of each kind is enough */
                if (kept) {
                    break;
                }
            }
        }
        if (!kept) {
            table[place] = i + 1;
        }
    }
    free(table);
    return true;
}

/* An allow that asks for a name its clients cannot have. */
static void look_for_names(const struct lint *lint, const struct acl_rule *rule)
{
    const struct hlt_policy *policy = lint->policy;

    if (rule->deny || policy->sections[rule->section].kind != ACL_ANONYMOUS) {
        return;
    }
    for (uint32_t i = 0; i < rule->filter.count; i++) {
        const struct acl_level *level = &policy->levels[rule->filter.first + i];

        if (level->kind == ACL_VARIABLE && policy->slots[level->slot].kind != ACL_SLOT_CLIENT) {
            warn_rule(lint, rule,
                      "this rule never allows anything: a client without a name has no user, "
                      "device or claims to put in",
                      0);
            return;
        }
    }
}

/* An allow whose exceptions leave nothing. */
static void look_at_excepts(const struct lint *lint, const struct acl_rule *rule)
{
    const struct hlt_policy *policy = lint->policy;
    const struct acl_level *first = &policy->levels[rule->filter.first];
    bool dollar = first->kind == ACL_LITERAL && first->len > 0 && first->text[0] == '$';

    for (uint32_t i = 0; i < rule->except_count; i++) {
        const struct acl_filter *except = &policy->excepts[rule->first_except + i];
        bool all = policy->levels[except->first].kind == ACL_HASH && !dollar;

        if (all || same_filter(policy, &rule->filter, except)) {
            warn_rule(lint, rule, "the 'except' leaves nothing of this rule", 0);
            return;
        }
    }
}

/* ---- lines of Mosquitto's ---- */

static bool has_name(const char *text, size_t len)
{
    for (size_t i = 0; i + 1 < len; i++) {
        if (text[i] == '%' && (text[i + 1] == 'c' || text[i + 1] == 'u')) {
            return true;
        }
    }
    return false;
}

/* Is %c or %u a part of a level somewhere? `*first`: the first level is one, whole or in part. */
static bool partial_name(const struct acl_line *line, bool *first)
{
    bool partial = false;
    size_t from = 0;

    *first = false;
    for (size_t at = 0; at <= line->filter_len; at++) {
        if (at < line->filter_len && line->filter[at] != '/') {
            continue;
        }
        if (has_name(line->filter + from, at - from)) {
            *first |= from == 0 && line->filter[0] == '%';
            partial |= at - from > 2;
        }
        from = at + 1;
    }
    return partial;
}

/* A denial that 2.1 does not hold for a name with a / in it: there it fits no level. */
static bool loses_slashes(const struct acl_line *line)
{
    bool first;

    return line->owner == HLT_ACL_LEGACY_OF_ALL && line->access == 0 &&
           has_name(line->filter, line->filter_len) && !partial_name(line, &first);
}

static bool filter_is(const struct acl_line *line, const char *word)
{
    return strlen(word) == line->filter_len && memcmp(word, line->filter, line->filter_len) == 0;
}

static void look_at_line(const struct lint *lint, const struct acl_line *line)
{
    bool pattern = line->owner == HLT_ACL_LEGACY_OF_ALL;
    bool first = false;

    if (line->bare && (filter_is(line, "deny") || filter_is(line, "read") ||
                       filter_is(line, "write") || filter_is(line, "readwrite"))) {
        warn_line(lint, line,
                  "with one word behind it this line allows reading and writing the topic of that "
                  "name; add the filter");
    }
    if (line->filter_len >= 6 && memcmp(line->filter, "$share", 6) == 0) {
        warn_line(lint, line,
                  "this line holds nothing: a shared subscription is judged by the topics of its "
                  "messages, and the broker refuses topics that begin with $share");
    }
    if (!pattern && has_name(line->filter, line->filter_len)) {
        warn_line(lint, line,
                  "in a 'topic' line %c and %u are plain text; only 'pattern' puts names in");
    }
    if (!pattern) {
        return;
    }
    if (partial_name(line, &first)) {
        warn_line(lint, line,
                  line->access == 0
                      ? "Mosquitto 2.1 puts names in for whole levels only: there this line stops "
                        "denying what it denies in 2.0"
                      : "Mosquitto 2.1 puts names in for whole levels only: there this line allows "
                        "the text as it is written");
    }
    if (first && line->access != 0) {
        warn_line(lint, line,
                  "the filter begins with a name: whoever is called like the first level of other "
                  "topics gets those; begin with a fixed level");
    }
}

static uint64_t line_hash(const struct acl_line *line)
{
    struct acl_key key = acl_key_of(line->filter, line->filter_len);

    return acl_bucket_hash(line->owner * 4 + line->access, &key) >> 32;
}

/* Lines that are there twice. False without memory. */
static bool look_for_twins(const struct lint *lint)
{
    const struct acl_legacy *legacy = &lint->policy->legacy;
    uint32_t size = 64, *table;

    while (size < legacy->line_count * 2) {
        size *= 2;
    }
    table = calloc(size, sizeof(*table));
    if (table == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < legacy->line_count; i++) {
        const struct acl_line *line = &legacy->lines[i];
        uint32_t place = (uint32_t)line_hash(line) & (size - 1);
        char text[64];

        for (; line->filter != NULL && table[place] != 0; place = (place + 1) & (size - 1)) {
            const struct acl_line *other = &legacy->lines[table[place] - 1];

            if (other->owner == line->owner && other->access == line->access &&
                other->filter_len == line->filter_len &&
                memcmp(other->filter, line->filter, line->filter_len) == 0) {
                (void)snprintf(text, sizeof(text), "this line says the same as line %u",
                               other->line);
                warn_line(lint, line, text);
                break;
            }
        }
        if (line->filter != NULL && table[place] == 0) {
            table[place] = i + 1;
        }
    }
    free(table);
    return true;
}

/* What many lines have in common is said once, at the first of them. */
static void look_at_places(const struct lint *lint)
{
    const struct acl_legacy *legacy = &lint->policy->legacy;
    const struct acl_line *above = NULL, *under = NULL, *slashed = NULL;
    uint32_t above_count = 0, under_count = 0, slashed_count = 0;
    char text[256];

    for (uint32_t i = 0; i < legacy->line_count; i++) {
        const struct acl_line *line = &legacy->lines[i];

        if (line->filter == NULL) {
            continue;
        }
        if (loses_slashes(line)) {
            slashed = slashed != NULL ? slashed : line;
            slashed_count++;
        }
        if (line->owner == HLT_ACL_LEGACY_OF_ALL && line->under_user) {
            under = under != NULL ? under : line;
            under_count++;
        } else if (line->owner != HLT_ACL_LEGACY_OF_ALL && !line->under_user) {
            above = above != NULL ? above : line;
            above_count++;
        }
    }
    if (above != NULL) {
        (void)snprintf(text, sizeof(text),
                       "a 'topic' line above the first 'user' is for clients without a user name "
                       "only, not for everybody (%u such lines)",
                       above_count);
        warn_line(lint, above, text);
    }
    if (under != NULL) {
        (void)snprintf(text, sizeof(text),
                       "a 'pattern' holds for everybody, also below a 'user' line (%u such lines)",
                       under_count);
        warn_line(lint, under, text);
    }
    if (slashed != NULL) {
        (void)snprintf(
            text, sizeof(text),
            "in Mosquitto 2.1 a name with a / in it fits no %%c or %%u: there such clients "
            "are not denied what this line denies in 2.0 (%u such lines)",
            slashed_count);
        warn_line(lint, slashed, text);
    }
}

enum hlt_rc hlt_policy_lint(const struct hlt_policy *policy, struct hlt_problems *problems)
{
    struct lint lint = {.policy = policy, .problems = problems};

    for (uint32_t i = 0; i < policy->rule_count; i++) {
        look_for_names(&lint, &policy->rules[i]);
        look_at_excepts(&lint, &policy->rules[i]);
    }
    look_at_places(&lint);
    for (uint32_t i = 0; i < policy->legacy.line_count; i++) {
        if (policy->legacy.lines[i].filter != NULL) {
            look_at_line(&lint, &policy->legacy.lines[i]);
        }
    }
    if (policy->plain && policy->legacy.line_count == 0) {
        hlt_problems_add(problems, HLT_PROBLEM_WARNING, policy->files[0].name, 0, 0,
                         "the file has no rules: nobody may read or write anything; a policy in "
                         "Haltere's own language begins with the line 'haltere 1'");
    }
    return look_for_pairs(&lint) && look_for_twins(&lint) ? HLT_OK : HLT_ENOMEM;
}
