/* admin.c - one admin command over MQTT: connect, ask, wait for the answer, leave. */
#include "admin.h"

#include <errno.h>
#include <mosquitto.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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
    bool failed;      /* err says why */
    bool tls;         /* we speak it */
    bool connected;   /* the broker has answered the login */
    bool explained;   /* `logged` is in our words */
    char logged[192]; /* what the library complained of, "" if of nothing */
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
    enum { HOST, PORT, CAFILE, CERT, KEY, TOKEN, CLIENT_ID };
    unsigned long long port = 0;

    *out = (struct hlt_admin){.host = values[HOST],
                              .cafile = values[CAFILE],
                              .cert = values[CERT],
                              .key = values[KEY],
                              .token_file = values[TOKEN],
                              .client_id = values[CLIENT_ID]};
    if (!hlt_cli_number("port", values[PORT], 1, 65535, &port)) {
        return false;
    }
    out->port = (int)port;
    if ((out->cert == NULL) != (out->key == NULL)) {
        (void)hlt_cli_fail(HLT_EXIT_USAGE, "give --cert and --key together");
        return false;
    }
    if (out->cert != NULL && out->cafile == NULL) {
        (void)hlt_cli_fail(HLT_EXIT_USAGE, "--cert goes with --cafile, which turns TLS on");
        return false;
    }
    if (out->token_file == NULL) {
        (void)hlt_cli_fail(HLT_EXIT_USAGE,
                           "--token-file FILE is missing: the broker asks for an admin's token");
        return false;
    }
    return true;
}

