/* shadow.c - rows of differing decisions, found by a hash of what makes them differ. */
#include "shadow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "jsondoc.h"
#include "text.h"

#define DIGEST_BYTES 17
#define FIRST_SPACE 64
#define REST_NAME "" /* stands for devices without a row of their own */

struct row {
    char *who, *topic, *active_text, *shadow_text; /* texts NULL: no rule */
    uint64_t hash, count;
    int64_t first_ms, last_ms;
    uint32_t active_rule, shadow_rule;
    uint32_t dirty_next; /* a stack; HLT_SHADOW_NONE ends */
    bool allowed, dirty;
    char access[12];
};

struct hlt_shadow {
    struct row *row;
    uint32_t *slot; /* open addressing, row + 1; 0: free; at least twice as many as rows */
    uint32_t count, space, rows_max, slots;
    uint32_t rest_rows;
    uint32_t stored_rows; /* while it is read back: those the head speaks of */
    uint32_t dirty;       /* the first row this round has to write */
    uint32_t changed;     /* the first row that waits for the next round */
    uint32_t round_rows;  /* when this one began */
    bool head_dirty;
    struct hlt_hash_key key;
    char active[DIGEST_BYTES], compared[DIGEST_BYTES]; /* "": nothing is compared */
    int64_t since_ms;
    struct hlt_shadow_totals totals;
};

struct hlt_shadow *hlt_shadow_new(uint32_t rows_max)
{
    struct hlt_shadow *shadow = calloc(1, sizeof(*shadow));

    if (shadow == NULL || hlt_hash_key_init(&shadow->key) != 0) {
        free(shadow);
        return NULL;
    }
    shadow->rows_max = rows_max;
    shadow->dirty = shadow->changed = HLT_SHADOW_NONE;
    return shadow;
}

static void drop_rows(struct hlt_shadow *shadow)
{
    for (uint32_t i = 0; i < shadow->count; i++) {
        free(shadow->row[i].who);
        free(shadow->row[i].topic);
        free(shadow->row[i].active_text);
        free(shadow->row[i].shadow_text);
    }
    free(shadow->row);
    free(shadow->slot);
    shadow->row = NULL;
    shadow->slot = NULL;
    shadow->count = shadow->space = shadow->slots = shadow->rest_rows = 0;
    shadow->dirty = shadow->changed = HLT_SHADOW_NONE;
    shadow->round_rows = 0;
    shadow->totals = (struct hlt_shadow_totals){0};
}

void hlt_shadow_free(struct hlt_shadow *shadow)
{
    if (shadow != NULL) {
        drop_rows(shadow);
        free(shadow);
    }
}

void hlt_shadow_begin(struct hlt_shadow *shadow, const char *active_digest,
                      const char *shadow_digest, int64_t wall_ms)
{
    bool wanted = shadow_digest != NULL;

    if (!wanted && shadow->compared[0] == '\0') {
        return;
    }
    if (wanted && strcmp(shadow->active, active_digest) == 0 &&
        strcmp(shadow->compared, shadow_digest) == 0) {
        return;
    }
    drop_rows(shadow);
    (void)snprintf(shadow->active, sizeof(shadow->active), "%s", wanted ? active_digest : "");
    (void)snprintf(shadow->compared, sizeof(shadow->compared), "%s", wanted ? shadow_digest : "");
    shadow->since_ms = wall_ms;
    shadow->head_dirty = true;
}

/* --- finding --- */

static uint64_t hash_of(const struct hlt_shadow *shadow, const struct hlt_shadow_case *what)
{
    char packed[320];
    int len = snprintf(packed, sizeof(packed), "%x %x %d %s %s", what->active_rule,
                       what->shadow_rule, what->allowed, what->access, what->who);

    return hlt_hash(&shadow->key, packed,
                    len < (int)sizeof(packed) ? (size_t)len : sizeof(packed) - 1);
}

static bool row_is(const struct row *row, uint64_t hash, const struct hlt_shadow_case *what)
{
    return row->hash == hash && row->active_rule == what->active_rule &&
           row->shadow_rule == what->shadow_rule && row->allowed == what->allowed &&
           strcmp(row->access, what->access) == 0 && strcmp(row->who, what->who) == 0;
}

static uint32_t find(const struct hlt_shadow *shadow, uint64_t hash,
                     const struct hlt_shadow_case *what)
{
    for (uint32_t i = 0; i < shadow->slots; i++) {
        uint32_t row = shadow->slot[(hash + i) & (shadow->slots - 1)];

        if (row == 0) {
            break;
        }
        if (row_is(&shadow->row[row - 1], hash, what)) {
            return row - 1;
        }
    }
    return HLT_SHADOW_NONE;
}

