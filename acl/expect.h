/* expect.h - the tests that stand in a policy. */
#ifndef HLT_POLICY_EXPECT_H
#define HLT_POLICY_EXPECT_H

#include "internal.h"

/* Run all tests of a compiled policy; those that fail go to `problems`. HLT_ENOMEM or HLT_OK. */
enum hlt_rc hlt_policy_expects_run(const struct hlt_policy *policy, struct hlt_problems *problems);
void hlt_policy_expects_free(struct hlt_policy *policy);

#endif
