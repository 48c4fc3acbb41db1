#define _GNU_SOURCE
#include "unchanged_output.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As a shell says it of a program that SIGPIPE ended, which varve is where it is told of a reader that went away. */
#define READER_GONE 141
/* The longest text that a time makes, and more. */
#define MOST_TIME 64

struct text {
  char *bytes;
  size_t size, capacity;
};

static bool put(struct text *text, const void *bytes, size_t size) {
  if (size > text->capacity - text->size) {
    size_t capacity = text->size + size < 4096 ? 4096 : (text->size + size) * 2;
    char *grown = realloc(text->bytes, capacity);
    if (grown == NULL) return false;
    text->bytes = grown;
    text->capacity = capacity;
  }
  if (size > 0) memcpy(text->bytes + text->size, bytes, size);
  text->size += size;
  return true;
}

static bool put_ago(struct text *text, uint64_t then) {
  static const struct {
    const char *name;
    int64_t ms;
  } UNITS[] = {{"day", 86400000}, {"hour", 3600000}, {"minute", 60000}, {"second", 1000}};
  struct timespec now;
  char ago[MOST_TIME] = "a moment ago";
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t ms = (int64_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)(now.tv_nsec / 1000000) - then);
  for (size_t i = 0; i < sizeof UNITS / sizeof *UNITS; i++) {
    int64_t count = ms / UNITS[i].ms;
    if (count < 1) continue;
    snprintf(ago, sizeof ago, "%" PRId64 " %s%s ago", count, UNITS[i].name, count == 1 ? "" : "s");
    break;
  }
  return put(text, ago, strlen(ago));
}

static bool put_elapsed(struct text *text, const struct timespec *began) {
  struct timespec now;
  char elapsed[MOST_TIME];
  clock_gettime(CLOCK_MONOTONIC, &now);
  long long ms = (long long)(now.tv_sec - began->tv_sec) * 1000 + (now.tv_nsec - began->tv_nsec) / 1000000;
  snprintf(elapsed, sizeof elapsed, "%lld.%llds", ms / 1000, ms % 1000 / 100);
  return put(text, elapsed, strlen(elapsed));
}

static bool put_piece(struct note_bytes *output, struct text *text, const struct timespec *began) {
  uint32_t size;
  const unsigned char *block;
  switch (note_u8(output)) {
    case 0:
      block = note_block(output, &size);
      return block != NULL && put(text, block, size);
    case 1: return put_ago(text, note_u64(output));
    case 2: return put_elapsed(text, began);
    default: return false;
  }
}

static bool compose(struct note_bytes *output, struct text texts[2], const struct timespec *began) {
  while (output->at < output->end) {
    uint8_t fd = note_u8(output);
    uint32_t pieces = note_u32(output);
    if (fd != STDOUT_FILENO && fd != STDERR_FILENO) return false;
    for (uint32_t i = 0; i < pieces; i++) {
      if (!put_piece(output, &texts[fd - 1], began) || output->bad) return false;
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
  /* Progress comes before what the build came to, as it was told. */
  bool good = compose(output, texts, began) && write_all(STDERR_FILENO, &texts[1], true) &&
              write_all(STDOUT_FILENO, &texts[0], texts[1].size == 0);
  for (size_t i = 0; i < 2; i++) free(texts[i].bytes);
  return good;
}
