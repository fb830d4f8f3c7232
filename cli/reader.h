/* reader.h - the command's view of the store: open it for reading, name its metrics, shape its
 * records as JSON. */
#ifndef HLT_READER_H
#define HLT_READER_H

#include <cjson/cJSON.h>

#include "../shared/record.h"
#include "../shared/store.h"
#include "command.h"

struct hlt_reader {
    struct hlt_store *store;
    char *path;
    bool live; /* a broker holds the store now: "online" means now, not the last time it ran */
    long pid;  /* of that broker */
};

/* The two options by which every reading verb finds the store. */
#define HLT_READER_OPTIONS                                                                         \
    {"db", "DIR", "the store's directory (default /var/lib/haltere)"},                             \
    {                                                                                              \
        "config", "CONF", "take the directory from this mosquitto.conf"                            \
    }

/* Open the store of `--db` or `--config` (either may be NULL). HLT_EXIT_OK, or an exit code after a
 * message. */
int hlt_reader_open(struct hlt_reader *out, const char *db, const char *config);
void hlt_reader_close(struct hlt_reader *reader);

/* Say on stderr, once, that no broker runs on this store, so states are the last written ones. */
void hlt_reader_note_stale(const struct hlt_reader *reader);
/* After a scan: if records were damaged say so and return HLT_EXIT_IO, else `code`. */
int hlt_reader_damaged(const struct hlt_reader *reader, uint64_t damaged, int code);

/* The name of a metric id, malloc'd; "#12" if the store does not know it. */
char *hlt_reader_metric_name(const struct hlt_reader *reader, uint16_t name_id);
/* A blob record as text, malloc'd and NUL-terminated; NULL if absent or damaged. */
char *hlt_reader_blob(const struct hlt_reader *reader, enum hlt_db db, const char *key);

/* Members that are left out where there is nothing to say: no date (0), no number (NAN), no text
 * (""). */
void hlt_reader_add_date(cJSON *object, const char *name, int64_t unix_ms);
void hlt_reader_add_number(cJSON *object, const char *name, double value);
void hlt_reader_add_text(cJSON *object, const char *name, const char *text);

/* An alert as in DESIGN 5 (what the record holds of it). */
cJSON *hlt_reader_alert_json(const struct hlt_alert_record *alert, const char *stream);
/* Firing or acknowledged. */
bool hlt_reader_alert_open(const struct hlt_alert_record *alert);
/* The colour of a severity or of a band on this terminal. */
const char *hlt_reader_severity_colour(unsigned severity);
const char *hlt_reader_band_colour(unsigned band);
/* "online", "offline", or what an online device says of itself: "maintenance", "error". */
const char *hlt_reader_state(bool online, unsigned status);

/* What the device says of itself: "online", "maintenance", ...; "" if it never said. */
const char *hlt_reader_status(unsigned status);

/* A member of a document that was read: "" and 0 where it is not there, or of another type. */
const char *hlt_reader_text_of(const cJSON *object, const char *name);
double hlt_reader_number_of(const cJSON *object, const char *name);

/* Print a JSON document as one compact line without a line break (for lists that are streamed) and
 * delete it. */
int hlt_reader_print_compact(cJSON *document);

#endif
