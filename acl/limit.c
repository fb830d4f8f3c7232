/* limit.c - `limit` lines: read, bound to a client, counted in token buckets. */
#include "limit.h"

#include <stdlib.h>

#include "../shared/text.h"
#include "parser.h"

/* ---- reading ---- */

static const char *const kind_words[] = {"payload",  "qos",           "retain", "bytes",
                                         "messages", "subscriptions", NULL};

static bool counts(const struct acl_limit *limit)
{
    return limit->kind == HLT_LIMIT_BYTES || limit->kind == HLT_LIMIT_MESSAGES;
}

/* The word as a C string; "" if it is too long to be a number. */
static void plain(const struct acl_word *word, char *out, size_t bytes)
{
    size_t len = word->len < bytes && !word->quoted && !word->equals ? word->len : 0;

    memcpy(out, word->text, len);
    out[len] = '\0';
}

static bool number(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    for (const char *at = text; *at != '\0'; at++) {
        if (*at < '0' || *at > '9' || value > max) {
            return false;
        }
        value = value * 10 + (uint64_t)(*at - '0');
    }
    *out = value;
    return text[0] != '\0' && value <= max;
}

static uint32_t unit_ms(const char *unit)
{
    return strcmp(unit, "s") == 0     ? 1000
           : strcmp(unit, "min") == 0 ? 60000
           : strcmp(unit, "h") == 0   ? 3600000
                                      : 0;
}

/* "256KiB/min" and "10/s". */
static bool read_rate(struct acl_parser *parser, const struct acl_word *word,
                      struct acl_limit *limit)
{
    char text[64];
    char *slash;
    bool good;

    plain(word, text, sizeof(text));
    slash = strchr(text, '/');
    if (slash == NULL) {
        hlt_policy_mistake(parser, word, "a rate is %s",
                           limit->kind == HLT_LIMIT_BYTES ? "SIZE/UNIT, as in 64KiB/min"
                                                          : "NUMBER/UNIT, as in 10/s");
        return false;
    }
    *slash = '\0';
    limit->period_ms = unit_ms(slash + 1);
    if (limit->period_ms == 0) {
        hlt_policy_mistake(parser, word, "the unit of a rate is s, min or h");
        return false;
    }
    good = limit->kind == HLT_LIMIT_BYTES ? hlt_size_parse(text, &limit->amount)
                                          : number(text, HLT_LIMIT_AMOUNT_MAX, &limit->amount);
    if (!good || limit->amount == 0 || limit->amount > HLT_LIMIT_AMOUNT_MAX) {
        hlt_policy_mistake(parser, word,
                           "the amount of a rate is 1 to 64Gi; to forbid publishing, use 'deny'");
        return false;
    }
    limit->burst = limit->amount;
    return true;
}

static bool read_amount(struct acl_parser *parser, const struct acl_word *word,
                        struct acl_limit *limit)
{
    char text[64];
    bool good;

    plain(word, text, sizeof(text));
    switch (limit->kind) {
    case HLT_LIMIT_BYTES:
    case HLT_LIMIT_MESSAGES: return read_rate(parser, word, limit);
    case HLT_LIMIT_PAYLOAD: good = hlt_size_parse(text, &limit->amount); break;
    case HLT_LIMIT_QOS: good = number(text, 2, &limit->amount); break;
    case HLT_LIMIT_RETAIN:
        good = strcmp(text, "yes") == 0 || strcmp(text, "no") == 0;
        limit->amount = text[0] == 'y';
        break;
    default: good = number(text, HLT_LIMIT_SUBSCRIPTIONS_MAX, &limit->amount); break;
    }
    if (!good) {
        static const char *const wants[] = {
            "a size, as in 4KiB", "0, 1 or 2", "yes or no", "", "", "a number from 0 to 10000"};

        hlt_policy_mistake(parser, word, "a limit of %s is %s", kind_words[limit->kind],
                           wants[limit->kind]);
    }
    return good;
}

