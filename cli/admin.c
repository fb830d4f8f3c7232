/* admin.c - one admin command over MQTT: connect, ask, wait for the answer, leave. */
#include "admin.h"

#include <errno.h>
#include <mosquitto.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../shared/base64url.h"
#include "../shared/file.h"
#include "../shared/jsonpull.h"
#include "../shared/text.h"

#define TOPIC "$CONTROL/haltere/v1"
#define RESPONSE "$CONTROL/haltere/v1/response"
#define KEEPALIVE_S 60
#define LOOP_MS 100

/* One request under way. */
struct talk {
    const char *document;
    char *response;
    struct hlt_err *err;
    bool failed; /* err says why */
};

static int64_t mono_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- options --- */

bool hlt_admin_from(struct hlt_admin *out, const char *const *values)
{
    const char *port = values[1];
    char *end = NULL;

    *out = (struct hlt_admin){
        .host = values[0], .cafile = values[2], .token_file = values[3], .client_id = values[4]};
    if (port != NULL) {
        long number = strtol(port, &end, 10);
        if (port[0] < '0' || port[0] > '9' || *end != '\0' || number < 1 || number > 65535) {
            (void)hlt_cli_fail(HLT_EXIT_USAGE, "--port '%s' is not a number from 1 to 65535", port);
            return false;
        }
        out->port = (int)number;
    }
    if (out->token_file == NULL) {
        (void)hlt_cli_fail(HLT_EXIT_USAGE,
                           "--token-file FILE is missing: the broker asks for an admin's token");
        return false;
    }
    return true;
}

/* --- who we are --- */

/* The token's sub, unverified: the broker will judge it. */
static bool read_sub(const char *token, char *out, size_t out_bytes)
{
    const char *begin = strchr(token, '.');
    const char *end = begin != NULL ? strchr(begin + 1, '.') : NULL;
    struct hlt_json reader;
    enum hlt_json_event event;
    bool found = false;

    if (end == NULL) {
        return false;
    }
    size_t room = HLT_BASE64URL_DATA((size_t)(end - begin - 1));
    char *payload = hlt_cli_resize(NULL, room + 1);
    size_t len = hlt_base64url_decode(payload, room, begin + 1, (size_t)(end - begin - 1));
    if (len != SIZE_MAX && hlt_json_find(payload, len, "sub", &reader, &event) &&
        event == HLT_JSON_STRING) {
        size_t sub_len = hlt_json_unescape(out, out_bytes, reader.text, reader.text_len);
        found = sub_len != SIZE_MAX && hlt_id_valid(out, sub_len, NULL);
    }
    free(payload);
    return found;
}

/* The token without the newline an editor leaves; NULL after `err`. */
static char *read_token(const char *path, struct hlt_err *err)
{
    char *token = NULL;
    size_t len = 0;

    if (hlt_file_read(path, HLT_FILE_SECRET, HLT_ADMIN_TOKEN_MAX, &token, &len, err) != HLT_OK) {
        return NULL;
    }
    token[strcspn(token, " \t\r\n")] = '\0';
    return token;
}

/* --- what the broker says --- */

static void fail(struct talk *talk, const char *what, const char *why)
{
    if (!talk->failed) {
        talk->failed = true;
        (void)hlt_fail(talk->err, HLT_EIO, "%s: %s", what, why);
    }
}

static void on_connect(struct mosquitto *mosq, void *context, int rc)
{
    struct talk *talk = context;

    if (rc != 0) {
        fail(talk, "the broker refuses the token",
             "its log says why (signature, expiry, audience, revocation, ban)");
        return;
    }
    rc =
        mosquitto_publish(mosq, NULL, TOPIC, (int)strlen(talk->document), talk->document, 1, false);
    if (rc != MOSQ_ERR_SUCCESS) {
        fail(talk, "cannot send the command", mosquitto_strerror(rc));
    }
}

static void on_message(struct mosquitto *mosq, void *context,
                       const struct mosquitto_message *message)
{
    struct talk *talk = context;

    (void)mosq;
    if (talk->response != NULL || strcmp(message->topic, RESPONSE) != 0 ||
        message->payloadlen < 0 || (size_t)message->payloadlen > HLT_ADMIN_RESPONSE_MAX) {
        return;
    }
    size_t len = (size_t)message->payloadlen;
    talk->response = hlt_cli_resize(NULL, len + 1);
    if (len > 0) {
        memcpy(talk->response, message->payload, len);
    }
    talk->response[len] = '\0';
}

static void on_disconnect(struct mosquitto *mosq, void *context, int rc)
{
    struct talk *talk = context;

    (void)mosq;
    if (talk->response == NULL) {
        fail(talk, "the broker closed the connection before it answered", mosquitto_strerror(rc));
    }
}

/* --- the talk --- */

