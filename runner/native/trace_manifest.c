#define _GNU_SOURCE
#include "trace_manifest.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32.h"
#include "wire.h"

#define MAGIC "varvdiff"
#define VERSION 1
#define CHECKSUM_BYTES 4
#define MOST_SECONDS 9007199254740992.0

#define KIND_MASK 0x0f
#define HAS_HARDLINK 0x10
#define HAS_XATTRS 0x20
#define IS_OWN 0x40

static const char TORN[] = "the list of a diff's files is damaged";

/* LEB128. */
static bool take_number(const unsigned char **at, const unsigned char *end, uint64_t *number) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
    unsigned char byte = *(*at)++;
    value |= (uint64_t)(byte & 0x7f) << shift;
    if (byte < 0x80) {
      *number = value;
      return true;
    }
  }
  return false;
}

static bool take_text(const unsigned char **at, const unsigned char *end, struct manifest_text *text) {
  uint64_t length;
  if (!take_number(at, end, &length) || length > (uint64_t)(end - *at)) return false;
  *text = (struct manifest_text){*at, (size_t)length};
  *at += length;
  return true;
}

static bool number(struct manifest *manifest, uint64_t *value) { return take_number(&manifest->at, manifest->end, value); }

static bool number32(struct manifest *manifest, uint32_t *value) {
  uint64_t wide;
  if (!number(manifest, &wide) || wide > UINT32_MAX) return false;
  *value = (uint32_t)wide;
  return true;
}

static bool text(struct manifest *manifest, struct manifest_text *value) {
  return take_text(&manifest->at, manifest->end, value);
}

static bool path_of(struct manifest *manifest, struct manifest_record *record) {
  uint64_t shared;
  struct manifest_text rest;
  if (!number(manifest, &shared) || shared > manifest->path_length || !text(manifest, &rest)) return false;
  size_t length = (size_t)shared + rest.length;
  if (length > manifest->path_capacity) {
    manifest->path_capacity = length * 2;
    manifest->path = wire_grow(manifest->path, manifest->path_capacity);
  }
  if (rest.length > 0) memcpy(manifest->path + shared, rest.bytes, rest.length);
  manifest->path_length = length;
  record->shared = (size_t)shared;
  record->path = (struct manifest_text){manifest->path, length};
  return true;
}

static bool seconds(struct manifest *manifest, int64_t *value) {
  double sec;
  if (manifest->end - manifest->at < (ptrdiff_t)sizeof sec) return false;
  memcpy(&sec, manifest->at, sizeof sec); /* both kinds of machine that varve runs on are little endian */
  manifest->at += sizeof sec;
  /* Beyond that a double is no exact number of seconds; NaN is no number at all. */
  if (!(sec >= -MOST_SECONDS && sec <= MOST_SECONDS)) return false;
  *value = (int64_t)sec;
  return true;
}

static bool xattrs_of(struct manifest *manifest, struct manifest_record *record) {
  if (!number32(manifest, &record->xattr_count)) return false;
  const unsigned char *start = manifest->at;
  for (uint32_t i = 0; i < record->xattr_count; i++) {
    struct manifest_text skipped;
    if (!text(manifest, &skipped) || !text(manifest, &skipped)) return false;
  }
  record->xattrs = (struct manifest_text){start, (size_t)(manifest->at - start)};
  return true;
}

bool manifest_next(struct manifest *manifest, struct manifest_record *record) {
  memset(record, 0, sizeof *record);
  if (manifest->at == manifest->end) return false;
  unsigned char head = *manifest->at++;
  record->kind = head & KIND_MASK;
  record->own = (head & IS_OWN) != 0;
  if (!path_of(manifest, record)) return false;
  if (record->kind == MANIFEST_WHITEOUT || record->kind == MANIFEST_OPAQUE) return true;
  if (record->kind > MANIFEST_SOCKET) return false;
  if (!number32(manifest, &record->mode) || !number32(manifest, &record->uid) || !number32(manifest, &record->gid)) return false;
  if (!seconds(manifest, &record->sec) || !number32(manifest, &record->nsec)) return false;
  if (record->kind == MANIFEST_FILE && !number(manifest, &record->size)) return false;
  if (record->kind == MANIFEST_SYMLINK && !text(manifest, &record->target)) return false;
  if (record->kind == MANIFEST_CHAR || record->kind == MANIFEST_BLOCK) {
    if (!number32(manifest, &record->major) || !number32(manifest, &record->minor)) return false;
  }
  if ((head & HAS_HARDLINK) && !text(manifest, &record->first)) return false;
  return !(head & HAS_XATTRS) || xattrs_of(manifest, record);
}

bool manifest_xattr(struct manifest_text *xattrs, struct manifest_text *name, struct manifest_text *value) {
  if (xattrs->length == 0) return false;
  const unsigned char *at = xattrs->bytes, *end = xattrs->bytes + xattrs->length;
  if (!take_text(&at, end, name) || !take_text(&at, end, value)) return false;
  *xattrs = (struct manifest_text){at, (size_t)(end - at)};
  return true;
}

/* The bytes of the file, mapped: most of them are looked at once. */
static bool map_file(const char *folder, struct manifest_text *file) {
  char path[4096];
  if (snprintf(path, sizeof path, "%s/manifest", folder) >= (int)sizeof path) return false;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  struct stat status;
  void *bytes = MAP_FAILED;
  if (fstat(fd, &status) == 0 && status.st_size > 0) {
    bytes = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  }
  close(fd);
  if (bytes == MAP_FAILED) return false;
  *file = (struct manifest_text){bytes, (size_t)status.st_size};
  return true;
}

char *manifest_original(const char *folder) {
  const char *slash = strrchr(folder, '/');
  const char *name = slash == NULL ? folder : slash + 1;
  const char *dot = strchr(name, '.');
  if (dot == NULL) return NULL;
  size_t before = (size_t)(name - folder), size = strlen(dot); /* of the original's name and the NUL */
  char *original = wire_allocate(before + size);
  memcpy(original, folder, before);
  memcpy(original + before, dot + 1, size);
  return original;
}

const char *manifest_open(struct manifest *manifest, const char *folder) {
  memset(manifest, 0, sizeof *manifest);
  struct manifest_text file;
  if (!map_file(folder, &file)) return "the list of a diff's files cannot be read";
  size_t magic = strlen(MAGIC);
  if (file.length < magic + CHECKSUM_BYTES || memcmp(file.bytes, MAGIC, magic) != 0) return TORN;
  const unsigned char *end = file.bytes + file.length - CHECKSUM_BYTES;
  uint32_t checksum = (uint32_t)end[0] | (uint32_t)end[1] << 8 | (uint32_t)end[2] << 16 | (uint32_t)end[3] << 24;
  if (crc32_of(file.bytes, file.length - CHECKSUM_BYTES) != checksum) return TORN;
  manifest->at = file.bytes + magic;
  manifest->end = end;
  uint64_t version, created, bytes;
  if (!number(manifest, &version) || version != VERSION) return "the list of a diff's files is of another version";
  if (!number(manifest, &created) || !number(manifest, &bytes) || !number(manifest, &manifest->count)) return TORN;
  if (!manifest_next(manifest, &manifest->root) || manifest->root.kind != MANIFEST_FOLDER) return TORN;
  return NULL;
}
