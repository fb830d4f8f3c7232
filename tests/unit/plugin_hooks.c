/* plugin_hooks.c - the hooks behind a broker of our own making, for what a real one cannot be made
 * to do on purpose: an address given to another client, a stranger amid SIGHUP's questions, a
 * broker that does not tick. */
#include <criterion/criterion.h>
#include <openssl/x509.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../../plugin/broker.h"
#include "../../plugin/plugin.h"
#include "signing.h"
#include "version.h"

/* --- the broker --- */

struct mosquitto {
    char id[64], user[1024], address[64];
    bool has_user, has_address;
    int transport;
    X509 *certificate;
};

static struct {
    MOSQ_FUNC_generic_callback hook[32];
    void *self[32];
    struct mosquitto *kicked;
    char log[65536];
    unsigned published;
} broker;

int mosquitto_plugin_version(int count, const int *versions);
int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **self, struct mosquitto_opt *options,
                          int count);
int mosquitto_plugin_cleanup(void *self, struct mosquitto_opt *options, int count);

int mosquitto_callback_register(mosquitto_plugin_id_t *id, int event,
                                MOSQ_FUNC_generic_callback callback, const void *data, void *self)
{
    (void)id;
    (void)data;
    if (event > MOSQ_EVT_DISCONNECT) {
        return MOSQ_ERR_NOT_SUPPORTED; /* a 2.0 broker */
    }
    broker.hook[event] = callback;
    broker.self[event] = self;
    return MOSQ_ERR_SUCCESS;
}

int mosquitto_callback_unregister(mosquitto_plugin_id_t *id, int event,
                                  MOSQ_FUNC_generic_callback callback, const void *data)
{
    (void)id;
    (void)event;
    (void)callback;
    (void)data;
    return MOSQ_ERR_SUCCESS;
}

void mosquitto_log_printf(int level, const char *fmt, ...)
{
    size_t at = strlen(broker.log);
    va_list args;

    (void)level;
    va_start(args, fmt);
    vsnprintf(broker.log + at, sizeof(broker.log) - at, fmt, args);
    va_end(args);
}

const char *mosquitto_client_id(const struct mosquitto *client)
{
    return client->id[0] != '\0' ? client->id : NULL;
}

const char *mosquitto_client_username(const struct mosquitto *client)
{
    return client->has_user ? client->user : NULL;
}

const char *mosquitto_client_address(const struct mosquitto *client)
{
    return client->has_address ? client->address : NULL;
}

bool mosquitto_client_clean_session(const struct mosquitto *client)
{
    (void)client;
    return false;
}

int mosquitto_client_keepalive(const struct mosquitto *client)
{
    (void)client;
    return 60;
}

void *mosquitto_client_certificate(const struct mosquitto *client)
{
    if (client->certificate != NULL) {
        X509_up_ref(client->certificate);
    }
    return client->certificate;
}

int mosquitto_client_protocol(const struct mosquitto *client)
{
    return client->transport;
}

int mosquitto_client_protocol_version(const struct mosquitto *client)
{
    (void)client;
    return 5;
}

int mosquitto_set_username(struct mosquitto *client, const char *user)
{
    client->has_user = true;
    snprintf(client->user, sizeof(client->user), "%s", user);
    return MOSQ_ERR_SUCCESS;
}

int mosquitto_broker_publish(const char *id, const char *topic, int len, void *payload, int qos,
                             bool retain, mosquitto_property *properties)
{
    (void)id;
    (void)topic;
    (void)len;
    (void)qos;
    (void)retain;
    mosquitto_property_free_all(&properties);
    free(payload);
    broker.published++;
    return MOSQ_ERR_SUCCESS;
}

int mosquitto_broker_publish_copy(const char *id, const char *topic, int len, const void *payload,
                                  int qos, bool retain, mosquitto_property *properties)
{
    (void)payload;
    return mosquitto_broker_publish(id, topic, len, NULL, qos, retain, properties);
}

int mosquitto_kick_client_by_clientid(const char *id, bool with_will)
{
    (void)with_will;
    if (broker.kicked == NULL || strcmp(broker.kicked->id, id) != 0) {
        return MOSQ_ERR_INVAL;
    }
    struct mosquitto_evt_disconnect ev = {.client = broker.kicked, .reason = -1};
    return broker.hook[MOSQ_EVT_DISCONNECT](MOSQ_EVT_DISCONNECT, &ev,
                                            broker.self[MOSQ_EVT_DISCONNECT]);
}

