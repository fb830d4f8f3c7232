/* control.c - commands on $CONTROL/haltere/v1, in the shape of dynamic-security's.
 *
 * Each command is authorised on its own; errors travel in the response, which goes to the requester
 * alone (DESIGN 11.2). Bridges come here unasked, so a client without a token session is told no.
 */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/jsonpull.h"
#include "control_ban.h"

#define REQUEST_MAX ((size_t)64 * 1024)
#define COMMANDS_MAX 32
#define COMMAND_NAME_MAX 64 /* echoed in the response */
#define PAGE_DEFAULT 1000   /* entries in one answer: some 200 KB */
#define PAGE_MAX 10000

struct request {
    struct plugin *self;
    struct hlt_now now;
    struct mosquitto *client;
    struct hlt_session *session; /* NULL: not a token session */
    const cJSON *command;
    cJSON *data; /* the answer, owned by whoever asked */
};

/* --- reading --- */

static const char *text_member(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

/* cJSON takes more than RFC 8259 and goes deep; ours looks first. */
static bool well_formed(const char *text, size_t len)
{
    struct hlt_json reader;
    enum hlt_json_event event;

    hlt_json_begin(&reader, text, len);
    do {
        event = hlt_json_next(&reader);
    } while (event != HLT_JSON_DONE && event != HLT_JSON_ERROR);
    return event == HLT_JSON_DONE;
}

/* --- pages --- */

const char *hlt_page_read(struct hlt_page *out, const cJSON *command)
{
    const cJSON *after = cJSON_GetObjectItemCaseSensitive(command, "after");
    const cJSON *limit = cJSON_GetObjectItemCaseSensitive(command, "limit");

    if ((after != NULL && (!cJSON_IsNumber(after) || !(after->valuedouble >= 0))) ||
        (limit != NULL && (!cJSON_IsNumber(limit) ||
                           !(limit->valuedouble >= 1 && limit->valuedouble <= PAGE_MAX)))) {
        return "after must be an answer's next, limit 1 to 10000";
    }
    *out = (struct hlt_page){
        .after = after != NULL ? after->valuedouble : 0,
        .left = limit != NULL ? (unsigned)limit->valuedouble : PAGE_DEFAULT,
    };
    return NULL;
}

void hlt_page_end(cJSON *data, size_t total, double next)
{
    (void)cJSON_AddNumberToObject(data, "total", (double)total);
    if (next > 0) {
        (void)cJSON_AddNumberToObject(data, "next", next);
    }
}

/* --- commands: NULL when done, else what went wrong --- */

static const char *cmd_renew(struct request *request)
{
    struct plugin *self = request->self;
    struct hlt_claims *claims = NULL;
    struct hlt_err detail = {.msg = ""};
    const char *token = text_member(request->command, "token");

    if (token == NULL) {
        return "token is missing: give the new token as a string";
    }
    struct hlt_shown shown = {.token = token, .len = strlen(token)};
    enum hlt_reason reason = hlt_auth_verify(self, request->client, &shown, &claims, &detail);
    if (reason == HLT_REASON_OK) {
        /* NULL: SIGHUP goes on asking with the password of the login. */
        reason = hlt_engine_renew(self->engine, request->now, request->session, claims, NULL);
    }
    if (reason == HLT_REASON_OK) {
        return NULL;
    }
    hlt_claims_free(claims);
    struct hlt_refusal refusal = {
        .reason = reason,
        .client_id = request->session->client_id,
        .user = request->session->claims->sub,
        .address = request->session->address,
        .detail = detail.msg[0] != '\0' ? detail.msg : NULL,
    };
    hlt_engine_refused(self->engine, request->now, &refusal);
    return hlt_reason_text(reason);
}

/* A document of the engine's as the answer's data. */
static const char *answer_document(struct request *request, char *document)
{
    request->data = cJSON_Parse(document);
    free(document);
    return request->data != NULL ? NULL : "not enough memory";
}

static const char *cmd_get_status(struct request *request)
{
    char *document = hlt_engine_status(request->self->engine, request->now);

    return document != NULL ? answer_document(request, document) : "not enough memory";
}

static const char *cmd_get_device(struct request *request)
{
    const char *id = text_member(request->command, "deviceId");

    if (id == NULL) {
        return "deviceId is missing";
    }
    char *document = hlt_engine_device_status(request->self->engine, request->now, id);
    return document != NULL ? answer_document(request, document) : "no such device";
}

static const char *cmd_reload(struct request *request)
{
    hlt_reload_request(request->self->reload);
    return NULL;
}

static const char *cmd_acknowledge(struct request *request)
{
    const char *id = text_member(request->command, "id");

    if (id == NULL) {
        return "id is missing: give the alert's id";
    }
    switch (hlt_engine_acknowledge(request->self->engine, request->now, id,
                                   request->session->client_id)) {
    case HLT_OK: return NULL;
    case HLT_ENOTFOUND: return "no firing alert has this id";
    default: return "the alert cannot be acknowledged now";
    }
}

static const char *cmd_forget(struct request *request)
{
    const char *id = text_member(request->command, "deviceId");

    if (id == NULL) {
        return "deviceId is missing";
    }
    switch (hlt_engine_forget(request->self->engine, request->now, id)) {
    case HLT_OK: return NULL;
    case HLT_ENOTFOUND: return "no such device";
    case HLT_EBUSY: return "the device is online: disconnect it first";
    default: return "the device cannot be forgotten now";
    }
}

static const char *cmd_revoke(struct request *request)
{
    return hlt_control_revoke(request->self, request->now, request->session->claims->sub,
                              request->command);
}

static const char *cmd_unrevoke(struct request *request)
{
    return hlt_control_unrevoke(request->self, request->now, request->session->claims->sub,
                                request->command);
}

static const char *cmd_revocations(struct request *request)
{
    return hlt_control_revocations(request->self, request->command, &request->data);
}

static const char *cmd_list_bans(struct request *request)
{
    return hlt_command_list_bans(request->self, request->now, request->command, &request->data);
}

static const char *cmd_add_ban(struct request *request)
{
    return hlt_command_add_ban(request->self, request->now, request->session->client_id,
                               request->command);
}

static const char *cmd_remove_ban(struct request *request)
{
    return hlt_command_remove_ban(request->self, request->now, request->command);
}

static const struct {
    const char *name;
    const char *(*run)(struct request *request);
    bool everybody; /* any token session; else admin_roles */
} commands[] = {
    {"renew", cmd_renew, true},
    {"getStatus", cmd_get_status, false},
    {"getDevice", cmd_get_device, false},
    {"reload", cmd_reload, false},
    {"acknowledgeAlert", cmd_acknowledge, false},
    {"forgetDevice", cmd_forget, false},
    {"revokeToken", cmd_revoke, false},
    {"unrevokeToken", cmd_unrevoke, false},
    {"listRevocations", cmd_revocations, false},
    {"listBans", cmd_list_bans, false},
    {"addBan", cmd_add_ban, false},
    {"removeBan", cmd_remove_ban, false},
};

/* --- authorising and answering --- */

static bool is_admin(const struct hlt_options *options, const struct hlt_session *session)
{
    for (size_t i = 0; i < session->claims->role_count; i++) {
        for (size_t j = 0; j < options->admin_role_count; j++) {
            if (strcmp(session->claims->roles[i], options->admin_roles[j]) == 0) {
                return true;
            }
        }
    }
    return false;
}

static const char *run_command(struct request *request, const char *name)
{
    const struct hlt_session *session = request->session;

    if (session == NULL ||
        hlt_engine_barred(request->self->engine, request->session, request->now) ||
        hlt_session_expired(session, request->now.wall_ms)) {
        return "not authorised: only clients logged in by a valid token may send commands";
    }
    if (name == NULL) {
        return "command is missing";
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            if (!commands[i].everybody && !is_admin(&request->self->options, session)) {
                return "not authorised: the token has none of admin_roles";
            }
            return commands[i].run(request);
        }
    }
    return "unknown command: renew, getStatus, getDevice, reload, acknowledgeAlert, forgetDevice, "
           "revokeToken, unrevokeToken, listRevocations, "
           "listBans, addBan, removeBan";
}

