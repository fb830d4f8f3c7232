/* ban.c - the table of bans: chained hash, a flat list to sweep, a queue of the automatic ones. */
#include "ban.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 32768u
_Static_assert(BUCKETS > HLT_BANS_MAX && (BUCKETS & (BUCKETS - 1)) == 0, "short chains, by a mask");

static const char *const kinds[HLT_BAN_KINDS] = {
    [HLT_BAN_ADDRESS] = "address", [HLT_BAN_DEVICE] = "device", [HLT_BAN_LOGIN] = "login"};

const char *hlt_ban_kind_word(unsigned kind)
{
    return kind < HLT_BAN_KINDS ? kinds[kind] : "unknown";
}

/* --- words and bytes --- */

size_t hlt_ban_key(const struct hlt_ban_subject *subject, char out[HLT_BAN_KEY_MAX])
{
    char address[HLT_ADDRESS_TEXT] = "";
    bool both = subject->kind == HLT_BAN_LOGIN;

    if (subject->kind != HLT_BAN_DEVICE) {
        hlt_address_format(&subject->address, address);
    }
    int len = snprintf(out, HLT_BAN_KEY_MAX, "%s %s%s%s", hlt_ban_kind_word(subject->kind), address,
                       both ? " " : "", subject->kind != HLT_BAN_ADDRESS ? subject->id : "");
    return len > 0 ? (size_t)len : 0;
}

/* An address as a person or hlt_address_format() writes it. */
static bool read_address(struct hlt_address *out, const char *text)
{
    char copy[HLT_ADDRESS_TEXT];
    size_t len = strlen(text);

    if (len >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text, len + 1);
    bool network = len > 3 && strcmp(copy + len - 3, "/64") == 0;
    if (network) {
        copy[len - 3] = '\0';
    }
    return hlt_address_parse(out, copy) && (!network || out->family == 6);
}

bool hlt_ban_key_parse(struct hlt_ban_subject *out, const char *key, size_t len)
{
    char text[HLT_BAN_KEY_MAX];
    unsigned kind = 0;

    *out = (struct hlt_ban_subject){0};
    if (len >= sizeof(text) || memchr(key, '\0', len) != NULL) {
        return false;
    }
    memcpy(text, key, len);
    text[len] = '\0';
    char *rest = strchr(text, ' ');
    if (rest == NULL) {
        return false;
    }
    *rest++ = '\0';
    while (kind < HLT_BAN_KINDS && strcmp(kinds[kind], text) != 0) {
        kind++;
    }
    char *id = kind == HLT_BAN_LOGIN ? strchr(rest, ' ') : kind == HLT_BAN_DEVICE ? rest : NULL;
    if (kind == HLT_BAN_KINDS || (kind == HLT_BAN_LOGIN && id == NULL)) {
        return false;
    }
    if (kind == HLT_BAN_LOGIN) {
        *id++ = '\0';
    }
    out->kind = (enum hlt_ban_kind)kind;
    if (kind != HLT_BAN_DEVICE && !read_address(&out->address, rest)) {
        return false;
    }
    if (id == NULL) {
        return true;
    }
    if (!hlt_id_valid(id, strlen(id), NULL)) {
        return false;
    }
    memcpy(out->id, id, strlen(id) + 1);
    return true;
}

struct cJSON *hlt_ban_json(const struct hlt_ban *ban)
{
    char address[HLT_ADDRESS_TEXT], date[HLT_DATE_BYTES];
    const struct hlt_ban_subject *subject = &ban->subject;
    cJSON *json = cJSON_CreateObject();

