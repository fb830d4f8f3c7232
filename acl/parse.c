/* parse.c - the text of a policy, with the files it includes, to sections and rules.
 *
 * Strict on purpose: a line that is not understood is an error, because a rule that is dropped
 * silently is a door left open (the host's own acl_file has shown how). All mistakes are told at
 * once. */
#include <glob.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "../shared/file.h"
#include "../shared/text.h"
#include "parser.h"

static void parse_body(struct acl_parser *parser);

/* `array` is the address of a pointer to items of any type: copied as bytes, which no aliasing rule
 * forbids. */
bool hlt_policy_grow(void *array, uint32_t *space, uint32_t count, size_t item_bytes)
{
    uint32_t wanted = *space == 0 ? 16 : *space * 2;
    void *items;

    if (count < *space) {
        return true;
    }
    memcpy(&items, array, sizeof(items));
    items = wanted > *space ? realloc(items, wanted * item_bytes) : NULL;
    if (items == NULL) {
        return false;
    }
    memcpy(array, &items, sizeof(items));
    *space = wanted;
    return true;
}

/* ---- sections ---- */

static uint64_t section_hash(unsigned kind, uint8_t claim, const char *name, size_t len)
{
    struct acl_key key = acl_key_of(name, len);

    return acl_bucket_hash(kind << 8 | claim, &key);
}

/* The table's place for a section: where it is, or where it would be put. */
static uint32_t section_place(const struct hlt_policy *policy, unsigned kind, uint8_t claim,
                              const char *name, size_t len)
{
    uint32_t mask = policy->section_table_size - 1;
    uint32_t place = (uint32_t)section_hash(kind, claim, name, len) & mask;

    for (; policy->section_table[place] != 0; place = (place + 1) & mask) {
        const struct acl_section *other = &policy->sections[policy->section_table[place] - 1];

        if (other->kind == kind && other->claim == claim && other->name_len == len &&
            memcmp(other->name, name, len) == 0) {
            break;
        }
    }
    return place;
}

uint32_t hlt_policy_section(const struct hlt_policy *policy, enum acl_section_kind kind,
                            uint8_t claim, const char *name, size_t len)
{
    if (policy->section_table_size == 0) {
        return HLT_ACL_NONE;
    }
    return policy->section_table[section_place(policy, kind, claim, name, len)] - 1;
}

/* Keep the table at most half full. */
static bool section_table_room(struct hlt_policy *policy)
{
    uint32_t size = policy->section_table_size == 0 ? 64 : policy->section_table_size * 2;
    uint32_t *table;

    if (policy->section_count * 2 < policy->section_table_size) {
        return true;
    }
    table = calloc(size, sizeof(*table));
    if (table == NULL) {
        return false;
    }
    free(policy->section_table);
    policy->section_table = table;
    policy->section_table_size = size;
    for (uint32_t i = 0; i < policy->section_count; i++) {
        const struct acl_section *section = &policy->sections[i];

        table[section_place(policy, section->kind, section->claim, section->name,
                            section->name_len)] = i + 1;
    }
    return true;
}

enum hlt_rc hlt_policy_add_section(struct hlt_policy *policy, const struct acl_section *section)
{
    if (!section_table_room(policy) ||
        !hlt_policy_grow(&policy->sections, &policy->section_space, policy->section_count,
                         sizeof(*policy->sections))) {
        return HLT_ENOMEM;
    }
    policy->sections[policy->section_count++] = *section;
    policy->section_table[section_place(policy, section->kind, section->claim, section->name,
                                        section->name_len)] = policy->section_count;
    return HLT_OK;
}

