/* lint.h - what is legal in a policy and yet seldom meant (facts: acl 1.7, 2). */
#ifndef HLT_POLICY_LINT_H
#define HLT_POLICY_LINT_H

#include "internal.h"

/* Look over a compiled policy; what is found goes to `problems` as warnings. HLT_ENOMEM or HLT_OK.
 * Cost: by the number of rules. */
enum hlt_rc hlt_policy_lint(const struct hlt_policy *policy, struct hlt_problems *problems);

#endif
