#ifndef VARVE_CRC32_H
#define VARVE_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of zlib's crc32() and of gzip (RFC 1952). */
uint32_t crc32_of(const unsigned char *bytes, size_t size);

#endif
