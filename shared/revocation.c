/* revocation.c - the table of barred tokens: hashed by (kind, id), listed by age for the sweep. */
#include "revocation.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define BUCKETS_MIN 64u

struct hlt_revoke_entry {
    struct hlt_revoke_entry *next; /* in its bucket */
    struct hlt_revoke_entry *older, *newer;
    struct hlt_revoke_entry *next_dirty;
    int64_t before_s, created_ms, expires_ms;
    uint64_t order;
    size_t id_len, reason_len;
    uint8_t kind;
    bool dirty, removed;
    char text[]; /* id, NUL, reason, NUL, by, NUL */
};

static uint64_t hash_of(const struct hlt_revocations *table, enum hlt_revoke_kind kind,
                        const char *id, size_t len)
{
    /* The kind turns the hash, so that a jti and a sub of the same text do not share a bucket. */
    return hlt_hash(&table->key, id, len) + (uint64_t)kind * UINT64_C(0x9E3779B97F4A7C15);
}

static struct hlt_revoke_entry **place_of(const struct hlt_revocations *table,
                                          enum hlt_revoke_kind kind, const char *id, size_t len)
{
    struct hlt_revoke_entry **link = &table->bucket[hash_of(table, kind, id, len) & table->mask];

    while (*link != NULL && ((*link)->kind != kind || (*link)->id_len != len ||
                             memcmp((*link)->text, id, len) != 0)) {
        link = &(*link)->next;
    }
    return link;
}

static void shown(const struct hlt_revoke_entry *entry, struct hlt_revocation *out)
{
    *out = (struct hlt_revocation){
        .kind = (enum hlt_revoke_kind)entry->kind,
        .id = entry->text,
        .before_s = entry->before_s,
        .created_ms = entry->created_ms,
        .expires_ms = entry->expires_ms,
        .reason = entry->text + entry->id_len + 1,
        .by = entry->text + entry->id_len + 1 + entry->reason_len + 1,
        .order = entry->order,
    };
}

/* --- life --- */

enum hlt_rc hlt_revocations_init(struct hlt_revocations *table, uint32_t max, bool kept)
{
    uint64_t buckets = BUCKETS_MIN;

    memset(table, 0, sizeof(*table));
    while (buckets < max) {
        buckets *= 2;
    }
    table->max = max;
    table->kept = kept;
    table->mask = buckets - 1;
    table->dirty_tail = &table->dirty;
    table->generation = 1; /* 0 is "never looked" in a session */
    table->bucket = calloc(buckets, sizeof(struct hlt_revoke_entry *));
    return table->bucket != NULL && hlt_hash_key_init(&table->key) == 0 ? HLT_OK : HLT_ENOMEM;
}

void hlt_revocations_free(struct hlt_revocations *table)
{
    for (struct hlt_revoke_entry *entry = table->oldest, *newer; entry != NULL; entry = newer) {
        newer = entry->newer;
        free(entry);
    }
    free(table->bucket);
    memset(table, 0, sizeof(*table));
}

static void list_append(struct hlt_revocations *table, struct hlt_revoke_entry *entry)
{
    entry->order = ++table->order;
    entry->older = table->newest;
    if (table->newest != NULL) {
        table->newest->newer = entry;
    } else {
        table->oldest = entry;
    }
    table->newest = entry;
    table->held++;
}

/* Out of every list but the dirty one. */
static void forget(struct hlt_revocations *table, struct hlt_revoke_entry *entry)
{
    struct hlt_revoke_entry **link =
        place_of(table, (enum hlt_revoke_kind)entry->kind, entry->text, entry->id_len);

    *link = entry->next;
    if (entry->older != NULL) {
        entry->older->newer = entry->newer;
    } else {
        table->oldest = entry->newer;
    }
    if (entry->newer != NULL) {
        entry->newer->older = entry->older;
    } else {
        table->newest = entry->older;
    }
    if (table->cursor == entry) {
        table->cursor = entry->newer;
    }
    table->held--;
    free(entry);
}