/* One entry of "responses"; NULL without memory. */
static cJSON *respond(const char *name, const char *error, cJSON *data, const cJSON *correlation)
{
    cJSON *entry = cJSON_CreateObject();

    if (entry == NULL) {
        cJSON_Delete(data);
        return NULL;
    }
    (void)cJSON_AddStringToObject(
        entry, "command", name != NULL && strlen(name) <= COMMAND_NAME_MAX ? name : "unknown");
    if (error != NULL) {
        (void)cJSON_AddStringToObject(entry, "error", error);
    }
    if (data != NULL) {
        (void)cJSON_AddItemToObject(entry, "data", data);
    }
    if (cJSON_IsString(correlation) || cJSON_IsNumber(correlation)) {
        (void)cJSON_AddItemToObject(entry, "correlationData", cJSON_Duplicate(correlation, true));
    }
    return entry;
}

static void run_one(struct request *request, const cJSON *command, cJSON *responses)
{
    struct hlt_counters *counters = hlt_engine_counters(request->self->engine);
    const char *name = text_member(command, "command");

    request->command = command;
    request->data = NULL;
    const char *error = run_command(request, name);
    counters->commands++;
    if (error != NULL) {
        counters->commands_refused++;
    }
    if (name != NULL && strcmp(name, "renew") != 0) { /* that one has a record of its own */
        hlt_control_audit(request->self, request->now, request->session, command, error);
    }
    (void)cJSON_AddItemToArray(
        responses, respond(name, error, request->data,
                           cJSON_GetObjectItemCaseSensitive(command, "correlationData")));
}

