/* scan.c - the columns of codes, and the search in them. */
#include "scan.h"

#include <stdlib.h>

#define LANES 64u     /* rules compared at a time */
#define BOUND 0x10u   /* in `flags`, above the accesses: the filter has %d */
#define TEXTS 0x3f80u /* codes for texts of each kind: two texts share one in 16,256 pairs */
#define ACCEPTED_MAX (HLT_ACL_SLOTS_MAX + 4)

/* A level as a code. Below zero are those that fit whatever stands there. */
enum {
    CODE_HASH = -2, /* here or before */
    CODE_PLUS = -1,
    CODE_END = 0,        /* the filter is shorter */
    CODE_SLOT = 1,       /* and the number of the variable */
    CODE_TEXT = 0x80,    /* and a hash of the text */
    CODE_DOLLAR = 0x4000 /* the same, for a first level that begins with $ */
};

static int16_t text_code(const struct acl_key *key, bool dollar)
{
    uint64_t hash = acl_bucket_hash(0, key);

    return (int16_t)((dollar ? CODE_DOLLAR : CODE_TEXT) + (hash >> 32) % TEXTS);
}

/* ---- making the columns ---- */

static int16_t level_code(const struct acl_filter *filter, const struct acl_level *levels,
                          uint32_t at)
{
    const struct acl_level *level = &levels[at];
    struct acl_key key;

    if (!filter->literal && levels[filter->count - 1].kind == ACL_HASH && at + 1 >= filter->count) {
        return CODE_HASH;
    }
    if (at >= filter->count) {
        return CODE_END;
    }
    if (level->kind == ACL_VARIABLE) {
        return (int16_t)(CODE_SLOT + level->slot);
    }
    if (level->kind == ACL_PLUS && !filter->literal) {
        return CODE_PLUS;
    }
    key = acl_key_of(level->text, level->len);
    return text_code(&key, at == 0 && level->len > 0 && level->text[0] == '$');
}

static void fill_row(struct hlt_policy *policy, uint32_t row, uint32_t index)
{
    struct acl_scan *scan = &policy->scan;
    const struct acl_rule *rule = &policy->rules[index];
    const struct acl_level *levels = &policy->levels[rule->filter.first];

    scan->rule[row] = index;
    scan->flags[row] = (uint8_t)(rule->access | (rule->filter.bound ? BOUND : 0));
    for (uint32_t c = 0; c < scan->columns; c++) {
        int16_t code = level_code(&rule->filter, levels, c);

        scan->code[(size_t)c * scan->stride + row] = code;
        if (code >= CODE_SLOT && code < CODE_TEXT) {
            scan->slots[c] |= UINT64_C(1) << (code - CODE_SLOT);
        }
    }
}

/* Give each section its rows: its denials, then what it allows, each in the order of the rules. */
static void place_rows(struct hlt_policy *policy)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < policy->rule_count; i++) {
        struct acl_section *section = &policy->sections[policy->rules[i].section];

        section->deny_count += policy->rules[i].deny;
        section->allow_count += !policy->rules[i].deny;
    }
    for (uint32_t i = 0; i < policy->section_count; i++) {
        struct acl_section *section = &policy->sections[i];

        section->first_deny = at;
        section->first_allow = at + section->deny_count;
        at = section->first_allow + section->allow_count;
        section->deny_count = section->allow_count = 0; /* counted again below */
    }
    for (uint32_t i = 0; i < policy->rule_count; i++) {
        struct acl_section *section = &policy->sections[policy->rules[i].section];

        fill_row(policy,
                 policy->rules[i].deny ? section->first_deny + section->deny_count++
                                       : section->first_allow + section->allow_count++,
                 i);
    }
}

enum hlt_rc hlt_scan_compile(struct hlt_policy *policy)
{
    struct acl_scan *scan = &policy->scan;