/* --- the clock --- */

static long wall_shift_s;   /* what the machine's wall clock is off by, as the plugin reads it */
static long coarse_shift_s; /* and how far the coarse one is from that */

int clock_gettime(clockid_t id, struct timespec *out)
{
    int rc = (int)syscall(SYS_clock_gettime, id, out);

    out->tv_sec += id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE ? wall_shift_s : 0;
    out->tv_sec += id == CLOCK_REALTIME_COARSE ? coarse_shift_s : 0;
    return rc;
}

/* --- a plugin in it --- */

static struct signer signer;
static char dir[64], *keys, *policy, db[128], keys_value[256];
static void *loaded;

static void begin(void)
{
    static const char rules[] =
        "haltere 1\nanyone\n  allow write devices/%d/telemetry\n  allow read devices/%d/commands\n"
        "  allow write open/#\n";
    const char *tmp = getenv("TMPDIR");

    memset(&broker, 0, sizeof(broker));
    signer = signer_new("HS256");
    char *jwk = jwk_of(&signer, NULL, "HS256");
    keys = file_with(jwk, strlen(jwk), 0600);
    free(jwk);
    policy = file_with(rules, sizeof(rules) - 1, 0644);
    snprintf(dir, sizeof(dir), "%s/hltXXXXXX", tmp != NULL && strlen(tmp) < 40 ? tmp : "/tmp");
    cr_assert(mkdtemp(dir) != NULL);
    snprintf(db, sizeof(db), "%s/db", dir);
    snprintf(keys_value, sizeof(keys_value), "%s", keys);
    struct mosquitto_opt options[] = {
        {"keys_file", keys_value}, {"acl_file", policy},         {"db_path", db},
        {"require_iss", "false"},  {"require_aud", "false"},     {"log_level", "debug"},
        {"health_publish", "off"}, {"max_token_lifetime", "0s"},
    };
    int rc = mosquitto_plugin_init(NULL, &loaded, options, 8);
    cr_assert_eq(rc, MOSQ_ERR_SUCCESS, "%s", broker.log);
}

static void end(void)
{
    char command[256];

    mosquitto_plugin_cleanup(loaded, NULL, 0);
    file_remove(keys);
    file_remove(policy);
    snprintf(command, sizeof(command), "rm -r %s", dir);
    cr_expect(system(command) == 0);
    if (signer.pkey != NULL) {
        EVP_PKEY_free(signer.pkey);
    }
}

static char *token_for(const char *sub, long ttl_s)
{
    char payload[256];
    long now = (long)time(NULL);

    snprintf(payload, sizeof(payload), "{\"sub\":\"%s\",\"iat\":%ld,\"exp\":%ld}", sub, now,
             now + ttl_s);
    return sign(&signer, NULL, payload);
}

static struct mosquitto client_named(const char *id)
{
    struct mosquitto client = {.has_address = true, .transport = mp_mqtt};

    snprintf(client.id, sizeof(client.id), "%s", id);
    snprintf(client.address, sizeof(client.address), "192.0.2.1");
    return client;
}

static int ask_auth(struct mosquitto *client, const char *user, const char *password)
{
    char name[1024] = "", secret[4096] = "";
    struct mosquitto_evt_basic_auth ev = {.client = client};

    if (user != NULL) {
        snprintf(name, sizeof(name), "%s", user);
        ev.username = name;
    }
    if (password != NULL) {
        snprintf(secret, sizeof(secret), "%s", password);
        ev.password = secret;
    }
    return broker.hook[MOSQ_EVT_BASIC_AUTH](MOSQ_EVT_BASIC_AUTH, &ev, loaded);
}

static int ask_acl(struct mosquitto *client, int access, const char *topic)
{
    struct mosquitto_evt_acl_check ev = {.client = client, .topic = topic, .access = access};

    return broker.hook[MOSQ_EVT_ACL_CHECK](MOSQ_EVT_ACL_CHECK, &ev, loaded);
}

static void tick(void)
{
    struct mosquitto_evt_tick ev = {.future = NULL};

    broker.hook[MOSQ_EVT_TICK](MOSQ_EVT_TICK, &ev, loaded);
}

