/* sources.h - what a policy was read from, so that a change of it is noticed: the policy's own
 * file, and what its `include` lines found. */
#ifndef HLT_POLICY_SOURCES_H
#define HLT_POLICY_SOURCES_H

#include "../shared/base.h"

#define HLT_POLICY_INCLUDES_MAX                                                                    \
    1000 /* different patterns of a policy: each is looked for again                               \
          */

struct hlt_policy_source {
    char *path;
    bool pattern;     /* for glob(); else the file of that very name */
    uint8_t seen[16]; /* a hash over names and stamps of what it stood for */
};

struct hlt_policy_sources {
    struct hlt_policy_source *item;
    size_t count;
};

/* Note how `path` looks now; what is noted already stays as it was. Call before reading what it
 * names: then an edit in between shows the next time. HLT_EFULL: over HLT_POLICY_INCLUDES_MAX.
 * HLT_ENOMEM. */
enum hlt_rc hlt_policy_sources_note(struct hlt_policy_sources *sources, const char *path,
                                    bool pattern);
/* Would a policy be read from other files now, or from files that were edited or replaced? `now`
 * gets a hash of how they look: of two looks it differs where something changed in between. Costs a
 * stat() for each file. */
bool hlt_policy_sources_changed(const struct hlt_policy_sources *sources, uint8_t now[16]);
void hlt_policy_sources_free(struct hlt_policy_sources *sources); /* leaves it empty */

#endif
