/* record.c - what is written comes back; what is damaged, cut or of another layout does not. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../../shared/hash.h"
#include "../../shared/record.h"
#include "../../shared/rules.h"
#include "../../shared/telemetry.h"
#include "../../shared/text.h"

static uint8_t buffer[HLT_DEVICE_RECORD_MAX];
static uint8_t state[HLT_RECORD_STATE_MAX];

static void fill(char *field, size_t bytes, char with)
{
    memset(field, with, bytes - 1);
    field[bytes - 1] = '\0';
}

/* Every field at its longest and every number different, so that a swap or a cut shows. */
static struct hlt_device_record largest_device(void)
{
    struct hlt_device_record d = {
        .first_seen_ms = INT64_MIN,
        .last_seen_ms = INT64_MAX,
        .last_connect_ms = -3,
        .last_disconnect_ms = 4,
        .since_ms = 5,
        .token_exp_s = 6,
        .messages = UINT64_MAX,
        .bytes = 8,
        .malformed = 9,
        .denied = 10,
        .anomalies = 11,
        .connects = 12,
        .auth_failures = 13,
        .episode = UINT32_MAX,
        .version = 15,
        .cadence_s = 1.5f,
        .cadence_count = 17,
        .health = 0.25f,
        .band = HLT_BAND_CRITICAL,
        .online = 1,
        .status = HLT_STATUS_ERROR,
        .disconnect_reason = HLT_GONE_SHUTDOWN,
        .has_token = 1,
        .cpu = 1.0f,
        .memory = 2.0f,
        .disk = 3.0f,
        .battery = 4.0f,
        .uptime_s = 1e300,
        .metric_count = HLT_RECORD_METRICS_MAX,
    };
    fill(d.device_class, sizeof(d.device_class), 'c');
    fill(d.firmware, sizeof(d.firmware), 'f');
    fill(d.address, sizeof(d.address), 'a');
    fill(d.detector, sizeof(d.detector), 'd');
    for (size_t i = 0; i < sizeof(state); i++) {
        state[i] = (uint8_t)(i * 7);
    }
    for (size_t i = 0; i < d.metric_count; i++) {
        d.metric[i] = (struct hlt_metric_record){.name_id = (uint16_t)(65535 - i),
                                                 .flags = 0xf0f0f0f0u,
                                                 .value = -0.5 - (double)i,
                                                 .time_ms = 1000 + (int64_t)i,
                                                 .expected = 2.5f,
                                                 .score = 0.75f,
                                                 .count = 1u << i,
                                                 .detector_version = 255,
                                                 .state = state,
                                                 .state_len = HLT_RECORD_STATE_MAX};
    }
    return d;
}

static struct hlt_alert_record largest_alert(void)
{
    struct hlt_alert_record a = {.status = HLT_ALERT_ACKNOWLEDGED,
                                 .severity = HLT_SEV_CRITICAL,
                                 .topics = 0x0e,
                                 .episode = 7,
                                 .count = 8,
                                 .starts_ms = 9,
                                 .updated_ms = 10,
                                 .ends_ms = 11,
                                 .seq = 12,
                                 .value = 81.5,
                                 .expected = -1e-300,
                                 .threshold = 80,
                                 .score = 0.5,
                                 .acknowledged_ms = 17};
    fill(a.device_id, sizeof(a.device_id), 'i');
    fill(a.name, sizeof(a.name), 'n');
    fill(a.metric, sizeof(a.metric), 'm');
    fill(a.message, sizeof(a.message), 't');
    fill(a.acknowledged_by, sizeof(a.acknowledged_by), 'b');
    return a;
}

/* Make the checksum and length right again after a change, as an attacker or a bad program could.
 */
static void mend(uint8_t *record, size_t len)
{
    uint32_t sum = hlt_checksum(record + HLT_RECORD_HEADER, len - HLT_RECORD_HEADER);
    record[2] = (uint8_t)len;
    record[3] = (uint8_t)(len >> 8);
    for (int i = 0; i < 4; i++) {
        record[4 + i] = (uint8_t)(sum >> (8 * i));
    }
}

