/* legacy.c - Mosquitto's acl_file: its lines with all their oddities, and its decisions at the cost
 * of a trie (facts: acl 1.1, 1.2, measured against the broker). */
#include "legacy.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "parser.h"

#define NONE HLT_ACL_NONE
#define PATTERNS 1 /* the root place of the patterns */

/* ---- keeping lines ---- */

static uint32_t owner_place(const struct acl_legacy *legacy, const char *name, size_t len)
{
    struct acl_key key = acl_key_of(name, len);
    uint32_t mask = legacy->owner_table_size - 1;
    uint32_t place = (uint32_t)acl_bucket_hash(1, &key) & mask;

    for (; legacy->owner_table[place] != 0; place = (place + 1) & mask) {
        const struct acl_owner *owner = &legacy->owners[legacy->owner_table[place] - 1];

        if (owner->name_len == len && memcmp(owner->name, name, len) == 0) {
            break;
        }
    }
    return place;
}

/* Keep the table at most half full. */
static bool owner_room(struct acl_legacy *legacy)
{
    uint32_t size = legacy->owner_table_size == 0 ? 64 : legacy->owner_table_size * 2;
    uint32_t *table;

    if (legacy->owner_count * 2 < legacy->owner_table_size) {
        return true;
    }
    table = calloc(size, sizeof(*table));
    if (table == NULL) {
        return false;
    }
    free(legacy->owner_table);
    legacy->owner_table = table;
    legacy->owner_table_size = size;
    for (uint32_t i = 0; i < legacy->owner_count; i++) {
        table[owner_place(legacy, legacy->owners[i].name, legacy->owners[i].name_len)] = i + 1;
    }
    return true;
}

/* The owner with this name, new if need be; NONE without memory. No name: anonymous clients. */
static uint32_t owner_of(struct acl_legacy *legacy, const char *name, size_t len)
{
    struct acl_owner owner = {.name = name, .name_len = (uint32_t)len};
    uint32_t place;

    if (!owner_room(legacy)) {
        return NONE;
    }
    place = owner_place(legacy, name, len);
    if (legacy->owner_table[place] != 0) {
        return legacy->owner_table[place] - 1;
    }
    if (asprintf(&owner.title, "%s%.*s", len > 0 ? "user " : "anonymous", (int)len, name) < 0) {
        return NONE;
    }
    if (!hlt_policy_grow(&legacy->owners, &legacy->owner_space, legacy->owner_count,
                         sizeof(*legacy->owners))) {
        free(owner.title);
        return NONE;
    }
    legacy->owners[legacy->owner_count] = owner;
    legacy->owner_table[place] = legacy->owner_count + 1;
    return legacy->owner_count++;
}

bool hlt_legacy_keep(struct acl_parser *parser, const struct acl_line *line)
{
    struct acl_legacy *legacy = &parser->policy->legacy;

    if (legacy->line_count == HLT_POLICY_RULES_MAX) {
        hlt_policy_mistake(parser, NULL, "more than %d lines in a policy", HLT_POLICY_RULES_MAX);
        parser->rc = HLT_EFULL;
        return false;
    }
    if (!hlt_policy_grow(&legacy->lines, &legacy->line_space, legacy->line_count,
                         sizeof(*legacy->lines))) {
        parser->rc = HLT_ENOMEM;
        return false;
    }
    legacy->pattern_count += line->owner == HLT_ACL_LEGACY_OF_ALL && line->filter != NULL;
    legacy->legacy_count += line->filter != NULL;
    legacy->lines[legacy->line_count++] = *line;
    return true;
}

const char *hlt_legacy_title(const struct acl_legacy *legacy, const struct acl_line *line)
{
    if (line->filter == NULL) {
        return "default";
    }
    return line->owner == HLT_ACL_LEGACY_OF_ALL ? "pattern" : legacy->owners[line->owner].title;
}

/* ---- filters and accesses ---- */

/* Mosquitto's own check of a filter: NULL if it passes, else what is wrong, `*at` where. */
static const char *filter_fault(const char *text, size_t len, size_t *at)
{
    size_t slashes = 0;

    if (len > HLT_ACL_TOPIC_MAX) {
        *at = 0;
        return "the filter is longer than 65535 bytes";
    }
    for (size_t i = 0; i < len; i++) {
        bool begins = i == 0 || text[i - 1] == '/';

        *at = i;
        if (text[i] == '+' && (!begins || (i + 1 < len && text[i + 1] != '/'))) {
            return "+ must be a whole level: between two /, or at an end";
        }
        if (text[i] == '#' && (!begins || i + 1 < len)) {
            return "# must be a whole level, the last one";
        }
        slashes += text[i] == '/';
        if (slashes >= HLT_ACL_LEGACY_LEVELS_MAX) {
            return "the filter has more than 200 /";
        }
    }
    return NULL;
}

