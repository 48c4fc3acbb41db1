#define _GNU_SOURCE
#include "unchanged_tree.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NANOSECONDS 1000000000

/* Of core/stat-row.ts: a row, and what of it tells that a file is the same. */
#define ROW_BYTES ((uint64_t)64)
#define TUPLE 6

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "rows are compared as they lie in memory"
#endif

static uint64_t nanoseconds(struct timespec time) { return (uint64_t)time.tv_sec * NANOSECONDS + (uint64_t)time.tv_nsec; }

static bool same_tuple(const unsigned char *row, const struct stat *found) {
  const uint64_t tuple[TUPLE] = {
      found->st_dev, found->st_ino, (uint64_t)found->st_size, nanoseconds(found->st_mtim), nanoseconds(found->st_ctim), found->st_mode,
  };
  return memcmp(row, tuple, sizeof tuple) == 0;
}

bool note_row(struct note_bytes *facts, const struct stat *found) {
  const unsigned char *row = note_raw(facts, TUPLE * sizeof(uint64_t));
  return row != NULL && found != NULL && same_tuple(row, found);
}

/* Whether all names of a folder are what their rows say. */
static bool same_rows(int folder, const unsigned char *rows, uint32_t count, struct note_bytes names) {
  for (; count > 0; count--, rows += ROW_BYTES) {
    size_t left = (size_t)(names.end - names.at);
    const unsigned char *end = left == 0 ? NULL : memchr(names.at, 0, left);
    struct stat found;
    if (end == NULL || fstatat(folder, (const char *)names.at, &found, AT_SYMLINK_NOFOLLOW) < 0) return false;
    if (!same_tuple(rows, &found)) return false;
    names.at = end + 1;
  }
  return names.at == names.end;
}

static bool same_folder(struct note_bytes *facts, int top) {
  const char *path = note_text(facts);
  if (facts->bad) return false;
  /* It must let itself be listed, as it did. */
  int folder = openat(top, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return false;
  struct stat found;
  bool same = fstat(folder, &found) == 0 && note_row(facts, &found);
  uint32_t count = note_u32(facts), size;
  const unsigned char *rows = note_raw(facts, count * ROW_BYTES), *names = note_block(facts, &size);
  same = same && rows != NULL && names != NULL && same_rows(folder, rows, count, (struct note_bytes){names, names + size, false});
  close(folder);
  return same;
}

/* Whether `folder` lies at `path`: symlinks on the way may lead elsewhere now. */
static bool lies_at(int folder, const char *path) {
  char link[64], found[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
  ssize_t length = readlink(link, found, sizeof found);
  return length > 0 && (size_t)length == strlen(path) && memcmp(found, path, (size_t)length) == 0;
}

bool tree_is_unchanged(struct note_bytes *facts) {
  const char *path = note_text(facts), *real = note_text(facts);
  uint32_t folders = note_u32(facts);
  if (facts->bad || *path != '/') return false;
  int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (top < 0) return false;
  bool same = true;
  for (; same && folders > 0; folders--) same = same_folder(facts, top);
  same = same && lies_at(top, real);
  close(top);
  return same;
}