Test(record, a_device_comes_back_as_it_was_written)
{
    struct hlt_device_record in = largest_device();
    struct hlt_device_record out;
    uint8_t again[HLT_DEVICE_RECORD_MAX];

    size_t len = hlt_device_record_write(&in, buffer);
    cr_assert(le(sz, len, HLT_DEVICE_RECORD_MAX));
    cr_assert(hlt_record_valid(buffer, len));
    cr_assert(eq(int, hlt_device_record_read(&out, buffer, len), HLT_OK));
    cr_expect(eq(i64, out.first_seen_ms, INT64_MIN));
    cr_expect(eq(i64, out.last_seen_ms, INT64_MAX));
    cr_expect(eq(u64, out.messages, UINT64_MAX));
    cr_expect(eq(u64, out.auth_failures, 13));
    cr_expect(eq(u32, out.version, 15));
    cr_expect(eq(flt, out.cadence_s, 1.5f));
    cr_expect(eq(u8, out.band, HLT_BAND_CRITICAL));
    cr_expect(eq(u8, out.disconnect_reason, HLT_GONE_SHUTDOWN));
    cr_expect(eq(flt, out.battery, 4.0f));
    cr_expect(eq(dbl, out.uptime_s, 1e300));
    cr_expect(eq(str, out.device_class, in.device_class));
    cr_expect(eq(str, out.firmware, in.firmware));
    cr_expect(eq(str, out.address, in.address));
    cr_expect(eq(str, out.detector, in.detector));
    cr_assert(eq(sz, out.metric_count, HLT_RECORD_METRICS_MAX));
    cr_expect(eq(u16, out.metric[15].name_id, 65520));
    cr_expect(eq(dbl, out.metric[15].value, -15.5));
    cr_assert(eq(u16, out.metric[15].state_len, HLT_RECORD_STATE_MAX));
    cr_expect(eq(int, memcmp(out.metric[15].state, state, sizeof(state)), 0));
    /* every other field: what was read writes the same bytes */
    cr_assert(eq(sz, hlt_device_record_write(&out, again), len));
    cr_expect(eq(int, memcmp(again, buffer, len), 0));
}

Test(record, an_empty_device_comes_back)
{
    struct hlt_device_record in = {.cpu = NAN, .uptime_s = NAN};
    struct hlt_device_record out;
    size_t len = hlt_device_record_write(&in, buffer);

    cr_assert(eq(int, hlt_device_record_read(&out, buffer, len), HLT_OK));
    cr_expect(eq(sz, out.metric_count, 0));
    cr_expect(eq(str, out.firmware, ""));
    cr_expect(isnan(out.cpu) != 0);
    cr_expect(isnan(out.uptime_s) != 0);
}

Test(record, an_alert_comes_back_as_it_was_written)
{
    struct hlt_alert_record in = largest_alert();
    struct hlt_alert_record out;
    uint8_t again[HLT_ALERT_RECORD_MAX];
    size_t len = hlt_alert_record_write(&in, buffer);

    cr_assert(le(sz, len, HLT_ALERT_RECORD_MAX));
    cr_assert(eq(int, hlt_alert_record_read(&out, buffer, len), HLT_OK));
    cr_expect(eq(str, out.device_id, in.device_id));
    cr_expect(eq(str, out.name, in.name));
    cr_expect(eq(str, out.metric, in.metric));
    cr_expect(eq(str, out.message, in.message));
    cr_expect(eq(str, out.acknowledged_by, in.acknowledged_by));
    cr_expect(eq(u8, out.topics, 0x0e));
    cr_expect(eq(dbl, out.expected, -1e-300));
    cr_expect(eq(i64, out.acknowledged_ms, 17));
    cr_assert(eq(sz, hlt_alert_record_write(&out, again), len));
    cr_expect(eq(int, memcmp(again, buffer, len), 0));
}

Test(record, an_identity_comes_back_and_borrows_its_claims)
{
    static char claims[HLT_CLAIMS_STORED_MAX + 1];
    struct hlt_identity_record in = {.exp_s = 1,
                                     .seen_ms = 2,
                                     .durable = 1,
                                     .claims = claims,
                                     .claims_len = HLT_CLAIMS_STORED_MAX};
    struct hlt_identity_record out;

    memset(claims, 'x', sizeof(claims));
    fill(in.user, sizeof(in.user), 'u');
    size_t len = hlt_identity_record_write(&in, buffer);
    cr_assert(le(sz, len, HLT_IDENTITY_RECORD_MAX));
    cr_assert(eq(int, hlt_identity_record_read(&out, buffer, len), HLT_OK));
    cr_expect(eq(str, out.user, in.user));
    cr_expect(eq(u32, out.claims_len, HLT_CLAIMS_STORED_MAX));
    const uint8_t *claims_at = (const uint8_t *)out.claims;
    cr_expect(claims_at > buffer && claims_at + out.claims_len <= buffer + len);

    in.claims_len = HLT_CLAIMS_STORED_MAX + 1; /* a cut document would be another document */
    len = hlt_identity_record_write(&in, buffer);
    cr_assert(eq(int, hlt_identity_record_read(&out, buffer, len), HLT_OK));
    cr_expect(eq(u32, out.claims_len, 0));
}

