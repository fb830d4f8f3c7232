/* audit.c - the chain: what is appended, what is lost, what is given up, and that it stays whole.
 */
#include "fixture.h"

#include "../../shared/audit.h"

static struct hlt_audit audit;
static uint8_t zero[HLT_AUDIT_HASH_BYTES];

static void event(const char *subject, int64_t wall_ms)
{
    struct hlt_audit_event what = {.type = HLT_AUDIT_LOGIN, .subject = subject};

    hlt_audit_append(&audit, &what, wall_ms);
}

/* Take the oldest waiting record; its value must follow on `before`. */
static void take(struct hlt_audit_record *out, uint8_t before[HLT_AUDIT_HASH_BYTES])
{
    static uint8_t value[HLT_AUDIT_RECORD_MAX];
    const struct hlt_audit_waiting *waiting = hlt_audit_next(&audit);
    uint8_t hash[HLT_AUDIT_HASH_BYTES];

    cr_assert(waiting != NULL && waiting->len <= sizeof(value));
    memcpy(value, waiting->value, waiting->len);
    cr_assert(hlt_audit_record_read(out, value, waiting->len) == HLT_OK);
    cr_expect(out->seq == waiting->seq);
    hlt_audit_record_hash(out, before, hash);
    cr_expect(memcmp(hash, out->hash, sizeof(hash)) == 0, "record %llu follows its predecessor",
              (unsigned long long)out->seq);
    memcpy(before, out->hash, HLT_AUDIT_HASH_BYTES);
    hlt_audit_handed(&audit);
}

static void drain(uint8_t before[HLT_AUDIT_HASH_BYTES])
{
    struct hlt_audit_record record;

    while (hlt_audit_next(&audit) != NULL) {
        take(&record, before);
    }
}

Test(audit, each_record_s_hash_covers_the_one_before)
{
    uint8_t before[HLT_AUDIT_HASH_BYTES] = {0};
    struct hlt_audit_record record;

    cr_assert(hlt_audit_init(&audit, true) == HLT_OK);
    for (int i = 0; i < 10; i++) {
        event("d1", FX_START_MS + i);
    }
    for (uint64_t seq = 1; seq <= 10; seq++) {
        take(&record, before);
        cr_expect(record.seq == seq && record.count == 1 && record.type == HLT_AUDIT_LOGIN);
        cr_expect_str_eq(record.subject, "d1");
    }
    cr_expect(hlt_audit_next(&audit) == NULL);
    cr_expect(memcmp(before, audit.head, sizeof(before)) == 0 && audit.seq == 10);
    hlt_audit_free(&audit);
}

Test(audit, a_changed_byte_anywhere_in_a_record_shows)
{
    struct hlt_audit_record record = {.seq = 7, .time_ms = 5, .type = HLT_AUDIT_BAN, .count = 2};
    struct hlt_audit_record found;
    uint8_t value[HLT_AUDIT_RECORD_MAX], hash[HLT_AUDIT_HASH_BYTES];

    strcpy(record.subject, "d1");
    strcpy(record.detail, "text");
    size_t len = hlt_audit_record_write(&record, zero, value);
    for (size_t i = HLT_RECORD_HEADER; i < len; i++) {
        value[i] ^= 1;
        /* As somebody would who mends the checksum. */
        uint32_t sum = hlt_checksum(value + HLT_RECORD_HEADER, len - HLT_RECORD_HEADER);
        memcpy(value + 4, &sum, 4);
        if (hlt_audit_record_read(&found, value, len) == HLT_OK) {
            hlt_audit_record_hash(&found, zero, hash);
            cr_expect(memcmp(hash, found.hash, sizeof(hash)) != 0, "byte %zu", i);
        }
        value[i] ^= 1;
    }
}