static void mark_dirty(struct hlt_revocations *table, struct hlt_revoke_entry *entry)
{
    if (table->kept && !entry->dirty) {
        entry->dirty = true;
        entry->next_dirty = NULL;
        *table->dirty_tail = entry;
        table->dirty_tail = &entry->next_dirty;
    }
}

/* --- changing --- */

enum hlt_rc hlt_revocation_check(const struct hlt_revocation *revocation, struct hlt_err *err)
{
    size_t len = revocation->id != NULL ? strlen(revocation->id) : 0;

    if (revocation->kind < HLT_REVOKE_JTI || revocation->kind > HLT_REVOKE_BEFORE) {
        return hlt_fail(err, HLT_EINVAL, "say what to revoke: a jti, a sub or a kid");
    }
    if (len == 0 || len > HLT_REVOKE_ID_MAX || !hlt_utf8_valid(revocation->id, len)) {
        return hlt_fail(err, HLT_EINVAL,
                        "%s must be 1 to %d bytes of UTF-8; a token with a longer jti is revoked "
                        "by its sub",
                        hlt_revoke_kind_word(revocation->kind), HLT_REVOKE_ID_MAX);
    }
    if (hlt_token_shaped(revocation->id, len)) {
        return hlt_fail(err, HLT_EINVAL,
                        "that is a token, and tokens are not kept: give its jti or sub, which "
                        "`haltere token show` prints");
    }
    if (revocation->kind == HLT_REVOKE_BEFORE &&
        (revocation->before_s <= 0 || revocation->before_s > INT64_MAX / 2000)) {
        return hlt_fail(err, HLT_EINVAL, "issuedBefore is not a date after 1970");
    }
    return HLT_OK;
}

static enum hlt_rc add_new(struct hlt_revocations *table, const struct hlt_revocation *revocation,
                           struct hlt_revoke_entry **link, bool saved, struct hlt_err *err)
{
    const char *reason = revocation->reason != NULL ? revocation->reason : "";
    const char *by = revocation->by != NULL ? revocation->by : "";
    size_t id_len = strlen(revocation->id);
    size_t reason_len = strnlen(reason, HLT_REVOKE_REASON_MAX);
    size_t by_len = strnlen(by, HLT_ID_MAX);

    if (table->held >= table->max) {
        return hlt_fail(err, HLT_EFULL,
                        "max_revocations (%u) are in force: raise the option, or revoke the key "
                        "(kid) or the subject's tokens issued before a date instead of single ones",
                        (unsigned)table->max);
    }
    struct hlt_revoke_entry *entry = calloc(1, sizeof(*entry) + id_len + reason_len + by_len + 3);
    if (entry == NULL) {
        return hlt_fail(err, HLT_ENOMEM, "no memory for a revocation");
    }
    entry->kind = (uint8_t)revocation->kind;
    entry->id_len = id_len;
    entry->reason_len = reason_len;
    entry->before_s = revocation->before_s;
    entry->created_ms = revocation->created_ms;
    entry->expires_ms = revocation->expires_ms;
    memcpy(entry->text, revocation->id, id_len);
    memcpy(entry->text + id_len + 1, reason, reason_len);
    memcpy(entry->text + id_len + 1 + reason_len + 1, by, by_len);
    *link = entry;
    list_append(table, entry);
    table->count[0]++;
    table->count[entry->kind]++;
    table->generation++;
    if (!saved) {
        mark_dirty(table, entry);
    }
    return HLT_OK;
}

enum hlt_rc hlt_revocations_add(struct hlt_revocations *table,
                                const struct hlt_revocation *revocation, bool saved,
                                struct hlt_err *err)
{
    enum hlt_rc rc = hlt_revocation_check(revocation, err);