/* The rights an access word gives, 0: deny. False if it is no such word. */
static bool access_of(const char *word, size_t len, uint8_t *out)
{
    static const struct {
        const char *word;
        uint8_t access;
    } words[] = {
        {"read", HLT_READ}, {"write", HLT_WRITE}, {"readwrite", HLT_READ | HLT_WRITE}, {"deny", 0}};

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strlen(words[i].word) == len && memcmp(words[i].word, word, len) == 0) {
            *out = words[i].access;
            return true;
        }
    }
    return false;
}

static const char *const access_words[] = {"read", "write", "readwrite", "deny", NULL};

static void bad_access(struct acl_parser *parser, const struct acl_word *word)
{
    hlt_policy_mistake(parser, word,
                       "'%s' is no access of this line (read, write, readwrite, deny)%s",
                       hlt_policy_shown(parser, word->text, word->len),
                       hlt_policy_meant(parser, word, access_words));
}

/* Check a line's filter and keep the line. */
static void add_line(struct acl_parser *parser, struct acl_line *line)
{
    size_t at = 0;
    const char *fault = filter_fault(line->filter, line->filter_len, &at);

    if (fault != NULL) {
        struct acl_word place = {.column = line->column + (uint32_t)at};

        hlt_policy_mistake(parser, &place, "in '%s': %s",
                           hlt_policy_shown(parser, line->filter, line->filter_len), fault);
        return;
    }
    (void)hlt_legacy_keep(parser, line);
}

/* ---- a plain acl_file ---- */

bool hlt_legacy_is_plain(const char *text, size_t len)
{
    /* What Mosquitto refuses anyway and somebody means who left the header out. */
    static const char *const own[] = {"haltere", "anyone",  "anonymous", "role",    "allow", "deny",
                                      "use",     "include", "limit",     "default", "expect"};
    const char *end = text + len;

    while (text < end) {
        const char *eol = memchr(text, '\n', (size_t)(end - text));
        const char *stop = eol != NULL ? eol : end;
        size_t word = 0;

        while (text < stop && isspace((unsigned char)*text)) {
            text++;
        }
        if (text == stop || *text == '#') {
            text = eol != NULL ? eol + 1 : end;
            continue;
        }
        while (text + word < stop && !isspace((unsigned char)text[word])) {
            word++;
        }
        for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
            if (strlen(own[i]) == word && memcmp(own[i], text, word) == 0) {
                return false;
            }
        }
        return true;
    }
    return true;
}

/* Where a plain file stands: whose lines these are. */
struct plain {
    struct acl_parser *parser;
    const char *user; /* NULL above the first `user` line */
    size_t user_len;
};

/* Blanks are what isspace() says, as in the broker. */
static void trim(const char **text, size_t *len)
{
    while (*len > 0 && isspace((unsigned char)(*text)[*len - 1])) {
        --*len;
    }
    while (*len > 0 && isspace((unsigned char)**text)) {
        ++*text;
        --*len;
    }
}

/* The next word of `*at`, divided by spaces only: a tab is part of a word. */
static struct acl_word plain_word(const struct acl_parser *parser, const char **at, const char *end)
{
    struct acl_word word;

    while (*at < end && **at == ' ') {
        ++*at;
    }
    word = (struct acl_word){.text = *at, .column = (uint32_t)(*at - parser->line_text) + 1};
    while (*at < end && **at != ' ') {
        ++*at;
    }
    word.len = (uint32_t)(*at - word.text);
    if (*at < end) {
        ++*at; /* one space ends the word; what follows belongs to the rest */
    }
    return word;
}

/* "topic [ACCESS] FILTER". With one word alone, that word is the filter: also "read" or "deny". */
static void plain_rule(struct plain *plain, const struct acl_word *keyword, const char *at,
                       const char *end)
{
    struct acl_parser *parser = plain->parser;
    bool pattern = keyword->text[0] == 'p';
    struct acl_word word = plain_word(parser, &at, end);
    size_t rest = (size_t)(end - at);
    struct acl_line line = {.text = keyword->text,
                            .file = parser->file,
                            .line = parser->line,
                            .owner = HLT_ACL_LEGACY_OF_ALL,
                            .under_user = plain->user != NULL};

    if (word.len == 0) {
        hlt_policy_mistake(parser, keyword, "the filter is missing");
        return;
    }
    if (rest == 0) {
        line.bare = true;
        line.access = HLT_READ | HLT_WRITE;
        line.filter = word.text;
        line.filter_len = word.len;
    } else if (!access_of(word.text, word.len, &line.access)) {
        bad_access(parser, &word);
        return;
    } else {
        trim(&at, &rest);
        line.filter = at;
        line.filter_len = (uint32_t)(rest < UINT32_MAX ? rest : UINT32_MAX);
    }
    line.column = (uint32_t)(line.filter - parser->line_text) + 1;
    if (!pattern) {
        line.owner = owner_of(&parser->policy->legacy, plain->user != NULL ? plain->user : "",
                              plain->user_len);
        if (line.owner == NONE) {
            parser->rc = HLT_ENOMEM;
            return;
        }
    }
    add_line(parser, &line);
}

