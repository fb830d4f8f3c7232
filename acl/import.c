/* import.c - dynamic-security's roles, flattened: one ordered list of rules for each way in which
 * clients combine them. */
#include "import.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/text.h"
#include "internal.h"

/* A role a client has, and what decides its place in the list. */
struct member {
    const cJSON *item; /* of the configuration's "roles" or "groups" */
    const char *name;
    double priority;
    size_t order;
};

/* Roles in the order in which they are asked. */
struct held {
    const cJSON *role;
};
struct sequence {
    struct held *roles;
    size_t count;
};

struct import {
    FILE *out;
    const char *name; /* of the file */
    const cJSON *roles, *groups, *clients, *defaults;
    struct sequence *sequences;
    size_t sequence_count;
    struct hlt_problems *problems;
    bool failed; /* memory is out */
};

static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static double number_of(const cJSON *object, const char *name, double otherwise)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);

    return cJSON_IsNumber(item) ? item->valuedouble : otherwise;
}

static const cJSON *named(const cJSON *list, const char *key, const char *name)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, list)
    {
        const char *own = text_of(item, key);

        if (own != NULL && name != NULL && strcmp(own, name) == 0) {
            return item;
        }
    }
    return NULL;
}

/* Text for a comment or a message. */
static void shown(char *out, size_t bytes, const char *text)
{
    (void)hlt_printable(out, bytes, text, strlen(text));
}

/* ---- words of the language ---- */

/* Can the language write this text as a word? */
static bool writable(const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f || *at == '"') {
            return false;
        }
    }
    return text[0] != '\0' && hlt_utf8_valid(text, strlen(text));
}

/* A word that reads as `text`. `prefix`: "=" or "". */
static void put_word(FILE *out, const char *prefix, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-.:/@$+#%{}";

    fprintf(out, text[strspn(text, plain)] == '\0' ? "%s%s" : "%s\"%s\"", prefix, text);
}

/* Why a topic of dynamic-security's is no filter here; NULL: it is one. */
static const char *filter_fault(const char *text)
{
    size_t levels = 1;

    if (strncmp(text, "$share", 6) == 0) {
        return "a shared subscription is judged by the filter behind $share/NAME/";
    }
    for (const char *at = text, *level = text;; at++) {
        bool ends = *at == '/' || *at == '\0';

        if ((*at == '+' || *at == '#') &&
            (at != level || (at[1] != '\0' && (at[1] != '/' || *at == '#')))) {
            return "it is no valid filter";
        }
        if (*at == '%' && strchr("cud{", at[1]) != NULL && at[1] != '\0' &&
            (at != level || strchr("cu", at[1]) == NULL || (at[2] != '/' && at[2] != '\0'))) {
            return "it holds what is a variable here";
        }
        if (ends && at - level == 2 && level[0] == '%' && strchr("cu", level[1]) == NULL) {
            return "it holds what looks like a variable here";
        }
        if (*at == '\0') {
            break;
        }
        levels += *at == '/';
        level = *at == '/' ? at + 1 : level;
    }
    return levels > HLT_ACL_LEVELS_MAX || strlen(text) > HLT_ACL_TOPIC_MAX ? "it is too long"
                                                                           : NULL;
}

/* ---- rules ---- */

