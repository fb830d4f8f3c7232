/* audit.c - the audit chain on the broker's thread: records, their hashes, and what waits for the
 * store. */
#include "audit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

#define MINUTE_MS 60000
#define REFUSED_SLOTS (HLT_AUDIT_REFUSALS_MAX + HLT_REASON_COUNT)
#define PROBES 8 /* slots looked at before an address joins "others" */
#define MARKS_FIRST 64

/* --- life --- */

enum hlt_rc hlt_audit_init(struct hlt_audit *audit, bool on)
{
    memset(audit, 0, sizeof(*audit));
    audit->on = on;
    audit->first = audit->gone_from = 1;
    audit->tail = &audit->oldest;
    if (!on) {
        return HLT_OK;
    }
    audit->refused = calloc(REFUSED_SLOTS, sizeof(*audit->refused));
    return audit->refused != NULL && hlt_hash_key_init(&audit->key) == 0 ? HLT_OK : HLT_ENOMEM;
}

void hlt_audit_free(struct hlt_audit *audit)
{
    while (audit->oldest != NULL) {
        hlt_audit_handed(audit);
    }
    free(audit->refused);
    free(audit->mark);
    memset(audit, 0, sizeof(*audit));
}

/* --- texts --- */

const char *hlt_audit_safe(const char *text)
{
    /* Every JOSE header begins with {" and so, in base64url, with eyJ (RFC 7515); a cut token still
     * does. */
    if (text == NULL || strstr(text, "eyJ") != NULL || hlt_token_shaped(text, strlen(text))) {
        return text == NULL ? "" : "(a token)";
    }
    return text;
}

/* Into a field that is all zero. record.c cuts inside a character back to the last whole one. */
static void put_text(char *out, size_t out_bytes, const char *text)
{
    const char *safe = hlt_audit_safe(text);

    memcpy(out, safe, strnlen(safe, out_bytes - 1)); /* strncpy would write all of it again */
}

/* --- appending --- */

void hlt_audit_remember(struct hlt_audit *audit, uint64_t seq, int64_t time_ms, const uint8_t *hash)
{
    if (audit->mark_count == audit->mark_room) {
        size_t room = audit->mark_room > 0 ? audit->mark_room * 2 : MARKS_FIRST;
        struct hlt_audit_mark *mark = realloc(audit->mark, room * sizeof(*mark));
        if (mark == NULL) {
            return; /* its block goes with the next one */
        }
        audit->mark = mark;
        audit->mark_room = room;
    }
    struct hlt_audit_mark *mark = &audit->mark[audit->mark_count++];
    mark->seq = seq;
    mark->time_ms = time_ms;
    memcpy(mark->hash, hash, HLT_AUDIT_HASH_BYTES);
}

static bool append(struct hlt_audit *audit, const struct hlt_audit_event *event, int64_t wall_ms)
{
    struct hlt_audit_record record = {
        .seq = audit->seq + 1,
        .time_ms = wall_ms,
        .type = (uint8_t)event->type,
        .count = event->count > 0 ? event->count : 1,
    };
    uint8_t value[HLT_AUDIT_RECORD_MAX];

    if (audit->waiting >= HLT_AUDIT_QUEUE_MAX) {
        return false;
    }
    put_text(record.subject, sizeof(record.subject), event->subject);
    if (event->client_id != NULL && strcmp(event->client_id, record.subject) != 0) {
        put_text(record.client_id, sizeof(record.client_id), event->client_id);
    }
    put_text(record.address, sizeof(record.address), event->address);
    put_text(record.actor, sizeof(record.actor), event->actor);
    put_text(record.reason, sizeof(record.reason), event->reason);
    put_text(record.detail, sizeof(record.detail), event->detail);
    size_t len = hlt_audit_record_write(&record, audit->head, value);
    struct hlt_audit_waiting *waiting = malloc(sizeof(*waiting) + len);
    if (waiting == NULL) {
        return false;
    }
    waiting->next = NULL;
    waiting->seq = record.seq;
    waiting->len = len;
    memcpy(waiting->value, value, len);
    *audit->tail = waiting;
    audit->tail = &waiting->next;
    audit->waiting++;
    audit->seq = record.seq;
    memcpy(audit->head, record.hash, HLT_AUDIT_HASH_BYTES);
    if (record.seq % HLT_AUDIT_BLOCK == 0) {
        hlt_audit_remember(audit, record.seq, wall_ms, record.hash);
    }
    return true;
}

void hlt_audit_append(struct hlt_audit *audit, const struct hlt_audit_event *event, int64_t wall_ms)
{
    char detail[64];

    if (!audit->on) {
        return;
    }
    if (audit->untold > 0) {
        (void)snprintf(detail, sizeof(detail), "%llu records lost",
                       (unsigned long long)audit->untold);
        struct hlt_audit_event lost = {.type = HLT_AUDIT_LOST,
                                       .reason = "queue_full",
                                       .detail = detail,
                                       .count = audit->untold};
        if (append(audit, &lost, wall_ms)) {
            audit->untold = 0;
        }
    }
    if (audit->untold > 0 || !append(audit, event, wall_ms)) {
        uint64_t lost = event->count > 0 ? event->count : 1;
        audit->dropped += lost;
        audit->untold += lost;
    }
}

/* --- refusals, by the minute --- */

static struct hlt_audit_refused *refused_slot(struct hlt_audit *audit, enum hlt_reason reason,
                                              const char *address)
{
    uint64_t at = hlt_hash(&audit->key, address, strlen(address)) + (uint64_t)reason * 7919u;

    for (unsigned i = 0; i < PROBES; i++) {
        struct hlt_audit_refused *slot = &audit->refused[(at + i) % HLT_AUDIT_REFUSALS_MAX];
        if (slot->reason == 0 ||
            (slot->reason == (uint8_t)reason && strcmp(slot->address, address) == 0)) {
            return slot;
        }
    }
    return NULL;
}

