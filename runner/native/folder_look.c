/*
 * Looks at many files of one folder: FileLooks of core/file-looks.ts.
 *
 * Orders: text folder, on the host, then until the end of the stream one of
 *   'l' texts folders: lists each. The answer holds per folder either u8 0, where it could not be read or something in it not be looked
 *       at, or u8 1, u32 count, and per name, in the order of the names' bytes: a row, text name, for a symlink text target.
 *   'h' u32 count, then per file text path, u64 size: reads each, and at most a byte more than that. The answer holds per file either
 *       u8 0, where it could not be read, or u8 1, the row of what lies there after it was read, and the 32 bytes of its SHA-256.
 * An answer is bytes (wire.h). Paths are relative to the folder, '' is the folder itself.
 *
 * A row: u64 device, inode, size, mtime and ctime in nanoseconds since 1970, mode, device number, number of links.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands.h"
#include "failure.h"
#include "sha256.h"
#include "tree_path.h"
#include "wire.h"

#define ROW_FIELDS 8
#define READERS 2
#define CHUNK ((size_t)128 * 1024)
#define NANOSECONDS 1000000000

static void put_row(struct wire_out *out, const struct stat *status) {
  const struct timespec *modified = &status->st_mtim, *changed = &status->st_ctim;
  const uint64_t fields[ROW_FIELDS] = {
      status->st_dev,
      status->st_ino,
      (uint64_t)status->st_size,
      (uint64_t)modified->tv_sec * NANOSECONDS + (uint64_t)modified->tv_nsec,
      (uint64_t)changed->tv_sec * NANOSECONDS + (uint64_t)changed->tv_nsec,
      status->st_mode,
      status->st_rdev,
      status->st_nlink,
  };
  for (int i = 0; i < ROW_FIELDS; i++) wire_put_u64(out, fields[i]);
}

struct names {
  char **all;
  size_t count, capacity;
};

static void add_name(struct names *names, const char *name) {
  if (names->count == names->capacity) {
    names->capacity = names->capacity == 0 ? 64 : names->capacity * 2;
    names->all = wire_grow(names->all, names->capacity * sizeof *names->all);
  }
  char *copy = strdup(name);
  if (copy == NULL) fail(ENOMEM, "out-of-memory", NULL, "cannot allocate a name");
  names->all[names->count++] = copy;
}

static int by_bytes(const void *left, const void *right) {
  return strcmp(*(char *const *)left, *(char *const *)right);
}

static bool read_names(int folder, struct names *names) {
  DIR *stream = fdopendir(folder);
  if (stream == NULL) {
    close(folder);
    return false;
  }
  struct dirent *entry;
  while ((errno = 0, entry = readdir(stream)) != NULL) {
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) add_name(names, entry->d_name);
  }
  bool whole = errno == 0;
  if (whole && names->count > 0) qsort(names->all, names->count, sizeof *names->all, by_bytes);
  closedir(stream);
  return whole;
}

/* False where the name is there and cannot be looked at; one that has gone is left out. */
static bool put_name(struct wire_out *out, int folder, const char *name, uint32_t *count) {
  struct stat status;
  if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) < 0) return errno == ENOENT;
  char target[PATH_MAX];
  ssize_t size = 0;
  if (S_ISLNK(status.st_mode)) {
    size = readlinkat(folder, name, target, sizeof target);
    if (size < 0) return errno == ENOENT;
  }
  put_row(out, &status);
  wire_put_text(out, name);
  if (S_ISLNK(status.st_mode)) wire_put_bytes(out, target, (uint32_t)size);
  (*count)++;
  return true;
}

static bool list_opened(struct wire_out *out, int folder, const struct names *names) {
  uint32_t count = 0;
  struct wire_out listed;
  wire_out_init(&listed, -1);
  bool whole = true;
  for (size_t i = 0; whole && i < names->count; i++) whole = put_name(&listed, folder, names->all[i], &count);
  if (whole) {
    wire_put_u8(out, 1);
    wire_put_u32(out, count);
    wire_put_encoded(out, listed.buffer, listed.length);
  }
  free(listed.buffer);
  return whole;
}