static bool full(const struct hlt_shadow *shadow)
{
    return shadow->count - shadow->rest_rows >= shadow->rows_max;
}

uint32_t hlt_shadow_find(const struct hlt_shadow *shadow, const struct hlt_shadow_case *what)
{
    uint32_t row = find(shadow, hash_of(shadow, what), what);

    if (row == HLT_SHADOW_NONE && full(shadow)) {
        struct hlt_shadow_case rest = *what;

        rest.who = REST_NAME;
        row = find(shadow, hash_of(shadow, &rest), &rest);
    }
    return row;
}

static void place(struct hlt_shadow *shadow, uint32_t row)
{
    uint64_t at = shadow->row[row].hash;

    while (shadow->slot[at & (shadow->slots - 1)] != 0) {
        at++;
    }
    shadow->slot[at & (shadow->slots - 1)] = row + 1;
}

static bool grow(struct hlt_shadow *shadow)
{
    uint32_t space = shadow->space == 0 ? FIRST_SPACE : shadow->space * 2;
    struct row *rows = realloc(shadow->row, space * sizeof(*rows));
    uint32_t *slots;

    if (rows == NULL) {
        return false;
    }
    shadow->row = rows;
    slots = calloc((size_t)space * 2, sizeof(*slots));
    if (slots == NULL) {
        return false;
    }
    free(shadow->slot);
    shadow->slot = slots;
    shadow->slots = space * 2;
    shadow->space = space;
    for (uint32_t i = 0; i < shadow->count; i++) {
        place(shadow, i);
    }
    return true;
}

/* --- counting --- */

static void mark(struct hlt_shadow *shadow, uint32_t index)
{
    struct row *row = &shadow->row[index];

    if (!row->dirty) {
        row->dirty = true;
        row->dirty_next = shadow->changed;
        shadow->changed = index;
    }
    shadow->head_dirty = true;
}

static char *copy_text(const char *text)
{
    char shown[512];

    if (text == NULL) {
        return NULL;
    }
    (void)hlt_printable(shown, sizeof(shown), text, strlen(text));
    return strdup(shown);
}

static uint32_t add_row(struct hlt_shadow *shadow, const struct hlt_shadow_case *what,
                        int64_t wall_ms)
{
    char topic[HLT_SHADOW_TOPIC];
    struct row row = {.hash = hash_of(shadow, what),
                      .first_ms = wall_ms,
                      .last_ms = wall_ms,
                      .active_rule = what->active_rule,
                      .shadow_rule = what->shadow_rule,
                      .allowed = what->allowed};

    if (shadow->count == shadow->space && !grow(shadow)) {
        return HLT_SHADOW_NONE;
    }
    (void)hlt_printable(topic, sizeof(topic), what->topic, strlen(what->topic));
    (void)snprintf(row.access, sizeof(row.access), "%s", what->access);
    row.who = strdup(what->who);
    row.topic = strdup(topic);
    row.active_text = copy_text(what->active_text);
    row.shadow_text = copy_text(what->shadow_text);
    if (row.who == NULL || row.topic == NULL ||
        (row.active_text == NULL && what->active_text != NULL) ||
        (row.shadow_text == NULL && what->shadow_text != NULL)) {
        free(row.who);
        free(row.topic);
        free(row.active_text);
        free(row.shadow_text);
        return HLT_SHADOW_NONE;
    }
    shadow->row[shadow->count] = row;
    place(shadow, shadow->count);
    mark(shadow, shadow->count);
    shadow->rest_rows += strcmp(what->who, REST_NAME) == 0;
    shadow->totals.rows = shadow->count + 1;
    return shadow->count++;
}

uint32_t hlt_shadow_add(struct hlt_shadow *shadow, const struct hlt_shadow_case *what,
                        int64_t wall_ms)
{
    struct hlt_shadow_case rest = *what;

    if (!full(shadow)) {
        return add_row(shadow, what, wall_ms);
    }
    rest.who = REST_NAME;
    return shadow->rest_rows < HLT_SHADOW_REST_MAX ? add_row(shadow, &rest, wall_ms)
                                                   : HLT_SHADOW_NONE;
}