/* One line, without its end; `len` bytes before a NUL. */
static void plain_line(struct plain *plain, const char *text, size_t len)
{
    struct acl_parser *parser = plain->parser;
    const char *end;
    struct acl_word word;

    while (len > 0 && isspace((unsigned char)text[len - 1])) {
        len--;
    }
    if (len == 0 || *text == '#') {
        return;
    }
    end = text + len;
    word = plain_word(parser, &text, end);
    if (hlt_policy_word_is(&word, "topic") || hlt_policy_word_is(&word, "pattern")) {
        plain_rule(plain, &word, text, end);
    } else if (hlt_policy_word_is(&word, "user")) {
        size_t rest = (size_t)(end - text);

        if (rest == 0) {
            hlt_policy_mistake(parser, &word, "the user name is missing");
            return;
        }
        trim(&text, &rest);
        plain->user = text;
        plain->user_len = rest;
    } else if (word.len > 0 && word.text[0] == '#') {
        hlt_policy_mistake(parser, &word, "a comment of an acl_file begins in column 1");
    } else {
        hlt_policy_mistake(
            parser, &word,
            "'%s' begins no line of Mosquitto's acl_file (topic, pattern, user, # in "
            "column 1; words are divided by spaces, not tabs); a policy in Haltere's "
            "own language begins with the line 'haltere 1'",
            hlt_policy_shown(parser, word.text, word.len));
    }
}

void hlt_legacy_parse_plain(struct acl_parser *parser)
{
    struct plain plain = {.parser = parser};
    char *at = parser->policy->files[parser->file].text;
    char *end = at + parser->policy->files[parser->file].len;

    parser->policy->plain = true;
    while (at < end && parser->rc == HLT_OK) {
        char *eol = memchr(at, '\n', (size_t)(end - at));
        char *stop = eol != NULL ? eol : end;

        parser->line++;
        *stop = '\0'; /* the text has room for one more at its end */
        parser->line_text = at;
        plain_line(&plain, at, strlen(at)); /* as the broker: what follows a NUL is not seen */
        at = stop + 1;
    }
}

/* ---- a line of `haltere 1` ---- */

/* Whose this `topic` line is; NONE after a mistake. */
static uint32_t statement_owner(struct acl_parser *parser)
{
    const struct hlt_policy *policy = parser->policy;
    const struct acl_section *section =
        parser->section == NONE ? NULL : &policy->sections[parser->section];
    uint32_t owner;

    if (section != NULL && section->kind != ACL_USER && section->kind != ACL_ANONYMOUS) {
        hlt_policy_mistake(parser, &parser->words[0],
                           "a 'topic' line belongs to a user name: put it under 'user NAME' or "
                           "'anonymous', or write 'allow' or 'deny' here");
        return NONE;
    }
    owner = section != NULL && section->kind == ACL_USER
                ? owner_of(&parser->policy->legacy, section->name, section->name_len)
                : owner_of(&parser->policy->legacy, "", 0);
    if (owner == NONE) {
        parser->rc = HLT_ENOMEM;
    }
    return owner;
}

void hlt_legacy_statement(struct acl_parser *parser)
{
    const struct acl_word *words = parser->words;
    bool pattern = words[0].text[0] == 'p';
    struct acl_line line = {.text = parser->line_text,
                            .file = parser->file,
                            .line = parser->line,
                            .owner = HLT_ACL_LEGACY_OF_ALL,
                            .under_user = parser->section != NONE};

    if (parser->word_count != 3) {
        hlt_policy_mistake(
            parser, parser->word_count > 3 ? &words[3] : NULL,
            "this line is '%s read|write|readwrite|deny FILTER', all three; a filter "
            "with blanks is quoted",
            pattern ? "pattern" : "topic");
        return;
    }
    if (words[1].quoted || words[1].equals || words[1].value != NULL ||
        !access_of(words[1].text, words[1].len, &line.access)) {
        bad_access(parser, &words[1]);
        return;
    }
    if (words[2].equals || words[2].value != NULL || words[2].len == 0) {
        hlt_policy_mistake(parser, &words[2], "this is no filter of such a line");
        return;
    }
    line.filter = words[2].text;
    line.filter_len = words[2].len;
    line.column = words[2].column + words[2].quoted;
    if (!pattern) {
        line.owner = statement_owner(parser);
        if (line.owner == NONE) {
            return;
        }
    }
    add_line(parser, &line);
}