static int sighup(void)
{
    struct mosquitto_evt_reload ev = {.future = NULL};

    return broker.hook[MOSQ_EVT_RELOAD](MOSQ_EVT_RELOAD, &ev, loaded);
}

static void gone(struct mosquitto *client)
{
    struct mosquitto_evt_disconnect ev = {.client = client, .reason = -1};

    broker.hook[MOSQ_EVT_DISCONNECT](MOSQ_EVT_DISCONNECT, &ev, loaded);
}

/* --- tests --- */

Test(plugin, only_the_fifth_plugin_interface_is_spoken)
{
    static const int of_2_0[] = {5, 4, 3, 2}, old[] = {4, 3, 2};

    cr_expect_eq(mosquitto_plugin_version(4, of_2_0), 5);
    cr_expect_eq(mosquitto_plugin_version(3, old), -1);
    cr_expect_eq(mosquitto_plugin_version(0, NULL), -1);
}

Test(plugin, reload_is_deferred_on_2_0_so_that_later_plugins_hear_of_it)
{
    begin();
    cr_expect_eq(sighup(), MOSQ_ERR_PLUGIN_DEFER);
    end();
}

Test(plugin, the_same_address_with_another_password_is_not_the_same_client)
{
    begin();
    struct mosquitto client = client_named("d1");
    char *token = token_for("d1", 600), *other = token_for("d1", 601);

    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS, "as SIGHUP asks");
    cr_expect_eq(ask_auth(&client, "d1", "guess"), MOSQ_ERR_AUTH);
    cr_expect_eq(ask_auth(&client, "d1", ""), MOSQ_ERR_AUTH);
    cr_expect_eq(ask_auth(&client, "d1", NULL), MOSQ_ERR_AUTH);
    cr_expect_eq(ask_auth(&client, "d1", other), MOSQ_ERR_SUCCESS, "a login of its own right");
    free(token);
    free(other);
    end();
}

/* DESIGN 11.4: the kick stands in the queue, the device comes back, the queue is worked off. */
Test(plugin, a_kick_in_the_queue_spares_who_came_back_with_a_fresh_token)
{
    begin();
    struct plugin *plugin = loaded;
    struct mosquitto client = client_named("d1");
    char *token = token_for("d1", 600), *fresh = token_for("d1", 6000);
    struct hlt_now later = hlt_plugin_now();

    cr_assert_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    later.wall_ms += 700000;
    later.mono_ms += 700000;
    for (int i = 0; i < 5; i++) { /* told, then kicked: as the ticks ask for it */
        later.wall_ms += 100;
        later.mono_ms += 100;
        hlt_engine_tick(plugin->engine, later);
    }
    cr_assert(hlt_engine_counters(plugin->engine)->kicks == 1);
    broker.kicked = &client;
    cr_expect_eq(ask_auth(&client, "d1", fresh), MOSQ_ERR_SUCCESS);
    cr_expect(hlt_engine_counters(plugin->engine)->kicks_dropped == 1);
    cr_expect(hlt_engine_session(plugin->engine, &client, "d1") != NULL, "still in");
    free(token);
    free(fresh);
    end();
}

Test(plugin, an_address_used_again_after_the_end_is_a_stranger)
{
    begin();
    struct mosquitto client = client_named("d1");
    char *token = token_for("d1", 600);

    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    gone(&client);
    cr_expect_eq(ask_auth(&client, "d1", NULL), MOSQ_ERR_AUTH);
    cr_expect_eq(ask_acl(&client, MOSQ_ACL_SUBSCRIBE, "devices/d1/commands"), MOSQ_ERR_SUCCESS,
                 "its own offline session, asked by the broker");
    snprintf(client.id, sizeof(client.id), "d2");
    cr_expect_eq(ask_acl(&client, MOSQ_ACL_READ, "devices/d1/commands"), MOSQ_ERR_ACL_DENIED);
    free(token);
    end();
}

Test(plugin, sighup_leaves_an_offline_session_alone)
{
    begin();
    struct mosquitto client = client_named("d1"), restored = client_named("d1");
    char *token = token_for("d1", 600);

    tick();
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    gone(&client);
    sighup();
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    restored.has_address = false;
    cr_expect_eq(ask_auth(&restored, "d1", NULL), MOSQ_ERR_SUCCESS, "read back by the broker");
    struct hlt_session *session = hlt_engine_session_by_id(((struct plugin *)loaded)->engine, "d1");
    cr_expect(session != NULL && !session->online, "being asked is not logging in");
    free(token);
    end();
}