/* What stands behind the amount: burst N, on FILTER. */
static bool read_rest(struct acl_parser *parser, struct acl_limit *limit, uint64_t *slots)
{
    static const char *const words[] = {"burst", "on", NULL};
    uint32_t at = 3;

    for (; at + 1 < parser->word_count; at += 2) {
        const struct acl_word *word = &parser->words[at];
        char text[64];

        if (hlt_policy_word_is(word, "burst") && limit->kind == HLT_LIMIT_MESSAGES && at == 3) {
            plain(&word[1], text, sizeof(text));
            if (!number(text, HLT_LIMIT_AMOUNT_MAX, &limit->burst) || limit->burst == 0) {
                hlt_policy_mistake(parser, &word[1], "a burst is a number from 1 on");
                return false;
            }
        } else if (hlt_policy_word_is(word, "on") && !limit->filtered &&
                   limit->kind != HLT_LIMIT_SUBSCRIPTIONS) {
            limit->filtered = true;
            if (!hlt_policy_filter(parser, &word[1], HLT_WRITE, &limit->filter, slots)) {
                return false;
            }
        } else {
            break;
        }
    }
    if (at < parser->word_count) {
        const struct acl_word *word = &parser->words[at];

        if (hlt_policy_comment(parser, word)) {
            return false;
        }
        hlt_policy_mistake(parser, word,
                           "'%s' cannot stand here: burst NUMBER is for messages, on "
                           "FILTER for all but subscriptions%s",
                           hlt_policy_shown(parser, word->text, word->len),
                           hlt_policy_meant(parser, word, words));
        return false;
    }
    return true;
}

static bool read_kind(struct acl_parser *parser, struct acl_limit *limit)
{
    const struct acl_word *word = &parser->words[1];

    if (parser->section == HLT_ACL_NONE) {
        hlt_policy_mistake(parser, &parser->words[0],
                           "a limit stands in a section; put 'anyone', 'user NAME' or 'role NAME' "
                           "above it");
        return false;
    }
    if (parser->word_count < 3) {
        hlt_policy_mistake(parser, NULL,
                           "a limit is 'limit payload|bytes|messages|qos|retain|"
                           "subscriptions VALUE'");
        return false;
    }
    for (uint8_t kind = 0; kind_words[kind] != NULL; kind++) {
        if (hlt_policy_word_is(word, kind_words[kind])) {
            limit->kind = kind;
            return true;
        }
    }
    hlt_policy_mistake(parser, word, "there is no limit of '%s'%s",
                       hlt_policy_shown(parser, word->text, word->len),
                       hlt_policy_meant(parser, word, kind_words));
    return false;
}

void hlt_policy_limit(struct acl_parser *parser)
{
    struct hlt_policy *policy = parser->policy;
    struct acl_limit limit = {.text = parser->line_text,
                              .file = parser->file,
                              .line = parser->line,
                              .section = parser->section};
    uint64_t slots = 0;

    if (!read_kind(parser, &limit) || !read_amount(parser, &parser->words[2], &limit) ||
        !read_rest(parser, &limit, &slots)) {
        return;
    }
    if (policy->limit_count == HLT_LIMITS_MAX) {
        hlt_policy_mistake(parser, NULL, "more than %d limits in a policy", HLT_LIMITS_MAX);
        return;
    }
    if (!hlt_policy_grow(&policy->limits, &policy->limit_space, policy->limit_count,
                         sizeof(*policy->limits))) {
        parser->rc = HLT_ENOMEM;
        return;
    }
    if (policy->sections[limit.section].kind == ACL_ANONYMOUS &&
        (counts(&limit) || limit.kind == HLT_LIMIT_SUBSCRIPTIONS)) {
        hlt_policy_problem(parser, HLT_PROBLEM_WARNING, parser->words[1].column,
                           "rates and subscriptions are counted for logins by token: this holds "
                           "for nobody");
    }
    policy->limits[policy->limit_count++] = limit;
    policy->sections[limit.section].slots |= slots;
}

/* ---- one message ---- */

/* Is the first level `len` bytes at `text` one of the variable's values? What may not stand in a
 * topic limits any text, as a deny does. */
static bool variable_is(const struct hlt_view *view, uint8_t slot, const char *text, size_t len)
{
    const struct acl_bound *bound = &view->bound[slot];

    if ((bound->flags & (ACL_UNUSABLE | ACL_DOLLAR)) != 0) {
        return true;
    }
    for (uint32_t i = 0; i < bound->count; i++) {
        const struct acl_value *value = &view->values[bound->first + i];

        if (value->key.len == len && memcmp(value->text, text, len) == 0) {
            return true;
        }
    }
    return false;
}

static bool on_topic(const struct hlt_view *view, const struct acl_limit *limit, const char *topic)
{
    const struct acl_level *levels;
    const char *at = topic;

    if (!limit->filtered) {
        return true; /* there may be no levels at all */
    }
    levels = &view->policy->levels[limit->filter.first];
    for (uint32_t i = 0; i < limit->filter.count; i++) {
        const struct acl_level *have = &levels[i];
        size_t len;

        if (have->kind == ACL_HASH) {
            return i > 0 || topic[0] != '$';
        }
        if (at == NULL) {
            return false;
        }
        len = (size_t)(strchrnul(at, '/') - at);
        if (have->kind == ACL_PLUS       ? i == 0 && topic[0] == '$'
            : have->kind == ACL_VARIABLE ? !variable_is(view, have->slot, at, len)
                                         : have->len != len || memcmp(have->text, at, len) != 0) {
            return false;
        }
        at = at[len] == '/' ? at + len + 1 : NULL;
    }
    return at == NULL;
}

