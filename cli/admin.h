/* admin.h - commands to a running broker: one request on $CONTROL/haltere/v1, one response.
 *
 * The login is an admin's token from a file: a token on a command line would stand in `ps`
 * (DESIGN 11.23). Shared by all verbs that change a running broker. */
#ifndef HLT_ADMIN_H
#define HLT_ADMIN_H

#include <cjson/cJSON.h>

#include "command.h"

#define HLT_ADMIN_TIMEOUT_MS 10000
#define HLT_ADMIN_TOKEN_MAX ((size_t)65536)
#define HLT_ADMIN_RESPONSE_MAX ((size_t)64 << 20)

/* Where the broker is and who we are. Strings are borrowed. */
struct hlt_admin {
    const char *host;       /* NULL: localhost */
    int port;               /* 0: 1883, or 8883 with a cafile */
    const char *cafile;     /* NULL: no TLS */
    const char *cert, *key; /* PEM: who we are to a listener that asks for a certificate; or NULL */
    const char *token_file; /* required; readable by its owner alone */
    const char *client_id;  /* NULL: the token's sub. The broker has one connection per id: a
                               client logged in as the same sub is disconnected by ours */
    int timeout_ms;         /* for all of it; 0: HLT_ADMIN_TIMEOUT_MS */
};

/* Rows for a verb's option table, in this order, and their number. */
#define HLT_ADMIN_OPTIONS                                                                          \
    {"host", "HOST", "the broker (default localhost)"},                                            \
        {"port", "PORT", "its port (default 1883; 8883 with --cafile)"},                           \
        {"cafile", "FILE", "use TLS and trust this certificate authority"},                        \
        {"cert", "FILE", "show this certificate to the broker"},                                   \
        {"key", "FILE", "its private key"},                                                        \
        {"token-file", "FILE", "log in with the admin token in this file"},                        \
    {                                                                                              \
        "client-id", "ID", "connect as ID (default: the token's sub)"                              \
    }
#define HLT_ADMIN_OPTION_COUNT 7
/* Is any of those rows given? */
bool hlt_admin_named(const char *const *values);
/* Fill `out` from the values of those rows (`values` points at the first). False: a message was
 * printed, exit with HLT_EXIT_USAGE. */
bool hlt_admin_from(struct hlt_admin *out, const char *const *values);

/* Log in, send `document`, wait for the response, log out. The response (malloc'd JSON text), or
 * NULL: `err` says what failed and what to do. Blocks up to timeout_ms. */
char *hlt_admin_request(const struct hlt_admin *where, const char *document, struct hlt_err *err);

/* Send one command, as {"command":"addBan",...}; takes `command` over. An exit code: HLT_EXIT_OK;
 * HLT_EXIT_NO when the broker answers with an error, HLT_EXIT_IO when it cannot be asked (both were
 * printed). `data` (may be NULL) gets the answer's data, NULL if it has none; the caller deletes
 * it. */
int hlt_admin_command(const struct hlt_admin *where, cJSON *command, cJSON **data);

/* All entries of a list the broker gives in pages: of the array `member` in the answers to
 * {"command":`name`}. An exit code as above; *list gets the array, the caller deletes it. */
int hlt_admin_list(const struct hlt_admin *where, const char *name, const char *member,
                   cJSON **list);

#endif