/* ---- compiling ---- */

static uint64_t bucket_count(const struct acl_legacy *legacy)
{
    return legacy->buckets == NULL ? 0 : UINT64_C(1) << (64 - legacy->bucket_shift);
}

static void put_bucket(struct acl_legacy *legacy, uint32_t child)
{
    const struct acl_place *place = &legacy->places[child];
    struct acl_key key = {.a = place->key_a, .b = place->key_b, .len = place->key_len};
    uint64_t hash = acl_bucket_hash(place->parent, &key);
    uint64_t mask = bucket_count(legacy) - 1;
    uint64_t at = hash >> legacy->bucket_shift;

    while (legacy->buckets[at].child != 0) {
        at = (at + 1) & mask;
    }
    legacy->buckets[at] = (struct acl_slotted){.tag = (uint32_t)hash, .child = child};
}

/* Keep the table at most half full. */
static bool bucket_room(struct acl_legacy *legacy)
{
    uint64_t count = bucket_count(legacy);
    struct acl_slotted *old = legacy->buckets;

    if (((uint64_t)legacy->bucket_used + 1) * 2 <= count) {
        return true;
    }
    legacy->buckets = calloc(count == 0 ? 64 : count * 2, sizeof(*legacy->buckets));
    if (legacy->buckets == NULL) {
        legacy->buckets = old;
        return false;
    }
    legacy->bucket_shift = old == NULL ? 64 - 6 : legacy->bucket_shift - 1;
    for (uint64_t i = 0; old != NULL && i < count; i++) {
        if (old[i].child != 0) {
            put_bucket(legacy, old[i].child);
        }
    }
    free(old);
    return true;
}

/* The place behind the literal `key` of `parent`, 0: none. */
static uint32_t find_literal(const struct acl_legacy *legacy, uint32_t parent,
                             const struct acl_key *key, const char *text)
{
    uint64_t hash = acl_bucket_hash(parent, key);
    uint64_t mask = (UINT64_C(1) << (64 - legacy->bucket_shift)) - 1;

    for (uint64_t at = hash >> legacy->bucket_shift; legacy->buckets[at].child != 0;
         at = (at + 1) & mask) {
        const struct acl_place *place = &legacy->places[legacy->buckets[at].child];

        if (legacy->buckets[at].tag == (uint32_t)hash && place->parent == parent &&
            place->key_a == key->a && place->key_b == key->b && place->key_len == key->len &&
            (key->len <= 16 || memcmp(place->text, text, key->len) == 0)) {
            return legacy->buckets[at].child;
        }
    }
    return 0;
}

/* A new place; 0 without memory. */
static uint32_t add_place(struct acl_legacy *legacy, uint32_t parent)
{
    struct acl_place place = {
        .parent = parent, .templates = NONE, .end = {NONE, NONE, NONE}, .tail = {NONE, NONE, NONE}};

    if (!hlt_policy_grow(&legacy->places, &legacy->place_space, legacy->place_count,
                         sizeof(*legacy->places))) {
        return 0;
    }
    legacy->places[legacy->place_count] = place;
    return legacy->place_count++;
}

static uint32_t literal_child(struct acl_legacy *legacy, uint32_t parent, const char *text,
                              size_t len)
{
    struct acl_key key = acl_key_of(text, len);
    uint32_t child;

    if (!bucket_room(legacy)) {
        return 0;
    }
    child = find_literal(legacy, parent, &key, text);
    if (child != 0) {
        return child;
    }
    child = add_place(legacy, parent);
    if (child != 0) {
        struct acl_place *place = &legacy->places[child];

        place->key_a = key.a;
        place->key_b = key.b;
        place->key_len = (uint16_t)len; /* of a checked filter */
        place->text = text;
        legacy->places[parent].has_literals = true;
        legacy->bucket_used++;
        put_bucket(legacy, child);
    }
    return child;
}

static uint32_t plus_child(struct acl_legacy *legacy, uint32_t parent)
{
    if (legacy->places[parent].plus == 0) {
        uint32_t child = add_place(legacy, parent);

        legacy->places[parent].plus = child;
    }
    return legacy->places[parent].plus;
}