static const struct kind {
    const char *type, *access, *prefix;
} kinds[] = {
    /* of one access, in the order in which they are asked: literals come first */
    {"publishClientSend", "write", ""},         {"publishClientReceive", "read", ""},
    {"subscribeLiteral", "subscribe", "="},     {"subscribePattern", "subscribe", ""},
    {"unsubscribeLiteral", "unsubscribe", "="}, {"unsubscribePattern", "unsubscribe", ""},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void not_carried(struct import *import, const char *role, const char *type,
                        const char *topic, bool allow, const char *why)
{
    char role_shown[128], topic_shown[256], type_shown[64];

    shown(role_shown, sizeof(role_shown), role);
    shown(topic_shown, sizeof(topic_shown), topic);
    shown(type_shown, sizeof(type_shown), type);
    fprintf(import->out, "  # NOT CARRIED OVER: %s %s %s: %s\n", allow ? "allow" : "deny",
            type_shown, topic_shown, why);
    hlt_problems_add(import->problems, HLT_PROBLEM_WARNING, import->name, 0, 0,
                     "role '%s': %s %s '%s' is not carried over: %s", role_shown,
                     allow ? "allow" : "deny", type_shown, topic_shown, why);
}

static void put_rule(struct import *import, const struct kind *kind, const char *topic, bool allow)
{
    const char *verb = allow ? "allow" : "deny";

    fprintf(import->out, "  %s %s ", verb, kind->access);
    put_word(import->out, kind->prefix, topic);
    fprintf(import->out, "\n");
    if (strcmp(topic, "#") == 0 && strstr(kind->type, "Pattern") != NULL) {
        /* there, a pattern # holds subscriptions to $ topics too */
        fprintf(import->out, "  %s %s $SYS/#\n  %s %s $CONTROL/#\n", verb, kind->access, verb,
                kind->access);
    }
}

static int compare_members(const void *left, const void *right)
{
    const struct member *a = left, *b = right;
    int names;

    if (a->priority != b->priority) {
        return a->priority > b->priority ? -1 : 1;
    }
    names = strcmp(a->name, b->name);
    return names != 0 ? names : a->order < b->order ? -1 : a->order > b->order;
}

/* The rules of one kind of a role, highest priority first. */
static void put_kind(struct import *import, const cJSON *role, const struct kind *kind)
{
    const cJSON *acls = cJSON_GetObjectItemCaseSensitive(role, "acls");
    size_t space = (size_t)cJSON_GetArraySize(acls), count = 0;
    struct member *members = calloc(space + 1, sizeof(*members));
    const cJSON *acl;

    if (members == NULL) {
        import->failed = true;
        return;
    }
    cJSON_ArrayForEach(acl, acls)
    {
        const char *type = text_of(acl, "acltype");

        if (type != NULL && strcmp(type, kind->type) == 0 && text_of(acl, "topic") != NULL) {
            members[count] = (struct member){
                .item = acl, .name = "", .priority = number_of(acl, "priority", 0), .order = count};
            count++;
        }
    }
    qsort(members, count, sizeof(*members), compare_members);
    for (size_t i = 0; i < count; i++) {
        const char *topic = text_of(members[i].item, "topic");
        bool allow = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(members[i].item, "allow"));
        const char *fault = filter_fault(topic);

        if (fault == NULL && !writable(topic)) {
            fault = "it cannot be written in the language";
        }
        if (fault != NULL) {
            not_carried(import, text_of(role, "rolename"), kind->type, topic, allow, fault);
        } else {
            put_rule(import, kind, topic, allow);
        }
    }
    free(members);
}

static void check_types(struct import *import, const cJSON *role)
{
    const cJSON *acl;

    cJSON_ArrayForEach(acl, cJSON_GetObjectItemCaseSensitive(role, "acls"))
    {
        const char *type = text_of(acl, "acltype");
        const char *topic = text_of(acl, "topic");
        bool known = false;

        for (size_t i = 0; type != NULL && i < KINDS; i++) {
            known |= strcmp(type, kinds[i].type) == 0;
        }
        if (!known || topic == NULL) {
            not_carried(import, text_of(role, "rolename"), type != NULL ? type : "(no type)",
                        topic != NULL ? topic : "(no topic)",
                        cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(acl, "allow")),
                        "this version does not know it");
        }
    }
}

/* What holds where no rule of a sequence matches. */
static void put_defaults(struct import *import)
{
    static const struct {
        const char *name, *access;
        bool denied; /* has to be said: what nobody denies would be allowed */
    } rows[] = {{"publishClientSend", "write", false},
                {"publishClientReceive", "read", false},
                {"subscribe", "subscribe", true},
                {"unsubscribe", "unsubscribe", true}};

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        bool allow = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(import->defaults, rows[i].name));
        const char *verb = allow ? "allow" : "deny";

        if (!allow && !rows[i].denied) {
            continue;
        }
        fprintf(import->out, "  # defaultACLAccess %s: %s\n  %s %s #\n  %s %s $SYS/#\n",
                rows[i].name, verb, verb, rows[i].access, verb, rows[i].access);
        if (!allow) {
            fprintf(import->out, "  deny %s $CONTROL/#\n", rows[i].access);
        }
    }
}

