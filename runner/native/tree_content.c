#define _GNU_SOURCE
#include "tree_content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tree_path.h"

#define BLOCK ((size_t)4096)

/* Shorter runs of zeros are written: a hole in every program's padding would only split its extents. */
#define SHORTEST_HOLE ((uint64_t)64 * 1024)

#define COPY_STEP ((size_t)1 << 30)

static const unsigned char ZEROS[BLOCK];

static int write_all(int fd, const unsigned char *bytes, size_t size) {
  while (size > 0) {
    ssize_t wrote = write(fd, bytes, size);
    if (wrote < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    bytes += wrote;
    size -= (size_t)wrote;
  }
  return 0;
}

/* Brings zeros to the file that were held back: skipped where they are many. */
static int settle(int fd, uint64_t *zeros) {
  if (*zeros >= SHORTEST_HOLE) {
    if (lseek(fd, (off_t)*zeros, SEEK_CUR) < 0) return -1;
    *zeros = 0;
  }
  while (*zeros > 0) {
    size_t step = *zeros < BLOCK ? (size_t)*zeros : BLOCK;
    if (write_all(fd, ZEROS, step) < 0) return -1;
    *zeros -= step;
  }
  return 0;
}

/* Writes one lent piece that starts at `offset` of the file, holding back blocks of zeros. */
static int write_piece(int fd, const unsigned char *bytes, size_t size, uint64_t offset, uint64_t *zeros) {
  size_t start = 0;
  for (size_t at = 0; at < size;) {
    size_t step = BLOCK - (size_t)((offset + at) % BLOCK);
    if (step > size - at) step = size - at;
    if (memcmp(bytes + at, ZEROS, step) == 0) {
      if (at > start && write_all(fd, bytes + start, at - start) < 0) return -1;
      *zeros += step;
      start = at + step;
    } else if (*zeros > 0 && settle(fd, zeros) < 0) {
      return -1;
    }
    at += step;
  }
  return size > start ? write_all(fd, bytes + start, size - start) : 0;
}

int content_from_stream(int fd, struct wire_in *in, uint64_t size) {
  uint64_t zeros = 0;
  for (uint64_t offset = 0; offset < size;) {
    const unsigned char *piece;
    uint64_t left = size - offset;
    size_t got = wire_lend(in, &piece, left < WIRE_BUFFER ? (size_t)left : WIRE_BUFFER);
    if (write_piece(fd, piece, got, offset, &zeros) < 0) return -1;
    offset += got;
  }
  if (zeros < SHORTEST_HOLE) return settle(fd, &zeros);
  return ftruncate(fd, (off_t)size);
}

/* Copies through memory, where the kernel cannot copy between these two files. */
static int copy_by_hand(int from, int to, off_t at, off_t end) {
  unsigned char *buffer = wire_allocate(WIRE_BUFFER);
  int result = 0;
  while (at < end && result == 0) {
    size_t step = (size_t)(end - at) < WIRE_BUFFER ? (size_t)(end - at) : WIRE_BUFFER;
    ssize_t got = pread(from, buffer, step, at);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = EIO;
    result = got <= 0 || lseek(to, at, SEEK_SET) < 0 ? -1 : write_all(to, buffer, (size_t)got);
    if (got > 0) at += got;
  }
  int error = errno;
  free(buffer);
  errno = error;
  return result;
}

static int copy_range(int from, int to, off_t at, off_t end) {
  while (at < end) {
    off_t to_at = at;
    size_t step = (uint64_t)(end - at) < COPY_STEP ? (size_t)(end - at) : COPY_STEP;
    ssize_t got = copy_file_range(from, &at, to, &to_at, step, 0);
    if (got > 0) continue;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS) return -1;
    return copy_by_hand(from, to, at, end);
  }
  return 0;
}

static int copy_data(int from, int to, off_t size) {
  for (off_t at = 0; at < size;) {
    off_t data = lseek(from, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    off_t end = data < 0 ? size : lseek(from, data, SEEK_HOLE);
    if (data < 0) data = at;
    if (end < 0 || end > size) end = size;
    if (copy_range(from, to, data, end) < 0) return -1;
    at = end;
  }
  return ftruncate(to, size);
}

int content_from_host(int fd, const char *path) {
  int from = host_open_file(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  if (from < 0) return -1;
  struct stat status;
  int result = fstat(from, &status);
  if (result == 0 && !S_ISREG(status.st_mode)) {
    errno = EINVAL;
    result = -1;
  }
  if (result == 0) result = copy_data(from, fd, status.st_size);
  int error = errno;
  close(from);
  errno = error;
  return result;
}