/* The number of a level with %c or %u, new if need be; NONE without memory. */
static uint32_t template_of(struct acl_legacy *legacy, const char *text, size_t len)
{
    struct acl_template made = {.text = text, .len = (uint32_t)len};

    for (uint32_t i = 0; i < legacy->level_count; i++) {
        if (legacy->levels[i].len == len && memcmp(legacy->levels[i].text, text, len) == 0) {
            return i;
        }
    }
    for (size_t i = 0; i + 1 < len; i++) {
        made.of_user |= text[i] == '%' && text[i + 1] == 'u';
    }
    if (!hlt_policy_grow(&legacy->levels, &legacy->level_space, legacy->level_count,
                         sizeof(*legacy->levels))) {
        return NONE;
    }
    legacy->levels[legacy->level_count] = made;
    return legacy->level_count++;
}

static uint32_t template_child(struct acl_legacy *legacy, uint32_t parent, const char *text,
                               size_t len)
{
    uint32_t level = template_of(legacy, text, len);
    uint32_t child;

    if (level == NONE) {
        return 0;
    }
    for (uint32_t i = legacy->places[parent].templates; i != NONE; i = legacy->branches[i].next) {
        if (legacy->branches[i].level == level) {
            return legacy->branches[i].child;
        }
    }
    if (!hlt_policy_grow(&legacy->branches, &legacy->branch_space, legacy->branch_count,
                         sizeof(*legacy->branches))) {
        return 0;
    }
    child = add_place(legacy, parent);
    if (child != 0) {
        legacy->branches[legacy->branch_count] = (struct acl_branch){
            .child = child, .next = legacy->places[parent].templates, .level = level};
        legacy->places[parent].templates = legacy->branch_count++;
    }
    return child;
}

/* Is there a %c or %u in this level? */
static bool has_name(const char *text, size_t len)
{
    for (size_t i = 0; i + 1 < len; i++) {
        if (text[i] == '%' && (text[i + 1] == 'c' || text[i + 1] == 'u')) {
            return true;
        }
    }
    return false;
}

static void lower(uint32_t *line, uint32_t index)
{
    *line = index < *line ? index : *line;
}

/* Walk a line's filter into its trie and leave its rights there. False without memory. */
static bool place_line(struct hlt_policy *policy, uint32_t index)
{
    struct acl_legacy *legacy = &policy->legacy;
    const struct acl_line *line = &legacy->lines[index];
    bool pattern = line->owner == HLT_ACL_LEGACY_OF_ALL;
    uint32_t place = pattern ? PATTERNS : legacy->owners[line->owner].root;
    uint32_t *rights;
    bool tail = false;

    for (size_t from = 0, at = 0; at <= line->filter_len && !tail; at++) {
        const char *text = line->filter + from;
        size_t len = at - from;

        if (at < line->filter_len && line->filter[at] != '/') {
            continue;
        }
        from = at + 1;
        if (len == 1 && *text == '#') {
            tail = true; /* it is the last */
        } else if (len == 1 && *text == '+') {
            place = plus_child(legacy, place);
        } else if (pattern && has_name(text, len)) {
            place = template_child(legacy, place, text, len);
        } else {
            place = literal_child(legacy, place, text, len);
        }
        if (place == 0) {
            return false;
        }
    }
    rights = tail ? legacy->places[place].tail : legacy->places[place].end;
    if (line->access == 0) {
        lower(&rights[ACL_DENY_LINE], index);
    }
    if ((line->access & HLT_READ) != 0) {
        lower(&rights[ACL_READ_LINE], index);
    }
    if ((line->access & HLT_WRITE) != 0) {
        lower(&rights[ACL_WRITE_LINE], index);
    }
    return true;
}

enum hlt_rc hlt_legacy_compile(struct hlt_policy *policy)
{
    struct acl_legacy *legacy = &policy->legacy;

    if (legacy->legacy_count == 0) {
        return HLT_OK;
    }
    if (!bucket_room(legacy)) {
        return HLT_ENOMEM;
    }
    (void)add_place(legacy, NONE); /* 0 is no place */
    if (add_place(legacy, NONE) != PATTERNS) {
        return HLT_ENOMEM;
    }
    for (uint32_t i = 0; i < legacy->owner_count; i++) {
        legacy->owners[i].root = add_place(legacy, NONE);
        if (legacy->owners[i].root == 0) {
            return HLT_ENOMEM;
        }
    }
    for (uint32_t i = 0; i < legacy->line_count; i++) {
        if (legacy->lines[i].filter != NULL && !place_line(policy, i)) {
            return HLT_ENOMEM;
        }
    }
    return HLT_OK;
}