void hlt_shadow_count(struct hlt_shadow *shadow, uint32_t index, bool allowed, int64_t wall_ms)
{
    shadow->totals.checked++;
    *(allowed ? &shadow->totals.would_deny : &shadow->totals.would_allow) += 1;
    shadow->head_dirty = true;
    if (index >= shadow->count) {
        shadow->totals.rest++;
        return;
    }
    struct row *row = &shadow->row[index];
    row->count++;
    row->last_ms = wall_ms;
    shadow->totals.rest += row->who[0] == '\0';
    mark(shadow, index);
}

void hlt_shadow_agree(struct hlt_shadow *shadow)
{
    shadow->totals.checked++;
    shadow->head_dirty = true;
}

void hlt_shadow_totals(const struct hlt_shadow *shadow, struct hlt_shadow_totals *out)
{
    *out = shadow->totals;
}

/* --- written down and read back --- */

static void add_number(cJSON *root, const char *name, uint64_t number)
{
    cJSON_AddNumberToObject(root, name, (double)number);
}

static char *head_text(const struct hlt_shadow *shadow)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "active", shadow->active);
    cJSON_AddStringToObject(root, "shadow", shadow->compared);
    add_number(root, "since", (uint64_t)shadow->since_ms);
    add_number(root, "checked", shadow->totals.checked);
    add_number(root, "wouldDeny", shadow->totals.would_deny);
    add_number(root, "wouldAllow", shadow->totals.would_allow);
    add_number(root, "rest", shadow->totals.rest);
    add_number(root, "rows", shadow->round_rows);
    return hlt_jsondoc_print(root);
}

/* Rows of other policies may still lie behind the last one: each says whose it is. */
static char *row_text(const struct hlt_shadow *shadow, const struct row *row)
{
    cJSON *root = cJSON_CreateObject();

    cJSON_AddStringToObject(root, "active", shadow->active);
    cJSON_AddStringToObject(root, "shadow", shadow->compared);
    cJSON_AddStringToObject(root, "who", row->who);
    cJSON_AddStringToObject(root, "access", row->access);
    cJSON_AddStringToObject(root, "topic", row->topic);
    cJSON_AddBoolToObject(root, "allowed", row->allowed);
    add_number(root, "activeRule", row->active_rule);
    add_number(root, "shadowRule", row->shadow_rule);
    if (row->active_text != NULL) {
        cJSON_AddStringToObject(root, "activeText", row->active_text);
    }
    if (row->shadow_text != NULL) {
        cJSON_AddStringToObject(root, "shadowText", row->shadow_text);
    }
    add_number(root, "count", row->count);
    add_number(root, "first", (uint64_t)row->first_ms);
    add_number(root, "last", (uint64_t)row->last_ms);
    return hlt_jsondoc_print(root);
}

void hlt_shadow_round(struct hlt_shadow *shadow)
{
    shadow->head_dirty = shadow->head_dirty || shadow->changed != HLT_SHADOW_NONE;
    shadow->round_rows = shadow->count;
    if (shadow->dirty == HLT_SHADOW_NONE) {
        shadow->dirty = shadow->changed;
        shadow->changed = HLT_SHADOW_NONE;
    }
    while (shadow->changed != HLT_SHADOW_NONE) { /* the round before was not finished: a stop */
        struct row *row = &shadow->row[shadow->changed];
        uint32_t next = row->dirty_next;

        row->dirty_next = shadow->dirty;
        shadow->dirty = shadow->changed;
        shadow->changed = next;
    }
}

bool hlt_shadow_dirty(const struct hlt_shadow *shadow, char key[24], char **text)
{
    if (shadow->dirty != HLT_SHADOW_NONE) {
        (void)snprintf(key, 24, HLT_SHADOW_ROW_KEY, shadow->dirty);
        *text = row_text(shadow, &shadow->row[shadow->dirty]);
        return true;
    }
    if (shadow->head_dirty) { /* last, so that it never speaks of rows that are not there */
        (void)snprintf(key, 24, HLT_SHADOW_KEY);
        *text = shadow->compared[0] != '\0' ? head_text(shadow) : NULL;
        return true;
    }
    return false;
}

void hlt_shadow_written(struct hlt_shadow *shadow)
{
    if (shadow->dirty != HLT_SHADOW_NONE) {
        struct row *row = &shadow->row[shadow->dirty];

        shadow->dirty = row->dirty_next;
        row->dirty = false;
    } else {
        shadow->head_dirty = false;
    }
}