Test(audit, a_full_queue_loses_counts_and_says_so_once_there_is_room)
{
    uint8_t before[HLT_AUDIT_HASH_BYTES] = {0};
    struct hlt_audit_record record;

    cr_assert(hlt_audit_init(&audit, true) == HLT_OK);
    for (int i = 0; i < HLT_AUDIT_QUEUE_MAX; i++) {
        event("d1", FX_START_MS);
    }
    cr_expect(audit.dropped == 0);
    event("lost 1", FX_START_MS);
    event("lost 2", FX_START_MS);
    cr_expect(audit.dropped == 2 && audit.seq == HLT_AUDIT_QUEUE_MAX);
    take(&record, before);
    event("lost 3", FX_START_MS); /* the only room is taken by what is said of the lost */
    cr_expect(audit.dropped == 3);
    drain(before);
    event("kept", FX_START_MS);
    cr_expect(audit.untold == 0);
    take(&record, before);
    cr_expect(record.type == HLT_AUDIT_LOST && record.count == 1);
    take(&record, before);
    cr_expect_str_eq(record.subject, "kept");
    hlt_audit_free(&audit);
}

Test(audit, refusals_are_summed_by_address_reason_and_minute)
{
    int64_t minute = FX_START_MS / 60000 * 60000;
    uint8_t before[HLT_AUDIT_HASH_BYTES] = {0};
    struct hlt_audit_record record;
    uint64_t total = 0;

    cr_assert(hlt_audit_init(&audit, true) == HLT_OK);
    for (int i = 0; i < 5; i++) {
        hlt_audit_refused(&audit, HLT_REASON_EXPIRED, "192.0.2.1", "d1", minute + i);
        hlt_audit_refused(&audit, HLT_REASON_EXPIRED, "192.0.2.2", "d1", minute + i);
    }
    hlt_audit_refused(&audit, HLT_REASON_SIGNATURE, "192.0.2.1", "d2", minute + 59999);
    hlt_audit_minute(&audit, minute + 59999, false);
    cr_expect(audit.seq == 0, "the minute is not over");
    hlt_audit_minute(&audit, minute + 60000, false);
    cr_expect(audit.seq == 3);
    for (int i = 0; i < 3; i++) {
        take(&record, before);
        cr_expect(record.type == HLT_AUDIT_REFUSAL);
        cr_expect(record.count == (strcmp(record.reason, "signature") == 0 ? 1 : 5));
        total += record.count;
    }
    cr_expect(total == 11);
    hlt_audit_minute(&audit, minute + 120000, true);
    cr_expect(audit.seq == 3, "nothing twice");
    hlt_audit_refused(&audit, HLT_REASON_EXPIRED, NULL, NULL, minute + 120000);
    hlt_audit_minute(&audit, minute + 120000, true);
    take(&record, before);
    cr_expect_str_eq(record.address, "unknown");
    hlt_audit_free(&audit);
}

