/* table.c - tables for people: columns as wide as what they hold, never wider than the terminal. */
#include <assert.h>
#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "../shared/text.h"
#include "command.h"

#define COLUMNS_MAX 32
#define GAP 2        /* blanks between columns */
#define COLUMN_MIN 6 /* a column is never cut below this */
#define WIDTH_DEFAULT 80

struct cell {
    size_t at; /* offset of its text in the arena */
    const char *colour;
};

struct hlt_table {
    const char *head[COLUMNS_MAX];
    bool right[COLUMNS_MAX];
    bool whole[COLUMNS_MAX]; /* never cut */
    int width[COLUMNS_MAX];
    size_t columns;
    struct cell *cell; /* row by row */
    size_t count, room;
    char *text; /* arena: a fleet's table has millions of small cells */
    size_t text_len, text_room;
};

/* Columns on a terminal; `text` is valid UTF-8. Stops before `limit` columns: *bytes gets where. */
static int width_of(const char *text, int limit, size_t *bytes)
{
    const unsigned char *c = (const unsigned char *)text;
    int width = 0;

    while (*c != '\0') {
        unsigned extra = *c < 0xc0 ? 0 : *c < 0xe0 ? 1 : *c < 0xf0 ? 2 : 3;
        wchar_t point = extra == 0 ? *c : *c & (0x3f >> extra);
        for (unsigned i = 1; i <= extra && c[i] != '\0'; i++) {
            point = (point << 6) | (c[i] & 0x3f);
        }
        int columns = wcwidth(point); /* -1 where the locale does not know it */
        columns = columns < 0 ? 1 : columns;
        if (width + columns > limit) {
            break;
        }
        width += columns;
        for (unsigned i = 0; i <= extra && *c != '\0'; i++) {
            c++;
        }
    }
    if (bytes != NULL) {
        *bytes = (size_t)(c - (const unsigned char *)text);
    }
    return width;
}

struct hlt_table *hlt_table_new(const char *const *heads, size_t columns)
{
    struct hlt_table *table = hlt_cli_resize(NULL, sizeof(*table));

    memset(table, 0, sizeof(*table));
    table->columns = columns < COLUMNS_MAX ? columns : COLUMNS_MAX;
    for (size_t i = 0; i < table->columns; i++) {
        bool marked = strchr("<>!", heads[i][0]) != NULL;
        table->right[i] = heads[i][0] == '>';
        table->whole[i] = heads[i][0] == '!';
        table->head[i] = heads[i] + (marked ? 1 : 0);
        table->width[i] = width_of(table->head[i], INT32_MAX, NULL);
    }
    return table;
}

static char *arena(struct hlt_table *table, size_t bytes)
{
    if (table->text_room - table->text_len < bytes) {
        table->text_room = (table->text_room + bytes) * 2;
        table->text = hlt_cli_resize(table->text, table->text_room);
    }
    return table->text + table->text_len;
}

void hlt_table_cell(struct hlt_table *table, const char *fmt, ...)
{
    char raw[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(raw, sizeof(raw), fmt, args); /* longer cells are cut: ids end at 255 bytes */
    va_end(args);
    size_t room = 4 * strlen(raw) + 1;
    char *shown = arena(table, room);
    size_t len = hlt_printable(shown, room, raw, strlen(raw));

    if (table->count == table->room) {
        table->room = table->room > 0 ? table->room * 2 : 256;
        table->cell = hlt_cli_resize(table->cell, table->room * sizeof(*table->cell));
    }
    size_t column = table->count % table->columns;
    int width = width_of(shown, INT32_MAX, NULL);
    if (width > table->width[column]) {
        table->width[column] = width;
    }
    table->cell[table->count++] = (struct cell){table->text_len, ""};
    table->text_len += len + 1;
}

void hlt_table_colour(struct hlt_table *table, const char *colour)
{
    if (table->count > 0) {
        table->cell[table->count - 1].colour = colour;
    }
}

static int terminal_width(void)
{
    struct winsize size;

    if (isatty(STDOUT_FILENO) == 0) {
        return INT32_MAX;
    }
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return WIDTH_DEFAULT;
}

/* Take from the widest column, one blank at a time, until the table fits or nothing gives any more.
 */
static void fit(struct hlt_table *table)
{
    int limit = terminal_width(), total = GAP * ((int)table->columns - 1);

    for (size_t i = 0; i < table->columns; i++) {
        total += table->width[i];
    }
    while (total > limit) {
        size_t widest = table->columns;
        for (size_t i = 0; i < table->columns; i++) {
            if (!table->whole[i] && table->width[i] > COLUMN_MIN &&
                (widest == table->columns || table->width[i] > table->width[widest])) {
                widest = i;
            }
        }
        if (widest == table->columns) {
            return;
        }
        table->width[widest]--;
        total--;
    }
}

static void print_cell(const struct hlt_table *table, size_t column, const char *text,
                       const char *colour)
{
    int limit = table->width[column];
    size_t bytes = strlen(text);
    int width = width_of(text, limit, &bytes);
    const char *mark = "";

    if (text[bytes] != '\0') { /* cut: one column for the mark */
        mark = strcmp(nl_langinfo(CODESET), "UTF-8") == 0 ? "\u2026" : "~";
        width = width_of(text, limit - 1, &bytes) + 1;
    }
    bool last = column + 1 == table->columns;
    int pad = limit - width;
    printf("%*s%s%.*s%s%s", table->right[column] ? pad : 0, "", colour, (int)bytes, text, mark,
           colour[0] != '\0' ? hlt_cli_reset() : "");
    if (!last) {
        printf("%*s", (table->right[column] ? 0 : pad) + GAP, "");
    }
}

void hlt_table_print(struct hlt_table *table)
{
    const char *bold = hlt_cli_bold();

    assert(table->columns > 0);
    fit(table);
    for (size_t i = 0; i < table->columns; i++) {
        print_cell(table, i, table->head[i], bold);
    }
    putchar('\n');
    for (size_t i = 0; i < table->count;) {
        for (size_t column = 0; column < table->columns && i < table->count; column++, i++) {
            const struct cell *cell = &table->cell[i];
            print_cell(table, column, table->text + cell->at, cell->colour);
        }
        putchar('\n');
    }
    free(table->cell);
    free(table->text);
    free(table);
}