void hlt_legacy_free(struct acl_legacy *legacy)
{
    for (uint32_t i = 0; i < legacy->owner_count; i++) {
        free(legacy->owners[i].title);
    }
    free(legacy->lines);
    free(legacy->owners);
    free(legacy->owner_table);
    free(legacy->places);
    free(legacy->branches);
    free(legacy->levels);
    free(legacy->buckets);
}

/* ---- binding ---- */

/* What a template is for this client: `count` levels; 0: it matches nothing. */
struct bound_level {
    uint32_t first, count;
};

struct acl_legacy_view {
    const struct acl_legacy *legacy;
    const struct acl_value *values;
    const struct bound_level *bound; /* by template */
    uint32_t root;                   /* of the client's own lines, 0: it has none */
    bool barred;                     /* + or # in the names: no pattern holds, all is denied */
    bool whole_levels;               /* as 2.1 compares */
};

/* The names that %c and %u stand for. */
struct names {
    const char *text[2]; /* [1] NULL: anonymous */
    size_t len[2];
    bool whole_levels;
};

/* Whether a template holds anything for this client. 2.0 puts any text in, 2.1 compares it with one
 * level of the topic. */
static bool template_usable(const struct names *names, const struct acl_template *level)
{
    bool user = level->of_user;

    if (user && names->text[1] == NULL) {
        return false;
    }
    return !names->whole_levels || level->len != 2 ||
           (names->len[user] > 0 && memchr(names->text[user], '/', names->len[user]) == NULL);
}

/* The name that stands at `at` of a template: 0 for %c, 1 for %u, -1 for none. For 2.1 a name is a
 * whole level or plain text. */
static int name_at(const struct names *names, const struct acl_template *level, uint32_t at)
{
    const char *text = level->text + at;

    if (*text != '%' || at + 1 >= level->len || (names->whole_levels && level->len != 2)) {
        return -1;
    }
    return text[1] == 'c' ? 0 : text[1] == 'u' ? 1 : -1;
}

/* Write the template with the names in it; values are not looked at again. Returns the bytes;
 * `out` NULL: only counts. */
static size_t fill_template(const struct names *names, const struct acl_template *level, char *out)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < level->len; i++) {
        int name = name_at(names, level, i);
        const char *from = name >= 0 ? names->text[name] : level->text + i;
        size_t len = name >= 0 ? names->len[name] : 1;

        i += name >= 0;
        if (out != NULL) {
            memcpy(out + bytes, from, len);
        }
        bytes += len;
    }
    return bytes;
}

static uint32_t count_levels(const char *text, size_t len)
{
    uint32_t count = 1;

    for (size_t i = 0; i < len; i++) {
        count += text[i] == '/';
    }
    return count;
}

/* The levels a template becomes: a / in a name makes more of them. */
static size_t template_width(const struct names *names, const struct acl_template *level)
{
    size_t width = 1;

    for (uint32_t i = 0; i < level->len; i++) {
        int name = name_at(names, level, i);

        if (name >= 0) {
            width += count_levels(names->text[name], names->len[name]) - 1;
            i++;
        }
    }
    return width;
}

static void fill_values(const struct acl_legacy *legacy, const struct names *names,
                        struct bound_level *bound, struct acl_value *values, char *bytes)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < legacy->level_count; i++) {
        size_t len, from = 0;

        if (!template_usable(names, &legacy->levels[i])) {
            continue;
        }
        len = fill_template(names, &legacy->levels[i], bytes);
        bound[i].first = count;
        for (size_t at = 0; at <= len; at++) {
            if (at == len || bytes[at] == '/') {
                values[count++] = (struct acl_value){.key = acl_key_of(bytes + from, at - from),
                                                     .text = bytes + from};
                from = at + 1;
            }
        }
        bound[i].count = count - bound[i].first;
        bytes += len;
    }
}

/* Everything in one block. */
static struct acl_legacy_view *make_view(const struct acl_legacy *legacy, const struct names *names)
{
    size_t bytes = 0, values = 0;
    size_t bound_at = sizeof(struct acl_legacy_view);
    size_t values_at = bound_at + legacy->level_count * sizeof(struct bound_level);
    struct acl_legacy_view *view;
    char *block;

