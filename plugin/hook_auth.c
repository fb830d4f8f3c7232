/* hook_auth.c - who is it? Logins by password (BASIC_AUTH) and by MQTT 5 enhanced authentication.
 *
 * A token makes a session of the engine; every other login is somebody else's to judge (DESIGN
 * 3, 11.1, 11.3, 11.8). */
#include <openssl/err.h>
#include <openssl/x509.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../shared/text.h"
#include "plugin.h"
#include "version.h"

#define METHOD "JWT" /* the Authentication Method of MQTT 5 */
/* A broker that does not tick: SIGHUP's questions are over after this pause. */
#define ASKING_AGAIN_MS 1000

/* What a client showed. The strings are the broker's: gone after mosquitto_set_username(). */
struct attempt {
    struct mosquitto *client;
    const char *client_id, *user, *password, *address;
    const char *token;
    size_t token_len;
    bool enhanced;
    bool hashed; /* `secret` is the SHA-256 of `password` */
    uint8_t secret[HLT_SHA256_BYTES];
};

static bool empty(const char *text)
{
    return text == NULL || text[0] == '\0';
}

/* Made once for SIGHUP's comparison and for the token cache. */
static const uint8_t *secret_of(struct attempt *attempt)
{
    if (!attempt->hashed) {
        const char *text = attempt->password != NULL ? attempt->password : "";
        hlt_sha256(attempt->secret, text, strlen(text));
        attempt->hashed = true;
    }
    return attempt->secret;
}

static int refuse(struct plugin *self, struct hlt_now now, const struct attempt *attempt,
                  enum hlt_reason reason, const char *detail)
{
    struct hlt_refusal refusal = {
        .reason = reason,
        .client_id = attempt->client_id,
        .user = attempt->user,
        .address = attempt->address,
        .detail = empty(detail) ? NULL : detail,
    };

    if (attempt->user != NULL && hlt_token_shaped(attempt->user, strlen(attempt->user))) {
        refusal.user = NULL; /* never a token in a log */
    }
    hlt_engine_refused(self->engine, now, &refusal);
    hlt_act(self);
    return MOSQ_ERR_AUTH; /* any other error closes the connection without a CONNACK (facts:
                             BASIC_AUTH) */
}

/* Does the connection show the certificate that the token is bound to (RFC 8705 section 3)? The
 * broker has checked by then that the client holds its key. */
static bool shows_certificate(const struct mosquitto *client, const struct hlt_claims *claims)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    X509 *certificate = mosquitto_client_certificate(client);
    bool same = false;

    ERR_set_mark();
    if (certificate != NULL && X509_digest(certificate, EVP_sha256(), digest, &len) == 1 &&
        len == sizeof(claims->certificate_sha256)) {
        same = sodium_memcmp(digest, claims->certificate_sha256, len) == 0;
    }
    X509_free(certificate);
    ERR_pop_to_mark(); /* the broker reads this thread's queue for its TLS connections */
    return same;
}

/* What only this connection can judge about a token. */
static enum hlt_reason judge_binding(const struct mosquitto *client,
                                     const struct hlt_claims *claims, struct hlt_err *detail)
{
    if (claims->bound && !shows_certificate(client, claims)) {
        (void)hlt_fail(detail, HLT_EINVAL, "the connection shows no such certificate");
        return HLT_REASON_BINDING;
    }
    return HLT_REASON_OK;
}

/* The signature, from the cache or by its key. A ban stops signature work and nothing else: a token
 * seen before gets in (DESIGN 11.14). */
static enum hlt_reason authenticate(struct plugin *self, const struct mosquitto *client,
                                    const struct hlt_shown *shown, struct hlt_claims **claims,
                                    struct hlt_err *detail)
{
    struct hlt_counters *counters = hlt_engine_counters(self->engine);
    struct hlt_now now = hlt_plugin_now();
    int64_t now_s = hlt_plugin_wall_s();
    bool fits =
        shown->len <= self->token_rules.max_bytes; /* else refused unread, so never cached */
    const uint8_t *hash = shown->hash;
    uint8_t made[HLT_SHA256_BYTES];

