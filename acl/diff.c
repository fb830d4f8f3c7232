/* diff.c - two policies, the same questions. */
#include "diff.h"

#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

#define SUBJECTS_MAX 4096u
#define TOPIC_BYTES 1024u

/* ---- asking ---- */

/* Two views of one client. */
struct pair {
    struct hlt_view *before, *after;
};

static enum hlt_rc bind_pair(const struct hlt_diff *diff, const struct hlt_subject *subject,
                             struct pair *out)
{
    out->before = hlt_policy_bind(diff->old_policy, subject);
    out->after = hlt_policy_bind(diff->new_policy, subject);
    return out->before != NULL && out->after != NULL ? HLT_OK : HLT_ENOMEM;
}

static void free_pair(struct pair *pair)
{
    hlt_view_free(pair->before);
    hlt_view_free(pair->after);
}

static char *copy(const char *text)
{
    return text != NULL ? strdup(text) : NULL;
}

static char *copy_claims(const struct hlt_subject *subject)
{
    return subject->claims != NULL ? strndup(subject->claims, subject->claims_len) : NULL;
}

static enum hlt_rc add_change(struct hlt_diff *diff, const struct hlt_subject *subject,
                              const struct hlt_change *kind, const char *topic)
{
    struct hlt_change *change;

    if (diff->change_count == HLT_DIFF_KINDS_MAX) {
        diff->cut = true;
        return HLT_OK;
    }
    if (!hlt_policy_grow(&diff->changes, &diff->change_space, diff->change_count,
                         sizeof(*diff->changes))) {
        return HLT_ENOMEM;
    }
    change = &diff->changes[diff->change_count++];
    *change = *kind;
    change->count = 1;
    change->topic = copy(topic);
    change->client_id = copy(subject->client_id);
    change->user = copy(subject->user);
    change->claims = copy_claims(subject);
    return change->topic != NULL && change->client_id != NULL ? HLT_OK : HLT_ENOMEM;
}

static enum hlt_rc compare(struct hlt_diff *diff, const struct pair *pair,
                           const struct hlt_subject *subject, enum hlt_access access,
                           const char *topic, enum hlt_diff_source source)
{
    struct hlt_change kind = {.access = access, .source = source};
    struct hlt_decision before, after;

    diff->asked[source]++;
    hlt_policy_decide(pair->before, access, topic, &before);
    hlt_policy_decide(pair->after, access, topic, &after);
    if ((before.verdict == HLT_ALLOW) == (after.verdict == HLT_ALLOW)) {
        return HLT_OK;
    }
    diff->changed++;
    kind.was_allowed = before.verdict == HLT_ALLOW;
    kind.old_rule = before.rule;
    kind.new_rule = after.rule;
    for (uint32_t i = 0; i < diff->change_count; i++) {
        struct hlt_change *known = &diff->changes[i];

        if (known->access == access && known->was_allowed == kind.was_allowed &&
            known->old_rule == kind.old_rule && known->new_rule == kind.new_rule) {
            known->count++;
            return HLT_OK;
        }
    }
    return add_change(diff, subject, &kind, topic);
}

enum hlt_rc hlt_diff_ask(struct hlt_diff *diff, const struct hlt_subject *subject,
                         enum hlt_access access, const char *topic, enum hlt_diff_source source)
{
    struct pair pair;
    enum hlt_rc rc = bind_pair(diff, subject, &pair);

    if (rc == HLT_OK) {
        rc = compare(diff, &pair, subject, access, topic, source);
    }
    free_pair(&pair);
    return rc;
}

static enum hlt_rc ask_tests(struct hlt_diff *diff, const struct hlt_policy *policy)
{
    struct hlt_test test;
    enum hlt_rc rc = HLT_OK;

    for (size_t i = 0; rc == HLT_OK && hlt_policy_test(policy, i, &test); i++) {
        rc = hlt_diff_ask(diff, &test.subject, test.access, test.topic, HLT_DIFF_EXPECT);
    }
    return rc;
}

enum hlt_rc hlt_diff_expects(struct hlt_diff *diff)
{
    enum hlt_rc rc = ask_tests(diff, diff->old_policy);

    return rc == HLT_OK ? ask_tests(diff, diff->new_policy) : rc;
}

void hlt_diff_free(struct hlt_diff *diff)
{
    for (uint32_t i = 0; i < diff->change_count; i++) {
        free(diff->changes[i].topic);
        free(diff->changes[i].client_id);
        free(diff->changes[i].user);
        free(diff->changes[i].claims);
    }
    free(diff->changes);
    diff->changes = NULL;
    diff->change_count = diff->change_space = 0;
}