/* "role Sensor from device_class", as people wrote it; the usual claim goes without saying. */
static char *section_title(const struct hlt_policy *policy, const struct acl_section *section)
{
    static const char *const words[] = {"anyone", "anonymous", "user ", "role "};
    const struct acl_text *claim = &policy->claims[section->claim];
    bool from =
        section->kind == ACL_ROLE && (claim->len != 5 || memcmp(claim->text, "roles", 5) != 0);
    char *title = NULL;

    if (asprintf(&title, "%s%.*s%s%.*s", words[section->kind], (int)section->name_len,
                 section->name, from ? " from " : "", from ? (int)claim->len : 0,
                 from ? claim->text : "") < 0) {
        return NULL;
    }
    return title;
}

/* Make the section of the line's words the current one; sections of the same clients are one. */
static void enter_section(struct acl_parser *parser, enum acl_section_kind kind, uint8_t claim,
                          const struct acl_word *name)
{
    struct hlt_policy *policy = parser->policy;
    struct acl_section section = {.kind = (uint8_t)kind,
                                  .claim = claim,
                                  .name = name != NULL ? name->text : "",
                                  .name_len = name != NULL ? name->len : 0,
                                  .first_use = HLT_ACL_NONE};

    parser->section = hlt_policy_section(policy, kind, claim, section.name, section.name_len);
    if (parser->section != HLT_ACL_NONE) {
        return;
    }
    section.title = section_title(policy, &section);
    if (section.title == NULL || hlt_policy_add_section(policy, &section) != HLT_OK) {
        free(section.title);
        parser->rc = HLT_ENOMEM;
        return;
    }
    parser->section = policy->section_count - 1;
}

/* ---- statements: the words are split, word 0 is the statement's ---- */

static const char *const statement_words[] = {"allow", "deny",    "anyone",  "user",   "anonymous",
                                              "role",  "use",     "include", "expect", "haltere",
                                              "limit", "default", NULL};

bool hlt_policy_comment(struct acl_parser *parser, const struct acl_word *word)
{
    if (word->text[0] != '#' || word->quoted) {
        return false;
    }
    hlt_policy_mistake(parser, word,
                       "a comment stands on a line of its own: after a word, # is a filter");
    return true;
}

/* No more words than `max`; says what the first one too many may have been meant as. */
static bool at_most(struct acl_parser *parser, uint32_t max)
{
    const struct acl_word *extra = &parser->words[max];

    if (parser->word_count <= max) {
        return true;
    }
    if (!hlt_policy_comment(parser, extra)) {
        hlt_policy_mistake(parser, extra,
                           "'%s' is one word too many; a text with blanks must be in quotes",
                           hlt_policy_shown(parser, extra->text, extra->len));
    }
    return false;
}

static bool name_given(struct acl_parser *parser, uint32_t index, const char *what)
{
    const struct acl_word *word = &parser->words[index];

    if (index >= parser->word_count) {
        hlt_policy_mistake(parser, NULL, "the %s is missing", what);
        return false;
    }
    if (word->len == 0 || word->equals || word->value != NULL) {
        hlt_policy_mistake(parser, word, "this is no %s; a name with odd characters is quoted",
                           what);
        return false;
    }
    return true;
}

static void on_anyone(struct acl_parser *parser)
{
    if (at_most(parser, 1)) {
        enter_section(parser, ACL_ANYONE, 0, NULL);
    }
}

static void on_anonymous(struct acl_parser *parser)
{
    if (at_most(parser, 1)) {
        enter_section(parser, ACL_ANONYMOUS, 0, NULL);
    }
}

static void on_user(struct acl_parser *parser)
{
    if (name_given(parser, 1, "user name") && at_most(parser, 2)) {
        enter_section(parser, ACL_USER, 0, &parser->words[1]);
    }
}

