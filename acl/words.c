/* words.c - a policy line to words, and words to accesses and filters. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "../shared/text.h"
#include "parser.h"

static const char *const access_words[] = {"read",        "write", "readwrite", "subscribe",
                                           "unsubscribe", "all",   NULL};

static void add_problem(struct acl_parser *parser, enum hlt_problem_kind kind, unsigned column,
                        const char *text)
{
    hlt_problems_add(parser->problems, kind, parser->policy->files[parser->file].name, parser->line,
                     column, "%s", text);
}

void hlt_policy_problem(struct acl_parser *parser, enum hlt_problem_kind kind, unsigned column,
                        const char *fmt, ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    add_problem(parser, kind, column, text);
}

void hlt_policy_mistake(struct acl_parser *parser, const struct acl_word *word, const char *fmt,
                        ...)
{
    char text[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    add_problem(parser, HLT_PROBLEM_ERROR, word != NULL ? word->column : parser->line_end, text);
}

const char *hlt_policy_shown(struct acl_parser *parser, const char *text, size_t len)
{
    char *out = parser->shown[parser->shown_next++ % 4];

    (void)hlt_printable(out, sizeof(parser->shown[0]), text, len);
    return out;
}

const char *hlt_policy_meant(struct acl_parser *parser, const struct acl_word *word,
                             const char *const *candidates)
{
    const char *near = hlt_suggest(hlt_policy_shown(parser, word->text, word->len), candidates);
    char *out = parser->shown[parser->shown_next++ % 4];

    out[0] = '\0';
    if (near != NULL) {
        (void)snprintf(out, sizeof(parser->shown[0]), "; did you mean '%s'?", near);
    }
    return out;
}

bool hlt_policy_word_is(const struct acl_word *word, const char *want)
{
    return !word->quoted && !word->equals && word->len == strlen(want) &&
           memcmp(word->text, want, word->len) == 0;
}

static bool blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

/* A quoted part starts at `at`. Sets the part and returns what follows it, NULL after a mistake. */
static const char *quoted_part(struct acl_parser *parser, const char *at, const char **text,
                               uint32_t *len)
{
    const char *end = strchr(at + 1, '"');

    if (end == NULL) {
        hlt_policy_problem(parser, HLT_PROBLEM_ERROR, (unsigned)(at - parser->line_text) + 1,
                           "this quote is never closed; end the text with another \"");
        return NULL;
    }
    if (end[1] != '\0' && !blank(end[1])) {
        hlt_policy_problem(parser, HLT_PROBLEM_ERROR, (unsigned)(end - parser->line_text) + 2,
                           "after a closing quote a blank is needed; a quoted text cannot hold \"");
        return NULL;
    }
    *text = at + 1;
    *len = (uint32_t)(end - at - 1);
    return end + 1;
}

/* The bytes of `key` in key="value", 0 if the word does not look like that. */
static size_t quoted_key(const char *at)
{
    size_t len = 0;

    while (isalnum((unsigned char)at[len]) || (at[len] != '\0' && strchr("_.-", at[len]) != NULL)) {
        len++;
    }
    return len > 0 && at[len] == '=' && at[len + 1] == '"' ? len : 0;
}

/* Read one word at `at`; returns what follows, NULL after a mistake. */
static const char *next_word(struct acl_parser *parser, const char *at, struct acl_word *word)
{
    size_t key;

    *word = (struct acl_word){.column = (uint32_t)(at - parser->line_text) + 1};
    if (*at == '=') {
        word->equals = true;
        at++;
    }
    if (*at == '"') {
        word->quoted = true;
        return quoted_part(parser, at, &word->text, &word->len);
    }
    key = quoted_key(at);
    if (key > 0) {
        word->text = at;
        word->len = (uint32_t)key;
        return quoted_part(parser, at + key + 1, &word->value, &word->value_len);
    }
    word->text = at;
    while (*at != '\0' && !blank(*at)) {
        at++;
    }
    word->len = (uint32_t)(at - word->text);
    return at;
}

bool hlt_policy_split(struct acl_parser *parser)
{
    const char *at = parser->line_text;

    parser->word_count = 0;
    for (;;) {
        while (blank(*at)) {
            at++;
        }
        if (*at == '\0') {
            return true;
        }
        if (parser->word_count == HLT_ACL_WORDS_MAX) {
            hlt_policy_problem(parser, HLT_PROBLEM_ERROR, (unsigned)(at - parser->line_text) + 1,
                               "more than %d words in a line; split it into several",
                               HLT_ACL_WORDS_MAX);
            return false;
        }
        at = next_word(parser, at, &parser->words[parser->word_count++]);
        if (at == NULL) {
            return false;
        }
    }
}