bool hlt_admin_named(const char *const *values)
{
    for (int i = 0; i < HLT_ADMIN_OPTION_COUNT; i++) {
        if (values[i] != NULL) {
            return true;
        }
    }
    return false;
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

/* What the library's words about TLS mean for whoever gave the command; NULL: no more than they
 * say.
 */
static const char *meaning(const char *text)
{
    static const struct {
        const char *words, *meaning;
    } rows[] = {
        {"host name verification", "the broker's certificate is for another name than --host"},
        {"certificate verify failed", "the broker's certificate is not vouched for by --cafile, or "
                                      "out of its time"},
        {"certificate required", "the broker asks for a certificate: give --cert and --key"},
        {"unknown ca", "the broker does not accept the certificate of --cert"},
        {"unexpected eof", "no TLS is spoken there: leave --cafile out, or name the TLS port"},
        {"wrong version number",
         "no TLS is spoken there: leave --cafile out, or name the TLS port"},
        {"key values mismatch", "--key is not the key of --cert"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (strstr(text, rows[i].words) != NULL) {
            return rows[i].meaning;
        }
    }
    return NULL;
}

/* Keeps the first line that we can explain, else the first: the library's result codes say less. */
static void on_log(struct mosquitto *mosq, void *context, int level, const char *text)
{
    struct talk *talk = context;
    const char *known = level == MOSQ_LOG_ERR ? meaning(text) : NULL;

    (void)mosq;
    if (known != NULL && !talk->explained) {
        talk->explained = true;
        (void)snprintf(talk->logged, sizeof(talk->logged), "%s", known);
    } else if (level == MOSQ_LOG_ERR && talk->logged[0] == '\0') {
        (void)snprintf(talk->logged, sizeof(talk->logged), "%s", text);
    }
}

static void fail(struct talk *talk, const char *what, const char *why)
{
    if (!talk->failed) {
        talk->failed = true;
        (void)hlt_fail(talk->err, HLT_EIO, "%s: %s", what,
                       talk->logged[0] != '\0' ? talk->logged : why);
    }
}

#define NO_TLS                                                                                     \
    "TLS failed: is it spoken on that port, and does the broker ask for a certificate (--cert)?"

/* Why the connection ended. A broker that wants another certificate may close before its words
 * about it were read. */
static const char *why_ended(const struct talk *talk, int rc)
{
    bool cut = rc == MOSQ_ERR_CONN_LOST || rc == MOSQ_ERR_TLS ||
               (rc == MOSQ_ERR_ERRNO && (errno == EPROTO || errno == ECONNRESET || errno == EPIPE));

    if (cut && !talk->connected) {
        return talk->tls ? NO_TLS : "if it listens for TLS there, give --cafile";
    }
    return rc == MOSQ_ERR_ERRNO ? strerror(errno) : mosquitto_strerror(rc);
}

static void on_connect(struct mosquitto *mosq, void *context, int rc)
{
    struct talk *talk = context;

    talk->connected = true;
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
        fail(talk, "the broker closed the connection before it answered", why_ended(talk, rc));
    }
}

/* --- the talk --- */

/* Said here by name: the library only calls its arguments invalid. */
static bool readable(const struct hlt_admin *where, struct talk *talk)
{
    talk->failed =
        hlt_file_check(where->cafile, HLT_FILE_PUBLIC, talk->err) != HLT_OK ||
        (where->cert != NULL &&
         hlt_file_check(where->cert, HLT_FILE_PUBLIC, talk->err) != HLT_OK) ||
        (where->key != NULL && hlt_file_check(where->key, HLT_FILE_SECRET, talk->err) != HLT_OK);
    return !talk->failed;
}

static bool set_up(struct mosquitto *mosq, const struct hlt_admin *where, const char *user,
                   const char *token, struct talk *talk)
{
    int rc;

    mosquitto_connect_callback_set(mosq, on_connect);
    mosquitto_log_callback_set(mosq, on_log);
    mosquitto_message_callback_set(mosq, on_message);
    mosquitto_disconnect_callback_set(mosq, on_disconnect);
    rc = mosquitto_username_pw_set(mosq, user, token);
    if (rc != MOSQ_ERR_SUCCESS) {
        fail(talk, "cannot use the token", mosquitto_strerror(rc));
        return false;
    }
    if (talk->tls) {
        if (!readable(where, talk)) {
            return false;
        }
        rc = mosquitto_tls_set(mosq, where->cafile, NULL, where->cert, where->key, NULL);
        if (rc != MOSQ_ERR_SUCCESS) {
            fail(talk, where->cafile, mosquitto_strerror(rc));
            return false;
        }
    }
    return true;
}

/* The library (2.0.11) overlooks a connection that was refused while it speaks TLS. */
static bool hung_up(int sock)
{
    struct pollfd seen = {.fd = sock, .events = POLLIN};
    char byte;

    return poll(&seen, 1, 0) > 0 && (seen.revents & POLLHUP) != 0 &&
           recv(sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
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
        if (rc == MOSQ_ERR_SUCCESS && talk->response == NULL && hung_up(mosquitto_socket(mosq))) {
            fail(talk, what, "the connection was refused or cut off; is TLS spoken on that port?");
        }
    }
    if (rc != MOSQ_ERR_SUCCESS && talk->response == NULL) {
        fail(talk, what, why_ended(talk, rc));
    }
    (void)mosquitto_disconnect(mosq);
    (void)mosquitto_loop(mosq, 0, 1);
}

char *hlt_admin_request(const struct hlt_admin *where, const char *document, struct hlt_err *err)
{
    struct hlt_err ignored = {""};
    struct talk talk = {
        .document = document, .err = err != NULL ? err : &ignored, .tls = where->cafile != NULL};
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

/* Move the page's entries to `all`; false if there are none. */
static bool take_page(cJSON *all, const cJSON *data, const char *member)
{
    cJSON *page = cJSON_GetObjectItemCaseSensitive(data, member);
    bool some = page != NULL && page->child != NULL;
    cJSON *entry;

    while (page != NULL && (entry = cJSON_DetachItemFromArray(page, 0)) != NULL) {
        (void)cJSON_AddItemToArray(all, entry);
    }
    return some;
}

int hlt_admin_list(const struct hlt_admin *where, const char *name, const char *member,
                   cJSON **list)
{
    cJSON *all = cJSON_CreateArray(), *data = NULL;
    double after = 0;
    int code = HLT_EXIT_OK;
    bool more = true;

    while (code == HLT_EXIT_OK && more) {
        cJSON *command = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(command, "command", name);
        if (after > 0) {
            (void)cJSON_AddNumberToObject(command, "after", after);
        }
        code = hlt_admin_command(where, command, &data);
        const cJSON *next = cJSON_GetObjectItemCaseSensitive(data, "next");
        more = take_page(all, data, member) && cJSON_IsNumber(next);
        after = more ? next->valuedouble : 0;
        cJSON_Delete(data);
    }
    if (code != HLT_EXIT_OK) {
        cJSON_Delete(all);
        all = NULL;
    }
    *list = all;
    return code;
}
