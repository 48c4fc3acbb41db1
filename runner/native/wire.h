/*
 * Binary fields on a pipe, little endian: fixed-width integers, and texts as u32 length and bytes. Texts are file names and
 * the like: any bytes but NUL. A stream that ends within a field fails with code `protocol`.
 */
#ifndef VARVE_WIRE_H
#define VARVE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_BUFFER ((size_t)256 * 1024)

struct wire_in {
  int fd;
  size_t at, end;
  unsigned char *buffer;
};

void wire_in_init(struct wire_in *in, int fd);
void wire_in_free(struct wire_in *in);
/* True when the stream ends here, before another field. */
bool wire_ended(struct wire_in *in);
uint8_t wire_u8(struct wire_in *in);
uint16_t wire_u16(struct wire_in *in);
uint32_t wire_u32(struct wire_in *in);
uint64_t wire_u64(struct wire_in *in);
int64_t wire_i64(struct wire_in *in);
/* A text, NUL-terminated, to be freed by the caller. */
char *wire_text(struct wire_in *in);
/* Bytes that may hold NUL; their number goes to `length`. To be freed by the caller. */
unsigned char *wire_bytes(struct wire_in *in, uint32_t *length);
/* u32 count, then as many texts. The array ends in NULL; array and texts belong to the caller. */
char **wire_texts(struct wire_in *in, uint32_t *count);
/* Lends at least 1 and at most `most` bytes of the buffer, until the next call. */
size_t wire_lend(struct wire_in *in, const unsigned char **bytes, size_t most);

struct wire_out {
  int fd;
  size_t length, capacity;
  unsigned char *buffer;
};

/* With -1 for `fd` all that is put stays in the buffer, which the caller frees. */
void wire_out_init(struct wire_out *out, int fd);
void wire_put_u8(struct wire_out *out, uint8_t value);
void wire_put_u16(struct wire_out *out, uint16_t value);
void wire_put_u32(struct wire_out *out, uint32_t value);
void wire_put_u64(struct wire_out *out, uint64_t value);
void wire_put_bytes(struct wire_out *out, const void *bytes, uint32_t length);
void wire_put_text(struct wire_out *out, const char *text);
/* Bytes that are in the form of the wire already. */
void wire_put_encoded(struct wire_out *out, const void *bytes, size_t size);
/* Writes out what is buffered. A reader that has gone away ends the process without a word. */
void wire_flush(struct wire_out *out);

/* malloc that fails with code `out-of-memory` instead of returning NULL; the memory is zeroed. */
void *wire_allocate(size_t size);
/* realloc in the same manner; the new part is not zeroed. */
void *wire_grow(void *memory, size_t size);

#endif