static void list(struct wire_out *out, int root, const char *path) {
  int folder = openat(root, path[0] == 0 ? "." : path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  int read = folder < 0 ? -1 : dup(folder);
  struct names names = {0};
  if (read < 0 || !read_names(read, &names) || !list_opened(out, folder, &names)) wire_put_u8(out, 0);
  for (size_t i = 0; i < names.count; i++) free(names.all[i]);
  free(names.all);
  if (folder >= 0) close(folder);
}

static void list_all(struct wire_out *out, int root, struct wire_in *in) {
  uint32_t count;
  char **folders = wire_texts(in, &count);
  for (uint32_t i = 0; i < count; i++) {
    list(out, root, folders[i]);
    free(folders[i]);
  }
  free(folders);
}

struct file {
  char *path;
  uint64_t size;
  bool read;
  struct stat after;
  unsigned char digest[SHA256_BYTES];
};

struct batch {
  int root;
  struct file *files;
  uint32_t count;
  uint32_t next; /* the first that no reader has taken */
};

/* The folder that the last file lay in: most lie in the same. */
struct near {
  char *path;
  size_t length;
  int fd;
};

static int folder_of(int root, const char *path, struct near *near) {
  const char *slash = strrchr(path, '/');
  if (slash == NULL) return root;
  size_t length = (size_t)(slash - path);
  if (near->fd >= 0 && near->length == length && memcmp(near->path, path, length) == 0) return near->fd;
  if (near->fd >= 0) close(near->fd);
  free(near->path);
  near->path = strndup(path, length);
  near->length = length;
  near->fd = near->path == NULL ? -1 : openat(root, near->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
  return near->fd;
}

static bool hash_content(int fd, uint64_t size, unsigned char *chunk, unsigned char *digest) {
  struct sha256 hash;
  sha256_begin(&hash);
  for (uint64_t left = size + 1; left > 0;) {
    ssize_t got = read(fd, chunk, left < CHUNK ? (size_t)left : CHUNK);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return false;
    if (got == 0) break;
    sha256_add(&hash, chunk, (size_t)got);
    left -= (uint64_t)got;
  }
  sha256_end(&hash, digest);
  return true;
}

/* A symlink or a pipe that took the file's place is refused, and nobody waits for a writer. */
static bool read_file(struct file *file, int folder, unsigned char *chunk) {
  const char *slash = strrchr(file->path, '/');
  const char *name = slash == NULL ? file->path : slash + 1;
  if (folder < 0) return false;
  int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) return false;
  bool read = hash_content(fd, file->size, chunk, file->digest);
  close(fd);
  return read && fstatat(folder, name, &file->after, AT_SYMLINK_NOFOLLOW) == 0;
}

static void *read_files(void *argument) {
  struct batch *batch = argument;
  struct near near = {.fd = -1};
  unsigned char *chunk = malloc(CHUNK);
  while (chunk != NULL) {
    uint32_t at = __atomic_fetch_add(&batch->next, 1, __ATOMIC_RELAXED);
    if (at >= batch->count) break;
    struct file *file = &batch->files[at];
    file->read = read_file(file, folder_of(batch->root, file->path, &near), chunk);
  }
  free(chunk);
  if (near.fd >= 0) close(near.fd);
  free(near.path);
  return NULL;
}

static void read_batch(struct batch *batch) {
  pthread_t others[READERS - 1];
  int started = 0;
  while (started < READERS - 1 && pthread_create(&others[started], NULL, read_files, batch) == 0) started++;
  read_files(batch);
  for (int i = 0; i < started; i++) pthread_join(others[i], NULL);
}

static void hash_all(struct wire_out *out, int root, struct wire_in *in) {
  struct batch batch = {.root = root, .count = wire_u32(in)};
  batch.files = wire_allocate(batch.count * sizeof *batch.files);
  for (uint32_t i = 0; i < batch.count; i++) {
    batch.files[i].path = wire_text(in);
    batch.files[i].size = wire_u64(in);
  }
  read_batch(&batch);
  for (uint32_t i = 0; i < batch.count; i++) {
    struct file *file = &batch.files[i];
    wire_put_u8(out, file->read ? 1 : 0);
    if (file->read) {
      put_row(out, &file->after);
      wire_put_encoded(out, file->digest, sizeof file->digest);
    }
    free(file->path);
  }
  free(batch.files);
}

int folder_look_main(int argc, char **argv) {
  (void)argc;
  (void)argv;
  struct wire_in in;
  wire_in_init(&in, STDIN_FILENO);
  char *folder = wire_text(&in);
  int root = host_open_folder(folder, O_PATH);
  if (root < 0) tree_fail(folder, "cannot open the folder");
  struct wire_out out, answer;
  wire_out_init(&out, STDOUT_FILENO);
  wire_out_init(&answer, -1);
  while (!wire_ended(&in)) {
    uint8_t order = wire_u8(&in);
    answer.length = 0;
    if (order == 'l') list_all(&answer, root, &in);
    else if (order == 'h') hash_all(&answer, root, &in);
    else fail(0, "protocol", folder, "an unknown order");
    wire_put_bytes(&out, answer.buffer, (uint32_t)answer.length);
    wire_flush(&out);
  }
  free(answer.buffer);
  free(folder);
  return 0;
}