/* The claim of "from CLAIM" at word `index`, or the usual one. HLT_ACL_NONE after a mistake. */
static uint32_t from_claim(struct acl_parser *parser, uint32_t index)
{
    static const char *const from[] = {"from", NULL};
    const struct acl_word *word = &parser->words[index];

    if (index >= parser->word_count) {
        return hlt_policy_claim(parser, &parser->words[0], "roles", 5);
    }
    if (!hlt_policy_word_is(word, "from")) {
        hlt_policy_mistake(parser, word, "'%s' instead of 'from CLAIM'%s",
                           hlt_policy_shown(parser, word->text, word->len),
                           hlt_policy_meant(parser, word, from));
        return HLT_ACL_NONE;
    }
    if (!name_given(parser, index + 1, "name of the claim") || !at_most(parser, index + 2)) {
        return HLT_ACL_NONE;
    }
    return hlt_policy_claim(parser, &word[1], word[1].text, word[1].len);
}

/* "role NAME [from CLAIM] [ordered]" */
static void on_role(struct acl_parser *parser)
{
    uint32_t before = parser->policy->section_count;
    uint32_t last = parser->word_count - 1;
    bool ordered = (last == 2 || last == 4) && hlt_policy_word_is(&parser->words[last], "ordered");
    struct acl_section *section;
    uint32_t claim;

    if (!name_given(parser, 1, "role name")) {
        return;
    }
    parser->word_count -= ordered;
    claim = from_claim(parser, 2);
    if (claim == HLT_ACL_NONE) {
        return;
    }
    enter_section(parser, ACL_ROLE, (uint8_t)claim, &parser->words[1]);
    if (parser->rc != HLT_OK) {
        return;
    }
    section = &parser->policy->sections[parser->section];
    if (parser->policy->section_count > before) {
        section->ordered = ordered;
    } else if (section->ordered != ordered) {
        hlt_policy_mistake(parser, &parser->words[1],
                           "this role stands twice, once 'ordered' and once not; say the same");
    }
}

static bool in_section(struct acl_parser *parser)
{
    if (parser->section == HLT_ACL_NONE) {
        hlt_policy_mistake(
            parser, &parser->words[0],
            "this line stands in no section; put 'anyone', 'anonymous', 'user NAME' or "
            "'role NAME' above it");
        return false;
    }
    return true;
}

/* The words behind the filter: except FILTER, again and again. */
static bool parse_excepts(struct acl_parser *parser, struct acl_rule *rule, uint64_t *slots)
{
    static const char *const except[] = {"except", NULL};
    struct hlt_policy *policy = parser->policy;

    rule->first_except = policy->except_count;
    for (uint32_t i = 3; i < parser->word_count; i += 2) {
        const struct acl_word *word = &parser->words[i];
        struct acl_filter filter;

        if (!hlt_policy_word_is(word, "except")) {
            const char *meant = hlt_policy_meant(parser, word, except);

            if (meant[0] != '\0') {
                hlt_policy_mistake(parser, word, "'%s' instead of 'except'%s",
                                   hlt_policy_shown(parser, word->text, word->len), meant);
                return false;
            }
            return at_most(parser, i);
        }
        if (i + 1 == parser->word_count) {
            hlt_policy_mistake(parser, word, "the filter behind 'except' is missing");
            return false;
        }
        if (rule->except_count == HLT_ACL_EXCEPTS_MAX) {
            hlt_policy_mistake(parser, word, "more than %d 'except' in a rule",
                               HLT_ACL_EXCEPTS_MAX);
            return false;
        }
        if (!hlt_policy_filter(parser, &word[1], rule->access, &filter, slots)) {
            return false;
        }
        if (!hlt_policy_grow(&policy->excepts, &policy->except_space, policy->except_count,
                             sizeof(*policy->excepts))) {
            parser->rc = HLT_ENOMEM;
            return false;
        }
        policy->excepts[policy->except_count++] = filter;
        rule->except_count++;
    }
    return true;
}