static uint8_t access_of(const char *text, size_t len)
{
    static const uint8_t masks[] = {
        HLT_READ,      HLT_WRITE,       HLT_READ | HLT_WRITE,
        HLT_SUBSCRIBE, HLT_UNSUBSCRIBE, HLT_READ | HLT_WRITE | HLT_SUBSCRIBE | HLT_UNSUBSCRIBE};

    for (size_t i = 0; access_words[i] != NULL; i++) {
        if (strlen(access_words[i]) == len && memcmp(access_words[i], text, len) == 0) {
            return masks[i];
        }
    }
    return 0;
}

uint8_t hlt_policy_accesses(struct acl_parser *parser, const struct acl_word *word)
{
    uint8_t mask = 0;
    uint32_t from = 0;

    for (uint32_t at = 0; at <= word->len; at++) {
        struct acl_word one = {.text = word->text + from, .column = word->column + from};
        uint8_t access;

        if (at < word->len && word->text[at] != ',') {
            continue;
        }
        one.len = at - from;
        access = word->quoted || word->equals ? 0 : access_of(one.text, one.len);
        if (access == 0) {
            hlt_policy_mistake(parser, &one,
                               "'%s' is no access (read, write, readwrite, subscribe, unsubscribe, "
                               "all; several with commas and no blanks)%s",
                               hlt_policy_shown(parser, one.text, one.len),
                               hlt_policy_meant(parser, &one, access_words));
            return 0;
        }
        mask |= access;
        from = at + 1;
    }
    return mask;
}

uint32_t hlt_policy_claim(struct acl_parser *parser, const struct acl_word *word, const char *name,
                          size_t len)
{
    struct hlt_policy *policy = parser->policy;

    for (uint32_t i = 0; i < policy->claim_count; i++) {
        if (policy->claims[i].len == len && memcmp(policy->claims[i].text, name, len) == 0) {
            return i;
        }
    }
    if (len == 0) {
        hlt_policy_mistake(parser, word, "the name of the claim is missing");
        return HLT_ACL_NONE;
    }
    if (policy->claim_count == HLT_ACL_CLAIMS_MAX) {
        hlt_policy_mistake(parser, word, "more than %d different claims in a policy",
                           HLT_ACL_CLAIMS_MAX);
        return HLT_ACL_NONE;
    }
    policy->claims[policy->claim_count] = (struct acl_text){.text = name, .len = (uint32_t)len};
    return policy->claim_count++;
}

static uint32_t add_slot(struct acl_parser *parser, const struct acl_word *word, uint8_t kind,
                         uint8_t claim)
{
    struct hlt_policy *policy = parser->policy;

    for (uint32_t i = 0; i < policy->slot_count; i++) {
        if (policy->slots[i].kind == kind && policy->slots[i].claim == claim) {
            return i;
        }
    }
    if (policy->slot_count == HLT_ACL_SLOTS_MAX) {
        hlt_policy_mistake(parser, word, "more than %d different variables in a policy",
                           HLT_ACL_SLOTS_MAX);
        return HLT_ACL_NONE;
    }
    policy->slots[policy->slot_count] = (struct acl_slot){.kind = kind, .claim = claim};
    return policy->slot_count++;
}

/* The slot of a level that is a variable; HLT_ACL_NONE after a mistake. %{sub} is %d. */
static uint32_t variable(struct acl_parser *parser, const struct acl_word *level)
{
    uint32_t claim;

    if (level->len == 2) {
        switch (level->text[1]) {
        case 'c': return add_slot(parser, level, ACL_SLOT_CLIENT, 0);
        case 'u': return add_slot(parser, level, ACL_SLOT_USER, 0);
        case 'd': return add_slot(parser, level, ACL_SLOT_DEVICE, 0);
        default: break;
        }
    }
    if (level->len >= 3 && level->text[1] == '{' &&
        memchr(level->text, '}', level->len) == level->text + level->len - 1) {
        if (level->len == 6 && memcmp(level->text, "%{sub}", 6) == 0) {
            return add_slot(parser, level, ACL_SLOT_DEVICE, 0);
        }
        claim = hlt_policy_claim(parser, level, level->text + 2, level->len - 3);
        return claim == HLT_ACL_NONE ? claim
                                     : add_slot(parser, level, ACL_SLOT_CLAIM, (uint8_t)claim);
    }
    hlt_policy_mistake(
        parser, level,
        "'%s' is no variable; there are %%c, %%u, %%d and %%{claim}, each a whole level",
        hlt_policy_shown(parser, level->text, level->len));
    return HLT_ACL_NONE;
}

/* Is there a variable in this level, or what looks like one? "50%" and "a%20b" are plain text. */
static bool has_variable(const char *text, size_t len)
{
    if (len == 2 && text[0] == '%') {
        return true;
    }
    for (size_t i = 0; i + 1 < len; i++) {
        if (text[i] == '%' && strchr("cud{", text[i + 1]) != NULL) {
            return true;
        }
    }
    return false;
}