static bool set_up(struct mosquitto *mosq, const struct hlt_admin *where, const char *user,
                   const char *token, struct talk *talk)
{
    int rc;

    mosquitto_connect_callback_set(mosq, on_connect);
    mosquitto_message_callback_set(mosq, on_message);
    mosquitto_disconnect_callback_set(mosq, on_disconnect);
    rc = mosquitto_username_pw_set(mosq, user, token);
    if (rc != MOSQ_ERR_SUCCESS) {
        fail(talk, "cannot use the token", mosquitto_strerror(rc));
        return false;
    }
    if (where->cafile != NULL) {
        rc = mosquitto_tls_set(mosq, where->cafile, NULL, NULL, NULL, NULL);
        if (rc != MOSQ_ERR_SUCCESS) {
            fail(talk, where->cafile, mosquitto_strerror(rc));
            return false;
        }
    }
    return true;
}

/* Until there is an answer, a failure or no time left. Not mosquitto_connect(): it waits for a host
 * that drops packets as long as the kernel does. */
static void converse(struct mosquitto *mosq, const struct hlt_admin *where, struct talk *talk)
{
    const char *host = where->host != NULL ? where->host : "localhost";
    int port = where->port != 0 ? where->port : where->cafile != NULL ? 8883 : 1883;
    int64_t timeout_ms = where->timeout_ms > 0 ? where->timeout_ms : HLT_ADMIN_TIMEOUT_MS;
    int64_t end_ms = mono_ms() + timeout_ms;
    char what[300];

    (void)snprintf(what, sizeof(what), "cannot reach the broker at %s:%d", host, port);
    int rc = mosquitto_connect_async(mosq, host, port, KEEPALIVE_S);
    while (rc == MOSQ_ERR_SUCCESS && talk->response == NULL && !talk->failed) {
        if (mono_ms() >= end_ms) {
            fail(talk, what, "no answer in time; is Haltere's plugin loaded there?");
        }
        rc = mosquitto_loop(mosq, LOOP_MS, 1);
    }
    if (rc != MOSQ_ERR_SUCCESS && talk->response == NULL) {
        fail(talk, what, rc == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(rc));
    }
    (void)mosquitto_disconnect(mosq);
    (void)mosquitto_loop(mosq, 0, 1);
}

char *hlt_admin_request(const struct hlt_admin *where, const char *document, struct hlt_err *err)
{
    struct hlt_err ignored = {""};
    struct talk talk = {.document = document, .err = err != NULL ? err : &ignored};
    char sub[HLT_ID_MAX + 1];
    char *token = read_token(where->token_file, talk.err);

    if (token == NULL) {
        return NULL;
    }
    if (!read_sub(token, sub, sizeof(sub))) {
        free(token);
        (void)hlt_fail(talk.err, HLT_EPARSE, "%s holds no token: see 'haltere token show'",
                       where->token_file);
        return NULL;
    }
    (void)mosquitto_lib_init();
    const char *client_id = where->client_id != NULL ? where->client_id : sub;
    struct mosquitto *mosq = mosquitto_new(client_id, true, &talk);
    if (mosq == NULL) {
        (void)hlt_fail(talk.err, HLT_EINVAL, "cannot make a client '%s': %s", client_id,
                       strerror(errno));
    } else {
        if (set_up(mosq, where, sub, token, &talk)) {
            converse(mosq, where, &talk);
        }
        mosquitto_destroy(mosq);
    }
    (void)mosquitto_lib_cleanup();
    free(token);
    return talk.response;
}

/* The entry of our one command; the request as a whole is answered by {"error"} alone. */
static int judge(const cJSON *response, cJSON **data)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(response, "responses");
    cJSON *entry = cJSON_GetArrayItem(list, 0);
    const char *error = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(entry, "error"));

    if (!cJSON_IsObject(entry)) {
        error = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(response, "error"));
        char shown[512];
        (void)hlt_printable(shown, sizeof(shown), error != NULL ? error : "no response in it",
                            error != NULL ? strlen(error) : 17);
        return hlt_cli_fail(HLT_EXIT_IO, "the broker's answer makes no sense: %s", shown);
    }
    if (error != NULL) {
        char shown[512];
        (void)hlt_printable(shown, sizeof(shown), error, strlen(error));
        return hlt_cli_fail(HLT_EXIT_NO, "%s", shown);
    }
    if (data != NULL) {
        *data = cJSON_DetachItemFromObjectCaseSensitive(entry, "data");
    }
    return HLT_EXIT_OK;
}

int hlt_admin_command(const struct hlt_admin *where, cJSON *command, cJSON **data)
{
    struct hlt_err err = {""};
    cJSON *request = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(request, "commands");
    char *text = NULL;
    int code;

    if (data != NULL) {
        *data = NULL;
    }
    if (list == NULL || !cJSON_AddItemToArray(list, command)) {
        cJSON_Delete(command);
    } else {
        text = cJSON_PrintUnformatted(request);
    }
    cJSON_Delete(request);
    if (text == NULL) {
        return hlt_cli_fail(HLT_EXIT_IO, "not enough memory");
    }
    char *answer = hlt_admin_request(where, text, &err);
    cJSON_free(text);
    if (answer == NULL) {
        return hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
    }
    cJSON *response = cJSON_Parse(answer);
    free(answer);
    code = judge(response, data);
    cJSON_Delete(response);
    return code;
}