/* What is legal and yet seldom meant (facts: acl 1.7). */
static void warn_about(struct acl_parser *parser, const struct acl_rule *rule)
{
    const struct hlt_policy *policy = parser->policy;
    const struct acl_level *levels = &policy->levels[rule->filter.first];

    if (rule->deny) {
        return;
    }
    if (levels[0].kind == ACL_VARIABLE) {
        hlt_policy_problem(
            parser, HLT_PROBLEM_WARNING, parser->words[2].column,
            "the filter begins with a variable: whoever is named like the first level "
            "of other topics gets those; begin with a fixed level");
    }
    for (uint32_t i = 0; i < rule->filter.count; i++) {
        if (levels[i].kind == ACL_VARIABLE &&
            policy->slots[levels[i].slot].kind == ACL_SLOT_CLIENT) {
            hlt_policy_problem(
                parser, HLT_PROBLEM_WARNING, parser->words[2].column,
                "%%c is what a client calls itself; %%d is the device its token proves");
            return;
        }
    }
}

static void on_rule(struct acl_parser *parser)
{
    struct hlt_policy *policy = parser->policy;
    struct acl_rule rule = {.text = parser->line_text,
                            .file = parser->file,
                            .line = parser->line,
                            .section = parser->section,
                            .deny = parser->words[0].text[0] == 'd'};
    uint64_t slots = 0;

    if (!in_section(parser)) {
        return;
    }
    if (parser->word_count < 3) {
        hlt_policy_mistake(parser, NULL, "a rule is '%s ACCESS FILTER'; the %s is missing",
                           rule.deny ? "deny" : "allow",
                           parser->word_count < 2 ? "access" : "filter");
        return;
    }
    rule.access = hlt_policy_accesses(parser, &parser->words[1]);
    if (rule.access == 0 ||
        !hlt_policy_filter(parser, &parser->words[2], rule.access, &rule.filter, &slots) ||
        !parse_excepts(parser, &rule, &slots)) {
        return;
    }
    if (policy->rule_count == HLT_POLICY_RULES_MAX) {
        hlt_policy_mistake(parser, NULL, "more than %d rules in a policy", HLT_POLICY_RULES_MAX);
        parser->rc = HLT_EFULL;
        return;
    }
    if (!hlt_policy_grow(&policy->rules, &policy->rule_space, policy->rule_count,
                         sizeof(*policy->rules))) {
        parser->rc = HLT_ENOMEM;
        return;
    }
    warn_about(parser, &rule);
    policy->rules[policy->rule_count++] = rule;
    policy->sections[rule.section].slots |= slots;
    policy->sections[rule.section].subscribes |= !rule.deny && (rule.access & HLT_SUBSCRIBE) != 0;
}

/* "use ROLE [from CLAIM]": the claim is needed only where two roles have the name. */
static void on_use(struct acl_parser *parser)
{
    struct hlt_policy *policy = parser->policy;
    struct acl_use use = {.file = parser->file, .line = parser->line, .target = HLT_ACL_NONE};
    struct acl_section *section;

    if (!in_section(parser) || !name_given(parser, 1, "role name")) {
        return;
    }
    if (parser->word_count > 2) {
        if (from_claim(parser, 2) == HLT_ACL_NONE) {
            return;
        }
        use.claim = (struct acl_text){parser->words[3].text, parser->words[3].len};
    }
    use.name = (struct acl_text){parser->words[1].text, parser->words[1].len};
    use.column = parser->words[1].column;
    if (!hlt_policy_grow(&policy->uses, &policy->use_space, policy->use_count,
                         sizeof(*policy->uses))) {
        parser->rc = HLT_ENOMEM;
        return;
    }
    section = &policy->sections[parser->section];
    use.section = parser->section;
    use.next = section->first_use;
    section->first_use = policy->use_count;
    policy->uses[policy->use_count++] = use;
}

