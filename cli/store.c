/* store.c - `haltere store`: is it sound, how large is it, and a copy of it. Only ever reads it. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../shared/text.h"
#include "reader.h"

/* --- check --- */

/* What the child found; in memory that both processes see, for the child may not live to tell. */
struct verdict {
    enum hlt_rc rc;
    uint64_t records, damaged;
    struct hlt_err err;
};

static void check_as_child(struct verdict *verdict, const char *path, pid_t parent)
{
    static const int deadly[] = {SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV};
    const struct rlimit none = {0, 0};

    for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++) {
        (void)signal(deadly[i], SIG_DFL); /* a sanitizer's or a parent's handler would hide them */
    }
    (void)prctl(PR_SET_PDEATHSIG,
                SIGKILL); /* a broker that kills a late check means this one too */
    if (getppid() != parent) {
        _exit(HLT_EXIT_IO);
    }
    (void)setrlimit(RLIMIT_CORE, &none); /* its death is an answer, not a bug to look into */
    verdict->rc = hlt_store_check(path, &verdict->records, &verdict->damaged, &verdict->err);
    _exit(HLT_EXIT_OK);
}

/* LMDB calls abort() on some damaged pages and runs off the end of a cut file, so the walk is done
 * in a child. *signal_number: what it died of, 0 if it lived. False: it could not be started. */
static bool check_apart(struct verdict *verdict, const char *path, int *signal_number)
{
    pid_t parent = getpid();
    int status = 0;

    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        check_as_child(verdict, path, parent);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) {
            return false;
        }
    }
    *signal_number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return child > 0 && (*signal_number != 0 || WEXITSTATUS(status) == 0);
}

static int check_print(const struct verdict *verdict, const char *path, bool structure_only,
                       bool json)
{
    bool structure = verdict->rc == HLT_OK;
    bool sound = structure && (verdict->damaged == 0 || structure_only);

    if (json) {
        cJSON *object = cJSON_CreateObject();
        cJSON_AddStringToObject(object, "path", path);
        cJSON_AddBoolToObject(object, "sound", sound);
        cJSON_AddBoolToObject(object, "structure", structure);
        cJSON_AddNumberToObject(object, "records", (double)verdict->records);
        cJSON_AddNumberToObject(object, "damaged", (double)verdict->damaged);
        hlt_reader_add_text(object, "reason", verdict->err.msg);
        int printed = hlt_cli_print_json(object);
        return printed == HLT_EXIT_OK && !sound ? HLT_EXIT_NO : printed;
    }
    hlt_cli_print_text(stdout, path);
    if (!structure) {
        printf(": %sdamaged%s\n", hlt_cli_red(), hlt_cli_reset());
        hlt_cli_print_text(stdout, verdict->err.msg);
        printf("\nThe broker moves it aside at its next start and begins an empty store.\n");
    } else if (verdict->damaged > 0) {
        printf(": %s%llu of %llu records are damaged%s; the structure is sound\n"
               "The broker passes over them and writes them anew when it next hears of them.\n",
               hlt_cli_red(), (unsigned long long)verdict->damaged,
               (unsigned long long)verdict->records, hlt_cli_reset());
    } else {
        printf(": %ssound%s, %llu records\n", hlt_cli_green(), hlt_cli_reset(),
               (unsigned long long)verdict->records);
    }
    return sound ? HLT_EXIT_OK : HLT_EXIT_NO;
}