size_t hlt_policy_limit_count(const struct hlt_policy *policy)
{
    return policy->limit_count;
}

bool hlt_view_limits_message(const struct hlt_view *view)
{
    return (view->limit_kinds &
            (1U << HLT_LIMIT_PAYLOAD | 1U << HLT_LIMIT_QOS | 1U << HLT_LIMIT_RETAIN)) != 0;
}

bool hlt_view_limits_rate(const struct hlt_view *view)
{
    return (view->limit_kinds & (1U << HLT_LIMIT_BYTES | 1U << HLT_LIMIT_MESSAGES)) != 0;
}

bool hlt_view_limits_subscriptions(const struct hlt_view *view)
{
    return (view->limit_kinds & 1U << HLT_LIMIT_SUBSCRIPTIONS) != 0;
}

const char *hlt_limit_message(const struct hlt_view *view, const char *topic, size_t payload_bytes,
                              int qos, bool retain)
{
    for (uint32_t i = 0; i < view->limit_count; i++) {
        const struct acl_limit *limit = &view->policy->limits[view->limits[i]];
        const char *why = NULL;

        if (limit->kind == HLT_LIMIT_PAYLOAD && payload_bytes > limit->amount) {
            why = "limit:payload";
        } else if (limit->kind == HLT_LIMIT_QOS && qos > (int)limit->amount) {
            why = "limit:qos";
        } else if (limit->kind == HLT_LIMIT_RETAIN && retain && limit->amount == 0) {
            why = "limit:retain";
        }
        if (why != NULL && on_topic(view, limit, topic)) {
            return why;
        }
    }
    return NULL;
}

/* ---- the meter ---- */

/* What is left of a limit, in units times milliseconds of its period: so filling needs no division
 * and loses nothing. */
struct bucket {
    uint64_t left;
    int64_t filled_ms;
    /* which limit: for taking over what was counted */
    uint64_t amount, burst;
    uint32_t period_ms;
    uint8_t kind;
};

struct hlt_meter {
    uint64_t *held; /* hashes of the filters subscribed to */
    uint32_t held_count, held_space;
    uint32_t count;
    uint64_t serial;        /* of the view */
    struct bucket bucket[]; /* one for each of the view's limits */
};

/* What the old meter had left of a limit like this; a full bucket if it knew none. */
static uint64_t left_of(const struct hlt_meter *old, const struct bucket *bucket, int64_t *filled)
{
    for (uint32_t i = 0; old != NULL && i < old->count; i++) {
        const struct bucket *known = &old->bucket[i];

        if (known->kind == bucket->kind && known->amount == bucket->amount &&
            known->burst == bucket->burst && known->period_ms == bucket->period_ms) {
            *filled = known->filled_ms;
            return known->left;
        }
    }
    return bucket->burst * bucket->period_ms;
}

struct hlt_meter *hlt_meter_new(const struct hlt_view *view, const struct hlt_meter *old,
                                int64_t mono_ms)
{
    struct hlt_meter *meter =
        calloc(1, sizeof(*meter) + view->limit_count * sizeof(meter->bucket[0]));

    if (meter == NULL) {
        return NULL;
    }
    meter->count = view->limit_count;
    meter->serial = view->serial;
    for (uint32_t i = 0; i < view->limit_count; i++) {
        const struct acl_limit *limit = &view->policy->limits[view->limits[i]];
        struct bucket *bucket = &meter->bucket[i];

        *bucket = (struct bucket){.filled_ms = mono_ms,
                                  .amount = limit->amount,
                                  .burst = limit->burst,
                                  .period_ms = limit->period_ms,
                                  .kind = limit->kind};
        if (counts(limit)) {
            bucket->left = left_of(old, bucket, &bucket->filled_ms);
        }
    }
    if (old != NULL && old->held_count > 0) {
        meter->held = malloc(old->held_count * sizeof(*meter->held));
        if (meter->held == NULL) {
            free(meter);
            return NULL;
        }
        memcpy(meter->held, old->held, old->held_count * sizeof(*meter->held));
        meter->held_count = meter->held_space = old->held_count;
    }
    return meter;
}

bool hlt_meter_is_for(const struct hlt_meter *meter, const struct hlt_view *view)
{
    return meter->serial == view->serial;
}