/* NULL: the list was worked through, answers are in `responses`. */
static const char *run_all(struct request *request, const char *text, size_t len, cJSON *responses)
{
    const char *error = NULL;
    const cJSON *command;

    if (len > REQUEST_MAX) {
        return "the request is larger than 64 KiB";
    }
    if (!well_formed(text, len)) {
        return "the request is not JSON";
    }
    cJSON *document = cJSON_ParseWithLengthOpts(text, len, NULL, false);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(document, "commands");
    if (!cJSON_IsArray(list)) {
        error = "expected {\"commands\":[{\"command\":...}]}";
    } else if (cJSON_GetArraySize(list) > COMMANDS_MAX) {
        error = "more than 32 commands in one request";
    } else {
        cJSON_ArrayForEach(command, list)
        {
            run_one(request, command, responses);
        }
    }
    cJSON_Delete(document);
    return error;
}

/* Straight to the requester: nobody else may see the answer, whatever the policy says. */
static void send_response(struct plugin *self, const char *client_id, const cJSON *response)
{
    char *text = cJSON_PrintUnformatted(response);

    if (text == NULL) {
        return;
    }
    /* A copy: on 2.1 cJSON's memory is the broker's, elsewhere it is not. */
    int rc = mosquitto_broker_publish_copy(client_id, HLT_CONTROL_RESPONSE, (int)strlen(text), text,
                                           0, false, NULL);
    if (rc != MOSQ_ERR_SUCCESS) {
        hlt_say(self->options.log_level, HLT_LOG_WARNING,
                "the broker refuses to publish a command's response (code %d)", rc);
    }
    cJSON_free(text);
}

int hlt_on_control(int event, void *event_data, void *userdata)
{
    struct plugin *self = userdata;
    const struct mosquitto_evt_control *ev = event_data;
    const char *client_id = mosquitto_client_id(ev->client);
    struct request request = {.self = self, .now = hlt_plugin_now(), .client = ev->client};

    (void)event;
    if (client_id == NULL) {
        return MOSQ_ERR_SUCCESS; /* anything else closes the client (facts: 9) */
    }
    request.session = hlt_engine_session(self->engine, ev->client, client_id);
    cJSON *response = cJSON_CreateObject();
    cJSON *responses = cJSON_AddArrayToObject(response, "responses");
    if (responses != NULL) {
        const char *error =
            run_all(&request, ev->payload != NULL ? ev->payload : "", ev->payloadlen, responses);
        if (error != NULL) {
            (void)cJSON_AddItemToArray(responses, respond(NULL, error, NULL, NULL));
        }
        send_response(self, client_id, response);
    }
    cJSON_Delete(response);
    hlt_act(self);
    return MOSQ_ERR_SUCCESS;
}
