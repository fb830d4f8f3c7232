/* control_token.c - commands that revoke tokens, and what the audit keeps of every command. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../shared/text.h"
#include "plugin.h"

static const cJSON *member(const cJSON *command, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(command, name);
}

/* A date: RFC 3339, or unix seconds. False: neither. */
static bool date_of(const cJSON *item, int64_t *unix_ms)
{
    if (cJSON_IsNumber(item) && item->valuedouble >= 0 && item->valuedouble < 253402300800.0) {
        *unix_ms = (int64_t)floor(item->valuedouble * 1000.0);
        return true;
    }
    return cJSON_IsString(item) &&
           hlt_date_parse(item->valuestring, strlen(item->valuestring), unix_ms);
}

/* Which tokens are meant: jti, sub or kid, and exactly one of them. NULL, or what is wrong. */
static const char *target_of(const cJSON *command, struct hlt_revocation *out)
{
    static const struct {
        const char *name;
        enum hlt_revoke_kind kind;
    } names[] = {{"jti", HLT_REVOKE_JTI}, {"sub", HLT_REVOKE_SUB}, {"kid", HLT_REVOKE_KID}};

    *out = (struct hlt_revocation){.id = NULL};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const cJSON *item = member(command, names[i].name);
        if (item == NULL) {
            continue;
        }
        if (out->id != NULL || !cJSON_IsString(item)) {
            return "give exactly one of jti, sub and kid, as a string";
        }
        out->kind = names[i].kind;
        out->id = item->valuestring;
    }
    if (out->id == NULL) {
        return "give one of jti, sub and kid";
    }
    if (member(command, "issuedBefore") != NULL) {
        if (out->kind != HLT_REVOKE_SUB) {
            return "issuedBefore goes with sub";
        }
        out->kind = HLT_REVOKE_BEFORE;
    }
    return NULL;
}

const char *hlt_control_revoke(struct plugin *self, struct hlt_now now, const char *by,
                               const cJSON *command)
{
    static struct hlt_err err; /* the answer is made before the next command */
    struct hlt_revocation revocation;
    const cJSON *expires = member(command, "expires");
    const cJSON *reason = member(command, "reason");
    const char *wrong = target_of(command, &revocation);
    int64_t before_ms = 0;

    if (wrong != NULL) {
        return wrong;
    }
    if (revocation.kind == HLT_REVOKE_BEFORE &&
        !date_of(member(command, "issuedBefore"), &before_ms)) {
        return "issuedBefore is not a date: write 2026-11-20T22:00:00Z or unix seconds";
    }
    if (expires != NULL && !date_of(expires, &revocation.expires_ms)) {
        return "expires is not a date: write 2026-11-20T22:00:00Z or unix seconds";
    }
    if (reason != NULL && !cJSON_IsString(reason)) {
        return "reason is not a string";
    }
    revocation.before_s = (before_ms + 999) / 1000; /* a part of a second is still before it */
    revocation.reason = hlt_audit_safe(cJSON_GetStringValue(reason));
    revocation.by = by;
    if (expires != NULL && revocation.expires_ms == 0) {
        return "expires lies in the past: it would bar nothing";
    }
    err.msg[0] = '\0';
    return hlt_engine_revoke(self->engine, now, &revocation, &err) == HLT_OK ? NULL : err.msg;
}

const char *hlt_control_unrevoke(struct plugin *self, struct hlt_now now, const char *by,
                                 const cJSON *command)
{
    struct hlt_revocation revocation;
    const char *wrong = target_of(command, &revocation);

    if (wrong != NULL) {
        return wrong;
    }
    return hlt_engine_unrevoke(self->engine, now, revocation.kind, revocation.id, by)
               ? NULL
               : "no such revocation is in force";
}

struct listing {
    cJSON *array;
    struct hlt_page page;
    double next; /* the last one listed, if there are more; else 0 */
    uint64_t last;
};

static bool add_entry(void *context, const struct hlt_revocation *revocation)
{
    struct listing *listing = context;

    if ((double)revocation->order <= listing->page.after) {
        return true;
    }
    if (listing->page.left == 0) {
        listing->next = (double)listing->last;
        return false;
    }
    (void)cJSON_AddItemToArray(listing->array, hlt_revocation_json(revocation));
    listing->page.left--;
    listing->last = revocation->order;
    return true;
}

const char *hlt_control_revocations(struct plugin *self, const cJSON *command, cJSON **data)
{
    const struct hlt_revocations *table = hlt_engine_revocations(self->engine);
    struct listing listing = {.next = 0};
    const char *wrong = hlt_page_read(&listing.page, command);

    if (wrong != NULL) {
        return wrong;
    }
    *data = cJSON_CreateObject();
    listing.array = cJSON_AddArrayToObject(*data, "revocations");
    if (listing.array == NULL) {
        return "not enough memory";
    }
    hlt_revocations_each(table, add_entry, &listing);
    hlt_page_end(*data, table->count[0], listing.next);
    return NULL;
}

/* --- the audit of commands --- */

static bool may_be_kept(const char *name)
{
    static const char *const never[] = {"token",   "password", "secret",
                                        "private", "command",  "correlationData"};

    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        if (strcasestr(name, never[i]) != NULL) {
            return false;
        }
    }
    return true;
}

/* "deviceId=pump-7 reason=stolen": strings and numbers of the command's own level. */
static void parameters(const cJSON *command, char *out, size_t out_bytes)
{
    const cJSON *item;
    size_t len = 0;

    out[0] = '\0';
    cJSON_ArrayForEach(item, command)
    {
        if (item->string == NULL || !may_be_kept(item->string) || len + 1 >= out_bytes) {
            continue;
        }
        if (cJSON_IsString(item)) {
            (void)snprintf(out + len, out_bytes - len, "%s%s=%s", len > 0 ? " " : "",
                           hlt_audit_safe(item->string), hlt_audit_safe(item->valuestring));
        } else if (cJSON_IsNumber(item)) {
            (void)snprintf(out + len, out_bytes - len, "%s%s=%.15g", len > 0 ? " " : "",
                           hlt_audit_safe(item->string), item->valuedouble);
        }
        len = strlen(out);
    }
}

void hlt_control_audit(struct plugin *self, struct hlt_now now, const struct hlt_session *session,
                       const cJSON *command, const char *error)
{
    char text[256];
    size_t len;

    parameters(command, text, sizeof(text));
    len = strlen(text);
    if (error != NULL && len + 1 < sizeof(text)) {
        (void)snprintf(text + len, sizeof(text) - len, "%s(%s)", len > 0 ? " " : "", error);
    }
    hlt_engine_audit(self->engine, now,
                     &(struct hlt_audit_event){
                         .type = HLT_AUDIT_COMMAND,
                         .subject = cJSON_GetStringValue(member(command, "command")),
                         .actor = session != NULL ? session->claims->sub : "no token session",
                         .client_id = session != NULL ? session->client_id : NULL,
                         .address = session != NULL ? session->address : NULL,
                         .reason = error == NULL ? "done" : "refused",
                         .detail = text});
}