    if (rc != HLT_OK) {
        return rc;
    }
    struct hlt_revoke_entry **link =
        place_of(table, revocation->kind, revocation->id, strlen(revocation->id));
    struct hlt_revoke_entry *entry = *link;
    if (entry == NULL) {
        return add_new(table, revocation, link, saved, err);
    }
    if (entry->removed) { /* its deletion waits for the store: it is taken back */
        entry->removed = false;
        entry->before_s = 0;
        entry->created_ms = revocation->created_ms;
        entry->expires_ms = 0;
        table->count[0]++;
        table->count[entry->kind]++;
    }
    if (revocation->before_s > entry->before_s) {
        entry->before_s = revocation->before_s;
    }
    if (revocation->expires_ms > entry->expires_ms) {
        entry->expires_ms = revocation->expires_ms;
    }
    table->generation++;
    mark_dirty(table, entry);
    return HLT_OK;
}

static void remove_entry(struct hlt_revocations *table, struct hlt_revoke_entry *entry)
{
    entry->removed = true;
    table->count[0]--;
    table->count[entry->kind]--;
    table->generation++;
    if (table->kept) {
        mark_dirty(table, entry);
    } else {
        forget(table, entry);
    }
}

bool hlt_revocations_remove(struct hlt_revocations *table, enum hlt_revoke_kind kind,
                            const char *id)
{
    struct hlt_revoke_entry *entry = *place_of(table, kind, id, strlen(id));

    if (entry == NULL || entry->removed) {
        return false;
    }
    remove_entry(table, entry);
    return true;
}

void hlt_revocations_sweep(struct hlt_revocations *table, int64_t wall_ms, unsigned budget)
{
    while (budget-- > 0 && table->oldest != NULL) {
        struct hlt_revoke_entry *entry = table->cursor != NULL ? table->cursor : table->oldest;

        table->cursor = entry->newer;
        if (!entry->removed && wall_ms >= entry->expires_ms) {
            remove_entry(table, entry);
        }
        if (table->cursor == NULL) {
            return; /* once through: the next call begins again */
        }
    }
}

/* --- asking --- */

static const struct hlt_revoke_entry *find_in_force(const struct hlt_revocations *table,
                                                    enum hlt_revoke_kind kind, const char *id,
                                                    size_t len, int64_t wall_ms)
{
    if (table->count[kind] == 0 || len == 0) {
        return NULL;
    }
    const struct hlt_revoke_entry *entry = *place_of(table, kind, id, len);
    return entry != NULL && !entry->removed && wall_ms < entry->expires_ms ? entry : NULL;
}

bool hlt_revocations_bar(const struct hlt_revocations *table, const struct hlt_claims *claims,
                         int64_t wall_ms, struct hlt_revocation *out)
{
    const struct hlt_revoke_entry *entry = NULL;

    if (table->count[0] == 0) {
        return false;
    }
    entry = find_in_force(table, HLT_REVOKE_SUB, claims->sub, claims->sub_len, wall_ms);
    if (entry == NULL) {
        entry = find_in_force(table, HLT_REVOKE_BEFORE, claims->sub, claims->sub_len, wall_ms);
        if (entry != NULL && claims->has_iat && claims->iat_s >= entry->before_s) {
            entry = NULL;
        }
    }
    if (entry == NULL) {
        entry = find_in_force(table, HLT_REVOKE_JTI, claims->jti, strlen(claims->jti), wall_ms);
    }
    if (entry == NULL) {
        entry = find_in_force(table, HLT_REVOKE_KID, claims->kid, strlen(claims->kid), wall_ms);
    }
    if (entry != NULL && out != NULL) {
        shown(entry, out);
    }
    return entry != NULL;
}

void hlt_revocations_each(const struct hlt_revocations *table, hlt_revocations_each_fn *each,
                          void *context)
{
    struct hlt_revocation revocation;

    for (const struct hlt_revoke_entry *entry = table->oldest; entry != NULL;
         entry = entry->newer) {
        shown(entry, &revocation);
        if (!entry->removed && !each(context, &revocation)) {
            return;
        }
    }
}

static void add_date(cJSON *object, const char *name, int64_t unix_ms)
{
    char date[HLT_DATE_BYTES];

    hlt_date_format(unix_ms, date);
    (void)cJSON_AddStringToObject(object, name, date);
}

