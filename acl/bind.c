/* bind.c - a policy and a client's claims to a view: its sections, and what its variables stand
 * for. */
#include <stdatomic.h>
#include <stdlib.h>

#include "../shared/jsonpull.h"
#include "../shared/text.h"
#include "internal.h"

/* Tells a view from one that stood at the same address; views are made on several threads. */
static atomic_uint_fast64_t serials = 1;

/* What is collected before the view's size is known. */
struct binder {
    const struct hlt_policy *policy;
    uint32_t *sections;
    uint8_t *member; /* a bit for each section that is in `sections` */
    uint32_t section_count, section_space;
    struct found {
        uint32_t slot, len;
        size_t text; /* offset in bytes */
    } * values;
    uint32_t value_count, value_space;
    char *bytes;
    size_t byte_count, byte_space;
    uint8_t flags[HLT_ACL_SLOTS_MAX];
    bool seen[HLT_ACL_CLAIMS_MAX];
    bool failed; /* memory is out */
};

static void add_section(struct binder *binder, uint32_t section)
{
    uint8_t bit = (uint8_t)(1U << (section & 7));

    if (section == HLT_ACL_NONE || (binder->member[section >> 3] & bit) != 0) {
        return;
    }
    if (!hlt_policy_grow(&binder->sections, &binder->section_space, binder->section_count,
                         sizeof(*binder->sections))) {
        binder->failed = true;
        return;
    }
    binder->member[section >> 3] |= bit;
    binder->sections[binder->section_count++] = section;
}

/* May this text stand for a level? A leading $ is judged at its place. */
static bool usable(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];

        if (byte < 0x20 || byte == 0x7f || byte == '+' || byte == '#' || byte == '/') {
            return false;
        }
    }
    return len > 0 && len <= HLT_ACL_TOPIC_MAX && hlt_utf8_valid(text, len);
}

static void add_value(struct binder *binder, uint32_t slot, const char *text, size_t len)
{
    if (!usable(text, len)) {
        binder->flags[slot] |= ACL_UNUSABLE;
        return;
    }
    if (binder->byte_count + len > binder->byte_space) {
        size_t space = (binder->byte_count + len) * 2;
        char *grown = realloc(binder->bytes, space);

        if (grown == NULL) {
            binder->failed = true;
            return;
        }
        binder->bytes = grown;
        binder->byte_space = space;
    }
    if (!hlt_policy_grow(&binder->values, &binder->value_space, binder->value_count,
                         sizeof(*binder->values))) {
        binder->failed = true;
        return;
    }
    memcpy(binder->bytes + binder->byte_count, text, len);
    binder->values[binder->value_count++] =
        (struct found){.slot = slot, .len = (uint32_t)len, .text = binder->byte_count};
    binder->byte_count += len;
    binder->flags[slot] |= text[0] == '$' ? ACL_DOLLAR : 0;
}

static uint32_t claim_slot(const struct hlt_policy *policy, uint32_t claim)
{
    for (uint32_t i = 0; i < policy->slot_count; i++) {
        if (policy->slots[i].kind == ACL_SLOT_CLAIM && policy->slots[i].claim == claim) {
            return i;
        }
    }
    return HLT_ACL_NONE;
}

static bool integer(const struct hlt_json *json)
{
    for (size_t i = 0; i < json->text_len; i++) {
        if (json->text[i] == '.' || json->text[i] == 'e' || json->text[i] == 'E') {
            return false;
        }
    }
    return true;
}

/* A string of a claim names a role and is a value of `slot`; an integer outside an array is a
 * value.
 */
static void add_scalar(struct binder *binder, uint32_t claim, uint32_t slot,
                       const struct hlt_json *json, enum hlt_json_event event, bool in_array)
{
    const char *text = json->text;
    char *decoded = NULL;
    size_t len = json->text_len;

    if (event != HLT_JSON_STRING && (event != HLT_JSON_NUMBER || in_array || !integer(json))) {
        if (slot != HLT_ACL_NONE) {
            binder->flags[slot] |= ACL_UNUSABLE;
        }
        return;
    }
    if (event == HLT_JSON_STRING && json->escaped) {
        decoded = malloc(len + 1);
        if (decoded == NULL) {
            binder->failed = true;
            return;
        }
        len = hlt_json_unescape(decoded, len + 1, text, len);
        text = decoded;
        if (len == SIZE_MAX) { /* it has a NUL: unusable, and the name of no role */
            len = 0;
        }
    }
    if (event == HLT_JSON_STRING) {
        add_section(binder,
                    hlt_policy_section(binder->policy, ACL_ROLE, (uint8_t)claim, text, len));
    }
    if (slot != HLT_ACL_NONE) {
        add_value(binder, slot, text, len);
    }
    free(decoded);
}