static bool check_wildcards(struct acl_parser *parser, const struct acl_word *level, bool last)
{
    for (uint32_t i = 0; i < level->len; i++) {
        unsigned char byte = (unsigned char)level->text[i];

        if (byte < 0x20 || byte == 0x7f) {
            hlt_policy_mistake(parser, level, "a filter cannot hold control bytes");
            return false;
        }
        if ((byte == '+' || byte == '#') && level->len > 1) {
            hlt_policy_mistake(parser, level,
                               "in '%s' the %c must be a whole level: between two /, or at an end",
                               hlt_policy_shown(parser, level->text, level->len), byte);
            return false;
        }
    }
    if (level->len == 1 && level->text[0] == '#' && !last) {
        hlt_policy_mistake(parser, level, "# must be the last level of a filter");
        return false;
    }
    return true;
}

static bool add_level(struct acl_parser *parser, const struct acl_word *word, bool last,
                      struct acl_filter *filter, uint64_t *slots)
{
    struct hlt_policy *policy = parser->policy;
    struct acl_level level = {.text = word->text, .len = word->len, .kind = ACL_LITERAL};
    uint32_t slot;

    if (!check_wildcards(parser, word, last)) {
        return false;
    }
    if (filter->count == HLT_ACL_LEVELS_MAX) {
        hlt_policy_mistake(parser, word, "a filter has at most %d levels", HLT_ACL_LEVELS_MAX);
        return false;
    }
    if (has_variable(word->text, word->len)) {
        slot = variable(parser, word);
        if (slot == HLT_ACL_NONE) {
            return false;
        }
        level.kind = ACL_VARIABLE;
        level.slot = (uint8_t)slot;
        *slots |= UINT64_C(1) << slot;
        filter->bound |= policy->slots[slot].kind == ACL_SLOT_DEVICE;
    } else if (!filter->literal && word->len == 1 && word->text[0] == '+') {
        level.kind = ACL_PLUS;
    } else if (!filter->literal && word->len == 1 && word->text[0] == '#') {
        level.kind = ACL_HASH;
    }
    if (!hlt_policy_grow(&policy->levels, &policy->level_space, policy->level_count,
                         sizeof(*policy->levels))) {
        parser->rc = HLT_ENOMEM;
        return false;
    }
    policy->levels[policy->level_count++] = level;
    filter->count++;
    return true;
}

static bool filter_allowed(struct acl_parser *parser, const struct acl_word *word, uint8_t access)
{
    if (word->value != NULL) {
        hlt_policy_mistake(parser, word,
                           "a filter is wanted here, not key=\"value\"; quote all of it");
    } else if (word->len == 0) {
        hlt_policy_mistake(parser, word, "the filter is empty");
    } else if (word->len > HLT_ACL_TOPIC_MAX) {
        hlt_policy_mistake(parser, word, "the filter is longer than %d bytes", HLT_ACL_TOPIC_MAX);
    } else if (word->len >= 6 && memcmp(word->text, "$share", 6) == 0 &&
               (word->len == 6 || word->text[6] == '/')) {
        hlt_policy_mistake(parser, word,
                           "a shared subscription is judged by the filter behind $share/NAME/: "
                           "write that one");
    } else if (word->equals && (access & (HLT_READ | HLT_WRITE)) != 0) {
        hlt_policy_mistake(
            parser, word,
            "a literal filter (=) is for subscribe and unsubscribe only; leave the = "
            "out, or name only these accesses");
    } else {
        return true;
    }
    return false;
}

/* The end of "%{claim}" if one begins at `at`, else `at`. */
static uint32_t behind_variable(const struct acl_word *word, uint32_t at)
{
    const char *end = NULL;

    if (at + 2 < word->len && word->text[at] == '%' && word->text[at + 1] == '{') {
        end = memchr(word->text + at, '}', word->len - at);
    }
    return end != NULL ? (uint32_t)(end - word->text) + 1 : at;
}

bool hlt_policy_filter(struct acl_parser *parser, const struct acl_word *word, uint8_t access,
                       struct acl_filter *out, uint64_t *slots)
{
    struct acl_filter filter = {.first = parser->policy->level_count, .literal = word->equals};
    uint32_t offset = (uint32_t)word->equals + (uint32_t)word->quoted;
    uint32_t from = 0;

    if (!filter_allowed(parser, word, access)) {
        return false;
    }
    for (uint32_t at = 0; at <= word->len; at++) {
        struct acl_word level = {.text = word->text + from, .column = word->column + offset + from};

        at = at == from ? behind_variable(word, at) : at; /* a claim's name may hold / */
        if (at < word->len && word->text[at] != '/') {
            continue;
        }
        level.len = at - from;
        if (!add_level(parser, &level, at == word->len, &filter, slots)) {
            return false;
        }
        from = at + 1;
    }
    *out = filter;
    return true;
}