/* ---- probes: who ---- */

struct text {
    char *at;
    size_t len, space;
    bool failed;
};

static void put(struct text *out, const char *bytes, size_t len)
{
    if (out->len + len + 1 > out->space) {
        size_t space = (out->len + len + 1) * 2;
        char *grown = out->failed ? NULL : realloc(out->at, space);

        if (grown == NULL) {
            out->failed = true;
            return;
        }
        out->at = grown;
        out->space = space;
    }
    memcpy(out->at + out->len, bytes, len);
    out->len += len;
    out->at[out->len] = '\0';
}

static void put_string(struct text *out, const char *bytes, size_t len)
{
    put(out, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] == '"' || bytes[i] == '\\') {
            put(out, "\\", 1);
        }
        put(out, &bytes[i], 1);
    }
    put(out, "\"", 1);
}

/* A client made up for a section: a member has its title. */
struct probe {
    const char *user; /* NULL: anonymous */
    char *user_text, *claims;
};

/* What a claim stands for in a probe: its own name, so that one is told from the other. */
static void put_value(struct text *out, const struct acl_text *claim)
{
    put(out, "v-", 2);
    for (uint32_t i = 0; i < claim->len; i++) {
        bool plain = strchr("\"\\/+#$", claim->text[i]) == NULL;

        put(out, plain ? &claim->text[i] : "-", 1);
    }
}

static bool same(const struct acl_text *text, const struct acl_text *other)
{
    return text->len == other->len && memcmp(text->text, other->text, text->len) == 0;
}

/* Every claim that stands in a variable of the policy gets a value, unless it is there already. */
static void put_variables(struct text *out, const struct hlt_policy *policy,
                          const struct hlt_policy *told, const struct acl_text *role_claim)
{
    for (uint32_t i = 0; i < policy->slot_count; i++) {
        const struct acl_text *claim = &policy->claims[policy->slots[i].claim];
        bool known = policy->slots[i].kind != ACL_SLOT_CLAIM ||
                     (role_claim != NULL && same(claim, role_claim));

        for (uint32_t t = 0; told != NULL && t < told->slot_count; t++) {
            known |= told->slots[t].kind == ACL_SLOT_CLAIM &&
                     same(claim, &told->claims[told->slots[t].claim]);
        }
        if (!known) {
            put(out, ",", 1);
            put_string(out, claim->text, claim->len);
            put(out, ":\"", 2);
            put_value(out, claim);
            put(out, "\"", 1);
        }
    }
}

/* The claims of a token for device d1 with this role (NULL: none). */
static char *token_claims(const struct hlt_diff *diff, const struct acl_text *claim,
                          const struct acl_section *role)
{
    struct text out = {0};

    put(&out, "{\"sub\":\"d1\"", 11);
    if (role != NULL) {
        put(&out, ",", 1);
        put_string(&out, claim->text, claim->len);
        put(&out, ":", 1);
        put_string(&out, role->name, role->name_len);
    }
    put_variables(&out, diff->old_policy, NULL, claim);
    put_variables(&out, diff->new_policy, diff->old_policy, claim);
    put(&out, "}", 1);
    if (out.failed) {
        free(out.at);
        return NULL;
    }
    return out.at;
}

struct probes {
    struct hlt_diff *diff;
    struct probe item[SUBJECTS_MAX];
    uint32_t count;
};

static enum hlt_rc add_probe(struct probes *probes, const char *user, size_t user_len, char *claims)
{
    struct probe probe = {.claims = claims};

    if (user != NULL) {
        probe.user_text = strndup(user, user_len);
        probe.user = probe.user_text;
    }
    if (user != NULL && probe.user == NULL) {
        free(claims);
        return HLT_ENOMEM;
    }
    for (uint32_t i = 0; i < probes->count; i++) {
        const struct probe *known = &probes->item[i];

        if (strcmp(known->user != NULL ? known->user : "", user != NULL ? probe.user : "") == 0 &&
            strcmp(known->claims != NULL ? known->claims : "", claims != NULL ? claims : "") == 0) {
            free(probe.user_text);
            free(claims);
            return HLT_OK;
        }
    }
    if (probes->count == SUBJECTS_MAX) {
        probes->diff->cut = true;
        free(probe.user_text);
        free(claims);
        return HLT_OK;
    }
    probes->item[probes->count++] = probe;
    return HLT_OK;
}

static enum hlt_rc add_token(struct probes *probes, const struct acl_text *claim,
                             const struct acl_section *role)
{
    char *claims = token_claims(probes->diff, claim, role);

    return claims != NULL ? add_probe(probes, "d1", 2, claims) : HLT_ENOMEM;
}