/* "default allow ACCESSES": what holds where nobody speaks, never for topics that begin with $. */
static void on_default(struct acl_parser *parser)
{
    struct hlt_policy *policy = parser->policy;
    struct acl_line line = {.text = parser->line_text, .file = parser->file, .line = parser->line};
    bool said = parser->word_count > 1 && hlt_policy_word_is(&parser->words[1], "allow");

    if (parser->word_count != 3 || !said) {
        hlt_policy_mistake(
            parser,
            parser->word_count > 1 && !said ? &parser->words[1]
            : parser->word_count > 3        ? &parser->words[3]
                                            : NULL,
            "this line is 'default allow ACCESSES'; without it what nobody allows is "
            "denied");
        return;
    }
    line.access = hlt_policy_accesses(parser, &parser->words[2]);
    if (line.access == 0) {
        return;
    }
    if (policy->default_access != 0) {
        hlt_policy_mistake(parser, &parser->words[0],
                           "'default' stands once in a policy; line %u has "
                           "it already",
                           policy->legacy.lines[policy->default_line].line);
        return;
    }
    if (hlt_legacy_keep(parser, &line)) {
        policy->default_access = line.access;
        policy->default_line = policy->legacy.line_count - 1;
        hlt_policy_problem(parser, HLT_PROBLEM_WARNING, parser->words[0].column,
                           "what no rule names is open to everybody; name what is allowed instead");
    }
}

static void on_header(struct acl_parser *parser)
{
    hlt_policy_mistake(parser, &parser->words[0],
                       "'haltere 1' stands once, as a file's first line");
}

/* ---- files ---- */

/* A file that is read for the first time; HLT_ACL_NONE if memory is out. Takes `text`. */
static uint32_t add_file(struct acl_parser *parser, const char *name, char *text, size_t len)
{
    struct hlt_policy *policy = parser->policy;
    struct acl_file *file;

    if (!hlt_policy_grow(&policy->files, &policy->file_space, policy->file_count,
                         sizeof(*policy->files))) {
        free(text);
        return HLT_ACL_NONE;
    }
    file = &policy->files[policy->file_count];
    *file = (struct acl_file){.name = strdup(name), .text = text, .len = len};
    if (file->name == NULL) {
        free(text);
        return HLT_ACL_NONE;
    }
    (void)crypto_hash_sha256(file->digest, (const unsigned char *)text, len);
    return policy->file_count++;
}

static bool file_known(struct acl_parser *parser, const struct hlt_file_stamp *stamp)
{
    const struct hlt_policy *policy = parser->policy;

    for (uint32_t i = 0; i < policy->file_count; i++) {
        if (policy->files[i].device == stamp->device && policy->files[i].inode == stamp->inode) {
            return true;
        }
    }
    return false;
}

/* Symlinks are followed (mounted ConfigMaps are), but not out of the policy's folder. */
static bool inside_folder(struct acl_parser *parser, const char *path)
{
    char *real = realpath(path, NULL);
    size_t len = strlen(parser->folder);
    bool inside = real != NULL && strncmp(real, parser->folder, len) == 0 &&
                  (real[len] == '/' || (len > 0 && parser->folder[len - 1] == '/'));

    free(real);
    return inside;
}

/* Read one included file where it stands, with its own sections. */
static void include_file(struct acl_parser *parser, const char *path)
{
    struct acl_word word = parser->words[1];
    struct hlt_file_stamp stamp;
    struct hlt_err err;
    char *text = NULL;
    size_t len = 0;
    uint32_t file;

    hlt_file_stamp(path, &stamp);
    if (stamp.exists && file_known(parser, &stamp)) {
        return;
    }
    if (parser->policy->file_count == HLT_ACL_FILES_MAX) {
        hlt_policy_mistake(parser, &word, "more than %d files in a policy", HLT_ACL_FILES_MAX);
        return;
    }
    if (!inside_folder(parser, path)) {
        hlt_policy_mistake(parser, &word, "%s is not inside the policy's folder %s", path,
                           parser->folder);
        return;
    }
    if (hlt_file_read(path, HLT_FILE_PUBLIC, HLT_POLICY_FILE_MAX - parser->total_bytes, &text, &len,
                      &err) != HLT_OK) {
        hlt_policy_mistake(parser, &word, "%s", err.msg);
        return;
    }
    file = add_file(parser, path, text, len);
    if (file == HLT_ACL_NONE) {
        parser->rc = HLT_ENOMEM;
        return;
    }
    parser->policy->files[file].device = stamp.device;
    parser->policy->files[file].inode = stamp.inode;
    parser->file = file;
    parse_body(parser);
}

