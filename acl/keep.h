/* keep.h - a copy of the last good policy's files, for a broker that is started on a broken one
 * (option acl_fallback). File input and output; never on the broker's thread while it runs.
 *
 * In the folder: `current`, one line "DIGEST NAME", and the folder DIGEST with the policy's files
 * as they lie beside each other, NAME the one that includes the rest. `current` is replaced last,
 * by rename: a reader finds the old policy or the new one, whole. */
#ifndef HLT_KEEP_H
#define HLT_KEEP_H

#include "policy.h"

#define HLT_KEEP_FOLDER "last-good-policy" /* in db_path */

/* Keep the files `policy` was loaded from in `folder`, which is made (its parent is not). What was
 * kept before goes. The files are read again; HLT_EBUSY: one has changed since, nothing is kept.
 * HLT_EIO with a message. Nothing is written if this very policy is kept already. */
enum hlt_rc hlt_policy_keep(const struct hlt_policy *policy, const char *folder,
                            struct hlt_err *err);

/* Load what was kept, as hlt_policy_load() does; *kept_ms gets when it was. HLT_ENOTFOUND: nothing
 * is kept there; HLT_EPARSE: the copy is damaged. Both are told in `problems`. */
enum hlt_rc hlt_policy_load_kept(struct hlt_policy **out, const char *folder, int64_t *kept_ms,
                                 const struct hlt_policy_reading *how,
                                 struct hlt_problems *problems);

#endif