Test(record, a_blob_comes_back_whatever_its_length)
{
    static const size_t lengths[] = {0, 1, 65526, 65527, 65528, 100000};
    uint8_t *data = malloc(100000);
    uint8_t *record = malloc(100000 + HLT_RECORD_HEADER);
    const void *out;
    size_t out_len;

    memset(data, 0x5a, 100000);
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t len = hlt_blob_record_write(data, lengths[i], record);
        cr_assert(eq(sz, len, lengths[i] + HLT_RECORD_HEADER));
        cr_assert(eq(int, hlt_blob_record_read(&out, &out_len, record, len), HLT_OK), "row %zu", i);
        cr_assert(eq(sz, out_len, lengths[i]));
        cr_expect(eq(int, memcmp(out, data, out_len), 0));
        cr_expect(not(hlt_record_valid(record, len - 1)), "row %zu", i);
    }
    free(data);
    free(record);
}

Test(record, any_flipped_bit_and_any_cut_is_noticed)
{
    struct hlt_alert_record in = {.device_id = "device-1", .name = "silence", .message = "x"};
    struct hlt_alert_record out;
    size_t len = hlt_alert_record_write(&in, buffer);

    for (size_t bit = 0; bit < len * 8; bit++) {
        if (bit / 8 == 0) {
            continue; /* the minor layout number: a newer one is readable */
        }
        buffer[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        memset(&out, 0x77, sizeof(out));
        cr_expect(eq(int, hlt_alert_record_read(&out, buffer, len), HLT_EPARSE), "bit %zu", bit);
        cr_expect(eq(u8, out.status, 0x77), "*out was touched at bit %zu", bit);
        buffer[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (size_t cut = 0; cut < len; cut++) {
        cr_expect(eq(int, hlt_alert_record_read(&out, buffer, cut), HLT_EPARSE), "cut %zu", cut);
    }
    cr_expect(eq(int, hlt_alert_record_read(&out, NULL, 0), HLT_EPARSE));
}

Test(record, a_cut_with_a_mended_checksum_is_refused_too)
{
    struct hlt_device_record device = largest_device();
    struct hlt_device_record out;
    uint8_t copy[HLT_DEVICE_RECORD_MAX];

    device.metric_count = 2;
    size_t len = hlt_device_record_write(&device, copy);
    for (size_t cut = HLT_RECORD_HEADER; cut < len; cut++) {
        uint8_t *exact = malloc(cut); /* its end is the end of memory: overruns show under ASan */
        memcpy(exact, copy, cut);
        mend(exact, cut);
        cr_assert(hlt_record_valid(exact, cut));
        cr_expect(eq(int, hlt_device_record_read(&out, exact, cut), HLT_EPARSE), "cut %zu", cut);
        free(exact);
    }
}

Test(record, a_longer_record_of_the_same_major_layout_is_read)
{
    struct hlt_alert_record in = largest_alert();
    struct hlt_alert_record out;
    size_t len = hlt_alert_record_write(&in, buffer);

    memset(buffer + len, 0xee, 16); /* fields of a later version */
    buffer[0] = 9;                  /* its minor number */
    mend(buffer, len + 16);
    cr_assert(eq(int, hlt_alert_record_read(&out, buffer, len + 16), HLT_OK));
    cr_expect(eq(i64, out.acknowledged_ms, 17));
    buffer[1] = 2; /* a newer major number */
    cr_expect(eq(int, hlt_alert_record_read(&out, buffer, len + 16), HLT_EPARSE));
    cr_expect(not(hlt_record_valid(buffer, len + 16)));
    buffer[1] = 0;
    cr_expect(eq(int, hlt_alert_record_read(&out, buffer, len + 16), HLT_EPARSE));
}

Test(record, a_text_that_is_not_utf8_or_holds_a_nul_is_refused)
{
    struct hlt_alert_record in = {.device_id = "device-1"};
    struct hlt_alert_record out;
    size_t len = hlt_alert_record_write(&in, buffer);

    cr_assert(eq(int, memcmp(buffer + 9, "device-1", 8), 0));
    buffer[9] = 0xff;
    mend(buffer, len);
    cr_expect(eq(int, hlt_alert_record_read(&out, buffer, len), HLT_EPARSE));
    buffer[9] = 0;
    mend(buffer, len);
    cr_expect(eq(int, hlt_alert_record_read(&out, buffer, len), HLT_EPARSE));
}

Test(record, a_text_cut_inside_a_character_loses_that_character_only)
{
    struct hlt_alert_record in = {.device_id = "device-1", .message = "hei\xc3"};
    struct hlt_alert_record out;
    size_t len = hlt_alert_record_write(&in, buffer);

    cr_assert(eq(int, hlt_alert_record_read(&out, buffer, len), HLT_OK));
    cr_expect(eq(str, out.message, "hei"));
    memset(in.message, 'y', sizeof(in.message)); /* no NUL at all */
    len = hlt_alert_record_write(&in, buffer);
    cr_assert(eq(int, hlt_alert_record_read(&out, buffer, len), HLT_OK));
    cr_expect(eq(sz, strlen(out.message), sizeof(in.message) - 1));
}

Test(record, numbers_without_a_word_read_as_the_careful_one)
{
    struct hlt_alert_record in = {.status = 200, .severity = 200};
    struct hlt_alert_record out;
    struct hlt_device_record device = {.band = 200, .status = 200, .disconnect_reason = 200};
    struct hlt_device_record device_out;

    size_t len = hlt_alert_record_write(&in, buffer);
    cr_assert(eq(int, hlt_alert_record_read(&out, buffer, len), HLT_OK));
    cr_expect(eq(u8, out.status, HLT_ALERT_FIRING));
    cr_expect(eq(u8, out.severity, HLT_SEV_CRITICAL));
    len = hlt_device_record_write(&device, buffer);
    cr_assert(eq(int, hlt_device_record_read(&device_out, buffer, len), HLT_OK));
    cr_expect(eq(u8, device_out.band, HLT_BAND_UNKNOWN));
    cr_expect(eq(u8, device_out.status, HLT_STATUS_UNKNOWN));
    cr_expect(eq(u8, device_out.disconnect_reason, HLT_GONE_UNKNOWN));
}

Test(record, limits_are_kept_by_the_writer)
{
    struct hlt_device_record in = largest_device();
    struct hlt_device_record out;

    in.metric_count = HLT_RECORD_METRICS_MAX + 1;
    in.metric[0].state_len = HLT_RECORD_STATE_MAX + 1;
    size_t len = hlt_device_record_write(&in, buffer);
    cr_assert(le(sz, len, HLT_DEVICE_RECORD_MAX));
    cr_assert(eq(int, hlt_device_record_read(&out, buffer, len), HLT_OK));
    cr_expect(eq(sz, out.metric_count, HLT_RECORD_METRICS_MAX));
    cr_expect(eq(u16, out.metric[0].state_len, 0));
    cr_expect(eq(u16, out.metric[1].state_len, HLT_RECORD_STATE_MAX));
}

Test(record, every_number_has_its_word)
{
    cr_expect(eq(str, (char *)hlt_band_word(HLT_BAND_HEALTHY), "healthy"));
    cr_expect(eq(str, (char *)hlt_band_word(HLT_BAND_CRITICAL), "critical"));
    cr_expect(eq(str, (char *)hlt_band_word(4), "unknown"));
    cr_expect(eq(str, (char *)hlt_disconnect_word(HLT_GONE_LOST), "connection_lost"));
    cr_expect(eq(str, (char *)hlt_disconnect_word(HLT_GONE_DUPLICATE), "duplicate_client_id"));
    cr_expect(eq(str, (char *)hlt_disconnect_word(HLT_GONE_KICKED_EXPIRED), "token_expired"));
    cr_expect(eq(str, (char *)hlt_disconnect_word(99), "unknown"));
    cr_expect(eq(str, (char *)hlt_alert_status_word(HLT_ALERT_FIRING), "firing"));
    cr_expect(eq(str, (char *)hlt_alert_status_word(3), "unknown"));
}

Test(record, an_incident_has_one_id_that_anybody_can_derive)
{
    char id[33], other[33];

    /* printf 'd1\0high\0temperature\0%s' 7 | sha256sum | cut -c1-32 */
    hlt_alert_id("d1", "high", "temperature", 7, id);
    cr_expect(eq(str, id, "a58731a3fde4268ec2a0532371c283dc"));
    hlt_alert_id("d1", "high", "temperature", 8, other);
    cr_expect(ne(str, id, other));
    hlt_alert_id("d1", "hight", "emperature", 7, other); /* the borders are part of it */
    cr_expect(ne(str, id, other));
    hlt_alert_id("", "", "", UINT32_MAX, other);
    cr_expect(eq(sz, strlen(other), 32));
}