    if (fits && hash == NULL) {
        hlt_sha256(made, shown->token, shown->len);
        hash = made;
    }
    *claims = fits ? hlt_tokencache_get(self->tokens, hash) : NULL;
    if (*claims != NULL) {
        counters->cache_hits++;
        return hlt_claims_judge_times(*claims, &self->token_rules, now_s, detail);
    }
    enum hlt_reason reason = hlt_engine_admit(self->engine, now, mosquitto_client_address(client),
                                              mosquitto_client_id(client));
    if (reason != HLT_REASON_OK) {
        return reason;
    }
    counters->cache_misses++;
    reason = hlt_token_verify(self->verifier, self->keys, &self->token_rules, shown->token,
                              shown->len, now_s, claims, detail);
    if (reason == HLT_REASON_OK) {
        hlt_tokencache_put(self->tokens, hash, *claims);
    }
    return reason;
}

enum hlt_reason hlt_auth_verify(struct plugin *self, const struct mosquitto *client,
                                const struct hlt_shown *shown, struct hlt_claims **claims,
                                struct hlt_err *detail)
{
    *claims = NULL;
    if (hlt_plugin_wall_s() < HLT_BUILD_DATE_S) {
        if (!self->clock_unset_told) {
            self->clock_unset_told = true;
            hlt_say(
                self->options.log_level, HLT_LOG_ERR,
                "this machine's clock is before the day Haltere was built: no token can be judged "
                "until the clock is set");
        }
        return HLT_REASON_CLOCK_UNSET;
    }
    enum hlt_reason reason = authenticate(self, client, shown, claims, detail);
    if (reason == HLT_REASON_OK) {
        reason = judge_binding(client, *claims, detail);
    }
    if (reason != HLT_REASON_OK) {
        hlt_claims_free(*claims);
        *claims = NULL;
    }
    return reason;
}

/* A token's owner may call itself nothing, its sub, or "jwt" (clients that must send a name). */
static bool user_name_fits(const struct plugin *self, const struct attempt *attempt,
                           const struct hlt_claims *claims)
{
    if (self->options.token_in_username && !attempt->enhanced) {
        return true; /* there the token itself stands */
    }
    return empty(attempt->user) || strcmp(attempt->user, claims->sub) == 0 ||
           strcmp(attempt->user, "jwt") == 0;
}

/* The will of a connection that this login takes over is asked for with the old pointer. */
static void note_take_over(struct plugin *self, const struct attempt *attempt)
{
    const struct hlt_session *old = hlt_engine_session_by_id(self->engine, attempt->client_id);

    self->taken_over =
        old != NULL && old->online && old->client != attempt->client ? old->client : NULL;
}

static int log_in(struct plugin *self, struct hlt_now now, struct attempt *attempt,
                  struct hlt_claims *claims)
{
    struct hlt_session *session = NULL;
    struct hlt_login login = {
        .client = attempt->client,
        .client_id = attempt->client_id,
        .address = attempt->address,
        .secret = attempt->enhanced ? NULL : secret_of(attempt),
        .durable = !mosquitto_client_clean_session(attempt->client),
        .enhanced = attempt->enhanced,
        .protocol = mosquitto_client_protocol_version(attempt->client),
        .keepalive_s = mosquitto_client_keepalive(attempt->client),
    };

    /* No token in the broker's log and database, and SIGHUP finds a name. This frees attempt->user.
     */
    attempt->user = NULL;
    if (mosquitto_set_username(attempt->client, claims->sub) != MOSQ_ERR_SUCCESS) {
        hlt_claims_free(claims);
        return refuse(self, now, attempt, HLT_REASON_INTERNAL, "the broker refuses the user name");
    }
    note_take_over(self, attempt);
    enum hlt_reason reason = hlt_engine_login(self->engine, now, &login, claims, &session);
    if (reason != HLT_REASON_OK) {
        hlt_claims_free(claims);
        return refuse(self, now, attempt, reason, NULL);
    }
    hlt_act(self);
    return MOSQ_ERR_SUCCESS;
}

/* With a password as the token its hash is wanted for the session, too. */
static bool hash_serves_twice(const struct plugin *self, const struct attempt *attempt)
{
    return attempt->token == attempt->password && attempt->token_len <= self->token_rules.max_bytes;
}