static enum hlt_rc add_clients(struct probes *probes, const struct hlt_policy *policy)
{
    enum hlt_rc rc = HLT_OK;

    for (uint32_t i = 0; rc == HLT_OK && i < policy->section_count; i++) {
        const struct acl_section *section = &policy->sections[i];

        if (section->kind == ACL_ROLE) {
            rc = add_token(probes, &policy->claims[section->claim], section);
        } else if (section->kind == ACL_USER) {
            rc = add_probe(probes, section->name, section->name_len, NULL);
        }
    }
    for (uint32_t i = 0; rc == HLT_OK && i < policy->legacy.owner_count; i++) {
        const struct acl_owner *owner = &policy->legacy.owners[i];

        if (owner->name_len > 0) { /* no name is the anonymous client, who is asked for anyhow */
            rc = add_probe(probes, owner->name, owner->name_len, NULL);
        }
    }
    return rc;
}

/* ---- probes: what ---- */

/* How the open places of a filter are filled. */
struct filling {
    const char *device, *plus, *tail; /* tail NULL: the parent level of a # */
    const char *client, *user;
    bool as_filter; /* keep + and # */
};

static bool append(char *out, size_t *at, const char *text, size_t len)
{
    if (*at + len >= TOPIC_BYTES) {
        return false;
    }
    memcpy(out + *at, text, len);
    *at += len;
    out[*at] = '\0';
    return true;
}

/* As put_value() put it; of somebody else for other devices. */
static struct acl_text claim_value(const struct acl_text *claim, const struct filling *filling)
{
    static _Thread_local char text[TOPIC_BYTES];
    struct text value = {0};

    (void)snprintf(text, sizeof(text), "v2");
    if (strcmp(filling->device, "d1") == 0) {
        put_value(&value, claim);
        (void)snprintf(text, sizeof(text), "%s", value.at != NULL ? value.at : "");
        free(value.at);
    }
    return (struct acl_text){.text = text, .len = (uint32_t)strlen(text)};
}

static struct acl_text level_text(const struct hlt_policy *policy, const struct acl_level *level,
                                  const struct filling *filling)
{
    const char *text = NULL;

    switch (level->kind) {
    case ACL_PLUS: text = filling->as_filter ? "+" : filling->plus; break;
    case ACL_HASH: text = filling->as_filter ? "#" : filling->tail; break;
    case ACL_VARIABLE:
        switch (policy->slots[level->slot].kind) {
        case ACL_SLOT_CLIENT: text = filling->client; break;
        case ACL_SLOT_USER: text = filling->user; break;
        case ACL_SLOT_DEVICE: text = filling->device; break;
        default: return claim_value(&policy->claims[policy->slots[level->slot].claim], filling);
        }
        break;
    default: return (struct acl_text){.text = level->text, .len = level->len};
    }
    return (struct acl_text){.text = text, .len = text != NULL ? (uint32_t)strlen(text) : 0};
}

/* False if it would be too long, or is nothing. */
static bool fill_filter(const struct hlt_policy *policy, const struct acl_filter *filter,
                        const struct filling *filling, char out[TOPIC_BYTES])
{
    const struct acl_level *levels = &policy->levels[filter->first];
    size_t at = 0;

    out[0] = '\0';
    for (uint32_t i = 0; i < filter->count; i++) {
        struct acl_text text = level_text(policy, &levels[i], filling);

        if (text.text == NULL) {
            continue; /* the parent level */
        }
        if ((i > 0 && !append(out, &at, "/", 1)) || !append(out, &at, text.text, text.len)) {
            return false;
        }
    }
    return at > 0;
}

/* The same for the filter of a `topic` or `pattern` line, which is one text. */
static bool fill_line(const struct acl_line *line, const struct filling *filling,
                      char out[TOPIC_BYTES])
{
    size_t at = 0;

    out[0] = '\0';
    for (uint32_t i = 0; i < line->filter_len; i++) {
        const char *from = line->filter + i;
        const char *text = NULL;
        bool more = i + 1 < line->filter_len && line->owner == HLT_ACL_LEGACY_OF_ALL;

        if (*from == '%' && more && (from[1] == 'c' || from[1] == 'u')) {
            text = from[1] == 'c' ? filling->client : filling->user;
            i++;
        } else if (!filling->as_filter && *from == '+') {
            text = filling->plus;
        } else if (!filling->as_filter && *from == '#') {
            text = filling->tail != NULL ? filling->tail : "";
        }
        if (!append(out, &at, text != NULL ? text : from, text != NULL ? strlen(text) : 1)) {
            return false;
        }
    }
    return at > 0;
}

