#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "failure.h"

/* No name, path, target or attribute value comes near this; it keeps a broken stream from asking for gigabytes. */
#define LONGEST_FIELD ((uint32_t)64 * 1024 * 1024)

void *wire_allocate(size_t size) {
  void *memory = calloc(1, size == 0 ? 1 : size);
  if (memory == NULL) fail(ENOMEM, "out-of-memory", NULL, "cannot allocate %zu bytes", size);
  return memory;
}

void *wire_grow(void *memory, size_t size) {
  void *grown = realloc(memory, size == 0 ? 1 : size);
  if (grown == NULL) fail(ENOMEM, "out-of-memory", NULL, "cannot allocate %zu bytes", size);
  return grown;
}

void wire_in_init(struct wire_in *in, int fd) {
  in->fd = fd;
  in->at = 0;
  in->end = 0;
  in->buffer = wire_allocate(WIRE_BUFFER);
}

void wire_in_free(struct wire_in *in) {
  free(in->buffer);
  in->buffer = NULL;
}

/* Reads more behind an empty buffer; false at the end of the stream. */
static bool refill(struct wire_in *in) {
  for (;;) {
    ssize_t got = read(in->fd, in->buffer, WIRE_BUFFER);
    if (got > 0) {
      in->at = 0;
      in->end = (size_t)got;
      return true;
    }
    if (got == 0) return false;
    if (errno != EINTR) fail(errno, "protocol", NULL, "cannot read orders");
  }
}

bool wire_ended(struct wire_in *in) { return in->at == in->end && !refill(in); }

size_t wire_lend(struct wire_in *in, const unsigned char **bytes, size_t most) {
  if (in->at == in->end && !refill(in)) fail(0, "protocol", NULL, "the orders end too early");
  size_t size = in->end - in->at;
  if (size > most) size = most;
  *bytes = in->buffer + in->at;
  in->at += size;
  return size;
}

static void copy_out(struct wire_in *in, unsigned char *to, size_t size) {
  while (size > 0) {
    const unsigned char *part;
    size_t got = wire_lend(in, &part, size);
    memcpy(to, part, got);
    to += got;
    size -= got;
  }
}

static uint64_t integer(struct wire_in *in, size_t size) {
  unsigned char raw[8];
  copy_out(in, raw, size);
  uint64_t value = 0;
  for (size_t i = size; i > 0; i--) value = value << 8 | raw[i - 1];
  return value;
}

uint8_t wire_u8(struct wire_in *in) { return (uint8_t)integer(in, 1); }
uint16_t wire_u16(struct wire_in *in) { return (uint16_t)integer(in, 2); }
uint32_t wire_u32(struct wire_in *in) { return (uint32_t)integer(in, 4); }
uint64_t wire_u64(struct wire_in *in) { return integer(in, 8); }
int64_t wire_i64(struct wire_in *in) { return (int64_t)integer(in, 8); }

unsigned char *wire_bytes(struct wire_in *in, uint32_t *length) {
  *length = wire_u32(in);
  if (*length > LONGEST_FIELD) fail(0, "protocol", NULL, "a field of %u bytes", *length);
  unsigned char *bytes = wire_grow(NULL, (size_t)*length + 1);
  copy_out(in, bytes, *length);
  bytes[*length] = 0;
  return bytes;
}

char *wire_text(struct wire_in *in) {
  uint32_t length;
  char *text = (char *)wire_bytes(in, &length);
  if (strlen(text) != length) fail(EINVAL, "protocol", text, "a name holds a NUL byte");
  return text;
}

char **wire_texts(struct wire_in *in, uint32_t *count) {
  *count = wire_u32(in);
  if (*count > LONGEST_FIELD / sizeof(char *)) fail(0, "protocol", NULL, "a list of %u texts", *count);
  char **texts = wire_allocate(((size_t)*count + 1) * sizeof *texts);
  for (uint32_t i = 0; i < *count; i++) texts[i] = wire_text(in);
  return texts;
}

void wire_out_init(struct wire_out *out, int fd) {
  out->fd = fd;
  out->length = 0;
  out->capacity = 0;
  out->buffer = NULL;
}

void wire_flush(struct wire_out *out) {
  size_t done = 0;
  while (done < out->length) {
    ssize_t wrote = write(out->fd, out->buffer + done, out->length - done);
    if (wrote < 0) {
      if (errno == EINTR) continue;
      _exit(FAILURE_STATUS);
    }
    done += (size_t)wrote;
  }
  out->length = 0;
}

static void put(struct wire_out *out, const void *bytes, size_t size) {
  if (out->length + size > out->capacity) {
    if (out->fd >= 0 && out->length >= WIRE_BUFFER) wire_flush(out);
    size_t wanted = out->length + size;
    if (wanted > out->capacity) {
      out->capacity = wanted < WIRE_BUFFER ? WIRE_BUFFER : wanted * 2;
      out->buffer = wire_grow(out->buffer, out->capacity);
    }
  }
  if (size > 0) memcpy(out->buffer + out->length, bytes, size);
  out->length += size;
}

static void put_integer(struct wire_out *out, uint64_t value, size_t size) {
  unsigned char raw[8];
  for (size_t i = 0; i < size; i++) raw[i] = (unsigned char)(value >> (8 * i));
  put(out, raw, size);
}

void wire_put_u8(struct wire_out *out, uint8_t value) { put_integer(out, value, 1); }
void wire_put_u16(struct wire_out *out, uint16_t value) { put_integer(out, value, 2); }
void wire_put_u32(struct wire_out *out, uint32_t value) { put_integer(out, value, 4); }
void wire_put_u64(struct wire_out *out, uint64_t value) { put_integer(out, value, 8); }

void wire_put_bytes(struct wire_out *out, const void *bytes, uint32_t length) {
  wire_put_u32(out, length);
  put(out, bytes, length);
}

void wire_put_encoded(struct wire_out *out, const void *bytes, size_t size) { put(out, bytes, size); }

void wire_put_text(struct wire_out *out, const char *text) { wire_put_bytes(out, text, (uint32_t)strlen(text)); }