static struct hlt_shown shown_by(const struct plugin *self, struct attempt *attempt)
{
    return (struct hlt_shown){.token = attempt->token,
                              .len = attempt->token_len,
                              .hash = hash_serves_twice(self, attempt) ? secret_of(attempt) : NULL};
}

static int new_login(struct plugin *self, struct hlt_now now, struct attempt *attempt)
{
    struct hlt_err detail = {.msg = ""};
    struct hlt_claims *claims = NULL;

    if (attempt->client_id == NULL) {
        return refuse(self, now, attempt, HLT_REASON_CLIENT_ID, NULL);
    }
    if (attempt->token == NULL) {
        return refuse(self, now, attempt, HLT_REASON_NO_TOKEN, NULL);
    }
    struct hlt_shown shown = shown_by(self, attempt);
    enum hlt_reason reason = hlt_auth_verify(self, attempt->client, &shown, &claims, &detail);
    if (reason != HLT_REASON_OK) {
        return refuse(self, now, attempt, reason, detail.msg);
    }
    if (!user_name_fits(self, attempt, claims)) {
        hlt_claims_free(claims);
        return refuse(self, now, attempt, HLT_REASON_USER_NAME, NULL);
    }
    return log_in(self, now, attempt, claims);
}

/* --- BASIC_AUTH --- */

/* Is this pointer's connection alive, and was this the password it came with? "Known pointer" alone
 * would let a stranger in: addresses are reused (facts: 0.5). */
static bool shown_before(const struct hlt_session *session, struct attempt *attempt)
{
    if (session->enhanced) {
        return empty(attempt->password);
    }
    return sodium_memcmp(secret_of(attempt), session->secret, sizeof(session->secret)) == 0;
}

/* Is SIGHUP asking about our own session that is offline, and not a stranger who looks like it? */
static bool is_own_offline(const struct plugin *self, const struct hlt_session *session,
                           struct attempt *attempt)
{
    if (session->online || attempt->user == NULL ||
        strcmp(attempt->user, session->claims->sub) != 0) {
        return false;
    }
    /* 2.0 serves websockets between RELOAD and TICK; a session without a connection is never one of
     * theirs. A broker that does not tick leaves us unsure when SIGHUP's questions end. */
    if (!self->ticked || mosquitto_client_protocol(attempt->client) == mp_websockets) {
        return false;
    }
    return attempt->address ==
               NULL || /* read back from the broker's own store: no connection at all */
           (attempt->client == session->client && shown_before(session, attempt));
}

/* SIGHUP asks about this client again. SUCCESS leaves a session that is offline as it is. AUTH
 * would keep it as well, but 2.0 then lists it twice for session expiry and later touches freed
 * memory (2.0.11 src/session_expiry.c). */
static int answer_again(struct plugin *self, struct hlt_now now, struct attempt *attempt)
{
    const char *id = attempt->client_id;
    const struct hlt_session *session =
        id != NULL ? hlt_engine_session_by_id(self->engine, id) : NULL;

    self->asked_mono_ms = now.mono_ms;
    if (session != NULL) {
        return is_own_offline(self, session, attempt) ? MOSQ_ERR_SUCCESS : MOSQ_ERR_AUTH;
    }
    if (!self->options.allow_other_auth ||
        (id != NULL && hlt_engine_id_reserved(self->engine, id)) ||
        (attempt->user != NULL && hlt_engine_id_reserved(self->engine, attempt->user))) {
        return MOSQ_ERR_AUTH;
    }
    return MOSQ_ERR_PLUGIN_DEFER;
}

static int other_login(struct plugin *self, struct hlt_now now, const struct attempt *attempt)
{
    if (hlt_engine_admit(self->engine, now, attempt->address, attempt->client_id) !=
        HLT_REASON_OK) {
        return refuse(self, now, attempt, HLT_REASON_BANNED, NULL);
    }
    if (!self->options.allow_other_auth) {
        return refuse(self, now, attempt, HLT_REASON_NO_TOKEN, NULL);
    }
    if (hlt_engine_id_reserved(self->engine, attempt->client_id) ||
        (!empty(attempt->user) && hlt_engine_id_reserved(self->engine, attempt->user))) {
        return refuse(self, now, attempt, HLT_REASON_ID_RESERVED, NULL);
    }
    hlt_engine_counters(self->engine)->logins_other++;
    return MOSQ_ERR_PLUGIN_DEFER;
}