Test(audit, a_flood_of_addresses_is_summed_and_none_is_lost)
{
    uint8_t before[HLT_AUDIT_HASH_BYTES] = {0};
    struct hlt_audit_record record;
    uint64_t total = 0, others = 0;
    char address[32];

    cr_assert(hlt_audit_init(&audit, true) == HLT_OK);
    for (int i = 0; i < 100000; i++) {
        snprintf(address, sizeof(address), "10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        hlt_audit_refused(&audit, HLT_REASON_SIGNATURE, address, "x", FX_START_MS);
    }
    hlt_audit_minute(&audit, FX_START_MS, true);
    cr_expect(audit.seq <= HLT_AUDIT_REFUSALS_MAX + 1, "bounded in one minute");
    while (hlt_audit_next(&audit) != NULL) {
        take(&record, before);
        total += record.count;
        others += strcmp(record.address, "others") == 0 ? record.count : 0;
    }
    cr_expect(total == 100000 && others > 90000);
    hlt_audit_free(&audit);
}

Test(audit, whole_blocks_go_by_number_or_age_and_the_rest_stays_verifiable)
{
    uint8_t before[HLT_AUDIT_HASH_BYTES] = {0};
    struct hlt_audit_record record, oldest = {.seq = 0};
    const int64_t day = 86400000;

    cr_assert(hlt_audit_init(&audit, true) == HLT_OK);
    for (uint64_t i = 1; i <= 5 * HLT_AUDIT_BLOCK; i++) {
        event("d", FX_START_MS + (i > 2 * HLT_AUDIT_BLOCK ? 10 * day : 0));
        take(&record, before);
        if (record.seq == HLT_AUDIT_BLOCK + 1) {
            oldest = record;
        }
    }
    hlt_audit_retain(&audit, FX_START_MS + 10 * day, 0, 5 * HLT_AUDIT_BLOCK);
    cr_expect(audit.first == 1, "exactly as many as allowed; no age set");
    hlt_audit_retain(&audit, FX_START_MS + 10 * day, 0, 5 * HLT_AUDIT_BLOCK - 1);
    cr_expect(audit.first == HLT_AUDIT_BLOCK + 1 && audit.anchor_dirty && audit.gone_from == 1);
    uint8_t hash[HLT_AUDIT_HASH_BYTES];
    struct hlt_audit_record again = oldest;
    uint8_t value[HLT_AUDIT_RECORD_MAX];
    (void)hlt_audit_record_write(&again, audit.anchor, value);
    memcpy(hash, again.hash, sizeof(hash));
    cr_expect(memcmp(hash, oldest.hash, sizeof(hash)) == 0, "the oldest kept follows the anchor");
    hlt_audit_retain(&audit, FX_START_MS + 100 * day, day, 1);
    cr_expect(audit.first == HLT_AUDIT_BLOCK + 1, "one block at a time");
    audit.gone_from = audit.first;
    hlt_audit_retain(&audit, FX_START_MS + 9 * day, 8 * day, UINT64_MAX);
    cr_expect(audit.first == 2 * HLT_AUDIT_BLOCK + 1, "all of it is older");
    audit.gone_from = audit.first;
    hlt_audit_retain(&audit, FX_START_MS + 9 * day, 8 * day, UINT64_MAX);
    cr_expect(audit.first == 2 * HLT_AUDIT_BLOCK + 1);
    for (int i = 0; i < 5; i++) {
        audit.gone_from = audit.first;
        hlt_audit_retain(&audit, FX_START_MS + 1000 * day, day, 1);
    }
    cr_expect(audit.first == 4 * HLT_AUDIT_BLOCK + 1, "the newest record always stays");
    hlt_audit_free(&audit);
}

Test(audit, tokens_are_blanked_whole_or_cut)
{
    static const char *const tokens[] = {"eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA",
                                         "eyJhbGciOiJFUzI1NiJ9.eyJzdW", "eyJhbGciOiJ",
                                         "jti=eyJhbGciOiJFUzI1NiJ9.x"};

    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
        cr_expect_str_eq(hlt_audit_safe(tokens[i]), "(a token)");
    }
    cr_expect_str_eq(hlt_audit_safe("pump-7.north.hall"), "pump-7.north.hall");
    cr_expect_str_eq(hlt_audit_safe(NULL), "");
}

Test(audit, no_member_of_a_record_holds_a_token)
{
    static const char token[] = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA";
    const struct hlt_audit_event what = {.type = HLT_AUDIT_COMMAND,
                                         .subject = token,
                                         .client_id = "d1",
                                         .address = token,
                                         .actor = token,
                                         .reason = token,
                                         .detail = token};
    uint8_t before[HLT_AUDIT_HASH_BYTES] = {0};
    struct hlt_audit_record record;

    cr_assert(hlt_audit_init(&audit, true) == HLT_OK);
    hlt_audit_append(&audit, &what, FX_START_MS);
    const struct hlt_audit_waiting *waiting = hlt_audit_next(&audit);
    cr_expect(memmem(waiting->value, waiting->len, "eyJ", 3) == NULL);
    take(&record, before);
    cr_expect_str_eq(record.subject, "(a token)");
    cr_expect_str_eq(record.detail, "(a token)");
    cr_expect_str_eq(record.client_id, "d1");
    hlt_audit_free(&audit);
}

/* --- in the engine and the store --- */

static struct fx fx;
static char dir[64];