static void put_sequence(struct import *import, size_t index)
{
    const struct sequence *sequence = &import->sequences[index];

    fprintf(import->out, "\n# roles:");
    for (size_t i = 0; i < sequence->count; i++) {
        char name[128];

        shown(name, sizeof(name), text_of(sequence->roles[i].role, "rolename"));
        fprintf(import->out, "%s %s", i > 0 ? "," : "", name);
    }
    fprintf(import->out, "%s\nrole dynsec-%zu ordered\n", sequence->count == 0 ? " none" : "",
            index + 1);
    for (size_t i = 0; i < sequence->count; i++) {
        check_types(import, sequence->roles[i].role);
    }
    /* Each access is asked on its own: only the order within one access counts, role by role. */
    for (size_t i = 0; i < sequence->count; i++) {
        for (size_t k = 0; k < KINDS; k++) {
            put_kind(import, sequence->roles[i].role, &kinds[k]);
        }
    }
    put_defaults(import);
}

/* ---- who has which roles ---- */

/* Append the roles of a client or group, highest priority first; those that are there stay. */
static void add_roles(struct import *import, struct sequence *sequence, const cJSON *holder)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(holder, "roles");
    size_t space = (size_t)cJSON_GetArraySize(list), count = 0;
    struct member *members = calloc(space + 1, sizeof(*members));
    struct held *roles = realloc(sequence->roles, (sequence->count + space + 1) * sizeof(*roles));
    const cJSON *entry;

    if (roles != NULL) {
        sequence->roles = roles;
    }
    if (members == NULL || roles == NULL) {
        import->failed = true;
        free(members);
        return;
    }
    cJSON_ArrayForEach(entry, list)
    {
        const char *name = text_of(entry, "rolename");
        const cJSON *role = named(import->roles, "rolename", name);

        if (role != NULL) {
            members[count] = (struct member){.item = role,
                                             .name = name,
                                             .priority = number_of(entry, "priority", -1),
                                             .order = count};
            count++;
        }
    }
    qsort(members, count, sizeof(*members), compare_members);
    for (size_t i = 0; i < count; i++) {
        bool there = false;

        for (size_t j = 0; j < sequence->count; j++) {
            there |= roles[j].role == members[i].item; /* its first place decides */
        }
        if (!there) {
            roles[sequence->count++].role = members[i].item;
        }
    }
    free(members);
}

/* The groups of a client, highest priority first, and their roles. */
static void add_groups(struct import *import, struct sequence *sequence, const cJSON *client)
{
    const cJSON *own = cJSON_GetObjectItemCaseSensitive(client, "groups");
    struct member *members =
        calloc((size_t)cJSON_GetArraySize(import->groups) + 1, sizeof(*members));
    size_t count = 0;
    const cJSON *group;

    if (members == NULL) {
        import->failed = true;
        return;
    }
    cJSON_ArrayForEach(group, import->groups)
    {
        const char *name = text_of(group, "groupname");
        const cJSON *in = named(cJSON_GetObjectItemCaseSensitive(group, "clients"), "username",
                                text_of(client, "username"));

        in = in != NULL ? in : named(own, "groupname", name);
        if (name != NULL && in != NULL) {
            members[count] = (struct member){.item = group,
                                             .name = name,
                                             .priority = number_of(in, "priority", -1),
                                             .order = count};
            count++;
        }
    }
    qsort(members, count, sizeof(*members), compare_members);
    for (size_t i = 0; i < count; i++) {
        add_roles(import, sequence, members[i].item);
    }
    free(members);
}

/* The number of this sequence, new if need be. Takes its roles over. */
static size_t keep_sequence(struct import *import, struct sequence *sequence)
{
    struct sequence *grown;

    for (size_t i = 0; i < import->sequence_count; i++) {
        const struct sequence *other = &import->sequences[i];

        if (other->count == sequence->count &&
            (other->count == 0 ||
             memcmp(other->roles, sequence->roles, other->count * sizeof(*other->roles)) == 0)) {
            free(sequence->roles);
            return i;
        }
    }
    grown = realloc(import->sequences, (import->sequence_count + 1) * sizeof(*grown));
    if (grown == NULL) {
        import->failed = true;
        free(sequence->roles);
        return 0;
    }
    import->sequences = grown;
    grown[import->sequence_count] = *sequence;
    return import->sequence_count++;
}