/* Ask both with what a filter becomes in several fillings. */
struct asker {
    struct hlt_diff *diff;
    struct pair pair;
    struct hlt_subject subject;
    enum hlt_rc rc;
};

static void ask_topic(struct asker *asker, const char *topic, bool as_filter)
{
    static const enum hlt_access accesses[2][2] = {{HLT_READ, HLT_WRITE},
                                                   {HLT_SUBSCRIBE, HLT_UNSUBSCRIBE}};

    if (asker->diff->asked[HLT_DIFF_PROBE] >= HLT_DIFF_PROBES_MAX) {
        asker->diff->cut = true;
        return;
    }
    for (size_t i = 0; asker->rc == HLT_OK && i < 2; i++) {
        asker->rc = compare(asker->diff, &asker->pair, &asker->subject, accesses[as_filter][i],
                            topic, HLT_DIFF_PROBE);
    }
}

static void ask_filter(struct asker *asker, const struct hlt_policy *policy,
                       const struct acl_filter *filter, const struct acl_line *line)
{
    const char *id = asker->subject.client_id;
    const char *user = asker->subject.user != NULL ? asker->subject.user : "u1";
    const struct filling fillings[] = {
        {"d1", "p1", "t1", id, user, false},    {"d1", "d1", NULL, id, user, false},
        {"d1", "p1", "t1/t2", id, user, false}, {"d2", "d2", "t1", "other", "other", false},
        {"d1", "", "", id, user, true},         {"d2", "", "", "other", "other", true},
    };
    char topic[TOPIC_BYTES];

    for (size_t i = 0; i < sizeof(fillings) / sizeof(fillings[0]); i++) {
        bool filled = line != NULL ? fill_line(line, &fillings[i], topic)
                                   : fill_filter(policy, filter, &fillings[i], topic);

        if (filled) {
            ask_topic(asker, topic, fillings[i].as_filter);
        }
    }
}

static void ask_policy(struct asker *asker, const struct hlt_policy *policy)
{
    for (uint32_t i = 0; asker->rc == HLT_OK && !asker->diff->cut && i < policy->rule_count; i++) {
        const struct acl_rule *rule = &policy->rules[i];

        ask_filter(asker, policy, &rule->filter, NULL);
        for (uint32_t e = 0; e < rule->except_count; e++) {
            ask_filter(asker, policy, &policy->excepts[rule->first_except + e], NULL);
        }
    }
    for (uint32_t i = 0; asker->rc == HLT_OK && !asker->diff->cut && i < policy->legacy.line_count;
         i++) {
        if (policy->legacy.lines[i].filter != NULL) {
            ask_filter(asker, policy, NULL, &policy->legacy.lines[i]);
        }
    }
}

static enum hlt_rc ask_as(struct hlt_diff *diff, const struct probe *probe)
{
    bool token = probe->claims != NULL;
    struct asker asker = {.diff = diff,
                          .subject = {.client_id = token ? "d1" : "c1",
                                      .user = probe->user,
                                      .device_id = token ? "d1" : NULL,
                                      .claims = probe->claims,
                                      .claims_len = token ? strlen(probe->claims) : 0}};

    asker.rc = bind_pair(diff, &asker.subject, &asker.pair);
    if (asker.rc == HLT_OK) {
        ask_policy(&asker, diff->old_policy);
        ask_policy(&asker, diff->new_policy);
        ask_topic(&asker, "#", true); /* what no rule names */
        ask_topic(&asker, "somewhere/else", false);
    }
    free_pair(&asker.pair);
    return asker.rc;
}

enum hlt_rc hlt_diff_probes(struct hlt_diff *diff)
{
    struct probes *probes = calloc(1, sizeof(*probes));
    enum hlt_rc rc;

    if (probes == NULL) {
        return HLT_ENOMEM;
    }
    probes->diff = diff;
    rc = add_probe(probes, NULL, 0, NULL);
    rc = rc == HLT_OK ? add_probe(probes, "u1", 2, NULL) : rc;
    rc = rc == HLT_OK ? add_token(probes, NULL, NULL) : rc;
    rc = rc == HLT_OK ? add_clients(probes, diff->old_policy) : rc;
    rc = rc == HLT_OK ? add_clients(probes, diff->new_policy) : rc;
    for (uint32_t i = 0; rc == HLT_OK && i < probes->count; i++) {
        rc = ask_as(diff, &probes->item[i]);
    }
    for (uint32_t i = 0; i < probes->count; i++) {
        free(probes->item[i].user_text);
        free(probes->item[i].claims);
    }
    free(probes);
    return rc;
}
