/* readme.c - the README's tables against the code: options, alertnames, reasons, counters.
 *
 * Each row is made from the code as it must stand in README.md; the failure shows the row to put
 * there. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../shared/engine.h"
#include "../../shared/file.h"

static char *readme;

static void load(void)
{
    const char *dir = getenv("HALTERE_SOURCE_DIR");
    char path[4096];
    struct hlt_err err = {{0}};
    size_t len;

    snprintf(path, sizeof(path), "%s/README.md", dir != NULL ? dir : ".");
    cr_assert(hlt_file_read(path, HLT_FILE_PUBLIC, 1 << 20, &readme, &len, &err) == HLT_OK, "%s",
              err.msg);
}

static void unload(void)
{
    free(readme);
}

TestSuite(readme, .init = load, .fini = unload);

/* Lines between "<!-- name -->" and "<!-- /name -->" that are table rows, without head and rule. */
static size_t rows_of(const char *name)
{
    char begin[64], end[64];
    size_t rows = 0;

    snprintf(begin, sizeof(begin), "<!-- %s -->", name);
    snprintf(end, sizeof(end), "<!-- /%s -->", name);
    const char *at = strstr(readme, begin), *stop = at != NULL ? strstr(at, end) : NULL;
    cr_assert(stop != NULL, "README.md has no part between %s and %s", begin, end);
    for (; at < stop; at++) {
        rows += at[0] == '\n' && at[1] == '|';
    }
    return rows - 2;
}

static void expect_row(const char *row)
{
    cr_expect(strstr(readme, row) != NULL, "README.md lacks this row:\n%s", row);
}

static const char *type_word(enum hlt_option_type type)
{
    static const char *const words[] = {"text", "path",     "bool",  "count",
                                        "size", "duration", "choice"};

    return words[type];
}

/* A bar would end the cell. */
static void escape(char *out, size_t bytes, const char *text)
{
    size_t n = 0;

    for (; *text != '\0' && n + 3 < bytes; text++) {
        if (*text == '|') {
            out[n++] = '\\';
        }
        out[n++] = *text;
    }
    out[n] = '\0';
}

Test(readme, every_option_stands_in_its_table_as_in_the_code)
{
    const struct hlt_option_info *info;
    size_t count = 0;
    char row[1024], range[256], effect[512];

    for (; (info = hlt_option_at(count)) != NULL; count++) {
        escape(range, sizeof(range), info->range);
        escape(effect, sizeof(effect), info->effect);
        snprintf(row, sizeof(row), "\n| `%s` | %s%s | %s | %s | %s |\n", info->name,
                 type_word(info->type), info->repeatable ? ", repeatable" : "", info->fallback,
                 range, effect);
        expect_row(row);
    }
    cr_expect(rows_of("options") == count, "%zu rows for %zu options", rows_of("options"), count);
}

Test(readme, every_alertname_stands_in_its_table_as_in_the_code)
{
    struct hlt_rules *rules;
    char row[512];

    cr_assert(hlt_rules_builtin(&rules) == HLT_OK);
    for (size_t i = 0; i < rules->count; i++) {
        const struct hlt_rule *rule = &rules->rule[i];
        snprintf(row, sizeof(row), "\n| `%s` | %s | %s |\n", rule->name,
                 rule->kind == HLT_RULE_THRESHOLD ? "by bound" : hlt_severity_word(rule->severity),
                 rule->summary);
        expect_row(row);
    }
    cr_expect(rows_of("alertnames") == rules->count);
    hlt_rules_free(rules);
}

Test(readme, every_reason_stands_in_its_table_as_in_the_code)
{
    char row[512];

    for (int i = 1; i < HLT_REASON_COUNT; i++) {
        snprintf(row, sizeof(row), "\n| `%s` | %s |\n", hlt_reason_word((enum hlt_reason)i),
                 hlt_reason_text((enum hlt_reason)i));
        expect_row(row);
    }
    cr_expect(rows_of("reasons") == HLT_REASON_COUNT - 1);
}

Test(readme, every_counter_is_explained)
{
    size_t count = 0;
    char cell[64];

#define CHECK(name)                                                                                \
    snprintf(cell, sizeof(cell), "\n| `%s` |", #name);                                             \
    cr_expect(strstr(readme, cell) != NULL, "README.md does not explain the counter %s", #name);   \
    count++;
    HLT_COUNTERS(CHECK)
#undef CHECK
    cr_expect(rows_of("counters") == count, "%zu rows for %zu counters", rows_of("counters"),
              count);
}
