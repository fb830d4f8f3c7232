/* policy.c - a policy's life: read, resolved, compiled, tested, freed. */
#include "policy.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#include "expect.h"
#include "internal.h"
#include "lint.h"
#include "scan.h"

/* SHA-256 of the file, or of the files' digests in the order they were read: moving a line from one
 * file to the next is another policy. */
static void digest_files(struct hlt_policy *policy)
{
    crypto_hash_sha256_state state;
    unsigned char hash[crypto_hash_sha256_BYTES];

    crypto_hash_sha256_init(&state);
    for (uint32_t i = 0; i < policy->file_count; i++) {
        crypto_hash_sha256_update(&state, policy->files[i].digest, sizeof(policy->files[i].digest));
    }
    crypto_hash_sha256_final(&state, hash);
    if (policy->file_count == 1) {
        memcpy(hash, policy->files[0].digest, sizeof(hash));
    }
    for (size_t i = 0; i < 8; i++) {
        (void)snprintf(policy->digest + i * 2, 3, "%02x", hash[i]);
    }
}

/* From parsed rules to a policy that is ready; only called after a reading without memory trouble.
 */
static enum hlt_rc finish(struct hlt_policy *policy, const struct hlt_policy_reading *how,
                          struct hlt_problems *problems)
{
    enum hlt_rc rc = hlt_policy_resolve(policy, problems);

    if (rc != HLT_OK || problems->errors > 0) {
        return rc != HLT_OK ? rc : HLT_EPARSE;
    }
    rc = hlt_policy_compile(policy);
    if (rc == HLT_OK) {
        rc = hlt_legacy_compile(policy);
    }
    if (rc != HLT_OK) {
        return rc;
    }
    digest_files(policy);
    policy->compat = (uint8_t)how->compat;
    rc = how->untested ? HLT_OK : hlt_policy_expects_run(policy, problems);
    if (rc != HLT_OK || problems->errors > 0) {
        return rc != HLT_OK ? rc : HLT_EPARSE;
    }
    return hlt_policy_lint(policy, problems);
}

static enum hlt_rc make(struct hlt_policy **out, const char *text, size_t len, const char *name,
                        const struct hlt_policy_reading *how, struct hlt_problems *problems)
{
    static const struct hlt_policy_reading usual = {.compat = HLT_ACL_2_0};
    struct hlt_problems own = {0};
    struct hlt_problems *told = problems != NULL ? problems : &own;
    struct hlt_policy *policy = calloc(1, sizeof(*policy));
    size_t before = told->errors;
    enum hlt_rc rc = HLT_ENOMEM;

    *out = NULL;
    if (policy != NULL) {
        told->errors = 0; /* the caller may collect the mistakes of several files */
        rc = text != NULL ? hlt_policy_parse_text(policy, text, len, name, told)
                          : hlt_policy_parse_file(policy, name, told);
        if (rc == HLT_OK) {
            rc = finish(policy, how != NULL ? how : &usual, told);
        }
        told->errors += before;
    }
    if (rc == HLT_ENOMEM) {
        hlt_problems_add(told, HLT_PROBLEM_ERROR, name, 0, 0, "out of memory");
    }
    if (policy != NULL && how != NULL && how->sources != NULL) {
        hlt_policy_sources_free(how->sources);
        *how->sources = policy->sources;
        policy->sources = (struct hlt_policy_sources){0};
    }
    if (rc == HLT_OK) {
        *out = policy;
        policy = NULL; /* handed to the caller */
    }
    hlt_policy_free(policy);
    hlt_problems_free(&own);
    return rc;
}

enum hlt_rc hlt_policy_load(struct hlt_policy **out, const char *path,
                            const struct hlt_policy_reading *how, struct hlt_problems *problems)
{
    return make(out, NULL, 0, path, how, problems);
}

enum hlt_rc hlt_policy_parse(struct hlt_policy **out, const char *text, size_t len,
                             const char *name, const struct hlt_policy_reading *how,
                             struct hlt_problems *problems)
{
    return make(out, text, len, name, how, problems);
}

void hlt_policy_free(struct hlt_policy *policy)
{
    if (policy == NULL) {
        return;
    }
    for (uint32_t i = 0; i < policy->file_count; i++) {
        free(policy->files[i].name);
        free(policy->files[i].text);
    }
    for (uint32_t i = 0; i < policy->section_count; i++) {
        free(policy->sections[i].title);
    }
    hlt_policy_expects_free(policy);
    hlt_legacy_free(&policy->legacy);
    hlt_policy_sources_free(&policy->sources);
    free(policy->files);
    free(policy->sections);
    free(policy->rules);
    free(policy->limits);
    free(policy->excepts);
    free(policy->levels);
    free(policy->uses);
    free(policy->section_table);
    free(policy->nodes);
    free(policy->entries);
    free(policy->edges);
    free(policy->buckets);
    hlt_scan_free(&policy->scan);
    free(policy);
}

size_t hlt_policy_rule_count(const struct hlt_policy *policy)
{
    return (size_t)policy->rule_count + policy->legacy.line_count;
}

bool hlt_policy_is_plain(const struct hlt_policy *policy)
{
    return policy->plain;
}

void hlt_policy_counts(const struct hlt_policy *policy, struct hlt_policy_counts *out)
{
    *out = (struct hlt_policy_counts){.rules = hlt_policy_rule_count(policy),
                                      .sections = policy->section_count,
                                      .files = policy->file_count,
                                      .expects = policy->expect_count,
                                      .variables = policy->slot_count};
}

const char *hlt_policy_digest(const struct hlt_policy *policy)
{
    return policy->digest;
}

void hlt_policy_rule(const struct hlt_policy *policy, uint32_t rule, struct hlt_rule_ref *out)
{
    static const struct hlt_rule_ref none = {"", "", 0, ""};

    if (rule >= policy->rule_count && rule - policy->rule_count < policy->legacy.line_count) {
        const struct acl_line *line = &policy->legacy.lines[rule - policy->rule_count];

        out->file = policy->files[line->file].name;
        out->text = line->text;
        out->line = line->line;
        out->section = hlt_legacy_title(&policy->legacy, line);
        return;
    }
    if (rule >= policy->rule_count) {
        *out = none;
        return;
    }
    out->file = policy->files[policy->rules[rule].file].name;
    out->text = policy->rules[rule].text;
    out->line = policy->rules[rule].line;
    out->section = policy->sections[policy->rules[rule].section].title;
}