/* A token seen before needs no look at its spelling: that would cost as much as all the cache does.
 */
static bool shows_token(const struct plugin *self, struct attempt *attempt)
{
    if (attempt->token == NULL) {
        return false;
    }
    return (hash_serves_twice(self, attempt) &&
            hlt_tokencache_holds(self->tokens, secret_of(attempt))) ||
           hlt_token_shaped(attempt->token, attempt->token_len);
}

static bool still_asking_again(struct plugin *self, struct hlt_now now)
{
    if (self->asking_again && now.mono_ms - self->asked_mono_ms > ASKING_AGAIN_MS) {
        self->asking_again = false;
    }
    return self->asking_again;
}

int hlt_on_basic_auth(int event, void *event_data, void *userdata)
{
    struct plugin *self = userdata;
    const struct mosquitto_evt_basic_auth *ev = event_data;
    struct hlt_now now = hlt_plugin_now();
    struct attempt attempt = {
        .client = ev->client,
        .client_id = mosquitto_client_id(ev->client),
        .user = ev->username,
        .password = ev->password,
        .address = mosquitto_client_address(ev->client),
    };

    (void)event;
    attempt.token = self->options.token_in_username ? attempt.user : attempt.password;
    attempt.token_len = attempt.token != NULL ? strlen(attempt.token) : 0;
    const struct hlt_session *session =
        hlt_engine_session(self->engine, attempt.client, attempt.client_id);
    if (session != NULL && !session->barred && shown_before(session, &attempt) &&
        !hlt_session_expired(session, now.wall_ms)) {
        self->asked_mono_ms = now.mono_ms;
        return MOSQ_ERR_SUCCESS;
    }
    if (still_asking_again(self, now)) {
        return answer_again(self, now, &attempt);
    }
    hlt_plugin_drive(self, now);
    if (attempt.client_id == NULL) {
        return refuse(self, now, &attempt, HLT_REASON_CLIENT_ID, NULL);
    }
    return shows_token(self, &attempt) ? new_login(self, now, &attempt)
                                       : other_login(self, now, &attempt);
}

/* --- MQTT 5 enhanced authentication --- */

/* A new token for a live session: nothing in the event says so, the pointer does (facts: enhanced
 * auth). */
static int renew(struct plugin *self, struct hlt_now now, struct attempt *attempt,
                 struct hlt_session *session)
{
    struct hlt_err detail = {.msg = ""};
    struct hlt_claims *claims = NULL;
    struct hlt_shown shown = shown_by(self, attempt);
    enum hlt_reason reason = hlt_auth_verify(self, attempt->client, &shown, &claims, &detail);

    if (reason == HLT_REASON_OK) {
        reason = hlt_engine_renew(self->engine, now, session, claims, NULL);
    }
    if (reason != HLT_REASON_OK) {
        hlt_claims_free(claims);
        return refuse(self, now, attempt, reason, detail.msg);
    }
    hlt_act(self);
    return MOSQ_ERR_SUCCESS;
}

int hlt_on_ext_auth_start(int event, void *event_data, void *userdata)
{
    struct plugin *self = userdata;
    const struct mosquitto_evt_extended_auth *ev = event_data;
    struct hlt_now now = hlt_plugin_now();
    struct attempt attempt = {
        .client = ev->client,
        .client_id = mosquitto_client_id(ev->client),
        .user = mosquitto_client_username(ev->client),
        .address = mosquitto_client_address(ev->client),
        .token = ev->data_in_len > 0 ? ev->data_in : NULL,
        .token_len = ev->data_in_len,
        .enhanced = true,
    };

    (void)event;
    if (ev->auth_method == NULL || strcmp(ev->auth_method, METHOD) != 0) {
        return MOSQ_ERR_PLUGIN_DEFER;
    }
    struct hlt_session *session =
        hlt_engine_session(self->engine, attempt.client, attempt.client_id);
    if (session == NULL) {
        return new_login(self, now, &attempt);
    }
    if (attempt.token == NULL) {
        return refuse(self, now, &attempt, HLT_REASON_NO_TOKEN, NULL);
    }
    return renew(self, now, &attempt, session);
}
