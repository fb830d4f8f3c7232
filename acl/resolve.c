/* resolve.c - `use` lines: which section each means, and that none comes back to itself. */
#include <stdio.h>
#include <stdlib.h>

#include "../shared/text.h"
#include "internal.h"

/* Report "BEFORE 'the used role' AFTER". */
static void mistake(const struct hlt_policy *policy, const struct acl_use *use,
                    struct hlt_problems *problems, const char *before, const char *after)
{
    char shown[72];

    (void)hlt_printable(shown, sizeof(shown), use->name.text, use->name.len);
    hlt_problems_add(problems, HLT_PROBLEM_ERROR, policy->files[use->file].name, use->line,
                     use->column, "%s '%s'%s", before, shown, after);
}

/* "; did you mean 'x'?" or what else helps into `out`, from the names of all roles. */
static void suggest(const struct hlt_policy *policy, const struct acl_use *use, char *out,
                    size_t bytes)
{
    char **names = calloc(policy->section_count + 1, sizeof(*names));
    char *word = strndup(use->name.text, use->name.len);
    const char *near = NULL;
    uint32_t count = 0;

    (void)snprintf(out, bytes, " in this policy");
    for (uint32_t i = 0; names != NULL && i < policy->section_count; i++) {
        const struct acl_section *section = &policy->sections[i];

        if (section->kind == ACL_ROLE) {
            names[count] = strndup(section->name, section->name_len);
            count += names[count] != NULL;
        }
    }
    if (names != NULL && word != NULL) {
        near = hlt_suggest(word, (const char *const *)names);
    }
    if (near != NULL && strcmp(near, word) == 0) {
        (void)snprintf(out, bytes, " from that claim");
    } else if (near != NULL) {
        char shown[72];

        (void)hlt_printable(shown, sizeof(shown), near, strlen(near));
        (void)snprintf(out, bytes, "; did you mean '%s'?", shown);
    }
    for (uint32_t i = 0; i < count; i++) {
        free(names[i]);
    }
    free(names);
    free(word);
}

static void find_target(const struct hlt_policy *policy, struct acl_use *use,
                        struct hlt_problems *problems)
{
    char near[128];
    uint32_t found = 0;

    for (uint32_t claim = 0; claim < policy->claim_count; claim++) {
        const struct acl_text *name = &policy->claims[claim];
        uint32_t section;

        if (use->claim.text != NULL &&
            (use->claim.len != name->len || memcmp(use->claim.text, name->text, name->len) != 0)) {
            continue;
        }
        section =
            hlt_policy_section(policy, ACL_ROLE, (uint8_t)claim, use->name.text, use->name.len);
        if (section != HLT_ACL_NONE) {
            use->target = section;
            found++;
        }
    }
    if (found > 1) {
        mistake(policy, use, problems, "there are several roles",
                "; say which: use NAME from CLAIM");
    } else if (found == 0) {
        near[0] = '\0';
        if (problems->count < HLT_PROBLEMS_MAX) { /* all names are compared: not for the unread */
            suggest(policy, use, near, sizeof(near));
        }
        mistake(policy, use, problems, "there is no role", near);
    }
}

enum { UNSEEN, OPEN, CLOSED };

/* Walk everything `from` uses, depth first. `path` and `next` have room for all sections. */
static void find_cycles(const struct hlt_policy *policy, uint32_t from, uint8_t *seen,
                        uint32_t *path, uint32_t *next, struct hlt_problems *problems)
{
    uint32_t depth = 1;

    path[0] = from;
    next[0] = policy->sections[from].first_use;
    seen[from] = OPEN;
    while (depth > 0) {
        const struct acl_use *use;

        if (next[depth - 1] == HLT_ACL_NONE) {
            seen[path[--depth]] = CLOSED;
            continue;
        }
        use = &policy->uses[next[depth - 1]];
        next[depth - 1] = use->next;
        if (use->target == HLT_ACL_NONE || seen[use->target] == CLOSED) {
            continue;
        }
        if (seen[use->target] == OPEN) {
            mistake(policy, use, problems, "this comes back to the role it stands in: use",
                    "; a role cannot use itself");
            continue;
        }
        seen[use->target] = OPEN;
        path[depth] = use->target;
        next[depth] = policy->sections[use->target].first_use;
        depth++;
    }
}

enum hlt_rc hlt_policy_resolve(struct hlt_policy *policy, struct hlt_problems *problems)
{
    uint32_t *path = NULL, *next = NULL;
    uint8_t *seen = NULL;
    enum hlt_rc rc = HLT_ENOMEM;

    if (policy->use_count == 0) {
        return HLT_OK;
    }
    path = calloc(policy->section_count, sizeof(*path));
    next = calloc(policy->section_count, sizeof(*next));
    seen = calloc(policy->section_count, 1);
    if (path == NULL || next == NULL || seen == NULL) {
        goto done;
    }
    for (uint32_t i = 0; i < policy->use_count; i++) {
        find_target(policy, &policy->uses[i], problems);
    }
    for (uint32_t i = 0; i < policy->section_count; i++) {
        if (seen[i] == UNSEEN) {
            find_cycles(policy, i, seen, path, next, problems);
        }
    }
    policy->uses_anywhere = true;
    rc = HLT_OK;
done:
    free(path);
    free(next);
    free(seen);
    return rc;
}