static int check_store(const char *path, bool structure_only, bool json)
{
    int signal_number = 0;
    struct verdict *verdict =
        mmap(NULL, sizeof(*verdict), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (verdict == MAP_FAILED) {
        return hlt_cli_fail(HLT_EXIT_IO, "cannot check %s: %s", path, strerror(errno));
    }
    if (!check_apart(verdict, path, &signal_number)) {
        (void)munmap(verdict, sizeof(*verdict));
        return hlt_cli_fail(HLT_EXIT_IO, "cannot check %s: no second process for it", path);
    }
    if (signal_number == SIGKILL || signal_number == SIGTERM || signal_number == SIGINT) {
        (void)munmap(verdict, sizeof(*verdict)); /* somebody ended it: that says nothing */
        return hlt_cli_fail(HLT_EXIT_IO, "the check of %s was stopped (signal %d)", path,
                            signal_number);
    }
    if (signal_number != 0) {
        verdict->rc = hlt_fail(&verdict->err, HLT_EPARSE, "reading it ended with signal %d (%s)",
                               signal_number, strsignal(signal_number));
    }
    int code = HLT_EXIT_IO;
    if (verdict->rc == HLT_OK || verdict->rc == HLT_EPARSE) {
        code = check_print(verdict, path, structure_only, json);
    } else {
        (void)hlt_cli_fail(code, "%s", verdict->err.msg);
    }
    (void)munmap(verdict, sizeof(*verdict));
    return code;
}

static int run_check(int argc, char **argv)
{
    enum { DB, CONFIG, STRUCTURE, JSON, COUNT };
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        {"structure", NULL, "judge the structure alone: damaged records are told, not counted"},
        {"json", NULL, "print one JSON object"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere store check [--db DIR | --config CONF] [--structure] [--json]",
        "Walks every page in use and the checksum of every record. Works while the broker runs, "
        "without it, and on a backup. The broker runs it with --structure after an unclean stop.",
        options,
        0,
        0,
        "Exit codes: 0 sound; 1 damaged; 3 there is no store or it cannot be read."};
    const char *values[COUNT];

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    char *path = hlt_cli_db_path(values[DB], values[CONFIG]);
    if (path == NULL) {
        return HLT_EXIT_IO;
    }
    int code = check_store(path, values[STRUCTURE] != NULL, values[JSON] != NULL);
    free(path);
    return code;
}

/* --- stat --- */

static int stat_json(const struct hlt_reader *reader, const struct hlt_store_info *info)
{
    cJSON *object = cJSON_CreateObject();
    cJSON *part;

    cJSON_AddStringToObject(object, "path", reader->path);
    hlt_reader_add_text(object, "uuid", info->uuid);
    cJSON_AddNumberToObject(object, "schema", (double)info->schema);
    cJSON_AddNumberToObject(object, "boot", (double)info->boot);
    hlt_reader_add_date(object, "created", info->created_ms);
    hlt_reader_add_date(object, "flushed", info->flushed_ms);
    cJSON_AddBoolToObject(object, "clean", info->clean);
    if (info->broker_pid > 0) {
        cJSON_AddNumberToObject(object, "brokerPid", (double)info->broker_pid);
    }
    cJSON_AddNumberToObject(object, "fileBytes", (double)info->file_bytes);
    cJSON_AddNumberToObject(object, "usedBytes", (double)info->used_bytes);
    cJSON_AddNumberToObject(object, "freeBytes", (double)info->free_bytes);
    cJSON_AddNumberToObject(object, "mapBytes", (double)info->map_bytes);
    cJSON_AddNumberToObject(object, "commits", (double)info->last_txn);
    part = cJSON_AddObjectToObject(object, "readers");
    cJSON_AddNumberToObject(part, "open", (double)info->readers);
    cJSON_AddNumberToObject(part, "max", (double)info->readers_max);
    if (info->readers > 0) {
        cJSON_AddNumberToObject(part, "oldestPid", (double)info->oldest_reader_pid);
        cJSON_AddNumberToObject(part, "oldestLag", (double)info->oldest_reader_lag);
    }
    part = cJSON_AddObjectToObject(object, "databases");
    for (int db = 0; db < HLT_DB_COUNT; db++) {
        cJSON *one = cJSON_AddObjectToObject(part, hlt_db_name((enum hlt_db)db));
        cJSON_AddNumberToObject(one, "records", (double)info->entries[db]);
        cJSON_AddNumberToObject(one, "bytes", (double)info->bytes[db]);
    }
    return hlt_cli_print_json(object);
}

static double mib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
}

static void print_since(const char *label, int64_t unix_ms)
{
    char date[HLT_DATE_BYTES], age[24];

    if (unix_ms > 0) {
        hlt_date_format(unix_ms, date);
        hlt_cli_age(hlt_cli_now_ms() - unix_ms, age);
        printf("%s%s, %s ago\n", label, date, age);
    }
}

