/* SHA-256 (FIPS 180-4). */
#ifndef VARVE_SHA256_H
#define VARVE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA256_BLOCK 64

struct sha256 {
  uint32_t state[8];
  uint64_t length;
  unsigned char block[SHA256_BLOCK]; /* its first length % SHA256_BLOCK bytes are waiting */
};

void sha256_begin(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *bytes, size_t size);
/* Writes the digest; `hash` must begin anew after that. */
void sha256_end(struct sha256 *hash, unsigned char digest[SHA256_BYTES]);

#endif
