/* scan.h - a question put to the rules of sections one after the other, in columns.
 *
 * For what the trie is no help with: a subscription whose wildcards touch half of it, and filters
 * that hold one topic in thousands of ways. Each rule has a short code for each of its first
 * levels; a column of codes is compared many rules at a time, and only a rule whose codes all fit
 * is looked at. So the cost is linear in the client's own rules, but small: some tens of
 * microseconds for 100,000 of them, whatever they and the question are (bench/policy). */
#ifndef HLT_POLICY_SCAN_H
#define HLT_POLICY_SCAN_H

#include "request.h"

/* Make the columns. HLT_ENOMEM or HLT_OK. */
enum hlt_rc hlt_scan_compile(struct hlt_policy *policy);
void hlt_scan_free(struct acl_scan *scan);

/* What the rules of the request's sections say. `found` comes as it is when nothing was found yet,
 * with all_bound false if nobody will ask for it. */
void hlt_scan_ask(const struct request *request, uint8_t access, enum relation relation,
                  struct found *found);
/* The lowest rule alone that allows. */
void hlt_scan_allow(const struct request *request, uint8_t access, enum relation relation,
                    struct found *found);

#endif