void hlt_audit_refused(struct hlt_audit *audit, enum hlt_reason reason, const char *address,
                       const char *client_id, int64_t wall_ms)
{
    const char *from = address != NULL ? address : "unknown";

    if (!audit->on || reason <= HLT_REASON_OK || reason >= HLT_REASON_COUNT) {
        return;
    }
    hlt_audit_minute(audit, wall_ms, false);
    audit->minute = wall_ms / MINUTE_MS;
    struct hlt_audit_refused *slot =
        strlen(from) < sizeof(slot->address) ? refused_slot(audit, reason, from) : NULL;
    if (slot == NULL) { /* too many addresses for one minute */
        slot = &audit->refused[HLT_AUDIT_REFUSALS_MAX + (int)reason];
        from = "others";
    }
    if (slot->reason == 0) {
        slot->reason = (uint8_t)reason;
        (void)snprintf(slot->address, sizeof(slot->address), "%s", from);
        (void)snprintf(slot->client_id, sizeof(slot->client_id), "%s", hlt_audit_safe(client_id));
        audit->refused_left++;
    }
    slot->count++;
}

void hlt_audit_minute(struct hlt_audit *audit, int64_t wall_ms, bool all)
{
    char date[HLT_DATE_BYTES], detail[96];

    if (!audit->on || audit->refused_left == 0 || (!all && wall_ms / MINUTE_MS == audit->minute)) {
        return;
    }
    hlt_date_format(audit->minute * MINUTE_MS, date);
    (void)snprintf(detail, sizeof(detail), "in the minute of %.16sZ; subject: the first of them",
                   date);
    for (size_t i = 0; i < REFUSED_SLOTS && audit->refused_left > 0; i++) {
        struct hlt_audit_refused *slot = &audit->refused[i];
        if (slot->reason != 0) {
            struct hlt_audit_event event = {
                .type = HLT_AUDIT_REFUSAL,
                .subject = slot->client_id,
                .address = slot->address,
                .reason = hlt_reason_word((enum hlt_reason)slot->reason),
                .detail = detail,
                .count = slot->count,
            };
            hlt_audit_append(audit, &event, wall_ms);
            memset(slot, 0, sizeof(*slot));
            audit->refused_left--;
        }
    }
}

/* --- handing over, and letting go --- */

const struct hlt_audit_waiting *hlt_audit_next(const struct hlt_audit *audit)
{
    return audit->oldest;
}

void hlt_audit_handed(struct hlt_audit *audit)
{
    struct hlt_audit_waiting *waiting = audit->oldest;

    audit->oldest = waiting->next;
    if (audit->oldest == NULL) {
        audit->tail = &audit->oldest;
    }
    audit->waiting--;
    free(waiting);
}

void hlt_audit_retain(struct hlt_audit *audit, int64_t wall_ms, int64_t keep_ms, uint64_t max)
{
    if (audit->mark_count == 0 || audit->waiting > 0 || audit->gone_from < audit->first) {
        return; /* nothing to give up, or still busy with the last block */
    }
    const struct hlt_audit_mark *mark = &audit->mark[0];
    bool old = keep_ms > 0 && wall_ms - mark->time_ms > keep_ms;
    bool many = audit->seq + 1 - audit->first > max;
    if ((!old && !many) || mark->seq >= audit->seq) {
        return; /* the newest record always stays: the chain goes on from it */
    }
    audit->first = mark->seq + 1;
    memcpy(audit->anchor, mark->hash, HLT_AUDIT_HASH_BYTES);
    audit->anchor_dirty = true;
    audit->mark_count--;
    memmove(audit->mark, audit->mark + 1, audit->mark_count * sizeof(*audit->mark));
}

void hlt_audit_resume(struct hlt_audit *audit, uint64_t seq, const uint8_t *hash, uint64_t first,
                      const uint8_t *anchor)
{
    audit->seq = seq;
    memcpy(audit->head, hash, HLT_AUDIT_HASH_BYTES);
    audit->first = audit->gone_from = first;
    memcpy(audit->anchor, anchor, HLT_AUDIT_HASH_BYTES);
}

/* --- keys --- */

void hlt_audit_key(uint64_t seq, uint8_t key[HLT_AUDIT_KEY_BYTES])
{
    for (unsigned i = 0; i < HLT_AUDIT_KEY_BYTES; i++) {
        key[i] = (uint8_t)(seq >> (56 - 8 * i));
    }
}

uint64_t hlt_audit_key_seq(const void *key, size_t len)
{
    const uint8_t *bytes = key;
    uint64_t seq = 0;

    for (size_t i = 0; len == HLT_AUDIT_KEY_BYTES && i < len; i++) {
        seq = seq << 8 | bytes[i];
    }
    return seq;
}

void hlt_audit_anchor_write(uint64_t first, const uint8_t *anchor,
                            uint8_t out[HLT_AUDIT_ANCHOR_BYTES])
{
    for (unsigned i = 0; i < 8; i++) {
        out[i] = (uint8_t)(first >> (8 * i));
    }
    memcpy(out + 8, anchor, HLT_AUDIT_HASH_BYTES);
}

bool hlt_audit_anchor_read(const void *data, size_t len, uint64_t *first, uint8_t *anchor)
{
    const uint8_t *bytes = data;

    if (len != HLT_AUDIT_ANCHOR_BYTES) {
        return false;
    }
    *first = 0;
    for (unsigned i = 0; i < 8; i++) {
        *first |= (uint64_t)bytes[i] << (8 * i);
    }
    memcpy(anchor, bytes + 8, HLT_AUDIT_HASH_BYTES);
    return *first > 0;
}
