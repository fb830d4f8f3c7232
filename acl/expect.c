/* expect.c - `expect` lines: the tests that stand in a policy and are run at every load. */
#include <stdio.h>
#include <stdlib.h>

#include "expect.h"
#include "parser.h"

#define PAIRS_AT 5 /* the word behind `as` */

/* Text that grows; `failed` once memory was out. */
struct buffer {
    char *text;
    size_t len, space;
    bool failed;
};

static void put(struct buffer *out, const char *text, size_t len)
{
    if (out->len + len + 1 > out->space) {
        size_t space = (out->len + len + 1) * 2;
        char *grown = out->failed ? NULL : realloc(out->text, space);

        if (grown == NULL) {
            out->failed = true;
            return;
        }
        out->text = grown;
        out->space = space;
    }
    memcpy(out->text + out->len, text, len);
    out->len += len;
    out->text[out->len] = '\0';
}

static void put_json(struct buffer *out, const char *text, size_t len)
{
    put(out, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        char escaped[8];

        if ((unsigned char)text[i] < 0x20 || text[i] == '"' || text[i] == '\\') {
            put(out, escaped,
                (size_t)snprintf(escaped, sizeof(escaped), "\\u%04x", (unsigned)text[i]));
        } else {
            put(out, &text[i], 1);
        }
    }
    put(out, "\"", 1);
}

struct pair {
    struct acl_text key, value;
};

/* "key=value" or key="value" */
static bool split_pair(struct acl_parser *parser, const struct acl_word *word, struct pair *out)
{
    const char *equals = memchr(word->text, '=', word->len);

    if (word->value != NULL) {
        out->key = (struct acl_text){word->text, word->len};
        out->value = (struct acl_text){word->value, word->value_len};
        return true;
    }
    if (word->quoted || word->equals || equals == NULL || equals == word->text) {
        hlt_policy_mistake(parser, word, "'%s' is not KEY=VALUE, as in sub=d1 or roles=operator",
                           hlt_policy_shown(parser, word->text, word->len));
        return false;
    }
    out->key = (struct acl_text){word->text, (uint32_t)(equals - word->text)};
    out->value = (struct acl_text){equals + 1, word->len - out->key.len - 1};
    return true;
}

static bool same(const struct acl_text *left, const struct acl_text *right)
{
    return left->len == right->len && memcmp(left->text, right->text, left->len) == 0;
}

static bool key_is(const struct pair *pair, const char *key)
{
    return pair->key.len == strlen(key) && memcmp(pair->key.text, key, pair->key.len) == 0;
}

/* The claims: a key that is given again becomes an array. NULL if there are none or memory is out.
 */
static char *claims_of(const struct pair *pairs, uint32_t count, bool *failed)
{
    struct buffer out = {0};

    for (uint32_t i = 0; i < count; i++) {
        bool again = false, many = false;

        for (uint32_t other = 0; other < count; other++) {
            again |= other < i && same(&pairs[other].key, &pairs[i].key);
            many |= other > i && same(&pairs[other].key, &pairs[i].key);
        }
        if (again || key_is(&pairs[i], "user") || key_is(&pairs[i], "client")) {
            continue;
        }
        put(&out, out.len == 0 ? "{" : ",", 1);
        put_json(&out, pairs[i].key.text, pairs[i].key.len);
        put(&out, many ? ":[" : ":", many ? 2 : 1);
        put_json(&out, pairs[i].value.text, pairs[i].value.len);
        for (uint32_t other = i + 1; many && other < count; other++) {
            if (same(&pairs[other].key, &pairs[i].key)) {
                put(&out, ",", 1);
                put_json(&out, pairs[other].value.text, pairs[other].value.len);
            }
        }
        put(&out, "]", many ? 1 : 0);
    }
    if (out.len > 0) {
        put(&out, "}", 1);
    }
    *failed = out.failed;
    if (out.failed) {
        free(out.text);
        return NULL;
    }
    return out.text;
}

/* The value of a key that may be given once; false after a mistake. */
static bool single(struct acl_parser *parser, const struct pair *pairs, uint32_t count,
                   const char *key, char **out)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!key_is(&pairs[i], key)) {
            continue;
        }
        if (*out != NULL) {
            hlt_policy_mistake(parser, &parser->words[PAIRS_AT + i], "'%s' is given twice", key);
            return false;
        }
        *out = strndup(pairs[i].value.text, pairs[i].value.len);
        if (*out == NULL) {
            parser->rc = HLT_ENOMEM;
            return false;
        }
    }
    return true;
}

static void free_expect(struct acl_expect *expect)
{
    free(expect->topic);
    free(expect->client);
    free(expect->user);
    free(expect->sub);
    free(expect->claims);
}

/* "expect allow|deny ACCESS TOPIC as": what stands before the pairs. */
static bool parse_question(struct acl_parser *parser, struct acl_expect *expect)
{
    const struct acl_word *words = parser->words;

    if (parser->word_count < 5) {
        hlt_policy_mistake(parser, NULL,
                           "a test is 'expect allow|deny ACCESS TOPIC as KEY=VALUE...'; 'as' with "
                           "nothing behind it is an anonymous client");
        return false;
    }
    expect->deny = hlt_policy_word_is(&words[1], "deny");
    if (!expect->deny && !hlt_policy_word_is(&words[1], "allow")) {
        hlt_policy_mistake(parser, &words[1], "'%s' instead of allow or deny",
                           hlt_policy_shown(parser, words[1].text, words[1].len));
        return false;
    }
    expect->access = hlt_policy_accesses(parser, &words[2]);
    if (expect->access == 0) {
        return false;
    }
    if ((expect->access & (expect->access - 1)) != 0) {
        hlt_policy_mistake(parser, &words[2],
                           "a test asks for one access: read, write, subscribe or unsubscribe");
        return false;
    }
    if (words[3].equals || words[3].value != NULL || words[3].len == 0) {
        hlt_policy_mistake(parser, &words[3], "the topic is missing or is not one");
        return false;
    }
    if (!hlt_policy_word_is(&words[4], "as")) {
        hlt_policy_mistake(parser, &words[4], "'%s' instead of 'as'",
                           hlt_policy_shown(parser, words[4].text, words[4].len));
        return false;
    }
    expect->topic = strndup(words[3].text, words[3].len);
    if (expect->topic == NULL) {
        parser->rc = HLT_ENOMEM;
    }
    return expect->topic != NULL;
}