    scan->columns = policy->depth + 1 < ACL_SCAN_COLUMNS ? policy->depth + 1 : ACL_SCAN_COLUMNS;
    scan->stride = policy->rule_count + LANES; /* a block may begin at any row */
    scan->rule = calloc(scan->stride, sizeof(*scan->rule));
    scan->flags = calloc(scan->stride, sizeof(*scan->flags));
    scan->code = calloc((size_t)scan->stride * scan->columns, sizeof(*scan->code));
    if (scan->rule == NULL || scan->flags == NULL || scan->code == NULL) {
        return HLT_ENOMEM;
    }
    place_rows(policy);
    return HLT_OK;
}

void hlt_scan_free(struct acl_scan *scan)
{
    free(scan->rule);
    free(scan->flags);
    free(scan->code);
}

/* ---- searching ---- */

/* The codes of a column that may fit: some single ones, perhaps those below zero, perhaps those of
 * texts. */
struct accepted {
    const int16_t *code; /* the column */
    int16_t one[ACCEPTED_MAX];
    uint32_t count;
    int16_t wild_below; /* INT16_MIN: none */
    bool texts;         /* all below CODE_DOLLAR: what + holds */
};

struct search {
    const struct request *request;
    struct accepted column[ACL_SCAN_COLUMNS];
    uint32_t columns;
    uint8_t access;
    bool deny;
    enum relation relation;
};

static void accept(struct accepted *column, int16_t code)
{
    column->one[column->count++] = code;
}

/* The variables of column `at` that may fit there. */
static void accept_slots(const struct search *search, uint32_t at, bool plus,
                         struct accepted *column)
{
    const struct request *request = search->request;
    uint64_t left = request->view->policy->scan.slots[at];

    for (uint8_t slot = 0; left != 0; slot++, left >>= 1) {
        bool any = search->deny && unusable(&request->view->bound[slot], at);

        if ((left & 1) == 0) {
            continue;
        }
        if (any || (plus ? search->relation == TOUCHES && hlt_request_usable(request, slot, at)
                         : variable_is(request, slot, at))) {
            accept(column, (int16_t)(CODE_SLOT + slot));
        }
    }
}

/* What may stand in column `at`, where the question has a level. */
static void accept_level(const struct search *search, uint32_t at, struct accepted *column)
{
    const struct request *request = search->request;
    const struct level *level = &request->level[at];

    if (at > 0 || !request->dollar) {
        column->wild_below = 0;
    }
    accept_slots(search, at, level->plus, column);
    if (level->plus && search->relation == TOUCHES) {
        column->texts = true;
    } else { /* a + is such a text, too: of a literal filter */
        accept(column, text_code(&level->key, at == 0 && request->dollar));
    }
}

/* What may stand in column `at` behind the question's levels. */
static void accept_behind(const struct search *search, uint32_t at, struct accepted *column)
{
    const struct request *request = search->request;

    accept(column, CODE_HASH);
    if (!request->tail || at >= request->literal_count || search->relation == TOUCHES) {
        accept(column, CODE_END);
    }
    if (request->tail && search->relation == TOUCHES) {
        column->wild_below = 0;
        accept_slots(search, at, true, column);
        column->texts = true;
    } else if (at < request->literal_count) { /* the # of a literal filter */
        accept(column, text_code(&request->level[at].key, false));
    }
}

/* The columns in the order they are worth looking at: texts narrow most, and the last ones more
 * than the first. */
static void begin(struct search *search, const struct request *request, uint8_t access, bool deny,
                  enum relation relation)
{
    const struct acl_scan *scan = &request->view->policy->scan;

    search->request = request;
    search->access = access;
    search->deny = deny;
    search->relation = relation;
    search->columns = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t at = scan->columns; at-- > 0;) {
            struct accepted *column = &search->column[search->columns];

            if ((at < request->count && !request->level[at].plus) != (pass == 0)) {
                continue;
            }
            column->code = scan->code + (size_t)at * scan->stride;
            column->count = 0;
            column->texts = false;
            column->wild_below = INT16_MIN;
            if (at < request->count) {
                accept_level(search, at, column);
            } else {
                accept_behind(search, at, column);
            }
            search->columns++;
        }
    }
}

/* Leave of the rows from `row` on in `fits`, ones or zeros for each, those that the column takes.
 * False if none is left. */
