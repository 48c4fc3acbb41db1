#include "crc32.h"

/* Eight bytes a step ("slicing by 8"): table k holds the remainder of a byte followed by k zeros. */
static uint32_t crc_tables[8][256];

static void fill_crc_tables(void) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ ((crc & 1) ? 0xedb88320U : 0);
    crc_tables[0][byte] = crc;
  }
  for (uint32_t byte = 0; byte < 256; byte++) {
    for (int table = 1; table < 8; table++) {
      uint32_t before = crc_tables[table - 1][byte];
      crc_tables[table][byte] = before >> 8 ^ crc_tables[0][before & 0xff];
    }
  }
}

uint32_t crc32_of(const unsigned char *bytes, size_t size) {
  if (crc_tables[0][1] == 0) fill_crc_tables();
  uint32_t crc = ~0U;
  for (; size >= 8; size -= 8, bytes += 8) {
    crc ^= (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    crc = crc_tables[7][crc & 0xff] ^ crc_tables[6][crc >> 8 & 0xff] ^ crc_tables[5][crc >> 16 & 0xff] ^
          crc_tables[4][crc >> 24] ^ crc_tables[3][bytes[4]] ^ crc_tables[2][bytes[5]] ^ crc_tables[1][bytes[6]] ^
          crc_tables[0][bytes[7]];
  }
  for (; size > 0; size--, bytes++) crc = crc >> 8 ^ crc_tables[0][(crc ^ *bytes) & 0xff];
  return ~crc;
}