static bool restore_head(struct hlt_shadow *shadow, const cJSON *root)
{
    const char *active = hlt_jsondoc_text(root, "active"),
               *compared = hlt_jsondoc_text(root, "shadow");
    struct hlt_shadow_totals totals = {0};
    uint64_t since = 0, rows = 0;

    if (active == NULL || compared == NULL || strlen(active) >= DIGEST_BYTES ||
        strlen(compared) >= DIGEST_BYTES ||
        !hlt_jsondoc_whole(root, "since", HLT_JSONDOC_WHOLE_MAX, &since) ||
        !hlt_jsondoc_whole(root, "checked", HLT_JSONDOC_WHOLE_MAX, &totals.checked) ||
        !hlt_jsondoc_whole(root, "wouldDeny", HLT_JSONDOC_WHOLE_MAX, &totals.would_deny) ||
        !hlt_jsondoc_whole(root, "wouldAllow", HLT_JSONDOC_WHOLE_MAX, &totals.would_allow) ||
        !hlt_jsondoc_whole(root, "rest", HLT_JSONDOC_WHOLE_MAX, &totals.rest) ||
        !hlt_jsondoc_whole(root, "rows", UINT32_MAX, &rows)) {
        return false;
    }
    drop_rows(shadow);
    shadow->stored_rows = (uint32_t)rows;
    memcpy(shadow->active, active, strlen(active) + 1);
    memcpy(shadow->compared, compared, strlen(compared) + 1);
    shadow->since_ms = (int64_t)since;
    shadow->totals = totals;
    return true;
}

static bool restore_row(struct hlt_shadow *shadow, const cJSON *root, bool wanted)
{
    const char *active = hlt_jsondoc_text(root, "active"),
               *compared = hlt_jsondoc_text(root, "shadow");
    uint64_t active_rule = 0, shadow_rule = 0, count = 0, first = 0, last = 0;
    struct hlt_shadow_case what = {
        .who = hlt_jsondoc_text(root, "who"),
        .access = hlt_jsondoc_text(root, "access"),
        .topic = hlt_jsondoc_text(root, "topic"),
        .allowed = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(root, "allowed")),
        .active_text = hlt_jsondoc_text(root, "activeText"),
        .shadow_text = hlt_jsondoc_text(root, "shadowText"),
    };

    if (active == NULL || compared == NULL || what.who == NULL || what.access == NULL ||
        what.topic == NULL || !hlt_jsondoc_whole(root, "activeRule", UINT32_MAX, &active_rule) ||
        !hlt_jsondoc_whole(root, "shadowRule", UINT32_MAX, &shadow_rule) ||
        !hlt_jsondoc_whole(root, "count", HLT_JSONDOC_WHOLE_MAX, &count) ||
        !hlt_jsondoc_whole(root, "first", HLT_JSONDOC_WHOLE_MAX, &first) ||
        !hlt_jsondoc_whole(root, "last", HLT_JSONDOC_WHOLE_MAX, &last)) {
        return false;
    }
    if (!wanted || strcmp(active, shadow->active) != 0 || strcmp(compared, shadow->compared) != 0) {
        return true; /* of policies before these */
    }
    what.active_rule = (uint32_t)active_rule;
    what.shadow_rule = (uint32_t)shadow_rule;
    uint32_t index = hlt_shadow_find(shadow, &what);
    if (index == HLT_SHADOW_NONE) {
        index = hlt_shadow_add(shadow, &what, (int64_t)first);
    }
    if (index != HLT_SHADOW_NONE) {
        shadow->row[index].count += count;
        shadow->row[index].last_ms = (int64_t)last;
    }
    return true;
}

/* Whether the head speaks of this row. Behind its last one lie rows of before: of other policies,
 * or of these two when there were more of them. */
static bool row_is_stored(const struct hlt_shadow *shadow, const char *key, size_t key_len)
{
    const size_t prefix = strlen(HLT_SHADOW_KEY ":");
    char digits[24] = "";

    if (key_len <= prefix || key_len - prefix >= sizeof(digits)) {
        return false;
    }
    memcpy(digits, key + prefix, key_len - prefix);
    return strtoul(digits, NULL, 10) < shadow->stored_rows;
}

bool hlt_shadow_restore(struct hlt_shadow *shadow, const char *key, size_t key_len,
                        const char *text, size_t len)
{
    cJSON *root = cJSON_ParseWithLength(text, len);
    bool good =
        root != NULL && (key_len == strlen(HLT_SHADOW_KEY)
                             ? restore_head(shadow, root)
                             : restore_row(shadow, root, row_is_stored(shadow, key, key_len)));

    cJSON_Delete(root);
    return good;
}