static void begin(void)
{
    struct hlt_err err = {{0}};
    struct hlt_store *store = NULL;
    static const char *const options[] = {"audit_max_records", "10000", NULL};
    bool clean, replaced;

    if (dir[0] == '\0') {
        snprintf(dir, sizeof(dir), "/tmp/haltere-XXXXXX");
        cr_assert(mkdtemp(dir) != NULL);
    }
    struct hlt_store_config config = {
        .path = dir, .map_bytes = 256u << 20, .flush_interval_ms = 200};
    cr_assert(hlt_store_open(&store, &config, &clean, &replaced, &err) == HLT_OK, "%s", err.msg);
    fx_begin(&fx, NULL, options, store, clean);
}

static void end(void)
{
    struct hlt_store *store = fx.store;

    hlt_engine_flush(fx.engine, fx.now);
    fx_end(&fx);
    hlt_store_close(store);
}

struct walk {
    uint64_t first, last, count;
    uint8_t hash[HLT_AUDIT_HASH_BYTES];
    bool whole;
};

static bool step(void *context, const void *key, size_t key_len, const void *value, size_t len)
{
    struct walk *walk = context;
    struct hlt_audit_record record;
    uint8_t hash[HLT_AUDIT_HASH_BYTES];

    cr_assert(hlt_audit_record_read(&record, value, len) == HLT_OK);
    cr_expect(record.seq == hlt_audit_key_seq(key, key_len));
    if (walk->count++ == 0) {
        walk->first = record.seq;
    } else {
        cr_expect(record.seq == walk->last + 1);
    }
    hlt_audit_record_hash(&record, walk->hash, hash);
    walk->whole = walk->whole && memcmp(hash, record.hash, sizeof(hash)) == 0;
    memcpy(walk->hash, record.hash, sizeof(hash));
    walk->last = record.seq;
    return true;
}

/* The chain on disk, from its anchor. */
static struct walk on_disk(void)
{
    struct walk walk = {.whole = true};
    struct hlt_store *store;
    struct hlt_err err = {{0}};
    void *value = NULL;
    const void *data;
    size_t len = 0, data_len;
    uint64_t first = 1;

    cr_assert(hlt_store_open_reader(&store, dir, &err) == HLT_OK, "%s", err.msg);
    if (hlt_store_get(store, HLT_DB_META, HLT_AUDIT_ANCHOR, strlen(HLT_AUDIT_ANCHOR), &value, &len,
                      NULL) == HLT_OK) {
        cr_assert(hlt_blob_record_read(&data, &data_len, value, len) == HLT_OK);
        cr_assert(hlt_audit_anchor_read(data, data_len, &first, walk.hash));
        free(value);
    }
    cr_assert(hlt_store_each(store, HLT_DB_AUDIT, step, &walk, &err) == HLT_OK);
    cr_expect(walk.first == first);
    hlt_store_close(store);
    return walk;
}

Test(audit, the_chain_goes_on_over_restarts_and_retention)
{
    for (int round = 0; round < 3; round++) {
        begin();
        for (int i = 0; i < 6000; i++) {
            hlt_engine_audit(fx.engine, fx.now,
                             &(struct hlt_audit_event){.type = HLT_AUDIT_LOGIN, .subject = "d"});
            if (i % 1000 == 0) {
                fx_advance(&fx, 100);
            }
        }
        for (int i = 0; i < 100; i++) {
            fx_advance(&fx, 100);
        }
        end();
        struct walk walk = on_disk();
        uint64_t said = 6002 * (uint64_t)(round + 1); /* with start and stop */
        cr_expect(walk.whole && walk.last == said, "round %d: last %llu", round,
                  (unsigned long long)walk.last);
        cr_expect(walk.count <= 10000 + HLT_AUDIT_BLOCK, "round %d: %llu kept", round,
                  (unsigned long long)walk.count);
        cr_expect(said < 10000 || walk.count > 10000 - HLT_AUDIT_BLOCK);
    }
    char command[128];
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    cr_expect(system(command) == 0);
}