Test(plugin, sighup_lets_no_stranger_in)
{
    begin();
    struct mosquitto client = client_named("d1"), stranger = client_named("d1");
    char *token = token_for("d1", 600);

    tick();
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    gone(&client);
    sighup();
    cr_expect_eq(ask_auth(&stranger, "d1", NULL), MOSQ_ERR_AUTH, "another address");
    cr_expect_eq(ask_auth(&client, "d1", NULL), MOSQ_ERR_AUTH, "our address, no password");
    cr_expect_eq(ask_auth(&client, "d1", "guess"), MOSQ_ERR_AUTH, "our address, a guess");
    cr_expect_eq(ask_auth(&client, "other", token), MOSQ_ERR_AUTH, "another name");
    client.transport = mp_websockets; /* 2.0 serves these before the next tick */
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_AUTH);
    stranger.has_address = false;
    stranger.transport = mp_websockets;
    cr_expect_eq(ask_auth(&stranger, "d1", NULL), MOSQ_ERR_AUTH);
    free(token);
    end();
}

Test(plugin, after_a_tick_everybody_must_show_a_token_again)
{
    begin();
    struct mosquitto client = client_named("d1"), restored = client_named("d1");

    restored.has_address = false;
    char *token = token_for("d1", 600);
    tick();
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    gone(&client);
    sighup();
    tick();
    cr_expect_eq(ask_auth(&restored, "d1", NULL), MOSQ_ERR_AUTH);
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    struct hlt_session *session = hlt_engine_session_by_id(((struct plugin *)loaded)->engine, "d1");
    cr_expect(session->online, "this was a login");
    free(token);
    end();
}

Test(plugin, a_broker_that_never_ticks_gets_no_benefit_of_the_doubt)
{
    begin();
    struct mosquitto client = client_named("d1"), restored = client_named("d1");
    char *token = token_for("d1", 600);

    restored.has_address = false;
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    gone(&client);
    sighup();
    cr_expect_eq(ask_auth(&restored, "d1", NULL), MOSQ_ERR_AUTH);
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_AUTH);
    free(token);
    end();
}

Test(plugin, a_made_up_client_is_judged_by_id_and_name_together)
{
    begin();
    struct mosquitto client = client_named("d1"), made_up = client_named("d1");
    char *token = token_for("d1", 600);

    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    made_up.has_address = false; /* check_retain_source */
    cr_expect_eq(ask_acl(&made_up, MOSQ_ACL_WRITE, "devices/d1/telemetry"), MOSQ_ERR_ACL_DENIED);
    mosquitto_set_username(&made_up, "d2");
    cr_expect_eq(ask_acl(&made_up, MOSQ_ACL_WRITE, "devices/d1/telemetry"), MOSQ_ERR_ACL_DENIED);
    mosquitto_set_username(&made_up, "d1");
    cr_expect_eq(ask_acl(&made_up, MOSQ_ACL_WRITE, "devices/d1/telemetry"), MOSQ_ERR_SUCCESS);
    cr_expect_eq(ask_acl(&made_up, MOSQ_ACL_WRITE, "$CONTROL/haltere/v1"), MOSQ_ERR_ACL_DENIED);
    made_up.has_address = true; /* a listener that never asks BASIC_AUTH */
    cr_expect_eq(ask_acl(&made_up, MOSQ_ACL_WRITE, "devices/d1/telemetry"), MOSQ_ERR_ACL_DENIED);
    cr_expect_eq(ask_acl(&made_up, MOSQ_ACL_WRITE, "open/x"), MOSQ_ERR_ACL_DENIED,
                 "the id is a device's");
    free(token);
    end();
}

static X509 *new_certificate(void)
{
    EVP_PKEY *pkey = new_pkey("ES256");
    X509 *certificate = must(X509_new());

    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, pkey);
    cr_assert(X509_sign(certificate, pkey, EVP_sha256()) > 0);
    EVP_PKEY_free(pkey);
    return certificate;
}