/* The value of claim number `claim`: `event` is its first. False if the JSON is broken. */
static bool add_claim(struct binder *binder, uint32_t claim, struct hlt_json *json,
                      enum hlt_json_event event)
{
    uint32_t slot = claim_slot(binder->policy, claim);

    if (slot != HLT_ACL_NONE && binder->seen[claim]) {
        binder->flags[slot] |= ACL_UNUSABLE; /* twice: who knows which was meant */
    }
    binder->seen[claim] = true;
    if (event == HLT_JSON_OBJECT_BEGIN) {
        if (slot != HLT_ACL_NONE) {
            binder->flags[slot] |= ACL_UNUSABLE;
        }
        return hlt_json_skip(json, event);
    }
    if (event != HLT_JSON_ARRAY_BEGIN) {
        add_scalar(binder, claim, slot, json, event, false);
        return event != HLT_JSON_ERROR;
    }
    while ((event = hlt_json_next(json)) != HLT_JSON_ARRAY_END) {
        if (event == HLT_JSON_ERROR) {
            return false;
        }
        add_scalar(binder, claim, slot, json, event, true);
        if (!hlt_json_skip(json, event)) {
            return false;
        }
    }
    return true;
}

static uint32_t claim_named(const struct hlt_policy *policy, const struct hlt_json *json)
{
    char name[256];
    const char *text = json->text;
    size_t len = json->text_len;

    if (json->escaped) {
        len = hlt_json_unescape(name, sizeof(name), text, len);
        text = name;
    }
    for (uint32_t i = 0; len != SIZE_MAX && i < policy->claim_count; i++) {
        if (policy->claims[i].len == len && memcmp(policy->claims[i].text, text, len) == 0) {
            return i;
        }
    }
    return HLT_ACL_NONE;
}

/* False if the claims are not one JSON object. */
static bool add_claims(struct binder *binder, const char *claims, size_t len)
{
    struct hlt_json json;
    enum hlt_json_event event;

    hlt_json_begin(&json, claims, len);
    if (hlt_json_next(&json) != HLT_JSON_OBJECT_BEGIN) {
        return false;
    }
    while ((event = hlt_json_next(&json)) == HLT_JSON_NAME) {
        uint32_t claim = claim_named(binder->policy, &json);

        if (claim == HLT_ACL_NONE) {
            if (!hlt_json_skip(&json, event)) {
                return false;
            }
        } else if (!add_claim(binder, claim, &json, hlt_json_next(&json))) {
            return false;
        }
    }
    return event == HLT_JSON_OBJECT_END && hlt_json_next(&json) == HLT_JSON_DONE;
}

static void add_own_values(struct binder *binder, const struct hlt_subject *subject)
{
    for (uint32_t i = 0; i < binder->policy->slot_count; i++) {
        const char *text = NULL;

        switch (binder->policy->slots[i].kind) {
        case ACL_SLOT_CLIENT: text = subject->client_id; break;
        case ACL_SLOT_USER: text = subject->user; break;
        case ACL_SLOT_DEVICE: text = subject->device_id; break;
        default: continue;
        }
        add_value(binder, i, text != NULL ? text : "", text != NULL ? strlen(text) : 0);
    }
}

static void add_own_sections(struct binder *binder, const struct hlt_subject *subject)
{
    const struct hlt_policy *policy = binder->policy;
    bool named = subject->user != NULL && subject->user[0] != '\0';

    add_section(binder, 0); /* anyone */
    if (named) {
        add_section(binder,
                    hlt_policy_section(policy, ACL_USER, 0, subject->user, strlen(subject->user)));
    } else if (subject->device_id == NULL) {
        add_section(binder, hlt_policy_section(policy, ACL_ANONYMOUS, 0, "", 0));
    }
}