struct cJSON *hlt_revocation_json(const struct hlt_revocation *revocation)
{
    bool before = revocation->kind == HLT_REVOKE_BEFORE;
    cJSON *json = cJSON_CreateObject();

    (void)cJSON_AddStringToObject(json, before ? "sub" : hlt_revoke_kind_word(revocation->kind),
                                  revocation->id);
    if (before) {
        add_date(json, "issuedBefore", revocation->before_s * 1000);
    }
    add_date(json, "created", revocation->created_ms);
    if (revocation->expires_ms != INT64_MAX) {
        add_date(json, "expires", revocation->expires_ms);
    }
    if (revocation->reason[0] != '\0') {
        (void)cJSON_AddStringToObject(json, "reason", revocation->reason);
    }
    if (revocation->by[0] != '\0') {
        (void)cJSON_AddStringToObject(json, "by", revocation->by);
    }
    return json;
}

/* --- the store --- */

bool hlt_revocations_unsaved(const struct hlt_revocations *table, struct hlt_revocation *out,
                             bool *removed)
{
    if (table->dirty == NULL) {
        return false;
    }
    shown(table->dirty, out);
    *removed = table->dirty->removed;
    return true;
}

void hlt_revocations_saved(struct hlt_revocations *table)
{
    struct hlt_revoke_entry *entry = table->dirty;

    table->dirty = entry->next_dirty;
    if (table->dirty == NULL) {
        table->dirty_tail = &table->dirty;
    }
    entry->dirty = false;
    if (entry->removed) {
        forget(table, entry);
    }
}

size_t hlt_revocation_key(const struct hlt_revocation *revocation, uint8_t *key)
{
    size_t len = strlen(revocation->id);

    key[0] = (uint8_t)revocation->kind;
    memcpy(key + 1, revocation->id, len);
    return len + 1;
}

size_t hlt_revocation_write(const struct hlt_revocation *revocation, uint8_t *out)
{
    struct hlt_revocation_record record = {
        .before_s = revocation->before_s,
        .created_ms = revocation->created_ms,
        .expires_ms = revocation->expires_ms,
    };

    strncpy(record.reason, revocation->reason != NULL ? revocation->reason : "",
            sizeof(record.reason) - 1);
    strncpy(record.by, revocation->by != NULL ? revocation->by : "", sizeof(record.by) - 1);
    return hlt_revocation_record_write(&record, out);
}

enum hlt_rc hlt_revocation_read(struct hlt_revocation *out, char *id,
                                struct hlt_revocation_record *record, const void *key,
                                size_t key_len, const void *value, size_t len)
{
    const uint8_t *bytes = key;

    if (key_len < 2 || key_len > HLT_REVOKE_KEY_MAX || memchr(bytes + 1, 0, key_len - 1) != NULL ||
        hlt_revocation_record_read(record, value, len) != HLT_OK) {
        return HLT_EPARSE;
    }
    memcpy(id, bytes + 1, key_len - 1);
    id[key_len - 1] = '\0';
    *out = (struct hlt_revocation){
        .kind = (enum hlt_revoke_kind)bytes[0],
        .id = id,
        .before_s = record->before_s,
        .created_ms = record->created_ms,
        .expires_ms = record->expires_ms,
        .reason = record->reason,
        .by = record->by,
    };
    return hlt_revocation_check(out, NULL) == HLT_OK ? HLT_OK : HLT_EPARSE;
}

int64_t hlt_revocation_end(const struct hlt_revocation *revocation, int64_t max_lifetime_s,
                           int64_t leeway_s)
{
    int64_t from_ms = revocation->created_ms;

    if (max_lifetime_s == 0) {
        return INT64_MAX;
    }
    if (revocation->kind == HLT_REVOKE_BEFORE && revocation->before_s * 1000 > from_ms) {
        from_ms = revocation->before_s * 1000;
    }
    /* iat may lie in the future by the leeway, and exp in the past. */
    return from_ms + (max_lifetime_s + 2 * leeway_s) * 1000;
}