static int stat_text(const struct hlt_reader *reader, const struct hlt_store_info *info)
{
    static const char *const heads[] = {"<DATABASE", ">RECORDS", ">MIB"};
    struct hlt_table *table = hlt_table_new(heads, 3);

    (void)fputs("Store     ", stdout);
    hlt_cli_print_text(stdout, reader->path);
    printf("\nIdentity  %s, schema %llu\n", info->uuid[0] != '\0' ? info->uuid : "unknown",
           (unsigned long long)info->schema);
    print_since("Created   ", info->created_ms);
    print_since("Written   ", info->flushed_ms);
    if (info->broker_pid > 0) {
        printf("Broker    running, pid %ld, start %llu of this store\n", info->broker_pid,
               (unsigned long long)info->boot);
    } else {
        printf("Broker    not running; its last stop was %s%s%s\n",
               info->clean ? "" : hlt_cli_yellow(), info->clean ? "clean" : "not clean",
               hlt_cli_reset());
    }
    printf("File      %.1f MiB, %.1f MiB of it free for reuse; the map ends at %.0f MiB\n",
           mib(info->file_bytes), mib(info->free_bytes), mib(info->map_bytes));
    printf("Readers   %u of %u", info->readers, info->readers_max);
    if (info->readers > 0) {
        printf(", the oldest is process %ld, %llu commits behind", info->oldest_reader_pid,
               (unsigned long long)info->oldest_reader_lag);
    }
    printf("\n\n");
    for (int db = 0; db < HLT_DB_COUNT; db++) {
        hlt_table_cell(table, "%s", hlt_db_name((enum hlt_db)db));
        hlt_table_cell(table, "%llu", (unsigned long long)info->entries[db]);
        hlt_table_cell(table, "%.2f", mib(info->bytes[db]));
    }
    hlt_table_print(table);
    return HLT_EXIT_OK;
}

static int run_stat(int argc, char **argv)
{
    enum { DB, CONFIG, JSON, COUNT };
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        {"json", NULL, "print one JSON object"},
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere store stat [--db DIR | --config CONF] [--json]",
        "Sizes, records per database, the broker that holds the store and the readers that hold it "
        "back: a reader that does not end makes the file grow.",
        options,
        0,
        0,
        NULL};
    const char *values[COUNT];
    struct hlt_reader reader;
    struct hlt_store_info info;
    struct hlt_err err = {""};

    enum hlt_cli_rc rc = hlt_cli_parse(&spec, argc, argv, values, NULL, NULL);
    if (rc != HLT_CLI_OK) {
        return rc == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    int code = hlt_reader_open(&reader, values[DB], values[CONFIG]);
    if (code != HLT_EXIT_OK) {
        return code;
    }
    if (hlt_store_info(reader.store, &info, &err) != HLT_OK) {
        code = hlt_cli_fail(HLT_EXIT_IO, "%s", err.msg);
    } else {
        code = values[JSON] != NULL ? stat_json(&reader, &info) : stat_text(&reader, &info);
    }
    hlt_reader_close(&reader);
    return code;
}

/* --- backup --- */

static int run_backup(int argc, char **argv)
{
    enum { DB, CONFIG, COUNT };
    static const struct hlt_cli_option options[] = {
        HLT_READER_OPTIONS,
        {NULL, NULL, NULL},
    };
    static const struct hlt_cli_spec spec = {
        "haltere store backup [--db DIR | --config CONF] TO",
        "Writes a compacted copy of the store, as of this moment, into the existing, empty "
        "directory TO and waits until it is on disk. The broker may run.",
        options,
        1,
        1,
        "The copy is one file, TO/data.mdb. To go back to it: stop the broker, put it into an "
        "empty db_path, give it to the broker's user, start the broker.\n\n"
        "Example: mkdir /backup/monday && haltere store backup /backup/monday"};
    const char *values[COUNT];
    const char *to[1];
    int count = 0;
    struct hlt_reader reader;
    struct hlt_err err = {""};

    enum hlt_cli_rc parsed = hlt_cli_parse(&spec, argc, argv, values, to, &count);
    if (parsed != HLT_CLI_OK) {
        return parsed == HLT_CLI_HELP ? HLT_EXIT_OK : HLT_EXIT_USAGE;
    }
    int code = hlt_reader_open(&reader, values[DB], values[CONFIG]);
    if (code != HLT_EXIT_OK) {
        return code;
    }
    enum hlt_rc rc = hlt_store_backup(reader.store, to[0], &err);
    if (rc != HLT_OK) {
        code = hlt_cli_fail(rc == HLT_EINVAL ? HLT_EXIT_USAGE : HLT_EXIT_IO, "%s", err.msg);
    }
    hlt_reader_close(&reader);
    return code;
}

int hlt_cmd_store(int argc, char **argv)
{
    static const struct hlt_cli_verb verbs[] = {
        {"check", run_check, "walk all of it: is it sound?"},
        {"stat", run_stat, "sizes, records, readers and the broker that holds it"},
        {"backup", run_backup, "a compacted copy, while the broker runs"},
        {NULL, NULL, NULL},
    };
    return hlt_cli_dispatch("store", verbs, argc, argv);
}
