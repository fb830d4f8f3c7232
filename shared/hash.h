/* hash.h - the hashes Haltere uses: a keyed one for tables that clients can fill, a fast one for
 * finding damaged records, SHA-256 for what must not be forged. All are Debian libraries
 * (libsodium, libxxhash, OpenSSL). */
#ifndef HLT_HASH_H
#define HLT_HASH_H

#include <stddef.h>
#include <stdint.h>

/* A secret per process against crafted collisions (Aumasson and Bernstein, SipHash, 2012). */
struct hlt_hash_key {
    uint8_t bytes[16];
};

/* Fill with random bytes. Returns 0, or -1 if the system has no randomness to give. */
int hlt_hash_key_init(struct hlt_hash_key *key);

/* SipHash-2-4 (libsodium's crypto_shorthash): about 20 to 40 ns for an id. */
uint64_t hlt_hash(const struct hlt_hash_key *key, const void *data, size_t len);

/* Low 32 bits of XXH3_64bits: the checksum of records in the store. */
uint32_t hlt_checksum(const void *data, size_t len);

#define HLT_SHA256_BYTES 32
/* SHA-256 by OpenSSL, which uses the processor's instructions for it: 0.4 us for a token of 500
 * bytes, where libsodium takes 2. Never fails, allocates nothing. */
void hlt_sha256(uint8_t out[HLT_SHA256_BYTES], const void *data, size_t len);
/* Of `first` and then `data`, as if they stood in a row. */
void hlt_sha256_two(uint8_t out[HLT_SHA256_BYTES], const void *first, size_t first_len,
                    const void *data, size_t len);

#endif