/* The including file's folder, with what glob() would read as a pattern taken literally, then the
 * pattern. */
static char *include_pattern(struct acl_parser *parser, const struct acl_word *word)
{
    const char *name = parser->policy->files[parser->file].name;
    const char *slash = strrchr(name, '/');
    size_t folder_len = slash != NULL ? (size_t)(slash - name) + 1 : 0;
    char *pattern = malloc(folder_len * 2 + word->len + 1);
    char *out = pattern;

    if (pattern == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < folder_len; i++) {
        if (strchr("*?[]\\", name[i]) != NULL) {
            *out++ = '\\';
        }
        *out++ = name[i];
    }
    memcpy(out, word->text, word->len);
    out[word->len] = '\0';
    return pattern;
}

static bool leaves_folder(const struct acl_word *word)
{
    if (word->text[0] == '/') {
        return true;
    }
    for (uint32_t i = 0; i + 1 < word->len; i++) {
        if (word->text[i] == '.' && word->text[i + 1] == '.' &&
            (i == 0 || word->text[i - 1] == '/') &&
            (i + 2 == word->len || word->text[i + 2] == '/')) {
            return true;
        }
    }
    return false;
}

static bool include_allowed(struct acl_parser *parser)
{
    const struct acl_word *word = &parser->words[1];

    if (!name_given(parser, 1, "file to include") || !at_most(parser, 2)) {
        return false;
    }
    if (parser->folder == NULL) {
        hlt_policy_mistake(parser, word, "only a policy in a file can include others");
    } else if (leaves_folder(word)) {
        hlt_policy_mistake(parser, word,
                           "an include is a path inside the policy's folder: no leading /, no ..");
    } else if (parser->depth == HLT_ACL_INCLUDE_DEPTH_MAX) {
        hlt_policy_mistake(parser, word, "includes are more than %d deep",
                           HLT_ACL_INCLUDE_DEPTH_MAX);
    } else {
        return true;
    }
    return false;
}

/* False after a mistake, or without memory. */
static bool note_include(struct acl_parser *parser, const char *pattern)
{
    enum hlt_rc rc = hlt_policy_sources_note(&parser->policy->sources, pattern, true);

    if (rc == HLT_EFULL) {
        hlt_policy_mistake(parser, &parser->words[1],
                           "more than %d different 'include' in a policy", HLT_POLICY_INCLUDES_MAX);
    } else if (rc != HLT_OK) {
        parser->rc = rc;
    }
    return rc == HLT_OK;
}

static void on_include(struct acl_parser *parser)
{
    glob_t found = {0};
    char *pattern;
    int rc;

    if (!include_allowed(parser)) {
        return;
    }
    pattern = include_pattern(parser, &parser->words[1]);
    if (pattern == NULL) {
        parser->rc = HLT_ENOMEM;
        return;
    }
    if (!note_include(parser, pattern)) {
        free(pattern);
        return;
    }
    rc = glob(pattern, GLOB_ERR, NULL, &found);
    free(pattern);
    if (rc == GLOB_NOSPACE) {
        parser->rc = HLT_ENOMEM;
    } else if (rc != 0) {
        /* Also a pattern: a folder that came out empty, or cannot be read, would take its denials
         * with it unseen. */
        hlt_policy_mistake(parser, &parser->words[1], "no file matches '%s'",
                           hlt_policy_shown(parser, parser->words[1].text, parser->words[1].len));
    }
    for (size_t i = 0; rc == 0 && i < found.gl_pathc && parser->rc == HLT_OK; i++) {
        struct acl_word word = parser->words[1];
        uint32_t file = parser->file, line = parser->line, section = parser->section;
        bool header = parser->header;
        char *line_text = parser->line_text;

        parser->depth++;
        include_file(parser, found.gl_pathv[i]);
        parser->depth--;
        parser->file = file;
        parser->line = line;
        parser->section = section;
        parser->header = header;
        parser->line_text = line_text;
        parser->stop = false;
        parser->words[1] = word;
    }
    globfree(&found);
}

