/* sources.c - how a policy's files look on disk: before they are read, and whenever asked again. */
#include "sources.h"

#include <glob.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "../shared/file.h"

static void add_file(crypto_generichash_state *state, const char *path)
{
    struct hlt_file_stamp stamp;

    hlt_file_stamp(path, &stamp);
    uint64_t parts[] = {stamp.exists,
                        stamp.device,
                        stamp.inode,
                        stamp.size,
                        (uint64_t)stamp.mtime_ns,
                        (uint64_t)stamp.ctime_ns};
    (void)crypto_generichash_update(state, (const unsigned char *)path, strlen(path) + 1);
    (void)crypto_generichash_update(state, (const unsigned char *)parts, sizeof(parts));
}

/* Stamps follow symlinks, so a mounted folder that is switched to its next version shows, too. */
static void look(const struct hlt_policy_source *source, uint8_t seen[16])
{
    crypto_generichash_state state;
    glob_t found = {0};
    unsigned char rc = 0;

    (void)crypto_generichash_init(&state, NULL, 0, sizeof(source->seen));
    if (source->pattern) {
        rc = (unsigned char)glob(source->path, GLOB_ERR, NULL, &found);
        for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++) {
            add_file(&state, found.gl_pathv[i]);
        }
        globfree(&found);
    } else {
        add_file(&state, source->path);
    }
    (void)crypto_generichash_update(&state, &rc, 1);
    (void)crypto_generichash_final(&state, seen, sizeof(source->seen));
}

enum hlt_rc hlt_policy_sources_note(struct hlt_policy_sources *sources, const char *path,
                                    bool pattern)
{
    struct hlt_policy_source *item;

    for (size_t i = 0; i < sources->count; i++) {
        if (sources->item[i].pattern == pattern && strcmp(sources->item[i].path, path) == 0) {
            return HLT_OK;
        }
    }
    if (sources->count > HLT_POLICY_INCLUDES_MAX) { /* and the policy's own file */
        return HLT_EFULL;
    }
    item = realloc(sources->item, (sources->count + 1) * sizeof(*item));
    if (item == NULL) {
        return HLT_ENOMEM;
    }
    sources->item = item;
    item += sources->count;
    *item = (struct hlt_policy_source){.path = strdup(path), .pattern = pattern};
    if (item->path == NULL) {
        return HLT_ENOMEM;
    }
    look(item, item->seen);
    sources->count++;
    return HLT_OK;
}

bool hlt_policy_sources_changed(const struct hlt_policy_sources *sources, uint8_t now[16])
{
    crypto_generichash_state state;
    bool changed = false;

    (void)crypto_generichash_init(&state, NULL, 0, 16);
    for (size_t i = 0; i < sources->count; i++) {
        uint8_t seen[sizeof(sources->item[i].seen)];

        look(&sources->item[i], seen);
        (void)crypto_generichash_update(&state, seen, sizeof(seen));
        changed = changed || memcmp(seen, sources->item[i].seen, sizeof(seen)) != 0;
    }
    (void)crypto_generichash_final(&state, now, 16);
    return changed;
}

void hlt_policy_sources_free(struct hlt_policy_sources *sources)
{
    for (size_t i = 0; i < sources->count; i++) {
        free(sources->item[i].path);
    }
    free(sources->item);
    *sources = (struct hlt_policy_sources){0};
}