    (void)cJSON_AddStringToObject(json, "kind", hlt_ban_kind_word(subject->kind));
    if (subject->kind != HLT_BAN_DEVICE) {
        hlt_address_format(&subject->address, address);
        (void)cJSON_AddStringToObject(json, "address", address);
    }
    if (subject->kind != HLT_BAN_ADDRESS) {
        (void)cJSON_AddStringToObject(json, "deviceId", subject->id);
    }
    hlt_date_format(ban->since_ms, date);
    (void)cJSON_AddStringToObject(json, "since", date);
    if (ban->until_ms != HLT_BAN_FOREVER) {
        hlt_date_format(ban->until_ms, date);
        (void)cJSON_AddStringToObject(json, "until", date);
    }
    (void)cJSON_AddStringToObject(json, "author", ban->author);
    (void)cJSON_AddBoolToObject(json, "automatic", ban->automatic);
    if (ban->reason[0] != '\0') {
        (void)cJSON_AddStringToObject(json, "reason", ban->reason);
    }
    return json;
}

static uint8_t *put_i64(uint8_t *at, int64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        *at++ = (uint8_t)((uint64_t)value >> (8 * i));
    }
    return at;
}

static int64_t get_i64(const uint8_t *at)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < 8; i++) {
        value |= (uint64_t)at[i] << (8 * i);
    }
    return (int64_t)value;
}

#define FIXED_BYTES 17

size_t hlt_ban_record_write(const struct hlt_ban *ban, uint8_t out[HLT_BAN_RECORD_MAX])
{
    uint8_t *at = put_i64(put_i64(out, ban->since_ms), ban->until_ms);
    size_t author = strlen(ban->author) + 1, reason = strlen(ban->reason) + 1;

    *at++ = ban->automatic ? 1 : 0;
    memcpy(at, ban->author, author);
    memcpy(at + author, ban->reason, reason);
    return FIXED_BYTES + author + reason;
}

enum hlt_rc hlt_ban_record_read(struct hlt_ban *out, const void *key, size_t key_len,
                                const void *data, size_t len)
{
    const uint8_t *bytes = data;
    struct hlt_ban ban = {0};

    if (len <= FIXED_BYTES || len > HLT_BAN_RECORD_MAX ||
        !hlt_ban_key_parse(&ban.subject, key, key_len)) {
        return HLT_EPARSE;
    }
    const char *author = (const char *)bytes + FIXED_BYTES;
    const char *end = (const char *)bytes + len;
    const char *author_end = memchr(author, '\0', (size_t)(end - author));
    if (author_end == NULL || author_end - author > HLT_BAN_AUTHOR_MAX) {
        return HLT_EPARSE;
    }
    const char *reason = author_end + 1;
    if (reason == end || memchr(reason, '\0', (size_t)(end - reason)) != end - 1 ||
        end - 1 - reason > HLT_BAN_REASON_MAX) {
        return HLT_EPARSE;
    }
    ban.since_ms = get_i64(bytes);
    ban.until_ms = get_i64(bytes + 8);
    ban.automatic = bytes[16] != 0;
    memcpy(ban.author, author, (size_t)(reason - author));
    memcpy(ban.reason, reason, (size_t)(end - reason));
    *out = ban;
    return HLT_OK;
}

/* --- the table --- */

enum hlt_rc hlt_bans_init(struct hlt_bans *bans)
{
    *bans = (struct hlt_bans){0};
    bans->bucket = calloc(BUCKETS, sizeof(struct hlt_ban *));
    bans->ban = calloc(HLT_BANS_MAX, sizeof(struct hlt_ban *));
    return bans->bucket != NULL && bans->ban != NULL && hlt_hash_key_init(&bans->key) == 0
               ? HLT_OK
               : HLT_ENOMEM;
}

void hlt_bans_free(struct hlt_bans *bans)
{
    for (uint32_t i = 0; i < bans->count; i++) {
        free(bans->ban[i]);
    }
    free(bans->bucket);
    free(bans->ban);
    *bans = (struct hlt_bans){0};
}

static struct hlt_ban **bucket_of(const struct hlt_bans *bans,
                                  const struct hlt_ban_subject *subject)
{
    uint8_t text[2 + sizeof(subject->address.bytes) + HLT_ID_MAX];
    size_t id_len = strlen(subject->id);

    text[0] = (uint8_t)subject->kind;
    text[1] = subject->address.family;
    memcpy(text + 2, subject->address.bytes, sizeof(subject->address.bytes));
    memcpy(text + 2 + sizeof(subject->address.bytes), subject->id, id_len);
    uint64_t hash = hlt_hash(&bans->key, text, 2 + sizeof(subject->address.bytes) + id_len);
    return &bans->bucket[hash & (BUCKETS - 1)];
}