/* What the sections use, and what those use: new ones are appended, so one pass meets them all. */
static void add_used(struct binder *binder)
{
    const struct hlt_policy *policy = binder->policy;

    for (uint32_t i = 0; policy->uses_anywhere && i < binder->section_count; i++) {
        uint32_t use = policy->sections[binder->sections[i]].first_use;

        for (; use != HLT_ACL_NONE; use = policy->uses[use].next) {
            add_section(binder, policy->uses[use].target);
        }
    }
}

static int compare_numbers(const void *left, const void *right)
{
    const uint32_t *a = left, *b = right;

    return *a < *b ? -1 : *a > *b;
}

static int compare_values(const void *left, const void *right)
{
    const struct acl_value *a = left, *b = right;

    return a->key.a < b->key.a ? -1 : a->key.a > b->key.a;
}

/* Put the values of `slots` where the view has them: by slot, sorted. `text` has room for their
 * bytes. */
static void fill_slots(const struct binder *binder, uint64_t slots, struct acl_bound *bound,
                       struct acl_value *values, char *text)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < binder->value_count; i++) {
        bound[binder->values[i].slot].count += (uint32_t)(slots >> binder->values[i].slot & 1);
    }
    for (uint32_t i = 0; i < binder->policy->slot_count; i++) {
        if ((slots >> i & 1) == 0) {
            continue; /* the client has no rules with it: no value, no denial */
        }
        bound[i].first = at;
        bound[i].flags = binder->flags[i] | (bound[i].count == 0 ? ACL_UNUSABLE : 0);
        at += bound[i].count;
        bound[i].count = 0; /* counted again below */
    }
    for (uint32_t i = 0; i < binder->value_count; i++) {
        const struct found *from = &binder->values[i];

        if ((slots >> from->slot & 1) != 0) {
            memcpy(text, binder->bytes + from->text, from->len);
            values[bound[from->slot].first + bound[from->slot].count++] =
                (struct acl_value){.key = acl_key_of(text, from->len), .text = text};
            text += from->len;
        }
    }
    for (uint32_t i = 0; i < binder->policy->slot_count; i++) {
        if (bound[i].count > 1) {
            qsort(values + bound[i].first, bound[i].count, sizeof(*values), compare_values);
        }
    }
}

static uint64_t used_slots(struct binder *binder, bool *subscribes)
{
    uint64_t slots = 0;

    *subscribes = false;
    for (uint32_t i = 0; i < binder->section_count; i++) {
        slots |= binder->policy->sections[binder->sections[i]].slots;
        *subscribes |= binder->policy->sections[binder->sections[i]].subscribes;
    }
    return slots;
}

/* The limits of the view's sections, in the order of the policy; `out` may be NULL. Returns how
 * many. */
static uint32_t own_limits(const struct binder *binder, uint32_t *out, uint8_t *kinds)
{
    const struct hlt_policy *policy = binder->policy;
    uint32_t count = 0;

    *kinds = 0;
    for (uint32_t i = 0; policy->limit_count > 0 && i < binder->section_count; i++) {
        uint32_t limit = policy->sections[binder->sections[i]].first_limit;

        for (; limit != HLT_ACL_NONE; limit = policy->limits[limit].next) {
            if (out != NULL) {
                out[count] = limit;
            }
            *kinds |= (uint8_t)(1U << policy->limits[limit].kind);
            count++;
        }
    }
    if (out != NULL && count > 1) {
        qsort(out, count, sizeof(*out), compare_numbers);
    }
    return count;
}

static uint32_t count_ordered(const struct binder *binder)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < binder->section_count; i++) {
        count += binder->policy->sections[binder->sections[i]].ordered;
    }
    return count;
}

/* The sections again behind the list of all: those that are not ordered, then those that are. */
static void part_sections(struct hlt_view *view, uint32_t ordered)
{
    uint32_t *all = (uint32_t *)(void *)(view + 1);
    uint32_t *unordered = all + view->section_count;
    uint32_t *last = unordered + view->section_count - ordered;

    view->free = view->sections;
    view->free_count = view->section_count;
    if (ordered == 0) {
        return;
    }
    view->free = unordered;
    view->free_count = view->section_count - ordered;
    view->ordered = last;
    view->ordered_count = ordered;
    for (uint32_t i = 0; i < view->section_count; i++) {
        if (view->policy->sections[all[i]].ordered) {
            *last++ = all[i];
        } else {
            *unordered++ = all[i];
        }
    }
}