static char *bound_token(const char *sub, const X509 *certificate, long iat)
{
    unsigned char digest[32];
    unsigned len = 0;
    char payload[256];

    cr_assert(X509_digest(certificate, EVP_sha256(), digest, &len) == 1 && len == 32);
    char *thumbprint = b64u(digest, len);
    snprintf(payload, sizeof(payload),
             "{\"sub\":\"%s\",\"iat\":%ld,\"exp\":%ld,\"cnf\":{\"x5t#S256\":\"%s\"}}", sub, iat,
             iat + 600, thumbprint);
    free(thumbprint);
    return sign(&signer, NULL, payload);
}

static int renew_by_auth(struct mosquitto *client, char *token)
{
    struct mosquitto_evt_extended_auth ev = {.client = client,
                                             .auth_method = "JWT",
                                             .data_in = token,
                                             .data_in_len = (uint16_t)strlen(token)};

    return broker.hook[MOSQ_EVT_EXT_AUTH_START](MOSQ_EVT_EXT_AUTH_START, &ev, loaded);
}

Test(plugin, a_bound_token_needs_its_certificate)
{
    begin();
    long now = (long)time(NULL);
    X509 *mine = new_certificate(), *other = new_certificate();
    char *token = bound_token("bound", mine, now);
    struct mosquitto client = client_named("bound");

    cr_expect_eq(ask_auth(&client, NULL, token), MOSQ_ERR_AUTH, "none is visible");
    cr_expect(strstr(broker.log, "reason=binding") != NULL);
    client.certificate = other;
    cr_expect_eq(ask_auth(&client, NULL, token), MOSQ_ERR_AUTH, "another's");
    client.certificate = mine;
    cr_expect_eq(ask_auth(&client, NULL, token), MOSQ_ERR_SUCCESS);
    free(token);
    X509_free(mine);
    X509_free(other);
    end();
}

Test(plugin, renewal_keeps_the_binding)
{
    begin();
    long now = (long)time(NULL);
    X509 *mine = new_certificate(), *other = new_certificate();
    char *first = bound_token("bound", mine, now), *same = bound_token("bound", mine, now);
    char *moved = bound_token("bound", other, now), *loose = token_for("bound", 600);
    struct mosquitto client = client_named("bound");

    client.certificate = mine;
    cr_assert_eq(renew_by_auth(&client, first), MOSQ_ERR_SUCCESS, "a first login");
    cr_expect_eq(renew_by_auth(&client, same), MOSQ_ERR_SUCCESS);
    cr_expect_eq(renew_by_auth(&client, loose), MOSQ_ERR_AUTH, "unbound: a stolen one would do");
    cr_expect_eq(renew_by_auth(&client, moved), MOSQ_ERR_AUTH);
    client.certificate = other;
    cr_expect_eq(renew_by_auth(&client, moved), MOSQ_ERR_AUTH, "another certificate than before");
    free(first);
    free(same);
    free(moved);
    free(loose);
    X509_free(mine);
    X509_free(other);
    end();
}

/* The coarse clock is behind by up to a tick; here it is by more than the leeway of 30 s. */
Test(plugin, a_token_issued_this_moment_is_not_early)
{
    begin();
    struct mosquitto client = client_named("d1");
    char *token = token_for("d1", 600);

    coarse_shift_s = -32;
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    free(token);
    end();
}

/* A machine that starts without a clock of its own (DESIGN 11.18). */
Test(plugin, before_its_build_date_no_token_is_judged)
{
    begin();
    struct mosquitto client = client_named("d1");
    char *token = token_for("d1", 600);

    wall_shift_s = HLT_BUILD_DATE_S - 1 - (long)time(NULL);
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_AUTH);
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_AUTH);
    cr_expect(strstr(broker.log, "reason=clock_unset") != NULL);
    const char *told = strstr(broker.log, "no token can be judged until the clock is set");
    cr_assert(told != NULL);
    cr_expect(strstr(told + 1, "no token can be judged until the clock is set") == NULL, "once");
    wall_shift_s = 0;
    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    free(token);
    end();
}