static void put_client(struct import *import, const cJSON *client)
{
    const char *user = text_of(client, "username");
    const char *id = text_of(client, "clientid");
    struct sequence sequence = {0};
    char name[256];
    size_t number;

    shown(name, sizeof(name), user != NULL ? user : "");
    fprintf(import->out, "\n");
    if (id != NULL && id[0] != '\0') {
        char bound[256];

        shown(bound, sizeof(bound), id);
        fprintf(import->out,
                "# was bound to the client id %s: here client_id_match binds it to the token\n",
                bound);
    }
    if (user == NULL || !writable(user)) {
        fprintf(
            import->out,
            "# NOT CARRIED OVER: the client '%s', whose name cannot be written in the language\n",
            name);
        hlt_problems_add(import->problems, HLT_PROBLEM_WARNING, import->name, 0, 0,
                         "client '%s' is not carried over: its name cannot be written", name);
        return;
    }
    fprintf(import->out, "user ");
    put_word(import->out, "", user);
    fprintf(import->out, "\n");
    if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(client, "disabled"))) {
        fprintf(import->out, "  # disabled: revoke its tokens, too\n"
                             "  deny all #\n  deny all $SYS/#\n  deny all $CONTROL/#\n");
        return;
    }
    add_roles(import, &sequence, client);
    add_groups(import, &sequence, client);
    number = keep_sequence(import, &sequence);
    fprintf(import->out, "  use dynsec-%zu\n", number + 1);
}

static void put_anonymous(struct import *import, const cJSON *root)
{
    const cJSON *group = named(import->groups, "groupname", text_of(root, "anonymousGroup"));
    struct sequence sequence = {0};

    if (group == NULL) {
        return;
    }
    add_roles(import, &sequence, group);
    fprintf(import->out, "\n# anonymousGroup\nanonymous\n  use dynsec-%zu\n",
            keep_sequence(import, &sequence) + 1);
}

static void put_policy(struct import *import, const cJSON *root)
{
    const cJSON *client;

    fprintf(
        import->out,
        "haltere 1\n"
        "# From a configuration of Mosquitto's dynamic-security plugin. Each 'ordered' role decides"
        " by its first\n# rule that matches, as there. Not carried over: passwords (clients log in"
        " with tokens, whose sub is the\n# user name), topics that begin with $ other than $SYS"
        " and $CONTROL where there # meant all of them.\n");
    cJSON_ArrayForEach(client, import->clients)
    {
        put_client(import, client);
    }
    put_anonymous(import, root);
    for (size_t i = 0; i < import->sequence_count && !import->failed; i++) {
        put_sequence(import, i);
    }
}

enum hlt_rc hlt_policy_import_dynsec(const char *json, size_t len, const char *name, char **out,
                                     struct hlt_problems *problems)
{
    cJSON *root = cJSON_ParseWithLength(json, len);
    struct import import = {.name = name, .problems = problems};
    size_t bytes = 0;
    char *text = NULL;

    *out = NULL;
    import.roles = cJSON_GetObjectItemCaseSensitive(root, "roles");
    import.groups = cJSON_GetObjectItemCaseSensitive(root, "groups");
    import.clients = cJSON_GetObjectItemCaseSensitive(root, "clients");
    import.defaults = cJSON_GetObjectItemCaseSensitive(root, "defaultACLAccess");
    if (!cJSON_IsArray(import.roles) || !cJSON_IsArray(import.clients)) {
        cJSON_Delete(root);
        hlt_problems_add(problems, HLT_PROBLEM_ERROR, name, 0, 0, "%s",
                         root == NULL
                             ? "this is not JSON"
                             : "this is no dynamic-security configuration: it has no lists "
                               "'clients' and 'roles'");
        return HLT_EPARSE;
    }
    import.out = open_memstream(&text, &bytes);
    import.failed = import.out == NULL;
    if (import.out != NULL) {
        put_policy(&import, root);
        import.failed |= fclose(import.out) != 0;
    }
    for (size_t i = 0; i < import.sequence_count; i++) {
        free(import.sequences[i].roles);
    }
    free(import.sequences);
    cJSON_Delete(root);
    if (import.failed) {
        free(text);
        return HLT_ENOMEM;
    }
    *out = text;
    return HLT_OK;
}
