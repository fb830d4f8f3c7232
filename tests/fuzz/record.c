/* record.c - arbitrary bytes as records: no decoder may crash, overrun or give out a bad text.
 *
 * The checksum would stop nearly every input, so each goes in twice: as it is, and with its header
 * put right. */
#include "../../shared/record.h"

#include <stdlib.h>
#include <string.h>

#include "../../shared/hash.h"
#include "../../shared/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void require_text(const char *text, size_t field_bytes)
{
    size_t len = strnlen(text, field_bytes);

    require(len < field_bytes && hlt_utf8_valid(text, len));
}

/* What was accepted must survive being written and read again, to the byte. */
static void device(const uint8_t *record, size_t len)
{
    static uint8_t first[HLT_DEVICE_RECORD_MAX], second[HLT_DEVICE_RECORD_MAX];
    struct hlt_device_record d;

    if (hlt_device_record_read(&d, record, len) != HLT_OK) {
        return;
    }
    require_text(d.device_class, sizeof(d.device_class));
    require_text(d.firmware, sizeof(d.firmware));
    require_text(d.address, sizeof(d.address));
    require_text(d.detector, sizeof(d.detector));
    require(d.metric_count <= HLT_RECORD_METRICS_MAX);
    for (size_t i = 0; i < d.metric_count; i++) {
        const struct hlt_metric_record *m = &d.metric[i];
        require(m->state >= record && m->state + m->state_len <= record + len);
    }
    size_t written = hlt_device_record_write(&d, first);
    require(written <= HLT_DEVICE_RECORD_MAX);
    require(hlt_device_record_read(&d, first, written) == HLT_OK);
    require(hlt_device_record_write(&d, second) == written && memcmp(first, second, written) == 0);
}

static void alert(const uint8_t *record, size_t len)
{
    uint8_t first[HLT_ALERT_RECORD_MAX], second[HLT_ALERT_RECORD_MAX];
    struct hlt_alert_record a;

    if (hlt_alert_record_read(&a, record, len) != HLT_OK) {
        return;
    }
    require_text(a.device_id, sizeof(a.device_id));
    require_text(a.name, sizeof(a.name));
    require_text(a.metric, sizeof(a.metric));
    require_text(a.message, sizeof(a.message));
    require_text(a.acknowledged_by, sizeof(a.acknowledged_by));
    size_t written = hlt_alert_record_write(&a, first);
    require(written <= HLT_ALERT_RECORD_MAX);
    require(hlt_alert_record_read(&a, first, written) == HLT_OK);
    require(hlt_alert_record_write(&a, second) == written && memcmp(first, second, written) == 0);
}

static void identity(const uint8_t *record, size_t len)
{
    uint8_t out[HLT_IDENTITY_RECORD_MAX];
    struct hlt_identity_record identity;

    if (hlt_identity_record_read(&identity, record, len) != HLT_OK) {
        return;
    }
    require_text(identity.user, sizeof(identity.user));
    require_text(identity.kid, sizeof(identity.kid));
    require((const uint8_t *)identity.claims + identity.claims_len <= record + len);
    require(hlt_utf8_valid(identity.claims, identity.claims_len));
    require(hlt_identity_record_write(&identity, out) <= sizeof(out));
}

static void revocation(const uint8_t *record, size_t len)
{
    uint8_t out[HLT_REVOCATION_RECORD_MAX];
    struct hlt_revocation_record revocation;

    if (hlt_revocation_record_read(&revocation, record, len) != HLT_OK) {
        return;
    }
    require_text(revocation.reason, sizeof(revocation.reason));
    require_text(revocation.by, sizeof(revocation.by));
    require(hlt_revocation_record_write(&revocation, out) <= sizeof(out));
}

static void audit(const uint8_t *record, size_t len)
{
    static const uint8_t before[HLT_AUDIT_HASH_BYTES];
    uint8_t out[HLT_AUDIT_RECORD_MAX], hash[HLT_AUDIT_HASH_BYTES];
    struct hlt_audit_record a, again;

    if (hlt_audit_record_read(&a, record, len) != HLT_OK) {
        return;
    }
    require(a.body >= record && a.body + a.body_len == record + len);
    require_text(a.subject, sizeof(a.subject));
    require_text(a.client_id, sizeof(a.client_id));
    require_text(a.address, sizeof(a.address));
    require_text(a.actor, sizeof(a.actor));
    require_text(a.reason, sizeof(a.reason));
    require_text(a.detail, sizeof(a.detail));
    size_t written = hlt_audit_record_write(&a, before, out);
    require(written <= sizeof(out));
    require(hlt_audit_record_read(&again, out, written) == HLT_OK);
    hlt_audit_record_hash(&again, before, hash);
    require(memcmp(hash, again.hash, sizeof(hash)) == 0);
}

static void decode(const uint8_t *record, size_t len)
{
    const void *blob;
    size_t blob_len;

    device(record, len);
    alert(record, len);
    identity(record, len);
    revocation(record, len);
    audit(record, len);
    if (hlt_blob_record_read(&blob, &blob_len, record, len) == HLT_OK) {
        require((const uint8_t *)blob + blob_len == record + len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    decode(data, size);
    if (size < HLT_RECORD_HEADER) {
        return 0;
    }
    uint8_t *mended = malloc(size); /* exact, so that an overrun is seen */
    if (mended == NULL) {
        return 0;
    }
    uint32_t sum = hlt_checksum(data + HLT_RECORD_HEADER, size - HLT_RECORD_HEADER);
    size_t told = size < 0xffff ? size : 0xffff;
    memcpy(mended, data, size);
    mended[0] = 0;
    mended[1] = 1;
    mended[2] = (uint8_t)told;
    mended[3] = (uint8_t)(told >> 8);
    for (int i = 0; i < 4; i++) {
        mended[4 + i] = (uint8_t)(sum >> (8 * i));
    }
    decode(mended, size);
    free(mended);
    return 0;
}