Test(plugin, an_unknown_kind_of_access_is_denied)
{
    begin();
    struct mosquitto client = client_named("d1"), nameless = client_named("");
    char *token = token_for("d1", 600);

    cr_expect_eq(ask_auth(&client, "d1", token), MOSQ_ERR_SUCCESS);
    for (int access = -1; access < 32; access++) {
        bool known = access == 1 || access == 2 || access == 4 || access == 8;
        int want = known ? MOSQ_ERR_SUCCESS : MOSQ_ERR_ACL_DENIED;
        const char *topic = access == 2 ? "devices/d1/telemetry" : "devices/d1/commands";
        cr_expect_eq(ask_acl(&client, access, topic), want, "access %d", access);
    }
    cr_expect_eq(ask_acl(&nameless, MOSQ_ACL_WRITE, "open/x"), MOSQ_ERR_ACL_DENIED);
    cr_expect_eq(ask_acl(&client, MOSQ_ACL_WRITE, NULL), MOSQ_ERR_ACL_DENIED);
    free(token);
    end();
}

Test(plugin, many_other_logins_share_a_bounded_cache_and_stay_apart)
{
    begin();
    struct plugin *self = loaded;
    struct hlt_decision decision;
    char id[64], long_id[2000];

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3000; i++) {
            snprintf(id, sizeof(id), "lamp-%d", i);
            hlt_views_decide_other(self->views, id, i % 2 != 0 ? "u" : NULL, HLT_WRITE, "open/x",
                                   &decision);
            cr_assert_eq(decision.verdict, HLT_ALLOW);
            hlt_views_decide_other(self->views, id, NULL, HLT_WRITE, "devices/d1/telemetry",
                                   &decision);
            cr_assert_eq(decision.verdict, HLT_NO_RULE);
        }
    }
    memset(long_id, 'x', sizeof(long_id) - 1);
    long_id[sizeof(long_id) - 1] = '\0';
    hlt_views_decide_other(self->views, long_id, NULL, HLT_WRITE, "open/x", &decision);
    cr_expect_eq(decision.verdict, HLT_ALLOW);
    end();
}

Test(plugin, replaced_policies_go_in_slices_and_views_follow_the_new_one)
{
    begin();
    struct plugin *self = loaded;
    struct hlt_problems problems = {.count = 0};
    struct hlt_policy *next = NULL;
    struct hlt_decision decision;
    static struct mosquitto client[1200];

    for (int i = 0; i < 1200; i++) {
        char id[16];
        snprintf(id, sizeof(id), "d%d", i);
        client[i] = client_named(id);
        char *token = token_for(id, 600);
        cr_assert_eq(ask_auth(&client[i], id, token), MOSQ_ERR_SUCCESS);
        cr_assert_eq(ask_acl(&client[i], MOSQ_ACL_WRITE, "open/x"), MOSQ_ERR_SUCCESS);
        free(token);
    }
    const char text[] = "haltere 1\nanyone\n  allow write other/#\n";
    cr_assert_eq(hlt_policy_parse(&next, text, strlen(text), "next", NULL, &problems), HLT_OK);
    cr_assert(hlt_views_swap(self->views, next));
    for (int i = 0; i < 1200; i++) {
        cr_assert_eq(ask_acl(&client[i], MOSQ_ACL_WRITE, "open/x"), MOSQ_ERR_ACL_DENIED);
        if (i % 400 == 0) { /* some views are swept before they are asked again */
            hlt_views_sweep(self->views);
        }
        cr_assert_eq(ask_acl(&client[i], MOSQ_ACL_WRITE, "other/x"), MOSQ_ERR_SUCCESS);
    }
    hlt_views_decide_other(self->views, "lamp", NULL, HLT_WRITE, "other/x", &decision);
    cr_expect_eq(decision.verdict, HLT_ALLOW);
    hlt_problems_free(&problems);
    end();
}

/* `count` devices that are logged in; they live until the next call. */
static struct mosquitto *devices(int count)
{
    static struct mosquitto client[1200];

    for (int i = 0; i < count; i++) {
        char id[16];
        snprintf(id, sizeof(id), "d%d", i);
        client[i] = client_named(id);
        char *token = token_for(id, 600);
        cr_assert_eq(ask_auth(&client[i], id, token), MOSQ_ERR_SUCCESS);
        free(token);
    }
    return client;
}