    for (uint32_t i = 0; i < legacy->level_count; i++) {
        if (template_usable(names, &legacy->levels[i])) {
            bytes += fill_template(names, &legacy->levels[i], NULL);
            values += template_width(names, &legacy->levels[i]);
        }
    }
    block = calloc(1, values_at + values * sizeof(struct acl_value) + bytes);
    if (block == NULL) {
        return NULL;
    }
    view = (struct acl_legacy_view *)(void *)block;
    view->legacy = legacy;
    view->whole_levels = names->whole_levels;
    view->bound = (const struct bound_level *)(const void *)(block + bound_at);
    view->values = (const struct acl_value *)(const void *)(block + values_at);
    fill_values(legacy, names, (struct bound_level *)(void *)(block + bound_at),
                (struct acl_value *)(void *)(block + values_at),
                block + values_at + values * sizeof(struct acl_value));
    return view;
}

bool hlt_legacy_bind(const struct hlt_policy *policy, const struct hlt_subject *subject,
                     struct acl_legacy_view **out)
{
    const struct acl_legacy *legacy = &policy->legacy;
    const char *user = subject->user;
    struct names names = {.whole_levels = policy->compat == HLT_ACL_2_1};
    uint32_t owner;

    *out = NULL;
    if (legacy->legacy_count == 0) {
        return true;
    }
    if (user == NULL || user[0] == '\0') {
        user = subject->device_id; /* the plugin gives a token session its sub for a name */
    }
    names.text[0] = subject->client_id;
    names.text[1] = user != NULL && user[0] != '\0' ? user : NULL;
    names.len[0] = strlen(names.text[0]);
    names.len[1] = names.text[1] != NULL ? strlen(names.text[1]) : 0;
    *out = make_view(legacy, &names);
    if (*out == NULL) {
        return false;
    }
    if (legacy->owner_table_size > 0) {
        owner = legacy->owner_table[owner_place(legacy, names.text[1] != NULL ? names.text[1] : "",
                                                names.len[1])];
        (*out)->root = owner != 0 ? legacy->owners[owner - 1].root : 0;
    }
    (*out)->barred = strpbrk(names.text[0], "+#") != NULL ||
                     (names.text[1] != NULL && strpbrk(names.text[1], "+#") != NULL);
    return true;
}

/* ---- deciding ---- */

/* A topic name cut into levels. */
struct asked {
    const struct acl_legacy_view *view;
    struct acl_value level[HLT_ACL_LEGACY_LEVELS_MAX];
    uint32_t count;
    bool dollar;
    enum acl_legacy_right right;
};

/* False for what is no topic name: empty, a wildcard, more levels than the broker takes. */
static bool cut(struct asked *asked, const char *topic)
{
    const char *from = topic;

    asked->count = 0;
    asked->dollar = *topic == '$';
    for (const char *at = topic;; at++) {
        if (*at == '/' || *at == '\0') {
            if (asked->count == HLT_ACL_LEGACY_LEVELS_MAX) {
                return false;
            }
            asked->level[asked->count++] =
                (struct acl_value){.key = acl_key_of(from, (size_t)(at - from)), .text = from};
            from = at + 1;
            if (*at == '\0') {
                break;
            }
        } else if (*at == '+' || *at == '#') {
            return false;
        }
    }
    return *topic != '\0';
}

/* Where a walk stands on the way to a place: its next way on. */
struct step {
    uint32_t place, branch;
    uint16_t depth;
    uint8_t next;
};
enum { WAY_ENTER, WAY_LITERAL, WAY_PLUS, WAY_TEMPLATES };

/* Are the topic's levels from `depth` on what the template stands for? Its levels, 0: no. */
static uint32_t template_levels(const struct asked *asked, uint32_t template, uint32_t depth)
{
    const struct acl_legacy_view *view = asked->view;
    const struct bound_level *bound = &view->bound[template];
    const struct acl_value *values = view->values + bound->first;

    if (bound->count > asked->count - depth) {
        return 0;
    }
    if (view->whole_levels && depth == 0 && asked->dollar &&
        view->legacy->levels[template].text[0] != '$') {
        return 0; /* 2.1 looks for the $ in the line itself */
    }
    for (uint32_t i = 0; i < bound->count; i++) {
        const struct acl_value *level = &asked->level[depth + i];

        if (!acl_key_equal(&values[i].key, values[i].text, &level->key, level->text)) {
            return 0;
        }
    }
    return bound->count;
}

