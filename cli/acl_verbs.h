/* acl_verbs.h - the verbs of `haltere acl` that have files of their own, and what they share. */
#ifndef HLT_ACL_VERBS_H
#define HLT_ACL_VERBS_H

#include "../acl/policy.h"
#include "command.h"

/* Verbs: argv[0] is the verb; they return an exit code. */
int hlt_acl_explain(int argc, char **argv);
int hlt_acl_test(int argc, char **argv);
int hlt_acl_diff(int argc, char **argv);
int hlt_acl_shadow(int argc, char **argv);
int hlt_acl_import_dynsec(int argc, char **argv);

/* The option by which a verb learns under which Mosquitto the policy is to run. */
#define HLT_ACL_COMPAT_OPTION                                                                      \
    {                                                                                              \
        "acl-compat", "2.0|2.1",                                                                   \
            "decide 'topic' and 'pattern' lines as this Mosquitto does (default 2.0)"              \
    }
/* Read its value into *out, which stays as it is without one (NULL). False after a message. */
bool hlt_acl_compat(const char *value, enum hlt_acl_compat *out);

/* Load a policy and print its problems to stderr. NULL with the exit code in *code. */
struct hlt_policy *hlt_acl_load(const char *path, const struct hlt_policy_reading *how, int *code);
/* "read", "write", "subscribe", "unsubscribe". False for other words. */
bool hlt_acl_access(const char *word, size_t len, enum hlt_access *out);
/* {"file", "line", "text", "section"} of a rule. */
cJSON *hlt_acl_rule_json(const struct hlt_rule_ref *rule);

#endif