/* Everything in one block: a broker may hold a hundred thousand views. */
static struct hlt_view *make_view(struct binder *binder)
{
    const struct hlt_policy *policy = binder->policy;
    bool subscribes;
    uint64_t slots = used_slots(binder, &subscribes);
    uint32_t ordered = count_ordered(binder);
    uint32_t kept = 0;
    size_t kept_bytes = 0;
    uint8_t kinds;
    uint32_t limit_count = own_limits(binder, NULL, &kinds);
    uint32_t lists = ordered > 0 ? 2 * binder->section_count : binder->section_count;
    size_t bound_at = sizeof(struct hlt_view) + ((size_t)lists + limit_count + 1) / 2 * 8;
    size_t values_at = bound_at + (policy->slot_count * sizeof(struct acl_bound) + 7) / 8 * 8;
    struct acl_bound *bound;
    struct hlt_view *view;
    char *block;

    for (uint32_t i = 0; i < binder->value_count; i++) {
        if ((slots >> binder->values[i].slot & 1) != 0) {
            kept++;
            kept_bytes += binder->values[i].len;
        }
    }
    block = calloc(1, values_at + kept * sizeof(struct acl_value) + kept_bytes);
    if (block == NULL) {
        return NULL;
    }
    view = (struct hlt_view *)(void *)block;
    bound = (struct acl_bound *)(void *)(block + bound_at);
    *view = (struct hlt_view){.policy = policy,
                              .sections = (const uint32_t *)(const void *)(view + 1),
                              .bound = bound,
                              .values = (const struct acl_value *)(void *)(block + values_at),
                              .section_count = binder->section_count,
                              .serial = atomic_fetch_add(&serials, 1),
                              .limit_count = limit_count,
                              .limit_kinds = kinds,
                              .subscribes = subscribes};
    memcpy(view + 1, binder->sections, binder->section_count * sizeof(uint32_t));
    qsort(view + 1, binder->section_count, sizeof(uint32_t), compare_numbers);
    for (uint32_t i = 0; i < view->section_count; i++) {
        uint32_t band = view->sections[i] >> policy->band_shift;

        view->bands[band / 64] |= UINT64_C(1) << band % 64;
    }
    part_sections(view, ordered);
    view->limits = view->sections + lists;
    (void)own_limits(binder, (uint32_t *)(void *)(view + 1) + lists, &kinds);
    fill_slots(binder, slots, bound, (struct acl_value *)(void *)(block + values_at),
               block + values_at + kept * sizeof(struct acl_value));
    return view;
}

struct hlt_view *hlt_policy_bind(const struct hlt_policy *policy, const struct hlt_subject *subject)
{
    struct binder binder = {.policy = policy};
    struct hlt_view *view = NULL;

    binder.member = calloc(policy->section_count / 8 + 1, 1);
    if (binder.member == NULL) {
        return NULL;
    }
    add_own_sections(&binder, subject);
    add_own_values(&binder, subject);
    if (subject->claims != NULL && !add_claims(&binder, subject->claims, subject->claims_len)) {
        /* Not what a verified token holds. Roles read so far stay, allow nothing by claims, deny by
         * any. */
        for (uint32_t i = 0; i < policy->slot_count; i++) {
            if (policy->slots[i].kind == ACL_SLOT_CLAIM) {
                binder.flags[i] |= ACL_UNUSABLE;
            }
        }
    }
    add_used(&binder);
    if (!binder.failed) {
        view = make_view(&binder);
    }
    if (view != NULL && !hlt_legacy_bind(policy, subject, &view->legacy)) {
        free(view);
        view = NULL;
    }
    if (view != NULL) {
        view->votes =
            view->ordered_count > 0 || view->legacy != NULL || policy->default_access != 0;
    }
    free(binder.member);
    free(binder.sections);
    free(binder.values);
    free(binder.bytes);
    return view;
}

void hlt_view_free(struct hlt_view *view)
{
    if (view != NULL) {
        free(view->legacy);
    }
    free(view);
}