/* The next place behind `step` that the topic leads to; false if there is none left. */
static bool next_step(const struct asked *asked, struct step *step, struct step *out)
{
    const struct acl_legacy *legacy = asked->view->legacy;
    const struct acl_place *place = &legacy->places[step->place];
    const struct acl_value *level = &asked->level[step->depth];

    *out = (struct step){.depth = (uint16_t)(step->depth + 1)};
    if (step->next == WAY_LITERAL) {
        step->next = WAY_PLUS;
        out->place =
            place->has_literals ? find_literal(legacy, step->place, &level->key, level->text) : 0;
        if (out->place != 0) {
            return true;
        }
    }
    if (step->next == WAY_PLUS) {
        step->next = WAY_TEMPLATES;
        step->branch = place->templates;
        out->place = step->depth > 0 || !asked->dollar ? place->plus : 0;
        if (out->place != 0) {
            return true;
        }
    }
    while (step->branch != NONE) {
        const struct acl_branch *branch = &legacy->branches[step->branch];
        uint32_t levels = template_levels(asked, branch->level, step->depth);

        step->branch = branch->next;
        if (levels > 0) {
            out->place = branch->child;
            out->depth = (uint16_t)(step->depth + levels);
            return true;
        }
    }
    return false;
}

/* Go to all places of a trie that hold the topic; the lowest lines found there. A filter has at
 * most as many levels as the broker takes, so the way there does too. */
static void walk(const struct asked *asked, uint32_t root, uint32_t *deny, uint32_t *grant)
{
    struct step way[HLT_ACL_LEGACY_LEVELS_MAX + 1];
    uint32_t top = 1;

    way[0] = (struct step){.place = root};
    while (top > 0) {
        struct step *step = &way[top - 1];
        const struct acl_place *place = &asked->view->legacy->places[step->place];

        if (step->next == WAY_ENTER) {
            step->next = WAY_LITERAL;
            if (step->depth > 0 || !asked->dollar) {
                lower(deny, place->tail[ACL_DENY_LINE]);
                lower(grant, place->tail[asked->right]);
            }
            if (step->depth == asked->count) {
                lower(deny, place->end[ACL_DENY_LINE]);
                lower(grant, place->end[asked->right]);
            }
        }
        if (step->depth == asked->count || !next_step(asked, step, &way[top])) {
            top--;
        } else {
            top++;
        }
    }
}

enum hlt_verdict hlt_legacy_vote(const struct acl_legacy_view *view, enum hlt_access access,
                                 const char *topic, uint32_t *line)
{
    uint32_t deny = NONE, grant = NONE;
    struct asked asked;

    *line = NONE;
    if (view == NULL) {
        return HLT_NO_RULE;
    }
    asked.view = view;
    asked.right = access == HLT_WRITE ? ACL_WRITE_LINE : ACL_READ_LINE;
    if ((access != HLT_READ && access != HLT_WRITE) || !cut(&asked, topic)) {
        return HLT_DENY;
    }
    if (view->root != 0) {
        walk(&asked, view->root, &deny, &grant);
    }
    if (deny == NONE && grant == NONE && view->legacy->pattern_count > 0) {
        if (view->barred) {
            return HLT_DENY; /* CVE-2017-7650: such a name would be a wildcard in a pattern */
        }
        walk(&asked, PATTERNS, &deny, &grant);
    }
    *line = deny != NONE ? deny : grant;
    return deny != NONE ? HLT_DENY : grant != NONE ? HLT_ALLOW : HLT_NO_RULE;
}

/* What the broker refuses before it asks anybody. */
static bool broker_refuses(enum hlt_access access, const char *topic)
{
    static const char state[] = "$SYS/broker/connection/";
    const char *rest;

    if (strncmp(topic, "$share", 6) == 0) {
        return true;
    }
    if (access != HLT_WRITE || strncmp(topic, "$SYS", 4) != 0) {
        return false;
    }
    if (strncmp(topic, state, sizeof(state) - 1) != 0) {
        return true;
    }
    rest = strchr(topic + sizeof(state) - 1, '/');
    return rest == NULL || strcmp(rest, "/state") != 0;
}

void hlt_legacy_decide(const struct hlt_view *view, enum hlt_access access, const char *topic,
                       struct hlt_decision *out)
{
    uint32_t line = NONE;
    size_t at;

    *out = (struct hlt_decision){.verdict = HLT_DENY, .rule = NONE};
    if (access == HLT_SUBSCRIBE || access == HLT_UNSUBSCRIBE) {
        size_t len = strlen(topic);

        /* Reading is filtered when a message is delivered. */
        if (len > 0 && filter_fault(topic, len, &at) == NULL) {
            out->verdict = HLT_ALLOW;
        }
        return;
    }
    if (broker_refuses(access, topic)) {
        return;
    }
    out->verdict = hlt_legacy_vote(view->legacy, access, topic, &line);
    if (line != NONE) {
        out->rule = view->policy->rule_count + line;
    }
}
