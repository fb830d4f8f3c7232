/* import.h - the configuration of Mosquitto's dynamic-security plugin as a policy. */
#ifndef HLT_POLICY_IMPORT_H
#define HLT_POLICY_IMPORT_H

#include "../shared/base.h"

/* Translate a dynamic-security.json. Each distinct sequence of roles that a client has (its own,
 * then its groups') becomes one `role ... ordered`, which decides as dynamic-security does: by the
 * first rule that matches, else by defaultACLAccess (facts: acl 1.5). What cannot be said in the
 * language stands in the policy as a comment and in `problems` as a warning, since leaving a denial
 * out may open what stood behind it. HLT_OK: the caller frees *out, which ends with NUL.
 * HLT_EPARSE: no such configuration; `problems` says why. HLT_ENOMEM. `name` stands in messages. */
enum hlt_rc hlt_policy_import_dynsec(const char *json, size_t len, const char *name, char **out,
                                     struct hlt_problems *problems);

#endif