/* ---- lines ---- */

static const struct {
    const char *word;
    void (*parse)(struct acl_parser *parser);
} statements[] = {
    {"allow", on_rule},
    {"deny", on_rule},
    {"anyone", on_anyone},
    {"user", on_user},
    {"anonymous", on_anonymous},
    {"role", on_role},
    {"use", on_use},
    {"include", on_include},
    {"expect", hlt_policy_expect},
    {"haltere", on_header},
    {"limit", hlt_policy_limit},
    {"default", on_default},
    {"topic", hlt_legacy_statement},
    {"pattern", hlt_legacy_statement},
};

static void parse_statement(struct acl_parser *parser)
{
    const struct acl_word *word = &parser->words[0];

    for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++) {
        if (hlt_policy_word_is(word, statements[i].word)) {
            statements[i].parse(parser);
            return;
        }
    }
    hlt_policy_mistake(parser, word, "unknown word '%s'%s",
                       hlt_policy_shown(parser, word->text, word->len),
                       hlt_policy_meant(parser, word, statement_words));
}

/* The first line that is no comment: `haltere 1`, which an included file may leave out. */
static bool parse_header(struct acl_parser *parser)
{
    const struct acl_word *words = parser->words;

    parser->header = true;
    if (hlt_policy_word_is(&words[0], "haltere")) {
        if (parser->word_count == 2 && hlt_policy_word_is(&words[1], "1")) {
            return true;
        }
        parser->stop = true;
        hlt_policy_mistake(parser, parser->word_count > 1 ? &words[1] : &words[0],
                           "this version knows the policy language 'haltere 1' only");
        return true;
    }
    if (parser->depth > 0) {
        return false;
    }
    parser->stop = true;
    hlt_policy_mistake(parser, &words[0], "a policy begins with the line 'haltere 1'");
    return true;
}

/* One line, already ended with NUL. */
static void parse_line(struct acl_parser *parser, char *text, size_t len)
{
    while (len > 0 && strchr(" \t\r", text[len - 1]) != NULL) {
        text[--len] = '\0';
    }
    parser->line_text = text;
    parser->line_end = (uint32_t)len + 1;
    while (*text == ' ' || *text == '\t') {
        text++;
        len--;
    }
    if (*text == '#' || len == 0) {
        return;
    }
    if (!hlt_utf8_valid(text, len)) {
        struct acl_word bad = {.column = (uint32_t)(text - parser->line_text) +
                                         (uint32_t)hlt_utf8_prefix(text, len) + 1};

        hlt_policy_mistake(parser, &bad, "this line is not UTF-8");
        return;
    }
    if (!hlt_policy_split(parser)) {
        parser->header = true;
        return;
    }
    if (!parser->header && parse_header(parser)) {
        return;
    }
    parser->line_text = text; /* what explanations quote */
    parse_statement(parser);
}