static bool parse_pairs(struct acl_parser *parser, struct acl_expect *expect)
{
    struct pair pairs[HLT_ACL_WORDS_MAX];
    uint32_t count = 0;
    bool failed = false;

    for (uint32_t i = PAIRS_AT; i < parser->word_count; i++) {
        if (!split_pair(parser, &parser->words[i], &pairs[count++])) {
            return false;
        }
    }
    if (!single(parser, pairs, count, "user", &expect->user) ||
        !single(parser, pairs, count, "client", &expect->client) ||
        !single(parser, pairs, count, "sub", &expect->sub)) {
        return false;
    }
    expect->claims = claims_of(pairs, count, &failed);
    if (failed) {
        parser->rc = HLT_ENOMEM;
    }
    return !failed;
}

void hlt_policy_expect(struct acl_parser *parser)
{
    struct hlt_policy *policy = parser->policy;
    struct acl_expect expect = {.file = parser->file, .line = parser->line};

    if (!parse_question(parser, &expect) || !parse_pairs(parser, &expect)) {
        free_expect(&expect);
        return;
    }
    if (policy->expect_count == HLT_ACL_EXPECTS_MAX) {
        hlt_policy_mistake(parser, NULL, "more than %d 'expect' in a policy", HLT_ACL_EXPECTS_MAX);
        parser->rc = HLT_EFULL;
        free_expect(&expect);
        return;
    }
    expect.column = parser->words[0].column;
    if (!hlt_policy_grow(&policy->expects, &policy->expect_space, policy->expect_count,
                         sizeof(*policy->expects))) {
        parser->rc = HLT_ENOMEM;
        free_expect(&expect);
        return;
    }
    policy->expects[policy->expect_count++] = expect;
}

void hlt_policy_expects_free(struct hlt_policy *policy)
{
    for (uint32_t i = 0; i < policy->expect_count; i++) {
        free_expect(&policy->expects[i]);
    }
    free(policy->expects);
    policy->expects = NULL;
    policy->expect_count = policy->expect_space = 0;
}

/* Say why a test failed: which rule decided otherwise. */
static void report(const struct hlt_policy *policy, const struct acl_expect *expect,
                   const struct hlt_decision *decision, struct hlt_problems *problems)
{
    const char *file = policy->files[expect->file].name;
    const char *want = expect->deny ? "deny" : "allow";
    const char *got = decision->verdict == HLT_ALLOW ? "allowed" : "denied";
    struct hlt_rule_ref rule;

    if (decision->rule == HLT_ACL_NONE) {
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, file, expect->line, expect->column,
                         "this test expects %s, but it is %s: %s", want, got,
                         decision->verdict == HLT_DENY    ? "the topic is malformed"
                         : decision->verdict == HLT_ALLOW ? "no rule denies it"
                                                          : "no rule allows it");
        return;
    }
    hlt_policy_rule(policy, decision->rule, &rule);
    hlt_problems_add(problems, HLT_PROBLEM_ERROR, file, expect->line, expect->column,
                     "this test expects %s, but it is %s by %s:%u '%s' (%s)", want, got, rule.file,
                     rule.line, rule.text, rule.section);
}

bool hlt_policy_test(const struct hlt_policy *policy, size_t index, struct hlt_test *out)
{
    const struct acl_expect *expect;
    const char *user, *client;

    if (index >= policy->expect_count) {
        return false;
    }
    expect = &policy->expects[index];
    user = expect->user != NULL ? expect->user : expect->sub;
    client = expect->client != NULL ? expect->client : expect->sub;
    *out = (struct hlt_test){.file = policy->files[expect->file].name,
                             .line = expect->line,
                             .deny = expect->deny,
                             .access = (enum hlt_access)expect->access,
                             .topic = expect->topic};
    out->subject = (struct hlt_subject){
        .client_id = client != NULL ? client
                     : user != NULL ? user
                                    : "",
        .user = user,
        .device_id = expect->sub,
        .claims = expect->claims,
        .claims_len = expect->claims != NULL ? strlen(expect->claims) : 0,
    };
    return true;
}

enum hlt_rc hlt_policy_expects_run(const struct hlt_policy *policy, struct hlt_problems *problems)
{
    struct hlt_test test;

    for (size_t i = 0; hlt_policy_test(policy, i, &test); i++) {
        struct hlt_view *view = hlt_policy_bind(policy, &test.subject);
        struct hlt_decision decision;

        if (view == NULL) {
            return HLT_ENOMEM;
        }
        hlt_policy_decide(view, test.access, test.topic, &decision);
        hlt_view_free(view);
        if ((decision.verdict == HLT_ALLOW) == test.deny) {
            report(policy, &policy->expects[i], &decision, problems);
        }
    }
    return HLT_OK;
}
