#define _GNU_SOURCE
#include "unchanged_output.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* As a shell says it of a program that SIGPIPE ended, which varve is where it is told of a reader that went away. */
#define READER_GONE 141

struct text {
  char *bytes;
  size_t size;
  FILE *stream;
};

static void put_ago(FILE *stream, uint64_t then) {
  static const struct {
    const char *name;
    int64_t ms;
  } UNITS[] = {{"day", 86400000}, {"hour", 3600000}, {"minute", 60000}, {"second", 1000}};
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t ms = (int64_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)(now.tv_nsec / 1000000) - then);
  for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++) {
    int64_t count = ms / UNITS[i].ms;
    if (count < 1) continue;
    fprintf(stream, "%" PRId64 " %s%s ago", count, UNITS[i].name, count == 1 ? "" : "s");
    return;
  }
  fputs("a moment ago", stream);
}

static void put_elapsed(FILE *stream, const struct timespec *began) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  long long ms = (long long)(now.tv_sec - began->tv_sec) * 1000 + (now.tv_nsec - began->tv_nsec) / 1000000;
  fprintf(stream, "%lld.%llds", ms / 1000, ms % 1000 / 100);
}

static bool put_piece(struct note_bytes *output, FILE *stream, const struct timespec *began) {
  uint32_t size;
  const unsigned char *block;
  switch (note_u8(output)) {
    case 0:
      block = note_block(output, &size);
      return block != NULL && fwrite(block, 1, size, stream) == size;
    case 1: put_ago(stream, note_u64(output)); return true;
    case 2: put_elapsed(stream, began); return true;
    default: return false;
  }
}

static bool compose(struct note_bytes *output, struct text texts[2], const struct timespec *began) {
  while (output->at < output->end) {
    uint8_t fd = note_u8(output);
    uint32_t pieces = note_u32(output);
    if (fd != STDOUT_FILENO && fd != STDERR_FILENO) return false;
    for (uint32_t i = 0; i < pieces; i++) {
      if (!put_piece(output, texts[fd - 1].stream, began) || output->bad) return false;
    }
  }
  return !output->bad;
}

/* False where nothing of it could be written. */
static bool write_all(int fd, const struct text *text, bool is_first) {
  size_t done = 0;
  while (done < text->size) {
    ssize_t wrote = write(fd, text->bytes + done, text->size - done);
    if (wrote >= 0) {
      done += (size_t)wrote;
    } else if (errno == EAGAIN) {
      struct pollfd ready = {.fd = fd, .events = POLLOUT};
      poll(&ready, 1, -1);
    } else if (errno != EINTR) {
      if (errno == EPIPE) _exit(READER_GONE);
      if (is_first && done == 0) return false;
      _exit(1);
    }
  }
  return true;
}

bool write_output(struct note_bytes *output, const struct timespec *began) {
  struct text texts[2] = {0};
  bool good = true;
  for (size_t i = 0; i < 2; i++) {
    texts[i].stream = open_memstream(&texts[i].bytes, &texts[i].size);
    good = good && texts[i].stream != NULL;
  }
  good = good && compose(output, texts, began);
  for (size_t i = 0; i < 2; i++) {
    if (texts[i].stream != NULL && fclose(texts[i].stream) != 0) good = false;
  }
  /* Progress comes before what the build came to, as it was told. */
  good = good && write_all(STDERR_FILENO, &texts[1], true) && write_all(STDOUT_FILENO, &texts[0], texts[1].size == 0);
  for (size_t i = 0; i < 2; i++) free(texts[i].bytes);
  return good;
}