static void put_into_force(const char *text)
{
    struct plugin *self = loaded;
    struct hlt_problems problems = {.count = 0};
    struct hlt_policy *next = NULL;

    cr_assert_eq(hlt_policy_parse(&next, text, strlen(text), "next", NULL, &problems), HLT_OK);
    cr_assert(hlt_views_swap(self->views, next));
    hlt_problems_free(&problems);
}

Test(plugin, who_asks_the_same_all_the_time_is_seen_in_a_later_tick)
{
    begin();
    struct plugin *self = loaded;
    struct mosquitto *client = devices(600);

    for (int tick = 0; tick < 3; tick++) { /* one tick takes no more than 256 questions down */
        for (int i = 0; i < 600; i++) {
            cr_assert_eq(ask_acl(&client[i], MOSQ_ACL_WRITE, "open/x"), MOSQ_ERR_SUCCESS);
        }
        hlt_views_sweep(self->views);
    }
    put_into_force("haltere 1\nanyone\n  allow write other/#\n");
    for (int tick = 0; tick < 20; tick++) {
        hlt_views_sweep(self->views);
    }
    cr_expect(strstr(broker.log, "600 of 600 clients change") != NULL, "%s", broker.log);
    end();
}

Test(plugin, a_reload_amid_the_comparing_of_another_loses_no_change)
{
    begin();
    struct plugin *self = loaded;
    struct mosquitto *client = devices(120);

    for (int i = 0; i < 120; i++) {
        cr_assert_eq(ask_acl(&client[i], MOSQ_ACL_WRITE, "open/x"), MOSQ_ERR_SUCCESS);
    }
    put_into_force("haltere 1\nanyone\n  allow write other/#\n");
    hlt_views_sweep(self->views); /* some of them */
    put_into_force("haltere 1\nanyone\n  allow write other/#\n# as before\n");
    for (int tick = 0; tick < 20; tick++) {
        hlt_views_sweep(self->views);
    }
    cr_expect(strstr(broker.log, "50 of 50 clients change") != NULL, "%s", broker.log);
    cr_expect(strstr(broker.log, "70 of 120 clients change") != NULL, "%s", broker.log);
    cr_expect_eq(hlt_engine_counters(self->engine)->clients_changed, 120);
    end();
}

Test(plugin, a_storm_of_reloads_piles_up_no_policies)
{
    begin();
    struct plugin *self = loaded;
    struct hlt_problems problems = {.count = 0};
    static struct mosquitto client[600];
    char text[96];

    for (int i = 0; i < 600; i++) {
        char id[16];
        snprintf(id, sizeof(id), "d%d", i);
        client[i] = client_named(id);
        char *token = token_for(id, 600);
        cr_assert_eq(ask_auth(&client[i], id, token), MOSQ_ERR_SUCCESS);
        cr_assert_eq(ask_acl(&client[i], MOSQ_ACL_WRITE, "open/x"), MOSQ_ERR_SUCCESS);
        free(token);
    }
    for (int round = 0; round < 200; round++) {
        struct hlt_policy *next = NULL;
        snprintf(text, sizeof(text), "haltere 1\nanyone\n  allow write open/#\n# %d\n", round);
        cr_assert_eq(hlt_policy_parse(&next, text, strlen(text), "next", NULL, &problems), HLT_OK);
        cr_assert(hlt_views_swap(self->views, next));
        cr_assert_eq(ask_acl(&client[round], MOSQ_ACL_WRITE, "open/x"), MOSQ_ERR_SUCCESS);
        hlt_views_sweep(self->views);
        cr_assert_leq(hlt_views_replaced(self->views), 16, "round %d", round);
    }
    hlt_problems_free(&problems);
    end();
}

Test(plugin, a_half_way_init_cleans_up_after_itself)
{
    struct mosquitto_opt options[] = {{"keys_file", "/nonexistent/keys"},
                                      {"acl_file", "/nonexistent/acl"},
                                      {"db_path", "/nonexistent/db"}};

    memset(&broker, 0, sizeof(broker));
    cr_expect(mosquitto_plugin_init(NULL, &loaded, options, 3) != MOSQ_ERR_SUCCESS);
    cr_expect(strstr(broker.log, "/nonexistent/keys") != NULL);
    cr_expect(strstr(broker.log, "/nonexistent/acl") != NULL, "both mistakes at once");
    cr_expect(mosquitto_plugin_init(NULL, &loaded, NULL, 0) != MOSQ_ERR_SUCCESS);
}
