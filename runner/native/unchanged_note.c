#define _GNU_SOURCE
#include "unchanged_note.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crc32.h"
#include "unchanged_tree.h"

#define MAGIC "varvsame"
#define VERSION 2
#define CHECKSUM_BYTES 4
/* Of what is compared byte for byte: longer than any manifest of an image. */
#define MOST_CONTENT ((uint32_t)16 * 1024 * 1024)

const unsigned char *note_raw(struct note_bytes *bytes, uint64_t size) {
  if (bytes->bad || size > (uint64_t)(bytes->end - bytes->at)) {
    bytes->bad = true;
    return NULL;
  }
  const unsigned char *raw = bytes->at;
  bytes->at += size;
  return raw;
}

static uint64_t number(struct note_bytes *bytes, size_t size) {
  const unsigned char *raw = note_raw(bytes, size);
  uint64_t value = 0;
  for (size_t i = raw == NULL ? 0 : size; i > 0; i--) value = value << 8 | raw[i - 1];
  return value;
}

uint8_t note_u8(struct note_bytes *bytes) { return (uint8_t)number(bytes, 1); }
uint32_t note_u32(struct note_bytes *bytes) { return (uint32_t)number(bytes, 4); }
uint64_t note_u64(struct note_bytes *bytes) { return number(bytes, 8); }

const unsigned char *note_block(struct note_bytes *bytes, uint32_t *size) {
  *size = note_u32(bytes);
  const unsigned char *block = note_raw(bytes, *size);
  if (block == NULL) *size = 0;
  return block;
}

const char *note_text(struct note_bytes *bytes) {
  uint32_t size;
  const unsigned char *block = note_block(bytes, &size);
  if (block != NULL && size > 0 && block[size - 1] == 0) return (const char *)block;
  bytes->bad = true;
  return "";
}

bool note_open(struct note_bytes *note, const unsigned char call[SHA256_BYTES]) {
  const unsigned char *start = note->at;
  size_t size = (size_t)(note->end - note->at);
  if (size < CHECKSUM_BYTES) return false;
  struct note_bytes checksum = {note->end - CHECKSUM_BYTES, note->end, false};
  note->end -= CHECKSUM_BYTES;
  const unsigned char *magic = note_raw(note, sizeof MAGIC - 1);
  if (magic == NULL || memcmp(magic, MAGIC, sizeof MAGIC - 1) != 0 || note_u32(note) != VERSION) return false;
  uint32_t head;
  (void)note_block(note, &head); /* for varve: which build this was */
  const unsigned char *noted = note_raw(note, SHA256_BYTES);
  if (noted == NULL || memcmp(noted, call, SHA256_BYTES) != 0) return false;
  return crc32_of(start, size - CHECKSUM_BYTES) == note_u32(&checksum);
}

/* Whether the file at `path`, from `folder`, has these bytes and no more. */
static bool has_content(int folder, const char *path, const unsigned char *bytes, uint32_t size) {
  if (bytes == NULL || size > MOST_CONTENT) return false;
  int fd = openat(folder, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (fd < 0) return false;
  unsigned char buffer[16 * 1024];
  uint32_t seen = 0;
  ssize_t got;
  while ((got = read(fd, buffer, sizeof buffer)) > 0) {
    if ((uint64_t)got > size - seen || memcmp(buffer, bytes + seen, (size_t)got) != 0) break;
    seen += (uint32_t)got;
  }
  close(fd);
  return got == 0 && seen == size;
}

static bool same_content(struct note_bytes *facts, int root) {
  const char *path = note_text(facts);
  uint32_t size;
  const unsigned char *bytes = note_block(facts, &size);
  return !facts->bad && has_content(root, path, bytes, size);
}

static bool same_link(struct note_bytes *facts, int root) {
  const char *path = note_text(facts), *target = note_text(facts);
  char found[PATH_MAX];
  if (facts->bad) return false;
  ssize_t length = readlinkat(root, path, found, sizeof found);
  return length >= 0 && (size_t)length == strlen(target) && memcmp(found, target, (size_t)length) == 0;
}

static bool same_stored(struct note_bytes *facts, int root) {
  const char *path = note_text(facts);
  struct stat found;
  bool there = !facts->bad && fstatat(root, path, &found, AT_SYMLINK_NOFOLLOW) == 0;
  return note_row(facts, there ? &found : NULL);
}

/* A file or folder of the machine: as whoever reads it gets it, so that it must still let itself be opened. */
static bool same_file(struct note_bytes *facts) {
  const char *path = note_text(facts);
  struct stat found;
  int fd = facts->bad || *path != '/' ? -1 : open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  bool there = fd >= 0 && fstat(fd, &found) == 0 && (S_ISREG(found.st_mode) || S_ISDIR(found.st_mode));
  bool same = note_row(facts, there ? &found : NULL);
  if (fd >= 0) close(fd);
  return same;
}

static bool is_absent(struct note_bytes *facts) {
  const char *path = note_text(facts);
  struct stat found;
  return !facts->bad && *path == '/' && stat(path, &found) < 0 && errno == ENOENT;
}

/* A database is written by every command: it is there, whole at its beginning and no shorter. Its rows are what the generation tells of. */
static bool is_database(struct note_bytes *facts, int root) {
  static const char START[] = "SQLite format 3";
  const char *path = note_text(facts);
  uint64_t size = note_u64(facts);
  char start[sizeof START];
  struct stat found;
  int fd = facts->bad ? -1 : openat(root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return false;
  bool good = fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && found.st_uid == geteuid() && found.st_size >= 0 &&
              (uint64_t)found.st_size >= size && read(fd, start, sizeof start) == sizeof start &&
              memcmp(start, START, sizeof start) == 0;
  close(fd);
  return good;
}

/* What was written tells of ages in words that are right for a while. */
static bool is_time(struct note_bytes *facts) {
  uint64_t from = note_u64(facts), until = note_u64(facts);
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)(now.tv_nsec / 1000000);
  return !facts->bad && from <= ms && ms < until;
}

static bool fact_holds(uint8_t kind, struct note_bytes *facts, int root) {
  switch (kind) {
    case 'c': return same_content(facts, root);
    case 'l': return same_link(facts, root);
    case 's': return same_stored(facts, root);
    case 'q': return is_database(facts, root);
    case 'f': return same_file(facts);
    case 'a': return is_absent(facts);
    case 'u': return is_time(facts);
    case 't': return tree_is_unchanged(facts);
    default: return false;
  }
}

bool facts_hold(struct note_bytes *facts, int root) {
  uint8_t kind;
  while ((kind = note_u8(facts)) != 'o') {
    if (facts->bad || !fact_holds(kind, facts, root) || facts->bad) return false;
  }
  return true;
}

bool note_holds(struct note_bytes *facts, int root) {
  uint32_t boot_size, generation_size;
  const unsigned char *boot = note_block(facts, &boot_size);
  if (!has_content(AT_FDCWD, "/proc/sys/kernel/random/boot_id", boot, boot_size)) return false;
  const unsigned char *generation = note_block(facts, &generation_size);
  if (!has_content(root, "generation", generation, generation_size)) return false;
  /* Again: had anything been taken out of the store meanwhile, it would be another one. */
  return facts_hold(facts, root) && has_content(root, "generation", generation, generation_size);
}
