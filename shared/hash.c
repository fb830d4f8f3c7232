/* hash.c - SipHash for tables that clients can fill, XXH3 for finding damaged records, SHA-256. */
/* The one-shot and EVP functions look the algorithm up and allocate: more than the hash itself. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "hash.h"

#include <errno.h>
#include <openssl/sha.h>
#include <sodium/crypto_shorthash.h>
#include <string.h>
#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(sizeof(struct hlt_hash_key) == crypto_shorthash_KEYBYTES, "SipHash takes this key");

/* getrandom() and not libsodium's generator: that one needs sodium_init(), which would be one
 * more thing that a host process could have done differently. */
int hlt_hash_key_init(struct hlt_hash_key *key)
{
    size_t have = 0;
    while (have < sizeof(key->bytes)) {
        ssize_t got = getrandom(key->bytes + have, sizeof(key->bytes) - have, 0);
        if (got > 0) {
            have += (size_t)got;
        } else if (got == 0 || errno != EINTR) {
            return -1;
        }
    }
    return 0;
}

uint64_t hlt_hash(const struct hlt_hash_key *key, const void *data, size_t len)
{
    unsigned char out[crypto_shorthash_BYTES];
    uint64_t hash = 0;
    (void)crypto_shorthash(out, data, len, key->bytes); /* always 0 */
    memcpy(&hash, out, sizeof(hash)); /* byte order does not matter: it never leaves the process */
    return hash;
}

uint32_t hlt_checksum(const void *data, size_t len)
{
    return (uint32_t)(XXH3_64bits(data, len) & UINT32_MAX);
}

void hlt_sha256(uint8_t out[HLT_SHA256_BYTES], const void *data, size_t len)
{
    hlt_sha256_two(out, "", 0, data, len);
}

void hlt_sha256_two(uint8_t out[HLT_SHA256_BYTES], const void *first, size_t first_len,
                    const void *data, size_t len)
{
    SHA256_CTX context;

    (void)SHA256_Init(&context); /* these only fail for NULL */
    (void)SHA256_Update(&context, first, first_len);
    (void)SHA256_Update(&context, data, len);
    (void)SHA256_Final(out, &context);
}