static bool same(const struct hlt_ban_subject *a, const struct hlt_ban_subject *b)
{
    return a->kind == b->kind && hlt_address_same(&a->address, &b->address) &&
           strcmp(a->id, b->id) == 0;
}

static struct hlt_ban *find_any(const struct hlt_bans *bans, const struct hlt_ban_subject *subject)
{
    struct hlt_ban *ban = *bucket_of(bans, subject);

    while (ban != NULL && !same(&ban->subject, subject)) {
        ban = ban->next;
    }
    return ban;
}

struct hlt_ban *hlt_bans_find(const struct hlt_bans *bans, const struct hlt_ban_subject *subject,
                              int64_t mono_ms)
{
    if (bans->by_kind[subject->kind] == 0) {
        return NULL;
    }
    struct hlt_ban *ban = find_any(bans, subject);
    return ban != NULL && mono_ms < ban->until_mono_ms ? ban : NULL;
}

static void queue_add(struct hlt_bans *bans, struct hlt_ban *ban)
{
    ban->older = bans->newest;
    ban->newer = NULL;
    if (bans->newest != NULL) {
        bans->newest->newer = ban;
    } else {
        bans->oldest = ban;
    }
    bans->newest = ban;
}

static void queue_remove(struct hlt_bans *bans, struct hlt_ban *ban)
{
    if (ban->older != NULL) {
        ban->older->newer = ban->newer;
    } else {
        bans->oldest = ban->newer;
    }
    if (ban->newer != NULL) {
        ban->newer->older = ban->older;
    } else {
        bans->newest = ban->older;
    }
    ban->older = ban->newer = NULL;
}

void hlt_bans_take(struct hlt_bans *bans, struct hlt_ban *ban)
{
    struct hlt_ban **link = bucket_of(bans, &ban->subject);

    while (*link != ban) {
        link = &(*link)->next;
    }
    *link = ban->next;
    if (ban->automatic) {
        queue_remove(bans, ban);
    }
    bans->by_kind[ban->subject.kind]--;
    bans->ban[ban->index] = bans->ban[--bans->count];
    bans->ban[ban->index]->index = ban->index;
}

enum hlt_rc hlt_bans_add(struct hlt_bans *bans, const struct hlt_ban *ban, struct hlt_ban **evicted)
{
    struct hlt_ban *copy = malloc(sizeof(*copy));
    struct hlt_ban *old = find_any(bans, &ban->subject);

    *evicted = NULL;
    if (copy == NULL) {
        return HLT_ENOMEM;
    }
    if (old != NULL) {
        hlt_bans_take(bans, old);
        free(old);
    } else if (bans->count == HLT_BANS_MAX) {
        if (bans->oldest == NULL) {
            free(copy);
            return HLT_EFULL;
        }
        *evicted = bans->oldest;
        hlt_bans_take(bans, bans->oldest);
    }
    struct hlt_ban **bucket = bucket_of(bans, &ban->subject);
    *copy = *ban;
    copy->older = copy->newer = NULL;
    copy->next = *bucket;
    *bucket = copy;
    copy->index = bans->count;
    bans->ban[bans->count++] = copy;
    bans->by_kind[copy->subject.kind]++;
    if (copy->automatic) {
        queue_add(bans, copy);
    }
    return HLT_OK;
}

struct hlt_ban *hlt_bans_sweep(struct hlt_bans *bans, int64_t mono_ms, unsigned *budget)
{
    while (*budget > 0 && bans->count > 0) {
        (*budget)--;
        bans->sweep = bans->sweep < bans->count ? bans->sweep : 0;
        struct hlt_ban *ban = bans->ban[bans->sweep];
        if (mono_ms >= ban->until_mono_ms) {
            hlt_bans_take(bans, ban);
            return ban;
        }
        bans->sweep++;
    }
    return NULL;
}