/* Read the text of file parser->file from its first line. */
static void parse_body(struct acl_parser *parser)
{
    struct acl_file file = parser->policy->files[parser->file];
    char *at = file.text;
    char *end = file.text + file.len;

    parser->line = 0;
    parser->section = HLT_ACL_NONE;
    parser->header = false;
    parser->stop = false;
    parser->total_bytes += file.len;
    if (file.len >= 3 && memcmp(file.text, "\xef\xbb\xbf", 3) == 0) {
        parser->line = 1;
        parser->line_end = 1;
        hlt_policy_mistake(parser, NULL,
                           "the file begins with a byte order mark; save it as UTF-8 without one");
        return;
    }
    if (parser->depth == 0 && hlt_legacy_is_plain(file.text, file.len)) {
        hlt_legacy_parse_plain(parser);
        return;
    }
    while (at < end && !parser->stop && parser->rc == HLT_OK) {
        char *eol = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((eol != NULL ? eol : end) - at);

        parser->line++;
        at[len] = '\0';
        if (memchr(at, '\0', len) != NULL) {
            parser->line_end = (uint32_t)strlen(at) + 1;
            hlt_policy_mistake(parser, NULL, "a NUL byte; a policy is text");
        } else {
            parse_line(parser, at, len);
        }
        at += len + 1;
    }
}

static enum hlt_rc begin(struct acl_parser *parser)
{
    struct acl_section anyone = {.kind = ACL_ANYONE, .name = "", .first_use = HLT_ACL_NONE};

    anyone.title = strdup("anyone");
    if (anyone.title == NULL || hlt_policy_add_section(parser->policy, &anyone) != HLT_OK) {
        free(anyone.title);
        return HLT_ENOMEM;
    }
    return HLT_OK;
}

enum hlt_rc hlt_policy_parse_text(struct hlt_policy *policy, const char *text, size_t len,
                                  const char *name, struct hlt_problems *problems)
{
    struct acl_parser *parser = calloc(1, sizeof(*parser));
    char *copy = malloc(len + 1);
    enum hlt_rc rc = HLT_ENOMEM;

    if (parser == NULL || copy == NULL) {
        goto done;
    }
    parser->policy = policy;
    parser->problems = problems;
    memcpy(copy, text, len);
    copy[len] = '\0';
    parser->file = add_file(parser, name, copy, len);
    copy = NULL; /* the policy's now */
    if (parser->file != HLT_ACL_NONE && begin(parser) == HLT_OK) {
        parse_body(parser);
        rc = parser->rc;
    }
done:
    free(copy);
    free(parser);
    return rc;
}

/* The real path of the folder `path` is in; NULL if it cannot be had. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL   ? strdup(".")
                   : slash == path ? strdup("/")
                                   : strndup(path, (size_t)(slash - path));
    char *real = folder != NULL ? realpath(folder, NULL) : NULL;

    free(folder);
    return real;
}

enum hlt_rc hlt_policy_parse_file(struct hlt_policy *policy, const char *path,
                                  struct hlt_problems *problems)
{
    struct acl_parser *parser = calloc(1, sizeof(*parser));
    struct hlt_file_stamp stamp;
    struct hlt_err err = {{0}};
    char *text = NULL;
    size_t len = 0;
    enum hlt_rc rc = HLT_ENOMEM;

    if (parser == NULL) {
        return rc;
    }
    parser->policy = policy;
    parser->problems = problems;
    if (hlt_policy_sources_note(&policy->sources, path, false) != HLT_OK) {
        goto done;
    }
    hlt_file_stamp(path, &stamp);
    rc = hlt_file_read(path, HLT_FILE_PUBLIC, HLT_POLICY_FILE_MAX, &text, &len, &err);
    if (rc != HLT_OK) {
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, path, 0, 0, "%s", err.msg);
        goto done;
    }
    rc = HLT_ENOMEM;
    parser->folder = folder_of(path);
    parser->file = add_file(parser, path, text, len);
    if (parser->file == HLT_ACL_NONE || parser->folder == NULL || begin(parser) != HLT_OK) {
        goto done;
    }
    policy->files[parser->file].device = stamp.device;
    policy->files[parser->file].inode = stamp.inode;
    parse_body(parser);
    rc = parser->rc;
done:
    free(parser->folder);
    free(parser);
    return rc;
}
