/* Fuzzing Mosquitto's acl_file: input is the file, a byte 0xff, then lines: client id, user name
 * and topics. Whatever comes in, nothing breaks, and what holds for each decision of such a file
 * holds. */
#include <stdlib.h>
#include <string.h>

#include "../../acl/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The text up to the next line end, NUL-terminated; NULL at the end. */
static char *next_line(const uint8_t **at, size_t *left)
{
    const uint8_t *end;
    size_t len;
    char *line;

    if (*left == 0) {
        return NULL;
    }
    end = memchr(*at, '\n', *left);
    len = end != NULL ? (size_t)(end - *at) : *left;
    line = malloc(len + 1);
    if (line == NULL) {
        abort();
    }
    memcpy(line, *at, len);
    line[len] = '\0';
    len += end != NULL;
    *at += len;
    *left -= len;
    return line;
}

static void check(const struct hlt_policy *policy, const struct hlt_view *view, const char *topic)
{
    static const enum hlt_access all[] = {HLT_READ, HLT_WRITE, HLT_SUBSCRIBE, HLT_UNSUBSCRIBE};

    for (size_t i = 0; i < 4; i++) {
        struct hlt_decision first, again;
        struct hlt_rule_ref ref;

        hlt_policy_decide(view, all[i], topic, &first);
        hlt_policy_decide(view, all[i], topic, &again);
        hlt_policy_rule(policy, first.rule, &ref);
        if (first.verdict != again.verdict || first.rule != again.rule || first.bound_device) {
            abort();
        }
        if ((first.verdict == HLT_NO_RULE && first.rule != UINT32_MAX) ||
            (first.rule != UINT32_MAX && ref.line == 0)) {
            abort();
        }
        if (first.rule != UINT32_MAX && strncmp(ref.text, "topic", 5) != 0 &&
            strncmp(ref.text, "pattern", 7) != 0) {
            abort(); /* only such lines decide */
        }
        if (i < 2 && (topic[0] == '\0' || strpbrk(topic, "+#") != NULL) &&
            first.verdict == HLT_ALLOW) {
            abort(); /* no topic name */
        }
        if (i >= 2 && first.verdict == HLT_NO_RULE) {
            abort(); /* subscribing is granted or no filter */
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hlt_problems problems = {0};
    struct hlt_policy *policy = NULL;
    const uint8_t *end = memchr(data, 0xff, len);
    size_t text_len = end != NULL ? (size_t)(end - data) : len;
    size_t left = end != NULL ? len - text_len - 1 : 0;
    const uint8_t *at = end != NULL ? end + 1 : NULL;
    struct hlt_policy_reading how = {.compat = len % 2 == 0 ? HLT_ACL_2_0 : HLT_ACL_2_1};
    enum hlt_rc rc =
        hlt_policy_parse(&policy, (const char *)data, text_len, "fuzz", &how, &problems);

    if ((rc == HLT_OK) != (policy != NULL) || (rc == HLT_OK) != (problems.errors == 0)) {
        abort();
    }
    if (policy != NULL && hlt_policy_is_plain(policy)) {
        char *id = next_line(&at, &left), *user = next_line(&at, &left), *topic;
        struct hlt_subject subject = {.client_id = id != NULL ? id : "", .user = user};
        struct hlt_view *view;

        view = hlt_policy_bind(policy, &subject);
        while (view != NULL && (topic = next_line(&at, &left)) != NULL) {
            check(policy, view, topic);
            free(topic);
        }
        hlt_view_free(view);
        free(id);
        free(user);
    }
    hlt_policy_free(policy);
    hlt_problems_free(&problems);
    return 0;
}