static bool narrow(const struct accepted *column, uint32_t row, uint16_t *restrict fits)
{
    const int16_t *restrict code = column->code + row;
    uint16_t taken[LANES];
    uint16_t left = 0;

    for (uint32_t i = 0; i < LANES; i++) {
        taken[i] = code[i] < column->wild_below ? UINT16_MAX : 0;
    }
    for (uint32_t i = 0; column->texts && i < LANES; i++) {
        taken[i] |= code[i] >= CODE_TEXT && code[i] < CODE_DOLLAR ? UINT16_MAX : 0;
    }
    for (uint32_t k = 0; k < column->count; k++) {
        int16_t one = column->one[k];

        for (uint32_t i = 0; i < LANES; i++) {
            taken[i] |= code[i] == one ? UINT16_MAX : 0;
        }
    }
    for (uint32_t i = 0; i < LANES; i++) {
        fits[i] &= taken[i];
        left |= fits[i];
    }
    return left != 0;
}

/* The rows of a block from `row` on that may be meant, a bit each. `unbound`: only such rules. */
static uint64_t block(const struct search *search, uint32_t row, uint32_t rows, bool unbound)
{
    const uint8_t *flags = search->request->view->policy->scan.flags + row;
    uint16_t fits[LANES];
    uint64_t bits = 0;

    memset(fits, 0xff, sizeof(fits));
    for (uint32_t c = 0; c < search->columns; c++) {
        if (!narrow(&search->column[c], row, fits)) {
            return 0;
        }
    }
    for (uint32_t i = 0; i < LANES && i < rows; i++) {
        bool meant = (flags[i] & search->access) != 0 && !(unbound && (flags[i] & BOUND) != 0);

        bits |= (uint64_t)(meant && fits[i] != 0) << i;
    }
    return bits;
}

/* The lowest of these rows of a section that is what was asked for, if it is lower than `*lowest`;
 * and whether all that allow bind %d. */
static void search_rows(const struct search *search, uint32_t first, uint32_t count,
                        uint32_t *lowest, bool *all_bound)
{
    const struct acl_scan *scan = &search->request->view->policy->scan;
    bool found = false; /* in these rows; only those that bind nothing can count from there on */

    for (uint32_t row = 0; row < count && (!found || *all_bound); row += LANES) {
        uint64_t bits = block(search, first + row, count - row, found);

        for (; bits != 0 && (!found || *all_bound); bits &= bits - 1) {
            uint32_t at = first + row + (uint32_t)__builtin_ctzll(bits);
            uint32_t rule = scan->rule[at];
            bool bound = (scan->flags[at] & BOUND) != 0;

            found |= rule > *lowest; /* so are all behind it */
            if ((found && (bound || !*all_bound)) ||
                !hlt_request_meets(search->request, rule, search->relation)) {
                continue;
            }
            *lowest = rule < *lowest ? rule : *lowest;
            *all_bound &= bound;
            found = true;
        }
    }
}

static void search_sections(const struct search *search, uint32_t *lowest, bool *all_bound)
{
    const struct request *request = search->request;

    for (uint32_t s = 0; s < request->section_count; s++) {
        const struct acl_section *section = &request->view->policy->sections[request->sections[s]];

        if (search->deny) {
            bool bound = false; /* nobody asks whether a denial binds */

            search_rows(search, section->first_deny, section->deny_count, lowest, &bound);
        } else {
            search_rows(search, section->first_allow, section->allow_count, lowest, all_bound);
        }
    }
}

void hlt_scan_allow(const struct request *request, uint8_t access, enum relation relation,
                    struct found *found)
{
    struct search search;

    begin(&search, request, access, false, relation);
    search_sections(&search, &found->allow, &found->all_bound);
}

void hlt_scan_ask(const struct request *request, uint8_t access, enum relation relation,
                  struct found *found)
{
    struct search search;

    begin(&search, request, access, true, relation);
    search_sections(&search, &found->deny, &found->all_bound);
    hlt_scan_allow(request, access, relation, found);
}