void hlt_meter_free(struct hlt_meter *meter)
{
    if (meter != NULL) {
        free(meter->held);
        free(meter);
    }
}

/* Amount and burst are at most 2^36, a period is below 2^22: `left` stays below 2^58, and the
 * product below 2^62. After 18 hours it is a division's turn. */
static void fill(struct bucket *bucket, int64_t mono_ms)
{
    uint64_t missing = bucket->burst * bucket->period_ms - bucket->left;
    uint64_t passed = mono_ms > bucket->filled_ms ? (uint64_t)(mono_ms - bucket->filled_ms) : 0;

    bucket->filled_ms += (int64_t)passed;
    if (passed < 1U << 26 ? passed * bucket->amount >= missing
                          : passed > missing / bucket->amount) {
        bucket->left += missing;
    } else {
        bucket->left += passed * bucket->amount;
    }
}

static uint64_t cost(const struct acl_limit *limit, size_t payload_bytes)
{
    uint64_t units = limit->kind == HLT_LIMIT_BYTES ? payload_bytes : 1;

    return units * limit->period_ms;
}

const char *hlt_meter_take(struct hlt_meter *meter, const struct hlt_view *view, const char *topic,
                           size_t payload_bytes, int64_t mono_ms)
{
    const struct acl_limit *limits = view->policy->limits;

    for (uint32_t i = 0; i < view->limit_count; i++) {
        const struct acl_limit *limit = &limits[view->limits[i]];

        if (counts(limit) && on_topic(view, limit, topic)) {
            fill(&meter->bucket[i], mono_ms);
            if (meter->bucket[i].left < cost(limit, payload_bytes)) {
                return limit->kind == HLT_LIMIT_BYTES ? "limit:bytes" : "limit:messages";
            }
        }
    }
    for (uint32_t i = 0; i < view->limit_count; i++) {
        const struct acl_limit *limit = &limits[view->limits[i]];

        if (counts(limit) && on_topic(view, limit, topic)) {
            meter->bucket[i].left -= cost(limit, payload_bytes);
        }
    }
    return NULL;
}

/* ---- subscriptions ---- */

/* Two filters with one hash would count as one: a client gains at most that by searching for them.
 */
static uint64_t filter_hash(const char *filter)
{
    struct acl_key key = acl_key_of(filter, strlen(filter));

    return acl_bucket_hash(1, &key);
}

static uint32_t find_held(const struct hlt_meter *meter, uint64_t hash)
{
    uint32_t i = 0;

    while (i < meter->held_count && meter->held[i] != hash) {
        i++;
    }
    return i;
}

const char *hlt_meter_subscribe(struct hlt_meter *meter, const struct hlt_view *view,
                                const char *filter)
{
    uint64_t most = HLT_LIMIT_SUBSCRIPTIONS_MAX;
    uint64_t hash = filter_hash(filter);

    if (find_held(meter, hash) < meter->held_count) {
        return NULL;
    }
    for (uint32_t i = 0; i < view->limit_count; i++) {
        const struct acl_limit *limit = &view->policy->limits[view->limits[i]];

        if (limit->kind == HLT_LIMIT_SUBSCRIPTIONS && limit->amount < most) {
            most = limit->amount;
        }
    }
    if (meter->held_count >= most || !hlt_policy_grow(&meter->held, &meter->held_space,
                                                      meter->held_count, sizeof(*meter->held))) {
        return "limit:subscriptions";
    }
    meter->held[meter->held_count++] = hash;
    return NULL;
}

void hlt_meter_unsubscribe(struct hlt_meter *meter, const char *filter)
{
    uint32_t at = find_held(meter, filter_hash(filter));

    if (at < meter->held_count) {
        meter->held[at] = meter->held[--meter->held_count];
    }
}

void hlt_meter_forget_subscriptions(struct hlt_meter *meter)
{
    meter->held_count = 0;
}

size_t hlt_meter_subscriptions(const struct hlt_meter *meter)
{
    return meter->held_count;
}

bool hlt_view_limit(const struct hlt_view *view, size_t index, const char *topic,
                    struct hlt_rule_ref *out, bool *applies)
{
    const struct acl_limit *limit;

    if (index >= view->limit_count) {
        return false;
    }
    limit = &view->policy->limits[view->limits[index]];
    *out = (struct hlt_rule_ref){.file = view->policy->files[limit->file].name,
                                 .text = limit->text,
                                 .line = limit->line,
                                 .section = view->policy->sections[limit->section].title};
    *applies = limit->kind != HLT_LIMIT_SUBSCRIPTIONS && on_topic(view, limit, topic);
    return true;
}
