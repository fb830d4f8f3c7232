/* control_ban.c - the commands about bans: listBans, addBan, removeBan. */
#include <stdio.h>
#include <string.h>

#include "../shared/text.h"
#include "control_ban.h"

static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* NULL: `subject` is whom the command is about. */
static const char *read_subject(const cJSON *command, struct hlt_ban_subject *subject)
{
    const char *address = text_of(command, "address"), *id = text_of(command, "deviceId");
    char key[HLT_BAN_KEY_MAX];
    const char *why = NULL;

    if (address == NULL && id == NULL) {
        return "address or deviceId is missing: give one, or both to ban an id from one address";
    }
    if (id != NULL && !hlt_id_valid(id, strlen(id), &why)) {
        return "deviceId can be no device's id";
    }
    const char *kind = address == NULL ? "device" : id == NULL ? "address" : "login";
    int len = snprintf(key, sizeof(key), "%s %s%s%s", kind, address != NULL ? address : "",
                       address != NULL && id != NULL ? " " : "", id != NULL ? id : "");
    if (len < 0 || (size_t)len >= sizeof(key) || !hlt_ban_key_parse(subject, key, (size_t)len)) {
        return "address is no IPv4 or IPv6 address (IPv6 is banned by /64)";
    }
    return NULL;
}

const char *hlt_command_add_ban(struct plugin *self, struct hlt_now now, const char *author,
                                const cJSON *command)
{
    static struct hlt_err err; /* the response is made before the next command runs */
    const char *length = text_of(command, "duration");
    struct hlt_ban_order order = {
        .for_ms = self->options.ban_time_s * 1000,
        .author = author,
        .reason = text_of(command, "reason"),
    };

    if (order.reason != NULL && strlen(order.reason) > HLT_BAN_REASON_MAX) {
        return "reason is longer than 127 bytes";
    }
    if (length != NULL && strcmp(length, "forever") == 0) {
        order.for_ms = HLT_BAN_FOREVER;
    } else if (length != NULL &&
               (!hlt_duration_parse(length, &order.for_ms) || order.for_ms <= 0)) {
        return "duration is none: write a whole number with s, min, h or d, such as 10min, or "
               "forever";
    }
    const char *error = read_subject(command, &order.subject);
    if (error != NULL) {
        return error;
    }
    return hlt_engine_ban(self->engine, now, &order, &err) == HLT_OK ? NULL : err.msg;
}

const char *hlt_command_remove_ban(struct plugin *self, struct hlt_now now, const cJSON *command)
{
    struct hlt_ban_subject subject;
    const char *error = read_subject(command, &subject);

    if (error != NULL) {
        return error;
    }
    return hlt_engine_unban(self->engine, now, &subject) == HLT_OK ? NULL : "no such ban";
}

/* From the highest index down: a ban that goes while somebody turns the pages is replaced by the
 * highest, so that one may come twice but none is left out. */
const char *hlt_command_list_bans(struct plugin *self, struct hlt_now now, const cJSON *command,
                                  cJSON **data)
{
    const struct hlt_ban *ban;
    struct hlt_page page;
    size_t held = 0, total = 0;
    const char *wrong = hlt_page_read(&page, command);

    if (wrong != NULL) {
        return wrong;
    }
    for (; (ban = hlt_engine_ban_at(self->engine, held)) != NULL; held++) {
        total += now.mono_ms < ban->until_mono_ms; /* else over, waiting to be swept out */
    }
    size_t at = page.after > 0 && page.after < (double)held ? (size_t)page.after : held;
    *data = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(*data, "bans");
    if (list == NULL) {
        return "not enough memory";
    }
    for (; at > 0 && page.left > 0; at--) {
        ban = hlt_engine_ban_at(self->engine, at - 1);
        if (now.mono_ms < ban->until_mono_ms) {
            (void)cJSON_AddItemToArray(list, hlt_ban_json(ban));
            page.left--;
        }
    }
    hlt_page_end(*data, total, (double)at);
    return NULL;
}
