/* rules.c - fuzzes the rules file: whatever is accepted must hold what the engine relies on. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../shared/rules.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void check(const struct hlt_rule *rule)
{
    require(rule->name[0] != '\0' && strlen(rule->name) <= HLT_RULE_NAME_MAX, "name");
    require(!isnan(rule->critical.above) && !isnan(rule->critical.below), "bound");
    require(rule->hysteresis >= 0 && isfinite(rule->hysteresis), "hysteresis");
    require(rule->for_ms >= 0 && rule->clear_ms >= 0 && rule->cooldown_ms >= 0 &&
                rule->renotify_ms >= 0,
            "durations");
    require(rule->class_count <= HLT_RULE_CLASSES_MAX, "classes");
    require(rule->kind != HLT_RULE_THRESHOLD || rule->metric[0] != '\0', "metric");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hlt_problems problems = {0};
    struct hlt_rules *rules = NULL;
    enum hlt_rc rc = hlt_rules_parse(&rules, (const char *)data, size, "fuzz", &problems);

    require((rc == HLT_OK) == (rules != NULL), "result without rules");
    require(rc == HLT_OK || problems.errors > 0, "refused without a reason");
    for (size_t i = 0; rules != NULL && i < rules->count; i++) {
        check(&rules->rule[i]);
    }
    hlt_rules_free(rules);
    hlt_problems_free(&problems);
    return 0;
}
